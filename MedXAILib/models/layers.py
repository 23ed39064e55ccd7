"""The layers of a network: names, output shapes, where their cells lie, and which one to explain.

The face of :mod:`MedXAILib.models.inspection` for other rooms and for scripts::

    from MedXAILib.models.layers import default_layer, find, inspect

    layers = inspect(network, (1, 1, 96, 96, 96))  # every module call, in one pass without a voxel computed
    name, why = default_layer(layers)
    find(layers, name).cells.stride  # voxels of the input from one cell to the next
"""

from __future__ import annotations

from .inspection.choice import (
    calls,
    coarsest_stride,
    default_layer,
    find,
    grids,
    last_decoder,
    side_by_side,
    stages,
)
from .inspection.examine import Inspection, examine, inspect
from .inspection.layer import Layer, as_grid, count
from .inspection.memory import backward_bytes, forward_bytes

__all__ = [
    "Inspection",
    "Layer",
    "as_grid",
    "backward_bytes",
    "calls",
    "coarsest_stride",
    "count",
    "default_layer",
    "examine",
    "find",
    "forward_bytes",
    "grids",
    "inspect",
    "last_decoder",
    "side_by_side",
    "stages",
]
