"""Cards in short, with the standard library alone; held against the full reading of the same cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from MedXAILib.errors import InputError
from MedXAILib.models.card import read_card
from MedXAILib.models.security.consent import needs_consent
from MedXAILib.models.source import summarise
from MedXAILib.models.sources.zoo import ZOO

CARDS = [*Path(__file__).parents[1].glob("cards/*.json"), *ZOO.glob("*.json")]


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_the_short_form_says_what_the_card_says(path):
    short, card = summarise(str(path)), read_card(path)
    assert (short.name, short.task, short.mode) == (card.name, card.task, card.spatial.mode)
    assert short.labels == tuple(label.name for label in card.output.labels)
    assert short.channels == tuple((c.name, c.modality) for c in card.input.channels)
    assert short.axis == (getattr(card.spatial, "axis", None) or "axial")
    hidden = card.output.labels[0].name if card.task == "segmentation" and card.output.exclusive else None
    assert short.background == hidden and short.weights_name == card.weights.file


@pytest.mark.parametrize("field", ["name", "task", "spatial", "output", "weights"])
def test_a_card_that_lacks_a_field_or_has_a_wrong_one_is_refused(field, tmp_path):
    card = json.loads((ZOO / "planted-lesion.json").read_text())
    for wrong in (None, "nonsense") if field != "name" else (None,):
        changed = {key: value for key, value in card.items() if key != field} | ({field: wrong} if wrong else {})
        (tmp_path / "card.json").write_text(json.dumps(changed))
        with pytest.raises(InputError, match="card.json"):
            summarise(str(tmp_path / "card.json"))


def test_weights_that_are_numbers_need_no_consent():
    assert needs_consent(ZOO / "planted-lesion.safetensors") is False
