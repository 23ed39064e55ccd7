"""The 3D view of the picture, drawn in a process of its own.

An OpenGL driver that is missing or broken may end its whole process: here that costs one panel of the
picture. What is drawn passes through files in a private folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...geometry.grid import Grid
from ...geometry.labels import Label, Labels
from ...geometry.resample import resample
from ...geometry.volume import Volume
from ...mrml.host import Host, Node, private_scene
from ...mrml.nodes import add_labels, add_map, add_volume, grey
from ...mrml.overlay import Overlay
from ...mrml.rendering import front_view, render_context, render_map

TIME_LIMIT, TIME_EACH = 60, 20
"""Seconds after which the drawing is given up, and how many more for each map."""
DETAIL = 112
"""Most voxels along an axis of what is drawn: more is not seen in a panel, but takes long without a GPU."""


class Rendering:
    """Draws the faint volume with each map and its regions in 3D, beginning at once, in another process.

    :param size: width and height of a picture in pixels.
    :ivar reason: why pictures are missing, where some are.
    """

    def __init__(self, volume: Volume, overlays: Sequence[Overlay], size: int) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="medxai-")
        self.count = len(overlays)
        folder = Path(self.folder.name)
        pack(folder / "volume.npz", coarse(grey(volume)))
        for number, overlay in enumerate(overlays):
            pack(folder / f"map{number}.npz", coarse(overlay.map), signed=overlay.signed)
            if overlay.regions:
                rows = overlay.regions.rows
                values, colors = np.array([row.value for row in rows]), np.array([row.color for row in rows])
                pack(folder / f"regions{number}.npz", coarse(overlay.regions.volume, 0), values=values, colors=colors)
        self.process = start(folder, self.count, size)
        self.reason = "OpenGL is missing here, or failed"

    def pictures(self) -> list[NDArray[np.uint8] | None]:
        """Wait for the images (height, width, 3) uint8; None for each that failed or came too late."""
        with self.folder as folder:
            if self.process:
                try:
                    self.process.wait(TIME_LIMIT + TIME_EACH * self.count)
                except subprocess.TimeoutExpired:  # what was drawn until now is kept
                    self.reason = "rendering timed out"
                finally:
                    self.process.kill()
                    self.process.wait()
            files = [Path(folder) / f"picture{number}.npy" for number in range(self.count)]
            return [np.load(file) if file.is_file() else None for file in files]


def start(folder: Path, count: int, size: int) -> subprocess.Popen[bytes] | None:
    """Start :func:`draw` with this Python, silently; None where no process can be started."""
    library = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    nowhere = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), str(count), str(size)],
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
            env=os.environ | {"PYTHONPATH": path},
        )
    except OSError:
        return None


def pack(path: Path, volume: Volume, **more: Any) -> None:
    """A volume, and what else there is of it, as a file for the other process."""
    np.savez(path, array=volume.array, affine=volume.affine, **more)


def unpack(path: Path) -> tuple[Volume, dict[str, Any]]:
    """What :func:`pack` wrote."""
    with np.load(path) as packed:
        parts = dict(packed)
    return Volume(parts.pop("array"), parts.pop("affine")), parts


def coarse(volume: Volume, order: int = 1) -> Volume:
    """The volume with at most :data:`DETAIL` voxels along each axis, over the same box.

    At least 3, too: a single slice has no thickness for a ray.
    """
    i, j, k = (min(max(n, 3), DETAIL) for n in volume.shape)
    step = np.array(volume.shape) / (i, j, k)
    if np.all(step == 1):
        return volume
    affine = volume.affine @ np.diag([*step, 1.0])
    affine[:3, 3] = volume.ras((step - 1) / 2)
    return resample(volume, Grid((i, j, k), affine), order=order)


def draw(folder: Path, count: int, size: int) -> None:
    """The work of the child process: a picture for each map, saved as soon as it is drawn."""
    volume, _ = unpack(folder / "volume.npz")
    host = private_scene()
    node = add_volume(host.scene, volume, "volume")
    render_context(host, node, volume)
    view = open_view(host, size)
    for number in range(count):
        values, more = unpack(folder / f"map{number}.npz")
        overlay = Overlay(name="map", map=values, signed=bool(more["signed"]))
        shown = [add_map(host.scene, overlay)]
        render_map(host, shown[0], overlay)
        if (folder / f"regions{number}.npz").is_file():
            values, more = unpack(folder / f"regions{number}.npz")
            rows = zip(more["values"], more["colors"], strict=True)
            regions = Labels(values, tuple(Label(int(value), str(value), tuple(color)) for value, color in rows))
            shown.append(add_labels(host.scene, regions, "regions", node, fill=0.0))
            shown[1].CreateClosedSurfaceRepresentation()
        set_camera(view, volume, overlay.peak)
        np.save(folder / "unfinished.npy", photograph(view))
        os.replace(folder / "unfinished.npy", folder / f"picture{number}.npy")
        for finished in shown:
            host.scene.RemoveNode(finished)


@dataclass(frozen=True, eq=False)
class View:
    """Slicer's 3D view in a window that is not shown; all parts must be kept alive."""

    renderer: Node
    window: Node
    interactor: Node
    managers: Node


def open_view(host: Host, size: int) -> View:
    """A 3D view of the scene, of this width and height in pixels."""
    import slicer
    import vtk

    renderer, window, interactor = vtk.vtkRenderer(), vtk.vtkRenderWindow(), vtk.vtkGenericRenderWindowInteractor()
    window.SetOffScreenRendering(True)
    window.SetSize(size, size)
    window.AddRenderer(renderer)
    interactor.SetRenderWindow(window)
    factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(host.application)
    for manager in ("vtkMRMLVolumeRenderingDisplayableManager", "vtkMRMLSegmentationsDisplayableManager3D"):
        if not factory.IsDisplayableManagerRegistered(manager):
            factory.RegisterDisplayableManager(manager)
    managers = slicer.vtkMRMLDisplayableManagerGroup()
    managers.Initialize(factory, renderer)
    managers.SetMRMLDisplayableNode(host.scene.GetSingletonNode("1", "vtkMRMLViewNode"))
    return View(renderer, window, interactor, managers)


def set_camera(view: View, volume: Volume, towards: NDArray[np.float64]) -> None:
    """Look at the body from :func:`~MedXAILib.mrml.rendering.front_view`, without perspective."""
    middle, backward, height = front_view(volume, towards)
    camera = view.renderer.GetActiveCamera()
    camera.ParallelProjectionOn()
    camera.SetParallelScale(height / 2)
    camera.SetFocalPoint(*middle)
    camera.SetPosition(*(middle + 5 * height * backward))
    camera.SetViewUp(0, 0, 1)
    view.renderer.ResetCameraClippingRange()


def photograph(view: View) -> NDArray[np.uint8]:
    """What the view shows, (height, width, 3) uint8."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    view.window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.window)
    grab.ReadFrontBufferOff()
    grab.ShouldRerenderOff()
    grab.Update()
    width, height = view.window.GetSize()
    pixels: NDArray[Any] = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    return np.ascontiguousarray(pixels.reshape(height, width, 3)[::-1])


if __name__ == "__main__":
    draw(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
