"""A format that another package adds is read wherever ours are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from MedXAILib import plugins
from MedXAILib.errors import FileError, InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.cohort import find_cases
from MedXAILib.io.describe import describe
from MedXAILib.io.read import read_volume
from MedXAILib.io.segmentation import read_labels
from MedXAILib.io.write import write_volume

ARRAY = (np.arange(60, dtype=np.uint8) // 20).reshape(3, 4, 5)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


class Xyz:
    """Three sizes, then bytes; what begins with '!' is another program's."""

    name = "XYZ"
    suffixes = (".xyz", ".xyz.Packed", ".nii")

    def recognises(self, path: Path) -> bool:
        return path.read_bytes()[:1] != b"!"

    def read(self, path: Path, *, frame: int | None, series: str | None) -> Volume:
        content = path.read_bytes()
        if series or frame:
            raise FileError(path, f"there is no {series or frame}", "leave it out")
        return Volume(np.frombuffer(content[3:], np.uint8).reshape(tuple(content[:3])), AFFINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of such files, whose reader is known."""
    added = (("theirs", Xyz()), ("another", object()))
    monkeypatch.setattr(plugins, "_loaded", lambda kind: added if kind == "readers" else ())
    for name in ("a.xyz", "b/C.XYZ", "d.xyz.packed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(ARRAY.shape) + ARRAY.tobytes())
    (tmp_path / "other.xyz").write_bytes(b"!")
    return tmp_path


def test_a_file_of_it_is_read(folder):
    volume = read_volume(folder / "a.xyz")
    assert np.array_equal(volume.array, ARRAY) and np.array_equal(volume.affine, AFFINE)
    assert (volume.source.name, volume.source.format) == ("a.xyz", "xyz")
    assert describe(folder / "b/C.XYZ")["geometry"]["shape"] == [5, 4, 3]
    assert read_labels(folder / "a.xyz").volume.array.max() == 2
    with pytest.raises(InputError, match=r"a\.xyz: there is no two; leave it out\."):
        read_volume(folder / "a.xyz", series="two")


def test_a_folder_of_it_is_a_cohort(folder):
    assert [case.name for case in find_cases(folder)] == ["a.xyz", "b/C.XYZ", "d.xyz.packed"]
    (folder / "gone.xyz").symlink_to(folder / "nowhere")
    assert [case.name for case in find_cases(folder)][-1] == "gone.xyz"
    with pytest.raises(InputError, match="this folder holds 4 .* files and no DICOM; give one file, as a.xyz"):
        read_volume(folder)


def test_ours_goes_first_and_what_it_does_not_recognise_is_no_image(folder):
    write_volume(Volume(ARRAY, AFFINE), folder / "e.nii")
    assert read_volume(folder / "e.nii").source.format == "nii"
    with pytest.raises(InputError, match="give NIfTI, NRRD, MHA, DICOM, PNG, JPEG, TIFF or XYZ"):
        read_volume(folder / "other.xyz")
    with pytest.raises(InputError, match="give one with DICOM, .* TIFF or XYZ"):
        (folder / "empty").mkdir()
        find_cases(folder / "empty")


def test_what_fails_in_it_is_told_in_a_sentence(folder, monkeypatch):
    (folder / "cut.xyz").write_bytes(bytes([9]))
    with pytest.raises(FileError, match=r"cut\.xyz: the reader of XYZ failed \(ValueError: .*; check the file"):
        read_volume(folder / "cut.xyz")
    monkeypatch.setattr(Xyz, "read", lambda self, path, **options: ARRAY)
    with pytest.raises(FileError, match=r"a\.xyz: the reader of XYZ gave no Volume"):
        read_volume(folder / "a.xyz")
    monkeypatch.setattr(Xyz, "recognises", lambda self, path: 1 / 0)
    assert "cut.xyz" in [case.name for case in find_cases(folder)]


def test_the_command_line_takes_it(folder, capsys):
    from MedXAILib.cli import run

    assert run(["info", str(folder / "a.xyz")]) == 0 and "a.xyz" in capsys.readouterr().out


def test_a_run_over_a_folder_of_it(folder):
    pytest.importorskip("torch")
    from MedXAILib.cli import run

    head = np.where(np.indices((20, 24, 28)).sum(0) % 7 < 5, 90, 0).astype(np.uint8)
    for name in ("a.xyz", "b/C.XYZ", "d.xyz.packed"):
        (folder / name).write_bytes(bytes(head.shape) + head.tobytes())
    assert run(["predict", str(folder), "--model", "planted-lesion", "-o", str(folder / "out")]) == 0
    rows = list(csv.DictReader((folder / "out/predictions.csv").open()))
    assert {row["input"] for row in rows} == {"a.xyz", "b/C.XYZ", "d.xyz.packed"}
