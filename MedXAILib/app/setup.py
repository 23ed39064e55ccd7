"""What is the same for all cases of a run: worked out once in each process that carries out some."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..cases.beside import is_one_for_all
from ..geometry.labels import Labels
from ..io.segmentation import read_labels
from ..models.loading import Model
from ..outputs.earlier import read_volume
from ..outputs.writer import Writer, chosen
from ..session import Request
from .checking import model_of, request_of
from .job import EXPLAIN, Job
from .keys import hash_of, model_identity, questions


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a run is told, in plain values that travel to other processes and machines.

    :ivar root: the run's folder, absolute.
    :ivar key: of the job. :ivar several: whether it has several cases, so that one that fails is put on record and does not end it.
    :ivar masked: whether each case has a mask of its own.
    :ivar anew: nothing that is there is taken over. :ivar verify: inputs are hashed anew.
    :ivar whole: results are wanted in memory too.
    """

    job: Job
    root: Path
    key: str = ""
    several: bool = True
    masked: bool = False
    anew: bool = False
    verify: bool = False
    whole: bool = False

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self) | {"root": str(self.root)})

    @classmethod
    def from_text(cls, text: str) -> Order:
        """The order of :attr:`text`."""
        told = json.loads(text)
        return cls(**told | {"job": Job.from_json(told["job"]), "root": Path(told["root"])})


@dataclass(frozen=True, eq=False, kw_only=True)
class Setup:
    """An order, with what it names read.

    :ivar identity: of the model. :ivar questions: what is asked of each case, and ``request`` the same for a session.
    :ivar anatomy: one for all cases, ``anatomy_hash`` its hash; None where there is none, or each has its own.
    """

    order: Order
    model: Model
    identity: Mapping[str, Any]
    questions: Sequence[Mapping[str, Any]]
    request: Request | None
    anatomy: Labels | None
    anatomy_hash: str | None
    writers: Sequence[Writer]

    @property
    def job(self) -> Job:
        """The order's."""
        return self.order.job

    def request_for(self, mask: Path | None) -> Request | None:
        """What is asked of a case.

        :param mask: its own.
        """
        if mask is None or self.request is None:
            return self.request
        return request_of(replace(self.job, mask=str(mask)))


def setup(order: Order, model: Model | None = None) -> Setup:
    """Read what an order names.

    :param model: where it is at hand.
    :raises InputError: for what cannot be used.
    """
    job = order.job
    common = job.anatomy if job.anatomy and is_one_for_all(job.anatomy) else None
    anatomy = read_labels(common) if common else None
    model = model or model_of(job)
    return Setup(
        order=order, model=model, identity=model_identity(model.card, model.weights_sha256),
        questions=questions(job, model.card, _hashes(order), masked=order.masked),
        request=request_of(replace(job, mask=None) if order.masked else job), anatomy=anatomy,
        anatomy_hash=hash_of(anatomy) if anatomy else None, writers=chosen(job.writers),
    )  # fmt: skip


def _hashes(order: Order) -> dict[str, str]:
    """Of what the questions name, by path."""
    if order.job.task != EXPLAIN:
        return {}
    paths = [*([] if order.masked else [order.job.mask]), *order.job.references]
    return {path: hash_of(read_volume(path)) for path in paths if path}


@lru_cache(maxsize=1)
def warm(text: str) -> Setup:
    """The setup of a worker, which stays while it carries out cases of the same order.

    :param text: of the order.
    """
    order = Order.from_text(text)
    if order.job.threads is not None:
        import torch

        torch.set_num_threads(order.job.threads)
    return setup(order)
