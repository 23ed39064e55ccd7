"""A scene as 3D Slicer shows it: volume, heat maps, outlines and their display; and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import NOTICE
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from .appearance import set_legend
from .host import VIEWS, Host, Node, open_scene
from .layers import OPACITY
from .nodes import add_labels, add_map, add_volume
from .overlay import Overlay, centre
from .rendering import front_view, render_context, render_map
from .slices import set_slice_plane

NO_PLACE = (
    "the file does not say how the image lies in the patient: directions, coordinates and lengths that Slicer shows for it "
    "mean nothing."
)


@dataclass(frozen=True, eq=False)
class Scene:
    """What :func:`build_scene` made: the nodes, in the order of the overlays."""

    host: Host
    volume: Node
    maps: list[Node]
    regions: list[Node | None]
    """A segmentation node, or None, for each overlay."""
    segmentation: Node | None


def build_scene(
    volume: Volume,
    overlays: Sequence[Overlay],
    segmentation: Labels | None = None,
    *,
    heading: str = "",
    host: Host | None = None,
) -> Scene:
    """Put everything into a scene, displayed as in the pictures: slices through the first map's peak.

    :param volume: one channel, or three (RGB); of other numbers the first channel is shown.
    :param segmentation: shown beside the maps, with its names and colours.
    :param heading: what was explained (model, input); kept as a text node and in the volume's description.
    :param host: where to; by default :func:`~MedXAILib.mrml.host.open_scene`.
    :raises PackageError: where neither 3D Slicer nor slicer-core is there.
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


def add_notice(host: Host, heading: str, overlays: Sequence[Overlay], volume: Volume) -> None:
    """A text node: what this is, what limits belief in each map, and what it must not be used for."""
    lines = [NOTICE + ". Maps show influence on the model, not pathology.", heading]
    if not volume.placed:
        lines.append(f"{volume.source.name}: {NO_PLACE}")
    for overlay in overlays:
        lines += ["", overlay.title, *overlay.caveats]
    node = host.scene.AddNewNodeByClass("vtkMRMLTextNode", NOTICE)
    node.SetText("\n".join(lines))
    node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)


def show_in_slices(host: Host, volume: Volume, node: Node, overlay: Overlay | None, heat: Node | None) -> None:
    """Set Red, Yellow and Green up: the map (node ``heat``) over the volume, through its peak, with its legend.

    Further maps are chosen in the slice views. As further layers they would cover the first one: their
    opacity is not saved with a scene.
    """
    point = overlay.peak if overlay else centre(volume)
    for view, plane in VIEWS.items():
        logic = host.application.GetSliceLogicByLayoutName(view)
        if logic is None:  # a view that the application's layout does not have
            continue
        layers = logic.GetSliceCompositeNode()
        layers.SetBackgroundVolumeID(node.GetID())
        layers.SetForegroundVolumeID(heat and heat.GetID())
        layers.SetForegroundOpacity(OPACITY)
        set_slice_plane(logic.GetSliceNode(), volume, plane, point)
    if heat:
        set_legend(heat, True)


def show_in_3d(host: Host, volume: Volume, node: Node, overlay: Overlay, heat: Node) -> None:
    """Volume renderings of the faint volume and of the map (node ``heat``), seen from the map's side."""
    if volume.channels != 3:
        render_context(host, node, volume)
    render_map(host, heat, overlay)
    camera = host.scene.GetSingletonNode("1", "vtkMRMLCameraNode") or host.scene.AddNewNodeByClass("vtkMRMLCameraNode")
    camera.SetLayoutName("1")
    middle, backward, height = front_view(volume, overlay.peak)
    camera.SetFocalPoint(*middle)
    distance = 0.6 * height / np.tan(np.radians(camera.GetViewAngle() / 2))  # half the height, and some depth
    camera.SetPosition(*(middle + distance * backward))
    camera.SetViewUp(0, 0, 1)


def write_bundle(scene: Node, path: Path) -> None:
    """A MRML scene as .mrb.

    :raises OSError: where Slicer cannot write it.
    """
    before = scene.GetURL(), scene.GetRootDirectory()
    scene.SetURL(str(path.with_suffix(".mrml")))
    scene.SetRootDirectory(str(path.parent))
    try:
        if not scene.WriteToMRB(str(path)) or not path.is_file():
            raise OSError("Slicer could not write it")
    finally:
        scene.SetURL(before[0])
        scene.SetRootDirectory(before[1])
