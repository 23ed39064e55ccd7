"""The images of a folder, as cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import legible
from ..outputs.staging import RECORD, listed
from .dicom.scan import files_below, is_dicom
from .paths import NoImage, existing
from .suffixes import FREESURFER, META, NIFTI, NRRD, PICTURES, suffix_of


class Case(NamedTuple):
    """One input of a run. ``name``: its path relative to the folder that was given, with '/', or its own name."""

    path: Path
    name: str


def find_cases(path: str | Path, say: Callable[[str], None] = lambda text: None) -> list[Case]:
    """The inputs that a path stands for.

    A file is one, and so is a folder of DICOM, however deep. In a folder with volumes every image is one, recursively,
    sorted by name, and so in one without DICOM. Hidden files are left out, the image of a header and image pair, and what
    an earlier run wrote.

    :param say: told of what is left out: DICOM beside volumes, pictures beside DICOM, or an earlier run's files.
    :raises InputError: where there is none.
    """
    path = existing(path)
    if path.is_file():
        return [Case(path, legible(path.name))]
    files = [file for file in files_below(path) if not hidden(file.relative_to(path))]
    ours = {file.parent / name for file in files if file.name == RECORD for name in listed(file.parent)}
    if there := ours.intersection(files):
        say(f"{len(there)} files that an earlier run wrote into this folder: left out.")
    files = [file for file in files if file not in ours]
    slices = [file for file in files if is_dicom(file)]
    known = NIFTI + NRRD + META + PICTURES + FREESURFER
    lost = (*known, ".dcm", ".ima")  # what is there and no file: it is a case that cannot be read
    series = set(slices)
    images = [
        f
        for f in files
        if suffix_of(f) in (known if f.is_file() else lost) and not is_second_half(f) and f not in series
    ]
    is_series = slices and all(suffix_of(file) in PICTURES for file in images)
    for file in (images if is_series else slices)[:1]:
        rest = len(images if is_series else slices) - 1
        more = f" and {rest} more" if rest else ""
        what = "a picture beside DICOM" if is_series else "DICOM beside volumes"
        say(f"{legible(file.relative_to(path).as_posix())}{more}: left out, as {what}; give it by itself.")
    if is_series:
        return [Case(path, legible(path.resolve().name))]
    if not images:
        raise NoImage(f"{path}: the folder holds no image; give one with DICOM, NIfTI, NRRD, MHA, PNG, JPEG or TIFF.")
    return [Case(file, legible(file.relative_to(path).as_posix())) for file in images]


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_second_half(path: Path) -> bool:
    """Whether a file is the .img of a .hdr."""
    suffix = suffix_of(path)
    stem = path.name[: -len(suffix)]
    return suffix in (".img", ".img.gz") and any(
        path.with_name(stem + end).is_file() for end in (".hdr", ".HDR", ".Hdr")
    )
