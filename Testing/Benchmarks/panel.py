"""How alive the panel stays while the worker computes, and how fast it is given back. Needs the test packages.

python Testing/Benchmarks/panel.py
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MEDXAI_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()
os.environ["MEDXAI_MODEL_PATH"] = str(DATA / "models")
sys.path[:0] = [str(ROOT / "Testing" / "Slicer"), str(ROOT)]

import standin  # noqa: E402

slicer = standin.install()
import qt  # noqa: E402

SECONDS = 30
TICK_MS = 20


def panel():
    standin.new_scene()
    return standin.load_module(ROOT / "MedXAI" / "MedXAI.py").widget


def pump(condition) -> float:
    """Run the event loop until the condition holds; the seconds that it took."""
    began = time.perf_counter()
    while not condition():
        slicer.app.processEvents()
        time.sleep(0.001)
    return time.perf_counter() - began


def ticks(widget) -> tuple[float, float]:
    """(ticks per second, longest gap in ms) of a timer of 20 ms over 30 s of LIME."""
    from MedXAIPanel import scenarios

    scenarios.chosen(widget, scenarios.ball(), model="planted-lesion", methods="lime", samples=100_000)
    widget.ui.explainButton.click()
    pump(lambda: "left" in widget.ui.explainMessage.text)
    times = []
    timer = qt.QTimer()
    timer.interval = TICK_MS
    timer.timeout.connect(lambda: times.append(time.perf_counter()))
    timer.start()
    end = time.perf_counter() + SECONDS
    pump(lambda: time.perf_counter() > end)
    timer.stop()
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    return len(times) / SECONDS, 1000 * max(gaps)


def cancel(widget) -> float:
    """Seconds from the click on Cancel to the panel given back."""
    widget.ui.explainButton.click()
    return pump(lambda: not widget.logic.client.busy)


def cancel_segmentation(widget) -> float:
    """The same in the middle of a pass of model5 over 256^3 voxels, whose single operators take seconds."""
    from MedXAIPanel import scenarios

    volume = slicer.util.loadVolume(str(DATA / "volumes" / "brainchop_t1_crop.nii.gz"))
    card = str(ROOT / "Testing" / "cards" / "brainchop_model5.json")
    scenarios.chosen(widget, volume, model=card, methods="gradcam")
    widget.ui.predictButton.click()
    pump(lambda: "Forward" in widget.ui.predictMessage.text)
    widget.ui.predictButton.click()
    return pump(lambda: not widget.logic.client.busy)


def warm(widget) -> list[tuple[str, float, int]]:
    """(run, seconds, forward passes) of predict, Grad-CAM of the predicted class, Grad-CAM of another class."""
    from MedXAIPanel import scenarios

    scenarios.chosen(widget, scenarios.ball(voxels=96), model="planted-lesion", methods="gradcam")
    rows, seen = [], []
    received = widget.logic._received

    def note(source, event, display):
        seen.append(event)
        return received(source, event, display)

    widget.logic._received = note
    for title, button, target in (
        ("predict, first (starts the worker)", widget.ui.predictButton, ""),
        ("predict again", widget.ui.predictButton, ""),
        ("Grad-CAM of the predicted class", widget.ui.explainButton, ""),
        ("Grad-CAM of another class", widget.ui.explainButton, "no lesion"),
    ):
        widget.parameters.target = target
        began = time.perf_counter()
        button.click()
        widget.logic.client.wait()
        rows.append((title, time.perf_counter() - began, seen[-1]["forward_passes"]))
    return rows


if __name__ == "__main__":
    print("| run, from click to nodes | seconds | forward passes |\n|---|---|---|")
    for title, seconds, passes in warm(panel()):
        print(f"| {title} | {seconds:.2f} | {passes} |")
    widget = panel()
    rate, gap = ticks(widget)
    print(
        f"\nTimer of {TICK_MS} ms during {SECONDS} s of computing: {rate:.0f} ticks a second, longest gap {gap:.0f} ms."
    )
    print(f"Cancel during LIME: the panel is given back after {cancel(widget):.2f} s.")
    if DATA.is_dir():
        print(f"Cancel during a pass over 256^3 voxels: after {cancel_segmentation(panel()):.2f} s.")
    standin.new_scene()
