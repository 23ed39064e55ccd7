"""What may be explained: any target that can be bound to a prediction, or any callable of the network's output.

Scores are logits, not probabilities: a sigmoid's or softmax's gradient vanishes where the network is sure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..caveats import Caveat
from ..errors import InputError, OptionError
from ..geometry.resample import resample
from ..geometry.volume import ARRAY, Volume
from ..prediction import Classification, Prediction, Segmentation
from ..tiling import Region
from .bound import BoundTarget, ClassBound, FunctionBound, RegionBound

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Point = tuple[float, float, float]


@runtime_checkable
class Target(Protocol):
    """What is explained, of any input: bound to what the network said of one, it gives a score for each sample."""

    def bind(self, prediction: Prediction) -> BoundTarget:
        """:raises InputError: where the prediction has no such thing."""


@dataclass(frozen=True)
class ClassTarget:
    """A class by name or channel; None is the predicted class. In a segmentation: the region where that class was
    predicted."""

    label: str | int | None = None

    def bind(self, prediction: Prediction) -> BoundTarget:
        """See :class:`Target`."""
        index, name = class_of(self.label, prediction)
        if isinstance(prediction, Segmentation):
            return over_region(prediction, index, name, lambda where: prediction.winners[where] == index)
        assert isinstance(prediction, Classification)
        return ClassBound(name=name, label=name, prediction=prediction, index=index)


@dataclass(frozen=True)
class RegionTarget:
    """Segmentation: the summed logit of ``label`` where its probability exceeds ``threshold``
    (Xiao et al. 2021, EIECS, pp. 242-247: steps 3 and 4, with logits for probabilities).

    :param probabilities: sum the probabilities themselves, as the paper may mean; their gradient vanishes where the
        network is sure.
    """

    label: str | int
    threshold: float
    probabilities: bool = False

    def bind(self, prediction: Prediction) -> BoundTarget:
        """See :class:`Target`."""
        segmentation = voxelwise(prediction)
        index, label = class_of(self.label, prediction)
        if not 0 <= self.threshold < 1:
            raise InputError(f"--threshold {self.threshold:g} is no probability: give a number from 0 to 1.")
        name = f"{label}-T{self.threshold:g}" + ("-probabilities" if self.probabilities else "")

        def region(where: tuple[Any, ...]) -> Array:
            return segmentation.probability(index, where) > self.threshold

        return over_region(segmentation, index, label, region, name, probabilities=self.probabilities)


@dataclass(frozen=True)
class ComponentTarget:
    """Segmentation: the summed logit over one connected component (voxels that touch by faces, edges or corners) of the
    region where a class was predicted: the one that holds ``ras``, mm, or of a bare array this index (d0, d1, d2)."""

    ras: Point
    label: str | int | None = None

    def bind(self, prediction: Prediction) -> BoundTarget:
        """See :class:`Target`."""
        from scipy.ndimage import label as connected

        segmentation = voxelwise(prediction)
        index, label = class_of(self.label, prediction)
        components, _ = connected(segmentation.winners == index, np.ones((3, 3, 3)))
        number = components[place_of(self.ras, prediction, "--component")]
        if number == 0:
            raise OptionError(
                "--component",
                text_of(self.ras, ","),
                f"{label} was not predicted there; give a point in the piece that is meant",
            )
        mask = components == number
        return over_region(segmentation, index, label, mask.__getitem__, f"{label}-component-{text_of(self.ras)}")


@dataclass(frozen=True, eq=False)
class MaskTarget:
    """Segmentation: the summed logit of ``label`` (None: the predicted class) over a mask of one's own: where ``mask`` is
    not 0, on whatever grid."""

    mask: Volume
    label: str | int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.mask, Volume):
            raise InputError(f"MaskTarget takes a Volume, not {type(self.mask).__name__}: give Volume(array, affine).")

    def bind(self, prediction: Prediction) -> BoundTarget:
        """See :class:`Target`."""
        segmentation = voxelwise(prediction)
        index, label = class_of(self.label, prediction)
        given = Volume((self.mask.array != 0).astype(np.uint8), self.mask.affine)
        mask = resample(given, prediction.prepared.grid, order=0).array > 0
        if not mask.any():
            raise InputError(
                f"The mask {self.mask.source.name} marks no voxel of what the network sees: is it of this patient, and not empty?"
            )
        return over_region(segmentation, index, label, mask.__getitem__, f"{label}-mask")


@dataclass(frozen=True)
class VoxelTarget:
    """Segmentation: the logit of ``label`` (None: of the class predicted there) in the voxel nearest to ``ras``, mm; of a bare
    array, which has no geometry, at this index (d0, d1, d2)."""

    ras: Point
    label: str | int | None = None

    def __post_init__(self) -> None:
        if np.shape(self.ras) != (3,) or not np.isfinite(np.asarray(self.ras, float)).all():
            raise InputError(f"VoxelTarget takes three numbers (R, A, S in mm), not {self.ras!r}.")

    def bind(self, prediction: Prediction) -> BoundTarget:
        """See :class:`Target`."""
        segmentation = voxelwise(prediction)
        place = place_of(self.ras, prediction, "--voxel")
        here = prediction.logits[(slice(None), *place)]
        index = int(here.argmax()) if self.label is None else prediction.card.index(self.label)
        label = prediction.card.output.labels[index].name
        mask = np.zeros(prediction.prepared.shape, bool)
        mask[place] = True
        name = f"{label}-voxel-{text_of(self.ras)}"
        return RegionBound(
            name=name, label=label, prediction=segmentation, index=index, region=mask.__getitem__,
            planes=(np.arange(len(mask)) == place[0]).astype(int), point=place,
        )  # fmt: skip


@dataclass(frozen=True)
class DifferenceTarget:
    """The logit of one class less that of another, in the whole of what the network sees: why this and not that."""

    label: str | int
    other: str | int

    def bind(self, prediction: Prediction) -> BoundTarget:
        """See :class:`Target`."""
        (one, name), (other, second) = class_of(self.label, prediction), class_of(self.other, prediction)

        def difference(output: torch.Tensor) -> torch.Tensor:
            return (output[:, one] - output[:, other]).flatten(1).sum(1) if output.ndim > 2 else output[:, one] - output[:, other]  # fmt: skip

        return FunctionBound(name=f"{name}-minus-{second}", label=name, prediction=prediction, function=difference)


@dataclass(frozen=True)
class FunctionTarget:
    """Any callable of the network's output: (batch, class) or (batch, class, *spatial) to one number for each sample,
    (batch,): a risk, the logit of one class over another, a coordinate of an embedding.

    Over windows each window has its number, and their mean is explained.

    :param name: by which its maps are called; by default the function's own.
    """

    function: Callable[[torch.Tensor], torch.Tensor]
    name: str = ""

    def bind(self, prediction: Prediction) -> BoundTarget:
        """See :class:`Target`."""
        name = self.name or getattr(self.function, "__name__", type(self.function).__name__).strip("<>")
        return FunctionBound(name=name, label=name, prediction=prediction, function=self.function)


Given = Target | str | int | Callable[..., Any] | None
"""What people may give as a target."""


def target_of(given: Given) -> Target:
    """A target of whatever was given: a class by its name or number, None for the predicted one, a callable, or a target.

    :raises InputError: for anything else.
    """
    if given is None or isinstance(given, str | int) and not isinstance(given, bool):
        return ClassTarget(given)
    if isinstance(given, Target):
        return given
    if callable(given):
        return FunctionTarget(given)
    raise InputError(
        f"{given!r} is no target: give a class by its name or number, one of the targets of MedXAILib.scoring.targets, or a "
        "function of the network's output."
    )


def resolve(given: Given, prediction: Prediction) -> BoundTarget:
    """A target made concrete for one input.

    :raises InputError: for an unknown class (lists the classes), a point outside, or a target the task does not have.
    """
    return target_of(given).bind(prediction)


def voxelwise(prediction: Prediction) -> Segmentation:
    """:raises InputError: for a prediction that is no segmentation."""
    if not isinstance(prediction, Segmentation):
        raise InputError(
            f"{prediction.card.name} classifies: explain one of its classes; regions and voxels are for segmentations."
        )
    return prediction


def class_of(label: str | int | None, prediction: Prediction) -> tuple[int, str]:
    """(channel, name) of the class that is meant; None is the predicted one."""
    index = prediction.card.index(prediction.top if label is None else label)
    return index, prediction.card.output.labels[index].name


def over_region(
    prediction: Segmentation, index: int, label: str, region: Region, name: str = "", *, probabilities: bool = False
) -> RegionBound:
    """A score that is summed over a region."""
    count = prediction.prepared.shape[0]
    planes = np.array([np.count_nonzero(region((slice(n, n + 1),))) for n in range(count)])
    empty = Caveat("empty", f"No voxel was predicted as {name or label}: the map is empty.")
    return RegionBound(
        name=name or label, label=label, prediction=prediction, index=index, region=region, planes=planes,
        probabilities=probabilities, caveats=() if planes.any() else (empty,),
    )  # fmt: skip


def place_of(ras: Point, prediction: Prediction, option: str) -> tuple[int, int, int]:
    """Index of the voxel nearest to a point.

    :raises InputError: for a point outside.
    """
    own = prediction.prepared.reference
    place = np.round(ras).astype(int) if own.source.format == ARRAY else prediction.prepared.nearest(ras)
    if (place < 0).any() or (place >= prediction.prepared.shape).any():
        if not own.placed:
            raise InputError(
                f"{option} {text_of(ras, ',')} lies outside the image, and {own.source.name} does not say how it lies in the "
                "patient: give a point in the coordinates of the assumed affine that 'medxai info' prints."
            )
        raise InputError(
            f"{option} {text_of(ras, ',')} lies outside the volume: give a point in RAS mm inside it ('medxai info' prints its extent)."
        )
    d0, d1, d2 = (int(n) for n in place)
    return d0, d1, d2


def text_of(ras: Sequence[float], between: str = "-") -> str:
    """A point as part of a name, or of a sentence."""
    return between.join(f"{c:g}" for c in ras)
