"""A cohort that is killed at random moments and meets a full disk, and its tables beside those of a run that nothing disturbed.

    make check-cohort          # 400 small cases; about 5 minutes on two cores
    .venv/bin/python Testing/Checks/cohort.py --cases 20 --kills 3

What must hold: the tables are the same byte for byte, no case that was finished is computed again, and no file is left that no
case.json lists. The disk is a file system in memory, mounted in a namespace of its own (``unshare``), which is full three times
and then gets more room.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Python")]

from fixture_runs import names, small_model, volumes  # noqa: E402

PATIENCE = 1800.0
LIMITS = (0.3, 0.55, 0.8)
"""Parts of what all results need, at which the disk is full."""


def words(place: Path, out: Path, *more: str) -> list[str]:
    methods = ["--method", "gradcam", "--method", "saliency", "--method", "lime", "--samples", "20", "--slices", "1"]
    given = [
        str(place / "cases"),
        "--model",
        str(place / "model" / "card.json"),
        "--class",
        "yes",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    return [sys.executable, "-W", "ignore", "-m", "MedXAILib", "explain", *given, *methods, *more, "-o", str(out)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def finished(out: Path) -> dict[str, int]:
    """The cases that are there, and when each came."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/case.json")}


def strays(out: Path) -> list[str]:
    """Files that nothing lists."""
    found = []
    for path in out.rglob("*"):
        if path.is_dir() and not path.name.startswith("."):
            continue
        if path.parent == out:
            listed = {*json.loads((out / "run.json").read_text())["files"]}
        else:
            record = json.loads((path.parent / "case.json").read_text())
            listed = {"case.json"} | {name for part in record["parts"] for name in part["files"]}
        if path.name not in listed:
            found.append(path.relative_to(out).as_posix())
    return found


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.csv"))}


def compared(out: Path, whole: Path) -> list[str]:
    """What is wrong with a run that was disturbed, beside one that was not."""
    faults = []
    if tables(out) != tables(whole):
        faults.append("the tables differ")
    if names(out) != names(whole):
        faults.append("other files")
    return faults + [f"a stray: {name}" for name in strays(out)]


def killed(place: Path, whole: Path, kills: int, cases: int) -> list[str]:
    """kill -9 of the whole process group, of one worker and of two in turns, at random moments, then to the end."""
    out, rng, faults = place / "killed", np.random.default_rng(0), []
    there: dict[str, int] = {}
    for number in range(kills):
        process = subprocess.Popen(
            words(place, out, "--workers", str(1 + number % 2)),
            env=environment(),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wanted, until = len(there) + int(rng.integers(0, max(2, 2 * cases // (3 * kills)))), time.monotonic() + PATIENCE
        while len(finished(out)) < wanted and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0, 0.2)) + (4 * float(rng.random()) if wanted == len(there) else 0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = finished(out)
        faults += [f"{case} was computed again" for case, when in there.items() if now.get(case) != when]
        there = now
        print(f"kill {number + 1} of {kills}: {len(there)} of {cases} cases are there", flush=True)
    subprocess.run(words(place, out), env=environment(), check=True, capture_output=True)
    now = finished(out)
    faults += [f"{case} was computed again" for case, when in there.items() if now.get(case) != when]
    return faults + compared(out, whole)


def on_a_full_disk(place: Path, whole: Path) -> list[str]:
    """The same run on a disk that is full three times; in a namespace of its own, by this very script."""
    inner = [sys.executable, __file__, "--inside", str(place), str(whole)]
    done = subprocess.run(
        ["unshare", "-rm", *inner], capture_output=True, text=True, env=environment(), timeout=PATIENCE
    )
    print(done.stdout, end="", flush=True)
    return [] if done.returncode == 0 else [f"full disk: {done.stdout[-400:]} {done.stderr[-400:]}"]


def inside(place: Path, whole: Path) -> int:
    """Within the namespace."""
    disk = place / "disk"
    disk.mkdir()
    need = sum(-(-path.stat().st_size // 4096) * 4096 for path in whole.rglob("*") if path.is_file())
    faults, there = [], {}
    for number, limit in enumerate((*LIMITS, 3.0)):
        size = f"size={int(need * limit)}"
        how = (
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)]
            if number == 0
            else ["mount", "-o", f"remount,{size}", str(disk)]
        )
        subprocess.run(how, check=True)
        done = subprocess.run(words(place, disk / "out"), env=environment(), capture_output=True, text=True)
        now = finished(disk / "out")
        faults += [f"{case} was computed again" for case, when in there.items() if now.get(case) != when]
        there = now
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        print(
            f"disk {number + 1}: exit code {done.returncode}, {len(there)} cases are there: {said[-160:]}", flush=True
        )
        if limit < 1 and (done.returncode != 2 or "the results cannot be written" not in done.stderr):
            faults.append(f"exit code {done.returncode}: {said}")
        if limit < 1 and list((disk / "out").rglob(".*")):
            faults.append(f"left: {list((disk / 'out').rglob('.*'))}")
    faults += compared(disk / "out", whole)
    print("\n".join(faults))
    return 1 if faults else 0


def possible() -> bool:
    """Whether a disk can be mounted here."""
    return (
        bool(shutil.which("unshare"))
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    )


def check(cases: int, kills: int, place: Path, disks: bool = True) -> list[str]:
    small_model(place / "model")
    volumes(place / "cases", cases)
    whole = place / "whole"
    began = time.monotonic()
    subprocess.run(words(place, whole), env=environment(), check=True, capture_output=True)
    print(f"{cases} cases, undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    faults = killed(place, whole, kills, cases)
    if not disks:
        return faults
    if possible():
        faults += on_a_full_disk(place, whole)
    else:
        print("No disk can be mounted here: the full disk was not tried.")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--inside", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(*options.inside)
    with tempfile.TemporaryDirectory() as folder:
        faults = check(options.cases, options.kills, Path(folder))
    print("\n".join(faults) or "Nothing is wrong.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
