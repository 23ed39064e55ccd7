"""Volumes, maps and labels as MRML nodes, and back. Everything goes through the ``slicer`` package: inside 3D Slicer
that is the application, elsewhere the wheel slicer-core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import NOTICE
from ..errors import InputError
from ..geometry.labels import Label, Labels, overlaid
from ..geometry.volume import GEOMETRY, Source, Volume, extended
from ..io.suffixes import PICTURES
from .host import Node
from .overlay import Overlay
from .palette import THRESHOLD, heat_table


def add_volume(scene: Node, volume: Volume, name: str) -> Node:
    """The volume as a node: scalar with automatic window, or RGB."""
    rgb = volume.channels == 3
    array = volume.array if rgb else grey(volume).array
    kind = "vtkMRMLVectorVolumeNode" if rgb else "vtkMRMLScalarVolumeNode"
    node = add_array(scene, volume.with_array(array), name, kind)
    display = node.GetDisplayNode()
    if rgb and array.dtype == np.uint8:
        display.SetAutoWindowLevel(0)
        display.SetWindowLevelMinMax(0, 255)
    elif not rgb:
        low, high = window(array)
        display.SetAutoWindowLevel(0)
        display.SetWindowLevelMinMax(low, high)
    return node


def window(array: NDArray[Any]) -> tuple[float, float]:
    """Display range: the 0.5 percentile to a little above the 99.5 one, so that a map's light colours stand out."""
    values = array.ravel()[:: max(1, array.size // 1_000_000)]
    low, high = (float(value) for value in np.nanpercentile(values, (0.5, 99.5)))
    return (low, low + 1.15 * (high - low)) if high > low else (low, low + 1.0)


def add_map(scene: Node, overlay: Overlay) -> Node:
    """A heat map as a scalar volume: raw values, our colours, low values transparent, a legend."""
    import slicer

    map_ = extended(overlay.map)
    values = map_.array
    limit = overlay.displayed
    node = add_array(scene, map_.with_array(values.astype(np.float32)), overlay.name)
    node.SetDescription(overlay.title)
    node.SetAttribute("MedXAI.Caveats", " ".join(overlay.caveats))
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(heat_colors(scene, overlay.signed).GetID())
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(-limit if overlay.signed else 0, limit)
    node.SetAttribute("MedXAI.Window", f"{-limit if overlay.signed else 0.0!r} {limit!r}")
    display.SetAutoThreshold(0)
    if not overlay.signed:
        display.SetThreshold(THRESHOLD * limit, max(limit, float(values.max())))
        display.SetApplyThreshold(1)
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(display)
    legend.SetTitleText(f"{overlay.name}\nraw value")
    legend.SetSize(0.12, 0.45)
    legend.SetPosition(0.97, 0.5)
    legend.SetNumberOfLabels(5)
    legend.SetLabelFormat("%.3g")
    legend.GetTitleTextProperty().SetFontSize(12)
    legend.GetLabelTextProperty().SetFontSize(11)
    legend.SetVisibility(False)
    return node


def heat_colors(scene: Node, signed: bool) -> Node:
    """Our colour table as a node, made once for each scene."""
    name = "MedXAI against - in favour" if signed else "MedXAI heat"
    node = scene.GetFirstNode(name, "vtkMRMLColorTableNode")
    if node is None:
        node = add_color_table(scene, name, heat_table(signed))
        node.SetHideFromEditors(False)
    return node


def add_color_table(scene: Node, name: str, colors: NDArray[np.float64], names: Sequence[str] | None = None) -> Node:
    """A colour table of our own.

    :param colors: (count, 4) r, g, b, alpha in 0..1.
    """
    node = scene.AddNewNodeByClass("vtkMRMLColorTableNode", name)
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colors))
    for index, color in enumerate(colors):
        node.SetColor(index, names[index] if names else str(index), *(float(part) for part in color))
    return node


def add_labels(scene: Node, labels: Labels, name: str, reference: Node, *, fill: float) -> Node:
    """Labels as a segmentation node with their names and colours; ``fill``: opacity inside the 2D outline."""
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    label_node = add_label_map(scene, labels, name)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(label_node, node)
    for made in (label_node.GetDisplayNode().GetColorNode(), label_node.GetDisplayNode(), label_node):
        scene.RemoveNode(made)
    node.SetAttribute("MedXAI.Notice", NOTICE)
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(fill > 0)
    display.SetOpacity2DFill(fill or 1.0)
    display.SetVisibility2DOutline(True)
    display.SetOpacity3D(0.4)
    display.SetSliceIntersectionThickness(2)
    return node


def add_label_map(scene: Node, labels: Labels, name: str) -> Node:
    """Labels as a label-map volume with a colour table of their names and colours."""
    highest = max((row.value for row in labels.rows), default=0)
    colors, names = np.zeros((highest + 1, 4)), [""] * (highest + 1)
    for row in labels.rows:
        colors[row.value], names[row.value] = (*row.color, 1.0), row.name
    node = add_array(scene, labels.volume, name, "vtkMRMLLabelMapVolumeNode")
    node.GetDisplayNode().SetAndObserveColorNodeID(add_color_table(scene, f"{name} colors", colors, names).GetID())
    return node


def add_array(scene: Node, volume: Volume, name: str, kind: str = "vtkMRMLScalarVolumeNode") -> Node:
    """An array with its geometry as a volume node with a display node."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    array = storable(volume.array)
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(array.reshape(-1, volume.channels), deep=True))
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(volume.affine.ravel())
    node = scene.AddNewNodeByClass(kind, name)
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(image)
    node.CreateDefaultDisplayNodes()
    node.SetAttribute("MedXAI.Notice", NOTICE)
    return node


def storable(array: NDArray[Any]) -> NDArray[Any]:
    """The array in a type that Slicer can hold: it knows neither truth values nor half floats nor 64-bit integers."""
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        bounds = np.iinfo(np.int32)
        array = array.astype(np.int32 if bounds.min <= array.min() and array.max() <= bounds.max else np.float64)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def grey(volume: Volume) -> Volume:
    """One channel: the luminance (ITU-R 601) of RGB, else the first one."""
    if volume.array.ndim == 3:
        return volume
    if volume.channels == 3:
        return volume.with_array(volume.array @ np.array([0.299, 0.587, 0.114], np.float32))
    return volume.with_array(np.ascontiguousarray(volume.array[..., 0]))


def volume_of(node: Node) -> Volume:
    """A volume node's voxels and place, without its parent transform; the voxels are shared, not copied.

    The series and SOP instance UIDs of a volume that Slicer loaded from DICOM come along.

    :raises InputError: for a node without voxels, or a sheared one.
    """
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    name, image = node.GetName(), node.GetImageData()
    if image is None or not image.GetPointData().GetScalars() or 0 in image.GetDimensions():
        raise InputError("this volume has no voxels", "load or choose another one", about=name)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    array, channels = vtk_to_numpy(image.GetPointData().GetScalars()), image.GetNumberOfScalarComponents()
    array = array.reshape(*image.GetDimensions()[::-1], *([channels] if channels > 1 else []))
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    series = {"series": series_uid(node), "sop": uids} if uids else {}
    try:
        return Volume(array, affine, Source(name, "MRML", series, assumed=GEOMETRY if is_picture(node) else ()))
    except ValueError as error:
        remedy = "harden its transform or resample it (module Resample Scalar Volume), then choose the result"
        raise InputError(str(error), remedy, about=name) from None


def is_picture(node: Node) -> bool:
    """Whether Slicer loaded the node from a picture file, which has no place in a patient."""
    storage = node.GetStorageNode()
    return storage is not None and (storage.GetFileName() or "").lower().endswith(PICTURES)


def series_uid(node: Node) -> str:
    """The DICOM series instance UID that the subject hierarchy knows of a node."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    return hierarchy.GetItemUID(hierarchy.GetItemByDataNode(node), "DICOM") if hierarchy else ""


def labels_of(segmentation: Node, reference: Node) -> Labels:
    """A segmentation node as Labels on the grid of a volume node; the parent transforms of both count.

    :raises InputError: for a segmentation without segments.
    """
    import vtk

    ids = vtk.vtkStringArray()
    segmentation.GetSegmentation().GetSegmentIDs(ids)
    names = [ids.GetValue(n) for n in range(ids.GetNumberOfValues())]
    if not names:
        raise InputError("this segmentation has no segments", "choose another one", about=segmentation.GetName())
    if segmentation.GetSegmentation().GetNumberOfLayers() > 1:
        volumes = [exported(segmentation, [name], reference) for name in names]
        merged, shared = overlaid((volume.array > 0 for volume in volumes), range(1, len(names) + 1))
        volume = volumes[0].with_array(merged)
    else:
        volume, shared = exported(segmentation, names, reference), [()] * len(names)
    segments = [segmentation.GetSegmentation().GetSegment(name) for name in names]
    rows = zip(segments, shared, strict=True)
    return Labels(volume, tuple(Label(n, s.GetName(), s.GetColor(), also) for n, (s, also) in enumerate(rows, 1)))


def exported(segmentation: Node, names: Sequence[str], reference: Node) -> Volume:
    """Segments by their IDs as a label map on the grid of a volume node: 1, 2, 3 ..."""
    import slicer
    import vtk

    ids = vtk.vtkStringArray()
    for name in names:
        ids.InsertNextValue(name)
    scene = segmentation.GetScene()
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    try:
        slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(segmentation, ids, node, reference)
        volume = volume_of(node)
        return volume.with_array(volume.array.copy())
    finally:
        scene.RemoveNode(node)
