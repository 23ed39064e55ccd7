"""The recipe's random MONAI transforms, on one example at a time."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence

from ..errors import InputError
from .cases import Example
from .recipe import Augmentation

INTENSITY = ".intensity."
"""Part of MONAI's module names whose transforms change values and move none."""


class Augment:
    """Example to Example. Every number drawn follows from the seed given last."""

    def __init__(self, wanted: Sequence[Augmentation], with_labels: bool):
        from monai.transforms import Compose

        self.transform = Compose([_make(step, with_labels) for step in wanted])
        self.with_labels = with_labels

    def seed(self, number: int) -> None:
        self.transform.set_random_state(number)

    def __call__(self, example: Example) -> Example:
        parts = {"image": example.image}
        if self.with_labels:
            parts["label"] = example.truth
        changed = self.transform(parts)
        image = _plain(changed["image"]).float()
        return Example(image, _plain(changed["label"]).long() if self.with_labels else example.truth)


def _make(step: Augmentation, with_labels: bool):
    from monai import transforms

    make = getattr(transforms, f"{step.name}d", None)
    if make is None or not issubclass(make, transforms.Transform):
        near = difflib.get_close_matches(step.name, [n[:-1] for n in dir(transforms) if n.endswith("d")], 3)
        raise InputError(
            f"The recipe's augmentation '{step.name}' is no transform of monai.transforms"
            f"{': near names are ' + ', '.join(near) if near else ''}; mend it."
        )
    moves = INTENSITY not in make.__module__
    keys = ["image", "label"] if with_labels and moves else ["image"]
    modes = {}
    if "mode" in inspect.signature(make).parameters and moves and "mode" not in step.arguments:
        modes["mode"] = ["bilinear", "nearest"][: len(keys)]
    try:
        return make(keys, **modes, **step.arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"The recipe's augmentation '{step.name}' is wrong: {str(error)[:200]}.") from None


def _plain(tensor):
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
