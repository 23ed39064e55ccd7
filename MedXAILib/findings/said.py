"""What a model said of one case, and what was found of its maps: all that is written of it, by whatever writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..caveats import Caveat
from ..geometry.grid import Grid
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from ..prediction import Classification, Prediction, Segmentation
from .finding import Finding

if TYPE_CHECKING:
    from .reference import Beside


@dataclass(frozen=True, eq=False, kw_only=True)
class Said:
    """What a model said of one case.

    :ivar model: its name.
    :ivar summary: ``probabilities``, or ``values`` and ``unit``, or ``volume_ml`` or ``voxels``, by class.
    :ivar labels: a segmentation.
    :ivar by_slice: of a slice-wise classification, the numbers of each class (in the summary's order) for each slice.
    :ivar caveats: in what the input is unlike what the model knows.
    :ivar grid: of what the network saw.
    """

    model: str
    summary: Mapping[str, Any]
    labels: Labels | None = None
    by_slice: Sequence[Sequence[float]] = ()
    caveats: tuple[Caveat, ...] = ()
    grid: Grid | None = None

    @property
    def classes(self) -> Mapping[str, float]:
        """The numbers of a classification."""
        found: Mapping[str, float] = self.summary.get("probabilities") or self.summary.get("values") or {}
        return found


def said(prediction: Prediction) -> Said:
    """Of a prediction."""
    by_slice: Sequence[Sequence[float]] = ()
    if isinstance(prediction, Classification) and prediction.sliced:
        by_slice = prediction.pieces.tolist()
    return Said(
        model=prediction.card.name, summary=prediction.summary, caveats=prediction.caveats, grid=prediction.prepared.grid,
        labels=prediction.labels if isinstance(prediction, Segmentation) else None,
        by_slice=by_slice,
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class CaseResult:
    """One case of a run.

    :ivar name: of the input, as the run calls it.
    :ivar beside: what is known of the case, beside what the model says.
    :ivar metadata: written with each of its files, plain values.
    :ivar prepared: the preprocessed input, where it is to be written too.
    :ivar seconds: of computing.
    """

    name: str
    reference: Volume
    said: Said
    findings: tuple[Finding, ...] = ()
    beside: Sequence[Beside] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prepared: Volume | None = None
    seconds: float = 0.0
