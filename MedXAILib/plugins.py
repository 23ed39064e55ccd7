"""What other packages add: methods, readers, writers, measures and sources of models, found by their entry points.

A package names its object in its metadata, and MedXAI finds it by itself::

    [project.entry-points."medxai.methods"]
    mine = "my_package.module:METHOD"
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

from .errors import OptionError


class Named(Protocol):
    """What has a name by which it is asked for."""

    @property
    def name(self) -> str:
        """As on the command line."""


Kind = TypeVar("Kind", bound=Named)


@cache
def added(kind: str) -> tuple[Any, ...]:
    """The objects that other packages add to a kind, in the order of their names.

    One that cannot be loaded is left out, with a warning in the log that names its package: it must not take the rest away.

    :param kind: ``methods``, ``readers``, ``writers``, ``measures`` or ``models``: the group is ``medxai.<kind>``.
    """
    found = []
    for point in sorted(entry_points(group=f"medxai.{kind}"), key=lambda point: point.name):
        try:
            found.append(point.load())
        except Exception as error:
            package = point.dist.name if point.dist else point.value
            logging.getLogger("MedXAILib").warning(
                "The package %s adds '%s' to MedXAI's %s, and it cannot be loaded (%s: %s): update or remove it.",
                package, point.name, kind, type(error).__name__, error,
            )  # fmt: skip
    return tuple(found)


def registry(kind: str, own: Iterable[Kind]) -> dict[str, Kind]:
    """Name -> object: our own, then those that other packages add; a name that we have stays ours."""
    found = {one.name: one for one in own}
    return found | {one.name: one for one in added(kind) if one.name not in found}


def chosen(flag: str, names: Iterable[str], known: Mapping[str, Kind]) -> list[Kind]:
    """The objects of these names, each once.

    :param flag: the option that named them.
    :raises OptionError: for an unknown one.
    """
    for name in names:
        if name not in known:
            raise OptionError(flag, name, f"choose from {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]
