"""The files that belong to an image: its own, and those in which its header says that the voxels are."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .guards import data_files
from .meta import meta_header
from .nrrd import nrrd_fields, nrrd_lines
from .suffixes import HEADERS, META, NRRD, suffix_of


def files_of(path: Path) -> list[Path]:
    """The file itself first. Of a header that cannot be read it alone: reading says what is wrong."""
    suffix = suffix_of(path)
    if suffix not in (*HEADERS, *META, *NRRD):
        return [path]
    try:
        return [path, *_named(path, suffix)]
    except (InputError, OSError, ValueError):
        return [path]


def _named(path: Path, suffix: str) -> list[Path]:
    if suffix in META:
        header = meta_header(path)
        return [] if header.where == "LOCAL" else data_files(path, header.where, header.listed)
    if suffix in NRRD:
        fields = nrrd_fields(path)
        where = fields.get("data file", fields.get("datafile", ""))
        return data_files(path, where, nrrd_lines(path)[1]) if where else []
    stem = path.name[: -len(suffix)]
    return [other for end in (".img", ".IMG", ".img.gz") if (other := path.with_name(stem + end)).is_file()]
