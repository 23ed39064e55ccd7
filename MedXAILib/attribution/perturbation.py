"""Methods that only ask for scores of changed inputs: occlusion and RISE, and what others need to ask.

They explain the score they are given, as it is: no activation is put on top of it and none is guessed from the input.
In all of them ``x`` is the preprocessed input (channel, *spatial), on any device, ``score`` takes a batch
(b, channel, *spatial) to the T scores (b, T) and is called without gradients, ``fill`` is what a hidden voxel shows
and broadcasts to ``x`` (see :func:`MedXAILib.attribution.fills.mean_fill`), ``batch`` counts the inputs in one call of
``score``, and ``progress`` is called after each of them; what it raises passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..caveats import NOTE, UNRELIABLE, Caveat
from ..errors import InputError
from ..progress import Progress, silent
from .method import Cost, Floats, Query, QueryMethod, QueryResult, ScoreFunction, Segments
from .option import SAMPLES

if TYPE_CHECKING:
    import torch

Scores = NDArray[np.float64]
"""Of samples, (samples, T)."""
ROUNDING = 1e-6
"""Scores that differ by less than this part of the largest are the same."""
PER_AXIS_2D = 15
"""Patches along the longest axis of a slice: 15 x 15 is 225 evaluations, and on 64 x 64 voxels a patch has 8 x 8."""
PER_AXIS_3D = 8
"""Patches along the longest axis of a volume: 8 x 8 x 8 is 512 evaluations, and on 96^3 voxels a patch has 21^3."""
MOSTLY_CHANCE = 0.5
"""From this fraction of chance in its variance, a RISE map is said to be mostly noise."""


@dataclass(frozen=True, eq=False)
class Painted:
    """The maps of T scores.

    :ivar values: (T, *spatial) float32; positive where showing a voxel raises the score;
        all 0 where no changed input changed the score by more than rounding.
    :ivar evaluations: model evaluations spent.
    :ivar caveats: for each score, what limits belief in its map.
    """

    values: Floats
    evaluations: int
    caveats: tuple[tuple[Caveat, ...], ...]


def occlusion(
    x: torch.Tensor,
    score: ScoreFunction,
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
    silence = (Caveat("unmoved", "Hiding patches never changed the score: occlusion has nothing to show."),)
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
            raise InputError(
                f"Patches of {p} voxels cannot be {step} voxels apart", "give a stride from 1 to the patch", joint=": "
            )
        last = max(n - p, 0)
        axes.append([slice(start, start + p) for start in (*range(0, last, step), last)])
    return list(product(*axes))


def rise(
    x: torch.Tensor,
    score: ScoreFunction,
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
    totals, sums, squares = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64), 0.0
    rows: list[Scores] = []
    with torch.no_grad():
        everywhere = fill.to(x).expand_as(x)
        for start in range(0, samples, batch):
            m = masks(grids[start : start + batch], shifts[start : start + batch], x)
            found = score(torch.lerp(everywhere, x, m.unsqueeze(1)))
            rows.append(found.double().cpu().numpy())
            totals = totals + torch.tensordot(found.to(m), m, ([0], [0])).double()
            sums = sums + m.sum(0, dtype=torch.float64)
            squares += float(torch.linalg.vector_norm(m)) ** 2
            progress(min(start + batch, samples), samples, "RISE")
    scores, weighted, shown = np.concatenate(rows), totals.cpu().numpy(), sums.cpu().numpy()
    values = 2 / samples * (weighted - np.multiply.outer(scores.mean(0), shown))
    values[unmoved(scores)] = 0
    spread = (squares - (shown**2).sum() / samples) / shown.size  # a voxel's masks: their sum of squares about the mean
    chance = 4 * scores.var(0) * spread / samples / max(samples - 1, 1)  # a voxel's variance, were the scores shuffled
    caveats = tuple(_rise_caveats(c, v, samples) for c, v in zip(chance, values, strict=True))
    return Painted(values.astype(np.float32), samples, caveats)


def _rise_caveats(chance: float, values: NDArray[np.float64], samples: int) -> tuple[Caveat, ...]:
    """What limits belief in a RISE map: how much of it the same scores give when they are dealt to the masks anew."""
    if not values.any():
        return (Caveat("unmoved", "Masking never changed the score: RISE has nothing to show."),)
    part = float(min(chance / (values**2).mean(), 1))
    text = f"With {samples} samples, chance alone gives {part:.0%} of the RISE map's variance."
    found = Caveat("chance", text, NOTE, {"samples": samples, "fraction": round(part, 4)})
    noise = Caveat(
        "noise", "The RISE map is mostly noise: give more samples.", UNRELIABLE, {"fraction": round(part, 4)}
    )
    return (found, noise) if part > MOSTLY_CHANCE else (found,)


def draws(samples: int, cells: Sequence[int], seed: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The random part of RISE's masks: grids, bool (samples, *cells), true with probability 1/2; and shifts in parts of
    a cell, (samples, axes) in [0, 1)."""
    rng = np.random.default_rng(seed)
    return rng.random((samples, *cells)) < 0.5, rng.random((samples, len(cells)))


def masks(grids: NDArray[np.bool_], shifts: NDArray[np.float64], x: torch.Tensor) -> torch.Tensor:
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


def ask(
    make: Callable[[int, int], torch.Tensor],
    count: int,
    score: ScoreFunction,
    batch: int,
    progress: Progress,
    text: str,
) -> Scores:
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
    score: ScoreFunction,
    segments: Segments,
    on: NDArray[np.bool_],
    *,
    fill: torch.Tensor,
    batch: int,
    progress: Progress,
    text: str,
) -> Scores:
    """The scores, (S, T) float64, of ``x`` with the superpixels hidden that are false in the rows of ``on`` (S, n)."""
    import torch

    where = torch.as_tensor(np.asarray(segments), dtype=torch.long, device=x.device)

    def make(start: int, stop: int) -> torch.Tensor:
        return torch.where(torch.from_numpy(on[start:stop]).to(x.device)[:, where].unsqueeze(1), x, fill)

    return ask(make, len(on), score, batch, progress, text)


def unmoved(scores: Scores) -> NDArray[np.bool_]:
    """Which scores are all the same but for rounding: (samples, T) to bool (T,)."""
    same: NDArray[np.bool_] = np.ptp(scores, axis=0) <= ROUNDING * np.abs(scores).max(axis=0)
    return same


SAMPLES_PER_SUPERPIXEL = 10
LEAST_SAMPLES = 200
RISE_SAMPLES = 1000
RISE_CELLS = 7
"""Of RISE's random grids along each axis, as in the paper."""
IN_SLICE, IN_VOLUME = 50, 150
"""Default number of superpixels of a slice, of supervoxels of a volume."""


def default_samples(superpixels: int) -> int:
    """How many perturbed inputs so many superpixels want: the folk rule of 10 for each."""
    return max(SAMPLES_PER_SUPERPIXEL * superpixels, LEAST_SAMPLES)


def default_superpixels(by_slices: bool) -> int:
    """How many superpixels are cut unless asked otherwise."""
    return IN_SLICE if by_slices else IN_VOLUME


def superpixel_samples(cost: Cost) -> int:
    """Evaluations of a method over superpixels."""
    wanted = cost.options["superpixels"] or default_superpixels(cost.by_slices)
    return cost.options["samples"] or default_samples(wanted)


def patch_evaluations(cost: Cost) -> int:
    """Evaluations of an occlusion, at most."""
    return occlusion_evaluations(cost.shape, *patches(cost.shape, cost.spacing))


def mask_evaluations(cost: Cost) -> int:
    """Evaluations of RISE."""
    return cost.options["samples"] or RISE_SAMPLES


def run_occlusion(query: Query) -> QueryResult:
    """See :func:`occlusion`."""
    patch, stride = patches(tuple(query.x.shape[1:]), query.spacing)
    found = occlusion(
        query.x, query.score, fill=query.fill, patch=patch, stride=stride, batch=query.batch, progress=query.progress
    )
    places = occlusion_evaluations(tuple(query.x.shape[1:]), patch, stride)
    return QueryResult(
        values=found.values, evaluations=found.evaluations, caveats=found.caveats, parameters={"samples": places}
    )


def run_rise(query: Query) -> QueryResult:
    """See :func:`rise`."""
    samples = query.options["samples"] or RISE_SAMPLES
    found = rise(
        query.x, query.score, fill=query.fill, samples=samples, seed=query.seed,
        cells=[min(RISE_CELLS, n) for n in query.x.shape[1:]], batch=query.batch, progress=query.progress,
    )  # fmt: skip
    return QueryResult(
        values=found.values, evaluations=found.evaluations, caveats=found.caveats, parameters={"samples": samples}
    )


METHODS = (
    QueryMethod(
        name="occlusion",
        title="Occlusion",
        cost="one forward pass for each position of the patch (at most about 225 in a slice, 500 in a volume)",
        reference="Zeiler and Fergus 2014, arXiv 1311.2901",
        signed=True,
        reading="Occlusion hides one patch at a time: where either of two places is enough for the score, neither shows; nothing smaller than a patch is resolved.",
        evaluations=patch_evaluations,
        run=run_occlusion,
    ),
    QueryMethod(
        name="rise",
        title="RISE",
        cost=f"one forward pass for each random mask ({RISE_SAMPLES}; --samples)",
        reference="Petsiuk et al. 2018, arXiv 1806.07421",
        signed=True,
        reading="RISE is estimated from random masks: another seed gives another map, and nothing smaller than a cell of its masks is resolved.",
        evaluations=mask_evaluations,
        run=run_rise,
        options=(SAMPLES,),
    ),
)
