"""What an operator of torch says of itself: its arguments by name, what it writes to, its twin that writes to nothing.

A function is an overload of an operator (``torch._ops.OpOverload``), as a dispatch mode gets it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@cache
def composite(function: Any) -> bool:
    """Whether it is made of other operators, and no view."""
    import torch

    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), key) and not function.is_view


@cache
def _arguments(function: Any) -> tuple[tuple[str, Any, bool], ...]:
    """(name, default, whether it is written to) of an operator's arguments."""
    rows = []
    for a in function._schema.arguments:
        writes = a.alias_info is not None and a.alias_info.is_write
        rows.append((a.name, a.default_value if a.has_default_value() else None, writes))
    return tuple(rows)


def named(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments by name, defaults filled in."""
    rows = _arguments(function)
    return {name: args[n] if n < len(args) else kwargs.get(name, default) for n, (name, default, _) in enumerate(rows)}


def written(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensors that an operator changes in place."""
    if not function._schema.is_mutable:
        return []
    given = named(function, args, kwargs)
    return [given[name] for name, _, writes in _arguments(function) if writes and given[name] is not None]


@cache
def pure(function: Any) -> Any:
    """The operator that gives a new tensor where this one writes to its argument."""
    import torch

    name = function.overloadpacket.__name__
    if not function._schema.is_mutable:
        return function
    packet = getattr(torch.ops.aten, name.rstrip("_"), None)
    return getattr(packet, function._overloadname, None) or function
