"""``medxai``: the command line. It builds a Job and hands it to run.py."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .. import NOTICE, __version__
from ..attribution.methods import ALL, METHODS
from ..errors import InputError, missing_package, of_path
from ..models.summary import quantity, zoo_cards
from ..progress import Cancelled
from . import interrupt
from .job import Job

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"See why a neural network said so, on medical volumes. [bold]{NOTICE}.[/bold]\n\n"
    "Start with [cyan]medxai demo[/cyan], then [cyan]medxai info FILE[/cyan] and "
    "[cyan]medxai explain FILE --model CARD -o OUT --snapshot out.png[/cyan].",
)
card_app = typer.Typer(no_args_is_help=True, help="Bring your own network: draft its card, then check it.")
app.add_typer(card_app, name="card")
console = Console(stderr=True, highlight=False)


def beginning(known: Iterable[str]) -> Callable[[str], list[str]]:
    """What the shell completes a value to."""
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


INPUT = typer.Argument(help="A volume, a picture, a DICOM file or folder, or a folder of cases.", show_default=False)
MODEL = typer.Option(
    "--model",
    "-m",
    help="A model card (.json) or the name of a model that comes with MedXAI.",
    show_default=False,
    autocompletion=beginning(zoo_cards()),
)
OUTPUT = typer.Option(
    "--output", "-o", help="Folder of the results; it appears when the run is complete.", show_default=False
)
NAMED = typer.Option(
    "--input", help="NAME=PATH, once for each named input of a model with several.", show_default=False
)
METHOD = typer.Option(
    "--method",
    help=f"{', '.join(METHODS)}; or {ALL} that suit the network. Several times for several. Default: gradcam. "
    "'medxai methods' says what they are.",
    show_default=False,
    autocompletion=beginning((*METHODS, ALL)),
)
WEIGHTS = typer.Option(
    "--weights", help="The weights file, or a folder to look in (also: MEDXAI_MODEL_PATH).", show_default=False
)
WEIGHTS_KEY = typer.Option(
    "--weights-key",
    help="Where in a checkpoint the weights lie, as ema or state_dict.model. Default: where they fit the network.",
    show_default=False,
)
TRUST = typer.Option(
    "--trust",
    help="Run a model file that is a program (TorchScript, torch.export); remembered for this very file. Weights need no trust: "
    "nothing in them is run.",
)
DEVICE = typer.Option("--device", help="auto, cpu or cuda.")
FRAME = typer.Option("--frame", help="Time point (0-based) of a 4D file.", show_default=False)
SERIES = typer.Option("--series", help="Which DICOM series: its number, UID or description.", show_default=False)
FORMAT = typer.Option("--format", help="Of the written volumes: nrrd, nii.gz or mha.")
KEEP = typer.Option("--keep-input", help="Also write the preprocessed input: what the network really sees.")
OVERWRITE = typer.Option("--overwrite", help="Replace an older run in the output folder.")
AS_JSON = typer.Option("--json", help="Print the summary as JSON on standard output.")
SCENE = typer.Option("--scene", help="Also write a Slicer scene (.mrb).", show_default=False)
SNAPSHOT = typer.Option(
    "--snapshot", help="Also write a picture (.png): slices through each map's peak, and 3D.", show_default=False
)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A volume, a picture, a DICOM file or folder.", show_default=False)],
    frame: Annotated[int | None, FRAME] = None,
    series: Annotated[str | None, SERIES] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Print geometry, intensities, series, and what is odd about a file."""
    from ..io.describe import describe

    facts = describe(path, series=series, frame=frame)
    if as_json:
        print(json.dumps(facts))
        return
    for line in described(facts):
        print(line)


def described(facts: dict, indent: str = "") -> Iterator[str]:
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


@app.command()
def predict(
    model: Annotated[str, MODEL],
    output: Annotated[Path, OUTPUT],
    path: Annotated[Path | None, INPUT] = None,
    named: Annotated[list[str] | None, NAMED] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    weights_key: Annotated[str | None, WEIGHTS_KEY] = None,
    trust: Annotated[bool, TRUST] = False,
    device: Annotated[str, DEVICE] = "auto",
    frame: Annotated[int | None, FRAME] = None,
    series: Annotated[str | None, SERIES] = None,
    format: Annotated[str, FORMAT] = "nrrd",
    keep_input: Annotated[bool, KEEP] = False,
    scene: Annotated[Path | None, SCENE] = None,
    snapshot: Annotated[Path | None, SNAPSHOT] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Run a model: class probabilities (predictions.csv), or a segmentation on the input's own grid.

    [cyan]medxai predict head.nii.gz --model card.json -o out[/cyan]
    """
    job = Job(
        "predict",
        inputs(path, named),
        model,
        weights,
        trust,
        device,
        frame,
        series,
        format=format,
        keep_input=keep_input,
        weights_key=weights_key,
    )
    carry_out(job, output, overwrite, scene, snapshot, as_json)


@app.command(epilog="\n\n".join(f"[cyan]{m.name}[/cyan] ({m.title}, {m.family}): {m.cost}." for m in METHODS.values()))
def explain(
    model: Annotated[str, MODEL],
    output: Annotated[Path, OUTPUT],
    path: Annotated[Path | None, INPUT] = None,
    named: Annotated[list[str] | None, NAMED] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="Class to explain; several times for several. Default: the predicted one.",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[list[str] | None, METHOD] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            help="Layer for the methods that need one, as in named_modules() ('medxai layers' lists them); several times for "
            "several. Default: the card's, else the bottleneck; the choice is printed.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Segmentation: explain the region where the class is more probable than this.", show_default=False
        ),
    ] = None,
    voxel: Annotated[
        str | None, typer.Option(help="Segmentation: explain one voxel, R,A,S in mm.", show_default=False)
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(help="Segmentation: explain the connected piece that holds R,A,S in mm.", show_default=False),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Segmentation: explain the class over this mask (where it is not 0).", show_default=False),
    ] = None,
    score: Annotated[
        str, typer.Option(help="With --threshold: sum the region's logits, or its probabilities.")
    ] = "logits",
    slices: Annotated[
        str | None,
        typer.Option(
            help="Slice-wise models: all, top:N, a:b (from a to b - 1, the first is 0) or n. Default: all, but top:1 for perturbations.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Perturbed or noisy inputs, or steps. Default: the method's own, as listed below.", show_default=False
        ),
    ] = None,
    superpixels: Annotated[
        int | None,
        typer.Option(
            help="LIME, SHAP: about how many superpixels. Default: 50 in a slice, 150 in a volume.", show_default=False
        ),
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="Input without evidence, for ig and deeplift: air, zero, mean or blurred.")
    ] = "air",
    references: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            help="expgrad: another case to draw baselines from; several times for several. Default: the four baselines.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(help="Leave out methods that need more evaluations than this.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    share: Annotated[float, typer.Option(help="Hot regions hold this share of a map's positive mass.")] = 0.5,
    anatomy: Annotated[
        Path | None,
        typer.Option(
            help="A segmentation (.seg.nrrd, label map): adds which structure the network looked at.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[str | None, WEIGHTS] = None,
    weights_key: Annotated[str | None, WEIGHTS_KEY] = None,
    trust: Annotated[bool, TRUST] = False,
    device: Annotated[str, DEVICE] = "auto",
    frame: Annotated[int | None, FRAME] = None,
    series: Annotated[str | None, SERIES] = None,
    format: Annotated[str, FORMAT] = "nrrd",
    keep_input: Annotated[bool, KEEP] = False,
    cells: Annotated[bool, typer.Option("--cells", help="Also write maps of layers on their own coarse grid.")] = False,
    no_probe: Annotated[
        bool,
        typer.Option(
            "--no-probe",
            help="Do not ask the network, by two more passes, whether a layer's cells lie where its operators say.",
        ),
    ] = False,
    scene: Annotated[Path | None, SCENE] = None,
    snapshot: Annotated[Path | None, SNAPSHOT] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show what the model looked at: maps, hot regions and tables, beside the prediction.

    [cyan]medxai explain slice.png --model card.json --method gradcam --method lime -o out --snapshot out.png[/cyan]
    """
    job = Job(
        "explain",
        inputs(path, named),
        model,
        weights,
        trust,
        device,
        frame,
        series,
        tuple(classes or ()),
        threshold,
        None if voxel is None else point(voxel, "--voxel"),
        tuple(dict.fromkeys(methods or ("gradcam",))),
        tuple(layers or ()),
        slices,
        samples,
        superpixels,
        seed,
        share,
        None if anatomy is None else str(anatomy),
        format,
        keep_input,
        None if component is None else point(component, "--component"),
        None if mask is None else str(mask),
        score,
        baseline,
        tuple(references or ()),
        budget,
        cells,
        no_probe,
        weights_key,
    )
    carry_out(job, output, overwrite, scene, snapshot, as_json)


@app.command()
def methods(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of the README.")] = False,
) -> None:
    """List the field's methods of explanation: which there are here, and why the others are not."""
    from ..attribution.taxonomy import lines, markdown

    print(markdown() if as_markdown else "\n".join(lines()))


@app.command()
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
    from .run import list_layers

    job = Job(
        "predict", {"": str(path)} if path else {}, model, weights, trust, "cpu", frame, series, weights_key=weights_key
    )
    for line in list_layers(job):
        print(line)


@card_app.command("new")
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
    from ..models.drafting import draft_card

    if not weights.is_file():
        raise InputError(f"{weights}: there is no such weights file; check the path.")
    path = output or weights.with_suffix(".json")
    if path.exists():
        raise InputError(f"{path}: there is a file already; give another name with -o.")
    draft, missing = draft_card(weights, trust=trust)
    write_text(path, json.dumps(draft, indent=2) + "\n")
    console.print(f"Wrote {path}.")
    for line in missing:
        console.print(f"  to fill in: {line}", markup=False)
    console.print(f"Then: medxai card check {path} FILE", markup=False)


@card_app.command("check")
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
    from .run import check_card, expect

    job = Job("predict", {"": str(path)}, str(card), weights, trust, device, frame, series, weights_key=weights_key)
    with bar() as progress:
        if examples is not None:
            write_text(card, json.dumps(expect(card, examples, progress), indent=2, ensure_ascii=False) + "\n")
            console.print(f"Wrote what was measured on {examples} into {card} (input.expected).", markup=False)
        lines = check_card(job, output, progress)
    for line in lines:
        print(line)
    console.print(f"Wrote {output}: the input as the network sees it. {NOTICE}.", markup=False)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="A model, for its whole card.", show_default=False)] = None,
) -> None:
    """List the models that come with MedXAI: what they do, how well, and what they cannot.

    [cyan]medxai models[/cyan], then [cyan]medxai models NAME[/cyan]
    """
    from ..models.catalogue import lines

    for line in lines(name):
        print(line)


@app.command()
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
    from ..models.catalogue import nested
    from ..training import train as run_training
    from ..training.checkpoint import FILE

    try:
        with bar() as progress:
            figures = run_training(
                recipe,
                data,
                output,
                device=device,
                progress=progress,
                message=lambda text: console.print(text, markup=False, style="dim"),
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


@app.command()
def demo(
    output: Annotated[Path, OUTPUT] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Where the lesion is planted.")] = 0,
    device: Annotated[str, DEVICE] = "auto",
) -> None:
    """Plant a lesion in a real head, ask a small network, and see whether its maps find it."""
    from ..examples.planted_lesion.demo import run_demo

    with bar() as progress:
        if seed < 0:
            raise InputError(f"--seed {seed}: give a whole number of at least 0.")
        lines = run_demo(output, seed, device, progress)
    for line in lines:
        print(line)


def version(wanted: bool) -> None:
    if wanted:
        print(f"medxai {__version__}. {NOTICE}.")
        raise typer.Exit


@app.callback()
def options(
    show: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def inputs(path: Path | None, named: list[str] | None) -> dict[str, str]:
    """The input paths by channel name.

    :raises InputError: for none, for both kinds at once, or for an option that is not NAME=PATH.
    """
    if (path is None) == (not named):
        raise InputError("Give either one input path, or --input NAME=PATH for each named input of the model.")
    if path is not None:
        return {"": str(path)}
    pairs = [text.partition("=") for text in named]
    names = [name for name, _, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"--input {twice}: this input is given twice; give each one once.")
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise InputError(f"--input {name}{sign}{value}: give NAME=PATH.")
    return {name: value for name, _, value in pairs}


def point(text: str, option: str) -> tuple[float, float, float]:
    """``R,A,S`` in mm.

    :raises InputError: for anything else.
    """
    try:
        r, a, s = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: give three numbers R,A,S in mm, as {option}=-12,30.5,8.") from None
    return r, a, s


def write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise InputError(
            f"{path}: this file cannot be written ({error.strerror}); give another path with -o."
        ) from None


def carry_out(
    job: Job, output: Path, overwrite: bool, scene: Path | None, snapshot: Path | None, as_json: bool
) -> None:
    """Run the job with a progress bar; print its summary."""
    from . import run as runner

    with bar() as progress:
        summary = runner.run(
            job,
            output,
            overwrite=overwrite,
            scene_path=scene,
            snapshot_path=snapshot,
            progress=progress,
            say=lambda text: console.print(text, markup=False, style="dim"),
        )
    if as_json:
        print(json.dumps(summary))
    else:
        report(summary, output)
    for sentence in summary["failed"]:
        fail(sentence, 1)
    if summary["left_out"] or summary["failed"]:
        raise typer.Exit(1)


def report(summary: dict, output: Path) -> None:
    """The summary for people."""
    for case in summary["cases"]:
        if "probabilities" in case:
            ranked = sorted(case["probabilities"].items(), key=lambda pair: -pair[1])
            where = case.get("highest_in_slice", {})
            texts = [f"{name} {p:.3f}" + (f" (slice {where[name]})" if where else "") for name, p in ranked]
            what = f"highest in any of {case['slices']} slices, no diagnosis: " if where else ""
            print(f"{case['input']}: {what}{', '.join(texts)}")
        elif "values" in case:
            said = (f"{name} {quantity(value, case['unit'])}" for name, value in case["values"].items())
            print(f"{case['input']}: " + ", ".join(said))
        else:
            sizes = (
                [f"{name} {ml:.1f} mL" for name, ml in case["volume_ml"].items()]
                if "volume_ml" in case
                else [f"{name} {count} voxels" for name, count in case["voxels"].items()]
            )
            print(f"{case['input']}: " + ", ".join(sizes))
        known = [caveat["text"] for caveat in case["caveats"]]
        for text in known:
            print(f"  {text}")
        for m in case["maps"]:
            place = f" at {m['layer']}" if m["layer"] else ""
            print(f"  {m['class']}, {m['method']}{place}: {m['seconds']:.1f} s, {m['evaluations']} model evaluations")
            for line in m["limits"]:
                if line not in known:
                    print(f"    {line}")
    for path in summary["shown"]:
        print(f"Wrote {path}")
    print(f"Wrote {len(summary['files'])} files to {output} in {summary['seconds']:.1f} s. {NOTICE}.")


@contextmanager
def bar() -> Iterator:
    """A progress bar with the time left; lines, at most one in 5 s, where standard error is no terminal."""
    if not console.is_terminal:
        yield lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    began, most = time.monotonic(), 0.0
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task("Loading", total=1.0, left="")

        def progress(done: float, total: float, text: str) -> None:
            nonlocal most
            most = max(most, done / max(total, 1e-9))  # a bar goes forward only
            shown.update(task, completed=most, description=text, left=time_left(time.monotonic() - began, most))

        yield progress


def time_left(seconds: float, share: float) -> str:
    """What is left of a run, from what has passed; empty while that says little."""
    if share < 0.05 or seconds < 5:
        return ""
    left = round(seconds * (1 - share) / share)
    return f"about {left} s left" if left < 100 else f"about {round(left / 60)} min left"


def lines():
    """Progress as plain lines."""
    last, most = time.monotonic(), 0.0

    def progress(done: float, total: float, text: str) -> None:
        nonlocal last, most
        most = max(most, done / max(total, 1e-9))
        if time.monotonic() - last >= 5:
            last = time.monotonic()
            print(f"{100 * most:3.0f} % {text}", file=sys.stderr, flush=True)

    return progress


def main() -> None:
    """Entry point."""
    if not sys.warnoptions:  # what libraries say to their programmers; python -W shows it
        warnings.simplefilter("ignore")
    interrupt.watch()
    code = run(sys.argv[1:])
    if code == interrupt.EXIT_CODE:
        os._exit(code)  # while the interpreter winds down, another Ctrl-C would kill it with the signal's own code
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; gives the exit code. Errors of the user's are one line and 2; Ctrl-C is 130."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be anything
    try:
        app(arguments, prog_name="medxai")
    except SystemExit as end:
        return end.code or 0
    except InputError as error:
        return fail(" ".join(str(error).split()), 2)
    except ModuleNotFoundError as error:
        return fail(missing_package(error), 1)
    except OSError as error:
        return fail(str(of_path(error)), 2)
    except (KeyboardInterrupt, Cancelled):
        return fail("Stopped; nothing half-written was left.", interrupt.EXIT_CODE)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        return fail(
            "There was not enough memory: close other programs, use a smaller volume, or give the card windows.", 1
        )
    return 0


def fail(text: str, code: int) -> int:
    """One line on standard error; names in it may hold what would move the terminal's cursor."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    print(text, file=sys.stderr, flush=True)
    return code
