"""What a network's output means, and the one tensor of it that is explained and scored.

Scores are logits. Where a network ends in a sigmoid or softmax they are the tensor that this last operator received, which
is seen while it runs: an operator whose result becomes the output by nothing but reshaping, slicing or copying. Where
there is none such (an average of several softmaxes; TorchScript, whose operators cannot be watched), values tell: what sums
to 1 is a softmax whatever made it; scores are log p, or logit p, of the probabilities then. So everything behind this file
sees a network that gives one tensor of logits.

Of several tensors, one called ``logits`` or the like is taken unless another is asked for, else the one that depends on
most of the network's operators, or the finest of its kind: the logits rather than the features that they are made of, the
last of the heads of deep supervision.
"""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ...errors import InputError
from ..card import ModelCard
from ..inspection.places import tensors
from ..inspection.tracing import first_tensor
from .guest import innermost, passing, seed_of, state_of

if TYPE_CHECKING:
    import torch

    from ..loading import Model

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
IN_DOUBT = (
    "All values of the network's output lie in 0 to 1 and are taken as logits: if they are probabilities, its figures and "
    "maps are wrong."
)
MADE_OF = (
    "The network's output is made of probabilities by further operators, which leave none, and is taken as logits: its p "
    "means nothing."
)
OTHERS = 2
"""Further inputs whose values must say the same."""
NAMED = ("logits", "scores", "out", "output", "pred", "prediction", "predictions", "probs", "probabilities")
"""How the tensor of the scores is called among others, by custom; the first of these that there is."""


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


@dataclass(frozen=True)
class Part:
    """One tensor of a network's output.

    :ivar path: where it stands, as the card's ``output.which`` has it.
    :ivar shape: batch included.
    :ivar depth: number of operators that it depends on; 0 where they cannot be seen.
    :ivar end: name of the last operator, "" where it cannot be seen; ``sure`` as in :class:`End`.
    """

    path: str
    shape: tuple[int, ...]
    floating: bool
    depth: int = 0
    end: str = ""
    sure: bool = False

    def __str__(self) -> str:
        return f"{self.path!r} ({' x '.join(map(str, self.shape))})"


# -- which tensor ------------------------------------------------------------------------------------------------------


def leaves(output, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """(path, tensor) of everything in nested tuples, lists, dicts and dataclasses."""
    import torch

    if isinstance(output, torch.Tensor):
        yield path, output
        return
    for name, value in _items(output):
        yield from leaves(value, f"{path}.{name}" if path else str(name))


def _items(output) -> list[tuple]:
    if isinstance(output, Mapping):
        return list(output.items())
    if hasattr(output, "_fields"):
        return list(zip(output._fields, output, strict=True))
    if isinstance(output, list | tuple):
        return list(enumerate(output))
    if dataclasses.is_dataclass(output):
        return [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    return []


def pick(output, which: int | str | None) -> torch.Tensor:
    """The tensor that a card's ``output.which`` means; without one the first.

    :raises InputError: listing what there is.
    """
    found = dict(leaves(output))
    if which is None:
        return next(iter(found.values()))
    return found[find(list(found), which)]


def find(paths: Sequence[str], which: int | str) -> str:
    """The path among ``paths`` that is meant: itself, or with places, from the end where negative, for names.

    :raises InputError: listing what there is.
    """
    if str(which) in paths:
        return str(which)
    path = ""
    for step in str(which).split("."):
        before = f"{path}." if path else ""
        names = list(dict.fromkeys(p.removeprefix(before).split(".")[0] for p in paths if p.startswith(before) and p))
        if step not in names and step.lstrip("-").isdigit() and -len(names) <= int(step) < len(names):
            step = names[int(step)]
        path = before + step
    if path not in paths:
        known = ", ".join(paths) or "a single tensor, for which none is to be named"
        raise InputError(
            f"The network has no output {which!r}: it gives {known}; correct output.which of the card, or output= of a network without one."
        )
    return path


def named(parts: Sequence[Part], which: int | str | None) -> Part | None:
    """The part that ``which`` means, as in :func:`pick`; None where it says nothing.

    :raises InputError: listing what there is.
    """
    if which is None:
        return None
    paths = [part.path for part in parts if part.path]
    return parts[paths.index(find(paths, which))]


def choose(parts: Sequence[Part], dimensions: int) -> Part:
    """The tensor that is explained where nobody says which: see the head of this file.

    :param dimensions: spatial axes of the input.
    :raises InputError: where there is none.
    """
    if not parts:
        raise InputError(
            "The network's output holds no tensor: let forward() return its logits, alone, in a tuple or in a dict."
        )
    fit = [p for p in parts if p.floating and len(p.shape) in (2, dimensions + 2)]
    for name in NAMED:
        called = [p for p in fit or parts if p.path.split(".")[-1].lower() == name]
        if len(called) == 1:
            return called[0]
    deepest = max(reversed(fit or parts), key=lambda p: p.depth)
    alike = [p for p in fit if (len(p.shape), p.shape[1]) == (len(deepest.shape), deepest.shape[1])]
    return max(reversed(alike or [deepest]), key=lambda p: (math.prod(p.shape), p.depth))


# -- how it came about -------------------------------------------------------------------------------------------------


def watching(keep: int | None = None):
    """A torch function mode that notes on every tensor, as ``_end`` and ``_needs``, how it came about.

    :param keep: what a sigmoid or softmax received is kept where it has so many numbers; None: always. (Attention is full
        of softmaxes, whose large inputs would stay in memory with their results.)
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Watch(TorchFunctionMode):
        steps = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            # exported programs call torch.ops.aten.softmax.int
            name = getattr(function, "__name__", "").strip("_").split(".")[0]
            if name == "get" and not isinstance(output := function(*args, **kwargs), torch.Tensor):
                return output  # an attribute: most of what is asked is a shape or a kind
            sources = [t for t in tensors([args, kwargs]) if t.is_floating_point()]
            sources = sources[:1] if name in LIKE else sources
            received = None
            if name in ENDS and sources and keep in (None, sources[0].numel()):
                changed = getattr(function, "__name__", "").endswith("_")
                received = sources[0].clone() if changed else sources[0]
            ends = [getattr(t, "_end", None) for t in sources]
            output = function(*args, **kwargs)
            results = [t for t in tensors([output]) if t.is_floating_point()]
            if name == "setitem" and sources:
                _written_to(args[0])
            if not results or not sources or name.startswith(("new_", "empty")) or name.endswith("_like"):
                return output  # nothing, or of no other's values
            self.steps += 1
            needs = 1 << self.steps
            for source in sources:
                needs |= getattr(source, "_needs", 0)
            learned = any(isinstance(t, torch.nn.Parameter) for t in sources)
            made = self.ends(name, function, args, kwargs, received, ends, results, learned)
            if getattr(function, "__name__", "").endswith("_") and name not in COPIES:
                _written_to(results[0]._base)
            for result, end in zip(results, made, strict=True):
                result._end, result._needs = end, needs
            return output

        def ends(self, name, function, args, kwargs, received, ends, results, learned) -> list[End]:
            if name in ENDS:
                sure = not name.endswith("softmax") or _axis(args, kwargs) % results[0].ndim == 1
                return [End(ENDS[name], received, sure)] * len(results)
            if name in DIVISIONS and not any(True for _ in tensors(args[1:])):
                name = "mul"  # by a number
            made = [end is not None and (end.name in MEANINGS or end.name == BY_VALUE) for end in ends]
            if any(made) and not all(made) and not learned:
                constants = all(end is None for end, one in zip(ends, made, strict=True) if not one)
                if constants or name in MIXES:
                    return [End(BY_VALUE if constants else MIXED, None, False)] * len(results)
            known = [end.name for end in ends if end is not None]
            through = set(known) == {LEARNED} and name in MOVES | SCALES | SUMS_UP
            if through or (learned and name in LINEAR):
                return [End(LEARNED)] * len(results)
            if not all(made):
                alone = len(ends) == 1 and ends[0] is not None and ends[0].name in DOUBTFUL | {MIXED}
                return [ends[0] if alone and name in MOVES | SCALES else End(name)] * len(results)
            if name not in MOVES or len({end.name for end in ends}) > 1 or ends[0].name == BY_VALUE:
                return [End(BY_VALUE, None, False)] * len(results)
            sure = all(end.sure for end in ends) and (name in COPIES or not ends[0].name.endswith("softmax"))
            moved = [None] * len(results)
            if all(end.received is not None for end in ends):
                with suppress(Exception):  # a move that does not fit what was received: its values are enough
                    moved = [*tensors([function(*_swapped(args), **_swapped(kwargs))]), *moved][: len(results)]
            return [End(ends[0].name, z, sure) for z in moved]

    return Watch()


def _written_to(tensor) -> None:
    """A part of it was: of what it was, its values tell."""
    end = getattr(tensor, "_end", None)
    if end is not None and (end.name in MEANINGS or end.name == BY_VALUE):
        tensor._end = End(BY_VALUE, None, False)


def _axis(args, kwargs) -> int:
    """Of a softmax; its own rule where none is given."""
    axis = args[1] if len(args) > 1 else kwargs.get("dim")
    return axis if isinstance(axis, int) else 0 if first_tensor([args, kwargs]).ndim in (0, 1, 3) else 1


def _swapped(value):
    """Arguments in which each tensor is what its sigmoid or softmax received."""
    if hasattr(value, "_end"):
        return value._end.received
    if isinstance(value, list | tuple):
        return type(value)(_swapped(v) for v in value)
    return {k: _swapped(v) for k, v in value.items()} if isinstance(value, dict) else value


def plainly(network: torch.nn.Module, x: torch.Tensor):
    """The network's output as it is, without a graph, for an input of any type and place; as its guest."""
    import torch

    with torch.no_grad(), passing(network, seed_of(network)):
        return network(x.clone().to(next(network.parameters(), x)))


@contextmanager
def outputs_of(network: torch.nn.Module) -> Iterator[list]:
    """A list that gets the network's outputs as they are."""
    seen: list = []
    handle = network.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


def parts_of(network: torch.nn.Module, output) -> list[Part]:
    """The tensors of an output that came about under :func:`watching`; of TorchScript by its graph."""

    found = []
    for path, tensor in leaves(output):
        end, needs = getattr(tensor, "_end", None), getattr(tensor, "_needs", 0)
        known = (needs.bit_count(), end.name, end.sure) if end else ()
        found.append(Part(path, tuple(tensor.shape), tensor.is_floating_point(), *known))
    program = script(network)
    known = script_parts(program) if program is not None else []
    if len(known) != len(found) or any(part.end for part in found):
        return found
    return [dataclasses.replace(k, shape=p.shape, floating=p.floating) for p, k in zip(found, known, strict=True)]


def script(network: torch.nn.Module) -> torch.jit.ScriptModule | None:
    """The TorchScript that a network is, or that is all there is in it."""
    import torch

    found = next(network.children(), None) if len(list(network.children())) == 1 else None
    return next((m for m in (network, found) if isinstance(m, torch.jit.ScriptModule)), None)


def script_parts(network: torch.jit.ScriptModule) -> list[Part]:
    """The tensors of a TorchScript network's output by its graph, which knows no shapes."""
    graph = network.inlined_graph  # its values go with it
    found = []
    for value in graph.outputs():
        for path, tensor in _unpacked(value):
            end = _script_end(tensor)
            found.append(Part(path, (), True, _count(tensor), end, end in ("sigmoid", "logsigmoid")))
    return found


def _unpacked(value, path: str = "") -> Iterator[tuple]:
    """(path, tensor) of a TorchScript value; of a dict, every second input is a key."""
    node = value.node()
    inputs = list(node.inputs())
    parts = []
    if node.kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
        parts = list(enumerate(inputs))
    elif node.kind() == "prim::DictConstruct":
        parts = list(zip((key.toIValue() for key in inputs[::2]), inputs[1::2], strict=True))
    else:
        yield path, value
    for name, one in parts:
        yield from _unpacked(one, f"{path}.{name}" if path else str(name))


def _count(value) -> int:
    """Number of operators that a TorchScript value depends on."""
    seen, waiting = set(), [value]
    while waiting:
        node = waiting.pop().node()
        if str(node) not in seen:
            seen.add(str(node))
            waiting += [*node.inputs(), *(o for block in node.blocks() for o in block.outputs())]
    return sum(text.find("aten::") >= 0 for text in seen)


def _script_end(value) -> str:
    """The last operator of a TorchScript value but those that only move."""
    node = value.node()
    kind = node.kind().split("::")[-1].strip("_")
    if kind == "If":
        place = [v.debugName() for v in node.outputs()].index(value.debugName())
        ends = [_script_end(list(block.outputs())[place]) for block in node.blocks()]
        return next((end for end in ends if end in MEANINGS), ends[0])
    inputs = list(node.inputs())
    if kind in ("ListUnpack", "TupleUnpack", "ConstantChunk"):
        return _script_end(inputs[0])
    by_number = len(inputs) > 1 and inputs[1].type().kind() != "TensorType"
    kind = "mul" if by_number and kind in DIVISIONS else kind
    if kind in SCALES and by_number and (end := _script_end(inputs[0])) in DOUBTFUL:
        return end
    if kind in JOINS and any(_script_end(v) in (*MEANINGS, MIXED) for v in inputs if "Tensor" in str(v.type())):
        return MIXED
    return _script_end(inputs[0]) if kind in MOVES and inputs else ENDS.get(kind, kind)


# -- what it means -----------------------------------------------------------------------------------------------------


def tells(part: Part) -> bool:
    """Whether the last operator alone says that a tensor is probabilities."""
    return part.sure and part.end in MEANINGS


def likely(part: Part) -> bool:
    """Whether the last operator lets one expect probabilities; else its values are looked at when they are at hand."""
    return part.end in MEANINGS or part.end in DOUBTFUL | {"", BY_VALUE, MIXED}


def meaning(part: Part, ask: Callable[[int], torch.Tensor]) -> str | None:
    """Which of MEANINGS a tensor of the output is, by its last operator or its values; None: logits, or a value.

    :param ask: gives the tensor, (batch, class, ...), for the input at hand (0) or another one (of :func:`another`), which
        the network may refuse.
    """
    if tells(part) or (part.end in MEANINGS and part.end.startswith("log")):
        return part.end
    if part.end == LEARNED:
        return None
    found = by_values(ask(0))

    def holds(number: int) -> bool:
        with suppress(Exception):
            return by_values(ask(number)) in (found, "softmax")  # far beyond its range a sigmoid gives ones and zeros
        return False

    return found if found and all(map(holds, range(1, OTHERS + 1))) else None


def convinces(part: Part, found: str | None) -> bool:
    """Whether a tensor is taken as what :func:`meaning` found: by values as a softmax always, as a sigmoid only where the
    operators say that it was made of probabilities; other numbers may lie in 0 to 1 as well."""
    return found is not None and (
        found != "sigmoid" or tells(part) or part.end in ("sigmoid", "softmax", BY_VALUE, MIXED)
    )


def by_values(value: torch.Tensor) -> str | None:
    """``softmax`` where all are in 0..1 and sum to 1 over several classes, ``sigmoid`` where they are in 0..1, else None."""
    inside = bool(((value >= 0) & (value <= 1)).all())
    several = value.ndim > 1 and value.shape[1] > 1
    if inside and several and bool(((value.double().sum(1) - 1).abs() < _tolerance(value)).all()):
        return "softmax"
    return "sigmoid" if inside else None


def _tolerance(value: torch.Tensor) -> float:
    import torch

    return max(1e-4, 8 * torch.finfo(value.dtype).eps)


def another(x: torch.Tensor, number: int) -> torch.Tensor:
    """An input unlike ``x``: noise in its range, or for the number 2 far beyond it, where logits would show."""
    import torch

    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(number)).to(x)
    return (x.amin() + noise * (x.amax() - x.amin() + 1)) * (1 if number == 1 else 100)


# -- the network of one tensor of logits -------------------------------------------------------------------------------


def read_as(network: torch.nn.Module, card: ModelCard, remarks: Sequence[str] = ()) -> torch.nn.Module:
    """The network as one that gives a single tensor of logits (or of values), as the card's ``output`` means it.

    The network itself where the card says that it does so already; one that gives a single number may give (batch,) in
    place of (batch, 1). Layers keep their names.

    :param remarks: sentences on how it came to be read so; ``remarks`` of the result.
    """
    single = card.task == "classification" and len(card.output.labels) == 1
    plain = card.output.which is None and card.output.kind in ("logits", "value") and not single
    return network if plain or isinstance(network, _reader()) else _reader()(network, card, remarks)


@cache
def _reader() -> type:
    import torch

    class Reader(torch.nn.Module):
        """:ivar unseen: whether the last pass had to go back from probabilities to their logarithms."""

        def __init__(self, network, card: ModelCard, remarks: Sequence[str]):
            super().__init__()
            # beside the registry, or all layers would be renamed
            self.__dict__.update(
                whole=network, read_by=card, which=card.output.which, given=tuple(remarks), unseen=False
            )
            if isinstance(network, torch.jit.ScriptModule):  # its tables are no dicts
                self._modules = {"program": network}
            else:
                self._modules, self._parameters, self._buffers = network._modules, network._parameters, network._buffers
            self.training = network.training

        def named_modules(self, *args, **kwargs):
            return self.whole.named_modules(*args, **kwargs)

        def train(self, mode: bool = True):
            self.whole.train(mode)
            self.training = mode
            return self

        @property
        def remarks(self) -> tuple[str, ...]:
            wanted = self.read_by.output
            sentence = (
                f"The network's last step is no {wanted.activation} that can be seen: its scores are the "
                f"{'logarithms' if wanted.exclusive or wanted.kind != 'probabilities' else 'logits'} of its probabilities."
            )
            return (*self.given, sentence) if self.unseen else self.given

        def forward(self, *args, **kwargs):
            wanted = self.read_by.output
            if wanted.kind in ("logits", "value"):
                return _column(pick(self.whole(*args, **kwargs), wanted.which))
            x = first_tensor([args, kwargs])
            voxels = math.prod(x.shape[2:]) if self.read_by.task == "segmentation" else 1
            with watching(x.shape[0] * len(wanted.labels) * voxels):
                value = _column(pick(self.whole(*args, **kwargs), wanted.which))
                if not value.is_meta:
                    check_end(self.read_by, value)
                    check_values(self.read_by, value)
            received = _received(value, wanted)
            self.__dict__["unseen"] = received is None
            return _logits(value, wanted) if received is None else received

    return Reader


def _column(value: torch.Tensor) -> torch.Tensor:
    """One number for each sample as (batch, 1)."""
    return value.unsqueeze(1) if value.ndim == 1 else value


def _received(value: torch.Tensor, wanted) -> torch.Tensor | None:
    """What the last sigmoid or softmax got, where it was seen and gives these very values."""
    import torch

    end = getattr(value, "_end", None)
    if end is None or end.received is None or end.received.shape != value.shape:
        return None
    received = end.received
    if value.requires_grad and not received.requires_grad:
        return None
    if MEANINGS.get(end.name) != (wanted.kind, wanted.activation):
        return None
    if value.is_meta:
        return received
    with torch.no_grad():
        p = received.softmax(1) if wanted.exclusive else received.sigmoid()
        same = value if wanted.kind == "probabilities" else value.exp()
        near = torch.finfo(value.dtype).eps ** 0.5
        return received if torch.allclose(p.to(same), same, rtol=near, atol=near, equal_nan=True) else None


def _logits(value: torch.Tensor, wanted) -> torch.Tensor:
    """Logits whose softmax or sigmoid gives these probabilities, or their logarithms, at least in single precision."""
    import torch

    if wanted.kind == "log_probabilities" and wanted.exclusive:
        return value
    value = value.to(torch.promote_types(value.dtype, torch.float32))
    limits = torch.finfo(value.dtype)
    if wanted.kind == "log_probabilities":
        value = value.exp()
    if wanted.exclusive:
        return value.clamp_min(limits.tiny).log()
    return torch.logit(value.clamp(limits.tiny, 1 - limits.eps / 2))


def check_end(card: ModelCard, value: torch.Tensor) -> None:
    """:raises InputError: where the last operator that was seen is another one than the card says."""
    end = getattr(value, "_end", None)
    if end is None or not end.sure or MEANINGS.get(end.name) in (None, (card.output.kind, card.output.activation)):
        return
    raise InputError(
        f"{card.name}: the card's output says {card.output.kind} of a {card.output.activation}, and the network ends in a "
        f"{end.name}; {to_write(end.name)}."
    )


def to_write(end: str) -> str:
    kind, activation = MEANINGS[end]
    return f'write "kind": "{kind}", "activation": "{activation}" in output'


def check_values(card: ModelCard, value: torch.Tensor) -> None:
    """:raises InputError: where what the card calls probabilities (or their logarithms) cannot be such."""
    near = _tolerance(value)
    low, high = float(value.detach().min()), float(value.detach().max())
    end = getattr(value, "_end", None)
    summed = end is not None and end.sure and end.name.endswith("softmax")  # to 1, whatever its precision
    if card.output.kind == "log_probabilities":
        if card.output.exclusive and not summed and high <= near:
            refuse_sums(card, value.detach().double().exp().sum(1), 10 * near, "the logarithms of ")
        if high > near:
            raise InputError(
                f"{card.name}: the card's output.kind says log_probabilities, and the network gives values up to {high:.3g} "
                'where these are never above 0; write "kind": "logits".'
            )
        return
    if low < -near or high > 1 + near:
        raise InputError(
            f"{card.name}: the card's output.kind says probabilities, and the network gives values from {low:.3g} to "
            f'{high:.3g}; write "kind": "logits".'
        )
    if card.output.exclusive and value.ndim > 1 and not summed:
        refuse_sums(card, value.detach().double().sum(1), 10 * near)


def refuse_sums(card: ModelCard, sums: torch.Tensor, near: float, of: str = "") -> None:
    """:raises InputError: for sums of probabilities over the classes that lie further than ``near`` from 1."""
    if bool(((sums - 1).abs() > near).any()):
        raise InputError(
            f"{card.name}: the card's output says {of}probabilities of a softmax, and those of the network sum to "
            f'{float(sums.min()):.3g} to {float(sums.max()):.3g} over the classes; write "activation": "sigmoid".'
        )


# -- card and network --------------------------------------------------------------------------------------------------


class Misread(InputError):
    """A network gives probabilities, and its card, or who reads it without one, takes them as logits.

    :ivar found: which of MEANINGS they are.
    """

    def __init__(self, text: str, found: str):
        super().__init__(text)
        self.found = found


_compared: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""Network to its state, the ``output`` of the card that it was found to agree with, and what was odd about it."""


def agree(network: torch.nn.Module, card: ModelCard, remarks: tuple[str, ...] = ()) -> tuple[str, ...]:
    """From now on the network is what the card says; gives ``remarks``."""
    _compared[innermost(network)] = state_of(network), card.output, remarks
    return remarks


def compared(model: Model, x: torch.Tensor, run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, tuple[str, ...]]:
    """``run()``, the network's output for ``x``, and what is odd about it. The first time it is held against the card.

    :raises InputError: where card and network disagree, naming the card's field and what to write; :class:`Misread` where
        the network gives probabilities.
    """
    import torch

    network, card = model.network, model.card
    if isinstance(network, _reader()):
        if card.output.kind not in ("logits", "value"):  # every pass is looked at
            return run(), ()
        network = network.whole
    before, agreed, remarks = _compared.get(innermost(network), (None, None, ()))
    if agreed == card.output and before == state_of(network):
        return run(), remarks
    if isinstance(network, torch.jit.ScriptModule):
        output, seen = run(), [plainly(network, x)]
    else:
        with outputs_of(network) as seen, watching(0):
            output = run()
    if not seen:  # it ran before
        return output, ()
    parts = parts_of(network, seen[-1])
    part = named(parts, card.output.which) or check_which(card, parts, x.ndim - 2)

    def ask(number: int) -> torch.Tensor:
        return pick(plainly(network, another(x, number)), card.output.which) if number else output.detach()

    if card.output.kind == "value" and part.end in ("softmax", "log_softmax") and part.sure:
        raise InputError(
            f"{card.name}: the card's output.kind says value, and the network ends in a {part.end}; {to_write(part.end)}."
        )
    if card.output.kind != "logits":
        return output, agree(network, card)
    found = meaning(part, ask)
    if convinces(part, found):
        last = "ends in" if part.end == found else "gives the values of"
        raise Misread(
            f"{card.name}: the card's output.kind says logits, and the network {last} a {found}; {to_write(found)}.",
            found,
        )
    return output, agree(network, card, doubts_of(part, found, ask(0)))


def doubts_of(part: Part, found: str | None, value: torch.Tensor) -> tuple[str, ...]:
    """Why a tensor may be no logits after all.

    :param found: as :func:`meaning` found it.
    """
    if found or (part.end in DOUBTFUL | {"", BY_VALUE} and by_values(value)):
        return (IN_DOUBT,)
    return (MADE_OF,) if part.end == BY_VALUE and by_values(value.exp()) != "softmax" else ()


def refuse_one_label(card: ModelCard) -> None:
    """:raises InputError: for a softmax over a single label."""
    if card.output.exclusive and len(card.output.labels) == 1:
        raise InputError(
            f"{card.name}: the card's output has one label and the activation softmax, which is always 1; write "
            '"activation": "sigmoid" in output, or name the other classes.'
        )


def check_which(card: ModelCard, parts: Sequence[Part], dimensions: int) -> Part:
    """The first tensor, which a card without ``output.which`` means.

    :raises InputError: where another one may be meant as well.
    """
    rank = 2 if card.task == "classification" else dimensions + 2
    labels = len(card.output.labels)
    fit = [p for p in parts if p.floating and len(p.shape) == rank and p.shape[1] == labels]
    if fit and fit != parts[:1]:
        best = choose(fit, dimensions)
        raise InputError(
            f"{card.name}: the network gives several tensors, {', '.join(map(str, parts))}, and the card does not say which "
            f'is meant; write it into output.which, probably "which": "{best.path}".'
        )
    return parts[0]
