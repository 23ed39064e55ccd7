"""``slicer.parameterNodeWrapper``: typed fields kept in a real vtkMRMLScriptedModuleNode, bound to widgets.

Of the real one's field types, those that the panel has: str, int, float, bool, and nodes.
"""

from __future__ import annotations

import json
import typing
from types import ModuleType, UnionType

import vtk
from PySide6 import QtWidgets

from . import pythonqt  # noqa: F401  (its attributes are used here)
from .mrmlwidgets import qMRMLNodeComboBox
from .widgets import ctkSliderWidget


class WithinRange:
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} and {self.maximum}.")


class Choice:
    def __init__(self, choices):
        self.choices = list(choices)

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}.")


class Field:
    """How one annotated attribute is kept in the node."""

    def __init__(self, name: str, hint, default):
        self.name, self.hints = name, []
        if typing.get_origin(hint) is typing.Annotated:
            hint, *self.hints = typing.get_args(hint)
        several = typing.get_origin(hint) in (typing.Union, UnionType)
        self.kinds = tuple(kind for kind in typing.get_args(hint) if kind is not type(None)) if several else (hint,)
        self.is_node = all(issubclass(kind, vtk.vtkObject) for kind in self.kinds)
        if not (self.is_node or self.kinds[0] in (str, int, float, bool)):
            raise TypeError(f"{name}: the stand-in keeps no {hint}.")
        self.default = None if self.is_node else self.kinds[0]() if default is None else default
        self.validate(self.default)

    def of(self, kind):
        return next((each for each in self.hints if isinstance(each, kind)), None)

    def validate(self, value):
        if self.kinds == (float,) and type(value) is int:
            value = float(value)
        fits = isinstance(value, self.kinds) and not (self.kinds == (int,) and isinstance(value, bool))
        if not fits and not (value is None and self.is_node):
            raise ValueError(f"{self.name}: {value!r} is no {self.kinds[0].__name__}.")
        for hint in self.hints:
            hint.validate(value)
        return value

    def write(self, node, value):
        value = self.validate(value)
        if self.is_node:
            node.SetNodeReferenceID(self.name, value.GetID() if value else None)
        else:
            node.SetParameter(self.name, json.dumps(value))

    def read(self, node):
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)  # none while the scene is being closed
        return json.loads(text) if text else self.default


def parameterNodeWrapper(cls):
    """Make every annotated attribute of the class a field of the parameter node that it is called with."""
    fields = {
        name: Field(name, hint, getattr(cls, name, None))
        for name, hint in typing.get_type_hints(cls, include_extras=True).items()
    }

    def init(self, node):
        vars(self).update(parameterNode=node, _bindings={})
        for field in fields.values():
            if not field.is_node and not node.GetParameter(field.name):
                field.write(node, field.default)

    def put(self, name, value):
        if name not in fields:
            raise AttributeError(f"{cls.__name__} has no field {name!r}.")
        fields[name].write(self.parameterNode, value)

    def connectGui(self, ui):
        return connect_gui(self, fields, ui)

    for name, field in fields.items():
        setattr(cls, name, property(lambda self, field=field: field.read(self.parameterNode)))
    for name in ("AddObserver", "RemoveObserver", "StartModify", "EndModify", "Modified"):
        setattr(cls, name, lambda self, *given, name=name: getattr(self.parameterNode, name)(*given))
    cls.__init__, cls.__setattr__ = init, put
    cls.connectGui, cls.disconnectGui = connectGui, disconnect_gui
    cls.isCached = lambda self, name: False
    return cls


def connect_gui(wrapper, fields: dict, ui) -> int:
    """Bind every widget that names a field, both ways; the result is for ``disconnectGui``."""
    node, bound, filling = wrapper.parameterNode, [], set()
    for each in vars(ui).values():
        name = each.property("SlicerParameterName")
        if name:
            prepare(each, fields[name])
            bound.append((fields[name], each, *binding(each, fields[name])))

    def show(*_):
        for field, each, _get, put, _signal in bound:
            filling.add(each)
            put(field.read(node))
            filling.discard(each)

    def writer(field, each, get):
        def write(*_):
            if each not in filling and get() != field.read(node):
                field.write(node, get())

        return write

    show()
    tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
    wrapper._bindings[tag] = [(signal, writer(field, each, get)) for field, each, get, _put, signal in bound]
    for signal, write in wrapper._bindings[tag]:
        signal.connect(write)
    return tag


def disconnect_gui(wrapper, tag) -> None:
    wrapper.parameterNode.RemoveObserver(tag)
    for signal, write in wrapper._bindings.pop(tag):
        signal.disconnect(write)


def prepare(each, field: Field) -> None:
    """Give the widget the field's range or choices."""
    if bounds := field.of(WithinRange):
        each.minimum, each.maximum = bounds.minimum, bounds.maximum
    if choice := field.of(Choice):
        each.clear()
        each.addItems([str(item) for item in choice.choices])


def binding(each, field: Field):
    """How to get and to set the widget's value, and the signal of its change."""
    kind = field.kinds[0]

    def value(name):
        return lambda: kind(getattr(each, name)), lambda value: setattr(each, name, value)

    if isinstance(each, QtWidgets.QAbstractButton) and kind is bool:
        return *value("checked"), each.toggled
    if isinstance(each, QtWidgets.QLineEdit) and kind is str:
        return *value("text"), each.textChanged
    if isinstance(each, (QtWidgets.QSpinBox, QtWidgets.QDoubleSpinBox, ctkSliderWidget)) and kind in (int, float):
        return *value("value"), each.valueChanged
    if isinstance(each, QtWidgets.QComboBox) and field.of(Choice):
        choices = field.of(Choice).choices
        return (
            lambda: choices[each.currentIndex],
            lambda value: each.setCurrentIndex(choices.index(value)),
            each.currentIndexChanged,
        )
    if isinstance(each, qMRMLNodeComboBox) and field.is_node:
        return each.currentNode, each.setCurrentNode, each.currentNodeChanged
    raise ValueError(f"{type(each).__name__} {each.objectName} cannot show the field {field.name}.")


MODULE = ModuleType("slicer.parameterNodeWrapper")
for _each in (parameterNodeWrapper, WithinRange, Choice):
    setattr(MODULE, _each.__name__, _each)
