"""How a network sees a prepared volume: slices, the whole, or overlapping windows; and how results become one again.

A tile is a batch of pieces of the prepared tensor. All grids of this module are in the tensor's own axis order
(d0, d1, d2); for slices d0 counts the slices. Window origins are multiples of the network's coarsest stride and the
end is padded, so that the feature cells of neighbouring windows coincide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from .models.card import Slices, Whole, Windows

AT_ONCE = 16
"""Slices in a batch."""
SIGMA = 0.125
"""Deviation of a window's Gaussian weight as a share of its size (MONAI's default for sliding windows)."""


@dataclass(frozen=True)
class Tile:
    """``at``: slice numbers (slices), or the window's origin (d0, d1, d2); (0, 0, 0) for the whole."""

    at: tuple[int, ...]


@dataclass(frozen=True)
class Tiling:
    """The tiles of one prepared tensor.

    :ivar mode: slices, whole or windows.
    :ivar shape: (d0, d1, d2) of the prepared tensor.
    :ivar size: spatial shape of a piece as the network gets it: (d1, d2) for slices, else three numbers.
    :ivar at_once: the largest batch that the network takes.
    """

    mode: str
    shape: tuple[int, int, int]
    size: tuple[int, ...]
    tiles: tuple[Tile, ...]
    at_once: int = AT_ONCE

    def pieces(self, x: torch.Tensor) -> Iterator[tuple[Tile, torch.Tensor]]:
        """The tiles with their tensors (batch, channel, *size), in order.

        :param x: (n, channel, d0, d1, d2): n variants of the prepared tensor; for slices each gives its slices,
            the slices of the first variant first.
        """
        import torch

        for tile in self.tiles:
            if self.mode == "slices":
                piece = x[:, :, list(tile.at)].transpose(1, 2)
                yield tile, piece.reshape(-1, *piece.shape[2:])
            elif self.mode == "whole":
                yield tile, x
            else:
                piece = x[(..., *(slice(o, o + n) for o, n in zip(tile.at, self.size, strict=True)))]
                missing = [n - have for n, have in zip(self.size, piece.shape[2:], strict=True)]
                if any(missing):
                    pad = [p for m in reversed(missing) for p in (0, m)]
                    piece = torch.nn.functional.pad(piece, pad, value=float(x.min()))
                yield tile, piece

    def one_by_one(self) -> Tiling:
        """The same slices, each a tile."""
        return replace(self, at_once=1).subset(range(self.shape[0])) if self.mode == "slices" else self

    def subset(self, numbers: Sequence[int]) -> Tiling:
        """The same slices tiling over some slices only."""
        n = self.at_once
        tiles = tuple(Tile(tuple(numbers[a : a + n])) for a in range(0, len(numbers), n))
        return Tiling(self.mode, self.shape, self.size, tiles, n)


def tile(
    spatial: Slices | Whole | Windows,
    shape: tuple[int, int, int],
    multiple: Sequence[int] = (1, 1, 1),
    at_once: int = AT_ONCE,
) -> Tiling:
    """Lay out the tiles.

    :param spatial: the card's spatial mode.
    :param shape: (d0, d1, d2) of the prepared tensor.
    :param multiple: windows only: origins are multiples of these (the network's coarsest stride, for each axis).
    :param at_once: the largest batch that the network takes.
    """
    if spatial.mode == "slices":
        return Tiling("slices", shape, shape[1:], (), at_once).subset(range(shape[0]))
    if spatial.mode == "whole":
        return Tiling("whole", shape, shape, (Tile((0, 0, 0)),), at_once)
    rows = zip(shape, spatial.size, multiple, strict=True)
    starts = [window_starts(n, size, spatial.overlap, m) for n, size, m in rows]
    return Tiling("windows", shape, tuple(spatial.size), tuple(Tile(at) for at in product(*starts)), at_once)


def window_starts(length: int, size: int, overlap: float, multiple: int) -> list[int]:
    """Origins along one axis: steps of size * (1 - overlap), rounded down to ``multiple``, until the end is covered."""
    step = max(multiple, int(size * (1 - overlap)) // multiple * multiple)
    return list(range(0, max(length - size, 0) + step, step)) if length > size else [0]


def ranges(numbers: Sequence[int]) -> str:
    """0-3, 7 for [0, 1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)


def importance(
    size: Sequence[int],
    stride: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    cells: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Gaussian weight of the voxels of a window, or of its feature cells (at offset + stride * n), float32 in (0, 1]: one
    line for each axis, whose product is the weight."""
    lines = []
    for axis, n in enumerate(size):
        at = np.arange((cells or size)[axis]) * (stride[axis] if stride else 1) + (offset[axis] if offset else 0)
        line = np.exp(-0.5 * ((at - (n - 1) / 2) / (SIGMA * n)) ** 2)
        lines.append(np.maximum(line, 1e-3).astype(np.float32))
    return lines


def product_of(lines: Sequence[np.ndarray]) -> np.ndarray:
    """The outer product of one line for each axis."""
    result = lines[0]
    for line in lines[1:]:
        result = result[..., None] * line
    return result


class Stitcher:
    """Puts tile results back in place: of windows as means weighted by each window's Gaussian, or as sums.

    :param tiling: the tiles.
    :param stride, offset: where the result's cells lie in voxels of a piece (1 and 0 for voxel-wise results).
    :param cells: cells of one piece along each of its axes.
    """

    def __init__(self, tiling: Tiling, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]):
        self.tiling, self.cells, self.stride, self.offset = tiling, tuple(cells), tuple(stride), tuple(offset)
        if tiling.mode == "windows":
            last = [max(t.at[axis] for t in tiling.tiles) for axis in range(3)]
            self.shape = tuple(round(o / s) + n for o, s, n in zip(last, self.stride, self.cells, strict=True))
            self.weight = importance(tiling.size, self.stride, self.offset, self.cells)
            # windows stand in rows and columns, so their weights' sum is a product of lines too
            self.total = [np.zeros(n, np.float32) for n in self.shape]
            for axis, (total, line) in enumerate(zip(self.total, self.weight, strict=True)):
                for start in {self._where(t)[axis].start for t in tiling.tiles}:
                    total[start : start + len(line)] += line
        else:
            self.shape = (tiling.shape[0], *self.cells) if tiling.mode == "slices" else self.cells
        self.sum = None

    def _where(self, t: Tile) -> tuple[slice, ...]:
        starts = [round(o / s) for o, s in zip(t.at, self.stride, strict=True)]
        return tuple(slice(a, a + n) for a, n in zip(starts, self.cells, strict=True))

    def share(self, t: Tile) -> np.ndarray:
        """The part that a window's cells have in the stitched values: weights that sum to 1 over the windows."""
        rows = zip(self.weight, self.total, self._where(t), strict=True)
        return product_of([line / total[where] for line, total, where in rows])

    def inside(self, t: Tile) -> np.ndarray:
        """Windows: which cells of a tile lie in the volume, at least in part; the others are padding alone."""
        rows = zip(self._within(), self._where(t), strict=True)
        return product_of([line[where] for line, where in rows])

    @property
    def count(self) -> int:
        """Cells of the whole; of one slice of slices; of windows, those that lie in the volume at least in part."""
        if self.tiling.mode == "windows":
            return int(np.prod([line.sum() for line in self._within()]))
        return int(np.prod(self.cells))

    def _within(self) -> list[np.ndarray]:
        """One line for each axis, true where a cell (as long as the stride) lies in the volume at least in part."""
        lines = []
        for n, stride, offset, length in zip(self.shape, self.stride, self.offset, self.tiling.shape, strict=True):
            centre = offset + stride * np.arange(n)
            lines.append((centre + stride / 2 > -0.5) & (centre - stride / 2 < length - 0.5))
        return lines

    def add(self, t: Tile, result: np.ndarray, summed: bool = False) -> None:
        """:param result: (batch, *channels, *cells); the batch holds the slices, or is 1.
        :param summed: windows: plain sums instead of weighted means.
        """
        channels = result.shape[1 : result.ndim - len(self.cells)]
        if self.sum is None:
            self.sum = np.zeros((*channels, *self.shape), np.float32)
        if self.tiling.mode == "slices":
            self.sum[(..., list(t.at), *[slice(None)] * len(self.cells))] = np.moveaxis(result, 0, len(channels))
        elif self.tiling.mode == "whole":
            self.sum[...] = result[0]
        else:
            self.sum[(..., *self._where(t))] += result[0] if summed else result[0] * self.share(t)

    @property
    def values(self) -> np.ndarray:
        """The stitched values (*channels, *cells), of windows without the cells that lie in the padding at their end; 0
        where nothing was added."""
        whole = np.zeros(self.shape, np.float32) if self.sum is None else self.sum
        if self.tiling.mode != "windows":
            return whole
        ends = [int(np.flatnonzero(line)[-1]) + 1 for line in self._within()]
        return np.ascontiguousarray(whole[(..., *map(slice, ends))])

    def affine(self, affine: np.ndarray) -> np.ndarray:
        """4x4 of the stitched cells in (d0, d1, d2) order, from the prepared tensor's ``affine``.

        Cell n of an axis has its centre at voxel offset + stride * n, so the matrix is
        affine @ [diag(stride), offset]: leaving out the offset would shift the map by half a cell and more.
        """
        stride, offset = list(self.stride), list(self.offset)
        if self.tiling.mode == "slices":
            stride, offset = [1.0, *stride], [0.0, *offset]
        cell = np.diag([*stride, 1.0])
        cell[:3, 3] = offset
        return affine @ cell
