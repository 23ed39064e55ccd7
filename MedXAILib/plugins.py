"""What other packages add: methods, readers, writers, measures and sources of models, found by their entry points.

A package names its object in its metadata, and MedXAI finds it by itself::

    [project.entry-points."medxai.methods"]
    mine = "my_package.module:METHOD"
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import entry_points
from typing import Any


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
