"""What a run will need, told from its first case before it begins: room on the disk, and memory for each worker."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..attribution.method import InputMethod
from ..cases.case import Case
from ..errors import InputError, legible
from ..recording.recording import INPUT
from ..session import Session
from .case import opened, volumes_of
from .setup import Setup

TRIED = 5
"""How many cases are looked at until one can be used."""
MAP_BYTES, LABEL_BYTES = 4, 1
"""Bytes of a voxel before it is packed: of a map, and of its hot regions, superpixels or a segmentation."""
FIRST = 5
"""How many cases are shown by name."""
LATER = 100 << 20
"""Bytes that libraries take which are loaded when the first case is explained and written (measured: 65 to 120 MiB)."""
RETAINED = 1.75
"""How much a process grows by for what passes hold at once: blocks that were let go and fit nothing else, weights as kernels want
them (measured: 1.3 to 1.8)."""
COPIES = 3
"""Copies of a whole case's voxels, as float32, that are held at once beside the network's own: read, placed, preprocessed."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one case needs, in bytes.

    :ivar disk: at most, as nothing is known of how well it can be packed.
    :ivar memory: beside what a worker holds before it begins.
    """

    disk: int
    memory: int


def estimate(setup: Setup, cases: Sequence[Case]) -> Estimate | None:
    """Of the first case that can be used; None where the first few cannot."""
    for case in cases[:TRIED]:
        try:
            return _of(setup, case, opened(setup.model, volumes_of(setup.job, case)))
        except (InputError, OSError):
            continue
    return None


def _of(setup: Setup, case: Case, session: Session) -> Estimate:
    reference = session.prepared.reference
    voxels, seen = reference.array.size, session.prepared.tensor.numel()
    request = setup.request_for(case.mask)
    layers: list[str] = []
    disk, maps = LABEL_BYTES * voxels, 0
    if request is not None:
        plan = session.plan(request)
        layers = [
            *plan.recorded,
            *([INPUT] if any(isinstance(step.method, InputMethod) for step in plan.steps) else []),
        ]
        maps = len(request.targets) * sum(max(1, len(step.layers)) for step in plan.steps)
        disk += maps * (MAP_BYTES + LABEL_BYTES) * voxels
    if setup.job.keep_input:
        disk += MAP_BYTES * seen
    passes = round(RETAINED * session.memory(layers))
    return Estimate(disk=disk, memory=LATER + passes + 4 * (COPIES + maps) * voxels + 4 * COPIES * seen)


def told(cases: Sequence[Case]) -> str:
    """How many cases were found, and the first of them."""
    names = ", ".join(case.name for case in cases[:FIRST])
    more = f" and {len(cases) - FIRST} more" if len(cases) > FIRST else ""
    faults = sum(bool(case.fault) for case in cases)
    known = f"; {faults} of them cannot be used" if faults else ""
    return f"{len(cases)} cases: {names}{more}{known}."


def check_disk(root: Path, each: int, count: int, say: Callable[[str], None]) -> None:
    """Tell how much room the results need at most.

    :raises InputError: where not a tenth of it is there: packed results are hardly ever so much smaller.
    """
    place = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    need, free = each * count, shutil.disk_usage(place).free
    say(f"Disk: at most {in_words(need)} for {count} cases; {in_words(free)} are free.")
    if need / 10 > free:
        raise InputError(
            f"{legible(root.name)}: the results of {count} cases need up to {in_words(need)}, and {in_words(free)} are free; make room, or "
            "give another folder with -o."
        )
    if need > free:
        say("This may not fit: what is finished is kept when the disk is full.")


def held() -> int:
    """Bytes that this process holds."""
    return int(psutil.Process().memory_info().rss)


def held_below() -> int:
    """Bytes that the processes hold which this one began."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def in_words(size: int) -> str:
    """Bytes in the unit that suits them."""
    unit = next((n for n in ("TiB", "GiB", "MiB") if size >= UNITS[n]), "KiB")
    return f"{size / UNITS[unit]:.3g} {unit}"


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
