"""BrainTumorCNN: a compact classifier of slices or volumes, made to be explained.

The case study that it follows (Keles, Akcay, Kul, Bendechache 2023, Saliency maps as an explainable AI method in medical
imaging: a case study on brain tumor classification, Zenodo 8199333) says that a CNN was used, and not which one.
"""

from __future__ import annotations

import torch
from monai.networks.blocks import ResidualUnit
from monai.networks.layers import Pool
from torch import nn

STAGES = 5


class BrainTumorCNN(nn.Module):
    """Five residual stages of two 3x3 convolutions with batch norm, each of half the resolution of the one before.

    (batch, in_channels, *spatial) to logits (batch, classes); any size from 16 on. The head is a mean over the last
    feature grid and one linear layer, for which CAM, Grad-CAM and HiResCAM are the same up to a factor
    (Zhou et al. 2016, arXiv 1512.04150; Draelos and Carin 2020, arXiv 2011.08891).

    :param width: channels of the first stage; each further stage has twice as many.
    :param dropout: of the pooled features, while training.
    """

    def __init__(
        self, spatial_dims: int, classes: int, in_channels: int = 1, width: int = 16, dropout: float = 0.3
    ) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(STAGES)]
        self.pool = Pool["MAX", spatial_dims](2)
        self.stages = nn.ModuleList(
            ResidualUnit(spatial_dims, before, after, subunits=2, norm="BATCH", act="RELU")
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.mean = Pool["ADAPTIVEAVG", spatial_dims](1)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1], classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        for number, stage in enumerate(self.stages):
            x = stage(self.pool(x) if number else x)
        logits: torch.Tensor = self.head(self.mean(x))
        return logits
