"""The package that Slicer's extension builder makes: complete, and enough to predict with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = "qt-scripted-modules"


@dataclass
class Target:
    """What one call of slicerMacroBuildScriptedModule packages."""

    folder: Path
    scripts: list[str]
    resources: list[str]
    subdirectory: bool

    @property
    def installed(self) -> dict[str, Path]:
        """Path below qt-scripted-modules -> the file it is a copy of. Relative paths are kept; WITH_SUBDIR puts the folder before them."""
        below = f"{self.folder.name}/" if self.subdirectory else ""
        return {below + name: self.folder / name for name in self.scripts + self.resources}


def target(folder: Path) -> Target:
    text = re.sub(r"#.*", "", (folder / "CMakeLists.txt").read_text())
    words = re.search(r"slicerMacroBuildScriptedModule\((.*?)\)", text, re.DOTALL)[1].split()
    lists, key = {}, ""
    for word in words:
        if re.fullmatch("NAME|SCRIPTS|RESOURCES|WITH_[A-Z_]+", word):
            key = word
            lists[key] = []
        else:
            lists[key].append(word)
    return Target(folder, lists["SCRIPTS"], lists["RESOURCES"], "WITH_SUBDIR" in lists)


def targets() -> list[Target]:
    """Of the folders that the top-level CMakeLists.txt adds."""
    return [
        target(ROOT / name) for name in re.findall(r"add_subdirectory\((\w+)\)", (ROOT / "CMakeLists.txt").read_text())
    ]


@pytest.mark.parametrize("folder", ["MedXAI", "MedXAILib"])
def test_every_file_is_listed(folder):
    listed = target(ROOT / folder)
    tree = {
        path.relative_to(ROOT / folder).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.name != "CMakeLists.txt"
        and not re.search(r"/(__pycache__|\.)", path.as_posix()[len(str(ROOT)) :])
    }
    names = listed.scripts + listed.resources
    assert len(names) == len(set(names))
    assert not tree - set(names), f"add to {folder}/CMakeLists.txt: {sorted(tree - set(names))}"
    assert not set(names) - tree, f"remove from {folder}/CMakeLists.txt: {sorted(set(names) - tree)}"
    assert all(name.endswith(".py") for name in listed.scripts), "the builder appends .py to every other script's name"


def test_a_prediction_runs_from_the_package_alone(tmp_path, patience):
    package = tmp_path / "package" / MODULES
    for part in targets():
        for name, source in part.installed.items():
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, package / name)
    assert (package / "MedXAI.py").is_file() and (package / "MedXAILib" / "__init__.py").is_file()
    assert [path.name for path in package.glob("*.py")] == ["MedXAI.py"], "Slicer takes every file here for a module"

    k, j, i = np.mgrid[-30:31, -30:31, -30:31] * 3.0
    head = np.where(np.hypot(np.hypot(k / 80, j / 80), i / 65) < 1, 100 + 10 * np.sin(i / 9), 0).astype(np.float32)
    write_volume(Volume(head, np.diag([3.0, 3.0, 3.0, 1.0])), tmp_path / "head.nrrd")
    code = (
        "import sys; from MedXAILib.cli import run; code = run(sys.argv[1:]);"
        "print(*{m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'MedXAILib'}, sep='\\n', file=sys.stderr);"
        "sys.exit(code)"
    )
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            code,
            "predict",
            str(tmp_path / "head.nrrd"),
            "--model",
            "planted-lesion",
            "-o",
            "out",
            "--json",
        ],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = [line for line in done.stderr.splitlines() if line.endswith(".py") and "MedXAILib" in line]
    assert len(loaded) > 10 and all(Path(line).is_relative_to(package) for line in loaded), loaded
    probabilities = json.loads(done.stdout)["cases"][0]["probabilities"]
    assert set(probabilities) == {"no lesion", "lesion"} and abs(sum(probabilities.values()) - 1) < 1e-5


def test_slicers_requirements_are_the_projects():
    lines = (ROOT / "MedXAI" / "Resources" / "requirements.txt").read_text().splitlines()
    slicer = {r.name: str(r.specifier) for r in map(Requirement, (s for s in lines if s and not s.startswith("#")))}
    project = {r.name: str(r.specifier) for r in map(Requirement, PROJECT["project"]["dependencies"])}
    from_text = re.search(
        r'^TORCH = "(.+)"', (ROOT / "MedXAI" / "MedXAIPanel" / "packages.py").read_text(), re.MULTILINE
    )[1]
    assert str(Requirement(from_text).specifier) == project.pop("torch")
    assert slicer.pop("pydicom") == "<4,>=2.4" and project.pop("pydicom") == "<4,>=3.0"
    assert slicer == project


def test_the_wheel_has_the_files_that_are_no_code():
    """setuptools takes every .py of MedXAILib, and of the rest what package-data names."""
    patterns = [
        f"{package.removeprefix('MedXAILib').lstrip('.').replace('.', '/')}/{pattern}".lstrip("/")
        for package, some in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in some
    ]
    resources = target(ROOT / "MedXAILib").resources
    missed = [name for name in resources if not any(fnmatch(name, pattern) for pattern in patterns)]
    assert resources and not missed, f"add to package-data in pyproject.toml: {missed}"
    packages = {Path(name).parent for name in target(ROOT / "MedXAILib").scripts}
    assert all((ROOT / "MedXAILib" / package / "__init__.py").is_file() for package in packages), (
        "not found as packages"
    )
