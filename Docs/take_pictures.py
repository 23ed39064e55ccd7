"""The README's pictures of the panel, taken in 3D Slicer while the tutorial is clicked through.

Slicer --no-splash --additional-module-paths MedXAI --python-script Docs/take_pictures.py
"""

import time
import traceback
from pathlib import Path

import qt
import slicer

DOCS = Path(__file__).resolve().parent


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


def tutorial() -> None:
    from MedXAIPanel import sample

    main = slicer.util.mainWindow()
    main.resize(1500, 1000)
    slicer.util.selectModule("MedXAI")
    panel = slicer.modules.medxai.widgetRepresentation().self()
    panel.input.update()
    panel.ui.inputVolume.setCurrentNode(sample.load(lambda text: True))
    dock = main.findChild(qt.QDockWidget, "PanelDockWidget")
    main.resizeDocks([dock], [430], qt.Qt.Horizontal) if dock else None
    press(panel, panel.ui.predictButton)
    panel.parameters.methods, panel.parameters.samples = "gradcam lime", 400
    press(panel, panel.ui.explainButton)
    panel.ui.regions.setCurrentCell(0, 0)
    panel.look.onRegion(0, 0)
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


code = 1
try:
    tutorial()
    code = 0
except BaseException:
    traceback.print_exc()
slicer.util.exit(code)
