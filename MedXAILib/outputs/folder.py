"""The one layout of an output folder. The README documents it; scripts rely on it."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import NOTICE
from ..errors import Caveat, InputError, as_values
from ..findings.regions import anatomy_shares, hot_regions, superpixel_rows
from ..geometry.labels import Labels
from ..geometry.resample import resample
from ..geometry.volume import Volume
from ..io.write import write_labels, write_volume
from .staging import LOCK, RECORD

if TYPE_CHECKING:
    import numpy as np

    from ..explanation import Attribution
    from ..prediction import Prediction

EXTENSIONS = (
    ".nii.gz",
    ".seg.nrrd",
    ".nii",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".dcm",
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
)
TABLES = {
    "predictions.csv": ("input", "slice", "class", "probability"),
    "values.csv": ("input", "slice", "name", "value", "unit"),
    "segmentation.csv": ("input", "class", "volume_ml", "voxels"),
    "caveats.csv": ("input", "code", "text"),
    "regions.csv": (
        *("input", "class", "method", "layer", "region", "volume_ml", "r", "a", "s", "peak", "mass_share"),
        *("voxels", "i", "j", "k"),
    ),
    "superpixels.csv": ("input", "class", "method", "layer", "label", "coefficient", "volume_ml", "voxels"),
    "layers.csv": ("input", "class", "method", "layer", "order", "cell_mm", "linear_score"),
    "anatomy.csv": (
        "input",
        "class",
        "method",
        "layer",
        "structure",
        "positive_share",
        "negative_share",
        "volume_share",
    ),
}

RESERVED = {*TABLES, RECORD, LOCK}
"""Names of a run's own files."""
LONGEST_NAME = 70
"""In bytes: a file's name has three such parts, perhaps a mark, and must stay below 255."""


def safe(name: str) -> str:
    """A name reduced to letters, digits, ``.``, ``+`` and ``-``; a very long one is cut and gets a mark of its own. None is
    hidden, or leads to another folder."""
    plain = unicodedata.normalize("NFC", name).replace("_", " ")
    reduced = re.sub(r"[^\w.+-]+", "-", plain).strip("-.") or "unnamed"
    if len(reduced.encode()) <= LONGEST_NAME:
        return reduced
    cut = reduced.encode()[: LONGEST_NAME - 9].decode(errors="ignore")
    return f"{cut}-{mark(name)}"


def mark(name: str) -> str:
    """What tells a name from others that look alike when reduced."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]


def stems(names: Sequence[str]) -> dict[str, str]:
    """Case name -> where its files go: mirrored subfolder and stem. Where two stems would clash, the extension stays, and
    where that does not tell them apart, each gets a mark of its own."""

    def stem(name: str, whole: bool = False, marked: bool = False) -> str:
        folder, _, file = name.rpartition("/")
        end = next((e for e in EXTENSIONS if file.lower().endswith(e)), "")
        base = safe(file if whole or not end else file[: -len(end)])
        folders = (safe(part) for part in folder.split("/") if part)
        above = [f"{part}-{mark(part)}" if part.casefold() in RESERVED else part for part in folders]
        return "/".join([*above, f"{base}-{mark(name)}" if marked else base])

    found = {name: stem(name) for name in names}
    for how in ({"whole": True}, {"marked": True}, {"marked": True}):  # again: a mark may be another one's name
        taken = Counter(one.casefold() for one in found.values())
        found = {name: stem(name, **how) if taken[one.casefold()] > 1 else one for name, one in found.items()}
    return found


class Folder:
    """The files of one run: maps as they come, tables and run.json at the end.

    :param path: an existing folder.
    :param extension: nrrd, nii.gz or mha.
    """

    def __init__(self, path: Path, extension: str):
        self.path, self.extension = path, extension
        self.rows: dict[str, list[tuple]] = {name: [] for name in TABLES}
        self.taken: dict[str, tuple[str, ...]] = {}

    def _target(self, stem: str, *parts: str, extension: str | None = None) -> Path:
        """Where a file goes; names that look alike when reduced do not get the same one."""
        name = "_".join((stem, *(safe(part) for part in parts if part)))
        if self.taken.setdefault(f"{name}.{extension}".casefold(), parts) != parts:
            name = f"{name}-{mark('/'.join(parts))}"
        path = self.path / f"{name}.{extension or self.extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write(self, image: Volume | Labels, path: Path, facts: dict, also: dict | None = None) -> None:
        """The image, and its facts beside it.

        :param also: facts that only the file beside holds.
        :raises OSError: where it cannot be written: that ends the run, and not only its case.
        """
        try:
            write = write_labels if isinstance(image, Labels) else write_volume
            write(image, path, metadata=_metadata(facts))
        except InputError:
            free = shutil.disk_usage(self.path).free / 2**20
            raise OSError(f"{path.name}: the disk has {free:.0f} MiB left, or is not writable") from None
        name = path.name.removesuffix(f".{self.extension}")
        path.with_name(f"{name}.json").write_text(
            json.dumps({"notice": NOTICE, **facts, **(also or {})}, indent=1), encoding="utf-8"
        )

    def prediction(self, name: str, stem: str, prediction: Prediction, facts: dict) -> None:
        """Rows of predictions.csv or values.csv; the segmentation with its volumes; in what the input is unlike what the
        model knows."""
        self.caveats(name, prediction.caveats)
        if prediction.card.task == "classification":
            slices = prediction.tiling.mode == "slices" and len(prediction.logits) > 1
            unit = prediction.facts.get("unit")
            self.classification(name, prediction.probabilities, prediction.pieces if slices else (), unit)
        else:
            self.segmentation(name, stem, prediction.labels, facts | {"caveats": as_values(prediction.caveats)})

    def caveats(self, name: str, caveats: Sequence[Caveat]) -> None:
        """Rows of caveats.csv."""
        self.rows["caveats.csv"] += [(name, caveat.code, str(caveat)) for caveat in caveats]

    def classification(
        self,
        name: str,
        probabilities: dict[str, float],
        pieces: Sequence[Sequence[float]] = (),
        unit: str | None = None,
    ) -> None:
        """Rows of predictions.csv, or of values.csv.

        :param pieces: probabilities of each slice, in the order of the classes.
        :param unit: of values; None for probabilities.
        """
        table, last = ("predictions.csv", ()) if unit is None else ("values.csv", (unit,))
        for n, row in enumerate(pieces):
            self.rows[table] += [(name, n, c, p, *last) for c, p in zip(probabilities, row, strict=True)]
        self.rows[table] += [(name, "", c, p, *last) for c, p in probabilities.items()]

    def segmentation(self, name: str, stem: str, labels: Labels, facts: dict) -> None:
        """The label map, and its volumes in segmentation.csv."""
        volumes, counts = labels.ml(), labels.counts()
        self.rows["segmentation.csv"] += [(name, c, volumes[c], counts[c]) for c in counts]
        also = {"volume_ml": volumes, "voxels": counts, "values": {r.name: r.value for r in labels.rows}}
        self._write(labels, self._target(stem, "segmentation"), facts, also)

    def kept_input(self, stem: str, volume: Volume, facts: dict) -> None:
        """The preprocessed input as the network gets it."""
        self._write(volume, self._target(stem, "input"), facts)

    def attribution(
        self,
        name: str,
        stem: str,
        a: Attribution,
        on: Volume,
        anatomy: Labels | None,
        seen: np.ndarray | None,
        share: float,
        cells: bool = False,
    ) -> Labels:
        """A map on the grid of ``on`` with its hot regions, superpixels and rows in the tables; gives the regions.

        :param cells: also write the map of a layer on its own coarse grid.
        :param seen: bool on the grid of ``on``: what the network saw and is not air (with ``anatomy`` only).
        """
        parts = (a.target, a.method, a.layer)
        facts = a.provenance | {"input": name, "limits": list(a.limits)}
        map_ = on.with_array(a.on(on).array)
        self._write(map_, self._target(stem, *parts), facts)
        if cells and "cell_stride_voxels" in a.provenance:
            self._write(a.volume, self._target(stem, *parts, "cells"), facts)
        key = (name, a.target, a.method, a.layer)
        if "linear_score" in a.provenance:
            order = sum(row[:3] == key[:3] for row in self.rows["layers.csv"])
            cell = " x ".join(f"{mm:.3g}" for mm in a.provenance.get("cell_mm", ()))
            self.rows["layers.csv"].append((*key, order, cell, a.provenance["linear_score"]))
        mass = resample(a.mass, on.grid)
        labels, regions = hot_regions(map_, mass=mass.array, share=share)
        nowhere = (None,) * 3  # where the file does not say how the image lies in the patient
        rows = [
            (r.name, r.volume_ml, *(r.centroid if on.placed else nowhere), r.peak, r.mass_share, r.voxels, *r.index)
            for r in regions
        ]
        self.rows["regions.csv"] += [(*key, *row) for row in rows]
        self._write(
            labels,
            self._target(stem, *parts, "regions"),
            facts | {"share": share, "regions": _table("regions.csv", rows)},
        )
        if a.superpixels is not None:
            rows = [
                (r.value, r.coefficient, r.volume_ml, r.voxels) for r in superpixel_rows(a.superpixels, a.coefficients)
            ]
            self.rows["superpixels.csv"] += [(*key, *row) for row in rows]
            self._write(
                a.superpixels,
                self._target(stem, *parts, "superpixels"),
                facts | {"superpixels": _table("superpixels.csv", rows)},
            )
        if anatomy is not None:
            rows = [
                (r.structure, r.positive_share, r.negative_share, r.volume_share)
                for r in anatomy_shares(mass, anatomy, seen)
            ]
            self.rows["anatomy.csv"] += [(*key, *row) for row in rows]
        return labels

    def name_of(self, stem: str, a: Attribution) -> str:
        """A map's file, relative to the folder."""
        return self._target(stem, a.target, a.method, a.layer).relative_to(self.path).as_posix()

    def picture(self, stem: str, *parts: str) -> Path:
        """Where a picture goes."""
        return self._target(stem, *parts, extension="png")

    def finish(self, summary: dict) -> dict:
        """Write the tables that have rows, then run.json with the list of all files; gives what run.json holds."""
        for name, rows in self.rows.items():
            if rows:
                with (self.path / name).open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(TABLES[name])
                    writer.writerows([_cell(value) for value in row] for row in rows)
        found = (p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())
        files = sorted(name for name in found if name != LOCK)
        whole = {"notice": NOTICE, **summary, "files": [*files, RECORD]}
        (self.path / RECORD).write_text(json.dumps(whole, indent=1), encoding="utf-8")
        return whole


def _cell(value):
    return f"{value:.6g}" if isinstance(value, float) or hasattr(value, "dtype") else value


def _table(name: str, rows: list[tuple]) -> list[dict]:
    columns = TABLES[name][4:]
    return [dict(zip(columns, [v.item() if hasattr(v, "item") else v for v in row], strict=True)) for row in rows]


def _metadata(facts: dict) -> dict[str, str]:
    """Provenance as key/value pairs of an image file."""
    pairs = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    return {f"MedXAI_{key}": text for key, text in pairs.items() if text not in ("null", "")}
