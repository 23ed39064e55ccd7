"""One heat map as it is shown: its values, what it explains, and what limits belief in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.labels import Labels
from ..geometry.volume import Volume


@dataclass(frozen=True, eq=False, kw_only=True)
class Overlay:
    """One heat map in the scene, one row of the picture."""

    name: str
    """Name of its node, such as ``lesion gradcam``."""
    map: Volume
    """Raw values, float32, on the map's own grid: MRML resamples for display."""
    signed: bool
    target: str = ""
    """What is explained, such as ``lesion``."""
    said: str = ""
    """What the model says of it, such as ``p 0.97``."""
    method: str = ""
    """Such as ``Grad-CAM``."""
    layer: str = ""
    caveats: tuple[str, ...] = ()
    """What limits belief in it, one sentence each."""
    regions: Labels | None = None
    """Outlined in the slices."""

    @property
    def title(self) -> str:
        """Such as ``lesion · p 0.97 · Grad-CAM · features.6``."""
        return " · ".join(part for part in (self.target, self.said, self.method, self.layer) if part)

    @cached_property
    def displayed(self) -> float:
        """The largest displayed value, see :func:`display_limit`."""
        return display_limit(self.map.array)

    @cached_property
    def even(self) -> bool:
        """Whether every voxel has the same value."""
        return bool((self.map.array == self.map.array.flat[0]).all())

    @cached_property
    def peak(self) -> NDArray[np.float64]:
        """RAS mm of the strongest voxel; of several equally strong ones, the one nearest to their middle.

        The middle of the grid where the map is even: it has no peak.
        """
        if self.even:
            return centre(self.map)
        strength = np.abs(self.map.array)
        strongest = np.argwhere(strength == np.nanmax(strength))
        nearest = np.argmin(np.linalg.norm(strongest - strongest.mean(axis=0), axis=1))
        return self.map.ras(strongest[nearest][::-1])


def display_limit(values: NDArray[Any]) -> float:
    """The largest displayed value of a map: the level above which 1% of its absolute mass lies.

    It hardly moves with a few outliers or with the size of the empty background, and equals the maximum
    for a map of constant regions. 1 for a map without any value.
    """
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    if size.size == 0:
        return 1.0
    top = int(np.ceil(0.01 * size.size))  # 1% of the mass lies in no more than the strongest 1% of the voxels
    strongest = np.sort(np.partition(size, size.size - top)[-top:])[::-1]
    mass = np.cumsum(strongest, dtype=np.float64)
    return float(strongest[min(int(np.searchsorted(mass, 0.01 * size.sum(dtype=np.float64))), top - 1)])


def centre(volume: Volume) -> NDArray[np.float64]:
    """RAS mm of the middle of the grid."""
    return volume.ras((np.array(volume.shape) - 1) / 2)
