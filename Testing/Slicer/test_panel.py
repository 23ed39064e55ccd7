"""The panel as its users drive it, on the stand-in: the application's own test bodies, and real data through a real worker."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CARDS = ROOT / "Testing" / "cards"
SCENARIOS = (
    "buttonsSayWhyTheyAreDisabled",
    "parametersAndWidgetsAgree",
    "predictExplainDisplay",
    "cancelInTheMiddle",
    "killedInTheMiddle",
    "sceneSavedAndLoaded",
)


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_the_application_tests_holds_on_the_stand_in(panel, name):
    from MedXAIPanel import scenarios

    assert set(scenarios.ALL) == set(SCENARIOS)
    scenarios.ALL[name](panel)


def test_a_glioma_from_choosing_to_an_overlaid_map(panel, data, slicer):
    from MedXAIPanel import asking, results, scenarios

    from MedXAILib.io.read import read_volume
    from MedXAILib.mrml.nodes import volume_of

    volume = slicer.util.loadVolume(str(data / "volumes" / "pyradiomics_brain1_image.nrrd"))
    scenarios.chosen(panel, volume, model=str(CARDS / "sania_brain_tumor.json"), slices="top", topSlices=2)
    scenarios.run(panel, panel.ui.predictButton)
    assert panel.ui.probabilities.rowCount == 4, panel.ui.predictMessage.text
    table = panel.predict.shown
    found = results.metadata(table)
    assert len(found["by_slice"]) == 25 and panel.ui.plot.visible

    row = next(n for n in range(4) if panel.ui.probabilities.item(n, 0).text() == "glioma")
    panel.ui.probabilities.cellClicked.emit(row, 0)
    strongest = int(np.argmax([scores[list(found["probabilities"]).index("glioma")] for scores in found["by_slice"]]))
    matrix = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
    index = volume_of(volume).ijk([matrix.GetElement(r, 3) for r in range(3)])
    assert index[2] == pytest.approx(strongest, abs=0.51), "a click on a class shows its most probable slice"

    panel.parameters.target, panel.parameters.slices = "glioma", "shown"
    scenarios.run(panel, panel.ui.explainButton)
    (heat,) = results.mapsOf(volume)
    array = volume_of(heat).array
    assert np.flatnonzero(array.any((1, 2))).tolist() in ([strongest], []), "only the shown slice is explained"
    assert any(str(strongest) in caveat["text"] for caveat in results.metadata(heat)["caveats"])
    assert heat.GetName().startswith("pyradiomics_brain1_image glioma Grad-CAM")
    assert f"slice {strongest}: p " in results.metadata(heat)["title"], "its own probability, not the volume's"

    words = asking.asCommand(panel.lastJob, panel.lastVolumes).split()
    number = int(next(word for word in words if word.startswith("--slices=")).split("=")[1].split(":")[0])
    file = read_volume(data / "volumes" / "pyradiomics_brain1_image.nrrd")
    assert number != strongest, "the file is left-handed, and Slicer has turned it around"
    assert file.ras((0, 0, number))[2] == pytest.approx(volume_of(volume).ras((0, 0, strongest))[2], abs=0.01)
    pieces = asking.scoresInFile(found, volume)
    assert pieces[number] == found["by_slice"][strongest]


def inner_head(data, folder) -> tuple[Path, Path]:
    """The middle 104^3 of the head that the reference segmentation is of, and a card with the whole head's intensities: where
    the network sees no border it must say the same."""
    from MedXAILib.geometry.volume import Volume
    from MedXAILib.io.read import read_volume
    from MedXAILib.io.write import write_volume

    whole = read_volume(data / "volumes" / "brainchop_t1_crop.nii.gz")
    low, high = np.percentile(whole.array, (2, 98))
    affine = whole.affine.copy()
    affine[:3, 3] = whole.ras((76, 76, 76))
    write_volume(Volume(whole.array[76:180, 76:180, 76:180], affine), folder / "inner.nrrd")
    card = json.loads((CARDS / "brainchop_model5.json").read_text())
    card["input"]["intensity"] = {"rule": "range", "lower": float(low), "upper": float(high)}
    (folder / "inner.json").write_text(json.dumps(card))
    return folder / "inner.nrrd", folder / "inner.json"


def test_a_segmentation_with_its_names_regions_and_one_voxel(panel, data, slicer, tmp_path):
    from MedXAIPanel import results, scenarios

    from MedXAILib.geometry.resample import resample
    from MedXAILib.io.read import read_volume
    from MedXAILib.mrml import nodes
    from MedXAILib.mrml.overlay import Overlay

    head, card = inner_head(data, tmp_path)
    volume = slicer.util.loadVolume(str(head))
    scenarios.chosen(panel, volume, model=str(card))
    assert panel.ui.what.visible and panel.ui.labelVolume.visible and not panel.ui.slices.visible
    scenarios.run(panel, panel.ui.predictButton)
    segmentation = panel.predict.shown.GetNodeReference(results.SEGMENTATION)
    names = [segmentation.GetSegmentation().GetNthSegment(n).GetName() for n in range(2)]
    assert names == ["white matter", "grey matter"]
    grid = nodes.labels_of(segmentation, volume).volume
    reference = read_volume(data / "models" / "ref_model5_t1crop.nii.gz")
    # the file is left-handed, and Slicer reorders such arrays: only places in the patient can be compared
    found, truth = grid.array, resample(reference, grid.grid, order=0).array
    inner = (slice(46, -46),) * 3  # half the network's receptive field
    for value in (1, 2):
        one, other = found[inner] == value, truth[inner] == value
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.999

    panel.parameters.what = "this voxel"
    assert not panel.ui.explainButton.enabled and "Place a point" in panel.ui.explainButton.toolTip
    k, j, i = np.argwhere(truth == 1)[np.count_nonzero(truth == 1) // 2]
    panel.parameters.point.AddControlPoint(*nodes.volume_of(volume).ras((i, j, k)))
    panel.update()
    scenarios.run(panel, panel.ui.explainButton)
    (heat,) = results.mapsOf(volume)
    peak = Overlay(name="", map=nodes.volume_of(heat), signed=False).peak
    field = max(results.metadata(heat)["provenance"]["receptive_field_voxels"])
    assert np.linalg.norm(peak - nodes.volume_of(volume).ras((i, j, k))) <= field, "a voxel's map lies around it"
    assert "white matter at " in heat.GetName()

    panel.parameters.labelVolume, panel.parameters.what = True, "predicted region"
    scenarios.run(panel, panel.ui.predictButton)
    labels = panel.predict.shown.GetNodeReference(results.SEGMENTATION)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert labels.IsA("vtkMRMLLabelMapVolumeNode") and composite.GetLabelVolumeID() == labels.GetID()
    panel.ui.probabilities.cellClicked.emit(0, 0)
    matrix = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
    depth = matrix.GetElement(2, 3)
    low, high = (nodes.volume_of(volume).ras(at)[2] for at in ((0, 0, 0), (103, 103, 103)))
    assert min(low, high) < depth < max(low, high)
    scenarios.press(panel.ui.putBack)
    assert composite.GetLabelVolumeID() is None


def test_a_regression_shows_values_with_their_unit(panel, slicer, tmp_path):
    import json

    from MedXAIPanel import results, scenarios

    from MedXAILib.models.sources.zoo import ZOO

    (tmp_path / "planted-lesion.safetensors").write_bytes((ZOO / "planted-lesion.safetensors").read_bytes())
    card = json.loads((ZOO / "planted-lesion.json").read_text())
    card["output"] |= {"kind": "value", "unit": "points"}
    (tmp_path / "card.json").write_text(json.dumps(card))
    volume = scenarios.ball()
    scenarios.chosen(panel, volume, model=str(tmp_path / "card.json"))
    scenarios.run(panel, panel.ui.predictButton)
    table = panel.predict.shown
    assert table is not None, panel.ui.predictMessage.text
    found = results.metadata(table)
    assert "probabilities" not in found and table.GetTable().GetColumnName(1) == "points"
    shown = {panel.ui.probabilities.item(row, 0).text(): row for row in range(2)}
    for name, value in found["values"].items():
        assert panel.ui.probabilities.cellWidget(shown[name], 1).format == f"{value:.3g} points"
    panel.logic.export(volume, tmp_path / "out")
    assert "points" in (tmp_path / "out" / "values.csv").read_text()


def test_a_model_with_several_inputs_gets_a_selector_for_each(panel, slicer, tmp_path):
    import json

    from MedXAIPanel import scenarios

    from MedXAILib.models.sources.zoo import ZOO

    card = json.loads((ZOO / "planted-lesion.json").read_text())
    card["input"]["channels"] = [{"name": "t1"}, {"name": "flair"}]
    (tmp_path / "two.json").write_text(json.dumps(card))
    scenarios.chosen(panel, scenarios.ball("first"))
    panel.input.open(str(tmp_path / "two.json"))
    assert "not beside its card" in panel.ui.predictButton.toolTip, "missing weights are told at once"
    (tmp_path / "planted-lesion.safetensors").write_bytes((ZOO / "planted-lesion.safetensors").read_bytes())
    panel.input.onModelChosen(panel.ui.model.currentIndex)
    assert panel.ui.inputLabel.text == "t1:" and list(panel.input.selectors) == ["flair"]
    assert not panel.ui.predictButton.enabled and "flair" in panel.ui.predictButton.toolTip
    second = scenarios.ball("second")
    panel.input.selectors["flair"].setCurrentNode(second)
    assert panel.ui.predictButton.enabled and panel.input.volumes()["flair"] is second
    assert str(tmp_path / "two.json") in [panel.ui.model.itemData(n) for n in range(panel.ui.model.count)], (
        "it is recent"
    )


def test_the_list_shows_what_each_model_of_the_zoo_is_for(panel, slicer, monkeypatch, tmp_path):
    import json
    import shutil

    import qt

    from MedXAILib.models.source import summarise
    from MedXAILib.models.sources import zoo as listing

    def items() -> dict:
        box = panel.ui.model
        return {
            box.itemData(n): (box.itemIcon(n).pixmap(64).toImage(), box.itemData(n, qt.Qt.ToolTipRole))
            for n in range(box.count)
        }

    for name in listing.zoo_cards():
        picture, tip = items()[name]
        assert picture == qt.QImage(str(listing.ZOO / f"{name}.png")).convertToFormat(picture.format()), name
        said = qt.QTextDocumentFragment.fromHtml(tip).toPlainText()
        assert said.split() == summarise(name).description.split()

    zoo = shutil.copytree(listing.ZOO, tmp_path / "zoo")
    card = json.loads((zoo / "planted-lesion.json").read_text())
    (zoo / "no-picture.json").write_text(json.dumps(card | {"description": "heads < 3 mm"}))
    (zoo / "broken.json").write_text("{")
    (zoo / "broken.png").write_bytes(b"no picture")
    mine = tmp_path / "mine.json"
    shutil.copy(zoo / "planted-lesion.json", mine)
    shutil.copy(zoo / "planted-lesion.png", tmp_path / "mine.json.png")
    monkeypatch.setattr(listing, "ZOO", zoo)
    panel.input.open(str(mine))
    found = items()
    assert list(found)[: len(listing.zoo_cards()) + 1] == [*listing.zoo_cards(), str(mine)]
    assert not found["planted-lesion"][0].isNull()
    assert found["no-picture"][0].isNull() and "heads &lt; 3 mm" in found["no-picture"][1]
    assert found["broken"][0].isNull() and "broken.json: this is no model card" in found["broken"][1]
    assert found[str(mine)][0].isNull() and found[str(mine)][1] == str(mine), "a card of the user's is plain"


def test_the_methods_that_a_card_suggests_are_ticked_once(panel, slicer, tmp_path):
    import json

    import qt
    from MedXAIPanel import scenarios

    from MedXAILib.models.sources.zoo import ZOO

    card = json.loads((ZOO / "planted-lesion.json").read_text())
    (tmp_path / "planted-lesion.safetensors").write_bytes((ZOO / "planted-lesion.safetensors").read_bytes())
    suggested = {"two": ["lime", "gradcam"], "other": ["of tomorrow", "ig", ["wrong"]], "none": []}
    for name, methods in suggested.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(card | {"methods": methods}))
    paths = {name: str(tmp_path / f"{name}.json") for name in suggested}
    p, box = panel.parameters, panel.ui.model

    def choose(model: str) -> set[str]:
        """By the list, as a user does; the ticks then."""
        box.setCurrentIndex(box.findData(model))
        box.activated.emit(box.currentIndex)
        assert p.model == model and panel.ui.predictButton.enabled, panel.ui.predictButton.toolTip
        ticked = {item.data(qt.Qt.UserRole) for item in panel.explain.items() if item.checkState() == qt.Qt.Checked}
        assert ticked == set(p.methods.split())
        return ticked

    scenarios.chosen(panel, scenarios.ball(), methods="saliency")
    panel.input.open(paths["none"])
    assert p.methods == "saliency", "a card that suggests nothing leaves the ticks alone"
    panel.input.open(paths["other"])
    assert p.methods == "ig", "what this version does not know is passed over"
    panel.input.open(paths["two"])
    assert p.methods.split() == ["gradcam", "lime"]
    next(item for item in panel.explain.items() if item.data(qt.Qt.UserRole) == "lime").setCheckState(qt.Qt.Unchecked)
    panel.update()
    p.layers = "features"
    assert choose(paths["two"]) == {"gradcam"}, "the user's ticks are kept, also where the same model is chosen again"
    assert p.layers == "features"
    assert choose(paths["other"]) == {"ig"} and p.layers == "", "another network has other layers"
    assert choose(paths["other"]) == {"ig"} and choose(paths["two"]) == {"gradcam", "lime"}

    p.methods = "saliency"
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    assert (panel.parameters.model, panel.parameters.methods) == (paths["two"], "saliency"), "a scene brings its own"
    panel.parameters.model = "planted-lesion"
    assert panel.parameters.methods == "saliency", "so does a program"


def test_a_file_that_is_a_program_wants_consent(panel, data, slicer, tmp_path):
    import json
    import shutil

    from MedXAIPanel import scenarios

    program = next((data / "models").glob("elastix_*.pt"))
    shutil.copy(program, tmp_path / "net.pt")
    card = json.loads((CARDS / "brainchop_model5.json").read_text())
    card["network"], card["weights"] = {"architecture": "file"}, {"file": "net.pt"}
    (tmp_path / "program.json").write_text(json.dumps(card))
    scenarios.chosen(panel, scenarios.ball())
    panel.input.open(str(tmp_path / "program.json"))
    assert panel.ui.trust.visible and not panel.ui.trust.checked
    assert not panel.ui.predictButton.enabled and "run code" in panel.ui.predictButton.toolTip
    panel.ui.trust.checked = True
    assert panel.ui.predictButton.enabled
    panel.parameters.model = "planted-lesion"
    assert not panel.ui.trust.visible and not panel.ui.trust.checked
    panel.input.onRefused("consent")
    assert panel.ui.trust.visible and not panel.ui.predictButton.enabled, "also where only opening it has told"


def test_a_run_under_way_leaves_the_window_alive(panel, slicer, patience):
    """A timer ticks about as often as it does beside the run, on this machine as busy as it is; the benchmark has the figures."""
    import qt
    from MedXAIPanel import scenarios

    def ticks() -> int:
        count, timer = [], qt.QTimer()
        timer.interval = 20
        timer.timeout.connect(lambda: count.append(1))
        timer.start()
        end = time.monotonic() + 3
        scenarios.until(lambda: time.monotonic() > end, patience, "three seconds")
        timer.stop()
        return len(count)

    alone = ticks()
    scenarios.chosen(panel, scenarios.ball(), methods="lime", samples=10_000)
    scenarios.press(panel.ui.explainButton)
    scenarios.until(lambda: "left" in panel.ui.explainMessage.text, patience, "progress")
    assert ticks() >= alone / 5
    panel.ui.explainButton.click()
    scenarios.until(lambda: not panel.logic.client.busy, patience, "cancelled")


def test_at_400_pixels_nothing_is_cut_off(panel, data, slicer):
    """Its pictures are written into build/, to be looked at."""
    import standin
    from MedXAIPanel import scenarios

    volume = slicer.util.loadVolume(str(data / "volumes" / "pyradiomics_brain1_image.nrrd"))
    pictures = ROOT / "build"
    pictures.mkdir(exist_ok=True)
    for model in ("planted-lesion", str(CARDS / "sania_brain_tumor.json"), str(CARDS / "brainchop_model5.json")):
        scenarios.chosen(panel, volume, model=model)
        standin.grab(panel.parent, pictures / f"panel-{Path(model).stem}.png", width=400)
        assert panel.parent.minimumSizeHint.width() <= 400, "no horizontal scroll bar"
        assert panel.parent.width == 400
        for widget in vars(panel.ui).values():
            text = getattr(widget, "text", None)
            if isinstance(text, str) and text and widget.visible and hasattr(widget, "fontMetrics"):
                needs = widget.heightForWidth(widget.width) if getattr(widget, "wordWrap", False) else 0
                assert widget.height >= needs, f"{widget.name} is cut off: {text}"
                if not getattr(widget, "wordWrap", True):
                    assert widget.width >= widget.fontMetrics().boundingRect(text).width(), f"{widget.name}: {text}"


def test_pressing_explain_again_computes_what_is_missing_and_shows_it(panel, slicer):
    from MedXAIPanel import results, scenarios

    volume = scenarios.ball()
    scenarios.chosen(panel, volume, model="planted-lesion", methods="gradcam", samples=20)
    scenarios.run(panel, panel.ui.explainButton)
    (first,) = results.mapsOf(volume)
    scenarios.press(panel.ui.explainButton)
    assert not panel.explain.run.running and results.mapsOf(volume) == [first]
    assert "in the scene already" in panel.ui.explainMessage.text

    panel.parameters.methods = "gradcam saliency"
    scenarios.run(panel, panel.ui.explainButton)
    made = [node for node in results.mapsOf(volume) if node is not first]
    assert [results.metadata(node)["method"] for node in made] == ["saliency"]
    assert panel.parameters.shownMap is made[0]

    slicer.mrmlScene.RemoveNode(first)
    panel.parameters.methods = "gradcam"
    scenarios.run(panel, panel.ui.explainButton)
    assert {results.metadata(node)["method"] for node in results.mapsOf(volume)} == {"gradcam", "saliency"}
    panel.parameters.seed = 5  # another job
    scenarios.run(panel, panel.ui.explainButton)
    assert sum(results.metadata(node)["method"] == "gradcam" for node in results.mapsOf(volume)) == 2


def test_a_volume_that_is_loaded_becomes_the_input(panel, slicer, tmp_path, patience):
    from MedXAIPanel import scenarios

    from MedXAILib.geometry.volume import Volume
    from MedXAILib.io.write import write_volume

    scenarios.chosen(panel, scenarios.ball("first"))
    write_volume(Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)), tmp_path / "second.nrrd")
    second = slicer.util.loadVolume(str(tmp_path / "second.nrrd"))
    scenarios.until(lambda: panel.parameters.inputVolume is second, patience, "the loaded volume was not chosen")
    made = scenarios.ball("made by a program")
    slicer.app.processEvents()
    assert panel.parameters.inputVolume is second and made is not second


def test_the_panel_speaks_of_its_controls(panel):
    from MedXAIPanel.running import worded

    assert worded("LIME: 9 minutes; --samples sets how many.") == "LIME: 9 minutes; LIME samples sets how many."
    assert worded("if you trust where it comes from, allow it with --trust (remembered).").endswith(
        "trusts it (remembered)."
    )
    panel.explain.run.showMessage("An error of 42 %; try another --layer.")
    assert panel.ui.explainMessage.text == "An error of 42 %; try another Layers."
