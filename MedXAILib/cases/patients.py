"""A DICOM tree of many patients: each is a case."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, legible
from ..io.dicom.scan import choose_series, describe_series, files_below, header, is_dicom, not_an_image
from .case import Case, Found

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def patients_in(folder: Path, channel: str, series: str | None) -> Found | None:
    """The patients of a folder of DICOM; None where it has only one, and is itself a case.

    A patient whose files lie in a folder without those of others is that folder. Of one whose files lie among others' the series
    is told by its UID.

    :param channel: of the network. :param series: the one that is meant of each patient: its number, UID or description.
    """
    found, damaged = _by_patient([file for file in files_below(folder) if is_dicom(file)])
    if len(found) < 2:
        return None
    places = {who: Path(os.path.commonpath([file.parent for file in headers])) for who, headers in found.items()}
    cases = []
    for who, headers in found.items():
        place = places[who]
        apart = all(
            not other.is_relative_to(place) for name, others in found.items() if name != who for other in others
        )
        cases.append(_apart(folder, place) if apart else _among(folder, place, who, headers, series))
    lost = [file for file in damaged if not any(file.is_relative_to(place) for place in places.values())]
    cases += [_unreadable(folder, file, error) for file, error in damaged.items() if file in lost]
    return Found(
        cases=[replace(case, inputs={channel: case.inputs[""]}) for case in cases],
        remarks=[f"A DICOM tree of {len(found)} patients."],
    )


def _by_patient(files: Sequence[Path]) -> tuple[dict[str, dict[Path, Dataset]], dict[Path, InputError]]:
    """The headers of images by patient, and files that cannot be read. Without a PatientID it is the study that tells."""
    found: dict[str, dict[Path, Dataset]] = {}
    damaged: dict[Path, InputError] = {}
    for file in files:
        try:
            data = header(file)
            if not not_an_image(data):
                who = str(data.get("PatientID") or "").strip() or str(data.get("StudyInstanceUID", ""))
                found.setdefault(who, {})[file] = data
        except InputError as error:
            damaged[file] = error
        except ValueError:
            damaged[file] = InputError(
                f"{legible(file.name)}: an image without its size: it is cut short; copy it again."
            )
    return found, damaged


def _apart(folder: Path, place: Path) -> Case:
    return Case(name=legible(place.relative_to(folder).as_posix()), inputs={"": place})


def _among(folder: Path, place: Path, who: str, headers: Mapping[Path, Dataset], wanted: str | None) -> Case:
    """A patient whose files lie among others'."""
    by_series: dict[str, dict[Path, Dataset]] = {}
    for file, data in headers.items():
        by_series.setdefault(str(data.get("SeriesInstanceUID", "")), {})[file] = data
    series, fault = None, ""
    try:
        listed = [describe_series(uid, some) for uid, some in by_series.items()]
        series = choose_series(place, listed, wanted).uid
    except InputError as error:
        fault = str(error)
    above = place.relative_to(folder).as_posix()
    name = legible(who.replace("/", "-")) if above == "." else f"{legible(above)}/{legible(who.replace('/', '-'))}"
    return Case(name=name, inputs={"": place}, series=series, fault=fault)


def _unreadable(folder: Path, file: Path, error: InputError) -> Case:
    return Case(name=legible(file.relative_to(folder).as_posix()), inputs={"": file}, fault=str(error))
