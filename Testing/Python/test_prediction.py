"""predict(): the same patient gives the same answer however the file stores it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_nets import model
from torch import nn

from MedXAILib.geometry.resample import resample
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.models.loading import load_model
from MedXAILib.prediction import predict
from MedXAILib.preprocessing.prepare import prepare
from MedXAILib.tiling import tile
from MedXAILib.tiling.windows import importance, window_starts

CARDS = Path(__file__).parents[1] / "cards"


def test_a_turned_and_flipped_file_gives_the_same_segmentation(data, device):
    whole = read_volume(data / "volumes" / "brainchop_t1_crop.nii.gz")
    box = (slice(80, 144), slice(90, 154), slice(70, 134))
    shift = np.eye(4)
    shift[:3, 3] = [70, 90, 80]
    crop = Volume(whole.array[box], whole.affine @ shift)
    net = load_model(CARDS / "brainchop_model5.json", weights=data / "models", device=device)
    expected = predict(net, crop).labels.volume
    assert len(np.unique(expected.array)) == 3
    for turn in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
        flipped = np.ascontiguousarray(crop.array.transpose(turn)[::-1, :, ::-1])
        axes = [2 - t for t in turn[::-1]]  # k, j, i of the array to i, j, k of the affine
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for n, axis in enumerate(axes):
            sign = -1 if n in (0, 2) else 1
            matrix[axis, n] = sign
            matrix[axis, 3] = 63 if sign < 0 else 0
        turned = Volume(flipped, crop.affine @ matrix)
        found = resample(predict(net, turned).labels.volume, crop.grid, order=0)
        assert np.mean(found.array == expected.array) > 0.9999, turn


@pytest.mark.parametrize("length", [5, 24, 25, 40, 97])
def test_windows_cover_everything_start_on_the_stride_and_share_each_voxel(length):
    starts = window_starts(length, 24, 0.5, 8)
    assert all(s % 8 == 0 for s in starts) and starts[0] == 0 and starts[-1] + 24 >= length
    assert all(b - a <= 24 for a, b in zip(starts, starts[1:], strict=False))
    assert importance((24,))[0].min() > 0


def test_windows_of_a_pointwise_network_equal_the_whole():
    """A network without a receptive field must not notice that it sees windows."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 5, 1), nn.Tanh(), nn.Conv3d(5, 3, 1))
    labels = {"labels": [{"name": n} for n in "abc"]}
    volume = Volume(np.random.default_rng(1).normal(size=(21, 30, 17)).astype(np.float32), np.diag([1, 2, 3, 1.0]))
    one, other = (
        predict(model(net, task="segmentation", output=labels, spatial=spatial), volume)
        for spatial in ({"mode": "whole"}, {"mode": "windows", "size": [8, 12, 10]})
    )
    assert np.allclose(one.logits, other.logits, atol=1e-5)
    assert np.array_equal(one.labels.volume.array, other.labels.volume.array)
    assert len(tile(other.card.spatial, one.prepared.shape).tiles) > 20


def test_slices_keep_the_files_own_numbers_whatever_the_orientation():
    net = model(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)),
        spatial={"mode": "slices", "axis": "axial"},
        input={"orientation": "LPS"},
    )
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    for columns in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        for sign in (1, -1):
            affine = np.eye(4)
            affine[:3, :3] = (np.diag([2.0, 3.0, sign * 4.0]))[:, columns]
            volume = Volume(array, affine)
            axis = columns.index(2)  # the file's index axis that runs along S
            means = array.mean(tuple(a for a in range(3) if a != 2 - axis))
            seen = prepare(net.card, volume).tensor[0].mean((1, 2)).numpy()
            assert np.allclose(seen, means)


def test_sizes_by_resizing_and_by_padding_keep_the_place():
    ramp = np.indices((20, 24, 28)).transpose(1, 2, 3, 0)[..., ::-1]  # i, j, k of each voxel
    affine = np.diag([1.0, 2.0, 1.5, 1.0])
    affine[:3, 3] = (3, -7, 11)
    for settings in (
        {"size": [14, 30, 40], "fit": "resize"},
        {"size": [14, 30, 40], "fit": "pad_or_crop"},
        {"spacing": [2.0, 1.5, 1.0], "orientation": "LPI"},
    ):
        net = model(nn.Identity(), input={**settings, "axis_order": "ijk"})
        for axis in range(3):
            prepared = prepare(net.card, Volume(np.ascontiguousarray(ramp[..., axis], np.float32), affine))
            at = np.array([n // 2 for n in prepared.shape])
            ras = prepared.affine[:3, :3] @ at + prepared.affine[:3, 3]
            index = np.linalg.inv(affine)[:3, :3] @ (ras - affine[:3, 3])
            assert prepared.tensor[0][tuple(at)].item() == pytest.approx(index[axis], abs=1e-3), settings
