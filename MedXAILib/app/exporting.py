"""What a scene stored, made anew into findings: tables by structure, and the output folder that the command line writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..caveats import Caveat, texts
from ..errors import InputError
from ..findings.anatomy import seen_by
from ..findings.finding import Finding, find
from ..findings.said import CaseResult, Said
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from ..io.read import read_volume
from ..outputs.case_file import in_private, publish
from ..outputs.layout import RESERVED, stems
from ..outputs.listing import all_listed
from ..outputs.part import PartFolder
from ..outputs.pictures.snapshot import snapshot
from ..outputs.run_folder import read_run, write_run
from ..outputs.staging import staged
from ..outputs.writer import STANDARD, chosen
from ..progress import Progress
from .job import Job, Messages
from .keys import hash_of, key_of, made_key, map_key, prediction_key
from .parts import maps_part, prediction_part
from .pictures import overlay
from .records import attribution_of, grid_of, labels_of, said_of, structure_records
from .tables import derive

Record = Mapping[str, Any]


def structures(request: Record, folder: Path, volumes: Mapping[str, Volume]) -> list[dict[str, Any]]:
    """Fractions of a stored map by structure, in plain values.

    :param request: ``map`` (a stored map), ``anatomy`` (labels), ``reference`` (a handle).
    :param folder: where the files lie.
    """
    found = _finding(request["map"], folder, volumes[request["reference"]], labels_of(request["anatomy"], folder))
    return structure_records(found.structures)


def export(request: Record, folder: Path, volumes: Mapping[str, Volume], progress: Progress) -> dict[str, Any]:
    """Stored results as an output folder: tables, volumes, a picture, run.json.

    :param request: ``output``, ``overwrite``, ``reference`` (a handle), ``cases``: name -> ``prediction`` and ``maps`` as they
        were stored; perhaps ``anatomy``; ``heading`` of the picture; ``versions``.
    :raises InputError: for an output that holds something else, or nothing to export.
    """
    reference, cases = volumes[request["reference"]], request["cases"]
    if not cases:
        raise InputError("There is nothing to export yet: press Predict or Explain first.")
    anatomy = labels_of(request["anatomy"], folder) if request.get("anatomy") else None
    jobs = [Job.from_json(record["job"]).described() for case in cases.values() for record in _records(case)]
    told = request["versions"]
    for case in cases.values():
        told = told | (case.get("prediction") or {}).get("versions", {})
    with staged(Path(request["output"]), request["overwrite"], "export", {*RESERVED, "snapshot.png"}) as place:
        results: list[CaseResult] = []
        identity = {"exported": hash_of(reference)}
        asked: dict[str, dict[str, Any]] = {}
        places = stems(list(cases))
        for number, (name, case) in enumerate(cases.items()):
            progress(number, len(cases), "Writing the results")
            results.append(_result(name, case, folder, reference, anatomy))
            asked |= _publish(results[-1], place / places[name], identity, request["anatomy"] if anatomy else None)
        progress(len(cases) - 1, len(cases), "Drawing")
        _draw(results, place / "snapshot.png", request["heading"], reference)
        write_run(
            place,
            {
                "jobs": [job for n, job in enumerate(jobs) if job not in jobs[:n]],
                "versions": told,
                "exported": datetime.now(UTC).isoformat(timespec="seconds"),
                "identity": identity,
                "channels": [""],
                "questions": list(asked.values()),
                "cases": places,
                "messages": [],
            },
            ["snapshot.png"],
        )
        derive(place)
    place = Path(request["output"])
    return read_run(place) | {"files": sorted(all_listed(place))}


def _publish(
    result: CaseResult, place: Path, identity: dict[str, Any], anatomy: Record | None
) -> dict[str, dict[str, Any]]:
    """Write a case; gives the questions that its maps answer, by key."""
    inputs = {"": {"path": "", "sha256": key_of(name=result.name, reference=identity)}}
    prediction = prediction_key(identity, [""], {"": inputs[""]["sha256"]})
    questions: dict[tuple[str, str], list[Finding]] = {}
    for finding in result.findings:
        questions.setdefault((finding.attribution.target, finding.attribution.method), []).append(finding)
    asked: dict[str, dict[str, Any]] = {}
    writers, parts = chosen(STANDARD), []
    with in_private(place) as private:

        def folder_of(key: str) -> PartFolder:
            (private / key).mkdir()
            return PartFolder(private / key, place, key, made_key(key, {"anatomy": bool(anatomy)}), "nrrd")

        parts.append(prediction_part(result, folder_of(prediction), writers))
        for (target, method), findings in questions.items():
            question = {"target": target, "method": method}
            key = map_key(prediction, question)
            asked[key] = question
            one = replace(result, findings=tuple(findings))
            parts.append(maps_part(one, folder_of(key), writers, question, Messages()) | {"prediction": prediction})
        publish(private, place, {"case": result.name, "inputs": inputs, "parts": parts, "failures": [], "messages": []})
    return {key_of(**question): question for question in asked.values()}


def _records(case: Record) -> list[Record]:
    return [record for record in (case.get("prediction"), *case["maps"]) if record]


def _result(name: str, case: Record, folder: Path, reference: Volume, anatomy: Labels | None) -> CaseResult:
    prediction, records = case.get("prediction"), _records(case)
    first = records[0]
    model = first["model"] if "model" in first else first["provenance"]["model"]
    told = Said(model=model, summary={})
    if prediction:
        told = said_of(prediction, labels_of(prediction["labels"], folder) if "labels" in prediction else None)
    findings = tuple(_finding(record, folder, reference, anatomy) for record in case["maps"])
    named = [record.get("weights_sha256") or record.get("provenance", {}).get("weights_sha256") for record in records]
    weights = next(filter(None, named), None)  # an older prediction does not tell
    metadata = {"model": model, "weights_sha256": weights, "input": name, **(prediction or {}).get("versions", {})}
    return CaseResult(name=name, reference=reference, said=told, findings=findings, metadata=metadata)


def _finding(record: Record, folder: Path, reference: Volume, anatomy: Labels | None) -> Finding:
    """What is said of a stored map."""
    volume = read_volume(folder / record["file"])
    assumed = tuple(record["provenance"].get("geometry_not_in_the_file", ()))
    volume = replace(volume, source=replace(volume.source, assumed=assumed))
    superpixels = None
    if record.get("superpixels", {}).get("file"):
        superpixels = labels_of(record["superpixels"], folder)
    a = attribution_of(record, volume, superpixels)
    seen = None if anatomy is None else seen_by(reference, grid_of(record["grid"]))
    fraction = record.get("job", {}).get("mass_fraction", 0.5)
    return find(a, reference, mass_fraction=fraction, anatomy=anatomy, seen=seen)


def _draw(results: Sequence[CaseResult], path: Path, heading: str, reference: Volume) -> None:
    """Slices only: a child process draws the 3D view, and Slicer's Python has no scene of its own there."""
    overlays = [overlay(finding, finding.regions) for result in results for finding in result.findings]
    labels = next((result.said.labels for result in results if result.said.labels is not None), None)
    caveats: dict[Caveat, None] = {}
    for result in results:
        caveats |= dict.fromkeys(result.said.caveats)
    snapshot(reference, overlays, path, heading=heading, segmentation=labels, solid=False, caveats=texts(caveats))
