"""explain(): a model or any network, an input, and what is asked of it, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..attribution.attribution import Attribution
from ..caveats import Caveat
from ..errors import InputError
from ..geometry.volume import Volume
from ..models.loading import Model
from ..models.running.agreement import Misread
from ..models.running.guest import guest
from ..preprocessing.prepare import Prepared
from ..progress import Progress, silent
from .bare import bare, runnable
from .request import PREDICTED, PREFERRED, Request, requested
from .session import Say, Session, unsaid

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..scoring.targets import Given

    Inputs = (
        Volume | Prepared | np.ndarray | torch.Tensor | Mapping[str, Volume] | Mapping[str, np.ndarray | torch.Tensor]
    )


def explain(
    model: Model | torch.nn.Module,
    inputs: Inputs,
    targets: Sequence[Given] | Given = PREDICTED,
    methods: Sequence[str] | str = PREFERRED,
    layers: Sequence[str | torch.nn.Module] | str | torch.nn.Module = (),
    *,
    slices: str | int | None = None,
    budget: int | None = None,
    seed: int = 0,
    probe: bool = True,
    windows: int | Sequence[int] | None = None,
    output: int | str | None = None,
    progress: Progress = silent,
    say: Say = unsaid,
    **options: Any,
) -> list[Attribution]:
    """Explain one case. The network is as it was afterwards.

    :param model: a model with its card, or a bare network of any make, whose classes are numbers and whose input is as it is.
    :param inputs: a volume, one for each of the card's named inputs, or what :func:`prepare` gave. For a bare network a
        Volume too, or an array or tensor as the network takes it: (slices, channel, d1, d2) for a 2D network, whose
        samples are slices of their own (each with its own baseline, noise, fill and superpixels, whatever its batch), or
        (1, channel, d0, d1, d2); several named ones in a dict go to ``forward`` by these names where it has them, else they
        become channels.
    :param targets: classes by name or number, targets of :mod:`MedXAILib.scoring.targets`, or functions of the network's output;
        by default the predicted class.
    :param methods: names of the registry; ``all`` is every method that suits the network.
    :param layers: for methods of a layer, by name or module; by default the card's, else :func:`default_layer`'s choice.
    :param slices: slice-wise models: ``all``, ``top:N`` (by the target's score), ``a:b`` (0-based, b excluded) or ``n``;
        by default top:1 for perturbations and all for the others.
    :param budget: leave out, with a sentence, methods that need more evaluations than this.
    :param seed: of all random draws, those among them that the network itself makes.
    :param probe: ask the network itself, by two more passes when a layer is explained for the first time, whether its cells
        lie where its operators say.
    :param windows: a bare 3D network: the size of the windows in which it sees the volume.
    :param output: a bare network that gives several tensors: which one, by place or name (``1``, ``"logits"``). By default
        one called ``logits`` or the like, else the one that depends on most of the network; the maps' caveats say which.
    :param say: takes what was left out and why.
    :param options: of the methods, which ``medxai methods --options`` lists: ``samples`` (perturbed or noisy inputs, or
        steps), ``superpixels`` (about how many), ``baseline`` (minimum, zero, mean or blurred), ``references`` (inputs like
        ``inputs`` from which expected gradients draw their baselines).
    :returns: one map for each target, method and layer (or named input), in this order.
    :raises InputError: for unknown methods, layers, options, classes, or slices, or an input of one value.
    """
    request = requested(targets, methods, layers, slices=slices, budget=budget, seed=seed, probe=probe, **options)
    if isinstance(model, Model):
        if output is not None:
            raise InputError(
                f"output={output!r} is for a network without a card: {model.card.name}'s says it in output.which."
            )
        return Session(model, inputs).explain(request, progress, say)  # type: ignore[arg-type]  # told by prepare()
    known: str | None = None
    while True:
        try:
            return _bare(model, inputs, request, windows, output, known, progress, say)
        except Misread as error:
            if known:
                raise
            known = error.found


def _bare(
    given: torch.nn.Module,
    inputs: Inputs,
    request: Request,
    windows: int | Sequence[int] | None,
    output: int | str | None,
    known: str | None,
    progress: Progress,
    say: Say,
) -> list[Attribution]:
    """A network without a card: everything that is told of it is told from the network and this input.

    :param known: what its output proved to be in an earlier pass.
    """
    import torch

    network = runnable(given)
    with torch.inference_mode(False), guest(network, request.seed):
        references = request.options.get("references", ())
        model, prepared, others = bare(network, inputs, windows, references, output, known)
        for remark in prepared.remarks:
            say(remark)
        if others:
            request = request.with_options(references=tuple(others))
        found = Session(model, prepared).explain(request, progress, say)
    return [a.with_caveats([Caveat("network-read", remark) for remark in prepared.remarks]) for a in found]
