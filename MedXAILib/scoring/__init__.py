"""What is explained: targets, and the scores of inputs."""

from .bound import BoundTarget
from .scorer import Scorer, TileScorer
from .targets import (
    ClassTarget,
    ComponentTarget,
    DifferenceTarget,
    FunctionTarget,
    MaskTarget,
    RegionTarget,
    Target,
    VoxelTarget,
    resolve,
)

__all__ = [
    "BoundTarget", "ClassTarget", "ComponentTarget", "DifferenceTarget", "FunctionTarget", "MaskTarget", "RegionTarget", "Scorer",
    "Target", "TileScorer", "VoxelTarget", "resolve",
]  # fmt: skip
