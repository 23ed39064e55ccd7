"""Numbers for the whole, or for each slice: probabilities of classes, or values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..caveats import Caveat
from ..preprocessing.suitability import is_constant
from .prediction import Floats, Prediction, activate


@dataclass(frozen=True, eq=False, kw_only=True)
class Classification(Prediction):
    """See :class:`Prediction`."""

    task = "classification"
    voxelwise = False

    @cached_property
    def pieces(self) -> Floats:
        """Probabilities, or values, (pieces, class)."""
        return activate(self.logits, self.card, axis=1)

    @cached_property
    def counting(self) -> NDArray[np.bool_]:
        """Which pieces count in the whole: slices of one value do not, unless all are such."""
        if not self.tiling.by_slices:
            return np.ones(len(self.logits), bool)
        found = np.array([not is_constant(self.prepared.tensor[:, n]) for n in range(len(self.logits))])
        return found if found.any() else ~found

    @property
    def probabilities(self) -> dict[str, float]:
        """Class -> probability (or value) of the whole, by the card's aggregation."""
        pieces = self.pieces[self.counting]
        whole = pieces.mean(0) if self.aggregation == "mean" else pieces.max(0)
        return {label.name: float(p) for label, p in zip(self.card.output.labels, whole, strict=True)}

    @property
    def summary(self) -> dict[str, Any]:
        """Class -> ``probabilities``, or ``values`` and their ``unit``; of slices, where each is highest."""
        said: dict[str, Any]
        if self.card.output.kind == "value":
            said = {"values": self.probabilities, "unit": self.card.output.unit}
        else:
            said = {"probabilities": self.probabilities}
        if self.sliced and self.aggregation == "max":
            said["slices"] = len(self.logits)
            said["highest_in_slice"] = {label.name: self.highest(n) for n, label in enumerate(self.card.output.labels)}
        return said | {"aggregation": self.aggregation}

    @property
    def lines(self) -> list[str]:
        """See :class:`Prediction`."""
        output, where = self.card.output, self.summary.get("highest_in_slice", {})
        words = output.text if output.kind == "value" else "{:.4f}".format
        head = [f"highest in any of {len(self.logits)} slices:"] if where else []
        return head + [
            f"{name}: {words(p)}" + (f" (slice {where[name]})" if where else "")
            for name, p in self.probabilities.items()
        ]

    @property
    def sliced(self) -> bool:
        """Whether several slices have been asked, each for itself."""
        return self.tiling.by_slices and len(self.logits) > 1

    def highest(self, index: int) -> int:
        """The piece in which a class is highest, of those that count."""
        return int(np.where(self.counting, self.pieces[:, index], -np.inf).argmax())

    @property
    def aggregation(self) -> str:
        """How pieces became one: max or mean over slices or windows; none for the whole."""
        return getattr(self.card.spatial, "aggregate", "none") if len(self.logits) > 1 else "none"

    @property
    def top(self) -> str:
        """See :class:`Prediction`."""
        if self.card.output.kind == "value":
            return self.card.output.labels[0].name
        probabilities = self.probabilities
        return max(probabilities, key=lambda name: probabilities[name])

    def piece_weights(self, index: int) -> Floats:
        """Part of each piece in the score of class ``index``: each slice counts for itself; of windows all count alike
        (mean) or the strongest alone (max)."""
        n = len(self.logits)
        if self.tiling.by_slices or n == 1:
            return np.ones(n, np.float32)
        if self.aggregation == "mean":
            return np.full(n, 1 / n, np.float32)
        strongest: Floats = (np.arange(n) == self.logits[:, index].argmax()).astype(np.float32)
        return strongest

    def in_slices(self, slices: Sequence[int]) -> str | None:
        """See :class:`Prediction`."""
        if self.card.output.kind == "value":
            return None
        return self.card.output.labels[int(self.pieces[list(slices)].max(0).argmax())].name

    def elsewhere(self, index: int, slices: Sequence[int] | None) -> tuple[Caveat, ...]:
        """See :class:`Prediction`."""
        if slices is None or not self.card.output.exclusive:
            return ()
        name, pieces = self.card.output.labels[index].name, self.pieces[list(slices)]
        best = pieces.argmax(1)
        others = int((best != index).sum())
        if not others:
            return ()
        figures = {"slices": len(slices), "of_other_classes": others}
        if len(slices) == 1:
            said, (row,) = self.card.output.labels[int(best[0])].name, pieces
            text = f"In this slice the model says {said} (p {row.max():.3f}), not {name} (p {row[index]:.3f})."
        elif others == len(slices):
            text = f"In none of the {others} slices does the model say {name}."
        else:
            text = f"In {others} of {len(slices)} slices the model says another class than {name}."
        return (Caveat("other-class", text, "caution", figures),)
