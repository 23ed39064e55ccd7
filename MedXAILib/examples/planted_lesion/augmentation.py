"""A deformed head becomes a pair for one training step: without and with a lesion, changed alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .synthesis import SHAPE, DeformedHead, smooth_noise

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair:
    """One pair for training, as the network expects it.

    :ivar images: (2, k, j, i), without and with the lesion.
    :ivar lesion: (k, j, i) in 0..1.
    :ivar visible: the fraction of the lesion that is left after cutting parts out.
    """

    images: torch.Tensor
    lesion: torch.Tensor
    visible: float


def augment(head: DeformedHead, rng: np.random.Generator) -> Pair:
    """A pair whose place, contrast, noise and blur are drawn; half of them with parts cut out."""
    import torch

    images, lesion = vary(head, rng)
    if rng.random() < 0.5:
        kept = torch.from_numpy(cells_kept(rng))
        visible = float((lesion * kept).sum() / lesion.sum().clamp(min=1))
        return Pair(images=images * kept, lesion=lesion * kept, visible=visible)
    return Pair(images=images, lesion=lesion, visible=1.0)


def vary(head: DeformedHead, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and lesion of :class:`Pair`, whole."""
    import torch
    from torch.nn import functional

    which = rng.integers(len(head.planted))
    strength = rng.uniform(0.75, 1.05)
    without = head.image.astype(np.float32)
    stacked = np.stack([without, without + strength * head.planted[which], head.mask, head.lesions[which]])
    pair = torch.from_numpy(stacked.astype(np.float32))
    pair[:2] *= pair[2]
    if rng.random() < 0.5:
        pair = pair.flip(3)
    if rng.random() < 0.6:
        matrix = np.eye(3, 4) + np.hstack([rng.normal(0, 0.06, (3, 3)), rng.uniform(-0.06, 0.06, (3, 1))])
        grid = functional.affine_grid(torch.tensor(matrix[None], dtype=torch.float32), [1, 4, *SHAPE], False)
        pair = functional.grid_sample(pair[None], grid, align_corners=False)[0]
    else:
        pair = pair.roll(tuple(int(n) for n in rng.integers(-1, 2, 3)), (1, 2, 3))
    mask, lesion = pair[2], pair[3]
    image = pair[:2] / mask.clamp(min=0.05)
    if rng.random() < 0.35:
        image = blur(image, mask, rng.uniform(0.3, 0.9))
    image = recontrast(image, mask, rng)
    if rng.random() < 0.7:
        image = image + rng.uniform(0, 0.06) * torch.from_numpy(rng.standard_normal(SHAPE, np.float32))
    return torch.stack([standardise(one, mask) for one in image]), lesion


def blur(image: torch.Tensor, mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian smoothing of the intensities (2, k, j, i) inside the mask (k, j, i); ``sigma`` in voxels."""
    import torch
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(mask.numpy(), sigma, truncate=2).clip(0.05)
    smooth = [gaussian_filter((one * mask).numpy(), sigma, truncate=2) / weight for one in image]
    return torch.from_numpy(np.stack(smooth))


def recontrast(image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A bias field, a gamma and a random increasing curve on the intensities, the same for both of a pair."""
    import torch

    if rng.random() < 0.6:
        field = torch.from_numpy(np.ascontiguousarray(smooth_noise(rng, SHAPE, 4)))
        image = image * torch.exp(rng.uniform(0, 0.2) * field)
    inside = image[0][mask > 0.5]
    low, high = torch.quantile(inside[:: max(1, len(inside) // 20_000)], torch.tensor([0.002, 0.998]))
    image = ((image - low) / (high - low)).clamp(-0.1, 1.3)
    if rng.random() < 0.6:
        image = image.clamp(min=0) ** float(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.3:
        rises = np.concatenate([[0], np.cumsum(rng.uniform(0.3, 1, 6))])
        steps = torch.tensor(rises / rises[-1], dtype=torch.float32)
        place = image.clamp(0, 0.999) * 6
        below = place.long()
        image = steps[below] + (place - below) * (steps[below + 1] - steps[below])
    return image


def standardise(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean 0 and deviation 1 over the brain, 0 outside: the card's rule zscore followed by linear interpolation."""
    weight = mask / mask.sum()
    mean = (image * weight).sum()
    deviation = ((image - mean) ** 2 * weight).sum().sqrt()
    return (image - mean) / deviation * mask


def cells_kept(rng: np.random.Generator) -> NDArray[np.float32]:
    """1 where a voxel of SHAPE stays, 0 where its cell (about 20 mm wide, Voronoi) is cut out: up to 60 % of the cells."""
    from scipy.spatial import cKDTree

    count = int(rng.integers(150, 500))
    points = rng.uniform(0, SHAPE, (count, 3))
    pairs = np.stack(np.meshgrid(*(np.arange(0.5, n, 2) for n in SHAPE), indexing="ij"), -1)  # two voxels a step: fast
    _, cell = cKDTree(points).query(pairs)
    stays = rng.random(count) >= rng.uniform(0, 0.6)
    kept: NDArray[np.float32] = stays[cell].astype(np.float32).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    return kept
