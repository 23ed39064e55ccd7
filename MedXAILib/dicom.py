"""DICOM to Volume: classic series, enhanced multi-frame files, single pictures.

Every image of a classic series and every frame of a multi-frame file becomes a :class:`Plane`; :func:`stack` puts
planes in order and refuses what is no regular stack.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .errors import InputError, legible
from .geometry.affine import LPS_RAS, SHEAR_TOLERANCE, apply, implausible, shear
from .geometry.volume import MAGNIFICATION, Source, Volume

POSITION_TOLERANCE_MM = 0.05
POSITION_TOLERANCE = 0.02
"""How far a plane may lie from its place in a regular stack: 0.05 mm, or this share of the slice distance if that is more.

Scanners round positions to some hundredths of a millimetre; a missing slice puts others off by half a distance at least.
"""
CT_AIR = -1024
INVERTED = "MONOCHROME1 was inverted: bright is high now"
LEFT_DARK = "MONOCHROME1: low values are meant to be bright; they have a unit and were kept"
UNSHEAR = (
    "resample it with the tilt correction of dcm2niix or Slicer (DICOM module, 'Acquisition geometry regularization')"
)
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
UNCOMPRESSED = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",
}
"""Transfer syntaxes that pydicom decodes itself: implicit, explicit, deflated, big endian, RLE."""


@dataclass(frozen=True)
class Series:
    """The images of one series in a folder, or in one file. ``slices`` counts frames."""

    uid: str
    number: int | None
    description: str
    modality: str
    slices: int
    files: tuple[Path, ...]

    def row(self) -> dict:
        """Plain values, without files."""
        return {
            "number": self.number,
            "description": self.description,
            "modality": self.modality,
            "slices": self.slices,
            "uid": self.uid,
        }

    def __str__(self) -> str:
        number = f"number {self.number}, " if self.number is not None else ""
        return f"'{self.description}' ({number}{self.modality or 'no modality'}, {self.slices} slices)"


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


# What lies in a folder -----------------------------------------------------------------------------------------------


def files_below(folder: Path) -> list[Path]:
    """Everything in a folder and, links followed, in those below it that is no folder, sorted; also pipes, and links that
    lead nowhere.

    :raises InputError: for a folder that may not be read.
    """

    def fail(error: OSError) -> None:
        raise InputError(
            f"{legible(str(error.filename))}: this folder cannot be read ({error.strerror}); change its permissions, or move it out."
        )

    found = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        above = Path(os.path.abspath(place)).parents
        if os.path.islink(place) and any(os.path.samefile(place, up) for up in above):
            folders.clear()  # it leads round in a circle
            continue
        found += [Path(place, name) for name in names]
    return sorted(found)


def refuse_lost(path: Path) -> None:
    """:raises InputError: for a link that leads nowhere, as those of git-annex do before the file is fetched."""
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{legible(str(path))}: this is a link that leads nowhere; get the file that it stands for (git-annex: git annex get), or "
            "remove the link."
        )


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: 'DICM' after 128 bytes, or, without it, a SOP Class UID where a data set begins."""
    path = Path(path)
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    if head[128:132] == b"DICM":
        return True
    if head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08") or len(head) < 132:
        return False
    try:
        return bool(header(path).get("SOPClassUID"))
    except InputError:
        return False


def header(path: Path):
    """The data set of a file without its pixels.

    :raises InputError: for whatever pydicom cannot make sense of.
    """
    import pydicom

    with checked(path):
        return pydicom.dcmread(path, stop_before_pixels=True, force=True, defer_size=1 << 16)


@contextmanager
def checked(path: Path) -> Iterator[None]:
    """Turn what pydicom throws at damaged files, which may be any exception, into a sentence."""
    import logging
    import warnings

    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        raise InputError(
            f"{path}: the DICOM file is damaged ({type(error).__name__}); export or copy it again, or take it out of the folder."
        ) from None
    finally:
        logger.setLevel(level)


def list_series(path: str | Path) -> list[Series]:
    """The image series of a folder (recursively) or of one file, by number.

    :raises InputError: where there is no image, naming what else was found.
    """
    return list(scan(Path(path))[0])


SUFFIXES = (".dcm", ".ima", ".dicom", ".dcm.gz", ".ima.gz")
"""What names of DICOM files end in, where it tells anything."""


def scan(path: Path) -> tuple[dict[Series, dict], set[str]]:
    """The series below a path, by number, each with the headers of its files; and the names of other objects there."""
    files = [path]
    if path.is_dir():
        there = files_below(path)
        files = [file for file in there if is_dicom(file)]
        images = set(files)
        for file in there if files else ():
            refuse_lost(file)
            if file.name.lower().endswith(SUFFIXES) and file not in images:
                raise InputError(
                    f"{legible(str(file))}: this is no DICOM file, or one that is empty, cut short or packed; copy it again, or move it out."
                )
    found: dict[str, dict] = {}
    others = set()
    for file in files:
        data = header(file)
        with checked(file):
            other = not_an_image(data)
            if other and "SOPClassUID" not in data and file.name.lower().endswith(SUFFIXES):
                raise ValueError("it does not say what it is: it is cut short")
            if other:
                others.add(other)
            else:
                found.setdefault(str(data.get("SeriesInstanceUID", "")), {})[file] = data
    if not found:
        raise InputError(nothing_to_read(path, others))
    series = [(describe_series(uid, headers), headers) for uid, headers in found.items()]
    series.sort(key=lambda one: (one[0].number is None, one[0].number or 0, one[0].uid))
    return dict(series), others


def not_an_image(data) -> str:
    """The name of what a data set is, if it is no image that can be read as a volume; else an empty string."""
    from pydicom.uid import UID

    uid = UID(str(data.get("SOPClassUID", "")))
    name = uid.name if uid.name != uid else "object of an unknown kind"
    if "Image Storage" in name and not data.get("Rows"):
        raise ValueError("an image without its size: it is cut short")
    special = ("Segmentation", "Dose", "Parametric Map", "Surface", "Whole Slide", "Video", "Softcopy")
    if any(word in name for word in special) or not (data.get("Rows") and data.get("Columns")):
        return name.removesuffix(" Storage")
    return ""


def nothing_to_read(path: Path, others: set[str]) -> str:
    """The sentence for a path without an image series, from what it holds instead."""
    names = ", ".join(sorted(others))
    if not others:
        return f"{path}: there is no DICOM image in it; give an image file or a folder with a DICOM series."
    if "Segmentation" in names:
        return (
            f"{path}: this is no image but a DICOM segmentation; give the series that it was drawn on, "
            "and convert the segmentation itself to .seg.nrrd with Slicer or dcmqi."
        )
    return f"{path}: this is no image that can be read ({names}); give the series of images that belongs to it."


def describe_series(uid: str, headers: dict) -> Series:
    path, first = next(iter(headers.items()))
    with checked(path):
        number = first.get("SeriesNumber")
        return Series(
            uid=uid,
            number=None if number is None else int(number),
            description=" ".join(str(first.get("SeriesDescription") or "").split()),
            modality=" ".join(str(first.get("Modality") or "").split()),
            slices=sum(frame_count(file, data) for file, data in headers.items()),
            files=tuple(headers),
        )


def frame_count(path: Path, data) -> int:
    """NumberOfFrames, 1 where there is none.

    :raises ValueError: for more frames than the file has bytes, before anything is made for each of them.
    """
    count = int(data.get("NumberOfFrames") or 1)
    if not 0 < count <= path.stat().st_size:
        raise ValueError("NumberOfFrames")
    return count


def refuse_mixed(path: Path, headers: Iterable) -> None:
    """:raises InputError: for images that bear one series' UID and are of several patients, or lie in several places."""
    for name, words in {
        "PatientID": "patients",
        "StudyInstanceUID": "studies",
        "FrameOfReferenceUID": "frames of reference",
    }.items():
        known = {str(data.get(name) or "").strip() for data in headers} - {""}
        if len(known) > 1:
            raise InputError(
                f"{path}: images of {len(known)} {words} bear the same SeriesInstanceUID; put each into a folder of its own, and give one."
            )


def choose_series(path: Path, found: list[Series], wanted: str | None) -> Series:
    """:raises InputError: listing the series, when ``wanted`` names none or several of them."""
    if wanted is None:
        matching, what = found, f"there are {len(found)} series"
    else:
        matching = [
            one for one in found if wanted.strip().lower() in (one.uid, str(one.number), one.description.lower())
        ]
        what = f"'{wanted}' names {len(matching)} series"
    if len(matching) == 1:
        return matching[0]
    listing = "; ".join(str(one) for one in found)
    raise InputError(f"{path}: {what}; choose one by --series with its UID, number or description: {listing}.")


# A series to a volume ------------------------------------------------------------------------------------------------


def read_series(path: str | Path, *, series: str | None = None, frame: int | None = None) -> Volume:
    """Read one series as a volume whose slices are sorted along row x column.

    Stored values are rescaled slice by slice; whole results become the smallest integer type, others float32.
    CT padding below -1024 (the scanner's -3024 outside its field) becomes -1024, as it would spoil every percentile.
    Values of MONOCHROME1 images without a unit are inverted, so that bright is dense. Overlays are ignored.

    :param series: UID, number or description, where a folder holds several.
    :param frame: which time point (echo, b value, ...) of a series that has several images at each position, or which frame
        of a multi-frame file without geometry; 0 is the first.
    :returns: ``source.series`` has the study, series and frame_of_reference UIDs, the modality, and for each slice in the
        array's order its ``sop`` UID and ``frame`` in that file, from 1 as DICOM counts.
    :raises InputError: for several series or time points without a choice; for mixed sizes, orientations or spacings,
        unequal slice distances, sheared stacks and missing geometry.
    """
    path = Path(path)
    found, others = scan(path)
    chosen = choose_series(path, list(found), series)
    headers = found[chosen]
    refuse_mixed(path, headers.values())
    remarks = [f"also there, and not read: {', '.join(sorted(others))}"] if others else []
    planes = []
    for file, data in headers.items():
        refuse_mosaic(file, data)
        with checked(file):
            planes += planes_of(file, data)
    planes = one_volume(path, without_copies(planes, remarks), frame, remarks)
    assumed: tuple[str, ...] = ()
    if len(planes) > 1:
        affine = stack(path, planes)
    else:
        affine, assumed = single_affine(planes[0], remarks)
        if path.is_file() and planes[0].position is not None:
            remarks.append("one slice of a series; give its folder to read the whole")
    array = voxels(planes, chosen.modality, remarks)
    with checked(path):
        first = headers[planes[0].path]
        uids = {
            "study": str(first.get("StudyInstanceUID", "")),
            "series": chosen.uid,
            "frame_of_reference": str(first.get("FrameOfReferenceUID", "")),
            "sop": [plane.sop for plane in planes],
            "frame": [plane.frame + 1 for plane in planes],
            "modality": chosen.modality,
        }
    try:
        letters = patient_letters(first) if "orientation" in assumed else ""
        source = Source(legible(path.resolve().name), "dicom", uids, tuple(remarks), assumed, letters)
        volume = Volume(array, LPS_RAS @ affine, source)
    except ValueError as error:
        raise InputError(f"{path}: its geometry makes no sense ({error}); export the series again.") from None
    if fault := implausible(volume.affine):
        raise InputError(f"{path}: its headers give {fault}, which cannot be; export the series again.")
    return volume


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


def without_copies(planes: list[Plane], remarks: list[str]) -> list[Plane]:
    """One plane for each SOP instance and frame, as the same image may lie in a folder twice; images at different places are no
    copies, whatever their instances are called."""

    def where(plane: Plane) -> tuple:
        return () if plane.position is None else tuple(np.round(plane.position, 6))

    unique: dict[tuple, Plane] = {}
    kept = []
    for plane in planes:
        first = unique.setdefault((plane.sop or str(plane.path), plane.frame, where(plane)), plane)
        if first is plane or with_pixels(first.path).get("PixelData") != with_pixels(plane.path).get("PixelData"):
            kept.append(plane)
    if len(kept) < len(planes):
        remarks.append(f"{len(planes) - len(kept)} images were there twice; the copies were left out")
    return kept


def one_volume(path: Path, planes: list[Plane], frame: int | None, remarks: list[str]) -> list[Plane]:
    """The planes of one volume in order: all of them, or those that ``frame`` picks.

    :raises InputError: where a choice is needed, or does not exist.
    """
    if all(plane.position is not None and plane.orientation is not None for plane in planes):
        volumes, by = time_points(path, in_order(path, planes))
        question = f"the series has {len(volumes)} images at each position{by}; choose one of these volumes,"
    else:
        volumes, by = [[plane] for plane in planes], ""
        question = (
            f"its {len(planes)} images do not say where in the patient they lie, so they make no volume; export it with "
            "its geometry, or read one frame as a picture,"
        )
    if frame is None and len(volumes) > 1:
        raise InputError(f"{path}: {question} --frame 0 to --frame {len(volumes) - 1}.")
    if not 0 <= (frame or 0) < len(volumes):
        raise InputError(f"{path}: there is no frame {frame}; it must be below {len(volumes)}.")
    if len(volumes) > 1:
        remarks.append(f"frame {frame} of {len(volumes)}{by}")
    return volumes[frame or 0]


def in_order(path: Path, planes: list[Plane]) -> list[Plane]:
    """The planes sorted along row x column of the first one.

    :raises InputError: where they differ in size, orientation or pixel spacing.
    """
    if len(planes) == 1:
        return planes
    first = planes[0]
    if len({plane.size for plane in planes}) > 1:
        sizes = ", ".join(sorted({f"{columns}x{rows}" for rows, columns in (plane.size for plane in planes)}))
        raise InputError(f"{path}: the images of the series have several sizes ({sizes}); move the odd ones away.")
    if any(plane.spacing is None for plane in planes):
        raise InputError(f"{path}: images of the series have no PixelSpacing; export the series again with it.")
    if any(np.abs(plane.orientation - first.orientation).max() > SHEAR_TOLERANCE for plane in planes):
        raise InputError(
            f"{path}: the images of the series lie in different directions (a localizer among them?); "
            "keep one direction in the folder."
        )
    if any(np.abs(np.divide(plane.spacing, first.spacing) - 1).max() > 1e-3 for plane in planes):
        raise InputError(f"{path}: the images of the series differ in pixel spacing; keep those of one spacing.")
    return sorted(planes, key=along(first))


def normal(plane: Plane) -> np.ndarray:
    """Row direction x column direction."""
    return np.cross(plane.orientation[:3], plane.orientation[3:])


def along(first: Plane):
    """A function that gives a plane's place on the normal of ``first``, mm."""
    direction = normal(first)
    return lambda plane: float(direction @ plane.position)


def time_points(path: Path, planes: list[Plane]) -> tuple[list[list[Plane]], str]:
    """The volumes that sorted planes make, one plane of each position in every one, and what they differ in.

    :raises InputError: where positions have unequal numbers of images.
    """
    place = along(planes[0])
    gaps = np.diff([place(plane) for plane in planes])
    moved = gaps[gaps > 1e-3]
    same = 0.05 * np.median(moved) if moved.size else np.inf
    groups = [[planes[0]]]
    for plane, gap in zip(planes[1:], gaps, strict=True):
        if gap < same:
            groups[-1].append(plane)
        else:
            groups.append([plane])
    count = len(groups[0])
    if any(len(group) != count for group in groups):
        raise InputError(
            f"{path}: the {len(planes)} images lie at {len(groups)} positions, some of which have more images than "
            "others; keep one image for each position."
        )
    tag = next((tag for tag in TIME_TAGS if all(len({p.times.get(tag) for p in g}) == count for g in groups)), None)
    if count == 1 or tag is None:
        return [list(volume) for volume in zip(*groups, strict=True)], ""
    groups = [sorted(group, key=lambda plane: sortable(plane.times.get(tag))) for group in groups]
    return [list(volume) for volume in zip(*groups, strict=True)], f" that differ in {tag}"


def sortable(value) -> tuple:
    return (0, value, "") if isinstance(value, float) else (1, 0.0, str(value))


def stack(path: Path, planes: list[Plane]) -> np.ndarray:
    """IJK-to-LPS of sorted planes: every plane must lie where the affine of a regular stack puts it.

    :raises InputError: where the distances are unequal or the stack is sheared.
    """
    first, last = planes[0], planes[-1]
    count = len(planes) - 1
    place = along(first)
    gaps = np.diff([place(plane) for plane in planes])
    usual = float(np.median(gaps))
    affine = plane_affine(first, (last.position - first.position) / count)
    if shear(affine) > SHEAR_TOLERANCE:  # rounded positions of a short stack, or a tilt, which shows below
        affine = plane_affine(first, normal(first) * (place(last) - place(first)) / count)
    expected = apply(affine, [(0, 0, k) for k in range(count + 1)])
    misplaced = np.linalg.norm(expected - [plane.position for plane in planes], axis=1).max()
    tolerance = max(POSITION_TOLERANCE_MM, POSITION_TOLERANCE * usual)
    if misplaced <= tolerance:
        return affine
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > tolerance:
        one, other = planes[worst], planes[worst + 1]
        names = (f"frame {p.frame + 1}" if one.path == other.path else p.path.name for p in (one, other))
        raise InputError(
            f"{path}: the slices are not equally spaced: {' and '.join(names)} are "
            f"{gaps[worst]:.2f} mm apart, others {usual:.2f} mm; add the missing slices, or resample the series with "
            "Slicer (DICOM module, 'Acquisition geometry regularization')."
        )
    degrees = np.degrees(np.arctan2(misplaced, place(last) - place(first)))
    raise InputError(f"{path}: the slices are stacked askew by {degrees:.1f} degrees (gantry tilt?); {UNSHEAR}.")


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


# Pixels --------------------------------------------------------------------------------------------------------------


def voxels(planes: list[Plane], modality: str, remarks: list[str]) -> np.ndarray:
    """(k, j, i[, channel]) of the planes: decoded, rescaled, padding replaced; a file is opened once."""
    rows, columns = planes[0].size
    require_memory(planes[0].path, rows * columns * len(planes) * 2)
    rescaled = any((plane.slope, plane.intercept) != (1.0, 0.0) for plane in planes)
    whole = all(plane.slope.is_integer() and plane.intercept.is_integer() for plane in planes)
    files: dict[Path, list[int]] = {}
    for k, plane in enumerate(planes):
        files.setdefault(plane.path, []).append(k)
    slices, padded, said = [np.empty(0)] * len(planes), 0, set()
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
                    padded += np.count_nonzero(outside)
                slices[k] = values
    if len({one.shape for one in slices}) > 1:
        raise InputError(f"{planes[0].path.parent}: some images of the series are grey and some RGB; keep one kind.")
    remarks += sorted(said)
    if padded:
        remarks.append(f"padding outside the scanner's field became {CT_AIR} HU in {padded} voxels")
    array = np.stack(slices)
    fits = array.dtype == np.int32 and rescaled and array.min() >= -(2**15) and array.max() < 2**15
    return array.astype(np.int16) if fits else array


def rescale(stored: np.ndarray, plane: Plane, data, whole: bool) -> np.ndarray:
    """Stored values x slope + intercept: int32 (float64 where that is too small) for ``whole`` results, else float32."""
    values = stored.astype(np.float64) * plane.slope + plane.intercept
    if whole and np.abs(values).max(initial=0) < 2**31:
        return values.astype(np.int32) if data.BitsAllocated <= 16 else values
    return values.astype(np.float32)


def refuse_shifted(path: Path, data) -> None:
    """:raises InputError: where the values do not begin with the lowest bit, as they must (DICOM PS3.5, 8.1.1)."""
    with checked(path):
        stored = int(data.get("BitsStored", 0))
        high = int(data.get("HighBit", stored - 1))
    if high != stored - 1:
        raise InputError(
            f"{path}: its HighBit {high} does not fit its {stored} BitsStored, so its values could be read in two ways; export it again."
        )


def looked_up(stored: np.ndarray, data) -> np.ndarray:
    """Stored values through the Modality LUT (DICOM PS3.3, C.11.1)."""
    from pydicom.pixels import apply_modality_lut

    return np.asarray(apply_modality_lut(stored, data))


def has_unit(data, modality: str) -> bool:
    """Whether values are measurements, whose order means something: HU of a CT, activity of a PET, or a named unit."""
    tables = data.get("ModalityLUTSequence") or [data]
    named = str(tables[0].get("ModalityLUTType") or data.get("RescaleType") or "US").strip().upper()
    return modality in ("CT", "PT") or named not in ("US", "")


def with_pixels(path: Path):
    """The whole data set, with the transfer syntax filled in where a file has none."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with checked(path):
        data = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in data.file_meta:
            implicit = data.original_encoding[0]
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return data


def decoded(data, frames: list[int]) -> Iterator[np.ndarray]:
    """Stored values of these frames, (row, column) or (row, column, 3) as RGB; palettes are applied."""
    try:
        from pydicom.pixels import apply_color_lut, pixel_array
    except ImportError:  # Slicer 5.10 brings pydicom 2.4, and nothing that Slicer brings is replaced
        raise InputError(
            "This pydicom is too old to read DICOM pixels (3.0 or later is needed): in Slicer 5.10 load the series in Slicer "
            "itself and save it as NRRD; elsewhere run pip install -U pydicom."
        ) from None

    every = None if data.file_meta.TransferSyntaxUID in UNCOMPRESSED else decompressed(data)
    for frame in frames:
        stored = pixel_array(data, index=frame) if every is None else every[frame]
        if data.PhotometricInterpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, data)
            if stored.dtype == np.uint16:
                stored = (stored >> 8).astype(np.uint8)
        yield stored[..., :3] if stored.ndim == 3 else stored


def decompressed(data) -> np.ndarray:
    """All frames of a compressed file, (frame, row, column[, channel]).

    GDCM has the codecs but also applies rescaling in ways of its own: it gets a copy with nothing in it but the pixels.
    """
    import tempfile

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
            f"The temporary folder {place} cannot be written ({error.strerror or error}), and compressed DICOM is unpacked there: make "
            "room, or set TMPDIR to another folder."
        ) from None


def inverted(values: np.ndarray, data) -> np.ndarray:
    """Values mirrored within the range that their bits allow."""
    if table := data.get("ModalityLUTSequence"):
        bits, signed = int(table[0].LUTDescriptor[2]), False
    else:
        bits, signed = int(data.BitsStored), data.PixelRepresentation == 1
    ends = -1 if signed else (1 << bits) - 1  # lowest + highest value
    return (ends - values.astype(np.int64)).astype(values.dtype)


def padding(stored: np.ndarray, data) -> np.ndarray:
    """Where the stored value is PixelPaddingValue, or between it and PixelPaddingRangeLimit."""
    if "PixelPaddingValue" not in data:
        return np.zeros(stored.shape, bool)
    value = signed(data.PixelPaddingValue, data)
    limit = signed(data.get("PixelPaddingRangeLimit", data.PixelPaddingValue), data)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


def signed(value: int, data) -> int:
    """A padding value in the pixels' own sign, whatever sign its header entry was written with."""
    bits = int(data.BitsAllocated)
    value = int(value) % (1 << bits)
    return value - (1 << bits) if data.PixelRepresentation and value >= 1 << (bits - 1) else value


# Shared with formats.py ----------------------------------------------------------------------------------------------

STDERR = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep SimpleITK's C++ libraries from writing to stderr; an error comes as an exception all the same."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with STDERR:
        try:
            saved = os.dup(2)
        except OSError:  # no stderr at all, as in a windowed application
            yield
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(sink)


def require_memory(path: Path, needed: int) -> None:
    """:raises InputError: for a volume that no memory of this machine could hold (often a forged header)."""
    try:
        import psutil
    except ImportError:  # Slicer's own Python, while another one computes
        return

    if needed > psutil.virtual_memory().total:
        raise InputError(
            f"{path}: the header announces {needed / 2**30:,.0f} GiB, more than this machine's memory; "
            "crop or downsample the volume first, or copy it again if that cannot be."
        )
