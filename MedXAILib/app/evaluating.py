"""``medxai evaluate``: figures of the maps of a run, or of new ones of a case."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..attribution.attribution import Attribution
from ..attribution.option import settled
from ..errors import FileError, InputError, legible
from ..evaluation.evaluate import Measured, evaluate
from ..evaluation.measure import Measure
from ..evaluation.registry import chosen, options
from ..io import atomic
from ..outputs.earlier import read_volume
from ..outputs.layout import RECORD, RESERVED, TABLES
from ..outputs.record import read_record
from ..outputs.run_folder import write_run
from ..outputs.staging import staged
from ..progress import Progress, portion, silent
from ..provenance import versions
from ..session import Request
from .case import opened, run_case, volumes_of
from .checking import check, model_of, request_of, targets_of
from .job import EXPLAIN, Job, Messages
from .run import about, find
from .tables import as_csv, records, summary_of

TABLE = "evaluation.csv"
KEY = 4
"""Columns that tell rows apart: case, method, target and measure."""


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return (path / RECORD).is_file()


def evaluate_case(
    job: Job,
    output: Path,
    names: Sequence[str],
    given: Mapping[str, Any],
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> list[Measured]:
    """Explain a case, or each of a folder, and measure the maps; writes an output folder with evaluation.csv.

    :param names: of measures. :param given: their options.
    :raises InputError: for anything given that cannot be used.
    """
    check(job)
    settled(options(names).values(), given)
    measures, messages = chosen(names), Messages(then=say)
    model = model_of(job)
    cases = find(job, model, messages).cases
    with staged(output, overwrite, f"evaluate {cases[0].name}", RESERVED) as folder:
        request = request_of(job)
        rows: list[Measured] = []
        for number, case in enumerate(cases):
            report = portion(progress, number, len(cases))
            with about(case.name):
                session = opened(model, volumes_of(job, case))
                maps = run_case(session, request, portion(report, 0, 2), messages)
                targets = {b.name: t for t in _targets(request) for b in session.bound([t])}
                rows += evaluate(
                    session, maps.attributions, targets, measures, case=case.name, options=given, seed=job.seed,
                    progress=portion(report, 1, 2),
                )  # fmt: skip
        atomic.write_text(folder / TABLE, as_csv(TABLES[TABLE], [row.row for row in rows]))
        told = {
            "job": job.described(),
            "versions": versions(),
            "measures": _told(measures, given),
            "messages": messages.lines,
        }
        write_run(folder, told, [TABLE])
    return rows


def _targets(request: Request | None) -> Sequence[Any]:
    return request.targets if request else ()


def _told(measures: Sequence[Measure], given: Mapping[str, Any]) -> list[dict[str, Any]]:
    known = options([m.name for m in measures])
    return [
        {"name": m.name, "options": {o.name: given.get(o.name, known[o.name].default) for o in m.options}}
        for m in measures
    ]


def evaluate_run(
    folder: Path,
    inputs: Sequence[Path],
    names: Sequence[str],
    given: Mapping[str, Any],
    *,
    model: str | None = None,
    progress: Progress = silent,
) -> list[Measured]:
    """Measure the maps that a run wrote; evaluation.csv is put into its folder.

    :param inputs: folders in which the run's inputs are looked for, by their names.
    :param model: where the run's is not a model of MedXAI's: the path of its card.
    :raises InputError: for a folder that holds no run of maps, or inputs that are not found.
    """
    settled(options(names).values(), given)
    record, measures = read_record(folder), chosen(names)
    job = _job_of(record, folder, model)
    network = model_of(job)
    rows: list[Measured] = []
    cases = [case for case in _cases(folder, record) if case["maps"]]
    if not cases:
        raise FileError(legible(str(folder)), "this run wrote no maps", "give that of 'medxai explain'")
    for number, case in enumerate(cases):
        path = _found(case["input"], inputs)
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


def _cases(folder: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run says of each of its cases."""
    if "questions" not in record:  # of an earlier MedXAI, or of figures
        return list(record.get("cases", ()))
    return [summary_of(record, case) for _, case in records(folder, record) if not case.get("failures")]


def _job_of(record: Mapping[str, Any], folder: Path, model: str | None) -> Job:
    """The job of a run: its model by name, or as given."""
    job = Job.from_json(record["job"])
    if job.task != EXPLAIN or len(job.inputs) > 1 or job.mask:
        raise FileError(
            legible(str(folder)), "only runs of 'medxai explain' with one input and no mask can be measured again", "evaluate the case"
        )  # fmt: skip
    return replace(job, model=model or job.model.removesuffix(".json"))


def _found(name: str, folders: Sequence[Path]) -> Path:
    """An input by the name that the run gives it.

    :raises FileError: where it lies in none of these folders.
    """
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    places = ", ".join(dict.fromkeys(map(str, folders)))
    raise FileError(name, f"this input of the run does not lie in {places}", "give its folder with --inputs")


def _maps(case: Mapping[str, Any], folder: Path) -> Iterator[Attribution]:
    """The maps of a case, as they were written."""
    for found in case["maps"]:
        path = folder / found["file"]
        beside = json.loads((path.parent / f"{_stem(path)}.json").read_text(encoding="utf-8"))
        yield Attribution(
            volume=read_volume(path), method=found["method"], target=found["class"], label=beside.get("class", found["class"]),
            layer=found["layer"], signed=beside.get("signed", False),
        )  # fmt: skip


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(end) for end in (".nii.gz", ".nrrd", ".mha") if path.name.endswith(end))


def _put(folder: Path, rows: Sequence[Measured]) -> None:
    """evaluation.csv into a run's folder, and among its files; figures of other measures that stand there stay."""
    new, kept = {row.row[:KEY] for row in rows}, []
    if (folder / TABLE).is_file():
        with (folder / TABLE).open(newline="", encoding="utf-8") as file:
            kept = [row for row in list(csv.reader(file))[1:] if tuple(row[:KEY]) not in new]
    atomic.write_text(folder / TABLE, as_csv(TABLES[TABLE], [*kept, *(row.row for row in rows)]))
    path = folder / RECORD
    record = json.loads(path.read_text(encoding="utf-8"))
    record["files"] = sorted({*record["files"], TABLE} - {RECORD}) + [RECORD]
    atomic.write_text(path, json.dumps(record, indent=1))
