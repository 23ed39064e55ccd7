"""A dark blob planted in a real head, whose place and size are known."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ...errors import FileError
from ...geometry.affine import apply
from ...geometry.grid import Grid
from ...geometry.labels import Label, Labels
from ...geometry.resample import resample
from ...geometry.volume import Volume

Floats = NDArray[np.float64]

SURVEY_MM = 3.0
"""Spacing of the grid on which a head is surveyed before a lesion is planted."""
MARGIN_MM = 3.0
"""Least distance of a lesion from the surface of the brain."""
EDGE_MM = 1.0
"""Width of the lesion's edge (scale of the logistic function)."""
RADII_MM = (6.0, 12.0)
LESION = Label(1, "lesion", (0.9, 0.2, 0.2))


@dataclass(frozen=True, eq=False, kw_only=True)
class Survey:
    """A head on a coarse grid along R, A, S, on which a place for a lesion is sought.

    :ivar head: the intensities. Its grid depends on where the head lies, not on how its voxels are stored.
    :ivar depth: mm from each voxel to the nearest one outside the brain, 0 outside.
    :ivar csf: intensity of cerebrospinal fluid; ``tissue``: median intensity of the brain.
    """

    head: Volume
    depth: Floats
    csf: float
    tissue: float


@dataclass(frozen=True, eq=False, kw_only=True)
class PlantedLesion:
    """A head with a lesion in it.

    :ivar head: of the type and on the grid that the head had before.
    :ivar lesion: the lesion's voxels, on the same grid.
    :ivar centre: of the lesion, R, A, S in mm.
    :ivar radius: mm, of a sphere of the same volume.
    """

    head: Volume
    lesion: Labels
    centre: tuple[float, float, float]
    radius: float


def plant_lesion(volume: Volume, seed: int, brain: NDArray[np.generic] | None = None) -> PlantedLesion:
    """Plant an ellipsoidal lesion, dark like cerebrospinal fluid, in the tissue of a head.

    Place, size and shape are drawn from ``seed`` in millimetres, so they do not depend on how the voxels are stored
    (on resampled ones they do where a place is only just good enough).
    The values stay within those of the head and keep a part of its texture.

    :param volume: one channel, a T1 or another contrast with dark fluid, skull-stripped (0 outside) or with ``brain``.
    :param brain: mask (k, j, i) of the brain; by default every voxel above 0.
    :raises FileError: when the head has no room for a lesion.
    """
    return plant_in(volume, survey(volume, brain), seed)


def survey(volume: Volume, brain: NDArray[np.generic] | None = None) -> Survey:
    """Look at a head once; see :func:`plant_lesion`. The fluid is the darkest hundredth of the deep third of the brain.

    :raises FileError: for a head of several channels, or without a voxel in the brain.
    """
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    if volume.channels != 1:
        raise FileError(volume.source.name, f"a lesion needs a head of one channel, this has {volume.channels}.")
    array = volume.array.reshape(volume.array.shape[:3])
    mask = array > 0 if brain is None else np.asarray(brain) > 0
    grid = grid_around(volume, SURVEY_MM)
    head = resample(volume.with_array(array), grid)
    inside = resample(volume.with_array(mask.astype(np.float32)), grid).array > 0.5
    inside = binary_fill_holes(inside)
    depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1, 1:-1] * SURVEY_MM
    if not inside.any():
        raise FileError(volume.source.name, "this head has no voxels above 0", "give one that is skull-stripped")
    csf = float(np.percentile(head.array[depth > depth.max() / 3], 1))
    return Survey(head=head, depth=depth, csf=csf, tissue=float(np.median(head.array[inside])))


def grid_around(volume: Volume, spacing: float) -> Grid:
    """A grid along R, A, S that covers a volume, with centres at multiples of ``spacing``, mm."""
    faces = volume.ras(list(product(*((-0.5, n - 0.5) for n in volume.shape))))
    first = np.ceil(faces.min(axis=0) / spacing - 1e-6)
    last = np.maximum(first, np.floor(faces.max(axis=0) / spacing + 1e-6))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = first * spacing
    return Grid(last - first + 1, affine)


def plant_in(volume: Volume, seen: Survey, seed: int) -> PlantedLesion:
    """:func:`plant_lesion` in a head that was surveyed before."""
    rng = np.random.default_rng(seed)
    radius = float(rng.uniform(*RADII_MM))
    shape = ellipsoid(rng, radius)
    centre = find_place(volume, seen, rng, shape)
    box, distance = around(volume, centre, shape)
    array = volume.array.reshape(volume.array.shape[:3])
    old = array[box].astype(np.float64)
    alpha = 1 / (1 + np.exp(np.clip((distance - 1) * radius / EDGE_MM, -50, 50)))
    inside = distance <= 1
    texture = (old - old[inside].mean()) * 0.3
    new = np.clip((1 - alpha) * old + alpha * (seen.csf + texture), array.min(), array.max())
    planted, lesion = array.copy(), np.zeros(array.shape, np.uint8)
    planted[box] = np.rint(new) if np.issubdtype(array.dtype, np.integer) else new
    lesion[box] = inside
    r, a, s = centre.tolist()
    return PlantedLesion(
        head=volume.with_array(planted),
        lesion=Labels(volume.with_array(lesion), (LESION,)),
        centre=(r, a, s),
        radius=radius,
    )


def ellipsoid(rng: np.random.Generator, radius: float) -> Floats:
    """3x3: half axes (columns, mm, RAS) of an ellipsoid with the volume of a sphere of ``radius``, turned at random."""
    stretch = rng.uniform(-0.15, 0.15, 3)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    axes: Floats = turn * radius * np.exp(stretch - stretch.mean())
    return axes


def find_place(volume: Volume, seen: Survey, rng: np.random.Generator, shape: Floats) -> Floats:
    """A centre (RAS mm) where the ellipsoid lies in the brain and nine tenths of it in tissue, not in fluid.

    :raises FileError: where none was found.
    """
    from scipy.ndimage import map_coordinates

    middle = seen.head.ras(np.argwhere(seen.depth > 0)[:, ::-1]).mean(axis=0)
    reach = np.linalg.norm(shape, axis=0).max()
    centres = middle + rng.uniform(-100, 100, (20_000, 3))
    depths = map_coordinates(seen.depth, seen.head.ijk(centres).T[::-1], order=1)
    centre: Floats
    for centre in centres[depths >= reach + MARGIN_MM]:
        box, distance = around(seen.head, centre, shape)
        if np.mean(seen.head.array[box][distance <= 1] < (seen.csf + seen.tissue) / 2) < 0.1:
            return centre
    raise FileError(
        volume.source.name,
        f"no place for a lesion of {RADII_MM[0]:g} to {RADII_MM[1]:g} mm radius was found in the tissue of this head",
        "give a whole head, skull-stripped, with dark fluid",
    )


def around(volume: Volume, centre: Floats, shape: Floats) -> tuple[tuple[slice, ...], Floats]:
    """The box (slices in k, j, i) that an ellipsoid and its soft edge reach, and in it the distance from the centre
    in units of the half axes: 1 on the surface."""
    reach = (np.linalg.norm(shape, axis=0).max() + 6 * EDGE_MM) / volume.spacing
    middle = volume.ijk(centre)
    low = np.maximum(0, np.floor(middle - reach)).astype(int)
    high = np.minimum(volume.shape, np.ceil(middle + reach).astype(int) + 1)
    i, j, k = (np.arange(a, b) for a, b in zip(low, high, strict=True))
    points = apply(volume.affine, np.stack(np.meshgrid(k, j, i, indexing="ij")[::-1], -1))
    distance = np.linalg.norm((points - centre) @ np.linalg.inv(shape).T, axis=-1)
    return tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True)), distance


def miss_mm(lesion: Labels, ras: tuple[float, float, float]) -> float:
    """Distance of a point from the nearest voxel of a lesion, mm; 0 inside."""
    volume = lesion.volume
    k, j, i = np.nonzero(volume.array)
    distance = np.linalg.norm(volume.ras(np.stack([i, j, k], 1)) - np.array(ras), axis=1).min()
    return 0.0 if distance <= np.linalg.norm(volume.spacing) / 2 else float(distance)
