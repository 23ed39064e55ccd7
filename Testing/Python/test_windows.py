"""Sliding windows: the maps of the whole volume, without seams, within the memory of a window."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from MedXAILib import explain
from MedXAILib.attribution.method import LayerMethod
from MedXAILib.attribution.registry import methods
from MedXAILib.recording.recording import Recording

SIZE, WINDOW = 48, 32
FIELD = 15
"""Receptive field of the fixture's output: the windows overlap by 16 voxels."""


class Convolutional(nn.Module):
    """A fully convolutional segmenter with a bottleneck of half the resolution; ``norm``: none or batch."""

    def __init__(self, norm: str):
        super().__init__()

        def block(i: int, o: int, stride: int) -> list[nn.Module]:
            parts = [nn.Conv3d(i, o, 3, stride, 1), nn.BatchNorm3d(o) if norm == "batch" else nn.Identity()]
            return [*parts, nn.ReLU(inplace=True)]

        self.down = nn.Sequential(*block(1, 4, 2), *block(4, 6, 1))
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), *block(6, 4, 1), nn.Conv3d(4, 3, 1))

    def forward(self, x):
        return self.up(self.down(x))


def network(norm: str) -> nn.Module:
    torch.manual_seed(3)
    net = Convolutional(norm)
    with torch.no_grad():
        for _ in range(3):  # so that the running statistics are not those of a new network
            net(torch.randn(1, 1, 16, 16, 16) * 2 + 1)
    return net.eval()


def volume() -> torch.Tensor:
    """Smooth structure and noise."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(1, 1, 9, 9, 9)).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, (SIZE,) * 3, mode="trilinear", align_corners=True)
    return smooth + 0.3 * torch.from_numpy(rng.normal(size=(1, 1, SIZE, SIZE, SIZE)).astype(np.float32))


def away_from_borders(values: np.ndarray) -> np.ndarray:
    cut = -(-FIELD * len(values) // SIZE)
    return values[cut:-cut, cut:-cut, cut:-cut]


METHODS_OF_LAYERS = [
    m.name for m in methods().values() if isinstance(m, LayerMethod) and m.name not in ("cam", "layerwise", "scorecam")
]
FIRST_ORDER = ["saliency", "gradxinput", "guidedbackprop", "deconvnet", "lrp", "deeplift"]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_windows_give_the_maps_of_the_whole_without_seams(norm):
    net, x = network(norm), volume()
    names = [*METHODS_OF_LAYERS, *FIRST_ORDER] if norm == "batch" else ["gradcam", "saliency"]
    whole = explain(net, x, [1], names, ["down"])
    tiled = explain(net, x, [1], names, ["down"], windows=WINDOW)
    assert {a.method for a in whole} == set(names)
    for one, other in zip(whole, tiled, strict=True):
        a, b = away_from_borders(one.volume.array), away_from_borders(other.volume.array)
        assert a.any() and np.corrcoef(a.ravel(), b.ravel())[0, 1] >= 0.99, one.method
        assert 0.9 < b.sum() / a.sum() < 1.1 or not methods()[one.method].signed, one.method
        assert across_seams(other.volume.array) < inside(other.volume.array), one.method


def jumps(values: np.ndarray) -> np.ndarray:
    """|difference| between neighbouring planes of the first axis, by plane."""
    return np.abs(np.diff(values, axis=0)).reshape(len(values) - 1, -1)


def seams(values: np.ndarray) -> list[int]:
    """Planes at which a window begins or ends, in cells."""
    step = len(values) * WINDOW // 2 // SIZE
    return [n - 1 for n in range(step, len(values), step)]


def across_seams(values: np.ndarray) -> float:
    return float(jumps(values)[seams(values)].mean())


def inside(values: np.ndarray) -> float:
    rest = np.delete(jumps(values), seams(values), axis=0)
    return float(np.percentile(rest, 99))


def test_each_pass_over_the_windows_is_counted():
    """Grad-CAM: one pass predicts, one gathers the weights of the whole volume, one ends at the layer. HiResCAM gathers
    nothing."""
    net, x, passes = network("batch"), volume()[..., :32], {"layer": 0, "whole": 0}

    def counted(name):
        def hook(_module, _inputs, output):
            passes[name] += output.device.type == "cpu"

        return hook

    net.down.register_forward_hook(counted("layer"))
    net.register_forward_hook(counted("whole"))
    tiles = 2 * 2
    for name, layer, whole in (("gradcam", 3, 2), ("hirescam", 2, 2)):
        passes.update(layer=0, whole=0)
        explain(net, x, [0, 1, 2], [name], ["down"], windows=WINDOW, probe=False)
        assert passes == {"layer": layer * tiles, "whole": whole * tiles}


def test_windows_of_a_class_score_are_explained_too():
    """A pooling classifier: the strongest window's logit is the score (max), and only its part of the volume has a map."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2))
    x = torch.zeros(1, 1, 48, 32, 32)
    x[0, 0, 36:44, 12:20, 12:20] = 5
    with torch.no_grad():
        strongest = int(np.argmax([float(net(x[:, :, n : n + 32])[0, 1]) for n in (0, 16)]))
    (found,) = explain(net, x, [1], ["saliency"], windows=WINDOW)
    planes = np.flatnonzero(found.volume.array.any((1, 2)))
    assert planes.min() >= 16 * strongest and planes.max() < 16 * strongest + 32


class Patches(nn.Module):
    """Cells of 4 voxels that see nothing of each other: the padding behind a volume changes no cell in it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.down = nn.Sequential(nn.Conv3d(1, 4, 2, 2), nn.ReLU(), nn.Conv3d(4, 6, 2, 2), nn.ReLU())
        self.head = nn.ConvTranspose3d(6, 2, 4, 4)
        for parameter in self.parameters():
            parameter.data.abs_()
        self.head.weight.data[:, 1] += 0.3 * torch.randn_like(self.head.weight[:, 1]) + 0.1

    def forward(self, x):
        return self.head(self.down(x))


@pytest.mark.parametrize(
    ("method", "window"),
    [
        *((m, w) for m in (*METHODS_OF_LAYERS, "scorecam") for w in ((8, 12, 16), (16, 16, 16), (8, 32, 16))),
        *((m, (8, 8, 8)) for m in METHODS_OF_LAYERS if m != "segxrescam"),  # whose own windows differ then
    ],
)
def test_the_padding_of_a_small_volume_takes_no_part(method, window):
    """Raw values too are those of the volume by itself, however far the window reaches beyond it."""
    net, x = Patches().double().eval(), torch.rand(1, 1, 8, 12, 16, dtype=torch.float64)
    (whole,) = explain(net, x, [1], [method], ["down"])
    (padded,) = explain(net, x, [1], [method], ["down"], windows=window)
    found = padded.volume.array[:2, :3, :4]
    assert whole.volume.array.any()
    np.testing.assert_allclose(found, whole.volume.array, atol=1e-6 * np.abs(whole.volume.array).max())


def test_no_window_is_kept_until_the_garbage_collector_comes_by():
    most, steps = 0, itertools.count()

    def count(*_step) -> None:
        nonlocal most
        if next(steps) % 25 == 0:
            most = max(most, len({id(found) for found in recordings()} - others))

    def recordings() -> list[Recording]:
        return [found for found in gc.get_objects() if isinstance(found, Recording)]

    gc.collect()
    held = recordings()  # by whoever ran before in this process
    others = {id(found) for found in held}
    gc.disable()
    try:
        explain(network("batch"), volume(), [1], ["gradcam"], ["down"], windows=WINDOW, progress=count)
    finally:
        gc.enable()
    assert 0 < most <= 2
