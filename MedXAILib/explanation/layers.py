"""Maps of layers: tape methods over all tiles, several methods, classes and layers from the same tapes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..attribution.cam import Feature, combine
from ..attribution.heads import averaged_share, weighs_positions
from ..attribution.methods import LayerMethod
from ..attribution.recorder import glimpse, replay, wide
from ..errors import Caveat, InputError
from ..models.card import FROM_FILE
from ..models.layers import Layer, as_grid, calls, find, inspect
from ..prediction import feed, voxel_stitcher
from ..progress import Progress, portion
from ..scoring.targets import Score
from ..tiling import Stitcher, Tile
from .case import Attribution, Case, cell_size, common_limits, provenance

if TYPE_CHECKING:
    import torch

    from ..attribution.recorder import Tape
    from ..models.inspection.cells import Cells


MOSTLY_POOLED = 0.9
"""From this share of a gradient in its mean over positions, one weight for all of them does."""


@dataclass(eq=False)
class _Map:
    """One map in the making.

    :ivar here: the layer as the running tile shows it: in a network that looks at values its cells lie elsewhere in each.
    :ivar statistics: of the tiles seen so far; of slices, those of the running tile.
    :ivar averaged: where the head weighs positions by themselves: see :func:`averaged_share`; else zeros.
    :ivar unused: a sentence where the output does not depend on the layer.
    """

    method: LayerMethod
    score: Score
    layer: Layer
    stitcher: Stitcher
    kept: set[int] | None
    statistics: list
    linear: float = 0.0
    averaged: np.ndarray = field(default_factory=lambda: np.zeros(2))
    seconds: float = 0.0
    unused: str = ""
    here: Layer | None = None

    def add(self, t: Tile, values: torch.Tensor, summed: bool = False) -> None:
        """Put one tile's map in its place."""
        laid = _numpy(self.here.arrangement.lay(values, self.method.summed))
        if self.here is not self.layer:
            laid = np.stack([_on_voxels(one, self.here.cells, self.stitcher.cells) for one in laid])
        self.stitcher.add(t, laid, summed)


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _on_voxels(values: np.ndarray, cells: Cells, size: Sequence[int]) -> np.ndarray:
    """A tile's map (*cells) on the tile's voxels, linearly; 0 where the network did not look."""
    from scipy.ndimage import affine_transform

    offset = [-o / s for s, o in zip(cells.stride, cells.offset, strict=True)]
    found = affine_transform(values, [1 / s for s in cells.stride], offset, tuple(size), order=1, mode="nearest")
    for axis, (low, high) in enumerate(cells.seen):
        index = np.arange(size[axis]).reshape([-1 if a == axis else 1 for a in range(len(size))])
        found = found * ((index >= low) & (index <= high))
    return found


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


def check_layers(case: Case, m: LayerMethod, layers: Sequence[Layer]) -> None:
    """:raises InputError: where a method needs pooling and one linear layer behind each layer, and there is more; or cells
    in rows and columns, and they are not."""
    for layer in layers:
        if m.rows and layer.arrangement.cell is not None:
            raise InputError(
                f"{m.title} pools neighbouring cells, and those of {layer.name} do not stand side by side."
            )
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
    """Puts a layer's tiles together: on its cells, or, where these lie elsewhere in each tile, on the voxels."""
    if layer.data and len(case.tiling.tiles) > 1:
        return voxel_stitcher(case.tiling)
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
            tape = glimpse(case.model.network, piece.clone(), [one.layer.name for one in some], report, case.seed)
        else:
            tape = case.tapes.tape(t, piece)
        passes: dict = {}  # one pass backwards serves all layers and methods of a score; then its gradients go
        for before, one in zip([None, *some], some, strict=False):
            if before is not None and before.score is not one.score:
                passes.clear()
            began = time.perf_counter()
            one.here = _as_seen(case, one.layer, piece)
            feature = _feature(case, one, number, t, piece, tape, passes)
            do(one, feature, t)
            if not light and _assumes_pooling(case, one, tape):
                one.averaged += averaged_share(feature.gradient)
            one.seconds += time.perf_counter() - began


def _as_seen(case: Case, layer: Layer, x: torch.Tensor) -> Layer:
    """The layer as this very input goes through it."""
    if not layer.data or len(case.tiling.tiles) == 1:
        return layer
    return find(inspect(case.model.network, x.shape, x), layer.name)


def _assumes_pooling(case: Case, one: _Map, tape: Tape) -> bool:
    """Whether a method takes a classifier's positions as pooled, and this one's head weighs each by itself."""
    if not one.method.averages or case.model.card.task != "classification":
        return False
    return weighs_positions(tape.output, tape.activations[one.layer.name])


def at_once(one: _Map, f: Feature, t: Tile) -> None:
    """All steps of a tile that stands for itself."""
    statistics: list = []
    for gather in one.method.gathers:
        statistics.append(gather(f, *statistics))
    if one.method.stages:
        one.linear += float((f.gradient * f.activation).sum())
    one.add(t, one.method.map(f, *statistics))


def step(one: _Map, f: Feature, t: Tile, number: int) -> None:
    """One of the rounds over windows: the next statistics, or the map."""
    gathers = one.method.gathers
    if number == len(gathers):
        one.add(t, one.method.map(f, *one.statistics), one.method.summed)
        return
    found = gathers[number](f, *one.statistics[:number])
    if one.method.stages:
        one.linear += float((f.gradient * f.activation).sum())
    if len(one.statistics) == number:
        one.statistics.append(found)
    else:
        one.statistics[number] = combine(gathers[number], one.statistics[number], found)


def _feature(case: Case, one: _Map, number: int, t: Tile, x: torch.Tensor, tape: Tape, passes: dict) -> Feature:
    import torch

    layer, score = one.here, one.score
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

    def answer(given: torch.Tensor, off) -> torch.Tensor:
        output = replay(case.model.network, given, layer, off, case.tapes.progress, case.seed)
        w = weights()
        return score.of(output.to(wide(output)), w.repeat(len(given) // len(x), *[1] * (w.ndim - 1))).detach()

    # (a function that calls itself would keep the tape until the garbage collector comes by)
    def ask(input=None, off=None) -> torch.Tensor:
        count = len(input) // len(x) if input is not None else len(off) if off is not None else 1
        given = x.repeat(count, *[1] * (x.ndim - 1)) if input is None else input
        if count == 1 or case.model.card.network.architecture != FROM_FILE:
            return answer(given, off)
        each = zip(given.chunk(count), off and [[n] for n in off] or [None] * count, strict=True)
        return torch.cat([answer(i, o) for i, o in each])  # a program may take no other batch

    windows = case.tiling.mode == "windows"
    share, inside = _weights(one, t) if windows else (1.0, 1.0)
    laid = as_grid(activation, layer)
    return Feature(laid, backward, share, _count(case, one), ask, x, inside, layer.arrangement.lay)


def _weights(one: _Map, t: Tile) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """Over windows: the part of each element in the whole, 0 in the padding, and whether it lies in the volume at all."""
    import torch

    if one.here is not one.layer:
        return 1 / len(one.stitcher.tiling.tiles), 1.0
    lines = (one.stitcher.share(t), one.stitcher.inside(t).astype(np.float32))
    share, inside = (one.layer.arrangement.spread(torch.from_numpy(line)) for line in lines)
    return share * inside, inside


def _count(case: Case, one: _Map) -> int:
    """Number of positions over which a mean is taken: those of the whole, of a slice where these have scores of their own."""
    elements = one.here.arrangement.used
    if case.tiling.mode != "windows":
        return elements
    if one.here is not one.layer:
        return elements * len(case.tiling.tiles)
    return round(elements * one.stitcher.count / math.prod(one.layer.arrangement.sizes))


def _attribution(case: Case, one: _Map, passes: int) -> Attribution:
    m, score, layer, stitcher = one.method, one.score, one.layer, one.stitcher
    values = stitcher.values
    lowered = not m.signed and bool((values < 0).any())
    if not m.signed:
        values = np.maximum(values, 0)
    kept = None if one.kept is None else sorted(one.kept)
    if kept is not None and len(kept) < len(values):
        values[[n for n in range(len(values)) if n not in one.kept]] = 0
    affine = stitcher.affine(case.prepared.affine)
    cell, unit = cell_size(case, affine)
    limits = [
        Caveat(
            "cells",
            f"One map cell covers {' x '.join(f'{c:.3g}' for c in cell)} {unit}. Do not interpret smaller detail.",
        )
    ]
    if layer.doubt:
        limits.append(layer.doubt)
    if not layer.cells.exact:
        limits.append(
            Caveat("place-rounded", "Some cells lie up to a cell beside their place here (uneven pooling or sampling).")
        )
    limits += _other_calls(case, layer)
    if layer.name in case.repeating:
        limits.append("This layer belongs to the last decoder block: the map nearly repeats the segmentation.")
    kept_share = one.averaged[0] / one.averaged[1] if one.averaged[1] else 1.0
    if kept_share < MOSTLY_POOLED:
        limits.append(
            Caveat(
                "pooling",
                f"{m.title} assumes that positions are pooled; this head weighs each position by itself, and their mean keeps "
                f"{kept_share:.0%} of the gradient: prefer hirescam.",
            )
        )
    limits += common_limits(case, m, score, values, kept, lowered, one.unused)
    # forward passes that the prediction and other maps of this case shared count too: it is what one map needs
    facts = provenance(case, m, score, kept) | {
        "layer": layer.name,
        f"cell_{unit.replace(' ', '_')}": [round(c, 6) for c in cell],
        "cell_stride_voxels": list(layer.cells.stride),
        "cell_offset_voxels": list(layer.cells.offset),
        "receptive_field_voxels": list(layer.cells.field),
        "evaluations": passes * m.evaluations(case.facts(layer.shape[0])),
        "seconds": round(one.seconds, 3),
    }
    if m.stages:
        facts["linear_score"] = one.linear
    volume = replace(case.prepared.volume(values, affine), reach=_reach(case, one))
    return Attribution(volume, m.name, score.name, score.label, layer.name, m.signed, None, {}, facts, tuple(limits))


def _other_calls(case: Case, layer: Layer) -> list[str]:
    """A module that is called several times is several layers: which others there are."""
    if "#" not in layer.name:
        return []
    others = [other.name for other in calls(case.found, layer.name) if other.name not in case.tapes.layers]
    if not others:
        return []
    named = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
    return [Caveat("calls", f"The network calls this module several times; this map leaves out {named}.")]


def _reach(case: Case, one: _Map) -> tuple[tuple[float, float], ...]:
    """How far the outermost cells hold, in cells: to the edge of what the network saw of the volume."""
    stride, offset, shape = one.stitcher.stride, one.stitcher.offset, case.prepared.shape
    own, first = case.prepared.extent, []
    if case.tiling.mode == "slices":
        seen = one.layer.cells.seen if one.here is one.layer else [(0, n - 1) for n in shape[1:]]
        own, first = own[1:], [(-0.5, shape[0] - 0.5)]
    else:
        seen = (case.tiling.mode == "whole" and one.layer.cells.seen) or [(0, n - 1) for n in shape]
    ends = [(max(low, start), min(high, end)) for (low, high), (start, end) in zip(seen, own, strict=True)]
    rows = zip(ends, stride, offset, strict=True)
    return (*first, *(((low - 0.5 - o) / s, (high + 0.5 - o) / s) for (low, high), s, o in rows))
