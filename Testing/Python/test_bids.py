"""A BIDS dataset explained by a network of two inputs: failures in their sentences, and a derivative that BIDS's own validator takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fixture_runs import rows

from MedXAILib.app.bids import descriptions, label, refuse_foreign_dataset, stem
from MedXAILib.cli import run as command
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def segmenter(folder: Path) -> Path:
    """A segmentation network of two inputs, with random weights; gives its card."""
    import torch
    from monai.networks.nets import BasicUNet
    from safetensors.torch import save_file

    from MedXAILib.models.loading import sha256

    folder.mkdir()
    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 2, "out_channels": 2, "features": [4, 4, 8, 8, 8, 4]}
    save_file(BasicUNet(**arguments).state_dict(), folder / "net.safetensors")
    card = {
        "name": "two-inputs", "task": "segmentation", "network": {"architecture": "BasicUNet", "arguments": arguments},
        "weights": {"file": "net.safetensors", "sha256": sha256(folder / "net.safetensors")},
        "input": {
            "channels": [{"name": "T1"}, {"name": "FLAIR"}], "size": [32, 48, 48], "intensity": {"rule": "zscore"}
        },
        "spatial": {"mode": "whole"},
        "output": {"labels": [{"name": "background"}, {"name": "lesion"}]},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    return folder / "card.json"


def coarse(volume: Volume) -> Volume:
    """Every third voxel."""
    return Volume(np.ascontiguousarray(volume.array[::3, ::3, ::3]), volume.affine @ np.diag([3, 3, 3, 1]))


def put(volume: Volume, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(volume, path)


@pytest.fixture(scope="module")
def place(tmp_path_factory, data):
    """Three subjects of one real head, with sessions; one lacks its FLAIR, one is cut short, one has an empty file; anatomy beside."""
    folder = tmp_path_factory.mktemp("bids")
    root = folder / "ds"
    t1, flair = (coarse(read_volume(data / "volumes" / f"TCGA-FG-6692_{name}.nii.gz")) for name in ("t1", "fla"))
    for n, session in ((1, "ses-1"), (1, "ses-2"), (2, "ses-1")):
        start = f"sub-0{n}/{session}/anat/sub-0{n}_{session}"
        rng = np.random.default_rng(n)
        for volume, suffix in ((t1, "T1w"), (flair, "FLAIR")):
            noisy = (volume.array + rng.normal(0, 1, volume.array.shape)).astype(np.float32)
            put(volume.with_array(noisy), root / f"{start}_{suffix}.nii.gz")
    put(t1, root / "sub-03/anat/sub-03_T1w.nii.gz")
    put(flair, root / "sub-04/anat/sub-04_FLAIR.nii.gz")
    whole = (root / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").read_bytes()
    (root / "sub-04/anat/sub-04_T1w.nii.gz").write_bytes(whole[: len(whole) // 3])
    put(t1, root / "sub-05/anat/sub-05_T1w.nii.gz")
    (root / "sub-05/anat/sub-05_FLAIR.nii.gz").touch()
    (root / "dataset_description.json").write_text('{"Name": "made", "BIDSVersion": "1.10.0"}')
    card = segmenter(folder / "model")
    words = [
        "explain",
        str(root),
        "--model",
        str(card),
        "--suffix",
        "T1=T1w",
        "--suffix",
        "FLAIR=FLAIR",
        "--class",
        "lesion",
    ]
    code = command(
        [*words, "--method", "gradcam", "--method", "saliency", "--device", "cpu", "-o", str(folder / "out")]
    )
    return folder, code


def test_what_fails_stands_in_its_sentence_and_the_rest_is_there(place):
    folder, code = place
    assert code == 3
    failures = {row["input"]: row["sentence"] for row in rows(folder / "out" / "failures.csv")}
    assert set(failures) == {"sub-03/anat/sub-03", "sub-04/anat/sub-04", "sub-05/anat/sub-05"}
    assert "FLAIR" in failures["sub-03/anat/sub-03"] and "missing" in failures["sub-03/anat/sub-03"]
    assert "sub-04_T1w.nii.gz" in failures["sub-04/anat/sub-04"]
    assert "empty" in failures["sub-05/anat/sub-05"]
    assert {row["input"] for row in rows(folder / "out" / "segmentation.csv")} == {
        "sub-01/ses-1/anat/sub-01_ses-1", "sub-01/ses-2/anat/sub-01_ses-2", "sub-02/ses-1/anat/sub-02_ses-1",
    }  # fmt: skip


def test_the_derivative_holds_the_maps_of_the_run(place):
    folder, _ = place
    anat = folder / "out" / "bids" / "sub-01" / "ses-1" / "anat"
    sidecar = json.loads((anat / "sub-01_ses-1_desc-gradcamLesionDown4_attribution.json").read_text())
    assert sidecar["Sources"][0] == "bids:raw:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"
    run = json.loads((folder / "out" / "run.json").read_text())
    made = folder / "out" / run["cases"]["sub-01/ses-1/anat/sub-01_ses-1"] / sidecar["MedXAIFile"]
    one, other = read_volume(made), read_volume(anat / "sub-01_ses-1_desc-gradcamLesionDown4_attribution.nii.gz")
    assert np.array_equal(one.array, other.array) and np.allclose(one.affine, other.affine, atol=1e-4)
    assert (anat / "sub-01_ses-1_desc-twoInputs_dseg.tsv").read_text().splitlines()[-1].split("\t")[1] == "lesion"
    times = {path: path.stat().st_mtime_ns for path in (folder / "out" / "bids").rglob("*") if path.is_file()}
    assert command(["tables", str(folder / "out")]) == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}, "what is there is not written again"


@pytest.mark.skipif(not VALIDATOR.exists(), reason="bids-validator-deno is not installed")
def test_bids_own_validator_takes_the_derivative(place):
    folder, _ = place
    done = subprocess.run(
        [VALIDATOR, str(folder / "out" / "bids"), "--format", "json"], capture_output=True, text=True, timeout=120
    )
    found = json.loads(done.stdout)
    errors = [issue for issue in found["issues"]["issues"] if issue.get("severity") == "error"]
    assert not errors, json.dumps(errors, indent=1)
    assert found["summary"]["totalFiles"] > 10
    ignored = (folder / "out" / "bids" / ".bidsignore").read_text().split()
    assert all("_attribution." in pattern for pattern in ignored), "only attribution maps are ignored"
    broken = folder / "broken"
    shutil.copytree(folder / "out" / "bids", broken)
    (broken / "sub-01" / "wrong.nii.gz").touch()
    again = subprocess.run([VALIDATOR, str(broken), "--format", "json"], capture_output=True, text=True, timeout=120)
    assert again.returncode != 0, "it looks"


def test_names_are_entities_of_letters_and_digits():
    assert label("grad-cam", "GTV Mass", "features.6") == "gradCamGTVMassFeatures6"
    assert stem("sub-1/anat/sub-1_desc-preproc_T1w.nii.gz", "x") == "sub-1/anat/sub-1_desc-preprocX"
    assert stem("sub-1/ses-2/anat/sub-1_ses-2", "x") == "sub-1/ses-2/anat/sub-1_ses-2_desc-x"


def test_names_that_letters_alone_do_not_tell_apart_get_a_mark():
    def part(*layers):
        return {
            "maps": [
                {"file": f"{n}.nrrd", "method": "gradcam", "target": "肿瘤", "layer": layer}
                for n, layer in enumerate(layers)
            ]
        }

    told = [
        ("sub-1/anat/sub-1_desc-a_T1w.nii.gz", {}, [part("enc.1.0", "enc.10", "dec")]),
        ("sub-1/anat/sub-1_desc-b_T1w.nii.gz", {}, [part("dec")]),
    ]
    found = descriptions(told)
    assert len(set(found.values())) == len(found) == 4
    assert all(re.fullmatch(r"sub-1/anat/sub-1_desc-[A-Za-z0-9]+", name) for name in found.values())


def test_a_dataset_of_ones_own_is_not_written_into(tmp_path):
    refuse_foreign_dataset(tmp_path)
    (tmp_path / "bids").mkdir()
    refuse_foreign_dataset(tmp_path)
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.10.0"}')
    with pytest.raises(InputError, match="no run wrote it"):
        refuse_foreign_dataset(tmp_path)
