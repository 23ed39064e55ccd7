"""Does the planted-lesion network see the lesion, and do its maps find it? Over many seeds, beside a naive map.

    python Testing/Benchmarks/lesion_seeds.py                       # the demo's head, seeds 0 to 99
    python Testing/Benchmarks/lesion_seeds.py --head PATH           # another skull-stripped T1 head

A hit: the centroid of a map's top region (half of the positive mass, largest share first) lies in the lesion or within
5 mm of it. The naive map is |x - blur(x)| of the network's own input, with a Gaussian of 6 mm.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from MedXAILib.app.case import run_case
from MedXAILib.caveats import texts
from MedXAILib.examples.planted_lesion import NAME, SAMPLES
from MedXAILib.examples.planted_lesion.heads import demo_head
from MedXAILib.examples.planted_lesion.planting import miss_mm, plant_lesion
from MedXAILib.findings.regions import hot_regions
from MedXAILib.geometry.affine import spacing
from MedXAILib.geometry.resample import resample
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.session import Session
from MedXAILib.session.request import requested

HIT_MM = 5.0
BLUR_MM = 6.0
COLUMNS = ("seed", "p_without", "p_with", "gradcam_mm", "lime_mm", "naive_mm", "gradcam_s", "lime_s", "r2")


def read_mgz(path: Path) -> Volume:
    """FreeSurfer's MGZ through nibabel, which the library itself does not need; cropped to the brain and a rim of 9 voxels
    (most of its 256^3 are empty)."""
    import nibabel

    image = nibabel.load(path)
    array = np.asarray(image.dataobj)
    box = [(max(0, hits.min() - 9), hits.max() + 10) for hits in np.nonzero(array)]
    first = np.eye(4)
    first[:3, 3] = [low for low, _ in box]
    cropped = array[tuple(slice(*ends) for ends in box)]
    return Volume(np.ascontiguousarray(cropped.transpose(2, 1, 0)), image.affine @ first)


@cache
def setting(head: str | None):
    """Head and model, once for each process."""
    import torch

    from MedXAILib.models.loading import load_model

    torch.set_num_threads(1)
    if head is None:
        return demo_head(), load_model(NAME, device="cpu")
    volume = read_mgz(Path(head)) if head.endswith(".mgz") else read_volume(head)
    return volume, load_model(NAME, device="cpu")


def miss(heat: Volume, lesion, mass: Volume | None = None) -> float:
    """Distance of the top region's centroid from the lesion, mm; infinite for an empty map."""
    _, regions = hot_regions(heat, mass=None if mass is None else mass.array)
    return miss_mm(lesion, regions[0].centroid) if regions else float("inf")


def naive(prepared) -> Volume:
    from scipy.ndimage import gaussian_filter

    x = prepared.tensor[0].numpy()
    return prepared.volume(np.abs(x - gaussian_filter(x, BLUR_MM / spacing(prepared.affine))))


def one(task: tuple[str | None, int]) -> tuple:
    """One seed: a row of COLUMNS."""
    head, seed = task
    volume, model = setting(head)
    planted = plant_lesion(volume, seed)
    without = run_case(Session(model, volume))
    asked = requested("lesion", ["gradcam", "lime"], samples=SAMPLES, seed=seed)
    found = run_case(Session(model, planted.head), asked)
    cam, lime = found.attributions
    r2 = next((float(s.split("R2 = ")[1].split()[0]) for s in texts(lime.caveats) if "R2 = " in s), float("nan"))
    return (
        seed,
        without.prediction.probabilities["lesion"],
        found.prediction.probabilities["lesion"],
        *(miss(a.on(volume), planted.lesion, resample(a.mass, volume.grid)) for a in (cam, lime)),
        miss(naive(found.session.prepared), planted.lesion),
        cam.seconds,
        lime.seconds,
        r2,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", help="a skull-stripped T1 head (0 outside); the demo's own by default")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="also write one row for each seed")
    chosen = parser.parse_args()
    began, rows = time.time(), []
    with ProcessPoolExecutor(chosen.processes) as pool:
        for row in pool.map(one, [(chosen.head, seed) for seed in range(chosen.seeds)]):
            rows.append(row)
            print(f"\r{len(rows)}/{chosen.seeds} {time.time() - began:.0f} s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if chosen.csv:
        with chosen.csv.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    table = {name: np.array([row[n] for row in rows]) for n, name in enumerate(COLUMNS)}
    sure = (table["p_with"] > 0.9) & (table["p_without"] < 0.1)
    print("| over seeds | count or median |\n|---|---|")
    print(f"| p > .9 with and < .1 without the lesion | {sure.sum()} of {len(rows)} |")
    print(
        f"| p with (median, lowest); without (median) | {np.median(table['p_with']):.3f}, {table['p_with'].min():.3f}; {np.median(table['p_without']):.3f} |"
    )
    for name in ("gradcam", "lime", "naive"):
        away = table[f"{name}_mm"]
        print(
            f"| {name}: top region in the lesion or within {HIT_MM:g} mm | {(away <= HIT_MM).sum()} of {len(rows)} (in it: {(away == 0).sum()}) |"
        )
    print(
        f"| seconds for a map, 1 thread: Grad-CAM, LIME | {np.median(table['gradcam_s']):.2f}, {np.median(table['lime_s']):.1f} |"
    )
    print(f"| LIME's R2 (median) | {np.nanmedian(table['r2']):.2f} |")


if __name__ == "__main__":
    main()
