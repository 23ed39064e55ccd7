"""Results as files: the panel sends what the scene holds, and the worker writes it as the command line does."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from seen import texts


@pytest.fixture(scope="module")
def commanded(computed, tmp_path_factory):
    """What the command line writes for the same."""
    from dataclasses import replace

    from MedXAILib.app.run import run

    out = tmp_path_factory.mktemp("cli") / "out"
    job = replace(
        computed.job, inputs={"": str(computed.folder / "ball.nrrd")}, anatomy=str(computed.folder / "anatomy.nrrd")
    )
    run(job, out)
    return out


@pytest.fixture
def anatomy(explained, computed, slicer):
    """A segmentation node of two halves, moved as the volume is."""
    import slicer as package

    from MedXAILib.mrml import nodes

    node = nodes.add_labels(package.mrmlScene, computed.anatomy, "anatomy", explained.volume, fill=0.0)
    node.SetAndObserveTransformNodeID(explained.volume.GetTransformNodeID())
    return node


@pytest.fixture
def worker(explained, monkeypatch):
    """Answers the panel within this process, so that what it calls can be stood in for; gives the module that exports."""
    from MedXAILib.app import exporting
    from MedXAILib.app.worker import Worker
    from MedXAILib.mrml.nodes import volume_of

    client, events = explained.panel.logic.client, []

    def answer(do: str, **fields) -> dict:
        worker = Worker(client.folder, events.append)
        worker.volumes[fields["reference"]] = volume_of(explained.volume)
        worker.handle({"id": 1, "do": do, **json.loads(json.dumps(fields))})
        return events[-1]

    monkeypatch.setattr(client, "answer", answer)
    return exporting


def rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "input"} for row in csv.DictReader(file)]


def test_an_export_is_what_the_command_line_writes(explained, anatomy, commanded, tmp_path):
    from PIL import Image

    from MedXAILib.errors import InputError
    from MedXAILib.io.read import read_volume

    logic, out = explained.panel.logic, tmp_path / "new" / "out"
    written = logic.export(explained.volume, out, anatomy=anatomy)
    theirs = named(commanded)
    ours = named(out)
    assert {*theirs, "snapshot.png"} == set(ours) and {
        path.relative_to(out).as_posix() for path in ours.values()
    } == set(written)
    for name in sorted(theirs):
        if name.endswith(".csv"):
            assert approximately(rows(ours[name]), rows(theirs[name])), name
        elif name.endswith(".nrrd"):
            one, other = read_volume(ours[name]), read_volume(theirs[name])
            assert one.grid.same_as(other.grid) and np.allclose(one.array, other.array, rtol=1e-4, atol=1e-7), name
        elif name not in ("run.json", "ball/case.json") and name.endswith(".json"):
            one, other = (json.loads(folder[name].read_text()) for folder in (ours, theirs))
            assert one.keys() == other.keys()
            assert all(one[key] == other[key] for key in ("notice", "caveats", "weights_sha256"))
    run, other = (json.loads((folder / "run.json").read_text()) for folder in (out, commanded))
    assert "Research use only" in run["notice"]
    assert {key: run["jobs"][0][key] for key in ("model", "methods", "options", "mass_fraction")} == {
        key: other["job"][key] for key in ("model", "methods", "options", "mass_fraction")
    }
    assert min(Image.open(out / "snapshot.png").size) > 300
    assert not list(logic.client.folder.glob("*.nrrd")), "what was sent is gone"

    before = {path: path.read_bytes() for path in ours.values()}
    with pytest.raises(InputError, match="already holds a run"):
        logic.export(explained.volume, out)
    assert {path: path.read_bytes() for path in named(out).values()} == before
    logic.export(explained.volume, out, overwrite=True)
    assert set(named(out)) == set(ours) - {"anatomy.csv"}


def test_the_fractions_by_structure_are_the_command_lines(explained, anatomy, commanded):
    client, ui = explained.panel.logic.client, explained.ui
    explained.p.anatomy, ui.tables.currentIndex = anatomy, 2
    asked = []
    for node, method in zip(explained.maps, ("gradcam", "lime"), strict=True):
        explained.panel.display.show([node])
        assert texts(ui.structures)[0][0] == "Computing..."
        client.wait()
        columns = ("positive_fraction", *(["negative_fraction"] if method == "lime" else []), "volume_fraction")
        expected = [row for row in rows(commanded / "anatomy.csv") if row["method"] == method]
        shown = {row[0]: row[1:] for row in texts(ui.structures)}
        assert shown == {r["structure"]: [f"{100 * float(r[c]):.1f} %" for c in columns] for r in expected}
        asked.append(texts(ui.structures))
    number = client.number
    ui.maps.cellClicked.emit(0, 1)
    assert texts(ui.structures) == asked[0] and client.number == number, "what is known is not asked for again"


def test_a_table_by_structure_is_asked_for_again_after_the_worker_has_died(explained, anatomy):
    client, ui = explained.panel.logic.client, explained.ui
    explained.p.anatomy, ui.tables.currentIndex = anatomy, 2
    explained.panel.display.show(explained.maps)
    client._kill()
    assert texts(ui.structures)[0][0] == "The process that computes was stopped: try again."
    ui.tables.currentIndex = 0
    ui.tables.currentIndex = 2
    client.wait()
    assert {"right half", "left half"} < {row[0] for row in texts(ui.structures)}


def named(folder: Path) -> dict[str, Path]:
    """The files of a run by their names without the keys."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            name = re.sub("_[0-9a-f]{16}[.]", ".", path.relative_to(folder).as_posix())
            assert name not in found
            found[name] = path
    return found


def approximately(one: list[dict], other: list[dict]) -> bool:
    """Whether two tables agree, numbers to a ten-thousandth."""
    close = [{key: pytest.approx(v, rel=1e-4, abs=1e-6) for key, v in numbers(row).items()} for row in other]
    return [numbers(row) for row in one] == close and [words(row) for row in one] == [words(row) for row in other]


def numbers(row: dict) -> dict[str, float]:
    return {key: float(text) for key, text in row.items() if is_number(text)}


def words(row: dict) -> dict[str, str]:
    return {key: text for key, text in row.items() if not is_number(text)}


def is_number(text: str) -> bool:
    return text.replace(".", "").replace("-", "").replace("e", "").isdigit()


@pytest.mark.parametrize("earlier", [False, True])
def test_a_failed_export_leaves_nothing(explained, worker, tmp_path, monkeypatch, earlier):
    from MedXAILib.errors import InputError

    logic, out = explained.panel.logic, tmp_path / "out"
    if earlier:
        logic.export(explained.volume, out)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(worker, "snapshot", lambda *_, **__: raises(RuntimeError("no screen")))
    with pytest.raises(InputError) as caught:
        logic.export(explained.volume, out, overwrite=earlier)
    assert str(caught.value) == "The worker failed (RuntimeError: no screen); the log has the details."
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert out.exists() == earlier and not list(tmp_path.glob(".out*"))


def raises(error: Exception):
    raise error


def test_the_panel_exports_and_stays_alive(explained, tmp_path, monkeypatch, slicer):
    ui, section, client = explained.ui, explained.panel.export, explained.panel.logic.client
    section.exportInto(tmp_path)
    assert ui.keepMessage.text == "Exporting..." and not ui.exportButton.enabled
    assert ui.exportButton.toolTip == "An export is under way."
    client.wait()
    files = named(tmp_path / "ball")
    assert ui.keepMessage.text == f"{len(files)} files are in {tmp_path / 'ball'}." and ui.exportButton.enabled
    section.exportInto(tmp_path)  # under testing the answer is no
    assert ui.keepMessage.text == "Nothing was exported."
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    section.exportInto(tmp_path)
    client.wait()
    assert ui.keepMessage.text.startswith(f"{len(files)} files")
    (tmp_path / "file").write_text("")
    section.exportInto(tmp_path / "file")
    client.wait()
    assert "no folder" in ui.keepMessage.text and "\n" not in ui.keepMessage.text and ui.exportButton.enabled
    section.exportInto(tmp_path / "killed")
    client._kill()
    assert "was stopped" in ui.keepMessage.text and ui.exportButton.enabled


def test_a_result_made_once_more_keeps_files_and_rows_of_its_own(explained, computed, tmp_path):
    from MedXAIPanel import results

    results.addMaps(explained.volume, computed.event, computed.folder / computed.event["folder"])
    explained.panel.logic.export(explained.volume, tmp_path / "out")
    maps = [f"{case}_lesion_{rest}.nrrd" for case in ("ball", "ball-2") for rest in ("gradcam_features", "lime")]
    assert all(f"{name.partition('_')[0]}/{name}" in named(tmp_path / "out") for name in maps)
    cases = [row["input"] for row in csv.DictReader((tmp_path / "out" / "superpixels.csv").open())]
    assert cases.count("ball") == cases.count("ball 2") == len(cases) / 2


def test_maps_are_exported_also_where_parts_of_them_were_removed(explained, commanded, slicer, tmp_path):
    from MedXAIPanel import results

    (prediction,) = results.predictionsOf(explained.volume)
    slicer.mrmlScene.RemoveNode(prediction)
    slicer.mrmlScene.RemoveNode(explained.maps[1].GetNodeReference(results.SUPERPIXELS))
    slicer.mrmlScene.RemoveNode(explained.maps[0].GetNodeReference(results.REGIONS))
    explained.panel.logic.export(explained.volume, tmp_path / "out")
    files = {Path(name).name: path for name, path in named(tmp_path / "out").items()}
    assert {"ball_lesion_lime.nrrd", "ball_lesion_gradcam_features_regions.nrrd", "regions.csv"} <= set(files)
    assert not {"superpixels.csv", "predictions.csv", "ball_lesion_lime_superpixels.nrrd"} & set(files)
    about = json.loads(files["ball_lesion_lime.json"].read_text())
    assert about["caveats"] == json.loads(named(commanded)["ball/ball_lesion_lime.json"].read_text())["caveats"]


def test_an_exported_picture_warns_of_what_the_model_does_not_know(explained, worker, tmp_path, monkeypatch):
    from MedXAIPanel import results

    drawn = []
    monkeypatch.setattr(worker, "snapshot", lambda *_, caveats, **__: drawn.extend(caveats))
    explained.panel.logic.export(explained.volume, tmp_path / "out")
    (prediction,) = results.predictionsOf(explained.volume)
    told = [caveat["text"] for caveat in results.metadata(prediction)["caveats"]]
    assert drawn == told and told, "a ball is no head"
