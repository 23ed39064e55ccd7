"""MedXAILogic without a panel: from Python, without a main window, and the batch script's exit codes."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def logic(module):
    logic = module.code.MedXAILogic()
    yield logic
    logic.client.stop()


@pytest.fixture
def planted(slicer):
    """The sample head, and its lesion."""
    from MedXAIPanel import sample

    from MedXAILib.examples.planted_lesion.heads import demo_head
    from MedXAILib.examples.planted_lesion.planting import plant_lesion

    if importlib.util.find_spec("nilearn") is None:
        pytest.skip("the demo's head comes with nilearn")
    return sample.load(lambda text: False), plant_lesion(demo_head(), sample.SEED).lesion


def test_the_hottest_pixels_over_the_sample_head_lie_in_its_lesion(logic, planted, slicer):
    """Asserted on the blended picture of a slice view."""
    from MedXAIPanel import results
    from vtk.util.numpy_support import vtk_to_numpy

    from MedXAILib.mrml.host import Host
    from MedXAILib.mrml.layers import show_maps
    from MedXAILib.mrml.views import jump

    volume, lesion = planted
    (heat,) = logic.explain(volume, "planted-lesion", "lesion")
    host = Host(slicer.mrmlScene, slicer.app.applicationLogic())
    region = results.metadata(heat)["regions"]["table"][0]
    show_maps(host, volume, [heat], 1.0)
    jump(host, region["centroid"])
    red = host.application.GetSliceLogicByLayoutName("Red")
    red.GetBlend().Update()
    connection = red.GetImageDataConnection()
    connection.GetProducer().Update()
    image = connection.GetProducer().GetOutputDataObject(connection.GetIndex())
    pixels = (
        vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*image.GetDimensions()[1::-1], -1)[..., :3].astype(int)
    )
    row, column = np.argwhere(np.ptp(pixels, axis=2) > 60).mean(0)  # the coloured ones: the head is grey
    ras = np.array(red.GetSliceNode().GetXYToRAS().MultiplyPoint((column, row, 0, 1)))[:3]
    k, j, i = (int(round(c)) for c in lesion.volume.ijk(ras)[::-1])
    assert lesion.volume.array[k, j, i] == 1


def test_results_are_nodes_and_errors_are_sentences(logic, slicer):
    from MedXAIPanel import scenarios

    from MedXAILib.errors import InputError

    volume = scenarios.ball()
    table, *rest = logic.predict(volume, "planted-lesion")
    assert table.IsA("vtkMRMLTableNode") and rest == []
    columns = [table.GetTable().GetColumnName(n) for n in range(table.GetTable().GetNumberOfColumns())]
    assert columns == ["class", "probability"]
    before = scenarios.nodeIDs()
    for call in (
        lambda: logic.explain(volume, "planted-lesion", "tumour"),
        lambda: logic.explain(volume, "planted-lesion", methods=("magic",)),
        lambda: logic.predict(volume, "/no/card.json"),
        lambda: logic.predict(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"), "planted-lesion"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert len(scenarios.nodeIDs() - before) == 1, "only the empty volume that this test made"


def test_a_volume_travels_once_with_its_uids(logic, slicer, monkeypatch):
    from MedXAIPanel import scenarios

    logic.predict(scenarios.ball("first"), "planted-lesion")  # whatever an earlier test left is forgotten here
    volume = scenarios.ball()
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    sent, request = [], logic.client._request
    monkeypatch.setattr(
        logic.client, "_request", lambda do, **fields: (sent.append((do, fields)), request(do, **fields))[1]
    )
    for target in ("lesion", "no lesion"):
        logic.explain(volume, "planted-lesion", target)
    slicer.util.arrayFromVolume(volume)[:] = 0
    slicer.util.arrayFromVolumeModified(volume)
    logic.predict(volume, "planted-lesion")
    slicer.mrmlScene.RemoveNode(volume)
    logic.predict(scenarios.ball("another"), "planted-lesion")
    assert [do for do, _ in sent][:6] == ["load", "explain", "explain", "forget", "load", "predict"]
    assert [do for do, _ in sent][6:] == ["forget", "load", "predict"], "a removed volume is forgotten"
    assert sent[0][1]["source"]["series"]["sop"] == ["1.2.3", "1.2.4"]


def test_maps_of_changed_voxels_bring_their_own_prediction(logic, slicer):
    from MedXAIPanel import results, scenarios

    volume = scenarios.ball()
    for tables in (1, 1, 2):
        if tables == 2:
            slicer.util.arrayFromVolume(volume)[:] = slicer.util.arrayFromVolume(volume)[::-1].copy() ** 2
            slicer.util.arrayFromVolumeModified(volume)
        logic.explain(volume, "planted-lesion", "lesion")
        assert len(results.predictionsOf(volume)) == tables


def batch(slicer):
    """The batch script as a module; it ends with slicer.util.exit only when run as a script."""
    path = ROOT / "MedXAI" / "Resources" / "Scripts" / "medxai_batch.py"
    spec = importlib.util.spec_from_file_location("medxai_batch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_batch_has_the_options_of_the_definition_and_its_own(logic, slicer):
    """Those of the job and of the methods but for what Slicer itself decides; and the words that it always took."""
    script = batch(slicer)
    words = "--input a b --model m --output o --method gradcam lime --layer x y --class c --slices 1:3 --samples 9 --weights w"
    found = script.arguments([*words.split(), "--trust", "--device", "cpu", "--scene", "--overwrite"])
    assert (found.input, found.methods, found.layers, found.samples) == (["a", "b"], ["gradcam", "lime"], ["x", "y"], 9)
    assert (found.slices, found.weights, found.device, list(found.classes)) == ("1:3", "w", "cpu", ["c"])
    assert found.trust and found.scene and found.overwrite
    from MedXAILib.app.job import EXPLAIN, specs
    from MedXAILib.attribution.registry import options

    names = {f.name for f in specs(EXPLAIN)} | {name for name, option in options().items() if not option.inputs}
    assert names - set(vars(found)) == set(script.NOT_HERE)


def test_the_batch_writes_a_folder_for_each_volume(logic, slicer, tmp_path, capsys):
    from MedXAIPanel import scenarios

    from MedXAILib.io.write import write_volume
    from MedXAILib.mrml.nodes import volume_of

    write_volume(volume_of(scenarios.ball()), tmp_path / "ball.nrrd")
    (tmp_path / "broken.nrrd").write_text("NRRD0004\n")
    words = ["--model", "planted-lesion", "--output", str(tmp_path / "out"), "--class", "lesion", "--input"]
    assert batch(slicer).main([*words, str(tmp_path / "ball.nrrd")]) == 0
    run = json.loads((tmp_path / "out" / "ball" / "run.json").read_text())
    assert {"snapshot.png", "regions.csv", "predictions.csv"} <= set(run["files"])
    with (tmp_path / "out" / "ball" / "predictions.csv").open(newline="") as file:
        assert sum(float(row["probability"]) for row in csv.DictReader(file)) == pytest.approx(1, abs=1e-4)
    assert batch(slicer).main([*words, str(tmp_path / "broken.nrrd"), str(tmp_path / "ball.nrrd"), "--overwrite"]) == 3
    assert "1 of 2 volumes done" in capsys.readouterr().out


def test_a_refusal_for_want_of_consent_keeps_its_kind(logic, slicer, monkeypatch, tmp_path):
    """From the library's error to the worker's event, and to who called."""
    from MedXAIPanel import scenarios

    from MedXAILib.app.worker import Worker
    from MedXAILib.errors import ConsentError

    events = []
    worker = Worker(tmp_path, events.append)
    monkeypatch.setattr(worker, "compute", lambda request: raises(ConsentError("net.pt", "a program", "allow it")))
    worker.handle({"id": 1, "do": "predict"})
    assert (events[0]["kind"], events[0]["message"]) == ("consent", "net.pt: a program; allow it.")
    monkeypatch.setattr(logic.client, "start", lambda job, volumes, done, progress: done(events[0]))
    with pytest.raises(ConsentError, match="^net.pt: a program; allow it.$"):
        logic.predict(scenarios.ball(), "planted-lesion")


def raises(error: Exception):
    raise error
