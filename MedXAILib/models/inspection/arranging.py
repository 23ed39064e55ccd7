"""How the elements of a tensor, each with its place, become a grid of cells: in rows and columns, or scattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .cells import Arrangement, Cells
from .coordinates import varies

if TYPE_CHECKING:
    import torch

    from .places import Place

NEAR = 0.75
"""Cells of an even grid may lie so far, in cells, from the middle of what they see."""
SAME = 1e-3
"""Coordinates nearer than this, in parts of a cell, are the same."""


def arrange(place: Place, sizes: tuple[int, ...], voxels: Sequence[int]) -> tuple[Cells, Arrangement] | None:
    """The grid of cells that the elements of a tensor are; None where they are none.

    :param sizes: of the tensor.
    :param voxels: of the input, its spatial axes.
    """
    if len(sizes) < 2 or all(t.isnan().all() for t in place.grid[1:]):
        return None
    # what was averaged over an axis of the input is one cell along it
    at, grid = (
        [_in_the_middle(t, (n - 1) / 2) for t, n in zip(lines[1:], voxels, strict=True)]
        for lines in (place.at, place.grid)
    )
    axes = _batch_and_channel(sizes, grid, len(voxels))
    if axes is None:
        return None
    batch, channel = axes
    if channel is not None:
        joined = [line for t in grid if (line := _over_channels(t, channel)) is not None]
        if len(joined) < len(grid):
            return None  # its channels lie at different places
        at, grid = [t.nanmean(channel, keepdim=True) for t in at], joined
    carriers = [axis for axis in range(len(sizes)) if any(t.shape[axis] > 1 for t in grid)]
    if not carriers:
        return None
    if batch is not None and sizes[batch] > 1:  # copies of the one sample
        carriers, batch = sorted([batch, *carriers]), None
    spread = Spread(at=at, grid=grid, field=place.field[1:], seen=place.seen[1:], sizes=sizes, voxels=voxels)
    found = _in_rows(spread, carriers, batch, channel)
    return found or _scattered(spread, carriers, batch, channel)


@dataclass(frozen=True, eq=False, kw_only=True)
class Spread:
    """Where the elements of a tensor lie along the spatial axes of the input: see :class:`.places.Place`.

    :ivar sizes: of the tensor; ``voxels`` of the input.
    """

    at: list[torch.Tensor]
    grid: list[torch.Tensor]
    field: tuple[float, ...]
    seen: tuple[tuple[float, float], ...]
    sizes: tuple[int, ...]
    voxels: Sequence[int]


def _in_the_middle(t: torch.Tensor, value: float) -> torch.Tensor:
    """A coordinate of nothing at all is the middle."""
    return t.nan_to_num(value) if t.numel() == 1 else t


def _batch_and_channel(
    sizes: Sequence[int], grid: Sequence[torch.Tensor], dimensions: int
) -> tuple[int | None, int | None] | None:
    """The axes of batch and channel: of those that carry no place, the first one, and the one of several channels."""
    free = [axis for axis in range(len(sizes)) if all(t.shape[axis] == 1 for t in grid)]
    ordinary = len(sizes) == dimensions + 2
    if ordinary and free[:2] == [0, 1] and all(sizes[axis] == 1 for axis in free[2:]):
        return 0, 1
    wide = [axis for axis in free if sizes[axis] > 1]
    if len(wide) > 1:
        return None
    near = [axis for axis in (1, len(sizes) - 1) if _channels_lie_together(grid, axis)]
    channel: int | None
    if wide:
        channel = wide[0]
    elif ordinary and 1 in free:
        channel = 1
    elif near:
        channel = near[0]
    elif ordinary and free == [0]:
        return None  # its channels lie at different places
    else:
        channel = free[-1] if len(free) > 1 or 0 not in free else None
    return next((axis for axis in free if axis != channel), None), channel


def _channels_lie_together(grid: Sequence[torch.Tensor], axis: int) -> bool:
    """Whether an axis along which places vary holds channels all the same: neighbours merged into one cell."""
    shared = [
        t for t in grid if t.shape[axis] > 1 and t.numel() > t.shape[axis]
    ]  # else it is an axis of the grid itself
    return bool(shared) and all(_over_channels(t, axis) is not None for t in grid)


def _over_channels(t: torch.Tensor, channel: int) -> torch.Tensor | None:
    """Coordinates of all channels together; None where these lie far apart, but at a seam (of a roll, for instance)."""
    if t.shape[channel] == 1:
        return t
    apart = t.nan_to_num(-math.inf).amax(channel) - t.nan_to_num(math.inf).amin(channel)
    if apart.numel() > 1:  # else the input is one cell long
        steps = [t.diff(dim=axis).abs().flatten() for axis in range(t.ndim) if axis != channel and t.shape[axis] > 1]
        known = t[~t.isnan()]
        far = max(2.0, *(2 * float(s.nanmedian()) for s in steps), float(known.max() - known.min()) / 4)
        if float((apart <= far).double().mean()) <= 0.5:
            return None
    return t.nanmean(channel, keepdim=True)


def _in_rows(
    spread: Spread, carriers: Sequence[int], batch: int | None, channel: int | None
) -> tuple[Cells, Arrangement] | None:
    """Elements in rows and columns: each axis of the tensor runs along one axis of the input in even steps; None where it
    does not."""
    rows, used = [], []
    for c in range(len(spread.voxels)):
        mine = [axis for axis in carriers if spread.grid[c].shape[axis] > 1 or spread.at[c].shape[axis] > 1]
        row = _row(spread, c, mine)
        if row is None:
            return None
        rows.append(row)
        used += mine
    if sorted(used) != sorted(carriers):
        return None
    cells = Cells(
        tuple(row.stride for row in rows),
        tuple(row.offset for row in rows),
        spread.field,
        spread.seen,
        all(row.exact for row in rows),
    )
    return cells, Arrangement(
        batch=batch,
        channel=channel,
        sizes=tuple(1 if row.axis is None else spread.sizes[row.axis] for row in rows),
        axes=tuple(row.axis for row in rows),
        turned=tuple(row.turned for row in rows),
    )


class Row(NamedTuple):
    """Cells along one axis of the input.

    :ivar axis: of the tensor, None for a cell that is alone; ``turned`` where it runs backwards.
    """

    stride: float
    offset: float
    exact: bool
    axis: int | None = None
    turned: bool = False


def _row(spread: Spread, c: int, axes: Sequence[int]) -> Row | None:
    """The row along axis ``c`` of the input, for the axes of the tensor that run along it."""
    at, grid = spread.at[c], spread.grid[c]
    if len(axes) > 1:
        return None
    if not axes:
        return Row(_breadth(spread.seen[c]), float(at.flatten()[0]), True)
    even = _even(at.expand_as(grid).flatten(), grid.flatten(), spread.field[c], spread.voxels[c])
    if even is None:
        return None
    stride, offset, exact = even
    if stride < 0:
        return Row(-stride, offset + stride * (spread.sizes[axes[0]] - 1), exact, axes[0], True)
    return Row(stride, offset, exact, axes[0])


def _breadth(seen: tuple[float, float]) -> float:
    """Of a cell that is alone along an axis: what the network sees there."""
    return max(seen[1] - seen[0] + 1, 1.0)


def _even(at: torch.Tensor, grid: torch.Tensor, field: float, voxels: int) -> tuple[float, float, bool] | None:
    """(stride, offset, exact) of cells in even steps; None where there are none such near by."""
    import torch

    for line in (grid, at):
        if line.isnan().any():
            return None
        steps = line.diff()
        if not ((steps >= 0).all() or (steps <= 0).all()):
            continue
        n = len(line)
        trim = n // 4
        stride = float(line[n - 1 - trim] - line[trim]) / (n - 1 - 2 * trim)
        if stride == 0:
            continue
        offset = float((line - stride * torch.arange(n)).median())
        even = offset + stride * torch.arange(n, dtype=torch.float64)
        inside = _sees_no_border(at, even, field, voxels)
        near = NEAR * min(abs(stride), max(voxels / n, 1))
        reach = torch.where(inside, near, max(near, field / 2)) + 1e-9
        if bool(((even - at).abs() <= reach)[~at.isnan()].all()):
            exact = bool(((even - line).abs() <= 0.05 * abs(stride)).all())
            return _round(stride), _round(offset), exact
    return None


def _sees_no_border(at: torch.Tensor, grid: torch.Tensor, field: float, voxels: int) -> torch.Tensor:
    """Whether what an element sees ends before the border of the input: as far beyond its middle ``at`` as the kernel, which
    has its own in ``grid`` and may hang over an edge, ends before it."""
    half = (field - 1) / 2
    return (2 * at - (grid + half) > 1e-6) & (2 * at - (grid - half) < voxels - 1 - 1e-6)


def _round(value: float) -> float:
    return round(value, 9) + 0.0


def _scattered(
    spread: Spread, carriers: Sequence[int], batch: int | None, channel: int | None
) -> tuple[Cells, Arrangement] | None:
    """Elements in any order: each axis of the input is parted into cells, and each element belongs to one."""
    import torch

    whole = [spread.sizes[axis] for axis in carriers]
    rest = [axis for axis in range(len(spread.sizes)) if axis not in carriers]

    def flat(t: torch.Tensor) -> torch.Tensor:
        return t.permute(*carriers, *rest).flatten(len(carriers)).squeeze(-1).expand(whole).flatten()

    rows = zip(spread.at, spread.grid, spread.field, spread.voxels, strict=True)
    coordinates = [_nearer(flat(a), flat(g), f, n) for a, g, f, n in rows]
    known = ~torch.stack([t.isnan() for t in coordinates]).any(0)
    if not known.any():
        return None
    axes = max(1, sum(varies(t) for t in spread.grid))
    lines = [_lattice(t[known], max(whole) if len(whole) >= axes else max(whole) ** (1 / axes)) for t in coordinates]
    number, exact = torch.zeros(int(known.sum()), dtype=torch.long), True
    stride, offset, count, sight = [], [], [], []
    for t, (step, first, cells), width, n in zip(
        coordinates, lines, spread.field, map(_breadth, spread.seen), strict=True
    ):
        if cells == 1:
            step = n
        here = _nearest((t[known] - first) / step).long()
        exact &= cells == 1 or bool(((t[known] - first - here * step).abs() <= 0.05 * step).all())
        number = number * cells + here
        sight.append(width / 2 / step)
        stride.append(_round(step))
        offset.append(_round(first))
        count.append(cells)
    if math.prod(count) > 64 * len(number):
        return None
    order, cell = _order(known.nonzero().flatten(), number, math.prod(count))
    arrangement = Arrangement(
        batch=batch,
        channel=channel,
        sizes=tuple(count),
        carriers=tuple(carriers),
        order=order,
        cell=cell,
        elements=len(known),
        near=_nearest_taken(number, count, sight),
    )
    return Cells(tuple(stride), tuple(offset), spread.field, spread.seen, exact), arrangement


def _nearest_taken(number: torch.Tensor, count: Sequence[int], sight: Sequence[float]) -> torch.Tensor:
    """For each cell the nearest one in which elements lie, at most so many cells away along each axis; -1 for none.

    :param number: of the elements' cells.
    """
    import torch
    from scipy.ndimage import distance_transform_edt

    taken = np.zeros(count, bool)
    taken.reshape(-1)[number.numpy()] = True
    nearest = distance_transform_edt(~taken, return_distances=False, return_indices=True)
    away = np.abs(nearest - np.indices(count))
    seen = (away <= np.maximum(sight, 0).reshape(-1, *[1] * len(count))).all(0)
    return torch.from_numpy(np.where(seen, np.ravel_multi_index(tuple(nearest), count), -1).ravel())


def _nearer(at: torch.Tensor, grid: torch.Tensor, field: float, voxels: int) -> torch.Tensor:
    """The even grid's coordinates where they are even, and near the exact ones."""
    steps = grid[~grid.isnan()].unique().diff()
    if grid is at or not len(steps) or float(steps.max() - steps.min()) > 0.1 * float(steps.max()):
        return at
    step = float(steps.median())
    inside = _sees_no_border(at, grid, field, voxels)
    return grid if bool(((grid - at).abs() <= NEAR * step)[inside & ~at.isnan()].all()) else at


def _lattice(t: torch.Tensor, likely: float) -> tuple[float, float, int]:
    """(step, first, cells) of evenly spaced cells for coordinates in any order: in steps of which nearly all distances are
    multiples (at a seam some may lie between), else in steps as wide as the coordinates lie apart."""
    values = t.unique()
    gaps = values.diff()
    gaps = gaps[gaps > SAME * float(values[-1] - values[0]) / len(t)]
    most = len(gaps) + 1 if 2 * len(gaps) < len(t) else round(likely)
    if not len(gaps):
        return 1.0, float(values[0]), 1
    ordered = t.sort().values
    for step, tolerated in ((float(gaps.median()), 0.25), (float(gaps.min()), 0.0), (float(gaps.median()), 0.5)):
        for phase in (float(ordered[len(t) // 2]), float(ordered[len(t) // 4])):
            number = _nearest((t - phase) / step)
            beside = ((t - phase) / step - number).abs() > 0.1
            cells = int(number.max() - number.min()) + 1
            if float(beside.double().mean()) <= tolerated and cells <= 4 * most:
                return step, phase + float(number.min()) * step, cells
    cells = most
    return float(values[-1] - values[0]) / max(cells - 1, 1), float(values[0]), cells


def _nearest(number: torch.Tensor) -> torch.Tensor:
    """The nearest whole number, and half-way between two the lower one: the same from whichever cell numbers are counted."""
    return (number - 0.5 - 1e-6).ceil()


def _order(elements: torch.Tensor, cell: torch.Tensor, count: int) -> tuple[torch.Tensor | range, torch.Tensor | None]:
    """The elements in the order of their cells, where each cell is one; else as they come, and the cell of each."""
    import torch

    if len(cell) != count or len(cell.unique()) != count:
        return elements, cell
    order = torch.empty(count, dtype=torch.long)
    order[cell] = elements
    first = int(order[0])
    return (range(first, first + count) if torch.equal(order, torch.arange(first, first + count)) else order), None
