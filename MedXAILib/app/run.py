"""A Job carried out. The command line, the demo and every other door go through here; none builds the pipeline again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, as_values, first_line, is_utf8, legible, of_path
from ..findings.regions import foreground, largest_pieces
from ..geometry.affine import spacing
from ..geometry.labels import Labels
from ..geometry.resample import resample
from ..geometry.volume import Volume, size_words
from ..io.cohort import Case, find_cases
from ..io.read import read_volume
from ..io.segmentation import read_labels
from ..models.layers import memory_estimate
from ..mrml import nodes, scene
from ..mrml.colors import distinct
from ..outputs import folder as files
from ..outputs.pictures import snapshot
from ..outputs.staging import listed, staged, writable
from ..preprocessing.prepare import Prepared, prepare
from ..preprocessing.suitability import refuse_constant
from ..progress import Progress, portion, shares, silent
from ..provenance import available_memory, peak_memory, versions
from ..scoring.targets import ClassScore, ComponentScore, MaskScore, RegionScore, Target, VoxelScore
from .job import Job, Notes

if TYPE_CHECKING:
    from ..attribution.recorder import TapeCache
    from ..explanation import Attribution
    from ..models.layers import Layer
    from ..models.loading import Model
    from ..prediction import Prediction

FORMATS = ("nrrd", "nii.gz", "mha")
SCORES = ("logits", "probabilities")
LONG_PASS = 10.0
"""Seconds after which a pass is not repeated only to time it."""
FINE, MOST_OUTLINED = "gradient", 5
"""The family of methods whose maps are not outlined in pictures, and the most hot regions that are outlined of others."""


@dataclass(eq=False)
class Opened:
    """One input as one model sees it, and what was computed of it so far: what several jobs may share."""

    prepared: Prepared
    found: list[Layer]
    tapes: TapeCache
    prediction: Prediction | None = None
    pass_seconds: float = 0.0
    """How long the network took for the whole of it, or for one slice of a slice-wise model."""


@dataclass(frozen=True, eq=False)
class Result:
    """What one job gave of one case."""

    opened: Opened
    attributions: list[Attribution]
    seconds: float

    @property
    def prediction(self) -> Prediction:
        return self.opened.prediction

    @property
    def prepared(self) -> Prepared:
        return self.opened.prepared


def targets(job: Job) -> list[Target]:
    """The targets that a job means.

    :raises InputError: for options that exclude each other.
    """
    asked = [name for name in ("voxel", "component", "mask", "threshold") if getattr(job, name) is not None]
    if len(asked) > 1:
        raise InputError(
            f"{' and '.join(f'--{name}' for name in asked)} exclude each other: explain one voxel, one piece, one mask, or "
            "the region above a probability."
        )
    if job.score not in SCORES:
        raise InputError(f"--score {job.score}: choose one of {', '.join(SCORES)}.")
    probabilities = job.score == "probabilities"
    if probabilities and job.threshold is None:
        raise InputError("--score probabilities goes with --threshold: give one, or leave it out.")
    if job.threshold is not None and not job.classes:
        raise InputError("--threshold needs the class whose region is meant: add --class NAME.")
    mask = read_mask(job.mask) if job.mask is not None else None
    make = {
        "voxel": lambda label: VoxelScore(tuple(job.voxel), label),
        "component": lambda label: ComponentScore(tuple(job.component), label),
        "mask": lambda label: MaskScore(mask, label),
        "threshold": lambda label: RegionScore(label, job.threshold, probabilities),
    }
    return [make[asked[0]](label) if asked else ClassScore(label) for label in job.classes or (None,)]


def read_mask(path: str) -> Volume:
    """:raises InputError: for an image that is no mask."""
    volume = read_volume(path)
    values = np.unique(volume.array)
    if volume.channels > 1 or len(values) > 2 or not (values != 0).any():
        raise InputError(
            f"{path}: this is no mask, which has 0 outside and one other value inside ({len(values)} different values here); give one "
            "structure, in Slicer an exported segment."
        )
    return volume


def carry_out(
    job: Job,
    model: Model,
    volumes: dict[str, Volume],
    progress: Progress = silent,
    say: Notes | None = None,
    *,
    opened: Opened | None = None,
    keep: bool = False,
) -> Result:
    """Predict, and explain where the job says so, one case that has been read.

    :param volumes: channel name -> volume; a single one may have the name "".
    :param say: takes what was chosen and what is odd, in sentences.
    :param opened: of an earlier job with the same model and volumes; what it holds is not computed again.
    :param keep: also record, while predicting, the layers that an explanation would use.
    """
    from ..explanation import explain
    from ..prediction import predict

    began, say = time.perf_counter(), say or Notes()
    new = opened is None
    opened = opened or open_inputs(model, volumes)
    if job.task == "explain":
        refuse_constant(opened.prepared)
    layers = record_layers(job, model, opened, keep, say)
    if new:
        for remark in (*model.remarks, *opened.prepared.reference.source.remarks, *opened.prepared.remarks):
            say(remark)
        if model.weights_sha256 and model.card.weights.sha256 is None:
            say(
                f"{model.card.name}: the card names no sha256 of its weights, so nothing tells whether these are the ones it describes."
            )
        say_memory(memory_estimate(opened.found, layers), say)
    if opened.prediction is None:
        report = progress
        if job.task == "explain":
            report, progress = shares(progress, [1.0, explanation_cost(job, model, opened)])
        opened.prediction = predict(model, opened.prepared, tapes=opened.tapes, progress=report)
        opened.pass_seconds = pass_seconds(model, opened)
        for remark in opened.prediction.remarks:
            say(remark)
    for caveat in opened.prediction.caveats:
        say(caveat)
    attributions = []
    if job.task == "explain":
        say_cost(job, model, opened, say)
        attributions = explain(
            model,
            opened.prepared,
            targets(job),
            job.methods,
            job.layers,
            slices=job.slices,
            samples=job.samples,
            superpixels=job.superpixels,
            baseline=job.baseline,
            references=[read_volume(path) for path in job.references],
            budget=job.budget,
            seed=job.seed,
            prediction=opened.prediction,
            tapes=opened.tapes,
            probe=not job.no_probe,
            progress=progress,
            say=say,
        )
    return Result(opened, attributions, time.perf_counter() - began)


def open_inputs(model: Model, volumes: dict[str, Volume]) -> Opened:
    """Preprocess the volumes and look at the network's layers; nothing is computed yet."""
    from ..attribution.recorder import TapeCache
    from ..prediction import lay_out

    prepared = prepare(model.card, volumes.get("", volumes))
    # without layers a tape is a bare forward pass; a limit of 0 keeps only the last tile's output
    return Opened(prepared, lay_out(model, prepared)[1], TapeCache(model.network, (), limit=0))


def pass_seconds(model: Model, opened: Opened) -> float:
    """How long one evaluation takes: of the whole, or of one slice, as methods ask for many of them at a time. The first pass
    is mostly PyTorch's warming up, so that another one is timed where it does not take long."""
    from ..attribution.recorder import record
    from ..explanation.queries import BATCH
    from ..prediction import feed

    tiling = opened.prediction.tiling
    pieces = opened.prepared.shape[0] if tiling.mode == "slices" else 1
    rough = opened.tapes.seconds / pieces
    if rough > LONG_PASS:
        return rough
    many = max(1, min(BATCH, tiling.at_once, int(LONG_PASS / 4 / max(rough, 1e-3))))
    _, x = next(iter(tiling.pieces(opened.prepared.tensor[None])))
    x = x[:1].expand(many, *x.shape[1:])
    began = time.perf_counter()
    record(model.network, feed(model, x), ())
    tiles = 1 if tiling.mode == "slices" else len(tiling.tiles)
    return (time.perf_counter() - began) / many * tiles


def record_layers(job: Job, model: Model, opened: Opened, keep: bool, say: Notes) -> list[str]:
    """The layers that the job explains, and tapes for them where there are none."""
    from ..attribution.methods import ALL, LayerMethod, method
    from ..attribution.recorder import TapeCache
    from ..explanation import choose_layers, recorded, tape_limit

    if job.task == "explain":
        layers = recorded(wanted_methods(job, model, opened, say))
        named = not set(job.methods) <= {ALL, "layerwise"} and any(
            isinstance(method(name), LayerMethod) for name in job.methods if name != ALL
        )
        if layers and (named or ALL in job.methods):
            chosen, why = choose_layers(model, opened.found, job.layers)
            say(f"Explaining layer {', '.join(layer.name for layer in chosen)} ({why}).")
    elif keep and opened.found and opened.prediction is None:
        layers = [layer.name for layer in choose_layers(model, opened.found, job.layers)[0]]
    else:
        layers = []
    if not set(layers) <= set(opened.tapes.layers):
        opened.tapes = TapeCache(model.network, layers, limit=tape_limit(model.card.spatial.mode))
    return layers


def wanted_methods(job: Job, model: Model, opened: Opened, say: Callable[[str], None] = lambda text: None) -> list:
    """(method, layers) of a job; what was left out is said."""
    from ..explanation import choose_methods
    from ..explanation.case import case_facts

    facts = case_facts(opened.prepared, model.card.spatial.mode, 0, job.samples, job.superpixels)
    return choose_methods(model, opened.found, job.methods, job.layers, facts, job.budget, say)


def explanation_cost(job: Job, model: Model, opened: Opened) -> float:
    """About what a job's maps cost, in passes over the whole input."""
    from ..explanation import costs
    from ..explanation.case import case_facts

    facts = case_facts(opened.prepared, model.card.spatial.mode, 0, job.samples, job.superpixels)
    return sum(costs(wanted_methods(job, model, opened), facts, job.slices, opened.prepared.shape[0]))


def say_memory(need: int, say: Notes) -> None:
    """The estimate where it is worth a word, and a warning where it exceeds what is free."""
    free = available_memory()
    if need < free / 20:
        return
    say(f"Memory for one pass: about {need / 2**30:.2g} GiB beside the program; {free / 2**30:.3g} GiB are free.")
    if need > free:
        say("This may not fit: give the card windows (spatial.mode), or choose a deeper layer.")


def say_cost(job: Job, model: Model, opened: Opened, say: Notes) -> None:
    """What each of several methods costs, and any that takes over a minute, at the pace of the first pass."""
    from ..attribution.methods import case_evaluations
    from ..explanation.case import case_facts

    facts = case_facts(opened.prepared, model.card.spatial.mode, 0, job.samples, job.superpixels)
    wanted = wanted_methods(job, model, opened)
    each = " a slice" if model.card.spatial.mode == "slices" else ""
    for m, layers in wanted:
        count = case_evaluations(m, facts, max((layer.shape[0] for layer in layers), default=0))
        seconds = count * opened.pass_seconds
        if len(wanted) > 1 or seconds > 60:
            many = "1 evaluation" if count == 1 else f"about {count} evaluations"
            sets = "; --samples sets how many" if seconds > 60 and m.kind == "query" else ""
            say(f"{m.title}: {many}{each}, {duration(seconds)}{sets}.")


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} minutes"


def evaluations(job: Job, model: Model, opened: Opened) -> dict[str, int]:
    """About how often each method runs the network for one map (of one slice, for slice-wise models)."""
    from ..attribution.methods import METHODS, case_evaluations
    from ..explanation import choose_layers
    from ..explanation.case import case_facts

    facts = case_facts(opened.prepared, model.card.spatial.mode, 0, job.samples, job.superpixels)
    channels = choose_layers(model, opened.found, ())[0][0].shape[0] if opened.found else 0
    return {name: case_evaluations(m, facts, channels) for name, m in METHODS.items()}


def run(
    job: Job,
    output: str | Path,
    *,
    overwrite: bool = False,
    scene_path: str | Path | None = None,
    snapshot_path: str | Path | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
    then: Callable[[Result], None] = lambda result: None,
) -> dict:
    """Carry out a job over a file or a folder and write its output folder.

    :param scene_path, snapshot_path: also write a Slicer scene (.mrb) and a picture (.png); for one case only.
    :param then: gets what was found in each case.
    :returns: the summary, as in run.json; in ``shown`` the scene and picture, and in ``failed`` why they are missing: the
        maps are there then.
    :raises InputError: for anything given that cannot be used; nothing is left behind then.
    """
    began, started = time.perf_counter(), datetime.now(UTC)
    check(job)
    scene_path, snapshot_path = check_pictures(scene_path, snapshot_path)
    notes, summary = Notes(then=say), []
    cases = find(job, notes)
    if len(cases) > 1 and (scene_path or snapshot_path):
        raise InputError(f"--scene and --snapshot show one case and the folder holds {len(cases)}: give one file.")
    refuse_overwriting([*job.paths(), *(case.path for case in cases)], scene_path, snapshot_path, output)
    anatomy = read_labels(job.anatomy) if job.anatomy else None
    what = f"{job.task} {cases[0].name} with {legible(Path(job.model).name)}"
    with staged(output, overwrite, what, files.RESERVED) as folder:
        model = model_of(job)
        if job.task == "explain":
            for label in job.classes:
                model.card.index(label)
        out = files.Folder(folder, job.format)
        stems = files.stems([case.name for case in cases])
        left_out: list[dict] = []
        for number, case in enumerate(cases):
            spoken = Notes()
            report = portion(progress, number, len(cases))
            try:
                result, regions = _one(job, model, case, stems[case.name], out, anatomy, report, spoken)
            except InputError as error:
                if len(cases) == 1:
                    raise
                left_out.append({"input": case.name, "reason": str(error).replace(str(case.path), case.name)})
                say(f"Left out: {error}")
                continue
            finally:
                for line in spoken.lines:
                    notes(line)
            names = [out.name_of(stems[case.name], a) for a in result.attributions]
            summary.append(_case_summary(case, result, names))
            then(result)
        if not summary:
            raise InputError(
                f"{Path(next(iter(job.inputs.values()))).name}: none of its {len(cases)} files can be used; the first: {left_out[0]['reason']}"
            )
        facts = {
            "job": job.described(),
            "versions": versions(),
            "model": {"name": model.card.name, "weights_sha256": model.weights_sha256, "device": str(model.device)},
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - began, 3),
            "peak_memory_mib": round(peak_memory() / 2**20),
            "cases": summary,
            "left_out": left_out,
            "remarks": notes.lines,
        }
        whole = out.finish(facts)
    shown, failed = _show(model, case, result, regions, scene_path, snapshot_path, report)
    return whole | {"shown": shown, "failed": failed}


def model_of(job: Job) -> Model:
    """:raises InputError: as :func:`MedXAILib.models.loading.load_model`."""
    from ..models.loading import load_model

    return load_model(
        job.model,
        weights=job.weights and Path(job.weights),
        weights_key=job.weights_key,
        trust=job.trust,
        device=job.device,
    )


def check(job: Job) -> None:
    """:raises InputError: for options that cannot be right whatever the input."""
    from ..attribution.gradient import BASELINES
    from ..attribution.methods import methods
    from ..explanation.case import check_slices

    methods(job.methods)
    targets(job)
    if job.slices:
        check_slices(job.slices)
    if job.baseline not in BASELINES:
        raise InputError(f"--baseline {job.baseline}: choose one of {', '.join(BASELINES)}.")
    if job.format not in FORMATS:
        raise InputError(f"--format {job.format}: choose one of {', '.join(FORMATS)}.")
    if not 0 < job.share <= 1:
        raise InputError(f"--share {job.share:g}: give a share of the mass above 0 and up to 1.")
    for option, value, least in (
        ("--samples", job.samples, 2),
        ("--superpixels", job.superpixels, 2),
        ("--budget", job.budget, 1),
    ):
        if value is not None and value < least:
            raise InputError(f"{option} {value}: give at least {least}.")
    if not 0 <= job.seed < 2**32:
        raise InputError(f"--seed {job.seed}: give a whole number from 0 to {2**32 - 1}.")


def check_pictures(*paths: str | Path | None) -> list[Path | None]:
    """The paths of scene and picture, made absolute, before anything is computed.

    :raises InputError: for a wrong suffix or a place that cannot be written to, or where slicer-core is missing.
    """
    whole = [path and Path(os.path.abspath(path)) for path in paths]
    for option, path, suffix in zip(("--scene", "--snapshot"), whole, (".mrb", ".png"), strict=True):
        if path and path.suffix.lower() != suffix:
            raise InputError(f"{option} {path}: give a path that ends in {suffix}.")
        place = path and next(p for p in path.parents if p.exists())
        if option == "--scene" and path and not is_utf8(path):
            raise InputError(f"{option} {legible(str(path))}: Slicer takes no path that is no UTF-8; give another one.")
        if path and (path.is_dir() or not writable(place)):
            raise InputError(f"{option} {path}: nothing can be written there; give a file in another folder.")
    if any(whole):
        scene.import_slicer()
    return whole


def refuse_overwriting(
    read: Iterable[str | Path], scene: Path | None, picture: Path | None, output: Path | None = None
) -> None:
    """:raises InputError: for a result that would take the place of something that the run reads."""
    there = {Path(os.path.realpath(path)) for path in read if os.path.isfile(path)}
    folder = Path(os.path.realpath(output)) if output else None
    for path in (scene, picture):
        if path and folder and folder.is_relative_to(os.path.realpath(path)):
            raise InputError(f"{path}: this is where the output folder goes; give another path.")
    for path in (scene, picture):
        if path and Path(os.path.realpath(path)) in there:
            raise InputError(f"{path}: this is what the run reads, and would be overwritten; give another path.")
    old = {Path(os.path.realpath(Path(output, name))) for name in listed(Path(output))} if output else set()
    if both := there & old:
        raise InputError(
            f"{min(both)}: this was written by the run in {output}, which would be replaced; give another folder with -o."
        )


def find(job: Job, say: Callable[[str], None] = lambda text: None) -> list[Case]:
    """The cases of a job: one where inputs are named, else every case of the file or folder."""
    first = Path(next(iter(job.inputs.values())))
    return [Case(first, legible(first.name))] if len(job.inputs) > 1 else find_cases(first, say)


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Errors of one case name it."""
    try:
        yield
    except OSError as error:
        raise of_path(error) from None
    except InputError as error:
        raise error if name in str(error) else InputError(f"{name}: {error}") from error


def refuse_single(job: Job, model: Model) -> None:
    """:raises InputError: where one file is given to a model that takes several."""
    names = [channel.name for channel in model.card.input.channels]
    if len(names) > 1 and len(job.inputs) == 1 and "" in job.inputs:
        raise InputError(
            f"{model.card.name} takes {len(names)} inputs, and one was given: name each, {' '.join(f'--input {n}=PATH' for n in names)}; a "
            "4D file that holds them all must be split into its volumes first (fslsplit FILE, or Slicer)."
        )


def _one(job, model, case: Case, stem: str, out: files.Folder, anatomy: Labels | None, progress, say):
    """Read, carry out and write one case."""
    with _about(case.name):
        refuse_single(job, model)
        paths = job.inputs if len(job.inputs) > 1 else {next(iter(job.inputs)): case.path}
        volumes = {name: read_volume(path, frame=job.frame, series=job.series) for name, path in paths.items()}
        result = carry_out(job, model, volumes, progress, say)
    reference = result.prepared.reference
    seen = seen_by(result.prepared) if anatomy is not None else None
    if anatomy is not None:  # before anything is written: a case that is left out leaves nothing
        refuse_apart(anatomy, seen, reference, job.anatomy)
    facts = {"model": model.card.name, "weights_sha256": model.weights_sha256, "input": case.name, **versions()}
    out.prediction(case.name, stem, result.prediction, facts)
    if job.keep_input:
        array = result.prepared.tensor.numpy()
        out.kept_input(
            stem, result.prepared.volume(array[0] if len(array) == 1 else array.transpose(1, 2, 3, 0)), facts
        )
    regions = []
    for a in result.attributions:
        regions.append(out.attribution(case.name, stem, a, reference, anatomy, seen, job.share, job.cells))
    _montages(model, case, result, stem, out, say)
    return result, regions


def refuse_apart(anatomy: Labels, seen: np.ndarray, reference: Volume, path: str) -> None:
    """:raises InputError: for an anatomy that lies nowhere in what the network saw."""
    there = resample(anatomy.volume, reference.grid, order=0).array > 0
    if not (there & seen).any():
        raise InputError(
            f"{path}: none of its structures lies in what the network sees of {reference.source.name}: is it of this patient? Leave out "
            "--anatomy, or give that of this volume."
        )


def _montages(model, case: Case, result: Result, stem: str, out: files.Folder, say) -> None:
    """For each target explained at several stages: their maps in order, and the score that each carries."""
    staged = [a for a in result.attributions if "linear_score" in a.provenance]
    for target in dict.fromkeys(a.target for a in staged):
        some = [a for a in staged if a.target == target]
        if len(some) < 2:
            continue
        try:
            scene.import_slicer()
        except InputError as error:
            say(f"No montage of the layers: {error}")
            return
        from ..outputs.pictures.sheet import write_montage

        overlays = [nodes.Overlay(a.layer, a.volume, a.signed, title(a), a.limits) for a in some]
        scores = [a.provenance["linear_score"] for a in some]
        path = out.picture(stem, target, "layerwise")
        heading = f"{model.card.name} · {case.name} · {target} · {some[0].provenance['fact']} · Layer-wise Grad-CAM"
        reference = result.prepared.reference
        prediction = result.prediction
        names = [a.layer for a in some]
        write_montage(reference, overlays, names, scores, path, heading, prediction.labels, prediction.caveats)


def seen_by(prepared: Prepared) -> np.ndarray:
    """Bool (k, j, i) on the reference grid: inside what the network saw, and not air."""
    reference = prepared.reference
    whole = prepared.volume(np.ones(prepared.shape, np.uint8))
    return foreground(reference.array) & (resample(whole, reference.grid, order=0).array > 0)


def _case_summary(case: Case, result: Result, names: list[str]) -> dict:
    """:param names: the file of each map."""
    prediction = result.prediction
    facts: dict = {"input": case.name, "seconds": round(result.seconds, 3)}
    if prediction.card.task == "classification":
        said = prediction.facts.items()
        facts |= {key: {c: round(p, 6) for c, p in v.items()} if isinstance(v, dict) else v for key, v in said}
    else:
        labels = prediction.labels
        size = "volume_ml" if labels.volume.size_unit == "mL" else "voxels"
        facts[size] = {c: round(v, 6) for c, v in labels.sizes().items()}
    facts["caveats"] = as_values(prediction.caveats)
    facts["maps"] = [
        {
            "file": name,
            "class": a.target,
            "method": a.method,
            "layer": a.layer,
            "seconds": a.provenance["seconds"],
            "evaluations": a.provenance["evaluations"],
            "limits": list(a.limits),
        }
        for name, a in zip(names, result.attributions, strict=True)
    ]
    return facts


def _show(
    model, case: Case, result: Result, regions, scene_path, snapshot_path, progress
) -> tuple[list[str], list[str]]:
    """The Slicer scene and the picture of one case: the paths of what was made, and why the rest could not be, which costs no
    map."""
    if not (scene_path or snapshot_path):
        return [], []
    progress(0.99, 1, "Drawing")
    prediction, reference = result.prediction, result.prepared.reference
    classes = largest_pieces(prediction.labels) if prediction.labels else None
    taken = [row.color for row in classes.rows] if classes else []
    shown = [outlined(a, labels, taken) for a, labels in zip(result.attributions, regions, strict=True)]
    overlays = [
        nodes.Overlay(f"{a.target} {a.method} {a.layer}".strip(), a.volume, a.signed, title(a), a.limits, labels)
        for a, labels in zip(result.attributions, shown, strict=True)
    ]
    heading = f"{model.card.name} · {case.name}"

    def save_scene() -> None:
        told = "\n".join([heading, *prediction.caveats])
        scene.save_scene(scene.build_scene(reference, overlays, prediction.labels, heading=told), scene_path)

    def save_picture() -> None:
        caveats = prediction.caveats
        snapshot.snapshot(reference, overlays, snapshot_path, heading=heading, segmentation=classes, caveats=caveats)

    shown, failed = [], []
    for path, save in ((scene_path, save_scene), (snapshot_path, save_picture)):
        try:
            if path:
                save()
                shown.append(str(path))
        except (InputError, OSError, RuntimeError) as error:
            failed.append(f"{path.name} was not written: {first_line(error)}")
    return shown, failed


def outlined(a: Attribution, regions: Labels, taken: Sequence[tuple[float, float, float]]) -> Labels | None:
    """The hot regions that are outlined in pictures: the largest few; none of a map as fine as the voxels, whose fragments
    would hide it.

    :param taken: colours of the classes, which are outlined beside them.
    """
    from ..attribution.methods import method

    if method(a.method).family == FINE:
        return None
    array = regions.volume.array
    few = regions.volume.with_array(np.where(array <= MOST_OUTLINED, array, 0))  # values go by falling mass
    rows = regions.rows[:MOST_OUTLINED]
    colors = distinct(len(rows), taken)
    return Labels(few, tuple(replace(row, color=color) for row, color in zip(rows, colors, strict=True)))


def check_card(job: Job, picture: Path, progress: Progress = silent) -> list[str]:
    """Run a card on one file and draw the preprocessed input; gives the prediction in lines.

    :raises InputError: for whatever does not fit: card, weights, file.
    """
    refuse_overwriting(job.paths(), None, picture)
    model = model_of(job)
    path = next(iter(job.inputs.values()))
    volume = read_volume(path, frame=job.frame, series=job.series)
    say = Notes()
    result = carry_out(job, model, {"": volume}, progress, say)
    prepared, prediction = result.prepared, result.prediction
    x = prepared.tensor.numpy()
    seen = prepared.volume(x[0] if len(x) == 1 else x.transpose(1, 2, 3, 0))
    heading = f"{model.card.name} · {volume.source.name} as the network sees it"
    snapshot.snapshot(seen, [], picture, heading=heading, caveats=prediction.caveats)
    told = volume.unit and f", spacing {' x '.join(f'{s:.3g}' for s in spacing(prepared.affine))} {volume.unit}"
    lines = [
        f"{model.card.name}: {model.card.task}, {model.card.spatial.mode}, weights sha256 {model.weights_sha256[:12]}",
        f"input: {' x '.join(map(str, x.shape))} (channel, then the network's axes), values {x.min():.3g} to {x.max():.3g}, mean {x.mean():.3g}{told}",
    ]
    if model.card.task == "classification":
        output, where = model.card.output, prediction.facts.get("highest_in_slice", {})
        words = output.text if output.kind == "value" else "{:.4f}".format
        lines += [f"highest in any of {prediction.facts['slices']} slices:"] if where else []
        lines += [
            f"{name}: {words(p)}" + (f" (slice {where[name]})" if where else "")
            for name, p in prediction.probabilities.items()
        ]
    else:
        labels = prediction.labels
        lines += [f"{name}: {size_words(n, labels.volume)}" for name, n in labels.counts().items()]
    return lines + say.lines


def expect(card: Path, folder: Path, progress: Progress = silent) -> dict:
    """The content of a card with ``input.expected`` measured on a folder of examples of what its network knows.

    :raises InputError: for a card or an example that cannot be used, or too few examples.
    """
    from ..models.card import read_card
    from ..preprocessing.suitability import measure

    known, cases = read_card(card), find_cases(folder)

    def examples() -> Iterator[Prepared]:
        for number, case in enumerate(cases):
            progress(number, len(cases), "Measuring the examples")
            with _about(case.name):
                yield prepare(known, read_volume(case.path))

    expected = measure(known, examples()).model_dump(mode="json", exclude_defaults=True)
    content = json.loads(card.read_text(encoding="utf-8"))
    return content | {"input": content.get("input", {}) | {"expected": expected}}


def list_layers(job: Job) -> list[str]:
    """The feature grids of a model, in lines: name, kind, shape, and cells in voxels of the network's input.

    :raises InputError: for whatever does not fit: card, weights, file.
    """
    from ..explanation import choose_layers
    from ..models.layers import grids, inspect, stages
    from ..prediction import lay_out

    model = model_of(job)
    card = model.card
    if job.inputs:
        found = lay_out(model, prepare(card, read_volume(job.inputs[""], frame=job.frame, series=job.series)))[1]
    else:
        size = (
            card.input.size
            or getattr(card.spatial, "size", None)
            or (64,) * (2 if card.spatial.mode == "slices" else 3)
        )
        channels = 3 if card.input.color == "rgb" else len(card.input.channels)
        found = inspect(model.network, (1, channels, *size))
    (chosen, *_), why = choose_layers(model, found, ())
    steps = {layer.name for layer in stages(found)}
    lines = [f"{'layer':44} {'kind':22} {'channels':>8}  {'cells':14} {'stride':12} receptive field"]
    for layer in grids(found):
        mark = "*" if layer.name == chosen.name else "|" if layer.name in steps else " "
        field = "x".join(f"{n:.0f}" for n in layer.cells.field)
        stride = "x".join(f"{n:g}" for n in layer.cells.stride)
        cells = "x".join(map(str, layer.shape[1:]))
        lines.append(f"{mark} {layer.name:42} {layer.kind:22} {layer.shape[0]:8}  {cells:14} {stride:12} {field}")
    return [
        *lines,
        f"* explained by default: {chosen.name}, {why}. | stages of layer-wise Grad-CAM. Cells in voxels of the network's input.",
    ]


def title(a: Attribution) -> str:
    """What is explained and what the model says of it, method and layer of a map, for pictures."""
    from ..attribution.methods import method

    return " · ".join(part for part in (a.target, a.provenance["fact"], method(a.method).title, a.layer) if part)
