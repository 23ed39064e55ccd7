"""The contact sheet: many maps over one and the same slice, and a curve over layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...geometry.labels import Labels
from ...geometry.volume import Volume
from ...mrml.overlay import Overlay, centre
from ...mrml.palette import THRESHOLD, heat_table
from ...tiling import ranges
from .snapshot import (
    ACCENT,
    DIM,
    FOOTER,
    GAP,
    GROUND,
    LINE,
    PALE,
    PLANES,
    Stage,
    font,
    framed,
    key,
    mark,
    overlay_nodes,
    paragraph,
    save,
    set_stage,
    side_by_side,
    slice_image,
    slice_words,
    stacked,
    warnings,
)

PANEL, COLUMNS = 250, 6
EMPTY = "Each map has its own scale, and is transparent below 30 % of it: where a panel is empty, the map is strong elsewhere."


def contact_sheet(
    volume: Volume,
    overlays: Sequence[Overlay],
    heading: str,
    segmentation: Labels | None,
    words=(),
    caveats: Sequence[str] = (),
):
    """The picture, a PIL image: the slice without a map, then with each one.

    All panels show one slice: axial, or the own plane of a flat volume, through the peak of the map that covers least (maps
    of a slice-wise network may lie in one slice only).

    What limits belief in the maps stands below, once each; a panel has the numbers of its own.

    :param words: of each overlay, two short lines below its panel; by default its title's parts.
    """
    stage = set_stage(volume, segmentation)
    narrowest = min(overlays, key=lambda overlay: np.mean(overlay.map.array != 0) or 2)
    flat = min(volume.shape) == 1
    point = centre(volume) if flat else narrowest.peak
    plane = _plane(volume) if flat else "Axial"
    where = slice_words(volume, plane, point) if volume.placed or not flat else ""
    panels = [_panel(stage, plane, point, None, ("Input", where, ""))]
    notes = list(dict.fromkeys(sentence for overlay in overlays for sentence in overlay.caveats))
    for n, overlay in enumerate(overlays):
        numbers = ranges([1 + notes.index(sentence) for sentence in overlay.caveats])
        lines = (*(words[n] if words else _lines(overlay)), f"limits {numbers}" if numbers else "")
        panels.append(_panel(stage, plane, point, overlay, lines))
    rows = [side_by_side(panels[n : n + COLUMNS]) for n in range(0, len(panels), COLUMNS)]
    width = max(row.width for row in rows)
    parts = [paragraph(heading or "MedXAI", width, 22, PALE, bold=True), *warnings(caveats, width)]
    if segmentation:
        parts.append(key(segmentation, width))
    signs = sorted({overlay.signed for overlay in overlays})
    return [*parts, *rows, side_by_side([_bar(signed) for signed in signs]), *_notes(notes, width)]


def _bar(signed: bool):
    """The colours of the maps, from 0 (or the lowest) to the largest value of each, which stands below its panel."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (2 * PANEL, 48), GROUND)
    pen, table = ImageDraw.Draw(image), heat_table(signed)
    left, right, top, bottom = 8, 2 * PANEL - 60, 4, 22
    low = -1.0 if signed else 0.0
    for column in range(left, right):
        share = (column - left) / (right - 1 - left)
        if abs(low + share * (1 - low)) >= THRESHOLD:
            color = table[round(share * (len(table) - 1)), :3]
            pen.line((column, top, column, bottom), tuple(int(part) for part in np.round(255 * color)))
    pen.rectangle((left - 1, top - 1, right, bottom + 1), outline=LINE)
    for value in (-1, -THRESHOLD, 0, THRESHOLD, 1) if signed else (0, THRESHOLD, 1):
        column = left + (value - low) / (1 - low) * (right - left)
        words = {0: "0", 1: "largest shown", -1: "lowest"}.get(value, f"{value:.0%}")
        pen.text((column, bottom + 6), words, DIM, font(12), "ma" if low < value < 1 or value == 1 else "la")
    return image


def _notes(notes: Sequence[str], width: int) -> list:
    """What limits belief in the maps, each sentence once, with the number that stands below its panels."""
    if not notes:
        return []
    heading = paragraph("What limits belief in these maps, by the numbers below them:", width, 15, PALE)
    lines = [paragraph(f"{number}  {sentence}", width, 14, DIM) for number, sentence in enumerate(notes, 1)]
    return [stacked([heading, *lines], 5)]


def _plane(volume: Volume) -> str:
    from ...geometry.affine import nearest_axes

    axis = nearest_axes(volume.affine)[int(np.argmin(volume.shape))]
    return next(name for name, normal in PLANES.items() if normal == axis)


def _lines(overlay: Overlay) -> tuple[str, str]:
    """Method and layer; what is explained and the largest displayed value."""
    target, *_, last = overlay.title.split(" · ")
    method = " · ".join(overlay.title.split(" · ")[2:]) or last
    return method, f"{target}, up to {overlay.displayed:.2g}"


def _panel(stage: Stage, plane: str, point: np.ndarray, overlay: Overlay | None, lines: Sequence[str]):
    # no outlines of hot regions: at this size they would hide the map
    node, outlines = overlay_nodes(stage, overlay and replace(overlay, regions=None))
    image = slice_image(stage, plane, point, PANEL, node, outlines)
    if overlay is None:
        mark(stage, image, None)
    return stacked([image, *(_line(text, color) for text, color in zip(lines, (PALE, DIM, DIM), strict=True))], 2)


def _line(text: str, color: tuple):
    """One line, cut to the panel's width."""
    letters = font(12)
    while letters.getlength(text) > PANEL and len(text) > 4:
        text = text[:-2].rstrip("…") + "…"
    return paragraph(text, PANEL, 12, color)


def write_sheet(
    volume: Volume,
    overlays: Sequence[Overlay],
    path: Path,
    heading: str,
    segmentation: Labels | None,
    caveats: Sequence[str] = (),
):
    """Many maps in one picture, as PNG."""
    parts = contact_sheet(volume, overlays, heading, segmentation, caveats=caveats)
    note = f"{EMPTY} {FOOTER}"
    save(framed(stacked([*parts, paragraph(note, parts[0].width, 14, DIM)], 18)), path, heading)


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
    """
    words = [(name, f"up to {overlay.displayed:.2g}") for name, overlay in zip(names, overlays, strict=True)]
    parts = contact_sheet(volume, overlays, heading, segmentation, words, caveats)
    width = parts[0].width
    about = (
        "The score carried by each layer to first order: the sum of gradient times activation, in units of the logit."
    )
    parts += [paragraph(about, width, 14, PALE), curve(names, scores, width)]
    save(framed(stacked([*parts, paragraph(f"{EMPTY} {FOOTER}", width, 14, DIM)], 18)), path, heading)


def curve(names: Sequence[str], values: Sequence[float], width: int, height: int = 240):
    """Values by layer, as a line over its names."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(image)
    left, right, top, bottom = 70, width - 60, 34, height - 44
    low, high = min(0.0, *values), max(0.0, *values)
    span = (high - low) or 1.0
    across = [left + (right - left) * (n + 0.5) / len(values) for n in range(len(values))]
    down = [bottom - (bottom - top) * (value - low) / span for value in values]
    for level in sorted({low, 0.0, high}):
        row = bottom - (bottom - top) * (level - low) / span
        pen.line((left, row, right, row), LINE)
        pen.text((left - 8, row), f"{level:.3g}", DIM, font(12), "rm")
    pen.line(list(zip(across, down, strict=True)), ACCENT, 2)
    room = (right - left) / len(values) - GAP
    for name, x, y, value in zip(names, across, down, values, strict=True):
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=ACCENT)
        pen.text((x, y - 8), f"{value:.3g}", PALE, font(12), "ms", stroke_width=2, stroke_fill=GROUND)
        short = name
        while font(12).getlength(short) > room and len(short) > 4:
            short = "…" + short.lstrip("…")[2:]
        pen.text((x, bottom + 14), short, DIM, font(12), "ms")
    return image
