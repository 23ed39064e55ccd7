"""What ``medxai info`` tells."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.affine import left_handed, oblique_degrees
from ..geometry.volume import Volume
from .cohort import Written, nothing
from .dicom.scan import list_series
from .paths import existing
from .read import read_volume
from .reader import DICOM, reader_of


def describe(
    path: str | Path, series: str | None = None, frame: int | None = None, *, written: Written = nothing
) -> dict[str, Any]:
    """What ``medxai info`` prints: geometry, intensities, series and what is odd, as plain JSON values.

    :param series, frame, written: as for :func:`read_volume`.
    :raises InputError: as :func:`read_volume`.
    """
    path = existing(path)
    volume = read_volume(path, series=series, frame=frame, written=written)
    return {
        "name": volume.source.name,
        "format": volume.source.format,
        "geometry": geometry(volume),
        "channels": volume.channels,
        "intensities": intensities(volume.array),
        "series": [one.row() for one in list_series(path)] if reader_of(path) is DICOM else [],
        "remarks": [*volume.source.remarks, *oddities(volume)],
    }


def geometry(volume: Volume) -> dict[str, Any]:
    """What the file says of shape, spacing and place; what it does not say is named instead."""
    given = volume.placed
    metadata: dict[str, Any] = {"shape": list(volume.shape)}
    if volume.unit:
        unit = volume.unit.replace(" ", "_")
        metadata |= {
            f"spacing_{unit}": rounded(volume.spacing),
            f"extent_{unit}": rounded(volume.spacing * volume.shape),
        }
    if given:
        metadata["origin_ras_mm"] = rounded(volume.affine[:3, 3])
    if volume.axes:
        metadata["axes"] = volume.axes
    if "orientation" not in volume.source.assumed:
        metadata["oblique_degrees"] = round(oblique_degrees(volume.affine), 3)
        metadata["handedness"] = "left" if left_handed(volume.affine) else "right"
    metadata["affine" if given else "assumed_affine"] = volume.affine.tolist()
    return metadata | ({"not_in_the_file": list(volume.source.assumed)} if volume.source.assumed else {})


def rounded(values: Iterable[float]) -> list[float]:
    """To a millionth."""
    return [round(float(value), 6) for value in values]


def intensities(array: NDArray[Any]) -> dict[str, Any]:
    """Type, range, percentiles and the fraction of voxels at the minimum; values that are not finite are left out."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array.ravel()
    if finite.size == 0:
        return {"type": str(array.dtype), "min": None, "max": None, "percentiles": {}, "share_at_min": None}
    levels = (1, 5, 25, 50, 75, 95, 99)
    return {
        "type": str(array.dtype),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "percentiles": {str(n): float(v) for n, v in zip(levels, np.percentile(finite, levels), strict=True)},
        "share_at_min": float(np.count_nonzero(finite == finite.min()) / finite.size),
    }


def oddities(volume: Volume) -> list[str]:
    """What a volume alone shows to be unusual, one sentence each."""
    found = []
    if left_handed(volume.affine) and volume.placed:
        found.append("left-handed: Slicer reorders the slices when it writes this volume")
    ratio = volume.spacing.max() / volume.spacing.min()
    if ratio > 3 and volume.unit:
        found.append(f"anisotropic: the coarsest spacing is {ratio:.1f} times the finest")
    low, high = volume.array.min(), volume.array.max()
    if low == high:
        found.append(f"every voxel has the same value, {low}")
    elif low <= -1500 and np.count_nonzero(volume.array == low) > 0.01 * volume.array.size:
        found.append(f"the value {low} fills more than 1 % of the volume: probably padding outside the scanner's field")
    return found
