"""A class for each voxel, on the input's own grid, with the stitched logits that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..caveats import UNRELIABLE, Caveat
from ..geometry.labels import Label, Labels, label_colors
from ..geometry.resample import resample
from ..geometry.volume import Volume, size_words
from ..models.card import ModelCard
from ..preprocessing.prepare import Prepared
from ..progress import Progress, silent
from .prediction import Floats, Prediction, activate

Classes = NDArray[np.unsignedinteger[Any]]
NEARLY_ALL = 0.9
"""From this part of an image, one class is remarked."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmentation(Prediction):
    """See :class:`Prediction`."""

    task = "segmentation"
    voxelwise = True
    labels: Labels

    @property
    def top(self) -> str:
        """See :class:`Prediction`."""
        counts = self.labels.counts()
        return max(counts, key=lambda name: counts[name])

    @property
    def summary(self) -> dict[str, Any]:
        """Class -> ``volume_ml``, or ``voxels`` where the file does not give the size of a voxel."""
        return {"volume_ml" if self.labels.volume.size_unit == "mL" else "voxels": self.labels.sizes()}

    @property
    def lines(self) -> list[str]:
        """See :class:`Prediction`."""
        return [f"{name}: {size_words(n, self.labels.volume)}" for name, n in self.labels.counts().items()]

    @cached_property
    def remarks(self) -> tuple[Caveat, ...]:
        """How the output was taken; and a segmentation that is one class nearly throughout."""
        counts = self.labels.counts()
        if not counts:
            return self.readings
        part, where = counts[self.top] / self.labels.volume.array.size, "of the whole image"
        if part < NEARLY_ALL:  # the network may see a part of the image only
            index = next(n for n, label in enumerate(self.card.output.labels) if label.name == self.top)
            part, where = float(np.mean(self.winners == index)), "of all that it sees"
        if part < NEARLY_ALL:
            return self.readings
        text = (
            f"{self.card.name} calls {part:.0%} {where} {self.top}: a network that was not trained, or an "
            "input of another kind, looks like this; do not trust the segmentation or its maps before you know why."
        )
        return (*self.readings, Caveat("one-class", text, UNRELIABLE, {"fraction": round(part, 4)}))

    def probability(self, index: int, where: tuple[Any, ...] = ()) -> Floats:
        """Probability of a class on the network's grid, float32 (d0, d1, d2), or in a box of it."""
        found: Floats = activate(self.logits[(slice(None), *where)], self.card, axis=0)[index]
        return found

    @cached_property
    def winners(self) -> NDArray[np.integer[Any]]:
        """The predicted class of each voxel of the network's grid (d0, d1, d2); the number of classes where no sigmoid exceeds
        0.5."""
        if self.prepared.aligned and self.card.output.exclusive:
            return self.labels.volume.array
        return best_class(self.logits, self.card.output.exclusive)


def best_class(logits: Floats, exclusive: bool) -> Classes:
    """The class of the highest logit in each voxel (d0, d1, d2), plane by plane; the number of classes for none."""
    count = len(logits)
    best = np.empty(logits.shape[1:], np.uint8 if count < 255 else np.uint16)
    for n in range(len(best)):
        plane = logits[:, n]
        best[n] = plane.argmax(0) if exclusive else np.where(plane.max(0) > 0, plane.argmax(0), count)
    return best


def to_labels(card: ModelCard, prepared: Prepared, logits: Floats, progress: Progress = silent) -> Labels:
    """Logits of the network's grid, linearly resampled class by class onto the reference grid, then the best class.

    Outside what the network saw is background. Exclusive classes keep their channel as value (0 the background);
    independent ones get channel + 1 where their probability exceeds 0.5.
    """
    reference, exclusive = prepared.reference, card.output.exclusive
    if prepared.aligned:
        winner = best_class(logits, exclusive)
        if not exclusive:
            winner = np.where(winner == len(logits), 0, winner + 1).astype(winner.dtype)
    else:
        winner = _resampled_winner(prepared, logits, exclusive, progress)
    first = 1 if exclusive else 0
    colors = label_colors(len(card.output.labels))
    rows = [
        Label(index if exclusive else index + 1, label.name, label.color or colors[index])
        for index, label in enumerate(card.output.labels)
        if index >= first
    ]
    return Labels(Volume(winner, reference.affine, reference.source), tuple(rows))


def _resampled_winner(prepared: Prepared, logits: Floats, exclusive: bool, progress: Progress) -> Classes:
    """Label values (k, j, i) on the reference grid."""
    reference = prepared.reference
    best = np.full(reference.array.shape[:3], -np.inf if exclusive else 0, np.float32)
    winner = np.zeros(best.shape, np.uint8 if len(logits) < 255 else np.uint16)
    for index, channel in enumerate(logits):
        progress(0, 1, "Back to the volume's grid")
        outside = np.inf if exclusive and index == 0 else -np.inf
        values = resample(prepared.volume(channel), reference.grid, outside=outside).array
        better = values > best
        best[better] = values[better]
        winner[better] = index if exclusive else index + 1
    return winner
