"""A finding: a map with everything that is ever said or drawn of it, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..attribution.attribution import Attribution
from ..attribution.registry import method_title
from ..geometry.labels import Labels
from ..geometry.resample import resample
from ..geometry.volume import Volume
from .anatomy import StructureFraction, anatomy_fractions, seen_by
from .regions import HotRegion, Superpixel, hot_regions, inner_points, superpixel_rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Finding:
    """What is said of one map. Whoever writes or shows it only writes or shows.

    :ivar attribution: the map on its own grid, with its caveats.
    :ivar reference: the volume on whose grid results are returned.
    :ivar map: the map on this grid, float32 (k, j, i).
    :ivar mass_fraction: of the positive mass that the hot regions hold.
    :ivar regions: the hot regions as labels, and ``region_rows``: what each is.
    :ivar superpixel_rows: by falling coefficient; none of a method without superpixels.
    :ivar structures: fractions of the map by structure; None where no anatomy was given.
    """

    attribution: Attribution
    reference: Volume
    map: Volume
    mass_fraction: float
    regions: Labels
    region_rows: tuple[HotRegion, ...]
    superpixel_rows: tuple[Superpixel, ...] = ()
    structures: tuple[StructureFraction, ...] | None = None

    @property
    def title(self) -> str:
        """What is explained and what the model says of it, method and layer, for pictures."""
        a = self.attribution
        return " · ".join(part for part in (a.target, a.says, method_title(a.method), a.layer) if part)

    @property
    def superpixel_places(self) -> dict[int, list[float]]:
        """RAS mm of one voxel in the middle of each superpixel."""
        return inner_points(self.attribution.superpixels.volume) if self.attribution.superpixels else {}


def find(
    attribution: Attribution,
    reference: Volume,
    *,
    mass_fraction: float = 0.5,
    anatomy: Labels | None = None,
    seen: np.ndarray | None = None,
) -> Finding:
    """What is to be said of a map.

    :param reference: the volume that was explained.
    :param mass_fraction: of the map's positive mass that the hot regions hold; above 0 and up to 1.
    :param anatomy: structures of which the fractions are asked.
    :param seen: with it, what the network saw and is not air, bool (k, j, i) on the reference grid: see :func:`seen_by`.
    """
    on = reference.with_array(attribution.on(reference).array)
    mass = resample(attribution.mass, reference.grid)
    regions, rows = hot_regions(on, mass=mass.array, fraction=mass_fraction)
    superpixels: Sequence[Superpixel] = ()
    if attribution.superpixels is not None:
        superpixels = superpixel_rows(attribution.superpixels, attribution.coefficients)
    structures = None
    if anatomy is not None:
        where = seen_by(reference, reference.grid) if seen is None else seen
        structures = tuple(anatomy_fractions(mass, anatomy, where))
    return Finding(
        attribution=attribution, reference=reference, map=on, mass_fraction=mass_fraction, regions=regions,
        region_rows=tuple(rows), superpixel_rows=tuple(superpixels), structures=structures,
    )  # fmt: skip
