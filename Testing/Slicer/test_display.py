"""What the slice views really show: pixels blended by Slicer's own slice logic, and the views put back to the last pixel."""

from __future__ import annotations

import numpy as np
import pytest

from MedXAILib.geometry.volume import Volume

slicer_core = pytest.importorskip("slicer")
from MedXAILib.mrml import colors, display, nodes, scene  # noqa: E402
from MedXAILib.outputs.pictures.snapshot import blended  # noqa: E402

N, MIDDLE = 40, 20.0
GREY = 127


@pytest.fixture
def host():
    return scene.private_scene()


def add_map(host, values: np.ndarray, signed: bool, name: str = "map"):
    """A map whose value depends on R: ``values`` along i."""
    array = np.broadcast_to(values.astype(np.float32), (N, N, N)).copy()
    node = nodes.add_map(host.scene, nodes.Overlay(name, Volume(array, affine()), signed, name))
    node.SetAttribute(display.KIND, "map")
    return node


def affine() -> np.ndarray:
    """1 mm voxels, the middle of the grid at R = A = S = 20."""
    matrix = np.eye(4)
    matrix[:3, 3] = MIDDLE - (N - 1) / 2
    return matrix


@pytest.fixture
def volume(host):
    node = nodes.add_volume(host.scene, Volume(np.full((N, N, N), GREY, np.uint8), affine()), "grey")
    node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    return node


def line(host, view: str = "Red") -> np.ndarray:
    """RGB of each voxel along R, through the middle of an axial slice."""
    logic = host.application.GetSliceLogicByLayoutName(view)
    logic.GetSliceNode().SetDimensions(10 * N, 10 * N, 1)
    logic.FitSliceToBackground()
    return blended(logic)[5 * N, 5::10, :3].astype(int)  # the view is not turned: R to the right


def over(color: np.ndarray, opacity: float) -> np.ndarray:
    return GREY + opacity * (255 * color - GREY)


ramp = np.linspace(-1, 1, N)


def test_the_range_hides_what_lies_outside_and_the_rest_keeps_its_colour_at_every_opacity(host, volume):
    heat = add_map(host, np.abs(ramp), False)
    table = colors.heat_table(False)[:, :3]
    for low, high, opacity in ((0.3, 1.0, 1.0), (0.5, 0.8, 0.5), (0.0, 1.0, 0.25)):
        display.set_range(heat, low, high)
        assert display.range_of(heat) == (low, high)
        display.show_maps(host, volume, [heat], opacity)
        for value, pixel in zip(np.abs(ramp), line(host), strict=True):
            shown = low <= np.float32(value) <= high
            expected = over(table[int(255 * value)], opacity) if shown else GREY
            assert np.abs(pixel - expected).max() <= 5, (low, high, opacity, value)  # 5: a level of 256


@pytest.mark.parametrize("low", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("name", display.PAIRS)
def test_a_signed_map_is_clear_around_zero_and_tells_its_signs_apart(host, volume, low, name):
    heat = add_map(host, 3e-5 * ramp, True)
    display.set_colors(heat, name)
    display.set_range(heat, low * 3e-5, 3e-5)
    display.show_maps(host, volume, [heat], 1.0)
    against, favour = (colors.ramp(anchors, 128) for anchors in display.PAIRS[name])
    for value, pixel in zip(ramp, line(host), strict=True):
        side = favour if value > 0 else against
        if abs(value) < low - 0.01:
            assert (pixel == GREY).all(), value
        elif abs(value) > low + 0.01:
            assert np.abs(pixel - 255 * side[min(127, int(128 * abs(value)))]).max() <= 6, value
    if name == "Blue - orange":
        pixels = line(host)
        assert pixels[1, 2] > pixels[1, 0] and pixels[-2, 0] > pixels[-2, 2]


def test_an_upper_end_of_a_signed_range_hides_the_strongest(host, volume):
    heat = add_map(host, ramp, True)
    display.set_range(heat, 0.2, 0.6)
    display.show_maps(host, volume, [heat], 1.0)
    shown = (line(host) != GREY).any(axis=1)
    strength = np.abs(ramp)
    clear = np.abs(strength - 0.2) > 0.01
    clear &= np.abs(strength - 0.6) > 0.01
    assert (shown == ((strength > 0.2) & (strength < 0.6)))[clear].all()


def test_each_signed_map_has_a_table_of_its_own_and_colours_change_no_value(host, volume):
    one, other = add_map(host, ramp, True, "one"), add_map(host, ramp, True, "other")
    for heat in (one, other):
        display.set_range(heat, 0.3, 1.0)
    display.show_maps(host, volume, [one], 1.0)
    before = line(host)
    display.set_range(other, 0.9, 1.0)
    display.set_colors(other, "Violet - green")
    assert (line(host) == before).all()
    values = nodes.volume_of(other).array
    assert np.array_equal(values[0, 0], ramp.astype(np.float32))
    assert display.range_of(other) == (0.9, 1.0) and display.bounds_of(other) == (0.0, 1.0)


def test_several_maps_lie_over_each_other_and_leave_when_they_are_hidden(host, volume):
    left = add_map(host, np.where(ramp < 0, 1.0, 0.0), False, "left")
    right = add_map(host, np.where(ramp > 0.5, 1.0, 0.0), False, "right")
    third = add_map(host, np.where(ramp > 0.9, 1.0, 0.0), False, "third")
    display.set_colors(right, "Grey")
    maps = [left, right, third]
    display.show_maps(host, volume, maps, 1.0)
    assert display.shown_maps(host, maps) == maps
    top = 255 * colors.heat_table(False)[-1, :3]
    pixels = line(host)
    assert np.abs(pixels[ramp < 0] - top).max() <= 1 and np.abs(pixels[ramp > 0.9] - top).max() <= 1
    assert (pixels[(ramp > 0.5) & (ramp < 0.9)] == 255).all() and (pixels[(ramp > 0) & (ramp < 0.5)] == GREY).all()
    display.show_maps(host, volume, [right], 1.0)
    assert display.shown_maps(host, maps) == [right]
    assert (line(host)[ramp < 0.5] == GREY).all() and (line(host)[ramp > 0.5] == 255).all()
    display.show_maps(host, volume, [], 1.0)
    assert (line(host) == GREY).all() and display.shown_maps(host, maps) == []


def test_the_views_come_back_as_they_were_to_the_last_pixel(host, volume):
    host.scene.AddNode(slicer_core.vtkMRMLLayoutNode()).SetViewArrangement(4)
    theirs = add_map(host, ramp**2, False, "PET")
    for view, plane in scene.PLANES.items():
        logic = host.application.GetSliceLogicByLayoutName(view)
        logic.GetSliceNode().SetOrientation(plane)
        logic.GetSliceNode().SetDimensions(200, 300, 1)
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(theirs.GetID())
        logic.FitSliceToBackground()
        logic.GetSliceNode().SetFieldOfView(18, 27, 1)
        logic.SetSliceOffset(23.5)
    pixels = {view: blended(host.application.GetSliceLogicByLayoutName(view)) for view in scene.PLANES}
    before = display.remember_views(host)

    maps = [add_map(host, ramp, True, "one"), add_map(host, np.abs(ramp), False, "two")]
    display.show_maps(host, volume, maps, 0.7)
    display.side_by_side(host, volume, maps, 0.7)
    display.align(host)
    display.set_legend(maps[0], True)
    display.set_rendering(host, maps[1], True)
    display.jump(host, (3, 30, 8))
    assert any((blended(host.application.GetSliceLogicByLayoutName(view)) != pixels[view]).any() for view in pixels)

    display.put_back(host, before)
    assert display.remember_views(host) == before
    for view, expected in pixels.items():
        assert (blended(host.application.GetSliceLogicByLayoutName(view)) == expected).all()
    assert not display.rendering_of(maps[1]).GetVisibility()


def test_views_of_another_size_come_back_at_the_same_scale(host, volume):
    logic = host.application.GetSliceLogicByLayoutName("Red")
    logic.GetSliceNode().SetDimensions(200, 200, 1)
    logic.GetSliceNode().SetFieldOfView(50, 50, 1)
    before = display.remember_views(host)
    logic.GetSliceNode().SetDimensions(400, 100, 1)
    display.put_back(host, before)
    assert logic.GetSliceNode().GetFieldOfView()[:2] == (100, 25)


def test_a_jump_shows_the_place_in_every_view(host, volume):
    display.show_maps(host, volume, [], 0.5)
    display.side_by_side(host, volume, [add_map(host, ramp, True)], 0.5)
    display.align(host)
    zoomed = host.application.GetSliceLogicByLayoutName("Red").GetSliceNode()
    zoomed.SetFieldOfView(4, 4, 1)
    place = np.array([9.0, 31.0, 25.0])
    display.jump(host, place)
    for logic in display.slice_logics(host):
        node = logic.GetSliceNode()
        matrix = node.GetSliceToRAS()
        normal, point = (np.array([matrix.GetElement(row, column) for row in range(3)]) for column in (2, 3))
        assert abs((place - point) @ normal) < 1e-6 and display.is_in_view(node, place)


def test_side_by_side_gives_each_map_a_view_of_the_same_slice(host, volume):
    host.scene.AddNode(slicer_core.vtkMRMLLayoutNode()).SetViewArrangement(3)
    maps = [add_map(host, np.full(N, value), False, str(value)) for value in (1.0, 2.0, 3.0, 4.0)]
    red = host.application.GetSliceLogicByLayoutName("Red")
    display.show_maps(host, volume, maps[:1], 1.0)
    red.SetSliceOffset(27.0)
    display.side_by_side(host, volume, maps, 0.5)
    display.align(host)
    layout = display.layout_node(host)
    description = layout.GetLayoutDescription(layout.GetViewArrangement())
    assert description.count("<view ") == 4 and layout.ParseLayout(description) is not None
    for n, heat in enumerate(maps, 1):
        logic = host.application.GetSliceLogicByLayoutName(f"MedXAI{n}")
        composite = logic.GetSliceCompositeNode()
        shown = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetLinkedControl()
        assert shown == (volume.GetID(), heat.GetID(), 1)
        assert logic.GetSliceOffset() == pytest.approx(27.0)
    display.side_by_side(host, volume, maps[:2], 0.5)
    display.align(host)
    assert host.application.GetSliceLogicByLayoutName("MedXAI3").GetSliceCompositeNode().GetForegroundVolumeID() is None
    display.leave_side_by_side(host)
    assert layout.GetViewArrangement() == 3 and not display.is_side_by_side(host)


def test_the_rendering_follows_range_and_colours_and_is_made_once(host, volume):
    heat = add_map(host, ramp, True)
    display.set_rendering(host, heat, True)
    count = heat.GetNumberOfDisplayNodes()
    display.set_rendering(host, heat, False)
    display.set_rendering(host, heat, True)
    assert heat.GetNumberOfDisplayNodes() == count
    display.set_range(heat, 0.5, 1.0)
    display.set_colors(heat, "Violet - green")
    look = display.rendering_of(heat).GetVolumePropertyNode()
    opacity, color = look.GetScalarOpacity(), look.GetColor()
    assert opacity.GetValue(0.45) == opacity.GetValue(-0.45) == opacity.GetValue(0) == 0
    assert opacity.GetValue(0.9) == pytest.approx(opacity.GetValue(-0.9)) and opacity.GetValue(0.9) > 0.3
    assert np.allclose(color.GetColor(1.0), colors.ramp(display.PAIRS["Violet - green"][1], 128)[-1], atol=0.01)


@pytest.mark.parametrize("name", display.RAMPS)
def test_every_ramp_rises_in_lightness(name):
    lightness = colors.rgb_to_lab(colors.ramp(display.RAMPS[name], 256))[:, 0]
    assert (np.diff(lightness) > 0).all() and np.ptp(lightness) > 70


@pytest.mark.parametrize("name", display.PAIRS)
def test_the_two_sides_of_every_pair_stay_apart(name):
    against, favour = (colors.rgb_to_lab(colors.ramp(anchors, 128)) for anchors in display.PAIRS[name])
    for side in (against, favour):
        assert (np.diff(side[:, 0]) > 0).all()
    assert (np.linalg.norm(against - favour, axis=1)[40:] > 25).all()
