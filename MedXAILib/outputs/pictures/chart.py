"""A curve over the layers of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .layout import ACCENT, DIM, GROUND, LINE, PALE, Color

if TYPE_CHECKING:
    from PIL.Image import Image

HEIGHT = 260
"""In pixels."""


def curve(names: Sequence[str], values: Sequence[float], width: int) -> Image:
    """Values by layer, as a line over its names; so many pixels wide."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    ground, line, dim, pale, accent = (hexadecimal(color) for color in (GROUND, LINE, DIM, PALE, ACCENT))
    figure = Figure(figsize=(width / 100, HEIGHT / 100), dpi=100, facecolor=ground, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot(facecolor=ground)
    axes.plot(values, "o-", color=accent)
    axes.axhline(0, color=line, linewidth=0.8)
    for place, value in enumerate(values):
        axes.annotate(f"{value:.3g}", (place, value), (0, 7), textcoords="offset points", ha="center", color=pale)
    axes.set_xticks(range(len(names)), names, rotation=20, rotation_mode="anchor", ha="right")
    axes.margins(x=0.05, y=0.25)
    axes.tick_params(colors=dim, labelsize=9)
    axes.spines[:].set_visible(False)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def hexadecimal(color: Color) -> str:
    """A colour as matplotlib takes it."""
    return "#{:02x}{:02x}{:02x}".format(*color)
