"""An option of a method: typed, validated, and listed by every door by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any

from ..errors import InputError, OptionError


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option. On the command line it is ``--name``, in Python a keyword, in the panel a field.

    :ivar kind: int, float, str or bool.
    :ivar help: what it is, and its default where that is the method's own.
    :ivar default: None where the method chooses by itself.
    :ivar least, most: of a number. :ivar choices: of a text.
    :ivar many: it may be given several times; its value is a tuple.
    :ivar inputs: its values are inputs of the network: paths on the command line, volumes in Python.
    """

    name: str
    kind: type
    help: str
    default: Any = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    many: bool = False
    inputs: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name.startswith("_"):
            raise ValueError(f"an option is named in letters, digits and _, as patch_size, and not '{self.name}'")

    def checked(self, value: Any) -> Any:
        """The value as it is meant.

        :raises OptionError: for one that cannot be meant.
        """
        if value is None or (self.many and not isinstance(value, str) and isinstance(value, Iterable)):
            return self.default if value is None else tuple(value if self.inputs else map(self._one, value))
        return (value,) if self.many and self.inputs else (self._one(value),) if self.many else self._one(value)

    def _one(self, value: Any) -> Any:
        if self.choices and value not in self.choices:
            raise OptionError(self.flag, value, f"choose one of {', '.join(self.choices)}")
        if self.kind is bool:
            if not isinstance(value, bool):
                raise OptionError(self.flag, value, "give true or false")
            return value
        if self.kind in (int, float):
            fits = isinstance(value, Integral if self.kind is int else Real) and not isinstance(value, bool)
            fits = fits and isfinite(value)
            if (
                not fits
                or (self.least is not None and value < self.least)
                or (self.most is not None and value > self.most)
            ):
                raise OptionError(self.flag, value, self.wanted)
            return self.kind(value)
        if not isinstance(value, self.kind):
            raise OptionError(self.flag, value, "give text")
        return value

    @property
    def flag(self) -> str:
        """As on the command line; what may be given several times is called by one."""
        name = self.name.replace("_", "-")
        return f"--{name.removesuffix('s') if self.many else name}"

    @property
    def wanted(self) -> str:
        """What a number must be."""
        what = "a whole number" if self.kind is int else "a number"
        if self.least is not None and self.most is not None:
            return f"give {what} from {self.least:g} to {self.most:g}"
        if self.least is not None:
            return f"give {what} of at least {self.least:g}"
        return f"give {what}" + (f" of at most {self.most:g}" if self.most is not None else "")

    def as_value(self) -> dict[str, Any]:
        """For a door in another process."""
        return {
            "name": self.name, "kind": self.kind.__name__, "help": self.help, "default": self.default, "least": self.least,
            "most": self.most, "choices": list(self.choices), "many": self.many, "inputs": self.inputs,
        }  # fmt: skip


SAMPLES = Option(
    name="samples", kind=int, least=1,
    help="Perturbed or noisy inputs, or steps. Default: the method's own; the end of 'medxai explain --help' lists them.",
)  # fmt: skip
SUPERPIXELS = Option(
    name="superpixels", kind=int, least=2, help="About how many superpixels. Default: 50 in a slice, 150 in a volume."
)
BASELINE = Option(
    name="baseline", kind=str, default="minimum", choices=("minimum", "zero", "mean", "blurred"),
    help="Input without evidence: minimum, zero, mean or blurred.",
)  # fmt: skip
REFERENCES = Option(
    name="references", kind=str, default=(), many=True, inputs=True,
    help="Another case to draw baselines from; several times for several. Default: the four baselines.",
)  # fmt: skip


class Values(dict[str, Any]):
    """Values of options by name; one that a method or a measure asks for without listing it is told."""

    def __missing__(self, name: str) -> Any:
        raise InputError(
            f"A method or a measure asks for the option '{name}' and does not list it", f"add it to its options (it has {', '.join(self) or 'none'})",
            joint=": ",
        )  # fmt: skip


def settled(options: Iterable[Option], given: Mapping[str, Any]) -> Values:
    """The value of each option: as given, else its default.

    :raises OptionError: for a value that cannot be meant.
    """
    return Values({option.name: option.checked(given.get(option.name)) for option in options})


def refuse_unknown(options: Iterable[Option], given: Mapping[str, Any]) -> None:
    """:raises InputError: for a name that no method has, listing those there are."""
    known = sorted({option.name for option in options})
    for name in given:
        if name not in known:
            raise InputError(f"There is no option '{name}'", f"choose from {', '.join(known)}", joint=": ")


RESERVED = frozenset(
    [
        "task",
        "inputs",
        "model",
        "classes",
        "methods",
        "layers",
        "threshold",
        "voxel",
        "component",
        "mask",
        "score",
        "slices",
        "options",
        "budget",
        "seed",
        "mass_fraction",
        "anatomy",
        "weights",
        "weights_key",
        "trust",
        "device",
        "frame",
        "series",
        "format",
        "writers",
        "keep_input",
        "cells",
        "no_probe",
        "class",
        "method",
        "layer",
        "writer",
        "targets",
        "probe",
        "windows",
        "output",
        "progress",
        "say",
        "path",
        "measure",
        "overwrite",
        "suffixes",
        "suffix",
        "threads",
        "workers",
        "scheduler",
        "verify",
        "retry",
        "shard",
        "prune",
        "dry",
        "dry_run",
        "key",
        "help",
    ]
)
"""Names that no option of a method or measure may have: the doors have them already."""


def fault(options: Any, known: Iterable[Option]) -> str:
    """Why options that another package brings cannot be taken, or nothing.

    :param known: those that there are: an option of the same name must be the same.
    """
    if not isinstance(options, tuple) or not all(isinstance(option, Option) for option in options):
        return "its options are no tuple of Option"
    there = {option.name: option for option in known}
    for option in options:
        if option.name in RESERVED:
            return f"an option may not be called {option.name}"
        if there.get(option.name, option) != option:
            return (
                f"its option {option.flag} is not the one that others have by this name: take that one, or another name"
            )
    return ""
