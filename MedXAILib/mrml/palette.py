"""The colours of heat maps: made here, even to the eye, safe for colour-blind readers.

A ramp is a path through a few anchor colours, walked in equal steps of CIELAB distance (CIE 15:2004,
D65), so that equal differences of value look equally large; its lightness only rises, so that it can
also be read in grey and by readers who do not tell red from green.
"""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hsv_to_rgb, rgb_to_hsv

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

THRESHOLD = 0.3
"""Fraction of the largest displayed value below which a map is transparent."""

HEAT = ("#1a0a38", "#45127a", "#861b80", "#c03063", "#e65a3c", "#f88d22", "#fcc33f", "#ffea6e")
AGAINST = ("#0b1626", "#123d73", "#1f6fb8", "#55a9e6", "#a3daff")
FAVOUR = ("#241203", "#693407", "#b05f0f", "#e99a33", "#ffd380")
RAMPS = {
    "Heat": HEAT,
    "Grey": ("#000000", "#ffffff"),
    "Sea": ("#0b1030", "#123f6b", "#10758c", "#35a98f", "#9ad38a", "#f4f3a8"),
}
"""Colours of unsigned maps, from the value 0 up."""
PAIRS = {
    "Blue - orange": (AGAINST, FAVOUR),
    "Violet - green": (("#150a24", "#452a78", "#7a58b4", "#ad95dc", "#ddd2f7"), ("#0a1a10", "#14502c", "#2c8a45", "#74bf66", "#cdeb9f")),
}  # fmt: skip
"""Colours of signed maps: against and in favour, from zero outwards."""

D65 = np.array([0.95047, 1.0, 1.08883])
RGB_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def heat_table(signed: bool, count: int = 256) -> Floats:
    """The colour table of a map, (count, 4) float r, g, b, alpha in 0..1.

    Unsigned: the first row is the value 0, the last one the largest. Signed: from the most negative
    (blue) over 0 to the most positive (orange), symmetric, and transparent for values nearer to 0 than
    :data:`THRESHOLD` of the largest: a threshold with one lower end could not say this.
    """
    if not signed:
        return np.column_stack([ramp(HEAT, count), np.ones(count)])
    half = count // 2
    colors = np.vstack([ramp(AGAINST, half)[::-1], ramp(FAVOUR, half)])
    strength = np.abs(np.linspace(-1, 1, 2 * half))
    return np.column_stack([colors, strength >= THRESHOLD])


def ramp(anchors: tuple[str, ...], count: int) -> Floats:
    """``count`` sRGB colours (count, 3) in 0..1 from the first to the last anchor, in equal steps of CIELAB distance."""
    lab = rgb_to_lab(np.array([[int(color[n : n + 2], 16) for n in (1, 3, 5)] for color in anchors]) / 255)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=1))])
    steps = np.linspace(0, along[-1], count)
    return lab_to_rgb(np.column_stack([np.interp(steps, along, lab[:, axis]) for axis in range(3)]))


def rgb_to_lab(rgb: Floats) -> Floats:
    """sRGB in 0..1 to CIELAB, both (..., 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ RGB_XYZ.T / D65
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: Floats) -> Floats:
    """CIELAB to sRGB, clipped to 0..1, both (..., 3)."""
    y = (lab[..., 0] + 16) / 116
    root = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    ratio = np.where(root > 6 / 29, root**3, 3 * (6 / 29) ** 2 * (root - 4 / 29))
    linear: Floats = np.clip(ratio * D65 @ np.linalg.inv(RGB_XYZ).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def distinct(count: int, taken: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """``count`` colours whose hues lie far from each other's and from those that are taken already."""
    hues = [rgb_to_hsv(*color)[0] for color in taken]
    choice = np.arange(48) / 48
    for _ in range(count):
        away = np.abs(choice[:, None] - np.array(hues or [0.8])[None])  # the circle of hues has the length 1
        hues.append(float(choice[int(np.minimum(away, 1 - away).min(axis=1).argmax())]))
    return [hsv_to_rgb(hue, 0.65, 0.95) for hue in hues[len(taken) :]]
