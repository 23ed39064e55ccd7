"""A process of its own for pieces of work, kept warm by a thread of another one.

A Dask worker has more threads than the one that works. They draw random numbers from Python's own source, which belongs to the process: a
network that runs beside them would seem to draw some, and one that does would draw others each time. Nor may what a network does to its
process cost the worker.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from .died import WorkerDied
from .processes import TRIES, begin

Item = TypeVar("Item")
Result = TypeVar("Result")
_own = threading.local()


class Child:
    """A process that carries out what it is sent."""

    def __init__(self) -> None:
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", __name__]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def answer(self, piece: Any) -> tuple[Any, Exception | None]:
        """The result, or what was raised.

        :raises EOFError, OSError, pickle.UnpicklingError: where the process ended.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        pickle.dump(piece, self.process.stdin)
        self.process.stdin.flush()
        found: tuple[Any, Exception | None] = pickle.load(self.process.stdout)
        return found

    def end(self) -> int:
        """Its exit code."""
        self.process.kill()
        self.process.communicate()
        return self.process.returncode


def in_child(function: Callable[[Item], Result], item: Item) -> Result:
    """``function(item)``, carried out by this thread's child.

    :param function: that another process can import.
    :raises WorkerDied: where the process ends, each time that it is tried.
    """
    code = None
    for _ in range(TRIES):
        _own.child = child = getattr(_own, "child", None) or Child()
        try:
            found, error = child.answer((function, item))
        except (EOFError, OSError, pickle.UnpicklingError):
            code, _own.child = child.end(), None
            continue
        if error is not None:
            raise error
        result: Result = found
        return result
    raise WorkerDied(code)


def serve() -> None:
    """In the new process: carry out what comes, until nobody is there any more."""
    begin()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    while True:
        try:
            function, item = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        found: tuple[Any, Exception | None]
        try:
            found = function(item), None
        except Exception as error:
            found = None, error
        pickle.dump(found, answers)
        answers.flush()


if __name__ == "__main__":
    serve()
