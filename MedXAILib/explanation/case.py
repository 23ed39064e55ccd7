"""What every method of one case shares, and what a map is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .. import NOTICE, __version__
from ..attribution.methods import FAILS, Facts, Method
from ..errors import Caveat, InputError, as_values
from ..findings.regions import spread
from ..geometry.affine import spacing
from ..geometry.labels import Labels
from ..geometry.resample import resample
from ..geometry.volume import Volume, size_words
from ..models.layers import last_decoder
from ..models.sources.module import ARRAY
from ..preprocessing.suitability import refuse_constant
from ..scoring.targets import ClassScore
from ..tiling import Tiling, ranges

if TYPE_CHECKING:
    from ..attribution.recorder import TapeCache
    from ..models.layers import Layer
    from ..models.loading import Model
    from ..prediction import Prediction
    from ..preprocessing.prepare import Prepared
    from ..scoring.targets import Score


@dataclass(frozen=True, eq=False)
class Attribution:
    """One map: how each place changed one score of the network.

    :ivar volume: raw float32 values on the map's own grid (the feature cells, or the network's input).
    :ivar target: name of what is explained: a class, or a target's own name such as ``liver-T0.3``.
    :ivar label: the class whose score is explained.
    :ivar layer: methods of a layer: its name; methods of the input: which of several inputs, as ``input-flair``; else "".
    :ivar signed: whether negative values mean evidence against; otherwise every value is >= 0.
    :ivar superpixels: LIME, Kernel SHAP: their features as labels on the network's grid.
    :ivar coefficients: the coefficient of each superpixel value.
    :ivar provenance: model, weights, layer, parameters, seed, evaluations, seconds, version: plain JSON values.
    :ivar limits: what limits belief in this map, one sentence each.
    """

    volume: Volume
    method: str
    target: str
    label: str
    layer: str = ""
    signed: bool = False
    superpixels: Labels | None = None
    coefficients: dict[int, float] = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)
    limits: tuple[str, ...] = ()

    def on(self, volume: Volume) -> Volume:
        """The map on the grid of ``volume`` (linear, 0 outside what the network saw), float32."""
        return resample(self.volume, volume.grid)

    @property
    def mass(self) -> Volume:
        """How much of the explanation each voxel holds: what regions and shares are measured by.

        A map is its own mass; for superpixels see :func:`MedXAILib.findings.regions.spread`.
        """
        return self.volume if self.superpixels is None else spread(self.volume, self.superpixels)


@dataclass(frozen=True, eq=False)
class Case:
    """One prepared input, what the network said of it, and how it is to be explained.

    :ivar tapes: of the layers explained.
    :ivar found: all layers of the network.
    :ivar references: expected gradients: other inputs, prepared alike.
    """

    model: Model
    prepared: Prepared
    prediction: Prediction
    tapes: TapeCache
    found: Sequence[Layer]
    slices: str | None = None
    samples: int | None = None
    superpixels: int | None = None
    baseline: str = "air"
    seed: int = 0
    references: tuple[Prepared, ...] = ()

    @property
    def tiling(self) -> Tiling:
        return self.prediction.tiling

    @cached_property
    def repeating(self) -> set[str]:
        """Names of the layers whose maps nearly repeat a segmentation."""
        return last_decoder(self.found) if self.model.card.task == "segmentation" else set()

    def kept(self, score: Score, default: str) -> list[int] | None:
        """The slices to explain; None where the network does not see slices."""
        if self.tiling.mode != "slices":
            return None
        chosen = choose_slices(self.slices or default, score, self.prediction)
        refuse_constant(self.prepared, chosen)
        return chosen

    def facts(self, channels: int = 0) -> Facts:
        """What a method's number of evaluations depends on."""
        return case_facts(self.prepared, self.tiling.mode, channels, self.samples, self.superpixels)


def case_facts(prepared: Prepared, mode: str, channels: int, samples: int | None, superpixels: int | None) -> Facts:
    shape = (1, *prepared.shape[1:]) if mode == "slices" else prepared.shape
    return Facts(mode, shape, tuple(spacing(prepared.affine)), channels, samples, superpixels)


SLICES = re.compile(r"all|top:0*[1-9]\d*|\d+(:\d+)?")
"""What ``--slices`` may be."""


def check_slices(spec: str) -> None:
    """:raises InputError: for what names no slices, whatever the input."""
    start, _, end = spec.partition(":")
    if not SLICES.fullmatch(spec) or (end and start != "top" and int(end) <= int(start)):
        raise InputError(f"--slices {spec}: give all, top:N (the N highest), a:b (a to b - 1) or n (that slice).")


def choose_slices(spec: str, score: Score, prediction: Prediction) -> list[int]:
    """Slice numbers (0-based in the file's array) meant by ``all``, ``top:N``, ``a:b`` (b excluded) or ``n``.

    :raises InputError: for any other text, or where the input has none of these slices.
    """
    check_slices(spec)
    count = prediction.prepared.shape[0]
    if spec == "all":
        return list(range(count))
    if spec.startswith("top:"):
        strength = score.planes
        if strength is None:
            strength = np.where(prediction.counting, prediction.pieces[:, score.index], -np.inf)
        return sorted(int(n) for n in np.argsort(-strength, kind="stable")[: int(spec[4:])])
    if chosen := range_of(spec, count):
        return list(chosen)
    there = "one slice, 0" if count == 1 else f"{count} slices, 0 to {count - 1}"
    raise InputError(f"--slices {spec}: the input has {there}; give what is there.")


def range_of(spec: str | None, count: int) -> range:
    """The slices that ``a:b`` or ``n`` means; empty for anything else."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", spec or "")
    if not found:
        return range(0)
    start = int(found[1])
    return range(start, min(int(found[2]) if found[2] else start + 1, count))


def said_there(target, spec: str | None, prediction: Prediction, say: Callable[[str], None]):
    """The target, or, where none was named and slices were, the class that is highest in these."""
    among = range_of(spec, prediction.prepared.shape[0])
    open_ = target is None or (isinstance(target, ClassScore) and target.label is None)
    if not among or not open_ or prediction.card.task != "classification" or prediction.card.output.kind == "value":
        return target
    best = prediction.card.output.labels[int(prediction.pieces[list(among)].max(0).argmax())].name
    if best != prediction.top:
        say(f"Class {best}: the highest in the slices asked for; in the whole volume it is {prediction.top}.")
    return ClassScore(best)


def common_limits(
    case: Case,
    m: Method,
    score: Score,
    values: np.ndarray,
    kept: Sequence[int] | None,
    lowered: bool = False,
    unused: str = "",
) -> Iterator[str]:
    """What limits belief in any map of this kind.

    :param lowered: whether values below 0 were found and are not in the map, so that an empty one means something.
    :param unused: why the map must be empty, where this is known.
    """
    yield from case.prediction.remarks
    yield from score.remarks
    if case.prediction.random:
        yield Caveat(
            "random-network",
            f"The network draws random numbers in evaluation mode too (dropout that stays on, or the like): all its passes drew "
            f"those of seed {case.seed}, and another seed gives another map.",
        )
    yield Caveat("method", m.reading)
    if m.randomisation == FAILS:
        yield Caveat(
            "randomisation",
            f"{m.title} failed the published randomisation check (Adebayo et al. 2018, Sixt et al. 2020): it shows edges of "
            "the input, even where a network has learnt nothing.",
        )
    if not score.empty and not values.any() and m.kind != "query":  # these say it themselves, and why
        if unused:
            yield Caveat("empty", unused)
        elif lowered:
            yield Caveat("empty", f"The map is empty: nothing here raises the score of {score.label}.")
        else:
            yield Caveat(
                "empty",
                f"The map is empty: no value and no gradient reached it, which does not mean that nothing matters to the "
                f"score of {score.label}; try another method or --layer.",
            )
    if kept is not None and len(kept) < case.prepared.shape[0]:
        word = "Only slice" if len(kept) == 1 else "Only slices"
        was = "was" if len(kept) == 1 else "were"
        yield Caveat("slices", f"{word} {ranges(kept)} {was} computed; zero elsewhere means not computed.")
    if kept is not None and case.model.card.task == "classification" and case.model.card.output.exclusive:
        yield from _other_classes(case, score, kept)


def _other_classes(case: Case, score: Score, kept: Sequence[int]) -> Iterator[Caveat]:
    """Slices of which the model does not say the class that is explained."""
    pieces = case.prediction.pieces[list(kept)]
    best = pieces.argmax(1)
    others = int((best != score.index).sum())
    if others == len(kept) > 1:
        yield Caveat("other-class", f"In none of the {others} slices does the model say {score.label}.")
    elif others and len(kept) > 1:
        yield Caveat(
            "other-class", f"In {others} of {len(kept)} slices the model says another class than {score.label}."
        )
    elif others:
        name, (row,) = case.model.card.output.labels[int(best[0])].name, pieces
        yield Caveat(
            "other-class",
            f"In this slice the model says {name} (p {row.max():.3f}), not {score.label} (p {row[score.index]:.3f}).",
        )


def cell_size(case: Case, affine: np.ndarray) -> tuple[list[float], str]:
    """How much of the input one cell of a map covers along each of its axes, and the unit: mm, or the file's own pixels or
    voxels where it does not say how large they are; a single slice of unknown thickness has two axes.

    :param affine: of the cells, in (d0, d1, d2) order.
    """
    own = case.prepared.reference
    frame = np.eye(3) if own.unit else own.affine[:3, :3]
    cell = np.linalg.norm(np.linalg.solve(frame, affine[:3, :3]), axis=0)
    if 1 in own.shape and "thickness" in own.source.assumed:
        across = own.affine[:3, own.shape.index(1)]
        cell = np.delete(cell, int(np.argmax(np.abs(across @ affine[:3, :3]) / spacing(affine))))
    return [float(c) for c in cell], own.unit or own.elements


def with_caveats(a: Attribution, caveats: Sequence[Caveat]) -> Attribution:
    """A map whose limits begin with what is odd about its input; those that have a code are in its provenance with it."""
    limits = (*caveats, *a.limits)
    return replace(a, limits=limits, provenance=a.provenance | {"caveats": as_values(limits)})


def provenance(case: Case, m: Method, score: Score, kept: Sequence[int] | None) -> dict:
    """What is written down about any map, as plain values."""
    card = case.model.card
    return {
        "notice": f"{NOTICE}. Shows influence on the model, not pathology.",
        "medxai": __version__,
        "model": card.name,
        "weights_sha256": case.model.weights_sha256,
        "method": m.name,
        "method_reference": m.reference,
        "published_randomisation_check": f"{m.randomisation}; not run on this network",
        "output": {"kind": card.output.kind, "which": card.output.which},
        "target": score.name,
        "class": score.label,
        "score": "probability" if score.probabilities else "value" if card.output.kind == "value" else "logit",
        "signed": m.signed,
        "normalisation": "none: raw values",
        "input": case.prepared.reference.source.name,
        "geometry_not_in_the_file": list(case.prepared.reference.source.assumed),
        "device": str(case.model.device),
        "fact": fact(case, score, kept),
    } | ({} if kept is None else {"slices": ranges(kept)})


def fact(case: Case, score: Score, kept: Sequence[int] | None) -> str:
    """What the model says of the very thing that is explained: a probability, a value, or the size of a region."""
    prediction = case.prediction
    if score.point is not None:
        where = tuple(slice(n, n + 1) for n in score.point)
        return f"p {float(prediction.probability(score.index, where).item()):.3f}"
    if score.planes is not None:
        grid = case.prepared.volume(np.empty((1, 1, 1), np.uint8))
        own = score.name == score.label and any(row.name == score.label for row in prediction.labels.rows)
        volume = prediction.labels.volume if own else grid
        count = prediction.labels.count(score.label) if own else int(score.planes.sum())
        if volume.source.format == ARRAY:
            return f"{count * volume.voxel_ml:.1f} mL if a voxel is 1 mm wide ({count} voxels)"
        return size_words(count, volume)
    output = prediction.card.output
    if kept is None or len(prediction.pieces) == 1:
        return output.text(prediction.probabilities[score.label])
    counting = [n for n in kept if prediction.counting[n]] or kept
    highest = max(counting, key=lambda n: prediction.pieces[n, score.index])
    strongest = output.text(prediction.pieces[highest, score.index])
    return f"slice {ranges(kept)}: {strongest}" if len(kept) == 1 else f"highest {strongest} (slice {highest})"
