"""What a weights file is and holds, told from its bytes alone. Nothing here needs torch."""

import io
import json
import pickle
import sys
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MedXAILib.errors import InputError
from MedXAILib.models.security.programs import graph_faults
from MedXAILib.models.weights import contents as weightsfile
from MedXAILib.models.weights.contents import CHECKPOINT, PICKLE, POINTER, SAFETENSORS, SCRIPT, UNKNOWN

KINDS = {
    "models/brainchop_model5_gw_ae.pth": SAFETENSORS,
    "models/sania_brain_tumor_model.pth": CHECKPOINT,
    "models/lwnet_wnet_drive.pth": CHECKPOINT,
    "models/torchio_whole_images_epoch_5.pth": CHECKPOINT,
    "models/elastix_R1D2_2D.pt": SCRIPT,
    "models/elastix_M730_1_Layers.pt": SCRIPT,
    "models/lfs_pointer_brain_tumor_model.pth": POINTER,
    "hostile/pickle/bad_pytorch.pt": UNKNOWN,
    "hostile/pickle/benign0_v3.pkl": PICKLE,
    "hostile/pickle/int_array.npy": UNKNOWN,
    "hostile/pickle/new_pytorch_model.bin": CHECKPOINT,
    "hostile/pickle/not_a_pickle.bin": UNKNOWN,
    "hostile/pickle/object_array.npy": UNKNOWN,
}


def look(tmp_path, content: bytes) -> weightsfile.Contents:
    path = tmp_path / "some.weights"
    path.write_bytes(content)
    return weightsfile.inspect(path)


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), content)
    return out.getvalue()


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_the_kind_is_told_by_content(data, name, kind):
    found = weightsfile.inspect(data / name)
    assert (found.kind, found.fault) == (kind, "")


def test_no_weights_no_opening(tmp_path):
    found = look(tmp_path, pickle.dumps({"a": 1, "b": print}))
    with pytest.raises(
        InputError, match=r"some.weights: there are no weights in this file; it names builtins.print, and not"
    ):
        found.refuse()


def test_archives_that_programs_read_differently_are_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        for content in (b"N.", b"Nq\x00."):
            file.writestr("net/data.pkl", content)
    assert look(tmp_path, out.getvalue()).fault == "it holds 'net/data.pkl' twice"
    capital = archive(**{"net/data.pkl": b"N.", "net/Data.pkl": b"N."})
    assert "twice" in look(tmp_path, capital).fault
    assert look(tmp_path, archive(**{"a/data.pkl": b"N.", "b/data.pkl": b"N."})).fault == "it holds 2 checkpoints"


def test_an_unpacking_bomb_is_no_trap(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(1 << 25))
    assert "unpacks to 32 MB" in look(tmp_path, out.getvalue()).fault


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_bytes_of_any_kind_are_told_or_refused_and_never_crash(tmp_path, data):
    seeds = [
        b"",
        pickle.dumps({"a": 1, "b": [print]}),
        archive(archive__data_pkl=pickle.dumps({"a": 1}), archive__data__0=bytes(64)),
        archive(m__archive_format=b"pt2", m__models__model_json=b"{}"),
        b"\x93NUMPY\x01\x00\x10\x00",
        (16).to_bytes(8, "little") + b"{" + bytes(20),
        pickle.dumps(weightsfile.TORCH_MAGIC, 2)
        + pickle.dumps(1001)
        + pickle.dumps({})
        + pickle.dumps({})
        + pickle.dumps([]),
    ]
    content = bytearray(data.draw(st.sampled_from(seeds)) + data.draw(st.binary(max_size=60)))
    for _ in range(data.draw(st.integers(0, 6)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content)[: data.draw(st.integers(0, len(content)))]
    found = look(tmp_path, content)
    try:
        found.refuse()
    except InputError as error:
        assert "some.weights" in str(error)


@pytest.mark.parametrize(
    ("graph", "faults"),
    [
        ({"target": "torch.ops.aten._softmax.default", "inputs": []}, set()),
        ({"target": "torch.ops.higher_order.wrap_with_set_grad_enabled", "inputs": []}, set()),
        ({"target": "_operator.add", "inputs": []}, set()),
        ({"target": "torch.sym_max", "inputs": []}, set()),
        ({"target": "torch_encoder.conv.weight"}, set()),
        ({"target": "features.conv.weight"}, set()),
        ({"nodes": [{"target": "torch.os.system", "inputs": []}]}, {"torch.os.system"}),
        ({"target": "torchx.os.system", "inputs": []}, {"torchx.os.system"}),
        ({"target": "mathematics.foo", "inputs": []}, {"mathematics.foo"}),
        ({"target": "_operator.attrgetter", "inputs": []}, {"_operator.attrgetter"}),
        ({"target": "torch.hub.load"}, {"torch.hub.load"}),
        ({"target": "torch.ops.load_library", "inputs": []}, {"torch.ops.load_library"}),
        ({"target": "torch.ops.aten.__class__.mro", "inputs": []}, {"torch.ops.aten.__class__.mro"}),
        ({"target": "math.__loader__.load_module", "inputs": []}, {"math.__loader__.load_module"}),
        ({"expr_str": "Mul(Integer(8), Symbol('s53', positive=True, integer=True)) + 2*s0//3"}, set()),
        ({"expr_str": "Max(1, s0 - 2)"}, set()),
        ({"expr_str": "FloatPow(ToFloat(Mul(Symbol('s1'), Symbol('s2'))), Float('0.5', precision=53))"}, set()),
        ({"expr_str": "S('eval')('1')"}, {"the formula S('eval')('1')"}),
        ({"expr_str": "Symbol('a' + 'b')"}, {"the formula Symbol('a' + 'b')"}),
        ({"expr_str": "9**9**9"}, {"the formula 9**9**9"}),
        ({"expr_str": "PowByNatural(9, 387420489)"}, {"the formula PowByNatural(9, 387420489)"}),
        ({"name": "x=open('f','w')"}, {"the name \"x=open('f','w')\""}),
        ({"tensor_values": {"a b": {}}}, {"the name 'a b'"}),
        ({"as_operator": "torch.os.mkdir"}, {"torch.os.mkdir"}),
        ({"target": "torch.ops.aten.from_file.default", "inputs": []}, {"torch.ops.aten.from_file.default"}),
        ({"expr_str": "__import__('os').system('true')"}, {"the formula __import__('os').system('true')"}),
        ({"expr_str": "exec('import os')"}, {"the formula exec('import os')"}),
        ({"expr_str": "Symbol('x y').func"}, {"the formula Symbol('x y').func"}),
        ({"expr_str": "[c for c in ().__class__.__bases__]"}, {"the formula [c for c in ().__class__.__bases__]"}),
        ({"in_spec": json.dumps([1, {"context": json.dumps({"__enum__": True, "fqn": "a:b"})}])}, {"the module a:b"}),
    ],
)
def test_the_graph_of_an_exported_network_reaches_no_further_than_operators(graph, faults):
    assert graph_faults(graph) == faults


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_folder_or_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        weightsfile.inspect(tmp_path)
    with pytest.raises(InputError, match="no such weights file"):
        weightsfile.inspect(tmp_path / "missing.pth")
