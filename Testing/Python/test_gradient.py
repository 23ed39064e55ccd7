"""Methods of the input against captum, formulae written out, and what analysis says they must give; in float64 and, through
explain(), in the float32 of its maps."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from captum.attr import (
    Deconvolution,
    DeepLift,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    Saliency,
)
from torch import nn

from MedXAILib import explain
from MedXAILib.attribution.gradient import BASELINES, NOISE, InputResult, baseline
from MedXAILib.attribution.method import GradientInputs, InputMethod
from MedXAILib.attribution.registry import methods
from MedXAILib.caveats import texts
from MedXAILib.geometry.volume import Volume
from MedXAILib.preprocessing.foreground import foreground
from MedXAILib.scoring.targets import MaskTarget

SHAPE = {2: (2, 3, 8, 6), 3: (1, 3, 8, 6, 4)}
"""Two slices, one volume; of three channels."""
CONV = {2: nn.Conv2d, 3: nn.Conv3d}
DOUBLE, SINGLE = 1e-12, 1e-5
DIMENSIONS = pytest.mark.parametrize("dimensions", [2, 3])


pytestmark = pytest.mark.filterwarnings("ignore:Setting:UserWarning:captum")  # of its hooks


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """The networks are so small that threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Scale(nn.Module):
    """Between an activation and what follows: captum does not chain the rules of neighbours rightly."""

    def forward(self, x):
        return 0.5 * x


class Net(nn.Module):
    def __init__(self, dimensions: int, bias: bool = True, channels: int = 3, act=nn.ReLU):
        super().__init__()
        conv, size = CONV[dimensions], SHAPE[dimensions][2:]
        self.first, self.act1, self.between = conv(channels, 4, 3, padding=1, bias=bias), act(), Scale()
        self.second, self.act2 = conv(4, 5, 3, 2, 1, bias=bias), act()
        self.head = nn.Linear(5 * math.prod(-(-n // 2) for n in size), 3, bias=bias)

    def forward(self, x):
        return self.head(self.act2(self.second(self.between(self.act1(self.first(x))))).flatten(1))


class Linear(nn.Module):
    """No bias, no kink."""

    def __init__(self, dimensions: int):
        super().__init__()
        self.conv = CONV[dimensions](3, 2, 3, padding=1, bias=False)
        self.head = nn.Linear(2 * math.prod(SHAPE[dimensions][2:]), 3, bias=False)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


def made(make, dimensions: int, **more) -> tuple[nn.Module, torch.Tensor]:
    """A network and its input as it takes it."""
    torch.manual_seed(0)
    net = make(dimensions, **more).double().eval()
    return net, torch.randn(SHAPE[dimensions], dtype=torch.float64)


def as_volume(batch: torch.Tensor) -> torch.Tensor:
    """(channel, d0, d1, d2) of slices (d0, channel, d1, d2), or of (1, channel, d0, d1, d2)."""
    return batch.transpose(0, 1) if batch.ndim == 4 else batch[0]


def as_batch(volume: torch.Tensor, dimensions: int) -> torch.Tensor:
    return volume.transpose(0, 1) if dimensions == 2 else volume[None]


def gradient_of(net: nn.Module, classes: list[int], dimensions: int):
    """The function through which methods see a network, without tiles and recordings."""

    def gradient(x, rule=None, baseline=None, text="", scores_only=False, own=False):
        leaf = as_batch(x, dimensions).clone().requires_grad_()
        with rule() if rule else nullcontext():
            output = net(leaf if baseline is None else torch.cat([leaf, as_batch(baseline, dimensions)]))
        scores = output[: len(leaf), classes].T
        if scores_only:
            return scores.detach(), None
        slopes = [as_volume(torch.autograd.grad(s.sum(), leaf, retain_graph=True)[0]) for s in scores]
        return scores.detach(), torch.stack(slopes)

    return gradient


def run(name: str, net, x: torch.Tensor, classes: list[int], b=None, baselines=(), samples=None, seed=0) -> InputResult:
    """A method of the registry on ``x`` as the network takes it; baselines are (channel, d0, d1, d2)."""
    dimensions = x.ndim - 2
    options = {"samples": samples, "baseline": ""}
    inputs = GradientInputs(
        options=options, seed=seed, baseline=b, baselines=tuple(baselines), by_slices=dimensions == 2
    )
    return methods()[name].run(as_volume(x), gradient_of(net, classes, dimensions), inputs)


def map_of(name: str, values: torch.Tensor) -> torch.Tensor:
    """The largest absolute value over channels, or their sum: (d0, d1, d2)."""
    return methods()[name].reduce(values)


def close(found, expected, tolerance: float = DOUBLE) -> None:
    found, expected = (t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t) for t in (found, expected))
    assert found.shape == expected.shape and expected.any()
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def explained(net, x, method: str, target=1, **more) -> np.ndarray:
    (found,) = explain(net, x, [target], [method], **more)
    assert found.signed == methods()[method].signed
    return found.volume.array


def captums(kind, net, x, target: int = 1, *arguments, **more) -> torch.Tensor:
    """(channel, d0, d1, d2)."""
    return as_volume(kind(net).attribute(x.clone().requires_grad_(), *arguments, target=target, **more).detach())


@DIMENSIONS
def test_saliency_and_gradient_times_input_are_captums(dimensions):
    net, x = made(Net, dimensions)
    for name, kind in (("saliency", Saliency), ("gradxinput", InputXGradient)):
        found = run(name, net, x, [1, 2])
        for t, c in enumerate([1, 2]):
            expected = captums(kind, net, x, c)
            expected = expected.amax(0) if name == "saliency" else expected.sum(0)
            close(map_of(name, found.values[t]), expected)
            close(explained(net, x, name, c), expected, SINGLE)


@DIMENSIONS
def test_smoothgrad_is_the_mean_gradient_under_noise(dimensions):
    net, x = made(Net, dimensions)
    draws, total = torch.Generator().manual_seed(3), 0
    for _ in range(6):
        noise = torch.randn(as_volume(x).shape, generator=draws, dtype=torch.float64)
        for channel, values in zip(noise, as_volume(x), strict=True):
            channel *= 0.15 * (values.max() - values.min())
        noisy = as_batch(as_volume(x) + noise, dimensions).requires_grad_()
        total = total + as_volume(torch.autograd.grad(net(noisy)[:, 1].sum(), noisy)[0])
    close(run("smoothgrad", net, x, [1], samples=6, seed=3).values[0], total / 6)
    each = x.split(1) if dimensions == 2 else [x]  # samples of a batch have each their own range, and the same draws
    own = torch.cat([run("smoothgrad", net, one, [1], samples=6, seed=3).values[0] for one in each], 1)
    close(explained(net, x, "smoothgrad", samples=6, seed=3), own.abs().amax(0), SINGLE)
    again, other = (run("smoothgrad", net, x, [1], samples=6, seed=seed).values[0] for seed in (3, 4))
    close(again, total / 6, 0)
    assert not torch.allclose(again, other)


def test_the_noise_of_smoothgrad_has_the_deviation_it_says():
    """The gradient of x^3 / 3 is x^2, and its mean under noise x^2 + deviation^2."""
    x, setting = (
        torch.linspace(-1, 3, 4000, dtype=torch.float64).reshape(1, 10, 20, 20),
        GradientInputs(options={"samples": 50}, seed=0, baseline=None, baselines=(), by_slices=False),
    )
    found = methods()["smoothgrad"].run(x, lambda x, text: (torch.zeros(1, 1), x[None] ** 2), setting)
    assert float((found.values[0] - x**2).mean()) == pytest.approx((NOISE * 4) ** 2, rel=0.02)
    assert NOISE == 0.15


def test_on_a_linear_network_smoothgrad_is_the_gradient():
    net, x = made(Linear, 3)
    close(run("smoothgrad", net, x, [1]).values[0], captums(Saliency, net, x, abs=False))


def own_baseline(name: str, x: torch.Tensor, inside: torch.Tensor, mm: tuple[float, ...]) -> torch.Tensor:
    """Channel by channel, written out."""
    out, inside = np.zeros(x.shape), np.asarray(inside)
    for c, values in enumerate(x.numpy()):
        if name == "minimum":
            out[c] = values.min()
        if name == "mean":
            for part in (inside, ~inside):
                out[c][part] = values[part].sum() / max(part.sum(), 1)
        if name == "blurred":
            for axis, spacing in enumerate(mm):
                if spacing:
                    values = blurred(values, axis, 10 / spacing)
            out[c] = values
    return torch.from_numpy(out)


def blurred(values: np.ndarray, axis: int, sigma: float) -> np.ndarray:
    """A Gaussian cut off at four deviations; the outermost voxels go on for ever."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, [(reach, reach) if n == axis else (0, 0) for n in range(3)], mode="edge")
    return np.apply_along_axis(lambda line: np.convolve(line, kernel, "valid"), axis, padded)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("mm", [(4.0, 5.0, 2.5), (0.0, 2.5, 5.0)])
def test_a_baseline_is_what_its_name_says(name, mm):
    x = torch.randn(2, 5, 8, 6, dtype=torch.float64)
    inside = torch.zeros(5, 8, 6, dtype=torch.bool)
    inside[1:4, 2:7, 1:5] = True
    found, expected = baseline(name, x, inside, mm), own_baseline(name, x, inside, mm)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert expected.any() or name == "zero"


def baselines_of(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """All of them as explain() must make them of a tensor: its voxels are 1 mm wide, and each sample has its own."""
    parts = [as_volume(part) for part in (x.split(1) if x.ndim == 4 else [x])]
    insides = [foreground(part.movedim(0, -1).numpy()) for part in parts]
    mm = int(x.ndim == 5), 1, 1
    return {
        name: torch.cat([own_baseline(name, *pair, mm) for pair in zip(parts, insides, strict=True)], 1)
        for name in BASELINES
    }


@pytest.mark.parametrize("name", BASELINES)
@DIMENSIONS
def test_integrated_gradients_are_captums(dimensions, name):
    net, x = made(Net, dimensions)
    b = baselines_of(x)[name]  # of 16 steps: captum's weights are float32, and so exact
    other = as_batch(b, dimensions).contiguous()
    expected = captums(IntegratedGradients, net, x, 1, other, n_steps=16, method="riemann_middle")
    close(run("ig", net, x, [1], b, samples=16).values[0], expected)
    close(explained(net, x, "ig", baseline=name, samples=16), expected.sum(0), SINGLE)


@pytest.mark.parametrize("name", ["ig", "expgrad", "deeplift"])
@DIMENSIONS
def test_maps_are_complete(dimensions, name):
    """They add up to S(x) - S(b), slice by slice; expected gradients to S(x) - mean S(b)."""
    net, x = made(Net, dimensions, act=nn.Softplus)
    every = list(baselines_of(x).values())
    found = run(name, net, x, [1], every[0], every, samples=200)
    bottoms = [net(as_batch(b, dimensions))[:, 1] for b in (every if name == "expgrad" else every[:1])]
    wanted = (net(x)[:, 1] - sum(bottoms) / len(bottoms)).detach().numpy()
    sums = found.values[0].sum((0, 2, 3) if dimensions == 2 else None).reshape(-1).numpy()
    worst = int(np.abs(sums - wanted).argmax())
    assert abs(sums - wanted)[worst] < 0.01 * np.abs(wanted).max()
    ((said,),) = map(texts, found.caveats)
    adds_up, differs = map(float, re.search(r"adds up to (\S+), the score differs .* by ([-\d.e]+)", said).groups())
    assert adds_up == pytest.approx(sums[worst], rel=1e-3) and differs == pytest.approx(wanted[worst], rel=1e-3)
    assert "Unreliable" not in said


def test_a_map_that_is_not_complete_says_so():
    net, x = made(Net, 3, act=nn.Tanh)
    (found,) = explain(net, 10 * x, [1], ["ig"], samples=1)
    assert any(
        "Completeness" in s and "Unreliable: do not interpret this map; raise --samples" in s
        for s in texts(found.caveats)
    )


@DIMENSIONS
def test_on_a_linear_network_without_biases_integrated_gradients_are_gradient_times_input(dimensions):
    net, x = made(Linear, dimensions)
    weights = captums(Saliency, net, x, abs=False)
    zero = torch.zeros_like(as_volume(x))
    for steps in (1, 7):
        close(run("ig", net, x, [1], zero, samples=steps).values[0], as_volume(x) * weights)
    close(run("gradxinput", net, x, [1]).values[0], as_volume(x) * weights)
    close(explained(net, x, "ig", baseline="zero", samples=3), explained(net, x, "gradxinput"), SINGLE)


@DIMENSIONS
def test_on_a_linear_network_expected_gradients_are_the_weights_times_the_distance_to_the_mean(dimensions):
    """Whatever the number of samples: each baseline counts alike."""
    net, x = made(Linear, dimensions)
    references = [torch.randn_like(x) for _ in range(3)]
    weights = captums(Saliency, net, x, abs=False)
    expected = (as_volume(x) - as_volume(sum(references) / 3)) * weights
    for samples in (3, 7, 50):
        found = run("expgrad", net, x, [1], baselines=[as_volume(r) for r in references], samples=samples)
        close(found.values[0], expected)
    close(explained(net, x, "expgrad", references=references, samples=6), expected.sum(0), SINGLE)


@DIMENSIONS
def test_expected_gradients_are_the_mean_over_baselines_and_ways(dimensions):
    """Against plain Monte Carlo, within five standard errors of it, and on the whole within less."""
    net, x = made(Net, dimensions, act=nn.Tanh)
    x = 2 * x
    baselines = [torch.randn_like(x) for _ in range(3)]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(400):
        b = baselines[rng.integers(3)]
        at = (b + rng.uniform() * (x - b)).requires_grad_()
        drawn.append(as_volume((x - b) * torch.autograd.grad(net(at)[:, 1].sum(), at)[0]))
    drawn = torch.stack(drawn)
    found = run("expgrad", net, x, [1], baselines=[as_volume(b) for b in baselines], samples=400, seed=1).values[0]
    error = drawn.std(0) / math.sqrt(400)
    assert ((found - drawn.mean(0)).abs() < 5 * math.sqrt(2) * error).all()
    assert float(error.mean()) < 0.1 * float(found.abs().mean())


@DIMENSIONS
@pytest.mark.parametrize(("name", "kind"), [("guidedbackprop", GuidedBackprop), ("deconvnet", Deconvolution)])
def test_guided_backpropagation_and_deconvolution_are_captums(name, kind, dimensions):
    net, x = made(Net, dimensions)
    expected = captums(kind, net, x)
    close(map_of(name, run(name, net, x, [1]).values[0]), expected.abs().amax(0))
    close(explained(net, x, name), expected.abs().amax(0), SINGLE)
    (found,) = explain(net, x, [1], [name])
    assert any("randomisation check" in sentence for sentence in texts(found.caveats))


@DIMENSIONS
def test_deeplift_is_captums(dimensions):
    net, x = made(Net, dimensions)
    for name in ("minimum", "zero"):
        b = baselines_of(x)[name]
        expected = captums(DeepLift, net, x, 1, as_batch(b, dimensions).contiguous())
        close(run("deeplift", net, x, [1], b).values[0], expected, 1e-10)
        close(explained(net, x, "deeplift", baseline=name), expected.sum(0), SINGLE)


@DIMENSIONS
def test_without_biases_lrp_is_gradient_times_input_and_says_what_it_adds_up_to(dimensions):
    net, x = made(Net, dimensions, bias=False)
    (found,) = explain(net, x, [1], ["lrp"])
    close(found.volume.array, captums(InputXGradient, net, x).sum(0), 1e-3)  # its epsilon is 1e-6
    score = net(x)[:, 1].sum().item()
    (said,) = [s for s in texts(found.caveats) if s.startswith("Relevance")]
    adds_up, of = map(float, re.search(r"adds up to (\S+) of a score of (\S+);", said).groups())
    assert of == pytest.approx(score, rel=1e-3) and adds_up == pytest.approx(score, rel=1e-2)


@DIMENSIONS
def test_guided_gradcam_is_guided_backpropagation_times_upsampled_gradcam(dimensions):
    """The layer's stride is 2, its kernel 3, its padding 1: cell n lies at voxel 2 n."""
    net, x = made(Net, dimensions)
    coarse = LayerGradCam(net, net.second).attribute(x.clone().requires_grad_(), target=1)[:, 0].detach().relu().numpy()
    fine = coarse if dimensions == 2 else coarse[0]
    for axis, n in enumerate(fine.shape):
        size = as_volume(x).shape[1 + axis]
        at = np.arange(size) * n / size
        fine = np.apply_along_axis(lambda line, at=at, n=n: np.interp(at, np.arange(n), line), axis, fine)
    expected = captums(GuidedBackprop, net, x).abs().amax(0).numpy() * fine
    (found,) = explain(net, x, [1], ["guidedgradcam"], ["second"])
    close(found.volume.array, expected, SINGLE)
    assert found.provenance["layer"] == "second"


class Pair(nn.Module):
    """Two inputs by name, one of them through more than the other."""

    def __init__(self, dimensions: int):
        super().__init__()
        conv, size = CONV[dimensions], SHAPE[dimensions][2:]
        self.a, self.b, self.act = conv(1, 2, 3, padding=1), conv(1, 2, 3, padding=1), nn.Tanh()
        self.head = nn.Linear(2 * math.prod(size), 3)

    def forward(self, mr, pet):
        return self.head((self.act(self.a(mr)) * self.b(pet)).flatten(1))


class Channels(Pair):
    """The same network, whose one input has both as channels."""

    def forward(self, x):
        return super().forward(x[:, :1], x[:, 1:])


@DIMENSIONS
def test_several_named_inputs_have_a_map_each(dimensions):
    pair, x = made(Pair, dimensions)
    channels, _ = made(Channels, dimensions)
    mr, pet = x[:, :1].clone(), x[:, 1:2].clone()
    own = tuple(range(1 if dimensions == 2 else 0, x.ndim))  # each sample of a batch has its own air
    lowest = tuple(v.amin(own, keepdim=True).expand_as(v).clone() for v in (mr, pet))
    slopes = Saliency(pair).attribute((mr.requires_grad_(), pet.requires_grad_()), target=1)
    ways = IntegratedGradients(pair).attribute((mr, pet), lowest, target=1, n_steps=9, method="riemann_middle")
    expected = {("saliency", n): v for n, v in zip(("mr", "pet"), slopes, strict=True)}
    expected |= {("ig", n): v for n, v in zip(("mr", "pet"), ways, strict=True)}
    for net, inputs in ((pair, {"pet": pet, "mr": mr}), (channels, {"mr": mr, "pet": pet})):
        found = explain(net, inputs, [1], ["ig", "saliency"], samples=9)
        assert [(a.method, a.layer) for a in found] == [(m, f"input-{n}") for m in ("ig", "saliency") for n in inputs]
        for a in found:
            close(a.volume.array, as_volume(expected[a.method, a.layer[6:]])[0], SINGLE)


def test_slices_that_are_not_asked_for_are_zero():
    net, x = made(Net, 2)
    every, one = explained(net, x, "saliency"), explained(net, x, "saliency", slices="1:2")
    assert np.array_equal(one[1], every[1]) and not one[0].any() and every[0].any()


def test_over_windows_gradients_are_those_of_the_stitched_score():
    """Each voxel of the region lies two voxels and more, which is what the network's output sees, from the ends of the
    windows that hold it: what they give together is then what the whole gives."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv3d(3, 2, 3, padding=1)).double().eval()
    x = torch.randn(1, 1, 24, 8, 8, dtype=torch.float64)
    region = np.ones((24, 8, 8), np.uint8)
    region[[8, 9, 14, 15]] = 0  # windows hold 0 to 15 and 8 to 23
    target = MaskTarget(Volume(region, np.eye(4)), 1)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(leaf)[0, 1][torch.from_numpy(region) > 0].sum(), leaf)
    for name, expected in (("saliency", slope.abs()), ("gradxinput", slope * x)):
        close(explained(net, x, name, target, windows=(16, 8, 8)), expected[0, 0], SINGLE)


def test_every_method_of_the_input_was_looked_at_here():
    looked_at = ["saliency", "gradxinput", "smoothgrad", "ig", "expgrad", "deeplift", "lrp"]
    looked_at += ["guidedbackprop", "deconvnet", "guidedgradcam"]
    assert set(looked_at) == {name for name, m in methods().items() if isinstance(m, InputMethod)}


def test_an_error_of_completeness_is_explained_by_its_method():
    """DeepLIFT and LRP have no samples; what they do not follow is what their sentences name."""

    class Normed(Net):
        def __init__(self, dimensions):
            super().__init__(dimensions)
            self.between = nn.GroupNorm(1, 4)

    net, x = made(Normed, 2)
    for samples in (3, 300):
        (found,) = explain(net, x, [1], ["deeplift"], samples=samples, baseline="zero")
        (said,) = [s for s in texts(found.caveats) if "Completeness" in s]
        assert "sample's own statistics" in said and "more --samples" not in said
    (found,) = explain(net, x, [1], ["lrp"])
    (said,) = [s for s in texts(found.caveats) if "Relevance" in s]
    assert "biases" in said and "sample's own statistics" in said


class Strided(nn.Module):
    """Two channels, four classes; nothing in it is a mean over the batch."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.Tanh())
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


@pytest.mark.parametrize("name", [name for name, m in methods().items() if m.task != "segmentation"])
def test_a_samples_map_is_its_own_whatever_its_batch(name):
    """Of a bare network given a batch of arrays: baselines, noise, fills, superpixels and draws."""
    torch.manual_seed(0)
    net, x = Strided().double().eval(), torch.rand(3, 2, 16, 12, dtype=torch.float64)
    x = x * torch.tensor([1, 5, 0.1]).reshape(3, 1, 1, 1) - torch.tensor([0, 2, 9.0]).reshape(3, 1, 1, 1)
    options = {"slices": "all", "samples": 12, "superpixels": 5, "layers": ["features"]}
    takes = {option.name for option in methods()[name].options}
    for base in BASELINES if "baseline" in takes else BASELINES[:1]:
        (together,) = explain(net, x, [1], [name], baseline=base, **options)
        for n in range(3):
            (alone,) = explain(net, x[n : n + 1], [1], [name], baseline=base, **options)
            close(together.volume.array[n], alone.volume.array[0], 1e-6)


def test_slices_of_one_volume_share_its_air():
    """It is the volume's least value, though a slice may have none; of a batch of arrays each has its own."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(48, 2, bias=False))
    array = (np.random.default_rng(0).random((2, 8, 6)) + [[[0]], [[5]]]).astype(np.float32)
    (shared,) = explain(net, Volume(array, np.eye(4)), [1], ["ig"], samples=2)
    (own,) = explain(net, torch.from_numpy(array[:, None]), [1], ["ig"], samples=2)
    for found, air in ((shared, array.min()), (own, array.min((1, 2), keepdims=True))):
        with torch.no_grad():
            expected = net(torch.from_numpy(array - air)[:, None])[:, 1]
        np.testing.assert_allclose(found.volume.array.sum((1, 2)), expected, rtol=1e-4)
