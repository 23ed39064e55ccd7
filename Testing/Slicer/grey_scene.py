"""A scene of our own with a grey volume in it, and maps whose value depends on R: what its slice views show is known."""

from __future__ import annotations

import numpy as np

from MedXAILib.geometry.volume import Volume
from MedXAILib.mrml.appearance import KIND
from MedXAILib.mrml.nodes import add_map, add_volume
from MedXAILib.mrml.overlay import Overlay
from MedXAILib.outputs.pictures.stage import blended

N, MIDDLE = 40, 20.0
GREY = 127
RAMP = np.linspace(-1, 1, N)


def affine() -> np.ndarray:
    """1 mm voxels, the middle of the grid at R = A = S = 20."""
    matrix = np.eye(4)
    matrix[:3, 3] = MIDDLE - (N - 1) / 2
    return matrix


def add_grey(host):
    node = add_volume(host.scene, Volume(np.full((N, N, N), GREY, np.uint8), affine()), "grey")
    node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    return node


def add_heat(host, values: np.ndarray, signed: bool, name: str = "map"):
    """A map whose value depends on R: ``values`` along i."""
    array = np.broadcast_to(values.astype(np.float32), (N, N, N)).copy()
    node = add_map(host.scene, Overlay(name=name, map=Volume(array, affine()), signed=signed, target=name))
    node.SetAttribute(KIND, "map")
    return node


def line(host, view: str = "Red") -> np.ndarray:
    """RGB of each voxel along R, through the middle of an axial slice."""
    logic = host.application.GetSliceLogicByLayoutName(view)
    logic.GetSliceNode().SetDimensions(10 * N, 10 * N, 1)
    logic.FitSliceToBackground()
    return blended(logic)[5 * N, 5::10, :3].astype(int)  # the view is not turned: R to the right
