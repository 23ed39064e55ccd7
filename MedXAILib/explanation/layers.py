"""Maps of layers: tape methods over all tiles, several methods, classes and layers from the same tapes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..attribution.cam import Feature, combine
from ..attribution.methods import LayerMethod
from ..attribution.tape import glimpse, replay, wide
from ..errors import InputError
from ..models.bare import ARRAY
from ..models.card import FROM_FILE
from ..models.layers import Layer, as_grid, last_decoder
from ..prediction import feed
from ..progress import Progress, portion
from ..targets import Score
from ..tiling import Stitcher, Tile
from ..volume import spacing
from .case import Attribution, Case, common_limits, provenance

if TYPE_CHECKING:
    import torch

    from ..attribution.tape import Tape


@dataclass(eq=False)
class _Map:
    """One map in the making.

    :ivar statistics: of the tiles seen so far; of slices, those of the running tile.
    :ivar unused: a sentence where the output does not depend on the layer.
    """

    method: LayerMethod
    score: Score
    layer: Layer
    stitcher: Stitcher
    kept: set[int] | None
    statistics: list
    linear: float = 0.0
    seconds: float = 0.0
    unused: str = ""


def layer_maps(
    case: Case, wanted: Sequence[tuple[LayerMethod, Sequence[Layer]]], scores: Sequence[Score], progress: Progress
) -> Iterator[tuple[int, Attribution]]:
    """(number of the score, map) of every method, layer and score, in the order in which they were asked for.

    Each tile is recorded once for everything that is asked of it. Where there is one tile, or slices, which have scores of
    their own, maps follow from their own statistics at once. Over windows, statistics are gathered over all of them first:
    another pass for each ``gather``, since keeping every window's activations would take memory that grows with the volume.
    """
    maps = [
        _Map(m, score, layer, _stitcher(case, layer), _set(case.kept(score, "all")), [])
        for score in scores
        for m, layers in wanted
        for layer in layers
    ]
    tiles = len(case.tiling.tiles)
    if case.tiling.mode == "windows" and tiles > 1:
        rounds = 1 + max(len(one.method.gathers) for one in maps)
        for number in range(rounds):
            active = [one for one in maps if len(one.method.gathers) >= number]
            # with its statistics at hand, a map needs activations alone
            light = all(number == len(one.method.gathers) > 0 for one in active)
            sweep(case, active, portion(progress, number, rounds), partial(step, number=number), light)
    else:
        sweep(case, maps, progress, at_once)
    for one in maps:
        again = 1 + len(one.method.gathers) if case.tiling.mode == "windows" and tiles > 1 else 1
        passes = case.prepared.shape[0] if case.tiling.mode == "slices" else tiles * again
        yield scores.index(one.score), _attribution(case, one, passes)


def check_pooled(case: Case, m: LayerMethod, layers: Sequence[Layer]) -> None:
    """:raises InputError: where a method needs pooling and one linear layer behind each layer, and there is more."""
    if not m.pooled:
        return
    t, x = next(iter(case.tiling.pieces(case.prepared.tensor[None])))
    tape = case.tapes.tape(t, feed(case.model, x))
    for layer in layers:
        if tape.pooled(layer.name) is None:
            raise InputError(
                f"{m.title} needs features that are pooled and classified by one linear layer, and those of {layer.name} "
                "are not; choose gradcam, which equals it where it applies, or another --layer."
            )


def _stitcher(case: Case, layer: Layer) -> Stitcher:
    return Stitcher(case.tiling, layer.shape[1:], layer.cells.stride, layer.cells.offset)


def _set(numbers: list[int] | None) -> set[int] | None:
    return None if numbers is None else set(numbers)


def sweep(case: Case, maps: Sequence[_Map], progress: Progress, do: Callable, light: bool = False) -> None:
    """``do(map, feature, tile)`` for every tile that the map's target may lie in.

    :param light: no gradients will be asked for.
    """
    tiling = case.tiling
    for number, (t, x) in enumerate(tiling.pieces(case.prepared.tensor[None])):
        progress(number, len(tiling.tiles), "Attribution")
        some = [one for one in maps if one.kept is None or one.kept.intersection(t.at)]
        if not some:
            continue
        case.tapes.progress = report = portion(progress, number, len(tiling.tiles))
        piece = feed(case.model, x)
        if light:
            tape = glimpse(case.model.network, piece, [one.layer.name for one in some], report, case.seed)
        else:
            tape = case.tapes.tape(t, piece)
        passes: dict = {}  # one pass backwards serves all layers and methods of a score; then its gradients go
        for before, one in zip([None, *some], some, strict=False):
            if before is not None and before.score is not one.score:
                passes.clear()
            began = time.perf_counter()
            do(one, _feature(case, one, number, t, piece, tape, passes), t)
            one.seconds += time.perf_counter() - began


def at_once(one: _Map, f: Feature, t: Tile) -> None:
    """All steps of a tile that stands for itself."""
    statistics: list = []
    for gather in one.method.gathers:
        statistics.append(gather(f, *statistics))
    if one.method.stages:
        one.linear += float((f.gradient * f.activation).sum())
    one.stitcher.add(t, _numpy(one.method.map(f, *statistics)))


def step(one: _Map, f: Feature, t: Tile, number: int) -> None:
    """One of the rounds over windows: the next statistics, or the map."""
    gathers = one.method.gathers
    if number == len(gathers):
        one.stitcher.add(t, _numpy(one.method.map(f, *one.statistics)), one.method.summed)
        return
    found = gathers[number](f, *one.statistics[:number])
    if one.method.stages:
        one.linear += float((f.gradient * f.activation).sum())
    if len(one.statistics) == number:
        one.statistics.append(found)
    else:
        one.statistics[number] = combine(gathers[number], one.statistics[number], found)


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _feature(case: Case, one: _Map, number: int, t: Tile, x: torch.Tensor, tape: Tape, passes: dict) -> Feature:
    import torch

    layer, score = one.layer, one.score
    alone = one.method.alone and case.tiling.mode == "windows"
    activation = tape.activations[layer.name].detach()
    activation = activation.to(wide(activation))

    def weights() -> torch.Tensor:
        found = score.at(number, t, case.prediction.voxels, shared=not alone)
        return torch.from_numpy(np.ascontiguousarray(found)).to(tape.output)

    def backward() -> torch.Tensor:
        if alone not in passes:
            w = weights()
            passes[alone] = tape.gradients(lambda output: score.of(output, w))
        tape.check(layer.name)
        one.unused = tape.unused(layer.name)
        return as_grid(passes[alone][layer.name], layer)

    def ask(input=None, off=None) -> torch.Tensor:
        count = len(input) // len(x) if input is not None else len(off) if off is not None else 1
        if count > 1 and case.model.card.network.architecture == FROM_FILE:  # it may take no other batch
            some = [None] * count if input is None else input.chunk(count)
            return torch.cat(
                [ask(i, o) for i, o in zip(some, off and [[n] for n in off] or [None] * count, strict=True)]
            )
        given = x.repeat(count, *[1] * (x.ndim - 1)) if input is None else input
        output = replay(case.model.network, given, layer, off, case.tapes.progress, case.seed)
        w = weights()
        return score.of(output.to(wide(output)), w.repeat(count, *[1] * (w.ndim - 1))).detach()

    windows = case.tiling.mode == "windows"
    inside = torch.from_numpy(one.stitcher.inside(t)).to(activation) if windows else 1.0
    share = torch.from_numpy(one.stitcher.share(t)).to(activation) * inside if windows else 1.0
    return Feature(as_grid(activation, layer), backward, share, one.stitcher.count, ask, x, inside)


def _attribution(case: Case, one: _Map, passes: int) -> Attribution:
    m, score, layer, stitcher = one.method, one.score, one.layer, one.stitcher
    values = stitcher.sum if stitcher.sum is not None else np.zeros(stitcher.shape, np.float32)
    if not m.signed:
        values = np.maximum(values, 0)
    kept = None if one.kept is None else sorted(one.kept)
    if kept is not None and len(kept) < len(values):
        values[[n for n in range(len(values)) if n not in one.kept]] = 0
    affine = stitcher.affine(case.prepared.affine)
    cell = [float(c) for c in spacing(affine)]
    unit = "voxels" if case.prepared.reference.source.format == ARRAY else "mm"
    limits = [f"Cells of {' x '.join(f'{c:.3g}' for c in cell)} {unit}: nothing finer is meant."]
    if not layer.cells.exact:
        limits.append(
            "The place of the cells is assumed (an operator of this network hides it): it may be off by a cell."
        )
    if case.model.card.task == "segmentation" and layer.name in last_decoder(case.found):
        limits.append("This layer belongs to the last decoder block: the map nearly repeats the segmentation.")
    limits += common_limits(case, m, score, values, kept, one.unused)
    # forward passes that the prediction and other maps of this case shared count too: it is what one map needs
    facts = provenance(case, m, score, kept) | {
        "layer": layer.name,
        "cell_mm": [round(c, 6) for c in cell],
        "cell_stride_voxels": list(layer.cells.stride),
        "cell_offset_voxels": list(layer.cells.offset),
        "receptive_field_voxels": list(layer.cells.field),
        "evaluations": passes * m.evaluations(case.facts(layer.shape[0])),
        "seconds": round(one.seconds, 3),
    }
    if m.stages:
        facts["linear_score"] = one.linear
    volume = case.prepared.volume(values, affine)
    return Attribution(volume, m.name, score.name, score.label, layer.name, m.signed, None, {}, facts, tuple(limits))
