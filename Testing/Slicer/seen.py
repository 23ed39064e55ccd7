"""What the views and tables of the stand-in show."""

from __future__ import annotations

import numpy as np

from MedXAILib.mrml.appearance import is_accompanied
from MedXAILib.mrml.layers import further
from MedXAILib.mrml.views import Views, remember_views


def views() -> Views:
    from MedXAIPanel.views import hostScene

    return remember_views(hostScene())


def layers(slicer) -> list[str]:
    """Names of the maps in the red view, from below."""
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    ids = [composite.GetForegroundVolumeID(), *(volume for volume, _ in further(composite))]
    return [slicer.mrmlScene.GetNodeByID(each).GetName().split()[2] for each in ids if each]


def shown_parts(maps) -> list[bool]:
    """Whether legend and outlines of these maps are shown."""
    from MedXAIPanel.maps import partsOf

    return [is_accompanied(node, partsOf(node).values()) for node in maps]


def passes(slicer, place) -> bool:
    """Whether every slice view goes through a world RAS point."""
    offsets = []
    for name in ("Red", "Yellow", "Green"):
        matrix = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().GetSliceToRAS()
        normal, point = (np.array([matrix.GetElement(row, column) for row in range(3)]) for column in (2, 3))
        offsets.append(abs((place - point) @ normal))
    return max(offsets) < 1e-3


def texts(table) -> list[list[str]]:
    cells = [[table.item(row, column) for column in range(table.columnCount)] for row in range(table.rowCount)]
    return [[cell.text() if cell else "" for cell in row] for row in cells]
