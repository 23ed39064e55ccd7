"""Pieces of work that other processes can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def doubled(number: int) -> int:
    return 2 * number


def refused(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def deadly(piece: tuple[str, int]) -> int:
    """Kills its process: number 1 the first time only, number 2 always."""
    folder, number = piece
    tried = Path(folder, str(number))
    first = not tried.exists()
    tried.touch()
    if number == 2 or (number == 1 and first):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def counted(folder: str) -> tuple[int, str]:
    """How many threads a worker has, and its process."""
    import torch

    time.sleep(0.2)
    return torch.get_num_threads(), f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}"


def slept(seconds: float) -> float:
    began = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - began
