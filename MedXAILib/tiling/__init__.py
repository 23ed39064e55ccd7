"""How a network sees a prepared volume: slices, the whole, or overlapping windows; and how results become one again.

A tile is a batch of pieces of the prepared tensor. All grids of this room are in the tensor's own axis order
(d0, d1, d2); for slices d0 counts the slices.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..models.card import Slices, Whole, Windows
from .slices import SliceTiling
from .tiling import AT_ONCE, Region, Stitcher, Tile, Tiling
from .whole import WholeTiling
from .windows import WindowTiling

__all__ = ["AT_ONCE", "Region", "SliceTiling", "Stitcher", "Tile", "Tiling", "WholeTiling", "WindowTiling", "tile"]

KINDS: dict[type, type[Tiling]] = {Slices: SliceTiling, Whole: WholeTiling, Windows: WindowTiling}
"""A card's spatial mode, and how its network sees a volume."""


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
    return KINDS[type(spatial)].laid_out(spatial, shape, multiple, at_once)
