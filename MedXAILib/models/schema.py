"""What every reader of a model card knows of its fields, without a package: the version, and the words of some."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import CardError

SCHEMA_VERSION: Final = 1
"""Of a model card's fields."""
TASKS, MODES = ("classification", "segmentation"), ("slices", "whole", "windows")


def refuse_newer(card: object, path: Path) -> None:
    """:raises CardError: for a card with fields that this version cannot know."""
    version = card.get("schema_version") if isinstance(card, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise CardError(
            path,
            f"this card was written for a newer MedXAI (schema_version {version}; this one reads up to {SCHEMA_VERSION})",
            "update MedXAI",
        )
