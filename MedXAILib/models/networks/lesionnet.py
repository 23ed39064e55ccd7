"""LesionNet: a small 3D CNN that says whether a dark lesion lies anywhere in a head."""

from __future__ import annotations

import torch
from torch import nn


class Residual(nn.Module):
    """x + ReLU(conv(x)), 3x3x3, same size."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, 3, padding=dilation, dilation=dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return x + torch.relu(self.conv(x))


class LesionNet(nn.Module):
    """Local evidence on a grid of half the input's resolution, pooled over its highest cells.

    The evidence is linear in the last features and has no constant, so that it is above 0 where the network
    sees a lesion and Grad-CAM of ``features`` is, up to a factor, its positive part.

    :param width: channels of every layer.
    :param dilations: one residual layer for each.
    :param cells: how many of the highest cells are averaged into the logit.
    """

    def __init__(self, width: int = 16, dilations: tuple[int, ...] = (1, 2, 4, 1), cells: int = 4) -> None:
        super().__init__()
        stem = (nn.Conv3d(1, width, 5, stride=2, padding=2), nn.ReLU())
        self.features = nn.Sequential(*stem, *(Residual(width, dilation) for dilation in dilations))
        self.evidence = nn.Conv3d(width, 1, 1, bias=False)
        self.cells = cells
        # on a CPU a third faster than the default layout
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stub leaves it out

    def local(self, x: torch.Tensor) -> torch.Tensor:
        """Evidence for a lesion at each cell: (batch, 1, d0, d1, d2) to (batch, ceil(d0/2), ceil(d1/2), ceil(d2/2))."""
        evidence: torch.Tensor = self.evidence(self.features(x))[:, 0]
        return evidence

    def pooled(self, local: torch.Tensor) -> torch.Tensor:
        """Mean of the highest cells, (batch,)."""
        cells = local.flatten(1)
        return cells.topk(min(self.cells, cells.shape[1]), dim=1).values.mean(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 1, d0, d1, d2) to logits (batch, 2): no lesion, lesion."""
        half = self.pooled(self.local(x)) / 2
        return torch.stack([-half, half], 1)
