"""The gradient family: how much each voxel of the input moves the score.

Each method asks for gradients of the scores at some inputs and gives raw values for each input channel; how channels
become one map (the strongest, or the sum) is the registry's. ``gradient(x, rule=None, baseline=None, text="")`` hides the
tiling: it gives the scores (T, pieces) and their gradients (T, channel, d0, d1, d2) at an input (channel, d0, d1, d2); a
piece is a slice of a slice-wise network, else there is one. Sums over windows are the gradient of the stitched score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import rules

if TYPE_CHECKING:
    import torch

BASELINES = ("air", "zero", "mean", "blurred")
NOISY_SAMPLES = 25
NOISE = 0.15
"""Deviation of SmoothGrad's noise, in parts of the input's range (Smilkov et al. find 0.1 to 0.2 best)."""
PATH_SAMPLES = 50
BLUR_MM = 10.0
"""Deviation of the Gaussian of the blurred baseline, mm."""
SAMPLED = "raise --samples, or choose another --baseline"
RULED = "DeepLIFT's rule is not exact over attention, products of two activations and normalisation by the sample's own statistics"
COMPLETE = 0.01
"""A completeness error up to this part of the score's difference is fair."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """:ivar values: (T, channel, d0, d1, d2), signed.
    :ivar limits: of each target, what its values add up to.
    """

    values: torch.Tensor
    evaluations: int
    limits: tuple[tuple[str, ...], ...]
    facts: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Setting:
    """What a gradient method may need beside the input.

    :ivar name, baseline: the baseline's name, and itself (channel, d0, d1, d2).
    :ivar baselines: of expected gradients, one or more of the same shape.
    :ivar own: each slice is an input of its own and knows nothing of the others (slices of one volume share its range).
    """

    name: str
    baseline: torch.Tensor
    baselines: tuple[torch.Tensor, ...]
    samples: int | None
    seed: int
    by_slices: bool
    own: bool = False


Gradient = Callable[..., tuple]


def plain(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """Saliency: dS/dx, S before the softmax; the map is max over channels of its absolute value (Simonyan et al. 2013,
    arXiv 1312.6034, sec. 3.1)."""
    scores, g = gradient(x)
    return Sensitivity(g, 1, ((),) * len(scores))


def gradient_times_input(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """x dS/dx (Shrikumar et al. 2016, arXiv 1605.01713)."""
    scores, g = gradient(x)
    return Sensitivity(g * x, 1, ((),) * len(scores))


def guided_backpropagation(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """See :func:`MedXAILib.attribution.rules.guided`."""
    scores, g = gradient(x, rule=rules.guided)
    return Sensitivity(g, 1, ((),) * len(scores))


def deconvolution(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """See :func:`MedXAILib.attribution.rules.deconvolution`."""
    scores, g = gradient(x, rule=rules.deconvolution)
    return Sensitivity(g, 1, ((),) * len(scores))


def smoothgrad(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """The mean gradient over inputs with Gaussian noise (Smilkov et al. 2017, arXiv 1706.03825, sec. 2.2): signed before
    the absolute value is taken. The deviation is a part of the range of the whole input; slices that are inputs of their
    own have each its own range, and the same draws."""
    import torch

    samples = setting.samples or NOISY_SAMPLES
    draws = torch.Generator().manual_seed(setting.seed)
    axes = (2, 3) if setting.own else (1, 2, 3)
    deviation = NOISE * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    shape = (len(x), 1, *x.shape[2:]) if setting.own else x.shape
    total = 0
    for n in range(samples):
        noise = torch.randn(shape, generator=draws, dtype=x.dtype) * deviation
        scores, g = gradient(x + noise, text=f"SmoothGrad {n + 1} of {samples}")
        total = total + g
    facts = {"samples": samples, "noise": NOISE, "seed": setting.seed}
    return Sensitivity(total / samples, samples, ((),) * len(scores), facts)


def integrated_gradients(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """(x - b) times the mean gradient along the straight way from the baseline b (Sundararajan et al. 2017, arXiv
    1703.01365, eq. 1), by the midpoint rule; complete: the values add up to S(x) - S(b)."""
    steps = setting.samples or PATH_SAMPLES
    b, total = setting.baseline, 0
    for n in range(steps):
        _, g = gradient(b + (x - b) * (n + 0.5) / steps, text=f"Integrated gradients {n + 1} of {steps}")
        total = total + g
    values = total / steps * (x - b)
    limits = completeness(values, score_of(gradient, x), score_of(gradient, b), setting)
    return Sensitivity(values, steps + 2, limits, {"steps": steps, "baseline": setting.name})


def expected_gradients(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """The mean of (x - b) dS/dx at b + a (x - b), b drawn from the baselines and a uniformly from 0..1 (Erion et al. 2021,
    arXiv 1906.10670, eq. 3). Draws of a are stratified; each baseline is drawn equally often, which may cost some samples."""
    import torch

    samples = setting.samples or PATH_SAMPLES
    baselines = setting.baselines[:samples]
    samples -= samples % len(baselines)
    draws = torch.Generator().manual_seed(setting.seed)
    order = torch.randperm(samples, generator=draws).tolist()
    total = 0
    for n in range(samples):
        b = baselines[n % len(baselines)]
        a = (order[n] + float(torch.rand(1, generator=draws))) / samples
        _, g = gradient(b + a * (x - b), text=f"Expected gradients {n + 1} of {samples}")
        total = total + g * (x - b)
    bottom = sum(score_of(gradient, b) for b in baselines) / len(baselines)
    limits = completeness(total / samples, score_of(gradient, x), bottom, setting)
    facts = {"samples": samples, "baselines": len(baselines), "seed": setting.seed}
    return Sensitivity(total / samples, samples + 1 + len(baselines), limits, facts)


def deeplift(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """See :func:`MedXAILib.attribution.rules.deeplift`; the values add up to S(x) - S(b)."""
    _, g = gradient(x, rule=rules.deeplift, baseline=setting.baseline)
    values = g * (x - setting.baseline)
    limits = completeness(values, score_of(gradient, x), score_of(gradient, setting.baseline), setting, RULED)
    return Sensitivity(values, 4, limits, {"baseline": setting.name})


def lrp(x: torch.Tensor, gradient: Gradient, setting: Setting) -> Sensitivity:
    """See :func:`MedXAILib.attribution.rules.lrp`; relevance adds up to S(x), but for what biases take."""
    scores, g = gradient(x, rule=rules.lrp)
    sums = (g * x).flatten(1).sum(1)
    limits = tuple(
        (
            f"Relevance adds up to {float(found):.4g} of a score of {float(score):.4g}; the rest stays in biases, and in "
            "what has no rule (attention, products of two activations, normalisation by the sample's own statistics)"
            f"{'. Unreliable: do not interpret this map' if float(found) * float(score) < 0 else ''}.",
        )
        for found, score in zip(sums, scores.sum(1), strict=True)
    )
    return Sensitivity(g * x, 1, limits)


def score_of(gradient: Gradient, x: torch.Tensor) -> torch.Tensor:
    """The scores (T, pieces) alone."""
    return gradient(x, scores_only=True)[0]


def completeness(
    values: torch.Tensor, top: torch.Tensor, bottom: torch.Tensor, setting: Setting, advice: str = SAMPLED
) -> tuple:
    """For each target, how far its values' sum lies from the score's difference; slices by the worst one.

    :param advice: said of an error that is not fair.
    """
    dims = (1, 3, 4) if setting.by_slices else (1, 2, 3, 4)
    sums = values.double().sum(dims).reshape(len(values), -1)
    return tuple(tuple(_sentences(s, d, advice)) for s, d in zip(sums, (top - bottom).double().to(sums), strict=True))


def _sentences(sums: torch.Tensor, wanted: torch.Tensor, advice: str) -> Iterator[str]:
    largest = float(wanted.abs().max())
    worst = int((sums - wanted).abs().argmax())
    error = float((sums - wanted).abs()[worst]) / largest if largest else 0.0
    where = f" (slice {worst})" if len(sums) > 1 else ""
    fair = "" if error <= COMPLETE else f". Unreliable: do not interpret this map; {advice}"
    yield (
        f"Completeness: the map adds up to {float(sums[worst]):.4g}, the score differs from the baseline's by "
        f"{float(wanted[worst]):.4g}{where}: an error of {100 * error:.2g} %{fair}."
    )


def baseline(name: str, x: torch.Tensor, foreground: torch.Tensor, spacing) -> torch.Tensor:
    """An input without evidence, (channel, d0, d1, d2).

    air: each channel's least value (what surrounds a body in CT and MR, and the edge of an X-ray); zero: 0 in the
    network's units; mean: the mean of the tissue in the tissue, of the background in the background; blurred: the input
    through a Gaussian of BLUR_MM.

    :param spacing: mm along the three axes; 0 for an axis that is not blurred (slices).
    """
    import torch
    from scipy.ndimage import gaussian_filter

    from .lime import mean_fill

    if name == "air":
        return x.amin((1, 2, 3), keepdim=True).expand_as(x)
    if name == "zero":
        return torch.zeros_like(x)
    if name == "mean":
        return mean_fill(x, foreground)
    sigma = [BLUR_MM / s if s else 0 for s in spacing]
    return torch.stack([torch.from_numpy(gaussian_filter(c.numpy(), sigma, mode="nearest")) for c in x])
