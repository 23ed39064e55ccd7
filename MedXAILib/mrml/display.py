"""How results look: which maps lie over a volume, in which colours and range, in which views; and the views put back.

Only display, slice and layout nodes are written. Nothing is computed and no voxel is touched.
"""

from __future__ import annotations

import numpy as np

from .colors import AGAINST, FAVOUR, HEAT, THRESHOLD, ramp
from .nodes import add_color_table, volume_of
from .scene import Host, add_slice_view, render_volume

KIND = "MedXAI.Kind"
OURS = ("map", "regions", "superpixels", "segmentation")
"""Kinds of nodes whose visibility is changed here."""
WINDOW, RANGE, COLORS, TABLE = "MedXAI.Window", "MedXAI.Range", "MedXAI.Colors", "MedXAI.ColorTable"
RAMPS = {
    "Heat": HEAT,
    "Grey": ("#000000", "#ffffff"),
    "Sea": ("#0b1030", "#123f6b", "#10758c", "#35a98f", "#9ad38a", "#f4f3a8"),
}
"""Colours of unsigned maps, from the value 0 up."""
PAIRS = {
    "Blue - orange": (AGAINST, FAVOUR),
    "Violet - green": (("#150a24", "#452a78", "#7a58b4", "#ad95dc", "#ddd2f7"), ("#0a1a10", "#14502c", "#2c8a45", "#74bf66", "#cdeb9f")),
}  # fmt: skip
"""Colours of signed maps: against and in favour, from zero outwards."""
LEVELS = 256
"""Slicer tells so many values between the first and the last colour apart."""
FIRST_FURTHER = 3
"""Layers 0, 1 and 2 of a slice view are background, foreground and labels."""
LAYOUT = 5810
"""Our layout of n views has this number + n."""
VIEW = "MedXAI"
BEFORE = "MedXAI.Before"
MOST_VIEWS = 6
FAINT = 0.25
"""Opacity of the outlines around those that are emphasised."""


# The views


def slice_logics(host: Host, own: bool | None = None) -> list:
    """The logics of the slice views; ``own``: only those of side by side, or only the others."""
    found = host.application.GetSliceLogics()
    logics = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
    logics = [logic for logic in logics if logic.GetSliceNode() is not None]
    return logics if own is None else [logic for logic in logics if is_own(logic) == own]


def is_own(logic) -> bool:
    return (logic.GetSliceNode().GetLayoutName() or "").startswith(VIEW)


def layout_node(host: Host):
    """The scene's layout node, or None where no application has made one."""
    return host.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def our_displays(host: Host) -> list:
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


def look_of(display) -> tuple[bool, bool]:
    """Whether a display node shows anything, and whether it fills the inside of its outlines."""
    fills = display.IsA("vtkMRMLSegmentationDisplayNode") and display.GetVisibility2DFill()
    return bool(display.GetVisibility()), bool(fills)


def as_made(display) -> tuple[bool, bool]:
    """Its look when it was new: only a predicted segmentation is seen at once, filled."""
    new = display.GetDisplayableNode().GetAttribute(KIND) == "segmentation"
    return new, new


def remember_views(host: Host) -> dict:
    """What the views show and from where, in plain values for :func:`put_back`."""
    logics = {logic.GetSliceNode().GetLayoutName(): logic for logic in slice_logics(host, own=False)}
    looks = {node.GetID(): look_of(node) for node in our_displays(host) if look_of(node) != as_made(node)}
    return {
        "layout": arrangement(host),
        "slices": {name: layers_of(logic) for name, logic in logics.items()},
        "places": {name: place_of(logic) for name, logic in logics.items()},
        "looks": looks,
    }


def kept_up(host: Host, before: dict, left: dict) -> dict:
    """What :func:`put_back` is to bring: ``before``, but where something was changed by others, what they made of it.

    :param left: the views as they were left here the last time. Positions are kept as in ``before``.
    """
    now = remember_views(host)

    def newest(then, last, today):
        return then if today == last else today

    slices = {}
    for name, today in now["slices"].items():
        last = still_there(host, left["slices"].get(name, today))
        then = before["slices"].get(name, today)
        slices[name] = {key: newest(then[key], last[key], value) for key, value in today.items()}
    keys = before["looks"].keys() | now["looks"].keys() | left["looks"].keys()
    looks = {key: newest(*(state["looks"].get(key) for state in (before, left, now))) for key in keys}
    return {
        "layout": newest(before["layout"], left["layout"], now["layout"]),
        "slices": slices,
        "places": now["places"] | before["places"],
        "looks": {key: look for key, look in looks.items() if look is not None},
    }


def still_there(host: Host, state: dict) -> dict:
    """Layers without those whose volume was removed from the scene."""

    def found(volume):
        return volume if volume and host.scene.GetNodeByID(volume) else None

    further = [(volume, opacity) for volume, opacity in state["further"] if found(volume)]
    return state | {
        "background": found(state["background"]),
        "foreground": found(state["foreground"]),
        "labels": found(state["labels"]),
        "further": further,
    }


def arrangement(host: Host) -> int | None:
    """The number of the layout, of the one before where the views are side by side; None without an application."""
    layout = layout_node(host)
    if layout and is_side_by_side(host):
        return int(layout.GetAttribute(BEFORE) or layout.SlicerLayoutFourUpView)
    return layout.GetViewArrangement() if layout else None


def layers_of(logic) -> dict:
    layers = logic.GetSliceCompositeNode()
    return {
        "background": layers.GetBackgroundVolumeID(),
        "foreground": layers.GetForegroundVolumeID(),
        "labels": layers.GetLabelVolumeID(),
        "opacity": layers.GetForegroundOpacity(),
        "further": further(layers),
    }


def place_of(logic) -> dict:
    node = logic.GetSliceNode()
    matrix = node.GetSliceToRAS()
    return {
        "matrix": [matrix.GetElement(row, column) for row in range(4) for column in range(4)],
        "size": node.GetDimensions(),
        "field_of_view": node.GetFieldOfView(),
        "origin": node.GetXYZOrigin(),
    }


def put_back(host: Host, before: dict) -> None:
    """The views as :func:`remember_views` found them; nodes removed since then stay away."""
    leave_side_by_side(host)
    if before["layout"] is not None:
        layout_node(host).SetViewArrangement(before["layout"])
    for logic in slice_logics(host, own=False):
        name = logic.GetSliceNode().GetLayoutName()
        if name in before["slices"]:
            put_layers_back(logic, before["slices"][name], still_there(host, before["slices"][name]))
            put_place_back(logic, before["places"][name])
    for node in our_displays(host):
        visible, filled = before["looks"].get(node.GetID(), as_made(node))
        node.SetVisibility(visible)
        if node.IsA("vtkMRMLSegmentationDisplayNode"):
            node.SetVisibility2DFill(filled)


def put_layers_back(logic, before: dict, state: dict) -> None:
    """The layers that are still there; in place of a removed background, the one shown now stays."""
    layers = logic.GetSliceCompositeNode()
    if state["background"] == before["background"]:
        layers.SetBackgroundVolumeID(state["background"])
    layers.SetForegroundVolumeID(state["foreground"])
    layers.SetLabelVolumeID(state["labels"])
    layers.SetForegroundOpacity(state["opacity"])
    set_further(layers, state["further"])


def put_place_back(logic, state: dict) -> None:
    """Position, direction and zoom; where the view has another size now, its scale in mm for each pixel is kept."""
    node = logic.GetSliceNode()
    node.GetSliceToRAS().DeepCopy(state["matrix"])
    width, height, _ = node.GetDimensions()
    across, up, deep = state["field_of_view"]
    node.SetFieldOfView(across * width / state["size"][0], up * height / state["size"][1], deep)
    node.SetXYZOrigin(*state["origin"])
    node.UpdateMatrices()


def show_labels(host: Host, labels) -> None:
    """Lay a label volume over whatever the slice views show."""
    for logic in slice_logics(host):
        logic.GetSliceCompositeNode().SetLabelVolumeID(labels.GetID())
        logic.GetSliceCompositeNode().SetLabelOpacity(0.5)


def jump(host: Host, ras) -> None:
    """Put every slice view through a world RAS point; a view whose field of view it lies outside of moves its centre there."""
    for logic in slice_logics(host):
        node = logic.GetSliceNode()
        node.JumpSliceByOffsetting(*map(float, ras))
        if not is_in_view(node, ras):
            node.JumpSliceByCentering(*map(float, ras))


def is_in_view(slice_node, ras) -> bool:
    import vtk

    inverse = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(slice_node.GetXYToRAS(), inverse)
    at = inverse.MultiplyPoint((*map(float, ras), 1.0))
    return all(0 <= at[axis] < slice_node.GetDimensions()[axis] for axis in (0, 1))


# Layers


def show_maps(host: Host, volume, maps: list, opacity: float) -> None:
    """Lay maps over their volume in all slice views; without maps, the volume alone."""
    for logic in slice_logics(host, own=False):
        lay(logic, volume, maps, opacity)


def lay(logic, volume, maps: list, opacity: float) -> None:
    """One slice view; it is fitted to a volume that it did not show before."""
    layers = logic.GetSliceCompositeNode()
    new = layers.GetBackgroundVolumeID() != volume.GetID()
    layers.SetBackgroundVolumeID(volume.GetID())
    layers.SetForegroundVolumeID(maps[0].GetID() if maps else None)
    layers.SetForegroundOpacity(opacity)
    set_further(layers, [(node.GetID(), opacity) for node in maps[1:]])
    if new:
        logic.FitSliceToBackground()


def further(layers) -> list[tuple]:
    """(volume ID, opacity) of the layers above foreground and labels. An application without them has none."""
    count = layers.GetNumberOfAdditionalLayers() if hasattr(layers, "GetNumberOfAdditionalLayers") else 0
    numbers = range(FIRST_FURTHER, FIRST_FURTHER + count)
    found = [(layers.GetNthLayerVolumeID(n), layers.GetNthLayerOpacity(n)) for n in numbers]
    return [(volume, opacity) for volume, opacity in found if volume]


def set_further(layers, wanted: list[tuple]) -> None:
    """Show these as further layers, and clear the others."""
    if not hasattr(layers, "GetNumberOfAdditionalLayers"):
        return
    for n, (volume, opacity) in enumerate(wanted, FIRST_FURTHER):
        layers.SetNthLayerVolumeID(n, volume)
        layers.SetNthLayerOpacity(n, opacity)
    last = FIRST_FURTHER + layers.GetNumberOfAdditionalLayers() - 1
    for n in range(
        last, FIRST_FURTHER + len(wanted) - 1, -1
    ):  # from the top: a cleared layer makes those above it sink
        layers.SetNthLayerVolumeID(n, None)


def take_away(host: Host, maps: list, before: dict) -> None:
    """Leave these maps out of every slice view, and of what :func:`put_back` is to bring."""
    taken = {node.GetID() for node in maps}
    for logic in slice_logics(host):
        layers = logic.GetSliceCompositeNode()
        if layers.GetBackgroundVolumeID() in taken:
            layers.SetBackgroundVolumeID(None)
        if layers.GetForegroundVolumeID() in taken:
            layers.SetForegroundVolumeID(None)
        set_further(layers, [(volume, opacity) for volume, opacity in further(layers) if volume not in taken])
    for state in before["slices"].values():
        state |= {layer: None for layer in ("background", "foreground") if state[layer] in taken}
        state["further"] = [(volume, opacity) for volume, opacity in state["further"] if volume not in taken]


def shown_maps(host: Host, maps: list) -> list:
    """Those of the maps that lie over their volume in a slice view, side by side or not."""
    seen = set()
    for logic in slice_logics(host, own=None if is_side_by_side(host) else False):
        layers = logic.GetSliceCompositeNode()
        seen.update((layers.GetForegroundVolumeID(), *(volume for volume, _ in further(layers))))
    return [node for node in maps if node.GetID() in seen]


def backgrounds(host: Host) -> set:
    """IDs of the volumes at the bottom of the slice views."""
    return {logic.GetSliceCompositeNode().GetBackgroundVolumeID() for logic in slice_logics(host)}


# Side by side


def side_by_side(host: Host, volume, maps: list, opacity: float) -> bool:
    """One slice view for each map over its volume.

    :return: whether the layout has changed: :func:`align` is wanted once the new windows have their size.
    """
    maps = maps[:MOST_VIEWS]
    layout, number = layout_node(host) or add_layout_node(host), LAYOUT + len(maps)
    if not is_side_by_side(host):
        layout.SetAttribute(BEFORE, str(layout.GetViewArrangement()))
    add_layouts(host)
    layout.SetSaveWithScene(False)  # another application that opens the scene would not know this layout
    changed = layout.GetViewArrangement() != number
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
        lay(logic, volume, [maps[n - 1]], opacity)
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


def clear(logic) -> None:
    layers = logic.GetSliceCompositeNode()
    layers.SetBackgroundVolumeID(None)
    layers.SetForegroundVolumeID(None)
    layers.SetLinkedControl(False)


def is_side_by_side(host: Host) -> bool:
    layout = layout_node(host)
    return layout is not None and LAYOUT < layout.GetViewArrangement() <= LAYOUT + MOST_VIEWS


def view_of(host: Host, map_node) -> str | None:
    """The slice node's ID of the map's own view; None where the maps are not side by side."""
    for logic in slice_logics(host, own=True) if is_side_by_side(host) else ():
        if logic.GetSliceCompositeNode().GetForegroundVolumeID() == map_node.GetID():
            return logic.GetSliceNode().GetID()
    return None


def add_layouts(host: Host) -> None:
    """Let the scene's layout node, if there is one, know the layouts of side by side."""
    layout = layout_node(host)
    for count in range(1, MOST_VIEWS + 1) if layout else ():
        if not layout.IsLayoutDescription(LAYOUT + count):
            layout.AddLayoutDescription(LAYOUT + count, layout_description(count))


def add_layout_node(host: Host):
    import slicer

    return host.scene.AddNode(slicer.vtkMRMLLayoutNode())


def layout_description(count: int) -> str:
    """Slicer's XML for so many slice views, three to a row."""
    views = [
        f'<item><view class="vtkMRMLSliceNode" singletontag="{VIEW}{n}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{n}</property>'
        '<property name="viewcolor" action="default">#1f6fb8</property></view></item>'
        for n in range(1, count + 1)
    ]
    across = 3 if count != 4 else 2
    rows = [views[n : n + across] for n in range(0, count, across)]
    lines = [f'<item><layout type="horizontal">{"".join(row)}</layout></item>' for row in rows]
    return f'<layout type="vertical">{"".join(lines)}</layout>'


# Colours and range


def window_of(map_node) -> tuple[float, float]:
    """The values of the first and the last colour; of a signed map the first is negative."""
    low, high = (float(part) for part in map_node.GetAttribute(WINDOW).split())
    return low, high


def is_signed(map_node) -> bool:
    return window_of(map_node)[0] < 0


def bounds_of(map_node) -> tuple[float, float]:
    """What a range can reach: an unsigned map's own values; a signed one's strengths up to its last colour."""
    if is_signed(map_node):
        return 0.0, window_of(map_node)[1]
    low, high = map_node.GetImageData().GetScalarRange()
    return min(0.0, low), max(high, window_of(map_node)[1])


def range_of(map_node) -> tuple[float, float]:
    """The values, or of a signed map the strengths, that are not transparent."""
    if is_signed(map_node):
        given = map_node.GetAttribute(RANGE)
        limit = window_of(map_node)[1]
        return tuple(float(part) for part in given.split()) if given else (THRESHOLD * limit, limit)
    display = map_node.GetDisplayNode()
    return display.GetLowerThreshold(), display.GetUpperThreshold()


def set_range(map_node, low: float, high: float) -> None:
    """Make everything outside of these values transparent; of a signed map, outside of these strengths.

    The strength of a signed map's last colour stands for all stronger ones too.
    """
    if is_signed(map_node):
        map_node.SetAttribute(RANGE, f"{low!r} {high!r}")
        paint(map_node)
    else:
        map_node.GetDisplayNode().SetThreshold(low, high)
        map_node.GetDisplayNode().SetApplyThreshold(1)
    follow(map_node)


def colors_for(map_node) -> list[str]:
    """The names that :func:`set_colors` takes for this map; the first is preset."""
    return list(PAIRS if is_signed(map_node) else RAMPS)


def colors_of(map_node) -> str:
    return map_node.GetAttribute(COLORS) or colors_for(map_node)[0]


def set_colors(map_node, name: str) -> None:
    """Show a map in other colours, over the same values."""
    map_node.SetAttribute(COLORS, name)
    display = map_node.GetDisplayNode()
    if is_signed(map_node):
        paint(map_node)
    else:
        display.SetAndObserveColorNodeID(shared_table(map_node.GetScene(), name).GetID())
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(*window_of(map_node))
    follow(map_node)


def shared_table(scene, name: str):
    """The colour table of unsigned maps of this name, made once for each scene."""
    title = f"MedXAI {name.lower()}"
    node = scene.GetFirstNode(title, "vtkMRMLColorTableNode")
    if node is None:
        node = add_color_table(scene, title, np.column_stack([ramp(RAMPS[name], 256), np.ones(256)]))
        node.SetHideFromEditors(False)
    return node


def paint(map_node) -> None:
    """Write a signed map's own table: its colours, transparent outside of its range on both sides of zero."""
    colors = signed_colors(map_node)
    node = map_node.GetNodeReference(TABLE)
    if node is None:
        node = add_color_table(map_node.GetScene(), f"{map_node.GetName()} colors", colors)
        map_node.SetNodeReferenceID(TABLE, node.GetID())
    else:
        state = node.StartModify()
        for index, color in enumerate(colors):
            node.SetColor(index, *(float(part) for part in color))
        node.EndModify(state)
    map_node.GetDisplayNode().SetAndObserveColorNodeID(node.GetID())


def signed_colors(map_node) -> np.ndarray:
    """(count, 4) r, g, b, alpha from the most negative to the most positive."""
    against, favour = PAIRS[colors_of(map_node)]
    limit, (low, high) = window_of(map_node)[1], range_of(map_node)
    colors = np.vstack([ramp(against, LEVELS // 2)[::-1], ramp(favour, LEVELS // 2)])
    strength = np.abs(np.arange(LEVELS) - (LEVELS / 2 - 1)) / ((LEVELS - 1) / 2) * limit  # in the middle of a level
    shown = (strength >= low) & ((strength <= high) | (high >= limit))
    return np.column_stack([colors, shown])


# Legend, 3D, outlines


def set_legend(map_node, on: bool) -> None:
    """The colour bar in the slice views that show the map."""
    import slicer

    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(map_node.GetDisplayNode())
    if legend:
        legend.SetVisibility(on)


def rendering_of(map_node):
    """The display node of the map's volume rendering, or None."""
    count = map_node.GetNumberOfDisplayNodes()
    found = [map_node.GetNthDisplayNode(n) for n in range(count)]
    return next((node for node in found if node and node.IsA("vtkMRMLVolumeRenderingDisplayNode")), None)


def set_rendering(host: Host, map_node, on: bool) -> None:
    """Show the map as a volume rendering in the 3D views, in its colours and range."""
    display = rendering_of(map_node)
    if display:
        display.SetVisibility(on)
    elif on:
        render_volume(host, map_node, volume_of(map_node), rendering_rows(map_node))


def follow(map_node) -> None:
    """Give the volume rendering, if there is one, the colours and range of the map."""
    display = rendering_of(map_node)
    if display is None:
        return
    import vtk

    opacity, color = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    for value, alpha, red, green, blue in rendering_rows(map_node):
        opacity.AddPoint(value, alpha)
        color.AddRGBPoint(value, red, green, blue)
    display.GetVolumePropertyNode().SetScalarOpacity(opacity)
    display.GetVolumePropertyNode().SetColor(color)


def rendering_rows(map_node) -> list[tuple[float, float, float, float, float]]:
    """(value, opacity, r, g, b): the denser the stronger, nothing outside of the range."""
    low, high = range_of(map_node)
    first, limit = window_of(map_node)
    signed = is_signed(map_node)
    if signed:
        table = np.vstack([ramp(PAIRS[colors_of(map_node)][0], 128)[::-1], ramp(PAIRS[colors_of(map_node)][1], 128)])
    else:
        table = ramp(RAMPS[colors_of(map_node)], 256)
    beyond = signed and high >= limit
    step = max(high - low, limit / 100)  # finer ones would not fit into a graphics card's tables
    inside = low + step * np.linspace(0, 1, 21)
    rows = []
    for sign in (1, -1) if signed else (1,):
        ends = [] if beyond else [(high + limit / 1000, 0.0)]
        for value, alpha in [*((v, 0.5 * (v - low) / step) for v in inside), *ends]:
            place = np.clip((sign * value - first) / (limit - first), 0, 1)
            rows.append((float(sign * value), float(alpha), *table[round(place * 255)]))
    return sorted(rows)


def outlines(segmentation, on: bool, view: str | None = None) -> None:
    """Show a segmentation's outlines, in every view or in one.

    :param view: ID of that view's node.
    """
    segmentation.GetDisplayNode().SetVisibility(on)
    limit_to(segmentation.GetDisplayNode(), view)


def set_visible(node, on: bool) -> None:
    node.GetDisplayNode().SetVisibility(on)


def is_accompanied(map_node, parts: dict) -> bool:
    """Whether a legend, a rendering or outlines of this map are shown."""
    import slicer

    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(map_node.GetDisplayNode())
    displays = [legend, rendering_of(map_node), *(part.GetDisplayNode() for part in parts.values())]
    return any(display and display.GetVisibility() for display in displays)


def limit_to(display, view: str | None) -> None:
    wanted = [view] if view else []
    if list(display.GetViewNodeIDs()) != wanted:
        display.RemoveAllViewNodeIDs()
        for each in wanted:
            display.AddViewNodeID(each)


def fill(segmentation, on: bool) -> None:
    """Colour the inside of the outlines in the slice views."""
    segmentation.GetDisplayNode().SetVisibility2DFill(on)


def emphasise(segmentation, name: str | None) -> None:
    """Leave one segment's outline strong and make the others faint; all strong without a name."""
    display, segments = segmentation.GetDisplayNode(), segmentation.GetSegmentation()
    chosen = segments.GetSegmentIdBySegmentName(name) if name else ""
    state = display.StartModify()  # else every view draws itself anew for each segment
    display.SetAllSegmentsOpacity2DOutline(FAINT if chosen else 1.0)
    if chosen:
        display.SetSegmentOpacity2DOutline(chosen, 1.0)
    display.EndModify(state)
