"""Maps from the scores of changed inputs: LIME, Kernel SHAP, occlusion, RISE; slice by slice for slice-wise networks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..attribution.fills import nothing_changed
from ..attribution.lime import KERNEL_WIDTH, mean_fill, paint
from ..attribution.methods import SUPERPIXELS, QueryMethod
from ..attribution.recorder import record, wide
from ..attribution.superpixels import superpixels as cut
from ..errors import Caveat
from ..findings.regions import foreground
from ..geometry.affine import spacing
from ..geometry.labels import Label, Labels, label_colors
from ..prediction import feed
from ..progress import Progress, portion
from ..scoring.targets import Score
from ..tiling import tile
from .case import Attribution, Case, common_limits, provenance

if TYPE_CHECKING:
    import torch


BATCH = 8


def query_maps(
    case: Case, m: QueryMethod, scores: Sequence[Score], progress: Progress
) -> Iterator[tuple[int, Attribution]]:
    """(number of the score, map) of one method: all scores from the same changed inputs."""
    shape = case.prepared.shape
    kept = [case.kept(score, "top:1") for score in scores]
    groups = [None] if kept[0] is None else sorted(set().union(*kept))
    results = [_Painted(np.zeros(shape, np.float32), np.zeros(shape, np.int32), {}, []) for _ in scores]
    began, evaluations = time.perf_counter(), 0
    for number, plane in enumerate(groups):
        members = [n for n, k in enumerate(kept) if k is None or plane in k]
        where = slice(None) if plane is None else slice(plane, plane + 1)
        found, segments, same = _ask(
            case, m, where, [scores[n] for n in members], portion(progress, number, len(groups))
        )
        evaluations += found.evaluations
        for row, n in enumerate(members):
            if m.superpixels:
                results[n].add(where, segments, found.coefficients[row])
            else:
                results[n].values[where] = found.values[row]
            text = "" if plane is None else f"Slice {plane}: "
            said = same if same and not results[n].values[where].any() else (*same, *found.limits(row))
            results[n].limits.extend(_about(text, sentence) for sentence in said)
    spent = {
        "evaluations": evaluations,
        "seconds": round(time.perf_counter() - began, 3),
        "parameters": _parameters(case, m),
    }
    for n, score in enumerate(scores):
        yield n, _attribution(case, m, score, results[n], kept[n], spent)


def _about(text: str, sentence: str) -> str:
    """A sentence with the slice before it; its code, if it has one, stays."""
    return Caveat(sentence.code, text + sentence) if isinstance(sentence, Caveat) else text + sentence


@dataclass(eq=False)
class _Painted:
    """A map and its superpixels as slices are added; superpixel values run on from slice to slice."""

    values: np.ndarray
    labels: np.ndarray
    coefficients: dict[int, float]
    limits: list[str]

    def add(self, where: slice, segments: np.ndarray, coefficients: np.ndarray) -> None:
        first = len(self.coefficients) + 1
        self.values[where] = paint(coefficients, segments)
        self.labels[where] = segments + first
        self.coefficients.update({first + n: float(c) for n, c in enumerate(coefficients)})


def _ask(case: Case, m: QueryMethod, where: slice, scores: Sequence[Score], progress: Progress):
    """What the method found in one slice or in the whole, its superpixels (d0, d1, d2) if it has any, and a sentence where
    hiding hides nothing."""
    import torch

    x = case.prepared.tensor[:, where].float()
    inside = foreground(np.moveaxis(x.numpy(), 0, -1))
    tiling, facts = case.tiling, case.facts()
    if tiling.mode == "slices":
        tiling = tile(case.model.card.spatial, tuple(x.shape[1:]), at_once=tiling.at_once)
    segments = None
    if m.superpixels:
        count = case.superpixels or SUPERPIXELS[tiling.mode]
        segments = cut(x.numpy(), spacing(case.prepared.affine), inside, count)
    weights = _weights(case, where, scores)

    def score(batch: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(batch), len(scores))
        with torch.no_grad():
            for number, (_, piece) in enumerate(tiling.pieces(batch)):
                output = record(case.model.network, feed(case.model, piece), (), seed=case.seed).output
                for row, s in enumerate(scores):
                    w = weights[row][number]
                    if w.any():
                        total[:, row] += s.of(output.to(wide(output)), torch.from_numpy(w).to(output)).float().cpu()
        return total

    fill = mean_fill(x, torch.from_numpy(inside))
    found = m.run(
        x,
        score,
        segments,
        facts,
        fill=fill,
        seed=case.seed,
        batch=min(BATCH, tiling.at_once),
        progress=progress,
    )
    return found, segments, nothing_changed(x, fill, inside)


def _weights(case: Case, where: slice, scores: Sequence[Score]) -> list[list[np.ndarray]]:
    """For each score, the weights of each tile, computed once for all samples."""
    voxels = case.prediction.voxels
    if case.tiling.mode == "slices":
        return [[s.pieces[where] if s.region is None else s.region((where,))] for s in scores]
    return [[s.at(n, t, voxels) for n, t in enumerate(case.tiling.tiles)] for s in scores]


def _parameters(case: Case, m: QueryMethod) -> dict:
    facts = {
        "samples": m.evaluations(case.facts()),
        "fill": "mean of the tissue; in the background, of the background",
        "seed": case.seed,
    }
    if m.superpixels:
        facts["samples"] = case.samples or "10 for each superpixel, at least 200"
        facts["superpixels"] = case.superpixels or SUPERPIXELS[case.tiling.mode]
    return facts | ({"kernel_width": KERNEL_WIDTH} if m.name == "lime" else {})


def _attribution(
    case: Case, m: QueryMethod, score: Score, painted: _Painted, kept: Sequence[int] | None, spent: dict
) -> Attribution:
    prepared = case.prepared
    colors = label_colors(len(painted.coefficients))
    rows = tuple(Label(value, f"superpixel {value}", colors[value - 1]) for value in painted.coefficients)
    limits = (*painted.limits, *common_limits(case, m, score, painted.values, kept))
    return Attribution(
        prepared.volume(painted.values),
        m.name,
        score.name,
        score.label,
        "",
        m.signed,
        Labels(prepared.volume(painted.labels), rows) if m.superpixels else None,
        painted.coefficients,
        provenance(case, m, score, kept) | spent,
        limits,
    )
