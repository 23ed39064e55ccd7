"""Commands that run a job: predict and explain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..app import run as runner
from ..app.job import EXPLAIN, PREDICT, Job
from ..attribution.registry import methods
from .options import INPUT, MODEL, NAMED, fields_of, job_of, with_parameters
from .terminal import bar, dim, fail, report

OUTPUT = typer.Option(
    "--output", "-o", help="Folder of the results; it appears when the run is complete.", show_default=False
)
OVERWRITE = typer.Option("--overwrite", help="Replace an older run in the output folder.")
AS_JSON = typer.Option("--json", help="Print the summary as JSON on standard output.")
SCENE = typer.Option("--scene", help="Also write a Slicer scene (.mrb).", show_default=False)
SNAPSHOT = typer.Option(
    "--snapshot", help="Also write a picture (.png): slices through each map's peak, and 3D.", show_default=False
)
WHERE: dict[str, tuple[Any, Any]] = {
    "path": (Annotated[Path | None, INPUT], None),
    "named": (Annotated[list[str] | None, NAMED], None),
    "scene": (Annotated[Path | None, SCENE], None),
    "snapshot": (Annotated[Path | None, SNAPSHOT], None),
    "overwrite": (Annotated[bool, OVERWRITE], False),
    "as_json": (Annotated[bool, AS_JSON], False),
}
"""What a run needs beside its job."""


def predict(given: Mapping[str, Any]) -> None:
    """Run a model: class probabilities (predictions.csv), or a segmentation on the input's own grid.

    [cyan]medxai predict head.nii.gz --model card.json -o out[/cyan]
    """
    carry_out(job_of(PREDICT, given), given)


def explain(given: Mapping[str, Any]) -> None:
    """Show what the model looked at: maps, hot regions and tables, beside the prediction.

    [cyan]medxai explain slice.png --model card.json --method gradcam --method lime -o out --snapshot out.png[/cyan]
    """
    carry_out(job_of(EXPLAIN, given), given)


def carry_out(job: Job, given: Mapping[str, Any]) -> None:
    """Run the job with a progress bar; print its summary."""
    with bar() as progress:
        summary = runner.run(
            job,
            given["output"],
            overwrite=given["overwrite"],
            scene_path=given["scene"],
            snapshot_path=given["snapshot"],
            progress=progress,
            say=dim,
        )
    if given["as_json"]:
        print(json.dumps(summary))
    else:
        report(summary, given["output"])
    for sentence in summary["failed"]:
        fail(sentence, 1)
    if summary["left_out"] or summary["failed"]:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Both commands, with the options that jobs and methods have."""
    costs = "\n\n".join(f"[cyan]{m.name}[/cyan] ({m.title}, {m.family}): {m.cost}." for m in methods().values())
    for task, body, epilog in ((PREDICT, predict, None), (EXPLAIN, explain, costs)):
        command = with_parameters(
            body,
            fields_of(task),
            model=(Annotated[str, MODEL], ...),
            output=(Annotated[Path, OUTPUT], ...),
            **WHERE,
        )
        app.command(task, epilog=epilog)(command)
