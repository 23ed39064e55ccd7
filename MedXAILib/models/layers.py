"""The layers of a network: names, output shapes, and where the cells of their feature grids lie in the input.

Everything here is found in one dry pass on torch's meta device: no voxel is computed.

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
both differ by half a cell from a grid that only knows its spacing. Where an operator is not known, the grid is taken
to span the whole input (stride n / m, offset (stride - 1) / 2) and ``exact`` says no.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch

TRANSPARENT = ("Dropout", "Identity", "Flatten")
"""Modules that are no layer of their own when one is chosen for the user."""


@dataclass(frozen=True)
class Cells:
    """Position of a feature grid in the input, one number for each spatial axis, in input voxels."""

    stride: tuple[float, ...]
    offset: tuple[float, ...]
    field: tuple[float, ...]
    """Receptive field."""
    exact: bool = True


@dataclass(frozen=True)
class Layer:
    """The output of one call of a module.

    :ivar name: as in ``named_modules()``; ``name#1`` is the second call of a module that is called several times.
    :ivar shape: without the batch: (channel, *cells) for a feature grid.
    :ivar cells: None where the output is no feature grid.
    :ivar parameters: whether the module itself holds parameters.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    cells: Cells | None
    parameters: bool
    bytes: int


def inspect(network: torch.nn.Module, shape: Sequence[int]) -> list[Layer]:
    """Every module call of a forward pass, in the order in which they end; none of TorchScript, which takes no hooks.

    :param shape: (batch, channel, *spatial) of the input.
    """

    import torch

    if isinstance(network, torch.jit.ScriptModule):
        return []
    found: list[Layer] = []
    dimensions = len(shape) - 2
    calls: dict[str, int] = {}

    def watch(name: str, module: torch.nn.Module):
        def hook(_module, inputs, output):
            tensor = first_tensor(output)
            if tensor is None:
                return
            source = first_tensor(inputs)
            if not hasattr(tensor, "_cells") and source is not None and source.shape[2:] == tensor.shape[2:]:
                tensor._cells = getattr(source, "_cells", None)
            cells = None
            if tensor.ndim == dimensions + 2:
                cells = getattr(tensor, "_cells", None) or spanning(shape[2:], tensor.shape[2:])
            call = calls[name] = calls.get(name, -1) + 1
            found.append(
                Layer(
                    name if call == 0 else f"{name}#{call}",
                    type(module).__name__,
                    tuple(tensor.shape[1:]),
                    cells,
                    bool(list(module.parameters(recurse=False))),
                    tensor.numel() * tensor.element_size(),
                )
            )

        return hook

    handles = [m.register_forward_hook(watch(n, m)) for n, m in network.named_modules() if n]
    try:
        _dry_pass(network, shape)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _dry_pass(network: torch.nn.Module, shape: Sequence[int]) -> None:
    """A forward pass on the meta device; on zeros where the network cannot run there."""
    import torch

    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    kind = next((t for t in state.values() if t.is_floating_point()), torch.zeros(0))

    def run(device: str | torch.device, tensors: dict) -> None:
        x = torch.zeros(tuple(shape), device=device, dtype=kind.dtype)
        unit = (1.0,) * (len(shape) - 2)
        x._cells = Cells(unit, (0.0,) * len(unit), unit)
        with torch.no_grad(), _positions():
            torch.func.functional_call(network, tensors, (x,))

    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        run("meta", {name: tensor.to("meta") for name, tensor in state.items()})
    except (NotImplementedError, RuntimeError):
        run(kind.device, state)
    finally:
        for module, flag in training.items():
            module.training = flag


def first_tensor(value):
    """The tensor of a module's output: itself, or the first one in a tuple, list or dict."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return next((t for t in map(first_tensor, value) if t is not None), None)
    return None


def spanning(voxels: Sequence[int], cells: Sequence[int]) -> Cells:
    """Cells that share the input evenly: what is assumed where nothing better is known."""
    stride = tuple(n / m for n, m in zip(voxels, cells, strict=True))
    return Cells(stride, tuple((s - 1) / 2 for s in stride), tuple(float(n) for n in voxels), exact=False)


def _positions():
    """A torch function mode that carries :class:`Cells` from tensor to tensor."""
    import torch
    from torch.overrides import TorchFunctionMode

    def tensors(values):
        for value in values:
            if isinstance(value, torch.Tensor):
                yield value
            elif isinstance(value, list | tuple):
                yield from tensors(value)

    class Positions(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            output = function(*args, **kwargs)
            sources = [t for t in tensors([*args, *kwargs.values()]) if getattr(t, "_cells", None) is not None]
            if sources:
                rule = RULES.get(getattr(function, "__name__", "").lstrip("_"), _inherit)
                for result in tensors([output]):
                    if result.is_floating_point() and not any(result is s for s in sources):
                        cells = rule(result, sources, args, kwargs)
                        if cells is not None:
                            result._cells = cells
            return output

    return Positions()


def _inherit(result, sources, args, kwargs) -> Cells | None:
    """Operators without a kernel: the cells of the source that has the result's shape and sees most."""
    fitting = [s for s in sources if s.ndim == result.ndim and s.shape[2:] == result.shape[2:]]
    return max((s._cells for s in fitting), key=lambda cells: cells.field, default=None)


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
    x, weight = _argument(args, kwargs, 0, "input", None), _argument(args, kwargs, 1, "weight", None)
    axes = range(weight.ndim - 2)
    kernel = weight.shape[2:]
    step = [_axis(_argument(args, kwargs, 3, "stride", 1), a) for a in axes]
    padding = _argument(args, kwargs, 4, "padding", 0)
    dilation = [_axis(_argument(args, kwargs, 5, "dilation", 1), a) for a in axes]
    if padding == "same":
        left = [(k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True)]
    else:
        left = [0 if padding == "valid" else _axis(padding, a) for a in axes]
    return _moved(x._cells, kernel, dilation, left, step)


def _pooling(dilated: bool):
    def rule(result, sources, args, kwargs) -> Cells:
        x = sources[0]
        axes = range(len(x._cells.stride))
        size = _argument(args, kwargs, 1, "kernel_size", None)
        kernel = [_axis(size, a) for a in axes]
        step = [_axis(_argument(args, kwargs, 2, "stride", size) or size, a) for a in axes]
        left = [_axis(_argument(args, kwargs, 3, "padding", 0), a) for a in axes]
        dilation = [_axis(_argument(args, kwargs, 4, "dilation", 1), a) if dilated else 1 for a in axes]
        return _moved(x._cells, kernel, dilation, left, step)

    return rule


def _transposed(result, sources, args, kwargs) -> Cells:
    x, weight = _argument(args, kwargs, 0, "input", None), _argument(args, kwargs, 1, "weight", None)
    cells, kernel = x._cells, weight.shape[2:]
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
    cells, corners = x._cells, _argument(args, kwargs, 4, "align_corners", False)
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
    rows = zip(x._cells.stride, x._cells.offset, x._cells.field, x.shape[2:], result.shape[2:], strict=True)
    rows = [(s, o, f, n / m) for s, o, f, n, m in rows]
    return replace(
        x._cells,
        stride=tuple(s * r for s, _, _, r in rows),
        offset=tuple(o + s * (r - 1) / 2 for s, o, _, r in rows),
        field=tuple(f + s * (r - 1) for s, _, f, r in rows),
        exact=x._cells.exact and all(r == int(r) for *_, r in rows),
    )


def _padding(result, sources, args, kwargs) -> Cells:
    x, cells = sources[0], sources[0]._cells
    pad = list(_argument(args, kwargs, 1, "pad", ()))
    before = [0] * (x.ndim - len(pad) // 2) + pad[::2][::-1]
    before = before[2:]
    return replace(cells, offset=tuple(o - s * p for s, o, p in zip(cells.stride, cells.offset, before, strict=True)))


def _slicing(result, sources, args, kwargs) -> Cells | None:
    x, index = args[0], args[1] if isinstance(args[1], tuple) else (args[1],)
    if x.ndim != result.ndim or not all(isinstance(part, slice) or part is Ellipsis for part in index):
        return _inherit(result, sources, args, kwargs)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (x.ndim - len(index) + 1), *index[at + 1 :])
    index = (*index, *[slice(None)] * (x.ndim - len(index)))
    ranges = [part.indices(n) for part, n in zip(index, x.shape, strict=True)][2:]
    cells = x._cells
    return replace(
        cells,
        stride=tuple(s * r[2] for s, r in zip(cells.stride, ranges, strict=True)),
        offset=tuple(o + s * r[0] for s, o, r in zip(cells.stride, cells.offset, ranges, strict=True)),
    )


def _unknown(result, sources, args, kwargs) -> None:
    """Operators that may exchange or turn axes: the grid is taken to span the input from here on."""


RULES = {
    **{f"conv{n}d": _convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed for n in (1, 2, 3)},
    **{f"max_pool{n}d{tail}": _pooling(True) for n in (1, 2, 3) for tail in ("", "_with_indices")},
    **{f"avg_pool{n}d": _pooling(False) for n in (1, 2, 3)},
    **{f"lp_pool{n}d": _unknown for n in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{n}d": _adaptive for n in (1, 2, 3) for kind in ("avg", "max")},
    **dict.fromkeys(("interpolate", "upsample"), _interpolation),
    **dict.fromkeys(("permute", "transpose", "movedim", "flip", "roll", "fold", "unfold", "einsum"), _unknown),
    "pad": _padding,
    "getitem__": _slicing,
}


def grids(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that a CAM can explain: feature grids of more than one cell, before the head.

    The head is the last module with parameters and whatever ends after it.
    """
    last = max((n for n, layer in enumerate(layers) if layer.parameters), default=len(layers))
    return [layer for layer in layers[:last] if layer.cells is not None and count(layer) > 1]


def count(layer: Layer) -> int:
    """Number of cells of a feature grid."""
    cells = 1
    for n in layer.shape[1:]:
        cells *= n
    return cells


def default_layer(layers: Sequence[Layer]) -> tuple[str, str]:
    """(name, why): the last layer of the lowest resolution before the head; where the resolution never falls, the last
    of the widest receptive field.

    :raises InputError: for a network without a feature grid.
    """
    usable = [layer for layer in grids(layers) if not layer.kind.startswith(TRANSPARENT)]
    if not usable:
        raise InputError(
            "This network has no convolutional layer to explain: choose a method that needs none, as lime."
        )
    fewest = min(count(layer) for layer in usable)
    if fewest < max(count(layer) for layer in usable):
        return [layer.name for layer in usable if count(layer) == fewest][-1], "the lowest resolution before the head"
    widest = max(layer.cells.field for layer in usable)
    return [layer.name for layer in usable if layer.cells.field == widest][
        -1
    ], "the widest receptive field before the head"


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
        raise InputError(
            f"The layer '{name}' gives no feature grid (its output has the shape {exact[0].shape}): choose one before it, "
            f"as {', '.join(layer.name for layer in grids(layers)[-3:])}."
        )
    return exact[0]


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
    leaves = [
        layer for n, layer in enumerate(layers) if not any(o.name.startswith(f"{layer.name}.") for o in layers[:n])
    ]
    sizes = [layer.bytes for layer in leaves]
    working = max((sum(sizes[n : n + 3]) for n in range(len(sizes))), default=0)
    names = [layer.name for layer in leaves]
    first = min((n for n, name in enumerate(names) if name in recorded), default=len(sizes))
    return working + 2 * sum(sizes[first:])
