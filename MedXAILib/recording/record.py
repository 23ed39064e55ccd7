"""Passes through a network that leave something behind: a recording, activations alone, or an output with channels off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import NetworkError
from ..models.nested import first_tensor
from ..models.running.guest import guest, mine
from ..progress import Progress, silent
from .passes import Enough, arguments_of, exchange, leaf, modules_of, ordinary, run
from .reasons import reason_of
from .recording import INPUT, Recording, no_way_back
from .ticking import ticking

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle

    from ..models.layers import Layer
    from .passes import Inputs


def record(
    network: torch.nn.Module,
    x: Inputs,
    layers: Sequence[str],
    progress: Progress = silent,
    text: str = "Forward pass",
    seed: int = 0,
) -> Recording:
    """One forward pass, recorded.

    Autocast is switched off inside: what is recorded and its gradients are as precise as the parameters.

    :param x: (batch, channel, *spatial); several are given by position, or as a dict by keyword.
    :param layers: names as in ``named_modules()``, with or without ``_orig_mod`` where something is compiled; of a module
        called several times the last call is recorded, or the n-th (from 0) with ``name#n``; ``INPUT`` is the input itself
        (``@input.mr`` the one given by the keyword ``mr``).
    :param seed: of the random numbers that the network may draw.
    :raises KeyError: for a layer that is no module of the network or was not reached.
    """
    import torch

    with guest(network), torch.inference_mode(False):
        if not layers:
            with torch.no_grad():
                return _record(network, x, layers, progress, text, seed)
        try:
            with torch.enable_grad():
                recording = _record(network, x, layers, progress, text, seed)
        except NetworkError as error:  # perhaps of autograd alone: activations can still be had
            why = no_way_back(error.__cause__ or error), False
            with torch.no_grad():
                recording = _record(network, x, layers, progress, text, seed)
            recording.reason = lambda layer: why
            return recording
    recording.reason = lambda layer: reason_of(network, x, layer, seed)
    return recording


def _record(
    network: torch.nn.Module, x: Inputs, layers: Sequence[str], progress: Progress, text: str, seed: int
) -> Recording:
    import torch

    modules = modules_of(network)
    activations: dict[str, torch.Tensor] = {}
    heads: list[torch.Tensor] = []

    def keep(layer: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def replace(value: torch.Tensor) -> torch.Tensor:
            start = activations[layer] = leaf(value)
            # what follows gets a copy: an in-place operator would otherwise overwrite the recorded values
            return start.clone()

        return replace

    def watch_head(_module: torch.nn.Module, inputs: Any, _output: Any) -> None:
        if len(inputs) == 1 and inputs[0].ndim == 2 and inputs[0].requires_grad:
            heads.append(inputs[0])

    with ExitStack() as stack:
        for layer in layers:
            if not layer.startswith(INPUT):
                stack.callback(exchange(modules, layer, keep(layer)).remove)
        for module in set(modules.values()) if layers else ():
            if isinstance(module, torch.nn.Linear) or type(module).__name__ == "InterpreterModule":
                stack.callback(module.register_forward_hook(mine(watch_head)).remove)
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                stack.callback(module.register_forward_pre_hook(mine(_tidy_input)).remove)
                stack.callback(module.register_forward_hook(mine(_tidy_gradient)).remove)
        given = arguments_of(x, layers, activations)
        stack.enter_context(ticking(network, progress, text))
        output, random = run(network, given, seed)
    found = {layer: ordinary(activations[layer]) for layer in layers}
    return Recording(output=output, activations=found, heads=heads, random=random)


def _tidy_input(_module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Batch norm in evaluation mode on the CPU takes a wrong gradient where its input or the gradient lies in memory as tokens
    do (torch 2.13, batches of one): here neither does."""
    return tuple(map(_tidy, inputs))


def _tidy_gradient(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
    if getattr(output, "requires_grad", False):
        output.register_hook(_tidy)


def _tidy(value: Any) -> Any:
    """A tensor whose axes lie in memory in their order, or with the channels last."""
    import torch

    if not isinstance(value, torch.Tensor) or value.is_contiguous():
        return value
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(value.ndim)
    # of a batch of one torch does not look at the first step; its kernel does
    fits = last is not None and value.is_contiguous(memory_format=last) and value.stride(0) == value[0].numel()
    return value if fits else value.contiguous()


def glimpse(
    network: torch.nn.Module,
    x: torch.Tensor,
    layers: Sequence[str],
    progress: Progress,
    seed: int = 0,
    keep: Callable[[str, torch.Tensor], torch.Tensor] = lambda layer, activation: activation.clone(),
) -> Recording:
    """Activations alone: no graph, no output; the pass ends at the last layer asked for.

    :param x: (batch, channel, *spatial); the network may change it in place.
    :param layers, seed: as in :func:`record`, but of a module called several times always with ``#n``.
    :param keep: what is kept of a layer's activation, which an in-place operator may change afterwards.
    """
    import torch

    activations: dict[str, torch.Tensor] = {}

    def watch(layer: str) -> RemovableHandle:
        name, _, wanted = layer.partition("#")
        call = -1

        def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
            nonlocal call
            call += 1
            if call == int(wanted or 0):
                value = first_tensor(output)
                assert value is not None  # it is a layer because it gave one
                activations[layer] = keep(layer, value)
                if len(activations) == len(set(layers)):
                    raise Enough

        return modules[name].register_forward_hook(mine(hook))

    with guest(network), torch.no_grad(), ExitStack() as stack:
        modules = modules_of(network)
        stack.enter_context(ticking(network, progress, "Forward pass"))
        for layer in layers:
            stack.callback(watch(layer).remove)
        with suppress(Enough):
            run(network, ([x], {}), seed)
    return Recording(output=None, activations={layer: ordinary(a) for layer, a in activations.items()})


def replay(
    network: torch.nn.Module,
    x: torch.Tensor,
    layer: Layer,
    off: Sequence[int] | None,
    progress: Progress,
    seed: int = 0,
) -> torch.Tensor:
    """The network's output (its first tensor) without a recording, where channels of a layer are switched off.

    :param x: (n * batch, channel, *spatial).
    :param off: n channels of the layer; the n-th ``batch`` samples lack the n-th. None: the network as it is.
    :param seed: as in :func:`record`.
    """
    import torch

    with guest(network), torch.no_grad(), ExitStack() as stack:
        if off is not None:
            # of a module called once or several times the call that is meant: the first, unless #n says which
            name = layer.name if "#" in layer.name else f"{layer.name}#0"
            stack.callback(exchange(modules_of(network), name, partial(_without, layer, off)).remove)
        stack.enter_context(ticking(network, progress, "Forward pass"))
        return run(network, ([x.clone()], {}), seed)[0]


def _without(layer: Layer, off: Sequence[int], value: torch.Tensor) -> torch.Tensor:
    """A layer's output in which the n-th part of the batch lacks the n-th of these channels."""
    assert layer.arrangement is not None and layer.arrangement.channel is not None  # it is a feature grid
    changed = value.clone()
    parts = changed.movedim(layer.arrangement.channel, 1).chunk(len(off))
    for part, channel in zip(parts, off, strict=True):
        part[:, channel] = 0
    return changed
