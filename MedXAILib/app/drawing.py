"""``medxai draw``: the pictures of a run, made again from what lies in its folder and from its inputs, without the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.registry import method_title
from ..caveats import texts
from ..errors import FileError, InputError, OptionError, legible
from ..geometry.resample import resample
from ..geometry.volume import Volume
from ..mrml.overlay import display_limit
from ..outputs.earlier import read_volume
from ..outputs.layout import RECORD
from ..outputs.pictures.figure import ALONG, FORMATS, Look, Row, write_figure
from ..outputs.run_folder import read_run, write_run
from ..outputs.staging import refuse_foreign
from ..progress import Progress, portion, silent
from .keys import hash_of
from .records import said_of
from .tables import parts_of, records

FIGURES = "figures"
"""The folder of figures in that of the run."""
SCALES = ("own", "common")
DENSITY = "% of mass per mL"


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How the figures of a run are made.

    :ivar scale: ``own`` shows each map's raw values on its own scale; ``common`` shows which fraction of its own mass lies in a
        millilitre, on one scale over all cases: raw values of two cases have no common one.
    :ivar format: of :data:`~MedXAILib.outputs.pictures.figure.FORMATS`.
    :ivar inputs: where inputs lie that are no longer where the run found them.
    """

    look: Look = Look()
    scale: str = "own"
    format: str = "png"
    inputs: Path | None = None

    def check(self) -> None:
        """:raises OptionError: for what cannot be meant."""
        name, _, count = self.look.slices.partition(":")
        if self.look.slices != "peak" and (name not in ALONG or not count.isdigit() or int(count) < 1):
            raise OptionError(
                "--slices", self.look.slices, f"give peak, or one of {', '.join(ALONG)} with a number, as axial:5"
            )
        for option, value, known in (
            ("--scale", self.scale, SCALES), ("--format", self.format, FORMATS), ("--theme", self.look.theme, ("light", "dark")),
        ):  # fmt: skip
            if value not in known:
                raise OptionError(option, value, f"choose one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What became of the figures of a run. ``failures``: case and sentence."""

    files: Sequence[str]
    failures: Sequence[tuple[str, str]]


def draw(
    root: Path, how: Drawing, *, progress: Progress = silent, say: Callable[[str], None] = lambda text: None
) -> Drawn:
    """A figure for each case of the newest job in a run's folder that has maps.

    :raises InputError: for a folder that holds no run of maps; what is wrong with one case is in the answer.
    """
    how.check()
    run = read_run(root)
    if "questions" not in run:
        raise FileError(
            legible(str(root)), "this is no folder of a run, or one of an earlier MedXAI", "give another one"
        )
    cases = [(name, record, _maps(run, record)) for name, record in records(root, run)]
    cases = [one for one in cases if one[2]]
    if not cases:
        raise FileError(legible(str(root)), "this run wrote no maps", "give that of 'medxai explain'")
    names = {name: f"{FIGURES}/{run['cases'][name]}.{how.format}" for name, _, _ in cases}
    refuse_foreign(root, list(run.get("files", ())), sorted(names.values()))
    limits = _limits(root, run, cases) if how.scale == "common" else {}
    files, failures = [], []
    for number, (name, record, maps) in enumerate(cases):
        portion(progress, number, len(cases))(0, 1, f"Drawing {name}")
        try:
            with _named(name):
                _figure(root, run, record, maps, root / names[name], how, limits)
            files.append(names[name])
        except InputError as error:
            failures.append((name, str(error)))
            say(str(error))
    _list(root, files)
    return Drawn(files=files, failures=failures)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise error if name in str(error) else InputError(f"{name}: {error}") from error


def _maps(run: Mapping[str, Any], record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The maps of a case that were written as images."""
    return [m for part in parts_of(run, record)[1:] if part for m in part["maps"] if m["file"]]


def _key(m: Mapping[str, Any]) -> tuple[str, str, str]:
    return m["target"], m["method"], m["layer"]


def _limits(
    root: Path, run: Mapping[str, Any], cases: Sequence[tuple[str, Any, Any]]
) -> dict[tuple[str, str, str], float]:
    """The value of the last colour over all cases, for each class, method and layer."""
    found: dict[tuple[str, str, str], float] = {}
    for name, _, maps in cases:
        for m in maps:
            limit = display_limit(density(read_volume(root / run["cases"][name] / m["file"])).array)
            found[_key(m)] = max(found.get(_key(m), 0.0), limit)
    return found


def density(heat: Volume) -> Volume:
    """A map in per cent of its own mass (of absolute values) per millilitre; zero where it has none."""
    mass, ml = (
        float(np.nansum(np.abs(heat.array), dtype=np.float64)),
        abs(float(np.linalg.det(heat.affine[:3, :3]))) / 1000,
    )
    return heat.with_array((heat.array * (100 / (mass * ml) if mass else 0.0)).astype(np.float32))


def _figure(
    root: Path,
    run: Mapping[str, Any],
    record: Mapping[str, Any],
    maps: Sequence[Mapping[str, Any]],
    path: Path,
    how: Drawing,
    limits: Mapping[tuple[str, str, str], float],
) -> None:
    volume = _input(root, record, how.inputs)
    prediction = parts_of(run, record)[0]
    caveats = texts(said_of(prediction["said"], None).caveats) if prediction else []
    rows = []
    for m in maps:
        heat = read_volume(root / run["cases"][record["case"]] / m["file"])
        if heat.shape != volume.shape or not np.allclose(heat.affine, volume.affine, atol=1e-3):
            heat = resample(heat, volume.grid)
        title = " · ".join(part for part in (m["target"], m["says"], method_title(m["method"]), m["layer"]) if part)
        row = Row.of(title, heat, m["signed"], [caveat["text"] for caveat in m["caveats"]])
        if how.scale == "common":
            row = replace(row, heat=density(heat), limit=limits[_key(m)] or 1.0, unit=DENSITY)
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(volume, rows, path, f"{run['model']['name']} · {record['case']}", caveats, how.look)


def _input(root: Path, record: Mapping[str, Any], folder: Path | None) -> Volume:
    """A case's first input, which must be the one that was explained.

    :raises FileError: where it is another one, or is not there.
    """
    told = next(iter(record["inputs"].values()))
    recorded = root / told["path"]
    places = [recorded] if folder is None else [folder / record["case"], folder / recorded.name]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        where = f"in {legible(str(folder))}" if folder else f"at {legible(told['path'])}, from the run's folder"
        raise FileError(record["case"], f"this input does not lie {where}", "give its folder with --inputs")
    volume = read_volume(path, frame=told["frame"], series=told["series"])
    if hash_of(volume) != told["sha256"]:
        raise FileError(
            path,
            "this is not the image that was explained: its voxels or its place differ",
            "give the folder of the right one with --inputs",
        )
    return volume


def _list(root: Path, files: Sequence[str]) -> None:
    """Put figures among the files of the run, so that nobody takes them for inputs."""
    run = read_run(root)
    kept = {key: value for key, value in run.items() if key not in ("notice", "schema_version", "files")}
    write_run(root, kept, sorted({*run["files"], *files} - {RECORD}))
