"""Cases of a table: a CSV or TSV file with a row for each."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import FileError, legible
from .case import Case, Found

TABLES = {".csv": ",", ".tsv": "\t"}
"""Suffix -> what parts the columns; a CSV may have semicolons, as spreadsheets write in many countries."""
INPUT, CASE, ANATOMY, MASK, LABELS = "input", "case", "anatomy", "mask", "labels"
"""Columns: the single input, and what need not be there. Inputs of a network with several stand in columns of their names."""


def table_cases(path: Path, channels: Sequence[str]) -> Found:
    """The cases of a table's rows; relative paths begin at its folder.

    :param channels: of the network.
    :raises FileError: for a table without the columns of inputs, or with a case twice.
    """
    rows, columns = _rows(path)
    inputs = _input_columns(path, columns, channels)
    known = {*inputs.values(), CASE, ANATOMY, MASK, LABELS}
    unused = [column for column in columns if column not in known]
    remarks = [f"Columns of {legible(path.name)} that are not used: {', '.join(unused)}."] if unused else []
    cases = [_case(path.parent, row, inputs) for row in rows]
    if twice := next((name for name, count in Counter(case.name for case in cases).items() if count > 1), None):
        raise FileError(path, f"the case {twice} is there twice", f"give each a name of its own in a column '{CASE}'")
    return Found(cases=cases, remarks=remarks)


def _rows(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FileError(path, "this is no text in UTF-8", "save the table as CSV in UTF-8") from None
    head = text.partition("\n")[0]
    parted = TABLES[path.suffix.lower()]
    if parted == "," and head.count(";") > head.count(","):
        parted = ";"
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=parted, restval="")
    columns = [name.strip() for name in reader.fieldnames or ()]
    if len(set(columns)) < len(columns):
        raise FileError(path, "two of its columns have the same name", "name each column once")
    reader.fieldnames = columns
    rows = [{name: (row[name] or "").strip() for name in columns} for row in reader]
    if not (rows := [row for row in rows if any(row.values())]):
        raise FileError(path, "the table has no rows", "give a row for each case below the names of the columns")
    return rows, columns


def _input_columns(path: Path, columns: Sequence[str], channels: Sequence[str]) -> dict[str, str]:
    """Channel -> its column."""
    if all(channel in columns for channel in channels):
        return {channel: channel for channel in channels}
    if len(channels) == 1 and INPUT in columns:
        return {channels[0]: INPUT}
    wanted = f"'{INPUT}'" if len(channels) == 1 else ", ".join(f"'{channel}'" for channel in channels)
    there = ", ".join(f"'{column}'" for column in columns)
    raise FileError(path, f"its columns are {there}", f"name the columns of the inputs {wanted}")


def _case(folder: Path, row: Mapping[str, str], inputs: Mapping[str, str]) -> Case:
    paths = {channel: folder / row[column] for channel, column in inputs.items() if row[column]}
    missing = [column for column in inputs.values() if not row[column]]
    name = row.get(CASE) or next((row[column] for column in inputs.values() if row[column]), "")
    fault = f"its row has no path in the column {missing[0]}; give one" if missing else ""
    beside = {column: folder / row[column] for column in (ANATOMY, MASK) if row.get(column)}
    return Case(
        name=_tidy(name), inputs=paths, anatomy=beside.get(ANATOMY), mask=beside.get(MASK), labels=_labels(folder, row), fault=fault
    )  # fmt: skip


def _labels(folder: Path, row: Mapping[str, str]) -> str | Path:
    """A label map of the table's folder, or what it says itself."""
    text = row.get(LABELS, "")
    return folder / text if text and (folder / text).is_file() else text


def _tidy(name: str) -> str:
    """A path as a name: no root, and no way up, so that results stay in their folder."""
    parts = [part for part in Path(name).parts if part not in ("..", ".", Path(name).anchor)]
    return legible("/".join(parts))
