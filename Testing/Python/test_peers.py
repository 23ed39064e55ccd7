"""What other libraries get wrong, one test for each defect: here it is right, and theirs still fails where it is at hand.

Number 5 (occlusion guesses the activation from the input's channels) stands in test_perturbation.py.
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from fixture_nets import Blob
from monai.data import MetaTensor
from monai.networks.nets import DenseNet121
from monai.visualize import GradCAM, SmoothGrad, VanillaGrad
from monai.visualize.class_activation_maps import ModelWithHooks
from scipy.ndimage import zoom
from torch import nn

from MedXAILib import explain
from MedXAILib.attribution.method import LayerMethod, QueryMethod
from MedXAILib.attribution.registry import methods
from MedXAILib.caveats import texts
from MedXAILib.errors import InputError
from MedXAILib.findings.regions import hot_regions
from MedXAILib.geometry.volume import Volume
from MedXAILib.mrml.overlay import display_limit
from MedXAILib.recording.record import record

# of a peer, and of torch's own export
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing", "ignore::FutureWarning")
CONV, POOL = (nn.Conv2d, nn.Conv3d), (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def classifier(dimensions: int = 2, inplace: bool = False, seed: int = 0) -> nn.Sequential:
    """Three classes; its layers are called 0 to 6."""
    torch.manual_seed(seed)
    conv, pool = CONV[dimensions - 2], POOL[dimensions - 2]
    layers = conv(1, 4, 3, padding=1), nn.ReLU(inplace), conv(4, 5, 3, 2, 1), nn.ReLU(inplace)
    return nn.Sequential(*layers, pool(1), nn.Flatten(), nn.Linear(5, 3)).double().eval()


def segmenter(dimensions: int = 2) -> nn.Sequential:
    """Three classes, the first of them background."""
    torch.manual_seed(1)
    conv = CONV[dimensions - 2]
    net = nn.Sequential(conv(1, 4, 3, 2, 1), nn.ReLU(), nn.Upsample(scale_factor=2), conv(4, 3, 3, 1, 1))
    return net.double().eval()


def noise(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def literal(net: nn.Sequential, layer: int, x: torch.Tensor, score) -> np.ndarray:
    """Grad-CAM behind a layer, (batch, *cells); the network is run in two parts."""
    with torch.inference_mode(False), torch.enable_grad():
        a = net[: layer + 1](x).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(score(net[layer + 1 :](a.clone())).sum(), a)
    spatial = tuple(range(2, x.ndim))
    return (gradient.mean(spatial, keepdim=True) * a).sum(1).relu().detach().numpy()


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """To single precision, and not both zero."""
    return expected.any() and found.shape == expected.shape and np.abs(found - expected).max() <= 2e-6 * expected.max()


def maps(*arguments, **options) -> list[np.ndarray]:
    return [a.volume.array for a in explain(*arguments, **options)]


def test_defect_01_predicted_classes_of_a_batch_are_not_summed_over_its_samples():
    """MONAI: with ``class_idx=None`` every sample is explained by the sum of all samples' predicted classes."""
    net, x = classifier(), noise(3, 1, 8, 8)
    x[2] -= 3
    logits = net(x)
    own = logits.argmax(1)
    assert len(own.unique()) > 1, "else there is nothing to mix up"
    top = int(logits.softmax(1).amax(0).argmax())
    (found,) = explain(net, x, layers=["2"])
    assert found.label == str(top) and close(found.volume.array, literal(net, 2, x, lambda o: o[:, top]))

    alone = [literal(net, 2, x[n : n + 1], lambda o, c=own[n]: o[:, c])[0] for n in range(3)]
    for n in range(3):
        assert close(maps(net, x[n : n + 1], layers=["2"])[0][0], alone[n])
    theirs = GradCAM(copy.deepcopy(net), "2").compute_map(x)[:, 0].detach().numpy()
    assert not any(np.allclose(one, other, rtol=0.1) for one, other in zip(theirs, alone, strict=True))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_defect_02_the_predicted_class_of_a_segmentation_is_one_class(dimensions):
    """MONAI: with ``class_idx=None`` the class map indexes the class axis: a score of voxels squared."""
    net, x = segmenter(dimensions), noise(*((2, 1, 8, 8) if dimensions == 2 else (1, 1, 6, 6, 8)))
    winners = net(x).argmax(1)
    top = 1 + int(winners.flatten().bincount(minlength=3)[1:].argmax())
    expected = literal(net, 0, x, lambda o: o[:, top] * (winners == top))
    (found,) = explain(net, x, layers=["0"])
    assert found.label == str(top) and close(found.volume.array, expected if dimensions == 2 else expected[0])

    logits = net(x[:1])
    score = ModelWithHooks(net, ()).class_score(logits, logits.max(1)[-1])
    assert score.numel() == winners[0].numel() ** 2


def test_defect_03_gradients_do_not_add_up_from_call_to_call():
    """MONAI: VanillaGrad twice on the same tensor gives twice the gradient, through the user's own ``.grad``."""
    net, x = classifier(), noise(1, 1, 8, 8).requires_grad_()
    expected = torch.autograd.grad(net(x)[0, 1], x)[0][0].detach()
    x.grad, mine = torch.full_like(x, 7), [torch.full_like(p, 7) for p in net.parameters()]
    for parameter, grad in zip(net.parameters(), mine, strict=True):
        parameter.grad = grad
    for method, wanted in (("saliency", expected.abs()), ("gradxinput", expected * x[0].detach())):
        for _ in range(2):
            (found,) = maps(net, x, [1], [method])
            np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6 * float(wanted.abs().max()))
    assert bool((x.grad == 7).all()) and x.is_leaf and x.requires_grad
    assert all(p.grad is g and bool((g == 7).all()) for p, g in zip(net.parameters(), mine, strict=True))

    theirs, y = VanillaGrad(net), x.detach().clone()
    first, second = (theirs(y, 1).clone() for _ in range(2))
    assert torch.allclose(second, 2 * first) and torch.allclose(first[0], expected)


@pytest.mark.parametrize("samples", [1, 4, 25])
def test_defect_04_smoothgrad_is_a_mean_of_gradients(samples):
    """MONAI: SmoothGrad is the root of the sum of squares over n, which shrinks with n."""
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double(), noise(1, 1, 6, 6)
    weights = net[1].weight[1].abs().detach().reshape(1, 6, 6)  # the gradient, wherever the noise leads
    (found,) = maps(net, x, [1], ["smoothgrad"], samples=samples)
    np.testing.assert_allclose(found, weights.numpy(), rtol=1e-6)

    theirs = SmoothGrad(copy.deepcopy(net).float(), n_samples=samples, verbose=False)(x.float(), 1)
    np.testing.assert_allclose(theirs[0], weights / samples**0.5, rtol=1e-5)


def test_defect_06_hot_is_high_and_an_empty_map_is_empty_and_says_so():
    """MONAI: maps are flipped, hot being 0, and a map without anything hot becomes 0 everywhere."""
    net, x = Blob(3, 4, 4), torch.zeros(1, 1, 12, 12, 12)
    x[..., 4:8, 0:4, 8:12] = 1
    empty, hot = explain(net, x, [0, 1], layers=["features"])
    assert np.unravel_index(hot.volume.array.argmax(), (3, 3, 3)) == (1, 0, 2)
    assert np.count_nonzero(hot.volume.array) == 1 and not any("empty" in sentence for sentence in texts(hot.caveats))
    assert not empty.volume.array.any() and any("The map is empty" in sentence for sentence in texts(empty.caveats))
    assert hot_regions(empty.volume)[1] == [] and len(hot_regions(hot.volume)[1]) == 1
    assert not (empty.volume.array / display_limit(empty.volume.array)).any(), "nothing is shown"

    theirs = [GradCAM(copy.deepcopy(net), "features")(x, class_idx=n)[0, 0].numpy() for n in (0, 1)]
    assert x[0, 0].flatten()[theirs[1].argmin()] == 1 and theirs[1].min() == 0 and not theirs[0].any()


def captums(net: nn.Module, layer: str, x: torch.Tensor, target: int) -> np.ndarray:
    found = LayerGradCam(net, net.get_submodule(layer)).attribute(x, target)
    return found[:, 0].relu().detach().numpy()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_defect_07_what_follows_in_place_does_not_change_a_layer(dimensions):
    """MONAI raises, pytorch-grad-cam mixes two layers, torch-cam explains the in-place ReLU, medcam is off by 16 %."""
    net, x = classifier(dimensions, inplace=True), noise(*((2, 1, 8, 8) if dimensions == 2 else (1, 1, 6, 8, 8)))
    at = slice(None) if dimensions == 2 else 0
    before, after = maps(net, x, [1], layers=["2", "3"])
    assert close(before, literal(net, 2, x, lambda o: o[:, 1])[at]) and close(before, captums(net, "2", x, 1)[at])
    assert close(after, literal(net, 3, x, lambda o: o[:, 1])[at]) and not np.allclose(before, after, rtol=0.1)
    with pytest.raises(RuntimeError, match="inplace"):
        GradCAM(copy.deepcopy(net), "2")(x, class_idx=1)


def test_defect_07_in_monais_own_densenet():
    """MONAI raises on ``features.norm5`` of its own DenseNet121, which an in-place ReLU follows."""
    torch.manual_seed(4)
    net, x = DenseNet121(spatial_dims=2, in_channels=1, out_channels=3).eval(), noise(1, 1, 64, 64).float()
    (found,) = maps(net, x, [2], layers=["features.norm5"])
    assert close(found, captums(net, "features.norm5", x, 2))
    with pytest.raises(RuntimeError, match="inplace"):
        GradCAM(net, "features.norm5")(x, class_idx=2)


def test_defect_08_targets_layers_and_calls_are_not_mixed_up():
    """pytorch-grad-cam: samples without a target get zeros, layers out of order get each other's activations."""
    net, x = classifier(seed=3), noise(3, 1, 8, 8)
    wanted = list(itertools.product((2, 0), (2, 0, 1)))  # targets, layers: both out of order
    found = explain(net, x, [2, 0], layers=["2", "0", "1"])
    assert [(int(a.label), int(a.layer)) for a in found] == wanted
    for a, (target, layer) in zip(found, wanted, strict=True):
        assert close(a.volume.array, literal(net, layer, x, lambda o, c=target: o[:, c]))
    own = torch.tensor([2, 0, 1])
    tape = record(net, x, ["2", "0"])
    gradients = tape.gradients(lambda output: output.gather(1, own[:, None]))
    for layer, (n, target) in itertools.product((0, 2), enumerate(own)):
        a = net[: layer + 1](x[n : n + 1]).detach().requires_grad_()
        (one,) = torch.autograd.grad(net[layer + 1 :](a)[0, target], a)
        assert torch.allclose(gradients[str(layer)][n], one[0], atol=1e-14) and one.any()


class Twice(nn.Module):
    """A convolution that is called twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(1, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(torch.tanh(self.conv(x)))).mean((2, 3)))


def test_defect_08_each_call_of_a_module_has_its_own_map():
    """pytorch-grad-cam: of a module that is called twice the first call's activations are taken."""
    torch.manual_seed(0)
    net, x = Twice().double(), noise(2, 1, 8, 8)
    net.conv.weight.data.abs_()
    a = net.conv(x).detach().requires_grad_()
    b = net.conv(torch.tanh(a))
    score = net.head(torch.tanh(b).mean((2, 3)))[:, 1].sum()
    expected = []
    for layer in (a, b):
        (gradient,) = torch.autograd.grad(score, layer, retain_graph=True)
        expected.append((gradient.mean((2, 3), keepdim=True) * layer).sum(1).relu().detach().numpy())
    first, second, last = maps(net, x, [1], layers=["conv#0", "conv#1", "conv"])
    assert close(first, expected[0]) and close(second, expected[1]) and np.array_equal(second, last)
    assert not np.allclose(*expected, rtol=0.1)


@pytest.mark.parametrize("name", [m.name for m in methods().values() if m.task != "segmentation"])
def test_defect_09_a_nearly_constant_image_gives_numbers(name):
    """medcam: a constant map divides 0 by 0 and is NaN. (An image of one value has nothing to explain, and is refused.)"""
    net, x = classifier(), torch.full((2, 1, 16, 16), 3.0, dtype=torch.float64)
    with pytest.raises(InputError, match="nothing to explain"):
        explain(net, x, [1], [name])
    x[:, :, 0, 0] += 1e-9
    net[0].padding = net[2].padding = (0, 0)  # else the border differs
    options = {"samples": 20, "superpixels": 4} if isinstance(methods()[name], QueryMethod) else {}
    (found,) = explain(net, x, [1], [name], ["3"] if isinstance(methods()[name], LayerMethod) else (), **options)
    assert np.isfinite(found.volume.array).all()
    assert np.isfinite(display_limit(found.volume.array)) and display_limit(found.volume.array) > 0
    assert all(np.isfinite(region.mass_fraction) for region in hot_regions(found.volume)[1])


def test_defect_09_a_constant_map_is_hot_everywhere():
    """medcam: a constant map divides 0 by 0 and is NaN."""
    x = torch.full((1, 1, 8, 8, 8), 3.0)
    x[..., ::2], x[..., 1::2] = 2.5, 3.5  # 3 in the mean of each of the cells' 2 x 2 x 2 voxels
    (found,) = explain(Blob(3, 2, 2), x, [1], layers=["features"])
    values = found.volume.array
    np.testing.assert_allclose(values, 3 / 4**3, rtol=1e-6)  # the weight 1 over the cells, times the activation
    assert display_limit(values) == pytest.approx(3 / 4**3) and display_limit(0 * values) == 1
    labels, (region,) = hot_regions(found.volume)
    assert labels.volume.array.all() and region.mass_fraction == pytest.approx(1)
    full = Volume(np.zeros((8, 8, 8), np.float32), np.eye(4))
    np.testing.assert_allclose(found.on(full).array, 3 / 4**3, rtol=1e-6)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_defect_10_frozen_parameters_and_no_grad_around_the_call_change_nothing(around):
    """MONAI, pytorch-grad-cam and torch-cam raise."""
    net, x = classifier(), noise(2, 1, 8, 8)
    expected = literal(net, 2, x, lambda o: o[:, 1])
    leaf = x.clone().requires_grad_()
    slope = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)[0][:, 0].abs().numpy()
    theirs = GradCAM(copy.deepcopy(net), "2")
    net.requires_grad_(False)
    with around():
        cam, saliency = maps(net, x.clone(), [1], ["gradcam", "saliency"], ["2"])
        with pytest.raises(RuntimeError, match="does not require grad"):
            theirs(x, class_idx=1)
    assert close(cam, expected) and close(saliency, slope)
    assert not any(p.requires_grad for p in net.parameters())
    with pytest.raises(RuntimeError, match="does not require grad"):
        GradCAM(copy.deepcopy(net), "2")(x, class_idx=1)


def test_defect_11_exported_programs_have_layer_maps():
    """No peer gives layer maps of a network that is a program."""
    net, x = classifier(3), noise(1, 1, 6, 8, 8)
    program = torch.export.unflatten(torch.export.export(net, (x,)))
    for layer in (0, 2):
        (found,) = maps(program, x, [1], layers=[str(layer)])
        assert close(found, literal(net, layer, x, lambda o: o[:, 1])[0])


def test_defect_11_torchscript_has_input_maps_and_the_others_say_what_to_do():
    """No peer gives layer maps of a network that is a program; hooks on traced modules never fire."""
    net, x = classifier(), noise(2, 1, 8, 8)
    traced = torch.jit.trace(net, x)
    saliency, ig = maps(traced, x, [1], ["saliency", "ig"], baseline="zero")

    def slope(y: torch.Tensor) -> torch.Tensor:
        y = y.clone().requires_grad_()
        return torch.autograd.grad(net(y)[:, 1].sum(), y)[0]

    path = sum(slope(x * (n + 0.5) / 50) for n in range(50)) / 50 * x
    assert close(saliency, slope(x)[:, 0].abs().numpy()) and close(ig, path[:, 0].numpy())
    for method in ("gradcam", "layerwise", "eigencam"):
        with pytest.raises(InputError, match="choose saliency, ig or lime, or export the network with torch.export"):
            explain(traced, x, [1], [method])
    with pytest.raises(AssertionError, match="did not obtain any outputs"):
        captums(traced, "2", x, 1)


OBLIQUE = np.array([[0.0, -0.8, 1.8, 10], [0.6, 0, 0, -20], [0, 0.6, 2.4, 30], [0, 0, 0, 1]])
"""Spacing 0.6, 1 and 3 mm; turned and permuted."""


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 4, 0), (3, 2, 1), (5, 3, 1), (2, 2, 0)])
def test_defect_12_cells_lie_where_the_network_looks(kernel, stride, padding):
    """MONAI's low-resolution maps stay a MetaTensor with the input's affine: saved, they are at the wrong place."""
    net = nn.Sequential(nn.Conv3d(1, 1, kernel, stride, padding, bias=False), *[*Blob(3, 1, 1).children()][1:])
    nn.init.constant_(net[0].weight, 1 / kernel**3)
    net.insert(1, nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten()))
    cell = np.array([1, 3, 2])  # k, j, i
    array = np.zeros((24, 24, 24), np.float32)
    starts = np.maximum(cell * stride - padding, 0)
    array[tuple(slice(s, s + kernel) for s in starts)] = 1  # all that this cell sees, and no other sees all of it
    centre = cell * stride - padding + (kernel - 1) / 2
    wanted = OBLIQUE @ [*centre[::-1], 1]

    (found,) = explain(net, Volume(array, OBLIQUE), [1], layers=["0"])
    peak = np.unravel_index(found.volume.array.argmax(), found.volume.array.shape)
    assert np.array_equal(peak, cell)
    np.testing.assert_allclose(found.volume.ras(peak[::-1]), wanted[:3], atol=1e-9)
    np.testing.assert_allclose(found.volume.spacing, np.multiply((0.6, 1, 3), stride))
    full = found.on(Volume(array, OBLIQUE)).array
    middle = [np.mean(np.unique(axis)) for axis in np.nonzero(full > 0.999 * full.max())]
    assert np.abs(middle - centre).max() <= 0.5

    image = MetaTensor(torch.from_numpy(array)[None, None], affine=torch.from_numpy(OBLIQUE[:, [2, 1, 0, 3]]))
    theirs = GradCAM(net, "0").compute_map(image, class_idx=1)
    assert np.unravel_index(int(theirs.argmax()), theirs.shape)[2:] == tuple(cell)
    assert np.linalg.norm((theirs.affine.numpy() @ [*cell, 1] - wanted)[:3]) > 3  # mm


def test_defect_13_a_coarse_map_keeps_its_peak_when_it_is_upsampled():
    """pytorch-grad-cam in 3D: a cubic spline with aligned endpoints moves the peak of three cells by 15 voxels."""
    values, size = np.array([4.5, 5, 0], np.float32), 48
    net = Blob(3, 1, 1)
    net.features = nn.Conv3d(1, 1, (size, 2, 2), (size, 2, 2), bias=False)
    nn.init.constant_(net.features.weight, 1 / (4 * size))
    volume = Volume(np.broadcast_to(np.repeat(values, size)[:, None, None], (3 * size, 4, 4)).copy(), OBLIQUE)
    (found,) = explain(net, volume, [1], layers=["features"])
    assert found.volume.array.shape == (3, 2, 2)
    centres = np.arange(3) * size + (size - 1) / 2
    line = found.on(volume).array[:, 1, 2] * found.volume.array.size
    np.testing.assert_allclose(line, np.interp(np.arange(3 * size), centres, values), rtol=1e-5)
    assert abs(line.argmax() - centres[1]) <= 0.5

    theirs = zoom(found.volume.array, (size, 2, 2))[:, 1, 2]  # as that library calls it
    assert abs(theirs.argmax() - centres[1]) > 15
