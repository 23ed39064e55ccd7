"""LIME (Ribeiro, Singh and Guestrin, KDD 2016): a linear surrogate over superpixels that are switched on and off.

Everything but the masking is lime's own choice for images: the random draws, the kernel, the ridge regression,
so that the coefficients are those of ``lime.lime_image`` for the same superpixels, fill and seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..caveats import CAUTION, NOTE, Caveat
from ..progress import Progress, silent
from .method import Query, QueryMethod, QueryResult, ScoreFunction, Segments
from .option import SAMPLES, SUPERPIXELS
from .perturbation import Scores, default_samples, superpixel_samples, switched, unmoved

if TYPE_CHECKING:
    import torch

KERNEL_WIDTH = 0.25
FAIR_R2 = 0.5
"""Below this, the surrogate is said to describe the network poorly."""


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The linear models of T scores over n superpixels.

    :ivar coefficients: (T, n) float64; how much the score rises when the superpixel is shown;
        all 0 where no sample changed the score by more than rounding.
    :ivar intercepts: (T,) float64.
    :ivar r2: (T,) float64; the weighted R2 of the fit.
    :ivar samples: perturbed inputs, the unperturbed one included: the model evaluations spent.
    """

    coefficients: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    r2: NDArray[np.float64]
    samples: int

    @property
    def evaluations(self) -> int:
        """Of the network."""
        return self.samples

    def caveats(self, target: int = 0) -> tuple[Caveat, ...]:
        """What limits belief in the coefficients of one score."""
        count = self.coefficients.shape[1]
        if not self.coefficients[target].any():
            return (Caveat("unmoved", "Hiding superpixels never changed the score: LIME has nothing to show."),)
        if self.samples <= count:
            text = (
                f"{self.samples} samples for {count} superpixels: the surrogate fits by itself, and its R2 says nothing; give "
                "more samples."
            )
            return (Caveat("too-few-samples", text, CAUTION, {"samples": self.samples, "superpixels": count}),)
        r2 = float(self.r2[target])
        found = Caveat(
            "surrogate-fit", f"LIME's surrogate explains R2 = {r2:.2f} of the score's variance.", NOTE, {"r2": r2}
        )
        poor = Caveat(
            "surrogate-poor",
            "The linear surrogate describes the network poorly: read its map with caution.",
            CAUTION,
            {"r2": r2},
        )
        return (found, poor) if r2 < FAIR_R2 else (found,)


def lime(
    x: torch.Tensor,
    score: ScoreFunction,
    segments: Segments,
    *,
    fill: torch.Tensor,
    samples: int,
    seed: int,
    batch: int = 8,
    progress: Progress = silent,
) -> Surrogate:
    """Fit the surrogate of every score from one set of perturbed inputs.

    The first sample is ``x`` itself; in the others each superpixel is shown with probability 1/2, drawn by
    ``numpy.random.RandomState(seed)``. A sample weighs sqrt(exp(-d^2 / .25^2)), d being the cosine distance of its
    row of switches to all ones. Ridge regression (alpha 1) over all superpixels by ``lime.lime_base.LimeBase``.

    :param x: (channel, *spatial), the preprocessed input, on any device.
    :param score: (b, channel, *spatial) to the T scores (b, T); called without gradients.
    :param segments: (*spatial) integers 0..n-1, each of them present.
    :param fill: what a hidden superpixel shows; broadcasts to ``x``; see :func:`MedXAILib.attribution.fills.mean_fill`.
    :param batch: samples in a call of ``score``.
    :param progress: called after each batch; what it raises passes through.
    """
    on = switches(samples, int(segments.max()) + 1, seed)
    return fit(on, switched(x, score, segments, on, fill=fill, batch=batch, progress=progress, text="LIME"))


def switches(samples: int, count: int, seed: int) -> NDArray[np.bool_]:
    """bool (samples, count): all true in the first row, then fair coins, drawn as lime draws them."""
    on = np.random.RandomState(seed).randint(0, 2, samples * count).reshape(samples, count).astype(bool)  # noqa: NPY002
    on[0] = True
    return on


def fit(on: NDArray[np.bool_], scores: Scores) -> Surrogate:
    """The surrogates of scores (S, T) over the switches (S, n) that led to them."""
    from lime.lime_base import LimeBase

    base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / KERNEL_WIDTH**2)))
    rows = on.astype(np.float64)
    distances = 1 - np.sqrt(rows.mean(axis=1))  # the cosine distance of a row of zeros and ones to all ones
    targets, count = scores.shape[1], on.shape[1]
    coefficients, intercepts, r2 = np.zeros((targets, count)), np.zeros(targets), np.zeros(targets)
    for t, still in enumerate(unmoved(scores)):
        if still:
            intercepts[t] = scores[0, t]
            continue
        intercepts[t], pairs, r2[t], _ = base.explain_instance_with_data(
            rows, scores, distances, t, count, feature_selection="none"
        )
        for feature, value in pairs:
            coefficients[t, feature] = value
    return Surrogate(coefficients, intercepts, r2, len(on))


def run_lime(query: Query) -> QueryResult:
    """See :func:`lime`."""
    segments = query.superpixels()
    samples = query.options["samples"] or default_samples(int(segments.max()) + 1)
    found = lime(
        query.x, query.score, segments, fill=query.fill, samples=samples, seed=query.seed, batch=query.batch,
        progress=query.progress,
    )  # fmt: skip
    return QueryResult(
        segments=segments, coefficients=found.coefficients, evaluations=found.evaluations,
        caveats=[found.caveats(t) for t in range(len(found.coefficients))],
        parameters={"samples": samples, "kernel_width": KERNEL_WIDTH},
    )  # fmt: skip


METHOD = QueryMethod(
    name="lime",
    title="LIME",
    cost="one forward pass for each sample (10 for each superpixel, at least 200)",
    reference="Ribeiro et al. 2016, arXiv 1602.04938",
    signed=True,
    reading="LIME is a straight-line model of the network over superpixels: another seed or other superpixels give another map, and a value belongs to its superpixel as a whole.",
    evaluations=superpixel_samples,
    run=run_lime,
    options=(SAMPLES, SUPERPIXELS),
)
