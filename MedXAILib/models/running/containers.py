"""The dicts, lists, sets, tensors and arrays that a network keeps: copied, and put back."""

from __future__ import annotations

import operator
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass

COPIED = 1 << 22
"""Bytes of parameters up to which a network works on copies of them. A larger network that changes its weights in place
in ``forward`` (one that binds new ones is no problem) leaves them as an ordinary pass does."""
CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, deque, set, bytearray)


def copies_of(values: Iterable[Any]) -> list[tuple[Any, Any]]:
    """(container, copy) of the dicts, lists, sets, tensors and arrays among values, and inside of these."""
    found: list[tuple[Any, Any]] = []
    waiting, seen = list(values), set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) in CONTAINERS:
            waiting.extend(value.values() if isinstance(value, dict) else value)
            found.append((value, _copy_of(value)))
        elif _is_table(value):
            found.append((value, value.copy() if isinstance(value, np.ndarray) else value.detach().clone()))
    return found


def _copy_of(value: Any) -> Any:
    """A dict, list or set with the same items."""
    copied = value.copy()
    if isinstance(value, dict):
        for key, item in value.items():
            copied[key] = _bare(item)
    elif isinstance(value, list):
        copied[:] = [_bare(item) for item in value]
    return copied


def is_plain_object(value: object) -> bool:
    """Whether it is an object of somebody's own class, which may count or keep something."""
    theirs = type(value).__module__.partition(".")[0] in ("torch", "numpy", "builtins", "collections")
    return hasattr(value, "__dict__") and not (theirs or callable(value))


def _is_table(value: Any) -> bool:
    """Whether it is a tensor or array that passes may write to, and not too large to be copied."""
    import torch

    if isinstance(value, np.ndarray):
        return value.dtype.hasobject is False and value.nbytes <= COPIED
    ordinary = type(value) is torch.Tensor and value.layout is torch.strided and value.grad_fn is None
    return ordinary and not (value.is_meta or value.is_inference() or value.is_quantized) and value.nbytes <= COPIED


def _bare(value: Any) -> Any:
    """A tensor without the graph of the pass that made it; anything else as it is."""
    import torch

    if isinstance(value, torch.Tensor) and value.grad_fn is not None:
        return value.detach()
    return tuple(_bare(item) for item in value) if type(value) is tuple else value


def put_back(container: Any, before: Any) -> None:
    """The content of a dict, list, set, tensor or array as it was; never empty in between, for another thread may look at
    it."""
    if isinstance(container, dict):
        if container.keys() == before.keys() and all(map(operator.is_, container.values(), before.values())):
            return
        for key in [key for key in container if key not in before]:
            del container[key]
        for key, value in before.items():
            if key not in container or container[key] is not value:
                container[key] = value
    elif isinstance(container, list | bytearray):
        container[:] = before
    elif isinstance(container, np.ndarray):
        if not np.array_equal(container, before, equal_nan=container.dtype.kind in "fc"):
            container[...] = before
    elif hasattr(container, "copy_"):
        if not container.detach().equal(before):
            container.detach().copy_(before)
    elif isinstance(container, deque):
        if container != before:
            container.clear()
            container.extend(before)
    elif container != before:
        container.intersection_update(before)
        container.update(before)
