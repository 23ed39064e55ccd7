"""Damaged files of every format: a sample of ``make check-fuzz``, which has 200 of each."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Checks"))

import fuzz  # noqa: E402

pytest.importorskip("nrrd", reason="pynrrd is one of the other readers")
COUNT = 6


@pytest.fixture(scope="module")
def honest():
    with tempfile.TemporaryDirectory() as folder:
        return fuzz.seeds(Path(folder))


@pytest.fixture(scope="module")
def reader():
    made = fuzz.Reader()
    yield made
    made.close()


def test_honest_files_are_read_as_other_readers_read_them(honest, reader):
    found = {name: fuzz.check(name, fuzz.HONEST, honest, reader) for name in honest}
    assert not {name: one for name, one in found.items() if fuzz.bad(one)}
    assert {name for name, one in found.items() if one["said"] == "refused"} == set(fuzz.PROGRAMS)
    assert sum(bool(one.get("compared")) for one in found.values()) >= 20


def test_damaged_files_are_read_as_other_readers_read_them_or_refused(honest, reader):
    found = {(name, seed): fuzz.check(name, seed, honest, reader) for name in honest for seed in range(COUNT)}
    assert not {key: one for key, one in found.items() if fuzz.bad(one)}
