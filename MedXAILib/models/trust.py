"""What kind of thing a weights file is, and whether it may be opened. Nothing is ever unpickled here.

A pickle is a program for a small stack machine: it may name any function (a "global") and call it. :func:`inspect`
reads that program without running it, follows stack and memo as far as text goes, and lists every global by name.
Known dangerous ones are refused always; for whatever else a program may do, the user's consent is asked.
While a file is opened with consent, :func:`guarded` refuses the same globals once more, as they are looked up.
"""

from __future__ import annotations

import ast
import json
import os
import pickletools
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ..errors import InputError

SAFETENSORS = "a safetensors file"
CHECKPOINT = "a pickled checkpoint"
PICKLE = "a bare pickle"
SCRIPT = "a TorchScript network"
EXPORTED = "a torch.export network"
POINTER = "a git-LFS pointer"
UNKNOWN = "no weights file of a known kind"

CONFIG = "MEDXAI_CONFIG"
"""Environment variable: the folder of the user's settings, where consent is remembered."""


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


DANGEROUS = _words(
    # commands and the system
    "os posix nt sys subprocess _posixsubprocess commands popen2 pty signal psutil pexpect platform.popen",
    "uuid._get_command_stdout msvcrt winreg _winreg multiprocessing threading _thread asyncio",
    # code
    "importlib imp _imp pkgutil zipimport runpy code.InteractiveInterpreter code.InteractiveConsole code.interact codeop",
    "pickle _pickle cPickle marshal shelve dbm dill cloudpickle joblib.load joblib.numpy_pickle jsonpickle",
    "yaml.load yaml.unsafe_load yaml.full_load ctypes _ctypes cffi gc types.FunctionType types.CodeType types.LambdaType",
    "types.MethodType operator.attrgetter operator.methodcaller operator.call _operator.attrgetter",
    "_operator.methodcaller _operator.call six.moves pdb bdb cProfile profile timeit trace.Trace doctest pydoc unittest",
    "test.support pytest _pytest idlelib lib2to3 tkinter turtle pip setuptools pkg_resources distutils ensurepip venv",
    "zipapp compileall py_compile logging.config IPython",
    # files
    "io.open io.open_code io.FileIO _io.open _io.open_code _io.FileIO codecs.open fileinput linecache shutil tempfile",
    "mmap zipfile tarfile gzip bz2.open bz2.BZ2File lzma.open lzma.LZMAFile sqlite3 _sqlite3",
    # the network
    "socket _socket ssl socketserver SocketServer http httplib urllib urllib2 urllib3 requests aiohttp httpx ftplib",
    "smtplib telnetlib poplib imaplib nntplib xmlrpc xmlrpclib webbrowser antigravity paramiko",
    # what the libraries of this trade offer of all that
    "numpy.testing numpy.f2py numpy.distutils numpy.load numpy.save numpy.fromfile numpy.memmap numpy.lib.npyio",
    "numpy.lib._npyio_impl numpy.ctypeslib pandas.eval pandas.read_pickle pandas.io pandas.core.computation",
    "torch.load torch.save torch.serialization.load torch.serialization.save torch.hub torch.package torch.export",
    "torch.jit.load torch.jit.unsupported_tensor_ops torch.ops torch._ops torch.classes torch._classes torch.testing",
    "torch.distributed.rpc torch.distributed.run torch.distributed.elastic torch.multiprocessing torch.onnx",
    "torch._dynamo torch._inductor torch.fx.graph_module torch.fx.experimental torch.utils.cpp_extension",
    "torch.utils.collect_env torch.utils.bottleneck torch.utils._config_module torch.utils.model_zoo",
    "torch.utils.data.datapipes torch.utils.hipify monai.bundle monai.apps",
)
"""Modules and functions with which a pickle can run commands or code, or reach files or the network.
A name stands for everything below it."""

FORMULA_PARTS = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp)
FORMULA_PARTS += (ast.Compare, ast.operator, ast.unaryop, ast.cmpop)

INNER_MODULES = _words("os posix nt sys subprocess builtins importlib ctypes socket shutil pickle runpy")
"""Modules that other modules import and so hand on under their own name (``pathlib.os``)."""

HARMLESS_BUILTINS = _words(
    "set frozenset dict list tuple object complex bytearray slice range xrange int long float str unicode bool bytes",
    "Ellipsis NotImplemented",
)
"""The rest of ``builtins`` counts as dangerous, but for exceptions."""

COMPUTED = ("", "a name that the file computes")
"""Stands for a global whose name is not written in the file. What has no module counts as dangerous."""
MACHINE_CODE = (".so", ".dll", ".dylib", ".pyd")

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PICKLES = 5
"""A checkpoint of torch before 1.6: magic number, version, system, contents, keys, and then the raw values."""
DEEPEST = 4
"""How far files within files are followed."""
LONGEST = 5_000_000
"""Steps of a pickle that are followed; the weights of a network need some thousands."""

Global = tuple[str, str]
OPAQUE, MARK = object(), object()


@dataclass(frozen=True)
class Findings:
    """What a file is.

    :ivar kind: one of the constants above.
    :ivar names: every (module, name) that its pickles look up.
    :ivar fault: why it cannot be read to its end; empty where it can.
    :ivar zipped: whether it begins as a zip archive.
    """

    path: Path
    kind: str
    names: frozenset[Global] = frozenset()
    fault: str = ""
    zipped: bool = False

    @property
    def dangerous(self) -> list[str]:
        """What its pickles look up that is refused whatever the consent, as ``module.name``."""
        return sorted(full_name(name) for name in self.names if is_dangerous(*name))

    def refuse(self) -> None:
        """Raise for what is never opened.

        :raises InputError: naming the file, what is wrong with it and what to do.
        """
        if self.dangerous:
            raise dangerous_file(self.path, self.dangerous)
        if self.kind == POINTER:
            raise InputError(
                f"{self.path}: this is a git-LFS pointer and not the weights; fetch them with 'git lfs pull' in the "
                "repository that it comes from."
            )
        if self.kind == UNKNOWN:
            raise InputError(
                f"{self.path}: this is {self.kind}; give safetensors, or what torch.save(model.state_dict(), PATH) wrote."
            )
        if self.fault:
            raise InputError(
                f"{self.path}: this is {self.kind} that cannot be read to its end ({self.fault}), and so is not opened; "
                "get the file anew."
            )


def inspect(path: str | Path, data: bytes | None = None) -> Findings:
    """Tell a weights file's kind by its content, and what its pickles look up. Needs no torch, runs nothing.

    :param data: the file's content, where it was read already.
    :raises InputError: for a file that is missing or may not be read.
    """
    path = Path(path)
    try:
        with BytesIO(data) if data is not None else open(path, "rb") as file:
            return _inspect(path, file)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such weights file; check the path.") from None
    except OSError as error:
        raise InputError(f"{path}: the weights cannot be read ({error.strerror}); check the path.") from None


def _inspect(path: Path, file: BinaryIO) -> Findings:
    size = file.seek(0, os.SEEK_END)
    start = _start(file)
    if start.startswith(b"version https://git-lfs"):
        return Findings(path, POINTER)
    if is_safetensors(start, size):
        return Findings(path, SAFETENSORS)
    archive = _zip_findings(path, file, size) if _ends_as_zip(file) else None
    if archive and start.startswith(b"PK"):
        return archive
    found = _pickle_findings(path, file, start)
    if archive:  # torch reads such a file from its beginning, other programs from its end
        return Findings(path, found.kind, found.names | archive.names, found.fault or archive.fault)
    return found


def _start(file: BinaryIO) -> bytes:
    file.seek(0)
    start = file.read(64)
    file.seek(0)
    return start


def _ends_as_zip(file: BinaryIO) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:  # the end of an archive, and a wrong one
        return True


def is_safetensors(start: bytes, size: int) -> bool:
    """Whether a file begins with the length of a JSON header that fits in it."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _pickle_findings(path: Path, file: BinaryIO, start: bytes) -> Findings:
    """A bare pickle, or torch's format before 1.6."""
    file.seek(0)
    if start.startswith(b"\x93NUMPY"):
        return Findings(path, UNKNOWN, frozenset(hidden_globals(file, start)))
    first = read_program(file)
    if first.fault and not first.names and start[:1] != b"\x80":
        return Findings(path, UNKNOWN)
    legacy = first.value == TORCH_MAGIC
    names, fault = first.names, first.fault
    for _ in range(0 if fault else LEGACY_PICKLES - 1):
        program = read_program(file)
        names |= program.names if legacy else certain(program.names)
        fault = fault or (program.fault if legacy else "")
        if program.fault:
            break
    return Findings(path, CHECKPOINT if legacy else PICKLE, frozenset(names), fault)


def _zip_findings(path: Path, file: BinaryIO, size: int, depth: int = 0) -> Findings:
    """A zip archive: torch's format since 1.6, TorchScript, torch.export, or anything else."""
    names, fault, kind = set(), "", UNKNOWN
    try:
        with zipfile.ZipFile(file) as archive:
            kind = _zip_kind(archive.namelist())
            for member in archive.infolist():
                if member.file_size > 20 * size + (1 << 24):
                    fault = f"{member.filename} unpacks to {member.file_size >> 20} MB"
                    continue
                name = PurePosixPath(member.filename)
                with archive.open(member) as content:
                    if name.name == "data.pkl":
                        program = read_program(content)
                        names |= program.names
                        fault = fault or program.fault
                    elif name.suffix in MACHINE_CODE:
                        names.add(("", f"the machine code {name.name}"))
                    elif name.suffix == ".json" and kind == EXPORTED:
                        names |= graph_globals(content.read())
                    else:
                        names |= hidden_globals(content, content.peek(8)[:8], depth)
    except Exception as error:  # hostile bytes can break a reader in any way
        fault = fault or f"{type(error).__name__}: {error}"
    return Findings(path, kind, frozenset(names), fault, zipped=True)


def _zip_kind(members: list[str]) -> str:
    inner = {name.split("/", 1)[-1] for name in members}
    if "constants.pkl" in inner:
        return SCRIPT
    if "archive_format" in inner or "serialized_exported_program.json" in inner:
        return EXPORTED
    return CHECKPOINT if "data.pkl" in inner else UNKNOWN


def graph_globals(text: bytes) -> set[Global]:
    """What the graph of a torch.export archive would run beyond torch's operators: torch looks up every ``target``
    attribute by attribute, and evaluates every ``expr_str`` as Python."""
    found = set()
    for key, value in _texts(json.loads(text)):
        if key == "target" and _reaches_out(value):
            found.add(("", value))
        if key == "expr_str" and not _is_formula(value):
            found.add(("", f"the formula {value[:80]}"))
    return found


def _texts(value, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a JSON value."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)


def _reaches_out(target: str) -> bool:
    path = target.split(".")
    if path[0] not in ("torch", "_operator", "math"):
        return False
    if path[:2] == ["torch", "ops"]:
        return len(path) < 4 or _is_inner(path[2:])
    return _is_listed(path) or _is_inner(path[1:])


def _is_formula(text: str) -> bool:
    """Whether a text is arithmetic on numbers and symbols: calls of SymPy's classes, no attribute, no other text."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)]
    return (
        all(isinstance(node, FORMULA_PARTS) for node in nodes)
        and all(name[:1].isupper() or name in ("floor", "ceiling", "sqrt") for name in calls)
        and all(isinstance(value, str) and value.isidentifier() for value in texts)
    )


def hidden_globals(file: BinaryIO, start: bytes, depth: int = 0) -> set[Global]:
    """What is looked up by the pickles that something of any kind begins with: a member of an archive whatever its
    name, a NumPy array of objects, bytes within a pickle.

    Raw numbers that only look like a pickle end soon in nonsense; names that such nonsense computes are left out.
    """
    if depth > DEEPEST:
        return set()
    if start.startswith(b"PK\x03\x04"):
        data = file.read()
        return set(_zip_findings(Path(), BytesIO(data), len(data), depth + 1).names)
    if start.startswith(b"\x93NUMPY"):
        version = file.read(8)[6:7]
        file.read(int.from_bytes(file.read(2 if version == b"\x01" else 4), "little"))
    names: set[Global] = set()
    for _ in range(LEGACY_PICKLES):
        program = read_program(file, depth + 1)
        names |= certain(program.names)
        if program.fault:
            break
    return names


def certain(names: set[Global]) -> set[Global]:
    return {name for name in names if name != COMPUTED and full_name(name).replace(".", "_").isidentifier()}


@dataclass(frozen=True)
class Program:
    """One pickle: what it looks up, why it cannot be read to its end, and its value where that is a plain number or text."""

    names: set[Global]
    fault: str
    value: Any


def read_program(file: BinaryIO, depth: int = 0) -> Program:
    """Follow one pickle from the file's position to its end, or as far as it makes sense, without running it."""
    stack: list = []
    memo: dict[int, Any] = {}
    names: set[Global] = set()
    fault = ""
    try:
        for opcode, argument, _ in islice(pickletools.genops(file), LONGEST):
            match opcode.name:
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "DUP":
                    stack.append(stack[-1])
                case "MARK":
                    stack.append(MARK)
                case _:
                    taken = _take(stack, opcode)
                    names |= _looked_up(opcode.name, argument, taken)
                    if isinstance(argument, bytes | bytearray | str):
                        names |= _within(argument, depth)
                    plain = argument if isinstance(argument, int | str) and opcode.name != "INST" else OPAQUE
                    stack += [plain] * len(opcode.stack_after)
                    if opcode.name == "STOP":
                        return Program(names, "", taken[0])
    except Exception as error:  # hostile bytes can break a reader in any way
        fault = str(error) or type(error).__name__
    return Program(names, fault or "it has no end", None)


def _take(stack: list, opcode) -> list:
    """Remove from the stack what an opcode consumes; those that consume a marked part leave it out of the result."""
    consumed = opcode.stack_before
    if pickletools.markobject in consumed:
        while stack.pop() is not MARK:
            pass
        consumed = consumed[: consumed.index(pickletools.markobject)]
    return [stack.pop() for _ in consumed][::-1]


def _looked_up(opcode: str, argument, taken: list) -> set[Global]:
    match opcode:
        case "GLOBAL" | "INST":
            module, _, name = argument.partition(" ")
            return {(module, name)}
        case "STACK_GLOBAL":
            return {tuple(taken)} if all(isinstance(part, str) for part in taken) else {COMPUTED}
        case "EXT1" | "EXT2" | "EXT4":
            return {COMPUTED}
    return set()


def _within(argument: bytes | str, depth: int) -> set[Global]:
    """What pickles inside a constant look up. Text counts too: old pickles write bytes as latin-1 text."""
    try:
        data = argument.encode("latin-1") if isinstance(argument, str) else bytes(argument)
    except UnicodeEncodeError:
        return set()
    return hidden_globals(BytesIO(data), data[:8], depth) if len(data) > 8 else set()


def is_dangerous(module: str, name: str) -> bool:
    """Whether a pickle that looks this up is refused even with consent."""
    if not module:
        return True
    if module in ("builtins", "__builtin__", "__builtins__"):
        return name not in HARMLESS_BUILTINS and not name.endswith(("Error", "Exception", "Warning"))
    if module in ("copyreg", "copy_reg"):
        return name.startswith("add_extension")
    steps = name.split(".")
    reaching = len(steps) > 1 and not all(step[:1].isupper() for step in steps)  # more than a class within a class
    return reaching or _is_inner(steps) or _is_listed([*module.split("."), *steps])


def _is_listed(path: list[str]) -> bool:
    return any(".".join(path[:n]) in DANGEROUS for n in range(1, len(path) + 1))


def _is_inner(steps: list[str]) -> bool:
    """Whether a name reaches into another module or into the machinery of Python."""
    return any(step in INNER_MODULES or (step.startswith("__") and step.endswith("__")) for step in steps)


def full_name(name: Global) -> str:
    return ".".join(part for part in name if part)


def dangerous_file(path: Path, names: list[str]) -> InputError:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return InputError(
        f"{path}: opening this would run {', '.join(names[:6])}{more}, which no network needs; it is refused with or without "
        "--trust: ask its author for safetensors."
    )


def repacked(data: bytes) -> bytes:
    """A zip archive with just the members that :func:`inspect` sees in ``data``: torch finds them by other rules."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as source, zipfile.ZipFile(out, "w") as copy:
        for member in source.infolist():
            copy.writestr(zipfile.ZipInfo(member.filename), source.read(member))
    return out.getvalue()


_opening: ContextVar[Path | None] = ContextVar("opening", default=None)
_watching = False


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """While inside, a pickle that looks up a dangerous global is stopped with an InputError that names ``path``.

    :func:`inspect` has seen the same before; this also holds where Python reads a file differently.
    """
    global _watching
    if not _watching:
        sys.addaudithook(_watch)  # such a hook stays for good, so there is only one
        _watching = True
    token = _opening.set(path)
    try:
        yield
    finally:
        _opening.reset(token)


def _watch(event: str, arguments: tuple) -> None:
    if event == "pickle.find_class" and _opening.get() is not None and is_dangerous(*map(str, arguments)):
        raise dangerous_file(_opening.get(), [full_name(tuple(map(str, arguments)))])


def consent(path: Path, kind: str, digest: str, trust: bool) -> None:
    """Let a program pass that the user trusts, now or earlier.

    :param digest: sha256 of the file.
    :raises InputError: saying what is being trusted.
    """
    if trust:
        remember(digest)
    elif not is_trusted(digest):
        raise InputError(
            f"{path}: this is {kind}, which is a program: opening it can run any code that it contains; if you trust where "
            "it comes from, allow it with --trust (remembered for this very file)."
        )


def config_folder() -> Path:
    """The user's settings: MEDXAI_CONFIG, else where the platform keeps such things."""
    if os.environ.get(CONFIG):
        return Path(os.environ[CONFIG])
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "medxai"


def trusted() -> list[str]:
    """The sha256 of every file that was allowed."""
    try:
        hashes = json.loads((config_folder() / "trusted.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return hashes if isinstance(hashes, list) else []


def is_trusted(digest: str) -> bool:
    return digest in trusted()


def remember(digest: str) -> None:
    """Allow a file from now on. Where the settings cannot be written, consent holds for this time only."""
    if not is_trusted(digest):
        _write([*trusted(), digest])


def forget() -> None:
    """Withdraw every consent."""
    _write([])


def _write(hashes: list[str]) -> None:
    folder = config_folder()
    beside = folder / f"trusted.{os.getpid()}.part"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(hashes, indent=1), encoding="utf-8")
        os.replace(beside, folder / "trusted.json")
    with suppress(OSError):
        beside.unlink(missing_ok=True)
