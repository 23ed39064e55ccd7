"""A session: one model and one case, and what was computed of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from ..attribution.attribution import Attribution
from ..attribution.method import Cost, InputMethod, LayerMethod, Method, QueryMethod
from ..attribution.registry import method
from ..errors import InputError, LayerError, OptionError
from ..geometry.volume import Volume
from ..models.layers import Layer, backward_bytes, forward_bytes
from ..models.running.guest import guest, moved_by_hooks
from ..prediction import Prediction, lay_out, predict
from ..preprocessing.prepare import Prepared, prepare
from ..preprocessing.suitability import refuse_constant
from ..progress import Progress, shares, silent
from ..recording.cache import RecordingCache
from ..scoring import BoundTarget, Scorer, resolve
from ..scoring.scorer import BATCH, seconds_each
from .explanation import Explanation
from .inputs import input_maps
from .layers import check_layers, layer_maps
from .placing import Placing
from .plan import Plan, Step, choose_layers, cost_of, planned
from .queries import query_maps
from .request import Request, requested
from .slices import choose_slices, said_there

if TYPE_CHECKING:
    from ..models.loading import Model
    from ..scoring.targets import Given

Say = Callable[[str], None]
KEPT = 2 << 30
"""Bytes of recordings that are kept; of windows one recording, so that memory does not grow with the volume."""


def unsaid(text: str) -> None:
    """Nobody listens."""


class HooksMoved(Exception):
    """These passes were the first to show that hooks of the user's move something: all layers are looked at anew."""


class Session:
    """One model and one case. What was computed once (preprocessed input, layers, prediction, recordings) is kept.

    >>> session = Session(load_model("planted-lesion"), read_volume("head.nii.gz"))
    >>> session.predict().probabilities
    >>> attribution, = session.explain(requested(methods="gradcam"))
    >>> scorer = session.scorer()
    >>> float(scorer(scorer.x[None]))         # the score of the unchanged input

    :param inputs: a volume, one for each of the card's named inputs, or what :func:`prepare` gave.
    :raises InputError: where inputs, card and network do not fit each other.
    :ivar prepared: the preprocessed input. :ivar tiling: how the network sees it. :ivar seen: what one tile shows of the network.
    :ivar cache: what is recorded of its tiles.
    :ivar seconds_each: how long the network takes for the whole of it, or for one slice of a slice-wise model; 0 before it ran.
    """

    def __init__(self, model: Model, inputs: Volume | Mapping[str, Volume] | Prepared) -> None:
        self.model = model
        self.prepared = inputs if isinstance(inputs, Prepared) else prepare(model.card, inputs)
        self.tiling, self.seen = lay_out(model, self.prepared)
        # without layers a recording is a bare forward pass; a limit of 0 keeps only the last tile's output
        self.cache = RecordingCache(model.network, (), limit=0)
        self.prediction: Prediction | None = None
        self.seconds_each = 0.0
        self._planned: tuple[Request, Plan] | None = None

    def plan(self, request: Request) -> Plan:
        """What a request will run, at what cost, and what is left out: worked out once.

        :raises InputError: for unknown methods or layers, or where nothing is left.
        """
        if self._planned is None or self._planned[0] is not request:
            self._planned = request, planned(self.model, self.prepared, self.tiling, self.layers, request)
        return self._planned[1]

    def cost(self, m: Method, request: Request) -> Cost:
        """What a method's number of evaluations depends on here."""
        return cost_of(m, self.prepared, self.tiling, request)

    def record(self, layers: Sequence[str]) -> None:
        """Have later passes record these layers, where they do not already."""
        if not set(layers) <= set(self.cache.layers):
            self.cache = RecordingCache(self.model.network, layers, limit=0 if self.tiling.overlapping else KEPT)

    @property
    def layers(self) -> list[Layer]:
        """All of the network's."""
        return list(self.seen.layers)

    def memory(self, layers: Sequence[str]) -> int:
        """Bytes that passes over this case will hold at once beside the weights, roughly: as many changed inputs as are scored at
        once, and a tile that records these layers with its way back, or all of its slices as far as they are kept."""
        results, tiling = self.seen.results, self.tiling
        scored = min(BATCH, tiling.at_once) * forward_bytes(results)
        starts = [layer.step for layer in self.layers if layer.name in layers]
        if not layers:
            return scored
        kept, back = backward_bytes(results, min(starts) if len(starts) == len(layers) else 0)
        batch = min(tiling.at_once, tiling.samples)
        if not tiling.overlapping:
            kept *= max(1, min(tiling.passes, KEPT // max(kept, 1)))
        return max(scored, kept + back * batch)

    def default_layers(self) -> list[str]:
        """Names of the layers that methods of layers explain unless asked otherwise; none where no layer can be followed."""
        try:
            return [layer.name for layer in choose_layers(self.model, self.layers)[0]]
        except LayerError:
            return []

    def predict(self, progress: Progress = silent) -> Prediction:
        """What the network says of the case."""
        if self.prediction is None:
            self.prediction = predict(self.model, self.prepared, progress=progress, cache=self.cache)
        return self.prediction

    def timed(self) -> float:
        """See ``seconds_each``; the first call may take another pass."""
        self.seconds_each = self.seconds_each or seconds_each(self.model, self.predict(), self.cache.seconds)
        return self.seconds_each

    def scorer(
        self,
        targets: Given | Sequence[Given] = None,
        *,
        sample: int | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Scorer:
        """The network's scores of changed inputs.

        :param targets: one or several; by default the predicted class.
        :param sample: of a slice-wise network, the slice; by default that in which the first target is highest.
        :raises InputError: for an unknown target or slice.
        """
        bound = self.bound(requested(targets).targets)
        if self.tiling.by_slices and sample is None:
            (sample,) = choose_slices("top:1", bound[0])
        if sample is not None and not (self.tiling.by_slices and 0 <= sample < self.tiling.samples):
            there = f"0 to {self.tiling.samples - 1}" if self.tiling.by_slices else "none: the network sees the volume"
            raise InputError(f"sample={sample}: the slices that can be scored are {there}.")
        return Scorer(self.model, self.predict(), bound, sample=sample, seed=seed, progress=progress)

    def bound(self, targets: Sequence[Given]) -> list[BoundTarget]:
        """Targets made concrete for this case.

        :raises InputError: for an unknown class, a point outside, or a target the task does not have.
        """
        return [resolve(target, self.predict()) for target in targets]

    def explain(
        self, request: Request | None = None, progress: Progress = silent, say: Say = unsaid
    ) -> list[Attribution]:
        """One map for each target, method and layer (or named input), in this order. The network is as it was afterwards;
        explanations in several threads wait for each other (see :mod:`MedXAILib.models.running.guest`).

        :param request: see :func:`requested`; by default Grad-CAM of the predicted class.
        :param say: takes what was left out and why.
        :raises InputError: for unknown methods, layers, classes, or slices, or an input of one value.
        """
        import torch

        request = request or Request()
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))  # what gradients go through must be ordinary tensors
            stack.enter_context(guest(self.model.network, request.seed))
            stack.enter_context(torch.autocast(self.model.device, enabled=False))
            while True:
                try:
                    return self._explained(request, progress, say)
                except HooksMoved:
                    self.tiling, self.seen = lay_out(self.model, self.prepared)
                    self.prediction, self._planned = None, None
                    self.cache = RecordingCache(self.model.network, (), limit=0)

    def _explained(self, request: Request, progress: Progress, say: Say) -> list[Attribution]:
        refuse_constant(self.prepared)
        moved = moved_by_hooks(self.model.network)
        if request.slices and not self.tiling.by_slices:
            raise OptionError(
                "--slices",
                request.slices,
                f"{self.model.card.name} sees the volume, not its slices; leave this option out",
            )
        plan = self.plan(request)
        for sentence in (*plan.left_out, *plan.unused):
            say(sentence)
        self.record(plan.recorded)
        self.cache.draw_from(request.seed)
        first, *reports = shares(progress, [1.0, *(step.passes for step in plan.steps)])
        placing = Placing(self.model, plan.layers, self.tiling, self.prepared.tensor, self.cache, request.probe)
        placing.ask(first)
        prediction = self.predict(first)
        if moved_by_hooks(self.model.network) != moved:
            raise HooksMoved
        placing.settle(first)
        steps = self._placed(plan.steps, placing, request.lenient, say)
        if any(layer.data or layer.grid_arrangement.batch is None for step in steps for layer in step.layers):
            prediction = replace(prediction, tiling=prediction.tiling.one_by_one())
        targets = [said_there(target, request.slices, prediction, say) for target in request.targets]
        work = Explanation(
            session=self, request=request, prediction=prediction,
            targets=tuple(resolve(target, prediction) for target in targets),
        )  # fmt: skip
        named = {step.method.name: report for step, report in zip(plan.steps, reports, strict=True)}
        maps = _Maps(work, steps, named, request.lenient, say)
        return [a.with_caveats(prediction.caveats) for a in maps.in_order()]

    def _placed(self, steps: Sequence[Step], placing: Placing, lenient: bool, say: Say) -> list[Step]:
        """The steps with those of their layers whose place is known.

        :raises InputError: where it is not, unless all methods were asked for or other layers are left.
        """
        kept = []
        for step in steps:
            known, errors = [], []
            for layer in step.layers:
                try:
                    known.append(placing.place(layer))
                except InputError as error:
                    errors.append(error)
            m = step.method
            if errors and (not known or not m.default_layers(self.layers)):
                left_out(m, errors[0], lenient, say)
                continue
            for fault in errors:
                say(f"{m.title} leaves out a layer: {fault}")
            kept.append(replace(step, layers=tuple(known)))
        if not kept:
            raise InputError("Nothing is left to do: where the cells of this network's layers lie is not known.")
        return kept


def left_out(m: Method, error: InputError, lenient: bool, say: Say) -> None:
    """Say so, or raise the error where the method was asked for by name."""
    if not lenient:
        raise error
    say(f"{m.title} was left out: {error}")


class _Maps:
    """The maps of one explanation, method by method; those of layers together, from shared recordings."""

    def __init__(
        self, work: Explanation, steps: Sequence[Step], reports: Mapping[str, Progress], lenient: bool, say: Say
    ) -> None:
        self.work, self.steps, self.reports, self.lenient, self.say = work, steps, reports, lenient, say

    def in_order(self) -> list[Attribution]:
        """By target, then method; layers and inputs stay in the order in which they came."""
        names = [step.method.name for step in self.steps]
        found = [*self._of_all_layers(), *self._of_others()]
        return [a for _, a in sorted(found, key=lambda pair: (pair[0], names.index(pair[1].method)))]

    def _of_all_layers(self) -> Iterator[tuple[int, Attribution]]:
        suited = []
        for step in self.steps:
            try:
                if isinstance(step.method, LayerMethod):
                    check_layers(self.work, step.method, step.layers)
                    suited.append(step)
            except InputError as error:
                left_out(step.method, error, self.lenient, self.say)
        if suited:
            yield from self._of_layers(suited, self.reports[suited[0].method.name])

    def _of_layers(self, steps: Sequence[Step], progress: Progress) -> list[tuple[int, Attribution]]:
        """All from the same passes; where one of several cannot be had, one by one, so that the others are."""
        try:
            return list(layer_maps(self.work, steps, progress))
        except InputError as error:
            if not self.lenient or len(steps) == 1:
                left_out(steps[0].method, error, self.lenient, self.say)
                return []
        return [found for one in steps for found in self._of_layers([one], progress)]

    def _of_others(self) -> Iterator[tuple[int, Attribution]]:
        for step in self.steps:
            m, report = step.method, self.reports[step.method.name]
            try:
                if isinstance(m, InputMethod):
                    yield from input_maps(self.work, step, self._required(step, report), report)
                elif isinstance(m, QueryMethod):
                    yield from query_maps(self.work, step, report)
            except InputError as error:
                left_out(m, error, self.lenient, self.say)

    def _required(self, step: Step, progress: Progress) -> dict[str, list[Attribution]]:
        """The maps of each method that another one takes, one for each target."""
        found = {}
        for name in step.method.requires:
            one = replace(step, method=method(name), layers=step.layers[:1])
            found[name] = [a for _, a in layer_maps(self.work, [one], progress)]
        return found
