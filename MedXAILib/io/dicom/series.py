"""A series to a Volume: its planes in order, or a refusal of what is no regular stack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileError, legible
from ...geometry.affine import LPS_RAS, SHEAR_TOLERANCE, Affine, apply, implausible, shear
from ...geometry.volume import Source, Volume
from ..placing import UNSHEAR
from .pixels import voxels, with_pixels
from .plane import (
    TIME_TAGS,
    Plane,
    along,
    known,
    normal,
    patient_letters,
    plane_affine,
    planes_of,
    refuse_mosaic,
    single_affine,
)
from .scan import checked, choose_series, refuse_mixed, scan

POSITION_TOLERANCE_MM = 0.05
POSITION_TOLERANCE = 0.02
"""How far a plane may lie from its place in a regular stack: 0.05 mm, or this fraction of the slice distance if that is more.

Scanners round positions to some hundredths of a millimetre; a missing slice puts others off by half a distance at least.
"""


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
        raise FileError(path, f"its geometry makes no sense ({error})", "export the series again") from None
    if fault := implausible(volume.affine):
        raise FileError(path, f"its headers give {fault}, which cannot be", "export the series again")
    return volume


def without_copies(planes: list[Plane], remarks: list[str]) -> list[Plane]:
    """One plane for each SOP instance and frame, as the same image may lie in a folder twice; images at different places are no
    copies, whatever their instances are called."""

    def where(plane: Plane) -> tuple[float, ...]:
        return () if plane.position is None else tuple(np.round(plane.position, 6))

    unique: dict[tuple[Any, ...], Plane] = {}
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
        question = f"the series has {len(volumes)} images at each position{by}", "choose one of these volumes"
    else:
        volumes, by = [[plane] for plane in planes], ""
        question = (
            f"its {len(planes)} images do not say where in the patient they lie, so they make no volume",
            "export it with its geometry, or read one frame as a picture",
        )
    if frame is None and len(volumes) > 1:
        fault, remedy = question
        raise FileError(path, fault, f"{remedy}, --frame 0 to --frame {len(volumes) - 1}")
    if not 0 <= (frame or 0) < len(volumes):
        raise FileError(path, f"there is no frame {frame}", f"it must be below {len(volumes)}")
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
        raise FileError(path, f"the images of the series have several sizes ({sizes})", "move the odd ones away")
    if any(plane.spacing is None for plane in planes):
        raise FileError(path, "images of the series have no PixelSpacing", "export the series again with it")
    orientation, spacing = known(first.orientation), known(first.spacing)
    if any(np.abs(known(plane.orientation) - orientation).max() > SHEAR_TOLERANCE for plane in planes):
        fault = "the images of the series lie in different directions (a localizer among them?)"
        raise FileError(path, fault, "keep one direction in the folder")
    if any(np.abs(np.divide(known(plane.spacing), spacing) - 1).max() > 1e-3 for plane in planes):
        raise FileError(path, "the images of the series differ in pixel spacing", "keep those of one spacing")
    return sorted(planes, key=along(first))


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
        fault = f"the {len(planes)} images lie at {len(groups)} positions, some of which have more images than others"
        raise FileError(path, fault, "keep one image for each position")
    tag = next((tag for tag in TIME_TAGS if all(len({p.times.get(tag) for p in g}) == count for g in groups)), None)
    if count == 1 or tag is None:
        return [list(volume) for volume in zip(*groups, strict=True)], ""
    groups = [sorted(group, key=lambda plane: sortable(plane.times.get(tag))) for group in groups]
    return [list(volume) for volume in zip(*groups, strict=True)], f" that differ in {tag}"


def sortable(value: float | str | None) -> tuple[int, float, str]:
    """A key by which numbers come first, in their order, and then text."""
    return (0, value, "") if isinstance(value, float) else (1, 0.0, str(value))


def stack(path: Path, planes: Sequence[Plane]) -> Affine:
    """IJK-to-LPS of sorted planes: every plane must lie where the affine of a regular stack puts it.

    :raises InputError: where the distances are unequal or the stack is sheared.
    """
    first, last = planes[0], planes[-1]
    count = len(planes) - 1
    place = along(first)
    gaps = np.diff([place(plane) for plane in planes])
    usual = float(np.median(gaps))
    affine = plane_affine(first, (known(last.position) - known(first.position)) / count)
    if shear(affine) > SHEAR_TOLERANCE:  # rounded positions of a short stack, or a tilt, which shows below
        affine = plane_affine(first, normal(first) * (place(last) - place(first)) / count)
    expected = apply(affine, [(0, 0, k) for k in range(count + 1)])
    misplaced = np.linalg.norm(expected - [known(plane.position) for plane in planes], axis=1).max()
    tolerance = max(POSITION_TOLERANCE_MM, POSITION_TOLERANCE * usual)
    if misplaced <= tolerance:
        return affine
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > tolerance:
        one, other = planes[worst], planes[worst + 1]
        names = (f"frame {p.frame + 1}" if one.path == other.path else p.path.name for p in (one, other))
        raise FileError(
            path,
            f"the slices are not equally spaced: {' and '.join(names)} are {gaps[worst]:.2f} mm apart, others {usual:.2f} mm",
            "add the missing slices, or resample the series with Slicer (DICOM module, 'Acquisition geometry regularization')",
        )
    degrees = np.degrees(np.arctan2(misplaced, place(last) - place(first)))
    raise FileError(path, f"the slices are stacked askew by {degrees:.1f} degrees (gantry tilt?)", UNSHEAR)
