"""The card that goes beside the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...geometry.volume import Volume
from ...models.card import Expected, ModelCard
from ...preprocessing.prepare import prepare
from ...preprocessing.suitability import measure
from . import NAME
from .augmentation import vary
from .heads import scans
from .planting import LESION, SURVEY_MM
from .synthesis import AFFINE, DeformedHead

EXPECTED = 480
"""Examples drawn to measure what inputs look like."""


def make_card(sha256: str, figures: Mapping[str, object], expected: Expected | None = None) -> ModelCard:
    """:param sha256: of the weights file.

    :param figures: what was measured.
    :param expected: what inputs look like.
    """
    known = scans()
    return ModelCard.model_validate(
        {
            "name": NAME,
            "description": "Is there a planted lesion, dark like fluid, in a skull-stripped head? A toy for demonstrations, "
            "trained on computer-made ellipsoids of 6 to 12 mm radius; it has no clinical meaning. "
            "Research use only, not for clinical use.",
            "task": "classification",
            "network": {"architecture": "LesionNet"},
            "weights": {"file": f"{NAME}.safetensors", "sha256": sha256},
            "spatial": {"mode": "whole"},
            "input": {
                "channels": [{"name": "head", "modality": "MR T1, skull-stripped, 0 outside the brain"}],
                "orientation": "RAS",
                "spacing": (SURVEY_MM,) * 3,
                "intensity": {"rule": "zscore"},
                "expected": expected or {"modality": ["MR"]},
            },
            "output": {"labels": [{"name": "no lesion"}, {"name": LESION.name, "color": LESION.color}]},
            "layers": ["features"],
            "methods": ["gradcam", "lime"],
            "provenance": "Trained by MedXAILib/examples/planted_lesion/training.py on deformed and recontrasted copies of "
            + ", ".join(scan.image for scan in known.heads)
            + ": a healthy adult T1 with its machine-made label map (MIT, neuroneural/brainchop), a FLAIR (BSD-2, "
            "niivue), patient TCGA-FG-6692 (CC BY 3.0, TCIA TCGA-LGG), a glioma (BSD-3, pyradiomics) and patient "
            "PGBM-003 (CC BY 4.0 expected, TCIA Brain-Tumor-Progression); one in three an average of deformations, "
            "some with intensities drawn by structure, half with parts cut out and filled with the mean, as LIME "
            f"does. The demo's head (ICBM152) and {known.held_out} took no part.",
            "licence": "Apache-2.0",
            "figures": figures,
            "weaknesses": [
                "A toy task: the lesions were planted, and nothing real was learned or tested.",
                "It needs a skull-stripped head with dark fluid and zeros outside the brain; a skull misleads it.",
                "Tumours of the training patients counted as no lesion, so real lesions may be passed over.",
                "It was trained on heads of five people; another head may raise a false alarm.",
                "It has seen lesions only in tissue 3 mm or more below the surface of the brain.",
            ],
        }
    )


def expectations(bank: Sequence[DeformedHead], seed: int) -> Expected:
    """What the network may expect: :func:`measure` of heads as they are trained on, one in two with a lesion, but
    none with parts cut out. Their grid is the training's own, so it says nothing of a file's."""
    rng = np.random.default_rng([seed, 2])
    heads = (vary(bank[n % len(bank)], rng)[0][n % 2].numpy() for n in range(EXPECTED))
    card = make_card("0" * 64, {})
    found = measure(card, (prepare(card, Volume(head, AFFINE)) for head in heads))
    return found.model_copy(update={"spacing": {}, "field_of_view": {}})
