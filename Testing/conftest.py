"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
