"""What a 4x4 IJK-to-RAS affine says: spacing, directions, shear, handedness."""

from __future__ import annotations

import numpy as np

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
ANATOMICAL = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The anatomical axis (0 R-L, 1 A-P, 2 S-I) that slices of a plane follow each other along."""
SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two index axes that still counts as orthogonal (0.06 degrees; header rounding is below it)."""

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
