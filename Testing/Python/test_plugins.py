"""What another package adds costs one file and an entry point: the files of Docs/adding.md, installed and used at every door."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("setuptools")

from torch import nn  # noqa: E402

from MedXAILib import InputError, Session, explain, plugins  # noqa: E402
from MedXAILib.app.evaluating import evaluate_case  # noqa: E402
from MedXAILib.app.job import Job  # noqa: E402
from MedXAILib.app.worker import evaluations  # noqa: E402
from MedXAILib.attribution.method import QueryResult  # noqa: E402
from MedXAILib.attribution.option import RESERVED, SAMPLES, Option  # noqa: E402
from MedXAILib.attribution.registry import methods  # noqa: E402
from MedXAILib.evaluation.registry import measures  # noqa: E402
from MedXAILib.io.reader import others  # noqa: E402
from MedXAILib.outputs.layout import stems  # noqa: E402
from MedXAILib.session.bare import bare  # noqa: E402

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "Docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
BROKEN = {"methods": "broken_method", "readers": "broken_reader"}
"""Entry points that cannot be loaded."""


def files() -> dict[str, str]:
    """The package of the page: every file by its name."""
    found, points = {}, defaultdict(list)
    for kind, text in BLOCKS:
        if name := re.match(r"# (\S+)\n", text):
            found[name[1]] = text
        elif kind == "toml":
            head, *lines = text.strip().splitlines()
            points[head] += lines
    for kind, name in BROKEN.items():
        points[f'[project.entry-points."medxai.{kind}"]'].append(f'{name} = "{name}:OBJECT"')
        found[f"src/{name}.py"] = f"raise RuntimeError('no {kind} today')\n"
    found["pyproject.toml"] += "".join(f"\n{head}\n" + "\n".join(lines) + "\n" for head, lines in points.items())
    return found


USED = """
import contextlib, io, json, os, sys
from pathlib import Path
from types import SimpleNamespace

from MedXAILib.cli import run
from MedXAILib.app.worker import Worker

told = {}
def cli(name, *words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(words))
    told[name] = {"code": code, "out": out.getvalue(), "err": err.getvalue()}

cli("help", "explain", "--help")
cli("methods", "methods")
cli("options", "methods", "--options")
cli("info", "info", "ball.xyz")
model = ("--model", "brightness.txt")
cli("models", "models", "brightness.txt")
cli("explain", "explain", "ball.xyz", *model, "--method", "slabs", "--slabs", "5", "--method", "either-way", "-o", "out",
    "--writer", "volumes", "--writer", "peaks", "--json")
cli("few", "explain", "ball.xyz", *model, "--method", "slabs", "--slabs", "1", "-o", "few")
cli("evaluate", "evaluate", "ball.xyz", *model, "--method", "slabs", "--measure", "hottest", "--part", "0.2", "-o", "figures")
cli("run", "evaluate", "out", *model, "--measure", "hottest")
cli("ours", "predict", "ball.xyz", "--model", "planted-lesion", "-o", "ours")
events = []
worker = Worker(Path.cwd(), events.append)
worker.handle({"do": "methods", "id": 1})
job = {"task": "explain", "inputs": {"": "ball.xyz"}, "model": "brightness.txt", "methods": ["slabs"], "options": {"slabs": 3}}
worker.handle({"do": "explain", "id": 2, "job": job})
told["worker"] = {"events": [event for event in events if event["event"] in ("result", "error")]}
Path("told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory) -> dict:
    """What the doors told of the package, in a process of its own that finds it installed."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, text in files().items():
        path = folder / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    install = [sys.executable, "-m", "pip", "install", "-q", "--target", "site", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*install, "./package"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    k, j, i = ([n - 7.5 for n in range(16)] for _ in "kji")
    values = [5.0 if a * a + b * b + c * c < 30 else 0.1 * (n % 7) for n, (a, b, c) in enumerate(cells(k, j, i))]
    (folder / "ball.xyz").write_text("XYZ 16 16 16 2\n" + " ".join(map(str, values)))
    (folder / "brightness.txt").write_text("brightness 0.25\n")
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(folder / "site"), str(ROOT))),
        "MEDXAI_CONFIG": str(folder / "config"),
        "COLUMNS": "1000",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", USED], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((folder / "told.json").read_text())
    log = done.stderr + "".join(one["err"] for one in told.values() if "err" in one)
    return told | {"log": log, "folder": folder}


def cells(*axes):
    """Every combination, the last axis fastest."""
    return [(a, b, c) for a in axes[0] for b in axes[1] for c in axes[2]]


def test_the_page_has_a_file_and_an_entry_point_for_each_kind():
    named = {name for name in files() if name.startswith("src/") and "broken" not in name}
    assert len(named) == 6
    for kind in ("methods", "measures", "readers", "models", "writers"):
        assert f'"medxai.{kind}"' in files()["pyproject.toml"]
    for path in named:
        assert f'"{Path(path).stem}:' in files()["pyproject.toml"]


def test_methods_and_their_options_are_listed_by_the_command_line(used):
    assert used["help"]["code"] == 0
    assert "slabs" in used["help"]["out"] and "either-way" in used["help"]["out"]
    assert re.search(
        r"--slabs +\S+ +slabs: How many slabs are hidden, one at a time. \[default: 8\]", used["help"]["out"]
    )
    assert "peaks (where each map is highest, as text and as CSV)" in used["help"]["out"]
    assert re.search(r"slabs +Slab occlusion +added", used["methods"]["out"])
    assert re.search(r"either-way +Either-way CAM +added", used["methods"]["out"])
    assert re.search(r"--slabs +a whole number +\[8\] How many slabs", used["options"]["out"])


def test_methods_and_their_options_are_listed_by_the_worker(used):
    listed = {m["name"]: m for m in used["worker"]["events"][0]["methods"]}
    (option,) = listed["slabs"]["options"]
    assert (option["name"], option["default"], option["least"]) == ("slabs", 8, 2)
    assert listed["either-way"]["title"] == "Either-way CAM" and "gradcam" in listed
    done = used["worker"]["events"][1]
    assert done["event"] == "result", done
    assert [one["method"] for one in done["maps"]] == ["slabs"] and done["evaluations"]["slabs"] == 9


def test_a_file_of_the_format_is_told_of_and_explained_by_the_model_and_the_methods(used):
    assert used["info"]["code"] == 0 and "16 x 16 x 16" in used["info"]["out"]
    assert used["models"]["code"] == 0 and "Is the input bright?" in used["models"]["out"]
    assert used["explain"]["code"] == 0, used["explain"]["err"]
    summary = json.loads(used["explain"]["out"])
    assert summary["model"]["name"] == "brightness" and summary["job"]["options"] == {"slabs": 5}
    slabs, either = summary["cases"][0]["maps"]
    assert (slabs["method"], slabs["evaluations"], either["layer"]) == ("slabs", 6, "features")
    from MedXAILib.io.read import read_volume

    heat = read_volume(used["folder"] / "out" / slabs["file"]).array
    assert len({float(value) for value in heat.ravel()}) == 5 and heat.max() == heat[8, 8, 8] > 0


def test_an_option_out_of_bounds_is_refused_in_a_sentence(used):
    assert used["few"]["code"] == 2
    assert "--slabs 1: give a whole number of at least 2." in used["few"]["err"]
    assert not (used["folder"] / "few").exists()


def test_the_writer_writes_its_file_and_its_table_and_the_others_do_not(used):
    listed = json.loads(used["explain"]["out"])["files"]
    page, _ = (name for name in listed if name.endswith(".txt") and "_peaks_" in name)
    assert page.startswith("ball/ball_"), "a suffix of the package's is none of a name"
    assert "peaks.csv" in listed and "regions.csv" not in listed
    assert (used["folder"] / "out" / "peaks.csv").read_text().splitlines()[0] == "input,class,method,peak,r,a,s"
    assert "either" in (used["folder"] / "out" / page).read_text()


def test_the_measure_measures_maps_of_a_case_and_of_a_run(used):
    assert used["evaluate"]["code"] == 0, used["evaluate"]["err"]
    assert "Loss of the hottest" in used["evaluate"]["out"]
    assert used["run"]["code"] == 0, used["run"]["err"]
    rows = (used["folder"] / "figures" / "evaluation.csv").read_text().splitlines()
    figures = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    assert figures["measure"] == "hottest" and float(figures["figure"]) > float(figures["chance"])


def test_what_cannot_be_loaded_is_named_and_costs_nothing_else(used):
    for kind, name in BROKEN.items():
        said = f"The package medxai-more adds '{name}' to MedXAI's {kind}, and it cannot be loaded (RuntimeError: no {kind} today)"
        assert used["log"].count(said) == 1
    assert used["ours"]["code"] == 0, used["ours"]["err"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (SAMPLES, "its options are no tuple of Option"),
        ((Option(name="device", kind=str, help=""),), "an option may not be called device"),
        (
            (replace(SAMPLES, kind=float, default=0.5),),
            "its option --samples is not the one that others have by this name",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_left_out(monkeypatch, caplog, options, said):
    method = replace(methods()["saliency"], name="mine", options=options)
    measure = replace(measures()["deletion"], name="mine", options=options)
    monkeypatch.setattr(
        plugins, "_loaded", lambda kind: (("their-package", {"methods": method, "measures": measure}[kind]),)
    )
    for kind, registry in (("methods", methods), ("measures", measures)):
        assert "mine" not in registry.__wrapped__()
        assert f"The package their-package adds 'mine' to MedXAI's {kind}, and {said}" in caplog.text
    monkeypatch.setattr(plugins, "_loaded", lambda kind: (("their-package", replace(method, options=(SAMPLES,))),))
    assert "mine" in methods.__wrapped__()


@pytest.mark.parametrize("suffixes", [None, ".ball", ("ball",), ("",), (3,), (".",)])
def test_a_reader_whose_suffixes_are_none_is_named_and_left_out(monkeypatch, caplog, suffixes):
    reader = SimpleNamespace(
        name="Ball", suffixes=suffixes, recognises=lambda path: True, read=lambda path, **given: None
    )
    monkeypatch.setattr(plugins, "_loaded", lambda kind: (("their-package", reader),) if kind == "readers" else ())
    assert others() == [] and stems(["a.ball", "football", "b.nii.gz"]) == {
        "a.ball": "a.ball",
        "football": "football",
        "b.nii.gz": "b",
    }
    assert "The package their-package adds 'Ball' to MedXAI's readers, and its suffixes are no tuple" in caplog.text
    reader.suffixes = (".ball", ".zipped.ball", ".BIG")
    found = stems(["a.ball", "football", "b.nii.gz", "c.zipped.ball", "d.big"])
    assert list(found.values()) == ["a", "football", "b", "c", "d"]


def test_no_option_takes_a_name_that_a_door_has():
    doors = {f.name for f in fields(Job)} | {f.metadata.get("flag") or f.name for f in fields(Job)}
    doors |= set(inspect.signature(explain).parameters) - {"options"}
    doors |= set(inspect.signature(evaluate_case).parameters) - {"names", "given", "job"}
    assert not {name.replace("-", "_") for name in doors} - RESERVED
    with pytest.raises(ValueError, match="letters, digits and _"):
        Option(name="patch size", kind=int, help="")


def test_a_map_of_the_wrong_shape_is_the_methods_fault():
    wrong = replace(
        methods()["occlusion"], name="mine", title="Mine",
        run=lambda query: QueryResult(values=np.ones((1, 2, 2, 2), np.float32), evaluations=1, caveats=[()]),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods(), "mine", wrong)
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
        with pytest.raises(InputError, match="^Mine made a map of 2x2x2 voxels where 1x9x8 are wanted: "):
            explain(network, np.ones((1, 1, 9, 8), np.float32) * np.arange(8, dtype=np.float32), methods="mine")


def test_a_network_whose_layers_nobody_can_follow_has_no_default_layer():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)).eval()
    model, prepared, _ = bare(network, torch.rand(1, 1, 8, 8), None, (), None, None)
    session = Session(model, prepared)
    assert session.default_layers() == []
    assert evaluations(session)["saliency"] == 1
