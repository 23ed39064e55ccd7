"""What is explained: one score per sample of the network's output.

Scores are logits, not probabilities: a sigmoid's or softmax's gradient vanishes where the network is sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError
from .prediction import Prediction
from .tiling import Stitcher, Tile

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ClassScore:
    """A class by name; None is the predicted class. In a segmentation: the region where that class was predicted."""

    label: str | None = None


@dataclass(frozen=True)
class RegionScore:
    """Segmentation: the summed logit of ``label`` where its probability exceeds ``threshold``
    (Xiao et al. 2021, EIECS, pp. 242-247: steps 3 and 4, with logits for probabilities)."""

    label: str
    threshold: float


@dataclass(frozen=True)
class VoxelScore:
    """Segmentation: the logit of ``label`` (None: of the class predicted there) in the voxel nearest to ``ras``, mm."""

    ras: tuple[float, float, float]
    label: str | None = None


Target = ClassScore | RegionScore | VoxelScore


@dataclass(frozen=True, eq=False)
class Score:
    """A target made concrete for one input.

    :ivar index: output channel.
    :ivar weights: segmentation: (d0, d1, d2) on the network's grid, score = sum(weights * logits[index]).
        Classification: (pieces,), the part of each piece (window) in the score of the whole; ones for slices, where
        each slice has its own score.
    """

    name: str
    label: str
    index: int
    weights: np.ndarray
    remarks: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.weights.any()

    def at(self, number: int, tile: Tile, voxels: Stitcher) -> np.ndarray:
        """Weights of one tile: (batch,) or (batch, *size).

        In windows a voxel's weight is shared by the windows that hold it, as its stitched logit is: overlaps do not
        count twice.

        :param number: the tile's place in the tiling.
        """
        tiling = voxels.tiling
        if self.weights.ndim == 1:
            return self.weights[list(tile.at)] if tiling.mode == "slices" else self.weights[number : number + 1]
        if tiling.mode == "slices":
            return self.weights[list(tile.at)]
        if tiling.mode == "whole":
            return self.weights[None]
        piece = self.weights[tuple(slice(o, o + n) for o, n in zip(tile.at, tiling.size, strict=True))]
        padded = np.zeros(tiling.size, np.float32)
        padded[tuple(slice(0, n) for n in piece.shape)] = piece
        return (padded * voxels.share(tile))[None]

    def of(self, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The score of each sample: (batch,).

        :param output: (batch, class) or (batch, class, *spatial).
        :param weights: what :meth:`at` gave.
        """
        return (
            (output[:, self.index] * weights).flatten(1).sum(1) if output.ndim > 2 else output[:, self.index] * weights
        )


def resolve(target: Target, prediction: Prediction) -> Score:
    """Make a target concrete.

    :raises InputError: for an unknown class (lists the classes), a point outside, or a target the task does not have.
    """
    card = prediction.card
    if card.task == "classification":
        if not isinstance(target, ClassScore):
            raise InputError(
                f"{card.name} classifies: explain one of its classes; regions and voxels are for segmentations."
            )
        label = target.label or prediction.top
        index = card.index(label)
        return Score(label, label, index, prediction.piece_weights(index))
    if isinstance(target, VoxelScore):
        return _voxel(target, prediction)
    label = target.label or prediction.top
    index = card.index(label)
    if isinstance(target, RegionScore):
        if not 0 <= target.threshold < 1:
            raise InputError(f"--threshold {target.threshold:g} is no probability: give a number from 0 to 1.")
        region, name = prediction.probability(index) > target.threshold, f"{label}-T{target.threshold:g}"
    else:
        region, name = prediction.winners() == index, label
    remarks = () if region.any() else (f"No voxel was predicted as {name}: the map is empty.",)
    return Score(name, label, index, region.astype(np.float32), remarks)


def _voxel(target: VoxelScore, prediction: Prediction) -> Score:
    prepared = prediction.prepared
    place = prepared.nearest(target.ras)
    text = ",".join(f"{c:g}" for c in target.ras)
    if (place < 0).any() or (place >= prepared.shape).any():
        raise InputError(
            f"--voxel {text} lies outside the volume: give a point in RAS mm inside it ('medxai info' prints its extent)."
        )
    weights = np.zeros(prepared.shape, np.float32)
    weights[tuple(place)] = 1
    index = (
        prediction.card.index(target.label) if target.label else int(prediction.logits[(slice(None), *place)].argmax())
    )
    label = prediction.card.output.labels[index].name
    return Score(f"{label}-voxel-{text.replace(',', '-')}", label, index, weights)
