"""The part of an image that is not air or empty background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def foreground(array: NDArray[Any]) -> Mask:
    """The part of an image that is not air or empty background; of several channels, the part that any of them shows.

    Air is what lies below a softened Otsu threshold of the lightly smoothed image, or is the one value that fills
    the image's border. Specks are left out of the foreground. What a plane along any axis shows enclosed by it
    belongs to it: dark lesions, fluid, lungs.

    :param array: (k, j, i) or (k, j, i, channel).
    :returns: bool (k, j, i), never empty: all true where no air can be told from the rest.
    """
    channels = [array] if array.ndim == 3 else [array[..., c] for c in range(array.shape[3])]
    masks = [_filled(_without_specks(mask)) for mask in map(_not_air, channels) if mask is not None]
    return np.logical_or.reduce(masks) if masks else np.ones(array.shape[:3], bool)


def _not_air(channel: NDArray[Any]) -> Mask | None:
    """What is brighter than air in one channel (k, j, i), or None where no air can be told from the rest."""
    from scipy import ndimage

    values = np.nan_to_num(channel.astype(np.float32), nan=np.nanmin(channel))
    rest = values[values > values.min()]
    if not rest.size:
        return None
    low, high = np.percentile(rest, (1, 99))
    edge, uniform = _border_value(values)
    if uniform and low < edge < high:  # standardised intensities, the background set to one value among them
        different: Mask = values != edge
        return different
    padded = values.min() < low - (high - low) / 2  # a value of its own outside the field of view or the head
    inside = values > values.min() if padded else np.ones(values.shape, bool)
    without_air = inside if padded else None

    low, high = np.percentile(values[inside], (0.5, 99.5))
    smooth = ndimage.gaussian_filter(np.clip(values, low, high), 0.7)
    darker = smooth[inside]
    for _ in range(3):  # dark from bright tissue first, perhaps, and then air from dark tissue
        otsu = otsu_threshold(darker)
        dark = darker <= otsu
        if dark.all() or not dark.any():
            break
        air, body = np.median(darker[dark]), np.median(darker[~dark])
        if air - low < (body - low) / 4:  # air lies near the lowest value
            brighter: Mask = smooth > air + 0.4 * (otsu - air)
            return brighter
        darker = darker[dark]
    return without_air


def otsu_threshold(values: NDArray[Any]) -> float:
    """The threshold between two classes with the largest variance between them (Otsu 1979, IEEE SMC 9:62), by 256 bins.

    skimage has it too, but Slicer's Python may lack skimage where fractions by structure are looked at.
    """
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    mean_above = (np.cumsum((counts * centres)[::-1]) / np.maximum(above[::-1], 1))[::-1]
    between = below[:-1].astype(float) * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[np.argmax(between)])


def _border_value(values: NDArray[np.float32]) -> tuple[float, bool]:
    """The most frequent value on the faces of an array, and whether it fills more than half of them."""
    axes = [axis for axis in range(3) if values.shape[axis] > 1]
    faces = [np.take(values, at, axis).ravel() for axis in axes for at in (0, -1)] or [values.ravel()]
    found, counts = np.unique(np.concatenate(faces), return_counts=True)
    return float(found[counts.argmax()]), bool(2 * counts.max() > counts.sum())


def _without_specks(mask: Mask) -> Mask:
    """The components (touching by faces) that have at least 2 % of the largest one's voxels."""
    from scipy import ndimage

    components, _ = ndimage.label(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    large = sizes >= max(1, 0.02 * sizes.max())
    kept: Mask = large[components]
    return kept


def _filled(mask: Mask) -> Mask:
    """The mask and every hole that a plane along any axis shows enclosed: lungs are open where the scan ends."""
    from scipy import ndimage

    filled: Mask = mask.copy()
    for axis in range(3):
        in_plane = ndimage.generate_binary_structure(3, 1)
        np.moveaxis(in_plane, axis, 0)[[0, 2]] = False
        holes, count = ndimage.label(~mask, in_plane)
        reaches_out = np.zeros(count + 1, bool)
        for across in {0, 1, 2} - {axis}:
            for at in (0, -1):
                reaches_out[np.take(holes, at, across)] = True
        filled |= ~reaches_out[holes] & (holes > 0)
    return filled
