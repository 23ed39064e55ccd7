"""medxai train: what is learned, that it repeats, that it goes on after a stop, and what it says of bad input."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from MedXAILib import explain, load_model, predict, read_volume
from MedXAILib.cli import run
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume
from MedXAILib.progress import Cancelled
from MedXAILib.scoring.targets import ClassTarget
from MedXAILib.training import cases, checkpoint, measuring, splitting, train
from MedXAILib.training.augmentation import Augment
from MedXAILib.training.checkpoint import State
from MedXAILib.training.example import TrainingExample, load_all
from MedXAILib.training.losses import independent, make, masked_bce
from MedXAILib.training.measuring import auroc, dice, interval
from MedXAILib.training.recipe import Augmentation, read_recipe

RECIPES = Path(__file__).resolve().parents[1] / "recipes"

PICTURES = """
name = "blobs"
seed = 3

[data]
train = "pictures"
validation = 0.25

[training]
loss = "cross_entropy"
epochs = 3
batch = 8
learning_rate = 5e-3

[card]
task = "classification"
spatial = { mode = "slices" }
network = { architecture = "BrainTumorCNN", arguments = { spatial_dims = 2, classes = 2, width = 4 } }
input = { size = [32, 32], intensity = { rule = "range", lower = 0, upper = 255 } }
output = { labels = [{ name = "bright" }, { name = "dark" }] }

[[augmentation]]
name = "RandFlip"
arguments = { prob = 0.5, spatial_axis = 0 }

[[augmentation]]
name = "RandGaussianNoise"
arguments = { prob = 0.5, std = 0.05 }
"""

MASKS = """
name = "balls"

[data]
train = "."

[training]
loss = "dice_cross_entropy"
epochs = 2
batch = 2

[card]
task = "segmentation"
spatial = { mode = "whole" }
network = { architecture = "MCGUNet", arguments = { spatial_dims = 3, in_channels = 1, out_channels = 2, width = 2, batch_norm = true } }
input = { size = [16, 16, 16], fit = "pad_or_crop" }
output = { labels = [{ name = "background" }, { name = "ball" }] }
"""


def blob(rng: np.random.Generator, level: float) -> np.ndarray:
    """A noisy picture with a disc of ``level`` above its ground of 128."""
    y, x = np.mgrid[:32, :32]
    cy, cx = rng.uniform(8, 24, 2)
    disc = np.hypot(y - cy, x - cx) < 5
    return np.clip(128 + rng.normal(0, 8, (32, 32)) + level * disc, 0, 255).astype(np.uint8)


def pictures(folder: Path, count: int = 24) -> Path:
    """``bright`` and ``dark``, ``count`` pictures of each."""
    rng = np.random.default_rng(0)
    for name, level in (("bright", 60), ("dark", -60)):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(blob(rng, level)).save(folder / "pictures" / name / f"{number:03}.png")
    return folder


def balls(folder: Path, count: int = 4) -> Path:
    """Volumes with a bright ball, and their masks."""
    rng = np.random.default_rng(0)
    k, j, i = np.mgrid[:14, :14, :14]
    for number in range(count):
        ck, cj, ci = rng.uniform(5, 9, 3)
        ball = np.hypot(np.hypot(k - ck, j - cj), i - ci) < 4
        image = (ball + rng.normal(0, 0.1, ball.shape)).astype(np.float32)
        write_volume(Volume(image, np.diag([2.0, 2, 2, 1])), made(folder / "images") / f"{number}.nrrd")
        write_volume(Volume(ball.astype(np.uint8), np.diag([2.0, 2, 2, 1])), made(folder / "labels") / f"{number}.nrrd")
    return folder


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def written(folder: Path, text: str, **changes: str) -> Path:
    """A recipe file; ``changes`` are lines by the name before their equals sign."""
    lines = [
        f"{line.split(' =')[0]} = {changes[line.split(' =')[0]]}" if line.split(" =")[0] in changes else line
        for line in text.splitlines()
    ]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines))
    return path


def weights_hash(folder: Path) -> str:
    (path,) = folder.glob("*.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


# The whole way --------------------------------------------------------------------------------------------------------


def test_the_smoke_recipe_reaches_its_figure(data, tmp_path, patience):
    """Real volumes, through the command line: two minutes on two cores at most."""
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-m", "MedXAILib", "train", str(RECIPES / "smoke.toml"), "--data", str(data)]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "out" / "smoke.json").read_text())
    value, low, high = card["figures"]["validation (the best epoch was chosen by it)"]["mean Dice"]
    assert value >= 0.7 and low <= value <= high
    assert (tmp_path / "out" / "smoke.png").stat().st_size > 10_000
    rows = list(csv.DictReader((tmp_path / "out" / "smoke.log.csv").read_text().splitlines()))
    assert len(rows) == read_recipe(RECIPES / "smoke.toml").training.epochs
    assert not (tmp_path / "out" / checkpoint.FILE).exists()
    assert "mean Dice" in done.stdout and "Research use only" in done.stdout

    case = sorted((data / "volumes" / "hippocampus_train" / "images").iterdir())[0]
    found = predict(load_model(tmp_path / "out" / "smoke.json"), read_volume(case))
    assert set(found.labels.ml()) == {"anterior hippocampus", "posterior hippocampus"}


def test_pictures_are_told_apart_and_the_figures_are_true(tmp_path):
    """The card's accuracy is what predict() gives on the pictures that were set aside."""
    place = pictures(tmp_path)
    recipe = written(tmp_path, PICTURES, epochs="20", train='"pictures"\ntest = "unseen/pictures"')
    rng = np.random.default_rng(1)
    for name, level in (("bright", 60), ("dark", -60)):
        for number in range(10):
            Image.fromarray(blob(rng, level)).save(made(tmp_path / "unseen" / "pictures" / name) / f"{number}.png")
    figures = train(recipe, place, tmp_path / "out")
    tested = figures["test: unseen/pictures"]
    assert tested["cases"] == 20 and tested["accuracy"][0] >= 0.9
    model = load_model(tmp_path / "out" / "blobs.json")
    assert model.card.input.expected.cases == figures["training"]["cases"], "what inputs look like was measured too"
    right = [
        predict(model, read_volume(path)).top == path.parent.name
        for path in (tmp_path / "unseen" / "pictures").rglob("*.png")
    ]
    assert np.mean(right) == tested["accuracy"][0]
    table = tested["confusion (rows: true; columns: said)"]
    assert sum(map(sum, table.values())) == 20 and table["bright"][0] + table["dark"][1] == sum(right)


def test_a_unet_classifier_learns_labels_that_come_together_and_looks_at_them(tmp_path):
    """Two planted lesions, each present or not or not mentioned: maps of the two labels point at their own lesion."""
    rng = np.random.default_rng(0)
    rows, planted = [], {}
    y, x = np.mgrid[:48, :48]
    for number in range(120):
        image, places = 128 + rng.normal(0, 6, (48, 48)), {}
        for label, sign in (("Edema", 1), ("Airspace Opacity", -1)):
            cy, cx = rng.uniform(8, 40, 2)
            if present := rng.random() < 0.5:
                image = image + sign * 70 * (np.hypot(y - cy, x - cx) < 5)
            said = "" if rng.random() < 0.3 else "-1" if rng.random() < 0.2 else str(int(present))
            places[label] = (present, cy, cx, said)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        rows.append({"path": f"{number}.png"} | {label: place[3] for label, place in places.items()})
        planted[number] = places
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["path", "Edema", "Airspace Opacity"])
        table.writeheader()
        table.writerows(rows)
    recipe = written(
        tmp_path,
        PICTURES,
        train='"labels.csv"',
        loss='"bce"',
        epochs="12",
        network='{ architecture = "UNetClassifier", arguments = { spatial_dims = 2, classes = 2, width = 4 } }',
        input='{ size = [48, 48], intensity = { rule = "range", lower = 0, upper = 255, mean = 0.5, std = 0.25 } }',
        output='{ labels = [{ name = "Edema" }, { name = "Lung Opacity" }], activation = "sigmoid" }',
    )
    figures = train(recipe, tmp_path, tmp_path / "out")["validation (the best epoch was chosen by it)"]
    assert figures["AUROC of Edema"][0] > 0.9 and figures["AUROC of Lung Opacity"][0] > 0.9, figures

    model = load_model(tmp_path / "out" / "blobs.json")
    hits, tries, different = 0, 0, []
    for number, places in list(planted.items())[:30]:
        if not (places["Edema"][0] and places["Airspace Opacity"][0]):
            continue
        volume = read_volume(tmp_path / f"{number}.png")
        maps = explain(
            model, volume, [ClassTarget("Edema"), ClassTarget("Lung Opacity")], ["gradcam"], layers=["decoder.1"]
        )
        heat = [attribution.on(volume).array[0] for attribution in maps]
        different.append(np.corrcoef(heat[0].ravel(), heat[1].ravel())[0, 1])
        for array, (_, cy, cx, _) in zip(heat, places.values(), strict=True):
            py, px = np.unravel_index(array.argmax(), array.shape)
            hits += np.hypot(py - cy, px - cx) < 8
            tries += 1
    share = np.pi * 8**2 / 48**2  # of the picture that counts as a hit
    assert tries >= 10 and hits / tries > 4 * share, (hits, tries, share)
    assert np.mean(different) < 0.5, "maps of two labels differ"


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    place = pictures(tmp_path)
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        train(written(tmp_path, PICTURES, seed=str(seed)), place, tmp_path / name)
    assert weights_hash(tmp_path / "one") == weights_hash(tmp_path / "two") != weights_hash(tmp_path / "other")


@pytest.mark.parametrize(("make", "text", "name"), [(pictures, PICTURES, "blobs"), (balls, MASKS, "balls")])
def test_a_stopped_training_goes_on_to_the_same_weights(make, text, name, tmp_path):
    place, recipe = make(tmp_path), written(tmp_path, text, epochs="3")
    train(recipe, place, tmp_path / "through")

    def stop(done, total, text):
        if text.startswith("Epoch 3"):
            raise Cancelled

    with pytest.raises(Cancelled):
        train(recipe, place, tmp_path / "stopped", progress=stop)
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == [checkpoint.FILE]
    said = []
    train(recipe, place, tmp_path / "stopped", message=said.append)
    assert any("Going on after epoch 2 of 3" in line for line in said)
    assert weights_hash(tmp_path / "stopped") == weights_hash(tmp_path / "through")
    with pytest.raises(InputError, match="trained already"):
        train(recipe, place, tmp_path / "stopped")


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, patience):
    """The size of files is limited from the second checkpoint on: what is written then breaks off half-way."""
    place, recipe = balls(tmp_path), written(tmp_path, MASKS, epochs="3")
    code = (
        "import resource, sys, time\n"
        "from MedXAILib.training import train, checkpoint\n"
        "def message(text):\n"
        "    if text.startswith('epoch 1'):\n"
        "        size = (checkpoint.Path(sys.argv[3]) / checkpoint.FILE).stat().st_size\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))\n"
        "train(*sys.argv[1:], message=message)\n"
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", code, str(recipe), str(place), str(out)],
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert done.returncode == 1 and "make room" in done.stderr and "is kept" in done.stderr, done.stderr
    assert [path.name for path in out.iterdir()] == [checkpoint.FILE]
    state = State(**{k: v for k, v in torch.load(out / checkpoint.FILE).items() if k != "made_by"})
    assert state.epoch == 1
    train(recipe, place, out)
    assert (out / "balls.safetensors").is_file()


# Data -----------------------------------------------------------------------------------------------------------------


def test_equal_files_count_once_and_like_ones_stay_together(tmp_path):
    place = pictures(tmp_path)
    folder = place / "pictures" / "bright"
    shutil.copy(folder / "000.png", folder / "copy.png")
    twin = np.asarray(Image.open(folder / "001.png")).astype(int) + 3
    Image.fromarray(twin.clip(0, 255).astype(np.uint8)).save(folder / "twin.png")
    recipe = read_recipe(written(tmp_path, PICTURES, validation="0.25\nalike = 0.98"))
    card = recipe.model_card()
    found = cases.find(recipe, card, place / "pictures")
    assert len(found) == 49 and {"000.png", "copy.png"} > {c.image.name for c in found} & {"000.png", "copy.png"}
    loaded = load_all(card, found, lambda *_: None)
    names = [case.image.name for case in found if case.truth[0]]
    for seed in range(8):
        kept, held = splitting.split(recipe.model_copy(update={"seed": seed}), card, found, loaded)
        assert sorted(kept + held) == list(range(49)) and 12 <= len(held) <= 14
        assert ("001.png" in {names[n] for n in kept if n < 25}) == ("twin.png" in {names[n] for n in kept if n < 25})


def test_a_test_case_must_not_be_learned_from(tmp_path):
    place = pictures(tmp_path)
    shutil.copytree(place / "pictures", place / "again")
    recipe = written(tmp_path, PICTURES, train='"pictures"\ntest = "again"')
    with pytest.raises(InputError, match=r"000\.png.*of the training too"):
        train(recipe, place, tmp_path / "out")


def test_what_looks_like_a_training_case_is_measured_apart(tmp_path):
    """A test set of new pictures and of one brightened copy: the figure without the copy stands beside the whole one."""
    place = pictures(tmp_path)
    rng = np.random.default_rng(7)
    for name, level in (("bright", 60), ("dark", -60)):
        for number in range(3):
            Image.fromarray(blob(rng, level)).save(made(tmp_path / "new" / name) / f"{number}.png")
    twin = np.asarray(Image.open(place / "pictures" / "dark" / "005.png")) // 2 + 90
    Image.fromarray(twin.astype(np.uint8)).save(tmp_path / "new" / "dark" / "twin.png")
    recipe = written(tmp_path, PICTURES, train='"pictures"\ntest = "new"', validation="0.25\nalike = 0.98", epochs="1")
    figures = train(recipe, place, tmp_path / "out")
    assert figures["test: new"]["cases"] == 7
    assert figures["test: new, without what looks like a case learned from"]["cases"] == 6


def test_the_split_leaves_something_of_every_class_to_learn_from(tmp_path):
    recipe = read_recipe(written(tmp_path, PICTURES))
    card = recipe.model_card()
    one = TrainingExample(torch.zeros(1, 4, 4), torch.zeros(2))
    rare = [cases.TrainingCase(Path(f"{n}.png"), truth=(1.0, 0.0)) for n in range(12)] + [
        cases.TrainingCase(Path("x.png"), truth=(0.0, 1.0))
    ]
    kept, held = splitting.split(recipe, card, rare, [[one]] * 13)
    assert 12 in kept and len(held) == 3
    many = card.model_copy(update={"output": card.output.model_copy(update={"activation": "sigmoid"})})
    rng = np.random.default_rng(0)
    mixed = [cases.TrainingCase(Path(f"{n}.png"), truth=tuple(rng.choice([0.0, 1.0, np.nan], 14))) for n in range(80)]
    kept, held = splitting.split(recipe, many, mixed, [[one]] * 80)
    assert len(held) == 20, "combinations of labels, which are all different, make no strata"


def test_a_headers_voxels_count_too(tmp_path):
    import SimpleITK as sitk

    for number in range(3):
        image = sitk.GetImageFromArray(np.full((4, 4, 4), number, np.uint8))
        sitk.WriteImage(image, str(made(tmp_path / "images") / f"{number}.mhd"))
        sitk.WriteImage(image > 9, str(made(tmp_path / "labels") / f"{number}.mhd"))
    recipe = read_recipe(written(tmp_path, MASKS))
    assert len(cases.find(recipe, recipe.model_card(), tmp_path)) == 3


def test_labels_go_where_the_image_goes():
    rng = np.random.default_rng(0)
    mask = torch.zeros(1, 24, 24, 24, dtype=torch.int64)
    mask[0, 6:14, 8:18, 5:12] = 1
    moves = [
        Augmentation(name="RandAffine", arguments={"prob": 1.0, "rotate_range": [0.4] * 3, "translate_range": [3] * 3}),
        Augmentation(name="RandFlip", arguments={"prob": 0.5, "spatial_axis": 2}),
        Augmentation(name="RandSpatialCrop", arguments={"roi_size": [20, 20, 20], "random_size": False}),
        Augmentation(name="RandGaussianNoise", arguments={"prob": 1.0, "std": 0.01}),
    ]
    augment = Augment(moves, True)
    middles = set()
    for seed in rng.integers(2**31, size=8):
        augment.seed(int(seed))
        moved = augment(TrainingExample(mask.float(), mask))
        assert moved.truth.shape == (1, 20, 20, 20) and set(moved.truth.unique().tolist()) == {0, 1}
        assert ((moved.image > 0.5) == (moved.truth == 1)).float().mean() > 0.98
        middles.add(tuple(moved.truth[0].nonzero().float().mean(0).tolist()))
    assert len(middles) == 8, "every draw moves differently"
    augment.seed(5)
    one = augment(TrainingExample(mask.float(), mask)).image
    augment.seed(5)
    assert torch.equal(one, augment(TrainingExample(mask.float(), mask)).image)


# Losses and figures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["ignore", "zeros", "ones"])
def test_masked_bce_is_the_mean_over_what_is_known(policy):
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(6, 14)), rng.choice([0, 1, -1, np.nan], (6, 14))
    expected = []
    for value, mark in zip(logits.ravel(), truth.ravel(), strict=True):
        if mark == -1 and policy != "ignore":
            mark = {"zeros": 0, "ones": 1}[policy]
        if mark in (0, 1):
            p = 1 / (1 + np.exp(-value))
            expected.append(-np.log(p if mark else 1 - p))
    given = torch.tensor(logits, requires_grad=True)
    loss = masked_bce(given, torch.tensor(truth), policy)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, given)
    silent = np.isnan(truth) | ((truth == -1) & (policy == "ignore"))
    assert (gradient.numpy()[silent] == 0).all() and (gradient.numpy()[~silent] != 0).all()
    nothing = torch.full((2, 14), float("nan"))
    assert masked_bce(torch.zeros(2, 14), nothing).item() == 0


def test_labels_that_do_not_exclude_each_other_are_learned(tmp_path):
    """A segmentation of sigmoids: the loss is least for the right answer, and a training finds it."""
    recipe = read_recipe(
        written(
            balls(tmp_path, 6),
            MASKS,
            output='{ labels = [{ name = "ball" }, { name = "nothing" }], activation = "sigmoid" }',
            network='{ architecture = "UNet", arguments = { spatial_dims = 3, in_channels = 1, out_channels = 2, channels = [8, 16], strides = [2] } }',
            epochs="80",
            learning_rate="2e-2",
        )
    )
    loss = make(recipe.training, False)
    truth = torch.zeros(2, 1, 8, 8, 8, dtype=torch.int64)
    truth[:, :, 2:5] = 1
    right = 20 * (2 * independent(truth, 2) - 1)
    assert loss(right, truth) < 0.6 < loss(-right, truth)
    assert loss(right, truth) < loss(torch.full_like(right, 20.0), truth) - 0.1
    figures = train(tmp_path / "recipe.toml", tmp_path, tmp_path / "out")
    assert figures["validation (the best epoch was chosen by it)"]["Dice of ball"][0] > 0.7


def test_a_network_of_slices_learns_from_volumes(tmp_path):
    """Each slice of a volume is an example; the figure is that of whole volumes, by predict()."""
    recipe = written(
        balls(tmp_path, 6),
        MASKS,
        spatial='{ mode = "slices", axis = "axial" }',
        input="{ size = [16, 16] }",
        network='{ architecture = "UNet", arguments = { spatial_dims = 2, in_channels = 1, out_channels = 2, channels = [8, 16], strides = [2] } }',
        epochs="25",
        batch="8",
    )
    figures = train(recipe, tmp_path, tmp_path / "out")
    assert figures["training"]["cases"] == 5
    assert figures["validation (the best epoch was chosen by it)"]["Dice of ball"][0] > 0.7


def test_where_no_score_is_defined_the_last_epoch_is_kept(tmp_path):
    pictures(tmp_path, 4)
    lines = [f"pictures/{name}/00{n}.png,1," for name in ("bright", "dark") for n in range(4)]
    (tmp_path / "t.csv").write_text("path,bright,dark\n" + "\n".join(lines))
    labels = '{ labels = [{ name = "bright" }, { name = "dark" }], activation = "sigmoid" }'
    recipe = written(tmp_path, PICTURES, train='"t.csv"', loss='"bce"', output=labels)
    figures = train(recipe, tmp_path, tmp_path / "out")
    assert figures["training"]["best epoch"] == 3 and (tmp_path / "out" / "blobs.safetensors").is_file()


def test_label_values_become_one_map_each():
    truth = torch.tensor([[[0, 1, 2, 2]]])
    assert independent(truth, 2).tolist() == [[[0, 1, 0, 0], [0, 0, 1, 1]]]


def test_figures_are_those_of_other_libraries():
    from scipy.stats import bootstrap
    from sklearn.metrics import f1_score, roc_auc_score

    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 60), rng.normal(size=60).round(1)
    assert auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
    assert dice(scores > 0, truth == 1) == pytest.approx(f1_score(truth, scores > 0))
    assert np.isnan(dice(np.zeros(3, bool), np.zeros(3, bool)))
    values = rng.beta(8, 2, 24)
    mean, low, high = interval(values)
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert mean == pytest.approx(values.mean(), rel=1e-3)
    assert low == pytest.approx(theirs.low, abs=0.004) and high == pytest.approx(theirs.high, abs=0.004)


def test_a_segmentations_figures_are_measured_on_the_files_own_grids(tmp_path):
    """A network that knows nothing but a threshold, and masks of known overlap."""
    from MedXAILib.models.loading import Model

    place = balls(tmp_path)
    recipe = read_recipe(written(tmp_path, MASKS))
    card = recipe.model_card()

    class Threshold(torch.nn.Module):
        def forward(self, x):
            return torch.cat([torch.zeros_like(x), 100 * (x - 0.5)], 1)

    found = cases.find(recipe, card, place)
    figures = measuring.measure(Model(card, Threshold(), "cpu", "", ""), found, lambda *_: None, "")
    assert figures["cases"] == 4 and figures["mean Dice"][0] == pytest.approx(1, abs=0.01)
    shifted = [replace(case, labels=tmp_path / f"shifted{n}.nrrd") for n, case in enumerate(found)]
    expected = []
    for case, other in zip(found, shifted, strict=True):
        truth = read_volume(case.labels)
        moved = np.roll(truth.array, 2, 0)
        write_volume(truth.with_array(moved), other.labels)
        expected.append(dice(read_volume(case.image).array > 0.5, moved == 1))
    figures = measuring.measure(Model(card, Threshold(), "cpu", "", ""), shifted, lambda *_: None, "")
    assert figures["Dice of ball"][0] == pytest.approx(np.mean(expected), abs=1e-3)


# Errors are sentences -------------------------------------------------------------------------------------------------


def missing_label(folder: Path) -> str:
    (folder / "labels" / "2.nrrd").unlink()
    return r"images/2\.nrrd.*there is no .*labels/2\.nrrd"


def other_grid(folder: Path) -> str:
    path = folder / "labels" / "1.nrrd"
    mask = read_volume(path)
    write_volume(Volume(mask.array, mask.affine + np.eye(4)[[3, 0, 1, 2]].T * 0.7 * (np.arange(4) == 3)), path)
    return r"labels/1\.nrrd.*another grid"


def unknown_value(folder: Path) -> str:
    path = folder / "labels" / "1.nrrd"
    mask = read_volume(path)
    write_volume(mask.with_array(mask.array * 3), path)
    return r"labels/1\.nrrd: the value 3"


def no_cases(folder: Path) -> str:
    shutil.rmtree(folder / "labels")
    return "folders images and labels"


def damaged(folder: Path) -> str:
    (made(folder / "out") / checkpoint.FILE).write_bytes(b"PK\x03\x04 half a checkpoint")
    return r"checkpoint\.pt.*damaged.*begin anew"


def foreign(folder: Path) -> str:
    recipe = read_recipe(written(folder, MASKS, epochs="7"))
    checkpoint.save(State(epoch=1), checkpoint.fingerprint(recipe, []), made(folder / "out"))
    return r"checkpoint\.pt.*another recipe"


def bad_test_mask(folder: Path) -> str:
    """Found before anything is trained."""
    shutil.copytree(folder / "images", folder / "t" / "images")
    shutil.copytree(folder / "labels", folder / "t" / "labels")
    for path in (folder / "t" / "images").iterdir():
        volume = read_volume(path)
        write_volume(volume.with_array(volume.array + 1), path)
    unknown_value(folder / "t")
    return r"t/labels/1\.nrrd: the value 3"


@pytest.mark.parametrize("harm", [missing_label, other_grid, unknown_value, no_cases, damaged, foreign, bad_test_mask])
def test_what_is_wrong_with_masks_and_checkpoints_is_said(harm, tmp_path, capsys):
    place = balls(tmp_path)
    expected = harm(place)
    tested = {"train": '"."\ntest = "t"'} if (place / "t").exists() else {}
    refused(written(tmp_path, MASKS, **tested), place, tmp_path / "out", expected, capsys)


def empty_class(folder: Path) -> str:
    shutil.rmtree(folder / "pictures" / "dark")
    return "the class 'dark' has no image"


def emptied_class(folder: Path) -> str:
    for path in (folder / "pictures" / "dark").iterdir():
        path.unlink()
    return "dark.*holds no image"


def unknown_class(folder: Path) -> str:
    (folder / "pictures" / "dark").rename(folder / "pictures" / "dim")
    return r"pictures/dim: the card has no class 'dim'.*data\.classes"


def two_truths(folder: Path) -> str:
    shutil.copy(folder / "pictures" / "dark" / "000.png", folder / "pictures" / "bright" / "x.png")
    return "same content.*another truth"


def in_colour(folder: Path) -> str:
    Image.new("RGB", (32, 32), (9, 99, 9)).save(folder / "pictures" / "dark" / "999.png")
    return r"999\.png.*3 channels"


def nowhere(folder: Path) -> str:
    shutil.rmtree(folder / "pictures")
    return "no such folder.*--data"


@pytest.mark.parametrize("harm", [empty_class, emptied_class, unknown_class, two_truths, in_colour, nowhere])
def test_what_is_wrong_with_pictures_is_said(harm, tmp_path, capsys):
    place = pictures(tmp_path, 4)
    expected = harm(place)
    refused(written(tmp_path, PICTURES), place, tmp_path / "out", expected, capsys)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": "3\nspeed = 4"}, "the field 'speed' is unknown"),
        ({"loss": '"hinge"'}, r"the field 'training\.loss' is wrong"),
        ({"loss": '"dice_cross_entropy"'}, "task segmentation belong together"),
        ({"loss": '"bce"'}, "bce and card.output.activation sigmoid belong together"),
        ({"learning_rate": "1e30", "batch": "2"}, "no number any more in epoch 1; lower"),
        ({"epochs": "= 3"}, "no readable TOML"),
        ({"output": '{ labels = [{ name = "bright" }, { name = "dark" }, { name = "b" }] }'}, "'b' has no image"),
        (
            {
                "network": '{ architecture = "BrainTumorCNN", arguments = { spatial_dims = 2, classes = 2, in_channels = 3 } }'
            },
            r"does not take an input of 1 channel\(s\)",
        ),
        (
            {"network": '{ architecture = "BrainTumorCNN", arguments = { spatial_dims = 2, classes = 5 } }'},
            r"output of the shape \(5,\).*mean \(2,\)",
        ),
        ({"network": '{ architecture = "BrainTumourCNN" }'}, "unknown: near names are BrainTumorCNN"),
        (("spatial_axis = 0", "spatial_axis = 5"), "augmentation fails on the first case"),
        (('"RandFlip"', '"RandFlap"'), "augmentation 'RandFlap' is no transform.*RandFlip"),
        ({"input": "{ size = 32 }"}, r"in the part \[card\], the field 'input\.size"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(changes, expected, tmp_path, capsys):
    place = pictures(tmp_path, 4)
    text, changes = (PICTURES.replace(*changes), {}) if isinstance(changes, tuple) else (PICTURES, changes)
    refused(written(tmp_path, text, **changes), place, tmp_path / "out", expected, capsys)


def test_a_table_with_a_strange_mark_is_refused(tmp_path, capsys):
    pictures(tmp_path, 2)
    (tmp_path / "t.csv").write_text("path,bright,dark\npictures/bright/000.png,1,0\npictures/dark/001.png,maybe,1\n")
    labels = '{ labels = [{ name = "bright" }, { name = "dark" }], activation = "sigmoid" }'
    recipe = written(tmp_path, PICTURES, train='"t.csv"', loss='"bce"', output=labels)
    refused(recipe, tmp_path, tmp_path / "out", r"t\.csv, line 3, column bright: 'maybe' is no mark", capsys)


def refused(recipe: Path, data: Path, out: Path, expected: str, capsys) -> None:
    """One sentence, exit code 2, and nothing written."""
    before = sorted(out.rglob("*")), out.exists()
    assert run(["train", str(recipe), "--data", str(data), "-o", str(out)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "cases: " not in line and " % " not in line]
    assert re.search(expected, line), line
    assert (sorted(out.rglob("*")), out.exists()) == before


def test_ctrl_c_says_how_to_go_on(tmp_path, patience):
    place, recipe = pictures(tmp_path), written(tmp_path, PICTURES, epochs="500")
    command = [
        sys.executable,
        "-m",
        "MedXAILib",
        "train",
        str(recipe),
        "--data",
        str(place),
        "-o",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    kept = tmp_path / "out" / checkpoint.FILE
    until = time.monotonic() + patience
    while process.poll() is None and not kept.exists() and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=patience)
    assert process.returncode == 130 and "the same command goes on from there" in said, said
    assert [path.name for path in kept.parent.iterdir()] == [checkpoint.FILE]
