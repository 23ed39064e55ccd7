"""``slicer.ScriptedLoadableModule``, ``slicer.i18n`` and ``SampleData``."""

from __future__ import annotations

import unittest
from pathlib import Path
from types import ModuleType

import slicer
from PySide6 import QtCore, QtWidgets

from .mrmlwidgets import qMRMLWidget, qSlicerWidget
from .widgets import stored, widget

samples: list[dict] = []
"""What was registered as sample data."""


@widget
class qSlicerScriptedLoadableModule(QtCore.QObject):
    """The parent of a module object: holds what it says about itself."""

    title = stored("QString", "title", "")
    categories = stored("QStringList", "categories", [])
    contributors = stored("QStringList", "contributors", [])
    dependencies = stored("QStringList", "dependencies", [])
    helpText = stored("QString", "helpText", "")
    acknowledgementText = stored("QString", "acknowledgementText", "")
    icon = stored("QIcon", "icon", None)
    path = stored("QString", "path", "")

    def widgetRepresentation(self):
        return self._representation


@widget
class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The parent of a module's widget."""

    def __init__(self):
        super().__init__()
        QtWidgets.QVBoxLayout(self)

    def self(self):
        return self._self


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies = self.moduleName, [], []


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.logic = None
        if parent is None:
            parent = qMRMLWidget()
            QtWidgets.QVBoxLayout(parent)
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name):
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def setup(self):
        pass

    def cleanup(self):
        pass

    def enter(self):
        pass

    def exit(self):
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """The module's own node, made when there is none."""
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node.SetName(self.moduleName)
            node = scene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def __init__(self, *arguments):
        super().__init__(*arguments or ["runTest"])

    def runTest(self):
        pass

    def delayDisplay(self, message, msec=None):
        slicer.util.delayDisplay(message, msec or 0)


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataSource(category="Custom", **source):
        samples.append({"category": category, **source})


MODULE = ModuleType("slicer.ScriptedLoadableModule")
for _each in (
    ScriptedLoadableModule,
    ScriptedLoadableModuleWidget,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
):
    setattr(MODULE, _each.__name__, _each)
MODULE.__all__ = [name for name in vars(MODULE) if name.startswith("Scripted")]

I18N = ModuleType("slicer.i18n")
I18N.tr = lambda text, context="": text
I18N.translate = lambda context, text: text

SAMPLE_DATA = ModuleType("SampleData")
SAMPLE_DATA.SampleDataLogic = SampleDataLogic
