"""The gradient family: how much each voxel of the input moves the score.

Each method asks for gradients of the scores at some inputs and gives raw values for each input channel; how channels
become one map is the method's ``reduce``. ``gradient(x, rule=None, baseline=None, text="", own=False)`` hides the
tiling: it gives the scores (T, pieces) and their gradients (T, channel, d0, d1, d2) at an input (channel, d0, d1, d2); a
piece is a slice of a slice-wise network, else there is one. Sums over windows are the gradient of the stitched score;
with ``own``, windows' gradients are those of their own scores, and are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..caveats import NOTE, UNRELIABLE, Caveat
from . import rules
from .fills import mean_fill
from .method import FAILS, PASSES, Cost, GradientInputs, InputMethod
from .option import BASELINE, REFERENCES, SAMPLES

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
BASELINES = BASELINE.choices
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


@dataclass(frozen=True, eq=False, kw_only=True)
class InputResult:
    """What a method found.

    :ivar values: (T, channel, d0, d1, d2), signed.
    :ivar evaluations: how often the network ran.
    :ivar caveats: of each score, what its values add up to.
    :ivar parameters: what was chosen, in plain values.
    """

    values: torch.Tensor
    evaluations: int
    caveats: tuple[tuple[Caveat, ...], ...]
    parameters: dict[str, Any] = field(default_factory=dict)


Gradient = Callable[..., "tuple[torch.Tensor, torch.Tensor]"]


def plain(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """Saliency: dS/dx, S before the softmax; the map is max over channels of its absolute value (Simonyan et al. 2013,
    arXiv 1312.6034, sec. 3.1)."""
    scores, g = gradient(x)
    return InputResult(values=g, evaluations=1, caveats=((),) * len(scores))


def gradient_times_input(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """x dS/dx (Shrikumar et al. 2016, arXiv 1605.01713)."""
    scores, g = gradient(x)
    return InputResult(values=g * x, evaluations=1, caveats=((),) * len(scores))


def guided_backpropagation(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """See :func:`MedXAILib.attribution.rules.guided`."""
    scores, g = gradient(x, rule=rules.guided, own=True)
    return InputResult(values=g, evaluations=1, caveats=((),) * len(scores))


def deconvolution(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """See :func:`MedXAILib.attribution.rules.deconvolution`."""
    scores, g = gradient(x, rule=rules.deconvolution, own=True)
    return InputResult(values=g, evaluations=1, caveats=((),) * len(scores))


def smoothgrad(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """The mean gradient over inputs with Gaussian noise (Smilkov et al. 2017, arXiv 1706.03825, sec. 2.2): signed before
    the absolute value is taken. The deviation is a part of the range of the whole input; slices that are inputs of their
    own have each its own range, and the same draws."""
    import torch

    samples = inputs.options["samples"] or NOISY_SAMPLES
    draws = torch.Generator().manual_seed(inputs.seed)
    axes = (2, 3) if inputs.separate else (1, 2, 3)
    deviation = NOISE * (x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True))
    shape = (len(x), 1, *x.shape[2:]) if inputs.separate else x.shape
    total = torch.zeros(())
    for n in range(samples):
        noise = torch.randn(shape, generator=draws, dtype=x.dtype) * deviation
        scores, g = gradient(x + noise, text=f"SmoothGrad {n + 1} of {samples}")
        total = total + g
    parameters = {"samples": samples, "noise": NOISE, "seed": inputs.seed}
    return InputResult(values=total / samples, evaluations=samples, caveats=((),) * len(scores), parameters=parameters)


def integrated_gradients(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """(x - b) times the mean gradient along the straight way from the baseline b (Sundararajan et al. 2017, arXiv
    1703.01365, eq. 1), by the midpoint rule; complete: the values add up to S(x) - S(b)."""
    import torch

    steps = inputs.options["samples"] or PATH_SAMPLES
    b, total = inputs.baseline, torch.zeros(())
    assert b is not None
    for n in range(steps):
        _, g = gradient(b + (x - b) * (n + 0.5) / steps, text=f"Integrated gradients {n + 1} of {steps}")
        total = total + g
    values = total / steps * (x - b)
    caveats = completeness(values, score_of(gradient, x), score_of(gradient, b), inputs.by_slices)
    parameters = {"steps": steps, "baseline": inputs.options["baseline"]}
    return InputResult(values=values, evaluations=steps + 2, caveats=caveats, parameters=parameters)


def expected_gradients(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """The mean of (x - b) dS/dx at b + a (x - b), b drawn from the baselines and a uniformly from 0..1 (Erion et al. 2021,
    arXiv 1906.10670, eq. 3). Draws of a are stratified; each baseline is drawn equally often, which may cost some samples."""
    import torch

    samples = inputs.options["samples"] or PATH_SAMPLES
    baselines = inputs.baselines[:samples]
    samples -= samples % len(baselines)
    draws = torch.Generator().manual_seed(inputs.seed)
    order = torch.randperm(samples, generator=draws).tolist()
    total = torch.zeros(())
    for n in range(samples):
        b = baselines[n % len(baselines)]
        a = (order[n] + float(torch.rand(1, generator=draws))) / samples
        _, g = gradient(b + a * (x - b), text=f"Expected gradients {n + 1} of {samples}")
        total = total + g * (x - b)
    bottom = sum((score_of(gradient, b) for b in baselines), torch.zeros(())) / len(baselines)
    caveats = completeness(total / samples, score_of(gradient, x), bottom, inputs.by_slices)
    parameters = {"samples": samples, "baselines": len(baselines), "seed": inputs.seed}
    evaluations = samples + 1 + len(baselines)
    return InputResult(values=total / samples, evaluations=evaluations, caveats=caveats, parameters=parameters)


def deeplift(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """See :func:`MedXAILib.attribution.rules.deeplift`; the values add up to S(x) - S(b)."""
    b = inputs.baseline
    assert b is not None
    _, g = gradient(x, rule=rules.deeplift, baseline=b)
    values = g * (x - b)
    caveats = completeness(values, score_of(gradient, x), score_of(gradient, b), inputs.by_slices, RULED)
    parameters = {"baseline": inputs.options["baseline"]}
    return InputResult(values=values, evaluations=4, caveats=caveats, parameters=parameters)


def lrp(x: torch.Tensor, gradient: Gradient, inputs: GradientInputs) -> InputResult:
    """See :func:`MedXAILib.attribution.rules.lrp`; relevance adds up to S(x), but for what biases take."""
    scores, g = gradient(x, rule=rules.lrp)
    sums = (g * x).flatten(1).sum(1)
    caveats = tuple((_relevance(*map(float, pair)),) for pair in zip(sums, scores.sum(1), strict=True))
    return InputResult(values=g * x, evaluations=1, caveats=caveats)


def _relevance(found: float, score: float) -> Caveat:
    wrong = found * score < 0
    text = (
        f"Relevance adds up to {found:.4g} of a score of {score:.4g}; the rest stays in biases, and in "
        "what has no rule (attention, products of two activations, normalisation by the sample's own statistics)"
        f"{'. Unreliable: do not interpret this map' if wrong else ''}."
    )
    return Caveat("relevance", text, UNRELIABLE if wrong else NOTE, {"sum": found, "score": score})


def score_of(gradient: Gradient, x: torch.Tensor) -> torch.Tensor:
    """The scores (T, pieces) alone."""
    return gradient(x, scores_only=True)[0]


def completeness(
    values: torch.Tensor, top: torch.Tensor, bottom: torch.Tensor, by_slices: bool, advice: str = SAMPLED
) -> tuple[tuple[Caveat, ...], ...]:
    """For each target, how far its values' sum lies from the score's difference; slices by the worst one.

    :param advice: said of an error that is not fair.
    """
    dims = (1, 3, 4) if by_slices else (1, 2, 3, 4)
    sums = values.double().sum(dims).reshape(len(values), -1)
    return tuple((_complete(s, d, advice),) for s, d in zip(sums, (top - bottom).double().to(sums), strict=True))


def _complete(sums: torch.Tensor, wanted: torch.Tensor, advice: str) -> Caveat:
    largest = float(wanted.abs().max())
    worst = int((sums - wanted).abs().argmax())
    error = float((sums - wanted).abs()[worst]) / largest if largest else 0.0
    where = f" (slice {worst})" if len(sums) > 1 else ""
    fair = error <= COMPLETE
    text = (
        f"Completeness: the map adds up to {float(sums[worst]):.4g}, the score differs from the baseline's by "
        f"{float(wanted[worst]):.4g}{where}: an error of {100 * error:.2g} %"
        f"{'' if fair else f'. Unreliable: do not interpret this map; {advice}'}."
    )
    return Caveat("completeness", text, NOTE if fair else UNRELIABLE, {"error": round(error, 6)})


def baseline(name: str, x: torch.Tensor, foreground: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
    """An input without evidence, (channel, d0, d1, d2).

    minimum: each channel's least value (what surrounds a body in CT and MR, and the edge of an X-ray); zero: 0 in the
    network's units; mean: the mean of the tissue in the tissue, of the background in the background; blurred: the input
    through a Gaussian of BLUR_MM.

    :param spacing: mm along the three axes; 0 for an axis that is not blurred (slices).
    """
    import torch
    from scipy.ndimage import gaussian_filter

    if name == "minimum":
        return x.amin((1, 2, 3), keepdim=True).expand_as(x)
    if name == "zero":
        return torch.zeros_like(x)
    if name == "mean":
        return mean_fill(x, foreground)
    sigma = [BLUR_MM / s if s else 0 for s in spacing]
    return torch.stack([torch.from_numpy(gaussian_filter(c.numpy(), sigma, mode="nearest")) for c in x])


def strongest(values: torch.Tensor) -> torch.Tensor:
    """The largest absolute value over an input's channels."""
    return values.abs().amax(0)


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum over an input's channels."""
    return values.sum(0)


def times_gradcam(values: Floats, maps: Mapping[str, Floats]) -> Floats:
    """The detail of the one at the place of the other (Selvaraju et al. 2017, sec. 3.2)."""
    product: Floats = values * maps["gradcam"]
    return product


def along_path(cost: Cost) -> int:
    """Each step, and the scores at both ends."""
    return (cost.options["samples"] or PATH_SAMPLES) + 2


def expected_evaluations(cost: Cost) -> int:
    """Each draw, and the scores of the input and of every baseline."""
    return (cost.options["samples"] or PATH_SAMPLES) + 1 + len(BASELINES)


def noisy_evaluations(cost: Cost) -> int:
    """Each noisy input."""
    return cost.options["samples"] or NOISY_SAMPLES


def four_passes(cost: Cost) -> int:
    """Input and baseline together, and the scores of each."""
    return 4


def two_passes(cost: Cost) -> int:
    """Both methods that are multiplied."""
    return 2


ONE = "one forward pass, and one backward pass for each class"
PATH = f"{PATH_SAMPLES} forward and backward passes (--samples)"
METHODS = (
    InputMethod(
        name="saliency",
        title="Gradient saliency",
        cost=ONE,
        reference="Simonyan et al. 2013, arXiv 1312.6034",
        signed=False,
        reading="Gradient saliency shows where a small change would move the score most, up or down, not what made the score high; single voxels mean little.",
        randomisation=PASSES,
        run=plain,
        reduce=strongest,
    ),
    InputMethod(
        name="gradxinput",
        title="Gradient x input",
        cost=ONE,
        reference="Shrikumar et al. 2016, arXiv 1605.01713",
        signed=True,
        reading="Gradient x input is 0 wherever the prepared input is 0, whatever the network makes of it there, and holds for small changes only.",
        run=gradient_times_input,
        reduce=summed,
    ),
    InputMethod(
        name="smoothgrad",
        title="SmoothGrad",
        cost=f"{NOISY_SAMPLES} forward and backward passes (--samples)",
        reference="Smilkov et al. 2017, arXiv 1706.03825",
        signed=False,
        reading="SmoothGrad shows where a small change would move the score, up or down, averaged over noisy inputs that the network was not trained on.",
        evaluations=noisy_evaluations,
        run=smoothgrad,
        reduce=strongest,
        options=(SAMPLES,),
    ),
    InputMethod(
        name="ig",
        title="Integrated gradients",
        cost=PATH,
        reference="Sundararajan et al. 2017, arXiv 1703.01365",
        signed=True,
        reading="Integrated gradients explain the difference from the baseline: where the input equals it they are 0, and another --baseline gives another map.",
        evaluations=along_path,
        run=integrated_gradients,
        reduce=summed,
        options=(SAMPLES, BASELINE),
    ),
    InputMethod(
        name="expgrad",
        title="Expected gradients",
        cost=PATH,
        reference="Erion et al. 2021, arXiv 1906.10670",
        signed=True,
        reading="Expected gradients explain the difference from the mean of their baselines (all that there are, or --reference): others give another map.",
        evaluations=expected_evaluations,
        run=expected_gradients,
        reduce=summed,
        options=(SAMPLES, REFERENCES),
    ),
    InputMethod(
        name="deeplift",
        title="DeepLIFT",
        needs="gradients and activation functions that can be seen",
        cost="one forward and backward pass over the input and the baseline together",
        reference="Shrikumar et al. 2017, arXiv 1704.02685, the Rescale rule as in Ancona et al. 2018, arXiv 1711.06104",
        signed=True,
        reading="DeepLIFT explains the difference from the baseline: where the input equals it the map is 0, and another --baseline gives another map.",
        evaluations=four_passes,
        run=deeplift,
        reduce=summed,
        options=(BASELINE,),
    ),
    InputMethod(
        name="lrp",
        title="LRP (epsilon)",
        needs="gradients and activation functions that can be seen",
        cost=ONE,
        reference="Bach et al. 2015, PLoS ONE 10(7), the epsilon rule as in Ancona et al. 2018, arXiv 1711.06104",
        signed=True,
        reading="On networks of ReLU this rule is gradient x input: it is 0 wherever the prepared input is 0, whatever the network makes of it there.",
        run=lrp,
        reduce=summed,
    ),
    InputMethod(
        name="guidedbackprop",
        title="Guided backpropagation",
        needs="gradients and rectifiers that can be seen",
        cost=ONE,
        reference="Springenberg et al. 2014, arXiv 1412.6806",
        signed=False,
        reading="Guided backpropagation looks sharp because it follows the image, and it hardly changes with the class.",
        randomisation=FAILS,
        run=guided_backpropagation,
        reduce=strongest,
    ),
    InputMethod(
        name="deconvnet",
        title="DeconvNet",
        needs="gradients and rectifiers that can be seen",
        cost=ONE,
        reference="Zeiler and Fergus 2014, arXiv 1311.2901",
        signed=False,
        reading="DeconvNet looks sharp because it follows the image, and it hardly changes with the class.",
        randomisation=FAILS,
        run=deconvolution,
        reduce=strongest,
    ),
    InputMethod(
        name="guidedgradcam",
        title="Guided Grad-CAM",
        needs="a convolutional layer, and rectifiers that can be seen",
        cost="Grad-CAM and guided backpropagation together",
        reference="Selvaraju et al. 2017, arXiv 1610.02391, sec. 3.2",
        signed=False,
        reading="The fine detail comes from guided backpropagation, which hardly changes with the class: only the coarse place belongs to it.",
        randomisation=FAILS,
        evaluations=two_passes,
        run=guided_backpropagation,
        reduce=strongest,
        requires=("gradcam",),
        combine=times_gradcam,
    ),
)
