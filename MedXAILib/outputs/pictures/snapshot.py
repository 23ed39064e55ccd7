"""The picture of an explanation: for each map three slices through its peak, a 3D view, a legend.

The slices' pixels come out of Slicer's own slice logic (resampling, window, colours, threshold,
opacity, outlines) and need no OpenGL; only the 3D view does, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ... import NOTICE
from ...errors import InputError
from ...geometry.affine import OPPOSITE, directions, nearest_axes, oblique_degrees
from ...geometry.labels import Labels
from ...geometry.volume import Volume
from ...mrml.host import Host, private_scene
from ...mrml.layers import OPACITY
from ...mrml.nodes import add_label_map, add_map, add_volume
from ...mrml.overlay import Overlay, centre
from ...mrml.palette import THRESHOLD, heat_table
from ...mrml.slices import axes_of, set_slice_plane, xy_of
from ..whole import written_whole
from .solid import Rendering, seen_from

ROWS = 6
"""More maps than these share one slice each on a contact sheet."""
FOOTER = NOTICE + ". Shows influence on the model, not pathology."
KEYS = 24
"""Most names in a key."""
PLANES = {"Axial": 2, "Sagittal": 0, "Coronal": 1}
"""The slices of a row, and the RAS axis that each is a position on."""
INDICES = ("column", "row", "slice")
"""What i, j, k count, from 0, where nothing better is known."""
ALONG = 5.0
"""Degrees by which a picture's plane may lie oblique to the file's slices and be called by the number of one."""
PANEL, FLAT_PANEL, GAP, MARGIN, LEGEND = 360, 600, 10, 28, 165
GROUND, LINE, DIM, PALE, ACCENT = (15, 17, 21), (58, 62, 70), (158, 164, 174), (236, 238, 242), (120, 220, 200)
WARNING = (255, 190, 80)


def snapshot(
    volume: Volume,
    overlays: list[Overlay],
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
        raise InputError(f"{path}: a snapshot is saved as .png; give it that suffix.")
    overlays = [replace(o, caveats=tuple(text for text in o.caveats if text not in caveats)) for o in overlays]
    if len(overlays) > ROWS:
        from .sheet import write_sheet

        write_sheet(volume, overlays, path, heading, segmentation, caveats)
    else:
        save(compose(volume, overlays, heading, segmentation, solid, caveats), path, heading)
    return path


def save(picture, path: Path, heading: str) -> None:
    """A PIL image as PNG, with its title and the disclaimer inside."""
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("Title", heading)
    notes.add_text("Disclaimer", FOOTER)
    with written_whole(path) as beside:
        picture.save(beside, "PNG", pnginfo=notes)


def compose(
    volume: Volume,
    overlays: list[Overlay],
    heading: str,
    segmentation: Labels | None,
    solid: bool = True,
    caveats: Sequence[str] = (),
):
    """The picture itself, a PIL image."""
    flat = min(volume.shape) == 1
    shown = overlays
    rendering = None if flat or not shown or not solid else Rendering(volume, shown, PANEL)  # draws meanwhile
    stage = set_stage(volume, segmentation)
    panels = flat_panels if flat else plane_panels
    rows = [panels(stage, overlay) for overlay in shown or [None]]
    if rendering:
        for overlay, row, pixels in zip(shown, rows, rendering.pictures(), strict=True):
            row.append(solid_panel(overlay, volume, pixels, rendering.reason))
    for overlay, row in zip(shown, rows, strict=False):
        row.append(legend(overlay, row[0].height))
    strips = [side_by_side(row) for row in rows]
    width = strips[0].width

    parts = [paragraph(heading or "MedXAI", width, 22, PALE, bold=True), *warnings(caveats, width)]
    if segmentation:
        parts.append(key(segmentation, width))
    if not shown:
        parts += strips
    parts += [described(overlay, strip, volume) for overlay, strip in zip(shown, strips, strict=False)]
    parts.append(paragraph(FOOTER if shown else NOTICE + ".", width, 14, DIM))
    return framed(stacked(parts, 22))


@dataclass(frozen=True, eq=False)
class Stage:
    """A private scene that holds the volume, and a slice view to photograph it with."""

    host: Host
    volume: Volume
    node: object
    view: object
    """vtkMRMLSliceLogic"""
    outlines: tuple = ()
    """Label-map nodes drawn in every slice."""


def set_stage(volume: Volume, segmentation: Labels | None = None) -> Stage:
    host = private_scene()
    node = add_volume(host.scene, volume, "volume")
    outlines = (outlined(host, segmentation, 1),) if segmentation else ()
    return Stage(host, volume, node, host.application.GetSliceLogicByLayoutName("Red"), outlines)


def outlined(host: Host, labels: Labels, thickness: int):
    """Labels as a label-map node whose outline is this many pixels wide."""
    node = add_label_map(host.scene, labels, "outlines")
    node.GetDisplayNode().SetSliceIntersectionThickness(thickness)
    return node


def plane_panels(stage: Stage, overlay: Overlay | None) -> list:
    """Axial, sagittal and coronal slice through the map's peak, or without a map through the volume's middle."""
    node, outlines = overlay_nodes(stage, overlay)
    point = within(stage.volume, overlay.peak) if overlay else centre(stage.volume)
    panels = []
    for plane in PLANES:
        image = slice_image(stage, plane, point, PANEL, node, outlines)
        mark(stage, image, point if overlay else None)
        label(image, slice_words(stage.volume, plane, point))
        panels.append(image)
    return panels


def flat_panels(stage: Stage, overlay: Overlay | None) -> list:
    """A volume of one slice in its own plane, without and with the map."""
    node, outlines = overlay_nodes(stage, overlay)
    axis = nearest_axes(stage.volume.affine)[int(np.argmin(stage.volume.shape))]
    plane = next(name for name, normal in PLANES.items() if normal == axis)
    panels = []
    for words, shown in {"Input": (None, stage.outlines), "Input and map": (node, outlines)}.items():
        if overlay or words == "Input":
            image = slice_image(stage, plane, centre(stage.volume), FLAT_PANEL, *shown)
            mark(stage, image, within(stage.volume, overlay.peak) if overlay else None)
            label(image, words)
            panels.append(image)
    return panels


def within(volume: Volume, point: np.ndarray) -> np.ndarray:
    """The place in a volume that is nearest to a point: a map's outermost cells may have their centres beyond its edge."""
    return volume.ras(np.clip(volume.ijk(point), 0, np.array(volume.shape) - 1))


def overlay_nodes(stage: Stage, overlay: Overlay | None) -> tuple:
    """The map's node, and the label maps to outline with it."""
    if overlay is None:
        return None, stage.outlines
    regions = (outlined(stage.host, overlay.regions, 2),) if overlay.regions else ()
    return add_map(stage.host.scene, overlay), (*stage.outlines, *regions)


def slice_image(stage: Stage, plane: str, point: np.ndarray, size: int, heat=None, outlines: tuple = ()):
    """A square slice through a RAS point as Slicer composes it, a PIL image; the map, whose cells may hang over the volume's
    edge, ends there.

    :param heat: node of the map laid over the volume.
    :param outlines: label-map nodes, the last one on top.
    """
    from PIL import Image

    slice_node, layers = stage.view.GetSliceNode(), stage.view.GetSliceCompositeNode()
    slice_node.SetDimensions(size, size, 1)
    slice_node.SetUseLabelOutline(True)
    set_slice_plane(slice_node, stage.volume, plane, point)
    layers.SetForegroundOpacity(OPACITY)
    image = Image.new("RGBA", (size, size), (0, 0, 0, 255))

    def layer(below=None, above=None, lines=None) -> np.ndarray:
        layers.SetBackgroundVolumeID(below and below.GetID())
        layers.SetForegroundVolumeID(above and above.GetID())
        layers.SetLabelVolumeID(lines and lines.GetID())
        return blended(stage.view)

    beyond = layer(stage.node)[..., 3] == 0
    pixels = layer(stage.node, heat)
    pixels[beyond] = 0
    image.alpha_composite(Image.fromarray(pixels))
    for node in outlines:
        image.alpha_composite(Image.fromarray(layer(lines=node)))
    return image.convert("RGB")


def blended(view) -> np.ndarray:
    """The blended image of a slice logic, (row from the top, column, RGBA) uint8."""
    from vtk.util.numpy_support import vtk_to_numpy

    connection = view.GetImageDataConnection()
    producer = connection.GetProducer()
    producer.Update()
    image = producer.GetOutputDataObject(connection.GetIndex())
    columns, rows, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 4)
    return np.ascontiguousarray(pixels[::-1])


def solid_panel(overlay: Overlay, volume: Volume, pixels: np.ndarray | None, reason: str = ""):
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


def position(point: np.ndarray, axis: int) -> str:
    """A coordinate with its direction, as ``L 12.5``."""
    return f"{('RL', 'AP', 'SI')[axis][int(point[axis] < 0)]} {abs(point[axis]):.1f}"


def slice_words(volume: Volume, plane: str, point: np.ndarray) -> str:
    """Which slice a panel shows: plane and coordinate, or the row, column or slice of the file where nothing is known of
    its place in the patient."""
    axis = nearest_axes(volume.affine).index(PLANES[plane])
    if volume.placed:
        along = INDICES[axis] == "slice" and volume.shape[axis] > 1 and oblique_degrees(volume.affine) < ALONG
        number = f", slice {volume.ijk(point)[axis]:.0f}" if along else ""
        return f"{plane}  {position(point, PLANES[plane])} mm{number}"
    return f"{INDICES[axis]} {volume.ijk(point)[axis]:.0f}"


def peak_words(volume: Volume, point: np.ndarray) -> str:
    """Where a map peaks, in a sentence."""
    if volume.placed:
        return f"Peak at {', '.join(position(point, axis) for axis in range(3))} mm."
    parts = [f"{name} {at:.0f}" for name, at, n in zip(INDICES, volume.ijk(point), volume.shape, strict=True) if n > 1]
    return f"Peak at {', '.join(parts)}; patient position unknown."


def letter(volume: Volume, way: np.ndarray) -> str:
    """The letter of a direction (RAS) in a volume; empty where the file does not say it."""
    along = directions(volume.affine).T @ way
    axis = int(np.argmax(np.abs(along)))
    found = volume.axes[axis : axis + 1]
    return found if along[axis] > 0 or not found else OPPOSITE[found]


def mark(stage: Stage, image, point: np.ndarray | None) -> None:
    """Draw the directions at the edges, a scale bar, and ticks where ``point`` lies; no letter and no length that the file
    does not give."""
    from PIL import ImageDraw

    pen, size = ImageDraw.Draw(image), image.width
    right, up, _ = axes_of(stage.view.GetSliceNode()).T
    for way, place, anchor in (
        (-right, (8, size / 2), "lm"),
        (right, (size - 8, size / 2), "rm"),
        (up, (size / 2, 8), "ma"),
    ):
        pen.text(place, letter(stage.volume, way), PALE, font(15), anchor, stroke_width=2, stroke_fill=0)
    if point is not None:
        column, row = pixel_of(stage, point)
        for line in (
            (column, 0, column, 6),
            (column, size - 7, column, size),
            (0, row, 6, row),
            (size - 7, row, size, row),
        ):
            pen.line(line, ACCENT, 2)
    pixels = size / stage.view.GetSliceNode().GetFieldOfView()[0]  # for each mm
    bar = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm * pixels <= size / 4), default=None)
    if bar and stage.volume.unit:
        pen.line((size - 12 - bar * pixels, size - 14, size - 12, size - 14), PALE, 2)
        pen.text(
            (size - 12, size - 18), f"{bar} {stage.volume.unit}", PALE, font(12), "rd", stroke_width=2, stroke_fill=0
        )


def pixel_of(stage: Stage, point: np.ndarray) -> tuple[float, float]:
    """Column and row (from the top) of the centre of the pixel at a RAS point in the view as it is aimed."""
    x, y = xy_of(stage.view.GetSliceNode(), point)
    return x, stage.view.GetSliceNode().GetDimensions()[1] - 1 - y


def label(image, words: str) -> None:
    """Words in the lower left corner."""
    from PIL import ImageDraw

    ImageDraw.Draw(image).text((10, image.height - 10), words, PALE, font(13), "ld", stroke_width=2, stroke_fill=0)


def legend(overlay: Overlay, height: int):
    """The colour bar with raw values; what the threshold hides stays empty."""
    from PIL import Image, ImageDraw

    limit = overlay.displayed
    low = -limit if overlay.signed else 0.0
    image = Image.new("RGB", (LEGEND, height), GROUND)
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = 8, 44, 30, height - 46
    pen.text((left, 4), "raw value", PALE, font(14))
    if overlay.even:
        pen.text((left, top), "the same everywhere:", PALE, font(13))
        pen.text((left, top + 20), f"{overlay.map.array.flat[0]:.3g}", PALE, font(13))
        return image
    table = heat_table(overlay.signed)
    for row in range(top, bottom):
        share = (bottom - 1 - row) / (bottom - 1 - top)
        value = low + share * (limit - low)
        if abs(value) >= THRESHOLD * limit:
            color = table[round(share * (len(table) - 1)), :3]
            pen.line((left, row, right, row), tuple(int(part) for part in np.round(255 * color)))
    pen.rectangle((left, top - 1, right, bottom), outline=LINE)
    clipped = float(np.nanmax(np.abs(overlay.map.array))) > limit
    for share in (1, THRESHOLD, 0, -THRESHOLD, -1) if overlay.signed else (1, THRESHOLD, 0):
        row = bottom - 1 - (share * limit - low) / (limit - low) * (bottom - 1 - top)
        beyond = {1: " or more", -1: " or less"}.get(share, "") if clipped else ""
        pen.line((right, row, right + 5, row), DIM)
        pen.text((right + 10, row), f"{share * limit:.3g}{beyond}", PALE, font(13), "lm")
    pen.text((left, bottom + 16), "no colour: transparent", DIM, font(12))
    return image


def side_by_side(panels: list):
    """Images in a row."""
    from PIL import Image

    size = sum(panel.width + GAP for panel in panels) - GAP, max(panel.height for panel in panels)
    strip = Image.new("RGB", size, GROUND)
    left = 0
    for panel in panels:
        strip.paste(panel, (left, 0))
        left += panel.width + GAP
    return strip


def described(overlay: Overlay, strip, volume: Volume):
    """A row: title, panels, where the map peaks and what limits belief in it."""
    found = "No peak: every value is the same." if overlay.even else peak_words(volume, overlay.peak)
    facts = " ".join([found, *overlay.caveats])
    parts = [paragraph(overlay.title, strip.width, 18, PALE), strip]
    if overlay.regions:
        parts.append(key(overlay.regions, strip.width))
    parts.append(paragraph(facts, strip.width, 14, DIM))
    return stacked(parts, 8)


def key(labels: Labels, width: int):
    """The names of what is outlined, each beside its colour."""
    from PIL import Image, ImageDraw

    letters, present = font(13), set(np.unique(labels.volume.array).tolist())
    items = [(row.name, tuple(round(255 * part) for part in row.color)) for row in labels.rows if row.value in present]
    if len(items) > KEYS:
        items[KEYS:] = [(f"+{len(items) - KEYS} more", GROUND)]
    places, left, line = [], 0, 0
    for name, _ in items:
        needed = 18 + letters.getlength(name) + 16
        if left and left + needed > width:
            left, line = 0, line + 1
        places.append((left, 20 * line))
        left += needed
    image = Image.new("RGB", (width, 20 * (line + 1)), GROUND)
    pen = ImageDraw.Draw(image)
    for (name, color), (x, y) in zip(items, places, strict=True):
        pen.rectangle((x, y + 4, x + 11, y + 15), outline=color, width=2)
        pen.text((x + 18, y + 10), name, DIM, letters, "lm")
    return image


def paragraph(words: str, width: int, size: int, color: tuple, bold: bool = False):
    """Words as an image of this width, wrapped."""
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


def warnings(caveats: Sequence[str], width: int) -> list:
    """What is to be read before the maps, one paragraph each."""
    return [paragraph(text, width, 16, WARNING, bold=True) for text in caveats]


def stacked(parts: list, gap: int):
    """Images one below the other."""
    from PIL import Image

    image = Image.new(
        "RGB", (max(part.width for part in parts), sum(part.height + gap for part in parts) - gap), GROUND
    )
    top = 0
    for part in parts:
        image.paste(part, (0, top))
        top += part.height + gap
    return image


def framed(inner):
    from PIL import ImageOps

    return ImageOps.expand(inner, MARGIN, GROUND)


def font(size: int, bold: bool = False):
    """DejaVu Sans, which comes with matplotlib and has accents; else the smaller font inside Pillow."""
    from importlib.util import find_spec

    from PIL import ImageFont

    found = find_spec("matplotlib")
    if found:
        path = Path(found.origin).parent / "mpl-data/fonts/ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
