"""Scorers against bare forward passes and against predictions of the changed inputs; targets of one's own against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixture_nets import model
from torch import nn

from MedXAILib import DifferenceTarget, FunctionTarget, Session, VoxelTarget, explain, predict
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
WINDOWS = {"mode": "windows", "size": [8, 8, 8], "overlap": 0.5}


RAN: list[int] = []
"""How many samples each pass of a classifier had: the network itself is put back as it was after every pass."""


class Classifier(nn.Module):
    """Two classes of a volume or a slice."""

    def __init__(self, dimensions: int):
        super().__init__()
        self.features = (nn.Conv2d, nn.Conv3d)[dimensions - 2](1, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        RAN.append(len(x))
        return self.head(self.features(x).relu().flatten(2).mean(2))


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv3d(4, 2, 3, padding=1))

    def forward(self, x):
        return self.layers(x)


def noise(*shape: int) -> Volume:
    return Volume(np.random.default_rng(3).normal(size=shape).astype(np.float32), AFFINE)


def changed(x: torch.Tensor, count: int) -> torch.Tensor:
    return x + torch.from_numpy(np.random.default_rng(8).normal(size=(count, *x.shape)).astype(np.float32))


@pytest.fixture
def whole():
    torch.manual_seed(1)
    return Session(model(Classifier(3)), noise(6, 7, 8))


def test_of_a_whole_they_are_the_networks_own(whole):
    scorer = whole.scorer(["no", "yes"])
    inputs = changed(scorer.x, 5)
    with torch.no_grad():
        expected = whole.model.network(inputs)
    assert torch.allclose(scorer(inputs), expected, atol=1e-6)
    assert torch.allclose(scorer(scorer.x[None]), whole.model.network(scorer.x[None]).detach(), atol=1e-6)


def test_of_a_slice_they_are_the_networks_of_that_slice():
    torch.manual_seed(1)
    session = Session(model(Classifier(2), spatial={"mode": "slices", "axis": "k"}), noise(5, 7, 8))
    scorer = session.scorer("yes", sample=3)
    assert torch.equal(scorer.x, session.prepared.tensor[:, 3:4])
    inputs = changed(scorer.x, 4)
    with torch.no_grad():
        expected = session.model.network(inputs[:, :, 0])[:, 1:]
    assert torch.allclose(scorer(inputs), expected, atol=1e-6)
    rows = [session.model.network(session.prepared.tensor[None, :, n])[0, 1].item() for n in range(5)]
    assert float(session.scorer("yes")(session.scorer("yes").x[None])) == pytest.approx(max(rows), abs=1e-6)


def test_over_windows_they_are_what_a_prediction_of_the_changed_input_says():
    """Windows are weighed one by one here, and stitched there."""
    torch.manual_seed(2)
    net, volume = model(Segmenter(), task="segmentation", spatial=WINDOWS), noise(12, 10, 14)
    session = Session(net, volume)
    scorer = session.scorer([VoxelTarget((-5, -4, 10), "yes"), VoxelTarget((-12, -8, 20), "no")])
    inputs = changed(scorer.x, 2)
    found = scorer(inputs).numpy()
    for row, one in zip(found, inputs, strict=True):
        logits = predict(net, Volume(one[0].numpy(), AFFINE)).logits
        assert row == pytest.approx([logits[1, 5, 4, 5], logits[0, 10, 8, 12]], abs=1e-5)


def test_many_are_asked_in_batches_counted_and_stopped(whole):
    scorer, seen = whole.scorer("yes"), []
    inputs = changed(scorer.x, 19)
    RAN.clear()
    scorer.progress = lambda done, total, text: seen.append((done, total))
    found = scorer.ask(lambda start, stop: inputs[start:stop], 19)
    assert found.shape == (19, 1) and found.dtype == np.float64
    assert found[:, 0] == pytest.approx(scorer(inputs)[:, 0].numpy(), abs=1e-6)
    assert sum(RAN) == scorer.evaluations == 38
    assert seen[-1] == (19, 19) and seen == sorted(seen) and len(seen) > 1

    def stop(done, total, text):
        raise KeyboardInterrupt

    scorer.progress = stop
    with pytest.raises(KeyboardInterrupt):
        scorer.ask(lambda start, stop: inputs[start:stop], 19)
    assert scorer.evaluations < 38 + 19


@pytest.mark.parametrize(("sample", "says"), [(7, "none: the network sees the volume"), (-1, "none")])
def test_a_slice_that_there_is_not_is_refused(whole, sample, says):
    with pytest.raises(InputError, match=says):
        whole.scorer("yes", sample=sample)


def length(output):
    return output.square().sum(1).sqrt()


@pytest.mark.parametrize(
    ("target", "score", "name"),
    [
        (length, length, "length"),
        (FunctionTarget(length, "norm"), length, "norm"),
        (DifferenceTarget("yes", "no"), lambda output: output[:, 1] - output[:, 0], "yes-minus-no"),
        (lambda output: 3 * output[:, 0], lambda output: 3 * output[:, 0], "lambda"),
    ],
)
def test_any_callable_of_the_output_is_explained(whole, target, score, name):
    """Its gradient map is autograd's own; its scores are its values."""
    net = whole.model.network
    x = whole.prepared.tensor[None].clone().requires_grad_()
    value = score(net(x))
    (expected,) = torch.autograd.grad(value.sum(), x)
    (found,) = explain(whole.model, noise(6, 7, 8), [target], methods="saliency")
    assert np.abs(found.volume.array - expected[0, 0].abs().numpy()).max() <= 1e-6 * expected.abs().max().item()
    assert found.target == name
    assert float(whole.scorer(target)(whole.prepared.tensor[None])) == pytest.approx(value.item(), abs=1e-6)


def test_a_callable_that_gives_no_number_for_each_sample_is_refused_in_a_sentence(whole):
    with pytest.raises(InputError) as caught:
        explain(whole.model, noise(6, 7, 8), [lambda output: output], methods="saliency")
    assert "\n" not in str(caught.value)


def test_a_session_predicts_once(whole):
    whole.predict()
    RAN.clear()
    assert whole.predict() is whole.predict()
    whole.scorer("yes")
    whole.bound(["no"])
    assert not RAN, "what was computed is not computed again"
