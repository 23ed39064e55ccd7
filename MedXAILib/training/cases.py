"""What is learned from: cases found on disk, and told apart by content."""

from __future__ import annotations

import csv
import glob
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import FileError, InputError
from ..geometry.volume import Volume
from ..io.segmentation import read_labels
from ..io.suffixes import HEADERS
from ..models.card import ModelCard
from ..models.loading import sha256
from ..outputs.earlier import find_cases
from .recipe import Recipe

SAME_NAMES = {"Airspace Opacity": "Lung Opacity"}
"""Columns of a table that mean another label (MIMIC-CXR's name of CheXpert's)."""
NOT_MENTIONED = float("nan")


@dataclass(frozen=True)
class TrainingCase:
    """A file and what is true of it: the label map's path (segmentation), or one number for each class
    (1 yes, 0 no, -1 uncertain, nan not mentioned). ``digest``: of the image's content."""

    image: Path
    labels: Path | None = None
    truth: tuple[float, ...] = ()
    digest: str = ""


def find(recipe: Recipe, card: ModelCard, place: Path) -> list[TrainingCase]:
    """The cases of a folder or table; files of equal content once.

    :raises InputError: for a missing folder, an image without labels, a class without an image, an unknown folder, or
        one content under two classes.
    """
    if place.suffix == ".csv":
        cases = _tabled(recipe, card, place)
    elif not place.is_dir():
        raise FileError(
            place,
            "there is no such folder of cases",
            "give the folder that holds it with --data, or mend the recipe's 'data'",
        )
    else:
        cases = _paired(place) if card.voxelwise else _by_class(recipe, card, place)
    return _once(cases)


def content(cases: Sequence[TrainingCase]) -> str:
    """A hash of what is learned from, whatever the names of files and folders."""
    return hashlib.sha256("\n".join(sorted(case.digest for case in cases)).encode()).hexdigest()


def find_both(recipe: Recipe, card: ModelCard, data: Path) -> tuple[list[TrainingCase], list[TrainingCase]]:
    """The training and the test cases.

    :raises InputError: as :func:`find`, and for a file that is in both.
    """
    found = find(recipe, card, data / recipe.data.train)
    tested = find(recipe, card, data / recipe.data.test) if recipe.data.test else []
    known = {case.digest: case for case in found}
    for case in tested:
        if other := known.get(case.digest):
            raise FileError(case.image, f"this test case is {other.image} of the training too", "take one away")
    return found, tested


def truth_of(case: TrainingCase) -> Volume:
    """The label map of a case.

    :raises ValueError: for a case of a classification, which has none.
    :raises InputError: where labels overlap, or as :func:`MedXAILib.io.segmentation.read_labels`.
    """
    if case.labels is None:
        raise ValueError(f"{case.image} has no label map")
    labels = read_labels(case.labels)
    if any(row.shared for row in labels.rows):
        raise FileError(
            case.labels,
            "its segments overlap, and a network learns one label for each voxel",
            "cut them apart in Slicer's Segment Editor",
        )
    return labels.volume


def _paired(place: Path) -> list[TrainingCase]:
    """Images and label maps of the same names."""
    images, labels = place / "images", place / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise FileError(place, "a segmentation is learned from the folders images and labels in it", "make them")
    cases = []
    for path in _files(images):
        mask = labels / path.relative_to(images)
        if not mask.is_file():
            raise FileError(path, f"there is no {mask}", "add this label map, or take the image away")
        cases.append(TrainingCase(path, mask))
    return cases


def _files(folder: Path) -> list[Path]:
    """The images in a folder.

    :raises InputError: for none, or DICOM.
    """
    found = [case.path for case in find_cases(folder)]
    if found == [folder]:
        raise FileError(
            folder,
            "there is DICOM in this folder, and a training reads one file a case",
            "convert each series to NIfTI or NRRD first",
        )
    return found


def _by_class(recipe: Recipe, card: ModelCard, place: Path) -> list[TrainingCase]:
    """Images in a folder for each class."""
    names = [label.name for label in card.output.labels]
    cases: list[TrainingCase] = []
    counts = dict.fromkeys(names, 0)
    for folder in sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")):
        name = recipe.data.classes.get(folder.name, folder.name)
        if name not in counts:
            raise FileError(
                folder,
                f"the card has no class '{name}' (it has {', '.join(names)})",
                "rename the folder, or say which class it is in the recipe's field 'data.classes'",
            )
        truth = tuple(float(name == other) for other in names)
        found = [TrainingCase(path, truth=truth) for path in _files(folder)]
        counts[name] += len(found)
        cases += found
    for name, count in counts.items():
        if not count:
            raise FileError(place, f"the class '{name}' has no image", "add a folder of this name with images in it")
    return cases


def _tabled(recipe: Recipe, card: ModelCard, place: Path) -> list[TrainingCase]:
    """Images by their lines in a table."""
    try:
        with open(place, newline="", encoding="utf-8-sig") as file:
            cases = list(_lines(csv.DictReader(file), recipe, card, place))
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(place, f"this table cannot be read ({error})", "give a .csv file in UTF-8") from None
    if not cases:
        raise FileError(place, "there is no line below the names of the columns", "fill the table")
    return cases


def _lines(reader: csv.DictReader[str], recipe: Recipe, card: ModelCard, place: Path) -> Iterator[TrainingCase]:
    names = [label.name for label in card.output.labels]
    columns = {recipe.data.classes.get(c, c): c for c in reader.fieldnames or ()}
    columns |= {same: columns[c] for c, same in SAME_NAMES.items() if c in columns and same not in columns}
    for name in ("path", *names):
        if name not in columns:
            raise FileError(place, f"the column '{name}' is missing", "add it, or mend the card's labels")
    for line, row in enumerate(reader, 2):
        where = f"{place}, line {line}"
        if not row[columns["path"]]:
            raise InputError("there is no path in this line", "write one, or take the line away", about=where)
        truth = tuple(_mark(row[columns[name]], f"{where}, column {name}") for name in names)
        if card.output.exclusive and sorted(truth) != [0.0] * (len(names) - 1) + [1.0]:
            raise InputError("of classes that exclude each other one is 1 and the others are 0", "mend it", about=where)
        yield TrainingCase(place.parent / row[columns["path"]], truth=truth)


def _mark(text: str | None, where: str) -> float:
    """What a field of a table says.

    :param text: None where the line is too short.
    """
    if text is None or not text.strip():
        return NOT_MENTIONED
    try:
        value = float(text)
    except ValueError:
        value = NOT_MENTIONED
    if value not in (-1, 0, 1):
        raise InputError(f"'{text}' is no mark", "write 1 (yes), 0 (no), -1 (uncertain), or nothing", about=where)
    return value


def _once(cases: Sequence[TrainingCase]) -> list[TrainingCase]:
    """One case for each content.

    :raises FileError: where one content has two truths.
    """
    kept: dict[str, TrainingCase] = {}
    for case in cases:
        if not case.image.is_file():
            raise FileError(case.image, "there is no such image", "mend the path, or take its line away")
        case = replace(case, digest=_digest(case.image))
        other = kept.setdefault(case.digest, case)
        if _differ(case, other):
            raise FileError(
                case.image, f"this has the same content as {other.image}, but another truth", "take one away"
            )
    return list(kept.values())


def _differ(case: TrainingCase, other: TrainingCase) -> bool:
    """Whether other things are true of two cases."""
    if case.labels is None or other.labels is None:
        return str(case.truth) != str(other.truth)  # as text: nan equals nan
    return _digest(case.labels) != _digest(other.labels)


def _digest(path: Path) -> str:
    """Of a file's content; of a header that has its voxels in another file, of both."""
    data = [p for p in path.parent.glob(f"{glob.escape(path.stem)}.*") if p != path] if path.suffix in HEADERS else []
    return " ".join(sha256(file) for file in [path, *sorted(data)])
