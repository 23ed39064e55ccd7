"""The architectures, looked up by name: our own ones, else those of ``monai.networks.nets``."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    import torch

OWN = {"MeshNet": "meshnet", "SliceCNN": "slicecnn", "LesionNet": "lesionnet"}
"""Architecture and its module here; nothing is imported before it is asked for."""


def architecture(name: str) -> Callable[..., torch.nn.Module]:
    """What makes a network of this name: called with a card's ``network.arguments``.

    :raises InputError: for an unknown name, with near ones.
    """
    if name in OWN:
        return getattr(importlib.import_module(f".{OWN[name]}", __name__), name)
    import torch
    from monai.networks import nets

    found = getattr(nets, name, None)
    if isinstance(found, type) and issubclass(found, torch.nn.Module):
        return found
    known = [
        *OWN,
        *(n for n, kind in vars(nets).items() if isinstance(kind, type) and issubclass(kind, torch.nn.Module)),
    ]
    near = difflib.get_close_matches(name, known, 4, 0.4) or list(OWN)
    raise InputError(
        f"The architecture '{name}' (the card's field 'network.architecture') is unknown: near names are "
        f"{', '.join(near)}; any class of monai.networks.nets will do."
    )
