"""The tape and Grad-CAM against captum, a literal reference, and the promise to change nothing."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerGradCam
from monai.networks.nets import DenseNet121, UNet
from torch import nn

from MedXAILib.attribution.cam import Feature, gradcam, mean_gradient
from MedXAILib.attribution.tape import record
from MedXAILib.progress import Cancelled

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
    tape = record(net, x, [layer])
    activation, gradient = tape.activations[layer], tape.gradients(lambda output: total(output, index))[layer]
    feature = Feature(activation.detach(), lambda: gradient, cells=activation[0, 0].numel())
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
        with pytest.raises(ZeroDivisionError):
            record(net, x, ["conv"])
    else:
        tape = record(net, x, ["conv"])
        tape.gradients(lambda output: output[:, 0])
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
    tape = record(net, torch.randn(1, 1, 8, 8), ["3", "5"])
    depth, node = 0, tape.output.grad_fn
    while node is not None:
        depth += "Convolution" in node.name()
        node = next((n for n, _ in node.next_functions if n is not None), None)
    assert depth == 2  # the convolutions 4 and 5, after the layer 3
    for index in range(3):
        assert set(tape.gradients(lambda output, n=index: output[:, n])) == {"3", "5"}
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
