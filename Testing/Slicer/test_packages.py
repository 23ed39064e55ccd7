"""The installer of Python packages: pip is real, works on wheels made here, and needs no network; Slicer's part is stood in for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
import types
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "MedXAI") not in sys.path:
    sys.path.append(str(ROOT / "MedXAI"))

from MedXAIPanel import packages  # noqa: E402

from MedXAILib.errors import InputError  # noqa: E402

REQUIREMENTS = ROOT / "MedXAI" / "Resources" / "requirements.txt"


def wheel(folder: Path, name: str, number: str, needs: str = "") -> None:
    """The smallest wheel that pip accepts."""
    info = f"{name}-{number}.dist-info"
    need = f"Requires-Dist: {needs}\n" if needs else ""
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n{need}")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


class Pip:
    """What slicer.util.pip_install does: run pip on this interpreter, print what it says, raise where it fails."""

    def __init__(self, wheels: Path, options: list[str]):
        self.wheels, self.options, self.calls = wheels, options, []

    def __call__(self, lines: list[str]) -> None:
        self.calls.append(lines)
        done = self.run(lines)
        print(done.stdout)
        done.check_returncode()

    def run(self, lines: list[str], env: dict | None = None) -> subprocess.CompletedProcess:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-index",
            "--find-links",
            self.wheels,
            *self.options,
            *lines,
        ]
        return subprocess.run(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )


@pytest.fixture
def wheels(tmp_path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def slicer(monkeypatch):
    """Slicer's side: a window, no test under way, no slicer.packaging as in 5.10, and no torch to be installed."""
    module = types.ModuleType("slicer")
    module.app = types.SimpleNamespace(testingEnabled=lambda: False)
    module.util = types.SimpleNamespace(mainWindow=lambda: object(), showStatusMessage=lambda text, time: None)
    monkeypatch.setitem(sys.modules, "slicer", module)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(packages, "TORCH", "pip>=1")
    return module


@pytest.fixture
def requirements(tmp_path) -> Path:
    return tmp_path / "requirements.txt"


def refuse(text: str) -> bool:
    raise AssertionError(f"asked: {text}")


def test_what_is_missing_is_told_by_name_and_version(requirements, monkeypatch):
    requirements.write_text("# nothing\nnumpy>=1.26\nPillow>=10\nno-such-thing>=2  # why\nnumpy>=99\n\n")
    monkeypatch.setattr(packages, "TORCH", "no-such-torch>=2.6")
    assert packages.missing(requirements) == ["no-such-torch>=2.6", "no-such-thing>=2", "numpy>=99"]


def test_the_panel_loads_none_of_the_packages():
    code = (
        "import sys; from pathlib import Path; from MedXAIPanel import packages; packages.missing(Path(sys.argv[1]));"
        "print(sorted({'torch', 'numpy', 'monai', 'SimpleITK', 'pydantic'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "MedXAI"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code, REQUIREMENTS], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_nothing_missing_asks_nothing(slicer, requirements):
    requirements.write_text("numpy>=1\n")
    assert packages.ensure(requirements, refuse)


@pytest.mark.parametrize("why", ["testing", "no window"])
def test_where_no_box_may_open_the_command_is_told(slicer, requirements, why):
    requirements.write_text("no-such-thing>=2\n")
    if why == "testing":
        slicer.app.testingEnabled = lambda: True
    else:
        slicer.util.mainWindow = lambda: None
    with pytest.raises(InputError) as error:
        packages.ensure(requirements, refuse)
    assert 'PythonSlicer -m pip install "no-such-thing>=2"' in str(error.value)
    assert f'"numpy=={version("numpy")}"' in str(error.value)


def test_who_declines_gets_nothing(slicer, requirements):
    requirements.write_text("no-such-thing>=2\n")
    asked = []
    assert packages.ensure(requirements, lambda text: asked.append(text)) is False
    assert len(asked) == 1 and "no-such-thing>=2" in asked[0] and "PyTorch" not in asked[0]


def test_installing_brings_what_is_missing_and_what_it_needs(slicer, requirements, wheels, tmp_path, monkeypatch):
    site = tmp_path / "with a blank"
    monkeypatch.syspath_prepend(str(site))
    wheel(wheels, "medxai_wanted", "2.1", "medxai_needed>=1")
    wheel(wheels, "medxai_needed", "1.0")
    requirements.write_text("medxai-wanted>=2\nnumpy>=1\n")
    slicer.util.pip_install = Pip(wheels, ["--target", str(site)])
    asked, told = [], []
    slicer.util.showStatusMessage = lambda text, time: told.append(text)
    assert packages.ensure(requirements, lambda text: not asked.append(text))
    assert slicer.util.pip_install.calls == [["medxai-wanted>=2"]] and len(asked) == 1
    assert (site / "medxai_needed.py").is_file() and not packages.missing(requirements)
    assert any("medxai_wanted" in line.replace("-", "_") for line in told)
    assert packages.CONSTRAINT not in os.environ


def test_nothing_that_is_there_is_replaced(slicer, requirements, wheels, tmp_path, monkeypatch):
    """A package that wants an older numpy: pip by itself would obey, with what is installed held fast it refuses."""
    (tmp_path / "with a blank").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "with a blank"))
    monkeypatch.delenv(packages.CONSTRAINT, raising=False)
    wheel(wheels, "medxai_greedy", "1.0", "numpy<1")
    wheel(wheels, "numpy", "0.9")
    requirements.write_text("medxai-greedy>=1\n")
    pip = slicer.util.pip_install = Pip(wheels, ["--dry-run"])
    assert "numpy-0.9" in pip.run(["medxai-greedy>=1"]).stdout
    with pytest.raises(InputError) as error:
        packages.install(requirements, progress=lambda line: None)
    assert "medxai-greedy>=1 could not be installed" in str(error.value)
    assert "conflict" in str(error.value) and "numpy-0.9" not in str(error.value)


def test_why_pip_failed_is_told(slicer, requirements, wheels):
    requirements.write_text("no-such-thing>=2\n")
    slicer.util.pip_install = Pip(wheels, [])
    with pytest.raises(
        InputError, match=r"no-such-thing>=2 could not be installed \(ERROR: Could not find a version.*HTTPS_PROXY"
    ):
        packages.install(requirements, progress=lambda line: None)


def test_torch_comes_first_and_only_through_its_extension(slicer, requirements, monkeypatch):
    requirements.write_text("no-such-thing>=2\n")
    slicer.util.pip_install = refuse
    monkeypatch.setattr(packages, "TORCH", "no-such-torch>=2.6")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(InputError, match="Extensions Manager.*MEDXAI_PYTHON"):
        packages.install(requirements, progress=lambda line: None)

    asked = []
    extension = types.ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = lambda: types.SimpleNamespace(installTorch=lambda **options: asked.append(options))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    with pytest.raises(InputError, match="no-such-torch>=2.6 could not be installed"):
        packages.install(requirements, progress=lambda line: None)
    assert asked == [{"askConfirmation": False, "torchVersionRequirement": ">=2.6"}]


def test_a_torch_that_is_too_old_is_left_to_the_user(slicer, requirements, monkeypatch):
    requirements.write_text("")
    monkeypatch.setattr(packages, "TORCH", "numpy>=99")
    with pytest.raises(InputError, match=f"numpy {version('numpy')} and MedXAI needs 99 or newer.*PyTorch Utils"):
        packages.install(requirements, progress=lambda line: None)


def test_slicer_5_12_shows_pip_at_work(slicer, requirements, monkeypatch):
    requirements.write_text("no-such-thing>=2\n")
    calls = []
    slicer.packaging = types.ModuleType("slicer.packaging")
    slicer.packaging.pip_ensure = lambda lines, **options: calls.append(
        (lines, options, os.environ[packages.CONSTRAINT])
    )
    monkeypatch.setitem(sys.modules, "slicer.packaging", slicer.packaging)
    with pytest.raises(InputError):
        packages.install(requirements, progress=lambda line: None)
    [(lines, options, constraint)] = calls
    assert lines == ["no-such-thing>=2"] and options["prompt_install"] is False and constraint.startswith("file:")


def test_the_panel_opens_without_what_slicer_lacks(slicer):
    """Until its packages are installed it must at least say so."""
    lacking = [
        "pydantic",
        "torch",
        "monai",
        "nibabel",
        "psutil",
        "typer",
        "rich",
        "matplotlib",
        "safetensors",
        "skimage",
        "lime",
    ]
    code = (
        "import sys; from pathlib import Path; import standin; standin.install();"
        f"sys.modules.update(dict.fromkeys({lacking}));"
        "print(bool(standin.load_module(Path(sys.argv[1])).widget.sections));"
        "print(sorted(name for name in sys.modules if sys.modules[name] and name.startswith('MedXAILib.')))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)])}
    module = ROOT / "MedXAI" / "MedXAI.py"
    done = subprocess.run([sys.executable, "-c", code, module], env=env, capture_output=True, text=True, check=False)
    opened, loaded = done.stdout.strip().splitlines()[-2:] if done.returncode == 0 else ("", "[]")
    assert opened == "True", done.stderr
    rooms = {name.split(".")[1] for name in ast.literal_eval(loaded)}
    computing = {"evaluation", "findings", "prediction", "preprocessing", "recording", "scoring", "session", "tiling"}
    assert "mrml" in rooms and not rooms & computing, "what computes is the worker's"
    assert "MedXAILib.geometry.resample" not in loaded
