"""The planted lesion: what it is, where it lies, and that the demo's network sees it."""

from __future__ import annotations

import numpy as np
import pytest

from MedXAILib.errors import InputError
from MedXAILib.examples.planted_lesion.heads import demo_head, scans
from MedXAILib.examples.planted_lesion.planting import MARGIN_MM, plant_lesion
from MedXAILib.geometry.grid import Grid
from MedXAILib.geometry.resample import resample
from MedXAILib.geometry.volume import Volume
from MedXAILib.models.loading import load_model
from MedXAILib.models.sources.zoo import ZOO
from MedXAILib.preprocessing.prepare import prepare


@pytest.fixture(scope="module")
def head() -> Volume:
    pytest.importorskip("nilearn", reason="the demo's head comes with nilearn")
    return demo_head()


def turned(volume: Volume, degrees: float, spacing: tuple[float, float, float]) -> Volume:
    """The same head on an oblique, anisotropic grid that covers it."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(spacing)
    shape = tuple(int(260 / mm) for mm in spacing)
    affine[:3, 3] = volume.ras((np.array(volume.shape) - 1) / 2) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return resample(volume, Grid(shape, affine))


def centre_of(labels) -> np.ndarray:
    return labels.volume.ras(np.argwhere(labels.volume.array > 0)[:, ::-1]).mean(axis=0)


def test_the_head_is_the_shared_one(head, data):
    from MedXAILib.io.read import read_volume

    shared = read_volume(data / "volumes" / "nilearn_mni_t1.nii.gz")
    np.testing.assert_array_equal(head.array, shared.array)
    assert head.grid.same_as(shared.grid)


@pytest.mark.parametrize("seed", range(8))
def test_a_lesion_is_what_it_is_said_to_be(head, seed):
    from scipy.ndimage import distance_transform_edt

    found = plant_lesion(head, seed)
    planted, lesion = found.head, found.lesion
    inside = lesion.volume.array > 0
    assert [row.name for row in lesion.rows] == ["lesion"]
    assert planted.array.dtype == head.array.dtype
    assert 6 <= found.radius <= 12
    # a sphere of the stated radius has the mask's volume, the mask's centroid is the stated centre
    assert np.cbrt(3 / (4 * np.pi) * 1000 * lesion.ml()["lesion"]) == pytest.approx(found.radius, rel=0.01)
    np.testing.assert_allclose(centre_of(lesion), found.centre, atol=0.3)
    brain = head.array[head.array > 0]
    assert brain.min() <= planted.array[inside].min() and planted.array.max() <= brain.max()
    # dark like fluid, where there was tissue before
    assert np.median(planted.array[inside]) < np.percentile(brain, 5) < np.median(head.array[inside])
    # wholly in the brain; everything else is as it was
    box = tuple(slice(hits.min() - 12, hits.max() + 13) for hits in np.nonzero(inside))
    away = distance_transform_edt(~inside[box], head.spacing[::-1])
    assert (head.array[box][away < MARGIN_MM - 1] > 0).all()
    np.testing.assert_array_equal(planted.array[box][away > 8], head.array[box][away > 8])
    changed = np.argwhere(planted.array != head.array)
    assert all((changed[:, n] >= box[n].start).all() and (changed[:, n] < box[n].stop).all() for n in range(3))


def test_the_seed_decides(head):
    first, again, other = (plant_lesion(head, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.head.array, again.head.array)
    assert first.centre == again.centre != other.centre


def test_the_voxels_do_not_decide(head):
    """Permuted, flipped, or resampled onto an oblique anisotropic grid: the same lesion at the same place."""
    flipped = head.affine @ np.array([[0, 0, -1, head.shape[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    permuted = Volume(np.ascontiguousarray(head.array.transpose(2, 0, 1)[::-1]), flipped)
    oblique = turned(head, 18, (1, 1.5, 3))
    for seed in range(4):
        own = plant_lesion(head, seed)
        for other in (permuted, oblique):
            found = plant_lesion(other, seed)
            assert found.radius == own.radius
            np.testing.assert_allclose(found.centre, own.centre, atol=1)
            np.testing.assert_allclose(centre_of(found.lesion), own.centre, atol=max(1, other.spacing.max() / 2))


def test_no_room_is_said(head):
    small = Volume(np.ones((20, 20, 20), np.int16), np.eye(4))
    with pytest.raises(InputError, match="no place"):
        plant_lesion(small, 0)
    with pytest.raises(InputError, match="skull-stripped"):
        plant_lesion(small.with_array(np.zeros((20, 20, 20), np.int16)), 0)


def test_the_networks_card_names_the_heads_of_the_table():
    provenance, table = load_model("planted-lesion", device="cpu").card.provenance, scans()
    assert f"copies of {', '.join(scan.image for scan in table.heads)}: " in provenance
    assert f"{table.held_out} took no part" in provenance


def test_the_network_tells_with_from_without(head):
    """In plain torch, by the half of its evidence that the two classes share."""
    import torch

    assert (ZOO / "planted-lesion.safetensors").stat().st_size < 1_000_000
    model = load_model("planted-lesion", device="cpu")

    def lesion(volume: Volume) -> float:
        with torch.inference_mode():
            logits = model.network(prepare(model.card, volume).tensor[None])
        return float(logits.softmax(1)[0, model.card.index("lesion")])

    assert lesion(head) < 0.1
    assert np.median([lesion(plant_lesion(head, seed).head) for seed in range(5)]) > 0.9


def test_gradcam_is_the_evidence_above_nothing():
    """The evidence is linear in the features, so Grad-CAM's map is its positive part, up to one factor."""
    import torch

    from MedXAILib.models.networks.lesionnet import LesionNet

    torch.manual_seed(0)
    network = LesionNet(width=4, dilations=(1, 2)).double()
    x = torch.randn(1, 1, 11, 12, 13, dtype=torch.float64)
    features = network.features(x).detach().requires_grad_()
    logit = network.pooled(network.evidence(features)[:, 0])
    (gradient,) = torch.autograd.grad(logit.sum(), features)
    cam = torch.relu((gradient.mean((2, 3, 4), keepdim=True) * features).sum(1))
    evidence = torch.relu(network.local(x))
    torch.testing.assert_close(cam / cam.max(), evidence / evidence.max())
    torch.testing.assert_close(network(x)[:, 1] - network(x)[:, 0], logit)
