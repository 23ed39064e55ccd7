"""A volume on another grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .affine import Affine, inverse
from .grid import Grid
from .volume import Volume

DEPTH = 16
"""Slices of a slab."""


def resample(volume: Volume, grid: Grid, *, order: int = 1, outside: float = 0.0) -> Volume:
    """The values of ``volume`` on another grid, through both affines.

    A point beyond the outermost centres, but within the volume's ``reach``, takes the nearest values; every other outside
    point becomes ``outside``.

    :param order: 1 linear (float32 result), 0 nearest (the type is kept).
    """
    channels = [volume.array] if volume.array.ndim == 3 else [volume.array[..., c] for c in range(volume.channels)]
    dtype = volume.array.dtype if order == 0 else np.float32
    out = np.empty((*grid.array_shape, len(channels)), dtype)
    into = np.round(inverse(volume.grid.array_affine) @ grid.array_affine, 9)  # so that equal grids are exactly so
    for c, channel in enumerate(channels):
        for where, values in _slabs(channel, into, grid.array_shape, order, outside, dtype, volume.reach):
            out[where, ..., c] = values
    array = out if volume.array.ndim == 4 else out[..., 0]
    source = volume.source if grid.same_as(volume.grid) else volume.source.elsewhere()
    return Volume(array, grid.affine, source)


def _slabs(
    channel: NDArray[Any],
    into: Affine,
    shape: tuple[int, int, int],
    order: int,
    outside: float,
    dtype: DTypeLike,
    reach: Sequence[tuple[float, float]] | None,
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Resample slab by slab, so that the memory needed beside input and output stays small.

    :param into: 4x4, index (k, j, i) of the new grid to index of the old one.
    :param shape: voxels of the new grid along k, j, i.
    """
    from scipy.ndimage import affine_transform

    k, j, i = shape
    source = channel if order == 0 else np.ascontiguousarray(channel, np.float32)
    reach = reach or [(-0.5, n - 0.5) for n in channel.shape]
    for start in range(0, k, DEPTH):
        size = (min(DEPTH, k - start), j, i)
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
