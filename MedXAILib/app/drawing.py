"""``medxai draw``: the pictures of a run, made again from what lies in its folder and from its inputs, without the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.registry import method_title
from ..caveats import texts
from ..errors import InputError, OptionError
from ..geometry.resample import resample
from ..geometry.volume import MAGNIFICATION, Volume
from ..io.suffixes import suffix_of
from ..mrml.overlay import display_limit
from ..outputs.earlier import read_volume
from ..outputs.layout import RECORD
from ..outputs.pictures.figure import ALONG, FORMATS, Look, Row, write_figure
from ..outputs.record import read_json
from ..outputs.run_folder import read_run, write_run
from ..outputs.staging import refuse_foreign
from ..progress import Progress, portion, silent
from .faults import about
from .recorded import Recorded, read_input, with_maps
from .records import said_of

FIGURES = "figures"
"""The folder of figures in that of the run."""
SCALES = ("own", "common")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How the figures of a run are made.

    :ivar scale: ``own`` shows each map's raw values on its own scale; ``common`` shows which fraction of its own mass lies in a
        mL (a voxel, where a file gives no spacing), on one scale over all cases: raw values of two cases have no common one.
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


def draw(root: Path, how: Drawing, *, progress: Progress = silent) -> Drawn:
    """A figure for each case of the newest job in a run's folder that has maps.

    :raises InputError: for a folder that holds no run of maps; what is wrong with one case is in the answer.
    """
    how.check()
    run, cases = with_maps(root)
    names = {case.name: f"{FIGURES}/{run['cases'][case.name]}.{how.format}" for case in cases}
    refuse_foreign(root, list(run.get("files", ())), sorted(names.values()))
    unit = _unit(cases)
    limits = _limits(cases, unit) if how.scale == "common" else {}
    _list(root, [*names.values()])  # before they are there: one that is stopped in the middle is known as ours
    files, failures = [], []
    for number, case in enumerate(cases):
        portion(progress, number, len(cases))(0, 1, f"Drawing {case.name}")
        try:
            with about(case.name):
                _figure(root, run["model"]["name"], case, root / names[case.name], how, limits, unit)
            files.append(names[case.name])
        except InputError as error:
            failures.append((case.name, str(error)))
    return Drawn(files=files, failures=failures)


def _key(m: Mapping[str, Any]) -> tuple[str, str, str]:
    return m["target"], m["method"], m["layer"]


def _unit(cases: Sequence[Recorded]) -> str:
    """Of what mass is counted in: mL, or voxels where one of the files does not give their size."""
    known = (_not_given(case.folder / m["file"]) for case in cases for m in case.maps)
    return "voxel" if any({"spacing", "thickness", MAGNIFICATION} & one for one in known) else "mL"


def _not_given(path: Path) -> set[str]:
    """What the input's file does not give of its geometry, as it stands beside a map."""
    beside = path.with_name(f"{path.name.removesuffix(suffix_of(path))}.json")
    return set(read_json(beside).get("geometry_not_in_the_file", ()))


def _limits(cases: Sequence[Recorded], unit: str) -> dict[tuple[str, str, str], float]:
    """The value of the last colour over all cases, for each class, method and layer."""
    found: dict[tuple[str, str, str], float] = {}
    for case in cases:
        with suppress(InputError, OSError):  # told where it is drawn
            for m in case.maps:
                limit = display_limit(density(read_volume(case.folder / m["file"]), unit).array)
                found[_key(m)] = max(found.get(_key(m), 0.0), limit)
    return found


def density(heat: Volume, unit: str) -> Volume:
    """A map in per cent of its own mass (of absolute values) per mL or voxel; zero where it has none."""
    mass = float(np.nansum(np.abs(heat.array), dtype=np.float64))
    each = heat.voxel_ml if unit == "mL" else 1.0
    return heat.with_array((heat.array * (100 / (mass * each) if mass else 0.0)).astype(np.float32))


def _figure(
    root: Path,
    model: str,
    case: Recorded,
    path: Path,
    how: Drawing,
    limits: Mapping[tuple[str, str, str], float],
    unit: str,
) -> None:
    channel = next(iter(case.record["inputs"]))
    volume = read_input(root, case, channel, [how.inputs] if how.inputs else ())
    caveats = texts(said_of(case.prediction["said"], None).caveats) if case.prediction else []
    rows = []
    for m in case.maps:
        heat = read_volume(case.folder / m["file"])
        if heat.shape != volume.shape or not np.allclose(heat.affine, volume.affine, atol=1e-3):
            heat = resample(heat, volume.grid)
        title = " · ".join(part for part in (m["target"], m["says"], method_title(m["method"]), m["layer"]) if part)
        row = Row.of(title, heat, m["signed"], [caveat["text"] for caveat in m["caveats"]])
        if how.scale == "common":
            row = replace(row, heat=density(heat, unit), limit=limits.get(_key(m)) or 1.0, unit=f"% of mass per {unit}")
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    over = f" · over {channel}" if len(case.record["inputs"]) > 1 else ""
    write_figure(volume, rows, path, f"{model} · {case.name}{over}", caveats, how.look)


def _list(root: Path, files: Sequence[str]) -> None:
    """Put figures among the files of the run, so that nobody takes them for inputs."""
    run = read_run(root)
    kept = {key: value for key, value in run.items() if key not in ("notice", "schema_version", "files")}
    write_run(root, kept, sorted({*run["files"], *files} - {RECORD}))
