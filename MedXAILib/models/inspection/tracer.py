"""Follows a pass operator by operator: every tensor computed from the input gets its place and its history."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..nested import swapped, tensors
from .call import Call, Unseen
from .coordinates import same, thin
from .memory import Ledger
from .notes import Made, View, made_of, note, place_of, view_of
from .operators.mixing import pointwise
from .operators.table import RULES, unknown
from .places import Place, nowhere, origin, written_over
from .schema import composite, named, pure, written
from .shapes import result_of

if TYPE_CHECKING:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from .operators.table import Rule

LOOKS = frozenset((
    "_local_scalar_dense", "item", "nonzero", "nonzero_static", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "equal", "is_nonzero", "bincount", "argwhere",
))  # fmt: skip
"""Operators through which a network looks at values, or whose result's shape depends on them."""
BY_VALUE = frozenset(("topk", "sort"))
INDEX_ARGUMENTS = ("indices", "index", "mask", "grid", "repeats")


class Tracer:
    """One traced pass.

    :param shape: (batch, channel, *spatial) of the input.
    :param dry: the input is on the meta device; then what is not computed from it is made on ``device``.
    :ivar attentions: products of attention so far.
    :ivar ledger: what it makes and lets go.
    :ivar data: whether the network looked at values, or drew random numbers (``random``, known at the end).
    :ivar batch: the axes of the input that the first convolution takes for its batch, where it is one of slices (a filter
        of fixed numbers before the first learned one does not count).
    """

    def __init__(self, shape: Sequence[int], dry: bool, device: torch.device) -> None:
        self.voxels, self.dry, self.device = tuple(shape[1:]), dry, device
        self.grids: dict[tuple[int, ...], Place] = {}
        self.ledger = Ledger()
        self.attentions = self.steps = 0
        self.data = self.random = False
        self.batch: tuple[int, ...] | None = None
        self.learned = False

    def start(self, x: torch.Tensor) -> torch.Tensor:
        """The input, noted as such."""
        note(x, place=origin((1, *self.voxels)), made=Made())
        return x

    def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operator's result, with the notes that belong on it."""
        derived = any(place_of(t) is not None for t in tensors([args, kwargs]))
        name = function.overloadpacket.__name__
        made = name.endswith("_like") or name.startswith("new_")  # of a tensor's shape, not of its values
        if not derived or made:
            output = function(*args, **(_elsewhere(kwargs, self.device, made) if self.dry else kwargs))
        else:
            self._watch(name, function, args, kwargs)
            output = self._carry_out(function, args, kwargs)
            self._note(name, function, args, kwargs, output)
        _remember_view(function, args, kwargs, output)
        return output

    def _watch(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Whether the network looks at values here."""
        if name in LOOKS and self.dry:
            raise Unseen
        given = named(function, args, kwargs)
        index = [t for a in INDEX_ARGUMENTS if a in given for t in tensors([given[a]])]
        self.data |= name in LOOKS or name in BY_VALUE or any(place_of(t) is not None for t in index)

    def _carry_out(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operator's result; of shapes alone on the meta device."""
        import torch

        if not self.dry:
            return function(*args, **kwargs)
        changed = written(function, args, kwargs)
        if changed:
            if any(isinstance(t, torch.nn.Parameter) for t in changed):
                raise Unseen
            return changed[0] if len(changed) == 1 else tuple(changed)
        args, kwargs = swapped((args, kwargs), _meta)
        output = result_of(function.overloadpacket.__name__, named(function, args, kwargs))
        return function(*args, **kwargs) if output is None else output

    def _note(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Place and history of an operator's results."""
        results = list(tensors([output]))
        if not results:
            return
        self.steps += 1
        history = [past.needs for t in tensors([args, kwargs]) if (past := made_of(t)) is not None]
        made = Made(self.steps, (1 << self.steps) | _either(history))
        call = Call(
            name=name,
            given=named(function, args, kwargs) | {"results": results},
            again=_repeated(function, args, kwargs),
            sizes=[tuple(t.shape) for t in results],
            voxels=self.voxels,
            step=self.steps,
        )
        for result, place in zip(results, self._places(call, function), strict=True):
            self._put(result, place)
            note(result, made=made)
        if not function.is_view and not written(function, args, kwargs):
            for result in results:
                self.ledger.enter(result, made.step, made.needs, tensors([args, kwargs]))

    def _places(self, call: Call, function: Any) -> list[Place]:
        """Where the results lie: by the operator's rule, else a guess."""
        rule = _rule_of(call, function)
        if rule is RULES["convolution"] and call.placed and not self.learned:
            self._see_batch(call)
        products = len([place for _, place in call.placed if not place.nowhere]) > 1 and rule is RULES["mm"]
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
            if len(sizes) == len(self.voxels) + 1 and not place.nowhere:
                self.grids[sizes[2:]] = place
        return found

    def _see_batch(self, call: Call) -> None:
        """Which axes of the input a convolution takes for its batch."""
        import torch

        weight = call.given["weight"]
        self.learned = isinstance(weight, torch.nn.Parameter)
        lines, flat = call.first.grid, weight.ndim == 4
        if self.batch is None or self.learned:
            self.batch = tuple(axis for axis, line in enumerate(lines, 1) if flat and line.shape[0] > 1)

    def _put(self, tensor: torch.Tensor, place: Place) -> None:
        """The place of a tensor; where it is part of another one, of that as well."""
        before, view = place_of(tensor), view_of(tensor)
        note(tensor, place=place)
        if view is None or before is place:
            return
        base, part = view.base, view
        old = place_of(base) or nowhere(base.ndim, len(self.voxels))

        def write(whole: torch.Tensor, line: torch.Tensor) -> torch.Tensor:
            whole = whole.expand(base.shape).clone()
            next(itertools.islice(tensors([part.call(whole)]), part.number, None)).copy_(line.expand(tensor.shape))
            return thin(whole)

        if all(same(a, b) for a, b in zip(old.at, place.at, strict=True)):
            return
        at = tuple(write(a, b) for a, b in zip(old.at, place.at, strict=True))
        self._put(base, written_over(old, place, at))
        note(base, made=Made(self.steps, (1 << self.steps) | (made_of(base) or Made()).needs))


def dispatching(tracer: Tracer) -> TorchDispatchMode:
    """The torch mode in which a tracer sees every operator."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Dispatching(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # or torch's compiler would be imported, which takes seconds

        def __torch_dispatch__(
            self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if composite(function):  # under inference mode, torch does not take them apart by itself
                with self:
                    parts = function.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
            return tracer.run(function, args, kwargs)

    return Dispatching()  # type: ignore[no-untyped-call]  # the annotations of torch's own class are incomplete


def _rule_of(call: Call, function: Any) -> Rule | None:
    import torch

    rule = RULES.get(call.name) or RULES.get(call.name.rstrip("_"))
    if torch.Tag.pointwise in function.tags and call.name not in RULES:
        rule = rule or pointwise
    return rule


def _repeated(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[dict[int, Any]], Any]:
    """The operator once more, without writing to anything, with other tensors in place of some."""
    twin = pure(function)

    def again(other: dict[int, Any]) -> Any:
        def swap(t: torch.Tensor) -> Any:
            if id(t) in other:
                return other[id(t)]
            if t.is_meta:
                raise Unseen
            return t.detach().cpu()

        a, k = swapped((args, kwargs), swap)
        return twin(*a, **k)

    return again


def _either(bits: Iterable[int]) -> int:
    result = 0
    for some in bits:
        result |= some
    return result


def _meta(t: torch.Tensor) -> torch.Tensor:
    return t if t.is_meta else t.detach().to("meta")


def _elsewhere(kwargs: dict[str, Any], device: torch.device, like: bool) -> dict[str, Any]:
    """What the network makes for itself beside an input on the meta device is real: it may keep it.

    :param like: it is made like a tensor, where that is.
    """
    import torch

    wanted = kwargs.get("device")
    if like and wanted is None:
        return kwargs | {"device": device}
    return kwargs | {"device": device} if wanted is not None and torch.device(wanted).type == "meta" else kwargs


def _remember_view(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
    """So that what is written to a part is known of the whole."""
    import torch

    base = args[0] if args else None
    if not function.is_view or not isinstance(base, torch.Tensor):
        return
    for number, part in enumerate(tensors([output])):
        if part is not base:
            note(part, view=View(base, lambda t: function(t, *args[1:], **kwargs), number))
