"""Kernel SHAP (Lundberg and Lee, NeurIPS 2017): the score shared out among superpixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..caveats import CAUTION, NOTE, UNRELIABLE, Caveat
from ..progress import Progress, silent
from .method import Query, QueryMethod, QueryResult, ScoreFunction, Segments
from .option import SAMPLES, SUPERPIXELS
from .perturbation import Scores, default_samples, superpixel_samples, switched, unmoved

if TYPE_CHECKING:
    import torch

Coalitions = NDArray[np.bool_]
"""Which superpixels are shown, (p, n)."""
ROUGH = 0.25
"""From this standard error, in parts of the largest value, sampled Shapley values are said to be rough."""


@dataclass(frozen=True, eq=False)
class Shapley:
    """The Shapley values of n superpixels for T scores.

    :ivar coefficients: (T, n) float64; they sum to the score of the input less that of the all-hidden input;
        all 0 where no coalition changed the score by more than rounding.
    :ivar errors: (T, n) float64; their standard errors: 0 where exact, infinite where the samples do not determine them.
    :ivar base: (T,) float64; the score of the all-hidden input.
    :ivar exact: whether every coalition was evaluated.
    :ivar evaluations: model evaluations spent, those of the whole and the all-hidden input included.
    """

    coefficients: NDArray[np.float64]
    errors: NDArray[np.float64]
    base: NDArray[np.float64]
    exact: bool
    evaluations: int

    def caveats(self, target: int = 0) -> tuple[Caveat, ...]:
        """What limits belief in the coefficients of one score."""
        values, count = np.abs(self.coefficients[target]), self.coefficients.shape[1]
        if not values.any():
            return (Caveat("unmoved", "Hiding superpixels never changed the score: Kernel SHAP has nothing to show."),)
        if self.exact:
            text = f"The Shapley values are exact: all 2^{count} coalitions of superpixels were evaluated."
            return (Caveat("exact", text, NOTE, {"superpixels": count}),)
        figures: dict[str, float] = {"evaluations": self.evaluations, "superpixels": count}
        if not np.isfinite(self.errors[target]).all():
            text = (
                f"{self.evaluations} evaluations for {count} superpixels do not determine their Shapley values: "
                "give more samples."
            )
            return (Caveat("too-few-samples", text, UNRELIABLE, figures),)
        error = float(self.errors[target].max() / values.max())
        text = (
            f"The Shapley values are estimated from {self.evaluations} of 2^{count} coalitions of superpixels, "
            f"with a standard error of up to {error:.0%} of the largest value."
        )
        found = Caveat("standard-error", text, NOTE, figures | {"error": round(error, 4)})
        rough = Caveat("rough", "The Shapley values are rough: give more samples.", CAUTION, {"error": round(error, 4)})
        return (found, rough) if error > ROUGH else (found,)


def kernel_shap(
    x: torch.Tensor,
    score: ScoreFunction,
    segments: Segments,
    *,
    fill: torch.Tensor,
    samples: int,
    seed: int,
    batch: int = 8,
    progress: Progress = silent,
) -> Shapley:
    """The Shapley values of superpixels, by weighted least squares (Lundberg and Lee 2017, arXiv 1705.07874, Theorem 2).

    Minimises sum_z pi(z) (f(z) - f(hidden) - z phi)^2 over coalitions z of shown superpixels, with
    pi(z) = (n - 1) / (C(n, |z|) |z| (n - |z|)), subject to sum phi = f(x) - f(hidden). With 2^n - 2 <= ``samples`` every
    coalition is evaluated, and the values are exact. Else coalitions are drawn by pi, each with its complement
    (Covert and Lee 2021, arXiv 2012.01536), by ``numpy.random.default_rng(seed)``; one that is drawn again counts again
    but is not evaluated again. Where they do not determine the values, those of the smallest norm are taken.

    :param segments: (*spatial) integers 0..n-1, each of them present.
    :param samples: coalitions beside the whole and the empty one, at most, in pairs; at least one pair.
    """
    count = int(segments.max()) + 1
    exact = 2**count - 2 <= samples
    shown, weights = _all_pairs(count) if exact else _drawn_pairs(count, max(samples // 2, 1), seed)
    whole = np.ones((1, count), bool)
    on = np.concatenate([whole, ~whole, shown, ~shown])
    scores = switched(x, score, segments, on, fill=fill, batch=batch, progress=progress, text="Kernel SHAP")
    values, errors = _least_squares(shown, weights, scores)
    values[unmoved(scores)] = errors[unmoved(scores)] = 0
    return Shapley(values, np.zeros_like(errors) if exact else errors, scores[1], exact, len(on))


def _all_pairs(count: int) -> tuple[Coalitions, NDArray[np.float64]]:
    """Every coalition with superpixel 0, but for the whole, bool (p, n), for itself and its complement; and pi, (p,)."""
    shown = (np.arange(1, 2**count - 1, 2)[:, None] >> np.arange(count) & 1).astype(bool)
    sizes = shown.sum(1)
    return shown, np.array([(count - 1) / (math.comb(count, s) * s * (count - s)) for s in sizes.tolist()])


def _drawn_pairs(count: int, pairs: int, seed: int) -> tuple[Coalitions, NDArray[np.int_]]:
    """Coalitions with superpixel 0, for themselves and their complements, bool (p, n); and how often each was drawn."""
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, count)
    weight = 1 / (sizes * (count - sizes))  # pi times the number of coalitions of a size
    drawn = rng.choice(sizes, size=(pairs, 1), p=weight / weight.sum())
    shown = rng.random((pairs, count)).argsort(1) < drawn
    return np.unique(shown ^ ~shown[:, :1], axis=0, return_counts=True)


def _least_squares(
    shown: Coalitions, weights: NDArray[np.float64] | NDArray[np.int_], scores: Scores
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """phi (T, n) and its standard errors, were the pairs independent draws.

    A coalition and its complement weigh the same and are two equations in one unknown, as z phi + (1 - z) phi is given:
    they are one equation with the mean of the two. Taking the even share out of z and phi leaves no constraint.

    :param shown: bool (p, n), one coalition of each pair.
    :param scores: (2 + 2 p, T), of the whole, the empty, ``shown`` and ``~shown``.
    """
    pairs, count = shown.shape
    total = scores[0] - scores[1]
    size = shown.mean(1, keepdims=True)
    z, root = shown - size, np.sqrt(weights)[:, None]
    y = (scores[2 : 2 + pairs] - scores[2 + pairs :] + total) / 2 - size * total
    inverse = np.linalg.pinv(root * z, rcond=1e-10)
    even = inverse @ (root * y)
    rank = round(float((inverse.T * root * z).sum()))
    residual = y - z @ even
    if rank < count - 1 or pairs <= rank:
        errors = np.full(even.shape, np.inf)
    else:
        errors = np.sqrt(inverse**2 @ residual**2 * (pairs / (pairs - rank)))
    return (even + total / count).T, errors.T


def run_shap(query: Query) -> QueryResult:
    """See :func:`kernel_shap`."""
    segments = query.superpixels()
    samples = query.options["samples"] or default_samples(int(segments.max()) + 1)
    found = kernel_shap(
        query.x, query.score, segments, fill=query.fill, samples=samples, seed=query.seed, batch=query.batch,
        progress=query.progress,
    )  # fmt: skip
    return QueryResult(
        segments=segments, coefficients=found.coefficients, evaluations=found.evaluations,
        caveats=[found.caveats(t) for t in range(len(found.coefficients))], parameters={"samples": samples},
    )  # fmt: skip


METHOD = QueryMethod(
    name="shap",
    title="Kernel SHAP",
    cost="one forward pass for each coalition of superpixels (10 for each superpixel, at least 200)",
    reference="Lundberg and Lee 2017, arXiv 1705.07874",
    signed=True,
    reading="Kernel SHAP shares the score out among superpixels as wholes: other superpixels, or another content in place of the hidden ones, give another map.",
    evaluations=superpixel_samples,
    run=run_shap,
    options=(SAMPLES, SUPERPIXELS),
)
