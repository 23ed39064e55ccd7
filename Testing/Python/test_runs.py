"""Runs that are disturbed: a sample of ``make check-runs``, which has every stage."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Checks"))

import runs  # noqa: E402

SAMPLE = [("publish", "SIGKILL"), ("tables", "SIGTERM")]


@pytest.mark.skipif(sys.platform != "linux", reason="signals and namespaces of Linux")
@pytest.mark.parametrize(("stage", "what"), SAMPLE)
def test_a_disturbed_run_leaves_nothing_half_written(stage, what, patience, monkeypatch):
    monkeypatch.setattr(runs, "PATIENCE", patience)
    if what in ("disk full", "read-only") and not runs.possible():
        pytest.skip("no file system can be mounted here")
    found = runs.check(stage, what)
    assert not found["faults"], found
