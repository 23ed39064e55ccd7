"""One case of a job: predicted, explained where the job says so, and said in one value for whoever writes or shows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..attribution.attribution import Attribution
from ..cases.case import Case
from ..errors import InputError
from ..findings.anatomy import refuse_apart, seen_by
from ..findings.finding import find
from ..findings.said import CaseResult, said
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from ..models.loading import Model
from ..outputs.earlier import read_volume
from ..prediction import Prediction
from ..preprocessing.suitability import refuse_constant
from ..progress import Progress, shares, silent
from ..provenance import available_memory
from ..session import Request, Session
from .job import Job, Messages
from .keys import seed_of


@dataclass(frozen=True, eq=False, kw_only=True)
class Maps:
    """What one job gave of one case."""

    session: Session
    prediction: Prediction
    attributions: list[Attribution]
    seconds: float


def opened(model: Model, volumes: Mapping[str, Volume]) -> Session:
    """A session of volumes by channel name; a single one may have the name ""."""
    return Session(model, volumes.get("", volumes))


def volumes_of(job: Job, case: Case) -> dict[str, Volume]:
    """A case's volumes by channel name, read.

    :raises InputError: for what cannot be read, and for a case that is known to have a fault.
    """
    if case.fault:
        raise InputError(case.fault)
    series = case.series or job.series
    return {name: read_volume(path, frame=job.frame, series=series) for name, path in case.inputs.items()}


def run_case(
    session: Session,
    request: Request | None = None,
    progress: Progress = silent,
    say: Messages | None = None,
    *,
    keep: bool = False,
) -> Maps:
    """Predict, and explain where something is asked, one case that has been read.

    :param request: what is asked; None predicts alone.
    :param say: takes what was chosen and what is odd, in sentences.
    :param keep: also record, while predicting, the layers that an explanation would use.
    """
    began, say = time.perf_counter(), say or Messages()
    new = session.prediction is None
    if request is not None:
        refuse_constant(session.prepared)
        request = replace(request, seed=seed_of(request.seed, session.prepared.reference))
    layers = _recorded(session, request, keep, say)
    if new:
        _say_new(session, layers, say)
        report = progress
        if request is not None:
            report, progress = shares(progress, [1.0, session.plan(request).passes])
        for remark in session.predict(report).remarks:
            say(remark.text)
        session.timed()
    prediction = session.predict()
    for caveat in prediction.caveats:
        say(caveat.text)
    attributions = []
    if request is not None:
        each = " a slice" if session.tiling.by_slices else ""
        for line in session.plan(request).costs(session.timed(), each):
            say(line)
        attributions = session.explain(request, progress, say)
    return Maps(session=session, prediction=prediction, attributions=attributions, seconds=time.perf_counter() - began)


def _recorded(session: Session, request: Request | None, keep: bool, say: Messages) -> list[str]:
    """The layers that will be recorded, and that they are."""
    layers: list[str] = []
    if request is not None:
        plan = session.plan(request)
        layers = plan.recorded
        for sentence in plan.left_out:
            say(sentence)
        if plan.named:
            say(f"Explaining layer {', '.join(layer.name for layer in plan.named)} ({plan.why}).")
    elif keep and session.prediction is None:
        layers = session.default_layers()
    session.record(layers)
    return layers


def _say_new(session: Session, layers: list[str], say: Messages) -> None:
    """What is to be known of a model and an input that were not seen before."""
    model, prepared = session.model, session.prepared
    for remark in (*model.messages, *prepared.reference.source.remarks, *prepared.remarks):
        say(remark)
    if model.weights_sha256 and model.card.weights.sha256 is None:
        say(
            f"{model.card.name}: the card names no sha256 of its weights, so nothing tells whether these are the ones it describes."
        )
    need, free = session.memory(layers), available_memory()
    if need < free / 20:
        return
    say(f"Memory for one pass: about {need / 2**30:.2g} GiB beside the program; {free / 2**30:.3g} GiB are free.")
    if need > free:
        say("This may not fit: give the card windows (spatial.mode), or choose a deeper layer.")


def result_of(
    maps: Maps, job: Job, name: str, anatomy: Labels | None = None, metadata: Mapping[str, Any] | None = None
) -> CaseResult:
    """What was found of a case, for whoever writes or shows it.

    :param name: of the input.
    :param anatomy: the job's, read.
    :raises InputError: for an anatomy that lies nowhere in what the network saw.
    """
    prepared, reference = maps.session.prepared, maps.session.prepared.reference
    seen = None
    if anatomy is not None:
        seen = seen_by(reference, prepared.grid)
        refuse_apart(anatomy, reference, seen, job.anatomy or "")
    findings = tuple(
        find(a, reference, mass_fraction=job.mass_fraction, anatomy=anatomy, seen=seen) for a in maps.attributions
    )
    kept = None
    if job.keep_input:
        array = prepared.tensor.numpy()
        kept = prepared.volume(array[0] if len(array) == 1 else array.transpose(1, 2, 3, 0))
    return CaseResult(
        name=name, reference=reference, said=said(maps.prediction), findings=findings, metadata=dict(metadata or {}),
        prepared=kept, seconds=maps.seconds,
    )  # fmt: skip
