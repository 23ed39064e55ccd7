"""NIfTI-1 and -2, pairs, and ANALYZE is told from them."""

from __future__ import annotations

import glob
import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..geometry.affine import SHEAR_TOLERANCE, Affine, directions, same_affine, shear, shear_degrees
from ..geometry.volume import Volume
from .guards import first_bytes, is_gzip, require_bytes
from .itk import short_reason
from .placing import UNSHEAR, assuming, chosen_frame, placed, unplaced, usable
from .suffixes import suffix_of

NIFTI_TYPES = (2, 4, 8, 16, 64, 128, 256, 512, 768, 1024, 1280, 2304)
NIFTI_COMPLEX, NIFTI_COLORS = (32, 1792, 2048), (128, 2304)
NIFTI_VECTORS = (1005, 1006, 1007, 1008, 2003, 2004)
"""Intents by which the fifth axis lists the parts of a vector or colour."""


class NiftiHeader(NamedTuple):
    """What is needed of the header. The affines are IJK-to-RAS in mm, or None."""

    fields: Any
    """The header itself, as nibabel has it."""
    shape: tuple[int, ...]
    sform: Affine | None
    qform: Affine | None
    pixdim: NDArray[np.float64]
    """Spacing along i, j, k in mm."""
    unit: bool
    """Whether the spacing has a unit of length."""

    @property
    def datatype(self) -> int:
        """The standard's number of the type of the voxels."""
        return int(self.fields["datatype"])

    @property
    def preferred(self) -> str:
        """Which of the two affines Slicer and ITK prefer: the qform, unless the sform says that it is the scanner's own."""
        if self.qform is None or (self.sform is not None and int(self.fields["sform_code"]) == 1):
            return "" if self.sform is None else "sform"
        return "qform"

    @property
    def bytes_needed(self) -> int:
        """How large the file with the voxels must be."""
        return int(max(self.fields["vox_offset"], 0)) + prod(self.shape) * int(self.fields.get_data_dtype().itemsize)


def read_nifti(path: Path, frame: int | None) -> Volume:
    """NIfTI-1 and -2, one file or a header and image pair.

    Two affines may stand in the header. Slicer's choice is kept; where the other one differs, a remark says so.

    :raises InputError: for complex voxels, a sheared affine, a file cut short, an affine at odds with the spacing.
    """
    header_path, data_path = nifti_pair(path)
    header = nifti_header(header_path)
    if header.datatype in NIFTI_COMPLEX:
        raise FileError(path, "the voxels are complex numbers", "write their magnitude to a new file and give that")
    affine, remarks = nifti_affine(path, header)
    require_bytes(path, data_path, header.bytes_needed)
    offset = float(header.fields["vox_offset"])
    if header_path == data_path and offset < int(header.fields["sizeof_hdr"]) + 4:
        fault = f"its voxels would begin within its header (vox_offset {offset:g})"
        raise FileError(path, fault, "export the file again")
    array, more = nifti_voxels(path, data_path, header, frame)
    volume = placed(path, array, affine, [*more, *remarks])
    if header.preferred:
        return volume
    flat = ("thickness",) if len(header.shape) < 3 else ()
    return assuming(unplaced(volume, spacing=header.unit), flat)


def nifti_affine(path: Path, header: NiftiHeader) -> tuple[Affine, list[str]]:
    """IJK-to-RAS in mm, and what is odd about it.

    :raises InputError: for a sheared affine, and one at odds with the spacing.
    """
    by_sform = header.preferred == "sform"
    affine, other = (header.sform, header.qform) if by_sform else (header.qform, header.sform)
    if affine is None:
        return np.diag([*header.pixdim, 1.0]), []
    of_one_space = by_sform or int(header.fields["sform_code"]) == int(header.fields["qform_code"])
    if header.sform is not None and of_one_space and shear(header.sform) > SHEAR_TOLERANCE:
        degrees = shear_degrees(header.sform)
        raise FileError(path, f"the affine is sheared by {degrees:.1f} degrees (a gantry tilt?)", UNSHEAR)
    sizes = (*header.shape, 1, 1)[:3]
    if by_sform and other is None:
        by_spacing = affine.copy()
        by_spacing[:3, :3] = directions(affine) * header.pixdim
        if usable(by_spacing) is None or not same_affine(by_spacing, affine, sizes, 0.01):
            remedy = "write the file again with one affine (in nibabel, img.set_qform(img.affine) and save)"
            raise FileError(path, "the spacing in the header contradicts its sform", remedy)
    if other is None or same_affine(affine, other, sizes, 0.01):
        return affine, []
    unused = "qform" if by_sform else "sform"
    return affine, [f"sform and qform of the header disagree; the {unused} was not used (nor is it by Slicer)"]


def nifti_voxels(path: Path, data_path: Path, header: NiftiHeader, frame: int | None) -> tuple[NDArray[Any], list[str]]:
    """(k, j, i[, channel]) of one frame, scaled as the header says, and what was chosen or left out.

    Scaled values are float32, or float64 where the file has more digits than that; colours are never scaled.

    :raises InputError: for a damaged file, lists of colours, and a frame that is needed or does not exist.
    """
    from nibabel.arrayproxy import ArrayProxy

    shape, fields = header.shape, header.fields
    remarks: list[str] = []
    vector = len(shape) == 5 and shape[4] > 1 and (shape[3] == 1 or int(fields["intent_code"]) in NIFTI_VECTORS)
    outer = shape[3:4] if vector else shape[3:]
    count = prod(outer)
    if vector and header.datatype in NIFTI_COLORS:
        raise FileError(path, "its voxels are lists of colours, which is not read", "write one volume for each")
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
        raise FileError(path, f"the file is damaged ({short_reason(error)})", "copy or download it again") from None
    if array.dtype.fields:
        array = np.stack([array[name] for name in "RGB"], -1)
        if header.datatype == 2304:
            remarks.append("the alpha channel was dropped")
    else:
        array = nifti_scaled(array, fields)
    parts = (-1,) if vector or header.datatype in NIFTI_COLORS else ()
    spatial = array.reshape((*(*shape, 1, 1)[:3], *parts))
    return np.swapaxes(spatial, 0, 2), remarks


def nifti_scaled(array: NDArray[Any], fields: Any) -> NDArray[Any]:
    """Slope and intercept applied; a slope of 0 or none means that the stored values stand."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    intercept = intercept if np.isfinite(intercept) else 0.0
    if not np.isfinite(slope) or slope == 0 or (slope, intercept) == (1, 0):
        return array
    digits = np.float64 if array.dtype.itemsize > 4 or array.dtype.str[1:] in ("i4", "u4") else np.float32
    return (array.astype(np.float64) * slope + intercept).astype(digits)


def nifti_pair(path: Path) -> tuple[Path, Path]:
    """The file that holds the header and the one that holds the voxels.

    :raises InputError: where one of a pair is missing.
    """
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
        raise FileError(path, f"{missing} is missing beside it", "a header and its image belong together")
    return header, data


def nifti_header(path: Path) -> NiftiHeader:
    """Read the header, after https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and nifti2.h.

    :raises InputError: when it is none, or an ANALYZE one, or makes no sense.
    """
    import nibabel

    raw = first_bytes(path, 540)
    kinds: dict[int, Any] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    length = next((n for n in kinds for order in "<>" if raw[:4] == struct.pack(order + "i", n)), None)
    if length is None or len(raw) < length:
        raise FileError(path, "this is no NIfTI file, or a damaged one", "copy or export it again")
    if length == 348 and raw[344:347] not in (b"n+1", b"ni1"):
        fault = "this is an ANALYZE file, which does not tell left from right"
        raise FileError(path, fault, "convert it to NIfTI knowing that")
    fields = kinds[length](raw[:length], check=False)
    rank, *sizes = map(int, fields["dim"])
    shape = tuple(sizes[:rank]) if 1 <= rank <= 7 else ()
    damaged = not shape or min(shape) < 1 or int(fields["datatype"]) not in NIFTI_TYPES + NIFTI_COMPLEX
    if damaged or not np.isfinite(float(fields["vox_offset"])):
        raise FileError(path, "the NIfTI header is damaged", "copy or export the file again")
    units = int(fields["xyzt_units"]) & 7
    unit = {1: 1000.0, 3: 0.001}.get(units, 1.0)  # metre, micrometre; anything else is taken as mm
    scale = np.array([[unit], [unit], [unit], [1.0]])
    with np.errstate(all="ignore"):  # a damaged header may hold anything
        pixdim = np.array(fields["pixdim"], float)
        sform = usable(scale * fields.get_sform()) if int(fields["sform_code"]) > 0 else None
        qform = usable(scale * quaternion_affine(fields, pixdim)) if int(fields["qform_code"]) > 0 else None
    return NiftiHeader(fields, shape, sform, qform, pixdim[1:4] * unit, units in (1, 2, 3))


def quaternion_affine(fields: Any, pixdim: NDArray[np.float64]) -> Affine:
    """IJK-to-RAS of a NIfTI qform: quaternion (a, b, c, d), offset and pixdim (its first entry is the handedness).

    nibabel refuses a first entry of 0 and a quaternion longer than 1, which the standard's own library takes.
    """
    b, c, d = (float(fields[f"quatern_{part}"]) for part in "bcd")
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
    affine[:3, 3] = [fields[f"qoffset_{axis}"] for axis in "xyz"]
    return affine
