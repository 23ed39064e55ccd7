"""What one pass shows of a network: its layers, where their cells lie, and what it returns.

It is a traced pass (:mod:`.tracing`), in which no voxel is computed unless the network looks at values.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..nested import first_tensor, tensors
from ..running.ends import watching
from ..running.guest import innermost, moved_by_hooks, settle, state_of, written_name
from ..running.meaning import parts_of
from ..running.parts import Part
from .arranging import arrange
from .cells import Arrangement, Cells
from .layer import Layer
from .memory import Result
from .notes import Made, made_of, place_of
from .places import Place
from .tracer import Tracer
from .tracing import Example, trace

if TYPE_CHECKING:
    import torch

REMEMBERED = 4
"""Input shapes of which a network's layers are remembered."""


@dataclass(frozen=True)
class Inspection:
    """What one pass shows of a network.

    :ivar layers: every module call, in the order in which they end; none of TorchScript, which takes no hooks.
    :ivar outputs: the tensors that it returns.
    :ivar data: the network looks at values: other inputs may take other ways.
    :ivar batch: axes of the input (1 that of the channels) that the first convolution takes for its batch.
    :ivar results: of its operators, in bytes: see :mod:`.memory`.
    """

    layers: tuple[Layer, ...]
    outputs: list[Part]
    data: bool = False
    batch: tuple[int, ...] = ()
    results: tuple[Result, ...] = ()


def inspect(network: torch.nn.Module, shape: Sequence[int], x: Example = None) -> list[Layer]:
    """The layers of :func:`examine`."""
    return list(examine(network, shape, x).layers)


def examine(network: torch.nn.Module, shape: Sequence[int], x: Example = None) -> Inspection:
    """What a pass shows of a network, for inputs of one shape.

    The answer is remembered until the network goes or its state (:func:`.running.guest.state_of`) changes; not that of a network
    that looks at values.

    :param shape: (batch, channel, *spatial) of the input.
    :param x: the input itself, or what gives it, where it is at hand.
    """
    state, answers = _inspected.get(innermost(network), (None, {}))
    if state != (now := state_of(network)):
        answers = {}
        _inspected[innermost(network)] = now, answers
    shape = tuple(shape)
    key = shape, getattr(network, "which", None), getattr(network, "taken", None), moved_by_hooks(network)
    if key in answers:
        return answers[key]
    found = _examine(network, shape, x)
    settle(network)
    if not found.data:
        answers[key] = found
        for oldest in list(answers)[:-REMEMBERED]:
            del answers[oldest]
    return found


Key = tuple[tuple[int, ...], int | str | None, str | None, bool]
"""The input's shape, which output is meant, how the input is taken, and whether hooks change what passes."""
_inspected: weakref.WeakKeyDictionary[torch.nn.Module, tuple[object, dict[Key, Inspection]]] = (
    weakref.WeakKeyDictionary()
)
"""Network to its state, and to what was found for each input shape."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one call of a module gave.

    :ivar sizes: of its first tensor.
    :ivar alone: whether it gave no other.
    :ivar attentions: products of attention before it.
    """

    name: str
    module: torch.nn.Module
    sizes: tuple[int, ...]
    alone: bool
    place: Place | None
    made: Made
    attentions: int


def _examine(network: torch.nn.Module, shape: tuple[int, ...], x: Example) -> Inspection:
    seen: list[Sight] = []

    def watch(tracer: Tracer, network: torch.nn.Module) -> Callable[[], object]:
        seen.clear()

        def see(name: str, module: torch.nn.Module, output: Any) -> None:
            if (sight := _sight(name, module, output, tracer.attentions)) is not None:
                seen.append(sight)

        stack = ExitStack()
        stack.enter_context(watching())
        stack.callback(_hooks(network, see))
        return stack.close

    output, tracer = trace(network, shape, watch, x)
    first = first_tensor(output)
    returned = None if first is None else made_of(first)
    calls = Counter(sight.name for sight in seen)
    numbers: Counter[str] = Counter()
    arranged: dict[object, tuple[Cells, Arrangement] | None] = {}
    found = []
    for sight in seen:
        key = sight.sizes, sight.place and (*map(id, sight.place.at + sight.place.grid), sight.place.field)
        if key not in arranged:
            arranged[key] = arrange(sight.place, sight.sizes, shape[2:]) if sight.place else None
        name = f"{sight.name}#{numbers[sight.name]}" if calls[sight.name] > 1 else sight.name
        numbers[sight.name] += 1
        used = returned is None or bool(returned.needs >> sight.made.step & 1)
        found.append(_layer(name, sight, arranged[key], used, tracer.data))
    return Inspection(tuple(found), parts_of(network, output), tracer.data, tracer.batch or (), tracer.ledger.close())


def _sight(name: str, module: torch.nn.Module, output: Any, attentions: int) -> Sight | None:
    """None where it gave no tensor."""
    outputs = list(tensors([output]))
    if not outputs:
        return None
    first = outputs[0]
    return Sight(
        name=name,
        module=module,
        sizes=tuple(first.shape),
        alone=len(outputs) == 1,
        place=place_of(first) if first.is_floating_point() else None,
        made=made_of(first) or Made(0, 0),
        attentions=attentions,
    )


def _hooks(network: torch.nn.Module, see: Callable[[str, torch.nn.Module, Any], None]) -> Callable[[], None]:
    """``see(name, module, output)`` at the end of every module's call; the function that ends it."""
    import torch

    def hook(name: str) -> Callable[[torch.nn.Module, Any, Any], None]:
        return lambda module, _inputs, output: see(name, module, output)

    modules = [(n, m) for n, m in network.named_modules() if n and not isinstance(m, torch.jit.ScriptModule)]
    modules = [(written_name(n), m) for n, m in modules if not n.endswith("_orig_mod")]
    handles = [module.register_forward_hook(hook(name)) for name, module in modules]

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end


def _layer(name: str, sight: Sight, grid: tuple[Cells, Arrangement] | None, used: bool, data: bool) -> Layer:
    layer = Layer(
        name=name,
        kind=type(sight.module).__name__,
        shape=sight.sizes[1:],
        cells=None,
        parameters=any(parameter.ndim > 1 for parameter in sight.module.parameters(recurse=False)),
        data=data,
        alone=sight.alone,
        used=used,
        attentions=sight.attentions,
        step=sight.made.step,
        needs=sight.made.needs,
    )
    if grid is not None:
        cells, arrangement = grid
        channels = 1 if arrangement.channel is None else sight.sizes[arrangement.channel]
        layer = replace(layer, shape=(channels, *arrangement.sizes), cells=cells, arrangement=arrangement)
    if (place := sight.place) is not None:
        layer = replace(layer, joined=place.joined, hidden=place.hidden, pooled=place.pooled)
        layer = replace(layer, mixed=place.mixed, normed=place.normed)
    return layer
