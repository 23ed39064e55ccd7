"""Which suffix means which format."""

from __future__ import annotations

from pathlib import Path

NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
HEADERS = (".hdr", ".mhd", ".nhdr")
"""Suffixes of files that may have their voxels in another file."""
NRRD = (".nrrd", ".nhdr")
META = (".mha", ".mhd")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
FREESURFER = (".mgz", ".mgh")
WRITABLE = (".nrrd", ".nii.gz", ".nii", ".mha")


def suffix_of(path: Path) -> str:
    """The lower-case suffix, with .nii.gz and .img.gz in one piece."""
    name = path.name.lower()
    return next((double for double in (".nii.gz", ".img.gz") if name.endswith(double)), Path(name).suffix)
