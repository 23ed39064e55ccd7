"""What the scene stored of a result, as the worker takes it: plain values, and volumes as files."""

from __future__ import annotations

from typing import Any

import numpy as np

from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import labels_of, volume_of

from . import results
from .client import Client


def mapRecord(client: Client, node: Node) -> dict[str, Any]:
    """A map, its superpixels on its own grid."""
    found, segmentation = results.metadata(node), node.GetNodeReference(results.SUPERPIXELS)
    volume, superpixels = volume_of(node), found.pop("superpixels", {})
    found["file"] = client.store(volume)
    if segmentation is not None and superpixels.get("table"):
        labels = renumbered(labels_of(segmentation, node), superpixels["rows"])
        sent = labelsRecord(client, Labels(volume.with_array(labels.volume.array), labels.rows))
        found["superpixels"] = superpixels | sent
    return found


def predictionRecord(client: Client, node: Node) -> dict[str, Any]:
    """A prediction, with its segmentation where it is one."""
    found = results.metadata(node)
    found.pop("labels", None)
    if (labels := segmentationOf(node)) is not None:
        found["labels"] = labelsRecord(client, labels)
    return found


def labelsRecord(client: Client, labels: Labels) -> dict[str, Any]:
    """Labels as a file, and their rows."""
    return {"file": client.store(labels.volume), "rows": [(row.value, row.name, row.color) for row in labels.rows]}


def segmentationOf(prediction: Node) -> Labels | None:
    """The segmentation of a prediction node on its volume's grid, from a segmentation node or a label volume."""
    node, source = prediction.GetNodeReference(results.SEGMENTATION), results.sourceOf(prediction)
    if node is None or source is None:
        return None
    rows = results.metadata(prediction)["labels"]["rows"]
    if node.IsA("vtkMRMLSegmentationNode"):
        return renumbered(labels_of(node, source), rows) if node.GetSegmentation().GetNumberOfSegments() else None
    return Labels(volume_of(node), tuple(Label(value, name, tuple(color)) for value, name, color in rows))


def renumbered(labels: Labels, rows: list) -> Labels:
    """Labels of a segmentation node with the values they had before; segments of other names are left out.

    :param rows: (value, name, colour) as they were.
    """
    before = {name: value for value, name, _ in rows}
    values = np.zeros(1 + max((row.value for row in labels.rows), default=0), np.int32)
    for row in labels.rows:
        values[row.value] = before.get(row.name, 0)
    volume = labels.volume.with_array(values[labels.volume.array])
    return Labels(volume, tuple(Label(value, name, tuple(color)) for value, name, color in rows))
