"""What common operators give on torch's meta device.

torch's own rules for these are Python: they would take most of a traced pass, and the first one imports torch's compiler
(seconds). Anything out of the ordinary is left to torch itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    import torch

Given = dict[str, Any]
"""Arguments by the names of the schema."""
Result = Union["torch.Tensor", tuple["torch.Tensor", ...], None]


def result_of(name: str, given: Given) -> Result:
    """The result of an operator, shape and type alone; None where torch has to say.

    :param given: its arguments by the names of the schema, defaults filled in; tensors are on the meta device.
    """
    import torch

    rule = RULES.get(name)
    x = given.get("self", given.get("input"))
    if rule is None or (rule is not _joined and not isinstance(x, torch.Tensor)):
        return None
    return rule(x, given)


def _same(x: torch.Tensor, given: Given) -> torch.Tensor | None:
    """One argument, or others of one number or one for each channel."""
    import torch

    others = [t for t in given.values() if isinstance(t, torch.Tensor) and t is not x]
    fits = all(
        t.numel() == 1 or (x.ndim > 1 and t.numel() == x.shape[1] == t.shape[min(1, t.ndim - 1)]) for t in others
    )
    return x.new_empty(x.shape) if x.is_floating_point() and fits else None


def _soft(x: torch.Tensor, given: Given) -> torch.Tensor | None:
    return None if given.get("half_to_float") else _same(x, given)


def _normed(x: torch.Tensor, given: Given) -> tuple[torch.Tensor, ...] | None:
    """A norm and its statistics, which nobody asks for."""
    import torch

    inner = given.get("normalized_shape")
    wanted = tuple(inner) if inner is not None else x.shape[1:2]
    names = ("weight", "bias", "running_mean", "running_var")
    own = [given[n] for n in names if isinstance(given.get(n), torch.Tensor)]
    fits = inner is None or tuple(x.shape[-len(wanted) :]) == wanted
    if not fits or not x.is_floating_point() or any(tuple(t.shape) != tuple(wanted) for t in own):
        return None
    return x.new_empty(x.shape), x.new_empty(0), x.new_empty(0)


def _broadcast(x: torch.Tensor, given: Given) -> torch.Tensor | None:
    """Two tensors of one type, or one and a number."""
    import torch

    other = given.get("other")
    if not x.is_floating_point() or given.get("rounding_mode"):
        return None
    if isinstance(other, int | float):
        return x.new_empty(x.shape)
    if not isinstance(other, torch.Tensor) or other.dtype != x.dtype:
        return None
    return x.new_empty(torch.broadcast_shapes(x.shape, other.shape))


def _joined(_x: object, given: Given) -> torch.Tensor | None:
    """A concatenation."""
    parts = list(given["tensors"])
    axis = given["dim"]
    shape = list(parts[0].shape)
    shape[axis] = sum(t.shape[axis] for t in parts if t.ndim == len(shape))
    fits = all(
        t.ndim == len(shape)
        and t.dtype == parts[0].dtype
        and all(n == m or a == axis % len(shape) for a, (n, m) in enumerate(zip(t.shape, shape, strict=True)))
        for t in parts
    )
    return parts[0].new_empty(shape) if fits else None


def _averaged(x: torch.Tensor, given: Given) -> torch.Tensor | None:
    axes = given.get("dim")
    if not axes or given.get("dtype") or not x.is_floating_point():
        return None
    gone = {a % x.ndim for a in axes}
    return x.new_empty([1 if a in gone else n for a, n in enumerate(x.shape) if given["keepdim"] or a not in gone])


def _product(x: torch.Tensor, given: Given) -> torch.Tensor | None:
    """Of two matrices, or of two batches of them, with a bias or without."""
    one: torch.Tensor = given["mat1" if "mat1" in given else "self"]
    other: torch.Tensor = given["mat2"]
    fits = one.ndim == other.ndim and one.shape[:-2] == other.shape[:-2] and one.shape[-1] == other.shape[-2]
    alike = x.is_floating_point() and x.dtype == one.dtype == other.dtype
    shape = (*one.shape[:-1], other.shape[-1])
    bias = x.ndim <= len(shape) and all(n in (1, m) for n, m in zip(x.shape[::-1], shape[::-1], strict=False))
    return one.new_empty(shape) if fits and alike and (bias or x is one) else None


def _resized(x: torch.Tensor, given: Given) -> torch.Tensor | None:
    size = given.get("output_size")
    return x.new_empty((*x.shape[:2], *size)) if size and x.is_floating_point() else None


# fmt: off
RULES: dict[str, Callable[[Any, Given], Result]] = {
    **dict.fromkeys((
        "relu", "gelu", "silu", "leaky_relu", "elu", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh", "mish",
        "softplus", "neg", "exp", "sqrt", "rsqrt", "abs", "_prelu_kernel", "clone", "roll", "flip", "square",
    ), _same),
    **dict.fromkeys(("native_batch_norm", "native_layer_norm", "native_group_norm"), _normed),
    **dict.fromkeys(("add", "sub", "mul", "div", "rsub"), _broadcast),
    "cat": _joined,
    "mean": _averaged,
    **dict.fromkeys(("_softmax", "_log_softmax"), _soft),
    **dict.fromkeys((
        "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d",
        "upsample_trilinear3d", "upsample_bicubic2d",
    ), _resized),
    **dict.fromkeys(("mm", "bmm", "addmm"), _product),
}
# fmt: on
