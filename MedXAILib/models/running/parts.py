"""The tensors that a network gives, and the one that is explained and scored.

Of several tensors, one called ``logits`` or the like is taken unless another is asked for, else the one that depends on
most of the network's operators, or the finest of its kind: the logits rather than the features that they are made of, the
last of the heads of deep supervision.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import InputError

if TYPE_CHECKING:
    import torch

NAMED = ("logits", "scores", "out", "output", "pred", "prediction", "predictions", "probs", "probabilities")
"""How the tensor of the scores is called among others, by custom; the first of these that there is."""


@dataclass(frozen=True)
class Part:
    """One tensor of a network's output.

    :ivar path: where it stands, as the card's ``output.which`` has it.
    :ivar shape: batch included.
    :ivar depth: number of operators that it depends on; 0 where they cannot be seen.
    :ivar end: name of the last operator, "" where it cannot be seen; ``sure`` as in :class:`.ends.End`.
    """

    path: str
    shape: tuple[int, ...]
    floating: bool
    depth: int = 0
    end: str = ""
    sure: bool = False

    def __str__(self) -> str:
        return f"{self.path!r} ({' x '.join(map(str, self.shape))})"


def leaves(output: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """(path, tensor) of everything in nested tuples, lists, dicts and dataclasses."""
    import torch

    if isinstance(output, torch.Tensor):
        yield path, output
        return
    for name, value in _items(output):
        yield from leaves(value, f"{path}.{name}" if path else str(name))


def _items(output: Any) -> list[tuple[Any, Any]]:
    if isinstance(output, Mapping):
        return list(output.items())
    if hasattr(output, "_fields"):
        return list(zip(output._fields, output, strict=True))
    if isinstance(output, list | tuple):
        return list(enumerate(output))
    if dataclasses.is_dataclass(output):
        return [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    return []


def pick(output: Any, which: int | str | None) -> torch.Tensor:
    """The tensor that a card's ``output.which`` means; without one the first.

    :raises InputError: listing what there is.
    """
    found = dict(leaves(output))
    if which is None:
        return next(iter(found.values()))
    return found[find(list(found), which)]


def find(paths: Sequence[str], which: int | str) -> str:
    """The path among ``paths`` that is meant: itself, or with places, from the end where negative, for names.

    :raises InputError: listing what there is.
    """
    if str(which) in paths:
        return str(which)
    path = ""
    for step in str(which).split("."):
        before = f"{path}." if path else ""
        names = list(dict.fromkeys(p.removeprefix(before).split(".")[0] for p in paths if p.startswith(before) and p))
        if step not in names and step.lstrip("-").isdigit() and -len(names) <= int(step) < len(names):
            step = names[int(step)]
        path = before + step
    if path not in paths:
        known = ", ".join(paths) or "a single tensor, for which none is to be named"
        raise InputError(
            f"The network has no output {which!r}: it gives {known}",
            "correct output.which of the card, or output= of a network without one",
        )
    return path


def named(parts: Sequence[Part], which: int | str | None) -> Part | None:
    """The part that ``which`` means, as in :func:`pick`; None where it says nothing.

    :raises InputError: listing what there is.
    """
    if which is None:
        return None
    paths = [part.path for part in parts if part.path]
    return parts[paths.index(find(paths, which))]


def choose(parts: Sequence[Part], dimensions: int) -> Part:
    """The tensor that is explained where nobody says which: see the head of this file.

    :param dimensions: spatial axes of the input.
    :raises InputError: where there is none.
    """
    if not parts:
        raise InputError(
            "The network's output holds no tensor",
            "let forward() return its logits, alone, in a tuple or in a dict",
            joint=": ",
        )
    fit = [p for p in parts if p.floating and len(p.shape) in (2, dimensions + 2)]
    for name in NAMED:
        called = [p for p in fit or parts if p.path.split(".")[-1].lower() == name]
        if len(called) == 1:
            return called[0]
    deepest = max(reversed(fit or parts), key=lambda p: p.depth)
    alike = [p for p in fit if (len(p.shape), p.shape[1]) == (len(deepest.shape), deepest.shape[1])]
    return max(reversed(alike or [deepest]), key=lambda p: (math.prod(p.shape), p.depth))
