"""A private scene to photograph: slices as Slicer's own slice logic composes them.

Their pixels (resampling, window, colours, threshold, opacity, outlines) need no OpenGL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...geometry.labels import Labels
from ...geometry.volume import Volume
from ...mrml.host import Host, Node, private_scene
from ...mrml.layers import OPACITY
from ...mrml.nodes import add_label_map, add_map, add_volume
from ...mrml.overlay import Overlay
from ...mrml.slices import set_slice_plane, xy_of

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Stage:
    """A private scene that holds the volume, and a slice view to photograph it with."""

    host: Host
    volume: Volume
    node: Node
    view: Node
    """vtkMRMLSliceLogic"""
    outlines: tuple[Node, ...] = ()
    """Label-map nodes drawn in every slice."""


def set_stage(volume: Volume, segmentation: Labels | None = None) -> Stage:
    """A scene with a volume, and with the outlines of its segmentation, a pixel wide."""
    host = private_scene()
    node = add_volume(host.scene, volume, "volume")
    outlines = (outlined(host, segmentation, 1),) if segmentation else ()
    return Stage(host, volume, node, host.application.GetSliceLogicByLayoutName("Red"), outlines)


def outlined(host: Host, labels: Labels, thickness: int) -> Node:
    """Labels as a label-map node whose outline is this many pixels wide."""
    node = add_label_map(host.scene, labels, "outlines")
    node.GetDisplayNode().SetSliceIntersectionThickness(thickness)
    return node


def overlay_nodes(stage: Stage, overlay: Overlay | None) -> tuple[Node | None, tuple[Node, ...]]:
    """The map's node, and the label maps to outline with it."""
    if overlay is None:
        return None, stage.outlines
    regions = (outlined(stage.host, overlay.regions, 2),) if overlay.regions else ()
    return add_map(stage.host.scene, overlay), (*stage.outlines, *regions)


def slice_image(
    stage: Stage,
    plane: str,
    point: ArrayLike,
    size: int,
    heat: Node | None = None,
    outlines: tuple[Node, ...] = (),
) -> Image:
    """A square slice through a RAS point as Slicer composes it; the map, whose cells may hang over the volume's edge, ends
    there.

    :param heat: node of the map laid over the volume.
    :param outlines: label-map nodes, the last one on top.
    """
    from PIL import Image

    slice_node, layers = stage.view.GetSliceNode(), stage.view.GetSliceCompositeNode()
    slice_node.SetDimensions(size, size, 1)
    slice_node.SetUseLabelOutline(True)
    set_slice_plane(slice_node, stage.volume, plane, point)
    layers.SetForegroundOpacity(OPACITY)
    image = Image.new("RGBA", (size, size), (0, 0, 0, 255))

    def layer(below: Node | None = None, above: Node | None = None, lines: Node | None = None) -> NDArray[np.uint8]:
        layers.SetBackgroundVolumeID(below and below.GetID())
        layers.SetForegroundVolumeID(above and above.GetID())
        layers.SetLabelVolumeID(lines and lines.GetID())
        return blended(stage.view)

    beyond = layer(stage.node)[..., 3] == 0
    pixels = layer(stage.node, heat)
    pixels[beyond] = 0
    image.alpha_composite(Image.fromarray(pixels))
    for node in outlines:
        image.alpha_composite(Image.fromarray(layer(lines=node)))
    return image.convert("RGB")


def blended(view: Node) -> NDArray[np.uint8]:
    """The blended image of a slice logic, (row from the top, column, RGBA) uint8."""
    from vtk.util.numpy_support import vtk_to_numpy

    connection = view.GetImageDataConnection()
    producer = connection.GetProducer()
    producer.Update()
    image = producer.GetOutputDataObject(connection.GetIndex())
    columns, rows, _ = image.GetDimensions()
    pixels: NDArray[Any] = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 4)
    return np.ascontiguousarray(pixels[::-1])


def pixel_of(stage: Stage, point: ArrayLike) -> tuple[float, float]:
    """Column and row (from the top) of the centre of the pixel at a RAS point in the view as it is set."""
    x, y = xy_of(stage.view.GetSliceNode(), point)
    return x, stage.view.GetSliceNode().GetDimensions()[1] - 1 - y


def within(volume: Volume, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place in a volume that is nearest to a point: a map's outermost cells may have their centres beyond its edge."""
    return volume.ras(np.clip(volume.ijk(point), 0, np.array(volume.shape) - 1))
