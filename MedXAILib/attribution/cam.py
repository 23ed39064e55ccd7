"""Class activation maps: how the activations and gradients of one layer become one map.

Each method is a few functions over a :class:`Feature`. ``gather`` functions return statistics (batch, ...) that are summed
over the tiles of a volume, so that channel weights belong to the whole and not to a window; the next ``gather`` and the
final ``map`` get them. Maps are raw: no normalisation, and where a method ends in a ReLU it is taken after the tiles are
put together.

With several windows the gradient is that of the stitched score (each voxel's logit is parted among the windows that
hold it), so gradients and gradient times activation are *summed* over windows, while activations and what is linear in
them are *averaged* with the windows' weights (``weight``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import LayerError
from ..models.layers import Layer, stages
from .method import PASSES, Cost, Gather, LayerMethod

if TYPE_CHECKING:
    import torch

    from ..recording.recording import Recording

POOL = 4
"""Cells of a window of Seg-XRes-CAM along each axis."""
VOXELS_AT_ONCE = 1 << 21
"""Score-CAM and Ablation-CAM try as many channels in one batch as make this many input voxels, but at least one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Feature:
    """One layer as one tile shows it.

    :ivar activation: A, (batch, channel, *cells).
    :ivar backward: ``backward(own)`` gives dS/dA, of the same shape; the pass backwards runs when it is first called. S is the
        score of the whole, or the window's own.
    :ivar weight: (*cells), the part of each cell in the whole: sums to 1 over the windows that hold it; 1.0 for one tile.
    :ivar inside: (*cells), 0 for cells that lie outside the volume, in a window's padding: they take no part in statistics
        (their weight is 0 too); 1.0 where there is no padding.
    :ivar cells: number of cells of the whole, without these.
    :ivar ask: scores of the tile, (n * batch,): ``ask(input=variants)`` with (n * batch, channel, *spatial) for its input,
        ``ask(off=channels)`` with each of n channels of this layer switched off in turn, ``ask()`` as it is.
    :ivar input: the tile, (batch, channel, *spatial).
    :ivar lay: brings (..., *positions) onto the grid (..., *cells), where positions do not stand in rows and columns.
    """

    activation: torch.Tensor
    backward: Callable[[bool], torch.Tensor]
    weight: torch.Tensor | float = 1.0
    cells: int = 1
    ask: Callable[..., torch.Tensor] | None = None
    input: torch.Tensor | None = None
    inside: torch.Tensor | float = 1.0
    lay: Callable[[torch.Tensor], torch.Tensor] = lambda values: values

    @property
    def gradient(self) -> torch.Tensor:
        """Of the score of the whole: sums over windows are its gradient."""
        return self.backward(False)

    @property
    def own_gradient(self) -> torch.Tensor:
        """Of each window's own score, for what is not linear in it; the same where there is one tile."""
        return self.backward(True)


def _sum(values: torch.Tensor) -> torch.Tensor:
    """Over positions: (batch, channel)."""
    return values.flatten(2).sum(2)


def weighted(f: Feature, weights: torch.Tensor) -> torch.Tensor:
    """sum_k w_k A^k: (batch, *cells).

    :param weights: (batch or 1, channel).
    """
    import torch

    return torch.einsum("bk...,bk->b...", f.activation, weights.to(f.activation).expand(len(f.activation), -1))


def mean_gradient(f: Feature) -> torch.Tensor:
    """Grad-CAM's alpha_k: the mean over positions of dS/dA^k (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1)."""
    return _sum(f.gradient * f.inside) / f.cells


def gradcam(f: Feature, alpha: torch.Tensor) -> torch.Tensor:
    """sum_k alpha_k A^k, then ReLU (eq. 2). On a segmentation's region it is Seg-Grad-CAM (Vinogradova et al. 2020,
    arXiv 2002.11434, eq. 1); with windows, alpha is one for the whole volume."""
    return weighted(f, alpha)


def cam(f: Feature, alpha: torch.Tensor) -> torch.Tensor:
    """sum_k w_k A^k with the head's own weights (Zhou et al. 2016, arXiv 1512.04150, eq. 2): behind pooling and one
    linear layer w_k is alpha_k times the number of cells. No ReLU: signed."""
    return weighted(f, alpha * f.cells)


def activation_sums(f: Feature) -> torch.Tensor:
    """sum A^k over positions."""
    return _sum(f.activation * f.weight)


def plusplus_weights(f: Feature, sums: torch.Tensor) -> torch.Tensor:
    """Grad-CAM++'s w_k (Chattopadhay et al. 2018, arXiv 1710.11063, eqs. 6 and 19): the sum over positions of
    alpha ReLU(g), alpha = g^2 / (2 g^2 + g^3 sum A^k), g = dS/dA. The factor exp(S) that eq. 19 leaves in w_k is one number
    for the whole map, and is left out. With windows, g is that of the window's own score: alpha is not linear in it."""
    import torch

    g = f.own_gradient
    bottom = 2 + g * sums.to(g).reshape(*sums.shape, *[1] * (g.ndim - 2))
    alpha = torch.where((g != 0) & (bottom != 0), 1 / bottom, 0)
    return _sum(alpha * g.relu() * f.weight)


def gradcam_plusplus(f: Feature, sums: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum_k w_k A^k, then ReLU."""
    return weighted(f, weights)


def gradient_times_activation(f: Feature) -> torch.Tensor:
    """HiResCAM (Draelos and Carin 2020, arXiv 2011.08891, eq. 4): sum_k dS/dA^k A^k at each cell, then ReLU. On a
    segmentation's region it is Seg-HiRes-Grad-CAM (Rheude et al. 2024, MELBA)."""
    return (f.gradient * f.activation).sum(1)


def layercam(f: Feature) -> torch.Tensor:
    """LayerCAM (Jiang et al. 2021, IEEE TIP 30, eqs. 6-7): sum_k ReLU(dS/dA^k) A^k at each cell, then ReLU."""
    return (f.gradient.relu() * f.activation).sum(1)


def xres(f: Feature) -> torch.Tensor:
    """Seg-XRes-CAM (Hasany, Petitjean and Meriaudeau 2023, CVPR workshops): the gradient averaged over windows of POOL
    cells along each axis and spread over them again, times A, summed over channels, then ReLU. A window of one cell is
    HiResCAM, one of the whole grid Grad-CAM. Over a volume's windows, the gradient is that of each one's own score."""
    import torch

    dimensions = f.own_gradient.ndim - 2
    pool = (torch.nn.functional.avg_pool2d, torch.nn.functional.avg_pool3d)[dimensions - 2]
    size = [min(POOL, n) for n in f.own_gradient.shape[2:]]
    counted = f.inside * torch.ones_like(f.own_gradient[:1, :1])
    coarse, part = (
        pool(t, size, size, ceil_mode=True, count_include_pad=False) for t in (f.own_gradient * counted, counted)
    )
    coarse = torch.where(part > 0, coarse / part, 0)
    for axis, n in enumerate(size, 2):
        coarse = coarse.repeat_interleave(n, axis).narrow(axis, 0, f.own_gradient.shape[axis])
    return (coarse * f.activation).sum(1)


def xgrad_sums(f: Feature) -> torch.Tensor:
    """sum g A^k and sum A^k over positions: (batch, 2, channel)."""
    import torch

    return torch.stack([_sum(f.gradient * f.activation * f.inside), activation_sums(f)], 1)


def xgradcam(f: Feature, sums: torch.Tensor) -> torch.Tensor:
    """XGrad-CAM (Fu et al. 2020, arXiv 2008.02312, eq. 8): w_k = sum(g A^k) / sum(A^k); sum_k w_k A^k, then ReLU."""
    import torch

    top, bottom = sums.unbind(1)
    return weighted(f, torch.where(bottom != 0, top / bottom, 0))


def second_moments(f: Feature) -> torch.Tensor:
    """sum A^k A^l over positions, and below it sum A^k: (batch, channel + 1, channel)."""
    import torch

    a = f.activation.flatten(2)
    weighed = (f.activation * f.weight).flatten(2)
    return torch.cat([weighed @ a.transpose(1, 2), weighed.sum(2)[:, None]], 1)


def eigencam(f: Feature, moments: torch.Tensor) -> torch.Tensor:
    """Eigen-CAM (Muhammad and Yeasin 2020, arXiv 2008.00299, eq. 4): the activations' projection onto their first right
    singular vector, here the first eigenvector of their second moments; signed so that its sum is not negative, then ReLU.
    It knows no class: it shows what dominates the layer."""
    import torch

    _, vectors = torch.linalg.eigh(moments[:, :-1].double())
    first = vectors[:, :, -1]
    sign = torch.where((first * moments[:, -1].double()).sum(1, keepdim=True) < 0, -1.0, 1.0)
    return weighted(f, first * sign)


def ranges(f: Feature) -> torch.Tensor:
    """The least and the negative of the greatest value of each upsampled channel: (batch, 2, channel); the least over
    tiles."""
    import torch

    def limits(some: slice) -> torch.Tensor:
        up = _upsampled(f, some).flatten(2)
        return torch.stack([up.amin(2), -up.amax(2)], 1)

    return torch.cat([limits(some) for some in _batches(f)], 2)


def masked_scores(f: Feature, limits: torch.Tensor) -> torch.Tensor:
    """Score-CAM's S(x * H_k) - S(0), H_k being the upsampled A^k scaled to 0..1 (Wang et al. 2020, arXiv 1910.01279, eqs.
    3-6): (batch, channel). Of a channel that is constant to rounding H_k is 0."""
    import torch

    assert f.ask is not None and f.input is not None
    low, high = limits[:, 0], -limits[:, 1]
    width = torch.where(high - low > 1e-6 * low.abs().maximum(high.abs()), high - low, torch.inf)
    blank = f.ask(input=torch.zeros_like(f.input))
    found = []
    for some in _batches(f):
        up = _upsampled(f, some)
        bottom, height = (t[:, some].to(up).reshape(*up.shape[:2], *[1] * (up.ndim - 2)) for t in (low, width))
        variants = ((up - bottom) / height).transpose(0, 1)[
            :, :, None
        ] * f.input  # (channels, batch, input channel, ...)
        found.append(f.ask(input=variants.flatten(0, 1)).reshape(-1, len(up)).T - blank[:, None])
    return torch.cat(found, 1)


def scorecam(f: Feature, limits: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """sum_k softmax(S)_k A^k, then ReLU (eqs. 7-8)."""
    return weighted(f, scores.softmax(1))


def score_drops(f: Feature) -> torch.Tensor:
    """The score, and the score with each channel switched off: (batch, 1 + channel)."""
    import torch

    assert f.ask is not None
    batch = len(f.activation)
    found = [f.ask()[:, None]]
    for some in _batches(f):
        off = range(f.activation.shape[1])[some]
        found.append(f.ask(off=off).reshape(len(off), batch).T)
    return torch.cat(found, 1)


def ablationcam(f: Feature, scores: torch.Tensor) -> torch.Tensor:
    """sum_k w_k A^k, w_k = S - S without k, then ReLU (Desai and Ramaswamy 2020, WACV, eqs. 4-5). The paper's division by S
    is one number for the map and is left out: a logit may be negative or near 0, and the slices of a volume have one scale."""
    return weighted(f, scores[:, :1] - scores[:, 1:])


def _upsampled(f: Feature, some: slice) -> torch.Tensor:
    """Some channels of A as large as the input; cells outside the volume take the value of the nearest one inside."""
    import torch

    assert f.input is not None
    shape, a = f.input.shape[2:], f.lay(f.activation[:, some]).to(f.input)
    if isinstance(f.inside, torch.Tensor):
        for axis, within in enumerate(f.lay(f.inside).nonzero().unbind(1), 2):
            nearest = torch.arange(a.shape[axis], device=a.device).clamp(int(within.min()), int(within.max()))
            a = a.index_select(axis, nearest)
    mode = ("bilinear", "trilinear")[len(shape) - 2]
    return torch.nn.functional.interpolate(a, shape, mode=mode, align_corners=False)


def _batches(f: Feature) -> list[slice]:
    assert f.input is not None
    count = max(1, VOXELS_AT_ONCE // f.input.numel())
    return [slice(n, n + count) for n in range(0, f.activation.shape[1], count)]


def lesser(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """The least over tiles."""
    return old.minimum(new)


LEAST_OF_RANGES = Gather(ranges, lesser)


def first_order(f: Feature) -> float:
    """The score that a tile's layer carries to first order: the sum of gradient times activation."""
    return float((f.gradient * f.activation).sum())


def pooled_and_linear(recording: Recording, layer: Layer) -> None:
    """:raises LayerError: where there is more than pooling and one linear layer behind a layer."""
    if recording.pooled(layer.name) is None:
        raise LayerError(
            f"CAM needs features that are pooled and classified by one linear layer, and those of {layer.name} "
            "are not; choose gradcam, which equals it where it applies, or another --layer."
        )


def in_rows(recording: Recording, layer: Layer) -> None:
    """:raises LayerError: where a layer's cells do not stand in rows and columns."""
    assert layer.arrangement is not None  # it is a feature grid
    if layer.arrangement.cell is not None:
        raise LayerError(f"Seg-XRes-CAM pools neighbouring cells, and those of {layer.name} do not stand side by side.")


def each_channel(cost: Cost) -> int:
    """One evaluation for each channel of the layer, and one for the input."""
    return cost.channels + 1


METHODS = (
    LayerMethod(
        name="gradcam",
        title="Grad-CAM",
        reference="Selvaraju et al. 2017, arXiv 1610.02391; on a segmentation Seg-Grad-CAM: Vinogradova et al. 2020, arXiv 2002.11434",
        signed=False,
        reading="Grad-CAM gives each channel one weight for all places and keeps only what raises the score: evidence against the class is not shown.",
        randomisation=PASSES,
        gathers=(Gather(mean_gradient),),
        map=gradcam,
        assumes_pooling=True,
    ),
    LayerMethod(
        name="layerwise",
        title="Layer-wise Grad-CAM",
        reference="Selvaraju et al. 2017, arXiv 1610.02391, at every stage of the encoder and decoder",
        signed=False,
        reading="Early stages mostly follow edges of the image; where stages differ, no single one is the whole explanation.",
        randomisation=PASSES,
        gathers=(Gather(mean_gradient),),
        map=gradcam,
        assumes_pooling=True,
        choose=stages,
        carried=first_order,
    ),
    LayerMethod(
        name="cam",
        title="CAM",
        needs="pooling and one linear layer behind the layer",
        cost="one forward pass",
        reference="Zhou et al. 2016, arXiv 1512.04150",
        signed=True,
        reading="CAM shows what each cell adds to the score; cells with negative values speak against the class.",
        gathers=(Gather(mean_gradient),),
        map=cam,
        check=pooled_and_linear,
        task="classification",
    ),
    LayerMethod(
        name="gradcam++",
        title="Grad-CAM++",
        reference="Chattopadhay et al. 2018, arXiv 1710.11063",
        signed=False,
        reading="Grad-CAM++ counts only gradients that raise the score: evidence against the class is not shown.",
        gathers=(
            Gather(activation_sums),
            Gather(plusplus_weights),
        ),
        map=gradcam_plusplus,
        assumes_pooling=True,
    ),
    LayerMethod(
        name="hirescam",
        title="HiResCAM",
        reference="Draelos and Carin 2020, arXiv 2011.08891; on a segmentation Seg-HiRes-Grad-CAM: Rheude et al. 2024, MELBA",
        signed=False,
        reading="HiResCAM shows what each cell adds to the score, to first order; cells that speak against the class are left out.",
        map=gradient_times_activation,
        merge="sum",
    ),
    LayerMethod(
        name="layercam",
        title="LayerCAM",
        reference="Jiang et al. 2021, IEEE TIP 30, 5875-5888",
        signed=False,
        reading="LayerCAM counts only cells whose gradient raises the score: evidence against the class is not shown.",
        map=layercam,
        merge="sum",
    ),
    LayerMethod(
        name="xgradcam",
        title="XGrad-CAM",
        reference="Fu et al. 2020, arXiv 2008.02312",
        signed=False,
        reading="XGrad-CAM gives each channel one weight for all places and keeps only what raises the score: evidence against the class is not shown.",
        gathers=(Gather(xgrad_sums),),
        map=xgradcam,
        assumes_pooling=True,
    ),
    LayerMethod(
        name="segxrescam",
        title="Seg-XRes-CAM",
        reference="Hasany, Petitjean and Meriaudeau 2023, CVPR workshops",
        signed=False,
        reading="Seg-XRes-CAM averages gradients over blocks of cells and keeps only what raises the score: evidence against the class is not shown.",
        map=xres,
        check=in_rows,
        task="segmentation",
    ),
    LayerMethod(
        name="eigencam",
        title="Eigen-CAM",
        cost="one forward pass; knows no class",
        reference="Muhammad and Yeasin 2020, arXiv 2008.00299",
        signed=False,
        reading="Eigen-CAM shows what dominates the layer, whatever the class: it does not say why this class was chosen.",
        gathers=(Gather(second_moments),),
        map=eigencam,
    ),
    LayerMethod(
        name="scorecam",
        title="Score-CAM",
        cost="one forward pass for each channel of the layer",
        reference="Wang et al. 2020, arXiv 1910.01279",
        signed=False,
        reading="Score-CAM darkens the input to 0 outside of each channel's pattern, which the network may never have seen; evidence against the class is not shown.",
        evaluations=each_channel,
        gathers=(
            LEAST_OF_RANGES,
            Gather(masked_scores),
        ),
        map=scorecam,
    ),
    LayerMethod(
        name="ablationcam",
        title="Ablation-CAM",
        cost="one forward pass for each channel of the layer",
        reference="Desai and Ramaswamy 2020, WACV",
        signed=False,
        reading="Ablation-CAM switches whole channels off, which the network may never have seen; evidence against the class is not shown.",
        evaluations=each_channel,
        gathers=(Gather(score_drops),),
        map=ablationcam,
    ),
)
