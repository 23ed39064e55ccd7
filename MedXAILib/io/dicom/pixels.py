"""Stored pixels to values."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import FileError, InputError, PackageError
from ..guards import quiet, require_memory
from .plane import Plane
from .scan import checked

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CT_AIR = -1024
INVERTED = "MONOCHROME1 was inverted: bright is high now"
LEFT_DARK = "MONOCHROME1: low values are meant to be bright; they have a unit and were kept"
UNCOMPRESSED = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
}
"""Transfer syntaxes that pydicom decodes itself: implicit, explicit, deflated, big endian, RLE."""


def voxels(planes: Sequence[Plane], modality: str, remarks: list[str]) -> NDArray[Any]:
    """(k, j, i[, channel]) of the planes: decoded, rescaled, padding replaced; a file is opened once.

    :param remarks: gets what was changed, or left as it is.
    :raises InputError: for pixels that cannot be decoded, or are grey here and coloured there.
    """
    rows, columns = planes[0].size
    require_memory(planes[0].path, rows * columns * len(planes) * 2)
    rescaled = any((plane.slope, plane.intercept) != (1.0, 0.0) for plane in planes)
    whole = all(plane.slope.is_integer() and plane.intercept.is_integer() for plane in planes)
    files: dict[Path, list[int]] = {}
    for k, plane in enumerate(planes):
        files.setdefault(plane.path, []).append(k)
    slices: list[NDArray[Any]] = [np.empty(0)] * len(planes)
    padded, said = 0, set()
    for path, numbers in files.items():
        data = with_pixels(path)
        refuse_shifted(path, data)
        with checked(path):
            for k, stored in zip(numbers, decoded(data, [planes[k].frame for k in numbers]), strict=True):
                values = stored
                if stored.ndim == 2 and "ModalityLUTSequence" in data:
                    values = looked_up(stored, data)
                elif stored.ndim == 2 and rescaled:
                    values = rescale(stored, planes[k], data, whole)
                if data.PhotometricInterpretation == "MONOCHROME1":
                    kept = rescaled or has_unit(data, modality)
                    values = values if kept else inverted(values, data)
                    said.add(LEFT_DARK if kept else INVERTED)
                if modality == "CT":
                    outside = padding(stored, data) & (values < CT_AIR)
                    values = np.where(outside, CT_AIR, values).astype(values.dtype) if outside.any() else values
                    padded += int(np.count_nonzero(outside))
                slices[k] = values
    if len({one.shape for one in slices}) > 1:
        folder = planes[0].path.parent
        raise FileError(folder, "some images of the series are grey and some RGB", "keep one kind")
    remarks += sorted(said)
    if units := sorted({plane.unapplied for plane in planes} - {""}):
        kind = "rescaled ones" if rescaled else "stored ones"
        remarks.append(f"its mapping to real world values ({', '.join(units)}) was not applied: these are the {kind}")
    if padded:
        remarks.append(f"padding outside the scanner's field became {CT_AIR} HU in {padded} voxels")
    array = np.stack(slices)
    fits = array.dtype == np.int32 and rescaled and array.min() >= -(2**15) and array.max() < 2**15
    return array.astype(np.int16) if fits else array


def rescale(stored: NDArray[Any], plane: Plane, data: Dataset, whole: bool) -> NDArray[Any]:
    """Stored values x slope + intercept: int32 (float64 where that is too small) for ``whole`` results, else float32.

    pydicom's own function does this only where both stand in the data set itself: not for frames with factors of their own.
    """
    values = stored.astype(np.float64) * plane.slope + plane.intercept
    if whole and np.abs(values).max(initial=0) < 2**31:
        return values.astype(np.int32) if data.BitsAllocated <= 16 else values
    return values.astype(np.float32)


def refuse_shifted(path: Path, data: Dataset) -> None:
    """:raises InputError: where the values do not begin with the lowest bit, as they must (DICOM PS3.5, 8.1.1)."""
    with checked(path):
        stored = int(data.get("BitsStored", 0))
        high = int(data.get("HighBit", stored - 1))
    if high != stored - 1:
        fault = f"its HighBit {high} does not fit its {stored} BitsStored, so its values could be read in two ways"
        raise FileError(path, fault, "export it again")


def looked_up(stored: NDArray[Any], data: Dataset) -> NDArray[Any]:
    """Stored values through the Modality LUT (DICOM PS3.3, C.11.1)."""
    from pydicom.pixels.processing import apply_modality_lut

    # as int64: pydicom subtracts the table's first number in the pixels' own type, which may be too small
    return np.asarray(apply_modality_lut(stored.astype(np.int64), data))


def has_unit(data: Dataset, modality: str) -> bool:
    """Whether values are measurements, whose order means something: HU of a CT, activity of a PET, or a named unit."""
    tables = data.get("ModalityLUTSequence") or [data]
    named = str(tables[0].get("ModalityLUTType") or data.get("RescaleType") or "US").strip().upper()
    return modality in ("CT", "PT") or named not in ("US", "")


def with_pixels(path: Path) -> Dataset:
    """The whole data set, with the transfer syntax filled in where a file has none."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with checked(path):
        data = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in data.file_meta:
            implicit = data.original_encoding[0]
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return data


def decoded(data: Dataset, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Stored values of these frames, (row, column) or (row, column, 3) as RGB; palettes are applied."""
    try:
        from pydicom.pixels.processing import apply_color_lut
    except ImportError:  # Slicer 5.10 brings pydicom 2.4, and nothing that Slicer brings is replaced
        raise PackageError(
            "This pydicom is too old to read DICOM pixels (3.0 or later is needed): in Slicer 5.10 load the series in Slicer "
            "itself and save it as NRRD; elsewhere run pip install -U pydicom."
        ) from None

    for stored in unpacked(data, frames):
        values = stored
        if data.PhotometricInterpretation == "PALETTE COLOR":
            values = apply_color_lut(stored, data)
            if values.dtype == np.uint16:
                values = (values >> 8).astype(np.uint8)
        yield values[..., :3] if values.ndim == 3 else values


def unpacked(data: Dataset, frames: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Stored values of these frames, (row, column[, channel])."""
    from pydicom.pixels.utils import pixel_array

    if data.file_meta.TransferSyntaxUID in UNCOMPRESSED:
        return (pixel_array(data, index=frame) for frame in frames)
    try:
        return iter([pixel_array(data, index=frame) for frame in frames])
    except Exception:  # it lacks a codec, or raises whatever it stumbles over
        every = by_gdcm(data)
        return (every[frame] for frame in frames)


def by_gdcm(data: Dataset) -> NDArray[Any]:
    """All frames of a compressed file, (frame, row, column[, channel]), by SimpleITK.

    For what pydicom cannot decode with the packages that MedXAI needs, of which Pillow alone has codecs: lossless JPEG,
    JPEG-LS, JPEG of 12 bits, JPEG 2000 of colours of more than 8 bits. GDCM also applies rescaling in ways of its own: it gets
    a copy with nothing in it but the pixels.
    """
    import SimpleITK as sitk
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage, generate_uid

    bare = Dataset()
    for name in (
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelData",
    ):
        if name in data:
            setattr(bare, name, data[name].value)
    if bare.get("SamplesPerPixel", 1) == 1:
        bare.PhotometricInterpretation = "MONOCHROME2"
    bare["PixelData"].VR = "OB"
    bare["PixelData"].is_undefined_length = True
    bare.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    bare.SOPInstanceUID = generate_uid()
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    try:
        with tempfile.TemporaryDirectory() as folder, quiet():
            name = os.path.join(folder, "pixels.dcm")
            bare.save_as(name, enforce_file_format=True)
            return sitk.GetArrayFromImage(sitk.ReadImage(name))
    except OSError as error:
        place = tempfile.tempdir or os.environ.get("TMPDIR") or "of this system"
        raise InputError(
            f"The temporary folder {place} cannot be written ({error.strerror or error}), and compressed DICOM is unpacked there",
            "make room, or set TMPDIR to another folder",
            joint=": ",
        ) from None


def inverted(values: NDArray[Any], data: Dataset) -> NDArray[Any]:
    """Values mirrored within the range that their bits allow."""
    if table := data.get("ModalityLUTSequence"):
        bits, signed = int(table[0].LUTDescriptor[2]), False
    else:
        bits, signed = int(data.BitsStored), data.PixelRepresentation == 1
    ends = -1 if signed else (1 << bits) - 1  # lowest + highest value
    mirrored: NDArray[Any] = (ends - values.astype(np.int64)).astype(values.dtype)
    return mirrored


def padding(stored: NDArray[Any], data: Dataset) -> NDArray[np.bool_]:
    """Where the stored value is PixelPaddingValue, or between it and PixelPaddingRangeLimit."""
    if "PixelPaddingValue" not in data:
        return np.zeros(stored.shape, bool)
    value = signed(data.PixelPaddingValue, data)
    limit = signed(data.get("PixelPaddingRangeLimit", data.PixelPaddingValue), data)
    inside: NDArray[np.bool_] = (stored >= min(value, limit)) & (stored <= max(value, limit))
    return inside


def signed(value: int, data: Dataset) -> int:
    """A padding value in the pixels' own sign, whatever sign its header entry was written with."""
    bits = int(data.BitsAllocated)
    value = int(value) % (1 << bits)
    return value - (1 << bits) if data.PixelRepresentation and value >= 1 << (bits - 1) else value
