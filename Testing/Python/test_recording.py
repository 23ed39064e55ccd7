"""Recordings and Grad-CAM against captum, a literal reference, and the promise to change nothing."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from monai.networks.nets import DenseNet121, UNet, ViT
from torch import nn
from torch.utils.checkpoint import checkpoint

from MedXAILib import explain
from MedXAILib.attribution.cam import Feature, gradcam, mean_gradient
from MedXAILib.caveats import texts
from MedXAILib.errors import InputError, NetworkError
from MedXAILib.progress import Cancelled
from MedXAILib.recording.cache import RecordingCache
from MedXAILib.recording.record import record
from MedXAILib.recording.recording import INPUT

TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-12}


def densenet(dimensions: int) -> tuple[nn.Module, str, tuple[int, ...]]:
    """norm5 is followed by an in-place ReLU."""
    size = (64,) * dimensions
    return DenseNet121(spatial_dims=dimensions, in_channels=1, out_channels=3), "features.norm5", (2, 1, *size)


def unet(dimensions: int) -> tuple[nn.Module, str, tuple[int, ...]]:
    net = UNet(dimensions, 1, 3, channels=(4, 8, 16), strides=(2, 2), num_res_units=1, act=("relu", {"inplace": True}))
    return net, "model.1.submodule.1.submodule.conv.unit0.conv", (2, 1, *(16,) * dimensions)


def total(output: torch.Tensor, index: int) -> torch.Tensor:
    return output[:, index].flatten(1).sum(1) if output.ndim > 2 else output[:, index]


def ours(net, x, layer, index) -> torch.Tensor:
    recording = record(net, x, [layer])
    activation, gradient = recording.activations[layer], recording.gradients(lambda output: total(output, index))[layer]
    feature = Feature(activation=activation.detach(), backward=lambda own: gradient, cells=activation[0, 0].numel())
    return gradcam(feature, mean_gradient(feature))


def captums(net, x, layer, index) -> torch.Tensor:
    net.eval()

    def scores(y):
        output = net(y)
        return torch.stack([total(output, n) for n in range(3)], 1)

    cam = LayerGradCam(scores, dict(net.named_modules())[layer])
    return cam.attribute(x, target=index)[:, 0].detach()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("make", [densenet, unet])
def test_gradcam_equals_captums(make, dimensions, dtype, device):
    torch.manual_seed(0)
    net, layer, shape = make(dimensions)
    net = net.to(device, dtype).train()
    x = torch.randn(shape, dtype=dtype, device=device)
    expected = captums(net, x, layer, 1)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        found = ours(net, x, layer, 1)
    assert (found - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()


class Twice(nn.Module):
    """One convolution called twice, an in-place ReLU after each call."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(inplace=True), nn.Linear(2, 3)

    def forward(self, x, between=None):
        first = self.conv(x)
        if between is not None:
            first = between(first)
        return self.head(self.act(self.conv(self.act(first))).mean((2, 3)))


def test_of_a_module_called_twice_either_call_can_be_explained():
    torch.manual_seed(1)
    net, x = Twice().double(), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    assert torch.allclose(ours(net, x, "conv", 1), captums(net, x, "conv", 1), atol=1e-14)
    kept = {}

    def between(a):
        kept["a"] = a.detach().clone().requires_grad_()
        return kept["a"].clone()

    net(x, between)[:, 1].sum().backward()
    literal = (kept["a"].grad.mean((2, 3), keepdim=True) * kept["a"]).sum(1).detach()
    assert torch.allclose(ours(net, x, "conv#0", 1), literal, atol=1e-14)
    assert not torch.allclose(ours(net, x, "conv#0", 1), ours(net, x, "conv#1", 1))


class Fails(Twice):
    def forward(self, x):
        super().forward(x)
        raise ZeroDivisionError


@pytest.mark.parametrize("make", [Twice, Fails])
def test_nothing_of_the_users_network_is_changed(make):
    net = make()
    net.train()
    net.act.eval()
    net.head.weight.requires_grad_(False)
    grads = {name: torch.randn_like(p) for name, p in net.named_parameters()}
    for name, p in net.named_parameters():
        if p.requires_grad:
            p.grad = grads[name].clone()
    hook = net.conv.register_forward_hook(lambda *_: None)
    before = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in net.modules()
    ]
    frozen = [p.requires_grad for p in net.parameters()]
    x = torch.randn(1, 2, 8, 8)
    if make is Fails:
        with pytest.raises(NetworkError, match="ZeroDivisionError"):
            record(net, x, ["conv"])
    else:
        recording = record(net, x, ["conv"])
        recording.gradients(lambda output: output[:, 0])
    after = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in net.modules()
    ]
    assert after == before and [p.requires_grad for p in net.parameters()] == frozen
    assert all(torch.equal(p.grad, grads[n]) for n, p in net.named_parameters() if p.requires_grad)
    hook.remove()


def test_the_graph_begins_at_the_shallowest_layer_and_one_pass_serves_all():
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(6)], nn.Flatten(), nn.Linear(64, 3))
    calls = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    recording = record(net, torch.randn(1, 1, 8, 8), ["3", "5"])
    depth, node = 0, recording.output.grad_fn
    while node is not None:
        depth += "Convolution" in node.name()
        node = next((n for n, _ in node.next_functions if n is not None), None)
    assert depth == 2  # the convolutions 4 and 5, after the layer 3
    for index in range(3):
        assert set(recording.gradients(lambda output, n=index: output[:, n])) == {"3", "5"}
    assert len(calls) == 1


def test_cancelling_from_the_progress_stops_the_pass_between_two_modules():
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(6)])
    reached = []

    def progress(done, total, text):
        reached.append(done)
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        record(net, torch.randn(1, 1, 8, 8), ["1"], progress)
    assert reached == [1, 2, 3] and all(not m._forward_hooks for m in net.modules())


def gap(*hidden: nn.Module, channels: int = 2, dimensions: int = 3) -> nn.Sequential:
    """A layer of 1 x 1 cells called 0, pooling called 1, whatever is given, and one linear layer."""
    torch.manual_seed(2)
    conv, pool = ((nn.Conv2d, nn.AdaptiveAvgPool2d), (nn.Conv3d, nn.AdaptiveAvgPool3d))[dimensions - 2]
    return nn.Sequential(conv(1, channels, 1), pool(1), nn.Flatten(), *hidden, nn.Linear(channels, 3)).eval()


def slope(net, layer: int, x, score) -> torch.Tensor:
    """dS/dA behind a layer of a Sequential, which is run in two parts."""
    a = net[: layer + 1](x).detach().requires_grad_()
    return torch.autograd.grad(score(net[layer + 1 :](a.clone())).sum(), a)[0]


def test_at_the_end_of_with_the_graph_is_gone():
    kept = []
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Tanh(), nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(16, 2))
    net[1].register_forward_hook(
        lambda _, __, output: kept.append(weakref.ref(output))
    )  # what tanh keeps for its slope
    with record(net, torch.randn(1, 1, 8, 8), ["0"]) as recording:
        kept += [weakref.ref(recording.output), weakref.ref(recording.activations["0"])]
        recording.gradients(lambda output: output[:, 0])
        assert all(tensor() is not None for tensor in kept)
    gc.collect()
    assert [tensor() for tensor in kept] == [None] * 3 and not recording.activations


def test_autocast_around_the_call_changes_nothing():
    net, x = gap(nn.Linear(2, 2), nn.Tanh(), dimensions=2), torch.randn(2, 1, 8, 8)
    plain = record(net, x, ["0", INPUT])
    expected = plain.gradients(lambda output: output[:, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(x).dtype == torch.bfloat16, "else autocast does nothing here"
        recording = record(net, x, ["0", INPUT])
        found = recording.gradients(lambda output: output[:, 1])
    assert torch.equal(recording.output, plain.output)
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32 and gradient.any() and torch.equal(found[name], gradient)


@pytest.mark.parametrize("hidden", [False, True], ids=["closed", "backward"])
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_half_precision_gradients_neither_vanish_nor_overflow(hidden, scale):
    """Without a scale 0.05 / 96^3 is less than float16's smallest number; with a fixed one large gradients overflow."""
    net, x = gap(*[nn.Linear(2, 2)] * hidden), torch.randn(1, 1, 96, 96, 96)
    if scale > 1:
        x = x[..., :1, :1, :2]
    for parameter in net[3:].parameters():
        nn.init.uniform_(parameter, 0.04, 0.06)
    net[3].weight.data *= scale
    net = net.half()
    precise = copy.deepcopy(net).double()
    expected = slope(precise, 0, x.double(), lambda output: output[:, 1])
    recording = record(net, x.half(), ["0"])
    found = recording.gradients(lambda output: output[:, 1])["0"]
    assert recording.output.dtype == torch.float16 and found.dtype == torch.float32
    if scale == 1:
        assert not torch.allclose(expected.half().double(), expected, rtol=0.02, atol=0), "float16 cannot hold it"
    assert torch.allclose(found.double(), expected, rtol=2**-9, atol=0)


def test_half_precision_gradcam_is_as_precise():
    net, x = gap(nn.Linear(2, 2)), torch.rand(1, 1, 48, 48, 48)
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.02, 0.06)
    net = net.half()
    precise = copy.deepcopy(net).double()
    weights = slope(precise, 0, x.double(), lambda output: output[:, 1])
    expected = (weights.mean((2, 3, 4), keepdim=True) * precise[0](x.double())).sum(1)[0].detach().numpy()
    (found,) = explain(net, x, [1], layers=["0"])
    np.testing.assert_allclose(found.volume.array, expected, rtol=2**-8)


class Attributes(dict):
    """Its items are its attributes."""

    __getattr__ = dict.__getitem__


class Shared(dict):
    """Its items and its attributes are one dict."""

    def __init__(self, *arguments, **items):
        super().__init__(*arguments, **items)
        self.__dict__ = self


class Result(OrderedDict):
    """Its items are kept as attributes beside it, as transformers' outputs do."""

    def __init__(self, **items):
        super().__init__(**items)
        vars(self).update(items)

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)


class Pair(NamedTuple):
    first: torch.Tensor
    second: object


class Gives(nn.Module):
    """What a block gives is packed by one function and taken out by another."""

    def __init__(self, pack):
        super().__init__()
        self.conv, self.pack = nn.Conv2d(1, 2, 3), pack

    def forward(self, x):
        return self.pack(self.conv(x))


PACKED = {
    "tuple": (lambda a: (a, None), lambda o: o[0]),
    "list": (lambda a: [None, a], lambda o: o[1]),
    "dict": (lambda a: {"n": 3, "a": a}, lambda o: o["a"]),
    "nested": (lambda a: ("text", [{"a": (a,)}]), lambda o: o[1][0]["a"][0]),
    "namedtuple": (lambda a: Pair(a, {"a": 2}), lambda o: o.first),
    "inner namedtuple": (lambda a: {"pair": Pair(a, 1)}, lambda o: o["pair"].first),
    "max": (lambda a: torch.max(a, dim=3), lambda o: o.values),
    "ordered": (lambda a: OrderedDict(a=a), lambda o: o["a"]),
    "attributes": (lambda a: Attributes(a=a, n=1), lambda o: o.a),
    "shared": (lambda a: Shared(a=a, n=1), lambda o: o.a),
    "result": (lambda a: Result(a=a, n=1), lambda o: o.a),
}


@pytest.mark.parametrize("kind", PACKED)
def test_a_layer_that_gives_more_than_a_tensor_keeps_its_type(kind):
    pack, take = PACKED[kind]
    seen = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = Gives(pack), nn.Linear(2, 3)

        def forward(self, x):
            given = self.block(x)
            seen.append(given)
            return self.head(take(given).tanh_().flatten(2).mean(2))  # in place, too

    net, x = Net().double(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    plain = net(x)
    recording = record(net, x, ["block"])
    assert type(seen[1]) is type(seen[0]) and torch.equal(recording.output, plain)
    a = take(pack(net.block.conv(x))).detach().requires_grad_()
    (expected,) = torch.autograd.grad(net.head(a.tanh().flatten(2).mean(2))[:, 1].sum(), a)
    assert torch.equal(recording.activations["block"], a)
    assert torch.allclose(recording.gradients(lambda output: output[:, 1])["block"], expected, atol=1e-15)


class Modalities(nn.Module):
    """Two inputs, of which one may be left out; the first is changed in place."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 5, stride=2), nn.Linear(2, 3)

    def forward(self, mr, pet=None):
        total = self.one(mr.mul_(2)).mean((2, 3))
        return self.head(torch.tanh(total if pet is None else total * self.two(pet).mean((2, 3))))


@pytest.mark.parametrize("by_name", [True, False])
def test_several_inputs_have_a_gradient_each(by_name):
    torch.manual_seed(0)
    net = Modalities().double()
    mr, pet = (torch.randn(2, 1, n, n, dtype=torch.float64) for n in (8, 12))
    leaves = [mr.clone().requires_grad_(), pet.clone().requires_grad_()]
    expected = torch.autograd.grad(net(leaves[0] * 1, leaves[1])[:, 2].sum(), leaves)
    names = ["mr", "pet"] if by_name else ["0", "1"]
    x, kept = ({"pet": pet, "mr": mr} if by_name else (mr, pet)), mr.clone()
    wanted = [f"{INPUT}.{names[1]}", "two", f"{INPUT}.{names[0]}"]
    for layers in (wanted, wanted[:1], ["two"]):
        recording = record(net, x, layers)
        found = recording.gradients(lambda output: output[:, 2])
        assert list(found) == layers and torch.equal(mr, kept), "what was given is as it was"
        for name, one in zip(names, expected, strict=True):
            if f"{INPUT}.{name}" in layers:
                assert torch.allclose(found[f"{INPUT}.{name}"], one, atol=1e-15) and one.any()


def test_the_samples_of_a_batch_may_have_classes_of_their_own():
    net, x = gap(nn.Tanh(), dimensions=2).double(), torch.randn(4, 1, 6, 6, dtype=torch.float64)
    classes = torch.tensor([2, 0, 2, 1])
    found = record(net, x, ["0"]).gradients(lambda output: output[torch.arange(4), classes])["0"]
    for n, index in enumerate(classes):
        alone = slope(net, 0, x[n : n + 1], lambda output, c=index: output[:, c])
        assert torch.allclose(found[n : n + 1], alone, atol=1e-15) and alone.any()


class TokenNet(nn.Module):
    """A small vision transformer of torch's own blocks: a class token, then the patches row by row."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 12, 4, 4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 12)), nn.Parameter(torch.randn(1, 25, 12))
        block = nn.TransformerEncoderLayer(12, 3, 24, 0.0, batch_first=True, norm_first=True)
        self.blocks, self.head = nn.TransformerEncoder(block, 2, enable_nested_tensor=False), nn.Linear(12, 3)

    def embed(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places

    def forward(self, x):
        return self.head(self.blocks(self.embed(x))[:, 0])


def on_the_patches(tokens: torch.Tensor, score: torch.Tensor, cells: tuple[int, ...]) -> np.ndarray:
    """Grad-CAM over tokens (batch, tokens, channel), the first of which is the class token; cell by cell."""
    (gradient,) = torch.autograd.grad(score.sum(), tokens)
    a, g = tokens.detach()[:, 1:], gradient[:, 1:]
    found = np.zeros((len(a), *cells))
    for sample, number in np.ndindex(len(a), math.prod(cells)):
        weights = g[sample].mean(0)
        found[(sample, *np.unravel_index(number, cells))] = max(0.0, float(weights @ a[sample, number]))
    return found


def test_tokens_have_a_map_on_the_patch_grid():
    torch.manual_seed(3)
    net, x = TokenNet().double().eval(), torch.randn(2, 1, 16, 24, dtype=torch.float64)
    tokens = net.blocks.layers[0](net.embed(x)).detach().requires_grad_()
    expected = on_the_patches(tokens, net.head(net.blocks.layers[1](tokens)[:, 0])[:, 0], (4, 6))
    found, chosen = (explain(net, x, [0], layers=layers)[0] for layers in (["blocks.layers.0"], []))
    np.testing.assert_allclose(found.volume.array, expected, atol=1e-6 * expected.max())
    assert expected[0].any() and expected[1].any() and chosen.volume.array.any()
    np.testing.assert_allclose(found.volume.affine @ [5, 3, 1, 1], [21.5, 13.5, 1, 1])  # the last patch's middle


def test_a_transformer_that_would_run_on_nested_tensors_has_a_map_of_every_layer():
    """torch's fast path, which it takes without gradients."""

    class Masked(TokenNet):
        def __init__(self):
            super().__init__()
            block = nn.TransformerEncoderLayer(12, 2, 24, 0.0, batch_first=True)
            self.blocks = nn.TransformerEncoder(block, 2)

        def forward(self, x):
            return self.head(self.blocks(self.embed(x), src_key_padding_mask=torch.zeros(len(x), 25) > 0)[:, 0])

    torch.manual_seed(3)
    net, x = Masked().double().eval(), torch.randn(2, 1, 16, 24, dtype=torch.float64)
    tokens = net.blocks.layers[0](net.embed(x)).detach().requires_grad_()
    expected = on_the_patches(tokens, net.head(net.blocks.layers[1](tokens)[:, 0])[:, 0], (4, 6))
    before = torch.backends.mha.get_fastpath_enabled()
    (found,) = explain(net.requires_grad_(False), x, [0], layers=["blocks.layers.0"])
    np.testing.assert_allclose(found.volume.array, expected, atol=1e-6 * expected.max())
    assert expected.any() and torch.backends.mha.get_fastpath_enabled() == before


@pytest.mark.parametrize("dimensions", [2, 3])
def test_monais_vit_has_a_map_on_the_patch_grid(dimensions):
    pytest.importorskip("einops", reason="MONAI's transformers need einops")
    torch.manual_seed(4)
    size, cells = ((16, 24), (4, 6)) if dimensions == 2 else ((8, 12, 16), (2, 3, 4))
    net = ViT(1, size, (4,) * dimensions, 12, 24, 2, 3, classification=True, num_classes=3, spatial_dims=dimensions)
    net, x = net.double().eval(), torch.randn(1, 1, *size, dtype=torch.float64)
    kept = {}

    def keep(_module, _inputs, output):
        kept["a"] = output.detach().requires_grad_()
        return kept["a"]

    hook = net.blocks[0].register_forward_hook(keep)
    score = net(x)[0][:, 0]
    hook.remove()
    expected = on_the_patches(kept["a"], score, cells)
    (found,) = explain(net, x, [0], layers=["blocks.0"])
    expected = expected if dimensions == 2 else expected[0]
    assert expected.any()
    np.testing.assert_allclose(found.volume.array, expected, atol=1e-6 * expected.max())


@pytest.fixture
def no_way_back(monkeypatch):
    """No pass backwards through a network; a score's slope at the output is a single tensor's, and goes."""
    grad = torch.autograd.grad

    def guarded(outputs, inputs, *args, **kwargs):
        if isinstance(inputs, list):
            raise ZeroDivisionError
        return grad(outputs, inputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", guarded)


class Tokens(nn.Module):
    """Batch norm between a convolution and attention; its gradient, or its input as well, lies in memory as tokens do."""

    def __init__(self, twice: bool):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.again = nn.BatchNorm2d(8) if twice else None
        self.weigh, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        tokens = self.norm(self.stem(x)).flatten(2).transpose(1, 2)
        if self.again is not None:
            tokens = tokens + self.weigh(tokens)
            tokens = self.again(tokens.transpose(1, 2).unflatten(2, (4, 4))).flatten(2).transpose(1, 2)
        return self.head((tokens * self.weigh(tokens).softmax(1)).mean(1))


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_batch_norm_in_a_network_of_tokens_has_its_gradient(batch, twice):
    """Against finite differences: torch 2.13's own is wrong for a batch of one."""
    torch.manual_seed(0)
    network = Tokens(twice).double().eval()
    network.norm.running_var.uniform_(0.5, 2)
    x, step = torch.rand(batch, 1, 8, 8, dtype=torch.float64), 1e-6
    found = record(network, x, [INPUT]).gradients(lambda output: output[:, 0])[INPUT]
    steps = step * torch.eye(64, dtype=torch.float64).reshape(64, 1, 1, 8, 8)
    with torch.no_grad():
        wanted = torch.stack([(network(x + e) - network(x - e))[:, 0] / (2 * step) for e in steps], 1).reshape(x.shape)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_behind_pooling_and_one_linear_layer_nothing_goes_back_through_the_network(dimensions, no_way_back):
    net, x = gap(dimensions=dimensions).double(), torch.randn(2, 1, *(5,) * dimensions, dtype=torch.float64)
    for index in range(3):
        found = record(net, x, ["0"]).gradients(lambda output, n=index: output[:, n])["0"]
        weights = net[-1].weight[index].detach().reshape(1, 2, *[1] * dimensions)
        assert torch.allclose(found, weights.expand_as(found) / 5**dimensions, atol=1e-16)
        assert found.shape == (2, 2, *(5,) * dimensions)
    with pytest.raises(ZeroDivisionError):  # a score that is not linear goes through the head alone, a network does not
        record(net.append(nn.Tanh()), x, ["0"]).gradients(lambda output: output[:, 0])


def test_a_score_that_is_not_linear_is_no_obstacle():
    net, x = gap(dimensions=2).double(), torch.randn(2, 1, 6, 6, dtype=torch.float64)
    expected = slope(net, 0, x, lambda output: output.softmax(1)[:, 1])
    found = record(net, x, ["0"]).gradients(lambda output: output.softmax(1)[:, 1])["0"]
    assert torch.allclose(found, expected, atol=1e-16)


def test_a_relu_before_the_pooling_is_no_closed_form_though_it_changes_no_value():
    """At a cell of 0 its derivative is 0, the head's weights are not."""
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
    )
    net, x = net.double(), torch.randn(2, 1, 6, 6, dtype=torch.float64)
    with record(net, x, ["1", "2"]) as recording:
        assert recording.pooled("1") is None and recording.pooled("2") is not None
        found = recording.gradients(lambda output: output[:, 1])["1"]
    a = net[:2](x).detach().requires_grad_()
    (expected,) = torch.autograd.grad(net[2:](a)[:, 1].sum(), a)
    assert torch.allclose(found, expected, atol=1e-16) and (found == 0).any()


class To(nn.Module):
    """Goes on in another precision."""

    def __init__(self, kind: torch.dtype):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return x.to(self.kind)


@pytest.mark.parametrize("hidden", [False, True], ids=["closed", "backward"])
@pytest.mark.parametrize(("before", "after"), [("float32", "float16"), ("float16", "float32"), ("float16", "bfloat16")])
def test_precision_may_change_on_the_way(before, after, hidden):
    before, after = getattr(torch, before), getattr(torch, after)
    net, x = gap(*[nn.Linear(2, 2)] * hidden), torch.rand(1, 1, 24, 24, 24)
    net[3:].to(after)
    mixed = nn.Sequential(net[0].to(before), *net[1:3], To(after), *net[3:], To(torch.float32))
    precise = copy.deepcopy(net).double()
    expected = slope(precise, 0, x.double(), lambda output: output[:, 1])
    found = record(mixed, x.to(before), ["0"]).gradients(lambda output: output[:, 1])["0"]
    assert found.dtype == torch.float32 and torch.allclose(found.double(), expected, rtol=2**-6, atol=0)


class InPlace(nn.Module):
    """A segmentation network that scales its input first, in place or not."""

    def __init__(self, in_place: bool):
        super().__init__()
        torch.manual_seed(0)
        self.in_place, self.down, self.head = in_place, nn.Conv3d(1, 3, 3, 2, 1), nn.ConvTranspose3d(3, 2, 2, 2)

    def forward(self, x):
        return self.head(self.down(x.mul_(3).sub_(1) if self.in_place else 3 * x - 1).tanh())


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "saliency", "occlusion"])
@pytest.mark.parametrize("around", [None, torch.bfloat16])
def test_neither_in_place_input_nor_autocast_changes_an_explanation(method, around):
    x = torch.randn(1, 1, 8, 8, 12)
    kept, options = x.clone(), {"layers": ["down"] if "cam" in method else [], "windows": 8}
    (expected,) = explain(InPlace(False), x, [1], [method], **options)
    with torch.autocast("cpu", dtype=around or torch.bfloat16, enabled=around is not None):
        (found,) = explain(InPlace(True), x, [1], [method], **options)
    assert torch.equal(x, kept) and expected.volume.array.any()
    np.testing.assert_array_equal(found.volume.array, expected.volume.array)


def test_a_cache_that_nobody_holds_goes_with_its_graph():
    """The graph's hooks report progress: if they held the cache, both would stay for good, since graphs cannot be searched
    for cycles."""
    cache = RecordingCache(gap(nn.Tanh()), ["0"])
    recording = cache.recording(0, torch.randn(1, 1, 4, 4, 4))
    recording.gradients(lambda output: output[:, 1])
    left = weakref.ref(cache), weakref.ref(recording), weakref.ref(recording.output)
    del cache, recording
    assert [reference() for reference in left] == [None, None, None]


class Masked(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(
            x, self.weight * (torch.arange(self.weight.numel()) % 2).view_as(self.weight), self.bias
        )


class Flipped(nn.Linear):
    def forward(self, x):
        return super().forward(x.flip(1)) * 0.1


class LowRank(nn.Module):
    """LoRA: a linear layer, and beside it one of low rank."""

    def __init__(self, *size: int):
        super().__init__()
        self.base, self.down, self.up = nn.Linear(*size), nn.Linear(size[0], 1, False), nn.Linear(1, size[1], False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Reversal(torch.autograd.Function):
    """The value stays, its gradient changes sign (domain-adversarial training)."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Reversed(nn.Linear):
    def forward(self, x):
        return super().forward(Reversal.apply(x))


class Double(nn.Module):
    def forward(self, weight):
        return 2 * weight


def parametrised(*size: int) -> nn.Module:
    head = nn.Linear(*size)
    nn.utils.parametrize.register_parametrization(head, "weight", Double())
    return head


def patched(*size: int) -> nn.Module:
    head = nn.Linear(*size)
    head.forward = lambda x: nn.functional.linear(x, head.weight.flip(1), head.bias)
    return head


def hooked(*size: int) -> nn.Module:
    head = nn.Linear(*size)
    head.register_forward_pre_hook(lambda _, given: (given[0] * torch.tensor([3.0, -1.0, 0.5]),))
    head.register_forward_hook(lambda _, __, output: output.flip(1))
    return head


def fake_quantised(*size: int) -> nn.Module:
    return torch.ao.nn.qat.Linear(*size, qconfig=torch.ao.quantization.get_default_qat_qconfig("fbgemm"))


HEADS = {
    "linear": nn.Linear,
    "masked": Masked,
    "flipped": Flipped,
    "low rank": LowRank,
    "gradient reversal": Reversed,
    "parametrised": parametrised,
    "spectral norm": lambda *size: nn.utils.parametrizations.spectral_norm(nn.Linear(*size)),
    "old spectral norm": lambda *size: nn.utils.spectral_norm(nn.Linear(*size)),
    "weight norm": lambda *size: nn.utils.parametrizations.weight_norm(nn.Linear(*size)),
    "patched": patched,
    "hooked": hooked,
    "quantisation aware": fake_quantised,
    "two": lambda *size: nn.Sequential(nn.Linear(size[0], 4), nn.Linear(4, size[1])),
    "corner": None,  # pools a corner of the features alone
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_whatever_a_head_does_to_its_weights_the_gradient_is_autograds(kind, constant):
    torch.manual_seed(3)
    head = (HEADS[kind] or nn.Linear)(3, 2)
    pool = nn.AvgPool2d(3) if kind == "corner" else nn.AdaptiveAvgPool2d(1)
    net, x = nn.Sequential(nn.Conv2d(1, 3, 2), pool, nn.Flatten(), head).eval(), torch.rand(2, 1, 6, 6)
    x = torch.ones_like(x) if constant else x
    for index in (0, 1):
        expected = slope(net, 0, x, lambda output, n=index: output[:, n])
        found = record(net, x, ["0"]).gradients(lambda output, n=index: output[:, n])["0"]
        assert expected.any() and torch.allclose(found, expected, atol=1e-7, rtol=1e-5)


class Cut(nn.Module):
    """The way from the layers to the score is cut, or not, in one of many ways."""

    def __init__(self, how: str):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.head = how, nn.Linear(4, 3)
        self.block = nn.Sequential(nn.Conv3d(1, 3, 3, 2, 1), nn.ReLU(), nn.Conv3d(3, 4, 3, padding=1), nn.ReLU())
        if how == "quantised":
            self.head = torch.ao.quantization.quantize_dynamic(nn.Sequential(self.head), {nn.Linear}, torch.qint8)[0]

    def forward(self, x):
        if self.how == "inference_mode":
            with torch.inference_mode():
                return self.head(self.block(x).mean((2, 3, 4)))
        if "checkpoint" in self.how:
            z = checkpoint(self.block, x, use_reentrant=self.how.startswith("re-entrant"))
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.how != "no_grad"):
                z = self.block(x)
        z = {"detach": z.detach, "data": lambda: z.data, "numpy": lambda: torch.from_numpy(z.detach().numpy())}.get(
            self.how, lambda: z
        )()
        z = {"round": lambda: (100 * z).round(), "sign": lambda: (z - 0.1).sign(), "floor": lambda: 100 * z // 1}.get(
            self.how, lambda: z
        )()
        output = self.head(z.mean((2, 3, 4)))
        return nn.functional.one_hot(output.argmax(1), 3).float() if self.how == "argmax" else output


CUTS = (
    "no_grad",
    "inference_mode",
    "re-entrant checkpoint",
    "detach",
    "data",
    "numpy",
    "quantised",
    "round",
    "sign",
    "floor",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("how", CUTS)
def test_a_gradient_that_cannot_come_through_is_a_sentence_and_the_other_methods_go_on(how):
    net, x, said = Cut(how).eval(), torch.rand(1, 1, 8, 8, 8), []
    for method in ("gradcam", "saliency", "ig", "guidedbackprop"):
        with pytest.raises(
            InputError, match=r"^No gradient .*(block|head|use_reentrant|floor).*occlusion, rise, lime or shap\.$"
        ):
            explain(net, x, [1], [method], ["block.2"])
    found = explain(net, x, [1], ["all"], ["block.2"], samples=20, superpixels=4, say=said.append)
    assert {a.method for a in found} >= {"eigencam", "scorecam", "ablationcam", "occlusion", "lime", "rise", "shap"}
    assert not {a.method for a in found} & {"gradcam", "hirescam", "saliency", "smoothgrad", "ig", "deeplift"}
    assert sum("No gradient" in sentence for sentence in said) >= 12 and all("\n" not in sentence for sentence in said)
    assert {a.method: a for a in found}["occlusion"].volume.array.any()


def test_a_network_made_under_inference_mode_has_no_gradient():
    with torch.inference_mode():
        net = Cut("").eval()
    for method in ("gradcam", "saliency"):
        with pytest.raises(InputError, match=r"^No gradient .* made under torch\.inference_mode"):
            explain(net, torch.rand(1, 1, 8, 8, 8), [1], [method], ["block.2"])
    assert explain(net, torch.rand(1, 1, 8, 8, 8), [1], ["occlusion"])[0].volume.array.any()


@pytest.mark.parametrize("layer", ["block", "block.0", "block.1", "block.2", INPUT])
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "saliency", "lrp", "deeplift", "guidedbackprop"])
def test_a_checkpoint_that_is_not_re_entrant_changes_nothing(method, layer):
    x, layers = torch.rand(1, 1, 8, 8, 8), [] if layer == INPUT else [layer]
    expected, found = (explain(Cut(how).eval(), x, [1], [method], layers)[0] for how in ("", "a checkpoint"))
    assert expected.volume.array.any() and np.array_equal(found.volume.array, expected.volume.array)
    outside = (record(Cut(how).train(), x, [layer]).gradients(lambda y: y[:, 0])[layer] for how in ("", "a checkpoint"))
    assert torch.equal(*outside), "also where the pass back comes later"


class Aside(nn.Module):
    """A layer beside the way to the score; behind ``dead`` nothing is ever above 0; ``apart`` is detached."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c, self.aside, self.apart = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3), nn.Conv2d(1, 4, 3)
        self.dead, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        z = self.c(x).relu()
        dead = (self.dead(x) - 100).relu()
        return {"out": self.head((z + dead + self.apart(x).detach()).mean((2, 3))), "aside": self.aside(z)}


def test_unused_cut_and_dead_layers_are_told_apart():
    net, x = Aside().eval(), torch.rand(1, 1, 12, 12)
    with pytest.raises(InputError, match="does not depend on the layer aside"):
        record(net, x, ["aside"]).gradients(lambda y: y[:, 0])
    with pytest.raises(InputError, match="does not depend on the layer aside"):
        explain(net, x, [0], layers=["aside"])
    recording = record(net, x, ["aside", "c", "apart", "dead"])
    found = recording.gradients(lambda y: y[:, 0])
    assert [name for name in found if found[name].any()] == ["c"] and "does not depend" in recording.unused("aside")
    recording.check("c"), recording.check("aside"), recording.check("dead")
    with pytest.raises(InputError, match="No gradient .* comes to the layer apart"):
        recording.check("apart")
    one, other = explain(net, x, [0], layers=["c", "aside"])
    assert one.volume.array.any() and not other.volume.array.any()
    assert any("does not depend" in s for s in texts(other.caveats)) and not any(
        "does not depend" in s for s in texts(one.caveats)
    )
    assert not any("map is empty" in s for s in texts(other.caveats))
    (dead,) = explain(net, x, [0], layers=["dead"])
    assert any("map is empty" in s for s in texts(dead.caveats))


def test_an_input_that_the_output_does_not_use_is_a_sentence():
    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(torch.ones(len(x), 4) + 0 * len(self.c(x)))

    net, x = Deaf().eval(), torch.rand(1, 1, 8, 8)
    with pytest.raises(InputError, match="does not depend on its input"):
        explain(net, x, [0], ["saliency"])
    named = Modalities().eval()
    named.forward = lambda mr, pet: named.head(named.one(mr).mean((2, 3)))
    inputs = {"mr": torch.randn(1, 1, 8, 8), "pet": torch.randn(1, 1, 8, 8)}
    found = record(named, inputs, [f"{INPUT}.mr", f"{INPUT}.pet"]).gradients(lambda y: y[:, 0])
    assert found[f"{INPUT}.mr"].any() and not found[f"{INPUT}.pet"].any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_network_that_is_quantised_throughout_has_activations_and_no_gradient():
    quantisation = torch.ao.quantization

    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.start, self.end = quantisation.QuantStub(), quantisation.DeQuantStub()
            self.one, self.two, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, 2), nn.Linear(6, 3)

        def forward(self, x):
            return self.end(self.head(self.two(self.one(self.start(x)).relu()).mean((2, 3))))

    net, x, said = Quantised().eval(), torch.rand(2, 1, 16, 16), []
    net.qconfig = quantisation.get_default_qconfig("fbgemm")
    quantisation.prepare(net, inplace=True)
    net(x)
    quantisation.convert(net, inplace=True)
    for layer in ("one", "two"):
        with pytest.raises(InputError, match=f"^No gradient .* comes to the layer {layer}, it is lost"):
            record(net, x, [layer]).gradients(lambda y: y[:, 1])
    assert torch.equal(record(net, x, ["two"]).activations["two"], net.two(net.one(net.start(x)).relu()).dequantize())
    found = {a.method: a for a in explain(net, x, [1], ["all"], samples=8, superpixels=4, say=said.append)}
    assert {"occlusion", "lime", "rise", "shap"} <= set(found) and not {"gradcam", "saliency", "ig"} & set(found)
    assert found["occlusion"].volume.array.any() and sum("No gradient" in s for s in said) >= 8


def layered(number: int) -> nn.Module:
    """Small networks whose graphs keep different things: of norms, activations, poolings."""
    torch.manual_seed(number)
    width = 4 + number % 5 * 2
    activations = (nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU)
    norms = (
        nn.BatchNorm2d,
        lambda c: nn.GroupNorm(2, c),
        nn.InstanceNorm2d,
        lambda c: nn.Identity(),
        lambda c: nn.LocalResponseNorm(2),
    )
    layers = []
    for n in range(3 + number % 3):
        layers += [
            nn.Conv2d(width if n else 1, width, 3, padding=1),
            norms[number % 5](width),
            activations[(number // 5 + n) % 5](),
        ]
    return nn.Sequential(
        *layers, nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, 3)
    ).eval()


def test_recordings_are_counted_with_all_that_autograd_keeps():
    """Resident memory over 200 explanations of 20 networks."""
    psutil = pytest.importorskip("psutil")
    limit, x = 64 << 20, torch.rand(1, 1, 128, 128)
    networks = [layered(number) for number in range(20)]
    for network in networks:
        RecordingCache(network, ["0"], limit=limit).recording(0, x)
    before, most = psutil.Process().memory_info().rss, 0
    for network in networks:
        for _ in range(10):
            cache = RecordingCache(network, ["0"], limit=limit)
            for tile in range(30):
                recording = cache.recording(tile, x)
                if tile > 1 and tile not in cache.kept:
                    break
            most = max(most, psutil.Process().memory_info().rss - before)
            held = sum(t.size for t in cache.kept.values())
            assert limit - 2 * recording.size <= held <= limit or tile == 29
            assert recording.size > 2 * sum(a.numel() * 4 for a in recording.activations.values()), (
                "more than activations"
            )
    assert most <= 1.2 * limit, f"{most >> 20} MiB"
