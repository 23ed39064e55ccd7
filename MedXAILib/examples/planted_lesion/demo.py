"""The planted lesion, found: a real head, a lesion in it, and whether the network and its maps see it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ... import NOTICE
from ...app.job import Job
from ...app.run import run
from ...findings.finding import Finding
from ...findings.said import CaseResult
from ...geometry.labels import Labels
from ...io.atomic import whole
from ...io.write import write_labels, write_volume
from ...models.loading import load_model
from ...prediction import predict
from ...progress import Progress, portion, silent
from . import NAME, SAMPLES
from .heads import demo_head
from .planting import LESION, PlantedLesion, miss_mm, plant_lesion

HEAD = "head-with-lesion.nrrd"


def run_demo(output: str | Path, seed: int, device: str = "auto", progress: Progress = silent) -> list[str]:
    """Plant a lesion, predict with and without it, explain, and say whether the maps find it.

    :param output: folder for the head, the lesion, the maps, ``demo.png`` and ``demo.mrb``.
    :returns: the story in lines.
    :raises InputError: where a package or the output folder is missing.
    """
    output = Path(output)
    head = demo_head()
    planted = plant_lesion(head, seed)
    model = load_model(NAME, device=device)
    without = predict(model, head, progress=portion(progress, 0, 2)).summary["probabilities"][LESION.name]
    result, files = _explained(planted, output, seed, device, portion(progress, 1, 2))
    write_labels(planted.lesion, output / "lesion.nrrd")
    at = ", ".join(f"{c:.0f}" for c in planted.centre)
    lines = [
        f"A lesion of {planted.radius:.1f} mm radius was planted at RAS {at} mm (seed {seed}).",
        f"Probability of a lesion: {result.said.classes[LESION.name]:.3f} with it, {without:.3f} without.",
    ]
    for finding in result.findings:
        a = finding.attribution
        lines.append(f"{a.method}: {_place(finding, planted.lesion)} ({a.seconds:.1f} s, {a.evaluations} evaluations)")
    pictures = f"{output / 'demo.png'}, {output / 'demo.mrb'} (for Slicer)"
    return [*lines, f"Wrote {pictures} and {files + 2} more files. {NOTICE}."]


def _explained(
    planted: PlantedLesion, output: Path, seed: int, device: str, progress: Progress
) -> tuple[CaseResult, int]:
    """Write the head with its lesion and the run that explains it; gives what was found, and the number of the run's files."""
    results: list[CaseResult] = []
    with tempfile.TemporaryDirectory() as folder:
        path, picture, scene = (Path(folder) / name for name in (HEAD, "demo.png", "demo.mrb"))
        write_volume(planted.head, path)
        job = Job(
            task="explain",
            inputs={"": str(path)},
            model=NAME,
            device=device,
            classes=(LESION.name,),
            methods=("gradcam", "lime"),
            options={"samples": SAMPLES},
            seed=seed,
        )
        summary = run(
            job,
            output,
            overwrite=True,
            snapshot_path=picture,
            scene_path=scene,
            progress=progress,
            then=results.append,
        )
        for file in (path, picture, scene):
            with whole(output / file.name) as beside:
                shutil.copyfile(file, beside)
    return results[0], len(summary["files"])


def _place(finding: Finding, lesion: Labels) -> str:
    """Where the top region of a map lies, in words."""
    regions = finding.region_rows
    if not regions:
        return "the map is empty"
    miss = miss_mm(lesion, regions[0].centroid)
    where = "in the lesion" if miss == 0 else f"{miss:.1f} mm from the lesion"
    return f"its hottest region is centred at {', '.join(f'{c:.0f}' for c in regions[0].centroid)} mm, {where}"
