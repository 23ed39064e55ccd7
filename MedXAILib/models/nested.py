"""Tensors in what networks take and give: in nested tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)
        elif isinstance(value, dict):
            yield from tensors(value.values())


def first_tensor(value: object) -> torch.Tensor | None:
    """The tensor of a module's output: itself, or the first one in a tuple, list or dict."""
    return next(tensors([value]), None)


def swapped(values: Any, swap: Callable[[torch.Tensor], Any]) -> Any:
    """The same tuples, lists and dicts with every tensor replaced."""
    import torch

    if isinstance(values, torch.Tensor):
        return swap(values)
    if isinstance(values, list | tuple):
        return type(values)([swapped(value, swap) for value in values])
    if isinstance(values, dict):
        return {key: swapped(value, swap) for key, value in values.items()}
    return values
