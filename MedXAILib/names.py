"""Names as people write them: Grad-CAM, Glioma, brain-tumour-slices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

ALIKE = 0.95
"""How much of two names must agree where one is taken for the other: one letter of twenty may differ."""


def matching(name: str, known: Iterable[str], spelling: bool = False) -> str | None:
    """The one of the known names that is meant, whatever its capitals, spaces, hyphens and underscores.

    :param spelling: also where a letter differs, as in tumour and tumor.
    """
    known = list(known)
    if name in known:
        return name
    bare = plain(name)
    if bare.isdigit():  # -1 is not 1
        return None
    same = [one for one in known if plain(one) == bare and bare]
    if not same and spelling:
        same = [one for one in known if SequenceMatcher(None, plain(one), bare).ratio() >= ALIKE]
    return same[0] if len(same) == 1 else None


def plain(name: str) -> str:
    """Its letters, digits and plus signs: Grad-CAM++ is another one than Grad-CAM."""
    return re.sub(r"[^\w+]+|_", "", name.casefold())


def ranges(numbers: Sequence[int]) -> str:
    """0-3, 7 for [0, 1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)
