"""Which cases a run has: found in a folder, by suffixes, a pattern, a table, a BIDS dataset, a DICOM tree."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from MedXAILib.cases.search import Search, search
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume


def image(path: Path, value: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(np.full((2, 3, 4), value, np.float32), np.eye(4)), path)
    return path


def found(path: Path | str, channels=("image",), **more):
    inputs = more.pop("inputs", None) or {"": str(path)}
    return search(Search(inputs=inputs, channels=channels, **more))


def by_name(result) -> dict:
    return {case.name: case for case in result.cases}


def test_several_inputs_are_found_by_how_their_names_end(tmp_path):
    for case in ("b", "sub/a"):
        image(tmp_path / f"{case}_t1.nii.gz")
        image(tmp_path / f"{case}_t2.nii").rename(tmp_path / f"{case}_t2.NII")
    image(tmp_path / "c_t1.nrrd")
    image(tmp_path / "c_seg.nrrd")
    for twice in ("d_t1.nii.gz", "d_t1.nrrd", "d_t2.nii"):
        image(tmp_path / twice)
    result = found(tmp_path, ("T1", "T2"), suffixes={"T1": "_t1", "T2": "_t2"})
    cases = by_name(result)
    assert list(cases) == ["b", "c", "d", "sub/a"]
    assert [path.name for path in cases["sub/a"].inputs.values()] == ["a_t1.nii.gz", "a_t2.NII"]
    assert list(cases["b"].inputs) == ["T1", "T2"] and not cases["b"].fault
    assert "T2" in cases["c"].fault and "missing" in cases["c"].fault
    assert "d_t1.nii.gz and d_t1.nrrd" in cases["d"].fault
    assert "c_seg.nrrd" in result.remarks[0]
    whole = found(tmp_path, ("T1",), suffixes={"T1": "_t1.nii.gz"})
    assert list(by_name(whole)) == ["b", "d", "sub/a"]
    with pytest.raises(InputError, match="ends in"):
        found(tmp_path, ("T1", "T2"), suffixes={"T1": "_t1", "T2": "t1"})


@pytest.mark.parametrize("given", ["_seg", "_seg.nii.gz", "labels"])
def test_what_belongs_to_cases_is_no_case_itself(tmp_path, given):
    for name in ("a", "b"):
        image(tmp_path / "scans" / f"{name}_t1.nii.gz")
        image(tmp_path / "scans" / (f"labels/{name}_t1.nii.gz" if given == "labels" else f"{name}_seg.nii.gz"))
    anatomy = str(tmp_path / "scans" / "labels") if given == "labels" else given
    result = found(tmp_path / "scans", anatomy=anatomy)
    assert list(by_name(result)) == ["a_t1.nii.gz", "b_t1.nii.gz"] and not any(case.fault for case in result.cases)
    assert "2 files of --anatomy or --mask: no cases." in result.remarks
    with pytest.raises(InputError, match="all that was found belongs to"):
        found(tmp_path / "scans", anatomy=str(tmp_path / "scans"))


def test_a_pattern_means_what_the_shell_would_make_of_it(tmp_path):
    for name in ("x/a.nii.gz", "x/y/b.nii.gz", "x/y/c.nrrd"):
        image(tmp_path / name)
    assert list(by_name(found(tmp_path / "x" / "**" / "*.nii.gz"))) == ["a.nii.gz", "y/b.nii.gz"]
    odd = image(tmp_path / "[1].nii.gz")
    ours = search(
        Search(
            inputs={"": str(tmp_path / "x" / "**" / "*.nii.gz")}, channels=("image",),
            written=lambda folder: ["y/b.nii.gz"] if folder.name == "x" else [],
        )
    )  # fmt: skip
    assert list(by_name(ours)) == ["a.nii.gz"] and "1 files that an earlier run wrote" in ours.remarks[0]
    assert found(odd).cases[0].path == odd, "a file of this very name is the file"
    with pytest.raises(InputError, match=r"\*\.mha.*quotation marks"):
        found(tmp_path / "*.mha")


@pytest.mark.parametrize(("suffix", "sign"), [(".csv", ","), (".csv", ";"), (".tsv", "\t")])
def test_a_table_names_inputs_anatomy_and_mask_relative_to_itself(tmp_path, suffix, sign):
    image(tmp_path / "in" / "a.nii.gz")
    table = tmp_path / f"cases{suffix}"
    lines = [
        ["case", "T1", "T2", "anatomy", "mask", "age"],
        ["one", "in/a.nii.gz", "in/b.nii.gz", "s/a.nrrd", "", "50"],
        ["two", "in/a.nii.gz", "", "", "m.nrrd", "60"],
    ]
    table.write_text("\ufeff" + "\r\n".join(sign.join(line) for line in lines) + "\r\n\r\n", encoding="utf-8")
    result = found(table, ("T1", "T2"))
    one, two = result.cases
    assert dict(one.inputs) == {"T1": tmp_path / "in/a.nii.gz", "T2": tmp_path / "in/b.nii.gz"}
    assert one.anatomy == tmp_path / "s/a.nrrd" and one.mask is None and not one.fault
    assert "T2" in two.fault and two.mask == tmp_path / "m.nrrd"
    assert "age" in result.remarks[0]
    with pytest.raises(InputError, match=r"'FLAIR'"):
        found(table, ("T1", "FLAIR"))


def test_a_table_without_names_calls_cases_by_their_file_and_none_leads_out_of_the_run(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("input\n../../a.nii.gz\n/b/c.nii.gz\n")
    assert [case.name for case in found(table).cases] == ["a.nii.gz", "b/c.nii.gz"]
    table.write_text("input\na.nii.gz\na.nii.gz\n")
    with pytest.raises(InputError, match="twice"):
        found(table)
    table.write_bytes(b"input\n\xff\xfe.nii\n")
    with pytest.raises(InputError, match="UTF-8"):
        found(table)
    table.write_text("input\n")
    with pytest.raises(InputError, match="no rows"):
        found(table)


@pytest.fixture
def dataset(tmp_path):
    """A BIDS dataset: three subjects, one with two sessions; T1w, FLAIR, a derivative and source data."""
    root = tmp_path / "ds"
    for name in ("sub-01/ses-1/anat/sub-01_ses-1", "sub-01/ses-2/anat/sub-01_ses-2", "sub-02/anat/sub-02"):
        image(root / f"{name}_T1w.nii.gz")
        image(root / f"{name}_FLAIR.nii.gz")
    image(root / "sub-03/anat/sub-03_FLAIR.nii.gz")
    image(root / "derivatives/x/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz")
    image(root / "sourcedata/sub-01/anat/sub-01_T1w.nii.gz")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t3\nsub-02\t4\nsub-03\t5\nsub-04\t6\n")
    return root


def test_bids_is_recognised_and_only_the_suffix_that_is_asked_for_taken(dataset):
    with pytest.raises(InputError, match=r"FLAIR \(4 files\), T1w \(3 files\).*--suffix"):
        found(dataset)
    result = found(dataset, suffixes={"": "T1w"})
    assert [case.name for case in result.cases] == [
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
    ]
    said = " ".join(result.remarks)
    assert "FLAIR (4)" in said and "sub-03, sub-04" in said and "derivatives and sourcedata" in said
    assert result.dataset == dataset
    (dataset / "dataset_description.json").unlink()
    assert len(found(dataset, suffixes={"": "T1w"}).cases) == 3, "also told by the names alone"


def test_several_inputs_of_bids_and_one_that_is_missing(dataset):
    result = found(dataset, ("T1", "F"), suffixes={"T1": "T1w", "F": "FLAIR"})
    assert [case.name for case in result.cases if not case.fault] == [
        "sub-01/ses-1/anat/sub-01_ses-1",
        "sub-01/ses-2/anat/sub-01_ses-2",
        "sub-02/anat/sub-02",
    ]
    (bad,) = [case for case in result.cases if case.fault]
    assert bad.name == "sub-03/anat/sub-03" and "T1" in bad.fault


def test_a_derivative_given_by_itself_is_a_dataset(dataset):
    (case,) = found(dataset / "derivatives" / "x").cases
    assert case.name == "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz"


def test_anatomy_of_each_case_in_a_folder_or_beside_it(tmp_path):
    for name in ("a", "b", "n/c"):
        image(tmp_path / "in" / f"{name}.nii.gz")
    image(tmp_path / "labels" / "a.seg.nrrd")
    image(tmp_path / "labels" / "n" / "c.nii.gz")
    cases = by_name(found(tmp_path / "in", anatomy=str(tmp_path / "labels")))
    assert cases["a.nii.gz"].anatomy == tmp_path / "labels/a.seg.nrrd"
    assert cases["n/c.nii.gz"].anatomy == tmp_path / "labels/n/c.nii.gz"
    assert "no anatomy" in cases["b.nii.gz"].fault

    for name in ("p_t1.nii.gz", "p_seg.nrrd", "q_t1.nii.gz"):
        image(tmp_path / "beside" / name)
    cases = by_name(found(tmp_path / "beside", suffixes={"": "_t1"}, anatomy="_seg"))
    assert cases["p"].anatomy == tmp_path / "beside/p_seg.nrrd" and "_seg" in cases["q"].fault
    one = image(tmp_path / "one.nrrd")
    assert found(tmp_path / "in", anatomy=str(one)).cases[0].anatomy is None, "one for all is the job's"
    with pytest.raises(InputError, match="no such file or folder"):
        found(tmp_path / "in", anatomy="labls")


def dicom_of(source: Path, target: Path, patient: str, only: int = 4) -> None:
    """Some slices of a series as another patient's."""
    import pydicom
    from pydicom.uid import generate_uid

    target.mkdir(parents=True, exist_ok=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for file in sorted(source.iterdir())[:only]:
        data = pydicom.dcmread(file)
        data.PatientID = patient
        data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = series, study, frame
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.save_as(target / f"{patient}-{file.name}")


@pytest.fixture
def ct(data):
    return data / "dicom" / "dcmqi_ct-3slice"


def test_a_dicom_tree_of_many_patients_is_a_case_for_each(tmp_path, ct):
    dicom_of(ct, tmp_path / "tree" / "P1" / "study" / "ct", "P1")
    dicom_of(ct, tmp_path / "tree" / "P2", "P2")
    flat = tmp_path / "flat"
    for patient in ("P1", "P2"):
        dicom_of(ct, flat, patient)
    cases = found(tmp_path / "tree").cases
    assert [case.name for case in cases] == ["P1/study/ct", "P2"] and not any(case.fault for case in cases)
    assert read_volume(cases[0].path).shape == read_volume(ct).shape
    one, two = found(flat).cases
    assert (one.name, two.name) == ("P1", "P2") and one.series != two.series
    assert read_volume(two.path, series=two.series).shape == read_volume(ct).shape
    assert len(found(tmp_path / "tree" / "P2").cases) == 1, "one patient is one case, as ever"


def test_patients_with_several_series_need_a_choice_and_one_that_is_damaged_costs_only_itself(tmp_path, ct):
    for patient in ("P1", "P2", "P3"):
        dicom_of(ct, tmp_path / patient, patient)
    dicom_of(ct, tmp_path / "P2" / "more", "P2")
    file = next((tmp_path / "P3").iterdir())
    file.write_bytes(file.read_bytes()[:300])
    cases = by_name(found(tmp_path))
    assert set(cases) == {"P1", "P2", "P3"}
    read_volume(cases["P1"].path)
    for bad, words in (("P2", "there are 2 series"), ("P3", "cut short|damaged")):
        with pytest.raises(InputError, match=words):
            read_volume(cases[bad].path, series=cases[bad].series)


def test_nothing_to_find_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        found(tmp_path / "empty")
    with pytest.raises(InputError, match="no such file"):
        found(tmp_path / "gone")
    image(tmp_path / "x" / "a.nii.gz")
    with pytest.raises(InputError, match="nothing in it is a case.*a.nii.gz"):
        found(tmp_path / "x", suffixes={"": "_t1"})
    with pytest.raises(InputError, match="--suffix"):
        found(tmp_path / "x" / "a.nii.gz", suffixes={"": "_t1"})
    shutil.rmtree(tmp_path / "x")
