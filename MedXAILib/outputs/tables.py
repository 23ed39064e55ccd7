"""The writer of tables: predictions, regions, superpixels, structures, layers, one file each for the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .layout import MAP, TABLES
from .part import PartFolder

if TYPE_CHECKING:
    from ..findings.finding import Finding
    from ..findings.said import CaseResult

Row = tuple[Any, ...]


class TablesWriter:
    """Rows of CSV files."""

    name = "tables"
    about = "predictions, hot regions, superpixels and structures as CSV"

    def prediction(self, result: CaseResult, folder: PartFolder) -> None:
        """See :class:`.writer.Writer`."""
        name, said = result.name, result.said
        folder.add("labels.csv", [(name, b.name, b.unit, b.reference, b.predicted, b.dice) for b in result.beside])
        folder.add("caveats.csv", [(name, c.code, c.severity, c.text) for c in said.caveats])
        if said.labels is not None:
            volumes, counts = said.labels.ml(), said.labels.counts()
            folder.add("segmentation.csv", [(name, c, volumes[c], counts[c]) for c in counts])
            return
        table = "predictions.csv"
        last: tuple[Any, ...] = ()
        if "values" in said.summary:
            table, last = "values.csv", (said.summary["unit"],)
        for n, row in enumerate(said.by_slice):
            folder.add(table, [(name, n, c, p, *last) for c, p in zip(said.classes, row, strict=True)])
        folder.add(table, [(name, "", c, p, *last) for c, p in said.classes.items()])

    def maps(self, result: CaseResult, folder: PartFolder) -> None:
        """See :class:`.writer.Writer`."""
        order = 0
        for finding in result.findings:
            a = finding.attribution
            key = (result.name, a.target, a.method, a.layer)
            folder.add("regions.csv", [(*key, *row) for row in region_rows(finding)])
            folder.add("superpixels.csv", [(*key, *row) for row in superpixel_rows(finding)])
            if a.carried is not None:
                cell = a.cells.text if a.cells and a.cells.unit == "mm" else ""
                folder.add("layers.csv", [(*key, order, cell, a.carried)])
                order += 1
            rows = [
                (r.structure, r.positive_fraction, r.negative_fraction, r.volume_fraction)
                for r in finding.structures or ()
            ]
            folder.add("anatomy.csv", [(*key, *row) for row in rows])


def region_rows(finding: Finding) -> list[Row]:
    """Rows of regions.csv, without those that say which map it is."""
    nowhere = (None,) * 3  # where the file does not say how the image lies in the patient
    placed = finding.reference.placed
    return [
        (r.name, r.volume_ml, *(r.centroid if placed else nowhere), r.peak, r.mass_fraction, r.voxels, *r.index)
        for r in finding.region_rows
    ]


def superpixel_rows(finding: Finding) -> list[Row]:
    """Rows of superpixels.csv, without those that say which map it is."""
    return [(r.value, r.coefficient, r.volume_ml, r.voxels) for r in finding.superpixel_rows]


def as_rows(table: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as plain values by the names of their columns."""
    columns = TABLES[table][len(MAP) :]
    return [dict(zip(columns, [v.item() if hasattr(v, "item") else v for v in row], strict=True)) for row in rows]
