"""The table of the chosen map's shares by anatomical structure."""

from __future__ import annotations

from typing import Any

import slicer

from MedXAILib.errors import InputError
from MedXAILib.findings.regions import anatomy_shares
from MedXAILib.geometry.resample import resample
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import labels_of

from . import results
from .cells import fill, percent
from .maplist import NO_MAP
from .maps import MapContents, StoredMap, seenBy

ANATOMY_TAB = 2


class AnatomyTable:
    """Shares by structure, computed while their table is open."""

    def __init__(self, ui: Any, contents: MapContents) -> None:
        self.ui, self.contents = ui, contents
        self.forget()

    def forget(self) -> None:
        """The scene is new."""
        self.shown: tuple | None = None
        self.shares: dict[tuple, list] = {}

    def show(self, node: Node | None, anatomy: Node | None) -> None:
        """The shares of a map by the structures of a segmentation node."""
        if self.ui.tables.currentIndex != ANATOMY_TAB:
            return
        key = (node and node.GetID(), anatomy and (anatomy.GetSegmentation().GetMTime(), placed(anatomy), placed(node)))
        if key == self.shown:
            return
        self.shown = key
        rows, empty = [], "Choose a segmentation above." if node else NO_MAP
        if node and anatomy:
            try:
                rows = self.rows(key, node, anatomy)
            except InputError as error:
                empty = str(error)
        signed = any(row.negative_share for row in rows)
        heads = ["structure", *(["for", "against"] if signed else ["map"]), "volume"]
        cells = [
            (
                (row.structure, None),
                percent(row.positive_share),
                *([percent(row.negative_share)] if signed else []),
                percent(row.volume_share),
            )
            for row in sorted(rows, key=lambda row: -row.positive_share)
        ]
        fill(self.ui.structures, heads, cells, empty=empty)

    def rows(self, key: tuple, node: Node, anatomy: Node) -> list:
        """The rows, computed once for a map and a segmentation as they are.

        :raises InputError: for a segmentation without segments, or where the volume was removed.
        """
        if key not in self.shares:
            with slicer.util.WaitCursor():
                self.shares[key] = anatomyShares(node, anatomy, self.contents.of(node))
        return self.shares[key]


def anatomyShares(node: Node, anatomy: Node, stored: StoredMap) -> list:
    """Shares of a map by structure on its volume's grid, as MedXAILib.outputs.folder writes them.

    :raises InputError: for a segmentation without segments, or where the volume was removed.
    """
    source = results.sourceOf(node)
    if source is None:
        raise InputError("The volume of this map was removed from the scene.")
    labels = labels_of(anatomy, source)
    mass = resample(stored.mass, labels.volume.grid)
    return anatomy_shares(mass, labels, seenBy(source, results.metadata(node)["grid"]))


def placed(node: Node | None) -> tuple:
    """Changes when a node is moved by its transforms."""
    transform = node and node.GetParentTransformNode()
    return (node and node.GetID(), transform and transform.GetTransformToWorldMTime())
