"""The tables of hot regions and superpixels, and what a click in them shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from seen import passes, texts


def test_a_click_on_a_hot_region_shows_it(explained, slicer):
    from MedXAIPanel import results

    explained.panel.display.show(explained.maps)
    rows = results.metadata(explained.maps[0])["regions"]["table"]
    found = texts(explained.ui.regions)
    assert [row[0] for row in found] == [row["name"] for row in rows] and len(rows) > 0
    assert [float(row[1].removesuffix(" mL")) for row in found] == pytest.approx(
        [row["volume_ml"] for row in rows], rel=0.01
    )
    explained.ui.regions.cellClicked.emit(len(rows) - 1, 0)
    assert passes(slicer, np.array(rows[-1]["centroid"]) + (25, 0, 0)), "through the transform"


@pytest.mark.parametrize("told", [True, False])
def test_superpixels_are_sorted_and_a_click_lands_in_one(explained, slicer, computed, told):
    """At the place that the worker tells; of a map before there were places, in the middle of the segment."""
    from MedXAIPanel import results

    from MedXAILib.io.read import read_volume

    ui, node = explained.ui, explained.maps[1]
    found = results.metadata(node)
    for row in found["superpixels"]["table"] if not told else ():
        del row["place"]
    node.SetAttribute(results.METADATA, json.dumps(found))
    explained.panel.display.show([node])
    ui.tables.currentIndex = 1
    table = {row["name"]: row for row in results.metadata(node)["superpixels"]["table"]}
    coefficients = [float(row[1]) for row in texts(ui.superpixelTable)]
    assert len(coefficients) == len(table) and coefficients == sorted(coefficients, reverse=True)
    segmentation = node.GetNodeReference(results.SUPERPIXELS)
    assert segmentation.GetDisplayNode().GetVisibility()
    assert not node.GetNodeReference(results.REGIONS).GetDisplayNode().GetVisibility()

    files = computed.folder / computed.event["folder"]
    labels = read_volume(
        files / next(m for m in computed.event["maps"] if m["method"] == "lime")["superpixels"]["file"]
    )
    for row in (0, len(table) - 1):
        ui.superpixelTable.cellClicked.emit(row, 0)
        name = ui.superpixelTable.item(row, 0).text()
        place = [
            slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode().GetSliceToRAS().GetElement(axis, 3)
            for axis, view in enumerate(("Yellow", "Green", "Red"))
        ]
        identifier = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        i, j, k = np.round(labels.ijk(np.array(place) - (25, 0, 0))).astype(int)
        if told:
            assert labels.array[k, j, i] == table[name]["value"]
        else:
            assert passes(slicer, np.array(segmentation.GetSegmentCenter(identifier)) + (25, 0, 0))
        assert segmentation.GetDisplayNode().GetSegmentOpacity2DOutline(identifier) == 1.0
    ui.maps.cellClicked.emit(0, 1)
    assert "no superpixels" in ui.superpixelTable.item(0, 0).text()
