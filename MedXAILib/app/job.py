"""What is asked for: a small value of plain parts, and the one definition from which every door is made.

The command line's options, the panel's fields, the worker's requests and the batch script's arguments are read from the
fields of :class:`Job` and from the options of the methods; run.json writes a job down.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import PurePath
from typing import Any

from ..attribution.option import Option, refuse_unknown, settled
from ..attribution.registry import ALL, methods, options
from ..errors import InputError, OptionError, legible
from ..outputs.writer import STANDARD, writers

PREDICT, EXPLAIN = "predict", "explain"
BOTH = (PREDICT, EXPLAIN)
TEXT, FLAG, WHOLE, NUMBER, POINT, PATH = "text", "flag", "whole number", "number", "point", "path"
"""What a field may hold: as text on the command line, and as a widget in a panel."""


def asked(
    default: Any,
    help: str,
    kind: str = TEXT,
    *,
    tasks: tuple[str, ...] = BOTH,
    flag: str = "",
    many: bool = False,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A field of a job.

    :param flag: on the command line, without hyphens; by default the field's own name.
    :param many: it may be given several times.
    """
    about = {
        "help": help, "kind": kind, "tasks": tasks, "flag": flag, "many": many, "choices": choices, "least": least, "most": most,
    }  # fmt: skip
    return field(default=default, metadata=about)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run over a file or a folder of cases.

    :ivar task: ``predict`` or ``explain``.
    :ivar inputs: channel name -> path; a single unnamed input has the name "".
    :ivar options: of the methods, by name: what :func:`MedXAILib.attribution.registry.options` lists.
    """

    task: str
    inputs: Mapping[str, str]
    model: str
    classes: tuple[str, ...] = asked(
        (),
        "Class to explain; several times for several. Default: the predicted one.",
        tasks=(EXPLAIN,), flag="class", many=True,
    )  # fmt: skip
    methods: tuple[str, ...] = asked(("gradcam",), "", tasks=(EXPLAIN,), flag="method", many=True)
    layers: tuple[str, ...] = asked(
        (),
        "Layer for the methods that need one, as in named_modules() ('medxai layers' lists them); several times for "
        "several. Default: the card's, else the bottleneck; the choice is printed.",
        tasks=(EXPLAIN,), flag="layer", many=True,
    )  # fmt: skip
    threshold: float | None = asked(
        None, "Segmentation: explain the region where the class is more probable than this.", NUMBER, tasks=(EXPLAIN,)
    )
    voxel: tuple[float, float, float] | None = asked(
        None, "Segmentation: explain one voxel, R,A,S in mm.", POINT, tasks=(EXPLAIN,)
    )
    component: tuple[float, float, float] | None = asked(
        None, "Segmentation: explain the connected component that holds R,A,S in mm.", POINT, tasks=(EXPLAIN,)
    )
    mask: str | None = asked(
        None,
        "Segmentation: explain the class over this mask (where it is not 0). For many cases also a folder with one for each, or how "
        "its name ends beside each, as _mask.nii.gz.",
        PATH, tasks=(EXPLAIN,),
    )  # fmt: skip
    score: str = asked(
        "logits", "With --threshold: sum the region's logits, or its probabilities.", tasks=(EXPLAIN,),
        choices=("logits", "probabilities"),
    )  # fmt: skip
    slices: str | None = asked(
        None,
        "Slice-wise models: all, top:N, a:b (from a to b - 1, the first is 0) or n. Default: all, but top:1 for perturbations.",
        tasks=(EXPLAIN,),
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: int | None = asked(
        None, "Leave out methods that need more evaluations than this.", WHOLE, tasks=(EXPLAIN,), least=1
    )
    seed: int = asked(0, "Of everything random.", WHOLE, tasks=(EXPLAIN,), least=0, most=2**32 - 1)
    mass_fraction: float = asked(
        0.5, "Hot regions hold this fraction of a map's positive mass.", NUMBER, tasks=(EXPLAIN,), most=1
    )
    anatomy: str | None = asked(
        None,
        "A segmentation (.seg.nrrd, label map): adds which structure the network looked at. For many cases also a folder with one for "
        "each, or how its name ends beside each, as _seg.nii.gz.",
        PATH, tasks=(EXPLAIN,),
    )  # fmt: skip
    suffixes: tuple[str, ...] = asked(
        (),
        "In a folder: how the names of the inputs end, once for each input of the network, as T1=_t1.nii.gz; in BIDS as T1=T1w. "
        "With a single input the end alone.",
        flag="suffix", many=True,
    )  # fmt: skip
    weights: str | None = asked(None, "The weights file, or a folder to look in (also: MEDXAI_MODEL_PATH).", PATH)
    weights_key: str | None = asked(
        None,
        "Where in a checkpoint the weights lie, as ema or state_dict.model. Default: where they fit the network.",
    )
    trust: bool = asked(
        False,
        "Run a model file that is a program (TorchScript, torch.export); remembered for this very file. Weights need no trust: "
        "nothing in them is run.",
        FLAG,
    )
    threads: int | None = asked(
        None, "Threads of each worker. Default: the cores shared out; with one worker PyTorch's own.", WHOLE, least=1
    )
    device: str = asked("auto", "auto, cpu or cuda.")
    frame: int | None = asked(None, "Time point (0-based) of a 4D file.", WHOLE)
    series: str | None = asked(None, "Which DICOM series: its number, UID or description.")
    format: str = asked("nrrd", "Of the written volumes: nrrd, nii.gz or mha.", choices=("nrrd", "nii.gz", "mha"))
    writers: tuple[str, ...] = asked(STANDARD, "", flag="writer", many=True)
    keep_input: bool = asked(False, "Also write the preprocessed input: what the network really sees.", FLAG)
    cells: bool = asked(False, "Also write maps of layers on their own coarse grid.", FLAG, tasks=(EXPLAIN,))
    no_probe: bool = asked(
        False,
        "Do not ask the network, by two more passes, whether a layer's cells lie where its operators say.",
        FLAG, tasks=(EXPLAIN,),
    )  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """The job of :func:`dataclasses.asdict` after a way through JSON, which turns tuples into lists.

        :raises InputError: for a field that there is not, or one that is missing.
        """
        known = {f.name for f in fields(cls)}
        if strangers := sorted(set(values) - known):
            raise InputError(f"A job has no field '{strangers[0]}': it has {', '.join(sorted(known))}.")
        wanted = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        if missing := [name for name in wanted if name not in values]:
            raise InputError(f"A job needs the field '{missing[0]}'.")
        for name in ("inputs", "options"):
            if not isinstance(values.get(name, {}), Mapping):
                raise InputError(f"A job's field '{name}' is names and values, and not {values[name]!r}.")
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        if "options" in plain:
            plain["options"] = {n: tuple(v) if isinstance(v, list) else v for n, v in plain["options"].items()}
        return cls(**plain)

    def command(self, output: str = "out") -> str:
        """The command line that does the same, for a POSIX shell."""
        words = ["medxai", self.task]
        for name, path in self.inputs.items():
            plain = f"./{path}" if path.startswith("-") else path
            words += ["--input", f"{name}={path}"] if name else [plain]
        words += ["--model", self.model, "-o", output]
        for flag, value in self._given():
            words += [flag] if value is True else [f"{flag}={value}"]
        return shlex.join(words)

    def _given(self) -> Iterator[tuple[str, Any]]:
        """(option, value) of whatever differs from the command line's defaults; lists give one pair for each part."""
        for f in specs():
            value = getattr(self, f.name)
            if value != f.default:
                if f.metadata["kind"] == POINT:
                    value = ",".join(str(mm).removesuffix(".0") for mm in value)
                yield from ((flag_of(f), part) for part in (value if isinstance(value, tuple) else (value,)))
        known = options()
        for name, value in self.options.items():  # one that only the worker knows is told as it is
            off = False if isinstance(value, bool) else None
            option = known.get(name) or Option(
                name=name, kind=type(value), default=off, many=isinstance(value, tuple), help=""
            )
            if value is not None and value != option.default:
                yield from ((option.flag, part) for part in (value if option.many else (value,)))

    def paths(self) -> list[str]:
        """Whatever it names that may be a file."""
        given = [self.model, *(getattr(self, f.name) for f in specs() if f.metadata["kind"] == PATH)]
        return [*self.inputs.values(), *self.references, *(path for path in given if path)]

    @property
    def references(self) -> list[str]:
        """Paths among the methods' options."""
        known = options()
        return [p for name, v in self.options.items() if name in known and known[name].inputs for p in v]

    def ends(self) -> dict[str, str]:
        """Channel -> how the names of its files end; a single one may have the name "".

        :raises OptionError: for a channel that is given twice.
        """
        found: dict[str, str] = {}
        for text in self.suffixes:
            name, sign, end = text.partition("=")
            name, end = (name, end) if sign else ("", name)
            if not end or name in found or "" in (*found, name) and len(self.suffixes) > 1:
                raise OptionError("--suffix", text, "give NAME=END, once for each input, as T1=_t1.nii.gz")
            found[name] = end
        return found

    def described(self) -> dict[str, Any]:
        """The job as it is written down: file names without the folders they lie in."""
        plain = asdict(self)
        plain["inputs"] = {name: _bare(path) for name, path in self.inputs.items()}
        for name in ("model", *(f.name for f in specs() if f.metadata["kind"] == PATH)):
            plain[name] = plain[name] and _bare(plain[name])
        known = options()
        plain["options"] = {
            name: [_bare(path) for path in value] if name in known and known[name].inputs else value
            for name, value in self.options.items()
        }
        return plain

    def check(self) -> None:
        """:raises InputError: for values that cannot be meant, whatever the model and the input."""
        for f in specs():
            _check(f, getattr(self, f.name))
        if not 0 < self.mass_fraction <= 1:
            raise OptionError("--mass-fraction", f"{self.mass_fraction:g}", "give a fraction above 0 and up to 1")
        refuse_unknown(options().values(), self.options)
        settled(options().values(), self.options)


def _bare(path: str) -> str:
    return legible(PurePath(path).name)


def _check(f: Field[Any], value: Any) -> None:
    about = f.metadata
    if about["choices"] and value not in about["choices"]:
        raise OptionError(flag_of(f), value, f"choose one of {', '.join(about['choices'])}")
    if value is None or about["kind"] != WHOLE:
        return
    low, high = about["least"], about["most"]
    if low is not None and high is not None and not low <= value <= high:
        raise OptionError(flag_of(f), value, f"give a whole number from {low} to {high}")
    if low is not None and value < low:
        raise OptionError(flag_of(f), value, f"give at least {low}")


def specs(task: str | None = None) -> list[Field[Any]]:
    """The fields that every door lists, in the order in which it does.

    :param task: only those of a task.
    """
    found = [f for f in fields(Job) if "help" in f.metadata]
    return [f for f in found if task is None or task in f.metadata["tasks"]]


def flag_of(f: Field[Any]) -> str:
    """A field's option on the command line."""
    return f"--{f.metadata['flag'] or f.name.replace('_', '-')}"


def help_of(f: Field[Any]) -> str:
    """What a field is: of methods and writers, which there are."""
    if f.name == "methods":
        return (
            f"{', '.join(methods())}; or {ALL} that suit the network. Several times for several. Default: gradcam. "
            "'medxai methods' says what they are."
        )
    if f.name == "writers":
        listed = "; ".join(f"{name} ({writer.about})" for name, writer in writers().items())
        return f"What is written: {listed}. Several times for several. Default: {', '.join(STANDARD)}."
    return str(f.metadata["help"])


def option_help(option: Option) -> str:
    """What an option of methods is, and of which, where it is not of many."""
    names = [m.name for m in methods().values() if option in m.options]
    return f"{', '.join(names)}: {option.help}" if 0 < len(names) < 5 else option.help


def default_of(f: Field[Any]) -> Any:
    """A field's default."""
    return None if f.default is MISSING else f.default


class Messages:
    """Sentences for the user, collected while a job runs: what was chosen, what is odd.

    :param then: called with each new one.
    """

    def __init__(self, then: Callable[[str], None] = lambda text: None) -> None:
        self.lines: list[str] = []
        self.then = then

    def __call__(self, text: str) -> None:
        """Take one, once."""
        if text not in self.lines:
            self.lines.append(text)
            self.then(text)
