"""A pickle as a tree: what it would build, read without building it.

A pickle is a program for a small stack machine, which may look up any function and call it. :func:`read` follows that
program and looks nothing up: plain values become plain values, and whatever else the program would make stands in the
tree as a :class:`Name`, a :class:`Call` of one, or something :class:`Stored` elsewhere. Nothing here is ever called.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

LONGEST = 1_000_000
"""Steps of a pickle that are followed; the weights of a network need some thousands."""
PLAIN = (str, bytes, int, float, bool, type(None))
COUNTED = 1 << 48
"""Numbers below are keys of a dict: no two of them have one hash."""
COMPUTED = ("", "a name that the file computes")
"""Stands for a name that is not written in the file."""


def shown(text: str) -> str:
    """A name of a file's own, as it may stand in a sentence: short, and with nothing that moves a terminal's cursor."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:200])
    return plain + ("..." if len(text) > 200 else "")


@dataclass(frozen=True)
class Name:
    """A class or function that the pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return ".".join(shown(part) for part in (self.module, self.name) if part)


@dataclass(eq=False)
class Call:
    """What calling ``function`` (a node, mostly a Name) would give, and what is then put into it.

    :ivar state: what the object is told of its attributes.
    :ivar items: what is put into it by key. :ivar parts: what is added to it.
    """

    function: Any
    arguments: Any
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Stored:
    """Something that lies outside the pickle, by its mark there."""

    mark: Any


@dataclass(eq=False)
class Tree:
    """One pickle.

    :ivar value: its root: a plain value, list, tuple, dict, set, or one of the nodes above.
    :ivar names: every Name in it, also of what was thrown away.
    :ivar fault: why it cannot be read to its end; empty where it can.
    """

    value: Any = None
    names: set[Name] = field(default_factory=set)
    fault: str = ""


def read(file: BinaryIO) -> Tree:
    """The pickle that begins at the file's position, which is left behind its end."""
    machine = Machine()
    try:
        for opcode, argument, _ in islice(pickletools.genops(file), LONGEST):
            if opcode.name == "STOP":
                return Tree(machine.stack.pop(), machine.names)
            machine.step(opcode.name, argument)
        fault = "it has no end"
    except Exception as error:  # hostile bytes can break a reader in any way
        fault = str(error) or type(error).__name__
    return Tree(None, machine.names, fault)


class Machine:
    """Stack and memo, on which each opcode does what :mod:`pickle` would do, without looking anything up."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.names: set[Name] = set()

    def step(self, opcode: str, argument: Any) -> None:
        """What one opcode does."""
        if opcode in CONSTANTS:
            self.stack.append(CONSTANTS[opcode](argument))
        else:
            STEPS[opcode](self, argument)

    def named(self, module: Any, name: Any) -> Name:
        """A name, noted."""
        found = Name(module, name) if isinstance(module, str) and isinstance(name, str) else Name(*COMPUTED)
        self.names.add(found)
        return found

    def marked(self) -> list[Any]:
        """What lies on the stack above the last mark."""
        above, self.stack = self.stack, self.below.pop()
        return above

    def taken(self, count: int) -> list[Any]:
        """So many from the top of the stack."""
        if len(self.stack) < count:
            raise ValueError("it takes more than it has")
        above = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return above


def _mark(machine: Machine, _: object) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _stack_global(machine: Machine, _: object) -> None:
    machine.stack.append(machine.named(*machine.taken(2)))


def _global(machine: Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(machine.named(module, name))


def _instance(machine: Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    arguments = tuple(machine.marked())
    machine.stack.append(Call(machine.named(module, name), arguments))


def _object(machine: Machine, _: object) -> None:
    kind, *arguments = machine.marked()
    machine.stack.append(Call(kind, tuple(arguments)))


def _call(machine: Machine, _: object) -> None:
    function, arguments = machine.taken(2)
    machine.stack.append(Call(function, arguments))


def _call_with_names(machine: Machine, _: object) -> None:
    kind, arguments, named = machine.taken(3)
    machine.stack.append(Call(kind, arguments, parts=[named]))


def _build(machine: Machine, _: object) -> None:
    (state,) = machine.taken(1)
    if isinstance(machine.stack[-1], Call):
        machine.stack[-1].state = state
    # a plain container takes no state; whatever else is no object


def _stored(machine: Machine, _: object) -> None:
    machine.stack.append(Stored(machine.taken(1)[0]))


def _fetch(machine: Machine, argument: int) -> None:
    machine.stack.append(machine.memo[argument])


def _remember(machine: Machine, argument: int) -> None:
    machine.memo[argument] = machine.stack[-1]


def _add(machine: Machine, values: list[Any]) -> None:
    into = machine.stack[-1]
    if isinstance(into, list):
        into.extend(values)
    elif isinstance(into, set):
        into.update(map(_key, values))
    elif isinstance(into, Call):
        into.parts.extend(values)
    else:
        raise TypeError("it adds to what holds nothing")


def _put(machine: Machine, values: list[Any]) -> None:
    into, pairs = machine.stack[-1], _pairs(values)
    if isinstance(into, dict):
        into.update((_key(key), value) for key, value in pairs)
    elif isinstance(into, Call):
        into.items.extend((_key(key), value) for key, value in pairs)
    else:
        raise TypeError("it puts into what holds nothing")


def _pairs(values: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    values = list(values)
    if len(values) % 2:
        raise ValueError("a key without a value")
    return zip(values[::2], values[1::2], strict=True)


def _key(value: Any) -> Any:
    """As a key of a dict or a member of a set: text, names and small numbers as they are; of others, whose hash may take for
    ever or be that of many more, a text."""
    if isinstance(value, str | bytes | bool | Name) or value is None:
        return value
    if isinstance(value, int) and abs(value) < COUNTED:
        return value
    return f"<{type(value).__name__} {id(value)}>"


def _gathered(make: Callable[[Iterable[Any]], Any]) -> Callable[[Machine, Any], None]:
    def step(machine: Machine, _: object) -> None:
        values = machine.marked()
        machine.stack.append(make(values))

    return step


def _several(count: int) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.stack.append(tuple(machine.taken(count)))


def _computed(machine: Machine, _: object) -> None:
    machine.stack.append(machine.named(*COMPUTED))


def _nothing(machine: Machine, _: object) -> None:
    pass


CONSTANTS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        (
            *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
            *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        ),
        lambda value: value,
    ),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), bytes),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_SET": lambda _: set(),
    "PERSID": Stored,
}
STEPS: dict[str, Callable[[Machine, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME", "READONLY_BUFFER"), _nothing),
    "MARK": _mark,
    "POP": lambda machine, _: machine.taken(1) if machine.stack else machine.marked(),
    "POP_MARK": lambda machine, _: machine.marked(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _remember),
    "MEMOIZE": lambda machine, _: _remember(machine, len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _fetch),
    "TUPLE": _gathered(tuple),
    "LIST": _gathered(list),
    "FROZENSET": _gathered(lambda values: set(map(_key, values))),
    "DICT": _gathered(lambda values: {_key(key): value for key, value in _pairs(values)}),
    "TUPLE1": _several(1),
    "TUPLE2": _several(2),
    "TUPLE3": _several(3),
    "APPEND": lambda machine, _: _add(machine, machine.taken(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: _add(machine, machine.marked())),
    "SETITEM": lambda machine, _: _put(machine, machine.taken(2)),
    "SETITEMS": lambda machine, _: _put(machine, machine.marked()),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "INST": _instance,
    "OBJ": _object,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _call),
    "NEWOBJ_EX": _call_with_names,
    "BUILD": _build,
    "BINPERSID": _stored,
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _computed),
    "NEXT_BUFFER": _computed,
}
