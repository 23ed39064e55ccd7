"""What a piece of work comes with whose worker ended in the middle of it."""

from __future__ import annotations

import signal


class WorkerDied(Exception):
    """The process that carried out a piece of work ended, each time that it was tried.

    :ivar code: its exit code; negative is a signal; None where it is not known.
    """

    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        """A sentence."""
        how = ""
        if self.code is not None:
            how = f" ({signal.Signals(-self.code).name})" if self.code < 0 else f" (exit code {self.code})"
        memory = "; memory may have run out: use fewer workers" if self.code == -9 else ""
        return f"the process that carried it out ended in the middle{how}, at each try{memory}"
