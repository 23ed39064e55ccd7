"""Write ``qt-metaobjects.json``: of the file that the real application wrote, the classes that tests need.

Run as ``python -m standin.trim_metaobjects FULL.json`` in Testing/Slicer, after the stand-in got a new widget.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from . import application, mrmlwidgets, scripted  # noqa: F401  (they fill CUSTOM)
from .metaobjects import FILE
from .pythonqt import QT
from .widgets import CUSTOM

KEPT = ("python", "superclasses", "properties", "signals", "slots", "attributes")


def trim(full: dict) -> dict:
    """The classes of the stand-in with all their superclasses."""
    names = {name for name in [*vars(QT), "qSlicerApplication", *(each.__name__ for each in CUSTOM)] if name in full}
    names.update(above for name in tuple(names) for above in full[name].get("superclasses", []))
    return {name: {key: full[name][key] for key in KEPT if key in full[name]} for name in sorted(names)}


if __name__ == "__main__":
    classes = trim(json.loads(Path(sys.argv[1]).read_text()))
    lines = (f'"{name}": {json.dumps(entry, separators=(",", ":"))}' for name, entry in classes.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
