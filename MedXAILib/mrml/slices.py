"""Where a slice view lies in the patient: its plane, and the pixel of a place."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry.affine import apply, directions, nearest_axes
from ..geometry.volume import Volume
from .host import Node


def set_slice_plane(slice_node: Node, volume: Volume, plane: str, point: ArrayLike) -> None:
    """Orient a slice node, put it through a RAS point, and fit the whole volume into the view.

    :param plane: Axial, Sagittal or Coronal; a volume of one slice is shown in its own plane instead.
    """
    slice_node.SetOrientation(plane)
    axes = axes_of(slice_node)
    if min(volume.shape) == 1:  # an oblique plane would cut a single slice in a line only
        axes = own_axes(volume, axes)
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.shape])).reshape(3, -1).T
    within = apply(volume.affine, corners) @ axes  # along the slice's right, up and normal
    low, high = within.min(axis=0), within.max(axis=0)
    target = (low + high) / 2
    target[2] = np.asarray(point, float) @ axes[:, 2]
    matrix = slice_node.GetSliceToRAS()
    for row, values in enumerate(np.column_stack([axes, axes @ target])):
        for column, value in enumerate(values):
            matrix.SetElement(row, column, float(value))
    width, height, _ = slice_node.GetDimensions()
    scale = 1.04 * max((high[0] - low[0]) / width, (high[1] - low[1]) / height)  # mm for each pixel
    slice_node.SetFieldOfView(width * scale, height * scale, 1.0)
    slice_node.SetXYZOrigin(0, 0, 0)
    slice_node.UpdateMatrices()


def axes_of(slice_node: Node) -> NDArray[np.float64]:
    """3x3, the RAS directions of a slice's right, up and normal as columns."""
    matrix = slice_node.GetSliceToRAS()
    return np.array([[matrix.GetElement(row, column) for column in range(3)] for row in range(3)])


def own_axes(volume: Volume, axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The volume's own axes in the order and direction that come nearest to ``axes``."""
    order = nearest_axes(volume.affine)
    unit = directions(volume.affine)
    columns = [unit[:, order.index(int(np.argmax(np.abs(axis))))] for axis in axes.T]
    return np.column_stack([column * np.sign(column @ axis) for column, axis in zip(columns, axes.T, strict=True)])


def xy_of(slice_node: Node, ras: ArrayLike) -> tuple[float, float]:
    """Where a RAS point lies in a view: pixels from the left and from below, 0 in the middle of the first pixel."""
    import vtk

    inverse = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(slice_node.GetXYToRAS(), inverse)
    x, y, _, _ = inverse.MultiplyPoint((*(float(part) for part in np.asarray(ras)), 1.0))
    return x, y


def is_in_view(slice_node: Node, ras: ArrayLike) -> bool:
    """Whether a RAS point lies before the view's field of view, in its slice or not."""
    width, height, _ = slice_node.GetDimensions()
    x, y = xy_of(slice_node, ras)
    return bool(0 <= x < width and 0 <= y < height)
