"""What kind of thing a weights file is and what lies in it, told from its bytes alone; needs no torch, runs nothing."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import WeightsError
from ..security import pickles
from ..security.pickles import Call, Name, Stored, Tree

SAFETENSORS = "a safetensors file"
CHECKPOINT = "a pickled checkpoint"
PICKLE = "a bare pickle"
SCRIPT = "a TorchScript network"
EXPORTED = "a torch.export network"
POINTER = "a git-LFS pointer"
UNKNOWN = "no weights file of a known kind"
PROGRAMS = (SCRIPT, EXPORTED)
"""What PyTorch runs when it opens it."""

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
LONGEST_PICKLE = 1 << 28
DTYPES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "ComplexDoubleStorage": ("complex128", 16),
    "ComplexFloatStorage": ("complex64", 8),
    "UntypedStorage": ("uint8", 1),
    "QInt8Storage": ("qint8", 1),
    "QUInt8Storage": ("quint8", 1),
    "QInt32Storage": ("qint32", 4),
    "QUInt4x2Storage": ("quint4x2", 1),
    "QUInt2x4Storage": ("quint2x4", 1),
}
"""Of each kind of storage: the dtype's name and the bytes of a number."""
REBUILD = {
    Name("torch._utils", name)
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_parameter_with_state")
} | {Name("torch._tensor", "_rebuild_from_type_v2")}  # fmt: skip
"""What torch pickles a tensor or parameter as a call of."""

CONTAINERS = {
    Name(module, name)
    for module, names in {
        "collections": ("OrderedDict", "defaultdict"),
        "torch": ("Size", "device"),
        "_codecs": ("encode",),
        "torch.nn.parameter": ("Parameter", "Buffer"),
        "numpy": ("dtype", "ndarray"),
        "torch.storage": ("_load_from_bytes", "UntypedStorage"),
    }.items()
    for name in names
}
ARRAYS = {
    Name(f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
}
"""What NumPy pickles an array as a call of."""
PYTHON = (
    "set", "frozenset", "list", "dict", "tuple", "int", "float", "complex", "bool", "str", "bytes", "bytearray",
    "slice",
)  # fmt: skip
KNOWN = (
    REBUILD
    | CONTAINERS
    | {Name("torch", "Tensor")}
    | {Name(module, name) for module in ("builtins", "__builtin__") for name in PYTHON}
    | {Name(module, name) for module in ("torch", "torch.cuda", "torch.storage") for name in DTYPES}
    | {Name("torch", name) for name, _ in DTYPES.values()}
    | ARRAYS
    | {Name(f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")}
)
"""What stands beside weights because of how they are pickled."""


@dataclass(frozen=True)
class Blob:
    """Where the numbers of a storage lie: a member of the archive, or a part of the file."""

    member: str = ""
    start: int = 0
    size: int = 0


Mark = tuple[str, Name, str, Any, int, Any]
"""('storage', its kind, key, device, count, part of another one or None): how a pickle refers to a storage."""


@dataclass(eq=False, kw_only=True)
class Contents:
    """A weights file.

    :ivar kind: one of the constants above.
    :ivar tree: of a checkpoint or bare pickle: what it would build.
    :ivar blobs: of a checkpoint: where each storage lies, by its key.
    :ivar swapped: whether its numbers begin with their highest byte.
    :ivar members: of an archive: the names in it.
    :ivar fault: why it cannot be read to its end; empty where it can.
    :ivar source: opens it once more.
    """

    path: Path
    kind: str
    source: Callable[[], BinaryIO]
    tree: Tree = field(default_factory=Tree)
    blobs: dict[str, Blob] = field(default_factory=dict)
    swapped: bool = False
    members: tuple[str, ...] = ()
    fault: str = ""

    @property
    def root(self) -> str:
        """Of an archive: the folder that holds everything, with its slash."""
        return self.members[0].partition("/")[0] + "/" if self.members and "/" in self.members[0] else ""

    @property
    def has_tensors(self) -> bool:
        """Whether there is anything in it that is made as tensors or arrays are."""
        return self.kind == SAFETENSORS or not (REBUILD | ARRAYS).isdisjoint(self.tree.names)

    def refuse(self) -> None:
        """Raise for what is never opened.

        :raises WeightsError: naming the file, what is wrong with it and what to do.
        """
        if self.kind == POINTER:
            raise WeightsError(
                self.path,
                "this is a git-LFS pointer and not the weights",
                "fetch them with 'git lfs pull' in the repository that it comes from",
            )
        if self.kind == UNKNOWN:
            raise WeightsError(
                self.path,
                f"this is {self.kind}, or one that is empty or cut short",
                "give safetensors, or what torch.save(model.state_dict(), PATH) wrote",
            )
        if self.fault:
            raise WeightsError(
                self.path,
                f"this is {self.kind} that cannot be read to its end ({self.fault}), and so is not opened",
                "get the file anew",
            )
        if self.kind in (CHECKPOINT, PICKLE) and not self.has_tensors:
            names = foreign(self.tree.names)
            what = f"; it names {named(names)}, and nothing of it was run" if names else ""
            raise WeightsError(
                self.path,
                f"there are no weights in this file{what}",
                "give what torch.save(model.state_dict(), PATH) wrote",
            )


def inspect(path: str | Path, data: bytes | None = None) -> Contents:
    """Tell a weights file's kind by its content, and read its pickle without running it.

    :param data: the file's content, where it was read already.
    :raises WeightsError: for a file that is missing or may not be read.
    """
    path = Path(path)

    def source() -> BinaryIO:
        return BytesIO(data) if data is not None else open(path, "rb")

    try:
        with source() as file:
            return _inspect(Contents(path=path, kind=UNKNOWN, source=source), file)
    except FileNotFoundError:
        raise WeightsError(path, "there is no such weights file", "check the path") from None
    except OSError as error:
        raise WeightsError(path, f"the weights cannot be read ({error.strerror})", "check the path") from None


def _inspect(found: Contents, file: BinaryIO) -> Contents:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(64)
    file.seek(0)
    if start.startswith(b"version https://git-lfs"):
        found.kind = POINTER
    elif is_safetensors(start, size):
        found.kind = SAFETENSORS
    elif start.startswith(b"PK\x03\x04"):
        _read_archive(found, file, size)
    elif not start.startswith(b"\x93NUMPY"):
        _read_pickle(found, file, start)
    return found


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file begins with the length of a JSON header that fits in it."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _read_archive(found: Contents, file: BinaryIO, size: int) -> None:
    """A zip archive: torch's format since 1.6, TorchScript, torch.export, or anything else."""
    try:
        with zipfile.ZipFile(file) as archive:
            found.members = tuple(archive.namelist())
            found.kind = _archive_kind(found.members)
            found.fault = _archive_fault(archive, size)
            if found.kind == CHECKPOINT and not found.fault:
                found.tree = pickles.read(BytesIO(archive.read(f"{found.root}data.pkl")))
                found.fault = found.tree.fault
                if f"{found.root}byteorder" in found.members:
                    found.swapped = archive.read(f"{found.root}byteorder") == b"big"
                inside = f"{found.root}data/"
                found.blobs = {
                    m.filename.removeprefix(inside): Blob(member=m.filename, size=m.file_size)
                    for m in archive.infolist()
                    if m.filename.startswith(inside)
                }
    except OSError:
        raise
    except Exception as error:  # hostile bytes can break a reader in any way
        found.fault = found.fault or f"{type(error).__name__}: {error}"


def _archive_kind(members: tuple[str, ...]) -> str:
    inner = {name.split("/", 1)[-1] for name in members}
    if "constants.pkl" in inner:
        return SCRIPT
    if "archive_format" in inner or "serialized_exported_program.json" in inner:
        return EXPORTED
    return CHECKPOINT if "data.pkl" in inner else UNKNOWN


def _archive_fault(archive: zipfile.ZipFile, size: int) -> str:
    """Why an archive is not read further: different programs would find different things in it, or far too much."""
    if min((member.header_offset for member in archive.infolist()), default=0) > 0:
        return "an archive begins within it"
    names = Counter(member.filename.lower() for member in archive.infolist())
    if twice := next((name for name, count in names.items() if count > 1), ""):
        return f"it holds '{pickles.shown(twice)}' twice"
    if (
        len(roots := {name.partition("/")[0] for name in names if name.endswith("/data.pkl") and name.count("/") == 1})
        > 1
    ):
        return f"it holds {len(roots)} checkpoints"
    for member in archive.infolist():
        limit = LONGEST_PICKLE if member.filename.endswith(".pkl") else 20 * size + (1 << 24)
        if member.file_size > min(limit, 20 * size + (1 << 24)):
            return f"{pickles.shown(member.filename)} unpacks to {member.file_size >> 20} MB"
    if (total := sum(member.file_size for member in archive.infolist())) > 20 * size + (1 << 24):
        return f"it unpacks to {total >> 20} MB"
    return ""


def _read_pickle(found: Contents, file: BinaryIO, start: bytes) -> None:
    """A bare pickle, or torch's format before 1.6: magic number, version, system, contents, keys, and then the numbers."""
    first = pickles.read(file)
    if first.fault and not first.names and start[:1] != b"\x80":
        return
    found.kind, found.tree, found.fault = PICKLE, first, first.fault
    if first.value != TORCH_MAGIC:
        return
    found.kind = CHECKPOINT
    _, system, tree, keys = (pickles.read(file) for _ in range(4))
    found.tree, found.fault = tree, tree.fault or keys.fault
    if found.fault:
        return
    found.swapped = isinstance(system.value, dict) and system.value.get("little_endian") is False
    if not (isinstance(keys.value, list) and all(isinstance(key, str) for key in keys.value)):
        found.fault = "its list of numbers is damaged"
        return
    sizes = {mark[2]: DTYPES[mark[1].name][1] for mark in storages(tree.value)}
    for key in keys.value:
        count = int.from_bytes(file.read(8), "little", signed=True)
        size = count * sizes.get(key, 0)
        if key not in sizes or count < 0 or file.tell() + size > _length(file):
            found.fault = "its numbers are cut off"
            return
        found.blobs[key] = Blob(start=file.tell(), size=size)
        file.seek(size, os.SEEK_CUR)


def _length(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return end


def storage_mark(node: Any) -> Mark | None:
    """Of a node that is exactly that."""
    if not isinstance(node, Stored) or not isinstance(node.mark, tuple) or len(node.mark) not in (5, 6):
        return None
    word, kind, key, device, count, *view = node.mark
    known = isinstance(kind, Name) and kind.module in ("torch", "torch.cuda", "torch.storage") and kind.name in DTYPES
    if word != "storage" or not known or not isinstance(key, str) or type(count) is not int or count < 0:
        return None
    return word, kind, key, device, count, view[0] if view else None


def storages(root: Any) -> list[Mark]:
    """The marks of all storages in a tree."""
    return [mark for node in walk(root) if (mark := storage_mark(node)) is not None]


def walk(root: Any) -> Iterator[Any]:
    """Every node of a tree once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*pickles.PLAIN, Name)) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting.extend(parts_of(node))


def parts_of(node: Any) -> list[Any]:
    """What a node holds, one step down."""
    if isinstance(node, list | tuple | set):
        return list(node)
    if isinstance(node, dict):
        return [*node.keys(), *node.values()]
    if isinstance(node, Call):
        return [node.function, node.arguments, node.state, *(value for _, value in node.items), *node.parts]
    return [node.mark] if isinstance(node, Stored) else []


def foreign(names: set[Name]) -> list[Name]:
    """Those that nobody needs to write down numbers, in order."""
    return sorted((name for name in names if name not in KNOWN and not _is_layer(name)), key=str)


def _is_layer(name: Name) -> bool:
    """Whether it can only be one of PyTorch's own modules."""
    return name.module.startswith("torch.nn.modules.") and name.name.isidentifier() and name.name[:1].isupper()


def named(names: Sequence[Name]) -> str:
    """The first of them, and how many more."""
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(map(str, names[:6])) + more
