"""A layer's elements as a grid of cells in the network's input, and the way from one to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Cells:
    """Position of a feature grid in the input, one number for each spatial axis, in input voxels.

    Along each axis cell n has its centre at voxel ``offset + stride * n``.
    """

    stride: tuple[float, ...]
    offset: tuple[float, ...]
    field: tuple[float, ...]
    """Receptive field."""
    seen: tuple[tuple[float, float], ...]
    """The first and the last voxel that the network did not crop away."""
    exact: bool = True
    """False: some cells lie up to a cell beside their place here (uneven pooling, sampling)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Arrangement:
    """How a layer's tensor becomes (batch, channel, *cells).

    :ivar batch, channel: axes of the tensor, None where it has none.
    :ivar sizes: cells along each axis.
    :ivar axes: for each axis of the grid, the axis of the tensor that it is (None: one cell), and in ``turned`` whether it
        runs backwards; where the cells stand in rows and columns.
    :ivar carriers: elsewhere, the axes of the tensor that carry places; its elements are numbered along these.
    :ivar order: the elements that belong to a cell; in the order of the cells, where each is one element.
    :ivar cell: the cell of each of these, where a cell may be several elements or none.
    :ivar near: of each cell, the one whose value it shows: its own, or the nearest one that elements belong to, where these
        lie unevenly and see the cell as well; -1 for none.
    :ivar elements: how many there are, those of no cell (a class token) among them.
    """

    batch: int | None
    channel: int | None
    sizes: tuple[int, ...]
    axes: tuple[int | None, ...] = ()
    turned: tuple[bool, ...] = ()
    carriers: tuple[int, ...] = ()
    order: torch.Tensor | range = range(0)
    cell: torch.Tensor | None = None
    elements: int = 0
    near: torch.Tensor | None = None

    @property
    def used(self) -> int:
        """How many elements belong to a cell."""
        return len(self.order) if self.carriers else math.prod(self.sizes)

    def features(self, tensor: torch.Tensor) -> torch.Tensor:
        """The activation of a layer, or a gradient with respect to it, as (batch, channel, *cells): a view where cells
        stand in rows and columns and run forwards; (batch, channel, elements) where a cell is not one element."""
        if not self.carriers:
            tensor = self._in_front(tensor, self.axes)
            turned = [axis + 2 for axis, backwards in enumerate(self.turned) if backwards]
            return tensor.flip(turned) if turned else tensor
        elements = self._in_front(tensor, self.carriers).flatten(2)
        if isinstance(self.order, range):
            elements = elements[:, :, self.order.start : self.order.stop]
        else:
            elements = elements.index_select(2, self.order.to(tensor.device))
        return elements.unflatten(2, self.sizes) if self.cell is None else elements

    def _in_front(self, tensor: torch.Tensor, axes: Sequence[int | None]) -> torch.Tensor:
        """Batch, channel and ``axes`` first; None is a new axis, others of size 1 go."""
        wanted = (self.batch, self.channel, *axes)
        rest = [axis for axis in range(tensor.ndim) if axis not in wanted]
        for axis in reversed(rest):
            tensor = tensor.squeeze(axis)
        order = sorted(axis for axis in wanted if axis is not None)
        tensor = tensor.permute([order.index(axis) for axis in wanted if axis is not None])
        for place in (place for place, axis in enumerate(wanted) if axis is None):
            tensor = tensor.unsqueeze(place)
        return tensor

    def lay(self, values: torch.Tensor, summed: bool = False) -> torch.Tensor:
        """A map (batch, ..., *cells), or (batch, ..., elements) as :meth:`features` ordered them, as (batch, ..., *cells):
        the elements of a cell are averaged, or ``summed`` and parted among the cells that show it; what shows none is 0."""
        import torch

        if self.cell is None or self.near is None:
            return values
        cell, count = self.cell.to(values.device), math.prod(self.sizes)
        result = values.new_zeros(*values.shape[:-1], count).index_add(-1, cell, values)
        near = self.near.to(values.device)
        parts = near[near >= 0] if summed else cell
        result = result / torch.bincount(parts, minlength=count).clamp(min=1).to(result)
        laid: torch.Tensor = (result[..., near] * (near >= 0)).unflatten(-1, self.sizes)
        return laid

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Values of cells (*cells) for the elements, as :meth:`features` orders them."""
        return values if self.cell is None else values.flatten()[self.cell.to(values.device)]

    def turned_to(self, axes: Sequence[int], flips: Sequence[int]) -> Arrangement:
        """The same elements read as a grid whose axes are exchanged or run backwards."""
        import torch

        if self.cell is not None:
            raise ValueError("a grid of cells that are several elements has no other orientation")
        if self.carriers:
            order, carriers = torch.as_tensor(list(self.order)), self.carriers
        else:
            carriers = tuple(axis for axis in self.axes if axis is not None)
            order = torch.arange(math.prod(self.sizes)).reshape(self.sizes)
            order = order.flip([a for a, backwards in enumerate(self.turned) if backwards]).flatten()
        order = order.reshape(self.sizes).permute(*axes).flip(list(flips))
        sizes = tuple(order.shape)
        return Arrangement(
            batch=self.batch,
            channel=self.channel,
            sizes=sizes,
            carriers=carriers,
            order=order.flatten(),
            elements=self.elements,
        )
