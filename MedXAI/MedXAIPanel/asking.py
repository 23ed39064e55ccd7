"""A run of the panel as text: a call for the Python console, or a command line."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from MedXAILib.app.job import Job
from MedXAILib.errors import InputError
from MedXAILib.io.read import read_volume
from MedXAILib.models.source import summarise
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import volume_of

from . import results


def asPython(job: Job, volumes: dict[str, Node]) -> str:
    """The run as a call of MedXAILogic, for the Python console."""
    nodes = {name: f"slicer.util.getNode({node.GetName()!r})" for name, node in volumes.items()}
    first = next(iter(volumes.values()))
    volume = next(iter(nodes.values()))
    if len(nodes) > 1:
        volume = "{" + ", ".join(f"{name!r}: {node}" for name, node in nodes.items()) + "}"
    given = {f.name: getattr(job, f.name) for f in fields(job) if getattr(job, f.name) != f.default}
    given |= given.pop("options", {})
    if job.voxel is not None:
        given["voxel"] = tuple(results.toWorld(first, job.voxel))
    words = ["volume", repr(job.model)]
    if job.task == "explain":
        words += [repr(job.classes[0] if job.classes else None), repr(list(job.methods))]
    skipped = ("task", "inputs", "model", "classes", "methods")
    words += [f"{name}={value!r}" for name, value in given.items() if name not in skipped]
    return f"from MedXAI import MedXAILogic\n\nlogic = MedXAILogic()\nvolume = {volume}\nnodes = logic.{job.task}({', '.join(words)})\n"


def asCommand(job: Job, volumes: dict[str, Node]) -> str:
    """The run as a command line.

    :raises InputError: for a volume that is in no file.
    """
    files = {name: fileOf(node) for name, node in volumes.items()}
    first = next(iter(volumes))
    slices = slicesInFile(job.slices, volumes[first], files[first], summarise(job.model).axis)
    return replace(job, inputs=files, slices=slices).command()


def slicesInFile(slices: str | None, node: Node, path: str, axis: str) -> str | None:
    """Slices of a node as the file numbers them: Slicer turns the array of a left-handed file around.

    :param slices: ``a:b`` in the node's own array; anything else stays as it is.
    :raises InputError: for a file that cannot be read.
    """
    found = re.fullmatch(r"(\d+):(\d+)", slices or "")
    if not found:
        return slices
    volume, file = volume_of(node), read_volume(path)
    index, other = volume.axis_index(axis), file.axis_index(axis)
    numbers = []
    for number in (int(found[1]), int(found[2]) - 1):
        middle = (np.array(volume.shape) - 1) / 2
        middle[index] = number
        numbers.append(round(float(file.ijk(volume.ras(middle))[other])))
    return f"{min(numbers)}:{max(numbers) + 1}"


def scoresInFile(metadata: dict[str, Any], node: Node) -> list:
    """The scores by slice of a prediction, in the order of the file that the volume comes from."""
    scores = metadata.get("by_slice", [])
    try:
        turned = slicesInFile("0:1", node, fileOf(node), summarise(metadata["job"]["model"]).axis) != "0:1"
    except InputError:  # in no file, or its card is gone: the node's own order
        turned = False
    return scores[::-1] if scores and turned else scores


def fileOf(node: Node) -> str:
    """The file of a volume node, or the folder of its series.

    :raises InputError: where it has none, or has changed since.
    """
    storage = node.GetStorageNode()
    path = storage.GetFullNameFromFileName() if storage else ""
    if not path or not Path(path).exists() or node.GetModifiedSinceRead():
        raise InputError("a command needs a file", "save this volume first (File, Save)", about=node.GetName())
    return str(Path(path).parent) if storage.GetNumberOfFileNames() > 1 else path
