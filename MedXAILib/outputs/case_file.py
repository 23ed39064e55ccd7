"""case.json: what a case *is*. It is put in place last, so that a case is there whole or not at all; what no case.json lists does
not exist for us."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from .. import NOTICE
from ..errors import FileError, legible
from ..interrupt import undisturbed
from .layout import CASE, RUN_VERSION
from .listing import files_of
from .record import read_json, read_own
from .staging import discard, made, unfinished

PRIVATE = re.compile(r"^\.[0-9a-f]{32}\.partial$")
"""Names of folders in which files wait to be moved to their place."""
KEYED = re.compile(r"_[0-9a-f]{16}\.[A-Za-z0-9.]+$")
"""How the names of our files end."""


def read_case(folder: Path) -> dict[str, Any]:
    """What case.json of a case's folder holds; empty where there is none.

    :raises FileError: for a file of this name that no run wrote, or that a newer MedXAI did.
    """
    path = folder / CASE
    if not os.path.lexists(path):
        return {}
    found = read_own(path)
    version = found.get("schema_version", 0)
    if not isinstance(version, int) or version > RUN_VERSION:
        raise FileError(
            legible(str(path)),
            f"a newer MedXAI wrote it (schema_version {version}; this one reads up to {RUN_VERSION})",
            "update MedXAI",
        )
    return found


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


def sweep(root: Path, folders: Sequence[Path]) -> None:
    """Remove what runs that are gone left behind in these folders of cases: what bears our own names and no case.json lists."""
    for folder in folders:
        listed = files_of(read_json(folder / CASE))
        for path in folder.iterdir() if folder.is_dir() else ():
            if PRIVATE.search(path.name):
                shutil.rmtree(path, ignore_errors=True)
            elif KEYED.search(path.name) and path.name not in listed and path.is_file():
                path.unlink(missing_ok=True)
        for above in (folder, *folder.parents):
            if above == root:
                break
            with suppress(OSError):
                above.rmdir()
