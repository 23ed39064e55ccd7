"""What a tensor of the output is: logits, probabilities or their logarithms, by its last operator or its values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .ends import BY_VALUE, DOUBTFUL, LEARNED, MEANINGS, MIXED, end_of, needs_of
from .guest import passing, seed_of
from .parts import Part, leaves
from .script import script, script_parts

if TYPE_CHECKING:
    import torch

OTHERS = 2
"""Further inputs whose values must say the same."""


def parts_of(network: torch.nn.Module, output: Any) -> list[Part]:
    """The tensors of an output that came about under :func:`.ends.watching`; of TorchScript by its graph."""
    found = []
    for path, tensor in leaves(output):
        part = Part(path, tuple(tensor.shape), tensor.is_floating_point())
        if (end := end_of(tensor)) is not None:
            part = dataclasses.replace(part, depth=needs_of(tensor).bit_count(), end=end.name, sure=end.sure)
        found.append(part)
    program = script(network)
    known = script_parts(program) if program is not None else []
    if len(known) != len(found) or any(part.end for part in found):
        return found
    return [dataclasses.replace(k, shape=p.shape, floating=p.floating) for p, k in zip(found, known, strict=True)]


def plainly(network: torch.nn.Module, x: torch.Tensor) -> Any:
    """The network's output as it is, without a graph, for an input of any type and place; as its guest."""
    import torch

    with torch.no_grad(), passing(network, seed_of(network)):
        return network(x.clone().to(next(network.parameters(), x)))


@contextmanager
def outputs_of(network: torch.nn.Module) -> Iterator[list[Any]]:
    """A list that gets the network's outputs as they are."""
    seen: list[Any] = []
    handle = network.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def tells(part: Part) -> bool:
    """Whether the last operator alone says that a tensor is probabilities."""
    return part.sure and part.end in MEANINGS


def likely(part: Part) -> bool:
    """Whether the last operator lets one expect probabilities; else its values are looked at when they are at hand."""
    return part.end in MEANINGS or part.end in DOUBTFUL | {"", BY_VALUE, MIXED}


def meaning(part: Part, ask: Callable[[int], torch.Tensor]) -> str | None:
    """Which of MEANINGS a tensor of the output is, by its last operator or its values; None: logits, or a value.

    :param ask: gives the tensor, (batch, class, ...), for the input at hand (0) or another one (of :func:`another`), which
        the network may refuse.
    """
    if tells(part) or (part.end in MEANINGS and part.end.startswith("log")):
        return part.end
    if part.end == LEARNED:
        return None
    found = by_values(ask(0))

    def holds(number: int) -> bool:
        with suppress(Exception):
            return by_values(ask(number)) in (found, "softmax")  # far beyond its range a sigmoid gives ones and zeros
        return False

    return found if found and all(map(holds, range(1, OTHERS + 1))) else None


def convinces(part: Part, found: str | None) -> bool:
    """Whether a tensor is taken as what :func:`meaning` found: by values as a softmax always, as a sigmoid only where the
    operators say that it was made of probabilities; other numbers may lie in 0 to 1 as well."""
    return found is not None and (
        found != "sigmoid" or tells(part) or part.end in ("sigmoid", "softmax", BY_VALUE, MIXED)
    )


def by_values(value: torch.Tensor) -> str | None:
    """``softmax`` where all are in 0..1 and sum to 1 over several classes, ``sigmoid`` where they are in 0..1, else None."""
    inside = bool(((value >= 0) & (value <= 1)).all())
    several = value.ndim > 1 and value.shape[1] > 1
    if inside and several and bool(((value.double().sum(1) - 1).abs() < tolerance(value)).all()):
        return "softmax"
    return "sigmoid" if inside else None


def tolerance(value: torch.Tensor) -> float:
    """How far sums and values of probabilities may lie beside, in the precision of their type."""
    import torch

    return max(1e-4, 8 * torch.finfo(value.dtype).eps)


def another(x: torch.Tensor, number: int) -> torch.Tensor:
    """An input unlike ``x``: noise in its range, or for the number 2 far beyond it, where logits would show."""
    import torch

    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(number)).to(x)
    return (x.amin() + noise * (x.amax() - x.amin() + 1)) * (1 if number == 1 else 100)
