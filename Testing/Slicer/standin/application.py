"""``slicer.app`` and what hangs on it: scene, layout, modules, files, on slicer-core's real logics."""

from __future__ import annotations

import atexit
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal, Slot

from MedXAILib.mrml.host import private_scene

from . import pythonqt  # noqa: F401  (its attributes are used here)
from .mrmlwidgets import qMRMLAbstractViewWidget
from .widgets import widget

exits: list[int] = []
"""The exit codes that were asked for."""


@widget
class ctkVTKAbstractView(QtWidgets.QWidget):
    """A view that renders nothing."""

    def forceRender(self):
        pass


@widget
class qMRMLSliceView(ctkVTKAbstractView):
    pass


@widget
class qMRMLThreeDView(ctkVTKAbstractView):
    pass


@widget
class qMRMLSliceWidget(qMRMLAbstractViewWidget):
    def __init__(self, logic):
        super().__init__()
        self._logic, self._view = logic, qMRMLSliceView(self)

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def sliceView(self):
        return self._view

    @Slot()
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
        return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLViewNode")


@widget
class qSlicerLayoutManager(QtCore.QObject):
    """A slice view for every slice node that a layout brings into the scene."""

    threeDViewCount = 1
    plotViewCount = tableViewCount = 0

    def __init__(self):
        super().__init__()
        self._widgets, self._threeD, self._making = {}, qMRMLThreeDWidget(), False

    def _take(self, host):
        """Serve this scene."""
        self._widgets.clear()
        self._scene, self._application = host.scene, host.application
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(self._application)
        self._logic.SetMRMLScene(self._scene)
        for event in (self._scene.NodeAddedEvent, self._scene.EndBatchProcessEvent):
            self._scene.AddObserver(event, lambda *_: self._make())
        self._make()

    def _make(self):
        """A widget, and where it lacks one a logic, for every slice node; making it adds nodes too."""
        if self._making or self._scene.IsBatchProcessing():
            return
        self._making = True
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            name = node.GetLayoutName()
            if name not in self._widgets:
                logic = self._application.GetSliceLogicByLayoutName(name)
                self._widgets[name] = qMRMLSliceWidget(logic or self._logic_of(node))
        self._making = False

    def _logic_of(self, node):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(self._application)
        logic.SetMRMLScene(self._scene)
        logic.SetSliceNode(node)
        node.SetDimensions(400, 400, 1)  # as a widget of that size would
        self._application.GetSliceLogics().AddItem(logic)
        return logic

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

    @Slot(int)
    def setLayout(self, layout):
        self._logic.GetLayoutNode().SetViewArrangement(layout)

    @Slot()
    def resetSliceViews(self):
        for view in self._widgets.values():
            view.fitSliceToBackground()


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


class qSlicerApplication(QtWidgets.QApplication):
    startupCompleted = Signal()
    majorVersion, minorVersion = 5, 12

    def __init__(self):
        super().__init__(["standin"])
        self.setStyle("Fusion")
        self.setQuitOnLastWindowClosed(False)
        self._folder = tempfile.TemporaryDirectory(prefix="medxai-standin-")
        self.temporaryPath = self.cachePath = self._folder.name
        self.setOrganizationName("standin")
        self.setApplicationName("Slicer")
        self.setApplicationVersion("5.12.0")
        ini = QtCore.QSettings.Format.IniFormat
        QtCore.QSettings.setDefaultFormat(ini)  # nobody's own settings are read or written
        QtCore.QSettings.setPath(ini, QtCore.QSettings.Scope.UserScope, self.temporaryPath)
        self._settings, self._layout, self._io = QtCore.QSettings(), qSlicerLayoutManager(), qSlicerCoreIOManager()
        atexit.register(self._settings.sync)  # written later, it would bring the folder back
        self._options = SimpleNamespace(testingEnabled=True, noMainWindow=True, runPythonAndExit=False)

    def processEvents(self):
        # PySide6 6.12's own, which gives nothing back, lets one reference to None go with each call
        QtCore.QEventLoop().processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents)

    def applicationLogic(self):
        return self._host.application

    def layoutManager(self):
        return self._layout

    def coreIOManager(self):
        return self._io

    def userSettings(self):
        return self._settings

    def testingEnabled(self):
        return self._options.testingEnabled

    def commandOptions(self):
        return self._options

    def startupEnvironment(self):
        return QtCore.QProcessEnvironment.systemEnvironment()

    def exit(self, status=0):
        exits.append(status)


def new_scene() -> None:
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
    slicer.app._host, slicer.app._logics = host, logics  # they live as long as the scene
    slicer.modules = SimpleNamespace()
    for name in ("Colors", "Volumes", "Segmentations", "SubjectHierarchy", "VolumeRendering", "Markups", "Plots"):
        logic = host.application.GetModuleLogic(name)
        setattr(slicer.modules, name.lower(), SimpleNamespace(name=name, logic=lambda logic=logic: logic))
    slicer.app.layoutManager()._take(host)
