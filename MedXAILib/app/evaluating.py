"""``medxai evaluate``: figures of the maps of a run, or of new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..attribution.option import settled
from ..errors import InputError, legible
from ..evaluation.evaluate import Measured, evaluate
from ..evaluation.measure import Measure
from ..evaluation.registry import chosen, options
from ..models.loading import Model
from ..outputs.case_file import read_case, replace_parts
from ..outputs.layout import RECORD
from ..outputs.run_folder import claimed_run, read_run
from ..progress import Progress, portion, shares, silent
from .case import opened
from .checking import check, model_of, targets_of
from .faults import about
from .job import Job
from .keys import model_identity
from .older import KEY, evaluate_older
from .parts import Part, can_be_read, maps_in
from .recorded import Recorded, read_input, read_mask, with_maps
from .run import run
from .tables import derive


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What became of the measures of a run. ``failures``: case and sentence."""

    rows: Sequence[Measured]
    failures: Sequence[tuple[str, str]]


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
) -> Evaluated:
    """Explain a case, or many, into a run's folder, and measure the maps that were written.

    :param names: of measures. :param given: their options.
    :raises InputError: for anything given that cannot be used.
    """
    check(job)
    settled(options(names).values(), given)
    explaining, measuring = shares(progress, [1.0, 4.0])
    found = run(job, output, overwrite=overwrite, progress=explaining, say=say)
    failures = [(failure["input"], failure["sentence"]) for failure in found["failures"]]
    measured = evaluate_run(output, names, given, job=job, progress=measuring)
    return replace(measured, failures=[*failures, *measured.failures])


def evaluate_run(
    folder: Path,
    names: Sequence[str],
    given: Mapping[str, Any],
    *,
    job: Job | None = None,
    changed: Mapping[str, Any] | None = None,
    inputs: Sequence[Path] = (),
    progress: Progress = silent,
) -> Evaluated:
    """Measure the maps that a run wrote. The figures stand with each map in its case.json, and in evaluation.csv; those of other
    measures stay.

    :param names: of measures. :param given: their options.
    :param job: that of the run; by default the one on record, with ``changed`` fields: it has paths without their folders.
    :param inputs: folders in which the run's inputs are looked for; by default where the run found them.
    :raises InputError: for a folder that holds no run of maps, or a model that is another one; what is wrong with one case is in the
        answer.
    """
    settled(options(names).values(), given)
    measures, found = chosen(names), read_run(folder)
    if "job" in found and "questions" not in found:
        older = evaluate_older(folder, found, measures, given, changed or {}, inputs, progress)
        return Evaluated(rows=older, failures=())
    record, cases = with_maps(folder)
    job = job or _job_of(record, changed or {})
    model = _the_model(job, record)
    rows: list[Measured] = []
    failures = []
    with claimed_run(folder, f"measures of {record['key']}", f"evaluate {legible(folder.name)}"):
        try:
            for number, case in enumerate(cases):
                try:
                    with about(case.name):
                        measuring = _Measuring(job, model, measures, given, portion(progress, number, len(cases)))
                        rows += measuring.carry_out(folder, record, case, inputs)
                except InputError as error:
                    failures.append((case.name, str(error)))
        finally:
            derive(folder)
    return Evaluated(rows=rows, failures=failures)


def _job_of(record: Mapping[str, Any], changed: Mapping[str, Any]) -> Job:
    """The job on record; its model by name, or as given."""
    job = Job.from_json(record["job"])
    return replace(job, **{"model": job.model.removesuffix(".json"), **changed})


def _the_model(job: Job, record: Mapping[str, Any]) -> Model:
    """:raises InputError: where it is not the model that made the maps."""
    model = model_of(job)
    now, then = model_identity(model.card, model.weights_sha256), record["identity"]
    if other := next((what for what in ("weights", "card") if now[what] != then[what]), None):
        fields = "weights are others" if other == "weights" else "card says otherwise how it is run"
        raise InputError(
            f"{job.model}: this is not the model that made these maps: its {fields}; give that one with --model, or explain anew."
        )
    return model


@dataclass(frozen=True, eq=False)
class _Measuring:
    """Measures on their way over the maps of one case."""

    job: Job
    model: Model
    measures: Sequence[Measure]
    options: Mapping[str, Any]
    progress: Progress

    def carry_out(self, root: Path, run: Mapping[str, Any], case: Recorded, inputs: Sequence[Path]) -> list[Measured]:
        """The figures, which are put on record, too."""
        volumes = {channel: read_input(root, case, channel, inputs) for channel in case.record["inputs"]}
        job, mask = self.job, None
        if (found := read_mask(root, run, case, inputs)) is not None:
            path, mask = found
            job = replace(job, mask=str(path))
        predicting, measuring = shares(self.progress, [1.0, 9.0])
        session = opened(self.model, volumes)
        session.predict(predicting)
        reference = next(iter(volumes.values()))
        targets = {b.name: t for t in targets_of(job, mask) for b in session.bound([t])}
        figures: dict[str, list[Measured]] = {}
        parts = [part for part in case.parts if can_be_read(part)]
        for number, part in enumerate(parts):
            maps = maps_in(part, case.folder, reference.source)
            if unknown := next((a.target for a in maps if a.target not in targets), None):
                raise InputError(
                    f"what the map of {unknown} explains is not what the model says of this input; explain it anew."
                )
            figures[part["key"]] = evaluate(
                session, maps, targets, self.measures, case=case.name, options=self.options, seed=self.job.seed,
                progress=portion(measuring, number, len(parts)),
            )  # fmt: skip
        _put(case.folder, figures)
        return [row for rows in figures.values() for row in rows]


def _put(folder: Path, found: Mapping[str, Sequence[Measured]]) -> None:
    """Figures of parts into a case's record; those of other measures that stand there stay."""
    record = read_case(folder)
    parts = [_with(part, found.get(part["key"], ())) for part in record["parts"]]
    replace_parts(folder, record, parts, True)


def _with(part: Part, rows: Sequence[Measured]) -> Part:
    known = {tuple(row[:KEY]): row for row in part.get("measured", ())} | {row.row[:KEY]: row.row for row in rows}
    return part | {"measured": list(known.values())} if known else part
