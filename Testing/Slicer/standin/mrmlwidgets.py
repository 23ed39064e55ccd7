"""Slicer's widgets that show MRML nodes: they follow a real scene through its events."""

from __future__ import annotations

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal, Slot

from .widgets import row, stored, widget

SCENE_EVENTS = (
    slicer.vtkMRMLScene.NodeAddedEvent,
    slicer.vtkMRMLScene.NodeRemovedEvent,
    slicer.vtkMRMLScene.EndBatchProcessEvent,
    slicer.vtkMRMLScene.EndCloseEvent,
    slicer.vtkMRMLScene.EndImportEvent,
)


class Follower:
    """Calls ``_update`` when one of the observed objects changes, as long as the widget lives."""

    def _follow(self, group: str, objects, *events) -> None:
        """Observe these instead of the earlier objects of the group."""
        followed = self.__dict__.setdefault("_followed", {})
        for thing, tag in followed.pop(group, ()):
            thing.RemoveObserver(tag)

        def changed(caller, event):
            if shiboken6.isValid(self):
                self._update()

        followed[group] = [(thing, thing.AddObserver(event, changed)) for thing in objects for event in events]


@widget
class qMRMLWidget(Follower, QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)

    @Slot(object)
    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self.__dict__.get("_scene")


@widget
class qSlicerWidget(QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)

    @Slot(object)
    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)


@widget
class qMRMLNodeComboBox(Follower, QtWidgets.QWidget):
    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    nodeTypes = stored("QStringList", "nodeTypes", [], "_update")
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], "_update")
    showChildNodeTypes = stored("bool", "showChildNodeTypes", True, "_update")
    showHidden = stored("bool", "showHidden", False, "_update")
    noneEnabled = stored("bool", "noneEnabled", False, "_update")
    noneDisplay = stored("QString", "noneDisplay", "None", "_update")
    addEnabled = stored("bool", "addEnabled", True)
    removeEnabled = stored("bool", "removeEnabled", True)
    editEnabled = stored("bool", "editEnabled", False)
    renameEnabled = stored("bool", "renameEnabled", False)
    selectNodeUponCreation = stored("bool", "selectNodeUponCreation", True)
    baseName = stored("QString", "baseName", "")
    currentNodeID = Property("QString", lambda self: self._id, lambda self, id_: self.setCurrentNodeID(id_))

    def __init__(self, parent=None):
        super().__init__(parent)
        self._id, self._asked, self._scene, self._attributes = "", None, None, []
        self._box = QtWidgets.QComboBox()
        self._box.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        row(self, self._box)
        self._box.currentIndexChanged.connect(lambda _: self._choose(self._box.currentData() or ""))

    def mrmlScene(self):
        return self._scene

    @Slot(object)
    def setMRMLScene(self, scene):
        self._scene = scene
        self._follow("scene", [scene] if scene else [], *SCENE_EVENTS)
        self._update()

    def addAttribute(self, nodeType, name, value=None):
        self._attributes.append((nodeType, name, value))
        self._update()

    def removeAttribute(self, nodeType, name):
        self._attributes = [each for each in self._attributes if each[:2] != (nodeType, name)]
        self._update()

    def _shown(self, node) -> bool:
        kind = node.GetClassName()
        fits = node.IsA if self.showChildNodeTypes else kind.__eq__
        return (
            any(fits(each) for each in self.nodeTypes)
            and not (self.showChildNodeTypes and any(node.IsA(each) for each in self.hideChildNodeTypes))
            and (self.showHidden or not node.GetHideFromEditors())
            and all(
                node.GetAttribute(name) == value if value is not None else node.GetAttribute(name) is not None
                for of, name, value in self._attributes
                if node.IsA(of)
            )
        )

    def _nodes(self) -> list:
        if self._scene is None:
            return []
        return [
            node for node in map(self._scene.GetNthNode, range(self._scene.GetNumberOfNodes())) if self._shown(node)
        ]

    def _update(self):
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = self._nodes()
        rows = [(self.noneDisplay, "")] if self.noneEnabled or not nodes else []
        rows += [(node.GetName(), node.GetID()) for node in nodes]
        if rows != [(self._box.itemText(i), self._box.itemData(i)) for i in range(self._box.count)]:
            self._follow("nodes", nodes, vtk.vtkCommand.ModifiedEvent)
            with QtCore.QSignalBlocker(self._box):
                self._box.clear()
                for text, id_ in rows:
                    self._box.addItem(text, id_)
        ids = [id_ for _, id_ in rows]
        asked, self._asked = self._asked, None
        self._choose(next(id_ for id_ in (asked, self._id, ids[0]) if id_ in ids))

    def _choose(self, id_):
        with QtCore.QSignalBlocker(self._box):
            self._box.setCurrentIndex(self._box.findData(id_))
        if id_ != self._id:
            self._id = id_
            node = self.currentNode()
            self.currentNodeChanged[object].emit(node)
            self.currentNodeChanged[bool].emit(node is not None)
            self.currentNodeIDChanged.emit(id_)

    def currentNode(self):
        return self._scene.GetNodeByID(self._id) if self._scene and self._id else None

    def nodeCount(self):
        return len(self._nodes())

    def nodeFromIndex(self, index):
        return self._nodes()[index]

    @Slot(object)
    def setCurrentNode(self, node):
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node else "")

    @Slot(str)
    def setCurrentNodeID(self, id_):
        if self._scene is None or self._scene.IsBatchProcessing():
            self._asked = id_ or ""  # chosen when the list is up to date
        elif self._box.findData(id_ or "") >= 0:
            self._choose(id_ or "")
        elif self.noneEnabled:
            self._choose("")

    @Slot(int)
    def setCurrentNodeIndex(self, index):
        self.setCurrentNode(self.nodeFromIndex(index))

    @Slot()
    def addNode(self):
        node = self._scene.AddNewNodeByClass(self.nodeTypes[0], self.baseName)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node


@widget
class ctkVTKChartView(QtWidgets.QWidget):
    pass


@widget
class qMRMLPlotView(Follower, ctkVTKChartView):
    """Draws the lines of the chart."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._view = self._scene = None
        self.setMinimumHeight(120)

    @Slot(object)
    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    @Slot(object)
    def setMRMLPlotViewNode(self, node):
        self._view = node
        self._follow("view", [node] if node else [], vtk.vtkCommand.ModifiedEvent)
        self._update()

    def _update(self):
        self._follow("chart", self._parts(), vtk.vtkCommand.ModifiedEvent)
        self.update()

    @Slot()
    def fitToContent(self):
        self.update()

    def _chart(self):
        return self._view.GetPlotChartNode() if self._view else None

    def _series(self) -> list:
        chart = self._chart()
        return [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())] if chart else []

    def _parts(self) -> list:
        """Everything that a change of would show."""
        series = self._series()
        return [part for part in [self._chart(), *series, *(each.GetTableNode() for each in series)] if part]

    def paintEvent(self, event):
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect, QtGui.QColor("white"))
        painter.setPen(QtGui.QColor("gray"))
        frame = self.rect.adjusted(8, 8, -8, -8)
        painter.drawRect(frame)
        for series in self._series():
            table = series.GetTableNode().GetTable()
            y = table.GetColumnByName(series.GetYColumnName())
            count = y.GetNumberOfTuples()
            values = [y.GetVariantValue(i).ToDouble() for i in range(count)]
            low, high = min(values, default=0), max(values, default=1)
            painter.setPen(QtGui.QPen(QtGui.QColor.fromRgbF(*series.GetColor()), 2))
            painter.drawPolyline(
                QtGui.QPolygonF(
                    QtCore.QPointF(
                        frame.left() + frame.width() * i / max(1, count - 1),
                        frame.bottom() - frame.height() * (value - low) / ((high - low) or 1),
                    )
                    for i, value in enumerate(values)
                )
            )


@widget
class qMRMLAbstractViewWidget(qMRMLWidget):
    pass


@widget
class qMRMLPlotWidget(qMRMLAbstractViewWidget):
    def __init__(self, parent=None):
        super().__init__(parent)
        self._plot = qMRMLPlotView()
        row(self, self._plot)
        self.mrmlSceneChanged.connect(self._plot.setMRMLScene)

    def plotView(self):
        return self._plot

    @Slot(object)
    def setMRMLPlotViewNode(self, node):
        self._plot.setMRMLPlotViewNode(node)

    def mrmlPlotViewNode(self):
        return self._plot._view


@widget
class qSlicerMarkupsPlaceWidget(qSlicerWidget):
    activeMarkupsPlaceModeChanged = Signal(bool)
    activeMarkupsFiducialPlaceModeChanged = Signal(bool)
    placeModeEnabled = Property(
        "bool", lambda self: self._button.checked, lambda self, on: self.setPlaceModeEnabled(on)
    )
    placeModePersistency = stored("bool", "placeModePersistency", False)
    buttonsVisible = stored("bool", "buttonsVisible", True)
    deleteAllControlPointsOptionVisible = stored("bool", "deleteAllControlPointsOptionVisible", True)
    unsetLastControlPointOptionVisible = stored("bool", "unsetLastControlPointOptionVisible", False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._button = None, QtWidgets.QToolButton()
        self._button.setText("Place a point")
        self._button.setCheckable(True)
        row(self, self._button)
        self._button.toggled.connect(self.activeMarkupsPlaceModeChanged)
        self._button.toggled.connect(self.activeMarkupsFiducialPlaceModeChanged)

    @Slot(object)
    def setCurrentNode(self, node):
        self._node = node
        self._button.enabled = node is not None

    def currentNode(self):
        return self._node

    def placeButton(self):
        return self._button

    @Slot(bool)
    def setPlaceModeEnabled(self, on):
        self._button.setChecked(on)

    @Slot(bool)
    def setPlaceModePersistency(self, on):
        self.placeModePersistency = on


@widget
class qSlicerSimpleMarkupsWidget(Follower, qSlicerWidget):
    markupsNodeChanged = Signal()
    markupsFiducialNodeChanged = Signal()
    activeMarkupsPlaceModeChanged = Signal(bool)
    updateFinished = Signal()
    nodeSelectorVisible = stored("bool", "nodeSelectorVisible", True, "_arrange")
    optionsVisible = stored("bool", "optionsVisible", True)
    jumpToSliceEnabled = stored("bool", "jumpToSliceEnabled", False)
    enterPlaceModeOnNodeChange = stored("bool", "enterPlaceModeOnNodeChange", True)
    positionStatusColumnVisible = stored("bool", "positionStatusColumnVisible", False)
    defaultNodeColor = stored("QColor", "defaultNodeColor", QtGui.QColor())
    viewGroup = stored("int", "viewGroup", -1)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._selector, self._place, self._table = (
            qMRMLNodeComboBox(),
            qSlicerMarkupsPlaceWidget(),
            QtWidgets.QTableWidget(0, 4),
        )
        self._selector.nodeTypes, self._selector.noneEnabled = ["vtkMRMLMarkupsFiducialNode"], True
        self._table.setHorizontalHeaderLabels(["Label", "R", "A", "S"])
        self._table.horizontalHeader().setSectionResizeMode(QtWidgets.QHeaderView.ResizeMode.Stretch)
        row(self, self._selector, self._place, self._table, vertical=True)
        self._selector.currentNodeChanged.connect(self._take)
        self._place.activeMarkupsPlaceModeChanged.connect(self.activeMarkupsPlaceModeChanged)
        self.mrmlSceneChanged.connect(self._selector.setMRMLScene)
        self._take(None)

    def _arrange(self):
        self._selector.setVisible(self.nodeSelectorVisible)

    def _take(self, node):
        self._place.setCurrentNode(node)
        self._follow("node", [node] if node else [], vtk.vtkCommand.AnyEvent)
        self._update()
        self.markupsNodeChanged.emit()

    def _update(self):
        node = self.currentNode()
        self._table.setRowCount(node.GetNumberOfControlPoints() if node else 0)
        for i in range(self._table.rowCount):
            texts = [node.GetNthControlPointLabel(i), *(f"{x:.2f}" for x in node.GetNthControlPointPositionWorld(i))]
            for j, text in enumerate(texts):
                self._table.setItem(i, j, QtWidgets.QTableWidgetItem(text))
        self.updateFinished.emit()

    def currentNode(self):
        return self._selector.currentNode()

    def getCurrentNode(self):
        return self.currentNode()

    @Slot(object)
    def setCurrentNode(self, node):
        self._selector.setCurrentNode(node)

    @Slot(str)
    def setNodeBaseName(self, name):
        self._selector.baseName = name

    def markupsSelectorComboBox(self):
        return self._selector

    def markupsPlaceWidget(self):
        return self._place

    def tableWidget(self):
        return self._table
