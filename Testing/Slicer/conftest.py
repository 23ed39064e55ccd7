"""The application's stand-in for tests of the panel, offscreen."""

from __future__ import annotations

import os
import sys

import pytest

os.environ["QT_QPA_PLATFORM"] = "offscreen"

try:
    from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets  # noqa: F401
except ImportError as error:  # names the missing package or system library
    MISSING = str(error)
else:
    MISSING = ""


@pytest.fixture
def slicer(monkeypatch):
    """The module ``slicer`` with the stand-in's application and a fresh scene."""
    if MISSING:
        pytest.skip(f"Qt cannot be loaded: {MISSING}")
    import standin

    module, swallowed = standin.install(), []
    # Qt prints what a slot raises and goes on, as the application does; a test must not
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, _: swallowed.append(f"{kind.__name__}: {error}"))
    standin.new_scene()
    yield module
    standin.new_scene()
    for name in ("last_type", "last_value", "last_traceback"):
        vars(sys).pop(name, None)  # it would keep widgets alive beyond their time
    assert not swallowed
