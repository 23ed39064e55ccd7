"""``install()`` puts the modules ``qt``, ``ctk``, ``slicer.*`` and ``SampleData`` in place; then a scripted module runs as
in the application, offscreen. What this cannot show, the tests in the real application have to.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import slicer
import slicer.util

from . import application, mrmlwidgets, parameternodes, pythonqt, scripted, uiloader, widgets  # noqa: F401
from .application import exits  # noqa: F401
from .scripted import samples  # noqa: F401

boxes: list[tuple[str, str]] = []
"""The kind and text of every message box that would have opened."""
_open: list = []


def install():
    """The stand-in in place of the application, once; gives the module ``slicer``."""
    if getattr(slicer, "app", None) is None:
        qt, ctk = pythonqt.QT, ModuleType("ctk")
        qt.QUiLoader = uiloader.QUiLoader
        for kind in widgets.CUSTOM:
            setattr(ctk if kind.__name__.startswith("ctk") else slicer, kind.__name__, kind)
        sys.modules.update(qt=qt, ctk=ctk, SampleData=scripted.SAMPLE_DATA)
        for module in (scripted.MODULE, scripted.I18N, parameternodes.MODULE):
            sys.modules[module.__name__] = module
            setattr(slicer, module.__name__.partition(".")[2], module)
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        slicer.app = application.qSlicerApplication()
        slicer.util._messageDisplay = note_box
        for ask in ("getOpenFileName", "getSaveFileName", "getExistingDirectory"):
            setattr(qt.QFileDialog, ask, staticmethod(lambda *_: ""))  # nobody is there: cancelled
        slicer.util.delayDisplay = lambda text, *_, **__: boxes.append(("delay", text))
        new_scene()
    return slicer


def note_box(level, text, answer=None, **_):
    """Under testing the application opens no box either, and gives this answer."""
    import logging

    boxes.append((logging.getLevelName(level).lower(), text))
    return answer


def new_scene():
    """A fresh scene and no settings; modules that are still open are closed first."""
    while _open:
        close(_open.pop())
    for record in (boxes, exits, samples):
        record.clear()
    for path in Path(slicer.app.cachePath).glob("*.nrrd"):
        path.unlink()
    slicer.app.userSettings().clear()
    application.new_scene()
    return slicer.mrmlScene


def close(module) -> None:
    module.widget.cleanup()
    module.widget.parent.close()
    module.widget.parent.deleteLater()
    slicer.app.sendPostedEvents(None, 52)  # deferred deletion


def load_module(path):
    """Import a scripted module and set its widget up as the application does.

    :return: ``code`` (the Python module), ``module``, ``widget``.
    """
    path = Path(path).resolve()
    pythonqt.watch(path.parent)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    code = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    said = scripted.qSlicerScriptedLoadableModule()
    said.name, said.path = path.stem, str(path)
    setattr(slicer.modules, path.stem.lower(), said)
    module = getattr(code, path.stem)(said)
    parent = scripted.qSlicerScriptedLoadableModuleWidget()
    widget = parent._self = getattr(code, path.stem + "Widget")(parent)
    said._representation = parent
    widget.setup()
    parent.setMRMLScene(slicer.mrmlScene)
    parent.show()
    widget.enter()
    slicer.app.processEvents()
    _open.append(SimpleNamespace(code=code, module=module, widget=widget))
    return _open[-1]


def grab(widget, path, width: int = 400):
    """Write a picture of the widget, so wide and as high as it needs to be."""
    widget.setMinimumWidth(0)
    widget.resize(width, 100)
    slicer.app.processEvents()
    height = max(widget.heightForWidth(width), widget.sizeHint().height(), widget.minimumSizeHint().height())
    widget.resize(width, height)
    slicer.app.processEvents()
    widget.grab().save(str(path))
    return Path(path)
