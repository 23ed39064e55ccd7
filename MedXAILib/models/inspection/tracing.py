"""A pass through a network that carries along where each tensor's elements lie in the input (:mod:`.places`).

It sees every operator that torch runs, below modules, functions, TorchScript and exported programs alike. On a copy of the
network whose activations are on torch's meta device (no voxel is computed; what the network makes for itself, such as
tables and indices, is real) it finds shapes and places for all inputs of one shape. Where the network looks at values
(``item()``, a crop around the brightest place), the pass is one of the network itself on the real input.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Union

from ..running.guest import guest, moved_by_hooks, passing, seed_of, users_hooks
from .tracer import Tracer, dispatching

if TYPE_CHECKING:
    import torch


Example = Union["torch.Tensor", Callable[[], "torch.Tensor"], None]
"""An input, or a function that gives one."""
Watch = Callable[[Tracer, "torch.nn.Module"], Callable[[], object]]
"""Called before a pass, it may register hooks on the network, and gives the function that ends them."""


def _copied(network: torch.nn.Module) -> torch.nn.Module | None:
    """A network to try things on: the parameters are shared, everything else is its own, and whoever listens to the network
    does not listen to the copy. None where there is none: it cannot be copied, calls another one's modules, since its
    ``forward`` is a function that was put on it, or the user's hooks change what passes."""
    if moved_by_hooks(network) or any(isinstance(vars(m).get("forward"), FunctionType) for m in network.modules()):
        return None
    try:
        other = copy.deepcopy(network, {id(p): p for p in network.parameters()})
    except Exception:  # whatever a network may keep
        return None
    for hooks, key in users_hooks(other.modules()):
        del hooks[key]
    return other


def trace(network: torch.nn.Module, shape: Sequence[int], watch: Watch, x: Example = None) -> tuple[Any, Tracer]:
    """One traced pass, watched by ``watch(tracer, network)``.

    On a copy of the network, where it can be copied, else on the network itself; a copy on the meta device, where it neither
    looks at values nor draws random numbers; all others on ``x`` (random numbers without it).

    :param shape: (batch, channel, *spatial) of the input.
    :param x: the input, or what gives it, where it is at hand: of this shape, as the network takes it.
    :returns: (output, tracer).
    """
    seed = seed_of(network)
    if (other := _copied(network)) is not None:
        try:
            output, tracer = _traced(other, shape, watch, None, seed)
            if not tracer.random:
                return output, tracer
        except Exception:  # the pass on numbers says what is wrong, if anything is
            pass
        network = network if any(users_hooks(network.modules())) else _copied(network) or network
    if x is None:
        x = _example(network, shape)
    return _traced(network, shape, watch, x() if callable(x) else x, seed)


def _example(network: torch.nn.Module, shape: Sequence[int]) -> torch.Tensor:
    import torch

    values = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(0))
    like = _like(network)
    return values.to(like[0], like[1])


def _like(network: torch.nn.Module) -> tuple[torch.device, torch.dtype]:
    """(device, type) of the network's numbers."""
    import torch

    state = [*network.parameters(), *network.buffers()]
    kind = next((t.dtype for t in state if t.is_floating_point()), torch.float32)
    return next((t.device for t in state), torch.device("cpu")), kind


def _traced(
    network: torch.nn.Module, shape: Sequence[int], watch: Watch, x: torch.Tensor | None, seed: int
) -> tuple[Any, Tracer]:
    import torch

    device, kind = _like(network)
    tracer = Tracer(shape, x is None, device)
    x = torch.empty(tuple(shape), dtype=kind, device="meta") if x is None else x.detach().clone()
    done = watch(tracer, network)
    try:
        autocast = torch.autocast(device.type, enabled=False)
        with guest(network), passing(network, seed) as draws, torch.no_grad(), autocast, dispatching(tracer):
            output = network(tracer.start(x))
    finally:
        done()
    tracer.random = draws.random
    tracer.data |= draws.random
    return output, tracer
