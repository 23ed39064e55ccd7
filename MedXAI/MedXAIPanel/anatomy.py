"""The table of the chosen map's fractions by anatomical structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from MedXAILib.errors import InputError
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import labels_of

from . import results
from .cells import fill, percent
from .client import Client
from .maplist import NO_MAP
from .sending import labelsRecord, mapRecord

ANATOMY_TAB = 2


class AnatomyTable:
    """Fractions by structure, which the worker computes while their table is open."""

    def __init__(self, ui: Any, client: Client) -> None:
        self.ui, self.client = ui, client
        self.forget()

    def forget(self) -> None:
        """The scene is new."""
        self.shown: tuple | None = None
        self.known: dict[tuple, dict] = {}

    def show(self, node: Node | None, anatomy: Node | None) -> None:
        """The fractions of a map by the structures of a segmentation node."""
        if self.ui.tables.currentIndex != ANATOMY_TAB:
            self.shown = None  # what could not be computed is asked for again when the table is opened again
            return
        key = (node and node.GetID(), anatomy and (anatomy.GetSegmentation().GetMTime(), placed(anatomy), placed(node)))
        if key == self.shown:
            return
        self.shown = key
        if node is None or anatomy is None:
            self.write([], "Choose a segmentation above." if node else NO_MAP)
        elif key in self.known:
            self.onAnswer(key, self.known[key])
        else:
            self.write([], "Computing...")
            try:
                self.ask(key, node, anatomy)
            except InputError as error:
                self.write([], str(error))

    def ask(self, key: tuple, node: Node, anatomy: Node) -> None:
        """Have the worker compute them.

        :raises InputError: for a segmentation without segments, or where the volume was removed.
        """
        source = results.sourceOf(node)
        if source is None:
            raise InputError("The volume of this map was removed from the scene.")
        labels = labels_of(anatomy, source)
        self.client.ask(
            "structures",
            lambda event: self.onAnswer(key, event),
            reference=self.client.handle(source),
            map=mapRecord(self.client, node),
            anatomy=labelsRecord(self.client, labels),
        )

    def onAnswer(self, key: tuple, event: dict) -> None:
        """The worker has answered."""
        if event["event"] == "result":
            self.known[key] = event
        if key == self.shown:
            self.write(event.get("structures", []), event.get("message", ""))

    def write(self, rows: Sequence[dict], empty: str) -> None:
        """Write the table; without rows, a sentence."""
        signed = any(row["negative_fraction"] for row in rows)
        heads = ["structure", *(["for", "against"] if signed else ["map"]), "volume"]
        cells = [
            (
                (row["structure"], None),
                percent(row["positive_fraction"]),
                *([percent(row["negative_fraction"])] if signed else []),
                percent(row["volume_fraction"]),
            )
            for row in sorted(rows, key=lambda row: -row["positive_fraction"])
        ]
        fill(self.ui.structures, heads, cells, empty=empty)


def placed(node: Node | None) -> tuple:
    """Changes when a node is moved by its transforms."""
    transform = node and node.GetParentTransformNode()
    return (node and node.GetID(), transform and transform.GetTransformToWorldMTime())
