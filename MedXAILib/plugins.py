"""What other packages add: methods, readers, writers, measures and sources of models, found by their entry points.

A package names its object in its metadata, and MedXAI finds it by itself::

    [project.entry-points."medxai.methods"]
    mine = "my_package.module:METHOD"
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
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


def added(kind: str, fault: Callable[[Any], str]) -> tuple[Any, ...]:
    """The objects that other packages add to a kind, in the order of their names.

    :param fault: why one cannot be taken, or nothing. It is left out then, with a warning that names its package.
    """
    found = []
    for package, one in _loaded(kind):
        if why := fault(one):
            _warn(package, str(getattr(one, "name", one)), kind, why)
        else:
            found.append(one)
    return tuple(found)


@cache
def _loaded(kind: str) -> tuple[tuple[str, Any], ...]:
    """(package, object) of what can be loaded.

    One that cannot be loaded is left out, with a warning in the log that names its package: it must not take the rest away.

    :param kind: ``methods``, ``readers``, ``writers``, ``measures`` or ``models``: the group is ``medxai.<kind>``.
    """
    found = []
    for point in sorted(entry_points(group=f"medxai.{kind}"), key=lambda point: point.name):
        package = point.dist.name if point.dist else point.value
        try:
            found.append((package, point.load()))
        except Exception as error:
            _warn(package, point.name, kind, f"it cannot be loaded ({type(error).__name__}: {error})")
    return tuple(found)


@cache
def _warn(package: str, name: str, kind: str, why: str) -> None:
    """Once for each fault."""
    logging.getLogger("MedXAILib").warning(
        "The package %s adds '%s' to MedXAI's %s, and %s: update or remove it.", package, name, kind, why
    )


def registry(
    kind: str, own: Iterable[Kind], fault: Callable[[Any, Iterable[Kind]], str] = lambda one, known: ""
) -> dict[str, Kind]:
    """Name -> object: our own, then those that other packages add; a name that we have stays ours.

    :param fault: of an added object, beside those that there are: why it cannot be taken, or nothing. It is left out then,
        with a warning that names its package.
    """
    found = {one.name: one for one in own}
    for package, one in _loaded(kind):
        if why := fault(one, found.values()):
            _warn(package, str(getattr(one, "name", one)), kind, why)
        elif one.name not in found:
            found[one.name] = one
    return found


def chosen(flag: str, names: Iterable[str], known: Mapping[str, Kind]) -> list[Kind]:
    """The objects of these names, each once.

    :param flag: the option that named them.
    :raises OptionError: for an unknown one.
    """
    for name in names:
        if name not in known:
            raise OptionError(flag, name, f"choose from {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]
