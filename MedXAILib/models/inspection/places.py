"""Where the elements of a tensor lie in the network's input, operator by operator.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


APART = "that joins what lies at different places"
"""Where a place is hidden though each operator is known."""


class Unseen(Exception):
    """The values of an index would have to be known, and the pass computes shapes alone."""


@dataclass(frozen=True, eq=False)
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
    :ivar joined: see :class:`MedXAILib.models.layers.Layer`.
    """

    at: tuple[torch.Tensor, ...]
    grid: tuple[torch.Tensor, ...]
    field: tuple[float, ...]
    seen: tuple[tuple[float, float], ...]
    mixed: bool = False
    normed: bool = False
    hidden: str = ""
    pooled: int = 0
    joined: bool = False

    def each(self, change: Callable[[torch.Tensor], torch.Tensor], **more) -> Place:
        """All coordinates changed alike."""
        done: dict[int, torch.Tensor] = {}
        for t in (*self.at, *self.grid):
            if id(t) not in done:
                done[id(t)] = change(t)
        return replace(self, at=tuple(done[id(t)] for t in self.at), grid=tuple(done[id(t)] for t in self.grid), **more)

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
    return Place(tuple(lines), tuple(lines), (1.0,) * len(lines), tuple((0.0, n - 1.0) for n in shape[1:]))


def nowhere(axes: int, coordinates: int) -> Place:
    """Of a tensor without a place: constants, class tokens."""
    import torch

    nothing = (torch.full((1,) * axes, math.nan, dtype=torch.float64),) * coordinates
    return Place(nothing, nothing, (0.0,) * coordinates, ((math.inf, -math.inf),) * coordinates)


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
    import torch

    return a is b or (a.shape == b.shape and torch.equal(a.nan_to_num(-1e9), b.nan_to_num(-1e9)))


@dataclass(eq=False)
class Call:
    """One call of an operator.

    :ivar name: without its namespace and overload.
    :ivar given: arguments by the names of the schema, defaults filled in.
    :ivar again: calls the operator with other tensors in place of some: ``again({id(tensor): other})``.
    :ivar sizes: of each result.
    :ivar voxels: size of the input (channel, *spatial).
    :ivar step: its number.
    """

    name: str
    given: dict[str, Any]
    again: Callable[[dict[int, Any]], Any]
    sizes: list[tuple[int, ...]]
    voxels: tuple[int, ...]
    step: int

    def place(self, name: str) -> Place | None:
        return getattr(self.given[name], "_place", None)

    @property
    def placed(self) -> list[torch.Tensor]:
        """The arguments that have a place."""
        return [t for t in tensors(self.given.values()) if hasattr(t, "_place")]


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


# --- what keeps, joins or averages places -------------------------------------------------------------------------------


def _united(places: Sequence[Place], **more) -> Place:
    """The first of some places with what they have in common."""
    return replace(places[0], mixed=any(p.mixed for p in places), hidden=_hidden(places), **more)


def _pooled(places: Sequence[Place]) -> int:
    """A grid of its own, where that is true of all of them."""
    return min((p.pooled for p in places), default=0)


def _hidden(places: Sequence[Place]) -> str:
    return next((p.hidden for p in places if p.hidden), "")


def pointwise(call: Call) -> list[Place]:
    """Element by element, with broadcasting: where the arguments differ in place, in the middle between them.

    An argument that does not vary along an axis of the input (a gate for each channel) says nothing about that axis.
    """
    sources = call.placed
    result = merge([_aligned(t._place, len(call.sizes[0])) for t in sources])
    return [result] * len(call.sizes)


def picked(call: Call) -> list[Place]:
    """``where``: what is chosen from. Where constants choose, each element lies where it was chosen from."""
    import torch

    places = [place for name in ("self", "other") if (place := call.place(name)) is not None and not place.nowhere]
    if not places:
        return pointwise(call)
    places = [_aligned(place, len(call.sizes[0])) for place in places]
    condition = call.given["condition"]
    one, other = places[0], places[-1]
    if hasattr(condition, "_place") or condition.is_meta or all(map(same, one.grid, other.grid)):
        return [merge(places)]
    condition = condition.cpu()
    at, grid = (
        tuple(thin(torch.where(condition, a, b)) for a, b in zip(*lines, strict=True))
        for lines in ((one.at, other.at), (one.grid, other.grid))
    )
    return [_cropped(replace(merge(places), at=at, grid=grid, hidden=_hidden(places)))]


def _aligned(place: Place, axes: int) -> Place:
    """With as many axes as the result of broadcasting."""
    return place.each(lambda t: t.reshape((1,) * (axes - t.ndim) + tuple(t.shape)) if t.ndim < axes else t)


def merge(places: Sequence[Place]) -> Place:
    import torch

    if len(places) == 1 or all(p is places[0] for p in places):
        return places[0]
    at, grid, field, counted, apart = [], [], [], set(), False
    for axis in range(len(places[0].at)):
        some = [p for p in places if varies(p.grid[axis])] or [p for p in places if not p.at[axis].isnan().all()]
        some = some or list(places)
        counted.update(map(id, some))
        middle, spread = _mean([p.at[axis] for p in some], _middle)
        alike = not spread and all(p.grid[axis] is p.at[axis] for p in some)
        even = middle if alike else _mean([p.grid[axis] for p in some], _even_middle)[0]
        at.append(middle)
        grid.append(middle if same(middle, even) else even)
        field.append(max(p.field[axis] for p in some) + spread)
        lines = torch.broadcast_tensors(*[p.grid[axis] for p in some]) if spread else ()
        apart |= axis > 0 and bool(lines) and far_apart(torch.stack(lines), 0, field[-1] - spread)
    counting = [p for p in places if id(p) in counted]
    return Place(
        tuple(at),
        tuple(grid),
        tuple(field),
        _seen(counting),
        mixed=any(p.mixed for p in places),
        normed=any(p.normed for p in places),
        hidden=_hidden([p for p in places if p in counting or not p.nowhere]) or APART * apart,
        pooled=_pooled(counting),
    )


def far_apart(t: torch.Tensor, axis: int, field: float) -> bool:
    """Whether what is joined along an axis lies at different places: mostly with a gap wider than neighbours lie apart twice,
    than each sees, and than a sixth of the whole. (A window of neighbours has none, however wide.)"""
    ordered = t.nan_to_num(math.inf).sort(axis).values  # what lies nowhere at the end
    gap = ordered.diff(dim=axis).nan_to_num(0, posinf=0).amax(axis) if t.shape[axis] > 1 else t.new_zeros(0)
    if not gap.numel():
        return False
    pitch = max((_pitch(t, other) for other in range(t.ndim) if other != axis), default=0.0)
    return float(gap.median()) > max(2 * pitch, field, _span(t, range(t.ndim)) / 6)


def _seen(places: Sequence[Place]) -> tuple[tuple[float, float], ...]:
    """What any of them saw."""
    pairs = zip(*[p.seen for p in places], strict=True)
    return tuple((min(low for low, _ in some), max(high for _, high in some)) for some in pairs)


def written_over(place: Place, part: Place, at: tuple[torch.Tensor, ...]) -> Place:
    """Of a tensor whose part was written over.

    :param at: where the elements of both lie now.
    """
    both = place, part
    return _cropped(
        Place(
            at,
            at,
            tuple(map(max, place.field, part.field)),
            _seen(both),
            mixed=any(p.mixed for p in both),
            normed=any(p.normed for p in both),
            hidden=_hidden(both),
            pooled=_pooled(both),
        )
    )


def _cropped(place: Place) -> Place:
    """What is left to see once elements were taken out."""
    seen = []
    for t, f, (low, high) in zip(place.grid, place.field, place.seen, strict=True):
        known = t[~t.isnan()]
        if len(known):
            low, high = max(low, float(known.min()) - (f - 1) / 2), min(high, float(known.max()) + (f - 1) / 2)
        seen.append((low, high))
    return replace(place, seen=tuple(seen))


def _mean(lines: list[torch.Tensor], middle: Callable) -> tuple[torch.Tensor, float]:
    """The mean of coordinates that broadcast, and how far they lie apart at most but at seams.

    :param middle: see :func:`_middle`.
    """
    import torch

    some = [lines[0]]
    some += [line for line in lines[1:] if not any(same(line, other) for other in some)]
    if len(some) == 1:
        return some[0], 0.0
    stack = torch.stack(torch.broadcast_tensors(*some))
    return thin(middle(stack, 0)), _usual_span(stack, 0)


def _usual_span(t: torch.Tensor, axis: int) -> float:
    """How far coordinates lie apart along an axis at most, but at seams."""
    spans, (_, seam) = _spans(t, axis), _at_seams(t, axis)
    return max(float((spans if seam is None else spans[~seam]).max()), 0.0)


def _spans(t: torch.Tensor, axis: int) -> torch.Tensor:
    """How far coordinates lie apart along an axis; minus infinity for none."""
    return t.nan_to_num(-math.inf).amax(axis) - t.nan_to_num(math.inf).amin(axis)


def _middle(t: torch.Tensor, axis: int) -> torch.Tensor:
    """The mean of coordinates along an axis; at a seam (of a roll, of a window around the edge) of those on the side of the
    neighbours beside it."""
    import torch

    expected, seam = _at_seams(t, axis)
    if seam is None:
        return t.nanmean(axis)
    off = (t - expected.unsqueeze(axis)).abs()
    mine = off <= off.nan_to_num(math.inf).amin(axis, keepdim=True) + float(_spans(t, axis)[~seam].median()) + 1e-6
    return torch.where(mine | ~seam.unsqueeze(axis), t, math.nan).nanmean(axis)


def _even_middle(t: torch.Tensor, axis: int) -> torch.Tensor:
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
    pitch = max((_pitch(mean, other) for other in range(mean.ndim)), default=0.0)
    seam = spans > usual + max(2 * pitch, whole / 4)
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


def averaged(place: Place, axes: Sequence[int], keep: bool = True) -> Place:
    """The mean over some axes of the tensor; what spread over them is mixed, and lies nowhere if nothing of it is left."""
    axes = sorted({a % place.at[0].ndim for a in axes}) if place.at[0].ndim else []
    if not axes:
        return place
    spans = [_usual_span(_together(t, axes), -1) if any(t.shape[a] > 1 for a in axes) else 0.0 for t in place.grid]

    def mean(t, middle):
        found = middle(_together(t, axes), -1)
        for axis in axes if keep else ():
            found = found.unsqueeze(axis)
        found = thin(found)
        return found * math.nan if varies(t) and not varies(found) else found  # everywhere is nowhere

    field = tuple(f + s for f, s in zip(place.field, spans, strict=True))
    found = _twice(place, lambda t: mean(t, _middle), lambda t: mean(t, _even_middle), field)
    return replace(found, joined=place.joined, mixed=place.mixed or any(s > 0 for s in spans[1:]))


def _together(t: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Some axes as one, the last."""
    return t.movedim(tuple(axes), tuple(range(-len(axes), 0))).flatten(-len(axes))


def reduction(call: Call) -> list[Place]:
    """Sums, means, extremes, ... over some axes."""
    place = call.placed[0]._place
    axes = call.given.get("dim")
    every = range(place.at[0].ndim)
    axes = list(every) if axes is None or axes == [] else [axes] if isinstance(axes, int) else list(axes)
    return [averaged(place, axes, bool(call.given.get("keepdim", False)))] * len(call.sizes)


def normalised(call: Call) -> list[Place]:
    """Norms and softmax: each element stays; statistics that see other places mix them."""
    place = call.placed[0]._place
    if "normalized_shape" in call.given:
        axes = range(-len(call.given["normalized_shape"]), 0)
    elif "dim" in call.given:
        axes = [call.given["dim"]]
    else:  # batch norm, by the sample's own statistics or by stored ones; group norm always by its own
        own = call.given.get("training", "momentum" not in call.given)
        axes = range(2, place.at[0].ndim) if own else []
    mixed = any(t.shape[a] > 1 for t in place.grid[1:] for a in axes)
    normed = mixed and "norm" in call.name
    first = replace(place, mixed=place.mixed or mixed, normed=place.normed or normed)
    return [first, *[nowhere(len(s), len(place.at)) for s in call.sizes[1:]]]


def kept(call: Call) -> list[Place]:
    """Each element stays (functions of one argument that torch does not call pointwise)."""
    place = call.placed[0]._place
    return [place if len(s) == place.at[0].ndim else nowhere(len(s), len(place.at)) for s in call.sizes]


def copied(call: Call) -> list[Place]:
    """``copy_``: what was there before is gone."""
    source = call.place("src")
    axes = len(call.sizes[0])
    return [_aligned(source, axes) if source else nowhere(axes, len(call.voxels))]


def erased(call: Call) -> list[Place]:
    """A constant fills the tensor."""
    return [nowhere(len(call.sizes[0]), len(call.voxels))]


def as_real(call: Call) -> list[Place]:
    """Complex numbers as pairs: the new axis holds channels."""
    return [call.placed[0]._place.each(lambda t: t.unsqueeze(-1))]


def as_complex(call: Call) -> list[Place]:
    """Pairs as complex numbers."""
    return [averaged(call.placed[0]._place, [-1], keep=False)]


def halved(call: Call) -> list[Place]:
    """Gated linear unit: one half of an axis times the other."""
    place, axis = call.placed[0]._place, call.given["dim"]
    parts = [place.each(lambda t, n=n: t.chunk(2, axis)[n] if t.shape[axis] > 1 else t) for n in (0, 1)]
    return [merge(parts)]


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
        lines = [
            tuple(a if mine else b for a, b, mine in zip(*pair, first, strict=True))
            for pair in ((parts[0].at, parts[1].at), (parts[0].grid, parts[1].grid))
        ]
        field = tuple(map(float, call.voxels))
        normed = any(p.normed for p in parts)
        return [Place(*lines, field, _seen(parts), True, normed, _hidden(parts), _pooled(parts))]
    (part,) = parts
    everything = [n if varies(a) and not varies(b) else f for n, a, b, f in _lost(call, found, part)]
    ndim = len(call.sizes[0])
    return [_aligned(replace(part, field=tuple(everything)), ndim) if part.at[0].ndim <= ndim else part]


def _permuted(call: Call, found, names: tuple[str, str]) -> Place | None:
    """A product with a matrix of which each row (column) picks one element: as an index would."""

    (one, _), (other, axis) = found
    if (one is None) == (other is None):
        return None
    place = one or other
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
    return _cropped(place.each(lambda t: t.index_select(along, strongest.indices) if t.shape[along] > 1 else t))


def _lost(call: Call, found, part: Place):
    before = next(p for p, _ in found if p is not None)
    return zip(map(float, call.voxels), before.grid, part.grid, part.field, strict=True)


def attention(call: Call) -> list[Place]:
    """Fused attention: each query keeps its place and sees everything."""
    query = call.place("query") or call.place("src") or call.placed[0]._place
    place = averaged(query, [-1])
    first = replace(place, field=tuple(map(float, call.voxels)), mixed=True)
    return [first, *[nowhere(len(s), len(call.voxels)) for s in call.sizes[1:]]]


def recurrent(call: Call) -> list[Place]:
    """Recurrent layers: each step keeps its place and sees the others."""
    place = replace(averaged(call.placed[0]._place, [-1]), mixed=True)
    return [place if len(s) == place.at[0].ndim else nowhere(len(s), len(call.voxels)) for s in call.sizes]


# --- what moves: torch itself, on the coordinates -----------------------------------------------------------------------


def moved(call: Call) -> list[Place]:
    """Any operator that puts elements elsewhere."""
    return _replayed(call, lambda t, sizes: t.expand(sizes))


def moved_whole_axes(call: Call) -> list[Place]:
    """Flips and rolls: along an axis on which a coordinate does not depend they change nothing."""
    return _replayed(call, lambda t, sizes: t)


def _replayed(call: Call, prepared: Callable) -> list[Place]:
    sources = call.placed
    count = len(sources[0]._place.at)
    places = {id(t): t._place for t in sources}

    def coordinate(kind: str, axis: int) -> list[torch.Tensor]:
        import torch

        swapped = {}
        for t in _floats(call):
            place = places.get(id(t))
            line = getattr(place, kind)[axis] if place else torch.full((1,) * t.ndim, math.nan, dtype=torch.float64)
            swapped[id(t)] = prepared(line, t.shape)
        return [thin(t) for t in tensors([call.again(swapped)])]

    at = [coordinate("at", axis) for axis in range(count)]
    grid = [
        at[axis] if all(p.grid[axis] is p.at[axis] for p in places.values()) else coordinate("grid", axis)
        for axis in range(count)
    ]
    field = tuple(max(p.field[axis] for p in places.values()) for axis in range(count))
    more = {"pooled": _pooled(list(places.values())), "hidden": _hidden(list(places.values()))}
    seen = _seen(list(places.values()))
    more |= {name: any(getattr(p, name) for p in places.values()) for name in ("mixed", "normed")}
    return [
        _cropped(Place(tuple(a[n] for a in at), tuple(g[n] for g in grid), field, seen, **more))
        for n in range(len(call.sizes))
    ]


def _floats(call: Call) -> list[torch.Tensor]:
    """The tensors that are moved, not those that say whereto."""
    return [t for name, value in call.given.items() if name not in INDICES for t in tensors([value])]


def added(call: Call) -> list[Place]:
    """Sums into places of their own: each lies where the one lies that was added there.

    :raises NotImplementedError: where several were.
    """
    import torch

    places = {id(t): t._place for t in call.placed}

    def sums(line: Callable[[Place], torch.Tensor]) -> torch.Tensor:
        nothing = torch.zeros((), dtype=torch.float64)
        return call.again(
            {
                id(t): (line(places[id(t)]) if id(t) in places else nothing).nan_to_num(0).expand(t.shape)
                for t in _floats(call)
            }
        )

    def replay(kind: str, axis: int) -> torch.Tensor:
        count = sums(lambda place: (~getattr(place, kind)[axis].isnan()).double())
        if bool((count > 1).any()):
            raise NotImplementedError
        return thin(sums(lambda place: getattr(place, kind)[axis]) / count)  # 0 / 0 is not a number

    axes = range(len(call.voxels))
    at, grid = tuple(replay("at", a) for a in axes), tuple(replay("grid", a) for a in axes)
    return [_cropped(replace(_united(list(places.values())), at=at, grid=grid, joined=False))]


INDICES = ("indices", "index", "mask", "grid", "repeats", "condition")


def reshaped(call: Call) -> list[Place]:
    """Axes merged and parted. Group by group, so that what does not vary stays small."""
    (source,) = call.placed[:1]
    return [source._place.each(lambda t: _reshape(t, tuple(source.shape), call.sizes[0]))]


def _reshape(t: torch.Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> torch.Tensor:
    if not varies(t):
        return t.reshape((1,) * len(new))
    wide, narrow = [], []
    for some, others in _groups(old, new):
        alive = any(t.shape[a] > 1 for a in some)
        wide += [old[a] if alive else 1 for a in some]
        narrow += [new[a] if alive else 1 for a in others]
    return thin(t.expand(wide).reshape(narrow))


def _groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes that hold as many elements before as after."""
    a = b = 0
    while a < len(old) or b < len(new):
        some, others, left, right = [], [], 1, 1
        while True:
            if left <= right and a < len(old) and (left < right or not some):
                left, some, a = left * old[a], [*some, a], a + 1
            elif right < left and b < len(new) or (not others and b < len(new)):
                right, others, b = right * new[b], [*others, b], b + 1
            else:
                break
        while a < len(old) and old[a] == 1 and b == len(new):
            some, a = [*some, a], a + 1
        while b < len(new) and new[b] == 1 and a == len(old):
            others, b = [*others, b], b + 1
        yield some, others


def indexed(call: Call) -> list[Place]:
    """``x[..., index, ...]``: the axes that are not indexed stay small."""
    (source, *_) = call.placed
    touched = [n for n, index in enumerate(call.given["indices"]) if index is not None]
    wide = [n for start in touched for n in range(start, start + max(1, _span_of(call, start)))]
    return _replayed(call, lambda t, s: t.expand([s[a] if a in wide else t.shape[a] for a in range(t.ndim)]))


def _span_of(call: Call, start: int) -> int:
    """A mask of several axes takes as many."""
    import torch

    index = call.given["indices"][start]
    return index.ndim if index.dtype in (torch.bool, torch.uint8) else 1


def concatenated(call: Call) -> list[Place]:
    """Along an axis: what has no place (a class token) lies nowhere."""
    import torch

    parts = call.given["tensors"]
    axis = call.given["dim"] % len(call.sizes[0])
    placed = [t for t in parts if hasattr(t, "_place") and t.numel()]
    parts = [t for t in parts if t.numel()]
    empty = nowhere(len(call.sizes[0]), len(call.voxels))
    places = [getattr(t, "_place", empty) for t in parts]

    def joined(lines: list[torch.Tensor]) -> torch.Tensor:
        if all(same(line, lines[0]) and line.shape[axis] == 1 for line in lines):
            return lines[0]
        common = [max(line.shape[a] for line in lines) for a in range(len(call.sizes[0]))]
        wide = [
            line.expand([t.shape[a] if a == axis else n for a, n in enumerate(common)])
            for line, t in zip(lines, parts, strict=True)
        ]
        return thin(torch.cat(wide, axis))

    at = [joined([p.at[c] for p in places]) for c in range(len(call.voxels))]
    grid = [
        at[c] if all(p.grid[c] is p.at[c] for p in places) else joined([p.grid[c] for p in places])
        for c in range(len(call.voxels))
    ]
    known = [t._place for t in placed]
    field = tuple(max(p.field[c] for p in known) for c in range(len(call.voxels)))
    return [
        Place(
            tuple(at),
            tuple(grid),
            field,
            _seen(known),
            any(p.mixed for p in known),
            any(p.normed for p in known),
            _hidden(known),
            _pooled(known),
            joined=axis == 1 and _joins_skip(call.sizes[0], placed),
        )
    ]


def _joins_skip(sizes: Sequence[int], sources: Sequence[torch.Tensor]) -> bool:
    newest = max(sources, key=lambda t: t._made.step)
    follows = any(t is not newest and newest._made.needs >> t._made.step & 1 for t in sources)
    return follows and 2 * newest.shape[1] >= sizes[1]


def chosen(call: Call) -> list[Place]:
    """Sorting and the like: values, and the indices where they were."""
    import torch

    (source, *_) = call.placed
    values, indices = call.given["results"][:2]
    if indices.is_meta:
        raise Unseen
    axis = call.given.get("dim", -1)
    indices = indices.cpu()
    keep = indices.ndim == source.ndim
    if not keep:
        indices = indices.unsqueeze(axis)

    def gather(t):
        t = torch.gather(t.expand(source.shape), axis, indices)
        return thin(t if keep else t.squeeze(axis))

    return [_cropped(source._place.each(gather))] * len(call.sizes)


def folded(call: Call) -> list[Place]:
    """``im2col`` and ``col2im``: what lies in the padding is nowhere; overlapping patches are averaged."""
    (source,) = call.placed[:1]
    import torch

    ones = call.again({id(source): torch.ones(source.shape, dtype=torch.float64)})

    def replay(t):
        return thin(call.again({id(source): t.expand(source.shape)}) / ones)  # 0 / 0 is not a number

    return [source._place.each(replay)]


def sampled(call: Call) -> list[Place]:
    """``grid_sample``: torch samples the coordinates; outside of the tensor there are none."""
    import torch

    source, where = call.given["input"], call.given["grid"]
    if where.is_meta:
        raise Unseen
    if not hasattr(source, "_place"):
        raise NotImplementedError
    mode = min(call.given["interpolation_mode"], 1)
    align = call.given["align_corners"]
    function = torch.ops.aten.grid_sampler_2d if where.ndim == 4 else torch.ops.aten.grid_sampler_3d
    where = where.detach().cpu().double()

    def sample(t, padding=1):
        wide = t.expand(len(where), t.shape[1], *source.shape[2:]).contiguous()
        return function(wide, where, mode, padding, align)

    inside = sample(torch.ones((1,) * source.ndim, dtype=torch.float64), 0)
    place = source._place.each(lambda t: thin(torch.where(inside > 0.5, sample(t), math.nan)) if varies(t) else t)
    return [_cropped(place)]


def looked_up(call: Call) -> list[Place]:
    """An embedding of placed numbers: the new axis holds channels."""
    place = call.place("indices")
    if place is None:
        raise NotImplementedError
    return [place.each(lambda t: t.unsqueeze(-1))]


# --- kernels ------------------------------------------------------------------------------------------------------------


def _pitch(t: torch.Tensor, axis: int) -> float:
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


def _other_where_none(a, b):
    import torch

    return torch.where(a.isnan(), b, a)


def kernel_mean(t: torch.Tensor, axis: int, taps: torch.Tensor) -> torch.Tensor:
    """The mean of coordinates over the taps of a kernel that do not lie in the padding; where these reach over a seam (of a
    roll, of two pieces side by side), over those on the middle one's side.

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
    reach = 2 * _pitch(t, axis) * float((taps[0] - taps[0, 0]).abs().max() + 1)
    return torch.where((seen - middle).abs() <= reach, seen, torch.nan).nanmean(axis + 1)


def kernel_middle(t: torch.Tensor, axis: int, taps: torch.Tensor) -> torch.Tensor:
    """The coordinate of the middle of a kernel, which may lie in the padding."""
    return sample_line(t, axis, taps.double().mean(1))


def convolved(
    place: Place, kernel: Sequence[int], step, left, dilation, cells: Sequence[int], channels: Callable | None
) -> Place:
    """One convolution or pooling over the last axes.

    :param cells: of the result, along these axes.
    :param channels: what happens to coordinates that depend on the channel; None: nothing.
    """
    import torch

    first = place.at[0].ndim - len(kernel)
    taps = []
    for k, s, p, d, n in zip(kernel, step, left, dilation, cells, strict=True):
        taps.append(torch.arange(n)[:, None] * s - p + torch.arange(k)[None] * d)
    field = _wider(place, [(first + a, (k - 1) * d) for a, (k, d) in enumerate(zip(kernel, dilation, strict=True))])

    def by(rule: Callable, middle: Callable):
        def change(t):
            before = t
            for a, some in enumerate(taps):
                if t.shape[first + a] > 1:
                    t = rule(t, first + a, some)
            t = before if same(before, t) else t
            return channels(t, middle) if channels else t

        return change

    return _twice(place, by(kernel_mean, _middle), by(kernel_middle, _even_middle), field)


def _wider(place: Place, reach: Sequence[tuple[int, float]]) -> tuple[float, ...]:
    """The receptive field after a kernel that reaches so many cells along some axes."""
    field = []
    for t, f in zip(place.grid, place.field, strict=True):
        f += sum(_pitch(t, axis) * cells for axis, cells in reach)
        field.append(f)
    return tuple(field)


def _grouped(groups: int, results: int) -> Callable:
    """Coordinates that depend on the channel, behind a convolution of ``groups``: the middle of each group."""

    def change(t: torch.Tensor, middle: Callable):
        if t.shape[1] == 1:
            return t
        t = middle(t.unflatten(1, (groups, -1)), 2)
        return thin(t.repeat_interleave(results // groups, 1))

    return change


def _channels_apart(t: torch.Tensor, groups: int, field: float) -> bool:
    """Whether channels that a convolution of ``groups`` mixes lie at different places."""
    return t.shape[1] > groups and far_apart(t.unflatten(1, (groups, -1)), 2, field)


def _per_axis(value, axes: int) -> list:
    value = list(value) if isinstance(value, list | tuple) else [value]
    return value * axes if len(value) == 1 else value


def convolution(call: Call) -> list[Place]:
    x, given = call.place("input"), call.given
    if x is None:
        raise NotImplementedError
    weight = given["weight"]
    axes = weight.ndim - 2
    step, left, dilation = (_per_axis(given[n], axes) for n in ("stride", "padding", "dilation"))
    kernel, cells = weight.shape[2:], call.sizes[0][-axes:]
    groups = given["groups"]
    mixer = _grouped(groups, call.sizes[0][1])
    if any(_channels_apart(t, groups, f) for t, f in zip(x.grid[1:], x.field[1:], strict=True)):
        x = replace(x, hidden=x.hidden or APART)
    wide = [_usual_span(t.unflatten(1, (groups, -1)), 2) if t.shape[1] > groups else 0.0 for t in x.grid]
    x = replace(x, field=tuple(f + s for f, s in zip(x.field, (0.0, *wide[1:]), strict=True)))
    if given["transposed"]:
        return [_transposed(x, kernel, step, left, dilation, cells, mixer)]
    return [convolved(x, kernel, step, left, dilation, cells, mixer)]


def _transposed(place: Place, kernel, step, left, dilation, cells, channels) -> Place:
    """Result j sees cell i where j = i * step - left + tap * dilation for a tap of the kernel."""
    import torch

    first = place.at[0].ndim - len(kernel)
    rows = list(zip(kernel, step, left, dilation, cells, strict=True))
    reach = [(first + a, (k - 1) * d // s) for a, (k, s, _, d, _) in enumerate(rows)]

    def exact(t):
        for a, (k, s, p, d, n) in enumerate(rows):
            if t.shape[first + a] > 1:
                source = torch.arange(n)[:, None] + p - torch.arange(k)[None] * d
                none = (source % s != 0) | (source < 0) | (source >= t.shape[first + a] * s)
                found = t.index_select(first + a, (source // s).clamp(0, t.shape[first + a] - 1).flatten())
                shape = [1] * (t.ndim + 1)
                shape[first + a : first + a + 2] = n, k
                found = found.unflatten(first + a, (n, k)).masked_fill(none.reshape(shape), math.nan)
                t = found.nanmean(first + a + 1)
        return channels(t, _middle)

    def even(t):
        for a, (k, s, p, d, n) in enumerate(rows):
            t = sample_line(t, first + a, (torch.arange(n) + p - (k - 1) * d / 2).double() / s)
        return channels(t, _even_middle)

    return _twice(place, exact, even, _wider(place, reach))


def _by_each(rule: Callable, lines: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Each coordinate changed; those that are one tensor once."""
    done = {id(t): t for t in lines}
    done = {key: rule(t) for key, t in done.items()}
    return tuple(done[id(t)] for t in lines)


def _twice(place: Place, exact: Callable, even: Callable, field) -> Place:
    """``at`` and ``grid`` by rules of their own; one tensor where they come out the same."""
    at = tuple(exact(t) for t in place.at)
    grid = tuple(even(t) for t in place.grid)
    grid = tuple(
        a if a.shape == g.shape and a.allclose(g, equal_nan=True) else g for a, g in zip(at, grid, strict=True)
    )
    return replace(place, at=at, grid=grid, field=field, joined=False)


def pooling(call: Call) -> list[Place]:
    place, given = call.placed[0]._place, call.given
    axes = int(call.name.partition("pool")[2][0])
    kernel, left = _per_axis(given["kernel_size"], axes), _per_axis(given["padding"], axes)
    step = _per_axis(given["stride"] or kernel, axes)
    dilation = _per_axis(given.get("dilation", 1), axes)
    found = convolved(place, kernel, step, left, dilation, call.sizes[0][-axes:], None)
    return [replace(found, pooled=place.pooled or (max(step) >= 4) * call.step)] * len(call.sizes)


def adaptive(call: Call) -> list[Place]:
    """Adaptive pooling from n to m cells: bin j goes from floor(j n / m) to ceil((j + 1) n / m)."""
    import torch

    (source,) = call.placed[:1]
    place = source._place
    axes = range(place.at[0].ndim - len(call.given["output_size"]), place.at[0].ndim)
    pairs = [(a, source.shape[a], call.sizes[0][a]) for a in axes]

    def exact(t):
        for a, n, m in pairs:
            if t.shape[a] > 1:
                bins = [range(j * n // m, -(-(j + 1) * n // m)) for j in range(m)]
                t = torch.cat([t[(slice(None),) * a + (slice(b.start, b.stop),)].nanmean(a, True) for b in bins], a)
        return t

    def even(t):
        for a, n, m in pairs:
            t = sample_line(t, a, (torch.arange(m).double() + 0.5) * n / m - 0.5)
        return t

    whole = [a for a, n, m in pairs if m == 1 < n]
    place, pairs = averaged(place, whole), [pair for pair in pairs if pair[0] not in whole]
    found = _twice(place, exact, even, _wider(place, [(a, n / m - 1) for a, n, m in pairs]))
    changed = any(n != m for _, n, m in pairs)
    return [replace(found, pooled=place.pooled or changed * call.step)] * len(call.sizes)


def interpolation(call: Call) -> list[Place]:
    import torch

    (source,) = call.placed[:1]
    place, given = source._place, call.given
    axes = len(call.sizes[0]) - 2
    corners, nearest = given.get("align_corners", False), "nearest" in call.name
    shift = 0.5 if "exact" in call.name else 0.0
    scales = given.get("scale_factors") or [given[k] for k in given if k.startswith("scales")]
    scales = _per_axis(scales or [None], axes)
    rows = []
    for a, scale in zip(range(2, 2 + axes), scales, strict=True):
        n, m = source.shape[a], call.sizes[0][a]
        ratio = 1 / scale if scale and scale > 0 else n / m
        rows.append((a, n, m, (n - 1) / max(m - 1, 1) if corners else ratio))

    def even(t):
        for a, _, m, ratio in rows:
            j = torch.arange(m).double()
            t = sample_line(t, a, j * ratio if corners else (j + 0.5) * ratio - 0.5)
        return t

    def exact(t):
        for a, n, m, ratio in rows:
            if nearest:
                t = sample_line(t, a, ((torch.arange(m).double() + shift) * ratio).floor().clamp(0, n - 1))
        return t if nearest else even(t)

    field = _wider(place, [(a, 1) for a, *_ in rows])
    return [replace(_twice(place, exact, even, field), pooled=0)]


def padded(call: Call) -> list[Place]:
    """A constant around, which comes from nowhere; an even grid goes on. Negative padding crops."""
    import torch

    (source,) = call.placed[:1]
    pad = call.given["pad"]
    pairs = [(source.ndim - 1 - n // 2, pad[n], pad[n + 1]) for n in range(0, len(pad), 2)]

    def even(t):
        for axis, before, after in pairs:
            t = sample_line(t, axis, torch.arange(-before, source.shape[axis] + after).double())
        return t

    def exact(t):
        for axis, before, after in pairs:
            n = source.shape[axis]
            if before > 0 or after > 0:
                t = t.expand([n if a == axis else size for a, size in enumerate(t.shape)])
            where = torch.arange(-before, n + after)
            if t.shape[axis] > 1:
                outside = ((where < 0) | (where >= n)).reshape([-1 if a == axis else 1 for a in range(t.ndim)])
                t = t.index_select(axis, where.clamp(0, n - 1)).masked_fill(outside, math.nan)
        return thin(t)

    return [_cropped(_twice(source._place, exact, even, source._place.field))]


def mirrored(call: Call) -> list[Place]:
    """Reflected or repeated edges: exactly, the coordinates come back; on an even grid they go on."""
    import torch

    (source,) = call.placed[:1]
    pad = call.given["padding"]
    pairs = [(source.ndim - 1 - n // 2, pad[n], pad[n + 1]) for n in range(0, len(pad), 2)]

    def exact(t):
        for axis, before, after in pairs:
            n = source.shape[axis]
            at = torch.arange(-before, n + after)
            at = at.clamp(0, n - 1) if "replication" in call.name else (n - 1) - ((n - 1) - at.abs()).abs()
            t = t.index_select(axis, at) if t.shape[axis] > 1 else t
        return t

    def even(t):
        for axis, before, after in pairs:
            t = sample_line(t, axis, torch.arange(-before, source.shape[axis] + after).double())
        return t

    return [_twice(source._place, exact, even, source._place.field)]


def unpooled(call: Call) -> list[Place]:
    """``max_unpool``: a value goes back to one of the elements of which it was the largest, and each of them keeps its place."""
    import torch

    (source,) = call.placed[:1]
    (sizes,) = call.sizes
    rows = [(axis, n, m) for axis, (n, m) in enumerate(zip(source.shape, sizes, strict=True)) if n != m]

    def exact(t):
        for axis, n, m in rows:
            t = t.index_select(axis, torch.arange(m) * n // m) if t.shape[axis] > 1 else t
        return t

    def even(t):
        for axis, n, m in rows:
            t = sample_line(t, axis, (torch.arange(m) + 0.5) * n / m - 0.5)
        return t

    return [_twice(source._place, exact, even, source._place.field)]


def shuffled(call: Call) -> list[Place]:
    """``pixel_shuffle``: channels become finer cells, which see what the coarse ones saw."""
    import torch

    (source,) = call.placed[:1]
    rows = [(a, call.sizes[0][a], call.given["upscale_factor"]) for a in (-2, -1)]

    def even(t):
        for a, m, r in rows:
            t = sample_line(t, a % t.ndim, (torch.arange(m).double() + 0.5) / r - 0.5)
        return t

    def exact(t):
        return thin(call.again({id(source): t.expand(source.shape)})) if varies(t) else t

    by_channel = any(t.shape[-3] > 1 for t in source._place.grid)
    return [_twice(source._place, exact, exact if by_channel else even, source._place.field)]


def unknown(call: Call, remembered: dict[tuple[int, ...], Place]) -> list[Place]:
    """What no rule knows: a guess, marked as such. The argument of the same shape, else the last grid of as many cells,
    else one that spans the input."""
    sources = [t for t in call.placed if not t._place.nowhere]
    if not sources:
        hidden = _hidden([t._place for t in call.placed])
        return [replace(nowhere(len(s), len(call.voxels)), hidden=hidden) for s in call.sizes]
    found = []
    for sizes in call.sizes:
        like = [t._place for t in sources if tuple(t.shape) == sizes]
        guess = like[0] if like else remembered.get(sizes[2:]) or _spanning(sizes, call.voxels)
        guess = guess if guess.at[0].ndim == len(sizes) else nowhere(len(sizes), len(call.voxels))
        found.append(replace(guess, field=tuple(map(float, call.voxels)), mixed=True, hidden=call.name, joined=False))
    return found


def _spanning(sizes: Sequence[int], voxels: Sequence[int]) -> Place:
    """Cells that share the input evenly, for a tensor (batch, channel, *cells)."""
    if len(sizes) != len(voxels) + 1:
        return nowhere(len(sizes), len(voxels))
    place = origin((1, *sizes[1:]))
    lines = []
    for axis, (t, n, m) in enumerate(zip(place.at, voxels, sizes[1:], strict=True)):
        lines.append((t + 0.5) * n / m - 0.5 if axis else t[:, :1] * 0)
    return replace(place, at=tuple(lines), grid=tuple(lines))


# fmt: off
RULES: dict[str, Callable[[Call], list[Place]]] = {
    **dict.fromkeys((
        "clone", "_to_copy", "detach", "alias", "lift_fresh", "contiguous", "hardswish", "_prelu_kernel",
        "log_sigmoid_forward", "native_dropout", "rrelu_with_noise", "tril", "triu", "conj", "_conj",
        "_conj_physical", "resolve_conj", "resolve_neg", "quantize_per_tensor", "quantize_per_channel", "dequantize",
        "fake_quantize_per_tensor_affine", "hardsigmoid", "_neg_view", "pin_memory", "hardtanh", "celu",
        "_fake_quantize_learnable_per_tensor_affine", "fake_quantize_per_tensor_affine_cachemask",
        "fake_quantize_per_channel_affine_cachemask", "real", "imag", "masked_fill", "copy", "bucketize",
    ), kept),
    **dict.fromkeys(("fill", "zero", "fill_", "zero_", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like",
        "randn_like", "new_zeros", "new_ones", "new_empty", "new_full", "randint_like", "bernoulli"), erased),
    "copy_": copied,
    "where": picked,
    **dict.fromkeys(("index_add", "scatter_add"), added),
    "glu": halved,
    "view_as_real": as_real,
    "view_as_complex": as_complex,
    "complex": pointwise,
    **dict.fromkeys((
        "mean", "sum", "amax", "amin", "prod", "var", "std", "var_mean", "std_mean", "logsumexp", "linalg_vector_norm",
        "norm", "nansum", "nanmean", "any", "all", "argmax", "argmin", "count_nonzero", "aminmax", "nanmedian", "max", "min", "median",
        "mode", "kthvalue",
    ), reduction),
    **dict.fromkeys((
        "_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "native_layer_norm", "layer_norm",
        "native_group_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
        "cudnn_batch_norm", "_batch_norm_with_update", "_fused_rms_norm", "rms_norm", "cumsum", "cumprod",
        "logcumsumexp", "cummax", "cummin", "batch_norm_elemt",
    ), normalised),
    **dict.fromkeys((
        "mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "linear", "_addmm_activation", "mkldnn_linear",
        "matmul",
    ), product),
    **dict.fromkeys((
        "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_attention_math", "_scaled_dot_product_fused_attention_overrideable",
        "scaled_dot_product_attention", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
        "_flash_attention_forward", "_efficient_attention_forward",
    ), attention),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu", "mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"), recurrent),
    **dict.fromkeys((
        "permute", "transpose", "t", "slice", "select", "narrow", "unsqueeze", "squeeze", "expand", "unfold", "split",
        "split_with_sizes", "unbind", "diagonal", "as_strided", "numpy_T", "movedim", "swapaxes", "permute_copy",
        "gather", "index_select", "take", "take_along_dim", "repeat", "tile", "repeat_interleave", "stack",
        "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "rot90", "slice_scatter", "select_scatter",
        "scatter", "index_put", "index_copy", "masked_select", "diagonal_scatter", "as_strided_scatter",
    ), moved),
    **dict.fromkeys(("flip", "roll"), moved_whole_axes),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "unflatten", "view_as", "_reshape_alias",
        "_reshape_copy", "view_copy"), reshaped),
    "index": indexed,
    "_unsafe_index": indexed,
    "cat": concatenated,
    **dict.fromkeys(("topk", "sort"), chosen),
    **dict.fromkeys(("im2col", "col2im"), folded),
    **dict.fromkeys(("grid_sampler_2d", "grid_sampler_3d", "cudnn_grid_sampler"), sampled),
    "embedding": looked_up,
    **dict.fromkeys(("max_unpool2d", "max_unpool3d"), unpooled),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), convolution),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d", "avg_pool1d", "avg_pool2d",
        "avg_pool3d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices"), pooling),
    **dict.fromkeys((f"{kind}adaptive_{name}_pool{n}d" for kind in ("", "_") for name in ("avg", "max") for n in (1, 2, 3)),
        adaptive),
    **dict.fromkeys((
        "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d",
        "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
        "_upsample_nearest_exact3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    ), interpolation),
    "constant_pad_nd": padded,
    **dict.fromkeys((f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)), mirrored),
    "pixel_shuffle": shuffled,
}
# fmt: on
"""By the operator's name in ATen; what torch tags as pointwise needs no entry."""
