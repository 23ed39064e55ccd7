"""The attribution engine beside its peers: CPU seconds and memory of the same Grad-CAMs, in one run. See README.md.

    make bench
    make bench-same BASE=<commit>

Every library has its own process of one thread (``engine_cases.py``). In each round the processes run one after the
other, so that a slow phase of the machine hits all of them; ratios are taken within a round. Memory is measured in
processes of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS, FLOOR = ("tape", "explain"), "floor"
TITLES = {
    "floor": "the least, by hand",
    "reference": "by hand, nothing in place",
    "tape": "**MedXAI, `record`**",
    "explain": "**MedXAI, `explain`**",
    "torchcam": "torch-cam",
    "captum": "captum",
    "captum_frozen": "captum, parameters frozen",
    "monai": "MONAI, `GradCAM`",
    "monai_hooks": "MONAI's hooks, the formula by hand",
    "pytorch_grad_cam": "pytorch-grad-cam",
    "medcam": "medcam",
}
SLOW = ("captum", "monai", "monai_hooks", "pytorch_grad_cam", "medcam")
CASES = {
    "map": (
        "One map: DenseNet121 3D, 1 x 1 x 96^3, `features.denseblock4`, one class",
        ("floor", "tape", "explain", "torchcam"),
        ("captum", "captum_frozen", *SLOW[1:]),
    ),
    "layers": (
        "Layers x classes: the same network, `denseblock1` to `4`, 3 classes",
        ("floor", "tape", "explain", "torchcam"),
        SLOW,
    ),
    "unet": (
        "Segmentation: MONAI's 3D U-Net (8, 16, 32, 64), 1 x 1 x 64^3, 5 layers, 14 classes, logits summed over the volume",
        ("floor", "tape", "torchcam"),
        SLOW,
    ),
}
TARGETS = {
    "map": ((FLOOR, "CPU", 1.10), (FLOOR, "peak", 1.2), ("torchcam", "peak", 0.5)),
    "layers": ((FLOOR, "CPU", 1.15), ("torchcam", "CPU", 1.05), *((name, "CPU", 1) for name in SLOW)),
    "unet": (("captum", "CPU", 1 / 5), ("monai", "CPU", 1 / 10)),
}
"""Ours / which, what, at most."""
SIZES = (128, 192)
COMPARED = (
    *(("map", "tape"), ("map", "explain"), ("layers", "tape"), ("layers", "explain"), ("unet", "tape")),
    *(("unet", "explain"), ("slices", "explain")),
)
"""What is measured against an earlier commit."""
FOLLOWED = {
    "map": "DenseNet121 3D, 96^3, one layer, one class",
    "unet": "3D U-Net, 64^3, 5 layers, 14 classes",
    "slices": "ResNet18 2D, 8 slices of 192^2, one layer, one class",
}
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
"""97.5 % points of Student's t for 1 to 14 degrees of freedom."""
AGREE = 0.999
MIB = 1 << 20
PEAKS = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Setting of the allocator (glibc's) where memory is measured."""
STEADY = {"THP_MEM_ALLOC_ENABLE": "1"}
"""Setting of torch's where two commits are compared: tensors in pages of 2 MiB, so that it does not matter which small pages a
process happens to get."""


@dataclass(eq=False)
class Runner:
    """One library, its process of the moment, and what was measured."""

    name: str
    python: str
    root: Path = ROOT
    """Of the sources, whose own copy of the cases runs."""
    site: Path | None = None
    """Where they are installed; None is where the interpreter finds them."""
    process: subprocess.Popen | None = None
    version: str = ""
    error: str = ""
    cpu: dict[int, float] = field(default_factory=dict)
    """By round; of several runs in one, together."""
    peak: int = 0
    passes: int = 0
    correlations: list[float] = field(default_factory=list)

    def start(self, *words: str, **env: str) -> None:
        if self.error:
            return
        script = self.root / "Testing" / "Benchmarks" / "engine_cases.py"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | env
        env |= {"PYTHONPATH": str(self.site)} if self.site else {}
        self.process = subprocess.Popen([self.python, str(script), *words], text=True, env=env, **pipes)

    def heard(self) -> dict:
        """What the process answers; empty where something went wrong, now or before."""
        if not self.error:
            line = self.process.stdout.readline()
            answer = json.loads(line) if line else {"error": "its process died"}
            self.error = answer.get("error", "")
        return {} if self.error else answer

    def run(self, number: int) -> None:
        self.ask(number)
        self.take(number)

    def ask(self, number: int) -> None:
        if not self.error:
            print(number, file=self.process.stdin, flush=True)

    def take(self, number: int) -> None:
        if answer := self.heard():
            self.cpu[number] = self.cpu.get(number, 0.0) + answer["cpu"]

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    @property
    def agrees(self) -> bool:
        return min(self.correlations) >= AGREE


def runners(names: Sequence[str], peers: str) -> list[Runner]:
    return [Runner(n, sys.executable if n in (*OURS, FLOOR, "reference") else peers) for n in names]


def time_all(case: str, quick: list[Runner], slow: list[Runner], rounds: int, few: int) -> None:
    """``rounds`` of the quick ones, to ``few`` of which the slow ones are added; one process runs at a time."""
    for runner in quick + slow:
        runner.start("time", case, runner.name)
    for runner in quick + slow:
        runner.heard()
    for number in range(rounds):
        turn = number % len(quick)
        for runner in quick[turn:] + quick[:turn] + (slow if number % (rounds // few) == 0 else []):
            runner.run(number)
        print(f"{case}: round {number + 1} of {rounds}", file=sys.stderr)
    for runner in quick + slow:
        runner.end()


def weigh_all(case: str, everyone: list[Runner]) -> None:
    """Memory, together; but the first leaves the maps that the others compare theirs with."""
    with tempfile.TemporaryDirectory() as folder:
        for group in everyone[:1], everyone[1:]:
            for runner in group:
                runner.start("memory", case, runner.name, folder, **PEAKS)
            for runner in group:
                vars(runner).update(runner.heard())
                runner.end()


def ratio(a: Runner, b: Runner) -> tuple[float, float, float]:
    """CPU time of a / b: geometric mean over the rounds that both ran, and its 95 % confidence interval (t, of the logs)."""
    logs = [math.log(a.cpu[n] / b.cpu[n]) for n in a.cpu if n in b.cpu]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), 0.0, math.inf
    half = T95[len(logs) - 2] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def table(everyone: list[Runner]) -> None:
    print(
        "| | CPU s | x the least (95 %) | rounds | peak MiB | forward passes | agrees |\n|---|---|---|---|---|---|---|"
    )
    for runner in everyone:
        title = f"{TITLES[runner.name]} {runner.version if runner.name not in (FLOOR, *OURS) else ''}".strip()
        if runner.error:
            print(f"| {title} | {said(runner.error)} | | | | | |")
            continue
        r, low, high = ratio(runner, everyone[0])
        print(
            f"| {title} | {statistics.median(runner.cpu.values()):.2f} | {r:.2f} ({low:.2f} to {high:.2f}) "
            f"| {len(runner.cpu)} | {runner.peak / MIB:.0f} | {runner.passes} | {verdict(runner)} |"
        )


def verdict(runner: Runner) -> str:
    lowest = f"{min(runner.correlations):.4f}"
    return lowest if runner.agrees else f"**no**: {lowest}"


def said(error: str) -> str:
    """An error in a few words."""
    words = error.split()
    return " ".join(words[:10]) + (" ..." if len(words) > 10 else "")


def target(text: str, value: float, limit: float) -> None:
    result = "too few rounds" if value == math.inf else "met" if value <= limit else "MISSED"
    print(f"- {text}: {value:.3f}, asked for <= {limit:g}: {result}")


def targets(case: str, everyone: list[Runner]) -> None:
    """What was asked for; of CPU time, the upper confidence bound counts."""
    found = {runner.name: runner for runner in everyone}
    for ours in [runner for runner in everyone if runner.name in OURS]:
        title = TITLES[ours.name].strip("*")
        if ours.error:
            print(f"- {title}: MISSED, it did not run")
            continue
        print(f"- {title}, the same maps as the least: {'met' if ours.agrees else 'MISSED'}")
        for rival, what, limit in TARGETS[case]:
            if not (other := found[rival]).error:
                value = ratio(ours, other)[2] if what == "CPU" else ours.peak / other.peak
                target(f"{title} / {TITLES[rival]}, {what}", value, limit)


def in_place(peers: str) -> None:
    """Who is right where an in-place ReLU follows the layer."""
    everyone = runners(("reference", "tape", "explain", "torchcam", *SLOW), peers)
    weigh_all("inplace", everyone)
    print("\n### Before an in-place ReLU: the same network, `features.norm5`, 3 classes\n")
    print(
        "| | right | correlations with the maps of a copy where nothing is in place (0: an empty map) |\n|---|---|---|"
    )
    for runner in everyone:
        numbers = ", ".join(f"{c:.3f}" for c in runner.correlations)
        right = "" if runner.error else "yes" if runner.agrees else "no"
        print(f"| {TITLES[runner.name]} | {right} | {said(runner.error) or numbers} |")


def windows() -> None:
    """Ours in windows of 64^3 over two sizes: the memory beyond what grows with the volume must not grow."""
    print("\n### Sliding windows: 3D U-Net (16, 32, 64), windows of 64^3, overlap .5, 3 classes at its deepest layer\n")
    print("| volume | tiles | CPU s a tile | forward passes a tile | peak MiB | of it logits and maps | beyond them |")
    print("|---|---|---|---|---|---|---|")
    beyond = []
    both = {size: Runner("explain", sys.executable) for size in SIZES}
    for size, runner in both.items():
        runner.start("windows", str(size), **PEAKS)
    for size, runner in both.items():
        answer = runner.heard()
        runner.end()
        if runner.error:
            print(f"| {size}^3 | {said(runner.error)} | | | | | |")
            continue
        held, tiles = answer["logits"] + answer["maps"], answer["tiles"]
        beyond.append(answer["peak"] - held)
        print(
            f"| {size}^3 | {tiles} | {answer['cpu'] / tiles:.2f} | {answer['passes'] / tiles:.2f} "
            f"| {answer['peak'] / MIB:.1f} | {held / MIB:.1f} | {beyond[-1] / MIB:.1f} |"
        )
    print()
    if len(beyond) == len(SIZES):
        target("Memory beyond logits and maps, larger / smaller volume", beyond[1] / beyond[0], 1.05)
    else:
        print("- Memory beyond logits and maps: MISSED, it did not run")


def first() -> None:
    """What the first explanation of a network costs: with the two passes that ask it where its cells lie, and without."""
    print("\n### The first explanation of a network\n")
    print("| | | CPU s, first | second | forward passes, first | second | peak MiB, first | second |")
    print("|---|---|---|---|---|---|---|---|")
    reached = {}
    for case, title in FOLLOWED.items():
        for how in ("asked", "unasked"):
            runner = Runner("explain", sys.executable)
            runner.start("first", case, how, **PEAKS)
            found = runner.heard()
            runner.end()
            if runner.error:
                print(f"| {title} | {how} | {said(runner.error)} | | | | | |")
                continue
            print(
                f"| {title} | {how} | {found['cpu 0']:.2f} | {found['cpu 1']:.2f} | {found['passes 0']} "
                f"| {found['passes 1']} | {found['peak 0'] / MIB:.0f} | {found['peak 1'] / MIB:.0f} |"
            )
            reached[title, how] = found
    print()
    for title in FOLLOWED.values():
        one, other = (reached.get((title, how)) for how in ("asked", "unasked"))
        if one is None or other is None:
            print(f"- {title}: MISSED, it did not run")
            continue
        target(f"{title}: more forward passes", one["passes 0"] - other["passes 0"], 2)
        target(f"{title}: peak, asked / unasked", one["peak 0"] / other["peak 0"], 1.05)


def against(base: str, rounds: int) -> None:
    """These sources against those of an earlier commit, in a worktree: each runs its own copy of the cases."""
    print(f"\n### Against commit {base[:7]}\n")
    with tempfile.TemporaryDirectory() as folder:
        sources, site = Path(folder) / "sources", Path(folder) / "site"
        git = ["git", "-C", str(ROOT), "worktree"]
        pip = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target"]
        install = [sys.executable, *pip, str(site)]
        try:
            for words in [*git, "add", "-q", "--detach", str(sources), base], [*install, str(sources)]:
                done = subprocess.run(words, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{base} cannot be measured: {done.stderr.strip().splitlines()[-1]}")
            pairs = [
                (Runner(how, sys.executable, site=ROOT), Runner(how, sys.executable, root=sources, site=site))
                for _, how in COMPARED
            ]
            for (case, how), pair in zip(COMPARED, pairs, strict=True):
                take_turns(case, *pair, rounds)
                weigh_all(case, list(pair))
                print(f"{case}, {how}: measured", file=sys.stderr)
        finally:
            subprocess.run([*git, "remove", "--force", str(sources)], capture_output=True)
    compared(pairs)


def take_turns(case: str, now: Runner, before: Runner, rounds: int) -> None:
    """CPU time: in each round a new process of each, as how memory lies in one may make it slower throughout, and eight runs of
    both at the same time, each on a core, so that whatever else the machine does meets both alike."""
    for number in range(rounds):
        both = (now, before) if number % 2 else (before, now)
        for runner in both:
            runner.start("time", case, runner.name, **STEADY)
        for runner in both:
            runner.heard()
        for _ in range(8):
            for runner in both:
                runner.ask(number)
            for runner in both:
                runner.take(number)
        for runner in both:
            runner.end()


def compared(pairs: Sequence[Sequence[Runner]]) -> None:
    """The table, and what was asked for."""
    print("| | | CPU, now / before (95 %) | peak MiB, now | before | same maps |\n|---|---|---|---|---|---|")
    logs, bounds, peaks = [], [], []
    for (case, how), (now, before) in zip(COMPARED, pairs, strict=True):
        if error := now.error or before.error:
            print(f"| {case} | {how} | {said(error)} | | | |\n- MISSED: {case}, {how} did not run")
            continue
        mean, low, high = ratio(now, before)
        logs.append(math.log(mean))
        bounds.append(high)
        peaks.append(now.peak / before.peak)
        least = min(now.correlations + before.correlations)
        print(
            f"| {case} | {how} | {mean:.3f} ({low:.3f} to {high:.3f}) | {now.peak / MIB:.1f} | {before.peak / MIB:.1f} | {least:.6f} |"
        )
    print()
    if len(logs) < len(COMPARED):
        return
    target("CPU now / before, geometric mean of all", math.exp(statistics.fmean(logs)), 1.02)
    target("CPU now / before, the highest upper bound", max(bounds), 1.05)
    target("Peak, now / before, the highest", max(peaks), 1.02)
    print(f"- The same maps: {'met' if all(now.agrees and before.agrees for now, before in pairs) else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peers", help="the Python that has the peers installed")
    parser.add_argument("--quick", action="store_true", help="2 rounds, the slow ones in 1: whether everything runs")
    parser.add_argument("--only", choices=[*CASES, "inplace", "windows", "first"], help="one part")
    parser.add_argument(
        "--against", metavar="COMMIT", help="measure these sources against those of a commit, and nothing else"
    )
    options = parser.parse_args()
    began = time.perf_counter()
    rounds, few = (2, 1) if options.quick else (15, 3)
    if options.against:
        against(options.against, rounds)
    else:
        beside(options, rounds, few)
    print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes in all.")


def beside(options: argparse.Namespace, rounds: int, few: int) -> None:
    """Every part, or one."""
    for case, (title, often, seldom) in CASES.items():
        if options.only in (None, case):
            quick, slow = runners(often, options.peers), runners(seldom, options.peers)
            time_all(case, quick, slow, rounds, few)
            weigh_all(case, quick + slow)
            print(f"\n### {title}\n")
            table(quick + slow)
            print()
            targets(case, quick + slow)
    if options.only in (None, "inplace"):
        in_place(options.peers)
    if options.only in (None, "windows"):
        windows()
    if options.only in (None, "first"):
        first()


if __name__ == "__main__":
    main()
