"""Train the demo's network, LesionNet, on real heads with planted lesions.

    medxai train planted-lesion --data DATA -o OUT        # about 50 minutes on one core

Heads are stripped to the brain and deformed many times over, and lesions are planted in each (``synthesis.py``). Every step
takes pairs of the same head with and without its lesion, changed alike in place, contrast, noise and blur
(``augmentation.py``). The demo's own head takes no part, nor does anything made from its template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...models.card import Expected, ModelCard
from ...models.loading import Model
from ...progress import Progress
from . import NAME
from .augmentation import augment
from .card import expectations, make_card
from .evaluation import HIT_MM, measure
from .heads import demo_head, read_head, read_held_out, scans
from .synthesis import DeformedHead, build_bank

if TYPE_CHECKING:
    import torch

    from ...models.networks.lesionnet import LesionNet

STEPS, HEADS, SEED = 4000, 240, 0
"""Of the training; HEADS deformed ones."""
PAIRS = 2
"""Pairs in each step."""
RATE = 2e-3
CASES, LIME_CASES = 100, 10
"""Lesions to measure with on each head, and how many of them with LIME, which is slow."""


def make(data: Path, progress: Progress) -> tuple[ModelCard, bytes]:
    """Train and measure.

    :param data: folder with volumes/, dicom/ and models/, to which the paths of ``heads.toml`` are relative.
    :returns: the card, and the content of the weights file.
    :raises InputError: for a head that cannot be read.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same sums, and so the same weights, on every number of cores
    try:
        bank = read_bank(data, progress)
        network = train(bank, STEPS, SEED, progress)
        return finish(network, data, progress, expectations(bank, SEED))
    finally:
        torch.set_num_threads(threads)


def read_bank(data: Path, progress: Progress) -> list[DeformedHead]:
    """The heads of ``heads.toml``, deformed, with lesions."""
    table, heads = scans().heads, []
    bank: list[DeformedHead] = []
    for number, scan in enumerate(table):
        progress(number, len(table), "Reading heads")
        heads.append(read_head(data / scan.image, data / scan.brain if scan.brain else None))
    for head in build_bank(heads, [scan.weight for scan in table], HEADS, SEED):
        progress(len(bank), HEADS, "Deforming heads")
        bank.append(head)
    return bank


def train(bank: Sequence[DeformedHead], steps: int, seed: int, progress: Progress) -> torch.nn.Module:
    """Train a LesionNet on ``bank``.

    :returns: the network in eval mode, with the running mean of its weights.
    """
    import torch

    from ...models.networks.lesionnet import LesionNet

    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    network = LesionNet()
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.05)
    smoothed = None
    for step in range(steps):
        pairs = [augment(bank[n], rng) for n in rng.integers(len(bank), size=PAIRS)]
        images, lesions = torch.stack([pair.images for pair in pairs]), torch.stack([pair.lesion for pair in pairs])
        loss = loss_of(network, images, lesions, torch.tensor([pair.visible for pair in pairs]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean.update_parameters(network)
        smoothed = loss.item() if smoothed is None else 0.99 * smoothed + 0.01 * loss.item()
        progress(step + 1, steps, f"Training, loss {smoothed:.3f}")
    return mean.module.eval()


def loss_of(network: LesionNet, images: torch.Tensor, lesion: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
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


def finish(network: torch.nn.Module, data: Path, progress: Progress, expected: Expected) -> tuple[ModelCard, bytes]:
    """The card, for which the network is measured on the two heads it has not seen, and the content of its weights file."""
    from safetensors.torch import save

    content = save({name: value.contiguous() for name, value in network.state_dict().items()})
    digest = hashlib.sha256(content).hexdigest()
    model = Model(make_card(digest, {}), network, "cpu", digest, f"{NAME}.safetensors")
    seeds, lime_seeds = range(CASES), range(LIME_CASES)
    figures = {
        "demo head, ICBM152 average": measure(model, demo_head(), seeds, lime_seeds, progress),
        f"held-out head, {scans().held_out}": measure(model, read_held_out(data), seeds, lime_seeds, progress),
        "hit": f"centroid of the top region in the lesion or at most {HIT_MM:g} mm from it",
    }
    return make_card(digest, figures, expected), content
