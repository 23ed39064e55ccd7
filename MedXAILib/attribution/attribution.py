"""A map: how each place changed one score of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..caveats import Caveat, as_values
from ..geometry.labels import Labels
from ..geometry.resample import resample
from ..geometry.volume import Volume


@dataclass(frozen=True)
class FeatureCells:
    """Of a map of a layer, its cells.

    :ivar size: how much of the input one covers along each axis, in ``unit``; a single slice of unknown thickness has two.
    :ivar unit: mm, or the file's own pixels or voxels where it does not say how large these are.
    """

    size: tuple[float, ...]
    unit: str

    @property
    def text(self) -> str:
        """As people read it, without the unit."""
        return " x ".join(f"{c:.3g}" for c in self.size)


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """One map.

    :ivar volume: raw float32 values on the map's own grid (the feature cells, or the network's input).
    :ivar method: its name.
    :ivar target: name of what is explained: a class, or a target's own name such as ``liver-T0.3``.
    :ivar label: the class whose score is explained.
    :ivar layer: methods of a layer: its name; methods of the input: which of several inputs, as ``input-flair``; else "".
    :ivar signed: whether negative values mean evidence against; otherwise every value is >= 0.
    :ivar says: what the model says of what is explained: ``p 0.973``, ``12.3 mL``.
    :ivar superpixels: LIME, Kernel SHAP: their features as labels on the network's grid.
    :ivar coefficients: the coefficient of each superpixel value.
    :ivar cells: of a map of a layer.
    :ivar carried: layer-wise methods: the score that the layer carries to first order.
    :ivar evaluations, seconds: of the network, and of time, for this map.
    :ivar provenance: model, weights, layer, parameters, seed, version: plain JSON values, to be written down.
    :ivar caveats: what limits belief in this map.
    """

    volume: Volume
    method: str
    target: str
    label: str
    layer: str = ""
    signed: bool = False
    says: str = ""
    superpixels: Labels | None = None
    coefficients: Mapping[int, float] = field(default_factory=dict)
    cells: FeatureCells | None = None
    carried: float | None = None
    evaluations: int = 0
    seconds: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    caveats: tuple[Caveat, ...] = ()

    def on(self, volume: Volume) -> Volume:
        """The map on the grid of ``volume`` (linear, 0 outside what the network saw), float32."""
        return resample(self.volume, volume.grid)

    @property
    def mass(self) -> Volume:
        """How much of the explanation each voxel holds: what regions and fractions are measured by.

        A map is its own mass; for superpixels see :func:`spread`.
        """
        return self.volume if self.superpixels is None else spread(self.volume, self.superpixels)

    def with_caveats(self, first: Sequence[Caveat]) -> Attribution:
        """The map whose caveats begin with these."""
        return replace(self, caveats=(*first, *self.caveats))

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything that is written down beside the map, in plain values."""
        cells: dict[str, Any] = {}
        if self.cells:
            cells = {f"cell_{self.cells.unit.replace(' ', '_')}": [round(c, 6) for c in self.cells.size]}
        return {
            **self.provenance,
            **cells,
            **({} if self.carried is None else {"linear_score": self.carried}),
            "model_output": self.says,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "caveats": as_values(self.caveats),
        }


def spread(coefficients: Volume, superpixels: Labels) -> Volume:
    """How much of an explanation each voxel holds, where superpixels were painted with their coefficients.

    A coefficient belongs to its superpixel as a whole, so each voxel holds an equal part: else a large superpixel of
    no importance would outweigh a small one that decides.

    :param coefficients: the painted map, array (k, j, i).
    :param superpixels: on the same grid.
    """
    labels = superpixels.volume.array
    return coefficients.with_array(coefficients.array / np.maximum(np.bincount(labels.ravel()), 1)[labels])
