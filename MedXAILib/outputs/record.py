"""Records of runs read, and of scenes, whatever version wrote these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import NOTICE
from ..caveats import Caveat
from ..errors import FileError, legible
from .layout import RUN_VERSION, SCHEMA_VERSION


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that a run wrote; empty where it is none."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def read_own(path: Path) -> dict[str, Any]:
    """A record that is there.

    :raises FileError: for a file of this name that no run wrote, or that a newer MedXAI did.
    """
    found = read_json(path)
    if found.get("notice") != NOTICE:
        raise FileError(
            legible(str(path)),
            "no run wrote this file, and one would have to replace it",
            "move it, or give another folder",
        )
    version = found.get("schema_version", 1)
    if not isinstance(version, int) or version > RUN_VERSION:
        raise FileError(
            legible(str(path)),
            f"a newer MedXAI wrote it (schema_version {version}; this one reads up to {RUN_VERSION})",
            "update MedXAI",
        )
    return found


def modern_run(found: Mapping[str, Any]) -> dict[str, Any]:
    """A run.json of before there were case.json files, in the words of today."""
    if found.get("schema_version", 1) > 1:
        return dict(found)
    cases = [case | {"maps": [_renamed(m) for m in case.get("maps", ())]} for case in found.get("cases", ())]
    rest = {key: value for key, value in found.items() if key not in ("remarks", "job", "cases")}
    return rest | {"job": modern_job(found.get("job") or {}), "cases": cases, "messages": found.get("remarks", [])}


def modern_job(values: Mapping[str, Any]) -> dict[str, Any]:
    """A job as it was written down, in the fields of today: options of methods once stood beside the others."""
    job = dict(values)
    options = dict(job.pop("options", {}))
    for name, default in (("samples", None), ("superpixels", None), ("baseline", "air"), ("references", [])):
        value = job.pop(name, default)
        if value != default and value != ():
            options[name] = value
    if "share" in job:
        job["mass_fraction"] = job.pop("share")
    return job | {"options": options}


def modern_metadata(found: Mapping[str, Any]) -> dict[str, Any]:
    """What stands with a node of a scene, in the words of today.

    :raises FileError: for what a newer MedXAI wrote.
    """
    version = found.get("schema_version", 1)
    if version > SCHEMA_VERSION:
        raise FileError(
            "The scene",
            f"a newer MedXAI wrote its results (schema_version {version}; this one reads up to {SCHEMA_VERSION})",
            "update MedXAI",
        )
    return dict(found) if version == SCHEMA_VERSION or not found else _renamed(found)


def _renamed(found: Mapping[str, Any]) -> dict[str, Any]:
    """One result of version 1 in the words of today."""
    words = {"limits": "caveats", "remarks": "messages", "mass_share": "mass_fraction"}
    new = {words.get(key, key): value for key, value in found.items() if not (key == "caveats" and "limits" in found)}
    if "caveats" in new:
        new["caveats"] = [Caveat.from_value(value).as_value() for value in new["caveats"]]
    if isinstance(new.get("slices"), list):
        new["by_slice"] = new.pop("slices")
    if "provenance" in new:
        old = new["provenance"]
        new |= {
            "says": old.get("fact", ""),
            "carried": old.get("linear_score"),
            "evaluations": old.get("evaluations", 0),
        }
    if "job" in new:
        new["job"] = modern_job(new["job"])
    for kind in ("regions", "superpixels"):
        if "table" in new.get(kind, {}):
            new[kind] = new[kind] | {"table": [_renamed(row) for row in new[kind]["table"]]}
    return new
