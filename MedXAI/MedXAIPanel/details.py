"""What is said of the chosen map, and the range and colours of its values."""

from __future__ import annotations

import html
from math import floor, log10
from typing import Any

from MedXAILib import NOTICE
from MedXAILib.mrml import colours
from MedXAILib.mrml.host import Node

from . import results
from .running import worded


class MapDetails:
    """Title, caveats, range and colours of one map."""

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.node: Node | None = None
        self.unit = 1.0

    def show(self, node: Node | None) -> None:
        """Show a map, or none."""
        self.node = node
        self.ui.limits.text = described(results.metadata(node)) if node else ""
        self.ui.limits.visible = node is not None
        if node:
            names = colours.colors_for(node)
            self.showRange(node)
            self.ui.colors.clear()
            self.ui.colors.addItems(names)
            self.ui.colors.setCurrentIndex(names.index(colours.colors_of(node)))

    def showRange(self, node: Node) -> None:
        """The slider over the map's own values, in steps of about a hundredth."""
        self.unit, widget = unitOf(node), self.ui.range
        low, high = (value / self.unit for value in colours.bounds_of(node))
        power = floor(log10((high - low) / 100)) if high > low else -2
        step = 10.0**power
        widget.setRange(0, 0)  # a step that does not fit the range of the map before is refused
        widget.decimals = max(0, -power)
        widget.singleStep = step
        widget.suffix = "" if self.unit == 1 else f"e{round(log10(self.unit))}"
        widget.setRange(step * floor(low / step), step * -floor(-high / step))  # rounding must not cut the ends off
        chosen = [value / self.unit for value in colours.range_of(node)]
        widget.setValues(
            widget.minimum if chosen[0] <= low else chosen[0], widget.maximum if chosen[1] >= high else chosen[1]
        )

    def setRange(self, low: float, high: float) -> None:
        """Take the slider's values; at its ends, everything beyond them too."""
        if not self.node:
            return
        widget, (least, most) = self.ui.range, colours.bounds_of(self.node)
        half = widget.singleStep / 2
        colours.set_range(
            self.node,
            min(low * self.unit, least) if low < widget.minimum + half else low * self.unit,
            max(high * self.unit, most) if high > widget.maximum - half else high * self.unit,
        )

    def setColors(self, name: str) -> None:
        """Show the map in other colours."""
        if self.node:
            colours.set_colors(self.node, name)


def unitOf(node: Node) -> float:
    """The power of ten that a map's values are told in, so that they have few digits."""
    largest = max(abs(value) for value in colours.bounds_of(node))
    power = floor(log10(largest)) if largest else 0
    return 1.0 if -3 <= power < 4 else 10.0**power


def described(metadata: dict) -> str:
    """Title, caveats and notice of a map in rich text."""
    lines = [
        f"<b>{html.escape(metadata['title'])}</b>",
        *(f"&bull; {html.escape(worded(text))}" for text in (caveat["text"] for caveat in metadata["caveats"])),
    ]
    return "<br>".join([*lines, f"<i>{html.escape(NOTICE)}.</i>"])
