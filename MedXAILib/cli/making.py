"""Commands that make: a trained network, the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import NOTICE, interrupt
from ..errors import OptionError
from ..examples.planted_lesion.demo import run_demo
from ..models.catalogue import nested
from ..progress import Cancelled
from ..training import train as run_training
from ..training.checkpoint import FILE
from .listing import DEVICE
from .terminal import bar, dim, fail


def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe (.toml), or the name of a model that comes with MedXAI.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of weights, card, log and curve.", show_default=False),
    ],
    data: Annotated[
        Path, typer.Option(help="Folder that the recipe's paths are relative to.", show_default=False)
    ] = Path("."),
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Train a network by a recipe: weights, a model card with measured figures, a log and its curve.

    [cyan]medxai train hippocampus-mcgunet --data ../shared/data -o out[/cyan]

    After every epoch a checkpoint is kept: after Ctrl-C the same command goes on from there. On a CPU the same recipe,
    data and number of threads (OMP_NUM_THREADS) give the same weights. A recipe of your own: copy one of
    MedXAILib/training/recipes, and change its data and card.
    """
    try:
        with bar() as progress:
            figures = run_training(
                recipe,
                data,
                output,
                device=device,
                progress=progress,
                message=dim,
            )
    except (KeyboardInterrupt, Cancelled):
        if not (output / FILE).exists():
            raise
        raise typer.Exit(
            fail(f"Stopped; {output / FILE} is kept, and the same command goes on from there.", interrupt.EXIT_CODE)
        ) from None
    for line in nested(figures):
        print(line)
    print(f"Wrote the network to {output}. {NOTICE}.")


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the results; it appears when the run is complete.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Where the lesion is planted.")] = 0,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Plant a lesion in a real head, ask a small network, and see whether its maps find it."""
    with bar() as progress:
        if seed < 0:
            raise OptionError("--seed", seed, "give a whole number of at least 0")
        lines = run_demo(output, seed, device, progress)
    for line in lines:
        print(line)
