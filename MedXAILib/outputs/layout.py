"""The layout of a run's folder: names of its files, columns of its tables. The README documents it; scripts rely on it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from ..io.reader import others

SCHEMA_VERSION = 2
"""Of what stands beside each map, and of a scene; a record without a version is of version 1: see :mod:`.record`."""
RUN_VERSION = 3
"""Of run.json and case.json; up to 2 a run was one record, and its maps lay side by side."""
RECORD, CASE, LOCK = "run.json", "case.json", "run.lock"
EVALUATION = "evaluation.csv"
BIDS = "bids"
"""The folder of a BIDS derivative."""
EXTENSIONS = (
    *(".nii.gz", ".seg.nrrd", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff"),
)  # fmt: skip
MAP = ("input", "class", "method", "layer")
TABLES = {
    "predictions.csv": ("input", "slice", "class", "probability"),
    "values.csv": ("input", "slice", "name", "value", "unit"),
    "segmentation.csv": ("input", "class", "volume_ml", "voxels"),
    "labels.csv": ("input", "class", "unit", "reference", "predicted", "dice"),
    "caveats.csv": ("input", "code", "severity", "text"),
    "regions.csv": (
        *(*MAP, "region", "volume_ml", "r", "a", "s", "peak", "mass_fraction"),
        *("voxels", "i", "j", "k"),
    ),
    "superpixels.csv": (*MAP, "label", "coefficient", "volume_ml", "voxels"),
    "layers.csv": (*MAP, "order", "cell_mm", "linear_score"),
    "anatomy.csv": (*MAP, "structure", "positive_fraction", "negative_fraction", "volume_fraction"),
    EVALUATION: ("case", "method", "target", "measure", "figure", "chance", "baseline"),
    "structures.csv": (
        *("class", "method", "layer", "structure", "cases", "positive_fraction_mean", "positive_fraction_sd"),
        "volume_fraction_mean",
    ),
    "failures.csv": ("input", "stage", "sentence"),
}
"""Name -> columns."""
SHEETS = ("contact_*.png", "structures_*.png")
"""Pictures over the cases."""
RESERVED = {*TABLES, RECORD, LOCK}
"""Names of a run's own files."""
LONGEST_NAME = 60
"""In bytes: a file's name has three such parts, perhaps a mark, and a key, and must stay below 255."""


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

    added = {suffix.lower() for reader in others() for suffix in reader.suffixes}
    known = sorted({*EXTENSIONS, *added}, key=len, reverse=True)

    def stem(name: str, whole: bool = False, marked: bool = False) -> str:
        folder, _, file = name.rpartition("/")
        end = next((e for e in known if file.lower().endswith(e)), "")
        base = safe(file if whole or not end else file[: -len(end)])
        folders = (safe(part) for part in folder.split("/") if part)
        above = [f"{part}-{mark(part)}" if part.casefold() in RESERVED else part for part in folders]
        return "/".join([*above, f"{base}-{mark(name)}" if marked else base])

    found = {name: stem(name) for name in names}
    for how in ({"whole": True}, {"marked": True}, {"marked": True}):  # again: a mark may be another one's name
        taken = Counter(one.casefold() for one in found.values())
        found = {name: stem(name, **how) if taken[one.casefold()] > 1 else one for name, one in found.items()}
    return found
