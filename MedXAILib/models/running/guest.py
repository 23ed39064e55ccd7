"""Somebody else's network, used and left as it was.

Everything that runs the user's network does so as a :func:`guest`, and each pass inside :func:`passing`.

What can be promised to who uses the same network in another thread meanwhile: the hooks of this library see its own
thread alone (:func:`mine`), modes and ``requires_grad`` are touched only where they must be, and what is put back is put
back entry by entry. A network in evaluation mode whose parameters are frozen may therefore infer in other threads at any
time; one that is being trained may not. Explanations themselves wait for each other.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from .containers import CONTAINERS, COPIED, copies_of, is_plain_object, put_back
from .state import bare_module, inside, outside, plain
from .streams import equal, seeded

if TYPE_CHECKING:
    import torch

HOLDERS = (dict, OrderedDict, list, tuple)
"""What modules are kept in that torch does not know of."""

_lock = threading.RLock()  # one for all networks: torch's random state and its compiler's stance belong to the process


Written = tuple[dict[str, Any], str, "torch.Tensor", int]
"""(dict, name in it, tensor, its version) of a stand-in for a parameter or buffer."""
Modules = Sequence["torch.nn.Module"]
State = tuple[list[Any], list[Any]]
"""What a network holds, and what its classes and the globals of their functions hold: see :mod:`.state`."""


@dataclass(eq=False, kw_only=True)
class _Host:
    """A network in use.

    :ivar weights: its own parameters and buffers.
    :ivar keeps: what its modules keep beside what torch's own do, but for numbers and texts; ``caches``: (container, copy) of
        the dicts, lists, sets, tensors and arrays among it.
    :ivar state: as :func:`state_of` gives it; None while nobody asked.
    :ivar seed: of the random numbers that it may draw.
    :ivar written: whether its passes write to parameters or buffers; ``renew()`` then makes these what they were.
    """

    network: torch.nn.Module
    weights: list[torch.Tensor]
    keeps: list[Any]
    caches: list[tuple[Any, Any]]
    ran: bool = False
    random: bool = False
    state: State | None = None
    seed: int = 0
    renew: Callable[[], list[Written]]
    fresh: list[Written] = field(default_factory=list)

    def written(self) -> bool:
        """Whether a pass wrote to a parameter or buffer, or put another one in its place."""
        return any(group.get(name) is not t or t._version != version for group, name, t, version in self.fresh)

    def is_of(self, network: torch.nn.Module) -> bool:
        """Whether it is this network, or one that is read through."""
        return network is self.network or network._modules is self.network._modules


_hosts: list[_Host] = []


@contextmanager
def guest(network: torch.nn.Module, seed: int = 0) -> Iterator[None]:
    """The network in evaluation mode, without gradients of parameters, compiler and checkpoints, for this thread alone.

    Afterwards, also after an error, it is as it was: parameters, buffers, ``requires_grad``, ``.grad``, hooks, modes and
    every attribute of every module. Dicts, lists and sets that a network keeps (caches) hold what its first pass left in
    them. May be entered again inside.

    :param seed: of the random numbers that a network may draw while its layers are looked at.
    :raises InputError: for a network with lazy modules that never ran: its weights do not exist yet.
    """
    with _lock:
        if _host_of(network) is not None:
            yield
            return
        modules = _modules(network)
        parameters = list({p: None for m in modules for p in m._parameters.values() if p is not None})
        _refuse_lazy(network, parameters)
        with ExitStack() as stack:
            for context in (
                _ordinary_passes(modules),
                _frozen(parameters),
                _everything_put_back(network, modules, seed),
            ):
                stack.enter_context(context)
            stack.enter_context(_eval_mode(network, modules))
            yield
        settle(network)


def _modules(network: torch.nn.Module) -> list[torch.nn.Module]:
    """All modules of a network, those in plain lists, tuples and dicts among them, of which torch does not know."""
    import torch

    found: dict[torch.nn.Module, None] = {}
    waiting: list[Any] = [network]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.nn.Module):
            if value not in found:
                found[value] = None
                waiting += reversed(list(value.children()))
                own = vars(value).items() if not type(value).__module__.startswith("torch.") else ()
                waiting += [kept for name, kept in own if type(kept) in HOLDERS and name not in vars(bare_module())]
        elif type(value) in HOLDERS:
            kept = value.values() if isinstance(value, dict) else value
            waiting += [one for one in kept if isinstance(one, torch.nn.Module) or type(one) in HOLDERS]
    return list(found)


def _refuse_lazy(network: torch.nn.Module, parameters: Iterable[torch.nn.Parameter]) -> None:
    import torch

    if any(torch.nn.parameter.is_lazy(parameter) for parameter in parameters):
        raise InputError(
            f"{type(network).__name__} has lazy modules, whose weights do not exist before its first pass",
            "run it once on an input, or load its weights",
            joint=": ",
        )


def weights_of(network: torch.nn.Module) -> list[torch.Tensor]:
    """A network's own parameters and buffers, not those that stand in for them meanwhile."""
    host = _host_of(network)
    return host.weights if host else [*network.parameters(), *network.buffers()]


def state_of(network: torch.nn.Module) -> State:
    """What a network does may hang on this, beside the values of its weights: its modules and their hooks, whatever its
    modules and their classes hold (numbers, texts, tables, functions, objects), the globals that their functions use, and
    the shapes, types and devices of its tensors. To be compared; it keeps nothing alive. While somebody is a guest it stays
    what it was when first asked for."""
    host = _host_of(network)
    if host is not None and host.state is not None:
        return host.state
    now = inside(innermost(network)), outside(network)
    state, last = _states.get(innermost(network), (now, now))
    state = state if last == now else now
    _states[innermost(network)] = state, now
    if host is not None:
        host.state = state
    return state


def settle(network: torch.nn.Module) -> None:
    """What passes of ours changed beside the network (a counter of its class, a global list) is no change of it."""
    if (known := _states.get(innermost(network))) is not None:
        state, (within, _) = known
        _states[innermost(network)] = state, (within, outside(network))


_states: weakref.WeakKeyDictionary[torch.nn.Module, tuple[State, State]] = weakref.WeakKeyDictionary()
"""Network to its state, and to what this became by passes of ours."""


def seed_of(network: torch.nn.Module) -> int:
    """Of the random numbers that the network draws for whoever is its guest."""
    host = _host_of(network)
    return host.seed if host else 0


def innermost(network: torch.nn.Module) -> torch.nn.Module:
    """The user's own network in what it is read through, which comes and goes."""
    while (inside := vars(network).get("whole")) is not None:
        network = inside
    return network


def _host_of(network: torch.nn.Module) -> _Host | None:
    return next((host for host in _hosts if host.is_of(network)), None)


def users_hooks(modules: Iterable[torch.nn.Module]) -> list[tuple[dict[int, Any], int]]:
    """(dict, key) of the hooks of modules that are no part of a network (torch's own make weights: spectral norm)."""
    found = []
    for module in modules:
        for hooks in (getattr(module, "_forward_hooks", ()), getattr(module, "_forward_pre_hooks", ())):
            if hooks:
                found += [(hooks, key) for key, hook in hooks.items() if not type(hook).__module__.startswith("torch.")]
    return found


_movers: set[int] = set()
"""Keys, which are given once, of hooks that were seen to change what passes."""


def moved_by_hooks(network: torch.nn.Module) -> bool:
    """Whether hooks of the user's change what passes through a network, as far as its passes have shown."""
    return bool(_movers) and any(key in _movers for _, key in users_hooks(network.modules()))


def _watched(key: int, hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook; what it gives is noted."""

    def watched(*given: Any, **named: Any) -> Any:
        found = hook(*given, **named)
        if found is not None:
            _movers.add(key)
        return found

    return watched


def written_name(module: str) -> str:
    """A module's name without the modules that torch.compile puts around others."""
    return module.replace("._orig_mod", "").replace("_orig_mod.", "")


def mine(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook for the passes of this thread: somebody may use the network in another one meanwhile."""
    me = threading.get_ident()
    return lambda *given: hook(*given) if threading.get_ident() == me else None


@dataclass
class Draws:
    """:ivar random: whether random numbers were drawn."""

    random: bool = False


@contextmanager
def passing(network: torch.nn.Module, seed: int) -> Iterator[Draws]:
    """One pass of a network, as its guest: its random numbers come from the seed. (A network whose first pass drew none
    is not asked again; what it may draw later comes from a seed all the same.)"""
    host = _host_of(network)
    assert host is not None, "a pass outside of guest()"
    if host.written():
        host.fresh = host.renew()
    if host.ran and not host.random:
        yield Draws()
        return
    draws = Draws()
    try:
        with seeded(seed, host.keeps) as streams:
            fresh = [stream.get() for stream in streams]
            yield draws
            draws.random = not equal(fresh, [stream.get() for stream in streams])
    except BaseException:
        if not host.ran:  # a pass that ended early leaves nothing
            for container, content in host.caches:
                put_back(container, content)
        raise
    host.random |= draws.random
    if not host.ran:
        host.ran, host.caches[:] = True, copies_of(host.keeps)


@contextmanager
def _ordinary_passes(modules: Modules) -> Iterator[None]:
    """What was compiled runs as it was written, and nothing is compiled; what a block under a checkpoint computes is kept,
    not computed again on the way backwards, where hooks and rules would be missing; transformers run as they do with
    gradients, not on their fast path (nested tensors); recurrent layers do without cuDNN, which gives gradients in
    training mode only."""
    import torch

    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        if any(isinstance(module, torch.nn.RNNBase) for module in modules):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if "torch._dynamo" in sys.modules:  # else nothing was compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        checkpoints: Any = sys.modules.get("torch.utils.checkpoint")
        if (keeping := getattr(checkpoints, "_checkpoint_hook", None)) is not None:
            me = threading.get_ident()
            checkpoints._checkpoint_hook = lambda *given: (
                nullcontext() if threading.get_ident() == me else keeping(*given)
            )
            stack.callback(setattr, checkpoints, "_checkpoint_hook", keeping)
        yield


@contextmanager
def _eval_mode(network: torch.nn.Module, modules: Modules) -> Iterator[None]:
    """Evaluation mode, every module's own flag restored; nothing is touched where it is on already."""
    flags = [(module, module.training) for module in modules if hasattr(module, "training")]
    if any(flag for _, flag in flags):
        network.eval()
        known = set(network.modules())
        for module in (module for module, flag in flags if flag and module not in known):
            module.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            if module.training != flag:
                module.training = flag


@contextmanager
def _frozen(parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Parameters without gradients, restored afterwards: a recurrent network goes on using its own, not their stand-ins.
    (Those made under inference_mode, and a copied program's, have no flag to change.)"""
    thawed = [p for p in parameters if p.requires_grad and p.is_leaf and not p.is_inference()]
    for parameter in thawed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)


@contextmanager
def _everything_put_back(network: torch.nn.Module, modules: Modules, seed: int) -> Iterator[None]:
    """Whatever passes do to the modules is undone. They work on stand-ins for parameters and buffers, which a recording may go
    on using."""
    import torch

    programs = [m for m in modules if isinstance(m, torch.jit.ScriptModule)]
    states = [vars(m) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    ordinary = vars(bare_module())
    groups = [name for name, value in ordinary.items() if type(value) in CONTAINERS]
    own = [group for state in states for name in groups if type(group := state.get(name)) in CONTAINERS]
    filled, empty = [*states, *filter(None, own)], [group for group in own if not group]
    before = [group.copy() for group in filled]
    others = [v for state in states for name, v in state.items() if name not in ordinary and not plain(v)]
    others += [vars(v) for v in others if is_plain_object(v)]
    outside = [(t, t.detach().clone()) for m in programs for t in (*m.parameters(), *m.buffers())]
    lent = [
        (p, p.detach()) for p in {p: None for state in states for p in state["_parameters"].values() if p is not None}
    ]
    weights = [*network.parameters(), *network.buffers()]

    def renew() -> list[Written]:
        for group, content in zip(filled[len(states) :], before[len(states) :], strict=True):
            put_back(group, content)
        return _stand_in(states)

    host = _Host(network=network, weights=weights, keeps=others, caches=copies_of(others), seed=seed, renew=renew)
    _hosts.append(host)
    try:
        host.fresh = _stand_in(states)
        for hooks, key in users_hooks(modules):
            hooks[key] = _watched(key, hooks[key])
        with seeded(0, others):
            yield
    finally:
        with torch.no_grad():
            for tensor, value in outside:
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
        for parameter, data in lent:
            if parameter.data_ptr() != data.data_ptr():
                parameter.data = data
        for container, content in (*zip(filled, before, strict=True), *_hosts.pop().caches):
            put_back(container, content)
        for group in filter(None, empty):
            group.clear()


def _stand_in(states: Sequence[dict[str, Any]]) -> list[Written]:
    """Copies in place of a network's own buffers, and of its parameters where these are few.

    :returns: (dict, name, tensor, its version) of each.
    """
    import torch

    parameters = {p: None for state in states for p in state["_parameters"].values() if type(p) is torch.nn.Parameter}
    few = sum(p.numel() * p.element_size() for p in parameters) <= COPIED
    instead: dict[torch.Tensor, torch.Tensor] = {}
    for parameter in parameters:
        if few and not parameter.is_inference():
            instead[parameter] = torch.nn.Parameter(parameter.detach().clone(), requires_grad=False)
    for state in states:
        for buffer in state["_buffers"].values():
            if type(buffer) is torch.Tensor and buffer not in instead:
                instead[buffer] = buffer.detach().clone()
        for group in (state["_parameters"], state["_buffers"]):
            group.update({name: instead[tensor] for name, tensor in group.items() if tensor in instead})
    versions = {id(t): 0 if t.is_inference() else t._version for t in instead.values()}
    return [
        (group, name, t, versions[id(t)])
        for state in states
        for group in (state["_parameters"], state["_buffers"])
        for name, t in group.items()
        if id(t) in versions and not t.is_inference()
    ]
