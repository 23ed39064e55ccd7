"""A small picture of one map, and the sheet of those of many cases. They need no Slicer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...findings.finding import Finding
from ...geometry.volume import Volume
from ...mrml.overlay import centre, display_limit
from .layout import DIM, GROUND, PALE, framed, side_by_side, stacked
from .legend import bar
from .planes import Plane, painted, planes_through
from .png import FOOTER, replace_png
from .text import one_line, paragraph

if TYPE_CHECKING:
    from PIL.Image import Image

PANEL = 150
"""Width and height of a slice in pixels."""
COLUMNS, MOST = 4, 60
"""Cases in a row of a sheet, and on a sheet."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A case on a sheet.

    :ivar picture: its thumbnail.
    """

    name: str
    says: str
    picture: Path


def thumbnail(finding: Finding) -> Image:
    """The slices through a map's peak, a strip of one or three squares."""
    volume, heat = finding.reference, finding.map
    point, limit = peak_of(heat), display_limit(heat.array)
    signed = finding.attribution.signed
    return side_by_side([_square(plane, limit, signed) for plane in planes_through(volume, heat, point)])


def peak_of(heat: Volume) -> np.ndarray:
    """RAS mm of the strongest voxel; the middle of a map that is even."""
    strength = np.abs(np.nan_to_num(heat.array))
    if strength.max() == strength.min():
        return centre(heat)
    k, j, i = np.unravel_index(int(strength.argmax()), strength.shape)
    return heat.ras((i, j, k))


def _square(plane: Plane, limit: float, signed: bool) -> Image:
    from PIL import Image

    height, width = (max(1, round(PANEL * side / max(plane.size))) for side in plane.size)
    image = Image.new("RGB", (PANEL, PANEL), GROUND)
    pixels = Image.fromarray(painted(plane, limit, signed, height, width))
    image.paste(pixels, ((PANEL - width) // 2, (PANEL - height) // 2))
    return image


def write_contacts(shown: Sequence[Shown], path: Path, heading: str, signed: bool) -> list[Path]:
    """The thumbnails of many cases on one sheet, or on several with numbers; gives the files.

    :raises OSError: where one cannot be written.
    """
    pages = [shown[n : n + MOST] for n in range(0, len(shown), MOST)]
    files = []
    for number, page in enumerate(pages, 1):
        file = path if len(pages) == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        words = heading if len(pages) == 1 else f"{heading} · sheet {number} of {len(pages)}"
        replace_png(_contacts(page, words, signed), file, words)
        files.append(file)
    return files


def _contacts(shown: Sequence[Shown], heading: str, signed: bool) -> Image:
    from PIL import Image

    cells = []
    for one in shown:
        with Image.open(one.picture) as opened:
            picture = opened.convert("RGB")
        lines = [one_line(text, picture.width, 12, color) for text, color in ((one.name, PALE), (one.says, DIM))]
        cells.append(stacked([picture, *lines], 3))
    columns = COLUMNS if max(cell.width for cell in cells) > PANEL else 2 * COLUMNS
    rows = [side_by_side(cells[n : n + columns]) for n in range(0, len(cells), columns)]
    width = max(480, *(row.width for row in rows))
    about = f"Slices through each map's peak. Each map has its own scale: colours compare places in a case, not cases. What limits belief in a map stands in its case.json. {FOOTER}"
    parts = [paragraph(heading, width, 20, PALE, bold=True), *rows, bar(signed, 420), paragraph(about, width, 13, DIM)]
    return framed(stacked(parts, 12))
