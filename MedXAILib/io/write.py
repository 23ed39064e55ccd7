"""Volumes and Labels to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import NOTICE
from ..errors import FileError
from ..geometry.affine import LPS_RAS
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from .atomic import whole
from .guards import quiet
from .paths import written_as
from .segmentation import smallest
from .suffixes import WRITABLE


def write_volume(
    volume: Volume, path: str | Path, metadata: dict[str, str] | None = None, compress: bool = True
) -> None:
    """Write .nrrd, .nii.gz, .nii or .mha, whole or not at all; an existing file is replaced.

    float32, float64 and integers up to 32 bits are kept; others become the nearest of these. NRRD and MetaImage keep the affine
    exactly, NIfTI in float32. ``metadata`` goes into the header as key/value pairs (NIfTI has no room for them: its
    description gets the notice only).

    :raises InputError: for another suffix, or where the place cannot be written to.
    """
    import SimpleITK as sitk

    path = Path(path)
    suffix = next((suffix for suffix in WRITABLE if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise FileError(path, f"volumes are written as {', '.join(WRITABLE)}", "choose one of these suffixes")
    image = sitk.GetImageFromArray(writable(volume.array), isVector=volume.array.ndim == 4)
    lps = LPS_RAS @ volume.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    if suffix.startswith(".nii"):
        image.SetMetaData("ITK_FileNotes", f"MedXAI: {NOTICE}")
    else:
        for key, value in ({"MedXAI_notice": NOTICE} | (metadata or {})).items():
            image.SetMetaData(key, " ".join(str(value).split()))
    try:
        with whole(path) as beside, quiet(), written_as(beside) as name:
            sitk.WriteImage(image, name, useCompression=compress and suffix != ".nii")
    except (RuntimeError, OSError):
        raise FileError(
            path, "the file cannot be written", "check that the folder exists, is writable and has space"
        ) from None


def writable(array: np.ndarray) -> np.ndarray:
    """The array in a type that all formats and Slicer take."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        array = smallest(array)
        return array.astype(np.float64) if array.dtype.itemsize == 8 else array
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def write_labels(labels: Labels, path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write a label map; an .nrrd also carries names and colours the way that Slicer's .seg.nrrd does.

    :raises InputError: as :func:`write_volume`.
    """
    array = smallest(labels.volume.array)
    k, j, i = array.shape
    extent = f"0 {i - 1} 0 {j - 1} 0 {k - 1}"
    keys: dict[str, str] = {}
    for n, row in enumerate(labels.rows):
        fields = {
            "ID": f"Segment_{row.value}",
            "Name": row.name,
            "Color": " ".join(f"{part:.6g}" for part in row.color),
            "LabelValue": row.value,
            "Layer": 0,
            "Extent": extent,
            "Tags": "|",
        }
        keys |= {f"Segment{n}_{key}": str(value) for key, value in fields.items()}
    if keys:
        keys |= {
            "Segmentation_MasterRepresentation": "Binary labelmap",
            "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
            "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        }
    named = keys if Path(path).name.lower().endswith(".nrrd") else {}
    write_volume(labels.volume.with_array(array), path, (metadata or {}) | named)
