"""What SimpleITK reads."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..geometry.affine import LPS_RAS, Affine
from ..geometry.volume import Volume
from .guards import quiet, require_memory
from .paths import spelled
from .placing import UNSHEAR, assuming, chosen_frame, placed
from .suffixes import NRRD, suffix_of

if TYPE_CHECKING:
    import SimpleITK as sitk


def read_itk(path: Path, frame: int | None) -> Volume:
    """Read whatever SimpleITK reads as one volume; a fourth axis of size 1 goes, a longer one needs ``frame``.

    :raises InputError: for a file that cannot be read or placed, or a frame that is needed or does not exist.
    """
    image, array, listed = open_itk(path)
    rank = image.GetDimension()
    remarks = []
    if listed:
        array = np.moveaxis(array, -1, 0)
    outer = array.shape[: max(rank - 3, 0) + listed]
    count = prod(outer)
    picked = chosen_frame(path, frame, count)
    if outer:
        array = array.reshape(count, *array.shape[len(outer) :])[picked]
        remarks.append(f"frame {picked} of {count}" if count > 1 else "a fourth axis of size 1 was dropped")
    if rank > 2:
        return placed(path, array, itk_affine(image), remarks)
    volume = placed(path, array[None], itk_affine(image), ["a 2-D image, read as one slice of 1 mm"])
    return assuming(volume, ("position", "orientation", "thickness"))


def open_itk(path: Path) -> tuple[sitk.Image, NDArray[Any], bool]:
    """The SimpleITK image, its array, and whether the array's last axis lists volumes (a sequence) and not channels.

    :raises InputError: for a file that SimpleITK does not read, or of complex numbers.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    suffix = suffix_of(path)
    reader.SetImageIO("NrrdImageIO" if suffix in NRRD else "MetaImageIO")
    try:
        with quiet(), spelled(path) as name:
            reader.SetFileName(name)
            reader.ReadImageInformation()
            require_memory(path, prod(reader.GetSize()) * reader.GetNumberOfComponents())
            kinds = {reader.GetMetaData(key) for key in reader.GetMetaDataKeys() if key.startswith("NRRD_kinds")}
            image = reader.Execute()
    except RuntimeError as error:
        if "number of domain axes" in str(error):
            raise FileError(path, "its fourth axis is of a kind that is not read", "save it as NIfTI") from None
        if "orthonormal" in str(error):
            raise FileError(path, "the affine is slightly sheared", UNSHEAR) from None
        raise FileError(path, f"the file cannot be read ({short_reason(error)})", "copy or export it again") from None
    if "complex" in image.GetPixelIDTypeAsString():
        raise FileError(path, "the voxels are complex numbers", "write their magnitude to a new file and give that")
    listed = bool(kinds & {"list", "time"}) and image.GetNumberOfComponentsPerPixel() > 1
    return image, sitk.GetArrayFromImage(image), listed


def itk_affine(image: sitk.Image) -> Affine:
    """IJK-to-RAS of a SimpleITK image's first three axes; a missing third one gets 1 mm."""
    rank, spatial = image.GetDimension(), min(image.GetDimension(), 3)
    lps = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(rank, rank)[:spatial, :spatial]
    lps[:spatial, :spatial] = direction * np.array(image.GetSpacing())[:spatial]
    lps[:spatial, 3] = np.array(image.GetOrigin())[:spatial]
    return LPS_RAS @ lps


def short_reason(error: Exception) -> str:
    """The telling part of SimpleITK's stack of lines."""
    text = str(error)
    if "Unable to determine ImageIO reader" in text:
        return "its content is not what its suffix says"
    last = [line.strip() for line in text.splitlines() if line.strip()][-1]
    reason = last.split("ERROR:")[-1].split("):")[-1].strip(" .")
    damaged = "No such file" in reason or "/" in reason or reason.endswith("Success")
    return "its header or data are damaged" if damaged else reason
