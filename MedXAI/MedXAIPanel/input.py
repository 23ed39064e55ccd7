"""The section Input: volumes, model, consent, device."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer

from MedXAILib.errors import InputError
from MedXAILib.models.security.consent import needs_consent
from MedXAILib.models.source import summarise
from MedXAILib.models.sources.zoo import thumbnail, zoo_cards
from MedXAILib.models.summary import ModelSummary
from MedXAILib.models.weights.finding import SEARCH_PATH
from MedXAILib.mrml.host import Node

from . import recent, results

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget


CHANNEL = "MedXAI.Input."
"""Prefix of the node references of a model's further inputs."""


class InputSection:
    """Chooses what is computed on, and by which model.

    :ivar consent: whether the model's file can run code and needs the user's consent.
    """

    def __init__(self, panel: MedXAIWidget) -> None:
        self.panel, self.ui = panel, panel.ui
        self.card: ModelSummary | None = None
        self.fault = ""
        self.consent = False
        self.shown: str | None = None
        self.selectors: dict[str, Any] = {}

    def connect(self) -> None:
        """Connect the section's widgets."""
        self.ui.model.connect("activated(int)", self.onModelChosen)
        self.ui.openModel.clicked.connect(self.onOpen)
        self.ui.trust.toggled.connect(self.onTrust)
        self.ui.trust.visible = False

    def update(self) -> None:
        """Show the chosen model and volumes."""
        model = self.panel.parameters.model
        if model != self.shown:
            self.show(model)
        for channel, selector in self.selectors.items():
            node = self.panel.parameters.parameterNode.GetNodeReference(CHANNEL + channel)
            if selector.currentNode() is not node:
                selector.setCurrentNode(node)
        self.ui.inputLabel.text = f"{self.channels()[0]}:" if len(self.channels()) > 1 else "Volume:"

    def show(self, model: str) -> None:
        """Read a model's card and show it in short."""
        self.shown, self.card, self.fault, self.consent = model, None, "", False
        try:
            self.card = summarise(model)
            self.consent = self.card.weights is not None and needs_consent(self.card.weights)
            if self.card.weights is None:
                self.fault = f"{self.card.weights_name}: the weights of {self.card.name} are not beside its card; put the file there, or its folder into the environment variable {SEARCH_PATH}."
        except InputError as error:
            self.fault = str(error)
        self.list(model)
        self.ui.trust.checked = False
        self.askConsent(self.consent)
        self.ui.modelCard.text = (
            f'<span style="color:#c0392b">{html.escape(self.fault)}</span>' if self.fault else described(self.card)
        )
        self.ui.modelCard.toolTip = "" if self.fault else "\n".join((self.card.description, *self.card.weaknesses))
        self.makeSelectors()

    def askConsent(self, needed: bool) -> None:
        """Show the box that lets a file run code."""
        self.ui.trust.visible = needed
        if needed and self.card:
            name = self.card.weights_name
            self.ui.trust.text = "I trust this file: it may run code"
            self.ui.trust.toolTip = f"{name} is a program, not only numbers: opening it can do anything that you can. Consent is remembered for this very file."

    def list(self, model: str) -> None:
        """The zoo with its pictures, then the cards used last, the shown one among them."""
        zoo = zoo_cards()
        names = zoo + recent.models()
        names += [] if model in names else [model]
        self.ui.model.clear()
        for number, name in enumerate(names):
            self.ui.model.addItem(name if name in zoo else Path(name).stem, name)
            self.ui.model.setItemData(number, purpose(name) if name in zoo else name, qt.Qt.ToolTipRole)
            picture = thumbnail(name) if name in zoo else None
            if picture:
                self.ui.model.setItemIcon(number, qt.QIcon(str(picture)))
        self.ui.model.setCurrentIndex(names.index(model))

    def makeSelectors(self) -> None:
        """A selector for each input beyond the first."""
        layout = self.ui.furtherInputs.layout()
        for selector in self.selectors.values():
            layout.removeRow(selector)
        self.selectors = {}
        for channel in self.channels()[1:]:
            selector = slicer.qMRMLNodeComboBox()
            selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
            selector.addEnabled = selector.removeEnabled = False
            selector.noneEnabled = True
            selector.setMRMLScene(slicer.mrmlScene)
            selector.toolTip = f"The volume of the input {channel}."
            layout.addRow(f"{channel}:", selector)
            selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node, c=channel: self.onFurther(c, node))
            self.selectors[channel] = selector
        self.ui.furtherInputs.visible = bool(self.selectors)

    def channels(self) -> list[str]:
        """Names of the model's inputs."""
        return [name for name, _ in self.card.channels] if self.card else [""]

    def volumes(self) -> dict[str, Node]:
        """Channel name -> volume node; a single one needs no name."""
        first, *further = self.channels()
        node = self.panel.parameters.parameterNode
        return {first if further else "": self.panel.parameters.inputVolume} | {
            c: node.GetNodeReference(CHANNEL + c) for c in further
        }

    def obstacle(self) -> str:
        """Why nothing can be computed, in a sentence; empty where it can."""
        if self.fault:
            return self.fault
        missing = [channel for channel, node in self.volumes().items() if node is None]
        if missing:
            return (
                "Choose a volume first."
                if len(self.channels()) == 1
                else f"Choose a volume for {', '.join(missing)} first."
            )
        if any(node.GetAttribute(results.KIND) for node in self.volumes().values()):
            return "This is a result of MedXAI's: choose the volume that it is about."
        if self.consent and not self.ui.trust.checked:
            return "This model's file can run code: tick the box if you trust it."
        return ""

    def choose(self, model: str) -> None:
        """Take the user's choice. The methods that another card suggests are ticked now, and not again; layers that were
        named belong to the network before."""
        p = self.panel.parameters
        another = model != p.model or self.card is None
        self.shown = None  # chosen once more, its files are looked at once more
        p.model = model
        self.panel.update()
        if another:
            p.layers = ""
        if another and self.card:
            self.panel.explain.suggest(self.card.methods)

    def onModelChosen(self, index: int) -> None:
        """A model of the list was chosen."""
        self.choose(self.ui.model.itemData(index))

    def onRefused(self, kind: str) -> None:
        """A checkpoint may turn out to be more than numbers only when it is opened; ``kind``: of the worker's error."""
        if kind == "consent":
            self.consent = True
            self.askConsent(True)
            self.panel.update()

    def onOpen(self, *_: Any) -> None:
        """Ask for a card."""
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), "A model card", "", "Model cards (*.json)")
        if path:
            self.open(path)

    def open(self, path: str) -> None:
        """Choose a card by its path, and remember it."""
        recent.remember(path)
        self.choose(path)

    def onTrust(self, *_: Any) -> None:
        """Consent was given or withdrawn."""
        self.panel.update()

    def onFurther(self, channel: str, node: Node | None) -> None:
        """A further input was chosen."""
        if self.panel.parameters:
            self.panel.parameters.parameterNode.SetNodeReferenceID(CHANNEL + channel, node.GetID() if node else None)


def purpose(model: str) -> str:
    """What a model of the zoo is for; rich text, which a tool tip wraps."""
    try:
        text = summarise(model).description or model
    except InputError as error:
        text = error
    return f"<p>{html.escape(str(text))}</p>"


def described(card: ModelSummary) -> str:
    """A card in a few lines of rich text."""
    labels = ", ".join(card.labels[:6]) + (f" and {len(card.labels) - 6} more" if len(card.labels) > 6 else "")
    modality = "; ".join(f"{name}: {text}" if len(card.channels) > 1 else text for name, text in card.channels if text)
    spacing = " x ".join(f"{mm:g}" for mm in card.spacing) + " mm" if card.spacing else "the file's own"
    rows = [
        ("", f"{card.task} of {card.sees}"),
        ("Classes", labels),
        ("Modality", modality or "not said"),
        ("Spacing", spacing),
        ("Licence", card.licence or "not said"),
    ]
    lines = [(f"<b>{name}:</b> " if name else "") + html.escape(text) for name, text in rows]
    if card.weaknesses:
        lines.append(f"<i>{html.escape(card.weaknesses[0])}</i>")
    return "<br>".join(lines)
