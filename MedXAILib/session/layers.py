"""Maps of layers: recordings over all tiles; several methods, targets and layers from the same ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..attribution.cam import Feature
from ..attribution.heads import averaged_fraction, weighs_positions
from ..attribution.method import LayerMethod
from ..caveats import CAUTION, Caveat
from ..models.layers import Layer, as_grid, calls, find, inspect
from ..prediction import feed
from ..progress import Progress, portion
from ..recording.record import glimpse
from ..recording.recording import wide
from ..scoring import BoundTarget, TileScorer
from ..scoring.scorer import output_of
from ..tiling import Stitcher, Tile

if TYPE_CHECKING:
    import torch

    from ..attribution.attribution import Attribution
    from ..models.inspection.cells import Cells
    from ..recording.recording import Recording
    from .explanation import Explanation
    from .plan import Step

Array = npt.NDArray[Any]
MOSTLY_POOLED = 0.9
"""From this part of a gradient in its mean over positions, one weight for all of them does."""


@dataclass(eq=False, kw_only=True)
class _Map:
    """One map in the making.

    :ivar here: the layer as the running tile shows it: in a network that looks at values its cells lie elsewhere in each.
    :ivar statistics: of the tiles seen so far; of slices, those of the running tile.
    :ivar averaged: where the head weighs positions by themselves: see :func:`averaged_fraction`; else zeros.
    :ivar unused: a sentence where the output does not depend on the layer.
    """

    step: Step
    method: LayerMethod
    target: BoundTarget
    layer: Layer
    stitcher: Stitcher
    slices: set[int] | None
    statistics: list[torch.Tensor] = field(default_factory=list)
    carried: float = 0.0
    averaged: Array = field(default_factory=lambda: np.zeros(2))
    seconds: float = 0.0
    unused: str = ""
    here: Layer = field(init=False)

    def __post_init__(self) -> None:
        self.here = self.layer

    def gather(self, f: Feature, number: int, earlier: Sequence[torch.Tensor]) -> torch.Tensor:
        """The number-th statistics of a tile."""
        return self.method.gathers[number].run(f, *earlier)

    def carry(self, f: Feature) -> None:
        """Sum up what the method tells of the layer beside its map."""
        if self.method.carried is not None:
            self.carried += self.method.carried(f)

    def add(self, t: Tile, values: torch.Tensor, summed: bool = False) -> None:
        """Put one tile's map in its place."""
        laid = _numpy(self.here.grid_arrangement.lay(values, self.method.merge == "sum"))
        if self.here is not self.layer:
            laid = np.stack([_on_voxels(one, self.here.grid_cells, self.stitcher.cells) for one in laid])
        self.stitcher.add(t, laid, summed)


def _numpy(values: torch.Tensor) -> Array:
    return values.detach().float().cpu().numpy()


def _on_voxels(values: Array, cells: Cells, size: Sequence[int]) -> Array:
    """A tile's map (*cells) on the tile's voxels, linearly; 0 where the network did not look."""
    from scipy.ndimage import affine_transform

    offset = [-o / s for s, o in zip(cells.stride, cells.offset, strict=True)]
    found = affine_transform(values, [1 / s for s in cells.stride], offset, tuple(size), order=1, mode="nearest")
    for axis, (low, high) in enumerate(cells.seen):
        index = np.arange(size[axis]).reshape([-1 if a == axis else 1 for a in range(len(size))])
        found = found * ((index >= low) & (index <= high))
    return np.asarray(found)


def layer_maps(work: Explanation, steps: Sequence[Step], progress: Progress) -> Iterator[tuple[int, Attribution]]:
    """(number of the target, map) of every method, layer and target, in the order in which they were asked for.

    Each tile is recorded once for everything that is asked of it. Where there is one tile, or slices, which have scores of
    their own, maps follow from their own statistics at once. Over windows, statistics are gathered over all of them first:
    another pass for each ``gather``, since keeping every window's activations would take memory that grows with the volume.
    """
    maps = [_map(work, step, target, layer) for target in work.targets for step in steps for layer in step.layers]
    if work.tiling.joint:
        rounds = 1 + max(len(one.method.gathers) for one in maps)
        for number in range(rounds):
            active = [one for one in maps if len(one.method.gathers) >= number]
            # with its statistics at hand, a map needs activations alone
            light = all(number == len(one.method.gathers) > 0 for one in active)
            sweep(work, active, portion(progress, number, rounds), partial(one_round, number=number), light)
    else:
        sweep(work, maps, progress, at_once)
    for one in maps:
        rounds = 1 + len(one.method.gathers) if work.tiling.joint else 1
        yield work.targets.index(one.target), _attribution(work, one, work.tiling.passes * rounds)


def _map(work: Explanation, step: Step, target: BoundTarget, layer: Layer) -> _Map:
    slices = work.slices(target, step.method)
    assert isinstance(step.method, LayerMethod)
    return _Map(
        step=step, method=step.method, target=target, layer=layer, stitcher=_stitcher(work, layer),
        slices=None if slices is None else set(slices),
    )  # fmt: skip


def check_layers(work: Explanation, m: LayerMethod, layers: Sequence[Layer]) -> None:
    """:raises InputError: where a layer does not suit a method: see :attr:`LayerMethod.check`."""
    t, x = next(iter(work.tiling.pieces(work.prepared.tensor[None])))
    recording = work.cache.recording(t, feed(work.model, x))
    for layer in layers:
        m.check(recording, layer)


def _stitcher(work: Explanation, layer: Layer) -> Stitcher:
    """Puts a layer's tiles together: on its cells, or, where these lie elsewhere in each tile, on the voxels."""
    if layer.data and len(work.tiling.tiles) > 1:
        return work.tiling.voxels()
    return work.tiling.stitcher(layer.shape[1:], layer.grid_cells.stride, layer.grid_cells.offset)


def sweep(
    work: Explanation,
    maps: Sequence[_Map],
    progress: Progress,
    do: Callable[[_Map, Feature, Tile], None],
    light: bool = False,
) -> None:
    """``do(map, feature, tile)`` for every tile that the map's target may lie in.

    :param light: no gradients will be asked for.
    """
    tiling, network = work.tiling, work.model.network
    for number, (t, x) in enumerate(tiling.pieces(work.prepared.tensor[None])):
        progress(number, len(tiling.tiles), "Attribution")
        some = [one for one in maps if tiling.holds(t, one.slices)]
        if not some:
            continue
        report, piece = portion(progress, number, len(tiling.tiles)), feed(work.model, x)
        if light:
            recording = glimpse(network, piece.clone(), [one.layer.name for one in some], report, work.seed)
        else:
            recording = work.cache.recording(t, piece, report)
        tile = _TileInHand(work, number, t, piece, recording, report)
        for one in some:
            began = time.perf_counter()
            one.here = _as_seen(work, one.layer, piece)
            feature = tile.feature(one)
            do(one, feature, t)
            if not light and _assumes_pooling(work, one, recording):
                one.averaged += averaged_fraction(feature.gradient)
            one.seconds += time.perf_counter() - began


def _as_seen(work: Explanation, layer: Layer, x: torch.Tensor) -> Layer:
    """The layer as this very input goes through it."""
    if not layer.data or len(work.tiling.tiles) == 1:
        return layer
    return find(inspect(work.model.network, x.shape, x), layer.name)


def _assumes_pooling(work: Explanation, one: _Map, recording: Recording) -> bool:
    """Whether a method takes a classifier's positions as pooled, and this one's head weighs each by itself."""
    if not one.method.assumes_pooling or work.prediction.voxelwise:
        return False
    return weighs_positions(output_of(recording), recording.activations[one.layer.name])


def at_once(one: _Map, f: Feature, t: Tile) -> None:
    """All rounds of a tile that stands for itself."""
    statistics: list[torch.Tensor] = []
    for number in range(len(one.method.gathers)):
        statistics.append(one.gather(f, number, statistics))
    one.carry(f)
    one.add(t, one.method.map(f, *statistics))


def one_round(one: _Map, f: Feature, t: Tile, number: int) -> None:
    """One of the rounds over windows: the next statistics, or the map."""
    if number == 0:
        one.carry(f)
    if number == len(one.method.gathers):
        one.add(t, one.method.map(f, *one.statistics), one.method.merge == "sum")
        return
    found = one.gather(f, number, one.statistics[:number])
    if len(one.statistics) == number:
        one.statistics.append(found)
    else:
        one.statistics[number] = one.method.gathers[number].merge(one.statistics[number], found)


class _TileInHand:
    """One tile and its recording, as its maps ask for them. One pass backwards serves all layers and methods of a target;
    then its gradients go."""

    def __init__(
        self, work: Explanation, number: int, t: Tile, x: torch.Tensor, recording: Recording, report: Progress
    ) -> None:
        self.work, self.number, self.t, self.x, self.recording, self.report = work, number, t, x, recording, report
        self.target: BoundTarget | None = None
        self.passes: dict[bool, dict[str, torch.Tensor]] = {}

    def feature(self, one: _Map) -> Feature:
        """What a method sees of a layer."""
        if self.target is not one.target:
            self.target = one.target
            self.passes.clear()
        layer = one.here
        activation = self.recording.activations[layer.name].detach()
        weight, inside = self._parts(one)
        return Feature(
            activation=as_grid(activation.to(wide(activation)), layer),
            backward=partial(self._backward, one),
            weight=weight,
            cells=_count(self.work, one),
            ask=TileScorer(
                self.work.model, one.target, self.x, partial(self._weights, one.target, True), layer, self.report, self.work.seed
            ),
            input=self.x,
            inside=inside,
            lay=layer.grid_arrangement.lay,
        )  # fmt: skip

    def _weights(self, target: BoundTarget, shared: bool) -> torch.Tensor:
        import torch

        found = target.weights(self.number, self.t, shared)
        return torch.from_numpy(np.ascontiguousarray(found)).to(self.recording.output)

    def _backward(self, one: _Map, own: bool) -> torch.Tensor:
        """Gradients of a target; with ``own``, over windows those of the window's own score."""
        layer, own = one.here, own and self.work.tiling.overlapping
        if own not in self.passes:
            w = self._weights(one.target, not own)
            self.passes[own] = self.recording.gradients(lambda output: one.target.of(output, w))
        self.recording.check(layer.name)
        one.unused = self.recording.unused(layer.name)
        return as_grid(self.passes[own][layer.name], layer)

    def _parts(self, one: _Map) -> tuple[torch.Tensor | float, torch.Tensor | float]:
        """Over windows: the part of each element in the whole, 0 in the padding, and whether it lies in the volume at all."""
        import torch

        if not self.work.tiling.overlapping:
            return 1.0, 1.0
        if one.here is not one.layer:
            return 1 / len(self.work.tiling.tiles), 1.0
        lines = map(np.asarray, one.stitcher.parts(self.t))
        weight, inside = (one.layer.grid_arrangement.spread(torch.from_numpy(line)) for line in lines)
        return weight * inside, inside


def _count(work: Explanation, one: _Map) -> int:
    """Number of positions over which a mean is taken: those of the whole, of a slice where these have scores of their own."""
    elements = one.here.grid_arrangement.used
    if not work.tiling.overlapping:
        return elements
    if one.here is not one.layer:
        return elements * len(work.tiling.tiles)
    return round(elements * one.stitcher.count / math.prod(one.layer.grid_arrangement.sizes))


def _attribution(work: Explanation, one: _Map, passes: int) -> Attribution:
    m, layer, stitcher = one.method, one.layer, one.stitcher
    values = stitcher.values
    lowered = not m.signed and bool((values < 0).any())
    if not m.signed:
        values = np.maximum(values, 0)
    slices = None if one.slices is None else sorted(one.slices)
    if slices is not None and len(slices) < len(values):
        values[[n for n in range(len(values)) if n not in slices]] = 0
    affine = stitcher.affine(work.prepared.affine)
    cells = work.cells(affine)
    about = {
        "layer": layer.name,
        "cell_stride_voxels": list(layer.grid_cells.stride),
        "cell_offset_voxels": list(layer.grid_cells.offset),
        "receptive_field_voxels": list(layer.grid_cells.field),
    }
    return work.attribution(
        m, one.target, replace(work.prepared.volume(values, affine), reach=_reach(work, one)), slices,
        list(_caveats(work, one, cells.text, cells.unit)),
        lowered=lowered, unused=one.unused, provenance=about, layer=layer.name, cells=cells,
        carried=one.carried if m.carried is not None else None,
        # forward passes that the prediction and other maps of this case shared count too: it is what one map needs
        evaluations=passes * one.method.evaluated(work.session.cost(m, work.request), layer.shape[0]),
        seconds=round(one.seconds, 3),
    )  # fmt: skip


def _caveats(work: Explanation, one: _Map, size: str, unit: str) -> Iterator[Caveat]:
    """What limits belief in the place and the size of a layer's cells, and in what its method assumes."""
    layer = one.layer
    yield Caveat("cells", f"One map cell covers {size} {unit}. Do not interpret smaller detail.")
    if layer.doubt:
        yield layer.doubt
    if not layer.grid_cells.exact:
        text = "Some cells lie up to a cell beside their place here (uneven pooling or sampling)."
        yield Caveat("place-rounded", text, CAUTION)
    yield from _other_calls(work, layer)
    if work.repeats(layer.name):
        text = "This layer belongs to the last decoder block: the map nearly repeats the segmentation."
        yield Caveat("repeats-segmentation", text, CAUTION)
    kept = one.averaged[0] / one.averaged[1] if one.averaged[1] else 1.0
    if kept < MOSTLY_POOLED:
        text = (
            f"{one.method.title} assumes that positions are pooled; this head weighs each position by itself, and their mean keeps "
            f"{kept:.0%} of the gradient: prefer hirescam."
        )
        yield Caveat("pooling", text, CAUTION, {"fraction_kept": round(float(kept), 4)})


def _other_calls(work: Explanation, layer: Layer) -> Iterator[Caveat]:
    """A module that is called several times is several layers: which others there are."""
    if "#" not in layer.name:
        return
    others = [other.name for other in calls(work.session.layers, layer.name) if other.name not in work.cache.layers]
    if others:
        named = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        yield Caveat("calls", f"The network calls this module several times; this map leaves out {named}.", CAUTION)


def _reach(work: Explanation, one: _Map) -> tuple[tuple[float, float], ...]:
    """How far the outermost cells hold, in cells."""
    same = one.here is one.layer or not work.tiling.by_slices
    return one.stitcher.reach(one.layer.grid_cells.seen if same else None, work.prepared.extent)
