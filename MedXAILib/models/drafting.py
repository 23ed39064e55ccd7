"""draft_card(): the model card of one's own network, as far as its weights tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from .card import TO_FILL, unfilled
from .inspection.examine import examine
from .loading import FROM_FILE, read_weights, sha256
from .networks import architecture
from .running.ends import MEANINGS
from .running.parts import Part, choose
from .running.script import script, script_parts
from .schema import SCHEMA_VERSION
from .weights.fitting import CUSTOMARY, beside, unwrapped

DENSENETS = ("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264")
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50")
MONAI = ("spatial_dims", "in_channels", "out_channels")
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Proposal:
    """An architecture that may fit some weights.

    :ivar arguments: what the weights tell.
    :ivar hidden: what they do not show: (a value to try the shapes with, what to ask for).
    :ivar channels: of the input.
    """

    name: str
    task: str
    dimensions: int
    channels: int
    classes: int
    arguments: dict
    hidden: dict = field(default_factory=dict)


def draft_card(weights: str | Path, trust: bool = False) -> tuple[dict, list[str]]:
    """A card for a weights file, and what is left to fill in it, one line for each field.

    What is left is marked in the card with a text that begins with ``FILL IN``; ``read_card`` refuses it until then.

    :param trust: consent to run a weights file that is a program.
    :raises InputError: for a file that cannot be opened.
    """
    import torch

    weights = Path(weights)
    content = read_weights(weights, trust)
    whole = isinstance(content, torch.nn.Module)
    if whole:
        known, shapes = None, {name: tuple(tensor.shape) for name, tensor in content.state_dict().items()}
    else:
        known, shapes = recognise(content.shapes)
    found = known or guess(shapes, weights, None if whole else content.whole)
    asked = {name: f"{TO_FILL}: {ask}" for name, (_, ask) in found.hidden.items()}
    draft = {
        "schema_version": SCHEMA_VERSION,
        "name": weights.stem,
        "description": "",
        "task": found.task,
        "network": {"architecture": FROM_FILE if whole else found.name, "arguments": {**found.arguments, **asked}},
        "weights": {"file": weights.name, "sha256": sha256(weights)},
        **(slices(found.channels) if found.dimensions == 2 else volumes(found.channels)),
        "output": {
            "labels": one_each(found.classes, "class"),
            "activation": f"{TO_FILL}: softmax where the classes exclude each other, else sigmoid",
            **({} if known else output(content if whole else None, found.dimensions)),
        },
        "provenance": "",
        "licence": "",
    }
    return draft, [f"{where}: {text}" for where, text in unfilled(draft)]


def recognise(shapes: Shapes) -> tuple[Proposal | None, Shapes]:
    """The known architecture of the weights in a checkpoint, and their shapes by its own names; where it is unknown, by
    names without those of the usual wrappers."""

    def without(names: Shapes) -> Shapes:
        return {name: shape for name, shape in names.items() if not beside(name)} or names

    own = plainest = without({unwrapped(name): shape for name, shape in shapes.items()})
    while (known := propose(own)) is None:
        first = next(iter(own)).partition(".")[0]
        if not all(name.startswith(f"{first}.") for name in own):
            return None, plainest
        own = without({name.removeprefix(f"{first}."): shape for name, shape in own.items()})
        if first in CUSTOMARY:
            plainest = own
    return known, own


def output(program, dimensions: int) -> dict:
    """What is seen of an unknown network's output: how it ends, and which of several tensors is meant.

    :param program: TorchScript or an exported program; None where there are weights only.
    """
    parts = [] if program is None else program_parts(program)
    part = choose(parts, dimensions) if parts else None
    which = {"which": part.path} if len(parts) > 1 else {}
    if part and part.end in MEANINGS:
        return dict(zip(("kind", "activation"), MEANINGS[part.end], strict=True)) | which
    kind = "logits, probabilities where the network ends in a sigmoid or softmax, or value (and beside it a unit)"
    return {"kind": f"{TO_FILL}: {kind}"} | which


def program_parts(network) -> list[Part]:
    """The tensors of the output of a TorchScript or exported program, found without an input; empty where they are not."""
    if (program := script(network)) is not None:
        return script_parts(program)
    graph = getattr(network, "graph", None)
    inputs = [node.meta.get("val") for node in graph.nodes if node.op == "placeholder"] if graph else []
    try:
        return examine(network, tuple(map(int, inputs[0].shape))).outputs if len(inputs) == 1 else []
    except Exception:  # it wants another input than the one that was noted
        return []


def guess(shapes: Shapes, weights: Path, pickled: object = None) -> Proposal:
    """What an unknown network tells by its first convolution and its last weights.

    safetensors are sorted by name; then first and last say nothing, and both numbers are 0.

    :param pickled: the class of the network that the file was made of, where it says so.
    :raises InputError: where there is no convolution.
    """
    convolutions = [shape for shape in shapes.values() if len(shape) in (4, 5)]
    if not convolutions:
        raise InputError(
            f"{weights}: these weights have no 2D or 3D convolution; networks of another kind have no card yet."
        )
    last = [shape for shape in shapes.values() if len(shape) > 1][-1]
    sorted_by_name = list(shapes) == sorted(shapes)
    dense = len(last) == 2 and not sorted_by_name
    return Proposal(
        name=f"{TO_FILL}: a network of monai.networks.nets by its name{f' (the file was made of a {pickled})' if pickled else ''}",
        task="classification" if dense else f"{TO_FILL}: classification or segmentation",
        dimensions=len(convolutions[0]) - 2,
        channels=0 if sorted_by_name else convolutions[0][1],
        classes=0 if sorted_by_name else last[0],
        arguments={},
    )


def intensity() -> dict:
    return {"rule": f"{TO_FILL}: range or percentile (with lower and upper), zscore, eight_bit or none, as in training"}


def slices(channels: int) -> dict:
    """What a 2D card says of its input."""
    if channels == 3:
        color = {"color": f"{TO_FILL}: rgb for colour pictures, or grey and three channels by name"}
    else:
        color = {"color": f"{TO_FILL}: grey, or luminance to take colour pictures too"}
    return {
        "spatial": {"mode": "slices", "axis": f"{TO_FILL}: axial, coronal or sagittal"},
        "input": {
            "channels": inputs(1 if channels == 3 else channels),
            **color,
            "orientation": f"{TO_FILL}: native, or where i, j, k increase to, as LPS",
            "size": f"{TO_FILL}: [columns, rows] of the network's input, or null",
            "resampler": f"{TO_FILL}: linear, or pil_bilinear where PIL's resize was used in training",
            "intensity": intensity(),
        },
    }


def volumes(channels: int) -> dict:
    """What a 3D card says of its input."""
    return {
        "spatial": {"mode": f'{TO_FILL}: whole, or windows (and beside it "size": [i, j, k])'},
        "input": {
            "channels": inputs(channels),
            "orientation": f"{TO_FILL}: native, or where i, j, k increase to, as RAS",
            "axis_order": f"{TO_FILL}: ijk (MONAI, nibabel) or kji (SimpleITK arrays)",
            "spacing": f"{TO_FILL}: [i, j, k] in mm, or null for the file's own",
            "intensity": intensity(),
        },
    }


def inputs(channels: int) -> list[dict]:
    return [{"name": "image"}] if channels == 1 else one_each(channels, "input")


def one_each(count: int, what: str) -> list[dict]:
    """A name to fill in for each of ``count`` things; 0 where their number is not known."""
    if count == 0:
        return [{"name": f"{TO_FILL}: the name of {what} 0, and such a line for each further one"}]
    return [{"name": f"{TO_FILL}: the name of {what} {n}"} for n in range(count)]


def propose(shapes: Shapes) -> Proposal | None:
    """The known architecture whose names and shapes are exactly these."""
    for reader in (meshnet, slicecnn, densenet, resnet, basic_unet, segresnet, unet):
        try:
            for proposal in reader(shapes):
                if fits(proposal, shapes):
                    return proposal
        except (LookupError, ValueError, TypeError, ArithmeticError):
            continue  # another network's weights lack what it looks for
    return None


def fits(proposal: Proposal, shapes: Shapes) -> bool:
    """Whether the network that is proposed has these names and shapes; built without memory for its weights."""
    import torch

    trial = {name: value for name, (value, _) in proposal.hidden.items()}
    try:
        with torch.device("meta"):
            network = architecture(proposal.name)(**proposal.arguments, **trial)
    except Exception:  # numbers read off the weights of another network make no sense to this one
        return False
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == shapes


def meshnet(shapes: Shapes) -> Iterator[Proposal]:
    first, count = shapes["model.0.weight"], sum(name.endswith(".weight") for name in shapes) - 1
    classes = shapes[f"model.{2 * count}.weight"][0]
    width = {"channels": first[0], "classes": classes, "in_channels": first[1]}
    dilations = ([1] * count, f"the {count} dilations, as [1, 2, 4, ...]")
    hidden = {"activation": ("relu", "relu or elu"), "dilations": dilations}
    yield Proposal("MeshNet", "segmentation", 3, first[1], classes, width, hidden)


def slicecnn(shapes: Shapes) -> Iterator[Proposal]:
    channels, classes = shapes["conv_layers.0.weight"][1], shapes["fc_layers.3.weight"][0]
    size = 4 * round((shapes["fc_layers.1.weight"][1] / 32) ** 0.5)
    width = {"classes": classes, "size": size, "in_channels": channels}
    yield Proposal("SliceCNN", "classification", 2, channels, classes, width)


def densenet(shapes: Shapes) -> Iterator[Proposal]:
    ends = ends_of(shapes["features.conv0.weight"], shapes["class_layers.out.weight"][0])
    yield from (Proposal(name, "classification", *ends, named_as(MONAI, ends)) for name in DENSENETS)


def resnet(shapes: Shapes) -> Iterator[Proposal]:
    ends = ends_of(shapes["conv1.weight"], shapes["fc.weight"][0])
    arguments = named_as(("spatial_dims", "n_input_channels", "num_classes"), ends)
    for name in RESNETS:
        for kind in "BA":
            yield Proposal(name, "classification", *ends, arguments | {"shortcut_type": kind})


def basic_unet(shapes: Shapes) -> Iterator[Proposal]:
    ends = ends_of(shapes["conv_0.conv_0.conv.weight"], shapes["final_conv.weight"][0])
    blocks = ["conv_0", *(f"down_{n}.convs" for n in range(1, 5)), "upcat_1.convs"]
    features = [shapes[f"{block}.conv_1.conv.weight"][0] for block in blocks]
    yield Proposal("BasicUNet", "segmentation", *ends, named_as(MONAI, ends) | {"features": features})


def segresnet(shapes: Shapes) -> Iterator[Proposal]:
    first = shapes["convInit.conv.weight"]
    ends = ends_of(first, shapes["conv_final.2.conv.weight"][0])
    blocks = {f"blocks_{way}": blocks_of(shapes, way) for way in ("down", "up")}
    yield Proposal("SegResNet", "segmentation", *ends, named_as(MONAI, ends) | {"init_filters": first[0]} | blocks)


def blocks_of(shapes: Shapes, way: str) -> list[int]:
    """Number of residual blocks at each level of a SegResNet."""
    found = {match.groups() for match in map(re.compile(rf"{way}_layers\.(\d+)\.(\d+)\.conv1").match, shapes) if match}
    return [sum(level == str(n) for level, _ in found) for n in range(len({level for level, _ in found}))]


def unet(shapes: Shapes) -> Iterator[Proposal]:
    """MONAI's UNet: each level holds the one below as ``1.submodule``."""
    first = [shape for name, shape in shapes.items() if name.startswith("model.0.") and len(shape) > 3][0]
    last = max(name for name in shapes if re.match(r"model\.2\..*conv\.bias", name))
    ends = ends_of(first, shapes[last][0])
    widths, prefix = [], "model."
    while any(name.startswith(f"{prefix}1.submodule.") for name in shapes):
        widths.append(width_of(shapes, f"{prefix}0."))
        prefix += "1.submodule."
    widths.append(width_of(shapes, prefix))
    units = len({match[0] for match in map(re.compile(r"model\.0\.conv\.unit\d+").match, shapes) if match})
    steps = ([2] * (len(widths) - 1), f"the {len(widths) - 1} steps between the levels, as [2, 2, ...]")
    arguments = named_as(MONAI, ends) | {"channels": widths, "num_res_units": units}
    yield Proposal("UNet", "segmentation", *ends, arguments, {"strides": steps})


def width_of(shapes: Shapes, prefix: str) -> int:
    return max(shape[0] for name, shape in shapes.items() if name.startswith(f"{prefix}conv") and len(shape) > 3)


def ends_of(first: tuple[int, ...], classes: int) -> tuple[int, int, int]:
    """Spatial dimensions, input channels and classes."""
    return len(first) - 2, first[1], classes


def named_as(names: tuple[str, str, str], ends: tuple[int, int, int]) -> dict:
    return dict(zip(names, ends, strict=True))
