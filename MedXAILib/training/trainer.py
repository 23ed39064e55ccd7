"""The epochs: from examples to the best weights, with a checkpoint after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from math import cos, isnan, pi
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, first_line
from ..models.card import ModelCard
from ..models.loading import build
from ..models.running.reading import read_as
from ..progress import Progress
from . import losses
from .augmentation import Augment
from .cases import Example
from .checkpoint import State
from .measuring import accuracy, aurocs, dice_of_parts, label_map
from .recipe import Recipe

if TYPE_CHECKING:
    import torch


def check(recipe: Recipe, card: ModelCard) -> None:
    """Before data are read.

    :raises InputError: for a network or an augmentation that cannot be made.
    """
    build(card)
    Augment(recipe.augmentation, card.task == "segmentation")


def fit(
    recipe: Recipe,
    card: ModelCard,
    train: Sequence[Example],
    validation: Sequence[Example],
    state: State,
    keep: Callable[[State], None],
    device: str,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Train from ``state`` on to the last epoch; afterwards it holds the weights of the best one.

    On a CPU the weights follow from recipe and data alone (on one machine, with one number of threads): every epoch
    draws from a seed of its own, so that a resumed training ends in the same weights as one that ran through.

    :param keep: gets the state after each epoch.
    :raises InputError: where the network does not take the examples.
    """
    import torch

    torch.manual_seed(recipe.seed)
    network = read_as(build(card), card).to(device)
    if train[0].image.ndim == 4:
        network.to(memory_format=torch.channels_last_3d)  # on a CPU a third faster than the default layout
    wanted = recipe.training
    optimizer = torch.optim.AdamW(network.parameters(), wanted.learning_rate, weight_decay=wanted.weight_decay)
    if state.epoch:
        say(f"Going on after epoch {state.epoch} of {wanted.epochs}.")
        network.load_state_dict(state.network)
        optimizer.load_state_dict(state.optimizer)
    augment = Augment(recipe.augmentation, card.task == "segmentation")
    augment.try_on(train[0])
    steps = max(1, -(-len(train) // wanted.batch) - (len(train) % wanted.batch == 1))
    with deterministic():
        while state.epoch < wanted.epochs:
            started = time.monotonic()
            loss = _epoch(recipe, card, network, optimizer, augment, train, state, steps, device, progress)
            ended = (state.epoch + 1) * steps
            validated = partial(progress, ended, wanted.epochs * steps)
            score = _validate(card, network, validation, device, validated)
            state.epoch += 1
            seconds = time.monotonic() - started
            state.rows.append(
                {
                    "epoch": state.epoch,
                    "seconds": seconds,
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "loss": loss,
                    "score": score,
                }
            )
            if not state.best or isnan(state.best_score) or score > state.best_score:
                state.best_score, state.best, state.best_epoch = score, _copy(network.state_dict()), state.epoch
            state.network, state.optimizer = network.state_dict(), optimizer.state_dict()
            keep(state)
            say(
                f"epoch {state.epoch} of {wanted.epochs}: loss {loss:.4f}, {score_name(card)} {score:.4f} "
                f"(best {state.best_score:.4f}), {seconds:.0f} s; about {left(state, wanted.epochs)} left"
            )


def left(state: State, epochs: int) -> str:
    """The time that the further epochs will take, in words."""
    seconds = state.rows[-1]["seconds"] * (epochs - state.epoch)
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def score_name(card: ModelCard) -> str:
    """What the best epoch is chosen by."""
    if card.task == "segmentation":
        return "mean Dice"
    return "accuracy" if card.output.exclusive else "mean AUROC"


@contextmanager
def deterministic():
    """Deterministic algorithms, where torch has them, for the time of a training."""
    import torch

    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def _epoch(recipe, card, network, optimizer, augment, train, state, steps, device, progress) -> float:
    """One pass over the training examples; gives the mean loss."""
    import torch

    wanted = recipe.training
    draw = np.random.default_rng([recipe.seed, state.epoch])
    torch.manual_seed(int(draw.integers(2**31)))
    augment.seed(int(draw.integers(2**31)))
    order = draw.permutation(len(train))
    loss_of = losses.make(wanted, card.output.exclusive)
    network.train()
    total = 0.0
    for step in range(steps):
        progress(
            state.epoch * steps + step,
            wanted.epochs * steps,
            f"Epoch {state.epoch + 1} of {wanted.epochs}, loss {total / max(step, 1):.3f}",
        )
        for group in optimizer.param_groups:
            group["lr"] = rate(wanted.learning_rate, state.epoch * steps + step, steps, wanted.epochs * steps)
        end = (step + 1) * wanted.batch if step < steps - 1 else None  # no last batch of one case: batch norm needs two
        batch = [augment(train[n]) for n in order[step * wanted.batch : end]]
        x, truth = collate(card, batch, device)
        optimizer.zero_grad()
        outputs = run(card, network, x)
        loss = sum(loss_of(output, truth) for output in outputs) / len(outputs)
        if not torch.isfinite(loss):
            raise InputError(
                f"The loss of {card.name} is no number any more in epoch {state.epoch + 1}; lower the recipe's "
                "training.learning_rate, or mend input.intensity of the card."
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        total += float(loss.detach())
    return total / steps


def rate(highest: float, step: int, rise: int, total: int) -> float:
    """Learning rate of a step: a linear rise over the first ``rise`` steps, then half a cosine down to 0."""
    if total > rise and step < rise:
        return highest * (step + 1) / rise
    return highest * (1 + cos(pi * (step - rise) / max(total - rise, 1))) / 2 if total > rise else highest


def collate(card: ModelCard, batch: Sequence[Example], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (batch, channel, *spatial) and their truth.

    :raises InputError: where their sizes differ.
    """
    import torch

    sizes = {tuple(example.image.shape) for example in batch}
    if len(sizes) > 1:
        raise InputError(
            f"The cases that {card.name} learns from have different sizes ({' and '.join(str(s) for s in sorted(sizes)[:2])}): "
            "give input.size in the card, or a crop as the recipe's last augmentation."
        )
    return torch.stack([e.image for e in batch]).to(device), torch.stack([e.truth for e in batch]).to(device)


def run(card: ModelCard, network: torch.nn.Module, x: torch.Tensor) -> Sequence[torch.Tensor]:
    """The network's outputs: one, or those of a pair that learn together.

    :raises InputError: where it does not take the input, or its output is not what the card says.
    """
    try:
        output = network(x)
    except (RuntimeError, ValueError) as error:
        if "memory" in str(error):
            raise
        raise InputError(
            f"{card.name}: the network does not take an input of {x.shape[1]} channel(s) and the size "
            f"{' x '.join(map(str, x.shape[2:]))} ({first_line(error)}); mend input or network.arguments of "
            "the recipe's card, or training.batch."
        ) from None
    outputs = list(output) if isinstance(output, tuple | list) else [output]
    spatial = tuple(x.shape[2:]) if card.task == "segmentation" else ()
    wanted = (len(x), len(card.output.labels), *spatial)
    for one in outputs:
        if tuple(one.shape) != wanted:
            raise InputError(
                f"{card.name}: the network gave an output of the shape {tuple(one.shape[1:])} where the card's task and labels "
                f"mean {wanted[1:]}; mend output.labels or network.arguments of the recipe's card."
            )
    return outputs


def _validate(card, network, validation, device, progress: Callable[[str], None]) -> float:
    """Mean Dice, accuracy, or mean AUROC over the validation examples, one at a time as they are."""
    import torch

    network.eval()
    rows = []
    with torch.inference_mode():
        for number, example in enumerate(validation):
            progress(f"Validation, {number} of {len(validation)}")
            output = run(card, network, example.image[None].to(device))[0]
            logits = output[0].float().cpu().numpy()
            if card.task == "segmentation":
                logits = dice_of_parts(card, label_map(card, logits), example.truth[0].numpy())
            rows.append(logits)
    if card.task == "segmentation":
        return mean(rows)
    rows, truth = np.array(rows), np.array([example.truth.numpy() for example in validation])
    return accuracy(rows, truth) if card.output.exclusive else mean(list(aurocs(card, rows, truth).values()))


def mean(values) -> float:
    """Of what is a number; nan where nothing is."""
    values = np.asarray(values, float)
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def _copy(state: dict) -> dict:
    return {name: value.detach().clone() for name, value in state.items()}
