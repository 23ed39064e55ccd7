"""Sample data: the demo's head with its planted lesion, made on the user's own machine. Nothing medical is claimed of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import slicer

from MedXAILib.errors import InputError
from MedXAILib.outputs import nodes

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
        uris=["https://pypi.org/project/nilearn/"],
        fileNames=[f"{NAME}.nrrd"],
        nodeNames=[NAME],
        thumbnailFileName=str(Path(__file__).resolve().parents[1] / "Resources" / "Icons" / f"{NAME}.png"),
        customDownloader=onDownload,
    )


def onDownload(source=None) -> list:
    """Load the head, asking before anything is downloaded.

    :return: its volume node, in a list.
    """
    with slicer.util.tryWithErrorDisplay("The sample head could not be made.", waitCursor=True):
        return [load(lambda text: slicer.util.confirmOkCancelDisplay(text))]
    return []


def load(ask):
    """The head as a volume node.

    :param ask: asked before the package with the head is downloaded.
    :raises InputError: where it is not there and may not be fetched.
    """
    from MedXAILib.demo import demo_head, plant_lesion

    if find_spec("nilearn") is None:
        if not ask(
            "The sample head comes with the package nilearn (about 10 MB), which is not installed. Download it?"
        ):
            raise InputError(
                "The sample head needs the package nilearn: install it with PythonSlicer -m pip install --no-deps nilearn."
            )
        slicer.util.pip_install(f"--no-deps {HEAD_PACKAGE}")
    head, _, _ = plant_lesion(demo_head(), SEED)
    node = nodes.add_volume(slicer.mrmlScene, head, NAME)
    if slicer.app.layoutManager():
        slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node
