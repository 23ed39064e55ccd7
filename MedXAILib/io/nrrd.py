"""NRRD: what its header says, before SimpleITK reads the voxels."""

from __future__ import annotations

import re
from itertools import product
from math import prod
from pathlib import Path

import numpy as np

from ..errors import FileError
from ..geometry.volume import Volume
from .guards import MOST_PACKED, data_files, first_bytes, require_memory
from .itk import read_itk
from .placing import assuming, placed, unplaced

NAMED_SPACES = {
    f"{name}{time}"
    for name, time in product(
        ("left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"),
        ("", "-time"),
    )
} | {"lpst", "rast", "last"}
"""NRRD spaces that lie in the patient."""
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
    """NRRD; one that names no space of the patient may lie anywhere, and a remark says so.

    :raises InputError: for a file that is cut short, cannot be read, or lies in the scanner's axes.
    """
    fields = nrrd_fields(path)
    require_nrrd_bytes(path, fields)
    space = fields.get("space", "").lower()
    if space.startswith("scanner-xyz"):
        fault = f"it lies in the scanner's axes ({space}), and the file does not say how the patient lay in it"
        raise FileError(path, fault, "write it in left-posterior-superior (in Slicer, load and save it)")
    require_range(path, fields)
    volume = read_itk(path, frame)
    if 0 < fields.get("space directions", "((()))").count("(") < 3:
        volume = assuming(volume, ("position", "orientation", "thickness"))
    name, units = nrrd_units(fields)
    if strange := [unit for unit in units if unit not in LENGTHS]:
        raise FileError(path, f"its {name} '{strange[0]}' are no length that is known", "write it again in mm")
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
        fault = f"the file is cut short ({size} bytes, and its header announces {needed})"
        raise FileError(path, fault, "copy or download it again")


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
    bounds = np.iinfo(name)
    if values.size and not bounds.min <= values.min() <= values.max() <= bounds.max:
        raise FileError(path, f"its values go from {values.min():g} to {values.max():g}, which {name} does not hold.")


def nrrd_header(path: Path) -> str:
    """The text before the first empty line."""
    head = first_bytes(path, 1 << 20).replace(b"\r\n", b"\n")
    return head.partition(b"\n\n")[0].decode("utf-8", "replace")


def nrrd_lines(path: Path) -> tuple[list[str], list[str]]:
    """The header's lines up to the one that names data files, and those after it, up to an empty one."""
    lines = nrrd_header(path).splitlines()
    at = next((n for n, line in enumerate(lines) if line.lower().replace(" ", "").startswith("datafile:")), len(lines))
    return lines[: at + 1], [line for line in lines[at + 1 :] if line.strip()]
