"""Which cases are learned from, which choose the best epoch, and which test cases look like none of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..models.card import ModelCard
from ..progress import Progress
from .cases import TrainingCase
from .example import TrainingExample, load_all
from .recipe import Recipe

THUMBNAIL = 32


def split(
    recipe: Recipe, card: ModelCard, cases: Sequence[TrainingCase], loaded: Sequence[list[TrainingExample]]
) -> tuple[list[int], list[int]]:
    """Numbers of the cases for training and for validation: drawn class by class where classes
    exclude each other, groups of like pictures whole.

    :raises FileError: where a side would be empty.
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
        raise FileError(
            cases[0].image.parent, f"{len(cases)} case(s) are too few to set some aside for validation", "add more"
        )
    return kept, sorted(held)


def strangers(
    recipe: Recipe,
    card: ModelCard,
    tested: list[TrainingCase],
    loaded: Sequence[list[TrainingExample]],
    progress: Progress,
) -> list[TrainingCase]:
    """The test cases that look like none of the training's, where the recipe says what is alike; else all.

    :raises InputError: for a test case that cannot be used, before anything is trained.
    """
    read = load_all(card, tested, progress)
    if not tested or recipe.data.alike is None:
        return tested
    correlation = _thumbnails(read) @ _thumbnails(loaded).T
    return [case for case, row in zip(tested, correlation, strict=True) if row.max() <= recipe.data.alike]


def _groups(loaded: Sequence[list[TrainingExample]], alike: float | None) -> list[list[int]]:
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


def _thumbnails(loaded: Sequence[list[TrainingExample]]) -> NDArray[np.float32]:
    """One row for each case, of mean 0 and length 1: of a volume in slices, its middle one."""
    import torch
    from torch.nn import functional

    rows = []
    for examples in loaded:
        image = examples[len(examples) // 2].image
        pool = functional.adaptive_avg_pool2d if image.ndim == 3 else functional.adaptive_avg_pool3d
        rows.append(pool(image, THUMBNAIL if image.ndim == 3 else THUMBNAIL // 2).mean(0).flatten())
    small = torch.stack(rows)
    unit: NDArray[np.float32] = functional.normalize(small - small.mean(1, keepdim=True), dim=1).numpy()
    return unit
