"""The section Look: which maps are shown and how, their tables, and the views put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk

from MedXAILib.mrml import layers, layouts, side_by_side, views
from MedXAILib.mrml.host import Node

from . import results
from .anatomy import AnatomyTable
from .details import MapDetails
from .maplist import NO_MAP, MapList
from .regions import Found, RegionTables
from .views import MapViews, ViewMemory, hostScene

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget

GATED = (
    "maps",
    "opacity",
    "range",
    "colors",
    "legend",
    "outlines",
    "segmentation",
    "rendering",
    "sideBySide",
    "anatomy",
)
"""Widgets that can do nothing without a map."""


class DisplaySection:
    """The only section that writes to the views."""

    def __init__(self, panel: MedXAIWidget) -> None:
        self.panel, self.ui = panel, panel.ui
        self.memory = ViewMemory()
        self.list, self.details = MapList(self.ui), MapDetails(self.ui)
        self.regions = RegionTables(self.ui)
        self.anatomy = AnatomyTable(self.ui, panel.logic.client)
        self.views = MapViews(panel, self.memory, self.regions)
        self.forget()

    def forget(self, *_: Any) -> None:
        """Nothing is known of the scene: it is new."""
        self.new = True
        self.volume: str | None = None
        for part in (self.memory, self.list, self.anatomy, self.views):
            part.forget()

    # What the panel calls

    def connect(self) -> None:
        """Connect the section's widgets, and observe scene and layout."""
        ui = self.ui
        self.tips = {name: getattr(ui, name).toolTip for name in GATED}
        ui.maps.itemChanged.connect(self.onBox)
        ui.maps.cellClicked.connect(self.onMap)
        ui.range.connect("valuesChanged(double,double)", self.onRange)
        ui.colors.connect("activated(int)", self.onColors)
        ui.tables.currentChanged.connect(self.onTab)
        ui.regions.cellClicked.connect(self.onRegion)
        ui.superpixelTable.cellClicked.connect(self.onSuperpixel)
        ui.putBack.clicked.connect(self.onPutBack)
        for table in (ui.maps, ui.regions, ui.superpixelTable, ui.structures):
            table.verticalHeader().visible = False
            table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
            table.horizontalHeader().highlightSections = False
        scene, host = slicer.mrmlScene, hostScene()
        self.panel.addObserver(scene, scene.StartCloseEvent, self.onStartClose)
        self.panel.addObserver(scene, scene.EndCloseEvent, self.forget)
        self.panel.addObserver(scene, scene.StartImportEvent, self.onStartImport)
        layouts.add_layouts(host)
        layout = layouts.layout_node(host)
        if layout is not None:
            self.panel.addObserver(layout, vtk.vtkCommand.ModifiedEvent, self.onLayout)

    def update(self) -> None:
        """Show the maps of the chosen volume; the views follow where a choice of this section has changed."""
        if slicer.mrmlScene.IsImporting():
            return
        p, maps = self.panel.parameters, results.mapsOf(self.panel.parameters.inputVolume)
        ended = self.views.sideBySideEnded()
        showing = self.volumeChanged() and self.views.withdraw([n for n in results.allMaps() if n not in maps])
        if p.shownMap not in maps:
            with self.memory.still():
                p.shownMap = maps[-1] if maps else None
            self.views.forget()
        self.listMaps(maps)
        self.describe(p.shownMap, again=self.new)
        self.new = False
        self.anatomy.show(p.shownMap, p.anatomy)
        self.gate(maps)
        choices = self.views.choices()
        if showing and maps:
            self.apply([p.shownMap])
            self.listMaps(maps)
        elif (ended or self.views.changed()) and not self.memory.resting:
            self.apply(self.views.wanted(maps))
            self.listMaps(maps)
        self.views.followed = choices

    def show(self, mapNodes: list[Node]) -> None:
        """The maps of a run appear: the first one over its volume, or side by side all of them."""
        p = self.panel.parameters
        if p is None or not mapNodes or results.sourceOf(mapNodes[0]) is not p.inputVolume:
            return
        first = set(results.mapsOf(p.inputVolume)) <= set(mapNodes)
        with self.memory.still():
            p.shownMap = mapNodes[0]
        self.apply(mapNodes if p.sideBySide else mapNodes[:1])
        found = results.metadata(mapNodes[0])["regions"]["table"]
        if first and found:  # later ones appear where the user looks
            views.jump(hostScene(), results.toWorld(mapNodes[0], found[0]["centroid"]))
        self.panel.update()

    def showLabels(self, node: Node) -> None:
        """Lay a segmentation that is a label volume over its volume."""
        with self.memory.writing() as host:
            layers.show_labels(host, node)

    def jump(self, place: list[float]) -> None:
        """Put the slice views through a world RAS point."""
        with self.memory.writing() as host:
            views.jump(host, place)
        self.gate(results.mapsOf(self.panel.parameters.inputVolume))

    def onVolumeRemoved(self) -> None:
        """Maps whose volume is gone leave the views: they would lie over another one."""
        if not slicer.mrmlScene.IsClosing():
            self.withdrawOrphans()
            qt.QTimer.singleShot(0, self.withdrawOrphans)  # a view's selector puts another volume in the gap: a map?

    def withdrawOrphans(self) -> None:
        """Take maps without a volume out of the views."""
        if not slicer.mrmlScene.IsBatchProcessing():
            self.views.withdraw([node for node in results.allMaps() if results.sourceOf(node) is None])

    # The steps of an update

    def volumeChanged(self) -> bool:
        """Whether another volume was chosen than at the last update in this scene."""
        before, volume = self.volume, self.panel.parameters.inputVolume
        self.volume = volume and volume.GetID()
        return self.volume != before and not self.new

    def listMaps(self, maps: list[Node]) -> None:
        """A row for each map; the boxes say which are over the volume now."""
        with self.memory.still():
            self.list.show(maps, self.views.visible() if maps else [], self.panel.parameters.shownMap)

    def describe(self, node: Node | None, again: bool = False) -> None:
        """Caveats, range, colours and tables of the chosen map; ``again``: also where it is the one described."""
        if node is self.details.node and not again:
            return
        with self.memory.still():
            self.details.show(node)
            self.regions.show(node)

    def apply(self, visible: list[Node]) -> None:
        """Show these maps as chosen, and no others."""
        self.views.apply(visible)
        self.gate(results.mapsOf(self.panel.parameters.inputVolume))

    def gate(self, maps: list[Node]) -> None:
        """Disable what cannot be done, and say why."""
        chosen, ui = self.panel.parameters.shownMap, self.ui
        reasons = dict.fromkeys(GATED, "" if maps else NO_MAP)
        if chosen:
            low, high = chosen.GetImageData().GetScalarRange()
            if low == high:
                reasons["range"] = "Every value of this map is the same."
            if not any(chosen.GetNodeReference(role) for role in (results.REGIONS, results.SUPERPIXELS)):
                reasons["outlines"] = "This map has no regions."
        if len(maps) == 1 and not self.panel.parameters.sideBySide:
            reasons["sideBySide"] = "There is one map only: explain another class, or by another method."
        predicted = results.segmentationsOf(self.panel.parameters.inputVolume)
        reasons["segmentation"] = "" if predicted else "No segmentation of this volume was predicted."
        for name, reason in reasons.items():
            widget = getattr(ui, name)
            widget.enabled = not reason
            widget.toolTip = reason or self.tips[name]
        most, written = layouts.MOST_VIEWS, self.memory.before is not None
        if len(maps) > most:
            ui.sideBySide.toolTip += f" There is room for {most} of the {len(maps)} maps: the ticked ones."
        ui.putBack.enabled = written
        ui.putBack.toolTip = (
            "The views as they were before Look changed them." if written else "Look has not changed the views."
        )

    # What the user and the application do

    def onBox(self, item: Any) -> None:
        """A map's box was ticked or cleared."""
        if self.memory.resting or self.panel.parameters is None:
            return
        self.apply(self.list.ticked())
        self.panel.update()

    def onMap(self, row: int, column: int) -> None:
        """A click beside the box chooses a map; one that is not shown takes the place of those that are."""
        node = self.list.nodeOf(row)
        if node is None:
            return
        p, visible = self.panel.parameters, self.views.visible()
        if column > 0 and node not in visible:
            visible = [*visible[: layouts.MOST_VIEWS - 1], node] if p.sideBySide else [node]
        with self.memory.still():
            p.shownMap = node
        self.describe(node)
        self.apply(visible)
        self.panel.update()

    def onRange(self, low: float, high: float) -> None:
        """An end of the slider was moved."""
        if not self.memory.resting:
            self.details.setRange(low, high)

    def onColors(self, *_: Any) -> None:
        """Other colours were chosen."""
        self.details.setColors(self.ui.colors.currentText)

    def onTab(self, *_: Any) -> None:
        """Another table was opened: its regions are outlined."""
        self.regions.strong = None
        p = self.panel.parameters
        if p is None:
            return
        self.anatomy.show(p.shownMap, p.anatomy)
        visible = self.views.visible()
        if visible:
            self.apply(visible)

    def onRegion(self, row: int, column: int) -> None:
        """A click on a hot region."""
        self.point(self.regions.regionAt(row))

    def onSuperpixel(self, row: int, column: int) -> None:
        """A click on a superpixel."""
        self.point(self.regions.superpixelAt(row))

    def point(self, found: Found | None) -> None:
        """Jump to a place and make the outline of its name strong, the others faint."""
        if found:
            place, self.regions.strong = found
            self.jump(place)
            self.apply(self.views.visible())

    def onPutBack(self, *_: Any) -> None:
        """Put the views back, and clear the boxes that have changed them."""
        with self.memory.still():
            self.memory.restore()
            self.panel.parameters.sideBySide = False
            self.panel.parameters.rendering = False
            self.panel.parameters.segmentation = True
            self.panel.update()

    def onStartClose(self, *_: Any) -> None:
        """The scene closes: the layout of everybody comes back."""
        with self.memory.still():
            side_by_side.leave_side_by_side(hostScene())

    def onStartImport(self, *_: Any) -> None:
        """No choice in an opened scene has just been made."""
        self.views.forget()

    def onLayout(self, *_: Any) -> None:
        """Another layout was chosen in the toolbar, perhaps."""
        p = self.panel.parameters
        if p and p.sideBySide and not self.memory.resting and not layouts.is_side_by_side(hostScene()):
            self.panel.update()
