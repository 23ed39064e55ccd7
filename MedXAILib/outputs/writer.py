"""Writers: whoever writes the results of a case, part by part. A writer of one's own comes by an entry point (group
``medxai.writers``), and is asked for by its name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .. import plugins
from .part import PartFolder
from .pictures.writer import PicturesWriter
from .tables import TablesWriter
from .volumes import VolumesWriter

if TYPE_CHECKING:
    from ..findings.said import CaseResult

STANDARD = ("volumes", "tables", "pictures")
"""What a run writes unless asked otherwise."""


@runtime_checkable
class Writer(Protocol):
    """Writes what was found; it computes nothing. Files go to ``folder.target(...)``, rows by ``folder.add(...)``.

    :ivar name: by which it is asked for. :ivar about: what it writes, for ``--help``.
    """

    name: str
    about: str

    def prediction(self, result: CaseResult, folder: PartFolder) -> None:
        """What the model says of a case.

        :raises OSError: where a file cannot be written.
        """

    def maps(self, result: CaseResult, folder: PartFolder) -> None:
        """The findings of one target and method, of one layer or of several.

        :raises OSError: where a file cannot be written.
        """


@cache
def writers() -> dict[str, Writer]:
    """Every writer by its name."""
    own: tuple[Writer, ...] = (VolumesWriter(), TablesWriter(), PicturesWriter())
    return plugins.registry("writers", own, lambda one, known: "" if isinstance(one, Writer) else "it is no Writer")


def chosen(names: Iterable[str]) -> list[Writer]:
    """The writers of these names.

    :raises OptionError: for an unknown one.
    """
    return plugins.chosen("--writer", names, writers())
