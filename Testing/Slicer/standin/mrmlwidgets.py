"""Slicer's widgets that show MRML nodes: they follow a real scene through its events."""

from __future__ import annotations

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal, Slot

from .widgets import ctkSliderWidget, row, stored, widget

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
class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    def __init__(self, parent=None):
        super().__init__(parent)
        self.nodeTypes, self.showHidden = ["vtkMRMLColorNode"], True


@widget
class qMRMLSliderWidget(ctkSliderWidget):
    pass


def segments(node) -> list[tuple[str, str, tuple]]:
    """Identifier, name and colour of each segment."""
    if node is None:
        return []
    inside = node.GetSegmentation()
    found = [(id_, inside.GetSegment(id_)) for id_ in inside.GetSegmentIDs()]
    return [(id_, segment.GetName(), segment.GetColor()) for id_, segment in found]


@widget
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    currentNodeChanged = Signal((object,), (bool,))
    currentSegmentChanged = Signal(str)
    noneEnabled = stored("bool", "noneEnabled", False, "_update")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._segment = qMRMLNodeComboBox(), QtWidgets.QComboBox()
        self._node.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._node.noneEnabled = True
        row(self, self._node, self._segment, vertical=True)
        self._node.currentNodeChanged.connect(self._take)
        self._segment.currentIndexChanged.connect(lambda _: self.currentSegmentChanged.emit(self.currentSegmentID()))

    @Slot(object)
    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        self._node.setMRMLScene(scene)

    def _take(self, node):
        self._follow("node", [node] if node else [], vtk.vtkCommand.AnyEvent)
        self._update()
        self.currentNodeChanged[object].emit(node)
        self.currentNodeChanged[bool].emit(node is not None)

    def _update(self):
        rows = [("None", "")] if self.noneEnabled else []
        rows += [(name, id_) for id_, name, _ in segments(self.currentNode())]
        if rows != [(self._segment.itemText(i), self._segment.itemData(i)) for i in range(self._segment.count)]:
            before = self.currentSegmentID()
            with QtCore.QSignalBlocker(self._segment):
                self._segment.clear()
                for text, id_ in rows:
                    self._segment.addItem(text, id_)
                self._segment.setCurrentIndex(max(0, self._segment.findData(before)) if rows else -1)
            if self.currentSegmentID() != before:
                self.currentSegmentChanged.emit(self.currentSegmentID())

    def currentNode(self):
        return self._node.currentNode()

    def currentNodeID(self):
        return self._node.currentNodeID

    def currentSegmentID(self):
        return self._segment.currentData() or ""

    @Slot(object)
    def setCurrentNode(self, node):
        self._node.setCurrentNode(node)

    @Slot(str)
    def setCurrentSegmentID(self, id_):
        self._segment.setCurrentIndex(self._segment.findData(id_))


@widget
class qMRMLSegmentsTableView(qMRMLWidget):
    selectionChanged = Signal(QtCore.QItemSelection, QtCore.QItemSelection)
    readOnly = stored("bool", "readOnly", False)
    headerVisible = stored("bool", "headerVisible", True)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._table = None, QtWidgets.QTableWidget(0, 1)
        self._table.setSelectionBehavior(QtWidgets.QTableWidget.SelectionBehavior.SelectRows)
        self._table.horizontalHeader().setStretchLastSection(True)
        row(self, self._table)
        self._table.selectionModel().selectionChanged.connect(self.selectionChanged)

    @Slot(object)
    def setSegmentationNode(self, node):
        self._node = node
        self._follow("node", [node] if node else [], vtk.vtkCommand.AnyEvent)
        self._update()

    def segmentationNode(self):
        return self._node

    def tableWidget(self):
        return self._table

    def _update(self):
        found = segments(self._node)
        if len(found) == self._table.rowCount and all(
            self._table.item(at, 0).text() == name for at, (_, name, _) in enumerate(found)
        ):
            return
        self._table.setRowCount(len(found))
        for at, (id_, name, color) in enumerate(found):
            item = QtWidgets.QTableWidgetItem(name)
            item.setData(QtCore.Qt.ItemDataRole.UserRole, id_)
            item.setData(QtCore.Qt.ItemDataRole.DecorationRole, QtGui.QColor.fromRgbF(*color))
            self._table.setItem(at, 0, item)

    def selectedSegmentIDs(self):
        rows = sorted(index.row() for index in self._table.selectionModel().selectedRows())
        return [self._table.item(at, 0).data(QtCore.Qt.ItemDataRole.UserRole) for at in rows]

    def setSelectedSegmentIDs(self, ids):
        self._table.clearSelection()
        for at, (id_, _, _) in enumerate(segments(self._node)):
            if id_ in ids:
                self._table.selectRow(at)


@widget
class qMRMLTableView(Follower, QtWidgets.QTableView):
    mrmlSceneChanged = Signal(object)

    @Slot(object)
    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)

    @Slot(object)
    def setMRMLTableNode(self, node):
        self._node = node
        self._follow("node", [node] if node else [], vtk.vtkCommand.ModifiedEvent)
        self._update()

    def mrmlTableNode(self):
        return self.__dict__.get("_node")

    def _update(self):
        table = self._node.GetTable() if self._node else vtk.vtkTable()
        size = table.GetNumberOfRows(), table.GetNumberOfColumns()
        model = QtGui.QStandardItemModel(*size, self)
        model.setHorizontalHeaderLabels([table.GetColumnName(i) for i in range(size[1])])
        for i in range(size[0]):
            for j in range(size[1]):
                model.setItem(i, j, QtGui.QStandardItem(table.GetValue(i, j).ToString()))
        self.setModel(model)


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
