"""How a network's output came about: the last operators, watched while they run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..nested import first_tensor, swapped, tensors

if TYPE_CHECKING:
    import torch
    from torch.overrides import TorchFunctionMode

ENDS = {
    **dict.fromkeys(("sigmoid", "expit", "special_expit"), "sigmoid"),
    **dict.fromkeys(("softmax", "special_softmax"), "softmax"),
    **dict.fromkeys(("log_softmax", "special_log_softmax"), "log_softmax"),
    "logsigmoid": "logsigmoid",
    "log_sigmoid": "logsigmoid",
}
"""Operators that make probabilities of logits, or their logarithms."""
MEANINGS = {
    "sigmoid": ("probabilities", "sigmoid"),
    "softmax": ("probabilities", "softmax"),
    "log_softmax": ("log_probabilities", "softmax"),
    "logsigmoid": ("log_probabilities", "sigmoid"),
}
"""A last operator: the card's ``output.kind`` and ``output.activation``."""
# fmt: off
COPIES = frozenset((
    "contiguous", "clone", "to", "float", "double", "half", "type", "type_as", "cpu", "cuda", "detach", "alias",
))
MOVES = COPIES | frozenset((
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "swapaxes", "swapdims",
    "movedim", "moveaxis", "view_as", "reshape_as", "getitem", "get", "narrow", "select", "slice", "index_select", "flip", "roll", "rot90", "expand",
    "expand_as", "cat", "concat", "concatenate", "stack", "chunk", "split", "unbind",
))
"""Operators that leave values as they are: what holds for a sigmoid's result holds for its input."""
LIKE = frozenset(("to", "type_as", "view_as", "reshape_as", "expand_as"))
"""Operators that take no values from their other tensor."""
DIVISIONS = ("div", "truediv", "true_divide")
DOUBTFUL = frozenset((
    *DIVISIONS, "rdiv", "rtruediv", "reciprocal", "exp", "tanh", "clamp", "clip", "clamp_min", "clamp_max", "hardsigmoid",
    "hardtanh", "softmin", "gumbel_softmax",
))
# fmt: on
"""Last operators that may have made probabilities: their values tell."""
MIXES = frozenset(("mul", "where", "cat", "concat", "concatenate", "stack", "maximum", "minimum", "max", "min"))
"""Operators by which probabilities may be masked, or joined with others."""
LINEAR = frozenset(("linear", "addmm", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))))
"""Operators whose result is anything: with learned weights they give logits, or a value."""
SUMS_UP = frozenset(
    (
        "mean",
        "sum",
        "sub",
        "interpolate",
        "upsample",
        *(f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)),
    )
)
"""Operators that leave such results what they are."""
SCALES = frozenset(("mul", "add", "rsub"))
"""By a number; behind a doubtful one they leave the doubt."""
JOINS = MIXES | SCALES | {"ListConstruct", "mean", "sum", "sub", "masked_fill", "clamp", "lerp", "addcmul", *DIVISIONS}
"""Operators in TorchScript that may have made probabilities of others."""
BY_VALUE, MIXED, LEARNED = "by its values", "by its values, maybe", "learned"


@dataclass(frozen=True)
class End:
    """How a tensor came about.

    :ivar name: the operator: one of MEANINGS, :data:`BY_VALUE` for what was made of nothing but probabilities and constants,
        :data:`MIXED` where other things of the network came in, :data:`LEARNED` of a linear layer's sums, or its own.
    :ivar received: what that sigmoid or softmax got, moved as its result was; None where it was not kept.
    :ivar sure: whether the name alone tells: a softmax must run over the classes.
    """

    name: str
    received: torch.Tensor | None = None
    sure: bool = True


def end_of(tensor: torch.Tensor) -> End | None:
    """What was noted on a tensor; None for one that no operator made while it was watched."""
    end: End | None = getattr(tensor, "_end", None)
    return end


def needs_of(tensor: torch.Tensor) -> int:
    """A bit for each operator that a tensor depends on, as far as they were watched."""
    needs: int = getattr(tensor, "_needs", 0)
    return needs


def _note(tensor: torch.Tensor, end: End, needs: int | None = None) -> None:
    vars(tensor)["_end"] = end
    if needs is not None:
        vars(tensor)["_needs"] = needs


def watching(keep: int | None = None) -> TorchFunctionMode:
    """A torch function mode that notes on every tensor how it came about: see :func:`end_of` and :func:`needs_of`.

    :param keep: what a sigmoid or softmax received is kept where it has so many numbers; None: always. (Attention is full
        of softmaxes, whose large inputs would stay in memory with their results.)
    """
    from torch.overrides import TorchFunctionMode

    watcher = _Watcher(keep)

    class Watch(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            return watcher.run(function, args, kwargs or {})

    return Watch()


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One call of an operator.

    :ivar name: without underscores and overload.
    :ivar received: what a sigmoid or softmax got; None where it is not kept.
    :ivar ends: of the tensors that it took values from, None for constants.
    :ivar learned: whether parameters are among these.
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    received: torch.Tensor | None
    ends: list[End | None]
    learned: bool


class _Watcher:
    """:ivar steps: operators so far."""

    def __init__(self, keep: int | None) -> None:
        self.keep, self.steps = keep, 0

    def run(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import torch

        written = getattr(function, "__name__", "")
        # exported programs call torch.ops.aten.softmax.int
        name, in_place = written.strip("_").split(".")[0], written.endswith("_")
        if name == "get" and not isinstance(output := function(*args, **kwargs), torch.Tensor):
            return output  # an attribute: most of what is asked is a shape or a kind
        sources = [t for t in tensors([args, kwargs]) if t.is_floating_point()]
        sources = sources[:1] if name in LIKE else sources
        step = _Step(
            name=name,
            function=function,
            args=args,
            kwargs=kwargs,
            received=self._received(name, sources, in_place),
            ends=[end_of(t) for t in sources],
            learned=any(isinstance(t, torch.nn.Parameter) for t in sources),
        )
        output = function(*args, **kwargs)
        results = [t for t in tensors([output]) if t.is_floating_point()]
        if name == "setitem" and sources:
            _written_to(args[0])
        if not results or not sources or name.startswith(("new_", "empty")) or name.endswith("_like"):
            return output  # nothing, or of no other's values
        self.steps += 1
        needs = 1 << self.steps
        for source in sources:
            needs |= needs_of(source)
        ends = _ends_of(step, results)
        if in_place and name not in COPIES:
            _written_to(results[0]._base)
        for result, end in zip(results, ends, strict=True):
            _note(result, end, needs)
        return output

    def _received(self, name: str, sources: Sequence[torch.Tensor], in_place: bool) -> torch.Tensor | None:
        if name not in ENDS or not sources or self.keep not in (None, sources[0].numel()):
            return None
        return sources[0].clone() if in_place else sources[0]


def _ends_of(step: _Step, results: Sequence[torch.Tensor]) -> list[End]:
    """Of each result of an operator."""
    name, ends = step.name, step.ends
    if name in ENDS:
        sure = not name.endswith("softmax") or _axis(step.args, step.kwargs) % results[0].ndim == 1
        return [End(ENDS[name], step.received, sure)] * len(results)
    if name in DIVISIONS and not any(True for _ in tensors(step.args[1:])):
        name = "mul"  # by a number
    made = [end for end in ends if end is not None and (end.name in MEANINGS or end.name == BY_VALUE)]
    if made and len(made) < len(ends) and not step.learned:
        constants = ends.count(None) + len(made) == len(ends)
        if constants or name in MIXES:
            return [End(BY_VALUE if constants else MIXED, None, False)] * len(results)
    through = {end.name for end in ends if end is not None} == {LEARNED} and name in MOVES | SCALES | SUMS_UP
    if through or (step.learned and name in LINEAR):
        return [End(LEARNED)] * len(results)
    if len(made) < len(ends):
        (alone, *others) = ends
        doubtful = not others and alone is not None and alone.name in DOUBTFUL | {MIXED}
        return [alone if alone and doubtful and name in MOVES | SCALES else End(name)] * len(results)
    if name not in MOVES or len({end.name for end in made}) > 1 or made[0].name == BY_VALUE:
        return [End(BY_VALUE, None, False)] * len(results)
    return _moved(step, made, len(results))


def _moved(step: _Step, ends: Sequence[End], count: int) -> list[End]:
    """Of a move of what sigmoids, or softmaxes, gave: of what they received, moved as their results are."""
    sure = all(end.sure for end in ends) and (step.name in COPIES or not ends[0].name.endswith("softmax"))
    received: list[torch.Tensor | None] = [None] * count
    if all(end.received is not None for end in ends):
        with suppress(Exception):  # a move that does not fit what was received: its values are enough
            args, kwargs = swapped((step.args, step.kwargs), _before)
            received = [*tensors([step.function(*args, **kwargs)]), *received][:count]
    return [End(ends[0].name, z, sure) for z in received]


def _before(tensor: torch.Tensor) -> torch.Tensor | None:
    """What the tensor's sigmoid or softmax received; the tensor itself where there was none."""
    end = end_of(tensor)
    return tensor if end is None else end.received


def _written_to(tensor: torch.Tensor | None) -> None:
    """A part of it was: of what it was, its values tell."""
    end = None if tensor is None else end_of(tensor)
    if tensor is not None and end is not None and (end.name in MEANINGS or end.name == BY_VALUE):
        _note(tensor, End(BY_VALUE, None, False))


def _axis(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Of a softmax; its own rule where none is given."""
    axis = args[1] if len(args) > 1 else kwargs.get("dim")
    if isinstance(axis, int):
        return axis
    first = first_tensor([args, kwargs])
    return 0 if first is not None and first.ndim in (0, 1, 3) else 1
