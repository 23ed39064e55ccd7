"""The model cards used last, in the application's settings."""

from __future__ import annotations

from pathlib import Path

import slicer

KEY = "MedXAI/RecentModels"
"""Of the settings: paths of cards, the newest first."""
MOST = 8


def models() -> list[str]:
    """Paths of the cards used last that still exist."""
    stored = slicer.app.userSettings().value(KEY) or ()
    stored = (stored,) if isinstance(stored, str) else stored
    return [path for path in stored if Path(path).is_file()]


def remember(path: str) -> None:
    """Put a card first."""
    slicer.app.userSettings().setValue(KEY, [path, *(p for p in models() if p != path)][:MOST])


def forget() -> None:
    """Forget all of them."""
    slicer.app.userSettings().remove(KEY)
