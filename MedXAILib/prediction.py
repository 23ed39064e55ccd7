"""predict() and Prediction: class probabilities by slice and for the whole, or Labels on the input's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .errors import Caveat, InputError, first_line
from .geometry.labels import Label, Labels, label_colors
from .geometry.resample import resample
from .geometry.volume import Volume
from .models.card import FROM_FILE, ModelCard
from .models.layers import Layer, coarsest_stride, inspect
from .models.running.agreement import compared, refuse_one_label
from .models.running.guest import guest
from .preprocessing.prepare import Prepared, prepare
from .preprocessing.suitability import check, is_constant
from .progress import Progress, portion, silent
from .tiling import AT_ONCE, Stitcher, Tiling, tile

if TYPE_CHECKING:
    import torch

    from .attribution.recorder import TapeCache
    from .models.loading import Model


NEARLY_ALL = 0.9
"""From this share of an image, one class is remarked."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network said.

    :ivar logits: classification: float32 (pieces, class), a piece being a slice, a window, or the whole; values where the
        card's output is such. Segmentation: float32 (class, d0, d1, d2), stitched, on the network's grid.
    :ivar labels: segmentation: on the reference volume's own grid.
    :ivar read: what is to be known of how the network's output was taken.
    :ivar caveats: in what the input is not of the kind that the model knows.
    :ivar random: whether the network drew random numbers, in evaluation mode.
    """

    card: ModelCard
    prepared: Prepared
    tiling: Tiling
    logits: np.ndarray
    labels: Labels | None = None
    read: tuple[str, ...] = ()
    caveats: tuple[Caveat, ...] = ()
    random: bool = False

    @cached_property
    def voxels(self) -> Stitcher:
        """Stitches voxel-wise results of this tiling."""
        return voxel_stitcher(self.tiling)

    @cached_property
    def pieces(self) -> np.ndarray:
        """Classification: probabilities, or values, (pieces, class)."""
        return activate(self.logits, self.card, axis=1)

    @cached_property
    def counting(self) -> np.ndarray:
        """Classification: which pieces count in the whole: slices of one value do not, unless all are such."""
        if self.tiling.mode != "slices":
            return np.ones(len(self.logits), bool)
        found = np.array([not is_constant(self.prepared.tensor[:, n]) for n in range(len(self.logits))])
        return found if found.any() else ~found

    @property
    def probabilities(self) -> dict[str, float]:
        """Classification: class -> probability (or value) of the whole, by the card's aggregation."""
        pieces = self.pieces[self.counting]
        whole = pieces.mean(0) if self.aggregation == "mean" else pieces.max(0)
        return {label.name: float(p) for label, p in zip(self.card.output.labels, whole, strict=True)}

    @property
    def facts(self) -> dict:
        """Classification: as it is written down: class -> ``probabilities``, or ``values`` and their ``unit``."""
        if self.card.output.kind == "value":
            said = {"values": self.probabilities, "unit": self.card.output.unit}
        else:
            said = {"probabilities": self.probabilities}
        if self.aggregation == "max" and self.tiling.mode == "slices":
            said["slices"] = len(self.logits)
            said["highest_in_slice"] = {label.name: self.highest(n) for n, label in enumerate(self.card.output.labels)}
        return said | {"aggregation": self.aggregation}

    def highest(self, index: int) -> int:
        """Classification: the piece in which a class is highest, of those that count."""
        return int(np.where(self.counting, self.pieces[:, index], -np.inf).argmax())

    @property
    def aggregation(self) -> str:
        """How pieces became one: max or mean over slices or windows; none for the whole."""
        return getattr(self.card.spatial, "aggregate", "none") if len(self.logits) > 1 else "none"

    @property
    def top(self) -> str:
        """The predicted class; the first of values; in a segmentation the largest class beside the background."""
        if self.card.output.kind == "value":
            return self.card.output.labels[0].name
        if self.card.task == "classification":
            probabilities = self.probabilities
            return max(probabilities, key=probabilities.get)
        counts = self.labels.counts()
        return max(counts, key=counts.get)

    def piece_weights(self, index: int) -> np.ndarray:
        """Classification: part of each piece in the score of class ``index``: each slice counts for itself; of windows
        all count alike (mean) or the strongest alone (max)."""
        n = len(self.logits)
        if self.tiling.mode == "slices" or n == 1:
            return np.ones(n, np.float32)
        if self.aggregation == "mean":
            return np.full(n, 1 / n, np.float32)
        return (np.arange(n) == self.logits[:, index].argmax()).astype(np.float32)

    def probability(self, index: int, where: tuple = ()) -> np.ndarray:
        """Segmentation: probability of a class on the network's grid, float32 (d0, d1, d2), or in a box of it."""
        return activate(self.logits[(slice(None), *where)], self.card, axis=0)[index]

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """How the output was taken, and what is odd about it: a segmentation that is one class nearly throughout."""
        counts = {} if self.labels is None else self.labels.counts()
        if not counts:
            return self.read
        share, where = counts[self.top] / self.labels.volume.array.size, "of the whole image"
        if share < NEARLY_ALL:  # the network may see a part of the image only
            index = next(n for n, label in enumerate(self.card.output.labels) if label.name == self.top)
            share, where = float(np.mean(self.winners == index)), "of all that it sees"
        if share < NEARLY_ALL:
            return self.read
        return (
            *self.read,
            Caveat(
                "one-class",
                f"{self.card.name} calls {share:.0%} {where} {self.top}: a network that was not trained, or an "
                "input of another kind, looks like this; do not trust the segmentation or its maps before you know why.",
            ),
        )

    @cached_property
    def winners(self) -> np.ndarray:
        """Segmentation: the predicted class of each voxel of the network's grid (d0, d1, d2); the number of classes where
        no sigmoid exceeds 0.5."""
        if self.prepared.aligned and self.card.output.exclusive:
            return self.labels.volume.array
        return best_class(self.logits, self.card.output.exclusive)


def best_class(logits: np.ndarray, exclusive: bool) -> np.ndarray:
    """The class of the highest logit in each voxel (d0, d1, d2), plane by plane; the number of classes for none."""
    count = len(logits)
    best = np.empty(logits.shape[1:], np.uint8 if count < 255 else np.uint16)
    for n in range(len(best)):
        plane = logits[:, n]
        best[n] = plane.argmax(0) if exclusive else np.where(plane.max(0) > 0, plane.argmax(0), count)
    return best


def activate(logits: np.ndarray, card: ModelCard, axis: int) -> np.ndarray:
    """Probabilities from logits, by the card's activation; values as they are."""
    from scipy.special import expit, softmax

    if card.output.kind == "value":
        return logits
    return softmax(logits, axis=axis) if card.output.exclusive else expit(logits)


def lay_out(model: Model, prepared: Prepared) -> tuple[Tiling, list[Layer]]:
    """The tiles of a prepared input, and the network's layers as one tile goes through."""
    spatial, shape = model.card.spatial, prepared.shape
    size = {"slices": shape[1:], "whole": shape, "windows": getattr(spatial, "size", None)}[spatial.mode]
    try:
        layers = inspect(model.network, (1, len(prepared.tensor), *size), lambda: feed(model, _first(prepared, size)))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{model.card.name}: the network does not take an input of {len(prepared.tensor)} channel(s) and the size "
            f"{' x '.join(map(str, size))} ({first_line(error)}); mend input and spatial of the card."
        ) from error
    multiple = coarsest_stride(layers) if spatial.mode == "windows" and layers else (1, 1, 1)
    # an exported program may take the batch it was exported with, and no other
    at_once = 1 if model.card.network.architecture == FROM_FILE else AT_ONCE
    return tile(spatial, shape, multiple, at_once), layers


def _first(prepared: Prepared, size: Sequence[int]) -> torch.Tensor:
    """One piece of the input as the network sees it, (1, channel, *size): for networks that look at values."""
    import torch

    x = prepared.tensor[:, prepared.shape[0] // 2] if len(size) == 2 else prepared.tensor
    x = x[(..., *(slice(n) for n in size))]
    missing = [(0, n - have) for n, have in zip(size, x.shape[1:], strict=True)]
    pad = [p for pair in reversed(missing) for p in pair]
    return torch.nn.functional.pad(x, pad, value=float(x.min()))[None]


def predict(
    model: Model,
    inputs: Volume | dict[str, Volume] | Prepared,
    *,
    progress: Progress = silent,
    tapes: TapeCache | None = None,
) -> Prediction:
    """Run a model on one case.

    :param inputs: a volume, one for each of the card's named inputs, or what :func:`prepare` gave.
    :param tapes: keeps each tile's tape, so that an explanation needs no second forward pass.
    :raises InputError: where inputs, card and network do not fit each other.
    """
    with guest(model.network):
        return _predict(model, inputs, progress, tapes)


def _predict(model: Model, inputs, progress: Progress, tapes: TapeCache | None) -> Prediction:
    from .attribution.recorder import TapeCache

    prepared = inputs if isinstance(inputs, Prepared) else prepare(model.card, inputs)
    refuse_one_label(model.card)
    tiling, _ = lay_out(model, prepared)
    caveats = check(model.card, prepared)
    if tapes is None or (tapes.limit == 0 and len(tiling.tiles) > 1):
        # nothing would be kept of these passes: without layers a tape is a bare forward pass
        tapes = TapeCache(model.network, (), limit=0)
    results, stitcher, remarks, random = [], None, {}, False
    for number, (t, x) in enumerate(tiling.pieces(prepared.tensor[None])):
        tapes.progress = portion(progress, number, len(tiling.tiles))
        x, drew = feed(model, x), []

        def output_of(t=t, x=x, drew=drew) -> torch.Tensor:
            tape = tapes.tape(t, x)
            drew.append(tape.random)
            return tape.output

        output, odd = compared(model, x, output_of)
        random |= any(drew)
        remarks |= dict.fromkeys((*odd, *getattr(model.network, "messages", ())))
        output = output.detach().float().cpu().numpy()
        check_output(model.card, output, x.shape[2:])
        if model.card.task == "classification":
            results.append(output)
        else:
            stitcher = stitcher or voxel_stitcher(tiling)
            stitcher.add(t, output)
    if model.card.task == "classification":
        logits, labels = np.concatenate(results), None
    else:
        logits = stitcher.values
        labels = to_labels(model.card, prepared, logits, portion(progress, len(tiling.tiles) - 1, len(tiling.tiles)))
    return Prediction(model.card, prepared, tiling, logits, labels, tuple(remarks), caveats, random)


def feed(model: Model, x: torch.Tensor) -> torch.Tensor:
    """A piece of the prepared tensor as the network takes it: on its device, in its precision."""
    kind = next((p.dtype for p in model.network.parameters() if p.is_floating_point()), x.dtype)
    return x.to(model.device, kind)


def voxel_stitcher(tiling: Tiling) -> Stitcher:
    """A stitcher of voxel-wise results."""
    return Stitcher(tiling, tiling.size, (1,) * len(tiling.size), (0,) * len(tiling.size))


def check_output(card: ModelCard, output: np.ndarray, size: Sequence[int]) -> None:
    """:raises InputError: where the network's output is not what the card says."""
    wanted = (len(card.output.labels),) if card.task == "classification" else (len(card.output.labels), *size)
    if output.shape[1:] != wanted:
        raise InputError(
            f"{card.name}: the network gave an output of the shape {output.shape[1:]} where the card's task and labels "
            f"mean {wanted}; mend output.labels, task or network.arguments of the card."
        )
    if not np.isfinite(output).all():
        raise InputError(
            f"{card.name}: the network gave values that are not finite; check the preprocessing (a card's input.intensity) and the weights."
        )


def to_labels(card: ModelCard, prepared: Prepared, logits: np.ndarray, progress: Progress = silent) -> Labels:
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


def _resampled_winner(prepared: Prepared, logits: np.ndarray, exclusive: bool, progress: Progress) -> np.ndarray:
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
