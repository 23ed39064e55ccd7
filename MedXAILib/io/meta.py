"""MetaImage: what its header says, before SimpleITK reads the voxels."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..geometry.affine import LPS_RAS, Affine, same_affine
from ..geometry.volume import Volume
from .guards import data_files, first_bytes, inflated_size, require_memory
from .itk import read_itk
from .nrrd import LENGTHS
from .placing import assuming, placed, remark, unplaced, usable

META_BYTES = {"MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4}
META_BYTES |= {"MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8}
"""Bytes of a voxel by the name of its type."""


class MetaHeader(NamedTuple):
    """What a header says of its voxels."""

    fields: dict[str, str]
    sizes: list[int]
    """Voxels along each axis."""
    needed: int
    """Bytes of all voxels, unpacked."""
    where: str
    """Which file holds them: LOCAL, a name, a pattern or LIST."""
    start: int
    """Where they begin: in this file, or by the header's own account in another one."""
    listed: list[str]
    """The lines after that."""


def read_meta(path: Path, frame: int | None) -> Volume:
    """MetaImage. SimpleITK crashes where sizes and data of a damaged file do not fit, so they are compared before.

    :raises InputError: for a file that is cut short, contradicts itself, or cannot be read.
    """
    header = meta_header(path)
    fields = header.fields
    require_memory(path, header.needed)
    if fields.get("BinaryData", "true").lower() == "false":
        raise FileError(path, "its values are written as text, which is not read", "export it as binary")
    require_meta_bytes(path, header)
    volume = read_itk(path, frame)
    slope, offset = (
        fields.get(f"ElementToIntensityFunction{name}", other) for name, other in (("Slope", "1"), ("Offset", "0"))
    )
    if (slope, offset) != ("1", "0"):
        volume = remark(volume, f"its slope {slope} and offset {offset} were not applied (nor are they by Slicer)")
    affine = meta_affine(fields) if len(header.sizes) > 2 else volume.affine
    if affine is None or not same_affine(volume.affine, affine, volume.shape, 0.01):
        fault = "its spacing, offset and axes do not fit each other"
        raise FileError(path, fault, "mend the header or export it again")
    unit = LENGTHS.get(fields.get("DistanceUnits", "").lower(), 1.0)
    if unit != 1:
        affine = np.diag([unit, unit, unit, 1.0]) @ volume.affine
        volume = placed(path, volume.array, affine, [*volume.source.remarks, f"{fields['DistanceUnits']} became mm"])
    spaced = "ElementSpacing" in fields or "ElementSize" in fields
    axes = sorted(next((n for n, way in enumerate(WAYS) if letter in way), 3) for letter in fields.get(AXES, ""))
    if axes != list(range(min(len(header.sizes), 3))):
        return unplaced(volume, spacing=spaced)
    origin = any(name in fields for name in ("Offset", "Position", "Origin"))
    return assuming(volume, (*(() if origin else ("position",)), *(() if spaced else ("spacing", "thickness"))))


def meta_header(path: Path) -> MetaHeader:
    """:raises InputError: for a file whose header is none, or makes no sense."""
    head = first_bytes(path, 1 << 16)
    text, mark, rest = head.partition(b"ElementDataFile")
    name, _, _ = rest.partition(b"\n")
    lines = [line.partition("=") for line in text.decode("latin-1").split("\n") if line.strip()]
    fields = {key.strip(): value.strip() for key, _, value in lines}
    plain = all(mark for _, mark, _ in lines) and len(fields) == len(lines)  # else SimpleITK leaves entries out
    try:
        sizes = [int(size) for size in fields["DimSize"].split()]
        needed = prod(sizes) * int(fields.get("ElementNumberOfChannels", 1)) * META_BYTES[fields["ElementType"]]
        where = name.decode().strip(" =\r")
        for number in ("CompressedDataSize", "HeaderSize"):
            int(fields.get(number, 0))
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
        raise FileError(path, "this is no MetaImage file, or a damaged one", "copy or export it again")
    start = len(text) + len(mark) + len(name) + 1 if where == "LOCAL" else max(int(fields.get("HeaderSize", 0)), 0)
    return MetaHeader(fields, sizes, needed, where, start, meta_list(rest))


def require_meta_bytes(path: Path, header: MetaHeader) -> None:
    """:raises InputError: where the files with the voxels are other ones, or shorter, than the header says."""
    fields, where = header.fields, header.where
    files = [path] if where == "LOCAL" else data_files(path, where, header.listed)
    if where == "LOCAL":
        skipped = int(fields.get("HeaderSize", 0))
        if skipped not in (0, -1, header.start):
            fault = f"its HeaderSize {skipped} does not lie where its header ends"
            raise FileError(path, fault, "export it again")
    else:
        dimensions = meta_dimensions(path, where, len(header.sizes))
        if len(files) > 1 or where.startswith("LIST"):
            require_count(path, len(files), prod(header.sizes[dimensions:]))
    zipped = fields.get("CompressedData", "")[:1] in ("T", "t", "1")
    for file in files if not zipped or len(files) == 1 else ():
        size = file.stat().st_size - header.start
        if zipped:
            # without its length, ITK makes numbers up
            packed = int(fields.get("CompressedDataSize", 0)) or (0 if where == "LOCAL" else size)
            size = inflated_size(file, header.start, packed, header.needed) if packed <= size else 0
        if size < header.needed // len(files):
            what = "the file" if file == path else f"its data file {file.name}"
            raise FileError(path, f"{what} is cut short or damaged", "copy or download it again")


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
        raise FileError(path, f"its list of data files '{where[:80]}' is none that is read", "write one file")
    return dimensions


def meta_list(rest: bytes) -> list[str]:
    """The lines below the one that names the data files."""
    return [line.strip() for line in rest.decode("utf-8", "replace").split("\n")[1:] if line.strip()]


def require_count(path: Path, found: int, needed: int) -> None:
    """:raises InputError: for more or fewer data files than the header announces."""
    if found != needed:
        raise FileError(path, f"its header names {found} data files, and {needed} are needed", "export it again")


def meta_affine(fields: dict[str, str]) -> Affine | None:
    """IJK-to-RAS of a MetaImage header as it is written; None where it makes no sense. What is not written is 1 mm, at 0."""

    def numbers(otherwise: str, *names: str) -> NDArray[Any]:
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
