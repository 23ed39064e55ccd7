"""Tables over labels: hot regions and superpixels of a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..geometry.labels import Label, Labels, label_colors
from ..geometry.volume import Volume


@dataclass(frozen=True)
class HotRegion:
    """One hot region of a map.

    :ivar value: its value in the Labels.
    :ivar volume_ml: None where the file does not give the size of a voxel.
    :ivar centroid: R, A, S in mm, weighted by the mass; ``index``: the same in voxels, i, j, k.
    :ivar peak: the highest value of the map in it.
    :ivar mass_fraction: the mass in it, over all positive mass.
    """

    value: int
    name: str
    voxels: int
    volume_ml: float | None
    centroid: tuple[float, float, float]
    index: tuple[float, float, float]
    peak: float
    mass_fraction: float


@dataclass(frozen=True)
class Superpixel:
    """One superpixel: its value in the Labels, its coefficient in LIME's surrogate, its size."""

    value: int
    name: str
    coefficient: float
    voxels: int
    volume_ml: float | None


def hot_regions(
    heat: Volume, *, mass: np.ndarray | None = None, fraction: float = 0.5, smallest_mm3: float | None = None
) -> tuple[Labels, list[HotRegion]]:
    """Where a map is hot: the smallest set of voxels that holds ``fraction`` of its positive mass.

    Voxels that equal the lowest mass needed all belong to the set, so that ties (a superpixel) are never cut.
    The set falls into components whose voxels touch by faces, edges or corners. Components below ``smallest_mm3``
    are dropped, except the one with the largest mass. Rows and label values go by falling mass.

    :param heat: array (k, j, i).
    :param mass: of each voxel, (k, j, i), only the positive counts; by default the map's own values. See
        :attr:`MedXAILib.Attribution.mass`.
    :param fraction: 0 < fraction <= 1.
    :param smallest_mm3: by default 50 mm3, or a thousandth of the grid where that is less.
    :returns: Labels on the map's grid, and the rows; both without rows where no value is positive.
    """
    from scipy import ndimage

    weight = heat.array if mass is None else mass
    voxel_mm3 = 1000 * heat.voxel_ml
    if smallest_mm3 is None:
        smallest_mm3 = min(50.0, heat.array.size * voxel_mm3 / 1000)
    components, count = ndimage.label(weight >= mass_threshold(weight, fraction), np.ones((3, 3, 3)))
    where = np.nonzero(components)
    number, held = components[where], weight[where].astype(np.float64)
    sizes = np.bincount(number, minlength=count + 1)
    masses = np.bincount(number, held, count + 1)
    falling = 1 + np.argsort(-masses[1:], kind="stable")
    large = sizes[falling] * voxel_mm3 >= smallest_mm3
    large[:1] = True
    order = falling[large]

    renumber = np.zeros(count + 1, np.min_scalar_type(len(order)))
    renumber[order] = np.arange(1, len(order) + 1)
    moments = np.stack([np.bincount(number, held * index, count + 1) for index in reversed(where)], -1)
    indices = moments[order] / masses[order, None]
    centroids = heat.ras(indices)
    peaks = np.zeros(count + 1)
    np.maximum.at(peaks, number, heat.array[where])
    total = weight[weight > 0].sum(dtype=np.float64)
    rows = [
        HotRegion(
            value=value,
            name=f"region {value}",
            voxels=int(sizes[n]),
            volume_ml=heat.ml(sizes[n]),
            centroid=tuple(centroid.tolist()),
            index=tuple(index.tolist()),
            peak=float(peaks[n]),
            mass_fraction=float(masses[n] / total),
        )
        for value, (n, centroid, index) in enumerate(zip(order, centroids, indices, strict=True), 1)
    ]
    colors = label_colors(len(rows), first=0.33)  # other ones than those of the classes, beside which they are drawn
    labels = [Label(row.value, row.name, color) for row, color in zip(rows, colors, strict=True)]
    return Labels(heat.with_array(renumber[components]), tuple(labels)), rows


def largest_components(labels: Labels, most: int = 5) -> Labels:
    """Labels of which each row has its largest pieces only (voxels that touch by faces, edges or corners); the names of those
    that lost some say so."""
    from scipy import ndimage

    array, rows = labels.volume.array, []
    kept = np.zeros(array.shape, bool)
    for row in labels.rows:
        components, count = ndimage.label(np.isin(array, row.values), np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())[1:]
        largest = 1 + np.argsort(-sizes, kind="stable")[:most]
        kept |= np.isin(components, largest)
        rows.append(replace(row, name=f"{row.name} (largest {most} of {count} pieces)") if count > most else row)
    return Labels(labels.volume.with_array(np.where(kept, array, 0)), tuple(rows))


def mass_threshold(array: np.ndarray, fraction: float) -> float:
    """The highest value v for which the voxels >= v hold ``fraction`` of the sum of all positive voxels; inf for none."""
    falling = np.sort(array[array > 0])[::-1]
    if not falling.size:
        return np.inf
    mass = np.cumsum(falling, dtype=np.float64)
    return float(falling[np.searchsorted(mass, min(fraction, 1.0) * mass[-1])])


def superpixel_rows(labels: Labels, coefficients: Mapping[int, float]) -> list[Superpixel]:
    """The superpixels by falling coefficient.

    :param coefficients: of every label value that has a row.
    """
    highest = max((row.value for row in labels.rows), default=0)
    counts = np.bincount(labels.volume.array.ravel(), minlength=highest + 1)
    rows = [
        Superpixel(row.value, row.name, float(coefficients[row.value]), int(n), labels.volume.ml(n))
        for row, n in ((row, counts[row.value]) for row in labels.rows)
    ]
    return sorted(rows, key=lambda row: -row.coefficient)


def inner_points(labels: Volume) -> dict[int, list[float]]:
    """RAS mm of one voxel of each label value, the one nearest to the label's middle (which may lie outside of it).

    :param labels: integer array (k, j, i).
    """
    from scipy import ndimage

    points = {}
    for value, box in enumerate(ndimage.find_objects(labels.array.astype(np.int32)), 1):
        if box is not None:
            inside = np.argwhere(labels.array[box] == value)
            nearest = inside[np.argmin(np.linalg.norm(inside - inside.mean(0), axis=1))]
            points[value] = labels.ras((nearest + [part.start for part in box])[::-1]).tolist()
    return points
