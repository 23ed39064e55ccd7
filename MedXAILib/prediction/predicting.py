"""predict(): the tiles of a prepared input through the network, and what it says of them as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..caveats import Caveat
from ..errors import CardError, InputError, first_line
from ..geometry.volume import Volume
from ..models.card import FROM_FILE, ModelCard
from ..models.layers import Inspection, coarsest_stride, examine
from ..models.running.agreement import compared, refuse_one_label
from ..models.running.guest import guest
from ..preprocessing.prepare import Prepared, prepare
from ..preprocessing.suitability import check
from ..progress import Progress, portion, silent
from ..recording.cache import RecordingCache
from ..tiling import AT_ONCE, Stitcher, Tile, Tiling, tile
from ..tiling.tiling import Index
from .classification import Classification
from .prediction import Floats, Prediction, feed
from .segmentation import Segmentation, to_labels

if TYPE_CHECKING:
    import torch

    from ..models.loading import Model


def lay_out(model: Model, prepared: Prepared) -> tuple[Tiling, Inspection]:
    """The tiles of a prepared input, and what one of them shows of the network.

    :raises InputError: where the network does not take an input of this size.
    """
    spatial, shape = model.card.spatial, prepared.shape
    size = spatial.input_size(shape)
    try:
        seen = examine(model.network, (1, len(prepared.tensor), *size), lambda: feed(model, _first(prepared, size)))
    except InputError:
        raise
    except Exception as error:
        raise CardError(
            model.card.name,
            f"the network does not take an input of {len(prepared.tensor)} channel(s) and the size "
            f"{' x '.join(map(str, size))} ({first_line(error)})",
            "mend input and spatial of the card",
        ) from error
    multiple = coarsest_stride(seen.layers) or (1, 1, 1)
    # an exported program may take the batch it was exported with, and no other
    at_once = 1 if model.card.network.architecture == FROM_FILE else AT_ONCE
    return tile(spatial, shape, multiple, at_once), seen


def _first(prepared: Prepared, size: Sequence[int]) -> torch.Tensor:
    """One piece of the input as the network sees it, (1, channel, *size): for networks that look at values."""
    import torch

    x = prepared.tensor[:, prepared.shape[0] // 2] if len(size) == 2 else prepared.tensor
    part: Index = (..., *(slice(n) for n in size))
    x = x[part]
    missing = [(0, n - have) for n, have in zip(size, x.shape[1:], strict=True)]
    pad = [p for pair in reversed(missing) for p in pair]
    return torch.nn.functional.pad(x, pad, value=float(x.min()))[None]


def predict(
    model: Model,
    inputs: Volume | Mapping[str, Volume] | Prepared,
    *,
    progress: Progress = silent,
    cache: RecordingCache | None = None,
) -> Prediction:
    """Run a model on one case.

    :param inputs: a volume, one for each of the card's named inputs, or what :func:`prepare` gave.
    :param cache: keeps what is recorded of each tile, so that an explanation needs no second forward pass.
    :raises InputError: where inputs, card and network do not fit each other.
    """
    prepared = inputs if isinstance(inputs, Prepared) else prepare(model.card, inputs)
    refuse_one_label(model.card)
    with guest(model.network):
        tiling, _ = lay_out(model, prepared)
        caveats = check(model.card, prepared)
        if cache is None or (cache.limit == 0 and len(tiling.tiles) > 1):
            # nothing would be kept of these passes: without layers a recording is a bare forward pass
            cache = RecordingCache(model.network, (), limit=0)
        return _predicted(model, prepared, tiling, caveats, cache, progress)


def _predicted(
    model: Model,
    prepared: Prepared,
    tiling: Tiling,
    caveats: tuple[Caveat, ...],
    cache: RecordingCache,
    progress: Progress,
) -> Prediction:
    outputs = _Outputs(model.card, tiling)
    for number, (t, piece) in enumerate(tiling.pieces(prepared.tensor[None])):
        report, x = portion(progress, number, len(tiling.tiles)), feed(model, piece)
        output, odd = compared(model, x, partial(outputs.recorded, cache, t, x, report))
        outputs.readings |= dict.fromkeys((*odd, *getattr(model.network, "messages", ())))
        outputs.add(t, output.detach().float().cpu().numpy(), x.shape[2:])
    return outputs.prediction(prepared, caveats, portion(progress, len(tiling.tiles) - 1, len(tiling.tiles)))


class _Outputs:
    """The outputs of the tiles as they come: rows of a classification, or stitched logits of a segmentation."""

    def __init__(self, card: ModelCard, tiling: Tiling) -> None:
        self.card, self.tiling = card, tiling
        self.voxelwise = card.voxelwise
        self.rows: list[Floats] = []
        self.stitcher: Stitcher = tiling.voxels()
        self.readings: dict[str, None] = {}
        self.random = False

    def recorded(self, cache: RecordingCache, t: Tile, x: torch.Tensor, progress: Progress) -> torch.Tensor:
        """The network's output for a tile."""
        found = cache.recording(t, x, progress)
        self.random |= found.random
        assert found.output is not None
        return found.output

    def add(self, t: Tile, output: Floats, size: Sequence[int]) -> None:
        """Take in the output of a tile, whose pieces are of this size."""
        check_output(self.card, output, size if self.voxelwise else ())
        if self.voxelwise:
            self.stitcher.add(t, output)
        else:
            self.rows.append(output)

    def prediction(self, prepared: Prepared, caveats: tuple[Caveat, ...], progress: Progress) -> Prediction:
        """What they say as one."""
        readings = tuple(Caveat("output-read", text) for text in self.readings)
        same: dict[str, Any] = {
            "card": self.card, "prepared": prepared, "tiling": self.tiling, "readings": readings, "caveats": caveats,
            "random": self.random,
        }  # fmt: skip
        if not self.voxelwise:
            return Classification(logits=np.concatenate(self.rows), **same)
        logits = self.stitcher.values
        return Segmentation(logits=logits, labels=to_labels(self.card, prepared, logits, progress), **same)


def check_output(card: ModelCard, output: Floats, size: Sequence[int]) -> None:
    """:raises InputError: where the network's output is not what the card says."""
    wanted = (len(card.output.labels), *size)
    if output.shape[1:] != wanted:
        raise CardError(
            card.name,
            f"the network gave an output of the shape {output.shape[1:]} where the card's task and labels mean {wanted}",
            "mend output.labels, task or network.arguments of the card",
        )
    if not np.isfinite(output).all():
        raise CardError(
            card.name,
            "the network gave values that are not finite",
            "check the preprocessing (a card's input.intensity) and the weights",
        )
