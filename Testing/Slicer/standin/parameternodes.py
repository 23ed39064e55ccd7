"""``slicer.parameterNodeWrapper``: typed fields kept in a real vtkMRMLScriptedModuleNode, bound to widgets."""

from __future__ import annotations

import enum
import json
import pathlib
import typing
from types import ModuleType, UnionType

import vtk
from PySide6 import QtWidgets

from . import pythonqt  # noqa: F401  (its attributes are used here)
from .mrmlwidgets import qMRMLNodeComboBox
from .widgets import ctkDirectoryButton, ctkDoubleSpinBox, ctkPathLineEdit, ctkRangeWidget, ctkSliderWidget


class WithinRange:
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if value is not None and not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} and {self.maximum}.")


class Minimum(WithinRange):
    def __init__(self, minimum):
        super().__init__(minimum, float("inf"))


class Maximum(WithinRange):
    def __init__(self, maximum):
        super().__init__(float("-inf"), maximum)


class RangeBounds(WithinRange):
    def validate(self, value):
        super().validate(value.minimum)
        super().validate(value.maximum)


class Choice:
    def __init__(self, choices):
        self.choices = list(choices)

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}.")


class Default:
    def __init__(self, value):
        self.value = value


class FloatRange:
    """Two numbers; of a parameter node, a change of either is written back."""

    def __init__(self, minimum=0.0, maximum=1.0, write=None):
        self._values, self._write = (minimum, maximum), write
        if minimum > maximum:
            raise ValueError(f"The minimum {minimum} is above the maximum {maximum}.")

    def _put(self, minimum, maximum):
        changed = FloatRange(minimum, maximum)
        self._values = changed._values
        if self._write:
            self._write(changed)

    minimum = property(lambda self: self._values[0], lambda self, low: self._put(low, self._values[1]))
    maximum = property(lambda self: self._values[1], lambda self, high: self._put(self._values[0], high))

    def __eq__(self, other):
        return isinstance(other, FloatRange) and self._values == other._values

    __hash__ = None


class ObservedList(list):
    """A list of a parameter node: a change is written back."""


def _writing(name):
    def method(self, *arguments, **named):
        result = getattr(list, name)(self, *arguments, **named)
        self.write(list(self))
        return result

    return method


for _name in ("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "__setitem__", "__delitem__"):
    setattr(ObservedList, _name, _writing(_name))


def is_node(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, vtk.vtkObject)


class Field:
    """How one annotated attribute is kept in the node."""

    def __init__(self, name: str, hint, default):
        self.name = name
        self.hints = []
        if typing.get_origin(hint) is typing.Annotated:
            hint, *self.hints = typing.get_args(hint)
        self.optional = typing.get_origin(hint) in (typing.Union, UnionType)
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)] if self.optional else [hint]
        self.kind = typing.get_origin(kinds[0]) or kinds[0]
        self.node = all(map(is_node, kinds))
        self.nodes = self.kind is list and all(map(is_node, typing.get_args(kinds[0]) or [None]))
        self.kinds = tuple(kinds) if self.node else typing.get_args(kinds[0]) if self.nodes else (self.kind,)
        self.default = next((each.value for each in self.hints if isinstance(each, Default)), default)
        if self.default is None and not self.optional and not self.node:
            self.default = next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else self.kind()
        self.validate(self.default)

    def of(self, kind):
        return next((each for each in self.hints if isinstance(each, kind)), None)

    def choices(self) -> list:
        return self.of(Choice).choices if self.of(Choice) else list(self.kind)

    def validate(self, value):
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if self.kind is pathlib.Path and isinstance(value, str):
            value = pathlib.Path(value)
        fits = all(isinstance(each, self.kinds) for each in value) if self.nodes else isinstance(value, self.kinds)
        if self.kind is int and isinstance(value, bool):
            fits = False
        if not fits and not (value is None and (self.node or self.optional)):
            raise ValueError(f"{self.name}: {value!r} is no {getattr(self.kind, '__name__', self.kind)}.")
        for hint in self.hints:
            if hasattr(hint, "validate"):
                hint.validate(value)
        return value

    def write(self, node, value):
        value = self.validate(value)
        if self.node:
            node.SetNodeReferenceID(self.name, value.GetID() if value else None)
        elif self.nodes:
            node.RemoveNodeReferenceIDs(self.name)
            for each in value:
                node.AddNodeReferenceID(self.name, each.GetID())
            node.SetParameter(self.name, "nodes")
        else:
            node.SetParameter(self.name, json.dumps(self.plain(value)))

    def plain(self, value):
        if isinstance(value, enum.Enum):
            return value.name
        if isinstance(value, FloatRange):
            return [value.minimum, value.maximum]
        return str(value) if isinstance(value, pathlib.Path) else value

    def read(self, node):
        if self.node:
            return node.GetNodeReference(self.name)

        def write(changed):
            self.write(node, changed)

        if self.nodes:
            count = node.GetNumberOfNodeReferences(self.name)
            value = [node.GetNthNodeReference(self.name, i) for i in range(count)]
        else:
            text = node.GetParameter(self.name)  # none while the scene is being closed
            value = json.loads(text) if text else self.plain(self.default)
        if self.kind is FloatRange:
            return FloatRange(*value, write)
        if self.kind is list:
            value = ObservedList(value)
            value.write = write
        elif value is not None and issubclass(self.kind, enum.Enum):
            return self.kind[value]
        elif value is not None and self.kind in (pathlib.Path, tuple):
            return self.kind(value)
        return value


def parameterNodeWrapper(cls):
    """Make every annotated attribute of the class a field of the parameter node that it is called with."""
    fields = {
        name: Field(name, hint, getattr(cls, name, None))
        for name, hint in typing.get_type_hints(cls, include_extras=True).items()
    }

    def init(self, node):
        vars(self).update(parameterNode=node, _bindings={})
        for field in fields.values():
            if not (field.node or node.GetParameterNames() and field.name in node.GetParameterNames()):
                field.write(node, field.default)

    def put(self, name, value):
        if name not in fields:
            raise AttributeError(f"{cls.__name__} has no field {name!r}.")
        fields[name].write(self.parameterNode, value)

    for name, field in fields.items():
        setattr(cls, name, property(lambda self, field=field: field.read(self.parameterNode)))
    for name in (
        "AddObserver",
        "RemoveObserver",
        "RemoveObservers",
        "HasObserver",
        "StartModify",
        "EndModify",
        "Modified",
    ):
        setattr(cls, name, lambda self, *given, name=name: getattr(self.parameterNode, name)(*given))
    cls.__init__, cls.__setattr__ = init, put
    cls.isCached = lambda self, name: False
    cls.default = lambda self, name: fields[name].default
    cls.dataType = lambda self, name: fields[name].kind
    cls.getValue = lambda self, name: getattr(self, name)
    cls.setValue = put
    cls.connectGui = lambda self, ui: connect_gui(self, fields, ui)
    cls.disconnectGui = disconnect_gui
    return cls


def connect_gui(wrapper, fields: dict, ui) -> int:
    """Bind every widget that names a field, both ways; the result is for ``disconnectGui``."""
    widgets = ui.findChildren(QtWidgets.QWidget) if isinstance(ui, QtWidgets.QWidget) else vars(ui).values()
    named = [(each.property("SlicerParameterName"), each) for each in widgets if hasattr(each, "property")]
    bound = []
    for name, each in named:
        if name:
            if name not in fields:
                raise ValueError(f"The widget {each.objectName} names {name}, which is no field.")
            bound.append((fields[name], each, binding(each, fields[name])))

    filling = set()

    def show(*_):
        for field, each, (_, put, _) in bound:
            value = field.read(wrapper.parameterNode)
            if value is not None or field.node:
                filling.add(each)
                put(value)
                filling.discard(each)

    def writer(field, each, get):
        def write(*_):
            if each not in filling and get() != field.read(wrapper.parameterNode):
                field.write(wrapper.parameterNode, get())

        return write

    for field, each, _ in bound:
        prepare(each, field)
    show()
    connections = [(signal, writer(field, each, get)) for field, each, (get, _, signal) in bound]
    for signal, write in connections:
        signal.connect(write)
    tag = wrapper.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
    wrapper._bindings[tag] = connections
    return tag


def disconnect_gui(self, tag) -> None:
    self.parameterNode.RemoveObserver(tag)
    for signal, write in self._bindings.pop(tag):
        signal.disconnect(write)


def prepare(each, field: Field) -> None:
    """Give the widget the field's range or choices."""
    bounds = field.of(WithinRange)
    if bounds and bounds.minimum > float("-inf"):
        each.minimum = bounds.minimum
    if bounds and bounds.maximum < float("inf"):
        each.maximum = bounds.maximum
    if isinstance(each, QtWidgets.QComboBox):
        each.clear()
        for choice in field.choices():
            each.addItem(choice.name if isinstance(choice, enum.Enum) else str(choice), choice)


def binding(each, field: Field):
    """How to get and set the widget's value, and the signal of its change."""

    def attribute(name):
        return lambda: getattr(each, name), lambda value: setattr(each, name, value)

    if isinstance(each, QtWidgets.QAbstractButton) and field.kind is bool:
        return *attribute("checked"), each.toggled
    if isinstance(each, QtWidgets.QComboBox) and (field.of(Choice) or issubclass(field.kind, enum.Enum)):
        choices = field.choices()
        return (
            lambda: choices[each.currentIndex],
            lambda value: each.setCurrentIndex(choices.index(value)),
            each.currentIndexChanged,
        )
    if isinstance(each, QtWidgets.QLineEdit) and field.kind is str:
        return *attribute("text"), each.textChanged
    if isinstance(each, (QtWidgets.QTextEdit, QtWidgets.QPlainTextEdit)) and field.kind is str:
        return *attribute("plainText"), each.textChanged
    if isinstance(each, (QtWidgets.QSpinBox, QtWidgets.QSlider)) and field.kind is int:
        return *attribute("value"), each.valueChanged
    if isinstance(each, (QtWidgets.QDoubleSpinBox, ctkDoubleSpinBox, ctkSliderWidget)) and field.kind in (int, float):
        return lambda: field.kind(each.value), lambda value: setattr(each, "value", value), each.valueChanged
    if isinstance(each, ctkRangeWidget) and field.kind is FloatRange:
        return (
            lambda: FloatRange(each.minimumValue, each.maximumValue),
            lambda value: each.setValues(value.minimum, value.maximum),
            each.valuesChanged,
        )
    if isinstance(each, ctkPathLineEdit) and field.kind in (str, pathlib.Path):
        return (
            lambda: field.kind(each.currentPath),
            lambda value: each.setCurrentPath(str(value)),
            each.currentPathChanged,
        )
    if isinstance(each, ctkDirectoryButton) and field.kind in (str, pathlib.Path):
        return (
            lambda: field.kind(each.directory),
            lambda value: setattr(each, "directory", str(value)),
            each.directoryChanged,
        )
    if isinstance(each, qMRMLNodeComboBox) and field.node:
        return each.currentNode, each.setCurrentNode, each.currentNodeChanged
    raise ValueError(f"{type(each).__name__} {each.objectName} cannot show the field {field.name} ({field.kind}).")


MODULE = ModuleType("slicer.parameterNodeWrapper")
for _each in (parameterNodeWrapper, WithinRange, Minimum, Maximum, RangeBounds, Choice, Default, FloatRange):
    setattr(MODULE, _each.__name__, _each)
