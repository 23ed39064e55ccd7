"""The README's pictures of the panel, taken in 3D Slicer while the tutorials are clicked through.

Slicer --no-splash --additional-module-paths MedXAI --python-script Docs/take_pictures.py

MEDXAI_TEST_DATA is the folder of real data, by default ../shared/data beside the project; without it, its picture is left as it is.
"""

import os
import time
import traceback
from pathlib import Path

import qt
import slicer

DOCS = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MEDXAI_TEST_DATA", DOCS.parents[1] / "shared" / "data"))
TUMOR = (-46, -16, 26)
"""A point in the slice where the glioma is largest, RAS mm."""
BRAIN, TUMOR_MODEL = DATA / "volumes" / "pyradiomics_brain1_image.nrrd", "brain-tumor-slices"


def settle() -> None:
    for _ in range(10):
        slicer.app.processEvents()
        time.sleep(0.05)
    slicer.util.forceRenderAllViews()
    slicer.app.processEvents()


def window(name: str) -> None:
    settle()
    slicer.util.mainWindow().grab().save(str(DOCS / name))


def press(panel, button) -> None:
    assert button.enabled, button.toolTip
    button.click()
    panel.logic.client.wait()


def opened():
    """The panel, in a window of the pictures' size."""
    main = slicer.util.mainWindow()
    main.resize(1500, 1000)
    slicer.util.selectModule("MedXAI")
    settle()
    dock = main.findChild(qt.QDockWidget, "PanelDockWidget")
    main.resizeDocks([dock], [430], qt.Qt.Horizontal) if dock else None
    return slicer.modules.medxai.widgetRepresentation().self()


def tutorial() -> None:
    from MedXAIPanel import sample

    panel = opened()
    panel.input.update()
    panel.ui.inputVolume.setCurrentNode(sample.load(lambda text: True))
    press(panel, panel.ui.predictButton)
    panel.parameters.methods, panel.parameters.samples = "gradcam lime", 400
    press(panel, panel.ui.explainButton)
    panel.ui.regions.setCurrentCell(0, 0)
    panel.display.onRegion(0, 0)
    panel.ui.rendering.checked = True
    window("slicer.png")
    panel.ui.rendering.checked = False
    panel.ui.sideBySide.checked = True
    window("side_by_side.png")
    panel.ui.sideBySide.checked = False
    settle()
    body = panel.ui.MedXAI if hasattr(panel.ui, "MedXAI") else panel.ui.inputSection.parent()
    body.resize(400, body.sizeHint.height())
    body.grab().save(str(DOCS / "panel.png"))


def lacking() -> str:
    """What the tutorial of the tumour needs and does not find; empty where it is all there."""
    from MedXAILib.models.source import summarise
    from MedXAILib.models.sources.zoo import zoo_cards

    if not BRAIN.is_file():
        return f"there is no {BRAIN} (set MEDXAI_TEST_DATA)"
    if TUMOR_MODEL not in zoo_cards():
        return f"the zoo has no {TUMOR_MODEL}"
    card = summarise(TUMOR_MODEL)
    return "" if card.weights else f"{card.weights_name} is not beside its card"


def tumor() -> None:
    """A real glioma: the slice where it is largest, by the methods that the model's card suggests."""
    from MedXAIPanel import results

    why = lacking()
    if why:
        print(f"tumor.png is not taken: {why}.")
        return
    slicer.mrmlScene.Clear(0)
    panel = opened()
    volume = slicer.util.loadVolume(str(BRAIN))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    panel.ui.inputVolume.setCurrentNode(volume)
    panel.input.choose(TUMOR_MODEL)
    press(panel, panel.ui.predictButton)
    assert panel.ui.probabilities.rowCount, panel.ui.predictMessage.text
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *TUMOR)
    panel.parameters.slices = "shown"
    press(panel, panel.ui.explainButton)
    maps = results.mapsOf(volume)
    assert maps, panel.ui.explainMessage.text
    if panel.ui.regions.rowCount:
        panel.ui.regions.setCurrentCell(0, 0)
        panel.display.onRegion(0, 0)
    panel.ui.sideBySide.checked = len(maps) > 1  # an axial slice is a thin line in the other views
    window("tumor.png")
    panel.ui.sideBySide.checked = False


code = 1
try:
    tutorial()
    tumor()
    code = 0
except BaseException:
    traceback.print_exc()
slicer.util.exit(code)
