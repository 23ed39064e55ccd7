"""The stand-in behaves as the application it stands for."""

from __future__ import annotations

import numpy as np
import pytest

MODULE = """
from typing import Annotated

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin


@parameterNodeWrapper
class TinyParameterNode:
    volume: slicer.vtkMRMLScalarVolumeNode
    count: Annotated[int, WithinRange(1, 9)] = 3
    share: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    half: float = 0.25
    on: bool = True
    title: str = "a, 'b'"
    device: Annotated[str, Choice(["auto", "cpu"])] = "auto"


class Tiny(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Tiny")
        self.parent.categories = ["Analysis"]
        slicer.app.connect("startupCompleted()", lambda: None)


class TinyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.closed = self.clicks = 0

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Tiny.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.ui.apply.connect("clicked(bool)", self.onApply)
        self.begin()

    def begin(self):
        self.node = TinyParameterNode(TinyLogic().getParameterNode())
        self.tag = self.node.connectGui(self.ui)

    def onSceneEndClose(self, caller, event):
        self.closed += 1
        self.onSceneEndImport(caller, event)

    def onSceneEndImport(self, caller, event):
        self.node.disconnectGui(self.tag)
        self.begin()

    def onApply(self):
        self.clicks += 1

    def tellUnknown(self):
        return self.ui.apply.tooltip

    def setUnknown(self):
        self.ui.apply.tooltip = "no"

    def readProperties(self):
        button = self.ui.apply
        button.toolTip, button.enabled, button.text = "why", False, "Go"
        return button.text, button.toolTip, button.enabled, button.name, button.sizeHint.width() > 0

    def callProperty(self):
        return self.ui.apply.text()

    def cleanup(self):
        self.removeObservers()


class TinyLogic(ScriptedLoadableModuleLogic):
    pass
"""

WIDGETS = {
    "volume": ("qMRMLNodeComboBox", '<property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string>'
               '</stringlist></property><property name="noneEnabled"><bool>true</bool></property>'),
    "count": ("QSpinBox", ""),
    "share": ("ctkSliderWidget", '<property name="decimals"><number>3</number></property>'),
    "half": ("QDoubleSpinBox", ""),
    "on": ("QCheckBox", ""),
    "title": ("QLineEdit", ""),
    "device": ("QComboBox", ""),
}  # fmt: skip

UI = """<ui version="4.0"><class>Tiny</class><widget class="qMRMLWidget" name="Tiny"><layout class="QVBoxLayout" name="rows">
{widgets}<item><widget class="QPushButton" name="apply"/></item></layout></widget>
<connections><connection><sender>Tiny</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>volume</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""

CHANGES = {
    "count": (lambda box: setattr(box, "value", 5), 5, lambda box: box.value),
    "share": (lambda slider: slider.setValue(0.125), 0.125, lambda slider: slider.value),
    "half": (lambda box: setattr(box, "value", 0.75), 0.75, lambda box: box.value),
    "on": (lambda box: box.click(), False, lambda box: box.checked),
    "title": (lambda line: line.setText("other"), "other", lambda line: line.text),
    "device": (lambda box: box.setCurrentIndex(1), "cpu", lambda box: box.currentText),
}
"""A change as a user makes it, the field's value then, and what the widget shows."""


@pytest.fixture
def tiny(slicer, tmp_path):
    """A small scripted module with one widget of every kind."""
    import standin

    (tmp_path / "Tiny.py").write_text(MODULE)
    widgets = "".join(
        f'<item><widget class="{kind}" name="{name}">{properties}'
        f'<property name="SlicerParameterName" stdset="0"><string>{name}</string></property></widget></item>'
        for name, (kind, properties) in WIDGETS.items()
    )
    (tmp_path / "Resources" / "UI").mkdir(parents=True)
    (tmp_path / "Resources" / "UI" / "Tiny.ui").write_text(UI.format(widgets=widgets))
    return standin.load_module(tmp_path / "Tiny.py").widget


def add_volume(slicer, name):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)


def test_properties_are_attributes(tiny):
    assert tiny.readProperties() == ("Go", "why", False, "apply", True)
    with pytest.raises(TypeError):
        tiny.callProperty()


def test_what_the_application_lacks_is_refused(tiny):
    with pytest.raises(AttributeError, match="QPushButton.*tooltip"):
        tiny.tellUnknown()
    with pytest.raises(AttributeError, match="QPushButton.*tooltip"):
        tiny.setUnknown()
    with pytest.raises(ValueError, match="clicked"):
        tiny.ui.apply.connect("clickedTwice()", tiny.onApply)


def test_a_click_reaches_the_panel(tiny):
    tiny.ui.apply.click()
    assert tiny.clicks == 1


@pytest.mark.parametrize("field", CHANGES)
def test_binding_goes_both_ways(tiny, field):
    change, value, shown = CHANGES[field]
    box, default = getattr(tiny.ui, field), getattr(tiny.node, field)
    assert shown(box) == default != value
    change(box)
    assert getattr(tiny.node, field) == value
    setattr(tiny.node, field, default)
    assert shown(box) == default


def test_limits_hold_and_reach_the_widgets(tiny):
    ui = tiny.ui
    assert (ui.count.minimum, ui.count.maximum, ui.share.maximum) == (1, 9, 1.0)
    for field, value in (("count", 10), ("count", True), ("device", "tpu"), ("volume", "no node")):
        with pytest.raises(ValueError):
            setattr(tiny.node, field, value)
    with pytest.raises(AttributeError):
        tiny.node.unknown = 1


def test_a_range_keeps_its_order(slicer):
    import ctk

    widget, seen = ctk.ctkRangeWidget(), []
    widget.setRange(0, 10)
    widget.setValues(2, 4)
    widget.valuesChanged.connect(lambda low, high: seen.append((low, high)))
    widget.setMinimumValue(6)
    widget.setValues(6, 6)
    widget.maximumValue = 20
    assert seen == [(6, 6), (6, 10)]


def test_the_selector_follows_the_scene(slicer, tiny):
    selector = tiny.ui.volume
    seen = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: seen.append(node and node.GetName()))
    assert selector.currentNode() is None
    first, second = add_volume(slicer, "first"), add_volume(slicer, "second")
    assert selector.nodeCount() == 2
    selector.setCurrentNode(second)
    assert tiny.node.volume is second
    second.SetName("renamed")
    assert selector._box.currentText == "renamed"
    tiny.node.volume = first
    assert selector.currentNode() is first
    slicer.mrmlScene.RemoveNode(first)
    assert selector.currentNode() is None
    assert tiny.node.volume is None
    assert seen == ["second", "first", None]


def test_values_survive_closing_and_reloading_the_scene(slicer, tiny, tmp_path):
    volume = add_volume(slicer, "kept")
    slicer.util.updateVolumeFromArray(volume, np.zeros((2, 3, 4), "float32"))
    tiny.node.volume, tiny.node.share, tiny.node.title = volume, 0.75, 'a, "b"'
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    assert (tiny.closed, tiny.node.share, tiny.node.volume) == (1, 0.5, None)
    assert slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    node = tiny.node
    assert (node.volume.GetName(), node.share, node.title, node.count) == ("kept", 0.75, 'a, "b"', 3)
    assert (tiny.ui.share.value, tiny.ui.volume.currentNode()) == (0.75, node.volume)


def test_a_layout_makes_its_slice_views(slicer):
    manager = slicer.app.layoutManager()
    assert manager.sliceViewNames() == ["Red", "Yellow", "Green"]
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(
        900, '<layout type="horizontal"><item><view class="vtkMRMLSliceNode" singletontag="Map1"/></item></layout>'
    )
    manager.setLayout(900)
    view = manager.sliceWidget("Map1")
    volume = add_volume(slicer, "shown")
    slicer.util.setSliceViewerLayers(background=volume)
    assert view.mrmlSliceNode().GetLayoutName() == "Map1"
    assert view.mrmlSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
    assert slicer.app.applicationLogic().GetSliceLogicByLayoutName("Map1") is view.sliceLogic()


def test_boxes_are_noted_and_deny(slicer):
    import standin

    assert slicer.util.confirmYesNoDisplay("Sure?") is False
    slicer.util.errorDisplay("Broken")
    assert [text for _, text in standin.boxes] == ["Sure?", "Broken"]
    with pytest.raises(RuntimeError), slicer.util.tryWithErrorDisplay("Failed", waitCursor=True):
        raise RuntimeError


def test_the_widgets_have_nothing_that_the_real_ones_lack(slicer):
    from PySide6 import QtCore
    from standin.metaobjects import classes, members
    from standin.widgets import CUSTOM

    for kind in CUSTOM:
        name, meta, base = kind.__name__, kind.staticMetaObject, kind.__mro__[1:]
        assert name in classes(), f"{name}: run trim_metaobjects"
        inherited = set().union(*(dir(each) for each in base if each.__module__.startswith("PySide6")))
        own = {key for each in kind.__mro__ if each.__module__.startswith("standin") for key in vars(each)}
        public = {key for key in own if not key.startswith("_")} - inherited - {"STEPS", "staticMetaObject"}
        assert public <= members(name, "attributes") | members(name, "properties"), name
        properties = {meta.property(i).name() for i in range(meta.propertyOffset(), meta.propertyCount())}
        assert properties <= members(name, "properties"), name
        signals = {
            bytes(meta.method(i).methodSignature()).decode().split("(")[0]
            for i in range(meta.methodOffset(), meta.methodCount())
            if meta.method(i).methodType() == QtCore.QMetaMethod.MethodType.Signal
        }
        assert signals <= {each.split("(")[0] for each in members(name, "signals")}, name
