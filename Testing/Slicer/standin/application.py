"""``slicer.app`` and what hangs on it: scene, layout, modules, files, on slicer-core's real logics."""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from MedXAILib.outputs.scene import private_scene

from . import pythonqt  # noqa: F401  (its attributes are used here)
from .mrmlwidgets import qMRMLAbstractViewWidget, qMRMLWidget
from .widgets import widget

exits: list[int] = []
"""The exit codes that were asked for."""


@widget
class ctkVTKAbstractView(QtWidgets.QWidget):
    """A view without pixels: rendering is counted."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._rendered = 0

    def forceRender(self):
        self._rendered += 1

    def scheduleRender(self):
        self._rendered += 1


@widget
class qMRMLSliceView(ctkVTKAbstractView):
    pass


@widget
class ctkVTKRenderView(ctkVTKAbstractView):
    def resetFocalPoint(self):
        pass


@widget
class qMRMLThreeDView(ctkVTKRenderView):
    def mrmlViewNode(self):
        return slicer.mrmlScene.GetNthNodeByClass(0, "vtkMRMLViewNode")


@widget
class qMRMLSliceControllerWidget(qMRMLWidget):
    def __init__(self, logic):
        super().__init__()
        self._logic = logic

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def setSliceLink(self, on):
        self._logic.GetSliceCompositeNode().SetLinkedControl(on)

    def fitSliceToBackground(self):
        self._logic.FitSliceToBackground()

    def setSliceVisible(self, on):
        self.mrmlSliceNode().SetSliceVisible(on)

    def setSliceOffsetValue(self, offset):
        self._logic.SetSliceOffset(offset)


@widget
class qMRMLSliceWidget(qMRMLAbstractViewWidget):
    def __init__(self, logic):
        super().__init__()
        self._logic, self._view, self._controller = logic, qMRMLSliceView(self), qMRMLSliceControllerWidget(logic)

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def sliceView(self):
        return self._view

    def sliceController(self):
        return self._controller

    def fitSliceToBackground(self):
        self._logic.FitSliceToBackground()


@widget
class qMRMLThreeDWidget(qMRMLAbstractViewWidget):
    def __init__(self):
        super().__init__()
        self._view = qMRMLThreeDView(self)

    def threeDView(self):
        return self._view

    def mrmlViewNode(self):
        return self._view.mrmlViewNode()


@widget
class qSlicerLayoutManager(QtCore.QObject):
    """Slice views for every slice node that the layouts bring into the scene."""

    layoutChanged = Signal(int)
    threeDViewCount = 1
    plotViewCount = tableViewCount = 0

    def __init__(self):
        super().__init__()
        self._widgets, self._threeD, self._making = {}, qMRMLThreeDWidget(), False

    def _take(self, scene, application):
        """Serve this scene."""
        self._widgets.clear()
        self._scene, self._application = scene, application
        logics = application.GetSliceLogics()
        for i in range(logics.GetNumberOfItems()):
            self._add(logics.GetItemAsObject(i))
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(application)
        self._logic.SetMRMLScene(scene)
        scene.AddObserver(scene.NodeAddedEvent, lambda *_: self._make())
        scene.AddObserver(scene.EndBatchProcessEvent, lambda *_: self._make())
        self._make()

    def _add(self, logic):
        self._widgets[logic.GetSliceNode().GetLayoutName()] = qMRMLSliceWidget(logic)

    def _make(self):
        """A logic for every slice node that has none yet; making it adds nodes too."""
        if self._making or self._scene.IsBatchProcessing():
            return
        self._making = True
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            if node.GetLayoutName() not in self._widgets:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self._application)
                logic.SetMRMLScene(self._scene)
                logic.SetSliceNode(node)
                self._application.GetSliceLogics().AddItem(logic)
                self._add(logic)
        self._making = False

    def sliceViewNames(self):
        return list(self._widgets)

    def sliceWidget(self, name):
        return self._widgets.get(name)

    def mrmlSliceLogics(self):
        return self._application.GetSliceLogics()

    def threeDWidget(self, index):
        return self._threeD if index == 0 else None

    def layoutLogic(self):
        return self._logic

    @property
    def layout(self):
        return self._logic.GetLayoutNode().GetViewArrangement()

    @layout.setter
    def layout(self, layout):
        self.setLayout(layout)

    def setLayout(self, layout):
        self._logic.GetLayoutNode().SetViewArrangement(layout)
        self._make()
        self.layoutChanged.emit(layout)

    def resetSliceViews(self):
        for view in self._widgets.values():
            view.fitSliceToBackground()

    def resetThreeDViews(self):
        pass

    def pauseRender(self):
        pass

    def resumeRender(self):
        pass


@widget
class qSlicerCoreIOManager(QtCore.QObject):
    """Loads and saves what ``slicer.util`` asks for, through the real logics and storage nodes."""

    def fileType(self, path):
        name = str(path).lower()
        if name.endswith((".mrb", ".mrml")):
            return "SceneFile"
        return "SegmentationFile" if name.endswith((".seg.nrrd", ".seg.nhdr")) else "VolumeFile"

    def fileWriterFileType(self, node):
        return node.GetClassName()

    def loadNodes(self, kind, properties, nodes=None, messages=None):
        path = Path(properties["fileName"])
        name = properties.get("name", path.name.split(".")[0])
        if kind == "SceneFile":
            if properties.get("clear"):
                slicer.mrmlScene.Clear()
            node = self._read_scene(path)
        elif kind == "SegmentationFile":
            node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(str(path), True, name)
        else:
            options = 1 if properties.get("labelmap") else 0
            node = slicer.modules.volumes.logic().AddArchetypeVolume(str(path), name, options)
            if node and properties.get("show", True) and not options:
                slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(node.GetID())
                slicer.app.applicationLogic().PropagateVolumeSelection()
        if node and nodes is not None:
            nodes.AddItem(node)
        return node is not None

    def _read_scene(self, path):
        """The scene's first node, as the application gives it; slicer-core reads no .mrb itself."""
        scene = slicer.mrmlScene
        folder = path.parent
        if path.suffix == ".mrb":
            folder = Path(tempfile.mkdtemp(dir=slicer.app.temporaryPath))
            with zipfile.ZipFile(path) as bundle:
                bundle.extractall(folder)
            path = next(folder.rglob("*.mrml"))
        scene.SetURL(str(path))
        scene.SetRootDirectory(str(path.parent))
        return scene.GetNthNode(0) if scene.Import() else None

    def saveNodes(self, kind, properties, messages=None):
        path = str(properties["fileName"])
        if kind != "SceneFile":
            node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
            node.AddDefaultStorageNode(path)
            return bool(node.GetStorageNode().WriteData(node))
        scene = slicer.mrmlScene
        scene.SetURL(str(Path(path).with_suffix(".mrml")))
        scene.SetRootDirectory(str(Path(path).parent))
        return bool(scene.WriteToMRB(path) if path.endswith(".mrb") else scene.Commit(path))


@widget
class qSlicerModuleManager(QtCore.QObject):
    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def module(self, name):
        return getattr(slicer.modules, name.lower(), None)

    def modulesNames(self):
        return [module.name for module in vars(slicer.modules).values() if hasattr(module, "name")]


class qSlicerApplication(QtWidgets.QApplication):
    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)
    mainApplicationName = "Slicer"
    majorVersion, minorVersion = 5, 12
    os = "linux"
    slicerHome = sys.prefix

    def __init__(self):
        super().__init__(["standin"])
        self.setStyle("Fusion")
        self.setQuitOnLastWindowClosed(False)
        self._folder = tempfile.TemporaryDirectory(prefix="medxai-standin-")
        self.temporaryPath = self._folder.name
        self.setOrganizationName("standin")
        self.setApplicationName("Slicer")
        self.setApplicationVersion("5.12.0")
        ini, user = QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope
        QtCore.QSettings.setDefaultFormat(ini)
        QtCore.QSettings.setPath(ini, user, self.temporaryPath)  # so that no test reads or writes the user's settings
        self._settings = QtCore.QSettings()
        self._layout, self._io, self._modules = qSlicerLayoutManager(), qSlicerCoreIOManager(), qSlicerModuleManager()
        self._options = SimpleNamespace(testingEnabled=True, noMainWindow=True, runPythonAndExit=False)

    def _take(self, host):
        self._host = host
        self._layout._take(host.scene, host.application)
        self.mrmlSceneChanged.emit(host.scene)

    def mrmlScene(self):
        return slicer.mrmlScene

    def applicationLogic(self):
        return self._host.application

    def layoutManager(self):
        return self._layout

    def coreIOManager(self):
        return self._io

    ioManager = coreIOManager

    def moduleManager(self):
        return self._modules

    def settings(self):
        return self._settings

    userSettings = revisionUserSettings = settings

    def testingEnabled(self):
        return self._options.testingEnabled

    def commandOptions(self):
        return self._options

    def startupEnvironment(self):
        environment = QtCore.QProcessEnvironment()
        for name, value in os.environ.items():
            environment.insert(name, value)
        return environment

    def pauseRender(self):
        pass

    def resumeRender(self):
        pass

    def exit(self, status=0):
        exits.append(status)


def module(name: str, logic):
    return SimpleNamespace(name=name, title=name, path=f"{name}.so", logic=lambda: logic)


def scene() -> None:
    """A new scene with its logics as that of the application."""
    host = private_scene()
    slicer.mrmlScene = host.scene
    logics = []
    for name, make in (("Markups", slicer.vtkSlicerMarkupsLogic), ("Plots", slicer.vtkSlicerPlotsLogic)):
        logic = make()
        logic.SetMRMLApplicationLogic(host.application)
        logic.SetMRMLScene(host.scene)
        host.application.SetModuleLogic(name, logic)
        logics.append(logic)
    slicer.app._logics = logics  # they live as long as the scene
    slicer.modules = SimpleNamespace()
    for name in [
        "Colors",
        "Volumes",
        "Segmentations",
        "SubjectHierarchy",
        "Texts",
        "VolumeRendering",
        "Markups",
        "Plots",
    ]:
        setattr(slicer.modules, name.lower(), module(name, host.application.GetModuleLogic(name)))
    slicer.app._take(host)
