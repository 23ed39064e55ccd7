"""The section Keep: results as files, the run as text, the log, and what MedXAI stored removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer

from MedXAILib.errors import InputError
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import labels_of
from MedXAILib.outputs.layout import safe

from . import results
from .asking import asCommand, asPython, scoresInFile
from .client import Client
from .report import logText
from .sending import labelsRecord, mapRecord, predictionRecord
from .stored import removeStored, storedThings

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget

NO_RESULT = "There is no result of this volume yet: press Predict or Explain."
RUNNING = "A run is under way: wait for its end, or cancel it."
EXPORTING = "An export is under way."
NO_RUN = "Nothing was run yet in this session: press Predict or Explain."


class ExportSection:
    """Buttons that write files, fill the clipboard, and remove what was stored."""

    def __init__(self, panel: MedXAIWidget) -> None:
        self.panel, self.ui = panel, panel.ui
        self.exporting = False

    def connect(self) -> None:
        """Connect the section's widgets."""
        ui = self.ui
        self.tips = {button: button.toolTip for button in (ui.exportButton, ui.copyPython, ui.copyCommand)}
        ui.exportButton.clicked.connect(self.onExport)
        ui.copyPython.clicked.connect(self.onCopyPython)
        ui.copyCommand.clicked.connect(self.onCopyCommand)
        ui.saveLog.clicked.connect(self.onSaveLog)
        ui.removeStored.clicked.connect(self.onRemoveStored)
        ui.keepMessage.visible = False

    def update(self) -> None:
        """Enable what can be done."""
        volume = self.panel.parameters.inputVolume
        found = results.mapsOf(volume) or results.predictionsOf(volume)
        busy = RUNNING if self.panel.logic.client.busy else EXPORTING if self.exporting else ""
        self.gate(self.ui.exportButton, busy if found else NO_RESULT)
        for button in (self.ui.copyPython, self.ui.copyCommand):
            self.gate(button, "" if self.panel.lastJob else NO_RUN)

    def gate(self, button: Any, obstacle: str) -> None:
        """Enable a button, or say on it why it is not."""
        button.enabled = not obstacle
        button.toolTip = obstacle or self.tips[button]

    def showMessage(self, text: str, failed: bool = False) -> None:
        """Say below the buttons what was done, or why it was not."""
        self.ui.keepMessage.text = text
        self.ui.keepMessage.setStyleSheet("color: #c0392b" if failed else "")
        self.ui.keepMessage.visible = bool(text)

    def onExport(self, *_: Any) -> None:
        """Ask for a folder and export into it."""
        chosen = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), "A folder to export into")
        if chosen:
            self.exportInto(Path(chosen))

    def exportInto(self, chosen: Path) -> None:
        """Export into a folder of the volume's name, after a question where an earlier run lies there; the window is free
        meanwhile."""
        volume = self.panel.parameters.inputVolume
        folder = chosen / safe(volume.GetName())
        earlier = (folder / "run.json").exists()
        if earlier and not slicer.util.confirmOkCancelDisplay(f"{folder} holds an earlier run. Replace its files?"):
            self.showMessage("Nothing was exported.")
            return
        client = self.panel.logic.client

        def done(event: dict) -> None:
            self.exporting = False
            if event["event"] == "error":
                self.showMessage(event["message"], failed=True)
            else:
                self.showMessage(f"{len(event['files'])} files are in {folder}.")
            self.panel.update()

        try:
            client.ask("export", done, **exportRequest(client, volume, folder, earlier, self.panel.parameters.anatomy))
        except InputError as error:
            self.showMessage(str(error), failed=True)
            return
        self.exporting = True
        self.showMessage("Exporting...")
        self.panel.update()

    def onCopyPython(self, *_: Any) -> None:
        """Put the last run on the clipboard as a call."""
        message = "The call is on the clipboard: paste it into the Python console."
        self.copy(asPython(self.panel.lastJob, self.panel.lastVolumes), message)

    def onCopyCommand(self, *_: Any) -> None:
        """Put the last run on the clipboard as a command line."""
        try:
            self.copy(asCommand(self.panel.lastJob, self.panel.lastVolumes), "The command is on the clipboard.")
        except InputError as error:
            self.showMessage(str(error), failed=True)

    def copy(self, text: str, message: str) -> None:
        """Put a text on the clipboard and say so."""
        qt.QApplication.clipboard().setText(text)
        self.showMessage(message)

    def onSaveLog(self, *_: Any) -> None:
        """Ask for a file and write the log into it."""
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), "Save the log", "medxai-log.txt", "Text (*.txt)"
        )
        if not path:
            return
        try:
            Path(path).write_text(self.report(), encoding="utf-8")
            self.showMessage(f"The log is in {path}.")
        except OSError as error:
            fault = f"{path}: the file cannot be written ({error.strerror}); choose another place."
            self.showMessage(fault, failed=True)

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

    def onRemoveStored(self, *_: Any) -> None:
        """Remove what MedXAI stored, after a question that names it."""
        found = storedThings()
        if not found:
            self.showMessage("MedXAI has stored nothing.")
            return
        question = f"MedXAI stored: {'; '.join(found)}. Remove all of it? Scenes, models and files of your own stay."
        if slicer.util.confirmOkCancelDisplay(question):
            removeStored()
            left = storedThings()
            gone = [text for text in found if text not in left]
            self.showMessage(
                f"Removed: {'; '.join(gone) or 'nothing'}." + (f" Still there: {'; '.join(left)}." if left else "")
            )
            self.panel.input.list(self.panel.parameters.model)


def export(
    client: Client, volumeNode: Node, folder: str | Path, overwrite: bool = False, anatomy: Node | None = None
) -> list[str]:
    """Have the worker write all results of a volume, in the layout that ``medxai explain`` writes: whole or not at all.

    :param folder: made where it is not there.
    :param overwrite: replace the files of an earlier run in it.
    :param anatomy: segmentation node; adds the fractions by structure.
    :return: the files, relative to the folder.
    :raises InputError: where there is nothing to write or no place for it.
    """
    event = client.answer("export", **exportRequest(client, volumeNode, folder, overwrite, anatomy))
    if event["event"] == "error":
        raise InputError(event["message"])
    return event["files"]


def exportRequest(
    client: Client, volumeNode: Node, folder: str | Path, overwrite: bool, anatomy: Node | None
) -> dict[str, Any]:
    """What the worker is to be told for :func:`export`.

    :raises InputError: where there is nothing to write.
    """
    predictions, maps = results.predictionsOf(volumeNode), results.mapsOf(volumeNode)
    if not predictions and not maps:
        raise InputError("there is no result to export", "predict or explain first", about=volumeNode.GetName())
    nodes = [*predictions, *maps]
    labels = labels_of(anatomy, volumeNode) if anatomy is not None and maps else None
    names = caseNames(volumeNode.GetName(), nodes)
    cases: dict[str, dict] = {names[node.GetID()]: {"prediction": None, "maps": []} for node in nodes}
    reference = client.handle(volumeNode)
    for node in predictions:
        found = predictionRecord(client, node)
        if "by_slice" in found:
            found["by_slice"] = scoresInFile(found, volumeNode)
        cases[names[node.GetID()]]["prediction"] = found
    for node in maps:
        cases[names[node.GetID()]]["maps"].append(mapRecord(client, node))
    return {
        "output": str(Path(folder).absolute()),
        "overwrite": overwrite,
        "reference": reference,
        "cases": cases,
        "anatomy": labels and labelsRecord(client, labels),
        "heading": " · ".join([*dict.fromkeys(map(modelOf, nodes)), volumeNode.GetName()]),
        "versions": {"slicer": slicer.app.applicationVersion},
    }


def caseNames(base: str, nodes: list[Node]) -> dict[str, str]:
    """Node ID -> name of its case: the volume's; a further model, and a result made once more, are cases of their own."""
    names: dict[str, str] = {}
    models: list[str] = []
    taken: set[tuple] = set()
    for node in nodes:
        found, model = results.metadata(node), modelOf(node)
        models += [] if model in models else [model]
        name = base if model == models[0] else f"{base} {model}"
        what = tuple(found.get(key) for key in ("target", "method", "layer"))
        number = 1
        while (name, number, what) in taken:
            number += 1
        taken.add((name, number, what))
        names[node.GetID()] = name if number == 1 else f"{name} {number}"
    return names


def modelOf(node: Node) -> str:
    """The name of the model that a result comes from."""
    found = results.metadata(node)
    return found["model"] if "model" in found else found["provenance"]["model"]
