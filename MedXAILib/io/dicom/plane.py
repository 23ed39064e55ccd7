"""One image or frame, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...geometry.volume import MAGNIFICATION
from .scan import checked, frame_count

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


@dataclass(frozen=True)
class Plane:
    """One image or frame. ``position`` and ``orientation`` (row and column direction) are LPS mm, or None."""

    path: Path
    frame: int
    sop: str
    size: tuple[int, int]
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: tuple[float, float] | None
    """Distance of rows, distance of columns."""
    at_detector: bool
    """Whether the spacing is that of a detector, behind the patient, and not the patient's."""
    thickness: float | None
    slope: float
    intercept: float
    times: dict = field(default_factory=dict)


MOSAIC_IMAGES = (0x0019, 0x100A)
"""Siemens' number of slices in one picture."""


def refuse_mosaic(path: Path, data) -> None:
    """:raises InputError: for a picture in which the slices of a volume lie beside each other."""
    with checked(path):
        words = {str(word).upper() for word in data.get("ImageType") or ()}
        mosaic = "MOSAIC" in words or MOSAIC_IMAGES in data
    if mosaic:
        raise InputError(
            f"{path}: this is a mosaic, with all slices of a volume beside each other in one picture; convert the series with "
            "dcm2niix and give the NIfTI file."
        )


def planes_of(path: Path, data) -> list[Plane]:
    """The planes of one file: one, or one for each frame with what the functional groups say about it."""
    shared = (data.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = data.get("PerFrameFunctionalGroupsSequence") or []
    count = frame_count(path, data)
    if len(frames) != count:
        frames = [None] * count
    return [plane_of(path, data, [frames[n], shared], n) for n in range(count)]


def plane_of(path: Path, data, groups: list, frame: int) -> Plane:
    def look(name: str, sequence: str):
        """A value from the frame's own group, the shared one, or the data set itself."""
        for group in groups:
            item = (group.get(sequence) or [None])[0] if group is not None else None
            if item is not None and item.get(name) is not None:
                return item.get(name)
        return data.get(name)

    def numbers(value, count: int) -> np.ndarray | None:
        array = np.array(value, float) if value is not None else np.zeros(0)
        return array if array.shape == (count,) and np.isfinite(array).all() else None

    def number(value, otherwise: float | None) -> float | None:
        return float(value) if value is not None and np.isfinite(float(value)) else otherwise

    spacing = numbers(look("PixelSpacing", "PixelMeasuresSequence"), 2)
    detector = numbers(data.get("ImagerPixelSpacing"), 2)
    # the patient's own where the two differ, or a calibration is named (DICOM PS3.3, 10.7.1.3)
    same = spacing is not None and detector is not None and np.allclose(spacing, detector, rtol=1e-3)
    at_detector = spacing is None or (same and not data.get("PixelSpacingCalibrationType"))
    spacing = detector if spacing is None else spacing
    orientation = numbers(look("ImageOrientationPatient", "PlaneOrientationSequence"), 6)
    if orientation is not None and np.abs(np.linalg.norm(orientation.reshape(2, 3), axis=1) - 1).max() > 1e-3:
        orientation = None
    thickness = look("SpacingBetweenSlices", "PixelMeasuresSequence") or look("SliceThickness", "PixelMeasuresSequence")
    sequences = ("FrameContentSequence", "MREchoSequence", "MRDiffusionSequence", "MRImageFrameTypeSequence")
    sequences += ("CTImageFrameTypeSequence",)
    times = {tag: next((v for s in sequences if (v := look(tag, s)) is not None), None) for tag in TIME_TAGS}
    return Plane(
        path=path,
        frame=frame,
        sop=str(data.get("SOPInstanceUID", "")),
        size=(int(data.Rows), int(data.Columns)),
        position=numbers(look("ImagePositionPatient", "PlanePositionSequence"), 3),
        orientation=orientation,
        spacing=None if spacing is None or (spacing <= 0).any() else tuple(spacing),
        at_detector=at_detector and spacing is not None,
        thickness=abs(number(thickness, 0.0)) or None,
        slope=number(look("RescaleSlope", "PixelValueTransformationSequence"), 1.0),
        intercept=number(look("RescaleIntercept", "PixelValueTransformationSequence"), 0.0),
        times={tag: comparable(value) for tag, value in times.items() if value is not None},
    )


def comparable(value):
    """A number where it is one, else text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def normal(plane: Plane) -> np.ndarray:
    """Row direction x column direction."""
    return np.cross(plane.orientation[:3], plane.orientation[3:])


def along(first: Plane):
    """A function that gives a plane's place on the normal of ``first``, mm."""
    direction = normal(first)
    return lambda plane: float(direction @ plane.position)


def plane_affine(plane: Plane, step: np.ndarray) -> np.ndarray:
    """IJK-to-LPS from one plane and the vector to the next (DICOM PS3.3 C.7.6.2.1.1)."""
    affine = np.eye(4)
    affine[:3, 0] = plane.orientation[:3] * plane.spacing[1]
    affine[:3, 1] = plane.orientation[3:] * plane.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = plane.position
    return affine


def single_affine(plane: Plane, remarks: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
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


def patient_letters(data) -> str:
    """Where rows and columns run to by PatientOrientation, as ``RI`` for ``R\\F``: the first letter of each counts, and
    is the strongest (DICOM PS3.3, C.7.6.1.1.1). Empty where it is absent, makes no sense, or is an animal's."""
    ways = [str(way).strip().upper() for way in data.get("PatientOrientation") or ()]
    if data.get("AnatomicalOrientationType") == "QUADRUPED" or len(ways) != 2 or not all(ways):
        return ""
    letters = "".join({"H": "S", "F": "I"}.get(way[0], way[0]) for way in ways)
    axes = [next((n for n, axis in enumerate(("RL", "AP", "SI")) if letter in axis), None) for letter in letters]
    return letters if None not in axes and axes[0] != axes[1] else ""
