"""Cards as a list: what a person wants to know before choosing, read with the standard library alone.

The panel shows this before any package is installed; whether a card is right in every field is for :mod:`.card` to say.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .security import consent as trust
from .weights.contents import PROGRAMS, inspect

SCHEMA_VERSION = 1
"""Of a model card's fields."""
SEARCH_PATH = "MEDXAI_MODEL_PATH"
"""Environment variable: folders in which weights are looked for, separated as in PATH."""
TASKS, MODES = ("classification", "segmentation"), ("slices", "whole", "windows")
ZOO = Path(__file__).parent / "zoo"


@dataclass(frozen=True)
class Brief:
    """The short form of a card.

    :ivar mode: slices, whole or windows.
    :ivar axis: of slices: axial, coronal, sagittal, i, j or k.
    :ivar channels: (name, modality) of each input.
    :ivar spacing: mm along i, j, k; None is the file's own.
    :ivar background: the first class of an exclusive segmentation, which is no structure.
    :ivar methods: suggested ones.
    :ivar weights: where the weights file lies; None where it is not found.
    """

    name: str
    description: str
    task: str
    mode: str
    axis: str
    labels: tuple[str, ...]
    channels: tuple[tuple[str, str], ...]
    spacing: tuple[float, ...] | None
    licence: str
    weaknesses: tuple[str, ...]
    background: str | None
    methods: tuple[str, ...]
    weights: Path | None
    weights_name: str


def zoo_cards() -> list[str]:
    """Names of the small models that come with MedXAI."""
    return sorted(path.stem for path in ZOO.glob("*.json"))


def thumbnail(model: str) -> Path | None:
    """A small picture of what a model of the zoo is for, PNG."""
    path = ZOO / f"{model}.png"
    return path if path.is_file() else None


def card_path(model: str) -> Path:
    """Where the card of a model lies: a name of the zoo, or a path."""
    return ZOO / f"{model}.json" if model in zoo_cards() else Path(model)


def brief(model: str) -> Brief:
    """The short form of a model's card.

    :raises InputError: for a file that is no card.
    """
    path = card_path(model)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        refuse_newer(card, path)
        if card["task"] not in TASKS or card["spatial"]["mode"] not in MODES:
            raise ValueError
        inputs = card.get("input", {})
        channels = inputs.get("channels") or [{"name": "image"}]
        return Brief(
            card["name"],
            card.get("description", ""),
            card["task"],
            card["spatial"]["mode"],
            card["spatial"].get("axis", "axial"),
            tuple(label["name"] for label in card["output"]["labels"]),
            tuple((c["name"], c.get("modality", "")) for c in channels),
            tuple(inputs["spacing"]) if inputs.get("spacing") else None,
            card.get("licence", ""),
            tuple(card.get("weaknesses", ())),
            background(card),
            tuple(card.get("methods", ())),
            weights_beside(path.parent, card["weights"]["file"]),
            card["weights"]["file"],
        )
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such model card; choose another one.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f"{path.name}: this is no model card, or one of name, task, spatial, input, output.labels and weights.file in it is "
            "missing or wrong; mend it, or choose another one."
        ) from None


def refuse_newer(card, path: Path) -> None:
    """:raises InputError: for a card with fields that this version cannot know."""
    version = card.get("schema_version") if isinstance(card, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{path}: this card was written for a newer MedXAI (schema_version {version}; this one reads up to "
            f"{SCHEMA_VERSION}); update MedXAI."
        )


def quantity(value: float, unit: str) -> str:
    """A measurement in three digits, or as many as stand before the point."""
    return f"{value:.3g} {unit}".rstrip() if abs(value) < 1000 else f"{value:.0f} {unit}".rstrip()


def background(card: dict) -> str | None:
    exclusive = card["output"].get("activation", "softmax") == "softmax"
    return card["output"]["labels"][0]["name"] if card["task"] == "segmentation" and exclusive else None


def weights_beside(folder: Path, name: str) -> Path | None:
    """The weights file beside its card, else in a folder of MEDXAI_MODEL_PATH."""
    return next((place / name for place in search_places(folder) if (place / name).is_file()), None)


def search_places(folder: Path | None) -> list[Path]:
    """Where weights are looked for: beside the card, then in the folders of MEDXAI_MODEL_PATH."""
    places = [Path(part) for part in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if part]
    return [folder, *places] if folder else places


def needs_consent(weights: Path) -> bool:
    """Whether opening a weights file may run code that nobody has consented to; told from its content, never by opening.

    :raises InputError: for a file that is refused even with consent, or that is no weights file.
    """
    found = inspect(weights)
    found.refuse()
    if found.kind not in PROGRAMS:
        return False
    with open(weights, "rb") as file:
        return not trust.is_trusted(hashlib.file_digest(file, "sha256").hexdigest())
