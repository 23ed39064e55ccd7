"""Options of the command line, made of the job's fields and of the methods' options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from ..app.job import (
    EXPLAIN,
    FLAG,
    NUMBER,
    POINT,
    WHOLE,
    Job,
    default_of,
    flag_of,
    help_of,
    option_help,
    specs,
)
from ..attribution.option import Option
from ..attribution.registry import ALL, methods, options
from ..errors import InputError, OptionError
from ..models.sources.zoo import zoo_cards


def beginning(known: Iterable[str]) -> Callable[[str], list[str]]:
    """What the shell completes a value to."""
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


INPUT = typer.Argument(
    help="A volume, a picture, a DICOM file or folder; or many cases: a folder, a pattern in quotation marks, a table (.csv, .tsv with a "
    "column 'input'), a BIDS dataset, a DICOM folder of many patients.",
    show_default=False,
)
MODEL = typer.Option(
    "--model",
    "-m",
    help="A model card (.json) or the name of a model that comes with MedXAI.",
    show_default=False,
    autocompletion=beginning(zoo_cards()),
)
NAMED = typer.Option(
    "--input", help="NAME=PATH, once for each named input of a model with several.", show_default=False
)
COMPLETED = {"methods": lambda: (*methods(), ALL)}
"""Fields whose values the shell completes."""
Parameter = inspect.Parameter


def of_field(name: str, task: str = EXPLAIN) -> Parameter:
    """A field of the job as a parameter of a command."""
    f = next(f for f in specs(task) if f.name == name)
    default, many, kind = default_of(f), f.metadata["many"], f.metadata["kind"]
    plain = {FLAG: bool, WHOLE: int, NUMBER: float}.get(kind, str)
    complete = beginning(COMPLETED[name]()) if name in COMPLETED else None
    shown = default is not None and not many and kind != FLAG
    option = typer.Option(flag_of(f), help=help_of(f), show_default=shown, autocompletion=complete)
    return _parameter(name, plain, default, many, option)


def of_option(option: Option) -> Parameter:
    """An option of methods as a parameter of a command."""
    shown = option.default is not None and not option.many
    found = typer.Option(option.flag, help=option_help(option), show_default=shown)
    return _parameter(option.name, option.kind, option.default, option.many, found)


def _parameter(name: str, plain: type, default: Any, many: bool, option: Any) -> Parameter:
    kind: Any = list[plain] | None if many else plain if default is not None else plain | None  # type: ignore[valid-type]  # made at run time
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=None if many else default, annotation=Annotated[kind, option]
    )


def fields_of(task: str) -> list[Parameter]:
    """Every field of the job that a task has; options of methods stand after the slices."""
    found = []
    for f in specs(task):
        found.append(of_field(f.name, task))
        if f.name == "slices":
            found += [of_option(option) for option in options().values()]
    return found


def with_parameters(body: Callable[..., None], parameters: Sequence[Parameter], **more: Any) -> Callable[..., None]:
    """A command: ``body`` with these parameters, as if they had been written at its head.

    :param more: other parameters that stand before them: name -> (annotation, default).
    """
    empty = Parameter.empty
    first = [Parameter(n, Parameter.KEYWORD_ONLY, default=d, annotation=a) for n, (a, d) in more.items()]
    ordered = sorted([*first, *parameters], key=lambda p: p.default is not empty)

    def command(**given: Any) -> None:
        body(given)

    command.__name__, command.__doc__ = body.__name__, body.__doc__
    command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = {p.name: p.annotation for p in ordered}
    return command


def job_of(task: str, given: Mapping[str, Any]) -> Job:
    """The job that a command line means.

    :param given: the parameters of :func:`fields_of`, and ``path``, ``named`` and ``model``.
    """
    values: dict[str, Any] = {}
    for f in specs(task):
        value = given.get(f.name)
        if f.metadata["many"]:
            value = tuple(dict.fromkeys(value)) if value else default_of(f)
        elif f.metadata["kind"] == POINT and value is not None:
            value = point(value, flag_of(f))
        values[f.name] = value if f.name in given else default_of(f)
    chosen = {}
    for name, option in options().items():
        value = given.get(name)
        if value is not None and value != option.default and value != []:
            chosen[name] = tuple(value) if option.many else value
    return Job(
        task=task, inputs=inputs(given.get("path"), given.get("named")), model=given["model"], options=chosen, **values
    )  # fmt: skip


def inputs(path: Any, named: list[str] | None) -> dict[str, str]:
    """The input paths by channel name.

    :raises InputError: for none, for both kinds at once, or for an option that is not NAME=PATH.
    """
    if (path is None) == (not named):
        raise InputError("Give either one input path, or --input NAME=PATH for each named input of the model.")
    if path is not None:
        return {"": str(path)}
    pairs = [text.partition("=") for text in named or ()]
    names = [name for name, _, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OptionError("--input", twice, "this input is given twice; give each one once")
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise OptionError("--input", f"{name}{sign}{value}", "give NAME=PATH")
    return {name: value for name, _, value in pairs}


def point(text: str, option: str) -> tuple[float, float, float]:
    """``R,A,S`` in mm.

    :raises InputError: for anything else.
    """
    try:
        r, a, s = (float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(option, text, f"give three numbers R,A,S in mm, as {option}=-12,30.5,8") from None
    return r, a, s
