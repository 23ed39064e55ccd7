"""The one layout of an output folder. The README documents it; scripts rely on it.

A run is made in a folder beside its final place and moved there when it is complete: an interrupted or failed run
leaves nothing, and what was there before stays.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .. import NOTICE
from ..errors import Caveat, InputError, as_values
from ..formats import write_labels, write_volume
from ..regions import anatomy_shares, hot_regions, superpixel_rows
from ..volume import Labels, Volume, resample

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

LONGEST_NAME = 80
"""A file's name has three such parts and must stay below 255 characters."""

unfinished: set[Path] = set()
"""Folders of runs under way: whoever ends the process at once removes them first."""


@contextmanager
def staged(output: Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write a run into, which becomes ``output`` when the block ends without an error.

    :raises InputError: where ``output`` cannot be a folder, or holds a run and ``overwrite`` is not given.
    """
    output = Path(os.path.abspath(output))
    ancestor = next(p for p in (output, *output.parents) if p.exists())
    if not ancestor.is_dir():
        raise InputError(
            f"{ancestor.name}: this is a file, so no output folder can be made there; give another path with -o."
        )
    if (output / "run.json").exists() and not overwrite:
        raise InputError(
            f"{output.name}: this folder already holds a run; give another one with -o, or add --overwrite."
        )
    beside = ancestor.parent if ancestor == output else ancestor
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.partial-", dir=beside))
    except OSError as error:
        raise InputError(
            f"{beside.name or beside}: no file can be written here ({error.strerror}); give another folder with -o."
        ) from None
    unfinished.add(folder)
    try:
        yield folder
        _publish(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.discard(folder)


def _publish(folder: Path, output: Path) -> None:
    """Move the finished files to their place; of an older run, the files that it had listed go."""
    os.chmod(folder, 0o777 & ~_umask())
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, output)
        return
    old = _listed(output / "run.json")
    foreign = [
        p
        for p in folder.rglob("*")
        if p.is_file() and (name := p.relative_to(folder).as_posix()) not in old and (output / name).exists()
    ]
    if foreign:
        raise InputError(
            f"{output.name}: this folder holds a file '{foreign[0].name}' that no run wrote; give another folder with -o."
        )
    for name in old:
        (output / name).unlink(missing_ok=True)
    new = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.name == "run.json")
    for path in new:  # run.json last: a folder that has it is complete
        target = output / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _listed(path: Path) -> list[str]:
    """The files of an older run; only plain relative names count."""
    try:
        names = json.loads(path.read_text(encoding="utf-8")).get("files", [])
    except (OSError, ValueError, AttributeError):
        return []
    return [
        name
        for name in names
        if isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
    ]


def safe(name: str) -> str:
    """A name reduced to letters, digits, ``.`` and ``-``; a very long one is cut and gets a mark of its own."""
    reduced = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-") or "unnamed"
    if len(reduced) <= LONGEST_NAME:
        return reduced
    return f"{reduced[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def stems(names: Sequence[str]) -> dict[str, str]:
    """Case name -> where its files go: mirrored subfolder and stem; the extension stays where two stems would clash."""

    def stem(name: str, whole: bool) -> str:
        folder, _, file = name.rpartition("/")
        end = next((e for e in EXTENSIONS if file.lower().endswith(e)), "")
        base = safe(file if whole or not end else file[: -len(end)])
        return "/".join([*(safe(part) for part in folder.split("/") if part), base])

    short = {name: stem(name, False) for name in names}
    taken = [s.lower() for s in short.values()]
    return {name: stem(name, True) if taken.count(s.lower()) > 1 else s for name, s in short.items()}


class Folder:
    """The files of one run: maps as they come, tables and run.json at the end.

    :param path: an existing folder.
    :param extension: nrrd, nii.gz or mha.
    """

    def __init__(self, path: Path, extension: str):
        self.path, self.extension = path, extension
        self.rows: dict[str, list[tuple]] = {name: [] for name in TABLES}

    def _target(self, stem: str, *parts: str) -> Path:
        path = self.path / f"{stem}_{'_'.join(safe(part) for part in parts if part)}.{self.extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _beside(self, path: Path, facts: dict) -> None:
        name = path.name.removesuffix(f".{self.extension}")
        path.with_name(f"{name}.json").write_text(json.dumps({"notice": NOTICE, **facts}, indent=1), encoding="utf-8")

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
        path = self._target(stem, "segmentation")
        write_labels(labels, path, metadata=_metadata(facts))
        self._beside(
            path, facts | {"volume_ml": volumes, "voxels": counts, "values": {r.name: r.value for r in labels.rows}}
        )

    def kept_input(self, stem: str, volume: Volume, facts: dict) -> None:
        """The preprocessed input as the network gets it."""
        path = self._target(stem, "input")
        write_volume(volume, path, metadata=_metadata(facts))
        self._beside(path, facts)

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
        facts = a.provenance | {"limits": list(a.limits)}
        map_ = on.with_array(a.on(on).array)
        path = self._target(stem, *parts)
        write_volume(map_, path, metadata=_metadata(facts))
        self._beside(path, facts)
        if cells and "cell_stride_voxels" in a.provenance:
            path = self._target(stem, *parts, "cells")
            write_volume(a.volume, path, metadata=_metadata(facts))
            self._beside(path, facts)
        key = (name, a.target, a.method, a.layer)
        if "linear_score" in a.provenance:
            order = sum(row[:3] == key[:3] for row in self.rows["layers.csv"])
            cell = " x ".join(f"{mm:.3g}" for mm in a.provenance.get("cell_mm", ()))
            self.rows["layers.csv"].append((*key, order, cell, a.provenance["linear_score"]))
        mass = resample(a.mass, on.affine, on.shape)
        labels, regions = hot_regions(map_, mass=mass.array, share=share)
        nowhere = (None,) * 3  # where the file does not say how the image lies in the patient
        rows = [
            (r.name, r.volume_ml, *(r.centroid if on.placed else nowhere), r.peak, r.mass_share, r.voxels, *r.index)
            for r in regions
        ]
        self.rows["regions.csv"] += [(*key, *row) for row in rows]
        self._labels(
            stem, (*parts, "regions"), labels, facts | {"share": share, "regions": _table("regions.csv", rows)}
        )
        if a.superpixels is not None:
            rows = [
                (r.value, r.coefficient, r.volume_ml, r.voxels) for r in superpixel_rows(a.superpixels, a.coefficients)
            ]
            self.rows["superpixels.csv"] += [(*key, *row) for row in rows]
            self._labels(
                stem, (*parts, "superpixels"), a.superpixels, facts | {"superpixels": _table("superpixels.csv", rows)}
            )
        if anatomy is not None:
            rows = [
                (r.structure, r.positive_share, r.negative_share, r.volume_share)
                for r in anatomy_shares(mass, anatomy, seen)
            ]
            self.rows["anatomy.csv"] += [(*key, *row) for row in rows]
        return labels

    def _labels(self, stem: str, parts: tuple[str, ...], labels: Labels, facts: dict) -> None:
        path = self._target(stem, *parts)
        write_labels(labels, path, metadata=_metadata(facts))
        self._beside(path, facts)

    def picture(self, stem: str, *parts: str) -> Path:
        """Where a picture goes."""
        return self._target(stem, *parts).with_name(f"{stem.rpartition('/')[2]}_{'_'.join(map(safe, parts))}.png")

    def finish(self, summary: dict) -> dict:
        """Write the tables that have rows, then run.json with the list of all files; gives what run.json holds."""
        for name, rows in self.rows.items():
            if rows:
                with (self.path / name).open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(TABLES[name])
                    writer.writerows([_cell(value) for value in row] for row in rows)
        files = sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())
        whole = {"notice": NOTICE, **summary, "files": [*files, "run.json"]}
        (self.path / "run.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
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
