"""A network without a card: what can be told from the network and its input alone."""

from __future__ import annotations

import inspect as python
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, NetworkError, first_line
from ..geometry.volume import ARRAY, GEOMETRY, Source, Volume
from ..models.card import FROM_FILE, ModelCard
from ..models.inspection.examine import examine
from ..models.loading import Model
from ..models.running.agreement import agree
from ..models.running.ends import DOUBTFUL, MEANINGS
from ..models.running.meaning import another, convinces, likely, meaning, plainly, tells
from ..models.running.parts import Part, choose, named, pick
from ..models.running.reading import read_as
from ..models.sources.arrays import as_tensor
from ..models.sources.onnx import is_onnx, refusal
from ..preprocessing.prepare import REPEATED, Prepared
from ..provenance import available_memory

if TYPE_CHECKING:
    import torch


AS_VALUE = "The network gives a single number, which is explained as a value; where it is the logit of a class, say so in a model card."
COPIES = 8
"""How many times as much memory as an input a network takes at least."""


def bare(
    network: torch.nn.Module,
    inputs: Any,
    windows: int | Sequence[int] | None = None,
    references: Sequence[Any] = (),
    output: int | str | None = None,
    known: str | None = None,
) -> tuple[Model, Prepared, list[Prepared]]:
    """A model and its inputs, for a network of any make: see :func:`MedXAILib.explain`.

    Classes are named by their numbers; an output of one number for each voxel is a segmentation. Where the network ends in
    a sigmoid or softmax, its output is probabilities. Else it is logits: several classes are taken as exclusive (softmax),
    a single one of a segmentation as a sigmoid; a single number for the whole is a value, of whatever kind. Only
    predictions and regions depend on this, scores are logits. Of several tensors see :mod:`.running.parts`.

    :param output: which of several tensors of the output, by place or name.
    :param known: which of MEANINGS its values proved to be in a pass.
    :raises InputError: for an input that is neither a volume, an array, a tensor, nor a dict of them, or has another rank.
    """
    dimensions = 2 if isinstance(inputs, Volume) and is_flat(network) else 3
    tensor, reference, names = as_tensor(inputs, dimensions)
    if isinstance(inputs, Mapping) and set(names) <= set(python.signature(network.forward).parameters):
        network = by_name(network, names)
    if not isinstance(inputs, Mapping) and (taken := slices_of(network, tensor)):
        network, tensor, reference = taken
    tensor, messages = as_colour(network, tensor, _size(tensor, windows))
    card, said = draft(network, tensor, names, windows, output, known)
    prepared = _prepared(tensor, reference, messages)
    others = [as_tensor(other, dimensions) for other in references]
    parameter = next(network.parameters(), tensor)
    return (
        Model(card, read_as(network, card, said), parameter.device.type, "", ""),
        prepared,
        [_prepared(_repeated(t) if messages else t, r) for t, r, _ in others],
    )


def runnable(network: Any) -> torch.nn.Module:
    """The network itself; an exported program as modules that take hooks, TorchScript in a module that takes some, a
    compiled network as it was written.

    :raises InputError: for what is no network, or the bare graph of an exported program, which has no modules.
    """
    import torch

    if isinstance(network, torch.export.ExportedProgram):
        return torch.export.unflatten(network)
    if isinstance(network, torch.jit.ScriptModule):
        return as_module(network)
    if isinstance(getattr(network, "_orig_mod", None), torch.nn.Module):
        return runnable(network._orig_mod)
    if is_onnx(network):
        raise refusal(network if isinstance(network, str | os.PathLike) else "This")
    if not isinstance(network, torch.nn.Module):
        raise InputError(
            f"{type(network).__name__} is no network", "give a torch.nn.Module, or a Model of load_model", joint=": "
        )
    if isinstance(network, torch.fx.GraphModule) and "eval" in vars(network):  # it raises NotImplementedError
        raise InputError("This is the bare graph of an exported program", "give the ExportedProgram itself", joint=": ")
    return network


def as_module(program: torch.jit.ScriptModule) -> torch.nn.Module:
    """TorchScript, which takes no hooks, as the only child of a module of the program's name."""
    import torch

    class Program(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.program = program
            self.training = getattr(program, "training", False)

        def forward(self, *inputs: Any, **named: Any) -> Any:
            return self.program(*inputs, **named)

    Program.__name__ = getattr(program, "original_name", "") or Program.__name__
    return Program()


def is_program(network: torch.nn.Module) -> bool:
    """Whether the network came from torch.export or TorchScript: it may take no batch but the one that it was made for."""
    import torch

    exported = type(network).__name__ in ("UnflattenedModule", "InterpreterModule")
    return exported or any(isinstance(child, torch.jit.ScriptModule) for child in network.children())


def is_flat(network: torch.nn.Module) -> bool:
    """Whether its convolutions have two spatial axes."""
    weights = [p.ndim for p in network.parameters()]
    return 4 in weights and 5 not in weights


def as_colour(
    network: torch.nn.Module, tensor: torch.Tensor, size: Sequence[int]
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Grey pictures with their channel repeated where the network takes colours and no grey, and a message on it."""
    if tensor.ndim != 4 or tensor.shape[1] != 1 or _takes(network, (1, 1, *size)) or not _takes(network, (1, 3, *size)):
        return tensor, ()
    return _repeated(tensor), (REPEATED,)


def _repeated(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.expand(-1, 3, *[-1] * (tensor.ndim - 2))


def _takes(network: torch.nn.Module, shape: Sequence[int]) -> bool:
    try:
        return bool(examine(network, shape).outputs)
    except Exception:  # what is wrong is said where the network is looked at in earnest
        return False


def _size(tensor: torch.Tensor, windows: int | Sequence[int] | None) -> tuple[int, ...]:
    """What the network is given at a time.

    :raises InputError: for windows that are no numbers of voxels, one or three, or for slices.
    """
    if windows is None:
        return tuple(tensor.shape[2:])
    if tensor.ndim == 4:
        raise InputError("slices are given whole to a 2D network", "leave the windows out", about=f"windows={windows}")
    try:
        size = (
            (operator.index(windows),) * 3 if not isinstance(windows, Sequence) else tuple(map(operator.index, windows))
        )
    except TypeError:
        size = ()
    if len(size) != 3 or min(size) < 1 or isinstance(windows, bool):
        raise InputError("give one number of voxels, or three, as windows=(96, 96, 64).", about=f"windows={windows}")
    if (need := COPIES * 4 * tensor.shape[1] * prod(size)) > available_memory():
        raise InputError(
            f"one window takes {need / 2**30:.0f} GiB of memory or more",
            "give a smaller one",
            about=f"windows={windows}",
        )
    return size


def _prepared(tensor: torch.Tensor, reference: Volume, messages: tuple[str, ...] = ()) -> Prepared:
    """As (channel, d0, d1, d2), each voxel where the reference has it."""
    planes = tensor.transpose(0, 1) if tensor.ndim == 4 else tensor[0]
    return Prepared(planes, reference.grid, reference, messages)


def draft(
    network: torch.nn.Module,
    tensor: torch.Tensor,
    names: Sequence[str],
    windows: int | Sequence[int] | None,
    output: int | str | None,
    known: str | None = None,
) -> tuple[ModelCard, tuple[str, ...]]:
    """The card that a network and one input imply, and what was chosen on the way."""
    spatial: dict[str, Any] = {"mode": "slices", "axis": "k"} if tensor.ndim == 4 else {"mode": "whole"}
    size = _size(tensor, windows)
    if windows is not None and tensor.ndim == 5:
        spatial = {"mode": "windows", "size": size}
    try:
        parts = examine(network, (1, tensor.shape[1], *size)).outputs
    except Exception as error:
        raise NetworkError(
            f"{type(network).__name__} does not take an input of the shape (1, {tensor.shape[1]}, "
            f"{', '.join(map(str, size))}): {first_line(error)}."
        ) from error
    part, messages = chosen(parts, len(size), output)
    part = scores_in(part, type(network).__name__, size)
    voxelwise = len(part.shape) > 2
    which = None if part.path in ("", "0") and len(parts) == 1 else part.path
    card = ModelCard.model_validate(
        {
            "name": type(network).__name__,
            "task": "segmentation" if voxelwise else "classification",
            "network": {"architecture": FROM_FILE if is_program(network) else type(network).__name__},
            "weights": {"file": "none"},
            "spatial": spatial,
            "input": {"channels": [{"name": name} for name in names]},
            "output": {
                "labels": [{"name": str(n)} for n in range(part.shape[1])],
                "which": which,
                **meant(network, part, known, voxelwise, tensor[(slice(1), slice(None), *map(slice, size))]),
            },
        }
    )
    if tells(part) or card.output.kind == "value":
        agree(network, card, (AS_VALUE,) if card.output.kind == "value" else ())
    return card, messages


def scores_in(part: Part, name: str, size: tuple[int, ...]) -> Part:
    """A tensor of the output as (batch, class) or (batch, class, *spatial).

    :raises InputError: where it is neither, for one sample of this size.
    """
    shape = (*part.shape, 1) if len(part.shape) == 1 else part.shape
    if not part.floating:
        raise InputError(f"{name} gives no real numbers", "wrap it in a module that gives its logits", joint=": ")
    if len(shape) not in (2, len(size) + 2) or shape[0] != 1 or 0 in shape:
        raise InputError(
            f"{name} gives an output of the shape {part.shape} for one sample, which is neither (batch, class) nor (batch, "
            "class, *spatial)",
            "wrap it in a module that gives its logits so",
            joint=": ",
        )
    if len(shape) > 2 and shape[2:] != size:
        raise InputError(
            f"{name} gives its classes at {' x '.join(map(str, shape[2:]))} places, and the input has "
            f"{' x '.join(map(str, size))}",
            "wrap it in a module that enlarges its logits to the input's size",
            joint=": ",
        )
    return replace(part, shape=shape)


def chosen(parts: Sequence[Part], dimensions: int, output: int | str | None) -> tuple[Part, tuple[str, ...]]:
    """The tensor of the output that is explained, and a message where there are others.

    :raises InputError: for an ``output`` that there is not.
    """
    part = named(parts, output) or choose(parts, dimensions)
    if len(parts) == 1:
        return part, ()
    others = ", ".join(str(p) for p in parts if p is not part)
    why = "as asked" if output is not None else "choose another one with output="
    return part, (f"The network gives {len(parts)} tensors: {part} is explained, not {others} ({why}).",)


def meant(network: torch.nn.Module, part: Part, known: str | None, voxelwise: bool, x: torch.Tensor) -> dict[str, str]:
    """Kind and activation of the output, as a card has them."""

    def ask(number: int) -> torch.Tensor:
        return pick(plainly(network, another(x, number) if number else x), part.path or None)

    found = known or (meaning(part, ask) if likely(part) else None)
    if found and (known or convinces(part, found) or part.end in DOUBTFUL):
        return dict(zip(("kind", "activation"), MEANINGS[found], strict=True))
    several = part.shape[1] > 1
    kind = "logits" if several or voxelwise else "value"
    return {"kind": kind, "activation": "softmax" if several else "sigmoid"}


def slices_of(network: torch.nn.Module, tensor: torch.Tensor) -> tuple[torch.nn.Module, torch.Tensor, Volume] | None:
    """What a network makes of the channels' axis where it holds slices: those that its first convolution takes for its
    batch, in an input (1, slice, channel, d1, d2) or (1, slice, d1, d2). The network as one that takes (1, channel, slice,
    d1, d2), its input, and the volume on whose grid maps come back. None where channels are channels."""
    if len(tensor) > 1 or tensor.shape[1] == 1:
        return None
    try:
        batch = examine(network, tensor.shape, tensor).batch
    except Exception:  # what is wrong is said where the network is looked at in earnest
        return None
    if 1 not in batch:
        return None
    if tensor.ndim == 5:
        network, tensor = around(network, lambda net, x: net(x.transpose(1, 2)), "slices"), tensor.transpose(1, 2)
    else:
        network, tensor = around(network, lambda net, x: net(x[:, 0]), "slices"), tensor[:, None]
    return network, tensor, Volume(tensor[0, 0].numpy(), np.eye(4), Source("array", ARRAY, assumed=GEOMETRY))


def by_name(network: torch.nn.Module, names: Sequence[str]) -> torch.nn.Module:
    """The network as one of a single tensor, whose channels go to ``forward`` by name."""
    return around(network, lambda net, x: net(**{name: x[:, n : n + 1] for n, name in enumerate(names)}), "named")


def around(
    network: torch.nn.Module, call: Callable[[torch.nn.Module, torch.Tensor], Any], taken: str
) -> torch.nn.Module:
    """The network as one whose forward is ``call(network, x)``. Its layers keep their names.

    :param taken: a word for how the input is taken.
    """
    import torch

    class Around(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return call(self.__dict__["whole"], x)

    wrapped = Around()
    wrapped.__dict__.update(whole=network, taken=taken)  # beside the registry, or all layers would be renamed
    wrapped._modules, wrapped._parameters, wrapped._buffers = network._modules, network._parameters, network._buffers
    wrapped.training = network.training
    return wrapped
