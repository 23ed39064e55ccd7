"""Cases of several inputs, as T1, T2 and FLAIR: found by how the names of their files end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import OptionError, legible
from ..io.cohort import Written, contents
from ..io.suffixes import suffix_of
from .case import Case, Found


def cases_by_suffix(folder: Path, suffixes: Mapping[str, str], written: Written) -> Found:
    """The cases of a folder: files whose paths differ only in the ends that were given.

    :param suffixes: channel -> end of the name, with or without that of the format: ``_t1.nii.gz`` or ``_t1``.
    """
    there = contents(folder, written)
    remarks = []
    if there.earlier:
        remarks.append(f"{len(there.earlier)} files that an earlier run wrote into this folder: left out.")
    cases, others = grouped(folder, there.images, suffixes)
    if others:
        ends = ", ".join(suffixes.values())
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        remarks.append(f"{legible(others[0])}{more}: left out, as their names end in none of {ends}.")
    return Found(cases=cases, remarks=remarks)


def grouped(folder: Path, files: Iterable[Path], suffixes: Mapping[str, str]) -> tuple[list[Case], list[str]]:
    """The cases that files make, and the names of files that are in none.

    :raises OptionError: for ends of which one is also another's.
    """
    refuse_alike(suffixes)
    found: dict[str, dict[str, list[Path]]] = {}
    others = []
    for file in files:
        name = file.relative_to(folder).as_posix()
        channel, stem = ending(name, suffix_of(file), suffixes)
        if channel is None:
            others.append(name)
        else:
            found.setdefault(stem, {}).setdefault(channel, []).append(file)
    return [_case(stem, inputs, suffixes) for stem, inputs in sorted(found.items())], others


def ending(name: str, extension: str, suffixes: Mapping[str, str]) -> tuple[str | None, str]:
    """Whose file it is, and its name without the end; None where it ends in none of them."""
    bare = name[: len(name) - len(extension)]
    for channel, end in suffixes.items():
        for whole in (name, bare):
            if whole.endswith(end) and whole != end:
                return channel, whole.removesuffix(end)
    return None, name


def _case(stem: str, inputs: Mapping[str, list[Path]], suffixes: Mapping[str, str]) -> Case:
    missing = [f"{channel} (…{end})" for channel, end in suffixes.items() if channel not in inputs]
    twice = next((files for files in inputs.values() if len(files) > 1), None)
    fault = ""
    if missing:
        fault = f"the file of {' and of '.join(missing)} is missing; add it, or take the case out"
    elif twice:
        fault = f"{' and '.join(legible(file.name) for file in twice)} are the same input; keep one of them"
    there = {channel: inputs[channel][0] for channel in suffixes if channel in inputs}
    return Case(name=legible(stem), inputs=there, fault=fault)


def refuse_alike(suffixes: Mapping[str, str]) -> None:
    """:raises OptionError: where a file could be of two channels."""
    ends = list(suffixes.items())
    for channel, end in ends:
        if other := next((o for name, o in ends if name != channel and o.endswith(end)), None):
            raise OptionError(
                "--suffix", f"{channel}={end}", f"a name that ends in {other} ends in this too; tell them apart"
            )
