"""Look and Keep on the stand-in, with results that the real worker computed."""

from __future__ import annotations

import csv
import html
import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 60


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A run over the ball of the panel's tests, as the worker's event, and its files."""
    pytest.importorskip("slicer")
    from MedXAILib.app.job import Job
    from MedXAILib.app.worker import Worker
    from MedXAILib.geometry.labels import Label, Labels
    from MedXAILib.geometry.volume import Volume
    from MedXAILib.io.segmentation import read_labels
    from MedXAILib.io.write import write_labels, write_volume

    folder = tmp_path_factory.mktemp("worker")
    volume = ball()
    write_volume(volume, folder / "ball.nrrd")
    i = np.indices(volume.array.shape)[2]
    write_labels(
        Labels(volume.with_array(1 + (i > 20).astype(np.uint8)), (Label(1, "left half"), Label(2, "right half"))),
        folder / "anatomy.nrrd",
    )
    anatomy = read_labels(folder / "anatomy.nrrd")
    job = Job(
        "explain", {"": "ball"}, "planted-lesion", classes=("lesion",), methods=("gradcam", "lime"), samples=SAMPLES
    )
    worker = Worker(folder, lambda event: None)
    worker.volumes["ball"] = Volume(volume.array, volume.affine)
    event = worker.compute({"id": 1, "job": asdict(job)})
    event = json.loads(json.dumps({"event": "result", "id": 1, **event}))
    return SimpleNamespace(folder=folder, event=event, volume=volume, job=job, anatomy=anatomy)


def ball():
    """48 voxels of 3 mm, oblique, a dark blob in it."""
    from MedXAILib.geometry.volume import Source, Volume

    grid = np.indices((48,) * 3) - 23.5
    array = np.where((grid**2).sum(0) < 400, 100 + 10 * np.random.default_rng(0).random((48,) * 3), 0)
    array[((grid - 6) ** 2).sum(0) < 9] = 30
    turn = np.eye(4)
    turn[:2, :2] = [[0.99, -0.141067], [0.141067, 0.99]]
    affine = turn @ np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [-70, -60, -50]
    return Volume(array.astype(np.float32), affine, Source("ball"))


@pytest.fixture
def explained(panel, computed, slicer):
    """The run's nodes in the scene, its volume chosen and moved by a transform; Look has not been asked yet."""
    import vtk
    from MedXAIPanel import results

    from MedXAILib.mrml import nodes
    from MedXAILib.mrml.host import VIEWS

    for view, plane in VIEWS.items():
        slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode().SetOrientation(plane)
    volume = nodes.add_volume(slicer.mrmlScene, computed.volume, "ball")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 25.0)
    transform.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    files = computed.folder / computed.event["folder"]
    results.addPrediction(volume, computed.event, files)
    maps = results.addMaps(volume, computed.event, files)
    panel.parameters.inputVolume = volume
    panel.update()
    return SimpleNamespace(panel=panel, ui=panel.ui, p=panel.parameters, volume=volume, maps=maps)


def views(slicer):
    from MedXAIPanel.running import hostScene

    from MedXAILib.mrml.views import remember_views

    return remember_views(hostScene())


def layers(slicer) -> list[str]:
    """Names of the maps in the red view, from below."""
    from MedXAILib.mrml.layers import further

    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    ids = [composite.GetForegroundVolumeID(), *(volume for volume, _ in further(composite))]
    return [slicer.mrmlScene.GetNodeByID(each).GetName().split()[2] for each in ids if each]


def texts(table) -> list[list[str]]:
    cells = [[table.item(row, column) for column in range(table.columnCount)] for row in range(table.rowCount)]
    return [[cell.text() if cell else "" for cell in row] for row in cells]


# The views


def test_only_look_changes_the_views_and_puts_them_back(explained, slicer):
    ui, p = explained.ui, explained.p
    before = views(slicer)
    assert ui.maps.rowCount == 2 and not ui.putBack.enabled and "has not changed" in ui.putBack.toolTip
    p.opacity, p.legend = 0.8, False
    p.inputVolume = None
    p.inputVolume = explained.volume
    explained.panel.update()
    assert views(slicer) == before, "no map is shown, so there is nothing to change"

    explained.panel.look.show(explained.maps)
    assert layers(slicer) == ["Grad-CAM"] and p.shownMap is explained.maps[0] and ui.putBack.enabled
    ui.maps.cellClicked.emit(1, 1)
    assert layers(slicer) == ["LIME"] and p.shownMap is explained.maps[1], "a click shows another map instead"
    import qt

    ui.maps.item(0, 0).setCheckState(qt.Qt.Checked)
    assert layers(slicer) == ["Grad-CAM", "LIME"], "a box adds one"
    shown = views(slicer)
    for _ in range(3):
        explained.panel.update()
    assert views(slicer) == shown
    p.opacity = 0.25
    assert {state.opacity for state in views(slicer).slices.values()} == {0.25}
    p.sideBySide = p.rendering = True
    ui.putBack.click()
    assert views(slicer) == before and not ui.putBack.enabled and not p.sideBySide and not p.rendering
    assert [ui.maps.item(row, 0).checkState() for row in range(2)] == [qt.Qt.Unchecked] * 2
    explained.panel.update()
    assert views(slicer) == before


def shown_parts(maps) -> list[bool]:
    """Whether legend and outlines of these maps are shown."""
    from MedXAIPanel import look

    from MedXAILib.mrml.appearance import is_accompanied

    return [is_accompanied(node, look.partsOf(node).values()) for node in maps]


def test_another_volume_takes_the_maps_of_the_former_one_out_of_the_views(explained, computed, slicer):
    from MedXAIPanel import results

    from MedXAILib.mrml import nodes

    p, ui = explained.p, explained.ui
    layout = slicer.app.layoutManager().layout
    explained.panel.look.show(explained.maps)
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
    explained.panel.look.show(explained.maps)
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
    explained.panel.look.show(explained.maps)
    explained.p.sideBySide = True
    manager.setLayout(4)
    assert not explained.p.sideBySide and not explained.ui.sideBySide.checked and manager.layout == 4
    assert layers(slicer) == ["Grad-CAM"]
    explained.p.sideBySide = True
    slicer.mrmlScene.Clear(0)
    assert manager.layout == 4 and not explained.panel.parameters.sideBySide


def test_a_scene_saved_side_by_side_opens_in_a_layout_that_everybody_knows(explained, slicer, tmp_path):
    from MedXAIPanel import results

    explained.panel.look.show(explained.maps)
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
    explained.panel.look.show(explained.maps)
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

    explained.panel.look.show(explained.maps)
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
    results.keep(node, "segmentation", explained.volume, {})
    shown = node.GetDisplayNode()
    explained.panel.update()
    assert ui.segmentation.enabled and shown.GetVisibility2DFill() and not ui.putBack.enabled
    explained.panel.look.show(explained.maps)
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
    explained.panel.look.show(explained.maps)
    layout = slicer.app.layoutManager().layout
    explained.p.sideBySide = True
    for n, node in enumerate(explained.maps, 1):
        composite = slicer.app.layoutManager().sliceWidget(f"MedXAI{n}").mrmlSliceCompositeNode()
        assert composite.GetForegroundVolumeID() == node.GetID() and composite.GetLinkedControl()
    explained.p.sideBySide = False
    assert slicer.app.layoutManager().layout == layout and layers(slicer) == ["Grad-CAM"]


def test_a_new_scene_forgets_what_was_remembered(explained, slicer):
    explained.panel.look.show(explained.maps)
    slicer.mrmlScene.Clear(0)
    assert not explained.ui.putBack.enabled and explained.ui.maps.rowCount == 1
    assert "press Explain" in explained.ui.maps.item(0, 0).text()
    for name in ("opacity", "range", "colors", "legend", "outlines", "rendering", "sideBySide"):
        widget = getattr(explained.ui, name)
        assert not widget.enabled and "press Explain" in widget.toolTip


# The chosen map


def test_what_limits_belief_stands_beside_the_map(explained):
    from MedXAIPanel import results

    from MedXAILib import NOTICE

    explained.panel.look.show(explained.maps[1:])
    text = explained.ui.limits.text
    assert NOTICE in text and results.facts(explained.maps[1])["limits"]
    assert all(html.escape(line) in text for line in results.facts(explained.maps[1])["limits"])


def test_the_slider_spans_the_map_and_moving_one_end_keeps_the_other(explained):
    from MedXAILib.mrml import colours, palette

    heat, ui = explained.maps[0], explained.ui
    explained.panel.look.show(explained.maps)
    low, high = colours.bounds_of(heat)
    assert ui.range.minimum <= low and ui.range.maximum >= high and ui.range.singleStep <= (high - low) / 50
    assert ui.range.suffix == ""
    ui.range.minimumValue = high / 2
    found = colours.range_of(heat)
    assert found[0] == pytest.approx(high / 2, abs=ui.range.singleStep) and found[1] >= high
    signed = explained.maps[1]
    ui.maps.cellClicked.emit(1, 1)
    assert colours.is_signed(signed) and ui.range.minimum == 0
    assert colours.range_of(heat) == found, "another map's slider is not this one's"
    ui.colors.setCurrentIndex(1)
    ui.colors.activated.emit(1)
    assert colours.colors_of(signed) == ui.colors.currentText == list(palette.PAIRS)[1]
    ui.maps.cellClicked.emit(0, 1)
    assert ui.colors.currentText == "Heat"


@pytest.mark.parametrize("order", [(7.3e-7, 7.46), (7.46, 7.3e-7), (2.2e5, 7.3e-7)])
def test_the_slider_goes_from_any_map_to_any_other(explained, slicer, order):
    from MedXAILib.geometry.volume import Volume
    from MedXAILib.mrml import colours, nodes
    from MedXAILib.mrml.overlay import Overlay

    widget = explained.ui.range
    for largest in order:
        array = np.linspace(0, largest, 1000, dtype=np.float32).reshape(10, 10, 10)
        heat = nodes.add_map(slicer.mrmlScene, Overlay(name="map", map=Volume(array, np.eye(4)), signed=False))
        explained.panel.look.showRange(heat)
        unit = 10.0 ** int(widget.suffix[1:] or 0) if widget.suffix else 1.0
        assert widget.maximum * unit == pytest.approx(colours.bounds_of(heat)[1], rel=0.02)
        assert 50 <= widget.maximum / widget.singleStep <= 1000
        assert len(f"{widget.maximum:.{widget.decimals}f}".strip("0.").replace(".", "")) <= 4
        explained.panel.look.described = heat
        widget.minimumValue = widget.maximum / 2
        assert colours.range_of(heat)[0] == pytest.approx(largest / 2, rel=0.02)


def test_a_click_on_a_hot_region_shows_it(explained, slicer):
    from MedXAIPanel import results

    explained.panel.look.show(explained.maps)
    rows = results.facts(explained.maps[0])["regions"]["table"]
    found = texts(explained.ui.regions)
    assert [row[0] for row in found] == [row["name"] for row in rows] and len(rows) > 0
    assert [float(row[1].removesuffix(" mL")) for row in found] == pytest.approx(
        [row["volume_ml"] for row in rows], rel=0.01
    )
    explained.ui.regions.cellClicked.emit(len(rows) - 1, 0)
    assert passes(slicer, np.array(rows[-1]["centroid"]) + (25, 0, 0)), "through the transform"


def passes(slicer, place) -> bool:
    """Whether every slice view goes through a world RAS point."""
    offsets = []
    for name in ("Red", "Yellow", "Green"):
        matrix = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().GetSliceToRAS()
        normal, point = (np.array([matrix.GetElement(row, column) for row in range(3)]) for column in (2, 3))
        offsets.append(abs((place - point) @ normal))
    return max(offsets) < 1e-3


@pytest.mark.parametrize("told", [True, False])
def test_superpixels_are_sorted_and_a_click_lands_in_one(explained, slicer, computed, told):
    """With the places that the worker tells nothing is computed; older maps do without."""
    from MedXAIPanel import results

    from MedXAILib.io.read import read_volume

    ui, node = explained.ui, explained.maps[1]
    facts = results.facts(node)
    for row in facts["superpixels"]["table"] if not told else ():
        del row["place"]
    node.SetAttribute(results.FACTS, json.dumps(facts))
    explained.panel.look.show([node])
    ui.tables.currentIndex = 1
    table = {row["name"]: row for row in results.facts(node)["superpixels"]["table"]}
    coefficients = [float(row[1]) for row in texts(ui.superpixelTable)]
    assert len(coefficients) == len(table) and coefficients == sorted(coefficients, reverse=True)
    segmentation = node.GetNodeReference(results.SUPERPIXELS)
    assert segmentation.GetDisplayNode().GetVisibility()
    assert not node.GetNodeReference(results.REGIONS).GetDisplayNode().GetVisibility()

    files = computed.folder / computed.event["folder"]
    labels = read_volume(
        files / next(m for m in computed.event["maps"] if m["method"] == "lime")["superpixels"]["file"]
    )
    for row in (0, len(table) - 1):
        ui.superpixelTable.cellClicked.emit(row, 0)
        name = ui.superpixelTable.item(row, 0).text()
        place = [
            slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode().GetSliceToRAS().GetElement(axis, 3)
            for axis, view in enumerate(("Yellow", "Green", "Red"))
        ]
        i, j, k = np.round(labels.ijk(np.array(place) - (25, 0, 0))).astype(int)
        assert labels.array[k, j, i] == table[name]["value"]
        identifier = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        assert segmentation.GetDisplayNode().GetSegmentOpacity2DOutline(identifier) == 1.0
    assert bool(explained.panel.look.stored) != told
    ui.maps.cellClicked.emit(0, 1)
    assert "no superpixels" in ui.superpixelTable.item(0, 0).text()


# Files


@pytest.fixture(scope="module")
def commanded(computed, tmp_path_factory):
    """What the command line writes for the same."""
    from dataclasses import replace

    from MedXAILib.app.run import run

    out = tmp_path_factory.mktemp("cli") / "out"
    job = replace(
        computed.job, inputs={"": str(computed.folder / "ball.nrrd")}, anatomy=str(computed.folder / "anatomy.nrrd")
    )
    run(job, out)
    return out


def rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "input"} for row in csv.DictReader(file)]


def test_an_export_is_what_the_command_line_writes(explained, computed, commanded, slicer, tmp_path):
    import slicer as package
    from MedXAIPanel import keep
    from PIL import Image

    from MedXAILib.errors import InputError
    from MedXAILib.io.read import read_volume
    from MedXAILib.mrml import nodes

    anatomy = nodes.add_labels(package.mrmlScene, computed.anatomy, "anatomy", explained.volume, fill=0.0)
    anatomy.SetAndObserveTransformNodeID(explained.volume.GetTransformNodeID())
    out = tmp_path / "new" / "out"
    written = keep.export(explained.volume, out, anatomy=anatomy)
    theirs = {p.name for p in commanded.iterdir()}
    assert {*theirs, "snapshot.png"} == {p.name for p in out.iterdir()} == set(written)
    for name in sorted(theirs):
        if name.endswith(".csv"):
            assert approximately(rows(out / name), rows(commanded / name)), name
        elif name.endswith(".nrrd"):
            one, other = read_volume(out / name), read_volume(commanded / name)
            assert one.grid.same_as(other.grid) and np.allclose(one.array, other.array, rtol=1e-4, atol=1e-7), name
        elif name != "run.json":
            one, other = (json.loads((folder / name).read_text()) for folder in (out, commanded))
            assert one.keys() == other.keys() and one["notice"] == other["notice"] and one["limits"] == other["limits"]
    assert "Research use only" in json.loads((out / "run.json").read_text())["notice"]
    assert min(Image.open(out / "snapshot.png").size) > 300

    with pytest.raises(InputError, match="already holds a run"):
        keep.export(explained.volume, out)
    explained.p.anatomy, explained.ui.tables.currentIndex = anatomy, 2
    explained.panel.look.show(explained.maps)
    shown = {row[0]: row[1:] for row in texts(explained.ui.structures)}
    of = [row for row in rows(out / "anatomy.csv") if row["method"] == "gradcam"]
    assert shown == {row["structure"]: [f"{100 * float(row[c]):.1f} %" for c in ("positive_share", "volume_share")] for row in of}  # fmt: skip


def approximately(one: list[dict], other: list[dict]) -> bool:
    """Whether two tables agree, numbers to a ten-thousandth."""
    close = [{key: pytest.approx(v, rel=1e-4, abs=1e-6) for key, v in numbers(row).items()} for row in other]
    return [numbers(row) for row in one] == close and [words(row) for row in one] == [words(row) for row in other]


def numbers(row: dict) -> dict[str, float]:
    return {key: float(text) for key, text in row.items() if is_number(text)}


def words(row: dict) -> dict[str, str]:
    return {key: text for key, text in row.items() if not is_number(text)}


def is_number(text: str) -> bool:
    return text.replace(".", "").replace("-", "").replace("e", "").isdigit()


def test_a_failed_export_leaves_nothing(explained, tmp_path, monkeypatch):
    from MedXAIPanel import keep

    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(keep, "snapshot", fail)
    with pytest.raises(RuntimeError):
        keep.export(explained.volume, tmp_path / "out")
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob(".out*"))


def test_a_result_made_once_more_keeps_files_and_rows_of_its_own(explained, computed, tmp_path):
    from MedXAIPanel import keep, results

    results.addMaps(explained.volume, computed.event, computed.folder / computed.event["folder"])
    keep.export(explained.volume, tmp_path / "out")
    maps = [f"{case}_lesion_{rest}.nrrd" for case in ("ball", "ball-2") for rest in ("gradcam_features", "lime")]
    assert all((tmp_path / "out" / name).exists() for name in maps)
    cases = [row["input"] for row in csv.DictReader((tmp_path / "out" / "superpixels.csv").open())]
    assert cases.count("ball") == cases.count("ball 2") == len(cases) / 2


# The run as text, the log, what is stored


def test_the_run_as_python_makes_the_same_map_again(explained, slicer):
    from MedXAIPanel import keep, results

    from MedXAILib.app.job import Job
    from MedXAILib.mrml.nodes import volume_of

    job = Job("explain", {}, "planted-lesion", classes=("lesion",), methods=("gradcam",), share=0.25)
    text = keep.asPython(job, {"image": explained.volume})
    made: dict = {"slicer": slicer}
    exec(text, made)
    made["logic"].client.stop()
    (again,) = made["nodes"]
    assert np.allclose(volume_of(again).array, volume_of(explained.maps[0]).array, rtol=1e-4, atol=1e-7)
    assert results.facts(again)["job"]["share"] == 0.25


def test_the_run_as_command_names_the_file_or_asks_for_one(explained, computed, slicer):
    from MedXAIPanel import keep

    from MedXAILib.errors import InputError

    with pytest.raises(InputError, match="save this volume first"):
        keep.asCommand(computed.job, {"": explained.volume})
    loaded = slicer.util.loadVolume(str(computed.folder / "ball.nrrd"))
    command = keep.asCommand(computed.job, {"": loaded})
    assert command.startswith(f"medxai explain {computed.folder / 'ball.nrrd'} --model planted-lesion")
    assert "--class=lesion" in command and f"--samples={SAMPLES}" in command


def test_the_log_tells_versions_and_no_names(explained, computed):
    import platform

    import torch

    explained.panel.logic.client.versions = computed.event["versions"]
    explained.volume.SetName("Miller Anna 1961")
    lines = [
        "Left out: Miller Anna 1961: odd spacing",
        f"read {Path.home()}/scans/Miller Anna 1961.nrrd",
        "worker ready",
    ]
    explained.panel.log.extend(lines)
    text = explained.panel.keep.report()
    assert "Miller" not in text and str(Path.home()) not in text and "worker ready" in text
    assert platform.python_version() in text and f"torch {torch.__version__}" in text
    assert "planted-lesion" in text.lower()


def test_stored_things_are_removed_only_after_a_yes(explained, slicer, tmp_path, monkeypatch):
    from MedXAIPanel import input as models
    from MedXAIPanel import keep, sample

    from MedXAILib.models.security import consent as trust

    ui = explained.ui
    ui.removeStored.click()
    assert "stored nothing" in ui.keepMessage.text
    card = tmp_path / "card.json"
    card.write_text("{}")
    models.remember(str(card))
    trust.remember("a" * 64)
    cache = Path(slicer.app.cachePath)
    cache.mkdir(parents=True, exist_ok=True)
    ours, other = cache / f"{sample.NAME}.nrrd", cache / "MRHead.nrrd"
    for path in (ours, other):
        path.write_bytes(b"")
    ui.removeStored.click()  # under testing the answer is no
    assert ours.exists() and trust.trusted() and models.recentModels()
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    ui.removeStored.click()
    assert ui.keepMessage.text.startswith("Removed: 1 sample data") and keep.storedThings() == []
    assert not ours.exists() and other.exists() and not trust.trusted() and not models.recentModels()
    assert card.exists()
