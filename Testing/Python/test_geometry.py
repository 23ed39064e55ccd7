"""A blob planted at a known RAS point comes back at this point, whatever the geometry, the tiling and the network."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from fixture_nets import Blob, model

from MedXAILib import explain
from MedXAILib.geometry.affine import directions
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.models.loading import load_model
from MedXAILib.scoring.targets import ClassTarget
from MedXAILib.tiling import Stitcher

NETS = {
    "stride 1": {"stride": 1, "kernel": 1},
    "stride 4": {"stride": 4, "kernel": 4},
    "asymmetric padding": {"stride": 2, "kernel": 3, "pad": (2, 0)},
}
TILINGS = ("whole", "windows", "slices")


def random_affine(rng: np.random.Generator) -> np.ndarray:
    """Oblique, anisotropic, permuted, left- or right-handed."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if rng.random() < 0.3:  # not oblique: an axis permutation with flips
        rotation = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.5, 4, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def random_card(rng: np.random.Generator, tiling: str, volume: Volume) -> dict:
    """A card that permutes, flips and resamples (mildly, so that the blob stays smooth)."""
    codes = [a + b + c for p in permutations(("RL", "AP", "SI")) for a in p[0] for b in p[1] for c in p[2]]
    wanted = {"orientation": rng.choice(["native", *codes]), "axis_order": rng.choice(["kji", "ijk"])}
    if tiling == "slices":
        return {"spatial": {"mode": "slices", "axis": rng.choice(list("ijk"))}, "input": wanted}
    if rng.random() < 0.5:
        wanted["spacing"] = [float(s) for s in np.full(3, np.median(volume.spacing) * rng.uniform(0.8, 1.25))]
    windows = {"mode": "windows", "size": [24, 32, 28], "overlap": 0.5, "aggregate": "mean"}
    return {"spatial": windows if tiling == "windows" else {"mode": "whole"}, "input": wanted}


def check(seed: int, tiling: str, net: str) -> float:
    """Plant, explain, and measure: the largest error along an axis, in coarsest cells."""
    rng = np.random.default_rng(seed)
    affine = random_affine(rng)
    stride = NETS[net]["stride"]
    settings = random_card(rng, tiling, Volume(np.zeros((2, 2, 2), np.float32), affine))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    grid = np.array(settings["input"].get("spacing", spacing))
    model_spacing = np.maximum(grid, spacing)  # along the input's axes; a common spacing where it is changed
    coarsest = model_spacing * stride
    sigma = coarsest * rng.uniform(0.9, 1.2, 3)
    border = np.maximum(2 * coarsest, 3.5 * sigma) / spacing
    shape = np.ceil(2 * border + rng.integers(3, 8, 3)).astype(int)
    point = rng.uniform(border, shape - 1 - border)
    i, j, k = np.indices(tuple(shape))
    distance = sum(((index - p) * s / w) ** 2 for index, p, s, w in zip((i, j, k), point, spacing, sigma, strict=True))
    volume = Volume(np.exp(-0.5 * distance).astype(np.float32).transpose(2, 1, 0), affine)
    network = Blob(2 if tiling == "slices" else 3, **NETS[net])
    (found,) = explain(model(network, **settings), volume, [ClassTarget("yes")], layers=["features"])
    errors = []
    for heat in (found.volume, found.on(volume)):
        mass = heat.array.astype(float)
        at = [np.average(index, weights=mass) for index in np.indices(mass.shape)][::-1]
        errors.append(np.abs(directions(affine).T @ (heat.ras(at) - volume.ras(point))) / coarsest)
    return float(np.max(errors))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("tiling", TILINGS)
def test_a_planted_blob_comes_back_where_it_was(tiling, net):
    worst = {seed: check(seed, tiling, net) for seed in range(12)}
    assert max(worst.values()) < 0.1, worst


def test_leaving_out_the_shift_of_the_feature_grid_is_seen(monkeypatch):
    def without_offset(self, affine):
        stride = [1.0, *self.stride] if self.tiling.mode == "slices" else self.stride
        return affine @ np.diag([*stride, 1.0])

    monkeypatch.setattr(Stitcher, "affine", without_offset)
    assert all(check(seed, "whole", net) > 0.1 for seed in range(4) for net in ("stride 4", "asymmetric padding"))


def test_a_map_keeps_the_frame_of_reference_and_not_the_uids_of_slices(data):
    volume = read_volume(data / "dicom" / "PGBM-003_T1post")
    (found,) = explain(load_model("planted-lesion"), volume)
    for heat in (found.volume, found.on(volume)):
        assert not {"sop", "frame"} & set(heat.source.series)
        assert heat.grid.frame_of_reference == volume.grid.frame_of_reference != ""
    assert len(volume.source.series["sop"]) == volume.shape[2]
