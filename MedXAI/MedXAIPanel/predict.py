"""The section Predict: the run, the class probabilities, the plot by slice, the segmentation."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import qt
import slicer

from MedXAILib.app.job import Job
from MedXAILib.geometry.labels import label_colors
from MedXAILib.models.summary import quantity
from MedXAILib.mrml.host import Node

from . import results
from .cells import colorOf, fitHeight
from .running import RunButton

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget


class PredictSection:
    """Starts predictions and shows the newest one."""

    def __init__(self, panel: MedXAIWidget) -> None:
        self.panel, self.ui = panel, panel.ui
        self.run = RunButton(panel, "predict", "Predict")
        self.shown: Node | None = None
        self.plotView: Node | None = None

    def connect(self) -> None:
        """Connect the section's widgets."""
        self.ui.predictButton.clicked.connect(self.onPredict)
        self.ui.probabilities.cellClicked.connect(self.onRow)
        header = self.ui.probabilities.horizontalHeader()
        header.setStretchLastSection(True)
        self.ui.probabilities.verticalHeader().visible = False
        self.show(None)

    def update(self) -> None:
        """Enable what can be done, and show the newest prediction."""
        self.run.update(self.panel.input.obstacle(), "Run the model on the volume.")
        segments = self.panel.input.card is not None and self.panel.input.card.voxelwise
        self.ui.labelVolume.visible = segments
        self.ui.surface.visible = segments
        self.ui.surface.enabled = not self.panel.parameters.labelVolume
        self.ui.surface.toolTip = (
            "A label volume has no surface."
            if self.panel.parameters.labelVolume
            else "Make a closed surface of the segmentation."
        )
        table = self.latest()
        if table is not self.shown:
            self.show(table)

    def latest(self) -> Node | None:
        """The newest prediction of the chosen volume by the chosen model."""
        card = self.panel.input.card
        of = [
            n
            for n in results.predictionsOf(self.panel.parameters.inputVolume)
            if card and results.metadata(n)["model"] == card.name
        ]
        return of[-1] if of else None

    def onPredict(self, *_: Any) -> None:
        """Start a prediction, or cancel the one that runs."""
        p = self.panel.parameters
        if self.run.running:
            self.run.cancel()
        else:
            self.run.start(self.job(), self.onDone, labelVolume=p.labelVolume, surface=p.surface)

    def job(self) -> Job:
        """The run that the widgets mean."""
        p = self.panel.parameters
        return Job(task="predict", inputs={}, model=p.model, trust=bool(self.ui.trust.checked), device=p.device)

    def onDone(self, made: list[Node], event: dict) -> None:
        """A run has ended: a label volume is laid over its volume."""
        for node in made:
            if node.IsA("vtkMRMLLabelMapVolumeNode"):
                self.panel.display.showLabels(node)

    def show(self, table: Node | None) -> None:
        """Classes by falling probability, values, or structures by falling volume, with bars; the plot of a slice-wise
        model."""
        self.shown = table
        found = results.metadata(table) if table else {}
        caveats = [html.escape(caveat["text"]) for caveat in found.get("caveats", ())]
        self.ui.caveats.text = "<br>".join(f"<b>{text}</b>" for text in caveats)
        self.ui.caveats.visible = bool(caveats)
        values = next((found[key] for key in results.VALUES if key in found), {})
        whole = 1.0 if "probabilities" in found else max(map(abs, values.values()), default=0) or 1.0
        grid = self.ui.probabilities
        grid.setRowCount(len(values))
        grid.setColumnCount(2)
        grid.setHorizontalHeaderLabels(["class", heading(found)])
        colors = dict(zip(values, label_colors(len(values)), strict=True)) if "by_slice" in found else {}
        for row, (name, value) in enumerate(sorted(values.items(), key=lambda pair: -pair[1])):
            item = qt.QTableWidgetItem(name)
            if name in colors:  # those of the curves in the plot
                item.setData(qt.Qt.DecorationRole, colorOf(colors[name]))
            grid.setItem(row, 0, item)
            bar = qt.QProgressBar()
            bar.maximum = 1000
            bar.value = round(1000 * max(value, 0) / whole)
            bar.format = words(value, found)
            grid.setCellWidget(row, 1, bar)
        grid.visible = bool(values)
        fitHeight(grid)
        self.plot(table)

    def plot(self, table: Node | None) -> None:
        """The probabilities by slice, in a plot view of the panel's own."""
        slices = table.GetNodeReference(results.SLICES) if table else None
        chart = slices.GetNodeReference(results.CHART) if slices else None
        self.ui.plot.visible = chart is not None
        if chart is None:
            return
        if self.plotView is None or self.plotView.GetScene() is None:
            self.plotView = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotViewNode", "MedXAI probabilities")
            self.plotView.SetLayoutName("MedXAI")
            self.plotView.SetSaveWithScene(False)
            self.ui.plot.setMRMLPlotViewNode(self.plotView)
        self.plotView.SetPlotChartNodeID(chart.GetID())

    def onRow(self, row: int, column: int) -> None:
        """Jump the slice views to the place that matters most for the class of a row."""
        table = self.shown
        place = whereOf(table, self.ui.probabilities.item(row, 0).text()) if table else None
        if place is not None:
            self.panel.display.jump(place)


def words(value: float, found: dict) -> str:
    """A number of a prediction."""
    if "values" in found:
        return quantity(value, found["unit"])
    if "voxels" in found:
        return f"{value} voxels"
    return f"{value:.3f}" if "probabilities" in found else f"{value:.1f} mL"


def heading(found: dict) -> str:
    """What the numbers of a prediction are."""
    if "volume_ml" in found or "voxels" in found:
        return "volume"
    if "by_slice" in found:
        return {"max": "highest", "mean": "mean"}[found["aggregation"]] + f" of {len(found['by_slice'])} slices"
    return "value" if "values" in found else "probability"


def whereOf(table: Node, name: str) -> list[float] | None:
    """World RAS of the slice where a class is most probable, or of a segment's middle; None where there is no such place."""
    found = results.metadata(table)
    if "by_slice" in found:
        column = list(found.get("probabilities") or found["values"]).index(name)
        strongest = max(range(len(found["by_slice"])), key=lambda n: found["by_slice"][n][column])
        return results.toWorld(results.sourceOf(table), found["centres"][strongest])
    node = table.GetNodeReference(results.SEGMENTATION)
    if node is None:
        return None
    if not node.IsA("vtkMRMLSegmentationNode"):
        place = found["labels"].get("places", {}).get(name)
        return None if place is None else results.toWorld(node, place)
    found = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    centre = node.GetSegmentCenterRAS(found) if found else None
    return None if centre is None else list(centre)
