"""From an array and what a header says of its place to a Volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, legible
from ..geometry.affine import SHEAR_TOLERANCE, Affine, implausible, shear, shear_degrees
from ..geometry.volume import GEOMETRY, Source, Volume
from .suffixes import suffix_of

UNPLACED = "the header does not say how the volume lies in the patient; axes and origin are a guess"
UNSHEAR = (
    "resample it onto an unsheared grid first (in Slicer 'Resample Scalar/Vector/DWI Volume', "
    "or the tilt correction of the scanner or of dcm2niix)"
)


def usable(affine: Affine) -> Affine | None:
    """The affine, or None where it is not finite or not invertible."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        return None
    return affine


def chosen_frame(path: Path, frame: int | None, count: int) -> int:
    """:raises InputError: where a frame is needed and none was given, or one that does not exist."""
    if frame is None and count > 1:
        raise FileError(path, f"the file holds {count} volumes", f"choose one, --frame 0 to --frame {count - 1}")
    if not 0 <= (frame or 0) < count:
        raise FileError(path, f"there is no frame {frame}", f"it must be below {count}")
    return frame or 0


def placed(path: Path, array: NDArray[Any], affine: Affine, remarks: list[str]) -> Volume:
    """The Volume of an array (k, j, i[, channel]) and its IJK-to-RAS affine in mm.

    :raises InputError: for an affine that is none, is sheared, or cannot be.
    """
    if usable(affine) is None:
        raise FileError(path, "its spacing or axes are zero or not finite", "mend the header or export it again")
    if fault := implausible(affine):
        raise FileError(path, f"its header gives {fault}, which cannot be", "mend the header or export it again")
    if shear(affine) > SHEAR_TOLERANCE:
        raise FileError(path, f"the affine is sheared by {shear_degrees(affine):.1f} degrees", UNSHEAR)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        remarks = [*remarks, f"{np.count_nonzero(~np.isfinite(array))} values are not finite (NaN or infinite)"]
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return Volume(array, affine, Source(legible(path.name), suffix_of(path).lstrip("."), remarks=tuple(remarks)))


def remark(volume: Volume, text: str) -> Volume:
    """The volume with one remark more."""
    return replace(volume, source=replace(volume.source, remarks=(*volume.source.remarks, text)))


def assuming(volume: Volume, parts: tuple[str, ...]) -> Volume:
    """The volume with these parts of its geometry known to be assumed."""
    assumed = tuple(part for part in GEOMETRY if part in (*volume.source.assumed, *parts))
    return replace(volume, source=replace(volume.source, assumed=assumed))


def unplaced(volume: Volume, spacing: bool) -> Volume:
    """A volume whose header does not say how it lies in the patient, with the remark.

    :param spacing: whether the header gives the spacing at least.
    """
    parts = ("position", "orientation") if spacing else ("position", "orientation", "spacing", "thickness")
    return assuming(remark(volume, UNPLACED), parts)
