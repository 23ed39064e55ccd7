"""The table of the maps of a volume: which there are, and which are over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
import slicer

from MedXAILib.attribution.registry import method_title
from MedXAILib.mrml.host import Node

from . import results
from .cells import Cell, fill, fitHeight

NO_MAP = "There is no map of this volume yet: press Explain."


class MapList:
    """A row for each map, with a box that says whether it is over the volume."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.forget()

    def forget(self) -> None:
        """The scene is new."""
        self.listed: list[str] | None = None

    def show(self, maps: Sequence[Node], visible: Sequence[Node], chosen: Node | None) -> None:
        """List maps; ``visible``: those whose boxes are ticked, ``chosen``: the current row."""
        table, ids = self.ui.maps, [node.GetID() for node in maps]
        if ids != self.listed:
            self.listed = ids
            heads = ["", "class", "method", "layer"]
            fill(table, heads, [cells(node) for node in maps], stretched=(1, 3), empty=NO_MAP)
        fitHeight(table)
        for row, node in enumerate(maps):
            state = qt.Qt.Checked if node in visible else qt.Qt.Unchecked
            if table.item(row, 0).checkState() != state:
                table.item(row, 0).setCheckState(state)
        if maps and table.currentRow() != maps.index(chosen):
            table.setCurrentCell(maps.index(chosen), 1)

    def nodeOf(self, row: int) -> Node | None:
        """The map of a row; None where it was removed."""
        return slicer.mrmlScene.GetNodeByID(self.listed[row]) if self.listed and row < len(self.listed) else None

    def ticked(self) -> list[Node | None]:
        """The maps whose boxes are ticked."""
        rows = range(len(self.listed or ()))
        return [self.nodeOf(row) for row in rows if self.ui.maps.item(row, 0).checkState() == qt.Qt.Checked]


def cells(node: Node) -> list[Cell]:
    """A map's row."""
    found = results.metadata(node)
    title = found["title"]
    return [
        False,
        (found["target"], None, title),
        (method_title(found["method"]), None, title),
        (found["layer"], None, title),
    ]
