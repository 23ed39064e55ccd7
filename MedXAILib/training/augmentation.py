"""The recipe's random MONAI transforms, on one example at a time."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError, first_line
from .example import TrainingExample
from .recipe import Augmentation

if TYPE_CHECKING:
    import torch
    from monai.transforms.transform import Transform

MOVING = (".spatial.", ".croppad.")
"""Parts of MONAI's module names whose transforms move voxels, and so the labels too."""
STILL = ("RandSimulateLowResolution",)
"""Transforms among these that move nothing."""
PADDING = ".croppad."
"""There, a mode is one of padding, and the same for labels."""
TRIES = 20


class Augment:
    """Example to example. Every number drawn follows from the seed given last."""

    def __init__(self, wanted: Sequence[Augmentation], with_labels: bool) -> None:
        from monai.transforms.compose import Compose

        self.transform = Compose([_make(step, with_labels) for step in wanted])
        self.with_labels = with_labels

    def try_on(self, example: TrainingExample) -> None:
        """Transform an example a few times.

        :raises InputError: for what fails, or makes label values that were not there.
        """
        from torch import isin

        for number in range(TRIES):
            self.seed(number)
            try:
                changed = self(example)
            except Exception as error:
                raise InputError(
                    f"The recipe's augmentation fails on the first case ({first_line(error.__cause__ or error)})",
                    "mend its arguments",
                ) from None
            if self.with_labels and not isin(changed.truth, example.truth.unique()).all():
                raise InputError(
                    "The recipe's augmentation makes label values that were not there",
                    "leave out what is no plain move",
                )

    def seed(self, number: int) -> None:
        """Draw anew, as after this number."""
        self.transform.set_random_state(number)

    def __call__(self, example: TrainingExample) -> TrainingExample:
        """The example changed, its labels alike."""
        parts = {"image": example.image}
        if self.with_labels:
            parts["label"] = example.truth
        changed = self.transform(parts)
        image = _plain(changed["image"]).float()
        return TrainingExample(image, _plain(changed["label"]).long() if self.with_labels else example.truth)


def _make(step: Augmentation, with_labels: bool) -> Transform:
    """MONAI's transform of dictionaries for a step of the recipe."""
    from monai import transforms
    from monai.transforms.transform import Transform

    make = getattr(transforms, f"{step.name}d", None)
    if make is None or not issubclass(make, Transform):
        near = difflib.get_close_matches(step.name, [n[:-1] for n in dir(transforms) if n.endswith("d")], 3)
        raise InputError(
            f"The recipe's augmentation '{step.name}' is no transform of monai.transforms"
            f"{': near names are ' + ', '.join(near) if near else ''}",
            "mend it",
        )
    moves = any(part in make.__module__ for part in MOVING) and step.name not in STILL
    keys = ["image", "label"] if with_labels and moves else ["image"]
    modes = {}
    if moves and "mode" in inspect.signature(make).parameters and PADDING not in make.__module__:
        modes["mode"] = [step.arguments.get("mode", "bilinear"), "nearest"][: len(keys)]
    try:
        made: Transform = make(keys, **(step.arguments | modes))
    except (TypeError, ValueError) as error:
        raise InputError(f"The recipe's augmentation '{step.name}' is wrong: {str(error)[:200]}.") from None
    return made


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without MONAI's metadata."""
    from monai.data.meta_tensor import MetaTensor

    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
