"""The registry and the taxonomy: what is listed exists, what exists is listed, and the README says the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from MedXAILib.attribution.method import FAILS, PASSES, Cost
from MedXAILib.attribution.option import settled
from MedXAILib.attribution.registry import chosen, methods
from MedXAILib.attribution.taxonomy import IMPLEMENTED, OUT_OF_SCOPE, PLANNED, TAXONOMY, markdown
from MedXAILib.errors import InputError

ROOT = Path(__file__).parents[2]


def test_every_method_has_a_row_and_every_row_a_method_or_a_reason():
    assert {row.name for row in TAXONOMY if row.status == IMPLEMENTED} == set(methods())
    assert {row.status for row in TAXONOMY} == {IMPLEMENTED, PLANNED, OUT_OF_SCOPE}
    assert all(row.why for row in TAXONOMY if row.status != IMPLEMENTED)


def test_the_readme_holds_the_table_that_the_command_prints():
    run = [sys.executable, "-m", "MedXAILib", "methods", "--markdown"]
    printed = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
    assert printed == markdown() and printed in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_randomisation_check_is_what_was_published():
    """Adebayo et al. 2018: gradients and Grad-CAM pass, guided backpropagation and guided Grad-CAM fail."""
    assert {name for name, m in methods().items() if m.randomisation == PASSES} == {"saliency", "gradcam", "layerwise"}
    assert {name for name, m in methods().items() if m.randomisation == FAILS} == {
        "guidedbackprop",
        "guidedgradcam",
        "deconvnet",
    }


def test_costs_are_evaluations():
    cost = {"shape": (1, 64, 64), "spacing": (1.0, 1.0, 1.0), "by_slices": True}
    found = {name: m.evaluated(Cost(options=settled(m.options, {}), **cost), 32) for name, m in methods().items()}
    assert found["gradcam"] == found["saliency"] == 1 and found["scorecam"] == 33 and found["lime"] == 500
    assert 200 <= found["occlusion"] <= 250 and found["rise"] == 1000 and found["ig"] == 52


def test_all_means_every_method_once():
    assert [m.name for m in chosen(["lime", "all"])] == ["lime", *[name for name in methods() if name != "lime"]]
    with pytest.raises(InputError, match="no method 'gradcan'"):
        chosen(["gradcan"])
