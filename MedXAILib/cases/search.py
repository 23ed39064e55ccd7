"""From what a user gives to the cases it means. BIDS is recognised first, then a table, a pattern, a DICOM tree of several patients;
else each image of a folder is a case."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError, OptionError, legible
from ..io.cohort import Written, find_cases, nothing
from ..io.paths import existing
from .beside import apart, with_companions
from .bids import bids_cases, is_bids
from .case import Case, Found
from .patients import patients_in
from .suffixed import cases_by_suffix
from .table import TABLES, table_cases


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for.

    :ivar inputs: channel -> path, as given; a single unnamed one has the name "".
    :ivar channels: of the network, in its order.
    :ivar suffixes: channel -> how the names of its files end; empty where every image is a case.
    :ivar anatomy, mask: a file for all cases, a folder with one for each, or how its name ends beside each; None for none.
    :ivar series: which DICOM series of each case.
    :ivar written: what of a folder an earlier run wrote, which is no input.
    """

    inputs: Mapping[str, str]
    channels: Sequence[str]
    suffixes: Mapping[str, str] = field(default_factory=dict)
    anatomy: str | None = None
    mask: str | None = None
    series: str | None = None
    written: Written = nothing


def search(what: Search) -> Found:
    """The cases that are meant, by name.

    :raises InputError: where there is none, or where they cannot be told without guessing.
    """
    found = _searched(what)
    if not found.cases:
        name = legible(next(iter(what.inputs.values())))
        raise InputError(f"{name}: nothing in it is a case. {' '.join(found.remarks)}".strip())
    cases, companions = apart(found.cases, [given for given in (what.anatomy, what.mask) if given is not None])
    if not cases:
        raise InputError(
            f"{legible(companions[0].name)}: all that was found belongs to --anatomy or --mask; give the folder of the inputs too."
        )
    remarks = [*found.remarks, *([f"{len(companions)} files of --anatomy or --mask: no cases."] if companions else [])]
    cases = [with_companions(case, what.anatomy, what.mask) for case in cases]
    return replace(found, cases=sorted(cases, key=lambda case: case.name), remarks=remarks)


def _searched(what: Search) -> Found:
    if len(what.inputs) > 1:
        _refuse_suffixes(what, "several inputs that are named each")
        inputs = {name: Path(path) for name, path in what.inputs.items()}
        return Found(cases=[Case(name=legible(next(iter(inputs.values())).name), inputs=inputs)])
    (channel, text), *_ = what.inputs.items()
    path = Path(text)
    if glob.has_magic(text) and not path.exists():
        _refuse_suffixes(what, "a pattern")
        return _by_pattern(text, channel, what.written)
    path = existing(path)
    if path.is_file():
        _refuse_suffixes(what, "a file")
        if path.suffix.lower() in TABLES:
            return table_cases(path, what.channels)
        return Found(cases=[Case(name=legible(path.name), inputs={channel: path})])
    if is_bids(path):
        return bids_cases(path, what.suffixes, channel)
    if what.suffixes:
        return cases_by_suffix(path, what.suffixes, what.written)
    return _images(path, channel, what)


def _images(path: Path, channel: str, what: Search) -> Found:
    """Every image of a folder, or every patient of a DICOM tree."""
    remarks: list[str] = []
    images = find_cases(path, remarks.append, what.written)
    if len(images) == 1 and images[0].path == path and (patients := patients_in(path, channel, what.series)):
        return replace(patients, remarks=[*remarks, *patients.remarks])
    return Found(cases=[Case(name=one.name, inputs={channel: one.path}) for one in images], remarks=remarks)


def _by_pattern(pattern: str, channel: str, written: Written) -> Found:
    """Every path that a pattern means, ``**`` any folders; named from its first wildcard's folder on. What an earlier run wrote is left
    out."""
    paths = sorted(Path(path) for path in glob.glob(pattern, recursive=True))
    if not paths:
        raise InputError(
            f"{legible(pattern)}: no file has such a name", "check the pattern, and put it in quotation marks"
        )
    parts = Path(pattern).parts
    fixed = Path(*parts[: next(n for n, part in enumerate(parts) if glob.has_magic(part))])
    ours = {above / name for above in {above for path in paths for above in path.parents} for name in written(above)}
    earlier = [path for path in paths if path in ours]
    return Found(
        cases=[
            Case(name=legible(path.relative_to(fixed).as_posix()), inputs={channel: path})
            for path in paths if path not in ours
        ],
        remarks=[f"{len(earlier)} files that an earlier run wrote there: left out."] if earlier else [],
    )  # fmt: skip


def _refuse_suffixes(what: Search, given: str) -> None:
    if what.suffixes:
        raise OptionError("--suffix", None, f"it finds cases in a folder, and {given} was given: leave it out")
