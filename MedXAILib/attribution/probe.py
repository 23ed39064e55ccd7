"""Are a layer's cells where the trace says? Two forward passes ask the network itself.

A faint signal (a constant, or noise where a norm would take a constant away) is added to the input, first where a fixed random code of blocks is on, then where it is off. A cell
answers the more to the first, the more of what it sees is on; the ratio of the two answers cancels its own sensitivity.
So the answers draw the code again, at the place where the cells really lie. It is compared with the code at the traced
place, and with what it would be were the grid flipped, its axes exchanged, or shifted by two cells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..models.layers import as_grid
from ..progress import Progress
from .tape import glimpse, wide

if TYPE_CHECKING:
    import torch

    from ..models.cells import Cells
    from ..models.layers import Layer

FAINT = 0.05
"""Size of the signal, in parts of the input's own."""
BLURS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""How wide a cell may see, in cells: deviations of a Gaussian. Answers and code are compared without what varies more
slowly than twice as wide, where neighbouring places look alike."""
SHIFT = 2
LEAST_CELLS = 12
AGREE = 3
"""In so many bands the same other place has to fit better."""
LONG = 5
"""Cells along an axis from which on a place can be told to be wrong along it."""
MOST_CELLS = 32
"""Along an axis, of grids of more than its cube: the middle ones are compared."""
STRANGERS = 24
"""Codes that were never shown: a place must fit better than the best of them."""
CONFIRMED, CONTRADICTED, UNCLEAR = "confirmed", "contradicted", "unclear"


class Threshold(NamedTuple):
    """How well a place must correlate with the code, and by how much better than another; the same in each half."""

    fit: float
    better: float
    half_fit: float
    half_better: float


TO_CONFIRM = Threshold(0.3, 0.06, 0.1, 0.02)
TO_CONTRADICT = Threshold(0.35, 0.12, 0.2, 0.06)


@dataclass(frozen=True, eq=False)
class Answers:
    """What layers gave for an input with the signal where the code is on, and where it is off.

    :ivar code: (*spatial) of the input, 0 or 1.
    :ivar on, off: layer name -> activation, as the layer gave it.
    """

    code: np.ndarray
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
    finest = min(layers, key=lambda layer: sum(layer.cells.stride))
    code = draw(tuple(x.shape[2:]), finest.cells.stride, finest.cells.offset, random)
    signal = torch.ones(x.shape)
    if any(layer.normed for layer in layers):
        signal = torch.from_numpy(random.standard_normal(x.shape, dtype=np.float32))
    signal *= FAINT * (float(x.float().std()) or float(x.float().abs().max()) or 1.0)
    names = [layer.name for layer in layers]

    def answer(where: np.ndarray) -> dict[str, torch.Tensor]:
        changed = x + (signal * torch.from_numpy(where)).to(x)
        return glimpse(network, changed, names, progress).activations

    return Answers(code, answer(code), answer(1 - code))


def draw(size: Sequence[int], stride: Sequence[float], offset: Sequence[float], random) -> np.ndarray:
    """Half of the voxels, (*size) float32 of 0 and 1: random blocks of a cell, of 2 x 2 (x 2) cells, of 4, ... together, so
    that cells which see far find something too."""
    total, blocks = np.zeros(size, np.float32), 1
    while True:
        rows = zip(size, stride, offset, strict=True)
        number = [np.floor((np.arange(n) - o) / (s * blocks) + 0.5).astype(int) for n, s, o in rows]
        number = [line - line.min() for line in number]
        count = [line.max() + 1 for line in number]
        if blocks > 1 and max(count) < 4:
            return (total > np.median(total)).astype(np.float32)
        total += random.standard_normal(count, dtype=np.float32)[np.ix_(*number)] / blocks**0.5
        blocks *= 2


def can_tell(layer: Layer) -> bool:
    """Whether a grid has cells enough for answers that say something."""
    return math.prod(layer.shape[1:]) >= LEAST_CELLS


def judge(answers: Answers, layer: Layer, at_rest: torch.Tensor) -> Verdict:
    """Whether the cells of a layer lie where the trace says.

    :param at_rest: the layer's activation for the input as it is, (1, ...).
    """
    nothing = Verdict(UNCLEAR, tuple(range(len(layer.shape) - 1)), (), 0.0, 0.0)
    if any(found[layer.name].shape != at_rest.shape for found in (answers.on, answers.off)):
        return nothing  # the signal changed what the network looks at
    ratio, weight = _ratio(answers, layer, at_rest)
    if (weight > 0.5).sum() < LEAST_CELLS:
        return nothing
    if not layer.mixed and not layer.hidden and _answers_from_elsewhere(answers.code, layer, ratio, weight):
        return nothing._replace(what=CONTRADICTED)
    codes = {axes: exchanged(answers.code, layer, axes) for axes in orders(ratio.shape)}
    if ratio.size > MOST_CELLS**3:
        middle = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n in ratio.shape for m in [min(n, MOST_CELLS)])
        ratio, weight, codes = ratio[middle], weight[middle], {axes: code[middle] for axes, code in codes.items()}
    wide = [axis for axis, stride in enumerate(layer.cells.stride) if stride >= 1]
    return compare(ratio, weight, codes, wide, bool(layer.hidden))


def _ratio(answers: Answers, layer: Layer, at_rest: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """For each cell the part of its answers that is to the code, and how much it counts: cells that hardly answer (behind a
    ReLU that is off) do not."""

    def strength(changed: torch.Tensor) -> np.ndarray:
        moved = as_grid(changed.to(wide(changed)) - at_rest.to(wide(at_rest)), layer).double().pow(2).sum(1)
        return layer.arrangement.lay(moved)[0].sqrt().cpu().numpy()

    on, off = strength(answers.on[layer.name]), strength(answers.off[layer.name])
    both = on + off
    alive = both > 1e-6 * both.max() if both.max() > 0 else np.zeros(both.shape, bool)
    ratio = np.divide(on, both, out=np.full_like(on, 0.5), where=alive)
    weight = np.where(alive, np.minimum(both / (np.median(both[alive]) if alive.any() else 1), 1), 0)
    return ratio, weight


def exchanged(code: np.ndarray, layer: Layer, axes: Sequence[int]) -> np.ndarray:
    """The code at the cells, (*cells), if the n-th axis of the layer's grid ran along the input's axis ``axes[n]``."""
    cells, count = turned(layer, axes)
    return at_cells(code, cells.stride, cells.offset, count).transpose(axes)


def turned(layer: Layer, axes: Sequence[int]) -> tuple[Cells, tuple[int, ...]]:
    """Cells over the same part of the input, and their number along each of its axes, if the n-th axis of the layer's grid
    ran along the input's axis ``axes[n]``."""
    cells, before = layer.cells, layer.shape[1:]
    count = [before[n] for n in np.argsort(axes)]
    stride = [s * n / m for s, n, m in zip(cells.stride, before, count, strict=True)]
    offset = [o + (t - s) / 2 for o, s, t in zip(cells.offset, cells.stride, stride, strict=True)]
    return replace(cells, stride=tuple(stride), offset=tuple(offset)), tuple(count)


def at_cells(code: np.ndarray, stride: Sequence[float], offset: Sequence[float], count: Sequence[int]) -> np.ndarray:
    """The mean of the code over each cell's own block of voxels, (*cells)."""
    for axis, (s, o, n) in enumerate(zip(stride, offset, count, strict=True)):
        number = np.clip(np.floor((np.arange(code.shape[axis]) - o) / s + 0.5).astype(int), 0, n - 1)
        many = np.bincount(number, minlength=n)
        sums = np.zeros((*code.shape[:axis], n, *code.shape[axis + 1 :]), np.float32)
        np.add.at(np.moveaxis(sums, axis, 0), number, np.moveaxis(code, axis, 0))
        code = sums / np.maximum(many, 1).reshape([-1 if a == axis else 1 for a in range(code.ndim)])
    return code


def _answers_from_elsewhere(code: np.ndarray, layer: Layer, ratio: np.ndarray, weight: np.ndarray) -> bool:
    """Whether cells answer to the code though none of it lies in what they can see, with two cells to spare."""
    from scipy.ndimage import maximum_filter

    reach = [int(f + 4 * s) | 1 for f, s in zip(layer.cells.field, layer.cells.stride, strict=True)]
    if any(r >= n for r, n in zip(reach, code.shape, strict=True)):
        return False
    near = maximum_filter(code, reach, mode="constant")
    rows = zip(layer.cells.offset, layer.cells.stride, layer.shape[1:], code.shape, strict=True)
    places = [np.clip(np.round(o + s * np.arange(k)).astype(int), 0, n - 1) for o, s, k, n in rows]
    blind = (near[np.ix_(*places)] == 0) & (weight > 0)
    return bool(blind.sum() >= 3 and (ratio[blind] > 0.01).mean() > 0.5)


def compare(
    ratio: np.ndarray, weight: np.ndarray, codes: dict, wide: Sequence[int], any_orientation: bool = False
) -> Verdict:
    """How well the answers fit the code at the traced place, and at others.

    :param ratio, weight: (*cells).
    :param codes: the code at the cells, (*cells), for each order of the axes.
    :param wide: axes along which a cell is a voxel or more: along others two cells are no distance.
    :param any_orientation: the place is a guess: the best of all orientations is judged.
    """
    as_traced = (tuple(range(ratio.ndim)), (), 0)
    random, even = np.random.default_rng(1), [1.0] * ratio.ndim
    strange = {
        n: draw(ratio.shape, even, [0.0] * ratio.ndim, random) for n in range(STRANGERS if ratio.size < 4096 else 6)
    }
    found = []
    for blur in BLURS:
        for slow in (False, True):
            band = _band(ratio, weight, codes, blur, slow)
            pairs = _places(*band, weight, wide)
            fits = {key: _fit(*pair) for key, pair in pairs.items()}
            best = max((key for key in fits if not key[2]), key=fits.get) if any_orientation else as_traced
            if any_orientation:
                pairs |= _rolled(pairs[best], best)
                fits = {key: _fit(*pair) for key, pair in pairs.items()}
            rival = max((key for key in fits if key != best), key=fits.get, default=best)
            fit, other = fits[best], fits[rival]
            luck = max(_fit(band[0], code, weight) for code in _band(ratio, weight, strange, blur, slow)[1].values())
            what = UNCLEAR
            if fit >= max(TO_CONFIRM.fit, luck) and _is_better(pairs[best], pairs[rival], TO_CONFIRM):
                what = CONFIRMED
            elif other >= max(TO_CONTRADICT.fit, luck + TO_CONTRADICT.better) and _can_be_told(ratio.shape, rival):
                what = CONTRADICTED if _is_better(pairs[rival], pairs[best], TO_CONTRADICT) else UNCLEAR
            found.append((rival, Verdict(what, *best[:2], fit, other)))
    said = Counter(verdict.what for _, verdict in found)
    rivals = Counter(rival for rival, verdict in found if verdict.what == CONTRADICTED)
    what = UNCLEAR
    if said[CONFIRMED] and not said[CONTRADICTED]:
        what = CONFIRMED
    elif rivals and not said[CONFIRMED] and max(rivals.values()) >= AGREE:
        what = CONTRADICTED
    some = [verdict for _, verdict in found if verdict.what == what] or [verdict for _, verdict in found]
    return max(some, key=lambda verdict: abs(verdict.fit - verdict.next))._replace(what=what)


def _rolled(pair: tuple, place: tuple) -> dict[tuple, tuple]:
    """A place and all those beside it, by two cells or more along one axis: where an operator may have moved everything."""
    ratio, code, weight = pair
    return {
        (*place[:2], (axis, by)): (ratio, np.roll(code, by, axis), weight)
        for axis, n in enumerate(ratio.shape)
        for by in range(SHIFT, n - SHIFT + 1)
    }


def _is_better(one: tuple, other: tuple, wanted: Threshold) -> bool:
    """Whether one place fits better than another, in the whole and, by less, in each half of the grid."""
    if _fit(*one) - _fit(*other) < wanted.better:
        return False
    for axis, n in enumerate(one[0].shape):
        for half in ((0, 2), (1, 2)) if n >= 4 else ():
            good, bad = (_fit(*(_part(values, axis, *half) for values in pair)) for pair in (one, other))
            if good < wanted.half_fit or good - bad < wanted.half_better:
                return False
    return True


def _part(values: np.ndarray, axis: int, number: int, of: int) -> np.ndarray:
    """One of so many equal parts along an axis."""
    n = values.shape[axis]
    return values[(slice(None),) * axis + (slice(number * n // of, (number + 1) * n // of),)]


def _can_be_told(shape: Sequence[int], place: tuple) -> bool:
    """Whether there are cells enough along the axes along which a place differs from the traced one."""
    return min((shape[axis] for axis in _moved(place)), default=0) >= LONG


def _moved(place: tuple) -> set[int]:
    """The axes along which a place differs from the traced one."""
    axes, flips, shift = place
    apart = {axis for n, axis in enumerate(axes) if n != axis}
    return apart | set(flips) | ({shift[0]} if isinstance(shift, tuple) else set())


def _band(ratio: np.ndarray, weight: np.ndarray, codes: dict, blur: float, slow: bool) -> tuple[np.ndarray, dict]:
    """Answers and codes in one band: the codes blurred as a cell of that width sees them, and all with what varies slowly or
    without it."""
    from scipy.ndimage import gaussian_filter

    wide = [2 * blur + 1.5 if n > 3 else 0 for n in ratio.shape]
    seen = {axes: gaussian_filter(code, blur, mode="nearest") if blur else code for axes, code in codes.items()}
    if slow or not any(wide):
        return ratio, seen

    def around(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, wide, mode="nearest")

    near = around(ratio * weight) / np.maximum(around(weight), 1e-9)
    return ratio - near, {axes: code - around(code) for axes, code in seen.items()}


def _places(ratio: np.ndarray, codes: dict, weight: np.ndarray, wide: Sequence[int]) -> dict[tuple, tuple]:
    """(answers, code, weight) for each place: (axes, flips, 0), (axes, (), "rows") or (as traced, (), (axis, shift))."""
    as_traced = tuple(range(ratio.ndim))
    flips = _flips(ratio.shape)
    found = {(axes, some, 0): (ratio, np.flip(code, some), weight) for axes, code in codes.items() for some in flips}
    for axes in codes:
        shape = tuple(ratio.shape[a] for a in axes)
        if shape != ratio.shape:  # tokens read in another order
            rows = (t.reshape(shape).transpose(np.argsort(axes)) for t in (ratio, weight))
            read, count = rows
            found[axes, (), "rows"] = (read, codes[as_traced], count)
    for axis, by in _shifts(ratio.shape, wide):
        n = ratio.shape[axis] - abs(by)
        here, there = np.arange(n) + max(by, 0), np.arange(n) + max(-by, 0)
        taken = (ratio.take(here, axis), codes[as_traced].take(there, axis), weight.take(here, axis))
        found[as_traced, (), (axis, by)] = taken
    return found


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


def _shifts(shape: Sequence[int], wide: Sequence[int]) -> list[tuple[int, int]]:
    return [(axis, by) for axis in wide if shape[axis] > 2 * SHIFT for by in (-SHIFT, SHIFT)]


def _fit(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> float:
    """Weighted correlation (Pearson's)."""
    total = weight.sum() or 1.0
    a, b = a - (weight * a).sum() / total, b - (weight * b).sum() / total
    bottom = np.sqrt((weight * a * a).sum() * (weight * b * b).sum())
    return float((weight * a * b).sum() / bottom) if bottom > 0 else 0.0
