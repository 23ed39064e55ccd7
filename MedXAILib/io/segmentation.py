"""Label maps and Slicer's segmentations to Labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..geometry.affine import LPS_RAS
from ..geometry.labels import Label, Labels, label_colors, overlaid
from .itk import itk_affine, open_itk
from .nrrd import nrrd_header
from .paths import existing
from .placing import placed
from .read import read_volume
from .suffixes import NRRD, suffix_of


def read_labels(path: str | Path) -> Labels:
    """Read a segmentation: Slicer's .seg.nrrd with its names and colours, or any label map.

    Where segments of several layers overlap, voxels belong to each of them, and a remark says so.

    :raises InputError: as :func:`read_volume`, and for values that are no labels.
    """
    path = existing(path)
    keys = segment_keys(path)
    if keys:
        return read_segments(path, keys)
    volume = read_volume(path)
    array = volume.array
    if volume.channels > 1:
        raise FileError(path, "an RGB image is no label map", "give one integer for each voxel")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.round(array)).any():
            fault = "the values are no whole numbers, so this is no label map"
            raise FileError(path, fault, "give a segmentation")
        if np.abs(array).max() < 2**31:
            array = array.astype(np.int32)
    if array.min() < 0 or array.max() > 65535:
        raise FileError(path, f"labels go from 0 to 65535, and this file has {array.min()} to {array.max()}.")
    volume = volume.with_array(smallest(array))
    values = [int(value) for value in np.unique(array) if value]
    if len(values) > MANY_LABELS and patchiness(array) < 0.5:
        changing = f"{len(values)} values, which change from voxel to voxel"
        fault = f"this looks like an image and not like a label map ({changing})"
        raise FileError(path, fault, "give a segmentation")
    rows = [
        Label(value, f"label {value}", color) for value, color in zip(values, label_colors(len(values)), strict=True)
    ]
    return Labels(volume, tuple(rows))


MANY_LABELS = 20
"""From so many on, a label map is asked whether it is one."""


def patchiness(array: NDArray[Any]) -> float:
    """How often a voxel has its right neighbour's value, among those that are not 0: nearly always in a label map, seldom in an
    image."""
    one, other = array[..., :-1], array[..., 1:]
    inside = (one != 0) & (other != 0)
    return float((one == other)[inside].mean()) if inside.any() else 1.0


def segment_keys(path: Path) -> dict[str, str]:
    """The key/value pairs of an NRRD header that Slicer writes for segmentations; empty for any other file."""
    if path.is_dir() or suffix_of(path) not in NRRD:
        return {}
    header = nrrd_header(path)
    lines = [line.partition(":=") for line in header.splitlines()]
    keys = {key: value for key, mark, value in lines if mark and key.startswith("Segment")}
    if "Segment0_ID" not in keys:
        return {}
    return keys | ({"unnamed space": ""} if "\nspace dimension:" in header else {})


def read_segments(path: Path, keys: dict[str, str]) -> Labels:
    """The segments of a .seg.nrrd, its layers laid over one another.

    A layer is a component of the file (one, unless segments overlap). Before Slicer 4.11 every segment had a layer of
    its own, its value was 1, and the origin was that of the uncropped reference image; the oldest files have the
    layers on a fourth axis and are in RAS without saying so.
    """
    image, array, _ = open_itk(path)
    if image.GetDimension() == 4:
        array = np.moveaxis(array, 0, -1)
    layers = array if array.ndim == 4 else array[..., None]
    affine = itk_affine(image)
    if "unnamed space" in keys:
        affine = LPS_RAS @ affine
    try:
        extent = [int(n) for n in keys.get("Segmentation_Extent", "").split()]
        if "Segmentation_ReferenceImageExtentOffset" not in keys and len(extent) == 6:
            affine[:3, 3] += affine[:3, :3] @ extent[::2]
        segments = [segment(keys, n, layers.shape[3]) for n in range(len(keys)) if f"Segment{n}_ID" in keys]
    except ValueError:
        raise FileError(path, "its Segment entries are damaged", "save the segmentation again in Slicer") from None
    distinct = len({stored for _, stored, _, _ in segments}) == len(segments)
    values = [stored if distinct else n for n, (_, stored, _, _) in enumerate(segments, 1)]
    merged, shared = overlaid((layers[..., layer] == stored for layer, stored, _, _ in segments), values)
    colors = label_colors(len(segments))
    segments = [(*one[:2], name, one[3]) for one, name in zip(segments, apart([s[2] for s in segments]), strict=True)]
    rows = [
        Label(value, name, color or chosen, also)
        for value, (_, _, name, color), chosen, also in zip(values, segments, colors, shared, strict=True)
    ]
    both = sorted({value for also in shared for value in also})
    count = np.count_nonzero(np.isin(merged, both)) if both else 0
    remarks = [f"segments overlap in {count} voxels, which count for each of them"] if count else []
    return Labels(placed(path, smallest(merged), affine, remarks), tuple(rows))


def apart(names: Sequence[str]) -> list[str]:
    """Names of which none occurs twice: the second one gets " (2)"."""
    found: list[str] = []
    for name in names:
        numbers = (f"{name} ({n})" for n in range(2, len(names) + 2))
        found.append(name if name not in found else next(text for text in numbers if text not in (*found, *names)))
    return found


def segment(keys: dict[str, str], n: int, layers: int) -> tuple[int, int, str, tuple[float, float, float] | None]:
    """Layer, stored value, name and colour (None where there is none) of one segment.

    :raises ValueError: for entries that make no sense.
    """
    layer = int(keys.get(f"Segment{n}_Layer", n if layers > 1 else 0))
    stored = int(keys.get(f"Segment{n}_LabelValue", 1))
    parts = [float(part) for part in keys.get(f"Segment{n}_Color", "").split()]
    if not 0 <= layer < layers or not 0 < stored < 65536 or len(parts) not in (0, 3):
        raise ValueError
    color = (parts[0], parts[1], parts[2]) if parts and all(0 <= part <= 1 for part in parts) else None
    return layer, stored, keys.get(f"Segment{n}_Name") or keys[f"Segment{n}_ID"], color


def smallest(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers in the smallest of uint8, int16, uint16 and int32 that holds them."""
    low, high = int(array.min()), int(array.max())
    for dtype in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    return array
