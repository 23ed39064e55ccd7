"""The scene: bundles that come back, names that lose nothing, no half files."""

from __future__ import annotations

import sys
import zipfile
from types import SimpleNamespace

import fixture_maps
import numpy as np
import pytest
from fixture_maps import as_overlay, grid

from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.mrml import host, nodes, scene
from MedXAILib.mrml.scene import Scene, build_scene
from MedXAILib.outputs.pictures import snapshot
from MedXAILib.outputs.pictures.stage import blended
from MedXAILib.outputs.scene import save_scene

pytest.importorskip("slicer")


@pytest.fixture
def example():
    return fixture_maps.example()


def test_a_bundle_comes_back_as_it_was(tmp_path, example):
    import slicer

    sitk = pytest.importorskip("SimpleITK")
    volume, overlays = example
    made = build_scene(volume, overlays, overlays[0].regions, heading="net · head")
    save_scene(made, tmp_path / "out.mrb")
    assert [file.name for file in tmp_path.iterdir()] == ["out.mrb"]
    with zipfile.ZipFile(tmp_path / "out.mrb") as bundle:
        bundle.extractall(tmp_path)
    text = (tmp_path / "out" / "out.mrml").read_text(encoding="utf-8")
    for name in ("head", "lesion gradcam", "lesion lime", "lesion gradcam regions", "segmentation", scene.NOTICE):
        assert f'name="{name}"' in text
    raw = sitk.ReadImage(str(tmp_path / "out" / "Data" / "lesion lime.nrrd"))
    assert raw.GetPixelID() == sitk.sitkFloat32
    assert np.array_equal(sitk.GetArrayFromImage(raw), overlays[1].map.array)
    last = volume.ras(np.array(volume.shape) - 1) * (-1, -1, 1)
    assert np.allclose(raw.TransformIndexToPhysicalPoint([n - 1 for n in volume.shape]), last, atol=1e-4)

    again = host.private_scene()
    again.scene.SetURL(str(tmp_path / "out" / "out.mrml"))
    again.scene.SetRootDirectory(str(tmp_path / "out"))
    assert again.scene.Import()
    for view in host.VIEWS:
        one, other = (blended(each.application.GetSliceLogicByLayoutName(view)) for each in (made.host, again))
        assert np.unique(one).size > 50
        assert np.abs(one.astype(int) - other).mean() < 0.01  # .mrml holds six digits of a matrix
    regions = again.scene.GetFirstNodeByName("lesion gradcam regions")
    segment = regions.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "hot 1" and np.allclose(segment.GetColor(), (0.25, 0.5, 1.0), atol=0.01)
    assert not regions.GetDisplayNode().GetVisibility2DFill() and regions.GetDisplayNode().GetVisibility2DOutline()
    assert "Coarse." in again.scene.GetFirstNodeByName(scene.NOTICE).GetText()
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(again.scene.GetFirstNodeByName("lesion gradcam"))
    assert legend.GetVisibility() and legend.GetTitleTextProperty().GetFontSize() == 12


def test_raw_values_are_kept_and_types_that_slicer_lacks_are_widened():
    for kind in (bool, np.int64, np.uint64, np.float16, np.int16, np.float64, ">i2"):
        array = np.arange(24).reshape(2, 3, 4).astype(kind)
        assert np.array_equal(nodes.storable(array), array.astype(float))
    huge = np.full((1, 1, 1), 2**40)
    assert nodes.storable(huge)[0, 0, 0] == 2**40


def test_names_that_clash_or_hold_slashes_lose_nothing(tmp_path, example):
    volume, (first, second) = example
    twins = [as_overlay("a/b: c", one.map, one.signed) for one in (first, second)]
    save_scene(build_scene(volume, twins), tmp_path / "twins.mrb")
    with zipfile.ZipFile(tmp_path / "twins.mrb") as bundle:
        assert sum(name.endswith(".nrrd") for name in bundle.namelist()) == 3


def test_inside_the_application_its_own_scene_is_used(monkeypatch, example):
    import slicer

    theirs = host.private_scene()
    monkeypatch.setattr(slicer, "app", SimpleNamespace(applicationLogic=lambda: theirs.application), raising=False)
    monkeypatch.setattr(slicer, "mrmlScene", theirs.scene, raising=False)
    made = build_scene(*example)
    assert theirs.scene.GetFirstNodeByName("lesion lime").GetID() == made.maps[1].GetID()
    layers = theirs.application.GetSliceLogicByLayoutName("Yellow").GetSliceCompositeNode()
    assert layers.GetForegroundVolumeID() == made.maps[0].GetID()


def test_without_slicer_the_remedy_is_named(monkeypatch, example, tmp_path):
    monkeypatch.setitem(sys.modules, "slicer", None)
    with pytest.raises(InputError, match="pip install slicer-core"):
        build_scene(*example)
    with pytest.raises(InputError, match="pip install slicer-core"):
        snapshot.snapshot(*example, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_a_scene_that_fails_to_write_harms_nothing(tmp_path):
    class Full:
        SetURL = SetRootDirectory = GetURL = GetRootDirectory = lambda *_: ""

        def WriteToMRB(self, path):
            with open(path, "wb") as file:
                file.write(b"half")
            return 0

    (tmp_path / "old.mrb").write_bytes(b"before")
    broken = Scene(SimpleNamespace(scene=Full()), None, [], [], None)
    with pytest.raises(InputError, match="old.mrb"):
        save_scene(broken, tmp_path / "old.mrb")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("old.mrb", b"before")]
    with pytest.raises(InputError, match="old.mrb"):
        save_scene(broken, tmp_path / "old.mrb" / "below.mrb")
    with pytest.raises(InputError, match="suffix"):
        save_scene(broken, tmp_path / "x.mrml")


def test_the_peak_of_a_plateau_is_its_middle():
    values = np.zeros((9, 9, 9), np.float32)
    values[2:5, 3:6, 1:8] = -4.0
    values[8, 8, 8] = 3.0
    affine = grid((9, 9, 9), (1, 2, 3), seed=2)
    found = as_overlay("map", Volume(values, affine), True).peak
    assert np.allclose(found, affine[:3, :3] @ (4, 4, 3) + affine[:3, 3])
