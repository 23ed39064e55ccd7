"""A model card by its path. It is described with the standard library alone; whether it is right in every field is for
:mod:`..card` to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CardError, InputError
from ..schema import MODES, TASKS, refuse_newer, voxelwise
from ..summary import ModelSummary
from ..weights.finding import find_weights, weights_beside

if TYPE_CHECKING:
    from ..loading import Model


class CardFile:
    """The path of a card (a .json file)."""

    name = "card"

    def recognises(self, given: str | Path) -> bool:
        """Whether it is the path of a JSON file."""
        path = Path(given)
        return path.suffix.lower() == ".json" and path.is_file()

    def path(self, given: str | Path) -> Path:
        """Of the card."""
        return Path(given)

    def describe(self, given: str | Path) -> ModelSummary:
        """The card in short.

        :raises CardError: for a file that is no card.
        """
        path = self.path(given)
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            refuse_newer(card, path)
            return _summary(card, path.parent)
        except InputError:
            raise
        except FileNotFoundError:
            raise CardError(path, "there is no such model card", "choose another one") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise CardError(
                path.name,
                "this is no model card, or one of name, task, spatial, input, output.labels and weights.file in it is "
                "missing or wrong",
                "mend it, or choose another one",
            ) from None

    def files(self, given: str | Path, weights: str | Path | None) -> list[Path]:
        """Card and weights.

        :raises InputError: where either is missing, or the card is wrong.
        """
        from ..card import read_card

        card = read_card(self.path(given))
        return [self.path(given), find_weights(card.name, card.weights.file, self.path(given).parent, weights)]

    def load(
        self, given: str | Path, *, weights: str | Path | None, weights_key: str | None, trust: bool, device: str
    ) -> Model:
        """The card's network with its weights.

        :raises InputError: naming the card's field or the file, and what to do.
        """
        from ..card import read_card
        from ..loading import load_card

        path = self.path(given)
        return load_card(
            read_card(path), path.parent, weights=weights, weights_key=weights_key, trust=trust, device=device
        )


def _summary(card: dict[str, Any], folder: Path) -> ModelSummary:
    if card["task"] not in TASKS or card["spatial"]["mode"] not in MODES:
        raise ValueError
    inputs = card.get("input", {})
    channels = inputs.get("channels") or [{"name": "image"}]
    return ModelSummary(
        name=card["name"],
        description=card.get("description", ""),
        task=card["task"],
        mode=card["spatial"]["mode"],
        axis=card["spatial"].get("axis", "axial"),
        labels=tuple(label["name"] for label in card["output"]["labels"]),
        channels=tuple((c["name"], c.get("modality", "")) for c in channels),
        spacing=tuple(inputs["spacing"]) if inputs.get("spacing") else None,
        licence=card.get("licence", ""),
        weaknesses=tuple(card.get("weaknesses", ())),
        background=_background(card),
        methods=tuple(card.get("methods", ())),
        weights=weights_beside(folder, card["weights"]["file"]),
        weights_name=card["weights"]["file"],
    )


def _background(card: dict[str, Any]) -> str | None:
    exclusive = card["output"].get("activation", "softmax") == "softmax"
    name: str | None = card["output"]["labels"][0]["name"]
    return name if voxelwise(card["task"]) and exclusive else None
