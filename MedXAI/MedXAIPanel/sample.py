"""Sample data: the demo's head with its planted lesion, made on the user's own machine. Nothing medical is claimed of it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import slicer

from MedXAILib.errors import PackageError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume
from MedXAILib.mrml.host import Node

NAME = "HeadWithPlantedLesion"
SEED = 0
HEAD_PACKAGE = "nilearn>=0.11"
"""It brings the ICBM 152 average head; only that file of it is used, so nothing that it depends on is installed."""


def register() -> None:
    """Offer the head in the module Sample Data."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="MedXAI",
        sampleName=NAME,
        uris=["nilearn"],
        fileNames=[f"{NAME}.nrrd"],
        nodeNames=[NAME],
        thumbnailFileName=str(Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "MedXAI.png"),
        customDownloader=onDownload,
    )


def onDownload(source: Any = None) -> list[Node]:
    """Load the head, asking before anything is downloaded.

    :return: its volume node, in a list.
    """
    with slicer.util.tryWithErrorDisplay("The sample head could not be made.", waitCursor=True):
        return [load(lambda text: slicer.util.confirmOkCancelDisplay(text))]
    return []


def load(ask: Callable[[str], bool]) -> Node:
    """The head as a volume node; it is made once and then lies in Slicer's cache.

    :param ask: asked before the package with the head is downloaded.
    :raises PackageError: where it is not there and may not be fetched.
    """
    path = cached()
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(planted(ask), path)
    node = slicer.util.loadVolume(str(path), {"name": NAME, "show": False})
    if slicer.app.layoutManager():
        slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def cached() -> Path:
    """Where the head lies once it was made."""
    return Path(slicer.app.cachePath) / f"{NAME}.nrrd"


def planted(ask: Callable[[str], bool]) -> Volume:
    """The head of a package that may have to be downloaded, with a lesion planted in it."""
    from MedXAILib.examples.planted_lesion.heads import demo_head
    from MedXAILib.examples.planted_lesion.planting import plant_lesion

    if find_spec("nilearn") is None:
        if not ask(
            "The sample head comes with the package nilearn (about 10 MB), which is not installed. Download it?"
        ):
            remedy = "install it with PythonSlicer -m pip install --no-deps nilearn"
            raise PackageError("The sample head needs the package nilearn", remedy, joint=": ")
        slicer.util.pip_install(f"--no-deps {HEAD_PACKAGE}")
    return plant_lesion(demo_head(), SEED).head
