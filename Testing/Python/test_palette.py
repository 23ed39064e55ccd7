"""The colours of maps: even to the eye, and told apart by those who see fewer."""

from __future__ import annotations

import numpy as np
import pytest

from MedXAILib.mrml import overlay, palette


def deuteranope(rgb: np.ndarray) -> np.ndarray:
    """Full deuteranopia in linear RGB (Machado, Oliveira and Fernandes 2009, table 1)."""
    matrix = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ matrix.T, 0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


def test_the_conversion_to_lab_is_the_standard_one():
    skimage_color = pytest.importorskip("skimage.color")
    rgb = np.random.default_rng(0).uniform(size=(200, 3))
    assert np.abs(palette.rgb_to_lab(rgb) - skimage_color.rgb2lab(rgb)).max() < 0.05
    assert np.abs(palette.lab_to_rgb(palette.rgb_to_lab(rgb)) - rgb).max() < 1e-6


@pytest.mark.parametrize("see", [lambda rgb: rgb, deuteranope], ids=["all colours", "deuteranopia"])
def test_heat_is_even_and_readable_by_lightness_alone(see):
    seen = palette.rgb_to_lab(see(palette.heat_table(False)[:, :3]))
    assert (np.diff(seen[:, 0]) > 0).all()
    assert all(np.linalg.norm(seen[one] - seen[one + 25]) > 6 for one in range(230))


def test_equal_steps_look_equal():
    lab = palette.rgb_to_lab(palette.heat_table(False)[:, :3])
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert steps.max() / steps.min() < 1.6


@pytest.mark.parametrize("see", [lambda rgb: rgb, deuteranope], ids=["all colours", "deuteranopia"])
def test_for_and_against_stay_apart(see):
    table = palette.heat_table(True)
    seen = palette.rgb_to_lab(see(table[:, :3]))
    shown = np.flatnonzero(table[:128, 3])
    assert (np.linalg.norm(seen[shown] - seen[255 - shown], axis=1) > 25).all()
    assert (np.diff(seen[:128, 0]) < 0).all() and (np.diff(seen[128:, 0]) > 0).all()
    share = np.abs(np.linspace(-1, 1, 256))
    assert (table[:, 3] == (share >= 0.3)).all()


def test_the_displayed_limit_is_where_one_percent_of_the_mass_lies():
    values = np.random.default_rng(3).laplace(size=(20, 30, 40)).astype(np.float32)
    limit = overlay.display_limit(values)
    size = np.abs(values.ravel().astype(float))
    above, with_it = size[size > limit].sum() / size.sum(), size[size >= limit].sum() / size.sum()
    assert above <= 0.01 <= with_it
    padded = np.zeros((50, 60, 80), np.float32)
    padded[:20, :30, :40] = values
    assert overlay.display_limit(padded) == limit
    assert overlay.display_limit(np.where(values > 0, 0.25, 0.0)) == 0.25
    assert overlay.display_limit(np.zeros((3, 3, 3))) == 1.0
