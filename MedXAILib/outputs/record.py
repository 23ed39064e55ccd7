"""run.json read, whatever version wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import NOTICE
from ..caveats import Caveat
from ..errors import FileError, legible
from .layout import RECORD, SCHEMA_VERSION


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that a run wrote; empty where it is none."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def read_record(folder: Path) -> dict[str, Any]:
    """What run.json in a run's folder holds, in the words of today.

    :raises FileError: for a folder without one, or with one of a newer MedXAI.
    """
    found = read_json(folder / RECORD)
    if found.get("notice") != NOTICE:
        raise FileError(legible(str(folder)), f"this is no folder of a run: it holds no {RECORD}", "give another one")
    version = found.get("schema_version", 1)
    if version > SCHEMA_VERSION:
        raise FileError(
            legible(str(folder)),
            f"this run was written by a newer MedXAI (schema_version {version}; this one reads up to {SCHEMA_VERSION})",
            "update MedXAI",
        )
    return found if version == SCHEMA_VERSION else _of_version_1(found)


def _of_version_1(found: dict[str, Any]) -> dict[str, Any]:
    """Before the words were settled: limits, remarks, and a job with the methods' options beside each other."""
    job = dict(found.get("job") or {})
    options = {name: job.pop(name) for name in ("samples", "superpixels", "baseline", "references") if name in job}
    options["baseline"] = {"air": "minimum"}.get(options.get("baseline", ""), options.get("baseline"))
    job["options"] = {name: value for name, value in options.items() if value not in (None, [], ())}
    if "share" in job:
        job["mass_fraction"] = job.pop("share")
    cases = [case | {"maps": [_map_of_version_1(m) for m in case.get("maps", ())]} for case in found.get("cases", ())]
    rest = {key: value for key, value in found.items() if key not in ("remarks", "job", "cases")}
    return rest | {"schema_version": SCHEMA_VERSION, "job": job, "cases": cases, "messages": found.get("remarks", [])}


def _map_of_version_1(found: dict[str, Any]) -> dict[str, Any]:
    caveats = [Caveat.from_value(text).as_value() for text in found.get("limits", ())]
    return {key: value for key, value in found.items() if key != "limits"} | {"caveats": caveats}
