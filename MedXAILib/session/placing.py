"""May a layer's cells be shown where the trace says? What the trace knows, and what the network answers (:mod:`.probe`)."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..attribution.probe import CONFIRMED, CONTRADICTED, UNCLEAR, Answers, Verdict, ask, can_tell, judge, turned
from ..caveats import Caveat
from ..errors import LayerError, NetworkError
from ..models.layers import inspect
from ..models.running.guest import innermost, seed_of, state_of, weights_of
from ..prediction import feed
from ..progress import Progress
from ..recording.cache import RecordingCache
from ..recording.record import glimpse

if TYPE_CHECKING:
    import torch

    from ..models.layers import Layer
    from ..models.loading import Model
    from ..tiling import Tile, Tiling

NOT_CONFIRMED = Caveat(
    "place-not-confirmed", "Place traced, not confirmed: the network's own answers could not show where its cells lie."
)
NOT_ASKED = Caveat("place-not-confirmed", "Place traced, not confirmed: the network was not asked (no probe).")


class Placing:
    """The verdicts on some layers of one case.

    :param layers: that maps are asked of; none is asked again whose verdict is known.
    :param cache: on which the case will be recorded.
    :param probe: whether the network may be asked at all.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[Layer],
        tiling: Tiling,
        tensor: torch.Tensor,
        cache: RecordingCache,
        probe: bool,
    ) -> None:
        self.model, self.cache, self.probe = model, cache, probe
        self.known = _known(model.network)
        self.layers = {layer.name: layer for layer in layers}
        self.asked = [x for x in self.layers.values() if probe and can_tell(x) and self._key(x) not in self.known]
        if self.asked:
            self.tile, self.number, self.piece = _telling(tiling, tensor)
            self.asked = [self._as_asked(layer) for layer in self.asked]
            cache.watched = self.tile
        self.answers: Answers | None = None
        self.verdicts: dict[str, Verdict] = {}

    def _key(self, layer: Layer) -> tuple[Any, ...]:
        return layer.name, layer.shape, layer.cells, layer.hidden

    def _as_asked(self, layer: Layer) -> Layer:
        """The layer as the piece that is asked of goes through it, where cells lie elsewhere in each."""
        if not layer.data:
            return layer
        x = feed(self.model, self.piece)
        return next((seen for seen in inspect(self.model.network, x.shape, x) if seen.name == layer.name), layer)

    def ask(self, progress: Progress) -> None:
        """The two passes; before the recorded one, so that they do not stand beside its graph."""
        if self.asked:
            # it may refuse an input that is changed
            with suppress(NetworkError):
                self.answers = ask(self.model.network, feed(self.model, self.piece), self.asked, progress)

    def settle(self, progress: Progress) -> None:
        """Judge the answers, once the case is recorded."""
        if self.answers is None:
            return
        at_rest = self._at_rest(feed(self.model, self.piece), progress)
        for layer in self.asked:
            verdict = self.verdicts[layer.name] = judge(self.answers, layer, at_rest[layer.name])
            if verdict.what != UNCLEAR and not layer.data:
                self.known[self._key(layer)] = verdict
        self.answers = None

    def _at_rest(self, x: torch.Tensor, progress: Progress) -> dict[str, torch.Tensor]:
        """Activations for the input as it is: as they were recorded, or where they are not at hand by one more pass."""
        recording = self.cache.kept.get(self.tile)
        seen = recording.activations if recording else self.cache.seen
        self.cache.watched, self.cache.seen = None, {}
        found = {layer.name: self._own(seen.get(layer.name), layer) for layer in self.asked}
        at_hand = {name: activation for name, activation in found.items() if activation is not None}
        if len(at_hand) < len(found):
            return glimpse(
                self.model.network, x.clone(), list(found), progress, seed_of(self.model.network)
            ).activations
        return at_hand

    def _own(self, activation: torch.Tensor | None, layer: Layer) -> torch.Tensor | None:
        """What a layer gave for the one sample; None where it is not at hand, or samples cannot be told apart."""
        if activation is None or self.number is None:
            return activation
        axis = layer.grid_arrangement.batch
        return None if axis is None or layer.data else activation.detach().narrow(axis, self.number, 1)

    def place(self, layer: Layer) -> Layer:
        """The layer as it may be shown, with what limits belief in its place.

        :raises LayerError: where its cells do not lie where the trace says, or nobody knows where.
        """
        verdict: Verdict | None = self.known.get(self._key(layer)) or self.verdicts.get(layer.name)
        what = verdict.what if verdict else UNCLEAR
        if what == CONTRADICTED:
            raise LayerError(
                f"Where the cells of the layer '{layer.name}' lie is not known: the network answers as if they were elsewhere "
                "than its operators say, so a map would lie at the wrong place; choose another --layer, or a method that "
                "needs none, as saliency, ig or lime."
            )
        if not layer.hidden:
            doubt = None if what == CONFIRMED else NOT_CONFIRMED if self.probe else NOT_ASKED
            return replace(layer, doubt=doubt)
        if what != CONFIRMED or verdict is None:
            raise LayerError(
                f"Where the cells of the layer '{layer.name}' lie is not known: the operator {layer.hidden} on the way hides "
                "it, and the network's own answers do not show it; choose a --layer before it, or a method that needs none, "
                "as saliency, ig or lime."
            )
        found = Caveat(
            "place-found",
            f"The operator {layer.hidden} hides where the cells lie: their place was found by the network's own answers.",
        )
        return replace(read(layer, verdict), doubt=found)


def read(layer: Layer, verdict: Verdict) -> Layer:
    """A layer whose grid is read in another orientation."""
    if not verdict.flips and list(verdict.axes) == sorted(verdict.axes):
        return layer
    cells, _ = turned(layer, verdict.axes)
    order = [verdict.axes.index(axis) for axis in range(len(verdict.axes))]
    arrangement = layer.grid_arrangement.turned_to(order, [order.index(axis) for axis in verdict.flips])
    return replace(layer, arrangement=arrangement, cells=cells, shape=(layer.shape[0], *arrangement.sizes))


def _telling(tiling: Tiling, tensor: torch.Tensor) -> tuple[Tile, int | None, torch.Tensor]:
    """The sample with the most to see: its tile, its number there (None where it is the only one), and the piece itself."""
    pieces = tiling.pieces(tensor[None])
    found = (
        (float(x[n].float().var()), t, n if len(x) > 1 else None, x[n : n + 1])
        for t, x in pieces
        for n in range(len(x))
    )
    return max(found, key=lambda row: row[0])[1:]


_verdicts: weakref.WeakKeyDictionary[Any, tuple[Any, dict[tuple[Any, ...], Verdict]]] = weakref.WeakKeyDictionary()
"""Network to the state of it and of its weights, and to the verdicts on its layers."""


def _known(network: torch.nn.Module) -> dict[tuple[Any, ...], Verdict]:
    """Verdicts on a network, as long as it and its weights stay."""
    weights = [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in weights_of(network)]
    now = state_of(network), weights
    verdicts: dict[tuple[Any, ...], Verdict] = {}
    before, verdicts = _verdicts.get(innermost(network), (None, verdicts))
    if before != now:
        verdicts = {}
        _verdicts[innermost(network)] = now, verdicts
    return verdicts
