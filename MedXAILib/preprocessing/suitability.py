"""Is this input of the kind that the model knows? A card's ``input.expected``: measured on training data, checked on an input.

Every figure is one number of a case, every expectation a range of it: from the 1st to the 99th percentile over the
examples, widened by :data:`MARGIN` of its width on either side. Who lies outside gets a sentence with both.

Terms
-----
picture
    What the network sees of one named input, after all preprocessing: a slice, or the volume. Of a slice-wise model's volume
    each figure is the median over at most :data:`SLICES` of its slices; those of one value do not count.
body
    The part of a picture that is not air (:func:`MedXAILib.preprocessing.foreground.foreground`).
coarse picture
    The picture's means over 8 x 8 cells (a slice) or 4 x 4 x 4 cells (a volume).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..caveats import CAUTION, UNRELIABLE, Caveat
from ..errors import InputError, OptionError
from ..geometry.affine import axis_codes, nearest_axes
from ..geometry.volume import ARRAY, Volume
from ..io.suffixes import PICTURES
from ..models.card import Expected, ModelCard, Range
from .foreground import foreground
from .prepare import Prepared

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
Figures = dict[str, float]
"""By their names."""

LEAST = 10
"""Fewer examples than these do not show how much their kind varies."""
OUTER = 1.0
"""Percent of the examples that may lie beyond either end of a range before it is widened."""
MARGIN = 0.25
FLOORS = {"mm": 0.2, "": 0.05}
"""Least widening: a fifth of a length's upper end; 0.05 of any other figure."""
BOUNDS = {"colour": (0, 1), "body": (0, 1), "grain": (0, np.inf), "likeness": (-1, 1), "distance": (0, np.inf)}
"""Of figures that cannot lie everywhere; lengths and ratios are above 0 as they are."""
BEST = {"likeness": (1,), "distance": (0,)}
"""What is always inside: nobody is too much like the training data."""
SLICES = 25
VOXELS = 8_000_000
"""Of a larger volume a part is looked at, evenly spread: finding the body takes seconds for each ten million."""
QUANTILES = {"5th percentile": 5, "25th percentile": 25, "median": 50, "75th percentile": 75, "95th percentile": 95}
AXES = ("R-L", "A-P", "S-I")
VALUES = "the {name} of the values in the body, as the network sees them, is {value}; in the training data {range}"
APPEARANCE = {
    "body": "the body fills {value} of the picture; of the training data's pictures {range}",
    "edge": "the value at the picture's edge is {value}; in the training data {range}",
    "grain": "neighbours differ by {value} of the spread of values in the body; in the training data by {range}",
    "likeness": "the coarse picture correlates with the average of the training data by {value}; theirs by {range}",
    "distance": "the coarse picture lies {value} standard deviations from the average of the training data; theirs {range}",
}  # fmt: skip
UNITS_KNOWN = ("range", "none")
"""Rules of intensity that take stored values as they are, so that these are compared too: with the others a file may
have any unit."""


def measure(card: ModelCard, examples: Iterable[Prepared]) -> Expected:
    """What the model may expect, from examples of what it was trained on. What the card's owner states and no file tells
    (a modality, an orientation) stays.

    :param examples: prepared as ``card`` says; each is needed only once, for a moment.
    :raises InputError: for fewer than :data:`LEAST`.
    """
    names = [channel.name for channel in card.input.channels]
    rows: list[Stored] = []
    seen: dict[str, list[Figures]] = {name: [] for name in names}
    cells: dict[str, list[Floats]] = {name: [] for name in names}
    for prepared in examples:
        rows.append(stored(card, prepared))
        for name, some in pictures(card, prepared).items():
            if some:
                seen[name].append(figures(some))
                cells[name].append(np.stack([reduced(one) for one in some]))
    if len(rows) < LEAST:
        raise InputError(
            f"{len(rows)} examples do not show how much inputs vary", f"give at least {LEAST}", about=card.name
        )
    names = [name for name in names if len(seen[name]) >= LEAST]
    for name in names:
        seen[name] = [row | own for row, own in zip(seen[name], among_others(cells[name]), strict=True)]
    declared = card.input.expected or Expected()
    tags, ways = [row.modality for row in rows], [row.orientation for row in rows]
    return Expected(
        cases=len(rows),
        modality=tuple(sorted(set(tags))) if all(tags) else declared.modality,
        orientation=tuple(sorted(set(ways))) if all(ways) else declared.orientation,
        spacing=ranges([row.spacing for row in rows], "mm"),
        field_of_view=ranges([row.field_of_view for row in rows], "mm"),
        pixels=ranges([row.pixels for row in rows]),
        colour=ranges([row.colour for row in rows]),
        stored=ranges([row.stored for row in rows]),
        seen={name: ranges(seen[name]) for name in names},
        average={name: digits(np.concatenate(cells[name]).mean(0)) for name in names},
        deviation={name: digits(np.concatenate(cells[name]).std(0)) for name in names},
    )


def among_others(cells: Sequence[Floats]) -> Iterator[Figures]:
    """How each example resembles the other ones: with itself among them it would seem nearer than a new input can be."""
    for n, own in enumerate(cells):
        others = np.concatenate([one for m, one in enumerate(cells) if m != n])
        yield resemblance(own, others.mean(0), others.std(0))


def check(card: ModelCard, prepared: Prepared) -> tuple[Caveat, ...]:
    """In what the input is not of the kind that the card expects: one sentence for each kind of figure, with the figure
    that is furthest off. Nothing is said of what the card does not state or the file does not give."""
    empty = tuple(constant(card, prepared))
    expected = card.input.expected
    if expected is None or is_constant(prepared.tensor):
        return empty
    return (*empty, *mismatches(card, expected, prepared))


def constant(card: ModelCard, prepared: Prepared) -> Iterator[Caveat]:
    """Inputs that hold one value only."""
    names = [channel.name for channel in card.input.channels]
    parts = prepared.tensor.reshape(len(names), -1, *prepared.shape) if len(names) > 1 else prepared.tensor[None]
    for name, part in zip(names, parts, strict=True):
        if is_constant(part):
            what = value_everywhere(prepared) if len(names) == 1 else f"'{name}' is one value everywhere"
            yield Caveat("constant-input", f"The input {what}: what the model says of it means nothing.", UNRELIABLE)


def refuse_constant(prepared: Prepared, slices: Sequence[int] | None = None) -> None:
    """:raises InputError: where the whole input, or each of the slices to explain, holds one value only."""
    if is_constant(prepared.tensor):
        name = prepared.reference.source.name or "the input"
        raise InputError(
            f"{name} {value_everywhere(prepared)}: there is nothing to explain",
            "check the file and its preprocessing (a card's input.intensity)",
        )
    if slices is not None and all(is_constant(prepared.tensor[:, n]) for n in slices):
        which = ", ".join(map(str, slices))
        raise OptionError("--slices", which, "each holds one value only, so there is nothing to explain; choose others")


def is_constant(tensor: torch.Tensor) -> bool:
    """Whether every channel holds one value only."""
    flat = tensor.flatten(1)
    for some in (flat[:, :: flat.shape[1] // 1000 + 1], flat):  # a thousand voxels nearly always tell
        if bool(((some.amax(1) != some.amin(1)) & some.isfinite().any(1)).any()):
            return False
    return True


def value_everywhere(prepared: Prepared) -> str:
    """How a constant input is called: by its stored value, or as what the card's rule made of it."""
    values = prepared.reference.array
    if not np.isfinite(values).any():
        return "holds no finite value"
    low, high = np.nanmin(values), np.nanmax(values)
    return f"is {low:g} everywhere" if low == high else "is one value everywhere after the card's preprocessing"


def mismatches(card: ModelCard, expected: Expected, prepared: Prepared) -> Iterator[Caveat]:
    """One for each kind of figure."""
    found = stored(card, prepared)
    if expected.modality and found.modality and found.modality not in expected.modality:
        yield unlike("modality", f"the file's modality is {found.modality}, not {' or '.join(expected.modality)}")
    way = found.orientation
    if expected.orientation and way and way not in expected.orientation:
        known = " or ".join(expected.orientation)
        yield unlike(
            "orientation", f"{'its slices are cut along' if '-' in way else 'its axes run'} {way}, not {known}"
        )
    for kind, words in (
        ("spacing", "the voxels are {value} mm long along {name}; in the training data {range} mm"),
        ("field_of_view", "the field of view is {value} mm along {name}; in the training data {range} mm"),
        ("pixels", "the pixels of its slices are {value} times as long as wide; in the training data {range} times"),
        ("colour", "the channels differ by {value} of the range of values; in the training data by {range}"),
        ("stored", "the {name} of the stored values in the body is {value}; in the training data {range}"),
    ):
        measured: Figures = getattr(found, kind)
        yield from furthest(kind, getattr(expected, kind), measured, dict.fromkeys(measured, words))
    for name, some in pictures(card, prepared).items():
        if some and name in expected.seen:
            cells = [reduced(one) for one in some]
            measured = figures(some) | resemblance(cells, expected.average[name], expected.deviation[name])
            of = f"of '{name}' " if len(card.input.channels) > 1 else ""
            values = dict.fromkeys(QUANTILES, of + VALUES)
            appearance = {figure: of + words for figure, words in APPEARANCE.items()}
            yield from furthest("values", expected.seen[name], measured, values)
            yield from furthest("appearance", expected.seen[name], measured, appearance)


def furthest(kind: str, expected: Mapping[str, Range], found: Figures, words: Mapping[str, str]) -> Iterator[Caveat]:
    """The sentence of the figure that lies furthest outside of its range, counted in the range's width; none where all lie
    inside."""
    off = {name: outside(found[name], expected[name]) for name in words if name in expected and name in found}
    worst = max(off, key=lambda name: off[name], default=None)
    if worst is not None and off[worst] > 0:
        low, high = (f"{end:.3g}" for end in expected[worst])
        value = f"{found[worst]:.3g}"
        yield unlike(kind.replace("_", "-"), words[worst].format(name=worst, value=value, range=f"{low} to {high}"))


def unlike(code: str, text: str) -> Caveat:
    """The caveat of one kind of figure."""
    return Caveat(f"unlike-training-{code}", f"This is unlike what the model was trained on: {text}.", CAUTION)


def outside(value: float, limits: Range) -> float:
    """How far a value lies beyond the nearer end of a range, in parts of its width; below 0 inside."""
    low, high = limits
    return max(low - value, value - high) / max(high - low, 1e-9)


def ranges(rows: Sequence[Figures], unit: str = "") -> dict[str, Range]:
    """The range of each figure that all rows have."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    found: dict[str, Range] = {}
    for name in names:
        low, high = np.percentile([row[name] for row in rows], (OUTER, 100 - OUTER))
        floor = FLOORS[unit] * (abs(high) if unit else 1)
        slack = max(MARGIN * (high - low), floor)
        ends = np.clip((low - slack, high + slack, *BEST.get(name, ())), *BOUNDS.get(name, (-np.inf, np.inf)))
        least, most = digits((ends.min(), ends.max()))
        found[name] = least, most
    return found


def digits(values: Iterable[float]) -> list[float]:
    """With three significant digits, as a card has them."""
    return [float(f"{value:.3g}") for value in values]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the first input's file says of itself; empty what it does not.

    :ivar modality: DICOM's code.
    :ivar orientation: how its axes lie.
    :ivar spacing, field_of_view: mm by anatomical axis, where it says how large its voxels are.
    :ivar pixels: the shape of a slice's pixels.
    :ivar colour: how coloured it is, where the card takes colours.
    :ivar stored: quantiles of the stored values in the body, where the card's rule takes them as they are.
    """

    modality: str
    orientation: str
    spacing: Figures
    field_of_view: Figures
    pixels: Figures
    colour: Figures
    stored: Figures


def stored(card: ModelCard, prepared: Prepared) -> Stored:
    """Of the first input's file."""
    reference = prepared.reference
    values: Figures = {}
    if card.input.intensity.rule in UNITS_KNOWN and np.isfinite(reference.array).all():
        array = thinned(reference.array)
        values = quantiles(array[foreground(array)])
    spacing, view = lengths(card, reference)
    pixel = sorted(spacing.values())
    known = placed(reference)
    return Stored(
        modality=reference.source.series.get("modality", ""),
        orientation=orientation(card, reference),
        spacing=spacing if known else {},
        field_of_view=view if known else {},
        pixels={"length over width": pixel[1] / pixel[0]} if card.spatial.by_slices else {},
        colour={} if card.input.color == "grey" else {"colour": colour(reference.array)},
        stored=values,
    )


def orientation(card: ModelCard, volume: Volume) -> str:
    """Along which anatomical axis a slice-wise model cuts, or how the axes of a volume run that its card does not turn; ""
    where the card sees to it, or the file does not say."""
    if not (volume.placed and placed(volume)):
        return ""
    across = card.spatial.sliced_along(volume)
    if across is not None:
        return AXES[nearest_axes(volume.affine)[across]]
    return axis_codes(volume.affine) if card.input.orientation == "native" else ""


def colour(array: NDArray[Any]) -> float:
    """The mean difference between the highest and the lowest channel, over the range of all values: 0 where it is grey."""
    if array.ndim == 3:
        return 0.0
    values = array.astype(np.float32)
    return float(np.ptp(values, axis=3).mean() / max(np.ptp(values), 1e-6))


def placed(volume: Volume) -> bool:
    """Whether the file says how large its voxels are: a picture's or an array's do not."""
    return Path(volume.source.name).suffix.lower() not in PICTURES and volume.source.format != ARRAY


def lengths(card: ModelCard, volume: Volume) -> tuple[Figures, Figures]:
    """mm of a voxel and of the whole along each anatomical axis; of a slice-wise model only in the slices' plane."""
    names = [AXES[axis] for axis in nearest_axes(volume.affine)]
    across = card.spatial.sliced_along(volume)
    kept = [n for n in range(3) if n != across]
    spacing = {names[n]: float(volume.spacing[n]) for n in kept}
    return spacing, {names[n]: float(volume.spacing[n] * volume.shape[n]) for n in kept}


def pictures(card: ModelCard, prepared: Prepared) -> dict[str, list[Floats]]:
    """For each named input its pictures that hold more than one value, float32 (1 or d0, d1, d2); colours are averaged."""
    names = [channel.name for channel in card.input.channels]
    parts = prepared.tensor.numpy().reshape(len(names), -1, *prepared.shape).mean(1)
    if not card.spatial.by_slices:
        return {name: [thinned(part)] if np.ptp(part) else [] for name, part in zip(names, parts, strict=True)}
    found = {}
    for name, part in zip(names, parts, strict=True):
        full = np.flatnonzero(np.ptp(part.reshape(len(part), -1), axis=1))
        some = full[np.unique(np.linspace(0, len(full) - 1, SLICES).round().astype(int))] if len(full) else full
        found[name] = [part[n : n + 1] for n in some]
    return found


def thinned(array: NDArray[Any]) -> NDArray[Any]:
    """Every n-th voxel along each axis of a volume (k, j, i[, channel]) that has more than :data:`VOXELS`."""
    step = int(np.ceil((np.prod(array.shape[:3]) / VOXELS) ** (1 / 3)))
    return array[::step, ::step, ::step]


def figures(some: Sequence[Floats]) -> Figures:
    """The figures of one input, each the median over its pictures."""
    return median([picture_figures(one) for one in some])


def median(rows: Sequence[Figures]) -> Figures:
    """Of each figure of the first row over all of them."""
    return {name: float(np.median([row[name] for row in rows])) for name in rows[0]}


def picture_figures(picture: Floats) -> Figures:
    """Quantiles of the values in the body, its fraction of the picture, the median value on the outer faces, and the mean difference of
    neighbours in the body over its values' deviation."""
    body = foreground(picture)
    inside = picture[body]
    axes = [axis for axis in range(3) if picture.shape[axis] > 1]
    faces = np.concatenate([np.take(picture, at, axis).ravel() for axis in axes for at in (0, -1)])
    steps = np.concatenate([differences(picture, body, axis) for axis in axes])
    return quantiles(inside) | {
        "body": float(body.mean()),
        "edge": float(np.median(faces)),
        "grain": float(steps.mean() / max(inside.std(), 1e-6)) if steps.size else 0.0,
    }


def quantiles(values: NDArray[Any]) -> Figures:
    """Those of :data:`QUANTILES`."""
    return dict(zip(QUANTILES, map(float, np.percentile(values, list(QUANTILES.values()))), strict=True))


def differences(picture: Floats, body: NDArray[np.bool_], axis: int) -> Floats:
    """Absolute differences of neighbours along an axis that both lie in the body."""
    both = np.delete(body, 0, axis) & np.delete(body, -1, axis)
    steps: Floats = np.abs(np.diff(picture, axis=axis))
    return steps[both]


def reduced(picture: Floats) -> Floats:
    """The coarse picture, one row."""
    import torch
    from torch.nn import functional

    size = (1, 8, 8) if len(picture) == 1 else (4, 4, 4)
    means: Floats = functional.adaptive_avg_pool3d(torch.from_numpy(picture)[None], size)[0].numpy()
    return means.ravel()


def resemblance(coarse: Iterable[Floats], average: ArrayLike, deviation: ArrayLike) -> Figures:
    """How coarse pictures correlate with the average of the training data, and how far they lie from it: the root mean
    square over the cells, in each cell's deviation (at least a fifth of that between the average's cells)."""
    mean = np.asarray(average)
    spread = np.maximum(deviation, max(0.2 * mean.std(), 1e-6))
    return median(
        [
            {
                "likeness": correlation(one, mean),
                "distance": float(np.sqrt(np.mean(((one - mean) / spread) ** 2))),
            }
            for one in coarse
        ]
    )


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's; 0 where one of them is of one value."""
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-9))
