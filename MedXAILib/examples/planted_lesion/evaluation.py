"""How often the network sees a planted lesion, and how often its maps point at it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...findings.regions import hot_regions
from ...geometry.labels import Labels
from ...geometry.resample import resample
from ...geometry.volume import Volume
from ...models.loading import Model
from ...prediction import predict
from ...progress import Progress
from ...session import Session
from ...session.request import requested
from . import SAMPLES
from .planting import LESION, SURVEY_MM, miss_mm, plant_in, survey

HIT_MM = 5.0
BLUR_MM = 6.0
"""Of the naive map."""


def measure(
    model: Model, head: Volume, seeds: Sequence[int], lime_seeds: Sequence[int], progress: Progress
) -> dict[str, int | float]:
    """What the network and its maps do on a head, with a lesion planted for each seed.

    A map hits when the centroid of its top region lies at most HIT_MM from the lesion. Regions are taken on the
    network's grid. The naive map is |x - blur(x)| of the network's input, with a Gaussian of BLUR_MM.
    """
    from scipy.ndimage import gaussian_filter

    seen = survey(head)
    sure, hits = 0, {"gradcam": 0, "lime": 0, "naive": 0}
    for number, seed in enumerate(seeds):
        planted = plant_in(head, seen, seed)
        session = Session(model, planted.head)
        prepared = session.prepared
        sure += session.predict().summary["probabilities"][LESION.name] > 0.9
        methods = ["gradcam", "lime"] if seed in lime_seeds else ["gradcam"]
        x = prepared.volume(prepared.tensor[0].numpy())
        found = session.explain(requested(LESION.name, methods, samples=SAMPLES))
        masses = {a.method: resample(a.mass, x.grid) for a in found}
        masses["naive"] = x.with_array(np.abs(x.array - gaussian_filter(x.array, BLUR_MM / SURVEY_MM)))
        for name, mass in masses.items():
            hits[name] += hit(mass, planted.lesion)
        progress(number + 1, len(seeds), "Measuring")
    return {
        "seeds": len(seeds),
        "probability_without": round(predict(model, head).summary["probabilities"][LESION.name], 4),
        "probability_with_above_0.9": sure,
        "gradcam_hits": hits["gradcam"],
        "naive_hits": hits["naive"],
        "lime_seeds": len(lime_seeds),
        "lime_samples": SAMPLES,
        "lime_hits": hits["lime"],
    }


def hit(mass: Volume, lesion: Labels) -> bool:
    """Whether the centroid of a map's top region lies in the lesion or at most HIT_MM from it."""
    _, regions = hot_regions(mass)
    return bool(regions) and miss_mm(lesion, regions[0].centroid) <= HIT_MM
