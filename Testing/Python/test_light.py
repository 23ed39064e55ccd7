"""What must hold without torch: a light import, and nothing heavy behind the first line of help."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import MedXAILib

HEAVY = ("torch", "monai", "lime", "skimage", "SimpleITK", "qt", "PySide6", "vtk", "slicer", "scipy", "matplotlib")


def test_importing_the_library_and_asking_for_help_load_nothing_heavy():
    for line in ("import MedXAILib", "import MedXAILib.cli", "import MedXAILib.session, MedXAILib.app.run"):
        code = f"import sys; {line}; print([m for m in {HEAVY!r} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]", line


def test_help_lists_every_command():
    done = subprocess.run([sys.executable, "-m", "MedXAILib", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("info", "predict", "explain", "card", "demo", "Research use only"))


def test_without_its_packages_the_command_says_what_to_do():
    """As in Slicer's Python before anything is installed; -S leaves site-packages out."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-S", "-m", "MedXAILib", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "is missing: in 3D Slicer" in done.stderr


def test_editors_and_type_checkers_see_the_public_names():
    """``MedXAILib/__init__.py`` imports them when asked for, and says so again where only a type checker looks."""
    tree = ast.parse(Path(MedXAILib.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.asname: node.module for node in block.body for alias in node.names if alias.name == alias.asname}
    assert seen == MedXAILib._PUBLIC and set(MedXAILib.__all__) == set(seen)
