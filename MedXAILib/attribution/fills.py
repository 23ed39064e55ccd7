"""What hidden voxels show, held against what was there: hiding that changes nothing hides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Caveat

if TYPE_CHECKING:
    import numpy as np
    import torch

NEARLY = 0.01
"""Voxels that differ by less than this part of their channel's range are nearly the same."""
LITTLE = 0.1
"""Where hiding changes fewer voxels of the body than this share, it is said to hide next to nothing."""


def changed_share(x: torch.Tensor, fill: torch.Tensor, body: np.ndarray) -> float:
    """The share of the body's voxels that ``fill`` changes by more than :data:`NEARLY`.

    :param x: (channel, *spatial); ``fill`` broadcasts to it.
    :param body: bool, *spatial: what is not air.
    """
    span = x.flatten(1).amax(1) - x.flatten(1).amin(1)
    changed = ((x - fill).abs() > NEARLY * span.reshape(-1, *[1] * body.ndim)).any(0).numpy()
    return float(changed[body].mean())


def nothing_changed(
    x: torch.Tensor, fill: torch.Tensor, body: np.ndarray, name: str = "what hidden voxels show"
) -> tuple[str, ...]:
    """A sentence where ``fill`` is nearly what is there, else nothing."""
    share = changed_share(x, fill, body)
    if share >= LITTLE:
        return ()
    return (
        Caveat(
            "fill",
            f"Here {name} is nearly what was there before: it changes {share:.0%} of the body's voxels by more than "
            f"{NEARLY:.0%} of the input's range. Next to nothing was hidden, so a small or empty map does not mean that the "
            "content has no influence.",
        ),
    )
