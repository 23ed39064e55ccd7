"""UNetClassifier: a U-Net whose every stage, down and up, takes part in a multi-label classification.

Explainable AI for multi-label chest X-ray diagnosis: layer-wise Grad-CAM with hierarchical feature extraction (2025; only
the abstract is public): encoder and decoder outputs are concatenated as the feature, 14 observations of MIMIC-CXR.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.layers import Pool
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import nn

CHEXPERT = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The observations in CheXpert's order (Irvin et al. 2019, arXiv 1901.07031). MIMIC-CXR's "Airspace Opacity" is "Lung Opacity"."""
LEVELS = 5


class UNetClassifier(nn.Module):
    """The means of every encoder stage, the bottleneck and every decoder stage, concatenated -> dropout -> linear.

    (batch, in_channels, *spatial) to logits (batch, classes), each to be squashed by a sigmoid of its own; any size from
    16 on. Were the deepest features pooled alone, no stage of the decoder would have a part in the score.

    Decided where the abstract is silent: five levels, two 3x3 convolutions with batch norm and ReLU each, global average
    pooling, dropout of one half.

    :param classes: number of labels; by default the 14 of :data:`CHEXPERT`, in this order.
    :param width: channels of the first level (64); each further level has twice as many.
    """

    def __init__(
        self,
        spatial_dims: int,
        classes: int = len(CHEXPERT),
        in_channels: int = 1,
        width: int = 64,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        rest: dict[str, Any] = {"act": "RELU", "norm": "BATCH", "bias": False}
        pairs = list(zip(widths, widths[1:], strict=False))
        self.encoder = nn.ModuleList([TwoConv(spatial_dims, in_channels, width, **rest)])
        self.encoder.extend(Down(spatial_dims, fine, coarse, **rest) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(
            UpCat(spatial_dims, coarse, fine, fine, **rest, halves=True) for fine, coarse in reversed(pairs)
        )
        self.mean = Pool["ADAPTIVEAVG", spatial_dims](1)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(sum(widths) + sum(widths[:-1]), classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        features = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        skips = features[-2::-1]
        for stage, skip in zip(self.decoder, skips, strict=True):
            x = stage(x, skip)
            features.append(x)
        logits: torch.Tensor = self.head(torch.cat([self.mean(feature).flatten(1) for feature in features], 1))
        return logits
