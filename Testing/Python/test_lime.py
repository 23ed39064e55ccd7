"""LIME against lime itself, a literal ridge regression and planted linear models."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from MedXAILib.attribution.fills import mean_fill  # noqa: E402
from MedXAILib.attribution.lime import fit, lime, switches  # noqa: E402
from MedXAILib.attribution.method import painted as paint  # noqa: E402
from MedXAILib.caveats import texts  # noqa: E402
from MedXAILib.progress import Cancelled  # noqa: E402


def blocks(shape=(12, 12), size=3) -> np.ndarray:
    """Square superpixels of a 2D image."""
    rows, columns = np.indices(shape) // size
    return rows * (shape[1] // size) + columns


def scrambled(batch: torch.Tensor) -> torch.Tensor:
    """Three scores that are not linear in the image."""
    flat = batch.flatten(1)
    waves = torch.stack([torch.sin((n + 1) * torch.arange(flat.shape[1]).double()) for n in range(3)])
    return torch.tanh(flat.double() @ waves.T.to(flat.device) / 3)


def image(seed=0, shape=(3, 12, 12)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_equals_a_literal_weighted_ridge():
    on = switches(200, 16, seed=3)
    scores = np.random.default_rng(1).normal(size=(200, 2)) + on @ np.linspace(-1, 1, 32).reshape(16, 2)
    found = fit(on, scores)
    z = on.astype(float)
    ones = np.ones(16)
    norms = np.maximum(np.sqrt((z**2).sum(1)), 1e-300)
    distance = 1 - (z @ ones) / (norms * np.sqrt(16))
    w = np.sqrt(np.exp(-(distance**2) / 0.25**2))
    for t in range(2):
        y = scores[:, t]
        # minimise sum w (y - b - z c)^2 + |c|^2, with b free: the normal equations of the augmented system
        a = np.hstack([np.ones((200, 1)), z])
        penalty = np.diag([0.0] + [1.0] * 16)
        b, *c = np.linalg.solve(a.T @ (w[:, None] * a) + penalty, a.T @ (w * y))
        residual = y - b - z @ np.array(c)
        r2 = 1 - (w * residual**2).sum() / (w * (y - np.average(y, weights=w)) ** 2).sum()
        np.testing.assert_allclose(found.coefficients[t], c, atol=1e-10)
        np.testing.assert_allclose([found.intercepts[t], found.r2[t]], [b, r2], atol=1e-10)


def test_equals_limes_own_image_explainer():
    from lime.lime_image import LimeImageExplainer

    x, segments = image(), blocks()
    ours = lime(x, scrambled, segments, fill=torch.tensor(0.25).double(), samples=60, seed=5)
    theirs = LimeImageExplainer(feature_selection="none", random_state=5).explain_instance(
        np.moveaxis(x.numpy(), 0, -1),
        lambda images: scrambled(torch.from_numpy(np.moveaxis(images, -1, 1))).numpy(),
        labels=(0, 1, 2),
        top_labels=None,
        hide_color=0.25,
        num_samples=60,
        segmentation_fn=lambda _: segments,
        random_seed=0,
    )
    for t in range(3):
        expected = dict(theirs.local_exp[t])
        np.testing.assert_allclose(ours.coefficients[t], [expected[n] for n in range(16)], atol=1e-12)
        np.testing.assert_allclose(ours.intercepts[t], theirs.intercept[t], atol=1e-12)


def test_recovers_a_planted_linear_model_of_supervoxels(device):
    rng = np.random.default_rng(2)
    segments = np.arange(4 * 4 * 4).reshape(4, 4, 4) // 8
    planted = rng.normal(size=8)
    x = torch.ones(1, 4, 4, 4, device=device)

    def score(batch):
        share = torch.stack([batch[:, 0, torch.from_numpy(segments == n)].mean(1) for n in range(8)], 1)
        return (share.cpu().double() @ torch.from_numpy(planted))[:, None] + 2

    found = lime(x, score, segments, fill=torch.zeros_like(x), samples=3000, seed=0, batch=500)
    np.testing.assert_allclose(found.coefficients[0], planted, atol=1e-2)  # the ridge shrinks by about 1 in 500
    assert found.intercepts[0] == pytest.approx(2, abs=2e-2) and found.r2[0] > 0.999
    assert found.evaluations == 3000
    np.testing.assert_allclose(paint(found.coefficients[0], segments)[segments == 3], planted[3], atol=1e-2)


def test_what_the_network_sees_equals_a_loop_over_samples_and_superpixels():
    x, segments = image(4), blocks()
    fill = mean_fill(x, torch.from_numpy(segments > 4))
    seen = []

    def score(batch):
        seen.append(batch.clone())
        return batch.flatten(1).sum(1, keepdim=True)

    lime(x, score, segments, fill=fill, samples=21, seed=9, batch=8)
    assert [len(batch) for batch in seen] == [8, 8, 5]
    assert torch.equal(seen[0][0], x)
    for row, masked in zip(switches(21, 16, 9), torch.cat(seen), strict=True):
        expected = x.clone()
        for n in np.flatnonzero(~row):
            expected[:, torch.from_numpy(segments == n)] = fill[:, torch.from_numpy(segments == n)]
        assert torch.equal(masked, expected)


def test_fill_is_the_mean_on_either_side_of_the_foreground():
    x = image(6)
    inside = torch.from_numpy(blocks() > 4)
    fill = mean_fill(x, inside)
    for c in range(3):
        assert fill[c][inside].unique().item() == pytest.approx(x[c][inside].mean().item())
        assert fill[c][~inside].unique().item() == pytest.approx(x[c][~inside].mean().item())
    everywhere = mean_fill(x, torch.ones_like(inside))
    assert torch.allclose(everywhere, x.mean((1, 2), keepdim=True).expand_as(x))


def test_several_scores_at_once_equal_one_by_one_and_the_seed_decides():
    arguments = {"fill": torch.tensor(0.0).double(), "samples": 50}
    together = lime(image(), scrambled, blocks(), seed=1, **arguments)
    for t in range(3):
        alone = lime(image(), lambda b, t=t: scrambled(b)[:, [t]], blocks(), seed=1, batch=50, **arguments)
        np.testing.assert_allclose(alone.coefficients[0], together.coefficients[t], atol=1e-12)
    again = lime(image(), scrambled, blocks(), seed=1, **arguments)
    other = lime(image(), scrambled, blocks(), seed=2, **arguments)
    assert np.array_equal(again.coefficients, together.coefficients)
    assert not np.allclose(other.coefficients, together.coefficients)


def test_cancelling_stops_after_the_running_batch():
    calls, ticks = [], []

    def progress(done, total, text):
        ticks.append((done, total, text))
        if done >= 16:
            raise Cancelled

    def score(batch):
        calls.append(len(batch))
        return scrambled(batch)

    with pytest.raises(Cancelled):
        lime(image(), score, blocks(), fill=torch.tensor(0.0).double(), samples=80, seed=0, batch=8, progress=progress)
    assert calls == [8, 8] and ticks == [(8, 80, "LIME"), (16, 80, "LIME")]


def test_no_gradients_are_recorded():
    weight = torch.ones((), requires_grad=True)
    seen = []

    def score(batch):
        seen.append((batch.flatten(1).sum(1, keepdim=True) * weight).requires_grad)
        return scrambled(batch)

    lime(image().requires_grad_(), score, blocks(), fill=torch.tensor(0.0).double(), samples=10, seed=0)
    assert not any(seen)


def test_limits_say_what_the_surrogate_is_worth():
    segments = blocks()
    zero = torch.tensor(0.0).double()
    linear = lime(torch.ones(1, 12, 12).double(), lambda b: b.mean((1, 2, 3))[:, None], segments, fill=zero,
                  samples=400, seed=0)  # fmt: skip
    assert texts(linear.caveats()) == [f"LIME's surrogate explains R2 = {linear.r2[0]:.2f} of the score's variance."]

    def parity(batch):  # no linear model can describe it
        return (batch[:, 0, ::3, ::3].flatten(1).sum(1) % 2)[:, None]

    poor = lime(torch.ones(1, 12, 12).double(), parity, segments, fill=zero, samples=400, seed=0)
    assert poor.r2[0] < 0.5 and "poorly" in texts(poor.caveats())[1]
    few = lime(torch.ones(1, 12, 12).double(), parity, segments, fill=zero, samples=10, seed=0)
    (sentence,) = texts(few.caveats())
    assert "10 samples for 16 superpixels" in sentence, "an R2 of a fit with fewer samples than features says nothing"
    deaf = lime(torch.ones(1, 12, 12).double(), lambda b: torch.full((len(b), 1), 3.7), segments, fill=zero,
                samples=50, seed=0)  # fmt: skip
    assert not deaf.coefficients.any() and "never changed the score" in texts(deaf.caveats())[0]
