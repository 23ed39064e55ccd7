"""Fields for the options of methods that have no widget of their own: made of what the worker lists."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import qt

if TYPE_CHECKING:
    from MedXAI import MedXAIWidget

OWN = ("samples", "superpixels")
"""Options that are parameters, with widgets, of their own."""


class OptionFields:
    """A field for each option; what is chosen is kept in the parameters."""

    def __init__(self, panel: MedXAIWidget) -> None:
        self.panel, self.ui = panel, panel.ui
        self.listed: dict[str, dict] = {}
        self.fields: dict[str, Any] = {}

    def make(self, methods: Iterable[dict]) -> None:
        """Fields for the options of these methods; values that are inputs of the network have none."""
        layout = self.ui.methodOptions.layout()
        for field in self.fields.values():
            layout.removeRow(field)
        self.fields, self.listed = {}, {}
        for option in (option for method in methods for option in method["options"]):
            if option["name"] not in (*OWN, *self.listed) and not option["inputs"] and not option["many"]:
                self.listed[option["name"]] = option
        for name, option in self.listed.items():
            field = self.fieldOf(option)
            field.toolTip = option["help"]
            layout.addRow(f"{labelOf(name)}:", field)
            self.fields[name] = field
        self.ui.methodOptions.visible = bool(self.fields)

    def fieldOf(self, option: dict) -> Any:
        """A choice, a box or a line, by the option's kind."""
        name = option["name"]
        if option["choices"]:
            field = qt.QComboBox()
            for choice in option["choices"]:
                field.addItem(choice, choice)
            field.connect("activated(int)", lambda index: self.set(name, field.itemData(index)))
        elif option["kind"] == "bool":
            field = qt.QCheckBox()
            field.toggled.connect(lambda on: self.set(name, bool(on)))
        else:
            field = qt.QLineEdit()
            field.placeholderText = "automatic" if option["default"] is None else f"{option['default']}"
            field.textChanged.connect(lambda text: self.set(name, text or None))
        return field

    def set(self, name: str, value: Any) -> None:
        """Keep a choice; the default is not kept."""
        p = self.panel.parameters
        if p is None:
            return
        kept = self.kept() | {name: value}
        defaults = {name: option["default"] for name, option in self.listed.items()}
        p.options = json.dumps({n: v for n, v in kept.items() if v not in (None, defaults.get(n))})

    def kept(self) -> dict[str, Any]:
        """What the parameters hold of options that there are."""
        found = json.loads(self.panel.parameters.options or "{}")
        return {name: value for name, value in found.items() if name in self.listed}

    def update(self) -> None:
        """Show what the parameters hold."""
        kept = self.kept()
        for name, field in self.fields.items():
            option = self.listed[name]
            value = kept.get(name, option["default"])
            if option["choices"]:
                field.setCurrentIndex(max(0, field.findData(value)))
            elif option["kind"] == "bool":
                field.checked = bool(value)
            elif field.text != (text := str(kept.get(name, ""))):
                field.text = text

    def values(self) -> dict[str, Any]:
        """The options of a job: numbers as numbers; what is no number is told by the worker."""
        p = self.panel.parameters
        found = {name: getattr(p, name) for name in OWN if getattr(p, name)}
        for name, value in self.kept().items():
            if not isinstance(value, str):
                found[name] = value
            elif text := value.strip():
                found[name] = meant(text, self.listed[name]["kind"])
        return found

    def controls(self) -> dict[str, str]:
        """What options of the command line are called here."""
        return {name.replace("_", "-"): labelOf(name) for name in self.listed}


def labelOf(name: str) -> str:
    """What an option is called beside its field."""
    return name.replace("_", " ").capitalize()


def meant(text: str, kind: str) -> Any:
    """A number as a number; what is none stays as it is."""
    try:
        return {"int": int, "float": float}.get(kind, str)(text)
    except ValueError:
        return text
