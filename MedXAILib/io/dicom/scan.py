"""What lies in a DICOM folder: its series, and other objects."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FileError, InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Series:
    """The images of one series in a folder, or in one file. ``slices`` counts frames."""

    uid: str
    number: int | None
    description: str
    modality: str
    slices: int
    files: tuple[Path, ...]

    def row(self) -> dict[str, int | str | None]:
        """Plain values, without files."""
        return {
            "number": self.number,
            "description": self.description,
            "modality": self.modality,
            "slices": self.slices,
            "uid": self.uid,
        }

    def __str__(self) -> str:
        number = f"number {self.number}, " if self.number is not None else ""
        return f"'{self.description}' ({number}{self.modality or 'no modality'}, {self.slices} slices)"


def files_below(folder: Path) -> list[Path]:
    """Everything in a folder and, links followed, in those below it that is no folder, sorted; also pipes, and links that
    lead nowhere.

    :raises InputError: for a folder that may not be read.
    """

    def fail(error: OSError) -> None:
        fault = f"this folder cannot be read ({error.strerror})"
        raise FileError(str(error.filename), fault, "change its permissions, or move it out")

    found = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        above = Path(os.path.abspath(place)).parents
        if os.path.islink(place) and any(os.path.samefile(place, up) for up in above):
            folders.clear()  # it leads round in a circle
            continue
        found += [Path(place, name) for name in names]
    return sorted(found)


def refuse_lost(path: Path) -> None:
    """:raises InputError: for a link that leads nowhere, as those of git-annex do before the file is fetched."""
    if path.is_symlink() and not path.exists():
        remedy = "get the file that it stands for (git-annex: git annex get), or remove the link"
        raise FileError(path, "this is a link that leads nowhere", remedy)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: 'DICM' after 128 bytes, or, without it, a SOP Class UID where a data set begins."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    if head[128:132] == b"DICM":
        return True
    if head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08") or len(head) < 132:
        return False
    try:
        return bool(header(path).get("SOPClassUID"))
    except InputError:
        return False


def header(path: Path) -> Dataset:
    """The data set of a file without its pixels.

    :raises InputError: for whatever pydicom cannot make sense of.
    """
    import pydicom

    with checked(path):
        return pydicom.dcmread(path, stop_before_pixels=True, force=True, defer_size=1 << 16)


@contextmanager
def checked(path: Path) -> Iterator[None]:
    """Turn what pydicom throws at damaged files, which may be any exception, into a sentence."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        remedy = "export or copy it again, or take it out of the folder"
        raise FileError(path, f"the DICOM file is damaged ({type(error).__name__})", remedy) from None
    finally:
        logger.setLevel(level)


def list_series(path: str | Path) -> list[Series]:
    """The image series of a folder (recursively) or of one file, by number.

    :raises InputError: where there is no image, naming what else was found.
    """
    return list(scan(Path(path))[0])


SUFFIXES = (".dcm", ".ima", ".dicom", ".dcm.gz", ".ima.gz")
"""What names of DICOM files end in, where it tells anything."""


def scan(path: Path) -> tuple[dict[Series, dict[Path, Dataset]], set[str]]:
    """The series below a path, by number, each with the headers of its files; and the names of other objects there.

    :raises InputError: where there is none, or a file that is meant to be DICOM cannot be read.
    """
    files = [path]
    if path.is_dir():
        there = files_below(path)
        files = [file for file in there if is_dicom(file)]
        images = set(files)
        for file in there if files else ():
            refuse_lost(file)
            if file.name.lower().endswith(SUFFIXES) and file not in images:
                fault = "this is no DICOM file, or one that is empty, cut short or packed"
                raise FileError(file, fault, "copy it again, or move it out")
    found: dict[str, dict[Path, Dataset]] = {}
    others = set()
    for file in files:
        data = header(file)
        with checked(file):
            other = not_an_image(data)
            if other and "SOPClassUID" not in data and file.name.lower().endswith(SUFFIXES):
                raise ValueError("it does not say what it is: it is cut short")
            if other:
                others.add(other)
            else:
                found.setdefault(str(data.get("SeriesInstanceUID", "")), {})[file] = data
    if not found:
        raise nothing_to_read(path, others)
    series = [(describe_series(uid, headers), headers) for uid, headers in found.items()]
    series.sort(key=lambda one: (one[0].number is None, one[0].number or 0, one[0].uid))
    return dict(series), others


def not_an_image(data: Dataset) -> str:
    """The name of what a data set is, if it is no image that can be read as a volume; else an empty string."""
    from pydicom.uid import UID

    uid = UID(str(data.get("SOPClassUID", "")))
    name = uid.name if uid.name != uid else "object of an unknown kind"
    if "Image Storage" in name and not data.get("Rows"):
        raise ValueError("an image without its size: it is cut short")
    special = ("Segmentation", "Dose", "Parametric Map", "Surface", "Whole Slide", "Video", "Softcopy")
    if any(word in name for word in special) or not (data.get("Rows") and data.get("Columns")):
        return name.removesuffix(" Storage")
    return ""


def nothing_to_read(path: Path, others: set[str]) -> FileError:
    """What is said of a path without an image series, from what it holds instead."""
    names = ", ".join(sorted(others))
    if not others:
        fault = "there is no DICOM image in it"
        return FileError(path, fault, "give an image file or a folder with a DICOM series")
    if "Segmentation" in names:
        remedy = "give the series that it was drawn on, and convert the segmentation itself to .seg.nrrd with Slicer or dcmqi"
        return FileError(path, "this is no image but a DICOM segmentation", remedy)
    fault = f"this is no image that can be read ({names})"
    return FileError(path, fault, "give the series of images that belongs to it")


def describe_series(uid: str, headers: dict[Path, Dataset]) -> Series:
    """What the headers of a series' files say of it.

    :raises InputError: where they make no sense.
    """
    path, first = next(iter(headers.items()))
    with checked(path):
        number = first.get("SeriesNumber")
        return Series(
            uid=uid,
            number=None if number is None else int(number),
            description=" ".join(str(first.get("SeriesDescription") or "").split()),
            modality=" ".join(str(first.get("Modality") or "").split()),
            slices=sum(frame_count(file, data) for file, data in headers.items()),
            files=tuple(headers),
        )


def frame_count(path: Path, data: Dataset) -> int:
    """NumberOfFrames, 1 where there is none.

    :raises ValueError: for more frames than the file has bytes, before anything is made for each of them.
    """
    count = int(data.get("NumberOfFrames") or 1)
    if not 0 < count <= path.stat().st_size:
        raise ValueError("NumberOfFrames")
    return count


def refuse_mixed(path: Path, headers: Iterable[Dataset]) -> None:
    """:raises InputError: for images that bear one series' UID and are of several patients, or lie in several places."""
    for name, words in {
        "PatientID": "patients",
        "StudyInstanceUID": "studies",
        "FrameOfReferenceUID": "frames of reference",
    }.items():
        known = {str(data.get(name) or "").strip() for data in headers} - {""}
        if len(known) > 1:
            fault = f"images of {len(known)} {words} bear the same SeriesInstanceUID"
            raise FileError(path, fault, "put each into a folder of its own, and give one")


def choose_series(path: Path, found: list[Series], wanted: str | None) -> Series:
    """:raises InputError: listing the series, when ``wanted`` names none or several of them."""
    if wanted is None:
        matching, what = found, f"there are {len(found)} series"
    else:
        matching = [
            one for one in found if wanted.strip().lower() in (one.uid, str(one.number), one.description.lower())
        ]
        what = f"'{wanted}' names {len(matching)} series"
    if len(matching) == 1:
        return matching[0]
    listing = "; ".join(str(one) for one in found)
    raise FileError(path, what, f"choose one by --series with its UID, number or description: {listing}")
