"""The writer of images: maps, hot regions, superpixels, segmentations, each with its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..caveats import as_values
from .folder import RunFolder
from .tables import as_rows, region_rows, superpixel_rows

if TYPE_CHECKING:
    from ..findings.finding import Finding
    from ..findings.said import CaseResult


class VolumesWriter:
    """Maps on the input's own grid, and what belongs to them."""

    name = "volumes"
    about = "maps, hot regions, superpixels and segmentations as images, each with its metadata"

    def write(self, result: CaseResult, folder: RunFolder) -> None:
        """See :class:`.writer.Writer`."""
        said = result.said
        if said.labels is not None:
            metadata = {**result.metadata, "caveats": as_values(said.caveats)}
            values = {row.name: row.value for row in said.labels.rows}
            also = {"volume_ml": said.labels.ml(), "voxels": said.labels.counts(), "values": values}
            folder.image(said.labels, folder.target(result.name, "segmentation"), metadata, also)
        if result.prepared is not None:
            folder.image(result.prepared, folder.target(result.name, "input"), result.metadata)
        for finding in result.findings:
            self._finding(result.name, finding, folder)

    def _finding(self, name: str, finding: Finding, folder: RunFolder) -> None:
        a = finding.attribution
        parts, metadata = (a.target, a.method, a.layer), {**a.metadata, "input": name}

        def write(image: Any, *kind: str, also: dict[str, Any] | None = None) -> None:
            folder.image(image, folder.target(name, *parts, *kind), metadata | (also or {}))

        write(finding.map)
        if folder.cells and a.cells is not None:
            write(a.volume, "cells")
        table = as_rows("regions.csv", region_rows(finding))
        write(finding.regions, "regions", also={"mass_fraction": finding.mass_fraction, "regions": table})
        if a.superpixels is not None:
            table = as_rows("superpixels.csv", superpixel_rows(finding))
            write(a.superpixels, "superpixels", also={"superpixels": table})
