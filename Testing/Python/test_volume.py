"""Geometry of Volume against nibabel, analytic functions and plain indexing."""

from __future__ import annotations

import numpy as np
import pytest

from MedXAILib.geometry.affine import apply, axis_codes, left_handed, oblique_degrees, shear_degrees
from MedXAILib.geometry.grid import Grid
from MedXAILib.geometry.labels import Label, Labels, label_colors
from MedXAILib.geometry.resample import resample
from MedXAILib.geometry.volume import Source, Volume


def random_affine(rng: np.random.Generator, sheared: float = 0.0) -> np.ndarray:
    """Oblique, anisotropic, either handed."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.array([[1, sheared, 0], [0, 1, 0], [0, 0, 1]]) * rng.uniform(0.3, 6, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def permuted(rng: np.random.Generator) -> np.ndarray:
    """A signed permutation with spacing."""
    affine = np.zeros((4, 4))
    affine[rng.permutation(3), range(3)] = rng.uniform(0.5, 4, 3) * rng.choice([-1, 1], 3)
    affine[:3, 3], affine[3, 3] = rng.uniform(-50, 50, 3), 1
    return affine


def test_axes_agree_with_nibabel():
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    affines = [random_affine(rng) if n % 2 else permuted(rng) for n in range(400)]
    affines = [
        affine for affine in affines if oblique_degrees(affine) < 40
    ]  # beyond, the nearest axis is a matter of taste
    assert len(affines) > 200
    for affine in affines:
        assert axis_codes(affine) == "".join(nibabel.aff2axcodes(affine))


def test_places_of_voxels():
    affine = np.array([[-2.0, 0, 0, 10], [0, 0, -3, 20], [0, 1.5, 0, 30], [0, 0, 0, 1]])
    volume = Volume(np.zeros((4, 5, 6)), affine)
    assert volume.shape == (6, 5, 4)
    assert volume.axes == "LSP"
    assert volume.voxel_ml == pytest.approx(0.009)
    assert volume.spacing == pytest.approx([2, 1.5, 3])
    assert volume.ras([1, 2, 3]) == pytest.approx([8, 11, 33])
    assert volume.ijk(volume.ras([[0.25, 4, 2], [5, 0, 1]])) == pytest.approx(np.array([[0.25, 4, 2], [5, 0, 1]]))
    assert volume.contains(volume.ras([-0.49, 4.49, 3.49]))
    assert not volume.contains(volume.ras([-0.51, 0, 0]))


def test_obliqueness_and_handedness():
    angle = np.radians(17)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert oblique_degrees(turned) == pytest.approx(17)
    assert not left_handed(turned)
    assert left_handed(turned @ np.diag([1, 1, -1, 1]))


def test_unusable_geometry_is_refused():
    array = np.zeros((2, 2, 2))
    tilted = np.eye(4)
    tilted[1, 2] = np.tan(np.radians(10))
    assert shear_degrees(tilted) == pytest.approx(10)
    with pytest.raises(ValueError, match=r"sheared .* 10\.0 degrees"):
        Volume(array, tilted)
    for affine in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)):
        with pytest.raises(ValueError, match="affine"):
            Volume(array, affine)
    with pytest.raises(ValueError, match="shape"):
        Volume(np.zeros((2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="does not fit"):
        Volume(array, np.eye(4)).with_array(np.zeros((2, 2, 3)))


def test_the_affine_is_a_copy():
    affine = np.eye(4, dtype=np.float32)
    volume = Volume(np.zeros((1, 1, 1)), affine)
    affine[0, 3] = 5
    assert volume.affine.dtype == np.float64
    assert volume.affine[0, 3] == 0


def test_same_grid_measures_in_voxels():
    volume = Volume(np.zeros((50, 60, 70)), np.diag([0.5, 0.5, 5, 1]))
    near, far = np.eye(4), np.eye(4)
    near[0, 3], far[0, 3] = 4e-4, 1e-3
    assert volume.grid.same_as(Volume(volume.array, near @ volume.affine).grid)
    assert not volume.grid.same_as(Volume(volume.array, far @ volume.affine).grid)
    assert not volume.grid.same_as(Volume(np.zeros((50, 60, 71)), volume.affine).grid)


def test_the_two_orders_of_indices_are_views_of_one_grid():
    rng = np.random.default_rng(3)
    grid = Grid((5, 6, 7), random_affine(rng), "1.2.3")
    again = Grid.of_array(grid.array_shape, grid.array_affine, "1.2.3")
    assert (
        grid.array_shape == (7, 6, 5)
        and np.array_equal(again.affine, grid.affine)
        and again.frame_of_reference == "1.2.3"
    )
    ijk = rng.uniform(0, 5, (20, 3))
    assert np.allclose(apply(grid.array_affine, ijk[:, ::-1]), grid.ras(ijk))
    assert np.allclose(grid.ijk(grid.ras(ijk)), ijk)
    assert np.allclose(grid.index_of(grid.ras(ijk)), ijk[:, ::-1])


def test_what_belongs_to_slices_stays_with_them():
    series = {"study": "1.1", "frame_of_reference": "1.2", "sop": ["1.3.1", "1.3.2"], "frame": [1, 1]}
    volume = Volume(np.zeros((2, 3, 4), np.float32), np.diag([1, 1, 5, 1]), Source("x", "dicom", series))
    assert resample(volume, volume.grid).source == volume.source
    other = resample(volume, Grid((4, 3, 3), np.diag([1, 1, 2.5, 1])))
    assert other.source.series == {"study": "1.1", "frame_of_reference": "1.2"}
    assert other.grid.frame_of_reference == volume.grid.frame_of_reference == "1.2"


def test_resampling_a_linear_function_is_exact():
    rng = np.random.default_rng(1)
    for _ in range(20):
        source = Volume(np.zeros((19, 23, 21)), random_affine(rng))
        slope = rng.normal(size=3)
        grid = np.stack(np.meshgrid(*[np.arange(n) for n in source.shape], indexing="ij"), -1)
        values = (source.ras(grid) @ slope).transpose(2, 1, 0)
        centre = source.ras((np.array(source.shape) - 1) / 2)
        target = random_affine(rng)
        target[:3, 3] = centre - target[:3, :3] @ [4, 3, 2]
        out = resample(source.with_array(values), Grid((9, 7, 5), target), outside=-1e9)
        points = out.ras(np.stack(np.meshgrid(*[np.arange(n) for n in out.shape], indexing="ij"), -1))
        index = source.ijk(points)
        inner = ((index >= 0) & (index <= np.array(source.shape) - 1)).all(-1)
        outer = ((index < -0.51) | (index > np.array(source.shape) - 0.49)).any(-1)
        found = out.array.transpose(2, 1, 0)
        assert inner.any()
        assert found[inner] == pytest.approx((points @ slope)[inner], abs=1e-4 * np.abs(values).max())
        assert (found[outer] == np.float32(-1e9)).all()


@pytest.mark.parametrize("order", [0, 1])
def test_resampling_onto_reordered_axes_moves_voxels_only(order):
    rng = np.random.default_rng(2)
    array = rng.integers(0, 255, (5, 6, 7, 2)).astype(np.uint8)
    volume = Volume(array, random_affine(rng), Source("x"))
    flip = np.array(
        [[0, 0, -1, 6], [1, 0, 0, 0], [0, -1, 0, 4], [0, 0, 0, 1]], float
    )  # (i, j, k) = (6 - k', i', 4 - j')
    out = resample(volume, Grid((6, 5, 7), volume.affine @ flip), order=order)
    assert out.array == pytest.approx(array[::-1, :, ::-1].transpose(2, 0, 1, 3), abs=0 if order == 0 else 1e-3)
    assert out.array.dtype == (np.uint8 if order == 0 else np.float32)
    assert out.source == volume.source


def test_half_a_voxel_around_belongs_to_the_volume():
    volume = Volume(np.full((1, 1, 3), 7.0), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = -0.9
    out = resample(volume, Grid((8, 1, 1), shifted @ np.diag([0.5, 1, 1, 1])), outside=-1)
    assert out.array.ravel().tolist() == [-1, 7, 7, 7, 7, 7, 7, -1]  # at -0.9, -0.4, ... 2.1, 2.6


def test_labels_know_their_volume():
    array = np.zeros((2, 3, 4), np.uint8)
    array[0, 0, :3], array[1, 2, 1] = 2, 5
    labels = Labels(Volume(array, np.diag([10, 10, 10, 1])), (Label(2, "two"), Label(5, "five"), Label(9, "none")))
    assert labels.ml() == pytest.approx({"two": 3.0, "five": 1.0, "none": 0.0})


def test_colours_are_distinct():
    colors = label_colors(40)
    distances = [np.abs(np.subtract(a, b)).max() for n, a in enumerate(colors) for b in colors[:n]]
    assert min(distances) > 0.01
    assert np.min(colors) >= 0 and np.max(colors) <= 1
