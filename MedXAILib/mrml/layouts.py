"""The slice views of a scene, and our layouts in which they stand side by side."""

from __future__ import annotations

from .host import Host, Node

VIEW = "MedXAI"
"""The layout name of each slice view of ours begins so; its number follows."""
LAYOUT = 5810
"""Our layout of n views has this number + n."""
MOST_VIEWS = 6
BEFORE = "MedXAI.Before"
"""Attribute of the layout node: the number of the layout that ours took the place of."""


def slice_logics(host: Host, own: bool | None = None) -> list[Node]:
    """The logics of the slice views; ``own``: only those of side by side, or only the others."""
    found = host.application.GetSliceLogics()
    logics = [found.GetItemAsObject(n) for n in range(found.GetNumberOfItems())]
    logics = [logic for logic in logics if logic.GetSliceNode() is not None]
    return logics if own is None else [logic for logic in logics if is_own(logic) == own]


def is_own(logic: Node) -> bool:
    """Whether a slice view is one of side by side."""
    return (logic.GetSliceNode().GetLayoutName() or "").startswith(VIEW)


def layout_node(host: Host) -> Node | None:
    """The scene's layout node, or None where no application has made one."""
    return host.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def add_layout_node(host: Host) -> Node:
    """A layout node for a scene that has none."""
    import slicer

    return host.scene.AddNode(slicer.vtkMRMLLayoutNode())


def arrangement(host: Host) -> int | None:
    """The number of the layout, of the one before where the views are side by side; None without an application."""
    layout = layout_node(host)
    if layout and is_side_by_side(host):
        return int(layout.GetAttribute(BEFORE) or layout.SlicerLayoutFourUpView)
    return layout.GetViewArrangement() if layout else None


def is_side_by_side(host: Host) -> bool:
    """Whether the views stand in one of our layouts."""
    layout = layout_node(host)
    return layout is not None and LAYOUT < layout.GetViewArrangement() <= LAYOUT + MOST_VIEWS


def add_layouts(host: Host) -> None:
    """Let the scene's layout node, if there is one, know the layouts of side by side."""
    layout = layout_node(host)
    if layout is None:
        return
    for count in range(1, MOST_VIEWS + 1):
        if not layout.IsLayoutDescription(LAYOUT + count):
            layout.AddLayoutDescription(LAYOUT + count, layout_description(count))


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
