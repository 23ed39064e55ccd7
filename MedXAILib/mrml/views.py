"""What the views show and from where: remembered, brought back, and moved to a place. No voxel is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from .appearance import Visibility, our_displays, set_visibility, visibility_of, visibility_when_new
from .host import Host, Node
from .layers import Further, further, set_further
from .layouts import arrangement, layout_node, slice_logics
from .side_by_side import leave_side_by_side
from .slices import is_in_view

T = TypeVar("T")


@dataclass(frozen=True)
class Layers:
    """The volumes of a slice view, by their IDs."""

    background: str | None
    foreground: str | None
    labels: str | None
    opacity: float
    further: Further


@dataclass(frozen=True)
class Place:
    """Position, direction and zoom of a slice view."""

    matrix: tuple[float, ...]
    """Slice to RAS, by rows."""
    size: tuple[int, int, int]
    """In pixels."""
    field_of_view: tuple[float, float, float]
    """In mm."""
    origin: tuple[float, float, float]


@dataclass(frozen=True)
class Views:
    """What the views show and from where, in plain values; slice views by their layout names."""

    layout: int | None
    slices: dict[str, Layers]
    places: dict[str, Place]
    visibility: dict[str, Visibility]
    """Of display nodes by their IDs, where they are no longer as they were when they were new."""


def remember_views(host: Host) -> Views:
    """The views as they are now, for :func:`restore_views`."""
    logics = {logic.GetSliceNode().GetLayoutName(): logic for logic in slice_logics(host, own=False)}
    return Views(
        layout=arrangement(host),
        slices={name: layers_of(logic) for name, logic in logics.items()},
        places={name: place_of(logic) for name, logic in logics.items()},
        visibility={
            node.GetID(): visibility_of(node)
            for node in our_displays(host)
            if visibility_of(node) != visibility_when_new(node)
        },
    )


def updated_views(host: Host, before: Views, left: Views) -> Views:
    """What :func:`restore_views` is to bring: ``before``, but where something was changed by others, what they made of it.

    :param left: the views as they were left here the last time. Positions are kept as in ``before``.
    """
    now = remember_views(host)
    slices = {}
    for name, today in now.slices.items():
        last = still_there(host, left.slices.get(name, today))
        slices[name] = newest_layers(before.slices.get(name, today), last, today)
    keys = before.visibility.keys() | now.visibility.keys() | left.visibility.keys()
    shown = {key: newest(before.visibility.get(key), left.visibility.get(key), now.visibility.get(key)) for key in keys}
    return Views(
        layout=newest(before.layout, left.layout, now.layout),
        slices=slices,
        places=now.places | before.places,
        visibility={key: one for key, one in shown.items() if one is not None},
    )


def newest(then: T, last: T, today: T) -> T:
    """What was there first, but where others have changed it since the last time, what they made of it."""
    return then if today == last else today


def newest_layers(then: Layers, last: Layers, today: Layers) -> Layers:
    """:func:`newest` of each layer by itself."""
    names = [field.name for field in fields(Layers)]
    return Layers(**{name: newest(getattr(then, name), getattr(last, name), getattr(today, name)) for name in names})


def still_there(host: Host, state: Layers) -> Layers:
    """Layers without those whose volume was removed from the scene."""

    def found(volume: str | None) -> str | None:
        return volume if volume and host.scene.GetNodeByID(volume) else None

    return replace(
        state,
        background=found(state.background),
        foreground=found(state.foreground),
        labels=found(state.labels),
        further=tuple(each for each in state.further if found(each[0])),
    )


def without_maps(views: Views, maps: Sequence[Node]) -> Views:
    """Views in which these maps do not lie."""
    taken = {node.GetID() for node in maps}
    slices = {
        name: replace(
            state,
            background=None if state.background in taken else state.background,
            foreground=None if state.foreground in taken else state.foreground,
            further=tuple(each for each in state.further if each[0] not in taken),
        )
        for name, state in views.slices.items()
    }
    return replace(views, slices=slices)


def layers_of(logic: Node) -> Layers:
    """The volumes of a slice view now."""
    layers = logic.GetSliceCompositeNode()
    return Layers(
        layers.GetBackgroundVolumeID(),
        layers.GetForegroundVolumeID(),
        layers.GetLabelVolumeID(),
        layers.GetForegroundOpacity(),
        further(layers),
    )


def place_of(logic: Node) -> Place:
    """Position, direction and zoom of a slice view now."""
    node = logic.GetSliceNode()
    matrix = node.GetSliceToRAS()
    return Place(
        tuple(matrix.GetElement(row, column) for row in range(4) for column in range(4)),
        node.GetDimensions(),
        node.GetFieldOfView(),
        node.GetXYZOrigin(),
    )


def restore_views(host: Host, before: Views) -> None:
    """The views as :func:`remember_views` found them; nodes removed since then stay away."""
    leave_side_by_side(host)
    if before.layout is not None and (layout := layout_node(host)) is not None:
        layout.SetViewArrangement(before.layout)
    for logic in slice_logics(host, own=False):
        name = logic.GetSliceNode().GetLayoutName()
        if name in before.slices:
            restore_layers(logic, before.slices[name], still_there(host, before.slices[name]))
            restore_place(logic, before.places[name])
    for node in our_displays(host):
        set_visibility(node, before.visibility.get(node.GetID(), visibility_when_new(node)))


def restore_layers(logic: Node, before: Layers, state: Layers) -> None:
    """The layers that are still there; in place of a removed background, the one shown now stays."""
    layers = logic.GetSliceCompositeNode()
    if state.background == before.background:
        layers.SetBackgroundVolumeID(state.background)
    layers.SetForegroundVolumeID(state.foreground)
    layers.SetLabelVolumeID(state.labels)
    layers.SetForegroundOpacity(state.opacity)
    set_further(layers, state.further)


def restore_place(logic: Node, state: Place) -> None:
    """Position, direction and zoom; where the view has another size now, its scale in mm for each pixel is kept."""
    node = logic.GetSliceNode()
    node.GetSliceToRAS().DeepCopy(state.matrix)
    width, height, _ = node.GetDimensions()
    across, up, deep = state.field_of_view
    node.SetFieldOfView(across * width / state.size[0], up * height / state.size[1], deep)
    node.SetXYZOrigin(*state.origin)
    node.UpdateMatrices()


def jump(host: Host, ras: ArrayLike) -> None:
    """Put every slice view through a world RAS point; a view whose field of view it lies outside of moves its centre there."""
    x, y, z = (float(part) for part in np.asarray(ras))
    for logic in slice_logics(host):
        node = logic.GetSliceNode()
        node.JumpSliceByOffsetting(x, y, z)
        if not is_in_view(node, ras):
            node.JumpSliceByCentering(x, y, z)
