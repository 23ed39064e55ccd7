"""What accompanies a map in the views: its legend, its rendering in 3D, the outlines of its regions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .colours import transfer_rows
from .host import Host, Node
from .nodes import volume_of
from .rendering import render_volume, rendering_of

KIND = "MedXAI.Kind"
"""Attribute of a node: what it is to MedXAI."""
OURS = ("map", "regions", "superpixels", "segmentation")
"""Kinds of nodes whose visibility is changed here."""
FAINT = 0.25
"""Opacity of the outlines around those that are emphasised."""


class Visibility(NamedTuple):
    """What a display node shows."""

    visible: bool
    filled: bool
    """Whether the inside of its outlines is coloured."""


def our_displays(host: Host) -> list[Node]:
    """Display nodes that can be shown or hidden: legends, renderings, outlines, predicted segmentations."""
    found = host.scene.GetNodesByClass("vtkMRMLDisplayNode")
    found.UnRegister(None)
    displays = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
    return [
        node
        for node in displays
        if not node.IsA("vtkMRMLVolumeDisplayNode")
        and (shown := node.GetDisplayableNode()) is not None
        and shown.GetAttribute(KIND) in OURS
    ]


def visibility_of(display: Node) -> Visibility:
    """What a display node shows now."""
    fills = display.IsA("vtkMRMLSegmentationDisplayNode") and display.GetVisibility2DFill()
    return Visibility(bool(display.GetVisibility()), bool(fills))


def visibility_when_new(display: Node) -> Visibility:
    """What it showed when it was new: only a predicted segmentation is seen at once, filled."""
    new = display.GetDisplayableNode().GetAttribute(KIND) == "segmentation"
    return Visibility(new, new)


def set_visibility(display: Node, visibility: Visibility) -> None:
    """Show what was shown before."""
    display.SetVisibility(visibility.visible)
    if display.IsA("vtkMRMLSegmentationDisplayNode"):
        display.SetVisibility2DFill(visibility.filled)


def legend_of(map_node: Node) -> Node | None:
    """The display node of a map's colour bar, or None."""
    import slicer

    return slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(map_node.GetDisplayNode())


def set_legend(map_node: Node, on: bool) -> None:
    """The colour bar in the slice views that show the map."""
    legend = legend_of(map_node)
    if legend:
        legend.SetVisibility(on)


def set_rendering(host: Host, map_node: Node, on: bool) -> None:
    """Show the map as a volume rendering in the 3D views, in its colours and range."""
    display = rendering_of(map_node)
    if display:
        display.SetVisibility(on)
    elif on:
        render_volume(host, map_node, volume_of(map_node), transfer_rows(map_node))


def set_outlines(segmentation: Node, on: bool, view: str | None = None) -> None:
    """Show a segmentation's outlines, in every view or in one.

    :param view: ID of that view's node.
    """
    segmentation.GetDisplayNode().SetVisibility(on)
    limit_to(segmentation.GetDisplayNode(), view)


def limit_to(display: Node, view: str | None) -> None:
    """Show a display node in one view only, or without one in all of them."""
    wanted = [view] if view else []
    if list(display.GetViewNodeIDs()) != wanted:
        display.RemoveAllViewNodeIDs()
        for each in wanted:
            display.AddViewNodeID(each)


def set_fill(segmentation: Node, on: bool) -> None:
    """Colour the inside of the outlines in the slice views."""
    segmentation.GetDisplayNode().SetVisibility2DFill(on)


def emphasise(segmentation: Node, name: str | None) -> None:
    """Leave one segment's outline strong and make the others faint; all strong without a name."""
    display, segments = segmentation.GetDisplayNode(), segmentation.GetSegmentation()
    chosen = segments.GetSegmentIdBySegmentName(name) if name else ""
    state = display.StartModify()  # else every view draws itself anew for each segment
    display.SetAllSegmentsOpacity2DOutline(FAINT if chosen else 1.0)
    if chosen:
        display.SetSegmentOpacity2DOutline(chosen, 1.0)
    display.EndModify(state)


def is_accompanied(map_node: Node, parts: Iterable[Node]) -> bool:
    """Whether a legend, a rendering or outlines of this map are shown.

    :param parts: the segmentations of its regions.
    """
    displays = [legend_of(map_node), rendering_of(map_node), *(part.GetDisplayNode() for part in parts)]
    return any(display and display.GetVisibility() for display in displays)
