"""A slice view for each map, one beside the other."""

from __future__ import annotations

from collections.abc import Sequence

from .appearance import KIND, limit_to, our_displays
from .host import Host, Node, add_slice_view
from .layers import lay_over
from .layouts import (
    BEFORE,
    LAYOUT,
    MOST_VIEWS,
    VIEW,
    add_layout_node,
    add_layouts,
    arrangement,
    is_side_by_side,
    layout_node,
    slice_logics,
)


def show_side_by_side(host: Host, volume: Node, maps: Sequence[Node], opacity: float) -> bool:
    """One slice view for each map over its volume.

    :return: whether the layout has changed: :func:`align` is wanted once the new windows have their size.
    """
    maps = maps[:MOST_VIEWS]
    layout, number = layout_node(host) or add_layout_node(host), LAYOUT + len(maps)
    if not is_side_by_side(host):
        layout.SetAttribute(BEFORE, str(layout.GetViewArrangement()))
    add_layouts(host)
    layout.SetSaveWithScene(False)  # another application that opens the scene would not know this layout
    changed = bool(layout.GetViewArrangement() != number)
    layout.SetViewArrangement(number)
    for n in range(1, MOST_VIEWS + 1):
        logic = host.application.GetSliceLogicByLayoutName(f"{VIEW}{n}")
        if n > len(maps):
            if logic:
                clear(logic)
            continue
        if logic is None:  # no layout manager has made it
            logic = add_slice_view(host.scene, host.application, f"{VIEW}{n}")
            host.application.GetSliceLogics().AddItem(logic)
        lay_over(logic, volume, [maps[n - 1]], opacity)
    return changed


def align(host: Host) -> None:
    """Fit the views of side by side to their windows, at the slice of Red, and link them.

    To be called when the windows have their size; linked earlier, they would move Red while they get it.
    """
    model = host.application.GetSliceLogicByLayoutName("Red")
    for logic in slice_logics(host, own=True):
        layers, node = logic.GetSliceCompositeNode(), logic.GetSliceNode()
        if model is None or not layers.GetBackgroundVolumeID():
            continue
        node.GetSliceToRAS().DeepCopy(model.GetSliceNode().GetSliceToRAS())
        node.UpdateMatrices()
        logic.FitSliceToBackground()
        node.SetSliceOffset(model.GetSliceNode().GetSliceOffset())
        layers.SetInteractionFlags(layers.ForegroundVolumeFlag)  # only then does a new view draw legends
        layers.Modified()
        layers.SetInteractionFlags(0)
        layers.SetLinkedControl(True)
        layers.SetHotLinkedControl(False)


def leave_side_by_side(host: Host) -> None:
    """The layout that was there before, or the one that was chosen meanwhile; outlines are no longer for one view."""
    layout = layout_node(host)
    if layout is not None:
        layout.SetSaveWithScene(True)
        if is_side_by_side(host):
            layout.SetViewArrangement(arrangement(host))
    for logic in slice_logics(host, own=True):
        clear(logic)
    for display in our_displays(host):
        if display.GetDisplayableNode().GetAttribute(KIND) in ("regions", "superpixels"):
            limit_to(display, None)


def clear(logic: Node) -> None:
    """Show nothing in a view of ours, and let it move by itself."""
    layers = logic.GetSliceCompositeNode()
    layers.SetBackgroundVolumeID(None)
    layers.SetForegroundVolumeID(None)
    layers.SetLinkedControl(False)


def view_of(host: Host, map_node: Node) -> str | None:
    """The slice node's ID of the map's own view; None where the maps are not side by side."""
    for logic in slice_logics(host, own=True) if is_side_by_side(host) else ():
        if logic.GetSliceCompositeNode().GetForegroundVolumeID() == map_node.GetID():
            return str(logic.GetSliceNode().GetID())
    return None
