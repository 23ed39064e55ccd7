"""SliceCNN: a small 2D classifier of two convolutions and two dense layers."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def SliceCNN(classes: int, size: int, in_channels: int = 1) -> torch.nn.Sequential:
    """Twice 3x3 convolution, ReLU and 2x2 pooling, then 64 hidden units.

    Input (batch, in_channels, size, size), output logits (batch, classes).

    :param size: rows and columns of the input, a multiple of 4.
    """
    from torch import nn

    features = nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
    head = nn.Sequential(nn.Flatten(), nn.Linear(32 * (size // 4) ** 2, 64), nn.ReLU(), nn.Linear(64, classes))
    return nn.Sequential(OrderedDict(conv_layers=features, fc_layers=head))
