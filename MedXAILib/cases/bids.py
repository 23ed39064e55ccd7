"""Cases of a BIDS dataset (Brain Imaging Data Structure, bids-specification.readthedocs.io): ``sub-*/[ses-*/]*/sub-*_SUFFIX.nii.gz``.

``derivatives/`` and ``sourcedata/`` are never looked into; one of them can be given by itself."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import FileError, legible
from ..io.suffixes import suffix_of
from .case import Case, Found
from .suffixed import grouped

DESCRIPTION, PARTICIPANTS = "dataset_description.json", "participants.tsv"
IMAGES = (".nii", ".nii.gz")


def is_bids(folder: Path) -> bool:
    """Whether a folder is a dataset: it says so, or its images lie in folders of subjects and bear their names."""
    if not any(subjects(folder)):
        return False
    return (folder / DESCRIPTION).is_file() or any(images(folder))


def subjects(folder: Path) -> Iterator[Path]:
    """The folders of subjects."""
    return (place for place in sorted(folder.glob("sub-*")) if place.is_dir())


def images(folder: Path) -> Iterator[Path]:
    """Every image of every subject, sorted."""
    for subject in subjects(folder):
        for place, below, names in os.walk(subject):
            below.sort()
            named = (name for name in sorted(names) if name.startswith(f"{subject.name}_"))
            yield from (Path(place, name) for name in named if suffix_of(Path(name)) in IMAGES)


def kind_of(file: Path) -> str:
    """BIDS's suffix: what stands after the last underscore, as T1w."""
    return file.name[: -len(suffix_of(file))].rpartition("_")[2]


def bids_cases(folder: Path, suffixes: Mapping[str, str], channel: str) -> Found:
    """The cases of a dataset.

    :param suffixes: channel -> BIDS's suffix, as ``T1w``, with entities before it where these are to be told apart, as
        ``desc-preproc_T1w``; may be empty where all images have the same.
    :param channel: of a single input.
    :raises FileError: for a dataset without images, or where a suffix must be chosen.
    """
    files = list(images(folder))
    if not files:
        raise FileError(
            legible(str(folder)), "this BIDS dataset holds no image", "fetch its files, or give another folder"
        )
    wanted = suffixes or {channel: _only_kind(folder, files)}
    wanted = {name: f"_{end.lstrip('_')}" for name, end in wanted.items()}
    cases, others = grouped(folder, files, wanted)
    if len(wanted) == 1:
        cases = [_by_file(case, folder, channel) for case in cases]
    remarks = []
    if others:
        counts = Counter(kind_of(Path(name)) for name in others)
        remarks.append(
            f"Left out, as not asked for: {', '.join(f'{kind} ({n})' for kind, n in sorted(counts.items()))}."
        )
    remarks += _without(folder, cases, " or ".join(end[1:] for end in wanted.values()))
    if beside := [name for name in ("derivatives", "sourcedata") if (folder / name).is_dir()]:
        remarks.append(f"{' and '.join(beside)}: not looked into; give it by itself.")
    return Found(cases=cases, remarks=remarks, dataset=folder)


def _only_kind(folder: Path, files: Sequence[Path]) -> str:
    counts = Counter(kind_of(file) for file in files)
    if len(counts) > 1:
        listed = ", ".join(f"{kind} ({n} files)" for kind, n in sorted(counts.items()))
        raise FileError(
            legible(str(folder)), f"this BIDS dataset holds {listed}", f"choose one, as --suffix {min(counts)}; several inputs as --suffix NAME=SUFFIX"
        )  # fmt: skip
    return next(iter(counts))


def _by_file(case: Case, folder: Path, channel: str) -> Case:
    """A case of one file bears its name."""
    (file,) = case.inputs.values()
    return Case(name=legible(file.relative_to(folder).as_posix()), inputs={channel: file}, fault=case.fault)


def _without(folder: Path, cases: Sequence[Case], wanted: str) -> list[str]:
    """Subjects of the dataset, or of its participants.tsv, that have no case."""
    there = {case.name.partition("/")[0] for case in cases}
    known = {place.name for place in subjects(folder)} | _participants(folder / PARTICIPANTS)
    absent = sorted(known - there)
    if not absent:
        return []
    more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
    return [f"Without {wanted}, and left out: {', '.join(absent[:5])}{more}."]


def _participants(table: Path) -> set[str]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return {
                legible(row["participant_id"])
                for row in csv.DictReader(file, delimiter="\t")
                if row.get("participant_id")
            }
    except (OSError, UnicodeDecodeError):
        return set()
