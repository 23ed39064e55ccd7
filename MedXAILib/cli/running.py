"""Commands that run a job: predict and explain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import NOTICE
from ..app import run as runner
from ..app.dispatch import One, Scheduler, Way, Workers
from ..app.job import EXPLAIN, PREDICT, Job
from ..app.tables import derive
from ..attribution.registry import methods
from ..errors import InputError
from .options import INPUT, MODEL, NAMED, fields_of, job_of, with_parameters
from .terminal import bar, dim, fail, report

OUTPUT = typer.Option(
    "--output",
    "-o",
    help="Folder of the results. What is there already and still valid is kept: the same command goes on after an interruption.",
    show_default=False,
)
OVERWRITE = typer.Option("--overwrite", help="Compute everything anew; each case is replaced as its new one is done.")
RETRY = typer.Option(
    "--retry", help="Added to the same command: only the cases that failed before, and none that was never begun."
)
SHARD = typer.Option(
    "--shard",
    help="i/n: only the i-th of n parts of the cases. Run all n, at once or not, with the same folder: a job array needs no more.",
    show_default=False,
)
PRUNE = typer.Option("--prune", help="At the end, remove results in the folder that are not of this job.")
VERIFY = typer.Option(
    "--verify", help="Look into every input again, also where its file has the size and time of before."
)
WORKERS = typer.Option(
    "--workers",
    help="Processes of this machine; its cores are shared out among them. Fewer run where memory is short.",
    min=1,
)
SCHEDULER = typer.Option(
    "--scheduler",
    help="Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work and see the same files (pip install 'MedXAILib\\[dask]').",
    show_default=False,
)
DRY = typer.Option("--dry-run", help="Only show which cases there are, what was left out, and what they need.")
AS_JSON = typer.Option("--json", help="Print the summary as JSON on standard output.")
SCENE = typer.Option("--scene", help="Also write a Slicer scene (.mrb), of one case.", show_default=False)
SNAPSHOT = typer.Option(
    "--snapshot",
    help="Also write a picture (.png) of one case: slices through each map's peak, and 3D.",
    show_default=False,
)
WHERE: dict[str, tuple[Any, Any]] = {
    "path": (Annotated[Path | None, INPUT], None),
    "named": (Annotated[list[str] | None, NAMED], None),
    "scene": (Annotated[Path | None, SCENE], None),
    "snapshot": (Annotated[Path | None, SNAPSHOT], None),
    "overwrite": (Annotated[bool, OVERWRITE], False),
    "verify": (Annotated[bool, VERIFY], False),
    "retry": (Annotated[bool, RETRY], False),
    "shard": (Annotated[str | None, SHARD], None),
    "prune": (Annotated[bool, PRUNE], False),
    "workers": (Annotated[int, WORKERS], 1),
    "scheduler": (Annotated[str | None, SCHEDULER], None),
    "dry": (Annotated[bool, DRY], False),
    "as_json": (Annotated[bool, AS_JSON], False),
}
"""What a run needs beside its job."""
SOME = 3
"""Exit code where some cases failed, or something that was asked for beside the maps."""


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


def tables(folder: Path) -> None:
    """Make the tables of a run from what lies in its folder, also while it goes on.

    [cyan]medxai tables out[/cyan]
    """
    found = derive(folder)
    print(f"{found.said}: {', '.join(found.files)} in {folder}. {NOTICE}.")


def carry_out(job: Job, given: Mapping[str, Any]) -> None:
    """Run the job with a progress bar; print its summary."""
    with bar() as progress:
        summary = runner.run(
            job,
            given["output"],
            overwrite=given["overwrite"],
            **{name: given[name] for name in ("verify", "retry", "shard", "prune", "dry")},
            way=way_of(given),
            scene_path=given["scene"],
            snapshot_path=given["snapshot"],
            progress=progress,
            say=dim,
        )
    if given["dry"]:
        print(f"{summary['of']} cases, {summary['missing']} of them to be done. Nothing was computed. {NOTICE}.")
        return
    if given["as_json"]:
        print(json.dumps(summary))
    else:
        report(summary, given["output"])
    for sentence in summary["failed"]:
        fail(sentence, SOME)
    if summary["failures"] or summary["failed"]:
        raise typer.Exit(SOME)


def way_of(given: Mapping[str, Any]) -> Way:
    """Who carries the cases out.

    :raises InputError: for two answers.
    """
    if given["scheduler"] is not None:
        if given["workers"] != 1:
            raise InputError("--workers and --scheduler exclude each other: a scheduler has workers of its own.")
        return Scheduler(given["scheduler"])
    return Workers(given["workers"]) if given["workers"] > 1 else One()


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

    def of_tables(run_folder: Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)]) -> None:
        tables(run_folder)

    app.command("tables", help=tables.__doc__)(of_tables)
