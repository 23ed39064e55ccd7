"""Files to Volume and back: NIfTI, NRRD, MetaImage and pictures here, DICOM in dicom.py."""

from __future__ import annotations

import glob
import gzip
import os
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import product
from math import prod
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import NOTICE, dicom
from .dicom import quiet, require_memory
from .errors import InputError, is_utf8, legible
from .geometry.affine import (
    LPS_RAS,
    SHEAR_TOLERANCE,
    directions,
    implausible,
    left_handed,
    oblique_degrees,
    same_affine,
    shear,
    shear_degrees,
)
from .geometry.labels import Label, Labels, label_colors, overlaid
from .geometry.volume import GEOMETRY, Source, Volume
from .outputs.staging import RECORD, listed

NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
HEADERS = (".hdr", ".mhd", ".nhdr")
"""Suffixes of files that may have their voxels in another file."""
NRRD = (".nrrd", ".nhdr")
META = (".mha", ".mhd")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
NAMED_SPACES = {
    f"{name}{time}"
    for name, time in product(
        ("left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"),
        ("", "-time"),
    )
} | {"lpst", "rast", "last"}
"""NRRD spaces that lie in the patient."""
UNPLACED = "the header does not say how the volume lies in the patient; axes and origin are a guess"
FREESURFER = (".mgz", ".mgh")
WRITABLE = (".nrrd", ".nii.gz", ".nii", ".mha")
MOST_PACKED = 1100
"""By how much gzip can pack at most (about 1032 times)."""
UNSHEAR = (
    "resample it onto an unsheared grid first (in Slicer 'Resample Scalar/Vector/DWI Volume', "
    "or the tilt correction of the scanner or of dcm2niix)"
)


class Case(NamedTuple):
    """One input of a run. ``name``: its path relative to the folder that was given, with '/', or its own name."""

    path: Path
    name: str


def read_volume(path: str | Path, *, frame: int | None = None, series: str | None = None) -> Volume:
    """Read an image file, a DICOM file or a folder of DICOM files.

    :param frame: which volume of a 4D file, of a DICOM series with several time points or of a TIFF with
        several pages; 0 is the first.
    :param series: which DICOM series of a folder: its UID, number or description.
    :returns: array (k, j, i[, channel]) in the file's own type, affine to RAS mm; ``source.remarks`` tells what was odd.
    :raises InputError: for whatever cannot be placed in the patient without guessing.
    """
    if frame is not None and not isinstance(frame, Integral):
        raise InputError(f"frame={frame!r}: give a whole number, the first is 0.")
    path, series = existing(path), None if series is None else str(series)
    if series is None:
        refuse_images(path)
    if path.is_dir() or dicom.is_dicom(path):
        return dicom.read_series(path, series=series, frame=frame)
    if series is not None:
        raise InputError(f"{path}: --series is for DICOM, and this is none; leave it out.")
    refuse_foreign(path)
    suffix = suffix_of(path)
    if suffix in PICTURES:
        return read_picture(path, frame)
    if suffix in NIFTI:
        return read_nifti(path, frame)
    if suffix in NRRD:
        return read_nrrd(path, frame)
    if suffix in META:
        return read_meta(path, frame)
    raise InputError(
        f"{path}: this is no image format that MedXAI knows; give NIfTI, NRRD, MHA, DICOM, PNG, JPEG or TIFF."
    )


def refuse_images(path: Path) -> None:
    """:raises InputError: for a folder of images, which DICOM may lie beside."""
    if not path.is_dir():
        return
    beside: list[str] = []
    try:
        names = [case.path for case in find_cases(path, beside.append)]
    except NoImage:
        return
    if names != [path]:
        kinds = "/".join(sorted({suffix_of(name).lstrip(".").upper() for name in names}))
        what = f"{len(names)} {kinds} files" if len(names) > 1 else f"one {kinds} file"
        remedy = f"give one file, as {names[0].name}"
        if any("DICOM beside" in text for text in beside):
            what += " beside DICOM"
            listing = "; ".join(map(str, dicom.list_series(path)))
            remedy += f", or choose a series by --series with its UID, number or description: {listing}"
        elif len(names) > 1:
            what += " and no DICOM"
        raise InputError(f"{path}: this folder holds {what}; {remedy}.")


def existing(path: str | Path) -> Path:
    """:raises InputError: where nothing is, or a folder or file is empty."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{path!r} is no path: give the path of a file or folder as text.")
    path = Path(path)
    dicom.refuse_lost(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; check the spelling.")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: this is no file but a pipe or device; write what it gives to a file and give that.")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy or download it again.")
    return path


def suffix_of(path: Path) -> str:
    """The lower-case suffix, with .nii.gz and .img.gz in one piece."""
    name = path.name.lower()
    return next((double for double in (".nii.gz", ".img.gz") if name.endswith(double)), Path(name).suffix)


def refuse_foreign(path: Path) -> None:
    """:raises InputError: for files that bear an image's name or purpose and are something else."""
    try:
        with path.open("rb") as file:
            head = file.read(48)
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror}); check its permissions.") from None
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path}: this is a git-LFS pointer and not the image itself; run 'git lfs pull' in its repository."
        )
    if suffix_of(path) in FREESURFER:
        raise InputError(f"{path}: FreeSurfer's MGZ is not read; convert it, 'mri_convert {path.name} out.nii.gz'.")


# NIfTI ---------------------------------------------------------------------------------------------------------------


META_BYTES = {"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4}
META_BYTES |= {"MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8}
"""Bytes of a voxel by the name of its type."""
NIFTI_TYPES = (2, 4, 8, 16, 64, 128, 256, 512, 768, 1024, 1280, 2304)
NIFTI_COMPLEX, NIFTI_COLORS = (32, 1792, 2048), (128, 2304)
NIFTI_VECTORS = (1005, 1006, 1007, 1008, 2003, 2004)
"""Intents by which the fifth axis lists the parts of a vector or colour."""


class NiftiHeader(NamedTuple):
    """What is needed of the header. The affines are IJK-to-RAS in mm, or None."""

    fields: Any
    """The header itself, as nibabel has it."""
    shape: tuple[int, ...]
    sform: np.ndarray | None
    qform: np.ndarray | None
    pixdim: np.ndarray
    """Spacing along i, j, k in mm."""
    unit: bool
    """Whether the spacing has a unit of length."""

    @property
    def datatype(self) -> int:
        return int(self.fields["datatype"])

    @property
    def preferred(self) -> str:
        """Which of the two affines Slicer and ITK prefer: the qform, unless the sform says that it is the scanner's own."""
        if self.qform is None or (self.sform is not None and int(self.fields["sform_code"]) == 1):
            return "" if self.sform is None else "sform"
        return "qform"

    @property
    def bytes_needed(self) -> int:
        return int(max(self.fields["vox_offset"], 0)) + prod(self.shape) * self.fields.get_data_dtype().itemsize


def read_nifti(path: Path, frame: int | None) -> Volume:
    """NIfTI-1 and -2, one file or a header and image pair.

    Two affines may stand in the header. Slicer's choice is kept; where the other one differs, a remark says so.

    :raises InputError: for complex voxels, a sheared affine, a file cut short, an affine at odds with the spacing.
    """
    header_path, data_path = nifti_pair(path)
    header = nifti_header(header_path)
    if header.datatype in NIFTI_COMPLEX:
        raise InputError(f"{path}: the voxels are complex numbers; write their magnitude to a new file and give that.")
    affine, remarks = nifti_affine(path, header)
    require_bytes(path, data_path, header.bytes_needed)
    offset = float(header.fields["vox_offset"])
    if header_path == data_path and offset < int(header.fields["sizeof_hdr"]) + 4:
        raise InputError(
            f"{path}: its voxels would begin within its header (vox_offset {offset:g}); export the file again."
        )
    array, more = nifti_voxels(path, data_path, header, frame)
    volume = placed(path, array, affine, [*more, *remarks])
    if header.preferred:
        return volume
    flat = ("thickness",) if len(header.shape) < 3 else ()
    return assuming(unplaced(volume, spacing=header.unit), flat)


def nifti_affine(path: Path, header: NiftiHeader) -> tuple[np.ndarray, list[str]]:
    """IJK-to-RAS in mm, and what is odd about it."""
    if not header.preferred:
        return np.diag([*header.pixdim, 1.0]), []
    affine, other = header.sform, header.qform
    of_one_space = header.preferred == "sform" or int(header.fields["sform_code"]) == int(header.fields["qform_code"])
    if affine is not None and of_one_space and shear(affine) > SHEAR_TOLERANCE:
        raise InputError(
            f"{path}: the affine is sheared by {shear_degrees(affine):.1f} degrees (a gantry tilt?); {UNSHEAR}."
        )
    if header.preferred == "qform":
        affine, other = other, affine
    elif other is None:
        by_spacing = affine.copy()
        by_spacing[:3, :3] = directions(affine) * header.pixdim
        sizes = (*header.shape, 1, 1)[:3]
        if usable(by_spacing) is None or not same_affine(by_spacing, affine, sizes, 0.01):
            raise InputError(
                f"{path}: the spacing in the header contradicts its sform; write the file again with one affine "
                "(in nibabel, img.set_qform(img.affine) and save)."
            )
    if other is None or same_affine(affine, other, (*header.shape, 1, 1)[:3], 0.01):
        return affine, []
    unused = "sform" if header.preferred == "qform" else "qform"
    return affine, [f"sform and qform of the header disagree; the {unused} was not used (nor is it by Slicer)"]


def nifti_voxels(path: Path, data_path: Path, header: NiftiHeader, frame: int | None) -> tuple[np.ndarray, list[str]]:
    """(k, j, i[, channel]) of one frame, scaled as the header says, and what was chosen or left out.

    Scaled values are float32, or float64 where the file has more digits than that; colours are never scaled.
    """
    from nibabel.arrayproxy import ArrayProxy

    shape, fields, remarks = header.shape, header.fields, []
    vector = len(shape) == 5 and shape[4] > 1 and (shape[3] == 1 or int(fields["intent_code"]) in NIFTI_VECTORS)
    outer = shape[3:4] if vector else shape[3:]
    count = prod(outer)
    if vector and header.datatype in NIFTI_COLORS:
        raise InputError(f"{path}: its voxels are lists of colours, which is not read; write one volume for each.")
    picked = chosen_frame(path, frame, count)
    if count > 1:
        remarks.append(f"frame {picked} of {count}")
    elif outer and not vector:
        remarks.append("a fourth axis of size 1 was dropped")
    if len(shape) < 3:
        remarks.append("a 2-D image, read as one slice")
    where = (slice(None),) * min(len(shape), 3) + tuple(
        map(int, np.unravel_index(picked, outer[::-1])[::-1] if outer else ())
    )
    zipped = is_gzip(data_path)
    try:
        with gzip.open(data_path) if zipped else data_path.open("rb") as file:
            stored = ArrayProxy(file, (shape, fields.get_data_dtype(), int(max(fields["vox_offset"], 0))), mmap=False)
            array = np.asarray(stored[where])
            while zipped and count == 1 and file.read(1 << 20):
                pass  # to the checksum at the end
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: the file is damaged ({short_reason(error)}); copy or download it again.") from None
    if array.dtype.fields:
        array = np.stack([array[name] for name in "RGB"], -1)
        if header.datatype == 2304:
            remarks.append("the alpha channel was dropped")
    else:
        array = nifti_scaled(array, fields)
    parts = (-1,) if vector or header.datatype in NIFTI_COLORS else ()
    spatial = array.reshape((*(*shape, 1, 1)[:3], *parts))
    return np.swapaxes(spatial, 0, 2), remarks


def nifti_scaled(array: np.ndarray, fields: Any) -> np.ndarray:
    """Slope and intercept applied; a slope of 0 or none means that the stored values stand."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    intercept = intercept if np.isfinite(intercept) else 0.0
    if not np.isfinite(slope) or slope == 0 or (slope, intercept) == (1, 0):
        return array
    digits = np.float64 if array.dtype.itemsize > 4 or array.dtype.str[1:] in ("i4", "u4") else np.float32
    return (array.astype(np.float64) * slope + intercept).astype(digits)


def nifti_pair(path: Path) -> tuple[Path, Path]:
    """The file that holds the header and the one that holds the voxels."""
    suffix = suffix_of(path)
    if suffix in (".nii", ".nii.gz"):
        return path, path
    stem = path.name[: -len(suffix)]
    folder = path.parent
    beside = {file.name.lower(): file for file in folder.glob(f"{glob.escape(stem)}.*") if file.is_file()}
    header = path if suffix == ".hdr" else beside.get(f"{stem}.hdr".lower(), folder / f"{stem}.hdr")
    data = next((beside[name] for end in (".img", ".img.gz") if (name := f"{stem}{end}".lower()) in beside), None)
    if not header.is_file() or data is None:
        missing = f"{stem}.img" if data is None else header.name
        raise InputError(f"{path}: {missing} is missing beside it; a header and its image belong together.")
    return header, data


def nifti_header(path: Path) -> NiftiHeader:
    """Read the header, after https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h.

    :raises InputError: when it is none, or an ANALYZE one, or makes no sense.
    """
    import nibabel

    raw = first_bytes(path, 540)
    kinds = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    length = next((n for n in kinds for order in "<>" if raw[:4] == struct.pack(order + "i", n)), None)
    if length is None or len(raw) < length:
        raise InputError(f"{path}: this is no NIfTI file, or a damaged one; copy or export it again.")
    if length == 348 and raw[344:347] not in (b"n+1", b"ni1"):
        raise InputError(
            f"{path}: this is an ANALYZE file, which does not tell left from right; convert it to NIfTI knowing that."
        )
    fields = kinds[length](raw[:length], check=False)
    rank, *sizes = map(int, fields["dim"])
    shape = tuple(sizes[:rank]) if 1 <= rank <= 7 else ()
    damaged = not shape or min(shape) < 1 or int(fields["datatype"]) not in NIFTI_TYPES + NIFTI_COMPLEX
    if damaged or not np.isfinite(float(fields["vox_offset"])):
        raise InputError(f"{path}: the NIfTI header is damaged; copy or export the file again.")
    units = int(fields["xyzt_units"]) & 7
    unit = {1: 1000.0, 3: 0.001}.get(units, 1.0)  # metre, micrometre; anything else is taken as mm
    scale = np.array([[unit], [unit], [unit], [1.0]])
    with np.errstate(all="ignore"):  # a damaged header may hold anything
        rows = np.array([fields["srow_x"], fields["srow_y"], fields["srow_z"], [0, 0, 0, 1]], float)
        pixdim = np.array(fields["pixdim"], float)
        qform = quaternion_affine(*(fields[f"{kind}_{axis}"] for kind, axis in QUATERNION), pixdim)
        sform = usable(scale * rows) if int(fields["sform_code"]) > 0 else None
        qform = usable(scale * qform) if int(fields["qform_code"]) > 0 else None
    return NiftiHeader(fields, shape, sform, qform, pixdim[1:4] * unit, units in (1, 2, 3))


def usable(affine: np.ndarray) -> np.ndarray | None:
    """The affine, or None where it is not finite or not invertible."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        return None
    return affine


def quaternion_affine(b, c, d, x, y, z, pixdim) -> np.ndarray:
    """IJK-to-RAS of a NIfTI qform: quaternion (a, b, c, d), offset and pixdim (its first entry is the handedness)."""
    b, c, d = float(b), float(c), float(d)
    vector = b * b + c * c + d * d
    if vector > 1:  # as the standard's own library has it
        b, c, d = (part / vector**0.5 for part in (b, c, d))
    a = max(0.0, 1 - vector) ** 0.5
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * pixdim[1:4] * [1, 1, -1 if pixdim[0] < 0 else 1]
    affine[:3, 3] = x, y, z
    return affine


QUATERNION = (*(("quatern", axis) for axis in "bcd"), *(("qoffset", axis) for axis in "xyz"))


def is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, of its content where it is gzipped."""
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            return file.read(count)
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{path}: the file is damaged (its gzip stream ends or breaks); copy it again.") from None


def require_bytes(path: Path, data_path: Path, needed: int) -> None:
    """SimpleITK fills what a truncated NIfTI file lacks with whatever lies in memory, so count before.

    :raises InputError: when the data file holds fewer bytes than the header announces, or the memory does.
    """
    require_memory(path, needed)
    zipped = is_gzip(data_path)
    with data_path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4))
        noted = int.from_bytes(file.read(), "little")  # gzip ends with the length of its content, modulo 2^32
    if zipped:
        size = needed if noted == needed % 2**32 else unzipped_size(data_path, needed)
    if size < needed:
        raise InputError(f"{path}: the file is cut short ({size} of {needed} bytes); copy or download it again.")


def unzipped_size(path: Path, enough: int) -> int:
    """Bytes of content of a gzip file, counted until ``enough``; a stream that breaks ends the count."""
    size = 0
    try:
        with gzip.open(path) as file:
            while size < enough and (block := file.read(1 << 20)):
                size += len(block)
    except (OSError, EOFError, zlib.error):
        pass
    return size


# SimpleITK -----------------------------------------------------------------------------------------------------------


def read_itk(path: Path, frame: int | None) -> Volume:
    """Read whatever SimpleITK reads as one volume; a fourth axis of size 1 goes, a longer one needs ``frame``."""
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


NRRD_BYTES = {
    name: size
    for size, names in {
        1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
        2: "short, short int, signed short, signed short int, int16, int16_t, ushort, unsigned short, unsigned short int, uint16, uint16_t",
        4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
        8: "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t, "
        "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
    }.items()
    for name in names.split(", ")
}  # fmt: skip
LENGTHS = {
    "": 1.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "millimetre": 1.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "m": 1000.0,
    "meter": 1000.0,
    "metre": 1000.0,
}
LENGTHS |= dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 1e-3)
LENGTHS |= dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6)
"""Units of length in mm."""


def read_nrrd(path: Path, frame: int | None) -> Volume:
    """NRRD; one that names no space of the patient may lie anywhere, and a remark says so."""
    fields = nrrd_fields(path)
    require_nrrd_bytes(path, fields)
    space = fields.get("space", "").lower()
    if space.startswith("scanner-xyz"):
        raise InputError(
            f"{path}: it lies in the scanner's axes ({space}), and the file does not say how the patient lay in it; write it in "
            "left-posterior-superior (in Slicer, load and save it)."
        )
    require_range(path, fields)
    volume = read_itk(path, frame)
    if 0 < fields.get("space directions", "((()))").count("(") < 3:
        volume = assuming(volume, ("position", "orientation", "thickness"))
    name, units = nrrd_units(fields)
    if strange := [unit for unit in units if unit not in LENGTHS]:
        raise InputError(f"{path}: its {name} '{strange[0]}' are no length that is known; write it again in mm.")
    scale = [LENGTHS[unit] for unit in units]
    if len(scale) == 3 and scale != [1, 1, 1]:
        by = np.diag([*scale, 1.0])  # of axes of space, or of the array
        affine = by @ volume.affine if name == "space units" else volume.affine @ by
        volume = placed(path, volume.array, affine, [*volume.source.remarks, f"{name} became mm"])
    if space in NAMED_SPACES and ("space directions" in fields or "spacings" in fields):
        return volume if "space origin" in fields else assuming(volume, ("position",))
    return unplaced(volume, spacing="spacings" in fields or "space directions" in fields)


def nrrd_units(fields: dict[str, str]) -> tuple[str, list[str]]:
    """The field that gives units of length, and those of three axes: of space, or, where the header has spacings alone, of the
    array."""
    name = "space units" if "space units" in fields or "spacings" not in fields else "units"
    units = [unit.strip().lower() for unit in re.findall(r'"([^"]*)"', fields.get(name, ""))]
    spaced = fields.get("spacings", "").lower().split() if name == "units" else []
    if len(spaced) == len(units):
        units = [unit for unit, s in zip(units, spaced, strict=True) if s != "nan"]
    return name, units[:3]


def nrrd_fields(path: Path) -> dict[str, str]:
    """The fields of the header; key/value pairs (with ':=') are left out."""
    lines = (line.partition(":") for line in nrrd_header(path).splitlines())
    return {key.strip().lower(): value.strip() for key, mark, value in lines if mark and not value.startswith("=")}


def require_nrrd_bytes(path: Path, fields: dict[str, str]) -> None:
    """SimpleITK makes room for what the header announces before it looks at the data.

    :raises InputError: where the file cannot hold that much.
    """
    try:
        needed = prod(int(size) for size in fields["sizes"].split()) * NRRD_BYTES[fields["type"].lower()]
    except (KeyError, ValueError):
        return  # SimpleITK says what is wrong
    require_memory(path, needed)
    name = fields.get("data file", fields.get("datafile", ""))
    if name:
        files = data_files(path, name, nrrd_lines(path)[1])
        if len(files) != 1:
            return  # their number and sizes SimpleITK compares itself
    data = files[0] if name else path
    size = data.stat().st_size
    packed = fields.get("encoding", "raw").lower() not in ("raw", "txt", "text", "ascii", "hex")
    if size * (MOST_PACKED if packed else 1) < needed and fields.get("encoding", "raw").lower() not in (
        "txt",
        "text",
        "ascii",
    ):
        raise InputError(
            f"{path}: the file is cut short ({size} bytes, and its header announces {needed}); copy or download it again."
        )


def require_range(path: Path, fields: dict[str, str]) -> None:
    """:raises InputError: for values, written as text, that the type of the voxels does not hold."""
    given = fields.get("type", "").lower().replace("unsigned ", "u").split("_")[0]
    kind = {
        "uchar": "uint8",
        "ushort": "uint16",
        "uint": "uint32",
        "short": "int16",
        "int": "int32",
        "signed char": "int8",
    }
    name = kind.get(given, given)
    if fields.get("encoding", "").lower() not in ("txt", "text", "ascii") or not re.fullmatch(r"u?int(8|16|32)", name):
        return
    with path.open("rb") as file:
        words = file.read().replace(b"\r\n", b"\n").partition(b"\n\n")[2].split()
    try:
        values = np.array(words, np.float64)
    except ValueError:
        return  # SimpleITK says what is no number
    limits = np.iinfo(name)
    if values.size and not limits.min <= values.min() <= values.max() <= limits.max:
        raise InputError(
            f"{path}: its values go from {values.min():g} to {values.max():g}, which {name} does not hold."
        )


def nrrd_header(path: Path) -> str:
    """The text before the first empty line."""
    head = first_bytes(path, 1 << 20).replace(b"\r\n", b"\n")
    return head.partition(b"\n\n")[0].decode("utf-8", "replace")


def nrrd_lines(path: Path) -> tuple[list[str], list[str]]:
    """The header's lines up to the one that names data files, and those after it, up to an empty one."""
    lines = nrrd_header(path).splitlines()
    at = next((n for n, line in enumerate(lines) if line.lower().replace(" ", "").startswith("datafile:")), len(lines))
    return lines[: at + 1], [line for line in lines[at + 1 :] if line.strip()]


MOST_FILES = 100_000


def data_files(path: Path, given: str, listed: list[str]) -> list[Path]:
    """The files with the voxels that a header names: one; those of a list; or those of a numbered pattern, as
    ``slice%03d.raw 1 20 1``. Libraries hand such patterns to C as they are.

    :raises InputError: for another pattern, and for what is no file.
    """
    names = [given]
    if given.startswith("LIST"):
        names = listed
    elif "%" in given:
        found = re.fullmatch(r"([^%]*)%(0?\d?)d([^%]*?)((?:\s+-?\d+){3,4})", given)
        first, last, step = map(int, found[4].split()[:3]) if found else (0, 0, 0)
        if not step or abs(last - first) // abs(step) >= MOST_FILES:
            raise InputError(f"{path}: its pattern of data files '{given[:80]}' is none that is read; write one file.")
        numbers = range(first, last + (1 if step > 0 else -1), step)
        names = [f"{found[1]}{n:{found[2]}d}{found[3]}" for n in numbers]
    if not names:
        raise InputError(f"{path}: its header lists no data file; export it again.")
    files = [path.parent / name.strip() for name in names]
    if lost := next((file for file in files if not file.is_file()), None):
        raise InputError(f"{path}: its data file {lost.name} is not there, or is no file; put it beside the header.")
    return files


def read_meta(path: Path, frame: int | None) -> Volume:
    """MetaImage. SimpleITK crashes where sizes and data of a damaged file do not fit, so they are compared before."""
    head = first_bytes(path, 1 << 16)
    text, mark, rest = head.partition(b"ElementDataFile")
    name, _, _ = rest.partition(b"\n")
    lines = [line.partition("=") for line in text.decode("latin-1").split("\n") if line.strip()]
    fields = {key.strip(): value.strip() for key, _, value in lines}
    plain = all(mark for _, mark, _ in lines) and len(fields) == len(lines)  # else SimpleITK leaves entries out
    try:
        sizes = [int(size) for size in fields["DimSize"].split()]
        needed = prod(sizes) * int(fields.get("ElementNumberOfChannels", 1)) * META_BYTES[fields["ElementType"]]
        start = len(text) + len(mark) + len(name) + 1
        stored = int(fields.get("CompressedDataSize", 0))
        where = name.decode().strip(" =\r")
        sound = (
            plain
            and fields.get("CompressedData", "false").lower() in ("true", "false")
            and fields.get("BinaryData", "true").lower() in ("true", "false")
            and where.isprintable()
            and int(fields["NDims"]) == len(sizes) in (2, 3, 4)
            and min(sizes) > 0
            and needed > 0
        )
    except (KeyError, ValueError):
        sound = False
    if not sound:
        raise InputError(f"{path}: this is no MetaImage file, or a damaged one; copy or export it again.")
    require_memory(path, needed)
    if fields.get("BinaryData", "true").lower() == "false":
        raise InputError(f"{path}: its values are written as text, which is not read; export it as binary.")
    skipped = int(fields.get("HeaderSize", 0))
    files = [path] if where == "LOCAL" else data_files(path, where, meta_list(rest))
    if where == "LOCAL":
        if skipped not in (0, -1, start):
            raise InputError(f"{path}: its HeaderSize {skipped} does not lie where its header ends; export it again.")
    else:
        start = max(skipped, 0)
        dimensions = meta_dimensions(path, where, len(sizes))
        if len(files) > 1 or where.startswith("LIST"):
            require_count(path, len(files), prod(sizes[dimensions:]))
    zipped = fields.get("CompressedData", "")[:1] in ("T", "t", "1")
    for file in files if not zipped or len(files) == 1 else ():
        size = file.stat().st_size - start
        if zipped:
            packed = stored or (0 if where == "LOCAL" else size)  # without it, ITK makes numbers up
            size = inflated_size(file, start, packed, needed) if packed <= size else 0
        if size < needed // len(files):
            what = "the file" if file == path else f"its data file {file.name}"
            raise InputError(f"{path}: {what} is cut short or damaged; copy or download it again.")
    volume = read_itk(path, frame)
    slope, offset = (
        fields.get(f"ElementToIntensityFunction{name}", other) for name, other in (("Slope", "1"), ("Offset", "0"))
    )
    if (slope, offset) != ("1", "0"):
        volume = remark(volume, f"its slope {slope} and offset {offset} were not applied (nor are they by Slicer)")
    affine = meta_affine(fields) if len(sizes) > 2 else volume.affine
    if affine is None or not same_affine(volume.affine, affine, volume.shape, 0.01):
        raise InputError(
            f"{path}: its spacing, offset and axes do not fit each other; mend the header or export it again."
        )
    unit = LENGTHS.get(fields.get("DistanceUnits", "").lower(), 1.0)
    if unit != 1:
        affine = np.diag([unit, unit, unit, 1.0]) @ volume.affine
        volume = placed(path, volume.array, affine, [*volume.source.remarks, f"{fields['DistanceUnits']} became mm"])
    spaced = "ElementSpacing" in fields or "ElementSize" in fields
    axes = sorted(next((n for n, way in enumerate(WAYS) if letter in way), 3) for letter in fields.get(AXES, ""))
    if axes != list(range(min(len(sizes), 3))):
        return unplaced(volume, spacing=spaced)
    origin = any(name in fields for name in ("Offset", "Position", "Origin"))
    return assuming(volume, (*(() if origin else ("position",)), *(() if spaced else ("spacing", "thickness"))))


AXES, WAYS = "AnatomicalOrientation", ("RL", "AP", "SI")
"""Where MetaImage says how its axes run, and the letters of each axis of the patient."""


def meta_dimensions(path: Path, where: str, rank: int) -> int:
    """How many axes each of several data files has.

    :raises InputError: for forms that MetaImage's own library reads past the end of its memory.
    """
    listed = re.fullmatch(r"LIST\s+(\d)D?", where)
    dimensions = int(listed[1]) if listed else rank - 1
    words = where.split()
    odd_list = where.startswith("LIST") and where != "LIST" and not listed
    odd_pattern = "%" in where and (len(words) != 4 or int(words[3]) < 1)
    if not 0 < dimensions < rank or odd_list or odd_pattern:
        raise InputError(f"{path}: its list of data files '{where[:80]}' is none that is read; write one file.")
    return dimensions


def meta_list(rest: bytes) -> list[str]:
    """The lines below the one that names the data files."""
    return [line.strip() for line in rest.decode("utf-8", "replace").split("\n")[1:] if line.strip()]


def require_count(path: Path, found: int, needed: int) -> None:
    """:raises InputError: for more or fewer data files than the header announces."""
    if found != needed:
        raise InputError(f"{path}: its header names {found} data files, and {needed} are needed; export it again.")


def meta_affine(fields: dict[str, str]) -> np.ndarray | None:
    """IJK-to-RAS of a MetaImage header as it is written; None where it makes no sense. What is not written is 1 mm, at 0."""

    def numbers(otherwise: str, *names: str) -> np.ndarray:
        return np.array(next((fields[name] for name in names if name in fields), otherwise).split(), float)

    try:
        columns = numbers("1 0 0 0 1 0 0 0 1", "TransformMatrix", "Rotation", "Orientation")
        rank = round(len(columns) ** 0.5)
        lps = np.eye(4)
        lps[:3, :3] = columns.reshape(rank, rank)[:3, :3].T * numbers("1 1 1", "ElementSpacing", "ElementSize")[:3]
        lps[:3, 3] = numbers("0 0 0", "Offset", "Position", "Origin")[:3]
    except ValueError:
        return None
    return usable(LPS_RAS @ lps)


def inflated_size(path: Path, start: int, length: int, enough: int) -> int:
    """Bytes that a zlib stream of this length holds, counted until ``enough``; a stream that breaks ends the count."""
    stream, size = zlib.decompressobj(), 0
    with path.open("rb") as file:
        file.seek(start)
        try:
            while size < enough and (block := file.read(min(1 << 16, length))):
                length -= len(block)
                size += len(stream.decompress(block))
        except zlib.error:
            pass
    return size


def open_itk(path: Path) -> tuple:
    """The SimpleITK image, its array, and whether the array's last axis lists volumes (a sequence) and not channels."""
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
            raise InputError(f"{path}: its fourth axis is of a kind that is not read; save it as NIfTI.") from None
        if "orthonormal" in str(error):
            raise InputError(f"{path}: the affine is slightly sheared; {UNSHEAR}.") from None
        raise InputError(f"{path}: the file cannot be read ({short_reason(error)}); copy or export it again.") from None
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(f"{path}: the voxels are complex numbers; write their magnitude to a new file and give that.")
    listed = bool(kinds & {"list", "time"}) and image.GetNumberOfComponentsPerPixel() > 1
    return image, sitk.GetArrayFromImage(image), listed


@contextmanager
def spelled(path: Path) -> Iterator[str]:
    """A path that SimpleITK takes: it wants UTF-8, so that a file with another name gets a link with a plain one, and those
    beside it too, which may hold its voxels."""
    if is_utf8(path.absolute()):
        yield str(path)
        return
    with plain_folder() as folder:
        beside = path.parent.iterdir() if suffix_of(path) in HEADERS else []
        for file in beside:
            if is_utf8(Path(file.name)):
                (folder / file.name).symlink_to(file.absolute())
        link = folder / f"volume{suffix_of(path)}" if not is_utf8(Path(path.name)) else folder / path.name
        if not link.is_symlink():
            link.symlink_to(path.absolute())
        yield str(link)


@contextmanager
def plain_folder() -> Iterator[Path]:
    """A temporary folder.

    :raises InputError: where none can be made.
    """
    try:
        folder = tempfile.mkdtemp()
    except OSError as error:
        raise InputError(
            f"No temporary folder can be made ({error.strerror}); set the environment variable TMPDIR to a folder with room."
        ) from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def itk_affine(image) -> np.ndarray:
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


def chosen_frame(path: Path, frame: int | None, count: int) -> int:
    """:raises InputError: where a frame is needed and none was given, or one that does not exist."""
    if frame is None and count > 1:
        raise InputError(f"{path}: the file holds {count} volumes; choose one, --frame 0 to --frame {count - 1}.")
    if not 0 <= (frame or 0) < count:
        raise InputError(f"{path}: there is no frame {frame}; it must be below {count}.")
    return frame or 0


def placed(path: Path, array: np.ndarray, affine: np.ndarray, remarks: list[str]) -> Volume:
    """The Volume, or a sentence where the affine is none."""
    if usable(affine) is None:
        raise InputError(f"{path}: its spacing or axes are zero or not finite; mend the header or export it again.")
    if fault := implausible(affine):
        raise InputError(f"{path}: its header gives {fault}, which cannot be; mend the header or export it again.")
    if shear(affine) > SHEAR_TOLERANCE:
        raise InputError(f"{path}: the affine is sheared by {shear_degrees(affine):.1f} degrees; {UNSHEAR}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        remarks = [*remarks, f"{np.count_nonzero(~np.isfinite(array))} values are not finite (NaN or infinite)"]
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return Volume(array, affine, Source(legible(path.name), suffix_of(path).lstrip("."), remarks=tuple(remarks)))


def remark(volume: Volume, text: str) -> Volume:
    """The volume with one remark more."""
    return replace(volume, source=replace(volume.source, remarks=(*volume.source.remarks, text)))


def assuming(volume: Volume, parts: tuple[str, ...]) -> Volume:
    """The volume with these parts of its geometry known to be assumed."""
    assumed = tuple(part for part in GEOMETRY if part in (*volume.source.assumed, *parts))
    return replace(volume, source=replace(volume.source, assumed=assumed))


def unplaced(volume: Volume, spacing: bool) -> Volume:
    """A volume whose header does not say how it lies in the patient, with the remark.

    :param spacing: whether the header gives the spacing at least.
    """
    parts = ("position", "orientation") if spacing else ("position", "orientation", "spacing", "thickness")
    return assuming(remark(volume, UNPLACED), parts)


# Pictures ------------------------------------------------------------------------------------------------------------


def read_picture(path: Path, frame: int | None) -> Volume:
    """PNG, JPEG or TIFF as one slice: rows go to the back, columns to the left, 1 mm (nothing better is known). The pages of
    a TIFF are slices, or one of them is picked by ``frame``."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                stacked = picture.format == "TIFF"
                count = getattr(picture, "n_frames", 1)
                arrays, changes = [], []
                pages = range(count if stacked or frame is not None else 1)
                if not stacked and count > 1 and frame is None:
                    changes.append(f"{count - 1} further pictures in the file were left out")
                if stacked:
                    refuse_tiff(path, picture, alone=frame is not None)
                if frame is not None:
                    pages = [chosen_frame(path, frame, len(pages))]
                for page in pages:
                    picture.seek(page)
                    array, remarks = page_of(picture)
                    require_memory(path, array.nbytes * len(pages))
                    arrays.append(array)
                    changes += [text for text in remarks if text not in changes]
    except InputError:
        raise
    except Exception:  # PIL's decoders raise whatever they stumble over
        raise InputError(
            f"{path}: the picture is damaged, too large, or of a kind that is not read (values of 64 bits); save it again as PNG."
        ) from None
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        raise InputError(
            f"{path}: its {len(arrays)} pages differ in size or kind and make no volume; choose one, --frame 0 to --frame "
            f"{len(arrays) - 1}."
        )
    what = f"a stack of {len(arrays)} pictures" if len(arrays) > 1 else "a picture"
    remarks = [
        f"{what}: no spacing or place in the patient is known; what is written has pixels of 1 mm, which mean nothing",
        *changes,
    ]
    return assuming(placed(path, np.stack(arrays), np.diag([-1.0, -1.0, 1.0, 1.0]), remarks), GEOMETRY)


def page_of(picture) -> tuple[np.ndarray, list[str]]:
    """(row, column[, channel]) of the page that a PIL image is at, and what was changed."""
    from PIL import ImageOps

    changes = ["turned upright as its EXIF entry says"] if picture.getexif().get(0x0112, 1) != 1 else []
    if re.search(r"(RGB[AX]?|LA);16", str(picture.tile)):
        changes.append("its 16-bit colours became 8-bit")
    tags = dict(getattr(picture, "tag_v2", {}))
    if (more := tags.get(SAMPLES, 1) - len(picture.getbands())) > 0:
        changes.append(f"{more} further channels were left out")
    array, said = pixels(ImageOps.exif_transpose(picture))
    return as_stored(array, tags), [*said, *changes]


BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, ORIENTATION, SAMPLES = 258, 259, 262, 270, 274, 277
PLANES, FORMAT, DEPTH = 284, 339, 32997
"""Tags of TIFF: bits of a value, whether packed (not 1), whether white is 0, text, how the picture is turned, values of a
pixel, whether they lie in planes of their own (2), whether they are unsigned (1) or signed (2), and slices of a page."""


def refuse_tiff(path: Path, picture, alone: bool) -> None:
    """:param alone: whether one page is asked for.
    :raises InputError: for pages that are cut off, that are no slices of one volume, or that PIL reads wrongly.
    """
    tags, count = picture.tag_v2, picture.n_frames
    if not whole_chain(path):
        raise InputError(f"{path}: the file is cut short: pages are missing at its end; copy or download it again.")
    if tags.get(DEPTH, 1) > 1:
        raise InputError(
            f"{path}: its pages hold several slices each (ImageDepth), which is not read; write a page for each."
        )
    if tags.get(PLANES) == 2 and max(np.atleast_1d(tags.get(BITS, 1))) > 8:
        raise InputError(
            f"{path}: its colours of 16 bits lie in planes of their own, which is not read; save it again as PNG."
        )
    if tags.get(ORIENTATION, 1) > 4 and tags.get(COMPRESSION, 1) == 1 and picture.mode.startswith(("L", "I;16")):
        raise InputError(
            f"{path}: it is stored lying on its side (Orientation {tags[ORIENTATION]}), which is not read; save it upright."
        )
    images, channels, times = tiff_axes(str(tags.get(DESCRIPTION, "")), tags.get(SAMPLES, 1))
    if images > count or '"truncated": true' in str(tags.get(DESCRIPTION, "")):
        raise InputError(f"{path}: it announces more pages than it has ({count}); save it again as a plain stack.")
    if count > 1 and channels * times > 1 and not alone:
        raise InputError(
            f"{path}: its {count} pages are of {channels} channels and {times} time points; choose a page, --frame 0 to --frame "
            f"{count - 1}, or save one channel and time as a stack."
        )


def tiff_axes(text: str, samples: int) -> tuple[int, int, int]:
    """How many pages, channels and time points the description says there are, as ImageJ and OME write it; else 0, 1, 1."""
    if text.startswith("ImageJ="):
        said = dict(line.partition("=")[::2] for line in text.splitlines())
        pages, channels, times = (said.get(name, "") for name in ("images", "channels", "frames"))
    else:
        ome = re.search(r"<Pixels[^>]*>", text) if "OME" in text else None
        sizes = dict(re.findall(r'Size([CT])="(\d+)"', ome[0])) if ome else {}
        pages, channels, times = "", str(int(sizes.get("C", 1)) // samples), sizes.get("T", "")
    whole = [int(n) if n.isdigit() else 0 for n in (pages, channels, times)]
    return whole[0], max(whole[1], 1), max(whole[2], 1)


def whole_chain(path: Path) -> bool:
    """Whether the list of a TIFF's pages comes to its end: PIL takes a page that is cut off for the end."""
    with path.open("rb") as file:
        order = "<" if file.read(2) == b"II" else ">"
        big = struct.unpack(order + "H", file.read(2)) == (43,)
        form, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
        file.seek(8 if big else 4)
        seen: set[int] = set()
        try:
            (at,) = struct.unpack(order + link, file.read(struct.calcsize(link)))
            while at and at not in seen:
                seen.add(at)
                file.seek(at)
                (count,) = struct.unpack(order + form, file.read(struct.calcsize(form)))
                file.seek(count * entry, os.SEEK_CUR)
                (at,) = struct.unpack(order + link, file.read(struct.calcsize(link)))
        except (struct.error, OSError, OverflowError):
            return False
    return True


def as_stored(array: np.ndarray, tags: dict) -> np.ndarray:
    """Grey values of a TIFF as they are meant: PIL takes signed bytes for unsigned ones, 32 unsigned bits for signed ones,
    and leaves black and white as they are in 16 bits."""
    bits, kind = (tuple(np.atleast_1d(tags.get(tag, 1))) for tag in (BITS, FORMAT))
    if array.ndim == 2 and (bits, kind, array.dtype) == ((8,), (2,), np.uint8):
        return array.view(np.int8)
    if array.ndim == 2 and (bits, kind, array.dtype) == ((32,), (1,), np.int32):
        return array.view(np.uint32)
    if array.dtype == np.uint16 and tags.get(PHOTOMETRIC) == 0:
        return 65535 - array
    return array


def pixels(picture) -> tuple[np.ndarray, list[str]]:
    """(row, column[, channel]) of a PIL image, grey or RGB, and what was changed to get there."""
    mode = picture.mode
    if mode in ("L", "RGB") or mode.startswith(("I", "F")):
        return np.asarray(picture), []
    if mode == "1":
        return np.asarray(picture.convert("L")), ["black and white became 0 and 255"]
    if mode in ("LA", "La", "RGBA", "RGBa"):
        return np.asarray(picture.convert(mode[:-1])), ["the alpha channel was dropped"]
    rgb = np.asarray(picture.convert("RGB"))
    if (rgb == rgb[..., :1]).all():
        return rgb[..., 0], [f"the {mode} colours are shades of grey and became one channel"]
    return rgb, [f"the {mode} colours became RGB"]


# Labels --------------------------------------------------------------------------------------------------------------


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
        raise InputError(f"{path}: an RGB image is no label map; give one integer for each voxel.")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.round(array)).any():
            raise InputError(f"{path}: the values are no whole numbers, so this is no label map; give a segmentation.")
        if np.abs(array).max() < 2**31:
            array = array.astype(np.int32)
    if array.min() < 0 or array.max() > 65535:
        raise InputError(f"{path}: labels go from 0 to 65535, and this file has {array.min()} to {array.max()}.")
    volume = volume.with_array(smallest(array))
    values = [int(value) for value in np.unique(array) if value]
    if len(values) > MANY_LABELS and patchiness(array) < 0.5:
        raise InputError(
            f"{path}: this looks like an image and not like a label map ({len(values)} values, which change from voxel to voxel); give a "
            "segmentation."
        )
    rows = [
        Label(value, f"label {value}", color) for value, color in zip(values, label_colors(len(values)), strict=True)
    ]
    return Labels(volume, tuple(rows))


MANY_LABELS = 20
"""From so many on, a label map is asked whether it is one."""


def patchiness(array: np.ndarray) -> float:
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
        raise InputError(f"{path}: its Segment entries are damaged; save the segmentation again in Slicer.") from None
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


def segment(keys: dict[str, str], n: int, layers: int) -> tuple[int, int, str, tuple]:
    """Layer, stored value, name and colour (empty where there is none) of one segment.

    :raises ValueError: for entries that make no sense.
    """
    layer = int(keys.get(f"Segment{n}_Layer", n if layers > 1 else 0))
    stored = int(keys.get(f"Segment{n}_LabelValue", 1))
    color = tuple(float(part) for part in keys.get(f"Segment{n}_Color", "").split())
    if not 0 <= layer < layers or not 0 < stored < 65536 or len(color) not in (0, 3):
        raise ValueError
    if not all(0 <= part <= 1 for part in color):
        color = ()
    return layer, stored, keys.get(f"Segment{n}_Name") or keys[f"Segment{n}_ID"], color


def smallest(array: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest of uint8, int16, uint16 and int32 that holds them."""
    low, high = int(array.min()), int(array.max())
    for dtype in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    return array


# Writing -------------------------------------------------------------------------------------------------------------


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
        raise InputError(f"{path}: volumes are written as {', '.join(WRITABLE)}; choose one of these suffixes.")
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
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        with quiet(), written_as(temporary) as name:
            sitk.WriteImage(image, name, useCompression=compress and suffix != ".nii")
        os.replace(temporary, path)
    except (RuntimeError, OSError):
        raise InputError(
            f"{path}: the file cannot be written; check that the folder exists, is writable and has space."
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def written_as(path: Path) -> Iterator[str]:
    """Where SimpleITK writes what becomes this file: it ends the process over a path that is no UTF-8."""
    if is_utf8(path.absolute()):
        yield str(path)
        return
    with plain_folder() as folder:
        plain = folder / f"volume{suffix_of(path)}"
        yield str(plain)
        shutil.move(plain, path)


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
    keys = {}
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


# Folders and descriptions --------------------------------------------------------------------------------------------


class NoImage(InputError):
    """A folder without images."""


def find_cases(path: str | Path, say: Callable[[str], None] = lambda text: None) -> list[Case]:
    """The inputs that a path stands for.

    A file is one, and so is a folder of DICOM, however deep. In a folder with volumes every image is one, recursively,
    sorted by name, and so in one without DICOM. Hidden files are left out, the image of a header and image pair, and what
    an earlier run wrote.

    :param say: told of what is left out: DICOM beside volumes, pictures beside DICOM, or an earlier run's files.
    :raises InputError: where there is none.
    """
    path = existing(path)
    if path.is_file():
        return [Case(path, legible(path.name))]
    files = [file for file in dicom.files_below(path) if not hidden(file.relative_to(path))]
    ours = {file.parent / name for file in files if file.name == RECORD for name in listed(file.parent)}
    if there := ours.intersection(files):
        say(f"{len(there)} files that an earlier run wrote into this folder: left out.")
    files = [file for file in files if file not in ours]
    slices = [file for file in files if dicom.is_dicom(file)]
    known = NIFTI + NRRD + META + PICTURES + FREESURFER
    lost = (*known, ".dcm", ".ima")  # what is there and no file: it is a case that cannot be read
    series = set(slices)
    images = [
        f
        for f in files
        if suffix_of(f) in (known if f.is_file() else lost) and not is_second_half(f) and f not in series
    ]
    is_series = slices and all(suffix_of(file) in PICTURES for file in images)
    for file in (images if is_series else slices)[:1]:
        rest = len(images if is_series else slices) - 1
        more = f" and {rest} more" if rest else ""
        what = "a picture beside DICOM" if is_series else "DICOM beside volumes"
        say(f"{legible(file.relative_to(path).as_posix())}{more}: left out, as {what}; give it by itself.")
    if is_series:
        return [Case(path, legible(path.resolve().name))]
    if not images:
        raise NoImage(f"{path}: the folder holds no image; give one with DICOM, NIfTI, NRRD, MHA, PNG, JPEG or TIFF.")
    return [Case(file, legible(file.relative_to(path).as_posix())) for file in images]


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_second_half(path: Path) -> bool:
    """Whether a file is the .img of a .hdr."""
    suffix = suffix_of(path)
    stem = path.name[: -len(suffix)]
    return suffix in (".img", ".img.gz") and any(
        path.with_name(stem + end).is_file() for end in (".hdr", ".HDR", ".Hdr")
    )


def describe(path: str | Path, series: str | None = None, frame: int | None = None) -> dict:
    """What ``medxai info`` prints: geometry, intensities, series and what is odd, as plain JSON values.

    :raises InputError: as :func:`read_volume`.
    """
    path = existing(path)
    volume = read_volume(path, series=series, frame=frame)
    is_dicom = path.is_dir() or dicom.is_dicom(path)
    return {
        "name": volume.source.name,
        "format": volume.source.format,
        "geometry": geometry(volume),
        "channels": volume.channels,
        "intensities": intensities(volume.array),
        "series": [one.row() for one in dicom.list_series(path)] if is_dicom else [],
        "remarks": [*volume.source.remarks, *oddities(volume)],
    }


def geometry(volume: Volume) -> dict:
    """What the file says of shape, spacing and place; what it does not say is named instead."""
    given, facts = volume.placed, {"shape": list(volume.shape)}
    if volume.unit:
        unit = volume.unit.replace(" ", "_")
        facts |= {f"spacing_{unit}": rounded(volume.spacing), f"extent_{unit}": rounded(volume.spacing * volume.shape)}
    if given:
        facts["origin_ras_mm"] = rounded(volume.affine[:3, 3])
    if volume.axes:
        facts["axes"] = volume.axes
    if "orientation" not in volume.source.assumed:
        facts["oblique_degrees"] = round(oblique_degrees(volume.affine), 3)
        facts["handedness"] = "left" if left_handed(volume.affine) else "right"
    facts["affine" if given else "assumed_affine"] = volume.affine.tolist()
    return facts | ({"not_in_the_file": list(volume.source.assumed)} if volume.source.assumed else {})


def rounded(values) -> list[float]:
    return [round(float(value), 6) for value in values]


def intensities(array: np.ndarray) -> dict:
    """Type, range, percentiles and the share of voxels at the minimum; values that are not finite are left out."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array.ravel()
    if finite.size == 0:
        return {"type": str(array.dtype), "min": None, "max": None, "percentiles": {}, "share_at_min": None}
    levels = (1, 5, 25, 50, 75, 95, 99)
    return {
        "type": str(array.dtype),
        "min": float(finite.min()),
        "max": float(finite.max()),
        "percentiles": {str(n): float(v) for n, v in zip(levels, np.percentile(finite, levels), strict=True)},
        "share_at_min": float(np.count_nonzero(finite == finite.min()) / finite.size),
    }


def oddities(volume: Volume) -> list[str]:
    """What a volume alone shows to be unusual, one sentence each."""
    found = []
    if left_handed(volume.affine) and volume.placed:
        found.append("left-handed: Slicer reorders the slices when it writes this volume")
    ratio = volume.spacing.max() / volume.spacing.min()
    if ratio > 3 and volume.unit:
        found.append(f"anisotropic: the coarsest spacing is {ratio:.1f} times the finest")
    low, high = volume.array.min(), volume.array.max()
    if low == high:
        found.append(f"every voxel has the same value, {low}")
    elif low <= -1500 and np.count_nonzero(volume.array == low) > 0.01 * volume.array.size:
        found.append(f"the value {low} fills more than 1 % of the volume: probably padding outside the scanner's field")
    return found
