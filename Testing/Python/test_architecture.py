"""The shape of the code, read off its syntax trees: functions one can see at once, records whose fields are named where they are
made, and imports at the top of a file but for what is heavy. Which room may import which stands in pyproject.toml
(``lint-imports``)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from MedXAILib.models.schema import MODES, TASKS

ROOT = Path(__file__).resolve().parents[2]
CLEAN = ("MedXAILib", "MedXAI")
"""Rooms (folders or files) that keep every rule."""
LONGEST = 60
"""Lines of a function."""
MOST_FIELDS = 6
"""Of a record that may be made by position."""
HEAVY = {
    *(
        "torch",
        "monai",
        "skimage",
        "SimpleITK",
        "pydicom",
        "scipy",
        "nibabel",
        "matplotlib",
        "PIL",
        "lime",
        "slicer",
        "pebble",
        "distributed",
        "vtk",
    ),
    *("sklearn", "safetensors"),
    *("numpy", "pydantic", "psutil", "platformdirs", "packaging"),  # not there yet when Slicer's panel starts
    *(
        "resource",
        "PyTorchUtils",
        "SampleData",
    ),  # there on one system, or where an extension of Slicer's is installed, alone
    "MedXAI",  # the module of Slicer's, which a script has to find first
}
"""What may be imported inside a function: what takes long, so that whoever does not need it does not wait for it, and what may
not be there."""
NAMED = {*TASKS, *MODES}
RECORDS = ("dataclass", "dataclasses.dataclass", "NamedTuple", "typing.NamedTuple")


@dataclass(frozen=True)
class Source:
    """One file, as a module and as a syntax tree."""

    path: Path
    module: str
    tree: ast.Module

    def at(self, node: ast.stmt | ast.expr, what: str) -> str:
        return f"{self.path.relative_to(ROOT)}:{node.lineno} {what}"

    def imported(self, node: ast.ImportFrom) -> str:
        """The module that ``from ... import`` names, dots resolved."""
        parts = self.module.split(".")
        package = parts if self.path.name == "__init__.py" else parts[:-1]
        above = package[: len(package) - node.level + 1] if node.level else []
        return ".".join([*above, *(node.module.split(".") if node.module else [])])


@cache
def sources() -> dict[str, Source]:
    """Every module of the library and of the panel by its dotted name."""
    found = {}
    for path in sorted([*(ROOT / "MedXAILib").rglob("*.py"), *(ROOT / "MedXAI").rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[module] = Source(path, module, ast.parse(path.read_text(encoding="utf-8")))
    return found


def of_room(room: str) -> list[Source]:
    return [s for s in sources().values() if s.path.is_relative_to(ROOT / room)]


# Functions ------------------------------------------------------------------------------------------------------------


def long_functions(room: str) -> Iterator[str]:
    for source in of_room(room):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > LONGEST:
                    yield source.at(node, f"{node.name}: {lines} lines")


# Records --------------------------------------------------------------------------------------------------------------


@cache
def large_records() -> set[tuple[str, str]]:
    """(module, name) of every record with many fields, those that it inherits from another record of its file among them."""
    found = set()
    for source in sources().values():
        counts: dict[str, int] = {}
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ClassDef):
                continue
            heads = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list] + node.bases
            if not any(ast.unparse(head) in RECORDS for head in heads):
                continue
            own = [n for n in node.body if isinstance(n, ast.AnnAssign) and "ClassVar" not in ast.unparse(n.annotation)]
            counts[node.name] = len(own) + sum(counts.get(ast.unparse(base), 0) for base in node.bases)
        found |= {(source.module, name) for name, count in counts.items() if count > MOST_FIELDS}
    return found


def names(source: Source) -> dict[str, tuple[str, str]]:
    """What the names of a file stand for: local name -> (module, name there)."""
    own = {node.name: (source.module, node.name) for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            own |= {alias.asname or alias.name: (source.imported(node), alias.name) for alias in node.names}
    return own


def positional_records(room: str) -> Iterator[str]:
    for source in of_room(room):
        known = names(source)
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            match node.func:
                case ast.Name(name):
                    made = known.get(name)
                case ast.Attribute(ast.Name(module), name) if module in known:
                    made = (".".join(known[module]), name)
                case _:
                    made = None
            if made in large_records():
                yield source.at(node, f"{made[1]} is made by position")


# Imports --------------------------------------------------------------------------------------------------------------


def imports(nodes: list[ast.stmt], source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """(statement, module) of the imports among some statements and what is nested in them, but for other functions' and those
    for the type checker alone; ``from package import module`` names the module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = source.imported(node)
            inner = [f"{module}.{alias.name}" for alias in node.names]
            yield from ((node, name if name in sources() else module) for name in inner)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(node.orelse, source)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)], source)
            for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
                yield from imports(part.body, source)


@cache
def heavy(module: str) -> bool:
    """Whether importing a module imports a heavy package, itself or through another module of ours."""
    if module.split(".")[0] in HEAVY:
        return True
    reached, waiting = {module}, [module]
    while waiting:
        name = waiting.pop()
        if name not in sources():
            continue
        package = name.rpartition(".")[0]
        for _, other in [*imports(sources()[name].tree.body, sources()[name]), *([(None, package)] if package else [])]:
            if other.split(".")[0] in HEAVY:
                return True
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return False


def hidden_imports(room: str) -> Iterator[str]:
    for source in of_room(room):
        for function in ast.walk(source.tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node, module in imports(function.body, source):
                    if not heavy(module):
                        yield source.at(node, f"{function.name} imports {module}")


def compared_names(room: str) -> Iterator[str]:
    """A task's or a spatial mode's name compared outside models/schema.py, which answers what it means."""
    for source in of_room(room):
        if source.module == "MedXAILib.models.schema":
            continue
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            named = {n.value for side in sides for n in ast.walk(side) if isinstance(n, ast.Constant)} & NAMED
            asked = any(re.search(r"\b(task|mode|spatial)\b", ast.unparse(side)) for side in sides)
            if named and asked:
                yield source.at(node, f"compares {ast.unparse(node)}")


# The rules ------------------------------------------------------------------------------------------------------------


RULES = (long_functions, positional_records, hidden_imports, compared_names)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("room", CLEAN)
def test_a_room_keeps_the_rules(room, rule):
    assert of_room(room), "there is no such room"
    found = list(rule(room))
    assert not found, "\n".join(found)


def test_what_breaks_a_rule_is_found(monkeypatch):
    """A file that breaks each once, and keeps each once."""
    text = (
        "from typing import TYPE_CHECKING, NamedTuple\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "class Large(NamedTuple):\n" + "".join(f"    f{n}: int\n" for n in range(7)) + "def short():\n"
        "    import torch\n    import json\n    card.task == 'segmentation'\n    Large(**{})\n    return Large(1, 2, 3, 4, 5, 6, f6=7)\n"
        "def long():\n" + "    pass\n" * 60
    )
    source = Source(ROOT / "MedXAILib" / "made_up.py", "MedXAILib.made_up", ast.parse(text))
    monkeypatch.setattr(f"{__name__}.sources", lambda: {source.module: source})
    monkeypatch.setattr(f"{__name__}.large_records", large_records.__wrapped__)
    found = [line for rule in RULES for line in rule("MedXAILib")]
    assert [line.split(" ", 1)[1] for line in found] == [
        "long: 61 lines",
        "Large is made by position",
        "short imports json",
        "compares card.task == 'segmentation'",
    ]
