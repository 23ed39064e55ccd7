"""Kinds of models: who recognises what is given, what is refused, and a kind that another package adds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_nets import Blob

from MedXAILib import plugins
from MedXAILib.cli import run
from MedXAILib.errors import CardError, ConsentError, InputError, WeightsError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume
from MedXAILib.models.card import ModelCard
from MedXAILib.models.catalogue import lines
from MedXAILib.models.loading import Model, choose_device, find_card, load_model
from MedXAILib.models.source import source_of, stamp, summarise
from MedXAILib.models.sources.zoo import ZOO
from MedXAILib.models.summary import ModelSummary

CARD = {
    "name": "mine",
    "task": "classification",
    "network": {"architecture": "Blob"},
    "weights": {"file": "slope.txt"},
    "spatial": {"mode": "whole"},
    "output": {"labels": [{"name": "no"}, {"name": "yes"}]},
}


class Mine:
    """A folder with a number in it, by which the head's weights are multiplied."""

    name = "mine"

    def recognises(self, given):
        return (Path(given) / "slope.txt").is_file()

    def describe(self, given):
        file = Path(given) / "slope.txt"
        return ModelSummary(
            name="mine",
            description="A folder.",
            task="classification",
            mode="whole",
            labels=("no", "yes"),
            weights=file,
            weights_name=file.name,
        )

    def files(self, given, weights):
        return [Path(given) / "slope.txt"]

    def load(self, given, *, weights, weights_key, trust, device):
        network = Blob(3, 4, 4).eval()
        network.head.weight.data *= float((Path(given) / "slope.txt").read_text())
        return Model(ModelCard.model_validate(CARD), network, choose_device(device), "0" * 64, "slope.txt")


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """A model of the added kind."""
    monkeypatch.setattr(plugins, "_loaded", lambda kind: (("theirs", Mine()),) if kind == "models" else ())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "slope.txt").write_text("3")
    return tmp_path / "model"


def test_a_kind_that_another_package_adds_is_described_loaded_and_explained(mine, tmp_path, capsys):
    assert source_of(mine).name == "mine" and summarise(mine).weights == mine / "slope.txt"
    torch.testing.assert_close(load_model(mine, device="cpu").network.head.weight.data, torch.tensor([[-3.0], [3.0]]))
    assert "\n".join(lines(str(mine))).startswith("mine\n    A folder.")
    write_volume(Volume(np.random.default_rng(0).random((12, 12, 12), np.float32), np.eye(4)), tmp_path / "x.nii.gz")
    command = ["explain", str(tmp_path / "x.nii.gz"), "--model", str(mine), "-o", str(tmp_path / "out")]
    assert run(command) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model"]["name"] == "mine"


def test_a_kind_without_cards_says_so_where_one_is_wanted(mine):
    with pytest.raises(CardError, match="a model of the kind mine, which has no card"):
        find_card(mine)


def test_a_model_is_another_one_when_a_file_of_it_changes(mine, tmp_path):
    for model, file in (
        (mine, mine / "slope.txt"),
        (tmp_path / "lesion.json", tmp_path / "planted-lesion.safetensors"),
    ):
        shutil.copy(ZOO / "planted-lesion.json", tmp_path / "lesion.json")
        shutil.copy(ZOO / "planted-lesion.safetensors", tmp_path)
        before = stamp(model, None)
        assert stamp(model, None) == before
        file.write_bytes(file.read_bytes() + b"0")
        assert stamp(model, None) != before


def test_a_model_of_the_zoo_is_known_by_any_spelling_of_its_name_unless_that_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source_of("Planted_Lesion").name == "zoo" and find_card("Planted_Lesion")[0].name == "planted-lesion"
    Path("Planted_Lesion").mkdir()
    with pytest.raises(CardError, match="this is a folder"):
        source_of("Planted_Lesion")
    assert source_of("planted-lesion").name == "zoo", "the exact name is always the zoo's"
    assert source_of(ZOO / "planted-lesion.json").name == "card"


@pytest.mark.parametrize(
    ("file", "content", "kind", "told"),
    [
        ("nothing.json", None, CardError, "there is no such model card; give the path of one"),
        ("net.onnx", b"x", InputError, "ONNX model, which holds no PyTorch network: export"),
        ("net.pth", b"x", WeightsError, "no weights file of a known kind"),
        ("net.pth", (ZOO / "planted-lesion.safetensors").read_bytes(), WeightsError, "medxai card new"),
    ],
)
def test_what_nobody_recognises_is_named(file, content, kind, told, tmp_path):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(kind, match=told) as caught:
        load_model(tmp_path / file)
    assert caught.value.about == str(tmp_path / file)


def test_a_program_without_consent_is_told_by_the_class_of_the_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDXAI_CONFIG", str(tmp_path / "settings"))
    torch.jit.trace(Blob(3, 4, 4).eval(), torch.rand(1, 1, 8, 8, 8)).save(str(tmp_path / "net.pt"))
    card = CARD | {"network": {"architecture": "file"}, "weights": {"file": "net.pt"}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConsentError):
        load_model(tmp_path / "card.json")
    assert load_model(tmp_path / "card.json", trust=True, device="cpu").name == "mine"
