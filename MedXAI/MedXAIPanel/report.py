"""The log as a text that can be shown to others: it names no volume and no user."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from pathlib import Path

import slicer

from MedXAILib import NOTICE, __version__
from MedXAILib.app.job import Job
from MedXAILib.mrml.host import Node


def logText(lines: Iterable[str], job: Job | None, card: str, volumes: list[Node], worker: dict[str, str]) -> str:
    """Versions, platform, the last run and the log, without names of volumes or of the user's folder.

    :param worker: the versions of what computed; empty where nothing did.
    """
    slicers = {"slicer": slicer.app.applicationVersion, "its python": platform.python_version()}
    found = {**slicers, "medxai": __version__, **worker}
    plain = {key: value for key, value in job.described().items() if key != "inputs"} if job else "none"
    head = [
        f"MedXAI {__version__}. {NOTICE}.",
        "versions: " + ", ".join(f"{name} {number}" for name, number in found.items()),
        f"platform: {platform.platform()}, {platform.machine()}",
        f"model: {card}",
        f"last run: {plain}",
        "",
    ]
    return "\n".join([*head, *(withoutNames(line, volumes) for line in lines), ""])


def withoutNames(line: str, volumes: list[Node]) -> str:
    """A line without the names of the scene's volumes and the path of the user's folder."""
    listed = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    names = {node.GetName() for node in [*listed, *volumes] if node.GetName()}
    for name in sorted(names, key=len, reverse=True):
        line = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "(volume)", line)
    return line.replace(str(Path.home()), "~")
