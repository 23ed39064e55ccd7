"""A dry pass through a network: the shape of every tensor, and where its cells lie in the input.

It runs on torch's meta device: no voxel is computed.

Where a feature cell lies
-------------------------
Along each axis cell n has its centre at voxel ``offset + stride * n`` of the network's input (voxel centres at whole
numbers). The input itself has stride 1, offset 0, field 1. Every operator with a kernel moves them by its own
arithmetic (Dumoulin & Visin 2016, arXiv 1603.07285; Araujo et al. 2019, Distill, eqs. 2-4):

- convolution and pooling (kernel k, dilation d, stride s, ``left`` voxels of padding before the first):
  offset += stride * ((k - 1) * d / 2 - left);  field += (k - 1) * d * stride;  stride *= s
- transposed convolution: offset += stride * (left - (k - 1) * d / 2) / s;  stride /= s
- interpolation from n to m cells: stride *= n / m, offset += stride * (n / m - 1) / 2 (``align_corners=False``)
- padding and slicing shift the offset by whole cells.

So a convolution of stride 2, kernel 3, padding 1 puts its cells at 0, 2, 4, ..., and one of kernel 2 at 0.5, 2.5, ...:
both differ by half a cell from a grid that only knows its spacing. Behind an operator that is not known, the next one
that works on a grid is taken to have the grid that was there before with as many cells, or else one that spans the
whole input (stride n / m, offset (stride - 1) / 2), and ``exact`` says no.

Tokens
------
Transformers keep their channels on the last axis: (batch, tokens, channel) in a ViT, perhaps with a class token in
front, or (batch, *cells, channel) in a Swin transformer. What a linear layer or a layer norm gives is taken for such a
grid where it has as many cells as the input has patches. A patch is the stride of the patch embedding (a first
convolution whose kernel equals its stride) or a multiple of it; without one it is a cube.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Cells:
    """Position of a feature grid in the input, one number for each spatial axis, in input voxels."""

    stride: tuple[float, ...]
    offset: tuple[float, ...]
    field: tuple[float, ...]
    """Receptive field."""
    exact: bool = True


def spanning(voxels: Sequence[int], cells: Sequence[int]) -> Cells:
    """Cells that share the input evenly: what is assumed where nothing better is known."""
    stride = tuple(n / m for n, m in zip(voxels, cells, strict=True))
    return Cells(stride, tuple((s - 1) / 2 for s in stride), tuple(float(n) for n in voxels), exact=False)


def first_tensor(value):
    """The tensor of a module's output: itself, or the first one in a tuple, list or dict."""
    return next(tensors([value]), None)


def tensors(values) -> Iterator[torch.Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    import torch

    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)
        elif isinstance(value, dict):
            yield from tensors(value.values())


class Trace(NamedTuple):
    """What a tensor of the dry pass knows of itself.

    :ivar cells: of the axes behind batch and channel; None where not known.
    :ivar last: the channels lie on the last axis.
    :ivar mixed: a product of two activations (attention): its axes are no grid.
    :ivar joined: see :class:`MedXAILib.models.layers.Layer`.
    :ivar step: number of the operator that made it.
    :ivar needs: a bit for each operator that it depends on, its own among them.
    """

    cells: Cells | None = None
    last: bool = False
    mixed: bool = False
    joined: bool = False
    step: int = 0
    needs: int = 1


def dry_pass(network: torch.nn.Module, shape: tuple[int, ...], tracer, device: str | None = None) -> Trace | None:
    """A forward pass of zeros in evaluation mode; the network is as it was afterwards.

    :param shape: (batch, channel, *spatial) of the input.
    :param tracer: of :func:`tracing`, for the same shape.
    :param device: ``meta``, or None for where the network is.
    :returns: the trace of the network's output, None where it was lost.
    """
    import torch

    state = [*network.parameters(), *network.buffers()]
    kind = next((t.dtype for t in state if t.is_floating_point()), None)
    x = torch.zeros(shape, dtype=kind, device=device or next((t.device for t in state), None))
    unit = (1.0,) * (len(shape) - 2)
    x._trace = Trace(Cells(unit, (0.0,) * len(unit), unit))
    with untouched(network), torch.no_grad():
        network.eval()
        if device:
            _move(network, device)
        with tracer:
            return getattr(first_tensor(network(x)), "_trace", None)


@contextmanager
def untouched(network: torch.nn.Module) -> Iterator[None]:
    """Puts back every attribute of every module: training flags, parameters, buffers, what a forward pass noted there.

    (``torch.func.functional_call`` leaves other tensors behind in modules that a network holds twice.)
    """
    import torch

    own = [module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)]
    kept = [(module, dict(vars(module))) for module in own]
    state = [(module, dict(module._parameters), dict(module._buffers)) for module, _ in kept]
    try:
        yield
    finally:
        for module, attributes in kept:
            vars(module).clear()
            vars(module).update(attributes)
        for module, parameters, buffers in state:
            for group, tensors_before in ((module._parameters, parameters), (module._buffers, buffers)):
                group.clear()
                group.update(tensors_before)


def _move(network: torch.nn.Module, device: str) -> None:
    """All parameters and buffers to a device, as plain tensors."""
    import torch

    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise NotImplementedError("TorchScript keeps its parameters")
    for module in network.modules():
        for group in (module._parameters, module._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    group[name] = tensor.detach().to(device)


def tracing(shape: tuple[int, ...]):
    """A torch function mode that carries a :class:`Trace` from tensor to tensor, for an input of ``shape``.

    Its ``patch`` is the stride of the patch embedding (None without one), its ``attentions`` the products of attention
    so far, its ``grids`` the cells of every grid seen, by their numbers.
    """
    from torch.overrides import TorchFunctionMode

    class Tracer(TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.patch, self.grids = None, {}
            self.attentions = self.steps = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            # exported programs call torch.ops.aten.conv3d.default
            name = getattr(function, "__name__", "").lstrip("_").split(".")[0]
            output = _shortcut(name, args, kwargs)
            if output is None:
                output = function(*args, **kwargs)
            results = [t for t in tensors([output]) if t.is_floating_point()]
            sources = [t for t in tensors([args, kwargs]) if hasattr(t, "_trace")] if results else []
            if results and not sources and name in SPATIAL:
                sources = self.find_again(first_tensor([args, kwargs]))
            for result in results if sources else ():
                result._trace = self.follow(name, result, sources, args, kwargs)
            return output

        def find_again(self, x) -> list:
            """An operator on grids gets what was lost from sight (in TorchScript): it may need everything before."""
            if x.ndim != len(shape) or x.shape[0] != shape[0]:
                return []
            x._trace = Trace(needs=(2 << self.steps) - 1)
            return [x]

        def follow(self, name, result, sources, args, kwargs) -> Trace:
            """The trace of an operator's result."""
            self.steps += 1
            needs = 1 << self.steps
            for source in sources:
                needs |= source._trace.needs
            product = name in PRODUCTS and len(sources) > 1
            self.attentions += product or name in ATTENTIONS
            trace = Trace(mixed=product)
            if not product:
                with suppress(Exception):  # an operator called in a form that its rule does not know is an unknown one
                    trace = self.place(name, result, sources, args, kwargs)
            if trace.cells and result.ndim == len(shape):
                self.grids[tuple(result.shape[2:])] = trace.cells
            return trace._replace(step=self.steps, needs=needs)

        def place(self, name, result, sources, args, kwargs) -> Trace:
            """Where the cells of a result are."""
            if name == "linear" or (
                name in LAYER_NORMS and len(_argument(args, kwargs, 1, "normalized_shape", ())) == 1
            ):
                return Trace(last=True)
            if name in TURNS:
                return self.turn(sources[0], _order(name, result.ndim, [*args[1:], *kwargs.values()]), result)
            if name in SPATIAL:
                if result.ndim != len(shape):
                    return Trace()
                self.assume(sources[0])
            known = [s for s in sources if s._trace.cells is not None]
            cells = RULES.get(name, _inherit)(result, known, args, kwargs) if known else None
            if cells is not None and name in CONVOLUTIONS and self.patch is None and _tiles(cells):
                self.patch = tuple(int(s) for s in cells.stride)
            if cells is not None or name in SPATIAL:
                return Trace(cells, joined=name in CONCATENATIONS and _joins_skip(result, sources))
            last = _keeps_last(name, result, sources)
            return Trace(last=last, mixed=not last and any(s._trace.mixed for s in sources))

        def turn(self, x, order: list[int], result) -> Trace:
            """Exchanged axes: a grid stays where its axes stay, or its channels go to the end, or come back from there."""
            cells, axes = x._trace.cells, list(range(x.ndim))
            if cells and order[2 - len(shape) :] == axes[2 - len(shape) :]:
                return Trace(cells)
            if cells and order == [0, *axes[2:], 1]:
                return Trace(last=True)
            if x._trace.last and order == [0, axes[-1], *axes[1:-1]] and x.ndim == len(shape):
                return Trace(self.patches(tuple(result.shape[2:])))
            return Trace(mixed=x._trace.mixed)

        def assume(self, x) -> None:
            """An operator on grids shows that ``x``, which was lost sight of, is one."""
            if x._trace.cells is None and x.ndim == len(shape) and x.shape[0] == shape[0]:
                cells = self.grids.get(tuple(x.shape[2:])) or spanning(shape[2:], x.shape[2:])
                x._trace = x._trace._replace(cells=replace(cells, exact=False), last=False, mixed=False)

        def hand_on(self, source, tensor) -> None:
            """At a module's end: what no rule could follow (a function in TorchScript) is known if it kept the shape."""
            if hasattr(tensor, "_trace") or not hasattr(source, "_trace"):
                return
            same = source.shape[2:] == tensor.shape[2:]
            tensor._trace = source._trace if same else Trace(needs=source._trace.needs)

        def grid(self, tensor) -> dict:
            """The fields of a :class:`MedXAILib.models.layers.Layer` that say where the cells of an output are."""
            sizes, trace = tuple(tensor.shape), getattr(tensor, "_trace", None)
            fields = {"shape": sizes[1:], "cells": None}
            if trace is None:
                return fields | {"needs": 0}
            fields |= {"joined": trace.joined, "step": trace.step, "needs": trace.needs}
            if trace.mixed or sizes[:1] != shape[:1]:
                return fields
            ordinary = len(sizes) == len(shape)
            if not trace.last:
                # axes may have been exchanged: only a grid that has been there before is believed
                before = self.grids.get(sizes[2:])
                cells = trace.cells or (before and replace(before, exact=False))
                return fields | {"cells": cells if ordinary else None}
            if ordinary and (cells := self.patches(sizes[1:-1])):
                return fields | {"shape": (sizes[-1], *sizes[1:-1]), "cells": cells, "channels_last": True}
            if len(sizes) == 3 and not ordinary and (grid := self.tokens(sizes[1])):
                leading = sizes[1] - math.prod(grid)
                return fields | {"shape": (sizes[-1], *grid), "cells": self.patches(grid), "tokens": leading}
            return fields

        def tokens(self, number: int) -> tuple[int, ...] | None:
            """The grid that so many tokens are: one that was there before, or patches; a class token may be in front."""
            candidates = [*self.grids, *(grid for _, grid in _patch_grids(shape[2:], self.patch))]
            return next((grid for grid in candidates if 1 < math.prod(grid) in (number, number - 1)), None)

        def patches(self, grid: tuple[int, ...]) -> Cells | None:
            """Cells of a grid of tokens. Attention sees everything; exact where they come from a patch embedding."""
            everything = tuple(map(float, shape[2:]))
            if grid in self.grids:
                return replace(self.grids[grid], field=everything)
            stride = next((stride for stride, cells in _patch_grids(shape[2:], self.patch) if cells == grid), None)
            middle = stride and tuple((s - 1) / 2 for s in stride)
            return stride and Cells(tuple(map(float, stride)), middle, everything, self.patch is not None)

    return Tracer()


@cache
def _patch_grids(size: tuple[int, ...], patch: tuple[int, ...] | None) -> list[tuple]:
    """(stride, cells) of the patches and their multiples, the likeliest first: those that divide the input, then
    those that leave a rest, out or padded to a patch, after halvings."""
    found = []
    for times in range(1, max(size) + 1):
        stride = tuple(times * p for p in patch or (1,) * len(size))
        rest = any(n % s for n, s in zip(size, stride, strict=True))
        for up in (0, 1):
            cells = tuple((n + up * (s - 1)) // s for n, s in zip(size, stride, strict=True))
            if math.prod(cells) > 1:
                found.append((rest, times.bit_count() > 1, times, stride, cells))
    return [entry[3:] for entry in sorted(found)]


def _tiles(cells: Cells) -> bool:
    """Whether these are patches of the input, without gap or overlap, from the first voxel on."""
    middle = tuple((s - 1) / 2 for s in cells.stride)
    return cells.stride == cells.field and cells.offset == middle and max(cells.stride) > 1


def _joins_skip(result, sources) -> bool:
    newest = max(sources, key=lambda s: s._trace.step)
    follows = any(s is not newest and newest._trace.needs >> s._trace.step & 1 for s in sources)
    return follows and 2 * newest.shape[1] >= result.shape[1]


def _keeps_last(name: str, result, sources) -> bool:
    """Channels stay on the last axis, but where a reshape changes something."""
    fitting = [s for s in sources if s._trace.last and s.ndim == result.ndim]
    if name in RESHAPES:
        fitting = [s for s in fitting if s.shape == result.shape]
    return bool(fitting) and name not in SCRAMBLES


def _order(name: str, ndim: int, axes: list) -> list[int]:
    """Which axis of its argument each axis of a permutation's result is."""
    if name == "permute":
        return [a % ndim for a in (axes[0] if isinstance(axes[0], list | tuple) else axes)]
    order = list(range(ndim))
    order[axes[0]], order[axes[1]] = order[axes[1]], order[axes[0]]
    return order


def _inherit(result, sources, args, kwargs) -> Cells | None:
    """Operators without a kernel: the cells of the source with the same grid that sees most."""
    n = len(sources[0]._trace.cells.stride)
    fitting = [s._trace.cells for s in sources if s.shape[-n:] == result.shape[-n:]]
    return max(fitting, key=lambda cells: cells.field, default=None)


def _axis(value, axis: int) -> int:
    if not isinstance(value, list | tuple):
        return value
    return value[axis] if len(value) > 1 else value[0]


def _argument(args, kwargs, place: int, name: str, default):
    value = args[place] if len(args) > place else kwargs.get(name, default)
    return default if value is None else value


def _moved(cells: Cells, kernel, dilation, left, step) -> Cells:
    """One convolution or pooling, axis by axis."""
    rows = list(zip(cells.stride, cells.offset, cells.field, kernel, dilation, left, step, strict=True))
    return replace(
        cells,
        stride=tuple(s * m for s, _, _, _, _, _, m in rows),
        offset=tuple(o + s * ((k - 1) * d / 2 - p) for s, o, _, k, d, p, _ in rows),
        field=tuple(f + (k - 1) * d * s for s, _, f, k, d, _, _ in rows),
    )


def _convolution(result, sources, args, kwargs) -> Cells:
    x, weight = sources[0], _argument(args, kwargs, 1, "weight", None)
    axes = range(weight.ndim - 2)
    kernel = weight.shape[2:]
    step = [_axis(_argument(args, kwargs, 3, "stride", 1), a) for a in axes]
    padding = _argument(args, kwargs, 4, "padding", 0)
    dilation = [_axis(_argument(args, kwargs, 5, "dilation", 1), a) for a in axes]
    if padding == "same":
        left = [(k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True)]
    else:
        left = [0 if padding == "valid" else _axis(padding, a) for a in axes]
    return _moved(x._trace.cells, kernel, dilation, left, step)


def _pooling(dilated: bool):
    def rule(result, sources, args, kwargs) -> Cells:
        x = sources[0]
        axes = range(len(x._trace.cells.stride))
        size = _argument(args, kwargs, 1, "kernel_size", None)
        kernel = [_axis(size, a) for a in axes]
        step = [_axis(_argument(args, kwargs, 2, "stride", size) or size, a) for a in axes]
        left = [_axis(_argument(args, kwargs, 3, "padding", 0), a) for a in axes]
        dilation = [_axis(_argument(args, kwargs, 4, "dilation", 1), a) if dilated else 1 for a in axes]
        return _moved(x._trace.cells, kernel, dilation, left, step)

    return rule


def _transposed(result, sources, args, kwargs) -> Cells:
    x, weight = sources[0], _argument(args, kwargs, 1, "weight", None)
    cells, kernel = x._trace.cells, weight.shape[2:]
    axes = range(len(kernel))
    step = [_axis(_argument(args, kwargs, 3, "stride", 1), a) for a in axes]
    left = [_axis(_argument(args, kwargs, 4, "padding", 0), a) for a in axes]
    dilation = [_axis(_argument(args, kwargs, 7, "dilation", 1), a) for a in axes]
    rows = list(zip(cells.stride, cells.offset, cells.field, kernel, step, left, dilation, strict=True))
    return replace(
        cells,
        stride=tuple(s / m for s, _, _, _, m, _, _ in rows),
        offset=tuple(o + s * (p - (k - 1) * d / 2) / m for s, o, _, k, m, p, d in rows),
        field=tuple(f + s * ((k - 1) * d // m) for s, _, f, k, m, _, d in rows),
    )


def _interpolation(result, sources, args, kwargs) -> Cells:
    x = sources[0]
    cells, corners = x._trace.cells, _argument(args, kwargs, 4, "align_corners", False)
    rows = list(zip(cells.stride, cells.offset, cells.field, x.shape[2:], result.shape[2:], strict=True))
    ratio = [(n - 1) / max(m - 1, 1) if corners else n / m for _, _, _, n, m in rows]
    return replace(
        cells,
        stride=tuple(s * r for (s, *_), r in zip(rows, ratio, strict=True)),
        offset=tuple(o if corners else o + s * (r - 1) / 2 for (s, o, *_), r in zip(rows, ratio, strict=True)),
        field=tuple(f + s for s, _, f, _, _ in rows),
    )


def _adaptive(result, sources, args, kwargs) -> Cells:
    x = sources[0]
    rows = zip(
        x._trace.cells.stride, x._trace.cells.offset, x._trace.cells.field, x.shape[2:], result.shape[2:], strict=True
    )
    rows = [(s, o, f, n / m) for s, o, f, n, m in rows]
    return replace(
        x._trace.cells,
        stride=tuple(s * r for s, _, _, r in rows),
        offset=tuple(o + s * (r - 1) / 2 for s, o, _, r in rows),
        field=tuple(f + s * (r - 1) for s, _, f, r in rows),
        exact=x._trace.cells.exact and all(r == int(r) for *_, r in rows),
    )


def _padding(result, sources, args, kwargs) -> Cells:
    x, cells = sources[0], sources[0]._trace.cells
    pad = list(_argument(args, kwargs, 1, "pad", ()))
    before = [0] * (x.ndim - len(pad) // 2) + pad[::2][::-1]
    before = before[2:]
    return replace(cells, offset=tuple(o - s * p for s, o, p in zip(cells.stride, cells.offset, before, strict=True)))


def _slicing(result, sources, args, kwargs) -> Cells | None:
    x, index = sources[0], args[1] if isinstance(args[1], tuple) else (args[1],)
    if x.ndim != result.ndim or not all(isinstance(part, slice) or part is Ellipsis for part in index):
        return _inherit(result, sources, args, kwargs)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (x.ndim - len(index) + 1), *index[at + 1 :])
    index = (*index, *[slice(None)] * (x.ndim - len(index)))
    ranges = [part.indices(n) for part, n in zip(index, x.shape, strict=True)][2:]
    cells = x._trace.cells
    return replace(
        cells,
        stride=tuple(s * r[2] for s, r in zip(cells.stride, ranges, strict=True)),
        offset=tuple(o + s * r[0] for s, o, r in zip(cells.stride, cells.offset, ranges, strict=True)),
    )


def _unknown(result, sources, args, kwargs) -> None:
    """Operators that may exchange or turn axes."""


CONVOLUTIONS = tuple(f"conv{n}d" for n in (1, 2, 3))
SPATIAL = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    **{f"conv_transpose{n}d": _transposed for n in (1, 2, 3)},
    **{f"max_pool{n}d{tail}": _pooling(True) for n in (1, 2, 3) for tail in ("", "_with_indices")},
    **{f"avg_pool{n}d": _pooling(False) for n in (1, 2, 3)},
    **{f"lp_pool{n}d": _unknown for n in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{n}d": _adaptive for n in (1, 2, 3) for kind in ("avg", "max")},
    **dict.fromkeys(("interpolate", "upsample"), _interpolation),
    **dict.fromkeys(("batch_norm", "instance_norm", "group_norm"), _inherit),
}
"""Operators that work on (batch, channel, *cells) and nothing else."""
TURNS = ("permute", "transpose", "swapaxes", "swapdims")
SCRAMBLES = ("movedim", "moveaxis", "fold", "unfold", "einsum", "get__")  # get__: .T and the like
RULES = {
    **SPATIAL,
    **dict.fromkeys((*SCRAMBLES, "flip", "roll"), _unknown),
    "pad": _padding,
    "getitem__": _slicing,
}
CONCATENATIONS = ("cat", "concat", "concatenate")
RESHAPES = ("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as")
LAYER_NORMS = ("layer_norm", "rms_norm")
PRODUCTS = ("matmul", "matmul__", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention")
"""Of two activations: attention."""
ATTENTIONS = ("multi_head_attention_forward", "native_multi_head_attention")


def _shortcut(name: str, args, kwargs) -> torch.Tensor | None:
    """What common operators give on the meta device; None where torch itself has to say.

    torch's own rules for these are Python: they take most of a dry pass's time, and the first one imports torch's
    compiler (a second).
    """
    if name not in SHAPES or "out" in kwargs:
        return None
    given = list(tensors([args, kwargs]))
    if any(not t.is_meta or t.dtype != given[0].dtype or not t.is_floating_point() for t in given):
        return None
    with suppress(Exception):  # arguments of another form
        shape = SHAPES[name](given, args, kwargs)
        return None if shape is None else given[0].new_empty(shape)
    return None


def _same(given, args, kwargs):
    """Activations and norms: the others hold one number, or one for each channel."""
    x, *others = given
    return x.shape if all(t.numel() in (1, x.shape[1]) for t in others) else None


def _layer_normed(given, args, kwargs):
    shape = tuple(_argument(args, kwargs, 1, "normalized_shape", ()))
    return given[0].shape if tuple(given[0].shape[-len(shape) :]) == shape else None


def _broadcast(given, args, kwargs):
    import torch

    return None if any(isinstance(a, complex) for a in args) else torch.broadcast_shapes(*(t.shape for t in given))


def _concatenated(given, args, kwargs):
    shape, axis = list(given[0].shape), _argument(args, kwargs, 1, "dim", 0)
    shape[axis] = sum(t.shape[axis] for t in given)
    fitting = all(
        n == m or a == axis % len(shape) for t in given for a, (n, m) in enumerate(zip(t.shape, shape, strict=True))
    )
    return shape if fitting else None


def _stacked(given, args, kwargs):
    shape, axis = list(given[0].shape), _argument(args, kwargs, 1, "dim", 0)
    shape.insert(axis % (len(shape) + 1), len(given))
    return shape if len({t.shape for t in given}) == 1 else None


def _pooled(given, args, kwargs):
    x, size = given[0], _argument(args, kwargs, 1, "output_size", None)
    return (*x.shape[:2], *(_axis(size, a) for a in range(x.ndim - 2)))


def _resized(given, args, kwargs):
    x, size, scale = (
        given[0],
        _argument(args, kwargs, 1, "size", None),
        _argument(args, kwargs, 2, "scale_factor", None),
    )
    axes = range(x.ndim - 2)
    if size is not None:
        return (*x.shape[:2], *(_axis(size, a) for a in axes))
    return (*x.shape[:2], *(math.floor(x.shape[a + 2] * _axis(scale, a)) for a in axes))


def _projected(given, args, kwargs):
    x, weight = given[:2]
    return (*x.shape[:-1], len(weight)) if x.shape[-1] == weight.shape[-1] else None


def _averaged(given, args, kwargs):
    x, axes = given[0], _argument(args, kwargs, 1, "dim", None)
    keep = _argument(args, kwargs, 2, "keepdim", False)
    gone = {a % x.ndim for a in (axes if isinstance(axes, tuple | list) else (axes,))}
    return [1 if a in gone else n for a, n in enumerate(x.shape) if keep or a not in gone]


SHAPES = {
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "gelu", "mish", "softplus", "tanh"), _same),
    **dict.fromkeys(("hardtanh", "hardswish", "hardsigmoid", "neg", "roll", "batch_norm", "instance_norm"), _same),
    **dict.fromkeys(("add", "sub", "mul", "div"), _broadcast),
    **dict.fromkeys(CONCATENATIONS, _concatenated),
    **{f"adaptive_avg_pool{n}d": _pooled for n in (1, 2, 3)},
    "group_norm": _same,
    "interpolate": _resized,
    "layer_norm": _layer_normed,
    "linear": _projected,
    "mean": _averaged,
    "stack": _stacked,
}
