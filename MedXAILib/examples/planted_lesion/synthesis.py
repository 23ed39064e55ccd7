"""Many heads out of a few: deformed, some with intensities drawn by structure, with lesions planted in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...geometry.volume import Volume
from .heads import Head
from .planting import SURVEY_MM, plant_in, survey

Floats = NDArray[np.float32]

SHAPE = (56, 66, 54)
"""Voxels (k, j, i) of SURVEY_MM each that a deformed head has: a large brain."""
AFFINE = np.diag([SURVEY_MM, SURVEY_MM, SURVEY_MM, 1])
FLUID = [0, 3, 10, 11]
"""Labels of fluid in the map of the brain's structures, in the order in which their levels are drawn."""
LESIONS = 10
"""Lesions planted in each deformed head."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DeformedHead:
    """A deformed head on SHAPE, float16, and its lesions.

    :ivar image: 0 outside ``mask``, the brain's median 1.
    :ivar mask: of the brain, 0..1.
    :ivar planted: the differences that the lesions make: (lesion, k, j, i).
    :ivar lesions: their voxels, 0 or 1: (lesion, k, j, i).
    """

    image: NDArray[np.float16]
    mask: NDArray[np.float16]
    planted: NDArray[np.float16]
    lesions: NDArray[np.float16]


def build_bank(heads: Sequence[Head], weights: Sequence[float], count: int, seed: int) -> Iterator[DeformedHead]:
    """``count`` deformed heads with their lesions, but for those without room for so many lesions.

    :param weights: of each head: how often it is taken beside the others.
    """
    chosen = np.random.default_rng(seed).choice(len(heads), count, p=np.array(weights) / sum(weights))
    for number, which in enumerate(chosen):
        rng = np.random.default_rng([seed, number])
        image, mask = sample(heads[which], rng)
        volume = Volume(image, AFFINE)
        seen = survey(volume, mask > 0.5)
        try:
            pairs = [plant_in(volume, seen, int(rng.integers(2**31))) for _ in range(LESIONS)]
        except InputError:
            continue
        yield DeformedHead(
            image=image.astype(np.float16),
            mask=mask.astype(np.float16),
            planted=np.stack([pair.head.array - image for pair in pairs]).astype(np.float16),
            lesions=np.stack([pair.lesion.volume.array for pair in pairs]).astype(np.float16),
        )


def sample(head: Head, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A deformed head: intensities (0 outside the brain; brain's median 1) and mask, float32, on SHAPE.

    One in three is the mean of several deformations, like the average of many people.
    """
    from scipy.ndimage import map_coordinates

    array = synthesise(head, rng) if head.labels is not None and rng.random() < 0.35 else head.volume.array
    mask = np.clip((head.mask - rng.uniform(0.15, 0.7)) * 4 + 0.5, 0, 1)
    where = deform(head, rng, rng.uniform(0, 5))
    copies = rng.integers(4, 10) if rng.random() < 0.35 else 1
    spread = rng.uniform(1, 3.5)
    image, cover = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    for _ in range(copies):
        jitter = 0 if copies == 1 else spread * np.stack([smooth_noise(rng, SHAPE, 9) for _ in range(3)])
        inside = map_coordinates(mask, where + jitter, order=1)
        image += map_coordinates(array, where + jitter, order=1) * inside
        cover += inside
    mask = np.clip(cover / copies, 0, 1)
    mask[mask < 0.3] = 0
    image = np.where(mask > 0, image / np.maximum(cover, 1e-3), 0)
    return image / np.median(image[mask > 0.5]), mask


def synthesise(head: Head, rng: np.random.Generator) -> Floats:
    """Intensities drawn by structure instead of the scanned ones: dark fluid, brighter grey and white matter."""
    from scipy.ndimage import gaussian_filter

    levels = np.array([rng.uniform(0.1, 0.35) if n in FLUID else rng.uniform(0.5, 1) for n in range(256)], np.float32)
    levels[FLUID] = levels[0] + rng.normal(0, 0.03, len(FLUID))
    painted = gaussian_filter(levels[head.labels], rng.uniform(0.6, 1.5))
    scanned = head.volume.array / np.median(head.volume.array[head.mask > 0.5])
    intensities: Floats = painted + rng.uniform(0, 0.3) * scanned
    return intensities


def deform(head: Head, rng: np.random.Generator, bend: float) -> NDArray[np.float64]:
    """Coordinates (3, k, j, i) in ``head`` of the voxels of SHAPE, turned, scaled and bent by ``bend`` mm."""
    angles = np.radians(rng.normal(0, 5, 3))
    scale = np.exp(rng.normal(0.0, 0.05) + rng.normal(0, 0.04, 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")) * SURVEY_MM
    grid = grid + rng.uniform(-3, 3, (3, 1, 1, 1))
    if rng.random() < 0.5:
        grid[2] *= -1  # left and right swapped
    bent = grid + bend * np.stack([smooth_noise(rng, SHAPE, 6) for _ in range(3)])
    middle = np.array([hits.mean() for hits in np.nonzero(head.mask > 0.5)])
    at: NDArray[np.float64] = np.tensordot(turn / scale[:, None], bent, 1) + middle[:, None, None, None]
    return at


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], knots: int) -> Floats:
    """A smooth random field of deviation about 1, float32."""
    from scipy.ndimage import zoom

    coarse = rng.normal(size=[knots] * len(shape)).astype(np.float32)
    field: Floats = zoom(coarse, [n / knots for n in shape], order=1, mode="nearest", grid_mode=True)
    return field
