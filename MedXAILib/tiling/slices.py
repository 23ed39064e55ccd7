"""A 2D network over the slices of a volume: each slice is a sample with a score of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .tiling import Floats, Index, Region, Stitcher, Tile, Tiling, Weights, in_cells

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SliceTiling(Tiling):
    """Batches of slices."""

    mode = "slices"
    by_slices = True

    @classmethod
    def laid_out(cls, spatial: Any, shape: tuple[int, int, int], multiple: Sequence[int], at_once: int) -> Tiling:
        """See :class:`Tiling`."""
        return cls(shape, shape[1:], (), at_once).subset(range(shape[0]))

    def pieces(self, x: torch.Tensor) -> Iterator[tuple[Tile, torch.Tensor]]:
        """See :class:`Tiling`."""
        for t in self.tiles:
            piece = x[:, :, list(t.at)].transpose(1, 2)
            yield t, piece.reshape(-1, *piece.shape[2:])

    def region_weights(self, region: Region, t: Tile, voxels: Stitcher, shared: bool) -> Weights:
        """See :class:`Tiling`."""
        return region((list(t.at),))

    def stitcher(self, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]) -> Stitcher:
        """See :class:`Tiling`."""
        return SliceStitcher(self, cells, stride, offset)

    @property
    def samples(self) -> int:
        """See :class:`Tiling`."""
        return self.shape[0]

    @property
    def passes(self) -> int:
        """See :class:`Tiling`."""
        return self.shape[0]

    @property
    def explained(self) -> tuple[int, int, int]:
        """See :class:`Tiling`."""
        return (1, *self.shape[1:])

    def rows_of(self, number: int, t: Tile, values: Floats) -> Floats:
        """See :class:`Tiling`."""
        return values[list(t.at)]

    def of_samples(self, t: Tile, scores: torch.Tensor) -> torch.Tensor:
        """See :class:`Tiling`."""
        return scores

    def rows(self, t: Tile) -> Any:
        """See :class:`Tiling`."""
        return list(t.at)

    def holds(self, t: Tile, slices: set[int] | None) -> bool:
        """See :class:`Tiling`."""
        return slices is None or bool(slices.intersection(t.at))

    def one_by_one(self) -> Tiling:
        """See :class:`Tiling`."""
        return replace(self, at_once=1).subset(range(self.shape[0]))

    def subset(self, numbers: Sequence[int]) -> Tiling:
        """See :class:`Tiling`."""
        n = self.at_once
        tiles = tuple(Tile(tuple(numbers[a : a + n])) for a in range(0, len(numbers), n))
        return replace(self, tiles=tiles)

    def part(self, where: slice) -> Tiling:
        """See :class:`Tiling`."""
        count = len(range(self.shape[0])[where])
        return replace(self, shape=(count, *self.shape[1:])).subset(range(count))


class SliceStitcher(Stitcher):
    """Slices side by side."""

    def __init__(self, tiling: Tiling, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]) -> None:
        super().__init__(tiling, cells, stride, offset)
        self.shape = (tiling.shape[0], *self.cells)

    def add(self, t: Tile, result: Floats, summed: bool = False) -> None:
        """See :class:`Stitcher`."""
        channels = result.ndim - 1 - len(self.cells)
        where: Index = (..., list(t.at), *[slice(None)] * len(self.cells))
        self._room(result)[where] = np.moveaxis(result, 0, channels)

    def along(self) -> tuple[list[float], list[float]]:
        """See :class:`Stitcher`."""
        return [1.0, *self.stride], [0.0, *self.offset]

    def reach(
        self, seen: Sequence[tuple[float, float]] | None, extent: Sequence[tuple[float, float]]
    ) -> tuple[tuple[float, float], ...]:
        """See :class:`Stitcher`."""
        count, *size = self.tiling.shape
        seen = seen or [(0, n - 1) for n in size]
        return ((-0.5, count - 0.5), *in_cells(seen, extent[1:], self.stride, self.offset))
