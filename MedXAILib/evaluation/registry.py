"""Which measures there are. One of one's own comes by an entry point (group ``medxai.measures``)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ..attribution.option import Option
from ..errors import OptionError
from ..plugins import added
from . import deletion
from .measure import Measure


@cache
def measures() -> dict[str, Measure]:
    """Every measure by its name."""
    found = {measure.name: measure for measure in (deletion.MEASURE,)}
    return found | {measure.name: measure for measure in added("measures") if measure.name not in found}


def chosen(names: Iterable[str]) -> list[Measure]:
    """The measures of these names, each once.

    :raises OptionError: for an unknown one.
    """
    for name in names:
        if name not in measures():
            raise OptionError("--measure", name, f"choose from {', '.join(measures())}")
    return [measures()[name] for name in dict.fromkeys(names)]


def options(names: Iterable[str] | None = None) -> dict[str, Option]:
    """The options of some measures, or of all, by name."""
    return {option.name: option for m in chosen(names or measures()) for option in m.options}
