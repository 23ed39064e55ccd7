"""What a 4x4 IJK-to-RAS affine says: spacing, directions, shear, handedness."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Affine = NDArray[np.float64]
"""4x4, index to RAS mm."""
Points = NDArray[np.float64]
"""(..., 3)."""

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
ANATOMICAL = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The anatomical axis (0 R-L, 1 A-P, 2 S-I) that slices of a plane follow each other along."""
SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two index axes that still counts as orthogonal (0.06 degrees; header rounding is below it)."""

SMALLEST_MM, LARGEST_MM, FARTHEST_MM = 1e-4, 1e4, 1e6
"""Spacing and origin beyond these are a damaged header or a wrong unit."""


def implausible(affine: Affine) -> str:
    """What cannot be of an affine in mm, in words; empty where nothing is."""
    sizes, far = spacing(affine), np.abs(affine[:3, 3]).max()
    if sizes.min() >= SMALLEST_MM and sizes.max() <= LARGEST_MM and far <= FARTHEST_MM:
        return ""
    return f"a spacing of {sizes.min():.3g} to {sizes.max():.3g} mm and an origin {far:.3g} mm away"


def apply(affine: Affine, points: ArrayLike) -> Points:
    """Apply a 4x4 matrix to points of shape (..., 3)."""
    moved: Points = np.asarray(points, float) @ affine[:3, :3].T + affine[:3, 3]
    return moved


def inverse(affine: Affine) -> Affine:
    """RAS mm to index."""
    back: Affine = np.linalg.inv(affine).astype(np.float64)
    return back


def spacing(affine: Affine) -> NDArray[np.float64]:
    """Lengths of the columns of an affine, mm."""
    lengths: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    return lengths


def directions(affine: Affine) -> NDArray[np.float64]:
    """3x3, the unit vectors of the i, j, k axes as columns."""
    unit: NDArray[np.float64] = affine[:3, :3] / spacing(affine)
    return unit


def shear(affine: Affine) -> float:
    """Largest absolute cosine between two different index axes: 0 where they are square."""
    unit = directions(np.asarray(affine, float))
    return float(np.abs(unit.T @ unit - np.eye(3)).max())


def shear_degrees(affine: Affine) -> float:
    """How far off square the index axes are."""
    return float(np.degrees(np.arcsin(min(1.0, shear(affine)))))


def oblique_degrees(affine: Affine) -> float:
    """Largest angle between an index axis and its nearest anatomical axis."""
    return float(np.degrees(np.arccos(np.clip(np.abs(directions(affine)).max(axis=0), 0, 1)).max()))


def nearest_axes(affine: Affine) -> list[int]:
    """For i, j, k: the number of the anatomical axis (0 R-L, 1 A-P, 2 S-I) that it follows best, each used once."""
    strength = np.abs(directions(affine))

    def followed(order: tuple[int, int, int]) -> float:
        return float(sum(strength[order[n], n] for n in range(3)))

    best = max(permutations(range(3), 3), key=followed)
    return list(best)


def axis_codes(affine: Affine) -> str:
    """The direction toward which i, j, k increase, as ``RAS`` or ``LPI``."""
    unit = directions(affine)
    return "".join(("RL", "AP", "SI")[axis][int(unit[axis, n] < 0)] for n, axis in enumerate(nearest_axes(affine)))


def left_handed(affine: Affine) -> bool:
    """Whether i, j, k are a left-handed system in the patient."""
    return bool(np.linalg.det(affine[:3, :3]) < 0)


def same_affine(one: Affine, other: Affine, shape: tuple[int, ...], tolerance: float) -> bool:
    """Whether two affines put every corner of a grid at the same place, to ``tolerance`` voxels."""
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape[:3]]), -1).reshape(-1, 3)
    offsets = np.abs(apply(inverse(other), apply(one, corners)) - corners)
    return bool(offsets.max() <= tolerance)
