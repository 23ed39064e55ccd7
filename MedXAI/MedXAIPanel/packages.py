"""The Python packages that computing needs: which of them Slicer's Python lacks, and how they get there.

Nothing here imports them: whatever Slicer's own process has loaded, no installer can replace.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from MedXAILib.errors import InputError

TORCH = "torch>=2.6,<3"
CONSTRAINT = "PIP_CONSTRAINT"
"""pip reads this environment variable as it reads -c; the PyTorch extension offers no other way to hand it a constraint."""
LOG_LINES = 1000
TELLING = ("No space left", "SSLError", "certificate", "ProxyError", "NewConnectionError", "ERROR")
"""What a line of pip's that tells the cause contains, the most telling first."""


def missing(requirements: Path) -> list[str]:
    """Requirements that this interpreter does not satisfy, torch among them."""
    return unmet([TORCH, *listed(requirements)])


def ensure(requirements: Path, ask: Callable[[str], bool]) -> bool:
    """Have every package in place; under test or without a main window no box is opened and nothing is installed.

    :param ask: asked once, with a text, before anything is downloaded.
    :return: False where the user does not want it.
    :raises InputError: where packages are missing still, or cannot be asked for.
    """
    import slicer

    lines = missing(requirements)
    if not lines:
        return True
    if slicer.app.testingEnabled() or slicer.util.mainWindow() is None:
        raise InputError(f"MedXAI's Python packages are missing: install them with: {commandLine(lines)}")
    if not ask(question(lines)):
        return False
    install(requirements, progress=lambda line: slicer.util.showStatusMessage(line, 3000))
    return True


def install(requirements: Path, *, progress: Callable[[str], None]) -> None:
    """Install what is missing, and replace nothing that is there.

    :param progress: called with each line that pip prints.
    :raises InputError: where something is missing still, with the cause as pip told it.
    """
    bring([TORCH], installTorch, progress)  # first: monai would bring a build that may not fit the GPU
    bring(listed(requirements), installOthers, progress)


def bring(requirements: list[str], how: Callable[[list[str]], None], progress: Callable[[str], None]) -> None:
    """Carry out one step of the installation and see that its packages are there."""
    lines = unmet(requirements)
    if not lines:
        return
    said, failure = Said(progress), "nothing was said about the cause"
    try:
        with contextlib.redirect_stdout(said), everythingKept():
            how(lines)
    except InputError:
        raise
    except (
        Exception
    ) as error:  # the extension imports torch, pip's runner raises errors of its own: only the outcome counts
        failure = str(error)
    if left := unmet(lines):
        raise InputError(
            f"{', '.join(left)} could not be installed ({said.cause() or failure}): check network, proxy (HTTPS_PROXY), SSL "
            "certificates and disk space and try again, or set MEDXAI_PYTHON to another Python that has MedXAI."
        )


def installTorch(lines: list[str]) -> None:
    """Let the PyTorch extension choose the build that fits the GPU."""
    name, _, wanted = lines[0].partition(">=")
    lowest, _, too_new = wanted.partition(",<")
    before = f", before {too_new}" if too_new else ""
    if present := installed().get(name):
        raise InputError(
            f"Slicer has {name} {present} and MedXAI needs {lowest} or newer{before}: update it in the module PyTorch Utils "
            "(other extensions may rely on the old one), or set MEDXAI_PYTHON to another Python that has MedXAI."
        )
    try:
        import PyTorchUtils
    except ImportError:
        raise InputError(
            "PyTorch is missing: install the extension PyTorch from the Extensions Manager and restart Slicer, or set "
            "MEDXAI_PYTHON to another Python that has MedXAI."
        ) from None
    PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=f">={wanted}")


def installOthers(lines: list[str]) -> None:
    """Slicer 5.12 shows pip at work in a window of its own; Slicer 5.10 prints it."""
    import slicer

    try:
        import slicer.packaging
    except ImportError:
        slicer.util.pip_install(lines)
        return
    slicer.packaging.pip_ensure(lines, prompt_install=False, prompt_restart=False, requester="MedXAI")


def question(lines: list[str]) -> str:
    """What is to be installed, roughly how much is downloaded, and what stays as it is."""
    torch = (
        "PyTorch is chosen to fit the GPU: about 0.3 GB without one, up to 3 GB with one. " if TORCH in lines else ""
    )
    return (
        f"MedXAI needs Python packages that Slicer does not have yet: {', '.join(lines)}.\n\n"
        f"{torch}The other packages, with those that they need, are about 0.1 GB. What Slicer has already is not replaced.\n\n"
        "Download and install them into Slicer's Python now?"
    )


def commandLine(lines: list[str]) -> str:
    """The command that installs them without a window; what must not be replaced is pinned on it."""
    there = installed()
    pins = [f"{name}=={there[name]}" for name in ("numpy", "simpleitk", "torch") if name in there]
    return " ".join(["PythonSlicer -m pip install", *(f'"{line}"' for line in lines + pins)])


def listed(requirements: Path) -> list[str]:
    """The lines of a requirements file without its comments."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def unmet(lines: Iterable[str]) -> list[str]:
    """Those requirements that the installed versions do not satisfy."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    there = installed()

    def met(line: str) -> bool:
        wanted = Requirement(line)
        version = there.get(canonicalize_name(wanted.name))
        return version is not None and wanted.specifier.contains(version, prereleases=True)

    return [line for line in lines if not met(line)]


def installed() -> dict[str, str]:
    """Canonical name -> version of what this interpreter finds, by their metadata alone; the first on the path counts."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    importlib.invalidate_caches()
    found = {}
    for package in importlib.metadata.distributions():
        name, version = package.metadata["Name"], package.metadata["Version"]
        with contextlib.suppress(InvalidVersion, TypeError):  # leftovers of an interrupted installation
            Version(version)
            found.setdefault(canonicalize_name(name), version)
    return found


@contextlib.contextmanager
def everythingKept() -> Iterator[None]:
    """Whatever pip is started meanwhile must leave every installed package at its version."""
    before = os.environ.get(CONSTRAINT)
    with tempfile.TemporaryDirectory(prefix="medxai-") as folder:
        file = Path(folder).resolve() / "installed.txt"
        file.write_text("".join(f"{name}=={version}\n" for name, version in installed().items()), encoding="utf-8")
        # as an address, since pip splits the variable at blanks
        os.environ[CONSTRAINT] = " ".join(filter(None, [before, file.as_uri()]))
        try:
            yield
        finally:
            if before is None:
                del os.environ[CONSTRAINT]
            else:
                os.environ[CONSTRAINT] = before


class Said(io.TextIOBase):
    """Stands in for the console: hands its lines on, and remembers the last ones."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.console, self.progress = sys.stdout, progress
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.rest = ""

    def write(self, text: str) -> int:
        """Take a text, of which lines that are whole are handed on."""
        self.console.write(text)
        *lines, self.rest = (self.rest + text).split("\n")
        for line in filter(None, map(str.strip, lines)):
            self.lines.append(line)
            self.progress(line)
        return len(text)

    def flush(self) -> None:
        """Pass it on to the console."""
        self.console.flush()

    def cause(self) -> str:
        """The line that tells best why pip failed, or the last one."""
        for mark in TELLING:
            for line in self.lines:
                if mark in line:
                    return line
        return self.lines[-1] if self.lines else ""
