"""One call of an operator, as the rules for it see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..nested import tensors
from .notes import place_of

if TYPE_CHECKING:
    import torch

    from .places import Place


class Unseen(Exception):
    """The values of an index would have to be known, and the pass computes shapes alone."""


@dataclass(eq=False, kw_only=True)
class Call:
    """One call of an operator.

    :ivar name: without its namespace and overload.
    :ivar given: arguments by the names of the schema, defaults filled in.
    :ivar again: calls the operator with other tensors in place of some: ``again({id(tensor): other})``.
    :ivar sizes: of each result.
    :ivar voxels: size of the input (channel, *spatial).
    :ivar step: its number.
    """

    name: str
    given: dict[str, Any]
    again: Callable[[dict[int, Any]], Any]
    sizes: list[tuple[int, ...]]
    voxels: tuple[int, ...]
    step: int

    def place(self, name: str) -> Place | None:
        """Of an argument; None where it has none, or is no tensor."""
        return place_of(self.given[name])

    @property
    def placed(self) -> list[tuple[torch.Tensor, Place]]:
        """The arguments that have a place, each with it."""
        return [(t, place) for t in tensors(self.given.values()) if (place := place_of(t)) is not None]

    @property
    def first(self) -> Place:
        """Of the first argument that has one."""
        return self.placed[0][1]
