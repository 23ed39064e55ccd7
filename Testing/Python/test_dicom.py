"""DICOM series, real ones against SimpleITK and other files of the same scan, synthetic ones with planted faults."""

from __future__ import annotations

import json

import numpy as np
import pytest

from MedXAILib.errors import InputError
from MedXAILib.io.cohort import find_cases
from MedXAILib.io.describe import describe
from MedXAILib.io.dicom.scan import is_dicom, list_series
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume

pydicom = pytest.importorskip("pydicom")
sitk = pytest.importorskip("SimpleITK")
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
OBLIQUE = [0.6, 0.8, 0, 0, 0, -1]
"""Row and column direction of the synthetic series; the slices follow (-0.8, 0.6, 0)."""


def slice_file(path, pixels, position, *, series="1.2.3", sop=None, **attributes) -> None:
    """Write one classic CT slice of 16-bit pixels; ``attributes`` replace or (None) remove what it has by default."""
    data = pydicom.Dataset()
    data.SOPClassUID = CT
    data.SOPInstanceUID = sop or f"1.2.3.{abs(hash(str(path)))}"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2", series, "1.2.9"
    data.PatientName, data.PatientID, data.InstitutionName = "Secret^Person", "ID-4711", "Hidden Hospital"
    data.Modality, data.SeriesDescription, data.SeriesNumber = "CT", "thorax", 4
    data.ImagePositionPatient, data.ImageOrientationPatient = [float(x) for x in position], OBLIQUE
    data.PixelSpacing, data.SliceThickness = [0.5, 0.75], 2
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(pixels.dtype == np.int16)
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)


def series_files(folder, distances, *, frames=1, drift=(0, 0, 0), **attributes) -> np.ndarray:
    """A series with slices at these distances (mm) along the normal, under shuffled names; the planted pixels."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4000, (frames, len(distances), 5, 4)).astype(np.uint16)
    names = rng.permutation(frames * len(distances))
    for frame in range(frames):
        for n, distance in enumerate(distances):
            number = frame * len(distances) + n
            position = np.array([10, 20, 30]) + distance * np.array([-0.8, 0.6, 0]) + distance * np.array(drift)
            times = {"TemporalPositionIdentifier": frame + 1} if frames > 1 else {}
            sop = f"1.2.3.4.{number}"
            slice_file(folder / f"{names[number]:04d}", pixels[frame, n], position, sop=sop, **times | attributes)
    return pixels


def refused(path, *words: str, **options) -> None:
    with pytest.raises(InputError) as failure:
        read_volume(path, **options)
    text = str(failure.value)
    assert text.startswith(f"{path}: ") and text.endswith(".") and "\n" not in text
    for word in words:
        assert word in text


# Real series


@pytest.mark.parametrize(
    "name", ["STS_002_CT", "PGBM-003_T1post", "PGBM-003_FLAIR_reg", "anatT1w_part", "dcmqi_ct-3slice", "CRLM-CT-1004"]
)
def test_series_agree_with_simpleitk(data, name):
    folder = data / "dicom" / name
    volume = read_volume(folder)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(files)
    values = sitk.GetArrayFromImage(image).astype(int)
    assert np.array_equal(volume.array, np.where(values == -3024, -1024, values))
    assert ("padding" in " ".join(volume.source.remarks)) == (values.min() == -3024)
    for index in ([0, 0, 0], [n - 1 for n in volume.shape], [5, 0, 1]):
        lps = image.TransformIndexToPhysicalPoint(index)
        assert volume.ras(index) == pytest.approx(np.array(lps) * [-1, -1, 1], abs=2e-3)
    first, last = (pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in (files[0], files[-1]))
    assert volume.source.series["sop"][0] == first and volume.source.series["sop"][-1] == last


def test_series_agrees_with_its_nifti(data):
    series, nifti = read_volume(data / "dicom/STS_002_CT"), read_volume(data / "volumes/STS_002_CT_image.nii.gz")
    assert series.grid.same_as(nifti.grid)
    assert np.array_equal(series.array, nifti.array)


def test_series_agrees_with_the_grid_of_its_segmentation(data):
    assert read_volume(data / "dicom/dcmqi_ct-3slice").grid.same_as(
        read_volume(data / "dicom/dcmqi_liver_seg.nrrd").grid
    )


def test_enhanced_frames_lie_where_their_groups_say(data):
    path = data / "dicom/eCT_Supplemental.dcm"
    volume = read_volume(path)
    assert np.linalg.det(volume.affine) > 0
    header = pydicom.dcmread(path)
    frames = header.PerFrameFunctionalGroupsSequence
    for k, number in enumerate(volume.source.series["frame"]):
        position = frames[number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert volume.ras([0, 0, k]) == pytest.approx(np.array(position, float) * [-1, -1, 1])
        assert np.array_equal(volume.array[k], header.pixel_array[number - 1].astype(int) - 1024)
    assert volume.ras([1, 0, 0]) - volume.ras([0, 0, 0]) == pytest.approx([0.388672, 0, 0])  # rows run to the right


def test_files_without_place(data):
    refused(data / "dicom/emri_small.dcm", "10 images do not say where", "--frame 0 to --frame 9")
    picture = read_volume(data / "dicom/emri_small.dcm", frame=3)
    assert np.array_equal(picture.array[0], pydicom.dcmread(data / "dicom/emri_small.dcm").pixel_array[3])
    assert "place in the patient" in picture.source.remarks[1]
    refused(data / "dicom/OBXXXX1A_2frame.dcm", "2 images")
    ultrasound = read_volume(data / "dicom/OBXXXX1A_2frame.dcm", frame=1)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(data / "dicom/OBXXXX1A_2frame.dcm")))
    assert np.array_equal(ultrasound.array[0], values[1])
    assert ultrasound.channels == 3


def test_radiograph_in_monochrome1(data):
    volume = read_volume(data / "dicom/RG3_J2KR.dcm")  # JPEG 2000
    stored = pydicom.dcmread(data / "dicom/RG3_J2KR.dcm").pixel_array
    assert np.array_equal(volume.array[0], 1023 - stored)
    assert "MONOCHROME1" in " ".join(volume.source.remarks)


def test_other_objects_are_named(data):
    refused(data / "dicom/STS_002_CT_RTSTRUCT", "RT Structure Set")
    refused(data / "dicom/liver.dcm", "segmentation")
    found = list_series(data / "dicom")
    assert {one.modality for one in found} == {"CT", "MR", "CR", "US"}
    refused(data / "dicom", "--series", "'anat-T1w' (number 401, MR, 48 slices)")
    assert read_volume(data / "dicom", series="anat-t1w").shape == (274, 384, 48)


@pytest.mark.parametrize(
    "name",
    ["MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_RLE", "SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_dcmtk"],
)
def test_compressed_files_agree_with_simpleitk(name):
    path = pydicom.data.get_testdata_file(f"{name}.dcm", download=False)
    assert np.array_equal(read_volume(path).array.squeeze(), sitk.GetArrayFromImage(sitk.ReadImage(path)).squeeze())


# Synthetic series


def test_shuffled_series_is_sorted_and_placed(tmp_path):
    pixels = series_files(tmp_path / "s", [0, 2.5, 5, 7.5, 10])
    volume = read_volume(tmp_path / "s")
    assert np.array_equal(volume.array, pixels[0].astype(int) - 1024)
    assert volume.array.dtype == np.int16
    # PS3.3 C.7.6.2.1.1: columns step along the row direction by the second spacing, rows along the other by the first
    expected = [10 + 0.6 * 0.75 * 3 - 0.8 * 2.5 * 4, 20 + 0.8 * 0.75 * 3 + 0.6 * 2.5 * 4, 30 - 0.5 * 2]
    assert volume.ras([3, 2, 4]) == pytest.approx(np.array(expected) * [-1, -1, 1])
    assert volume.source.series["sop"] == [f"1.2.3.4.{n}" for n in range(5)]
    assert volume.source.series["modality"] == "CT" and volume.source.series["frame_of_reference"] == "1.2.9"


def test_a_missing_slice_is_told(tmp_path):
    series_files(tmp_path / "s", [0, 2, 4, 8, 10])
    refused(tmp_path / "s", "not equally spaced", "4.00 mm apart, others 2.00 mm", "missing slices")
    series_files(tmp_path / "t", [0, 2, 4, 6, 7])
    refused(tmp_path / "t", "1.00 mm apart, others 2.00 mm")


def test_rounded_positions_are_no_fault(tmp_path):
    series_files(tmp_path / "s", np.round(np.arange(40) * 0.6254, 2))
    assert read_volume(tmp_path / "s").spacing[2] == pytest.approx(0.6254, abs=1e-3)
    series_files(tmp_path / "t", [0, 1], drift=(0.006, 0.008, 0))  # 0.6 degrees, but 0.01 mm only
    assert read_volume(tmp_path / "t").shape == (4, 5, 2)


def test_gantry_tilt_is_refused(tmp_path):
    series_files(tmp_path / "s", np.arange(8) * 2.0, drift=(0, 0, np.tan(np.radians(15))))
    refused(tmp_path / "s", "askew by 15.0 degrees", "gantry tilt")


def test_time_points_need_a_choice(tmp_path):
    pixels = series_files(tmp_path / "s", [0, 2, 4], frames=4)
    refused(tmp_path / "s", "4 images at each position", "TemporalPositionIdentifier", "--frame 0 to --frame 3")
    refused(tmp_path / "s", "below 4", frame=4)
    for frame in range(4):
        assert np.array_equal(read_volume(tmp_path / "s", frame=frame).array, pixels[frame].astype(int) - 1024)
    next((tmp_path / "s").iterdir()).unlink()
    refused(tmp_path / "s", "some of which have more images")


def test_several_series_need_a_choice(tmp_path):
    (tmp_path / "study").mkdir()
    first = series_files(tmp_path / "study/a", [0, 2, 4])
    series_files(tmp_path / "study/b", [0, 1], series="1.2.4", SeriesDescription="lung", SeriesNumber=7, Modality="PT")
    refused(tmp_path / "study", "2 series", "'thorax' (number 4, CT, 3 slices)", "'lung' (number 7, PT, 2 slices)")
    refused(tmp_path / "study", "'9' names 0 series", series="9")
    for choice in ("4", "1.2.3", "thorax", "Thorax"):
        assert np.array_equal(read_volume(tmp_path / "study", series=choice).array, first[0].astype(int) - 1024)
    assert [(s.number, s.slices) for s in list_series(tmp_path / "study")] == [(4, 3), (7, 2)]
    assert len(find_cases(tmp_path / "study")) == 1


def test_mixed_series_are_refused(tmp_path):
    pixels = np.zeros((5, 4), np.uint16)
    faults = {
        "sizes": {"pixels": np.zeros((6, 4), np.uint16)},
        "different directions": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        "pixel spacing": {"PixelSpacing": [0.6, 0.75]},
        "PixelSpacing": {"PixelSpacing": None},
        "do not say where": {"ImagePositionPatient": None},
    }
    for word, fault in faults.items():
        folder = tmp_path / word
        folder.mkdir()
        slice_file(folder / "1", pixels, [0, 0, 0])
        slice_file(folder / "2", fault.pop("pixels", pixels), [-0.8, 0.6, 0], **fault)
        refused(folder, word)


def test_copies_in_a_folder_are_left_out(tmp_path):
    series_files(tmp_path / "s", [0, 2, 4])
    (tmp_path / "s/copy").mkdir()
    (tmp_path / "s/copy/x.dcm").write_bytes((tmp_path / "s/0000").read_bytes())
    volume = read_volume(tmp_path / "s")
    assert volume.shape[2] == 3 and "twice" in volume.source.remarks[0]


def test_rescaling_slice_by_slice(tmp_path):
    pixels = np.arange(20, dtype=np.uint16).reshape(5, 4)
    for n, slope in enumerate((0.5, 0.25)):
        place = [-0.8 * n, 0.6 * n, 0]
        slice_file(tmp_path / f"{n}.dcm", pixels, place, RescaleSlope=slope, RescaleIntercept=n, Modality="PT")
    volume = read_volume(tmp_path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, [pixels * 0.5, pixels * 0.25 + 1])


def test_padding_becomes_air_in_ct_only(tmp_path):
    pixels = np.full((5, 4), 24, np.int16)
    pixels[0] = -2000
    for modality, lowest in (("CT", -1024), ("MR", -3024)):
        slice_file(tmp_path / f"{modality}.dcm", pixels, [0, 0, 0], PixelPaddingValue=-2000, Modality=modality)
        volume = read_volume(tmp_path / f"{modality}.dcm")
        assert volume.array[0, 0].tolist() == [lowest] * 4 and volume.array[0, 1:].max() == -1000
        assert ("4 voxels" in " ".join(volume.source.remarks)) == (modality == "CT")


def test_stored_units_need_no_rescaling(tmp_path):
    pixels = np.full((5, 4), -100, np.int16)
    pixels[0] = -2000
    plain = {"RescaleSlope": None, "RescaleIntercept": None}
    slice_file(tmp_path / "signed.dcm", pixels, [0, 0, 0], PixelPaddingValue=-2000, **plain)
    assert np.array_equal(read_volume(tmp_path / "signed.dcm").array[0], np.maximum(pixels, -1024))
    unsigned = np.arange(20, dtype=np.uint16).reshape(5, 4)
    slice_file(tmp_path / "unsigned.dcm", unsigned, [0, 0, 0], PixelPaddingValue=0, **plain)
    assert np.array_equal(read_volume(tmp_path / "unsigned.dcm").array[0], unsigned)
    slice_file(tmp_path / "bright.dcm", unsigned, [0, 0, 0], PhotometricInterpretation="MONOCHROME1")
    volume = read_volume(tmp_path / "bright.dcm")
    assert np.array_equal(volume.array[0], unsigned.astype(int) - 1024)
    assert "have a unit and were kept" in " ".join(volume.source.remarks)


@pytest.mark.parametrize(
    ("pixels", "first", "count"),
    [
        (np.array([[0, 7], [200, 255]], np.uint8), 0, 4096),
        (np.array([[-900, -3], [0, 32700]], np.int16), -1000, 2**16),
        (np.array([[0, 9], [10, 65535]], np.uint16), 10, 300),
    ],
)
def test_the_modality_table_is_applied(tmp_path, pixels, first, count):
    """Literally, as in DICOM PS3.3, C.11.1: also where the table has numbers that the pixels' own type does not hold."""
    table = np.random.default_rng(0).integers(0, 2**16, count).astype(np.uint16)
    item = pydicom.Dataset()
    item.add_new(
        "LUTDescriptor",
        "SS" if first < 0 else "US",
        [count % 2**16 - (2**16 if count % 2**16 >= 2**15 else 0), first, 16],
    )
    item.add_new("LUTData", "OW", table.tobytes())
    item.ModalityLUTType = "HU"
    bits = 8 * pixels.itemsize
    depth = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
    slice_file(
        tmp_path / "x", pixels, [0, 0, 0], ModalityLUTSequence=[item], RescaleSlope=None, RescaleIntercept=None, **depth
    )
    expected = table[np.clip(pixels.astype(int) - first, 0, count - 1)]
    assert np.array_equal(read_volume(tmp_path / "x").array[0], expected)


def test_real_world_values_that_are_not_applied_are_said(tmp_path):
    unit, item = pydicom.Dataset(), pydicom.Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "g/ml", "UCUM", "standardized uptake  value"
    item.MeasurementUnitsCodeSequence = [unit]
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 1.0, -1024.0
    pixels = np.full((5, 4), 1000, np.uint16)
    slice_file(tmp_path / "same", pixels, [0, 0, 0], RealWorldValueMappingSequence=[item])
    assert not any("real world" in text for text in read_volume(tmp_path / "same").source.remarks)
    item.RealWorldValueSlope = 0.25
    slice_file(tmp_path / "other", pixels, [0, 0, 0], RealWorldValueMappingSequence=[item])
    said = "its mapping to real world values (standardized uptake value) was not applied: these are the rescaled ones"
    volume = read_volume(tmp_path / "other")
    assert said in volume.source.remarks and (volume.array == -24).all()


def test_both_unpackers_give_the_same(data, monkeypatch):
    path = data / "dicom" / "RG3_J2KR.dcm"
    one = read_volume(path).array
    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", lambda *arguments, **options: 1 / 0)
    assert np.array_equal(read_volume(path).array, one)


def test_spacing_of_the_detector_is_said(tmp_path):
    place = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    slice_file(tmp_path / "x.dcm", np.zeros((5, 4), np.uint16), [0, 0, 0], ImagerPixelSpacing=[0.2, 0.1], **place)
    volume = read_volume(tmp_path / "x.dcm")
    assert volume.spacing == pytest.approx([0.1, 0.2, 2])
    assert "detector" in volume.source.remarks[0] and "place in the patient" in volume.source.remarks[1]


def test_other_objects_in_a_folder_are_passed_over(tmp_path):
    series_files(tmp_path / "s", [0, 2, 4])
    report = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Rows": None, "Columns": None, "PixelData": None}
    slice_file(tmp_path / "s/report", np.zeros((5, 4), np.uint16), [0, 0, 0], **report)
    volume = read_volume(tmp_path / "s")
    assert volume.shape[2] == 3
    assert volume.source.remarks == ("also there, and not read: Basic Text SR",)


def test_files_without_preamble_are_recognised(tmp_path):
    slice_file(tmp_path / "whole.dcm", np.zeros((5, 4), np.uint16), [0, 0, 0])
    data = pydicom.dcmread(tmp_path / "whole.dcm")
    bare = pydicom.dataset.Dataset(data)
    with (tmp_path / "bare").open("wb") as file:
        pydicom.dcmwrite(file, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare").read_bytes()[128:132] != b"DICM"
    assert is_dicom(tmp_path / "bare")
    assert read_volume(tmp_path / "bare").shape == (4, 5, 1)
    (tmp_path / "text").write_bytes(b"\x08\x00" + b"no data set at all " * 30)
    assert not is_dicom(tmp_path / "text")


def test_enhanced_file_with_time_points_and_scaling(tmp_path):
    """Two positions, two time points, stored out of order, a slope of its own in every frame."""
    slice_file(tmp_path / "plain.dcm", np.zeros((5, 4), np.uint16), [0, 0, 0])
    data = pydicom.dcmread(tmp_path / "plain.dcm")
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(data, name)
    data.SOPClassUID, data.NumberOfFrames, data.Modality = "1.2.840.10008.5.1.4.1.1.4.1", 4, "MR"
    pixels = np.random.default_rng(0).integers(0, 999, (4, 5, 4)).astype(np.uint16)
    data.PixelData = pixels.tobytes()

    def item(**values):
        one = pydicom.Dataset()
        for name, value in values.items():
            setattr(one, name, value)
        return [one]

    data.SharedFunctionalGroupsSequence = item(
        PlaneOrientationSequence=item(ImageOrientationPatient=OBLIQUE),
        PixelMeasuresSequence=item(PixelSpacing=[0.5, 0.75], SliceThickness=3),
    )
    places = [(1, 1), (0, 2), (1, 2), (0, 1)]  # slice, time
    data.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=item(ImagePositionPatient=[-0.8 * 3 * k, 0.6 * 3 * k, 0]),
            FrameContentSequence=item(TemporalPositionIndex=t),
            PixelValueTransformationSequence=item(RescaleSlope=n + 1, RescaleIntercept=0),
        )[0]
        for n, (k, t) in enumerate(places)
    ]
    data.save_as(tmp_path / "enhanced.dcm")
    refused(tmp_path / "enhanced.dcm", "2 images at each position", "TemporalPositionIndex")
    volume = read_volume(tmp_path / "enhanced.dcm", frame=1)
    assert volume.spacing == pytest.approx([0.75, 0.5, 3])
    assert volume.source.series["frame"] == [2, 3]
    assert np.array_equal(volume.array, [pixels[1].astype(int) * 2, pixels[2].astype(int) * 3])


def test_one_slice_of_a_series(tmp_path):
    series_files(tmp_path / "s", [0, 2, 4])
    volume = read_volume(tmp_path / "s/0000")
    assert volume.shape == (4, 5, 1) and volume.spacing[2] == 2
    assert "give its folder" in volume.source.remarks[0]


def test_patients_are_not_named_anywhere(tmp_path):
    series_files(tmp_path / "s", [0, 2, 4])
    volume = read_volume(tmp_path / "s")
    write_volume(volume, tmp_path / "out.nrrd", {"MedXAI_input": volume.source.name})
    written = (tmp_path / "out.nrrd").read_bytes().decode("latin-1")
    said = json.dumps(describe(tmp_path / "s")) + str(volume.source) + written
    for secret in ("Secret", "Person", "4711", "Hospital", str(tmp_path)):
        assert secret not in said


def test_damaged_files_name_themselves(tmp_path):
    series_files(tmp_path / "s", [0, 2, 4])
    path = tmp_path / "s/0001"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="0001.*damaged"):
        read_volume(tmp_path / "s")
    slice_file(tmp_path / "frames.dcm", np.zeros((5, 4), np.uint16), [0, 0, 0], NumberOfFrames=2000000000)
    refused(tmp_path / "frames.dcm", "damaged")
