"""A cohort: the case is the unit of work. What is there is kept, what is missing is computed, and no stop costs more than the case
under way."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fixture_runs import cases, names, only, rows, small_model, volumes

from MedXAILib.app import case as one_case
from MedXAILib.app import run as runner
from MedXAILib.app import work
from MedXAILib.app.cohort import run_cohort
from MedXAILib.app.job import Job
from MedXAILib.app.tables import derive
from MedXAILib.cli import run as command
from MedXAILib.errors import FileError, InputError
from MedXAILib.findings.reference import drawn_beside
from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume
from MedXAILib.models.card import read_card
from MedXAILib.models.loading import Model, load_model
from MedXAILib.models.networks import architecture


@pytest.fixture
def place(tmp_path):
    """A model and four cases."""
    small_model(tmp_path / "model")
    volumes(tmp_path / "cases", 4)
    return tmp_path


def job(place: Path, *methods: str, **fields) -> Job:
    given = {"classes": ("yes",), "methods": methods or ("gradcam", "saliency"), "device": "cpu"} | fields
    return Job(task="explain", inputs={"": str(place / "cases")}, model=str(place / "model" / "card.json"), **given)


def carried(place: Path, *methods: str, out: str = "out", how: dict | None = None, **fields) -> dict:
    return runner.run(job(place, *methods, **fields), place / out, **(how or {}))


def tables(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(out.glob("*.csv"))}


@pytest.fixture
def passes(monkeypatch):
    """How often a case was given to the network."""
    seen, real = [], work.run_case

    def counted(session, request=None, *rest, **more):
        seen.append(sorted(request.methods) if request else [])
        return real(session, request, *rest, **more)

    monkeypatch.setattr(work, "run_case", counted)
    return seen


def test_one_file_and_many_have_the_same_layout(place):
    carried(place)
    single = runner.run(
        Job(
            task="explain", inputs={"": str(place / "cases" / "case-001.nii.gz")}, model=str(place / "model" / "card.json"),
            classes=("yes",), methods=("gradcam", "saliency"), device="cpu",
        ),
        place / "one",
    )  # fmt: skip
    assert [name for name in names(place / "out") if name.startswith("case-001/")] == [
        name for name in names(place / "one") if "/" in name
    ]
    many = only(place / "out" / "case-001", "case-001_yes_saliency.nrrd")
    assert many.name == only(place / "one", "case-001_yes_saliency.nrrd").name, "a key knows no run"
    assert single["done"] == single["of"] == 1


def test_what_is_there_is_kept_and_only_what_is_missing_computed(place, passes):
    first = carried(place)
    before = {
        path: path.stat().st_mtime_ns for path in (place / "out").rglob("*") if path.is_file() and "/case" in str(path)
    }
    told = tables(place / "out")
    assert len(passes) == 4 and first["computed"] == 12 and first["kept"] == 0
    again = carried(place)
    assert len(passes) == 4 and (again["computed"], again["kept"]) == (0, 12)
    assert before == {path: path.stat().st_mtime_ns for path in before} and tables(place / "out") == told

    more = carried(place, "gradcam", "saliency", "occlusion")
    assert passes[4:] == [["occlusion"]] * 4 and (more["computed"], more["kept"]) == (4, 12)
    assert {row["method"] for row in rows(place / "out" / "regions.csv")} == {"gradcam", "saliency", "occlusion"}

    less = carried(place, "saliency")
    assert len(passes) == 8 and less["computed"] == 0
    assert {row["method"] for row in rows(place / "out" / "regions.csv")} == {"saliency"}, (
        "tables are of the newest job"
    )
    assert only(place / "out" / "case-000", "case-000_yes_occlusion.nrrd").exists(), "other maps stay"
    carried(place, "saliency", how={"prune": True})
    assert not [name for name in names(place / "out") if "occlusion" in name or "gradcam" in name] and len(passes) == 8


def test_a_threshold_an_anatomy_a_format_need_no_pass_and_give_what_a_new_run_gives(place, passes):
    anatomy = np.zeros((3, 20, 18), np.uint8)
    anatomy[:, 5:10] = 1
    write_volume(Volume(anatomy, np.diag([1.5, 1.5, 4, 1])), place / "anatomy.nrrd")
    other = {
        "mass_fraction": 0.3,
        "anatomy": str(place / "anatomy.nrrd"),
        "format": "nii.gz",
        "options": {"samples": 20},
    }
    carried(place, "gradcam", "lime", options={"samples": 20})
    asked = len(passes)
    changed = carried(place, "gradcam", "lime", **other)
    assert len(passes) == asked and changed["computed"] == 0
    carried(place, "gradcam", "lime", out="new", **other)
    assert tables(place / "out") == tables(place / "new")
    assert [n for n in names(place / "out") if "/" in n] == [n for n in names(place / "new") if "/" in n]
    for path in (place / "new").rglob("*.nii.gz"):
        same = place / "out" / path.relative_to(place / "new")
        assert np.array_equal(read_volume(same).array, read_volume(path).array)


def test_other_weights_or_fields_are_computed_anew_and_another_name_is_refused(place, passes):
    carried(place)
    small_model(place / "model", description="told otherwise")
    carried(place)
    assert len(passes) == 4, "a description decides nothing"
    small_model(place / "model", seed=1)
    carried(place)
    assert len(passes) == 8
    small_model(place / "model", seed=1, input={"size": [16, 16], "intensity": {"rule": "none"}})
    carried(place)
    assert len(passes) == 12
    small_model(place / "model", seed=1, name="another")
    with pytest.raises(InputError, match="holds a run of the model small, not another"):
        carried(place)


def test_an_input_is_known_by_its_voxels_and_looked_into_only_when_its_file_changed(place, passes, monkeypatch):
    carried(place)
    opened, real = [], one_case.read_volume
    monkeypatch.setattr(
        one_case, "read_volume", lambda path, **how: opened.append(Path(path).name) or real(path, **how)
    )
    carried(place)
    assert opened == []
    path = place / "cases" / "case-002.nii.gz"
    os.utime(path, (1, 1))
    carried(place)
    assert opened == ["case-002.nii.gz"] and len(passes) == 4, "the same voxels"
    volume = read_volume(path)
    write_volume(volume.with_array(volume.array + 1), path)
    carried(place)
    assert len(passes) == 5
    opened.clear()
    carried(place, how={"verify": True})
    assert len(opened) == 4 and len(passes) == 5


def test_a_case_that_fails_is_a_line_and_the_others_go_on(place, passes):
    (place / "cases" / "case-001.nii.gz").write_bytes(b"not an image")
    found = carried(place)
    assert (found["done"], found["of"]) == (3, 4) and len(passes) == 3
    (line,) = rows(place / "out" / "failures.csv")
    assert (line["input"], line["stage"]) == ("case-001.nii.gz", "reading") and "case-001.nii.gz" in line["sentence"]
    volumes(place / "cases", 2)
    carried(place, how={"retry": True})
    assert len(passes) == 4 and not (place / "out" / "failures.csv").exists()
    assert {row["input"] for row in rows(place / "out" / "predictions.csv")} == {f"case-00{n}.nii.gz" for n in range(4)}


def test_a_network_that_raises_is_the_cases_own_failure(place, monkeypatch):
    real = work.run_case

    def raising(session, *rest, **more):
        if session.prepared.reference.source.name == "case-002.nii.gz":
            raise ZeroDivisionError("by the network")
        return real(session, *rest, **more)

    monkeypatch.setattr(work, "run_case", raising)
    found = carried(place)
    (failure,) = found["failures"]
    assert (
        failure["input"] == "case-002.nii.gz"
        and failure["sentence"] == "case-002.nii.gz: ZeroDivisionError: by the network"
    )


def test_every_shard_has_its_cases_once_and_together_they_are_the_run(place, passes):
    volumes(place / "cases", 9)
    carried(place, out="whole")
    for n in range(1, 8):
        taken = [
            [case for case in range(9) if runner.in_shard(f"case-{case:03}.nii.gz", f"{i}/{n}")]
            for i in range(1, n + 1)
        ]
        assert sorted(case for part in taken for case in part) == list(range(9))
    for i in (2, 3, 1):
        carried(place, how={"shard": f"{i}/3"})
    assert tables(place / "out") == tables(place / "whole") and len(passes) == 18
    for wrong in ("0/3", "4/3", "3", "a/b", "1/0"):
        with pytest.raises(InputError, match="--shard"):
            carried(place, how={"shard": wrong})


def test_seeds_come_from_the_case_and_not_from_the_order(place):
    carried(place, "lime", options={"samples": 20})
    (place / "cases" / "case-000.nii.gz").unlink()
    carried(place, "lime", out="fewer", options={"samples": 20})
    for n in (1, 2, 3):
        name = f"case-00{n}_yes_lime.nrrd"
        one, other = (read_volume(only(place / out / f"case-00{n}", name)).array for out in ("out", "fewer"))
        assert np.array_equal(one, other)


def test_what_no_run_wrote_stays_and_what_runs_left_behind_goes(place):
    carried(place)
    here = place / "out" / "case-001"
    told = tables(place / "out")
    (here / "notes.txt").write_text("mine")
    (here / ("." + "a" * 32 + ".partial")).mkdir()
    (here / ("." + "a" * 32 + ".partial") / "half.nrrd").write_text("half")
    (here / f"case-001_yes_gradcam_{'0' * 16}.nrrd").write_text("moved, and never listed")
    (place / "out" / ".mine.partial").mkdir()
    carried(place)
    assert tables(place / "out") == told
    assert (here / "notes.txt").read_text() == "mine" and (place / "out" / ".mine.partial").exists()
    assert not [path.name for path in here.iterdir() if "a" * 32 in path.name or "0" * 16 in path.name]


def test_a_file_that_is_gone_or_cut_is_made_again(place, passes):
    carried(place)
    told = tables(place / "out")
    next((place / "out" / "case-000").glob("case-000_yes_gradcam_*_regions_*.nrrd")).unlink()
    path = only(place / "out" / "case-001", "case-001_yes_saliency_regions.nrrd")
    path.write_bytes(path.read_bytes()[:-5])
    carried(place)
    assert passes[4:] == [["gradcam"], ["saliency"]] and tables(place / "out") == told


def test_tables_can_be_made_from_the_folder_alone(place, capsys):
    carried(place)
    told = tables(place / "out")
    for name in told:
        (place / "out" / name).unlink()
    shutil.rmtree(place / "model")
    shutil.rmtree(place / "cases")
    assert command(["tables", str(place / "out")]) == 0
    assert tables(place / "out") == told and "4 of 4 cases" in capsys.readouterr().out
    shutil.rmtree(place / "out" / "case-003")
    assert derive(place / "out").said == "3 of 4 cases"
    assert command(["tables", str(place)]) == 2 and "no folder of a run" in capsys.readouterr().err


def test_another_jobs_run_that_goes_on_is_refused_and_the_same_jobs_is_not(place):
    lock = place / "out" / ".medxai-one.lock"

    def held(key: str, **who) -> None:
        lock.parent.mkdir(exist_ok=True)
        lock.write_text(json.dumps(runner_me() | {"job": "explain x", "key": key} | who))

    held("another")
    with pytest.raises(InputError, match="out: another run writes into this folder .'explain x', process"):
        carried(place)
    held("another", process=2**22 - 1)
    carried(place)
    assert not lock.exists(), "its process is gone"
    one = runner.prepared(job(place), place / "out", runner.Messages())
    held(one.key)
    stray = place / "out" / "case-001" / f"case-001_x_{'0' * 16}.nrrd"
    stray.write_text("another process is about to list it")
    carried(place)
    assert lock.exists() and stray.exists()
    lock.unlink()
    carried(place)
    assert not stray.exists()


def runner_me() -> dict:
    from MedXAILib.outputs.staging import me

    return me()


def test_exit_codes_tell_all_some_and_none(place, capsys):
    words = ["predict", str(place / "cases"), "--model", str(place / "model" / "card.json"), "-o", str(place / "out")]
    assert command(words) == 0
    (place / "cases" / "case-001.nii.gz").write_bytes(b"x")
    assert command(words) == 3
    for path in (place / "cases").iterdir():
        path.write_bytes(b"x")
    assert command([*words[:-1], str(place / "none")]) == 1
    assert command([*words[:1], str(place / "nowhere"), *words[2:]]) == 2
    assert {row["input"] for row in rows(place / "none" / "failures.csv")} == {f"case-00{n}.nii.gz" for n in range(4)}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_kill_leaves_the_tables_of_an_undisturbed_run(tmp_path):
    """A sample of ``make check-cohort``."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Checks"))
    import cohort

    assert cohort.check(20, 1, tmp_path, disks=False) == []


def test_a_full_disk_stops_the_run_and_costs_the_case_under_way(place, monkeypatch):
    real, written = work.publish, []

    def publish(*given):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(real(*given))

    monkeypatch.setattr(work, "publish", publish)
    with pytest.raises(InputError, match="out: the results cannot be written .No space left on device.; make room"):
        carried(place)
    assert len(cases(place / "out")) == 2 and not list((place / "out").rglob(".*"))
    monkeypatch.setattr(work, "publish", real)
    assert carried(place)["kept"] == 6
    carried(place, out="whole")
    assert tables(place / "out") == tables(place / "whole")


def test_run_cohort_yields_each_case_as_it_is_finished(place):
    (place / "cases" / "bad.nii.gz").write_bytes(b"x")
    card, asked = (
        str(place / "model" / "card.json"),
        {"classes": ["yes"], "methods": ["gradcam", "saliency"], "device": "cpu"},
    )
    running = run_cohort(place / "cases", place / "out", model=card, **asked)
    first = next(running)
    assert first.name == "bad.nii.gz" and "bad.nii.gz" in first.failure and not first.maps
    second = next(running)
    assert second.name == "case-000.nii.gz" and (second.folder / "case.json").exists() and not second.kept
    assert not (place / "out" / "case-003").exists(), "it is not begun yet"
    assert {m.method for m in second.maps} == {"gradcam", "saliency"}
    assert set(second.said["probabilities"]) == {"no", "yes"}
    assert second.maps[0].volume.shape == read_volume(place / "cases" / "case-000.nii.gz").shape
    running.close()
    assert not list((place / "out").rglob(".*")), "who stops listening leaves no lock"
    rest = list(run_cohort(place / "cases", place / "out", model=card, **asked))
    assert [case.kept for case in rest if not case.failure] == [True, False, False, False]
    assert (place / "out" / "regions.csv").exists()
    with pytest.raises(InputError, match="no parameter 'metods'"):
        run_cohort(place / "cases", place / "out", model=card, metods=["lime"])


def test_a_network_at_hand_takes_over_only_what_bears_its_key(place, passes):
    card = read_card(place / "model" / "card.json")
    network = load_model(place / "model" / "card.json", device="cpu").network
    given = Model(card, network, "cpu", "", "")

    def computed(**more) -> int:
        before = len(passes)
        assert len(list(run_cohort(place / "cases", place / "out", model=given, classes=["yes"], **more))) == 4
        return len(passes) - before

    assert computed(key="v1") == 4 and computed(key="v1") == 0
    assert computed(key="v2") == 4
    assert computed() == 4 and computed() == 4, "without a key nothing is taken over"
    with pytest.raises(InputError, match="cannot be given a network"):
        run_cohort(place / "cases", place / "out", model=given, workers=2)


def test_a_bare_network_is_run_by_a_card_and_left_as_it_was(place, passes):
    card, network = place / "model" / "card.json", load_model(place / "model" / "card.json", device="cpu").network
    module = architecture("SliceCNN")(classes=2, size=16).train()
    module.load_state_dict(network.state_dict())
    asked = {"classes": ["yes"], "methods": ["gradcam"]}
    own = list(run_cohort(place / "cases", place / "own", model=module, card=card, key="v1", **asked))
    theirs = list(run_cohort(place / "cases", place / "theirs", model=str(card), **asked))
    for one, other in zip(own, theirs, strict=True):
        assert np.array_equal(one.maps[0].volume.array, other.maps[0].volume.array) and not one.failure
    assert module.training
    before = len(passes)
    assert all(
        case.kept for case in run_cohort(place / "cases", place / "own", model=module, card=card, key="v1", **asked)
    )
    assert len(passes) == before
    with pytest.raises(InputError, match="give card=PATH"):
        run_cohort(place / "cases", place / "own", model=module)
    with pytest.raises(InputError, match="is no network"):
        run_cohort(place / "cases", place / "own", model=3, card=card)


def test_a_dry_run_says_what_there_is_and_computes_nothing(place, passes, capsys):
    (place / "cases" / "stray.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40)
    words = ["explain", str(place / "cases"), "--model", str(place / "model" / "card.json"), "-o", str(place / "out")]
    assert command([*words, "--dry-run", "--workers", "2"]) == 0
    told = capsys.readouterr()
    assert "4 cases: case-000.nii.gz, case-001.nii.gz" in told.err and "stray.dcm" in told.err
    assert "Disk: at most" in told.err and "for each worker" in told.err
    assert "4 cases, 4 of them to be done" in told.out and not passes and not (place / "out").exists()


def test_too_small_a_disk_is_told_before_anything_is_computed(place, passes, monkeypatch):
    from MedXAILib.app import estimate

    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000, total=1, used=1))
    with pytest.raises(InputError, match="out: the results of 4 cases need up to .* and 0.977 KiB are free; make room"):
        carried(place)
    assert not passes and not (place / "out").exists()


def test_each_case_has_its_own_mask_and_anatomy(place, passes):
    """In a table; a case whose mask is changed is explained anew, and it alone."""
    card = json.loads((place / "model" / "card.json").read_text())
    assert card["task"] == "classification"
    for n in range(4):
        labels = np.zeros((3, 20, 18), np.uint8)
        labels[:, : 5 + n], labels[:, 5 + n :] = 1, 2
        write_volume(Volume(labels, np.diag([1.5, 1.5, 4, 1])), place / f"anatomy-{n}.nrrd")
    lines = [f"case {n},cases/case-{n:03}.nii.gz,anatomy-{n}.nrrd" for n in range(4)]
    (place / "t.csv").write_text("\n".join(["case,input,anatomy", *lines]))
    given = replace(job(place), inputs={"": str(place / "t.csv")})
    runner.run(given, place / "out")
    fractions = {
        (row["input"], row["method"]): float(row["volume_fraction"])
        for row in rows(place / "out" / "anatomy.csv")
        if row["structure"] in ("1", "Segment_1", "label 1")
    }
    found = [fractions[f"case {n}", "saliency"] for n in range(4)]
    assert found == sorted(found) and len(set(found)) == 4
    asked = len(passes)
    labels = np.ones((3, 20, 18), np.uint8)
    write_volume(Volume(labels, np.diag([1.5, 1.5, 4, 1])), place / "anatomy-2.nrrd")
    again = runner.run(given, place / "out")
    assert len(passes) == asked and again["computed"] == 0 and again["kept"] == 4 + 2 * 3


def test_mixed_versions_in_a_folder_are_told(place, monkeypatch):
    carried(place, "gradcam")
    monkeypatch.setattr(work, "versions", lambda: {"torch": "9.9"})
    found = carried(place, "gradcam", "saliency")
    assert len(found["mixed"]) == 2 and any("torch 9.9" in line for line in found["mixed"])


def test_what_is_known_of_cases_stands_beside_what_the_model_says(place, passes, capsys):
    """The column ``labels``: names of classes; a change of them needs no pass."""
    known = {"case-000": "yes", "case-001": "no", "case-002": "", "case-003": "maybe"}

    def told(**more: str):
        lines = [f"cases/{name}.nii.gz,{text}" for name, text in (known | more).items()]
        (place / "cases.csv").write_text("\n".join(["input,labels", *lines]))
        model = ["--model", str(place / "model" / "card.json"), "-o", str(place / "out"), "--class", "yes"]
        return command(["explain", str(place / "cases.csv"), *model]), rows(place / "out" / "labels.csv")

    code, found = told()
    assert code == 3 and "small has no class 'maybe': choose one of no, yes" in " ".join(
        capsys.readouterr().err.split()
    )
    said = {(row["input"], row["class"]): row for row in rows(place / "out" / "predictions.csv") if row["slice"] == ""}
    assert [(r["input"], r["class"], r["reference"]) for r in found] == [
        (f"cases/case-00{n}.nii.gz", name, str(int(known[f"case-00{n}"] == name)))
        for n in (0, 1)
        for name in ("no", "yes")
    ]
    assert all(r["predicted"] == said[r["input"], r["class"]]["probability"] for r in found)
    asked = len(passes)
    code, found = told(**{"case-001": "yes"})
    assert len(passes) == asked, "the network says the same"
    assert {(r["class"], r["reference"]) for r in found} == {("no", "0"), ("yes", "1")}


def test_drawn_labels_give_dice_by_name_or_value_and_only_on_the_same_grid():
    grid = np.diag([2.0, 2, 2, 1])
    ours = np.zeros((3, 4, 5), np.uint8)
    ours[0], ours[1] = 1, 2
    theirs = np.zeros_like(ours)
    theirs[0, :2], theirs[1] = 1, 2
    rows_ = (Label(1, "Anterior"), Label(2, "Posterior"))
    said = Labels(Volume(ours, grid), rows_)
    by_value = drawn_beside(said, Labels(Volume(theirs, grid), (Label(1, "label 1"), Label(2, "label 2"))), "a.nii")
    assert [(b.name, b.unit, b.dice) for b in by_value] == [("Anterior", "mL", 2 / 3), ("Posterior", "mL", 1.0)]
    assert [n for b in by_value for n in (b.reference, b.predicted)] == pytest.approx([0.08, 0.16, 0.16, 0.16])
    swapped = Labels(
        Volume(np.where(theirs, 3 - theirs, 0).astype(np.uint8), grid), (Label(2, "anterior"), Label(1, "posterior"))
    )
    assert drawn_beside(said, swapped, "a.seg.nrrd") == by_value
    nothing = drawn_beside(said, Labels(Volume(np.zeros_like(ours), grid), ()), "a.nii")
    assert [b.dice for b in nothing] == [0.0, 0.0]
    both = drawn_beside(
        Labels(Volume(np.zeros_like(ours), grid), rows_), Labels(Volume(np.zeros_like(ours), grid), ()), "a.nii"
    )
    assert [b.dice for b in both] == [None, None], "of nothing there is no overlap"
    with pytest.raises(FileError, match=r"another grid"):
        drawn_beside(said, Labels(Volume(theirs[:2], grid), rows_), "a.nii")
    with pytest.raises(FileError, match=r"none of its labels"):
        drawn_beside(said, Labels(Volume(theirs * 20, grid), (Label(20, "x"), Label(40, "y"))), "a.nii")
