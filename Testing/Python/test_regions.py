"""The tables against loops over voxels on random maps; the foreground on real images."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from MedXAILib.findings.anatomy import anatomy_fractions
from MedXAILib.findings.regions import hot_regions, inner_points, superpixel_rows
from MedXAILib.geometry.affine import apply
from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.geometry.volume import Volume
from MedXAILib.preprocessing.foreground import foreground, otsu_threshold


def random_affine(rng) -> np.ndarray:
    """An oblique, anisotropic, possibly left-handed grid somewhere in the patient."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.5, 4, 3)
    affine[:3, 3] = rng.uniform(-80, 80, 3)
    return affine


def random_map(rng, ties: bool) -> Volume:
    shape = tuple(rng.integers(1, 9, 3))
    array = rng.normal(size=shape).astype(np.float32)
    return Volume(np.round(array) if ties else array, random_affine(rng))


def flood(voxels: set) -> list[set]:
    """Components of a set of (k, j, i) that touch by faces, edges or corners."""
    parts = []
    while voxels:
        part, edge = set(), [voxels.pop()]
        while edge:
            at = edge.pop()
            part.add(at)
            for step in product((-1, 0, 1), repeat=3):
                near = tuple(a + s for a, s in zip(at, step, strict=True))
                if near in voxels:
                    voxels.remove(near)
                    edge.append(near)
        parts.append(part)
    return parts


@pytest.mark.parametrize("seed", range(24))
def test_hot_regions_equal_a_loop_over_voxels(seed):
    rng = np.random.default_rng(seed)
    heat, fraction = random_map(rng, ties=seed % 2 == 0), rng.uniform(0.1, 1.0)
    voxel_mm3 = np.prod(heat.spacing)
    smallest = voxel_mm3 * (rng.integers(1, 4) - 0.5)
    labels, rows = hot_regions(heat, fraction=fraction, smallest_mm3=smallest)

    positive = sorted(((float(v), at) for at, v in np.ndenumerate(heat.array) if v > 0), reverse=True)
    total = sum(v for v, _ in positive)
    held, lowest = 0.0, np.inf
    for v, _ in positive:
        if held < fraction * total * (1 - 1e-12):
            held, lowest = held + v, v
    parts = flood({at for v, at in positive if v >= lowest})
    parts.sort(key=lambda part: -sum(float(heat.array[at]) for at in part))
    parts = [part for n, part in enumerate(parts) if n == 0 or len(part) * voxel_mm3 >= smallest]

    assert len(rows) == len(parts) == len(labels.rows)
    assert set(np.unique(labels.volume.array)) - {0} == {row.value for row in rows}
    claimed = {at for at, v in np.ndenumerate(labels.volume.array) if v}
    assert claimed == set().union(*parts)
    assert [row.mass_fraction for row in rows] == sorted((row.mass_fraction for row in rows), reverse=True)
    for row, label in zip(rows, labels.rows, strict=True):
        own = [at for at in claimed if labels.volume.array[at] == row.value]
        assert set(own) in parts
        mass = np.array([float(heat.array[at]) for at in own])
        points = np.array([apply(heat.affine, at[::-1]) for at in own])
        assert (label.value, label.name) == (row.value, row.name)
        assert row.mass_fraction == pytest.approx(mass.sum() / total, rel=1e-5)
        assert row.peak == mass.max()
        assert row.volume_ml == pytest.approx(len(own) * voxel_mm3 / 1000)
        np.testing.assert_allclose(row.centroid, (mass @ points) / mass.sum(), atol=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_the_set_is_the_smallest_that_holds_the_share(seed):
    heat = random_map(np.random.default_rng(100 + seed), ties=False)
    labels, rows = hot_regions(heat, fraction=0.5, smallest_mm3=0)
    values = np.sort(heat.array[labels.volume.array > 0])
    total = heat.array[heat.array > 0].sum()
    assert values.sum() >= 0.5 * total * (1 - 1e-6)
    assert values[1:].sum() < 0.5 * total * (1 + 1e-6)  # without its lowest voxel it would not do
    assert heat.array[labels.volume.array == 0].max(initial=-np.inf) < values[0]
    assert sum(row.mass_fraction for row in rows) == pytest.approx(values.sum() / total, rel=1e-5)


def test_centroid_of_a_blob_at_a_known_point_of_an_oblique_grid():
    rng = np.random.default_rng(5)
    for _ in range(10):
        affine = random_affine(rng)
        centre = rng.uniform(12, 18, 3)
        k, j, i = np.indices((31, 31, 31))
        squares = ((np.stack([i, j, k], -1) - centre) ** 2).sum(-1)
        heat = Volume(np.exp(-squares / 2 / 2.5**2).astype(np.float32), affine)
        _, rows = hot_regions(heat, fraction=0.9)
        assert len(rows) == 1
        np.testing.assert_allclose(rows[0].centroid, apply(affine, centre), atol=0.1 * heat.spacing.max())


def test_small_regions_are_dropped_by_mm3_but_the_heaviest_stays():
    array = np.zeros((20, 20, 20), np.float32)
    array[2:6, 2:6, 2:6] = 1  # 64 mm3
    array[10, 10, 10:13] = 1  # 3 mm3
    array[15, 15, 15] = 0.5
    mm = Volume(array, np.eye(4))
    assert [row.volume_ml for row in hot_regions(mm, fraction=1)[1]] == [0.064]  # 50 mm3, but a thousandth is 8
    assert [row.volume_ml for row in hot_regions(mm, fraction=1, smallest_mm3=2)[1]] == [0.064, 0.003]
    assert [row.volume_ml for row in hot_regions(mm, fraction=1, smallest_mm3=1e6)[1]] == [0.064]


def test_a_map_without_positive_values_has_no_regions():
    for array in (np.zeros((3, 4, 5), np.float32), -np.ones((3, 4, 5), np.float32)):
        labels, rows = hot_regions(Volume(array, np.eye(4)))
        assert rows == [] and labels.rows == () and not labels.volume.array.any()


def test_superpixel_rows():
    array = np.array([[[1, 1, 2], [2, 2, 4]]])
    labels = Labels(Volume(array, np.diag([10.0, 10, 10, 1])), tuple(Label(n, f"superpixel {n}") for n in (1, 2, 3, 4)))
    rows = superpixel_rows(labels, {1: -0.5, 2: 0.25, 3: 0.0, 4: 2.0})
    assert [(r.value, r.name, r.coefficient) for r in rows] == [
        (4, "superpixel 4", 2.0),
        (2, "superpixel 2", 0.25),
        (3, "superpixel 3", 0.0),
        (1, "superpixel 1", -0.5),
    ]
    assert [r.volume_ml for r in rows] == pytest.approx([1, 3, 0, 2])


@pytest.mark.parametrize("seed", range(30))
def test_anatomy_fractions_equal_a_loop_over_voxels(seed):
    rng = np.random.default_rng(seed)
    heat = random_map(rng, ties=False)
    seen = rng.random(heat.array.shape) < 0.7
    seen.flat[0] = True
    # an anatomy on a grid of its own, about the same place; value 9 has no row, value 4 no voxel
    own = random_affine(rng)
    shape = tuple(rng.integers(4, 12, 3))
    own[:3, 3] = 0
    own[:3, 3] = apply(heat.affine, (np.array(heat.shape) - 1) / 2) - apply(own, (np.array(shape[::-1]) - 1) / 2)
    own[:3, 3] += rng.uniform(-0.3, 0.3, 3)  # no voxel exactly between two others, where either is nearest
    array = rng.choice([0, 1, 2, 3, 9], shape).astype(np.uint8)
    anatomy = Labels(Volume(array, own), tuple(Label(n, f"structure {n}") for n in (1, 2, 3, 4)))

    sums = {name: [0.0, 0.0, 0.0] for name in [row.name for row in anatomy.rows] + ["elsewhere"]}
    for at, value in np.ndenumerate(heat.array):
        index = apply(np.linalg.inv(own), apply(heat.affine, at[::-1]))[::-1]
        nearest = np.floor(index + 0.5).astype(int)
        within = np.all(nearest >= 0) and np.all(nearest < shape)
        name = f"structure {array[tuple(nearest)]}" if within else "elsewhere"
        row = sums[name if name in sums else "elsewhere"]
        row[0] += max(float(value), 0)
        row[1] += max(-float(value), 0)
        row[2] += float(seen[at])
    expected = np.array(list(sums.values()))
    expected /= np.where(expected.sum(0) > 0, expected.sum(0), 1)

    rows = anatomy_fractions(heat, anatomy, seen)
    found = np.array([[r.positive_fraction, r.negative_fraction, r.volume_fraction] for r in rows])
    assert [r.structure for r in rows] == list(sums)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[3].tolist() == [0, 0, 0]
    np.testing.assert_allclose(found.sum(0), [float((heat.array > 0).any()), float((heat.array < 0).any()), 1.0])


def test_anatomy_fractions_of_an_empty_map_are_zero():
    heat = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))
    anatomy = Labels(heat.with_array(np.ones((2, 2, 2), np.uint8)), (Label(1, "all"),))
    first, last = anatomy_fractions(heat, anatomy, np.ones((2, 2, 2), bool))
    assert (first.positive_fraction, first.negative_fraction, first.volume_fraction) == (0, 0, 1)
    assert (last.structure, last.volume_fraction) == ("elsewhere", 0)


def ball(shape=(40, 40, 40), radius=15.0) -> np.ndarray:
    distance = np.linalg.norm(np.indices(shape).T - (np.array(shape) - 1) / 2, axis=-1).T
    return distance < radius


FOREGROUND = {
    "stripped": lambda tissue, noise: tissue,
    "noisy": lambda tissue, noise: np.hypot(tissue + 8 * noise[0], 8 * noise[1]),
    "standardised": lambda tissue, noise: np.where(tissue > 0, (tissue - 95) / 30, 0),
    "CT": lambda tissue, noise: np.where(tissue > 0, tissue - 60, -1000) + 15 * noise[0],
    "padded CT": lambda tissue, noise: np.where(
        ball(radius=19), np.where(tissue > 0, tissue - 60, -1000) + 15 * noise[0], -3024
    ),
}


@pytest.mark.parametrize("kind", FOREGROUND)
def test_foreground_is_the_head_with_its_dark_lesion(kind):
    pytest.importorskip("skimage")
    noise = np.random.default_rng(0).normal(size=(2, 40, 40, 40))
    tissue = np.where(ball(), 100 + 20 * np.sin(np.indices((40, 40, 40)).sum(0) / 3), 0.0)
    lesion = np.roll(ball(radius=5), 6, axis=2)
    tissue[lesion] = 15
    image = FOREGROUND[kind](tissue, noise)
    for part in (slice(None), slice(20, 21)):  # the volume, one slice of it
        found = foreground(image[part])
        assert found[ball(radius=14)[part]].all()
        assert not found[~ball(radius=16.5)[part]].any()
    assert np.array_equal(foreground(np.stack([image, np.zeros_like(image)], -1)), foreground(image))


def test_foreground_is_everything_where_there_is_no_air():
    pytest.importorskip("skimage")
    rng = np.random.default_rng(1)
    for array in (np.zeros((3, 3, 3)), np.full((1, 9, 9), 7), rng.normal(100, 10, (20, 20, 20)), np.ones((1, 1, 1))):
        assert foreground(array).all()


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("volumes/nilearn_mni_t1.nii.gz", 0.20, 0.25),
        ("volumes/brainchop_t1_crop.nii.gz", 0.17, 0.25),
        ("volumes/niivue_FLAIR.nrrd", 0.30, 0.45),
        ("volumes/TCGA-FG-6692_t1c.nii.gz", 0.40, 0.60),
        ("volumes/ts_example_ct_sm.nii.gz", 0.60, 0.80),
        ("volumes/STS_002_CT_image.nii.gz", 0.60, 0.80),
        ("volumes/hippocampus/images/*", 0.99, 1.0),
        ("images2d/brain_tumor_mri/*/*4.jpg", 0.30, 0.85),
    ],
)
def test_foreground_of_real_images(data, name, least, most):
    sitk = pytest.importorskip("SimpleITK")
    paths = sorted(data.glob(name))
    assert paths
    shares = []
    for path in paths[:8]:
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
        array = array[None] if path.suffix == ".jpg" else array
        shares.append(foreground(array).mean())
    assert least <= np.median(shares) <= most


def test_foreground_holds_the_brain_and_every_organ(data):
    sitk = pytest.importorskip("SimpleITK")

    def array(name):
        return sitk.GetArrayFromImage(sitk.ReadImage(str(data / "volumes" / name)))

    brain = array("TCGA-FG-6692_t1c_brainmask.nii.gz") > 0
    assert foreground(array("TCGA-FG-6692_t1c.nii.gz"))[brain].mean() > 0.999
    organs = array("ts_example_seg.nii.gz") > 0
    assert foreground(array("ts_example_ct_sm.nii.gz"))[organs].mean() > 0.995


@pytest.mark.parametrize("seed", range(30))
def test_the_otsu_threshold_is_skimages(seed):
    from skimage.filters import threshold_otsu

    random = np.random.default_rng(seed)
    values = np.concatenate(
        [random.normal(0, 1, random.integers(20, 500)), random.normal(random.uniform(1, 8), 1, 300)]
    )
    assert otsu_threshold(values) == pytest.approx(threshold_otsu(values), abs=1e-9)


def test_a_point_of_a_label_lies_in_it_even_if_its_middle_does_not():
    k, j, i = np.indices((5, 21, 21))
    ring = (abs(np.hypot(j - 10, i - 10) - 8) < 1).astype(np.int32)
    ring[4] = 3 * (i[4] == 2)
    volume = Volume(ring, np.diag([2.0, 3.0, 4.0, 1.0]))
    found = inner_points(volume)
    assert set(found) == {1, 3}
    for value, point in found.items():
        at = tuple(int(round(c)) for c in volume.ijk(point)[::-1])
        assert ring[at] == value
