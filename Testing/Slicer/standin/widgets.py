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
    """Hides its children while it is collapsed; for classes with ``checked`` as the opposite."""

    def _fold(self, folded: bool) -> None:
        hidden = self.__dict__.setdefault("_hidden", [])
        if folded:
            now = [
                child
                for child in self.children()
                if isinstance(child, QtWidgets.QWidget) and not child.isHidden() and child not in hidden
            ]
            hidden += now
            for child in now:
                child.hide()
        else:
            for child in hidden:
                child.show()
            hidden.clear()

    def showEvent(self, event):
        super().showEvent(event)
        if not self.isChecked():
            self._fold(True)


@widget
class ctkCollapsibleButton(Foldable, QtWidgets.QAbstractButton):
    contentsCollapsed = Signal(bool)
    collapsedHeight = stored("int", "collapsedHeight", 10)
    flat = stored("bool", "flat", False)
    contentsLineWidth = stored("int", "contentsLineWidth", 1)

    def __init__(self, text="", parent=None):
        text, parent = ("", text) if not isinstance(text, str) else (text, parent)
        super().__init__(parent)
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self._header(), 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(self._toggle)

    def _header(self) -> int:
        return self.fontMetrics().height() + 8

    def _toggle(self, open_: bool):
        self._fold(not open_)
        self.contentsCollapsed.emit(not open_)

    @Property("bool")
    def collapsed(self):
        return not self.isChecked()

    @collapsed.setter
    def collapsed(self, value):
        self.setChecked(not value)

    def hitButton(self, point):
        return point.y() < self._header()

    def minimumSizeHint(self):
        return super().minimumSizeHint().expandedTo(QtCore.QSize(0, self._header()))

    def paintEvent(self, event):
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, self.width, self._header())
        painter.fillRect(header, self.palette.mid())
        arrow = "\u25be" if self.isChecked() else "\u25b8"
        centre = QtCore.Qt.AlignmentFlag.AlignVCenter
        painter.drawText(header.adjusted(6, 0, 0, 0), centre, f"{arrow}  {self.property('text')}")
        painter.setPen(self.palette.mid().color())
        painter.drawRect(self.rect.adjusted(0, 0, -1, -1))


@widget
class ctkCollapsibleGroupBox(Foldable, QtWidgets.QGroupBox):
    collapsedHeight = stored("int", "collapsedHeight", 10)

    def __init__(self, title="", parent=None):
        title, parent = ("", title) if not isinstance(title, str) else (title, parent)
        super().__init__(title, parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda on: self._fold(not on))

    @Property("bool")
    def collapsed(self):
        return not self.isChecked()

    @collapsed.setter
    def collapsed(self, value):
        self.setChecked(not value)


class Steps:
    """A slider's integer steps for a spin box of doubles."""

    COUNT = 1000

    def _place(self):
        """Put the slider where the spin box is."""
        span = (self._box.maximum - self._box.minimum) or 1.0
        with QtCore.QSignalBlocker(self._slider):
            self._slider.setValue(round(self.COUNT * (self._box.value - self._box.minimum) / span))

    def _slide(self, step):
        span = self._box.maximum - self._box.minimum
        self._box.setValue(self._box.minimum + span * step / self.COUNT)


@widget
class ctkSliderWidget(Steps, QtWidgets.QWidget):
    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    value = passed("double", "value", "_box")
    decimals = passed("int", "decimals", "_box")
    singleStep = passed("double", "singleStep", "_box")
    prefix = passed("QString", "prefix", "_box")
    suffix = passed("QString", "suffix", "_box")
    pageStep = stored("double", "pageStep", 10.0)
    tracking = stored("bool", "tracking", True)
    tickInterval = stored("double", "tickInterval", 0.0)
    minimum = Property("double", lambda self: self._box.minimum, lambda self, low: self._range(low, self._box.maximum))
    maximum = Property(
        "double", lambda self: self._box.maximum, lambda self, high: self._range(self._box.minimum, high)
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, self.COUNT)
        self._box = QtWidgets.QDoubleSpinBox()
        self._box.setRange(0.0, 100.0)
        row(self, self._slider, self._box)
        self._slider.valueChanged.connect(self._slide)
        self._box.valueChanged.connect(lambda _: self._place())
        self._box.valueChanged.connect(self.valueChanged)

    def _range(self, low, high):
        self._box.setRange(low, high)
        self._place()

    @Slot(float)
    def setValue(self, value):
        self._box.setValue(value)

    @Slot(int)
    def setDecimals(self, decimals):
        self._box.setDecimals(decimals)

    @Slot(bool)
    def setSpinBoxVisible(self, visible):
        self._box.setVisible(visible)


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
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    valuesChanged = Signal(float, float)
    rangeChanged = Signal(float, float)
    minimumValue = Property("double", lambda self: self._low.value, lambda self, low: self.setMinimumValue(low))
    maximumValue = Property("double", lambda self: self._high.value, lambda self, high: self.setMaximumValue(high))
    minimum = Property("double", lambda self: self._low.minimum, lambda self, low: self.setRange(low, self.maximum))
    maximum = Property("double", lambda self: self._low.maximum, lambda self, high: self.setRange(self.minimum, high))
    decimals = Property("int", lambda self: self._low.decimals, lambda self, value: self.setDecimals(value))
    singleStep = Property("double", lambda self: self._low.singleStep, lambda self, value: self._step(value))
    tracking = stored("bool", "tracking", True)
    tickInterval = stored("double", "tickInterval", 0.0)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._low, self._high, self._bar = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox(), Bar()
        layout = row(self, self._low, self._bar, self._high)
        layout.setStretch(1, 1)
        self.setRange(0.0, 99.0)
        self._high.setValue(99.0)
        self._low.valueChanged.connect(lambda value: self._moved(self._high, max(value, self._high.value), "minimum"))
        self._high.valueChanged.connect(lambda value: self._moved(self._low, min(value, self._low.value), "maximum"))

    def _moved(self, other, value, which):
        with QtCore.QSignalBlocker(other):
            other.setValue(value)
        self._bar.update()
        getattr(self, which + "ValueChanged").emit(getattr(self, which + "Value"))
        self.valuesChanged.emit(self.minimumValue, self.maximumValue)

    def _step(self, value):
        for box in (self._low, self._high):
            box.setSingleStep(value)

    def setRange(self, low, high):
        for box in (self._low, self._high):
            box.setRange(low, high)
        self.rangeChanged.emit(low, high)

    @Slot(float, float)
    def setValues(self, low, high):
        if (low, high) != (self.minimumValue, self.maximumValue):
            with QtCore.QSignalBlocker(self._low), QtCore.QSignalBlocker(self._high):
                self._low.setValue(low)
                self._high.setValue(high)
            self._bar.update()
            self.valuesChanged.emit(self.minimumValue, self.maximumValue)

    @Slot(float)
    def setMinimumValue(self, low):
        self._low.setValue(low)

    @Slot(float)
    def setMaximumValue(self, high):
        self._high.setValue(high)

    @Slot(int)
    def setDecimals(self, decimals):
        for box in (self._low, self._high):
            box.setDecimals(decimals)
