"""Maps of the input: the gradient family over all tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..attribution.fills import nothing_changed
from ..attribution.gradient import baseline
from ..attribution.method import GradientInputs, InputMethod
from ..attribution.option import BASELINE, REFERENCES
from ..caveats import Caveat
from ..errors import InputError, NetworkError
from ..geometry.affine import spacing
from ..geometry.resample import resample
from ..geometry.volume import ARRAY
from ..models.card import FROM_FILE
from ..prediction import feed
from ..preprocessing.foreground import foreground
from ..preprocessing.prepare import Prepared, prepare
from ..progress import Progress, portion
from ..recording.record import record
from ..recording.recording import INPUT, Recording, wide
from ..scoring import BoundTarget
from ..scoring.scorer import output_of
from ..tiling import Tile

if TYPE_CHECKING:
    import torch

    from ..attribution.attribution import Attribution
    from ..attribution.gradient import Gradient
    from .explanation import Explanation
    from .plan import Step

Rule = Callable[[], AbstractContextManager[Any]]


def input_maps(
    work: Explanation, step: Step, required: Mapping[str, Sequence[Attribution]], progress: Progress
) -> Iterator[tuple[int, Attribution]]:
    """(number of the target, map) of one method; with several named inputs one map for each.

    :param required: of each method that this one requires, the map of each target.
    """
    m, began, x = step.method, time.perf_counter(), work.prepared.tensor
    assert isinstance(m, InputMethod)
    inputs = gradient_inputs(work, step)
    found = m.run(x, gradients_of(work, step, progress), inputs)
    silent: tuple[Caveat, ...] = ()
    if inputs.baseline is not None:
        silent = nothing_changed(x, inputs.baseline, foreground(np.moveaxis(x.numpy(), 0, -1)), "the baseline")
    seconds = round(time.perf_counter() - began, 3)
    for n, target in enumerate(work.targets):
        slices = work.slices(target, m)
        others = {name: maps[n] for name, maps in required.items()}
        aside = {name: resample(other.volume, work.prepared.grid).array for name, other in others.items()}
        # what limits belief in a required map's weights limits it here
        pooling = tuple(caveat for other in others.values() for caveat in other.caveats if caveat.code == "pooling")
        for name, channels in named_channels(work):
            values = m.combine(m.reduce(found.values[n, channels].float()).numpy(), aside)
            if slices is not None and len(slices) < len(values):
                values[[i for i in range(len(values)) if i not in slices]] = 0
            about: dict[str, Any] = {"parameters": found.parameters}
            if others:
                about["layer"] = next(iter(others.values())).layer
            yield n, work.attribution(
                m, target, work.prepared.volume(values), slices, (*pooling, *found.caveats[n], *silent), provenance=about,
                layer=name, evaluations=found.evaluations * work.tiling.passes, seconds=seconds,
            )  # fmt: skip


def named_channels(work: Explanation) -> list[tuple[str, slice]]:
    """(name, channels) of each input: one without a name for a single one, whatever its channels."""
    names = [channel.name for channel in work.model.card.input.channels]
    if len(names) == 1:
        return [("", slice(None))]
    return [(f"input-{name}", slice(n, n + 1)) for n, name in enumerate(names)]


def gradient_inputs(work: Explanation, step: Step) -> GradientInputs:
    """Baselines and parameters of one case. Slices of one volume share its minimum, its tissue and its range; samples of a
    batch of arrays have each its own.

    :raises InputError: for references that are not as large as the input.
    """
    import torch

    x, by_slices = work.prepared.tensor, work.tiling.by_slices
    separate = by_slices and work.prepared.reference.source.format == ARRAY  # a batch of arrays, no volume
    wanted = step.options.get(BASELINE.name)
    found: dict[str, torch.Tensor] = {}
    drawn: tuple[torch.Tensor, ...] = ()
    if step.options.keys() & {BASELINE.name, REFERENCES.name}:
        mm = [0.0 if by_slices and axis == 0 else s for axis, s in enumerate(spacing(work.prepared.affine))]
        drawn = tuple(references(work, step))
        parts = x.split(1, 1) if separate else (x,)
        insides = [torch.from_numpy(foreground(np.moveaxis(part.numpy(), 0, -1))) for part in parts]
        for name in (wanted,) if wanted else () if drawn else BASELINE.choices:
            found[name] = torch.cat([baseline(name, *pair, mm) for pair in zip(parts, insides, strict=True)], 1)
    return GradientInputs(
        options=step.options, seed=work.seed, baseline=found.get(wanted or ""), baselines=drawn or tuple(found.values()),
        by_slices=by_slices, separate=separate,
    )  # fmt: skip


def references(work: Explanation, step: Step) -> Iterator[torch.Tensor]:
    """The inputs from which baselines are drawn, prepared as the input was.

    :raises InputError: for one of another size.
    """
    for given in step.options.get("references", ()):
        other = given if isinstance(given, Prepared) else prepare(work.model.card, given)
        if other.tensor.shape != work.prepared.tensor.shape:
            raise InputError(
                f"{other.reference.source.name}: as a reference it must be as large as the input once prepared "
                f"({' x '.join(map(str, other.shape))} instead of {' x '.join(map(str, work.prepared.shape))} voxels)."
            )
        yield other.tensor


def gradients_of(work: Explanation, step: Step, progress: Progress) -> Gradient:
    """The function through which a method sees the network: see :mod:`MedXAILib.attribution.gradient`."""
    import torch

    targets, tiling = work.targets, work.tiling
    slices = [work.slices(target, step.method) for target in targets]
    tiling = tiling.subset(sorted({n for some in slices for n in some or ()}))
    calls, asked = step.method.evaluated(work.session.cost(step.method, work.request)), count()

    def gradient(
        x: torch.Tensor,
        rule: Rule | None = None,
        baseline: torch.Tensor | None = None,
        text: str = "Gradients",
        scores_only: bool = False,
        own: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = torch.zeros(len(targets), tiling.samples, dtype=torch.float64)
        stitcher = work.tiling.voxels()
        running = portion(progress, min(next(asked), calls - 1), calls)
        others = tiling.pieces(baseline[None]) if baseline is not None else (None for _ in tiling.tiles)
        for number, ((t, piece), other) in enumerate(zip(tiling.pieces(x[None]), others, strict=True)):
            report = portion(running, number, len(tiling.tiles))
            given = piece if other is None else torch.cat([piece, other[1]])
            with _recording(work, feed(work.model, given), rule, report, text, scores_only) as recording:
                values, slopes = _scored(work, recording, number, t, len(piece), scores_only, own)
                found[:, tiling.rows(t)] += values
                if slopes is not None:
                    stitcher.add(t, slopes.numpy(), summed=not own)
        # asked for scores alone, gradients are zeros that nobody looks at
        return found, torch.from_numpy(stitcher.values).to(x.dtype)

    return gradient


def _recording(
    work: Explanation, x: torch.Tensor, rule: Rule | None, report: Progress, text: str, scores_only: bool
) -> Recording:
    """:raises InputError: where a rule met nothing that it could change, or a program takes no input beside its baseline."""
    layers = [] if scores_only else [INPUT]
    network, card = work.model.network, work.model.card
    if rule is None:
        return record(network, x, layers, report, text, work.seed)
    try:
        with rule() as met:
            recording = record(network, x, layers, report, text, work.seed)
    except NetworkError as error:
        if card.network.architecture != FROM_FILE or len(x) == 1:
            raise
        raise InputError(
            f"{card.name}: DeepLIFT gives the network the input and the baseline together, and this program was "
            "exported for one sample: export it with a dynamic batch, or choose integrated gradients (ig)."
        ) from error
    if met.count == 0:
        if layers:  # where no gradient comes at all, that is the reason
            recording.gradients(lambda output: output)
        raise InputError(
            f"{card.name}: no activation function can be seen here (the network is a program, or has none), "
            "which this method must change on the way backwards; choose saliency or ig."
        )
    return recording


def _scored(
    work: Explanation, recording: Recording, number: int, t: Tile, batch: int, scores_only: bool, own: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Scores (T, batch or 1) of the first ``batch`` samples, and gradients (batch, T, channel, *size)."""
    import torch

    values, slopes, output = [], [], output_of(recording)
    for target in work.targets:
        weights = torch.from_numpy(np.ascontiguousarray(target.weights(number, t, not own))).to(output)
        score = _Score(target, weights, batch)
        row = score(output.detach().to(wide(output))).double().cpu()
        values.append(work.tiling.of_samples(t, row))
        if not scores_only:
            slopes.append(recording.gradients(score)[INPUT][:batch].detach().float().cpu())
    return torch.stack(values), torch.stack(slopes, 1) if slopes else None


class _Score:
    """The score of the first samples of a batch."""

    def __init__(self, target: BoundTarget, weights: torch.Tensor, batch: int) -> None:
        self.target, self.weights, self.batch = target, weights, batch

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return self.target.of(output[: self.batch], self.weights)


Array = npt.NDArray[Any]
