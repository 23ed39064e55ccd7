"""The section Predict: the run, the class probabilities, the plot by slice, the segmentation."""

from __future__ import annotations

import html

import qt
import slicer

from MedXAILib.app.job import Job
from MedXAILib.findings.regions import inner_points
from MedXAILib.geometry.labels import label_colors
from MedXAILib.models.summary import quantity
from MedXAILib.mrml.nodes import volume_of

from . import results
from .running import RunButton, fitHeight


class PredictSection:
    def __init__(self, panel):
        self.panel, self.ui = panel, panel.ui
        self.run = RunButton(panel, "predict", "Predict")
        self.shown = None
        self.plotView = None

    def connect(self) -> None:
        self.ui.predictButton.clicked.connect(self.onPredict)
        self.ui.probabilities.cellClicked.connect(self.onRow)
        header = self.ui.probabilities.horizontalHeader()
        header.setStretchLastSection(True)
        self.ui.probabilities.verticalHeader().visible = False
        self.show(None)

    def update(self) -> None:
        self.run.update(self.panel.input.obstacle(), "Run the model on the volume.")
        segments = self.panel.input.card is not None and self.panel.input.card.task == "segmentation"
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

    def latest(self):
        """The newest prediction of the chosen volume by the chosen model."""
        card = self.panel.input.card
        of = [
            n
            for n in results.predictionsOf(self.panel.parameters.inputVolume)
            if card and results.facts(n)["model"] == card.name
        ]
        return of[-1] if of else None

    def onPredict(self, *_) -> None:
        p = self.panel.parameters
        self.run.click(self.job, self.onDone, labelVolume=p.labelVolume, surface=p.surface)

    def job(self) -> Job:
        p = self.panel.parameters
        return Job("predict", {}, p.model, trust=bool(self.ui.trust.checked), device=p.device)

    def onDone(self, made: list, event: dict) -> None:
        for node in made:
            if node.IsA("vtkMRMLLabelMapVolumeNode"):
                self.panel.look.showLabels(node)

    def show(self, table) -> None:
        """Classes by falling probability, values, or structures by falling volume, with bars; the plot of a slice-wise
        model."""
        self.shown = table
        facts = results.facts(table) if table else {}
        caveats = [html.escape(caveat["text"]) for caveat in facts.get("caveats", ())]
        self.ui.caveats.text = "<br>".join(f"<b>{text}</b>" for text in caveats)
        self.ui.caveats.visible = bool(caveats)
        values = next((facts[key] for key in results.VALUES if key in facts), {})
        whole = 1.0 if "probabilities" in facts else max(map(abs, values.values()), default=0) or 1.0
        grid = self.ui.probabilities
        grid.setRowCount(len(values))
        grid.setColumnCount(2)
        grid.setHorizontalHeaderLabels(["class", heading(facts)])
        colors = dict(zip(values, label_colors(len(values)), strict=True)) if "slices" in facts else {}
        for row, (name, value) in enumerate(sorted(values.items(), key=lambda pair: -pair[1])):
            item = qt.QTableWidgetItem(name)
            if name in colors:  # those of the curves in the plot
                item.setData(qt.Qt.DecorationRole, qt.QColor(*(round(255 * part) for part in colors[name])))
            grid.setItem(row, 0, item)
            bar = qt.QProgressBar()
            bar.maximum = 1000
            bar.value = round(1000 * max(value, 0) / whole)
            bar.format = words(value, facts)
            grid.setCellWidget(row, 1, bar)
        grid.visible = bool(values)
        fitHeight(grid)
        self.plot(table)

    def plot(self, table) -> None:
        """The probabilities by slice, in a plot view of the panel's own."""
        slices = table.GetNodeReference(results.SLICES) if table else None
        chart = slices.GetNodeReference("MedXAI.Chart") if slices else None
        self.ui.plot.visible = chart is not None
        if chart is None:
            return
        if self.plotView is None or self.plotView.GetScene() is None:
            self.plotView = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotViewNode", "MedXAI probabilities")
            self.plotView.SetLayoutName("MedXAI")
            self.plotView.SetSaveWithScene(False)
            self.ui.plot.setMRMLPlotViewNode(self.plotView)
        self.plotView.SetPlotChartNodeID(chart.GetID())

    def onRow(self, row, column) -> None:
        """Jump the slice views to the place that matters most for the class of a row."""
        table = self.shown
        place = whereOf(table, self.ui.probabilities.item(row, 0).text()) if table else None
        if place is not None:
            self.panel.look.jump(place)


def words(value: float, facts: dict) -> str:
    """A number of a prediction."""
    if "values" in facts:
        return quantity(value, facts["unit"])
    if "voxels" in facts:
        return f"{value} voxels"
    return f"{value:.3f}" if "probabilities" in facts else f"{value:.1f} mL"


def heading(facts: dict) -> str:
    """What the numbers of a prediction are."""
    if "volume_ml" in facts or "voxels" in facts:
        return "volume"
    if "slices" in facts:
        return {"max": "highest", "mean": "mean"}[facts["aggregation"]] + f" of {len(facts['slices'])} slices"
    return "value" if "values" in facts else "probability"


def whereOf(table, name: str):
    """World RAS of the slice where a class is most probable, or of a segment's middle; None where there is no such place."""
    facts = results.facts(table)
    if "slices" in facts:
        column = list(facts.get("probabilities") or facts["values"]).index(name)
        strongest = max(range(len(facts["slices"])), key=lambda n: facts["slices"][n][column])
        return results.toWorld(results.sourceOf(table), facts["centres"][strongest])
    node = table.GetNodeReference(results.SEGMENTATION)
    if node is None:
        return None
    if not node.IsA("vtkMRMLSegmentationNode"):
        values = {label: value for value, label, _ in facts["labels"]["rows"]}
        place = inner_points(volume_of(node)).get(values[name])
        return None if place is None else results.toWorld(node, place)
    found = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    centre = node.GetSegmentCenterRAS(found) if found else None
    return None if centre is None else results.toWorld(node, centre)
