"""The backward rules against captum, literal formulae, conservation, and the promise to change nothing."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from captum.attr import Deconvolution, DeepLift, GuidedBackprop
from monai.networks.nets import UNet
from torch import nn
from torch.utils.checkpoint import CheckpointError, checkpoint

from MedXAILib.attribution.rules import deconvolution, deeplift, guided, lrp
from MedXAILib.errors import InputError

RULES = [guided, deconvolution, lrp, deeplift]
CONV, POOL = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
SIDE = 6


class Scale(nn.Module):
    """A linear layer between two others: captum does not chain the rules of neighbours rightly."""

    def forward(self, x):
        return 0.5 * x


class Net(nn.Module):
    """Convolution, activation, max pooling, convolution, activation, and three scores."""

    def __init__(self, dimensions: int, act=nn.ReLU, bias: bool = True, between=nn.Identity):
        super().__init__()
        conv, cells = CONV[dimensions - 1], (SIDE // 2) ** dimensions
        self.first, self.act1, self.between = conv(2, 4, 3, padding=1, bias=bias), act(), between()
        self.pool = POOL[dimensions - 1](2)
        self.second, self.act2 = conv(4, 3, 3, padding=1, bias=bias), act()
        self.head = nn.Linear(3 * cells, 3, bias=bias)

    def forward(self, x):
        x = self.pool(self.between(self.act1(self.first(x))))
        return self.head(self.act2(self.second(x)).flatten(1))


class Functional(Net):
    """The same without modules that a hook could find: a function, and a method whose result is dropped."""

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.first(x)), 2) if x.ndim == 4 else F.max_pool3d(F.relu(self.first(x)), 2)
        x = self.second(x)
        x.relu_()
        return self.head(x.flatten(1))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def images(dimensions: int, dtype=torch.float64, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 2, *(SIDE,) * dimensions, dtype=dtype)


def gradient(net, x, context, target=1):
    """(gradient of one score of every sample, the rule)."""
    x = x.clone().requires_grad_()
    with context as rule:
        output = net(x)
    return torch.autograd.grad(output[:, target].flatten().sum(), x)[0], rule


def deeplifted(net, x, baseline, target=1):
    """(relevance, f(x) - f(x0) of each sample)."""
    both = torch.cat([x, baseline]).requires_grad_()
    with deeplift():
        scores = net(both)[:, target].reshape(len(both), -1).sum(1)
    (found,) = torch.autograd.grad(scores[: len(x)].sum(), both)
    assert not found[len(x) :].any()
    return (x - baseline) * found[: len(x)], (scores[: len(x)] - scores[len(x) :]).detach()


def total(relevance):
    return relevance.flatten(1).sum(1)


def gradients_miss(net, x, baseline, difference):
    """By how much gradient * (x - x0) misses the difference: what a rule that does nothing would give."""
    plain, _ = gradient(net, x, nullcontext())
    return float((total(plain * (x - baseline)) - difference).abs().max())


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(("context", "oracle"), [(guided, GuidedBackprop), (deconvolution, Deconvolution)])
def test_guided_backpropagation_and_deconvolution_equal_captums(context, oracle, dimensions, device):
    net, same = Net(dimensions).double().to(device), Functional(dimensions).double().to(device)
    same.load_state_dict(net.state_dict())
    x = images(dimensions).to(device)
    expected = oracle(net).attribute(x.clone().requires_grad_(), target=1).detach()
    for form in (net, same):
        found, rule = gradient(form, x, context())
        assert rule.count == 2
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("act", [nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.Tanh])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_deeplift_equals_captums(dimensions, act, device):
    net = Net(dimensions, act, between=Scale).double().to(device)
    x, baseline = images(dimensions).to(device), 0.5 * images(dimensions).to(device)
    expected = DeepLift(net).attribute(x, baseline, target=1).detach()
    found, _ = deeplifted(net, x, baseline)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


class Unpacked(nn.Module):
    """Pools and drops the indices."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        values, indices = self.pool(x)
        assert indices.dtype == torch.int64
        return values


POOLINGS = [
    lambda n: POOL[n - 1](3, 2, 1),
    lambda n: POOL[n - 1](2, 1, dilation=2, ceil_mode=True),
    lambda n: Unpacked(POOL[n - 1](3, 2, return_indices=True)),
    lambda n: (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)[n - 1](4),
    lambda n: Unpacked(
        (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)[n - 1](4, return_indices=True)
    ),
]
ACTS = [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish]
ACTS += [nn.Softplus, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("act", ACTS)
def test_deeplift_sums_to_the_difference_for_every_activation(act, dtype, tolerance):
    net, x = Net(2, act).eval().to(dtype), images(2, dtype)
    net.first.weight.data *= 5  # into saturation
    net.second.weight.data *= 5
    baseline = torch.zeros_like(x)
    found, difference = deeplifted(net, x, baseline)
    torch.testing.assert_close(total(found), difference, rtol=tolerance, atol=tolerance)
    assert gradients_miss(net, x, baseline, difference) > 1e-3


@pytest.mark.parametrize("pooling", range(len(POOLINGS)))
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_deeplift_sums_to_the_difference_through_every_pooling(dimensions, pooling):
    net = nn.Sequential(
        CONV[dimensions - 1](2, 3, 3), nn.ReLU(), POOLINGS[pooling](dimensions), nn.Flatten(), nn.LazyLinear(3)
    )
    net(images(dimensions, torch.float32))
    net, x, baseline = net.double(), images(dimensions), images(dimensions)
    found, difference = deeplifted(net, x, baseline)
    torch.testing.assert_close(total(found), difference, rtol=1e-12, atol=1e-13)
    assert gradients_miss(net, x, baseline, difference) > 1e-3


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_where_sample_and_baseline_agree_deeplift_is_the_gradient(noise):
    """A quotient of rounding errors would be anything."""
    net = Net(2, nn.Sigmoid)
    net.first.weight.data *= 3
    x = images(2, torch.float32)
    both = torch.cat([x, x + noise * torch.randn_like(x)])
    plain = torch.autograd.grad(net(both.requires_grad_())[:, 1].sum(), both)[0]
    found, _ = gradient(net, both.detach(), deeplift())
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-3 * float(plain.abs().max()))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_deeplift_of_a_unet_sums_with_batch_normalisation_and_not_with_instance_normalisation(dimensions):
    x, error = torch.randn(2, 1, *(8,) * dimensions, dtype=torch.float64), {}
    for norm in ("batch", "instance"):
        net = UNet(dimensions, 1, 3, channels=(4, 8, 16), strides=(2, 2), num_res_units=1, norm=norm).double()
        with torch.no_grad():
            net(torch.randn_like(x))  # running statistics other than 0 and 1
        found, difference = deeplifted(net.eval(), x, torch.zeros_like(x))
        error[norm] = float(((total(found) - difference) / difference).abs().max())
    assert error["batch"] < 1e-12
    assert error["instance"] > 0.1


def matrix(layer, shape):
    """(outputs, inputs): a linear layer written out, without its bias."""
    cells = torch.Size(shape).numel()
    unit = torch.eye(cells, dtype=torch.float64).reshape(cells, *shape)
    return (layer(unit) - layer(torch.zeros_like(unit))).detach().flatten(1).T


def winners(a):
    """(outputs, inputs): 1 where the input is the first maximum of its window of 2 voxels along each axis."""
    places = torch.arange(a.numel()).reshape(a.shape)
    rows = []
    for cell in itertools.product(range(a.shape[0]), *(range(n // 2) for n in a.shape[1:])):
        window = (cell[0], *(slice(2 * n, 2 * n + 2) for n in cell[1:]))
        rows.append(places[window].flatten()[a[window].argmax()])
    return F.one_hot(torch.stack(rows), a.numel()).double()


def epsilon_rule(net, x, target, epsilon):
    """Bach et al. 2015, eq. 58, for one sample: R_i = sum_j a_i w_ij R_j / (z_j + epsilon sign z_j), layer by layer."""

    def back(layer, a, relevance):
        w, z = matrix(layer, a.shape), layer(a[None]).detach().flatten()
        return a.flatten() * (w.T @ (relevance / (z + epsilon * z.sign())))

    a1 = net.first(x[None])[0].detach().clamp(min=0)
    a2 = net.pool(a1[None])[0]
    a3 = net.second(a2[None])[0].detach().clamp(min=0)
    relevance = net.head(a3.flatten()[None])[0].detach() * F.one_hot(torch.tensor(target), 3)
    relevance = back(net.head, a3.flatten(), relevance)
    relevance = winners(a1).T @ back(net.second, a2, relevance)
    return back(net.first, x, relevance).reshape(x.shape)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_lrp_equals_the_epsilon_rule_written_out(dimensions):
    net, x, epsilon = Net(dimensions).double(), images(dimensions), 0.05
    expected = torch.stack([epsilon_rule(net, sample, 1, epsilon) for sample in x])
    found, rule = gradient(net, x, lrp(epsilon))
    score = net(x).detach()[:, 1].reshape(2, *[1] * (dimensions + 1))
    # the literal rule also stabilises the score's own layer, one factor for the whole map
    found = x * found * score / (score + epsilon * score.sign())
    assert rule.count == 2
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_lrp_without_biases_conserves_and_is_gradient_times_input(dimensions):
    net, x = Net(dimensions, bias=False).double(), images(dimensions)
    found = x * gradient(net, x, lrp(1e-14))[0]
    torch.testing.assert_close(total(found), net(x)[:, 1].detach(), rtol=1e-9, atol=1e-11)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(found, x * torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)[0], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("act", "f"), [(nn.Tanh, torch.tanh), (nn.Sigmoid, torch.sigmoid), (nn.GELU, F.gelu)])
def test_lrp_of_other_activations_is_output_over_input(act, f):
    z = torch.tensor([[-2.0, -0.3, 0.0, 0.7, 5.0]], dtype=torch.float64)
    expected = f(z) / torch.tensor([[-2.1, -0.4, 0.1, 0.8, 5.1]], dtype=torch.float64)
    for n in range(5):
        torch.testing.assert_close(gradient(act(), z, lrp(0.1), n)[0][0, n], expected[0, n], rtol=1e-12, atol=0)


class Residual(nn.Module):
    """Relies on its activation's being in place: on the skip connection, and on half of a tensor through a view."""

    def __init__(self, act):
        super().__init__()
        self.conv, self.again, self.act, self.head = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1), act, nn.Linear(2, 3)

    def forward(self, x):
        x = self.conv(x)
        y = self.again(self.act(x)) + x
        self.act(y[:, :1])
        return self.head(y.mean((2, 3)))


class Fresh(Residual):
    """The same function, nothing in place."""

    def forward(self, x):
        x = self.act(self.conv(x))
        y = self.again(x) + x
        return self.head(torch.cat([self.act(y[:, :1]), y[:, 1:]], 1).mean((2, 3)))


@pytest.mark.parametrize("context", RULES)
@pytest.mark.parametrize("act", [nn.ReLU, nn.SiLU, nn.ELU])
def test_in_place_activations_are_the_same_as_out_of_place(act, context):
    net, fresh, x = Residual(act(inplace=True)).double(), Fresh(act()).double(), images(2)
    fresh.load_state_dict(net.state_dict())
    with context():
        assert torch.equal(net(x.clone().requires_grad_()), net(x))
    (found, rule), (expected, _) = gradient(net, x, context()), gradient(fresh, x, context())
    assert rule.count == 2
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("context", RULES)
def test_one_recording_serves_every_target(context):
    net, x = Net(2).double(), images(2)
    leaf = x.clone().requires_grad_()
    with context():
        output = net(leaf)
    for target in (0, 1, 2, 0):
        (found,) = torch.autograd.grad(output[:, target].sum(), leaf, retain_graph=True)
        assert torch.equal(found, gradient(net, x, context(), target)[0])


@pytest.mark.parametrize("context", RULES)
def test_nothing_of_the_network_changes(context):
    net, x = Net(2).double().train(), images(2)
    net.second.weight.requires_grad_(False)

    def state():
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()]
        flags = [p.requires_grad for p in net.parameters()] + [m.training for m in net.modules()]
        return hooks, flags, [p.grad for p in net.parameters()]

    def plain():
        leaf = x.clone().requires_grad_()
        output = net(leaf)
        return output.detach(), torch.autograd.grad(output[:, 1].sum(), leaf)[0]

    before, weights = state(), {name: value.clone() for name, value in net.state_dict().items()}
    output, derivative = plain()
    leaf = x.clone().requires_grad_()
    with context():
        ruled = net(leaf)
        with pytest.raises(RuntimeError):
            net(leaf[:, :1])
    assert torch.equal(ruled, output)
    assert not torch.equal(torch.autograd.grad(ruled[:, 1].sum(), leaf)[0], derivative)
    assert state() == before and all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(*pair) for pair in zip(plain(), (output, derivative), strict=True))
    with pytest.raises(KeyError), context():
        raise KeyError
    assert torch.equal(plain()[1], derivative)


def test_exported_programs_follow_the_rules_and_torchscript_says_that_it_does_not():
    net, x = Net(2, lambda: nn.ReLU6(inplace=True)).double().eval(), 9 * images(2)
    program = torch.export.export(net, (x,))
    for form in (program, program.run_decompositions()):
        exported = torch.export.unflatten(form)
        for context in RULES:
            found, rule = gradient(exported, x, context())
            assert rule.count == 2
            torch.testing.assert_close(found, gradient(net, x, context())[0], rtol=1e-12, atol=1e-15)
    assert gradient(torch.jit.script(net), x, guided())[1].count == 0


class Checkpointed(Net):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
def test_under_checkpointing_a_rule_is_followed_or_refused(act):
    """The second forward pass of a checkpoint would run without the rule."""
    net, same, x = Net(2, act).double(), Checkpointed(2, act).double(), images(2)
    same.load_state_dict(net.state_dict())
    assert torch.equal(gradient(same, x, guided())[0], gradient(net, x, guided())[0])
    for context in (deconvolution, lrp, deeplift):
        with pytest.raises(CheckpointError):
            gradient(same, x, context())


def test_guided_and_deconvolution_leave_sigmoids_alone():
    net, x = Net(2, nn.Sigmoid).double(), images(2)
    leaf = x.clone().requires_grad_()
    plain = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)[0]
    for context in (guided, deconvolution):
        found, rule = gradient(net, x, context())
        assert rule.count == 0 and torch.equal(found, plain)


def test_what_cannot_be_is_said():
    with pytest.raises(InputError, match="above 0"), lrp(0):
        pass
    with pytest.raises(InputError, match="batch axis"):
        gradient(Net(2).double(), images(2, batch=3), deeplift())
