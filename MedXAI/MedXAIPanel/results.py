"""What a run gave, as nodes: named by volume, class and method, in one subject-hierarchy folder under the source volume.

What tables and sentences need stays with each node as JSON, so that a saved scene can be explored without computing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import slicer
import vtk

from MedXAILib import NOTICE
from MedXAILib.attribution.registry import method_title
from MedXAILib.errors import InputError
from MedXAILib.geometry.labels import Label, Labels, label_colors
from MedXAILib.io.read import read_volume
from MedXAILib.mrml import nodes
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.overlay import Overlay
from MedXAILib.outputs.layout import SCHEMA_VERSION
from MedXAILib.outputs.record import modern_metadata

KIND, METADATA, OLDER = "MedXAI.Kind", "MedXAI.Metadata", "MedXAI.Facts"
"""Attributes of a result: what it is, what is written down of it, and where an older version wrote that."""
SOURCE, SEGMENTATION, REGIONS = "MedXAI.Source", "MedXAI.Segmentation", "MedXAI.Regions"
SUPERPIXELS, SLICES, CHART = "MedXAI.Superpixels", "MedXAI.Slices", "MedXAI.Chart"
"""Node references of a result."""
VALUES = {"probabilities": "probability", "values": "value", "volume_ml": "mL", "voxels": "voxels"}
"""What a prediction may tell of each class, and what its column is called."""
FOLDER = "MedXAI"


def addPrediction(
    volumeNode: Node, event: dict, files: Path, *, labelVolume: bool = False, surface: bool = False
) -> list[Node]:
    """The prediction as a table node; a segmentation as a segmentation node, or as a label volume.

    :param event: the worker's result event.
    :param files: the folder of its files.
    :return: the new nodes, the table first.
    """
    found = event["prediction"]
    name = f"{volumeNode.GetName()} {found['model']}"
    key = next(key for key in VALUES if key in found)
    column, values = found.get("unit") or VALUES[key], found[key]
    table = addTable(f"{name} prediction", {"class": list(values), column: list(values.values())})
    annotate(
        table,
        "prediction",
        volumeNode,
        found | {key: event[key] for key in ("job", "versions", "messages", "seconds", "pass_seconds", "evaluations")},
    )
    made = [table]
    if "by_slice" in found:
        columns = dict(zip(values, zip(*found["by_slice"], strict=True), strict=True))
        slices = addTable(f"{name} by slice", {"slice": list(range(len(found["by_slice"])))} | columns)
        annotate(slices, "slices", volumeNode, {})
        table.SetNodeReferenceID(SLICES, slices.GetID())
        made += [slices, *addPlot(slices, list(columns), f"{name} by slice", column)]
    if "labels" in found:
        labels = readLabels(found["labels"], files)
        if labelVolume:
            node = nodes.add_label_map(slicer.mrmlScene, labels, f"{name} segmentation")
        else:
            node = nodes.add_labels(slicer.mrmlScene, labels, f"{name} segmentation", volumeNode, fill=0.25)
            if surface:
                node.CreateClosedSurfaceRepresentation()
        annotate(node, "segmentation", volumeNode, {})
        table.SetNodeReferenceID(SEGMENTATION, node.GetID())
        made.append(node)
    fileUnder(volumeNode, made)
    return made


def addMaps(volumeNode: Node, event: dict, files: Path) -> list[Node]:
    """Each map as a scalar volume on its own grid, its hot regions and superpixels as segmentations.

    :return: the new map nodes, in the order of the result.
    """
    made = []
    for found in event["maps"]:
        title, target = method_title(found["method"]), found["target"]
        if point := event["job"]["voxel"]:
            target = f"{found['class']} at {point[0]:.0f} {point[1]:.0f} {point[2]:.0f}"
        name = slicer.mrmlScene.GenerateUniqueName(f"{volumeNode.GetName()} {target} {title} {found['layer']}".strip())
        overlay = Overlay(
            name=name,
            map=read_volume(files / found["file"]),
            signed=found["signed"],
            target=found["target"],
            said=found["says"],
            method=title,
            layer=found["layer"],
            caveats=tuple(caveat["text"] for caveat in found["caveats"]),
        )
        node = nodes.add_map(slicer.mrmlScene, overlay)
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node.GetDisplayNode())
        legend.SetTitleText(f"{target}\n{title}")
        about = {key: value for key, value in found.items() if key != "file"}
        annotate(node, "map", volumeNode, about | {"grid": event["prediction"]["grid"], "job": event["job"]})
        parts = [node]
        for role, kind in ((REGIONS, "regions"), (SUPERPIXELS, "superpixels")):
            if found.get(kind, {}).get("rows"):
                labels = readLabels(found[kind], files)
                part = nodes.add_labels(slicer.mrmlScene, labels, f"{name} {kind}", volumeNode, fill=0.0)
                part.GetDisplayNode().SetVisibility(False)
                annotate(part, kind, volumeNode, {})
                node.SetNodeReferenceID(role, part.GetID())
                parts.append(part)
        fileUnder(volumeNode, parts)
        made.append(node)
    return made


@contextmanager
def allOrNothing() -> Iterator[None]:
    """After an error, no node remains that was added meanwhile."""
    added: list[Node] = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def note(scene: Node, event: int, node: Node) -> None:
        added.append(node)

    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, note)
    try:
        yield
    except BaseException:
        for node in reversed(added):
            slicer.mrmlScene.RemoveNode(node)
        raise
    finally:
        slicer.mrmlScene.RemoveObserver(tag)


def addTable(name: str, columns: dict[str, Sequence]) -> Node:
    """A table node from columns of text, integers or floats."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    for title, values in columns.items():
        kind = (
            vtk.vtkStringArray
            if isinstance(values[0], str)
            else vtk.vtkIntArray
            if isinstance(values[0], int)
            else vtk.vtkDoubleArray
        )
        array = kind()
        array.SetName(title)
        for value in values:
            array.InsertNextValue(value)
        node.AddColumn(array)
    return node


def addPlot(table: Node, columns: list[str], title: str, unit: str) -> list[Node]:
    """A chart of columns over the table's first one."""
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", title)
    series = []
    for index, column in enumerate(columns):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", column)
        node.SetAndObserveTableNodeID(table.GetID())
        node.SetXColumnName("slice")
        node.SetYColumnName(column)
        node.SetPlotType(node.PlotTypeScatter)
        node.SetMarkerStyle(node.MarkerStyleNone)
        node.SetColor(*label_colors(len(columns))[index])
        chart.AddAndObservePlotSeriesNodeID(node.GetID())
        series.append(node)
    chart.SetTitle("")
    chart.SetLegendVisibility(False)  # it covers the curves; the table beside has the colours
    chart.SetXAxisTitle("slice")
    chart.SetYAxisTitle(unit)
    table.SetNodeReferenceID(CHART, chart.GetID())
    return [chart, *series]


def readLabels(found: dict, files: Path) -> Labels:
    """Labels as the worker wrote them."""
    rows = tuple(Label(value, name, tuple(color)) for value, name, color in found["rows"])
    return Labels(read_volume(files / found["file"]), rows)


def annotate(node: Node, kind: str, volumeNode: Node, metadata: dict) -> None:
    """Write down on a node what it is and where it comes from."""
    node.SetAttribute(KIND, kind)
    node.SetAttribute(METADATA, json.dumps({"schema_version": SCHEMA_VERSION} | metadata))
    node.SetAttribute("MedXAI.Notice", NOTICE)
    node.SetNodeReferenceID(SOURCE, volumeNode.GetID())


def fileUnder(volumeNode: Node, made: list[Node]) -> None:
    """Put nodes into the MedXAI folder under their volume, and under its parent transform."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    source = hierarchy.GetItemByDataNode(volumeNode) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), volumeNode)
    folder = hierarchy.GetItemChildWithName(source, FOLDER) or hierarchy.CreateFolderItem(source, FOLDER)
    for node in made:
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
        hierarchy.SetItemParent(item, folder)
        if node.IsA("vtkMRMLTransformableNode"):
            node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())


def metadata(node: Node) -> dict:
    """What was written down on a result node, also by an older version.

    :raises InputError: for what a newer version wrote.
    """
    return modern_metadata(json.loads(written(node)))


def written(node: Node) -> str:
    """What was written down on a result node, as it stands there."""
    return node.GetAttribute(METADATA) or node.GetAttribute(OLDER) or "{}"


@lru_cache(256)
def refusal(text: str) -> str:
    """Why what was written down cannot be read; empty where it can."""
    try:
        modern_metadata(json.loads(text))
    except InputError as error:
        return str(error)
    return ""


def refused() -> str:
    """Why results of the scene are left out; empty where none is."""
    listed = [*slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"), *slicer.util.getNodesByClass("vtkMRMLTableNode")]
    return next((told for node in listed if node.GetAttribute(KIND) and (told := refusal(written(node)))), "")


def sourceOf(node: Node) -> Node | None:
    """The volume that a result node is about, or None where it was removed."""
    return node.GetNodeReference(SOURCE)


def resultsOf(volumeNode: Node | None, kind: str, nodeClass: str) -> list[Node]:
    """The result nodes of a volume, the oldest first; without those that a newer version wrote."""
    if volumeNode is None:
        return []
    found = slicer.mrmlScene.GetNodesByClass(nodeClass)
    found.UnRegister(None)
    listed = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
    ours = [node for node in listed if node.GetAttribute(KIND) == kind and sourceOf(node) is volumeNode]
    return [node for node in ours if not refusal(written(node))]


def mapsOf(volumeNode: Node | None) -> list[Node]:
    """The maps of a volume, the oldest first."""
    return resultsOf(volumeNode, "map", "vtkMRMLScalarVolumeNode")


def predictionsOf(volumeNode: Node | None) -> list[Node]:
    """The predictions of a volume, the oldest first."""
    return resultsOf(volumeNode, "prediction", "vtkMRMLTableNode")


def allMaps() -> list[Node]:
    """The maps of every volume: what another one's left in the views goes too."""
    listed = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in listed if node.GetAttribute(KIND) == "map"]


def allSegmentations() -> list[Node]:
    """The predicted segmentations of every volume."""
    listed = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in listed if node.GetAttribute(KIND) == "segmentation" and node.GetDisplayNode()]


def segmentationsOf(volumeNode: Node | None) -> list[Node]:
    """The predicted segmentations of a volume."""
    return [node for node in allSegmentations() if volumeNode and sourceOf(node) is volumeNode]


def toWorld(node: Node, point: Sequence[float]) -> list[float]:
    """A point in the coordinates of a node, through its parent transforms, to world RAS mm."""
    return transformed(node.GetParentTransformNode(), None, point)


def fromWorld(node: Node, point: Sequence[float]) -> list[float]:
    """World RAS mm to the coordinates of a node."""
    return transformed(None, node.GetParentTransformNode(), point)


def transformed(source: Node | None, target: Node | None, point: Sequence[float]) -> list[float]:
    """A point of one transform node's coordinates in those of another; None: the world."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(source, target, transform)
    return list(transform.TransformPoint(*point))
