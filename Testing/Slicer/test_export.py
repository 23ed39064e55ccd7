"""Results as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from seen import texts


@pytest.fixture(scope="module")
def commanded(computed, tmp_path_factory):
    """What the command line writes for the same."""
    from dataclasses import replace

    from MedXAILib.app.run import run

    out = tmp_path_factory.mktemp("cli") / "out"
    job = replace(
        computed.job, inputs={"": str(computed.folder / "ball.nrrd")}, anatomy=str(computed.folder / "anatomy.nrrd")
    )
    run(job, out)
    return out


def rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "input"} for row in csv.DictReader(file)]


def test_an_export_is_what_the_command_line_writes(explained, computed, commanded, slicer, tmp_path):
    import slicer as package
    from MedXAIPanel.export import export
    from PIL import Image

    from MedXAILib.errors import InputError
    from MedXAILib.io.read import read_volume
    from MedXAILib.mrml import nodes

    anatomy = nodes.add_labels(package.mrmlScene, computed.anatomy, "anatomy", explained.volume, fill=0.0)
    anatomy.SetAndObserveTransformNodeID(explained.volume.GetTransformNodeID())
    out = tmp_path / "new" / "out"
    written = export(explained.volume, out, anatomy=anatomy)
    theirs = {p.name for p in commanded.iterdir()}
    assert {*theirs, "snapshot.png"} == {p.name for p in out.iterdir()} == set(written)
    for name in sorted(theirs):
        if name.endswith(".csv"):
            assert approximately(rows(out / name), rows(commanded / name)), name
        elif name.endswith(".nrrd"):
            one, other = read_volume(out / name), read_volume(commanded / name)
            assert one.grid.same_as(other.grid) and np.allclose(one.array, other.array, rtol=1e-4, atol=1e-7), name
        elif name != "run.json":
            one, other = (json.loads((folder / name).read_text()) for folder in (out, commanded))
            assert one.keys() == other.keys() and one["notice"] == other["notice"] and one["limits"] == other["limits"]
    assert "Research use only" in json.loads((out / "run.json").read_text())["notice"]
    assert min(Image.open(out / "snapshot.png").size) > 300

    with pytest.raises(InputError, match="already holds a run"):
        export(explained.volume, out)
    explained.p.anatomy, explained.ui.tables.currentIndex = anatomy, 2
    explained.panel.display.show(explained.maps)
    shown = {row[0]: row[1:] for row in texts(explained.ui.structures)}
    of = [row for row in rows(out / "anatomy.csv") if row["method"] == "gradcam"]
    assert shown == {row["structure"]: [f"{100 * float(row[c]):.1f} %" for c in ("positive_share", "volume_share")] for row in of}  # fmt: skip


def approximately(one: list[dict], other: list[dict]) -> bool:
    """Whether two tables agree, numbers to a ten-thousandth."""
    close = [{key: pytest.approx(v, rel=1e-4, abs=1e-6) for key, v in numbers(row).items()} for row in other]
    return [numbers(row) for row in one] == close and [words(row) for row in one] == [words(row) for row in other]


def numbers(row: dict) -> dict[str, float]:
    return {key: float(text) for key, text in row.items() if is_number(text)}


def words(row: dict) -> dict[str, str]:
    return {key: text for key, text in row.items() if not is_number(text)}


def is_number(text: str) -> bool:
    return text.replace(".", "").replace("-", "").replace("e", "").isdigit()


def test_a_failed_export_leaves_nothing(explained, tmp_path, monkeypatch):
    from MedXAIPanel import export

    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(export, "snapshot", fail)
    with pytest.raises(RuntimeError):
        export.export(explained.volume, tmp_path / "out")
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob(".out*"))


def test_a_result_made_once_more_keeps_files_and_rows_of_its_own(explained, computed, tmp_path):
    from MedXAIPanel import results
    from MedXAIPanel.export import export

    results.addMaps(explained.volume, computed.event, computed.folder / computed.event["folder"])
    export(explained.volume, tmp_path / "out")
    maps = [f"{case}_lesion_{rest}.nrrd" for case in ("ball", "ball-2") for rest in ("gradcam_features", "lime")]
    assert all((tmp_path / "out" / name).exists() for name in maps)
    cases = [row["input"] for row in csv.DictReader((tmp_path / "out" / "superpixels.csv").open())]
    assert cases.count("ball") == cases.count("ball 2") == len(cases) / 2


def test_an_exported_picture_warns_of_what_the_model_does_not_know(explained, tmp_path, monkeypatch):
    from MedXAIPanel import export, results

    drawn = []
    monkeypatch.setattr(export, "snapshot", lambda *_, caveats, **__: drawn.extend(caveats))
    monkeypatch.setattr(export.Folder, "finish", lambda *_: {"files": []})
    export.export(explained.volume, tmp_path / "out")
    (prediction,) = results.predictionsOf(explained.volume)
    told = [caveat["text"] for caveat in results.metadata(prediction)["caveats"]]
    assert drawn == told and told, "a ball is no head"
