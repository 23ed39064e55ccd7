"""What MedXAI stored outside of scenes."""

from __future__ import annotations

from pathlib import Path


def test_stored_things_are_removed_only_after_a_yes(explained, slicer, tmp_path, monkeypatch):
    from MedXAIPanel import recent, sample
    from MedXAIPanel.stored import storedThings

    from MedXAILib.models.security import consent

    ui = explained.ui
    ui.removeStored.click()
    assert "stored nothing" in ui.keepMessage.text
    card = tmp_path / "card.json"
    card.write_text("{}")
    recent.remember(str(card))
    consent.remember("a" * 64)
    cache = Path(slicer.app.cachePath)
    cache.mkdir(parents=True, exist_ok=True)
    ours, other = cache / f"{sample.NAME}.nrrd", cache / "MRHead.nrrd"
    for path in (ours, other):
        path.write_bytes(b"")
    ui.removeStored.click()  # under testing the answer is no
    assert ours.exists() and consent.trusted() and recent.models()
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    ui.removeStored.click()
    assert ui.keepMessage.text.startswith("Removed: 1 sample data") and storedThings() == []
    assert not ours.exists() and other.exists() and not consent.trusted() and not recent.models()
    assert card.exists()
