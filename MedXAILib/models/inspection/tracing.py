"""A pass through a network that carries along where each tensor's elements lie in the input (:mod:`.places`).

It sees every operator that torch runs, below modules, functions, TorchScript and exported programs alike. On a copy of the
network whose activations are on torch's meta device (no voxel is computed; what the network makes for itself, such as
tables and indices, is real) it finds shapes and places for all inputs of one shape. Where the network looks at values
(``item()``, a crop around the brightest place), the pass is one of the network itself on the real input.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from ..running.guest import guest, moved_by_hooks, passing, seed_of, users_hooks
from . import shapes
from .places import RULES, Call, Place, Unseen, nowhere, origin, pointwise, same, tensors, thin, unknown, written_over

if TYPE_CHECKING:
    import torch


Example = Union["torch.Tensor", Callable[[], "torch.Tensor"], None]
"""An input, or a function that gives one."""


def first_tensor(value):
    """The tensor of a module's output: itself, or the first one in a tuple, list or dict."""
    return next(tensors([value]), None)


class Made(NamedTuple):
    """How a tensor came about.

    :ivar step: number of the operator that made it.
    :ivar needs: a bit for each operator that it depends on, its own among them.
    """

    step: int = 0
    needs: int = 1


class View(NamedTuple):
    """A tensor that is part of another: ``function`` of ``base`` gave it as its result ``number``."""

    base: torch.Tensor
    call: Callable[[torch.Tensor], Any]
    number: int


LOOKS = frozenset((
    "_local_scalar_dense", "item", "nonzero", "nonzero_static", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "equal", "is_nonzero", "bincount", "argwhere",
))  # fmt: skip
"""Operators through which a network looks at values, or whose result's shape depends on them."""
BY_VALUE = frozenset(("topk", "sort"))
INDEX_ARGUMENTS = ("indices", "index", "mask", "grid", "repeats")


def tracer(shape: Sequence[int], dry: bool, device: torch.device):
    """A torch dispatch mode that gives every tensor computed from the input its ``_place`` and ``_made``.

    :param shape: (batch, channel, *spatial) of the input.
    :param dry: the input is on the meta device; then what is not computed from it is made on ``device``.

    Its ``attentions`` counts the products of attention so far; ``data`` says whether the network looked at values, or drew
    random numbers (``random``, known at the end);
    ``batch`` names the axes of the input that the first convolution takes for its batch, where it is one of slices (a filter
    of fixed numbers before the first learned one does not count).
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Tracer(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # or torch's compiler would be imported, which takes seconds

        def __init__(self):
            super().__init__()
            self.voxels = tuple(shape[1:])
            self.grids: dict[tuple[int, ...], Place] = {}
            self.attentions = self.steps = 0
            self.data = self.random = False
            self.batch: tuple[int, ...] | None = None
            self.learned = False

        def start(self, x: torch.Tensor) -> torch.Tensor:
            x._place, x._made = origin((1, *self.voxels)), Made()
            return x

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if _composite(function):  # under inference mode, torch does not take them apart by itself
                with self:
                    parts = function.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
            given = list(tensors([args, kwargs]))
            derived = any(hasattr(t, "_place") for t in given)
            name = function.overloadpacket.__name__
            made = name.endswith("_like") or name.startswith("new_")  # of a tensor's shape, not of its values
            if not derived or made:
                output = function(*args, **(_elsewhere(kwargs, device, made) if dry else kwargs))
            else:
                self.watch(name, function, args, kwargs)
                output = self.run(function, args, kwargs)
                self.note(name, function, args, kwargs, output)
            _remember_view(function, args, kwargs, output)
            return output

        def watch(self, name: str, function, args, kwargs) -> None:
            """Whether the network looks at values here."""
            if name in LOOKS and dry:
                raise Unseen
            named = _named(function, args, kwargs)
            index = [t for a in INDEX_ARGUMENTS if a in named for t in tensors([named[a]])]
            self.data |= name in LOOKS or name in BY_VALUE or any(hasattr(t, "_place") for t in index)

        def run(self, function, args, kwargs):
            """The operator's result; of shapes alone on the meta device."""
            if not dry:
                return function(*args, **kwargs)
            changed = _written(function, args, kwargs)
            if changed:
                if any(isinstance(t, torch.nn.Parameter) for t in changed):
                    raise Unseen
                return changed[0] if len(changed) == 1 else tuple(changed)
            args, kwargs = _swapped((args, kwargs), _meta)
            output = shapes.result_of(function.overloadpacket.__name__, _named(function, args, kwargs))
            return function(*args, **kwargs) if output is None else output

        def note(self, name: str, function, args, kwargs, output) -> None:
            """Place and history of an operator's results."""
            results = list(tensors([output]))
            if not results:
                return
            self.steps += 1
            history = [t._made.needs for t in tensors([args, kwargs]) if hasattr(t, "_made")]
            made = Made(self.steps, (1 << self.steps) | _either(history))
            call = self.call(name, function, args, kwargs, results)
            for result, place in zip(results, self.places(call, function), strict=True):
                self.put(result, place)
                result._made = made

        def call(self, name: str, function, args, kwargs, results) -> Call:
            sizes = [tuple(t.shape) for t in results]
            given = _named(function, args, kwargs) | {"results": results}
            pure = _pure(function)

            def again(other: dict):
                def swap(t):
                    if id(t) in other:
                        return other[id(t)]
                    if t.is_meta:
                        raise Unseen
                    return t.detach().cpu()

                a, k = _swapped((args, kwargs), swap)
                return pure(*a, **k)

            return Call(name, given, again, sizes, self.voxels, self.steps)

        def places(self, call: Call, function) -> list[Place]:
            rule = RULES.get(call.name) or RULES.get(call.name.rstrip("_"))
            if torch.Tag.pointwise in function.tags and call.name not in RULES:
                rule = rule or pointwise
            if rule is RULES["convolution"] and call.placed and not self.learned:
                self.learned = isinstance(call.given["weight"], torch.nn.Parameter)
                lines, flat = call.placed[0]._place.grid, call.given["weight"].ndim == 4
                if self.batch is None or self.learned:
                    self.batch = tuple(axis for axis, line in enumerate(lines, 1) if flat and line.shape[0] > 1)
            products = len([t for t in call.placed if not t._place.nowhere]) > 1 and rule is RULES["mm"]
            self.attentions += products or rule is RULES["scaled_dot_product_attention"]
            found = None
            if rule is not None:
                try:
                    found = rule(call)
                except (NotImplementedError, RuntimeError, ValueError, KeyError, TypeError, IndexError):
                    found = None  # called in a form that its rule does not know
            if found is None or any(p.at[0].ndim != len(s) for p, s in zip(found, call.sizes, strict=True)):
                found = unknown(call, self.grids)
            for place, sizes in zip(found, call.sizes, strict=True):
                if len(sizes) == len(shape) and not place.nowhere:
                    self.grids[sizes[2:]] = place
            return found

        def put(self, tensor: torch.Tensor, place: Place) -> None:
            """The place of a tensor; where it is part of another one, of that as well."""
            before = getattr(tensor, "_place", None)
            tensor._place = place
            view = getattr(tensor, "_view", None)
            if view is None or before is place:
                return
            base = view.base
            old = getattr(base, "_place", None) or nowhere(base.ndim, len(self.voxels))

            def write(whole, part):
                whole = whole.expand(base.shape).clone()
                next(itertools.islice(tensors([view.call(whole)]), view.number, None)).copy_(part.expand(tensor.shape))
                return thin(whole)

            if all(same(a, b) for a, b in zip(old.at, place.at, strict=True)):
                return
            at = tuple(write(a, b) for a, b in zip(old.at, place.at, strict=True))
            self.put(base, written_over(old, place, at))
            base._made = Made(self.steps, (1 << self.steps) | _either([getattr(base, "_made", Made()).needs]))

    return Tracer()


def _either(bits: Sequence[int]) -> int:
    result = 0
    for some in bits:
        result |= some
    return result


@cache
def _composite(function) -> bool:
    import torch

    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), key) and not function.is_view


@cache
def _arguments(function) -> tuple[tuple[str, Any, bool], ...]:
    """(name, default, whether it is written to) of an operator's arguments."""
    rows = []
    for a in function._schema.arguments:
        written = a.alias_info is not None and a.alias_info.is_write
        rows.append((a.name, a.default_value if a.has_default_value() else None, written))
    return tuple(rows)


def _named(function, args, kwargs) -> dict[str, Any]:
    """All arguments by name, defaults filled in."""
    rows = _arguments(function)
    return {name: args[n] if n < len(args) else kwargs.get(name, default) for n, (name, default, _) in enumerate(rows)}


def _written(function, args, kwargs) -> list:
    """The tensors that an operator changes in place."""
    if not function._schema.is_mutable:
        return []
    named = _named(function, args, kwargs)
    return [named[name] for name, _, written in _arguments(function) if written and named[name] is not None]


@cache
def _pure(function):
    """The operator that gives a new tensor where this one writes to its argument."""
    import torch

    name = function.overloadpacket.__name__
    if not function._schema.is_mutable:
        return function
    packet = getattr(torch.ops.aten, name.rstrip("_"), None)
    return getattr(packet, function._overloadname, None) or function


def _swapped(values, swap: Callable):
    """Nested arguments, every tensor replaced."""
    import torch

    if isinstance(values, torch.Tensor):
        return swap(values)
    if isinstance(values, list | tuple):
        return type(values)(_swapped(v, swap) for v in values)
    if isinstance(values, dict):
        return {k: _swapped(v, swap) for k, v in values.items()}
    return values


def _meta(t: torch.Tensor) -> torch.Tensor:
    return t if t.is_meta else t.detach().to("meta")


def _elsewhere(kwargs: dict, device, like: bool) -> dict:
    """What the network makes for itself beside an input on the meta device is real: it may keep it.

    :param like: it is made like a tensor, where that is.
    """
    import torch

    wanted = kwargs.get("device")
    if like and wanted is None:
        return kwargs | {"device": device}
    return kwargs | {"device": device} if wanted is not None and torch.device(wanted).type == "meta" else kwargs


def _remember_view(function, args, kwargs, output) -> None:
    """So that what is written to a part is known of the whole."""
    import torch

    base = args[0] if args else None
    if not function.is_view or not isinstance(base, torch.Tensor):
        return
    for number, part in enumerate(tensors([output])):
        if part is not base:
            part._view = View(base, lambda t: function(t, *args[1:], **kwargs), number)


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


def trace(network: torch.nn.Module, shape: Sequence[int], watch: Callable, x: Example = None):
    """One traced pass; ``watch(tracer, network)`` may register hooks on the network and gives the function that ends it.

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
        network = network if any(users_hooks(network.modules())) else _copied(network)
    if x is None:
        x = _example(network, shape)
    return _traced(network, shape, watch, x() if callable(x) else x, seed)


def _example(network: torch.nn.Module, shape: Sequence[int]) -> torch.Tensor:
    import torch

    values = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(0))
    like = _like(network)
    return values.to(like[0], like[1])


def _like(network: torch.nn.Module) -> tuple:
    """(device, type) of the network's numbers."""
    import torch

    state = [*network.parameters(), *network.buffers()]
    kind = next((t.dtype for t in state if t.is_floating_point()), torch.float32)
    return next((t.device for t in state), torch.device("cpu")), kind


def _traced(network: torch.nn.Module, shape: Sequence[int], watch: Callable, x: torch.Tensor | None, seed: int):
    import torch

    device, kind = _like(network)
    mode = tracer(shape, x is None, device)
    x = torch.empty(tuple(shape), dtype=kind, device="meta") if x is None else x.detach().clone()
    done = watch(mode, network)
    try:
        autocast = torch.autocast(device.type, enabled=False)
        with guest(network), passing(network, seed) as draws, torch.no_grad(), autocast, mode:
            output = network(mode.start(x))
    finally:
        done()
    mode.random = draws.random
    mode.data |= draws.random
    return output, mode
