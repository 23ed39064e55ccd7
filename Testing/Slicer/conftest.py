"""The application's stand-in for tests of the panel, offscreen."""

from __future__ import annotations

import os

import pytest

os.environ["QT_QPA_PLATFORM"] = "offscreen"

try:
    from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets  # noqa: F401
except ImportError as error:  # names the missing package or system library
    MISSING = str(error)
else:
    MISSING = ""


@pytest.fixture
def slicer():
    """The module ``slicer`` with the stand-in's application and a fresh scene."""
    if MISSING:
        pytest.skip(f"Qt cannot be loaded: {MISSING}")
    import standin

    module = standin.install()
    standin.new_scene()
    yield module
    standin.new_scene()
