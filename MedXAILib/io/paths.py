"""Paths that exist, and paths that SimpleITK takes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FileError, InputError, is_utf8
from .dicom.scan import refuse_lost
from .suffixes import HEADERS, suffix_of


def existing(path: str | Path) -> Path:
    """:raises InputError: where nothing is, or a folder or file is empty."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{path!r} is no path", "give the path of a file or folder as text", joint=": ")
    path = Path(path)
    refuse_lost(path)
    if not path.exists():
        raise FileError(path, "there is no such file or folder", "check the spelling")
    if not (path.is_file() or path.is_dir()):
        raise FileError(path, "this is no file but a pipe or device", "write what it gives to a file and give that")
    if path.is_file() and path.stat().st_size == 0:
        raise FileError(path, "the file is empty", "copy or download it again")
    return path


@contextmanager
def spelled(path: Path) -> Iterator[str]:
    """A path that SimpleITK takes: it wants UTF-8, so that a file with another name gets a link with a plain one, and those
    beside it too, which may hold its voxels."""
    if is_utf8(path.absolute()):
        yield str(path)
        return
    with plain_folder() as folder:
        beside = path.parent.iterdir() if suffix_of(path) in HEADERS else []
        for file in beside:
            if is_utf8(Path(file.name)):
                (folder / file.name).symlink_to(file.absolute())
        link = folder / f"volume{suffix_of(path)}" if not is_utf8(Path(path.name)) else folder / path.name
        if not link.is_symlink():
            link.symlink_to(path.absolute())
        yield str(link)


@contextmanager
def plain_folder() -> Iterator[Path]:
    """A temporary folder.

    :raises InputError: where none can be made.
    """
    try:
        folder = tempfile.mkdtemp()
    except OSError as error:
        fault = f"No temporary folder can be made ({error.strerror})"
        raise InputError(fault, "set the environment variable TMPDIR to a folder with room") from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def written_as(path: Path) -> Iterator[str]:
    """Where SimpleITK writes what becomes this file: it ends the process over a path that is no UTF-8."""
    if is_utf8(path.absolute()):
        yield str(path)
        return
    with plain_folder() as folder:
        plain = folder / f"volume{suffix_of(path)}"
        yield str(plain)
        shutil.move(plain, path)


class NoImage(FileError):
    """A folder without images."""
