"""What a method of attribution is, for every door: the command line's help, the panel's list, the documentation.

A method of one's own is one of these three kinds, in one file outside of MedXAI: see ``Docs/adding.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..caveats import Caveat
from ..models.layers import Layer
from ..progress import Progress
from .option import Option

if TYPE_CHECKING:
    import torch

    from ..recording.recording import Recording
    from ..scoring.scorer import Scorer
    from .cam import Feature
    from .gradient import Gradient, InputResult

Floats = NDArray[np.float32]
Segments = NDArray[np.integer[Any]]
ScoreFunction = Callable[["torch.Tensor"], "torch.Tensor"]
"""(n, channel, *spatial) to the T scores (n, T), without gradients."""
PASSES, FAILS, UNTESTED = "passes", "fails", "not tested"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the number of evaluations of a method depends on.

    :ivar shape: (d0, d1, d2) that is explained at once: a slice has d0 = 1.
    :ivar spacing: mm along these axes.
    :ivar by_slices: the network sees slices.
    :ivar channels: of the layer explained.
    :ivar options: of the method, by name.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    by_slices: bool
    channels: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def one_pass(cost: Cost) -> int:
    """The cost of a method that needs no more than the prediction's own pass."""
    return 1


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of attribution.

    :ivar kind: in a word, for lists.
    :ivar default_slices: of a slice-wise network, those that it explains unless asked otherwise.
    :ivar title: as people write it.
    :ivar needs: what it must have of the network, and ``cost``: how often this runs, in words.
    :ivar evaluations: how often the network runs for one map of the whole (or of a slice of a slice-wise network).
    :ivar signed: whether negative values mean evidence against; otherwise maps are >= 0.
    :ivar randomisation: whether maps change as they must where the network's weights are made random, layer by layer
        (Adebayo et al. 2018, arXiv 1810.03292): as published, for the method and not for any one network.
    :ivar reading: one sentence for every map of the method: how to read it, or what it cannot show.
    :ivar task: the only task that it is for, or "".
    :ivar options: its own.
    :ivar requires: names of the methods of layers whose maps it takes.
    :ivar number: raised by one when its maps get other values, so that those made before are not taken for its own.
    """

    kind: ClassVar[str]
    default_slices: ClassVar[str] = "all"
    name: str
    title: str
    family: str
    needs: str
    cost: str
    reference: str
    signed: bool
    reading: str
    evaluations: Callable[[Cost], int] = one_pass
    randomisation: str = UNTESTED
    task: str = ""
    options: tuple[Option, ...] = ()
    requires: tuple[str, ...] = ()
    number: int = 1

    @property
    def takes_layers(self) -> bool:
        """Whether ``--layer`` means anything to it."""
        return bool(self.requires)

    def default_layers(self, layers: Sequence[Layer]) -> list[Layer]:
        """The layers that it explains unless asked otherwise; none where the network's default does."""
        return []

    def evaluated(self, cost: Cost, channels: int = 0) -> int:
        """About how often the network runs for one map.

        :param channels: of the layer explained.
        """
        return self.evaluations(replace(cost, channels=channels))

    def as_value(self) -> dict[str, Any]:
        """For a door in another process."""
        return {
            "name": self.name, "kind": self.kind, "title": self.title, "family": self.family, "needs": self.needs, "cost": self.cost,
            "reference": self.reference, "reading": self.reading, "task": self.task, "signed": self.signed,
            "options": [option.as_value() for option in self.options],
        }  # fmt: skip


def added_up(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """The statistics of two tiles as one: sums."""
    return old + new


@dataclass(frozen=True)
class Gather:
    """Statistics of one layer over all tiles of a volume.

    :ivar run: ``run(feature, *earlier) -> statistics`` of one tile, (batch, ...).
    :ivar merge: those of two tiles as one.
    """

    run: Callable[..., torch.Tensor]
    merge: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = added_up


def nothing_to_check(recording: Recording, layer: Layer) -> None:
    """Any layer will do."""


@dataclass(frozen=True, kw_only=True)
class LayerMethod(Method):
    """A map of one layer, from its activations and gradients: see :mod:`.cam`.

    :ivar gathers: one after the other over all tiles; each gets what the earlier ones found.
    :ivar map: ``map(feature, *statistics) -> (batch, *cells)``.
    :ivar merge: how windows' maps become one: ``mean`` (by their weights), or ``sum``.
    :ivar choose: the layers that it explains unless asked otherwise; by default one, the network's.
    :ivar check: raises InputError for a layer that does not suit.
    :ivar carried: of each tile, a figure of the layer that is summed up and told with its map.
    :ivar assumes_pooling: it gives a channel one weight for all positions, the mean of its gradients: its maps say where
        the network's head does not treat positions alike.
    """

    kind = "layer"
    family: str = "class activation map"
    needs: str = "a convolutional layer"
    cost: str = "one forward pass, and one partial backward pass for each class"
    gathers: tuple[Gather, ...] = ()
    map: Callable[..., torch.Tensor]
    merge: Literal["mean", "sum"] = "mean"
    choose: Callable[[Sequence[Layer]], list[Layer]] | None = None
    check: Callable[[Recording, Layer], None] = nothing_to_check
    carried: Callable[[Feature], float] | None = None
    assumes_pooling: bool = False

    @property
    def takes_layers(self) -> bool:
        """See :class:`Method`."""
        return True

    def default_layers(self, layers: Sequence[Layer]) -> list[Layer]:
        """See :class:`Method`."""
        return self.choose(layers) if self.choose else []


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientInputs:
    """What a gradient method may need beside the input.

    :ivar options: its own, by name.
    :ivar baseline: an input without evidence, (channel, d0, d1, d2), of the name in ``options``.
    :ivar baselines: of expected gradients, one or more of the same shape.
    :ivar by_slices: each slice has a score of its own.
    :ivar separate: each slice is an input of its own and knows nothing of the others (slices of one volume share its range).
    """

    options: Mapping[str, Any]
    seed: int
    baseline: torch.Tensor | None
    baselines: tuple[torch.Tensor, ...]
    by_slices: bool
    separate: bool = False


def alone(values: Floats, maps: Mapping[str, Floats]) -> Floats:
    """The map as it is."""
    return values


@dataclass(frozen=True, kw_only=True)
class InputMethod(Method):
    """A map of the input: see :mod:`.gradient`.

    :ivar run: ``run(x, gradient, inputs: GradientInputs) -> InputResult``.
    :ivar reduce: how an input's channels become one map: (channel, d0, d1, d2) to (d0, d1, d2).
    :ivar combine: the map with those that it requires: ``combine(values, {method: map on the same grid})``.
    """

    kind = "input"
    family: str = "gradient"
    needs: str = "gradients"
    run: Callable[[torch.Tensor, Gradient, GradientInputs], InputResult]
    reduce: Callable[[torch.Tensor], torch.Tensor]
    combine: Callable[[Floats, Mapping[str, Floats]], Floats] = alone


@dataclass(eq=False, kw_only=True)
class Query:
    """What a query method sees: one sample (the whole, or one slice), and the scores of whatever it makes of it.

    :ivar x: (channel, d0, d1, d2), the preprocessed input; of a slice d0 is 1.
    :ivar score: (n, channel, d0, d1, d2) to the T scores (n, T), without gradients: a :class:`MedXAILib.Scorer`, whose ``ask``
        does it in batches and moves the progress.
    :ivar spacing: mm along d0, d1, d2.
    :ivar body: bool (d0, d1, d2): what is not air.
    :ivar fill: what hidden voxels show, of the shape of ``x``.
    :ivar superpixels: gives superpixels as integers 0..n-1 (d0, d1, d2), about as many as the option says.
    :ivar options: of the method, by name.
    :ivar seed: of whatever it draws.
    :ivar batch: inputs in a call of ``score``, and ``progress``, to be called after each: for those that do not ``ask``.
    """

    x: torch.Tensor
    score: Scorer
    spacing: tuple[float, float, float]
    body: NDArray[np.bool_]
    fill: torch.Tensor
    superpixels: Callable[[], Segments]
    options: Mapping[str, Any]
    seed: int
    batch: int
    progress: Progress


@dataclass(frozen=True, eq=False, kw_only=True)
class QueryResult:
    """The maps of T scores.

    :ivar values: (T, d0, d1, d2) float32; positive where showing a voxel raises the score; None with superpixels.
    :ivar segments, coefficients: superpixels 0..n-1 (d0, d1, d2), and what each adds to each score, (T, n).
    :ivar evaluations: of the network.
    :ivar caveats: of each score.
    :ivar parameters: what was chosen, in plain values.
    """

    values: Floats | None = None
    segments: Segments | None = None
    coefficients: NDArray[np.float64] | None = None
    evaluations: int
    caveats: Sequence[tuple[Caveat, ...]]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def map(self, row: int) -> Floats:
        """The map of one score, float32 (d0, d1, d2): of superpixels, each voxel has its superpixel's coefficient."""
        if self.values is not None:
            values: Floats = self.values[row]
            return values
        assert self.coefficients is not None
        return painted(self.coefficients[row], self.segments)


def painted(coefficients: NDArray[np.float64], segments: Segments | None) -> Floats:
    """Each voxel takes its superpixel's coefficient; float32, *spatial."""
    values: Floats = np.asarray(coefficients)[np.asarray(segments)].astype(np.float32)
    return values


@dataclass(frozen=True, kw_only=True)
class QueryMethod(Method):
    """A map from the scores of changed inputs alone: see :mod:`.perturbation`.

    :ivar run: ``run(query: Query) -> QueryResult``.
    """

    kind = "query"
    default_slices = "top:1"
    family: str = "perturbation"
    needs: str = "nothing"
    run: Callable[[Query], QueryResult]
