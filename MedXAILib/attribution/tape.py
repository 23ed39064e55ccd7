"""The tape of one forward pass: activations of the requested layers, and gradients of any score with respect to them.

The cost floor of gradient methods: parameters are frozen and the graph begins at the shallowest requested layer, so one
forward pass serves every layer and class, and each score costs one partial backward pass. Nothing of the user's network
is changed: gradients come from ``torch.autograd.grad`` (parameters' ``.grad`` stay as they were), and training flags,
``requires_grad`` and hooks are restored, also after an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..models.layers import first_tensor
from ..progress import Progress, silent, ticking

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class Tape:
    """What was recorded of one pass.

    :ivar output: the network's output (its first tensor), with the graph down to the shallowest layer.
    :ivar activations: layer name -> (batch, channel, *cells), as the layer gave them: an in-place operator that follows
        does not change them.
    """

    output: torch.Tensor
    activations: dict[str, torch.Tensor]

    @property
    def bytes(self) -> int:
        """A lower bound of what the tape holds in memory."""
        return sum(a.numel() * a.element_size() for a in [self.output, *self.activations.values()])

    def gradients(self, score: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
        """Gradient of a score with respect to every recorded layer, by one partial backward pass.

        :param score: output -> numbers, which are summed (the samples of a batch in eval mode do not see each other, so
            each keeps its own gradient).
        :returns: zeros where a layer has no influence.
        """
        import torch

        layers = list(self.activations.values())
        with torch.inference_mode(False), torch.enable_grad():
            total = score(self.output).sum()
            if not total.requires_grad:
                return {name: torch.zeros_like(a) for name, a in self.activations.items()}
            found = torch.autograd.grad(total, layers, retain_graph=True, allow_unused=True)
        pairs = zip(self.activations.items(), found, strict=True)
        return {name: torch.zeros_like(a) if g is None else g for (name, a), g in pairs}


def record(
    network: torch.nn.Module,
    x: torch.Tensor,
    layers: Sequence[str],
    progress: Progress = silent,
    text: str = "Forward pass",
) -> Tape:
    """One forward pass with a tape.

    :param x: (batch, channel, *spatial).
    :param layers: names as in ``named_modules()``; of a module called several times the last call is recorded, or the
        n-th (from 0) with ``name#n``.
    :raises KeyError: for a layer that is no module of the network or was not reached.
    """
    import torch

    modules = dict(network.named_modules())
    activations: dict[str, torch.Tensor] = {}
    handles = []

    def watch(layer: str, module: torch.nn.Module):
        wanted = int(layer.split("#")[1]) if "#" in layer else None
        call = -1

        def hook(_module, _inputs, output):
            nonlocal call
            call += 1
            value = first_tensor(output)
            if value is None or (wanted is not None and call != wanted):
                return None
            leaf = value if value.requires_grad else value.detach().requires_grad_()
            activations[layer] = leaf
            # what follows gets a copy: an in-place operator would otherwise overwrite the recorded values
            return _replaced(output, value, leaf.clone())

        return module.register_forward_hook(hook)

    with eval_mode(network), frozen(network), torch.inference_mode(False), torch.enable_grad():
        try:
            handles += [watch(layer, modules[layer.split("#")[0]]) for layer in layers]
            with ticking(network, progress, text):
                output = first_tensor(network(x.clone() if x.is_inference() else x))
        finally:
            for handle in handles:
                handle.remove()
    return Tape(output, {layer: activations[layer] for layer in layers})


def _replaced(output, old: torch.Tensor, new: torch.Tensor):
    """The module's output with its first tensor exchanged."""
    if output is old:
        return new
    if isinstance(output, dict):
        return {key: new if value is old else value for key, value in output.items()}
    return type(output)(new if value is old else value for value in output)


@contextmanager
def eval_mode(network: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, every module's own flag restored."""
    flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def frozen(network: torch.nn.Module) -> Iterator[None]:
    """Parameters without gradients, restored afterwards."""
    thawed = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in thawed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)


class TapeCache:
    """Tapes of the tiles of one input, kept within a limit of bytes; the others are recorded again when asked for.

    :param limit: bytes; a single tile is always kept, so that prediction and explanation share one forward pass.
    :ivar recorded: forward passes so far; ``seconds``: how long they took together.
    """

    def __init__(
        self, network: torch.nn.Module, layers: Sequence[str], progress: Progress = silent, limit: int = 2 << 30
    ):
        self.network, self.layers, self.progress, self.limit = network, tuple(layers), progress, limit
        self.tapes: dict = {}
        self.recorded, self.seconds = 0, 0.0

    def tape(self, key, x: torch.Tensor) -> Tape:
        """The tape of the tile ``key``; recorded from ``x`` where it is not at hand."""
        if key not in self.tapes:
            began = time.perf_counter()
            # looked up at each step: a pass backwards may belong to a later request than the recording did
            tape = record(self.network, x, self.layers, lambda *step: self.progress(*step))
            self.recorded, self.seconds = self.recorded + 1, self.seconds + time.perf_counter() - began
            if self.tapes and tape.bytes + sum(t.bytes for t in self.tapes.values()) > self.limit:
                return tape
            self.tapes[key] = tape
        return self.tapes[key]
