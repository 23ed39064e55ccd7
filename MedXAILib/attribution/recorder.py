"""The tape of one forward pass: activations of the requested layers, and gradients of any score with respect to them.

The cost floor of gradient methods: parameters are frozen and the graph begins at the shallowest requested layer, so one
forward pass serves every layer and class, and each score costs one partial backward pass; none where the features are
pooled and classified by one linear layer, through which alone it goes back then. Nothing of the user's network is
changed: see :mod:`MedXAILib.models.running.guest`; and gradients come from ``torch.autograd.grad``, so that ``.grad`` stays as it was.

Where a gradient cannot come through, that is said (:meth:`Tape.gradients`, :meth:`Tape.check`), and never taken for a
gradient of 0: at a layer of which none comes, the output is asked whether it depends on the layer at all.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from textwrap import shorten
from typing import TYPE_CHECKING

from ..errors import InputError, NetworkError, first_line
from ..models.nested import first_tensor
from ..models.running.guest import guest, mine, passing, written_name
from ..progress import Cancelled, Progress, silent, ticking

if TYPE_CHECKING:
    import torch

    from ..models.layers import Layer

INPUT = "@input"
"""The layer name of the network's input; ``@input.mr`` is the one named ``mr`` of several."""
POOLING_NODES = {
    f"{name}Backward"
    for name in (
        *("Addmm", "Mm", "T", "View", "UnsafeView", "ReshapeAlias", "Alias", "Squeeze", "Clone", "ToCopy", "Mean"),
        *("AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "AvgPool2D", "AvgPool3D"),
    )
}
FLAT_NODES = {f"{name}Backward" for name in ("Round", "Floor", "Ceil", "Trunc", "Sign", "Sgn")}
"""Steps, whose derivative is 0 wherever there is one: what comes back through them says nothing."""
WITHOUT = "choose a method that needs no gradient, as occlusion, rise, lime or shap"
HALF_SCALE = 2.0**15
"""Half-precision gradients are computed this much larger, so that small ones do not vanish."""


@dataclass(eq=False)
class Tape:
    """What was recorded of one pass. As a context manager it lets go of the graph at the end.

    :ivar output: the network's output (its first tensor), with the graph down to the shallowest layer.
    :ivar activations: layer name -> (batch, channel, *cells), as the layer gave them: an in-place operator that follows
        does not change them.
    :ivar heads: what linear layers (in an exported program, any module) were given, (batch, feature), in the graph.
    :ivar random: whether the network drew random numbers on the way.
    :ivar size: bytes that it holds in memory, where they were counted.
    :ivar reason: layer name -> why no gradient of the output comes there, and whether this is because the output does
        not depend on the layer.
    """

    output: torch.Tensor | None
    activations: dict[str, torch.Tensor]
    heads: list[torch.Tensor] = field(default_factory=list)
    random: bool = False
    reason: Callable[[str], tuple[str, bool]] | None = None
    size: int = 0
    _pooled: dict[str, torch.Tensor | None] = field(default_factory=dict)
    _missing: dict[str, tuple[str, bool]] = field(default_factory=dict)

    def __enter__(self) -> Tape:
        return self

    def __exit__(self, *_) -> None:
        self.output, self.activations, self.heads, self.reason, self._pooled = None, {}, [], None, {}

    def bytes(self, shared: frozenset[int] = frozenset()) -> int:
        """What the tape holds in memory: its activations, and what autograd keeps for the way back.

        :param shared: addresses of storages that are there anyway: the network's own.
        """
        import torch

        held = [self.output, *self.activations.values(), *self.heads]
        nodes = [tensor.grad_fn for tensor in held if tensor is not None]
        sizes = {}
        for tensor in (*held, *kept(nodes)):
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
        return sum(size for address, size in sizes.items() if address not in shared)

    def pooled(self, layer: str) -> torch.Tensor | None:
        """The layer's mean over positions (batch, channel) as a linear layer got it, where the output is linear in it.

        That is: the linear layer got this mean, to rounding, by poolings and reshapes alone, and from there to the output
        autograd knows linear operators alone. None otherwise.
        """
        import torch

        if layer not in self._pooled:
            a = self.activations[layer].detach()
            mean = a.to(wide(a)).flatten(2).mean(2) if a.ndim > 2 else None
            self._pooled[layer] = next(
                (
                    given
                    for given in self.heads
                    if mean is not None
                    and given.shape == mean.shape
                    and self.output.ndim == 2
                    and _near(given.detach().to(mean), mean, max(torch.finfo(t.dtype).eps for t in (a, given)))
                    and _pools_only(self.output.grad_fn, given)
                    and _pools_only(given.grad_fn, self.activations[layer])
                ),
                None,
            )
        return self._pooled[layer]

    def gradients(self, score: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
        """Gradient of a score with respect to every recorded layer, by one partial backward pass at most.

        :param score: output -> numbers, which are summed (the samples of a batch in eval mode do not see each other, so
            each keeps its own gradient; samples may be scored by different classes).
        :returns: as large as the activations, at least float32; zeros where a layer has no influence, or where
            :meth:`check` raises.
        :raises InputError: where no gradient comes to any of the layers.
        """
        import torch

        if self.output is None:
            raise InputError("This tape is closed: ask it inside its with block.")
        autocast = torch.autocast(self.output.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), autocast:
            output = self.output.detach().to(wide(self.output)).requires_grad_()
            total = score(output).sum()
            (seed,) = torch.autograd.grad(total, output, allow_unused=True) if total.requires_grad else (None,)
            if seed is None or not seed.any():
                return {name: torch.zeros_like(a, dtype=wide(a)) for name, a in self.activations.items()}
            if all(self.pooled(name) is not None for name in self.activations):
                return {name: self._closed(name, seed) for name in self.activations}
            found = dict(zip(self.activations, self._backward(seed), strict=True))
        for name, gradient in found.items():
            if gradient is None or (_is_zero(gradient) and _flat(self.output.grad_fn, self.activations[name])):
                self._missing[name] = self._missing.get(name) or self.reason(name)
        if set(self._missing) == set(found):
            raise InputError(next(iter(self._missing.values()))[0])
        return {
            n: torch.zeros_like(a, dtype=wide(a)) if found[n] is None else found[n] for n, a in self.activations.items()
        }

    def unused(self, layer: str) -> str:
        """A sentence where :meth:`gradients` found that the output does not depend on a layer."""
        sentence, unused = self._missing.get(layer, ("", False))
        return sentence if unused else ""

    def check(self, layer: str) -> None:
        """:raises InputError: where :meth:`gradients` found that the output depends on a layer, but no gradient comes."""
        sentence, unused = self._missing.get(layer, ("", True))
        if not unused:
            raise InputError(sentence)

    def _closed(self, name: str, seed: torch.Tensor) -> torch.Tensor:
        """The gradient through pooling and one linear layer: that of what the linear layer got, over the number of cells,
        the same everywhere."""
        import torch

        activation, given = self.activations[name], self.pooled(name)
        largest = seed.abs().max()  # half precision holds no small numbers
        total = (self.output.to(seed) * (seed / largest)).sum()
        (gradient,) = torch.autograd.grad(total, given, retain_graph=True)
        gradient = gradient.to(seed) * largest / activation[0, 0].numel()
        return gradient.reshape(*gradient.shape, *[1] * (activation.ndim - 2)).expand_as(activation)

    def _backward(self, seed: torch.Tensor) -> list[torch.Tensor | None]:
        """The partial backward pass. In half precision the scale falls until nothing overflows.

        :raises InputError: where an operator on the way has no derivative, or fails.
        """
        import torch

        layers = list(self.activations.values())
        asked = [a for a in layers if a.requires_grad]
        if not (self.output.requires_grad and asked):
            return [None] * len(layers)
        scale = HALF_SCALE if any(a.dtype == torch.float16 for a in [self.output, *layers]) else 1.0
        while True:
            scaled = (seed if scale == 1 else seed * scale).to(self.output.dtype)
            try:
                found = torch.autograd.grad(self.output, asked, scaled, retain_graph=True, allow_unused=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise InputError(no_way_back(error)) from error
            if scale <= 1 or all(g is None or bool(g.isfinite().all()) for g in found):
                found = [g if g is None else g.to(wide(g)) for g in found]
                found = iter(found if scale == 1 else [g if g is None else g / scale for g in found])
                return [next(found) if a.requires_grad else None for a in layers]
            scale /= 32


def no_way_back(error: Exception) -> str:
    """What an error of the way back through a network means, one sentence."""
    text = shorten(str(error).strip() or type(error).__name__, 160, placeholder=" ...").rstrip(".")
    if "use_reentrant" in str(error):
        return (
            "No gradient comes through a checkpoint with use_reentrant=True: give torch.utils.checkpoint "
            f"use_reentrant=False, or {WITHOUT}."
        )
    if "nference tensor" in str(error):
        return (
            "No gradient comes through this network, whose parameters or tables were made under torch.inference_mode: make "
            f"or load it outside, or {WITHOUT}."
        )
    return f"No gradient comes through this network ({text}): {WITHOUT}."


def wide(a: torch.Tensor) -> torch.dtype:
    """Its own type, or single precision where that is wider."""
    import torch

    return torch.promote_types(a.dtype, torch.float32)


def _is_zero(gradient: torch.Tensor) -> bool:
    """Nearly always its first numbers tell that it is not."""
    return not bool(gradient.reshape(-1)[:1024].any()) and not bool(gradient.any())


def _is(node, tensor: torch.Tensor) -> bool:
    """Whether a node of the graph stands for a tensor."""
    return node is not None and (node is tensor.grad_fn or getattr(node, "variable", None) is tensor)


def _pools_only(node, activation: torch.Tensor) -> bool:
    """Whether nothing but poolings, reshapes and the linear layer lies between an activation and a node of the graph. (A
    ReLU there may change no value and yet have a derivative of 0.)"""
    if node is None:
        return False
    if _is(node, activation):
        return True
    name = node.name().rstrip("0123456789")
    if name not in POOLING_NODES or (name.startswith("AvgPool") and not _pools_all(node)):
        return False
    return all(_pools_only(before, activation) for before, _ in node.next_functions if before is not None)


def _pools_all(node) -> bool:
    """Whether an average pooling has one window, as large as its input."""
    kernel, size = node._saved_kernel_size, node._saved_self.shape[2:]
    return tuple(kernel) in (tuple(size), tuple(set(size)))


def _flat(node, activation: torch.Tensor) -> bool:
    """Whether every way from a node of the graph back to an activation leads over a step."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or node.name().rstrip("0123456789") in FLAT_NODES:
            continue
        if _is(node, activation):
            return False
        seen.add(node)
        waiting.extend(before for before, _ in node.next_functions)
    return True


def _near(one: torch.Tensor, other: torch.Tensor, eps: float) -> bool:
    """Equal to the rounding of a sum."""
    import torch

    return torch.allclose(one, other, rtol=max(1e-4, eps), atol=1e-6 * float(other.abs().max()))


def record(
    network: torch.nn.Module,
    x: torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
    layers: Sequence[str],
    progress: Progress = silent,
    text: str = "Forward pass",
    seed: int = 0,
) -> Tape:
    """One forward pass with a tape.

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
                tape = _record(network, x, layers, progress, text, seed)
        except NetworkError as error:  # perhaps of autograd alone: activations can still be had
            why = no_way_back(error.__cause__), False
            with torch.no_grad():
                tape = _record(network, x, layers, progress, text, seed)
            tape.reason = lambda layer: why
            return tape
    tape.reason = lambda layer: _reason(network, x, layer, seed)
    return tape


def _record(network, x, layers: Sequence[str], progress: Progress, text: str, seed: int) -> Tape:
    import torch

    modules = _modules(network)
    activations: dict[str, torch.Tensor] = {}
    heads: list[torch.Tensor] = []

    def keep(layer: str):
        def replace(value: torch.Tensor) -> torch.Tensor:
            leaf = activations[layer] = _leaf(value)
            # what follows gets a copy: an in-place operator would otherwise overwrite the recorded values
            return leaf.clone()

        return replace

    def watch_head(_module, inputs, _output):
        if len(inputs) == 1 and inputs[0].ndim == 2 and inputs[0].requires_grad:
            heads.append(inputs[0])

    with ExitStack() as stack:
        for layer in layers:
            if not layer.startswith(INPUT):
                stack.callback(_exchange(modules, layer, keep(layer)).remove)
        for module in set(modules.values()) if layers else ():
            if isinstance(module, torch.nn.Linear) or type(module).__name__ == "InterpreterModule":
                stack.callback(module.register_forward_hook(mine(watch_head)).remove)
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                stack.callback(module.register_forward_pre_hook(mine(_tidy_input)).remove)
                stack.callback(module.register_forward_hook(mine(_tidy_gradient)).remove)
        given = _arguments(x, layers, activations)
        stack.enter_context(ticking(network, progress, text))
        output, random = _run(network, given, seed)
    return Tape(output, {layer: _ordinary(activations[layer]) for layer in layers}, heads, random)


def _tidy_input(_module, inputs):
    """Batch norm in evaluation mode on the CPU takes a wrong gradient where its input or the gradient lies in memory as tokens
    do (torch 2.13, batches of one): here neither does."""
    return tuple(map(_tidy, inputs))


def _tidy_gradient(_module, _inputs, output) -> None:
    if getattr(output, "requires_grad", False):
        output.register_hook(_tidy)


def _tidy(value):
    """A tensor whose axes lie in memory in their order, or with the channels last."""
    import torch

    if not isinstance(value, torch.Tensor) or value.is_contiguous():
        return value
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(value.ndim)
    # of a batch of one torch does not look at the first step; its kernel does
    fits = last is not None and value.is_contiguous(memory_format=last) and value.stride(0) == value[0].numel()
    return value if fits else value.contiguous()


def _run(network: torch.nn.Module, given: tuple[list, dict], seed: int) -> tuple[torch.Tensor, bool]:
    """The network's output (its first tensor), and whether random numbers were drawn.

    :raises NetworkError: for whatever the network raises, but for want of memory.
    """
    import torch

    arguments, named = given
    device = next(iter((*arguments, *named.values()))).device.type
    with passing(network, seed) as draws, torch.autocast(device, enabled=False):
        try:
            output = first_tensor(network(*arguments, **named))
        except (InputError, Cancelled, _Enough, MemoryError):
            raise
        except Exception as error:
            if "memory" in str(error):
                raise
            raise NetworkError(
                f"{type(network).__name__} raised an error in its forward pass ({type(error).__name__}: "
                f"{first_line(error)}): run it several times on this input, in evaluation mode, until it raises none."
            ) from error
    return _ordinary(output), draws.random


def _modules(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """By their names, and by these without what torch.compile puts into them."""
    modules = dict(network.named_modules())
    return {written_name(name): module for name, module in modules.items()} | modules


def _exchange(modules: Mapping[str, torch.nn.Module], layer: str, replace: Callable[[torch.Tensor], torch.Tensor]):
    """A hook that exchanges a layer's output by ``replace(output)``: of every call, or of the n-th with ``name#n``."""
    name, _, wanted = layer.partition("#")
    call = -1

    def hook(_module, _inputs, output):
        nonlocal call
        call += 1
        value = first_tensor(output)
        if value is None or (wanted and call != int(wanted)):
            return None
        return _replaced(output, value, replace(value))

    return modules[name].register_forward_hook(mine(hook))


def _ordinary(value: torch.Tensor) -> torch.Tensor:
    """What was made in inference_mode, or is quantised, as a tensor of the common kind."""
    value = value.dequantize() if value.is_quantized else value
    return value.clone() if value.is_inference() else value


def _reason(network: torch.nn.Module, x, layer: str, seed: int) -> tuple[str, bool]:
    """See :attr:`Tape.reason`; three more passes."""
    import torch

    what = "its input" if layer.startswith(INPUT) else f"the layer {layer}"
    with guest(network), torch.inference_mode(False):
        if not _depends(network, x, layer, seed):
            return f"The network's output does not depend on {what}: there is nothing to explain there.", True
        return f"No gradient of the network's output comes to {what}{_lost(network, x, layer, seed)}: {WITHOUT}.", False


def _depends(network: torch.nn.Module, x, layer: str, seed: int) -> bool:
    """Whether the output changes with what a layer gives."""
    import torch

    noise = torch.Generator().manual_seed(seed)

    def other(value: torch.Tensor) -> torch.Tensor:
        plain = _ordinary(value)
        size = plain.abs().amax() + 1
        changed = plain + (size * torch.randn(plain.shape, generator=noise).to(plain.device)).to(plain.dtype)
        if value.is_quantized:
            return torch.quantize_per_tensor(changed, value.q_scale(), value.q_zero_point(), value.dtype)
        return changed

    with torch.no_grad():
        plain, _ = _run(network, _arguments(x, (), {}), seed)
        arguments, named = _arguments(x, (), {})
        with ExitStack() as stack:
            if layer == INPUT:
                arguments = [other(arguments[0])]
            elif layer.startswith(INPUT):
                name = layer.removeprefix(f"{INPUT}.")
                arguments = [other(a) if str(n) == name else a for n, a in enumerate(arguments)]
                named = {n: other(a) if n == name else a for n, a in named.items()}
            else:
                stack.callback(_exchange(_modules(network), layer, other).remove)
            changed, _ = _run(network, (arguments, named), seed)
    return not torch.equal(plain, changed)


def _lost(network: torch.nn.Module, x, layer: str, seed: int) -> str:
    """Where the gradient is lost, as precisely as modules show it; begins with a comma."""
    import torch

    calls: list[tuple[str, bool, bool, bool]] = []

    def watch(name: str):
        def hook(_module, inputs, output):
            value = first_tensor(output)
            goes = value is not None and value.requires_grad and not _without_derivative(value.grad_fn)
            calls.append((name, torch.is_grad_enabled(), any(getattr(t, "requires_grad", False) for t in inputs), goes))

        return mine(hook)

    with torch.enable_grad(), ExitStack() as stack:
        given = _arguments(x, [layer], {})
        for name, module in network.named_modules():
            stack.callback(module.register_forward_hook(watch(name)).remove)
        if not layer.startswith(INPUT):
            stack.callback(_exchange(_modules(network), layer, lambda value: _leaf(value).clone()).remove)
        _run(network, given, seed)
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


def _without_derivative(node) -> bool:
    """Whether an operator has none at all, as a quantised one."""
    return node is not None and "NotImplemented" in node.name()


def _arguments(x, layers: Sequence[str], activations: dict) -> tuple[list, dict]:
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
    return [given(INPUT, x)], {}


def _leaf(value: torch.Tensor) -> torch.Tensor:
    """Where the graph begins, unless it began before, or no gradient can come to such a tensor."""
    import torch

    if value.requires_grad or value.is_inference() or not (torch.is_grad_enabled() and value.is_floating_point()):
        return value
    return value.detach().requires_grad_()


def _replaced(output, old: torch.Tensor, new: torch.Tensor):
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


class _Enough(Exception):
    """Every layer asked for was reached."""


def glimpse(
    network: torch.nn.Module,
    x: torch.Tensor,
    layers: Sequence[str],
    progress: Progress,
    seed: int = 0,
    keep: Callable[[str, torch.Tensor], torch.Tensor] = lambda layer, activation: activation.clone(),
) -> Tape:
    """Activations alone: no graph, no output; the pass ends at the last layer asked for.

    :param x: (batch, channel, *spatial); the network may change it in place.
    :param layers, seed: as in :func:`record`, but of a module called several times always with ``#n``.
    :param keep: what is kept of a layer's activation, which an in-place operator may change afterwards.
    """
    import torch

    activations: dict[str, torch.Tensor] = {}

    def watch(layer: str):
        name, _, wanted = layer.partition("#")
        call = -1

        def hook(_module, _inputs, output):
            nonlocal call
            call += 1
            if call == int(wanted or 0):
                activations[layer] = keep(layer, first_tensor(output))
                if len(activations) == len(set(layers)):
                    raise _Enough

        return modules[name].register_forward_hook(mine(hook))

    with guest(network), torch.no_grad(), ExitStack() as stack:
        modules = _modules(network)
        stack.enter_context(ticking(network, progress, "Forward pass"))
        for layer in layers:
            stack.callback(watch(layer).remove)
        with suppress(_Enough):
            _run(network, ([x], {}), seed)
    return Tape(None, {layer: _ordinary(a) for layer, a in activations.items()})


def replay(
    network: torch.nn.Module,
    x: torch.Tensor,
    layer: Layer,
    off: Sequence[int] | None,
    progress: Progress,
    seed: int = 0,
) -> torch.Tensor:
    """The network's output (its first tensor) without a tape, where channels of a layer are switched off.

    :param x: (n * batch, channel, *spatial).
    :param off: n channels of the layer; the n-th ``batch`` samples lack the n-th. None: the network as it is.
    :param seed: as in :func:`record`.
    """
    import torch

    def without(value: torch.Tensor) -> torch.Tensor:
        changed = value.clone()
        parts = changed.movedim(layer.arrangement.channel, 1).chunk(len(off))
        for part, channel in zip(parts, off, strict=True):
            part[:, channel] = 0
        return changed

    with guest(network), torch.no_grad(), ExitStack() as stack:
        if off is not None:
            # of a module called once or several times the call that is meant: the first, unless #n says which
            name = layer.name if "#" in layer.name else f"{layer.name}#0"
            stack.callback(_exchange(_modules(network), name, without).remove)
        stack.enter_context(ticking(network, progress, "Forward pass"))
        return _run(network, ([x.clone()], {}), seed)[0]


def kept(nodes: Sequence) -> Iterator[torch.Tensor]:
    """Every tensor that autograd keeps at these nodes of its graph and below."""
    seen: set = set()
    waiting = [node for node in nodes if node is not None]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        waiting += [below for below, _ in node.next_functions if below is not None]
        for name in saved_names(type(node)):
            try:
                value = getattr(node, name)
            except RuntimeError:  # let go of already
                continue
            yield from value if isinstance(value, tuple | list) else (value,)


@cache
def saved_names(kind: type) -> tuple[str, ...]:
    """Where a kind of node has what it keeps."""
    return tuple(name for name in dir(kind) if (name.startswith("_saved_") or name == "saved_tensors"))


class TapeCache:
    """Tapes of the tiles of one input, kept within a limit of bytes; the others are recorded again when asked for.

    :param seed: of the random numbers that the network may draw; see :meth:`draw_from`.
    :param limit: bytes; a single tile is always kept, so that prediction and explanation share one forward pass. With
        0 it is the last one: what is needed for windows, whose number grows with the volume.
    :ivar recorded: forward passes so far; ``seconds``: how long they took together.
    :ivar watched: a tile whose activations stay in ``seen`` (layer -> activation) when it is recorded.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        layers: Sequence[str],
        progress: Progress = silent,
        limit: int = 2 << 30,
        seed: int = 0,
    ):
        self.network, self.layers, self.progress, self.limit = network, tuple(layers), progress, limit
        self.seed = seed
        self.tapes: dict = {}
        self.recorded, self.seconds = 0, 0.0
        self.watched, self.seen = None, {}

    def _reporter(self) -> Progress:
        """Reports to whoever listens at the time: a pass backwards may belong to a later request than the recording did.

        The graph holds it and cannot be searched for cycles: a reference to this cache would never be let go.
        """
        me = weakref.ref(self)

        def report(*step) -> None:
            if (cache := me()) is not None:
                cache.progress(*step)

        return report

    def draw_from(self, seed: int) -> None:
        """Later passes draw from this seed; tapes of a network that draws random numbers are let go where it is another."""
        if seed != self.seed and any(tape.random for tape in self.tapes.values()):
            self.tapes.clear()
        self.seed = seed

    def tape(self, key, x: torch.Tensor) -> Tape:
        """The tape of the tile ``key``; recorded from ``x`` where it is not at hand."""
        if key not in self.tapes:
            if self.limit == 0:
                self.tapes.clear()
            began = time.perf_counter()
            tape = record(self.network, x, self.layers, self._reporter(), seed=self.seed)
            self.recorded, self.seconds = self.recorded + 1, self.seconds + time.perf_counter() - began
            if key == self.watched:
                self.seen = {layer: activation.detach() for layer, activation in tape.activations.items()}
            own = (*self.network.parameters(), *self.network.buffers())
            tape.size = tape.bytes(frozenset(tensor.untyped_storage().data_ptr() for tensor in own))
            if self.tapes and 2 * tape.size + sum(t.size for t in self.tapes.values()) > self.limit:
                return tape  # room is left for the one that is recorded next
            self.tapes[key] = tape
        return self.tapes[key]
