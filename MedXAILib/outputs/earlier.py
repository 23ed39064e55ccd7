"""Reading where an earlier run may have written: what it wrote is no input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..geometry.volume import Volume
from ..io import cohort, read
from ..io import describe as description
from .listing import listed


def read_volume(path: str | Path, *, frame: int | None = None, series: str | None = None) -> Volume:
    """Read an image file, a DICOM file or a folder of DICOM files.

    :param frame: which volume of a 4D file, of a DICOM series with several time points or of a TIFF with
        several pages; 0 is the first.
    :param series: which DICOM series of a folder: its UID, number or description.
    :returns: array (k, j, i[, channel]) in the file's own type, affine to RAS mm; ``source.remarks`` tells what was odd.
    :raises InputError: for whatever cannot be placed in the patient without guessing.
    """
    return read.read_volume(path, frame=frame, series=series, written=listed)


def find_cases(path: str | Path, message: Callable[[str], None] = lambda text: None) -> list[cohort.Case]:
    """As :func:`MedXAILib.io.cohort.find_cases`."""
    return cohort.find_cases(path, message, written=listed)


def describe(path: str | Path, series: str | None = None, frame: int | None = None) -> dict[str, Any]:
    """As :func:`MedXAILib.io.describe.describe`."""
    return description.describe(path, series=series, frame=frame, written=listed)
