"""How much memory a pass will need."""

from __future__ import annotations

from collections.abc import Sequence

from .layer import Layer, around


def memory_estimate(layers: Sequence[Layer], recorded: Sequence[str] = ()) -> int:
    """Bytes that a pass will need beside the weights, roughly: the three largest neighbouring outputs while it runs,
    and, from the first recorded layer on, every output (they are kept for the backward pass)."""
    blocks = {name for layer in layers for name in around(layer)}
    leaves = [layer for layer in layers if layer.name.split("#")[0] not in blocks]
    sizes = [layer.bytes for layer in leaves]
    working = max((sum(sizes[n : n + 3]) for n in range(len(sizes))), default=0)
    names = [layer.name for layer in leaves]
    first = min((n for n, name in enumerate(names) if name in recorded), default=len(sizes))
    return working + 2 * sum(sizes[first:])
