"""How good a network is: scores of cases, and means with bootstrap intervals; and what the inputs look like that it knows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..findings.reference import dice
from ..io.read import read_volume
from ..models.card import Expected, ModelCard
from ..models.loading import Model
from ..prediction import Classification, best_class, predict
from ..preprocessing import suitability
from ..preprocessing.prepare import Prepared, prepare
from ..progress import Progress
from .cases import TrainingCase, truth_of

Array = NDArray[Any]
Figures = dict[str, int | float | list[float] | dict[str, list[int]]]
"""What a card says of a network on some cases: a number, a value with its interval, or the table of CONFUSION."""

RESAMPLES, BLOCK = 10_000, 100
"""Of the bootstrap, and how many of them are in memory at once; the intervals on the cards follow from both."""
CONFUSION = "confusion (rows: true; columns: said)"
"""The figure that has, for each true class, how often each class was said."""


def interval(*samples: Array, statistic: Callable[..., Array | np.floating[Any]] = np.mean) -> list[float]:
    """A statistic over cases and its 95 % interval: [value, lower, upper].

    The percentile bootstrap over cases (Efron 1979): 10,000 resamples, the same ones every time. A resample for which the
    statistic is not defined does not count.

    :param samples: what is known of the cases, each (case,), resampled together.
    :param statistic: of such samples along their last axis.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    value = statistic(*samples, axis=-1)
    values = np.array([value])
    if len(samples[0]) > 1:  # of one case there is one resample
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DegenerateDataWarning)  # told where a resample has no value
            values = bootstrap(
                samples,
                statistic,
                n_resamples=RESAMPLES,
                batch=BLOCK,
                paired=True,
                vectorized=True,
                method="percentile",
                random_state=np.random.default_rng(0),
            ).bootstrap_distribution
    return [float(f"{v:.4g}") for v in (value, *np.nanpercentile(values, [2.5, 97.5]))]


def auroc(scores: Array, truth: Array, axis: int = -1) -> Array:
    """Area under the ROC curve: the fraction of pairs in the right order, ties half (Mann and Whitney 1947); nan without
    both kinds. Of many samples at once, which scikit-learn takes one by one: the bootstrap would take minutes.

    :param scores: (..., case), along ``axis``. :param truth: of the same shape, 1 yes.
    """
    from scipy.stats import rankdata

    yes = truth == 1
    count, others = yes.sum(axis), (~yes).sum(axis)
    ahead = np.where(yes, rankdata(scores, axis=axis), 0).sum(axis) - count * (count + 1) / 2
    with np.errstate(invalid="ignore"):
        area: Array = ahead / (count * others)
    return area


def parts(card: ModelCard) -> list[tuple[int, str]]:
    """(value in a label map, name) of a segmentation's labels, without the background."""
    names = [label.name for label in card.output.labels]
    return list(enumerate(names))[1:] if card.output.exclusive else list(enumerate(names, 1))


def label_map(card: ModelCard, logits: Array) -> Array:
    """Label values (*spatial) from logits (class, *spatial), on the network's grid."""
    best: Array = best_class(logits, card.output.exclusive)
    return best if card.output.exclusive else np.where(best == len(logits), 0, best + 1)


def dice_of_parts(card: ModelCard, found: Array, truth: Array) -> list[float]:
    """Dice of each label but the background, of two label maps."""
    return [dice(found == value, truth == value) for value, _ in parts(card)]


def accuracy(scores: Array, truth: Array) -> float:
    """Fraction of the cases whose highest score is the true class; both (cases, classes)."""
    return float((scores.argmax(1) == truth.argmax(1)).mean())


def known(truth: Array) -> NDArray[np.bool_]:
    """Where a label is said to be there or not."""
    return np.isin(truth, (0, 1))


def aurocs(card: ModelCard, scores: Array, truth: Array) -> dict[str, float]:
    """Of each label, over the cases where it is known; both (cases, classes)."""
    names = [label.name for label in card.output.labels]
    sure = known(truth)
    return {name: float(auroc(scores[sure[:, n], n], truth[sure[:, n], n])) for n, name in enumerate(names)}


def measure(model: Model, cases: Sequence[TrainingCase], progress: Progress, text: str) -> Figures:
    """The figures of a model on cases, measured as its users run it: by predict(), on the files' own grids."""
    results = []
    for number, case in enumerate(cases):
        progress(number, len(cases), text)
        prediction = predict(model, read_volume(case.image))
        if isinstance(prediction, Classification):
            results.append(list(prediction.probabilities.values()))
        else:
            assert prediction.labels is not None
            results.append(dice_of_parts(model.card, prediction.labels.volume.array, truth_of(case).array))
    rows = np.array(results, float)
    if model.card.voxelwise:
        return segmentation_figures(model.card, rows)
    return classification_figures(model.card, rows, np.array([case.truth for case in cases]))


def segmentation_figures(card: ModelCard, rows: Array) -> Figures:
    """:param rows: Dice (cases, labels); nan, where a label is neither there nor found, does not count."""
    figures: Figures = {"cases": len(rows)}
    some = rows[np.isfinite(rows).any(1)]
    if not len(some):
        return figures
    of_cases = np.nanmean(some, 1)
    figures["mean Dice"] = interval(of_cases)
    for column, (_, name) in enumerate(parts(card)):
        one = rows[np.isfinite(rows[:, column]), column]
        if len(one):
            figures[f"Dice of {name}"] = interval(one)
    return figures | {"lowest mean Dice of a case": float(f"{of_cases.min():.4g}")}


def classification_figures(card: ModelCard, scores: Array, truth: Array) -> Figures:
    """:param scores: (cases, classes), logits or probabilities; ``truth``: of the same shape."""
    from sklearn.metrics import confusion_matrix

    names = [label.name for label in card.output.labels]
    figures: Figures = {"cases": len(scores)}
    if not card.output.exclusive:
        sure = known(truth)
        for n, name in enumerate(names):
            if len(set(truth[sure[:, n], n])) == 2:
                figures[f"AUROC of {name}"] = interval(scores[sure[:, n], n], truth[sure[:, n], n], statistic=auroc)
        return figures
    said, true = scores.argmax(1), truth.argmax(1)
    figures["accuracy"] = interval((said == true).astype(float))
    for index, name in enumerate(names):
        mine = said[true == index] == index
        if len(mine):
            figures[f"recall of {name}"] = interval(mine.astype(float))
    table = confusion_matrix(true, said, labels=range(len(names)))
    return figures | {CONFUSION: dict(zip(names, table.tolist(), strict=True))}


def expectations(
    card: ModelCard, cases: Sequence[TrainingCase], progress: Progress, message: Callable[[str], None]
) -> Expected | None:
    """What the model may expect of its inputs, measured on what it learned from; None where that is too little."""
    if len(cases) < suitability.LEAST:
        message(f"{len(cases)} cases do not show how much inputs vary: the card says nothing of what it expects.")
        return None

    def examples() -> Iterator[Prepared]:
        for number, case in enumerate(cases):
            progress(number, len(cases), "Measuring what inputs look like")
            yield prepare(card, read_volume(case.image))

    return suitability.measure(card, examples())
