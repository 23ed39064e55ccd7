"""Who carries out the cases of a run: this process, several of this machine, or a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..attribution.registry import options
from ..cases.case import Case
from ..engines.cluster import over_dask
from ..engines.died import WorkerDied
from ..engines.processes import over_processes
from ..errors import InputError
from ..outputs.case_file import publish_failure
from ..progress import Progress, portion
from ..provenance import available_memory
from .estimate import held_below, in_words
from .job import PATH, Job, specs
from .keys import key_of
from .setup import Order, Setup
from .work import Outcome, carry, carry_warm

RESERVE = 1 << 28
"""Bytes of free memory below which no further case is begun beside others."""


class Way(Protocol):
    """Carries cases out."""

    def threads(self) -> int | None:
        """Of each worker, where the job does not say; None where they say it themselves."""

    def fitted(self, need: int, base: int, say: Callable[[str], None]) -> Way:
        """The same, with no more workers than there is memory for.

        :param need: bytes that a case takes. :param base: bytes that a worker holds before it.
        """

    def carry_out(self, setup: Setup, cases: Sequence[Case], progress: Progress) -> Iterator[Outcome]:
        """What became of each case, as they finish.

        :raises OSError: where nothing can be written.
        """


class One:
    """This process, one case after the other."""

    def threads(self) -> int | None:
        """See :class:`Way`."""
        import torch

        return torch.get_num_threads()

    def fitted(self, need: int, base: int, say: Callable[[str], None]) -> Way:
        """See :class:`Way`."""
        return self

    def carry_out(self, setup: Setup, cases: Sequence[Case], progress: Progress) -> Iterator[Outcome]:
        """See :class:`Way`."""
        with threads_of(setup.job.threads):
            for number, case in enumerate(cases):
                yield carry(setup, case, portion(progress, number, len(cases)))


@dataclass(frozen=True)
class Workers:
    """Several processes of this machine.

    :ivar count: how many. :ivar each: bytes that one needs with a case; 0 where this is not known.
    """

    count: int
    each: int = 0

    def threads(self) -> int | None:
        """See :class:`Way`."""
        return max(1, cores() // self.count)

    def fitted(self, need: int, base: int, say: Callable[[str], None]) -> Way:
        """See :class:`Way`."""
        count = max(1, min(self.count, available_memory() // (base + need)))
        say(f"Memory: about {in_words(base + need)} for each worker; {in_words(available_memory())} are free.")
        if count < self.count:
            say(f"This is enough for {count} of {self.count} workers.")
        return Workers(count, base + need)

    def carry_out(self, setup: Setup, cases: Sequence[Case], progress: Progress) -> Iterator[Outcome]:
        """See :class:`Way`."""
        threads = setup.job.threads or self.threads() or 1
        function = partial(carry_warm, replace(setup.order, whole=False).text)
        pairs = over_processes(function, cases, workers=self.count, threads=threads, most=self.most)
        yield from _told(setup.order, pairs, len(cases), progress)

    def most(self, running: int) -> int:
        """How many cases may be under way, by the memory that is free now and that workers hold already."""
        free = available_memory() - RESERVE
        if free < 0:
            return running
        return (free + held_below()) // self.each if self.each else self.count


@dataclass(frozen=True)
class Scheduler:
    """A Dask cluster.

    :ivar address: of its scheduler.
    """

    address: str

    def threads(self) -> int | None:
        """See :class:`Way`."""
        return None

    def fitted(self, need: int, base: int, say: Callable[[str], None]) -> Way:
        """See :class:`Way`."""
        say(f"Memory: about {in_words(base + need)} for each worker.")
        return self

    def carry_out(self, setup: Setup, cases: Sequence[Case], progress: Progress) -> Iterator[Outcome]:
        """See :class:`Way`."""
        order = replace(setup.order, whole=False, job=absolute(setup.job))
        cases = [_absolute(case) for case in cases]
        key = key_of(order=order.text, identity=setup.identity)
        pairs = over_dask(
            self.address, partial(carry_warm, order.text), cases, lambda case: f"medxai-{key}-{case.name}"
        )
        yield from _told(order, pairs, len(cases), progress)


def absolute(job: Job) -> Job:
    """A job whose files are named from the root on: another machine stands in another folder."""
    named: dict[str, Any] = {
        f.name: _from_root(getattr(job, f.name)) for f in specs() if f.metadata["kind"] == PATH and getattr(job, f.name)
    }
    known = options()
    given = {
        name: tuple(_from_root(path) for path in value) if name in known and known[name].inputs else value
        for name, value in job.options.items()
    }
    return replace(job, model=_from_root(job.model), options=given, **named)


def _from_root(text: str) -> str:
    return os.path.abspath(text) if os.path.exists(text) else text


def _absolute(case: Case) -> Case:
    inputs = {name: path.absolute() for name, path in case.inputs.items()}
    own: dict[str, Any] = {
        kind: path.absolute() for kind in ("anatomy", "mask", "labels") if isinstance(path := getattr(case, kind), Path)
    }
    return replace(case, inputs=inputs, **own)


def _told(order: Order, pairs: Iterable[tuple[Case, Any]], count: int, progress: Progress) -> Iterator[Outcome]:
    """What became of each; a worker that died is its case's failure."""
    progress(0, count, f"0 of {count} cases")
    for number, (case, found) in enumerate(pairs, 1):
        if isinstance(found, WorkerDied):
            found = _died(order, case, found)
        if isinstance(found, BaseException):
            raise found
        progress(number, count, f"{number} of {count} cases")
        yield found


def _died(order: Order, case: Case, error: WorkerDied) -> Outcome:
    failure = {"stage": "worker", "sentence": f"{case.name}: {error}", "job": order.key}
    if order.several:
        publish_failure(order.root / case.folder, case.name, failure)
    return Outcome(name=case.name, failure=failure, error=None if order.several else InputError(failure["sentence"]))


@contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    """This process with so many threads; None leaves them as they are."""
    if count is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores() -> int:
    """Of this machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
