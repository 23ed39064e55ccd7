"""The picture of an explanation: for each map three slices through its peak, a 3D view, a legend.

Only the 3D view needs OpenGL, and is drawn in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ... import NOTICE
from ...errors import FileError
from ...geometry.labels import Labels
from ...geometry.volume import Volume
from ...mrml.overlay import Overlay
from .layout import DIM, PALE, framed, side_by_side, stacked
from .legend import key, legend
from .marks import peak_words
from .panels import PANEL, flat_panels, plane_panels, solid_panel
from .png import FOOTER, write_png
from .sheet import write_sheet
from .solid import Rendering
from .stage import set_stage
from .text import paragraph, warnings

if TYPE_CHECKING:
    from PIL.Image import Image

ROWS = 6
"""More maps than these share one slice each on a contact sheet."""


def snapshot(
    volume: Volume,
    overlays: Sequence[Overlay],
    path: str | Path,
    *,
    heading: str = "",
    segmentation: Labels | None = None,
    solid: bool = True,
    caveats: Sequence[str] = (),
) -> Path:
    """Write the picture as PNG: whole or not at all.

    A row for each overlay; with more than :data:`ROWS`, a contact sheet; without one, the volume alone. The slices lie in the
    anatomical planes and are seen as radiologists see them (the patient's right is on the left); a volume
    of one slice is shown in its own plane instead, without and with the map.

    :param volume: one channel or RGB.
    :param heading: model and input, the first line.
    :param segmentation: drawn as thin outlines.
    :param solid: add the view in 3D.
    :param caveats: in what the input is not of the kind that the model knows: below the heading, before any map.
    :raises InputError: for another suffix, where the file cannot be written, without slicer-core.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise FileError(path, "a snapshot is saved as .png", "give it that suffix")
    overlays = [replace(o, caveats=tuple(text for text in o.caveats if text not in caveats)) for o in overlays]
    if len(overlays) > ROWS:
        write_sheet(volume, overlays, path, heading, segmentation, caveats)
    else:
        write_png(compose(volume, overlays, heading, segmentation, solid, caveats), path, heading)
    return path


def compose(
    volume: Volume,
    overlays: Sequence[Overlay],
    heading: str,
    segmentation: Labels | None,
    solid: bool = True,
    caveats: Sequence[str] = (),
) -> Image:
    """The picture itself."""
    flat = min(volume.shape) == 1
    rendering = Rendering(volume, overlays, PANEL) if overlays and solid and not flat else None  # draws meanwhile
    stage = set_stage(volume, segmentation)
    panels = flat_panels if flat else plane_panels
    rows = [panels(stage, overlay) for overlay in overlays] or [panels(stage, None)]
    if rendering:
        for overlay, row, pixels in zip(overlays, rows, rendering.pictures(), strict=True):
            row.append(solid_panel(overlay, volume, pixels, rendering.reason))
    for overlay, row in zip(overlays, rows, strict=False):
        row.append(legend(overlay, row[0].height))
    strips = [side_by_side(row) for row in rows]
    width = strips[0].width

    parts = [paragraph(heading or "MedXAI", width, 22, PALE, bold=True), *warnings(caveats, width)]
    if segmentation:
        parts.append(key(segmentation, width))
    parts += [described(overlay, strip, volume) for overlay, strip in zip(overlays, strips, strict=False)] or strips
    parts.append(paragraph(FOOTER if overlays else NOTICE + ".", width, 14, DIM))
    return framed(stacked(parts, 22))


def described(overlay: Overlay, strip: Image, volume: Volume) -> Image:
    """A row: title, panels, where the map peaks and what limits belief in it."""
    found = "No peak: every value is the same." if overlay.even else peak_words(volume, overlay.peak)
    parts = [paragraph(overlay.title, strip.width, 18, PALE), strip]
    if overlay.regions:
        parts.append(key(overlay.regions, strip.width))
    parts.append(paragraph(" ".join([found, *overlay.caveats]), strip.width, 14, DIM))
    return stacked(parts, 8)
