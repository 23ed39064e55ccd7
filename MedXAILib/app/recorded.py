"""What a run's folder has on record, for whoever goes on with it: the cases with maps, and the inputs that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileError, legible
from ..geometry.volume import Volume
from ..outputs.earlier import read_volume
from ..outputs.run_folder import read_run
from .keys import hash_of
from .parts import Part
from .tables import parts_of, records

NAMES = {"input": "image", "mask": "mask"}
DEEPEST = 6
"""How many of the last parts of a recorded path are looked for in other folders."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A case of the newest job that has maps.

    :ivar folder: in which its files lie. :ivar record: its case.json. :ivar prediction: what the model said of it.
    :ivar parts: with the maps that were written as images.
    """

    name: str
    folder: Path
    record: Mapping[str, Any]
    prediction: Part | None
    parts: Sequence[Part]

    @property
    def maps(self) -> list[dict[str, Any]]:
        """Those of its parts that were written as images."""
        return [m for part in self.parts for m in part["maps"] if m["file"]]


def with_maps(root: Path) -> tuple[dict[str, Any], list[Recorded]]:
    """run.json, and the cases of the newest job that have maps, sorted by name.

    :raises FileError: for a folder that holds no run of maps.
    """
    run = read_run(root)
    if "questions" not in run:
        raise FileError(
            legible(str(root)), "this is no folder of a run, or one of an earlier MedXAI", "give another one"
        )
    found = []
    for name, record in records(root, run):
        prediction, *parts = parts_of(run, record) or [None]
        known = [part for part in parts if part is not None and any(m["file"] for m in part["maps"])]
        folder = root / run["cases"][name]
        found.append(Recorded(name=name, folder=folder, record=record, prediction=prediction, parts=known))
    if not (found := [case for case in found if case.maps]):
        raise FileError(legible(str(root)), "this run wrote no maps", "give that of 'medxai explain'")
    return run, found


def read_input(root: Path, case: Recorded, channel: str, folders: Sequence[Path] = ()) -> Volume:
    """An input of a case.

    :param folders: where it is looked for, under the end of the path that is on record; by default at this path itself.
    :raises FileError: where it is not the image that was explained, or is not there.
    """
    told = case.record["inputs"][channel]
    return _found(root, case.name, told, folders, "input", frame=told["frame"], series=told["series"])[1]


def read_mask(
    root: Path, run: Mapping[str, Any], case: Recorded, folders: Sequence[Path] = ()
) -> tuple[Path, Volume] | None:
    """Path and voxels of a case's own mask, or of that of all; None where there is none. Raises as :func:`read_input`."""
    told = case.record.get("beside", {}).get("mask") or run.get("mask")
    return _found(root, case.name, told, folders, "mask") if told else None


def _found(
    root: Path, name: str, told: Mapping[str, Any], folders: Sequence[Path], kind: str, **how: Any
) -> tuple[Path, Volume]:
    """The first file that has the hash on record."""
    there = [place for place in _places(root / told["path"], folders) if place.exists()]
    for path in there:
        volume = read_volume(path, **how)
        if hash_of(volume) == told["sha256"]:
            return path, volume
    if there:
        raise FileError(
            there[0], f"this is not the {NAMES[kind]} that was explained: its voxels or its place differ", "give the folder of the right one with --inputs"
        )  # fmt: skip
    where = (
        f"in {', '.join(legible(str(folder)) for folder in folders)}"
        if folders
        else f"at {legible(told['path'])}, from the run's folder"
    )
    raise FileError(name, f"its {kind} does not lie {where}", "give its folder with --inputs")


def _places(recorded: Path, folders: Sequence[Path]) -> list[Path]:
    """Where a file may lie: under the last parts of its path, the most of them first."""
    if not folders:
        return [recorded]
    parts = [part for part in recorded.parts if part not in ("..", recorded.anchor)]
    return [Path(folder, *parts[n:]) for folder in folders for n in range(max(0, len(parts) - DEEPEST), len(parts))]
