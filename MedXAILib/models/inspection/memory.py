"""How much memory a pass will need: from what each operator makes and reads, and how long it is held."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

WAY_BACK = 2
"""How often the way back holds what an operator reads and makes: their gradients, and each laid out as a kernel wants it."""


class Result(NamedTuple):
    """What one operator made, in bytes.

    :ivar step: number of the operator. :ivar until: of the last one that ran before it was let go.
    :ivar needs: a bit for each operator that it depends on.
    :ivar read: bytes that the operator read. :ivar laid: whether a kernel may lay out anew what it reads and makes: those with weights.
    """

    step: int
    until: int
    needs: int
    made: int
    read: int
    laid: bool


class Ledger:
    """The results of a traced pass, as they come and go.

    :ivar results: in the order in which they came.
    """

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.step = 0

    def enter(self, made: torch.Tensor, step: int, needs: int, given: Iterable[torch.Tensor]) -> None:
        """A result is there, until nothing refers to it any more.

        :param given: what its operator read.
        """
        self.step = step
        number, given = len(self.results), list(given)
        laid = any(_is_weight(t) for t in given)
        self.results.append(Result(step, -1, needs, size_of(made), sum(map(size_of, given)), laid))
        weakref.finalize(made, self._gone, number)

    def close(self) -> tuple[Result, ...]:
        """What has come and gone; what is still there stays to the end."""
        return tuple(one if one.until >= 0 else one._replace(until=self.step) for one in self.results)

    def _gone(self, number: int) -> None:
        if self.results[number].until < 0:
            self.results[number] = self.results[number]._replace(until=self.step)


def _is_weight(tensor: torch.Tensor) -> bool:
    import torch

    return isinstance(tensor, torch.nn.Parameter) and tensor.ndim > 1


def size_of(tensor: torch.Tensor) -> int:
    """In bytes."""
    return tensor.numel() * tensor.element_size()


def forward_bytes(results: Sequence[Result]) -> int:
    """Most that a pass holds at once beside the weights, where nothing is kept for the way back: every result that is still
    needed, and while an operator with weights runs, what it reads and makes once more (kernels of convolution lay both out anew)."""
    held = most = 0
    leaving = sorted(results, key=lambda one: one.until)
    gone = 0
    for one in results:
        while leaving[gone].until < one.step:
            held -= leaving[gone].made
            gone += 1
        held += one.made
        most = max(most, held + (one.read + one.made if one.laid else 0))
    return most


def backward_bytes(results: Sequence[Result], step: int) -> tuple[int, int]:
    """What is kept for the way back, and the most that it holds beside, where the graph begins at an operator's result: all that
    depends on it is kept, and where it begins twice, as the recorded values and as those that go on.

    :param step: number of that operator; 0 is the input.
    """
    kept = [one for one in results if one.needs >> step & 1]
    most = max((one.read + one.made for one in kept), default=0)
    begins = kept[0].made if kept and step else kept[0].read if kept else 0
    return begins + sum(one.made for one in kept), WAY_BACK * most
