"""How good a network is: scores of cases, and means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..io.read import read_volume
from ..models.card import ModelCard
from ..models.loading import Model
from ..prediction import best_class, predict
from ..progress import Progress
from .cases import Case, truth_of

RESAMPLES, BLOCK = 10_000, 100
"""Of the bootstrap, and how many of them are in memory at once."""
CONFUSION = "confusion (rows: true; columns: said)"
"""The figure that has, for each true class, how often each class was said."""


def means(samples: np.ndarray) -> np.ndarray:
    """Of samples (sample, case), the mean of each."""
    return samples.mean(1)


def interval(rows: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray] = means) -> list[float]:
    """A statistic over cases and its 95 % interval: [value, lower, upper].

    The percentile bootstrap over cases (Efron 1979): 10,000 resamples.

    :param rows: one row for each case.
    :param statistic: of each sample in an array (sample, case, ...).
    """
    rng = np.random.default_rng(0)
    picks = (rng.integers(len(rows), size=(BLOCK, len(rows))) for _ in range(RESAMPLES // BLOCK))
    values = np.concatenate([statistic(rows[pick]) for pick in picks])
    return [float(f"{v:.4g}") for v in (*statistic(rows[None]), *np.nanpercentile(values, [2.5, 97.5]))]


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two masks; nan where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else float("nan")


def auroc(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the share of pairs in the right order, ties half (Mann and Whitney 1947); nan without
    both kinds.

    :param scores, truth: (..., case).
    """
    from scipy.stats import rankdata

    yes = truth == 1
    count, others = yes.sum(-1), (~yes).sum(-1)
    ahead = np.where(yes, rankdata(scores, axis=-1), 0).sum(-1) - count * (count + 1) / 2
    with np.errstate(invalid="ignore"):
        return ahead / (count * others)


def parts(card: ModelCard) -> list[tuple[int, str]]:
    """(value in a label map, name) of a segmentation's labels, without the background."""
    names = [label.name for label in card.output.labels]
    return list(enumerate(names))[1:] if card.output.exclusive else list(enumerate(names, 1))


def label_map(card: ModelCard, logits: np.ndarray) -> np.ndarray:
    """Label values (*spatial) from logits (class, *spatial), on the network's grid."""
    best = best_class(logits, card.output.exclusive)
    return best if card.output.exclusive else np.where(best == len(logits), 0, best + 1)


def dice_of_parts(card: ModelCard, found: np.ndarray, truth: np.ndarray) -> list[float]:
    """Dice of each label but the background, of two label maps."""
    return [dice(found == value, truth == value) for value, _ in parts(card)]


def accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    """Share of the cases whose highest score is the true class; both (cases, classes)."""
    return float((scores.argmax(1) == truth.argmax(1)).mean())


def known(truth: np.ndarray) -> np.ndarray:
    """Where a label is said to be there or not."""
    return (truth == 0) | (truth == 1)


def aurocs(card: ModelCard, scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Of each label, over the cases where it is known; both (cases, classes)."""
    names = [label.name for label in card.output.labels]
    sure = known(truth)
    return {name: float(auroc(scores[sure[:, n], n], truth[sure[:, n], n])) for n, name in enumerate(names)}


def measure(model: Model, cases: Sequence[Case], progress: Progress, text: str) -> dict:
    """The figures of a model on cases, measured as its users run it: by predict(), on the files' own grids."""
    results = []
    for number, case in enumerate(cases):
        progress(number, len(cases), text)
        prediction = predict(model, read_volume(case.image))
        if case.labels is None:
            results.append(list(prediction.probabilities.values()))
        else:
            truth = truth_of(case).array
            results.append(dice_of_parts(model.card, prediction.labels.volume.array, truth))
    rows = np.array(results, float)
    if model.card.task == "segmentation":
        return segmentation_figures(model.card, rows)
    truth = np.array([case.truth for case in cases])
    return classification_figures(model.card, rows, truth)


def segmentation_figures(card: ModelCard, rows: np.ndarray) -> dict:
    """:param rows: Dice (cases, labels); nan, where a label is neither there nor found, does not count."""
    figures: dict = {"cases": len(rows)}
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


def classification_figures(card: ModelCard, scores: np.ndarray, truth: np.ndarray) -> dict:
    """:param scores: (cases, classes), logits or probabilities; ``truth``: of the same shape."""
    names = [label.name for label in card.output.labels]
    if not card.output.exclusive:
        rows, sure = np.stack([scores, truth], 2), known(truth)
        areas = {
            f"AUROC of {name}": interval(rows[sure[:, n], n], lambda pairs: auroc(pairs[..., 0], pairs[..., 1]))
            for n, name in enumerate(names)
            if len(set(truth[sure[:, n], n])) == 2
        }
        return {"cases": len(scores)} | areas
    said, true = scores.argmax(1), truth.argmax(1)
    figures = {"cases": len(scores), "accuracy": interval((said == true).astype(float))}
    for index, name in enumerate(names):
        mine = said[true == index] == index
        if len(mine):
            figures[f"recall of {name}"] = interval(mine.astype(float))
    table = [[int(((true == t) & (said == s)).sum()) for s in range(len(names))] for t in range(len(names))]
    return figures | {CONFUSION: dict(zip(names, table, strict=True))}
