"""The scene, the picture and the montage of a case, made of its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..attribution.registry import method_title, methods
from ..caveats import texts
from ..errors import InputError, first_line
from ..findings.finding import Finding
from ..findings.regions import largest_components
from ..findings.said import CaseResult
from ..geometry.labels import Labels
from ..mrml.host import import_slicer
from ..mrml.overlay import Overlay
from ..mrml.palette import distinct
from ..mrml.scene import build_scene
from ..outputs.part import PartFolder
from ..outputs.pictures.sheet import write_montage
from ..outputs.pictures.snapshot import snapshot
from ..outputs.scene import save_scene
from .job import Messages

FINE, MOST_OUTLINED = "gradient", 5
"""The family of methods whose maps are not outlined in pictures, and the most hot regions that are outlined of others."""


def show(result: CaseResult, scene_path: Path | None, snapshot_path: Path | None) -> tuple[list[str], list[str]]:
    """The Slicer scene and the picture of one case: the paths of what was made, and why the rest could not be, which costs no
    map."""
    said, reference = result.said, result.reference
    classes = largest_components(said.labels) if said.labels else None
    taken = [row.color for row in classes.rows] if classes else []
    overlays = [overlay(finding, outlined(finding, taken)) for finding in result.findings]
    heading, caveats = f"{said.model} · {result.name}", texts(said.caveats)

    def draw_scene(path: Path) -> None:
        told = "\n".join([heading, *caveats])
        save_scene(build_scene(reference, overlays, said.labels, heading=told), path)

    def draw_picture(path: Path) -> None:
        snapshot(reference, overlays, path, heading=heading, segmentation=classes, caveats=caveats)

    shown, failed = [], []
    for path, save in ((scene_path, draw_scene), (snapshot_path, draw_picture)):
        if path is None:
            continue
        try:
            save(path)
            shown.append(str(path))
        except (InputError, OSError, RuntimeError) as error:
            failed.append(f"{path.name} was not written: {first_line(error)}")
    return shown, failed


def overlay(finding: Finding, regions: Labels | None = None, name: str = "") -> Overlay:
    """A finding as a scene and a picture show it."""
    a = finding.attribution
    return Overlay(
        name=name or f"{a.target} {a.method} {a.layer}".strip(), map=a.volume, signed=a.signed, target=a.target, said=a.says,
        method=method_title(a.method), layer=a.layer, caveats=tuple(texts(a.caveats)), regions=regions,
    )  # fmt: skip


def outlined(finding: Finding, taken: Sequence[tuple[float, float, float]]) -> Labels | None:
    """The hot regions that are outlined in pictures: the largest few; none of a map as fine as the voxels, whose fragments
    would hide it.

    :param taken: colours of the classes, which are outlined beside them.
    """
    known = methods().get(finding.attribution.method)
    if known is not None and known.family == FINE:
        return None
    regions = finding.regions
    array = regions.volume.array
    few = regions.volume.with_array(np.where(array <= MOST_OUTLINED, array, 0))  # values go by falling mass
    rows = regions.rows[:MOST_OUTLINED]
    colors = distinct(len(rows), taken)
    return Labels(few, tuple(replace(row, color=color) for row, color in zip(rows, colors, strict=True)))


def montages(result: CaseResult, folder: PartFolder, say: Messages) -> None:
    """For each target explained at several stages: their maps in order, and the score that each carries."""
    staged = [finding for finding in result.findings if finding.attribution.carried is not None]
    for target in dict.fromkeys(finding.attribution.target for finding in staged):
        some = [finding for finding in staged if finding.attribution.target == target]
        if len(some) < 2:
            continue
        try:
            import_slicer()
        except InputError as error:
            say(f"No montage of the layers: {error}")
            return
        first = some[0].attribution
        heading = f"{result.said.model} · {result.name} · {target} · {first.says} · Layer-wise Grad-CAM"
        layers = [finding.attribution.layer for finding in some]
        write_montage(
            result.reference,
            [overlay(finding, name=layer) for finding, layer in zip(some, layers, strict=True)],
            layers,
            [finding.attribution.carried or 0.0 for finding in some],
            folder.target(target, "layerwise", extension="png"),
            heading,
            result.said.labels,
            texts(result.said.caveats),
        )
