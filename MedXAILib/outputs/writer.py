"""Writers: whoever writes the result of a case into a run's folder. A writer of one's own comes by an entry point (group
``medxai.writers``), and is asked for by its name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .. import plugins
from .folder import RunFolder
from .tables import TablesWriter
from .volumes import VolumesWriter

if TYPE_CHECKING:
    from ..findings.said import CaseResult

STANDARD = ("volumes", "tables")
"""What a run writes unless asked otherwise."""


@runtime_checkable
class Writer(Protocol):
    """Writes what was found; it computes nothing.

    :ivar name: by which it is asked for. :ivar about: what it writes, for ``--help``.
    """

    name: str
    about: str

    def write(self, result: CaseResult, folder: RunFolder) -> None:
        """One case: files by ``folder.target(...)``, rows by ``folder.add(...)``.

        :raises OSError: where a file cannot be written.
        """


@cache
def writers() -> dict[str, Writer]:
    """Every writer by its name."""
    own: tuple[Writer, ...] = (VolumesWriter(), TablesWriter())
    return plugins.registry("writers", own, lambda one, known: "" if isinstance(one, Writer) else "it is no Writer")


def chosen(names: Iterable[str]) -> list[Writer]:
    """The writers of these names.

    :raises OptionError: for an unknown one.
    """
    return plugins.chosen("--writer", names, writers())
