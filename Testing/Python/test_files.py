"""The output folder: whole or not at all, named as documented, tables that agree with their maps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from fixture_runs import only, rows, written

from MedXAILib import NOTICE, Attribution
from MedXAILib.caveats import Caveat
from MedXAILib.errors import InputError
from MedXAILib.findings.finding import find
from MedXAILib.findings.said import CaseResult, Said
from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.io.segmentation import read_labels
from MedXAILib.outputs import staging
from MedXAILib.outputs.layout import safe, stems
from MedXAILib.outputs.listing import listed
from MedXAILib.outputs.run_folder import write_run
from MedXAILib.outputs.staging import staged


def test_names_are_reduced_mirrored_and_kept_apart():
    assert safe("Grey matter (left)_T2*") == "Grey-matter-left-T2"
    names = ["b/scan_1.nii.gz", "b/scan 1.png", "b/scan_2.png", "c d/x.tar.nrrd"]
    assert stems(names) == {
        "b/scan_1.nii.gz": "b/scan-1.nii.gz",
        "b/scan 1.png": "b/scan-1.png",
        "b/scan_2.png": "b/scan-2",
        "c d/x.tar.nrrd": "c-d/x.tar",
    }


def test_no_name_leads_out_of_the_output_folder_or_hides_there():
    names = [
        "_../b.png",
        "-./c.png",
        "c.png",
        " .hid.png",
        "(..)/b.png",
        ".../b.png",
        "run.json/b.png",
        "predictions.csv/b.png",
    ]
    names += ["a_b.nii", "a-b.nii", "a-b-17da1293.nii"]
    found = stems(names)
    assert len(set(found.values())) == len(names)
    parts = [part for stem in found.values() for part in stem.split("/")]
    assert not [part for part in parts if part.startswith(".") or part in ("run.json", "predictions.csv")]


def finish(folder) -> None:
    """run.json, as it lists what is there."""
    write_run(folder, {}, [name for name in everything(folder) if (folder / name).is_file() and name != staging.LOCK])


def everything(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_an_error_leaves_nothing_and_an_older_run_stays(tmp_path):
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "a" / "out") as folder:
        (folder / "half").write_text("x")
        raise ZeroDivisionError
    assert everything(tmp_path) == []
    with staged(tmp_path / "a" / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "one").write_text("1")
        finish(folder)
    before = everything(tmp_path)
    with pytest.raises(InputError, match="--overwrite"), staged(tmp_path / "a" / "out"):
        pass
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "a" / "out", overwrite=True) as folder:
        (folder / "two").write_text("2")
        raise KeyboardInterrupt
    assert everything(tmp_path) == before


def test_overwriting_removes_the_older_runs_files_and_no_others(tmp_path):
    out = tmp_path / "out"
    for name in ("one", "two"):
        with staged(out, overwrite=True) as folder:
            (folder / name).write_text(name)
            finish(folder)
        (out / "mine.txt").write_text("kept")
    assert everything(out) == ["mine.txt", "run.json", "two"]
    with pytest.raises(InputError, match=r"mine\.txt"), staged(out, overwrite=True) as folder:
        (folder / "mine.txt").write_text("not mine")
    assert (out / "mine.txt").read_text() == "kept" and (out / "two").exists()
    with pytest.raises(InputError, match=r"mine\.txt"), staged(out, overwrite=True, names=["mine.txt"]):
        raise AssertionError("told after the work")


def test_a_file_on_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"), staged(tmp_path / "file" / "out"):
        pass
    assert everything(tmp_path) == ["file"]


SAID = Said(model="m", summary={"probabilities": {"c": 0.5}})


@pytest.mark.parametrize("extension", ["nrrd", "nii.gz", "mha"])
def test_tables_agree_with_the_maps_by_brute_force(tmp_path, extension):
    rng = np.random.default_rng(3)
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -4], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    labels = rng.integers(1, 4, (6, 7, 8))
    coefficients = {1: -1.0, 2: 3.0, 3: 0.5}
    heat = np.vectorize(coefficients.get)(labels).astype(np.float32)
    volume = Volume(heat, affine)
    superpixels = Labels(volume.with_array(labels), tuple(Label(n, f"s{n}") for n in (1, 2, 3)))
    a = Attribution(
        volume=volume, method="lime", target="b_c", label="b_c", signed=True, superpixels=superpixels, coefficients=coefficients,
        provenance={"seed": 1}, caveats=(Caveat("c", "x", "caution", {"n": 1}),),
    )  # fmt: skip
    anatomy = Labels(volume.with_array(rng.integers(0, 3, heat.shape)), (Label(1, "left"), Label(2, "right")))
    seen = rng.random(heat.shape) > 0.3
    found = find(a, volume, anatomy=anatomy, seen=seen)
    place = written(tmp_path, CaseResult(name="d/e.nii.gz", reference=volume, said=SAID, findings=(found,)), extension)
    assert place == tmp_path / "d" / "e"

    back = read_volume(only(place, f"e_b-c_lime.{extension}"))
    assert back.grid.same_as(volume.grid) and np.array_equal(back.array, heat)
    assert json.loads(only(place, "e_b-c_lime.json").read_text())["caveats"] == [
        {"code": "c", "severity": "caution", "text": "x", "figures": {"n": 1}}
    ]
    regions = read_labels(only(place, f"e_b-c_lime_regions.{extension}"))
    assert np.array_equal(regions.volume.array, found.regions.volume.array)

    mass = heat / np.vectorize({n: (superpixels.volume.array == n).sum() for n in (1, 2, 3)}.get)(
        superpixels.volume.array
    )
    positive = np.maximum(mass, 0)
    assert positive.sum() == pytest.approx(3.5, rel=1e-5)  # the sum of the positive coefficients
    for row in rows(tmp_path / "regions.csv"):
        inside = found.regions.volume.array == int(row["region"].split()[-1])
        k, j, i = np.nonzero(inside)
        centre = np.average(volume.ras(np.stack([i, j, k], 1)), axis=0, weights=mass[inside])
        assert np.allclose([float(row[c]) for c in "ras"], centre, atol=1e-3)
        assert float(row["volume_ml"]) == pytest.approx(inside.sum() * 9 / 1000, rel=1e-5)
        assert float(row["peak"]) == pytest.approx(heat[inside].max(), rel=1e-5)
        assert float(row["mass_fraction"]) == pytest.approx(positive[inside].sum() / positive.sum(), rel=1e-5)
    for row in rows(tmp_path / "superpixels.csv"):
        value = int(row["label"])
        assert float(row["coefficient"]) == a.coefficients[value]
        assert float(row["volume_ml"]) == pytest.approx((superpixels.volume.array == value).sum() * 9 / 1000)
    shares = rows(tmp_path / "anatomy.csv")
    for row in shares:
        inside = anatomy.volume.array == {"left": 1, "right": 2, "elsewhere": 0}[row["structure"]]
        assert float(row["positive_fraction"]) == pytest.approx(positive[inside].sum() / positive.sum(), rel=1e-5)
        assert float(row["negative_fraction"]) == pytest.approx(
            np.minimum(mass, 0)[inside].sum() / np.minimum(mass, 0).sum(), rel=1e-5
        )
        assert float(row["volume_fraction"]) == pytest.approx((inside & seen).sum() / seen.sum(), rel=1e-5)
    assert len(shares) == 3


# Who writes where


def test_a_run_is_made_on_the_disk_that_it_is_for(tmp_path):
    """An output folder that exists may be a mount: what is made beside it could not be moved there."""
    (tmp_path / "there").mkdir()
    for output, place in (("there", "there"), ("new", "."), ("there/deep/er", "there"), ("else/deep", ".")):
        with staged(tmp_path / output) as folder:
            assert folder.parent == (tmp_path / place).resolve()
            (folder / "x").write_text("x")
        assert (tmp_path / output / "x").read_text() == "x"
    assert not [name for name in everything(tmp_path) if "partial" in name]


def lock(folder, **who):
    folder.mkdir(parents=True)
    (folder / "half").write_text("x")
    (folder / staging.LOCK).write_text(json.dumps(staging.me() | {"job": "explain x.png with net"} | who))


@pytest.mark.parametrize("exists", [False, True])
def test_a_run_that_goes_on_is_named_and_one_that_is_gone_removed(tmp_path, exists):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    partial = out / ".out.partial" if exists else tmp_path / ".out.partial"
    lock(partial)
    with pytest.raises(InputError, match=r"out: another run .*'explain x.png with net', process \d+"), staged(out):
        pass
    assert (partial / "half").exists()
    for gone in ({"process": 2**22 - 1}, {"began": 1e9}):  # no such process; another one has the number now
        shutil.rmtree(partial)
        lock(partial, **gone)
        with staged(out, overwrite=True) as folder:
            assert not (folder / "half").exists()
            finish(folder)
        assert everything(tmp_path) == ["out", "out/run.json"]
        lock(partial)


def test_a_run_on_another_computer_counts_as_gone_after_an_hour_without_a_sign(tmp_path):
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    lock(partial, host="elsewhere", process=1)
    with pytest.raises(InputError, match="process 1 on elsewhere"), staged(out):
        pass
    then = time.time() - 3700
    os.utime(partial / staging.LOCK, (then, then))
    with staged(out) as folder:
        (folder / "x").write_text("x")
    assert everything(tmp_path) == ["out", "out/x"]


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="out: the results cannot be written .No space left"), staged(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert everything(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes")
def test_an_image_that_has_no_room_ends_the_run_and_not_only_its_case(tmp_path):
    import resource

    noise = np.random.default_rng(0).normal(size=(8, 32, 32)).astype(np.float32)
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, kept[1]))
        said = r"^out: the results cannot be written \(x_input_\w+\.nrrd: the disk has \d+ MiB left.*make room"
        with pytest.raises(InputError, match=said), staged(tmp_path / "out") as folder:
            try:
                volume = Volume(noise, np.eye(4))
                result = CaseResult(name="x", reference=volume, said=SAID, prepared=volume)
                written(folder, result)
            except InputError:
                pytest.fail("a case's own error, after which the others would go on")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert everything(tmp_path) == []


# A run that takes the place of another


def contents(folder):
    return {name: (folder / name).read_text() for name in everything(folder) if (folder / name).is_file()}


def earlier(out) -> dict:
    """A run in a folder that also holds a file of the user's."""
    with staged(out) as folder:
        for name in ("a/one", "a/two", "three"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"old {name}")
        finish(folder)
    (out / "mine").write_text("mine")
    return contents(out)


def later(out) -> None:
    with staged(out, overwrite=True) as folder:
        for name in ("a/one", "b/c/four", "three"):
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_text(f"new {name}")
        finish(folder)


NEW = {"a/one": "new a/one", "b/c/four": "new b/c/four", "three": "new three", "mine": "mine"}
MOVES = 4 + 4
"""Files of the older run and of the newer one."""


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("at", range(MOVES + 1))
def test_files_are_moved_all_or_none(tmp_path, monkeypatch, at, killed):
    out = tmp_path / "out"
    before, moved, real = earlier(out), [], staging.move

    def move(path, target):
        moved.append(path)
        if len(moved) == at + 1:
            raise OSError(5, "Input/output error")
        real(path, target)

    with monkeypatch.context() as broken:
        broken.setattr(staging, "move", move)
        if killed:
            broken.setattr(staging, "undo", lambda *_: None)
        if at < MOVES:
            with pytest.raises(InputError, match="out: the results cannot be written .Input/output error"):
                later(out)
        else:
            later(out)
    if killed and at < MOVES:
        (partial,) = out.glob(".*.partial")
        (partial / staging.LOCK).write_text(json.dumps(staging.me() | {"process": 2**22 - 1}))
        with pytest.raises(ZeroDivisionError), staged(out, overwrite=True):
            raise ZeroDivisionError
    found = contents(out)
    if at < MOVES:
        assert found == before and not (out / "b").exists()
    else:
        assert {name: text for name, text in found.items() if name != "run.json"} == NEW
        assert json.loads(found["run.json"])["files"] == ["a/one", "b/c/four", "three", "run.json"]


@pytest.mark.parametrize("harm", ["a link to elsewhere", "a file for a folder", "a folder for a file"])
def test_what_no_run_wrote_stops_the_moving_before_it_begins(tmp_path, harm):
    out = tmp_path / "out"
    earlier(out)
    if harm == "a link to elsewhere":
        shutil.move(out / "a", tmp_path / "moved")
        (out / "a").symlink_to(tmp_path / "moved")
    elif harm == "a file for a folder":
        (out / "b").write_text("mine")
    else:
        (out / "three").unlink()
        (out / "three").mkdir()
    before = contents(tmp_path)
    with pytest.raises(InputError, match="out: this folder holds '(a|b|three)', which no run wrote"):
        later(out)
    assert contents(tmp_path) == before


def test_a_record_names_files_of_its_own_folder_only(tmp_path):
    out, victim = tmp_path / "out", tmp_path / "victim"
    earlier(out)
    victim.write_text("not yours")
    (out / "up").symlink_to(tmp_path)
    (out / "run.json").write_text(
        json.dumps({"notice": NOTICE, "files": ["up/victim", "../victim", str(victim), "three", "run.json"]})
    )
    assert listed(out) == ["three", "run.json"]


@pytest.mark.parametrize(
    "record",
    [
        {"tool": "another", "files": ["data.csv", "run.json"]},
        {"notice": NOTICE, "files": None},
        {"notice": NOTICE, "files": [["a"], "a\0b", "\ud800", "x" * 5000, 7]},
        [1],
        "[" * 100_000,
    ],
    ids=["another program's", "null", "no names", "a list", "deep"],
)
def test_a_record_that_is_none_names_nothing(tmp_path, record):
    out = tmp_path / "out"
    out.mkdir()
    (out / "data.csv").write_text("precious")
    (out / "run.json").write_text(record if isinstance(record, str) else json.dumps(record))
    assert listed(out) == []
    with pytest.raises(InputError, match="'run.json', which no run wrote"), staged(out, overwrite=True):
        pass
    assert everything(tmp_path) == ["out", "out/data.csv", "out/run.json"]


@pytest.mark.parametrize(
    "who",
    [{"began": "x"}, {"began": [1]}, {"process": None}, {"process": "7"}, {"process": -5}, {"process": 10**30}],
    ids=str,
)
@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_a_lock_that_makes_no_sense_holds_nobody_up_for_ever(tmp_path, who, host):
    partial = tmp_path / ".out.partial"
    lock(partial, **who, **({"host": host} if host else {}))
    if host:  # its owner may live: it is told as well as it can be
        with pytest.raises(InputError, match="another run writes"), staged(tmp_path / "out"):
            pass
        os.utime(partial / staging.LOCK, (1, 1))
    with staged(tmp_path / "out") as folder:
        (folder / "x").write_text("x")
    assert everything(tmp_path) == ["out", "out/x"]


@pytest.mark.parametrize(
    "journal",
    [{"new": ["../victim"]}, {"old": ["../evil"]}, {"new": 5, "old": None}, {"new": [{}], "old": [["a"]]}, "x"],
    ids=str,
)
def test_a_journal_moves_nothing_out_of_its_folder(tmp_path, journal):
    out, partial = tmp_path / "box" / "out", tmp_path / "box" / "out" / ".out.partial"
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "victim").write_text("precious")
    lock(partial, process=2**22 - 1)
    (partial / staging.OLD).mkdir()
    (partial / "evil").write_text("evil")
    (partial / staging.JOURNAL).write_text(json.dumps(journal))
    with staged(out) as folder:
        (folder / "x").write_text("x")
    assert everything(tmp_path) == ["box", "box/out", "box/out/x", "box/victim"]


@pytest.mark.parametrize("link", [False, True])
def test_what_lies_where_a_run_would_be_made_is_named(tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / ".out.partial"
    place.symlink_to(tmp_path / "elsewhere") if link else place.write_text("x")
    with (
        pytest.raises(InputError, match=r"\.out\.partial: a run would be made here, .* rename it"),
        staged(tmp_path / "out"),
    ):
        pass


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_waits_until_the_files_are_moved(tmp_path, monkeypatch):
    out, real = tmp_path / "out", staging.move
    earlier(out)

    def move(path, target):
        os.kill(os.getpid(), signal.SIGINT)
        real(path, target)

    monkeypatch.setattr(staging, "move", move)
    with pytest.raises(KeyboardInterrupt):
        later(out)
    assert {name: text for name, text in contents(out).items() if name != "run.json"} == NEW


def test_the_hidden_folder_is_no_bar_to_long_names_and_no_other_s(tmp_path):
    for output in ("x" * 250, "/".join(["a" * 90, "b" * 90, "c" * 90]), "画" * 80, "l/a-b", "l/a/b"):
        with staged(tmp_path / output) as folder:
            (folder / "x").write_text(output)
    assert len({staging.partial(tmp_path / name, tmp_path) for name in ("l/a-b", "l/a/b", "l-a-b")}) == 3
    (tmp_path / ".new.partial").mkdir()
    (tmp_path / ".new.partial" / "mine").write_text("mine")
    os.utime(tmp_path / ".new.partial", (1, 1))
    with pytest.raises(InputError, match=r"\.new\.partial: .* is of no run; rename it"), staged(tmp_path / "new"):
        pass
    assert (tmp_path / ".new.partial" / "mine").exists()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="nowhere: this is no folder"), staged(tmp_path / "nowhere"):
        pass


def test_a_case_may_lie_in_a_folder_of_any_name(tmp_path):
    """Where the older run's files wait is no folder that a case can have."""
    out = tmp_path / "out"
    earlier(out)
    with staged(out, overwrite=True) as folder:
        for name in ("old/three", "old/a/one", "moving.json"):
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_text(f"new {name}")
        finish(folder)
    found = contents(out)
    assert {name: text for name, text in found.items() if name not in ("run.json", "mine")} == {
        name: f"new {name}" for name in ("old/three", "old/a/one", "moving.json")
    }
