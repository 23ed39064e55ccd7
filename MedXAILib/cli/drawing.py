"""The command that draws: figures of a run, again and otherwise, without the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import NOTICE
from ..app.drawing import FIGURES, Drawing
from ..app.drawing import draw as drawn
from ..outputs.pictures.figure import ALONG, FORMATS, Look
from .running import SOME
from .terminal import bar, fail

Folder = Annotated[Path, typer.Argument(help="The folder of a run of 'medxai explain'.", show_default=False)]
Inputs = Annotated[
    Path | None,
    typer.Option("--inputs", help="Folder of the inputs. Default: where the run found them.", show_default=False),
]
Slices = Annotated[
    str,
    typer.Option(
        "--slices",
        help=f"peak: three planes through each map's peak; or a plane ({', '.join(ALONG)}) and how many, as axial:5.",
    ),
]
Scale = Annotated[
    str,
    typer.Option(
        "--scale",
        help="own: raw values, each map on its own scale. common: per cent of each map's own mass in a mL (a voxel, where the file gives no "
        "spacing), on one scale over all cases, for each class, method and layer.",
    ),
]
Format = Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")]
Theme = Annotated[str, typer.Option("--theme", help="light or dark.")]
Dpi = Annotated[int, typer.Option("--dpi", help="Pixels in an inch.", min=30, max=1200)]


def draw(
    folder: Folder,
    inputs: Inputs = None,
    slices: Slices = "peak",
    scale: Scale = "own",
    format: Format = "png",
    theme: Theme = "dark",
    dpi: Dpi = 150,
) -> None:
    """Draw the maps of a run again: other slices, one scale over all cases, for a screen or for print.

    [cyan]medxai draw out --scale common --format pdf --theme light --dpi 300[/cyan]
    """
    how = Drawing(look=Look(slices=slices, theme=theme, dpi=dpi), scale=scale, format=format, inputs=inputs)
    with bar() as progress:
        found = drawn(folder, how, progress=progress)
    print(f"{len(found.files)} figures in {folder / FIGURES}. {NOTICE}.")
    for _, sentence in found.failures:
        fail(sentence, SOME)
    if found.failures:
        raise typer.Exit(SOME if found.files else 1)
