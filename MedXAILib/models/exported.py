"""torch.export archives, made fit for PyTorch's own loader, which unpickles parts of them without its safe mode.

Those parts are read by our own reader first and written anew from the tensors found; what is more than tensors and plain
containers is refused, and so is a graph that reaches beyond PyTorch's operators.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from ..errors import InputError
from .pickles import PLAIN, Call, Name
from .weights import Numbers
from .weightsfile import CHECKPOINT, Contents, inspect

MACHINE_CODE = (".so", ".dll", ".dylib", ".pyd", ".cubin", ".ptx", ".o", ".a")
TEXTS = (
    "version",
    "archive_version",
    "archive_format",
    "byteorder",
    ".format_version",
    ".storage_alignment",
    "serialization_id",
)
OLD_PICKLES = ("serialized_state_dict", "serialized_constants", "serialized_example_inputs")
"""Parts of the layout before torch 2.8 that are pickles, whatever their suffix."""
OPERATOR = re.compile(r"torch\.ops\.(?!load_library|import_module)(?!__)\w+(\.(?!__)\w+){1,2}")
NUMBER = re.compile(
    r"torch\._?sym_[a-z0-9_]*[a-z0-9]|math\.[a-z0-9]+"
    r"|_operator\.(eq|ne|le|ge|lt|gt|neg|pos|abs|invert|not_|and_|or_|xor|lshift|rshift|getitem|index"
    r"|mul|add|sub|floordiv|truediv|mod|pow)"
)
"""What a graph may call: an operator by its full name, or arithmetic on numbers."""
LOOKED_UP = ("torch", "_operator", "math")
"""A target that begins so is looked up there, whatever comes next."""
IMPORTED = ("__enum__", "default_factory_module")
"""Keys of a description of inputs and outputs by which a module is imported."""
FORMULA_PARTS = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp)
FORMULA_PARTS += (ast.Compare, ast.operator, ast.unaryop, ast.cmpop)


def harmless(contents: Contents) -> bytes:
    """The archive with just its graph and its tensors, as PyTorch would have written them.

    :param contents: of an exported network.
    :raises InputError: for one that holds more.
    """
    out = BytesIO()
    with contents.source() as file, zipfile.ZipFile(file) as archive, zipfile.ZipFile(out, "w") as copy:
        raw = raw_members(archive, contents)
        for name in contents.members:
            data = archive.read(name)
            copy.writestr(zipfile.ZipInfo(name), data if name in raw else _checked(contents, name, data))
    return out.getvalue()


def copied(contents: Contents) -> bytes:
    """An archive with just the members that Python sees in it: PyTorch finds them by other rules."""
    out = BytesIO()
    with contents.source() as file, zipfile.ZipFile(file) as archive, zipfile.ZipFile(out, "w") as copy:
        for name in contents.members:
            copy.writestr(zipfile.ZipInfo(name), archive.read(name))
    return out.getvalue()


def raw_members(archive: zipfile.ZipFile, contents: Contents) -> set[str]:
    """What PyTorch takes as bare numbers or text and never unpickles: as the archive's own tables say."""
    raw = {name for name in contents.members if name.rpartition("/")[2] in TEXTS or "/extra/" in name}
    for folder in ("weights", "constants"):
        for name in contents.members:
            if re.fullmatch(rf"{re.escape(contents.root)}data/{folder}/[^/]*_config\.json", name):
                table = json.loads(archive.read(name)).get("config", {})
                raw |= {
                    f"{contents.root}data/{folder}/{entry['path_name']}"
                    for entry in table.values()
                    if entry.get("use_pickle") is False
                    and str(entry.get("path_name")).startswith(("weight_", "tensor_"))
                }
    return raw


def _checked(contents: Contents, name: str, data: bytes) -> bytes:
    last = name.rpartition("/")[2]
    if last.lower().endswith(MACHINE_CODE) or "/aotinductor/" in name:
        raise refused(contents, f"the machine code {last}")
    if last.endswith(".json") and not last.startswith(OLD_PICKLES):
        if found := sorted(graph_faults(data)):
            raise refused(contents, ", ".join(found[:6]))
        return data
    return rewritten(contents, name, data) if data else data


def refused(contents: Contents, what: str) -> InputError:
    return InputError(
        f"{contents.path}: this is {contents.kind} that holds more than a graph and its tensors: {what}; it is refused with or "
        "without --trust: export the network anew, or give its weights and name its architecture."
    )


def rewritten(contents: Contents, name: str, data: bytes) -> bytes:
    """A pickled part as PyTorch writes the same tensors; nothing in it is looked up."""
    import torch

    inner = inspect(f"{contents.path}: {name}", data)
    if inner.kind != CHECKPOINT or inner.fault:
        raise refused(
            contents, f"{name.removeprefix(contents.root)} is {inner.kind}{f' ({inner.fault})' if inner.fault else ''}"
        )
    out = BytesIO()
    torch.save(_value(Numbers(inner), inner.tree.value, contents, name), out)
    return out.getvalue()


def _value(numbers: Numbers, node: Any, contents: Contents, name: str) -> Any:
    """A tree of tensors and plain containers as such."""

    def value(node: Any) -> Any:
        if isinstance(node, PLAIN):
            return node
        if isinstance(node, list | tuple):
            return type(node)(value(part) for part in node)
        if isinstance(node, dict):
            return {value(key): value(part) for key, part in node.items()}
        made = numbers.of(node)
        if made is not None:
            return made
        if isinstance(node, Call) and node.function == Name("collections", "OrderedDict") and node.arguments == ():
            return {value(key): value(part) for key, part in node.items}
        what = node.function if isinstance(node, Call) else node if isinstance(node, Name) else type(node).__name__
        raise refused(contents, f"{name.removeprefix(contents.root)} names {what}")

    try:
        return value(node)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise refused(contents, f"{name.removeprefix(contents.root)} cannot be read ({error})") from None


def graph_faults(text: bytes) -> set[str]:
    """What a graph would run beyond torch's operators: torch looks up every ``target`` attribute by attribute, evaluates
    every ``expr_str`` as Python, and imports what a description of the inputs names."""
    found = set()
    for part in _parts(json.loads(text)):
        target, formula = part.get("target"), part.get("expr_str")
        if isinstance(target, str) and _reaches_out(target, "inputs" in part):
            found.add(target)
        if formula is not None and not _is_formula(str(formula)):
            found.add(f"the formula {str(formula)[:80]}")
        found |= {f"the module {part.get('fqn', part[key])}" for key in IMPORTED if key in part}
    return found


def _parts(value: Any) -> Iterator[dict]:
    """Every dict in a JSON value, also in those that are written as text in it."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError:
            return
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(part)


def _reaches_out(target: str, is_call: bool) -> bool:
    """:param is_call: else it is a name of the network's own, which only says where something comes from."""
    looked_up = target.startswith(LOOKED_UP) if is_call else target.partition(".")[0] in LOOKED_UP
    return looked_up and not (OPERATOR.fullmatch(target) or NUMBER.fullmatch(target))


def _is_formula(text: str) -> bool:
    """Whether a text is arithmetic on numbers and symbols: calls of SymPy's classes, no attribute, no other text."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)]
    return (
        all(isinstance(node, FORMULA_PARTS) for node in nodes)
        and all(name[:1].isupper() or name in ("floor", "ceiling", "sqrt") for name in calls)
        and all(isinstance(value, str) and value.isidentifier() for value in texts)
    )
