"""Small networks with known answers, and a Model around each."""

from __future__ import annotations

import torch
from torch import nn

from MedXAILib.models.card import ModelCard
from MedXAILib.models.loading import Model


class Blob(nn.Module):
    """Its feature map is the image itself, averaged over cells; its score is the mean of the features.

    ``pad`` puts (before, after) zeros around each axis first: the cells then lie elsewhere than in the middle.
    """

    def __init__(self, dimensions: int, stride: int, kernel: int, pad: tuple[int, int] = (0, 0)):
        super().__init__()
        self.pad = pad * dimensions
        self.features = (nn.Conv2d, nn.Conv3d)[dimensions - 2](1, 1, kernel, stride, bias=False)
        nn.init.constant_(self.features.weight, 1 / kernel**dimensions)
        self.head = nn.Linear(1, 2)
        self.head.weight.data = torch.tensor([[-1.0], [1.0]])

    def forward(self, x):
        cells = self.features(nn.functional.pad(x, self.pad))
        return self.head(cells.flatten(2).mean(2))


def model(network: nn.Module, /, **card) -> Model:
    """A Model without a file: what MedXAILib.models.loading would give."""
    settings = {
        "name": "fixture",
        "task": "classification",
        "network": {"architecture": type(network).__name__},
        "weights": {"file": "none"},
        "spatial": {"mode": "whole"},
        "output": {"labels": [{"name": "no"}, {"name": "yes"}]},
    }
    card = ModelCard.model_validate(settings | card)
    return Model(card=card, network=network.eval(), device="cpu", weights_sha256="0" * 64, path="fixture.pt")
