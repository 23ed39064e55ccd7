"""Labels: an integer volume and what its values mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .volume import Volume


@dataclass(frozen=True)
class Label:
    """One row of a :class:`Labels`: the value in the array, its name, its colour (r, g, b in 0..1).

    :ivar shared: values of the voxels where it overlaps others, each of which has the value among its own.
    """

    value: int
    name: str
    color: tuple[float, float, float] = (0.5, 0.5, 0.5)
    shared: tuple[int, ...] = ()

    @property
    def values(self) -> tuple[int, ...]:
        """Every value in the array that belongs to it."""
        return self.value, *self.shared


@dataclass(frozen=True, eq=False)
class Labels:
    """An integer volume and what its values mean. Zero is the background and has no row."""

    volume: Volume
    rows: tuple[Label, ...]

    def counts(self) -> dict[str, int]:
        """Number of voxels of each row."""
        highest = max((max(row.values) for row in self.rows), default=0)
        counts = np.bincount(self.volume.array.ravel(), minlength=highest + 1)
        return {row.name: int(counts[list(row.values)].sum()) for row in self.rows}

    def count(self, name: str) -> int:
        """Number of voxels of the row of this name."""
        row = next(row for row in self.rows if row.name == name)
        return sum(int(np.count_nonzero(self.volume.array == value)) for value in row.values)

    def ml(self) -> dict[str, float | None]:
        """Volume of each row in mL; None where the file does not give the size of a voxel."""
        return {name: self.volume.ml(count) for name, count in self.counts().items()}

    def sizes(self) -> dict[str, float]:
        """Size of each row in the volume's :attr:`~Volume.size_unit`."""
        each = self.volume.voxel_ml if self.volume.size_unit == "mL" else 1
        return {name: count * each for name, count in self.counts().items()}


def overlaid(masks: Iterable[NDArray[np.bool_]], values: Sequence[int]) -> tuple[NDArray[Any], list[tuple[int, ...]]]:
    """Regions that may overlap as one array: where some do, those voxels get a value of their own.

    :param masks: bool (k, j, i), at least one. :param values: of each region where it is alone.
    :returns: the array, and for each region the further values that belong to it.
    :raises ValueError: for more than 65535 values.
    """
    merged: NDArray[Any] = np.zeros(0, np.uint16)
    holders: dict[int, tuple[int, ...]] = {0: ()}
    codes: dict[tuple[int, ...], int] = {(): 0} | {(n,): value for n, value in enumerate(values)}
    for n, mask in enumerate(masks):
        merged = merged if merged.size else np.zeros(mask.shape, np.uint16)
        for before in np.unique(merged[mask]):
            together = (*holders[int(before)], n)
            code = codes.setdefault(together, max(codes.values()) + 1)
            if code > np.iinfo(np.uint16).max:
                raise ValueError("too many overlaps")
            holders[code] = together
            merged[mask & (merged == before)] = code
    shared = [tuple(c for c, held in holders.items() if len(held) > 1 and n in held) for n in range(len(values))]
    return merged, shared


def label_colors(count: int, first: float = 0.08) -> list[tuple[float, float, float]]:
    """``count`` distinct colours (evenly spaced hues, golden-ratio order), for labels that bring none.

    :param first: the hue (0..1) of the first one.
    """
    return [hsv_to_rgb((0.61803398875 * n + first) % 1, 0.65, 0.95) for n in range(count)]
