"""Before a header is believed: bytes, memory, files beside it."""

from __future__ import annotations

import gzip
import os
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FileError

MOST_PACKED = 1100
"""By how much gzip can pack at most (about 1032 times)."""


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, of its content where it is gzipped."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            return file.read(count)
    except (OSError, EOFError, zlib.error):
        raise FileError(path, "the file is damaged (its gzip stream ends or breaks)", "copy it again") from None


def require_bytes(path: Path, data_path: Path, needed: int) -> None:
    """SimpleITK fills what a truncated NIfTI file lacks with whatever lies in memory, so count before.

    :raises InputError: when the data file holds fewer bytes than the header announces, or the memory does.
    """
    require_memory(path, needed)
    zipped = is_gzip(data_path)
    with data_path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4))
        noted = int.from_bytes(file.read(), "little")  # gzip ends with the length of its content, modulo 2^32
    if zipped:
        size = needed if noted == needed % 2**32 else unzipped_size(data_path, needed)
    if size < needed:
        raise FileError(path, f"the file is cut short ({size} of {needed} bytes)", "copy or download it again")


def unzipped_size(path: Path, enough: int) -> int:
    """Bytes of content of a gzip file, counted until ``enough``; a stream that breaks ends the count."""
    size = 0
    try:
        with gzip.open(path) as file:
            while size < enough and (block := file.read(1 << 20)):
                size += len(block)
    except (OSError, EOFError, zlib.error):
        pass
    return size


MOST_FILES = 100_000


def data_files(path: Path, given: str, listed: list[str]) -> list[Path]:
    """The files with the voxels that a header names: one; those of a list; or those of a numbered pattern, as
    ``slice%03d.raw 1 20 1``. Libraries hand such patterns to C as they are.

    :raises InputError: for another pattern, and for what is no file.
    """
    names = [given]
    if given.startswith("LIST"):
        names = listed
    elif "%" in given:
        found = re.fullmatch(r"([^%]*)%(0?\d?)d([^%]*?)((?:\s+-?\d+){3,4})", given)
        first, last, step = map(int, found[4].split()[:3]) if found else (0, 0, 0)
        if not found or not step or abs(last - first) // abs(step) >= MOST_FILES:
            raise FileError(path, f"its pattern of data files '{given[:80]}' is none that is read", "write one file")
        numbers = range(first, last + (1 if step > 0 else -1), step)
        names = [f"{found[1]}{n:{found[2]}d}{found[3]}" for n in numbers]
    if not names:
        raise FileError(path, "its header lists no data file", "export it again")
    files = [path.parent / name.strip() for name in names]
    if lost := next((file for file in files if not file.is_file()), None):
        raise FileError(path, f"its data file {lost.name} is not there, or is no file", "put it beside the header")
    return files


def inflated_size(path: Path, start: int, length: int, enough: int) -> int:
    """Bytes that a zlib stream of this length holds, counted until ``enough``; a stream that breaks ends the count."""
    stream, size = zlib.decompressobj(), 0
    with path.open("rb") as file:
        file.seek(start)
        try:
            while size < enough and (block := file.read(min(1 << 16, length))):
                length -= len(block)
                size += len(stream.decompress(block))
        except zlib.error:
            pass
    return size


STDERR = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep SimpleITK's C++ libraries from writing to stderr; an error comes as an exception all the same."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with STDERR:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all, as in a windowed application
            yield
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(sink)


def require_memory(path: Path, needed: int) -> None:
    """:raises InputError: for a volume that no memory of this machine could hold (often a forged header)."""
    try:
        import psutil
    except ImportError:  # Slicer's own Python, while another one computes
        return

    if needed > psutil.virtual_memory().total:
        fault = f"the header announces {needed / 2**30:,.0f} GiB, more than this machine's memory"
        raise FileError(path, fault, "crop or downsample the volume first, or copy it again if that cannot be")
