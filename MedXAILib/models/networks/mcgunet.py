"""MCGUNet: a U-Net with dense bottleneck, squeeze and excitation, and skips fused by ConvLSTMs.

Asadi-Aghbolaghi, Azad, Fathy, Escalera (2020), Multi-level context gating of embedded collective knowledge for medical
image segmentation, arXiv 2003.05056.
"""

from __future__ import annotations

import torch
from monai.networks.blocks import ChannelSELayer, Convolution
from monai.networks.layers import Conv, Norm, Pool
from torch import nn

ENCODER = ((2, 1), (2, 2), (3, 4))
"""Convolutions of VGG16's blocks before the bottleneck, and their width in units of the first block's."""
BOTTLENECK = (3, 2, 2)
"""Convolutions of the densely connected blocks, each 8 units wide."""
REDUCTION = 16
"""Of squeeze and excitation."""


class MCGUNet(nn.Module):
    """VGG16-like encoder of three poolings, three densely connected blocks at the bottom; on the way up a transposed
    convolution, and a ConvLSTM over the two steps (upsampled feature, encoder's feature).

    (batch, in_channels, *spatial) to logits (batch, out_channels, *spatial); every side is a multiple of 8.

    Decided where the paper is silent: squeeze and excitation weighs both features that enter a ConvLSTM; a
    bidirectional ConvLSTM adds its two last states. With ``width`` 64, 3 channels in and 1 out in 2D the parameters are
    those of the released network, 27,891,005 with one direction, and 34,085,949 with both.

    :param width: channels of the first block (64 in the paper).
    :param bidirectional: whether a second ConvLSTM goes through the two steps the other way round, as the paper says
        (the released code does not).
    :param batch_norm: batch norm after every convolution, for training from scratch; the released network has it after the
        transposed ones only.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 3,
        out_channels: int = 1,
        width: int = 64,
        bidirectional: bool = True,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        norm = "BATCH" if batch_norm else None
        widths = [width * units for _, units in ENCODER]
        deep = width * 8
        self.pool = Pool["MAX", spatial_dims](2)
        self.encoder = nn.ModuleList()
        channels = in_channels
        for (count, _), wide in zip(ENCODER, widths, strict=True):
            self.encoder.append(_convs(spatial_dims, channels, wide, count, norm))
            channels = wide
        before = [widths[-1], deep, 2 * deep]
        self.dense = nn.ModuleList(
            _convs(spatial_dims, b, deep, count, norm) for b, count in zip(before, BOTTLENECK, strict=True)
        )
        self.up, self.fuse, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = deep
        for wide in reversed(widths):
            self.up.append(Up(spatial_dims, channels, wide))
            self.fuse.append(Fuse(spatial_dims, wide, bidirectional))
            self.decoder.append(_convs(spatial_dims, wide, wide, 2, norm))
            channels = wide
        self.output = nn.Sequential(
            Convolution(spatial_dims, width, 2 * out_channels, norm=norm, act="RELU"),
            Convolution(spatial_dims, 2 * out_channels, out_channels, kernel_size=1, conv_only=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        skips = []
        for block in self.encoder:
            skips.append(block(x))
            x = self.pool(skips[-1])
        first = self.dense[0](x)
        x = self.dense[2](torch.cat([self.dense[1](first), first], 1))
        for up, fuse, block in zip(self.up, self.fuse, self.decoder, strict=True):
            x = block(fuse(skips.pop(), up(x)))
        logits: torch.Tensor = self.output(x)
        return logits


class Fuse(nn.Module):
    """An encoder's feature and the decoder's, each weighed channel by channel, become one by a ConvLSTM."""

    def __init__(self, spatial_dims: int, width: int, bidirectional: bool) -> None:
        super().__init__()
        self.gates = nn.ModuleList(
            ChannelSELayer(spatial_dims, width, r=min(REDUCTION, width), acti_type_1="relu") for _ in range(2)
        )
        self.cells = nn.ModuleList(ConvLSTM(spatial_dims, width) for _ in range(1 + bidirectional))

    def forward(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        """See the class."""
        pair = [self.gates[0](skip), self.gates[1](below)]
        states = [cell(order) for cell, order in zip(self.cells, (pair[::-1], pair), strict=False)]
        fused: torch.Tensor = sum(states[1:], states[0])
        return fused


class ConvLSTM(nn.Module):
    """The last state of a convolutional LSTM (Shi et al. 2015, arXiv 1506.04214, eq. 3, without peepholes)."""

    def __init__(self, spatial_dims: int, width: int) -> None:
        super().__init__()
        self.inputs = Conv["CONV", spatial_dims](width, 4 * width, 3, padding=1)
        self.hidden = Conv["CONV", spatial_dims](width, 4 * width, 3, padding=1, bias=False)

    def forward(self, sequence: list[torch.Tensor]) -> torch.Tensor:
        """See the class."""
        state: torch.Tensor | None = None
        memory: torch.Tensor | None = None
        for x in sequence:
            gates = self.inputs(x) if state is None else self.inputs(x) + self.hidden(state)  # both start at 0
            let_in, keep, let_out, new = gates.chunk(4, 1)
            added = let_in.sigmoid() * new.tanh()
            memory = added if memory is None else keep.sigmoid() * memory + added
            state = let_out.sigmoid() * memory.tanh()
        assert state is not None, "a sequence has a step at least"
        return state


class Up(nn.Sequential):
    """A transposed convolution to twice the resolution, batch norm, ReLU."""

    def __init__(self, spatial_dims: int, before: int, after: int) -> None:
        super().__init__(
            Conv["CONVTRANS", spatial_dims](before, after, 2, 2), Norm["BATCH", spatial_dims](after), nn.ReLU()
        )


def _convs(spatial_dims: int, before: int, after: int, count: int, norm: str | None) -> nn.Sequential:
    return nn.Sequential(
        *(Convolution(spatial_dims, after if n else before, after, norm=norm, act="RELU") for n in range(count))
    )
