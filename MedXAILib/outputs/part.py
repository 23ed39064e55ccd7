"""One part of a case as writers write it: what the network said, or the maps that answer one question."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .. import NOTICE
from ..errors import InputError
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from ..io.write import write_labels, write_volume
from .layout import SCHEMA_VERSION, TABLES, mark, safe


class PartFolder:
    """Files and rows of one part. Names of files end in a key.

    :param path: an existing folder of the part's own, from which its files are moved to their place.
    :param case: the folder of the case, with whose name those of files begin.
    :param key: of what the network gave; ``made``: of this and of everything that was made of it.
    :param extension: of images: nrrd, nii.gz or mha.
    :param cells: maps of layers are also asked for on their own coarse grid.
    :param there: files that lie in their place already, with their bytes, and are not written again.
    """

    def __init__(
        self,
        path: Path,
        case: Path,
        key: str,
        made: str,
        extension: str,
        *,
        cells: bool = False,
        there: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.path, self.case, self.key, self.made = path, case, key, made
        self.extension, self.cells, self.there = extension, cells, there
        self.columns: dict[str, tuple[str, ...]] = {}
        self.rows: dict[str, list[list[Any]]] = {}
        self.kept: set[str] = set()
        self._taken: dict[str, tuple[str, ...]] = {}

    def target(self, *parts: str, extension: str | None = None, lasting: bool = False) -> Path:
        """Where a file goes; names that look alike when reduced do not get the same one.

        :param lasting: it depends on what the network gave and on nothing else, as a map does, and not what is made of one.
        """
        end = extension or self.extension
        name = "_".join((self.case.name, *(safe(part) for part in parts if part)))
        if self._taken.setdefault(f"{name}.{end}".casefold(), parts) != parts:
            name = f"{name}-{mark('/'.join(parts))}"
        return self.path / f"{name}_{self.key if lasting else self.made}.{end}"

    def image(
        self, image: Volume | Labels, path: Path, metadata: Mapping[str, Any], also: Mapping[str, Any] | None = None
    ) -> None:
        """An image, and its metadata beside it as JSON; not where it is there already.

        :param also: what only the file beside holds.
        :raises OSError: where it cannot be written: that ends the run, and not only its case.
        """
        beside = path.with_name(f"{path.name.removesuffix(f'.{self.extension}')}.json")
        if {path.name, beside.name} <= self.there.keys():
            self.kept |= {path.name, beside.name}
            return
        try:
            if isinstance(image, Labels):
                write_labels(image, path, metadata=_header(metadata))
            else:
                write_volume(image, path, metadata=_header(metadata))
        except InputError:
            free = shutil.disk_usage(self.path).free / 2**20
            raise OSError(f"{path.name}: the disk has {free:.0f} MiB left, or is not writable") from None
        whole = {"notice": NOTICE, "schema_version": SCHEMA_VERSION, **metadata, **(also or {})}
        beside.write_text(json.dumps(whole, indent=1), encoding="utf-8")

    def add(self, table: str, rows: Iterable[Sequence[Any]], columns: Sequence[str] = ()) -> None:
        """Rows of a table.

        :param columns: of a table that is not one of MedXAI's own.
        """
        self.columns[table] = TABLES.get(table) or tuple(columns)
        self.rows.setdefault(table, []).extend([plain(value) for value in row] for row in rows)

    @property
    def files(self) -> dict[str, int]:
        """What was written, and what was there, by name, with its bytes."""
        found = {path.name: path.stat().st_size for path in self.path.iterdir()}
        return dict(sorted((found | {name: self.there[name] for name in self.kept}).items()))

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """The rows by table, in plain values."""
        return {name: {"columns": list(self.columns[name]), "rows": rows} for name, rows in self.rows.items() if rows}


def plain(value: Any) -> Any:
    """A value of a table as JSON has it."""
    return value.item() if hasattr(value, "item") else value


def _header(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as key/value pairs of an image file; of caveats the sentences."""
    told = {k: [c["text"] for c in v] if k == "caveats" else v for k, v in metadata.items()}
    pairs = {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    return {f"MedXAI_{key}": text for key, text in pairs.items() if text not in ("null", "")}
