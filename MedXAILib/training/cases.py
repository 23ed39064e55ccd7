"""What is learned from: cases found on disk, told apart by content, split, and prepared as the card says."""

from __future__ import annotations

import csv
import glob
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..geometry.resample import resample
from ..geometry.volume import Volume
from ..io.read import read_volume
from ..io.segmentation import read_labels
from ..io.suffixes import HEADERS
from ..models.card import Expected, ModelCard
from ..models.loading import sha256
from ..outputs.earlier import find_cases
from ..preprocessing.prepare import Prepared, prepare
from ..preprocessing.suitability import LEAST, measure
from ..progress import Progress
from .recipe import Recipe

if TYPE_CHECKING:
    import torch

THUMBNAIL = 32
SAME_NAMES = {"Airspace Opacity": "Lung Opacity"}
"""Columns of a table that mean another label (MIMIC-CXR's name of CheXpert's)."""
NOT_MENTIONED = float("nan")


@dataclass(frozen=True)
class Case:
    """A file and what is true of it: the label map's path (segmentation), or one number for each class
    (1 yes, 0 no, -1 uncertain, nan not mentioned). ``digest``: of the image's content."""

    image: Path
    labels: Path | None = None
    truth: tuple[float, ...] = ()
    digest: str = ""


@dataclass(frozen=True, eq=False)
class Example:
    """A case as the network sees it.

    :ivar image: float32 (channel, *spatial).
    :ivar truth: segmentation: int64 (1, *spatial); classification: float32 (classes).
    """

    image: torch.Tensor
    truth: torch.Tensor


def find(recipe: Recipe, card: ModelCard, place: Path) -> list[Case]:
    """The cases of a folder or table; files of equal content once.

    :raises InputError: for a missing folder, an image without labels, a class without an image, an unknown folder, or
        one content under two classes.
    """
    if place.suffix == ".csv":
        cases = _tabled(recipe, card, place)
    elif not place.is_dir():
        raise InputError(
            f"{place}: there is no such folder of cases; give the folder that holds it with --data, or mend the recipe's 'data'."
        )
    else:
        cases = _paired(place) if card.task == "segmentation" else _by_class(recipe, card, place)
    return _once(cases)


def content(cases: Sequence[Case]) -> str:
    """A hash of what is learned from, whatever the names of files and folders."""
    return hashlib.sha256("\n".join(sorted(case.digest for case in cases)).encode()).hexdigest()


def find_both(recipe: Recipe, card: ModelCard, data: Path) -> tuple[list[Case], list[Case]]:
    """The training and the test cases.

    :raises InputError: as :func:`find`, and for a file that is in both.
    """
    found = find(recipe, card, data / recipe.data.train)
    tested = find(recipe, card, data / recipe.data.test) if recipe.data.test else []
    known = {case.digest: case for case in found}
    for case in tested:
        if other := known.get(case.digest):
            raise InputError(f"{case.image}: this test case is {other.image} of the training too; take one away.")
    return found, tested


def _paired(place: Path) -> list[Case]:
    images, labels = place / "images", place / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise InputError(f"{place}: a segmentation is learned from the folders images and labels in it; make them.")
    cases = [Case(path, labels / path.relative_to(images)) for path in _files(images)]
    for case in cases:
        if not case.labels.is_file():
            raise InputError(f"{case.image}: there is no {case.labels}; add this label map, or take the image away.")
    return cases


def _files(folder: Path) -> list[Path]:
    """The images in a folder.

    :raises InputError: for none, or DICOM.
    """
    found = [case.path for case in find_cases(folder)]
    if found == [folder]:
        raise InputError(
            f"{folder}: there is DICOM in this folder, and a training reads one file a case; convert each series to NIfTI or "
            "NRRD first."
        )
    return found


def _by_class(recipe: Recipe, card: ModelCard, place: Path) -> list[Case]:
    names = [label.name for label in card.output.labels]
    cases, counts = [], dict.fromkeys(names, 0)
    for folder in sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")):
        name = recipe.data.classes.get(folder.name, folder.name)
        if name not in counts:
            raise InputError(
                f"{folder}: the card has no class '{name}' (it has {', '.join(names)}); rename the folder, or say which "
                "class it is in the recipe's field 'data.classes'."
            )
        truth = tuple(float(name == other) for other in names)
        found = [Case(path, truth=truth) for path in _files(folder)]
        counts[name] += len(found)
        cases += found
    for name, count in counts.items():
        if not count:
            raise InputError(f"{place}: the class '{name}' has no image; add a folder of this name with images in it.")
    return cases


def _tabled(recipe: Recipe, card: ModelCard, place: Path) -> list[Case]:
    names = [label.name for label in card.output.labels]
    try:
        with open(place, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = {recipe.data.classes.get(c, c): c for c in reader.fieldnames or ()}
            columns |= {same: columns[c] for c, same in SAME_NAMES.items() if c in columns and same not in columns}
            for name in ("path", *names):
                if name not in columns:
                    raise InputError(f"{place}: the column '{name}' is missing; add it, or mend the card's labels.")
            cases = []
            for line, row in enumerate(reader, 2):
                where = f"{place}, line {line}"
                if not row[columns["path"]]:
                    raise InputError(f"{where}: there is no path in this line; write one, or take the line away.")
                truth = tuple(_mark(row[columns[name]], f"{where}, column {name}") for name in names)
                if card.output.exclusive and sorted(truth) != [0.0] * (len(names) - 1) + [1.0]:
                    raise InputError(
                        f"{where}: of classes that exclude each other one is 1 and the others are 0; mend it."
                    )
                cases.append(Case(place.parent / row[columns["path"]], truth=truth))
            if not cases:
                raise InputError(f"{place}: there is no line below the names of the columns; fill the table.")
            return cases
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{place}: this table cannot be read ({error}); give a .csv file in UTF-8.") from None


def _mark(text: str | None, where: str) -> float:
    if text is None or not text.strip():
        return NOT_MENTIONED
    try:
        value = float(text)
    except ValueError:
        value = NOT_MENTIONED
    if value not in (-1, 0, 1):
        raise InputError(f"{where}: '{text}' is no mark; write 1 (yes), 0 (no), -1 (uncertain), or nothing.")
    return value


def _once(cases: Sequence[Case]) -> list[Case]:
    """One case for each content.

    :raises InputError: where one content has two truths.
    """
    kept: dict[str, Case] = {}
    for case in cases:
        if not case.image.is_file():
            raise InputError(f"{case.image}: there is no such image; mend the path, or take its line away.")
        case = replace(case, digest=_digest(case.image))
        other = kept.setdefault(case.digest, case)
        differs = _digest(other.labels) != _digest(case.labels) if case.labels else str(other.truth) != str(case.truth)
        if differs:
            raise InputError(
                f"{case.image}: this has the same content as {other.image}, but another truth; take one away."
            )
    return list(kept.values())


def _digest(path: Path) -> str:
    """Of a file's content; of a header that has its voxels in another file, of both."""
    data = [p for p in path.parent.glob(f"{glob.escape(path.stem)}.*") if p != path] if path.suffix in HEADERS else []
    return " ".join(sha256(file) for file in [path, *sorted(data)])


def load(card: ModelCard, case: Case) -> Example:
    """Read a case and prepare it; the labels go to the network's grid too.

    :raises InputError: naming the file, for a picture that is no single slice, a mask on another grid, a value that
        the card has no label for, or whatever :func:`prepare` refuses.
    """
    import torch

    volume = read_volume(case.image)
    prepared = prepare(card, volume)
    image = prepared.tensor
    if card.spatial.mode == "slices" and card.task == "classification":
        if len(image[0]) != 1:
            raise InputError(
                f"{case.image}: a slice-wise classifier learns from pictures of one slice, and this has {len(image[0])}; "
                "cut out the slices whose class is known."
            )
        image = image[:, 0]
    if case.labels is None:
        return Example(image, torch.tensor(case.truth))
    mask = truth_of(case)
    if not mask.grid.same_as(volume.grid, 1e-2):
        raise InputError(
            f"{case.labels}: the mask lies on another grid than {case.image} (shape {mask.shape} instead of {volume.shape}, or "
            "another place); resample it onto the image."
        )
    values = len(card.output.labels) + (not card.output.exclusive)
    if mask.array.max() >= values or mask.array.min() < 0:
        raise InputError(
            f"{case.labels}: the value {mask.array.max()} is in the mask, and the card's labels go to {values - 1}; add the "
            "label to the card, or mend the mask."
        )
    moved = resample(mask, prepared.grid, order=0).array
    return Example(image, torch.from_numpy(moved.astype(np.int64))[None])


def truth_of(case: Case) -> Volume:
    """The label map of a case.

    :raises InputError: where labels overlap, or as :func:`MedXAILib.io.segmentation.read_labels`.
    """
    labels = read_labels(case.labels)
    if any(row.shared for row in labels.rows):
        raise InputError(
            f"{case.labels}: its segments overlap, and a network learns one label for each voxel; cut them apart in Slicer's "
            "Segment Editor."
        )
    return labels.volume


def slices(example: Example) -> list[Example]:
    """The slices of a volume (channel, d0, d1, d2), for a 2D network that segments."""
    return [Example(example.image[:, n], example.truth[:, n]) for n in range(example.image.shape[1])]


def load_all(card: ModelCard, cases: Sequence[Case], progress: Progress) -> list[list[Example]]:
    """For each case its examples: one, or, for a slice-wise segmentation, one for each slice."""
    found = []
    for number, case in enumerate(cases):
        progress(number, len(cases), "Reading the cases")
        example = load(card, case)
        cut = card.spatial.mode == "slices" and card.task == "segmentation"
        found.append(slices(example) if cut else [example])
    return found


def expectations(
    card: ModelCard, cases: Sequence[Case], progress: Progress, say: Callable[[str], None]
) -> Expected | None:
    """What the model may expect of its inputs, measured on what it learned from; None where that is too little."""
    if len(cases) < LEAST:
        say(f"{len(cases)} cases do not show how much inputs vary: the card says nothing of what it expects.")
        return None

    def examples() -> Iterator[Prepared]:
        for number, case in enumerate(cases):
            progress(number, len(cases), "Measuring what inputs look like")
            yield prepare(card, read_volume(case.image))

    return measure(card, examples())


def split(
    recipe: Recipe, card: ModelCard, cases: Sequence[Case], loaded: Sequence[list[Example]]
) -> tuple[list[int], list[int]]:
    """Numbers of the cases for training and for validation: drawn class by class where classes
    exclude each other, groups of like pictures whole.

    :raises InputError: where a side would be empty.
    """
    groups = _groups(loaded, recipe.data.alike)
    kinds: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        kinds.setdefault(str(cases[group[0]].truth) if card.output.exclusive else "", []).append(number)
    rng = np.random.default_rng([recipe.seed, 1])
    held: list[int] = []
    for numbers in kinds.values():
        total = sum(len(groups[n]) for n in numbers)
        taken = 0
        for number in rng.permutation(numbers)[: len(numbers) - 1]:  # one group is always learned from
            if taken >= recipe.data.validation * total:
                break
            held += groups[number]
            taken += len(groups[number])
    kept = sorted(set(range(len(cases))) - set(held))
    if not kept or not held:
        raise InputError(
            f"{cases[0].image.parent}: {len(cases)} case(s) are too few to set some aside for validation; add more."
        )
    return kept, sorted(held)


def _groups(loaded: Sequence[list[Example]], alike: float | None) -> list[list[int]]:
    """Numbers of the cases that belong together: connected by thumbnails that correlate by more than ``alike``."""
    if alike is None:
        return [[n] for n in range(len(loaded))]
    from scipy.sparse.csgraph import connected_components

    small = _thumbnails(loaded)
    count, member = connected_components(small @ small.T > alike, directed=False)
    groups: list[list[int]] = [[] for _ in range(count)]
    for number, group in enumerate(member):
        groups[group].append(number)
    return groups


def strangers(
    recipe: Recipe, card: ModelCard, tested: list[Case], loaded: Sequence[list[Example]], progress: Progress
) -> list[Case]:
    """The test cases that look like none of the training's, where the recipe says what is alike; else all.

    :raises InputError: for a test case that cannot be used, before anything is trained.
    """
    read = load_all(card, tested, progress)
    if not tested or recipe.data.alike is None:
        return tested
    correlation = _thumbnails(read) @ _thumbnails(loaded).T
    return [case for case, row in zip(tested, correlation, strict=True) if row.max() <= recipe.data.alike]


def _thumbnails(loaded: Sequence[list[Example]]) -> np.ndarray:
    """One row for each case, of mean 0 and length 1: of a volume in slices, its middle one."""
    import torch
    from torch.nn import functional

    rows = []
    for examples in loaded:
        image = examples[len(examples) // 2].image
        pool = functional.adaptive_avg_pool2d if image.ndim == 3 else functional.adaptive_avg_pool3d
        rows.append(pool(image, THUMBNAIL if image.ndim == 3 else THUMBNAIL // 2).mean(0).flatten())
    small = torch.stack(rows)
    return functional.normalize(small - small.mean(1, keepdim=True), dim=1).numpy()
