"""Which files runs wrote into a folder: what run.json and case.json list."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import NOTICE
from .layout import CASE, RECORD
from .record import read_json


def files_of(case: Mapping[str, Any]) -> dict[str, int]:
    """Name -> bytes of every file that a case.json lists."""
    return {name: size for part in case.get("parts", ()) for name, size in part.get("files", {}).items()}


def case_folders(root: Path) -> Iterator[Path]:
    """Every folder of a case in that of a run, sorted; not those of another run inside it. Others may write there meanwhile: hidden
    folders are theirs."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _is_run(Path(place, name)))
        if CASE in names and read_json(Path(place, CASE)).get("notice") == NOTICE:
            yield Path(place)


def _is_run(folder: Path) -> bool:
    return (folder / RECORD).is_file() and read_json(folder / RECORD).get("notice") == NOTICE


def listed(folder: Path) -> list[str]:
    """What runs wrote into a folder itself; nothing where the records are another program's."""
    found: list[str] = []
    run, case = read_json(folder / RECORD), read_json(folder / CASE)
    if run.get("notice") == NOTICE:
        found += within(folder, run.get("files"))
    if case.get("notice") == NOTICE:
        found += [*within(folder, list(files_of(case))), CASE]
    return found


def all_listed(root: Path) -> list[str]:
    """What runs wrote into a folder and into those of its cases, by paths relative to it."""
    found = listed(root)
    for folder in case_folders(root):
        if folder != root:
            found += [(folder / name).relative_to(root).as_posix() for name in listed(folder)]
    return found


def within(folder: Path, names: object) -> list[str]:
    """Of what a file says are names, those of files in a folder, by plain relative paths."""
    here = folder.resolve()

    def inside(name: object) -> bool:
        if not isinstance(name, str) or not name or "\0" in name or ".." in Path(name).parts:
            return False
        try:
            short = all(len(os.fsencode(part)) < 256 for part in Path(name).parts)
            return short and (here / name).parent.resolve().is_relative_to(here)
        except (OSError, ValueError):  # no name of a file
            return False

    return [name for name in names if inside(name)] if isinstance(names, list) else []
