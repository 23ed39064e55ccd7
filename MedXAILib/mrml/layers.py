"""Which volumes lie over each other in the slice views."""

from __future__ import annotations

from collections.abc import Sequence

from .host import Host, Node
from .layouts import is_side_by_side, slice_logics

OPACITY = 0.5
"""Opacity of a heat map over its volume."""
FIRST_FURTHER = 3
"""Layers 0, 1 and 2 of a slice view are background, foreground and labels."""

Further = tuple[tuple[str, float], ...]
"""(volume ID, opacity) of the layers above foreground and labels."""


def show_maps(host: Host, volume: Node, maps: Sequence[Node], opacity: float) -> None:
    """Lay maps over their volume in all slice views; without maps, the volume alone."""
    for logic in slice_logics(host, own=False):
        lay_over(logic, volume, maps, opacity)


def lay_over(logic: Node, volume: Node, maps: Sequence[Node], opacity: float) -> None:
    """Lay maps over their volume in one slice view; it is fitted to a volume that it did not show before."""
    layers = logic.GetSliceCompositeNode()
    new = layers.GetBackgroundVolumeID() != volume.GetID()
    layers.SetBackgroundVolumeID(volume.GetID())
    layers.SetForegroundVolumeID(maps[0].GetID() if maps else None)
    layers.SetForegroundOpacity(opacity)
    set_further(layers, tuple((node.GetID(), opacity) for node in maps[1:]))
    if new:
        logic.FitSliceToBackground()


def show_labels(host: Host, labels: Node) -> None:
    """Lay a label volume over whatever the slice views show."""
    for logic in slice_logics(host):
        logic.GetSliceCompositeNode().SetLabelVolumeID(labels.GetID())
        logic.GetSliceCompositeNode().SetLabelOpacity(0.5)


def further(layers: Node) -> Further:
    """The layers above foreground and labels. An application without them has none."""
    count = layers.GetNumberOfAdditionalLayers() if hasattr(layers, "GetNumberOfAdditionalLayers") else 0
    numbers = range(FIRST_FURTHER, FIRST_FURTHER + count)
    found = [(layers.GetNthLayerVolumeID(n), layers.GetNthLayerOpacity(n)) for n in numbers]
    return tuple((volume, opacity) for volume, opacity in found if volume)


def set_further(layers: Node, wanted: Further) -> None:
    """Show these as further layers, and clear the others."""
    if not hasattr(layers, "GetNumberOfAdditionalLayers"):
        return
    for n, (volume, opacity) in enumerate(wanted, FIRST_FURTHER):
        layers.SetNthLayerVolumeID(n, volume)
        layers.SetNthLayerOpacity(n, opacity)
    last = FIRST_FURTHER + layers.GetNumberOfAdditionalLayers() - 1
    # from the top: a cleared layer makes those above it sink
    for n in range(last, FIRST_FURTHER + len(wanted) - 1, -1):
        layers.SetNthLayerVolumeID(n, None)


def take_away(host: Host, maps: Sequence[Node]) -> None:
    """Leave these maps out of every slice view."""
    taken = {node.GetID() for node in maps}
    for logic in slice_logics(host):
        layers = logic.GetSliceCompositeNode()
        if layers.GetBackgroundVolumeID() in taken:
            layers.SetBackgroundVolumeID(None)
        if layers.GetForegroundVolumeID() in taken:
            layers.SetForegroundVolumeID(None)
        set_further(layers, tuple(each for each in further(layers) if each[0] not in taken))


def shown_maps(host: Host, maps: Sequence[Node]) -> list[Node]:
    """Those of the maps that lie over their volume in a slice view, side by side or not."""
    seen: set[str | None] = set()
    for logic in slice_logics(host, own=None if is_side_by_side(host) else False):
        layers = logic.GetSliceCompositeNode()
        seen.update((layers.GetForegroundVolumeID(), *(volume for volume, _ in further(layers))))
    return [node for node in maps if node.GetID() in seen]


def backgrounds(host: Host) -> set[str | None]:
    """IDs of the volumes at the bottom of the slice views."""
    return {logic.GetSliceCompositeNode().GetBackgroundVolumeID() for logic in slice_logics(host)}
