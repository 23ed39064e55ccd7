"""Measures over the maps of one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.attribution import Attribution
from ..attribution.gradient import baseline as baseline_of
from ..attribution.option import BASELINE, settled
from ..geometry.affine import spacing
from ..geometry.resample import resample
from ..preprocessing.foreground import foreground
from ..progress import Progress, portion, silent
from ..scoring import Scorer
from ..scoring.targets import Given
from ..session import Session
from ..session.slices import choose_slices
from .measure import Evaluation, Figure, Measure


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of evaluation.csv."""

    case: str
    method: str
    target: str
    measure: str
    figure: Figure
    baseline: str

    @property
    def row(self) -> tuple[Any, ...]:
        """In the order of its columns."""
        return self.case, self.method, self.target, self.measure, self.figure.value, self.figure.chance, self.baseline


def evaluate(
    session: Session,
    attributions: Sequence[Attribution],
    targets: Mapping[str, Given],
    measures: Sequence[Measure],
    *,
    case: str = "",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Measured]:
    """The figures of maps of one case.

    Of a slice-wise network, the slice in which the map's target is highest is measured, of those that the map shows.

    :param targets: what each map explains: the name of its target -> the target.
    :param case: its name, for the rows.
    :param options: of the measures, by name.
    """
    found = []
    filled = BASELINE.checked((options or {}).get(BASELINE.name))
    total = len(attributions) * len(measures)
    for number, (a, m) in enumerate((a, m) for a in attributions for m in measures):
        given = settled(m.options, options or {})
        report = portion(progress, number, total)
        figure = m.run(_evaluation(session, a, targets[a.target], given, filled, seed, report))
        method = f"{a.method} {a.layer}".strip()
        found.append(
            Measured(
                case=case, method=method, target=a.target, measure=m.name, figure=figure, baseline=filled if BASELINE in m.options else ""
            )
        )  # fmt: skip
    return found


def _evaluation(
    session: Session,
    a: Attribution,
    target: Given,
    options: Mapping[str, Any],
    filled: str,
    seed: int,
    progress: Progress,
) -> Evaluation:
    import torch

    values = resample(a.volume, session.prepared.grid).array
    (bound,) = session.bound([target])
    sample = None
    if session.tiling.by_slices:
        shown = [n for n in choose_slices(f"top:{len(values)}", bound) if values[n].any()] or list(range(len(values)))
        sample = max(shown, key=lambda n: float(bound.strengths[n]))
        values = values[sample : sample + 1]
    scorer = Scorer(session.model, session.predict(), [bound], sample=sample, seed=seed, progress=progress)
    body = foreground(np.moveaxis(scorer.x.numpy(), 0, -1))
    mm = [0.0 if sample is not None and axis == 0 else s for axis, s in enumerate(spacing(session.prepared.affine))]
    hidden = baseline_of(filled, scorer.x, torch.from_numpy(body), mm)
    return Evaluation(map=values, scorer=scorer, body=body, baseline=hidden, options=options, seed=seed)
