"""The contact sheet: many maps over one and the same slice; and the montage, with a curve over layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...geometry.labels import Labels
from ...geometry.volume import Volume
from ...mrml.overlay import Overlay, centre
from ...names import ranges
from .chart import curve
from .layout import DIM, PALE, framed, side_by_side, stacked
from .legend import bar, key
from .marks import mark, own_plane, slice_words
from .png import FOOTER, write_png
from .stage import Stage, overlay_nodes, set_stage, slice_image
from .text import one_line, paragraph, warnings

if TYPE_CHECKING:
    from PIL.Image import Image

PANEL, COLUMNS = 250, 6
"""Width and height of a panel in pixels, and most of them in a row."""
EMPTY = "Each map has its own scale, and is transparent below 30 % of it: where a panel is empty, the map is strong elsewhere."


def write_sheet(
    volume: Volume,
    overlays: Sequence[Overlay],
    path: Path,
    heading: str,
    segmentation: Labels | None,
    caveats: Sequence[str] = (),
) -> None:
    """Many maps in one picture, as PNG.

    :raises InputError: where the file cannot be written, without slicer-core.
    """
    parts = contact_sheet(volume, overlays, heading, segmentation, caveats=caveats)
    write_png(finished(parts), path, heading)


def write_montage(
    volume: Volume,
    overlays: Sequence[Overlay],
    names: Sequence[str],
    scores: Sequence[float],
    path: Path,
    heading: str,
    segmentation: Labels | None,
    caveats: Sequence[str] = (),
) -> None:
    """Maps of the layers of one network, in their order, over one slice; below, the score that each layer carries.

    :param scores: sum of gradient times activation: the layer's part of the score to first order.
    :raises InputError: where the file cannot be written, without slicer-core.
    """
    words = [(name, up_to(overlay)) for name, overlay in zip(names, overlays, strict=True)]
    parts = contact_sheet(volume, overlays, heading, segmentation, words, caveats)
    width = parts[0].width
    about = (
        "The score carried by each layer to first order: the sum of gradient times activation, in units of the logit."
    )
    parts += [paragraph(about, width, 14, PALE), curve(names, scores, width)]
    write_png(finished(parts), path, heading)


def finished(parts: Sequence[Image]) -> Image:
    """A sheet with what holds for all of its maps below."""
    return framed(stacked([*parts, paragraph(f"{EMPTY} {FOOTER}", parts[0].width, 14, DIM)], 18))


def contact_sheet(
    volume: Volume,
    overlays: Sequence[Overlay],
    heading: str,
    segmentation: Labels | None,
    words: Sequence[tuple[str, str]] = (),
    caveats: Sequence[str] = (),
) -> list[Image]:
    """The parts of the picture, from above: the slice without a map, then with each one.

    All panels show one slice: axial, or the own plane of a flat volume, through the peak of the map that covers least (maps
    of a slice-wise network may lie in one slice only).

    What limits belief in the maps stands below, once each; a panel has the numbers of its own.

    :param words: of each overlay, two short lines below its panel; by default method, target and largest value.
    """
    stage = set_stage(volume, segmentation)
    narrowest = min(overlays, key=lambda overlay: np.mean(overlay.map.array != 0) or 2)
    flat = min(volume.shape) == 1
    point = centre(volume) if flat else narrowest.peak
    plane = own_plane(volume) if flat else "Axial"
    where = slice_words(volume, plane, point) if volume.placed or not flat else ""
    panels = [panel(stage, plane, point, None, ("Input", where, ""))]
    notes = list(dict.fromkeys(sentence for overlay in overlays for sentence in overlay.caveats))
    for overlay, (first, second) in zip(overlays, words or map(lines, overlays), strict=True):
        numbers = ranges([1 + notes.index(sentence) for sentence in overlay.caveats])
        panels.append(panel(stage, plane, point, overlay, (first, second, f"limits {numbers}" if numbers else "")))
    rows = [side_by_side(panels[n : n + COLUMNS]) for n in range(0, len(panels), COLUMNS)]
    width = max(row.width for row in rows)
    parts = [paragraph(heading or "MedXAI", width, 22, PALE, bold=True), *warnings(caveats, width)]
    if segmentation:
        parts.append(key(segmentation, width))
    bars = [bar(signed, 2 * PANEL) for signed in sorted({overlay.signed for overlay in overlays})]
    return [*parts, *rows, side_by_side(bars), *numbered(notes, width)]


def lines(overlay: Overlay) -> tuple[str, str]:
    """Method and layer; what is explained and the largest displayed value."""
    method = " · ".join(part for part in (overlay.method, overlay.layer) if part)
    return method, f"{overlay.target}, {up_to(overlay)}"


def up_to(overlay: Overlay) -> str:
    """The largest displayed value in words."""
    return f"up to {overlay.displayed:.2g}"


def numbered(notes: Sequence[str], width: int) -> list[Image]:
    """What limits belief in the maps, each sentence once, with the number that stands below its panels."""
    if not notes:
        return []
    heading = paragraph("What limits belief in these maps, by the numbers below them:", width, 15, PALE)
    sentences = [paragraph(f"{number}  {sentence}", width, 14, DIM) for number, sentence in enumerate(notes, 1)]
    return [stacked([heading, *sentences], 5)]


def panel(
    stage: Stage, plane: str, point: NDArray[np.float64], overlay: Overlay | None, words: tuple[str, str, str]
) -> Image:
    """The slice with one map, or without any, and three lines below it."""
    # no outlines of hot regions: at this size they would hide the map
    node, outlines = overlay_nodes(stage, overlay and replace(overlay, regions=None))
    image = slice_image(stage, plane, point, PANEL, node, outlines)
    if overlay is None:
        mark(stage, image, None)
    below = [one_line(text, PANEL, 12, color) for text, color in zip(words, (PALE, DIM, DIM), strict=True)]
    return stacked([image, *below], 2)
