"""A layer: the output of one call of a module, and where its cells lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...caveats import Caveat
from .cells import Arrangement, Cells

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The output of one call of a module.

    :ivar name: as in ``named_modules()``; of a module that is called several times ``name#0``, ``name#1``, ...
    :ivar shape: without the batch: (channel, *cells) for a feature grid, on whichever axes its tensor keeps them.
    :ivar cells: None where the output is no feature grid.
    :ivar parameters: whether the module itself holds weights: kernels or a matrix, not the scale and shift of a norm.
    :ivar joined: the output is a skip connection's concatenation: a tensor beside what was computed from it, the latter
        with at least half of the channels (so no growing of a dense block, and no parallel branches).
    :ivar arrangement: how the output becomes such a grid.
    :ivar hidden: the operator on the way that hides where the cells lie: ``cells`` are a guess then.
    :ivar mixed: a cell sees more than its receptive field (attention, statistics of the whole).
    :ivar normed: by a norm's statistics: a constant added to the input is taken away again.
    :ivar pooled: number of the operator that pooled to a grid of its own at once; 0 for none.
    :ivar data: where the cells lie may depend on the values of the input.
    :ivar doubt: what is not known of where the cells lie.
    :ivar alone: whether the module returns this tensor and no other.
    :ivar used: whether the network's first output depends on it.
    :ivar attentions: products of attention that the network had computed before.
    :ivar step: number of the operator that made it; ``needs``: a bit for each operator that it depends on.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    cells: Cells | None
    parameters: bool
    arrangement: Arrangement | None = None
    joined: bool = False
    hidden: str = ""
    mixed: bool = False
    normed: bool = False
    pooled: int = 0
    data: bool = False
    doubt: Caveat | None = None
    alone: bool = True
    used: bool = True
    attentions: int = 0
    step: int = field(default=0, repr=False)
    needs: int = field(default=1, repr=False)

    @property
    def grid_cells(self) -> Cells:
        """``cells`` of a layer that is a feature grid."""
        assert self.cells is not None, self.name
        return self.cells

    @property
    def grid_arrangement(self) -> Arrangement:
        """``arrangement`` of a layer that is a feature grid."""
        assert self.arrangement is not None, self.name
        return self.arrangement


def count(layer: Layer) -> int:
    """Number of cells of a feature grid."""
    cells = 1
    for n in layer.shape[1:]:
        cells *= n
    return cells


def cells_of(layer: Layer) -> Cells:
    """Of a layer that is a feature grid."""
    assert layer.cells is not None, f"{layer.name} is no feature grid"
    return layer.cells


def as_grid(tensor: torch.Tensor, layer: Layer) -> torch.Tensor:
    """An activation of a layer that is a feature grid, or a gradient with respect to it, as (batch, channel, *cells): see
    :meth:`.cells.Arrangement.features`."""
    assert layer.arrangement is not None, f"{layer.name} is no feature grid"
    return layer.arrangement.features(tensor)


def around(layer: Layer) -> Iterator[str]:
    """Names of the modules around a layer's, the outermost first."""
    parts = layer.name.split("#")[0].split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts)))


def follows(one: Layer, other: Layer) -> bool:
    """Whether either is computed from the other."""
    return one is not other and bool(one.needs >> other.step & 1 or other.needs >> one.step & 1)
