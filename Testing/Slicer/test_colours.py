"""What colours and range make of a map: pixels blended by Slicer's own slice logic."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer")
from grey_scene import GREY, RAMP, add_grey, add_heat, line  # noqa: E402

from MedXAILib.mrml import appearance, colours, layers, nodes, palette, rendering  # noqa: E402
from MedXAILib.mrml.host import private_scene  # noqa: E402


@pytest.fixture
def host():
    return private_scene()


@pytest.fixture
def volume(host):
    return add_grey(host)


def over(color: np.ndarray, opacity: float) -> np.ndarray:
    return GREY + opacity * (255 * color - GREY)


def test_the_range_hides_what_lies_outside_and_the_rest_keeps_its_colour_at_every_opacity(host, volume):
    heat = add_heat(host, np.abs(RAMP), False)
    table = palette.heat_table(False)[:, :3]
    for low, high, opacity in ((0.3, 1.0, 1.0), (0.5, 0.8, 0.5), (0.0, 1.0, 0.25)):
        colours.set_range(heat, low, high)
        assert colours.range_of(heat) == (low, high)
        layers.show_maps(host, volume, [heat], opacity)
        for value, pixel in zip(np.abs(RAMP), line(host), strict=True):
            shown = low <= np.float32(value) <= high
            expected = over(table[int(255 * value)], opacity) if shown else GREY
            assert np.abs(pixel - expected).max() <= 5, (low, high, opacity, value)  # 5: a level of 256


@pytest.mark.parametrize("low", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("name", palette.PAIRS)
def test_a_signed_map_is_clear_around_zero_and_tells_its_signs_apart(host, volume, low, name):
    heat = add_heat(host, 3e-5 * RAMP, True)
    colours.set_colors(heat, name)
    colours.set_range(heat, low * 3e-5, 3e-5)
    layers.show_maps(host, volume, [heat], 1.0)
    against, favour = (palette.ramp(anchors, 128) for anchors in palette.PAIRS[name])
    for value, pixel in zip(RAMP, line(host), strict=True):
        side = favour if value > 0 else against
        if abs(value) < low - 0.01:
            assert (pixel == GREY).all(), value
        elif abs(value) > low + 0.01:
            assert np.abs(pixel - 255 * side[min(127, int(128 * abs(value)))]).max() <= 6, value
    if name == "Blue - orange":
        pixels = line(host)
        assert pixels[1, 2] > pixels[1, 0] and pixels[-2, 0] > pixels[-2, 2]


def test_an_upper_end_of_a_signed_range_hides_the_strongest(host, volume):
    heat = add_heat(host, RAMP, True)
    colours.set_range(heat, 0.2, 0.6)
    layers.show_maps(host, volume, [heat], 1.0)
    shown = (line(host) != GREY).any(axis=1)
    strength = np.abs(RAMP)
    clear = np.abs(strength - 0.2) > 0.01
    clear &= np.abs(strength - 0.6) > 0.01
    assert (shown == ((strength > 0.2) & (strength < 0.6)))[clear].all()


def test_each_signed_map_has_a_table_of_its_own_and_colours_change_no_value(host, volume):
    one, other = add_heat(host, RAMP, True, "one"), add_heat(host, RAMP, True, "other")
    for heat in (one, other):
        colours.set_range(heat, 0.3, 1.0)
    layers.show_maps(host, volume, [one], 1.0)
    before = line(host)
    colours.set_range(other, 0.9, 1.0)
    colours.set_colors(other, "Violet - green")
    assert (line(host) == before).all()
    values = nodes.volume_of(other).array
    assert np.array_equal(values[0, 0], RAMP.astype(np.float32))
    assert colours.range_of(other) == (0.9, 1.0) and colours.bounds_of(other) == (0.0, 1.0)


def test_the_rendering_follows_range_and_colours_and_is_made_once(host, volume):
    heat = add_heat(host, RAMP, True)
    appearance.set_rendering(host, heat, True)
    count = heat.GetNumberOfDisplayNodes()
    appearance.set_rendering(host, heat, False)
    appearance.set_rendering(host, heat, True)
    assert heat.GetNumberOfDisplayNodes() == count
    colours.set_range(heat, 0.5, 1.0)
    colours.set_colors(heat, "Violet - green")
    look = rendering.rendering_of(heat).GetVolumePropertyNode()
    opacity, color = look.GetScalarOpacity(), look.GetColor()
    assert opacity.GetValue(0.45) == opacity.GetValue(-0.45) == opacity.GetValue(0) == 0
    assert opacity.GetValue(0.9) == pytest.approx(opacity.GetValue(-0.9)) and opacity.GetValue(0.9) > 0.3
    assert np.allclose(color.GetColor(1.0), palette.ramp(palette.PAIRS["Violet - green"][1], 128)[-1], atol=0.01)


@pytest.mark.parametrize("name", palette.RAMPS)
def test_every_ramp_rises_in_lightness(name):
    lightness = palette.rgb_to_lab(palette.ramp(palette.RAMPS[name], 256))[:, 0]
    assert (np.diff(lightness) > 0).all() and np.ptp(lightness) > 70


@pytest.mark.parametrize("name", palette.PAIRS)
def test_the_two_sides_of_every_pair_stay_apart(name):
    against, favour = (palette.rgb_to_lab(palette.ramp(anchors, 128)) for anchors in palette.PAIRS[name])
    for side in (against, favour):
        assert (np.diff(side[:, 0]) > 0).all()
    assert (np.linalg.norm(against - favour, axis=1)[40:] > 25).all()
