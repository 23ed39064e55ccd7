"""What the checks have found so far: lines of JSON in build/, which a later run continues."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # the library beside the checks is meant, whichever is installed


class Results:
    """Findings by key. Those of another state of the sources are kept in the file and left aside.

    :ivar known: key -> finding.
    """

    def __init__(self, name: str, sources: Sequence[Path]):
        """:param sources: files, and folders of Python files, on which the findings depend."""
        self.file = ROOT / "build" / name / "results.jsonl"
        self.source = fingerprint(sources)
        self.known: dict = {}
        if self.file.is_file():
            for line in self.file.read_text().splitlines():
                found = json.loads(line)
                if found["source"] == self.source:
                    self.known[found["key"]] = found["found"]

    def add(self, key, found: dict) -> None:
        self.known[key] = found
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as lines:
            lines.write(json.dumps({"source": self.source, "key": key, "found": found}) + "\n")


def fingerprint(sources: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
