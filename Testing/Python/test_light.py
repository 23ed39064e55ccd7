"""What must hold without torch: a light import, and nothing heavy behind the first line of help."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "monai", "lime", "skimage", "SimpleITK", "qt", "PySide6", "vtk", "slicer", "scipy", "matplotlib")


def test_importing_the_library_and_asking_for_help_load_nothing_heavy():
    for line in ("import MedXAILib", "import MedXAILib.cli", "import MedXAILib.explanation, MedXAILib.run"):
        code = f"import sys; {line}; print([m for m in {HEAVY!r} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]", line


def test_help_lists_every_command():
    done = subprocess.run([sys.executable, "-m", "MedXAILib", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("info", "predict", "explain", "card", "demo", "Research use only"))
