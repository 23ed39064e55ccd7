"""Inputs for a network without a card: volumes, arrays and tensors as the network takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...geometry.volume import ARRAY, GEOMETRY, Source, Volume

if TYPE_CHECKING:
    import torch


def as_tensor(inputs: Any, dimensions: int) -> tuple[torch.Tensor, Volume, list[str]]:
    """The input as the network takes it, the volume on whose grid maps come back, and the names of the channels."""
    import torch

    if isinstance(inputs, Mapping):
        if not inputs:
            raise InputError("The dict of inputs is empty", "give name -> array", joint=": ")
        if not all(isinstance(name, str) for name in inputs):
            raise InputError(f"The inputs have the names {list(inputs)}", "give text, as {'t1': array}", joint=": ")
        parts = [as_tensor(value, dimensions) for value in inputs.values()]
        shapes = {tuple(tensor.shape) for tensor, _, _ in parts}
        if len(shapes) > 1 or parts[0][0].shape[1] != 1:
            raise InputError("Named inputs must have the same shape and one channel each.")
        volumes = {name: volume for name, volume in inputs.items() if isinstance(volume, Volume)}
        first, *others = volumes or [""]
        if apart := next((name for name in others if not volumes[name].grid.same_as(volumes[first].grid)), None):
            raise InputError(
                f"The inputs '{first}' and '{apart}' lie on different grids, and a network without a card takes voxel by voxel "
                "what lies at the same index",
                "resample one onto the other first (MedXAILib.resample)",
                joint=": ",
            )
        return torch.cat([tensor for tensor, _, _ in parts], 1), parts[0][1], list(inputs)
    if isinstance(inputs, Volume):
        array = torch.from_numpy(np.ascontiguousarray(inputs.array, np.float32))
        channels = array[None] if array.ndim == 3 else array.movedim(3, 0)
        return (channels.transpose(0, 1) if dimensions == 2 else channels[None]), inputs, ["image"]
    if not isinstance(inputs, torch.Tensor | np.ndarray):
        raise InputError(
            f"A network without a card takes a Volume, an array or a tensor, not {type(inputs).__name__}",
            "read the file with read_volume first",
            joint=": ",
        )
    tensor = _plain(inputs)
    if tensor.ndim not in (4, 5) or (tensor.ndim == 5 and len(tensor) > 1):
        raise InputError(
            f"The input has the shape {tuple(tensor.shape)}",
            "give it as the network takes it, (slices, channel, d1, d2) for a 2D network, or (1, channel, d0, d1, d2), one "
            "volume at a time",
            joint=": ",
        )
    planes = tensor[:, 0] if tensor.ndim == 4 else tensor[0, 0]
    return tensor, Volume(planes.numpy(), np.eye(4), Source("array", ARRAY, assumed=GEOMETRY)), ["image"]


def _plain(inputs: torch.Tensor | np.ndarray) -> torch.Tensor:
    """An array or tensor as an ordinary one of floating point, wherever and however its numbers lie.

    :raises InputError: where it has none, or has complex ones.
    """
    import torch

    if np.ma.isMaskedArray(inputs):
        raise InputError(
            "The input is a masked array", "fill what is masked first, with array.filled(VALUE)", joint=": "
        )
    if isinstance(inputs, np.ndarray):
        if inputs.dtype.kind not in "biuf":
            raise InputError(f"The input holds values of the type {inputs.dtype}", "give real numbers", joint=": ")
        kind = np.float64 if inputs.dtype.itemsize == 8 and inputs.dtype.kind == "f" else np.float32
        inputs = torch.from_numpy(
            np.array(inputs, kind)
        )  # in this machine's byte order, and no view from back to front
    if inputs.is_complex() or inputs.is_meta:
        raise InputError(
            f"The input holds {'complex numbers' if inputs.is_complex() else 'no values (meta)'}",
            "give real numbers",
            joint=": ",
        )
    if inputs.numel() == 0:
        raise InputError(f"The input of the shape {tuple(inputs.shape)} is empty: there is nothing to explain.")
    inputs = inputs.detach().cpu()
    inputs = inputs.dequantize() if inputs.is_quantized else inputs
    if inputs.is_nested:
        raise InputError("The input is a nested tensor", "give one of one shape, one volume at a time", joint=": ")
    inputs = inputs.to_dense() if inputs.layout is not torch.strided else inputs.resolve_neg()
    if not inputs.isfinite().any():
        raise InputError("The input holds no finite value: there is nothing to explain.")
    if not inputs.isfinite().all():
        raise InputError(
            "The input holds NaN or infinite values", "replace them by what the network takes for air", joint=": "
        )
    return inputs if inputs.dtype == torch.float64 else inputs.float()
