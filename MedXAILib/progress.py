"""Progress and cancellation: one callable ``progress(done, total, text)`` for the whole library.

``done`` and ``total`` count the units of the running stage, ``text`` names the stage. Whoever receives
the calls may raise :class:`Cancelled`; everything below lets it pass, so nothing half-done is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Progress = Callable[[float, float, str], None]


class Cancelled(Exception):
    """The user asked for the work to stop."""


def silent(done: float, total: float, text: str) -> None:
    """Report nothing."""


def shares(progress: Progress, costs: Sequence[float]) -> list[Progress]:
    """The progress of each of several parts, reported as that of the whole, in which a part is as long as it costs."""
    total, starts = sum(costs) or 1.0, [sum(costs[:n]) for n in range(len(costs))]

    def report(start: float, cost: float) -> Progress:
        return lambda done, of, text: progress((start + cost * done / max(of, 1e-9)) / total, 1, text)

    return [report(start, cost) for start, cost in zip(starts, costs, strict=True)]


def portion(progress: Progress, index: int, count: int) -> Progress:
    """The progress of one of ``count`` equal parts, reported as that of the whole."""

    def report(done: float, total: float, text: str) -> None:
        progress(index + done / max(total, 1), count, text)

    return report
