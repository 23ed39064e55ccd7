"""A 3D network that sees the volume in one piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .tiling import Floats, Region, Stitcher, Tile, Tiling, Weights

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WholeTiling(Tiling):
    """One tile."""

    mode = "whole"

    @classmethod
    def laid_out(cls, spatial: Any, shape: tuple[int, int, int], multiple: Sequence[int], at_once: int) -> Tiling:
        """See :class:`Tiling`."""
        return cls(shape, shape, (Tile((0, 0, 0)),), at_once)

    def pieces(self, x: torch.Tensor) -> Iterator[tuple[Tile, torch.Tensor]]:
        """See :class:`Tiling`."""
        yield self.tiles[0], x

    def region_weights(self, region: Region, t: Tile, voxels: Stitcher, shared: bool) -> Weights:
        """See :class:`Tiling`."""
        return region((slice(None),))[None]

    def stitcher(self, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]) -> Stitcher:
        """See :class:`Tiling`."""
        return WholeStitcher(self, cells, stride, offset)


class WholeStitcher(Stitcher):
    """The one result as it is."""

    def __init__(self, tiling: Tiling, cells: Sequence[int], stride: Sequence[float], offset: Sequence[float]) -> None:
        super().__init__(tiling, cells, stride, offset)
        self.shape = self.cells

    def add(self, t: Tile, result: Floats, summed: bool = False) -> None:
        """See :class:`Stitcher`."""
        self._room(result)[...] = result[0]
