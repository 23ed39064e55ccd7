"""Volume renderings: a volume and its map in the 3D views, and from where they are seen."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..geometry.volume import Volume
from .host import Host, Node
from .nodes import grey, window
from .overlay import Overlay, centre
from .palette import THRESHOLD, heat_table

Row = tuple[float, float, float, float, float]
"""Value, opacity, r, g, b: a point of a transfer function."""


def render_context(host: Host, node: Node, volume: Volume) -> None:
    """Show a volume in 3D as faint shaded surfaces around whatever glows inside; air is transparent."""
    import vtk

    low, high = window(volume.array)
    rows = [(0.0, 0.0, 0.3), (0.2, 0.0, 0.6), (0.4, 0.05, 0.8), (1.0, 0.1, 1.0)]
    properties = render_volume(host, node, volume, [(low + at * (high - low), alpha, g, g, g) for at, alpha, g in rows])
    edges = vtk.vtkPiecewiseFunction()
    edges.AddPoint(0, 0.06)
    edges.AddPoint(0.12 * (high - low), 1.0)
    properties.SetGradientOpacity(edges)
    properties.GetVolumeProperty().ShadeOn()
    properties.GetVolumeProperty().SetAmbient(0.35)
    properties.GetVolumeProperty().SetDiffuse(0.7)


def render_map(host: Host, node: Node, overlay: Overlay) -> None:
    """Show a heat map in 3D in the colours of its table, the denser the stronger."""
    table, limit = heat_table(overlay.signed), overlay.displayed
    low = -1 if overlay.signed else 0
    rows: list[Row] = []
    for fraction in np.linspace(low, 1, 41).tolist():
        red, green, blue = table[round((fraction - low) / (1 - low) * (len(table) - 1)), :3].tolist()
        alpha = 0.5 * max(0.0, (abs(fraction) - THRESHOLD) / (1 - THRESHOLD))
        rows.append((fraction * limit, alpha, red, green, blue))
    render_volume(host, node, overlay.map, rows)


def render_volume(host: Host, node: Node, volume: Volume, rows: Iterable[Row]) -> Node:
    """Show a node in 3D with a transfer function; its vtkMRMLVolumePropertyNode is returned."""
    properties = host.scene.AddNewNodeByClass("vtkMRMLVolumePropertyNode", f"{node.GetName()} rendering")
    set_transfer(properties, rows)
    properties.GetVolumeProperty().SetInterpolationTypeToLinear()
    diagonal = np.linalg.norm(volume.spacing * volume.shape)
    properties.GetVolumeProperty().SetScalarOpacityUnitDistance(diagonal / 250)  # the same look for a mouse and a man
    display = host.scene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
    display.SetAndObserveVolumePropertyNodeID(properties.GetID())
    node.AddAndObserveDisplayNodeID(display.GetID())
    display.SetVisibility(True)
    return properties


def set_transfer(properties: Node, rows: Iterable[Row]) -> None:
    """Give a vtkMRMLVolumePropertyNode a transfer function."""
    import vtk

    opacity, color = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for value, alpha, red, green, blue in rows:
        opacity.AddPoint(value, alpha)
        color.AddRGBPoint(value, red, green, blue)
    properties.SetScalarOpacity(opacity)
    properties.SetColor(color)


def rendering_of(node: Node) -> Node | None:
    """The display node of a volume node's rendering, or None."""
    found = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    return next((each for each in found if each and each.IsA("vtkMRMLVolumeRenderingDisplayNode")), None)


def front_view(volume: Volume, towards: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Where to look from in 3D: from the front and above, on the side of the RAS point ``towards``.

    :return: the middle of the body (all but air) in RAS mm, the unit vector from it to the eye, and the
        height and width in mm of the square that shows all of it.
    """
    side = 1.0 if towards[0] >= centre(volume)[0] else -1.0
    backward = np.array([0.65 * side, 0.7, 0.4]) / np.linalg.norm([0.65, 0.7, 0.4])
    right = np.cross([0, 0, 1], backward) / np.linalg.norm(backward[:2])
    screen = np.column_stack([right, np.cross(backward, right), backward])
    array = grey(volume).array
    low, high = window(array)
    body = np.argwhere(array > low + 0.25 * (high - low))[::7, ::-1]
    across = volume.ras(body if len(body) else np.array([[0, 0, 0], np.array(volume.shape) - 1])) @ screen
    first, last = across.min(axis=0), across.max(axis=0)
    return screen @ ((first + last) / 2), backward, float(1.1 * (last - first)[:2].max())
