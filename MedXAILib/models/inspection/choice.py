"""Which layer is explained where nobody says so: the bottleneck, the stages, the last decoder block; and layers by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from ...errors import LayerError
from .layer import Layer, around, cells_of, count, follows

TRANSPARENT = ("Dropout", "Identity", "Flatten", "AdaptiveAvgPool", "AdaptiveMaxPool")
"""Modules that are no layer of their own when one is chosen for the user."""
MOST_STAGES = 10
"""Layers of :func:`stages` in a network whose resolution never changes."""
NEEDS_NONE = "a method that needs none, as saliency or lime"


def grids(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that a CAM can explain: feature grids of more than one cell, before the head.

    The head is the last module with weights that the output needs, and whatever ends after it.
    """
    return [layer for layer in layers[: _head(layers)] if layer.cells is not None and count(layer) > 1]


def _head(layers: Sequence[Layer]) -> int:
    return max((n for n, layer in enumerate(layers) if layer.parameters and layer.used), default=len(layers))


def default_layer(layers: Sequence[Layer]) -> tuple[str, str]:
    """(name, why): the bottleneck, the last layer of the lowest resolution, where finer ones follow from it, as in a
    U-Net; else that of the lowest resolution before the head; where the resolution never falls, the last of the widest
    receptive field. Where that layer has a class token, this alone may count after the last attention: then the tokens
    that the last attention sees.

    :raises InputError: for a network without a feature grid.
    """
    usable = _usable(layers)
    if not usable:
        raise LayerError(
            "This network has no layer whose cells can be followed to the input", f"choose {NEEDS_NONE}", joint=": "
        )
    bottom = _bottom(layers)
    if _decoder(layers):
        return bottom.name, "the bottleneck"
    if _tokens(bottom) and (seen := _before_attention(layers)):
        return seen[-1].name, "the last tokens before the last attention"
    if len({_level(layer) for layer in usable}) > 1:
        return bottom.name, "the lowest resolution before the head"
    widest = max(cells_of(layer).field for layer in usable)
    return [x.name for x in usable if cells_of(x).field == widest][-1], "the widest receptive field before the head"


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
    return arrangement is not None and bool(arrangement.carriers) and arrangement.elements > count(layer)


def _level(layer: Layer) -> tuple[int, ...]:
    """Resolution along each axis, in halvings. Not by the number of cells, which unpadded convolutions change too."""
    return tuple(round(math.log2(stride)) for stride in cells_of(layer).stride)


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
    leaving = [sum(name in ends and ends[name] != _level(layer) for name in around(layer)) for layer in among]
    return [layer for layer, n in zip(among, leaving, strict=True) if n == min(leaving)][-1]


def _block_ends(layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
    """The resolution at which each block ends; what holds layers of three resolutions or more is a trunk of blocks."""
    found = grids(layers)
    inside: dict[str, set[tuple[int, ...]]] = {}
    for layer in found:
        for name in around(layer):
            inside.setdefault(name, set()).add(_level(layer))
    names = ((layer.name.split("#")[0], layer) for layer in found)
    return {name: _level(layer) for name, layer in names if len(inside.get(name, ())) < 3}


def _before_attention(layers: Sequence[Layer]) -> list[Layer]:
    """The tokens that each attention sees: the last norm before it."""
    total = max(layer.attentions for layer in layers)
    norms = [
        layer for layer in _usable(layers) if layer.arrangement and layer.arrangement.carriers and "Norm" in layer.kind
    ]
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
        raise LayerError(f"The network has no layer '{name}'", f"near names are {', '.join(near)}", joint=": ")
    if exact[0].cells is None or count(exact[0]) < 2:
        near = [layer.name for layer in grids(layers) if exact[0].needs >> layer.step & 1][-3:]
        remedy = f"choose one before it, as {', '.join(near)}" if near else f"choose {NEEDS_NONE}"
        fault = (
            f"The layer '{name}' has one cell, for the whole input"
            if exact[0].cells is not None
            else f"The layer '{name}' gives no feature grid whose cells can be followed to the input (its output has the "
            f"shape {exact[0].shape}; they lie at several places at once, or came through NumPy or a custom function)"
        )
        raise LayerError(fault, remedy, joint=": ")
    return exact[0]


def calls(layers: Sequence[Layer], name: str) -> list[Layer]:
    """All layers that are calls of one module."""
    return [layer for layer in layers if layer.name.split("#")[0] == name.split("#")[0]]


def side_by_side(layers: Sequence[Layer], layer: Layer) -> list[Layer]:
    """A layer, and the other calls of its module on other inputs (a second image, a mirrored one): of the same resolution,
    none computed from another."""
    found = [other for other in calls(layers, layer.name) if other.cells and other.used and count(other) > 1]
    found = [other for other in found if other.shape == layer.shape and not follows(other, layer)]
    return found if len(found) > 1 and not _follow_each_other(found) else [layer]


def _follow_each_other(layers: Sequence[Layer]) -> bool:
    return any(follows(one, other) for one in layers for other in layers)


def coarsest_stride(layers: Sequence[Layer]) -> tuple[int, ...]:
    """Along each axis, the largest stride of the feature grids: the step that windows must keep."""
    cells = [cells_of(layer) for layer in grids(layers)]
    return (
        tuple(max(1, round(max(c.stride[axis] for c in cells))) for axis in range(len(cells[0].stride)))
        if cells
        else ()
    )
