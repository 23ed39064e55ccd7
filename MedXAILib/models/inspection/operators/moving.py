"""Operators that move elements: torch itself carries them out on the coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...nested import tensors
from ..call import Call, Unseen
from ..coordinates import same, thin, varies
from ..notes import made_of, place_of
from ..places import Kind, Place, cropped, nowhere, together, united

if TYPE_CHECKING:
    import torch

INDICES = ("indices", "index", "mask", "grid", "repeats", "condition")


def moved(call: Call) -> list[Place]:
    """Any operator that puts elements elsewhere."""
    return _replayed(call, lambda t, sizes: t.expand(sizes))


def moved_whole_axes(call: Call) -> list[Place]:
    """Flips and rolls: along an axis on which a coordinate does not depend they change nothing."""
    return _replayed(call, lambda t, sizes: t)


def _replayed(call: Call, prepared: Callable[[torch.Tensor, torch.Size], torch.Tensor]) -> list[Place]:
    """The operator carried out on each coordinate, ``prepared`` (made as wide as the operator needs it)."""
    places = {id(t): place for t, place in call.placed}
    count = len(call.first.at)

    def coordinate(kind: Kind, axis: int) -> list[torch.Tensor]:
        import torch

        swapped = {}
        for t in floats(call):
            place = places.get(id(t))
            line = place.lines(kind)[axis] if place else torch.full((1,) * t.ndim, math.nan, dtype=torch.float64)
            swapped[id(t)] = prepared(line, t.shape)
        return [thin(t) for t in tensors([call.again(swapped)])]

    at = [coordinate("at", axis) for axis in range(count)]
    grid = [
        at[axis] if all(p.grid[axis] is p.at[axis] for p in places.values()) else coordinate("grid", axis)
        for axis in range(count)
    ]
    known = list(places.values())
    parts = [(tuple(a[n] for a in at), tuple(g[n] for g in grid)) for n in range(len(call.sizes))]
    return [cropped(together(known, *lines)) for lines in parts]


def floats(call: Call) -> list[torch.Tensor]:
    """The tensors that are moved, not those that say whereto."""
    return [t for name, value in call.given.items() if name not in INDICES for t in tensors([value])]


def added(call: Call) -> list[Place]:
    """Sums into places of their own: each lies where the one lies that was added there.

    :raises NotImplementedError: where several were.
    """
    import torch

    places = {id(t): place for t, place in call.placed}

    def sums(line: Callable[[Place], torch.Tensor]) -> torch.Tensor:
        nothing = torch.zeros((), dtype=torch.float64)
        found: torch.Tensor = call.again(
            {
                id(t): (line(places[id(t)]) if id(t) in places else nothing).nan_to_num(0).expand(t.shape)
                for t in floats(call)
            }
        )
        return found

    def replay(kind: Kind, axis: int) -> torch.Tensor:
        count = sums(lambda place: (~place.lines(kind)[axis].isnan()).double())
        if bool((count > 1).any()):
            raise NotImplementedError
        return thin(sums(lambda place: place.lines(kind)[axis]) / count)  # 0 / 0 is not a number

    axes = range(len(call.voxels))
    at, grid = tuple(replay("at", a) for a in axes), tuple(replay("grid", a) for a in axes)
    return [cropped(replace(united(list(places.values())), at=at, grid=grid, joined=False))]


def reshaped(call: Call) -> list[Place]:
    """Axes merged and parted. Group by group, so that what does not vary stays small."""
    source, place = call.placed[0]
    return [place.each(lambda t: _reshape(t, tuple(source.shape), call.sizes[0]))]


def _reshape(t: torch.Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> torch.Tensor:
    if not varies(t):
        return t.reshape((1,) * len(new))
    wide: list[int] = []
    narrow: list[int] = []
    for some, others in _groups(old, new):
        alive = any(t.shape[a] > 1 for a in some)
        wide += [old[a] if alive else 1 for a in some]
        narrow += [new[a] if alive else 1 for a in others]
    return thin(t.expand(wide).reshape(narrow))


def _groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes that hold as many elements before as after."""
    a = b = 0
    while a < len(old) or b < len(new):
        some: list[int] = []
        others: list[int] = []
        left = right = 1
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
    touched = [n for n, index in enumerate(call.given["indices"]) if index is not None]
    wide = [n for start in touched for n in range(start, start + max(1, _span_of(call, start)))]
    return _replayed(call, lambda t, s: t.expand([s[a] if a in wide else t.shape[a] for a in range(t.ndim)]))


def _span_of(call: Call, start: int) -> int:
    """A mask of several axes takes as many."""
    import torch

    index: torch.Tensor = call.given["indices"][start]
    return index.ndim if index.dtype in (torch.bool, torch.uint8) else 1


def concatenated(call: Call) -> list[Place]:
    """Along an axis: what has no place (a class token) lies nowhere."""
    import torch

    parts = [t for t in call.given["tensors"] if t.numel()]
    axis = call.given["dim"] % len(call.sizes[0])
    placed = [(t, place) for t in parts if (place := place_of(t)) is not None]
    empty = nowhere(len(call.sizes[0]), len(call.voxels))
    places = [place_of(t) or empty for t in parts]

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
    found = together([place for _, place in placed], tuple(at), tuple(grid))
    return [replace(found, joined=axis == 1 and _joins_skip(call.sizes[0], [t for t, _ in placed]))]


def _joins_skip(sizes: Sequence[int], sources: Sequence[torch.Tensor]) -> bool:
    """Whether it joins a tensor with what was computed from it, the latter with at least half of the channels."""
    made = [(t, how) for t in sources if (how := made_of(t)) is not None]
    newest, latest = max(made, key=lambda pair: pair[1].step)
    follows = any(t is not newest and latest.needs >> how.step & 1 for t, how in made)
    return follows and 2 * newest.shape[1] >= sizes[1]


def chosen(call: Call) -> list[Place]:
    """Sorting and the like: values, and the indices where they were."""
    import torch

    source, place = call.placed[0]
    indices: torch.Tensor = call.given["results"][1]
    if indices.is_meta:
        raise Unseen
    axis = call.given.get("dim", -1)
    indices = indices.cpu()
    keep = indices.ndim == source.ndim
    if not keep:
        indices = indices.unsqueeze(axis)

    def gather(t: torch.Tensor) -> torch.Tensor:
        t = torch.gather(t.expand(source.shape), axis, indices)
        return thin(t if keep else t.squeeze(axis))

    return [cropped(place.each(gather))] * len(call.sizes)


def folded(call: Call) -> list[Place]:
    """``im2col`` and ``col2im``: what lies in the padding is nowhere; overlapping patches are averaged."""
    import torch

    source, place = call.placed[0]
    ones = call.again({id(source): torch.ones(source.shape, dtype=torch.float64)})

    def replay(t: torch.Tensor) -> torch.Tensor:
        return thin(call.again({id(source): t.expand(source.shape)}) / ones)  # 0 / 0 is not a number

    return [place.each(replay)]


def sampled(call: Call) -> list[Place]:
    """``grid_sample``: torch samples the coordinates; outside of the tensor there are none."""
    import torch

    source, where = call.given["input"], call.given["grid"]
    if where.is_meta:
        raise Unseen
    place = place_of(source)
    if place is None:
        raise NotImplementedError
    mode = min(call.given["interpolation_mode"], 1)
    align = call.given["align_corners"]
    function = torch.ops.aten.grid_sampler_2d if where.ndim == 4 else torch.ops.aten.grid_sampler_3d
    where = where.detach().cpu().double()

    def sample(t: torch.Tensor, padding: int = 1) -> torch.Tensor:
        wide = t.expand(len(where), t.shape[1], *source.shape[2:]).contiguous()
        found: torch.Tensor = function(wide, where, mode, padding, align)
        return found

    inside = sample(torch.ones((1,) * source.ndim, dtype=torch.float64), 0)
    found = place.each(lambda t: thin(torch.where(inside > 0.5, sample(t), math.nan)) if varies(t) else t)
    return [cropped(found)]


def looked_up(call: Call) -> list[Place]:
    """An embedding of placed numbers: the new axis holds channels."""
    place = call.place("indices")
    if place is None:
        raise NotImplementedError
    return [place.each(lambda t: t.unsqueeze(-1))]
