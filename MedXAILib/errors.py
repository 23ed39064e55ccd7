"""What speaks to the user when something cannot be done."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one sentence that names the file or option, says what is wrong and what to do.
    The command line prints it and exits with code 2.
    """


class NetworkError(InputError):
    """A network raised an error of its own, its cause, in a pass."""


PACKAGES = {"skimage": "scikit-image", "PIL": "pillow", "slicer": "slicer-core"}
"""Packages whose name differs from the module's."""


def first_line(error: BaseException) -> str:
    """What an error says, in short; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def of_path(error: OSError) -> InputError:
    """What the system says of a path that was given."""
    name = legible(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else "A file"
    return InputError(
        f"{name if len(name) < 300 else name[:300] + '...'}: the system says '{error.strerror or error}'; check the path and its "
        "permissions."
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


class Caveat(str):
    """A sentence that says what limits belief in a result, with a short ``code`` for those who filter or count."""

    code: str

    def __new__(cls, code: str, text: str):
        caveat = super().__new__(cls, text)
        caveat.code = code
        return caveat

    def __getnewargs__(self):
        return self.code, str(self)


def as_values(sentences: Iterable[str]) -> list[dict[str, str]]:
    """Those that have a code, as plain values for JSON."""
    return [{"code": text.code, "text": str(text)} for text in sentences if isinstance(text, Caveat)]
