"""A session's plan: what it says beforehand is what runs, and what is left out is said why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixture_nets import model
from torch import nn

from MedXAILib import Request, Session
from MedXAILib.attribution.registry import methods
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.session.request import requested

FEW = {"samples": 24, "superpixels": 6}


class Network(nn.Module):
    def __init__(self, dimensions: int):
        super().__init__()
        conv = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
        self.first, self.active, self.features = conv(1, 4, 3, padding=1), nn.ReLU(), conv(4, 4, 3, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.features(self.active(self.first(x))).flatten(2).mean(2))


def session(spatial: str = "whole") -> Session:
    torch.manual_seed(0)
    slices = spatial == "slices"
    net = model(
        Network(2 if slices else 3), spatial={"mode": spatial} | ({"axis": "k"} if slices else {}), layers=["features"]
    )
    array = np.random.default_rng(0).random((6, 18, 21)).astype(np.float32)
    array[:, 5:9, 6:11] += 2
    return Session(net, Volume(array, np.diag([-1.0, -1.0, 2.0, 1.0])))


def test_a_plan_says_what_each_method_will_cost():
    """As many evaluations as its map then says it took."""
    s = session()
    plan = s.plan(requested(methods="all", **FEW))
    assert {step.method.name for step in plan.steps} < set(methods()) and len(plan.steps) > 15
    for step in plan.steps:
        options = {name: FEW[name] for name in FEW.keys() & step.options.keys()}
        maps = s.explain(requested(methods=step.method.name, **options))
        exact = step.method.name == "shap"  # of few superpixels it asks every combination, which are fewer
        assert maps[0].evaluations == pytest.approx(16 if exact else step.evaluations, rel=0.2, abs=1), step.method.name
        if step.method.name != "guidedgradcam":  # a map of the input, by way of a layer
            assert [layer.name for layer in step.layers] == [a.layer for a in maps if a.layer], step.method.name
        assert step.passes == step.evaluations


def test_of_slices_a_plan_counts_those_that_are_explained():
    """All slices by default, but one of the six for what asks the network many times."""
    s = session("slices")
    for given, gradcam, occlusion in ((None, 1, 1 / 6), ("top:2", 1 / 3, 1 / 3), ("all", 1, 1), ("2:5", 1 / 2, 1 / 2)):
        plan = s.plan(requested(methods=["gradcam", "occlusion"], slices=given))
        parts = [step.passes / step.evaluations for step in plan.steps]
        assert parts == pytest.approx([gradcam, occlusion]), given
        assert plan.passes == pytest.approx(sum(step.passes for step in plan.steps))


def test_it_is_worked_out_once_and_names_its_layers():
    s, request = session(), Request(methods=("gradcam", "saliency"))
    plan = s.plan(request)
    assert s.plan(request) is plan
    assert [layer.name for layer in plan.named] == plan.recorded == ["features"] and "card" in plan.why


def test_what_exceeds_the_budget_is_left_out_and_nothing_left_is_refused():
    s = session()
    plan = s.plan(requested(methods=["gradcam", "occlusion"], budget=5))
    assert [step.method.name for step in plan.steps] == ["gradcam"]
    (sentence,) = plan.left_out
    assert sentence.startswith("Occlusion was left out: about ") and "--budget allows 5" in sentence
    with pytest.raises(InputError, match="Nothing is left to do. Occlusion was left out"):
        s.plan(requested(methods=["occlusion"], budget=5))
    with pytest.raises(InputError, match="is for segmentation, and fixture does classification"):
        s.plan(requested(methods=["segxrescam"]))
    with pytest.raises(InputError, match="--slices top:x: give all, top:N"):
        session("slices").plan(Request(slices="top:x"))
    with pytest.raises(InputError, match="feature"):
        s.plan(requested(methods="gradcam", layers="featurs"))
