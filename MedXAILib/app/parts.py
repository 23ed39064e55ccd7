"""Parts of a case as case.json has them: what the model says, and the maps that answer each question. Written by the writers, and
read back without the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.attribution import Attribution
from ..caveats import as_values
from ..findings.finding import Finding
from ..findings.said import CaseResult, Said
from ..geometry.volume import Source
from ..io.read import read_volume
from ..io.segmentation import read_labels
from ..outputs.part import PartFolder
from ..outputs.volumes import map_in, segmentation_in
from ..outputs.writer import Writer
from .job import Messages
from .pictures import montages
from .records import attribution_of, fields_of, said_of

PREDICTION, MAPS = "prediction", "maps"
"""Kinds of parts."""
Part = dict[str, Any]


def prediction_part(result: CaseResult, folder: PartFolder, writers: Sequence[Writer]) -> Part:
    """Write what the model says of a case."""
    for writer in writers:
        writer.prediction(result, folder)
    said = result.said
    told: dict[str, Any] = {
        "model": said.model, **said.summary, "by_slice": said.by_slice, "caveats": as_values(said.caveats),
    }  # fmt: skip
    if said.grid is not None:
        told["grid"] = {"shape": said.grid.shape, "affine": said.grid.affine.tolist()}
    if said.labels is not None:
        told["labels"] = {"file": _written(folder, segmentation_in(folder))}
    return _part(folder, PREDICTION) | {"said": told}


def maps_part(
    result: CaseResult, folder: PartFolder, writers: Sequence[Writer], question: Mapping[str, Any], say: Messages
) -> Part:
    """Write the maps that answer a question."""
    if result.findings:
        for writer in writers:
            writer.maps(result, folder)
        montages(result, folder, say)
    maps = [_map(finding, folder) for finding in result.findings]
    return _part(folder, MAPS) | {"question": dict(question), "maps": maps}


def _map(finding: Finding, folder: PartFolder) -> dict[str, Any]:
    a = finding.attribution
    told = fields_of(a) | {"file": _written(folder, map_in(folder, a))}
    if a.superpixels is not None:
        table = [{"value": int(row.value), "coefficient": float(row.coefficient)} for row in finding.superpixel_rows]
        told["superpixels"] = {"file": _written(folder, map_in(folder, a, "superpixels")), "table": table}
    return told


def _part(folder: PartFolder, kind: str) -> Part:
    return {"key": folder.key, "made": folder.made, "kind": kind, "files": folder.files, "tables": folder.tables}


def _written(folder: PartFolder, path: Path) -> str | None:
    """A file's name, where a writer wrote it."""
    return path.name if path.name in folder.files else None


def can_be_read(part: Part) -> bool:
    """Whether what the network gave is there."""
    if part["kind"] == PREDICTION:
        return part["said"].get("labels", {"file": ""})["file"] is not None
    return all(m["file"] is not None and m.get("superpixels", {"file": ""})["file"] is not None for m in part["maps"])


def said_in(part: Part, folder: Path) -> Said:
    """What the model said, of a part in a case's folder."""
    labels = part["said"].get("labels")
    return said_of(part["said"], read_labels(folder / labels["file"]) if labels else None)


def maps_in(part: Part, folder: Path, source: Source) -> list[Attribution]:
    """The maps of a part as they were written, on the input's own grid; those of superpixels as they were painted.

    :param source: of the input.
    """
    found = []
    for told in part["maps"]:
        volume, superpixels = read_volume(folder / told["file"]), None
        if painted := told.get("superpixels"):
            superpixels = read_labels(folder / painted["file"])
            colours = np.zeros(int(superpixels.volume.array.max()) + 1, np.float32)
            for row in painted["table"]:
                colours[row["value"]] = row["coefficient"]
            volume = superpixels.volume.with_array(colours[superpixels.volume.array])
        found.append(attribution_of(told, replace(volume, source=source), superpixels))
    return found
