"""What can be told of a job before anything is computed: options that exclude each other, places that cannot be written to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..attribution.registry import chosen as chosen_methods
from ..errors import FileError, InputError, is_utf8, legible
from ..geometry.volume import Volume
from ..models.loading import Model, load_model
from ..mrml.host import import_slicer
from ..outputs.earlier import read_volume
from ..outputs.listing import all_listed
from ..outputs.staging import writable
from ..outputs.writer import chosen as chosen_writers
from ..scoring import ClassTarget, ComponentTarget, MaskTarget, RegionTarget, Target, VoxelTarget
from ..session.request import Request, requested
from ..session.slices import check_slices
from .job import EXPLAIN, Job

ONE_OF = ("voxel", "component", "mask", "threshold")
"""Fields that say which part of a segmentation is explained."""


def check(job: Job) -> None:
    """:raises InputError: for options that cannot be right whatever the input."""
    chosen_methods(job.methods)
    part_of(job)
    if job.slices:
        check_slices(job.slices)
    job.check()
    chosen_writers(job.writers)


def part_of(job: Job) -> str | None:
    """Which field says what part of a segmentation is explained; None for the predicted region.

    :raises InputError: for options that exclude each other.
    """
    asked = [name for name in ONE_OF if getattr(job, name) is not None]
    if len(asked) > 1:
        raise InputError(
            f"{' and '.join(f'--{name}' for name in asked)} exclude each other: explain one voxel, one component, one mask, or "
            "the region above a probability."
        )
    if job.score == "probabilities" and job.threshold is None:
        raise InputError("--score probabilities goes with --threshold: give one, or leave it out.")
    if job.threshold is not None and not job.classes:
        raise InputError("--threshold needs the class whose region is meant: add --class NAME.")
    return asked[0] if asked else None


def targets_of(job: Job, mask: Volume | None) -> list[Target]:
    """The targets that a job means.

    :param mask: the job's, read.
    """
    part, probabilities = part_of(job), job.score == "probabilities"

    def target(label: str | None) -> Target:
        if part == "voxel" and job.voxel is not None:
            return VoxelTarget(job.voxel, label)
        if part == "component" and job.component is not None:
            return ComponentTarget(job.component, label)
        if part == "mask" and mask is not None:
            return MaskTarget(mask, label)
        if part == "threshold" and job.threshold is not None and label is not None:
            return RegionTarget(label, job.threshold, probabilities)
        return ClassTarget(label)

    return [target(label) for label in job.classes or (None,)]


def request_of(job: Job) -> Request | None:
    """What a job asks of each case, with what it names read once; None where it explains nothing.

    :raises InputError: for a mask or a reference that cannot be used.
    """
    if job.task != EXPLAIN:
        return None
    mask = read_mask(job.mask) if job.mask is not None else None
    options = dict(job.options)
    if job.references:
        options["references"] = tuple(read_volume(path) for path in job.references)
    return requested(
        targets_of(job, mask), job.methods, job.layers, slices=job.slices, budget=job.budget, seed=job.seed,
        probe=not job.no_probe, **options,
    )  # fmt: skip


def read_mask(path: str) -> Volume:
    """:raises FileError: for an image that is no mask."""
    volume = read_volume(path)
    values = np.unique(volume.array)
    if volume.channels > 1 or len(values) > 2 or not (values != 0).any():
        raise FileError(
            path,
            f"this is no mask, which has 0 outside and one other value inside ({len(values)} different values here)",
            "give one structure, in Slicer an exported segment",
        )
    return volume


def model_of(job: Job) -> Model:
    """:raises InputError: as :func:`MedXAILib.models.loading.load_model`."""
    return load_model(
        job.model, weights=job.weights and Path(job.weights), weights_key=job.weights_key, trust=job.trust, device=job.device
    )  # fmt: skip


def refuse_single(inputs: Mapping[str, Path], model: Model) -> None:
    """:raises InputError: where one file is given to a model that takes several."""
    names = [channel.name for channel in model.card.input.channels]
    if len(names) > 1 and list(inputs) == [""]:
        raise InputError(
            f"{model.card.name} takes {len(names)} inputs, and one was given: name each, {' '.join(f'--input {n}=PATH' for n in names)}, or "
            f"for many cases how their files end, {' '.join(f'--suffix {n}=END' for n in names)}; a 4D file that holds them all must be split "
            "into its volumes first (fslsplit FILE, or Slicer)."
        )


def check_pictures(*paths: str | Path | None) -> list[Path | None]:
    """The paths of scene and picture, made absolute, before anything is computed.

    :raises InputError: for a wrong suffix or a place that cannot be written to, or where slicer-core is missing.
    """
    whole = [Path(os.path.abspath(path)) if path else None for path in paths]
    for option, path, suffix in zip(("--scene", "--snapshot"), whole, (".mrb", ".png"), strict=True):
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise InputError(f"{option} {path}: give a path that ends in {suffix}.")
        place = next(p for p in path.parents if p.exists())
        if option == "--scene" and not is_utf8(path):
            raise InputError(f"{option} {legible(str(path))}: Slicer takes no path that is no UTF-8; give another one.")
        if path.is_dir() or not writable(place):
            raise InputError(f"{option} {path}: nothing can be written there; give a file in another folder.")
    if any(whole):
        import_slicer()
    return whole


def refuse_overwriting(
    read: Iterable[str | Path], pictures: Sequence[Path | None], output: str | Path | None = None
) -> None:
    """:raises InputError: for a result that would take the place of something that the run reads."""
    there = {Path(os.path.realpath(path)) for path in read if os.path.isfile(path)}
    folder = Path(os.path.realpath(output)) if output else None
    for path in pictures:
        if path and folder and folder.is_relative_to(os.path.realpath(path)):
            raise InputError(f"{path}: this is where the output folder goes; give another path.")
    for path in pictures:
        if path and Path(os.path.realpath(path)) in there:
            raise InputError(f"{path}: this is what the run reads, and would be overwritten; give another path.")
    old = {Path(os.path.realpath(Path(output, name))) for name in all_listed(Path(output))} if output else set()
    if both := there & old:
        raise InputError(
            f"{min(both)}: this was written by the run in {output}, which would be replaced; give another folder with -o."
        )
