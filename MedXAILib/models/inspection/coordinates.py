"""Arithmetic on coordinates: where the elements of a tensor lie along one axis of the input.

A coordinate is a float64 tensor with as many axes as the tensor whose elements it places, of size 1 along those on which
it does not depend; not a number for what lies nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Middle = Callable[["torch.Tensor", int], "torch.Tensor"]
"""One coordinate for many along an axis: :func:`middle` or :func:`even_middle`."""


def varies(t: torch.Tensor) -> bool:
    """Whether a coordinate depends on any axis."""
    return t.numel() > 1


def thin(t: torch.Tensor) -> torch.Tensor:
    """Size 1 along every axis on which the values do not depend."""

    def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
        return bool(((a == b) | (a.isnan() & b.isnan())).all())

    for axis, (size, stride) in enumerate(zip(t.shape, t.stride(), strict=True)):
        if size > 1:
            first, last = t.narrow(axis, 0, 1), t.narrow(axis, size - 1, 1)
            if stride == 0 or (equal(last, first) and equal(t, first)):  # the ends tell most axes apart at once
                t = first
    return t


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two coordinates are equal."""
    import torch

    return a is b or (a.shape == b.shape and torch.equal(a.nan_to_num(-1e9), b.nan_to_num(-1e9)))


def far_apart(t: torch.Tensor, axis: int, field: float) -> bool:
    """Whether what is joined along an axis lies at different places: mostly with a gap wider than neighbours lie apart twice,
    than each sees, and than a sixth of the whole. (A window of neighbours has none, however wide.)"""
    ordered = t.nan_to_num(math.inf).sort(axis).values  # what lies nowhere at the end
    gap = ordered.diff(dim=axis).nan_to_num(0, posinf=0).amax(axis) if t.shape[axis] > 1 else t.new_zeros(0)
    if not gap.numel():
        return False
    apart = max((pitch(t, other) for other in range(t.ndim) if other != axis), default=0.0)
    return float(gap.median()) > max(2 * apart, field, _span(t, range(t.ndim)) / 6)


def mean_of(lines: list[torch.Tensor], one: Middle) -> tuple[torch.Tensor, float]:
    """The mean of coordinates that broadcast, and how far they lie apart at most but at seams.

    :param middle: see one of the two.
    """
    import torch

    some = [lines[0]]
    some += [line for line in lines[1:] if not any(same(line, other) for other in some)]
    if len(some) == 1:
        return some[0], 0.0
    stack = torch.stack(torch.broadcast_tensors(*some))
    return thin(one(stack, 0)), usual_span(stack, 0)


def usual_span(t: torch.Tensor, axis: int) -> float:
    """How far coordinates lie apart along an axis at most, but at seams."""
    spans, (_, seam) = _spans(t, axis), _at_seams(t, axis)
    return max(float((spans if seam is None else spans[~seam]).max()), 0.0)


def _spans(t: torch.Tensor, axis: int) -> torch.Tensor:
    """How far coordinates lie apart along an axis; minus infinity for none."""
    return t.nan_to_num(-math.inf).amax(axis) - t.nan_to_num(math.inf).amin(axis)


def middle(t: torch.Tensor, axis: int) -> torch.Tensor:
    """The mean of coordinates along an axis; at a seam (of a roll, of a window around the edge) of those on the side of the
    neighbours beside it."""
    import torch

    expected, seam = _at_seams(t, axis)
    if seam is None:
        return t.nanmean(axis)
    off = (t - expected.unsqueeze(axis)).abs()
    mine = off <= off.nan_to_num(math.inf).amin(axis, keepdim=True) + float(_spans(t, axis)[~seam].median()) + 1e-6
    return torch.where(mine | ~seam.unsqueeze(axis), t, math.nan).nanmean(axis)


def even_middle(t: torch.Tensor, axis: int) -> torch.Tensor:
    """The same, but at a seam the coordinate that goes on evenly from beside it."""
    import torch

    expected, seam = _at_seams(t, axis)
    return t.nanmean(axis) if seam is None else torch.where(seam, expected, t.nanmean(axis))


def _at_seams(t: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Where coordinates lie much further apart along an axis than elsewhere, and the mean that goes on there in a straight
    line from the nearest element that is none; None for nowhere."""
    import torch
    from scipy.ndimage import distance_transform_edt

    spans, mean = _spans(t, axis), t.nanmean(axis)
    known = spans[spans.isfinite()]
    if not len(known) or float(known.max() - known.min()) == 0:
        return mean, None
    usual, whole = float(known.median()), _span(t, range(t.ndim))
    apart = max((pitch(mean, other) for other in range(mean.ndim)), default=0.0)
    seam = spans > usual + max(2 * apart, whole / 4)
    if not seam.any():
        return mean, None
    beside = distance_transform_edt((seam | ~spans.isfinite()).numpy(), return_distances=False, return_indices=True)
    beside = torch.from_numpy(beside).long()
    expected = mean[tuple(beside)]
    for other in range(mean.ndim):
        steps = mean.diff(dim=other)[
            ~(seam.narrow(other, 1, seam.shape[other] - 1) | seam.narrow(other, 0, seam.shape[other] - 1))
        ]
        steps = steps[~steps.isnan()]
        if len(steps):
            index = torch.arange(mean.shape[other]).reshape([-1 if a == other else 1 for a in range(mean.ndim)])
            expected = expected + float(steps.median()) * (index - beside[other])
    return expected, seam


def _span(t: torch.Tensor, axes: Sequence[int]) -> float:
    """The greatest distance of coordinates along some axes."""
    high = t.nan_to_num(-math.inf).amax(tuple(axes))
    low = t.nan_to_num(math.inf).amin(tuple(axes))
    return max(float((high - low).max()), 0.0)


def as_one_axis(t: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Some axes as one, the last."""
    return t.movedim(tuple(axes), tuple(range(-len(axes), 0))).flatten(-len(axes))


def pitch(t: torch.Tensor, axis: int) -> float:
    """The usual distance of neighbours along an axis."""
    if t.shape[axis] < 2:
        return 0.0
    steps = t.diff(dim=axis).abs().flatten()
    steps = steps[~steps.isnan()]
    return float(steps.median()) if len(steps) else 0.0


def sample_line(t: torch.Tensor, axis: int, where: torch.Tensor) -> torch.Tensor:
    """Coordinates at fractional indices ``where`` of an axis, linearly, and beyond its ends in a straight line."""
    n = t.shape[axis]
    if n == 1:
        return t
    low = where.floor().clamp(0, n - 2).long()
    a, b = t.index_select(axis, low), t.index_select(axis, low + 1)
    weight = (where - low).reshape([-1 if k == axis else 1 for k in range(t.ndim)])
    a, b = _other_where_none(a, b), _other_where_none(b, a)
    return a + (b - a) * weight


def _other_where_none(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.where(a.isnan(), b, a)


def kernel_mean(t: torch.Tensor, axis: int, taps: torch.Tensor) -> torch.Tensor:
    """The mean of coordinates over the taps of a kernel that do not lie in the padding; where these reach over a seam (of a
    roll, of two pictures side by side), over those on the middle one's side.

    :param taps: (cells, taps) indices along the axis, which may lie outside.
    """
    import torch

    n = t.shape[axis]
    seen = t.index_select(axis, taps.flatten().clamp(0, n - 1)).unflatten(axis, tuple(taps.shape))
    outside = (taps < 0) | (taps >= n)
    if outside.any():
        shape = [1] * seen.ndim
        shape[axis : axis + 2] = taps.shape
        seen = seen.masked_fill(outside.reshape(shape), math.nan)
    middle = seen.nanmedian(axis + 1, keepdim=True).values
    reach = 2 * pitch(t, axis) * float((taps[0] - taps[0, 0]).abs().max() + 1)
    return torch.where((seen - middle).abs() <= reach, seen, torch.nan).nanmean(axis + 1)


def kernel_middle(t: torch.Tensor, axis: int, taps: torch.Tensor) -> torch.Tensor:
    """The coordinate of the middle of a kernel, which may lie in the padding."""
    return sample_line(t, axis, taps.double().mean(1))
