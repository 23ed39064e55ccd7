"""The heads: the demo's own, those that its network learned from, and the one kept out."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PackageError
from ...geometry.resample import resample
from ...geometry.volume import Source, Volume
from ...io.read import read_volume
from ...models.card import Strict
from .planting import grid_around

TABLE = Path(__file__).parent / "heads.toml"
RIM = 8
"""Voxels around the brain that a head keeps."""


class Scan(Strict):
    """One head of the table: its file or DICOM folder, the mask or label map of its brain, and how often it is taken."""

    image: str
    brain: str | None = None
    weight: float


class Scans(Strict):
    """What is trained on, and the head kept out."""

    heads: tuple[Scan, ...]
    held_out: str


def scans() -> Scans:
    """The table of the heads, ``heads.toml``."""
    return Scans.model_validate(tomllib.loads(TABLE.read_text(encoding="utf-8")))


@dataclass(frozen=True, eq=False, kw_only=True)
class Head:
    """A head of 1 mm voxels along R, A, S: float32 intensities, and the mask of its brain (float32, 0..1).

    ``labels``: structures of the brain, where known.
    """

    volume: Volume
    mask: NDArray[np.float32]
    labels: NDArray[Any] | None = None


def demo_head() -> Volume:
    """The ICBM152 average T1, skull-stripped, 1 mm, 8 bit, from the nilearn package.

    :raises PackageError: when nilearn is not installed.
    """
    found = find_spec("nilearn")
    if found is None or found.origin is None:
        raise PackageError(
            "The demo's head comes with nilearn, which is not installed", "run pip install nilearn", joint=": "
        )
    return read_volume(
        Path(found.origin).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    )


def read_held_out(data: Path) -> Volume:
    """The head kept out of training: a FreeSurfer volume (T1, skull-stripped), which takes nibabel to read."""
    from nibabel.freesurfer.mghformat import MGHImage

    path = data / scans().held_out
    image = MGHImage.from_filename(path)
    array = np.ascontiguousarray(np.asarray(image.dataobj).transpose(2, 1, 0))
    return Volume(array, image.affine, Source(name=path.name))


def read_head(path: Path, brain: Path | None) -> Head:
    """Read a head and find its brain, both on 1 mm voxels along R, A, S around the brain.

    :param brain: a mask, or a map of at least three structures; without one the brain is found (:func:`strip`).
    """
    from scipy.ndimage import gaussian_filter

    volume = read_volume(path)
    grid = grid_around(volume, 1.0)
    head = resample(volume, grid)
    labels = None
    if brain is None:
        mask = strip(head.array)
    else:
        given = resample(read_volume(brain), grid, order=0).array
        labels = given if given.max() > 2 else None
        mask = closed(given > 0)
    box = tuple(
        slice(max(0, hits.min() - RIM), hits.max() + RIM + 1)
        for axis in range(3)
        for hits in [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))]
    )
    moved = grid.affine.copy()
    moved[:3, 3] += [part.start for part in box[::-1]]
    return Head(
        volume=Volume(np.ascontiguousarray(head.array[box]), moved, volume.source),
        mask=gaussian_filter(mask[box].astype(np.float32), 1),
        labels=None if labels is None else labels[box],
    )


def strip(array: NDArray[Any]) -> NDArray[np.bool_]:
    """A rough mask of the brain in a head of 1 mm voxels: what is about as bright as the middle of the head and
    hangs together with it when thin bridges are cut."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, label

    smooth = gaussian_filter(array, 1)
    head = smooth > 0.1 * np.percentile(smooth, 99)
    middle = np.array([np.median(hits) for hits in np.nonzero(head)])
    away = np.linalg.norm(np.indices(array.shape) - middle[:, None, None, None], axis=0)
    tissue = np.median(smooth[(away < 50) & head])
    like_brain = (smooth > 0.55 * tissue) & (smooth < 1.9 * tissue)
    core = distance_transform_edt(like_brain) > 5
    components, _ = label(core)
    counts = np.bincount(components[away < 50])
    counts[0] = 0
    grown = distance_transform_edt(components != counts.argmax()) < 6
    return closed(grown & like_brain)


def closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of 1 mm voxels without the gaps that a ball of 5 mm does not enter, and without holes."""
    from scipy.ndimage import binary_closing, binary_fill_holes

    whole: NDArray[np.bool_] = binary_fill_holes(binary_closing(np.pad(mask, 6), ball(5)))
    return whole[6:-6, 6:-6, 6:-6]


def ball(radius: int) -> NDArray[np.bool_]:
    """True where a voxel's centre lies at most ``radius`` from the middle one's."""
    grid = np.arange(-radius, radius + 1)
    within: NDArray[np.bool_] = (grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2) <= radius**2
    return within
