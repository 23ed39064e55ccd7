"""What is asked of one case: targets, methods with their options, layers, slices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ..attribution.option import refuse_unknown, settled
from ..attribution.registry import ALL, chosen, options
from ..errors import InputError, OptionError
from ..scoring.targets import ClassTarget, Given, Target
from .slices import check_slices

if TYPE_CHECKING:
    import torch

PREDICTED: tuple[Given, ...] = (ClassTarget(),)
PREFERRED = ("gradcam",)
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """What is asked, in the one form that is meant: see :func:`requested`.

    :ivar targets: classes by name or number, targets, functions of the output.
    :ivar methods: names of the registry; ``all`` is every one that suits the network.
    :ivar layers: for methods of a layer; empty is the card's or the network's default.
    :ivar slices: slice-wise networks: ``all``, ``top:N`` (by the target's score), ``a:b`` (0-based, b excluded) or ``n``; None is
        each method's own default.
    :ivar options: of the methods, by name; each method takes those that it has.
    :ivar budget: methods that need more evaluations are left out.
    :ivar seed: of all random draws.
    :ivar probe: whether the network is asked, by two more passes, where a layer's cells lie.
    :ivar lenient: methods that do not suit are left out with a sentence, as where ``all`` are asked for; else they are errors.
    """

    targets: Sequence[Given] = PREDICTED
    methods: Sequence[str] = PREFERRED
    layers: Sequence[str | torch.nn.Module] = ()
    slices: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: int | None = None
    seed: int = 0
    probe: bool = True
    lenient: bool = False

    def with_options(self, **options: Any) -> Request:
        """The same with other values of some options."""
        return replace(self, options={**self.options, **options})


def requested(
    targets: Any = PREDICTED,
    methods: Any = PREFERRED,
    layers: Any = (),
    *,
    slices: str | int | None = None,
    budget: int | None = None,
    seed: int = 0,
    probe: bool = True,
    **given: Any,
) -> Request:
    """What was asked for, in the one form that is meant.

    :param given: options of the methods.
    :raises InputError: for what cannot be meant, whatever the network and the input.
    """
    names = _listed("methods", methods or PREFERRED, (str,))
    refuse_unknown(options().values(), given)
    settled(options(chosen(names)).values(), given)
    if slices is not None:
        check_slices(str(slices))
    return Request(
        targets=targets_of(targets),
        methods=names,
        layers=_listed("layers", layers if layers is not None else (), (str, _module())),
        slices=None if slices is None else str(slices),
        options=given,
        budget=None if budget is None else _whole("budget", budget, 1, None),
        seed=_whole("seed", seed, 0, LARGEST_SEED),
        probe=probe,
        lenient=ALL in names,
    )


def _module() -> type:
    import torch

    return torch.nn.Module


def _listed(name: str, given: Any, kinds: tuple[type, ...]) -> list[Any]:
    listed = [given] if isinstance(given, kinds) else list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(part, kinds) for part in listed):
        raise InputError(f"{name}={given!r}: give a list of names.")
    return listed


def _whole(name: str, number: Any, least: int, most: int | None) -> int:
    if not isinstance(number, Integral) or int(number) < least or (most is not None and int(number) > most):
        wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise OptionError(f"--{name}", number, f"give a whole number {wanted}")
    return int(number)


def targets_of(given: Any) -> list[Given]:
    """One target or several, numbers of NumPy and torch as Python's."""
    one = given is None or isinstance(given, Target | str | int) or callable(given) or getattr(given, "ndim", 1) == 0
    if not one and not isinstance(given, Iterable):
        raise InputError(f"targets={given!r}: give classes by name or number, or targets of MedXAILib.scoring.targets.")
    listed = [given] if one else list(given) or list(PREDICTED)
    return [t.item() if getattr(t, "ndim", 1) == 0 else t for t in listed]
