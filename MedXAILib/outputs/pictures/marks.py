"""What a slice says of itself: which one it is, its directions, a scale, where the map peaks. Nothing that the file does not
give is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...geometry.affine import OPPOSITE, directions, nearest_axes, oblique_degrees
from ...geometry.volume import Volume
from ...mrml.overlay import centre
from ...mrml.slices import axes_of
from .layout import ACCENT, PALE
from .stage import Stage, pixel_of
from .text import font

if TYPE_CHECKING:
    from PIL.Image import Image

NORMALS = {"Axial": 2, "Sagittal": 0, "Coronal": 1}
"""The planes of a row's slices, and the RAS axis that each is a position on."""
INDICES = ("column", "row", "slice")
"""What i, j, k count, from 0, where nothing better is known."""
ALONG = 5.0
"""Degrees by which a picture's plane may lie oblique to the file's slices and be called by the number of one."""


def own_plane(volume: Volume) -> str:
    """The anatomical plane nearest to that of a volume of one slice."""
    axis = nearest_axes(volume.affine)[int(np.argmin(volume.shape))]
    return next(name for name, normal in NORMALS.items() if normal == axis)


def position(point: NDArray[np.float64], axis: int) -> str:
    """A coordinate with its direction, as ``L 12.5``."""
    return f"{('RL', 'AP', 'SI')[axis][int(point[axis] < 0)]} {abs(point[axis]):.1f}"


def slice_words(volume: Volume, plane: str, point: NDArray[np.float64]) -> str:
    """Which slice a panel shows: plane and coordinate, or the row, column or slice of the file where nothing is known of
    its place in the patient."""
    axis = nearest_axes(volume.affine).index(NORMALS[plane])
    if volume.placed:
        along = INDICES[axis] == "slice" and volume.shape[axis] > 1 and oblique_degrees(volume.affine) < ALONG
        number = f", slice {volume.ijk(point)[axis]:.0f}" if along else ""
        return f"{plane}  {position(point, NORMALS[plane])} mm{number}"
    return f"{INDICES[axis]} {volume.ijk(point)[axis]:.0f}"


def peak_words(volume: Volume, point: NDArray[np.float64]) -> str:
    """Where a map peaks, in a sentence."""
    if volume.placed:
        return f"Peak at {', '.join(position(point, axis) for axis in range(3))} mm."
    parts = [f"{name} {at:.0f}" for name, at, n in zip(INDICES, volume.ijk(point), volume.shape, strict=True) if n > 1]
    return f"Peak at {', '.join(parts)}; patient position unknown."


def seen_from(volume: Volume, towards: NDArray[np.float64]) -> str:
    """Where :func:`~MedXAILib.mrml.rendering.front_view` looks from, in words."""
    return f"front {'right' if towards[0] >= centre(volume)[0] else 'left'}, from above"


def letter(volume: Volume, way: NDArray[np.float64]) -> str:
    """The letter of a direction (RAS) in a volume; empty where the file does not say it."""
    along = directions(volume.affine).T @ way
    axis = int(np.argmax(np.abs(along)))
    found = volume.axes[axis : axis + 1]
    return found if along[axis] > 0 or not found else OPPOSITE[found]


def mark(stage: Stage, image: Image, point: NDArray[np.float64] | None) -> None:
    """Draw the directions at the edges, a scale bar, and ticks where ``point`` lies."""
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
        place, words = (size - 12, size - 18), f"{bar} {stage.volume.unit}"
        pen.line((size - 12 - bar * pixels, size - 14, size - 12, size - 14), PALE, 2)
        pen.text(place, words, PALE, font(12), "rd", stroke_width=2, stroke_fill=0)


def label(image: Image, words: str) -> None:
    """Words in the lower left corner."""
    from PIL import ImageDraw

    ImageDraw.Draw(image).text((10, image.height - 10), words, PALE, font(13), "ld", stroke_width=2, stroke_fill=0)
