"""``qt.QUiLoader``: a .ui with CTK's and Slicer's widgets, and the connections in it."""

from __future__ import annotations

from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools

from .widgets import CUSTOM


class QUiLoader(QtUiTools.QUiLoader):
    def __init__(self, parent=None):
        super().__init__(parent)
        for kind in CUSTOM:
            self.registerCustomWidget(kind)

    def load(self, file, parent=None):
        """Connections are made here: C++ does not know the stand-in's signals with nodes."""
        root = ElementTree.fromstring(bytes(file.readAll()))
        connections = root.findall("connections/connection")
        for group in root.findall("connections"):
            root.remove(group)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        made = super().load(buffer, parent)
        for connection in connections:
            sender, signal, receiver, slot = (
                connection.findtext(key) for key in ("sender", "signal", "receiver", "slot")
            )
            find(made, sender).connect(signal, getattr(find(made, receiver), slot.partition("(")[0]))
        return made


def find(made, name: str):
    return made if made.objectName == name else made.findChild(QtCore.QObject, name)
