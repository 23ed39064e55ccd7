"""ONNX models, which hold no PyTorch network and are refused, with what to do instead."""

from __future__ import annotations

import os

from ...errors import InputError


def is_onnx(given: object) -> bool:
    """Whether this is an ONNX model: a ModelProto, a session of onnxruntime, or a path."""
    if isinstance(given, str | os.PathLike):
        return str(given).lower().endswith((".onnx", ".ort"))
    return type(given).__module__.partition(".")[0] in ("onnx", "onnxruntime")


def refusal(what: str | os.PathLike[str]) -> InputError:
    """What to do about one.

    :param what: its path, or a word for it.
    """
    return InputError(
        "this is an ONNX model, which holds no PyTorch network",
        "export the network with torch.export instead, or turn the file into a torch.nn.Module (onnx2torch.convert) and give "
        "that to explain()",
        about=what,
        joint=": ",
    )
