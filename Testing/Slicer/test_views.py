"""What the slice views really show: pixels blended by Slicer's own slice logic, and the views put back to the last pixel."""

from __future__ import annotations

import numpy as np
import pytest

slicer_core = pytest.importorskip("slicer")
from grey_scene import GREY, RAMP, N, add_grey, add_heat, line  # noqa: E402

from MedXAILib.mrml import appearance, layers, layouts, palette, rendering, side_by_side, slices, views  # noqa: E402
from MedXAILib.mrml.colours import set_colors  # noqa: E402
from MedXAILib.mrml.host import VIEWS, private_scene  # noqa: E402
from MedXAILib.outputs.pictures.stage import blended  # noqa: E402


@pytest.fixture
def host():
    return private_scene()


@pytest.fixture
def volume(host):
    return add_grey(host)


def test_several_maps_lie_over_each_other_and_leave_when_they_are_hidden(host, volume):
    left = add_heat(host, np.where(RAMP < 0, 1.0, 0.0), False, "left")
    right = add_heat(host, np.where(RAMP > 0.5, 1.0, 0.0), False, "right")
    third = add_heat(host, np.where(RAMP > 0.9, 1.0, 0.0), False, "third")
    set_colors(right, "Grey")
    maps = [left, right, third]
    layers.show_maps(host, volume, maps, 1.0)
    assert layers.shown_maps(host, maps) == maps
    top = 255 * palette.heat_table(False)[-1, :3]
    pixels = line(host)
    assert np.abs(pixels[RAMP < 0] - top).max() <= 1 and np.abs(pixels[RAMP > 0.9] - top).max() <= 1
    assert (pixels[(RAMP > 0.5) & (RAMP < 0.9)] == 255).all() and (pixels[(RAMP > 0) & (RAMP < 0.5)] == GREY).all()
    layers.show_maps(host, volume, [right], 1.0)
    assert layers.shown_maps(host, maps) == [right]
    assert (line(host)[RAMP < 0.5] == GREY).all() and (line(host)[RAMP > 0.5] == 255).all()
    layers.show_maps(host, volume, [], 1.0)
    assert (line(host) == GREY).all() and layers.shown_maps(host, maps) == []


def test_the_views_come_back_as_they_were_to_the_last_pixel(host, volume):
    host.scene.AddNode(slicer_core.vtkMRMLLayoutNode()).SetViewArrangement(4)
    theirs = add_heat(host, RAMP**2, False, "PET")
    for view, plane in VIEWS.items():
        logic = host.application.GetSliceLogicByLayoutName(view)
        logic.GetSliceNode().SetOrientation(plane)
        logic.GetSliceNode().SetDimensions(200, 300, 1)
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(theirs.GetID())
        logic.FitSliceToBackground()
        logic.GetSliceNode().SetFieldOfView(18, 27, 1)
        logic.SetSliceOffset(23.5)
    pixels = {view: blended(host.application.GetSliceLogicByLayoutName(view)) for view in VIEWS}
    before = views.remember_views(host)

    maps = [add_heat(host, RAMP, True, "one"), add_heat(host, np.abs(RAMP), False, "two")]
    layers.show_maps(host, volume, maps, 0.7)
    side_by_side.show_side_by_side(host, volume, maps, 0.7)
    side_by_side.align(host)
    appearance.set_legend(maps[0], True)
    appearance.set_rendering(host, maps[1], True)
    views.jump(host, (3, 30, 8))
    assert any((blended(host.application.GetSliceLogicByLayoutName(view)) != pixels[view]).any() for view in pixels)

    views.restore_views(host, before)
    assert views.remember_views(host) == before
    for view, expected in pixels.items():
        assert (blended(host.application.GetSliceLogicByLayoutName(view)) == expected).all()
    assert not rendering.rendering_of(maps[1]).GetVisibility()


def test_views_of_another_size_come_back_at_the_same_scale(host, volume):
    logic = host.application.GetSliceLogicByLayoutName("Red")
    logic.GetSliceNode().SetDimensions(200, 200, 1)
    logic.GetSliceNode().SetFieldOfView(50, 50, 1)
    before = views.remember_views(host)
    logic.GetSliceNode().SetDimensions(400, 100, 1)
    views.restore_views(host, before)
    assert logic.GetSliceNode().GetFieldOfView()[:2] == (100, 25)


def test_a_jump_shows_the_place_in_every_view(host, volume):
    layers.show_maps(host, volume, [], 0.5)
    side_by_side.show_side_by_side(host, volume, [add_heat(host, RAMP, True)], 0.5)
    side_by_side.align(host)
    zoomed = host.application.GetSliceLogicByLayoutName("Red").GetSliceNode()
    zoomed.SetFieldOfView(4, 4, 1)
    place = np.array([9.0, 31.0, 25.0])
    views.jump(host, place)
    for logic in layouts.slice_logics(host):
        node = logic.GetSliceNode()
        matrix = node.GetSliceToRAS()
        normal, point = (np.array([matrix.GetElement(row, column) for row in range(3)]) for column in (2, 3))
        assert abs((place - point) @ normal) < 1e-6 and slices.is_in_view(node, place)


def test_side_by_side_gives_each_map_a_view_of_the_same_slice(host, volume):
    host.scene.AddNode(slicer_core.vtkMRMLLayoutNode()).SetViewArrangement(3)
    maps = [add_heat(host, np.full(N, value), False, str(value)) for value in (1.0, 2.0, 3.0, 4.0)]
    red = host.application.GetSliceLogicByLayoutName("Red")
    layers.show_maps(host, volume, maps[:1], 1.0)
    red.SetSliceOffset(27.0)
    side_by_side.show_side_by_side(host, volume, maps, 0.5)
    side_by_side.align(host)
    layout = layouts.layout_node(host)
    description = layout.GetLayoutDescription(layout.GetViewArrangement())
    assert description.count("<view ") == 4 and layout.ParseLayout(description) is not None
    for n, heat in enumerate(maps, 1):
        logic = host.application.GetSliceLogicByLayoutName(f"MedXAI{n}")
        composite = logic.GetSliceCompositeNode()
        shown = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetLinkedControl()
        assert shown == (volume.GetID(), heat.GetID(), 1)
        assert logic.GetSliceOffset() == pytest.approx(27.0)
    side_by_side.show_side_by_side(host, volume, maps[:2], 0.5)
    side_by_side.align(host)
    assert host.application.GetSliceLogicByLayoutName("MedXAI3").GetSliceCompositeNode().GetForegroundVolumeID() is None
    side_by_side.leave_side_by_side(host)
    assert layout.GetViewArrangement() == 3 and not layouts.is_side_by_side(host)
