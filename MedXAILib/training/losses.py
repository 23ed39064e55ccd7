"""What a training makes small. All take logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from .recipe import Training

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make(training: Training, exclusive: bool) -> Loss:
    """The loss of a recipe: (logits, truth) to a number; the truth is as a TrainingExample has it, with a batch axis."""
    if training.loss == "bce":
        return lambda logits, truth: masked_bce(logits, truth, training.uncertain)
    if training.loss == "cross_entropy":
        return lambda logits, truth: functional.cross_entropy(logits, truth, label_smoothing=training.label_smoothing)
    from monai.losses.dice import DiceCELoss, DiceLoss

    if exclusive:
        return DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)
    dice, each = DiceLoss(sigmoid=True), functional.binary_cross_entropy_with_logits

    def separate(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        truth = independent(truth, logits.shape[1])
        total: torch.Tensor = dice(logits, truth) + each(logits, truth)
        return total

    return separate


def independent(truth: torch.Tensor, count: int) -> torch.Tensor:
    """Label values (batch, 1, *spatial), 1 for the first label, as one map of 0 and 1 for each: (batch, count, *spatial)."""
    values = torch.arange(1, count + 1, device=truth.device).view(1, -1, *(1,) * (truth.ndim - 2))
    return (truth == values).float()


def masked_bce(logits: torch.Tensor, truth: torch.Tensor, uncertain: str = "ignore") -> torch.Tensor:
    """Binary cross-entropy, the mean over what is known; 0 where nothing is.

    :param logits: (batch, label).
    :param truth: of the same shape: 1 yes, 0 no, -1 uncertain, nan not mentioned.
    :param uncertain: ``ignore``, ``zeros`` or ``ones``: the policies U-Ignore, U-Zeros and U-Ones of Irvin et al. 2019,
        CheXpert, arXiv 1901.07031, sec. 3.1. What is not mentioned never counts.
    """
    if uncertain != "ignore":
        truth = torch.where(truth == -1, float(uncertain == "ones"), truth)
    known = (truth == 0) | (truth == 1)
    each = functional.binary_cross_entropy_with_logits(logits, torch.where(known, truth, 0.0), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)
