"""Bring your own network: its card checked on a file, its inputs measured, its layers listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..geometry.affine import spacing
from ..models.card import read_card
from ..models.layers import grids, inspect, stages
from ..outputs.earlier import find_cases, read_volume
from ..outputs.pictures.snapshot import snapshot
from ..prediction import lay_out
from ..preprocessing.prepare import Prepared, prepare
from ..preprocessing.suitability import measure
from ..progress import Progress, silent
from ..session.plan import choose_layers
from .case import opened, run_case
from .checking import model_of, refuse_overwriting
from .faults import about
from .job import Job, Messages


def check_card(job: Job, picture: Path, progress: Progress = silent) -> list[str]:
    """Run a card on one file and draw the preprocessed input; gives the prediction in lines.

    :raises InputError: for whatever does not fit: card, weights, file.
    """
    refuse_overwriting(job.paths(), [picture])
    model = model_of(job)
    path = next(iter(job.inputs.values()))
    volume = read_volume(path, frame=job.frame, series=job.series)
    say = Messages()
    maps = run_case(opened(model, {"": volume}), None, progress, say)
    prepared, prediction = maps.session.prepared, maps.prediction
    x = prepared.tensor.numpy()
    seen = prepared.volume(x[0] if len(x) == 1 else x.transpose(1, 2, 3, 0))
    heading = f"{model.card.name} · {volume.source.name} as the network sees it"
    snapshot(seen, [], picture, heading=heading, caveats=[c.text for c in prediction.caveats])
    told = volume.unit and f", spacing {' x '.join(f'{s:.3g}' for s in spacing(prepared.affine))} {volume.unit}"
    return [
        f"{model.card.name}: {model.card.task}, {model.card.spatial.mode}, weights sha256 {model.weights_sha256[:12]}",
        f"input: {' x '.join(map(str, x.shape))} (channel, then the network's axes), values {x.min():.3g} to {x.max():.3g}, mean {x.mean():.3g}{told}",
        *prediction.lines,
        *say.lines,
    ]


def expect(card: Path, folder: Path, progress: Progress = silent) -> dict[str, Any]:
    """The content of a card with ``input.expected`` measured on a folder of examples of what its network knows.

    :raises InputError: for a card or an example that cannot be used, or too few examples.
    """
    known, cases = read_card(card), find_cases(folder)

    def examples() -> Iterator[Prepared]:
        for number, case in enumerate(cases):
            progress(number, len(cases), "Measuring the examples")
            with about(case.name):
                yield prepare(known, read_volume(case.path))

    expected = measure(known, examples()).model_dump(mode="json", exclude_defaults=True)
    content: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
    return content | {"input": content.get("input", {}) | {"expected": expected}}


def list_layers(job: Job) -> list[str]:
    """The feature grids of a model, in lines: name, kind, shape, and cells in voxels of the network's input.

    :raises InputError: for whatever does not fit: card, weights, file.
    """
    model = model_of(job)
    card = model.card
    if job.inputs:
        found = lay_out(model, prepare(card, read_volume(job.inputs[""], frame=job.frame, series=job.series)))[1].layers
    else:
        size = card.input.size or getattr(card.spatial, "size", None) or (64,) * card.spatial.dimensions
        channels = 3 if card.input.color == "rgb" else len(card.input.channels)
        found = tuple(inspect(model.network, (1, channels, *size)))
    (chosen, *_), why = choose_layers(model, found)
    steps = {layer.name for layer in stages(found)}
    lines = [f"{'layer':44} {'kind':22} {'channels':>8}  {'cells':14} {'stride':12} receptive field"]
    for layer in grids(found):
        mark = "*" if layer.name == chosen.name else "|" if layer.name in steps else " "
        field = "x".join(f"{n:.0f}" for n in layer.grid_cells.field)
        stride = "x".join(f"{n:g}" for n in layer.grid_cells.stride)
        cells = "x".join(map(str, layer.shape[1:]))
        lines.append(f"{mark} {layer.name:42} {layer.kind:22} {layer.shape[0]:8}  {cells:14} {stride:12} {field}")
    return [
        *lines,
        f"* explained by default: {chosen.name}, {why}. | stages of layer-wise Grad-CAM. Cells in voxels of the network's input.",
    ]
