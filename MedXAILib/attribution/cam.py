"""Class activation maps over a tape."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def gradient_sums(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Sum over positions of dS/dA^k: (batch, channel). Summable over tiles, as Grad-CAM's weights are one for each
    channel of the whole input; the mean follows by dividing by the number of cells."""
    return gradient.flatten(2).sum(2)


def gradcam(activation: torch.Tensor, gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum_k alpha_k A^k, before the ReLU (Selvaraju et al. 2017, arXiv 1610.02391, eqs. 1-2).

    :param activation: (batch, channel, *cells).
    :param weights: alpha, the mean over positions of dS/dA^k: (batch or 1, channel).
    :returns: (batch, *cells), signed; its sum over tiles may be taken before the ReLU.
    """
    import torch

    equation = "bk...,bk->b..." if len(weights) == len(activation) else "bk...,ok->b..."
    return torch.einsum(equation, activation, weights)
