"""Operators whose kernels mix neighbours: convolution and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..call import Call
from ..coordinates import (
    Middle,
    even_middle,
    far_apart,
    kernel_mean,
    kernel_middle,
    middle,
    same,
    sample_line,
    thin,
    usual_span,
)
from ..places import APART, Place, averaged, twice, wider

if TYPE_CHECKING:
    import torch


class Kernel(NamedTuple):
    """Along one axis: its taps, the step, the padding before the first cell, the dilation, and the cells of the result."""

    taps: int
    step: int
    left: int
    dilation: int
    cells: int


Channels = Callable[["torch.Tensor", Middle], "torch.Tensor"]
"""Changes coordinates that depend on the channel, as a convolution mixes channels."""


def convolved(place: Place, kernels: Sequence[Kernel], channels: Channels | None) -> Place:
    """One convolution or pooling over the last axes.

    :param channels: what happens to coordinates that depend on the channel; None: nothing.
    """
    import torch

    first = place.at[0].ndim - len(kernels)
    taps = [torch.arange(k.cells)[:, None] * k.step - k.left + torch.arange(k.taps)[None] * k.dilation for k in kernels]
    field = wider(place, [(first + a, (k.taps - 1) * k.dilation) for a, k in enumerate(kernels)])

    def by(
        rule: Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor], one: Middle
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        def change(t: torch.Tensor) -> torch.Tensor:
            before = t
            for a, some in enumerate(taps):
                if t.shape[first + a] > 1:
                    t = rule(t, first + a, some)
            t = before if same(before, t) else t
            return channels(t, one) if channels else t

        return change

    return twice(place, by(kernel_mean, middle), by(kernel_middle, even_middle), field)


def _grouped(groups: int, results: int) -> Channels:
    """Coordinates that depend on the channel, behind a convolution of ``groups``: the middle of each group."""

    def change(t: torch.Tensor, one: Middle) -> torch.Tensor:
        if t.shape[1] == 1:
            return t
        t = one(t.unflatten(1, (groups, -1)), 2)
        return thin(t.repeat_interleave(results // groups, 1))

    return change


def _channels_apart(t: torch.Tensor, groups: int, field: float) -> bool:
    """Whether channels that a convolution of ``groups`` mixes lie at different places."""
    return t.shape[1] > groups and far_apart(t.unflatten(1, (groups, -1)), 2, field)


def per_axis(value: Any, axes: int) -> list[Any]:
    """An argument that is given once for all axes, or once for each."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * axes if len(values) == 1 else values


def _kernels(*columns: Iterable[int]) -> list[Kernel]:
    return [Kernel(*row) for row in zip(*columns, strict=True)]


def convolution(call: Call) -> list[Place]:
    """Convolutions, transposed ones too."""
    x, given = call.place("input"), call.given
    if x is None:
        raise NotImplementedError
    weight = given["weight"]
    axes = weight.ndim - 2
    step, left, dilation = (per_axis(given[n], axes) for n in ("stride", "padding", "dilation"))
    kernels = _kernels(weight.shape[2:], step, left, dilation, call.sizes[0][-axes:])
    groups = given["groups"]
    mixer = _grouped(groups, call.sizes[0][1])
    if any(_channels_apart(t, groups, f) for t, f in zip(x.grid[1:], x.field[1:], strict=True)):
        x = replace(x, hidden=x.hidden or APART)
    wide = [usual_span(t.unflatten(1, (groups, -1)), 2) if t.shape[1] > groups else 0.0 for t in x.grid]
    x = replace(x, field=tuple(f + s for f, s in zip(x.field, (0.0, *wide[1:]), strict=True)))
    if given["transposed"]:
        return [_transposed(x, kernels, mixer)]
    return [convolved(x, kernels, mixer)]


def _transposed(place: Place, kernels: Sequence[Kernel], channels: Channels) -> Place:
    """Result j sees cell i where j = i * step - left + tap * dilation for a tap of the kernel."""
    import torch

    first = place.at[0].ndim - len(kernels)
    reach = [(first + a, (k.taps - 1) * k.dilation // k.step) for a, k in enumerate(kernels)]

    def exact(t: torch.Tensor) -> torch.Tensor:
        for a, (k, s, p, d, n) in enumerate(kernels):
            if t.shape[first + a] > 1:
                source = torch.arange(n)[:, None] + p - torch.arange(k)[None] * d
                none = (source % s != 0) | (source < 0) | (source >= t.shape[first + a] * s)
                found = t.index_select(first + a, (source // s).clamp(0, t.shape[first + a] - 1).flatten())
                shape = [1] * (t.ndim + 1)
                shape[first + a : first + a + 2] = n, k
                found = found.unflatten(first + a, (n, k)).masked_fill(none.reshape(shape), math.nan)
                t = found.nanmean(first + a + 1)
        return channels(t, middle)

    def even(t: torch.Tensor) -> torch.Tensor:
        for a, (k, s, p, d, n) in enumerate(kernels):
            t = sample_line(t, first + a, (torch.arange(n) + p - (k - 1) * d / 2).double() / s)
        return channels(t, even_middle)

    return twice(place, exact, even, wider(place, reach))


def pooling(call: Call) -> list[Place]:
    """Pooling with a kernel."""
    place, given = call.first, call.given
    axes = int(call.name.partition("pool")[2][0])
    kernel, left = per_axis(given["kernel_size"], axes), per_axis(given["padding"], axes)
    step = per_axis(given["stride"] or kernel, axes)
    dilation = per_axis(given.get("dilation", 1), axes)
    found = convolved(place, _kernels(kernel, step, left, dilation, call.sizes[0][-axes:]), None)
    return [replace(found, pooled=place.pooled or (max(step) >= 4) * call.step)] * len(call.sizes)


def adaptive(call: Call) -> list[Place]:
    """Adaptive pooling from n to m cells: bin j goes from floor(j n / m) to ceil((j + 1) n / m)."""
    import torch

    source, place = call.placed[0]
    axes = range(place.at[0].ndim - len(call.given["output_size"]), place.at[0].ndim)
    pairs = [(a, source.shape[a], call.sizes[0][a]) for a in axes]

    def exact(t: torch.Tensor) -> torch.Tensor:
        for a, n, m in pairs:
            if t.shape[a] > 1:
                bins = [range(j * n // m, -(-(j + 1) * n // m)) for j in range(m)]
                t = torch.cat([t[(slice(None),) * a + (slice(b.start, b.stop),)].nanmean(a, True) for b in bins], a)
        return t

    def even(t: torch.Tensor) -> torch.Tensor:
        for a, n, m in pairs:
            t = sample_line(t, a, (torch.arange(m).double() + 0.5) * n / m - 0.5)
        return t

    whole = [a for a, n, m in pairs if m == 1 < n]
    place, pairs = averaged(place, whole), [pair for pair in pairs if pair[0] not in whole]
    found = twice(place, exact, even, wider(place, [(a, n / m - 1) for a, n, m in pairs]))
    changed = any(n != m for _, n, m in pairs)
    return [replace(found, pooled=place.pooled or changed * call.step)] * len(call.sizes)
