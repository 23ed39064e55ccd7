"""The registry of methods: the command line's help, the panel's list and the documentation read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import ClassVar

from ..errors import InputError
from ..names import matching
from . import cam, gradient, lime, perturbation

PASSES, FAILS, UNTESTED = "passes", "fails", "not tested"
SAMPLES_PER_SUPERPIXEL = 10
LEAST_SAMPLES = 200
RISE_SAMPLES = 1000
RISE_CELLS = 7
"""Of RISE's random grids along each axis, as in the paper."""
SUPERPIXELS = {"slices": 50, "whole": 150, "windows": 150}
"""Default number of superpixels of a slice, of supervoxels of a volume."""


@dataclass(frozen=True)
class Facts:
    """What the number of evaluations of a method depends on.

    :ivar shape: (d0, d1, d2) that is explained at once: a slice has d0 = 1.
    :ivar spacing: mm along these axes.
    :ivar channels: of the layer explained.
    """

    mode: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: int = 0
    samples: int | None = None
    superpixels: int | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """One attribution method.

    :ivar needs: what it must have of the network.
    :ivar evaluations: how often the network runs for one map of the whole (or of a slice of a slice-wise network), from
        :class:`Facts`.
    :ivar signed: whether negative values mean evidence against; otherwise maps are >= 0.
    :ivar randomisation: whether maps change as they must where the network's weights are made random, layer by layer
        (Adebayo et al. 2018, arXiv 1810.03292): as published, for the method and not for any one network.
    :ivar reading: one sentence for every map of the method: how to read it, or what it cannot show.
    :ivar task: the only task that it is for, or "".
    """

    kind: ClassVar[str]
    name: str
    title: str
    family: str
    needs: str
    cost: str
    reference: str
    signed: bool
    reading: str
    evaluations: Callable[[Facts], int] = lambda facts: 1
    randomisation: str = UNTESTED
    task: str = ""


@dataclass(frozen=True, kw_only=True)
class LayerMethod(Method):
    """A map of one layer, from its activations and gradients: see :mod:`.cam`.

    :ivar gathers: ``gather(feature, *earlier) -> statistics``, one after the other over all tiles.
    :ivar map: ``map(feature, *statistics) -> (batch, *cells)``.
    :ivar summed: windows' maps are added up, not averaged.
    :ivar alone: its gradient is that of each window's own score.
    :ivar stages: by default all stages of the network are explained, not one layer.
    :ivar pooled: only where the head is pooling and one linear layer.
    :ivar rows: only where the cells stand in rows and columns.
    :ivar averages: it gives a channel the mean of its gradients as one weight for all positions.
    """

    kind = "layer"
    family: str = "class activation map"
    needs: str = "a convolutional layer"
    cost: str = "one forward pass, and one partial backward pass for each class"
    gathers: tuple[Callable, ...] = ()
    map: Callable
    summed: bool = False
    alone: bool = False
    stages: bool = False
    pooled: bool = False
    rows: bool = False
    averages: bool = False


@dataclass(frozen=True, kw_only=True)
class InputMethod(Method):
    """A map of the input: see :mod:`.gradient`.

    :ivar run: ``run(x, gradient, setting) -> Sensitivity``.
    :ivar strongest: the map is the largest absolute value over an input's channels, else their sum.
    :ivar times_cam: it is multiplied by the class's Grad-CAM.
    :ivar baseline: it compares the input with a baseline.
    :ivar alone: not linear in the score: windows' maps of their own scores are averaged, others are added up.
    """

    kind = "input"
    family: str = "gradient"
    needs: str = "gradients"
    run: Callable
    strongest: bool = False
    times_cam: bool = False
    baseline: bool = False
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class QueryMethod(Method):
    """A map from the scores of changed inputs alone: see :mod:`.lime` and :mod:`.perturbation`.

    :ivar superpixels: whether it switches superpixels, and gives a coefficient for each.
    :ivar run: ``run(x, score, segments or None, facts, fill=..., seed=..., batch=..., progress=...)``.
    """

    kind = "query"
    family: str = "perturbation"
    needs: str = "nothing"
    superpixels: bool = False
    run: Callable


def default_samples(superpixels: int) -> int:
    """How many perturbed inputs so many superpixels want: the folk rule of 10 for each."""
    return max(SAMPLES_PER_SUPERPIXEL * superpixels, LEAST_SAMPLES)


def case_evaluations(m: Method, facts: Facts, channels: int = 0) -> int:
    """About how often the network runs for one map.

    :param channels: of the layer explained.
    """
    return m.evaluations(replace(facts, channels=channels))


def superpixel_samples(facts: Facts) -> int:
    return facts.samples or default_samples(facts.superpixels or SUPERPIXELS[facts.mode])


def _lime(x, score, segments, facts, **common):
    samples = facts.samples or default_samples(int(segments.max()) + 1)
    return lime.lime(x, score, segments, samples=samples, **common)


def _kernel_shap(x, score, segments, facts, **common):
    samples = facts.samples or default_samples(int(segments.max()) + 1)
    return perturbation.kernel_shap(x, score, segments, samples=samples, **common)


def _occlusion(x, score, segments, facts, *, seed, **common):
    patch, stride = perturbation.patches(facts.shape, facts.spacing)
    return perturbation.occlusion(x, score, patch=patch, stride=stride, **common)


def _rise(x, score, segments, facts, **common):
    cells = [min(RISE_CELLS, n) for n in facts.shape]
    return perturbation.rise(x, score, samples=facts.samples or RISE_SAMPLES, cells=cells, **common)


def _patches(facts: Facts) -> int:
    return perturbation.occlusion_evaluations(facts.shape, *perturbation.patches(facts.shape, facts.spacing))


def _channels(facts: Facts) -> int:
    return facts.channels + 1


def _path(facts: Facts) -> int:
    return (facts.samples or gradient.PATH_SAMPLES) + 2


def _expected(facts: Facts) -> int:
    return (facts.samples or gradient.PATH_SAMPLES) + 1 + len(gradient.BASELINES)


def _noisy(facts: Facts) -> int:
    return facts.samples or gradient.NOISY_SAMPLES


ONE = "one forward pass, and one backward pass for each class"
PATH = f"{gradient.PATH_SAMPLES} forward and backward passes (--samples)"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        LayerMethod(
            name="gradcam",
            title="Grad-CAM",
            reference="Selvaraju et al. 2017, arXiv 1610.02391; on a segmentation Seg-Grad-CAM: Vinogradova et al. 2020, arXiv 2002.11434",
            signed=False,
            reading="Grad-CAM gives each channel one weight for all places and keeps only what raises the score: evidence against the class is not shown.",
            randomisation=PASSES,
            gathers=(cam.mean_gradient,),
            map=cam.gradcam,
            averages=True,
        ),
        LayerMethod(
            name="layerwise",
            title="Layer-wise Grad-CAM",
            reference="Selvaraju et al. 2017, arXiv 1610.02391, at every stage of the encoder and decoder",
            signed=False,
            reading="Early stages mostly follow edges of the image; where stages differ, no single one is the whole explanation.",
            randomisation=PASSES,
            gathers=(cam.mean_gradient,),
            map=cam.gradcam,
            averages=True,
            stages=True,
        ),
        LayerMethod(
            name="cam",
            title="CAM",
            needs="pooling and one linear layer behind the layer",
            cost="one forward pass",
            reference="Zhou et al. 2016, arXiv 1512.04150",
            signed=True,
            reading="CAM shows what each cell adds to the score; cells with negative values speak against the class.",
            gathers=(cam.mean_gradient,),
            map=cam.cam,
            pooled=True,
            task="classification",
        ),
        LayerMethod(
            name="gradcam++",
            title="Grad-CAM++",
            reference="Chattopadhay et al. 2018, arXiv 1710.11063",
            signed=False,
            reading="Grad-CAM++ counts only gradients that raise the score: evidence against the class is not shown.",
            gathers=(cam.activation_sums, cam.plusplus_weights),
            map=cam.gradcam_plusplus,
            averages=True,
            alone=True,
        ),
        LayerMethod(
            name="hirescam",
            title="HiResCAM",
            reference="Draelos and Carin 2020, arXiv 2011.08891; on a segmentation Seg-HiRes-Grad-CAM: Rheude et al. 2024, MELBA",
            signed=False,
            reading="HiResCAM shows what each cell adds to the score, to first order; cells that speak against the class are left out.",
            map=cam.gradient_times_activation,
            summed=True,
        ),
        LayerMethod(
            name="layercam",
            title="LayerCAM",
            reference="Jiang et al. 2021, IEEE TIP 30, 5875-5888",
            signed=False,
            reading="LayerCAM counts only cells whose gradient raises the score: evidence against the class is not shown.",
            map=cam.layercam,
            summed=True,
        ),
        LayerMethod(
            name="xgradcam",
            title="XGrad-CAM",
            reference="Fu et al. 2020, arXiv 2008.02312",
            signed=False,
            reading="XGrad-CAM gives each channel one weight for all places and keeps only what raises the score: evidence against the class is not shown.",
            gathers=(cam.xgrad_sums,),
            map=cam.xgradcam,
            averages=True,
        ),
        LayerMethod(
            name="segxrescam",
            title="Seg-XRes-CAM",
            reference="Hasany, Petitjean and Meriaudeau 2023, CVPR workshops",
            signed=False,
            reading="Seg-XRes-CAM averages gradients over blocks of cells and keeps only what raises the score: evidence against the class is not shown.",
            map=cam.xres,
            alone=True,
            rows=True,
            task="segmentation",
        ),
        LayerMethod(
            name="eigencam",
            title="Eigen-CAM",
            cost="one forward pass; knows no class",
            reference="Muhammad and Yeasin 2020, arXiv 2008.00299",
            signed=False,
            reading="Eigen-CAM shows what dominates the layer, whatever the class: it does not say why this class was chosen.",
            gathers=(cam.second_moments,),
            map=cam.eigencam,
        ),
        LayerMethod(
            name="scorecam",
            title="Score-CAM",
            cost="one forward pass for each channel of the layer",
            reference="Wang et al. 2020, arXiv 1910.01279",
            signed=False,
            reading="Score-CAM darkens the input to 0 outside of each channel's pattern, which the network may never have seen; evidence against the class is not shown.",
            evaluations=_channels,
            gathers=(cam.ranges, cam.masked_scores),
            map=cam.scorecam,
        ),
        LayerMethod(
            name="ablationcam",
            title="Ablation-CAM",
            cost="one forward pass for each channel of the layer",
            reference="Desai and Ramaswamy 2020, WACV",
            signed=False,
            reading="Ablation-CAM switches whole channels off, which the network may never have seen; evidence against the class is not shown.",
            evaluations=_channels,
            gathers=(cam.score_drops,),
            map=cam.ablationcam,
        ),
        InputMethod(
            name="saliency",
            title="Gradient saliency",
            cost=ONE,
            reference="Simonyan et al. 2013, arXiv 1312.6034",
            signed=False,
            reading="Gradient saliency shows where a small change would move the score most, up or down, not what made the score high; single voxels mean little.",
            randomisation=PASSES,
            run=gradient.plain,
            strongest=True,
        ),
        InputMethod(
            name="gradxinput",
            title="Gradient x input",
            cost=ONE,
            reference="Shrikumar et al. 2016, arXiv 1605.01713",
            signed=True,
            reading="Gradient x input is 0 wherever the prepared input is 0, whatever the network makes of it there, and holds for small changes only.",
            run=gradient.gradient_times_input,
        ),
        InputMethod(
            name="smoothgrad",
            title="SmoothGrad",
            cost=f"{gradient.NOISY_SAMPLES} forward and backward passes (--samples)",
            reference="Smilkov et al. 2017, arXiv 1706.03825",
            signed=False,
            reading="SmoothGrad shows where a small change would move the score, up or down, averaged over noisy inputs that the network was not trained on.",
            evaluations=_noisy,
            run=gradient.smoothgrad,
            strongest=True,
        ),
        InputMethod(
            name="ig",
            title="Integrated gradients",
            cost=PATH,
            reference="Sundararajan et al. 2017, arXiv 1703.01365",
            signed=True,
            reading="Integrated gradients explain the difference from the baseline: where the input equals it they are 0, and another --baseline gives another map.",
            evaluations=_path,
            run=gradient.integrated_gradients,
            baseline=True,
        ),
        InputMethod(
            name="expgrad",
            title="Expected gradients",
            cost=PATH,
            reference="Erion et al. 2021, arXiv 1906.10670",
            signed=True,
            reading="Expected gradients explain the difference from the mean of their baselines: other baselines give another map.",
            evaluations=_expected,
            run=gradient.expected_gradients,
            baseline=True,
        ),
        InputMethod(
            name="deeplift",
            title="DeepLIFT",
            needs="gradients and activation functions that can be seen",
            cost="one forward and backward pass over the input and the baseline together",
            reference="Shrikumar et al. 2017, arXiv 1704.02685, the Rescale rule as in Ancona et al. 2018, arXiv 1711.06104",
            signed=True,
            reading="DeepLIFT explains the difference from the baseline: where the input equals it the map is 0, and another --baseline gives another map.",
            evaluations=lambda facts: 4,
            run=gradient.deeplift,
            baseline=True,
        ),
        InputMethod(
            name="lrp",
            title="LRP (epsilon)",
            needs="gradients and activation functions that can be seen",
            cost=ONE,
            reference="Bach et al. 2015, PLoS ONE 10(7), the epsilon rule as in Ancona et al. 2018, arXiv 1711.06104",
            signed=True,
            reading="On networks of ReLU this rule is gradient x input: it is 0 wherever the prepared input is 0, whatever the network makes of it there.",
            run=gradient.lrp,
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
            run=gradient.guided_backpropagation,
            alone=True,
            strongest=True,
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
            run=gradient.deconvolution,
            alone=True,
            strongest=True,
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
            evaluations=lambda facts: 2,
            run=gradient.guided_backpropagation,
            alone=True,
            strongest=True,
            times_cam=True,
        ),
        QueryMethod(
            name="occlusion",
            title="Occlusion",
            cost="one forward pass for each position of the patch (at most about 225 in a slice, 500 in a volume)",
            reference="Zeiler and Fergus 2014, arXiv 1311.2901",
            signed=True,
            reading="Occlusion hides one patch at a time: where either of two places is enough for the score, neither shows; nothing smaller than a patch is resolved.",
            evaluations=_patches,
            run=_occlusion,
        ),
        QueryMethod(
            name="rise",
            title="RISE",
            cost=f"one forward pass for each random mask ({RISE_SAMPLES}; --samples)",
            reference="Petsiuk et al. 2018, arXiv 1806.07421",
            signed=True,
            reading="RISE is estimated from random masks: another seed gives another map, and nothing smaller than a cell of its masks is resolved.",
            evaluations=lambda facts: facts.samples or RISE_SAMPLES,
            run=_rise,
        ),
        QueryMethod(
            name="lime",
            title="LIME",
            cost="one forward pass for each sample (10 for each superpixel, at least 200)",
            reference="Ribeiro et al. 2016, arXiv 1602.04938",
            signed=True,
            reading="LIME is a straight-line model of the network over superpixels: another seed or other superpixels give another map, and a value belongs to its superpixel as a whole.",
            evaluations=superpixel_samples,
            superpixels=True,
            run=_lime,
        ),
        QueryMethod(
            name="shap",
            title="Kernel SHAP",
            cost="one forward pass for each coalition of superpixels (10 for each superpixel, at least 200)",
            reference="Lundberg and Lee 2017, arXiv 1705.07874",
            signed=True,
            reading="Kernel SHAP shares the score out among superpixels as wholes: other superpixels, or another content in place of the hidden ones, give another map.",
            evaluations=superpixel_samples,
            superpixels=True,
            run=_kernel_shap,
        ),
    )
}
ALL = "all"
"""Stands for every method that suits the network."""


def method(name: str) -> Method:
    """A method by name or title, in any spelling of capitals and hyphens.

    :raises InputError: listing the methods.
    """
    titles = {m.title: m.name for m in METHODS.values()}
    found = matching(name, METHODS) or titles.get(matching(name, titles) or "")
    if found is None:
        near = get_close_matches(name.casefold(), METHODS, 1)
        meant = f"did you mean {near[0]}? Else " if near else ""
        raise InputError(f"There is no method '{name}': {meant}choose from {', '.join(METHODS)}, or {ALL}.")
    return METHODS[found]


def methods(names: list[str] | tuple[str, ...]) -> list[Method]:
    """The methods of these names, each once; ``all`` is every one."""
    wanted = [method(name).name for given in names for name in (METHODS if given == ALL else [given])]
    return [METHODS[name] for name in dict.fromkeys(wanted)]
