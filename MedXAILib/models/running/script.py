"""TorchScript, whose operators cannot be watched: how its output came about, by its graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .ends import DIVISIONS, DOUBTFUL, ENDS, JOINS, MEANINGS, MIXED, MOVES, SCALES
from .parts import Part

if TYPE_CHECKING:
    import torch


def script(network: torch.nn.Module) -> torch.jit.ScriptModule | None:
    """The TorchScript that a network is, or that is all there is in it."""
    import torch

    found = next(network.children(), None) if len(list(network.children())) == 1 else None
    return next((m for m in (network, found) if isinstance(m, torch.jit.ScriptModule)), None)


def script_parts(network: torch.jit.ScriptModule) -> list[Part]:
    """The tensors of a TorchScript network's output by its graph, which knows no shapes."""
    graph = network.inlined_graph  # its values go with it
    found = []
    for value in graph.outputs():
        for path, tensor in _unpacked(value):
            end = _script_end(tensor)
            found.append(Part(path, (), True, _count(tensor), end, end in ("sigmoid", "logsigmoid")))
    return found


def _unpacked(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, tensor) of a TorchScript value; of a dict, every second input is a key."""
    node = value.node()
    inputs = list(node.inputs())
    parts: list[tuple[Any, Any]] = []
    if node.kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
        parts = list(enumerate(inputs))
    elif node.kind() == "prim::DictConstruct":
        parts = list(zip((key.toIValue() for key in inputs[::2]), inputs[1::2], strict=True))
    else:
        yield path, value
    for name, one in parts:
        yield from _unpacked(one, f"{path}.{name}" if path else str(name))


def _count(value: Any) -> int:
    """Number of operators that a TorchScript value depends on."""
    seen: set[str] = set()
    waiting = [value]
    while waiting:
        node = waiting.pop().node()
        if str(node) not in seen:
            seen.add(str(node))
            waiting += [*node.inputs(), *(o for block in node.blocks() for o in block.outputs())]
    return sum(text.find("aten::") >= 0 for text in seen)


def _script_end(value: Any) -> str:
    """The last operator of a TorchScript value but those that only move."""
    node = value.node()
    kind = node.kind().split("::")[-1].strip("_")
    if kind == "If":
        place = [v.debugName() for v in node.outputs()].index(value.debugName())
        ends = [_script_end(list(block.outputs())[place]) for block in node.blocks()]
        return next((end for end in ends if end in MEANINGS), ends[0])
    inputs = list(node.inputs())
    if kind in ("ListUnpack", "TupleUnpack", "ConstantChunk"):
        return _script_end(inputs[0])
    by_number = len(inputs) > 1 and inputs[1].type().kind() != "TensorType"
    kind = "mul" if by_number and kind in DIVISIONS else kind
    if kind in SCALES and by_number and (end := _script_end(inputs[0])) in DOUBTFUL:
        return end
    if kind in JOINS and any(_script_end(v) in (*MEANINGS, MIXED) for v in inputs if "Tensor" in str(v.type())):
        return MIXED
    return _script_end(inputs[0]) if kind in MOVES and inputs else ENDS.get(kind, kind)
