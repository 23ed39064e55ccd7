"""The section Look: which maps are shown and how, their tables, and the views put back."""

from __future__ import annotations

import html
from contextlib import contextmanager
from math import floor, log10

import numpy as np
import qt
import slicer
import vtk

from MedXAILib import NOTICE
from MedXAILib.errors import InputError
from MedXAILib.findings.regions import anatomy_shares
from MedXAILib.geometry.resample import resample
from MedXAILib.mrml import appearance, colours, layers, layouts, side_by_side, views
from MedXAILib.mrml.nodes import labels_of

from . import results
from .maps import StoredMap, methodTitle, seenBy, storedMap
from .running import fitHeight, hostScene, worded

REGIONS_TAB, SUPERPIXELS_TAB, ANATOMY_TAB = range(3)
NO_MAP = "There is no map of this volume yet: press Explain."
UNKNOWN = object()
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


class LookSection:
    """The only section that writes to the views. It remembers them before it does so for the first time."""

    def __init__(self, panel):
        self.panel, self.ui = panel, panel.ui
        self.resting = False
        self.forget()

    def forget(self, *_) -> None:
        """Nothing is known of the scene: it is new."""
        self.before: views.Views | None = None
        self.left: views.Views | None = None
        self.volume: object = UNKNOWN
        self.listed: list[str] | None = None
        self.described: object = UNKNOWN
        self.followed: dict = {}
        self.strong: str | None = None
        self.stored: dict[str, StoredMap] = {}
        self.shares: dict[tuple, list] = {}
        self.filled: tuple | None = None

    # What the panel calls

    def connect(self) -> None:
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
        ended = self.sideBySideEnded()
        showing = self.volumeChanged() and self.withdraw([node for node in allMaps() if node not in maps])
        chosen = p.shownMap
        if chosen not in maps:
            with self.still():
                p.shownMap = chosen = maps[-1] if maps else None
            self.followed = {}
        self.list(maps)
        self.describe(chosen)
        self.showAnatomy()
        self.gate(maps)
        choices = self.choices()
        if showing and maps:
            self.apply([chosen])
            self.list(maps)
        elif (ended or self.followed and choices != self.followed) and not self.resting:
            self.apply(self.wanted(maps))
            self.list(maps)
        self.followed = choices

    def volumeChanged(self) -> bool:
        """Whether another volume was chosen than at the last update."""
        before, volume = self.volume, self.panel.parameters.inputVolume
        self.volume = volume and volume.GetID()
        return self.volume != before and before is not UNKNOWN

    def sideBySideEnded(self) -> bool:
        """Whether the layout was left by another way than the box, which is cleared then."""
        p, ticked = self.panel.parameters, self.followed.get("sideBySide", True)
        if not (p.sideBySide and ticked) or layouts.is_side_by_side(hostScene()):
            return False
        with self.still():
            p.sideBySide = False
        return True

    def show(self, mapNodes: list) -> None:
        """The maps of a run appear: the first one over its volume, or side by side all of them."""
        p = self.panel.parameters
        if p is None or not mapNodes or results.sourceOf(mapNodes[0]) is not p.inputVolume:
            return
        first = set(results.mapsOf(p.inputVolume)) <= set(mapNodes)
        with self.still():
            p.shownMap = mapNodes[0]
        self.apply(mapNodes if p.sideBySide else mapNodes[:1])
        found = results.facts(mapNodes[0])["regions"]["table"]
        if first and found:  # later ones appear where the user looks
            views.jump(hostScene(), results.toWorld(mapNodes[0], found[0]["centroid"]))
        self.panel.update()

    # The views

    def choices(self) -> dict:
        """What the views follow."""
        p = self.panel.parameters
        ids = [node and node.GetID() for node in (p.inputVolume, p.shownMap, *segmentationsOf(p.inputVolume))]
        names = ("opacity", "legend", "outlines", "segmentation", "rendering", "sideBySide")
        return {"nodes": ids} | {name: getattr(p, name) for name in names}

    def wanted(self, maps: list) -> list:
        """The maps to show after a choice: side by side begins with all of them and ends with the chosen one."""
        p, visible = self.panel.parameters, self.visible()
        if self.followed and p.sideBySide == self.followed["sideBySide"]:
            return visible
        if p.sideBySide:
            return visible if len(visible) > 1 else maps
        return [p.shownMap] if p.shownMap in visible else visible[:1]

    def visible(self) -> list:
        return layers.shown_maps(hostScene(), results.mapsOf(self.panel.parameters.inputVolume))

    def apply(self, visible: list) -> None:
        """Show these maps as chosen, and no others; the views are remembered first."""
        p = self.panel.parameters
        visible = visible[: layouts.MOST_VIEWS] if p.sideBySide else visible
        covered = bool(visible or self.visible())
        segmentation = not p.segmentation or not self.followed.get("segmentation", True)
        if not covered and self.before is None and not segmentation:
            return
        with self.writing() as host:
            if p.sideBySide and visible:
                if side_by_side.show_side_by_side(host, p.inputVolume, visible, p.opacity):
                    slicer.app.processEvents()  # the new views get their size
                    side_by_side.align(host)
            else:
                side_by_side.leave_side_by_side(host)
            front = p.shownMap if p.shownMap in visible else next(iter(visible), None)
            if covered:
                over = [front] if p.sideBySide and visible else visible  # beside each other, not over each other
                layers.show_maps(host, p.inputVolume, over, p.opacity)
            for node in allMaps():
                self.accompany(host, node, node in visible and (node is front or p.sideBySide), node is front)
            for node in segmentationsOf(p.inputVolume) if segmentation else ():  # else it is as others left it
                node.GetDisplayNode().SetVisibility(p.segmentation)
            self.fillSegmentations(p.inputVolume if visible else None)
        self.followed = self.choices()
        self.gate(results.mapsOf(p.inputVolume))

    def accompany(self, host, node, seen: bool, front: bool) -> None:
        """Legend, rendering and outlines of a map."""
        p, role = self.panel.parameters, self.outlinedRole(node)
        appearance.set_legend(node, seen and p.legend)
        appearance.set_rendering(host, node, front and p.rendering)
        for each, segmentation in partsOf(node).items():
            appearance.set_outlines(
                segmentation, seen and p.outlines and each == role, side_by_side.view_of(host, node)
            )
            appearance.emphasise(segmentation, self.strong if node is self.described and each == role else None)

    def withdraw(self, maps: list) -> bool:
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
        with self.writing():
            layers.take_away(host, maps)
            self.before = views.without_maps(self.before, maps)
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

    def fillSegmentations(self, covered) -> None:
        """Predicted segmentations are filled as before, but for those of a volume that maps lie over."""
        looks = self.before.looks
        for node in allSegmentations():
            shown = node.GetDisplayNode()
            filled = looks.get(shown.GetID(), appearance.look_when_new(shown)).filled
            appearance.set_fill(node, filled and (covered is None or results.sourceOf(node) is not covered))

    def outlinedRole(self, node) -> str:
        """Superpixels while their table is open, else the hot regions."""
        superpixels = self.ui.tables.currentIndex == SUPERPIXELS_TAB and node.GetNodeReference(results.SUPERPIXELS)
        return results.SUPERPIXELS if superpixels else results.REGIONS

    @contextmanager
    def still(self):
        """Inside, changed parameters and widgets leave the views alone."""
        before, self.resting = self.resting, True
        try:
            yield
        finally:
            self.resting = before

    @contextmanager
    def writing(self):
        """Inside, the views are written to. What others have changed in them since the last time is kept in mind."""
        host = hostScene()
        self.before = self.toPutBack(host) or views.remember_views(host)
        with self.still():
            yield host
        self.left = views.remember_views(host)

    def toPutBack(self, host) -> views.Views | None:
        return self.before and views.updated_views(host, self.before, self.left)

    def onPutBack(self, *_) -> None:
        host = hostScene()
        before, self.before = self.toPutBack(host), None
        with self.still():
            if before is not None:
                views.restore_views(host, before)
            self.panel.parameters.sideBySide = False
            self.panel.parameters.rendering = False
            self.panel.parameters.segmentation = True
            self.panel.update()

    def onStartClose(self, *_) -> None:
        with self.still():
            side_by_side.leave_side_by_side(hostScene())

    def onStartImport(self, *_) -> None:
        """No choice in an opened scene has just been made."""
        self.followed = {}

    def onLayout(self, *_) -> None:
        """Another layout was chosen in the toolbar, perhaps."""
        p = self.panel.parameters
        if p and p.sideBySide and not self.resting and not layouts.is_side_by_side(hostScene()):
            self.panel.update()

    def onVolumeRemoved(self) -> None:
        """Maps whose volume is gone leave the views: they would lie over another one."""
        if not slicer.mrmlScene.IsClosing():
            self.withdrawOrphans()
            qt.QTimer.singleShot(0, self.withdrawOrphans)  # a view's selector puts another volume in the gap: a map?

    def withdrawOrphans(self) -> None:
        if not slicer.mrmlScene.IsBatchProcessing():
            self.withdraw([node for node in allMaps() if results.sourceOf(node) is None])

    # The maps

    def list(self, maps: list) -> None:
        """A row for each map; the boxes say which are over the volume now."""
        table, ids = self.ui.maps, [node.GetID() for node in maps]
        with self.still():
            if ids != self.listed:
                self.listed = ids
                fill(
                    table,
                    ["", "class", "method", "layer"],
                    [mapRow(node) for node in maps],
                    stretched=(1, 3),
                    empty=NO_MAP,
                )
            fitHeight(table)
            if not maps:
                return
            visible = self.visible()
            for row, node in enumerate(maps):
                state = qt.Qt.Checked if node in visible else qt.Qt.Unchecked
                if table.item(row, 0).checkState() != state:
                    table.item(row, 0).setCheckState(state)
            row = maps.index(self.panel.parameters.shownMap)
            if table.currentRow() != row:
                table.setCurrentCell(row, 1)

    def nodeOfRow(self, row: int):
        return slicer.mrmlScene.GetNodeByID(self.listed[row]) if row < len(self.listed) else None

    def onBox(self, item) -> None:
        """A map's box was ticked or cleared."""
        if self.resting or self.panel.parameters is None:
            return
        nodes = [self.nodeOfRow(row) for row in range(len(self.listed))]
        boxes = [self.ui.maps.item(row, 0) for row in range(len(nodes))]
        self.apply([node for node, box in zip(nodes, boxes, strict=True) if box.checkState() == qt.Qt.Checked])
        self.panel.update()

    def onMap(self, row: int, column: int) -> None:
        """A click beside the box chooses a map; one that is not shown takes the place of those that are."""
        node = self.nodeOfRow(row)
        if node is None:
            return
        p, visible = self.panel.parameters, self.visible()
        if column > 0 and node not in visible:
            visible = [*visible[: layouts.MOST_VIEWS - 1], node] if p.sideBySide else [node]
        with self.still():
            p.shownMap = node
        self.describe(node)
        self.apply(visible)
        self.panel.update()

    def describe(self, node) -> None:
        """Limits, range, colours and tables of the chosen map."""
        if node is self.described:
            return
        self.described, self.strong = node, None
        self.stored.clear()
        facts = results.facts(node) if node else {}
        self.ui.limits.text = described(facts) if node else ""
        self.ui.limits.visible = node is not None
        with self.still():
            if node:
                self.showRange(node)
                self.ui.colors.clear()
                self.ui.colors.addItems(colours.colors_for(node))
                self.ui.colors.setCurrentIndex(colours.colors_for(node).index(colours.colors_of(node)))
            self.showRegions(node, facts)
            self.showSuperpixels(node, facts)

    def showRange(self, node) -> None:
        """The slider over the map's own values, in steps of about a hundredth."""
        self.unit, widget = unitOf(node), self.ui.range
        low, high = (value / self.unit for value in colours.bounds_of(node))
        power = floor(log10((high - low) / 100)) if high > low else -2
        step = 10.0**power
        widget.setRange(0, 0)  # a step that does not fit the range of the map before is refused
        widget.decimals = max(0, -power)
        widget.singleStep = step
        widget.suffix = "" if self.unit == 1 else f"e{round(log10(self.unit))}"
        widget.setRange(step * floor(low / step), step * -floor(-high / step))  # rounding must not cut the ends off
        chosen = [value / self.unit for value in colours.range_of(node)]
        widget.setValues(
            widget.minimum if chosen[0] <= low else chosen[0], widget.maximum if chosen[1] >= high else chosen[1]
        )

    def onRange(self, low: float, high: float) -> None:
        if self.resting or not self.described:
            return
        widget, (least, most) = self.ui.range, colours.bounds_of(self.described)
        half = widget.singleStep / 2
        colours.set_range(
            self.described,
            min(low * self.unit, least) if low < widget.minimum + half else low * self.unit,
            max(high * self.unit, most) if high > widget.maximum - half else high * self.unit,
        )

    def onColors(self, *_) -> None:
        if self.described:
            colours.set_colors(self.described, self.ui.colors.currentText)

    # The tables

    def showRegions(self, node, facts: dict) -> None:
        rows = facts.get("regions", {}).get("table", [])
        colors = colorsOf(node, results.REGIONS, facts.get("regions", {}))
        cells = [
            ((row["name"], colors.get(row["name"])), sizeOf(row), percent(row["mass_share"]), number(row["peak"]))
            for row in rows
        ]  # fmt: skip
        fill(self.ui.regions, ["region", "volume", "share", "peak"], cells, empty="Nothing speaks in favour in this map." if node else NO_MAP)  # fmt: skip

    def showSuperpixels(self, node, facts: dict) -> None:
        rows = facts.get("superpixels", {}).get("table", [])
        colors = colorsOf(node, results.SUPERPIXELS, facts.get("superpixels", {}))
        cells = [
            ((row["name"], colors.get(row["name"])), number(row["coefficient"]), sizeOf(row))
            for row in sorted(rows, key=lambda row: -row["coefficient"])
        ]
        fill(self.ui.superpixelTable, ["superpixel", "coefficient", "volume"], cells, empty="This method has no superpixels." if node else NO_MAP)  # fmt: skip

    def onRegion(self, row: int, column: int) -> None:
        """Jump to a hot region's centre of mass."""
        node = self.described
        name = self.ui.regions.item(row, 0).text()
        found = [each for each in results.facts(node)["regions"]["table"] if each["name"] == name] if node else []
        if found:
            self.point(results.toWorld(node, found[0]["centroid"]), name)

    def onSuperpixel(self, row: int, column: int) -> None:
        """Jump to the voxel of a superpixel that lies nearest to its centre."""
        node = self.described
        if not node or not partsOf(node).get(results.SUPERPIXELS):
            return
        name = self.ui.superpixelTable.item(row, 0).text()
        found = [each for each in results.facts(node)["superpixels"]["table"] if each["name"] == name]
        place = found and (found[0].get("place") or self.placeOf(found[0]["value"]))
        if place:
            self.point(results.toWorld(node, place), name)

    def placeOf(self, value: int) -> list | None:
        """The place of a superpixel of a map that does not tell it."""
        volume = self.ofMap(self.described).superpixels.volume
        inside = np.argwhere(volume.array == value)
        if not len(inside):
            return None
        return list(volume.ras(inside[np.argmin(np.linalg.norm(inside - inside.mean(axis=0), axis=1))][::-1]))

    def ofMap(self, node) -> StoredMap:
        """The chosen map's contents, read once."""
        if node.GetID() not in self.stored:
            self.stored[node.GetID()] = storedMap(node)
        return self.stored[node.GetID()]

    def point(self, place, name: str) -> None:
        """Jump to a place and make the outline of this name strong, the others faint."""
        self.strong = name
        self.jump(place)
        self.apply(self.visible())

    def showLabels(self, node) -> None:
        """Lay a segmentation that is a label volume over its volume."""
        with self.writing() as host:
            layers.show_labels(host, node)

    def jump(self, place) -> None:
        """Put the slice views through a world RAS point."""
        with self.writing() as host:
            views.jump(host, place)
        self.gate(results.mapsOf(self.panel.parameters.inputVolume))

    def onTab(self, *_) -> None:
        self.strong = None
        if self.panel.parameters is None:
            return
        self.showAnatomy()
        visible = self.visible()
        if visible:
            self.apply(visible)

    # The anatomy

    def showAnatomy(self) -> None:
        """Shares of the chosen map by structure, computed while their table is open."""
        node, anatomy = self.panel.parameters.shownMap, self.panel.parameters.anatomy
        if self.ui.tables.currentIndex != ANATOMY_TAB:
            return
        key = (node and node.GetID(), anatomy and (anatomy.GetSegmentation().GetMTime(), placed(anatomy), placed(node)))
        if key == self.filled:
            return
        self.filled = key
        rows, empty = [], "Choose a segmentation above." if node else NO_MAP
        if node and anatomy:
            try:
                rows = self.anatomyRows(key, node, anatomy)
            except InputError as error:
                empty = str(error)
        signed = any(row.negative_share for row in rows)
        heads = ["structure", *(["for", "against"] if signed else ["map"]), "volume"]
        cells = [
            ((row.structure, None), percent(row.positive_share), *([percent(row.negative_share)] if signed else []), percent(row.volume_share))
            for row in sorted(rows, key=lambda row: -row.positive_share)
        ]  # fmt: skip
        fill(self.ui.structures, heads, cells, empty=empty)

    def anatomyRows(self, key: tuple, node, anatomy) -> list:
        if key not in self.shares:
            with slicer.util.WaitCursor():
                self.shares[key] = anatomyShares(node, anatomy, self.ofMap(node))
        return self.shares[key]

    # What cannot be done, and why

    def gate(self, maps: list) -> None:
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
        reasons["segmentation"] = (
            ""
            if segmentationsOf(self.panel.parameters.inputVolume)
            else "No segmentation of this volume was predicted."
        )
        for name, reason in reasons.items():
            widget = getattr(ui, name)
            widget.enabled = not reason
            widget.toolTip = reason or self.tips[name]
        if len(maps) > layouts.MOST_VIEWS:
            ui.sideBySide.toolTip += (
                f" There is room for {layouts.MOST_VIEWS} of the {len(maps)} maps: the ticked ones."
            )
        ui.putBack.enabled = self.before is not None
        ui.putBack.toolTip = (
            "The views as they were before Look changed them."
            if self.before is not None
            else "Look has not changed the views."
        )


def allMaps() -> list:
    """The maps of every volume: what another one's left in the views goes too."""
    listed = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in listed if node.GetAttribute(results.KIND) == "map"]


def allSegmentations() -> list:
    """The predicted segmentations of every volume."""
    listed = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in listed if node.GetAttribute(results.KIND) == "segmentation" and node.GetDisplayNode()]


def segmentationsOf(volume) -> list:
    return [node for node in allSegmentations() if volume and results.sourceOf(node) is volume]


def partsOf(node) -> dict:
    """Role -> segmentation of a map's hot regions and superpixels, where it has them."""
    found = {role: node.GetNodeReference(role) for role in (results.REGIONS, results.SUPERPIXELS)}
    return {role: part for role, part in found.items() if part is not None and part.GetDisplayNode()}


def unitOf(node) -> float:
    """The power of ten that a map's values are told in, so that they have few digits."""
    largest = max(abs(value) for value in colours.bounds_of(node))
    power = floor(log10(largest)) if largest else 0
    return 1.0 if -3 <= power < 4 else 10.0**power


def placed(node) -> tuple:
    """Changes when a node is moved by its transforms."""
    transform = node and node.GetParentTransformNode()
    return (node and node.GetID(), transform and transform.GetTransformToWorldMTime())


def mapRow(node) -> list:
    facts = results.facts(node)
    method = methodTitle(facts["method"])
    return [False, (facts["target"], None, facts["title"]), (method, None, facts["title"]), (facts["layer"], None, facts["title"])]  # fmt: skip


def described(facts: dict) -> str:
    """Title, limits and notice of a map in rich text."""
    lines = [
        f"<b>{html.escape(facts['title'])}</b>",
        *(f"&bull; {html.escape(worded(text))}" for text in facts["limits"]),
    ]
    return "<br>".join([*lines, f"<i>{html.escape(NOTICE)}.</i>"])


def anatomyShares(node, anatomy, stored: StoredMap | None = None) -> list:
    """Shares of a map by structure on its volume's grid, as MedXAILib.outputs.folder writes them.

    :raises InputError: for a segmentation without segments, or where the volume was removed.
    """
    source = results.sourceOf(node)
    if source is None:
        raise InputError("The volume of this map was removed from the scene.")
    labels = labels_of(anatomy, source)
    mass = resample((stored or storedMap(node)).mass, labels.volume.grid)
    return anatomy_shares(mass, labels, seenBy(source, results.facts(node)["grid"]))


def colorsOf(node, role: str, facts: dict) -> dict[str, tuple]:
    """Segment name -> colour, as the segments have now."""
    colors = {name: tuple(color) for _, name, color in facts.get("rows", [])}
    segmentation = node.GetNodeReference(role) if node else None
    if segmentation is not None:
        segments = segmentation.GetSegmentation()
        each = [segments.GetNthSegment(n) for n in range(segments.GetNumberOfSegments())]
        colors |= {segment.GetName(): segment.GetColor() for segment in each}
    return colors


def fill(table, heads: list[str], rows: list, *, stretched: tuple[int, ...] = (0,), empty: str = "") -> None:
    """Write rows into a table; without rows, a sentence that says so.

    :param rows: of each cell a text, or (text, colour or None, perhaps a tool tip), or a truth value for a box.
    """
    table.clear()
    table.clearSpans()
    table.setRowCount(max(1, len(rows)) if empty else len(rows))
    table.setColumnCount(len(heads))
    table.setHorizontalHeaderLabels(heads)
    table.horizontalHeader().visible = bool(rows)
    for column in range(len(heads)):
        stretch = qt.QHeaderView.Stretch if column in stretched else qt.QHeaderView.ResizeToContents
        table.horizontalHeader().setSectionResizeMode(column, stretch)
    for n, row in enumerate(rows):
        for column, cell in enumerate(row):
            table.setItem(n, column, itemOf(cell, right=column not in stretched and isinstance(cell, str)))
    if empty and not rows:
        table.setItem(0, 0, itemOf(empty))
        table.setSpan(0, 0, 1, len(heads))
        table.item(0, 0).setFlags(qt.Qt.ItemIsEnabled)


def itemOf(cell, right: bool = False):
    item = qt.QTableWidgetItem()
    if isinstance(cell, bool):
        item.setCheckState(qt.Qt.Checked if cell else qt.Qt.Unchecked)
        return item
    text, color, *tip = cell if isinstance(cell, tuple) else (cell, None)
    item.setText(text)
    item.setToolTip(tip[0] if tip else text)
    if color:
        item.setData(qt.Qt.DecorationRole, qt.QColor(*(round(255 * part) for part in color)))
    if right:
        item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item


def number(value: float) -> str:
    return f"{value:.3g}"


def sizeOf(row: dict) -> str:
    """mL of a row, or voxels where the file does not give their size."""
    return f"{row['voxels']} voxels" if row["volume_ml"] is None else f"{number(row['volume_ml'])} mL"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
