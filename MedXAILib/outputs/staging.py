"""A run is made in a folder beside its final place, or inside it, and moved there when it is complete: an interrupted or
failed run leaves nothing, and what was there before stays.

The folder is also the lock: its name follows from the final place, and a file in it tells who writes there. One whose
process is gone is removed by the next run.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ..errors import InputError, legible

LOCK = "run.lock"
BEAT, FORGOTTEN, SAME = 60.0, 3600.0, 60.0
"""Seconds between signs of life of a run; after how many a run on another computer counts as gone; and by how many the
times may differ at which one process seems to have begun, as clocks are set."""

unfinished: set[Path] = set()
"""Folders of runs under way: whoever ends the process at once removes them first."""


@contextmanager
def staged(output: Path, overwrite: bool = False, job: str = "") -> Iterator[Path]:
    """A folder to write a run into, which becomes ``output`` when the block ends without an error.

    :param job: what the run is, told to another one that wants the same place.
    :raises InputError: where ``output`` cannot be a folder, holds a run and ``overwrite`` is not given, or another run
        writes there; where the disk is full or not writable.
    """
    output = Path(os.path.abspath(output))
    place = next(p for p in (output, *output.parents) if p.exists())
    if not place.is_dir():
        raise InputError(
            f"{legible(place.name)}: this is a file, so no output folder can be made there; give another path with -o."
        )
    if (output / "run.json").exists() and not overwrite:
        raise InputError(
            f"{legible(output.name)}: this folder already holds a run; give another one with -o, or add --overwrite."
        )
    for above in (p for p in (output, *output.parents) if p.is_dir()):
        clear(partial(output, above), output)
    try:
        with claimed(partial(output, place), output, job) as folder:
            yield folder
            publish(folder, output)
    except OSError as error:
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
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.discard(folder)


def partial(output: Path, place: Path) -> Path:
    """Where a run to ``output`` is made in a folder above it, or in itself."""
    parts = output.relative_to(place).parts or (output.name or "run",)
    return place / f".{'-'.join(parts)}.partial"


def clear(folder: Path, output: Path) -> None:
    """Remove what a run that is gone left behind.

    :raises InputError: where that run goes on.
    """
    if not folder.is_dir():
        return
    lock = read(folder / LOCK)
    if alive(folder, lock):
        since = time.strftime("%H:%M", time.localtime(lock.get("began") or folder.stat().st_mtime))
        who = f"'{lock.get('job') or 'a run'}', process {lock.get('process', '?')} on {lock.get('host', '?')}, since {since}"
        raise InputError(
            f"{legible(output.name)}: another run writes into this folder ({who}); wait for it, or give another folder with -o."
        )
    aside = folder.with_name(f"{folder.name}-{uuid4().hex}")
    with suppress(OSError):
        folder.rename(aside)
        if read(aside / LOCK) == lock:
            shutil.rmtree(aside, ignore_errors=True)
        else:  # another run has taken the place meanwhile
            aside.rename(folder)


def read(path: Path) -> dict:
    """Who writes; empty where that is not known."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def alive(folder: Path, lock: dict) -> bool:
    """Whether the run that writes into a folder goes on: its process, where it can be seen from here; else whether it has
    given a sign of life within the hour. One that has not said yet who it is has just begun."""
    mine = me()
    if lock and mine["began"] and all(lock.get(key) == mine[key] for key in ("host", "space")):
        began = started(lock.get("process"))
        return began is not None and abs(began - float(lock.get("began") or 0)) < SAME
    with suppress(OSError):
        sign = folder / LOCK if lock else folder
        return time.time() - sign.stat().st_mtime < (FORGOTTEN if lock else BEAT)
    return False


def me() -> dict:
    """What tells this process from every other one. ``space``: where its number means something."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")  # containers share a host and not its numbers
    return {"host": socket.gethostname(), "space": space, "process": os.getpid(), "began": started(os.getpid())}


def started(process: object) -> float | None:
    """When a process of this computer began, in seconds since 1970; None where it is gone, or nothing tells."""
    try:
        import psutil
    except ImportError:  # Slicer's own Python, while another one computes
        return None
    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else found.create_time()
    except (psutil.Error, ValueError, TypeError):
        return None


def beat(lock: Path, ended: threading.Event) -> None:
    """Touch the lock once a minute."""
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(lock)


def publish(folder: Path, output: Path) -> None:
    """Move the finished files to their place; of an older run, the files that it had listed go."""
    (folder / LOCK).unlink(missing_ok=True)
    os.chmod(folder, 0o777 & ~_umask())
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, output)
        return
    old = listed(output / "run.json")
    foreign = [
        p
        for p in folder.rglob("*")
        if p.is_file() and (name := p.relative_to(folder).as_posix()) not in old and (output / name).exists()
    ]
    if foreign:
        raise InputError(
            f"{legible(output.name)}: this folder holds a file '{legible(foreign[0].name)}' that no run wrote; give another folder with -o."
        )
    for name in old:
        (output / name).unlink(missing_ok=True)
    new = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.name == "run.json")
    for path in new:  # run.json last: a folder that has it is complete
        target = output / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


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


def listed(path: Path) -> list[str]:
    """The files of an older run; only plain relative names count."""
    try:
        names = json.loads(path.read_text(encoding="utf-8")).get("files", [])
    except (OSError, ValueError, AttributeError):
        return []
    return [
        name
        for name in names
        if isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
    ]
