"""Methods that only ask for scores of changed inputs: occlusion, RISE and Kernel SHAP.

They explain the score they are given, as it is: no activation is put on top of it and none is guessed from the input.
In all of them ``x`` is the preprocessed input (channel, *spatial), on any device, ``score`` takes a batch
(b, channel, *spatial) to the T scores (b, T) and is called without gradients, ``fill`` is what a hidden voxel shows
and broadcasts to ``x`` (see :func:`MedXAILib.attribution.lime.mean_fill`), ``batch`` counts the inputs in one call of
``score``, and ``progress`` is called after each of them; what it raises passes through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent

if TYPE_CHECKING:
    import torch

    Scorer = Callable[[torch.Tensor], torch.Tensor]

ROUNDING = 1e-6
"""Scores that differ by less than this part of the largest are the same."""
PER_AXIS_2D = 15
"""Patches along the longest axis of a slice: 15 x 15 is 225 evaluations, and on 64 x 64 voxels a patch has 8 x 8."""
PER_AXIS_3D = 8
"""Patches along the longest axis of a volume: 8 x 8 x 8 is 512 evaluations, and on 96^3 voxels a patch has 21^3."""
MOSTLY_CHANCE = 0.5
"""From this share of chance in its variance, a RISE map is said to be mostly noise."""
ROUGH = 0.25
"""From this standard error, in parts of the largest value, sampled Shapley values are said to be rough."""


@dataclass(frozen=True, eq=False)
class Painted:
    """The maps of T scores.

    :ivar values: (T, *spatial) float32; positive where showing a voxel raises the score;
        all 0 where no changed input changed the score by more than rounding.
    :ivar evaluations: model evaluations spent.
    :ivar remarks: for each score, the sentences of :meth:`limits`.
    """

    values: np.ndarray
    evaluations: int
    remarks: tuple[tuple[str, ...], ...]

    def limits(self, target: int = 0) -> tuple[str, ...]:
        """What limits belief in the map of one score, one sentence each."""
        return self.remarks[target]


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

    coefficients: np.ndarray
    errors: np.ndarray
    base: np.ndarray
    exact: bool
    evaluations: int

    def limits(self, target: int = 0) -> tuple[str, ...]:
        """What limits belief in the coefficients of one score, one sentence each."""
        values, count = np.abs(self.coefficients[target]), self.coefficients.shape[1]
        if not values.any():
            return ("Hiding superpixels never changed the score: Kernel SHAP has nothing to show.",)
        if self.exact:
            return (f"The Shapley values are exact: all 2^{count} coalitions of superpixels were evaluated.",)
        if not np.isfinite(self.errors[target]).all():
            return (
                f"{self.evaluations} evaluations for {count} superpixels do not determine their Shapley values: "
                "give more samples.",
            )
        error = self.errors[target].max() / values.max()
        sentences = [
            f"The Shapley values are estimated from {self.evaluations} of 2^{count} coalitions of superpixels, "
            f"with a standard error of up to {error:.0%} of the largest value."
        ]
        if error > ROUGH:
            sentences.append("The Shapley values are rough: give more samples.")
        return tuple(sentences)


def occlusion(
    x: torch.Tensor,
    score: Scorer,
    *,
    fill: torch.Tensor,
    patch: Sequence[int],
    stride: Sequence[int],
    batch: int = 8,
    progress: Progress = silent,
) -> Painted:
    """How much the score drops when a patch is hidden (Zeiler and Fergus 2014, arXiv 1311.2901).

    Each voxel takes the mean of score(x) - score(patch hidden) over the patches that cover it, with its sign.
    The patches cover the whole input: the last one along an axis ends flush with the edge. A patch that changes no
    value of ``x`` drops nothing and costs no evaluation.

    :param patch: voxels of a patch along the spatial axes, in all channels; see :func:`patches`.
    :param stride: voxels from one patch to the next.
    :raises InputError: for a stride of less than one voxel, or of more than the patch.
    """
    changed = (x != fill).any(0).cpu().numpy()
    places = _windows(changed.shape, patch, stride)
    nothing = (slice(0, 0),) * changed.ndim
    windows = [nothing, *(place for place in places if changed[place].any())]
    everywhere = fill.to(x).expand_as(x)

    def hidden(start: int, stop: int) -> torch.Tensor:
        inputs = x.repeat(stop - start, *[1] * x.ndim)
        for row, window in zip(inputs, windows[start:stop], strict=True):
            row[:, *window] = everywhere[:, *window]
        return inputs

    scores = ask(hidden, len(windows), score, batch, progress, "Occlusion")
    drops = scores[0] - scores
    drops[:, unmoved(scores)] = 0
    covered, values = np.zeros(changed.shape), np.zeros((drops.shape[1], *changed.shape))
    for place in places:
        covered[place] += 1
    for window, drop in zip(windows, drops, strict=True):
        values[:, *window] += drop.reshape(-1, *[1] * changed.ndim)
    silence = ("Hiding patches never changed the score: occlusion has nothing to show.",)
    return Painted(
        (values / covered).astype(np.float32), len(windows), tuple(() if d.any() else silence for d in drops.T)
    )


def patches(
    shape: Sequence[int], spacing: Sequence[float], per_axis: int | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The patch and the stride, in voxels, of an occlusion whose patches are cubes in mm that overlap by half.

    :param shape: voxels along the spatial axes; where it is 1, so are patch and stride.
    :param spacing: mm between voxels along them.
    :param per_axis: patches along the longest axis, roughly; by default 15 for a slice and 8 for a volume.
    """
    if per_axis is None:
        per_axis = PER_AXIS_3D if sum(n > 1 for n in shape) > 2 else PER_AXIS_2D
    side = 2 * max(n * mm for n, mm in zip(shape, spacing, strict=True)) / (per_axis + 1)
    patch = tuple(min(max(round(side / mm), 1), n) for n, mm in zip(shape, spacing, strict=True))
    stride = tuple(min(max(round(side / 2 / mm), 1), p) for p, mm in zip(patch, spacing, strict=True))
    return patch, stride


def occlusion_evaluations(shape: Sequence[int], patch: Sequence[int], stride: Sequence[int]) -> int:
    """The evaluations of an occlusion, at most: one for each patch, and one for the input."""
    return 1 + len(_windows(shape, patch, stride))


def _windows(shape: Sequence[int], patch: Sequence[int], stride: Sequence[int]) -> list[tuple[slice, ...]]:
    """Where the patches lie."""
    axes = []
    for n, p, step in zip(shape, patch, stride, strict=True):
        if not 1 <= step <= p:
            raise InputError(f"Patches of {p} voxels cannot be {step} voxels apart: give a stride from 1 to the patch.")
        last = max(n - p, 0)
        axes.append([slice(start, start + p) for start in (*range(0, last, step), last)])
    return list(product(*axes))


def rise(
    x: torch.Tensor,
    score: Scorer,
    *,
    fill: torch.Tensor,
    samples: int,
    seed: int,
    cells: Sequence[int],
    batch: int = 8,
    progress: Progress = silent,
) -> Painted:
    """The mean score of randomly masked inputs, weighted by their masks (Petsiuk et al. 2018, arXiv 1806.07421, eq. 6).

    The map is sum_n (S_n - mean S) M_n / (samples E[M]) over inputs M x + (1 - M) fill, with E[M] = 1/2. In the paper
    the scores are probabilities, and their mean is not subtracted; ours are logits, of either sign, whose mean would
    only add a copy of the mean mask. So the map estimates E[S | voxel shown] - E[S]: negative where showing a voxel
    lowers the score. The masks are :func:`masks` of :func:`draws`.

    Memory: one batch of masks and two sums, (T, *spatial) and (*spatial), whatever the number of samples.

    :param samples: masks, which is also the number of evaluations.
    :param cells: cells of the random grids along the spatial axes; at most one for each voxel is made.
    """
    import torch

    grids, shifts = draws(samples, [min(n, c) for n, c in zip(x.shape[1:], cells, strict=True)], seed)
    weighted, shown, squares, scores = 0, 0, 0.0, []
    with torch.no_grad():
        everywhere = fill.to(x).expand_as(x)
        for start in range(0, samples, batch):
            m = masks(grids[start : start + batch], shifts[start : start + batch], x)
            found = score(torch.lerp(everywhere, x, m.unsqueeze(1)))
            scores.append(found.double().cpu().numpy())
            weighted = weighted + torch.tensordot(found.to(m), m, ([0], [0])).double()
            shown = shown + m.sum(0, dtype=torch.float64)
            squares += float(torch.linalg.vector_norm(m)) ** 2
            progress(min(start + batch, samples), samples, "RISE")
    scores, weighted, shown = np.concatenate(scores), weighted.cpu().numpy(), shown.cpu().numpy()
    values = 2 / samples * (weighted - np.multiply.outer(scores.mean(0), shown))
    values[unmoved(scores)] = 0
    spread = (squares - (shown**2).sum() / samples) / shown.size  # a voxel's masks: their sum of squares about the mean
    chance = 4 * scores.var(0) * spread / samples / max(samples - 1, 1)  # a voxel's variance, were the scores shuffled
    remarks = tuple(_rise_remarks(c, v, samples) for c, v in zip(chance, values, strict=True))
    return Painted(values.astype(np.float32), samples, remarks)


def _rise_remarks(chance: float, values: np.ndarray, samples: int) -> tuple[str, ...]:
    """What limits belief in a RISE map: how much of it the same scores give when they are dealt to the masks anew."""
    if not values.any():
        return ("Masking never changed the score: RISE has nothing to show.",)
    share = min(chance / (values**2).mean(), 1)
    sentences = [f"With {samples} samples, chance alone gives {share:.0%} of the RISE map's variance."]
    if share > MOSTLY_CHANCE:
        sentences.append("The RISE map is mostly noise: give more samples.")
    return tuple(sentences)


def draws(samples: int, cells: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The random part of RISE's masks: grids, bool (samples, *cells), true with probability 1/2; and shifts in parts of
    a cell, (samples, axes) in [0, 1)."""
    rng = np.random.default_rng(seed)
    return rng.random((samples, *cells)) < 0.5, rng.random((samples, len(cells)))


def masks(grids: np.ndarray, shifts: np.ndarray, x: torch.Tensor) -> torch.Tensor:
    """RISE's masks (b, *spatial) in [0, 1] of grids (b, *cells) and shifts (b, axes), of the kind and size of ``x``.

    Along an axis of n voxels and h cells, the grid is enlarged linearly to h + 1 lengths of C = n / h voxels, voxel
    centres as with ``align_corners=False``, and n voxels are cut out from ``shift * C`` on (section 3.2 of the paper,
    but that neither C nor the shift is rounded to whole voxels).

    :param x: (channel, *spatial).
    """
    import torch

    found = torch.from_numpy(grids).to(x)
    for axis, (n, h) in enumerate(zip(x.shape[1:], grids.shape[1:], strict=True)):
        enlarged = (h + 1) / h * (n / h)  # voxels of a cell
        voxels = torch.arange(n) + 0.5 + torch.from_numpy(shifts[:, axis, None]) * (n / h)
        at = (voxels / enlarged - 0.5).clamp(0, h - 1)
        weights = (1 - (at.unsqueeze(2) - torch.arange(h)).abs()).clamp(min=0)
        found = torch.einsum("bh...,bnh->b...n", found, weights.to(x))  # the axes go round, once in all
    return found


def kernel_shap(
    x: torch.Tensor,
    score: Scorer,
    segments: np.ndarray,
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


def _all_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Every coalition with superpixel 0, but for the whole, bool (p, n), for itself and its complement; and pi, (p,)."""
    shown = (np.arange(1, 2**count - 1, 2)[:, None] >> np.arange(count) & 1).astype(bool)
    sizes = shown.sum(1)
    return shown, np.array([(count - 1) / (math.comb(count, s) * s * (count - s)) for s in sizes.tolist()])


def _drawn_pairs(count: int, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Coalitions with superpixel 0, for themselves and their complements, bool (p, n); and how often each was drawn."""
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, count)
    weight = 1 / (sizes * (count - sizes))  # pi times the number of coalitions of a size
    drawn = rng.choice(sizes, size=(pairs, 1), p=weight / weight.sum())
    shown = rng.random((pairs, count)).argsort(1) < drawn
    return np.unique(shown ^ ~shown[:, :1], axis=0, return_counts=True)


def _least_squares(shown: np.ndarray, weights: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def ask(
    make: Callable[[int, int], torch.Tensor], count: int, score: Scorer, batch: int, progress: Progress, text: str
) -> np.ndarray:
    """The scores, (count, T) float64, of the inputs that ``make(start, stop)`` makes."""
    import torch

    scores = []
    with torch.no_grad():
        for start in range(0, count, batch):
            stop = min(start + batch, count)
            scores.append(score(make(start, stop)).double().cpu().numpy())
            progress(stop, count, text)
    return np.concatenate(scores)


def switched(
    x: torch.Tensor,
    score: Scorer,
    segments: np.ndarray,
    on: np.ndarray,
    *,
    fill: torch.Tensor,
    batch: int,
    progress: Progress,
    text: str,
) -> np.ndarray:
    """The scores, (S, T) float64, of ``x`` with the superpixels hidden that are false in the rows of ``on`` (S, n)."""
    import torch

    where = torch.as_tensor(np.asarray(segments), dtype=torch.long, device=x.device)

    def make(start: int, stop: int) -> torch.Tensor:
        return torch.where(torch.from_numpy(on[start:stop]).to(x.device)[:, where].unsqueeze(1), x, fill)

    return ask(make, len(on), score, batch, progress, text)


def unmoved(scores: np.ndarray) -> np.ndarray:
    """Which scores are all the same but for rounding: (samples, T) to bool (T,)."""
    return np.ptp(scores, axis=0) <= ROUNDING * np.abs(scores).max(axis=0)
