"""What every way of seeing a volume has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..geometry.affine import Affine

if TYPE_CHECKING:
    import torch

AT_ONCE = 16
"""Slices in a batch."""
Floats = NDArray[np.float32]
Weights = NDArray[np.float32] | NDArray[np.bool_]
Index = tuple[EllipsisType | slice | list[int], ...]
Region = Callable[[tuple[Any, ...]], NDArray[np.bool_]]
"""The voxels of a region within a box: index (d0, d1, d2) of slices or lists -> bool array."""
Parts = tuple[Floats | float, Floats | float]


@dataclass(frozen=True)
class Tile:
    """``at``: slice numbers (slices), or the window's origin (d0, d1, d2); (0, 0, 0) for the whole."""

    at: tuple[int, ...]


@dataclass(frozen=True)
class Tiling(ABC):
    """The tiles of one prepared tensor.

    :ivar mode: the name that cards and records give it.
    :ivar by_slices: each slice is a sample with a score of its own; else the whole has one.
    :ivar joint: several tiles make up one score, so that statistics of the whole need a round over all of them.
    :ivar shape: (d0, d1, d2) of the prepared tensor.
    :ivar size: spatial shape of a piece as the network gets it: (d1, d2) for slices, else three numbers.
    :ivar at_once: the largest batch that the network takes.
    """

    mode: ClassVar[str]
    by_slices: ClassVar[bool] = False
    shape: tuple[int, int, int]
    size: tuple[int, ...]
    tiles: tuple[Tile, ...]
    at_once: int = AT_ONCE

    @classmethod
    @abstractmethod
    def laid_out(cls, spatial: Any, shape: tuple[int, int, int], multiple: Sequence[int], at_once: int) -> Tiling:
        """See :func:`MedXAILib.tiling.tile`."""

    @abstractmethod
    def pieces(self, x: torch.Tensor) -> Iterator[tuple[Tile, torch.Tensor]]:
        """The tiles with their tensors (batch, channel, *size), in order.

        :param x: (n, channel, d0, d1, d2): n variants of the prepared tensor; for slices each gives its slices,
            the slices of the first variant first.
        """

    @abstractmethod
    def region_weights(self, region: Region, t: Tile, voxels: Stitcher, shared: bool) -> Weights:
        """The weight of each voxel of a tile, (batch, *size), in a score that is summed over a region.

        :param voxels: stitches voxel-wise results of this tiling.
        :param shared: over windows: a voxel's weight is shared by the windows that hold it, as its stitched logit is, so that
            overlaps do not count twice.
        """

    @abstractmethod
    def stitcher(self, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]) -> Stitcher:
        """Puts results of the tiles together.

        :param cells: cells of one piece along each of its axes.
        :param stride, offset: where these lie in voxels of a piece (1 and 0 for voxel-wise results).
        """

    @property
    def joint(self) -> bool:
        """See :class:`Tiling`."""
        return False

    @property
    def overlapping(self) -> bool:
        """Whether the tiles are windows, each of which has a score of its own beside its part in that of the whole."""
        return False

    @property
    def samples(self) -> int:
        """How many scores of their own there are: one for each slice, else one."""
        return 1

    @property
    def passes(self) -> int:
        """How many pieces go through the network for the whole."""
        return len(self.tiles)

    @property
    def explained(self) -> tuple[int, int, int]:
        """(d0, d1, d2) of what has one score: of a slice d0 is 1."""
        return self.shape

    def rows_of(self, number: int, t: Tile, values: Floats) -> Floats:
        """Of one value for each piece, those of the number-th tile."""
        return values[number : number + 1]

    def of_samples(self, t: Tile, scores: torch.Tensor) -> torch.Tensor:
        """Scores of a tile's batch as parts of the samples' scores: one sum, or one for each slice."""
        return scores.sum()[None]

    def rows(self, t: Tile) -> Any:
        """Which samples a tile holds, as an index."""
        return slice(None)

    def holds(self, t: Tile, slices: set[int] | None) -> bool:
        """Whether a tile shows any of these slices; None is all there are."""
        return True

    def one_by_one(self) -> Tiling:
        """The same slices, each a tile."""
        return self

    def subset(self, numbers: Sequence[int]) -> Tiling:
        """The same tiling over some slices only; itself where there are none."""
        return self

    def part(self, where: slice) -> Tiling:
        """How one sample, a box of the prepared tensor along d0, is seen by itself."""
        return self

    def voxels(self) -> Stitcher:
        """A stitcher of voxel-wise results."""
        return self.stitcher(self.size, (1,) * len(self.size), (0,) * len(self.size))


class Stitcher(ABC):
    """Puts tile results back in place.

    :ivar shape: of the stitched cells.
    """

    shape: tuple[int, ...]

    def __init__(self, tiling: Tiling, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]) -> None:
        self.tiling, self.cells, self.stride, self.offset = tiling, tuple(cells), tuple(stride), tuple(offset)
        self.sum: Floats | None = None

    @abstractmethod
    def add(self, t: Tile, result: Floats, summed: bool = False) -> None:
        """:param result: (batch, *channels, *cells); the batch holds the slices, or is 1.
        :param summed: windows: plain sums instead of weighted means.
        """

    def _room(self, result: Floats) -> Floats:
        if self.sum is None:
            channels = result.shape[1 : result.ndim - len(self.cells)]
            self.sum = np.zeros((*channels, *self.shape), np.float32)
        return self.sum

    @property
    def values(self) -> Floats:
        """The stitched values (*channels, *cells), float32; 0 where nothing was added."""
        return np.zeros(self.shape, np.float32) if self.sum is None else self.sum

    def parts(self, t: Tile) -> Parts:
        """The part that each cell of a tile has in the stitched values, and whether it lies in the volume at all: 1 and 1 where
        tiles do not overlap."""
        return 1.0, 1.0

    def fraction(self, t: Tile) -> Floats | float:
        """The first of :meth:`parts`."""
        return self.parts(t)[0]

    @property
    def count(self) -> int:
        """Cells of what has one score: of the whole, or of one slice."""
        return int(np.prod(self.cells))

    def affine(self, affine: Affine) -> Affine:
        """4x4 of the stitched cells in (d0, d1, d2) order, from the prepared tensor's ``affine``.

        Cell n of an axis has its centre at voxel offset + stride * n, so the matrix is
        affine @ [diag(stride), offset]: leaving out the offset would shift the map by half a cell and more.
        """
        stride, offset = self.along()
        cell = np.diag([*stride, 1.0])
        cell[:3, 3] = offset
        return affine @ cell

    def along(self) -> tuple[list[float], list[float]]:
        """Stride and offset along d0, d1, d2."""
        return list(self.stride), list(self.offset)

    def reach(
        self, seen: Sequence[tuple[float, float]] | None, extent: Sequence[tuple[float, float]]
    ) -> tuple[tuple[float, float], ...]:
        """How far the outermost cells hold, in cells: to the edge of what the network saw of the volume.

        :param seen: the first and the last voxel along each axis of a piece that cells look at; None for all.
        :param extent: the first and the last voxel along d0, d1, d2 that the volume fills; beyond lies padding.
        """
        seen = seen or [(0, n - 1) for n in self.tiling.shape]
        return in_cells(seen, extent, self.stride, self.offset)


def in_cells(
    seen: Sequence[tuple[float, float]],
    extent: Sequence[tuple[float, float]],
    stride: Sequence[float],
    offset: Sequence[float],
) -> tuple[tuple[float, float], ...]:
    """Ends of what is both seen and filled, from voxels to cells."""
    ends = [(max(low, start), min(high, end)) for (low, high), (start, end) in zip(seen, extent, strict=True)]
    rows = zip(ends, stride, offset, strict=True)
    return tuple(((low - 0.5 - o) / s, (high + 0.5 - o) / s) for (low, high), s, o in rows)
