"""Maps of the input: the gradient family over all tiles."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from ..attribution.fills import nothing_changed
from ..attribution.gradient import BASELINES, Setting, baseline
from ..attribution.methods import InputMethod
from ..attribution.recorder import INPUT, record, wide
from ..errors import InputError, NetworkError
from ..findings.regions import foreground
from ..geometry.affine import spacing
from ..geometry.resample import resample
from ..models.card import FROM_FILE
from ..models.sources.module import ARRAY
from ..prediction import feed, voxel_stitcher
from ..progress import Progress, portion
from ..scoring.targets import Score
from .case import Attribution, Case, common_limits, provenance

if TYPE_CHECKING:
    import torch


def input_maps(
    case: Case, m: InputMethod, scores: Sequence[Score], cams: Sequence[Attribution], progress: Progress
) -> Iterator[tuple[int, Attribution]]:
    """(number of the score, map) of one method; with several named inputs one map for each.

    :param cams: for a method that is multiplied by Grad-CAM: that of each score.
    """
    began = time.perf_counter()
    setting = setting_of(case, m)
    x = case.prepared.tensor
    found = m.run(x, gradients_of(case, m, scores, progress), setting)
    silent = (
        nothing_changed(x, setting.baseline, foreground(np.moveaxis(x.numpy(), 0, -1)), "the baseline")
        if m.baseline
        else ()
    )
    seconds = round(time.perf_counter() - began, 3)
    pieces = case.prepared.shape[0] if case.tiling.mode == "slices" else len(case.tiling.tiles)
    for n, score in enumerate(scores):
        kept = case.kept(score, "all")
        for name, channels in named_channels(case):
            part = found.values[n, channels].float()
            values = (part.abs().amax(0) if m.strongest else part.sum(0)).numpy()
            if m.times_cam:
                values = values * resample(cams[n].volume, case.prepared.grid).array
            if kept is not None and len(kept) < len(values):
                values[[i for i in range(len(values)) if i not in kept]] = 0
            limits = (*found.limits[n], *silent, *common_limits(case, m, score, values, kept))
            if m.times_cam:
                limits = (*(s for s in cams[n].limits if getattr(s, "code", "") == "pooling"), *limits)
            facts = provenance(case, m, score, kept) | {
                "evaluations": found.evaluations * pieces,
                "seconds": seconds,
                "parameters": found.facts,
            }
            if m.times_cam:
                facts["layer"] = cams[n].layer
            volume = case.prepared.volume(values)
            yield n, Attribution(volume, m.name, score.name, score.label, name, m.signed, None, {}, facts, limits)


def named_channels(case: Case) -> list[tuple[str, slice]]:
    """(name, channels) of each input: one without a name for a single one, whatever its channels."""
    names = [channel.name for channel in case.model.card.input.channels]
    if len(names) == 1:
        return [("", slice(None))]
    return [(f"input-{name}", slice(n, n + 1)) for n, name in enumerate(names)]


def setting_of(case: Case, m: InputMethod) -> Setting:
    """Baselines and parameters of one case. Slices of one volume share its air, its tissue and its range; samples of a batch
    of arrays have each its own.

    :raises InputError: for an unknown baseline, or references that are not as large as the input.
    """
    import torch

    if case.baseline not in BASELINES:
        raise InputError(f"--baseline {case.baseline}: choose one of {', '.join(BASELINES)}.")
    x, by_slices = case.prepared.tensor, case.tiling.mode == "slices"
    own = by_slices and case.prepared.reference.source.format == ARRAY  # a batch of arrays, no volume
    if not m.baseline:
        return Setting("", x, (), case.samples, case.seed, by_slices, own)
    mm = [0 if by_slices and axis == 0 else s for axis, s in enumerate(spacing(case.prepared.affine))]
    for other in case.references:
        if other.tensor.shape != x.shape:
            raise InputError(
                f"{other.reference.source.name}: as a reference it must be as large as the input once prepared "
                f"({' x '.join(map(str, other.shape))} instead of {' x '.join(map(str, case.prepared.shape))} voxels)."
            )
    parts, found = x.split(1, 1) if own else (x,), {}
    insides = [torch.from_numpy(foreground(np.moveaxis(part.numpy(), 0, -1))) for part in parts]
    for name in BASELINES if not case.references else (case.baseline,):
        found[name] = torch.cat([baseline(name, *pair, mm) for pair in zip(parts, insides, strict=True)], 1)
    drawn = tuple(other.tensor for other in case.references) or tuple(found.values())
    return Setting(case.baseline, found[case.baseline], drawn, case.samples, case.seed, by_slices, own)


def gradients_of(case: Case, m: InputMethod, scores: Sequence[Score], progress: Progress):
    """The function through which a method sees the network: see :mod:`MedXAILib.attribution.gradient`."""
    import torch

    kept = [case.kept(score, "all") for score in scores]
    tiling = case.tiling
    if kept[0] is not None:
        tiling = tiling.subset(sorted(set().union(*kept)))
    pieces = case.prepared.shape[0] if tiling.mode == "slices" else 1
    calls, asked = m.evaluations(case.facts()), count()

    def gradient(x, rule=None, baseline=None, text="Gradients", scores_only=False):
        found = torch.zeros(len(scores), pieces, dtype=torch.float64)
        stitcher = voxel_stitcher(case.tiling)
        running = portion(progress, min(next(asked), calls - 1), calls)
        others = tiling.pieces(baseline[None]) if baseline is not None else (None for _ in tiling.tiles)
        for number, ((t, piece), other) in enumerate(zip(tiling.pieces(x[None]), others, strict=True)):
            report = portion(running, number, len(tiling.tiles))
            given = piece if other is None else torch.cat([piece, other[1]])
            tape = _tape(case, feed(case.model, given), rule, report, text, scores_only)
            with tape:
                values, slopes = _scored(case, tape, scores, number, t, len(piece), scores_only, m.alone)
                at = list(t.at) if tiling.mode == "slices" else slice(None)
                found[:, at] += values
                if not scores_only:
                    stitcher.add(t, slopes.numpy(), summed=not m.alone)
        if scores_only:
            return found, None
        return found, torch.from_numpy(stitcher.values).to(x.dtype)

    return gradient


def _tape(case: Case, x: torch.Tensor, rule, report: Progress, text: str, scores_only: bool):
    """:raises InputError: where a rule met nothing that it could change, or a program takes no input beside its baseline."""
    layers = [] if scores_only else [INPUT]
    if rule is None:
        return record(case.model.network, x, layers, report, text, case.seed)
    try:
        with rule() as met:
            tape = record(case.model.network, x, layers, report, text, case.seed)
    except NetworkError as error:
        if case.model.card.network.architecture != FROM_FILE or len(x) == 1:
            raise
        raise InputError(
            f"{case.model.card.name}: DeepLIFT gives the network the input and the baseline together, and this program was "
            "exported for one sample: export it with a dynamic batch, or choose integrated gradients (ig)."
        ) from error
    if met.count == 0:
        if layers:  # where no gradient comes at all, that is the reason
            tape.gradients(lambda output: output)
        raise InputError(
            f"{case.model.card.name}: no activation function can be seen here (the network is a program, or has none), "
            "which this method must change on the way backwards; choose saliency or ig."
        )
    return tape


def _scored(case: Case, tape, scores, number: int, t, batch: int, scores_only: bool, alone: bool):
    """Scores (T, batch or 1) of the first ``batch`` samples, and gradients (batch, T, channel, *size)."""
    import torch

    voxels, values, slopes = case.prediction.voxels, [], []
    slices = case.tiling.mode == "slices"
    for score in scores:
        weights = torch.from_numpy(np.ascontiguousarray(score.at(number, t, voxels, not alone))).to(tape.output)

        def of(output, score=score, weights=weights):
            return score.of(output[:batch], weights)

        row = of(tape.output.detach().to(wide(tape.output))).double().cpu()
        values.append(row if slices else row.sum()[None])
        if not scores_only:
            slopes.append(tape.gradients(of)[INPUT][:batch].detach().float().cpu())
    return torch.stack(values), torch.stack(slopes, 1) if slopes else None
