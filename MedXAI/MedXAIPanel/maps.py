"""A map node's contents as the library's values: what shares, jumps and files are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np

from MedXAILib.attribution.attribution import spread
from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.geometry.resample import resample
from MedXAILib.geometry.volume import Volume
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import labels_of, volume_of
from MedXAILib.mrml.overlay import Overlay
from MedXAILib.preprocessing.foreground import foreground

from . import results


@dataclass(frozen=True, eq=False)
class StoredMap:
    """What a map node keeps of its Attribution (MedXAILib.explanation), whose packages Slicer's Python may lack."""

    volume: Volume
    method: str
    target: str
    layer: str
    signed: bool
    superpixels: Labels | None
    coefficients: dict[int, float]
    provenance: dict
    limits: tuple[str, ...]

    def on(self, volume: Volume) -> Volume:
        """The map on another volume's grid."""
        return resample(self.volume, volume.grid)

    @property
    def mass(self) -> Volume:
        """What its shares are of: a superpixel's coefficient spread over its voxels."""
        return self.volume if self.superpixels is None else spread(self.volume, self.superpixels)


class MapContents:
    """The contents of the chosen map, read once."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Another map is chosen, or the scene is new."""
        self.read: dict[str, StoredMap] = {}

    def of(self, node: Node) -> StoredMap:
        """A map node's contents."""
        if node.GetID() not in self.read:
            self.read[node.GetID()] = storedMap(node)
        return self.read[node.GetID()]


def storedMap(node: Node) -> StoredMap:
    """The map of a node, its superpixels on its own grid."""
    found, segmentation = results.metadata(node), node.GetNodeReference(results.SUPERPIXELS)
    volume = volume_of(node)
    assumed = tuple(found["provenance"].get("geometry_not_in_the_file", ()))
    volume = replace(volume, source=replace(volume.source, assumed=assumed))
    table = found.get("superpixels", {}).get("table", [])
    superpixels = None
    if segmentation is not None and table:
        superpixels = renumbered(labels_of(segmentation, node), found["superpixels"]["rows"])
        superpixels = replace(superpixels, volume=volume.with_array(superpixels.volume.array))
    return StoredMap(
        volume,
        found["method"],
        found["target"],
        found["layer"],
        found["signed"],
        superpixels,
        {row["value"]: row["coefficient"] for row in table},
        found["provenance"],
        tuple(found["limits"]),
    )


def overlayOf(node: Node, stored: StoredMap) -> Overlay:
    """A map as pictures show it."""
    return Overlay(
        name=node.GetName(),
        map=stored.volume,
        signed=stored.signed,
        target=stored.target,
        said=stored.provenance["fact"],
        method=methodTitle(stored.method),
        layer=stored.layer,
        caveats=stored.limits,
    )


def partsOf(node: Node) -> dict[str, Node]:
    """Role -> segmentation of a map's hot regions and superpixels, where it has them."""
    found = {role: node.GetNodeReference(role) for role in (results.REGIONS, results.SUPERPIXELS)}
    return {role: part for role, part in found.items() if part is not None and part.GetDisplayNode()}


def methodTitle(name: str) -> str:
    """What a method is called; one that this version does not know, by its own name."""
    return METHODS[name].title if name in METHODS else name


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


def segmentationOf(prediction: Node) -> Labels | None:
    """The segmentation of a prediction node on its volume's grid, from a segmentation node or a label volume."""
    node, source = prediction.GetNodeReference(results.SEGMENTATION), results.sourceOf(prediction)
    if node is None or source is None:
        return None
    rows = results.metadata(prediction)["labels"]["rows"]
    if node.IsA("vtkMRMLSegmentationNode"):
        return renumbered(labels_of(node, source), rows) if node.GetSegmentation().GetNumberOfSegments() else None
    return Labels(volume_of(node), tuple(Label(value, name, tuple(color)) for value, name, color in rows))


_seen: dict[str, tuple[tuple, np.ndarray]] = {}


def seenBy(volumeNode: Node, grid: dict) -> np.ndarray:
    """Bool (k, j, i) on the volume's grid: inside what the network saw, and not air. The last answer is kept.

    :param grid: shape (i, j, k) and affine of what the network saw.
    """
    key = (volumeNode.GetID(), volumeNode.GetImageData().GetMTime(), json.dumps(grid))
    if _seen.get("last", (None, None))[0] != key:
        reference = volume_of(volumeNode)
        whole = Volume(np.ones(grid["shape"][::-1], np.uint8), np.array(grid["affine"]))
        inside = resample(whole, reference.grid, order=0).array > 0
        _seen["last"] = key, foreground(reference.array) & inside
    return _seen["last"][1]
