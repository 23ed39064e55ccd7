"""The panels of a row: slices through a map's peak, and the view in 3D."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ...geometry.volume import Volume
from ...mrml.overlay import Overlay, centre
from .layout import DIM, GROUND
from .marks import NORMALS, label, mark, own_plane, seen_from, slice_words
from .stage import Stage, overlay_nodes, slice_image, within
from .text import paragraph

if TYPE_CHECKING:
    from PIL.Image import Image

PANEL, FLAT_PANEL = 360, 600
"""Width and height in pixels."""


def plane_panels(stage: Stage, overlay: Overlay | None) -> list[Image]:
    """Axial, sagittal and coronal slice through the map's peak, or without a map through the volume's middle."""
    node, outlines = overlay_nodes(stage, overlay)
    point = within(stage.volume, overlay.peak) if overlay else centre(stage.volume)
    panels = []
    for plane in NORMALS:
        image = slice_image(stage, plane, point, PANEL, node, outlines)
        mark(stage, image, point if overlay else None)
        label(image, slice_words(stage.volume, plane, point))
        panels.append(image)
    return panels


def flat_panels(stage: Stage, overlay: Overlay | None) -> list[Image]:
    """A volume of one slice in its own plane, without and with the map."""
    node, outlines = overlay_nodes(stage, overlay)
    plane, panels = own_plane(stage.volume), []
    for words, shown in {"Input": (None, stage.outlines), "Input and map": (node, outlines)}.items():
        if overlay or words == "Input":
            image = slice_image(stage, plane, centre(stage.volume), FLAT_PANEL, *shown)
            mark(stage, image, within(stage.volume, overlay.peak) if overlay else None)
            label(image, words)
            panels.append(image)
    return panels


def solid_panel(overlay: Overlay, volume: Volume, pixels: NDArray[Any] | None, reason: str = "") -> Image:
    """The 3D view, or the sentence that there is none, and why."""
    from PIL import Image

    if pixels is None:
        image = Image.new("RGB", (PANEL, PANEL), GROUND)
        words = paragraph(f"3D view omitted: {reason}.", PANEL - 80, 15, DIM)
        image.paste(words, (40, (PANEL - words.height) // 2))
        return image
    image = Image.fromarray(pixels)
    label(image, f"3D  {seen_from(volume, overlay.peak)}" if volume.placed else "3D")
    return image
