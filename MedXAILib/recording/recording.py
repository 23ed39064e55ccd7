"""What was recorded of one pass: activations of layers, and gradients of any score with respect to them.

The cost floor of gradient methods: parameters are frozen and the graph begins at the shallowest requested layer, so one
forward pass serves every layer and class, and each score costs one partial backward pass; none where the features are
pooled and classified by one linear layer, through which alone it goes back then. Nothing of the user's network is
changed: see :mod:`MedXAILib.models.running.guest`; and gradients come from ``torch.autograd.grad``, so that ``.grad`` stays as it was.

Where a gradient cannot come through, that is said (:meth:`Recording.gradients`, :meth:`Recording.check`), and never taken for a
gradient of 0: at a layer of which none comes, the output is asked whether it depends on the layer at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from ..errors import GradientError

if TYPE_CHECKING:
    import torch
    from torch.autograd.graph import Node


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


@dataclass(eq=False, kw_only=True)
class Recording:
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
    _pooled: dict[str, torch.Tensor | None] = field(default_factory=dict, init=False)
    _missing: dict[str, tuple[str, bool]] = field(default_factory=dict, init=False)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.output, self.activations, self.heads, self.reason, self._pooled = None, {}, [], None, {}

    def bytes(self, shared: frozenset[int] = frozenset()) -> int:
        """What it holds in memory: its activations, and what autograd keeps for the way back.

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

        output = self.output
        if layer not in self._pooled:
            a = self.activations[layer].detach()
            mean = a.to(wide(a)).flatten(2).mean(2) if a.ndim > 2 else None
            self._pooled[layer] = next(
                (
                    given
                    for given in self.heads
                    if mean is not None
                    and given.shape == mean.shape
                    and output is not None
                    and output.ndim == 2
                    and _near(given.detach().to(mean), mean, max(torch.finfo(t.dtype).eps for t in (a, given)))
                    and _pools_only(output.grad_fn, given)
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
        :raises GradientError: where no gradient comes to any of the layers, or the recording is closed.
        """
        import torch

        if self.output is None:
            raise GradientError("This recording is closed: ask it inside its with block.")
        autocast = torch.autocast(self.output.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), autocast:
            output = self.output.detach().to(wide(self.output)).requires_grad_()
            total = score(output).sum()
            (seed,) = torch.autograd.grad(total, output, allow_unused=True) if total.requires_grad else (None,)
            if seed is None or _is_zero(seed):
                return {name: torch.zeros_like(a, dtype=wide(a)) for name, a in self.activations.items()}
            if all(self.pooled(name) is not None for name in self.activations):
                return {name: self._closed(self.output, name, seed) for name in self.activations}
            found = dict(zip(self.activations, self._backward(self.output, seed), strict=True))
        for name, gradient in found.items():
            if gradient is None or (_is_zero(gradient) and _flat(self.output.grad_fn, self.activations[name])):
                assert self.reason is not None  # a recording of layers has one
                self._missing[name] = self._missing.get(name) or self.reason(name)
        if set(self._missing) == set(found):
            raise GradientError(next(iter(self._missing.values()))[0])
        return {
            n: torch.zeros_like(a, dtype=wide(a)) if (g := found[n]) is None else g for n, a in self.activations.items()
        }

    def unused(self, layer: str) -> str:
        """A sentence where :meth:`gradients` found that the output does not depend on a layer."""
        sentence, unused = self._missing.get(layer, ("", False))
        return sentence if unused else ""

    def check(self, layer: str) -> None:
        """:raises GradientError: where :meth:`gradients` found that the output depends on a layer, but no gradient comes."""
        sentence, unused = self._missing.get(layer, ("", True))
        if not unused:
            raise GradientError(sentence)

    def _closed(self, output: torch.Tensor, name: str, seed: torch.Tensor) -> torch.Tensor:
        """The gradient through pooling and one linear layer: that of what the linear layer got, over the number of cells,
        the same everywhere."""
        import torch

        activation, given = self.activations[name], self.pooled(name)
        assert given is not None
        largest = seed.abs().max()  # half precision holds no small numbers
        total = (output.to(seed) * (seed / largest)).sum()
        (gradient,) = torch.autograd.grad(total, given, retain_graph=True)
        gradient = gradient.to(seed) * largest / activation[0, 0].numel()
        return gradient.reshape(*gradient.shape, *[1] * (activation.ndim - 2)).expand_as(activation)

    def _backward(self, output: torch.Tensor, seed: torch.Tensor) -> list[torch.Tensor | None]:
        """The partial backward pass. In half precision the scale falls until nothing overflows.

        :raises GradientError: where an operator on the way has no derivative, or fails.
        """
        import torch

        layers = list(self.activations.values())
        asked = [a for a in layers if a.requires_grad]
        if not (output.requires_grad and asked):
            return [None] * len(layers)
        scale = HALF_SCALE if any(a.dtype == torch.float16 for a in [output, *layers]) else 1.0
        while True:
            scaled = (seed if scale == 1 else seed * scale).to(output.dtype)
            try:
                found = torch.autograd.grad(output, asked, scaled, retain_graph=True, allow_unused=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise GradientError(no_way_back(error)) from error
            if scale <= 1 or all(g is None or bool(g.isfinite().all()) for g in found):
                widened = [g if g is None else g.to(wide(g)) for g in found]
                scaled_back = iter(widened if scale == 1 else [g if g is None else g / scale for g in widened])
                return [next(scaled_back) if a.requires_grad else None for a in layers]
            scale /= 32


def no_way_back(error: BaseException) -> str:
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
    """Nearly always its first numbers tell that it is not. (Torch's ``any`` takes ten times as long as the extremes.)"""
    return not bool(gradient.reshape(-1)[:1024].any()) and not any(bool(extreme) for extreme in gradient.aminmax())


def _is(node: Node | None, tensor: torch.Tensor) -> bool:
    """Whether a node of the graph stands for a tensor."""
    return node is not None and (node is tensor.grad_fn or getattr(node, "variable", None) is tensor)


def _pools_only(node: Node | None, activation: torch.Tensor) -> bool:
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


def _pools_all(node: Any) -> bool:
    """Whether an average pooling has one window, as large as its input."""
    kernel, size = node._saved_kernel_size, node._saved_self.shape[2:]
    return tuple(kernel) in (tuple(size), tuple(set(size)))


def _flat(node: Node | None, activation: torch.Tensor) -> bool:
    """Whether every way from a node of the graph back to an activation leads over a step."""
    waiting: list[Node | None] = [node]
    seen: set[Node] = set()
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


def kept(nodes: Sequence[Node | None]) -> Iterator[torch.Tensor]:
    """Every tensor that autograd keeps at these nodes of its graph and below."""
    seen: set[Node] = set()
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
