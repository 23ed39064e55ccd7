"""The layers of a network: which one is explained, the stages, and where cells and tokens lie, against measurements."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from monai.networks import nets as monai
from torch import nn
from torch.nn import functional as F

from MedXAILib.models.inspection.examine import REMEMBERED
from MedXAILib.models.layers import (
    as_grid,
    coarsest_stride,
    count,
    default_layer,
    find,
    grids,
    inspect,
    last_decoder,
    stages,
)
from MedXAILib.models.networks.lesionnet import LesionNet
from MedXAILib.models.networks.meshnet import MeshNet
from MedXAILib.models.networks.slicecnn import SliceCNN


class Shortcut(nn.Module):
    """Two 3x3 convolutions beside the identity, or beside a 1x1 convolution where the size changes."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(after), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample = nn.Conv2d(before, after, 1, stride) if stride > 1 else None

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    """Modules named, and called, as in torchvision's ResNet."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Shortcut(4, 4, 1), Shortcut(4, 4, 1))
        self.layer2 = nn.Sequential(Shortcut(4, 8, 2), Shortcut(8, 8, 1))
        self.layer3 = nn.Sequential(Shortcut(8, 16, 2), Shortcut(16, 16, 1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(16, 3)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.avgpool(self.layer3(self.layer2(self.layer1(x)))).flatten(1))


class Mixer(nn.Module):
    """A transformer block, attention before or without."""

    def __init__(self, width: int, attention: bool = True):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True) if attention else None
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        if self.attention is not None:
            y = self.norm1(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, a class token in front (or the mean of all tokens), three blocks."""

    def __init__(self, patch: tuple[int, ...], size: tuple[int, ...], class_token: bool = True, width: int = 8):
        super().__init__()
        self.patches = (nn.Conv2d, nn.Conv3d)[len(patch) - 2](1, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width)) if class_token else None
        tokens = int(np.prod([n // p for n, p in zip(size, patch, strict=True)])) + class_token
        self.position = nn.Parameter(torch.randn(1, tokens, width))
        self.blocks = nn.ModuleList(Mixer(width) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0] if self.token is not None else x.mean(1))


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Merge(nn.Module):
    """Four neighbouring cells become one: (batch, rows, columns, channel) to half of each and twice the channels."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width)

    def forward(self, x):
        parts = [x[:, i::2, j::2, :] for i in (0, 1) for j in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class ChannelsLast(nn.Module):
    """As a Swin transformer keeps its tensors, without attention: each cell sees its own patch alone."""

    def __init__(self):
        super().__init__()
        self.patches, self.first = nn.Conv2d(1, 4, 4, 4), Mixer(4, attention=False)
        self.permute = Apply(lambda x: x.permute(0, 2, 3, 1))
        self.merge, self.second, self.head = Merge(4), Mixer(8, attention=False), nn.Linear(8, 3)

    def forward(self, x):
        x = self.second(self.merge(self.first(self.permute(self.patches(x)))))
        return self.head(x.mean((1, 2)))


def unet(dimensions: int = 2, **more):
    return monai.UNet(dimensions, 1, 3, channels=(4, 8, 16, 32), strides=(2, 2, 2), **more)


def dynunet(**more):
    return monai.DynUNet(2, 1, 3, [3] * 4, [1, 2, 2, 2], [2, 2, 2], filters=[4, 8, 16, 32], **more)


BOTTOM = "model.1.submodule.1.submodule.1.submodule"
"""The innermost submodule of a MONAI UNet of four levels."""
SEGMENTERS = {
    "UNet": (unet, (32, 32), BOTTOM),
    "UNet 3D, residual": (lambda: unet(3, num_res_units=2, norm="batch"), (16, 16, 16), BOTTOM),
    "BasicUNet": (lambda: monai.BasicUNet(2, 1, 3, (4, 4, 8, 16, 32, 4)), (32, 32), "down_4"),
    "UNet++": (lambda: monai.BasicUNetPlusPlus(2, 1, 3, (4, 4, 8, 16, 32, 4)), (32, 32), "conv_4_0"),
    "AttentionUnet": (lambda: monai.AttentionUnet(2, 1, 3, (4, 8, 16, 32), (2, 2, 2)), (32, 32), BOTTOM),
    "DynUNet": (dynunet, (32, 32), "bottleneck"),
    "DynUNet, deep": (lambda: dynunet(deep_supervision=True), (32, 32), "bottleneck"),
    "SegResNet": (lambda: monai.SegResNet(3, 8, 1, 3), (16, 16, 16), "down_layers.3"),
    "SegResNetDS": (lambda: monai.SegResNetDS(3, 8, 1, 3), (16, 16, 16), "encoder.layers.3.blocks"),
    "VNet": (lambda: monai.VNet(2, 1, 3, dropout_dim=2), (32, 32), "down_tr256"),
    "AutoEncoder": (lambda: monai.AutoEncoder(2, 1, 3, (4, 8, 16), (2, 2, 2)), (32, 32), "encode"),
}
CLASSIFIERS = {
    "ResNet": (ResNet, (64, 64), "layer3"),
    "DenseNet121": (lambda: monai.DenseNet121(2, 1, 3, init_features=8, growth_rate=4), (64, 64), "class_layers.relu"),
    "ResNet18": (lambda: monai.resnet18(spatial_dims=3, n_input_channels=1, num_classes=3), (32,) * 3, "layer4"),
    "SEResNet50": (lambda: monai.SEResNet50(spatial_dims=2, in_channels=1, num_classes=3), (64, 64), "layer4"),
    "EfficientNet": (lambda: monai.EfficientNetBN("efficientnet-b0", False, in_channels=1), (64, 64), "_swish#1"),
    "Classifier": (lambda: monai.Classifier((1, 32, 32), 3, (4, 8), (2, 2)), (32, 32), "net"),
    "SliceCNN": (lambda: SliceCNN(3, 16), (16, 16), "conv_layers"),
    "LesionNet": (LesionNet, (16, 16, 16), "features"),
    "MeshNet": (lambda: MeshNet(5, 3, "relu", (1, 2, 4, 1)), (16, 16, 16), "model.7"),
    "ViT": (lambda: ViT((4, 4), (16, 16)), (16, 16), "blocks.2.norm1"),
    "ViT, mean": (lambda: ViT((8, 4, 4), (16,) * 3, False), (16, 16, 16), "norm"),
    "channels last": (ChannelsLast, (32, 32), "second"),
}

LARGE = ("DenseNet121", "SEResNet50", "UNet++", "EfficientNet")


def made(case: str):
    """(network with a fixed seed, its input shape, the layer to be chosen)."""
    make, size, chosen = (SEGMENTERS | CLASSIFIERS)[case]
    torch.manual_seed(3)
    return make().eval(), (1, 1, *size), chosen


def gradients(network, x, names) -> dict[str, torch.Tensor]:
    """Of the winning class's logits, where it wins, with respect to the outputs of modules; by plain autograd."""
    calls: dict[str, list] = {}

    def hook(name):
        return lambda _module, _inputs, output: calls.setdefault(name, []).append(output) or output.clone()

    modules = dict(network.named_modules())
    bases = {name.split("#")[0] for name in names}
    handles = [modules[name].register_forward_hook(hook(name)) for name in bases]
    output = network(x)
    output = output[0] if isinstance(output, list | tuple) else output
    for handle in handles:
        handle.remove()
    winner = output.mean(tuple(a for a in range(output.ndim) if a != 1)).argmax()
    score = output[:, winner][output.argmax(1) == winner].sum()
    wanted = [calls[name.split("#")[0]][int(name.partition("#")[2] or -1)] for name in names]
    found = torch.autograd.grad(score, wanted, allow_unused=True)
    return {n: torch.zeros_like(a) if g is None else g for n, a, g in zip(names, wanted, found, strict=True)}


@pytest.mark.parametrize("case", SEGMENTERS)
def test_a_segmentation_network_is_explained_at_its_bottleneck(case):
    net, shape, chosen = made(case)
    assert default_layer(inspect(net, shape)) == (chosen, "the bottleneck")


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_a_classifier_is_explained_before_its_head(case):
    net, shape, chosen = made(case)
    name, why = default_layer(inspect(net, shape))
    assert name == chosen
    if case == "ViT":
        assert why == "the last tokens before the last attention"
    elif case in ("LesionNet", "MeshNet", "ViT, mean"):
        assert why == "the widest receptive field before the head"
    else:
        assert why == "the lowest resolution before the head"


@pytest.mark.parametrize("case", [case for case in SEGMENTERS | CLASSIFIERS if case not in LARGE])
def test_what_is_chosen_moves_the_score(case):
    net, shape, chosen = made(case)
    found = inspect(net, shape)
    layers = {layer.name: layer for layer in [find(found, chosen), *stages(found)]}
    for name, gradient in gradients(net, torch.randn(shape), list(layers)).items():
        gradient = as_grid(gradient, layers[name])
        assert gradient.shape[1:] == layers[name].shape, name
        assert gradient.abs().sum() > 0, name


def test_default_layers():
    small = monai.UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2))
    dense = monai.DenseNet121(spatial_dims=2, in_channels=1, out_channels=2)
    flat = nn.Sequential(
        *[m for d in (1, 2, 4, 1) for m in (nn.Conv3d(1, 1, 3, padding=d, dilation=d), nn.ReLU())], nn.Conv3d(1, 3, 1)
    )
    for net, size, shape in ((small, 16, (4, 4, 4)), (dense, 64, (2, 2))):
        layers = inspect(net, (1, 1, *[size] * len(shape)))
        assert find(layers, default_layer(layers)[0]).shape[1:] == shape
    assert default_layer(inspect(flat, (1, 1, 16, 16, 16))) == ("7", "the widest receptive field before the head")


class Reduced(nn.Module):
    """Attention over tokens whose keys and values are a strided convolution of them, as in CvT (with a class token) and PVT."""

    def __init__(self):
        super().__init__()
        self.norm, self.query, self.reduce = nn.LayerNorm(8), nn.Linear(8, 8), nn.Conv2d(8, 8, 2, 2)
        self.out, self.last = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, tokens):
        seen = self.norm(tokens)
        grid = seen[:, -64:].transpose(1, 2).unflatten(2, (8, 8))
        keys = self.reduce(grid).flatten(2).transpose(1, 2)
        tokens = tokens + self.out((self.query(seen) @ keys.transpose(1, 2)).softmax(-1) @ keys)
        return self.last(tokens)


class OfReduced(nn.Module):
    def __init__(self, token: bool):
        super().__init__()
        self.stem, self.token = nn.Conv2d(1, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8)) if token else None
        self.blocks, self.head = nn.Sequential(Reduced(), Reduced()), nn.Linear(8, 2)

    def forward(self, x):
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            tokens = torch.cat([self.token, tokens], 1)
        tokens = self.blocks(tokens)
        return self.head(tokens[:, 0] if self.token is not None else tokens.mean(1))


@pytest.mark.parametrize("token, chosen", [(True, "blocks.1.norm"), (False, "blocks")])
def test_keys_and_values_of_lower_resolution_are_no_bottleneck(token, chosen):
    assert default_layer(inspect(OfReduced(token), (1, 1, 32, 32)))[0] == chosen


STAGES = {
    "UNet": ["model.0", "model.1.submodule.0", BOTTOM, "model.1.submodule.1.submodule", "model.1.submodule"],
    "BasicUNet": ["conv_0", "down_1", "down_2", "down_3", "down_4", "upcat_4", "upcat_3", "upcat_2", "upcat_1"],
    "UNet++": [*(f"conv_{n}_0" for n in range(5)), *(f"upcat_{n}_{4 - n}" for n in (3, 2, 1, 0))],
    "SegResNet": [*(f"down_layers.{n}" for n in range(4)), "up_layers.0", "up_layers.1", "act_mod"],
    "DenseNet121": ["features.relu0", *(f"features.denseblock{n}" for n in (1, 2, 3)), "class_layers.relu"],
    "EfficientNet": [*(f"_blocks.{n}" for n in (0, 1, 2, 4)), "_swish#1"],
    "ResNet": ["relu", "layer1", "layer2", "layer3"],
    "SliceCNN": ["conv_layers.1", "conv_layers.4", "conv_layers"],
    "LesionNet": ["features.1", "features.2", "features.3", "features.4", "features"],
    "MeshNet": ["model.1", "model.3", "model.5", "model.7"],
    "ViT": ["blocks.0.norm1", "blocks.1.norm1", "blocks.2.norm1"],
    "channels last": ["first", "second"],
}


@pytest.mark.parametrize("case", STAGES)
def test_stages_are_the_blocks_a_reader_would_name(case):
    net, shape, _ = made(case)
    assert [layer.name for layer in stages(inspect(net, shape))] == STAGES[case]


def test_many_stages_of_one_resolution_are_thinned_out():
    net = MeshNet(2, 3, "relu", (1,) * 24)
    found = [int(layer.name.split(".")[1]) for layer in stages(inspect(net, (1, 1, 8, 8, 8)))]
    assert len(found) == 10 and found[0] == 1 and found[-1] == 47
    assert {b - a for a, b in zip(found, found[1:], strict=False)} <= {4, 6}


def test_the_last_decoder_block_is_what_follows_the_last_change_of_resolution():
    net, shape, _ = made("BasicUNet")
    names = last_decoder(inspect(net, shape))
    assert {"upcat_1", "upcat_1.upsample", "upcat_1.convs"} <= names
    assert all(name.startswith("upcat_1") for name in names)
    net, shape, _ = made("UNet")  # its last block is the head itself: the one before
    assert {"model.1", "model.1.submodule"} <= last_decoder(inspect(net, shape))
    assert BOTTOM not in last_decoder(inspect(net, shape))
    net, shape, _ = made("MeshNet")
    assert last_decoder(inspect(net, shape)) == {"model.7"}


def test_a_skip_is_joined_but_no_dense_block_and_no_branches():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 2)

        def forward(self, x):
            return torch.cat([self.one(x), self.other(x)], 1)

    branches = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), Branches(), nn.Conv2d(8, 2, 1))
    assert not any(layer.joined for layer in inspect(branches, (1, 1, 16, 16)))
    net, shape, _ = made("DenseNet121")
    assert not any(layer.joined for layer in inspect(net, shape))
    net, shape, _ = made("UNet")
    joined = {layer.name: layer.kind for layer in inspect(net, shape) if layer.joined}
    assert set(joined.values()) == {"SkipConnection"} and len(joined) == 3


def test_a_branch_that_the_output_does_not_need_is_not_chosen():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.side = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)
            self.head, self.side_head = nn.Conv2d(4, 2, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            x = self.body(x)
            return self.head(x), self.side_head(self.side(x))

    found = inspect(Auxiliary(), (1, 1, 16, 16))
    assert default_layer(found)[0] == "body" and [layer.name for layer in stages(found)] == ["body"]
    assert [layer.name for layer in grids(found)] == ["body"]


def test_a_norm_behind_the_last_convolution_belongs_to_the_head():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2), nn.PReLU())
    assert default_layer(inspect(net, (1, 1, 16, 16)))[0] == "1"


class Counted(nn.Module):
    """Counts its forward passes."""

    passes = 0

    def __init__(self, stride: int = 2):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 2, 3, stride, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        Counted.passes += 1
        return self.head(self.conv(x))


def test_the_layers_are_remembered_until_the_network_changes():
    net, shape = Counted(), (1, 1, 8, 8)

    def passes(size=shape, net=net) -> int:
        before = Counted.passes
        inspect(net, size)
        return Counted.passes - before

    assert passes() == 1 and passes() == 0
    inspect(net, shape).clear()
    assert len(inspect(net, shape)) == 2
    net.conv = nn.Conv2d(1, 2, 3, 4, 1)
    assert passes() == 1 and passes() == 0
    net.head = nn.Conv2d(2, 5, 1)
    assert passes() == 1 and passes() == 0
    net.more = nn.ReLU()
    assert passes() == 1 and passes() == 0
    net.double()
    assert passes() == 1 and passes() == 0
    assert find(inspect(net, shape), "conv").cells.stride == (4, 4)
    others = [(1, 1, 8, 8 + n) for n in range(1, REMEMBERED)]
    assert [passes(size) for size in others] == [1] * len(others) and passes() == 0
    assert passes((1, 1, 16, 16)) == 1 and passes() == 1, "the oldest of too many is forgotten"
    gone = weakref.ref(net)
    del net, passes
    gc.collect()
    assert gone() is None


def test_a_dry_pass_leaves_no_trace():
    class Forgetful(nn.Module):
        def __init__(self, part):
            super().__init__()
            self.part, self.again = part, nn.ModuleDict({"same": part})
            self.norm = nn.BatchNorm2d(1)
            self.register_buffer("count", torch.zeros(1))
            self.seen = None

        def forward(self, x):
            self.seen, self.count = x, self.count + 1
            if x.shape[2] > 64:
                raise ValueError("too large")
            return self.norm(self.again["same"](x))

    net = Forgetful(nn.Conv2d(1, 1, 3, padding=1))
    net.part.eval()
    net.norm.weight.requires_grad_(False)

    def state():
        tensors = [*net.named_parameters(remove_duplicate=False), *net.named_buffers()]
        flags = [(id(m), m.training, len(m._forward_hooks)) for m in net.modules()]
        return (
            [(n, id(t), t.device.type, t.requires_grad, float(t.detach().sum())) for n, t in tensors],
            flags,
            net.seen,
        )

    before = state()
    inspect(net, (1, 1, 8, 8))
    assert state() == before
    with pytest.raises(ValueError, match="too large"):
        inspect(net, (1, 1, 80, 80))
    assert state() == before


def test_a_network_that_needs_values_is_run_with_values():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            x = self.conv(x)
            return self.head(x if float(x.sum()) < 1e9 else -x)

    assert [layer.name for layer in inspect(Gated(), (1, 1, 8, 8))] == ["conv", "head"]


@pytest.mark.parametrize(
    "case",
    ["UNet 3D, residual", "SegResNet", "AttentionUnet", "ResNet", "EfficientNet", "ViT", "channels last", "LesionNet"],
)
def test_shapes_are_those_of_a_real_pass(case):
    net, shape, _ = made(case)
    real = []
    for name, module in net.named_modules():
        if name:
            module.register_forward_hook(lambda m, i, o, name=name: real.append((name, o)))
    found = inspect(net, shape)
    real.clear()
    with torch.no_grad():
        net(torch.zeros(shape))
    assert [layer.name.split("#")[0] for layer in found] == [name for name, _ in real]
    for layer, (name, output) in zip(found, real, strict=True):
        if isinstance(output, torch.Tensor):
            output = as_grid(output, layer) if layer.cells else output
            assert layer.shape == tuple(output.shape[1:]), name


OPERATORS = [
    lambda x: F.interpolate(x, scale_factor=2.0),
    lambda x: F.interpolate(x, (5, 9), mode="bilinear", align_corners=True),
    lambda x: F.adaptive_avg_pool2d(x, (None, 3)),
    lambda x: F.adaptive_avg_pool2d(x, 2),
    lambda x: torch.cat([x, x[:, :2]], dim=1),
    lambda x: torch.stack([x, x], -1),
    lambda x: torch.stack([x, x], 1),
    lambda x: x.mean((2, -1)),
    lambda x: x.mean(1, keepdim=True),
    lambda x: x.mean(),
    lambda x: x + x.mean((2, 3), keepdim=True) * 2 - x[:, :1] / 3,
    lambda x: 1 - x,
    lambda x: F.leaky_relu(F.relu(x, inplace=True), 0.1),
    lambda x: F.layer_norm(x, x.shape[2:]),
    lambda x: F.batch_norm(x, x.new_zeros(4), x.new_ones(4)),
    lambda x: F.group_norm(x, 2),
    lambda x: F.linear(x, x.new_zeros(3, 7)),
    lambda x: torch.roll(x, (1, 2), (2, 3)),
    lambda x: x * 1j,
    lambda x: (x > 0) * x,
]


@pytest.mark.parametrize("operator", OPERATORS)
def test_shapes_of_single_operators(operator):
    net = nn.Sequential(nn.Conv2d(1, 4, (1, 2)), Apply(operator))
    (layer,) = [layer for layer in inspect(net, (1, 1, 6, 8)) if layer.name == "1"]
    with torch.no_grad():
        real = net(torch.zeros(1, 1, 6, 8))
    assert layer.shape == tuple(real.shape[1:])


@pytest.mark.parametrize("bad", [nn.BatchNorm2d(3), nn.Linear(5, 2), nn.LayerNorm(5), nn.Conv2d(2, 1, 1)])
def test_what_does_not_fit_is_refused_as_in_a_real_pass(bad):
    net = nn.Sequential(nn.Conv2d(1, 4, 1), bad).eval()
    for run in (lambda: net(torch.zeros(1, 1, 6, 8)), lambda: inspect(net, (1, 1, 6, 8))):
        with pytest.raises((RuntimeError, ValueError)):
            run()


def test_calls_of_one_module_have_numbers():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 2, 1)

        def forward(self, x):
            return self.head(self.conv(self.conv(x)))

    found = inspect(Twice(), (1, 1, 16, 16))
    assert [layer.name for layer in found] == ["conv#0", "conv#1", "head"]
    assert [layer.name for layer in stages(found)] == ["conv#0", "conv#1"]
    assert find(found, "conv").name == "conv#1" and find(found, "conv#0").shape == (1, 8, 8)


def where(layer) -> list[int]:
    """The cell of each element of a layer along its only axis; beside a border two may be one cell."""
    arrangement = layer.arrangement
    if arrangement.cell is not None:
        return arrangement.cell.tolist()
    return arrangement.features(torch.arange(arrangement.sizes[0]).reshape(1, 1, -1)).flatten().argsort().tolist()


def test_strides_offsets_and_fields_equal_a_measurement():
    """The mean position of the input voxels that move a cell, measured with impulses, for a net of odd operators."""
    net = nn.Sequential(
        nn.Conv1d(1, 1, 3, 2, padding=0),
        nn.MaxPool1d(2),
        nn.ZeroPad1d((3, 0)),
        nn.Conv1d(1, 1, 5, padding="same", dilation=2),
        nn.ConvTranspose1d(1, 1, 4, 2, 1),
        nn.AvgPool1d(3, 1, 1),
    ).double()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    layers = {layer.name: layer for layer in inspect(net, (1, 1, 160))}
    x = torch.rand(1, 1, 160, dtype=torch.float64, requires_grad=True)
    value = x
    for name, module in net.named_children():
        value = module(value)
        if name == "1":
            continue  # a maximum has no linear centre of its own
        cells = layers[name].cells
        places = where(layers[name])
        n = value.shape[-1] // 2
        centres = []
        for cell in (n, n + 1):
            (gradient,) = torch.autograd.grad(value[0, 0, cell], x, retain_graph=True)
            used = torch.nonzero(gradient[0, 0]).flatten()
            centres.append((float(used.min() + used.max()) / 2, float(used.max() - used.min() + 1)))
        predicted = [cells.offset[0] + cells.stride[0] * places[cell] for cell in (n, n + 1)]
        # one voxel of slack: the maximum picks one of its two inputs, a transposed cell sees its inputs unevenly
        assert np.allclose([c for c, _ in centres], predicted, atol=2.01), name
        assert abs(sum(predicted) - sum(c for c, _ in centres)) / 2 <= 1.01, name


def seen(grid: torch.Tensor, x: torch.Tensor, cell: tuple[int, ...]) -> list[tuple[float, int]]:
    """(centre, extent) along each axis of the voxels of ``x`` that move one cell of (batch, channel, *cells)."""
    # channels weigh differently: the sum of what a layer norm gives is constant
    weights = torch.arange(1.0, grid.shape[1] + 1, dtype=grid.dtype) ** 2
    (gradient,) = torch.autograd.grad((grid[(0, slice(None), *cell)] * weights).sum(), x, retain_graph=True)
    used = torch.nonzero(gradient[0, 0])
    low, high = used.min(0).values, used.max(0).values
    return [(float(a + b) / 2, int(b - a + 1)) for a, b in zip(low, high, strict=True)]


def output_of(net, name: str, x) -> torch.Tensor:
    outputs = []
    handle = dict(net.named_modules())[name].register_forward_hook(lambda m, i, o: outputs.append(o))
    net(x)
    handle.remove()
    return outputs[-1]


@pytest.mark.parametrize(
    "patch, size, token",
    [
        ((4, 4), (16, 24), True),
        ((8, 4), (32, 16), False),
        ((4, 4, 4), (8, 12, 16), True),
        ((2, 4, 8), (8, 8, 16), True),
    ],
)
def test_tokens_lie_where_their_patches_are(patch, size, token):
    net = ViT(patch, size, token).double().eval()
    found = inspect(net, (1, 1, *size))
    layer = find(found, "blocks.0.norm1")
    assert (
        layer.arrangement.elements - count(layer) == int(token) and layer.cells.exact and layer.arrangement.channel == 2
    )
    assert layer.shape == (8, *(n // p for n, p in zip(size, patch, strict=True)))
    assert coarsest_stride(found) == patch
    x = torch.randn(1, 1, *size, dtype=torch.float64, requires_grad=True)
    output = output_of(net, layer.name, x)
    grid = as_grid(output, layer)
    assert grid.untyped_storage().data_ptr() == output.untyped_storage().data_ptr(), "a view"
    for cell in ((0,) * len(size), tuple(n - 1 for n in layer.shape[1:]), (1, *[0] * (len(size) - 2), 2)):
        if any(c >= n for c, n in zip(cell, layer.shape[1:], strict=True)):
            continue
        for axis, (centre, extent) in enumerate(seen(grid, x, cell)):
            assert centre == layer.cells.offset[axis] + layer.cells.stride[axis] * cell[axis]
            assert extent == patch[axis]
    assert find(found, "norm").cells.field == tuple(map(float, size))


def test_patch_tokens_after_the_last_attention_do_not_count():
    """Why the default is a layer before it."""
    net, shape, chosen = made("ViT")
    found = inspect(net, shape)
    given = gradients(net, torch.randn(shape), ["norm", chosen])
    assert not as_grid(given["norm"], find(found, "norm")).any() and given["norm"].any()
    assert as_grid(given[chosen], find(found, chosen)).abs().sum(1).all()


@pytest.mark.parametrize("size", [(32, 48), (16, 64)])
def test_channels_last_cells_lie_where_their_patches_are(size):
    torch.manual_seed(0)
    net = ChannelsLast().double().eval()
    found = inspect(net, (1, 1, *size))
    x = torch.randn(1, 1, *size, dtype=torch.float64, requires_grad=True)
    for name, stride, channels in (("permute", 4, 4), ("first", 4, 4), ("merge.norm", 8, 16), ("second", 8, 8)):
        layer = find(found, name)
        assert layer.arrangement.channel == 3 and layer.cells.exact and not layer.arrangement.carriers
        assert layer.shape == (channels, *(n // stride for n in size))
        grid = as_grid(output_of(net, name, x), layer)
        for cell in ((0, 0), (1, 3)):
            expected = [(layer.cells.offset[a] + layer.cells.stride[a] * cell[a], stride) for a in (0, 1)]
            assert seen(grid, x, cell) == expected, name


def test_tokens_of_a_convolutional_stem_lie_where_its_cells_are():
    """3x3 convolutions of strides 4 and 2 put their cells at 0, 4, 8, ... and 0, 2, 4, ...; no patch does."""

    class Hybrid(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, (2, 1), 1))
            self.block, self.head = Mixer(8), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.block(self.stem(x).flatten(2).transpose(1, 2)).mean(1))

    net = Hybrid().double().eval()
    layer = find(inspect(net, (1, 1, 32, 48)), "block.norm1")
    assert layer.shape == (8, 8, 24) and layer.arrangement.elements == 192 and layer.cells.exact
    x = torch.randn(1, 1, 32, 48, dtype=torch.float64, requires_grad=True)
    found = seen(as_grid(output_of(net, layer.name, x), layer), x, (3, 5))
    assert [centre for centre, _ in found] == [12, 10]
    assert layer.cells.stride == (4, 2) and layer.cells.offset == (0, 0)


def test_shuffled_and_exchanged_axes_keep_their_cells():
    def shuffle(x):
        return x.view(1, 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)

    def channel_norm(x):
        return F.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)

    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1),
        Apply(shuffle),
        nn.Conv2d(4, 4, 3, 2, 1),
        Apply(channel_norm),
        nn.Conv2d(4, 4, 3, 2, 1),
    ).double()
    x = torch.randn(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
    for layer in inspect(net, x.shape):
        (row, _), (column, _) = seen(output_of(net, layer.name, x), x, (3, 4))
        at = [layer.cells.offset[a] + layer.cells.stride[a] * c for a, c in enumerate((3, 4))]
        assert layer.cells.exact and [row, column] == at, layer.name


def test_what_looks_like_a_grid_is_none():
    class Lookalikes(nn.Module):
        """Flattened positions of 16 channels (as many as 4 x 4 patches), and weights of attention as large as the grid."""

        def __init__(self):
            super().__init__()
            self.conv, self.flat, self.softmax = nn.Conv2d(1, 16, 8, 8), nn.Flatten(2), nn.Softmax(-1)
            self.table, self.head = nn.Linear(2, 4), nn.Linear(16, 2)
            self.register_buffer("places", torch.zeros(1, 4, 4, 2))

        def forward(self, x):
            x = self.flat(self.conv(x))
            weights = self.softmax(x @ x.transpose(1, 2))[:, None, ::4, ::4]
            weights = self.softmax(weights @ weights)
            return self.head(x.mean(2)) + self.table(self.places).sum() * weights.sum()

    names = [layer.name for layer in inspect(Lookalikes(), (1, 1, 32, 32)) if layer.cells is not None]
    assert names == ["conv", "flat"], "positions in a row are cells too, attention's weights are none"


def test_a_class_token_behind_a_convolutional_stem_is_avoided_too():
    class Hybrid(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.transformer = nn.Conv2d(1, 1, 3, 2, 1), ViT((4, 4), (16, 16))

        def forward(self, x):
            return self.transformer(self.stem(x))

    found = inspect(Hybrid(), (1, 1, 32, 32))
    assert default_layer(found) == ("transformer.blocks.2.norm1", "the last tokens before the last attention")
    assert [layer.name for layer in stages(found)] == ["stem", "transformer.blocks.2.norm1"]


def swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


def test_a_part_in_torchscript_is_seen_through():
    script = torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()))
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), script, nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 2, 1)).eval()
    found = inspect(net, (1, 1, 32, 32))
    assert [(layer.name, layer.cells.exact) for layer in grids(found)] == [("0", True), ("2", True)]
    assert find(found, "2").cells.offset == (0, 0) and find(found, "2").cells.stride == (4, 4)
    assert [layer.name for layer in stages(found)] == ["0", "2"]
    assert net(torch.zeros(1, 1, 32, 32)).shape == (1, 2, 8, 8)
    function = torch.jit.script(swish)
    needs_values = Apply(lambda x: function(x) if float(x.sum()) < 1e9 else x)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), needs_values, nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 2, 1))
    found = inspect(net, (1, 1, 32, 32))
    assert [(layer.name, layer.cells.exact) for layer in grids(found)] == [("0", True), ("1", True), ("2", True)]


def test_an_exported_program_has_the_cells_of_the_network():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3, padding=1)).eval()
    x = torch.randn(1, 1, 16, 16)
    program = torch.export.unflatten(torch.export.export(net, (x,)))
    ours, theirs = ({layer.name: layer.cells for layer in inspect(n, x.shape)} for n in (net, program))
    assert ours == theirs and all(cells.exact for cells in ours.values())


def test_monai_transformers():
    """MONAI needs einops for them."""
    pytest.importorskip("einops")
    options = {"hidden_size": 24, "mlp_dim": 32, "num_heads": 4}
    vit = monai.ViT(1, (16,) * 3, (4, 8, 4), num_layers=2, num_classes=3, classification=True, **options)
    unetr = monai.UNETR(1, 3, (32, 32), feature_size=4, spatial_dims=2, **options)
    swin = monai.SwinUNETR(1, 3, feature_size=12, spatial_dims=2)
    cases = (
        (vit, (16, 16, 16), "blocks.1.norm1", (4, 2, 4), (4, 8, 4)),
        (unetr, (32, 32), "vit.norm", (2, 2), (16, 16)),
        (swin, (64, 64), "encoder10", (2, 2), (32, 32)),
    )
    for net, size, chosen, cells, stride in cases:
        net.eval()
        found = inspect(net, (1, 1, *size))
        name, why = default_layer(found)
        layer = find(found, name)
        assert name == chosen and layer.shape[1:] == cells and layer.cells.stride == stride and layer.cells.exact
        assert coarsest_stride(found) == stride
        assert why == ("the last tokens before the last attention" if net is vit else "the bottleneck")
        if net is not vit:
            given = gradients(net, torch.randn(1, 1, *size), [name])[name]
            assert as_grid(given, layer).abs().sum(1).all()
    names = [layer.name for layer in stages(inspect(swin, (1, 1, 64, 64)))]
    assert names[1:5] == ["swinViT.layers1.0", "swinViT.layers2.0", "swinViT.layers3.0", "encoder10"]
    assert names[5:] == [f"decoder{n}" for n in (5, 4, 3, 2, 1)]


class Pyramid(nn.Module):
    """PSPNet's head: the backbone's last stage beside itself, pooled to few cells and enlarged again."""

    def __init__(self, enlarge, bins=(1, 2, 3, 6)):
        super().__init__()
        self.backbone = nn.Sequential(
            *(part for i, o in ((1, 8), (8, 16)) for part in (nn.Conv2d(i, o, 3, 2, 1), nn.ReLU()))
        )
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveMaxPool2d(n), nn.Conv2d(16, 4, 1), nn.ReLU()) for n in bins
        )
        self.joined, self.head, self.enlarge = nn.Identity(), nn.Conv2d(16 + 4 * len(bins), 3, 1), enlarge

    def forward(self, x):
        deep = self.backbone(x)
        branches = [self.enlarge(branch(deep), deep.shape[2:]) for branch in self.branches]
        return nn.functional.interpolate(self.head(self.joined(torch.cat([deep, *branches], 1))), x.shape[2:])


def bilinear(x, size):
    return nn.functional.interpolate(x, size, mode="bilinear")


@pytest.mark.parametrize("size", [96, 192])
@pytest.mark.parametrize("enlarge", [bilinear, nn.functional.interpolate])
def test_a_branch_of_a_pyramid_is_not_chosen(enlarge, size):
    found = inspect(Pyramid(enlarge).eval(), (1, 1, size, size))
    assert default_layer(found)[0] in ("backbone", "backbone.3")
    assert find(found, "backbone").cells.stride == (4, 4)


def test_cells_that_lie_unevenly_leave_no_holes_between_them():
    """What is partly fine and partly coarse lies between both; what lies beside a crop is no hole."""
    torch.manual_seed(0)
    net = Pyramid(nn.functional.interpolate, (8,) * 9).eval()
    layer = find(inspect(net, (1, 1, 256, 256)), "joined")
    laid = layer.arrangement.lay(torch.ones(1, layer.arrangement.used))
    assert laid.shape[1:] == layer.shape[1:] and (laid == 1).all() and not layer.cells.exact
    parts = torch.rand(1, layer.arrangement.used)
    torch.testing.assert_close(layer.arrangement.lay(parts, summed=True).sum(), parts.sum())
    cut = find(inspect(Cut().eval(), (1, 1, 64, 64)), "conv")
    laid = cut.arrangement.lay(torch.ones(1, cut.arrangement.used))
    at = torch.arange(laid.shape[1]) * cut.cells.stride[0] + cut.cells.offset[0]
    assert ((laid[0, :, 0] == 1) == ((at < 15.5) | (at > 46.5))).all()


class Cut(nn.Module):
    """Sees both ends of an image alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 2, 1), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.conv(torch.cat([x[:, :, :16], x[:, :, 47:]], 2)).mean((2, 3)))
