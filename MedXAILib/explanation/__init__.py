"""explain(): tiles -> tapes -> targets -> methods, maps put back in place.

The conductor stands here; :mod:`.case` holds what all methods of a case share and what a map is, and each family of
methods has its room: :mod:`.layers`, :mod:`.inputs`, :mod:`.queries`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING

from ..attribution.methods import ALL, Facts, InputMethod, LayerMethod, Method, case_evaluations, method
from ..attribution.methods import methods as methods_of
from ..attribution.recorder import TapeCache
from ..errors import InputError
from ..geometry.volume import Volume
from ..models.layers import Layer, default_layer, find, side_by_side, stages
from ..models.running.agreement import Misread
from ..models.running.guest import guest, moved_by_hooks, written_name
from ..prediction import Prediction, lay_out, predict
from ..preprocessing.prepare import Prepared, prepare
from ..preprocessing.suitability import refuse_constant
from ..progress import Progress, shares, silent
from ..scoring.targets import ClassScore, Score, Target, resolve
from .case import Attribution, Case, case_facts, check_slices, choose_slices, range_of, said_there, with_caveats
from .inputs import input_maps
from .layers import check_layers, layer_maps
from .placing import Placing
from .queries import query_maps

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..models.loading import Model

PREDICTED, PREFERRED = (ClassScore(),), ("gradcam",)
WHOLE = {
    "samples": (1, sys.maxsize),
    "superpixels": (1, sys.maxsize),
    "budget": (1, sys.maxsize),
    "seed": (0, 2**32 - 1),
}
"""The least and the most that each of these may be."""
__all__ = ["Attribution", "choose_layers", "choose_slices", "explain"]


def explain(
    model: Model | torch.nn.Module,
    inputs: Volume | dict[str, Volume] | Prepared | np.ndarray | torch.Tensor | dict[str, np.ndarray | torch.Tensor],
    targets: Sequence[Target | str | int] | Target | str | int = PREDICTED,
    methods: Sequence[str] | str = PREFERRED,
    layers: Sequence[str | torch.nn.Module] | str | torch.nn.Module = (),
    *,
    slices: str | int | None = None,
    samples: int | None = None,
    superpixels: int | None = None,
    baseline: str = "air",
    references: Sequence = (),
    budget: int | None = None,
    seed: int = 0,
    windows: int | Sequence[int] | None = None,
    output: int | str | None = None,
    prediction: Prediction | None = None,
    tapes: TapeCache | None = None,
    probe: bool = True,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> list[Attribution]:
    """Explain one case. The network is as it was afterwards; explanations in several threads wait for each other (see
    :mod:`MedXAILib.models.running.guest`, also for who infers with the same network meanwhile).

    :param model: a model with its card, or a bare network of any make (then no card is needed: its classes are numbers,
        and the input is taken as it is).
    :param inputs: a volume, one for each of the card's named inputs, or what :func:`prepare` gave. For a bare network a
        Volume too, or an array or tensor as the network takes it: (slices, channel, d1, d2) for a 2D network, whose
        samples are slices of their own (each with its own baseline, noise, fill and superpixels, whatever its batch), or (1, channel, d0, d1, d2); several named ones in a dict go to ``forward`` by
        these names where it has them, else they become channels.
    :param targets: classes by name or number, or the scores of :mod:`MedXAILib.scoring.targets`; by default the predicted class.
    :param methods: names of the registry; ``all`` is every method that suits the network.
    :param layers: for methods of a layer, by name or as the modules themselves; by default the card's, else :func:`default_layer`'s choice.
    :param slices: slice-wise models: ``all``, ``top:N`` (by the target's score), ``a:b`` (0-based, b excluded) or ``n``;
        by default top:1 for perturbations and all for the others.
    :param samples: perturbed inputs, noisy inputs or steps of the methods that have some; each has its own default.
    :param superpixels: about how many; by default 50 in a slice, 150 in a volume.
    :param baseline: of integrated gradients and DeepLIFT: air, zero, mean or blurred.
    :param references: expected gradients: inputs like ``inputs`` from which baselines are drawn; by default the four
        baselines of the input itself.
    :param budget: leave out, with a sentence, methods that need more evaluations than this.
    :param windows: a bare 3D network: the size of the windows in which it sees the volume.
    :param output: a bare network that gives several tensors: which one, by place or name (``1``, ``"logits"``). By default
        one called ``logits`` or the like, else the one that depends on most of the network; the maps' limits say which.
    :param prediction, tapes: of this case, where they are at hand.
    :param probe: ask the network itself, by two more passes when a layer is explained for the first time, whether its cells
        lie where its operators say.
    :param seed: of all random draws, those among them that the network itself makes.
    :param say: takes what was left out and why.
    :returns: one map for each target, method and layer (or named input), in this order.
    :raises InputError: for unknown methods, layers, classes, or slices, or an input of one value.
    """
    asked = dict(locals()) | {"known": None}
    asked |= checked(methods, layers, slices, samples=samples, superpixels=superpixels, budget=budget, seed=seed)
    while True:
        try:
            return _explained(**asked)
        except Misread as error:
            if hasattr(model, "card") or asked["known"]:
                raise
            asked |= {"known": error.found, "prediction": None, "tapes": None}
        except _Moved:
            asked |= {"prediction": None, "tapes": None}


def checked(methods, layers, slices, **numbers: int | None) -> dict:
    """What was asked for, in the one form that is meant: lists, text and whole numbers.

    :raises InputError: for what cannot be meant, whatever the network and the input.
    """
    import torch

    lists = {"methods": methods or PREFERRED, "layers": layers if layers is not None else ()}
    for name, given in lists.items():
        given = [given] if isinstance(given, str | torch.nn.Module) else given
        kinds = (str,) if name == "methods" else (str, torch.nn.Module)
        if not isinstance(given, Iterable) or not all(isinstance(part, kinds) for part in given):
            raise InputError(f"{name}={given!r}: give a list of names.")
        lists[name] = list(given)
    if slices is not None:
        check_slices(str(slices))
    for name, number in numbers.items():
        least, most = WHOLE[name]
        if number is None and name != "seed":
            continue
        if not isinstance(number, Integral) or not least <= number <= most:
            limits = f"from {least} to {most}" if name == "seed" else f"of at least {least}"
            raise InputError(f"{name}={number!r}: give a whole number {limits}.")
    whole = {name: None if number is None else int(number) for name, number in numbers.items()}
    return lists | whole | {"slices": None if slices is None else str(slices)}


class _Moved(Exception):
    """These passes were the first to show that hooks of the user's move something: all layers are looked at anew."""


def _explained(
    model, inputs, targets, methods, layers, *, slices, samples, superpixels, baseline, references, budget, seed, windows,
    output, prediction, tapes, probe, progress, say, known,
) -> list[Attribution]:  # fmt: skip
    """See :func:`explain`."""
    import torch

    remarks: tuple[str, ...] = ()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # what gradients go through must be ordinary tensors
        if not hasattr(model, "card"):
            from ..models.sources.module import bare, runnable

            model = runnable(model)
            stack.enter_context(guest(model, seed))
            model, inputs, references = bare(model, inputs, windows, references, output, known)
            remarks = inputs.remarks
            for remark in remarks:
                say(remark)
        elif output is not None:
            raise InputError(
                f"output={output!r} is for a network without a card: {model.card.name}'s says it in output.which."
            )
        stack.enter_context(guest(model.network, seed))
        stack.enter_context(torch.autocast(model.device, enabled=False))
        prepared = inputs if isinstance(inputs, Prepared) else prepare(model.card, inputs)
        refuse_constant(prepared)
        others = tuple(r if isinstance(r, Prepared) else prepare(model.card, r) for r in references)
        layers = [_name_of(layer, model.network) for layer in layers]
        moved = moved_by_hooks(model.network)
        tiling, found = lay_out(model, prepared)
        if slices and tiling.mode != "slices":
            raise InputError(
                f"--slices {slices}: {model.card.name} sees the volume, not its slices; leave this option out."
            )
        facts = case_facts(prepared, tiling.mode, 0, samples, superpixels)
        wanted = choose_methods(model, found, methods, layers, facts, budget, say)
        tapes = tapes or TapeCache(model.network, recorded(wanted), limit=tape_limit(tiling.mode))
        tapes.draw_from(seed)
        first, *reports = shares(progress, [1.0, *costs(wanted, facts, slices, tiling.shape[0])])
        placing = Placing(model, layers_in(wanted), tiling, prepared.tensor, tapes, probe)
        placing.ask(first)
        prediction = prediction or predict(model, prepared, tapes=tapes, progress=first)
        if moved_by_hooks(model.network) != moved:
            raise _Moved
        placing.settle(first)
        reports = dict(zip((m.name for m, _ in wanted), reports, strict=True))
        wanted = _placed(wanted, placing, ALL in methods, say)
        if any(layer.data or layer.arrangement.batch is None for layer in layers_in(wanted)):
            prediction = replace(prediction, tiling=prediction.tiling.one_by_one())
        scores = [resolve(said_there(target, slices, prediction, say), prediction) for target in _listed(targets)]
        case = Case(model, prepared, prediction, tapes, found, slices, samples, superpixels, baseline, seed, others)
        found = _in_order(_maps(case, wanted, scores, reports, ALL in methods, say), [m.name for m, _ in wanted])
        return [with_caveats(a, (*remarks, *prediction.caveats)) for a in found]


def _name_of(layer: str | torch.nn.Module, network: torch.nn.Module) -> str:
    """The name of a layer that may be given as the module itself."""
    if isinstance(layer, str):
        return layer
    found = next((name for name, module in network.named_modules() if module is layer), "")
    if not found:
        raise InputError(
            f"layers: {type(layer).__name__} is no module inside the network; give one of its own, or a name of named_modules()."
        )
    return found


def _listed(targets) -> list:
    """One target or several, numbers of NumPy and torch as Python's."""
    one = targets is None or isinstance(targets, Target | str | int) or getattr(targets, "ndim", 1) == 0
    if not one and not isinstance(targets, Iterable):
        raise InputError(
            f"targets={targets!r}: give classes by name or number, or scores of MedXAILib.scoring.targets."
        )
    listed = [targets] if one else list(targets) or list(PREDICTED)
    return [t.item() if getattr(t, "ndim", 1) == 0 else t for t in listed]


def _placed(wanted, placing: Placing, lenient: bool, say) -> list[tuple[Method, list[Layer]]]:
    """The methods with those of their layers whose place is known.

    :raises InputError: where it is not, unless all methods were asked for or other layers are left.
    """
    kept = []
    for m, layers in wanted:
        known, errors = [], []
        for layer in layers:
            try:
                known.append(placing.place(layer))
            except InputError as error:
                errors.append(error)
        if errors and (not known or not getattr(m, "stages", False)):
            _leave_out(m, errors[0], lenient, say)
            continue
        for error in errors:
            say(f"{m.title} leaves out a layer: {error}")
        kept.append((m, known))
    if not kept:
        raise InputError("Nothing is left to do: where the cells of this network's layers lie is not known.")
    return kept


def layers_in(wanted) -> list[Layer]:
    """Each layer once."""
    return list({layer.name: layer for _, layers in wanted for layer in layers}.values())


def costs(
    wanted: Sequence[tuple[Method, Sequence[Layer]]], facts: Facts, slices: str | None, count: int
) -> list[float]:
    """About what each method costs, in passes over the whole input.

    :param slices: those asked for. :param count: how many there are.
    """
    found = []
    for m, layers in wanted:
        some = len(range_of(slices, count)) or (1 if m.kind == "query" and slices is None else count)
        share = some / count if facts.mode == "slices" else 1.0
        found.append(share * max(1, case_evaluations(m, facts, max((layer.shape[0] for layer in layers), default=0))))
    return found


def _maps(case: Case, wanted, scores: Sequence[Score], reports: dict[str, Progress], lenient: bool, say):
    """(number of the score, map), method by method; those of layers together, from shared tapes."""
    of_layers = []
    for m, layers in wanted:
        try:
            if isinstance(m, LayerMethod):
                check_layers(case, m, layers)
                of_layers.append((m, layers))
        except InputError as error:
            _leave_out(m, error, lenient, say)
    if of_layers:
        yield from _of_layers(case, of_layers, scores, reports[of_layers[0][0].name], lenient, say)
    for m, layers in wanted:
        report = reports[m.name]
        if isinstance(m, LayerMethod):
            continue
        try:
            if isinstance(m, InputMethod):
                cams = _grad_cams(case, layers, scores, report) if m.times_cam else []
                yield from input_maps(case, m, scores, cams, report)
            else:
                yield from query_maps(case, m, scores, report)
        except InputError as error:
            _leave_out(m, error, lenient, say)


def _of_layers(case: Case, wanted, scores: Sequence[Score], progress: Progress, lenient: bool, say) -> list:
    """All from the same passes; where one of several cannot be had, one by one, so that the others are."""
    try:
        return list(layer_maps(case, wanted, scores, progress)) if wanted else []
    except InputError as error:
        if not lenient or len(wanted) == 1:
            _leave_out(wanted[0][0], error, lenient, say)
            return []
    return [found for one in wanted for found in _of_layers(case, [one], scores, progress, lenient, say)]


def _leave_out(m: Method, error: InputError, lenient: bool, say) -> None:
    """Say so, or raise the error where the method was asked for by name."""
    if not lenient:
        raise error
    say(f"{m.title} was left out: {error}")


def _grad_cams(case: Case, layers: Sequence[Layer], scores: Sequence[Score], progress: Progress) -> list[Attribution]:
    return [a for _, a in layer_maps(case, [(method("gradcam"), layers[:1])], scores, progress)]


def _in_order(found, names: list[str]) -> list[Attribution]:
    """By score, then method; layers and inputs stay in the order in which they came."""
    return [a for _, a in sorted(found, key=lambda pair: (pair[0], names.index(pair[1].method)))]


def tape_limit(mode: str) -> int:
    """How many bytes of tapes are kept: of windows one tape, so that memory does not grow with the volume."""
    return 0 if mode == "windows" else 2 << 30


def recorded(wanted: Sequence[tuple[Method, Sequence[Layer]]]) -> list[str]:
    """Names of the layers that tapes must hold, the shallowest first as they were found."""
    return [layer.name for layer in layers_in(wanted)]


def choose_methods(
    model: Model, found: Sequence[Layer], names: Sequence[str], asked: Sequence[str], facts, budget: int | None, say
) -> list[tuple[Method, list[Layer]]]:
    """The methods to run, each with its layers. What does not suit the network is an error, or under ``all`` left out with
    a sentence; so is what exceeds the budget.

    :raises InputError: for unknown methods or layers, or where nothing is left.
    """
    chosen: list[tuple[Method, list[Layer]]] = []
    left_out: dict[str, list[str]] = {}
    for m in methods_of(names):
        try:
            suits(model, m)
            layers = layers_of(model, found, m, asked)
            count = case_evaluations(m, facts, max((layer.shape[0] for layer in layers), default=0))
            if budget is not None and count > budget:
                raise InputError(f"about {count} evaluations are needed, and --budget allows {budget}.")
        except InputError as error:
            if budget is None and ALL not in names:
                raise
            left_out.setdefault(str(error), []).append(m.title)
        else:
            chosen.append((m, layers))
    sentences = [
        f"{', '.join(titles)} {'was' if len(titles) == 1 else 'were'} left out: {why}"
        for why, titles in left_out.items()
    ]
    for sentence in sentences:
        say(sentence)
    if not chosen:
        raise InputError(f"Nothing is left to do. {' '.join(sentences)}")
    return chosen


def suits(model: Model, m: Method) -> None:
    """:raises InputError: where a method is for the other task."""
    if m.task and m.task != model.card.task:
        raise InputError(f"{m.title} is for {m.task}, and {model.card.name} does {model.card.task}.")


def layers_of(model: Model, found: Sequence[Layer], m: Method, asked: Sequence[str]) -> list[Layer]:
    """The layers that one method explains; none where it needs none."""
    if isinstance(m, LayerMethod):
        if m.stages and not asked and found:
            return stages(found) or choose_layers(model, found, ())[0]
        return choose_layers(model, found, asked)[0]
    return choose_layers(model, found, asked)[0] if getattr(m, "times_cam", False) else []


def choose_layers(model: Model, found: Sequence[Layer], asked: Sequence[str]) -> tuple[list[Layer], str]:
    """The layers to explain, and why these: those asked for, else the card's, else the default rule's.

    :raises InputError: for an unknown layer, with near names, or a network that has none.
    """
    names, why = (
        [written_name(name) for name in asked] or model.card.layers,
        "as asked" if asked else "the model card's default",
    )
    if not found:
        raise InputError(
            f"{model.card.name}: this program shows no layers (TorchScript takes no hooks): choose saliency, ig or lime, "
            "or export the network with torch.export, or as a state dict with a card."
        )
    if not names:
        name, why = default_layer(found)
        names = [name]
    chosen = []
    for name in dict.fromkeys(names):
        layer = find(found, name)
        chosen += [layer] if "#" in name and asked else side_by_side(found, layer)
    return chosen, why
