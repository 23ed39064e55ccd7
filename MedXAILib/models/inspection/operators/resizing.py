"""Operators that change the size of a grid without weights: interpolation, padding, unpooling, shuffling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ..call import Call
from ..coordinates import sample_line, thin, varies
from ..places import Place, cropped, twice, wider
from .kernels import per_axis

if TYPE_CHECKING:
    import torch


def interpolation(call: Call) -> list[Place]:
    """Up and down by the nearest cell or linearly: along each axis, cell j of m lies at a fraction of the n before."""
    import torch

    (source, place), given = call.placed[0], call.given
    axes = len(call.sizes[0]) - 2
    corners, nearest = given.get("align_corners", False), "nearest" in call.name
    shift = 0.5 if "exact" in call.name else 0.0
    scales = given.get("scale_factors") or [given[k] for k in given if k.startswith("scales")]
    scales = per_axis(scales or [None], axes)
    rows = []
    for a, scale in zip(range(2, 2 + axes), scales, strict=True):
        n, m = source.shape[a], call.sizes[0][a]
        ratio = 1 / scale if scale and scale > 0 else n / m
        rows.append((a, n, m, (n - 1) / max(m - 1, 1) if corners else ratio))

    def even(t: torch.Tensor) -> torch.Tensor:
        for a, _, m, ratio in rows:
            j = torch.arange(m).double()
            t = sample_line(t, a, j * ratio if corners else (j + 0.5) * ratio - 0.5)
        return t

    def exact(t: torch.Tensor) -> torch.Tensor:
        for a, n, m, ratio in rows:
            if nearest:
                t = sample_line(t, a, ((torch.arange(m).double() + shift) * ratio).floor().clamp(0, n - 1))
        return t if nearest else even(t)

    field = wider(place, [(a, 1) for a, *_ in rows])
    return [replace(twice(place, exact, even, field), pooled=0)]


def padded(call: Call) -> list[Place]:
    """A constant around, which comes from nowhere; an even grid goes on. Negative padding crops."""
    import torch

    source, place = call.placed[0]
    pad = call.given["pad"]
    pairs = [(source.ndim - 1 - n // 2, pad[n], pad[n + 1]) for n in range(0, len(pad), 2)]

    def even(t: torch.Tensor) -> torch.Tensor:
        for axis, before, after in pairs:
            t = sample_line(t, axis, torch.arange(-before, source.shape[axis] + after).double())
        return t

    def exact(t: torch.Tensor) -> torch.Tensor:
        for axis, before, after in pairs:
            n = source.shape[axis]
            if before > 0 or after > 0:
                t = t.expand([n if a == axis else size for a, size in enumerate(t.shape)])
            where = torch.arange(-before, n + after)
            if t.shape[axis] > 1:
                outside = ((where < 0) | (where >= n)).reshape([-1 if a == axis else 1 for a in range(t.ndim)])
                t = t.index_select(axis, where.clamp(0, n - 1)).masked_fill(outside, math.nan)
        return thin(t)

    return [cropped(twice(place, exact, even, place.field))]


def mirrored(call: Call) -> list[Place]:
    """Reflected or repeated edges: exactly, the coordinates come back; on an even grid they go on."""
    import torch

    source, place = call.placed[0]
    pad = call.given["padding"]
    pairs = [(source.ndim - 1 - n // 2, pad[n], pad[n + 1]) for n in range(0, len(pad), 2)]

    def exact(t: torch.Tensor) -> torch.Tensor:
        for axis, before, after in pairs:
            n = source.shape[axis]
            at = torch.arange(-before, n + after)
            at = at.clamp(0, n - 1) if "replication" in call.name else (n - 1) - ((n - 1) - at.abs()).abs()
            t = t.index_select(axis, at) if t.shape[axis] > 1 else t
        return t

    def even(t: torch.Tensor) -> torch.Tensor:
        for axis, before, after in pairs:
            t = sample_line(t, axis, torch.arange(-before, source.shape[axis] + after).double())
        return t

    return [twice(place, exact, even, place.field)]


def unpooled(call: Call) -> list[Place]:
    """``max_unpool``: a value goes back to one of the elements of which it was the largest, and each of them keeps its place."""
    import torch

    source, place = call.placed[0]
    (sizes,) = call.sizes
    rows = [(axis, n, m) for axis, (n, m) in enumerate(zip(source.shape, sizes, strict=True)) if n != m]

    def exact(t: torch.Tensor) -> torch.Tensor:
        for axis, n, m in rows:
            t = t.index_select(axis, torch.arange(m) * n // m) if t.shape[axis] > 1 else t
        return t

    def even(t: torch.Tensor) -> torch.Tensor:
        for axis, n, m in rows:
            t = sample_line(t, axis, (torch.arange(m) + 0.5) * n / m - 0.5)
        return t

    return [twice(place, exact, even, place.field)]


def shuffled(call: Call) -> list[Place]:
    """``pixel_shuffle``: channels become finer cells, which see what the coarse ones saw."""
    import torch

    source, place = call.placed[0]
    rows = [(a, call.sizes[0][a], call.given["upscale_factor"]) for a in (-2, -1)]

    def even(t: torch.Tensor) -> torch.Tensor:
        for a, m, r in rows:
            t = sample_line(t, a % t.ndim, (torch.arange(m).double() + 0.5) / r - 0.5)
        return t

    def exact(t: torch.Tensor) -> torch.Tensor:
        return thin(call.again({id(source): t.expand(source.shape)})) if varies(t) else t

    by_channel = any(t.shape[-3] > 1 for t in place.grid)
    return [twice(place, exact, exact if by_channel else even, place.field)]
