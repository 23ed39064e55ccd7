"""A scene that version 1 of the scheme wrote: it is listed, shown and exported, and its structures are computed.

``older_scene.json`` holds what MedXAI wrote down on the nodes of such a scene (commit aff622d: LIME with 4 superpixels and
Grad-CAM on the ball of these tests, and a slice-wise prediction), and the tables that it exported. The voxels are made anew.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from seen import passes, texts

OLDER = json.loads((Path(__file__).parent / "older_scene.json").read_text())
CARDS = Path(__file__).resolve().parents[1] / "cards"
WORDS = {
    "mass_share": "mass_fraction", "positive_share": "positive_fraction", "negative_share": "negative_fraction",
    "volume_share": "volume_fraction",
}  # fmt: skip
"""Columns of the tables then and now."""


@pytest.fixture(scope="session")
def few(computed):
    """The same run with 4 superpixels, as the older scene has them."""
    from MedXAILib.app.worker import Worker
    from MedXAILib.geometry.volume import Volume

    worker = Worker(computed.folder, lambda event: None)
    worker.volumes["ball"] = Volume(computed.volume.array, computed.volume.affine)
    worker.count = 100  # results of its own
    job = replace(computed.job, options={**computed.job.options, "superpixels": 4})
    with pytest.MonkeyPatch.context() as patch:  # the older one drew from the job's seed itself
        patch.setattr("MedXAILib.app.case.seed_of", lambda seed, volume: seed)
        event = worker.compute({"id": 1, "job": asdict(job)})
    return json.loads(json.dumps({"event": "result", "id": 1, **event}))


def as_older(node, attributes: dict) -> None:
    """Write down on a node what the older version did, and nothing else."""
    from MedXAIPanel import results

    node.RemoveAttribute(results.METADATA)
    for name, value in attributes.items():
        node.SetAttribute(name, value if isinstance(value, str) else json.dumps(value))


@pytest.fixture
def older(panel, computed, few, slicer):
    """The older scene, its volume chosen."""
    from MedXAIPanel import results

    from MedXAILib.mrml import nodes

    volume = nodes.add_volume(slicer.mrmlScene, computed.volume, "ball")
    files = computed.folder / few["folder"]
    (prediction,) = results.addPrediction(volume, few, files)
    maps = results.addMaps(volume, few, files)
    new = [results.metadata(node) for node in (prediction, *maps)]
    as_older(prediction, OLDER["prediction"])
    for node, attributes in zip(maps, OLDER["maps"], strict=True):
        as_older(node, attributes)
    panel.parameters.inputVolume = volume
    panel.update()
    return SimpleNamespace(panel=panel, ui=panel.ui, volume=volume, prediction=prediction, maps=maps, new=new)


def test_what_it_tells_is_read_in_the_words_of_today(older):
    from MedXAIPanel import results

    for node, new in zip((older.prediction, *older.maps), older.new, strict=True):
        found = results.metadata(node)
        for key in ("target", "method", "layer", "signed", "title", "says", "carried", "probabilities", "top", "grid"):
            assert found.get(key) == new.get(key) or found[key] == pytest.approx(new[key], rel=1e-4), key
        for kind in {"regions", "superpixels"} & new.keys():
            assert [set(row) for row in found[kind]["table"]] == [set(row) for row in new[kind]["table"]]
        # what caveats there are has changed since; these said the same
        assert {caveat["text"] for caveat in found["caveats"]} & {caveat["text"] for caveat in new["caveats"]}
        assert all(caveat.keys() == {"code", "severity", "text"} for caveat in found["caveats"])
        assert found["job"]["options"] == {"samples": 60, "superpixels": 4} and found["job"]["mass_fraction"] == 0.5


@pytest.mark.parametrize(("stored", "kept"), [("0.25", 0.25), ("1.5", 0.4), ("abc", 0.4)])
def test_the_panels_choice_of_the_hot_regions_is_kept(module, stored, kept):
    """What cannot be meant leaves what there is; the older name is asked once."""
    logic = module.code.MedXAILogic()
    node = logic.getParameterNode().parameterNode
    logic.getParameterNode().massFraction = 0.4  # as a window that is open has written it already
    node.SetParameter("share", stored)
    assert logic.getParameterNode().massFraction == kept and not node.GetParameter("share")
    logic.getParameterNode().massFraction = 0.5


def test_it_is_listed_and_shown(older, slicer):
    ui, facts = older.ui, OLDER["maps"][1]["MedXAI.Facts"]
    assert [row[1:3] for row in texts(ui.maps)] == [["lesion", "Grad-CAM"], ["lesion", "LIME"]]
    assert ui.probabilities.rowCount == 2 and "unlike what the model was trained on" in ui.caveats.text
    ui.maps.cellClicked.emit(1, 1)
    assert all(line.split("<")[0].split("'")[0] in ui.limits.text for line in facts["limits"])
    regions, superpixels = facts["regions"]["table"], facts["superpixels"]["table"]
    assert [row[0] for row in texts(ui.regions)] == [row["name"] for row in regions]
    assert texts(ui.regions)[0][2] == f"{100 * regions[0]['mass_share']:.1f} %"
    ui.regions.cellClicked.emit(0, 0)
    assert passes(slicer, regions[0]["centroid"])
    ui.tables.currentIndex = 1
    assert {row[0] for row in texts(ui.superpixelTable)} == {row["name"] for row in superpixels}
    ui.superpixelTable.cellClicked.emit(0, 0)
    place = max(superpixels, key=lambda row: row["coefficient"])["place"]
    assert passes(slicer, place)
    before = json.loads(json.dumps(OLDER["prediction"]))
    del before["MedXAI.Facts"]["evaluations"]["shap"]
    as_older(older.prediction, before)
    older.panel.update()
    costs = {item.text().split(":")[0]: item.text() for item in older.panel.explain.items()}
    assert "up to" in costs["LIME"], "the older prediction tells how long a method takes"
    assert "one forward pass for each" in costs["Kernel SHAP"], "but for one that came later"


def test_its_tables_and_structures_are_those_that_it_wrote(older, computed, slicer, tmp_path):
    from MedXAILib.mrml import nodes

    anatomy = nodes.add_labels(slicer.mrmlScene, computed.anatomy, "anatomy", older.volume, fill=0.0)
    files = older.panel.logic.export(older.volume, tmp_path / "out", anatomy=anatomy)
    for name, rows in OLDER["tables"].items():
        assert name in files
        with (tmp_path / "out" / name).open(newline="", encoding="utf-8") as file:
            found = [{key: row[key] for key in row if key != "severity"} for row in csv.DictReader(file)]
        assert len(found) == len(rows), name
        for new, old in zip(found, rows, strict=True):
            assert numbers(new) == pytest.approx(numbers(old), rel=2e-4, abs=1e-6), name
            assert new.keys() == {WORDS.get(key, key) for key in old}
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["jobs"][0]["options"] == {"samples": 60, "superpixels": 4}

    ui = older.ui
    older.panel.parameters.anatomy, ui.tables.currentIndex = anatomy, 2
    older.panel.display.show([older.maps[1]])
    older.panel.logic.client.wait()
    told = [row for row in OLDER["tables"]["anatomy.csv"] if row["method"] == "lime"]
    columns = ("positive_share", "negative_share", "volume_share")
    expected = {row["structure"]: [f"{100 * float(row[c]):.1f} %" for c in columns] for row in told}
    assert {row[0]: row[1:] for row in texts(ui.structures)} == expected


def numbers(row: dict) -> dict[str, float]:
    """The cells that are numbers, by the names of today."""
    found = {}
    for key, text in row.items():
        try:
            found[WORDS.get(key, key)] = float(text)
        except ValueError:
            continue
    return found


def test_a_slice_wise_prediction_of_it_is_shown_and_exported(panel, computed, slicer, tmp_path):
    from MedXAIPanel import results

    from MedXAILib.mrml import nodes

    volume = nodes.add_volume(slicer.mrmlScene, computed.volume, "ball")
    facts = OLDER["slices"]["MedXAI.Facts"]
    table = results.addTable("older", {"class": list(facts["probabilities"])})
    as_older(table, OLDER["slices"])
    table.SetNodeReferenceID(results.SOURCE, volume.GetID())
    panel.parameters.inputVolume, panel.parameters.model = volume, str(CARDS / "sania_brain_tumor.json")
    panel.update()
    ui = panel.ui
    assert ui.probabilities.rowCount == 4
    assert ui.probabilities.horizontalHeaderItem(1).text() == "highest of 25 slices"
    row = next(n for n in range(4) if ui.probabilities.item(n, 0).text() == "glioma")
    ui.probabilities.cellClicked.emit(row, 0)
    assert passes(slicer, facts["centres"][facts["highest_in_slice"]["glioma"]])
    panel.logic.export(volume, tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["slice"] == "1" and row["class"] == "glioma"]
    assert [float(row["probability"]) for row in rows] == pytest.approx([facts["slices"][1][0]], rel=1e-4)


def test_results_of_a_newer_version_are_left_out_and_that_is_told(older, slicer, tmp_path):
    from MedXAIPanel import results

    newer = json.dumps({"schema_version": 99, "method": "of tomorrow"})
    older.maps[0].SetAttribute(results.METADATA, newer)
    older.panel.update()
    assert [row[2] for row in texts(older.ui.maps)] == ["LIME"], "the others are shown"
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert older.ui.maps.rowCount == 1
    assert "a newer MedXAI wrote its results" in older.ui.explainMessage.text
    assert "\n" not in older.ui.explainMessage.text
