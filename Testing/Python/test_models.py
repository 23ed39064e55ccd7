"""From a card to a network: the shared models compute what was measured; nothing hostile runs on the way."""

import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from MedXAILib.errors import InputError
from MedXAILib.models import drafting, loading, trust
from MedXAILib.models.card import read_card
from MedXAILib.models.networks import architecture

CARDS = Path(__file__).resolve().parents[1] / "cards"


@pytest.fixture(autouse=True)
def settings(tmp_path_factory, monkeypatch):
    """No consent from outside, none left behind; weights are found only where a test puts them."""
    monkeypatch.setenv(trust.CONFIG, str(tmp_path_factory.mktemp("settings")))
    monkeypatch.delenv(loading.SEARCH_PATH, raising=False)


def small_card(folder: Path, file: str = "net.pth", **fields) -> Path:
    """The card of a SliceCNN for 8 x 8 pixels and two classes."""
    card = {
        "name": "small",
        "task": "classification",
        "network": {"architecture": "SliceCNN", "arguments": {"classes": 2, "size": 8}},
        "weights": {"file": file},
        "spatial": {"mode": "slices"},
        "output": {"labels": [{"name": "this"}, {"name": "that"}]},
    }
    path = folder / "card.json"
    path.write_text(json.dumps(card | fields))
    return path


def small_net() -> torch.nn.Module:
    torch.manual_seed(0)
    return architecture("SliceCNN")(classes=2, size=8).eval()


# ---- the shared models


def test_the_tumour_network_gives_the_measured_probabilities(data):
    from PIL import Image

    model = loading.load_model(CARDS / "sania_brain_tumor.json", weights=data / "models", device="cpu")
    measured = json.loads((data / "models/reference_outputs.json").read_text())["sania_brain_tumor"]["probs"]
    folder = data / "images2d/brain_tumor_mri"
    pictures = [Image.open(folder / n).convert("L").resize((64, 64), Image.Resampling.BILINEAR) for n in measured]
    x = torch.from_numpy(np.stack([np.asarray(p, np.float32) / 255 for p in pictures])[:, None])
    with torch.no_grad():
        probabilities = model.network((x - 0.5) / 0.5).softmax(1).numpy()
    assert len(measured) == 45
    np.testing.assert_allclose(probabilities, list(measured.values()), atol=1e-4)
    classes = [label.name for label in model.card.output.labels]
    right = [classes[row.argmax()] == Path(n).parts[0] for n, row in zip(measured, probabilities, strict=True)]
    assert sum(right) == 43


@pytest.mark.parametrize("name", ["brainchop_model5", "brainchop_model18cls"])
def test_meshnet_is_the_chain_that_the_json_beside_its_weights_says(data, name):
    """The literal chain of the JSON, in float64, is the reference."""
    from safetensors.torch import load_file
    from torch.nn import functional

    model = loading.load_model(CARDS / f"{name}.json", weights=data / "models", device="cpu")
    weights = data / "models" / model.path
    source, tensors = json.loads(weights.with_suffix(".json").read_text()), load_file(weights)
    x = torch.rand(1, 1, 20, 18, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = x
    for n, layer in enumerate(source["layers"]):
        weight, bias = (tensors[f"model.{2 * n}.{kind}"].double() for kind in ("weight", "bias"))
        expected = functional.conv3d(expected, weight, bias, padding=layer["padding"], dilation=layer["dilation"])
        if n < len(source["layers"]) - 1:
            expected = functional.elu(expected) if source.get("elu") else functional.relu(expected)
    with torch.no_grad():
        torch.testing.assert_close(model.network.double()(x), expected, rtol=0, atol=1e-12)
    assert not any(getattr(module, "inplace", False) for module in model.network.modules())
    assert dict(model.network.named_modules()).keys() >= set(model.card.layers)


def test_shared_weights_are_found_on_the_search_path(data, monkeypatch):
    monkeypatch.setenv(loading.SEARCH_PATH, os.pathsep.join(["/nowhere", str(data / "models")]))
    model = loading.load_model(CARDS / "brainchop_model5.json", device="cpu")
    assert (model.path, model.device, model.name) == ("brainchop_model5_gw_ae.pth", "cpu", "brainchop tissue (model5)")
    assert model.weights_sha256 == model.card.weights.sha256


def test_a_checkpoint_with_numpy_objects_wants_consent_once(data, monkeypatch):
    path = data / "models/torchio_whole_images_epoch_5.pth"
    with pytest.raises(InputError, match=r"torchio_whole.*a pickled checkpoint with more .*any code.*--trust"):
        loading.read_weights(path)
    assert len(loading.read_weights(path, trust=True)) > 100
    assert loading.read_weights(path).keys() == loading.read_weights(path, trust=True).keys()
    trust.forget()
    with pytest.raises(InputError, match="--trust"):
        loading.read_weights(path)


def test_torchscript_wants_consent(data):
    path = data / "models/elastix_R1D2_2D.pt"
    with pytest.raises(InputError, match=r"elastix_R1D2_2D.pt: this is a TorchScript network.*--trust"):
        loading.read_weights(path)
    assert isinstance(loading.read_weights(path, trust=True), torch.jit.ScriptModule)


def test_a_checkpoint_of_old_torch_from_a_gpu_opens_freely(data):
    assert "unet1.first.shortcut.0.weight" in loading.read_weights(data / "models/lwnet_wnet_drive.pth")


def test_a_pointer_says_how_to_get_the_weights(data):
    pointer = data / "models/lfs_pointer_brain_tumor_model.pth"
    for card, weights in [(pointer, None), (CARDS / "sania_brain_tumor.json", pointer)]:
        with pytest.raises(InputError, match=r"lfs_pointer_.*git-LFS pointer.*git lfs pull"):
            loading.load_model(card, weights=weights)


# ---- containers made here


def test_every_container_gives_the_same_network(tmp_path):
    net, x = small_net(), torch.rand(3, 1, 8, 8)
    state = net.state_dict()
    writers = {
        "safetensors under any name": lambda path: save_file(state, path),
        "state dict": lambda path: torch.save(state, path),
        "format before torch 1.6": lambda path: torch.save(state, path, _use_new_zipfile_serialization=False),
        "checkpoint": lambda path: torch.save(
            {"epoch": 3, "model_state_dict": state, "optimizer": {"state": {}}}, path
        ),
        "own wrapper": lambda path: torch.save({"epoch": 3, "student": state}, path),
        "data parallel": lambda path: torch.save({f"module.{name}": t for name, t in state.items()}, path),
        "bare pickle of arrays": lambda path: path.write_bytes(pickle.dumps({n: t.numpy() for n, t in state.items()})),
        "bare pickle of tensors": lambda path: path.write_bytes(pickle.dumps(state)),
        "pickled network": lambda path: torch.save(net, path),
        "TorchScript": lambda path: torch.jit.script(net).save(path),
        "torch.export": lambda path: torch.export.save(torch.export.export(net, (x,)), path),
    }
    for what, write in writers.items():
        write(tmp_path / "net.pth")
        model = loading.load_model(small_card(tmp_path), trust=True, device="cpu")
        assert not model.network.training
        torch.testing.assert_close(model.network(x), net(x), msg=what)
    for what in ("TorchScript", "torch.export", "pickled network"):
        writers[what](tmp_path / "net.pth")
        card = small_card(tmp_path, network={"architecture": "file"})
        model = loading.load_model(card, trust=True, device="cpu")
        torch.testing.assert_close(model.network(x), net(x), msg=what)


def test_what_does_not_fit_is_said_in_one_sentence(tmp_path):
    torch.save(small_net().state_dict(), tmp_path / "net.pth")
    torch.save({"lr": torch.rand(2), "nested": [1]}, tmp_path / "other.pth")
    network = {"architecture": "SliceCNN", "arguments": {"classes": 2, "size": 8}}
    save_file(small_net().state_dict(), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-10])
    cases = [
        ({"network": network | {"arguments": {"classes": 2, "size": 16}}}, r"net.pth: .*wrong shape of fc_layers.1.weight"),
        ({"network": network | {"arguments": {"classes": 2, "size": 8, "in_channels": 3}}}, r"wrong shape of conv_layers.0"),
        ({"network": network | {"arguments": {"classes": 2}}}, r"'network.arguments'.*size"),
        ({"network": network | {"architecture": "SliceCNNN"}}, r"'network.architecture'.*near names are SliceCNN"),
        ({"network": {"architecture": "DenseNet12"}}, r"near names are .*DenseNet121"),
        ({"network": {"architecture": "file"}}, r"net.pth: these are weights only"),
        (
            {"network": {"architecture": "UNet", "arguments": {
                "spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}}},
            r"the file lacks model.* more; the network has no conv_layers.0.weight, .* more",
        ),
        ({"weights": {"file": "net.pth", "sha256": "0" * 64}}, r"net.pth: this is not the file .*weights.sha256"),
        ({"weights": {"file": "missing.pth"}}, r"missing.pth: .*--weights PATH"),
        ({"weights": {"file": "other.pth"}}, r"other.pth: this holds no state dict"),
        ({"weights": {"file": "cut.pth"}}, r"cut.pth: the weights cannot be opened"),
    ]  # fmt: skip
    for fields, said in cases:
        with pytest.raises(InputError, match=said) as error:
            loading.load_model(small_card(tmp_path, **fields), device="cpu")
        assert "\n" not in str(error.value)


def test_what_is_no_card_says_what_to_give(tmp_path):
    torch.save(small_net().state_dict(), tmp_path / "net.pth")
    for given, said in [
        (tmp_path / "net.pth", r"net.pth: these are weights without a model card.*'medxai card new .*net.pth'"),
        (tmp_path / "no.json", r"no.json: there is no such model card"),
        (tmp_path, "this is a folder"),
    ]:
        with pytest.raises(InputError, match=said):
            loading.load_model(given)


def test_given_weights_come_before_those_beside_the_card(tmp_path):
    other = architecture("SliceCNN")(classes=2, size=8)
    (tmp_path / "folder").mkdir()
    torch.save(small_net().state_dict(), tmp_path / "net.pth")
    torch.save(other.state_dict(), tmp_path / "folder/net.pth")
    card = small_card(tmp_path)
    for given, expected in [(None, small_net()), ("folder", other), ("folder/net.pth", other)]:
        model = loading.load_model(card, weights=given and tmp_path / given, device="cpu")
        torch.testing.assert_close(model.network.state_dict(), expected.state_dict())
    with pytest.raises(InputError, match="nowhere"):
        loading.load_model(card, weights=tmp_path / "nowhere")


def test_devices():
    assert loading.choose_device("cpu") == "cpu"
    assert loading.choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match="choose auto, cpu or cuda"):
        loading.choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no GPU"):
            loading.choose_device("cuda")


def test_the_models_that_come_along_load_by_name():
    for name in loading.zoo_cards():
        assert loading.load_model(name, device="cpu").card == read_card(loading.ZOO / f"{name}.json")


def test_garbage_is_refused_and_never_crashes(tmp_path):
    rng = np.random.default_rng(0)
    torch.save(small_net().state_dict(), tmp_path / "good.pth")
    torch.save(small_net().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(small_net().state_dict(), tmp_path / "good.safetensors")
    goods = [path.read_bytes() for path in tmp_path.iterdir()]
    path = tmp_path / "garbage.pth"
    opened = 0
    for n in range(150):
        content = bytearray(goods[n % 3] if n % 5 else rng.bytes(rng.integers(0, 400)))
        for _ in range(rng.integers(1, 8) if content else 0):  # mostly in the headers at both ends
            at = int(min(rng.exponential(150), len(content) - 1))
            content[at if rng.random() < 0.5 else -1 - at] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content) + 1)] if n % 4 == 0 else content)
        try:
            loading.read_weights(path, trust=True)
            opened += 1
        except InputError as error:
            assert "garbage.pth" in str(error)
    assert opened < 120


# ---- hostile files


class Touch:
    """Pickles as a shell command that makes a file."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f'echo > "{self.canary}"',)


class Mean(torch.nn.Module):
    """Exports with a free batch size, and so with formulas in its graph."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return (self.scale * x).mean((2, 3))


def rewritten(source: Path, target: Path, **members: bytes) -> Path:
    """A copy of a zip archive in which the members whose names end so have another content."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        names = old.namelist()
        for name in names:
            changed = next((content for end, content in members.items() if name.endswith(end)), None)
            new.writestr(name, old.read(name) if changed is None else changed)
        for end, content in members.items():
            if not any(name.endswith(end) for name in names):
                new.writestr(f"{names[0].split('/')[0]}/{end}", content)
    return target


def make_malicious(folder: Path, canary: Path) -> dict[str, str]:
    """Files that make the canary when they are opened carelessly, and what their refusal must name."""
    bad, system = Touch(canary), f"{os.system.__module__}.system"
    named = {}
    for protocol in range(6):
        (folder / f"bare{protocol}.pth").write_bytes(pickle.dumps({"weight": 1, "x": bad}, protocol))
        torch.save({"weight": torch.ones(2), "x": bad}, folder / f"zip{protocol}.pth", pickle_protocol=protocol)
        old = folder / f"old{protocol}.pth"
        torch.save({"x": bad}, old, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
        named |= {f"{kind}{protocol}.pth": system for kind in ("bare", "zip", "old")}
    net, source = small_net(), folder / "export.tmp.pt2"
    torch.save(bad, folder / "nested.tmp")
    payload = (folder / "nested.tmp").read_bytes()
    torch.jit.script(net).save(folder / "script.tmp")
    rewritten(folder / "script.tmp", folder / "script.pt", **{"data.pkl": pickle.dumps(bad, 2)})
    rewritten(folder / "script.tmp", folder / "script_extra.pt", **{"extra/anything": pickle.dumps(bad)})
    batches = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    torch.export.save(torch.export.export(Mean(), (torch.rand(2, 1, 8, 8),), **batches), source)
    with zipfile.ZipFile(source) as archive:
        names = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    rewritten(source, folder / "sample.pt2", **{"sample_inputs/model.pt": payload})
    config = names["data/weights/model_weights_config.json"].replace(b'"use_pickle": false', b'"use_pickle": true')
    rewritten(source, folder / "weight.pt2", **{"model_weights_config.json": config, "weight_0": payload})
    formula = json.dumps(f"__import__('os').system({bad.__reduce__()[1][0]!r})").encode()
    graph = re.sub(rb'("expr_str": )"[^"]*"', lambda match: match[1] + formula, names["models/model.json"])
    rewritten(source, folder / "formula.pt2", **{"models/model.json": graph})
    named |= dict.fromkeys(("script.pt", "script_extra.pt", "sample.pt2", "weight.pt2"), system)
    named["formula.pt2"] = "the formula __import__"
    for path in folder.glob("*.tmp*"):
        path.unlink()
    return named


WATCHED = """
import json, os, sys
from pathlib import Path
from MedXAILib.errors import InputError
from MedXAILib.models.loading import load_model, read_weights

honest, folders = sys.argv[1], sys.argv[2:]
read_weights(honest, trust=True)  # whatever torch imports late is imported now
events = []

def watch(event, arguments):
    made = event == "open" and (set(str(arguments[1])) & set("wxa+") or (arguments[2] or 0) & os.O_CREAT)
    expected = event == "open" and str(arguments[0]).startswith(os.environ["MEDXAI_CONFIG"])
    code = event == "exec" and arguments[0].co_filename == "<string>"
    if code or (made and not expected) or event.startswith(
        ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess", "socket", "http", "urllib", "ctypes.dlopen", "webbrowser")
    ):
        events.append([event, str(arguments)[:200]])

sys.addaudithook(watch)
answers = {}
for path in sorted(p for folder in folders for p in Path(folder).iterdir()):
    for trust in (False, True):
        for load in (read_weights, load_model):
            try:
                load(path, trust=trust)
                answer = "opened"
            except InputError as error:
                answer = str(error)
            answers.setdefault(path.name, []).append(answer)
print(json.dumps([answers, events]))
"""


def watched(tmp_path: Path, folders: list[Path]) -> tuple[dict, list]:
    """What loading says of every file, and what suspicious events Python's audit saw meanwhile."""
    honest = tmp_path / "honest.pt2"
    torch.export.save(torch.export.export(small_net(), (torch.rand(1, 1, 8, 8),)), honest)
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = os.environ | {
        "MEDXAI_CONFIG": str(tmp_path / "settings"),
        "PYTHONPATH": str(CARDS.parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-W", "ignore", "-c", WATCHED, str(honest), *map(str, folders)]
    run = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert list(empty.iterdir()) == []
    return tuple(json.loads(run.stdout.splitlines()[-1]))


def test_nothing_hostile_runs_with_or_without_trust(tmp_path, data):
    answers, events = watched(tmp_path, [data / "hostile/pickle"])
    assert events == []
    assert len(answers) == 17
    for name, said in answers.items():
        if name == "new_pytorch_model.bin":  # an honest tensor, but no state dict
            assert all("holds no state dict" in answer or "without a model card" in answer for answer in said)
            continue
        for answer in said:
            assert name in answer and answer != "opened"
            for dangerous in trust.inspect(data / "hostile/pickle" / name).dangerous:
                assert dangerous in answer


def test_malicious_files_made_here_do_not_run_either(tmp_path):
    folder, canary = tmp_path / "bad", tmp_path / "canary"
    folder.mkdir()
    named = make_malicious(folder, canary)
    answers, events = watched(tmp_path, [folder])
    assert not canary.exists() and events == []
    assert answers.keys() == named.keys()
    for name, dangerous in named.items():
        assert all(name in answer and dangerous in answer for answer in answers[name]), name


def test_the_malicious_files_made_here_are_sharp(tmp_path):
    """torch and pickle alone do run them: otherwise the test above would prove nothing."""
    folder, canary = tmp_path / "bad", tmp_path / "canary"
    folder.mkdir()
    make_malicious(folder, canary)
    for name in ("bare0.pth", "bare5.pth", "zip2.pth", "old2.pth", "sample.pt2", "weight.pt2", "formula.pt2"):
        canary.unlink(missing_ok=True)
        with open(folder / name, "rb") as file:
            try:
                if name.startswith("bare"):
                    pickle.load(file)
                elif name.endswith(".pth"):
                    torch.load(file, weights_only=False)
                else:
                    torch.export.load(file)
            except Exception:  # what follows the call may fail; it has run by then
                pass
        assert canary.exists(), name


def test_a_file_that_deceives_the_inspection_is_stopped_while_it_opens(tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    torch.save({"weight": torch.ones(2), "x": Touch(canary)}, tmp_path / "net.pth")
    monkeypatch.setattr(trust.Findings, "dangerous", [])
    with pytest.raises(InputError, match=r"net.pth: opening this would run \w+.system"):
        loading.read_weights(tmp_path / "net.pth", trust=True)
    assert not canary.exists()


# ---- drafting a card


def nets():
    from monai.networks import nets

    shape = {"in_channels": 1, "out_channels": 3}
    return {
        "DenseNet121": (nets.DenseNet121(spatial_dims=2, **shape), (1, 1, 64, 64)),
        "resnet18": (nets.resnet18(spatial_dims=3, n_input_channels=2, num_classes=3), (1, 2, 32, 32, 32)),
        "BasicUNet": (nets.BasicUNet(spatial_dims=3, features=(4, 4, 8, 8, 16, 4), **shape), (1, 1, 32, 32, 32)),
        "SegResNet": (nets.SegResNet(spatial_dims=3, init_filters=8, **shape), (1, 1, 16, 16, 16)),
        "UNet": (
            nets.UNet(spatial_dims=3, channels=(4, 8, 16), strides=(2, 2), num_res_units=2, **shape),
            (1, 1, 16, 16, 16),
        ),
        "MeshNet": (
            architecture("MeshNet")(channels=4, classes=3, activation="elu", dilations=[1, 2, 1]),
            (1, 1, 12, 12, 12),
        ),
    }


FILLED = {
    "network.arguments.strides": [2, 2],
    "network.arguments.activation": "elu",
    "network.arguments.dilations": [1, 2, 1],
    "spatial.mode": "whole",
    "spatial.axis": "axial",
    "input.channels.0.name": "t1",
    "input.channels.1.name": "t2",
    "input.color": "grey",
    "input.orientation": "RAS",
    "input.axis_order": "ijk",
    "input.spacing": [1, 1, 1],
    "input.size": [64, 64],
    "input.resampler": "linear",
    "input.intensity.rule": "zscore",
    "output.activation": "softmax",
}


def put(card: dict, field: str, value) -> None:
    *parents, last = (int(part) if part.isdigit() else part for part in field.split("."))
    for part in parents:
        card = card[part]
    card[last] = value


@pytest.mark.parametrize("name", ["DenseNet121", "resnet18", "BasicUNet", "SegResNet", "UNet", "MeshNet"])
def test_a_draft_once_filled_in_loads_the_same_network(tmp_path, name):
    torch.manual_seed(0)
    net, shape = nets()[name]
    save_file(net.eval().state_dict(), tmp_path / "mine.safetensors")
    draft, left = drafting.draft_card(tmp_path / "mine.safetensors")
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(draft))
    with pytest.raises(InputError, match="still to be filled in") as error:
        read_card(path)
    fields = [line.split(": ")[0] for line in left]
    assert f"'{fields[0]}'" in str(error.value)
    for field in fields:
        put(draft, field, FILLED.get(field, field))
    path.write_text(json.dumps(draft))
    model = loading.load_model(path, device="cpu")
    assert draft["network"]["architecture"] == name
    assert len(model.card.output.labels) == 3
    x = torch.rand(shape)
    with torch.no_grad():
        torch.testing.assert_close(model.network(x), net(x))


def test_a_draft_of_an_unknown_network_says_what_the_tensors_tell(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4, 5))
    torch.save(net.state_dict(), tmp_path / "mine.pth")
    draft, left = drafting.draft_card(tmp_path / "mine.pth")
    assert draft["weights"] == {"file": "mine.pth", "sha256": loading.sha256(tmp_path / "mine.pth")}
    assert (draft["task"], draft["spatial"]["mode"]) == ("classification", "slices")
    assert (len(draft["input"]["channels"]), len(draft["output"]["labels"])) == (2, 5)
    assert any(line.startswith("network.architecture: ") for line in left)


def test_a_draft_of_a_program_takes_the_file_as_the_network(tmp_path):
    torch.jit.script(small_net()).save(tmp_path / "mine.pt")
    with pytest.raises(InputError, match="--trust"):
        drafting.draft_card(tmp_path / "mine.pt")
    assert drafting.draft_card(tmp_path / "mine.pt", trust=True)[0]["network"]["architecture"] == "file"
