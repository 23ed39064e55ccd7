"""Progress and cancellation: one callable ``progress(done, total, text)`` for the whole library.

``done`` and ``total`` count the units of the running stage, ``text`` names the stage. Whoever receives
the calls may raise :class:`Cancelled`; everything below lets it pass, so nothing half-done is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Progress = Callable[[float, float, str], None]


class Cancelled(Exception):
    """The user asked for the work to stop."""


def silent(done: float, total: float, text: str) -> None:
    """Report nothing."""


@contextmanager
def ticking(model: torch.nn.Module, progress: Progress, text: str) -> Iterator[None]:
    """Report progress inside a forward pass, after each leaf module of ``model``, and between the
    operators of a backward pass that crosses them.

    One pass over a volume of 256^3 voxels can take a minute: without this it could neither be watched
    nor be stopped.

    :param model: whose hooks are removed at the end, also after an error.
    :param progress: called with (leaves done, number of leaves, text).
    """
    import torch

    from .models.running.guest import mine

    leaves = [
        m for m in model.modules() if next(m.children(), None) is None and not isinstance(m, torch.jit.ScriptModule)
    ]
    done = 0

    def backward_tick(_gradient: torch.Tensor) -> None:
        progress(min(done, len(leaves)), len(leaves), text + ", backwards")

    def tick(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal done
        done += 1
        progress(min(done, len(leaves)), len(leaves), text)
        if getattr(output, "requires_grad", False):
            output.register_hook(backward_tick)

    handles = [leaf.register_forward_hook(mine(tick)) for leaf in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
