"""Commands for a network of one's own: draft its card, check it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .. import NOTICE
from ..app.cards import check_card, expect
from ..app.job import PREDICT, Job
from ..errors import FileError
from ..io import atomic
from ..models.drafting import draft_card
from .listing import DEVICE, FRAME, SERIES, TRUST, WEIGHTS, WEIGHTS_KEY
from .terminal import bar, console


def card_new(
    weights: Annotated[Path, typer.Argument(help="The weights file of your network.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The card to write. Default: beside the weights, as .json.", show_default=False
        ),
    ] = None,
    trust: Annotated[bool, TRUST] = False,
) -> None:
    """Draft a card: what the weights tell is filled in, the rest is listed for you to fill."""
    if not weights.is_file():
        raise FileError(weights, "there is no such weights file", "check the path")
    path = output or weights.with_suffix(".json")
    if path.exists():
        raise FileError(path, "there is a file already", "give another name with -o")
    draft, missing = draft_card(weights, trust=trust)
    write_text(path, json.dumps(draft, indent=2) + "\n")
    console.print(f"Wrote {path}.")
    for line in missing:
        console.print(f"  to fill in: {line}", markup=False)
    console.print(f"Then: medxai card check {path} FILE", markup=False)


def card_check(
    card: Annotated[Path, typer.Argument(help="The card.", show_default=False)],
    path: Annotated[
        Path, typer.Argument(help="A volume or picture that the network should understand.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path("check.png"),
    examples: Annotated[
        Path | None,
        typer.Option(
            "--expect",
            help="A folder of inputs like those the network was trained on: what they look like is first measured and "
            "written into the card (input.expected).",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    weights_key: Annotated[str | None, WEIGHTS_KEY] = None,
    trust: Annotated[bool, TRUST] = False,
    device: Annotated[str, DEVICE] = "auto",
    frame: Annotated[int | None, FRAME] = None,
    series: Annotated[str | None, SERIES] = None,
) -> None:
    """Load a card, run it on a file, and show the preprocessed input, the prediction, and in what the input is unlike what
    the card expects."""
    job = Job(
        task=PREDICT, inputs={"": str(path)}, model=str(card), weights=weights, trust=trust, device=device, frame=frame,
        series=series, weights_key=weights_key,
    )  # fmt: skip
    with bar() as progress:
        if examples is not None:
            write_text(card, json.dumps(expect(card, examples, progress), indent=2, ensure_ascii=False) + "\n")
            console.print(f"Wrote what was measured on {examples} into {card} (input.expected).", markup=False)
        lines = check_card(job, output, progress)
    for line in lines:
        print(line)
    console.print(f"Wrote {output}: the input as the network sees it. {NOTICE}.", markup=False)


def write_text(path: Path, text: str) -> None:
    """Whole or not at all.

    :raises FileError: where the file cannot be written.
    """
    try:
        atomic.write_text(path, text)
    except OSError as error:
        raise FileError(path, f"this file cannot be written ({error.strerror})", "give another path with -o") from None
