"""One request carried out: what all its maps share, and how a map is told of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import NOTICE, __version__
from ..attribution.attribution import Attribution, FeatureCells
from ..attribution.method import FAILS, Method, QueryMethod
from ..caveats import CAUTION, UNRELIABLE, Caveat
from ..geometry.affine import spacing
from ..models.layers import last_decoder
from ..names import ranges
from ..preprocessing.suitability import refuse_constant
from .slices import choose_slices

if TYPE_CHECKING:
    from ..geometry.volume import Volume
    from ..models.loading import Model
    from ..prediction import Prediction
    from ..preprocessing.prepare import Prepared
    from ..recording.cache import RecordingCache
    from ..scoring import BoundTarget
    from ..tiling import Tiling
    from .request import Request
    from .session import Session

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """One request of one session, after the prediction.

    :ivar targets: made concrete for this input.
    :ivar tiling: how the network sees it here; some layers want slices one by one.
    """

    session: Session
    request: Request
    prediction: Prediction
    targets: tuple[BoundTarget, ...]

    @property
    def model(self) -> Model:
        """The session's."""
        return self.session.model

    @property
    def prepared(self) -> Prepared:
        """The session's."""
        return self.session.prepared

    @property
    def cache(self) -> RecordingCache:
        """The session's."""
        return self.session.cache

    @property
    def tiling(self) -> Tiling:
        """The prediction's."""
        return self.prediction.tiling

    @property
    def seed(self) -> int:
        """The request's."""
        return self.request.seed

    def slices(self, target: BoundTarget, m: Method) -> list[int] | None:
        """The slices to explain; None where the network does not see slices."""
        if not self.tiling.by_slices:
            return None
        chosen = choose_slices(self.request.slices or m.default_slices, target)
        refuse_constant(self.prepared, chosen)
        return chosen

    def repeats(self, layer: str) -> bool:
        """Whether a layer's map nearly repeats the segmentation."""
        return self.prediction.voxelwise and layer in last_decoder(self.session.layers)

    def attribution(
        self,
        m: Method,
        target: BoundTarget,
        volume: Volume,
        slices: Sequence[int] | None,
        caveats: Sequence[Caveat],
        *,
        lowered: bool = False,
        unused: str = "",
        provenance: dict[str, Any],
        **more: Any,
    ) -> Attribution:
        """A map with all that is to be known of it.

        :param caveats: of this map alone; those of every map follow.
        :param lowered: whether values below 0 were found and are not in the map, so that an empty one means something.
        :param unused: why the map must be empty, where this is known.
        """
        common = self._common(m, target, volume.array, slices, lowered, unused)
        return Attribution(
            volume=volume, method=m.name, target=target.name, label=target.label, signed=m.signed, says=target.says(slices),
            caveats=(*caveats, *common), provenance=self._provenance(m, target, slices) | provenance, **more,
        )  # fmt: skip

    def _common(
        self, m: Method, target: BoundTarget, values: Array, slices: Sequence[int] | None, lowered: bool, unused: str
    ) -> Iterator[Caveat]:
        """What limits belief in any map of this kind."""
        yield from self.prediction.remarks
        yield from target.caveats
        if self.prediction.random:
            text = (
                f"The network draws random numbers in evaluation mode too (dropout that stays on, or the like): all its passes drew "
                f"those of seed {self.seed}, and another seed gives another map."
            )
            yield Caveat("random-network", text, CAUTION, {"seed": self.seed})
        yield Caveat("method", m.reading)
        if m.randomisation == FAILS:
            text = (
                f"{m.title} failed the published randomisation check (Adebayo et al. 2018, Sixt et al. 2020): it shows edges of "
                "the input, even where a network has learnt nothing."
            )
            yield Caveat("randomisation", text, CAUTION)
        if not target.empty and not values.any() and not isinstance(m, QueryMethod):  # these say it themselves, and why
            yield self._empty(target, lowered, unused)
        if slices is not None and len(slices) < self.prepared.shape[0]:
            word, was = ("Only slice", "was") if len(slices) == 1 else ("Only slices", "were")
            text = f"{word} {ranges(slices)} {was} computed; zero elsewhere means not computed."
            yield Caveat("slices", text, figures={"computed": len(slices), "of": self.prepared.shape[0]})
        yield from target.elsewhere(slices)

    def _empty(self, target: BoundTarget, lowered: bool, unused: str) -> Caveat:
        if unused:
            return Caveat("empty", unused, UNRELIABLE)
        if lowered:
            return Caveat("empty", f"The map is empty: nothing here raises the score of {target.label}.")
        text = (
            f"The map is empty: no value and no gradient reached it, which does not mean that nothing matters to the "
            f"score of {target.label}; try another method or --layer."
        )
        return Caveat("empty", text, UNRELIABLE)

    def _provenance(self, m: Method, target: BoundTarget, slices: Sequence[int] | None) -> dict[str, Any]:
        """What is written down about any map, as plain values."""
        card, own = self.model.card, self.prepared.reference.source
        return {
            "notice": f"{NOTICE}. Shows influence on the model, not pathology.",
            "medxai": __version__,
            "model": card.name,
            "weights_sha256": self.model.weights_sha256,
            "method": m.name,
            "method_reference": m.reference,
            "published_randomisation_check": f"{m.randomisation}; not run on this network",
            "output": {"kind": card.output.kind, "which": card.output.which},
            "target": target.name,
            "class": target.label,
            "score": target.kind,
            "signed": m.signed,
            "normalisation": "none: raw values",
            "input": own.name,
            "geometry_not_in_the_file": list(own.assumed),
            "device": str(self.model.device),
        } | ({} if slices is None else {"slices": ranges(slices)})

    def cells(self, affine: Array) -> FeatureCells:
        """How large the cells of a map are.

        :param affine: of the cells, in (d0, d1, d2) order.
        """
        own = self.prepared.reference
        frame = np.eye(3) if own.unit else own.affine[:3, :3]
        cell = np.linalg.norm(np.linalg.solve(frame, affine[:3, :3]), axis=0)
        if 1 in own.shape and "thickness" in own.source.assumed:
            across = own.affine[:3, own.shape.index(1)]
            cell = np.delete(cell, int(np.argmax(np.abs(across @ affine[:3, :3]) / spacing(affine))))
        return FeatureCells(tuple(float(c) for c in cell), own.unit or own.elements)
