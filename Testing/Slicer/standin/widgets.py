"""CTK's and Slicer's widgets that a panel needs: working, plainly drawn, with the members of the real ones only."""

from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal, Slot

from . import pythonqt  # noqa: F401  (its attributes are used here too)

CUSTOM: list[type] = []
"""Every class here; QUiLoader makes them by name."""


def widget(kind: type) -> type:
    CUSTOM.append(kind)
    return kind


def stored(kind: str, name: str, default, changed: str = ""):
    """A Qt property that keeps its value, and calls the method ``changed`` when it becomes another one."""

    def get(self):
        return self.__dict__.get("_" + name, default)

    def put(self, value):
        before = get(self)
        self.__dict__["_" + name] = value
        if changed and value != before:
            getattr(self, changed)()

    return Property(kind, get, put)


def passed(kind: str, name: str, child: str):
    """A Qt property of a child as one's own."""
    return Property(
        kind,
        lambda self: self.__dict__[child].property(name),
        lambda self, value: self.__dict__[child].setProperty(name, value) and None,
    )


def row(parent, *children, vertical: bool = False):
    """Lay the children out in the parent, without margins."""
    layout = (QtWidgets.QVBoxLayout if vertical else QtWidgets.QHBoxLayout)(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    for child in children:
        layout.addWidget(child)
    return layout


class Foldable:
    """Checked while it is open; hides its children while it is not."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._hidden: list = []
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._fold)

    def _fold(self, opened: bool) -> None:
        if not opened:
            children = [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]
            self._hidden += [child for child in children if not child.isHidden()]
        for child in self._hidden:
            child.setVisible(opened)
        if opened:
            self._hidden.clear()

    def showEvent(self, event):
        """A .ui collapses before the children are there."""
        super().showEvent(event)
        if not self.isChecked():
            self._fold(False)


def collapsed():
    return Property("bool", lambda self: not self.isChecked(), lambda self, on: self.setChecked(not on))


@widget
class ctkCollapsibleButton(Foldable, QtWidgets.QAbstractButton):
    contentsCollapsed = Signal(bool)
    collapsed = collapsed()

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setContentsMargins(0, self._header(), 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(lambda opened: self.contentsCollapsed.emit(not opened))

    def _header(self) -> int:
        return self.fontMetrics().height() + 8

    def hitButton(self, point):
        return point.y() < self._header()

    def paintEvent(self, event):
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, self.width, self._header())
        painter.fillRect(header, self.palette.mid())
        text = ("\u25be  " if self.isChecked() else "\u25b8  ") + self.text
        painter.drawText(header.adjusted(6, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter, text)
        painter.setPen(self.palette.mid().color())
        painter.drawRect(self.rect.adjusted(0, 0, -1, -1))


@widget
class ctkCollapsibleGroupBox(Foldable, QtWidgets.QGroupBox):
    collapsed = collapsed()


@widget
class ctkSliderWidget(QtWidgets.QWidget):
    STEPS = 1000
    valueChanged = Signal(float)
    value = passed("double", "value", "_box")
    minimum = passed("double", "minimum", "_box")
    maximum = passed("double", "maximum", "_box")
    singleStep = passed("double", "singleStep", "_box")
    decimals = passed("int", "decimals", "_box")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider, self._box = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal), QtWidgets.QDoubleSpinBox()
        self._slider.setRange(0, self.STEPS)
        self._box.setRange(0.0, 100.0)
        row(self, self._slider, self._box)
        self._slider.valueChanged.connect(self._slide)
        self._box.valueChanged.connect(self._place)
        self._box.valueChanged.connect(self.valueChanged)

    def _slide(self, step):
        self._box.setValue(self.minimum + (self.maximum - self.minimum) * step / self.STEPS)

    def _place(self, value):
        with QtCore.QSignalBlocker(self._slider):
            self._slider.setValue(round(self.STEPS * (value - self.minimum) / (self.maximum - self.minimum)))

    @Slot(float)
    def setValue(self, value):
        self._box.setValue(value)


class Bar(QtWidgets.QWidget):
    """Draws the part of a range that is chosen."""

    def paintEvent(self, event):
        owner = self.parentWidget()
        span = (owner.maximum - owner.minimum) or 1.0
        low, high = ((value - owner.minimum) / span for value in (owner.minimumValue, owner.maximumValue))
        painter, middle = QtGui.QPainter(self), self.height // 2
        painter.fillRect(0, middle - 2, self.width, 4, self.palette.mid())
        painter.fillRect(
            QtCore.QRectF(low * self.width, middle - 4, (high - low) * self.width, 8), self.palette.highlight()
        )


@widget
class ctkRangeWidget(QtWidgets.QWidget):
    valuesChanged = Signal(float, float)
    minimumValue = Property("double", lambda self: self._low.value, lambda self, low: self.setMinimumValue(low))
    maximumValue = Property("double", lambda self: self._high.value, lambda self, high: self.setMaximumValue(high))
    minimum = Property("double", lambda self: self._low.minimum, lambda self, low: self.setRange(low, self.maximum))
    maximum = Property("double", lambda self: self._low.maximum, lambda self, high: self.setRange(self.minimum, high))
    decimals = Property("int", lambda self: self._low.decimals, lambda self, count: self.setDecimals(count))
    singleStep = Property("double", lambda self: self._low.singleStep, lambda self, step: self._step(step))

    def __init__(self, parent=None):
        super().__init__(parent)
        self._low, self._bar, self._high = QtWidgets.QDoubleSpinBox(), Bar(), QtWidgets.QDoubleSpinBox()
        row(self, self._low, self._bar, self._high).setStretch(1, 1)
        self._high.setValue(99.0)
        self._low.valueChanged.connect(lambda low: self.setValues(low, max(low, self.maximumValue), moved=True))
        self._high.valueChanged.connect(lambda high: self.setValues(min(high, self.minimumValue), high, moved=True))

    @Slot(float, float)
    def setValues(self, low, high, moved=False):
        before = self.minimumValue, self.maximumValue
        with QtCore.QSignalBlocker(self._low), QtCore.QSignalBlocker(self._high):
            self._low.setValue(low)
            self._high.setValue(high)
        self._bar.update()
        if moved or before != (self.minimumValue, self.maximumValue):
            self.valuesChanged.emit(self.minimumValue, self.maximumValue)

    def setRange(self, low, high):
        for box in (self._low, self._high):
            box.setRange(low, high)

    def _step(self, step):
        for box in (self._low, self._high):
            box.setSingleStep(step)

    @Slot(int)
    def setDecimals(self, count):
        for box in (self._low, self._high):
            box.setDecimals(count)

    @Slot(float)
    def setMinimumValue(self, low):
        self._low.setValue(low)

    @Slot(float)
    def setMaximumValue(self, high):
        self._high.setValue(high)
