"""Which suffix means which of our formats."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
HEADERS = (".hdr", ".mhd", ".nhdr")
"""Suffixes of files that may have their voxels in another file."""
NRRD = (".nrrd", ".nhdr")
META = (".mha", ".mhd")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
FREESURFER = (".mgz", ".mgh")
DICOM = (".dcm", ".ima")
WRITABLE = (".nrrd", ".nii.gz", ".nii", ".mha")


def suffix_of(path: Path) -> str:
    """The lower-case suffix, with .nii.gz and .img.gz in one piece."""
    name = path.name.lower()
    return next((double for double in (".nii.gz", ".img.gz") if name.endswith(double)), Path(name).suffix)


def has_suffix(path: Path, suffixes: Iterable[str]) -> bool:
    """Whether a file bears one of these suffixes, of which some may have several dots, in capitals or not."""
    known = tuple(suffix.lower() for suffix in suffixes)
    doubles = tuple(suffix for suffix in known if suffix.count(".") > 1)
    return suffix_of(path) in known or path.name.lower().endswith(doubles)
