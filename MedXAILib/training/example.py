"""Cases as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FileError
from ..geometry.resample import resample
from ..io.read import read_volume
from ..models.card import ModelCard
from ..preprocessing.prepare import prepare
from ..progress import Progress
from .cases import TrainingCase, truth_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class TrainingExample:
    """A case as the network sees it, or one slice of it.

    :ivar image: float32 (channel, *spatial).
    :ivar truth: segmentation: int64 (1, *spatial); classification: float32 (classes).
    """

    image: torch.Tensor
    truth: torch.Tensor


def load_all(card: ModelCard, cases: Sequence[TrainingCase], progress: Progress) -> list[list[TrainingExample]]:
    """For each case its examples: one, or, for a slice-wise segmentation, one for each slice."""
    found = []
    for number, case in enumerate(cases):
        progress(number, len(cases), "Reading the cases")
        example = load(card, case)
        cut = card.spatial.by_slices and card.voxelwise
        found.append(slices(example) if cut else [example])
    return found


def load(card: ModelCard, case: TrainingCase) -> TrainingExample:
    """Read a case and prepare it; the labels go to the network's grid too.

    :raises InputError: naming the file, for a picture that is no single slice, a mask on another grid, a value that
        the card has no label for, or whatever :func:`prepare` refuses.
    """
    import torch

    volume = read_volume(case.image)
    prepared = prepare(card, volume)
    image = prepared.tensor
    if card.spatial.by_slices and not card.voxelwise:
        if len(image[0]) != 1:
            raise FileError(
                case.image,
                f"a slice-wise classifier learns from pictures of one slice, and this has {len(image[0])}",
                "cut out the slices whose class is known",
            )
        image = image[:, 0]
    if case.labels is None:
        return TrainingExample(image, torch.tensor(case.truth))
    mask = truth_of(case)
    if not mask.grid.same_as(volume.grid, 1e-2):
        raise FileError(
            case.labels,
            f"the mask lies on another grid than {case.image} (shape {mask.shape} instead of {volume.shape}, or another place)",
            "resample it onto the image",
        )
    values = len(card.output.labels) + (not card.output.exclusive)
    if mask.array.max() >= values or mask.array.min() < 0:
        raise FileError(
            case.labels,
            f"the value {mask.array.max()} is in the mask, and the card's labels go to {values - 1}",
            "add the label to the card, or mend the mask",
        )
    moved = resample(mask, prepared.grid, order=0).array
    return TrainingExample(image, torch.from_numpy(moved.astype(np.int64))[None])


def slices(example: TrainingExample) -> list[TrainingExample]:
    """The slices of a volume (channel, d0, d1, d2), for a 2D network that segments."""
    return [TrainingExample(example.image[:, n], example.truth[:, n]) for n in range(example.image.shape[1])]
