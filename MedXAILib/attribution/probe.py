"""Are a layer's cells where the trace says? Two forward passes ask the network itself.

A faint signal (a constant, or noise where a norm would take a constant away) is added to the input, first where a fixed
random code of blocks is on, then where it is off. A cell answers the more to the first, the more of what it sees is on; the
ratio of the two answers cancels its own sensitivity. So the answers draw the code again, at the place where the cells
really lie. It is compared with the code at the traced place, and with what it would be were the grid flipped, its axes
exchanged, or shifted by two cells; and with codes that were never shown, for what chance alone gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from statistics import NormalDist, fmean
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..models.layers import as_grid
from ..models.running.guest import seed_of
from ..progress import Progress
from ..recording.record import glimpse
from ..recording.recording import wide

if TYPE_CHECKING:
    import torch

    from ..models.inspection.cells import Cells
    from ..models.layers import Layer

Code = NDArray[np.bool_]
Seen = NDArray[np.float32]
Weights = NDArray[np.float64]
Scalar = TypeVar("Scalar", np.float32, np.float64)
FAINT = 0.05
"""Size of the signal, in parts of the input's own."""
BLURS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""How wide a cell may see, in cells: deviations of a Gaussian. Answers and code are compared without what varies more
slowly than twice as wide, where neighbouring places look alike."""
SHIFT = 2
LEAST_CELLS, LEAST_AGAINST = 12, 16
"""That answer: for any verdict, and for one against the trace."""
LONG = 5
"""Cells along an axis from which on a place can be told to be wrong along it."""
MOST_CELLS, MOST_NUMBERS = 4096, 1 << 21
"""Of a layer; of more the middle cells are compared, and of more numbers in these (8 MiB) evenly chosen channels."""
STRANGERS = 60
"""Codes that were never shown: how well they fit the answers is what chance gives."""
CONFIRMED, CONTRADICTED, UNCLEAR = "confirmed", "contradicted", "unclear"


class Threshold(NamedTuple):
    """When the answers speak for one place against another.

    :ivar fit: the one's correlation with the answers in its best band; ``chance``: how likely a stranger is to have it (or
        any of several strangers, where there are several such places).
    :ivar bands: in how many bands either of them fits.
    :ivar better: by how much the one fits better, ``surer``: the z of this (:func:`difference`); means over these bands.
    :ivar strength: its correlation in the best band, times the most that it stands above the strangers, in their
        deviations: few cells must fit well, many may fit less well.
    """

    fit: float
    chance: float
    bands: int
    better: float
    surer: float
    strength: float = 0.0


TO_CONFIRM = Threshold(fit=0.2, chance=0.001, bands=2, better=0.0, surer=0.5)
TO_CONTRADICT = Threshold(fit=0.43, chance=0.01, bands=4, better=0.05, surer=0.8, strength=2.2)
TURNED_IN_SIGHT = Threshold(fit=0.5, chance=0.01, bands=4, better=0.15, surer=2.5)
BESIDE_IN_SIGHT = Threshold(fit=0.65, chance=0.01, bands=4, better=0.1, surer=0.8)
DEEP_IN_SIGHT = Threshold(fit=0.75, chance=0.01, bands=4, better=0.1, surer=0.8)
"""To contradict where a cell sees the other place as well as its own: a kernel may look aside.

All chosen on the networks of ``make check-confirm``, on small U-Nets, trained and with random weights, and on 4426 random
networks of one to three layers, of which 2 are contradicted."""
NARROW = 0.8
"""What a cell sees, in parts of the four cells between two places to either side: up to here a kernel that looks aside is
still nearer to its own place."""
TO_FIND, IN_PARTS = Threshold(fit=0.75, chance=0.001, bands=4, better=0.1, surer=1.0), 0.7
"""To take a place that the trace does not know; and what part of its fit in the best half of the grid each half must have."""
FITS = 0.2, 2.5
"""A place fits the answers from this correlation on, and so many deviations of the strangers' above theirs."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What layers gave for an input with the signal where the code is on, and where it is off.

    :ivar code: (*spatial) of the input, 0 or 1.
    :ivar on, off: layer name -> as :func:`sample` keeps its activation.
    """

    code: Code
    on: dict[str, torch.Tensor]
    off: dict[str, torch.Tensor]


class Verdict(NamedTuple):
    """:ivar what: confirmed, contradicted or unclear.
    :ivar axes, flips: the orientation that fits best: which axis of the input each axis of the grid runs along, and which
        of the grid's axes run backwards.
    :ivar fit, next: correlation of the best orientation, and of the best other place.
    """

    what: str
    axes: tuple[int, ...]
    flips: tuple[int, ...]
    fit: float
    next: float


def ask(
    network: torch.nn.Module, x: torch.Tensor, layers: Sequence[Layer], progress: Progress, seed: int = 0
) -> Answers:
    """Two passes, which end at the last of the layers.

    :param x: (1, channel, *spatial), as the network takes it.
    """
    import torch

    random = np.random.default_rng(seed)
    grids = dict.fromkeys((cells.stride, cells.offset) for cells in map(_cells, layers))
    code = draw(tuple(x.shape[2:]), list(grids), random)
    size = FAINT * (float(x.float().std()) or float(x.float().abs().max()) or 1.0)
    named = {layer.name: layer for layer in layers}
    noise = None
    if any(layer.normed for layer in layers):
        noise = torch.from_numpy(random.standard_normal(x.shape, dtype=np.float32))

    def answer(where: Code) -> dict[str, torch.Tensor]:
        changed = torch.from_numpy(where).to(x)
        changed = (
            torch.add(x, changed, alpha=size) if noise is None else torch.addcmul(x, changed, noise.to(x), value=size)
        )
        found = glimpse(network, changed, list(named), progress, seed_of(network), lambda n, a: sample(a, named[n]))
        return found.activations

    return Answers(code, answer(code), answer(~code))


def sample(activation: torch.Tensor, layer: Layer) -> torch.Tensor:
    """What is compared of a layer's activation: some of its channels in the middle of the grid, (channel, *cells), or all
    elements, (channel, element), where cells are several; nothing where it is not as large as it should be."""
    try:
        grid = as_grid(activation.detach(), layer)[0]
    except IndexError:
        return activation.new_empty(0)
    assert layer.arrangement is not None
    if layer.arrangement.cell is None:
        if grid.shape[1:] != layer.shape[1:]:
            return grid.new_empty(0)
        grid = grid[(slice(None), *_middle(layer.shape[1:]))]
    return grid[:: -(-grid.numel() // MOST_NUMBERS)].clone()


def _cells(layer: Layer) -> Cells:
    """Where the cells of a layer that is asked about lie."""
    assert layer.cells is not None  # it is a feature grid
    return layer.cells


def _middle(count: Sequence[int]) -> tuple[slice, ...]:
    """The middle of a grid, of at most :data:`MOST_CELLS`."""
    longest = max(count) if math.prod(count) <= MOST_CELLS else round(MOST_CELLS ** (1 / len(count)))
    return tuple(slice((n - m) // 2, (n - m) // 2 + m) for n in count for m in [min(n, longest)])


def draw(
    size: Sequence[int], grids: Sequence[tuple[Sequence[float], Sequence[float]]], random: np.random.Generator
) -> Code:
    """Half of the voxels, (*size) of booleans: for each grid of cells random blocks of a cell, of 2 x 2 (x 2) cells, of 4,
    ... together, so that cells which see far find something too.

    :param grids: stride and offset of each.
    """
    total = np.zeros(size, np.float32)
    for stride, offset in grids:
        blocks, count = 1, [4]
        while blocks == 1 or max(count) >= 4:
            rows = zip(size, stride, offset, strict=True)
            number = [np.floor((np.arange(n) - o) / (s * blocks) + 0.5).astype(int) for n, s, o in rows]
            number = [line - line.min() for line in number]
            count = [line.max() + 1 for line in number]
            if blocks == 1 or max(count) >= 4:
                total += random.standard_normal(count, dtype=np.float32)[np.ix_(*number)] / blocks**0.5
            blocks *= 2
    return total > np.median(total)


def can_tell(layer: Layer) -> bool:
    """Whether a grid has cells enough for answers that say something."""
    return math.prod(layer.shape[1:]) >= LEAST_CELLS


def judge(answers: Answers, layer: Layer, at_rest: torch.Tensor) -> Verdict:
    """Whether the cells of a layer lie where the trace says.

    :param at_rest: the layer's activation for the input as it is, (1, ...).
    """
    nothing = Verdict(UNCLEAR, tuple(range(len(layer.shape) - 1)), (), 0.0, 0.0)
    on, off, rest = answers.on[layer.name], answers.off[layer.name], sample(at_rest, layer)
    if not on.shape == off.shape == rest.shape or not rest.numel():
        return nothing  # the signal changed what the network looks at
    ratio, weight = _ratio(on, off, rest, layer)
    if (weight > 0.5).sum() < LEAST_CELLS:
        return nothing
    if not layer.mixed and not layer.hidden and _answers_from_elsewhere(answers.code, layer, ratio, weight):
        return nothing._replace(what=CONTRADICTED)
    middle = _middle(layer.shape[1:])
    shown = {place: code[middle] for place, code in places(answers.code, layer).items()}
    limits = {place: limit(place, layer) for place in shown}
    return compare(ratio, weight, shown, limits, bool(layer.hidden))


def limit(place: Place, layer: Layer) -> Threshold | None:
    """What it takes to believe another place rather than the traced one; None where this cannot be told: there are too few
    cells, or the place lies far within what a cell sees, where a kernel may well look more."""
    moved, cells = place.moved(), _cells(layer)
    if min((layer.shape[1 + axis] for axis in moved), default=0) < LONG:
        return None
    compared = [part.stop - part.start for part in _middle(layer.shape[1:])]
    away = [2 * SHIFT] * len(compared) if place.shift else compared
    sight = max(cells.field[axis] / cells.stride[axis] / away[axis] for axis in moved)
    if not place.shift:
        return TO_CONTRADICT if sight < 1 and not layer.mixed else TURNED_IN_SIGHT
    if sight >= 2 or layer.mixed:
        return None
    return TO_CONTRADICT if sight <= NARROW else BESIDE_IN_SIGHT if sight < 1 else DEEP_IN_SIGHT


def _ratio(on: torch.Tensor, off: torch.Tensor, rest: torch.Tensor, layer: Layer) -> tuple[Weights, Weights]:
    """For each cell of the middle the part of its answers that is to the code, and how much it counts: cells that hardly
    answer (behind a ReLU that is off) do not."""
    import torch

    arrangement = layer.arrangement
    assert arrangement is not None

    def strength(changed: torch.Tensor) -> Weights:
        moved = torch.linalg.vector_norm(changed.to(wide(changed)) - rest.to(wide(rest)), dim=0).square()
        if arrangement.cell is not None:
            moved = arrangement.lay(moved[None])[0][_middle(layer.shape[1:])]
        found: Weights = moved.sqrt().double().cpu().numpy()
        return found

    with_it, without = strength(on), strength(off)
    both = with_it + without
    alive = both > 1e-6 * both.max() if both.max() > 0 else np.zeros(both.shape, bool)
    ratio = np.divide(with_it, both, out=np.full_like(with_it, 0.5), where=alive)
    weight = np.where(alive, np.minimum(both / (np.median(both[alive]) if alive.any() else 1), 1), 0)
    return ratio, weight


class Place(NamedTuple):
    """Where a layer's cells may lie.

    :ivar axes: the axis of the input along which each axis of the grid runs.
    :ivar flips: those of its axes that run backwards.
    :ivar shift: (axis, number of cells) by which all lies beside, or None.
    :ivar rows: the cells follow each other in this order of the axes, and were read as if in the traced one.
    """

    axes: tuple[int, ...]
    flips: tuple[int, ...] = ()
    shift: tuple[int, int] | None = None
    rows: bool = False

    def moved(self) -> set[int]:
        """The axes along which this differs from the traced place."""
        apart = {axis for n, axis in enumerate(self.axes) if n != axis}
        return apart | set(self.flips) | ({self.shift[0]} if self.shift else set())


def places(code: Code, layer: Layer) -> dict[Place, Seen]:
    """The code at the cells, (*cells), where the trace says that they lie (first) and at the other places."""
    cells, count = _cells(layer), layer.shape[1:]
    same = tuple(range(len(count)))
    traced = at_cells(code, cells.stride, cells.offset, count)
    found: dict[Place, Seen] = {}
    for axes in orders(count):
        there, lengths = turned(layer, axes)
        line = at_cells(code, there.stride, there.offset, lengths).transpose(axes)
        found |= {Place(axes, some): np.flip(line, some) for some in _flips(count)}
        if tuple(count[axis] for axis in axes) != count:
            found[Place(axes, rows=True)] = traced.transpose(axes).reshape(count)
    for axis, n in enumerate(count):
        for by in (-SHIFT, SHIFT) if n > 2 * SHIFT else ():
            offset = tuple(
                o + by * s * (a == axis) for a, (o, s) in enumerate(zip(cells.offset, cells.stride, strict=True))
            )
            found[Place(same, shift=(axis, by))] = at_cells(code, cells.stride, offset, count)
    return found


def turned(layer: Layer, axes: Sequence[int]) -> tuple[Cells, tuple[int, ...]]:
    """Cells over the same part of the input, and their number along each of its axes, if the n-th axis of the layer's grid
    ran along the input's axis ``axes[n]``."""
    cells, before = _cells(layer), layer.shape[1:]
    count = [before[n] for n in np.argsort(axes)]
    stride = [s * n / m for s, n, m in zip(cells.stride, before, count, strict=True)]
    offset = [o + (t - s) / 2 for o, s, t in zip(cells.offset, cells.stride, stride, strict=True)]
    return replace(cells, stride=tuple(stride), offset=tuple(offset)), tuple(count)


def at_cells(code: Code, stride: Sequence[float], offset: Sequence[float], count: Sequence[int]) -> Seen:
    """The mean of the code over each cell's own block of voxels, (*cells); where there are none, the mean of all."""
    seen: Seen = code.astype(np.float32) - (mean := code.mean())
    for axis, (s, o, n) in enumerate(zip(stride, offset, count, strict=True)):
        number = np.floor((np.arange(seen.shape[axis]) - o) / s + 0.5)
        first, end = (np.searchsorted(number, np.arange(n), side) for side in ("left", "right"))
        line, filled = np.moveaxis(seen, axis, 0)[: end[-1]], np.flatnonzero(end > first)
        means: Seen = np.zeros((n, *line.shape[1:]), np.float32)
        if len(filled):
            many = (end - first)[filled].reshape(-1, *[1] * (seen.ndim - 1))
            means[filled] = np.add.reduceat(line, first[filled]) / many
        seen = np.moveaxis(means, 0, axis)
    shown: Seen = seen + mean
    return shown


def _answers_from_elsewhere(code: Code, layer: Layer, ratio: Weights, weight: Weights) -> bool:
    """Whether cells answer to the code though none of it lies in what they can see, with two cells to spare."""
    from scipy.ndimage import maximum_filter

    cells = _cells(layer)
    reach = [int(f + 4 * s) | 1 for f, s in zip(cells.field, cells.stride, strict=True)]
    if any(r >= n for r, n in zip(reach, code.shape, strict=True)):
        return False
    near = maximum_filter(code.astype(np.uint8), reach, mode="constant")
    rows = zip(cells.offset, cells.stride, layer.shape[1:], code.shape, strict=True)
    places = [np.clip(np.round(o + s * np.arange(k)).astype(int), 0, n - 1) for o, s, k, n in rows]
    blind = (near[np.ix_(*places)][_middle(layer.shape[1:])] == 0) & (weight > 0.05)  # rounding answers too, faintly
    return bool(blind.sum() >= 3 and (ratio[blind] > 0.01).mean() > 0.5)


class Band(NamedTuple):
    """Answers and codes compared at one scale.

    :ivar fits: place -> correlation of its code with the answers; ``alike``: with the code at the first place.
    :ivar mean, deviation: of the strangers' correlations with the answers.
    """

    fits: dict[Place, float]
    alike: dict[Place, float]
    mean: float
    deviation: float

    def above_chance(self, place: Place) -> float:
        """In the strangers' deviations."""
        return (self.fits[place] - self.mean) / max(self.deviation, 1e-9)

    def shows(self, place: Place) -> bool:
        """Whether the answers fit a place at all."""
        return self.fits[place] >= FITS[0] and self.above_chance(place) >= FITS[1]

    def surer(self, place: Place, other: Place) -> float:
        """z of the difference between two places, one of which is the first."""
        alike = self.alike[place] * self.alike[other]
        return difference(max(self.fits[place], 0), max(self.fits[other], 0), alike) / max(self.deviation, 1e-9)


def speak_for(bands: Sequence[Band], place: Place, other: Place, wanted: Threshold, among: int = 1) -> bool:
    """Whether the answers speak for one place against another; one of them is the first.

    :param among: as many places were tried for the one.
    """
    telling = [band for band in bands if band.shows(place) or band.shows(other)]
    fit = max(band.fits[place] for band in bands)
    above_chance = max(band.above_chance(place) for band in bands)
    return (
        len(telling) >= wanted.bands
        and fit >= wanted.fit
        and above_chance >= NormalDist().inv_cdf(1 - wanted.chance / among)
        and fit * above_chance >= wanted.strength
        and fmean(band.fits[place] - max(band.fits[other], 0) for band in telling) >= wanted.better
        and fmean(band.surer(place, other) for band in telling) >= wanted.surer
    )


def compare(
    ratio: Weights,
    weight: Weights,
    shown: dict[Place, Seen],
    limits: dict[Place, Threshold | None],
    any_orientation: bool = False,
) -> Verdict:
    """How well the answers fit the code at the traced place, and at others.

    :param ratio, weight: (*cells).
    :param shown: the code at the cells, (*cells), for each place, the traced one first.
    :param limits: what it takes to believe each.
    :param any_orientation: the place is a guess: the best of all orientations is judged, against all shifts of it.
    """
    believed = next(iter(shown))
    bands = _bands(ratio, weight, shown)
    if any_orientation:
        upright = [place for place in shown if not place.shift and not place.rows]
        believed = max(upright, key=lambda place: max(band.fits[place] for band in bands))
        shown = {believed: shown[believed]} | shown | _beside(believed, shown[believed])
        bands = _bands(ratio, weight, shown)
    others = list(shown)[1:]
    best = max(bands, key=lambda band: band.fits[believed])
    rival = max(others, key=lambda place: best.fits[place], default=believed)
    verdict = Verdict(UNCLEAR, believed.axes, believed.flips, best.fits[believed], best.fits[rival])
    wanted = TO_FIND if any_orientation else TO_CONFIRM
    holds = not any_orientation or _holds_in_parts(ratio, weight, shown[believed])
    if holds and all(speak_for(bands, believed, other, wanted) for other in others):
        return verdict._replace(what=CONFIRMED)
    for other in others if weight.sum() >= LEAST_AGAINST else ():
        if (needed := limits.get(other)) and speak_for(bands, other, believed, needed, len(others)):
            return verdict._replace(what=CONTRADICTED, next=max(band.fits[other] for band in bands))
    return verdict


def _holds_in_parts(ratio: Weights, weight: Weights, code: Seen) -> bool:
    """Whether a place fits in each half of the grid along each axis as in the whole: an operator may have moved a part, or
    stretched all. Compared at the scale that fits best, without what varies slowly."""

    def fit(answers: Weights, seen: Seen, part: EllipsisType | tuple[slice, ...] = ...) -> float:
        rows = _standard(np.stack([answers[part], seen[part]]), weight[part])
        return float(rows[0] @ rows[1])

    bands = [_fast(ratio, weight, code[None].astype(np.float32), blur) for blur in BLURS]
    answers, (seen,) = max(bands, key=lambda band: fit(band[0], band[1][0]))
    halves = [
        (slice(None),) * axis + (half,)
        for axis, n in enumerate(ratio.shape)
        for half in ((slice(n // 2), slice(n // 2, n)) if n > 1 else ())
    ]
    fits = [fit(answers, seen, part) for part in halves]
    return min(fits) >= IN_PARTS * max(fits)


def _fast(ratio: Weights, weight: Weights, codes: Seen, blur: float) -> tuple[Weights, Seen]:
    """Answers (*cells), and codes (row, *cells) as a cell of that width sees them, without what varies slowly."""
    slow = [2 * blur + 1.5 if n > 3 else 0.0 for n in ratio.shape]
    near = _smooth((ratio * weight)[None], slow) / np.maximum(_smooth(weight[None], slow), 1e-9)
    seen = _smooth(codes, [blur] * ratio.ndim)
    return ratio - near[0], seen - _smooth(seen, slow)


def _beside(place: Place, code: Seen) -> dict[Place, Seen]:
    """A place moved along one axis by two cells or more, round the edge: where an operator may have moved everything."""
    return {
        place._replace(shift=(axis, by)): np.roll(code, by, axis)
        for axis, n in enumerate(code.shape)
        for by in range(SHIFT, n - SHIFT + 1)
    }


def _bands(ratio: Weights, weight: Weights, shown: dict[Place, Seen]) -> list[Band]:
    """At each scale: the codes blurred as a cell of that width sees them, and all with what varies slowly or without it."""
    random, count = np.random.default_rng(1), len(shown)
    strange = [draw(ratio.shape, [([1.0] * ratio.ndim, [0.0] * ratio.ndim)], random) for _ in range(STRANGERS)]
    codes = np.stack([*shown.values(), *strange]).astype(np.float32)
    found = []
    for blur in BLURS:
        for answers, codes_there in (
            _fast(ratio, weight, codes, blur),
            (ratio, _smooth(codes, [blur] * ratio.ndim)),
        ):
            rows = _standard(np.concatenate([answers[None], codes_there]), weight)
            fits = rows[1:] @ rows[0]
            alike = rows[1 : count + 1] @ rows[1]
            by_place, to_first = (dict(zip(shown, map(float, line[:count]), strict=True)) for line in (fits, alike))
            found.append(Band(by_place, to_first, float(fits[count:].mean()), float(fits[count:].std())))
    return found


def _standard(values: NDArray[np.floating[Any]], weight: Weights) -> Weights:
    """(row, *cells) as rows whose products are weighted correlations (Pearson's); of one value: zeros."""
    rows, weight = values.reshape(len(values), -1).astype(np.float64), weight.ravel() / (weight.sum() or 1.0)
    rows = (rows - (rows @ weight)[:, None]) * np.sqrt(weight)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    standard: Weights = np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-9)
    return standard


def difference(fit: float, other: float, alike: float) -> float:
    """By how much one correlation is surer than another of the same answers with a code that is itself correlated with the
    first one, in deviations of a correlation that chance gives (Meng, Rosenthal and Rubin 1992)."""
    fit, other = (min(max(value, -0.99), 0.99) for value in (fit, other))
    both = (fit**2 + other**2) / 2
    apart = 1 - min(alike, 0.99)
    scale = (1 - min(apart / (2 * (1 - both)), 1.0) * both) / (1 - both)
    return (math.atanh(fit) - math.atanh(other)) / math.sqrt(2 * apart * scale)


def _smooth(values: NDArray[Scalar], widths: Sequence[float]) -> NDArray[Scalar]:
    """Rows (row, *cells) blurred along each axis by a Gaussian of that deviation, in cells."""
    for axis, width in enumerate(widths, 1):
        if width:
            blurred = np.moveaxis(values, axis, -1) @ _gaussian(values.shape[axis], width)
            values = np.moveaxis(blurred, -1, axis)
    return values


@cache
def _gaussian(n: int, width: float) -> NDArray[np.float32]:
    """The matrix (n, n) by which a line of cells is blurred; the outermost ones go on."""
    from scipy.ndimage import gaussian_filter1d

    blurred: NDArray[np.float32] = gaussian_filter1d(np.eye(n, dtype=np.float32), width, axis=0, mode="nearest")
    return blurred.T


def orders(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Every order of the axes; an axis of one cell stays where it is."""
    long = [axis for axis, n in enumerate(shape) if n > 1]
    found = []
    for order in permutations(long):
        axes = list(range(len(shape)))
        for place, axis in zip(long, order, strict=True):
            axes[place] = axis
        found.append(tuple(axes))
    return found


def _flips(shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Every choice of axes that run backwards."""
    long = [axis for axis, n in enumerate(shape) if n > 1]
    return [tuple(axis for n, axis in enumerate(long) if number >> n & 1) for number in range(1 << len(long))]
