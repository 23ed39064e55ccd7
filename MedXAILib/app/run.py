"""A Job carried out over a file or a folder of cases. The command line, the demo and every other door go through here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import InputError, legible, of_path
from ..findings.said import CaseResult
from ..geometry.labels import Labels
from ..io.cohort import Case
from ..io.segmentation import read_labels
from ..models.loading import Model
from ..outputs.earlier import find_cases, read_volume
from ..outputs.folder import RunFolder, summary_of
from ..outputs.layout import RESERVED, stems
from ..outputs.staging import staged
from ..outputs.writer import Writer, chosen
from ..progress import Progress, portion, silent
from ..provenance import peak_memory, versions
from ..session import Request
from .case import opened, result_of, run_case
from .checking import check, check_pictures, model_of, refuse_overwriting, refuse_single, request_of
from .job import EXPLAIN, Job, Messages
from .pictures import montages, show


def unheard(text: str) -> None:
    """Nobody listens."""


def unneeded(result: CaseResult) -> None:
    """Nobody wants it but the folder."""


def run(
    job: Job,
    output: str | Path,
    *,
    overwrite: bool = False,
    scene_path: str | Path | None = None,
    snapshot_path: str | Path | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = unheard,
    then: Callable[[CaseResult], None] = unneeded,
) -> dict[str, Any]:
    """Carry out a job over a file or a folder and write its output folder.

    :param scene_path, snapshot_path: also write a Slicer scene (.mrb) and a picture (.png); for one case only.
    :param then: gets what was found of each case.
    :returns: the summary, as in run.json; in ``shown`` the scene and picture, and in ``failed`` why they are missing: the
        maps are there then.
    :raises InputError: for anything given that cannot be used; nothing is left behind then.
    """
    check(job)
    pictures = check_pictures(scene_path, snapshot_path)
    messages = Messages(then=say)
    cases = find(job, messages)
    if len(cases) > 1 and any(pictures):
        raise InputError(f"--scene and --snapshot show one case and the folder holds {len(cases)}: give one file.")
    refuse_overwriting([*job.paths(), *(case.path for case in cases)], pictures, output)
    what = f"{job.task} {cases[0].name} with {legible(Path(job.model).name)}"
    with staged(Path(output), overwrite, what, RESERVED) as folder:
        cohort = Cohort(job, cases, folder, messages, then)
        last = cohort.carry_out(progress)
        whole = cohort.finish()
    shown: list[str] = []
    failed: list[str] = []
    if any(pictures):
        portion(progress, len(cases) - 1, len(cases))(0.99, 1, "Drawing")
        shown, failed = show(last, *pictures)
    return whole | {"shown": shown, "failed": failed}


@dataclass(frozen=True, eq=False, kw_only=True)
class Given:
    """What a job names, read once for all its cases."""

    model: Model
    request: Request | None
    anatomy: Labels | None
    writers: list[Writer]


class Cohort:
    """The cases of a run, one after the other into its folder.

    :param folder: an existing one, which becomes the output when all are done.
    """

    def __init__(
        self,
        job: Job,
        cases: list[Case],
        folder: Path,
        messages: Messages,
        then: Callable[[CaseResult], None] = unneeded,
    ) -> None:
        self.job, self.cases, self.messages, self.then = job, cases, messages, then
        self.began, self.started = time.perf_counter(), datetime.now(UTC)
        self.given = given(job)
        self.folder = RunFolder(folder, job.format, stems([case.name for case in cases]), job.cells)
        self.summaries: list[dict[str, Any]] = []
        self.left_out: list[dict[str, str]] = []

    def carry_out(self, progress: Progress) -> CaseResult:
        """Every case that can be used; gives the last one.

        :raises InputError: where there is one and it cannot be used, or none can.
        """
        last = None
        for number, case in enumerate(self.cases):
            messages = Messages()
            try:
                last = self.one(case, portion(progress, number, len(self.cases)), messages)
            except InputError as error:
                if len(self.cases) == 1:
                    raise
                self.left_out.append({"input": case.name, "reason": str(error).replace(str(case.path), case.name)})
                self.messages.then(f"Left out: {error}")
            finally:
                for line in messages.lines:
                    self.messages(line)
        if last is None:
            name = Path(next(iter(self.job.inputs.values()))).name
            raise InputError(
                f"{name}: none of its {len(self.cases)} files can be used; the first: {self.left_out[0]['reason']}"
            )
        return last

    def one(self, case: Case, progress: Progress, messages: Messages) -> CaseResult:
        """Read, carry out and write one case."""
        job, model = self.job, self.given.model
        with about(case.name):
            refuse_single(job, model)
            session = opened(model, volumes_of(job, case))
            maps = run_case(session, self.given.request, progress, messages)
        metadata = {
            "model": model.card.name, "weights_sha256": model.weights_sha256, "input": case.name, **versions(),
        }  # fmt: skip
        # before anything is written: a case that is left out leaves nothing
        result = result_of(maps, job, case.name, self.given.anatomy, metadata)
        for writer in self.given.writers:
            writer.write(result, self.folder)
        montages(result, self.folder, messages)
        named = [finding.attribution for finding in result.findings]
        files = [self.folder.name_of(self.folder.target(case.name, a.target, a.method, a.layer)) for a in named]
        self.summaries.append(summary_of(result, files))
        self.then(result)
        return result

    def finish(self) -> dict[str, Any]:
        """Write tables and run.json; gives what this holds."""
        model = self.given.model
        return self.folder.finish(
            {
                "job": self.job.described(),
                "versions": versions(),
                "model": {"name": model.card.name, "weights_sha256": model.weights_sha256, "device": str(model.device)},
                "started": self.started.isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - self.began, 3),
                "peak_memory_mib": round(peak_memory() / 2**20),
                "cases": self.summaries,
                "left_out": self.left_out,
                "messages": self.messages.lines,
            }
        )


def given(job: Job) -> Given:
    """What a job names, read.

    :raises InputError: for what cannot be used.
    """
    anatomy = read_labels(job.anatomy) if job.anatomy else None
    model = model_of(job)
    if job.task == EXPLAIN:
        for label in job.classes:
            model.card.index(label)
    return Given(model=model, request=request_of(job), anatomy=anatomy, writers=chosen(job.writers))


def find(job: Job, say: Callable[[str], None] = unheard) -> list[Case]:
    """The cases of a job: one where inputs are named, else every case of the file or folder."""
    first = Path(next(iter(job.inputs.values())))
    return [Case(first, legible(first.name))] if len(job.inputs) > 1 else find_cases(first, say)


def volumes_of(job: Job, case: Case) -> Mapping[str, Any]:
    """A case's volumes by channel name, read."""
    paths = job.inputs if len(job.inputs) > 1 else {next(iter(job.inputs)): case.path}
    return {name: read_volume(path, frame=job.frame, series=job.series) for name, path in paths.items()}


@contextmanager
def about(name: str) -> Iterator[None]:
    """Errors of one case name it."""
    try:
        yield
    except OSError as error:
        raise of_path(error) from None
    except InputError as error:
        raise error if name in str(error) else InputError(f"{name}: {error}") from error
