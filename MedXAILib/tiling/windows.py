"""A 3D network that sees overlapping windows, blended by Gaussian weights.

Window origins are multiples of the network's coarsest stride and the end is padded, so that the feature cells of
neighbouring windows coincide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .tiling import Floats, Index, Parts, Region, Stitcher, Tile, Tiling, Weights

if TYPE_CHECKING:
    import torch

Scalar = TypeVar("Scalar", np.float32, np.bool_)
SIGMA = 0.125
"""Deviation of a window's Gaussian weight as a part of its size (MONAI's default for sliding windows)."""


@dataclass(frozen=True)
class WindowTiling(Tiling):
    """Windows of one size, in rows and columns."""

    mode = "windows"

    @classmethod
    def laid_out(cls, spatial: Any, shape: tuple[int, int, int], multiple: Sequence[int], at_once: int) -> Tiling:
        """See :class:`Tiling`."""
        rows = zip(shape, spatial.size, multiple, strict=True)
        starts = [window_starts(n, size, spatial.overlap, m) for n, size, m in rows]
        return cls(shape, tuple(spatial.size), tuple(Tile(at) for at in product(*starts)), at_once)

    def pieces(self, x: torch.Tensor) -> Iterator[tuple[Tile, torch.Tensor]]:
        """See :class:`Tiling`."""
        around = None
        for t in self.tiles:
            box: Index = (..., *(slice(o, o + n) for o, n in zip(t.at, self.size, strict=True)))
            piece = x[box]
            if piece.shape[2:] != self.size:
                if around is None:  # each input's own, so that no score depends on what else is scored beside it
                    around = x.detach().flatten(1).amin(1).view(-1, 1, 1, 1, 1)
                padded = around.expand(*piece.shape[:2], *self.size).clone()
                there: Index = (..., *(slice(n) for n in piece.shape[2:]))
                padded[there] = piece
                piece = padded
            yield t, piece

    def region_weights(self, region: Region, t: Tile, voxels: Stitcher, shared: bool) -> Weights:
        """See :class:`Tiling`."""
        piece = region(tuple(slice(o, o + n) for o, n in zip(t.at, self.size, strict=True)))
        padded = np.zeros(self.size, np.float32)
        padded[tuple(slice(0, n) for n in piece.shape)] = piece
        return (padded * voxels.fraction(t) if shared and padded.any() else padded)[None]

    def stitcher(self, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]) -> Stitcher:
        """See :class:`Tiling`."""
        return WindowStitcher(self, cells, stride, offset)

    @property
    def joint(self) -> bool:
        """See :class:`Tiling`."""
        return len(self.tiles) > 1

    @property
    def overlapping(self) -> bool:
        """See :class:`Tiling`."""
        return True


def window_starts(length: int, size: int, overlap: float, multiple: int) -> list[int]:
    """Origins along one axis: steps of size * (1 - overlap), rounded down to ``multiple``, until the end is covered."""
    step = max(multiple, int(size * (1 - overlap)) // multiple * multiple)
    return list(range(0, max(length - size, 0) + step, step)) if length > size else [0]


def importance(
    size: Sequence[int],
    stride: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    cells: Sequence[int] | None = None,
) -> list[Floats]:
    """Gaussian weight of the voxels of a window, or of its feature cells (at offset + stride * n), float32 in (0, 1]: one
    line for each axis, whose product is the weight."""
    lines = []
    for axis, n in enumerate(size):
        at = np.arange((cells or size)[axis]) * (stride[axis] if stride else 1) + (offset[axis] if offset else 0)
        line = np.exp(-0.5 * ((at - (n - 1) / 2) / (SIGMA * n)) ** 2)
        lines.append(np.maximum(line, 1e-3).astype(np.float32))
    return lines


def product_of(lines: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    """The outer product of one line for each axis."""
    result = lines[0]
    for line in lines[1:]:
        result = result[..., None] * line
    return result


class WindowStitcher(Stitcher):
    """Means weighted by each window's Gaussian, or sums."""

    def __init__(self, tiling: Tiling, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]) -> None:
        super().__init__(tiling, cells, stride, offset)
        last = [max(t.at[axis] for t in tiling.tiles) for axis in range(3)]
        self.shape = tuple(round(o / s) + n for o, s, n in zip(last, self.stride, self.cells, strict=True))
        self.weight = importance(tiling.size, self.stride, self.offset, self.cells)
        # windows stand in rows and columns, so their weights' sum is a product of lines too
        self.total = [np.zeros(n, np.float32) for n in self.shape]
        for axis, (total, line) in enumerate(zip(self.total, self.weight, strict=True)):
            for start in {self._where(t)[axis].start for t in tiling.tiles}:
                total[start : start + len(line)] += line

    def _where(self, t: Tile) -> tuple[slice, ...]:
        starts = [round(o / s) for o, s in zip(t.at, self.stride, strict=True)]
        return tuple(slice(a, a + n) for a, n in zip(starts, self.cells, strict=True))

    def fraction(self, t: Tile) -> Floats:
        """The part that a window's cells have in the stitched values: weights that sum to 1 over the windows."""
        rows = zip(self.weight, self.total, self._where(t), strict=True)
        return product_of([line / total[where] for line, total, where in rows])

    def inside(self, t: Tile) -> NDArray[np.bool_]:
        """Which cells of a window lie in the volume, at least in part; the others are padding alone."""
        rows = zip(self._within(), self._where(t), strict=True)
        return product_of([line[where] for line, where in rows])

    def parts(self, t: Tile) -> Parts:
        """See :class:`Stitcher`."""
        return self.fraction(t), self.inside(t).astype(np.float32)

    @property
    def count(self) -> int:
        """Cells of the whole that lie in the volume at least in part."""
        return int(np.prod([line.sum() for line in self._within()]))

    def _within(self) -> list[NDArray[np.bool_]]:
        """One line for each axis, true where a cell (as long as the stride) lies in the volume at least in part."""
        lines = []
        for n, stride, offset, length in zip(self.shape, self.stride, self.offset, self.tiling.shape, strict=True):
            centre = offset + stride * np.arange(n)
            lines.append((centre + stride / 2 > -0.5) & (centre - stride / 2 < length - 0.5))
        return lines

    def add(self, t: Tile, result: Floats, summed: bool = False) -> None:
        """See :class:`Stitcher`."""
        where: Index = (..., *self._where(t))
        self._room(result)[where] += result[0] if summed else result[0] * self.fraction(t)

    @property
    def values(self) -> Floats:
        """Without the cells that lie in the padding at their end."""
        inside: Index = (..., *(slice(int(np.flatnonzero(line)[-1]) + 1) for line in self._within()))
        return np.ascontiguousarray(super().values[inside])

    def reach(
        self, seen: Sequence[tuple[float, float]] | None, extent: Sequence[tuple[float, float]]
    ) -> tuple[tuple[float, float], ...]:
        """See :class:`Stitcher`."""
        return super().reach(None, extent)
