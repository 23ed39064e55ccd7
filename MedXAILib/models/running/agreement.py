"""Whether card and network agree about the output: held against each other in the first pass, and remembered."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...errors import CardError
from .ends import BY_VALUE, DOUBTFUL, watching
from .guest import innermost, state_of
from .meaning import another, by_values, convinces, meaning, outputs_of, parts_of, plainly
from .parts import Part, choose, named, pick
from .reading import read_through, to_write

if TYPE_CHECKING:
    import torch

    from ..card import ModelCard, Output
    from ..loading import Model

IN_DOUBT = (
    "All values of the network's output lie in 0 to 1 and are taken as logits: if they are probabilities, its figures and "
    "maps are wrong."
)
MADE_OF = (
    "The network's output is made of probabilities by further operators, which leave none, and is taken as logits: its p "
    "means nothing."
)


class Misread(CardError):
    """A network gives probabilities, and its card, or who reads it without one, takes them as logits.

    :ivar found: which of MEANINGS they are.
    """

    def __init__(self, card: str, fault: str, remedy: str, found: str) -> None:
        super().__init__(card, fault, remedy)
        self.found = found


_compared: weakref.WeakKeyDictionary[torch.nn.Module, tuple[object, Output, tuple[str, ...]]] = (
    weakref.WeakKeyDictionary()
)
"""Network to its state, the ``output`` of the card that it was found to agree with, and what was odd about it."""


def agree(network: torch.nn.Module, card: ModelCard, messages: tuple[str, ...] = ()) -> tuple[str, ...]:
    """From now on the network is what the card says; gives ``messages``."""
    _compared[innermost(network)] = state_of(network), card.output, messages
    return messages


def compared(model: Model, x: torch.Tensor, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, tuple[str, ...]]:
    """``run()``, the network's output for ``x``, and what is odd about it. The first time it is held against the card.

    :raises CardError: where card and network disagree, naming the card's field and what to write; :class:`Misread` where
        the network gives probabilities.
    """
    import torch

    network, card = model.network, model.card
    if (whole := read_through(network)) is not None:
        if card.output.kind not in ("logits", "value"):  # every pass is looked at
            return run(), ()
        network = whole
    before, agreed, messages = _compared.get(innermost(network), (None, None, ()))
    if agreed == card.output and before == state_of(network):
        return run(), messages
    if isinstance(network, torch.jit.ScriptModule):
        output, seen = run(), [plainly(network, x)]
    else:
        with outputs_of(network) as seen, watching(0):
            output = run()
    if not seen:  # it ran before
        return output, ()
    parts = parts_of(network, seen[-1])
    part = named(parts, card.output.which) or check_which(card, parts, x.ndim - 2)

    def ask(number: int) -> torch.Tensor:
        return pick(plainly(network, another(x, number)), card.output.which) if number else output.detach()

    if card.output.kind == "value" and part.end in ("softmax", "log_softmax") and part.sure:
        raise CardError(
            card.name,
            f"the card's output.kind says value, and the network ends in a {part.end}",
            to_write(part.end),
        )
    if card.output.kind != "logits":
        return output, agree(network, card)
    found = meaning(part, ask)
    if found is not None and convinces(part, found):
        last = "ends in" if part.end == found else "gives the values of"
        fault = f"the card's output.kind says logits, and the network {last} a {found}"
        raise Misread(card.name, fault, to_write(found), found)
    return output, agree(network, card, doubts_of(part, found, ask(0)))


def doubts_of(part: Part, found: str | None, value: torch.Tensor) -> tuple[str, ...]:
    """Why a tensor may be no logits after all.

    :param found: as :func:`meaning` found it.
    """
    if found or (part.end in DOUBTFUL | {"", BY_VALUE} and by_values(value)):
        return (IN_DOUBT,)
    return (MADE_OF,) if part.end == BY_VALUE and by_values(value.exp()) != "softmax" else ()


def refuse_one_label(card: ModelCard) -> None:
    """:raises CardError: for a softmax over a single label."""
    if card.output.exclusive and len(card.output.labels) == 1:
        raise CardError(
            card.name,
            "the card's output has one label and the activation softmax, which is always 1",
            'write "activation": "sigmoid" in output, or name the other classes',
        )


def check_which(card: ModelCard, parts: Sequence[Part], dimensions: int) -> Part:
    """The first tensor, which a card without ``output.which`` means.

    :raises CardError: where another one may be meant as well.
    """
    rank = dimensions + 2 if card.voxelwise else 2
    labels = len(card.output.labels)
    fit = [p for p in parts if p.floating and len(p.shape) == rank and p.shape[1] == labels]
    if fit and fit != parts[:1]:
        best = choose(fit, dimensions)
        raise CardError(
            card.name,
            f"the network gives several tensors, {', '.join(map(str, parts))}, and the card does not say which is meant",
            f'write it into output.which, probably "which": "{best.path}"',
        )
    return parts[0]
