"""The application's stand-in for tests of the panel, offscreen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture(scope="session")
def warm_client():
    """A panel's client whose worker outlives the panel: starting one takes longer than most of what the tests ask of it. One
    that was killed is followed by a new one."""
    import standin

    standin.install()
    standin.pythonqt.watch(ROOT / "MedXAI")
    sys.path.append(str(ROOT / "MedXAI"))
    from MedXAIPanel.client import Client

    class Warm(Client):
        def stop(self):
            if self.busy:
                super().stop()

    client = Warm()
    yield client
    Client.stop(client)


@pytest.fixture
def module(slicer, warm_client, data_folder, monkeypatch, tmp_path):
    """The module, opened as the application opens it."""
    import standin
    from MedXAIPanel import client

    monkeypatch.setenv("MEDXAI_MODEL_PATH", str(data_folder / "models"))
    monkeypatch.setenv("MEDXAI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(client, "Client", lambda: warm_client)
    warm_client.log.clear()
    return standin.load_module(ROOT / "MedXAI" / "MedXAI.py")


@pytest.fixture
def panel(module):
    return module.widget
