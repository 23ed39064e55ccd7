"""Tables of a run, derived from the case.json files that lie in its folder: at any time, also while the run goes on."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileError, legible
from ..io import atomic
from ..outputs.case_file import read_case
from ..outputs.layout import CASE, EVALUATION, RECORD, TABLES
from ..outputs.run_folder import read_run, write_run
from .bids import derivative
from .keys import map_key, prediction_key
from .sheets import STRUCTURES, contact_sheets, matrices, structures

ANATOMY, FAILURES = "anatomy.csv", "failures.csv"
MOST_LOOKS = 10
"""How often the cases are listed again where some came meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Derived:
    """What a run's folder holds of its newest job.

    :ivar cases: how many it has. :ivar done: cases whose results are all there. :ivar failed: cases that failed.
    :ivar files: names of the tables and sheets. :ivar mixed: devices and versions, where not all results are of the same.
    :ivar others: maps of these cases that are not of this job.
    """

    cases: int
    done: int
    failed: int
    files: tuple[str, ...]
    mixed: tuple[str, ...] = ()
    others: int = 0

    @property
    def said(self) -> str:
        """In words."""
        return f"{self.done} of {self.cases} cases" + (f", {self.failed} failed" if self.failed else "")

    @property
    def remarks(self) -> list[str]:
        """What is to be known of the folder, a sentence each."""
        found = []
        if self.mixed:
            found.append(f"These results are not all of the same device and versions: {'; '.join(self.mixed)}.")
        if self.others:
            found.append(
                f"{self.others} maps in the folder are not of this job and stand in no table; --prune removes them."
            )
        return found


def derive(root: Path) -> Derived:
    """Write the tables of the newest job in a run's folder.

    :raises FileError: for a folder that holds no run.
    """
    run = read_run(root)
    if "cases" not in run or "identity" not in run:
        raise FileError(
            legible(str(root)), "this is no folder of a run, or one of an earlier MedXAI", "give another one"
        )
    for look in range(MOST_LOOKS):
        before = _state(root, run)
        try:
            found = _derived(root, run)
        except FileNotFoundError:  # of a case that was replaced meanwhile
            if look == MOST_LOOKS - 1:
                raise
            continue
        if _state(root, run) == before:
            break
    return found


def _state(root: Path, run: Mapping[str, Any]) -> list[tuple[int, int] | None]:
    """Changes when a case comes or is replaced."""
    found: list[tuple[int, int] | None] = []
    for folder in run["cases"].values():
        try:
            status = (root / folder / CASE).stat()
            found.append((status.st_ino, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return found


def _derived(root: Path, run: Mapping[str, Any]) -> Derived:
    texts: dict[str, _Table] = {}
    computed: Counter[tuple[str, ...]] = Counter()
    of_structures: list[Sequence[Any]] = []
    done = failed = 0
    others: list[str] = []

    def add(table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            texts.setdefault(table, _Table(columns)).add(row)

    for name, record in records(root, run):
        parts, failures = parts_of(run, record), failures_of(run, record)
        there = [part for part in parts if part is not None]
        others += [
            f"{run['cases'][name]}/{m['file'] or m['method']}"
            for part in record["parts"] if part not in there for m in part.get("maps", ())
        ]  # fmt: skip
        done += bool(parts) and len(there) == len(parts) and not failures
        failed += bool(failures)
        add(FAILURES, TABLES[FAILURES], ((name, f["stage"], f["sentence"]) for f in failures))
        if failures:  # what is there may be of an input that was replaced
            continue
        computed.update({how(part) for part in there})
        for part in there:
            for table, content in part["tables"].items():
                add(table, content["columns"], content["rows"])
            of_structures += part["tables"].get(ANATOMY, {"rows": ()})["rows"]
            add(EVALUATION, TABLES[EVALUATION], ([name, *row[1:]] for row in part.get("measured", ())))
    compared = list(structures(of_structures)) if len(run["cases"]) > 1 else []
    add(STRUCTURES, TABLES[STRUCTURES], compared)
    files = sorted(texts)
    for name in files:
        atomic.write_text(root / name, texts[name].text)
    files += contact_sheets(root, run["cases"], there_of(root, run), len(run["cases"]))
    files += derivative(root, run, lambda: there_of(root, run)) if run.get("bids") else []
    files += matrices(root, compared, len(run["cases"]))
    before = set(run.get("tables", ()))
    for name in before - set(files):
        (root / name).unlink(missing_ok=True)
    more = [name for name in run.get("files", ()) if name not in {*before, *files, RECORD} and (root / name).exists()]
    kept = {key: value for key, value in run.items() if key not in ("notice", "schema_version", "files")}
    mixed = [f"{', '.join(one)}: {n} cases" for one, n in sorted(computed.items())] if len(computed) > 1 else []
    told = {"done": done, "failed": failed, "tables": files, "mixed": mixed, "other_maps": others}
    write_run(root, kept | told, [*files, *more])
    return Derived(
        cases=len(run["cases"]), done=done, failed=failed, files=tuple(files), mixed=tuple(mixed), others=len(others)
    )


class _Table:
    """A table in the making, as text: the rows of many cases take little room so."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.file = io.StringIO(newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerow(columns)

    def add(self, row: Sequence[Any]) -> None:
        self.writer.writerow([cell(value) for value in row])

    @property
    def text(self) -> str:
        return self.file.getvalue()


def there_of(root: Path, run: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Every case of the newest job that did not fail: its name, its record, and its parts that are there; read one by one."""
    for name, record in records(root, run):
        parts = [part for part in parts_of(run, record) if part is not None]
        if parts and not failures_of(run, record):
            yield name, record, parts


def how(part: Mapping[str, Any]) -> tuple[str, ...]:
    """On what a part was computed: device and versions."""
    computed = part.get("computed", {})
    return (
        computed.get("device", ""),
        *(f"{name} {number}" for name, number in sorted(computed.get("versions", {}).items())),
    )


def records(root: Path, run: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every case of the newest job by its name, sorted, with what its case.json holds; those without one are left out."""
    for name, folder in sorted(run["cases"].items()):
        if record := read_case(root / folder):
            yield name, record


def failures_of(run: Mapping[str, Any], record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Why a case failed in the newest job; nothing where that was another one's."""
    return [failure for failure in record.get("failures", ()) if failure.get("job") in (None, run.get("key"))]


def parts_of(run: Mapping[str, Any], record: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    """The parts of a case that the newest job asks for, in its order: the prediction, then the maps; None for one that is not
    there."""
    if not record.get("inputs"):
        return []
    hashes = {name: one["sha256"] for name, one in record["inputs"].items()}
    key = prediction_key(run["identity"], run["channels"], hashes)
    mask = record.get("beside", {}).get("mask", {}).get("sha256")
    there = {part["key"]: part for part in record["parts"]}
    return [there.get(one) for one in (key, *(map_key(key, question, mask) for question in run["questions"]))]


def summary_of(run: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be told of a case: what the model says, and each map."""
    prediction, *others = parts_of(run, record)
    assert prediction is not None
    said = prediction["said"]
    maps = [
        {
            "file": m["file"] and f"{run['cases'][record['case']]}/{m['file']}", "class": m["target"], "method": m["method"],
            "layer": m["layer"], "seconds": m["seconds"], "evaluations": m["evaluations"], "caveats": m["caveats"],
        }
        for part in others if part for m in part["maps"]
    ]  # fmt: skip
    plain = {key: value for key, value in said.items() if key not in ("grid", "labels", "by_slice")}
    return {"input": record["case"], **plain, "maps": maps}


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as text."""
    table = _Table(columns)
    for row in rows:
        table.add(row)
    return table.text


def cell(value: Any) -> Any:
    """A value of a table: numbers in six digits."""
    return f"{value:.6g}" if isinstance(value, float) else value
