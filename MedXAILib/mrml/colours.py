"""The colours of a map's node and the range of its values that is not transparent. No voxel is touched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .host import Node
from .nodes import add_color_table
from .palette import PAIRS, RAMPS, THRESHOLD, ramp
from .rendering import Row, rendering_of, set_transfer

WINDOW, RANGE, COLORS, TABLE = "MedXAI.Window", "MedXAI.Range", "MedXAI.Colors", "MedXAI.ColorTable"
LEVELS = 256
"""Slicer tells so many values between the first and the last colour apart."""


def window_of(map_node: Node) -> tuple[float, float]:
    """The values of the first and the last colour; of a signed map the first is negative."""
    low, high = (float(part) for part in map_node.GetAttribute(WINDOW).split())
    return low, high


def is_signed(map_node: Node) -> bool:
    """Whether a map tells against from in favour."""
    return window_of(map_node)[0] < 0


def bounds_of(map_node: Node) -> tuple[float, float]:
    """What a range can reach: an unsigned map's own values; a signed one's strengths up to its last colour."""
    if is_signed(map_node):
        return 0.0, window_of(map_node)[1]
    low, high = map_node.GetImageData().GetScalarRange()
    return min(0.0, low), max(high, window_of(map_node)[1])


def range_of(map_node: Node) -> tuple[float, float]:
    """The values, or of a signed map the strengths, that are not transparent."""
    if is_signed(map_node):
        limit = window_of(map_node)[1]
        given = map_node.GetAttribute(RANGE)
        low, high = (float(part) for part in given.split()) if given else (THRESHOLD * limit, limit)
        return low, high
    display = map_node.GetDisplayNode()
    return display.GetLowerThreshold(), display.GetUpperThreshold()


def set_range(map_node: Node, low: float, high: float) -> None:
    """Make everything outside of these values transparent; of a signed map, outside of these strengths.

    The strength of a signed map's last colour stands for all stronger ones too.
    """
    if is_signed(map_node):
        map_node.SetAttribute(RANGE, f"{low!r} {high!r}")
        write_table(map_node)
    else:
        map_node.GetDisplayNode().SetThreshold(low, high)
        map_node.GetDisplayNode().SetApplyThreshold(1)
    sync_rendering(map_node)


def colors_for(map_node: Node) -> list[str]:
    """The names that :func:`set_colors` takes for this map; the first is preset."""
    return list(PAIRS if is_signed(map_node) else RAMPS)


def colors_of(map_node: Node) -> str:
    """The name of the colours that a map is shown in."""
    return str(map_node.GetAttribute(COLORS) or colors_for(map_node)[0])


def set_colors(map_node: Node, name: str) -> None:
    """Show a map in other colours, over the same values."""
    map_node.SetAttribute(COLORS, name)
    display = map_node.GetDisplayNode()
    if is_signed(map_node):
        write_table(map_node)
    else:
        display.SetAndObserveColorNodeID(shared_table(map_node.GetScene(), name).GetID())
    display.SetAutoWindowLevel(0)
    display.SetWindowLevelMinMax(*window_of(map_node))
    sync_rendering(map_node)


def shared_table(scene: Node, name: str) -> Node:
    """The colour table of unsigned maps of this name, made once for each scene."""
    title = f"MedXAI {name.lower()}"
    node = scene.GetFirstNode(title, "vtkMRMLColorTableNode")
    if node is None:
        node = add_color_table(scene, title, np.column_stack([ramp(RAMPS[name], 256), np.ones(256)]))
        node.SetHideFromEditors(False)
    return node


def write_table(map_node: Node) -> None:
    """Write a signed map's own table: its colours, transparent outside of its range on both sides of zero."""
    colors = signed_colors(map_node)
    node = map_node.GetNodeReference(TABLE)
    if node is None:
        node = add_color_table(map_node.GetScene(), f"{map_node.GetName()} colors", colors)
        map_node.SetNodeReferenceID(TABLE, node.GetID())
    else:
        state = node.StartModify()
        for index, color in enumerate(colors):
            node.SetColor(index, *(float(part) for part in color))
        node.EndModify(state)
    map_node.GetDisplayNode().SetAndObserveColorNodeID(node.GetID())


def signed_colors(map_node: Node) -> NDArray[np.float64]:
    """(count, 4) r, g, b, alpha from the most negative to the most positive."""
    limit, (low, high) = window_of(map_node)[1], range_of(map_node)
    strength = np.abs(np.arange(LEVELS) - (LEVELS / 2 - 1)) / ((LEVELS - 1) / 2) * limit  # in the middle of a level
    shown = (strength >= low) & ((strength <= high) | (high >= limit))
    return np.column_stack([pair(map_node), shown])


def pair(map_node: Node) -> NDArray[np.float64]:
    """(count, 3) r, g, b of a signed map, from the most negative to the most positive."""
    against, favour = PAIRS[colors_of(map_node)]
    return np.vstack([ramp(against, LEVELS // 2)[::-1], ramp(favour, LEVELS // 2)])


def sync_rendering(map_node: Node) -> None:
    """Give the volume rendering, if there is one, the colours and range of the map."""
    display = rendering_of(map_node)
    if display is not None:
        set_transfer(display.GetVolumePropertyNode(), transfer_rows(map_node))


def transfer_rows(map_node: Node) -> list[Row]:
    """The transfer function of a map in its colours: the denser the stronger, nothing outside of the range."""
    low, high = range_of(map_node)
    first, limit = window_of(map_node)
    signed = is_signed(map_node)
    table = pair(map_node) if signed else ramp(RAMPS[colors_of(map_node)], LEVELS)
    beyond = signed and high >= limit
    step = max(high - low, limit / 100)  # finer ones would not fit into a graphics card's tables
    inside = low + step * np.linspace(0, 1, 21)
    ends = [] if beyond else [(high + limit / 1000, 0.0)]
    rows: list[Row] = []
    for sign in (1, -1) if signed else (1,):
        for value, alpha in [*((float(v), float(0.5 * (v - low) / step)) for v in inside), *ends]:
            place = np.clip((sign * value - first) / (limit - first), 0, 1)
            red, green, blue = table[round(place * (LEVELS - 1))].tolist()
            rows.append((sign * value, alpha, red, green, blue))
    return sorted(rows)
