"""What is written down about a run: versions, the machine's part in it, memory."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from . import __version__

PACKAGES = ("torch", "monai", "numpy", "scikit-image", "lime", "SimpleITK")


def versions() -> dict[str, str]:
    """MedXAI, Python, and the packages that compute."""
    found = {"medxai": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def peak_memory() -> int:
    """Most memory that this process has held so far, bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def available_memory() -> int:
    """Memory that can be had now, bytes."""
    import psutil

    return int(psutil.virtual_memory().available)
