"""What every reader of a model card knows of its fields, without a package: the version, and the words of some."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import CardError

SCHEMA_VERSION: Final = 1
"""Of a model card's fields."""
TASKS: Final = ("classification", "segmentation")
MODES: Final = {"slices": "{axis} slices", "whole": "the whole volume", "windows": "overlapping windows"}
"""Spatial mode -> what its network is given at once, in words."""


def voxelwise(task: object) -> bool:
    """Whether a model of this task says something of each voxel, not of the whole or of each slice."""
    return task == "segmentation"


def by_slices(mode: object) -> bool:
    """Whether a network of this spatial mode sees one slice at a time."""
    return mode == "slices"


def by_windows(mode: object) -> bool:
    """Whether a network of this spatial mode sees parts of the volume, none of which has a class of its own."""
    return mode == "windows"


def refuse_newer(card: object, path: Path) -> None:
    """:raises CardError: for a card with fields that this version cannot know."""
    version = card.get("schema_version") if isinstance(card, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise CardError(
            path,
            f"this card was written for a newer MedXAI (schema_version {version}; this one reads up to {SCHEMA_VERSION})",
            "update MedXAI",
        )
