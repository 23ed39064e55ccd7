"""Contact sheets, and the table and picture of structures, over the cases of a run: derived from what lies in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ..attribution.registry import method_title
from ..outputs.layout import TABLES, safe
from ..outputs.pictures.matrix import write_matrix
from ..outputs.pictures.thumbnail import Shown, write_contacts

STRUCTURES = "structures.csv"
Told = Iterable[tuple[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]]
"""Cases by name, each with its record and its parts that are there."""


def contact_sheets(root: Path, folders: Mapping[str, str], told: Told, count: int) -> list[str]:
    """A sheet for each class, method and layer of which several cases have a picture; gives the names of the files.

    :param folders: case -> its folder. :param count: how many cases the run has.
    """
    shown: dict[tuple[str, str, str], list[tuple[Shown, bool]]] = {}
    model = ""
    for name, _, parts in told:
        for part in parts:
            model = part.get("said", {}).get("model", model)
            pictures = [file for file in part["files"] if "_picture_" in file and file.endswith(".png")]
            for m, picture in zip(part.get("maps", ()), pictures_of(part, pictures), strict=True):
                if picture:
                    one = Shown(name=name, says=m["says"], picture=root / folders[name] / picture)
                    shown.setdefault((m["target"], m["method"], m["layer"]), []).append((one, m["signed"]))
    names = []
    for (target, method, layer), some in sorted(shown.items()):
        if len(some) < 2:
            continue
        path = root / f"contact_{'_'.join(safe(part) for part in (target, method, layer) if part)}.png"
        title = " · ".join(part for part in (model, target, method_title(method), layer) if part)
        heading = f"{title} · {len(some)} of {count} cases"
        names += [file.name for file in write_contacts([one for one, _ in some], path, heading, some[0][1])]
    return names


def pictures_of(part: Mapping[str, Any], pictures: Sequence[str]) -> list[str | None]:
    """The picture of each map of a part, in their order."""
    found: list[str | None] = []
    for m in part.get("maps", ()):
        words = "_".join(safe(word) for word in (m["target"], m["method"], m["layer"], "picture") if word)
        found.append(next((name for name in pictures if f"_{words}_" in name or f"_{words}-" in name), None))
    return found


def structures(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Over cases: which fraction of a map's own positive mass lies in a structure, and which of the volume it is.

    Fractions of each map's own mass are what can be compared: raw values of two cases have no common scale.

    :param rows: of anatomy.csv.
    """
    found: dict[tuple[str, ...], list[Sequence[Any]]] = {}
    at = TABLES["anatomy.csv"].index
    for row in rows:
        key = tuple(row[at(name)] for name in ("class", "method", "layer", "structure"))
        found.setdefault(key, []).append(row)
    table = []
    for key, some in sorted(found.items()):
        of_map = [row[at("positive_fraction")] for row in some if row[at("positive_fraction")] is not None]
        of_volume = [row[at("volume_fraction")] for row in some if row[at("volume_fraction")] is not None]
        spread = stdev(of_map) if len(of_map) > 1 else None
        mean = fmean(of_map) if of_map else None
        table.append((*key, len(of_map), mean, spread, fmean(of_volume) if of_volume else None))
    return table


def matrices(root: Path, table: Sequence[Sequence[Any]], count: int) -> list[str]:
    """A picture for each method and layer: classes against structures; gives the names of the files."""
    found: dict[tuple[str, str], list[Sequence[Any]]] = {}
    for row in table:
        found.setdefault((row[1], row[2]), []).append(row)
    names = []
    for (method, layer), rows in sorted(found.items()):
        name = f"structures_{'_'.join(safe(part) for part in (method, layer) if part)}.png"
        title = " · ".join(part for part in (method_title(method), layer) if part)
        least = min(row[4] for row in rows)
        write_matrix(
            rows,
            root / name,
            f"{title}: where the positive mass lies, {least} of {count} cases"
            + (" or more" if least < max(row[4] for row in rows) else ""),
        )
        names.append(name)
    return names
