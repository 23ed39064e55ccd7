"""Grid: where the voxels of an image lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .affine import Affine, Points, apply, inverse, same_affine, spacing

REVERSED = [2, 1, 0, 3]
"""The columns of an affine of indices (i, j, k), in the order of an affine of (k, j, i)."""


@dataclass(frozen=True, eq=False)
class Grid:
    """How many voxels an image has, and where they lie in the patient.

    :param shape: voxels along i, j, k.
    :param affine: IJK-to-RAS, 4x4, mm; copied as float64.
    :param frame_of_reference: DICOM's UID of the space that RAS coordinates belong to; empty where it is unknown.
    """

    shape: tuple[int, int, int]
    affine: Affine
    frame_of_reference: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", np.array(self.affine, dtype=np.float64))

    @classmethod
    def of_array(cls, shape: tuple[int, int, int], affine: Affine, frame_of_reference: str = "") -> Grid:
        """Of an array's shape and the affine of its own indices, both in the order (k, j, i)."""
        return cls(shape[::-1], np.asarray(affine)[:, REVERSED], frame_of_reference)

    @property
    def array_shape(self) -> tuple[int, int, int]:
        """Voxels along k, j, i."""
        return self.shape[::-1]

    @property
    def array_affine(self) -> Affine:
        """Maps the index (k, j, i, 1) to RAS mm."""
        return self.affine[:, REVERSED]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Distance between voxel centres along i, j, k in mm."""
        return spacing(self.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both have the same shape and every voxel lies at the same place, to ``tolerance`` voxels."""
        return self.shape == other.shape and same_affine(self.affine, other.affine, self.shape, tolerance)

    def ras(self, ijk: ArrayLike) -> Points:
        """RAS mm of continuous indices, shape (..., 3) in i, j, k order."""
        return apply(self.affine, ijk)

    def ijk(self, ras: ArrayLike) -> Points:
        """Continuous indices (i, j, k) of RAS points in mm, shape (..., 3)."""
        return apply(inverse(self.affine), ras)

    def index_of(self, ras: ArrayLike) -> Points:
        """Continuous indices of RAS points in mm, shape (..., 3), in the array's order (k, j, i)."""
        return apply(inverse(self.array_affine), ras)

    def contains(self, ras: ArrayLike) -> bool:
        """Whether a RAS point lies inside the outer faces."""
        index = self.ijk(np.asarray(ras, float))
        return bool(np.all(index >= -0.5) and np.all(index <= np.array(self.shape) - 0.5))
