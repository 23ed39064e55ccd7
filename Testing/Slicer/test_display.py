"""What the section Look makes of the views, with results that the real worker computed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from seen import layers, shown_parts, views


def test_only_this_section_changes_the_views_and_puts_them_back(explained, slicer):
    ui, p = explained.ui, explained.p
    before = views()
    assert ui.maps.rowCount == 2 and not ui.putBack.enabled and "has not changed" in ui.putBack.toolTip
    p.opacity, p.legend = 0.8, False
    p.inputVolume = None
    p.inputVolume = explained.volume
    explained.panel.update()
    assert views() == before, "no map is shown, so there is nothing to change"

    explained.panel.display.show(explained.maps)
    assert layers(slicer) == ["Grad-CAM"] and p.shownMap is explained.maps[0] and ui.putBack.enabled
    ui.maps.cellClicked.emit(1, 1)
    assert layers(slicer) == ["LIME"] and p.shownMap is explained.maps[1], "a click shows another map instead"
    import qt

    ui.maps.item(0, 0).setCheckState(qt.Qt.Checked)
    assert layers(slicer) == ["Grad-CAM", "LIME"], "a box adds one"
    shown = views()
    for _ in range(3):
        explained.panel.update()
    assert views() == shown
    p.opacity = 0.25
    assert {state.opacity for state in views().slices.values()} == {0.25}
    p.sideBySide = p.rendering = True
    ui.putBack.click()
    assert views() == before and not ui.putBack.enabled and not p.sideBySide and not p.rendering
    assert [ui.maps.item(row, 0).checkState() for row in range(2)] == [qt.Qt.Unchecked] * 2
    explained.panel.update()
    assert views() == before


def test_another_volume_takes_the_maps_of_the_former_one_out_of_the_views(explained, computed, slicer):
    from MedXAIPanel import results

    from MedXAILib.mrml import nodes

    p, ui = explained.p, explained.ui
    layout = slicer.app.layoutManager().layout
    explained.panel.display.show(explained.maps)
    p.sideBySide = True
    assert any(shown_parts(explained.maps))
    second = nodes.add_volume(slicer.mrmlScene, computed.volume, "second")
    p.inputVolume = second
    assert not any(shown_parts(explained.maps)) and layers(slicer) == []
    assert slicer.app.layoutManager().layout == layout and not p.sideBySide and not ui.sideBySide.checked
    p.inputVolume = explained.volume
    assert layers(slicer) == [], "they are back when a row is clicked"
    ui.maps.cellClicked.emit(0, 1)
    assert layers(slicer) == ["Grad-CAM"] and shown_parts(explained.maps) == [True, False]

    maps = results.addMaps(second, computed.event, computed.folder / computed.event["folder"])
    p.inputVolume = second
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert red.GetBackgroundVolumeID() == second.GetID() and red.GetForegroundVolumeID() == p.shownMap.GetID()
    assert p.shownMap in maps, "maps were shown, so this volume's are shown too"
    assert any(shown_parts(maps)) and not any(shown_parts(explained.maps))


@pytest.mark.parametrize("open_", [True, False])
def test_maps_of_a_removed_volume_leave_the_views(explained, slicer, computed, open_):
    from MedXAILib.mrml import nodes
    from MedXAILib.mrml.layers import further
    from MedXAILib.mrml.layouts import slice_logics

    second = nodes.add_volume(slicer.mrmlScene, computed.volume, "second")
    layout = slicer.app.layoutManager().layout
    explained.panel.display.show(explained.maps)
    explained.p.sideBySide = True
    if not open_:
        explained.panel.exit()  # it was removed in another module
    slicer.mrmlScene.RemoveNode(explained.volume)
    explained.panel.enter()
    explained.panel.parameters.inputVolume = second
    assert not any(shown_parts(explained.maps)) and layers(slicer) == []
    assert slicer.app.layoutManager().layout == layout and not explained.panel.parameters.sideBySide
    explained.ui.putBack.click()
    for logic in slice_logics(SimpleNamespace(application=slicer.app.applicationLogic())):
        composite = logic.GetSliceCompositeNode()
        ids = [composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), *further(composite)]
        assert all(each is None or slicer.mrmlScene.GetNodeByID(each) is second for each in ids)


def test_another_layout_clears_the_box_and_closing_the_scene_too(explained, slicer):
    manager = slicer.app.layoutManager()
    explained.panel.display.show(explained.maps)
    explained.p.sideBySide = True
    manager.setLayout(4)
    assert not explained.p.sideBySide and not explained.ui.sideBySide.checked and manager.layout == 4
    assert layers(slicer) == ["Grad-CAM"]
    explained.p.sideBySide = True
    slicer.mrmlScene.Clear(0)
    assert manager.layout == 4 and not explained.panel.parameters.sideBySide


def test_a_scene_saved_side_by_side_opens_in_a_layout_that_everybody_knows(explained, slicer, tmp_path):
    from MedXAIPanel import results

    explained.panel.display.show(explained.maps)
    slicer.app.layoutManager().setLayout(3)
    explained.p.sideBySide = True
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    assert slicer.app.layoutManager().layout == 5812
    slicer.mrmlScene.Clear(0)
    slicer.app.layoutManager().setLayout(4)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert slicer.app.layoutManager().layout == 4 and not explained.panel.parameters.sideBySide
    heat = explained.panel.parameters.shownMap
    outlines = heat.GetNodeReference(results.REGIONS).GetDisplayNode()
    assert layers(slicer) == ["Grad-CAM"] and outlines.GetVisibility() and not outlines.GetViewNodeIDs()


def test_the_views_put_back_are_those_of_the_user(explained, slicer, computed):
    from MedXAILib.mrml import nodes

    pet, labels = (nodes.add_volume(slicer.mrmlScene, computed.volume, name) for name in ("pet", "labels"))
    red, green = (slicer.app.layoutManager().sliceWidget(n).mrmlSliceCompositeNode() for n in ("Red", "Green"))
    for composite in (red, green):
        composite.SetBackgroundVolumeID(explained.volume.GetID())
        composite.SetForegroundVolumeID(pet.GetID())
        composite.SetForegroundOpacity(0.1)
    explained.panel.display.show(explained.maps)
    slicer.mrmlScene.RemoveNode(explained.maps[0])
    red.SetForegroundVolumeID(labels.GetID())
    red.SetForegroundOpacity(0.9)
    red.SetLabelOpacity(0.3)
    explained.ui.legend.click()
    explained.ui.putBack.click()
    assert (red.GetForegroundVolumeID(), red.GetForegroundOpacity()) == (labels.GetID(), 0.9)
    assert (green.GetForegroundVolumeID(), green.GetForegroundOpacity()) == (pet.GetID(), 0.1)
    assert red.GetLabelOpacity() == 0.3


def test_side_by_side_outlines_each_map_in_its_own_view(explained, slicer):
    from MedXAIPanel import results

    explained.panel.display.show(explained.maps)
    outlines = [node.GetNodeReference(results.REGIONS).GetDisplayNode() for node in explained.maps]
    explained.p.sideBySide = True
    views = [slicer.app.layoutManager().sliceWidget(f"MedXAI{n}").mrmlSliceNode().GetID() for n in (1, 2)]
    assert [list(each.GetViewNodeIDs()) for each in outlines] == [[view] for view in views]
    assert all(each.GetVisibility() for each in outlines)
    explained.p.sideBySide = False
    assert outlines[0].GetVisibility() and not outlines[1].GetVisibility()
    assert not any(each.GetViewNodeIDs() for each in outlines)


def test_more_maps_than_views_are_told(explained, computed, slicer):
    from MedXAIPanel import results

    for _ in range(3):
        results.addMaps(explained.volume, computed.event, computed.folder / computed.event["folder"])
    explained.panel.update()
    explained.ui.sideBySide.click()
    assert "6 of the 8 maps" in explained.ui.sideBySide.toolTip
    import qt

    boxes = [explained.ui.maps.item(row, 0) for row in range(8)]
    assert [box.checkState() == qt.Qt.Checked for box in boxes] == 6 * [True] + 2 * [False]
    explained.ui.maps.cellClicked.emit(7, 1)
    assert boxes[7].checkState() == qt.Qt.Checked and boxes[5].checkState() == qt.Qt.Unchecked


def test_a_predicted_segmentation_is_outlined_under_a_map_and_has_a_box(explained, computed, slicer):
    from MedXAIPanel import results

    from MedXAILib.mrml import nodes

    ui, p = explained.ui, explained.p
    assert not ui.segmentation.enabled and "No segmentation" in ui.segmentation.toolTip
    node = nodes.add_labels(slicer.mrmlScene, computed.anatomy, "segmentation", explained.volume, fill=0.25)
    results.annotate(node, "segmentation", explained.volume, {})
    shown = node.GetDisplayNode()
    explained.panel.update()
    assert ui.segmentation.enabled and shown.GetVisibility2DFill() and not ui.putBack.enabled
    explained.panel.display.show(explained.maps)
    assert shown.GetVisibility() and not shown.GetVisibility2DFill()
    ui.segmentation.click()
    assert not shown.GetVisibility() and not p.segmentation
    p.inputVolume = None
    assert shown.GetVisibility2DFill()
    ui.putBack.click()
    assert shown.GetVisibility() and shown.GetVisibility2DFill() and ui.segmentation.checked
    shown.SetVisibility(False)
    p.inputVolume = explained.volume
    ui.maps.cellClicked.emit(0, 1)
    assert not shown.GetVisibility(), "hidden by the user, not by the box"


def test_side_by_side_begins_with_all_maps_and_ends_with_the_chosen_one(explained, slicer):
    explained.panel.display.show(explained.maps)
    layout = slicer.app.layoutManager().layout
    explained.p.sideBySide = True
    for n, node in enumerate(explained.maps, 1):
        composite = slicer.app.layoutManager().sliceWidget(f"MedXAI{n}").mrmlSliceCompositeNode()
        assert composite.GetForegroundVolumeID() == node.GetID() and composite.GetLinkedControl()
    explained.p.sideBySide = False
    assert slicer.app.layoutManager().layout == layout and layers(slicer) == ["Grad-CAM"]


def test_a_new_scene_forgets_what_was_remembered(explained, slicer):
    explained.panel.display.show(explained.maps)
    slicer.mrmlScene.Clear(0)
    assert not explained.ui.putBack.enabled and explained.ui.maps.rowCount == 1
    assert "press Explain" in explained.ui.maps.item(0, 0).text()
    for name in ("opacity", "range", "colors", "legend", "outlines", "rendering", "sideBySide"):
        widget = getattr(explained.ui, name)
        assert not widget.enabled and "press Explain" in widget.toolTip


def test_a_click_on_a_predicted_structure_shows_its_middle_through_the_transform(explained, computed, slicer):
    import numpy as np
    from MedXAIPanel import results
    from MedXAIPanel.predict import whereOf

    from MedXAILib.mrml import nodes

    (table,) = results.predictionsOf(explained.volume)
    node = nodes.add_labels(slicer.mrmlScene, computed.anatomy, "segmentation", explained.volume, fill=0.25)
    node.SetAndObserveTransformNodeID(explained.volume.GetTransformNodeID())
    table.SetNodeReferenceID(results.SEGMENTATION, node.GetID())
    place = np.array(whereOf(table, "left half")) - (25, 0, 0)
    k, j, i = np.round(computed.anatomy.volume.ijk(place)).astype(int)[::-1]
    assert computed.anatomy.volume.array[k, j, i] == 1 and 9 <= i <= 11
