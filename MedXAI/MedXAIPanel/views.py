"""The application's views: remembered before they are written to, put back, and what the maps show in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import slicer

from MedXAILib.mrml import appearance, layers, layouts, side_by_side
from MedXAILib.mrml.host import Host, Node
from MedXAILib.mrml.views import Views, remember_views, restore_views, updated_views, without_maps

from . import results
from .maps import partsOf

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget

    from .regions import RegionTables


class ViewMemory:
    """Remembers the views before they are written to for the first time, and what others have changed in them since.

    :ivar before: the views to put back; None while nothing was written.
    :ivar resting: whether changed parameters and widgets leave the views alone just now.
    """

    def __init__(self) -> None:
        self.resting = False
        self.forget()

    def forget(self) -> None:
        """The scene is new: nothing was written."""
        self.before: Views | None = None
        self.left: Views | None = None

    @contextmanager
    def still(self) -> Iterator[None]:
        """Inside, changed parameters and widgets leave the views alone."""
        before, self.resting = self.resting, True
        try:
            yield
        finally:
            self.resting = before

    @contextmanager
    def writing(self) -> Iterator[Host]:
        """Inside, the views are written to. What others have changed in them since the last time is kept in mind."""
        host = hostScene()
        self.before = self.updated(host) or remember_views(host)
        with self.still():
            yield host
        self.left = remember_views(host)

    def updated(self, host: Host) -> Views | None:
        """What is to be put back now."""
        return updated_views(host, self.before, self.left) if self.before and self.left else self.before

    def leaveOut(self, maps: list[Node]) -> None:
        """Put these maps back nowhere."""
        if self.before:
            self.before = without_maps(self.before, maps)

    def visibility(self, display: Node) -> appearance.Visibility:
        """What a display node will show again."""
        new = appearance.visibility_when_new(display)
        return self.before.visibility.get(display.GetID(), new) if self.before else new

    def restore(self) -> None:
        """Put the views back as they were, and forget them."""
        host = hostScene()
        before = self.updated(host)
        self.forget()
        if before is not None:
            restore_views(host, before)


class MapViews:
    """Which maps lie over their volume in the views, and what accompanies them.

    :ivar followed: the choices that the views show; empty where none has been made in this scene.
    """

    def __init__(self, panel: MedXAIWidget, memory: ViewMemory, regions: RegionTables) -> None:
        self.panel, self.memory, self.regions = panel, memory, regions
        self.forget()

    def forget(self) -> None:
        """No choice in the scene has just been made."""
        self.followed: dict = {}

    def choices(self) -> dict:
        """What the views follow."""
        p = self.panel.parameters
        ids = [node and node.GetID() for node in (p.inputVolume, p.shownMap, *results.segmentationsOf(p.inputVolume))]
        names = ("opacity", "legend", "outlines", "segmentation", "rendering", "sideBySide")
        return {"nodes": ids} | {name: getattr(p, name) for name in names}

    def changed(self) -> bool:
        """Whether a choice was made that the views do not show yet."""
        return bool(self.followed) and self.choices() != self.followed

    def visible(self) -> list[Node]:
        """The maps of the chosen volume that are over it now."""
        return layers.shown_maps(hostScene(), results.mapsOf(self.panel.parameters.inputVolume))

    def wanted(self, maps: list[Node]) -> list[Node]:
        """The maps to show after a choice: side by side begins with all of them and ends with the chosen one."""
        p, visible = self.panel.parameters, self.visible()
        if self.followed and p.sideBySide == self.followed["sideBySide"]:
            return visible
        if p.sideBySide:
            return visible if len(visible) > 1 else maps
        return [p.shownMap] if p.shownMap in visible else visible[:1]

    def sideBySideEnded(self) -> bool:
        """Whether the layout was left by another way than the box, which is cleared then."""
        p, ticked = self.panel.parameters, self.followed.get("sideBySide", True)
        if not (p.sideBySide and ticked) or layouts.is_side_by_side(hostScene()):
            return False
        with self.memory.still():
            p.sideBySide = False
        return True

    def apply(self, visible: list[Node]) -> None:
        """Show these maps as chosen, and no others; the views are remembered first."""
        p = self.panel.parameters
        visible = visible[: layouts.MOST_VIEWS] if p.sideBySide else visible
        covered = bool(visible or self.visible())
        segmentation = not p.segmentation or not self.followed.get("segmentation", True)
        if not covered and self.memory.before is None and not segmentation:
            return
        with self.memory.writing() as host:
            self.arrange(host, visible)
            front = p.shownMap if p.shownMap in visible else next(iter(visible), None)
            if covered:
                over = [front] if p.sideBySide and visible else visible  # beside each other, not over each other
                layers.show_maps(host, p.inputVolume, over, p.opacity)
            for node in results.allMaps():
                self.accompany(host, node, node in visible and (node is front or p.sideBySide), node is front)
            # else it is as others left it
            for node in results.segmentationsOf(p.inputVolume) if segmentation else ():
                node.GetDisplayNode().SetVisibility(p.segmentation)
            self.fillSegmentations(p.inputVolume if visible else None)
        self.followed = self.choices()

    def arrange(self, host: Host, visible: list[Node]) -> None:
        """The maps side by side, where that is chosen, or the layout from before."""
        p = self.panel.parameters
        if not (p.sideBySide and visible):
            side_by_side.leave_side_by_side(host)
        elif side_by_side.show_side_by_side(host, p.inputVolume, visible, p.opacity):
            slicer.app.processEvents()  # the new views get their size
            side_by_side.align(host)

    def accompany(self, host: Host, node: Node, seen: bool, front: bool) -> None:
        """Legend, rendering and outlines of a map."""
        p, (outlined, strong) = self.panel.parameters, self.regions.outlined(node)
        appearance.set_legend(node, seen and p.legend)
        appearance.set_rendering(host, node, front and p.rendering)
        for role, segmentation in partsOf(node).items():
            view = side_by_side.view_of(host, node)
            appearance.set_outlines(segmentation, seen and p.outlines and role == outlined, view)
            appearance.emphasise(segmentation, strong if role == outlined else None)

    def withdraw(self, maps: list[Node]) -> bool:
        """Take maps out of the views, with what belongs to them, and leave side by side.

        :return: whether anything of them was to be seen.
        """
        host = hostScene()
        below, above = layers.backgrounds(host), layers.shown_maps(host, maps)
        if not any(
            node in above or node.GetID() in below or appearance.is_accompanied(node, partsOf(node).values())
            for node in maps
        ):
            return False
        with self.memory.writing():
            layers.take_away(host, maps)
            self.memory.leaveOut(maps)
            side_by_side.leave_side_by_side(host)
            if self.panel.parameters:
                self.panel.parameters.sideBySide = False
            for node in maps:
                appearance.set_legend(node, False)
                appearance.set_rendering(host, node, False)
                for segmentation in partsOf(node).values():
                    appearance.set_outlines(segmentation, False)
            self.fillSegmentations(None)
        return True

    def fillSegmentations(self, covered: Node | None) -> None:
        """Predicted segmentations are filled as before, but for those of a volume that maps lie over."""
        for node in results.allSegmentations():
            filled = self.memory.visibility(node.GetDisplayNode()).filled
            appearance.set_fill(node, filled and (covered is None or results.sourceOf(node) is not covered))


def hostScene() -> Host:
    """The application's scene as the library's scene code sees it."""
    return Host(slicer.mrmlScene, slicer.app.applicationLogic())
