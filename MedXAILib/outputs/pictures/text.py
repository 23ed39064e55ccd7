"""Words as pictures, wrapped or cut to a width.

Pillow draws them: 3D Slicer's own Python, where the panel's export is drawn, has it and may lack matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .layout import GROUND, WARNING, Color

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont


def font(size: int, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has accents; else the smaller font inside Pillow."""
    from PIL import ImageFont

    found = find_spec("matplotlib")
    if found and found.origin:
        path = Path(found.origin).parent / "mpl-data/fonts/ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    default: FreeTypeFont = ImageFont.load_default(size)  # type: ignore[assignment]  # with a size it is one
    return default


def paragraph(words: str, width: int, size: int, color: Color, bold: bool = False) -> Image:
    """Words as an image of this width in pixels, wrapped."""
    from PIL import Image, ImageDraw

    letters = font(size, bold)
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    step = round(size * 1.35)
    image = Image.new("RGB", (width, step * len(lines)), GROUND)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((0, step * number), line, color, letters)
    return image


def one_line(words: str, width: int, size: int, color: Color) -> Image:
    """Words as an image of one line, cut to this width in pixels."""
    letters = font(size)
    while letters.getlength(words) > width and len(words) > 4:
        words = words[:-2].rstrip("…") + "…"
    return paragraph(words, width, size, color)


def warnings(caveats: Sequence[str], width: int) -> list[Image]:
    """What limits belief in the input, a paragraph each, to be seen before any map."""
    return [paragraph(text, width, 16, WARNING, bold=True) for text in caveats]
