"""What a terminal shows: progress, summaries, one line for an error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from .. import NOTICE
from ..models.summary import quantity
from ..progress import Progress

console = Console(stderr=True, highlight=False)


def dim(text: str) -> None:
    """A sentence beside the results."""
    console.print(text, markup=False, style="dim")


def fail(text: str, code: int) -> int:
    """One line on standard error; names in it may hold what would move the terminal's cursor."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    print(text, file=sys.stderr, flush=True)
    return code


@contextmanager
def bar() -> Iterator[Progress]:
    """A progress bar with the time left; lines, at most one in 5 s, where standard error is no terminal."""
    if not console.is_terminal:
        yield lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    began, most = time.monotonic(), 0.0
    with Bar(*columns, console=console, transient=True) as shown:
        task = shown.add_task("Loading", total=1.0, left="")

        def progress(done: float, total: float, text: str) -> None:
            nonlocal most
            most = max(most, done / max(total, 1e-9))  # a bar goes forward only
            shown.update(task, completed=most, description=text, left=time_left(time.monotonic() - began, most))

        yield progress


def time_left(seconds: float, done: float) -> str:
    """What is left of a run, from what has passed; empty while that says little.

    :param done: 0..1.
    """
    if done < 0.05 or seconds < 5:
        return ""
    left = round(seconds * (1 - done) / done)
    return f"about {left} s left" if left < 100 else f"about {round(left / 60)} min left"


def lines() -> Progress:
    """Progress as plain lines."""
    last, most = time.monotonic(), 0.0

    def progress(done: float, total: float, text: str) -> None:
        nonlocal last, most
        most = max(most, done / max(total, 1e-9))
        if time.monotonic() - last >= 5:
            last = time.monotonic()
            print(f"{100 * most:3.0f} % {text}", file=sys.stderr, flush=True)

    return progress


def report(summary: dict[str, Any], output: Path) -> None:
    """The summary of a run for people."""
    for case in summary["cases"]:
        print(f"{case['input']}: {said(case)}")
        known = [caveat["text"] for caveat in case["caveats"]]
        for text in known:
            print(f"  {text}")
        for m in case["maps"]:
            place = f" at {m['layer']}" if m["layer"] else ""
            print(f"  {m['class']}, {m['method']}{place}: {m['seconds']:.1f} s, {m['evaluations']} model evaluations")
            for text in (caveat["text"] for caveat in m["caveats"]):
                if text not in known:
                    print(f"    {text}")
    for path in summary["shown"]:
        print(f"Wrote {path}")
    for failure in summary["failures"]:
        print(f"{failure['input']}: failed ({failure['stage']}): {failure['sentence']}")
    print(f"{progress_of(summary)}: {output}, {summary['seconds']:.1f} s. {NOTICE}.")


def progress_of(summary: dict[str, Any]) -> str:
    """How much of a job is there, and what of it this run did."""
    kept = f", {summary['kept']} results kept" if summary["kept"] else ""
    return f"{summary['done']} of {summary['of']} cases{kept}"


def said(case: dict[str, Any]) -> str:
    """What the model says of a case."""
    if "probabilities" in case:
        ranked = sorted(case["probabilities"].items(), key=lambda pair: -pair[1])
        where = case.get("highest_in_slice", {})
        texts = [f"{name} {p:.3f}" + (f" (slice {where[name]})" if where else "") for name, p in ranked]
        what = f"highest in any of {case['slices']} slices, no diagnosis: " if where else ""
        return what + ", ".join(texts)
    if "values" in case:
        return ", ".join(f"{name} {quantity(value, case['unit'])}" for name, value in case["values"].items())
    if "volume_ml" in case:
        return ", ".join(f"{name} {ml:.1f} mL" for name, ml in case["volume_ml"].items())
    return ", ".join(f"{name} {count} voxels" for name, count in case["voxels"].items())
