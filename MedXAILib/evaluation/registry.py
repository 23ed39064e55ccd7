"""Which measures there are. One of one's own comes by an entry point (group ``medxai.measures``)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from .. import plugins
from ..attribution.option import Option, fault
from ..attribution.registry import methods
from . import deletion
from .measure import Measure


def _fault(one: Any, known: Iterable[Measure]) -> str:
    if not isinstance(one, Measure):
        return "it is no Measure"
    there = [option for m in methods().values() for option in m.options]
    return fault(one.options, [*there, *(option for m in known for option in m.options)])


@cache
def measures() -> dict[str, Measure]:
    """Every measure by its name."""
    return plugins.registry("measures", (deletion.MEASURE,), _fault)


def chosen(names: Iterable[str]) -> list[Measure]:
    """The measures of these names, each once.

    :raises OptionError: for an unknown one.
    """
    return plugins.chosen("--measure", names, measures())


def options(names: Iterable[str] | None = None) -> dict[str, Option]:
    """The options of some measures, or of all, by name."""
    return {option.name: option for m in chosen(names or measures()) for option in m.options}
