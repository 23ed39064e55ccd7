"""Why no gradient of the output comes to a layer: it does not depend on it, or the gradient is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..models.nested import first_tensor
from ..models.running.guest import guest, mine
from .passes import arguments_of, exchange, leaf, modules_of, ordinary, run
from .recording import INPUT, WITHOUT

if TYPE_CHECKING:
    import torch
    from torch.autograd.graph import Node

    from .passes import Inputs


def reason_of(network: torch.nn.Module, x: Inputs, layer: str, seed: int) -> tuple[str, bool]:
    """See :attr:`Recording.reason`; three more passes."""
    import torch

    what = "its input" if layer.startswith(INPUT) else f"the layer {layer}"
    with guest(network), torch.inference_mode(False):
        if not _depends(network, x, layer, seed):
            return f"The network's output does not depend on {what}: there is nothing to explain there.", True
        return f"No gradient of the network's output comes to {what}{_lost(network, x, layer, seed)}: {WITHOUT}.", False


def _depends(network: torch.nn.Module, x: Inputs, layer: str, seed: int) -> bool:
    """Whether the output changes with what a layer gives."""
    import torch

    noise = torch.Generator().manual_seed(seed)

    def other(value: torch.Tensor) -> torch.Tensor:
        plain = ordinary(value)
        size = plain.abs().amax() + 1
        changed = plain + (size * torch.randn(plain.shape, generator=noise).to(plain.device)).to(plain.dtype)
        if value.is_quantized:
            return torch.quantize_per_tensor(changed, value.q_scale(), value.q_zero_point(), value.dtype)
        return changed

    with torch.no_grad():
        plain, _ = run(network, arguments_of(x, (), {}), seed)
        arguments, named = arguments_of(x, (), {})
        with ExitStack() as stack:
            if layer == INPUT:
                arguments = [other(arguments[0])]
            elif layer.startswith(INPUT):
                name = layer.removeprefix(f"{INPUT}.")
                arguments = [other(a) if str(n) == name else a for n, a in enumerate(arguments)]
                named = {n: other(a) if n == name else a for n, a in named.items()}
            else:
                stack.callback(exchange(modules_of(network), layer, other).remove)
            changed, _ = run(network, (arguments, named), seed)
    return not torch.equal(plain, changed)


def _lost(network: torch.nn.Module, x: Inputs, layer: str, seed: int) -> str:
    """Where the gradient is lost, as precisely as modules show it; begins with a comma."""
    import torch

    calls: list[tuple[str, bool, bool, bool]] = []

    def watch(name: str) -> Callable[..., Any]:
        def hook(_module: torch.nn.Module, inputs: Any, output: Any) -> None:
            value = first_tensor(output)
            goes = value is not None and value.requires_grad and not _without_derivative(value.grad_fn)
            calls.append((name, torch.is_grad_enabled(), any(getattr(t, "requires_grad", False) for t in inputs), goes))

        return mine(hook)

    with torch.enable_grad(), ExitStack() as stack:
        given = arguments_of(x, [layer], {})
        for name, module in network.named_modules():
            stack.callback(module.register_forward_hook(watch(name)).remove)
        if not layer.startswith(INPUT):
            stack.callback(exchange(modules_of(network), layer, lambda value: leaf(value).clone()).remove)
        run(network, given, seed)
    calls = [call for call in calls if call[0]]
    off = "without gradients (torch.no_grad, torch.inference_mode, or a checkpoint with use_reentrant=True)"
    for name, on, comes, goes in calls:
        if name == layer.partition("#")[0] and not on:
            return f", which runs {off}"
        if comes and not goes:
            return f", it is lost in {name}" + ("" if on else f", which runs {off}")
    through = [name for name, _, _, goes in calls if goes]
    behind = through[-1] if through else "it" if not layer.startswith(INPUT) else "the first operators"
    return f", it is lost right behind {behind} (by detach, argmax, rounding or the like)"


def _without_derivative(node: Node | None) -> bool:
    """Whether an operator has none at all, as a quantised one."""
    return node is not None and "NotImplemented" in node.name()
