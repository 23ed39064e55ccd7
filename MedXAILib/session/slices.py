"""Which slices of a slice-wise network are meant: ``all``, ``top:N``, ``a:b`` or ``n``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import OptionError
from ..prediction import Prediction
from ..scoring import BoundTarget, ClassTarget

SLICES = re.compile(r"all|top:0*[1-9]\d*|\d+(:\d+)?")
"""What ``--slices`` may be."""


def check_slices(spec: str) -> None:
    """:raises InputError: for what names no slices, whatever the input."""
    start, _, end = spec.partition(":")
    if not SLICES.fullmatch(spec) or (end and start != "top" and int(end) <= int(start)):
        raise OptionError("--slices", spec, "give all, top:N (the N highest), a:b (a to b - 1) or n (that slice)")


def choose_slices(spec: str, target: BoundTarget) -> list[int]:
    """Slice numbers (0-based in the file's array) meant by ``all``, ``top:N``, ``a:b`` (b excluded) or ``n``.

    :raises InputError: for any other text, or where the input has none of these slices.
    """
    check_slices(spec)
    count = target.prediction.prepared.shape[0]
    if spec == "all":
        return list(range(count))
    if spec.startswith("top:"):
        return sorted(int(n) for n in np.argsort(-target.strengths, kind="stable")[: int(spec[4:])])
    if chosen := range_of(spec, count):
        return list(chosen)
    there = "one slice, 0" if count == 1 else f"{count} slices, 0 to {count - 1}"
    raise OptionError("--slices", spec, f"the input has {there}; give what is there")


def range_of(spec: str | None, count: int) -> range:
    """The slices that ``a:b`` or ``n`` means; empty for anything else."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", spec or "")
    if not found:
        return range(0)
    start = int(found[1])
    return range(start, min(int(found[2]) if found[2] else start + 1, count))


def how_many(spec: str, count: int) -> int:
    """Number of slices, of so many, that a text means.

    :raises InputError: for what names no slices, whatever the input.
    """
    check_slices(spec)
    return min(int(spec[4:]), count) if spec.startswith("top:") else len(range_of(spec, count)) or count


def said_there(target: Any, spec: str | None, prediction: Prediction, say: Callable[[str], None]) -> Any:
    """The target, or, where none was named and slices were, the class that is highest in these."""
    among = range_of(spec, prediction.prepared.shape[0])
    open_ = target is None or (isinstance(target, ClassTarget) and target.label is None)
    best = prediction.in_slices(among) if among and open_ else None
    if best is None:
        return target
    if best != prediction.top:
        say(f"Class {best}: the highest in the slices asked for; in the whole volume it is {prediction.top}.")
    return ClassTarget(best)
