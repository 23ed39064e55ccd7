"""What the real application's Qt classes have: ``qt-metaobjects.json``, which that application wrote."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

FILE = Path(__file__).parents[1] / "qt-metaobjects.json"


@cache
def classes() -> dict:
    return json.loads(FILE.read_text()) if FILE.is_file() else {}


@cache
def members(name: str, kind: str) -> frozenset[str]:
    """Of one kind, with those of all superclasses.

    :param kind: properties, signals, slots or attributes (the names that Python sees).
    """
    chain = [name, *classes()[name].get("superclasses", [])]
    return frozenset(member for each in chain for member in classes()[each].get(kind, ()))


def writable(name: str) -> frozenset[str]:
    """Properties that can be set."""
    chain = [name, *classes()[name].get("superclasses", [])]
    kinds = [item for each in chain for item in classes()[each].get("properties", {}).items()]
    return frozenset(member for member, kind in kinds if not kind.endswith("(read only)"))


def ambiguous(name: str, signal: str) -> bool:
    """Whether overloads of the signal differ in more than how many of the arguments they give."""
    kinds = [each[len(signal) + 1 : -1] for each in members(name, "signals") if each.startswith(signal + "(")]
    longest = max(kinds, key=len, default="")
    return any(not longest.startswith(each) for each in kinds)
