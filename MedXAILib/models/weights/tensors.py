"""The tensors of a pickle's tree. Nothing is ever unpickled here.

A tensor is made where a node is exactly what torch writes for one, from the bytes of the file; storages are shared as
they were. Whatever else the file would build is left alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Set
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from ..security.pickles import PLAIN, Call, Name, Stored
from .contents import ARRAYS, CHECKPOINT, DTYPES, REBUILD, Contents, inspect, storage_mark

if TYPE_CHECKING:
    import numpy as np
    import torch

DEEPEST, MOST_PARTS, LONGEST_PATH = 200, 2_000_000, 1000
"""Of a tree that is searched for tensors."""


class Numbers:
    """Makes tensors and arrays of the nodes of one file.

    :param contents: of a checkpoint or bare pickle.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.made: dict[int, torch.Tensor | np.ndarray | None] = {}
        self.stores: dict[str, torch.UntypedStorage] = {}
        self.nested: dict[int, tuple[torch.UntypedStorage, str] | None] = {}
        self.opened = ExitStack()
        self.archive: ZipFile | None = None

    def close(self) -> None:
        """The archive, where one was opened."""
        self.opened.close()
        self.archive = None

    def of(self, node: Any) -> torch.Tensor | np.ndarray | None:
        """The tensor or array that a node is exactly (or that was read already); None for any other node.

        :raises ValueError: where it is one whose numbers are not there.
        """
        if not isinstance(node, Call):
            known: torch.Tensor | np.ndarray | None = node
            return known
        if id(node) not in self.made:
            self.made[id(node)] = self._tensor(node) if is_in(node, REBUILD) else array(node)
        return self.made[id(node)]

    def _tensor(self, node: Call) -> torch.Tensor | None:
        import torch

        what, given = node.function.name, node.arguments
        if not isinstance(given, tuple) or node.items or node.parts:
            return None
        match what, given:
            case "_rebuild_tensor", (store, start, size, steps):
                return self._view(store, start, size, steps)
            case "_rebuild_tensor_v2", (store, start, size, steps, bool(wanted), _, *more):
                return _with_gradient(_with_bits(self._view(store, start, size, steps), more), wanted)
            case "_rebuild_tensor_v3", (store, start, size, steps, bool(wanted), _, Name("torch", kind), *more) if (
                not any(more)
            ):
                return _with_gradient(self._view(store, start, size, steps, kind), wanted)
            case ("_rebuild_parameter", (data, bool(wanted), _)) | (
                "_rebuild_parameter_with_state",
                (data, bool(wanted), _, _),
            ):
                inner = self.of(data)
                return torch.nn.Parameter(inner, wanted) if isinstance(inner, torch.Tensor) else None
            case "_rebuild_from_type_v2", (Name() as function, Name() as kind, tuple(arguments), _):
                inner = self._tensor(Call(function, arguments)) if function in REBUILD else None
                if kind == Name("torch.nn.parameter", "Parameter") and isinstance(inner, torch.Tensor):
                    return torch.nn.Parameter(inner.detach(), inner.requires_grad)
                return inner if kind in (Name("torch", "Tensor"), Name("torch.nn.parameter", "Buffer")) else None
        return None

    def _view(self, store: Any, start: Any, size: Any, steps: Any, kind: str = "") -> torch.Tensor | None:
        import torch

        size, steps = plain_tuple(size), plain_tuple(steps)
        found = self._store(store)
        if found is None or size is None or steps is None or len(size) != len(steps) or type(start) is not int:
            return None
        storage, own = found
        dtype = vars(torch).get(kind or own)  # no attribute that is imported as it is asked for
        if not isinstance(dtype, torch.dtype) or min((start, *size, *steps)) < 0:
            return None
        last = start + sum((n - 1) * step for n, step in zip(size, steps, strict=True))
        if 0 not in size and (last + 1) * dtype.itemsize > storage.nbytes():
            raise ValueError(f"a tensor of {' x '.join(map(str, size)) or 'one number'} reaches beyond its numbers")
        return torch.empty(0, dtype=dtype).set_(storage, start, size, steps)

    def _store(self, node: Any) -> tuple[torch.UntypedStorage, str] | None:
        """A storage, and the name of its dtype."""
        mark = storage_mark(node)
        if mark is None:
            return self._nested(node)
        _, kind, key, _, count, view = mark
        name, width = DTYPES[kind.name]
        if key not in self.stores:
            self.stores[key] = self._read(key, count * width, width // 2 if name.startswith("complex") else width)
        whole = self.stores[key]
        if view is None:
            return whole, name
        if not (isinstance(view, tuple) and len(view) == 3 and all(type(n) is int and n >= 0 for n in view[1:])):
            return None
        _, start, length = view
        return whole[start * width : (start + length) * width], name

    def _nested(self, node: Any) -> tuple[torch.UntypedStorage, str] | None:
        """A storage that plain pickle wrote as the bytes of a file of its own."""
        if id(node) in self.nested:
            return self.nested[id(node)]
        match node:
            case Call(function=Name("torch.storage", "_load_from_bytes"), arguments=(content,)):
                data = as_bytes(content)
                inner = Numbers(inspect(self.contents.path, data)) if data else self
                if (
                    inner.contents.kind == CHECKPOINT
                    and not inner.contents.fault
                    and storage_mark(inner.contents.tree.value)
                ):
                    return self.nested.setdefault(id(node), inner._store(inner.contents.tree.value))
        return None

    def _read(self, key: str, size: int, width: int) -> torch.UntypedStorage:
        import torch

        blob = self.contents.blobs.get(key)
        if blob is None and size == 0:
            return torch.UntypedStorage(0)
        if blob is None or blob.size < size:
            raise ValueError(f"the numbers of storage {key} are cut off")
        numbers = torch.empty(blob.size, dtype=torch.uint8)
        into = numbers.numpy().data
        if blob.member:
            if self.archive is None:
                file = self.opened.enter_context(self.contents.source())
                self.archive = self.opened.enter_context(ZipFile(file))
            with self.archive.open(blob.member) as member:
                filled = read_into(member, into)
        else:
            with self.contents.source() as file:
                file.seek(blob.start)
                filled = read_into(file, into)
        if filled < blob.size:
            raise ValueError(f"the numbers of storage {key} are cut off")
        if self.contents.swapped and width > 1:
            numbers = numbers[: blob.size // width * width].view(-1, width).flip(1).contiguous().flatten()
        return numbers.untyped_storage()


def read_into(file: Any, buffer: memoryview) -> int:
    """Fill a buffer from a file that has ``readinto``; gives the number of bytes."""
    filled = 0
    while filled < len(buffer) and (count := file.readinto(buffer[filled : filled + (1 << 24)])):
        filled += count
    return filled


def _with_bits(tensor: torch.Tensor | None, metadata: list[Any]) -> torch.Tensor | None:
    """A tensor with what torch notes of it: that its numbers stand for their conjugates or negatives."""
    import torch

    bits = metadata[0] if metadata and metadata[0] else {}
    if tensor is None or not isinstance(bits, dict) or not bits.keys() <= {"conj", "neg"}:
        return None
    tensor = tensor.conj() if bits.get("conj") is True else tensor
    return torch._neg_view(tensor) if bits.get("neg") is True else tensor


def _with_gradient(tensor: torch.Tensor | None, wanted: bool) -> torch.Tensor | None:
    if tensor is not None and wanted and (tensor.is_floating_point() or tensor.is_complex()):
        tensor.requires_grad_()
    return tensor


def plain_tuple(node: Any) -> tuple[int, ...] | None:
    """Of a shape: its whole numbers."""
    if isinstance(node, Call) and node.function == Name("torch", "Size") and len(node.arguments) == 1:
        node = node.arguments[0]
    if isinstance(node, tuple | list) and all(type(n) is int and 0 <= n < 1 << 62 for n in node):
        return tuple(node)
    return None


def is_in(node: Call, names: Set[Name]) -> bool:
    """Whether a node is a call of one of these."""
    return isinstance(node.function, Name) and node.function in names


def as_bytes(node: Any) -> bytes | None:
    """Bytes, also as old pickles write them: as the text of the same characters."""
    match node:
        case bytes():
            return node
        case Call(function=Name("builtins" | "__builtin__", "bytes"), arguments=()):
            return b""
        case Call(function=Name("_codecs", "encode"), arguments=(str(text), "latin1" | "latin-1")):
            node = text
    try:
        return node.encode("latin-1") if isinstance(node, str) else None
    except UnicodeEncodeError:
        return None


def _array_parts(node: Call) -> tuple[Any, Any, Any, Any] | None:
    """(bytes, dtype, shape, order) of a node that is exactly a NumPy array."""
    if not is_in(node, ARRAYS):
        return None
    match node.function.name, node.arguments, node.state:
        case "_reconstruct", (Name("numpy", "ndarray"), _, _), (1, shape, dtype, bool(columns), content):
            return content, dtype, shape, "F" if columns else "C"
        case "_frombuffer", (content, dtype, shape, "C" | "F" as order), None:
            return content, dtype, shape, order
    return None


def array(node: Call) -> np.ndarray | None:
    """The NumPy array of numbers that a node is exactly."""
    import numpy as np

    parts = _array_parts(node)
    if parts is None:
        return None
    content, kind, shape, order = parts
    data, dtype, shape = as_bytes(content), _dtype(kind), plain_tuple(shape)
    if data is None or dtype is None or shape is None or len(data) != math.prod(shape) * dtype.itemsize:
        return None
    values = np.frombuffer(data, dtype).reshape(shape, order=order)
    return values.astype(dtype.newbyteorder("="))


def _dtype(node: Any) -> np.dtype | None:
    import numpy as np

    match node:
        case Call(
            function=Name("numpy", "dtype"), arguments=(str(text), *_), state=(_, "<" | ">" | "|" | "=" as order, *_)
        ):
            if re.fullmatch(r"[biufc]\d{1,2}", text):
                return np.dtype(text).newbyteorder(order)
    return None


def shape_of(node: Any) -> tuple[int, ...] | None:
    """The shape of a node that is a tensor or an array; None for anything else. Reads no numbers."""
    if not isinstance(node, Call):
        return None
    if not is_in(node, REBUILD):
        parts = _array_parts(node)
        return plain_tuple(parts[2]) if parts else None
    match node.function.name, node.arguments:
        case "_rebuild_parameter" | "_rebuild_parameter_with_state", (data, *_):
            return shape_of(data)
        case "_rebuild_from_type_v2", (Name() as function, Name(), tuple(arguments), _) if function in REBUILD:
            return shape_of(Call(function, arguments))
        case "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3", (_, _, size, *_):
            return plain_tuple(size)
    return None


def tensor_nodes(root: Any) -> dict[str, Call]:
    """Every tensor of a tree by its path: keys, attributes and places joined by dots, in the order of the file. Of a
    pickled module the names of its ``state_dict()``. Of several with one path none is given.

    :raises ValueError: where the tree is entangled beyond measure.
    """
    found: dict[str, Call] = {}
    twice: set[str] = set()
    left = MOST_PARTS

    def visit(node: Any, path: tuple[str, ...], above: frozenset[int]) -> None:
        nonlocal left
        left -= 10  # a plain value costs a tenth of a node
        if left < 0 or len(path) > DEEPEST or sum(map(len, path)) > LONGEST_PATH:
            raise ValueError("it is entangled beyond measure")
        if shape_of(node) is not None:
            twice.update({".".join(path)} & found.keys())
            found[".".join(path)] = node
        elif id(node) not in above:
            for name, part in _named_parts(node):
                left -= 1
                if not isinstance(part, PLAIN):
                    visit(part, (*path, name), above | {id(node)})

    visit(root, (), frozenset())
    return {path: node for path, node in found.items() if path not in twice}


def _named_parts(node: Any) -> Iterator[tuple[str, Any]]:
    """What a node holds, by key, attribute or place."""
    if isinstance(node, dict):
        yield from ((str(key), part) for key, part in node.items())
    elif isinstance(node, list | tuple):
        yield from ((str(n), part) for n, part in enumerate(node))
    elif isinstance(node, Call):
        state = node.state[0] if isinstance(node.state, tuple) and len(node.state) == 2 else node.state
        if module := module_parts(state):
            yield from module
            return
        if node.function == Name("collections", "OrderedDict"):  # its attributes tell of versions
            state = None
            for pairs in node.arguments if isinstance(node.arguments, tuple) else ():
                for pair in pairs if isinstance(pairs, list | tuple) else ():
                    if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], PLAIN):
                        yield str(pair[0]), pair[1]
        yield from ((str(key), part) for key, part in node.items)
        yield from ((str(n), part) for n, part in enumerate(node.parts))
        if isinstance(state, dict):
            yield from ((str(key), part) for key, part in state.items())


def module_parts(state: Any) -> list[tuple[str, Any]]:
    """Of what a pickled torch module is told of its attributes: parameters, buffers that are kept, and children."""
    if not isinstance(state, dict) or not {"_parameters", "_buffers", "_modules"} <= state.keys():
        return []
    parameters, buffers, children = (
        [(name, part) for name, part in _named_parts(state[kind]) if part is not None]
        for kind in ("_parameters", "_buffers", "_modules")
    )
    left_out = state.get("_non_persistent_buffers_set")
    if isinstance(left_out, Call) and isinstance(left_out.arguments, tuple):  # protocols below 4 write set([...])
        left_out = next(iter(left_out.arguments), ())
    # torch names only buffers there; a longer list, hung below many modules, would only cost time
    listed = islice(left_out, len(buffers)) if isinstance(left_out, list | set) else ()
    names = {name for name in listed if isinstance(name, str)}
    return parameters + [(name, part) for name, part in buffers if name not in names] + children


def module_class(root: Any) -> Name | None:
    """The class of a network that is pickled as a whole."""
    function = root.function if isinstance(root, Call) and module_parts(root.state) else None
    if isinstance(function, Stored) and isinstance(function.mark, tuple) and len(function.mark) == 4:
        function = function.mark[1]  # torch's format before 1.6 writes the source beside it
    return function if isinstance(function, Name) else None
