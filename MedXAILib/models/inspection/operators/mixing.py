"""Operators that keep elements where they are, join them or average them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..call import Call
from ..coordinates import same, thin, varies
from ..notes import place_of
from ..places import Lines, Place, aligned, averaged, cropped, hidden_in, merge, nowhere, pooled_in, seen_by

if TYPE_CHECKING:
    pass


def pointwise(call: Call) -> list[Place]:
    """Element by element, with broadcasting: where the arguments differ in place, in the middle between them.

    An argument that does not vary along an axis of the input (a gate for each channel) says nothing about that axis.
    """
    result = merge([aligned(place, len(call.sizes[0])) for _, place in call.placed])
    return [result] * len(call.sizes)


def picked(call: Call) -> list[Place]:
    """``where``: what is chosen from. Where constants choose, each element lies where it was chosen from."""
    import torch

    places = [place for name in ("self", "other") if (place := call.place(name)) is not None and not place.nowhere]
    if not places:
        return pointwise(call)
    places = [aligned(place, len(call.sizes[0])) for place in places]
    condition = call.given["condition"]
    one, other = places[0], places[-1]
    if place_of(condition) is not None or condition.is_meta or all(map(same, one.grid, other.grid)):
        return [merge(places)]
    condition = condition.cpu()

    def choose(lines: Lines, others: Lines) -> Lines:
        return tuple(thin(torch.where(condition, a, b)) for a, b in zip(lines, others, strict=True))

    at, grid = choose(one.at, other.at), choose(one.grid, other.grid)
    return [cropped(replace(merge(places), at=at, grid=grid, hidden=hidden_in(places)))]


def reduction(call: Call) -> list[Place]:
    """Sums, means, extremes, ... over some axes."""
    place = call.first
    axes = call.given.get("dim")
    every = range(place.at[0].ndim)
    axes = list(every) if axes is None or axes == [] else [axes] if isinstance(axes, int) else list(axes)
    return [averaged(place, axes, bool(call.given.get("keepdim", False)))] * len(call.sizes)


def normalised(call: Call) -> list[Place]:
    """Norms and softmax: each element stays; statistics that see other places mix them."""
    place = call.first
    if "normalized_shape" in call.given:
        axes = list(range(-len(call.given["normalized_shape"]), 0))
    elif "dim" in call.given:
        axes = [call.given["dim"]]
    else:  # batch norm, by the sample's own statistics or by stored ones; group norm always by its own
        own = call.given.get("training", "momentum" not in call.given)
        axes = list(range(2, place.at[0].ndim)) if own else []
    mixed = any(t.shape[a] > 1 for t in place.grid[1:] for a in axes)
    normed = mixed and "norm" in call.name
    first = replace(place, mixed=place.mixed or mixed, normed=place.normed or normed)
    return [first, *[nowhere(len(s), len(place.at)) for s in call.sizes[1:]]]


def kept(call: Call) -> list[Place]:
    """Each element stays (functions of one argument that torch does not call pointwise)."""
    place = call.first
    return [place if len(s) == place.at[0].ndim else nowhere(len(s), len(place.at)) for s in call.sizes]


def copied(call: Call) -> list[Place]:
    """``copy_``: what was there before is gone."""
    source = call.place("src")
    axes = len(call.sizes[0])
    return [aligned(source, axes) if source else nowhere(axes, len(call.voxels))]


def erased(call: Call) -> list[Place]:
    """A constant fills the tensor."""
    return [nowhere(len(call.sizes[0]), len(call.voxels))]


def as_real(call: Call) -> list[Place]:
    """Complex numbers as pairs: the new axis holds channels."""
    return [call.first.each(lambda t: t.unsqueeze(-1))]


def as_complex(call: Call) -> list[Place]:
    """Pairs as complex numbers."""
    return [averaged(call.first, [-1], keep=False)]


def halved(call: Call) -> list[Place]:
    """Gated linear unit: one half of an axis times the other."""
    place, axis = call.first, call.given["dim"]

    def half(number: int) -> Place:
        return place.each(lambda t: t.chunk(2, axis)[number] if t.shape[axis] > 1 else t)

    return [merge([half(0), half(1)])]


def product(call: Call) -> list[Place]:
    """Matrix products. With one placed factor a linear layer: what is summed over is averaged. With two, attention: a
    row (query) keeps its place and sees everything."""
    names = [n for n in ("self", "input", "mat1", "batch1", "mat2", "batch2", "weight", "vec") if n in call.given]
    one, other = names[-2:]
    found = [(call.place(one), -1), (call.place(other), -1 if other == "weight" else -2)]
    if chosen_rows := _permuted(call, found, (one, other)):
        return [chosen_rows]
    parts = [averaged(p, [axis]) if p.at[0].ndim > 1 else p for p, axis in found if p is not None]
    if not parts:  # the bias alone
        return [nowhere(len(call.sizes[0]), len(call.voxels))]
    if len(parts) == 2:
        first = [varies(a) or not varies(b) for a, b in zip(parts[0].grid, parts[1].grid, strict=True)]
        at, grid = (
            tuple(a if mine else b for a, b, mine in zip(lines, others, first, strict=True))
            for lines, others in ((parts[0].at, parts[1].at), (parts[0].grid, parts[1].grid))
        )
        attended = Place(
            at=at,
            grid=grid,
            field=tuple(map(float, call.voxels)),
            seen=seen_by(parts),
            mixed=True,
            normed=any(p.normed for p in parts),
            hidden=hidden_in(parts),
            pooled=pooled_in(parts),
        )
        return [attended]
    (part,) = parts
    (before,) = [p for p, _ in found if p is not None]
    rows = zip(map(float, call.voxels), before.grid, part.grid, part.field, strict=True)
    everything = [n if varies(a) and not varies(b) else f for n, a, b, f in rows]
    ndim = len(call.sizes[0])
    return [aligned(replace(part, field=tuple(everything)), ndim) if part.at[0].ndim <= ndim else part]


def _permuted(call: Call, found: list[tuple[Place | None, int]], names: tuple[str, str]) -> Place | None:
    """A product with a matrix of which each row (column) picks one element: as an index would."""
    (one, _), (other, axis) = found
    place = one or other
    if place is None or (one is not None and other is not None):
        return None
    along = -1 if one else -2
    matrix = call.given[names[1] if one else names[0]].detach()
    if matrix.is_meta or matrix.ndim not in (2, 3) or not any(t.shape[along] > 1 for t in place.grid if t.ndim > 1):
        return None
    if matrix.ndim == 3:  # the same for each of a batch
        if not bool((matrix == matrix[:1]).all()):
            return None
        matrix = matrix[0]
    rows = matrix.abs().cpu().double()
    rows = rows.T if one and axis == -2 else rows
    strongest = rows.max(1)
    if not bool((strongest.values >= 0.9 * rows.sum(1)).all()) or not bool((strongest.values > 0).all()):
        return None
    return cropped(place.each(lambda t: t.index_select(along, strongest.indices) if t.shape[along] > 1 else t))


def attention(call: Call) -> list[Place]:
    """Fused attention: each query keeps its place and sees everything."""
    query = call.place("query") or call.place("src") or call.first
    place = averaged(query, [-1])
    first = replace(place, field=tuple(map(float, call.voxels)), mixed=True)
    return [first, *[nowhere(len(s), len(call.voxels)) for s in call.sizes[1:]]]


def recurrent(call: Call) -> list[Place]:
    """Recurrent layers: each step keeps its place and sees the others."""
    place = replace(averaged(call.first, [-1]), mixed=True)
    return [place if len(s) == place.at[0].ndim else nowhere(len(s), len(call.voxels)) for s in call.sizes]
