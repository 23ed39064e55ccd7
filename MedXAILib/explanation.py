"""explain() and Attribution: tiles -> tape -> targets -> methods, maps put back in place."""

from __future__ import annotations

from dataclasses import dataclass, field

from .volume import Labels, Volume, resample


@dataclass(frozen=True, eq=False)
class Attribution:
    """One map: how each place changed one score of the network.

    :ivar volume: raw float32 values on the map's own grid (the feature cells, or the network's input).
    :ivar reference: the input volume's own grid; :meth:`on` resamples to it.
    """

    volume: Volume
    method: str
    target: str
    """Name of what is explained: a class, or a target's own name such as ``liver-T0.3``."""
    label: str
    """The class whose score is explained."""
    layer: str = ""
    signed: bool = False
    """Whether negative values mean evidence against; otherwise every value is >= 0."""
    superpixels: Labels | None = None
    coefficients: dict[int, float] = field(default_factory=dict)
    """Query methods: the surrogate's coefficient of each superpixel value."""
    provenance: dict = field(default_factory=dict)
    """model, weights sha256, layer, parameters, seed, evaluations, seconds, version: plain JSON values."""
    limits: tuple[str, ...] = ()
    """What limits belief in this map, one sentence each."""

    def on(self, volume: Volume) -> Volume:
        """The map on the grid of ``volume`` (linear, 0 outside what the network saw), float32."""
        return resample(self.volume, volume.affine, volume.shape)
