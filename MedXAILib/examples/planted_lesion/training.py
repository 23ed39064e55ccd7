"""Train the demo's network, LesionNet, on real heads with planted lesions.

    medxai train planted-lesion --data DATA -o OUT        # about 50 minutes on one core

Heads are stripped to the brain and deformed many times over (:func:`build_bank`); lesions are planted in each by
:func:`MedXAILib.examples.planted_lesion.demo.plant_lesion`. Every step takes pairs of the same head with and without its lesion, changed
alike in place, contrast, noise and blur (:func:`augment`). The demo's own head takes no part, nor does anything
made from its template.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...geometry.labels import Labels
from ...geometry.resample import resample
from ...geometry.volume import Source, Volume
from ...io.read import read_volume
from ...models.card import Expected, ModelCard
from ...models.loading import Model
from ...preprocessing.prepare import prepare
from ...preprocessing.suitability import measure as measure_inputs
from ...progress import Progress
from ...training.checkpoint import write
from ...training.results import refuse_finished
from .demo import SAMPLES, SURVEY_MM, demo_head, grid_around, miss_mm, plant_in, survey

if TYPE_CHECKING:
    import torch

STEPS, HEADS, SEED = 4000, 240, 0
"""Of the training; HEADS deformed ones."""
EXPECTED = 480
"""Examples drawn to measure what inputs look like."""
CASES, LIME_CASES = 100, 10
"""Lesions to measure with on each head, and how many of them with LIME, which is slow."""
NAME = "planted-lesion"
HELD_OUT = "volumes/niivue_norm.mgz"
HIT_MM = 5.0

SHAPE = (56, 66, 54)
"""Voxels (k, j, i) of SURVEY_MM each that a training example has: a large brain."""
PAIRS = 2
"""Pairs in each step."""
RATE = 2e-3
LESIONS = 10
"""Lesions planted in each deformed head."""
SOURCES = (
    ("volumes/brainchop_t1_crop.nii.gz", "models/ref_model18_t1crop.nii.gz", 5.0),
    ("volumes/niivue_FLAIR.nrrd", None, 1.0),
    ("volumes/TCGA-FG-6692_t1.nii.gz", "volumes/TCGA-FG-6692_t1c_brainmask.nii.gz", 1.5),
    ("volumes/TCGA-FG-6692_t1c.nii.gz", "volumes/TCGA-FG-6692_t1c_brainmask.nii.gz", 1.5),
    ("volumes/TCGA-FG-6692_fla.nii.gz", None, 0.5),
    ("volumes/pyradiomics_brain1_image.nrrd", None, 1.0),
    ("dicom/PGBM-003_T1post", None, 1.0),
    ("dicom/PGBM-003_FLAIR_reg", None, 0.5),
)
"""Head, brain mask or label map if there is one, share of the deformed heads."""


@dataclass(frozen=True, eq=False)
class Head:
    """A head of 1 mm voxels along R, A, S: float32 intensities, and the mask of its brain (float32, 0..1).

    ``labels``: structures of the brain, where known.
    """

    volume: Volume
    mask: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """A deformed head on SHAPE, float16. ``image`` is 0 outside ``mask``; ``planted`` holds the differences
    that the lesions make and ``lesions`` their voxels: (lesion, k, j, i)."""

    image: np.ndarray
    mask: np.ndarray
    planted: np.ndarray
    lesions: np.ndarray


def read_head(path: Path, mask_path: Path | None) -> Head:
    """Read a head and find its brain, both on 1 mm voxels along R, A, S around the brain."""
    from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter

    volume = read_volume(path)
    grid = grid_around(volume, 1.0)
    head = resample(volume, grid)
    labels = None
    if mask_path is None:
        mask = strip(head.array)
    else:
        given = resample(read_volume(mask_path), grid, order=0).array
        labels = given if given.max() > 2 else None
        mask = binary_fill_holes(binary_closing(np.pad(given > 0, 6), ball(5)))[6:-6, 6:-6, 6:-6]
    box = tuple(
        slice(max(0, hits.min() - 8), hits.max() + 9)
        for axis in range(3)
        for hits in [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))]
    )
    moved = grid.affine.copy()
    moved[:3, 3] += [part.start for part in box[::-1]]
    return Head(
        Volume(np.ascontiguousarray(head.array[box]), moved, volume.source),
        gaussian_filter(mask[box].astype(np.float32), 1),
        None if labels is None else labels[box],
    )


def ball(radius: int) -> np.ndarray:
    grid = np.arange(-radius, radius + 1)
    return (grid[:, None, None] ** 2 + grid[:, None] ** 2 + grid**2) <= radius**2


def strip(array: np.ndarray) -> np.ndarray:
    """A rough mask of the brain in a head of 1 mm voxels: what is about as bright as the middle of the head and
    hangs together with it when thin bridges are cut."""
    from scipy.ndimage import binary_closing, binary_fill_holes, distance_transform_edt, gaussian_filter, label

    smooth = gaussian_filter(array, 1)
    head = smooth > 0.1 * np.percentile(smooth, 99)
    middle = np.array([np.median(hits) for hits in np.nonzero(head)])
    away = np.linalg.norm(np.indices(array.shape) - middle[:, None, None, None], axis=0)
    tissue = np.median(smooth[(away < 50) & head])
    like_brain = (smooth > 0.55 * tissue) & (smooth < 1.9 * tissue)
    core = distance_transform_edt(like_brain) > 5
    parts, _ = label(core)
    counts = np.bincount(parts[away < 50])
    counts[0] = 0
    grown = distance_transform_edt(parts != counts.argmax()) < 6
    return binary_fill_holes(binary_closing(np.pad(grown & like_brain, 6), ball(5)))[6:-6, 6:-6, 6:-6]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], knots: int) -> np.ndarray:
    """A smooth random field of deviation about 1, float32."""
    from scipy.ndimage import zoom

    coarse = rng.normal(size=[knots] * len(shape)).astype(np.float32)
    return zoom(coarse, [n / knots for n in shape], order=1, mode="nearest", grid_mode=True)


def deform(head: Head, rng: np.random.Generator, bend: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates (3, k, j, i) in ``head`` of the voxels of SHAPE, turned, scaled and bent by ``bend`` mm."""
    angles = np.radians(rng.normal(0, 5, 3))
    scale = np.exp(rng.normal(0.0, 0.05) + rng.normal(0, 0.04, 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    grid = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")) * SURVEY_MM
    grid = grid + rng.uniform(-3, 3, (3, 1, 1, 1))
    if rng.random() < 0.5:
        grid[2] *= -1  # left and right swapped
    bent = grid + bend * np.stack([smooth_noise(rng, SHAPE, 6) for _ in range(3)])
    middle = np.array([hits.mean() for hits in np.nonzero(head.mask > 0.5)])
    return np.tensordot(turn / scale[:, None], bent, 1) + middle[:, None, None, None]


def synthesise(head: Head, rng: np.random.Generator) -> np.ndarray:
    """Intensities drawn by structure instead of the scanned ones: dark fluid, brighter grey and white matter."""
    from scipy.ndimage import gaussian_filter

    fluid = {0, 3, 10, 11}
    levels = np.array([rng.uniform(0.1, 0.35) if n in fluid else rng.uniform(0.5, 1) for n in range(256)], np.float32)
    levels[list(fluid)] = levels[0] + rng.normal(0, 0.03, len(fluid))
    painted = gaussian_filter(levels[head.labels], rng.uniform(0.6, 1.5))
    scanned = head.volume.array / np.median(head.volume.array[head.mask > 0.5])
    return painted + rng.uniform(0, 0.3) * scanned


def sample(head: Head, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A deformed head: intensities (0 outside the brain; brain's median 1) and mask, float32, on SHAPE.

    One in three is the mean of several deformations, like the average of many people.
    """
    from scipy.ndimage import map_coordinates

    array = synthesise(head, rng) if head.labels is not None and rng.random() < 0.35 else head.volume.array
    mask = np.clip((head.mask - rng.uniform(0.15, 0.7)) * 4 + 0.5, 0, 1)
    where = deform(head, rng, rng.uniform(0, 5))
    copies = rng.integers(4, 10) if rng.random() < 0.35 else 1
    spread = rng.uniform(1, 3.5)
    image, cover = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    for _ in range(copies):
        jitter = 0 if copies == 1 else spread * np.stack([smooth_noise(rng, SHAPE, 9) for _ in range(3)])
        inside = map_coordinates(mask, where + jitter, order=1)
        image += map_coordinates(array, where + jitter, order=1) * inside
        cover += inside
    mask = np.clip(cover / copies, 0, 1)
    mask[mask < 0.3] = 0
    image = np.where(mask > 0, image / np.maximum(cover, 1e-3), 0)
    return image / np.median(image[mask > 0.5]), mask


def build_bank(heads: list[Head], shares: list[float], count: int, seed: int) -> Iterator[Example]:
    """Deformed heads with their lesions, ready for training."""
    affine = np.diag([SURVEY_MM, SURVEY_MM, SURVEY_MM, 1])
    chosen = np.random.default_rng(seed).choice(len(heads), count, p=np.array(shares) / sum(shares))
    for number, which in enumerate(chosen):
        rng = np.random.default_rng([seed, number])
        image, mask = sample(heads[which], rng)
        volume = Volume(image, affine)
        seen = survey(volume, mask > 0.5)
        try:
            pairs = [plant_in(volume, seen, int(rng.integers(2**31))) for _ in range(LESIONS)]
        except InputError:
            continue
        planted = np.stack([head.array - image for head, _, _ in pairs]).astype(np.float16)
        lesions = np.stack([labels.volume.array for _, labels, _ in pairs]).astype(np.float16)
        yield Example(image.astype(np.float16), mask.astype(np.float16), planted, lesions)


def augment(example: Example, rng: np.random.Generator):
    """One pair for training.

    :returns: tensors image (2, k, j, i), without and with the lesion, as the network expects them; lesion
        (k, j, i) in 0..1; and the share of the lesion that is left after cutting parts out.
    """
    import torch

    image, lesion = vary(example, rng)
    if rng.random() < 0.5:
        kept = torch.from_numpy(cells_kept(rng))
        visible = float((lesion * kept).sum() / lesion.sum().clamp(min=1))
        return image * kept, lesion * kept, visible
    return image, lesion, 1.0


def vary(example: Example, rng: np.random.Generator):
    """Image and lesion of :func:`augment`, whole."""
    import torch
    from torch.nn import functional

    which = rng.integers(len(example.planted))
    strength = rng.uniform(0.75, 1.05)
    without = example.image.astype(np.float32)
    pair = np.stack([without, without + strength * example.planted[which], example.mask, example.lesions[which]])
    pair = torch.from_numpy(pair.astype(np.float32))
    pair[:2] *= pair[2]
    if rng.random() < 0.5:
        pair = pair.flip(3)
    if rng.random() < 0.6:
        matrix = np.eye(3, 4) + np.hstack([rng.normal(0, 0.06, (3, 3)), rng.uniform(-0.06, 0.06, (3, 1))])
        grid = functional.affine_grid(torch.tensor(matrix[None], dtype=torch.float32), [1, 4, *SHAPE], False)
        pair = functional.grid_sample(pair[None], grid, align_corners=False)[0]
    else:
        pair = pair.roll(tuple(int(n) for n in rng.integers(-1, 2, 3)), (1, 2, 3))
    mask, lesion = pair[2], pair[3]
    image = pair[:2] / mask.clamp(min=0.05)
    if rng.random() < 0.35:
        image = blur(image, mask, rng.uniform(0.3, 0.9))
    image = recontrast(image, mask, rng)
    if rng.random() < 0.7:
        image = image + rng.uniform(0, 0.06) * torch.from_numpy(rng.standard_normal(SHAPE, np.float32))
    return torch.stack([standardise(one, mask) for one in image]), lesion


def blur(image, mask, sigma: float):
    """Gaussian smoothing of the intensities inside the mask."""
    import torch
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(mask.numpy(), sigma, truncate=2).clip(0.05)
    smooth = [gaussian_filter((one * mask).numpy(), sigma, truncate=2) / weight for one in image]
    return torch.from_numpy(np.stack(smooth))


def recontrast(image, mask, rng: np.random.Generator):
    """A bias field, a gamma and a random increasing curve on the intensities, the same for both of a pair."""
    import torch

    if rng.random() < 0.6:
        field = torch.from_numpy(np.ascontiguousarray(smooth_noise(rng, SHAPE, 4)))
        image = image * torch.exp(rng.uniform(0, 0.2) * field)
    inside = image[0][mask > 0.5]
    low, high = torch.quantile(inside[:: max(1, len(inside) // 20_000)], torch.tensor([0.002, 0.998]))
    image = ((image - low) / (high - low)).clamp(-0.1, 1.3)
    if rng.random() < 0.6:
        image = image.clamp(min=0) ** float(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.3:
        steps = np.concatenate([[0], np.cumsum(rng.uniform(0.3, 1, 6))])
        steps = torch.tensor(steps / steps[-1], dtype=torch.float32)
        place = image.clamp(0, 0.999) * 6
        below = place.long()
        image = steps[below] + (place - below) * (steps[below + 1] - steps[below])
    return image


def standardise(image, mask):
    """Mean 0 and deviation 1 over the brain, 0 outside: the card's rule zscore followed by linear interpolation."""
    weight = mask / mask.sum()
    mean = (image * weight).sum()
    deviation = ((image - mean) ** 2 * weight).sum().sqrt()
    return (image - mean) / deviation * mask


def cells_kept(rng: np.random.Generator) -> np.ndarray:
    """1 where a voxel stays, 0 where its cell (about 20 mm wide, Voronoi) is cut out: up to 60 % of the cells."""
    from scipy.spatial import cKDTree

    count = int(rng.integers(150, 500))
    points = rng.uniform(0, SHAPE, (count, 3))
    pairs = np.stack(np.meshgrid(*(np.arange(0.5, n, 2) for n in SHAPE), indexing="ij"), -1)  # two voxels a step: fast
    _, cell = cKDTree(points).query(pairs)
    stays = rng.random(count) >= rng.uniform(0, 0.6)
    return stays[cell].astype(np.float32).repeat(2, 0).repeat(2, 1).repeat(2, 2)


def loss_of(network, images, lesion, visible):
    """Cross-entropy of the pooled logit (a lesion counts when most of it is visible, not when little of it is)
    plus that of every cell of the evidence.

    :param images: (batch, 2, k, j, i) without and with; ``lesion``: (batch, k, j, i); ``visible``: (batch,).
    """
    import torch
    from torch.nn import functional

    local = network.local(images.flatten(0, 1)[:, None])
    pooled = network.pooled(local).view(-1, 2)
    zero = torch.zeros(len(visible))
    sure = (visible > 0.6) | (visible < 0.1)
    with_lesion = functional.binary_cross_entropy_with_logits(pooled[:, 1], (visible > 0.6).float(), reduction="none")
    without = functional.binary_cross_entropy_with_logits(pooled[:, 0], zero, reduction="none")
    cells = functional.avg_pool3d(lesion[:, None], 3, 2, 1, count_include_pad=False)[:, 0]
    truth = torch.stack([torch.zeros_like(cells), cells], 1).flatten(0, 1)
    each = functional.binary_cross_entropy_with_logits(local, truth, reduction="none")
    weight = torch.where(truth > 0.25, 30.0, torch.where(truth > 0, 2.0, 1.0))
    aux = (each * weight).mean()
    return (with_lesion * sure).mean() + without.mean() + 5 * aux


def train(bank: list[Example], steps: int, seed: int, progress: Progress):
    """Train a LesionNet on ``bank``.

    :returns: the network in eval mode, with the running mean of its weights.
    """
    import torch

    from ...models.networks.lesionnet import LesionNet

    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    network = LesionNet()
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.05)
    smoothed = None
    for step in range(steps):
        chosen = [augment(bank[n], rng) for n in rng.integers(len(bank), size=PAIRS)]
        images, lesions = (torch.stack([pair[part] for pair in chosen]) for part in (0, 1))
        loss = loss_of(network, images, lesions, torch.tensor([pair[2] for pair in chosen]))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean.update_parameters(network)
        smoothed = loss.item() if smoothed is None else 0.99 * smoothed + 0.01 * loss.item()
        progress(step + 1, steps, f"Training, loss {smoothed:.3f}")
    return mean.module.eval()


def measure(model: Model, head: Volume, seeds: range, lime_seeds: range, progress: Progress) -> dict:
    """What the network and its maps do on a head, with a lesion planted for each seed.

    A map hits when the centroid of its top region lies at most HIT_MM from the lesion. Regions are taken on the
    network's grid. The naive map is |x - blur(x)| of the network's input, with a Gaussian of 6 mm.
    """
    from scipy.ndimage import gaussian_filter

    from ...explanation import explain
    from ...prediction import predict
    from ...scoring.targets import ClassScore

    seen = survey(head)
    sure, hits = 0, {"gradcam": 0, "lime": 0, "naive": 0}
    for number, seed in enumerate(seeds):
        planted, lesion, _ = plant_in(head, seen, seed)
        prepared = prepare(model.card, planted)
        prediction = predict(model, prepared)
        sure += prediction.probabilities["lesion"] > 0.9
        methods = ["gradcam", "lime"] if seed in lime_seeds else ["gradcam"]
        x = prepared.volume(prepared.tensor[0].numpy())
        found = explain(model, prepared, [ClassScore("lesion")], methods, prediction=prediction, samples=SAMPLES)
        masses = {a.method: resample(a.mass, x.grid) for a in found}
        masses["naive"] = x.with_array(np.abs(x.array - gaussian_filter(x.array, 6 / SURVEY_MM)))
        for name, mass in masses.items():
            hits[name] += hit(mass, lesion)
        progress(number + 1, len(seeds), "Measuring")
    return {
        "seeds": len(seeds),
        "probability_without": round(predict(model, head).probabilities["lesion"], 4),
        "probability_with_above_0.9": sure,
        "gradcam_hits": hits["gradcam"],
        "naive_hits": hits["naive"],
        "lime_seeds": len(lime_seeds),
        "lime_samples": SAMPLES,
        "lime_hits": hits["lime"],
    }


def hit(mass: Volume, lesion: Labels) -> bool:
    """Whether the centroid of a map's top region lies in the lesion or at most HIT_MM from it."""
    from ...findings.regions import hot_regions

    _, regions = hot_regions(mass)
    return bool(regions) and miss_mm(lesion, regions[0].centroid) <= HIT_MM


def read_held_out(data: Path) -> Volume:
    """The head kept out of training: a FreeSurfer volume (T1, skull-stripped), which takes nibabel to read."""
    import nibabel

    image = nibabel.load(data / HELD_OUT)
    array = np.ascontiguousarray(np.asarray(image.dataobj).transpose(2, 1, 0))
    return Volume(array, image.affine, Source(name=Path(HELD_OUT).name))


def expectations(bank: list[Example]) -> Expected:
    """What the network may expect: :func:`measure_inputs` of heads as they are trained on, one in two with a lesion, but
    none with parts cut out. Their grid is the training's own, so it says nothing of a file's."""
    rng = np.random.default_rng([SEED, 2])
    heads = (vary(bank[n % len(bank)], rng)[0][n % 2].numpy() for n in range(EXPECTED))
    card, affine = make_card("0" * 64, {}), np.diag([SURVEY_MM, SURVEY_MM, SURVEY_MM, 1])
    found = measure_inputs(card, (prepare(card, Volume(head, affine)) for head in heads))
    return found.model_copy(update={"spacing": {}, "field_of_view": {}})


def make_card(sha256: str, figures: dict, expected: Expected | None = None) -> ModelCard:
    """The card that goes beside the weights."""
    return ModelCard.model_validate(
        {
            "name": NAME,
            "description": "Is there a planted lesion, dark like fluid, in a skull-stripped head? A toy for demonstrations, "
            "trained on computer-made ellipsoids of 6 to 12 mm radius; it has no clinical meaning. "
            "Research use only, not for clinical use.",
            "task": "classification",
            "network": {"architecture": "LesionNet"},
            "weights": {"file": f"{NAME}.safetensors", "sha256": sha256},
            "spatial": {"mode": "whole"},
            "input": {
                "channels": [{"name": "head", "modality": "MR T1, skull-stripped, 0 outside the brain"}],
                "orientation": "RAS",
                "spacing": (SURVEY_MM,) * 3,
                "intensity": {"rule": "zscore"},
                "expected": expected or {"modality": ["MR"]},
            },
            "output": {"labels": [{"name": "no lesion"}, {"name": "lesion", "color": (0.9, 0.2, 0.2)}]},
            "layers": ["features"],
            "methods": ["gradcam", "lime"],
            "provenance": "Trained by MedXAILib/training/lesion.py on deformed and recontrasted copies of "
            + ", ".join(name for name, _, _ in SOURCES)
            + ": a healthy adult T1 with its machine-made label map (MIT, neuroneural/brainchop), a FLAIR (BSD-2, "
            "niivue), patient TCGA-FG-6692 (CC BY 3.0, TCIA TCGA-LGG), a glioma (BSD-3, pyradiomics) and patient "
            "PGBM-003 (CC BY 4.0 expected, TCIA Brain-Tumor-Progression); one in three an average of deformations, "
            "some with intensities drawn by structure, half with parts cut out and filled with the mean, as LIME "
            f"does. The demo's head (ICBM152) and {HELD_OUT} took no part.",
            "licence": "Apache-2.0",
            "figures": figures,
            "weaknesses": [
                "A toy task: the lesions were planted, and nothing real was learned or tested.",
                "It needs a skull-stripped head with dark fluid and zeros outside the brain; a skull misleads it.",
                "Tumours of the training patients counted as no lesion, so real lesions may be passed over.",
                "It was trained on heads of five people; another head may raise a false alarm.",
                "It has seen lesions only in tissue 3 mm or more below the surface of the brain.",
            ],
        }
    )


def make(data: Path, output: Path, progress: Progress) -> dict:
    """Train, measure, and write weights and card.

    :param data: folder with volumes/, dicom/ and models/.
    :returns: the card's figures.
    :raises InputError: where the folder holds the network already, or a file cannot be written.
    """
    import torch

    refuse_finished(output, NAME)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same sums, and so the same weights, on every number of cores
    try:
        heads = []
        for number, (name, mask_name, _) in enumerate(SOURCES):
            progress(number, len(SOURCES), "Reading heads")
            heads.append(read_head(data / name, mask_name and data / mask_name))
        bank = []
        for example in build_bank(heads, [share for _, _, share in SOURCES], HEADS, SEED):
            progress(len(bank), HEADS, "Deforming heads")
            bank.append(example)
        return finish(train(bank, STEPS, SEED, progress), data, output, progress, expectations(bank))
    finally:
        torch.set_num_threads(threads)


def finish(network: torch.nn.Module, data: Path, folder: Path, progress: Progress, expected: Expected) -> dict:
    """Measure the network on the two heads it has not seen, and write its weights and card."""
    from safetensors.torch import save

    content = save({name: value.contiguous() for name, value in network.state_dict().items()})
    digest = hashlib.sha256(content).hexdigest()
    model = Model(make_card(digest, {}), network, "cpu", digest, f"{NAME}.safetensors")
    seeds, lime_seeds = range(CASES), range(LIME_CASES)
    figures = {
        "demo head, ICBM152 average": measure(model, demo_head(), seeds, lime_seeds, progress),
        f"held-out head, {HELD_OUT}": measure(model, read_held_out(data), seeds, lime_seeds, progress),
        "hit": f"centroid of the top region in the lesion or at most {HIT_MM:g} mm from it",
    }
    card = make_card(digest, figures, expected).written()
    write(content, folder / f"{NAME}.safetensors")
    write((json.dumps(card, indent=2) + "\n").encode(), folder / f"{NAME}.json")
    return figures
