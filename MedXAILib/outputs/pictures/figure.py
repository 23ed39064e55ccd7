"""A case's maps as a figure for print: PNG, SVG or PDF, light or dark. It needs no Slicer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from ...geometry.volume import Volume
from ...mrml.overlay import display_limit
from ...mrml.palette import THRESHOLD, heat_table
from ..whole import written_whole
from .chart import hexadecimal
from .layout import DIM, GROUND, PALE
from .planes import Looked, Plane, painted, planes_through
from .png import FOOTER
from .thumbnail import peak_of

FORMATS = ("png", "svg", "pdf")
PLANE = 2.1
"""Width of a slice in inches."""
LETTERS = 21
"""Small letters in an inch."""
INK = {"dark": tuple(map(hexadecimal, (GROUND, PALE, DIM))), "light": ("white", "black", "#555555")}
"""Ground, words, and what is said beside."""
ALONG = {"axial": 2, "sagittal": 0, "coronal": 1}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a figure looks.

    :ivar slices: ``peak`` for the three planes through each map's peak, or ``axial:5`` for so many of one plane, evenly through where
        the maps are.
    :ivar theme: ``light`` or ``dark``.
    :ivar dpi: pixels in an inch, of PNG and of the slices inside SVG and PDF.
    """

    slices: str = "peak"
    theme: str = "dark"
    dpi: int = 150


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """A map in a figure.

    :ivar heat: on the volume's grid. :ivar limit: the value of the last colour. :ivar unit: of the values, in words.
    :ivar caveats: what limits belief in it.
    """

    title: str
    heat: Volume
    signed: bool
    limit: float
    unit: str = "raw value"
    caveats: Sequence[str] = ()

    @classmethod
    def of(cls, title: str, heat: Volume, signed: bool, caveats: Sequence[str] = ()) -> Row:
        """On the map's own scale."""
        return cls(title=title, heat=heat, signed=signed, limit=display_limit(heat.array), caveats=caveats)


def write_figure(
    volume: Volume, rows: Sequence[Row], path: Path, heading: str, caveats: Sequence[str], look: Look
) -> None:
    """A row of slices for each map, with its colours' values.

    :param path: ends in one of :data:`FORMATS`.
    :raises InputError: where the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ground, pale, dim = INK[look.theme]
    strips = [_planes(volume, row, rows, look) for row in rows]
    columns = max(len(strip) for strip in strips)
    width = PLANE * columns + 1.1
    limits = [f"{row.title}: {' '.join(row.caveats)}" for row in rows if row.caveats]
    told = [*caveats, *limits, f"{FOOTER} Colours below {THRESHOLD:.0%} of the last one are transparent."]
    words = "\n".join(fill(text, round(LETTERS * width)) for text in told)
    size = width, (PLANE + 0.35) * len(rows) + 0.9 + 0.11 * words.count("\n")
    with rc_context({"svg.hashsalt": "medxai", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure = Figure(figsize=size, dpi=look.dpi, facecolor=ground, layout="constrained")
        grid = figure.add_gridspec(len(rows), columns + 1, width_ratios=[*columns * [1.0], 0.07])
        for number, (row, strip) in enumerate(zip(rows, strips, strict=True)):
            for column, plane in enumerate(strip):
                axes = figure.add_subplot(grid[number, column])
                _slice(axes, plane, row, look, dim)
                if column == 0:
                    axes.set_title(row.title, color=pale, fontsize=8, loc="left")
            _colours(figure.add_subplot(grid[number, columns]), row, pale)
        figure.suptitle(heading, color=pale, fontsize=11, x=0.01, ha="left")
        figure.supxlabel(words, color=dim, fontsize=6, x=0.01, ha="left")
        notes: dict[str, Any] = {"Title": heading} | ({"Date": None} if path.suffix == ".svg" else {})
        if path.suffix == ".pdf":
            notes |= {"Subject": FOOTER, "CreationDate": None}
        elif path.suffix == ".png":
            notes |= {"Disclaimer": FOOTER}
        else:
            notes |= {"Description": FOOTER}
        with written_whole(path) as beside:
            figure.savefig(beside, format=path.suffix[1:], facecolor=ground, metadata=notes)


def _planes(volume: Volume, row: Row, rows: Sequence[Row], look: Look) -> list[Plane]:
    name, _, count = look.slices.partition(":")
    if name not in ALONG or min(volume.shape) == 1:
        return planes_through(volume, row.heat, peak_of(row.heat))
    looked = Looked(volume)
    axis, found = ALONG[name], []
    for point in _through(volume, looked, axis, rows, int(count or 1)):
        found.append(planes_through(volume, row.heat, point, only=name.capitalize())[0])
    return found


def _through(volume: Volume, looked: Looked, axis: int, rows: Sequence[Row], count: int) -> list[np.ndarray]:
    """Points of slices that lie evenly through what the maps show."""
    shown = np.zeros(looked.shape, bool)
    for row in rows:
        shown |= np.abs(looked.array(row.heat)) >= THRESHOLD * row.limit
    where = np.flatnonzero(shown.any(axis=tuple(n for n in range(3) if n != axis)))
    first, last = (where[0], where[-1]) if where.size else (0, looked.shape[axis] - 1)
    middle = [(n - 1) / 2 for n in looked.shape]
    places = [(first + last) / 2] if count == 1 else np.linspace(first, last, count)
    return [looked.point([place if n == axis else one for n, one in enumerate(middle)]) for place in places]


def _slice(axes: Any, plane: Plane, row: Row, look: Look, dim: str) -> None:
    height, width = (max(1, round(look.dpi * PLANE * side / max(plane.size))) for side in plane.size)
    axes.imshow(painted(plane, row.limit, row.signed, height, width), interpolation="none")
    axes.set_xlabel(plane.words, color=dim, fontsize=6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _colours(axes: Any, row: Row, pale: str) -> None:
    table = heat_table(row.signed)[:, :3]
    low = -row.limit if row.signed else 0.0
    axes.imshow(table[::-1, None], aspect="auto", extent=(0, 1, low, row.limit))
    axes.set_xticks([])
    ticks = [low, 0.0, row.limit] if row.signed else [0.0, THRESHOLD * row.limit, row.limit]
    axes.set_yticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.yaxis.tick_right()
    axes.tick_params(colors=pale, labelsize=6, length=2)
    axes.set_title(row.unit, color=pale, fontsize=5, loc="right")
