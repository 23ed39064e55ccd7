"""What is in a weights file: its tensors by name, mostly not yet read. Nothing is ever unpickled here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import WeightsError
from ..security.pickles import PLAIN, Call, Name, shown
from .contents import CHECKPOINT, SAFETENSORS, Contents, foreign, named
from .tensors import Numbers, module_class, shape_of, tensor_nodes

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class Weights:
    """The tensors of one file, mostly not yet read.

    :ivar nodes: each tensor, or the node of the pickle that is one. :ivar shapes: by name; in checkpoints the name is the path, as ``state_dict.conv.weight``.
    :ivar whole: class of the network that the file was pickled from, where it is one.
    :ivar other: names in the file that have nothing to do with weights.
    """

    contents: Contents
    nodes: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    whole: Name | None = None
    other: tuple[Name, ...] = ()

    def tensors(self, names: Mapping[str, str]) -> dict[str, torch.Tensor]:
        """The tensors of a state dict.

        :param names: of the state dict -> in the file.
        :raises WeightsError: for a file whose numbers are not there.
        """
        import torch

        numbers = Numbers(self.contents)
        try:
            found = {name: numbers.of(self.nodes[within]) for name, within in names.items()}
            made = {name: torch.as_tensor(value) for name, value in found.items() if value is not None}
        except Exception as error:  # hostile bytes can break a reader in any way
            raise unreadable(self.contents.path, error) from None
        finally:
            numbers.close()
        if odd := [name for name, value in found.items() if value is None]:
            raise WeightsError(
                self.contents.path,
                f"'{shown(names[odd[0]])}' is no tensor that can be read",
                "save model.state_dict() anew, if you can as safetensors",
            )
        return made

    @property
    def message(self) -> str:
        """What else the file names; empty where there is nothing."""
        if not self.other:
            return ""
        what = f"{self.contents.path.name}: beside the weights this file names {named(self.other)}"
        return f"{what}; nothing of it was looked up or run."


def open_weights(contents: Contents) -> Weights:
    """The tensors in a file of safetensors, a checkpoint or a bare pickle.

    :raises WeightsError: for a file that cannot be read to its end.
    """
    path = contents.path
    if contents.kind == SAFETENSORS:
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except Exception as error:
            raise unreadable(path, error) from None
        return of_tensors(path, tensors)
    try:
        nodes = tensor_nodes(contents.tree.value)
        whole = module_class(contents.tree.value)
    except Exception as error:  # hostile bytes can break a reader in any way
        raise unreadable(path, error) from None
    other = tuple(name for name in foreign(contents.tree.names) if name != whole)
    shapes = {name: shape for name, node in nodes.items() if (shape := shape_of(node)) is not None}
    return Weights(contents, nodes, shapes, whole, other)


def content(contents: Contents) -> Any:
    """All that a checkpoint holds, where that is tensors, plain values and containers of them alone.

    :raises ValueError: where it is anything else, or cannot be read to its end.
    """
    numbers = Numbers(contents)
    made: dict[int, Any] = {}

    def value(node: Any) -> Any:
        if isinstance(node, PLAIN):
            return node
        if id(node) not in made:
            made[id(node)] = build(node)
        return made[id(node)]

    def build(node: Any) -> Any:
        match node:
            case dict():
                return {value(key): value(part) for key, part in node.items()}
            case list() | tuple():
                return type(node)(map(value, node))
            case Call(function=Name("collections", "OrderedDict"), arguments=()):
                return {value(key): value(part) for key, part in node.items}
        found = numbers.of(node) if isinstance(node, Call) else None
        if found is None:
            raise ValueError("it holds what is no number, text or tensor")
        return found

    try:
        if contents.kind != CHECKPOINT or contents.fault:
            raise ValueError(contents.fault or "it is no checkpoint")
        return value(contents.tree.value)
    finally:
        numbers.close()


def of_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> Weights:
    """Weights that were read already, from a file of this name."""
    contents = Contents(path=path, kind=SAFETENSORS, source=lambda: path.open("rb"))
    return Weights(contents, dict(tensors), {name: tuple(tensor.shape) for name, tensor in tensors.items()})


def unreadable(path: Path, error: Exception) -> WeightsError:
    """Of a file that cannot be opened, for a reason that is not ours."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return WeightsError(
        path, f"the weights cannot be opened ({shown(reason[0])})", "get the file anew, if you can as safetensors"
    )
