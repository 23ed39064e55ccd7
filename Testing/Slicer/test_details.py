"""What is said of the chosen map, its range and its colours."""

from __future__ import annotations

import html

import numpy as np
import pytest


def test_what_limits_belief_stands_beside_the_map(explained):
    from MedXAIPanel import results

    from MedXAILib import NOTICE

    explained.panel.display.show(explained.maps[1:])
    text = explained.ui.limits.text
    told = [caveat["text"] for caveat in results.metadata(explained.maps[1])["caveats"]]
    assert NOTICE in text and told
    assert all(html.escape(line) in text for line in told)


def test_the_slider_spans_the_map_and_moving_one_end_keeps_the_other(explained):
    from MedXAILib.mrml import colours, palette

    heat, ui = explained.maps[0], explained.ui
    explained.panel.display.show(explained.maps)
    low, high = colours.bounds_of(heat)
    assert ui.range.minimum <= low and ui.range.maximum >= high and ui.range.singleStep <= (high - low) / 50
    assert ui.range.suffix == ""
    ui.range.minimumValue = high / 2
    found = colours.range_of(heat)
    assert found[0] == pytest.approx(high / 2, abs=ui.range.singleStep) and found[1] >= high
    signed = explained.maps[1]
    ui.maps.cellClicked.emit(1, 1)
    assert colours.is_signed(signed) and ui.range.minimum == 0
    assert colours.range_of(heat) == found, "another map's slider is not this one's"
    ui.colors.setCurrentIndex(1)
    ui.colors.activated.emit(1)
    assert colours.colors_of(signed) == ui.colors.currentText == list(palette.PAIRS)[1]
    ui.maps.cellClicked.emit(0, 1)
    assert ui.colors.currentText == "Heat"


@pytest.mark.parametrize("order", [(7.3e-7, 7.46), (7.46, 7.3e-7), (2.2e5, 7.3e-7)])
def test_the_slider_goes_from_any_map_to_any_other(explained, slicer, order):
    from MedXAILib.geometry.volume import Volume
    from MedXAILib.mrml import colours, nodes
    from MedXAILib.mrml.overlay import Overlay

    widget = explained.ui.range
    for largest in order:
        array = np.linspace(0, largest, 1000, dtype=np.float32).reshape(10, 10, 10)
        heat = nodes.add_map(slicer.mrmlScene, Overlay(name="map", map=Volume(array, np.eye(4)), signed=False))
        explained.panel.display.details.showRange(heat)
        unit = 10.0 ** int(widget.suffix[1:] or 0) if widget.suffix else 1.0
        assert widget.maximum * unit == pytest.approx(colours.bounds_of(heat)[1], rel=0.02)
        assert 50 <= widget.maximum / widget.singleStep <= 1000
        assert len(f"{widget.maximum:.{widget.decimals}f}".strip("0.").replace(".", "")) <= 4
        explained.panel.display.details.node = heat
        widget.minimumValue = widget.maximum / 2
        assert colours.range_of(heat)[0] == pytest.approx(largest / 2, rel=0.02)
