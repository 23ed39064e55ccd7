"""Random numbers of torch, NumPy and Python from a seed, and their sources put back to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch


class Stream(NamedTuple):
    """Where random numbers come from."""

    get: Callable[[], Any]
    set: Callable[[Any], object]
    seed: Callable[[int], object]


@contextmanager
def seeded(seed: int, keeps: Iterable[object] = ()) -> Iterator[list[Stream]]:
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


def _common_streams() -> list[Stream]:
    """Those of the process."""
    import torch

    generators = (torch.default_generator, *(torch.cuda.default_generators if torch.cuda.is_initialized() else ()))
    theirs = Stream(random.getstate, random.setstate, random.seed)
    return [*map(_of_torch, generators), _legacy(np.random), theirs]


def _of_torch(generator: torch.Generator) -> Stream:
    return Stream(generator.get_state, generator.set_state, generator.manual_seed)


def _legacy(stream: Any) -> Stream:
    """Of NumPy before it had generators: its module, or a RandomState."""
    return Stream(stream.get_state, stream.set_state, lambda seed: stream.seed(seed % (1 << 32)))


def _stream(value: object) -> Stream | None:
    """A generator of torch, NumPy or Python; None for anything else."""
    import torch

    if isinstance(value, torch.Generator):
        return _of_torch(value)
    if isinstance(value, random.Random):
        return Stream(value.getstate, value.setstate, value.seed)
    if isinstance(value, np.random.RandomState):
        return _legacy(value)
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator
        put = partial(setattr, bits, "state")
        make: Callable[[int], Any] = type(bits)
        return Stream(lambda: bits.state, put, lambda seed: put(make(seed % (1 << 32)).state))
    return None


def equal(one: Any, other: Any) -> bool:
    """Equal states: numbers, tensors and arrays in lists, tuples and dicts."""
    try:
        return bool(one == other)
    except (ValueError, RuntimeError):  # tensors and arrays compare number by number
        pass
    if isinstance(one, dict):
        return equal(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return all(map(equal, one, other))
    return bool(one.equal(other)) if hasattr(one, "equal") else np.array_equal(one, other)
