"""A button that becomes Cancel, with its progress bar and its message: how a run is started, watched and stopped."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from MedXAILib.app.job import Job
from MedXAILib.errors import InputError
from MedXAILib.mrml.host import Node

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget


class RunButton:
    """One of the panel's two ways to start a run; while one runs, the other is disabled.

    :param name: "predict" or "explain": the button, bar and message of this name belong to it.
    """

    def __init__(self, panel: MedXAIWidget, name: str, text: str) -> None:
        self.panel, self.text = panel, text
        self.button = getattr(panel.ui, f"{name}Button")
        self.bar = getattr(panel.ui, f"{name}Progress")
        self.message = getattr(panel.ui, f"{name}Message")
        self.running = False
        self.about: tuple | None = None
        self.bar.visible = False
        self.message.visible = False

    def update(self, obstacle: str, hint: str) -> None:
        """Enable the button, or say on it why it is not.

        :param obstacle: why nothing can be started now; empty where it can.
        :param hint: what the button does.
        """
        busy = self.panel.logic.client.busy
        if self.about not in (None, self.context()) and not self.running:
            self.showMessage("")  # it was about another volume or model
        self.button.text = "Cancel" if self.running else self.text
        if busy and not self.running:
            obstacle = "Another run is under way."
        self.button.enabled = self.running or not obstacle
        self.button.toolTip = "Stop this run; nothing of it is kept." if self.running else obstacle or hint

    def cancel(self) -> None:
        """Stop the run."""
        self.button.enabled = False
        self.showMessage("Cancelling...")
        self.panel.logic.client.cancel()

    def start(self, job: Job, done: Callable[[list[Node], dict], None], **display: bool) -> None:
        """Start a job.

        :param done: called with the new nodes and the result, where there is one.
        :param display: labelVolume, surface: how a segmentation is shown.
        """
        self.showMessage("")
        began, volume = time.monotonic(), self.panel.parameters.inputVolume

        def finished(made: list[Node], event: dict) -> None:
            self.running = False
            self.bar.visible = False
            if event["event"] == "error":
                self.showMessage(event["message"], failed=event["kind"] != "cancelled")
                self.panel.input.onRefused(event["kind"])
            else:
                chosen = self.panel.parameters and self.panel.parameters.inputVolume
                whose = "" if volume is chosen else f" The results belong to {volume.GetName()}."
                self.showMessage(f"Done in {time.monotonic() - began:.1f} s.{whose} " + " ".join(event["messages"]))
                done(made, event)
            self.panel.update()

        try:
            volumes = self.panel.input.volumes()
            self.running = self.panel.logic.start(job, volumes, finished, self.progress, **display)
        except InputError as error:
            self.showMessage(str(error), failed=True)
        if self.running:
            self.progress(0, "Starting", None)
            self.bar.visible = True
        self.panel.update()

    def progress(self, fraction: float, text: str, left: float | None) -> None:
        """Show how much is done, what is being done, and the seconds left."""
        self.bar.value = round(1000 * fraction)
        self.showMessage(text + ("" if left is None else f", {duration(left)} left"))

    def context(self) -> tuple:
        """What a message is about: it goes when another volume or model is chosen."""
        p = self.panel.parameters
        return (p.inputVolume and p.inputVolume.GetID(), p.model) if p else ()

    def showMessage(self, text: str, failed: bool = False) -> None:
        """Say below the button what was done, or why it was not."""
        self.about = self.context() if text else None
        self.message.text = text = worded(text, self.panel.explain.options.controls())
        self.message.setStyleSheet("color: #c0392b" if failed else "")
        self.message.visible = bool(text)


CONTROLS = {
    "samples": "LIME samples",
    "superpixels": "LIME superpixels",
    "layer": "Layers",
    "slices": "Slices",
    "class": "Class",
    "threshold": "Threshold",
    "voxel": "Voxel",
    "mass-fraction": "Hot share",
    "seed": "Seed",
    "device": "Device",
    "model": "Model",
    "method": "Methods",
}
"""What options of the command line are called in the panel."""


def worded(text: str, more: Mapping[str, str] | None = None) -> str:
    """A sentence of the library's in the panel's words: controls instead of options of the command line.

    :param more: further options, without hyphens, and what they are called.
    """
    names = (more or {}) | CONTROLS
    text = re.sub(r"allow it with --trust", "tick the box that trusts it", text)
    return re.sub(r"--([a-z-]+)\b", lambda found: names.get(found[1], found[0]), text)


def duration(seconds: float) -> str:
    """Roughly: 40 s, 3 min, 2 h."""
    if seconds < 100:
        return f"about {max(1, round(seconds))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
