"""What the colours of a picture mean: those of a map's values, and those of outlined structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...geometry.labels import Labels
from ...mrml.overlay import Overlay
from ...mrml.palette import THRESHOLD, heat_table
from .layout import DIM, GROUND, LINE, PALE, Color
from .text import font

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH = 165
"""Of a map's legend, in pixels."""
KEYS = 24
"""Most names in a key."""


def legend(overlay: Overlay, height: int) -> Image:
    """The colour bar with raw values; what the threshold hides stays empty."""
    from PIL import Image, ImageDraw

    limit = overlay.displayed
    low = -limit if overlay.signed else 0.0
    image = Image.new("RGB", (WIDTH, height), GROUND)
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = 8, 44, 30, height - 46
    pen.text((left, 4), "raw value", PALE, font(14))
    if overlay.even:
        pen.text((left, top), "the same everywhere:", PALE, font(13))
        pen.text((left, top + 20), f"{overlay.map.array.flat[0]:.3g}", PALE, font(13))
        return image
    table = heat_table(overlay.signed)
    for row in range(top, bottom):
        fraction = (bottom - 1 - row) / (bottom - 1 - top)
        if abs(low + fraction * (limit - low)) >= THRESHOLD * limit:
            pen.line((left, row, right, row), color_at(table, fraction))
    pen.rectangle((left, top - 1, right, bottom), outline=LINE)
    clipped = float(np.nanmax(np.abs(overlay.map.array))) > limit
    for fraction in (1.0, THRESHOLD, 0.0, -THRESHOLD, -1.0) if overlay.signed else (1.0, THRESHOLD, 0.0):
        level = bottom - 1 - (fraction * limit - low) / (limit - low) * (bottom - 1 - top)
        beyond = {1.0: " or more", -1.0: " or less"}.get(fraction, "") if clipped else ""
        pen.line((right, level, right + 5, level), DIM)
        pen.text((right + 10, level), f"{fraction * limit:.3g}{beyond}", PALE, font(13), "lm")
    pen.text((left, bottom + 16), "no colour: transparent", DIM, font(12))
    return image


def bar(signed: bool, width: int) -> Image:
    """The colours of many maps, from 0 (or the lowest) to the largest value of each."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, 48), GROUND)
    pen, table = ImageDraw.Draw(image), heat_table(signed)
    left, right, top, bottom = 8, width - 60, 4, 22
    low = -1.0 if signed else 0.0
    for column in range(left, right):
        fraction = (column - left) / (right - 1 - left)
        if abs(low + fraction * (1 - low)) >= THRESHOLD:
            pen.line((column, top, column, bottom), color_at(table, fraction))
    pen.rectangle((left - 1, top - 1, right, bottom + 1), outline=LINE)
    for value in (-1.0, -THRESHOLD, 0.0, THRESHOLD, 1.0) if signed else (0.0, THRESHOLD, 1.0):
        place = left + (value - low) / (1 - low) * (right - left)
        words = {0.0: "0", 1.0: "largest shown", -1.0: "lowest"}.get(value, f"{value:.0%}")
        pen.text((place, bottom + 6), words, DIM, font(12), "ma" if low < value < 1 or value == 1 else "la")
    return image


def color_at(table: NDArray[np.float64], fraction: float) -> Color:
    """The colour of a table (rows of r, g, b in 0..1) at a fraction of its length."""
    red, green, blue = (int(part) for part in np.round(255 * table[round(fraction * (len(table) - 1)), :3]))
    return red, green, blue


def key(labels: Labels, width: int) -> Image:
    """The names of what is outlined, each beside its colour."""
    from PIL import Image, ImageDraw

    letters, present = font(13), set(np.unique(labels.volume.array).tolist())
    items: list[tuple[str, Color]] = []
    for row in labels.rows:
        if row.value in present:
            red, green, blue = (round(255 * part) for part in row.color)
            items.append((row.name, (red, green, blue)))
    if len(items) > KEYS:
        items[KEYS:] = [(f"+{len(items) - KEYS} more", GROUND)]
    places, left, line = [], 0.0, 0
    for name, _ in items:
        needed = 18 + letters.getlength(name) + 16
        if left and left + needed > width:
            left, line = 0.0, line + 1
        places.append((left, 20 * line))
        left += needed
    image = Image.new("RGB", (width, 20 * (line + 1)), GROUND)
    pen = ImageDraw.Draw(image)
    for (name, color), (x, y) in zip(items, places, strict=True):
        pen.rectangle((x, y + 4, x + 11, y + 15), outline=color, width=2)
        pen.text((x + 18, y + 10), name, DIM, letters, "lm")
    return image
