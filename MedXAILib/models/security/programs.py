"""torch.export archives, made fit for PyTorch's own loader, which unpickles parts of them without its safe mode.

Those parts are read by our own reader first and written anew from the tensors found; what is more than tensors and plain
containers is refused, and so is a graph that reaches beyond PyTorch's operators.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from ...errors import WeightsError
from ..weights.contents import CHECKPOINT, Contents, inspect
from ..weights.tensors import Numbers
from .pickles import PLAIN, Call, Name

TEXTS = r"version|archive_version|archive_format|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|\.data/version"
GRAPH = r"models/model\.json|serialized_exported_program\.json"
TABLES = {
    "weights": "data/weights/model_weights_config.json",
    "constants": "data/constants/model_constants_config.json",
}
NUMBERED = {"weights": r"weight_\d+", "constants": r"tensor_\d+"}
PICKLED = (
    r"data/sample_inputs/model\.pt|data/(weights|constants)/model\.pt"
    r"|serialized_(state_dict|constants|example_inputs)\.(pt|json)"
)
"""What an archive of torch 2.8 and on, or of the layout before, consists of; anything else is refused, and what its author added
(``extra``) is left out."""
OPERATOR = re.compile(r"torch\.ops\.(?!load_library|import_module)(?!__)\w+(\.(?!__)\w+){1,2}")
FILES = re.compile(r"torch\.ops\.\w+\.(from_file|save|load)\b")
"""Operators that read or write files."""
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
NAMING = ("name", "as_name", "graph_name")
"""Keys whose text becomes a name in the Python that torch writes for a graph."""
FORMULA_PARTS = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
CALLED = frozenset((
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod", "Max", "Min", "Abs", "Eq", "Ne", "Lt",
    "Le", "Gt", "Ge", "And", "Or", "Not", "Piecewise", "Equality", "Unequality", "LessThan", "StrictLessThan",
    "GreaterThan", "StrictGreaterThan", "FloorDiv", "ModularIndexing", "CleanDiv", "CeilDiv", "CeilToInt",
    "FloorToInt", "TruncToInt", "TruncToFloat", "RoundToInt", "RoundDecimal", "ToFloat", "FloatPow", "PowByNatural",
    "FloatTrueDiv", "IntTrueDiv", "PythonMod", "Where", "Identity", "IsNonOverlappingAndDenseIndicator", "LShift",
    "RShift", "floor", "ceiling", "sqrt",
))  # fmt: skip
POWERS, HIGHEST = ("Pow", "PowByNatural", "FloatPow"), 64
"""Formulas with higher powers of numbers may take for ever."""


def harmless(contents: Contents) -> bytes:
    """The archive with just its graph and its tensors, as PyTorch would have written them.

    :param contents: of an exported network.
    :raises WeightsError: for one that holds more.
    """
    out = BytesIO()
    with contents.source() as file, zipfile.ZipFile(file) as archive, zipfile.ZipFile(out, "w") as copy:
        raw = raw_members(archive, contents)
        for name in contents.members:
            inner = name.removeprefix(contents.root)
            if not inner.startswith("extra/") and not inner.endswith("/"):
                data = archive.read(name)
                copy.writestr(zipfile.ZipInfo(name), data if inner in raw else _checked(contents, inner, data))
    return out.getvalue()


def copied(contents: Contents) -> bytes:
    """An archive with just the members that Python sees in it: PyTorch finds them by other rules."""
    out = BytesIO()
    with contents.source() as file, zipfile.ZipFile(file) as archive, zipfile.ZipFile(out, "w") as copy:
        for name in contents.members:
            copy.writestr(zipfile.ZipInfo(name), archive.read(name))
    return out.getvalue()


def raw_members(archive: zipfile.ZipFile, contents: Contents) -> set[str]:
    """What PyTorch takes as bare numbers and never unpickles: as every entry of the table that it reads says."""
    raw: set[str] = set()
    for folder, table in TABLES.items():
        if contents.root + table not in contents.members:
            continue
        pickled: dict[str, set[object]] = {}
        for entry in parsed(contents, archive.read(contents.root + table)).get("config", {}).values():
            path = str(entry.get("path_name"))
            if not re.fullmatch(NUMBERED[folder], path):
                raise refused(contents, f"{table} names {path}")
            pickled.setdefault(path, set()).add(entry.get("use_pickle"))
        raw |= {f"data/{folder}/{path}" for path, ways in pickled.items() if ways == {False}}
    return raw


def parsed(contents: Contents, text: bytes | str) -> Any:
    """JSON whose objects have each key once: of two that are equal, other readers may take the other."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise refused(contents, "a table with one key twice")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise refused(contents, "a table that cannot be read") from None


def _checked(contents: Contents, inner: str, data: bytes) -> bytes:
    """A member as it is handed on; ``inner``: its name below the archive's root."""
    if re.fullmatch(TEXTS, inner):
        return data
    if inner in TABLES.values():
        return json.dumps(parsed(contents, data)).encode()
    if re.fullmatch(GRAPH, inner):
        graph = parsed(contents, data)

        def within(text: str) -> Any:
            json.loads(text)  # what is no JSON is no description
            return parsed(contents, text)

        if found := sorted(graph_faults(graph, within)):
            raise refused(contents, ", ".join(found[:6]))
        return json.dumps(graph).encode()
    numbered = any(re.fullmatch(f"data/{folder}/{form}", inner) for folder, form in NUMBERED.items())
    if numbered or re.fullmatch(PICKLED, inner):
        return rewritten(contents, inner, data) if data else data
    raise refused(contents, f"'{inner}'")


def refused(contents: Contents, what: str) -> WeightsError:
    """Of an archive that is not opened, whoever trusts it."""
    return WeightsError(
        contents.path,
        f"this is {contents.kind} that holds more than a graph and its tensors: {what}; it is refused with or without --trust",
        "export the network anew, or give its weights and name its architecture",
        joint=": ",
    )


def rewritten(contents: Contents, name: str, data: bytes) -> bytes:
    """A pickled part as PyTorch writes the same tensors; nothing in it is looked up."""
    import torch

    inner = inspect(f"{contents.path}: {name}", data)
    if inner.kind != CHECKPOINT or inner.fault:
        raise refused(contents, f"{name} is {inner.kind}{f' ({inner.fault})' if inner.fault else ''}")
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
        raise refused(contents, f"{name} names {what}")

    try:
        return value(node)
    except (ValueError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise refused(contents, f"{name} cannot be read ({error})") from None


def graph_faults(graph: Any, read: Callable[[str], Any] = json.loads) -> set[str]:
    """What a graph would run beyond torch's operators: torch looks up every ``target`` attribute by attribute, evaluates
    every ``expr_str`` as Python, writes names into Python of its own, and imports what a description of the inputs names.

    :param read: parses text that is JSON itself.
    """
    found = set()
    for part in _parts(graph, read):
        for key in ("target", "as_operator"):
            target = part.get(key)
            if isinstance(target, str) and _reaches_out(target, key == "as_operator" or "inputs" in part):
                found.add(target)
        formula = part.get("expr_str")
        if formula is not None and not _is_formula(str(formula)):
            found.add(f"the formula {str(formula)[:80]}")
        found |= {f"the name {part[key]!r:.80}" for key in NAMING if key in part and not _is_name(part[key])}
        for key, values in part.items():
            if key.endswith("_values") and isinstance(values, dict):
                found |= {f"the name {name!r:.80}" for name in values if not _is_name(name)}
        found |= {f"the module {part.get('fqn', part[key])}" for key in IMPORTED if key in part}
    return found


def _parts(value: Any, read: Callable[[str], Any]) -> Iterator[dict[str, Any]]:
    """Every dict in a JSON value, also in those that are written as text in it."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = read(value)
        except json.JSONDecodeError:
            return
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(part, read)


def _is_name(value: Any) -> bool:
    """Whether it can be nothing but a name in Python."""
    return value is None or isinstance(value, str) and (not value or (value.isidentifier() and value.isascii()))


def _reaches_out(target: str, is_call: bool) -> bool:
    """:param is_call: else it is a name of the network's own, which only says where something comes from."""
    looked_up = target.startswith(LOOKED_UP) if is_call else target.partition(".")[0] in LOOKED_UP
    harmless_one = (OPERATOR.fullmatch(target) or NUMBER.fullmatch(target)) and not FILES.match(target)
    return looked_up and not harmless_one


def _is_formula(text: str) -> bool:
    """Whether a text is arithmetic on numbers and symbols: calls of SymPy's and torch's functions of numbers, no attribute, text
    only as the name of a symbol or the digits of a number, no high powers."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    named = {call.func.id: call for call in calls if isinstance(call.func, ast.Name)}
    texts = {id(arg): call.func.id for call in calls if isinstance(call.func, ast.Name) for arg in call.args[:1]}

    def fits(node: ast.Constant) -> bool:
        if not isinstance(node.value, str):
            return isinstance(node.value, int | float) and abs(node.value) < 2**64
        if texts.get(id(node)) == "Symbol":
            return node.value.isidentifier()
        return texts.get(id(node)) in ("Float", "Integer", "Rational") and bool(
            re.fullmatch(r"-?[\d.]+(e-?\d+)?", node.value)
        )

    powers = [node.right for node in nodes if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
    powers += [
        arg for call in calls if isinstance(call.func, ast.Name) and call.func.id in POWERS for arg in call.args[1:]
    ]
    numbers = [
        n.value for power in powers for n in ast.walk(power) if isinstance(n, ast.Constant) and isinstance(n.value, int)
    ]
    return (
        len(text) < 10_000
        and all(isinstance(node, FORMULA_PARTS) for node in nodes)
        and all(isinstance(call.func, ast.Name) for call in calls)
        and named.keys() <= CALLED
        and all(fits(node) for node in nodes if isinstance(node, ast.Constant))
        and not any(isinstance(inner, ast.Pow) for power in powers for inner in ast.walk(power))
        and all(abs(n) <= HIGHEST for n in numbers)
    )
