"""One image or frame, and where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import FileError, legible
from ...geometry.affine import Affine
from ...geometry.volume import MAGNIFICATION
from .scan import checked, frame_count

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

T = TypeVar("T")

TIME_TAGS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "TriggerTime",
    "CardiacPhase",
    "ImageType",
    "FrameType",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
)
"""What may tell images at the same position apart, the most telling first."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One image or frame. ``position`` and ``orientation`` (row and column direction) are LPS mm, or None."""

    path: Path
    frame: int
    sop: str
    size: tuple[int, int]
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing: tuple[float, float] | None
    """Distance of rows, distance of columns."""
    at_detector: bool
    """Whether the spacing is that of a detector, behind the patient, and not the patient's."""
    thickness: float | None
    slope: float
    intercept: float
    unapplied: str = ""
    """The unit of real world values that the file gives beside those of slope and intercept; empty where there are none."""
    times: dict[str, float | str] = field(default_factory=dict)


def known(value: T | None) -> T:
    """A part of a plane's place, where planes without it have been refused or filled in."""
    if value is None:
        raise ValueError("a plane without its place")
    return value


MOSAIC_IMAGES = (0x0019, 0x100A)
"""Siemens' number of slices in one picture."""


def refuse_mosaic(path: Path, data: Dataset) -> None:
    """:raises InputError: for a picture in which the slices of a volume lie beside each other."""
    with checked(path):
        words = {str(word).upper() for word in data.get("ImageType") or ()}
        mosaic = "MOSAIC" in words or MOSAIC_IMAGES in data
    if mosaic:
        raise FileError(
            path,
            "this is a mosaic, with all slices of a volume beside each other in one picture",
            "convert the series with dcm2niix and give the NIfTI file",
        )


def planes_of(path: Path, data: Dataset) -> list[Plane]:
    """The planes of one file: one, or one for each frame with what the functional groups say about it."""
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = data.get("PerFrameFunctionalGroupsSequence") or []
    count = frame_count(path, data)
    if len(frames) != count:
        frames = [None] * count
    return [plane_of(path, data, [frames[n], shared], n) for n in range(count)]


def plane_of(path: Path, data: Dataset, groups: Sequence[Dataset | None], frame: int) -> Plane:
    """One frame of a file.

    :param groups: functional groups that speak of it, its own first; None where there are none.
    """

    def given(name: str, sequence: str) -> Any:
        """A value from the frame's own group, the shared one, or the data set itself."""
        for group in groups:
            item = (group.get(sequence) or [None])[0] if group is not None else None
            if item is not None and item.get(name) is not None:
                return item.get(name)
        return data.get(name)

    spacing = numbers(given("PixelSpacing", "PixelMeasuresSequence"), 2)
    detector = numbers(data.get("ImagerPixelSpacing"), 2)
    # the patient's own where the two differ, or a calibration is named (DICOM PS3.3, 10.7.1.3)
    same = spacing is not None and detector is not None and np.allclose(spacing, detector, rtol=1e-3)
    at_detector = spacing is None or (same and not data.get("PixelSpacingCalibrationType"))
    spacing = detector if spacing is None else spacing
    orientation = numbers(given("ImageOrientationPatient", "PlaneOrientationSequence"), 6)
    if orientation is not None and np.abs(np.linalg.norm(orientation.reshape(2, 3), axis=1) - 1).max() > 1e-3:
        orientation = None
    thickness = given("SpacingBetweenSlices", "PixelMeasuresSequence") or given(
        "SliceThickness", "PixelMeasuresSequence"
    )
    slope = number(given("RescaleSlope", "PixelValueTransformationSequence"), 1.0)
    intercept = number(given("RescaleIntercept", "PixelValueTransformationSequence"), 0.0)
    times = {tag: next((v for s in TIME_SEQUENCES if (v := given(tag, s)) is not None), None) for tag in TIME_TAGS}
    return Plane(
        path=path,
        frame=frame,
        sop=str(data.get("SOPInstanceUID", "")),
        size=(int(data.Rows), int(data.Columns)),
        position=numbers(given("ImagePositionPatient", "PlanePositionSequence"), 3),
        orientation=orientation,
        spacing=None if spacing is None or (spacing <= 0).any() else (spacing[0], spacing[1]),
        at_detector=bool(at_detector) and spacing is not None,
        thickness=abs(number(thickness, 0.0)) or None,
        slope=slope,
        intercept=intercept,
        unapplied=unapplied((*groups, data), slope, intercept),
        times={tag: comparable(value) for tag, value in times.items() if value is not None},
    )


TIME_SEQUENCES = (
    "FrameContentSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
)
"""Functional groups with the tags that tell images apart."""


def unapplied(groups: Iterable[Dataset | None], slope: float, intercept: float) -> str:
    """The unit of a mapping to real world values that says something else than slope and intercept (DICOM PS3.3,
    C.7.6.16.2.11); empty where there is none."""
    for item in (item for group in groups if group is not None for item in group.get(REAL_WORLD) or ()):
        factors = number(item.get("RealWorldValueSlope"), 0.0), number(item.get("RealWorldValueIntercept"), 0.0)
        if not np.allclose(factors, (slope, intercept), rtol=1e-6, atol=1e-9):
            unit = (item.get("MeasurementUnitsCodeSequence") or [{}])[0]
            return legible(" ".join(str(unit.get("CodeMeaning") or unit.get("CodeValue") or "").split())) or "no unit"
    return ""


REAL_WORLD = "RealWorldValueMappingSequence"


def numbers(value: Any, count: int) -> NDArray[np.float64] | None:
    """So many finite numbers, or None."""
    array = np.array(value, float) if value is not None else np.zeros(0)
    return array if array.shape == (count,) and np.isfinite(array).all() else None


def number(value: Any, otherwise: float) -> float:
    """A finite number, or another one."""
    return float(value) if value is not None and np.isfinite(float(value)) else otherwise


def comparable(value: Any) -> float | str:
    """A number where it is one, else text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def normal(plane: Plane) -> NDArray[np.float64]:
    """Row direction x column direction."""
    orientation = known(plane.orientation)
    return np.cross(orientation[:3], orientation[3:])


def along(first: Plane) -> Callable[[Plane], float]:
    """A function that gives a plane's place on the normal of ``first``, mm."""
    direction = normal(first)
    return lambda plane: float(direction @ known(plane.position))


def plane_affine(plane: Plane, step: NDArray[np.float64]) -> Affine:
    """IJK-to-LPS from one plane and the vector to the next (DICOM PS3.3 C.7.6.2.1.1)."""
    orientation, spacing = known(plane.orientation), known(plane.spacing)
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * spacing[1]
    affine[:3, 1] = orientation[3:] * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = plane.position
    return affine


def single_affine(plane: Plane, remarks: list[str]) -> tuple[Affine, tuple[str, ...]]:
    """IJK-to-LPS of one plane, and what of it is assumed, as the file lacks it; this is said, too."""
    lacking, assumed = [], []
    if plane.position is None or plane.orientation is None:
        assumed += ["position", "orientation"]
        lacking.append("place in the patient (rows go to the back, columns to the left)")
        plane = replace(plane, position=np.zeros(3), orientation=np.array([1.0, 0, 0, 0, 1, 0]))
    if plane.spacing is None:
        assumed.append("spacing")
        lacking.append("pixel spacing (1 mm)")
        plane = replace(plane, spacing=(1.0, 1.0))
    if plane.thickness is None:
        assumed.append("thickness")
        lacking.append("slice thickness (1 mm)")
    if plane.at_detector:
        assumed.append(MAGNIFICATION)
        remarks.append("the pixel spacing is the detector's; lengths in the patient are shorter")
    if lacking:
        remarks.append("the file lacks what is assumed here: " + ", ".join(lacking))
    return plane_affine(plane, normal(plane) * (plane.thickness or 1.0)), tuple(assumed)


def patient_letters(data: Dataset) -> str:
    """Where rows and columns run to by PatientOrientation, as ``RI`` for ``R\\F``: the first letter of each counts, and
    is the strongest (DICOM PS3.3, C.7.6.1.1.1). Empty where it is absent, makes no sense, or is an animal's."""
    ways = [str(way).strip().upper() for way in data.get("PatientOrientation") or ()]
    if data.get("AnatomicalOrientationType") == "QUADRUPED" or len(ways) != 2 or not all(ways):
        return ""
    letters = "".join({"H": "S", "F": "I"}.get(way[0], way[0]) for way in ways)
    axes = [next((n for n, axis in enumerate(("RL", "AP", "SI")) if letter in axis), None) for letter in letters]
    return letters if None not in axes and axes[0] != axes[1] else ""
