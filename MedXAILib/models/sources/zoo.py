"""The small models that come with MedXAI, by their names."""

from __future__ import annotations

from pathlib import Path

from ...names import matching
from .card_file import CardFile

ZOO = Path(__file__).parents[1] / "zoo"


def zoo_cards() -> list[str]:
    """Names of the small models that come with MedXAI."""
    return sorted(path.stem for path in ZOO.glob("*.json"))


def thumbnail(model: str) -> Path | None:
    """A small picture of what a model of the zoo is for, PNG."""
    path = ZOO / f"{model}.png"
    return path if path.is_file() else None


class Zoo(CardFile):
    """The name of a model in the zoo, in any spelling of capitals and hyphens that is no file."""

    name = "zoo"

    def recognises(self, given: str | Path) -> bool:
        """Whether it is such a name."""
        known = _named(given)
        return known is not None and (known == str(given) or not Path(given).exists())

    def path(self, given: str | Path) -> Path:
        """Of the card that has this name."""
        return ZOO / f"{_named(given)}.json"


def _named(given: str | Path) -> str | None:
    return matching(str(given), zoo_cards(), spelling=True)
