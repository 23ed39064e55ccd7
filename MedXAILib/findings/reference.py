"""What a model says of a case, beside what is known of it: the class that it belongs to, a measured value, a label map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, InputError
from ..geometry.labels import Label, Labels
from ..models.card import ModelCard
from ..names import matching
from .said import Said

PARTED = ";"
"""Between the names of classes that come together."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One class of a case.

    :ivar unit: of both numbers: ``probability``, where the reference is 1 or 0; mL or voxels of a structure; a value's own.
    :ivar dice: of a structure; None where neither has any of it, and for what is no structure.
    """

    name: str
    unit: str
    reference: float
    predicted: float
    dice: float | None = None


def dice(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """2 |A and B| / (|A| + |B|) of two masks; nan where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else float("nan")


def refuse_unusable(card: ModelCard, known: str | Path) -> None:
    """:raises InputError: for what cannot be known of a case of this model: see :func:`named_beside` and :func:`drawn_beside`."""
    if card.voxelwise and not isinstance(known, Path):
        raise FileError(known, "there is no such label map", f"{card.name} draws structures: give the path of theirs")
    if card.voxelwise:
        return
    if isinstance(known, Path):
        raise FileError(
            known.name, f"{card.name} draws nothing that a label map could be held against", "give names of classes"
        )
    if card.output.kind != "value":
        for name in _given(known):
            card.index(name)
    elif len(card.output.labels) > 1:
        raise InputError(
            f"{card.name} gives {len(card.output.labels)} values, and '{known}' does not say of which", "leave it out"
        )
    elif not _is_number(known):
        raise InputError(f"'{known}' is no number", f"give a value in {card.output.unit or 'the unit of the model'}")


def named_beside(said: Said, text: str) -> list[Beside]:
    """Of a classification.

    :param text: names of the classes that the case belongs to, parted by ``;``; of a network that gives one value, this.
    """
    classes = said.classes
    if "values" in said.summary:
        name, value = next(iter(classes.items()))
        return [Beside(name=name, unit=said.summary["unit"], reference=float(text), predicted=value)]
    found = [matching(one, list(classes)) for one in _given(text)]
    return [
        Beside(name=name, unit="probability", reference=float(name in found), predicted=p)
        for name, p in classes.items()
    ]


def _given(text: str) -> list[str]:
    return [part.strip() for part in text.split(PARTED) if part.strip()]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def drawn_beside(labels: Labels, reference: Labels, file: str) -> list[Beside]:
    """Of a segmentation.

    :param labels: what the model drew. :param reference: on the same grid; its structures have the model's names, or values.
    :param file: the reference's, for errors.
    :raises FileError: for another grid, or where none of its labels is one of the model's.
    """
    if not labels.volume.grid.same_as(reference.volume.grid):
        raise FileError(file, "these labels lie on another grid than the image", "give those drawn on this very image")
    pairs = [(row, _same(row, labels.rows, reference.rows)) for row in labels.rows]
    if reference.rows and not any(other for _, other in pairs):
        names = ", ".join(f"{row.value} {row.name}" for row in labels.rows)
        raise FileError(file, "none of its labels is one of the model's", f"its values or names must be of {names}")
    return [_structure(labels, row, reference, other) for row, other in pairs]


def _same(row: Label, own: Sequence[Label], others: Sequence[Label]) -> Label | None:
    """The same structure in another label map: by name where any has one of ours, else by value."""
    names = [other.name for other in others]
    if any(matching(one.name, names) for one in own):
        found = matching(row.name, names)
        return next((other for other in others if other.name == found), None)
    return next((other for other in others if other.value == row.value), None)


def _structure(labels: Labels, row: Label, reference: Labels, other: Label | None) -> Beside:
    found = np.isin(labels.volume.array, row.values)
    truth = np.isin(reference.volume.array, other.values) if other else np.zeros_like(found)
    each = labels.volume.voxel_ml if labels.volume.size_unit == "mL" else 1.0
    overlap = dice(found, truth)
    return Beside(
        name=row.name, unit=labels.volume.size_unit, reference=float(truth.sum()) * each, predicted=float(found.sum()) * each,
        dice=None if np.isnan(overlap) else overlap,
    )  # fmt: skip
