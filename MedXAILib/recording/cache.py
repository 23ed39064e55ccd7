"""Recordings of the tiles of one input, kept within a limit of bytes."""

from __future__ import annotations

import time
import weakref
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from ..progress import Progress, silent
from .record import record
from .recording import Recording

if TYPE_CHECKING:
    import torch


class RecordingCache:
    """What was recorded of the tiles of one input; what is not kept is recorded again when asked for.

    :param layers: whose activations are recorded; without any, a recording is a bare forward pass.
    :param limit: bytes; a single tile is always kept, so that prediction and explanation share one forward pass. With
        0 it is the last one: what is needed for windows, whose number grows with the volume.
    :param seed: of the random numbers that the network may draw; see :meth:`draw_from`.
    :ivar kept: tile -> its recording.
    :ivar passes: forward passes so far; ``seconds``: how long they took together.
    :ivar watched: a tile whose activations stay in ``seen`` (layer -> activation) when it is recorded.
    """

    def __init__(self, network: torch.nn.Module, layers: Sequence[str], limit: int = 2 << 30, seed: int = 0) -> None:
        self.network, self.layers, self.limit, self.seed = network, tuple(layers), limit, seed
        self.kept: dict[Hashable, Recording] = {}
        self.passes, self.seconds = 0, 0.0
        self.watched: Hashable | None = None
        self.seen: dict[str, torch.Tensor] = {}
        self._listener: Progress = silent

    def recording(self, key: Hashable, x: torch.Tensor, progress: Progress = silent) -> Recording:
        """What was recorded of the tile ``key``; recorded from ``x`` where it is not at hand.

        :param progress: is told of this pass, and of later ones back through it, until another one is given.
        """
        self._listener = progress
        if key in self.kept:
            return self.kept[key]
        if self.limit == 0:
            self.kept.clear()
        began = time.perf_counter()
        found = record(self.network, x, self.layers, self._reporter(), seed=self.seed)
        self.passes, self.seconds = self.passes + 1, self.seconds + time.perf_counter() - began
        if key == self.watched:
            self.seen = {layer: activation.detach() for layer, activation in found.activations.items()}
        own = (*self.network.parameters(), *self.network.buffers())
        found.size = found.bytes(frozenset(tensor.untyped_storage().data_ptr() for tensor in own))
        if not self.kept or 2 * found.size + self.size <= self.limit:  # else room is left for the one recorded next
            self.kept[key] = found
        return found

    def draw_from(self, seed: int) -> None:
        """Later passes draw from this seed; recordings of a network that draws random numbers are let go where it is
        another."""
        if seed != self.seed and any(found.random for found in self.kept.values()):
            self.kept.clear()
        self.seed = seed

    @property
    def size(self) -> int:
        """Bytes that the kept recordings hold."""
        return sum(found.size for found in self.kept.values())

    def _reporter(self) -> Progress:
        """Reports to whoever listens at the time: a pass backwards may belong to a later request than the recording did.

        The graph holds it and cannot be searched for cycles: a reference to this cache would never be let go.
        """
        me = weakref.ref(self)

        def report(done: float, total: float, text: str) -> None:
            if (cache := me()) is not None:
                cache._listener(done, total, text)

        return report
