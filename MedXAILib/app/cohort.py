"""Many cases from Python: :func:`run_cohort`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..attribution.registry import options
from ..errors import InputError
from ..geometry.volume import Volume
from ..models.card import ModelCard, read_card
from ..models.loading import Model
from ..outputs.case_file import read_case
from ..outputs.earlier import read_volume
from ..progress import Progress, silent
from ..session.bare import runnable
from .checking import check
from .dispatch import One, Scheduler, Way, Workers
from .job import EXPLAIN, Job, Messages
from .run import Cohort, prepared, unheard
from .tables import summary_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class MapFile:
    """A map as it was written.

    :ivar path: of its image. :ivar caveats: what limits belief in it, a sentence each.
    """

    target: str
    method: str
    layer: str
    path: Path
    caveats: tuple[str, ...] = ()

    @property
    def volume(self) -> Volume:
        """Its raw values, float32 (k, j, i), on the input's own grid."""
        return read_volume(self.path)


@dataclass(frozen=True, kw_only=True)
class CohortCase:
    """What became of a case.

    :ivar folder: of its results. :ivar said: what the model says: ``probabilities``, ``values``, ``volume_ml`` or ``voxels`` by class.
    :ivar kept: whether everything was there already. :ivar failure: why it failed; "" where it did not.
    """

    name: str
    folder: Path
    said: Mapping[str, Any] = field(default_factory=dict)
    maps: tuple[MapFile, ...] = ()
    kept: bool = False
    failure: str = ""


def run_cohort(
    inputs: str | Path | Mapping[str, str | Path],
    output: str | Path,
    *,
    model: str | Path | Model | torch.nn.Module,
    card: str | Path | ModelCard | None = None,
    key: str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    verify: bool = False,
    progress: Progress = silent,
    say: Callable[[str], None] = unheard,
    **asked: Any,
) -> Iterator[CohortCase]:
    """Predict and explain many cases into a folder, as ``medxai explain`` does; yields each as it is finished.

    What is there and still holds is kept, so that the same call goes on after an interruption.

    >>> for case in run_cohort("scans", "out", model="hippocampus-doubleunet", methods=["gradcam"], workers=2):
    ...     print(case.name, case.failure or case.said)

    :param inputs: a file, a folder, a pattern, a table, a BIDS dataset, a DICOM folder of many patients; or the files of a network
        with several inputs by name.
    :param model: a card, the name of a model, a Model, or a network of yours.
    :param card: of a network: what it expects and what its output means; its weights are not read.
    :param key: what stands for the weights of a network that did not come from a file: another one, whenever they change. Without it
        nothing is taken over.
    :param workers: processes of this machine. :param scheduler: address of a Dask scheduler instead.
    :param overwrite, verify: as for :func:`.run.run`.
    :param asked: fields of :class:`.job.Job`, as ``task="predict"``, ``classes``, ``layers``, ``anatomy``; and options of methods.
    :raises InputError: for anything given that cannot be used; a case that cannot be used has its ``failure``.
    """
    way: Way = Scheduler(scheduler) if scheduler else Workers(workers) if workers > 1 else One()
    known = None
    if not isinstance(model, str | Path):
        if not isinstance(way, One):
            raise InputError(
                "Other processes cannot be given a network: give the path of a card, or leave out workers and scheduler."
            )
        known = model if isinstance(model, Model) else _with_card(model, card)
        known = replace(known, weights_sha256=known.weights_sha256 or key or uuid4().hex)
    job = _job(inputs, known or model, asked)
    check(job)
    cohort = prepared(job, output, Messages(then=say), model=known, anew=overwrite, verify=verify)
    way = cohort.look(cohort.cases, way)
    return _cases(cohort, way, progress)


def _cases(cohort: Cohort, way: Way, progress: Progress) -> Iterator[CohortCase]:
    folders = {case.name: cohort.folder(case) for case in cohort.cases}
    with cohort.claimed() as alone:
        for outcome in cohort.outcomes(cohort.cases, way, alone, progress):
            folder = folders[outcome.name]
            if outcome.failure:
                yield CohortCase(name=outcome.name, folder=folder, failure=outcome.failure["sentence"])
                continue
            told = summary_of(cohort.described, read_case(folder))
            maps = [
                MapFile(
                    target=m["class"], method=m["method"], layer=m["layer"], path=cohort.root / m["file"],
                    caveats=tuple(caveat["text"] for caveat in m["caveats"]),
                )
                for m in told.pop("maps") if m["file"]
            ]  # fmt: skip
            kept = not outcome.computed and not outcome.made
            yield CohortCase(name=outcome.name, folder=folder, said=told, maps=tuple(maps), kept=kept)
        cohort.finish()


def _with_card(network: torch.nn.Module, card: str | Path | ModelCard | None) -> Model:
    """:raises InputError: without a card, or for what is no network."""
    network = runnable(network)
    if card is None:
        raise InputError(
            "run_cohort needs the card of a network: what it expects and what its output means; give card=PATH ('medxai card new' drafts one)."
        )
    parameter = next(network.parameters(), None)
    return Model(
        card=card if isinstance(card, ModelCard) else read_card(card), network=network,
        device="cpu" if parameter is None else parameter.device.type, weights_sha256="", path="",
    )  # fmt: skip


def _job(inputs: str | Path | Mapping[str, str | Path], model: Any, asked: Mapping[str, Any]) -> Job:
    """The job of a call.

    :raises InputError: for what is no field of a job and no option of a method.
    """
    named = inputs if isinstance(inputs, Mapping) else {"": inputs}
    known = {f.name for f in fields(Job)} - {"inputs", "model", "options"}
    chosen = {name: value for name, value in asked.items() if name in known}
    chosen = {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}
    more = {name: value for name, value in asked.items() if name not in known}
    if strangers := sorted(set(more) - set(options())):
        raise InputError(
            f"run_cohort has no parameter '{strangers[0]}': it has {', '.join(sorted(known))}, and the options of methods."
        )
    name = model.card.name if isinstance(model, Model) else str(model)
    return Job(
        **{"task": EXPLAIN, **chosen}, inputs={channel: str(path) for channel, path in named.items()}, model=name, options=more
    )  # fmt: skip
