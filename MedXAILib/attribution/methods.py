"""The registry of methods: the command line's help and the documentation read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from . import cam


@dataclass(frozen=True)
class Method:
    """One attribution method.

    Tape methods have ``gather(activation, gradient) -> statistics`` (batch, ...), summed over tiles where the score is one
    for the whole input, and ``map(activation, gradient, statistics / number of cells) -> (batch, *cells)``, linear in the
    tiles, rectified at the end. Query methods only ask the network for scores of changed inputs.
    """

    name: str
    title: str
    family: str
    needs: str
    cost: str
    reference: str
    signed: bool
    gather: Callable | None = None
    map: Callable | None = None

    @property
    def kind(self) -> str:
        return "tape" if self.map else "query"


METHODS = {
    method.name: method
    for method in (
        Method(
            "gradcam",
            "Grad-CAM",
            "class activation map",
            "a convolutional layer",
            "one forward pass, and one partial backward pass for each class",
            "Selvaraju et al. 2017, arXiv 1610.02391",
            signed=False,
            gather=cam.gradient_sums,
            map=cam.gradcam,
        ),
        Method(
            "lime",
            "LIME",
            "perturbation",
            "nothing",
            "one forward pass for each sample (10 for each superpixel, at least 200)",
            "Ribeiro et al. 2016, arXiv 1602.04938",
            signed=True,
        ),
    )
}


def method(name: str) -> Method:
    """A method by name.

    :raises InputError: listing the methods.
    """
    if name not in METHODS:
        raise InputError(f"There is no method '{name}': choose from {', '.join(METHODS)}.")
    return METHODS[name]
