"""What a network does may hang on more than its weights: everything that its modules, their classes and the globals of
their functions hold, noted so that it can be compared, and nothing is kept alive."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

MOST_NOTED, MOST_NUMBERS = 1000, 1 << 16
"""Parts of a container, and numbers of a tensor, that are looked at to see whether it was changed."""
PLAIN = frozenset((bool, int, float, complex, str, type(None)))


def inside(network: torch.nn.Module) -> list[Any]:
    """What the modules of a network hold: one flat list, for thousands of small containers would keep Python's garbage
    collector busy."""
    found: list[Any] = []
    ordinary = vars(bare_module()).keys()
    for name, module in network.named_modules():
        found += (name, weakref.ref(module))  # no number: a new module may lie where an old one lay
        found += (*module._forward_hooks, *module._forward_pre_hooks)  # numbers that are given once
        for key, value in vars(module).items():
            if key not in ordinary:
                _note(found, value)
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                found.append(hash((tensor.shape, tensor.dtype, tensor.device)))
        if not type(module).__module__.startswith("torch."):
            for buffer in module._buffers.values():
                _note(found, buffer)
    return found


def outside(network: torch.nn.Module) -> list[Any]:
    """What their classes hold, and the globals that their functions use."""
    found: list[Any] = []
    for kind in dict.fromkeys(map(type, network.modules())):
        for container, name in () if kind.__module__.startswith("torch.") else _names(kind):
            _note(found, container.get(name))
    return found


@lru_cache(512)
def _names(kind: type) -> list[tuple[Any, str]]:
    """(dict, name) of what is no function in a class of modules, and of the globals that its functions use."""
    import torch

    found: list[tuple[Any, str]] = []
    for one in kind.__mro__[: kind.__mro__.index(torch.nn.Module)]:
        for name, value in vars(one).items():
            code = getattr(getattr(value, "__func__", value), "__code__", None)
            if code is not None:
                space = getattr(value, "__func__", value).__globals__
                found += [(space, used) for used in code.co_names if used in space and _changes(space[used])]
            elif not name.startswith("__") and _changes(value):
                found.append((vars(one), name))
    return found


def _changes(value: object) -> bool:
    """Whether it is a value that somebody may change, no module, class or function."""
    return not callable(value) and type(value).__name__ != "module"


def _note(found: list[Any], value: Any, depth: int = 3) -> None:
    """Append what a value says now, to be compared, without keeping it alive."""
    import torch

    if plain(value):
        found.append(value)
        return
    if isinstance(value, torch.Tensor | np.ndarray):
        found.append(_content(value))
        return
    parts: Iterable[Any] = ()
    if isinstance(value, list | tuple | set | frozenset):
        parts = value
    elif isinstance(value, dict):
        parts = (part for pair in value.items() for part in pair)
    else:
        with suppress(TypeError):  # what takes no reference is nothing that could be exchanged
            found.append(weakref.ref(value))
        if cells := getattr(value, "__closure__", None):
            parts = _contents(cells)
        elif not callable(value) and not type(value).__module__.startswith("torch."):
            parts = getattr(value, "__dict__", {}).values()
    if depth:
        for part in islice(parts, MOST_NOTED):
            _note(found, part, depth - 1)
        found.append(type(value).__name__)  # where one ends and the next begins


def _contents(cells: Iterable[Any]) -> Iterator[Any]:
    """What a function has from around it."""
    for cell in cells:
        with suppress(ValueError):  # nothing yet
            yield cell.cell_contents


def _content(array: torch.Tensor | np.ndarray) -> int:
    """A hash of a tensor's or array's shape, type and numbers; of many, of evenly chosen ones."""
    import torch

    kind = tuple(array.shape), str(array.dtype)
    if isinstance(array, torch.Tensor):
        if array.is_meta or array.layout is not torch.strided or array.is_quantized or not array.numel():
            return hash(kind)
        some = array.detach().flatten()[:: array.numel() // MOST_NUMBERS + 1].contiguous().cpu()
        return hash((*kind, some.view(torch.uint8).numpy().tobytes()))
    return hash((*kind, array.ravel()[:: array.size // MOST_NUMBERS + 1].tobytes()))


def plain(value: Any) -> bool:
    """Whether it is a number, a text or a switch, or a few of them."""
    kind = type(value)
    return kind in PLAIN or (kind is tuple and all(type(part) in PLAIN for part in value))


@cache
def bare_module() -> torch.nn.Module:
    """One without anything of its own."""
    import torch

    return torch.nn.Module()
