"""Superpixels: a partition into connected pieces, as long in mm along every axis, that keeps small lesions whole."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("skimage")

from MedXAILib.attribution.superpixels import superpixels  # noqa: E402


def head(shape, spacing, radius, seed=0):
    """A textured ellipsoid in mm, its mask, and the mm coordinates (3, *shape) from the centre."""
    from scipy.ndimage import gaussian_filter

    spacing = np.asarray(spacing, float)
    at = (np.indices(shape).T - (np.array(shape) - 1) / 2).T * spacing[:, None, None, None]
    inside = np.sqrt((at**2).sum(0)) < radius
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 6 / spacing * (np.array(shape) > 1))
    return ((1 + 0.1 * texture / texture.std()) * inside)[None].astype(np.float32), inside, at


CASES = {
    "cubic": ((40, 40, 40), (3, 3, 3), 50),
    "thick slices": ((20, 64, 64), (6, 1.5, 1.5), 45),
    "thick in the last axis": ((64, 64, 20), (1.5, 1.5, 6), 45),
    "one slice": ((1, 64, 64), (5, 1, 1), 28),
    "one oblong slice": ((1, 96, 32), (5, 1, 3), 42),
}


@pytest.fixture(params=CASES)
def case(request):
    shape, spacing, radius = CASES[request.param]
    x, inside, at = head(shape, spacing, radius)
    return superpixels(x, np.array(spacing, float), inside, 60), inside, at, np.array(spacing, float)


def test_a_partition_without_gaps_the_background_apart(case):
    labels, inside, _, _ = case
    assert labels.dtype == np.int32 and labels.shape == inside.shape
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert np.array_equal(labels == 0, ~inside)
    assert 40 <= labels.max() <= 80


def test_every_piece_is_connected(case):
    from scipy.ndimage import label

    labels = case[0]
    for value in range(1, labels.max() + 1):
        assert label(labels == value)[1] == 1


def test_pieces_are_as_long_in_mm_along_every_axis(case):
    labels, _, at, spacing = case
    deep = [n for n in range(1, labels.max() + 1) if (labels == n).sum() * 60 > 0.5 * (labels > 0).sum()]
    axes = [axis for axis in range(3) if labels.shape[axis] > 1]
    extents = np.array([[at[axis][labels == n].std() for axis in axes] for n in deep]).mean(0)
    extents = np.sqrt(extents**2 + spacing[axes] ** 2 / 12)  # a voxel has a length too
    assert extents.max() / extents.min() < 1.35


def test_pieces_follow_edges():
    x, inside, at = head((1, 64, 64), (1, 1, 1), 28)
    bright = at[1] + 0.3 * at[2] > 3
    labels = superpixels(x + bright * inside, np.ones(3), inside, 40)
    share = [bright[labels == n].mean() for n in range(1, labels.max() + 1)]
    assert np.mean([min(s, 1 - s) for s in share]) < 0.03


@pytest.mark.parametrize("seed", range(6))
def test_a_small_dark_lesion_is_a_piece_of_its_own(seed):
    rng = np.random.default_rng(seed)
    x, inside, at = head((40, 40, 40), (3, 3, 3), 50, seed)
    lesion = np.sqrt(((at.T - rng.uniform(-18, 18, 3)).T ** 2).sum(0)) < rng.uniform(7, 11)
    fluid = np.sqrt((at**2).sum(0)) > 46
    x[0][inside & (lesion | fluid)] = 0.3  # no darker than what every head has
    labels = superpixels(x, np.full(3, 3.0), inside, 100)
    values, counts = np.unique(labels[lesion], return_counts=True)
    best = values[counts.argmax()]
    dice = 2 * counts.max() / (lesion.sum() + (labels == best).sum())
    assert dice > 0.7


def test_intensity_units_and_channels_do_not_matter():
    x, inside, _ = head((24, 24, 24), (4, 4, 4), 40)
    plain = superpixels(x, np.full(3, 4.0), inside, 30)
    assert np.array_equal(superpixels(1000 * x - 500, np.full(3, 4.0), inside, 30), plain)
    assert np.array_equal(superpixels(np.concatenate([x] * 4), np.full(3, 4.0), inside, 30), plain)


def test_large_images_are_cut_on_a_coarser_grid(monkeypatch):
    x, inside, _ = head((40, 40, 40), (3, 3, 3), 50)
    monkeypatch.setattr("MedXAILib.attribution.superpixels.WORKING_VOXELS", 8000)
    labels = superpixels(x, np.full(3, 3.0), inside, 30)
    assert np.array_equal(labels == 0, ~inside) and np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 20 <= labels.max() <= 40


def test_odd_foregrounds():
    x = np.random.default_rng(0).normal(size=(1, 1, 20, 20)).astype(np.float32)
    none, everything = np.zeros((1, 20, 20), bool), np.ones((1, 20, 20), bool)
    assert not superpixels(x, np.ones(3), none, 10).any()
    full = superpixels(x, np.ones(3), everything, 10)
    assert full.min() == 0 and full.max() >= 5
    constant = superpixels(np.zeros_like(x), np.ones(3), everything, 10)
    assert constant.min() == 0 and constant.max() >= 5
    few = none.copy()
    few[0, 4, 4:9] = True
    assert np.array_equal(superpixels(x, np.ones(3), few, 10), few)
    two_islands = none.copy()
    two_islands[0, 1:12, 1:12] = two_islands[0, 18, 18] = True
    labels = superpixels(x, np.ones(3), two_islands, 4)
    assert np.array_equal(labels > 0, two_islands) and (labels == labels[0, 18, 18]).sum() > 1
