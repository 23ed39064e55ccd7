"""Tensors out of weights files without an unpickler: torch's own loader is the reference, and nothing else in a file acts."""

import argparse
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from MedXAILib.errors import InputError
from MedXAILib.models import loading
from MedXAILib.models.weights import fitting
from MedXAILib.models.weights import reading as weights
from MedXAILib.models.weights.contents import CHECKPOINT, inspect

FORMATS = [{"pickle_protocol": 2}, {"pickle_protocol": 5}, {"_use_new_zipfile_serialization": False}]


def flat(value, path="") -> dict[str, torch.Tensor]:
    """The tensors of what torch or pickle loaded, by their paths."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return {path[1:]: value}
    if isinstance(value, nn.Module):
        value = value.state_dict(keep_vars=True)
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {name: tensor for key, part in pairs for name, tensor in flat(part, f"{path}.{key}").items()}


def check(path: Path, expected: dict[str, torch.Tensor]) -> None:
    """Same names, numbers, types and shapes, and shared storages where they were shared."""
    found = loading.read_weights(path)
    ours = found.tensors({name: name for name in expected})
    assert list(found.shapes) == list(expected)
    for name, tensor in expected.items():
        tensor = torch.as_tensor(tensor)
        assert (ours[name].dtype, ours[name].requires_grad, type(ours[name])) == (
            tensor.dtype,
            tensor.requires_grad,
            type(tensor),
        ), name
        assert tuple(ours[name].stride()) == tuple(tensor.stride()), name
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)

    def sharing(tensors):
        first: dict[int, str] = {}
        return {n: first.setdefault(torch.as_tensor(t).untyped_storage().data_ptr(), n) for n, t in tensors.items()}

    assert sharing(ours) == sharing(expected)


def every_kind() -> dict:
    base = torch.arange(24.0).reshape(4, 6)
    base[0, 0] = torch.nan
    made = {f"{dtype}".removeprefix("torch."): torch.rand(3, 2).mul(9).to(dtype) for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool, torch.complex64, torch.complex128,
    )}  # fmt: skip
    return made | {
        "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
        "turned": base.T,
        "part": base[1:3, ::2],
        "whole": base,
        "again": base,
        "wide": torch.ones(1).expand(5),
        "number": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(base * 2),
        **{f"buffer {n}": nn.Buffer(torch.full((n + 1,), float(n))) for n in range(9)},
        "frozen": nn.Parameter(base * 3, requires_grad=False),
    }


@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_tensors_of_every_kind_are_torchs(tmp_path, options):
    path, kinds = tmp_path / "net.pth", every_kind()
    if "_use_new_zipfile_serialization" in options:
        kinds.pop("uint16")  # torch writes it in its old format, and cannot read it
    torch.save(
        {"epoch": 3, "state": OrderedDict(kinds), "list": [torch.ones(2), {"x": torch.zeros(1)}]}, path, **options
    )
    check(path, flat(torch.load(path, weights_only=False)))


def test_big_endian_files(tmp_path):
    path, state = (
        tmp_path / "net.pth",
        {"a": torch.rand(3, 5), "b": torch.tensor([1 + 2j, 3 - 4j]), "c": torch.arange(5)},
    )
    torch.save(state, tmp_path / "little.pth")
    with zipfile.ZipFile(tmp_path / "little.pth") as little, zipfile.ZipFile(path, "w") as big:
        for name in little.namelist():
            data = little.read(name)
            key = name.rpartition("/data/")[2]
            if name.endswith("byteorder"):
                data = b"big"
            elif key in ("0", "1", "2"):
                data = np.frombuffer(data, f"<{('f4', 'f4', 'i8')[int(key)]}").byteswap().tobytes()
            big.writestr(name, data)
    check(path, torch.load(path))
    check(path, state)


class Shared(nn.Module):
    """A child registered twice, tied weights, a buffer that is not kept, and a plain attribute that is a tensor."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.twice, self.tied = self.first, nn.Linear(4, 4, bias=False)
        self.tied.weight = self.first.weight
        self.register_buffer("left", torch.ones(2), persistent=False)
        self.register_buffer("kept", torch.arange(3))
        self.attribute, self.options = torch.ones(7), argparse.Namespace(lr=0.1)


@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_a_whole_network_gives_its_state_dict(tmp_path, options):
    path = tmp_path / "net.pth"
    torch.save({"model": Shared(), "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}, path, **options)
    check(path, flat(torch.load(path, weights_only=False)))
    torch.save(Shared(), path, **options)
    expected = torch.load(path, weights_only=False).state_dict(keep_vars=True)
    check(path, dict(expected))
    assert str(loading.read_weights(path).whole) == f"{__name__}.Shared"


@pytest.mark.parametrize("protocol", range(6))
def test_bare_pickles_of_tensors_and_arrays(tmp_path, protocol):
    base = torch.rand(2, 3)
    content = {
        "tensor": base,
        "same": base,
        "view": base.T,
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "columns": np.asfortranarray(np.linspace(0, 1, 12).reshape(3, 4).astype(np.float32)),
        "big": np.arange(4, dtype=">f8"),
        "flags": np.array([True, False]),
    }
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(content, protocol))
    found = loading.read_weights(tmp_path / "net.pkl")
    ours = found.tensors({name: name for name in content})
    for name, value in content.items():
        expected = torch.as_tensor(
            value.astype(value.dtype.newbyteorder("=")) if isinstance(value, np.ndarray) else value
        )
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=0)
    assert ours["same"].untyped_storage().data_ptr() == ours["tensor"].untyped_storage().data_ptr()


def test_the_shared_checkpoints_of_real_tools(data):
    """nnU-Net's are refused by torch's safe mode for their NumPy scalars, Lightning's for its argparse.Namespace."""
    made = data / "models_as_they_come"
    files = [*made.rglob("*.pth"), *made.rglob("*.ckpt"), *made.rglob("model.pt"), *(data / "models").glob("*.pth")]
    known = [path for path in files if inspect(path).kind == CHECKPOINT]
    assert len(known) >= 10
    for path in known:
        check(path, flat(torch.load(path, weights_only=False, map_location="cpu")))


# ---- which of them belong to a network


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


def fitted(tmp_path, content, key=None):
    """What :func:`fitting.fit` takes for ``Net`` out of a saved file, and its remark."""
    torch.save(content, tmp_path / "net.pth")
    given = loading.read_weights(tmp_path / "net.pth")
    expected = {name: tuple(tensor.shape) for name, tensor in Net().state_dict().items()}
    found = fitting.fit(given, expected, "the weights do not fit Net", key)
    return given.tensors(found.names), found.message


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


PREFIXES = [
    "",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "model.module._orig_mod.",
    "network.backbone.",
    "model._orig_mod.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict", "network_weights", "own"])
def test_prefixes_and_wrappers_are_stripped_as_far_as_the_names_fit(tmp_path, prefix, wrapper):
    state = Net().state_dict()
    content = prefixed(prefix, state)
    content = (
        {"epoch": 1, wrapper: content, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}} if wrapper else content
    )
    found, remark = fitted(tmp_path, content)
    torch.testing.assert_close(found, dict(state))
    assert bool(remark) == bool(prefix or wrapper)
    if prefix or wrapper:
        assert f"those below '{'.'.join(filter(None, [wrapper, prefix.rstrip('.')]))}'" in remark
    if wrapper:
        assert "left over: optimizer" in remark


def test_wrappers_inside_the_names(tmp_path):
    state = Net().state_dict()
    odd = {name.replace("model.", "model.module.").replace("head.", "head._orig_mod."): t for name, t in state.items()}
    assert torch.equal(fitted(tmp_path, {"state_dict": odd})[0]["head.weight"], state["head.weight"])


def test_of_several_that_fit_the_averaged_ones_are_taken_and_it_is_said(tmp_path):
    raw, averaged = Net().state_dict(), Net().state_dict()
    lightning = {
        "state_dict": prefixed("model.", raw) | prefixed("ema.module.", averaged) | {"loss_fn.weight": torch.ones(2)}
    }
    timm = {"state_dict": raw, "state_dict_ema": averaged}
    for content, ema, own in [
        (lightning, "state_dict.ema.module", "state_dict.model"),
        (timm, "state_dict_ema", "state_dict"),
        ({"model": raw, "ema": averaged}, "ema", "model"),
    ]:
        found, remark = fitted(tmp_path, content)
        assert torch.equal(found["head.weight"], averaged["head.weight"])
        assert f"'{ema}' (of 2 parts that fit: the averaged weights" in remark and "--weights-key" in remark
        assert torch.equal(fitted(tmp_path, content, key=own)[0]["head.weight"], raw["head.weight"])


@pytest.mark.parametrize(
    "kept", ["ema_var", "ema_sq", "ema_mask", "averaged.sq", "fisher", "grads", "optimizer.shadow"]
)
def test_what_has_the_names_of_weights_and_is_none_is_left(tmp_path, kept):
    state, other = Net().state_dict(), Net().state_dict()
    found, remark = fitted(tmp_path, {"model": state} | prefixed(f"{kept}.", other))
    assert torch.equal(found["head.weight"], state["head.weight"]) and "averaged weights" not in remark
    with pytest.raises(InputError, match=f"below '{kept}', which is no weights .*--weights-key takes it"):
        fitted(tmp_path, prefixed(f"{kept}.", other))


def test_weights_that_lie_in_no_dict_are_told(tmp_path):
    with pytest.raises(
        InputError, match=r"no tensor lies in the dicts .*made of argparse.Namespace\); save model.state"
    ):
        fitted(tmp_path, Hidden(Net().state_dict()))
    with pytest.raises(InputError, match="the network has no tensor without a name"):
        fitted(tmp_path, torch.ones(3))


class Hidden:
    """An object that keeps its weights in a way of its own."""

    __module__, __qualname__ = "argparse", "Namespace"

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return argparse.Namespace, (), (self.state, 1, 2)


def test_what_lies_beside_good_weights_does_not_stand_in_their_way(tmp_path):
    state = Net().state_dict()
    beside = {
        "quantised": torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8),
        "sparse": torch.eye(3).to_sparse(),
    }
    same_path = {"h": {1: torch.ones(1), "1": torch.zeros(1)}}
    for old in (True, False):
        torch.save({"model": state, **beside, **same_path}, tmp_path / "x.pth", _use_new_zipfile_serialization=not old)
        given = loading.read_weights(tmp_path / "x.pth")
        found = given.tensors({name: f"model.{name}" for name in state})
        torch.testing.assert_close(found, dict(state), rtol=0, atol=0)
        assert "h.1" not in given.shapes


def test_what_nothing_decides_is_asked(tmp_path):
    one, other = Net().state_dict(), Net().state_dict()
    with pytest.raises(InputError, match=r"net.pth: 2 parts .* fit .*--weights-key 'one', 'other'"):
        fitted(tmp_path, {"one": one, "other": other})
    assert torch.equal(fitted(tmp_path, {"one": one, "other": other}, "other")[0]["head.bias"], other["head.bias"])
    assert "custom" in fitted(tmp_path, {"state_dict": one, "best": other})[1]
    assert torch.equal(fitted(tmp_path, {"one": one, "same": one})[0]["head.bias"], one["head.bias"])
    with pytest.raises(InputError, match=r"--weights-key nothing: .*'one', 'other'"):
        fitted(tmp_path, {"one": one, "other": other}, "nothing")


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    state = dict(Net().state_dict())
    lacking = {name: tensor for name, tensor in state.items() if name != "head.bias"}
    for content, said in [
        (prefixed("model.", lacking), "the file lacks head.bias"),
        (state | {"middle.weight": torch.ones(1)}, "the network has no middle.weight"),
        (state | {"model.0.extra": torch.ones(1)}, "the network has no model.0.extra"),
        (state | {"head.weight": torch.ones(3, 4)}, r"wrong shape of head.weight \(\(3, 4\) instead of \(2, 4\)\)"),
        ({"x": torch.ones(1)}, "the file lacks model.0.weight"),
        (
            state | {"head.weight": torch.quantize_per_tensor(state["head.weight"], 0.1, 0, torch.qint8)},
            "lacks head.weight. The file has tensors of a kind that is not read .*quantised",
        ),
        (state | {"head.weight": state["head.weight"].to_sparse()}, "of a kind that is not read .*sparse"),
        (state | {"head.weight": state["head.weight"].to("meta")}, "of a kind that is not read .*without values"),
    ]:
        with pytest.raises(InputError, match=said):
            fitted(tmp_path, content)
    counts = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert "num_batches_tracked are missing" in fitted(tmp_path, counts)[1]


def test_a_training_s_own_checkpoint_comes_back_whole_and_nothing_else_does(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    kept = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "rows": [{"loss": 0.5, "dice": float("nan")}]}
    path = tmp_path / "checkpoint.pt"
    torch.save(kept | {"best": kept["net"], "done": 3, "by": "me", "none": None, "pair": (1, -2.5)}, path)
    found, expected = weights.content(inspect(path)), torch.load(path, weights_only=True)
    assert found["best"] is found["net"], "what was one object stays one"
    assert (found.pop("by"), found.pop("none")) == (expected.pop("by"), expected.pop("none"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    for odd in (net, {"net": print}, {"path": Path("x")}):
        torch.save(odd, path)
        with pytest.raises(ValueError, match="no number, text or tensor"):
            weights.content(inspect(path))
