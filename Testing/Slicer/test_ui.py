"""The panel's .ui and code name nothing that the application does not have: read, not run."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
from standin.metaobjects import ambiguous, classes, members

MODULE = Path(__file__).parents[2] / "MedXAI"
UI = MODULE / "Resources" / "UI" / "MedXAI.ui"
MARGINS = {"leftMargin", "topMargin", "rightMargin", "bottomMargin"}  # Designer's own way to write a layout's margins


@cache
def objects() -> dict[str, ElementTree.Element]:
    """Everything with a name in the .ui: widgets, layouts, actions."""
    root = ElementTree.parse(UI).getroot()
    return {each.get("name"): each for kind in ("widget", "layout", "action") for each in root.iter(kind)}


def class_of(name: str) -> str:
    return objects()[name].get("class", "QAction")


@cache
def sources() -> dict[str, ast.Module]:
    return {str(path.relative_to(MODULE)): ast.parse(path.read_text()) for path in MODULE.rglob("*.py")}


def nodes(kind):
    return [(file, node) for file, tree in sources().items() for node in ast.walk(tree) if isinstance(node, kind)]


def ui_name(node) -> str:
    """The name ``x`` of ``self.ui.x`` or ``ui.x``; else nothing."""
    holder = getattr(node, "value", None)
    if isinstance(node, ast.Attribute) and "ui" in (getattr(holder, "attr", ""), getattr(holder, "id", "")):
        return node.attr
    return ""


def known(kind: str) -> set[str]:
    return members(kind, "attributes") | members(kind, "properties") | {"name"}


COMPUTING = (
    "evaluation", "findings", "geometry.resample", "prediction", "preprocessing", "recording", "scoring", "session",
    "tiling", "training",
)  # fmt: skip
"""Of MedXAILib: what only the worker may use."""


def test_the_panel_computes_nothing():
    imported = {
        (file, f"{node.module}.{alias.name}")
        for file, node in nodes(ast.ImportFrom)
        if (node.module or "").startswith("MedXAILib")
        for alias in node.names
    } | {(file, alias.name) for file, node in nodes(ast.Import) for alias in node.names}
    assert len(imported) > 50, "the panel uses the library"
    rooms = tuple(f"MedXAILib.{name}." for name in COMPUTING)
    assert not sorted(each for each in imported if f"{each[1]}.".startswith(rooms))


def test_every_class_and_property_of_the_ui_exists():
    wrong = []
    for name, element in objects().items():
        kind = class_of(name)
        if kind not in classes():
            wrong.append(f"{name}: {kind}")
            continue
        named = {each.get("name") for each in element.findall("property") if each.get("stdset") != "0"}
        extra = MARGINS | {"spacing", "margin"} if element.tag == "layout" else set()
        wrong += [f"{name}: {kind}.{each}" for each in named - members(kind, "properties") - extra]
    assert not wrong


def test_every_connection_of_the_ui_exists():
    wrong = []
    for each in ElementTree.parse(UI).getroot().iter("connection"):
        sender, signal, receiver, slot = (each.findtext(key) for key in ("sender", "signal", "receiver", "slot"))
        if signal not in members(class_of(sender), "signals"):
            wrong.append(f"{sender} {signal}")
        if slot not in members(class_of(receiver), "slots") | members(class_of(receiver), "signals"):
            wrong.append(f"{receiver} {slot}")
    assert not wrong


def test_every_parameter_name_is_a_field():
    fields = {
        line.target.id
        for _, node in nodes(ast.ClassDef)
        if node.name == "MedXAIParameterNode"
        for line in node.body
        if isinstance(line, ast.AnnAssign)
    }
    named = {
        each.findtext("string")
        for element in objects().values()
        for each in element.findall("property")
        if each.get("name") == "SlicerParameterName"
    }
    assert named, "no widget is bound"
    assert named <= fields


def test_every_node_selector_gets_the_scene():
    connected = {
        each.findtext("receiver")
        for each in ElementTree.parse(UI).getroot().iter("connection")
        if each.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    takes = {name for name in objects() if "setMRMLScene(vtkMRMLScene*)" in members(class_of(name), "slots")}
    assert takes - {"MedXAI"} <= connected


def test_the_code_uses_only_what_the_ui_has():
    used = {(file, node.lineno, ui_name(node)) for file, node in nodes(ast.Attribute) if ui_name(node)}
    assert used, "the panel uses no widget"
    assert not sorted(each for each in used if each[2] not in objects())


def test_the_code_uses_only_members_that_the_widgets_have():
    wrong = []
    for file, node in nodes(ast.Attribute):
        name = ui_name(node.value)
        if name in objects() and node.attr not in known(class_of(name)):
            wrong.append(f"{file}:{node.lineno} {name} is a {class_of(name)} without {node.attr}")
    for file, node in nodes(ast.Call):
        called = node.func
        name = ui_name(getattr(called, "value", None))
        if name in objects() and called.attr in members(class_of(name), "properties") - {"sizeHint", "minimumSizeHint"}:
            wrong.append(f"{file}:{node.lineno} {name}.{called.attr} is a property, no method")
        signature = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
        if name in objects() and called.attr == "connect" and signature not in members(class_of(name), "signals"):
            wrong.append(f"{file}:{node.lineno} {name} has no signal {signature}")
        if (
            isinstance(called, ast.Attribute)
            and called.attr == "connect"
            and ui_name(getattr(called.value, "value", None))
        ):
            name, signal = ui_name(called.value.value), called.value.attr
            if name in objects() and ambiguous(class_of(name), signal):
                wrong.append(f"{file}:{node.lineno} {name}.{signal} has overloads: connect it by its signature")
    assert not wrong


@pytest.mark.parametrize("module", ["qt", "ctk"])
def test_the_code_uses_only_classes_and_members_that_exist(slicer, module):
    wrong = []
    for file, node in nodes(ast.Attribute):
        if not (isinstance(node.value, ast.Attribute) and getattr(node.value.value, "id", "") == module):
            continue
        kind = node.value.attr
        if kind.endswith("Application"):  # what Python sees of these was not written down
            continue
        if kind in classes():
            if node.attr not in known(kind):
                wrong.append(f"{file}:{node.lineno} {module}.{kind}.{node.attr}")
        elif not hasattr(sys.modules[module], kind):
            wrong.append(f"{file}:{node.lineno} {module}.{kind}")
    assert not wrong
