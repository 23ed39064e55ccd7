"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 600.0
"""Seconds after which a test, or a process that it started, is taken to hang on a quiet machine. No test measures by it."""

SLOW = {
    *("test_demo_lesion", "test_evaluation", "test_fuzz", "test_layers", "test_left_alone", "test_networks", "test_options", "test_packaging"),
    *("test_peers", "test_place", "test_places", "test_plugins", "test_recording", "test_runs", "test_suitability"),
    *("test_training", "test_windows", "test_worker", "test_zoo"),
    *("test_export", "test_logic", "test_packages", "test_panel", "test_report", "test_stored", "test_views", "test_asking"),
    *("test_colours", "test_details", "test_display", "test_region_tables"),
    "test_a_draft_once_filled_in_loads_the_same_network",
    "test_a_draft_sees_through_what_trainings_put_around_a_network",
    "test_a_network_that_is_a_program_is_explained_as_far_as_it_can_be",
    "test_a_planted_blob_comes_back_where_it_was",
    "test_a_real_oblique_volume",
    "test_a_run_with_relative_paths_names_classes_and_slices_as_people_do",
    "test_a_turned_and_flipped_file_gives_the_same_segmentation",
    "test_anatomy_regions_and_scene_of_an_abdominal_ct",
    "test_ctrl_c_stops_after_the_running_module_and_twice_at_once",
    "test_every_method_on_a_program_ends_in_the_networks_own_map_or_in_one_sentence",
    "test_every_method_that_suits_and_that_the_budget_allows",
    "test_foreground_of_real_images",
    "test_malicious_files_made_here_do_not_run_either",
    "test_nor_do_malicious_programs_run_more_than_a_graph",
    "test_nothing_hostile_runs_with_or_without_trust",
    "test_plain_values_come_back_as_they_are",
    "test_the_3d_view_shows_the_map_in_its_colours",
    "test_the_last_head_of_a_nested_unet_is_the_deepest",
}  # fmt: skip
"""Files and tests that ``make test-quick`` leaves out: they train, start processes, or run whole networks; by --durations."""


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what is slow; leave the cases of a GPU out where there is none."""
    for item in items:
        if SLOW & {item.path.stem, item.originalname}:
            item.add_marker(pytest.mark.slow)
    if any("cuda" in item.name for item in items):
        import torch

        if not torch.cuda.is_available():
            items[:] = [item for item in items if "[cuda" not in item.name and "-cuda" not in item.name]
