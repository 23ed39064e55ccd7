"""The epochs: from examples to the best weights, with a checkpoint after each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from math import cos, isnan, pi
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CardError, InputError, NetworkError, first_line, out_of_memory
from ..models.card import ModelCard
from ..models.loading import build
from ..models.running.reading import read_as
from ..progress import Progress
from . import losses
from .augmentation import Augment
from .checkpoint import State
from .example import TrainingExample
from .measuring import accuracy, aurocs, dice_of_parts, label_map
from .recipe import Recipe

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What a training is given.

    :ivar card: of the network to be.
    :ivar learned: the examples that are learned from; ``validation``: those that choose the best epoch.
    :ivar device: ``cpu`` or ``cuda``.
    """

    recipe: Recipe
    card: ModelCard
    learned: Sequence[TrainingExample]
    validation: Sequence[TrainingExample]
    device: str

    @property
    def steps(self) -> int:
        """Of an epoch; no last batch of one example: batch norm needs two."""
        count, batch = len(self.learned), self.recipe.training.batch
        return max(1, -(-count // batch) - (count % batch == 1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Learner:
    """What changes while a network learns."""

    network: torch.nn.Module
    optimizer: torch.optim.Optimizer
    augment: Augment
    loss: losses.Loss


def check(recipe: Recipe, card: ModelCard) -> None:
    """Before data are read.

    :raises InputError: for a network or an augmentation that cannot be made.
    """
    build(card)
    Augment(recipe.augmentation, card.voxelwise)


def fit(
    plan: Plan, state: State, keep: Callable[[State], None], progress: Progress, message: Callable[[str], None]
) -> None:
    """Train from ``state`` on to the last epoch; afterwards it holds the weights of the best one.

    On a CPU the weights follow from recipe and data alone (on one machine, with one number of threads): every epoch
    draws from a seed of its own, so that a resumed training ends in the same weights as one that ran through.

    :param keep: gets the state after each epoch.
    :raises InputError: where the network does not take the examples.
    """
    epochs, steps = plan.recipe.training.epochs, plan.steps
    learner = begin(plan, state)
    if state.epoch:
        message(f"Going on after epoch {state.epoch} of {epochs}.")
    learner.augment.try_on(plan.learned[0])
    with deterministic():
        while state.epoch < epochs:
            started = time.monotonic()
            loss = _epoch(plan, learner, state.epoch, progress)
            validated = partial(progress, (state.epoch + 1) * steps, epochs * steps)
            score = _validate(plan, learner.network, validated)
            seconds = time.monotonic() - started
            _note(state, learner, loss, score, seconds)
            keep(state)
            message(
                f"epoch {state.epoch} of {epochs}: loss {loss:.4f}, {score_name(plan.card)} {score:.4f} "
                f"(best {state.best_score:.4f}), {seconds:.0f} s; about {left(state, epochs)} left"
            )


def begin(plan: Plan, state: State) -> Learner:
    """The network and what trains it, as they were after the epochs of ``state``."""
    import torch

    wanted, card = plan.recipe.training, plan.card
    torch.manual_seed(plan.recipe.seed)
    network = read_as(build(card), card).to(plan.device)
    if plan.learned[0].image.ndim == 4:
        # on a CPU a third faster than the default layout
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # left out of torch's stubs
    optimizer = torch.optim.AdamW(network.parameters(), wanted.learning_rate, weight_decay=wanted.weight_decay)
    if state.epoch:
        network.load_state_dict(state.network)
        optimizer.load_state_dict(state.optimizer)
    return Learner(
        network=network,
        optimizer=optimizer,
        augment=Augment(plan.recipe.augmentation, card.voxelwise),
        loss=losses.make(wanted, card.output.exclusive),
    )


def left(state: State, epochs: int) -> str:
    """The time that the further epochs will take, in words."""
    seconds = state.rows[-1]["seconds"] * (epochs - state.epoch)
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def score_name(card: ModelCard) -> str:
    """What the best epoch is chosen by."""
    if card.voxelwise:
        return "mean Dice"
    return "accuracy" if card.output.exclusive else "mean AUROC"


@contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic algorithms, where torch has them, for the time of a training."""
    import torch

    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def _epoch(plan: Plan, learner: Learner, epoch: int, progress: Progress) -> float:
    """One pass over the training examples; gives the mean loss.

    :param epoch: how many are done.
    """
    import torch

    wanted, steps = plan.recipe.training, plan.steps
    draw = np.random.default_rng([plan.recipe.seed, epoch])
    torch.manual_seed(int(draw.integers(2**31)))
    learner.augment.seed(int(draw.integers(2**31)))
    order = draw.permutation(len(plan.learned))
    learner.network.train()
    total = 0.0
    for step in range(steps):
        done, of = epoch * steps + step, wanted.epochs * steps
        progress(done, of, f"Epoch {epoch + 1} of {wanted.epochs}, loss {total / max(step, 1):.3f}")
        for group in learner.optimizer.param_groups:
            group["lr"] = rate(wanted.learning_rate, done, steps, of)
        end = (step + 1) * wanted.batch if step < steps - 1 else None
        batch = [learner.augment(plan.learned[n]) for n in order[step * wanted.batch : end]]
        loss = _step(plan, learner, batch)
        if loss is None:
            raise InputError(
                f"The loss of {plan.card.name} is no number any more in epoch {epoch + 1}",
                "lower the recipe's training.learning_rate, or mend input.intensity of the card",
            )
        total += loss
    return total / steps


def _step(plan: Plan, learner: Learner, batch: Sequence[TrainingExample]) -> float | None:
    """Learn from one batch; gives its loss, or None, and nothing is learned, where that is no number."""
    import torch

    x, truth = collate(plan.card, batch, plan.device)
    learner.optimizer.zero_grad()
    outputs = run(plan.card, learner.network, x)
    loss = reduce(torch.add, [learner.loss(output, truth) for output in outputs]) / len(outputs)
    if not torch.isfinite(loss):
        return None
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learner.network.parameters(), 10.0)
    learner.optimizer.step()
    return float(loss.detach())


def _note(state: State, learner: Learner, loss: float, score: float, seconds: float) -> None:
    """Another epoch is done."""
    state.epoch += 1
    state.rows.append(
        {
            "epoch": state.epoch,
            "seconds": seconds,
            "learning_rate": learner.optimizer.param_groups[0]["lr"],
            "loss": loss,
            "score": score,
        }
    )
    if not state.best or isnan(state.best_score) or score > state.best_score:
        state.best_score, state.best, state.best_epoch = score, _copy(learner.network.state_dict()), state.epoch
    state.network, state.optimizer = learner.network.state_dict(), learner.optimizer.state_dict()


def rate(highest: float, step: int, rise: int, total: int) -> float:
    """Learning rate of a step: a linear rise over the first ``rise`` steps, then half a cosine down to 0."""
    if total > rise and step < rise:
        return highest * (step + 1) / rise
    return highest * (1 + cos(pi * (step - rise) / max(total - rise, 1))) / 2 if total > rise else highest


def collate(card: ModelCard, batch: Sequence[TrainingExample], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (batch, channel, *spatial) and their truth.

    :raises InputError: where their sizes differ.
    """
    import torch

    sizes = {tuple(example.image.shape) for example in batch}
    if len(sizes) > 1:
        raise InputError(
            f"The cases that {card.name} learns from have different sizes ({' and '.join(str(s) for s in sorted(sizes)[:2])})",
            "give input.size in the card, or a crop as the recipe's last augmentation",
            joint=": ",
        )
    return torch.stack([e.image for e in batch]).to(device), torch.stack([e.truth for e in batch]).to(device)


def run(card: ModelCard, network: torch.nn.Module, x: torch.Tensor) -> Sequence[torch.Tensor]:
    """The network's outputs: one, or those of a pair that learn together.

    :raises NetworkError: where it does not take the input.
    :raises CardError: where its output is not what the card says.
    """
    try:
        output = network(x)
    except (RuntimeError, ValueError) as error:
        if out_of_memory(error):
            raise
        raise NetworkError(
            f"the network does not take an input of {x.shape[1]} channel(s) and the size "
            f"{' x '.join(map(str, x.shape[2:]))} ({first_line(error)})",
            "mend input or network.arguments of the recipe's card, or training.batch",
            about=card.name,
        ) from error
    outputs = list(output) if isinstance(output, tuple | list) else [output]
    spatial = tuple(x.shape[2:]) if card.voxelwise else ()
    wanted = (len(x), len(card.output.labels), *spatial)
    for one in outputs:
        if tuple(one.shape) != wanted:
            raise CardError(
                card.name,
                f"the network gave an output of the shape {tuple(one.shape[1:])} where the card's task and labels mean "
                f"{wanted[1:]}",
                "mend output.labels or network.arguments of the recipe's card",
            )
    return outputs


def _validate(plan: Plan, network: torch.nn.Module, progress: Callable[[str], None]) -> float:
    """Mean Dice, accuracy, or mean AUROC over the validation examples, one at a time as they are."""
    import torch

    card = plan.card
    network.eval()
    logits: list[np.ndarray[Any, np.dtype[np.float32]]] = []
    overlaps: list[list[float]] = []
    with torch.inference_mode():
        for number, example in enumerate(plan.validation):
            progress(f"Validation, {number} of {len(plan.validation)}")
            output = run(card, network, example.image[None].to(plan.device))[0]
            one = output[0].float().cpu().numpy()
            if card.voxelwise:
                overlaps.append(dice_of_parts(card, label_map(card, one), example.truth[0].numpy()))
            else:
                logits.append(one)
    if card.voxelwise:
        return mean(overlaps)
    scores, truth = np.array(logits), np.array([example.truth.numpy() for example in plan.validation])
    return accuracy(scores, truth) if card.output.exclusive else mean(list(aurocs(card, scores, truth).values()))


def mean(values: Sequence[float] | Sequence[Sequence[float]]) -> float:
    """Of what is a number; nan where nothing is."""
    found = np.asarray(values, float)
    return float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else float("nan")


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
