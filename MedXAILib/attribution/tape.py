"""The tape of one forward pass: activations of the requested layers, and gradients of any score with respect to them.

The cost floor of gradient methods: parameters are frozen and the graph begins at the shallowest requested layer, so one
forward pass serves every layer and class, and each score costs one partial backward pass; none where the features are
pooled and classified by one linear layer, whose weights are the gradient. Nothing of the user's network is changed:
gradients come from ``torch.autograd.grad`` (parameters' ``.grad`` stay as they were), and training flags,
``requires_grad`` and hooks are restored, also after an error.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..models.layers import first_tensor
from ..progress import Progress, silent, ticking

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
HALF_SCALE = 2.0**15
"""Half-precision gradients are computed this much larger, so that small ones do not vanish."""


@dataclass(eq=False)
class Tape:
    """What was recorded of one pass. As a context manager it lets go of the graph at the end.

    :ivar output: the network's output (its first tensor), with the graph down to the shallowest layer.
    :ivar activations: layer name -> (batch, channel, *cells), as the layer gave them: an in-place operator that follows
        does not change them.
    :ivar heads: (weight, input, output) of the linear layers met.
    """

    output: torch.Tensor | None
    activations: dict[str, torch.Tensor]
    heads: list[tuple] = field(default_factory=list)
    _pooled: dict[str, torch.Tensor | None] = field(default_factory=dict)

    def __enter__(self) -> Tape:
        return self

    def __exit__(self, *_) -> None:
        self.output, self.activations, self.heads = None, {}, []

    @property
    def bytes(self) -> int:
        """A lower bound of what the tape holds in memory."""
        return sum(a.numel() * a.element_size() for a in [self.output, *self.activations.values()])

    def pooled(self, layer: str) -> torch.Tensor | None:
        """The weights (class, channel) of the head where the output is linear in the layer's mean over positions.

        That is: a linear layer got this mean, to rounding, by poolings and reshapes alone, and gave the network's output.
        None otherwise.
        """
        import torch

        if layer not in self._pooled:
            a = self.activations[layer].detach()
            mean = a.to(wide(a)).flatten(2).mean(2) if a.ndim > 2 else None
            self._pooled[layer] = next(
                (
                    weight
                    for weight, given, output in self.heads
                    if mean is not None
                    and given.shape == mean.shape
                    and output.shape == self.output.shape
                    and torch.equal(output.to(self.output.dtype), self.output.detach())
                    and _near(given.to(mean), mean, max(torch.finfo(t.dtype).eps for t in (a, given)))
                    and _pools_only(self.output.grad_fn, self.activations[layer])
                ),
                None,
            )
        return self._pooled[layer]

    def gradients(self, score: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
        """Gradient of a score with respect to every recorded layer, by one partial backward pass at most.

        :param score: output -> numbers, which are summed (the samples of a batch in eval mode do not see each other, so
            each keeps its own gradient; samples may be scored by different classes).
        :returns: as large as the activations, at least float32; zeros where a layer has no influence.
        """
        import torch

        autocast = torch.autocast(self.output.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), autocast:
            output = self.output.detach().to(wide(self.output)).requires_grad_()
            total = score(output).sum()
            (seed,) = torch.autograd.grad(total, output, allow_unused=True) if total.requires_grad else (None,)
            if seed is None or not seed.any():
                return {name: torch.zeros_like(a, dtype=wide(a)) for name, a in self.activations.items()}
            if all(self.pooled(name) is not None for name in self.activations):
                return {name: self._closed(name, seed) for name in self.activations}
            found = self._backward(seed)
        pairs = zip(self.activations.items(), found, strict=True)
        return {name: torch.zeros_like(a, dtype=wide(a)) if g is None else g for (name, a), g in pairs}

    def _closed(self, name: str, seed: torch.Tensor) -> torch.Tensor:
        """The gradient through pooling and one linear layer: its weights over the number of cells, the same everywhere."""
        activation = self.activations[name]
        cells = activation[0, 0].numel()
        gradient = seed @ self.pooled(name).to(seed) / cells
        return gradient.reshape(*gradient.shape, *[1] * (activation.ndim - 2)).expand_as(activation)

    def _backward(self, seed: torch.Tensor) -> list[torch.Tensor | None]:
        """The partial backward pass. In half precision the scale falls until nothing overflows."""
        import torch

        layers = list(self.activations.values())
        scale = HALF_SCALE if any(a.dtype == torch.float16 for a in [self.output, *layers]) else 1.0
        while True:
            scaled = (seed if scale == 1 else seed * scale).to(self.output.dtype)
            found = torch.autograd.grad(self.output, layers, scaled, retain_graph=True, allow_unused=True)
            if scale <= 1 or all(g is None or bool(g.isfinite().all()) for g in found):
                found = [g if g is None else g.to(wide(g)) for g in found]
                return found if scale == 1 else [g if g is None else g / scale for g in found]
            scale /= 32


def wide(a: torch.Tensor) -> torch.dtype:
    """Its own type, or single precision where that is wider."""
    import torch

    return torch.promote_types(a.dtype, torch.float32)


def _pools_only(node, activation: torch.Tensor) -> bool:
    """Whether nothing but poolings, reshapes and the linear layer lies between an activation and a node of the graph. (A
    ReLU there may change no value and yet have a derivative of 0.)"""
    if node is None:
        return False
    if node is activation.grad_fn or getattr(node, "variable", None) is activation:
        return True
    if node.name().rstrip("0123456789") not in POOLING_NODES:
        return False
    return all(_pools_only(before, activation) for before, _ in node.next_functions if before is not None)


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
) -> Tape:
    """One forward pass with a tape.

    Autocast is switched off inside: what is recorded and its gradients are as precise as the parameters.

    :param x: (batch, channel, *spatial); several are given by position, or as a dict by keyword.
    :param layers: names as in ``named_modules()``; of a module called several times the last call is recorded, or the
        n-th (from 0) with ``name#n``; ``INPUT`` is the input itself (``@input.mr`` the one given by the keyword ``mr``).
    :raises KeyError: for a layer that is no module of the network or was not reached.
    """
    import torch

    modules = dict(network.named_modules())
    activations: dict[str, torch.Tensor] = {}
    heads: list[tuple] = []

    def watch(layer: str):
        wanted = int(layer.split("#")[1]) if "#" in layer else None
        call = -1

        def hook(_module, _inputs, output):
            nonlocal call
            call += 1
            value = first_tensor(output)
            if value is None or (wanted is not None and call != wanted):
                return None
            leaf = activations[layer] = _leaf(value)
            # what follows gets a copy: an in-place operator would otherwise overwrite the recorded values
            return _replaced(output, value, leaf.clone())

        return modules[layer.split("#")[0]].register_forward_hook(hook)

    def watch_head(module, inputs, output):
        heads.append((module.weight.detach(), inputs[0].detach(), output.detach()))

    with ExitStack() as stack:
        for context in (eval_mode(network), frozen(network), torch.inference_mode(False), torch.enable_grad()):
            stack.enter_context(context)
        stack.enter_context(torch.autocast(_device(network, x), enabled=False))
        for layer in layers:
            if not layer.startswith(INPUT):
                stack.callback(watch(layer).remove)
        if layers:
            for module in modules.values():
                if isinstance(module, torch.nn.Linear):
                    stack.callback(module.register_forward_hook(watch_head).remove)
        arguments, named = _arguments(x, layers, activations)
        stack.enter_context(ticking(network, progress, text))
        output = first_tensor(network(*arguments, **named))
    return Tape(output, {layer: activations[layer] for layer in layers}, [h for h in heads if h[2].ndim == 2])


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
    return value if value.requires_grad else value.detach().requires_grad_()


def _device(network, x) -> str:
    tensors = x.values() if isinstance(x, Mapping) else x if isinstance(x, list | tuple) else [x]
    return next(iter(tensors)).device.type


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


def glimpse(network: torch.nn.Module, x: torch.Tensor, layers: Sequence[str], progress: Progress) -> Tape:
    """Activations alone: no graph, no output; the pass ends at the last layer asked for.

    :param x: (batch, channel, *spatial).
    :param layers: as in :func:`record`, but of a module called several times always with ``#n``.
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
                # a copy: an in-place operator may follow
                activations[layer] = first_tensor(output).clone()
                if len(activations) == len(set(layers)):
                    raise _Enough

        return network.get_submodule(name).register_forward_hook(hook)

    with ExitStack() as stack:
        for context in (eval_mode(network), torch.no_grad(), torch.autocast(x.device.type, enabled=False)):
            stack.enter_context(context)
        stack.enter_context(ticking(network, progress, "Forward pass"))
        for layer in layers:
            stack.callback(watch(layer).remove)
        with suppress(_Enough):
            network(x.clone())  # which it may change in place
    return Tape(None, activations)


def replay(
    network: torch.nn.Module, x: torch.Tensor, layer: Layer, off: Sequence[int] | None, progress: Progress
) -> torch.Tensor:
    """The network's output (its first tensor) without a tape, where channels of a layer are switched off.

    :param x: (n * batch, channel, *spatial).
    :param off: n channels of the layer; the n-th ``batch`` samples lack the n-th. None: the network as it is.
    """
    import torch

    name, _, wanted = layer.name.partition("#")
    call = -1

    def hook(_module, _inputs, output):
        nonlocal call
        call += 1
        if call != int(wanted or 0):
            return None
        value = first_tensor(output)
        changed = value.clone()
        parts = changed.movedim(layer.arrangement.channel, 1).chunk(len(off))
        for part, channel in zip(parts, off, strict=True):
            part[:, channel] = 0
        return _replaced(output, value, changed)

    with ExitStack() as stack:
        for context in (eval_mode(network), torch.no_grad(), torch.autocast(x.device.type, enabled=False)):
            stack.enter_context(context)
        if off is not None:
            stack.callback(network.get_submodule(name).register_forward_hook(hook).remove)
        stack.enter_context(ticking(network, progress, "Forward pass"))
        return first_tensor(network(x))


@contextmanager
def eval_mode(network: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, every module's own flag restored."""
    flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def frozen(network: torch.nn.Module) -> Iterator[None]:
    """Parameters without gradients, restored afterwards."""
    thawed = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in thawed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)


class TapeCache:
    """Tapes of the tiles of one input, kept within a limit of bytes; the others are recorded again when asked for.

    :param limit: bytes; a single tile is always kept, so that prediction and explanation share one forward pass. With
        0 it is the last one: what is needed for windows, whose number grows with the volume.
    :ivar recorded: forward passes so far; ``seconds``: how long they took together.
    """

    def __init__(
        self, network: torch.nn.Module, layers: Sequence[str], progress: Progress = silent, limit: int = 2 << 30
    ):
        self.network, self.layers, self.progress, self.limit = network, tuple(layers), progress, limit
        self.tapes: dict = {}
        self.recorded, self.seconds = 0, 0.0

    def _reporter(self) -> Progress:
        """Reports to whoever listens at the time: a pass backwards may belong to a later request than the recording did.

        The graph holds it and cannot be searched for cycles: a reference to this cache would never be let go.
        """
        me = weakref.ref(self)

        def report(*step) -> None:
            if (cache := me()) is not None:
                cache.progress(*step)

        return report

    def tape(self, key, x: torch.Tensor) -> Tape:
        """The tape of the tile ``key``; recorded from ``x`` where it is not at hand."""
        if key not in self.tapes:
            if self.limit == 0:
                self.tapes.clear()
            began = time.perf_counter()
            tape = record(self.network, x, self.layers, self._reporter())
            self.recorded, self.seconds = self.recorded + 1, self.seconds + time.perf_counter() - began
            if self.tapes and tape.bytes + sum(t.bytes for t in self.tapes.values()) > self.limit:
                return tape
            self.tapes[key] = tape
        return self.tapes[key]
