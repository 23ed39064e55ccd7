"""A Job carried out over a file or many cases. The command line, the demo and every other door go through here.

The case is the unit of work: each is put in place whole by itself (:mod:`.work`), so that whatever stops a run costs the case
under way, and the same job goes on from there.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ..cases.case import Case, Found
from ..cases.search import Search, search
from ..errors import InputError, NothingDone, OptionError, legible
from ..findings.reference import refuse_unusable
from ..findings.said import CaseResult
from ..models.loading import Model
from ..outputs.case_file import read_case, replace_parts, sweep
from ..outputs.layout import RECORD, RUN_VERSION, stems
from ..outputs.listing import all_listed, case_folders, listed
from ..outputs.run_folder import claimed_run, read_run, refuse_in_the_way, write_run
from ..progress import Progress, silent
from ..provenance import peak_memory, versions
from .bids import refuse_foreign_dataset
from .checking import check, check_pictures, model_of, part_of, refuse_overwriting
from .dispatch import One, Way
from .estimate import check_disk, estimate, held, told
from .job import EXPLAIN, Job, Messages
from .keys import EACH, key_of
from .pictures import show
from .setup import Order, setup
from .tables import derive, failures_of, parts_of, records, summary_of
from .work import Outcome, way_to


def unheard(text: str) -> None:
    """Nobody listens."""


def unneeded(result: CaseResult) -> None:
    """Nobody wants it but the folder."""


def run(
    job: Job,
    output: str | Path,
    *,
    overwrite: bool = False,
    verify: bool = False,
    retry: bool = False,
    shard: str | None = None,
    prune: bool = False,
    way: Way | None = None,
    dry: bool = False,
    scene_path: str | Path | None = None,
    snapshot_path: str | Path | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = unheard,
    then: Callable[[CaseResult], None] = unneeded,
) -> dict[str, Any]:
    """Carry out a job over a file or many and write its output folder. What is there of it and still holds is kept.

    :param overwrite: take nothing over: each case is replaced as its new one is done.
    :param verify: hash every input anew, also where its file has the name, size and time of before.
    :param retry: carry out only the cases that failed before.
    :param shard: ``i/n``: only the i-th of n parts of the cases, so that n processes share a folder; a case is always in the same part.
    :param prune: at the end, remove results in the folder that are not of this job.
    :param way: who carries the cases out: this process, which is the default, several, or a Dask cluster.
    :param dry: only look what would be done, and say it.
    :param scene_path, snapshot_path: also write a Slicer scene (.mrb) and a picture (.png); for one case only.
    :param then: gets what was found of each case; this process alone can tell it.
    :returns: run.json, with ``cases``: what is to be told of each; ``kept`` and ``computed``: how many parts; ``failures``; in ``shown``
        the scene and picture, and in ``failed`` why they are missing: the maps are there then.
    :raises InputError: for anything given that cannot be used.
    """
    check(job)
    pictures = check_pictures(scene_path, snapshot_path)
    messages = Messages(then=say)
    whole = then is not unneeded or any(pictures)
    cohort = prepared(job, output, messages, then, anew=overwrite, verify=verify, whole=whole)
    cases = cohort.cases
    if len(cases) > 1 and any(pictures):
        raise InputError(f"--scene and --snapshot show one case and there are {len(cases)}: give one file.")
    refuse_overwriting(inputs_of(job, cases), pictures, output)
    own = [case for case in cases if in_shard(case.name, shard)]
    if retry:
        own = [case for case in own if failures_of(cohort.described, read_case(cohort.folder(case)))]
    way = cohort.look(own, way or One())
    if dry:
        return {"of": len(cases), "missing": len(cohort.missing(own))}
    last: Outcome | None = None
    with cohort.claimed() as alone:
        for outcome in cohort.outcomes(own, way, alone, progress):
            last = last if outcome.failure else outcome
        if prune:
            cohort.prune()
        found = cohort.finish()
    shown: list[str] = []
    failed: list[str] = []
    if any(pictures) and last is not None and last.result is not None:
        progress(0.99, 1, "Drawing")
        shown, failed = show(last.result, *pictures)
    return found | {"shown": shown, "failed": failed}


def inputs_of(job: Job, cases: Sequence[Case]) -> list[str | Path]:
    """Whatever a run reads."""
    return [*job.paths(), *(path for case in cases for path in case.inputs.values())]


def prepared(
    job: Job,
    output: str | Path,
    messages: Messages,
    then: Callable[[CaseResult], None] = unneeded,
    *,
    model: Model | None = None,
    anew: bool = False,
    verify: bool = False,
    whole: bool = False,
) -> Cohort:
    """The cases of a job, found, before anything is computed.

    :param model: where it is at hand: not the job's.
    :raises InputError: for anything given that cannot be used.
    """
    model = model or model_of(job)
    found = find(job, model, messages)
    refuse_overwriting(inputs_of(job, found.cases), [], output)
    return Cohort(job, model, found, Path(output), messages, then, anew=anew, verify=verify, whole=whole)


class Cohort:
    """The cases of a run, on their way into its folder.

    :ivar root: the run's folder. :ivar key: of the job.
    """

    def __init__(
        self,
        job: Job,
        model: Model,
        found: Found,
        root: Path,
        messages: Messages,
        then: Callable[[CaseResult], None] = unneeded,
        *,
        anew: bool = False,
        verify: bool = False,
        whole: bool = False,
    ) -> None:
        self.job, self.cases, self.root, self.messages, self.then = job, found.cases, root, messages, then
        cases, self.dataset = found.cases, found.dataset
        self.began, self.started = time.perf_counter(), datetime.now(UTC)
        several, masked = len(cases) > 1, any(case.mask for case in cases)
        order = Order(
            job=job, root=root.absolute(), several=several, masked=masked, anew=anew, verify=verify, whole=whole
        )
        self.setup = setup(order, model)
        self.setup = replace(self.setup, order=replace(order, key=self.key))
        self.what = f"{job.task} {cases[0].name} with {legible(Path(job.model).name)}"
        self.done: list[Outcome] = []
        self.begun = False

    @cached_property
    def described(self) -> dict[str, Any]:
        """What run.json says of the job: enough to tell which parts of a case are its own."""
        model = self.setup.model
        return {
            "job": self.job.described(),
            "model": {"name": model.card.name, "weights_sha256": model.weights_sha256, "device": str(model.device)},
            "key": self.key,
            "identity": dict(self.setup.identity),
            "channels": [channel.name for channel in model.card.input.channels],
            "questions": [dict(question) for question in self.setup.questions],
            "cases": {case.name: case.folder for case in self.cases},
            **({"bids": way_to(self.root, self.dataset)} if self.dataset else {}),
            **self._common_mask,
        }

    @property
    def _common_mask(self) -> dict[str, Any]:
        """Where the mask of all cases lies, and its hash."""
        hashes = [question["mask"] for question in self.setup.questions if question.get("mask", EACH) != EACH]
        return {"mask": {"path": way_to(self.root, Path(str(self.job.mask))), "sha256": hashes[0]}} if hashes else {}

    @cached_property
    def key(self) -> str:
        """Of the job: of what it asks, and of what is made of the answers."""
        job, plain = self.job, self.job.described()
        anatomy = self.setup.anatomy_hash or [case.anatomy.name for case in self.cases if case.anatomy]
        made = [job.format, list(job.writers), job.mass_fraction, anatomy, job.keep_input]
        asked = {
            **{name: plain[name] for name in ("task", "inputs", "frame", "series", "suffixes")},
            "questions": [dict(one) for one in self.setup.questions],
        }
        return key_of(identity=dict(self.setup.identity), asked=asked, made=made)

    def folder(self, case: Case) -> Path:
        """Of a case."""
        return self.root / case.folder

    def look(self, cases: Sequence[Case], way: Way) -> Way:
        """Say what was found and what it will need, and check it; gives the way with as many workers as there is memory for.

        :param cases: that are carried out now.
        """
        if len(self.cases) == 1:
            return way
        say = self.messages.then
        say(told(self.cases))
        if len(cases) < len(self.cases):
            say(f"Of these {len(cases)} now.")
        left = self.missing(cases)
        if not left or (need := estimate(self.setup, left)) is None:
            return way
        check_disk(self.root, need.disk, len(left), say)
        return way.fitted(need.memory, held(), say)

    def missing(self, cases: Sequence[Case]) -> list[Case]:
        """Those of which not all is there that the job asks for."""
        if self.setup.order.anew:
            return list(cases)
        return [case for case in cases if not self._is_there(read_case(self.folder(case)))]

    def _is_there(self, record: Mapping[str, Any]) -> bool:
        parts = parts_of(self.described, record)
        return bool(parts) and None not in parts and not failures_of(self.described, record)

    @contextmanager
    def claimed(self) -> Iterator[Callable[[], bool]]:
        """The right to write into the folder; tells whether nobody else does now."""
        with claimed_run(self.root, self.key, self.what) as alone:
            yield alone

    def outcomes(
        self, cases: Sequence[Case], way: Way, alone: Callable[[], bool], progress: Progress
    ) -> Iterator[Outcome]:
        """What became of each of these cases, as they finish and are on record.

        :param alone: whether nobody else writes into the folder now.
        :raises InputError: where the run has one case and it cannot be used. :raises NothingDone: where none of several can.
        """
        folders = [self.folder(case) for case in self.cases]
        refuse_in_the_way(self.root, folders)
        if self.dataset:
            refuse_foreign_dataset(self.root)
        self._refuse_another_model()
        sweep(self.root, folders, alone)
        self._settle_threads(way)
        try:
            for outcome in way.carry_out(self.setup, cases, progress):
                if outcome.error is not None and len(self.cases) == 1:
                    raise outcome.error
                self._take(outcome)
                yield outcome
        except BaseException:
            with suppress(InputError, OSError):
                self.tell()
            raise
        finally:
            if self.root.is_dir():
                sweep(self.root, folders, alone)
        if cases and all(outcome.failure for outcome in self.done) and not self.finish()["done"]:
            first = self.done[0].failure or {}
            name = legible(Path(next(iter(self.job.inputs.values()))).name)
            raise NothingDone(f"{name}: none of its {len(cases)} cases can be used; the first: {first.get('sentence')}")

    def _settle_threads(self, way: Way) -> None:
        """Sums are rounded otherwise by other numbers of threads: those that the job began with stay, unless it says how many."""
        order, before = self.setup.order, read_run(self.root)
        kept = before.get("threads") if before.get("key") == self.key else None
        threads = self.job.threads or kept or way.threads()
        self.setup = replace(self.setup, order=replace(order, job=replace(order.job, threads=threads)))

    def prune(self) -> None:
        """Remove what is not of this job: other maps of its cases, and other cases."""
        own = {self.folder(case): case for case in self.cases}
        for folder in list(case_folders(self.root)):
            record = read_case(folder)
            keep: list[dict[str, Any]] = []
            if folder in own:
                keep = [part for part in parts_of(self.described, record) if part is not None]
            if len(keep) < len(record["parts"]) or folder not in own:
                replace_parts(folder, record, keep, folder in own)

    def _take(self, outcome: Outcome) -> None:
        for line in outcome.messages:
            self.messages(line)
        if outcome.result is not None:
            self.then(outcome.result)
        if outcome.failure is not None:
            self.messages.then(f"Left out: {outcome.failure['sentence']}")
        self.done.append(replace(outcome, result=None, messages=()) if len(self.cases) > 1 else outcome)
        self._begin()

    def _begin(self) -> None:
        """run.json, from the first case on: this job is the folder's now."""
        if not self.begun:
            self.begun = True
            self._remove_earlier()
            other = read_run(self.root).get("key") != self.key
            self._write({"messages": []})
            if other:  # whatever stops this run, the tables are of one job
                self.tell()

    def tell(self) -> None:
        """Make the tables of what is there, where this job has begun."""
        if self.begun:
            derive(self.root)

    def _write(self, more: Mapping[str, Any]) -> None:
        """run.json; tables that are there stay listed."""
        before = read_run(self.root)
        files = [name for name in before.get("files", ()) if name != RECORD and (self.root / name).exists()]
        threads = self.setup.job.threads
        write_run(self.root, {**self.described, "threads": threads, "tables": before.get("tables", []), **more}, files)

    def _remove_earlier(self) -> None:
        """The files of a run of an earlier MedXAI, which is replaced."""
        if read_run(self.root).get("schema_version", RUN_VERSION) < RUN_VERSION:
            for name in listed(self.root):
                (self.root / name).unlink(missing_ok=True)

    def _refuse_another_model(self) -> None:
        found = read_run(self.root)
        if found and found.get("schema_version", 1) < RUN_VERSION and not self.setup.order.anew:
            raise InputError(
                f"{legible(self.root.name)}: this folder holds a run of an earlier MedXAI; give another one with -o, or add --overwrite."
            )
        before = found.get("model", {}).get("name")
        if before not in (None, self.setup.model.card.name):
            raise InputError(
                f"{legible(self.root.name)}: this folder holds a run of the model {before}, not {self.setup.model.card.name}; give "
                "another one with -o."
            )

    def finish(self) -> dict[str, Any]:
        """Write tables and run.json; gives what this holds, and what is to be told of each case."""
        kept, computed = (sum(getattr(o, what) for o in self.done) for what in ("kept", "computed"))
        self._write(
            {
                "versions": versions(),
                "started": self.started.isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - self.began, 3),
                "peak_memory_mib": round(peak_memory() / 2**20),
                "messages": self.messages.lines,
            }
        )
        for remark in derive(self.root).remarks:
            self.messages.then(remark)
        whole = read_run(self.root)
        told = [
            summary_of(whole, record) for _, record in records(self.root, whole)
            if not failures_of(whole, record) and None not in parts_of(whole, record)[:1]
        ]  # fmt: skip
        failures = [{"input": o.name, **o.failure} for o in self.done if o.failure]
        return whole | {
            "files": sorted(all_listed(self.root)),
            "cases": told,
            "of": len(self.cases),
            "kept": kept,
            "computed": computed,
            "failures": failures,
        }


def in_shard(name: str, shard: str | None) -> bool:
    """Whether a case is in the i-th of n parts: told by its name alone.

    :param shard: ``i/n``; None is all.
    :raises OptionError: for anything else.
    """
    if shard is None:
        return True
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    number, of = (int(n) for n in found.groups()) if found else (0, 0)
    if not 1 <= number <= of:
        raise OptionError("--shard", shard, "give i/n, as 3/40 for the third of 40 parts of the cases")
    return int(hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest(), 16) % of == number - 1


def find(job: Job, model: Model, say: Callable[[str], None] = unheard) -> Found:
    """The cases of a job, each with its folder.

    :param say: told of what was left out.
    :raises InputError: where there is none.
    """
    channels = [channel.name for channel in model.card.input.channels]
    ends = job.ends()
    if unknown := next((name for name in ends if name and name not in channels), None):
        raise OptionError("--suffix", f"{unknown}={ends[unknown]}", f"the network's inputs are {', '.join(channels)}")
    found = search(
        Search(
            inputs=job.inputs, channels=channels, suffixes=ends, anatomy=job.anatomy, mask=job.mask, series=job.series,
            written=listed,
        )
    )  # fmt: skip
    for remark in found.remarks:
        say(remark)
    if job.task != EXPLAIN:
        found = replace(found, cases=[replace(case, mask=None) for case in found.cases])
    masked = any(case.mask for case in found.cases)
    if masked and (other := part_of(job)) not in (None, "mask"):
        raise InputError(f"--{other} and masks of the cases exclude each other: leave one out.")
    folders = stems([case.name for case in found.cases])
    cases = [_checked(_with_mask(case, masked), model) for case in found.cases]
    return replace(found, cases=[replace(case, folder=folders[case.name]) for case in cases])


def _with_mask(case: Case, masked: bool) -> Case:
    if not masked or case.mask is not None or case.fault:
        return case
    return replace(case, fault="it has no mask, and other cases have one; add it, or take the case out")


def _checked(case: Case, model: Model) -> Case:
    """A case of which something is known that cannot be so has a fault."""
    if case.labels and not case.fault:
        try:
            refuse_unusable(model.card, case.labels)
        except InputError as error:
            return replace(case, fault=str(error))
    return case
