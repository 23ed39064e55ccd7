"""The application's stand-in for tests of the panel, offscreen."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 60
os.environ["QT_QPA_PLATFORM"] = "offscreen"

try:
    from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets  # noqa: F401
except ImportError as error:  # names the missing package or system library
    MISSING = str(error)
else:
    MISSING = ""


@pytest.fixture
def slicer(monkeypatch):
    """The module ``slicer`` with the stand-in's application and a fresh scene."""
    if MISSING:
        pytest.skip(f"Qt cannot be loaded: {MISSING}")
    import standin

    module, swallowed = standin.install(), []
    # Qt prints what a slot raises and goes on, as the application does; a test must not
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, _: swallowed.append(f"{kind.__name__}: {error}"))
    standin.new_scene()
    yield module
    standin.new_scene()
    for name in ("last_type", "last_value", "last_traceback"):
        vars(sys).pop(name, None)  # it would keep widgets alive beyond their time
    assert not swallowed


@pytest.fixture(scope="session")
def warm_client():
    """A panel's client whose worker outlives the panel: starting one takes longer than most of what the tests ask of it. One
    that was killed is followed by a new one."""
    import standin

    standin.install()
    standin.pythonqt.watch(ROOT / "MedXAI")
    sys.path.append(str(ROOT / "MedXAI"))
    from MedXAIPanel.client import Client

    class Warm(Client):
        def stop(self):
            if self.busy:
                super().stop()

    client = Warm()
    yield client
    Client.stop(client)


@pytest.fixture
def module(slicer, warm_client, data_folder, monkeypatch, tmp_path):
    """The module, opened as the application opens it."""
    import standin
    from MedXAIPanel import client

    monkeypatch.setenv("MEDXAI_MODEL_PATH", str(data_folder / "models"))
    monkeypatch.setenv("MEDXAI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(client, "Client", lambda: warm_client)
    warm_client.log.clear()
    return standin.load_module(ROOT / "MedXAI" / "MedXAI.py")


@pytest.fixture
def panel(module):
    return module.widget


@pytest.fixture(scope="session")
def computed(tmp_path_factory):
    """A run over the ball of the panel's tests, as the worker's event, and its files."""
    pytest.importorskip("slicer")
    from MedXAILib.app.job import Job
    from MedXAILib.app.worker import Worker
    from MedXAILib.geometry.labels import Label, Labels
    from MedXAILib.geometry.volume import Volume
    from MedXAILib.io.segmentation import read_labels
    from MedXAILib.io.write import write_labels, write_volume

    folder = tmp_path_factory.mktemp("worker")
    volume = ball()
    write_volume(volume, folder / "ball.nrrd")
    i = np.indices(volume.array.shape)[2]
    write_labels(
        Labels(volume.with_array(1 + (i > 20).astype(np.uint8)), (Label(1, "left half"), Label(2, "right half"))),
        folder / "anatomy.nrrd",
    )
    anatomy = read_labels(folder / "anatomy.nrrd")
    job = Job(
        task="explain", inputs={"": "ball"}, model="planted-lesion", classes=("lesion",), methods=("gradcam", "lime"),
        options={"samples": SAMPLES},
    )  # fmt: skip
    worker = Worker(folder, lambda event: None)
    worker.volumes["ball"] = Volume(volume.array, volume.affine)
    event = worker.compute({"id": 1, "job": asdict(job)})
    event = json.loads(json.dumps({"event": "result", "id": 1, **event}))
    return SimpleNamespace(folder=folder, event=event, volume=volume, job=job, anatomy=anatomy)


def ball():
    """48 voxels of 3 mm, oblique, a dark blob in it."""
    from MedXAILib.geometry.volume import Source, Volume

    grid = np.indices((48,) * 3) - 23.5
    array = np.where((grid**2).sum(0) < 400, 100 + 10 * np.random.default_rng(0).random((48,) * 3), 0)
    array[((grid - 6) ** 2).sum(0) < 9] = 30
    turn = np.eye(4)
    turn[:2, :2] = [[0.99, -0.141067], [0.141067, 0.99]]
    affine = turn @ np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [-70, -60, -50]
    return Volume(array.astype(np.float32), affine, Source("ball"))


@pytest.fixture
def explained(panel, computed, slicer):
    """The run's nodes in the scene, its volume chosen and moved by a transform; nothing of it is shown yet."""
    import vtk
    from MedXAIPanel import results

    from MedXAILib.mrml import nodes
    from MedXAILib.mrml.host import VIEWS

    for view, plane in VIEWS.items():
        slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode().SetOrientation(plane)
    volume = nodes.add_volume(slicer.mrmlScene, computed.volume, "ball")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 25.0)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    files = computed.folder / computed.event["folder"]
    results.addPrediction(volume, computed.event, files)
    maps = results.addMaps(volume, computed.event, files)
    panel.parameters.inputVolume = volume
    panel.update()
    return SimpleNamespace(panel=panel, ui=panel.ui, p=panel.parameters, volume=volume, maps=maps)
