"""One case of a run: what of it is there and still holds, what is missing; this is computed and put in place whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import stages
from ..attribution.attribution import Attribution
from ..attribution.registry import method
from ..cases.case import Case
from ..errors import InputError
from ..findings.anatomy import refuse_apart, seen_by
from ..findings.finding import Finding, find
from ..findings.reference import Beside, drawn_beside, named_beside
from ..findings.said import CaseResult, Said, said
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from ..io.dicom.scan import files_below
from ..io.halves import files_of
from ..io.segmentation import read_labels
from ..outputs.case_file import in_private, is_whole, publish, publish_failure, read_case
from ..outputs.part import PartFolder
from ..progress import Progress, silent
from ..provenance import versions
from ..session import Session
from .case import opened, run_case, volumes_of
from .checking import read_mask, refuse_single
from .faults import about
from .job import Messages
from .keys import hash_of, made_key, map_key, prediction_key
from .parts import MAPS, PREDICTION, Part, can_be_read, maps_in, maps_part, prediction_part, said_in
from .setup import Setup, warm


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What became of a case.

    :ivar computed: parts that the network gave anew. :ivar made: parts that were made anew without it. :ivar kept: the others.
    :ivar failure: ``stage`` and ``sentence``; None where all went well. :ivar error: the same as an exception, of a run of one case.
    :ivar result: of the whole case, where it was wanted. :ivar messages: what was chosen and what is odd.
    """

    name: str
    computed: int = 0
    made: int = 0
    kept: int = 0
    failure: Mapping[str, str] | None = None
    error: InputError | None = None
    result: CaseResult | None = None
    messages: tuple[str, ...] = ()


def carry(setup: Setup, case: Case, progress: Progress = silent) -> Outcome:
    """Carry out one case; what is wrong with it is told in the outcome, and where the run has several, put on record.

    :raises OSError: where nothing can be written: that is no fault of the case.
    """
    messages, stage = Messages(), "reading"
    try:
        work = Work(setup, case, progress, messages)
        try:
            outcome = work.carry_out()
        finally:
            stage = work.stage
    except InputError as error:
        sentence = _legible(str(error), case)
        failure = {"stage": stage, "sentence": sentence, "job": setup.order.key}
        if setup.order.several:
            publish_failure(setup.order.root / case.folder, case.name, failure)
        outcome = Outcome(name=case.name, failure=failure, error=None if setup.order.several else error)
    return replace(outcome, messages=tuple(messages.lines))


def _legible(sentence: str, case: Case) -> str:
    """A sentence that names the case, and of several inputs the one it is about, and no folder above them."""
    for path in case.inputs.values():
        if len(path.parts) > 1:
            sentence = sentence.replace(str(path), case.name if len(case.inputs) == 1 else path.name)
    return sentence if case.name in sentence else f"{case.name}: {sentence}"


def carry_warm(order: str, case: Case) -> Outcome:
    """As :func:`carry`, in a worker.

    :param order: its text.
    """
    return carry(warm(order), case)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fresh:
    """What the network gave of one part: what it says, or maps; or why a method was left out."""

    said: Said | None = None
    attributions: Sequence[Attribution] = ()
    left_out: Sequence[str] = ()
    seconds: float = 0.0


class Work:
    """One case under way.

    :ivar stage: what is being done, for failures. :ivar folder: of the case. :ivar key: of its prediction.
    :ivar old: parts that are there and hold, by key. :ivar fresh: the prediction, where it was just computed.
    """

    def __init__(self, setup: Setup, case: Case, progress: Progress, messages: Messages) -> None:
        self.setup, self.case, self.progress, self.messages = setup, case, progress, messages
        self.stage, self.began = "reading", time.time()
        self.folder = setup.order.root / case.folder
        self.record = read_case(self.folder)
        self.key = ""
        self.anatomy_hash: str | None = None
        self.labels_hash = ""
        self.old: dict[str, Part] = {}
        self.fresh: Fresh | None = None

    def carry_out(self) -> Outcome:
        """Compute what is missing, make what is made otherwise, and put the case in place.

        :raises InputError: for an input or a network that cannot be used.
        :raises OSError: where nothing can be written.
        """
        setup, whole = self.setup, self.setup.order.whole
        with about(self.case.name):
            refuse_single(self.case.inputs, setup.model)
            hashes = self._hashes(self.case.inputs, "inputs", self._read_input)
            beside = self._hashes(self.companions, "beside", self._read_companion)
            channels = [channel.name for channel in setup.model.card.input.channels]
            self.key = prediction_key(setup.identity, channels, {name: one["sha256"] for name, one in hashes.items()})
            mask = beside.get("mask", {}).get("sha256")
            asked = {map_key(self.key, question, mask): question for question in setup.questions}
            self.anatomy_hash = beside.get("anatomy", {}).get("sha256", setup.anatomy_hash)
            self.labels_hash = beside.get("labels", {}).get("sha256", self.case.labels)
            self.old = self._there()
            missing = [key for key in asked if key not in self.old]
            fresh = self._computed(missing, asked) if missing or self.key not in self.old else {}
            self.stage = "results"
            self.fresh = fresh.get(self.key)
            wanted = [self.key, *asked]
            stale = [key for key in wanted if key in fresh or self.old[key]["made"] != self._made(key)]
            findings = {key: self._findings(key, fresh) for key in asked if key in stale or whole}
            compared = self._compared() if self.key in stale or whole else []
        known = {"inputs": hashes, "beside": beside}
        if stale or self.record.get("failures") or any(known[kind] != self.record.get(kind, {}) for kind in known):
            self.stage = "writing"
            with about(self.case.name, writing=True):
                self._write(known, asked, fresh, stale, findings, compared)
        return Outcome(
            name=self.case.name, computed=len(fresh), made=len(stale) - len(fresh), kept=len(wanted) - len(stale),
            result=self._result([f for key in asked for f in findings[key]], compared) if whole else None,
        )  # fmt: skip

    # what is there

    @cached_property
    def volumes(self) -> dict[str, Volume]:
        """The inputs, read."""
        self.stage = "reading"
        return volumes_of(self.setup.job, self.case)

    @property
    def companions(self) -> dict[str, Path]:
        """What belongs to this case alone."""
        case = self.case
        known = {"anatomy": case.anatomy, "mask": case.mask, "labels": case.labels}
        return {kind: path for kind, path in known.items() if isinstance(path, Path)}

    @cached_property
    def anatomy(self) -> Labels | None:
        """The case's own, or that of all."""
        return self.setup.anatomy if self.case.anatomy is None else read_labels(self.case.anatomy)

    @cached_property
    def session(self) -> Session:
        """The model and this case."""
        volumes = self.volumes
        self.stage = "preprocessing"
        return opened(self.setup.model, volumes)

    @cached_property
    def reference(self) -> Volume:
        """On whose grid results are returned."""
        return next(iter(self.volumes.values())) if len(self.volumes) == 1 else self.session.prepared.reference

    def _read_input(self, name: str) -> Volume:
        return self.volumes[name]

    @cached_property
    def labels(self) -> Labels:
        """The label map that is known of the case."""
        return read_labels(self.case.labels)

    def _read_companion(self, kind: str) -> Volume | Labels:
        if kind == "mask":
            return read_mask(str(self.case.mask))
        if kind == "labels":
            return self.labels
        assert self.anatomy is not None
        return self.anatomy

    def _hashes(
        self, paths: Mapping[str, Path], kind: str, read: Callable[[str], Volume | Labels]
    ) -> dict[str, dict[str, Any]]:
        """What is known of each file: where it lies from here, and the hash of its voxels, which stays on record while it has the
        same name, size and time."""
        if self.case.fault:
            raise InputError(self.case.fault)
        known, found = self.record.get(kind, {}), {}
        order = self.setup.order
        for name, path in paths.items():
            now = self._seen(path)
            old = known.get(name, {})
            same = {key: old.get(key) for key in now} == now and not order.verify and not order.anew
            found[name] = now | {"sha256": old["sha256"] if same else hash_of(read(name))}
        return found

    def _seen(self, path: Path) -> dict[str, Any]:
        """Name, size and time of an input's files, and how they are read."""
        job = self.setup.job
        files = files_below(path) if path.is_dir() else files_of(path)
        status = [file.stat() for file in files if file.exists()]
        return {
            "path": way_to(self.setup.order.root, path), "files": len(status), "bytes": sum(s.st_size for s in status),
            "modified": sum(s.st_mtime_ns for s in status), "frame": job.frame, "series": self.case.series or job.series,
            "reading": self.setup.identity["stages"]["reading"],
        }  # fmt: skip

    def _there(self) -> dict[str, dict[str, Any]]:
        """The parts that are there and hold, by key."""
        if self.setup.order.anew:
            return {}
        budget = self.setup.job.budget
        return {
            part["key"]: part
            for part in self.record.get("parts", ())
            if is_whole(self.folder, part["files"]) and (not part.get("left_out") or part.get("budget") == budget)
            and (can_be_read(part) or (part["made"] == self._made(part["key"], part["kind"]) and not self.setup.order.whole))
        }  # fmt: skip

    def _made(self, key: str, kind: str | None = None) -> str:
        """By what a part is made of what the network gave."""
        job = self.setup.job
        by: dict[str, Any] = {
            "format": job.format, "writers": list(job.writers), "name": self.case.name, "stages": stages.DERIVED,
        }  # fmt: skip
        if (kind or (PREDICTION if key == self.key else MAPS)) == PREDICTION:
            return made_key(key, by | {"keep_input": job.keep_input, "labels": self.labels_hash})
        return made_key(key, by | {"mass_fraction": job.mass_fraction, "anatomy": self.anatomy_hash})

    # computing

    def _computed(self, missing: Sequence[str], asked: Mapping[str, Mapping[str, Any]]) -> dict[str, Fresh]:
        """What the network gives of this case: the prediction, and the maps of these questions."""
        session, request = self.session, self.setup.request_for(self.case.mask)
        self.stage = "prediction" if not missing else "explanation"
        began = time.perf_counter()
        found: dict[str, Fresh] = {}
        if request is None or not missing:
            run_case(session, None, self.progress, self.messages)
        else:
            for targets, keys in _together({key: asked[key] for key in missing}).items():
                one = replace(
                    request, targets=[request.targets[n] for n in self._places(targets)],
                    methods=list(dict.fromkeys(asked[key]["method"] for key in keys)),
                )  # fmt: skip
                maps = run_case(session, one, self.progress, self.messages)
                names = dict(zip(targets, (b.name for b in session.bound(one.targets)), strict=True))
                for key in keys:
                    found[key] = self._answer(asked[key], names[asked[key]["target"]], maps.attributions)
        if self.key not in self.old:
            found[self.key] = Fresh(said=said(session.predict()), seconds=time.perf_counter() - began)
        return found

    def _places(self, targets: Sequence[str | None]) -> list[int]:
        """Which of the request's targets these are."""
        asked, request = self.setup.questions, self.setup.request
        assert request is not None
        order = [question["target"] for question in asked[:: len(asked) // len(request.targets)]]
        return [order.index(target) for target in targets]

    def _answer(self, question: Mapping[str, Any], target: str, attributions: Sequence[Attribution]) -> Fresh:
        maps = [a for a in attributions if a.method == question["method"] and a.target == target]
        if maps:
            return Fresh(attributions=maps, seconds=sum(a.seconds for a in maps))
        title = method(question["method"]).title
        why = [line for line in self.messages.lines if "left out" in line and title in line]
        return Fresh(left_out=why or [f"{title} was left out."])

    # making

    def _compared(self) -> list[Beside]:
        """What the model says, beside what is known of the case."""
        known = self.case.labels
        if isinstance(known, Path):
            assert self.said.labels is not None
            return drawn_beside(self.said.labels, self.labels, str(known))
        return named_beside(self.said, known) if known else []

    def _result(self, findings: Sequence[Finding], compared: Sequence[Beside] = (), whole: bool = True) -> CaseResult:
        model, job = self.setup.model, self.setup.job
        metadata = {
            "model": model.card.name,
            "weights_sha256": model.weights_sha256,
            "input": self.case.name,
            **versions(),
        }
        prepared = None
        if job.keep_input and whole:
            seen = self.session.prepared
            array = seen.tensor.numpy()
            prepared = seen.volume(array[0] if len(array) == 1 else array.transpose(1, 2, 3, 0))
        return CaseResult(
            name=self.case.name, reference=self.reference, said=self.said, findings=tuple(findings), beside=compared,
            metadata=metadata, prepared=prepared,
        )  # fmt: skip

    @cached_property
    def said(self) -> Said:
        """What the model says, just now or as it is on record."""
        if self.fresh is not None and self.fresh.said is not None:
            return self.fresh.said
        return said_in(self.old[self.key], self.folder)

    @cached_property
    def seen(self) -> np.ndarray | None:
        """What the network saw and is not air, on the reference grid; None where no anatomy is asked for."""
        anatomy = self.anatomy
        if anatomy is None or self.said.grid is None:
            return None
        seen = seen_by(self.reference, self.said.grid)
        refuse_apart(anatomy, self.reference, seen, str(self.case.anatomy or self.setup.job.anatomy or ""))
        return seen

    def _findings(self, key: str, fresh: Mapping[str, Fresh]) -> list[Finding]:
        """What is to be said of the maps of a part."""
        maps = fresh[key].attributions if key in fresh else maps_in(self.old[key], self.folder, self.reference.source)
        fraction, anatomy = self.setup.job.mass_fraction, self.anatomy
        return [find(a, self.reference, mass_fraction=fraction, anatomy=anatomy, seen=self.seen) for a in maps]

    # writing

    def _write(
        self,
        known: Mapping[str, Any],
        asked: Mapping[str, Mapping[str, Any]],
        fresh: Mapping[str, Fresh],
        stale: Sequence[str],
        findings: Mapping[str, Sequence[Finding]],
        compared: Sequence[Beside],
    ) -> None:
        with in_private(self.folder) as private:
            parts = {part["key"]: part for part in self.record.get("parts", ()) if not self.setup.order.anew}
            for key in stale:
                folder = self._place(private, key)
                if key == self.key:
                    part = prediction_part(self._result((), compared), folder, self.setup.writers)
                else:
                    result = self._result(findings[key], whole=False)
                    part = maps_part(result, folder, self.setup.writers, asked[key], self.messages)
                parts[key] = part | self._computing(key, fresh.get(key))
            publish(
                private,
                self.folder,
                {
                    "case": self.case.name,
                    "model": {"name": self.setup.model.card.name, "weights_sha256": self.setup.model.weights_sha256},
                    **known,
                    "parts": list(parts.values()),
                    "failures": [],
                    "began": round(self.began, 3),
                    "seconds": round(time.time() - self.began, 3),
                    "messages": list(dict.fromkeys([*self._said_before, *self.messages.lines])),
                },
            )

    @property
    def _said_before(self) -> Sequence[str]:
        """Sentences of earlier runs, where they still hold."""
        return self.record.get("messages", ()) if self.key in self.old else ()

    def _place(self, private: Path, key: str) -> PartFolder:
        (private / key).mkdir()
        there = self.old.get(key, {}).get("files", {})
        job = self.setup.job
        return PartFolder(private / key, self.folder, key, self._made(key), job.format, cells=job.cells, there=there)

    def _computing(self, key: str, fresh: Fresh | None) -> dict[str, Any]:
        """How a part was computed, why a method was left out, and what was measured of its maps."""
        if fresh is None:
            kept = ("computed", "left_out", "budget", "measured")
            return {name: self.old[key][name] for name in kept if name in self.old[key]}
        import torch

        computed = {
            "device": str(self.setup.model.device), "threads": torch.get_num_threads(), "versions": versions(),
            "when": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(fresh.seconds, 3),
        }  # fmt: skip
        left_out = {"left_out": list(fresh.left_out), "budget": self.setup.job.budget} if fresh.left_out else {}
        return {"computed": computed, **left_out}


def _together(asked: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str | None, ...], list[str]]:
    """Questions that one request asks: targets of which the same methods are missing -> keys."""
    methods: dict[str | None, list[str]] = {}
    for question in asked.values():
        methods.setdefault(question["target"], []).append(question["method"])
    groups: dict[tuple[str, ...], list[str | None]] = {}
    for target, names in methods.items():
        groups.setdefault(tuple(names), []).append(target)
    return {
        tuple(targets): [key for key, question in asked.items() if question["target"] in targets]
        for targets in groups.values()
    }


def way_to(root: Path, path: Path) -> str:
    """The way from a run's folder, wherever links to it lead, to a path."""
    try:
        return Path(os.path.relpath(path.absolute(), os.path.realpath(root))).as_posix()
    except ValueError:  # on another drive
        return path.absolute().as_posix()
