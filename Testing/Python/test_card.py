"""Model cards: what is wrong with one is said by field. Nothing here needs torch."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from MedXAILib.errors import InputError
from MedXAILib.models.card import ModelCard, read_card
from MedXAILib.models.source import summarise
from MedXAILib.models.sources.zoo import ZOO

CARDS = Path(__file__).resolve().parents[1] / "cards"

SLICES = {
    "name": "two kinds",
    "task": "classification",
    "network": {"architecture": "SliceCNN", "arguments": {"classes": 2, "size": 64}},
    "weights": {"file": "two.safetensors", "sha256": "0" * 64},
    "spatial": {"mode": "slices", "axis": "axial"},
    "input": {"size": [64, 64], "intensity": {"rule": "range", "lower": 0, "upper": 255}},
    "output": {"labels": [{"name": "this"}, {"name": "that"}], "activation": "softmax"},
}
WHOLE = {**SLICES, "spatial": {"mode": "whole"}, "input": {"spacing": [1, 1, 1], "size": [64, 64, 64]}}


def changed(card: dict, field: str, value) -> dict:
    """A copy of a card with one field (dotted) set; ``...`` removes it."""
    card = copy.deepcopy(card)
    *parents, last = field.split(".")
    place = card
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    last = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return card


@pytest.mark.parametrize(
    ("card", "field", "value", "said"),
    [
        (SLICES, "task", ..., "'task'"),
        (SLICES, "network.architecture", ..., "'network.architecture'"),
        (SLICES, "colour", "grey", "'colour' is unknown"),
        (SLICES, "input.colour", "grey", "'input.colour' is unknown"),
        (SLICES, "task", "regression", "'task'"),
        (SLICES, "input.size", "64", "'input.size"),
        (SLICES, "input.size", [64, 64, 64], "input.size needs 2 numbers"),
        (WHOLE, "input.size", [64, 64], "input.size needs 3 numbers"),
        (SLICES, "input.spacing", [1, 1, 1], "input.spacing"),
        (WHOLE, "input.resampler", "pil_bilinear", "input.resampler pil_bilinear"),
        (WHOLE, "spatial", {"mode": "windows", "size": [32, 32, 32], "overlap": 1}, "'spatial.windows.overlap'"),
        (SLICES, "spatial", {"mode": "pieces"}, "'spatial'"),
        (SLICES, "input.orientation", "XYZ", "'input.orientation'"),
        (SLICES, "input.intensity.lower", 300, "lower < upper"),
        (SLICES, "input.intensity.std", 0, "'input.intensity.std'"),
        (SLICES, "input.channels", [], "'input.channels'"),
        (SLICES, "output.labels", [], "'output.labels'"),
        (SLICES, "output.labels.1.name", "this", "name twice"),
        (SLICES, "output.kind", "odds", "'output.kind'"),
        (SLICES, "output.unit", "years", "unit belongs to the kind value"),
        (
            {**SLICES, "task": "segmentation"},
            "output.kind",
            "value",
            "output.kind value is for the task classification",
        ),
        (SLICES, "output.which", [1], "'output.which"),
        (SLICES, "schema_version", 0, "'schema_version'"),
        (SLICES, "schema_version", "one", "'schema_version'"),
        (
            SLICES,
            "schema_version",
            2,
            "written for a newer MedXAI (schema_version 2; this one reads up to 1); update MedXAI",
        ),
        (SLICES, "weights.sha256", "abc", "'weights.sha256'"),
        (SLICES, "weights.file", "../two.safetensors", "'weights.file'"),
        (
            SLICES,
            "output.labels.1.name",
            "FILL IN: the name of class 1",
            "'output.labels.1.name' is still to be filled in",
        ),
    ],
)
def test_a_fault_is_named(tmp_path, card, field, value, said):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(changed(card, field, value)))
    with pytest.raises(InputError) as error:
        read_card(path)
    message = str(error.value)
    assert str(path) in message and said in message and "\n" not in message


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x93NUMPY", '{"name": 1}', "[" * 100_000])
def test_what_is_no_card_is_refused(tmp_path, content):
    path = tmp_path / "card.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="card.json"):
        read_card(path)


def test_a_missing_card_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json.*no such model card"):
        read_card(tmp_path / "nowhere.json")


def test_a_card_without_a_version_means_logits_of_one_tensor_and_is_written_with_the_version(tmp_path):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(SLICES))
    card = read_card(path)
    assert (card.output.kind, card.output.which, card.schema_version) == ("logits", None, 1)
    path.write_text(json.dumps(card.written()))
    assert read_card(path) == card and json.loads(path.read_text())["schema_version"] == 1


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.json")), ids=lambda path: path.stem)
def test_the_zoos_cards_have_a_version(path):
    assert json.loads(path.read_text())["schema_version"] == 1


def test_the_list_of_cards_refuses_a_newer_one_too(tmp_path):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(SLICES | {"schema_version": 7}))
    with pytest.raises(InputError, match="newer MedXAI"):
        summarise(str(path))


def test_an_unknown_class_lists_the_classes():
    card = ModelCard.model_validate(SLICES)
    assert card.index("that") == 1
    with pytest.raises(InputError, match="no class 'other': choose one of this, that"):
        card.index("other")


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.json")), ids=lambda path: path.stem)
def test_the_shared_cards_are_consistent(path):
    card = read_card(path)
    assert len(card.output.labels) == card.network.arguments["classes"]
    assert card.weights.sha256 and card.licence and card.provenance and card.weaknesses
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize("name", ["brainchop_model5", "brainchop_model18cls"])
def test_the_brainchop_cards_say_what_their_json_says(data, name):
    card = read_card(CARDS / f"{name}.json")
    source = json.loads((data / "models" / card.weights.file).with_suffix(".json").read_text())
    arguments, layers = card.network.arguments, source["layers"]
    assert arguments["activation"] == ("elu" if source.get("elu") else "relu")
    assert arguments["dilations"] == [layer["dilation"] for layer in layers[:-1]]
    assert [layer["padding"] for layer in layers] == [*arguments["dilations"], 0]
    assert {layer["out_channels"] for layer in layers[:-1]} == {arguments["channels"]}
    assert (layers[-1]["out_channels"], layers[-1]["kernel_size"]) == (arguments["classes"], 1)


def test_cards_and_weights_are_examined_without_torch():
    code = (
        "import sys; import MedXAILib.models.card, MedXAILib.models.security.consent, MedXAILib.models.loading, "
        "MedXAILib.models.drafting; print(sorted({'torch', 'monai'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
