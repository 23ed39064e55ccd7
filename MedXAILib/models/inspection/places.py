"""Where the elements of a tensor lie in the network's input,.

A :class:`Place` holds, for each axis of the input but the batch, the coordinate of every element of a tensor, in voxels
of the input (voxel centres at whole numbers). What moves, reorders, crops or samples space (permute, flip, roll, index,
reshape, window partition, ...) is carried out by torch itself on these coordinates. What mixes neighbours has arithmetic
of its own (Dumoulin & Visin 2016, arXiv 1603.07285; Araujo et al. 2019, Distill, eqs. 2-4): an element lies in the
middle of what it sees, all taps weighing the same. What is neither is not known: its result is ``hidden``.

Each coordinate is kept twice. ``at`` is exact: behind a nearest-neighbour interpolation from 4 to 8 cells two neighbours
lie at the same place. ``grid`` is what one would draw: evenly spaced cells. Both are one tensor until they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from .coordinates import (
    Middle,
    as_one_axis,
    even_middle,
    far_apart,
    mean_of,
    middle,
    pitch,
    same,
    thin,
    usual_span,
    varies,
)

if TYPE_CHECKING:
    import torch

APART = "that joins what lies at different places"
"""Where a place is hidden though each operator is known."""
Lines = tuple["torch.Tensor", ...]
"""One coordinate for each axis of the input."""
Kind = Literal["at", "grid"]
Change = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Place:
    """Where the elements of one tensor lie.

    :ivar at: for each axis of the input but the batch, float64 coordinates of as many axes as the tensor has, of size 1
        along those on which they do not depend; not a number for what lies nowhere (a class token).
    :ivar grid: the same, evenly spaced where interpolation or padding makes ``at`` uneven.
    :ivar field: receptive field along each axis, voxels, through kernels alone.
    :ivar seen: the first and the last voxel along each axis that the network did not crop away.
    :ivar mixed: something on the way sees more than kernels do (attention, statistics of the whole).
    :ivar normed: one of these is a norm, which takes a constant away that is added to the input.
    :ivar hidden: the operator that hides the place ("" for none): the coordinates are a guess then.
    :ivar pooled: number of the operator that pooled to a grid of its own at once, as a pyramid's branches do; 0 for none.
    :ivar joined: see :class:`MedXAILib.models.inspection.layer.Layer`.
    """

    at: Lines
    grid: Lines
    field: tuple[float, ...]
    seen: tuple[tuple[float, float], ...]
    mixed: bool = False
    normed: bool = False
    hidden: str = ""
    pooled: int = 0
    joined: bool = False

    def each(self, change: Change) -> Place:
        """All coordinates changed alike."""
        done: dict[int, torch.Tensor] = {}
        for t in (*self.at, *self.grid):
            if id(t) not in done:
                done[id(t)] = change(t)
        return replace(self, at=tuple(done[id(t)] for t in self.at), grid=tuple(done[id(t)] for t in self.grid))

    def lines(self, kind: Kind) -> Lines:
        """``at`` or ``grid``."""
        return self.at if kind == "at" else self.grid

    @property
    def nowhere(self) -> bool:
        """Whether no axis of the tensor carries a place."""
        return not any(varies(t) for t in self.grid)


def origin(shape: Sequence[int]) -> Place:
    """Of the network's input (batch, channel, *spatial): each voxel lies at its own index."""
    import torch

    lines = []
    for axis, n in enumerate(shape[1:], 1):
        lines.append(torch.arange(n, dtype=torch.float64).reshape([n if a == axis else 1 for a in range(len(shape))]))
    seen = tuple((0.0, n - 1.0) for n in shape[1:])
    return Place(at=tuple(lines), grid=tuple(lines), field=(1.0,) * len(lines), seen=seen)


def nowhere(axes: int, coordinates: int) -> Place:
    """Of a tensor without a place: constants, class tokens."""
    import torch

    nothing = (torch.full((1,) * axes, math.nan, dtype=torch.float64),) * coordinates
    seen = ((math.inf, -math.inf),) * coordinates
    return Place(at=nothing, grid=nothing, field=(0.0,) * coordinates, seen=seen)


def united(places: Sequence[Place]) -> Place:
    """The first of some places with what they have in common."""
    return replace(places[0], mixed=any(p.mixed for p in places), hidden=hidden_in(places))


def pooled_in(places: Sequence[Place]) -> int:
    """``pooled``: a grid of its own, where that is true of all of them."""
    return min((p.pooled for p in places), default=0)


def hidden_in(places: Sequence[Place]) -> str:
    """The first operator that hides any of them; "" for none."""
    return next((p.hidden for p in places if p.hidden), "")


def seen_by(places: Sequence[Place]) -> tuple[tuple[float, float], ...]:
    """What any of them saw."""
    pairs = zip(*[p.seen for p in places], strict=True)
    return tuple((min(low for low, _ in some), max(high for _, high in some)) for some in pairs)


def aligned(place: Place, axes: int) -> Place:
    """With as many axes as the result of broadcasting."""
    return place.each(lambda t: t.reshape((1,) * (axes - t.ndim) + tuple(t.shape)) if t.ndim < axes else t)


def merge(places: Sequence[Place]) -> Place:
    """Of an element made of several: in the middle between them, along each axis of the input on which any of them depends."""
    import torch

    if len(places) == 1 or all(p is places[0] for p in places):
        return places[0]
    at, grid, field, apart = [], [], [], False
    counted: set[int] = set()
    for axis in range(len(places[0].at)):
        some = [p for p in places if varies(p.grid[axis])] or [p for p in places if not p.at[axis].isnan().all()]
        some = some or list(places)
        counted.update(map(id, some))
        centre, spread = mean_of([p.at[axis] for p in some], middle)
        alike = not spread and all(p.grid[axis] is p.at[axis] for p in some)
        even = centre if alike else mean_of([p.grid[axis] for p in some], even_middle)[0]
        at.append(centre)
        grid.append(centre if same(centre, even) else even)
        field.append(max(p.field[axis] for p in some) + spread)
        lines = torch.broadcast_tensors(*[p.grid[axis] for p in some]) if spread else ()
        apart |= axis > 0 and bool(lines) and far_apart(torch.stack(lines), 0, field[-1] - spread)
    counting = [p for p in places if id(p) in counted]
    return Place(
        at=tuple(at),
        grid=tuple(grid),
        field=tuple(field),
        seen=seen_by(counting),
        mixed=any(p.mixed for p in places),
        normed=any(p.normed for p in places),
        hidden=hidden_in([p for p in places if p in counting or not p.nowhere]) or APART * apart,
        pooled=pooled_in(counting),
    )


def together(places: Sequence[Place], at: Lines, grid: Lines) -> Place:
    """Of a tensor whose elements come from several others, and lie at these places now."""
    return Place(
        at=at,
        grid=grid,
        field=tuple(max(fields) for fields in zip(*[p.field for p in places], strict=True)),
        seen=seen_by(places),
        mixed=any(p.mixed for p in places),
        normed=any(p.normed for p in places),
        hidden=hidden_in(places),
        pooled=pooled_in(places),
    )


def written_over(place: Place, part: Place, at: Lines) -> Place:
    """Of a tensor whose part was written over.

    :param at: where the elements of both lie now.
    """
    return cropped(together((place, part), at, at))


def cropped(place: Place) -> Place:
    """What is left to see once elements were taken out."""
    seen = []
    for t, f, (low, high) in zip(place.grid, place.field, place.seen, strict=True):
        known = t[~t.isnan()]
        if len(known):
            low, high = max(low, float(known.min()) - (f - 1) / 2), min(high, float(known.max()) + (f - 1) / 2)
        seen.append((low, high))
    return replace(place, seen=tuple(seen))


def averaged(place: Place, axes: Sequence[int], keep: bool = True) -> Place:
    """The mean over some axes of the tensor; what spread over them is mixed, and lies nowhere if nothing of it is left."""
    axes = sorted({a % place.at[0].ndim for a in axes}) if place.at[0].ndim else []
    if not axes:
        return place
    spans = [usual_span(as_one_axis(t, axes), -1) if any(t.shape[a] > 1 for a in axes) else 0.0 for t in place.grid]

    def mean(t: torch.Tensor, one: Middle) -> torch.Tensor:
        found = one(as_one_axis(t, axes), -1)
        for axis in axes if keep else ():
            found = found.unsqueeze(axis)
        found = thin(found)
        return found * math.nan if varies(t) and not varies(found) else found  # everywhere is nowhere

    field = tuple(f + s for f, s in zip(place.field, spans, strict=True))
    found = twice(place, lambda t: mean(t, middle), lambda t: mean(t, even_middle), field)
    return replace(found, joined=place.joined, mixed=place.mixed or any(s > 0 for s in spans[1:]))


def twice(place: Place, exact: Change, even: Change, field: tuple[float, ...]) -> Place:
    """``at`` and ``grid`` by rules of their own; one tensor where they come out the same."""
    at = tuple(exact(t) for t in place.at)
    grid = tuple(even(t) for t in place.grid)
    grid = tuple(
        a if a.shape == g.shape and a.allclose(g, equal_nan=True) else g for a, g in zip(at, grid, strict=True)
    )
    return replace(place, at=at, grid=grid, field=field, joined=False)


def wider(place: Place, reach: Sequence[tuple[int, float]]) -> tuple[float, ...]:
    """The receptive field after a kernel that reaches so many cells along some axes."""
    field = []
    for t, f in zip(place.grid, place.field, strict=True):
        f += sum(pitch(t, axis) * cells for axis, cells in reach)
        field.append(f)
    return tuple(field)
