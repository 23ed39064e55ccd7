"""The section Keep: results as files, the run as text, the log, and what MedXAI stored removed."""

from __future__ import annotations

import platform
import re
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import qt
import slicer

from MedXAILib import NOTICE, __version__
from MedXAILib.app.job import Job
from MedXAILib.errors import Caveat, InputError, as_values
from MedXAILib.io.read import read_volume
from MedXAILib.models import summary as listing
from MedXAILib.models.security import consent as trust
from MedXAILib.mrml.nodes import labels_of, volume_of
from MedXAILib.outputs import folder as files
from MedXAILib.outputs import staging
from MedXAILib.outputs.pictures.snapshot import snapshot

from . import input as models
from . import results, sample
from .maps import overlayOf, seenBy, segmentationOf, storedMap

NO_RESULT = "There is no result of this volume yet: press Predict or Explain."
NO_RUN = "Nothing was run yet in this session: press Predict or Explain."


class KeepSection:
    def __init__(self, panel):
        self.panel, self.ui = panel, panel.ui

    def connect(self) -> None:
        ui = self.ui
        self.tips = {button: button.toolTip for button in (ui.exportButton, ui.copyPython, ui.copyCommand)}
        ui.exportButton.clicked.connect(self.onExport)
        ui.copyPython.clicked.connect(self.onCopyPython)
        ui.copyCommand.clicked.connect(self.onCopyCommand)
        ui.saveLog.clicked.connect(self.onSaveLog)
        ui.removeStored.clicked.connect(self.onRemoveStored)
        ui.keepMessage.visible = False

    def update(self) -> None:
        volume = self.panel.parameters.inputVolume
        kept = results.mapsOf(volume) or results.predictionsOf(volume)
        self.gate(self.ui.exportButton, "" if kept else NO_RESULT)
        for button in (self.ui.copyPython, self.ui.copyCommand):
            self.gate(button, "" if self.panel.lastJob else NO_RUN)

    def gate(self, button, obstacle: str) -> None:
        button.enabled = not obstacle
        button.toolTip = obstacle or self.tips[button]

    def say(self, text: str, failed: bool = False) -> None:
        self.ui.keepMessage.text = text
        self.ui.keepMessage.setStyleSheet("color: #c0392b" if failed else "")
        self.ui.keepMessage.visible = bool(text)

    def onExport(self, *_) -> None:
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), "A folder to export into")
        if chosen:
            self.exportInto(Path(chosen))

    def exportInto(self, chosen: Path) -> None:
        """Export into a folder of the volume's name, after a question where an earlier run lies there."""
        volume = self.panel.parameters.inputVolume
        folder = chosen / files.safe(volume.GetName())
        earlier = (folder / "run.json").exists()
        if earlier and not slicer.util.confirmOkCancelDisplay(f"{folder} holds an earlier run. Replace its files?"):
            self.say("Nothing was exported.")
            return
        try:
            with slicer.util.WaitCursor():
                written = export(volume, folder, overwrite=earlier, anatomy=self.panel.parameters.anatomy)
            self.say(f"{len(written)} files are in {folder}.")
        except (InputError, OSError) as error:
            self.say(str(error), failed=True)

    def onCopyPython(self, *_) -> None:
        self.copy(asPython(self.panel.lastJob, self.panel.lastVolumes), "The call is on the clipboard: paste it into the Python console.")  # fmt: skip

    def onCopyCommand(self, *_) -> None:
        try:
            self.copy(asCommand(self.panel.lastJob, self.panel.lastVolumes), "The command is on the clipboard.")
        except InputError as error:
            self.say(str(error), failed=True)

    def copy(self, text: str, message: str) -> None:
        qt.QApplication.clipboard().setText(text)
        self.say(message)

    def onSaveLog(self, *_) -> None:
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), "Save the log", "medxai-log.txt", "Text (*.txt)"
        )
        if not path:
            return
        try:
            Path(path).write_text(self.report(), encoding="utf-8")
            self.say(f"The log is in {path}.")
        except OSError as error:
            self.say(f"{path}: the file cannot be written ({error.strerror}); choose another place.", failed=True)

    def report(self) -> str:
        """What a report of a fault needs."""
        job, card = self.panel.lastJob, self.panel.input.card
        return logText(
            self.panel.log,
            job,
            card.name if card else "none",
            list(self.panel.lastVolumes.values()),
            self.panel.logic.client.versions,
        )

    def onRemoveStored(self, *_) -> None:
        found = storedThings()
        if not found:
            self.say("MedXAI has stored nothing.")
            return
        question = f"MedXAI stored: {'; '.join(found)}. Remove all of it? Scenes, models and files of your own stay."
        if slicer.util.confirmOkCancelDisplay(question):
            removeStored()
            left = storedThings()
            gone = [text for text in found if text not in left]
            self.say(
                f"Removed: {'; '.join(gone) or 'nothing'}." + (f" Still there: {'; '.join(left)}." if left else "")
            )
            self.panel.input.list(self.panel.parameters.model)


def export(volumeNode, folder: str | Path, overwrite: bool = False, anatomy=None) -> list[str]:
    """Write all results of a volume, in the layout that ``medxai explain`` writes: whole or not at all.

    :param folder: made where it is not there.
    :param overwrite: replace the files of an earlier run in it.
    :param anatomy: segmentation node; adds the shares by structure.
    :return: the files, relative to the folder.
    :raises InputError: where there is nothing to write or no place for it.
    """
    predictions, maps = results.predictionsOf(volumeNode), results.mapsOf(volumeNode)
    if not predictions and not maps:
        raise InputError(f"{volumeNode.GetName()}: there is no result to export; predict or explain first.")
    reference, cases = volume_of(volumeNode), caseNames(volumeNode.GetName(), [*predictions, *maps])
    stems = files.stems(sorted(set(cases.values())))
    labels = labels_of(anatomy, volumeNode) if anatomy is not None and maps else None
    segmentation, shown, said, summary = None, [], [], {name: {"input": name, "maps": []} for name in stems}
    with staging.staged(Path(folder), overwrite) as staged:
        out = files.Folder(staged, "nrrd")
        for node in predictions:
            name, facts = cases[node.GetID()], results.facts(node)
            caveats = [Caveat(**caveat) for caveat in facts.get("caveats", ())]
            summary[name]["caveats"] = as_values(caveats)
            out.caveats(name, caveats)
            said += [text for text in caveats if text not in said]
            if facts["task"] == "classification":
                said = facts.get("probabilities") or facts["values"]
                out.classification(name, said, piecesInFile(facts, volumeNode), facts.get("unit"))
                keys = ("model", "probabilities", "values", "unit", "aggregation")
                summary[name] |= {key: facts[key] for key in keys if key in facts}
            elif (found := segmentationOf(node)) is not None:
                segmentation = found
                out.segmentation(
                    name, stems[name], found, {"model": facts["model"], "input": name, **facts["versions"]}
                )
                summary[name] |= {key: facts[key] for key in ("model", "volume_ml", "voxels") if key in facts}
        for node in maps:
            name, facts, stored = cases[node.GetID()], results.facts(node), storedMap(node)
            seen = seenBy(volumeNode, facts["grid"]) if labels else None
            regions = out.attribution(name, stems[name], stored, reference, labels, seen, facts["job"]["share"])
            shown.append(replace(overlayOf(node, stored), regions=regions))
            summary[name]["maps"].append(
                {"class": stored.target, "method": stored.method, "layer": stored.layer, "limits": list(stored.limits)}
            )
        heading = " · ".join([*dict.fromkeys(map(modelOf, [*predictions, *maps])), volumeNode.GetName()])
        # slices only: a child process draws the 3D view, and PythonSlicer has no scene of its own
        picture = staged / "snapshot.png"
        snapshot(reference, shown, picture, heading=heading, segmentation=segmentation, solid=False, caveats=said)
        jobs = [Job.from_json(results.facts(node)["job"]).described() for node in [*predictions, *maps]]
        made = next((results.facts(node)["versions"] for node in predictions), {})
        run = {
            "jobs": [job for n, job in enumerate(jobs) if job not in jobs[:n]],
            "versions": {"slicer": slicer.app.applicationVersion, **made},
            "exported": datetime.now(UTC).isoformat(timespec="seconds"),
            "cases": list(summary.values()),
        }
        return out.finish(run)["files"]


def caseNames(base: str, nodes: list) -> dict[str, str]:
    """Node ID -> name of its case: the volume's; a further model, and a result made once more, are cases of their own."""
    names, models_, taken = {}, [], set()
    for node in nodes:
        facts, model = results.facts(node), modelOf(node)
        models_ += [] if model in models_ else [model]
        name = base if model == models_[0] else f"{base} {model}"
        what = tuple(facts.get(key) for key in ("target", "method", "layer"))
        number = 1
        while (name, number, what) in taken:
            number += 1
        taken.add((name, number, what))
        names[node.GetID()] = name if number == 1 else f"{name} {number}"
    return names


def modelOf(node) -> str:
    """The name of the model that a result comes from."""
    facts = results.facts(node)
    return facts["model"] if "model" in facts else facts["provenance"]["model"]


def asPython(job: Job, volumes: dict) -> str:
    """The run as a call of MedXAILogic, for the Python console."""
    nodes = {name: f"slicer.util.getNode({node.GetName()!r})" for name, node in volumes.items()}
    first = next(iter(volumes.values()))
    volume = next(iter(nodes.values()))
    if len(nodes) > 1:
        volume = "{" + ", ".join(f"{name!r}: {node}" for name, node in nodes.items()) + "}"
    given = {f.name: getattr(job, f.name) for f in fields(job) if getattr(job, f.name) != f.default}
    if job.voxel is not None:
        given["voxel"] = tuple(results.toWorld(first, job.voxel))
    words = ["volume", repr(job.model)]
    if job.task == "explain":
        words += [repr(job.classes[0] if job.classes else None), repr(list(job.methods))]
    skipped = ("task", "inputs", "model", "classes", "methods")
    words += [f"{name}={value!r}" for name, value in given.items() if name not in skipped]
    return f"from MedXAI import MedXAILogic\n\nlogic = MedXAILogic()\nvolume = {volume}\nnodes = logic.{job.task}({', '.join(words)})\n"


def asCommand(job: Job, volumes: dict) -> str:
    """The run as a command line.

    :raises InputError: for a volume that is in no file.
    """
    files_ = {name: fileOf(node) for name, node in volumes.items()}
    first = next(iter(volumes))
    slices = slicesInFile(job.slices, volumes[first], files_[first], listing.brief(job.model).axis)
    return replace(job, inputs=files_, slices=slices).command()


def slicesInFile(slices: str | None, node, path: str, axis: str) -> str | None:
    """Slices of a node as the file numbers them: Slicer turns the array of a left-handed file around.

    :param slices: ``a:b`` in the node's own array; anything else stays as it is.
    :raises InputError: for a file that cannot be read.
    """
    found = re.fullmatch(r"(\d+):(\d+)", slices or "")
    if not found:
        return slices
    volume, file = volume_of(node), read_volume(path)
    index, other = volume.axis_index(axis), file.axis_index(axis)
    numbers = []
    for number in (int(found[1]), int(found[2]) - 1):
        middle = (np.array(volume.shape) - 1) / 2
        middle[index] = number
        numbers.append(round(float(file.ijk(volume.ras(middle))[other])))
    return f"{min(numbers)}:{max(numbers) + 1}"


def piecesInFile(facts: dict, node) -> list:
    """The probabilities by slice in the order of the file that the volume comes from."""
    pieces = facts.get("slices", [])
    try:
        turned = slicesInFile("0:1", node, fileOf(node), listing.brief(facts["job"]["model"]).axis) != "0:1"
    except InputError:  # in no file, or its card is gone: the node's own order
        turned = False
    return pieces[::-1] if pieces and turned else pieces


def fileOf(node) -> str:
    """The file of a volume node, or the folder of its series.

    :raises InputError: where it has none, or has changed since.
    """
    storage = node.GetStorageNode()
    path = storage.GetFullNameFromFileName() if storage else ""
    if not path or not Path(path).exists() or node.GetModifiedSinceRead():
        raise InputError(f"{node.GetName()}: a command needs a file; save this volume first (File, Save).")
    return str(Path(path).parent) if storage.GetNumberOfFileNames() > 1 else path


def logText(lines, job: Job | None, card: str, volumes: list, worker: dict[str, str]) -> str:
    """Versions, platform, the last run and the log, without names of volumes or of the user's folder.

    :param worker: the versions of what computed; empty where nothing did.
    """
    slicers = {"slicer": slicer.app.applicationVersion, "its python": platform.python_version()}
    found = {**slicers, "medxai": __version__, **worker}
    plain = {key: value for key, value in job.described().items() if key != "inputs"} if job else "none"
    head = [
        f"MedXAI {__version__}. {NOTICE}.",
        "versions: " + ", ".join(f"{name} {number}" for name, number in found.items()),
        f"platform: {platform.platform()}, {platform.machine()}",
        f"model: {card}",
        f"last run: {plain}",
        "",
    ]
    return "\n".join([*head, *(withoutNames(line, volumes) for line in lines), ""])


def withoutNames(line: str, volumes: list) -> str:
    """A line without the names of the scene's volumes and the path of the user's folder."""
    listed = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    names = {node.GetName() for node in [*listed, *volumes] if node.GetName()}
    for name in sorted(names, key=len, reverse=True):
        line = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "(volume)", line)
    return line.replace(str(Path.home()), "~")


def sampleFiles() -> list[Path]:
    """Sample data of ours in Slicer's cache."""
    cache = Path(slicer.app.cachePath)
    return sorted(path for path in cache.glob(f"{sample.NAME}*") if path.is_file())


def storedThings() -> list[str]:
    """What MedXAI has stored outside of scenes, in words; empty for nothing."""
    counts = {
        "sample data files": len(sampleFiles()),
        "consents to run a model file": len(trust.trusted()),
        "recent models in the list": len(models.recentModels()),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def removeStored() -> None:
    """Delete the sample data, withdraw every consent, forget the recent models."""
    for path in sampleFiles():
        path.unlink()
    trust.forget()
    slicer.app.userSettings().remove(models.RECENT)
