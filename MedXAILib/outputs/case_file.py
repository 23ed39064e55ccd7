"""case.json: what a case *is*. It is put in place last, so that a case is there whole or not at all; what no case.json lists does
not exist for us."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from .. import NOTICE
from ..interrupt import undisturbed
from ..io.atomic import UNFINISHED
from .layout import BIDS, CASE, RUN_VERSION
from .listing import files_of
from .record import read_json, read_own
from .staging import discard, made, unfinished

KEYED = re.compile(r"_[0-9a-f]{16}\.[A-Za-z0-9.]+$")
"""How the names of our files end."""
OURS = re.compile(rf"^\.[0-9a-f]{{32}}\.partial$|{UNFINISHED.pattern}|{KEYED.pattern}")
"""Those, folders in which files wait to be moved to their place, and files that were not finished."""


def read_case(folder: Path) -> dict[str, Any]:
    """What case.json of a case's folder holds; empty where there is none.

    :raises FileError: for a file of this name that no run wrote, or that a newer MedXAI did.
    """
    path = folder / CASE
    if not os.path.lexists(path):
        return {}
    return read_own(path)


def is_whole(folder: Path, files: Mapping[str, int]) -> bool:
    """Whether these files lie in a case's folder, as large as they were written."""
    try:
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except OSError:
        return False


@contextmanager
def in_private(folder: Path) -> Iterator[Path]:
    """A folder in that of a case, in which its new files are written; it is gone at the end, and so is the case's where nothing is
    in it."""
    private = folder / f".{uuid4().hex}.partial"
    made.add(folder)
    try:
        private.mkdir(parents=True)
        unfinished.add(private)
        yield private
    finally:
        discard(private)
        unfinished.discard(private)
        made.discard(folder)
        with suppress(OSError):
            folder.rmdir()


def publish(private: Path, folder: Path, record: Mapping[str, Any]) -> None:
    """Move new files to their place, and case.json last; files that the one before listed and this one does not are removed."""
    before, now = files_of(read_case(folder)), files_of(record)
    text = json.dumps({"notice": NOTICE, "schema_version": RUN_VERSION, **record}, indent=1)
    (private / CASE).write_text(text, encoding="utf-8")
    with undisturbed():
        for path in sorted(private.rglob("*")):
            if path.name in now:
                os.replace(path, folder / path.name)
        os.replace(private / CASE, folder / CASE)
        for name in before.keys() - now.keys():
            if KEYED.search(name):
                (folder / name).unlink(missing_ok=True)


def publish_failure(folder: Path, case: str, failure: Mapping[str, str]) -> None:
    """Put on record that a case failed; what is there of it stays."""
    with in_private(folder) as private:
        publish(private, folder, {"parts": [], **read_case(folder), "case": case, "failures": [dict(failure)]})


def replace_parts(folder: Path, record: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], stays: bool) -> None:
    """Keep only these parts of a case and remove the files of the others.

    :param stays: whether the case itself does.
    """
    with in_private(folder) as private:
        publish(private, folder, {**record, "parts": list(parts)})
        if not stays:
            (folder / CASE).unlink()


def sweep(root: Path, folders: Sequence[Path], alone: Callable[[], bool]) -> None:
    """Remove what runs that are gone left behind in a run's folder and in those of its cases: what bears our own names and no case.json
    lists.

    :param alone: whether nobody else writes there. It is asked after a folder was looked through, and before case.json is read again:
        whoever put there what was seen either still shows, or has come to his end.
    """
    derived = [path for place in (root.iterdir(), (root / BIDS).rglob(".*")) for path in place]
    if (left := [path for path in derived if UNFINISHED.search(path.name)]) and alone():
        _remove(left)
    for folder in folders:
        if seen := _unlisted(folder, list(folder.iterdir()) if folder.is_dir() else []):
            if not alone():
                return
            _remove(_unlisted(folder, seen))
        for above in (folder, *folder.parents):
            if above == root:
                break
            if above.is_dir() and not any(above.iterdir()) and alone():
                with suppress(OSError):
                    above.rmdir()


def _unlisted(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Of what lies in a case's folder, what bears our own names and its case.json does not list."""
    ours = [path for path in paths if OURS.search(path.name)]
    listed = files_of(read_json(folder / CASE)) if ours else {}
    return [path for path in ours if path.name not in listed]


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
