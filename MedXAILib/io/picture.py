"""PNG, JPEG and TIFF, by Pillow."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, InputError
from ..geometry.volume import GEOMETRY, Volume
from .guards import require_memory
from .placing import assuming, chosen_frame, placed
from .tiff import SAMPLES, as_stored, refuse_tiff

if TYPE_CHECKING:
    from PIL.Image import Image


def read_picture(path: Path, frame: int | None) -> Volume:
    """PNG, JPEG or TIFF as one slice: rows go to the back, columns to the left, 1 mm (nothing better is known). The pages of
    a TIFF are slices, or one of them is picked by ``frame``.

    :raises InputError: for a picture that cannot be read, and pages that make no volume.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                stacked = picture.format == "TIFF"
                count = getattr(picture, "n_frames", 1)
                arrays, changes = [], []
                pages: Sequence[int] = range(count if stacked or frame is not None else 1)
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
        fault = "the picture is damaged, too large, or of a kind that is not read (values of 64 bits)"
        raise FileError(path, fault, "save it again as PNG") from None
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        fault = f"its {len(arrays)} pages differ in size or kind and make no volume"
        raise FileError(path, fault, f"choose one, --frame 0 to --frame {len(arrays) - 1}")
    what = f"a stack of {len(arrays)} pictures" if len(arrays) > 1 else "a picture"
    remarks = [
        f"{what}: no spacing or place in the patient is known; what is written has pixels of 1 mm, which mean nothing",
        *changes,
    ]
    return assuming(placed(path, np.stack(arrays), np.diag([-1.0, -1.0, 1.0, 1.0]), remarks), GEOMETRY)


def page_of(picture: Image) -> tuple[NDArray[Any], list[str]]:
    """(row, column[, channel]) of the page that a PIL image is at, and what was changed."""
    from PIL import ImageOps

    changes = ["turned upright as its EXIF entry says"] if picture.getexif().get(0x0112, 1) != 1 else []
    if re.search(r"(RGB[AX]?|LA);16", str(getattr(picture, "tile", ""))):
        changes.append("its 16-bit colours became 8-bit")
    tags = dict(getattr(picture, "tag_v2", {}))
    if (more := tags.get(SAMPLES, 1) - len(picture.getbands())) > 0:
        changes.append(f"{more} further channels were left out")
    array, said = pixels(ImageOps.exif_transpose(picture))
    return as_stored(array, tags), [*said, *changes]


def pixels(picture: Image) -> tuple[NDArray[Any], list[str]]:
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
