"""Measures: the deletion AUC against closed forms and against a loop of bare forward passes; ``medxai evaluate`` on runs and cases."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixture_nets import model
from fixture_runs import small_model, volumes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from MedXAILib import Request, Session, explain
from MedXAILib.cli import run
from MedXAILib.evaluation.deletion import MEASURE as DELETION
from MedXAILib.evaluation.evaluate import evaluate
from MedXAILib.evaluation.measure import Evaluation
from MedXAILib.examples.planted_lesion.heads import demo_head
from MedXAILib.examples.planted_lesion.planting import plant_lesion
from MedXAILib.geometry.resample import resample
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume
from MedXAILib.models.loading import load_model
from MedXAILib.preprocessing.foreground import foreground
from MedXAILib.preprocessing.prepare import prepare

SHAPE = (4, 5, 6)
MAPS = ["--model", "planted-lesion", "--method", "gradcam", "--method", "saliency"]


def measured(map_: np.ndarray, contributions: np.ndarray, *, steps: int = 20, draws: int = 200, seed: int = 0):
    """The figure of a map of a score that is a sum of the voxels' contributions, over the whole box."""
    c = torch.from_numpy(contributions)

    def ask(make, count, text):
        return (make(0, count) * c).flatten(1).double().sum(1, keepdim=True).numpy() + 3.0

    x = torch.ones(1, *contributions.shape, dtype=torch.float64)
    e = Evaluation(
        map=map_, scorer=SimpleNamespace(x=x, ask=ask), body=np.ones(contributions.shape, bool),
        baseline=torch.zeros_like(x), options={"steps": steps, "draws": draws}, seed=seed,
    )  # fmt: skip
    return DELETION.run(e)


def closed_form(map_: np.ndarray, contributions: np.ndarray, steps: int) -> float:
    """Of a linear score without ties: trapezoids under what is left of the sum after each part of the voxels."""
    c = contributions.ravel()[np.argsort(-map_.ravel())]
    left = [1 - c[: round(len(c) * n / steps)].sum() / c.sum() for n in range(steps + 1)]
    return area(left)


def area(curve) -> float:
    """Under a curve over 0 to 1: trapezoids of one width."""
    return float(sum((a + b) / 2 for a, b in zip(curve, curve[1:], strict=False)) / (len(curve) - 1))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), steps=st.sampled_from([2, 3, 10, 20, 60, 120]))
def test_of_a_linear_score_it_is_the_closed_form(seed, steps):
    rng = np.random.default_rng(seed)
    contributions, map_ = rng.uniform(0.1, 1, SHAPE), rng.permutation(120).reshape(SHAPE).astype(float)
    found = measured(map_, contributions, steps=steps, draws=1, seed=seed)
    assert found.value == pytest.approx(closed_form(map_, contributions, steps), abs=1e-9)
    best = measured(contributions, contributions, steps=steps, draws=1).value
    worst = measured(-contributions, contributions, steps=steps, draws=1).value
    assert best <= found.value + 1e-9 and found.value <= worst + 1e-9
    assert best + worst == pytest.approx(1, abs=1e-9), (
        "what the one order leaves, the other has taken: the parts are equal"
    )


def test_chance_is_a_half_of_a_linear_score_and_ties_are_broken_at_random():
    rng = np.random.default_rng(1)
    contributions = rng.uniform(0, 1, SHAPE) ** 4
    found = measured(contributions, contributions)
    assert found.chance == pytest.approx(0.5, abs=0.02) and found.value < 0.3
    two = np.zeros(SHAPE)
    two[0] = 1.0  # one plane is hottest, in no order of its own
    areas = [measured(two, contributions, draws=1, seed=n).value for n in range(60)]
    assert np.std(areas) > 0
    left = 1 - contributions[0].sum() / contributions.sum()
    assert np.mean(areas) == pytest.approx((1 + left) / 2 * 0.25 + left / 2 * 0.75, abs=0.01)


def test_what_cannot_be_told_is_said():
    flat = measured(np.full(SHAPE, 2.0), np.ones(SHAPE))
    assert flat.value is None and "same" in flat.why
    nothing = measured(np.arange(120.0).reshape(SHAPE), np.zeros(SHAPE))
    assert nothing.value is None and "does not change the score" in nothing.why


class Slicewise(nn.Module):
    """Its class ``yes`` is a part of the sum of a slice's squares."""

    def forward(self, x):
        score = x.square().flatten(1).sum(1) / 500
        return torch.stack([-score, score], 1)


def test_of_slices_the_one_in_which_the_target_is_highest_is_measured():
    rng = np.random.default_rng(2)
    array = np.zeros((5, 20, 22), np.float32)
    array[:, 4:16, 4:17] = rng.uniform(1, 2, (5, 12, 13))
    array[3, 8:11, 8:11] = 4.0
    volume = Volume(array, np.diag([-1.0, -1, 3, 1]))
    session = Session(model(Slicewise(), spatial={"mode": "slices", "axis": "k"}), volume)
    maps, seen = explain(session.model, volume, ["yes"], "saliency", slices="all"), []
    (row,) = evaluate(
        session,
        maps,
        {"yes": "yes"},
        [replace(DELETION, run=lambda e: seen.append(e) or DELETION.run(e))],
        options={"baseline": "zero"},
    )
    (e,) = seen
    assert torch.equal(e.scorer.x, session.prepared.tensor[:, 3:4])
    assert np.array_equal(e.map, maps[0].volume.array[3:4])
    assert np.array_equal(e.body, foreground(array[3:4]))
    squares = array[3:4][e.body] ** 2.0
    order = np.sort(squares)[::-1]  # the gradient of a square is hottest where the square is largest
    left = [1 - order[: round(len(order) * n / 20)].sum() / order.sum() for n in range(21)]
    assert row.figure.value == pytest.approx(area(left), abs=1e-5)


@pytest.fixture(scope="module")
def head() -> Volume:
    """A head with a planted lesion, on the network's own grid."""
    planted = plant_lesion(demo_head(), 0).head
    return resample(planted, prepare(load_model("planted-lesion").card, planted).grid)


def test_of_the_zoos_network_it_is_a_loop_of_bare_passes(head):
    network = load_model("planted-lesion")
    session = Session(network, head)
    (found,) = explain(network, head, ["lesion"], "saliency")
    found.volume.array[:] += np.random.default_rng(1).random(found.volume.shape[::-1], np.float32) * 1e-3  # no ties
    given_options = {"baseline": "zero", "steps": 10, "draws": 3}
    (row,) = evaluate(session, [found], {"lesion": "lesion"}, [DELETION], options=given_options, seed=4)

    x, body = session.prepared.tensor.clone(), foreground(session.prepared.tensor[0].numpy())
    places = np.argwhere(body)
    order = places[np.argsort(-resample(found.volume, session.prepared.grid).array[tuple(places.T)], kind="stable")]
    scores = []
    for step in range(11):
        changed = x.clone()
        gone = order[: round(len(order) * step / 10)]
        changed[0, gone[:, 0], gone[:, 1], gone[:, 2]] = 0
        with torch.no_grad():
            scores.append(float(network.network(changed[None])[0, network.card.index("lesion")]))
    curve = (np.array(scores) - scores[-1]) / (scores[0] - scores[-1])
    assert row.figure.value == pytest.approx(area(curve), abs=2e-3)
    assert row.row[:4] == ("", "saliency", "lesion", "deletion") and row.baseline == "zero"


def table(path) -> dict[tuple, list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["case", "method", "target", "measure", "figure", "chance", "baseline"]
    return {tuple(line[:4]): line[4:] for line in lines}


@pytest.fixture(scope="module")
def runs(head, tmp_path_factory):
    """A volume, and the run of its maps."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_volume(head, folder / "head.nrrd")
    assert run(["explain", str(folder / "head.nrrd"), *MAPS, "-o", str(folder / "out")]) == 0
    return folder


def test_a_run_has_the_figures_of_its_maps_and_those_of_other_measures_stay(runs, head, capsys):
    measured_ = [*("--measure", "deletion"), *("--steps", "5"), *("--draws", "2")]
    assert run(["evaluate", str(runs / "out"), *measured_]) == 0
    told = capsys.readouterr().out
    assert "Deletion AUC" in told and "lower is better" in told and "Research use only" in told
    found = table(runs / "out" / "evaluation.csv")
    session = Session(load_model("planted-lesion"), head)
    maps = session.explain(Request(methods=("gradcam", "saliency")))
    options = {"steps": 5, "draws": 2}
    expected = evaluate(session, maps, {"lesion": "lesion"}, [DELETION], case="head.nrrd", options=options)
    assert found.keys() == {row.row[:4] for row in expected} and len(found) == 2
    for row in expected:
        value, chance, baseline = found[row.row[:4]]
        assert [float(value), float(chance)] == pytest.approx([row.figure.value, row.figure.chance], abs=1e-4)
        assert baseline == row.baseline == "minimum"
    assert "evaluation.csv" in json.loads((runs / "out" / "run.json").read_text())["files"]

    path = only_case(runs / "out")
    record = json.loads(path.read_text())
    measured_part = next(part for part in record["parts"] if part["kind"] == "maps")
    measured_part["measured"].append(["head.nrrd", "gradcam", "lesion", "another", 0.5, None, ""])
    path.write_text(json.dumps(record))
    assert run(["evaluate", str(runs / "out"), *measured_, "--baseline", "zero"]) == 0
    after = table(runs / "out" / "evaluation.csv")
    assert len(after) == 3 and after["head.nrrd", "gradcam", "lesion", "another"] == ["0.5", "", ""]
    assert {line[2] for key, line in after.items() if key[3] == "deletion"} == {"zero"}


def only_case(folder):
    (path,) = folder.rglob("case.json")
    return path


def test_figures_are_those_of_the_newest_job_and_of_its_very_inputs_and_model(tmp_path, capsys):
    card, files = small_model(tmp_path / "model"), volumes(tmp_path / "cases", 3)
    asked = ["--model", str(card), "--class", "yes", "-o", str(tmp_path / "out")]
    measured_ = ["evaluate", str(tmp_path / "out"), "--steps", "3", "--draws", "1", "--model", str(card)]
    explain_ = ["explain", str(tmp_path / "cases"), *asked, "--method", "gradcam"]
    assert run([*explain_, "--method", "saliency"]) == 0 and run(measured_) == 0
    whole = table(tmp_path / "out" / "evaluation.csv")
    assert {(key[0], key[1].split()[0]) for key in whole} == {
        (p.name, m) for p in files for m in ("gradcam", "saliency")
    }
    assert run([*explain_, "--mass-fraction", "0.3"]) == 0
    assert table(tmp_path / "out" / "evaluation.csv") == {k: v for k, v in whole.items() if k[1].startswith("gradcam")}
    assert run([*explain_, "--method", "saliency"]) == 0
    assert table(tmp_path / "out" / "evaluation.csv") == whole, "what was measured of a map stays with it"

    volumes(tmp_path / "other", 1, seed=5)[0].replace(files[1])
    capsys.readouterr()
    assert run(measured_) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "not the image" in line]
    assert "case-001.nii.gz" in line and table(tmp_path / "out" / "evaluation.csv") == whole
    other = small_model(tmp_path / "another", seed=1)
    assert run([*measured_, "--model", str(other)]) == 2
    assert "not the model that made these maps: its weights are others" in capsys.readouterr().err


def test_cases_that_were_not_explained_yet_are_explained_first(tmp_path, capsys):
    card = small_model(tmp_path / "model")
    volumes(tmp_path / "cases", 2)[0].write_bytes(b"broken")
    words = [
        "evaluate",
        str(tmp_path / "cases"),
        "--model",
        str(card),
        "--class",
        "yes",
        "--steps",
        "3",
        "--draws",
        "1",
    ]
    assert run([*words, "-o", str(tmp_path / "out")]) == 3
    assert [key[0] for key in table(tmp_path / "out" / "evaluation.csv")] == ["case-001.nii.gz"]
    assert "case-000.nii.gz" in capsys.readouterr().err and only_case(tmp_path / "out" / "case-001")


def test_the_folder_of_an_earlier_version_is_measured_as_today_s(runs, tmp_path, capsys):
    """One record, of version 1 and in its words, and all maps side by side."""
    measured_ = [*("--measure", "deletion"), *("--steps", "5"), *("--draws", "2")]
    assert run(["evaluate", str(runs / "out"), *measured_]) == 0
    today = table(runs / "out" / "evaluation.csv")
    record = json.loads((runs / "out" / "run.json").read_text())
    old, maps = tmp_path / "old", []
    old.mkdir()
    (tmp_path / "head.nrrd").write_bytes((runs / "head.nrrd").read_bytes())
    for part in json.loads(only_case(runs / "out").read_text())["parts"]:
        for m in part.get("maps", ()):
            name = f"head_{m['class']}_{m['method']}"
            for end in (".nrrd", ".json"):
                (old / f"{name}{end}").write_bytes(
                    only_case(runs / "out").with_name(m["file"]).with_suffix(end).read_bytes()
                )
            maps.append(
                {"file": f"{name}.nrrd", "class": m["class"], "method": m["method"], "layer": m["layer"], "limits": []}
            )
    job = record["job"] | {"share": 0.5, "samples": None, "superpixels": None, "baseline": "air", "references": []}
    job = {name: value for name, value in job.items() if name not in ("mass_fraction", "options")}
    told = {
        "notice": record["notice"],
        "job": job,
        "remarks": [],
        "cases": [{"input": "head.nrrd", "maps": maps}],
        "files": ["run.json"],
    }
    (old / "run.json").write_text(json.dumps(told))
    assert run(["evaluate", str(old), *measured_]) == 0
    found = table(old / "evaluation.csv")
    assert found.keys() == {key for key in today if key[3] == "deletion"}
    for key, (value, chance, _) in found.items():
        assert [float(value), float(chance)] == pytest.approx([float(n) for n in today[key][:2]], abs=1e-4)


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        (["nowhere", "--model", "planted-lesion", "-o", "new"], "there is no such file or folder"),
        (["nowhere"], "there is no such file or folder"),
        (["head.nrrd"], "this is no folder of a run; for a case give --model and -o"),
        (["out", "--steps", "1"], "--steps 1: give a whole number of at least 2"),
        (["out", "--measure", "insertionn"], "choose from deletion"),
        (["head.nrrd", "--model", "planted-lesion", "--draws", "0", "-o", "new"], "--draws 0"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence_and_nothing_changes(runs, given_, says, capsys):
    def paths():
        return {p.relative_to(runs): p.read_bytes() for p in runs.rglob("*") if p.is_file()}

    before = paths()
    words = [str(runs / word) if word in ("nowhere", "head.nrrd", "out", "new") else word for word in given_]
    assert run(["evaluate", *words]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told
    assert paths() == before
