"""The MRML scene: volume, heat maps, outlines and their display, as 3D Slicer shows them.

Everything here goes through the ``slicer`` package: inside 3D Slicer that is the application, elsewhere
the wheel slicer-core (extra ``scene``), which is the same C++ without a window. Only :func:`open_scene`
and :func:`private_scene` know which of the two it is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import NOTICE
from ..errors import InputError
from ..volume import Labels, Volume, apply, directions, nearest_axes
from .colors import THRESHOLD, display_limit, heat_table

OPACITY = 0.5
"""Opacity of a heat map over its volume."""

PLANES = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
"""Slicer's slice views and their orientation."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """One heat map in the scene, one row of the picture."""

    name: str
    """Name of its node, such as ``lesion gradcam``."""
    map: Volume
    """Raw values, float32, on the map's own grid: MRML resamples for display."""
    signed: bool
    title: str
    """Such as ``lesion · p 0.97 · Grad-CAM features.6``."""
    limits: tuple[str, ...] = ()
    """What limits belief in it, one sentence each."""
    regions: Labels | None = None
    """Outlined in the slices."""

    @cached_property
    def displayed(self) -> float:
        """The largest displayed value, see :func:`display_limit`."""
        return display_limit(self.map.array)

    @cached_property
    def even(self) -> bool:
        """Whether every voxel has the same value."""
        return bool((self.map.array == self.map.array.flat[0]).all())

    @cached_property
    def peak(self) -> np.ndarray:
        """RAS mm of the strongest voxel; of several equally strong ones, the one nearest to their middle.

        The middle of the grid where the map is even: it has no peak.
        """
        if self.even:
            return centre(self.map)
        strength = np.abs(self.map.array)
        strongest = np.argwhere(strength == np.nanmax(strength))
        nearest = np.argmin(np.linalg.norm(strongest - strongest.mean(axis=0), axis=1))
        return self.map.ras(strongest[nearest][::-1])


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
            "A scene or a snapshot needs the package slicer-core: install it with pip install 'medxai[scene]'."
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
    node = add_volume(host, volume, Path(volume.source.name).name.split(".")[0] or "volume")
    node.SetDescription(heading)
    maps = [add_map(host, overlay) for overlay in overlays]
    regions = [
        overlay.regions and add_labels(host, overlay.regions, f"{overlay.name} regions", node, fill=0.0)
        for overlay in overlays
    ]
    shown = segmentation and add_labels(host, segmentation, "segmentation", node, fill=0.25)
    add_notice(host, heading, overlays)
    show_in_slices(host, volume, node, *((overlays[0], maps[0]) if maps else (None, None)))
    if maps and min(volume.shape) > 1:
        show_in_3d(host, volume, node, overlays[0], maps[0])
    return Scene(host, node, maps, regions, shown)


def add_volume(host: Host, volume: Volume, name: str):
    """The volume as a node: scalar with automatic window, or RGB."""
    rgb = volume.channels == 3
    array = volume.array if rgb else grey(volume).array
    kind = "vtkMRMLVectorVolumeNode" if rgb else "vtkMRMLScalarVolumeNode"
    node = add_array(host, volume.with_array(array), name, kind)
    display = node.GetDisplayNode()
    if rgb and array.dtype == np.uint8:
        display.SetAutoWindowLevel(0)
        display.SetWindowLevelMinMax(0, 255)
    elif not rgb:
        low, high = window(array)
        display.SetAutoWindowLevel(0)
        display.SetWindowLevelMinMax(low, high)
    return node


def window(array: np.ndarray) -> tuple[float, float]:
    """Display range: the 0.5 percentile to a little above the 99.5 one, so that a map's light colours stand out."""
    values = array.ravel()[:: max(1, array.size // 1_000_000)]
    low, high = (float(value) for value in np.nanpercentile(values, (0.5, 99.5)))
    return (low, low + 1.15 * (high - low)) if high > low else (low, low + 1.0)


def add_map(host: Host, overlay: Overlay):
    """A heat map as a scalar volume: raw values, our colours, low values transparent, a legend."""
    import slicer

    values = overlay.map.array
    limit = overlay.displayed
    node = add_array(host, overlay.map.with_array(values.astype(np.float32)), overlay.name)
    node.SetDescription(overlay.title)
    node.SetAttribute("MedXAI.Limits", " ".join(overlay.limits))
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(heat_colors(host, overlay.signed).GetID())
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(-limit if overlay.signed else 0, limit)
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


def heat_colors(host: Host, signed: bool):
    """Our colour table as a node, made once for each scene."""
    name = "MedXAI against - in favour" if signed else "MedXAI heat"
    node = host.scene.GetFirstNode(name, "vtkMRMLColorTableNode")
    if node is None:
        node = add_color_table(host, name, heat_table(signed))
        node.SetHideFromEditors(False)
    return node


def add_color_table(host: Host, name: str, colors: np.ndarray, names: list[str] | None = None):
    node = host.scene.AddNewNodeByClass("vtkMRMLColorTableNode", name)
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colors))
    for index, color in enumerate(colors):
        node.SetColor(index, names[index] if names else str(index), *(float(part) for part in color))
    return node


def add_labels(host: Host, labels: Labels, name: str, reference, *, fill: float):
    """Labels as a segmentation node with their names and colours; ``fill``: opacity inside the 2D outline."""
    import slicer

    node = host.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    label_node = add_label_map(host, labels, name)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(label_node, node)
    for made in (label_node.GetDisplayNode().GetColorNode(), label_node.GetDisplayNode(), label_node):
        host.scene.RemoveNode(made)
    node.SetAttribute("MedXAI.Notice", NOTICE)
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(fill > 0)
    display.SetOpacity2DFill(fill or 1.0)
    display.SetVisibility2DOutline(True)
    display.SetOpacity3D(0.4)
    display.SetSliceIntersectionThickness(2)
    return node


def add_label_map(host: Host, labels: Labels, name: str):
    """Labels as a label-map volume with a colour table of their names and colours."""
    highest = max((row.value for row in labels.rows), default=0)
    colors, names = np.zeros((highest + 1, 4)), [""] * (highest + 1)
    for row in labels.rows:
        colors[row.value], names[row.value] = (*row.color, 1.0), row.name
    node = add_array(host, labels.volume, name, "vtkMRMLLabelMapVolumeNode")
    node.GetDisplayNode().SetAndObserveColorNodeID(add_color_table(host, f"{name} colors", colors, names).GetID())
    return node


def add_array(host: Host, volume: Volume, name: str, kind: str = "vtkMRMLScalarVolumeNode"):
    """An array with its geometry as a volume node with a display node."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    array = storable(volume.array)
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(array.reshape(-1, volume.channels), deep=True))
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(volume.affine.ravel())
    node = host.scene.AddNewNodeByClass(kind, name)
    node.SetIJKToRASMatrix(matrix)
    node.SetAndObserveImageData(image)
    node.CreateDefaultDisplayNodes()
    node.SetAttribute("MedXAI.Notice", NOTICE)
    return node


def storable(array: np.ndarray) -> np.ndarray:
    """The array in a type that Slicer can hold: it knows neither truth values nor half floats nor 64-bit integers."""
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        bounds = np.iinfo(np.int32)
        array = array.astype(np.int32 if bounds.min <= array.min() and array.max() <= bounds.max else np.float64)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def add_notice(host: Host, heading: str, overlays: list[Overlay]) -> None:
    """A text node: what this is, what limits belief in each map, and what it must not be used for."""
    lines = [NOTICE + ". Maps show influence on the model, not pathology.", heading]
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


def grey(volume: Volume) -> Volume:
    """One channel: the luminance (ITU-R 601) of RGB, else the first one."""
    if volume.array.ndim == 3:
        return volume
    if volume.channels == 3:
        return volume.with_array(volume.array @ np.array([0.299, 0.587, 0.114], np.float32))
    return volume.with_array(np.ascontiguousarray(volume.array[..., 0]))


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


def centre(volume: Volume) -> np.ndarray:
    """RAS mm of the middle of the grid."""
    return volume.ras((np.array(volume.shape) - 1) / 2)


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".medxai-", dir=path.parent) as folder:
            yield Path(folder) / path.name
            os.replace(Path(folder) / path.name, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: the file cannot be written ({reason}); choose another place.") from None
