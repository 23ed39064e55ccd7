"""Classes against structures: where the mass of the maps lies, over cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from ...mrml.palette import HEAT, ramp
from .chart import hexadecimal
from .layout import DIM, GROUND, PALE
from .png import FOOTER, replace_png

CELL = 0.9
"""Inches."""


def write_matrix(rows: Sequence[Sequence[Any]], path: Path, heading: str) -> None:
    """Mean fraction of positive mass by class (down) and structure (across), with the fraction of the volume beside it.

    :param rows: of structures.csv.
    :raises OSError: where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from PIL import Image

    classes, names = list(dict.fromkeys(row[0] for row in rows)), list(dict.fromkeys(row[3] for row in rows))
    values = np.full((len(classes), len(names)), np.nan)
    words = np.full(values.shape, "", dtype=object)
    for row in rows:
        place = classes.index(row[0]), names.index(row[3])
        values[place] = np.nan if row[5] is None else row[5]
        spread = f" ± {100 * row[6]:.0f}" if row[6] is not None else ""
        words[place] = "-" if row[5] is None else f"{100 * row[5]:.0f}{spread} %\nof volume {100 * (row[7] or 0):.0f} %"
    ground, dim, pale = (hexadecimal(color) for color in (GROUND, DIM, PALE))
    size = max(6.0, 2.2 + 1.5 * len(names)), 1.9 + CELL * len(classes)
    figure = Figure(figsize=size, dpi=110, facecolor=ground, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot(facecolor=ground)
    axes.imshow(values, cmap=ListedColormap(ramp(HEAT, 256)), vmin=0, vmax=1, aspect="auto")
    for (down, across), text in np.ndenumerate(words):
        color = "black" if values[down, across] > 0.6 else pale
        axes.text(across, down, text, ha="center", va="center", color=color, fontsize=9)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.tick_params(colors=dim, length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle(fill(heading, round(size[0] * 11)), color=pale, fontsize=11, x=0.01, ha="left")
    about = f"Mean over cases of the fraction of a map's own positive mass, ± standard deviation. {FOOTER}"
    figure.supxlabel(fill(about, round(size[0] * 17)), color=dim, fontsize=7, x=0.01, ha="left")
    canvas.draw()
    replace_png(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]), path, heading)
