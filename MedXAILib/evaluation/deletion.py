"""Deletion (Petsiuk, Das and Saenko 2018, arXiv 1806.07421, sec. 4.1): what the score loses as the hottest voxels go first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..attribution.option import BASELINE, Option
from .measure import Evaluation, Figure, Measure

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
STEPS = Option(
    name="steps",
    kind=int,
    default=20,
    least=2,
    help="How many parts the body's voxels are removed in, as many in each.",
)
DRAWS = Option(
    name="draws", kind=int, default=5, least=1, help="Random orders whose mean figure is the level of chance."
)
LITTLE = 1e-6
"""Where removing everything changes the score by less than this part of it, there is nothing to measure."""


def deletion(e: Evaluation) -> Figure:
    """The area under the curve of the score over the fraction of the body's voxels removed, by falling value of the map.

    Scores are normalised: 1 is that of the whole input, 0 that of the input without its body; a map that puts first what the
    score rests on gives a small area. Ties are broken at random. The level of chance is the mean area of random orders. The
    score is a logit, not the paper's probability, and what is removed shows a baseline, which must be said with the figure.
    """
    voxels = np.flatnonzero(e.body)
    rng = np.random.default_rng(e.seed)
    values = e.map.ravel()[voxels]
    if not values.any() or np.ptp(values) == 0:
        return Figure(value=None, why="every value of the map is the same")
    hottest = voxels[np.lexsort((rng.random(len(voxels)), -values))]
    orders = [hottest, *(rng.permutation(voxels) for _ in range(e.options["draws"]))]
    steps = e.options["steps"]
    scores = e.scorer.ask(removed(e, orders, steps), len(orders) * (steps + 1), "Deletion")[:, 0]
    rows = scores.reshape(len(orders), steps + 1)
    whole, nothing = rows[0, 0], rows[0, -1]
    if abs(whole - nothing) <= LITTLE * max(abs(whole), abs(nothing)):
        return Figure(value=None, why="removing the whole body does not change the score")
    curves = (rows - nothing) / (whole - nothing)
    areas = (curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2  # trapezoids of one width
    return Figure(value=float(areas[0]), chance=float(areas[1:].mean()))


def removed(e: Evaluation, orders: list[Array], steps: int) -> Callable[[int, int], torch.Tensor]:
    """Makes the inputs of all curves, one after the other: of each order the whole input first, then a step more removed."""
    import torch

    x, baseline = e.scorer.x.flatten(1), e.baseline.to(e.scorer.x).expand_as(e.scorer.x).flatten(1)
    ends = np.rint(np.linspace(0, len(orders[0]), steps + 1)).astype(int)

    def make(start: int, stop: int) -> torch.Tensor:
        made = []
        for number in range(start, stop):
            order, step = divmod(number, steps + 1)
            gone = torch.from_numpy(orders[order][: ends[step]])
            one = x.clone()
            one[:, gone] = baseline[:, gone]
            made.append(one.reshape(e.scorer.x.shape))
        return torch.stack(made)

    return make


def curve_evaluations(options: Mapping[str, Any]) -> int:
    """Each step of each curve."""
    return (1 + int(options["draws"])) * (int(options["steps"]) + 1)


MEASURE = Measure(
    name="deletion",
    title="Deletion AUC",
    reference="Petsiuk et al. 2018, arXiv 1806.07421",
    better="lower",
    about="area under the normalised score as the body's voxels are removed, hottest first",
    run=deletion,
    evaluations=curve_evaluations,
    options=(STEPS, DRAWS, BASELINE),
)
