"""What belongs to a case beside its inputs: its anatomy, its mask. One file for all, a folder with one for each, or the end of its
name beside each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, legible
from ..io.suffixes import suffix_of
from .case import Case


def with_companions(case: Case, anatomy: str | None, mask: str | None) -> Case:
    """A case with its own anatomy and mask, where these are not one file for all; without one, that is its fault.

    :raises InputError: for what is neither a path nor the end of a name.
    """
    own = {"anatomy": case.anatomy, "mask": case.mask}
    fault = case.fault
    for kind, given in (("anatomy", anatomy), ("mask", mask)):
        if given is not None and own[kind] is None and not is_one_for_all(given):
            own[kind], why = _found(case, given, kind)
            fault = fault or why
    return replace(case, anatomy=own["anatomy"], mask=own["mask"], fault=fault)


def apart(cases: Sequence[Case], given: Sequence[str]) -> tuple[list[Case], list[Case]]:
    """The cases themselves, and what was found among them that belongs to a case: its name ends so, or it lies in the folder given.

    :param given: of anatomy and mask: a file, a folder, or how names end.
    """
    found: tuple[list[Case], list[Case]] = [], []
    for case in cases:
        single = case.path if len(case.inputs) == 1 else None
        found[single is not None and any(_belongs(single, one) for one in given)].append(case)
    return found


def _belongs(path: Path, given: str) -> bool:
    place = Path(given)
    if place.exists():
        return path.resolve() == place.resolve() or (place.is_dir() and path.resolve().is_relative_to(place.resolve()))
    return is_end(given) and any(path.name.endswith(given + extension) for extension in ("", *ANY))


def is_one_for_all(given: str) -> bool:
    """Whether this is one file for every case.

    :raises InputError: for what is neither a path nor the end of a name.
    """
    path = Path(given)
    if path.is_dir() or (not path.exists() and is_end(given)):
        return False
    if not path.exists():
        raise InputError(
            f"{legible(given)}: there is no such file or folder; check the spelling, or give how the names end, as _seg.nii.gz"
        )
    return True


def is_end(given: str) -> bool:
    """Whether this is how names end, and no path."""
    return given[:1] in ("_", ".", "-") and "/" not in given


def _found(case: Case, given: str, kind: str) -> tuple[Path | None, str]:
    """The file of a case, or why there is none."""
    if is_end(given) and not Path(given).exists():
        return _beside(case, given, kind)
    stem = _stem(case.name)
    places = [Path(given, case.name).parent, Path(given)]
    for place in dict.fromkeys(places):
        names = sorted(place.iterdir()) if place.is_dir() else []
        if alike := [file for file in names if _stem(file.name) == stem and not file.name.startswith(".")]:
            return _one(alike, kind)
    return None, f"there is no {kind} of its name in {legible(Path(given).name)}; add it, or take the case out"


def _beside(case: Case, end: str, kind: str) -> tuple[Path | None, str]:
    """Of the longest beginning that the input's name and one beside it have in common: ``a_t1.nii.gz`` and ``a_seg.nii.gz``."""
    path = case.path
    if path is None:
        return None, ""
    stem = _stem(path.name)
    while stem:
        for name in (stem + end, *(f"{stem}{end}{extension}" for extension in ANY)):
            if (path.parent / name).is_file():
                return path.parent / name, ""
        stem = stem.rpartition("_")[0]
    return None, f"there is no {kind} beside it whose name ends in {end}; add it, or take the case out"


ANY = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".png")
"""What may stand after an end that names no format."""


def _one(alike: list[Path], kind: str) -> tuple[Path | None, str]:
    if len(alike) == 1:
        return alike[0], ""
    return None, f"{' and '.join(legible(file.name) for file in alike)} could both be its {kind}; keep one of them"


def _stem(name: str) -> str:
    """Of a file's name, without its folder and what says the format."""
    file = name.rpartition("/")[2]
    return file[: len(file) - len(suffix_of(Path(file)))].removesuffix(".seg")
