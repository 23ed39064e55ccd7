"""explain() and Attribution: tiles -> tape -> targets -> methods, maps put back in place."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from . import NOTICE, __version__
from .attribution.lime import lime, mean_fill, paint
from .attribution.methods import Method, method
from .attribution.superpixels import superpixels as cut
from .attribution.tape import TapeCache
from .errors import InputError
from .models.layers import Layer, default_layer, find, first_tensor, grids
from .prediction import Prediction, lay_out, predict
from .preparation import Prepared, prepare
from .progress import Progress, portion, silent
from .regions import foreground, spread
from .targets import ClassScore, Score, Target, resolve
from .tiling import Stitcher, tile
from .volume import Label, Labels, Volume, label_colors, resample, spacing

if TYPE_CHECKING:
    import torch

    from .models.loading import Model

SUPERPIXELS = {"slices": 50, "whole": 150, "windows": 150}
"""Default number of superpixels of a slice, of supervoxels of a volume."""
SAMPLES_PER_SUPERPIXEL = 10
LEAST_SAMPLES = 200
QUERY_BATCH = 8


@dataclass(frozen=True, eq=False)
class Attribution:
    """One map: how each place changed one score of the network.

    :ivar volume: raw float32 values on the map's own grid (the feature cells, or the network's input).
    :ivar target: name of what is explained: a class, or a target's own name such as ``liver-T0.3``.
    :ivar label: the class whose score is explained.
    :ivar signed: whether negative values mean evidence against; otherwise every value is >= 0.
    :ivar superpixels: query methods: their features as labels on the network's grid.
    :ivar coefficients: the surrogate's coefficient of each superpixel value.
    :ivar provenance: model, weights, layer, parameters, seed, evaluations, seconds, version: plain JSON values.
    :ivar limits: what limits belief in this map, one sentence each.
    """

    volume: Volume
    method: str
    target: str
    label: str
    layer: str = ""
    signed: bool = False
    superpixels: Labels | None = None
    coefficients: dict[int, float] = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)
    limits: tuple[str, ...] = ()

    def on(self, volume: Volume) -> Volume:
        """The map on the grid of ``volume`` (linear, 0 outside what the network saw), float32."""
        return resample(self.volume, volume.affine, volume.shape)

    @property
    def mass(self) -> Volume:
        """How much of the explanation each voxel holds: what regions and shares are measured by.

        A map is its own mass; for superpixels see :func:`MedXAILib.regions.spread`.
        """
        return self.volume if self.superpixels is None else spread(self.volume, self.superpixels)


def explain(
    model: Model,
    inputs: Volume | dict[str, Volume] | Prepared,
    targets: Sequence[Target] = (ClassScore(),),
    methods: Sequence[str] = ("gradcam",),
    layers: Sequence[str] = (),
    *,
    slices: str | None = None,
    samples: int | None = None,
    superpixels: int | None = None,
    seed: int = 0,
    prediction: Prediction | None = None,
    tapes: TapeCache | None = None,
    progress: Progress = silent,
) -> list[Attribution]:
    """Explain one case.

    :param inputs: a volume, one for each of the card's named inputs, or what :func:`prepare` gave.
    :param targets: by default the predicted class.
    :param methods: names of the registry.
    :param layers: for methods that need one; by default the card's, else :func:`default_layer`'s choice.
    :param slices: slice-wise models: ``all``, ``top:N`` (by the target's score) or ``a:b`` (0-based, b excluded);
        by default all for tape methods and top:1 for query methods.
    :param samples: query methods: perturbed inputs; by default 10 for each superpixel.
    :param superpixels: about how many; by default 50 in a slice, 150 in a volume.
    :param prediction, tapes: of this case, where they are at hand.
    :returns: one map for each target, method and layer, in this order.
    :raises InputError: for unknown methods, layers, classes, or slices.
    """
    wanted = [method(name) for name in methods]
    prepared = inputs if isinstance(inputs, Prepared) else prepare(model.card, inputs)
    tiling, found = lay_out(model, prepared)
    if slices and tiling.mode != "slices":
        raise InputError(
            f"--slices {slices}: {model.card.name} sees the volume, not its slices; leave this option out."
        )
    chosen = choose_layers(model, found, layers)[0] if any(m.kind == "tape" for m in wanted) else []
    tapes = tapes or TapeCache(model.network, [layer.name for layer in chosen])
    stages = 1 + len(wanted)
    prediction = prediction or predict(model, prepared, tapes=tapes, progress=portion(progress, 0, stages))
    scores = [resolve(target, prediction) for target in targets]
    last = next((layer.name for layer in reversed(grids(found))), "")
    case = _Case(model, prepared, prediction, tapes, last, slices, seed)
    maps = {}
    for number, m in enumerate(wanted, 1):
        report = portion(progress, number, stages)
        if m.kind == "tape":
            for n, score in enumerate(scores):
                for a in tape_maps(case, m, score, chosen, portion(report, n, len(scores))):
                    maps[n, m.name, a.layer] = a
        else:
            for n, a in enumerate(query_maps(case, m, scores, samples, superpixels, report)):
                maps[n, m.name, ""] = a
    return [maps[key] for key in sorted(maps, key=lambda key: (key[0], list(methods).index(key[1])))]


@dataclass(frozen=True, eq=False)
class _Case:
    """What every method of one case shares."""

    model: Model
    prepared: Prepared
    prediction: Prediction
    tapes: TapeCache
    last_layer: str
    slices: str | None
    seed: int


def choose_layers(model: Model, found: Sequence[Layer], asked: Sequence[str]) -> tuple[list[Layer], str]:
    """The layers to explain, and why these: those asked for, else the card's, else the default rule's.

    :raises InputError: for an unknown layer, with near names, or a network that has none.
    """
    names, why = list(asked) or model.card.layers, "as asked" if asked else "the model card's"
    if not names:
        if not found:
            raise InputError(
                f"{model.card.name}: this program shows no layers (TorchScript takes no hooks): choose lime, or export the "
                "network as a state dict with a card."
            )
        name, why = default_layer(found)
        names = [name]
    return [find(found, name) for name in dict.fromkeys(names)], why


def choose_slices(spec: str, score: Score, prediction: Prediction) -> list[int]:
    """Slice numbers (0-based in the file's array) meant by ``all``, ``top:N`` or ``a:b``.

    :raises InputError: for any other text or an empty range.
    """
    count = prediction.prepared.shape[0]
    if spec == "all":
        return list(range(count))
    if found := re.fullmatch(r"top:(\d+)", spec):
        strength = prediction.pieces[:, score.index] if score.weights.ndim == 1 else score.weights.sum((1, 2))
        return sorted(int(n) for n in np.argsort(-strength, kind="stable")[: int(found[1])])
    if found := re.fullmatch(r"(\d+):(\d+)", spec):
        chosen = list(range(int(found[1]), min(int(found[2]), count)))
        if chosen:
            return chosen
    raise InputError(f"--slices {spec}: give all, top:N or a:b within 0:{count}.")


def tape_maps(case: _Case, m: Method, score: Score, layers: Sequence[Layer], progress: Progress) -> list[Attribution]:
    """The maps of one tape method and target, for every layer.

    Statistics are summed over all tiles first where the score is one for the whole input; slices have their own.
    """
    began, pieces = time.perf_counter(), 0
    tiling = case.prediction.tiling
    kept = set(choose_slices(case.slices or "all", score, case.prediction)) if tiling.mode == "slices" else None
    statistics: dict = {}
    stitchers = {
        layer.name: Stitcher(tiling, layer.shape[1:], layer.cells.stride, layer.cells.offset) for layer in layers
    }

    def sweep(text: str):
        for number, (t, x) in enumerate(tiling.pieces(case.prepared.tensor[None])):
            progress(number, len(tiling.tiles), text)
            if kept is not None and not kept.intersection(t.at):
                continue
            case.tapes.progress = portion(progress, number, len(tiling.tiles))
            yield number, t, _gradients(case, number, t, x, score)

    for number, t, (tape, gradients) in sweep(m.title):
        pieces += len(tape.output)
        for layer in layers:
            sums = m.gather(tape.activations[layer.name], gradients[layer.name])
            key = (layer.name, number) if tiling.mode == "slices" else layer.name
            statistics[key] = statistics[key] + sums if key in statistics else sums
        if len(tiling.tiles) == 1 or tiling.mode == "slices":
            _add_maps(m, stitchers, tiling.mode, layers, number, t, tape, gradients, statistics)
    if len(tiling.tiles) > 1 and tiling.mode != "slices":
        for number, t, (tape, gradients) in sweep(f"{m.title}, maps"):
            _add_maps(m, stitchers, tiling.mode, layers, number, t, tape, gradients, statistics)
    # forward passes that the prediction and other maps of this case shared count too: it is what one map needs
    spent = {"evaluations": pieces, "seconds": round(time.perf_counter() - began, 3)}
    return [_tape_attribution(case, m, score, layer, stitchers[layer.name], kept, spent) for layer in layers]


def _gradients(case: _Case, number: int, t, x: torch.Tensor, score: Score):
    """Tape and gradients of one tile; where the target has no part in the tile they are zero without a pass backwards."""
    import torch

    tape = case.tapes.tape(t, x.to(case.model.device))
    weights = score.at(number, t, case.prediction.voxels)
    if not weights.any():
        return tape, {name: torch.zeros_like(a) for name, a in tape.activations.items()}
    return tape, tape.gradients(lambda output: score.of(output, torch.from_numpy(weights).to(output)))


def _add_maps(m, stitchers, mode, layers, number, t, tape, gradients, statistics) -> None:
    for layer in layers:
        stitcher = stitchers[layer.name]
        cells = np.prod(stitcher.shape[1:] if mode == "slices" else stitcher.shape)
        key = (layer.name, number) if mode == "slices" else layer.name
        values = m.map(tape.activations[layer.name], gradients[layer.name], statistics[key] / float(cells))
        stitcher.add(t, values.detach().float().cpu().numpy())


def _tape_attribution(
    case: _Case, m: Method, score: Score, layer: Layer, stitcher: Stitcher, kept: set | None, spent: dict
) -> Attribution:
    values = stitcher.sum if stitcher.sum is not None else np.zeros(stitcher.shape, np.float32)
    if not m.signed:
        values = np.maximum(values, 0)
    if kept is not None:
        values[[n for n in range(len(values)) if n not in kept]] = 0
    affine = stitcher.affine(case.prepared.affine)
    cell = " x ".join(f"{c:.3g}" for c in spacing(affine))
    limits = [f"Cells of {cell} mm: nothing finer is meant."]
    if not layer.cells.exact:
        limits.append(
            "The place of the cells is assumed (an operator of this network hides it): it may be off by a cell."
        )
    if case.model.card.task == "segmentation" and layer.name == case.last_layer:
        limits.append("This is the last layer before the head: the map nearly repeats the segmentation.")
    limits += _common_limits(score, values, kept, case)
    provenance = _provenance(case, m, score, kept) | {
        "layer": layer.name,
        "cell_mm": [round(float(c), 6) for c in spacing(affine)],
        "cell_stride_voxels": list(layer.cells.stride),
        "cell_offset_voxels": list(layer.cells.offset),
        "receptive_field_voxels": list(layer.cells.field),
        **spent,
    }
    volume = case.prepared.volume(values, affine)
    return Attribution(
        volume, m.name, score.name, score.label, layer.name, m.signed, None, {}, provenance, tuple(limits)
    )


def _common_limits(score: Score, values: np.ndarray, kept: set | None, case: _Case) -> list[str]:
    limits = list(score.remarks)
    if not score.empty and not values.any():
        limits.append(f"The map is empty: nothing here raises the score of {score.label}.")
    if kept is not None and len(kept) < case.prepared.shape[0]:
        limits.append(f"Slices explained: {_ranges(sorted(kept))}; the others are 0.")
    output = case.model.card.output
    if kept is not None and len(kept) == 1 and case.model.card.task == "classification" and output.exclusive:
        row = case.prediction.pieces[min(kept)]
        if row.argmax() != score.index:
            best = output.labels[int(row.argmax())].name
            limits.append(
                f"In this slice the model says {best} (p {row.max():.3f}), not {score.label} (p {row[score.index]:.3f})."
            )
    return limits


def _ranges(numbers: list[int]) -> str:
    """0-3, 7 for [0, 1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)


def _provenance(case: _Case, m: Method, score: Score, kept: set | None) -> dict:
    card = case.model.card
    return {
        "notice": f"{NOTICE}. Shows influence on the model, not pathology.",
        "medxai": __version__,
        "model": card.name,
        "weights_sha256": case.model.weights_sha256,
        "method": m.name,
        "method_reference": m.reference,
        "target": score.name,
        "class": score.label,
        "score": "logit",
        "signed": m.signed,
        "normalisation": "none: raw values",
        "input": case.prepared.reference.source.name,
        "device": str(case.model.device),
        "fact": _fact(case, score, kept),
    } | ({} if kept is None else {"slices": _ranges(sorted(kept))})


def _fact(case: _Case, score: Score, kept: set | None) -> str:
    """What the model says of the very thing that is explained: a probability, or the size of a region."""
    prediction = case.prediction
    if case.model.card.task == "classification":
        if kept is None or len(prediction.pieces) == 1:
            return f"p {prediction.probabilities[score.label]:.3f}"
        strongest = max(prediction.pieces[n, score.index] for n in kept)
        return f"slice {_ranges(sorted(kept))}: p {strongest:.3f}" if len(kept) == 1 else f"highest p {strongest:.3f}"
    if score.weights.sum() == 1:
        return f"p {float(prediction.probability(score.index)[score.weights > 0][0]):.3f}"
    if score.name == score.label:
        return f"{prediction.labels.ml().get(score.label, 0):.1f} mL"
    return f"{float((score.weights > 0).sum() * case.prepared.volume(score.weights).voxel_ml):.1f} mL"


def query_maps(
    case: _Case, m: Method, scores: Sequence[Score], samples: int | None, superpixels: int | None, progress: Progress
) -> list[Attribution]:
    """LIME: for all targets from the same perturbed inputs; slice by slice for slice-wise models."""
    prepared, tiling = case.prepared, case.prediction.tiling
    shape = prepared.shape
    kept = [
        set(choose_slices(case.slices or "top:1", s, case.prediction)) if tiling.mode == "slices" else None
        for s in scores
    ]
    groups = (
        [(slice(None), None)] if tiling.mode != "slices" else [(slice(n, n + 1), n) for n in sorted(set().union(*kept))]
    )
    results = [_Painted(np.zeros(shape, np.float32), np.zeros(shape, np.int32), {}, []) for _ in scores]
    began, evaluations = time.perf_counter(), 0
    for number, (where, slice_number) in enumerate(groups):
        members = [n for n, k in enumerate(kept) if k is None or slice_number in k]
        surrogate, segments = _lime(
            case, where, [scores[n] for n in members], samples, superpixels, portion(progress, number, len(groups))
        )
        evaluations += surrogate.evaluations
        for row, n in enumerate(members):
            results[n].add(where, segments, surrogate.coefficients[row])
            text = "" if slice_number is None else f"Slice {slice_number}: "
            results[n].limits.extend(text + sentence for sentence in surrogate.limits(row))
    spent = {
        "evaluations": evaluations,
        "seconds": round(time.perf_counter() - began, 3),
        "parameters": {
            "samples": samples or f"{SAMPLES_PER_SUPERPIXEL} for each superpixel, at least {LEAST_SAMPLES}",
            "superpixels": superpixels or SUPERPIXELS[tiling.mode],
            "fill": "mean of the tissue; in the background, of the background",
            "kernel_width": 0.25,
            "seed": case.seed,
        },
    }
    return [
        _query_attribution(case, m, score, painted, k, spent)
        for score, painted, k in zip(scores, results, kept, strict=True)
    ]


@dataclass(eq=False)
class _Painted:
    """A map and its superpixels as slices are added; superpixel values run on from slice to slice."""

    values: np.ndarray
    labels: np.ndarray
    coefficients: dict[int, float]
    limits: list[str]

    def add(self, where: slice, segments: np.ndarray, coefficients: np.ndarray) -> None:
        first = len(self.coefficients) + 1
        self.values[where] = paint(coefficients, segments)
        self.labels[where] = segments + first
        self.coefficients.update({first + n: float(c) for n, c in enumerate(coefficients)})


def _lime(case: _Case, where: slice, scores: Sequence[Score], samples, count, progress: Progress):
    """The surrogate of one slice or of the whole, with its superpixels (d0, d1, d2)."""
    import torch

    x = case.prepared.tensor[:, where]
    inside = foreground(np.moveaxis(x.numpy(), 0, -1))
    tiling = case.prediction.tiling
    if tiling.mode == "slices":
        tiling = tile(case.model.card.spatial, tuple(x.shape[1:]), at_once=tiling.at_once)
    segments = cut(x.numpy(), spacing(case.prepared.affine), inside, count or SUPERPIXELS[tiling.mode])
    n = int(segments.max()) + 1
    weights = _query_weights(case, where, scores)

    def score(batch: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(batch), len(scores))
        with torch.inference_mode():
            for number, (_, piece) in enumerate(tiling.pieces(batch)):
                output = first_output(case.model, piece)
                for row, s in enumerate(scores):
                    w = weights[row][number]
                    if w.any():
                        total[:, row] += s.of(output, torch.from_numpy(w).to(output)).float().cpu()
        return total

    surrogate = lime(
        x,
        score,
        segments,
        samples=samples or default_samples(n),
        seed=case.seed,
        batch=min(QUERY_BATCH, tiling.at_once),
        fill=mean_fill(x, torch.from_numpy(inside)),
        progress=progress,
    )
    return surrogate, segments


def default_samples(superpixels: int) -> int:
    """How many perturbed inputs so many superpixels want: the folk rule of 10 for each."""
    return max(SAMPLES_PER_SUPERPIXEL * superpixels, LEAST_SAMPLES)


def _query_weights(case: _Case, where: slice, scores: Sequence[Score]) -> list[list[np.ndarray]]:
    """For each score, the weights of each tile, computed once for all samples."""
    prediction = case.prediction
    voxels = prediction.voxels
    if prediction.tiling.mode == "slices":
        return [[s.weights[where]] for s in scores]
    return [[s.at(n, t, voxels) for n, t in enumerate(prediction.tiling.tiles)] for s in scores]


def first_output(model: Model, x: torch.Tensor) -> torch.Tensor:
    """The network's output without a tape."""
    return first_tensor(model.network(x.to(model.device)))


def _query_attribution(
    case: _Case, m: Method, score: Score, painted: _Painted, kept: set | None, spent: dict
) -> Attribution:
    prepared = case.prepared
    colors = label_colors(len(painted.coefficients))
    rows = tuple(Label(value, f"superpixel {value}", colors[value - 1]) for value in painted.coefficients)
    limits = painted.limits + _common_limits(score, painted.values, kept, case)
    return Attribution(
        prepared.volume(painted.values),
        m.name,
        score.name,
        score.label,
        "",
        m.signed,
        Labels(prepared.volume(painted.labels), rows),
        painted.coefficients,
        _provenance(case, m, score, kept) | spent,
        tuple(limits),
    )
