"""Layer methods against their papers' formulae, written out cell by cell in float64; what the sums of maps must be; and how
a region of a segmentation becomes a score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from fixture_nets import model
from torch import nn

from MedXAILib import explain
from MedXAILib.attribution import cam
from MedXAILib.attribution.cam import Feature
from MedXAILib.attribution.method import LayerMethod
from MedXAILib.attribution.registry import methods
from MedXAILib.caveats import texts
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.models.layers import find, inspect
from MedXAILib.progress import silent
from MedXAILib.recording.record import record, replay
from MedXAILib.scoring.targets import ClassTarget, ComponentTarget, MaskTarget, RegionTarget, VoxelTarget
from MedXAILib.session import Session
from MedXAILib.session.request import requested

SIZE = {2: (8, 12), 3: (8, 12, 4)}
CONV, POOL = {2: nn.Conv2d, 3: nn.Conv3d}, {2: nn.MaxPool2d, 3: nn.MaxPool3d}
DOUBLE, SINGLE = 1e-10, 1e-5
LAYER = "layer"


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """The networks are so small that threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Classifier(nn.Module):
    """Behind the layer come a ReLU in place, max pooling and a head that does not pool."""

    def __init__(self, dimensions: int):
        super().__init__()
        conv = CONV[dimensions]
        self.first, self.layer = conv(2, 3, 3, padding=1), conv(3, 5, 3, padding=1)
        self.act, self.pool = nn.ReLU(inplace=True), POOL[dimensions](2)
        self.head = nn.Linear(5 * math.prod(SIZE[dimensions]) // 4**dimensions, 3)

    def forward(self, x, swap=lambda a: a):
        a = swap(self.layer(self.pool(self.act(self.first(x)))))
        return self.head(self.pool(self.act(a)).flatten(1))


class Segmenter(nn.Module):
    """A U-Net of two resolutions; the layer is its bottleneck."""

    def __init__(self, dimensions: int, classes: int = 3):
        super().__init__()
        conv, back = CONV[dimensions], {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dimensions]
        self.first, self.layer = conv(2, 3, 3, padding=1), conv(3, 4, 3, 2, 1)
        self.up, self.head = back(4, 3, 2, 2), conv(6, classes, 1)
        self.act1, self.act2, self.act3 = (nn.ReLU(inplace=True) for _ in range(3))

    def forward(self, x, swap=lambda a: a):
        skip = self.act1(self.first(x))
        a = swap(self.layer(skip))
        return self.head(torch.cat([skip, self.act3(self.up(self.act2(a)))], 1))


class Pooled(nn.Module):
    """Global average pooling and one linear layer."""

    def __init__(self, dimensions: int):
        super().__init__()
        self.first, self.layer = CONV[dimensions](2, 3, 3, padding=1), CONV[dimensions](3, 5, 3, 2, 1)
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(5, 3)

    def forward(self, x, swap=lambda a: a):
        return self.head(swap(self.layer(self.act(self.first(x)))).flatten(2).mean(2))


def made(make, dimensions: int, **more) -> tuple[nn.Module, torch.Tensor]:
    """A network and two samples; of a 3D network explain() takes the first alone."""
    torch.manual_seed(2)  # so that no class is without a region and no map without a positive value
    net = make(dimensions, **more).double().eval().requires_grad_(False)
    return net, torch.randn(2, 2, *SIZE[dimensions], dtype=torch.float64)


def close(found, expected, tolerance: float = DOUBLE) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape and expected.any()
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@dataclass
class Sample:
    """One sample alone. Its score is the sum of the output times ``weights``: (class,) or (class, *spatial)."""

    net: nn.Module
    x: torch.Tensor
    weights: torch.Tensor

    def score(self, x=None, swap=lambda a: a) -> torch.Tensor:
        return (self.net((self.x if x is None else x)[None], swap)[0] * self.weights).sum()

    @cached_property
    def leaf(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's activation as a leaf (channel, *cells), and the score that follows from it."""
        kept = []

        def keep(a):
            kept.append(a[0].detach().clone().requires_grad_())
            return kept[0][None].clone()

        score = self.score(swap=keep)
        return kept[0], score

    @property
    def a(self) -> np.ndarray:
        return self.leaf[0].detach().numpy()

    @cached_property
    def g(self) -> np.ndarray:
        a, score = self.leaf
        return torch.autograd.grad(score, a, retain_graph=True)[0].numpy()


def combined(s: Sample, weights) -> np.ndarray:
    total = np.zeros(s.a.shape[1:])
    for w, a in zip(weights, s.a, strict=True):
        total += w * a
    return total


def gradcam(s: Sample) -> np.ndarray:
    return combined(s, [g.sum() / g.size for g in s.g])


def gradcam_plusplus(s: Sample) -> np.ndarray:
    """Eqs. 2, 5 and 10 of the paper for Y = exp(S), each derivative of Y by autograd, over Y."""
    a, score = s.leaf
    y = score.exp()
    (first,) = torch.autograd.grad(y, a, create_graph=True)
    weights = np.zeros(len(a))
    for at in np.ndindex(*a.shape):
        if first[at] <= 0:
            continue
        second = torch.autograd.grad(first[at], a, create_graph=True)[0][at]
        third = torch.autograd.grad(second, a, retain_graph=True)[0][at]
        alpha = second / (2 * second + a[at[0]].sum() * third)
        weights[at[0]] += (alpha * first[at] / y).item()
    return combined(s, weights)


def by_cell(s: Sample, term) -> np.ndarray:
    total = np.zeros(s.a.shape[1:])
    for at in np.ndindex(*s.a.shape):
        total[at[1:]] += term(s.g, s.a, at)
    return total


def hirescam(s: Sample) -> np.ndarray:
    return by_cell(s, lambda g, a, at: g[at] * a[at])


def layercam(s: Sample) -> np.ndarray:
    return by_cell(s, lambda g, a, at: max(g[at], 0) * a[at])


def xgradcam(s: Sample) -> np.ndarray:
    return combined(
        s, [sum(g[at] * a[at] / a.sum() for at in np.ndindex(*a.shape)) for g, a in zip(s.g, s.a, strict=True)]
    )


def segxrescam(s: Sample) -> np.ndarray:
    """Each cell takes the mean gradient of its window of POOL cells, what is left at the end being a window too."""

    def window(g, at):
        return g[(at[0], *(slice(n // cam.POOL * cam.POOL, (n // cam.POOL + 1) * cam.POOL) for n in at[1:]))]

    return by_cell(s, lambda g, a, at: window(g, at).mean() * a[at])


def eigencam(s: Sample) -> np.ndarray:
    cells = s.a.reshape(len(s.a), -1).T
    _, _, vectors = np.linalg.svd(cells)
    projected = cells @ vectors[0]
    return (projected * (1 if projected.sum() >= 0 else -1)).reshape(s.a.shape[1:])


def upsampled(a: np.ndarray, shape) -> np.ndarray:
    """Linear interpolation, axis by axis, of cells that share the shape evenly."""
    for axis, n in enumerate(shape):
        m = a.shape[axis]
        at = (np.arange(n) + 0.5) * m / n - 0.5
        a = np.apply_along_axis(lambda line, at=at, m=m: np.interp(at, np.arange(m), line), axis, a)
    return a


def scorecam(s: Sample) -> np.ndarray:
    rises = []
    for a in s.a:
        up = upsampled(a, s.x.shape[1:])
        mask = (up - up.min()) / (up.max() - up.min())
        rises.append((s.score(s.x * torch.from_numpy(mask)) - s.score(torch.zeros_like(s.x))).item())
    return combined(s, np.exp(rises) / np.exp(rises).sum())


def ablationcam(s: Sample) -> np.ndarray:
    """The paper's w_k = (S - S_k) / S, and its map times S."""
    weights, score = [], s.score().item()
    for k in range(len(s.a)):

        def without(a, k=k):
            a = a.clone()
            a[:, k] = 0
            return a

        weights.append((score - s.score(swap=without).item()) / score)
    return combined(s, weights) * score


FORMULAE = {
    "gradcam": gradcam,
    "layerwise": gradcam,
    "gradcam++": gradcam_plusplus,
    "hirescam": hirescam,
    "layercam": layercam,
    "xgradcam": xgradcam,
    "segxrescam": segxrescam,
    "eigencam": eigencam,
    "scorecam": scorecam,
    "ablationcam": ablationcam,
}


def feature(net: nn.Module, x: torch.Tensor, weights: torch.Tensor) -> Feature:
    """The layer as one tile shows it, of a batch whose samples have scores of their own: weights (batch, class[, ...])."""
    recording, layer = record(net, x, [LAYER]), find(inspect(net, (1, *x.shape[1:])), LAYER)

    def scores(output):
        times = len(output) // len(weights)
        return (output * weights.repeat(times, *[1] * (weights.ndim - 1))).flatten(1).sum(1)

    def ask(input=None, off=None):
        given = x.repeat(len(off), *[1] * (x.ndim - 1)) if off is not None else x if input is None else input
        return scores(replay(net, given, layer, off, silent))

    a = recording.activations[LAYER].detach()
    return Feature(
        activation=a,
        backward=lambda own: recording.gradients(scores)[LAYER],
        cells=a[0, 0].numel(),
        ask=ask,
        input=x,
    )


def run(name: str, f: Feature) -> torch.Tensor:
    """A method of the registry: (batch, *cells), raw."""
    statistics: list = []
    for gather in methods()[name].gathers:
        statistics.append(gather.run(f, *statistics))
    return methods()[name].map(f, *statistics)


def one_hot(net, x, classes) -> torch.Tensor:
    """Weights of each sample's class: of a segmentation over the region where it is the strongest."""
    output = net(x).detach()
    chosen = torch.zeros_like(output)
    for n, c in enumerate(classes):
        chosen[n, c] = 1 if output.ndim == 2 else (output[n].argmax(0) == c).double()
    return chosen


def test_every_layer_method_has_its_formula_here():
    assert {*FORMULAE, "cam"} == {name for name, m in methods().items() if isinstance(m, LayerMethod)}


@pytest.mark.parametrize("name", FORMULAE)
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("make", [Classifier, Segmenter])
def test_a_method_is_its_papers_formula(make, dimensions, name, monkeypatch):
    """Samples of different classes in one batch; channels tried in batches that do not come out even."""
    net, x = made(make, dimensions)
    weights = one_hot(net, x, [2, 0])
    monkeypatch.setattr(cam, "VOXELS_AT_ONCE", 3 * x.numel())
    found = run(name, feature(net, x, weights))
    for n in range(2):
        close(found[n], FORMULAE[name](Sample(net, x[n], weights[n])))


@pytest.mark.parametrize("name", FORMULAE)
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("make", [Classifier, Segmenter])
def test_explain_gives_the_formulas_map(make, dimensions, name):
    """Of slices each has its own score and map; only what speaks for the class is kept."""
    if make is Classifier and methods()[name].task == "segmentation":
        with pytest.raises(InputError, match="is for segmentation"):
            explain(*made(make, 2), [1], [name], [LAYER])
        return
    net, x = made(make, dimensions)
    x = x if dimensions == 2 else x[:1]
    weights = one_hot(net, x, [1, 1][: len(x)])
    (found,) = explain(net, x, [1], [name], [LAYER])
    expected = [np.maximum(FORMULAE[name](Sample(net, *pair)), 0) for pair in zip(x, weights, strict=True)]
    close(found.volume.array, expected if dimensions == 2 else expected[0], SINGLE)
    assert (found.method, found.layer, found.target, found.signed) == (name, LAYER, "1", False)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_gradcam_is_captums_where_samples_have_different_classes(dimensions):
    net, x = made(Classifier, dimensions)
    found = run("gradcam", feature(net, x, one_hot(net, x, [2, 0])))
    close(found, LayerGradCam(net, net.layer).attribute(x.requires_grad_(), target=[2, 0])[:, 0].detach())


def passes_backwards(monkeypatch) -> list:
    """Grows with each pass backwards through a network; the gradient of a score with respect to the output is none."""
    passes, plain = [], torch.autograd.grad

    def watched(outputs, *rest, **more):
        if outputs.ndim:
            passes.append(outputs.shape)
        return plain(outputs, *rest, **more)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    return passes


@pytest.mark.parametrize("dimensions", [2, 3])
def test_cam_is_the_heads_weights_times_the_activations_without_a_pass_backwards(dimensions, monkeypatch):
    net, x = made(Pooled, dimensions)
    passes = passes_backwards(monkeypatch)
    f = feature(net, x, one_hot(net, x, [2, 0]))
    found, gradcam = run("cam", f), run("gradcam", f)
    assert passes == []
    for n, c in enumerate([2, 0]):
        s = Sample(net, x[n], one_hot(net, x, [2, 0])[n])
        close(found[n], combined(s, net.head.weight[c].tolist()))
    close(gradcam * f.cells, found)
    run("gradcam", feature(*made(Classifier, dimensions), torch.ones(2, 3, dtype=torch.float64)))
    assert passes == [(2, 3)]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_explain_gives_cam_signed_and_refuses_it_before_another_head(dimensions):
    net, x = made(Pooled, dimensions)
    x = x if dimensions == 2 else x[:1]
    (found,) = explain(net, x, [1], ["cam"], [LAYER])
    weights = one_hot(net, x, [1, 1][: len(x)])
    expected = [combined(Sample(net, *pair), net.head.weight[1].tolist()) for pair in zip(x, weights, strict=True)]
    close(found.volume.array, expected if dimensions == 2 else expected[0], SINGLE)
    assert found.signed and found.volume.array.min() < 0
    other, x = made(Classifier, 2)
    with pytest.raises(InputError, match="pooled and classified by one linear layer"):
        explain(other, x, [1], ["cam"], [LAYER])


@pytest.mark.parametrize("make", [Classifier, Pooled])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_hirescam_adds_up_to_the_score_without_the_heads_bias(dimensions, make):
    """Also behind ReLU and max pooling, which are linear between their kinks and have no bias."""
    net, x = made(make, dimensions)
    found = run("hirescam", feature(net, x, one_hot(net, x, [2, 0])))
    expected = torch.stack([net(x)[0, 2] - net.head.bias[2], net(x)[1, 0] - net.head.bias[0]]).detach()
    close(found.flatten(1).sum(1), expected)


def captums_products(net, layer: nn.Module, x, weights) -> torch.Tensor:
    """Gradient times activation: (batch, channel, *cells)."""
    products = LayerGradientXActivation(lambda y: (net(y) * weights).flatten(1).sum(1), layer)
    return products.attribute(x.clone().requires_grad_()).detach()


@pytest.mark.parametrize("make", [Classifier, Segmenter])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_xgradcam_adds_up_to_gradient_times_activation(dimensions, make):
    net, x = made(make, dimensions)
    weights = one_hot(net, x, [2, 0])
    f = feature(net, x, weights)
    close(run("xgradcam", f).flatten(1).sum(1), captums_products(net, net.layer, x, weights).flatten(1).sum(1))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_segxrescam_lies_between_hirescam_and_gradcam(dimensions, monkeypatch):
    net, x = made(Segmenter, dimensions)
    f = feature(net, x, one_hot(net, x, [2, 0]))
    for pool, other in ((1, "hirescam"), (6, "gradcam"), (100, "gradcam")):
        monkeypatch.setattr(cam, "POOL", pool)
        close(run("segxrescam", f), run(other, f))


def count_forward_passes(net: nn.Module) -> list:
    """Grows with each forward pass that computes something: the dry passes that find the layers do not."""
    passes: list = []
    net.register_forward_hook(lambda _, inputs, __: None if inputs[0].is_meta else passes.append(inputs[0].shape))
    return passes


@pytest.mark.parametrize("dimensions", [2, 3])
def test_layerwise_explains_every_stage_from_one_forward_pass(dimensions):
    net, x = made(Segmenter, dimensions)
    x = x[:1]
    passes = count_forward_passes(net)
    found = explain(net, x, [1], ["layerwise"])
    assert len(passes) == 1
    assert [a.layer for a in found] == ["act1", "act2", "act3"]  # what each resolution ends in
    weights = one_hot(net, x, [1])
    for a in found:
        literal = captums_products(net, net.get_submodule(a.layer), x, weights).sum()
        assert a.carried == pytest.approx(literal.item(), rel=1e-9)


class Pointwise(nn.Module):
    """No voxel sees another one: windows show it what the whole does."""

    def __init__(self):
        super().__init__()
        self.layer, self.act, self.head = nn.Conv3d(2, 4, 1), nn.ReLU(inplace=True), nn.Conv3d(4, 3, 1)

    def forward(self, x):
        return self.head(self.act(self.layer(x)))


@pytest.mark.parametrize("name", FORMULAE)
def test_windows_give_the_map_of_the_whole(name):
    """Overlapping in two axes: what is summed, averaged, and gathered over windows, for each method."""
    torch.manual_seed(1)
    net, x = Pointwise().double(), torch.randn(1, 2, 12, 12, 8, dtype=torch.float64)
    whole, tiled = (explain(net, x, [1], [name], [LAYER], windows=w)[0] for w in (None, 8))
    close(tiled.volume.array, whole.volume.array, SINGLE)


# --- the score of a segmentation -------------------------------------------------------------------------------------


def explained(net, x, score) -> np.ndarray:
    """ReLU(sum_k alpha_k A^k), alpha_k the mean of dS/dA^k, of one sample; ``score`` of the output (class, *spatial)."""
    kept = []

    def keep(a):
        kept.append(a.detach().clone().requires_grad_())
        return kept[0].clone()

    (g,) = torch.autograd.grad(score(net(x[None], keep)[0]), kept[0])
    total = sum(alpha * a for alpha, a in zip(g[0].flatten(1).mean(1), kept[0][0].detach(), strict=True))
    return np.maximum(total.numpy(), 0)


def vector_rule(c: int, threshold: float, probabilities: bool = False):
    """Xiao et al. 2021, steps 2 to 4: v = vec(P), M = {i: v_i > T}, S = the sum over M, here of the logits."""

    def score(output):
        p = output.softmax(0) if len(output) > 1 else output.sigmoid()
        v, logits = p[c].flatten(), output[c].flatten()
        chosen = [i for i, value in enumerate(v.tolist()) if value > threshold]
        return (v if probabilities else logits)[chosen].sum()

    return score


def volume_rule(c: int, threshold: float):
    """The same without flattening."""

    def score(output):
        p = output.softmax(0) if len(output) > 1 else output.sigmoid()
        return torch.where(p[c] > threshold, output[c], 0).sum()

    return score


def rule_of_the_argmax(c: int):
    """Seg-Grad-CAM: M = {argmax = c}."""
    return lambda output: output[c][output.argmax(0) == c].sum()


def segmentation(dimensions: int, classes: int = 3):
    """Network, input of explain(), and that input's samples: the slices, or the one volume."""
    net, x = made(Segmenter, dimensions, classes=classes)
    net.head.weight *= 5  # probabilities from 0 to 1
    x = x if dimensions == 2 else x[:1]
    return net, x, list(x)


def check(a, net, samples, score, tolerance: float = SINGLE) -> None:
    maps = np.stack([explained(net, x, score) for x in samples])
    close(a.volume.array, maps if a.volume.array.ndim > maps[0].ndim else maps[0], tolerance)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_threshold_rule_flattened_or_not(dimensions, classes):
    net, x, samples = segmentation(dimensions, classes)
    c = classes // 2
    (found,) = explain(net, x, [RegionTarget(c, 0.4)], layers=[LAYER])
    check(found, net, samples, vector_rule(c, 0.4))
    check(found, net, samples, volume_rule(c, 0.4))
    (found,) = explain(net, x, [RegionTarget(c, 0.4, probabilities=True)], layers=[LAYER])
    check(found, net, samples, vector_rule(c, 0.4, probabilities=True))
    assert (found.target, found.provenance["score"]) == (f"{c}-T0.4-probabilities", "probability")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_over_the_region_of_the_argmax_the_rule_is_seg_grad_cam(dimensions):
    """Of two classes a probability above one half is the larger one."""
    net, x, samples = segmentation(dimensions, classes=2)
    for found in explain(net, x, [RegionTarget(1, 0.5), ClassTarget(1)], layers=[LAYER]):
        check(found, net, samples, rule_of_the_argmax(1))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_thresholds_are_swept_in_one_forward_pass(dimensions):
    net, x, samples = segmentation(dimensions)
    thresholds = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    passes = count_forward_passes(net)
    found = explain(net, x, [RegionTarget(1, t) for t in thresholds], layers=[LAYER])
    assert len(passes) == 1 and [a.target for a in found] == [f"1-T{t:g}" for t in thresholds]
    for t, a in zip(thresholds, found, strict=True):
        if a.volume.array.any():
            check(a, net, samples, vector_rule(1, t))
    assert sum(a.volume.array.any() for a in found) >= 3


def test_an_empty_region_has_a_map_of_zeros_and_a_sentence():
    net, x, _ = segmentation(3)
    (found,) = explain(net, x, [RegionTarget(1, 0.999999)], layers=[LAYER])
    assert np.array_equal(found.volume.array, np.zeros((4, 6, 2)))
    assert [s for s in texts(found.caveats) if "empty" in s] == [
        "No voxel was predicted as 1-T0.999999: the map is empty."
    ]


def flood(mask: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """The voxels of a mask that hang together with one of them by faces, edges or corners."""
    piece, waiting = np.zeros_like(mask), [seed]
    while waiting:
        at = waiting.pop()
        if all(0 <= n < size for n, size in zip(at, mask.shape, strict=True)) and mask[at] and not piece[at]:
            piece[at] = True
            waiting += product(*((n - 1, n, n + 1) for n in at))
    return piece


def own_mask() -> Volume:
    """On a grid that is coarser, mirrored, and covers a part of the input only."""
    affine = np.array([[-2.1, 0, 0, 9.3], [0, 1.7, 0, 0.4], [0, 0, 1.3, -0.6], [0, 0, 0, 1]])
    return Volume(np.random.default_rng(0).integers(0, 3, (4, 5, 4)).astype(np.int16), affine)


def nearest(mask: Volume, shape: tuple[int, ...]) -> np.ndarray:
    """Where the voxel of the mask nearest to each point is not 0; the point of (d0, d1, d2) is (d2, d1, d0)."""
    inside = np.zeros(shape, bool)
    for at in np.ndindex(*shape):
        i, j, k = np.round(np.linalg.inv(mask.affine) @ [*at[::-1], 1])[:3].astype(int)
        if min(i, j, k) >= 0 and k < 4 and j < 5 and i < 4:
            inside[at] = mask.array[k, j, i] != 0
    return inside


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("target", [ComponentTarget, MaskTarget, VoxelTarget])
def test_a_piece_a_mask_and_a_voxel_are_summed_over_as_they_say(target, dimensions):
    net, x, samples = segmentation(dimensions)
    logits = net(x).transpose(0, 1) if dimensions == 2 else net(x)[0]  # (class, d0, d1, d2)
    winners = logits.argmax(0).numpy()
    pieces = ((at, flood(winners == winners[at], at)) for at in np.ndindex(*winners.shape))
    at, piece = next((at, p) for at, p in pieces if 1 < p.sum() < (winners == winners[at]).sum() and at != at[::-1])
    c, ras = int(winners[at]), tuple(map(float, at))  # of a bare array: its index
    if target is ComponentTarget:
        asked, region = ComponentTarget(ras, str(c)), piece
    elif target is MaskTarget:
        asked, region = MaskTarget(own_mask(), c), nearest(own_mask(), winners.shape)
        assert 1 < region.sum() < region.size / 2
    else:
        asked, region = VoxelTarget(tuple(r + 0.3 for r in ras)), np.zeros(winners.shape, bool)
        region[at] = True
    (found,) = explain(net, x, [asked], layers=[LAYER])
    masks = torch.from_numpy(region) if dimensions == 2 else [torch.from_numpy(region)]
    maps = [explained(net, s, lambda output, m=m: output[c][m].sum()) for s, m in zip(samples, masks, strict=True)]
    close(found.volume.array, maps if dimensions == 2 else maps[0], SINGLE)
    assert found.label == str(c)


def test_another_voxel_costs_one_pass_backwards_and_none_forwards(monkeypatch):
    torch.manual_seed(0)
    net = Segmenter(3)
    card = {"task": "segmentation", "output": {"labels": [{"name": n} for n in ("minimum", "liver", "spleen")]}}
    whole = model(net, input={"channels": [{"name": "mr"}, {"name": "pet"}]}, **card)
    inputs = {name: Volume(torch.randn(SIZE[3]).numpy(), np.eye(4)) for name in ("mr", "pet")}
    session = Session(whole, inputs)
    session.record([LAYER])
    session.predict()
    forwards, backwards = count_forward_passes(net), passes_backwards(monkeypatch)
    first, second = (
        session.explain(requested([VoxelTarget(at, "liver")], layers=[LAYER])) for at in ((1, 5, 3), (2, 9, 6))
    )
    assert not forwards and len(backwards) == 2
    assert not np.array_equal(first[0].volume.array, second[0].volume.array)
    fresh = explain(whole, inputs, [VoxelTarget((2, 9, 6), "liver")], layers=[LAYER])
    assert np.array_equal(fresh[0].volume.array, second[0].volume.array)
