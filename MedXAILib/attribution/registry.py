"""The methods by name: those that come with MedXAI, and those that other packages add (group ``medxai.methods``)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any

from ..errors import InputError
from ..names import matching
from ..plugins import registry
from . import cam, gradient, lime, perturbation, shap
from .method import Method
from .option import Option, fault

ALL = "all"
"""Stands for every method that suits the network."""


def _fault(one: Any, known: Iterable[Method]) -> str:
    if not isinstance(one, Method):
        return "it is no LayerMethod, InputMethod or QueryMethod"
    return fault(one.options, (option for m in known for option in m.options))


@cache
def methods() -> dict[str, Method]:
    """Every method by its name."""
    own = (*cam.METHODS, *gradient.METHODS, *perturbation.METHODS, lime.METHOD, shap.METHOD)
    return registry("methods", own, _fault)


def method(name: str) -> Method:
    """A method by name or title, in any spelling of capitals and hyphens.

    :raises InputError: listing the methods.
    """
    known = methods()
    titles = {m.title: m.name for m in known.values()}
    found = matching(name, known) or titles.get(matching(name, titles) or "")
    if found is None:
        near = get_close_matches(name.casefold(), known, 1)
        meant = f"did you mean {near[0]}? Else " if near else ""
        raise InputError(f"There is no method '{name}'", f"{meant}choose from {', '.join(known)}, or {ALL}", joint=": ")
    return known[found]


def method_title(name: str) -> str:
    """A method as people write it; a name that is not known here stays."""
    known = methods().get(name)
    return known.title if known else name


def chosen(names: Iterable[str]) -> list[Method]:
    """The methods of these names, each once; ``all`` is every one."""
    wanted = [method(name).name for given in names for name in (methods() if given == ALL else [given])]
    return [methods()[name] for name in dict.fromkeys(wanted)]


def options(among: Iterable[Method] | None = None) -> dict[str, Option]:
    """The options of some methods, or of all, by name; those of the same name are one option."""
    return {option.name: option for m in (methods().values() if among is None else among) for option in m.options}
