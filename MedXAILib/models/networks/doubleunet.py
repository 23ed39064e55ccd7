"""DoubleUNet: two U-Nets, the second of which sees what the first one found.

Jha, Riegler, Johansen, Halvorsen, Johansen (2020), DoubleU-Net: a deep convolutional neural network for medical image
segmentation, arXiv 2006.04868.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import ChannelSELayer, Convolution
from monai.networks.layers import Pool
from torch import nn
from torch.nn import functional

VGG19 = ((2, 1), (2, 2), (4, 4), (4, 8), (4, 8))
"""Convolutions of each block of VGG19's encoder, and their width in units of the first block's."""
DOWN = (1 / 2, 1, 2, 4)
"""Widths of the second encoder's blocks in the same units; the decoders have them in reverse."""
REDUCTION = 8
"""Of squeeze and excitation."""


class DoubleUNet(nn.Module):
    """VGG19 encoder -> ASPP -> decoder -> mask; the input times that mask -> second encoder -> ASPP -> decoder that takes
    the skips of both encoders.

    (batch, in_channels, *spatial) to logits (batch, out_channels, *spatial), those of the second U-Net; while training a
    pair, the second one's and the first one's, for a loss on each. Every side is a multiple of 16.

    Decided where the paper is silent: the mask that multiplies the input is the sigmoid of one output channel, and for
    several, exclusive ones the probability of anything but the first, the background. The paper concatenates both
    outputs; here the second one is the answer, so that a channel has one meaning.
    With ``width`` 64, 3 channels in and 1 out in 2D it has the released network's 29,288,886 parameters.

    :param width: channels of VGG19's first block (64 in the paper), a multiple of 2.
    :param dilations: of the ASPP's 3x3 convolutions.
    :param encoder_norm: batch norm in the VGG encoder too, for training from scratch; the original lacks it, and began from
        weights trained on ImageNet.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        dilations: Sequence[int] = (6, 12, 18),
        encoder_norm: bool = False,
    ) -> None:
        super().__init__()
        widths = [width * units for _, units in VGG19]
        down = [int(width * units) for units in DOWN]
        skips = widths[:-1][::-1]
        self.pool = Pool["MAX", spatial_dims](2)
        self.encoder1 = nn.ModuleList()
        channels = in_channels
        for (count, _), wide in zip(VGG19, widths, strict=True):
            self.encoder1.append(_vgg_block(spatial_dims, channels, wide, count, encoder_norm))
            channels = wide
        self.aspp1 = ASPP(spatial_dims, widths[-1], width, dilations)
        self.decoder1 = _decoder(spatial_dims, width, down[::-1], skips)
        self.output1 = Convolution(spatial_dims, down[0], out_channels, kernel_size=1, conv_only=True)
        self.encoder2 = nn.ModuleList(
            _block(spatial_dims, before, wide) for before, wide in zip([in_channels, *down], down, strict=False)
        )
        self.aspp2 = ASPP(spatial_dims, down[-1], width, dilations)
        both = [a + b for a, b in zip(skips, down[::-1], strict=True)]
        self.decoder2 = _decoder(spatial_dims, width, down[::-1], both)
        self.output2 = Convolution(spatial_dims, down[0], out_channels, kernel_size=1, conv_only=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        skips1, feature = [], x
        for number, block in enumerate(self.encoder1):
            feature = block(self.pool(feature) if number else feature)
            skips1.append(feature)
        skips1.pop()
        first = self.output1(decode(self.decoder1, self.aspp1(feature), [[skip] for skip in skips1]))

        skips2, feature = [], x * foreground(first)
        for block in self.encoder2:
            skips2.append(block(feature))
            feature = self.pool(skips2[-1])
        skips = [list(pair) for pair in zip(skips1, skips2, strict=True)]
        second = self.output2(decode(self.decoder2, self.aspp2(feature), skips))
        return (second, first) if self.training else second


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: the mean of the whole, a 1x1 convolution and dilated 3x3 ones, joined by a 1x1 one."""

    def __init__(self, spatial_dims: int, in_channels: int, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.mean = nn.Sequential(Pool["ADAPTIVEAVG", spatial_dims](1), _conv(spatial_dims, in_channels, width, 1))
        self.branches = nn.ModuleList([_conv(spatial_dims, in_channels, width, 1)])
        self.branches.extend(_conv(spatial_dims, in_channels, width, 3, dilation) for dilation in dilations)
        self.join = _conv(spatial_dims, width * (2 + len(dilations)), width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        joined: torch.Tensor = self.join(torch.cat([mean, *(branch(x) for branch in self.branches)], 1))
        return joined


def foreground(logits: torch.Tensor) -> torch.Tensor:
    """Probability (batch, 1, *spatial) of anything but the background."""
    if logits.shape[1] == 1:
        return logits.sigmoid()
    return 1 - logits.softmax(1)[:, :1]


def decode(blocks: nn.ModuleList, x: torch.Tensor, skips: Sequence[list[torch.Tensor]]) -> torch.Tensor:
    """From the bottleneck up, each time with the skips of that level (given from fine to coarse)."""
    for block, skip in zip(blocks, reversed(skips), strict=True):
        kind = "bilinear" if x.ndim == 4 else "trilinear"
        x = block(torch.cat([functional.interpolate(x, scale_factor=2.0, mode=kind), *skip], 1))
    return x


def _conv(spatial_dims: int, before: int, after: int, size: int, dilation: int = 1) -> nn.Module:
    return Convolution(
        spatial_dims, before, after, kernel_size=size, dilation=dilation, bias=False, norm="BATCH", act="RELU"
    )


def _vgg_block(spatial_dims: int, before: int, after: int, count: int, norm: bool) -> nn.Sequential:
    kind = "BATCH" if norm else None
    return nn.Sequential(
        *(Convolution(spatial_dims, after if n else before, after, norm=kind, act="RELU") for n in range(count))
    )


def _block(spatial_dims: int, before: int, after: int) -> nn.Sequential:
    """Two convolutions, then squeeze and excitation."""
    return nn.Sequential(
        _conv(spatial_dims, before, after, 3),
        _conv(spatial_dims, after, after, 3),
        ChannelSELayer(spatial_dims, after, r=min(REDUCTION, after), acti_type_1="relu"),
    )


def _decoder(spatial_dims: int, before: int, widths: Sequence[int], skips: Sequence[int]) -> nn.ModuleList:
    inputs = [below + skip for below, skip in zip([before, *widths], skips, strict=False)]
    return nn.ModuleList(_block(spatial_dims, a, b) for a, b in zip(inputs, widths, strict=True))
