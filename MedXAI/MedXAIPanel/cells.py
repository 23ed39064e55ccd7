"""Tables of the panel: rows written into them, and numbers as they stand there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt

Color = tuple[float, float, float]
Cell = str | bool | tuple
"""A text; a text, a colour or None, and perhaps a tool tip; or a truth value for a box."""


def fill(
    table: Any, heads: list[str], rows: Sequence[Sequence[Cell]], *, stretched: tuple[int, ...] = (0,), empty: str = ""
) -> None:
    """Write rows into a table; without rows, a sentence that says so."""
    table.clear()
    table.clearSpans()
    table.setRowCount(max(1, len(rows)) if empty else len(rows))
    table.setColumnCount(len(heads))
    table.setHorizontalHeaderLabels(heads)
    table.horizontalHeader().visible = bool(rows)
    for column in range(len(heads)):
        stretch = qt.QHeaderView.Stretch if column in stretched else qt.QHeaderView.ResizeToContents
        table.horizontalHeader().setSectionResizeMode(column, stretch)
    for n, row in enumerate(rows):
        for column, cell in enumerate(row):
            table.setItem(n, column, itemOf(cell, right=column not in stretched and isinstance(cell, str)))
    if empty and not rows:
        table.setItem(0, 0, itemOf(empty))
        table.setSpan(0, 0, 1, len(heads))
        table.item(0, 0).setFlags(qt.Qt.ItemIsEnabled)


def itemOf(cell: Cell, right: bool = False) -> Any:
    """A cell as Qt has it; ``right``: aligned there."""
    item = qt.QTableWidgetItem()
    if isinstance(cell, bool):
        item.setCheckState(qt.Qt.Checked if cell else qt.Qt.Unchecked)
        return item
    text, color, *tip = cell if isinstance(cell, tuple) else (cell, None)
    item.setText(text)
    item.setToolTip(tip[0] if tip else text)
    if color:
        item.setData(qt.Qt.DecorationRole, colorOf(color))
    if right:
        item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item


def colorOf(color: Color) -> Any:
    """A colour (r, g, b in 0..1) as Qt has it."""
    return qt.QColor(*(round(255 * part) for part in color))


def fitHeight(table: Any, most: int = 180) -> None:
    """A table as high as its rows, but no higher than ``most`` pixels."""
    header = table.horizontalHeader()
    height = (
        (0 if header.isHidden() else header.sizeHint.height())
        + sum(table.rowHeight(row) for row in range(table.rowCount))
        + 4
    )
    table.setFixedHeight(min(height, most))


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def sizeOf(row: dict) -> str:
    """mL of a row, or voxels where the file does not give their size."""
    return f"{row['voxels']} voxels" if row["volume_ml"] is None else f"{number(row['volume_ml'])} mL"


def percent(fraction: float) -> str:
    """A fraction of a whole in words."""
    return f"{100 * fraction:.1f} %"
