"""Pictures: exact colours, places in the patient, what is said in them, no half files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fixture_maps
import numpy as np
import pytest
from fixture_maps import as_overlay, blob, grid

from MedXAILib.errors import InputError
from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.geometry.volume import GEOMETRY, Source, Volume
from MedXAILib.mrml import nodes, overlay
from MedXAILib.mrml.overlay import Overlay
from MedXAILib.outputs.pictures import panels, sheet, snapshot, solid, text
from MedXAILib.outputs.pictures.chart import curve
from MedXAILib.outputs.pictures.layout import ACCENT
from MedXAILib.outputs.pictures.stage import pixel_of, set_stage, slice_image

pytest.importorskip("slicer")
from PIL import Image  # noqa: E402

VALUES = Volume(np.ones((2, 2, 2), np.float32), np.eye(4))


@pytest.fixture
def example():
    return fixture_maps.example()


@pytest.mark.parametrize(
    ("signed", "value", "color"), [(False, 2e-6, "#ffea6e"), (True, 2e-6, "#ffd380"), (True, -2e-6, "#a3daff")]
)
def test_blended_pixels_are_exact(signed, value, color):
    shape = (20, 20, 20)
    volume = Volume(np.full(shape, 127, np.uint8), grid(shape, (1, 1, 1)))
    values = np.zeros(shape, np.float32)
    values[:, :, 10:] = value  # i >= 10, the patient's right half: the left of an axial picture
    values[:, :10] *= 0.2  # the posterior half below the threshold
    stage = set_stage(volume)
    stage.node.GetDisplayNode().SetWindowLevelMinMax(0, 255)
    heat = nodes.add_map(stage.host.scene, as_overlay("map", volume.with_array(values), signed))
    picture = np.asarray(slice_image(stage, "Axial", (12, -30, 55), 100, heat))
    expected = (127 + np.array([int(color[n : n + 2], 16) for n in (1, 3, 5)])) / 2
    assert np.abs(picture[20, 20] - expected).max() <= 1
    assert (picture[20, 80] == 127).all() and (picture[80, 20] == 127).all()
    assert (picture[0, 0] == 0).all()  # outside the volume


# the directions in which the picture's columns and rows go, after the radiological convention
DIRECTIONS = {
    "Axial": ((-1, 0, 0), (0, -1, 0)),
    "Sagittal": ((0, -1, 0), (0, 0, -1)),
    "Coronal": ((-1, 0, 0), (0, 0, -1)),
}


@pytest.mark.parametrize("plane", DIRECTIONS)
@pytest.mark.parametrize("seed", [None, 4, 7])
def test_a_blob_lies_where_it_was_planted(plane, seed):
    shape = (60, 50, 24)
    affine = grid(shape, (1.5, 2.0, 5.0), seed)
    volume = Volume(np.zeros(shape[::-1], np.float32), affine)
    point = np.array([20.0, -41.0, 63.0])
    fine = (81, 81, 81)
    stage = set_stage(volume)
    heat = nodes.add_map(stage.host.scene, as_overlay("map", blob(fine, grid(fine, (1, 1, 1), middle=point), point, 6)))
    size = 240
    picture = np.asarray(slice_image(stage, plane, point, size, heat)).astype(float).sum(axis=-1)
    row, column = (np.indices(picture.shape) * picture).sum(axis=(1, 2)) / picture.sum()

    across, down = (np.array(way) for way in DIRECTIONS[plane])
    corners = np.array([[i, j, k, 1] for i in (-0.5, 59.5) for j in (-0.5, 49.5) for k in (-0.5, 23.5)]) @ affine.T
    ranges = [corners[:, :3] @ way for way in (across, down)]
    scale = 1.04 * max(np.ptp(ranges[0]), np.ptp(ranges[1])) / size
    expected = [
        size / 2 + (point @ way - (r.max() + r.min()) / 2) / scale
        for way, r in zip((across, down), ranges, strict=True)
    ]
    assert np.allclose((column, row), expected, atol=1.0)
    assert np.allclose((column, row), pixel_of(stage, point), atol=0.6)


def test_a_photograph_is_shown_as_it_is():
    array = np.zeros((1, 60, 80), np.uint8)
    array[0, 5:15, 10:20] = 200  # row 10, column 15: near the upper left corner
    volume = Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]), Source("x.png"))
    picture = np.asarray(slice_image(set_stage(volume), "Axial", (0, 0, 0), 320))[..., 0].astype(float)
    row, column = (np.indices(picture.shape) * picture).sum(axis=(1, 2)) / picture.sum()
    scale = 320 / 80 / 1.04
    assert abs(column - (160 + (14.5 - 39.5) * scale)) < 1.5 and abs(row - (160 + (9.5 - 29.5) * scale)) < 1.5


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_a_single_oblique_slice_fills_its_own_plane(thin):
    shape = [50, 50, 50]
    shape[thin] = 1
    volume = Volume(np.full(shape[::-1], 100, np.uint8), grid(shape, (2, 2, 2), seed=5))
    stage = set_stage(volume)
    stage.node.GetDisplayNode().SetWindowLevelMinMax(0, 100)
    plane = ("Sagittal", "Coronal", "Axial")[thin]
    picture = np.asarray(slice_image(stage, plane, overlay.centre(volume), 200))[..., 0]
    assert abs((picture == 255).mean() - 1 / 1.04**2) < 0.02


def test_colour_pictures_keep_their_colours():
    array = np.tile(np.array([200, 40, 90], np.uint8), (4, 20, 20, 1))
    stage = set_stage(Volume(array, grid((20, 20, 4), (1, 1, 5))))
    assert tuple(np.asarray(slice_image(stage, "Axial", (12, -30, 55), 100))[50, 50]) == (200, 40, 90)


def test_outlines_follow_the_label_and_leave_its_inside_free():
    shape = (30, 30, 30)
    volume = Volume(np.zeros(shape, np.uint8), grid(shape, (1, 1, 1)))
    inside = np.zeros(shape, np.int64)
    inside[:, 10:20, 10:20] = 7
    stage = set_stage(volume, Labels(volume.with_array(inside), (Label(7, "box", (1.0, 0.0, 0.0)),)))
    picture = np.asarray(slice_image(stage, "Axial", (12, -30, 55), 312, outlines=stage.outlines))
    red = (picture == (255, 0, 0)).all(axis=-1)
    assert not (picture[~red] != 0).any()
    rows, columns = np.nonzero(red)
    assert abs(np.ptp(rows) - 100) <= 2 and abs(np.ptp(columns) - 100) <= 2  # 10 voxels of 10 pixels
    assert not red[150:160, 150:160].any() and 350 < red.sum() < 450


def words_of(monkeypatch) -> list[str]:
    """Collects every paragraph of the pictures made from now on."""
    said, write = [], text.paragraph

    def listen(words, *more, **options):
        said.append(words)
        return write(words, *more, **options)

    for module in (snapshot, panels):
        monkeypatch.setattr(module, "paragraph", listen)
    return said


def dies(*_) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", "import os; os._exit(134)"])


def test_the_picture_says_what_it_shows(monkeypatch, tmp_path, example):
    volume, overlays = example
    said = words_of(monkeypatch)
    monkeypatch.setattr(solid, "start", dies)
    path = snapshot.snapshot(volume, overlays, tmp_path / "out.png", heading="net · head")
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]
    point = overlays[0].peak
    place = ", ".join(
        f"{letters[int(x < 0)]} {abs(x):.1f}" for letters, x in zip(("RL", "AP", "SI"), point, strict=True)
    )
    assert {"net · head", "lesion · Grad-CAM", "lesion · LIME", snapshot.FOOTER, f"Peak at {place} mm. Coarse."} <= set(
        said
    )
    assert sum("OpenGL is missing" in words for words in said) == 2
    with Image.open(path) as picture:
        assert "Research use only, not for clinical use" in picture.text["Disclaimer"]
        pixels = np.asarray(picture).astype(int)
    assert (pixels[..., 0] - pixels[..., 2]).max() > 80  # the map's warm colours are there without OpenGL


def test_many_maps_share_one_slice_on_a_contact_sheet(tmp_path):
    """Nine maps that are hot in one plane each: the sheet shows the plane of the narrowest, and only what is hot there."""
    volume = Volume(np.zeros((8, 40, 40), np.uint8), grid((40, 40, 8), (1, 1, 1)))
    maps = []
    for n in range(9):
        heat = np.zeros((8, 40, 40), np.float32)
        heat[3 if n < 4 else 6, 10:30, 10:30] = n + 1  # four in plane 3
        heat[:, 0, 0] = 1e-3 * (n > 0)  # too weak to be seen, but the first one is the narrowest
        maps.append(as_overlay("m", volume.with_array(heat), False, "target", f"method {n}", said="p 1"))
    snapshot.snapshot(volume, maps, tmp_path / "out.png", heading="many")
    with Image.open(tmp_path / "out.png") as picture:
        assert "Research use only, not for clinical use" in picture.text["Disclaimer"]
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    warm = pixels[:-200, :, 0] - pixels[:-200, :, 2] > 40  # without the colour bar
    across = np.flatnonzero(warm.any(0))
    assert len(np.split(across, np.flatnonzero(np.diff(across) > 50) + 1)) == 4  # the input is followed by the four
    below = np.flatnonzero(warm.any(1))
    assert below.max() - below.min() < 250  # nothing in the second row


def test_a_title_joins_its_parts_and_a_panel_takes_them_from_the_fields():
    whole = Overlay(
        name="m", map=VALUES, signed=False, target="a · b", said="p 0.97", method="Grad-CAM", layer="features.6"
    )
    assert whole.title == "a · b · p 0.97 · Grad-CAM · features.6"
    assert sheet.lines(whole) == ("Grad-CAM · features.6", "a · b, up to 1")
    assert as_overlay("m", VALUES, target="lesion", method="LIME").title == "lesion · LIME"


def test_the_curve_over_layers_is_as_wide_as_the_sheet_and_has_a_point_for_each():
    pytest.importorskip("matplotlib")
    image = np.asarray(curve(["one", "two", "three"], [0.1, -2.0, 3.5], 700))
    assert image.shape[1:] == (700, 3)
    accent = (image == ACCENT).all(axis=-1)
    columns = np.flatnonzero(accent.any(axis=0))
    assert 450 < np.ptp(columns) < 700
    ends = [np.flatnonzero(accent[:, column]).mean() for column in (columns[0], columns[-1])]
    assert ends[1] < ends[0], "the last value is the largest"


def test_heat_ends_with_the_image():
    """Cells may hang over the volume's edge; in the picture nothing is drawn there."""
    steps = np.arange(4000, dtype=np.float32).reshape(10, 10, 40) % 7
    volume = Volume(steps, grid((40, 10, 10), (1, 1, 1)))
    heat = Volume(np.ones((5, 5, 5), np.float32), volume.affine @ np.diag([8.0, 8.0, 8.0, 1.0]))
    stage = set_stage(volume)
    node = nodes.add_map(stage.host.scene, as_overlay("m", heat))
    image = np.asarray(slice_image(stage, "Axial", volume.ras((20, 5, 5)), 100, node)).astype(int)
    assert not image[:20].any() and not image[-20:].any()
    assert (image[..., 0] - image[..., 2] > 40)[40:60].mean() > 0.8


def test_a_flat_picture_has_no_place_in_the_patient(monkeypatch, tmp_path):
    said = words_of(monkeypatch)
    source = Source("slice.jpg", assumed=GEOMETRY)
    volume = Volume(np.zeros((1, 30, 40, 3), np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]), source)
    heat = np.zeros((1, 30, 40), np.float32)
    heat[0, 4, 5] = 1.0
    snapshot.snapshot(volume, [as_overlay("m", Volume(heat, volume.affine), caveats=("Coarse.",))], tmp_path / "o.png")
    assert "Peak at column 5, row 4; patient position unknown. Coarse." in said
    assert not any("OpenGL" in words for words in said)


def test_a_volume_without_maps_is_shown_with_its_key(monkeypatch, tmp_path, example):
    volume, overlays = example
    said = words_of(monkeypatch)
    monkeypatch.setattr(solid, "start", None)  # no 3D view without a map
    path = snapshot.snapshot(volume, [], tmp_path / "out.png", heading="seen", segmentation=overlays[0].regions)
    assert "seen" in said and not any("Peak" in words for words in said)
    with Image.open(path) as picture:
        blue = (np.asarray(picture) == (64, 128, 255)).all(axis=-1)
        key, slices = blue[:110].sum(), blue[110:].sum()
    assert key > 50 and slices > 50


def test_a_picture_that_fails_to_write_harms_nothing(monkeypatch, tmp_path, example):
    def half(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "compose", lambda *_: SimpleNamespace(save=half))
    (tmp_path / "old.png").write_bytes(b"before")
    with pytest.raises(InputError, match=r"old\.png.*No space"):
        snapshot.snapshot(*example, tmp_path / "old.png")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("old.png", b"before")]
    with pytest.raises(InputError, match="suffix"):
        snapshot.snapshot(*example, tmp_path / "x.jpg")


def test_the_3d_view_shows_the_map_in_its_colours(example):
    volume, overlays = example
    one, two = solid.Rendering(volume, overlays, 120).pictures()
    if one is None:
        pytest.skip("no OpenGL on this machine")
    red, _, blue = np.moveaxis(one.astype(int), -1, 0)
    assert one.shape == (120, 120, 3) and (red - blue).max() > 60
    assert (two[..., 2].astype(int) - two[..., 0]).max() > 40  # the evidence against is blue


@pytest.mark.parametrize("shape", [(6, 8, 1), (300, 7, 120), (5, 5, 5)])
def test_coarsening_keeps_the_box_and_the_mean(shape):
    affine = grid(shape, (1.5, 2, 4), seed=3)
    ramp = np.broadcast_to(np.arange(shape[0], dtype=np.float32), shape[::-1]).copy()
    out = solid.coarse(Volume(ramp, affine))
    assert min(out.shape) >= 3 and max(out.shape) <= solid.DETAIL
    for corner in ([-0.5] * 3, np.array(shape) - 0.5):
        there = np.linalg.inv(out.affine) @ affine @ [*corner, 1]
        assert np.allclose(there[:3], [-0.5] * 3 if corner[0] < 0 else np.array(out.shape) - 0.5)
    assert abs(out.array.mean() - ramp.mean()) < 0.01


def test_a_drawing_that_hangs_is_given_up(monkeypatch, example):
    monkeypatch.setattr(solid, "TIME_LIMIT", 0.2)
    monkeypatch.setattr(solid, "TIME_EACH", 0)
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(solid, "start", lambda *_: subprocess.Popen(sleeper))
    drawing = solid.Rendering(*example, 120)
    assert drawing.pictures() == [None, None] and drawing.process.poll() is not None
    assert drawing.reason == "rendering timed out"


def test_a_real_oblique_volume(data, tmp_path):
    from MedXAILib.io.read import read_volume

    volume = read_volume(data / "volumes" / "niivue_FLAIR.nrrd")
    place = volume.ras(np.array([85.0, 90.0, 80.0]))
    heat = blob((16, 20, 18), volume.affine @ np.diag([7.75, 8, 7.78, 1]), place, 12)
    path = snapshot.snapshot(volume, [as_overlay("map", heat)], tmp_path / "flair.png")
    with Image.open(path) as picture:
        panels = np.asarray(picture).astype(int)[100:460, 28 : 28 + 3 * 370]
    assert (panels.std(axis=-1).max(), panels.mean()) > (40, 15)


def test_importing_is_light():
    code = (
        "import sys, MedXAILib.outputs.pictures.snapshot; "
        "print([m for m in ('slicer', 'vtk', 'PIL', 'torch', 'SimpleITK', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(snapshot.__file__).parents[2]
    )
    assert out.stdout.strip() == "[]"
