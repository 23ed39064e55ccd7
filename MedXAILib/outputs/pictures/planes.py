"""Slices of a volume and of a map on its grid, along its own axes, as arrays: for pictures that need no Slicer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry.affine import directions, nearest_axes
from ...geometry.volume import Volume
from ...mrml.layers import OPACITY
from ...mrml.nodes import grey, window
from ...mrml.palette import THRESHOLD, heat_table
from .marks import NORMALS, own_plane, slice_words

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Plane:
    """One slice, as it is looked at: the patient's right is on the left, the front on the left or above.

    :ivar words: which slice it is.
    :ivar grey: (row, column), 0..1. :ivar heat: (row, column), the map's values; None where there is no map.
    :ivar size: height and width in mm, or in voxels where the file gives no spacing.
    """

    words: str
    grey: Array
    heat: Array | None
    size: tuple[float, float]


class Looked:
    """A volume whose axes run to the right, to the front and up, by permuting and turning its own: no voxel is changed.

    :ivar shape: along these axes. :ivar spacing: in mm.
    """

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        followed = nearest_axes(volume.affine)
        self.order = [followed.index(axis) for axis in range(3)]
        unit = directions(volume.affine)
        self.turned = [bool(unit[axis, n] < 0) for axis, n in enumerate(self.order)]
        self.shape = tuple(volume.shape[n] for n in self.order)
        self.spacing = tuple(float(volume.spacing[n]) for n in self.order)

    def array(self, of: Volume) -> Array:
        """The voxels of a volume on this one's grid, (right, front, up)."""
        found = np.transpose(of.array, (2, 1, 0)).transpose(self.order)
        axes = tuple(axis for axis, turned in enumerate(self.turned) if turned)
        return np.asarray(np.flip(found, axes), np.float64)

    def point(self, at: Sequence[float]) -> Array:
        """RAS mm of a place along these axes, in voxels."""
        ijk = [0.0, 0.0, 0.0]
        for n, one, turned, count in zip(self.order, at, self.turned, self.shape, strict=True):
            ijk[n] = count - 1 - one if turned else one
        return np.asarray(self.volume.ras(ijk))

    def index(self, point: Array) -> tuple[int, int, int]:
        """The voxel nearest to a RAS point."""
        ijk = self.volume.ijk(point)
        at = [ijk[n] for n in self.order]
        at = [n - 1 - one if turned else one for n, one, turned in zip(self.shape, at, self.turned, strict=True)]
        right, front, up = (int(np.clip(round(one), 0, n - 1)) for n, one in zip(self.shape, at, strict=True))
        return right, front, up


def planes_through(volume: Volume, heat: Volume | None, point: Array, only: str = "") -> list[Plane]:
    """Axial, sagittal and coronal slice through a RAS point; a volume of one slice gives its own alone.

    :param heat: on the volume's grid. :param only: the one plane that is wanted.
    """
    looked, shown = Looked(volume), grey(volume)
    low, high = window(shown.array)
    values, warm = looked.array(shown), None if heat is None else looked.array(heat)
    at = looked.index(point)
    names = [own_plane(volume)] if min(volume.shape) == 1 else [only] if only else list(NORMALS)
    found = []
    for name in names:
        axis = NORMALS[name]
        across = [n for n in range(3) if n != axis]
        tones = np.clip((cut(values, axis, at[axis]) - low) / (high - low), 0, 1)
        found.append(
            Plane(
                words=slice_words(volume, name, point) if volume.placed or min(volume.shape) > 1 else "",
                grey=np.nan_to_num(tones), heat=None if warm is None else cut(warm, axis, at[axis]),
                size=(looked.shape[across[1]] * looked.spacing[across[1]], looked.shape[across[0]] * looked.spacing[across[0]]),
            )
        )  # fmt: skip
    return found


def cut(array: Array, axis: int, index: int) -> Array:
    """A slice across an axis, (row from the top, column): what is right or in front is first, what is up is on top."""
    return np.asarray(np.take(array, index, axis).T[::-1, ::-1])


def painted(
    plane: Plane, limit: float, signed: bool, height: int, width: int, *, opacity: float = OPACITY
) -> NDArray[np.uint8]:
    """A plane with its map in so many pixels, (row, column, RGB); values below the threshold are transparent.

    :param limit: the value of the last colour.
    """
    tones = scaled(plane.grey, height, width)
    picture = np.repeat(tones[..., None], 3, axis=2)
    if plane.heat is not None:
        values = scaled(plane.heat, height, width)
        table, low = heat_table(signed), -limit if signed else 0.0
        place = np.clip((values - low) / (limit - low), 0, 1)
        colors = table[np.round(place * (len(table) - 1)).astype(int), :3]
        strength = np.abs(values) if signed else values
        alpha = opacity * (strength >= THRESHOLD * limit)[..., None]
        picture = (1 - alpha) * picture + alpha * colors
    return np.asarray(np.round(255 * np.clip(picture, 0, 1)), np.uint8)


def scaled(array: Array, height: int, width: int) -> Array:
    """An array of so many pixels, between its own linearly."""
    from PIL import Image

    image = Image.fromarray(np.asarray(np.nan_to_num(array), np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float64)
