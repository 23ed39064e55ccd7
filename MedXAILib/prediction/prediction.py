"""What every prediction has, whatever its task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..caveats import Caveat
from ..models.card import ModelCard
from ..preprocessing.prepare import Prepared
from ..tiling import Stitcher, Tiling

if TYPE_CHECKING:
    import torch

    from ..geometry.labels import Labels
    from ..models.loading import Model

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(ABC):
    """What the network said.

    :ivar logits: classification: float32 (pieces, class), a piece being a slice, a window, or the whole; values where the
        card's output is such. Segmentation: float32 (class, d0, d1, d2), stitched, on the network's grid.
    :ivar labels: segmentation: on the reference volume's own grid.
    :ivar readings: how the network's output was taken.
    :ivar caveats: in what the input is not of the kind that the model knows.
    :ivar random: whether the network drew random numbers, in evaluation mode.
    """

    task: ClassVar[str]
    voxelwise: ClassVar[bool]
    """Whether there is a class for each voxel: a map of the last layers nearly repeats it."""
    card: ModelCard
    prepared: Prepared
    tiling: Tiling
    logits: Floats
    labels: Labels | None = None
    readings: tuple[Caveat, ...] = ()
    caveats: tuple[Caveat, ...] = ()
    random: bool = False

    @property
    @abstractmethod
    def top(self) -> str:
        """The predicted class; the first of values; in a segmentation the largest class beside the background."""

    @property
    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """As it is written down, in plain values."""

    @property
    @abstractmethod
    def lines(self) -> list[str]:
        """For people, one class a line."""

    @cached_property
    def remarks(self) -> tuple[Caveat, ...]:
        """How the output was taken, and what is odd about it."""
        return self.readings

    @cached_property
    def voxels(self) -> Stitcher:
        """Stitches voxel-wise results of this tiling."""
        return self.tiling.voxels()

    def in_slices(self, slices: Sequence[int]) -> str | None:
        """The class that is highest in some slices, where that can be told."""
        return None

    def elsewhere(self, index: int, slices: Sequence[int] | None) -> tuple[Caveat, ...]:
        """Slices of which the model does not say class ``index``."""
        return ()


def feed(model: Model, x: torch.Tensor) -> torch.Tensor:
    """A piece of the prepared tensor as the network takes it: on its device, in its precision."""
    kind = next((p.dtype for p in model.network.parameters() if p.is_floating_point()), x.dtype)
    return x.to(model.device, kind)


def activate(logits: Floats, card: ModelCard, axis: int) -> Floats:
    """Probabilities from logits, by the card's activation; values as they are."""
    from scipy.special import expit, softmax

    if card.output.kind == "value":
        return logits
    return np.asarray(softmax(logits, axis=axis) if card.output.exclusive else expit(logits))
