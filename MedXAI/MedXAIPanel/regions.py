"""The tables of the chosen map's hot regions and superpixels; which of them is outlined, and strongest."""

from __future__ import annotations

from typing import Any

from MedXAILib.mrml.host import Node

from . import results
from .cells import Color, fill, number, percent, sizeOf
from .maplist import NO_MAP
from .maps import partsOf

SUPERPIXELS_TAB = 1

Found = tuple[list[float], str]
"""Where a click leads to, world RAS mm, and the name of what lies there."""


class RegionTables:
    """Hot regions and superpixels of one map.

    :ivar strong: the name of the one whose outline is strong, the others faint; None for all alike.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.node: Node | None = None
        self.strong: str | None = None

    def show(self, node: Node | None) -> None:
        """Show a map's tables, or that there are none."""
        self.node, self.strong = node, None
        found = results.metadata(node) if node else {}
        self.showRegions(node, found.get("regions", {}))
        self.showSuperpixels(node, found.get("superpixels", {}))

    def showRegions(self, node: Node | None, found: dict) -> None:
        """The hot regions, the largest share of the map first."""
        colors = colorsOf(node, results.REGIONS, found)
        cells = [
            ((row["name"], colors.get(row["name"])), sizeOf(row), percent(row["mass_fraction"]), number(row["peak"]))
            for row in found.get("table", [])
        ]
        empty = "Nothing speaks in favour in this map." if node else NO_MAP
        fill(self.ui.regions, ["region", "volume", "share", "peak"], cells, empty=empty)

    def showSuperpixels(self, node: Node | None, found: dict) -> None:
        """The superpixels by falling coefficient."""
        colors = colorsOf(node, results.SUPERPIXELS, found)
        cells = [
            ((row["name"], colors.get(row["name"])), number(row["coefficient"]), sizeOf(row))
            for row in sorted(found.get("table", []), key=lambda row: -row["coefficient"])
        ]
        empty = "This method has no superpixels." if node else NO_MAP
        fill(self.ui.superpixelTable, ["superpixel", "coefficient", "volume"], cells, empty=empty)

    def regionAt(self, row: int) -> Found | None:
        """The centre of mass of the hot region in a row."""
        if not self.node:
            return None
        name = self.ui.regions.item(row, 0).text()
        found = named(name, results.metadata(self.node)["regions"])
        return (results.toWorld(self.node, found["centroid"]), name) if found else None

    def superpixelAt(self, row: int) -> Found | None:
        """The voxel of the superpixel in a row that lies nearest to its centre."""
        if not self.node or not partsOf(self.node).get(results.SUPERPIXELS):
            return None
        name = self.ui.superpixelTable.item(row, 0).text()
        found = named(name, results.metadata(self.node)["superpixels"])
        if found is None:
            return None
        place = results.toWorld(self.node, found["place"]) if found.get("place") else self.centreOf(name)
        return (place, name) if place else None

    def centreOf(self, name: str) -> list[float] | None:
        """The middle, world RAS mm, of a superpixel of a map that does not tell its place, as older ones do not."""
        segmentation = partsOf(self.node)[results.SUPERPIXELS]
        found = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        centre = segmentation.GetSegmentCenterRAS(found) if found else None
        return None if centre is None else list(centre)

    def outlined(self, node: Node) -> tuple[str, str | None]:
        """The role of the part of a map that is outlined, superpixels while their table is open, else the hot regions; and
        the name of its strong one."""
        superpixels = self.ui.tables.currentIndex == SUPERPIXELS_TAB and node.GetNodeReference(results.SUPERPIXELS)
        role = results.SUPERPIXELS if superpixels else results.REGIONS
        return role, self.strong if node is self.node else None


def named(name: str, found: dict) -> dict | None:
    """The row of this name."""
    return next((row for row in found["table"] if row["name"] == name), None)


def colorsOf(node: Node | None, role: str, found: dict) -> dict[str, Color]:
    """Segment name -> colour, as the segments have now."""
    colors = {name: tuple(color) for _, name, color in found.get("rows", [])}
    segmentation = node.GetNodeReference(role) if node else None
    if segmentation is not None:
        segments = segmentation.GetSegmentation()
        each = [segments.GetNthSegment(n) for n in range(segments.GetNumberOfSegments())]
        colors |= {segment.GetName(): segment.GetColor() for segment in each}
    return colors
