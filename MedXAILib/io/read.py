"""Any file or DICOM folder to a Volume."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path

from ..errors import InputError
from ..geometry.volume import Volume
from .cohort import find_cases
from .dicom.scan import is_dicom, list_series
from .dicom.series import read_series
from .meta import read_meta
from .nifti import read_nifti
from .nrrd import read_nrrd
from .paths import NoImage, existing
from .picture import read_picture
from .suffixes import FREESURFER, META, NIFTI, NRRD, PICTURES, suffix_of


def read_volume(path: str | Path, *, frame: int | None = None, series: str | None = None) -> Volume:
    """Read an image file, a DICOM file or a folder of DICOM files.

    :param frame: which volume of a 4D file, of a DICOM series with several time points or of a TIFF with
        several pages; 0 is the first.
    :param series: which DICOM series of a folder: its UID, number or description.
    :returns: array (k, j, i[, channel]) in the file's own type, affine to RAS mm; ``source.remarks`` tells what was odd.
    :raises InputError: for whatever cannot be placed in the patient without guessing.
    """
    if frame is not None and not isinstance(frame, Integral):
        raise InputError(f"frame={frame!r}: give a whole number, the first is 0.")
    path, series = existing(path), None if series is None else str(series)
    if series is None:
        refuse_images(path)
    if path.is_dir() or is_dicom(path):
        return read_series(path, series=series, frame=frame)
    if series is not None:
        raise InputError(f"{path}: --series is for DICOM, and this is none; leave it out.")
    refuse_foreign(path)
    suffix = suffix_of(path)
    if suffix in PICTURES:
        return read_picture(path, frame)
    if suffix in NIFTI:
        return read_nifti(path, frame)
    if suffix in NRRD:
        return read_nrrd(path, frame)
    if suffix in META:
        return read_meta(path, frame)
    raise InputError(
        f"{path}: this is no image format that MedXAI knows; give NIfTI, NRRD, MHA, DICOM, PNG, JPEG or TIFF."
    )


def refuse_images(path: Path) -> None:
    """:raises InputError: for a folder of images, which DICOM may lie beside."""
    if not path.is_dir():
        return
    beside: list[str] = []
    try:
        names = [case.path for case in find_cases(path, beside.append)]
    except NoImage:
        return
    if names != [path]:
        kinds = "/".join(sorted({suffix_of(name).lstrip(".").upper() for name in names}))
        what = f"{len(names)} {kinds} files" if len(names) > 1 else f"one {kinds} file"
        remedy = f"give one file, as {names[0].name}"
        if any("DICOM beside" in text for text in beside):
            what += " beside DICOM"
            listing = "; ".join(map(str, list_series(path)))
            remedy += f", or choose a series by --series with its UID, number or description: {listing}"
        elif len(names) > 1:
            what += " and no DICOM"
        raise InputError(f"{path}: this folder holds {what}; {remedy}.")


def refuse_foreign(path: Path) -> None:
    """:raises InputError: for files that bear an image's name or purpose and are something else."""
    try:
        with path.open("rb") as file:
            head = file.read(48)
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror}); check its permissions.") from None
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path}: this is a git-LFS pointer and not the image itself; run 'git lfs pull' in its repository."
        )
    if suffix_of(path) in FREESURFER:
        raise InputError(f"{path}: FreeSurfer's MGZ is not read; convert it, 'mri_convert {path.name} out.nii.gz'.")
