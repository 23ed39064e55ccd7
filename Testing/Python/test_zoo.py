"""The models that come with MedXAI: complete, honest about themselves, and at work wherever a wheel is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from MedXAILib import explain, load_model, predict, read_volume
from MedXAILib.attribution.registry import methods
from MedXAILib.caveats import texts
from MedXAILib.cli import run
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume
from MedXAILib.models.security.consent import needs_consent
from MedXAILib.models.source import summarise
from MedXAILib.models.sources.zoo import ZOO, thumbnail, zoo_cards
from MedXAILib.scoring.targets import RegionTarget
from MedXAILib.training.recipe import known_recipes, read_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Checks"))

import zoo  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BOTTLENECK_AND_LAST = {
    "hippocampus-doubleunet": ("aspp2", "decoder2.3"),
    "hippocampus-r2unet": ("encoder.4", "decoder.3"),
    "hippocampus-mcgunet": ("dense.2", "decoder.2"),
}


def test_the_zoo_is_complete_and_small():
    assert set(zoo_cards()) == {"planted-lesion", "brain-tumor-slices", *BOTTLENECK_AND_LAST}
    assert set(known_recipes()) == set(zoo_cards()) - {"planted-lesion"}
    sizes = [path.stat().st_size for path in ZOO.glob("*.safetensors")]
    assert len(sizes) == 5 and max(sizes) < 5e6 and sum(sizes) < 20e6


@pytest.mark.parametrize("name", zoo_cards())
def test_a_card_says_what_one_must_know(name):
    card = load_model(name, device="cpu").card
    assert "Research use only, not for clinical use" in card.description
    assert card.provenance and card.licence and len(card.weaknesses) >= 3
    assert card.layers and card.methods and set(card.methods) <= set(methods())
    assert set(card.layers) <= {layer for layer, _ in load_model(name, device="cpu").network.named_modules()}
    assert not needs_consent(summarise(name).weights), "the panel asks for no consent"
    with Image.open(thumbnail(name)) as picture:
        assert picture.size == (64, 64)
    if name in known_recipes():
        tests = [part for key, part in card.figures.items() if key.startswith("test: ")]
        (value, low, high) = tests[0].get("mean Dice") or tests[0]["accuracy"]
        assert 0 < low <= value <= high <= 1
        made = read_recipe(name).model_card(card.weights.model_dump(), card.figures, card.input.expected)
        assert made == card, "the card is what its recipe makes"


def test_a_card_does_not_flatter(data):
    """A sample of ``make check-zoo``."""
    found = zoo.check("brain-tumor-slices", data)
    assert found["right"], found


@pytest.mark.parametrize("name", BOTTLENECK_AND_LAST)
def test_threshold_gradcam_at_the_bottleneck_and_the_last_decoder_block(name, data):
    """What methods.md asks of the three networks: maps at both, the latter with the warning that it repeats the mask."""
    case = sorted((data / "volumes" / "hippocampus" / "images").iterdir())[0]
    model, volume = load_model(name, device="cpu"), read_volume(case)
    prediction = predict(model, volume)
    parts = ["anterior hippocampus", "posterior hippocampus"]
    maps = explain(
        model,
        volume,
        [RegionTarget(part, 0.5) for part in parts],
        ["gradcam"],
        layers=list(BOTTLENECK_AND_LAST[name]),
    )
    coarse = 8 if name == "hippocampus-mcgunet" else 16
    on_structure = []
    for attribution in maps:
        deep = attribution.layer == BOTTLENECK_AND_LAST[name][0]
        assert np.allclose(attribution.volume.spacing, coarse if deep else 1)
        assert any("repeats the segmentation" in limit for limit in texts(attribution.caveats)) != deep
        empty = attribution.volume.array.max() == 0
        assert any("The map is empty" in limit for limit in texts(attribution.caveats)) == empty
        if not deep and not empty:
            value = 1 + [part in attribution.target for part in parts].index(True)
            heat, mask = attribution.on(volume).array, prediction.labels.volume.array == value
            on_structure.append(heat[mask].mean() > 3 * heat[~mask].mean())
    assert len(maps) == 4 and on_structure and all(on_structure), "at the last block a map is on its structure"


def test_saliency_of_the_tumour_classifier(data, tmp_path):
    picture = sorted((data / "images2d" / "pmram_train" / "meningioma").iterdir())[0]
    command = ["explain", str(picture), "--model", "brain-tumor-slices", "--method", "saliency", "-o"]
    assert run([*command, str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").rglob("*_saliency_????????????????.nrrd")
    array = read_volume(path).array
    assert array.min() >= 0 and array.max() > 0 and array.shape == read_volume(picture).array.shape[:3]


def test_every_model_works_by_name_from_an_installed_wheel(tmp_path, patience):
    """Built, unpacked elsewhere and run there, without a question."""
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(ROOT),
        ],
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
        cwd=tmp_path,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    rng = np.random.default_rng(0)
    k, j, i = np.mgrid[:8, :40, :40]
    head = (np.hypot(np.hypot(k - 4, j - 20), i - 20) < 15) * 100 + rng.normal(0, 5, (8, 40, 40))
    write_volume(Volume(head.astype(np.float32), np.diag([2.0, 2, 2, 1])), tmp_path / "head.nrrd")
    code = (
        "import sys, json, MedXAILib; from MedXAILib.cli import run; from MedXAILib.models.sources.zoo import zoo_cards\n"
        "names = zoo_cards()\n"
        "codes = [run(['predict', 'head.nrrd', '--model', n, '-o', 'out-' + n]) for n in names]\n"
        "print(json.dumps([MedXAILib.__file__, names, codes]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    place, names, codes = json.loads(done.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(tmp_path) and names == zoo_cards() and codes == [0] * 5, done.stderr
    for name in names:
        facts = json.loads((tmp_path / f"out-{name}" / "run.json").read_text())
        assert name in json.dumps(facts["job"])


def test_models_are_listed_and_their_cards_printed(capsys):
    assert run(["models"]) == 0
    listed = capsys.readouterr().out
    assert all(re.search(rf"^{name}: ", listed, re.MULTILINE) for name in zoo_cards())
    assert run(["models", "hippocampus-mcgunet"]) == 0
    card = capsys.readouterr().out
    assert "Weaknesses:" in card and re.search(r"mean Dice: 0\.\d{3} \(95 % interval 0\.\d{3} to 0\.\d{3}\)", card)
    assert run(["models", "nothing"]) == 2
    assert "no such model card" in capsys.readouterr().err


def test_the_readmes_table_is_that_of_the_cards():
    """The figures in the README are those that the cards state."""
    text = (ROOT / "README.md").read_text()
    table = text[text.index("<!-- Testing/Benchmarks/zoo.py -->") : text.index("Train on your own folder")]
    for name in known_recipes():
        figures = json.loads((ZOO / f"{name}.json").read_text())["figures"]
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}`")]
        for key, part in figures.items():
            if key.startswith(("test", "validation")):
                value, low, high = part.get("mean Dice") or part["accuracy"]
                assert f"{value:.3f} ({low:.3f} to {high:.3f}) on {part['cases']}" in row
