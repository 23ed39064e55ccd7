"""Volume: an array and where it lies in the patient; Source: where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .affine import ANATOMICAL, SHEAR_TOLERANCE, Affine, Points, apply, axis_codes, nearest_axes, shear, shear_degrees
from .grid import Grid

GEOMETRY = ("position", "orientation", "spacing", "thickness")
"""What a file may leave open. Thickness: the size of a single slice across its plane."""
ARRAY = "array"
"""Format of a source that is an array without a geometry."""
MAGNIFICATION = "magnification"
"""Left open where the spacing is a detector's: lengths in the patient, who lies before it, are shorter."""
BY_SLICE = ("sop", "frame")
"""What of a DICOM series belongs to one slice each."""


@dataclass(frozen=True)
class Source:
    """Where a volume came from. ``name`` is a file or folder name without its path; no patient data."""

    name: str = ""
    format: str = ""
    series: dict[str, Any] = field(default_factory=dict)
    """DICOM only: study, series, frame_of_reference and sop (one UID for each slice, in the array's order), modality."""
    remarks: tuple[str, ...] = ()
    """What was odd, and what was done about it: one sentence each."""
    assumed: tuple[str, ...] = ()
    """What of the affine the file does not give: of :data:`GEOMETRY`, or :data:`MAGNIFICATION`."""
    letters: str = ""
    """Where i and j increase toward, as ``RI``, if the file says so without giving the orientation itself."""

    def elsewhere(self) -> Source:
        """Of an image on another grid: without what belongs to the slices of this one."""
        return replace(self, series={key: value for key, value in self.series.items() if key not in BY_SLICE})


@dataclass(frozen=True, eq=False)
class Volume:
    """An array with its geometry.

    :param array: (k, j, i) or (k, j, i, channel), integer or float.
    :param affine: IJK-to-RAS, 4x4, mm; copied as float64.
    :param reach: how far the outermost values hold: the lowest and the highest index along k, j, i; by default half a voxel
        beyond their centres.
    :raises ValueError: for an array of another rank, an affine that is singular, sheared or not finite.
    """

    array: NDArray[Any]
    affine: Affine
    source: Source = Source()
    reach: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
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
    def grid(self) -> Grid:
        """Where its voxels lie."""
        return Grid(self.shape, self.affine, str(self.source.series.get("frame_of_reference", "")))

    @property
    def channels(self) -> int:
        """How many values a voxel has."""
        return self.array.shape[3] if self.array.ndim == 4 else 1

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Distance between voxel centres along i, j, k in mm."""
        return self.grid.spacing

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return self.grid.voxel_ml

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

    def with_array(self, array: NDArray[Any]) -> Volume:
        """Same place, new values; the array's (k, j, i) shape must be the same."""
        if array.shape[:3] != self.array.shape[:3]:
            raise ValueError(f"the array {array.shape[:3]} does not fit the grid {self.array.shape[:3]}")
        return replace(self, array=array)

    def ras(self, ijk: ArrayLike) -> Points:
        """RAS mm of continuous indices, shape (..., 3) in i, j, k order."""
        return self.grid.ras(ijk)

    def ijk(self, ras: ArrayLike) -> Points:
        """Continuous indices (i, j, k) of RAS points in mm, shape (..., 3)."""
        return self.grid.ijk(ras)

    def contains(self, ras: ArrayLike) -> bool:
        """Whether a RAS point lies inside the outer faces."""
        return self.grid.contains(ras)


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
    return Volume(array, affine, volume.source.elsewhere())


def size_words(count: int, volume: Volume) -> str:
    """So many voxels of a volume, as told to people: 12.3 mL, or 456 pixels."""
    ml = volume.ml(count)
    return f"{count} {volume.elements}" if ml is None else f"{ml:.1f} mL"
