"""Draw the rooms of MedXAILib and who imports whom: Docs/architecture.svg. Needs import-linter; run it from anywhere.

The layers are those of the contract in pyproject.toml, the doors at the top; the arrows are the imports that there are, counted
module by module (those for type checkers alone are none). Downwards they run on the right, and on the left, in red, those that
the contract forbids. The ground, which nearly everything stands on, gets no arrows.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from collections import Counter
from dataclasses import dataclass
from html import escape
from math import sqrt
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "MedXAILib"
WIDTH, LEFT, BOX = 900, 70, 540
"""Pixels: of the picture, left of the boxes, of a box."""
ROW, GAP, HEAD, PAD = 40, 6, 16, 5
"""Pixels: a room's row, between two layers, above the first, and inside a layer."""
NAME, TEXT = 128, 64
"""Pixels that a room's name takes, and letters in a line beside it."""
DOWN, UP, INK, PALE = "#3b6ea5", "#c0392b", "#1c2530", "#eef1f5"


@dataclass(frozen=True)
class Room:
    """A box: its place in the contract, and what its first line of documentation says."""

    name: str
    layer: int
    text: str


def layers() -> list[list[str]]:
    """Names of the rooms of each layer of the contract, the doors first; those that are not there yet are left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    found = [[name.strip(" ()") for name in re.split("[:|]", layer)] for layer in contract["layers"]]
    there = [[name for name in names if file_of(name).is_file()] for names in found]
    return [names for names in there if names]


def file_of(room: str) -> Path:
    """A room is a folder or a file, which may lie in a folder: ``app.cli``."""
    folder = (ROOT / PACKAGE).joinpath(*room.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def summary(room: str) -> str:
    """The first sentence of its documentation, plain."""
    text = ast.get_docstring(ast.parse(file_of(room).read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=[^.])[.;](?:\s|$)", text, maxsplit=1)[0].replace("``", "").replace("\n", " ")


def imports(rooms: set[str]) -> Counter[tuple[str, str]]:
    """How many imports lead from the modules of one room to those of another."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    counts: Counter[tuple[str, str]] = Counter()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            source, target = room_of(module, rooms), room_of(other, rooms)
            if source and target and source != target:
                counts[source, target] += 1
    return counts


def room_of(module: str, rooms: set[str]) -> str | None:
    """The room that a module lies in; None for one that is drawn nowhere."""
    name = module.removeprefix(PACKAGE).lstrip(".")
    return next((room for room in rooms if f"{name}.".startswith(f"{room}.")), None)


def draw(rooms: list[Room], ground: list[str], counts: Counter[tuple[str, str]]) -> str:
    """The picture: one row for each room, and one for the ground."""
    middle: dict[str, float] = {}
    parts, y = [], float(HEAD)
    for number in sorted({room.layer for room in rooms}):
        some = [room for room in rooms if room.layer == number]
        height = ROW * len(some) + 2 * PAD
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{BOX}" height="{height}" rx="7" fill="{PALE}"/>')
        for place, room in enumerate(some):
            middle[room.name] = y + PAD + ROW * (place + 0.5)
            parts += box(room, middle[room.name])
        y += height + GAP
    parts.append(f'<rect x="{LEFT}" y="{y}" width="{BOX}" height="{ROW}" rx="7" fill="#dfe5ec"/>')
    parts.append(text(LEFT + BOX / 2, y + ROW / 2 + 4, ", ".join(ground), anchor="middle"))
    bottom = y + ROW + 26
    parts.append(text(LEFT, bottom - 6, "Arrows: imports, the thicker the more. Red: against the order.", size=11))
    order = {room.name: room.layer for room in rooms}
    for (source, target), count in sorted(counts.items(), key=lambda item: (-reach(item[0], middle), item[0])):
        parts.append(arrow(middle[source], middle[target], count, order[source] > order[target]))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom:.0f}" viewBox="0 0 {WIDTH} {bottom:.0f}" '
        'font-family="Helvetica, Arial, sans-serif">'
    )
    markers = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5 L8 4 L0 7.5 z" fill="{color}"/></marker>'
        for name, color in (("down", DOWN), ("up", UP))
    )
    background = f'<rect width="{WIDTH}" height="{bottom:.0f}" fill="white"/>'
    return "\n".join([head, f"<defs>{markers}</defs>", background, *parts, "</svg>", ""])


def reach(pair: tuple[str, str], middle: dict[str, float]) -> float:
    """How far apart two rooms stand, in pixels."""
    return abs(middle[pair[0]] - middle[pair[1]])


def box(room: Room, middle: float) -> list[str]:
    """A room's name, and beside it what it is."""
    lines = textwrap.wrap(room.text, TEXT, max_lines=2, placeholder=" ...")
    first = middle + 4 - 6.5 * (len(lines) - 1)
    return [
        text(LEFT + 10, middle + 5, room.name, weight="bold", size=14),
        *(text(LEFT + NAME + 10, first + 13 * n, line, size=11.5) for n, line in enumerate(lines)),
    ]


def text(x: float, y: float, content: str, *, size: float = 13, weight: str = "normal", anchor: str = "start") -> str:
    """A line of text."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" font-weight="{weight}" text-anchor="{anchor}" fill="{INK}">'
        f"{escape(content)}</text>"
    )


def arrow(start: float, end: float, count: int, against: bool) -> str:
    """An import, as an arc from row to row."""
    side = -1 if against else 1
    x = LEFT if against else LEFT + BOX
    out = x + side * min(
        20 + abs(end - start) * 0.55, LEFT / 0.75 - 10 if against else (WIDTH - LEFT - BOX) / 0.75 - 12
    )
    name, color = ("up", UP) if against else ("down", DOWN)
    return (
        f'<path d="M{x + side * 2} {start + 4:g} C{out:.0f} {start + 4:g} {out:.0f} {end - 4:g} {x + side * 3} {end - 4:g}" '
        f'fill="none" stroke="{color}" stroke-width="{0.6 + 0.5 * sqrt(count):.2f}" stroke-opacity="0.7" '
        f'marker-end="url(#{name})"/>'
    )


def main() -> None:
    """Write the picture."""
    sys.path.insert(0, str(ROOT))
    *above, ground = layers()
    rooms = [Room(name, number, summary(name)) for number, names in enumerate(above) for name in names]
    svg = draw(rooms, ground, imports({room.name for room in rooms}))
    (ROOT / "Docs" / "architecture.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
