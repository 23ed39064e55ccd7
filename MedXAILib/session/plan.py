"""What will run, at what cost, what is left out and why: worked out once, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..attribution.method import Cost, LayerMethod, Method
from ..attribution.option import SAMPLES, settled
from ..attribution.registry import chosen, options
from ..errors import InputError, LayerError
from ..geometry.affine import spacing
from ..models.layers import Layer, default_layer, find, side_by_side
from ..models.running.guest import written_name
from .request import Request
from .slices import how_many

if TYPE_CHECKING:
    import torch

    from ..models.loading import Model
    from ..preprocessing.prepare import Prepared
    from ..tiling import Tiling

WORTH_SAYING = 60.0
"""Seconds from which on a single method's cost is told."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One method.

    :ivar layers: that it explains; none where it needs none.
    :ivar options: its own, each with its value.
    :ivar evaluations: about how often the network runs for one map (of one slice, for slice-wise networks).
    :ivar passes: about what all its maps cost, in passes over the whole input.
    """

    method: Method
    layers: tuple[Layer, ...]
    options: Mapping[str, Any]
    evaluations: int
    passes: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """What will run.

    :ivar left_out: a sentence for each reason why methods were left out. :ivar unused: one for each option that no method has.
    :ivar named: the layers that are explained for methods of a layer, and ``why`` these; none where no such method is.
    """

    steps: tuple[Step, ...]
    left_out: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    named: tuple[Layer, ...] = ()
    why: str = ""

    @property
    def layers(self) -> list[Layer]:
        """Each layer once."""
        return list({layer.name: layer for step in self.steps for layer in step.layers}.values())

    @property
    def recorded(self) -> list[str]:
        """Names of the layers that must be recorded, the shallowest first as they were found."""
        return [layer.name for layer in self.layers]

    @property
    def passes(self) -> float:
        """About what all maps cost, in passes over the whole input."""
        return sum(step.passes for step in self.steps)

    def costs(self, seconds: float, each: str) -> list[str]:
        """What each of several methods costs, and any that takes over a minute.

        :param seconds: that one evaluation takes. :param each: what one is of: ``" a slice"``, or nothing.
        """
        lines = []
        for step in self.steps:
            took = step.evaluations * seconds
            if len(self.steps) == 1 and took <= WORTH_SAYING:
                continue
            many = "1 evaluation" if step.evaluations == 1 else f"about {step.evaluations} evaluations"
            sets = f"; {SAMPLES.flag} sets how many" if took > WORTH_SAYING and SAMPLES in step.method.options else ""
            lines.append(f"{step.method.title}: {many}{each}, {duration(took)}{sets}.")
        return lines


def duration(seconds: float) -> str:
    """In seconds, or in minutes from one on."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} minutes"


def planned(model: Model, prepared: Prepared, tiling: Tiling, layers: Sequence[Layer], request: Request) -> Plan:
    """The methods to run, each with its layers and options. What does not suit the network is an error, or under ``all`` left
    out with a sentence; so is what exceeds the budget.

    :param layers: all layers of the network.
    :raises InputError: for unknown methods or layers, or where nothing is left.
    """
    asked = [name_of(layer, model.network) for layer in request.layers]
    steps: list[Step] = []
    left_out: dict[str, list[str]] = {}
    for m in chosen(request.methods):
        try:
            steps.append(_step(model, prepared, tiling, layers, m, asked, request))
        except InputError as error:
            if request.budget is None and not request.lenient:
                raise
            left_out.setdefault(str(error), []).append(m.title)
    sentences = tuple(
        f"{', '.join(titles)} {'was' if len(titles) == 1 else 'were'} left out: {why}"
        for why, titles in left_out.items()
    )
    if not steps:
        raise InputError(" ".join(("Nothing is left to do.", *sentences)))
    unused = tuple(_unused(steps, request))
    named, why = _named(model, layers, asked, request) if any(step.layers for step in steps) else ((), "")
    return Plan(steps=tuple(steps), left_out=sentences, unused=unused, named=tuple(named), why=why)


def _unused(steps: Sequence[Step], request: Request) -> Iterator[str]:
    """What was asked for in vain."""
    known, had = options(), {option.name for step in steps for option in step.method.options}
    for name, value in request.options.items():
        if name not in had and known[name].checked(value) != known[name].default:
            yield f"{known[name].flag} changes nothing here: no method that runs has it ('medxai methods --options')."


def _step(
    model: Model,
    prepared: Prepared,
    tiling: Tiling,
    layers: Sequence[Layer],
    m: Method,
    asked: Sequence[str],
    request: Request,
) -> Step:
    """:raises InputError: where a method does not suit the network, or exceeds the budget."""
    if m.task and m.task != model.card.task:
        raise InputError(f"{m.title} is for {m.task}, and {model.card.name} does {model.card.task}.")
    explained = _layers_of(model, layers, m, asked)
    cost = cost_of(m, prepared, tiling, request)
    count = m.evaluated(cost, max((layer.shape[0] for layer in explained), default=0))
    if request.budget is not None and count > request.budget:
        raise InputError(f"about {count} evaluations are needed, and --budget allows {request.budget}.")
    return Step(
        method=m, layers=tuple(explained), options=cost.options, evaluations=count,
        passes=_fraction(m, tiling, request.slices) * max(1, count),
    )  # fmt: skip


def cost_of(m: Method, prepared: Prepared, tiling: Tiling, request: Request) -> Cost:
    """What a method's number of evaluations depends on."""
    mm = tuple(spacing(prepared.affine))
    return Cost(
        shape=tiling.explained, spacing=mm, by_slices=tiling.by_slices, options=settled(m.options, request.options)
    )  # fmt: skip


def _fraction(m: Method, tiling: Tiling, slices: str | None) -> float:
    """Of all slices, those that are explained; 1 where the network sees none."""
    return how_many(slices or m.default_slices, tiling.samples) / tiling.samples


def name_of(layer: str | torch.nn.Module, network: torch.nn.Module) -> str:
    """The name of a layer that may be given as the module itself.

    :raises LayerError: for a module that is not in the network.
    """
    if isinstance(layer, str):
        return layer
    found = next((name for name, module in network.named_modules() if module is layer), "")
    if not found:
        raise LayerError(
            f"layers: {type(layer).__name__} is no module inside the network; give one of its own, or a name of named_modules()."
        )
    return found


def _layers_of(model: Model, layers: Sequence[Layer], m: Method, asked: Sequence[str]) -> list[Layer]:
    """The layers that one method explains; none where it needs none."""
    if not m.takes_layers:
        return []
    own = m.default_layers(layers) if layers and not asked else []
    return own or choose_layers(model, layers, asked)[0]


def _named(
    model: Model, layers: Sequence[Layer], asked: Sequence[str], request: Request
) -> tuple[Sequence[Layer], str]:
    """The layers that are told: of methods that have no choice of their own."""
    if any(isinstance(m, LayerMethod) and not m.default_layers(layers) for m in chosen(request.methods)):
        return choose_layers(model, layers, asked)
    return (), ""


def choose_layers(model: Model, layers: Sequence[Layer], asked: Sequence[str] = ()) -> tuple[list[Layer], str]:
    """The layers to explain, and why these: those asked for, else the card's, else the default rule's.

    :param layers: all of the network.
    :raises LayerError: for an unknown layer, with near names, or a network that has none.
    """
    names = [written_name(name) for name in asked] or model.card.layers
    why = "as asked" if asked else "the model card's default"
    if not layers:
        raise LayerError(
            f"{model.card.name}: this program shows no layers (TorchScript takes no hooks): choose saliency, ig or lime, "
            "or export the network with torch.export, or as a state dict with a card."
        )
    if not names:
        name, why = default_layer(layers)
        names = [name]
    found = []
    for name in dict.fromkeys(names):
        layer = find(layers, name)
        found += [layer] if "#" in name and asked else side_by_side(layers, layer)
    return found, why
