"""Targets made concrete for one input: the score of each sample, and the weights of the tiles in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..caveats import Caveat
from ..errors import InputError
from ..geometry.volume import ARRAY, size_words
from ..names import ranges
from ..prediction import Classification, Prediction, Segmentation
from ..tiling import Region, Tile

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundTarget(ABC):
    """One score per sample of the network's output.

    :ivar name: of what is explained: a class, or a name of its own such as ``liver-T0.3``.
    :ivar label: the class whose score it is.
    :ivar caveats: what is to be known of this very target.
    """

    name: str
    label: str
    prediction: Prediction
    caveats: tuple[Caveat, ...] = ()

    @property
    def kind(self) -> str:
        """What the score is: a logit, a probability, a value."""
        return "value" if self.prediction.card.output.kind == "value" else "logit"

    @property
    def empty(self) -> bool:
        """Whether there is nothing to explain."""
        return False

    @abstractmethod
    def weights(self, number: int, t: Tile, shared: bool = True) -> Array:
        """Weights of one tile: (batch,) or (batch, *size).

        :param number: the tile's place in the tiling.
        :param shared: False: each window's own score, as if it were alone.
        """

    @abstractmethod
    def of(self, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The score of each sample: (batch,).

        :param output: (batch, class) or (batch, class, *spatial).
        :param weights: what :meth:`weights` gave.
        """

    @property
    @abstractmethod
    def strengths(self) -> Array:
        """How much each slice has of the score, (d0,): by which the highest slices are chosen."""

    @abstractmethod
    def says(self, slices: Sequence[int] | None) -> str:
        """What the model says of the very thing that is explained: a probability, a value, or the size of a region.

        :param slices: those explained; None where the network does not see slices.
        """

    def elsewhere(self, slices: Sequence[int] | None) -> tuple[Caveat, ...]:
        """Slices of which the model does not say what is explained."""
        return ()


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassBound(BoundTarget):
    """A class of a classification, of each slice, or of the whole by the card's aggregation.

    :ivar index: its channel.
    """

    prediction: Classification
    index: int

    def weights(self, number: int, t: Tile, shared: bool = True) -> Array:
        """See :meth:`BoundTarget.weights`."""
        return self.prediction.tiling.rows_of(number, t, self.prediction.piece_weights(self.index))

    def of(self, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """See :meth:`BoundTarget.of`."""
        return output[:, self.index] * weights

    @property
    def strengths(self) -> Array:
        """See :attr:`BoundTarget.strengths`."""
        return np.where(self.prediction.counting, self.prediction.pieces[:, self.index], -np.inf)

    def says(self, slices: Sequence[int] | None) -> str:
        """See :meth:`BoundTarget.says`."""
        prediction, output = self.prediction, self.prediction.card.output
        if slices is None or len(prediction.pieces) == 1:
            return output.text(prediction.probabilities[self.label])
        counting = [n for n in slices if prediction.counting[n]] or list(slices)
        highest = max(counting, key=lambda n: prediction.pieces[n, self.index])
        strongest = output.text(prediction.pieces[highest, self.index])
        return f"slice {ranges(slices)}: {strongest}" if len(slices) == 1 else f"highest {strongest} (slice {highest})"

    def elsewhere(self, slices: Sequence[int] | None) -> tuple[Caveat, ...]:
        """See :meth:`BoundTarget.elsewhere`."""
        return self.prediction.elsewhere(self.index, slices)


@dataclass(frozen=True, eq=False, kw_only=True)
class RegionBound(BoundTarget):
    """The logits of a class, summed over a region of a segmentation.

    :ivar index: the class's channel.
    :ivar region: the voxels on the network's grid over which its logits are summed.
    :ivar planes: (d0,), how many voxels of the region lie in each plane.
    :ivar point: the voxel (d0, d1, d2), where only one is explained.
    :ivar probabilities: probabilities are summed, not logits.
    """

    prediction: Segmentation
    index: int
    region: Region
    planes: Array
    point: tuple[int, int, int] | None = None
    probabilities: bool = False

    @property
    def kind(self) -> str:
        """See :attr:`BoundTarget.kind`."""
        return "probability" if self.probabilities else super().kind

    @property
    def empty(self) -> bool:
        """See :attr:`BoundTarget.empty`."""
        return not self.planes.any()

    def weights(self, number: int, t: Tile, shared: bool = True) -> Array:
        """See :meth:`BoundTarget.weights`."""
        return self.prediction.tiling.region_weights(self.region, t, self.prediction.voxels, shared)

    def of(self, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """See :meth:`BoundTarget.of`."""
        if self.probabilities:
            output = output.softmax(1) if self.prediction.card.output.exclusive else output.sigmoid()
        return (output[:, self.index] * weights).flatten(1).sum(1)

    @property
    def strengths(self) -> Array:
        """See :attr:`BoundTarget.strengths`."""
        return self.planes

    def says(self, slices: Sequence[int] | None) -> str:
        """See :meth:`BoundTarget.says`."""
        prediction = self.prediction
        if self.point is not None:
            where = tuple(slice(n, n + 1) for n in self.point)
            return f"p {float(prediction.probability(self.index, where).item()):.3f}"
        grid = prediction.prepared.volume(np.empty((1, 1, 1), np.uint8))
        own = self.name == self.label and any(row.name == self.label for row in prediction.labels.rows)
        volume = prediction.labels.volume if own else grid
        count = prediction.labels.count(self.label) if own else int(self.planes.sum())
        if volume.source.format == ARRAY:
            return f"{count * volume.voxel_ml:.1f} mL if a voxel is 1 mm wide ({count} voxels)"
        return size_words(count, volume)


@dataclass(frozen=True, eq=False, kw_only=True)
class FunctionBound(BoundTarget):
    """A function of the output; over windows the mean of each window's own.

    :ivar function: (batch, class[, *spatial]) to (batch,).
    """

    function: Callable[[torch.Tensor], torch.Tensor]

    def __post_init__(self) -> None:
        if self.prediction.tiling.joint:
            windows = len(self.prediction.tiling.tiles)
            mean = Caveat(
                "mean-of-windows", f"The score is the mean of {self.name} over the network's {windows} windows."
            )
            object.__setattr__(self, "caveats", (*self.caveats, mean))

    @property
    def kind(self) -> str:
        """See :attr:`BoundTarget.kind`."""
        return f"function {self.name}"

    def weights(self, number: int, t: Tile, shared: bool = True) -> Array:
        """See :meth:`BoundTarget.weights`."""
        tiling = self.prediction.tiling
        alone = 1.0 if not (shared and tiling.joint) else 1 / len(tiling.tiles)
        return np.full(len(t.at) if tiling.by_slices else 1, alone, np.float32)

    def of(self, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """See :meth:`BoundTarget.of`."""
        return self.checked(output) * weights

    def checked(self, output: torch.Tensor) -> torch.Tensor:
        """What the function gives.

        :raises InputError: where this is not one number for each sample.
        """
        import torch

        found = self.function(output)
        if not isinstance(found, torch.Tensor) or found.shape != output.shape[:1]:
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise InputError(
                f"The target {self.name} gave {shape} for an output of the shape {tuple(output.shape)}: give one number for each "
                f"sample, a tensor of the shape ({len(output)},)."
            )
        return found

    @property
    def strengths(self) -> Array:
        """See :attr:`BoundTarget.strengths`."""
        import torch

        logits = torch.from_numpy(self.prediction.logits)
        if self.prediction.voxelwise:
            logits = logits.transpose(0, 1)  # a slice is a sample
        with torch.no_grad():
            return self.checked(logits).numpy()

    def says(self, slices: Sequence[int] | None) -> str:
        """See :meth:`BoundTarget.says`."""
        import torch

        if slices is None and not self.prediction.voxelwise:
            with torch.no_grad():
                return f"{float(self.checked(torch.from_numpy(self.prediction.logits)).mean()):.4g}"
        if slices is None:
            return ""
        found = self.strengths[list(slices)]
        highest = int(found.argmax())
        return f"highest {found[highest]:.4g} (slice {list(slices)[highest]})"
