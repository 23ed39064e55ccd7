"""A run is made in a folder beside its final place, or inside it, and moved there when it is complete: an interrupted or
failed run leaves nothing, and what was there before stays.

The folder is also the lock: its name follows from the final place, and a file in it tells who writes there. One whose
process is gone is removed by the next run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import InputError, legible, of_path
from ..interrupt import last_acts, undisturbed
from .layout import LOCK, RECORD
from .listing import all_listed, within
from .record import read_json

JOURNAL, OLD = ".moving.json", ".old"
"""In the folder of a run that takes the place of another: what is being moved, and where the older run's files wait. No case has a
hidden name, so no file of a run has one of these."""
LONGEST = 200
"""Bytes of a name, so that there is room for what is put around it."""
BEAT, FORGOTTEN, SAME = 60.0, 3600.0, 60.0
"""Seconds between signs of life of a run; after how many a run on another computer counts as gone; and by how many the
times may differ at which one process seems to have begun, as clocks are set."""

unfinished: set[Path] = set()
"""Folders of runs under way, and locks: whoever ends the process at once removes them first."""
made: set[Path] = set()
"""Folders that a run under way made for its results: they go, too, where nothing is in them."""


@contextmanager
def staged(output: Path, overwrite: bool = False, job: str = "", names: Iterable[str] = (RECORD,)) -> Iterator[Path]:
    """A folder to write a run into, which becomes ``output`` when the block ends without an error.

    :param job: what the run is, told to another one that wants the same place.
    :param names: files that it may write; where ``output`` holds one that no run wrote, this is told before the work.
    :raises InputError: where ``output`` cannot be a folder, holds a run and ``overwrite`` is not given, or another run
        writes there; where the disk is full or not writable.
    """
    output = Path(os.path.abspath(output))
    place = next(p for p in (output, *output.parents) if os.path.lexists(p))
    if not place.is_dir():
        raise InputError(
            f"{legible(place.name)}: this is no folder, so no output folder can be made there; give another path with -o."
        )
    if (output / RECORD).exists() and not overwrite:
        raise InputError(
            f"{legible(output.name)}: this folder already holds a run; give another one with -o, or add --overwrite."
        )
    if output.is_dir():
        refuse_foreign(output, all_listed(output), list(names))
    for above in (p for p in (output, *output.parents) if p.is_dir()):
        clear(partial(output, above), output)
    try:
        with claimed(partial(output, place), output, job) as folder:
            yield folder
            publish(folder, output)
    except OSError as error:
        if isinstance(error.filename, str | bytes) and not is_below(os.fsdecode(error.filename), place):
            raise of_path(error) from None
        raise InputError(
            f"{legible(output.name)}: the results cannot be written ({error.strerror or error}); make room, or give another folder "
            "with -o."
        ) from None


@contextmanager
def claimed(folder: Path, output: Path, job: str) -> Iterator[Path]:
    """A new folder that says whose it is, for as long as the block lasts; what is in it then is removed.

    :param folder: on the file system of ``output``, for which it is.
    :raises InputError: where another run holds it, or nothing can be written.
    """
    clear(folder, output)
    ended = threading.Event()
    try:
        try:
            folder.mkdir()
            unfinished.add(folder)
            (folder / LOCK).write_text(json.dumps(me() | {"job": job}), encoding="utf-8")
        except FileExistsError:
            raise InputError(
                f"{legible(output.name)}: another run has just begun to write here; wait for it."
            ) from None
        except OSError as error:
            raise InputError(
                f"{legible(folder.parent.name) or folder.parent}: no file can be written here ({error.strerror}); give another folder."
            ) from None
        threading.Thread(target=beat, args=(folder / LOCK, ended), daemon=True).start()
        yield folder
    finally:
        ended.set()
        if folder in unfinished:
            discard(folder)
            unfinished.discard(folder)


def is_below(name: str, place: Path) -> bool:
    """Whether a path lies in a run's folder within ``place``, or is one that this run writes to."""
    return any(Path(name).is_relative_to(folder) for folder in unfinished) or Path(name).is_relative_to(place)


def partial(output: Path, place: Path) -> Path:
    """Where a run to ``output`` is made in a folder above it, or in itself."""
    way = name_in(place, output) if place != output else output.name or "run"
    if "/" in way or len(os.fsencode(way)) > LONGEST:
        way = hashlib.sha256(os.fsencode(way)).hexdigest()[:16]
    return place / f".{way}.partial"


def clear(folder: Path, output: Path) -> None:
    """Remove what a run that is gone left behind; an older run whose files it was about to replace is there again.

    :raises InputError: where that run goes on, or where this is no run's folder.
    """
    if not folder.is_dir() or folder.is_symlink():
        if os.path.lexists(folder):
            raise InputError(f"{legible(folder.name)}: a run would be made here, and this is of no run; rename it.")
        return
    lock = read_json(folder / LOCK)
    if alive(folder / LOCK if lock else folder, lock):
        since = time.strftime("%H:%M", time.localtime(moment(lock) or folder.stat().st_mtime))
        who = f"'{lock.get('job') or 'a run'}', process {lock.get('process', '?')} on {lock.get('host', '?')}, since {since}"
        raise InputError(
            f"{legible(output.name)}: another run writes into this folder ({who}); wait for it, or give another folder with -o."
        )
    if not lock and any(folder.iterdir()):
        raise InputError(f"{legible(folder.name)}: this folder, where the run would be made, is of no run; rename it.")
    aside = folder.with_name(f".{uuid4().hex}.partial")
    undo(folder, output)
    with suppress(OSError):
        folder.rename(aside)
        if read_json(aside / LOCK) == lock:
            shutil.rmtree(aside, ignore_errors=True)
        else:  # another run has taken the place meanwhile
            aside.rename(folder)


def alive(sign: Path, lock: dict[str, Any]) -> bool:
    """Whether the run of a lock goes on: its process, where it can be seen from here; else whether it has given a sign of life
    within the hour. One that has not said yet who it is has just begun.

    :param sign: whose time of change is the sign. :param lock: what the lock's file holds.
    """
    mine = me()
    if lock and mine["began"] and all(lock.get(key) == mine[key] for key in ("host", "space")):
        began = started(lock.get("process"))
        return began is not None and abs(began - moment(lock)) < SAME
    with suppress(OSError):
        return time.time() - sign.stat().st_mtime < (FORGOTTEN if lock else BEAT)
    return False


def me() -> dict[str, Any]:
    """What tells this process from every other one. ``space``: where its number means something."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")  # containers share a host and not its numbers
    return {"host": socket.gethostname(), "space": space, "process": os.getpid(), "began": started(os.getpid())}


def moment(lock: dict[str, Any]) -> float:
    """When the process of a lock began, in seconds since 1970; 0 where it does not tell."""
    began = lock.get("began")
    return float(began) if isinstance(began, int | float) and 0 <= began < 1e11 else 0.0


def started(process: object) -> float | None:
    """When a process of this computer began, in seconds since 1970; None where it is gone, or nothing tells."""
    if type(process) is not int or process <= 0:
        return None
    try:
        import psutil
    except ImportError:  # Slicer's own Python, while another one computes
        return None
    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else found.create_time()
    except (psutil.Error, ValueError, OverflowError):
        return None


def beat(lock: Path, ended: threading.Event) -> None:
    """Touch the lock once a minute."""
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(lock)


def publish(folder: Path, output: Path) -> None:
    """Move the finished files to their place, all or none; of an older run, the files that it had listed go.

    A run that is killed as it moves them is undone by the next one, and the older run is there again.

    :raises InputError: where something lies there that no run wrote.
    """
    os.chmod(folder, 0o777 & ~_umask())
    with undisturbed():
        if not output.exists():
            output.parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder, output)
            (output / LOCK).unlink(missing_ok=True)
            return
        old = [name for name in all_listed(output) if os.path.lexists(output / name)]
        new = sorted(name_in(folder, p) for p in folder.rglob("*") if p.is_file() and p != folder / LOCK)
        refuse_foreign(output, old, new)
        (folder / JOURNAL).write_text(json.dumps({"old": old, "new": new}), encoding="utf-8")
        try:
            for name in old:
                move(output / name, folder / OLD / name)
            for name in sorted(new, key=lambda name: name == RECORD):  # last: a folder that has it is complete
                move(folder / name, output / name)
        except BaseException:
            undo(folder, output)
            raise
        (folder / JOURNAL).unlink()
        prune(output, old)


def undo(folder: Path, output: Path) -> None:
    """Put the files of an older run back where a newer one did not come to the end of moving its own."""
    journal = read_json(folder / JOURNAL)
    new, old = (within(output, journal.get(kind)) for kind in ("new", "old"))
    for name in new:
        if not (folder / name).exists():
            (output / name).unlink(missing_ok=True)
    for name in old:
        if os.path.lexists(folder / OLD / name):
            move(folder / OLD / name, output / name)
    prune(output, new)
    (folder / JOURNAL).unlink(missing_ok=True)


def prune(output: Path, names: Iterable[str]) -> None:
    """Remove the folders of these files where nothing is in them any more."""
    for above in sorted({p for name in names for p in Path(name).parents if p.name}, reverse=True):
        with suppress(OSError):
            (output / above).rmdir()


def discard(folder: Path) -> None:
    """Remove the folder of a run, but for one that still holds the files of an older run."""
    if folder.is_dir() and not (folder / JOURNAL).exists():
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_file():  # the lock of a run into a folder that stays
        folder.unlink(missing_ok=True)


def move(path: Path, target: Path) -> None:
    """Move a file, into a folder that need not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, target)


def name_in(folder: Path, path: Path) -> str:
    """A file's path in a folder, with ``/`` on every system."""
    return path.relative_to(folder).as_posix()


def refuse_foreign(output: Path, old: list[str], new: list[str]) -> None:
    """:raises InputError: for what no run wrote where a file of the new run goes."""
    ours = set(old)
    above = {Path(name).parents[n].as_posix() for name in new for n in range(len(Path(name).parents) - 1)}
    taken = [name for name in new if os.path.lexists(output / name) and name not in ours]
    taken += [
        name for name in above if (output / name).is_symlink() or ((output / name).is_file() and name not in ours)
    ]
    taken += [name for name in old if (output / name).is_dir() and not (output / name).is_symlink()]
    if taken:
        raise InputError(
            f"{legible(output.name)}: this folder holds '{legible(sorted(taken)[0])}', which no run wrote; give another folder with -o."
        )


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder: one is, and is gone at once."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def discard_all() -> None:
    """Remove every folder of a run under way."""
    for folder in list(unfinished):
        discard(folder)
    for folder in sorted(made, reverse=True):
        with suppress(OSError):
            folder.rmdir()


last_acts.append(discard_all)
