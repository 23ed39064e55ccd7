"""What a traced pass notes on each tensor: where its elements lie, how it came about, and what it is a part of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from .places import Place


class Made(NamedTuple):
    """How a tensor came about.

    :ivar step: number of the operator that made it.
    :ivar needs: a bit for each operator that it depends on, its own among them.
    """

    step: int = 0
    needs: int = 1


class View(NamedTuple):
    """A tensor that is part of another: ``function`` of ``base`` gave it as its result ``number``."""

    base: torch.Tensor
    call: Callable[[torch.Tensor], Any]
    number: int


def place_of(tensor: object) -> Place | None:
    """Where its elements lie; None for what was not computed from the input, or is no tensor."""
    place: Place | None = getattr(tensor, "_place", None)
    return place


def made_of(tensor: torch.Tensor) -> Made | None:
    """How it came about; None for what was not computed from the input."""
    made: Made | None = getattr(tensor, "_made", None)
    return made


def view_of(tensor: torch.Tensor) -> View | None:
    """What it is a part of; None for nothing."""
    view: View | None = getattr(tensor, "_view", None)
    return view


def note(tensor: torch.Tensor, **notes: Place | Made | View) -> None:
    """Note ``place``, ``made`` or ``view`` on a tensor."""
    vars(tensor).update({f"_{name}": value for name, value in notes.items()})
