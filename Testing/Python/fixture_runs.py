"""Run folders written and read as the program does, for tests that have results in hand."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from MedXAILib.app.job import Messages
from MedXAILib.app.keys import made_key, map_key, prediction_key
from MedXAILib.app.parts import maps_part, prediction_part
from MedXAILib.app.tables import derive, records, summary_of
from MedXAILib.findings.said import CaseResult
from MedXAILib.outputs.case_file import in_private, publish
from MedXAILib.outputs.layout import stems
from MedXAILib.outputs.listing import case_folders
from MedXAILib.outputs.part import PartFolder
from MedXAILib.outputs.run_folder import write_run
from MedXAILib.outputs.writer import STANDARD, chosen


def written(root: Path, result: CaseResult, extension: str = "nrrd", writers=STANDARD) -> Path:
    """A case with its findings, each as a part of its own, and the tables; gives the folder of the case."""
    identity, inputs = {"of": result.name}, {"": {"path": "", "sha256": "0" * 64}}
    place = root / stems([result.name])[result.name]
    prediction, chosen_writers, parts, asked = prediction_key(identity, [""], {"": "0" * 64}), chosen(writers), [], []
    with in_private(place) as private:

        def folder(key: str) -> PartFolder:
            (private / key).mkdir()
            return PartFolder(private / key, place, key, made_key(key, {}), extension)

        parts.append(prediction_part(result, folder(prediction), chosen_writers))
        for n, finding in enumerate(result.findings):
            asked.append({"number": n})
            one = CaseResult(**vars(result) | {"findings": (finding,)})
            parts.append(maps_part(one, folder(map_key(prediction, asked[-1])), chosen_writers, asked[-1], Messages()))
        publish(private, place, {"case": result.name, "inputs": inputs, "parts": parts, "failures": [], "messages": []})
    cases = {result.name: place.relative_to(root).as_posix()}
    write_run(root, {"identity": identity, "channels": [""], "questions": asked, "cases": cases, "messages": []}, [])
    derive(root)
    return place


SUFFIXES = (".nii.gz", ".nrrd", ".mha", ".json", ".png", ".txt")


def only(folder: Path, pattern: str) -> Path:
    """The one file of a folder, however deep, that a pattern means: of ``x.nrrd`` the one whose name has a key before the suffix."""
    suffix = next(end for end in SUFFIXES if pattern.endswith(end))
    (path,) = folder.rglob(f"{pattern.removesuffix(suffix)}_{'[0-9a-f]' * 16}{suffix}")
    return path


def names(folder: Path) -> list[str]:
    """Every file of a run's folder, sorted, without the keys that their names end in."""
    return sorted(plain(p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file())


def plain(name: str) -> str:
    """A file's name without its key."""
    return re.sub(r"_[0-9a-f]{16}(?=[.])", "", name)


def told_of(folder: Path) -> list[dict]:
    """What is to be told of each case of a run."""
    run = json.loads((folder / "run.json").read_text())
    return [summary_of(run, record) for _, record in records(folder, run)]


def cases(folder: Path) -> list[dict]:
    """What case.json of each case holds, sorted by the case's name."""
    found = (json.loads((path / "case.json").read_text()) for path in case_folders(folder))
    return sorted(found, key=lambda case: case["case"])


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def small_model(folder: Path, seed: int = 0, **fields) -> Path:
    """A slice-wise classifier with random weights, as card and weights in a folder; gives the card's path."""
    import torch
    from safetensors.torch import save_file

    from MedXAILib.models.loading import sha256
    from MedXAILib.models.networks import architecture

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    save_file(architecture("SliceCNN")(classes=2, size=16).state_dict(), folder / "net.safetensors")
    card = {
        "name": "small", "task": "classification", "network": {"architecture": "SliceCNN", "arguments": {"classes": 2, "size": 16}},
        "weights": {"file": "net.safetensors", "sha256": sha256(folder / "net.safetensors")},
        "spatial": {"mode": "slices", "axis": "k"}, "input": {"size": [16, 16], "intensity": {"rule": "zscore"}},
        "output": {"labels": [{"name": "no"}, {"name": "yes"}]},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card | fields))
    return folder / "card.json"


def volumes(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Small volumes of noise with a bright block each."""
    import numpy as np

    from MedXAILib.geometry.volume import Volume
    from MedXAILib.io.write import write_volume

    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for n in range(count):
        rng = np.random.default_rng([seed, n])
        array = rng.normal(100, 10, (3, 20, 18)).astype(np.float32)
        array[1, 5:10, 6:12] += 80
        found.append(folder / f"case-{n:03}.nii.gz")
        write_volume(Volume(array, np.diag([1.5, 1.5, 4, 1])), found[-1])
    return found
