"""The architectures, looked up by name: our own ones, else those of ``monai.networks.nets``."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    import torch

OWN = {
    "MeshNet": "meshnet",
    "SliceCNN": "slicecnn",
    "LesionNet": "lesionnet",
    "DoubleUNet": "doubleunet",
    "R2UNet": "r2unet",
    "MCGUNet": "mcgunet",
    "BrainTumorCNN": "braintumorcnn",
    "UNetClassifier": "unetclassifier",
}
"""Architecture and its module here; nothing is imported before it is asked for."""


def architecture(name: str) -> Callable[..., torch.nn.Module]:
    """What makes a network of this name: called with a card's ``network.arguments``.

    :raises InputError: for an unknown name, with near ones.
    """
    if name in OWN:
        make: Callable[..., torch.nn.Module] = getattr(importlib.import_module(f".{OWN[name]}", __name__), name)
        return make
    known = monai_networks()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, [*OWN, *known], 4, 0.4) or list(OWN)
    raise InputError(
        f"The architecture '{name}' (the card's field 'network.architecture') is unknown",
        f"near names are {', '.join(near)}; any network of monai.networks.nets can be named. For a class of your own save the "
        "network with torch.export, and write 'file' there",
        joint=": ",
    )


def monai_networks() -> dict[str, Callable[..., torch.nn.Module]]:
    """The classes of monai.networks.nets, and the functions that make its ResNets."""
    import torch
    from monai.networks import nets

    return {
        name: make
        for name, make in vars(nets).items()
        if (isinstance(make, type) and issubclass(make, torch.nn.Module)) or re.fullmatch(r"resnet\d+", name)
    }
