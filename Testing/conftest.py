"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 600.0
"""Seconds after which a test, or a process that it started, is taken to hang on a quiet machine. No test measures by it."""


def patient() -> float:
    """The same on this machine as busy as it is: longer by as many times as there are processes for each core."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return PATIENCE * max(1.0, load / (os.cpu_count() or 1))


@pytest.fixture
def patience() -> float:
    """Seconds to wait for what must come, or be told that it hangs."""
    return patient()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """No test may hang; a set-up that is shared counts with the first test that needs it."""
    if item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(3 * patient()))
    return (yield)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Where real volumes, images and weights would be: MEDXAI_TEST_DATA, by default ../shared/data."""
    return Path(os.environ.get("MEDXAI_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()


@pytest.fixture(scope="session")
def data(data_folder) -> Path:
    """The folder of real volumes, images and weights, where it is."""
    if not (data_folder / "MANIFEST.md").is_file():
        pytest.skip(f"no test data at {data_folder} (set MEDXAI_TEST_DATA)")
    return data_folder


@pytest.fixture(scope="session", params=["cpu", "cuda"])
def device(request) -> str:
    """Every device at hand; a missing GPU is no skip but an absent case."""
    return request.param


def pytest_collection_modifyitems(items):
    """Leave the cases of a GPU out where there is none."""
    if any("cuda" in item.name for item in items):
        import torch

        if not torch.cuda.is_available():
            items[:] = [item for item in items if "[cuda" not in item.name and "-cuda" not in item.name]
