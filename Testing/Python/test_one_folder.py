"""A run's folder over time: others that write there, runs that were stopped at an odd moment, other jobs, moved and renamed files."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from fixture_runs import names, only, rows, small_model, volumes

from MedXAILib import stages
from MedXAILib.app import run as runner
from MedXAILib.app import tables, work
from MedXAILib.app.dispatch import Workers
from MedXAILib.app.drawing import Drawing, draw
from MedXAILib.app.job import Job
from MedXAILib.app.tables import derive
from MedXAILib.cli import run as command
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume
from MedXAILib.outputs.case_file import sweep
from MedXAILib.outputs.run_folder import claimed_run


@pytest.fixture
def place(tmp_path):
    small_model(tmp_path / "model")
    volumes(tmp_path / "cases", 3)
    return tmp_path


def job(place: Path, **fields) -> Job:
    given = {"classes": ("yes",), "methods": ("saliency",), "device": "cpu"} | fields
    return Job(task="explain", inputs={"": str(place / "cases")}, model=str(place / "model" / "card.json"), **given)


def words(place: Path, *more: str) -> list[str]:
    asked = ["--model", str(place / "model" / "card.json"), "--class", "yes", "--method", "saliency"]
    return ["explain", str(place / "cases"), *asked, "-o", str(place / "out"), *more]


@pytest.fixture
def passes(monkeypatch):
    """How often a case was run through the network."""
    seen, real = [], work.run_case

    def counted(session, request=None, *rest, **more):
        seen.append(request)
        return real(session, request, *rest, **more)

    monkeypatch.setattr(work, "run_case", counted)
    return seen


def test_what_another_run_is_writing_is_not_swept_away(place):
    """Whoever began alone may not be any more."""
    case = place / "out" / "case-000"
    private, stray = case / f".{'a' * 32}.partial", case / f"case-000_yes_saliency_{'0' * 16}.nrrd"
    with claimed_run(place / "out", "k", "one") as alone:
        assert alone()
        with claimed_run(place / "out", "k", "two") as other:
            private.mkdir(parents=True)
            stray.write_bytes(b"moved, and not listed yet")
            assert not alone() and not other()
            sweep(place / "out", [case], alone)
            assert private.exists() and stray.exists()
        sweep(place / "out", [case], alone)
        assert not case.exists()


def test_tables_that_a_stopped_run_had_not_listed_yet_do_not_stand_in_the_way(place, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tables, "contact_sheets", killed)
        with pytest.raises(KeyboardInterrupt):
            runner.run(job(place), place / "out")
    assert (place / "out" / "regions.csv").exists()
    assert "regions.csv" not in json.loads((place / "out" / "run.json").read_text())["files"]
    assert runner.run(job(place), place / "out")["done"] == 3


def test_a_table_of_ones_own_is_not_overwritten(place):
    (place / "out").mkdir()
    for name in ("regions.csv", "contact_yes_saliency.png"):
        (place / "out" / name).write_text("mine")
        with pytest.raises(InputError, match="no run wrote"):
            runner.run(job(place), place / "out")
        assert [p.name for p in (place / "out").iterdir()] == [name]
        (place / "out" / name).unlink()


def test_a_part_of_the_cases_in_the_folder_of_another_state_ends_well(place):
    runner.run(job(place), place / "out")
    small_model(place / "model", seed=1)
    found = runner.run(job(place), place / "out", shard="1/2")
    assert len(found["cases"]) == found["done"] < 3


def test_a_number_of_what_is_made_without_the_network_makes_it_anew(place, passes, monkeypatch):
    runner.run(job(place), place / "out")
    before = only(place / "out" / "case-000", "case-000_yes_saliency_regions.nrrd").name
    monkeypatch.setitem(stages.DERIVED, "regions", 99)
    runner.run(job(place), place / "out")
    assert len(passes) == 3 and only(place / "out" / "case-000", "case-000_yes_saliency_regions.nrrd").name != before


def test_figures_of_a_stopped_drawing_are_known_as_ours(place, monkeypatch):
    from MedXAILib.app import drawing

    runner.run(job(place), place / "out")
    real = drawing._figure

    def stopped(root, model, case, *rest):
        if case.name.startswith("case-001"):
            raise KeyboardInterrupt
        real(root, model, case, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "_figure", stopped)
        with pytest.raises(KeyboardInterrupt):
            draw(place / "out", Drawing())
    assert len(draw(place / "out", Drawing()).files) == 3


def test_prune_leaves_a_run_inside_the_folder_alone(place):
    runner.run(job(place, methods=("saliency", "gradcam")), place / "out")
    runner.run(job(place), place / "out" / "inner")
    before = names(place / "out" / "inner")
    runner.run(job(place), place / "out", prune=True)
    assert names(place / "out" / "inner") == before
    assert not list((place / "out").glob("case-*/*gradcam*"))


def test_failures_are_of_one_job_and_what_failed_stands_in_no_other_table(place):
    broken, whole = place / "cases" / "case-001.nii.gz", (place / "cases" / "case-001.nii.gz").read_bytes()
    runner.run(job(place), place / "out")
    assert len({row["input"] for row in rows(place / "out" / "predictions.csv")}) == 3
    broken.write_bytes(b"broken")
    runner.run(job(place), place / "out")
    assert {row["input"] for row in rows(place / "out" / "failures.csv")} == {"case-001.nii.gz"}
    assert len({row["input"] for row in rows(place / "out" / "predictions.csv")}) == 2, (
        "of an image that is there no more"
    )

    broken.write_bytes(whole)
    runner.run(job(place), place / "out")
    assert not (place / "out" / "failures.csv").exists()


def test_a_failure_of_another_job_is_not_tried_again_as_this_ones(place):
    (place / "cases" / "case-001.nii.gz").write_bytes(b"broken")
    runner.run(job(place), place / "out")
    path = place / "out" / "case-001" / "case.json"
    record = json.loads(path.read_text())
    record["failures"][0]["job"] = "another"
    path.write_text(json.dumps(record))
    assert derive(place / "out").failed == 0 and not (place / "out" / "failures.csv").exists()


def test_to_retry_one_case_that_fails_again_is_no_failure_of_all(place, capsys):
    (place / "cases" / "case-001.nii.gz").write_bytes(b"broken")
    assert command(words(place)) == 3
    assert command(words(place, "--retry")) == 3
    assert "2 of 3 cases" in capsys.readouterr().out


def test_a_renamed_input_keeps_its_maps_and_its_new_name_stands_everywhere(place, passes):
    runner.run(job(place), place / "out")
    old = place / "cases" / "case-001.nii.gz"
    (place / "cases" / "case-001.nii").write_bytes(gzip.decompress(old.read_bytes()))
    old.unlink()
    runner.run(job(place), place / "out")
    assert len(passes) == 3
    told = {row["input"] for name in ("predictions.csv", "regions.csv") for row in rows(place / "out" / name)}
    assert told == {"case-000.nii.gz", "case-001.nii", "case-002.nii.gz"}


def test_voxels_beside_a_header_are_looked_at_too(place, passes):
    header = "ObjectType = Image\nNDims = 3\nDimSize = 18 20 3\nElementType = MET_FLOAT\nElementSpacing = 1 1 4\nElementDataFile = other.bin\n"
    for path in (place / "cases").iterdir():
        path.unlink()
    (place / "cases" / "a.mhd").write_text(header)
    data = place / "cases" / "other.bin"
    for number, seed in enumerate((0, 0, 1)):
        data.write_bytes(np.random.default_rng(seed).normal(100, 10, 18 * 20 * 3).astype("<f4").tobytes())
        os.utime(data, (1e9 + number, 1e9 + number))
        runner.run(job(place), place / "out")
    assert len(passes) == 2, "the same voxels again are no other image"


def test_a_link_to_another_disk_may_be_the_folder(place, capsys):
    (place / "far" / "deep").mkdir(parents=True)
    (place / "out").symlink_to(place / "far" / "deep")
    runner.run(job(place), place / "out")
    assert len(draw(place / "out", Drawing()).files) == 3


def test_a_dry_run_counts_what_the_job_lacks_and_not_what_is_there_of_others(place, capsys):
    runner.run(job(place), place / "out")
    assert command(words(place, "--dry-run")) == 0
    assert command(words(place, "--method", "gradcam", "--dry-run")) == 0
    assert command(words(place, "--overwrite", "--dry-run")) == 0
    told = capsys.readouterr().out
    assert ["3 cases, 0 of" in told, told.count("3 cases, 3 of")] == [True, 2]


def test_a_result_that_is_wanted_whole_is_computed_where_only_its_tables_are_there(place, passes):
    single = job(place, writers=("tables",))
    single = Job.from_json(
        single.described() | {"inputs": {"": str(place / "cases" / "case-000.nii.gz")}, "model": single.model}
    )
    runner.run(single, place / "out")
    found = []
    runner.run(single, place / "out", then=found.append)
    assert len(passes) == 2 and found[0].findings[0].map.array.any()


def test_how_many_workers_run_follows_the_memory(monkeypatch):
    from MedXAILib.app import dispatch

    monkeypatch.setattr(dispatch, "available_memory", lambda: dispatch.RESERVE + 25)
    monkeypatch.setattr(dispatch, "held_below", lambda: 0)
    assert [Workers(8, each=10).most(running) for running in (0, 1, 2)] == [2, 2, 2], "none was begun yet"
    monkeypatch.setattr(dispatch, "held_below", lambda: 10)
    assert Workers(8, each=10).most(1) == 3
    monkeypatch.setattr(dispatch, "available_memory", lambda: dispatch.RESERVE - 1)
    assert Workers(8, each=10).most(2) == 2, "none more"


def test_threads_of_the_first_run_stay(place, passes):
    import torch

    before = torch.get_num_threads()
    runner.run(job(place, threads=1), place / "out", shard="1/2")
    assert json.loads((place / "out" / "run.json").read_text())["threads"] == 1
    runner.run(job(place), place / "out")
    made = [json.loads(p.read_text())["parts"][0]["computed"]["threads"] for p in (place / "out").glob("*/case.json")]
    assert made == [1, 1, 1] and torch.get_num_threads() == before


def test_the_same_input_under_another_frame_is_another_job(place):
    one, other = (runner.prepared(job(place, frame=n), place / "out", runner.Messages()).key for n in (0, 1))
    assert one != other


def test_measured_where_the_inputs_lie_now_and_with_their_masks(tmp_path):
    """Two channels of the same name in two folders, and a mask of the case's own: each is found by its hash."""
    from MedXAILib.app.keys import hash_of
    from MedXAILib.app.recorded import Recorded, read_input, read_mask

    rng = np.random.default_rng(0)
    told = {}
    for channel in ("t1", "t2"):
        path = tmp_path / "moved" / "sub-1" / channel / "a.nii.gz"
        path.parent.mkdir(parents=True)
        write_volume(Volume(rng.normal(size=(2, 3, 4)).astype(np.float32), np.eye(4)), path)
        told[channel] = {
            "path": f"../gone/sub-1/{channel}/a.nii.gz",
            "sha256": hash_of(read_volume(path)),
            "frame": None,
            "series": None,
        }
    mask = tmp_path / "moved" / "masks" / "a.nii.gz"
    mask.parent.mkdir()
    write_volume(Volume(np.eye(4, dtype=np.uint8)[None, :3], np.eye(4)), mask)
    beside = {"mask": {"path": "../gone/masks/a.nii.gz", "sha256": hash_of(read_volume(mask))}}
    case = Recorded(
        name="a.nii.gz", folder=tmp_path, record={"inputs": told, "beside": beside}, prediction=None, parts=[]
    )
    for channel in told:
        found = read_input(tmp_path / "out", case, channel, [tmp_path / "moved"])
        assert hash_of(found) == told[channel]["sha256"]
    assert read_mask(tmp_path / "out", {}, case, [tmp_path / "moved"])[0] == mask
    with pytest.raises(InputError, match="does not lie in"):
        read_input(tmp_path / "out", case, "t1", [tmp_path / "moved" / "masks" / "none"])
