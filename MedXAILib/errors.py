"""What speaks to the user when something cannot be done: a class for each kind of fault, one sentence for people."""

from __future__ import annotations

import os
from pathlib import Path


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one sentence that names the file or option, says what is wrong and what to do. The command line prints it
    and exits with code 2. Programs tell the kind by the class, and find its parts as attributes:

    :ivar about: what the fault is of: a path, an option, a model's name; "" where the sentence stands for itself.
    :ivar fault: what is wrong with it.
    :ivar remedy: what to do; "" where the fault says it.
    """

    def __init__(self, fault: str, remedy: str = "", *, about: str | os.PathLike[str] = "", joint: str = "; ") -> None:
        self.about, self.fault, self.remedy = legible(os.fspath(about)), fault, remedy
        head = f"{self.about}: " if self.about else ""
        super().__init__(f"{head}{fault}{joint}{remedy}." if remedy else f"{head}{fault}")

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), str(self), vars(self))


def _again(kind: type[InputError], text: str, parts: dict[str, object]) -> InputError:
    """An error that came out of another process."""
    error = kind.__new__(kind, text)
    error.__dict__.update(parts)
    return error


class NothingDone(InputError):
    """No case of several could be carried out. The command line exits with code 1."""


class FileError(InputError):
    """A file or folder that cannot be read, used or written: ``FileError(path, fault, remedy)``.

    :ivar file: its path, as text.
    """

    def __init__(self, file: str | os.PathLike[str], fault: str, remedy: str = "", *, joint: str = "; ") -> None:
        super().__init__(fault, remedy, about=file, joint=joint)

    @property
    def file(self) -> str:
        """Its path, as text."""
        return self.about


class OptionError(InputError):
    """An option whose value cannot be meant: ``OptionError("--samples", 0, "give at least 2")``.

    :ivar option: as on the command line, with its hyphens.
    """

    def __init__(self, option: str, value: object, remedy: str) -> None:
        self.option = option
        super().__init__(f"{option} {value}".rstrip() if value is not None else option, remedy, joint=": ")


class CardError(FileError):
    """A model card that cannot be read, or does not fit its weights, its network or an input."""


class WeightsError(FileError):
    """A weights file that is none, is damaged, or does not fit its network."""


class ConsentError(WeightsError):
    """A model file that is a program, and may run only after consent."""


class LayerError(InputError):
    """A layer that the network does not have, or of which no map can be made."""


class NetworkError(InputError):
    """A network raised an error of its own, its cause, in a pass."""


class GradientError(InputError):
    """No gradient comes where one is needed."""


class PackageError(InputError):
    """A Python package is missing."""


PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn", "PIL": "pillow", "slicer": "slicer-core"}
"""Packages whose name differs from the module's."""
NO_MEMORY = "There was not enough memory: close other programs, use a smaller volume, or give the card windows."


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; PyTorch's allocator says so in words alone."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error))


def first_line(error: BaseException) -> str:
    """What an error says, in short; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def of_path(error: OSError) -> FileError:
    """What the system says of a path that was given."""
    name = legible(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else "A file"
    return FileError(
        name if len(name) < 300 else name[:300] + "...",
        f"the system says '{error.strerror or error}'",
        "check the path and its permissions",
    )


def legible(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8, and what moves a terminal's cursor, as
    ``\\xff``."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_utf8(path: Path) -> bool:
    """Whether a path is text: SimpleITK and Slicer take no other one."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def missing_package(error: ModuleNotFoundError) -> str:
    """What to do about a package that is not installed."""
    return (
        f"The Python package {error.name} is missing: in 3D Slicer press Predict in the module MedXAI once, which installs "
        f"what is missing; elsewhere run pip install {PACKAGES.get(str(error.name), error.name)}."
    )
