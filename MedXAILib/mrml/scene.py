"""The MRML scene: volume, heat maps, outlines and their display, as 3D Slicer shows them.

Everything here goes through the ``slicer`` package: inside 3D Slicer that is the application, elsewhere
the wheel slicer-core (extra ``scene``), which is the same C++ without a window. Only :func:`open_scene`
and :func:`private_scene` know which of the two it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import NOTICE
from ..errors import InputError
from ..geometry.affine import apply, directions, nearest_axes
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from ..outputs.staging import claimed, partial
from .colors import THRESHOLD, heat_table
from .nodes import Overlay, add_labels, add_map, add_volume, centre, grey, window

OPACITY = 0.5
"""Opacity of a heat map over its volume."""

NO_PLACE = (
    "the file does not say how the image lies in the patient: directions, coordinates and lengths that Slicer shows for it "
    "mean nothing."
)
PLANES = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
"""Slicer's slice views and their orientation."""


@dataclass(frozen=True, eq=False)
class Host:
    """A MRML scene and the logics that work on it."""

    scene: object
    application: object
    """vtkMRMLApplicationLogic: finds module logics and slice logics by name."""
    owned: tuple = ()
    """Logics that live as long as this object; empty in the application, which owns its own."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What :func:`build_scene` made: the nodes, in the order of the overlays."""

    host: Host
    volume: object
    maps: list
    regions: list
    """A segmentation node, or None, for each overlay."""
    segmentation: object | None


def open_scene() -> Host:
    """The scene of the running application; without one, a new scene of our own.

    :raises InputError: where neither 3D Slicer nor slicer-core is there.
    """
    slicer = import_slicer()
    if getattr(slicer, "app", None) is not None and getattr(slicer, "mrmlScene", None) is not None:
        return Host(slicer.mrmlScene, slicer.app.applicationLogic())
    return private_scene()


def private_scene() -> Host:
    """A new scene with its own logics and slice views, independent of any application.

    :raises InputError: where neither 3D Slicer nor slicer-core is there.
    """
    slicer = import_slicer()
    import vtk

    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.SetSliceLogics(vtk.vtkCollection())
    owned = [application]
    with quiet():  # the wheel brings no colour files and says so on stderr
        for name, make in (
            ("Colors", slicer.vtkSlicerColorLogic),
            ("Volumes", slicer.vtkSlicerVolumesLogic),
            ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic),
            ("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic),
            ("Texts", slicer.vtkSlicerTextsLogic),
            ("VolumeRendering", slicer.vtkSlicerVolumeRenderingLogic),
        ):
            logic = make()
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(scene)
            application.SetModuleLogic(name, logic)
            owned.append(logic)
        owned[1].AddDefaultColorNodes()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    for view in PLANES:
        application.GetSliceLogics().AddItem(add_slice_view(scene, application, view))
    view = slicer.vtkMRMLViewNode()
    view.SetName("View1")
    view.SetLayoutName("1")
    view.SetLayoutLabel("1")
    scene.AddNode(view)
    return Host(scene, application, tuple(owned))


def add_slice_view(scene, application, name: str):
    """A slice logic with a slice node of this layout name."""
    import slicer

    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode(name)
    node.SetLayoutLabel(name[0])
    if name in PLANES:
        node.SetLayoutColor(getattr(slicer.vtkMRMLSliceNode, f"Get{name}Color")())
        node.SetDimensions(400, 400, 1)
    return logic


def import_slicer():
    try:
        import slicer

        slicer.vtkMRMLScene  # noqa: B018  (another package of the same name has none)
    except (ImportError, AttributeError):
        raise InputError(
            "A scene or a snapshot needs the package slicer-core: install it with pip install slicer-core."
        ) from None
    return slicer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep VTK's own messages off stderr."""
    import vtk

    before = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtk.vtkLogger.SetStderrVerbosity(before)


def build_scene(
    volume: Volume,
    overlays: list[Overlay],
    segmentation: Labels | None = None,
    *,
    heading: str = "",
    host: Host | None = None,
) -> Scene:
    """Put everything into a scene, displayed as in the pictures: slices through the first map's peak.

    :param volume: one channel, or three (RGB); of other numbers the first channel is shown.
    :param segmentation: shown beside the maps, with its names and colours.
    :param heading: what was explained (model, input); kept as a text node and in the volume's description.
    :param host: where to; by default :func:`open_scene`.
    :raises InputError: where neither 3D Slicer nor slicer-core is there.
    """
    host = host or open_scene()
    node = add_volume(host.scene, volume, Path(volume.source.name).name.split(".")[0] or "volume")
    node.SetDescription(heading if volume.placed else f"{heading} · {NO_PLACE}")
    maps = [add_map(host.scene, overlay) for overlay in overlays]
    regions = [
        overlay.regions and add_labels(host.scene, overlay.regions, f"{overlay.name} regions", node, fill=0.0)
        for overlay in overlays
    ]
    shown = segmentation and add_labels(host.scene, segmentation, "segmentation", node, fill=0.25)
    add_notice(host, heading, overlays, volume)
    show_in_slices(host, volume, node, *((overlays[0], maps[0]) if maps else (None, None)))
    if maps and min(volume.shape) > 1:
        show_in_3d(host, volume, node, overlays[0], maps[0])
    return Scene(host, node, maps, regions, shown)


def add_notice(host: Host, heading: str, overlays: list[Overlay], volume: Volume) -> None:
    """A text node: what this is, what limits belief in each map, and what it must not be used for."""
    lines = [NOTICE + ". Maps show influence on the model, not pathology.", heading]
    if not volume.placed:
        lines.append(f"{volume.source.name}: {NO_PLACE}")
    for overlay in overlays:
        lines += ["", overlay.title, *overlay.limits]
    node = host.scene.AddNewNodeByClass("vtkMRMLTextNode", NOTICE)
    node.SetText("\n".join(lines))
    node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)


def show_in_slices(host: Host, volume: Volume, node, overlay: Overlay | None, heat) -> None:
    """Set Red, Yellow and Green up: the map (node ``heat``) over the volume, through its peak, with its legend.

    Further maps are chosen in the slice views. As further layers they would cover the first one: their
    opacity is not saved with a scene.
    """
    import slicer

    point = overlay.peak if overlay else centre(volume)
    for view, plane in PLANES.items():
        logic = host.application.GetSliceLogicByLayoutName(view)
        if logic is None:  # a view that the application's layout does not have
            continue
        layers = logic.GetSliceCompositeNode()
        layers.SetBackgroundVolumeID(node.GetID())
        layers.SetForegroundVolumeID(heat and heat.GetID())
        layers.SetForegroundOpacity(OPACITY)
        aim(logic.GetSliceNode(), volume, plane, point)
    if heat:
        slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(heat.GetDisplayNode()).SetVisibility(True)


def show_in_3d(host: Host, volume: Volume, node, overlay: Overlay, heat) -> None:
    """Volume renderings of the faint volume and of the map (node ``heat``), seen from the map's side."""
    if volume.channels != 3:
        render_skin(host, node, volume)
    render_glow(host, heat, overlay)
    camera = host.scene.GetSingletonNode("1", "vtkMRMLCameraNode") or host.scene.AddNewNodeByClass("vtkMRMLCameraNode")
    camera.SetLayoutName("1")
    middle, backward, height = front_view(volume, overlay.peak)
    camera.SetFocalPoint(*middle)
    distance = 0.6 * height / np.tan(np.radians(camera.GetViewAngle() / 2))  # half the height, and some depth
    camera.SetPosition(*(middle + distance * backward))
    camera.SetViewUp(0, 0, 1)


def front_view(volume: Volume, towards: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
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


def aim(slice_node, volume: Volume, plane: str, point: np.ndarray) -> None:
    """Orient a slice node, put it through a RAS point, and fit the whole volume into the view."""
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


def axes_of(slice_node) -> np.ndarray:
    """3x3, the RAS directions of a slice's right, up and normal as columns."""
    matrix = slice_node.GetSliceToRAS()
    return np.array([[matrix.GetElement(row, column) for column in range(3)] for row in range(3)])


def own_axes(volume: Volume, axes: np.ndarray) -> np.ndarray:
    """The volume's own axes in the order and direction that come nearest to ``axes``."""
    order = nearest_axes(volume.affine)
    unit = directions(volume.affine)
    columns = [unit[:, order.index(int(np.argmax(np.abs(axis))))] for axis in axes.T]
    return np.column_stack([column * np.sign(column @ axis) for column, axis in zip(columns, axes.T, strict=True)])


def render_skin(host: Host, node, volume: Volume) -> None:
    """Show a volume in 3D as faint shaded surfaces around whatever glows inside; air is transparent."""
    low, high = window(volume.array)
    rows = [(0.0, 0.0, 0.3), (0.2, 0.0, 0.6), (0.4, 0.05, 0.8), (1.0, 0.1, 1.0)]
    property_ = render_volume(
        host, node, volume, [(low + at * (high - low), alpha, *[grey] * 3) for at, alpha, grey in rows]
    )
    import vtk

    edges = vtk.vtkPiecewiseFunction()
    edges.AddPoint(0, 0.06)
    edges.AddPoint(0.12 * (high - low), 1.0)
    property_.SetGradientOpacity(edges)
    property_.GetVolumeProperty().ShadeOn()
    property_.GetVolumeProperty().SetAmbient(0.35)
    property_.GetVolumeProperty().SetDiffuse(0.7)


def render_glow(host: Host, node, overlay: Overlay) -> None:
    """Show a heat map in 3D in the colours of its table, the denser the stronger."""
    table, limit = heat_table(overlay.signed), overlay.displayed
    low = -1 if overlay.signed else 0
    rows = []
    for share in np.linspace(low, 1, 41):
        color = table[round((share - low) / (1 - low) * (len(table) - 1)), :3]
        rows.append((share * limit, 0.5 * max(0.0, (abs(share) - THRESHOLD) / (1 - THRESHOLD)), *color))
    render_volume(host, node, overlay.map, rows)


def render_volume(host: Host, node, volume: Volume, rows: list[tuple[float, float, float, float, float]]):
    """Show a node in 3D with a transfer function of (value, opacity, r, g, b) rows; its property node is returned."""
    import vtk

    opacity, color = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for value, alpha, red, green, blue in rows:
        opacity.AddPoint(value, alpha)
        color.AddRGBPoint(value, red, green, blue)
    look = host.scene.AddNewNodeByClass("vtkMRMLVolumePropertyNode", f"{node.GetName()} rendering")
    look.SetScalarOpacity(opacity)
    look.SetColor(color)
    look.GetVolumeProperty().SetInterpolationTypeToLinear()
    diagonal = np.linalg.norm(volume.spacing * volume.shape)
    look.GetVolumeProperty().SetScalarOpacityUnitDistance(diagonal / 250)  # the same look for a mouse and a man
    display = host.scene.AddNewNodeByClass("vtkMRMLGPURayCastVolumeRenderingDisplayNode")
    display.SetAndObserveVolumePropertyNodeID(look.GetID())
    node.AddAndObserveDisplayNodeID(display.GetID())
    display.SetVisibility(True)
    return look


def save_scene(scene: Scene, path: str | Path) -> Path:
    """Write the scene as .mrb: whole or not at all.

    :raises InputError: for another suffix, or where the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise InputError(f"{path}: a scene is saved as .mrb; give it that suffix.")
    mrml = scene.host.scene
    before = mrml.GetURL(), mrml.GetRootDirectory()
    with written_whole(path) as beside:
        mrml.SetURL(str(beside.with_suffix(".mrml")))
        mrml.SetRootDirectory(str(beside.parent))
        try:
            if not mrml.WriteToMRB(str(beside)) or not beside.is_file():
                raise OSError("Slicer could not write it")
        finally:
            mrml.SetURL(before[0])
            mrml.SetRootDirectory(before[1])
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path of the same name in a private folder beside ``path``: at the end its file takes the place of ``path``.

    After an error nothing is left behind and what was there before stays.

    :raises InputError: where the file cannot be written.
    """
    path = Path(os.path.abspath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with claimed(partial(path, path.parent), path, f"writing {path.name}") as folder:
            yield folder / path.name
            os.replace(folder / path.name, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: the file cannot be written ({reason}); choose another place.") from None
