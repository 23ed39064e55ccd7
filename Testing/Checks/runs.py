"""Runs that are disturbed at every stage: killed, told to end, on a full or read-only disk, two at once.

    make check-runs            # about 6 minutes on two cores; it goes on where it stopped
    .venv/bin/python Testing/Checks/runs.py --only "tables SIGTERM" --show

What must hold: a case is there whole or not at all, and the same command goes on from there. What a killed run (SIGKILL) leaves
behind, the next one removes. Every other disturbance ends in one sentence and an exit code other than 0, and nothing half-written is
left; what fails beside the maps (tables, scene, picture) does not cost them. Of two jobs into one folder the first succeeds.

Disks are file systems in memory, mounted in a namespace of their own (``unshare``), which needs no rights on most systems.
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
from collections.abc import Iterator
from pathlib import Path

from results import ROOT, Results

STAGES = {
    "read": "MedXAILib.app.work:read_volume",
    "predict": "MedXAILib.session.session:Session.predict",
    "explain": "MedXAILib.session.session:Session.explain",
    "pictures": "MedXAILib.app.pictures:snapshot",
    "scene": "MedXAILib.app.pictures:save_scene",
    "tables": "MedXAILib.app.run:derive",
    "publish": "MedXAILib.app.work:publish",
}
"""Where a run is disturbed: as this function is called."""
DISTURBANCES = ("SIGKILL", "SIGTERM", "SIGHUP", "disk full", "read-only", "two at once")
PATIENCE = 120.0
BESIDE = ("tables", "pictures", "scene")
"""Stages whose failure does not cost the maps: they are in their place by then."""
UNLOCKED = ("pictures", "scene")
"""Stages in which another job may begin to write into the folder."""


def cases() -> Iterator[tuple[str, str]]:
    yield from ((stage, what) for stage in STAGES for what in DISTURBANCES)


# The disturbed run ------------------------------------------------------------------------------------------------------


def disturbed(stage: str, what: str, folder: str, arguments: list[str]) -> int:
    """Run the command line and, as the stage is reached, say so and wait, or spoil the disk. In a process of its own."""
    import importlib

    from MedXAILib import cli, interrupt

    module, _, name = STAGES[stage].partition(":")
    place = importlib.import_module(module)
    *owners, last = name.split(".")
    for owner in owners:
        place = getattr(place, owner)
    original = getattr(place, last)

    def reached(*args, **kwargs):
        setattr(place, last, original)
        disturb(what, Path(folder))
        return original(*args, **kwargs)

    setattr(place, last, reached)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored, as it should
    interrupt.watch()
    code = cli.run(arguments)
    sys.stdout.flush()
    os._exit(code)


def disturb(what: str, folder: Path) -> None:
    if what == "disk full":
        with (folder / "disk" / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                return
    if what == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(folder / "disk")], check=True)
        return
    (folder / "reached").touch()
    until = time.monotonic() + PATIENCE
    while not (folder / "go").exists() and time.monotonic() < until:
        time.sleep(0.02)


# The check --------------------------------------------------------------------------------------------------------------


def picture(path: Path) -> Path:
    """A picture that the zoo's classifier of slices takes."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    head = 120 * (x**2 / 0.6 + y**2 / 0.8 < 1) + 90 * ((x - 0.3) ** 2 + y**2 < 0.03)
    Image.fromarray((head + np.random.default_rng(0).integers(0, 20, head.shape)).astype(np.uint8)).save(path)
    return path


def words(folder: Path, out: Path, name: str = "x.png") -> list[str]:
    shown = [f"--snapshot={out.parent / 'shown.png'}", f"--scene={out.parent / 'scene.mrb'}"]
    return ["explain", str(folder / name), "-m", "brain-tumor-slices", "-o", str(out), *shown]


def start(stage: str, what: str, folder: Path, arguments: list[str], inside: str = "") -> subprocess.Popen:
    """:param inside: shell commands in whose namespace the run takes place; what they print afterwards is kept."""
    run = [sys.executable, "-W", "ignore", __file__, "--disturbed", stage, what, str(folder), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if inside:
        run = ["unshare", "-rm", "sh", "-c", inside, "sh", *run]
    return subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def check(stage: str, what: str) -> dict:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        picture(folder / "x.png")
        if what in ("disk full", "read-only"):
            return on_a_disk(stage, what, folder)
        if what == "two at once":
            return two(stage, folder)
        return signalled(stage, getattr(signal, what), folder)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


def torn(out: Path) -> list[str]:
    """Files that a case.json lists and that are not there, and the other way round."""
    found = []
    for case in (path for path in out.glob("*") if path.is_dir()):
        record = json.loads((case / "case.json").read_text()) if (case / "case.json").exists() else {"parts": []}
        listed = {name for part in record["parts"] for name in part["files"]} | (
            {"case.json"} if record["parts"] else set()
        )
        found += sorted(listed ^ {path.name for path in case.iterdir() if not path.name.startswith(".")})
    return found


def wait_for(folder: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + PATIENCE
    while not (folder / "reached").exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the stage was not reached: {process.communicate()[1][-500:]}")
        time.sleep(0.02)


def signalled(stage: str, sign: signal.Signals, folder: Path) -> dict:
    work = folder / "work"
    work.mkdir()
    (work / "mine.txt").write_text("kept")
    out = work / "out"
    process = start(stage, "signal", folder, words(folder, out))
    wait_for(folder, process)
    process.send_signal(sign)
    said = process.communicate(timeout=PATIENCE)[1]
    left = [path.name for path in hidden(work)]
    published = (out / "x" / "case.json").exists()
    faults = []
    if (work / "mine.txt").read_text() != "kept":
        faults.append("a file of the user's changed")
    if published != (stage in BESIDE) or torn(out):
        faults.append(f"torn: {torn(out)}, left: {files(work)}")
    if sign == signal.SIGKILL:
        again = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "MedXAILib", *words(folder, out)[:6]],
            capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        if again.returncode or hidden(work) or torn(out) or not (out / "run.json").exists():
            faults.append(f"the next run: {again.returncode}, left {hidden(work)}, {torn(out)}: {again.stderr[-300:]}")
    else:
        if process.returncode != 128 + sign:
            faults.append(f"exit code {process.returncode}")
        if left or (stage not in BESIDE and files(work) != ["mine.txt"]):
            faults.append(f"left: {left or files(work)}")
    return {"code": process.returncode, "said": last_line(said), "left": left, "faults": faults}


def on_a_disk(stage: str, what: str, folder: Path) -> dict:
    disk = folder / "disk"
    disk.mkdir()
    out = disk / "out"
    inside = f"mount -t tmpfs -o size=8m tmpfs {disk} && {{ \"$@\"; code=$?; find {disk} -type f -o -name '.*'; exit $code; }}"
    process = start(stage, what, folder, words(folder, out), inside)
    listed, said = process.communicate(timeout=PATIENCE)
    left = [line.removeprefix(f"{disk}/") for line in listed.splitlines() if line.startswith(f"{disk}/")]
    left = [name for name in left if name != "filler"]
    faults = []
    if process.returncode == 0:
        faults.append("exit code 0")
    if "Traceback" in said or not last_line(said).endswith("."):
        faults.append(f"no sentence: {said[-300:]}")
    published = "out/x/case.json" in left
    unseen = [name for name in left if any(part.startswith(".") for part in name.split("/"))]
    if published != (stage in BESIDE):
        faults.append(f"the maps are {'' if published else 'not '}there")
    if what == "disk full":  # from a read-only disk nothing can be removed
        if unseen:
            faults.append(f"left: {unseen}")
        if left and not published:
            faults.append(f"half of a run: {left}")
    return {"code": process.returncode, "said": last_line(said), "left": unseen, "faults": faults}


def two(stage: str, folder: Path) -> dict:
    work = folder / "work"
    work.mkdir()
    shutil.copy(folder / "x.png", folder / "y.png")
    out = work / "out"
    first = start(stage, "two", folder, words(folder, out))
    wait_for(folder, first)
    second = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "MedXAILib", *words(folder, out, "y.png")],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=PATIENCE,
    )  # fmt: skip
    (folder / "go").touch()
    said = first.communicate(timeout=PATIENCE)[1]
    faults = []
    if first.returncode:
        faults.append(f"the first: {first.returncode}, {said[-300:]}")
    names_it = "x.png" in second.stderr and "another run writes" in second.stderr
    if (second.returncode, names_it) != (2, True) and (second.returncode or stage not in UNLOCKED):
        faults.append(f"the second: {second.returncode}, {second.stderr[-300:]}")
    if hidden(work) or torn(out) or not (out / "run.json").exists():
        faults.append(f"left: {hidden(work)}, {torn(out)}")
    return {"code": second.returncode, "said": last_line(second.stderr), "left": [], "faults": faults}


def last_line(text: str) -> str:
    """What was said at the end, without the wrapped lines before it."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][-220:] if lines else ""


def possible() -> bool:
    """Whether file systems can be mounted in a namespace."""
    return (
        bool(shutil.which("unshare"))
        and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--show", action="store_true", help="run anew, and print")
    parser.add_argument("--disturbed", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.disturbed:
        stage, what, folder, *arguments = options.disturbed
        return disturbed(stage, what, folder, arguments)
    results = Results("check-runs", [ROOT / "MedXAILib", Path(__file__)])
    for stage, what in cases():
        key = f"{stage} {what}"
        if options.only in key and (key not in results.known or options.show):
            results.add(key, check(stage, what))
            print(f"{key}: {results.known[key]}", flush=True)
    return report(results.known)


def report(known: dict) -> int:
    print(f"\n| stage | {' | '.join(DISTURBANCES)} |\n|---|{'---|' * len(DISTURBANCES)}")
    for stage in STAGES:
        row = [known.get(f"{stage} {what}") for what in DISTURBANCES]
        print(
            f"| {stage} | "
            + " | ".join("-" if f is None else "WRONG" if f["faults"] else str(f["code"]) for f in row)
            + " |"
        )
    wrong = [f"{key}: {found['faults']}" for key, found in known.items() if found["faults"]]
    print("\n".join(wrong))
    print(
        f"{len(known)} disturbed runs, {len(wrong)} wrong. The numbers are exit codes (of two at once, the second's)."
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
