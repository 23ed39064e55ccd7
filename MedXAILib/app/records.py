"""Results as plain values and files: on their way to the panel, and back from what a scene stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.attribution import Attribution, FeatureCells
from ..caveats import Caveat, as_values
from ..findings.anatomy import StructureFraction
from ..findings.finding import Finding
from ..findings.regions import inner_points
from ..findings.said import Said
from ..geometry.grid import Grid
from ..geometry.labels import Label, Labels
from ..geometry.volume import Volume, extended
from ..io.read import read_volume
from ..io.write import write_volume
from ..prediction import Classification, Prediction


def prediction_record(prediction: Prediction, folder: Path) -> dict[str, Any]:
    """A prediction in plain values; a segmentation as label map beside its rows."""
    card, prepared = prediction.card, prediction.prepared
    found: dict[str, Any] = {
        "model": card.name,
        "task": card.task,
        "mode": prediction.tiling.mode,
        "top": prediction.top,
        "caveats": as_values(prediction.caveats),
        "grid": {"shape": prepared.grid.shape, "affine": prepared.grid.affine.tolist()},
        **prediction.summary,
    }
    if prediction.labels is not None:
        places = inner_points(prediction.labels.volume)
        named = {row.name: places[row.value] for row in prediction.labels.rows if row.value in places}
        found["labels"] = labels_record(prediction.labels, folder, "labels") | {"places": named}
    if isinstance(prediction, Classification) and prediction.sliced:
        depth, *size = prepared.shape
        middle = [(n - 1) / 2 for n in size]
        centres = [prepared.grid.ras([*middle[::-1], n]).tolist() for n in range(depth)]
        found |= {"by_slice": prediction.pieces.tolist(), "centres": centres}
    return found


def fields_of(a: Attribution) -> dict[str, Any]:
    """What is to be known of a map beside its values: see :func:`attribution_of`."""
    return {
        "target": a.target,
        "class": a.label,
        "method": a.method,
        "layer": a.layer,
        "signed": a.signed,
        "says": a.says,
        "cells": None if a.cells is None else asdict(a.cells),
        "carried": a.carried,
        "evaluations": a.evaluations,
        "seconds": a.seconds,
        "caveats": as_values(a.caveats),
        "provenance": dict(a.provenance),
    }


def map_record(finding: Finding, folder: Path, name: str) -> dict[str, Any]:
    """A map on its own grid, its hot regions and superpixels, and what limits belief in it."""
    a = finding.attribution
    write_volume(extended(a.volume), folder / f"{name}.nrrd", compress=False)
    found = {
        "file": f"{name}.nrrd",
        "title": finding.title,
        **fields_of(a),
        "regions": labels_record(finding.regions, folder, f"{name}-regions")
        | {"table": [asdict(row) for row in finding.region_rows]},
    }
    if a.superpixels is not None:
        places = finding.superpixel_places
        table = [asdict(row) | {"place": places[row.value]} for row in finding.superpixel_rows]
        found["superpixels"] = labels_record(a.superpixels, folder, f"{name}-superpixels") | {"table": table}
    return found


def labels_record(labels: Labels, folder: Path, name: str) -> dict[str, Any]:
    """Labels as an uncompressed file, and their rows."""
    write_volume(labels.volume, folder / f"{name}.nrrd", compress=False)
    return {"file": f"{name}.nrrd", "rows": [(row.value, row.name, row.color) for row in labels.rows]}


def structure_records(rows: tuple[StructureFraction, ...] | None) -> list[dict[str, Any]]:
    """Fractions by structure, in plain values."""
    return [asdict(row) for row in rows or ()]


def labels_of(record: Mapping[str, Any], folder: Path) -> Labels:
    """Labels of a record."""
    rows = tuple(Label(value, name, tuple(color)) for value, name, color in record["rows"])
    return Labels(read_volume(folder / record["file"]), rows)


def attribution_of(record: Mapping[str, Any], volume: Volume, superpixels: Labels | None = None) -> Attribution:
    """The map of a record.

    :param superpixels: on the map's own grid.
    """
    provenance, cells = record["provenance"], record.get("cells")
    table = record.get("superpixels", {}).get("table", [])
    return Attribution(
        volume=volume,
        method=record["method"],
        target=record["target"],
        label=record.get("class", record["target"]),
        layer=record["layer"],
        signed=record["signed"],
        says=record.get("says", ""),
        superpixels=superpixels,
        coefficients={row["value"]: row["coefficient"] for row in table} if superpixels else {},
        cells=FeatureCells(tuple(cells["size"]), cells["unit"]) if cells else None,
        carried=record.get("carried"),
        evaluations=record.get("evaluations", 0),
        seconds=record.get("seconds", provenance.get("seconds", 0.0)),
        provenance=provenance,
        caveats=caveats_of(record),
    )


def caveats_of(record: Mapping[str, Any]) -> tuple[Caveat, ...]:
    """The caveats of a record."""
    return tuple(Caveat.from_value(value) for value in record.get("caveats", ()))


def grid_of(record: Mapping[str, Any]) -> Grid:
    """The grid of what the network saw."""
    return Grid(tuple(record["shape"]), np.array(record["affine"]))


def said_of(record: Mapping[str, Any], labels: Labels | None = None) -> Said:
    """What a stored prediction said."""
    keys = ("probabilities", "values", "unit", "volume_ml", "voxels", "highest_in_slice", "aggregation")
    summary = {key: record[key] for key in keys if key in record}
    by_slice = record.get("by_slice", [])
    if by_slice:
        summary["slices"] = len(by_slice)
    return Said(
        model=record["model"], summary=summary, labels=labels, by_slice=by_slice, caveats=caveats_of(record),
        grid=grid_of(record["grid"]) if "grid" in record else None,
    )  # fmt: skip
