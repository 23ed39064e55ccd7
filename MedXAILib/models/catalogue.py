"""The zoo in words: what each model does, how well, and what it cannot."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from .. import NOTICE
from .card import ModelCard
from .loading import find_card
from .source import source_of
from .sources.card_file import CardFile
from .sources.zoo import zoo_cards
from .summary import ModelSummary

WIDTH = 110


def lines(name: str | None) -> Iterator[str]:
    """All models in short, or the whole card of one (a name of the zoo, or a path); of a model that has none its summary.

    :raises InputError: for a card that is not there, or wrong.
    """
    if name is not None:
        source = source_of(name)
        yield from whole(find_card(name)[0]) if isinstance(source, CardFile) else summary(source.describe(name))
        return
    for known in zoo_cards():
        card = find_card(known)[0]
        yield f"{card.name}: {card.task}, {', '.join(label.name for label in card.output.labels)}"
        yield from wrapped(card.description)
        yield from wrapped("; ".join([*headline(card), *card.weaknesses[:1]]))
        yield f"    medxai explain FILE --model {card.name} {asked(card)} -o OUT"
    yield f"'medxai models NAME' says more of one. {NOTICE}."


def headline(card: ModelCard) -> Iterator[str]:
    """The first figure of each test set."""
    for name, part in card.figures.items():
        key = next((key for key in ("mean Dice", "accuracy") if key in part), None)
        if name.startswith("test: ") and key:
            yield f"{key} {part[key][0]:.3f} ({part[key][1]:.3f} to {part[key][2]:.3f}) on {part['cases']} of {name[6:]}"


def asked(card: ModelCard) -> str:
    """The suggested methods as options."""
    return " ".join(f"--method {method}" for method in card.methods or ("gradcam",))


def whole(card: ModelCard) -> Iterator[str]:
    """A card for people."""
    yield card.name
    yield from wrapped(card.description)
    yield f"Task: {card.task}; classes: {', '.join(label.name for label in card.output.labels)}"
    yield f"Network: {card.network.architecture}"
    yield f"Input: {'; '.join(f'{c.name} ({c.modality})' if c.modality else c.name for c in card.input.channels)}"
    yield f"Layers explained by default: {', '.join(card.layers) or 'chosen by the network'}"
    yield f"Suggested: {asked(card)}"
    for title, texts in (("Provenance", [card.provenance]), ("Weaknesses", card.weaknesses)):
        yield f"{title}:"
        for text in filter(None, texts):
            yield from wrapped(text)
    yield f"Licence: {card.licence or 'not said'}"
    yield "Figures:"
    yield from nested(card.figures, "    ")
    yield f"{NOTICE}."


def summary(model: ModelSummary) -> Iterator[str]:
    """What is known of a model without a card, for people."""
    yield model.name
    yield from wrapped(model.description)
    yield f"Task: {model.task}; classes: {', '.join(model.labels)}"
    yield f"Input: {'; '.join(f'{name} ({modality})' if modality else name for name, modality in model.channels)}"
    yield f"Licence: {model.licence or 'not said'}"
    yield f"{NOTICE}."


def nested(value: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Figures, one to a line."""
    for name, part in value.items():
        if isinstance(part, dict):
            yield f"{indent}{name}:"
            yield from nested(part, indent + "    ")
        elif isinstance(part, list) and len(part) == 3 and isinstance(part[0], float):
            yield f"{indent}{name}: {part[0]:.3f} (95 % interval {part[1]:.3f} to {part[2]:.3f})"
        else:
            yield f"{indent}{name}: {part}"


def wrapped(text: str) -> list[str]:
    """A paragraph, indented."""
    return textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
