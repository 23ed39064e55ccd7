"""The network's scores of changed inputs, whatever the tiles, windows and slices that it sees.

Query methods, Score-CAM, measures and users all ask here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..models.card import FROM_FILE
from ..prediction import Prediction, feed
from ..progress import Progress, silent
from ..recording.record import record, replay
from ..recording.recording import Recording, wide
from ..tiling import Tile

if TYPE_CHECKING:
    import torch

    from ..models.layers import Layer
    from ..models.loading import Model
    from .bound import BoundTarget

Array = npt.NDArray[Any]
BATCH = 8
"""Inputs that are scored at once, where the network takes as many."""


class Scorer:
    """Scores of inputs of one case: ``scorer(batch)`` takes (n, channel, d0, d1, d2) to (n, T), float32, without gradients.

    :param prediction: of the case, whose tiles and weights every changed input is given.
    :param targets: T of them.
    :param sample: of a slice-wise network the slice that is scored; None is the whole of what the network sees at once.
    :param seed: of the random numbers that the network may draw.
    :param progress: what it raises ends the work.
    :ivar x: the unchanged input of the sample, float32 (channel, d0, d1, d2); of a slice d0 is 1.
    :ivar evaluations: inputs scored so far.
    :ivar batch: how many inputs are best given at once.
    """

    def __init__(
        self,
        model: Model,
        prediction: Prediction,
        targets: Sequence[BoundTarget],
        *,
        sample: int | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        where = slice(None) if sample is None else slice(sample, sample + 1)
        self.model, self.targets, self.seed, self.progress = model, tuple(targets), seed, progress
        self.x = prediction.prepared.tensor[:, where].float()
        self.tiling = prediction.tiling.part(where)
        numbers = tuple(range(prediction.prepared.shape[0])[where])
        tiles = [Tile(numbers)] if prediction.tiling.by_slices else prediction.tiling.tiles
        self.weights = [[target.weights(n, t) for n, t in enumerate(tiles)] for target in self.targets]
        self.batch = min(BATCH, self.tiling.at_once)
        self.evaluations = 0

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Scores (n, T), float32 without gradients, of inputs (n, channel, d0, d1, d2)."""
        import torch

        total = torch.zeros(len(batch), len(self.targets))
        with torch.no_grad():
            for number, (_, piece) in enumerate(self.tiling.pieces(batch)):
                output = output_of(record(self.model.network, feed(self.model, piece), (), seed=self.seed))
                for row, target in enumerate(self.targets):
                    w = self.weights[row][number]
                    if w.any():
                        weights = torch.from_numpy(w).to(output)
                        total[:, row] += target.of(output.to(wide(output)), weights).float().cpu()
        self.evaluations += len(batch)
        return total

    def ask(self, make: Callable[[int, int], torch.Tensor], count: int, text: str = "Scoring") -> Array:
        """The scores, (count, T) float64, of the inputs that ``make(start, stop)`` makes, a batch at a time.

        :param make: gives the inputs of these numbers, (stop - start, channel, d0, d1, d2).
        """
        import torch

        scores = []
        with torch.no_grad():
            for start in range(0, count, self.batch):
                stop = min(start + self.batch, count)
                scores.append(self(make(start, stop)).double().cpu().numpy())
                self.progress(stop, count, text)
        return np.concatenate(scores)


class TileScorer:
    """Scores of one tile alone, of one target: for methods that change the tile, or switch off channels of a layer.

    :param x: the tile as the network takes it, (batch, channel, *spatial).
    :param weights: gives those of its samples in the score: (batch,) or (batch, *size).
    """

    def __init__(
        self,
        model: Model,
        target: BoundTarget,
        x: torch.Tensor,
        weights: Callable[[], torch.Tensor],
        layer: Layer,
        progress: Progress,
        seed: int,
    ) -> None:
        self.model, self.target, self.x, self.weights, self.layer = model, target, x, weights, layer
        self.progress, self.seed = progress, seed

    def __call__(self, input: torch.Tensor | None = None, off: Sequence[int] | None = None) -> torch.Tensor:
        """Scores (n * batch,): of variants of the tile (n * batch, channel, *spatial), of the tile with each of n channels of
        the layer switched off in turn, or of the tile as it is."""
        import torch

        count = len(input) // len(self.x) if input is not None else len(off) if off is not None else 1
        given = self.x.repeat(count, *[1] * (self.x.ndim - 1)) if input is None else input
        if count == 1 or self.model.card.network.architecture != FROM_FILE:
            return self._answer(given, off)
        channels: list[list[int] | None] = [None] * count if off is None else [[n] for n in off]
        each = zip(given.chunk(count), channels, strict=True)
        return torch.cat([self._answer(i, o) for i, o in each])  # a program may take no other batch

    def _answer(self, given: torch.Tensor, off: Sequence[int] | None) -> torch.Tensor:
        output = replay(self.model.network, given, self.layer, off, self.progress, self.seed)
        w = self.weights()
        repeated = w.repeat(len(given) // len(self.x), *[1] * (w.ndim - 1))
        return self.target.of(output.to(wide(output)), repeated).detach()


def output_of(recording: Recording) -> torch.Tensor:
    """What the network gave; a recording that was let go has nothing."""
    assert recording.output is not None
    return recording.output


LONG_PASS = 10.0
"""Seconds after which a pass is not repeated only to time it."""


def seconds_each(model: Model, prediction: Prediction, first: float) -> float:
    """How long one evaluation takes: of the whole, or of one slice, as methods ask for many of them at a time. The first pass
    is mostly PyTorch's warming up, so that another one is timed where it does not take long.

    :param first: how long the prediction's passes took together.
    """
    tiling = prediction.tiling
    rough = first / tiling.samples
    if rough > LONG_PASS:
        return rough
    many = max(1, min(BATCH, tiling.at_once, int(LONG_PASS / 4 / max(rough, 1e-3))))
    _, x = next(iter(tiling.pieces(prediction.prepared.tensor[None])))
    x = x[:1].expand(many, *x.shape[1:])
    began = time.perf_counter()
    record(model.network, feed(model, x), ())
    return (time.perf_counter() - began) / many * (1 if tiling.by_slices else len(tiling.tiles))
