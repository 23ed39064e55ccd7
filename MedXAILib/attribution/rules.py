"""Backward rules other than the derivative: guided backpropagation, deconvolution, LRP and DeepLIFT.

Each is a context manager; what is recorded under it follows the rule in every later backward pass::

    with guided() as rule:
        output = network(x)
    gradient = torch.autograd.grad(output[:, target].sum(), x, retain_graph=True)[0]

The network is not changed: activation functions are intercepted where they are called, whether by a module, by
``torch.nn.functional``, by a method of a tensor or as an operator of a ``torch.export`` program; in place or not, any
number of times. The values computed are those of the network itself.

What keeps its plain derivative
-------------------------------
- linear operators, batch normalisation in evaluation mode, average pooling and interpolation: the rules ask for it;
- max pooling, except under DeepLIFT: the winner takes all;
- softmax and attention, products of two activations (attention gates, squeeze-and-excitation, swish written out),
  normalisation by the sample's own statistics (instance, group and layer normalisation), ``clamp`` and ``maximum``, and
  activations inside fused operators (recurrent layers) and in a custom ``torch.autograd.Function``. Across these LRP
  does not conserve and DeepLIFT does not sum to the difference: whoever shows a map should say by how much.

TorchScript calls nothing that could be intercepted: the rule's ``count`` stays 0. A block under
``torch.utils.checkpoint`` (``use_reentrant=False``) would be computed again without the rule, and torch raises its
``CheckpointError``; :func:`MedXAILib.models.running.guest.guest` keeps what such a block computes. Gradients with respect to
parameters are not the network's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    import torch

# fmt: off
RECTIFIERS = frozenset((
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus",
    "hardswish",
))
# fmt: on
SQUASHING = frozenset(("sigmoid", "tanh", "hardsigmoid", "hardtanh"))
POOLINGS = frozenset(
    f"{kind}max_pool{n}d{tail}" for kind in ("", "adaptive_") for n in (1, 2, 3) for tail in ("", "_with_indices")
)


@dataclass(eq=False)
class Rule:
    """What a context gives.

    :ivar count: calls of activation functions that follow the rule; 0 after the forward pass: the rule changes nothing.
    """

    count: int = 0


@contextmanager
def guided() -> Iterator[Rule]:
    """Guided backpropagation: R_in = R_out [R_out > 0] f'(z).

    Springenberg et al. 2014, arXiv 1412.6806, who define it for ReLU, f'(z) = [z > 0]; for the other
    rectifiers the negative part of R_out is dropped likewise. Sigmoid and tanh keep their derivative.
    """

    def rule(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        y.register_hook(_positive)
        return y

    with _intercepted(RECTIFIERS, rule) as found:
        yield found


@contextmanager
def deconvolution() -> Iterator[Rule]:
    """The deconvolutional network as a backward pass: R_in = R_out [R_out > 0], whatever the input was.

    Zeiler and Fergus 2014, arXiv 1311.2901, section 2.1, who define it for ReLU; the other rectifiers do the same here.
    Sigmoid and tanh keep their derivative. Max pooling's derivative is the paper's unpooling with switches.
    """
    import torch

    def rule(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        line = _line(x, torch.ones_like(x), y)
        line.register_hook(_positive)
        return line

    with _intercepted(RECTIFIERS, rule) as found:
        yield found


@contextmanager
def lrp(epsilon: float = 1e-6) -> Iterator[Rule]:
    """Layer-wise relevance propagation, epsilon rule: f'(z) becomes f(z) / (z + epsilon sign(z)), sign(0) = 1.

    The relevance is input * gradient. Bach et al. 2015 (doi 10.1371/journal.pone.0130140, eq. 58) in the form of Ancona
    et al. 2018, arXiv 1711.06104, proposition 1. Biases absorb relevance; the score's own layer, which no activation
    follows, is not stabilised: the sum is the score itself on a network of ReLU without biases, as epsilon goes to 0.
    Where f(0) is not 0 (sigmoid, softplus) the ratio grows up to f(0) / epsilon and relevance is not conserved: in a
    network of many sigmoid gates it may grow beyond all bounds.

    :param epsilon: in the unit of the activations; the larger, the less is made of activations that nearly cancel.
    :raises InputError: unless epsilon > 0.
    """
    import torch

    if not epsilon > 0:
        raise InputError(f"LRP's epsilon is {epsilon}", "give a number above 0, as 1e-6", joint=": ")

    def rule(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        z = x.detach()
        return _line(x, y.detach() / torch.where(z < 0, z - epsilon, z + epsilon), y)

    with _intercepted(RECTIFIERS | SQUASHING, rule) as found:
        yield found


@contextmanager
def deeplift() -> Iterator[Rule]:
    """DeepLIFT, Rescale rule: f'(z) becomes (f(z) - f(z0)) / (z - z0); where z = z0 to rounding, it stays.

    The batch is [samples..., their baselines...]: the second half holds the baselines of the first. The relevance is
    (x - x0) * gradient of the first half's score with respect to the first half; it sums to f(x) - f(x0) where only
    linear operators, activations and max pooling lie between. Shrikumar et al. 2017, arXiv 1704.02685, in the form
    of Ancona et al. 2018, arXiv 1711.06104, proposition 2.

    Max pooling, as in captum: a rise of a window's maximum is given to the cell that wins in the sample, a fall to the
    cell that won in the baseline, each divided by that cell's own difference; overlapping windows add up. The network
    must keep the batch as its tensors' first axis: where it does not, only an odd length is noticed, and the sum.

    :raises InputError: while recording, at an activation whose first axis does not consist of two halves.
    """
    with _intercepted(RECTIFIERS | SQUASHING, _rescaled, _pooled) as found:
        yield found


@contextmanager
def _intercepted(
    activations: frozenset[str],
    rule: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    pooling: Callable[..., Any] | None = None,
) -> Iterator[Rule]:
    """Activations y = f(x) become ``rule(x, y)``, max poolings ``pooling(name, function, x, args, kwargs)``."""
    import torch
    from torch.overrides import TorchFunctionMode

    found = Rule()

    class Mode(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            name = _name(function, args, kwargs)
            pools = pooling if name in POOLINGS else None
            if pools is None and name not in activations:
                return function(*args, **kwargs)
            x, *args = args or [kwargs.pop("input")]
            if not (x.requires_grad and torch.is_grad_enabled()):
                return function(x, *args, **kwargs)
            if pools is not None:
                return pools(name, function, x, args, kwargs)
            found.count += 1
            z = x.clone()  # an in-place function overwrites this, not what the rule looks at
            y = function(z, *args, **kwargs)
            ruled = rule(x, y)
            return x.copy_(ruled) if y is z else ruled

    with Mode():
        yield found


def _name(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The plain name of any form of a function: relu of Tensor.relu_ and of aten.relu.default."""
    name: str = getattr(function, "__name__", "").split(".")[0].strip("_")
    if name == "hardtanh" and kwargs.get("min_val", args[1] if len(args) > 1 else -1) == 0:
        return "relu6"  # which is how torch computes it
    return name


def _positive(gradient: torch.Tensor | None) -> torch.Tensor | None:
    return gradient if gradient is None else gradient.clamp(min=0)  # None: of an operator without a derivative


def _line(x: torch.Tensor, slope: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A tensor of the values y whose derivative with respect to x is the slope."""
    return _valued(x * slope, y)


def _valued(line: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    # products keep their factors for the backward pass, not their result: it can be overwritten
    line = line.clone() if line._is_view() else line  # a view must not be written behind autograd's back
    line.detach().copy_(y.detach())
    return line


def _halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples and baselines.

    :raises InputError: see :func:`deeplift`.
    """
    if x.ndim == 0 or len(x) % 2:
        raise InputError(
            f"DeepLIFT met an activation of the shape {tuple(x.shape)}, whose first axis is not samples and as many baselines",
            "this network moves its batch axis, choose another method, as integrated gradients",
            joint=": ",
        )
    samples, baselines = x.detach().chunk(2)
    return samples, baselines


def _rescaled(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The Rescale rule of one activation."""
    import torch

    (z, z0), (f, f0) = _halves(x), y.detach().chunk(2)
    size = reduce(torch.maximum, (t.abs() for t in (z, z0, f, f0)))
    # half of the digits are left to the quotient at least; a ReLU's kink is never within
    equal = (z - z0).abs() <= torch.finfo(x.dtype).eps ** 0.5 * size
    slope = ((f - f0) / (z - z0)).repeat(2, *[1] * (x.ndim - 1))
    (derivative,) = torch.autograd.grad(y, x, torch.ones_like(y))
    return _line(x, torch.where(torch.cat([equal, equal]), derivative, slope), y)


def _pooled(
    name: str, function: Callable[..., Any], x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """Max pooling under DeepLIFT: y - y0 = m (x - x0)[winner] + m0 (x - x0)[former winner], where m belongs to the rise
    of the maximum and m0 to its fall, each between 0 and 1."""
    import torch

    _halves(x)
    output = function(x, *args, **kwargs)
    y, winners = output if isinstance(output, tuple) else _with_indices(name, x.detach(), args, kwargs)
    spatial = int(name[name.index("pool") + 4])
    cells, places, y = x.flatten(-spatial), winners.flatten(-spatial), y.detach()
    (f, f0), (winner, former) = y.flatten(-spatial).chunk(2), places.chunk(2)
    z, z0 = cells.detach().chunk(2)
    unmoved = (f == f0).to(f.dtype)
    m = _ratio((f - f0).clamp(min=0), f - z0.gather(-1, winner), unmoved)
    m0 = _ratio((f0 - f).clamp(min=0), f0 - z.gather(-1, former), 0 * unmoved)

    def part(slope: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return cells.gather(-1, torch.cat([cell, cell])) * torch.cat([slope, slope])

    line = _valued((part(m, winner) + part(m0, former)).reshape(y.shape), y)
    return (line, winners) if isinstance(output, tuple) else line


def _with_indices(
    name: str, x: torch.Tensor, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pooling again, with the place of each window's maximum."""
    import torch

    values, places = getattr(torch.nn.functional, name)(x, *args, **kwargs | {"return_indices": True})
    return values, places


def _ratio(part: torch.Tensor, whole: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
    """part / whole, or otherwise where whole is 0."""
    import torch

    return torch.where(whole == 0, otherwise, part / torch.where(whole == 0, 1, whole))
