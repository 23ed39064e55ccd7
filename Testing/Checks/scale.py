"""How well many workers are kept busy by the engine for Dask: pieces that sleep as long as cases took, so that the machine's cores are no bound.

    make check-scale            # 16 worker processes, then 256 workers in one process; about 8 minutes
    .venv/bin/python Testing/Checks/scale.py --workers 4 --pieces 40 --least 0.2 --quick

The first is real: processes, TCP, one piece at a time in each. Efficiency is the time slept, over workers times the time from the
first piece begun to the last one back; at least 0.9 is asked for. The second is a *simulation*: 256 workers that are threads of one
process, 10,000 cases of 5 s and more, to see where the scheduler would break; a real cluster has a network between.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Python")]

SECONDS = (
    *(3.99, 4.0, 4.21, 4.22, 4.32, 4.33, 4.33, 4.34, 4.39, 4.46, 4.58, 4.59),
    *(4.65, 4.7, 4.73, 4.74, 4.81, 4.82, 4.85, 4.86, 4.9, 4.91, 4.96, 5.12),
)
"""What the 24 cases of hippocampus took (hippocampus-doubleunet, Grad-CAM and saliency, one thread)."""
ASKED = 0.9


def asleep(piece: tuple[int, float]) -> tuple[float, float]:
    """Sleep; gives when it began and ended."""
    began = time.time()
    time.sleep(piece[1])
    return began, time.time()


def at_once(function, piece):
    """In the worker itself."""
    return function(piece)


def efficiency(address: str, pieces: list[tuple[int, float]], workers: int, how=None) -> float:
    from MedXAILib.engines.child import in_child
    from MedXAILib.engines.cluster import over_dask

    spans = []
    for number, (_, found) in enumerate(
        over_dask(address, asleep, pieces, lambda piece: f"piece-{piece[0]}", how or in_child), 1
    ):
        if isinstance(found, BaseException):
            raise found
        spans.append(found)
        if number % max(1, len(pieces) // 10) == 0:
            print(f"{number} of {len(pieces)}", file=sys.stderr, flush=True)
    began, ended = min(begin for begin, _ in spans), time.time()
    return sum(seconds for _, seconds in pieces) / (workers * (ended - began))


def lengths(count: int, least: float) -> list[tuple[int, float]]:
    """So many pieces, as long as measured ones, in a random order; the shortest as long as ``least``."""
    rng = np.random.default_rng(0)
    return [(n, float(seconds)) for n, seconds in enumerate(rng.choice(SECONDS, count) * least / min(SECONDS))]


def with_cluster(workers: int, processes: bool, pieces: list[tuple[int, float]]) -> float:
    import dask
    from distributed import LocalCluster

    if not processes:  # each worker looks at its whole process twice a second, which would be all that 256 of one do
        dask.config.set(
            {
                "distributed.admin.system-monitor.interval": "60s",
                "distributed.admin.system-monitor.gil.enabled": False,
                "distributed.worker.profile.enabled": False,
                "distributed.worker.memory.monitor-interval": "60s",
            }
        )
    os.environ |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent), str(ROOT / "Testing" / "Python")])
    }
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=processes, dashboard_address=None, memory_limit=0,
        silence_logs=50, resources={"slot": 1},
    ) as cluster:  # fmt: skip
        cluster.wait_for_workers(workers, timeout=600)
        return efficiency(cluster.scheduler_address, pieces, workers, None if processes else at_once)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--pieces", type=int, default=480)
    parser.add_argument("--least", type=float, default=min(SECONDS), help="seconds of the shortest piece")
    parser.add_argument("--quick", action="store_true", help="without the simulation")
    options = parser.parse_args()
    real = with_cluster(options.workers, True, lengths(options.pieces, options.least))
    print(
        f"{options.workers} worker processes, {options.pieces} cases: efficiency {real:.3f} (asked for: {ASKED})",
        flush=True,
    )
    if not options.quick:
        began = time.process_time()
        found = with_cluster(256, False, lengths(10_000, 5.0))
        busy = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"Simulation, 256 workers in one process, 10,000 cases of at least 5 s: efficiency {found:.3f}; scheduler, workers and client together "
            f"{1000 * busy / 10_000:.1f} ms of CPU for each case and {peak:.0f} MiB, so one core would be full at about {10_000 / busy:.0f} cases a second"
        )
    return 0 if real >= ASKED else 1


if __name__ == "__main__":
    import scale  # by its name, so that workers find what they are sent

    sys.exit(scale.main())
