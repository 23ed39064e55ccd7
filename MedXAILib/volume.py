"""Volume: an array and where it lies in the patient. Geometry is asked and changed here and in tiling.py only.

Terms
-----
array
    Indexed (k, j, i), or (k, j, i, channel) for several channels: k is the slowest axis of the file.
affine
    4x4 float64, maps the *index* (i, j, k, 1) of a voxel's centre to RAS millimetres
    (x to the patient's right, y to the front, z to the head). Its columns are orthogonal.
grid
    The shape (in i, j, k order) and the affine.

Not every file says how its image lies in the patient, or how large a pixel is. There is an affine all the same, so that
maps and images keep together; ``Source.assumed`` names what of it was not given, and whoever writes letters, mm, mL or RAS
coordinates asks :attr:`Volume.axes`, :attr:`Volume.unit`, :attr:`Volume.size_unit` and :attr:`Volume.placed` first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
ANATOMICAL = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The anatomical axis (0 R-L, 1 A-P, 2 S-I) that slices of a plane follow each other along."""
GEOMETRY = ("position", "orientation", "spacing", "thickness")
"""What a file may leave open. Thickness: the size of a single slice across its plane."""
MAGNIFICATION = "magnification"
"""Left open where the spacing is a detector's: lengths in the patient, who lies before it, are shorter."""
SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two index axes that still counts as orthogonal (0.06 degrees; header rounding is below it)."""


@dataclass(frozen=True)
class Source:
    """Where a volume came from. ``name`` is a file or folder name without its path; no patient data."""

    name: str = ""
    format: str = ""
    series: dict = field(default_factory=dict)
    """DICOM only: study, series, frame_of_reference and sop (one UID for each slice, in the array's order), modality."""
    remarks: tuple[str, ...] = ()
    """What was odd, and what was done about it: one sentence each."""
    assumed: tuple[str, ...] = ()
    """What of the affine the file does not give: of :data:`GEOMETRY`, or :data:`MAGNIFICATION`."""
    letters: str = ""
    """Where i and j increase toward, as ``RI``, if the file says so without giving the orientation itself."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An array with its geometry.

    :param array: (k, j, i) or (k, j, i, channel), integer or float.
    :param affine: IJK-to-RAS, 4x4, mm; copied as float64.
    :param reach: how far the outermost values hold: the lowest and the highest index along k, j, i; by default half a voxel
        beyond their centres.
    :raises ValueError: for an array of another rank, an affine that is singular, sheared or not finite.
    """

    array: np.ndarray
    affine: np.ndarray
    source: Source = Source()
    reach: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self):
        affine = np.array(self.affine, dtype=np.float64)
        if np.ma.isMaskedArray(self.array):
            raise ValueError("a volume takes no masked array: fill what is masked first, with array.filled(VALUE)")
        if self.array.ndim not in (3, 4) or 0 in self.array.shape:
            raise ValueError(
                f"a volume needs an array (k, j, i[, channel]) with voxels, not the shape {self.array.shape}"
            )
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError("a volume needs a finite, invertible 4x4 IJK-to-RAS affine")
        if shear(affine) > SHEAR_TOLERANCE:
            raise ValueError(f"the affine is sheared (its axes are {shear_degrees(affine):.1f} degrees off square)")
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along i, j, k."""
        k, j, i = self.array.shape[:3]
        return i, j, k

    @property
    def channels(self) -> int:
        return self.array.shape[3] if self.array.ndim == 4 else 1

    @property
    def spacing(self) -> np.ndarray:
        """Distance between voxel centres along i, j, k in mm."""
        return spacing(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def axes(self) -> str:
        """The direction toward which i, j, k increase, one letter of R/L, A/P, S/I each; of a radiograph perhaps i and j
        alone, and nothing where the file does not say it."""
        return self.source.letters if "orientation" in self.source.assumed else axis_codes(self.affine)

    @property
    def placed(self) -> bool:
        """Whether RAS coordinates are places in the patient."""
        return set(self.source.assumed) <= {"thickness"}

    @property
    def unit(self) -> str:
        """Of lengths in the affine: mm, mm at the detector, or nothing where the file does not give the spacing."""
        if "spacing" in self.source.assumed:
            return ""
        return "mm at the detector" if MAGNIFICATION in self.source.assumed else "mm"

    @property
    def elements(self) -> str:
        """What it consists of: the pixels of a single slice, or voxels."""
        return "pixels" if 1 in self.shape else "voxels"

    @property
    def size_unit(self) -> str:
        """What a part of it is measured in: mL, or its pixels or voxels where the file does not give their size."""
        known = not {"spacing", "thickness", MAGNIFICATION}.intersection(self.source.assumed)
        return "mL" if known else self.elements

    def ml(self, count: int) -> float | None:
        """So many voxels in mL; None where the file does not give their size."""
        return float(count) * self.voxel_ml if self.size_unit == "mL" else None

    def axis_index(self, axis: str) -> int:
        """The index axis (0 i, 1 j, 2 k) along which slices of a plane follow each other.

        :param axis: axial, coronal or sagittal (the nearest index axis is meant), or i, j, k.
        """
        return "ijk".index(axis) if axis in "ijk" else nearest_axes(self.affine).index(ANATOMICAL[axis])

    def with_array(self, array: np.ndarray) -> Volume:
        """Same place, new values; the array's (k, j, i) shape must be the same."""
        if array.shape[:3] != self.array.shape[:3]:
            raise ValueError(f"the array {array.shape[:3]} does not fit the grid {self.array.shape[:3]}")
        return replace(self, array=array)

    def same_grid(self, other: Volume, tolerance: float = 1e-3) -> bool:
        """Whether both have the same shape and every voxel lies at the same place, to ``tolerance`` voxels."""
        return self.shape == other.shape and same_affine(self.affine, other.affine, self.shape, tolerance)

    def ras(self, ijk: np.ndarray) -> np.ndarray:
        """RAS mm of continuous indices, shape (..., 3) in i, j, k order."""
        return apply(self.affine, ijk)

    def ijk(self, ras: np.ndarray) -> np.ndarray:
        """Continuous indices (i, j, k) of RAS points in mm, shape (..., 3)."""
        return apply(np.linalg.inv(self.affine), ras)

    def contains(self, ras: np.ndarray) -> bool:
        """Whether a RAS point lies inside the outer faces of the grid."""
        index = self.ijk(np.asarray(ras, float))
        return bool(np.all(index >= -0.5) and np.all(index <= np.array(self.shape) - 0.5))


@dataclass(frozen=True)
class Label:
    """One row of a :class:`Labels`: the value in the array, its name, its colour (r, g, b in 0..1).

    :ivar shared: values of the voxels where it overlaps others, each of which has the value among its own.
    """

    value: int
    name: str
    color: tuple[float, float, float] = (0.5, 0.5, 0.5)
    shared: tuple[int, ...] = ()

    @property
    def values(self) -> tuple[int, ...]:
        """Every value in the array that belongs to it."""
        return self.value, *self.shared


@dataclass(frozen=True, eq=False)
class Labels:
    """An integer volume and what its values mean. Zero is the background and has no row."""

    volume: Volume
    rows: tuple[Label, ...]

    def counts(self) -> dict[str, int]:
        """Number of voxels of each row."""
        highest = max((max(row.values) for row in self.rows), default=0)
        counts = np.bincount(self.volume.array.ravel(), minlength=highest + 1)
        return {row.name: int(counts[list(row.values)].sum()) for row in self.rows}

    def count(self, name: str) -> int:
        """Number of voxels of the row of this name."""
        row = next(row for row in self.rows if row.name == name)
        return int(np.count_nonzero(np.isin(self.volume.array, row.values)))

    def ml(self) -> dict[str, float | None]:
        """Volume of each row in mL; None where the file does not give the size of a voxel."""
        return {name: self.volume.ml(count) for name, count in self.counts().items()}

    def sizes(self) -> dict[str, float]:
        """Size of each row in the volume's :attr:`~Volume.size_unit`."""
        return self.counts() if self.volume.size_unit != "mL" else self.ml()


def overlaid(masks: Iterable[np.ndarray], values: Sequence[int]) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Regions that may overlap as one array: where some do, those voxels get a value of their own.

    :param masks: bool (k, j, i), at least one. :param values: of each region where it is alone.
    :returns: the array, and for each region the further values that belong to it.
    :raises ValueError: for more than 65535 values.
    """
    merged: np.ndarray | None = None
    holders: dict[int, tuple[int, ...]] = {0: ()}
    codes = {(): 0} | {(n,): value for n, value in enumerate(values)}
    for n, mask in enumerate(masks):
        merged = np.zeros(mask.shape, np.uint16) if merged is None else merged
        for before in np.unique(merged[mask]):
            together = (*holders[int(before)], n)
            code = codes.setdefault(together, max(codes.values()) + 1)
            if code > np.iinfo(np.uint16).max:
                raise ValueError("too many overlaps")
            holders[code] = together
            merged[mask & (merged == before)] = code
    shared = [tuple(c for c, held in holders.items() if len(held) > 1 and n in held) for n in range(len(values))]
    return merged, shared


SMALLEST_MM, LARGEST_MM, FARTHEST_MM = 1e-4, 1e4, 1e6
"""Spacing and origin beyond these are a damaged header or a wrong unit."""


def implausible(affine: np.ndarray) -> str:
    """What cannot be of an affine in mm, in words; empty where nothing is."""
    sizes, far = spacing(affine), np.abs(affine[:3, 3]).max()
    if sizes.min() >= SMALLEST_MM and sizes.max() <= LARGEST_MM and far <= FARTHEST_MM:
        return ""
    return f"a spacing of {sizes.min():.3g} to {sizes.max():.3g} mm and an origin {far:.3g} mm away"


def apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a 4x4 matrix to points of shape (..., 3)."""
    return np.asarray(points, float) @ affine[:3, :3].T + affine[:3, 3]


def spacing(affine: np.ndarray) -> np.ndarray:
    """Lengths of the columns of an affine, mm."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def directions(affine: np.ndarray) -> np.ndarray:
    """3x3, the unit vectors of the i, j, k axes as columns."""
    return affine[:3, :3] / spacing(affine)


def shear(affine: np.ndarray) -> float:
    """Largest absolute cosine between two different index axes: 0 where they are square."""
    unit = directions(np.asarray(affine, float))
    return float(np.abs(unit.T @ unit - np.eye(3)).max())


def shear_degrees(affine: np.ndarray) -> float:
    return float(np.degrees(np.arcsin(min(1.0, shear(affine)))))


def oblique_degrees(affine: np.ndarray) -> float:
    """Largest angle between an index axis and its nearest anatomical axis."""
    return float(np.degrees(np.arccos(np.clip(np.abs(directions(affine)).max(axis=0), 0, 1)).max()))


def nearest_axes(affine: np.ndarray) -> list[int]:
    """For i, j, k: the number of the anatomical axis (0 R-L, 1 A-P, 2 S-I) that it follows best, each used once."""
    from itertools import permutations

    strength = np.abs(directions(affine))
    return list(max(permutations(range(3)), key=lambda p: sum(strength[p[n], n] for n in range(3))))


def axis_codes(affine: np.ndarray) -> str:
    """The direction toward which i, j, k increase, as ``RAS`` or ``LPI``."""
    unit = directions(affine)
    return "".join(("RL", "AP", "SI")[axis][int(unit[axis, n] < 0)] for n, axis in enumerate(nearest_axes(affine)))


def left_handed(affine: np.ndarray) -> bool:
    return bool(np.linalg.det(affine[:3, :3]) < 0)


def same_affine(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...], tolerance: float) -> bool:
    """Whether two affines put every corner of a grid at the same place, to ``tolerance`` voxels."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape[:3]]), -1).reshape(-1, 3)
    offsets = np.abs(apply(np.linalg.inv(other), apply(one, corners)) - corners)
    return bool(offsets.max() <= tolerance)


def resample(
    volume: Volume, affine: np.ndarray, shape: tuple[int, int, int], *, order: int = 1, outside: float = 0.0
) -> Volume:
    """The values of ``volume`` on another grid, through both affines.

    A point beyond the outermost centres, but within the volume's ``reach``, takes the nearest values; every other outside
    point becomes ``outside``.

    :param affine: IJK-to-RAS of the new grid, 4x4, mm.
    :param shape: voxels along i, j, k of the new grid.
    :param order: 1 linear (float32 result), 0 nearest (the type is kept).
    """
    i, j, k = shape
    channels = [volume.array] if volume.array.ndim == 3 else [volume.array[..., c] for c in range(volume.channels)]
    dtype = volume.array.dtype if order == 0 else np.float32
    out = np.empty((k, j, i, len(channels)), dtype)
    for c, channel in enumerate(channels):
        for where, values in _slabs(channel, volume.affine, affine, shape, order, outside, dtype, volume.reach):
            out[where, ..., c] = values
    array = out if volume.array.ndim == 4 else out[..., 0]
    return Volume(array, affine, volume.source)


def _slabs(channel, affine, onto, shape, order, outside, dtype, reach=None, depth: int = 16) -> Iterator[tuple]:
    """Resample slab by slab, so that the memory needed beside input and output stays small."""
    from scipy.ndimage import affine_transform

    into = np.linalg.inv(affine) @ np.asarray(onto, float)  # index of the new grid to index of the old one
    flip = np.eye(4)[[2, 1, 0, 3]]  # between (i, j, k) and the array's (k, j, i)
    into = flip @ into @ flip
    into = np.round(into, 9)  # so that grids which coincide do so exactly
    i, j, k = shape
    source = channel if order == 0 else np.ascontiguousarray(channel, np.float32)
    reach = reach or [(-0.5, n - 0.5) for n in channel.shape]
    for start in range(0, k, depth):
        size = (min(depth, k - start), j, i)
        offset = into[:3, 3] + into[:3, 0] * start
        values = affine_transform(source, into[:3, :3], offset, size, order=order, mode="nearest", output=dtype)
        inside = np.ones(size, bool)
        axes = [np.arange(n, dtype=float) for n in size]
        for row in range(3):
            at = offset[row] + (
                into[row, 0] * axes[0][:, None, None] + into[row, 1] * axes[1][:, None] + into[row, 2] * axes[2]
            )
            inside &= (at >= reach[row][0] - 1e-6) & (at <= reach[row][1] + 1e-6)
        values[~inside] = outside
        yield slice(start, start + size[0]), values


def extended(volume: Volume) -> Volume:
    """The outermost values repeated until they cover the volume's ``reach``: for those who only know a grid."""
    if volume.reach is None:
        return volume
    pairs = zip(volume.reach, volume.array.shape, strict=False)
    more = [(max(0, ceil(-0.5 - low - 1e-6)), max(0, ceil(high - n + 0.5 - 1e-6))) for (low, high), n in pairs]
    if not any(map(any, more)):
        return volume
    affine = volume.affine.copy()
    affine[:3, 3] = apply(volume.affine, [-before for before, _ in more[::-1]])
    array = np.pad(volume.array, [*more, *[(0, 0)] * (volume.array.ndim - 3)], mode="edge")
    return replace(volume, array=array, affine=affine, reach=None)


def size_words(count: int, volume: Volume) -> str:
    """So many voxels of a volume, as told to people: 12.3 mL, or 456 pixels."""
    ml = volume.ml(count)
    return f"{count} {volume.elements}" if ml is None else f"{ml:.1f} mL"


def label_colors(count: int, first: float = 0.08) -> list[tuple[float, float, float]]:
    """``count`` distinct colours (evenly spaced hues, golden-ratio order), for labels that bring none.

    :param first: the hue (0..1) of the first one.
    """
    from colorsys import hsv_to_rgb

    return [hsv_to_rgb((0.61803398875 * n + first) % 1, 0.65, 0.95) for n in range(count)]
