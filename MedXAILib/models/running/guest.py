"""Somebody else's network, used and left as it was.

Everything that runs the user's network does so as a :func:`guest`, and each pass inside :func:`passing`.

What can be promised to who uses the same network in another thread meanwhile: the hooks of this library see its own
thread alone (:func:`mine`), modes and ``requires_grad`` are touched only where they must be, and what is put back is put
back entry by entry. A network in evaluation mode whose parameters are frozen may therefore infer in other threads at any
time; one that is being trained may not. Explanations themselves wait for each other.
"""

from __future__ import annotations

import operator
import random
import sys
import threading
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import InputError
from .state import bare_module, inside, outside, plain

if TYPE_CHECKING:
    import torch

COPIED = 1 << 22
"""Bytes of parameters up to which a network works on copies of them. A larger network that changes its weights in place
in ``forward`` (one that binds new ones is no problem) leaves them as an ordinary pass does."""
CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, deque, set, bytearray)
HOLDERS = (dict, OrderedDict, list, tuple)
"""What modules are kept in that torch does not know of."""

_lock = threading.RLock()  # one for all networks: torch's random state and its compiler's stance belong to the process


@dataclass(eq=False)
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
    weights: list
    keeps: list
    caches: list[tuple]
    ran: bool = False
    random: bool = False
    state: tuple | None = None
    seed: int = 0
    renew: Callable[[], list] | None = None
    fresh: list = field(default_factory=list)

    def written(self) -> bool:
        """Whether a pass wrote to a parameter or buffer, or put another one in its place."""
        return any(group.get(name) is not t or t._version != version for group, name, t, version in self.fresh)

    def is_of(self, network: torch.nn.Module) -> bool:
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
            for context in (_ordinary_passes(modules), _frozen(parameters), _put_back(network, modules, seed)):
                stack.enter_context(context)
            stack.enter_context(_eval_mode(network, modules))
            yield
        settle(network)


def _modules(network: torch.nn.Module) -> list[torch.nn.Module]:
    """All modules of a network, those in plain lists, tuples and dicts among them, of which torch does not know."""
    import torch

    found: dict[torch.nn.Module, None] = {}
    waiting: list = [network]
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


def _refuse_lazy(network: torch.nn.Module, parameters: list) -> None:
    import torch

    if any(torch.nn.parameter.is_lazy(parameter) for parameter in parameters):
        raise InputError(
            f"{type(network).__name__} has lazy modules, whose weights do not exist before its first pass: run it once on an "
            "input, or load its weights."
        )


def weights_of(network: torch.nn.Module) -> list:
    """A network's own parameters and buffers, not those that stand in for them meanwhile."""
    host = _host_of(network)
    return host.weights if host else [*network.parameters(), *network.buffers()]


def state_of(network: torch.nn.Module) -> tuple:
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


_states: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
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


def users_hooks(modules: Iterable[torch.nn.Module]) -> list[tuple[dict, int]]:
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


def _watched(key: int, hook: Callable) -> Callable:
    """The hook; what it gives is noted."""

    def watched(*given, **named):
        found = hook(*given, **named)
        if found is not None:
            _movers.add(key)
        return found

    return watched


def written_name(module: str) -> str:
    """A module's name without the modules that torch.compile puts around others."""
    return module.replace("._orig_mod", "").replace("_orig_mod.", "")


def mine(hook: Callable) -> Callable:
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
            draws.random = not _same(fresh, [stream.get() for stream in streams])
    except BaseException:
        if not host.ran:  # a pass that ended early leaves nothing
            for container, content in host.caches:
                _reset(container, content)
        raise
    host.random |= draws.random
    if not host.ran:
        host.ran, host.caches[:] = True, _caches(host.keeps)


@contextmanager
def seeded(seed: int, keeps: Iterable = ()) -> Iterator[list[_Stream]]:
    """Random numbers of torch, NumPy and Python, and of generators among ``keeps``, from a seed; afterwards their states
    are what they were, to the bit."""
    streams = [*_common_streams(), *(stream for value in keeps if (stream := _stream(value)))]
    before = [stream.get() for stream in streams]
    for stream in streams:
        stream.seed(seed)
    try:
        yield streams
    finally:
        for stream, state in zip(streams, before, strict=True):
            stream.set(state)


class _Stream(NamedTuple):
    """Where random numbers come from."""

    get: Callable
    set: Callable
    seed: Callable


def _common_streams() -> list[_Stream]:
    """Those of the process."""
    import torch

    generators = (torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ()))
    return [*map(_stream, generators), _legacy(np.random), _Stream(random.getstate, random.setstate, random.seed)]


def _legacy(stream) -> _Stream:
    return _Stream(stream.get_state, stream.set_state, lambda seed: stream.seed(seed % (1 << 32)))


def _stream(value) -> _Stream | None:
    """A generator of torch, NumPy or Python; None for anything else."""
    import torch

    if isinstance(value, torch.Generator):
        return _Stream(value.get_state, value.set_state, value.manual_seed)
    if isinstance(value, random.Random):
        return _Stream(value.getstate, value.setstate, value.seed)
    if isinstance(value, np.random.RandomState):
        return _legacy(value)
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator
        put = partial(setattr, bits, "state")
        return _Stream(lambda: bits.state, put, lambda seed: put(type(bits)(seed % (1 << 32)).state))
    return None


def _same(one, other) -> bool:
    """Equal states: numbers, tensors and arrays in lists, tuples and dicts."""
    try:
        return bool(one == other)
    except (ValueError, RuntimeError):  # tensors and arrays compare number by number
        pass
    if isinstance(one, dict):
        return _same(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return all(map(_same, one, other))
    return bool(one.equal(other)) if hasattr(one, "equal") else np.array_equal(one, other)


@contextmanager
def _ordinary_passes(modules: list) -> Iterator[None]:
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
        checkpoints = sys.modules.get("torch.utils.checkpoint")
        if (keeping := getattr(checkpoints, "_checkpoint_hook", None)) is not None:
            me = threading.get_ident()
            checkpoints._checkpoint_hook = lambda *given: (
                nullcontext() if threading.get_ident() == me else keeping(*given)
            )
            stack.callback(setattr, checkpoints, "_checkpoint_hook", keeping)
        yield


@contextmanager
def _eval_mode(network: torch.nn.Module, modules: list) -> Iterator[None]:
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
def _frozen(parameters: list) -> Iterator[None]:
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
def _put_back(network: torch.nn.Module, modules: list, seed: int) -> Iterator[None]:
    """Whatever passes do to the modules is undone. They work on stand-ins for parameters and buffers, which a tape may go
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
    others += [vars(v) for v in others if _is_plain_object(v)]
    outside = [(t, t.detach().clone()) for m in programs for t in (*m.parameters(), *m.buffers())]
    lent = [
        (p, p.detach()) for p in {p: None for state in states for p in state["_parameters"].values() if p is not None}
    ]
    weights = [*network.parameters(), *network.buffers()]
    host = _Host(network, weights, others, _caches(others), seed=seed)
    _hosts.append(host)

    def renew() -> list:
        for group, content in zip(filled[len(states) :], before[len(states) :], strict=True):
            _reset(group, content)
        return _stand_in(states)

    host.renew = renew
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
            _reset(container, content)
        for group in filter(None, empty):
            group.clear()


def _stand_in(states: list[dict]) -> list[tuple]:
    """Copies in place of a network's own buffers, and of its parameters where these are few.

    :returns: (dict, name, tensor, its version) of each.
    """
    import torch

    parameters = {p: None for state in states for p in state["_parameters"].values() if type(p) is torch.nn.Parameter}
    few = sum(p.numel() * p.element_size() for p in parameters) <= COPIED
    instead: dict = {}
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


def _caches(values: list) -> list[tuple]:
    """(container, copy) of the dicts, lists, sets, tensors and arrays among values, and inside of these."""
    found, waiting, seen = [], list(values), set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) in CONTAINERS:
            waiting.extend(value.values() if isinstance(value, dict) else value)
            found.append((value, _copy_of(value)))
        elif _is_table(value):
            found.append((value, value.copy() if isinstance(value, np.ndarray) else value.detach().clone()))
    return found


def _copy_of(value):
    """A dict, list or set with the same items."""
    copied = value.copy()
    if isinstance(value, dict):
        for key, item in value.items():
            copied[key] = _bare(item)
    elif isinstance(value, list):
        copied[:] = [_bare(item) for item in value]
    return copied


def _is_plain_object(value) -> bool:
    """Whether it is an object of somebody's own class, which may count or keep something."""
    theirs = type(value).__module__.partition(".")[0] in ("torch", "numpy", "builtins", "collections")
    return hasattr(value, "__dict__") and not (theirs or callable(value))


def _is_table(value) -> bool:
    """Whether it is a tensor or array that passes may write to, and not too large to be copied."""
    import torch

    if isinstance(value, np.ndarray):
        return value.dtype.hasobject is False and value.nbytes <= COPIED
    ordinary = type(value) is torch.Tensor and value.layout is torch.strided and value.grad_fn is None
    return ordinary and not (value.is_meta or value.is_inference() or value.is_quantized) and value.nbytes <= COPIED


def _bare(value):
    """A tensor without the graph of the pass that made it; anything else as it is."""
    import torch

    if isinstance(value, torch.Tensor) and value.grad_fn is not None:
        return value.detach()
    return tuple(_bare(item) for item in value) if type(value) is tuple else value


def _reset(container, before) -> None:
    """The content of a dict, list, set, tensor or array as it was; never empty in between, for another thread may look at
    it."""
    if isinstance(container, dict):
        if container.keys() == before.keys() and all(map(operator.is_, container.values(), before.values())):
            return
        for key in [key for key in container if key not in before]:
            del container[key]
        for key, value in before.items():
            if key not in container or container[key] is not value:
                container[key] = value
    elif isinstance(container, list | bytearray):
        container[:] = before
    elif isinstance(container, np.ndarray):
        if not np.array_equal(container, before, equal_nan=container.dtype.kind in "fc"):
            container[...] = before
    elif hasattr(container, "copy_"):
        if not container.detach().equal(before):
            container.detach().copy_(before)
    elif isinstance(container, deque):
        if container != before:
            container.clear()
            container.extend(before)
    elif container != before:
        container.intersection_update(before)
        container.update(before)
