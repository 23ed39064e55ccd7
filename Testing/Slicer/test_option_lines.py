"""Fields for the options of methods, made of what the worker lists, and kept with the scene."""

from __future__ import annotations

import json

import numpy as np
import pytest

PLUGIN = """
from dataclasses import replace

from MedXAILib.attribution.gradient import METHODS
from MedXAILib.attribution.option import Option

SALIENCY = next(method for method in METHODS if method.name == "saliency")
PATIENCE = Option(name="my_patience", kind=int, least=1, default=5, help="How patient it is.")
METHOD = replace(SALIENCY, name="patient", title="Patient", options=(PATIENCE,))
"""


@pytest.fixture
def patient(panel, tmp_path, monkeypatch):
    """The panel, and a worker with a method of another package, which the panel's own Python has not."""
    folder = tmp_path / "site"
    (folder / "patient-1.0.dist-info").mkdir(parents=True)
    (folder / "patient_method.py").write_text(PLUGIN)
    (folder / "patient-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: patient\nVersion: 1.0\n")
    points = "[medxai.methods]\npatient = patient_method:METHOD\n"
    (folder / "patient-1.0.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    client = panel.logic.client
    own = client.methods
    client._kill()
    yield panel
    client._kill()
    client.methods = own


def test_a_choice_is_kept_and_reaches_the_map(panel, slicer):
    from MedXAIPanel import results, scenarios

    from MedXAILib.mrml.nodes import volume_of

    field, p, volume = panel.explain.options.fields["baseline"], panel.parameters, scenarios.ball()
    listed = {o["name"]: o for m in panel.logic.client.methods for o in m["options"]}
    assert [field.itemText(n) for n in range(field.count)] == listed["baseline"]["choices"]
    assert field.currentText == listed["baseline"]["default"] and field.toolTip == listed["baseline"]["help"]
    scenarios.chosen(panel, volume, model="planted-lesion", methods="ig", samples=4)
    field.setCurrentIndex(field.findData("zero"))
    field.activated.emit(field.currentIndex)
    assert json.loads(p.options) == {"baseline": "zero"}
    scenarios.run(panel, panel.ui.explainButton)
    (heat,) = results.mapsOf(volume)
    assert results.metadata(heat)["job"]["options"] == {"samples": 4, "baseline": "zero"}
    (same,) = panel.logic.explain(volume, "planted-lesion", methods=["ig"], samples=4, baseline="zero")
    (other,) = panel.logic.explain(volume, "planted-lesion", methods=["ig"], samples=4)
    assert np.array_equal(volume_of(heat).array, volume_of(same).array)
    assert not np.allclose(volume_of(heat).array, volume_of(other).array)

    p.options = json.dumps({"baseline": "mean", "of tomorrow": 1})
    assert field.currentText == "mean" and panel.explain.options.values() == {"samples": 4, "baseline": "mean"}
    field.setCurrentIndex(field.findData("minimum"))
    field.activated.emit(field.currentIndex)
    assert json.loads(p.options) == {}, "the default is not kept"


def test_a_method_of_the_workers_is_listed_with_a_line_for_its_option(patient, slicer):
    from MedXAIPanel import results, scenarios

    panel, volume = patient, scenarios.ball()
    assert "patient" not in panel.explain.known and "my_patience" not in panel.explain.options.fields
    scenarios.chosen(panel, volume, model="planted-lesion", methods="gradcam")
    scenarios.run(panel, panel.ui.predictButton)
    assert panel.explain.known["patient"]["title"] == "Patient"
    assert panel.parameters.methods == "gradcam", "the choice stays when the list is made anew"
    assert len(panel.explain.items()) == len(panel.explain.known)
    field = panel.explain.options.fields["my_patience"]
    assert field.placeholderText == "5" and field.toolTip == "How patient it is."

    panel.parameters.methods = "patient"
    field.text = "many"
    scenarios.run(panel, panel.ui.explainButton)
    said = "My patience many: give a whole number of at least 1."
    assert panel.ui.explainMessage.text == said and results.mapsOf(volume) == []
    for typed in ("0", "1.5"):
        field.text = typed
        scenarios.run(panel, panel.ui.explainButton)
        assert panel.ui.explainMessage.text == said.replace("many", typed)
    field.text = " 7 "
    assert field.text == " 7 ", "a blank can be typed"
    scenarios.run(panel, panel.ui.explainButton)
    (heat,) = results.mapsOf(volume)
    assert (
        results.metadata(heat)["job"]["options"] == {"my_patience": 7} and "Patient" in results.metadata(heat)["title"]
    )
    field.text = "  "
    assert panel.explain.options.values() == {}
    field.text = ""
    assert json.loads(panel.parameters.options) == {}


def test_a_scene_brings_its_options_and_may_name_a_method_that_there_is_not(panel, slicer, tmp_path):
    from MedXAIPanel import scenarios

    scenarios.chosen(panel, scenarios.ball(), model="planted-lesion", methods="ig of-tomorrow")
    panel.parameters.options = json.dumps({"baseline": "blurred"})
    assert panel.explain.chosen() == ("ig",)
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    field = panel.explain.options.fields["baseline"]
    assert field.currentText == "minimum"
    slicer.util.loadScene(str(path))
    assert field.currentText == "blurred" and panel.explain.chosen() == ("ig",)
    assert panel.explain.job().options == {"baseline": "blurred"}


def test_a_parameter_that_is_called_as_a_field_of_the_job_is_that_field(panel, monkeypatch):
    """A field of the panel costs its parameter and its widget."""
    from MedXAIPanel import scenarios

    scenarios.chosen(panel, scenarios.ball())
    p = panel.parameters
    p.seed, p.massFraction = 7, 0.25
    monkeypatch.setattr(type(p), "budget", 20, raising=False)
    monkeypatch.setattr(type(p), "weightsKey", "ema", raising=False)
    job = panel.explain.job()
    assert (job.seed, job.mass_fraction, job.budget, job.weights_key, job.device) == (7, 0.25, 20, "ema", p.device)
    assert job.anatomy is None and job.methods == panel.explain.chosen()
