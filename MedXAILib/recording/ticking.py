"""Progress inside a pass, after each module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..models.running.guest import mine
from ..progress import Progress

if TYPE_CHECKING:
    import torch


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
