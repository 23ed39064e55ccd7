"""The section Explain: what of the output, by which methods, in which slices and layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import qt
import slicer

from MedXAILib.app.job import EXPLAIN, Job, specs
from MedXAILib.models.schema import by_slices
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import volume_of

from . import results
from .options import OptionFields
from .running import RunButton, duration

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget

ASKED = "MedXAI.Asked"
"""Attribute of a map: what it was asked for as."""
REGION, THRESHOLD, VOXEL = "predicted region", "region above threshold", "this voxel"


class ExplainSection:
    """Asks for what is to be explained, and starts explanations."""

    def __init__(self, panel: MedXAIWidget) -> None:
        self.panel, self.ui = panel, panel.ui
        self.run = RunButton(panel, "explain", "Explain")
        self.options = OptionFields(panel)
        self.listed: tuple | None = None

    def connect(self) -> None:
        """List the methods, and connect the section's widgets."""
        self.panel.logic.client.onMethods = self.listMethods
        self.listMethods()
        self.ui.methods.itemChanged.connect(self.onMethods)
        self.ui.target.connect("activated(int)", self.onTarget)
        self.ui.point.markupsNodeChanged.connect(self.onPoint)
        self.ui.explainButton.clicked.connect(self.onExplain)

    @property
    def known(self) -> dict[str, dict]:
        """The worker's methods by name."""
        return {method["name"]: method for method in self.panel.logic.client.methods}

    def listMethods(self) -> None:
        """A row for each method of the worker's, and fields for their options."""
        self.ui.methods.clear()
        for method in self.known.values():
            item = qt.QListWidgetItem(method["title"])
            item.setData(qt.Qt.UserRole, method["name"])
            item.setToolTip("{family}; needs {needs}; {cost}. {reference}.".format(**method))
            item.setCheckState(qt.Qt.Unchecked)
            self.ui.methods.addItem(item)
        self.options.make(self.known.values())
        if self.panel.parameters:
            self.panel.update()

    def update(self) -> None:
        """Show what can be chosen for the model, and what keeps the run from being started."""
        p, card = self.panel.parameters, self.panel.input.card
        self.listTargets()
        chosen = p.methods.split()
        for item in self.items():
            self.showCost(item)
            item.setHidden(not self.suits(item.data(qt.Qt.UserRole)))
            wanted = qt.Qt.Checked if item.data(qt.Qt.UserRole) in chosen else qt.Qt.Unchecked
            if item.checkState() != wanted:
                item.setCheckState(wanted)
        segmentation = card is not None and card.voxelwise
        slices = card is not None and card.by_slices
        for widget in (self.ui.whatLabel, self.ui.what):
            widget.visible = segmentation
        for widget in (self.ui.thresholdLabel, self.ui.threshold):
            widget.visible = segmentation and p.what == THRESHOLD
        for widget in (self.ui.pointLabel, self.ui.point):
            widget.visible = segmentation and p.what == VOXEL
        for widget in (self.ui.slicesLabel, self.ui.slices, self.ui.topSlices):
            widget.visible = slices
        self.options.update()
        self.ui.topSlices.enabled = p.slices == "top"
        self.ui.topSlices.toolTip = (
            "How many, of the highest scores." if p.slices == "top" else "Choose the top slices first."
        )
        self.showPoint(segmentation and p.what == VOXEL)
        self.run.update(self.panel.input.obstacle() or self.obstacle(), "Make the maps of the class and methods above.")

    def listTargets(self) -> None:
        """The predicted class first, then all; the background of an exclusive segmentation is not asked for."""
        card, table = self.panel.input.card, self.panel.predict.latest()
        names = tuple(name for name in card.labels if name != card.background) if card else ()
        top = results.metadata(table)["top"] if table else None
        if card and card.voxelwise and self.panel.parameters.what == VOXEL:
            top = "the voxel's class"
        if (names, top) != self.listed:
            self.listed = (names, top)
            self.ui.target.clear()
            self.ui.target.addItem(
                top if top == "the voxel's class" else f"predicted: {top}" if top else "the predicted class", ""
            )
            for name in names:
                self.ui.target.addItem(name, name)
        wanted = self.panel.parameters.target
        self.ui.target.setCurrentIndex(max(0, self.ui.target.findData(wanted)) if wanted else 0)

    def showCost(self, item: Any) -> None:
        """A method's name and cost: in passes, or once the network has run, in time."""
        method = self.known[item.data(qt.Qt.UserRole)]
        text, table = f"{method['title']}: {method['cost']}", self.panel.predict.latest()
        if table:
            found = results.metadata(table)
            samples = self.panel.parameters.samples if method["kind"] == "query" else 0
            passes = samples or found["evaluations"].get(method["name"])
            if passes:  # an older prediction does not know a newer method
                seconds = found["pass_seconds"] * passes
                text = f"{method['title']}: {'up to ' if method['kind'] == 'query' else ''}{duration(seconds)}"  # batches are faster
                text += " a slice" if by_slices(found["mode"]) else ""
        if item.text() != text:
            item.setText(text)

    def suits(self, name: str) -> bool:
        """Whether a method is for what the model does; of one that is not known, as a scene may name, it is not."""
        card = self.panel.input.card
        return name in self.known and (card is None or self.known[name]["task"] in ("", card.task))

    def chosen(self) -> tuple[str, ...]:
        """The ticked methods that suit the model."""
        return tuple(name for name in self.panel.parameters.methods.split() if self.suits(name))

    def suggest(self, names: Sequence[str]) -> None:
        """Tick these methods and no others, where any of them is known and suits the model."""
        known = [name for name in self.known if name in names and self.suits(name)]
        if known:
            self.panel.parameters.methods = " ".join(known)

    def items(self) -> list[Any]:
        """The list's items, one for each method."""
        return [self.ui.methods.item(n) for n in range(self.ui.methods.count)]

    def obstacle(self) -> str:
        """Why nothing can be explained; empty where it can."""
        p, card = self.panel.parameters, self.panel.input.card
        if not self.chosen():
            return "Choose a method first."
        if p.target and p.target not in card.labels:
            return f"{card.name} has no class {p.target}: choose another one."
        if card.voxelwise and p.what == THRESHOLD and not self.target():
            return "Choose the class whose region is meant, or predict first."
        if card.voxelwise and p.what == VOXEL and self.voxel() is None:
            return "Place a point in a slice view first."
        return ""

    def target(self) -> str:
        """The class explained; empty for the predicted one while it is unknown."""
        table = self.panel.predict.latest()
        return self.panel.parameters.target or (results.metadata(table)["top"] if table else "")

    def voxel(self) -> tuple[float, ...] | None:
        """The placed point, world RAS mm, or None."""
        node = self.panel.parameters.point
        if node is None or node.GetNumberOfControlPoints() == 0:
            return None
        return tuple(node.GetNthControlPointPositionWorld(node.GetNumberOfControlPoints() - 1))

    def showPoint(self, wanted: bool) -> None:
        """Have a point to place, where it is wanted."""
        if wanted and self.panel.parameters.point is None:
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "MedXAI voxel")
            node.SetMaximumNumberOfControlPoints(1)
            self.panel.parameters.point = node
        if self.ui.point.currentNode() is not self.panel.parameters.point:
            self.ui.point.setCurrentNode(self.panel.parameters.point)

    def job(self) -> Job:
        """The run that the widgets mean."""
        p, card = self.panel.parameters, self.panel.input.card
        of = p.what if card.voxelwise else REGION
        target = self.target() if of == THRESHOLD else p.target
        meant = {
            "trust": bool(self.ui.trust.checked),
            "classes": (target,) if target else (),
            "threshold": p.threshold if of == THRESHOLD else None,
            "voxel": self.voxel() if of == VOXEL else None,
            "methods": self.chosen(),
            "layers": tuple(p.layers.split()),
            "slices": self.slices() if card.by_slices else None,
            "anatomy": None,  # a node, whose structures are told in a table and in an export
        }
        # a parameter that is called as a field of the job is that field, as massFraction is mass_fraction
        same = {f.name: getattr(p, name) for f in specs(EXPLAIN) if hasattr(p, name := inCamelCase(f.name))}
        return Job(task=EXPLAIN, inputs={}, model=p.model, options=self.options.values(), **same | meant)

    def slices(self) -> str:
        """The chosen slices as a job names them."""
        p = self.panel.parameters
        if p.slices == "shown":
            shown = shownSlice(p.inputVolume, self.panel.input.card.axis)
            return f"{shown}:{shown + 1}"
        return "all" if p.slices == "all" else f"top:{p.topSlices}"

    def onTarget(self, index: int) -> None:
        """A class was chosen."""
        self.panel.parameters.target = self.ui.target.itemData(index) or ""

    def onMethods(self, *_: Any) -> None:
        """A method was ticked or cleared."""
        if self.panel.parameters:
            checked = [item.data(qt.Qt.UserRole) for item in self.items() if item.checkState() == qt.Qt.Checked]
            self.panel.parameters.methods = " ".join(checked)

    def onPoint(self, *_: Any) -> None:
        """Another point was chosen."""
        node = self.ui.point.currentNode()
        if self.panel.parameters and node is not self.panel.parameters.point:
            self.panel.parameters.point = node
        if node is not None and not self.panel.hasObserver(node, node.PointPositionDefinedEvent, self.onPlaced):
            self.panel.addObserver(node, node.PointPositionDefinedEvent, self.onPlaced)

    def onPlaced(self, *_: Any) -> None:
        """The point was placed."""
        self.panel.update()

    def onExplain(self, *_: Any) -> None:
        """Compute the maps that are not in the scene yet; the others are shown again."""
        if self.run.running:
            self.run.cancel()
            return
        job = self.job()
        marks = {name: mark(job, name, self.panel.input.volumes()) for name in job.methods}
        there = {node.GetAttribute(ASKED): node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
        missing = tuple(name for name in job.methods if marks[name] not in there)
        if job.methods and not missing:
            self.panel.display.show([there[marks[name]] for name in job.methods])
            self.run.showMessage(
                "These maps were in the scene already: nothing was computed. Remove one there to have it computed again."
            )
            return
        self.run.start(replace(job, methods=missing), lambda made, event: self.onDone(made, event, marks))

    def onDone(self, made: list[Node], event: dict, marks: dict[str, str]) -> None:
        """A run has ended: its maps appear.

        :param marks: method -> what tells its maps from those that were asked for otherwise.
        """
        maps = [node for node in made if node.GetAttribute(results.KIND) == "map"]
        for node in maps:
            node.SetAttribute(ASKED, marks.get(results.metadata(node)["method"], ""))
        self.panel.display.show(maps)


def mark(job: Job, method: str, volumes: dict[str, Node]) -> str:
    """What tells a map that was asked for from every other one: the job, the method, and the volumes as they are now."""
    asked = asdict(replace(job, methods=(method,), trust=False))
    seen = {name: (node.GetID(), node.GetImageData().GetMTime()) for name, node in volumes.items() if node}
    return json.dumps([asked, seen], sort_keys=True, default=str)


def shownSlice(volumeNode: Node, axis: str) -> int:
    """Number (0-based, in the file's own array) of the slice that the slice view across ``axis`` shows.

    :param axis: axial, coronal, sagittal, i, j or k, as in the model's card.
    """
    volume = volume_of(volumeNode)
    index = volume.axis_index(axis)
    normal = volume.affine[:3, index] / volume.spacing[index]
    best, number = -1.0, 0
    for name in slicer.app.layoutManager().sliceViewNames():
        matrix = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().GetSliceToRAS()
        along = abs(sum(matrix.GetElement(row, 2) * normal[row] for row in range(3)))
        if along > best:
            point = results.fromWorld(volumeNode, [matrix.GetElement(row, 3) for row in range(3)])
            best, number = along, round(float(volume.ijk(point)[index]))
    return min(max(number, 0), volume.shape[index] - 1)


def inCamelCase(name: str) -> str:
    """A field of a job as the parameters call it."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)
