"""The command that measures: figures of maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import NOTICE
from ..app.evaluating import evaluate_case, evaluate_run, is_run
from ..app.job import EXPLAIN, default_of, flag_of, specs
from ..attribution.registry import methods
from ..errors import InputError, OptionError
from ..evaluation.evaluate import Measured
from ..evaluation.registry import measures, options
from ..io.paths import existing
from ..outputs.layout import EVALUATION
from .options import MODEL, Parameter, fields_of, job_of, of_option, with_parameters
from .running import SOME
from .terminal import bar, dim, fail

OF_MODEL = ("model", "weights", "weights_key", "trust", "device")
"""What may be given for a run: of its own, paths are on record without their folders."""
PATH = typer.Argument(help="The folder of a run, or a case as for 'medxai explain'.", show_default=False)
OUTPUT = typer.Option(
    "--output",
    "-o",
    help="Folder of the run that explains a case; what is measured of a run goes into its own.",
    show_default=False,
)
INPUTS = typer.Option(
    "--inputs",
    help="Folder in which a run's inputs lie; several times for several. Default: where the run found them.",
    show_default=False,
)
OVERWRITE = typer.Option("--overwrite", help="Explain a case anew, also where it was explained before.")


def evaluate(given: Mapping[str, Any]) -> None:
    """Measure maps: how much of the score goes with the voxels that they put first, beside chance.

    [cyan]medxai evaluate out[/cyan], after [cyan]medxai explain ... -o out[/cyan]; or
    [cyan]medxai evaluate head.nii.gz --model card.json --method gradcam --method lime -o figures[/cyan]
    """
    path = given["path"]
    names = given["measure"] or list(measures())
    of_measures = {name: given[name] for name in options() if given.get(name) is not None}
    with bar() as progress:
        if is_run(path):
            _refuse_of_cases(given)
            inputs = [Path(p) for p in given["inputs"] or ()]
            changed = {name: given[name] for name in OF_MODEL if given.get(name)}
            found = evaluate_run(path, names, of_measures, changed=changed, inputs=inputs, progress=progress)
            where = path / EVALUATION
        else:
            existing(path)
            if given["model"] is None or given["output"] is None:
                raise InputError(f"{path}: this is no folder of a run; for a case give --model and -o.")
            job = job_of(EXPLAIN, given)
            found = evaluate_case(
                job, given["output"], names, of_measures, overwrite=given["overwrite"], progress=progress, say=dim
            )
            where = given["output"] / EVALUATION
    for line in told(found.rows):
        print(line)
    if found.rows:
        print(f"Wrote {where}. {NOTICE}.")
    for _, sentence in found.failures:
        fail(sentence, SOME)
    if found.failures:
        raise typer.Exit(SOME if found.rows else 1)


def _refuse_of_cases(given: Mapping[str, Any]) -> None:
    """:raises OptionError: for what says how a case is explained: a run was."""
    asked = {f.name: default_of(f) for f in specs(EXPLAIN) if f.name not in OF_MODEL}
    for name, default in (asked | {"output": None}).items():
        if given.get(name) not in (None, [], default):
            flag = next((flag_of(f) for f in specs(EXPLAIN) if f.name == name), "--output")
            raise OptionError(flag, None, "what a run explained stands in its folder; leave it out")


def told(rows: Sequence[Measured]) -> list[str]:
    """The figures for people."""
    known = measures()
    lines = []
    for row in rows:
        m, figure = known[row.measure], row.figure
        if figure.value is None:
            what = f"cannot be told ({figure.why})"
        else:
            what = f"{figure.value:.3f} ({m.better} is better" + (
                f"; chance {figure.chance:.3f})" if figure.chance is not None else ")"
            )
        filled = f", removed voxels: {row.baseline}" if row.baseline else ""
        lines.append(f"{row.case}: {row.target}, {row.method}: {m.title} {what}{filled}")
    return lines


def add_to(app: typer.Typer) -> None:
    """The command, with the options of jobs, of methods and of measures."""
    named = typer.Option(
        "--measure",
        help=f"{'; '.join(f'{m.name} ({m.about})' for m in measures().values())}. Several times for several. Default: all.",
        show_default=False,
    )
    listed: list[Parameter] = [p for p in fields_of(EXPLAIN) if p.name not in options()]
    for option in options().values():
        owners = [m.name for known in (methods(), measures()) for m in known.values() if option in m.options]
        listed.append(of_option(replace(option, help=f"{', '.join(owners)}: {option.help}")))
    command = with_parameters(
        evaluate,
        listed,
        path=(Annotated[Path, PATH], ...),
        measure=(Annotated[list[str] | None, named], None),
        model=(Annotated[str | None, MODEL], None),
        output=(Annotated[Path | None, OUTPUT], None),
        inputs=(Annotated[list[str] | None, INPUTS], None),
        overwrite=(Annotated[bool, OVERWRITE], False),
    )
    app.command()(command)
