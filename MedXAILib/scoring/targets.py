"""What is explained: one score per sample of the network's output.

Scores are logits, not probabilities: a sigmoid's or softmax's gradient vanishes where the network is sure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..geometry.resample import resample
from ..geometry.volume import Volume
from ..models.sources.module import ARRAY
from ..prediction import Prediction
from ..tiling import Stitcher, Tile

if TYPE_CHECKING:
    import torch

Region = Callable[[tuple], np.ndarray]
"""The voxels of a region within a box: index (d0, d1, d2) of slices or lists -> bool array."""


@dataclass(frozen=True)
class ClassScore:
    """A class by name or channel; None is the predicted class. In a segmentation: the region where that class was
    predicted."""

    label: str | int | None = None


@dataclass(frozen=True)
class RegionScore:
    """Segmentation: the summed logit of ``label`` where its probability exceeds ``threshold``
    (Xiao et al. 2021, EIECS, pp. 242-247: steps 3 and 4, with logits for probabilities).

    :param probabilities: sum the probabilities themselves, as the paper may mean; their gradient vanishes where the
        network is sure.
    """

    label: str | int
    threshold: float
    probabilities: bool = False


@dataclass(frozen=True)
class ComponentScore:
    """Segmentation: the summed logit over one connected piece (voxels that touch by faces, edges or corners) of the
    region where a class was predicted: the piece that holds ``ras``, mm, or of a bare array this index (d0, d1, d2)."""

    ras: tuple[float, float, float]
    label: str | int | None = None


@dataclass(frozen=True, eq=False)
class MaskScore:
    """Segmentation: the summed logit of ``label`` (None: the predicted class) over a mask of one's own: where ``mask`` is
    not 0, on whatever grid."""

    mask: Volume
    label: str | int | None = None

    def __post_init__(self):
        if not isinstance(self.mask, Volume):
            raise InputError(f"MaskScore takes a Volume, not {type(self.mask).__name__}: give Volume(array, affine).")


@dataclass(frozen=True)
class VoxelScore:
    """Segmentation: the logit of ``label`` (None: of the class predicted there) in the voxel nearest to ``ras``, mm; of a bare
    array, which has no geometry, at this index (d0, d1, d2)."""

    ras: tuple[float, float, float]
    label: str | int | None = None

    def __post_init__(self):
        if np.shape(self.ras) != (3,) or not np.isfinite(np.asarray(self.ras, float)).all():
            raise InputError(f"VoxelScore takes three numbers (R, A, S in mm), not {self.ras!r}.")


Target = ClassScore | RegionScore | ComponentScore | MaskScore | VoxelScore


@dataclass(frozen=True, eq=False)
class Score:
    """A target made concrete for one input.

    :ivar index: output channel.
    :ivar pieces: classification: (pieces,), the part of each piece (window) in the score of the whole; ones for slices,
        where each slice has its own score.
    :ivar region: segmentation: the voxels on the network's grid over which the class's logits are summed.
    :ivar planes: segmentation: (d0,), how many voxels of the region lie in each plane.
    :ivar point: the voxel, where only one is explained.
    """

    name: str
    label: str
    index: int
    pieces: np.ndarray | None = None
    region: Region | None = None
    planes: np.ndarray | None = None
    point: tuple[int, int, int] | None = None
    probabilities: bool = False
    exclusive: bool = True
    remarks: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return self.planes is not None and not self.planes.any()

    def at(self, number: int, tile: Tile, voxels: Stitcher, shared: bool = True) -> np.ndarray:
        """Weights of one tile: (batch,) or (batch, *size).

        In windows a voxel's weight is shared by the windows that hold it, as its stitched logit is: overlaps do not
        count twice.

        :param number: the tile's place in the tiling.
        :param shared: False: each window's own score, as if it were alone.
        """
        tiling = voxels.tiling
        if self.region is None:
            return self.pieces[list(tile.at)] if tiling.mode == "slices" else self.pieces[number : number + 1]
        if tiling.mode == "slices":
            return self.region((list(tile.at),))
        if tiling.mode == "whole":
            return self.region((slice(None),))[None]
        piece = self.region(tuple(slice(o, o + n) for o, n in zip(tile.at, tiling.size, strict=True)))
        padded = np.zeros(tiling.size, np.float32)
        padded[tuple(slice(0, n) for n in piece.shape)] = piece
        return (padded * voxels.share(tile) if shared and padded.any() else padded)[None]

    def of(self, output: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The score of each sample: (batch,).

        :param output: (batch, class) or (batch, class, *spatial).
        :param weights: what :meth:`at` gave.
        """
        if self.probabilities:
            output = output.softmax(1) if self.exclusive else output.sigmoid()
        if output.ndim == 2:
            return output[:, self.index] * weights
        return (output[:, self.index] * weights).flatten(1).sum(1)


def resolve(target: Target | int | str | None, prediction: Prediction) -> Score:
    """Make a target concrete.

    :param target: a bare class name or channel means ClassScore.
    :raises InputError: for an unknown class (lists the classes), a point outside, or a target the task does not have.
    """
    card = prediction.card
    if target is None or isinstance(target, str | int) and not isinstance(target, bool):
        target = ClassScore(target)
    if not isinstance(target, Target):
        raise InputError(
            f"{target!r} is no target: give a class by its name or number, or one of the scores of MedXAILib.scoring.targets."
        )
    if card.task == "classification":
        if not isinstance(target, ClassScore):
            raise InputError(
                f"{card.name} classifies: explain one of its classes; regions and voxels are for segmentations."
            )
        index, label = _class(target, prediction)
        return Score(label, label, index, prediction.piece_weights(index))
    if isinstance(target, VoxelScore):
        return _voxel(target, prediction)
    index, label = _class(target, prediction)
    region, name, more = _region(target, prediction, index, label)
    planes = np.array([np.count_nonzero(region((slice(n, n + 1),))) for n in range(prediction.prepared.shape[0])])
    remarks = () if planes.any() else (f"No voxel was predicted as {name}: the map is empty.",)
    exclusive = card.output.exclusive
    return Score(name, label, index, None, region, planes, exclusive=exclusive, remarks=remarks, **more)


def _class(target: Target, prediction: Prediction) -> tuple[int, str]:
    """(channel, name) of the class that a target means."""
    card = prediction.card
    label = prediction.top if target.label is None else target.label
    index = card.index(label)
    return index, card.output.labels[index].name


def _region(target: Target, prediction: Prediction, index: int, label: str) -> tuple[Region, str, dict]:
    """The region of a target, the target's own name, and what else its score needs."""
    if isinstance(target, RegionScore):
        if not 0 <= target.threshold < 1:
            raise InputError(f"--threshold {target.threshold:g} is no probability: give a number from 0 to 1.")
        name = f"{label}-T{target.threshold:g}" + ("-probabilities" if target.probabilities else "")
        return (
            lambda where: prediction.probability(index, where) > target.threshold,
            name,
            {"probabilities": target.probabilities},
        )
    if isinstance(target, ComponentScore):
        mask = _component(target, prediction, index, label)
        return mask.__getitem__, f"{label}-piece-{_text(target.ras)}", {}
    if isinstance(target, MaskScore):
        prepared = prediction.prepared
        given = Volume((target.mask.array != 0).astype(np.uint8), target.mask.affine)
        mask = resample(given, prepared.grid, order=0).array > 0
        if not mask.any():
            raise InputError(
                f"The mask {target.mask.source.name} marks no voxel of what the network sees: is it of this patient, and not empty?"
            )
        return mask.__getitem__, f"{label}-mask", {}
    return lambda where: prediction.winners[where] == index, label, {}


def _component(target: ComponentScore, prediction: Prediction, index: int, label: str) -> np.ndarray:
    from scipy.ndimage import label as connected

    pieces, _ = connected(prediction.winners == index, np.ones((3, 3, 3)))
    number = pieces[_place(target.ras, prediction, "--component")]
    if number == 0:
        raise InputError(
            f"--component {_text(target.ras, ',')}: {label} was not predicted there; give a point in the piece that is meant."
        )
    return pieces == number


def _place(ras: tuple[float, float, float], prediction: Prediction, option: str) -> tuple[int, int, int]:
    """Index of the voxel nearest to a point."""
    own = prediction.prepared.reference
    place = np.round(ras).astype(int) if own.source.format == ARRAY else prediction.prepared.nearest(ras)
    if (place < 0).any() or (place >= prediction.prepared.shape).any():
        if not own.placed:
            raise InputError(
                f"{option} {_text(ras, ',')} lies outside the image, and {own.source.name} does not say how it lies in the "
                "patient: give a point in the coordinates of the assumed affine that 'medxai info' prints."
            )
        raise InputError(
            f"{option} {_text(ras, ',')} lies outside the volume: give a point in RAS mm inside it ('medxai info' prints its extent)."
        )
    return tuple(int(n) for n in place)


def _text(ras: tuple[float, float, float], between: str = "-") -> str:
    return between.join(f"{c:g}" for c in ras)


def _voxel(target: VoxelScore, prediction: Prediction) -> Score:
    place = _place(target.ras, prediction, "--voxel")
    here = prediction.logits[(slice(None), *place)]
    index = int(here.argmax()) if target.label is None else prediction.card.index(target.label)
    label = prediction.card.output.labels[index].name
    mask = np.zeros(prediction.prepared.shape, bool)
    mask[place] = True
    planes = np.arange(len(mask)) == place[0]
    name = f"{label}-voxel-{_text(target.ras)}"
    return Score(name, label, index, None, mask.__getitem__, planes.astype(int), place)
