"""Draw MedXAI's icons: a slice of a head with a heat spot, in the colours of the maps. Run it from anywhere.

A picture is an array (rows, columns, 3) of colours in 0..1 on a :func:`canvas`; draw_thumbnails.py uses the same parts.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from MedXAILib.mrml.palette import heat_table  # noqa: E402

SIZE, FINE = 128, 8
"""Pixels of the icon, and samples of each pixel along an axis."""
DARK = (0.055, 0.065, 0.09)
PALE = (1, 0.97, 0.86)
CONTOUR = 0.42
"""Strength of the spot on its contour; inside it is painted, so that the spot keeps an edge when it is small."""


def canvas(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples of a square picture of ``size`` pixels, from -1 to 1 in x (right) and y (down)."""
    y, x = (np.mgrid[: size * FINE, : size * FINE] + 0.5) / (size * FINE) * 2 - 1
    return x, y


def ellipse(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """Radius in units of an ellipse's own: below 1 inside."""
    return np.hypot((x - cx) / rx, (y - cy) / ry)


def soft(radius: np.ndarray, width: float) -> np.ndarray:
    return np.clip((1 - radius) / width + 0.5, 0, 1)


def head(x: np.ndarray, y: np.ndarray, skull: bool = True) -> np.ndarray:
    """A picture of an axial slice of a head, or of the brain alone."""
    grey = np.full_like(x, np.nan)
    if skull:
        grey[ellipse(x, y, 0, 0, 0.68, 0.84) < 1] = 0.86
        grey[ellipse(x, y, 0, 0, 0.60, 0.76) < 1] = 0.16  # fluid
    brain = ellipse(x, y, 0, 0.01, 0.55, 0.71)
    folds = 0.05 * np.sin(9 * np.arctan2(y, np.abs(x))) * np.clip(brain, 0, 1) ** 2
    tissue = 0.56 - 0.14 * soft(brain / 0.72, 0.25) + folds
    for side in (-1, 1):
        tissue = tissue - 0.34 * soft(ellipse(x, y, side * 0.12, -0.02, 0.075, 0.27), 0.5)  # ventricles
    tissue = tissue - 0.30 * np.exp(-((x / 0.022) ** 2)) * (np.abs(y) > 0.3)  # between the halves
    grey = np.where(brain < 1, tissue, grey)
    return np.where(np.isnan(grey)[..., None], DARK, np.nan_to_num(grey)[..., None])


def finished(picture: np.ndarray) -> Image.Image:
    """The image of a picture, its corners round and transparent."""
    size = len(picture) // FINE
    x, y = canvas(size)
    corner = 0.36
    outside = np.hypot(np.maximum(np.abs(x) - (1 - corner), 0), np.maximum(np.abs(y) - (1 - corner), 0)) > corner
    rgba = np.dstack([picture, ~outside])
    rgba[..., :3] *= rgba[..., 3:]
    rgba = rgba.reshape(size, FINE, size, FINE, 4).mean(axis=(1, 3))
    rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-9)
    return Image.fromarray((rgba * 255).round().astype(np.uint8), "RGBA")


def draw() -> Image.Image:
    """The icon."""
    x, y = canvas(SIZE)
    picture = head(x, y)
    strength = np.exp(-(ellipse(x, y, 0.20, -0.27, 0.28, 0.31) ** 2))
    strength += 0.75 * np.exp(-(ellipse(x, y, 0.30, 0.02, 0.17, 0.19) ** 2))
    table = heat_table(signed=False)[:, :3]
    heat = table[np.minimum(strength * 255, 255).astype(int)]
    picture = np.where((strength > CONTOUR)[..., None], 0.12 * picture + 0.88 * heat, picture)
    picture[np.abs(strength - CONTOUR) < 0.035] = PALE
    return finished(picture)


if __name__ == "__main__":
    icon = draw()
    for path in (ROOT / "MedXAI.png", ROOT / "MedXAI" / "Resources" / "Icons" / "MedXAI.png"):
        icon.save(path, optimize=True)
