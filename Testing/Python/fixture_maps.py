"""Volumes and maps whose places are known."""

from __future__ import annotations

import numpy as np

from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.geometry.volume import Source, Volume
from MedXAILib.mrml.overlay import Overlay


def rotation(seed: int, degrees: float = 25.0) -> np.ndarray:
    """A proper rotation by up to ``degrees`` about each axis."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(np.random.default_rng(seed).uniform(-degrees, degrees, 3))):
        turn = np.eye(3)
        one, two = [n for n in range(3) if n != axis]
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


def grid(shape, spacing, seed=None, middle=(12.0, -30.0, 55.0)) -> np.ndarray:
    """An affine whose grid of ``shape`` (i, j, k) has its middle at ``middle``; oblique with a seed."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if seed is None else rotation(seed)) @ np.diag(spacing)
    affine[:3, 3] = np.array(middle) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def blob(shape, affine, place, sigma: float, amplitude: float = 1.0) -> Volume:
    """A Gaussian about a RAS point."""
    k, j, i = np.meshgrid(*[np.arange(n) for n in shape[::-1]], indexing="ij")
    ras = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    values = amplitude * np.exp(-((ras - np.array(place)) ** 2).sum(axis=-1) / (2 * sigma**2))
    return Volume(values.astype(np.float32), affine)


def as_overlay(name: str, map_: Volume, signed: bool = False, target: str = "", method: str = "", **more) -> Overlay:
    """A map with little to say."""
    return Overlay(name=name, map=map_, signed=signed, target=target, method=method, **more)


def example() -> tuple[Volume, list[Overlay]]:
    """An oblique anisotropic volume, two maps (one signed) and the regions of the first."""
    shape, affine = (40, 36, 20), grid((40, 36, 20), (2, 2, 4.5), seed=1)
    noise = np.random.default_rng(0).integers(0, 1000, shape[::-1]).astype(np.int16)
    volume = Volume(noise, affine, Source("head.nii.gz"))
    heat = blob(shape, affine, (20, -35, 60), 8, amplitude=3e-5)
    regions = Labels(volume.with_array((heat.array > 2e-5).astype(np.uint8)), (Label(1, "hot 1", (0.25, 0.5, 1.0)),))
    signed = heat.with_array(heat.array - blob(shape, affine, (0, -20, 50), 8, amplitude=3e-5).array)
    return volume, [
        as_overlay("lesion gradcam", heat, False, "lesion", "Grad-CAM", caveats=("Coarse.",), regions=regions),
        as_overlay("lesion lime", signed, True, "lesion", "LIME"),
    ]
