"""explain(): scores against literal autograd, slices on their own, choices and what is said about them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from fixture_nets import Blob, model
from torch import nn

from MedXAILib import explain
from MedXAILib.attribution.method import LayerMethod, QueryMethod
from MedXAILib.attribution.registry import methods
from MedXAILib.caveats import texts
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.models.loading import load_model
from MedXAILib.prediction import predict
from MedXAILib.scoring.targets import ClassTarget, RegionTarget, VoxelTarget

AFFINE = np.diag([-1.5, -1.0, 2.0, 1.0])


class Segmenter(nn.Module):
    """Three classes, every layer at full resolution, but one."""

    def __init__(self, dimensions: int = 3):
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
        self.down = nn.Sequential(conv(1, 4, 3, 2, 1), nn.ReLU(inplace=True), conv(4, 6, 3, padding=1))
        self.up = nn.Upsample(scale_factor=2)
        self.head = conv(6, 3, 1)

    def forward(self, x):
        return self.head(self.up(self.down(x)))


def segmenter(dimensions: int = 3, **card):
    torch.manual_seed(4)
    labels = [{"name": n} for n in ("background", "liver", "spleen")]
    return model(Segmenter(dimensions), task="segmentation", output={"labels": labels}, **card)


def noise(*shape: int) -> Volume:
    return Volume(np.random.default_rng(5).normal(size=shape).astype(np.float32), AFFINE)


def literal_gradcam(network, x, score) -> np.ndarray:
    """Grad-CAM at ``down`` of the whole input, written out."""
    a = network.down(x).detach().requires_grad_()
    output = network.head(network.up(a))
    (gradient,) = torch.autograd.grad(score(output), a)
    return torch.relu((gradient.mean((2, 3, 4), keepdim=True) * a).sum(1))[0].detach().numpy()


@pytest.mark.parametrize(
    "target", [ClassTarget("spleen"), RegionTarget("liver", 0.4), VoxelTarget((-6, -5, 6), "liver")]
)
def test_scores_of_a_segmentation_are_what_they_say(target):
    net, volume = segmenter(), noise(8, 10, 12)
    (found,) = explain(net, volume, [target], layers=["down"])
    x = torch.from_numpy(volume.array)[None, None]

    def score(output):
        probability = output.softmax(1)
        if isinstance(target, ClassTarget):
            return output[:, 2][output.argmax(1) == 2].sum()
        if isinstance(target, RegionTarget):
            return output[:, 1][probability[:, 1] > 0.4].sum()
        return output[0, 1, 3, 5, 4]

    expected = literal_gradcam(net.network, x, score)
    assert np.abs(found.volume.array - expected).max() <= 1e-5 * expected.max()
    names = {ClassTarget: "spleen", RegionTarget: "liver-T0.4", VoxelTarget: "liver-voxel--6--5-6"}
    assert found.target == names[type(target)]


def test_windows_that_hold_the_whole_give_the_whole():
    whole, volume = segmenter(), noise(8, 8, 8)
    windows = segmenter(spatial={"mode": "windows", "size": [8, 8, 8]})
    one, other = (explain(net, volume, [ClassTarget("liver")], layers=["down"])[0] for net in (whole, windows))
    assert np.allclose(one.volume.array, other.volume.array, atol=1e-6 * one.volume.array.max())


def test_each_slice_is_explained_by_its_own_score():
    net = model(Blob(2, 2, 2), spatial={"mode": "slices", "axis": "k"})
    volume = noise(5, 8, 8)
    (stack,) = explain(net, volume, [ClassTarget("yes")], layers=["features"])
    for n in range(5):
        alone = Volume(volume.array[n : n + 1], AFFINE)
        (single,) = explain(net, alone, [ClassTarget("yes")], layers=["features"])
        assert np.allclose(stack.volume.array[n], single.volume.array[0], atol=1e-7)
    (some,) = explain(net, volume, [ClassTarget("yes")], layers=["features"], slices="top:2")
    best = np.argsort(volume.array.mean((1, 2)))[-2:]
    assert set(np.flatnonzero(some.volume.array.any((1, 2)))) == set(best)
    assert any("not computed" in sentence for sentence in texts(some.caveats))


def test_a_stack_says_in_how_many_slices_the_model_says_something_else():
    """The score of "yes" is a slice's mean."""
    net = model(Blob(2, 2, 2), spatial={"mode": "slices", "axis": "k"})
    volume = Volume(noise(5, 8, 8).array + np.array([1, -1, 1, -1, -1], np.float32)[:, None, None], AFFINE)

    def said(**options) -> list[str]:
        (a,) = explain(net, volume, [ClassTarget("yes")], layers=["features"], **options)
        return [caveat.text for caveat in a.caveats if caveat.code == "other-class"]

    assert said() == ["In 3 of 5 slices the model says another class than yes."]
    assert said(slices="3:5") == ["In none of the 2 slices does the model say yes."] and said(slices="0:1") == []
    assert "In this slice the model says no (p " in said(slices="1:2")[0]


def test_lime_finds_the_superpixel_that_carries_the_score():
    net = model(Blob(3, 1, 1))
    array = np.zeros((16, 16, 16), np.float32)
    array[2:-2, 2:-2, 2:-2] = np.random.default_rng(0).uniform(3, 5, (12, 12, 12))
    array[4:8, 9:13, 5:9] = 9.0
    (found,) = explain(net, Volume(array, np.eye(4)), [ClassTarget("yes")], ["lime"], superpixels=20)
    at = np.unravel_index(found.volume.array.argmax(), array.shape)
    assert array[at] == 9.0 and found.signed and found.superpixels is not None
    assert found.evaluations >= 200 and any("R2" in sentence for sentence in texts(found.caveats))


def test_an_empty_region_gives_zeros_and_says_so():
    (found,) = explain(segmenter(), noise(8, 8, 8), [RegionTarget("liver", 0.999)], layers=["down"])
    assert not found.volume.array.any() and any("empty" in sentence for sentence in texts(found.caveats))


def test_one_forward_pass_serves_prediction_all_layers_and_all_classes():
    net, passes = segmenter(), []
    net.network.register_forward_hook(lambda _, __, output: passes.append(output.device.type))
    explain(net, noise(8, 8, 8), [ClassTarget("liver"), ClassTarget("spleen")], layers=["down", "down.0"])
    assert [p for p in passes if p != "meta"] == ["cpu"]  # the dry passes that find the layers compute nothing


def test_bad_choices_are_sentences():
    net, volume = model(Blob(3, 2, 2)), noise(8, 8, 8)
    for arguments, words in (
        ({"layers": ["feature"]}, "near names are features"),
        ({"targets": [ClassTarget("maybe")]}, "no, yes"),
        ({"targets": [VoxelTarget((0, 0, 0))]}, "classifies"),
        ({"methods": ["magic"]}, "choose from gradcam, .*lime"),
    ):
        with pytest.raises(InputError, match=words):
            explain(net, volume, **arguments)
    with pytest.raises(InputError, match="outside the volume"):
        explain(segmenter(), volume, [VoxelTarget((500, 0, 0))], layers=["down"])
    with pytest.raises(InputError, match="'mr' is missing"):
        two = model(Blob(3, 2, 2), input={"channels": [{"name": "mr"}, {"name": "pet"}]})
        explain(two, {"pet": volume})


@pytest.mark.parametrize("kind", ["backwards", "big-endian", "integers", "sparse", "double"])
def test_an_array_may_lie_in_memory_as_it_likes(kind):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    plain = np.random.default_rng(0).integers(0, 9, (1, 1, 16, 16)).astype(np.float32)
    given = {
        "backwards": np.ascontiguousarray(plain[..., ::-1])[..., ::-1],
        "big-endian": plain.astype(">f4"),
        "integers": plain.astype(int),
        "sparse": torch.from_numpy(plain).to_sparse(),
        "double": plain.astype(float),
    }[kind]
    network = network.double() if kind == "double" else network
    found, wanted = (explain(network, x, [0], ["saliency"])[0].volume.array for x in (given, torch.from_numpy(plain)))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "given, said",
    [
        (np.zeros((0, 1, 16, 16), np.float32), "is empty"),
        (np.ones((1, 1, 16, 16), complex), "real numbers"),
        (torch.ones(1, 1, 16, 16, device="meta"), "no values"),
    ],
)
def test_an_array_without_real_numbers_is_a_sentence(given, said):
    with pytest.raises(InputError, match=said):
        explain(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), given, [0])


class Says(nn.Module):
    def __init__(self, says):
        super().__init__()
        self.body, self.says = nn.Conv2d(1, 2, 3), says

    def forward(self, x):
        return self.says(self.body(x).mean((2, 3)))


def no_such_size(y):
    if y.shape[1] != 3:
        raise AssertionError
    return y


@pytest.mark.parametrize("says, sentence", [(lambda y: {}, "holds no tensor"), (no_such_size, "AssertionError")])
def test_a_network_that_gives_nothing_is_a_sentence(says, sentence):
    with pytest.raises(InputError, match=sentence):
        explain(Says(says).eval(), torch.rand(1, 1, 16, 16), [0])


def test_several_inputs_become_channels_on_the_first_ones_grid():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 1, bias=False)
            self.conv.weight.data = torch.eye(2)[:, :, None, None, None]

        def forward(self, x):
            return self.conv(x).flatten(2).mean(2)

    net = model(
        Both(),
        input={"channels": [{"name": "mr"}, {"name": "pet"}]},
        output={"labels": [{"name": "a"}, {"name": "b"}], "activation": "sigmoid"},
    )
    mr, pet = noise(6, 6, 6), Volume(np.full((3, 3, 3), 2.0, np.float32), AFFINE @ np.diag([2.0, 2, 2, 1]))
    prediction = predict(net, {"pet": pet, "mr": mr})
    assert np.allclose(prediction.logits[0], [mr.array.mean(), 2.0], atol=1e-5)


@pytest.mark.parametrize("kind", ["script", "exported"])
def test_a_network_that_is_a_program_is_explained_as_far_as_it_can_be(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDXAI_CONFIG", str(tmp_path))
    net = nn.Sequential(
        nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    x = torch.randn(1, 1, 8, 8, 8)
    path = tmp_path / "net.pt2"
    if kind == "script":
        torch.jit.trace(net, x).save(path)
    else:
        torch.export.save(torch.export.export(net, (x,)), path)
    card = model(net, network={"architecture": "file"}, weights={"file": path.name}).card
    with pytest.raises(InputError, match="--trust"):
        load_model(card, weights=path)
    program, volume = load_model(card, weights=path, trust=True), noise(8, 8, 8)
    yes = [ClassTarget("yes")]
    ours, theirs = (explain(m, volume, yes, ["lime"], superpixels=8)[0] for m in (model(net), program))
    assert np.allclose(ours.volume.array, theirs.volume.array, atol=1e-5)
    if kind == "script":
        with pytest.raises(InputError, match="no hooks"):
            explain(program, volume, yes)
    else:
        ours, theirs = (explain(m, volume, yes, layers=["1"])[0] for m in (model(net), program))
        assert np.allclose(ours.volume.array, theirs.volume.array, atol=1e-6)


class Small(nn.Module):
    def __init__(self, dimensions: int):
        super().__init__()
        torch.manual_seed(0)
        conv = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
        self.features = nn.Sequential(conv(1, 4, 3, 2, 1), nn.ReLU(), conv(4, 6, 3, 1, 1), nn.ReLU())
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.features(x).flatten(2).mean(2))


def exported(net: nn.Module, dimensions: int, dynamic: bool):
    x = torch.rand(1 + dynamic, 1, *(8,) * dimensions)
    return torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},) if dynamic else None)


def saved(net: nn.Module, dimensions: int):
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(net, torch.rand(1, 1, *(8,) * dimensions)), file)
    return torch.jit.load(io.BytesIO(file.getvalue()))


PROGRAMS = {
    "exported": lambda net, d: exported(net, d, False),
    "exported, any batch": lambda net, d: exported(net, d, True),
    "scripted": lambda net, d: torch.jit.script(net),
    "traced": lambda net, d: torch.jit.trace(net, torch.rand(1, 1, *(8,) * d)),
    "traced, saved": saved,
    "frozen": lambda net, d: torch.jit.freeze(torch.jit.script(net)),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("kind", "dimensions"), [*((kind, 2) for kind in PROGRAMS), ("exported, any batch", 3), ("traced, saved", 3)]
)
def test_every_method_on_a_program_ends_in_the_networks_own_map_or_in_one_sentence(kind, dimensions):
    net = Small(dimensions).eval()
    program = PROGRAMS[kind](net, dimensions)
    x = torch.rand(3 if dimensions == 2 else 1, 1, *(8,) * dimensions)
    if kind.startswith("exported"):
        refused = {"segxrescam"} | ({"deeplift"} if kind == "exported" else set())
    else:
        of_layers = {name for name, m in methods().items() if isinstance(m, LayerMethod)}
        refused = of_layers | {"deeplift", "lrp", "guidedbackprop", "deconvnet", "guidedgradcam"}
    said = {}
    for name in refused:
        with pytest.raises(InputError) as error:
            explain(program, x, [1], [name], samples=10, superpixels=4)
        said[name] = str(error.value)
    assert all(s.endswith(".") and "\n" not in s for s in said.values())
    if kind == "exported":
        assert "dynamic batch" in said["deeplift"]
    if not kind.startswith("exported"):
        assert "takes no hooks" in said["gradcam"] and "no activation function" in said["lrp"]

    options = {"samples": 10, "superpixels": 4, "layers": ["features"] if kind.startswith("exported") else []}
    rest = [name for name in methods() if name not in refused]
    one, other = (explain(given, x, [1], rest, **options) for given in (program, net))
    assert {a.method for a in one} == set(rest)
    for found, expected in zip(one, other, strict=True):
        largest = np.abs(expected.volume.array).max()
        rounding = 1e-2 if isinstance(methods()[found.method], QueryMethod) else 1e-5  # differences of float32 scores
        assert found.method == expected.method
        assert largest and np.allclose(found.volume.array, expected.volume.array, atol=rounding * largest), found.method


def test_an_onnx_model_is_named_and_what_to_do(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x07\x12\x07pytorch")
    session = type("InferenceSession", (), {"__module__": "onnxruntime.capi.onnxruntime_inference_collection"})()
    for given in (path, str(path), session):
        with pytest.raises(InputError, match=r"ONNX model.*torch\.export.*onnx2torch"):
            explain(given, torch.rand(1, 1, 8, 8, 8))
    with pytest.raises(InputError, match=r"net\.onnx: this is an ONNX model"):
        load_model(path)
