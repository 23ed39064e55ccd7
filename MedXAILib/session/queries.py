"""Maps from the scores of changed inputs: LIME, Kernel SHAP, occlusion, RISE; slice by slice for slice-wise networks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..attribution.fills import mean_fill, nothing_changed
from ..attribution.method import Query, QueryMethod, QueryResult
from ..attribution.perturbation import default_superpixels
from ..attribution.superpixels import superpixels as cut
from ..caveats import Caveat
from ..errors import InputError
from ..geometry.affine import spacing
from ..geometry.labels import Label, Labels, label_colors
from ..preprocessing.foreground import foreground
from ..progress import Progress, portion
from ..scoring import BoundTarget, Scorer

if TYPE_CHECKING:
    from ..attribution.attribution import Attribution
    from .explanation import Explanation
    from .plan import Step

Array = npt.NDArray[Any]


def query_maps(work: Explanation, step: Step, progress: Progress) -> Iterator[tuple[int, Attribution]]:
    """(number of the target, map) of one method: all targets from the same changed inputs."""
    slices = [work.slices(target, step.method) for target in work.targets]
    groups: list[int | None] = [None]
    if slices[0] is not None:
        groups = [*sorted({n for some in slices for n in some or ()})]
    maps = [_Map(work) for _ in work.targets]
    began, evaluations, parameters = time.perf_counter(), 0, []
    for number, sample in enumerate(groups):
        members = [n for n, some in enumerate(slices) if some is None or sample in some]
        found, hidden = _ask(
            work, step, sample, [work.targets[n] for n in members], portion(progress, number, len(groups))
        )
        evaluations += found.evaluations
        parameters.append(dict(found.parameters))
        for row, n in enumerate(members):
            maps[n].add(step.method.title, sample, found, row, hidden)
    about = {"parameters": _parameters(work, step, parameters)}
    seconds = round(time.perf_counter() - began, 3)
    for n, target in enumerate(work.targets):
        values = work.prepared.volume(maps[n].values)
        labels = maps[n].superpixels(work)
        yield n, work.attribution(
            step.method, target, values, slices[n], maps[n].caveats, provenance=about, superpixels=labels,
            coefficients=maps[n].coefficients, evaluations=evaluations, seconds=seconds,
        )  # fmt: skip


class _Map:
    """A map and its superpixels as slices are added; superpixel values run on from slice to slice."""

    def __init__(self, work: Explanation) -> None:
        self.values: Array = np.zeros(work.prepared.shape, np.float32)
        self.labels: Array = np.zeros(work.prepared.shape, np.int32)
        self.coefficients: dict[int, float] = {}
        self.caveats: list[Caveat] = []

    def add(self, title: str, sample: int | None, found: QueryResult, row: int, hidden: Sequence[Caveat]) -> None:
        """The map of one slice, or of the whole.

        :param title: of the method.
        :param hidden: said where hiding hides nothing.
        """
        where = slice(None) if sample is None else slice(sample, sample + 1)
        values = found.map(row)
        if np.shape(values) != self.values[where].shape:
            given, wanted = ("x".join(map(str, shape)) for shape in (np.shape(values), self.values[where].shape))
            raise InputError(
                f"{title} made a map of {given} voxels where {wanted} are wanted", "have the method mended", joint=": "
            )
        self.values[where] = values
        if found.coefficients is not None and found.segments is not None:
            first = len(self.coefficients) + 1
            self.labels[where] = found.segments + first
            self.coefficients.update({first + n: float(c) for n, c in enumerate(found.coefficients[row])})
        empty = hidden and not self.values[where].any()
        about = "" if sample is None else f"Slice {sample}: "
        self.caveats += [c.about(about) for c in (hidden if empty else (*hidden, *found.caveats[row]))]

    def superpixels(self, work: Explanation) -> Labels | None:
        """The superpixels as labels on the network's grid; None for a method without any."""
        if not self.coefficients:
            return None
        colors = label_colors(len(self.coefficients))
        rows = tuple(Label(value, f"superpixel {value}", colors[value - 1]) for value in self.coefficients)
        return Labels(work.prepared.volume(self.labels), rows)


def _ask(
    work: Explanation, step: Step, sample: int | None, targets: Sequence[BoundTarget], progress: Progress
) -> tuple[QueryResult, tuple[Caveat, ...]]:
    """What the method found in one slice or in the whole, and a caveat where hiding hides nothing."""
    import torch

    m = step.method
    assert isinstance(m, QueryMethod)
    score = Scorer(work.model, work.prediction, targets, sample=sample, seed=work.seed, progress=progress)
    x = score.x
    body = foreground(np.moveaxis(x.numpy(), 0, -1))
    fill = mean_fill(x, torch.from_numpy(body))
    mm = spacing(work.prepared.affine)
    query = Query(
        x=x, score=score, spacing=tuple(mm), body=body, fill=fill,
        superpixels=partial(cut, x.numpy(), mm, body, _wanted(work, step)),
        options=step.options, seed=work.seed, batch=score.batch, progress=progress,
    )  # fmt: skip
    return m.run(query), nothing_changed(x, fill, body)


def _wanted(work: Explanation, step: Step) -> int:
    """How many superpixels are cut."""
    return step.options.get("superpixels") or default_superpixels(work.tiling.by_slices)


def _parameters(work: Explanation, step: Step, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was chosen; of slices that differ, the values of each."""
    told: dict[str, Any] = {"fill": "mean of the tissue; in the background, of the background", "seed": work.seed}
    if "superpixels" in step.options:
        told["superpixels"] = _wanted(work, step)
    told |= {name: value for name, value in step.options.items() if name not in ("samples", "superpixels")}
    for name in found[0]:
        values = [one[name] for one in found]
        told[name] = values[0] if all(value == values[0] for value in values) else values
    return told
