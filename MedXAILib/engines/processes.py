"""Pieces of work over several processes of this machine (pebble): each is started anew, so that no thread or lock of this one comes
along, and lives as long as there is work, so that what it has loaded stays warm."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import TypeVar

from ..interrupt import last_acts
from .died import WorkerDied

Item = TypeVar("Item")
Result = TypeVar("Result")
TRIES = 2
"""How often a piece is begun whose worker dies."""
LOOK = 1.0
"""Seconds after which is looked again how many pieces may run."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def over_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    threads: int,
    most: Callable[[int], int],
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Each piece with what the function gave of it, or what it raised, as they finish.

    :param function: that another process can import. :param threads: of each worker.
    :param most: how many pieces may run now, from how many do.
    :returns: a piece whose worker died is tried again, and then comes with :class:`WorkerDied`; from each on that was killed one
        piece fewer runs at a time, as memory may have been the cause.
    """
    from pebble import ProcessExpired, ProcessPool

    waiting, tries, deaths = deque(enumerate(items)), Counter[int](), 0
    context = multiprocessing.get_context("spawn")
    with _threads(threads):
        pool = ProcessPool(max_workers=workers, context=context, initializer=begin)
        running: dict[Future[Result], tuple[int, Item]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < max(1, min(workers - deaths, most(len(running)))):
                    number, item = waiting.popleft()
                    running[pool.schedule(function, args=(item,))] = number, item
                for future in wait(running, timeout=LOOK, return_when=FIRST_COMPLETED).done:
                    number, item = running.pop(future)
                    error: BaseException | None = future.exception()
                    if isinstance(error, ProcessExpired):
                        tries[number] += 1
                        deaths += error.exitcode == -9  # as the system does where memory runs out
                        if tries[number] < TRIES:
                            waiting.append((number, item))
                            continue
                        error = WorkerDied(error.exitcode)
                    yield item, future.result() if error is None else error
            pool.close()
        except BaseException:
            pool.stop()
            raise
        finally:
            pool.join()


def begin() -> None:
    """In a new worker: who began it decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not sys.warnoptions:  # what libraries say to their programmers
        warnings.simplefilter("ignore")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """What processes that begin meanwhile read before they load a library."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update({name: str(count) for name in THREADS})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end_all() -> None:
    """Where this process is ended at once, its workers are too."""
    for process in multiprocessing.active_children():
        process.kill()


last_acts.insert(0, _end_all)
