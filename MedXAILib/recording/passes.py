"""One pass through a network as it is: its arguments, its layers exchanged on the way, its errors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ..errors import InputError, NetworkError, first_line
from ..models.nested import first_tensor
from ..models.running.guest import mine, passing, written_name
from ..progress import Cancelled
from .recording import INPUT

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle

    Inputs = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
    """One input, several by position, or several by keyword."""
    Arguments = tuple[list[torch.Tensor], dict[str, torch.Tensor]]
    """By position, and by keyword."""


def run(network: torch.nn.Module, given: Arguments, seed: int) -> tuple[torch.Tensor, bool]:
    """The network's output (its first tensor), and whether random numbers were drawn.

    :raises NetworkError: for whatever the network raises, but for want of memory.
    """
    import torch

    arguments, named = given
    device = next(iter((*arguments, *named.values()))).device.type
    with passing(network, seed) as draws, torch.autocast(device, enabled=False):
        try:
            output = first_tensor(network(*arguments, **named))
        except (InputError, Cancelled, Enough, MemoryError):
            raise
        except Exception as error:
            if "memory" in str(error):
                raise
            raise NetworkError(
                f"{type(network).__name__} raised an error in its forward pass ({type(error).__name__}: "
                f"{first_line(error)}): run it several times on this input, in evaluation mode, until it raises none."
            ) from error
    assert output is not None
    return ordinary(output), draws.random


def modules_of(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """By their names, and by these without what torch.compile puts into them."""
    modules = dict(network.named_modules())
    return {written_name(name): module for name, module in modules.items()} | modules


def exchange(
    modules: Mapping[str, torch.nn.Module], layer: str, replace: Callable[[torch.Tensor], torch.Tensor]
) -> RemovableHandle:
    """A hook that exchanges a layer's output by ``replace(output)``: of every call, or of the n-th with ``name#n``."""
    name, _, wanted = layer.partition("#")
    call = -1

    def hook(_module: torch.nn.Module, _inputs: Any, output: Any) -> Any:
        nonlocal call
        call += 1
        value = first_tensor(output)
        if value is None or (wanted and call != int(wanted)):
            return None
        return _replaced(output, value, replace(value))

    return modules[name].register_forward_hook(mine(hook))


def ordinary(value: torch.Tensor) -> torch.Tensor:
    """What was made in inference_mode, or is quantised, as a tensor of the common kind."""
    value = value.dequantize() if value.is_quantized else value
    return value.clone() if value.is_inference() else value


def arguments_of(x: Inputs, layers: Sequence[str], activations: dict[str, torch.Tensor]) -> Arguments:
    """What the network is called with: copies, which it may change in place; a requested input is a leaf of the graph."""

    def given(name: str, value: torch.Tensor) -> torch.Tensor:
        value = value.detach().clone()
        if name not in layers:
            return value
        activations[name] = value.requires_grad_()
        return value.clone()

    if isinstance(x, Mapping):
        return [], {name: given(f"{INPUT}.{name}", value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [given(f"{INPUT}.{n}", value) for n, value in enumerate(x)], {}
    return [given(INPUT, cast("torch.Tensor", x))], {}


def leaf(value: torch.Tensor) -> torch.Tensor:
    """Where the graph begins, unless it began before, or no gradient can come to such a tensor."""
    import torch

    if value.requires_grad or value.is_inference() or not (torch.is_grad_enabled() and value.is_floating_point()):
        return value
    return value.detach().requires_grad_()


def _replaced(output: Any, old: torch.Tensor, new: torch.Tensor) -> Any:
    """The module's output with one tensor exchanged, whatever it is nested in."""
    if output is old:
        return new
    if isinstance(output, dict):
        changed = copy.copy(output)
        for key, value in output.items():
            changed[key] = other = _replaced(value, old, new)
            if other is not value and getattr(changed, str(key), None) is value:
                setattr(changed, str(key), other)  # its items are attributes too
        return changed
    if isinstance(output, list | tuple):
        parts = [_replaced(value, old, new) for value in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output


class Enough(Exception):
    """Every layer asked for was reached."""
