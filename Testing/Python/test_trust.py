"""What a weights file is and what it would run, told from its bytes alone. Nothing here needs torch."""

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MedXAILib.errors import InputError
from MedXAILib.models import trust

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
MALICIOUS = {
    "malicious0.pkl": ["__builtin__.eval", "__builtin__.compile", "__builtin__.globals"],
    "malicious1.zip": ["builtins.eval"],
    "malicious1_v0.pkl": ["__builtin__.eval"],
    "malicious1_v4.pkl": ["builtins.eval"],
    "malicious1_wrong_ext.zip": ["builtins.eval"],
    "malicious3.pkl": ["httplib.HTTPSConnection"],
    "malicious4.pickle": ["requests.api.get"],
    "malicious9.pkl": ["sys.exit"],
    "broken_model.pkl": ["builtins.exec"],
    "modelscan_unsafe_zip_pytorch.pt": ["posix.system"],
    "pytorch_magic_bypass.pt": ["__builtin__.eval", "posix.system"],
}
OTHERS = {
    "bad_pytorch.pt": trust.UNKNOWN,
    "benign0_v3.pkl": trust.PICKLE,
    "int_array.npy": trust.UNKNOWN,
    "new_pytorch_model.bin": trust.CHECKPOINT,
    "not_a_pickle.bin": trust.UNKNOWN,
    "object_array.npy": trust.UNKNOWN,
}


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def look(tmp_path, content: bytes) -> trust.Findings:
    path = tmp_path / "some.weights"
    path.write_bytes(content)
    return trust.inspect(path)


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), content)
    return out.getvalue()


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


# ---- the shared samples


@pytest.mark.parametrize("name", MALICIOUS)
def test_the_dangerous_globals_of_the_samples_are_named(data, name):
    found = trust.inspect(data / "hostile/pickle" / name)
    assert set(MALICIOUS[name]) <= set(found.dangerous)
    with pytest.raises(InputError) as error:
        found.refuse()
    assert all(part in str(error.value) for part in [f"{name}: opening this would run", *found.dangerous])


@pytest.mark.parametrize("name", OTHERS)
def test_the_harmless_samples_are_not_accused(data, name):
    found = trust.inspect(data / "hostile/pickle" / name)
    assert (found.kind, found.dangerous) == (OTHERS[name], [])


def test_every_sample_is_known_here(data):
    assert {path.name for path in (data / "hostile/pickle").iterdir()} == {*MALICIOUS, *OTHERS}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("brainchop_model5_gw_ae.pth", trust.SAFETENSORS),
        ("sania_brain_tumor_model.pth", trust.CHECKPOINT),
        ("lwnet_wnet_drive.pth", trust.CHECKPOINT),
        ("torchio_whole_images_epoch_5.pth", trust.CHECKPOINT),
        ("elastix_R1D2_2D.pt", trust.SCRIPT),
        ("elastix_M730_1_Layers.pt", trust.SCRIPT),
        ("lfs_pointer_brain_tumor_model.pth", trust.POINTER),
    ],
)
def test_the_kind_is_told_by_content(data, name, kind):
    found = trust.inspect(data / "models" / name)
    assert (found.kind, found.dangerous, found.fault) == (kind, [], "")


# ---- pickles made here


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_is_found_in_every_protocol_and_container(tmp_path, protocol):
    bad = pickle.dumps({"weights": [1, 2], "x": Calls(os.system, "true")}, protocol)
    array = io.BytesIO()
    np.save(array, np.array([Calls(os.system, "true")], object), allow_pickle=True)
    name = f"{os.system.__module__}.system"
    for content in (
        bad,
        pickle.dumps([bad], protocol),
        pickle.dumps({"state": pickle.dumps([bad], protocol)}, protocol),
        archive(archive__data_pkl=bad),
        archive(archive__data_pkl=pickle.dumps({}), archive__data__0=bad),
        archive(m__archive_format=b"pt2", m__data__weights__weight_0=archive(archive__data_pkl=bad)),
        archive(text_txt=bad),
        bad + archive(x=b"y"),
        array.getvalue(),
    ):
        assert look(tmp_path, content).dangerous == [name]


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (b"(S'true'\nios\nsystem\n.", "os.system"),  # INST
        (b"(cos\nsystem\nS'true'\no.", "os.system"),  # OBJ
        (b"\x80\x04" + text("os") + b"\x94" + text("system") + b"\x94" + b"00h\x00h\x01\x93.", "os.system"),  # memo
        (b"\x80\x04" + text("os") + b"q\x07" + text("system") + b"2000h\x07" + text("system") + b"\x93.", "os.system"),
        (b"\x80\x04" + text("torch") + text("serialization.os.system") + b"\x93.", "torch.serialization.os.system"),
        (b"\x80\x04" + text("pathlib") + text("os") + b"\x93.", "pathlib.os"),
        (b"\x80\x04" + text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93.", "__globals__"),
        (b"\x80\x04]" + text("system") + b"\x93.", "a name that the file computes"),
        (b"\x80\x02\x82\x01.", "a name that the file computes"),  # a copyreg extension
        (b"\x80\x02ctorch.hub\nload\n.", "torch.hub.load"),
        (b"\x80\x02cnumpy.testing._private.utils\nrunstring\n.", "runstring"),
        (b"\x80\x02coperator\nattrgetter\n.", "operator.attrgetter"),
        (b"cos\nsystem\n(S'true'\ntR\xff", "os.system"),  # broken after the call
    ],
)
def test_names_are_followed_through_the_machine(tmp_path, program, name):
    found = look(tmp_path, program)
    assert any(dangerous.endswith(name) for dangerous in found.dangerous)
    with pytest.raises(InputError):
        found.refuse()


HONEST = [
    OrderedDict,
    Fraction,
    PurePosixPath,
    np.dtype,
    np.float32,
    complex,
    ValueError,
    struct.Struct,
    json.JSONDecoder,
]


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.sampled_from(HONEST),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(PROTOCOLS),
)
def test_the_names_are_those_that_the_real_machine_looks_up(value, protocol):
    """Python's own unpickler, made to record, is the reference."""
    seen = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            seen.add(f"{module}.{name}")
            return super().find_class(module, name)

    content = pickle.dumps(value, protocol)
    Recorder(io.BytesIO(content)).load()
    program = trust.read_program(io.BytesIO(content))
    assert program.fault == ""
    # below protocol 3 names are written as in Python 2, and the recorder sees them as written too
    assert {trust.full_name(name) for name in program.names} == seen
    assert not any(trust.is_dangerous(*name) for name in program.names)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_bytes_of_any_kind_are_told_or_refused_and_never_crash(tmp_path, data):
    seeds = [
        b"",
        pickle.dumps({"a": np.arange(3), "b": OrderedDict(c=1)}),
        archive(archive__data_pkl=pickle.dumps({"a": 1}), archive__data__0=bytes(64)),
        archive(m__archive_format=b"pt2", m__models__model_json=b"{}"),
        b"\x93NUMPY\x01\x00\x10\x00",
        (16).to_bytes(8, "little") + b"{" + bytes(20),
    ]
    content = bytearray(data.draw(st.sampled_from(seeds)) + data.draw(st.binary(max_size=60)))
    for _ in range(data.draw(st.integers(0, 6)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content)[: data.draw(st.integers(0, len(content)))]
    found = look(tmp_path, content)
    assert isinstance(found, trust.Findings)
    try:
        found.refuse()
    except InputError as error:
        assert "some.weights" in str(error)


def test_a_huge_length_or_an_unpacking_bomb_is_no_trap(tmp_path):
    assert look(tmp_path, b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b".").fault
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(1 << 25))
    assert "unpacks to 32 MB" in look(tmp_path, out.getvalue()).fault


def test_an_archive_hidden_from_python_is_left_out():
    """zipfile finds an archive's list from the end of the file, torch by the offset that is written there."""
    hidden, shown = archive(archive__data_pkl=b"hidden"), archive(archive__data_pkl=b"shown.")
    repacked = trust.repacked(hidden + shown)
    assert b"hidden" not in repacked
    assert zipfile.ZipFile(io.BytesIO(repacked)).read("archive/data.pkl") == b"shown."


@pytest.mark.parametrize(
    ("graph", "dangerous"),
    [
        ({"target": "torch.ops.aten.conv2d.default"}, []),
        ({"target": "_operator.add"}, []),
        ({"target": "torch.sym_max"}, []),
        ({"target": "features.conv.weight"}, []),
        ({"nodes": [{"target": "torch.os.system"}]}, ["torch.os.system"]),
        ({"target": "torch.hub.load"}, ["torch.hub.load"]),
        ({"target": "torch.ops.load_library"}, ["torch.ops.load_library"]),
        ({"target": "math.__loader__.load_module"}, ["math.__loader__.load_module"]),
        ({"expr_str": "Mul(Integer(8), Symbol('s53', positive=True, integer=True)) + 2*s0//3"}, []),
        ({"expr_str": "Max(1, s0 - 2)"}, []),
        ({"expr_str": "__import__('os').system('true')"}, ["the formula __import__('os').system('true')"]),
        ({"expr_str": "exec('import os')"}, ["the formula exec('import os')"]),
        ({"expr_str": "Symbol('x y').func"}, ["the formula Symbol('x y').func"]),
        ({"expr_str": "[c for c in ().__class__.__bases__]"}, ["the formula [c for c in ().__class__.__bases__]"]),
    ],
)
def test_the_graph_of_an_exported_network_is_read_too(tmp_path, graph, dangerous):
    found = look(tmp_path, archive(**{"m/archive_format": b"pt2", "m/models/model.json": json.dumps(graph).encode()}))
    assert (found.kind, found.dangerous, found.fault) == (trust.EXPORTED, dangerous, "")


def test_machine_code_in_an_exported_network_is_dangerous(tmp_path):
    found = look(tmp_path, archive(**{"m/archive_format": b"pt2", "m/data/aotinductor/model/kernel.so": b"\x7fELF"}))
    assert found.dangerous == ["the machine code kernel.so"]


# ---- while opening, and consent


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_dangerous_global_is_stopped_while_opening(tmp_path, protocol):
    canary = tmp_path / "canary"
    bad = pickle.dumps(Calls(os.mkdir, str(canary)), protocol)
    with pytest.raises(InputError, match="it.pkl: .*mkdir"), trust.guarded(tmp_path / "it.pkl"):
        pickle.loads(bad)
    assert not canary.exists()
    pickle.loads(bad)  # outside, nothing is guarded, and the pickle does what it says
    assert canary.exists()


def test_consent_is_remembered_by_hash_and_can_be_withdrawn(tmp_path, monkeypatch):
    monkeypatch.setenv(trust.CONFIG, str(tmp_path / "settings"))
    path, one, other = tmp_path / "net.pt", "1" * 64, "2" * 64
    with pytest.raises(InputError, match=r"net.pt: this is a TorchScript network.*can run any code.*--trust"):
        trust.consent(path, trust.SCRIPT, one, trust=False)
    trust.consent(path, trust.SCRIPT, one, trust=True)
    trust.consent(path, trust.SCRIPT, one, trust=False)
    assert trust.is_trusted(one) and not trust.is_trusted(other)
    with pytest.raises(InputError):
        trust.consent(path, trust.SCRIPT, other, trust=False)
    assert [entry.name for entry in (tmp_path / "settings").iterdir()] == ["trusted.json"]
    trust.forget()
    assert not trust.is_trusted(one)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1", "\udcff"])
def test_spoilt_settings_mean_no_consent(tmp_path, monkeypatch, content):
    monkeypatch.setenv(trust.CONFIG, str(tmp_path))
    (tmp_path / "trusted.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert trust.trusted() == []
    trust.remember("1" * 64)
    assert trust.trusted() == ["1" * 64]


def test_settings_that_cannot_be_written_do_not_stop_the_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(trust.CONFIG, str(tmp_path / "file" / "settings"))
    trust.consent(tmp_path / "net.pt", trust.SCRIPT, "1" * 64, trust=True)
    assert trust.trusted() == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_folder_or_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        trust.inspect(tmp_path)
    with pytest.raises(InputError, match="no such weights file"):
        trust.inspect(tmp_path / "missing.pth")
