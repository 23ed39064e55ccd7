"""The folder of a run of before there were case.json files, measured: all its maps lie side by side, and its inputs are known by name."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..attribution.attribution import Attribution
from ..errors import FileError, InputError, legible
from ..evaluation.evaluate import Measured, evaluate
from ..evaluation.measure import Measure
from ..io import atomic
from ..outputs.earlier import read_volume
from ..outputs.layout import EVALUATION, RECORD, TABLES
from ..outputs.record import modern_run
from ..progress import Progress, portion
from .case import opened
from .checking import model_of, targets_of
from .faults import about
from .job import EXPLAIN, Job
from .tables import as_csv

KEY = 4
"""Columns of evaluation.csv that tell rows apart: case, method, target and measure."""


def evaluate_older(
    folder: Path,
    found: Mapping[str, Any],
    measures: Sequence[Measure],
    given: Mapping[str, Any],
    changed: Mapping[str, Any],
    inputs: Sequence[Path],
    progress: Progress,
) -> list[Measured]:
    """As :func:`.evaluating.evaluate_run`.

    :param found: run.json. :param inputs: by default the folder of the run's, and the current one.
    :raises InputError: also where inputs are not found.
    """
    record = modern_run(found)
    job = _job_of(record, folder, changed)
    network = model_of(job)
    cases = [case for case in record.get("cases", ()) if case["maps"]]
    if not cases:
        raise FileError(legible(str(folder)), "this run wrote no maps", "give that of 'medxai explain'")
    rows: list[Measured] = []
    for number, case in enumerate(cases):
        path = _found(case["input"], inputs or (folder.resolve().parent, Path.cwd()))
        with about(case["input"]):
            session = opened(network, {"": read_volume(path, frame=job.frame, series=job.series)})
            session.predict(portion(progress, 2 * number, 2 * len(cases)))
            maps = list(_maps(case, folder))
            targets = {b.name: t for t in targets_of(job, None) for b in session.bound([t])}
            if unknown := next((a.target for a in maps if a.target not in targets), None):
                raise InputError(
                    f"what the map of {unknown} explains is not what the model says of this input; give --model."
                )
            rows += evaluate(
                session, maps, targets, measures, case=case["input"], options=given, seed=job.seed,
                progress=portion(progress, 2 * number + 1, 2 * len(cases)),
            )  # fmt: skip
    _put(folder, rows)
    return rows


def _job_of(record: Mapping[str, Any], folder: Path, changed: Mapping[str, Any]) -> Job:
    job = Job.from_json(record["job"])
    if job.task != EXPLAIN or len(job.inputs) > 1 or job.mask:
        raise FileError(
            legible(str(folder)), "of an earlier MedXAI, only runs with one input and no mask can be measured", "explain the case again"
        )  # fmt: skip
    return replace(job, **{"model": job.model.removesuffix(".json"), **changed})


def _found(name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    places = ", ".join(dict.fromkeys(map(str, folders)))
    raise FileError(name, f"this input of the run does not lie in {places}", "give its folder with --inputs")


def _maps(case: Mapping[str, Any], folder: Path) -> Iterator[Attribution]:
    for found in case["maps"]:
        path = folder / found["file"]
        stem = next(path.name.removesuffix(end) for end in (".nii.gz", ".nrrd", ".mha") if path.name.endswith(end))
        beside = json.loads((path.parent / f"{stem}.json").read_text(encoding="utf-8"))
        yield Attribution(
            volume=read_volume(path), method=found["method"], target=found["class"], label=beside.get("class", found["class"]),
            layer=found["layer"], signed=beside.get("signed", False),
        )  # fmt: skip


def _put(folder: Path, rows: Sequence[Measured]) -> None:
    """evaluation.csv into the folder, and among its files; figures of other measures that stand there stay."""
    new, kept = {row.row[:KEY] for row in rows}, []
    if (folder / EVALUATION).is_file():
        with (folder / EVALUATION).open(newline="", encoding="utf-8") as file:
            kept = [row for row in list(csv.reader(file))[1:] if tuple(row[:KEY]) not in new]
    atomic.write_text(folder / EVALUATION, as_csv(TABLES[EVALUATION], [*kept, *(row.row for row in rows)]))
    path = folder / RECORD
    record = json.loads(path.read_text(encoding="utf-8"))
    record["files"] = sorted({*record["files"], EVALUATION} - {RECORD}) + [RECORD]
    atomic.write_text(path, json.dumps(record, indent=1))
