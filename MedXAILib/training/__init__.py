"""train(): a recipe and data become weights, a card with measured figures, a log and a picture. Nothing else imports this.

``recipe.py`` says what is asked for; ``cases.py`` finds the data, ``example.py`` prepares and ``splitting.py`` splits them;
``trainer.py`` does the epochs, ``measuring.py`` the figures, ``results.py`` the files. The demo's network, whose lesions are
planted, is made in its own way, by :mod:`MedXAILib.examples.planted_lesion.training`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..examples.planted_lesion import NAME as PLANTED_LESION
from ..examples.planted_lesion.training import make as make_planted_lesion
from ..models.loading import choose_device
from ..progress import Progress, shares, silent
from . import cases, checkpoint, splitting
from .cases import TrainingCase
from .checkpoint import State
from .example import load_all
from .measuring import expectations, measure
from .recipe import read_recipe

if TYPE_CHECKING:
    from .trainer import Plan

PARTS = (2.0, 1.0, 100.0, 2.0, 1.0, 1.0, 2.0)
"""About what the parts of a training cost: reading, comparing with the test cases, fitting, measuring on three sets, and
measuring what inputs look like."""


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The cases of a training.

    :ivar learned: those that are learned from; ``validation``: those that choose the best epoch.
    :ivar tested: those of the test set; ``strangers``: those of them that look like none of the others.
    """

    learned: list[TrainingCase]
    validation: list[TrainingCase]
    tested: list[TrainingCase]
    strangers: list[TrainingCase]


def train(
    recipe: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    device: str = "auto",
    progress: Progress = silent,
    message: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train a network as its recipe says, or go on where an interrupted training of it ended.

    :param recipe: path of a recipe (.toml), or the name of one that comes with MedXAI.
    :param data: the folder that the recipe's paths are relative to.
    :param output: folder for ``<name>.safetensors``, its card ``<name>.json``, ``<name>.log.csv`` and ``<name>.png``,
        and ``checkpoint.pt`` until they are there.
    :param message: gets a line after each epoch.
    :returns: the card's figures.
    :raises InputError: for a wrong recipe, data that do not fit it, a checkpoint of another recipe, a full disk.
    """
    from . import results, trainer

    folder = Path(output)
    if recipe == PLANTED_LESION:
        results.refuse_finished(folder, PLANTED_LESION)
        made, content = make_planted_lesion(Path(data), progress)
        results.write_network(folder, made, content)
        return made.figures
    wanted = read_recipe(recipe)
    card, device = wanted.model_card(), choose_device(device)
    results.refuse_finished(folder, wanted.name)
    trainer.check(wanted, card)
    found, tested = cases.find_both(wanted, card, Path(data))
    made_by = checkpoint.fingerprint(wanted, found)
    state = checkpoint.resume(made_by, folder)
    reading, comparing, fitting, *measured = shares(progress, PARTS)
    loaded = load_all(card, found, reading)
    strangers = splitting.strangers(wanted, card, tested, loaded, comparing)
    kept, held = splitting.split(wanted, card, found, loaded)
    message(f"{len(found)} cases: {len(kept)} to learn from, {len(held)} to choose the best epoch by.")
    if wanted.data.content not in (None, cases.content(found)):
        message(
            "The recipe's description, provenance, licence and weaknesses are of other data and were left out; add your own to the card, "
            "and see that the modality of its inputs is right."
        )
    learned, validation = ([example for n in numbers for example in loaded[n]] for numbers in (kept, held))
    plan = trainer.Plan(recipe=wanted, card=card, learned=learned, validation=validation, device=device)
    trainer.fit(plan, state, partial(checkpoint.save, made_by=made_by, folder=folder), fitting, message)
    sets = Sets(
        learned=[found[n] for n in kept], validation=[found[n] for n in held], tested=tested, strangers=strangers
    )
    return _finish(plan, state, sets, folder, measured, message)


def _finish(
    plan: Plan,
    state: State,
    sets: Sets,
    folder: Path,
    reports: Sequence[Progress],
    message: Callable[[str], None],
) -> dict[str, Any]:
    """Measure the network of the best epoch and write everything; gives the card's figures.

    :param reports: the progress of measuring on three sets, and of measuring what inputs look like.
    """
    from . import results

    choosing, testing, again, looking = reports
    recipe = plan.recipe
    content = results.pack(recipe, state)
    weights = results.weights_of(recipe, content)
    model = results.stored(recipe.model_card(weights), content, plan.device)
    figures = results.training_figures(recipe, state, len(sets.learned), plan.device)
    validation = measure(model, sets.validation, choosing, "Measuring on the validation set")
    figures["validation (the best epoch was chosen by it)"] = validation
    if answer := results.one_answer(validation):
        message(answer)
    apart = ", without what looks like a case learned from"
    for name, some, report in (("", sets.tested, testing), (apart, sets.strangers, again)):
        if some and (name == "" or len(some) < len(sets.tested)):
            figures[f"test: {recipe.data.test}{name}"] = measure(model, some, report, "Measuring on the test set")
    expected = expectations(plan.card, sets.learned, looking, message)
    data_hash = cases.content([*sets.learned, *sets.validation])
    told = results.told(recipe, data_hash, len(sets.learned), len(sets.validation), validation)
    results.finish(folder, recipe.model_card(weights, figures, expected, told), content, state)
    if recipe.data.content is None and recipe.card.get("provenance"):
        message(f'With content = "{data_hash}" below [data], the provenance of the recipe goes with these data alone.')
    return figures
