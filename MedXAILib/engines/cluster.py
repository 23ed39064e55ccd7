"""Pieces of work over a Dask cluster: Slurm, PBS, LSF, SGE and Kubernetes start its workers (dask-jobqueue, dask-kubernetes)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ..errors import InputError, PackageError, first_line
from .child import in_child
from .died import WorkerDied

Item = TypeVar("Item")
Result = TypeVar("Result")
RETRIES = 2
"""How often Dask begins a piece again whose worker was lost."""
SLOT = "slot"
"""Resource of a worker; where every worker has it, each gets one piece at a time whatever its threads."""
PATIENCE = 60.0
"""Seconds in which a scheduler must answer."""


class SchedulerLost(InputError):
    """The scheduler does not answer any more."""


def over_dask(
    address: str,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    key_of: Callable[[Item], str],
    carry_out: Callable[[Callable[[Item], Result], Item], Result] = in_child,
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Each piece with what the function gave of it, or what it raised, as they finish.

    :param address: of the scheduler, ``tcp://host:8786``. :param key_of: what tells pieces apart.
    :param carry_out: gives ``function(item)`` in the worker.
    :raises InputError: where no scheduler answers there, or a worker lacks MedXAI.
    """
    try:
        from distributed import CancelledError, Client, KilledWorker, as_completed
    except ModuleNotFoundError:
        raise PackageError("--scheduler needs Dask: pip install 'MedXAILib[dask]'.") from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise SchedulerLost(
            f"--scheduler {address}: no Dask scheduler answers there ({first_line(error)}); check the address."
        ) from None
    try:
        slots = {SLOT: 1} if _all_have_slots(client) else None
        futures = {
            client.submit(
                carry_out, function, item, key=key_of(item), pure=False, retries=RETRIES, resources=slots
            ): item
            for item in items
        }
        for batch in as_completed(futures, loop=client.loop).batches():
            whole = [future for future in batch if future.status == "finished"]
            # one question for all of them: a busy scheduler is slow to answer
            results = dict(zip(whole, client.gather(whole), strict=True))
            for future in batch:
                item = futures.pop(future)
                if future.status == "lost" or (future.cancelled() and client.status != "running"):
                    raise _lost(address)
                raised: BaseException | None = None if future in results else future.exception()
                if isinstance(raised, KilledWorker):
                    raised = WorkerDied()
                yield item, results.pop(future) if raised is None else raised
                future.release()
    except (OSError, TimeoutError, CancelledError):  # of the connection: what a piece raises is given, not raised
        raise _lost(address) from None
    finally:
        _close(client)


def _all_have_slots(client: Any) -> bool:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return bool(workers) and all(SLOT in worker["resources"] for worker in workers)


def _lost(address: str) -> SchedulerLost:
    return SchedulerLost(
        f"--scheduler {address}: the scheduler does not answer any more; start one and run the same command again: what was "
        "finished is kept."
    )


def _close(client: Any) -> None:
    with suppress(Exception):  # of a scheduler that is gone
        client.close(timeout=5)
