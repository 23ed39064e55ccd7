"""The layers of a network: names, output shapes, where their cells lie, and which one to explain.

Everything here is found in one traced pass (:mod:`MedXAILib.models.inspection.tracing`), in which no voxel is computed unless the
network looks at values.
"""

from __future__ import annotations

import difflib
import math
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InputError
from .inspection.cells import Arrangement, Cells, arrange
from .inspection.places import Place, tensors
from .inspection.tracing import Example, Made, first_tensor, trace
from .running.guest import innermost, moved_by_hooks, settle, state_of, written_name
from .running.output import Part, parts_of, watching

if TYPE_CHECKING:
    import torch

TRANSPARENT = ("Dropout", "Identity", "Flatten", "AdaptiveAvgPool", "AdaptiveMaxPool")
"""Modules that are no layer of their own when one is chosen for the user."""
REMEMBERED = 4
"""Input shapes of which a network's layers are remembered."""
MOST_STAGES = 10
"""Layers of :func:`stages` in a network whose resolution never changes."""


@dataclass(frozen=True)
class Layer:
    """The output of one call of a module.

    :ivar name: as in ``named_modules()``; of a module that is called several times ``name#0``, ``name#1``, ...
    :ivar shape: without the batch: (channel, *cells) for a feature grid, on whichever axes its tensor keeps them.
    :ivar cells: None where the output is no feature grid.
    :ivar parameters: whether the module itself holds weights: kernels or a matrix, not the scale and shift of a norm.
    :ivar joined: the output is a skip connection's concatenation: a tensor beside what was computed from it, the latter
        with at least half of the channels (so no growing of a dense block, and no parallel branches).
    :ivar arrangement: how the output becomes such a grid.
    :ivar hidden: the operator on the way that hides where the cells lie: ``cells`` are a guess then.
    :ivar mixed: a cell sees more than its receptive field (attention, statistics of the whole).
    :ivar normed: by a norm's statistics: a constant added to the input is taken away again.
    :ivar pooled: number of the operator that pooled to a grid of its own at once; 0 for none.
    :ivar data: where the cells lie may depend on the values of the input.
    :ivar doubt: what is not known of where the cells lie, in a sentence.
    :ivar alone: whether the module returns this tensor and no other.
    :ivar used: whether the network's first output depends on it.
    :ivar attentions: products of attention that the network had computed before.
    :ivar step: number of the operator that made it; ``needs``: a bit for each operator that it depends on.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    cells: Cells | None
    parameters: bool
    bytes: int
    arrangement: Arrangement | None = None
    joined: bool = False
    hidden: str = ""
    mixed: bool = False
    normed: bool = False
    pooled: int = 0
    data: bool = False
    doubt: str | None = None
    alone: bool = True
    used: bool = True
    attentions: int = 0
    step: int = field(default=0, repr=False)
    needs: int = field(default=1, repr=False)


@dataclass(frozen=True)
class Inspection:
    """What one pass shows of a network.

    :ivar layers: every module call, in the order in which they end; none of TorchScript, which takes no hooks.
    :ivar outputs: the tensors that it returns.
    :ivar data: the network looks at values: other inputs may take other ways.
    :ivar batch: axes of the input (1 that of the channels) that the first convolution takes for its batch.
    """

    layers: tuple[Layer, ...]
    outputs: list[Part]
    data: bool = False
    batch: tuple[int, ...] = ()


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


_inspected: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""Network to its state, and to what was found for each input shape."""


def _examine(network: torch.nn.Module, shape: tuple[int, ...], x: Example) -> Inspection:
    seen: list[tuple] = []

    def watch(tracer, network):
        seen.clear()
        stack = ExitStack()
        stack.enter_context(watching())
        stack.callback(
            _hooks(network, lambda name, module, output: seen.append(_sight(name, module, output, tracer.attentions)))
        )
        return stack.close

    output, tracer = trace(network, shape, watch, x)
    first = getattr(first_tensor(output), "_made", None)
    calls = Counter(sight.name for sight in seen if sight.sizes is not None)
    numbers: Counter = Counter()
    arranged: dict = {}
    found = []
    for sight in seen:
        if sight.sizes is None:
            continue
        key = sight.sizes, sight.place and (*map(id, sight.place.at + sight.place.grid), sight.place.field)
        if key not in arranged:
            arranged[key] = arrange(sight.place, sight.sizes, shape[2:]) if sight.place else None
        name = f"{sight.name}#{numbers[sight.name]}" if calls[sight.name] > 1 else sight.name
        numbers[sight.name] += 1
        used = first is None or bool(first.needs >> sight.made.step & 1)
        found.append(_layer(name, sight, arranged[key], used, tracer.data))
    return Inspection(tuple(found), parts_of(network, output), tracer.data, tracer.batch or ())


class Sight(NamedTuple):
    """What one call of a module gave."""

    name: str
    module: torch.nn.Module
    sizes: tuple[int, ...] | None
    bytes: int
    alone: bool
    place: Place | None
    made: Made
    attentions: int


def _sight(name: str, module: torch.nn.Module, output, attentions: int) -> Sight:
    outputs = list(tensors([output]))
    if not outputs:
        return Sight(name, module, None, 0, False, None, Made(), attentions)
    first = outputs[0]
    place = getattr(first, "_place", None) if first.is_floating_point() else None
    made = getattr(first, "_made", Made(0, 0))
    size = first.numel() * first.element_size()
    return Sight(name, module, tuple(first.shape), size, len(outputs) == 1, place, made, attentions)


def _hooks(network: torch.nn.Module, see):
    """``see(name, module, output)`` at the end of every module's call; the function that ends it."""
    import torch

    def hook(name):
        return lambda module, _inputs, output: see(name, module, output)

    modules = [(n, m) for n, m in network.named_modules() if n and not isinstance(m, torch.jit.ScriptModule)]
    modules = [(written_name(n), m) for n, m in modules if not n.endswith("_orig_mod")]
    handles = [module.register_forward_hook(hook(name)) for name, module in modules]
    return lambda: [handle.remove() for handle in handles]


def _layer(name: str, sight: Sight, grid: tuple[Cells, Arrangement] | None, used: bool, data: bool) -> Layer:
    fields: dict = {"shape": sight.sizes[1:], "cells": None}
    if grid is not None:
        cells, arrangement = grid
        channels = 1 if arrangement.channel is None else sight.sizes[arrangement.channel]
        fields = {"shape": (channels, *arrangement.sizes), "cells": cells, "arrangement": arrangement}
    if (place := sight.place) is not None:
        fields |= {"joined": place.joined, "hidden": place.hidden, "mixed": place.mixed, "normed": place.normed}
        fields["pooled"] = place.pooled
    return Layer(
        name,
        type(sight.module).__name__,
        **fields,
        parameters=any(parameter.ndim > 1 for parameter in sight.module.parameters(recurse=False)),
        bytes=sight.bytes,
        data=data,
        alone=sight.alone,
        used=used,
        attentions=sight.attentions,
        step=sight.made.step,
        needs=sight.made.needs,
    )


def as_grid(tensor: torch.Tensor, layer: Layer) -> torch.Tensor:
    """An activation of a layer, or a gradient with respect to it: see :meth:`.inspection.cells.Arrangement.features`."""
    return layer.arrangement.features(tensor)


def grids(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that a CAM can explain: feature grids of more than one cell, before the head.

    The head is the last module with weights that the output needs, and whatever ends after it.
    """
    return [layer for layer in layers[: _head(layers)] if layer.cells is not None and count(layer) > 1]


def _head(layers: Sequence[Layer]) -> int:
    return max((n for n, layer in enumerate(layers) if layer.parameters and layer.used), default=len(layers))


def count(layer: Layer) -> int:
    """Number of cells of a feature grid."""
    cells = 1
    for n in layer.shape[1:]:
        cells *= n
    return cells


def default_layer(layers: Sequence[Layer]) -> tuple[str, str]:
    """(name, why): the bottleneck, the last layer of the lowest resolution, where finer ones follow from it, as in a
    U-Net; else that of the lowest resolution before the head; where the resolution never falls, the last of the widest
    receptive field. Where that layer has a class token, this alone may count after the last attention: then the tokens
    that the last attention sees.

    :raises InputError: for a network without a feature grid.
    """
    usable = _usable(layers)
    if not usable:
        raise InputError(
            "This network has no layer whose cells can be followed to the input: choose a method that needs none, as saliency or lime."
        )
    bottom = _bottom(layers)
    if _decoder(layers):
        return bottom.name, "the bottleneck"
    if _tokens(bottom) and (seen := _before_attention(layers)):
        return seen[-1].name, "the last tokens before the last attention"
    if len({_level(layer) for layer in usable}) > 1:
        return bottom.name, "the lowest resolution before the head"
    widest = max(layer.cells.field for layer in usable)
    return [x.name for x in usable if x.cells.field == widest][-1], "the widest receptive field before the head"


def stages(layers: Sequence[Layer]) -> list[Layer]:
    """The layers of a layer-wise explanation: the last one of each resolution, from fine to coarse on the way to the
    bottleneck, and from coarse to fine behind it.

    Where the resolution never changes: what each attention sees, or else what follows each module with weights; ten of
    them at most, evenly chosen.
    """
    usable = _usable(layers)
    if len({_level(layer) for layer in usable}) < 2:
        found = _before_attention(layers) or _steps(layers)
        most = min(len(found), MOST_STAGES)
        return [found[round(n * (len(found) - 1) / max(most - 1, 1))] for n in range(most)]
    bottom = _bottom(layers)
    encoder = [layer for layer in usable if bottom.needs >> layer.step & 1]
    down = [_last(layers, group) for group in _by_level(encoder)[:-1]]
    up = [_last(layers, group) for group in _by_level(_decoder(layers))]
    return [*down, find(layers, default_layer(layers)[0]), *up[::-1]]


def last_decoder(layers: Sequence[Layer]) -> set[str]:
    """Names of the layers of the last decoder block: those after the last change of resolution, where it had been lower
    before; else the last layer before the head alone. A segmentation network's map there nearly repeats its result."""
    usable = [layer for layer in grids(layers) if layer.alone and layer.used]
    names: set[str] = set()
    for layer in reversed(usable):
        if _level(layer) != _level(usable[-1]):
            break
        names.add(layer.name)
    lower = any(_coarseness(layer) > _coarseness(usable[-1]) for layer in usable)
    return names if lower else {layer.name for layer in usable[-1:]}


def _usable(layers: Sequence[Layer]) -> list[Layer]:
    """The layers among which one is chosen for the user: those that count, from the first module with weights on."""
    first = next((n for n, layer in enumerate(layers) if layer.parameters), 0)
    found = [layer for layer in grids(layers[first:]) if layer.alone and layer.used]
    found = [layer for layer in found if not layer.kind.startswith(TRANSPARENT)]
    found = [layer for layer in found if not _on_a_branch(layer, found)] or found
    return _without_keys(found) or found


def _on_a_branch(layer: Layer, layers: Sequence[Layer]) -> bool:
    """Whether it lies on one of several branches that pool the same tensor (PSPNet, UperNet): no stage of the network."""

    def beside(other: Layer) -> bool:
        return not (other.needs >> layer.pooled | layer.needs >> other.step) & 1

    return bool(layer.pooled) and any(beside(other) for other in layers)


def _without_keys(layers: Sequence[Layer]) -> list[Layer]:
    """Without those that are coarser for the keys and values of an attention alone, whose result is finer again (CvT, PVT)."""
    kept: list[tuple[Layer, int]] = []
    for layer in reversed(layers):
        coarse = _coarseness(layer)
        later = [(other.attentions, level) for other, level in kept if other.needs >> layer.step & 1]
        finer = [attentions for attentions, level in later if level < coarse]
        stays = any(attentions > layer.attentions for attentions, level in later if level >= coarse)
        if not finer or stays or layer.attentions in finer:
            kept.append((layer, coarse))
    return [layer for layer, _ in reversed(kept)]


def _tokens(layer: Layer) -> bool:
    """Whether it has tokens beside its cells (a class token)."""
    arrangement = layer.arrangement
    return bool(arrangement.carriers) and arrangement.elements > count(layer)


def _level(layer: Layer) -> tuple[int, ...]:
    """Resolution along each axis, in halvings. Not by the number of cells, which unpadded convolutions change too."""
    return tuple(round(math.log2(stride)) for stride in layer.cells.stride)


def _coarseness(layer: Layer) -> int:
    return sum(_level(layer))


def _by_level(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Groups of the same resolution, the finest first."""
    levels = sorted({_level(layer) for layer in layers}, key=lambda level: (sum(level), level))
    return [[layer for layer in layers if _level(layer) == level] for level in levels]


def _bottom(layers: Sequence[Layer]) -> Layer:
    """The last layer of the lowest resolution; where a pyramid of poolings follows there, the last one before it."""
    lowest = _by_level(_usable(layers))[-1]
    pyramid = {layer.pooled for layer in grids(layers) if _on_a_branch(layer, layers)}
    before = [layer for layer in lowest if not any(layer.needs >> step & 1 for step in pyramid)]
    return _last(layers, before or lowest)


def _decoder(layers: Sequence[Layer]) -> list[Layer]:
    """Finer layers that are computed from the last one of the lowest resolution."""
    bottom = _bottom(layers)
    finer = [layer for layer in _usable(layers) if _coarseness(layer) < _coarseness(bottom)]
    return [layer for layer in finer if layer.needs >> bottom.step & 1]


def _last(layers: Sequence[Layer], among: Sequence[Layer]) -> Layer:
    """The last of ``among`` that ends a block: no layer inside of a block that goes on to another resolution, and no
    skip's concatenation, where there is another."""
    among = [layer for layer in among if not layer.joined] or among
    ends = _block_ends(layers)
    leaving = [sum(name in ends and ends[name] != _level(layer) for name in _around(layer)) for layer in among]
    return [layer for layer, n in zip(among, leaving, strict=True) if n == min(leaving)][-1]


def _block_ends(layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
    """The resolution at which each block ends; what holds layers of three resolutions or more is a trunk of blocks."""
    found = grids(layers)
    inside: dict[str, set] = {}
    for layer in found:
        for name in _around(layer):
            inside.setdefault(name, set()).add(_level(layer))
    names = ((layer.name.split("#")[0], layer) for layer in found)
    return {name: _level(layer) for name, layer in names if len(inside.get(name, ())) < 3}


def _around(layer: Layer) -> Iterator[str]:
    """Names of the modules around a layer's, the outermost first."""
    parts = layer.name.split("#")[0].split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts)))


def _before_attention(layers: Sequence[Layer]) -> list[Layer]:
    """The tokens that each attention sees: the last norm before it."""
    total = max(layer.attentions for layer in layers)
    norms = [layer for layer in _usable(layers) if layer.arrangement.carriers and "Norm" in layer.kind]
    return list({layer.attentions: layer for layer in norms if layer.attentions < total}.values())


def _steps(layers: Sequence[Layer]) -> list[Layer]:
    """For each module with weights, the last usable layer before the next one."""
    usable = {layer.name for layer in _usable(layers)}
    found, step = {}, 0
    for layer in layers:
        step += layer.parameters
        if layer.name in usable:
            found[step] = layer
    return list(found.values())


def find(layers: Sequence[Layer], name: str) -> Layer:
    """A layer by name; the last call of a module that is called several times, unless ``name#n`` says which.

    :raises InputError: with near names.
    """
    calls = [layer for layer in layers if layer.name.split("#")[0] == name]
    exact = [layer for layer in layers if layer.name == name and "#" in name] or calls[-1:]
    if "#" in name and not exact and name.endswith("#0"):
        exact = [layer for layer in layers if layer.name == name[:-2]]
    if not exact:
        names = [layer.name for layer in grids(layers)]
        near = difflib.get_close_matches(name, names, 5, 0.3) or names[-5:]
        raise InputError(f"The network has no layer '{name}': near names are {', '.join(near)}.")
    if exact[0].cells is None or count(exact[0]) < 2:
        near = [layer.name for layer in grids(layers) if exact[0].needs >> layer.step & 1][-3:]
        remedy = (
            f"choose one before it, as {', '.join(near)}"
            if near
            else "choose a method that needs none, as saliency or lime"
        )
        if exact[0].cells is not None:
            raise InputError(f"The layer '{name}' has one cell, for the whole input: {remedy}.")
        raise InputError(
            f"The layer '{name}' gives no feature grid whose cells can be followed to the input (its output has the shape "
            f"{exact[0].shape}; they lie at several places at once, or came through NumPy or a custom function): {remedy}."
        )
    return exact[0]


def calls(layers: Sequence[Layer], name: str) -> list[Layer]:
    """All layers that are calls of one module."""
    return [layer for layer in layers if layer.name.split("#")[0] == name.split("#")[0]]


def side_by_side(layers: Sequence[Layer], layer: Layer) -> list[Layer]:
    """A layer, and the other calls of its module on other inputs (a second image, a mirrored one): of the same resolution,
    none computed from another."""
    found = [other for other in calls(layers, layer.name) if other.cells and other.used and count(other) > 1]
    found = [other for other in found if other.shape == layer.shape and not _follows(other, layer)]
    return found if len(found) > 1 and not _follow_each_other(found) else [layer]


def _follows(one: Layer, other: Layer) -> bool:
    """Whether either is computed from the other."""
    return one is not other and bool(one.needs >> other.step & 1 or other.needs >> one.step & 1)


def _follow_each_other(layers: Sequence[Layer]) -> bool:
    return any(_follows(one, other) for one in layers for other in layers)


def coarsest_stride(layers: Sequence[Layer]) -> tuple[int, ...]:
    """Along each axis, the largest stride of the feature grids: the step that windows must keep."""
    cells = [layer.cells for layer in grids(layers)]
    return (
        tuple(max(1, round(max(c.stride[axis] for c in cells))) for axis in range(len(cells[0].stride)))
        if cells
        else ()
    )


def memory_estimate(layers: Sequence[Layer], recorded: Sequence[str] = ()) -> int:
    """Bytes that a pass will need beside the weights, roughly: the three largest neighbouring outputs while it runs,
    and, from the first recorded layer on, every output (they are kept for the backward pass)."""
    blocks = {name for layer in layers for name in _around(layer)}
    leaves = [layer for layer in layers if layer.name.split("#")[0] not in blocks]
    sizes = [layer.bytes for layer in leaves]
    working = max((sum(sizes[n : n + 3]) for n in range(len(sizes))), default=0)
    names = [layer.name for layer in leaves]
    first = min((n for n, name in enumerate(names) if name in recorded), default=len(sizes))
    return working + 2 * sum(sizes[first:])
