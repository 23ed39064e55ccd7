"""A run's folder as it is filled: files of cases as they come, tables and run.json at the end."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import NOTICE
from ..errors import InputError
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from ..io.write import write_labels, write_volume
from .layout import LOCK, RECORD, SCHEMA_VERSION, TABLES, mark, safe

if TYPE_CHECKING:
    from ..findings.said import CaseResult


class RunFolder:
    """The files of one run.

    :param path: an existing folder.
    :param extension: nrrd, nii.gz or mha.
    :param stems: case name -> where its files go, see :func:`MedXAILib.outputs.layout.stems`.
    :param cells: maps of layers are also asked for on their own coarse grid.
    """

    def __init__(self, path: Path, extension: str, stems: Mapping[str, str], cells: bool = False) -> None:
        self.path, self.extension, self.stems, self.cells = path, extension, stems, cells
        self.tables: dict[str, tuple[str, ...]] = dict(TABLES)
        self.rows: dict[str, list[Sequence[Any]]] = {name: [] for name in TABLES}
        self.taken: dict[str, tuple[str, ...]] = {}

    def target(self, case: str, *parts: str, extension: str | None = None) -> Path:
        """Where a file of a case goes; names that look alike when reduced do not get the same one."""
        name = "_".join((self.stems[case], *(safe(part) for part in parts if part)))
        if self.taken.setdefault(f"{name}.{extension}".casefold(), parts) != parts:
            name = f"{name}-{mark('/'.join(parts))}"
        path = self.path / f"{name}.{extension or self.extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def name_of(self, path: Path) -> str:
        """A file's name, relative to the folder."""
        return path.relative_to(self.path).as_posix()

    def image(
        self, image: Volume | Labels, path: Path, metadata: Mapping[str, Any], also: Mapping[str, Any] | None = None
    ) -> None:
        """An image, and its metadata beside it as JSON.

        :param also: what only the file beside holds.
        :raises OSError: where it cannot be written: that ends the run, and not only its case.
        """
        try:
            if isinstance(image, Labels):
                write_labels(image, path, metadata=_header(metadata))
            else:
                write_volume(image, path, metadata=_header(metadata))
        except InputError:
            free = shutil.disk_usage(self.path).free / 2**20
            raise OSError(f"{path.name}: the disk has {free:.0f} MiB left, or is not writable") from None
        beside = path.with_name(f"{path.name.removesuffix(f'.{self.extension}')}.json")
        whole = {"notice": NOTICE, "schema_version": SCHEMA_VERSION, **metadata, **(also or {})}
        beside.write_text(json.dumps(whole, indent=1), encoding="utf-8")

    def add(self, table: str, rows: Sequence[Sequence[Any]], columns: Sequence[str] = ()) -> None:
        """Rows of a table.

        :param columns: of a table that is not one of MedXAI's own.
        """
        self.tables.setdefault(table, tuple(columns))
        self.rows.setdefault(table, []).extend(rows)

    def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Write the tables that have rows, then run.json with the list of all files; gives what run.json holds."""
        for name, rows in self.rows.items():
            if rows:
                text = as_csv(self.tables[name], rows)
                (self.path / name).write_text(text, encoding="utf-8", newline="")
        found = (self.name_of(p) for p in self.path.rglob("*") if p.is_file())
        files = sorted(name for name in found if name != LOCK)
        whole = {"notice": NOTICE, "schema_version": SCHEMA_VERSION, **summary, "files": [*files, RECORD]}
        (self.path / RECORD).write_text(json.dumps(whole, indent=1), encoding="utf-8")
        return whole


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as text."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    return file.getvalue()


def cell(value: Any) -> Any:
    """A value of a table: numbers in six digits."""
    return f"{value:.6g}" if isinstance(value, float) or hasattr(value, "dtype") else value


def _header(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as key/value pairs of an image file; of caveats the sentences."""
    plain = {k: [c["text"] for c in v] if k == "caveats" else v for k, v in metadata.items()}
    pairs = {key: value if isinstance(value, str) else json.dumps(value) for key, value in plain.items()}
    return {f"MedXAI_{key}": text for key, text in pairs.items() if text not in ("null", "")}


def summary_of(result: CaseResult, files: Sequence[str]) -> dict[str, Any]:
    """One case in run.json.

    :param files: of each map.
    """
    summary = {key: rounded(value) for key, value in result.said.summary.items()}
    return {
        "input": result.name, "model": result.said.model, "seconds": round(result.seconds, 3), **summary,
        "caveats": [caveat.as_value() for caveat in result.said.caveats],
        "maps": [
            {
                "file": name, "class": a.target, "method": a.method, "layer": a.layer, "seconds": a.seconds,
                "evaluations": a.evaluations, "caveats": [caveat.as_value() for caveat in a.caveats],
            }
            for name, a in zip(files, (finding.attribution for finding in result.findings), strict=True)
        ],
    }  # fmt: skip


def rounded(value: Any) -> Any:
    """Numbers of a dict in six digits behind the point."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 6) if isinstance(value, float) else value
