"""train(): a recipe and data become weights, a card with measured figures, a log and a picture. Nothing else imports this.

``recipe.py`` says what is asked for, ``cases.py`` finds and splits the data, ``trainer.py`` does the epochs,
``measuring.py`` the figures, ``results.py`` the files. ``lesion.py`` makes the
demo's network, whose lesions are planted, in its own way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..progress import Progress, shares, silent

PARTS = (2.0, 1.0, 100.0, 2.0, 1.0, 1.0, 2.0)
"""About what the parts of a training cost: reading, comparing with the test cases, fitting, measuring on three sets, and
measuring what inputs look like."""


def train(
    recipe: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    device: str = "auto",
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> dict:
    """Train a network as its recipe says, or go on where an interrupted training of it ended.

    :param recipe: path of a recipe (.toml), or the name of one that comes with MedXAI.
    :param data: the folder that the recipe's paths are relative to.
    :param output: folder for ``<name>.safetensors``, its card ``<name>.json``, ``<name>.log.csv`` and ``<name>.png``,
        and ``checkpoint.pt`` until they are there.
    :param say: gets a line after each epoch.
    :returns: the card's figures.
    :raises InputError: for a wrong recipe, data that do not fit it, a checkpoint of another recipe, a full disk.
    """
    from ..examples.planted_lesion import training as lesion
    from ..models.loading import choose_device
    from . import cases, checkpoint, results, trainer
    from .measuring import measure
    from .recipe import read_recipe

    if recipe == lesion.NAME:
        return lesion.make(Path(data), Path(output), progress)
    wanted = read_recipe(recipe)
    card = wanted.model_card()
    device = choose_device(device)
    folder = Path(output)
    results.refuse_finished(folder, wanted.name)
    trainer.check(wanted, card)
    found, tested = cases.find_both(wanted, card, Path(data))
    made_by = checkpoint.fingerprint(wanted, found)
    state = checkpoint.resume(made_by, folder)
    reading, comparing, fitting, choosing, testing, again, looking = shares(progress, PARTS)
    loaded = cases.load_all(card, found, reading)
    strangers = cases.strangers(wanted, card, tested, loaded, comparing)
    kept, held = cases.split(wanted, card, found, loaded)
    say(f"{len(found)} cases: {len(kept)} to learn from, {len(held)} to choose the best epoch by.")
    data_hash = cases.content(found)
    if wanted.data.content not in (None, data_hash):
        say(
            "The recipe's description, provenance, licence and weaknesses are of other data and were left out; add your own to the card, "
            "and see that the modality of its inputs is right."
        )
    pools = [[example for n in numbers for example in loaded[n]] for numbers in (kept, held)]
    keep = partial(checkpoint.save, made_by=made_by, folder=folder)
    trainer.fit(wanted, card, *pools, state, keep, device, fitting, say)

    content = results.pack(wanted, state)
    weights = results.weights_of(wanted, content)
    model = results.stored(wanted.model_card(weights), content, device)
    figures = results.training_figures(wanted, state, len(kept), device)
    text = "Measuring on the validation set"
    validation = measure(model, [found[n] for n in held], choosing, text)
    figures["validation (the best epoch was chosen by it)"] = validation
    if answer := results.one_answer(validation):
        say(answer)
    apart = ", without what looks like a case learned from"
    for name, some, report in (("", tested, testing), (apart, strangers, again)):
        if some and (name == "" or len(some) < len(tested)):
            figures[f"test: {wanted.data.test}{name}"] = measure(model, some, report, "Measuring on the test set")
    expected = cases.expectations(card, [found[n] for n in kept], looking, say)
    told = results.told(wanted, data_hash, len(kept), len(held), validation)
    results.finish(folder, wanted.model_card(weights, figures, expected, told), content, state)
    if wanted.data.content is None and wanted.card.get("provenance"):
        say(f'With content = "{data_hash}" below [data], the provenance of the recipe goes with these data alone.')
    return figures
