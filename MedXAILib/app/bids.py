"""A BIDS derivative of a run over a BIDS dataset: the folder ``bids`` in that of the run, derived from its cases as the tables are.

Segmentations are BIDS (``dseg``). BIDS 1.10 knows no suffix for attribution maps: theirs is ``attribution``, which .bidsignore lists.
(BIDS specification, derivatives: imaging.)"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import NOTICE, __version__
from ..errors import FileError, legible
from ..io import atomic
from ..io.segmentation import read_labels
from ..io.write import write_labels, write_volume
from ..outputs.earlier import read_volume
from ..outputs.layout import BIDS, mark
from ..outputs.record import read_json

VERSION, SUFFIX = "1.10.0", "attribution"
DESCRIPTION, GENERATOR = "dataset_description.json", "MedXAI"
Told = tuple[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""A case, its record, and its parts that are there."""
LINK = "raw"
"""By what sidecars call the dataset that was explained."""


def derivative(root: Path, run: Mapping[str, Any], there: Callable[[], Iterable[Told]]) -> list[str]:
    """Write what is missing of the derivative; gives the names of all its files, from the run's folder.

    :param run: with ``bids``: the way from the run's folder to the dataset. :param there: gives each case.
    """
    place = root / BIDS
    refuse_foreign_dataset(root)
    names = _frame(place, run)
    described = descriptions(there())
    for name, record, parts in there():
        sources = [_source(root, run["bids"], one["path"]) for one in record["inputs"].values()]
        for part in parts:
            if (labels := part.get("said", {}).get("labels")) and labels["file"]:
                names += _segmentation(place, name, part, root / run["cases"][name] / labels["file"], sources, run)
            for m in part.get("maps", ()):
                if m["file"]:
                    names += _map(place, described[name, m["file"]], m, root / run["cases"][name] / m["file"], sources)
    return [f"{BIDS}/{name}" for name in names]


def refuse_foreign_dataset(root: Path) -> None:
    """:raises FileError: where the derivative would go into a folder that no run wrote."""
    place = root / BIDS
    if not os.path.lexists(place) or (place.is_dir() and not any(place.iterdir())):
        return
    by = read_json(place / DESCRIPTION).get("GeneratedBy") or [{}]
    if not place.is_dir() or not isinstance(by, list) or by[0].get("Name") != GENERATOR:
        raise FileError(
            legible(str(place)), "the BIDS derivative of the run would go there, and no run wrote it", "give another folder with -o"
        )  # fmt: skip


def descriptions(told: Iterable[Told]) -> dict[tuple[str, str], str]:
    """Case and file of a map -> its path in the derivative, without the suffix; those that letters and digits alone do not tell apart get a mark."""
    paths = {
        (case, m["file"]): stem(case, m["method"], m["target"], m["layer"])
        for case, _, parts in told for part in parts for m in part.get("maps", ()) if m["file"]
    }  # fmt: skip
    taken = Counter(paths.values())
    return {key: f"{path}{mark('/'.join(key))}" if taken[path] > 1 else path for key, path in paths.items()}


def _frame(place: Path, run: Mapping[str, Any]) -> list[str]:
    """What says what the dataset is."""
    model = run["model"]["name"]
    description = {
        "Name": f"{model}: predictions and attribution maps", "BIDSVersion": VERSION, "DatasetType": "derivative",
        "GeneratedBy": [{"Name": GENERATOR, "Version": __version__, "Description": NOTICE}],
        "DatasetLinks": {LINK: f"../{run['bids']}"},
        "SourceDatasets": [{"URL": f"bids:{LINK}:"}],
    }  # fmt: skip
    readme = (
        f"# {model}\n\nWhat the network {model} says of the images of a BIDS dataset, and attribution maps: what it looked at. Written by "
        f"MedXAI {__version__}. {NOTICE}.\n\nMaps end in `_{SUFFIX}.nii.gz`: raw values on the image's own grid, of no common scale "
        "across images. Their sidecars say what limits belief in them.\n"
    )
    files = {
        DESCRIPTION: json.dumps(description, indent=1), "README.md": readme,
        ".bidsignore": f"*_{SUFFIX}.nii.gz\n*_{SUFFIX}.json\n",
    }  # fmt: skip
    place.mkdir(exist_ok=True)
    for name, text in files.items():
        if not (place / name).is_file() or (place / name).read_text(encoding="utf-8") != text:
            atomic.write_text(place / name, text)
    return list(files)


def _source(root: Path, dataset: str, path: str) -> str:
    """An input as BIDS names it."""
    found = os.path.relpath(root / path, root / dataset)
    return f"bids:{LINK}:{Path(found).as_posix()}"


def stem(case: str, *words: str) -> str:
    """The path of a case's file without its suffix: the entities of the image, in the space of which it is, and what it is."""
    folder, _, file = case.rpartition("/")
    if file.endswith((".nii", ".nii.gz")):
        file = file.removesuffix(".gz").removesuffix(".nii").rpartition("_")[0]
    entities = file.split("_")
    own = [part.removeprefix("desc-") for part in entities if part.startswith("desc-")]
    others = [part for part in entities if not part.startswith("desc-")]
    return f"{folder}/{'_'.join([*others, f'desc-{label(*own, *words)}'])}".lstrip("/")


def label(*words: str) -> str:
    """Words as the label of an entity: letters and digits alone."""
    return "".join(word[:1].upper() + word[1:] if n else word for n, word in enumerate(_words(words)))


def _words(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        yield from re.findall(r"[A-Za-z0-9]+", word) or ([mark(word)] if word else [])


def _map(place: Path, path: str, m: Mapping[str, Any], file: Path, sources: Sequence[str]) -> list[str]:
    """A map and its sidecar."""
    name = f"{path}_{SUFFIX}"
    sidecar = {
        "Description": f"Attribution map: {m['method']}" + (f" at layer {m['layer']}" if m["layer"] else "") + f", of {m['target']}",
        "Sources": list(sources), "SpatialReference": sources[0], "Method": m["method"], "Target": m["target"], "Layer": m["layer"],
        "Signed": m["signed"], "Caveats": [caveat["text"] for caveat in m["caveats"]], "Notice": NOTICE, "MedXAIFile": file.name,
    }  # fmt: skip
    if not _is_there(place / f"{name}.json", place / f"{name}.nii.gz", file):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_volume(read_volume(file), place / f"{name}.nii.gz")
        atomic.write_text(place / f"{name}.json", json.dumps(sidecar, indent=1))
    return [f"{name}.nii.gz", f"{name}.json"]


def _segmentation(
    place: Path, case: str, part: Mapping[str, Any], file: Path, sources: Sequence[str], run: Mapping[str, Any]
) -> list[str]:
    """A segmentation, its sidecar and the names of its values."""
    name = f"{stem(case, run['model']['name'])}_dseg"
    if not _is_there(place / f"{name}.json", place / f"{name}.nii.gz", file):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        labels = read_labels(file)
        write_labels(labels, place / f"{name}.nii.gz")
        rows = ["index\tname\tcolor", "0\tbackground\t#000000"]
        rows += [f"{row.value}\t{row.name}\t{_hexadecimal(row.color)}" for row in labels.rows]
        atomic.write_text(place / f"{name}.tsv", "\n".join(rows) + "\n")
        sidecar = {
            "Description": f"Segmentation by {run['model']['name']}", "Sources": list(sources), "SpatialReference": sources[0],
            "Manual": False, "Notice": NOTICE, "MedXAIFile": file.name,
        }  # fmt: skip
        atomic.write_text(place / f"{name}.json", json.dumps(sidecar, indent=1))
    return [f"{name}.nii.gz", f"{name}.tsv", f"{name}.json"]


def _is_there(sidecar: Path, image: Path, file: Path) -> bool:
    """Whether an image was made of this very file: its name ends in its key."""
    try:
        return image.is_file() and json.loads(sidecar.read_text(encoding="utf-8")).get("MedXAIFile") == file.name
    except (OSError, ValueError):
        return False


def _hexadecimal(color: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)
