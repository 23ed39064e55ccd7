"""ModelSummary: what a person wants to know of a model before choosing it, read with the standard library alone.

The panel shows it before any package is installed. :func:`.source.summarise` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import schema


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """A model in short.

    :ivar task: classification or segmentation.
    :ivar mode: slices, whole or windows.
    :ivar axis: of slices: axial, coronal, sagittal, i, j or k.
    :ivar channels: (name, modality) of each input.
    :ivar spacing: mm along i, j, k; None is the file's own.
    :ivar background: the first class of an exclusive segmentation, which is no structure.
    :ivar methods: suggested ones.
    :ivar weights: where the weights file lies; None where it is not found.
    """

    name: str
    description: str
    task: str
    mode: str
    axis: str = "axial"
    labels: tuple[str, ...]
    channels: tuple[tuple[str, str], ...] = (("image", ""),)
    spacing: tuple[float, ...] | None = None
    licence: str = ""
    weaknesses: tuple[str, ...] = ()
    background: str | None = None
    methods: tuple[str, ...] = ()
    weights: Path | None
    weights_name: str

    @property
    def voxelwise(self) -> bool:
        """Whether it says something of each voxel."""
        return schema.voxelwise(self.task)

    @property
    def by_slices(self) -> bool:
        """Whether it sees one slice at a time."""
        return schema.by_slices(self.mode)

    @property
    def sees(self) -> str:
        """What it is given at once, in words."""
        return schema.MODES[self.mode].format(axis=self.axis)


def quantity(value: float, unit: str) -> str:
    """A measurement in three digits, or as many as stand before the point."""
    return f"{value:.3g} {unit}".rstrip() if abs(value) < 1000 else f"{value:.0f} {unit}".rstrip()
