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
class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)

    @Slot(object)
    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)


@widget
class qSlicerWidget(QtWidgets.QWidget):
    mrmlSceneChanged = Signal(object)

    @Slot(object)
    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)


@widget
class qMRMLNodeComboBox(Follower, QtWidgets.QWidget):
    """Of adding, renaming and removing by the user it only keeps whether they are offered."""

    currentNodeChanged = Signal((object,), (bool,))
    nodeTypes = stored("QStringList", "nodeTypes", [], "_update")
    showChildNodeTypes = stored("bool", "showChildNodeTypes", True, "_update")
    noneEnabled = stored("bool", "noneEnabled", False, "_update")
    addEnabled = stored("bool", "addEnabled", True)
    removeEnabled = stored("bool", "removeEnabled", True)
    renameEnabled = stored("bool", "renameEnabled", False)
    currentNodeID = Property("QString", lambda self: self._id, lambda self, id_: self.setCurrentNodeID(id_))

    def __init__(self, parent=None):
        super().__init__(parent)
        self._id, self._asked, self._scene = "", None, None
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

    def _shown(self, node) -> bool:
        fits = node.IsA if self.showChildNodeTypes else node.GetClassName().__eq__
        return any(map(fits, self.nodeTypes)) and not node.GetHideFromEditors()

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
        rows = [("None", "")] if self.noneEnabled or not nodes else []
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


@widget
class qMRMLPlotView(Follower, QtWidgets.QWidget):
    """Draws the lines of the chart."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._view = None
        self.setMinimumHeight(120)

    @Slot(object)
    def setMRMLPlotViewNode(self, node):
        self._view = node
        self._follow("view", [node] if node else [], vtk.vtkCommand.ModifiedEvent)
        self._update()

    def _update(self):
        self._follow("chart", self._parts(), vtk.vtkCommand.ModifiedEvent)
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
                [
                    QtCore.QPointF(
                        frame.left() + frame.width() * i / max(1, count - 1),
                        frame.bottom() - frame.height() * (value - low) / ((high - low) or 1),
                    )
                    for i, value in enumerate(values)
                ]
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

    def plotView(self):
        return self._plot

    @Slot(object)
    def setMRMLPlotViewNode(self, node):
        self._plot.setMRMLPlotViewNode(node)

    def mrmlPlotViewNode(self):
        return self._plot._view


@widget
class qSlicerMarkupsPlaceWidget(qSlicerWidget):
    """The button only: in tests, points are placed in the node."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._button = None, QtWidgets.QToolButton()
        self._button.setText("Place a point")
        self._button.setCheckable(True)
        row(self, self._button)

    @Slot(object)
    def setCurrentNode(self, node):
        self._node = node
        self._button.setEnabled(node is not None)

    def currentNode(self):
        return self._node


@widget
class qSlicerSimpleMarkupsWidget(Follower, qSlicerWidget):
    markupsNodeChanged = Signal()
    updateFinished = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._selector, self._place = qMRMLNodeComboBox(), qSlicerMarkupsPlaceWidget()
        self._selector.nodeTypes, self._selector.noneEnabled = ["vtkMRMLMarkupsFiducialNode"], True
        self._table = QtWidgets.QTableWidget(0, 4)
        self._table.setHorizontalHeaderLabels(["Label", "R", "A", "S"])
        self._table.horizontalHeader().setSectionResizeMode(QtWidgets.QHeaderView.ResizeMode.Stretch)
        row(self, self._selector, self._place, self._table, vertical=True)
        self._selector.currentNodeChanged.connect(self._take)
        self.mrmlSceneChanged.connect(self._selector.setMRMLScene)
        self._place.setCurrentNode(None)

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

    @Slot(object)
    def setCurrentNode(self, node):
        self._selector.setCurrentNode(node)

    def markupsPlaceWidget(self):
        return self._place
