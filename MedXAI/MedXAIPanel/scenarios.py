"""What a user does with the panel, as tests: MedXAITest runs them in the application, pytest on a stand-in without it.

Each body takes the panel (MedXAIWidget), an empty scene around it, and touches only what a user could.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import qt
import slicer
import vtk

from MedXAILib.geometry.volume import Source, Volume
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import add_volume

from . import results

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget


def ball(name: str = "ball", voxels: int = 48) -> Node:
    """A head-like ball with a dark blob, oblique, as a volume node."""
    grid = np.indices((voxels,) * 3) - (voxels - 1) / 2
    texture = 100 + 10 * np.random.default_rng(0).random((voxels,) * 3)
    array = np.where((grid**2).sum(0) < (0.42 * voxels) ** 2, texture, 0)
    array[((grid - voxels / 8) ** 2).sum(0) < 9] = 30
    turn = np.eye(4)
    turn[:2, :2] = [[0.99, -0.141067], [0.141067, 0.99]]
    affine = turn @ np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [-70, -60, -50]
    return add_volume(slicer.mrmlScene, Volume(array.astype(np.float32), affine, Source(name)), name)


def press(button: Any) -> None:
    """Press a button that can be pressed."""
    assert button.enabled, button.toolTip
    button.click()


def run(panel: MedXAIWidget, button: Any) -> None:
    """Press a button and wait for the run's end."""
    press(button)
    panel.logic.client.wait()


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Let the application work until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        slicer.app.processEvents()
        time.sleep(0.01)


def nodeIDs() -> set[str]:
    """IDs of everything in the scene."""
    scene = slicer.mrmlScene
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


def chosen(panel: MedXAIWidget, volume: Node, **values: Any) -> None:
    """Choose a volume by the selector, and set parameters."""
    panel.ui.inputVolume.setCurrentNode(volume)
    assert panel.parameters.inputVolume is volume
    for name, value in values.items():
        setattr(panel.parameters, name, value)
    panel.update()


def buttonsSayWhyTheyAreDisabled(panel: MedXAIWidget) -> None:
    """A button that cannot be pressed tells the reason."""
    predict, explain = panel.ui.predictButton, panel.ui.explainButton
    panel.parameters.inputVolume = None
    assert not predict.enabled and "volume" in predict.toolTip
    assert not explain.enabled and "volume" in explain.toolTip
    chosen(panel, ball())
    assert predict.enabled and explain.enabled
    panel.parameters.methods = ""
    assert predict.enabled and not explain.enabled and "method" in explain.toolTip
    panel.parameters.methods = "gradcam"
    panel.parameters.model = "/no/such/card.json"
    assert not predict.enabled and "no such model card" in predict.toolTip
    panel.parameters.model = "planted-lesion"
    assert predict.enabled and explain.enabled


def parametersAndWidgetsAgree(panel: MedXAIWidget) -> None:
    """What is changed in a widget changes the parameter, and the other way round."""
    p, ui = panel.parameters, panel.ui
    volumes = ball("one"), ball("two")
    for volume in volumes:
        ui.inputVolume.setCurrentNode(volume)
        assert p.inputVolume is volume
        p.inputVolume = volumes[0]
        assert ui.inputVolume.currentNode() is volumes[0]
    ui.samples.value = 321
    ui.layers.text = "features"
    ui.opacity.value = 0.25
    ui.legend.checked = not ui.legend.checked
    assert (p.samples, p.layers, p.opacity, p.legend) == (321, "features", 0.25, ui.legend.checked)
    p.samples, p.layers, p.opacity, p.slices = 0, "", 0.75, "all"
    assert (ui.samples.value, ui.layers.text, ui.opacity.value, ui.slices.currentText) == (0, "", 0.75, "all")
    items = {item.data(qt.Qt.UserRole): item for item in panel.explain.items()}
    item = items["lime"]
    item.setCheckState(qt.Qt.Checked)
    assert p.methods.split() == ["gradcam", "lime"]
    p.methods = "lime"
    assert items["gradcam"].checkState() == qt.Qt.Unchecked and item.checkState() == qt.Qt.Checked
    p.methods = "gradcam"


def predictExplainDisplay(panel: MedXAIWidget) -> None:
    """From a volume to its maps over it, and the views put back."""
    volume = ball()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 25.0)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    chosen(panel, volume, model="planted-lesion", methods="gradcam lime", samples=60)
    run(panel, panel.ui.predictButton)
    table = panel.ui.probabilities
    assert table.rowCount == 2 and panel.ui.predictMessage.text.startswith("Done")
    assert panel.ui.caveats.visible and "unlike what the model was trained on" in panel.ui.caveats.text, "no head"
    shares = [float(table.cellWidget(row, 1).format) for row in range(2)]
    assert abs(sum(shares) - 1) < 0.002 and shares[0] >= shares[1]
    assert panel.ui.target.itemText(0).endswith(table.item(0, 0).text()), "the prediction is the preset target"

    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    composite.SetBackgroundVolumeID(volume.GetID())
    before = composite.GetForegroundVolumeID()
    run(panel, panel.ui.explainButton)
    maps = results.mapsOf(volume)
    assert [results.metadata(node)["method"] for node in maps] == ["gradcam", "lime"], panel.ui.explainMessage.text
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in maps}
    assert len(folders) == 1 and hierarchy.GetItemName(folders.pop()) == results.FOLDER
    for node in maps:
        assert node.GetName().startswith("ball ") and node.GetParentTransformNode() is transform
        assert results.metadata(node)["caveats"], "every map says what limits belief in it"
    assert composite.GetForegroundVolumeID() in [node.GetID() for node in maps], "the map is over the volume"
    assert panel.ui.maps.rowCount == 2
    assert len(results.predictionsOf(volume)) == 1, "the prediction at hand is not made twice"
    press(panel.ui.putBack)
    assert composite.GetForegroundVolumeID() == before and composite.GetBackgroundVolumeID() == volume.GetID()


def cancelInTheMiddle(panel: MedXAIWidget) -> None:
    """A cancelled run ends soon and leaves nothing."""
    chosen(panel, ball(), model="planted-lesion", methods="lime", samples=10_000)
    before, button = nodeIDs(), panel.ui.explainButton
    press(button)
    assert button.text == "Cancel" and not panel.ui.predictButton.enabled and panel.ui.predictButton.toolTip
    until(lambda: "left" in panel.ui.explainMessage.text, 300, "progress with the time left")
    folder = panel.logic.client.folder
    began = time.monotonic()
    press(button)
    until(lambda: not panel.logic.client.busy, 120, "the panel is free again")
    assert time.monotonic() - began < 5
    assert nodeIDs() == before and button.text == "Explain" and "Cancelled" in panel.ui.explainMessage.text
    assert not folder.exists() or not any(folder.iterdir()), "no file is left"
    panel.parameters.samples = 0


def killedInTheMiddle(panel: MedXAIWidget) -> None:
    """A worker that is killed costs its run, and no other."""
    chosen(panel, ball(), model="planted-lesion", methods="lime", samples=10_000)
    run(panel, panel.ui.predictButton)
    before = nodeIDs()
    press(panel.ui.explainButton)
    until(lambda: "left" in panel.ui.explainMessage.text, 300, "progress")
    os.kill(panel.logic.client.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    until(lambda: not panel.logic.client.busy, 120, "the death was noticed")
    assert "ended unexpectedly" in panel.ui.explainMessage.text and nodeIDs() == before
    panel.parameters.samples, panel.parameters.methods = 0, "gradcam"
    run(panel, panel.ui.explainButton)
    assert len(results.mapsOf(panel.parameters.inputVolume)) == 1, "the next run works"


def sceneSavedAndLoaded(panel: MedXAIWidget) -> None:
    """A scene brings choices and results back."""
    chosen(
        panel, ball(), model="planted-lesion", methods="gradcam", seed=7, massFraction=0.25, opacity=0.3, legend=False
    )
    run(panel, panel.ui.explainButton)
    found = results.metadata(results.mapsOf(panel.parameters.inputVolume)[0])
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "scene.mrb")
        assert slicer.util.saveScene(path)
        slicer.mrmlScene.Clear(0)
        assert panel.parameters.inputVolume is None and panel.parameters.seed == 0
        slicer.util.loadScene(path)
    p = panel.parameters
    assert p.inputVolume.GetName() == "ball"
    assert (p.seed, p.massFraction, p.opacity, p.legend, p.methods) == (7, 0.25, 0.3, False, "gradcam")
    (again,) = results.mapsOf(p.inputVolume)
    assert results.metadata(again) == found and panel.ui.maps.rowCount == 1
    assert panel.ui.probabilities.rowCount == 2, "the prediction is shown again"
    assert again.GetNodeReference(results.REGIONS) is not None


ALL = {
    body.__name__: body
    for body in (
        buttonsSayWhyTheyAreDisabled,
        parametersAndWidgetsAgree,
        predictExplainDisplay,
        cancelInTheMiddle,
        killedInTheMiddle,
        sceneSavedAndLoaded,
    )
}
WITHOUT_WORKER = (buttonsSayWhyTheyAreDisabled, parametersAndWidgetsAgree)
"""They need no package beyond what Slicer brings."""
