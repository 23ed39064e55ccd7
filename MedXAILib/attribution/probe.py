"""Are a layer's cells where the trace says? Two forward passes ask the network itself.

A faint signal (a constant, or noise where a norm would take a constant away) is added to the input, first where a fixed random code of blocks is on, then where it is off. A cell
answers the more to the first, the more of what it sees is on; the ratio of the two answers cancels its own sensitivity.
So the answers draw the code again, at the place where the cells really lie. It is compared with the code at the traced
place, and with what it would be were the grid flipped, its axes exchanged, or shifted by two cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..models.layers import as_grid
from ..progress import Progress
from .tape import glimpse, wide

if TYPE_CHECKING:
    import torch

    from ..models.layers import Layer

FAINT = 0.05
"""Size of the signal, in parts of the input's own."""
BLURS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
"""How wide a cell may see, in cells: deviations of a Gaussian. Answers and code are compared without what varies more
slowly than twice as wide, where neighbouring places look alike."""
SHIFT = 2
LEAST_CELLS = 8
LONG = 5
"""Cells along an axis from which on a place can be told to be wrong along it."""
MOST_CELLS = 32
"""Along an axis, of grids of more than its cube: the middle ones are compared."""
ROLLS = 24
FITS, BETTER = (0.3, 0.5), (0.1, 0.2)
"""To confirm, and to contradict: how well a place must correlate with the code at least, and by how much better than others."""
CLEARLY = 3.0
"""One place has to fit better than another by so many times what places fit that have nothing to do with it."""

CONFIRMED, CONTRADICTED, UNCLEAR = "confirmed", "contradicted", "unclear"


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
    :ivar axes, flips: the orientation that fits best: the axes of the traced grid in another order, then these reversed.
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
        total += random.standard_normal(count, dtype=np.float32)[np.ix_(*number)] / blocks
        blocks *= 2


def judge(answers: Answers, layer: Layer, at_rest: torch.Tensor) -> Verdict:
    """Whether the cells of a layer lie where the trace says.

    :param at_rest: the layer's activation for the input as it is, (1, ...).
    """
    nothing = Verdict(UNCLEAR, tuple(range(len(layer.shape) - 1)), (), 0.0, 0.0)
    if any(found[layer.name].shape != at_rest.shape for found in (answers.on, answers.off)):
        return nothing  # the signal changed what the network looks at
    ratio, strength = _ratio(answers, layer, at_rest)
    if ratio.size < LEAST_CELLS or (strength > 0).mean() < 0.2:
        return nothing
    code = at_cells(answers.code, layer)
    if ratio.size > MOST_CELLS**3:
        middle = tuple(slice((n - m) // 2, (n - m) // 2 + m) for n in ratio.shape for m in [min(n, MOST_CELLS)])
    else:
        middle = ()
    if not layer.mixed and not layer.hidden and _answers_from_elsewhere(answers.code, layer, ratio, strength):
        return nothing._replace(what=CONTRADICTED)
    return compare(ratio[middle], code[middle], bool(layer.hidden))


def _ratio(answers: Answers, layer: Layer, at_rest: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """For each cell the part of its answers that is to the code, and how strong they are."""

    def strength(changed: torch.Tensor) -> np.ndarray:
        moved = as_grid(changed.to(wide(changed)) - at_rest.to(wide(at_rest)), layer).double().pow(2).sum(1)
        return layer.arrangement.lay(moved)[0].sqrt().cpu().numpy()

    on, off = strength(answers.on[layer.name]), strength(answers.off[layer.name])
    both = on + off
    alive = both > 1e-6 * both.max() if both.max() > 0 else np.zeros(both.shape, bool)
    ratio = np.divide(on, both, out=np.zeros_like(on), where=alive)
    ratio[~alive] = ratio[alive].mean() if alive.any() else 0
    return ratio, np.where(alive, both, 0)


def at_cells(code: np.ndarray, layer: Layer) -> np.ndarray:
    """The mean of the code over each cell's own block of voxels, (*cells)."""
    for axis, (s, o, n) in enumerate(zip(layer.cells.stride, layer.cells.offset, layer.shape[1:], strict=True)):
        number = np.clip(np.floor((np.arange(code.shape[axis]) - o) / s + 0.5).astype(int), 0, n - 1)
        count = np.bincount(number, minlength=n)
        sums = np.zeros((*code.shape[:axis], n, *code.shape[axis + 1 :]), np.float32)
        np.add.at(np.moveaxis(sums, axis, 0), number, np.moveaxis(code, axis, 0))
        shape = [-1 if a == axis else 1 for a in range(code.ndim)]
        code = sums / np.maximum(count, 1).reshape(shape)
    return code


def _answers_from_elsewhere(code: np.ndarray, layer: Layer, ratio: np.ndarray, strength: np.ndarray) -> bool:
    """Whether cells answer to the code though none of it lies in what they can see, with two cells to spare."""
    from scipy.ndimage import maximum_filter

    reach = [int(f + 4 * s) | 1 for f, s in zip(layer.cells.field, layer.cells.stride, strict=True)]
    if any(r >= n for r, n in zip(reach, code.shape, strict=True)):
        return False
    near = maximum_filter(code, reach, mode="constant")
    rows = zip(layer.cells.offset, layer.cells.stride, layer.shape[1:], code.shape, strict=True)
    places = [np.clip(np.round(o + s * np.arange(k)).astype(int), 0, n - 1) for o, s, k, n in rows]
    blind = (near[np.ix_(*places)] == 0) & (strength > 0)
    return bool(blind.sum() >= 3 and (ratio[blind] > 0.01).mean() > 0.5)


def compare(ratio: np.ndarray, code: np.ndarray, any_orientation: bool = False) -> Verdict:
    """How well the answers fit the code at the traced place, and at others.

    :param ratio, code: (*cells).
    :param any_orientation: the place is a guess: the best of all orientations is judged.
    """
    found = []
    for blur in BLURS:
        for slow in (False, True):
            fits, chance = _fits(*_band(ratio, code, blur, slow))
            turned = [key for key in fits if not key[2]]
            best = max(turned, key=fits.get) if any_orientation else (tuple(range(ratio.ndim)), (), 0)
            others = [key for key in fits if key != best and not (any_orientation and key[2])]
            rival = max(others, key=fits.get, default=best)
            fit, other = fits[best], fits[rival]
            apart = (np.arctanh(min(fit, 0.999)) - np.arctanh(min(other, 0.999))) / chance
            what = _verdict(fit, other, apart)
            if what == CONTRADICTED and min((ratio.shape[a] for a in _moved(rival)), default=0) < LONG:
                what = UNCLEAR
            found.append((apart, Verdict(what, *best[:2], fit, other)))
    said = {verdict.what for _, verdict in found} - {UNCLEAR}
    if len(said) != 1:
        return max(found, key=lambda row: row[0])[1]._replace(what=UNCLEAR)
    return max((row for row in found if row[1].what in said), key=lambda row: abs(row[0]))[1]


def _moved(place: tuple) -> set[int]:
    """The axes along which a place differs from the traced one."""
    axes, flips, shift = place
    exchanged = {axis for n, axis in enumerate(axes) if n != axis}
    return exchanged | set(flips) | ({shift[0]} if shift else set())


def _verdict(fit: float, other: float, apart: float) -> str:
    """Of one band.

    :param apart: by how many standard errors the first fits better.
    """
    if apart >= CLEARLY and fit >= FITS[0] and fit - other >= BETTER[0]:
        return CONFIRMED
    if apart <= -CLEARLY and other >= FITS[1] and other - fit >= BETTER[1]:
        return CONTRADICTED
    return UNCLEAR


def _band(ratio: np.ndarray, code: np.ndarray, blur: float, slow: bool) -> tuple[np.ndarray, np.ndarray]:
    """Answers and code in one band: the code blurred as a cell of that width sees it, and both with what varies slowly or
    without it."""
    from scipy.ndimage import gaussian_filter

    seen = gaussian_filter(code, blur, mode="nearest") if blur else code
    wide = [2 * blur + 1.5 if n > 3 else 0 for n in ratio.shape]
    if slow or not any(wide):
        return ratio, seen
    return tuple(values - gaussian_filter(values, wide, mode="nearest") for values in (ratio, seen))


def _fits(ratio: np.ndarray, code: np.ndarray) -> tuple[dict, float]:
    """Correlation at each place (axes, flips, (axis, shift) or 0), and how well places fit that have nothing to do with it:
    the root mean square over the code rolled far away."""
    random = np.random.default_rng(0)
    fits = {}
    for axes, flips in orientations(ratio.shape):
        turned = np.flip(ratio.reshape([ratio.shape[a] for a in axes]).transpose(np.argsort(axes)), flips)
        fits[axes, flips, 0] = _fit(turned, code)
    as_traced = tuple(range(ratio.ndim)), ()
    for shift in _shifts(ratio.shape):
        fits[*as_traced, shift] = _shifted_fit(ratio, code, *shift)
    rolls = [[int(random.integers(n // 3, n - n // 3 + 1)) if n > 2 else 0 for n in ratio.shape] for _ in range(ROLLS)]
    elsewhere = [_fit(ratio, np.roll(code, roll, range(ratio.ndim))) for roll in rolls]
    return fits, max(float(np.sqrt(np.mean(np.square(elsewhere)))), 0.02)


def orientations(shape: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(order of the axes, axes that run backwards) of every way to read a grid; along an axis of one cell there is none."""
    long = [axis for axis, n in enumerate(shape) if n > 1]
    for order in permutations(long):
        axes = list(range(len(shape)))
        for place, axis in zip(long, order, strict=True):
            axes[place] = axis
        for number in range(1 << len(long)):
            yield tuple(axes), tuple(axis for n, axis in enumerate(long) if number >> n & 1)


def _shifts(shape: Sequence[int]) -> list[tuple[int, int]]:
    return [(axis, by) for axis, n in enumerate(shape) if n > 2 * SHIFT for by in (-SHIFT, SHIFT)]


def _shifted_fit(ratio: np.ndarray, code: np.ndarray, axis: int, by: int) -> float:
    n = ratio.shape[axis] - abs(by)
    here, there = (np.arange(n) + max(by, 0), np.arange(n) + max(-by, 0))
    return _fit(ratio.take(here, axis), code.take(there, axis))


def _fit(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation."""
    a, b = a - a.mean(), b - b.mean()
    bottom = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / bottom) if bottom > 0 else 0.0
