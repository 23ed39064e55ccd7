"""Which structures a map lies in, beside what chance would give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import FileError
from ..geometry.grid import Grid
from ..geometry.labels import Labels
from ..geometry.resample import resample
from ..geometry.volume import Volume
from ..preprocessing.foreground import foreground

ELSEWHERE = "elsewhere"
"""Row of :func:`anatomy_fractions` for what lies in no structure."""


@dataclass(frozen=True)
class StructureFraction:
    """The fractions (0..1) of a map's positive mass, of its negative mass and of the volume seen that one structure has."""

    structure: str
    positive_fraction: float
    negative_fraction: float
    volume_fraction: float


def anatomy_fractions(heat: Volume, anatomy: Labels, seen: np.ndarray) -> list[StructureFraction]:
    """Which structure a map lies in, beside what chance would give: the structure's fraction of the volume seen.

    Fractions of mass are of the whole map, so what lies in air counts as elsewhere. Each column sums to 1
    over the structures and the last row, "elsewhere", but for structures that overlap, which count each; it is 0 throughout
    where there is no such mass.

    :param heat: array (k, j, i).
    :param anatomy: on any grid; resampled to the map's (nearest).
    :param seen: bool (k, j, i) on the map's grid: the voxels that the network saw and that are not air.
    """
    volume = anatomy.volume
    if not volume.grid.same_as(heat.grid):
        volume = resample(volume, heat.grid, order=0)
    own = [np.isin(np.arange(int(volume.array.max()) + 1), row.values) for row in anatomy.rows]
    belongs = np.stack([*own, ~np.logical_or.reduce(own)]) if own else np.ones((1, int(volume.array.max()) + 1), bool)

    def fractions(weights: np.ndarray) -> np.ndarray:
        sums = np.bincount(volume.array.ravel(), weights.ravel(), minlength=belongs.shape[1])
        return belongs @ sums / (sums.sum() or 1.0)

    columns = [fractions(np.maximum(heat.array, 0)), fractions(np.maximum(-heat.array, 0)), fractions(seen)]
    names = [row.name for row in anatomy.rows] + [ELSEWHERE]
    return [
        StructureFraction(name, *map(float, row)) for name, row in zip(names, zip(*columns, strict=True), strict=True)
    ]


def seen_by(reference: Volume, grid: Grid) -> np.ndarray:
    """Bool (k, j, i) on the reference grid: inside what the network saw, and not air.

    :param grid: of what the network saw.
    """
    whole = Volume(np.ones(grid.array_shape, np.uint8), grid.affine)
    return foreground(reference.array) & (resample(whole, reference.grid, order=0).array > 0)


def refuse_apart(anatomy: Labels, reference: Volume, seen: np.ndarray, name: str) -> None:
    """:raises FileError: for an anatomy that lies nowhere in what the network saw.

    :param seen: of :func:`seen_by`. :param name: of the anatomy's file.
    """
    there = resample(anatomy.volume, reference.grid, order=0).array > 0
    if not (there & seen).any():
        raise FileError(
            name,
            f"none of its structures lies in what the network sees of {reference.source.name}: is it of this patient? Leave out "
            "--anatomy, or give that of this volume.",
        )
