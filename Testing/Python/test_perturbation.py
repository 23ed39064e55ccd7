"""Occlusion, RISE and Kernel SHAP against captum, literal loops, exact enumeration and planted evidence."""

from __future__ import annotations

import re
from functools import partial
from itertools import permutations, product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from MedXAILib.attribution.perturbation import draws, masks, occlusion, occlusion_evaluations, patches, rise  # noqa: E402
from MedXAILib.attribution.shap import kernel_shap  # noqa: E402
from MedXAILib.caveats import texts  # noqa: E402
from MedXAILib.errors import InputError  # noqa: E402
from MedXAILib.progress import Cancelled  # noqa: E402

ZERO = torch.tensor(0.0).double()


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def network(channels: int, dimensions: int, scores: int = 2) -> torch.nn.Module:
    """A small convolutional network with interactions, in float64."""
    torch.manual_seed(1)
    convolution = (torch.nn.Conv2d, torch.nn.Conv3d)[dimensions - 2]
    return torch.nn.Sequential(
        convolution(channels, 4, 3), torch.nn.Tanh(), convolution(4, 3, 2, 2), torch.nn.Tanh(), torch.nn.Flatten(),
        torch.nn.LazyLinear(scores),
    ).double()  # fmt: skip


def blocks(*shape: int, count: int) -> np.ndarray:
    """``count`` scattered superpixels."""
    return np.random.default_rng(3).permutation(np.arange(np.prod(shape)) % count).reshape(shape)


def calling(method: str):
    """A method with settings of its own: about 30 evaluations of an image of (3, 12, 12)."""
    return {
        "Occlusion": partial(occlusion, patch=(4, 4), stride=(2, 2)),
        "RISE": partial(rise, samples=26, seed=0, cells=(3, 3)),
        "Kernel SHAP": partial(kernel_shap, segments=blocks(12, 12, count=9), samples=40, seed=0),
    }[method]


EVERY = pytest.mark.parametrize("method", ["Occlusion", "RISE", "Kernel SHAP"])


def result(found) -> np.ndarray:
    return found.values if hasattr(found, "values") else found.coefficients


# Occlusion


@pytest.mark.parametrize(("shape", "patch", "stride"), [((14, 18), (6, 4), (4, 2)), ((6, 9, 8), (2, 3, 4), (2, 2, 2))])
def test_occlusion_equals_captum(shape, patch, stride):
    from captum.attr import Occlusion

    x, net = image(2, *shape), network(2, len(shape))
    fill = image(2, *shape, seed=5)
    found = occlusion(x, net, fill=fill, patch=patch, stride=stride)
    for target in range(2):
        expected = Occlusion(net).attribute(
            x[None], sliding_window_shapes=(2, *patch), strides=(2, *stride), baselines=fill[None], target=target
        )
        np.testing.assert_allclose(found.values[target], expected[0, 0].detach(), atol=1e-7)


@pytest.mark.parametrize(("shape", "patch", "stride"), [((11, 8), (4, 3), (3, 3)), ((1, 9, 10), (3, 4, 4), (1, 3, 2))])
def test_occlusion_equals_a_literal_loop_up_to_the_far_edge(shape, patch, stride, device):
    x = image(2, *shape).to(device)
    fill = x.mean(tuple(range(1, x.ndim)), keepdim=True)
    waves = torch.sin(torch.arange(2 * x.numel(), device=device).double()).reshape(2, -1)

    def score(batch):
        return torch.tanh(batch.flatten(1) @ waves.T / 3)

    total, covered = np.zeros((2, *shape)), np.zeros(shape)
    starts = []
    for n, p, step in zip(shape, patch, stride, strict=True):
        axis = [start for start in range(n) if start % step == 0 and start + p < n]
        starts.append([*axis, max(n - p, 0)])
    for corner in product(*starts):
        hidden = x.clone()
        window = tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))
        hidden[:, *window] = fill.expand_as(x)[:, *window]
        total[:, *window] += (score(x[None]) - score(hidden[None]))[0].cpu().numpy().reshape(2, *[1] * len(shape))
        covered[window] += 1
    assert covered.min() > 0
    found = occlusion(x, score, fill=fill, patch=patch, stride=stride, batch=5)
    np.testing.assert_allclose(found.values, total / covered, atol=1e-7)
    count = np.prod([len(axis) for axis in starts])
    assert found.evaluations == occlusion_evaluations(shape, patch, stride) == 1 + count


def test_occlusion_finds_a_planted_patch_and_asks_nothing_about_air():
    x = torch.zeros(1, 12, 16, 16).double()
    x[:, 4:, 4:, 4:] = 1
    x[:, 5:8, 9:12, 6:9] = 3
    asked = []

    def score(batch):
        asked.append(len(batch))
        bright = (batch - 2).clamp(min=0).sum((1, 2, 3, 4))
        return torch.stack([bright, -bright, 7 + 1e-9 * bright], 1)  # the last moves by rounding only

    found = occlusion(x, score, fill=ZERO, patch=(4, 4, 4), stride=(2, 2, 2))
    z, y, w = np.unravel_index(found.values[0].argmax(), x.shape[1:])
    assert 5 <= z < 8 and 9 <= y < 12 and 6 <= w < 9
    np.testing.assert_array_equal(found.values[1], -found.values[0])
    assert (
        found.caveats[0] == () and not found.values[2].any() and "never changed the score" in texts(found.caveats[2])[0]
    )
    # starts 0, 2, .. 8 and 0, 2, .. 12; those at 0 lie in the air
    assert (
        sum(asked)
        == found.evaluations
        == 1 + 5 * 7 * 7 - sum(1 for c in product(range(5), range(7), range(7)) if 0 in c)
    )


def test_defect_05_occlusion_explains_the_score_and_not_a_guess_from_the_input_channels():
    x, net = image(3, 8, 8), network(3, 2, scores=1)
    found = occlusion(x, net, fill=ZERO, patch=(4, 4), stride=(4, 4))
    with torch.no_grad():
        for top, left in product((0, 4), (0, 4)):
            hidden = x.clone()
            hidden[:, top : top + 4, left : left + 4] = 0
            drop = (net(x[None]) - net(hidden[None])).item()
            np.testing.assert_allclose(found.values[0, top : top + 4, left : left + 4], drop, rtol=1e-6)


def test_default_patches_are_cubes_in_mm_that_overlap_by_half():
    assert patches((64, 64), (1, 1)) == ((8, 8), (4, 4))
    assert occlusion_evaluations((64, 64), (8, 8), (4, 4)) == 226
    assert patches((1, 64, 64), (5, 0.7, 0.7)) == ((1, 8, 8), (1, 4, 4)), "a slice of a stack"
    patch, stride = patches((96, 96, 96), (1, 1, 1))
    assert 400 < occlusion_evaluations((96, 96, 96), patch, stride) < 600
    spacing = np.array([5, 0.8, 0.8])
    patch, stride = patches((40, 250, 250), spacing)
    np.testing.assert_allclose(patch * spacing, 2 * 200 / 9, atol=2.5)
    np.testing.assert_allclose(stride * spacing, 200 / 9, atol=2.5)
    assert patches((3, 3, 300), (1, 1, 1), per_axis=5) == ((3, 3, 100), (3, 3, 50))
    assert patches((4, 4), (1, 1)) == ((1, 1), (1, 1))
    with pytest.raises(InputError, match="Patches of 3 voxels cannot be 4 voxels apart"):
        occlusion_evaluations((9, 9), (3, 3), (3, 4))


# RISE


@pytest.mark.parametrize(("shape", "cells"), [((12, 8), (3, 2)), ((6, 8, 4), (3, 2, 4)), ((1, 12, 12), (1, 4, 3))])
def test_masks_are_enlarged_grids_cut_out_at_the_shift(shape, cells):
    x = image(1, *shape)
    grids, shifts = draws(7, cells, seed=2)
    cell = np.array(shape) // cells
    whole = np.floor(shifts * cell)  # whole voxels, so that the enlarged grid can be cut
    found = masks(grids, whole / cell, x)
    for grid, shift, mask in zip(grids, whole.astype(int), found, strict=True):
        large = torch.nn.functional.interpolate(
            torch.from_numpy(grid)[None, None].double(),
            size=tuple((np.array(cells) + 1) * cell),
            mode="bilinear" if len(shape) == 2 else "trilinear",
        )[0, 0]
        window = tuple(slice(s, s + n) for s, n in zip(shift, shape, strict=True))
        assert large[window].shape == shape
        np.testing.assert_allclose(mask, large[window], atol=1e-12)


def test_grids_are_fair_coins_and_masks_have_a_mean_of_one_half():
    grids, shifts = draws(4000, (5, 7), seed=0)
    np.testing.assert_allclose(grids.mean(0), 0.5, atol=0.04)
    assert 0 <= shifts.min() < 0.01 and 0.99 < shifts.max() < 1
    m = masks(grids, shifts, torch.zeros(1, 13, 17))
    assert m.min() == 0 and m.max() == 1
    np.testing.assert_allclose(m.mean(0), 0.5, atol=0.03)


@pytest.mark.parametrize(("shape", "cells"), [((13, 10), (4, 3)), ((5, 6, 7), (2, 3, 20)), ((1, 9, 9), (4, 3, 3))])
def test_rise_equals_a_literal_loop_over_the_formula(shape, cells, device):
    x, net = image(2, *shape).to(device), network(2, 2).to(device)
    fill = x.amin(tuple(range(1, x.ndim)), keepdim=True)

    def score(batch):  # any number of axes as an image
        return net(batch.reshape(len(batch), 2, shape[0] * shape[1], -1)) if len(shape) == 3 else net(batch)

    found = rise(x, score, fill=fill, samples=19, seed=4, cells=cells, batch=8)
    m = masks(*draws(19, [min(n, c) for n, c in zip(shape, cells, strict=True)], seed=4), x)
    with torch.no_grad():
        s = np.array([score((mask * x + (1 - mask) * fill)[None])[0].cpu().numpy() for mask in m])
    for target in range(2):
        expected = sum((s[n, target] - s[:, target].mean()) * m[n].cpu().numpy() for n in range(19)) / (19 * 0.5)
        np.testing.assert_allclose(found.values[target], expected, atol=1e-7)
    assert found.evaluations == 19


@pytest.mark.parametrize("shape", [(32, 32), (1, 32, 32), (16, 16, 16)])
def test_rise_finds_a_planted_blob_whatever_the_score_is_counted_from(shape):
    x = 0.1 * image(1, *shape).float()
    blob = (..., slice(8, 13), slice(9, 14)) if shape[0] != 16 else (..., slice(8, 13), slice(2, 7), slice(9, 14))
    x[blob] = 5
    inside = np.zeros(shape, bool)
    inside[blob] = True

    def score(batch):
        total = batch.flatten(1).mean(1)
        return torch.stack([total, -total, total - 50], 1)

    found = rise(x, score, fill=torch.tensor(0.0), samples=600, seed=0, cells=[min(n, 6) for n in shape], batch=50)
    assert inside[np.unravel_index(found.values[0].argmax(), shape)]
    assert found.values[0][inside].min() > found.values[0].mean() > -found.values[0][inside].min()
    np.testing.assert_allclose(found.values[1], -found.values[0], atol=1e-6)
    np.testing.assert_allclose(found.values[2], found.values[0], atol=1e-4)


def test_rise_tells_noise_from_evidence():
    x, rng = image(1, 24, 24).abs() + 1, np.random.default_rng(1)

    def score(batch):
        return torch.stack([torch.from_numpy(rng.normal(size=len(batch))), batch[:, 0, 4:8, 4:8].mean((1, 2)),
                            batch.sum((1, 2, 3)) * 0 - 3], 1)  # fmt: skip

    found = rise(x, score, fill=ZERO, samples=500, seed=0, cells=(6, 6), batch=100)
    chance = [int(re.search(r"chance alone gives (\d+)%", texts(found.caveats[n])[0])[1]) for n in (0, 1)]
    assert chance[0] > 70 and "mostly noise" in texts(found.caveats[0])[1]
    assert chance[1] < 30 and len(texts(found.caveats[1])) == 1
    assert not found.values[2].any() and "never changed the score" in texts(found.caveats[2])[0]


# Kernel SHAP


def game(x: torch.Tensor, segments: np.ndarray, score, fill):
    """The score of each coalition, a tuple of superpixels."""
    known = {}

    def value(coalition) -> np.ndarray:
        key = tuple(sorted(coalition))
        if key not in known:
            shown = torch.from_numpy(np.isin(segments, key))
            with torch.no_grad():
                known[key] = score(torch.where(shown, x, fill)[None])[0].double().numpy()
        return known[key]

    return value


def shapley(value, count: int) -> np.ndarray:
    """Exact values: the mean over all orders of what a superpixel adds to those before it."""
    values, orders = 0, list(permutations(range(count)))
    for order in orders:
        added = np.empty((count, len(value(()))))
        for place, n in enumerate(order):
            added[n] = value(order[: place + 1]) - value(order[:place])
        values = values + added / len(orders)
    return values.T


@pytest.mark.parametrize("shape", [(9, 9), (4, 5, 6)])
def test_enumerated_shapley_values_are_the_means_over_all_orders(shape):
    x, net, segments = image(2, *shape), network(2, len(shape)), blocks(*shape, count=6)
    fill = image(2, *shape, seed=8)
    expected = shapley(game(x, segments, net, fill), 6)
    found = kernel_shap(x, net, segments, fill=fill, samples=62, seed=0)
    assert found.exact and found.evaluations == 64 and not found.errors.any()
    np.testing.assert_allclose(found.coefficients, expected, atol=1e-12)
    with torch.no_grad():
        np.testing.assert_allclose(found.base, net(fill[None])[0], atol=1e-14)
    assert texts(found.caveats(1)) == [
        "The Shapley values are exact: all 2^6 coalitions of superpixels were evaluated."
    ]
    assert not kernel_shap(x, net, segments, fill=fill, samples=61, seed=0).exact


def test_one_superpixel_has_the_whole_difference():
    x, net = image(2, 9, 9), network(2, 2)
    found = kernel_shap(x, net, np.zeros((9, 9), int), fill=ZERO, samples=10, seed=0)
    with torch.no_grad():
        expected = net(x[None]) - net(0 * x[None])
    np.testing.assert_allclose(found.coefficients, expected.T, atol=1e-14)
    assert found.exact and found.evaluations == 2


def test_sampled_shapley_values_of_a_linear_score_are_its_coefficients(device):
    segments = blocks(10, 12, count=30)
    planted = np.random.default_rng(2).normal(size=(2, 30))
    x = torch.ones(1, 10, 12, device=device).double()
    share = torch.from_numpy(np.stack([segments.ravel() == n for n in range(30)]) / 4.0).to(device)

    def score(batch):
        return batch.flatten(1) @ share.T @ torch.from_numpy(planted.T).to(device) + 5

    found = kernel_shap(x, score, segments, fill=torch.zeros_like(x), samples=400, seed=0, batch=64)
    np.testing.assert_allclose(found.coefficients, planted, atol=1e-12)
    np.testing.assert_allclose(found.base, 5)
    assert (
        not found.exact and found.errors.max() < 1e-12 and "up to 0% of the largest value" in texts(found.caveats())[0]
    )


def test_sampled_shapley_values_are_unbiased_and_as_far_off_as_their_standard_errors_say():
    x, segments, asked = image(1, 6, 8).abs() + 1, blocks(6, 8, count=12), []

    def score(
        batch,
    ):  # nearly all of its change comes with the last superpixels, so that coalitions of every size matter
        asked.append(batch)
        total = batch.flatten(1).sum(1) / x.sum()
        return torch.stack([torch.exp(6 * total * batch[:, 0, 0, 0]), torch.tanh(9 * total)], 1)

    arguments = {"fill": ZERO, "batch": 5000}
    exact = kernel_shap(x, score, segments, samples=5000, seed=0, **arguments)
    assert exact.exact
    differences = (score(x[None]) - score(0 * x[None]))[0]
    asked.clear()
    runs = [kernel_shap(x, score, segments, samples=400, seed=seed, **arguments) for seed in range(100)]
    for run, inputs in zip(runs, asked, strict=True):
        assert not run.exact and len(inputs.unique(dim=0)) == len(inputs) == run.evaluations <= 402
    for found in (exact, *runs):  # efficiency
        np.testing.assert_allclose(found.coefficients.sum(1), differences, atol=1e-9, rtol=1e-12)
    off = np.array([run.coefficients - exact.coefficients for run in runs])
    claimed = np.sqrt(np.mean([run.errors**2 for run in runs], axis=0))
    off /= claimed
    assert np.abs(off.mean(0)).max() < 0.4, "the mean of 100 has a tenth of the error of one"
    assert 0.8 < np.sqrt((off**2).mean()) < 1.2


def test_kernel_shap_is_near_captums_on_a_perceptron():
    from captum.attr import KernelShap

    torch.manual_seed(2)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(36, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
    ).double()
    x, segments = 2 * image(1, 6, 6), blocks(6, 6, count=8)
    ours = kernel_shap(x, net, segments, fill=ZERO, samples=254, seed=0)
    sampled = kernel_shap(x, net, segments, fill=ZERO, samples=250, seed=0)
    assert ours.exact and not sampled.exact
    torch.manual_seed(0)
    theirs = KernelShap(net).attribute(
        x[None],
        target=1,
        feature_mask=torch.from_numpy(segments)[None, None],
        n_samples=2000,
        perturbations_per_eval=100,
    )[0, 0]
    expected = np.array([theirs[segments == n].mean() for n in range(8)])
    largest = np.abs(ours.coefficients[1]).max()
    np.testing.assert_allclose(ours.coefficients[1], expected, atol=0.05 * largest)
    np.testing.assert_allclose(sampled.coefficients[1], expected, atol=0.1 * largest)


def test_limits_say_when_shapley_values_are_rough_or_undetermined():
    x, segments = torch.ones(1, 12, 12).double(), blocks(12, 12, count=36)

    def waves(batch):  # next to nothing but interactions
        total = batch.flatten(1) @ torch.arange(144).double()
        return torch.stack([torch.sin(total), 2 + 1e-9 * torch.sin(total)], 1)

    rough = kernel_shap(x, waves, segments, fill=ZERO, samples=100, seed=0)
    assert "rough" in texts(rough.caveats())[1]
    few = kernel_shap(x, waves, segments, fill=ZERO, samples=40, seed=0)
    assert (
        "evaluations for 36 superpixels do not determine" in texts(few.caveats())[0] and np.isinf(few.errors[0]).all()
    )
    np.testing.assert_allclose(few.coefficients.sum(1), [waves(x[None])[0, 0], 0], atol=1e-9)
    assert (
        not few.coefficients[1].any()
        and not few.errors[1].any()
        and "never changed the score" in texts(few.caveats(1))[0]
    )


# What they have in common


@EVERY
def test_targets_together_equal_one_by_one_whatever_the_batch(method):
    x, net = image(3, 12, 12), network(3, 2, scores=3)
    together = calling(method)(x, net, fill=ZERO)
    assert len(result(together)) == 3
    for t in range(3):
        alone = calling(method)(x, lambda b, t=t: net(b)[:, [t]], fill=ZERO, batch=100)
        np.testing.assert_allclose(result(alone)[0], result(together)[t], atol=1e-7)
        assert alone.evaluations == together.evaluations


@pytest.mark.parametrize("method", ["RISE", "Kernel SHAP"])
def test_the_seed_decides(method):
    x, net = image(3, 12, 12), network(3, 2)
    first, again, other = (calling(method)(x, net, fill=ZERO, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(result(first), result(again)) and not np.allclose(result(first), result(other))


@EVERY
def test_cancelling_stops_after_the_running_batch(method):
    net, calls, ticks = network(3, 2), [], []

    def progress(done, total, text):
        ticks.append((done, total, text))
        if done >= 16:
            raise Cancelled

    def score(batch):
        calls.append(len(batch))
        return net(batch)

    x = image(3, 12, 12)
    total = calling(method)(x, net, fill=ZERO).evaluations
    with pytest.raises(Cancelled):
        calling(method)(x, score, fill=ZERO, batch=8, progress=progress)
    assert calls == [8, 8] and ticks == [(8, total, method), (16, total, method)]
    ticks.clear()
    calling(method)(x, net, fill=ZERO, batch=10, progress=lambda *tick: ticks.append(tick))
    assert ticks[-1] == (total, total, method) and ticks[0][0] == 10


@EVERY
def test_no_gradients_are_recorded_and_the_input_is_left_as_it_was(method):
    x, net, seen = image(3, 12, 12).requires_grad_(), network(3, 2), []

    def score(batch):
        output = net(batch)
        seen.append(output.requires_grad or batch.requires_grad)
        return output

    calling(method)(x, score, fill=ZERO)
    assert not any(seen) and torch.equal(x, image(3, 12, 12))
