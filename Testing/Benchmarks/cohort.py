"""What a cohort costs beside its cases: throughput of workers, overhead of each case, memory beside the plan's. See README.md.

    make bench-cohort
    .venv/bin/python Testing/Benchmarks/cohort.py --only memory

Hippocampus (24 cases, hippocampus-doubleunet, Grad-CAM and saliency), and for memory pictures of the brain, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Python")]

HIPPOCAMPUS, SLICES = "hippocampus-doubleunet", "brain-tumor-slices"
SAMPLES = 64
"""Of LIME, where memory is measured: more take longer, and hold no more at once."""
THROUGHPUT, OVERHEAD, OVER, UNDER = 1.7, 1.05, 1.1, 1.5
ONE = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}


def command(folder: Path, model: str, out: Path, methods: list[str], *more: str) -> list[str]:
    asked = [word for method in methods for word in ("--method", method)]
    given = [str(folder), "--model", model, "--device", "cpu", "--threads", "1", "-o", str(out)]
    return [sys.executable, "-m", "MedXAILib", "explain", *given, *asked, *more]


def spans(out: Path) -> list[tuple[float, float]]:
    """When each case began, and when it was published."""
    found = []
    for path in out.rglob("case.json"):
        found.append((json.loads(path.read_text())["began"], path.stat().st_mtime))
    return found


def throughput(folder: Path, workers: int, place: Path) -> float:
    """Cases a second, from the first begun to the last published."""
    out = place / f"workers-{workers}-{time.time_ns()}"
    words = command(folder, HIPPOCAMPUS, out, ["gradcam", "saliency"], "--workers", str(workers))
    subprocess.run(words, env=os.environ | ONE, check=True, capture_output=True)
    times = spans(out)
    return len(times) / (max(end for _, end in times) - min(begin for begin, _ in times))


def in_one(folder: Path, place: Path) -> tuple[float, float]:
    """Seconds a case: as a run, and in a bare loop over the same reading, prediction, maps and files; in turns, in this process."""
    import torch

    from MedXAILib.app.case import opened, run_case
    from MedXAILib.app.checking import model_of, request_of
    from MedXAILib.app.dispatch import One
    from MedXAILib.app.job import Job, Messages
    from MedXAILib.app.run import Cohort, prepared
    from MedXAILib.findings.finding import find
    from MedXAILib.findings.said import CaseResult, said
    from MedXAILib.io.read import read_volume
    from MedXAILib.io.write import write_labels, write_volume
    from MedXAILib.outputs.pictures.png import write_png
    from MedXAILib.outputs.pictures.thumbnail import thumbnail
    from MedXAILib.progress import silent

    torch.set_num_threads(1)
    job = Job(
        task="explain", inputs={"": str(folder)}, model=HIPPOCAMPUS, methods=("gradcam", "saliency"), device="cpu"
    )
    cohort: Cohort = prepared(job, place / "run", Messages())
    model, request = model_of(job), request_of(job)

    def bare(case) -> None:
        target = place / "bare" / case.folder
        target.mkdir(parents=True, exist_ok=True)
        volume = read_volume(case.path)
        maps = run_case(opened(model, {"": volume}), request)
        findings = [find(a, volume) for a in maps.attributions]
        result = CaseResult(name=case.name, reference=volume, said=said(maps.prediction), findings=tuple(findings))
        write_labels(result.said.labels, target / "labels.nrrd")
        for n, finding in enumerate(findings):
            write_volume(finding.map, target / f"map-{n}.nrrd")
            write_labels(finding.regions, target / f"regions-{n}.nrrd")
            write_png(thumbnail(finding), target / f"picture-{n}.png", finding.title)

    run_seconds = bare_seconds = 0.0
    with cohort.claimed() as alone:
        bare(cohort.cases[0])  # what is loaded at first use
        for number, case in enumerate(cohort.cases):
            for which in ("run", "bare") if number % 2 else ("bare", "run"):
                began = time.perf_counter()
                if which == "bare":
                    bare(case)
                    bare_seconds += time.perf_counter() - began
                else:
                    list(cohort.outcomes([case], One(), alone, silent))
                    run_seconds += time.perf_counter() - began
    return run_seconds / len(cohort.cases), bare_seconds / len(cohort.cases)


def worker_memory(folder: Path, model: str, method: str, place: Path, more: dict) -> tuple[int, int]:
    """Peak resident size of a worker, and the plan's bound: what a worker holds before, and what a case needs."""
    script = (
        "import sys, json\n"
        "from pathlib import Path\n"
        "from MedXAILib.app.estimate import estimate, held\n"
        "from MedXAILib.app.job import Job, Messages\n"
        "from MedXAILib.app.run import prepared, run\n"
        "from MedXAILib.app.setup import warm\n"
        "from MedXAILib.app.work import carry_warm\n"
        "from MedXAILib.provenance import peak_memory\n"
        "folder, model, method, out, more = sys.argv[1:6]\n"
        "job = Job(task='explain', inputs={'': folder}, model=model, methods=(method,), device='cpu', threads=1, **json.loads(more))\n"
        "cohort = prepared(job, out, Messages())\n"
        "order = cohort.setup.order.text\n"
        "if len(sys.argv) > 6:\n"
        "    need = estimate(cohort.setup, cohort.cases)\n"
        "    print(json.dumps(held() + need.memory))\n"
        "else:\n"
        "    for case in cohort.cases[:3]:\n"
        "        outcome = carry_warm(order, case)\n"
        "        assert not outcome.failure, outcome.failure\n"
        "    print(json.dumps(peak_memory()))\n"
    )
    found = []
    for mode in ([], ["plan"]):
        words = [
            sys.executable,
            "-c",
            script,
            str(folder),
            model,
            method,
            str(place / f"m-{time.time_ns()}"),
            json.dumps(more),
            *mode,
        ]
        done = subprocess.run(words, env=os.environ | ONE, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        found.append(int(done.stdout.strip().splitlines()[-1]))
    return found[0], found[1]


def parent_memory(cases: int, place: Path) -> int:
    """Peak resident size of the process that gives the work out."""
    from fixture_runs import small_model, volumes

    small_model(place / "small")
    volumes(place / f"small-{cases}", cases)
    script = (
        "import sys, runpy\n"
        "import MedXAILib.cli as cli\n"
        "from MedXAILib.provenance import peak_memory\n"
        "code = cli.run(sys.argv[1:])\n"
        "print(peak_memory())\n"
        "sys.exit(code)\n"
    )
    words = [
        "explain",
        str(place / f"small-{cases}"),
        "--model",
        str(place / "small" / "card.json"),
        "--class",
        "yes",
        "--workers",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "-o", str(place / f"parent-{cases}")],
        env=os.environ | ONE,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.strip().splitlines()[-1])


def verdict(text: str, value: float, limit: float, least: bool = False) -> None:
    print(
        f"- {text}: {value:.3f} ({'at least' if least else 'at most'} {limit}): {'met' if (value >= limit if least else value <= limit) else 'MISSED'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", choices=("speed", "memory", "parent"))
    options = parser.parse_args()
    hippocampus = options.data / "volumes" / "hippocampus" / "images"
    pictures = options.data / "images2d" / "brain_tumor_mri"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if options.only in (None, "speed"):
            run, bare = in_one(hippocampus, place)
            print(f"A case: {run:.3f} s as a run, {bare:.3f} s in a bare loop")
            verdict("overhead of a case, run / bare", run / bare, OVERHEAD)
            one, two = throughput(hippocampus, 1, place), throughput(hippocampus, 2, place)
            print(f"Cases a second: {one:.3f} by one worker of one thread, {two:.3f} by two")
            verdict("two workers / one", two / one, THROUGHPUT, least=True)
        if options.only in (None, "memory"):
            print("| | method | measured, MiB | bound, MiB | measured / bound |\n|---|---|---|---|---|")
            for title, where, model in (("hippocampus", hippocampus, HIPPOCAMPUS), ("slices", pictures, SLICES)):
                for method in ("gradcam", "saliency", "lime"):
                    fewer = {"options": {"samples": SAMPLES}} if method == "lime" else {}
                    measured, bound = worker_memory(where, model, method, place, fewer)
                    fine = measured <= OVER * bound and bound <= UNDER * measured
                    print(
                        f"| {title} | {method} | {measured / 2**20:.0f} | {bound / 2**20:.0f} | {measured / bound:.3f} {'' if fine else 'MISSED'} |",
                        flush=True,
                    )
        if options.only in (None, "parent"):
            few, many = parent_memory(50, place), parent_memory(400, place)
            print(f"Parent: {few / 2**20:.0f} MiB for 50 cases, {many / 2**20:.0f} MiB for 400")
            verdict("parent, 400 / 50 cases", many / few, 1.05)


if __name__ == "__main__":
    main()
