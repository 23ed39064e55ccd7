"""Which reader takes a file: one of ours, or one that another package adds.

A package adds a format with one object and one entry point::

    class Xyz:
        name = "XYZ"
        suffixes = (".xyz",)

        def recognises(self, path):
            return path.read_bytes()[:4] == b"XYZ1"

        def read(self, path, *, frame, series):
            return Volume(array, affine)

    READER = Xyz()

    [project.entry-points."medxai.readers"]
    xyz = "my_package:READER"

A file of it can be given wherever an image can then, and so can a folder of them. It takes a suffix that none of ours has:
where two readers claim a file, ours goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from .. import plugins
from ..errors import FileError, InputError, first_line, legible
from ..geometry.volume import Volume
from . import suffixes as of
from .dicom.scan import is_dicom
from .dicom.series import read_series
from .meta import read_meta
from .nifti import read_nifti
from .nrrd import read_nrrd
from .picture import read_picture


@runtime_checkable
class Reader(Protocol):
    """What reads a format.

    :ivar name: of the format, as people call it.
    :ivar suffixes: that its files end in, with their dots.
    """

    @property
    def name(self) -> str:
        """Of the format."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of its files."""

    def recognises(self, path: Path) -> bool:
        """Whether a file that bears one of the suffixes is of this format."""

    def read(self, path: Path, *, frame: int | None, series: str | None) -> Volume:
        """Read a file.

        :param frame: which volume of several, 0 is the first; None where nobody chose.
        :param series: the name of one of several; None where nobody chose.
        :returns: array (k, j, i[, channel]), affine IJK to RAS mm. ``source.name`` and ``.format`` may be left empty.
        :raises InputError: for what cannot be read, one sentence that names the file.
        """


@dataclass(frozen=True)
class Format:
    """A format of ours: its files go by their suffix, and hold no series."""

    name: str
    suffixes: tuple[str, ...]
    reads: Callable[[Path, int | None], Volume]

    def recognises(self, path: Path) -> bool:
        """Whether the name says so; the content is looked at when the file is read."""
        return of.has_suffix(path, self.suffixes)

    def read(self, path: Path, *, frame: int | None, series: str | None) -> Volume:
        """As :meth:`Reader.read`."""
        if series is not None:
            raise FileError(path, "--series is for DICOM, and this is none", "leave it out")
        refuse_pointer(path)
        return self.reads(path, frame)


class Dicom:
    """Files that bear any name, and folders of them."""

    name = "DICOM"
    suffixes = of.DICOM

    def recognises(self, path: Path) -> bool:
        """Whether it is a folder, or a file whose content says so."""
        return path.is_dir() or is_dicom(path)

    def read(self, path: Path, *, frame: int | None, series: str | None) -> Volume:
        """As :func:`read_series`."""
        return read_series(path, series=series, frame=frame)


@dataclass(frozen=True)
class Added:
    """A reader of another package, whose errors become a sentence."""

    reader: Reader

    @property
    def name(self) -> str:
        """As the package calls it."""
        return str(self.reader.name)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """As the package gives them."""
        return tuple(self.reader.suffixes)

    def recognises(self, path: Path) -> bool:
        """Whether both the name and the package say so; where the package fails, reading will tell why."""
        if not (of.has_suffix(path, self.suffixes) and path.is_file()):
            return False
        try:
            return bool(self.reader.recognises(path))
        except Exception:
            return True

    def read(self, path: Path, *, frame: int | None, series: str | None) -> Volume:
        """As :meth:`Reader.read`."""
        refuse_pointer(path)
        try:
            volume = self.reader.read(path, frame=frame, series=series)
        except (InputError, MemoryError):
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            raise FileError(
                path,
                f"the reader of {self.name} failed ({said})",
                "check the file, or update the package that reads it",
            ) from error
        if not isinstance(volume, Volume):
            raise FileError(path, f"the reader of {self.name} gave no Volume", "update the package that reads it")
        if volume.source.name:
            return volume
        source = replace(volume.source, name=legible(path.name), format=of.suffix_of(path).lstrip("."))
        return replace(volume, source=source)


def refuse_pointer(path: Path) -> None:
    """:raises InputError: for a file that cannot be opened, and for one that stands for an image that is elsewhere."""
    try:
        with path.open("rb") as file:
            head = file.read(48)
    except OSError as error:
        raise FileError(path, f"the file cannot be read ({error.strerror})", "check its permissions") from None
    if head.startswith(b"version https://git-lfs"):
        raise FileError(
            path, "this is a git-LFS pointer and not the image itself", "run 'git lfs pull' in its repository"
        )


def refuse_freesurfer(path: Path, frame: int | None) -> NoReturn:
    """:raises InputError: always."""
    raise FileError(path, "FreeSurfer's MGZ is not read", f"convert it, 'mri_convert {path.name} out.nii.gz'")


def refuse_unknown(path: Path, frame: int | None) -> NoReturn:
    """:raises InputError: always."""
    formats = one_of("NIfTI", "NRRD", "MHA", "DICOM", "PNG", "JPEG", "TIFF")
    raise FileError(path, "this is no image format that MedXAI knows", f"give {formats}")


DICOM = Dicom()
OURS: tuple[Reader, ...] = (
    DICOM,
    Format("NIfTI", of.NIFTI, read_nifti),
    Format("NRRD", of.NRRD, read_nrrd),
    Format("MetaImage", of.META, read_meta),
    Format("PNG, JPEG, TIFF", of.PICTURES, read_picture),
    Format("FreeSurfer's MGZ", of.FREESURFER, refuse_freesurfer),
)
UNKNOWN = Format("unknown", (), refuse_unknown)


def others() -> list[Added]:
    """What other packages add."""
    return [Added(reader) for reader in plugins.added("readers", _fault)]


def _fault(one: Any) -> str:
    if not isinstance(one, Reader):
        return "it is no Reader"
    given = one.suffixes
    fits = isinstance(given, tuple | list) and all(isinstance(s, str) and s.startswith(".") and s != "." for s in given)
    return "" if fits else f"its suffixes are no tuple of texts like .xyz ({given!r})"


def readers() -> tuple[Reader, ...]:
    """Ours, and after them those that other packages add."""
    return (*OURS, *others())


def reader_of(path: Path) -> Reader:
    """The first reader that recognises a file or folder; where none does, one that says so."""
    return next((reader for reader in readers() if reader.recognises(path)), UNKNOWN)


def one_of(*formats: str) -> str:
    """Names of formats, and of those that other packages add, as a choice: ``A, B or C``."""
    *names, last = [*formats, *(reader.name for reader in others())]
    return f"{', '.join(names)} or {last}"
