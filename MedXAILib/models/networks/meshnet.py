"""MeshNet: a chain of dilated 3D convolutions at full resolution.

Fedorov, Johnson, Damaraju, Ozerin, Calhoun, Plis (2017), End-to-end learning of brain tissue segmentation from
imperfect labeling, IJCNN, arXiv 1612.00940.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def MeshNet(
    channels: int, classes: int, activation: str, dilations: Sequence[int], in_channels: int = 1
) -> torch.nn.Sequential:
    """A 3x3x3 convolution with its activation for each dilation (padding = dilation), then a 1x1x1 one to the classes.

    Input (batch, in_channels, *spatial), output logits (batch, classes, *spatial). The convolutions are named
    ``model.0``, ``model.2``, ... as in the brainchop weights.

    :param channels: feature maps of every hidden layer.
    :param activation: ``relu`` or ``elu``; the weights do not tell which.
    :raises ValueError: for another activation.
    """
    from torch import nn

    kinds = {"relu": nn.ReLU, "elu": nn.ELU}
    if activation not in kinds:
        raise ValueError(f"activation is '{activation}' and must be one of {', '.join(kinds)}")
    layers, width = [], in_channels
    for dilation in dilations:
        layers += [nn.Conv3d(width, channels, 3, padding=dilation, dilation=dilation), kinds[activation]()]
        width = channels
    chain = nn.Sequential(*layers, nn.Conv3d(width, classes, 1))
    return nn.Sequential(OrderedDict(model=chain))
