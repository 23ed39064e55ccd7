"""Any file or DICOM folder to a Volume."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path

from ..errors import FileError, InputError
from ..geometry.volume import Volume
from .cohort import Written, contents, nothing
from .dicom.scan import list_series
from .paths import existing
from .reader import reader_of
from .suffixes import suffix_of


def read_volume(
    path: str | Path, *, frame: int | None = None, series: str | None = None, written: Written = nothing
) -> Volume:
    """Read an image file, a DICOM file or a folder of DICOM files.

    :param frame: which volume of a 4D file, of a DICOM series with several time points or of a TIFF with
        several pages; 0 is the first.
    :param series: which DICOM series of a folder: its UID, number or description.
    :param written: what of a folder an earlier run wrote; as in :func:`find_cases`.
    :returns: array (k, j, i[, channel]) in the file's own type, affine to RAS mm; ``source.remarks`` tells what was odd.
    :raises InputError: for whatever cannot be placed in the patient without guessing.
    """
    if frame is not None and not isinstance(frame, Integral):
        raise InputError(f"frame={frame!r}", "give a whole number, the first is 0", joint=": ")
    path, series = existing(path), None if series is None else str(series)
    if series is None and path.is_dir():
        refuse_images(path, written)
    return reader_of(path).read(path, frame=frame, series=series)


def refuse_images(folder: Path, written: Written) -> None:
    """:raises InputError: for a folder of images, which DICOM may lie beside."""
    there = contents(folder, written)
    if there.is_series or not there.images:
        return
    names = there.images
    kinds = "/".join(sorted({suffix_of(name).lstrip(".").upper() for name in names}))
    fault = f"this folder holds {len(names)} {kinds} files" if len(names) > 1 else f"this folder holds one {kinds} file"
    remedy = f"give one file, as {names[0].name}"
    if there.slices:
        fault += " beside DICOM"
        listing = "; ".join(map(str, list_series(folder)))
        remedy += f", or choose a series by --series with its UID, number or description: {listing}"
    elif len(names) > 1:
        fault += " and no DICOM"
    raise FileError(folder, fault, remedy)
