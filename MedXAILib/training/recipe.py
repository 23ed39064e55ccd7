"""Recipe: what a training is made of. A TOML file; every number of a trained network follows from it and the data."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ..errors import FileError
from ..examples.planted_lesion import NAME as PLANTED_LESION
from ..models.card import Expected, ModelCard, Strict, explain_field
from ..models.schema import by_windows, voxelwise

RECIPES = Path(__file__).parent / "recipes"
NO_WEIGHTS = {"file": "none"}
"""Stands in the card until there are weights."""


class Data(Strict):
    """Paths are relative to the folder given with ``--data``.

    ``train``: segmentation: a folder with ``images/`` and ``labels/``, whose files have the same names; classification:
    a folder with one subfolder of pictures or volumes for each class, or a table (.csv) with a column ``path`` (relative
    to the table) and one column for each label: 1 yes, 0 no, -1 uncertain, empty not mentioned. No DICOM: convert it first. In
    label maps 0 is the background and 1 the first label after it (the first label where the activation is a sigmoid).
    ``test``: the same of the test set, which is measured once, at the very end. ``classes``: folder or column -> label of
    the card, where they differ. ``validation``: share of the cases, set aside to choose the best epoch by; files of equal
    content count once. ``alike``: pictures whose thumbnails of 32 x 32 correlate by more than this (as neighbouring
    slices of a patient do) stay on one side of that split, and test cases that look like any of them are measured apart.
    ``content``: a hash of the training cases that the card's provenance, licence and weaknesses speak of (``medxai train``
    prints it): with other data, as after a recipe was copied, they are left out.
    """

    train: str
    test: str | None = None
    classes: dict[str, str] = {}
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    alike: Annotated[float, Field(gt=0, le=1)] | None = None
    content: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Augmentation(Strict):
    """A random array transform of monai.transforms, by name. What moves voxels moves the labels too."""

    name: str
    arguments: dict[str, Any] = {}


class Training(Strict):
    """``loss``: cross_entropy, dice_cross_entropy (segmentation) or bce (labels that may come together; what is not
    mentioned does not count). ``uncertain``: labels of -1 are ignored, or taken for zeros or ones (U-Ignore, U-Zeros,
    U-Ones of Irvin et al. 2019, arXiv 1901.07031). ``learning_rate``: the highest of a cosine after one epoch's rise.
    ``storage``: of the written weights.
    """

    loss: Literal["cross_entropy", "dice_cross_entropy", "bce"]
    uncertain: Literal["ignore", "zeros", "ones"] = "ignore"
    epochs: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    storage: Literal["float32", "float16"] = "float16"


class Recipe(Strict):
    """``card``: the model card to be, without weights and figures; its network is the one that is trained."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
    seed: int = 0
    data: Data
    card: dict[str, Any]
    training: Training
    augmentation: list[Augmentation] = []

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """:raises ValueError: for parts that do not go together."""
        for field in ("name", "weights", "figures"):
            if field in self.card:
                raise ValueError(f"card.{field} is filled in by the training; remove it")
        segmentation = voxelwise(self.card.get("task"))
        if segmentation != (self.training.loss == "dice_cross_entropy"):
            raise ValueError("training.loss dice_cross_entropy and the task segmentation belong together")
        sigmoid = self.card.get("output", {}).get("activation", "softmax") == "sigmoid"
        if not segmentation and sigmoid != (self.training.loss == "bce"):
            raise ValueError(
                "training.loss bce and card.output.activation sigmoid belong together, cross_entropy and softmax"
            )
        if self.card.get("output", {}).get("kind") == "value":
            raise ValueError("card.output.kind value cannot be trained: there are losses of classes only")
        if not segmentation and by_windows(self.card.get("spatial", {}).get("mode")):
            raise ValueError(
                "a classifier of windows cannot be trained, as no window has a class of its own; take slices or whole"
            )
        if len(self.card.get("input", {}).get("channels", ())) > 1:
            raise ValueError("card.input.channels has several: what is trained takes one volume a case")
        return self

    def model_card(
        self,
        weights: dict[str, str] = NO_WEIGHTS,
        figures: dict[str, Any] | None = None,
        expected: Expected | None = None,
        told: dict[str, Any] | None = None,
    ) -> ModelCard:
        """The card with its weights and figures, with what was measured of the inputs, and what is told of the data."""
        rest = {"name": self.name, "weights": weights, "figures": figures or {}} | (told or {})
        if expected is not None:
            rest["input"] = self.card.get("input", {}) | {"expected": expected}
        return ModelCard.model_validate(self.card | rest)


def known_recipes() -> list[str]:
    """Names of the recipes that come with MedXAI."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_recipe(recipe: str | Path) -> Recipe:
    """Read and validate a recipe.

    :param recipe: a path, or the name of one that comes with MedXAI.
    :raises FileError: naming the file and the field, and what to do.
    """
    path = RECIPES / f"{recipe}.toml" if str(recipe) in known_recipes() else Path(recipe)
    try:
        found = Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise FileError(
            path,
            "there is no such recipe",
            f"give the path of one (a .toml file), or one of {', '.join([*known_recipes(), PLANTED_LESION])}",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileError(path, f"this is no readable TOML recipe ({error})", "mend it there") from None
    except ValidationError as error:
        raise FileError(path, f"{explain_field(error)}.") from None
    try:
        found.model_card()
    except ValidationError as error:
        raise FileError(path, f"in the part [card], {explain_field(error)}.") from None
    return found
