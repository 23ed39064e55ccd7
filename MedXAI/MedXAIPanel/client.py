"""The worker as the panel sees it: a child process that is fed requests and gives events, without ever blocking the window."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import qt
import slicer

from MedXAILib.app import protocol
from MedXAILib.app.job import Job
from MedXAILib.attribution.registry import methods
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.write import write_volume
from MedXAILib.mrml.host import Node
from MedXAILib.mrml.nodes import volume_of

WORKER = "MedXAILib.app.worker"
PYTHON = "MEDXAI_PYTHON"
"""Environment variable: another interpreter for the worker, such as one with a GPU build of PyTorch."""
PATIENCE_MS = 1000
"""How long a cancelled worker may take to stop by itself before its process tree is killed."""
LOG_LINES = 2000


@dataclass(kw_only=True)
class Run:
    """One job under way.

    :ivar last: number of the request that ends it; those before it load its volumes.
    :ivar done: called once, with the result or error event.
    """

    last: int
    done: Callable[[dict], None]
    progress: Callable[[float, str, float | None], None]
    first: int
    began: float = field(default_factory=time.monotonic)
    error: dict | None = None
    cancelled: bool = False


class Client:
    """Starts the worker when it is needed, sends each volume once, and outlives the worker's death."""

    def __init__(self) -> None:
        self.process: Any = None
        self.folder: Path | None = None
        self.pid = 0
        self.number = self.stored = 0
        self.run: Run | None = None
        self.versions: dict[str, str] = {}
        self.handles: dict[str, tuple[tuple, str]] = {}
        self.asked: dict[int, Callable[[dict], None]] = {}
        self.unasked: list[Path] = []
        # as JSON has them, to be compared with the worker's
        self.methods: list[dict] = json.loads(json.dumps([method.as_value() for method in methods().values()]))
        self.onMethods: Callable[[], None] = lambda: None
        self.pieces = b""
        self.errors = b""
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        slicer.app.aboutToQuit.connect(self.stop)

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self.run is not None

    def start(
        self,
        job: Job,
        volumes: dict,
        done: Callable[[dict], None],
        progress: Callable[[float, str, float | None], None] = lambda fraction, text, left: None,
    ) -> None:
        """Send a job to the worker and return at once.

        :param volumes: channel name -> volume node; a single one may have the name "".
        :param done: called with the result or error event, also after a cancellation or the worker's death.
        :param progress: called with the share done (0..1), what is being done, and the seconds left where they can be told.
        :raises InputError: while another run is under way, for a volume that cannot be used, or without an interpreter.
        """
        if self.busy:
            raise InputError("A run is under way: wait for its end, or cancel it.")
        self._wake()
        first = self.number + 1
        for gone in [node for node in self.handles if slicer.mrmlScene.GetNodeByID(node) is None]:
            self._request("forget", handle=self.handles.pop(gone)[1])
        handles = {channel: self._send(node) for channel, node in volumes.items()}
        number = self._request(job.task, job=asdict(replace(job, inputs=handles)))
        self.run = Run(last=number, done=done, progress=progress, first=first)

    def ask(self, do: str, done: Callable[[dict], None], **fields: Any) -> None:
        """Ask the worker for something small; it answers when it has done what it was asked before.

        :param done: called once, with the result or error event.
        """
        self._wake()
        files, self.unasked = self.unasked, []

        def answered(event: dict) -> None:
            for path in files:
                path.unlink(missing_ok=True)
            done(event)

        self.asked[self._request(do, **fields)] = answered

    def answer(self, do: str, **fields: Any) -> dict:
        """Ask, and return the answer, a result or error event; the window, if there is one, stays alive."""
        answers: list[dict] = []
        self.ask(do, answers.append, **fields)
        self._until(lambda: bool(answers))
        return answers[0]

    def store(self, volume: Volume) -> str:
        """A volume as a file for what is asked next, which goes with the answer: its name."""
        self._wake()
        self.stored += 1
        path = self.folder / f"stored-{self.stored}.nrrd"
        write_volume(volume, path, compress=False)
        self.unasked.append(path)
        return path.name

    def handle(self, node: Node) -> str:
        """What requests call a volume node; its voxels are sent where they have changed."""
        self._wake()
        return self._send(node)

    def wait(self) -> None:
        """Return when the run and whatever else was asked has ended; the window, if there is one, stays alive."""
        self._until(lambda: not self.busy and not self.asked)

    def _until(self, ended: Callable[[], bool]) -> None:
        while not ended():
            slicer.app.processEvents()
            if not ended() and self.process is not None:
                self.process.waitForReadyRead(20)

    def cancel(self) -> None:
        """Stop the run: politely, and after a second with its process tree."""
        run = self.run
        if run is None or run.cancelled:
            return
        run.cancelled = True
        for number in range(run.first, run.last + 1):
            self._request("cancel", of=number)
        qt.QTimer.singleShot(PATIENCE_MS, lambda: self._lose_patience(run))

    def stop(self) -> None:
        """End the worker and remove its folder."""
        run, self.run = self.run, None
        self._kill()
        if run:
            run.done(failure("cancelled", "The run was stopped."))

    def discard(self, event: dict) -> None:
        """Remove the files of a result that has been read."""
        if self.folder and event.get("folder"):
            shutil.rmtree(self.folder / event["folder"], ignore_errors=True)

    def _wake(self) -> None:
        if self.process is not None:
            return
        self.folder = Path(tempfile.mkdtemp(prefix="medxai-"))
        self.process = process = qt.QProcess()
        process.setEnvironment([f"{name}={value}" for name, value in environment().items()])
        process.readyReadStandardOutput.connect(lambda: self._read(process))
        process.readyReadStandardError.connect(lambda: self._read_log(process))
        process.connect("finished(int,QProcess::ExitStatus)", lambda *_: self._died(process))
        program = os.environ.get(PYTHON) or sys.executable
        process.start(program, ["-u", "-m", WORKER, str(self.folder)])
        if not process.waitForStarted(10000):
            self._kill()
            raise InputError(
                f"{program}: no Python could be started here; set {PYTHON} to one that has MedXAI's packages."
            )

    def _send(self, node: Node) -> str:
        """The handle of a volume; its voxels travel only where they have changed since the last time."""
        volume = volume_of(node)
        state = (node.GetName(), node.GetImageData().GetMTime(), volume.affine.tobytes())
        known, handle = self.handles.get(node.GetID(), (None, None))
        if known == state:
            return handle
        if handle:
            self._request("forget", handle=handle)
        number = self.number + 1
        handle = f"volume-{number}"
        path = self.folder / f"{handle}.nrrd"
        write_volume(volume, path, compress=False)
        self._request("load", handle=handle, path=path.name, source=asdict(volume.source))
        self.handles[node.GetID()] = state, handle
        return handle

    def _request(self, do: str, **fields: Any) -> int:
        self.number += 1
        self.process.write((json.dumps({"id": self.number, "do": do, **fields}) + "\n").encode())
        return self.number

    def _read(self, process: Any) -> None:
        """Whole lines are events; a piece of one waits for the rest. Of a worker that is being ended none is taken."""
        if process is not self.process:
            return
        *lines, self.pieces = (self.pieces + bytes(process.readAllStandardOutput().data())).split(b"\n")
        for line in lines:
            if process is self.process:
                self._event(json.loads(line))

    def _read_log(self, process: Any) -> None:
        if process is not self.process:
            return
        *lines, self.errors = (self.errors + bytes(process.readAllStandardError().data())).split(b"\n")
        self.log.extend(line.decode(errors="replace") for line in lines)

    def _event(self, event: dict) -> None:
        run, kind = self.run, event["event"]
        if kind == "ready":
            self.pid = event["pid"]
            self._greet(event)
            self.versions = event["versions"]
            self.log.append("worker ready: " + ", ".join(f"{name} {number}" for name, number in self.versions.items()))
        elif kind == "log":
            self.log.append(event["text"])
        elif kind in ("result", "error") and event["id"] in self.asked:
            self._log_error(event)
            self.asked.pop(event["id"])(event)
        elif "handle" in event and (sent := self.folder / f"{event['handle']}.nrrd").exists():
            sent.unlink()
        elif run is None or event["id"] not in range(run.first, run.last + 1):
            self.discard(event)
        elif kind == "progress":
            self._report(run, event)
        else:
            if kind == "error":
                run.error = run.error or event
                self._log_error(event)
            if event["id"] == run.last:
                self._end(run, run.error or event)

    def _greet(self, event: dict) -> None:
        """A worker of another version is ended; of ours, its methods are asked for: it may have others than this Python."""
        try:
            protocol.refuse_version(event.get("protocol", 1))
        except InputError as error:
            told, run, self.run = failure(protocol.INPUT, str(error)), self.run, None
            self._kill(told)
            if run:
                run.done(told)
            return
        self.ask("methods", self._takeMethods)

    def _takeMethods(self, event: dict) -> None:
        if "methods" in event and event["methods"] != self.methods:
            self.methods = event["methods"]
            self.onMethods()

    def _log_error(self, event: dict) -> None:
        if event["event"] == "error":
            self.log.extend((event["message"], *event["details"].splitlines()))

    def _report(self, run: Run, event: dict) -> None:
        share = event["done"] / max(event["total"], 1e-9)
        passed = time.monotonic() - run.began
        left = passed * (1 - share) / share if share > 0.02 and passed > 2 else None
        if not run.cancelled:
            run.progress(share, event["text"], left)

    def _end(self, run: Run, event: dict) -> None:
        if run.cancelled:
            self.discard(event)
            event = failure("cancelled", "Cancelled; nothing was kept.")
        if event["event"] == "error":
            self.handles.clear()  # whether a volume arrived is uncertain
        self.run = None
        run.done(event)

    def _lose_patience(self, run: Run) -> None:
        if self.run is run:
            self.log.append("worker killed: it did not stop within a second")
            self._kill()
            self._end(run, failure("cancelled", "Cancelled; nothing was kept."))

    def _died(self, process: Any) -> None:
        if process is not self.process:
            return
        self._read(process)
        self._read_log(process)
        code, run = process.exitCode(), self.run
        self.log.append(f"worker ended, code {code}")
        told = failure(protocol.DIED, f"The process that computes ended unexpectedly (code {code}): {reason(self.log)}. The scene is as it was; the next run starts a new process.")  # fmt: skip
        self._kill(told)
        if run:
            self._end(run, told)

    def _kill(self, told: dict | None = None) -> None:
        """End the process tree, whatever it does, and remove the folder.

        :param told: to those who wait for an answer.
        """
        process, self.process = self.process, None
        if process is not None:
            if self.pid:
                kill_tree(self.pid)
            process.kill()
            process.waitForFinished(2000)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder, self.pid, self.pieces, self.errors = None, 0, b"", b""
        self.handles.clear()
        self.unasked.clear()
        asked, self.asked = self.asked, {}
        for done in asked.values():
            done(told or failure(protocol.DIED, "The process that computes was stopped: try again."))


def environment() -> dict[str, str]:
    """The worker's environment: another interpreter must not get Slicer's own libraries; the library's folder comes first."""
    values = dict(slicer.util.startupEnvironment() if os.environ.get(PYTHON) else os.environ)
    folder = str(Path(protocol.__file__).resolve().parents[2])
    values["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, values.get("PYTHONPATH")]))
    return values


def kill_tree(pid: int) -> None:
    """The worker leads a process group of its own; on Windows taskkill finds its children."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/PID", str(pid), "/T", "/F"], capture_output=True, check=False)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def failure(kind: str, message: str) -> dict:
    """An error event, as the worker would give it."""
    return {"event": "error", "kind": kind, "message": message, "details": ""}


def reason(log: deque[str]) -> str:
    """What the last words of a dead worker mean."""
    missing = [line for line in log if line.startswith("ModuleNotFoundError")]
    if missing:
        return f"its Python lacks a package ({missing[-1].split(':')[-1].strip()})"
    return "it crashed, was killed, or the memory ran out"
