"""Pickles read as trees: Python's own unpickler is the reference for honest ones; for others, nothing may happen at all."""

import io
import json
import pickle
import struct
import time
from collections import OrderedDict
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MedXAILib.models.security import pickles
from MedXAILib.models.security.pickles import Call, Name, Stored

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
HONEST = [
    OrderedDict,
    Fraction,
    PurePosixPath,
    np.dtype,
    np.float32,
    complex,
    ValueError,
    struct.Struct,
    json.JSONDecoder,
]
KEYS = st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.text(max_size=4) | st.binary(max_size=4)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sets(KEYS, max_size=3)
VALUES = st.recursive(
    PLAIN | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


def read(content: bytes) -> pickles.Tree:
    return pickles.read(io.BytesIO(content))


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


@settings(max_examples=200, deadline=None)
@given(VALUES, st.sampled_from([4, 5]))
def test_plain_values_come_back_as_they_are(value, protocol):
    tree = read(pickle.dumps(value, protocol))
    assert (tree.value, tree.names, tree.fault) == (value, set(), "")


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        PLAIN | st.binary() | st.sampled_from(HONEST),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(PROTOCOLS),
)
def test_the_names_are_those_that_the_real_machine_looks_up(value, protocol):
    """Python's own unpickler, made to record, is the reference."""
    seen = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            seen.add(f"{module}.{name}")
            return super().find_class(module, name)

    content = pickle.dumps(value, protocol)
    Recorder(io.BytesIO(content)).load()
    tree = read(content)
    # below protocol 3 names are written as in Python 2, and the recorder sees them as written too
    assert (tree.fault, {str(name) for name in tree.names}) == ("", seen)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (b"(S'true'\nios\nsystem\n.", "os.system"),  # INST
        (b"(cos\nsystem\nS'true'\no.", "os.system"),  # OBJ
        (b"\x80\x04" + text("os") + b"\x94" + text("system") + b"\x94" + b"00h\x00h\x01\x93.", "os.system"),  # memo
        (b"\x80\x04" + text("os") + b"q\x07" + text("system") + b"2000h\x07" + text("system") + b"\x93.", "os.system"),
        (b"\x80\x04" + text("torch") + text("serialization.os.system") + b"\x93.", "torch.serialization.os.system"),
        (b"\x80\x04]" + text("system") + b"\x93.", "a name that the file computes"),
        (b"\x80\x02\x82\x01.", "a name that the file computes"),  # a copyreg extension
        (b"\x80\x02ctorch.hub\nload\n(tR0N.", "torch.hub.load"),  # thrown away
        (b"\x80\x04cos\nsystem\n(S'true'\nt}\x92.", "os.system"),  # NEWOBJ_EX
        (b"cos\nsystem\n(S'true'\ntR\xff", "os.system"),  # broken after the call
    ],
)
def test_every_name_is_followed_through_the_machine(program, name):
    assert name in {str(found) for found in read(program).names}


def test_calls_keep_what_they_were_given():
    class Odd:
        def __reduce__(self):
            return print, ("x", 1), {"state": 2}, iter([3]), iter([("key", 4)])

    call = read(pickle.dumps([Odd()], 2)).value[0]
    assert isinstance(call, Call)
    assert call.function == Name("__builtin__", "print")
    assert (call.arguments, call.state, call.parts, call.items) == (("x", 1), {"state": 2}, [3], [("key", 4)])
    assert isinstance(read(b"Pmine\n.").value, Stored)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_bytes_of_any_kind_give_a_tree_or_a_fault(data):
    seeds = [b"", pickle.dumps({"a": np.arange(3), "b": OrderedDict(c=1)}), pickle.dumps([{1, 2}, b"x", (None,)], 2)]
    content = bytearray(data.draw(st.sampled_from(seeds)) + data.draw(st.binary(max_size=40)))
    for _ in range(data.draw(st.integers(0, 6)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    tree = read(bytes(content))
    assert isinstance(tree.fault, str)


def test_traps_cost_no_time_and_no_memory():
    count = 20_000
    honest = b"".join(b"\x8a\x0c" + (1 + n << 60).to_bytes(12, "little") + b"\x85N" for n in range(count))
    began = time.process_time()
    assert read(b"\x80\x02}(" + honest + b"u.").fault == ""
    fair, began = time.process_time() - began, time.process_time()
    hashed = b"\x80\x04})" + b"2\x86" * 60 + b"Ns."  # ... as the key of a dict: its hash would take 2^60 steps
    assert read(hashed).fault == ""
    assert read(b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b".").fault
    assert read(b"\x80\x04]\x94h\x00a.").fault == ""  # a list that holds itself
    assert read(b"I" + b"9" * 100_000 + b"\n.").fault
    prime = (1 << 61) - 1  # Python's hash of whole numbers is the rest by it: these keys have one hash ...
    numbers = [b"\x8a\x0c" + (n * prime).to_bytes(12, "little") for n in range(1, count)]
    assert read(b"\x80\x02}(" + b"".join(n + b"N" for n in numbers) + b"u.").fault == ""
    assert read(b"\x80\x02}(" + b"".join(n + b"\x85N" for n in numbers) + b"u.").fault == ""
    large = b"\x8b" + (1 << 20).to_bytes(4, "little") + b"\x01" * (1 << 20)  # ... and the hash of this one takes long
    assert read(b"\x80\x02" + large + b"q\x000}" + b"h\x00Ns" * count + b".").fault == ""
    assert time.process_time() - began < 30 * fair, "a few times what a dict of as many honest keys takes"
