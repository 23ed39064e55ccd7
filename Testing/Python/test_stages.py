"""Values of every stage and method, frozen beside its number: whoever changes values must raise the number, or results that were
computed before would be taken for new ones.

    make freeze        # writes frozen.json anew; say in the commit why values changed
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_maps import grid
from fixture_nets import model
from torch import nn

from MedXAILib import stages
from MedXAILib.attribution.registry import methods
from MedXAILib.attribution.superpixels import superpixels
from MedXAILib.findings.anatomy import anatomy_fractions, seen_by
from MedXAILib.findings.regions import hot_regions
from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume
from MedXAILib.models.card import Input
from MedXAILib.preprocessing.prepare import prepare
from MedXAILib.session import Session
from MedXAILib.session.request import requested

FROZEN = Path(__file__).with_name("frozen.json")
CLOSE = 1e-5


@cache
def head() -> Volume:
    """An oblique, anisotropic volume in which a bright ball lies in noisy tissue."""
    rng = np.random.default_rng(7)
    k, j, i = np.ogrid[:12, :20, :24]
    inside = ((k - 6) / 6.0) ** 2 + ((j - 10) / 9.0) ** 2 + ((i - 12) / 10.0) ** 2 < 1
    ball = (k - 5) ** 2 * 4 + (j - 8) ** 2 + (i - 15) ** 2 < 10
    array = inside * (400 + 40 * rng.standard_normal(inside.shape)) + 500 * ball
    return Volume(array.astype(np.int16), grid((24, 20, 12), (1.5, 1.5, 3), seed=3))


class Small(nn.Module):
    """Two strided steps, a skip, and an output for the whole or for each voxel."""

    def __init__(self, dimensions: int, voxelwise: bool) -> None:
        super().__init__()
        conv = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.first, self.down = conv(1, 6, 3, padding=1), conv(6, 8, 3, stride=2, padding=1)
        self.deep, self.dimensions, self.voxelwise = conv(8, 8, 3, padding=1), dimensions, voxelwise
        self.up = nn.Upsample(scale_factor=2)
        self.last = conv(14, 2, 1) if voxelwise else nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        early = torch.relu(self.first(x))
        deep = self.deep(torch.relu(self.down(early)))
        if self.voxelwise:
            return self.last(torch.cat((early, self.up(deep)), 1))
        return self.last(deep.flatten(2).mean(2))


CARDS = {
    "slices": {"task": "classification", "spatial": {"mode": "slices", "axis": "k"}, "dimensions": 2},
    "whole": {"task": "classification", "spatial": {"mode": "whole"}, "dimensions": 3},
    "windows": {"task": "segmentation", "spatial": {"mode": "windows", "size": [8, 12, 12], "overlap": 0.5}, "dimensions": 3},
}  # fmt: skip


@cache
def session(mode: str) -> Session:
    torch.manual_seed(11)
    about = dict(CARDS[mode])
    network = Small(about.pop("dimensions"), about["task"] == "segmentation").eval()
    card = {
        **about, "input": {"intensity": {"rule": "percentile", "lower": 1, "upper": 99}, "size": None},
        "output": {"labels": [{"name": "other"}, {"name": "ball"}]}, "layers": ["deep"],
    }  # fmt: skip
    return Session(model(network, **card), head())


def reading(folder: Path):
    for suffix in ("nii.gz", "nrrd", "mha"):
        write_volume(head(), folder / f"head.{suffix}")
        found = read_volume(folder / f"head.{suffix}")
        yield from (found.array, found.affine)


def preprocessing(_folder: Path):
    ways = (
        {"intensity": {"rule": "zscore"}, "orientation": "RAS", "spacing": (2, 2, 2), "axis_order": "ijk"},
        {"intensity": {"rule": "percentile", "lower": 2, "upper": 98}, "size": (16, 16, 16), "fit": "pad_or_crop"},
        {"intensity": {"rule": "eight_bit"}, "size": (16, 14, 10)},
        {"intensity": {"rule": "range", "lower": 0, "upper": 800, "mean": 0.4, "std": 0.2}},
    )
    card = session("whole").model.card
    for way in ways:
        prepared = prepare(card.model_copy(update={"input": Input.model_validate(way)}), head())
        yield from (prepared.tensor.numpy(), prepared.grid.affine)
    sliced = session("slices").model.card
    way = {"size": (18, 15), "resampler": "pil_bilinear", "intensity": {"rule": "eight_bit"}}
    yield prepare(sliced.model_copy(update={"input": Input.model_validate(way)}), head()).tensor.numpy()


def tiling(_folder: Path):
    yield session("windows").predict().logits
    yield session("slices").predict().pieces


def prediction(_folder: Path):
    for mode in ("slices", "whole"):
        yield np.array(list(session(mode).predict().probabilities.values()))
    found = session("windows").predict()
    yield found.probability(1, (slice(None),) * 3)
    yield np.array(list(found.labels.ml().values()))


def placement(_folder: Path):
    for mode in CARDS:
        for a in session(mode).explain(requested(1, "gradcam", ["first", "down", "deep"])):
            yield a.volume.affine


def cut(_folder: Path):
    x = session("whole").prepared.tensor.numpy()[0][None]
    where = x[0] > 0.1
    yield superpixels(x, np.array([3, 1.5, 1.5]), where, 40)
    yield superpixels(x[:, 5:6], np.array([3, 1.5, 1.5]), where[5:6], 20)


def fills(_folder: Path):
    for baseline in ("minimum", "zero", "mean", "blurred"):
        (a,) = session("whole").explain(requested(1, "occlusion", baseline=baseline))
        yield a.volume.array
    yield from (a.volume.array for a in session("whole").explain(requested(1, "lime", samples=60, superpixels=20)))


def heat() -> Volume:
    return session("windows").explain(requested(1, "gradcam"))[0].on(head())


def regions(_folder: Path):
    for fraction in (0.3, 0.5):
        found, rows = hot_regions(heat(), fraction=fraction)
        yield found.volume.array
        yield np.array([[r.volume_ml, *r.centroid, r.peak, r.mass_fraction] for r in rows])


def anatomy(_folder: Path):
    k = np.arange(12)[:, None, None] + np.zeros((12, 20, 24))
    parts = Labels(
        head().with_array((1 + (k > 5)).astype(np.uint8)), (Label(1, "lower", (1, 0, 0)), Label(2, "upper", (0, 1, 0)))
    )
    rows = anatomy_fractions(heat(), parts, seen_by(head(), head().grid))
    yield np.array([[r.positive_fraction, r.negative_fraction, r.volume_fraction] for r in rows])


STAGES = {
    "reading": reading, "preprocessing": preprocessing, "tiling": tiling, "prediction": prediction, "placement": placement,
    "superpixels": cut, "fills": fills, "regions": regions, "anatomy": anatomy,
}  # fmt: skip


def of_method(name: str):
    """Its maps in every mode that it is for."""
    options = {o.name: 24 for o in methods()[name].options if o.name == "samples"}
    for mode in CARDS:
        if methods()[name].task in ("", session(mode).model.card.task):
            for a in session(mode).explain(
                requested(1, name, slices="5" if mode == "slices" else None, seed=3, **options)
            ):
                yield a.volume.array


def fingerprint(arrays) -> list[list[float]]:
    """Of each array its size, norm, and projections: any change of values moves one of them."""
    told = []
    for array in arrays:
        flat = np.asarray(array, np.float64).ravel()
        norm = float(np.linalg.norm(flat))
        told.append([float(flat.size), norm, *(float(flat @ side) / (norm or 1) for side in sides(flat.size))])
    return told


@cache
def sides(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, size))


def numbered() -> dict[str, int]:
    own = {f"stage {name}": number for name, number in {**stages.PREDICTION, **stages.MAP, **stages.DERIVED}.items()}
    return own | {f"method {name}": m.number for name, m in methods().items()}


def values(what: str, folder: Path) -> list[list[float]]:
    kind, name = what.split()
    return fingerprint(STAGES[name](folder) if kind == "stage" else of_method(name))


@pytest.mark.parametrize("what", sorted(numbered()))
def test_values_change_with_their_number_alone(what, tmp_path):
    now = {"number": numbered()[what], "values": values(what, tmp_path)}
    frozen = json.loads(FROZEN.read_text())
    if os.environ.get("MEDXAI_FREEZE"):
        FROZEN.write_text(json.dumps(dict(sorted({**frozen, what: now}.items())), indent=1) + "\n")
        return
    assert what in frozen, f"{what} is new: make freeze"
    before = frozen[what]
    same = len(now["values"]) == len(before["values"]) and all(
        np.allclose(one, other, rtol=CLOSE, atol=CLOSE)
        for one, other in zip(now["values"], before["values"], strict=True)
    )
    if now["number"] == before["number"]:
        assert same, f"{what} gives other values: raise its number, then make freeze"
    else:
        assert now["number"] > before["number"], "numbers only rise"
        pytest.fail(f"{what} has another number than its frozen values: make freeze")


def test_nothing_is_frozen_that_there_is_no_more():
    assert set(json.loads(FROZEN.read_text())) == set(numbered())


@pytest.mark.parametrize("what", ["stage tiling", "stage regions", "method gradcam"])
def test_a_change_of_a_ten_thousandth_is_seen(what, tmp_path):
    kind, name = what.split()
    arrays = [np.array(a, np.float64) for a in (STAGES[name](tmp_path) if kind == "stage" else of_method(name))]
    before = fingerprint(arrays)
    arrays[-1].ravel()[arrays[-1].argmax()] *= 1.001
    assert not np.allclose(fingerprint(arrays)[-1], before[-1], rtol=CLOSE, atol=CLOSE)
