"""Commands that look: at a file, at methods, layers and models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..app.cards import list_layers
from ..app.job import PREDICT, Job
from ..attribution import taxonomy
from ..attribution.registry import methods as known_methods
from ..evaluation.registry import measures
from ..models.catalogue import lines
from ..outputs.earlier import describe
from .options import INPUT, MODEL, of_field

AS_JSON = typer.Option("--json", help="Print the summary as JSON on standard output.")


def option(name: str) -> Any:
    """A field of the job as an option of another command."""
    return of_field(name, PREDICT).annotation.__metadata__[0]


WEIGHTS, WEIGHTS_KEY, TRUST, DEVICE = (option(name) for name in ("weights", "weights_key", "trust", "device"))
FRAME, SERIES = option("frame"), option("series")


def info(
    path: Annotated[Path, typer.Argument(help="A volume, a picture, a DICOM file or folder.", show_default=False)],
    frame: Annotated[int | None, FRAME] = None,
    series: Annotated[str | None, SERIES] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Print geometry, intensities, series, and what is odd about a file."""
    facts = describe(path, series=series, frame=frame)
    if as_json:
        print(json.dumps(facts))
        return
    for line in described(facts):
        print(line)


def described(facts: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Nested facts as lines: one for each value, rows of a table or matrix below their name."""
    for name, value in facts.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, dict):
            yield label
            yield from described(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], list | dict | str):
            yield label
            for row in value:
                if isinstance(row, dict):
                    row = ", ".join(f"{key} {cell}" for key, cell in row.items() if cell not in ("", None))
                elif isinstance(row, list):
                    row = "".join(f"{number if abs(number) > 1e-6 else 0:11.4g}" for number in row)
                yield f"{indent}  {row}"
        elif isinstance(value, list) and value:
            yield f"{label} {' x '.join(f'{n:g}' for n in value)}"
        elif value not in ([], None, ""):
            yield f"{label} {f'{value:.6g}' if isinstance(value, float) else value}"


def methods(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of the README.")] = False,
    with_options: Annotated[
        bool, typer.Option("--options", help="List the options of each method and measure.")
    ] = False,
) -> None:
    """List the field's methods of explanation: which there are here, and why the others are not."""
    if with_options:
        print("\n".join(taxonomy.option_lines(known_methods().values())))
        print("\nmeasures (medxai evaluate)")
        print("\n".join(taxonomy.option_lines(measures().values())))
    else:
        print(taxonomy.markdown() if as_markdown else "\n".join(taxonomy.lines()))


def layers(
    model: Annotated[str, MODEL],
    path: Annotated[Path | None, INPUT] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    weights_key: Annotated[str | None, WEIGHTS_KEY] = None,
    trust: Annotated[bool, TRUST] = False,
    frame: Annotated[int | None, FRAME] = None,
    series: Annotated[str | None, SERIES] = None,
) -> None:
    """List a model's layers: shapes, where their cells lie, and which one is explained by default.

    With an input, for that input; else for the size that the card names, or 64 voxels along each axis.
    """
    job = Job(
        task=PREDICT, inputs={"": str(path)} if path else {}, model=model, weights=weights, trust=trust, device="cpu", frame=frame, series=series,
        weights_key=weights_key,
    )  # fmt: skip
    for line in list_layers(job):
        print(line)


def models(
    name: Annotated[str | None, typer.Argument(help="A model, for its whole card.", show_default=False)] = None,
) -> None:
    """List the models that come with MedXAI: what they do, how well, and what they cannot.

    [cyan]medxai models[/cyan], then [cyan]medxai models NAME[/cyan]
    """
    for line in lines(name):
        print(line)
