"""R2UNet: a U-Net of recurrent residual blocks.

Alom, Hasan, Yakopcic, Taha, Asari (2018), Recurrent residual convolutional neural network based on U-Net (R2U-Net) for
medical image segmentation, arXiv 1802.06955.
"""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Pool
from torch import nn

LEVELS = 5
Norm = str | tuple[str, dict[str, bool]]
"""As MONAI takes it: a name, or that and its arguments."""


class R2UNet(nn.Module):
    """Five levels, each a :class:`RecurrentResidual` block; max pooling down, upsampling and a convolution up.

    (batch, in_channels, *spatial) to logits (batch, out_channels, *spatial); every side is a multiple of 16.

    Decided where the paper is silent: batch norm after every 3x3 convolution, one for all steps of a recurrence as the
    weights are; upsampling by the nearest cell. With ``width`` 64, 3 channels in and 1 out in 2D it has the released
    network's 39,091,393 parameters, whatever ``steps`` is.

    :param width: channels of the first level (64 in the paper); each further level has twice as many.
    :param steps: t of the recurrence: a recurrent convolution is applied t + 1 times.
    :param instance_norm: instead of batch norm, whose running mean and variance stand for all steps of a recurrence and
        are right for none: in 3D with few cases the network then fails outside its training mode (see the recipe).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        steps: int = 2,
        instance_norm: bool = False,
    ) -> None:
        super().__init__()
        norm: Norm = ("INSTANCE", {"affine": True}) if instance_norm else "BATCH"
        widths = [width * 2**level for level in range(LEVELS)]
        self.pool = Pool["MAX", spatial_dims](2)
        self.encoder = nn.ModuleList(
            RecurrentResidual(spatial_dims, before, after, steps, norm)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        up = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(Up(spatial_dims, below, wide, norm) for below, wide in up)
        self.decoder = nn.ModuleList(RecurrentResidual(spatial_dims, 2 * wide, wide, steps, norm) for _, wide in up)
        self.output = Convolution(spatial_dims, width, out_channels, kernel_size=1, conv_only=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        skips = []
        for number, block in enumerate(self.encoder):
            x = block(self.pool(x) if number else x)
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], 1))
        logits: torch.Tensor = self.output(x)
        return logits


class Recurrent(nn.Module):
    """A convolution with batch norm and ReLU whose output is added to its input and goes in again, ``steps`` times."""

    def __init__(self, spatial_dims: int, width: int, steps: int, norm: Norm) -> None:
        super().__init__()
        self.conv = Convolution(spatial_dims, width, width, norm=norm, act="RELU")
        self.steps = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        state: torch.Tensor = self.conv(x)
        for _ in range(self.steps):
            state = self.conv(x + state)
        return state


class RecurrentResidual(nn.Module):
    """A 1x1 convolution to the block's width, then two recurrent convolutions, and the former's output added."""

    def __init__(self, spatial_dims: int, before: int, after: int, steps: int, norm: Norm) -> None:
        super().__init__()
        self.match = Convolution(spatial_dims, before, after, kernel_size=1, conv_only=True)
        self.recurrent = nn.Sequential(*(Recurrent(spatial_dims, after, steps, norm) for _ in range(2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.match(x)
        added: torch.Tensor = x + self.recurrent(x)
        return added


class Up(nn.Sequential):
    """Twice the resolution, then a convolution with batch norm and ReLU."""

    def __init__(self, spatial_dims: int, before: int, after: int, norm: Norm) -> None:
        super().__init__(nn.Upsample(scale_factor=2.0), Convolution(spatial_dims, before, after, norm=norm, act="RELU"))
