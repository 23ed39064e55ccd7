"""draft_card(): the model card of one's own network, as far as its weights tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from .card import FROM_FILE, TO_FILL, unfilled
from .inspection.examine import examine
from .loading import read_weights, sha256
from .recognition import Ends, Proposal, Shapes, recognise
from .running.ends import MEANINGS
from .running.parts import Part, choose
from .running.script import script, script_parts
from .schema import SCHEMA_VERSION

if TYPE_CHECKING:
    import torch


def draft_card(weights: str | Path, trust: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A card for a weights file, and what is left to fill in it, one line for each field.

    What is left is marked in the card with a text that begins with ``FILL IN``; ``read_card`` refuses it until then.

    :param trust: consent to run a weights file that is a program.
    :raises InputError: for a file that cannot be opened.
    """
    import torch

    weights = Path(weights)
    content = read_weights(weights, trust)
    if isinstance(content, torch.nn.Module):
        program, known = content, None
        found = _guess({name: tuple(tensor.shape) for name, tensor in content.state_dict().items()}, weights)
    else:
        program, (known, shapes) = None, recognise(content.shapes)
        found = known or _guess(shapes, weights, content.whole)
    asked = {name: f"{TO_FILL}: {ask}" for name, (_, ask) in found.hidden.items()}
    name, ends = FROM_FILE if program else found.name, found.ends
    draft = {
        "schema_version": SCHEMA_VERSION,
        "name": weights.stem,
        "description": "",
        "task": found.task,
        "network": {"architecture": name, "arguments": {**found.arguments, **asked}},
        "weights": {"file": weights.name, "sha256": sha256(weights)},
        **(_slices(ends.channels) if ends.dimensions == 2 else _volumes(ends.channels)),
        "output": {
            "labels": _one_each(ends.classes, "class"),
            "activation": f"{TO_FILL}: softmax where the classes exclude each other, else sigmoid",
            **({} if known else _output(program, ends.dimensions)),
        },
        "provenance": "",
        "licence": "",
    }
    return draft, [f"{where}: {text}" for where, text in unfilled(draft)]


def _output(program: torch.nn.Module | None, dimensions: int) -> dict[str, Any]:
    """What is seen of an unknown network's output: how it ends, and which of several tensors is meant.

    :param program: TorchScript or an exported program; None where there are weights only.
    """
    parts = [] if program is None else _program_parts(program)
    part = choose(parts, dimensions) if parts else None
    which = {"which": part.path} if part and len(parts) > 1 else {}
    if part and part.end in MEANINGS:
        return dict(zip(("kind", "activation"), MEANINGS[part.end], strict=True)) | which
    kind = "logits, probabilities where the network ends in a sigmoid or softmax, or value (and beside it a unit)"
    return {"kind": f"{TO_FILL}: {kind}"} | which


def _program_parts(network: torch.nn.Module) -> list[Part]:
    """The tensors of the output of a TorchScript or exported program, found without an input; empty where they are not."""
    if (program := script(network)) is not None:
        return script_parts(program)
    graph: Any = getattr(network, "graph", None)
    inputs = [node.meta.get("val") for node in graph.nodes if node.op == "placeholder"] if graph else []
    try:
        return examine(network, tuple(map(int, inputs[0].shape))).outputs if len(inputs) == 1 else []
    except Exception:  # it wants another input than the one that was noted
        return []


def _guess(shapes: Shapes, weights: Path, pickled: object = None) -> Proposal:
    """What an unknown network tells by its first convolution and its last weights.

    safetensors are sorted by name; then first and last say nothing, and both numbers are 0.

    :param pickled: the class of the network that the file was made of, where it says so.
    :raises WeightsError: where there is no convolution.
    """
    convolutions = [shape for shape in shapes.values() if len(shape) in (4, 5)]
    if not convolutions:
        raise WeightsError(
            weights, "these weights have no 2D or 3D convolution", "networks of another kind have no card yet"
        )
    last = [shape for shape in shapes.values() if len(shape) > 1][-1]
    sorted_by_name = list(shapes) == sorted(shapes)
    dense = len(last) == 2 and not sorted_by_name
    return Proposal(
        name=f"{TO_FILL}: a network of monai.networks.nets by its name{f' (the file was made of a {pickled})' if pickled else ''}",
        task="classification" if dense else f"{TO_FILL}: classification or segmentation",
        ends=Ends(
            len(convolutions[0]) - 2,
            0 if sorted_by_name else convolutions[0][1],
            0 if sorted_by_name else last[0],
        ),
        arguments={},
    )


def _intensity() -> dict[str, Any]:
    """What a card says of how stored values become the network's."""
    return {"rule": f"{TO_FILL}: range or percentile (with lower and upper), zscore, eight_bit or none, as in training"}


def _slices(channels: int) -> dict[str, Any]:
    """What a 2D card says of its input."""
    if channels == 3:
        color = {"color": f"{TO_FILL}: rgb for colour pictures, or grey and three channels by name"}
    else:
        color = {"color": f"{TO_FILL}: grey, or luminance to take colour pictures too"}
    return {
        "spatial": {"mode": "slices", "axis": f"{TO_FILL}: axial, coronal or sagittal"},
        "input": {
            "channels": _inputs(1 if channels == 3 else channels),
            **color,
            "orientation": f"{TO_FILL}: native, or where i, j, k increase to, as LPS",
            "size": f"{TO_FILL}: [columns, rows] of the network's input, or null",
            "resampler": f"{TO_FILL}: linear, or pil_bilinear where PIL's resize was used in training",
            "intensity": _intensity(),
        },
    }


def _volumes(channels: int) -> dict[str, Any]:
    """What a 3D card says of its input."""
    return {
        "spatial": {"mode": f'{TO_FILL}: whole, or windows (and beside it "size": [i, j, k])'},
        "input": {
            "channels": _inputs(channels),
            "orientation": f"{TO_FILL}: native, or where i, j, k increase to, as RAS",
            "axis_order": f"{TO_FILL}: ijk (MONAI, nibabel) or kji (SimpleITK arrays)",
            "spacing": f"{TO_FILL}: [i, j, k] in mm, or null for the file's own",
            "intensity": _intensity(),
        },
    }


def _inputs(channels: int) -> list[dict[str, Any]]:
    """The channels by name."""
    return [{"name": "image"}] if channels == 1 else _one_each(channels, "input")


def _one_each(count: int, what: str) -> list[dict[str, Any]]:
    """A name to fill in for each of ``count`` things; 0 where their number is not known."""
    if count == 0:
        return [{"name": f"{TO_FILL}: the name of {what} 0, and such a line for each further one"}]
    return [{"name": f"{TO_FILL}: the name of {what} {n}"} for n in range(count)]
