"""From a card to a network: the shared models compute what was measured; nothing hostile runs on the way."""

import io
import json
import os
import pickle
import re
import subprocess
import sys
import warnings
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from MedXAILib.errors import InputError
from MedXAILib.models import drafting, loading
from MedXAILib.models.card import read_card
from MedXAILib.models.networks import architecture
from MedXAILib.models.security import consent as trust
from MedXAILib.models.sources.zoo import ZOO, zoo_cards
from MedXAILib.models.weights.finding import SEARCH_PATH

CARDS = Path(__file__).resolve().parents[1] / "cards"


@pytest.fixture(autouse=True)
def settings(tmp_path_factory, monkeypatch):
    """No consent from outside, none left behind; weights are found only where a test puts them."""
    monkeypatch.setenv(trust.CONFIG, str(tmp_path_factory.mktemp("settings")))
    monkeypatch.delenv(SEARCH_PATH, raising=False)


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
    monkeypatch.setenv(SEARCH_PATH, os.pathsep.join(["/nowhere", str(data / "models")]))
    model = loading.load_model(CARDS / "brainchop_model5.json", device="cpu")
    assert (model.path, model.device, model.name) == ("brainchop_model5_gw_ae.pth", "cpu", "brainchop tissue (model5)")
    assert model.weights_sha256 == model.card.weights.sha256


def test_a_checkpoint_with_numpy_objects_opens_freely(data):
    """torch's safe mode refuses it."""
    found = loading.read_weights(data / "models/torchio_whole_images_epoch_5.pth")
    assert len(found.shapes) > 100


def test_torchscript_wants_consent(data):
    path = data / "models/elastix_R1D2_2D.pt"
    with pytest.raises(InputError, match=r"elastix_R1D2_2D.pt: this is a TorchScript network.*--trust"):
        loading.read_weights(path)
    assert isinstance(loading.read_weights(path, trust=True), torch.jit.ScriptModule)
    loading.read_weights(path)
    trust.forget()
    with pytest.raises(InputError, match="--trust"):
        loading.read_weights(path)


def test_a_checkpoint_of_old_torch_from_a_gpu_opens_freely(data):
    found = loading.read_weights(data / "models/lwnet_wnet_drive.pth")
    assert "model_state_dict.unet1.first.shortcut.0.weight" in found.shapes


def test_a_real_lightning_checkpoint_computes_what_its_network_did(data, tmp_path):
    """Its hyperparameters are an argparse.Namespace, its keys begin with ``model.model.``, and a loss lies beside them."""
    folder = data / "models_as_they_come/lightning_ckpt"
    (checkpoint,) = folder.glob("*.ckpt")
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [8, 16, 32], "strides": [2, 2]}
    card = {
        "name": "lightning",
        "task": "segmentation",
        "network": {"architecture": "UNet", "arguments": arguments | {"num_res_units": 1}},
        "weights": {"file": checkpoint.name},
        "spatial": {"mode": "whole"},
        "output": {"labels": [{"name": name} for name in "abc"]},
    }
    (tmp_path / "card.json").write_text(json.dumps(card))
    model = loading.load_model(tmp_path / "card.json", weights=checkpoint, device="cpu")
    with torch.no_grad():
        logits = model.network(torch.from_numpy(np.load(folder / "reference_input.npy")))
    np.testing.assert_allclose(logits, np.load(folder / "reference_logits.npy"), atol=1e-5)
    assert "below 'state_dict.model'" in model.messages[0] and "loss_fn" in model.messages[0]
    assert "names argparse.Namespace; nothing of it was looked up or run" in model.messages[1]


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
    card = small_card(tmp_path, network={"architecture": "file"})
    for what in ("TorchScript", "torch.export"):
        writers[what](tmp_path / "net.pth")
        model = loading.load_model(card, trust=True, device="cpu")
        torch.testing.assert_close(model.network(x), net(x), msg=what)
    writers["pickled network"](tmp_path / "net.pth")
    with pytest.raises(
        InputError, match=r"net.pth: these are the weights of a \S+Sequential and not what it does.*torch.export"
    ):
        loading.load_model(card, trust=True, device="cpu")


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
        ({"weights": {"file": "other.pth"}}, r"other.pth: .*the file lacks conv_layers.0.weight"),
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
    for name in zoo_cards():
        assert loading.load_model(name, device="cpu").card == read_card(ZOO / f"{name}.json")


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


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def programs(canary: Path) -> dict[str, bytes]:
    """A pickle for each way in which one can act."""
    command = text(f'echo > "{canary}"')
    system = text(os.system.__module__) + text("system") + b"\x93"
    partial = text("functools") + text("partial") + b"\x93"
    return {
        "global": b"\x80\x04c" + os.system.__module__.encode() + b"\nsystem\n" + command + b"\x85R.",
        "stack_global": b"\x80\x04" + system + command + b"\x85R.",
        "inst": b"\x80\x04(" + command + b"i" + os.system.__module__.encode() + b"\nsystem\n.",
        "obj": b"\x80\x04(" + system + command + b"o.",
        "newobj_ex": b"\x80\x04" + partial + system + command + b"\x86}\x92)R.",
        "setstate": b"\x80\x04" + partial + system + b"\x85R(" + system + command + b"\x85}Ntb)R.",
        "extension": b"\x80\x04\x82\x01" + command + b"\x85R.",
        "persistent": b"\x80\x04(" + text("storage") + system + text("0") + text("cpu") + b"K\x01tQ.",
        "encoding": b"\x80\x04"
        + text("_codecs")
        + text("encode")
        + b"\x93"
        + text("x")
        + text("zlib_codec")
        + b"\x86R.",
        "nested": pickle.dumps({"inner": b"\x80\x04" + system + command + b"\x85R."}),
        "thrown away": b"\x80\x04" + system + command + b"\x85R0N.",
    }


RUNNING = ("global", "stack_global", "inst", "newobj_ex", "setstate", "thrown away")
"""Those that Python's own unpickler runs."""


def make_malicious(folder: Path, canary: Path) -> None:
    """Files that make the canary when they are opened carelessly, with and without tensors in them."""
    bad = Touch(canary)
    for name, program in programs(canary).items():
        (folder / f"{name} bare.pth").write_bytes(program)
        torch.save({"weight": torch.ones(2)}, folder / "honest.tmp")
        rewritten(folder / "honest.tmp", folder / f"{name} zip.pth", **{"data.pkl": program})
        rewritten(folder / "honest.tmp", folder / f"{name} storage.pth", **{"data/0": program})
        torch.save({"weight": torch.ones(2)}, folder / "old.tmp", _use_new_zipfile_serialization=False)
        parts = (folder / "old.tmp").read_bytes()
        (folder / f"{name} old.pth").write_bytes(parts[: parts.index(b"\x80\x02}")] + program)
    content = {"weight": torch.ones(2), "x": bad}
    for protocol in range(6):
        (folder / f"bare{protocol}.pth").write_bytes(pickle.dumps(content, protocol))
        if protocol > 0:  # in which torch writes what it cannot read
            torch.save(content, folder / f"zip{protocol}.pth", pickle_protocol=protocol)
            old = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": False}
            torch.save(content, folder / f"old{protocol}.pth", **old)
    two_in_one(folder / "twice.pth", bad)
    for path in folder.glob("*.tmp*"):
        path.unlink()


def two_in_one(path: Path, bad: object) -> None:
    """An archive with two members of the same name, of which different programs read different ones."""
    out = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, out)
    with zipfile.ZipFile(out, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(archive.namelist()[0].partition("/")[0] + "/data.pkl", pickle.dumps(bad, 2))
    path.write_bytes(out.getvalue())


def make_malicious_programs(folder: Path, canary: Path) -> None:
    """The same as TorchScript and torch.export archives, of both layouts."""
    bad, net, source = Touch(canary), small_net(), folder / "export.tmp.pt2"
    torch.save(bad, folder / "nested.tmp")
    payload = (folder / "nested.tmp").read_bytes()
    torch.jit.script(net).save(folder / "script.tmp")
    rewritten(folder / "script.tmp", folder / "script.pt", **{"data.pkl": pickle.dumps(bad, 2)})
    batches = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    torch.export.save(torch.export.export(Mean(), (torch.rand(2, 1, 8, 8),), **batches), source)
    with zipfile.ZipFile(source) as archive:
        names = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    rewritten(source, folder / "sample.pt2", **{"sample_inputs/model.pt": payload})
    config = names["data/weights/model_weights_config.json"].replace(b'"use_pickle": false', b'"use_pickle": true')
    rewritten(source, folder / "weight.pt2", **{"model_weights_config.json": config, "weight_0": payload})
    rewritten(source, folder / "legacy weights.pt2", **{"data/weights/model.pt": payload})
    opaque = {
        "config": {"x": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}
    }
    constants = {
        "model_constants_config.json": json.dumps(opaque).encode(),
        "data/constants/opaque_obj_0": pickle.dumps(bad),
    }
    rewritten(source, folder / "opaque.pt2", **constants)
    graph, act = names["models/model.json"], f"__import__('os').system({bad.__reduce__()[1][0]!r})"
    formula = re.sub(rb'("expr_str": )"[^"]*"', lambda match: match[1] + json.dumps(act).encode(), graph)
    rewritten(source, folder / "formula.pt2", **{"models/model.json": formula})
    for name, target in [
        ("target", b"torch.os.system"),
        ("disguised", b"torchx.os.system"),
        ("caller", b"_operator.methodcaller"),
    ]:
        changed = re.sub(rb'"target": "torch.ops[^"]*"', b'"target": "' + target + b'"', graph)
        rewritten(source, folder / f"{name}.pt2", **{"models/model.json": changed})
    factory = json.dumps(
        [1, {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []}]
    )
    spec = re.sub(rb'"in_spec": "(\\.|[^"\\])*"', lambda match: b'"in_spec": ' + json.dumps(factory).encode(), graph)
    rewritten(source, folder / "factory.pt2", **{"models/model.json": spec})
    with zipfile.ZipFile(folder / "older.pt2", "w") as older:
        older.writestr("version", "8.14")
        for name in ("serialized_exported_program.json", "serialized_state_dict.pt", "serialized_constants.pt"):
            older.writestr(name, graph if name.endswith("json") else payload)
        older.writestr("serialized_example_inputs.pt", payload)
    for path in folder.glob("*.tmp*"):
        path.unlink()


WATCHED = """
import json, os, sys
from pathlib import Path
from MedXAILib.errors import InputError
from MedXAILib.models.loading import load_model, read_weights

honest, folders = sys.argv[1], sys.argv[2:]

def answer_of(path, load, trust):
    try:
        found = load(path, trust=trust)
        if hasattr(found, "shapes"):
            found.tensors({name: name for name in found.shapes})
        return "opened. " + getattr(found, "message", "")
    except InputError as error:
        return str(error)

for path in sorted(Path(honest).iterdir()):  # whatever is imported late is imported now
    print(path.name, answer_of(path, read_weights, True), file=sys.stderr)
events = []

def watch(event, arguments):
    made = event == "open" and (set(str(arguments[1])) & set("wxa+") or (arguments[2] or 0) & os.O_CREAT)
    expected = event == "open" and str(arguments[0]).startswith(os.environ["MEDXAI_CONFIG"])
    if (made and not expected) or event in ("exec", "import") or event.startswith(
        ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess", "socket", "http", "urllib", "ctypes.dlopen", "webbrowser", "pickle")
    ):
        events.append([event, str(arguments)[:200]])

sys.addaudithook(watch)
answers = {}
for path in sorted(p for folder in folders for p in Path(folder).iterdir()):
    for trust in (False, True):
        for load in (read_weights, load_model):
            answers.setdefault(path.name, []).append(answer_of(path, load, trust))
print(json.dumps([answers, events]))
"""


def watched(tmp_path: Path, folders: list[Path]) -> tuple[dict, list]:
    """What loading says of every file, and what suspicious events Python's audit saw meanwhile."""
    honest, net, x = tmp_path / "honest", small_net(), torch.rand(1, 1, 8, 8)
    honest.mkdir()
    torch.export.save(torch.export.export(net, (x,)), honest / "net.pt2")
    torch.jit.script(net).save(honest / "net.pt")
    torch.save({"net": net, "array": np.ones(2)}, honest / "net.pth")
    torch.save(net.state_dict(), honest / "old.pth", _use_new_zipfile_serialization=False)
    (honest / "net.pkl").write_bytes(pickle.dumps({"a": np.ones(2), "b": torch.ones(2)}))
    (honest / "older.pkl").write_bytes(pickle.dumps({"ä": np.ones(2), "b": 1}, 0))
    rewritten(honest / "net.pth", honest / "rewritten.pth")
    rewritten(honest / "net.pt2", honest / "rewritten.pt2")
    (honest / "none.pkl").write_bytes(pickle.dumps(Fraction(1)))
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
    assert run.stderr.count("opened") == 8, run.stderr
    assert list(empty.iterdir()) == []
    return tuple(json.loads(run.stdout.splitlines()[-1]))


NAMED = {
    "malicious1.zip": "builtins.eval",
    "malicious1_v4.pkl": "builtins.eval",
    "malicious4.pickle": "requests.api.get",
    "malicious9.pkl": "sys.exit",
    "modelscan_unsafe_zip_pytorch.pt": "posix.system",
    "pytorch_magic_bypass.pt": "__builtin__.eval",
    "site_main.pkl": "site.addpackage",
    "osx_support.pkl": "_osx_support._read_output",
    "torch_from_file.pkl": "torch.from_file",
}


def test_nothing_hostile_runs_with_or_without_trust(tmp_path, data):
    answers, events = watched(tmp_path, [data / "hostile/pickle", data.parent / "cases/files/pickles"])
    assert events == []
    assert len(answers) == 17 + 6
    for name, said in answers.items():
        assert name == "new_pytorch_model.bin" or not any(answer.startswith("opened") for answer in said)
        assert all(name in answer for answer in said if not answer.startswith("opened"))
        assert all(NAMED.get(name, "") in answer for answer in said)


def test_malicious_files_made_here_do_not_run_either(tmp_path):
    folder, canary = tmp_path / "bad", tmp_path / "canary"
    folder.mkdir()
    make_malicious(folder, canary)
    answers, events = watched(tmp_path, [folder])
    assert not canary.exists() and events == []
    assert len(answers) == 4 * len(programs(canary)) + 17
    for name, said in answers.items():
        read, model = said[::2], said[1::2]
        holds = name.endswith(" storage.pth") or re.match(r"(bare|zip|old)\d", name)
        assert all(answer.startswith("opened") == bool(holds) for answer in read), (name, read)
        assert all("without a model card" in answer or name in answer for answer in model)
        if re.match(r"(bare|zip|old)\d", name):
            assert all(f"names {os.system.__module__}.system; nothing of it was looked up" in answer for answer in read)
    assert "data.pkl' twice" in answers["twice.pth"][0]


def test_nor_do_malicious_programs_run_more_than_a_graph(tmp_path):
    folder, canary = tmp_path / "bad", tmp_path / "canary"
    folder.mkdir()
    make_malicious_programs(folder, canary)
    answers, events = watched(tmp_path, [folder])
    assert not canary.exists() and events == []
    assert len(answers) == 11
    for name, (first, _, trusted, _) in answers.items():
        assert name in first and "--trust" in first
        assert name in trusted and not trusted.startswith("opened")
        assert name == "script.pt" or "refused with or without --trust" in trusted, trusted


def test_the_malicious_files_made_here_are_sharp(tmp_path):
    """torch and pickle alone do run them: otherwise the tests above would prove nothing."""
    folder, canary = tmp_path / "bad", tmp_path / "canary"
    folder.mkdir()
    make_malicious(folder, canary)
    make_malicious_programs(folder, canary)
    names = [f"{name} {kind}.pth" for name in RUNNING for kind in ("bare", "zip", "old")]
    names += ["bare0.pth", "bare5.pth", "zip2.pth", "old2.pth"]
    for name in [*names, "sample.pt2", "weight.pt2", "formula.pt2", "legacy weights.pt2", "older.pt2"]:
        canary.unlink(missing_ok=True)
        with open(folder / name, "rb") as file:
            try:
                if "bare" in name:
                    pickle.load(file)
                elif name.endswith(".pth"):
                    torch.load(file, weights_only=False)
                else:
                    torch.export.load(file)
            except Exception:  # what follows the call may fail; it has run by then
                pass
        assert canary.exists(), name


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


@pytest.mark.parametrize("prefix", ["state_dict.model.", "module.", "", "model._orig_mod."])
def test_a_draft_sees_through_what_trainings_put_around_a_network(tmp_path, prefix):
    net, _ = nets()["UNet"]
    content: dict = (
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "epoch": 3} if "state_dict" in prefix else {}
    )
    state = {prefix.removeprefix("state_dict.") + name: tensor for name, tensor in net.state_dict().items()}
    state["loss_fn.weight"] = torch.ones(3)
    torch.save(content | {"state_dict": state} if "state_dict" in prefix else state, tmp_path / "mine.ckpt")
    draft, _ = drafting.draft_card(tmp_path / "mine.ckpt")
    assert draft["network"]["architecture"] == "UNet" and draft["network"]["arguments"]["channels"] == [4, 8, 16]


def test_a_draft_of_a_pickled_network_names_its_class(tmp_path):
    torch.save(
        torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4, 5)), tmp_path / "mine.pth"
    )
    draft, _ = drafting.draft_card(tmp_path / "mine.pth")
    assert "made of a torch.nn.modules.container.Sequential" in draft["network"]["architecture"]


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
