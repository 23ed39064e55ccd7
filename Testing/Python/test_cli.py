"""The command line: whole runs on real data, one sentence for bad input, and Ctrl-C."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fixture_runs import only

from MedXAILib.cli import run
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume

CARDS = Path(__file__).parents[1] / "cards"
TUMOUR, MODEL5 = str(CARDS / "sania_brain_tumor.json"), str(CARDS / "brainchop_model5.json")


@pytest.fixture
def models(data, monkeypatch, tmp_path):
    """The shared weights at hand, and a private place for remembered consent."""
    monkeypatch.setenv("MEDXAI_MODEL_PATH", str(data / "models"))
    monkeypatch.setenv("MEDXAI_CONFIG", str(tmp_path / "config"))
    return data / "models"


def rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predicting_a_folder_of_slices_agrees_with_the_reference(data, models, tmp_path):
    assert run(["predict", str(data / "images2d/brain_tumor_mri"), "--model", TUMOUR, "-o", str(tmp_path / "out")]) == 0
    reference = json.loads((models / "reference_outputs.json").read_text())["sania_brain_tumor"]["probs"]
    found: dict[str, dict[str, float]] = {}
    for row in rows(tmp_path / "out" / "predictions.csv"):
        assert row["slice"] == ""
        found.setdefault(row["input"], {})[row["class"]] = float(row["probability"])
    assert set(found) == set(reference)
    names = ("glioma", "meningioma", "notumor", "pituitary")
    assert max(abs(found[k][c] - p) for k, row in reference.items() for c, p in zip(names, row, strict=True)) < 1e-3
    assert sum(max(p, key=p.get) == k.split("/")[0] for k, p in found.items()) == 43


def test_explaining_an_oblique_volume_slice_by_slice(data, models, tmp_path, capsys):
    volume = data / "volumes" / "niivue_FLAIR.nrrd"
    command = [
        "explain",
        str(volume),
        "--model",
        TUMOUR,
        "-o",
        str(tmp_path / "out"),
        "--method",
        "gradcam",
        "--method",
        "lime",
    ]
    assert run([*command, "--class", "glioma", "--slices", "60:64", "--samples", "60", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [m["method"] for m in summary["cases"][0]["maps"]] == ["gradcam", "lime"]
    assert len([r for r in rows(tmp_path / "out" / "predictions.csv") if r["slice"]]) == 4 * 140
    source = read_volume(volume)
    for name in ("gradcam_conv-layers.4", "lime"):
        heat = read_volume(only(tmp_path / "out", f"niivue-FLAIR_glioma_{name}.nrrd"))
        assert heat.grid.same_as(source.grid) and heat.array.dtype == np.float32
        used = np.flatnonzero(np.abs(heat.array).sum((1, 2)))
        assert set(used) <= set(range(60, 64)) and len(used)
        facts = json.loads(only(tmp_path / "out", f"niivue-FLAIR_glioma_{name}.json").read_text())
        assert facts["slices"] == "60-63" and facts["caveats"] and "Research use only" in facts["notice"]
    told = [path.read_text() for path in (tmp_path / "out").rglob("*.json") if path.name != "case.json"]
    assert str(data) not in "".join(told), "only a case knows where its input lies"


def test_anatomy_regions_and_scene_of_an_abdominal_ct(data, tmp_path):
    ct, anatomy = data / "volumes" / "ts_example_ct_sm.nii.gz", data / "volumes" / "ts_example_seg.nii.gz"
    command = ["explain", str(ct), "--model", "planted-lesion", "--anatomy", str(anatomy), "-o", str(tmp_path / "out")]
    pictures = [tmp_path / "seen.png", tmp_path / "seen.mrb"]
    shown = ["--snapshot", str(pictures[0]), "--scene", str(pictures[1])]
    assert run([*command, "--class", "lesion", "--format", "nii.gz", *shown]) == 0
    assert pictures[0].read_bytes()[:4] == b"\x89PNG"
    with zipfile.ZipFile(pictures[1]) as scene:
        assert any(name.endswith(".mrml") for name in scene.namelist())
    shares = rows(tmp_path / "out" / "anatomy.csv")
    assert len(shares) > 20 and shares[-1]["structure"] == "elsewhere"
    for column in ("positive_fraction", "volume_fraction"):
        total = sum(float(r[column]) for r in shares)
        assert total == pytest.approx(1, abs=1e-4) or (column == "positive_fraction" and total == 0)


def sheared(tmp_path: Path) -> Path:
    import nibabel

    affine = np.eye(4)
    affine[0, 2] = 0.4
    path = tmp_path / "tilted.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), affine), path)
    return path


def wrong_field(tmp_path: Path) -> Path:
    card = json.loads(Path(TUMOUR).read_text())
    card["input"]["resampler"] = "cubic"
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(card))
    return path


def too_many_channels(tmp_path: Path) -> Path:
    path = tmp_path / "two.nrrd"
    write_volume(Volume(np.zeros((1, 8, 8, 2), np.uint8), np.eye(4)), path)
    return path


def two_series(data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "series"
    folder.mkdir()
    for name in ("PGBM-003_T1post", "PGBM-003_FLAIR_reg"):
        for n, file in enumerate(sorted((data / "dicom" / name).iterdir())[:3]):
            (folder / f"{name}{n}.dcm").symlink_to(file)
    return folder


BAD = {
    "missing file": (lambda d, t: [t / "none.nrrd", "-m", TUMOUR], ["none.nrrd"]),
    "MGZ": (lambda d, t: [d / "volumes/niivue_norm.mgz", "-m", TUMOUR], ["niivue_norm.mgz", "mri_convert"]),
    "NIfTI-2": (
        lambda d, t: [d / "volumes/nibabel_example_nifti2.nii.gz", "-m", TUMOUR],
        ["nibabel_example_nifti2", "--frame"],
    ),
    "sheared": (lambda d, t: [sheared(t), "-m", TUMOUR], ["tilted.nii.gz", "shear", "esample"]),
    "complex": (lambda d, t: [d / "volumes/niivue_complex.nii.gz", "-m", TUMOUR], ["niivue_complex", "magnitude"]),
    "4D": (lambda d, t: [d / "volumes/nibabel_example4d.nii.gz", "-m", TUMOUR], ["nibabel_example4d", "--frame"]),
    "several series": (lambda d, t: [two_series(d, t), "-m", TUMOUR], ["series", "--series"]),
    "LFS pointer": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", d / "models/lfs_pointer_brain_tumor_model.pth"],
        ["lfs_pointer", "git"],
    ),
    "refused checkpoint": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", d / "models/torchio_whole_images_epoch_5.pth"],
        ["torchio_whole_images_epoch_5.pth", "medxai card new"],
    ),
    "weights without a card": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", d / "models/sania_brain_tumor_model.pth"],
        ["sania_brain_tumor_model.pth", "medxai card new"],
    ),
    "wrong field": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", wrong_field(t)],
        ["wrong.json", "input.resampler"],
    ),
    "channels": (lambda d, t: [too_many_channels(t), "-m", TUMOUR], ["two.nrrd", "2 channels"]),
    "unknown class": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", TUMOUR, "--class", "liver"],
        ["liver", "glioma, meningioma, notumor, pituitary"],
    ),
    "unknown layer": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", TUMOUR, "--layer", "conv_layer.4"],
        ["conv_layer.4", "conv_layers.4"],
    ),
    "output below a file": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", TUMOUR, "-o", Path(__file__) / "out"],
        ["test_cli.py", "-o"],
    ),
    "unknown method": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", TUMOUR, "--method", "magic"],
        ["magic", "gradcam"],
    ),
    "slices of a volume": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", "planted-lesion", "--slices", "1:3"],
        ["--slices 1:3", "leave"],
    ),
    "snapshot suffix": (
        lambda d, t: [d / "volumes/niivue_mha.mha", "-m", TUMOUR, "--snapshot", t / "x.jpg"],
        ["x.jpg", ".png"],
    ),
    "bad voxel": (lambda d, t: [d / "volumes/niivue_mha.mha", "-m", TUMOUR, "--voxel", "1,2"], ["--voxel 1,2"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_with_a_remedy_and_leaves_nothing(case, data, models, tmp_path, capsys):
    make, words = BAD[case]
    arguments = [str(a) for a in make(data, tmp_path)]
    work = tmp_path / "work"
    work.mkdir()
    output = [] if "-o" in arguments else ["-o", str(work / "out")]
    before = sorted(tmp_path.rglob("*"))
    assert run(["explain", *arguments, *output]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in line for word in words) and line.endswith(".") and len(line) < 700, line
    assert sorted(tmp_path.rglob("*")) == before


def test_the_weights_of_another_network_are_refused_by_name(data, models, tmp_path, capsys):
    card = json.loads(Path(MODEL5).read_text())
    card["weights"] = {"file": "torchio_whole_images_epoch_5.pth"}
    (tmp_path / "card.json").write_text(json.dumps(card))
    command = [
        "predict",
        str(data / "volumes/niivue_mha.mha"),
        "-m",
        str(tmp_path / "card.json"),
        "-o",
        str(tmp_path / "out"),
    ]
    assert run(command) == 2
    assert "torchio_whole_images_epoch_5.pth" in (err := capsys.readouterr().err) and "the file lacks model.0" in err
    assert not (tmp_path / "out").exists()


def test_a_run_into_its_own_folder_keeps_what_is_there(data, models, tmp_path, capsys):
    command = ["predict", str(data / "volumes/niivue_mha.mha"), "-m", TUMOUR, "-o", str(tmp_path / "out")]
    assert run(command) == 0
    before = (tmp_path / "out" / "niivue-mha" / "case.json").read_text()
    assert run(command) == 0 and "1 of 1 cases, 1 results kept" in capsys.readouterr().out
    assert (tmp_path / "out" / "niivue-mha" / "case.json").read_text() == before
    assert run([*command[:1], "--input", f"mr={command[1]}", *command[2:], "--overwrite", "--keep-input"]) == 0
    seen = read_volume(only(tmp_path / "out", "niivue-mha_input.nrrd"))
    assert seen.shape == (64, 64, 37) and -1 <= seen.array.min() < seen.array.max() <= 1


def test_one_bad_case_of_a_cohort_is_left_out_and_said(data, models, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "good.jpg").symlink_to(next((data / "images2d/brain_tumor_mri/glioma").iterdir()))
    assert run(["predict", str(folder), "-m", TUMOUR, "-o", str(tmp_path / "out")]) == 3
    assert {r["input"] for r in rows(tmp_path / "out" / "predictions.csv")} == {"good.jpg"}
    assert [r["input"] for r in rows(tmp_path / "out" / "failures.csv")] == ["bad.png"]


SLOW = """
import sys, time
from MedXAILib import cli
import MedXAILib.app.checking as checking
sys.path.insert(0, {here!r})
import torch
from torch import nn
from fixture_nets import model

class Slow(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
    def forward(self, x):
        print("busy", flush=True)
        end = time.monotonic() + self.seconds
        a = torch.randn(1500, 1500)
        if self.seconds > 5:                       # one long operator: Python gets no turn until it is over
            torch.linalg.svd(torch.randn(3500, 3500))
        while time.monotonic() < end:
            a @ a
        print("over", flush=True)
        return x
net = nn.Sequential(*[Slow({seconds}) for _ in range(20)], nn.Conv3d(1, 2, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
checking.load_model = lambda *a, **k: model(net)
cli.main()
"""


def start(tmp_path: Path, seconds: float) -> subprocess.Popen:
    write_volume(Volume(np.random.default_rng(0).random((8, 8, 8)).astype(np.float32), np.eye(4)), tmp_path / "in.nrrd")
    code = SLOW.format(here=str(Path(__file__).parent), seconds=seconds)
    arguments = [
        "explain",
        str(tmp_path / "in.nrrd"),
        "-m",
        "slow",
        "--layer",
        "0",
        "-o",
        str(tmp_path / "work" / "out"),
    ]
    (tmp_path / "work").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "busy\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT as a terminal does on POSIX")
@pytest.mark.parametrize("interrupts", [1, 2])
def test_ctrl_c_stops_after_the_running_module_and_twice_at_once(interrupts, tmp_path, patience):
    process = start(tmp_path, 1.0 if interrupts == 1 else 30.0)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    while "Ctrl-C again" not in (line := process.stderr.readline()):  # two signals at once may be one
        assert line, "it ended before it said that it would"
    if interrupts == 2:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=patience)
    assert process.returncode == 130, err
    assert out.count("busy") <= 1, "another module may have begun, of 19"
    assert interrupts == 1 or "over" not in out, "it waited for the module"
    assert list((tmp_path / "work").iterdir()) == []


def ball(path: Path) -> Path:
    """A small oblique ball of noise."""
    grid = np.indices((40, 44, 48)) - np.array([19.5, 21.5, 23.5])[:, None, None, None]
    noise = np.random.default_rng(0).random((40, 44, 48))
    affine = np.array([[3, 0.3, 0, -60], [-0.3, 3, 0, -50], [0, 0, 3, -40], [0, 0, 0, 1.0]])
    array = np.where((grid**2).sum(0) < 300, 100 + 20 * noise, 0).astype(np.float32)
    write_volume(Volume(array, affine), path)
    return path


def test_every_method_that_suits_and_that_the_budget_allows(tmp_path, capsys):
    out, picture = tmp_path / "out", tmp_path / "sheet.png"
    command = ["explain", str(ball(tmp_path / "ball.nrrd")), "--model", "planted-lesion", "-o", str(out)]
    assert run([*command, "--method", "all", "--budget", "20", "--cells", "--snapshot", str(picture), "--json"]) == 0
    printed = capsys.readouterr()
    summary, said = json.loads(printed.out), " ".join(printed.err.split())
    done = {m["method"] for m in summary["cases"][0]["maps"]}
    skipped = {
        "lime": "LIME",
        "shap": "Kernel SHAP",
        "rise": "RISE",
        "occlusion": "Occlusion",
        "ig": "Integrated gradients",
    }
    for name, title in skipped.items():
        assert name not in done
        assert re.search(rf"{title}[\w, ]* (was|were) left out: about \d+ evaluations are needed", said), said
    assert "CAM was left out: CAM needs features that are pooled" in said
    assert "Seg-XRes-CAM was left out: Seg-XRes-CAM is for segmentation" in said
    assert {"gradcam", "scorecam", "ablationcam", "saliency", "deeplift", "guidedgradcam"} <= done
    assert said.index("Score-CAM: about 17 evaluations") < said.index("left out: CAM needs")  # told before it starts
    table = rows(out / "layers.csv")
    stages = [row["layer"] for row in table]
    assert len(stages) > 2 and [int(row["order"]) for row in table] == list(range(len(stages)))
    for path in (picture, next(out.rglob("*_layerwise_*.png"))):
        assert path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 20_000
    whole, cells = (read_volume(only(out, f"ball_*_gradcam_features{end}.nrrd")) for end in ("", "_cells"))
    assert cells.shape == tuple(-(-n // 2) for n in whole.shape)
    # a cell of stride 2 after a 5x5x5 kernel with padding 2 lies on every second voxel of the network's grid
    assert np.allclose(
        cells.affine[:3, :3] / np.linalg.norm(cells.affine[:3, :3], axis=0), whole.affine[:3, :3] / 3, atol=0.01
    )


def test_the_layers_of_a_model_are_listed(capsys):
    assert run(["layers", "--model", "planted-lesion"]) == 0
    lines = capsys.readouterr().out.splitlines()
    chosen = [line for line in lines if line.startswith("* features ")]
    assert len(chosen) == 1 and "16" in chosen[0] and "32x32x32" in chosen[0] and "2x2x2" in chosen[0]
    assert sum(line.startswith("| ") for line in lines) >= 3 and "explained by default: features" in lines[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threshold", "0.5", "--voxel", "1,2,3"], "exclude each other"),
        (["--score", "probabilities"], "goes with --threshold"),
        (["--baseline", "black"], "minimum, zero, mean, blurred"),
        (["--budget", "0"], "at least 1"),
        (["--method", "lime", "--budget", "10"], "Nothing is left to do"),
        (["--component", "1,2"], "three numbers"),
        (["--method", "cam"], "choose gradcam"),
        (["--method", "segxrescam"], "is for segmentation"),
    ],
)
def test_options_that_cannot_be_meant_are_a_sentence(options, words, tmp_path, capsys):
    command = ["explain", str(ball(tmp_path / "ball.nrrd")), "--model", "planted-lesion", "-o", str(tmp_path / "out")]
    assert run([*command, *options]) == 2
    assert words in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "out").exists()
