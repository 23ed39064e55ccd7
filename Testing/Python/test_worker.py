"""The worker: the same answers as the command line, nothing computed twice, and a clean end whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_nets import Blob, model

from MedXAILib.app.job import Job
from MedXAILib.app.run import run
from MedXAILib.app.worker import Worker
from MedXAILib.geometry.volume import Source, Volume
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume

SERIES = {"series": "1.2.3", "sop": ["1.2.3.1", "1.2.3.2"]}


@pytest.fixture
def head() -> Volume:
    """A head-like ball of 40 voxels, oblique."""
    grid = np.indices((40, 40, 40)) - 19.5
    noise = np.random.default_rng(0).random((40, 40, 40))
    array = np.where((grid**2).sum(0) < 300, 100 + 20 * noise, 0).astype(np.float32)
    affine = np.array([[3, 0.3, 0, -60], [-0.3, 3, 0, -50], [0, 0, 3, -40], [0, 0, 0, 1.0]])
    return Volume(array, affine, Source("ball"))


class Process:
    """A real worker process."""

    def __init__(self, folder: Path):
        command = [sys.executable, "-m", "MedXAILib.app.worker", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.number, self.events = 0, []

    def ask(self, do: str, **fields) -> int:
        self.number += 1
        self.process.stdin.write(json.dumps({"id": self.number, "do": do, **fields}) + "\n")
        self.process.stdin.flush()
        return self.number

    def until(self, *kinds: str) -> dict:
        """The next event of one of these kinds."""
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] in kinds:
                return self.events[-1]
        raise AssertionError("the worker ended")


@pytest.fixture
def process(tmp_path):
    (tmp_path / "private").mkdir()
    worker = Process(tmp_path / "private")
    yield worker
    worker.process.kill()
    worker.process.wait()


def send(process: Process, volume: Volume, folder: Path, handle: str = "v") -> None:
    write_volume(volume, folder / "in.nrrd", compress=False)
    process.ask("load", handle=handle, path="in.nrrd", source={"name": volume.source.name, "series": SERIES})
    assert process.until("result")["handle"] == handle


def test_a_map_is_the_command_lines_map(process, head, tmp_path):
    private, job = (
        tmp_path / "private",
        Job(
            task="explain",
            inputs={"": "v"},
            model="planted-lesion",
            methods=("gradcam", "lime"),
            options={"samples": 40},
        ),
    )
    send(process, head, private)
    process.ask("explain", job=asdict(job))
    event = process.until("result", "error")
    assert event["event"] == "result", event
    write_volume(head, tmp_path / "ball.nrrd")
    summary = run(replace(job, inputs={"": str(tmp_path / "ball.nrrd")}), tmp_path / "out")
    for found, told in zip(event["maps"], summary["cases"][0]["maps"], strict=True):
        expected = read_volume(tmp_path / "out" / told["file"])
        own = read_volume(private / event["folder"] / found["file"])
        assert np.allclose(expected.array, resampled(own, expected), atol=1e-6)
        assert found["caveats"] == told["caveats"]
    assert event["prediction"]["probabilities"] == pytest.approx(summary["cases"][0]["probabilities"], abs=1e-6)
    assert any(e["event"] == "progress" for e in process.events)


def resampled(volume: Volume, onto: Volume) -> np.ndarray:
    from MedXAILib.geometry.resample import resample

    return resample(volume, onto.grid).array


class Rectified(Blob):
    """With a ReLU before the pooling: its gradient is no closed form."""

    def forward(self, x):
        return self.head(torch.relu(self.features(x)).flatten(2).mean(2))


def test_another_class_costs_one_partial_backward_pass_and_no_forward_pass(head, tmp_path, monkeypatch):
    """Counted at the network and at autograd themselves."""
    events, passes = [], {"forward": 0, "backward": 0}
    worker = Worker(tmp_path, events.append)
    worker.volumes["v"] = head
    network = model(Rectified(3, 4, 4))

    def forward(module, inputs, output):
        # dry passes that ask for shapes compute nothing; one without a graph is timed while predicting
        passes["forward"] += not inputs[0].is_meta and torch.is_grad_enabled()

    network.network.register_forward_hook(forward)
    monkeypatch.setattr(worker, "warm_model", lambda job: network)
    grad = torch.autograd.grad

    def counted(outputs, inputs, *args, **kwargs):
        passes["backward"] += isinstance(inputs, list)  # through the network; a score's own slope is a single tensor's
        return grad(outputs, inputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    for number, (task, name, expected) in enumerate(
        [("predict", "", (1, 0)), ("explain", "yes", (1, 1)), ("explain", "no", (1, 2))]
    ):
        job = Job(
            task=task, inputs={"": "v"}, model="x", classes=(name,) if name else (),
            layers=("features",) if task == "explain" else (),
        )  # fmt: skip
        worker.handle({"id": number, "do": task, "job": json.loads(json.dumps(asdict(job)))})
        assert events[-1]["event"] == "result", events[-1]
        assert (passes["forward"], passes["backward"]) == expected
        assert events[-1]["forward_passes"] == (1 if task == "predict" else 0)
    monkeypatch.setattr("MedXAILib.app.worker.WARM_BYTES", 0)
    for number in (8, 9):
        worker.handle({"id": number, "do": "explain", "job": asdict(job)})
    assert passes["forward"] == 2, "beyond the limit of bytes the network runs again"
    assert any("too large to keep" in e.get("text", "") for e in events), "and that is said"


def test_a_changed_volume_is_not_explained_by_what_was_kept(head, tmp_path, monkeypatch):
    events = []
    worker = Worker(tmp_path, events.append)
    monkeypatch.setattr(worker, "warm_model", lambda job: model(Blob(3, 4, 4)))
    means = []
    for handle, volume in (("a", head), ("b", head.with_array(-head.array))):
        worker.volumes[handle] = volume
        worker.handle({"id": 1, "do": "predict", "job": asdict(Job(task="predict", inputs={"": handle}, model="x"))})
        means.append(events[-1]["prediction"]["probabilities"]["yes"])
    assert means[0] > 0.5 > means[1]


def test_a_cancelled_run_leaves_no_file_and_the_worker_works_on(process, head, tmp_path):
    private = tmp_path / "private"
    send(process, head, private)
    before = sorted(p.name for p in private.rglob("*"))
    long = Job(
        task="explain", inputs={"": "v"}, model="planted-lesion", methods=("lime",), options={"samples": 100_000}
    )
    number = process.ask("explain", job=asdict(long))
    while process.until("progress")["text"] in ("Loading the model", "Preparing the input"):
        pass
    seen = len(process.events)
    process.ask("cancel", of=number)
    event = process.until("error")
    assert event["kind"] == "cancelled" and event["id"] == number
    done = [one["done"] / one["total"] for one in process.events[seen:] if one["event"] == "progress"]
    assert max(done, default=0) < 0.3, "it went on"
    assert sorted(p.name for p in private.rglob("*")) == before
    process.ask("predict", job=asdict(Job(task="predict", inputs={"": "v"}, model="planted-lesion")))
    assert process.until("result", "error")["event"] == "result"


def test_bad_requests_are_sentences_and_not_the_end(process, tmp_path):
    for job in (
        Job(task="predict", inputs={"": "v"}, model="no-such-model"),
        Job(task="predict", inputs={"": str(tmp_path / "absent.nrrd")}, model="planted-lesion"),
        Job(task="explain", inputs={"": "v"}, model="planted-lesion", methods=("magic",)),
    ):
        process.ask(job.task, job=asdict(job))
        event = process.until("result", "error")
        assert event["kind"] == "input" and event["message"].count("\n") == 0 and event["details"] == ""


@pytest.mark.parametrize("end", ["quit", "the panel is gone"])
def test_at_the_end_the_folder_is_gone_and_the_process_too(process, head, tmp_path, end):
    send(process, head, tmp_path / "private")
    process.ask(
        "explain",
        job=asdict(
            Job(
                task="explain",
                inputs={"": "v"},
                model="planted-lesion",
                methods=("lime",),
                options={"samples": 100_000},
            )
        ),
    )
    process.until("progress")
    if end == "quit":
        process.ask("quit")
    else:
        process.process.stdin.close()
    assert process.process.wait(10) == 0
    assert not (tmp_path / "private").exists()


@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="process groups are POSIX")
def test_the_worker_leads_a_process_group_of_its_own(process):
    ready = process.until("ready")
    assert os.getpgid(ready["pid"]) == ready["pid"] != os.getpgid(0)


def test_the_worker_tells_its_version_and_its_methods(process):
    from MedXAILib.app.protocol import VERSION
    from MedXAILib.attribution.registry import methods

    assert process.until("ready")["protocol"] == VERSION
    process.ask("methods")
    told = process.until("result", "error")["methods"]
    assert told == json.loads(json.dumps([method.as_value() for method in methods().values()]))


def test_an_export_of_nothing_is_a_sentence(process, head, tmp_path):
    send(process, head, tmp_path / "private")
    process.ask(
        "export", output=str(tmp_path / "out"), overwrite=False, reference="v", cases={}, heading="", versions={}
    )
    event = process.until("result", "error")
    assert (event["kind"], event["message"]) == (
        "input",
        "There is nothing to export yet: press Predict or Explain first.",
    )
    assert not (tmp_path / "out").exists()
