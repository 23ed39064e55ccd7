"""Tables over labels: hot regions, superpixels, shares by structure; and the part of an image that is not air."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.labels import Label, Labels, label_colors
from ..geometry.resample import resample
from ..geometry.volume import Volume

ELSEWHERE = "elsewhere"
"""Row of :func:`anatomy_shares` for what lies in no structure."""


@dataclass(frozen=True)
class Region:
    """One hot region of a map.

    :ivar value: its value in the Labels.
    :ivar volume_ml: None where the file does not give the size of a voxel.
    :ivar centroid: R, A, S in mm, weighted by the mass; ``index``: the same in voxels, i, j, k.
    :ivar peak: the highest value of the map in it.
    :ivar mass_share: the mass in it, over all positive mass.
    """

    value: int
    name: str
    voxels: int
    volume_ml: float | None
    centroid: tuple[float, float, float]
    index: tuple[float, float, float]
    peak: float
    mass_share: float


@dataclass(frozen=True)
class Superpixel:
    """One superpixel: its value in the Labels, its coefficient in LIME's surrogate, its size."""

    value: int
    name: str
    coefficient: float
    voxels: int
    volume_ml: float | None


@dataclass(frozen=True)
class StructureShare:
    """The shares (0..1) of a map's positive mass, of its negative mass and of the volume seen that one structure has."""

    structure: str
    positive_share: float
    negative_share: float
    volume_share: float


def hot_regions(
    heat: Volume, *, mass: np.ndarray | None = None, share: float = 0.5, smallest_mm3: float | None = None
) -> tuple[Labels, list[Region]]:
    """Where a map is hot: the smallest set of voxels that holds ``share`` of its positive mass.

    Voxels that equal the lowest mass needed all belong to the set, so that ties (a superpixel) are never cut.
    The set falls into components whose voxels touch by faces, edges or corners. Components below ``smallest_mm3``
    are dropped, except the one with the largest mass. Rows and label values go by falling mass.

    :param heat: array (k, j, i).
    :param mass: of each voxel, (k, j, i), only the positive counts; by default the map's own values. See
        :attr:`MedXAILib.explanation.Attribution.mass`.
    :param share: 0 < share <= 1.
    :param smallest_mm3: by default 50 mm3, or a thousandth of the grid where that is less.
    :returns: Labels on the map's grid, and the rows; both without rows where no value is positive.
    """
    from scipy import ndimage

    weight = heat.array if mass is None else mass
    voxel_mm3 = 1000 * heat.voxel_ml
    if smallest_mm3 is None:
        smallest_mm3 = min(50.0, heat.array.size * voxel_mm3 / 1000)
    components, count = ndimage.label(weight >= mass_threshold(weight, share), np.ones((3, 3, 3)))
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
        Region(
            value=value,
            name=f"region {value}",
            voxels=int(sizes[n]),
            volume_ml=heat.ml(sizes[n]),
            centroid=tuple(centroid.tolist()),
            index=tuple(index.tolist()),
            peak=float(peaks[n]),
            mass_share=float(masses[n] / total),
        )
        for value, (n, centroid, index) in enumerate(zip(order, centroids, indices, strict=True), 1)
    ]
    colors = label_colors(len(rows), first=0.33)  # other ones than those of the classes, beside which they are drawn
    labels = [Label(row.value, row.name, color) for row, color in zip(rows, colors, strict=True)]
    return Labels(heat.with_array(renumber[components]), tuple(labels)), rows


def largest_pieces(labels: Labels, most: int = 5) -> Labels:
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


def mass_threshold(array: np.ndarray, share: float) -> float:
    """The highest value v for which the voxels >= v hold ``share`` of the sum of all positive voxels; inf for none."""
    falling = np.sort(array[array > 0])[::-1]
    if not falling.size:
        return np.inf
    mass = np.cumsum(falling, dtype=np.float64)
    return float(falling[np.searchsorted(mass, min(share, 1.0) * mass[-1])])


def spread(coefficients: Volume, superpixels: Labels) -> Volume:
    """How much of an explanation each voxel holds, where superpixels were painted with their coefficients.

    A coefficient belongs to its superpixel as a whole, so each voxel holds an equal part: else a large superpixel of
    no importance would outweigh a small one that decides.

    :param coefficients: the painted map, array (k, j, i).
    :param superpixels: on the same grid.
    """
    labels = superpixels.volume.array
    return coefficients.with_array(coefficients.array / np.maximum(np.bincount(labels.ravel()), 1)[labels])


def superpixel_rows(labels: Labels, coefficients: dict[int, float]) -> list[Superpixel]:
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


def anatomy_shares(heat: Volume, anatomy: Labels, seen: np.ndarray) -> list[StructureShare]:
    """Which structure a map lies in, beside what chance would give: the structure's share of the volume seen.

    Shares of mass are of the whole map, so what lies in air counts as elsewhere. Each column sums to 1
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

    def shares(weights: np.ndarray) -> np.ndarray:
        sums = np.bincount(volume.array.ravel(), weights.ravel(), minlength=belongs.shape[1])
        return belongs @ sums / (sums.sum() or 1.0)

    columns = [shares(np.maximum(heat.array, 0)), shares(np.maximum(-heat.array, 0)), shares(seen)]
    names = [row.name for row in anatomy.rows] + [ELSEWHERE]
    return [StructureShare(name, *map(float, row)) for name, row in zip(names, zip(*columns, strict=True), strict=True)]


def foreground(array: np.ndarray) -> np.ndarray:
    """The part of an image that is not air or empty background; of several channels, the part that any of them shows.

    Air is what lies below a softened Otsu threshold of the lightly smoothed image, or is the one value that fills
    the image's border. Specks are left out of the foreground. What a plane along any axis shows enclosed by it
    belongs to it: dark lesions, fluid, lungs.

    :param array: (k, j, i) or (k, j, i, channel).
    :returns: bool (k, j, i), never empty: all true where no air can be told from the rest.
    """
    channels = [array] if array.ndim == 3 else [array[..., c] for c in range(array.shape[3])]
    masks = [_filled(_without_specks(mask)) for mask in map(_not_air, channels) if mask is not None]
    return np.logical_or.reduce(masks) if masks else np.ones(array.shape[:3], bool)


def _not_air(channel: np.ndarray) -> np.ndarray | None:
    """What is brighter than air in one channel (k, j, i), or None where no air can be told from the rest."""
    from scipy import ndimage

    values = np.nan_to_num(channel.astype(np.float32), nan=np.nanmin(channel))
    rest = values[values > values.min()]
    if not rest.size:
        return None
    low, high = np.percentile(rest, (1, 99))
    edge, uniform = _border_value(values)
    if uniform and low < edge < high:  # standardised intensities, the background set to one value among them
        return values != edge
    padded = values.min() < low - (high - low) / 2  # a value of its own outside the field of view or the head
    inside = values > values.min() if padded else np.ones(values.shape, bool)
    without_air = inside if padded else None

    low, high = np.percentile(values[inside], (0.5, 99.5))
    smooth = ndimage.gaussian_filter(np.clip(values, low, high), 0.7)
    darker = smooth[inside]
    for _ in range(3):  # dark from bright tissue first, perhaps, and then air from dark tissue
        otsu = otsu_threshold(darker)
        dark = darker <= otsu
        if dark.all() or not dark.any():
            break
        air, body = np.median(darker[dark]), np.median(darker[~dark])
        if air - low < (body - low) / 4:  # air lies near the lowest value
            return smooth > air + 0.4 * (otsu - air)
        darker = darker[dark]
    return without_air


def otsu_threshold(values: np.ndarray) -> float:
    """The threshold between two classes with the largest variance between them (Otsu 1979, IEEE SMC 9:62), by 256 bins.

    skimage has it too, but Slicer's Python may lack skimage where shares by structure are looked at.
    """
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = (np.cumsum((counts * centres)[::-1]) / np.maximum(above[::-1], 1))[::-1]
    between = below[:-1].astype(float) * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])


def _border_value(values: np.ndarray) -> tuple[float, bool]:
    """The most frequent value on the faces of an array, and whether it fills more than half of them."""
    axes = [axis for axis in range(3) if values.shape[axis] > 1]
    faces = [np.take(values, at, axis).ravel() for axis in axes for at in (0, -1)] or [values.ravel()]
    found, counts = np.unique(np.concatenate(faces), return_counts=True)
    return float(found[counts.argmax()]), bool(2 * counts.max() > counts.sum())


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The components (touching by faces) that have at least 2 % of the largest one's voxels."""
    from scipy import ndimage

    components, _ = ndimage.label(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return (sizes >= max(1, 0.02 * sizes.max()))[components]


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask and every hole that a plane along any axis shows enclosed: lungs are open where the scan ends."""
    from scipy import ndimage

    filled = mask.copy()
    for axis in range(3):
        in_plane = ndimage.generate_binary_structure(3, 1)
        np.moveaxis(in_plane, axis, 0)[[0, 2]] = False
        holes, count = ndimage.label(~mask, in_plane)
        reaches_out = np.zeros(count + 1, bool)
        for across in {0, 1, 2} - {axis}:
            for at in (0, -1):
                reaches_out[np.take(holes, at, across)] = True
        filled |= ~reaches_out[holes] & (holes > 0)
    return filled
