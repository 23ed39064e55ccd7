"""Pictures that need no Slicer: which voxel is seen where, in which colour; contact sheets, the matrix of structures, figures."""

from __future__ import annotations

import json
import shutil
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from fixture_runs import only, rows, small_model, volumes
from PIL import Image

from MedXAILib.app import run as runner
from MedXAILib.app.drawing import Drawing, density, draw
from MedXAILib.app.job import Job
from MedXAILib.app.sheets import structures
from MedXAILib.cli import run as command
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume
from MedXAILib.mrml.palette import THRESHOLD, heat_table
from MedXAILib.outputs.pictures.figure import Look
from MedXAILib.outputs.pictures.planes import Looked, Plane, painted, planes_through

SHAPE = (5, 6, 7)


@pytest.mark.parametrize(
    ("order", "signs"), [(o, s) for o in permutations(range(3)) for s in product((1, -1), repeat=3)]
)
def test_each_plane_shows_what_lies_there_whatever_the_order_of_the_axes(order, signs):
    """A volume whose values are its own RAS coordinates: a plane must show them right to left, front to back, top to bottom."""
    rotation = np.zeros((3, 3))
    for n in range(3):
        rotation[order[n], n] = signs[n] * (1.0, 2.0, 3.0)[order[n]]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation, (-4, 5, 6)
    shape = [0, 0, 0]
    for n in range(3):
        shape[n] = SHAPE[order[n]]
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    ras = grid @ rotation.T + affine[:3, 3]
    volumes_of = [Volume(np.ascontiguousarray(ras[..., axis].T.astype(np.float32)), affine) for axis in range(3)]
    point = np.asarray(volumes_of[0].ras([n // 2 for n in shape]))
    for axis, heat in enumerate(volumes_of):
        axial, sagittal, coronal = (plane.heat for plane in planes_through(heat, heat, point))
        down, across = {0: (None, -1), 1: (-1, None), 2: (None, None)}[axis]
        _runs(axial, down, across, point[axis])
        down, across = {0: (None, None), 1: (None, -1), 2: (-1, None)}[axis]
        _runs(sagittal, down, across, point[axis])
        down, across = {0: (None, -1), 1: (None, None), 2: (-1, None)}[axis]
        _runs(coronal, down, across, point[axis])
    looked = Looked(volumes_of[0])
    assert looked.shape == SHAPE and looked.spacing == (1.0, 2.0, 3.0)
    at = looked.index(point)
    assert np.allclose(looked.point(at), point)


def _runs(array, down, across, value):
    """Coordinates fall along an axis of a plane, or are the same."""
    for axis, way in ((0, down), (1, across)):
        steps = np.diff(array, axis=axis)
        assert (steps < 0).all() if way else (steps == 0).all()
    if down is None and across is None:
        assert np.allclose(array, value)


@pytest.mark.parametrize("signed", [False, True])
def test_a_voxel_has_the_colour_of_its_value_and_weak_ones_none(signed):
    values = np.array([[1.0, 0.5, 0.29, 0.0, -1.0]])
    plane = Plane(words="", grey=np.full(values.shape, 0.2), heat=values, size=(1, 5))
    picture = painted(plane, 1.0, signed, 1, 5, opacity=1.0)[0] / 255
    table = heat_table(signed)[:, :3]
    low = -1.0 if signed else 0.0
    for column, value in enumerate(values[0]):
        strength = abs(value) if signed else value
        wanted = np.full(3, 0.2)
        if strength >= THRESHOLD:
            wanted = table[round((value - low) / (1 - low) * 255)]
        assert np.allclose(picture[column], wanted, atol=1 / 255), value


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three cases explained, with anatomy."""
    folder = tmp_path_factory.mktemp("figures")
    small_model(folder / "model")
    volumes(folder / "cases", 3)
    (folder / "labels").mkdir()
    for n in range(3):
        labels = np.zeros((3, 20, 18), np.uint8)
        labels[:, :10], labels[:, 10:] = 1, 2
        write_volume(Volume(labels, np.diag([1.5, 1.5, 4, 1])), folder / "labels" / f"case-{n:03}.nrrd")
    runner.run(job(folder), folder / "out")
    return folder


def job(place: Path, **more) -> Job:
    return Job(
        task="explain", inputs={"": str(place / "cases")}, model=str(place / "model" / "card.json"), classes=("yes", "no"),
        methods=("gradcam", "saliency"), device="cpu", anatomy=str(place / "labels"), **more,
    )  # fmt: skip


def test_each_map_has_a_picture_and_each_class_and_method_a_sheet(place):
    out = place / "out"
    picture = Image.open(only(out / "case-000", "case-000_yes_saliency_picture.png"))
    assert "Research use only" in picture.text["Disclaimer"] and picture.width > 2 * picture.height
    sheets = sorted(path.name for path in out.glob("contact_*.png"))
    assert [name for name in sheets if "saliency" in name] == ["contact_no_saliency.png", "contact_yes_saliency.png"]
    assert len([name for name in sheets if "gradcam" in name]) == 2
    assert set(sheets) < set(json.loads((out / "run.json").read_text())["files"])


def test_structures_are_compared_in_fractions_of_each_maps_own_mass(place):
    table = rows(place / "out" / "structures.csv")
    single = rows(place / "out" / "anatomy.csv")
    assert len(table) == 2 * 2 * len({row["structure"] for row in single})
    for row in table:
        some = [r for r in single if all(r[key] == row[key] for key in ("class", "method", "layer", "structure"))]
        values = [float(r["positive_fraction"]) for r in some if r["positive_fraction"]]
        assert int(row["cases"]) == len(values)
        assert float(row["positive_fraction_mean"]) == pytest.approx(np.mean(values), rel=1e-4)
        assert float(row["positive_fraction_sd"]) == pytest.approx(np.std(values, ddof=1), rel=1e-3, abs=1e-6)
    assert list((place / "out").glob("structures_saliency.png"))
    one = [("a", "c", "m", "", "s", None, 0.1, 0.5)]
    assert structures(one) == [("c", "m", "", "s", 0, None, None, 0.5)], "a map without positive mass counts for none"


def test_draw_needs_no_network_and_refuses_another_image(place, tmp_path, capsys):
    shutil.copytree(place, tmp_path / "p")
    here = tmp_path / "p"
    shutil.rmtree(here / "model")
    found = draw(here / "out", Drawing(look=Look(slices="axial:2", theme="light", dpi=60)))
    assert found.files == [f"figures/case-00{n}.png" for n in range(3)] and not found.failures
    picture = Image.open(here / "out" / found.files[0])
    assert picture.getpixel((2, 2))[:3] == (255, 255, 255) and "Research use only" in picture.text["Disclaimer"]
    for kind, start in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        files = draw(here / "out", Drawing(format=kind, scale="common")).files
        assert (here / "out" / files[0]).read_bytes().startswith(start)
    first = (here / "out" / files[0]).read_bytes()
    draw(here / "out", Drawing(format="pdf", scale="common"))
    assert (here / "out" / files[0]).read_bytes() == first, "the same picture, the same bytes"

    (here / "cases").rename(here / "moved")
    assert command(["draw", str(here / "out")]) == 1
    assert "--inputs" in capsys.readouterr().err
    assert command(["draw", str(here / "out"), "--inputs", str(here / "moved")]) == 0
    shutil.copy(here / "moved" / "case-001.nii.gz", here / "moved" / "case-000.nii.gz")
    capsys.readouterr()
    assert command(["draw", str(here / "out"), "--inputs", str(here / "moved")]) == 3
    assert "not the image that was explained" in capsys.readouterr().err
    for words in (["--slices", "axial"], ["--scale", "x"], ["--format", "gif"], ["--theme", "pink"]):
        assert command(["draw", str(here / "out"), *words]) == 2


def test_a_common_scale_compares_shares_of_a_maps_own_mass():
    rng = np.random.default_rng(0)
    heat = Volume(rng.normal(size=(4, 5, 6)).astype(np.float32), np.diag([1, 2, 5, 1]))
    shares = density(heat, "mL")
    assert np.abs(shares.array).sum() * 0.01 == pytest.approx(100, rel=1e-4), "per mL, voxels of 0.01 mL"
    assert np.allclose(density(heat.with_array(1000 * heat.array), "mL").array, shares.array, rtol=1e-4)
    assert (density(heat.with_array(0 * heat.array), "mL").array == 0).all()


def test_what_no_run_wrote_is_not_drawn_over(place, tmp_path):
    shutil.copytree(place, tmp_path / "p")
    out = tmp_path / "p" / "out"
    (out / "figures").mkdir()
    (out / "figures" / "case-001.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="no run wrote"):
        draw(out, Drawing())
    assert (out / "figures" / "case-001.png").read_bytes() == b"mine"


def test_a_new_job_of_other_classes_replaces_sheets_of_the_old_one(place, tmp_path):
    shutil.copytree(place, tmp_path / "p")
    here = tmp_path / "p"
    small = Job(**vars(job(here)) | {"classes": ("yes",), "methods": ("saliency",), "anatomy": None})
    found = runner.run(small, here / "out")
    assert found["computed"] == 0
    assert [path.name for path in (here / "out").glob("contact_*.png")] == ["contact_yes_saliency.png"]
    assert not list((here / "out").glob("structures*"))


def test_a_picture_of_one_slice_is_shown_in_its_own_plane():
    flat = Volume(np.arange(12, dtype=np.float32).reshape(1, 3, 4), np.diag([2, 3, 1, 1]))
    (plane,) = planes_through(flat, flat, np.zeros(3))
    assert plane.grey.shape == (3, 4) and plane.size == (9, 8)
