"""Pieces of work over processes and over a Dask cluster, and cohorts by both: the same results as one process gives."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fixture_pieces import counted, deadly, doubled, refused
from fixture_runs import names, rows, small_model, volumes

from MedXAILib.app import run as runner
from MedXAILib.app.dispatch import Scheduler, Workers
from MedXAILib.app.job import Job
from MedXAILib.engines.cluster import SchedulerLost, over_dask
from MedXAILib.engines.died import WorkerDied
from MedXAILib.engines.processes import over_processes
from MedXAILib.errors import InputError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def over(function, items, workers=2, threads=1, most=lambda running: 99):
    return dict(over_processes(function, items, workers=workers, threads=threads, most=most))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Workers find what this process finds."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")]))


def test_pieces_over_processes_come_back_each_with_its_result():
    assert over(doubled, range(7)) == {n: 2 * n for n in range(7)}
    found = over(refused, [1, 3])
    assert found[1] == 1 and isinstance(found[3], ValueError)


def test_a_piece_whose_worker_dies_is_tried_again_and_then_told(tmp_path):
    found = over(deadly, [(str(tmp_path), n) for n in range(4)])
    assert [found[str(tmp_path), n] for n in (0, 1, 3)] == [0, 1, 3]
    error = found[str(tmp_path), 2]
    assert isinstance(error, WorkerDied) and error.code == -signal.SIGKILL and "SIGKILL" in str(error)


def test_threads_are_shared_out_and_memory_bounds_how_many_run():
    found = list(over_processes(counted, ["a", "b", "c", "d"], workers=2, threads=1, most=lambda running: 99))
    assert {threads for _, (threads, _) in found} == {1} and len({who for _, (_, who) in found}) == 2
    assert all(who.endswith(" 1") for _, (_, who) in found)
    most = []

    def short_of_memory(running: int) -> int:
        most.append(running)
        return 1

    alone = list(over_processes(counted, ["a", "b", "c"], workers=2, threads=1, most=short_of_memory))
    assert len(alone) == 3 and max(most) <= 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, six cases of which one is cut short, and the run of one process."""
    folder = tmp_path_factory.mktemp("cohort")
    small_model(folder / "model")
    volumes(folder / "cases", 5)
    (folder / "cases" / "cut.nii.gz").write_bytes((folder / "cases" / "case-000.nii.gz").read_bytes()[:90])
    runner.run(job(folder), folder / "one")
    return folder


def job(place: Path) -> Job:
    return Job(
        task="explain", inputs={"": str(place / "cases")}, model=str(place / "model" / "card.json"), classes=("yes",),
        methods=("gradcam", "lime"), options={"samples": 20}, slices="1", device="cpu", threads=1,
    )  # fmt: skip


def same(one: Path, other: Path) -> None:
    assert names(one) == names(other)
    for path in sorted(one.glob("*.csv")):
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_two_workers_give_the_tables_of_one_process(place, tmp_path):
    told = []
    found = runner.run(
        job(place),
        tmp_path / "out",
        way=Workers(2),
        progress=lambda done, total, text: told.append((done, total, text)),
    )
    same(place / "one", tmp_path / "out")
    assert [f["input"] for f in found["failures"]] == ["cut.nii.gz"] and found["done"] == 5
    assert told[0] == (0, 6, "0 of 6 cases") and told[-1] == (6, 6, "6 of 6 cases")
    again = runner.run(job(place), tmp_path / "out", way=Workers(2))
    assert again["computed"] == 0 and again["kept"] == 15


def test_a_case_that_kills_its_worker_is_a_line_and_the_others_go_on(place, tmp_path, monkeypatch):
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    (plugin / "sitecustomize.py").write_text(
        "import os, signal\n"
        "import MedXAILib.app.work as work\n"
        "real = work.Work.carry_out\n"
        "def carry_out(self):\n"
        "    if self.case.name.startswith('case-002'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(self)\n"
        "work.Work.carry_out = carry_out\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugin), os.environ["PYTHONPATH"]]))
    found = runner.run(job(place), tmp_path / "out", way=Workers(2))
    assert found["done"] == 4
    failures = {f["input"]: f for f in found["failures"]}
    assert failures["case-002.nii.gz"]["stage"] == "worker" and "SIGKILL" in failures["case-002.nii.gz"]["sentence"]
    assert {row["input"] for row in rows(tmp_path / "out" / "failures.csv")} == {"case-002.nii.gz", "cut.nii.gz"}
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE)]))
    runner.run(job(place), tmp_path / "out", retry=True, way=Workers(2))
    same(place / "one", tmp_path / "out")


def test_fewer_workers_than_asked_for_where_memory_is_short(monkeypatch):
    from MedXAILib.app import dispatch

    monkeypatch.setattr(dispatch, "available_memory", lambda: 10 << 30)
    said = []
    way = Workers(8).fitted(2 << 30, 1 << 30, said.append)
    assert way.count == 3 and "3 of 8" in said[1]
    assert way.most(2) > 2, "there is memory"
    monkeypatch.setattr(dispatch, "available_memory", lambda: 1 << 30)
    assert way.most(2) <= 2, "none for one more"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_drops_the_cases_under_way_and_keeps_the_rest(place, tmp_path):
    volumes(tmp_path / "cases", 40)
    command = [
        *(sys.executable, "-W", "ignore", "-m", "MedXAILib", "explain", str(tmp_path / "cases"), "--workers", "2"),
        *("--model", str(place / "model" / "card.json"), "--class", "yes", "--method", "lime", "--samples", "300"),
        *("-o", str(tmp_path / "out")),
    ]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list((tmp_path / "out").glob("*/case.json")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    there = list((tmp_path / "out").glob("*/case.json"))
    assert 0 < len(there) < 40 and not list((tmp_path / "out").rglob("*.partial")) + list((tmp_path / "out").glob(".*"))
    for path in there:
        record = json.loads(path.read_text())
        assert all((path.parent / name).exists() for part in record["parts"] for name in part["files"])


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two workers, processes of their own."""
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]), "OMP_NUM_THREADS": "1"}
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "OMP_NUM_THREADS")}
    os.environ.update({name: env[name] for name in before})
    found = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0, silence_logs=50
    )
    yield found
    found.close(timeout=10)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def test_dask_gives_the_tables_of_one_process(place, tmp_path, cluster):
    found = runner.run(job(place), tmp_path / "out", way=Scheduler(cluster.scheduler_address))
    same(place / "one", tmp_path / "out")
    assert found["done"] == 5 and [f["input"] for f in found["failures"]] == ["cut.nii.gz"]
    again = runner.run(job(place), tmp_path / "out", way=Scheduler(cluster.scheduler_address))
    assert again["computed"] == 0


def test_a_dask_worker_that_is_killed_loses_nothing(place, tmp_path, cluster):
    pids = [worker.pid for worker in cluster.workers.values()]

    def kill_one() -> None:
        until = time.monotonic() + 60
        while not list((tmp_path / "out").glob("*/case.json")) and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(pids[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = runner.run(job(place), tmp_path / "out", way=Scheduler(cluster.scheduler_address))
    killer.join()
    same(place / "one", tmp_path / "out")
    assert found["done"] == 5


class Machines:
    """A scheduler and a worker, each a process of its own, as on a cluster."""

    def __init__(self, folder: Path) -> None:
        self.file, self.processes = folder / "scheduler.json", []
        self.scheduler = self.start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        until = time.monotonic() + 60
        while not self.file.exists() and time.monotonic() < until:
            time.sleep(0.05)
        self.address = json.loads(self.file.read_text())["address"]
        self.start("dask_worker", "--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--resources", "slot=1")

    def start(self, what: str, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{what}", "--scheduler-file", str(self.file), *words]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_scheduler_that_is_killed_loses_nothing_that_was_finished(place, tmp_path):
    pytest.importorskip("distributed", reason="Dask is not installed")
    machines = Machines(_made(tmp_path / "first"))
    volumes(tmp_path / "cases", 12)
    given = replace(job(place), inputs={"": str(tmp_path / "cases")}, options={"samples": 200})

    def kill() -> None:
        until = time.monotonic() + 90
        while len(list((tmp_path / "out").glob("*/case.json"))) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(machines.scheduler.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SchedulerLost, match="run the same command again"):
        runner.run(given, tmp_path / "out", way=Scheduler(machines.address))
    killer.join()
    machines.end()
    there = len(list((tmp_path / "out").glob("*/case.json")))
    assert 2 <= there < 12
    again = Machines(_made(tmp_path / "second"))
    found = runner.run(given, tmp_path / "out", way=Scheduler(again.address))
    again.end()
    assert found["done"] == 12 and found["kept"] >= 3 * there
    assert not list((tmp_path / "out").rglob(".*"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_scheduler_that_is_not_there_is_said():
    pytest.importorskip("distributed", reason="Dask is not installed")
    from MedXAILib.engines import cluster as of_dask

    before, of_dask.PATIENCE = of_dask.PATIENCE, 1.0
    try:
        with pytest.raises(SchedulerLost, match=r"tcp://127\.0\.0\.1:9.*no Dask scheduler"):
            list(over_dask("tcp://127.0.0.1:9", doubled, [1], str))
    finally:
        of_dask.PATIENCE = before


def test_workers_and_a_scheduler_exclude_each_other():
    from MedXAILib.cli.running import way_of

    with pytest.raises(InputError, match="exclude each other"):
        way_of({"scheduler": "tcp://x:1", "workers": 2})


def blocks(kind: str) -> list[str]:
    text = (ROOT / "Docs" / "cluster.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("queue", ["SLURMCluster", "PBSCluster", "LSFCluster", "SGECluster"])
def test_the_how_to_of_a_queue_shows_what_its_class_submits(queue):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    (code,) = [block for block in blocks("python") if f"import {queue}" in block]
    shown = dict(zip([b for b in blocks("python") if "jobqueue" in b], blocks("bash"), strict=True))[code]
    found: dict = {}
    exec(code, found)
    script = found["cluster"].job_script()
    found["cluster"].close()
    script = re.sub(r"^\S*/python\S* -m", "python -m", script, flags=re.M)
    assert re.sub(r"tcp://[\d.]+:\d+", "tcp://HOST:8786", script).strip() == shown.strip()
    assert shown.rstrip().endswith("--nthreads 1 --resources slot=1 --memory-limit 0"), "the last of two counts"


def test_the_how_to_of_kubernetes_shows_what_its_spec_holds():
    operator = pytest.importorskip("dask_kubernetes.operator", reason="dask-kubernetes is not installed")
    import yaml

    (code,) = [block for block in blocks("python") if "make_cluster_spec" in block]
    found: dict = {"operator": operator}
    exec(code, found)
    assert yaml.safe_load(blocks("yaml")[0]) == found["spec"]["spec"]["worker"]
