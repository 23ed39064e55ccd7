"""What a TIFF says of its pages and pixels."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError

BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, ORIENTATION, SAMPLES = 258, 259, 262, 270, 274, 277
PLANES, FORMAT, DEPTH = 284, 339, 32997
"""Tags of TIFF: bits of a value, whether packed (not 1), whether white is 0, text, how the picture is turned, values of a
pixel, whether they lie in planes of their own (2), whether they are unsigned (1) or signed (2), and slices of a page."""


def refuse_tiff(path: Path, picture: Any, alone: bool) -> None:
    """:param alone: whether one page is asked for.
    :raises InputError: for pages that are cut off, that are no slices of one volume, or that PIL reads wrongly.
    """
    tags, count = picture.tag_v2, picture.n_frames
    if not whole_chain(path):
        raise FileError(path, "the file is cut short: pages are missing at its end", "copy or download it again")
    if tags.get(DEPTH, 1) > 1:
        fault = "its pages hold several slices each (ImageDepth), which is not read"
        raise FileError(path, fault, "write a page for each")
    if tags.get(PLANES) == 2 and max(np.atleast_1d(tags.get(BITS, 1))) > 8:
        fault = "its colours of 16 bits lie in planes of their own, which is not read"
        raise FileError(path, fault, "save it again as PNG")
    if tags.get(ORIENTATION, 1) > 4 and tags.get(COMPRESSION, 1) == 1 and picture.mode.startswith(("L", "I;16")):
        fault = f"it is stored lying on its side (Orientation {tags[ORIENTATION]}), which is not read"
        raise FileError(path, fault, "save it upright")
    images, channels, times = tiff_axes(str(tags.get(DESCRIPTION, "")), tags.get(SAMPLES, 1))
    if images > count or '"truncated": true' in str(tags.get(DESCRIPTION, "")):
        raise FileError(path, f"it announces more pages than it has ({count})", "save it again as a plain stack")
    if count > 1 and channels * times > 1 and not alone:
        fault = f"its {count} pages are of {channels} channels and {times} time points"
        remedy = f"choose a page, --frame 0 to --frame {count - 1}, or save one channel and time as a stack"
        raise FileError(path, fault, remedy)


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


def as_stored(array: NDArray[Any], tags: dict[int, Any]) -> NDArray[Any]:
    """Grey values of a TIFF as they are meant: PIL takes signed bytes for unsigned ones, 32 unsigned bits for signed ones,
    and leaves black and white as they are in 16 bits."""
    bits, kind = (tuple(np.atleast_1d(tags.get(tag, 1))) for tag in (BITS, FORMAT))
    if array.ndim == 2 and (bits, kind) == ((8,), (2,)) and array.dtype == np.uint8:
        return array.view(np.int8)
    if array.ndim == 2 and (bits, kind) == ((32,), (1,)) and array.dtype == np.int32:
        return array.view(np.uint32)
    if array.dtype == np.uint16 and tags.get(PHOTOMETRIC) == 0:
        return 65535 - array
    return array
