"""Which architecture the names and shapes of some weights are those of, and with which arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .networks import architecture
from .weights.fitting import CUSTOMARY, beside, unwrapped

DENSENETS = ("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264")
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50")
MONAI = ("spatial_dims", "in_channels", "out_channels")
Shapes = Mapping[str, tuple[int, ...]]
"""By name."""


class Ends(NamedTuple):
    """Spatial dimensions, channels of the input, and classes."""

    dimensions: int
    channels: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An architecture that may fit some weights.

    :ivar arguments: what the weights tell.
    :ivar hidden: what they do not show: (a value to try the shapes with, what to ask for).
    """

    name: str
    task: str
    ends: Ends
    arguments: dict[str, Any]
    hidden: dict[str, tuple[Any, str]] = field(default_factory=dict)


def recognise(shapes: Shapes) -> tuple[Proposal | None, Shapes]:
    """The known architecture of the weights in a checkpoint, and their shapes by its own names; where it is unknown, by
    names without those of the usual wrappers."""

    def without(names: Shapes) -> Shapes:
        return {name: shape for name, shape in names.items() if not beside(name)} or names

    own: Shapes = without({unwrapped(name): shape for name, shape in shapes.items()})
    plainest = own
    while (known := _propose(own)) is None:
        first = next(iter(own)).partition(".")[0]
        if not all(name.startswith(f"{first}.") for name in own):
            return None, plainest
        own = without({name.removeprefix(f"{first}."): shape for name, shape in own.items()})
        if first in CUSTOMARY:
            plainest = own
    return known, own


def _propose(shapes: Shapes) -> Proposal | None:
    """The known architecture whose names and shapes are exactly these."""
    for reader in (_meshnet, _slicecnn, _densenet, _resnet, _basic_unet, _segresnet, _unet):
        try:
            for proposal in reader(shapes):
                if _fits(proposal, shapes):
                    return proposal
        except (LookupError, ValueError, TypeError, ArithmeticError):
            continue  # another network's weights lack what it looks for
    return None


def _fits(proposal: Proposal, shapes: Shapes) -> bool:
    """Whether the network that is proposed has these names and shapes; built without memory for its weights."""
    import torch

    trial = {name: value for name, (value, _) in proposal.hidden.items()}
    try:
        with torch.device("meta"):
            network = architecture(proposal.name)(**proposal.arguments, **trial)
    except Exception:  # numbers read off the weights of another network make no sense to this one
        return False
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == shapes


def _meshnet(shapes: Shapes) -> Iterator[Proposal]:
    first, count = shapes["model.0.weight"], sum(name.endswith(".weight") for name in shapes) - 1
    classes = shapes[f"model.{2 * count}.weight"][0]
    width = {"channels": first[0], "classes": classes, "in_channels": first[1]}
    dilations = ([1] * count, f"the {count} dilations, as [1, 2, 4, ...]")
    hidden = {"activation": ("relu", "relu or elu"), "dilations": dilations}
    yield Proposal(
        name="MeshNet",
        task="segmentation",
        ends=Ends(3, first[1], classes),
        arguments=width,
        hidden=hidden,
    )


def _slicecnn(shapes: Shapes) -> Iterator[Proposal]:
    channels, classes = shapes["conv_layers.0.weight"][1], shapes["fc_layers.3.weight"][0]
    size = 4 * round((shapes["fc_layers.1.weight"][1] / 32) ** 0.5)
    width = {"classes": classes, "size": size, "in_channels": channels}
    yield Proposal(name="SliceCNN", task="classification", ends=Ends(2, channels, classes), arguments=width)


def _densenet(shapes: Shapes) -> Iterator[Proposal]:
    ends = _ends_of(shapes["features.conv0.weight"], shapes["class_layers.out.weight"][0])
    for name in DENSENETS:
        yield Proposal(name=name, task="classification", ends=ends, arguments=_named_as(MONAI, ends))


def _resnet(shapes: Shapes) -> Iterator[Proposal]:
    ends = _ends_of(shapes["conv1.weight"], shapes["fc.weight"][0])
    arguments = _named_as(("spatial_dims", "n_input_channels", "num_classes"), ends)
    for name in RESNETS:
        for kind in "BA":
            shortcut = {"shortcut_type": kind}
            yield Proposal(name=name, task="classification", ends=ends, arguments=arguments | shortcut)


def _basic_unet(shapes: Shapes) -> Iterator[Proposal]:
    ends = _ends_of(shapes["conv_0.conv_0.conv.weight"], shapes["final_conv.weight"][0])
    blocks = ["conv_0", *(f"down_{n}.convs" for n in range(1, 5)), "upcat_1.convs"]
    features = [shapes[f"{block}.conv_1.conv.weight"][0] for block in blocks]
    arguments = _named_as(MONAI, ends) | {"features": features}
    yield Proposal(name="BasicUNet", task="segmentation", ends=ends, arguments=arguments)


def _blocks_of(shapes: Shapes, way: str) -> list[int]:
    """Number of residual blocks at each level of a SegResNet."""
    found = {match.groups() for match in map(re.compile(rf"{way}_layers\.(\d+)\.(\d+)\.conv1").match, shapes) if match}
    return [sum(level == str(n) for level, _ in found) for n in range(len({level for level, _ in found}))]


def _segresnet(shapes: Shapes) -> Iterator[Proposal]:
    first = shapes["convInit.conv.weight"]
    ends = _ends_of(first, shapes["conv_final.2.conv.weight"][0])
    blocks = {f"blocks_{way}": _blocks_of(shapes, way) for way in ("down", "up")}
    arguments = _named_as(MONAI, ends) | {"init_filters": first[0]} | blocks
    yield Proposal(name="SegResNet", task="segmentation", ends=ends, arguments=arguments)


def _unet(shapes: Shapes) -> Iterator[Proposal]:
    """MONAI's UNet: each level holds the one below as ``1.submodule``."""
    first = [shape for name, shape in shapes.items() if name.startswith("model.0.") and len(shape) > 3][0]
    last = max(name for name in shapes if re.match(r"model\.2\..*conv\.bias", name))
    ends = _ends_of(first, shapes[last][0])
    widths, prefix = [], "model."
    while any(name.startswith(f"{prefix}1.submodule.") for name in shapes):
        widths.append(_width_of(shapes, f"{prefix}0."))
        prefix += "1.submodule."
    widths.append(_width_of(shapes, prefix))
    units = len({match[0] for match in map(re.compile(r"model\.0\.conv\.unit\d+").match, shapes) if match})
    steps = ([2] * (len(widths) - 1), f"the {len(widths) - 1} steps between the levels, as [2, 2, ...]")
    arguments = _named_as(MONAI, ends) | {"channels": widths, "num_res_units": units}
    yield Proposal(name="UNet", task="segmentation", ends=ends, arguments=arguments, hidden={"strides": steps})


def _width_of(shapes: Shapes, prefix: str) -> int:
    return max(shape[0] for name, shape in shapes.items() if name.startswith(f"{prefix}conv") and len(shape) > 3)


def _ends_of(first: tuple[int, ...], classes: int) -> Ends:
    """From the shape of the first convolution's weights."""
    return Ends(len(first) - 2, first[1], classes)


def _named_as(names: tuple[str, str, str], ends: Ends) -> dict[str, Any]:
    return dict(zip(names, ends, strict=True))
