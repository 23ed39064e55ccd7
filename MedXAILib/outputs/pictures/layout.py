"""Pictures put together, and the sizes and colours that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

Color = tuple[int, int, int]

GAP, MARGIN = 10, 28
"""Pixels between panels, and around a picture."""
GROUND, LINE, DIM, PALE, ACCENT = (15, 17, 21), (58, 62, 70), (158, 164, 174), (236, 238, 242), (120, 220, 200)
WARNING = (255, 190, 80)


def side_by_side(panels: Sequence[Image]) -> Image:
    """Images in a row."""
    from PIL import Image

    size = sum(panel.width + GAP for panel in panels) - GAP, max(panel.height for panel in panels)
    strip = Image.new("RGB", size, GROUND)
    left = 0
    for panel in panels:
        strip.paste(panel, (left, 0))
        left += panel.width + GAP
    return strip


def stacked(parts: Sequence[Image], gap: int) -> Image:
    """Images one below the other, so many pixels apart."""
    from PIL import Image

    size = max(part.width for part in parts), sum(part.height + gap for part in parts) - gap
    image = Image.new("RGB", size, GROUND)
    top = 0
    for part in parts:
        image.paste(part, (0, top))
        top += part.height + gap
    return image


def framed(inner: Image) -> Image:
    """An image with a margin."""
    from PIL import ImageOps

    return ImageOps.expand(inner, MARGIN, GROUND)
