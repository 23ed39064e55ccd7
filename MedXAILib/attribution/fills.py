"""What hidden voxels show, held against what was there: hiding that changes nothing hides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..caveats import UNRELIABLE, Caveat

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

NEARLY = 0.01
"""Voxels that differ by less than this part of their channel's range are nearly the same."""
LITTLE = 0.1
"""Where hiding changes a smaller fraction of the body's voxels than this, it is said to hide next to nothing."""


def changed_fraction(x: torch.Tensor, fill: torch.Tensor, body: NDArray[np.bool_]) -> float:
    """The fraction of the body's voxels that ``fill`` changes by more than :data:`NEARLY`.

    :param x: (channel, *spatial); ``fill`` broadcasts to it.
    :param body: bool, *spatial: what is not air.
    """
    span = x.flatten(1).amax(1) - x.flatten(1).amin(1)
    changed = ((x - fill).abs() > NEARLY * span.reshape(-1, *[1] * body.ndim)).any(0).numpy()
    return float(changed[body].mean())


def nothing_changed(
    x: torch.Tensor, fill: torch.Tensor, body: NDArray[np.bool_], name: str = "what hidden voxels show"
) -> tuple[Caveat, ...]:
    """A sentence where ``fill`` is nearly what is there, else nothing."""
    fraction = changed_fraction(x, fill, body)
    if fraction >= LITTLE:
        return ()
    return (
        Caveat(
            "fill",
            f"Here {name} is nearly what was there before: it changes {fraction:.0%} of the body's voxels by more than "
            f"{NEARLY:.0%} of the input's range. Next to nothing was hidden, so a small or empty map does not mean that the "
            "content has no influence.",
            UNRELIABLE,
            {"fraction_changed": round(fraction, 4)},
        ),
    )


def mean_fill(x: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """The mean of each channel over the foreground in the foreground, over the background in the background.

    So hiding air changes next to nothing, and a hidden lesion, dark or bright, becomes mean tissue.

    :param x: (channel, *spatial).
    :param foreground: bool, *spatial; where all or none of it is true, one mean fills everything.
    """
    import torch

    foreground = foreground.to(x.device)
    fill = torch.empty_like(x)
    for part in (foreground, ~foreground):
        if part.any():
            fill[:, part] = x[:, part].mean(dim=1, keepdim=True)
    return fill
