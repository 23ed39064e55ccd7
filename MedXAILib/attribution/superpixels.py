"""Superpixels (2D) and supervoxels (3D): the units that LIME switches on and off."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Pieces = NDArray[np.int32]
Scalar = TypeVar("Scalar", np.bool_, np.int32)

WORKING_VOXELS = 1_000_000
"""SLIC runs on a coarser grid where the image has more voxels: superpixels are far larger than such voxels."""
COMPACTNESS = 0.1
"""A difference of this much of the intensity range (2nd to 98th percentile) weighs as much as one step between seeds."""
CONTRAST = 0.25
"""From this difference to its surroundings, in parts of the intensity range, a blob is a piece of its own."""
SMALLEST = 1 / 20
"""The smallest piece, in parts of the mean piece."""


def superpixels(x: Floats, spacing: NDArray[np.float64], foreground: Mask, count: int) -> Pieces:
    """Cut an image into about ``count`` compact pieces that follow its edges, and the background.

    Blobs smaller than a piece that stand out from their surroundings (a lesion) are pieces of their own; the rest is
    cut by scikit-image's SLIC (Achanta et al. 2012) with a mask (maskSLIC, Irving 2016). SLIC places its seeds by
    voxels, so it runs on a grid of isotropic voxels: pieces are as long in mm along every axis. Every piece is
    connected, but for islands of the foreground too small for a piece, which go to the nearest one.

    :param x: (channel, *spatial) with three spatial axes; the first may have length 1 (a slice).
    :param spacing: mm between voxels along the three spatial axes.
    :param foreground: bool, *spatial; see :func:`MedXAILib.preprocessing.foreground.foreground`.
    :param count: pieces wanted in the foreground; fewer where it has less than eight voxels for each.
    :returns: int32, *spatial, values 0..n-1 without gaps. If there is any background, it is 0 and nothing else is.
    """
    if not foreground.any():
        return np.zeros(foreground.shape, np.int32)
    image, mask = _isotropic(_scaled(x, foreground), spacing, foreground)
    count = min(count, int(foreground.sum()) // 8, int(mask.sum()) // 8)
    if count < 2:
        pieces = foreground.astype(np.int32)
    else:
        blobs, found = _blobs(image, mask, count)
        pieces = np.where(blobs > 0, blobs, found + _slic(image, mask & (blobs == 0), count - found))
        pieces = _connected(_nearest(pieces, foreground.shape) * foreground, spacing, foreground, count)
    return (pieces - int(foreground.all())).astype(np.int32)


def _scaled(x: Floats, foreground: Mask) -> Floats:
    """(*spatial, channel): each channel's 2nd and 98th percentile in the foreground become 0 and 1, clipped."""
    low, high = np.percentile(x[:, foreground], (2, 98), axis=1)
    low, width = low[:, None, None, None], np.maximum(high - low, 1e-12)[:, None, None, None]
    scaled: Floats = np.moveaxis(np.clip((x - low) / width, 0, 1), 0, -1).astype(np.float32)
    return scaled


def _isotropic(image: Floats, spacing: NDArray[np.float64], mask: Mask) -> tuple[Floats, Mask]:
    """Image and mask with cubic voxels as small as the finest spacing, or coarser: at most WORKING_VOXELS."""
    from skimage.transform import resize

    thick = np.array(mask.shape) > 1
    extents = np.array(mask.shape) * spacing
    voxel = max(spacing[thick].min(), (extents[thick].prod() / WORKING_VOXELS) ** (1 / thick.sum()))
    shape = tuple(np.where(thick, np.maximum(np.rint(extents / voxel), 1), 1).astype(int))
    if shape != mask.shape:
        image = resize(image, (*shape, image.shape[-1]), order=1, anti_aliasing=False)
    return image, _nearest(mask, shape)


def _nearest(array: NDArray[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
    """The array on another grid of the same extent: the value of the voxel in which each new centre lies."""
    index = [((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip(shape, array.shape, strict=True)]
    return array[np.ix_(*index)]


def _blobs(image: Floats, mask: Mask, count: int) -> tuple[Pieces, int]:
    """Labels 1..n of compact blobs that differ from the mean around them, the strongest first, and n <= count / 3.

    SLIC, with its seeds one piece apart, would deal them out among their neighbours.
    """
    from scipy import ndimage

    piece = mask.sum() / count
    side = piece ** (1 / (np.array(mask.shape) > 1).sum())
    sigma = side / 2
    weight = np.maximum(ndimage.gaussian_filter(mask.astype(np.float32), sigma), 1e-6)
    around = [ndimage.gaussian_filter(channel * mask, sigma) / weight for channel in np.moveaxis(image, -1, 0)]
    contrast = np.sqrt(((image - np.stack(around, -1)) ** 2).mean(-1)) * mask
    ball = ndimage.iterate_structure(ndimage.generate_binary_structure(3, 1), max(1, round(side / 8)))
    ball = ball[[ball.shape[0] // 2]] if mask.shape[0] == 1 else ball
    components, found = ndimage.label(ndimage.binary_opening(contrast > CONTRAST, ball))
    sizes = np.bincount(components.ravel())
    strength = np.bincount(components.ravel(), contrast.ravel())
    strength[(sizes < SMALLEST * piece) | (sizes > piece)] = 0
    strength[0] = 0
    strongest = [n for n in np.argsort(-strength)[: count // 3] if strength[n] > 0]
    renumber = np.zeros(found + 1, np.int32)
    renumber[strongest] = np.arange(1, len(strongest) + 1)
    return renumber[components], len(strongest)


def _slic(image: Floats, mask: Mask, count: int) -> NDArray[np.int_]:
    from skimage.segmentation import slic

    labels: NDArray[np.int_] = slic(
        image,
        n_segments=count,
        compactness=COMPACTNESS * np.sqrt(image.shape[-1]),  # more channels do not weigh more against distance
        sigma=0.5,
        mask=mask,
        convert2lab=False,
        channel_axis=-1,
    )
    return labels


def _connected(labels: Pieces, spacing: NDArray[np.float64], foreground: Mask, count: int) -> Pieces:
    """Labels 1..n that fill the foreground: its large components, grown over the small ones and the gaps."""
    from scipy.ndimage import distance_transform_edt
    from skimage.measure import label
    from skimage.segmentation import watershed

    components = label(labels, connectivity=1)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    large = sizes >= min(SMALLEST * foreground.sum() / count, sizes.max())
    renumber = np.where(large, np.cumsum(large), 0)
    pieces: Pieces = watershed(np.zeros(labels.shape, np.uint8), renumber[components], mask=foreground)
    if (pieces == 0)[foreground].any():
        nearest = distance_transform_edt(pieces == 0, spacing, return_distances=False, return_indices=True)
        pieces = np.where(foreground, pieces[tuple(nearest)], 0)
    return pieces
