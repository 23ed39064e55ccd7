"""What MedXAI has stored outside of scenes, told and removed."""

from __future__ import annotations

from pathlib import Path

import slicer

from MedXAILib.models.security import consent

from . import recent, sample


def sampleFiles() -> list[Path]:
    """Sample data of ours in Slicer's cache."""
    cache = Path(slicer.app.cachePath)
    return sorted(path for path in cache.glob(f"{sample.NAME}*") if path.is_file())


def storedThings() -> list[str]:
    """What MedXAI has stored outside of scenes, in words; empty for nothing."""
    counts = {
        "sample data files": len(sampleFiles()),
        "consents to run a model file": len(consent.trusted()),
        "recent models in the list": len(recent.models()),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def removeStored() -> None:
    """Delete the sample data, withdraw every consent, forget the recent models."""
    for path in sampleFiles():
        path.unlink()
    consent.forget()
    recent.forget()
