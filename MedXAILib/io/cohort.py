"""The images of a folder, as cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import legible
from .dicom.scan import files_below, is_dicom
from .paths import NoImage, existing
from .reader import DICOM, one_of, readers
from .suffixes import PICTURES, has_suffix, suffix_of

Written = Callable[[Path], Iterable[str]]
"""Tells of a folder which files an earlier run wrote there, by their paths relative to it."""


def nothing(folder: Path) -> Iterable[str]:
    """Of folders in which no run has written."""
    return ()


class Case(NamedTuple):
    """One input of a run. ``name``: its path relative to the folder that was given, with '/', or its own name."""

    path: Path
    name: str


class Contents(NamedTuple):
    """What lies in a folder, however deep, sorted; hidden files are left out, and the image of a header and image pair."""

    images: list[Path]
    """Of all formats but DICOM; also pipes, and links that lead nowhere, which are cases that cannot be read."""
    slices: list[Path]
    """DICOM."""
    earlier: list[Path]
    """What an earlier run wrote."""

    @property
    def is_series(self) -> bool:
        """Whether the folder is one case: DICOM, with nothing beside it but pictures."""
        return bool(self.slices) and all(suffix_of(file) in PICTURES for file in self.images)


def find_cases(
    path: str | Path, message: Callable[[str], None] = lambda text: None, written: Written = nothing
) -> list[Case]:
    """The inputs that a path stands for.

    A file is one, and so is a folder of DICOM, however deep. In a folder with volumes every image is one, recursively,
    sorted by name, and so in one without DICOM. Hidden files are left out, the image of a header and image pair, and what
    an earlier run wrote.

    :param message: told of what is left out: DICOM beside volumes, pictures beside DICOM, or an earlier run's files.
    :param written: what of a folder an earlier run wrote.
    :raises InputError: where there is none.
    """
    path = existing(path)
    if path.is_file():
        return [Case(path, legible(path.name))]
    there = contents(path, written)
    if there.earlier:
        message(f"{len(there.earlier)} files that an earlier run wrote into this folder: left out.")
    what = "a picture beside DICOM" if there.is_series else "DICOM beside volumes"
    for file in (beside := there.images if there.is_series else there.slices)[:1]:
        more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
        message(f"{legible(file.relative_to(path).as_posix())}{more}: left out, as {what}; give it by itself.")
    if there.is_series:
        return [Case(path, legible(path.resolve().name))]
    if not there.images:
        formats = one_of("DICOM", "NIfTI", "NRRD", "MHA", "PNG", "JPEG", "TIFF")
        raise NoImage(path, "the folder holds no image", f"give one with {formats}")
    return [Case(file, legible(file.relative_to(path).as_posix())) for file in there.images]


def contents(folder: Path, written: Written) -> Contents:
    """:raises InputError: for a folder that may not be read."""
    files = [file for file in files_below(folder) if not hidden(file.relative_to(folder))]
    ours = {above / name for above in {file.parent for file in files} for name in written(above)}
    earlier = [file for file in files if file in ours]
    files = [file for file in files if file not in ours]
    slices = [file for file in files if is_dicom(file)]
    series, known = set(slices), readers()

    def is_image(file: Path) -> bool:
        if not file.is_file():
            return any(has_suffix(file, reader.suffixes) for reader in known)
        return file not in series and any(reader.recognises(file) for reader in known if reader is not DICOM)

    images = [file for file in files if is_image(file) and not is_second_half(file)]
    return Contents(images, slices, earlier)


def hidden(path: Path) -> bool:
    """Whether a file, or a folder above it, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def is_second_half(path: Path) -> bool:
    """Whether a file is the .img of a .hdr."""
    suffix = suffix_of(path)
    stem = path.name[: -len(suffix)]
    return suffix in (".img", ".img.gz") and any(
        path.with_name(stem + end).is_file() for end in (".hdr", ".HDR", ".Hdr")
    )
