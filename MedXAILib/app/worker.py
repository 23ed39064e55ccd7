"""The process that computes for the panel: see :mod:`.protocol` for what is said.

``python -m MedXAILib.app.worker FOLDER``: volumes come and go as uncompressed NRRD in FOLDER, which is private to one panel.

The model and the last case stay warm: another class at recorded layers costs one partial backward pass and no forward
pass. When the panel goes, standard input ends; the folder is then removed and the process ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..attribution.registry import methods
from ..errors import NO_MEMORY
from ..geometry.volume import Source, Volume
from ..models.layers import find
from ..models.loading import Model
from ..models.source import stamp
from ..outputs.earlier import read_volume
from ..progress import Cancelled, Progress
from ..provenance import available_memory, versions
from ..session import Session
from ..session.plan import cost_of
from ..session.request import Request
from .case import opened, result_of, run_case
from .checking import check, model_of, request_of
from .exporting import export, structures
from .job import Job, Messages
from .protocol import CANCELLED, FAILURE, MEMORY, VERSION, kind_of, words_of
from .records import map_record, prediction_record

Event = dict[str, Any]
WARM_BYTES = 4 << 30
"""Most memory, estimated, that recordings may hold between two requests; never more than half of what is free."""
PACE = 0.1
"""Least seconds between two progress events."""


class Worker:
    """Requests in, events out; everything else about processes and pipes is in :func:`main`.

    :param folder: where results are written.
    :param send: takes the events.
    """

    def __init__(self, folder: Path, send: Callable[[Event], None]) -> None:
        self.folder, self.send = folder, send
        self.volumes: dict[str, Volume] = {}
        self.cancelled: set[int] = set()
        self.model: Model | None = None
        self.model_key: tuple[Any, ...] | None = None
        self.session: Session | None = None
        self.session_key: tuple[Any, ...] | None = None
        self.count = 0

    def handle(self, request: Event) -> None:
        """Carry one request out. Whatever goes wrong becomes an error event."""
        number = request["id"]
        do = {
            "load": self.load, "forget": self.forget, "methods": self.methods, "predict": self.compute,
            "explain": self.compute, "structures": self.structures, "export": self.export,
        }[request["do"]]  # fmt: skip
        try:
            self.send({"event": "result", "id": number, **do(request)})
        except Exception as error:
            self.fail(number, error)

    def fail(self, number: int, error: Exception) -> None:
        """Say what went wrong."""
        kind, message, details = kind_of(error), words_of(error), ""
        if kind in (MEMORY, FAILURE):
            self.session = self.session_key = None  # what half-done work left in it is not to be trusted
        if kind == CANCELLED:
            message = "Cancelled; nothing was kept."
        elif kind == MEMORY:
            message = NO_MEMORY
        elif kind == FAILURE:
            message = f"The worker failed ({type(error).__name__}: {error}); the log has the details."
            details = traceback.format_exc()
        self.send({"event": "error", "id": number, "kind": kind, "message": message, "details": details})

    def load(self, request: Event) -> Event:
        """Read a volume."""
        volume = read_volume(self.folder / request["path"])
        self.volumes[request["handle"]] = replace(volume, source=Source(**request["source"]))
        return {"handle": request["handle"]}

    def forget(self, request: Event) -> Event:
        """Let a volume go."""
        self.volumes.pop(request["handle"], None)
        return {}

    def methods(self, request: Event) -> Event:
        """Which methods there are."""
        return {"methods": [m.as_value() for m in methods().values()]}

    def structures(self, request: Event) -> Event:
        """Fractions of a stored map by structure."""
        return {"structures": structures(request, self.folder, self.volumes)}

    def export(self, request: Event) -> Event:
        """Stored results as an output folder."""
        return export(request, self.folder, self.volumes, self.progress(request["id"]))

    def compute(self, request: Event) -> Event:
        """Predict or explain."""
        number, job = request["id"], Job.from_json(request["job"])
        check(job)
        say = Messages(then=lambda text: self.send({"event": "log", "id": number, "text": text}))
        progress = self.progress(number)
        progress(0, 1, "Loading the model")
        asked = request_of(job)
        model = self.warm_model(job)
        session = self.warm_session(job)
        passes = session.cache.passes if session else 0
        if session and session.prediction and not session.cache.kept and asked is not None:
            say("What was recorded was too large to keep: the network runs once more.")
        progress(0, 1, "Preparing the input")
        new = session is None
        session = session or opened(model, self.inputs(job))
        maps = run_case(session, asked, progress, say, keep=True)
        written = self.write(maps.session, result_of(maps, job, ""), progress)
        self.keep(session)
        return {
            "job": asdict(job),
            "versions": versions(),
            "pass_seconds": session.timed(),
            "evaluations": evaluations(session),
            "forward_passes": session.cache.passes - (0 if new else passes),
            "messages": say.lines,
            "seconds": round(maps.seconds, 3),
            **written,
        }

    def progress(self, number: int) -> Progress:
        """Progress of one request, as events at a bearable pace; raises Cancelled where the panel has asked for it."""
        last = -PACE

        def report(done: float, total: float, text: str) -> None:
            nonlocal last
            if number in self.cancelled:
                raise Cancelled
            if time.monotonic() - last >= PACE:
                last = time.monotonic()
                self.send({"event": "progress", "id": number, "done": done, "total": total, "text": text})

        return report

    def warm_model(self, job: Job) -> Model:
        """The job's model; loaded where it is another one, or its files have changed."""
        key = (job.model, stamp(job.model, job.weights), job.device, job.trust, job.weights_key)
        if key != self.model_key or self.model is None:
            self.model = self.model_key = self.session = self.session_key = None
            self.model = model_of(job)
            self.model_key = key
        return self.model

    def warm_session(self, job: Job) -> Session | None:
        """What is kept of these very inputs; another input drops it."""
        key = (tuple(job.inputs.items()), job.frame, job.series)
        if key != self.session_key or not set(job.inputs.values()) <= set(self.volumes):
            self.session = None
        self.session_key = key
        return self.session

    def inputs(self, job: Job) -> Mapping[str, Volume]:
        """The job's volumes by channel name: those that were loaded, or read now."""
        return {
            name: self.volumes[value]
            if value in self.volumes
            else read_volume(value, frame=job.frame, series=job.series)
            for name, value in job.inputs.items()
        }

    def keep(self, session: Session) -> None:
        """Keep the case for the next request; its recordings only within the limit of bytes."""
        self.session = session
        if session.cache.size > min(WARM_BYTES, available_memory() / 2):
            session.cache.kept.clear()

    def write(self, session: Session, result: Any, progress: Progress) -> Event:
        """The result's volumes into a folder of their own, which is removed again if this is interrupted."""
        self.count += 1
        folder = self.folder / f"result-{self.count}"
        folder.mkdir()
        try:
            prediction = prediction_record(session.predict(), folder)
            found: Event = {"prediction": prediction | {"weights_sha256": session.model.weights_sha256}}
            if result.findings:
                found["maps"] = []
                for n, finding in enumerate(result.findings):
                    progress(n, len(result.findings), "Writing the maps")
                    found["maps"].append(map_record(finding, folder, f"map{n}"))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return {"folder": folder.name, **found}


def evaluations(session: Session) -> dict[str, int]:
    """About how often each method runs the network for one map (of one slice, for slice-wise models)."""
    layers = session.default_layers()
    channels = find(session.layers, layers[0]).shape[0] if layers else 0
    asked = Request()
    return {
        name: m.evaluated(cost_of(m, session.prepared, session.tiling, asked), channels)
        for name, m in methods().items()
    }


def main() -> None:
    """Entry point: a thread reads requests, so that cancel is heard during a computation."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(
            "The worker is started by the panel, with the folder that they share; for a shell there is python -m MedXAILib."
        )
    folder = Path(sys.argv[1])
    if hasattr(os, "setsid"):
        os.setsid()  # a group of its own: the panel can end it whole, and Ctrl-C in the terminal does not reach it
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print goes to the log, not among the events
    lock = threading.Lock()
    requests: queue.Queue[Event] = queue.Queue()

    def send(event: Event) -> None:
        with lock:
            events.write(json.dumps(event) + "\n")
            events.flush()

    worker = Worker(folder, send)

    def listen() -> None:
        for line in sys.stdin:
            request = json.loads(line)
            if request["do"] == "quit":
                break
            if request["do"] == "cancel":
                worker.cancelled.add(request["of"])
            else:
                requests.put(request)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    send({"event": "ready", "id": 0, "pid": os.getpid(), "versions": versions(), "protocol": VERSION})
    while True:
        worker.handle(requests.get())


if __name__ == "__main__":
    main()
