"""What new users stumbled over at the command line: names in any spelling, help, messages, progress, and what a run says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_runs import told_of
from PIL import Image

from MedXAILib import NOTICE, MaskTarget, VoxelTarget, cli, explain, load_model, models, read_volume
from MedXAILib.attribution.registry import method, methods
from MedXAILib.cli import terminal
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume
from MedXAILib.models.sources.zoo import zoo_cards
from MedXAILib.names import matching
from MedXAILib.progress import shares, silent
from MedXAILib.training import results
from MedXAILib.training.measuring import CONFUSION
from MedXAILib.training.recipe import read_recipe

TUMOUR = "brain-tumor-slices"
SLICES = 4


@pytest.fixture
def stack(tmp_path, monkeypatch) -> Path:
    """A small volume of slices, in the folder that the command is typed in."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    head = 100.0 * (x**2 / 0.6 + y**2 / 0.8 < 1)
    array = np.stack([head + 10 * k * ((x - 0.3) ** 2 + y**2 < 0.05) for k in range(SLICES)])
    monkeypatch.chdir(tmp_path)
    write_volume(Volume(array.astype(np.float32), np.diag([2.0, 2.0, 5.0, 1.0])), tmp_path / "stack.nrrd")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Grad-CAM", "gradcam"),
        ("grad_cam++", "gradcam++"),
        ("Kernel SHAP", "shap"),
        ("LIME", "lime"),
        ("Guided Backpropagation", "guidedbackprop"),
    ],
)
def test_a_method_is_known_in_any_spelling(typed, meant):
    assert method(typed).name == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("Brain_Tumor Slices", TUMOUR), ("brain-tumour-slices", TUMOUR), ("brain", None), ("planted-lesions-2", None)],
)
def test_a_model_is_known_in_any_spelling_and_no_other_is_taken_for_it(typed, meant):
    assert matching(typed, zoo_cards(), spelling=True) == meant


def test_two_names_that_are_alike_are_none():
    assert matching("T1 a", ["t1-a", "t1_a"]) is None and matching("t1_a", ["t1-a", "t1_a"]) == "t1_a"
    assert len({matching(name, methods()) for name in methods()}) == len(methods())


@pytest.mark.parametrize("command", [[], ["info"], ["predict"], ["explain"], ["layers"], ["train"], ["card", "check"]])
def test_a_short_h_helps_too(command, capsys):
    texts = []
    for flag in ("-h", "--help"):
        assert cli.run([*command, flag]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and "Usage: medxai" in texts[0]


def test_a_folder_of_pictures_is_told_as_one(tmp_path, capsys):
    for n in range(3):
        Image.fromarray(np.full((8, 8), n, np.uint8)).save(tmp_path / f"{n}.png")
    assert cli.run(["info", str(tmp_path)]) == 2
    assert "holds 3 PNG files and no DICOM; give one file, as 0.png." in capsys.readouterr().err


def test_a_run_with_relative_paths_names_classes_and_slices_as_people_do(stack, capsys):
    command = ["explain", "stack.nrrd", "-m", "Brain_Tumor slices", "--class", "Glioma", "--method", "Grad-CAM"]
    assert cli.run([*command, "--slices", "2", "-o", "out", "--scene", "scene.mrb", "--snapshot", "s/shown.png"]) == 0
    printed = capsys.readouterr().out
    said = told_of(stack / "out")[0]
    assert (stack / "scene.mrb").stat().st_size > 10_000 and (stack / "s" / "shown.png").stat().st_size > 10_000
    assert f"highest in any of {SLICES} slices, no diagnosis: " in printed
    best = max(said["probabilities"], key=said["probabilities"].get)
    assert f"{best} {said['probabilities'][best]:.3f} (slice {said['highest_in_slice'][best]})" in printed
    assert cli.run(["card", "check", TUMOUR, "stack.nrrd", "-o", "seen.png"]) == 0
    checked = capsys.readouterr().out
    assert f"highest in any of {SLICES} slices:" in checked
    assert f"{best}: {said['probabilities'][best]:.4f} (slice {said['highest_in_slice'][best]})" in checked
    assert [a["class"] for a in said["maps"]] == ["glioma"]
    assert "Only slice 2 was computed; zero elsewhere means not computed." in [
        c["text"] for c in said["maps"][0]["caveats"]
    ]


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        ("top:0", "top:N"),
        ("9:12", "has 4 slices, 0 to 3; give what is there"),
        ("some", "top:N"),
        ("3:1", "a to b - 1"),
    ],
)
def test_slices_that_cannot_be_meant_are_a_sentence(slices, words, stack, capsys):
    assert cli.run(["explain", "stack.nrrd", "-m", TUMOUR, "--slices", slices, "-o", "out"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert slices in said and words in said and not (stack / "out").exists()


@pytest.mark.parametrize("option", ["--scene", "--snapshot"])
def test_pictures_that_cannot_be_written_are_told_before_computing(option, stack, monkeypatch, capsys):
    monkeypatch.setattr(models.loading, "load_model", lambda *_, **__: pytest.fail("it computed"))
    end = {"--scene": "mrb", "--snapshot": "png"}[option]
    for path in (f"stack.nrrd/x.{end}", f"/proc/x.{end}", "x.jpg"):
        assert cli.run(["explain", "stack.nrrd", "-m", TUMOUR, "-o", "out", option, path]) == 2
        assert capsys.readouterr().err.startswith(f"{option} ")
    for path in (f"x.{end}", "."):
        command = ["explain", "stack.nrrd", "-m", TUMOUR, "-o", f"x.{end}/out" if path != "." else f"x.{end}"]
        assert cli.run([*command, option, f"x.{end}"]) == 2
        assert "this is where the output folder goes" in capsys.readouterr().err
    assert sorted(p.name for p in stack.iterdir()) == ["stack.nrrd"]


def test_progress_only_goes_forward_and_by_cost(monkeypatch, capsys):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    report = terminal.lines()
    first, second = shares(report, [1, 3])
    first(1, 2, "first")
    second(1, 3, "second")
    first(1, 1, "first again")
    second(3, 3, "second")
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["12", "50", "50", "100"]
    assert shares(silent, []) == []


def test_a_copied_recipe_does_not_speak_of_other_data(tmp_path):
    recipe = read_recipe(TUMOUR)
    same = results.told(recipe, recipe.data.content, 10, 2, {})
    other = results.told(replace_data(recipe, "chest/xrays"), "0" * 64, 10, 2, {})
    assert "provenance" not in same and same["weaknesses"] == recipe.card["weaknesses"]
    assert "10 cases of chest/xrays" in other["provenance"] and "Brain" not in other["provenance"]
    assert other["weaknesses"] == [] and other["licence"] == other["description"] == ""


def replace_data(recipe, train: str):
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": train})})


def test_a_network_that_calls_everything_the_same_is_remarked():
    assert "every one of 7 validation cases b" in results.one_answer({CONFUSION: {"a": [0, 3], "b": [0, 4]}})
    assert results.one_answer({CONFUSION: {"a": [1, 3], "b": [0, 4]}}) == ""
    assert results.one_answer({CONFUSION: {"a": [0, 0], "b": [0, 4]}}) == ""  # there was nothing to tell apart


def test_what_a_run_reads_is_never_overwritten(stack, capsys):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stack / "in.png")
    os.link(stack / "in.png", stack / "other.png")
    before = {path.name: path.read_bytes() for path in stack.iterdir()}
    predict = ["predict", "in.png", "-m", TUMOUR, "-o", "out"]
    for command in (
        [*predict, "--snapshot", "./in.png"],
        ["card", "check", TUMOUR, "in.png", "-o", "in.png"],
    ):
        assert cli.run(command) == 2
        assert "would be overwritten" in capsys.readouterr().err
    (stack / "run.json").write_text(json.dumps({"notice": NOTICE, "files": ["stack.nrrd", "run.json"]}))
    assert cli.run(["predict", "stack.nrrd", "-m", TUMOUR, "-o", ".", "--overwrite"]) == 2
    assert "was written by the run in ., which would be replaced" in capsys.readouterr().err
    (stack / "run.json").unlink()
    assert {path.name: path.read_bytes() for path in stack.iterdir()} == before


def test_every_map_names_its_case_and_every_case_its_maps(stack, capsys):
    for folder in ("p_1", "p 1", "p-1"):
        (stack / "in" / folder).mkdir(parents=True)
        Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))).save(stack / "in" / folder / "x.png")
    assert cli.run(["explain", "in", "-m", TUMOUR, "-o", "out", "--method", "gradcam++"]) == 0
    told = {case["input"]: case["maps"][0]["file"] for case in told_of(stack / "out")}
    assert set(told) == {"p_1/x.png", "p 1/x.png", "p-1/x.png"} and len(set(told.values())) == 3
    for name, file in told.items():
        assert "gradcam++" in file and (stack / "out" / file).is_file()
        assert json.loads((stack / "out" / file).with_suffix(".json").read_text())["input"] == name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "x" * 300, "-m", TUMOUR, "-o", "out"], "File name too long"),
        (["predict", "stack.nrrd", "-m", TUMOUR, "-o", "x" * 300], "File name too long"),
        (["predict", "stack.nrrd", "-m", "x" * 300, "-o", "out"], "File name too long"),
        (["explain", "stack.nrrd", "-m", TUMOUR, "-o", "out", "--seed", "-1"], "--seed -1: give a whole number from 0"),
        (["demo", "-o", "out", "--seed", "-1"], "--seed -1"),
        (["card", "new", "."], "there is no such weights file"),
        (["predict", "--input", "a=stack.nrrd", "--input", "a=b.nrrd", "-m", TUMOUR, "-o", "out"], "is given twice"),
        (["explain", "stack.nrrd", "-m", TUMOUR, "-o", "out", "--class", "-1"], "has no class '-1'"),
    ],
)
def test_what_cannot_be_is_one_sentence(stack, capsys, words, said):
    assert cli.run(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and sorted(p.name for p in stack.iterdir()) == ["stack.nrrd"]


@pytest.mark.parametrize(
    "asked",
    [
        {"methods": [None]}, {"methods": 3}, {"layers": [0]}, {"slices": slice(0, 1)}, {"slices": -1}, {"samples": 0}, {"samples": 1.5},
        {"superpixels": "x"}, {"budget": 0}, {"seed": -1}, {"seed": None}, {"seed": 2**40}, {"targets": 1.5}, {"targets": [-1]},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_asked_in_python_is_a_sentence(asked):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    with pytest.raises(InputError, match=r"\.$"):
        explain(network, image, **({"methods": ["saliency"]} | asked))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda net, image: explain(net, image, methods="saliency", windows=2000), "windows=2000: one window takes"),
        (lambda net, image: explain(net, image, methods="saliency", windows=True), "windows=True: give one number"),
        (lambda net, image: explain(net, {0: image, 1: image}, methods="saliency"), "give text"),
        (lambda net, image: VoxelTarget((1, 2), 1), "three numbers"),
        (lambda net, image: MaskTarget(image, 1), "takes a Volume, not ndarray"),
        (lambda net, image: Volume(np.ma.masked_array(image[0, 0], image[0, 0] > 0), np.eye(4)), "masked array"),
    ],
)  # fmt: skip
def test_what_cannot_be_given_in_python_is_a_sentence(make, said):
    network = torch.nn.Conv3d(1, 2, 3, padding=1).eval()
    with pytest.raises(ValueError, match=said):
        make(network, np.ones((1, 1, 4, 4, 4), np.float32))


@pytest.mark.parametrize("given", ["head.nrrd", np.zeros((2, 2, 2), np.float32), None])
def test_a_model_is_given_volumes(given):
    with pytest.raises(InputError, match=r"takes a Volume, .*read_volume\(PATH\).*Volume\(array, affine\)"):
        explain(load_model(TUMOUR), given)
    with pytest.raises(InputError, match="is no (path|model card)"):
        read_volume(3) if given is None else load_model(3)
    with pytest.raises(InputError, match="this is no path"):
        load_model(TUMOUR, weights=3)
