"""Is an input of the kind that the model knows: the figures, their ranges, the sentences, and where they are shown."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from fixture_runs import told_of
from torch import nn

from MedXAILib import explain, load_model, predict, read_volume
from MedXAILib.cli import run
from MedXAILib.errors import InputError
from MedXAILib.examples.planted_lesion.heads import demo_head
from MedXAILib.examples.planted_lesion.planting import plant_lesion
from MedXAILib.geometry.volume import Source, Volume
from MedXAILib.io.write import write_volume
from MedXAILib.models.card import ModelCard
from MedXAILib.models.loading import find_card
from MedXAILib.models.sources.zoo import ZOO, zoo_cards
from MedXAILib.preprocessing.foreground import foreground
from MedXAILib.preprocessing.prepare import prepare
from MedXAILib.preprocessing.suitability import check, measure


def card_of(**fields) -> ModelCard:
    """A card of a 3D classifier that takes stored values as they are."""
    return ModelCard.model_validate(
        {
            "name": "net",
            "task": "classification",
            "network": {"architecture": "none"},
            "weights": {"file": "none"},
            "spatial": {"mode": "whole"},
            "input": {"expected": {"modality": ["MR"]}},
            "output": {"labels": [{"name": "a"}, {"name": "b"}]},
        }
        | fields
    )


def drawn(seed: int, spacing: float | None = None, shape=(16, 18, 20), modality: str = "") -> Volume:
    """A bright ellipsoid, brighter on one side, in air; place, size and brightness vary a little."""
    rng = np.random.default_rng(seed)
    k, j, i = np.indices(shape)
    middle = [(n - 1) / 2 + rng.uniform(-0.7, 0.7) for n in shape]
    radii = [n / 3 * rng.uniform(0.95, 1.05) for n in shape]
    inside = sum(((at - m) / r) ** 2 for at, m, r in zip((k, j, i), middle, radii, strict=True)) < 1
    array = np.where(inside, (20 + 180 * i / shape[2]) * rng.uniform(0.95, 1.05), 0) + rng.uniform(0, 3, shape)
    affine = np.diag([*(3 * [spacing or rng.uniform(0.9, 1.1)]), 1.0])
    return Volume(
        array.astype(np.float32), affine, Source("head.nrrd", series={"modality": modality} if modality else {})
    )


def with_expectations(card: ModelCard, examples) -> ModelCard:
    expected = measure(card, [prepare(card, example) for example in examples])
    return card.model_copy(update={"input": card.input.model_copy(update={"expected": expected})})


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return with_expectations(card_of(), [drawn(seed) for seed in range(60)])


def codes(card: ModelCard, volume: Volume) -> list[str]:
    return [caveat.code.removeprefix("unlike-training-") for caveat in check(card, prepare(card, volume))]


def test_ranges_are_the_outer_percentiles_and_a_quarter_of_their_width(card):
    """In numpy, from the volumes."""
    views = [drawn(seed).shape[0] * drawn(seed).spacing[0] for seed in range(60)]
    low, high = np.percentile(views, (1, 99))
    slack = max((high - low) / 4, high / 5)
    assert card.input.expected.field_of_view["R-L"] == pytest.approx((low - slack, high + slack), rel=0.005)

    bright = [np.median(v.array[foreground(v.array)]) for v in map(drawn, range(60))]
    low, high = np.percentile(bright, (1, 99))
    wanted = low - (high - low) / 4, high + (high - low) / 4
    assert card.input.expected.seen["image"]["median"] == pytest.approx(wanted, rel=0.005)
    assert card.input.expected.stored["median"] == pytest.approx(wanted, rel=0.005)
    assert card.input.expected.cases == 60 and card.input.expected.modality == ("MR",)


def test_new_inputs_of_the_kind_are_not_called_unlike_it(card):
    called = [codes(card, drawn(seed, modality="MR")) for seed in range(1000, 1060)]
    assert sum(map(bool, called)) <= 3


def mirror(count: int) -> np.ndarray:
    """The affine of an array whose i axis was turned around: nothing moved."""
    turned = np.diag([-1.0, 1, 1, 1])
    turned[0, 3] = count - 1
    return turned


KINDS = {
    "another modality": (lambda v: Volume(v.array, v.affine, Source("x", series={"modality": "CT"})), "modality"),
    "an axis that runs the other way": (
        lambda v: Volume(np.ascontiguousarray(v.array[:, :, ::-1]), v.affine @ mirror(v.shape[0])),
        "orientation",
    ),
    "other voxels": (lambda v: Volume(v.array, np.diag([1.0, 1, 3, 1])), "spacing"),
    "a wider view": (lambda v: Volume(np.pad(v.array, 8), v.affine), "field-of-view"),
    "twice as bright": (lambda v: v.with_array(2 * v.array), "stored"),
    "inverted": (lambda v: v.with_array(v.array.max() - v.array), "appearance"),
    "turned over": (lambda v: v.with_array(np.ascontiguousarray(v.array[:, :, ::-1])), "appearance"),
    "noise": (lambda v: v.with_array(np.random.default_rng(0).uniform(0, 140, v.array.shape)), "appearance"),
    "a mask": (lambda v: v.with_array((v.array > 50).astype(np.uint8)), "values"),
    "empty": (lambda v: v.with_array(0 * v.array), "constant-input"),
    "constant": (lambda v: v.with_array(0 * v.array + 7), "constant-input"),
    "nowhere finite": (lambda v: v.with_array(np.full_like(v.array, np.nan)), "constant-input"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_input_is_called_so_by_the_figure_that_differs(card, kind):
    spoil, code = KINDS[kind]
    assert codes(card, drawn(2000, spacing=1.0)) == []
    assert code in codes(card, spoil(drawn(2000, spacing=1.0)))


def test_the_sentence_has_both_figures(card):
    volume = drawn(2000, spacing=1.0)
    said = check(card, prepare(card, Volume(volume.array, np.diag([1, 1, 3.0, 1]))))
    (spacing,) = [caveat for caveat in said if caveat.code == "unlike-training-spacing"]
    low, high = card.input.expected.spacing["S-I"]
    assert spacing.text == (
        "This is unlike what the model was trained on: the voxels are 3 mm long along S-I; "
        f"in the training data {low:.3g} to {high:.3g} mm."
    )


def test_slices_cut_across_the_acquisition_and_colours_are_called_so():
    """A sagittal stack of thick slices for a model of axial ones; a picture with colours for one that learned from grey."""
    fields = {"spatial": {"mode": "slices"}, "input": {"color": "luminance", "size": [16, 16]}}
    flat = [Volume(drawn(seed).array[8:9], np.eye(4), Source("slice.png")) for seed in range(20)]
    card = with_expectations(card_of(**fields), flat)
    assert card.input.expected.spacing == {} and card.input.expected.field_of_view == {}, "a picture has no mm"
    assert "pixels" in codes(card, Volume(drawn(50).array, np.diag([6.0, 1, 1, 1])))
    painted = np.stack([flat[0].array, 0 * flat[0].array, 0 * flat[0].array], 3)
    assert "colour" in codes(card, flat[0].with_array(painted))
    assert "colour" not in codes(card, flat[0].with_array(np.stack([flat[0].array] * 3, 3)))


def test_volumes_that_are_cut_along_another_axis_are_called_so():
    fields = {"spatial": {"mode": "slices", "axis": "k"}, "input": {"orientation": "LPS", "size": [16, 16]}}
    card = with_expectations(card_of(**fields), [drawn(seed) for seed in range(12)])
    assert card.input.expected.orientation == ("S-I",)
    volume = drawn(50, spacing=1.0)
    sagittal = Volume(np.ascontiguousarray(volume.array.transpose(2, 1, 0)), volume.affine[:, [2, 1, 0, 3]])
    assert "orientation" in codes(card, sagittal) and "orientation" not in codes(card, volume)
    turned = with_expectations(card_of(input={"orientation": "LPS"}), [drawn(seed) for seed in range(12)])
    assert turned.input.expected.orientation == (), "its card sees to it"


def test_too_few_examples_are_refused():
    with pytest.raises(InputError, match="at least 10"):
        with_expectations(card_of(), [drawn(seed) for seed in range(9)])


def nets():
    import torch

    conv, mean = torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1)
    return torch.nn.Sequential(conv, torch.nn.ReLU(), mean, torch.nn.Flatten(), torch.nn.Linear(4, 2))


@pytest.mark.parametrize("value", (0.0, 3.0, np.nan))
def test_what_is_one_value_everywhere_is_not_explained(value):
    """Of a bare network: an array, a batch, a volume; of a model with its card."""
    array = np.full((3, 1, 12, 12), value, np.float32)
    for inputs in (array, array[:1], Volume(array[:, 0], np.eye(4))):
        with pytest.raises(InputError, match="nothing to explain"):
            explain(nets(), inputs, 0)
    model, head = load_model("planted-lesion", device="cpu"), np.full((20, 22, 18), value, np.float32)
    volume = Volume(head, np.diag([3.0, 3, 3, 1]), Source("head.nrrd"))
    assert [caveat.code for caveat in predict(model, volume).caveats] == ["constant-input"]
    with pytest.raises(InputError, match="head.nrrd .*nothing to explain"):
        explain(model, volume)


def test_what_the_cards_rule_makes_one_value_is_called_so():
    """A CT stored with an offset, given to a card that clips Hounsfield units."""
    card = card_of(input={"intensity": {"rule": "range", "lower": -1000, "upper": 400}})
    volume = drawn(0).with_array(drawn(0).array + 2000)
    (caveat,) = check(card, prepare(card, volume))
    assert caveat.code == "constant-input" and "after the card's preprocessing" in caveat.text


def test_of_several_inputs_the_empty_one_is_named():
    card = card_of(input={"channels": [{"name": "t1"}, {"name": "flair"}]})
    first = drawn(0)
    (caveat,) = check(card, prepare(card, {"t1": first, "flair": first.with_array(0 * first.array)}))
    assert caveat.code == "constant-input" and "'flair'" in caveat.text


def test_empty_slices_of_an_ordinary_volume_are_ordinary():
    array = np.random.default_rng(0).normal(size=(4, 1, 12, 12)).astype(np.float32)
    array[[0, 3]] = 0
    (a,) = explain(nets(), array, 0, layers=["0"])
    assert a.volume.array.shape[0] == 4
    with pytest.raises(InputError, match="--slices 3: .*one value only"):
        explain(nets(), array, 0, layers=["0"], slices="3:4")


def test_an_empty_slice_does_not_count_in_the_whole():
    """The network is surest of an empty slice."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    for parameter, value in zip(network.parameters(), (1.0, 0.0, [[-1.0], [1.0]], [0.0, -1.0]), strict=True):
        parameter.data = torch.tensor(value).expand(parameter.shape).clone()
    array = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    array[[0, 3]] = 0
    with torch.no_grad():
        own = network(torch.from_numpy(array)).softmax(1).numpy()
    (a,) = explain(network, array, 0, ["saliency"])
    assert own[0, 0] > own[1:3, 0].max() and a.says == (
        f"highest p {own[1:3, 0].max():.3f} (slice {1 + own[1:3, 0].argmax()})"
    )
    (a,) = explain(network, array, 0, ["saliency"], slices="top:1")
    assert a.provenance["slices"] == str(own[:3, 0][1:].argmax() + 1)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """An inverted head, explained by the demo's model."""
    folder = tmp_path_factory.mktemp("foreign")
    head = demo_head()
    small = Volume(head.array[::3, ::3, ::3], head.affine @ np.diag([3.0, 3, 3, 1]))
    write_volume(small.with_array(small.array.max() - small.array), folder / "head.nrrd")
    assert run(["explain", str(folder / "head.nrrd"), "--model", "planted-lesion", "-o", str(folder / "out")]) == 0
    return folder


def test_the_caveats_stand_in_tables_and_files(foreign):
    summary = json.loads((foreign / "out" / "run.json").read_text())
    caveats = told_of(foreign / "out")[0]["caveats"]
    assert caveats and all(c["code"].startswith("unlike-training-") for c in caveats)
    texts = [caveat["text"] for caveat in caveats]
    with (foreign / "out" / "caveats.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"input": "head.nrrd"} | caveat for caveat in caveats]
    (path,) = (foreign / "out").rglob("*_gradcam_features_????????????????.json")
    facts = json.loads(path.read_text())
    assert [c["text"] for c in facts["caveats"]][: len(texts)] == texts, "before what limits the map for other reasons"
    assert [c for c in facts["caveats"] if c in caveats] == caveats
    assert [line for line in summary["messages"] if line in texts] == texts, "said before the maps"


def test_the_terminal_says_each_caveat_once_and_before_the_maps(foreign, capsys):
    command = ["explain", str(foreign / "head.nrrd"), "--model", "planted-lesion", "-o", str(foreign / "again")]
    assert run(command) == 0
    printed = capsys.readouterr().out
    (first, *_) = told_of(foreign / "again")[0]["caveats"]
    assert printed.count(first["text"]) == 1 and printed.index(first["text"]) < printed.index("gradcam")


@pytest.mark.parametrize("maps", (0, 1, 7))
def test_pictures_show_the_caveats_above_the_maps(maps, tmp_path):
    """A row for each map, a contact sheet, and a picture of a prediction alone: the same, and a band of words more."""
    pytest.importorskip("slicer")
    from PIL import Image

    from MedXAILib.mrml.overlay import Overlay
    from MedXAILib.outputs.pictures.layout import WARNING
    from MedXAILib.outputs.pictures.snapshot import snapshot

    volume = drawn(0)
    about = {"map": volume, "signed": False, "target": "a", "said": "p 1", "caveats": ("It is odd.",)}
    shown = [Overlay(name=f"m{n}", method=f"map {n}", **about) for n in range(maps)]
    plain = Image.open(snapshot(volume, shown, tmp_path / "plain.png", solid=False))
    warned = Image.open(snapshot(volume, shown, tmp_path / "warned.png", solid=False, caveats=["It is odd."]))
    rows = [np.flatnonzero((np.asarray(p) == WARNING).all(2).any(1)) for p in (plain, warned)]
    assert not len(rows[0]) and len(rows[1]) and rows[1].max() < 120


def test_card_check_measures_examples_and_names_what_differs(tmp_path, capsys):
    card = tmp_path / "planted-lesion.json"
    content = json.loads((ZOO / card.name).read_text())
    content["input"].pop("expected")
    card.write_text(json.dumps(content))
    shutil.copy(ZOO / "planted-lesion.safetensors", tmp_path)
    (tmp_path / "heads").mkdir()
    for seed in range(10):
        write_volume(drawn(seed, 3.0), tmp_path / "heads" / f"{seed}.nrrd")
    write_volume(drawn(0, 6.0), tmp_path / "wide.nrrd")
    command = ["card", "check", str(card), str(tmp_path / "wide.nrrd"), "-o", str(tmp_path / "x.png")]
    assert run([*command, "--expect", str(tmp_path / "heads")]) == 0
    written = json.loads(card.read_text())
    assert written["input"]["expected"]["cases"] == 10
    written["input"].pop("expected")
    assert written == content, "nothing else of the card has changed"
    assert "the voxels are 6 mm long along" in capsys.readouterr().out

    (tmp_path / "heads" / "0.nrrd").unlink()
    before = card.read_bytes()
    assert run([*command, "--expect", str(tmp_path / "heads")]) == 2
    assert card.read_bytes() == before and "at least 10" in capsys.readouterr().err


OWN = {
    "brain-tumor-slices": ["volumes/pyradiomics_brain1_image.nrrd", "images2d/brain_tumor_mri"],
    "planted-lesion": [],
} | dict.fromkeys(
    ("hippocampus-doubleunet", "hippocampus-mcgunet", "hippocampus-r2unet"), ["volumes/hippocampus/images"]
)


@pytest.mark.parametrize("name", zoo_cards())
def test_the_zoo_knows_its_own_test_set_and_not_an_abdomen(name, data):
    """A sample; ``make check-input`` tries all."""
    card = find_card(name)[0]
    paths = [path for part in OWN[name] for path in sample(data / part)]
    own = [read_volume(path) for path in paths] or [plant_lesion(demo_head(), seed).head for seed in range(2)]
    assert not [codes(card, volume) for volume in own if codes(card, volume)]
    first, abdomen = own[0], read_volume(data / "volumes" / "ts_example_ct_sm.nii.gz")
    inverted = first.with_array(first.array.max() - first.array)
    for volume in (abdomen, inverted, first.with_array(0 * first.array), first.with_array(0 * first.array + 7)):
        assert codes(card, volume)


def sample(path) -> list:
    """A file, or eight files from all over a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return files[:: max(1, len(files) // 8)]
