"""How a classifier's head treats the positions of a layer: pooled, all alike, or each with a weight of its own.

Methods that give a channel one weight for all positions (Grad-CAM and its kin) assume the former. Of the latter kind are
a linear layer over flattened positions and a convolution as large as the grid that it gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.autograd.graph import Node

RESHAPES = ("View", "UnsafeView", "ReshapeAlias")
MIXED = ("Bmm", "ScaledDot")
"""What attention ends in: a query's features, reshaped, are no positions."""


def weighs_positions(output: torch.Tensor, activation: torch.Tensor) -> bool:
    """Whether between an activation and the output (batch, class) positions get weights of their own."""
    batch = len(output)
    return any(_flattened(node, batch) or _as_large(node) for node in _between(output, activation))


def averaged_fraction(gradient: torch.Tensor) -> tuple[float, float]:
    """Of a gradient (batch, channel, *cells): the sum of squares of its mean over positions at every position, and its own.

    They are equal where the gradient is the same everywhere, as behind pooling and a linear layer.
    """
    g = gradient.double().flatten(2)
    return float((g.mean(2) ** 2).sum() * g.shape[2]), float((g**2).sum())


def _between(output: torch.Tensor, activation: torch.Tensor) -> Iterator[Node]:
    """The nodes of the graph from an output down to an activation."""
    waiting: list[Node | None] = [output.grad_fn]
    met: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in met or node is activation.grad_fn or getattr(node, "variable", None) is activation:
            continue
        met.add(node)
        yield node
        waiting += [before for before, _ in node.next_functions]


def _is(node: Node | None, names: tuple[str, ...]) -> bool:
    return node is not None and node.name().startswith(names)


def _flattened(node: Any, batch: int) -> bool:
    """Whether a node is a linear layer whose input was (batch, several channels, several positions) before a reshape."""
    if _is(node, ("AddmmBackward",)):
        size, before = node._saved_mat1_sym_sizes, node.next_functions[1][0]
    elif _is(node, ("MmBackward",)):
        size, before = node._saved_self_sym_sizes, node.next_functions[0][0]
    else:
        return False
    while before is not None and not _is(before, RESHAPES):  # an activation function, a copy
        parents = [parent for parent, _ in before.next_functions if parent is not None]
        before = parents[0] if len(parents) == 1 and not _is(before, (*MIXED, "AddmmBackward", "MmBackward")) else None
    if before is None:
        return False
    whole = before._saved_self_sym_sizes
    several = sum(n > 1 for n in whole[1:]) > 1
    while before is not None and _is(before, (*RESHAPES, "Transpose", "Permute", "Clone", "Unsqueeze", "Squeeze")):
        before = before.next_functions[0][0]
    pieces = whole[0] == size[0] == batch and prod(whole[1:]) == size[1]
    return bool(pieces and several and not _is(before, MIXED))


def _as_large(node: Any) -> bool:
    """Whether a node is a convolution without padding whose kernel covers its whole input, of several cells."""
    if not _is(node, ("ConvolutionBackward",)) or any(node._saved_padding):
        return False
    kernel = node._saved_weight.shape[2:]
    return bool(kernel == node._saved_input.shape[2:] and prod(kernel) > 1)
