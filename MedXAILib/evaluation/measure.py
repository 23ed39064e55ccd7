"""What a measure is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ..attribution.option import Option

if TYPE_CHECKING:
    import torch

    from ..scoring import Scorer

Array = npt.NDArray[Any]


@dataclass(eq=False, kw_only=True)
class Evaluation:
    """What a measure sees: one map, and the scores of whatever it makes of the input.

    :ivar map: float (d0, d1, d2) on the network's grid; of a slice d0 is 1; signed where its method is.
    :ivar scorer: of the target that the map explains; ``scorer.x`` is the input.
    :ivar body: bool (d0, d1, d2): what is not air.
    :ivar baseline: what takes the place of voxels that are removed, of the shape of ``scorer.x``.
    :ivar options: of the measure, by name.
    :ivar seed: of its random draws.
    """

    map: Array
    scorer: Scorer
    body: Array
    baseline: torch.Tensor
    options: Mapping[str, Any]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What a measure found.

    :ivar value: None where it cannot be told; ``why`` says so then.
    :ivar chance: what a map that knows nothing gives.
    """

    value: float | None
    chance: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of a map.

    :ivar better: ``lower`` or ``higher``.
    :ivar run: ``run(evaluation: Evaluation) -> Figure``.
    :ivar evaluations: of the network, for one map, with these options.
    """

    name: str
    title: str
    reference: str
    better: str
    about: str
    run: Callable[[Evaluation], Figure]
    evaluations: Callable[[Mapping[str, Any]], int]
    options: tuple[Option, ...] = ()
