"""A network read as one that gives a single tensor of logits, as its card's ``output`` means it.

Scores are logits. Where a network ends in a sigmoid or softmax they are the tensor that this last operator received, which
is seen while it runs: an operator whose result becomes the output by nothing but reshaping, slicing or copying. Where
there is none such (an average of several softmaxes; TorchScript, whose operators cannot be watched), values tell: what sums
to 1 is a softmax whatever made it; scores are log p, or logit p, of the probabilities then. So everything behind this file
sees a network that gives one tensor of logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ...errors import CardError
from ..nested import tensors
from .ends import MEANINGS, end_of, watching
from .meaning import tolerance
from .parts import pick

if TYPE_CHECKING:
    import torch

    from ..card import ModelCard, Output


def read_as(network: torch.nn.Module, card: ModelCard, messages: Sequence[str] = ()) -> torch.nn.Module:
    """The network as one that gives a single tensor of logits (or of values), as the card's ``output`` means it.

    The network itself where the card says that it does so already; one that gives a single number may give (batch,) in
    place of (batch, 1). Layers keep their names.

    :param messages: sentences on how it came to be read so; ``messages`` of the result.
    """
    single = not card.voxelwise and len(card.output.labels) == 1
    plain = card.output.which is None and card.output.kind in ("logits", "value") and not single
    return network if plain or read_through(network) is not None else _reader()(network, card, messages)


def read_through(network: torch.nn.Module) -> torch.nn.Module | None:
    """The network of which :func:`read_as` made this one; None where it is another."""
    whole: torch.nn.Module | None = vars(network)["whole"] if isinstance(network, _reader()) else None
    return whole


@cache
def _reader() -> type[torch.nn.Module]:
    import torch

    class Reader(torch.nn.Module):
        """:ivar unseen: whether the last pass had to go back from probabilities to their logarithms."""

        whole: torch.nn.Module
        read_by: ModelCard
        given: tuple[str, ...]
        unseen: bool

        def __init__(self, network: torch.nn.Module, card: ModelCard, messages: Sequence[str]) -> None:
            super().__init__()
            # beside the registry, or all layers would be renamed
            self.__dict__.update(
                whole=network, read_by=card, which=card.output.which, given=tuple(messages), unseen=False
            )
            if isinstance(network, torch.jit.ScriptModule):  # its tables are no dicts
                self._modules = {"program": network}
            else:
                self._modules, self._parameters, self._buffers = network._modules, network._parameters, network._buffers
            self.training = network.training

        def named_modules(self, *args: Any, **kwargs: Any) -> Any:
            return self.whole.named_modules(*args, **kwargs)

        def train(self, mode: bool = True) -> Reader:
            self.whole.train(mode)
            self.training = mode
            return self

        @property
        def messages(self) -> tuple[str, ...]:
            wanted = self.read_by.output
            sentence = (
                f"The network's last step is no {wanted.activation} that can be seen: its scores are the "
                f"{'logarithms' if wanted.exclusive or wanted.kind != 'probabilities' else 'logits'} of its probabilities."
            )
            return (*self.given, sentence) if self.unseen else self.given

        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            wanted = self.read_by.output
            if wanted.kind in ("logits", "value"):
                return _column(pick(self.whole(*args, **kwargs), wanted.which))
            x = next(tensors([args, kwargs]))
            voxels = math.prod(x.shape[2:]) if self.read_by.voxelwise else 1
            with watching(x.shape[0] * len(wanted.labels) * voxels):
                value = _column(pick(self.whole(*args, **kwargs), wanted.which))
                if not value.is_meta:
                    check_end(self.read_by, value)
                    check_values(self.read_by, value)
            received = _received(value, wanted)
            self.__dict__["unseen"] = received is None
            return _logits(value, wanted) if received is None else received

    return Reader


def _column(value: torch.Tensor) -> torch.Tensor:
    """One number for each sample as (batch, 1)."""
    return value.unsqueeze(1) if value.ndim == 1 else value


def _received(value: torch.Tensor, wanted: Output) -> torch.Tensor | None:
    """What the last sigmoid or softmax got, where it was seen and gives these very values."""
    import torch

    end = end_of(value)
    if end is None or end.received is None or end.received.shape != value.shape:
        return None
    received = end.received
    if value.requires_grad and not received.requires_grad:
        return None
    if MEANINGS.get(end.name) != (wanted.kind, wanted.activation):
        return None
    if value.is_meta:
        return received
    with torch.no_grad():
        p = received.softmax(1) if wanted.exclusive else received.sigmoid()
        same = value if wanted.kind == "probabilities" else value.exp()
        near = torch.finfo(value.dtype).eps ** 0.5
        return received if torch.allclose(p.to(same), same, rtol=near, atol=near, equal_nan=True) else None


def _logits(value: torch.Tensor, wanted: Output) -> torch.Tensor:
    """Logits whose softmax or sigmoid gives these probabilities, or their logarithms, at least in single precision."""
    import torch

    if wanted.kind == "log_probabilities" and wanted.exclusive:
        return value
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    limits = torch.finfo(value.dtype)
    if wanted.kind == "log_probabilities":
        value = value.exp()
    if wanted.exclusive:
        return value.clamp_min(limits.tiny).log()
    return torch.logit(value.clamp(limits.tiny, 1 - limits.eps / 2))


def check_end(card: ModelCard, value: torch.Tensor) -> None:
    """:raises CardError: where the last operator that was seen is another one than the card says."""
    end = end_of(value)
    if end is None or not end.sure or MEANINGS.get(end.name) in (None, (card.output.kind, card.output.activation)):
        return
    raise CardError(
        card.name,
        f"the card's output says {card.output.kind} of a {card.output.activation}, and the network ends in a {end.name}",
        to_write(end.name),
    )


def to_write(end: str) -> str:
    """What the card has to say of a network that ends in a sigmoid or softmax, as a remedy."""
    kind, activation = MEANINGS[end]
    return f'write "kind": "{kind}", "activation": "{activation}" in output'


def check_values(card: ModelCard, value: torch.Tensor) -> None:
    """:raises CardError: where what the card calls probabilities (or their logarithms) cannot be such."""
    near = tolerance(value)
    low, high = float(value.detach().min()), float(value.detach().max())
    end = end_of(value)
    summed = end is not None and end.sure and end.name.endswith("softmax")  # to 1, whatever its precision
    if card.output.kind == "log_probabilities":
        if card.output.exclusive and not summed and high <= near:
            refuse_sums(card, value.detach().double().exp().sum(1), 10 * near, "the logarithms of ")
        if high > near:
            raise CardError(
                card.name,
                f"the card's output.kind says log_probabilities, and the network gives values up to {high:.3g} where these "
                "are never above 0",
                'write "kind": "logits"',
            )
        return
    if low < -near or high > 1 + near:
        raise CardError(
            card.name,
            f"the card's output.kind says probabilities, and the network gives values from {low:.3g} to {high:.3g}",
            'write "kind": "logits"',
        )
    if card.output.exclusive and value.ndim > 1 and not summed:
        refuse_sums(card, value.detach().double().sum(1), 10 * near)


def refuse_sums(card: ModelCard, sums: torch.Tensor, near: float, of: str = "") -> None:
    """:raises CardError: for sums of probabilities over the classes that lie further than ``near`` from 1."""
    if bool(((sums - 1).abs() > near).any()):
        raise CardError(
            card.name,
            f"the card's output says {of}probabilities of a softmax, and those of the network sum to "
            f"{float(sums.min()):.3g} to {float(sums.max()):.3g} over the classes",
            'write "activation": "sigmoid"',
        )
