"""A run's folder: who writes there, what job it is of, and what of it was written by runs.

Several processes may write into one folder side by side, each with a lock of its own, as long as they carry out the same job.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from .. import NOTICE
from ..errors import InputError, legible, of_path
from ..io import atomic
from .layout import RECORD, RESERVED, RUN_VERSION, SHEETS
from .listing import all_listed
from .record import read_json, read_own
from .staging import alive, beat, is_below, made, me, refuse_foreign, unfinished

LOCKS = ".medxai-*.lock"


@contextmanager
def claimed_run(root: Path, job: str, what: str) -> Iterator[Callable[[], bool]]:
    """The right to write into a run's folder, which is made where it is not there; gone again where nothing was written.

    :param job: its key. :param what: the run in words, told to whoever wants the folder for another job.
    :returns: tells whether nobody else writes there now.
    :raises InputError: where another job's run writes there, or nothing can be written.
    """
    root = Path(os.path.abspath(root))
    place = next(p for p in (root, *root.parents) if os.path.lexists(p))
    if not place.is_dir():
        raise InputError(
            f"{legible(place.name)}: this is no folder, so no output folder can be made there; give another path with -o."
        )
    new = [p for p in (root, *root.parents) if not p.exists()]
    made.update(new)
    lock, ended = root / LOCKS.replace("*", uuid4().hex), threading.Event()
    try:
        try:
            root.mkdir(parents=True, exist_ok=True)
            unfinished.add(lock)
            lock.write_text(json.dumps(me() | {"job": what, "key": job}), encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"{legible(place.name) or place}: no file can be written here ({error.strerror}); give another folder."
            ) from None
        _alone(root, lock, job)
        threading.Thread(target=beat, args=(lock, ended), daemon=True).start()
        try:
            yield partial(_alone, root, lock, job)
        except OSError as error:
            if isinstance(error.filename, str | bytes) and not is_below(os.fsdecode(error.filename), root):
                raise of_path(error) from None
            raise InputError(
                f"{legible(root.name)}: the results cannot be written ({error.strerror or error}); make room, or give another "
                "folder with -o. What was finished is kept: the same command goes on from there."
            ) from None
    finally:
        ended.set()
        with suppress(OSError):
            lock.unlink(missing_ok=True)
        unfinished.discard(lock)
        made.difference_update(new)
        for folder in new:
            with suppress(OSError):
                folder.rmdir()


def _alone(root: Path, own: Path, job: str) -> bool:
    """Whether nobody else writes into a folder; locks of those who are gone are removed.

    :raises InputError: where somebody writes there for another job.
    """
    alone = True
    for path in root.glob(LOCKS):
        if path == own:
            continue
        lock = read_json(path)
        if not alive(path, lock):
            path.unlink(missing_ok=True)
            continue
        alone = False
        if lock and lock.get("key") != job:
            raise InputError(
                f"{legible(root.name)}: another run writes into this folder ('{lock.get('job')}', process {lock.get('process', '?')} on "
                f"{lock.get('host', '?')}); wait for it, or give another folder with -o."
            )
    return alone


def read_run(root: Path) -> dict[str, Any]:
    """What run.json holds; empty where there is none.

    :raises FileError: for a file of this name that no run wrote.
    """
    path = root / RECORD
    if not os.path.lexists(path):
        return {}
    return read_own(path)


def write_run(root: Path, record: Mapping[str, Any], files: Iterable[str]) -> dict[str, Any]:
    """run.json, and what it holds then.

    :param files: what lies in the run's own folder beside it: tables.
    """
    whole = {"notice": NOTICE, "schema_version": RUN_VERSION, **record, "files": [*sorted(files), RECORD]}
    atomic.write_text(root / RECORD, json.dumps(whole, indent=1))
    return whole


def refuse_in_the_way(root: Path, folders: Iterable[Path]) -> None:
    """:raises InputError: for what no run wrote where a table or the folder of a case would go. In the folder of a run, names of tables
    and sheets are the runs' own: one that was stopped may not have listed what it had begun to write."""
    if not root.is_dir():
        return
    if not read_run(root):
        sheets = (path.name for pattern in SHEETS for path in root.glob(pattern))
        refuse_foreign(root, all_listed(root), sorted({*RESERVED, *sheets}))
    for folder in folders:
        for above in (folder, *folder.parents):
            if above == root:
                break
            if above.is_symlink() or (above.exists() and not above.is_dir()):
                raise InputError(
                    f"{legible(root.name)}: this folder holds '{legible(above.name)}', which no run wrote; give another folder with -o."
                )
