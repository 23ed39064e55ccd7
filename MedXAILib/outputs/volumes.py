"""The writer of images: maps, hot regions, superpixels, segmentations, each with its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..caveats import as_values
from .part import PartFolder
from .tables import as_rows, region_rows, superpixel_rows

if TYPE_CHECKING:
    from ..attribution.attribution import Attribution
    from ..findings.said import CaseResult


class VolumesWriter:
    """Maps on the input's own grid, and what belongs to them."""

    name = "volumes"
    about = "maps, hot regions, superpixels and segmentations as images, each with its metadata"

    def prediction(self, result: CaseResult, folder: PartFolder) -> None:
        """See :class:`.writer.Writer`."""
        said = result.said
        if said.labels is not None:
            metadata = {**result.metadata, "caveats": as_values(said.caveats)}
            values = {row.name: row.value for row in said.labels.rows}
            also = {"volume_ml": said.labels.ml(), "voxels": said.labels.counts(), "values": values}
            folder.image(said.labels, segmentation_in(folder), metadata, also)
        if result.prepared is not None:
            folder.image(result.prepared, folder.target("input", lasting=True), result.metadata)

    def maps(self, result: CaseResult, folder: PartFolder) -> None:
        """See :class:`.writer.Writer`."""
        for finding in result.findings:
            a = finding.attribution
            metadata = {**a.metadata, "input": result.name}
            folder.image(finding.map, map_in(folder, a), metadata)
            if folder.cells and a.cells is not None:
                folder.image(a.volume, map_in(folder, a, "cells"), metadata)
            table = as_rows("regions.csv", region_rows(finding))
            regions = folder.target(a.target, a.method, a.layer, "regions")
            also = {"mass_fraction": finding.mass_fraction, "regions": table}
            folder.image(finding.regions, regions, metadata | also)
            if a.superpixels is not None:
                table = as_rows("superpixels.csv", superpixel_rows(finding))
                folder.image(a.superpixels, map_in(folder, a, "superpixels"), metadata | {"superpixels": table})


def map_in(folder: PartFolder, a: Attribution, *kind: str) -> Path:
    """Where a map is written, or its cells or superpixels."""
    return folder.target(a.target, a.method, a.layer, *kind, lasting=True)


def segmentation_in(folder: PartFolder) -> Path:
    """Where a segmentation is written."""
    return folder.target("segmentation", lasting=True)
