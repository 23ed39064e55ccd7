"""The process that computes for the panel: requests and events as JSON lines on standard input and output.

``python -m MedXAILib.app.worker FOLDER``: volumes come and go as uncompressed NRRD in FOLDER, which is private to one panel.

Requests ``{"id": 1, "do": ...}``, carried out in their order:

=========  =============================================================================================
load       ``handle``, ``path``, ``source``: read a volume once; jobs then name it by its handle
forget     ``handle``
predict    ``job``: the Job that the command line builds; its inputs are handles or paths
explain    the same
cancel     ``of``: stop that request after the running operator
quit
=========  =============================================================================================

Events ``{"event": ..., "id": 1}``:

=========  =============================================================================================
ready      ``pid``, ``versions``: once, at the start
progress   ``done``, ``total``, ``text``
log        ``text``
result     what was asked for; volumes as file names in FOLDER
error      ``kind`` (input, consent, cancelled, memory, failure), ``message``, ``details``
=========  =============================================================================================

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
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from ..errors import ConsentError, InputError, as_values, missing_package
from ..progress import Cancelled
from ..provenance import versions
from .job import Job

WARM_BYTES = 4 << 30
"""Most memory, estimated, that tapes may hold between two requests; never more than half of what is free."""
PACE = 0.1
"""Least seconds between two progress events."""


class Worker:
    """Requests in, events out; everything else about processes and pipes is in :func:`main`.

    :param folder: where results are written.
    :param send: takes the events.
    """

    def __init__(self, folder: Path, send: Callable[[dict], None]):
        self.folder, self.send = folder, send
        self.volumes: dict = {}
        self.cancelled: set[int] = set()
        self.model, self.model_key = None, None
        self.opened, self.opened_key = None, None
        self.count = 0

    def handle(self, request: dict) -> None:
        """Carry one request out. Whatever goes wrong becomes an error event."""
        number = request["id"]
        do = {"load": self.load, "forget": self.forget, "predict": self.compute, "explain": self.compute}[request["do"]]
        try:
            result = do(request)
            self.send({"event": "result", "id": number, **result})
        except Cancelled:
            self.fail(number, "cancelled", "Cancelled; nothing was kept.")
        except ConsentError as error:
            self.fail(number, "consent", " ".join(str(error).split()))
        except InputError as error:
            self.fail(number, "input", " ".join(str(error).split()))
        except ModuleNotFoundError as error:
            self.fail(number, "input", missing_package(error))
        except Exception as error:
            self.opened = self.opened_key = None  # what half-done work left in it is not to be trusted
            if isinstance(error, MemoryError) or "memory" in str(error):
                self.fail(number, "memory", "There was not enough memory: close other programs, use a smaller volume, or give the card windows.")  # fmt: skip
            else:
                self.fail(number, "failure", f"The worker failed ({type(error).__name__}: {error}); the log has the details.", traceback.format_exc())  # fmt: skip

    def fail(self, number: int, kind: str, message: str, details: str = "") -> None:
        self.send({"event": "error", "id": number, "kind": kind, "message": message, "details": details})

    def load(self, request: dict) -> dict:
        from ..geometry.volume import Source
        from ..io.read import read_volume

        volume = read_volume(self.folder / request["path"])
        self.volumes[request["handle"]] = replace(volume, source=Source(**request["source"]))
        return {"handle": request["handle"]}

    def forget(self, request: dict) -> dict:
        self.volumes.pop(request["handle"], None)
        return {}

    def compute(self, request: dict) -> dict:
        from .job import Notes
        from .run import carry_out, check, evaluations

        number, job = request["id"], Job.from_json(request["job"])
        check(job)
        say = Notes(then=lambda text: self.send({"event": "log", "id": number, "text": text}))
        progress = self.progress(number)
        progress(0, 1, "Loading the model")
        model = self.warm_model(job)
        opened = self.warm_case(job)
        passes = opened.tapes.recorded if opened else 0
        if opened and opened.prediction and not opened.tapes.tapes and job.task == "explain":
            say("What was recorded was too large to keep: the network runs once more.")
        progress(0, 1, "Preparing the input")
        result = carry_out(job, model, self.inputs(job), progress, say, opened=opened, keep=True)
        written = self.write(job, result, progress)
        self.keep(result.opened)
        return {
            "job": asdict(job),
            "versions": versions(),
            "pass_seconds": result.opened.pass_seconds,
            "evaluations": evaluations(Job("explain", {}, ""), model, result.opened),
            "forward_passes": result.opened.tapes.recorded - (passes if result.opened is opened else 0),
            "remarks": say.lines,
            "seconds": round(result.seconds, 3),
            **written,
        }

    def progress(self, number: int) -> Callable[[float, float, str], None]:
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

    def warm_model(self, job: Job):
        """The job's model; loaded where it is another one, or its files have changed."""
        from ..models.loading import find_card, find_weights
        from .run import model_of

        card, folder = find_card(job.model)
        weights = find_weights(card, folder, job.weights)
        key = (job.model, card, str(weights), weights.stat().st_mtime_ns, job.device, job.trust, job.weights_key)
        if key != self.model_key:
            self.model = self.model_key = self.opened = self.opened_key = None
            self.model = model_of(replace(job, weights=str(weights)))
            self.model_key = key
        return self.model

    def warm_case(self, job: Job):
        """What is kept of these very inputs; another input drops it."""
        key = (tuple(job.inputs.items()), job.frame, job.series)
        if key != self.opened_key or not set(job.inputs.values()) <= set(self.volumes):
            self.opened = None
        self.opened_key = key
        return self.opened

    def inputs(self, job: Job) -> dict:
        from ..io.read import read_volume

        return {
            name: self.volumes[value] if value in self.volumes else read_volume(value, frame=job.frame, series=job.series)
            for name, value in job.inputs.items()
        }  # fmt: skip

    def keep(self, opened) -> None:
        """Keep the case for the next request; its tapes only within the limit of bytes."""
        from ..provenance import available_memory

        self.opened = opened
        kept = sum(tape.size for tape in opened.tapes.tapes.values())
        if kept > min(WARM_BYTES, available_memory() / 2):
            opened.tapes.tapes.clear()

    def write(self, job: Job, result, progress) -> dict:
        """The result's volumes into a folder of their own, which is removed again if this is interrupted."""
        self.count += 1
        folder = self.folder / f"result-{self.count}"
        folder.mkdir()
        try:
            facts = {"prediction": prediction_facts(result.prediction, folder)}
            if job.task == "explain":
                facts["maps"] = []
                for n, a in enumerate(result.attributions):
                    progress(n, len(result.attributions), "Writing the maps")
                    facts["maps"].append(map_facts(result, a, folder, f"map{n}", job.share))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return {"folder": folder.name, **facts}


def prediction_facts(prediction, folder: Path) -> dict:
    """A prediction in plain values; a segmentation as label map beside its rows."""
    from ..geometry.affine import apply

    card = prediction.card
    facts = {"model": card.name, "task": card.task, "mode": prediction.tiling.mode, "top": prediction.top}
    facts["caveats"] = as_values(prediction.caveats)
    facts["grid"] = {
        "shape": prediction.prepared.grid.shape,
        "affine": prediction.prepared.grid.affine.tolist(),
    }
    if card.task == "segmentation":
        return facts | {
            "volume_ml" if prediction.labels.volume.size_unit == "mL" else "voxels": prediction.labels.sizes(),
            "labels": labels_facts(prediction.labels, folder, "labels"),
        }
    facts |= prediction.facts
    if prediction.tiling.mode == "slices" and len(prediction.logits) > 1:
        depth, *size = prediction.prepared.shape
        middle = [(n - 1) / 2 for n in size]
        centres = [apply(prediction.prepared.affine, (n, *middle)).tolist() for n in range(depth)]
        facts |= {"slices": prediction.pieces.tolist(), "centres": centres}
    return facts


def map_facts(result, a, folder: Path, name: str, share: float) -> dict:
    """A map on its own grid, its hot regions and superpixels, and what limits belief in it."""
    from ..findings.regions import hot_regions, inner_points, superpixel_rows
    from ..geometry.resample import resample
    from ..geometry.volume import extended
    from ..io.write import write_volume
    from .run import title

    reference = result.prepared.reference
    write_volume(extended(a.volume), folder / f"{name}.nrrd", compress=False)
    mass = resample(a.mass, reference.grid)
    labels, rows = hot_regions(a.on(reference), mass=mass.array, share=share)
    facts = {
        "file": f"{name}.nrrd",
        "target": a.target,
        "class": a.label,
        "method": a.method,
        "layer": a.layer,
        "signed": a.signed,
        "title": title(a),
        "limits": a.limits,
        "provenance": a.provenance,
        "regions": labels_facts(labels, folder, f"{name}-regions") | {"table": [asdict(row) for row in rows]},
    }
    if a.superpixels is not None:
        places = inner_points(a.superpixels.volume)
        table = [asdict(row) | {"place": places[row.value]} for row in superpixel_rows(a.superpixels, a.coefficients)]
        facts["superpixels"] = labels_facts(a.superpixels, folder, f"{name}-superpixels") | {"table": table}
    return facts


def labels_facts(labels, folder: Path, name: str) -> dict:
    """Labels as an uncompressed file, and their rows."""
    from ..io.write import write_volume

    write_volume(labels.volume, folder / f"{name}.nrrd", compress=False)
    return {"file": f"{name}.nrrd", "rows": [(row.value, row.name, row.color) for row in labels.rows]}


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
    lock, requests = threading.Lock(), queue.Queue()

    def send(event: dict) -> None:
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
    send({"event": "ready", "id": 0, "pid": os.getpid(), "versions": versions()})
    while True:
        worker.handle(requests.get())


if __name__ == "__main__":
    main()
