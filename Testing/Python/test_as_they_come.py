"""Files and inputs as people have them: each was once read wrongly, lost, or answered with a traceback. Needs no torch, but for
the last part."""

from __future__ import annotations

import gzip
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_dicom import series_files, slice_file

import MedXAILib
from MedXAILib import NOTICE
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.cohort import find_cases
from MedXAILib.io.read import read_volume
from MedXAILib.io.segmentation import read_labels
from MedXAILib.io.write import write_volume
from MedXAILib.outputs import earlier
from MedXAILib.outputs.layout import stems
from MedXAILib.outputs.part import PartFolder

nibabel = pytest.importorskip("nibabel")
AXES = "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (1,2,3)"


def nifti(path: Path, array: np.ndarray, affine=None, kind=nibabel.Nifti1Image, **fields) -> Path:
    """A file whose header fields are then set, and whose voxels are stored as they are."""
    image = kind(array, np.eye(4) if affine is None else affine)
    raw = bytearray(image.to_bytes())
    header = kind.header_class(bytes(raw[: kind.header_class.sizeof_hdr]), check=False)
    for name, value in fields.items():
        header[name] = value
    raw[: len(header.binaryblock)] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


def nrrd(path: Path, *lines: str, sizes: str = "2 2 2", data: bytes = bytes(range(8))) -> Path:
    head = f"NRRD0004\ntype: uchar\ndimension: {len(sizes.split())}\nsizes: {sizes}\nencoding: raw\n"
    path.write_bytes((head + "\n".join(lines) + "\n\n").encode() + data)
    return path


# NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_not_a_number_stays_what_it_is(tmp_path, suffix):
    array = np.full((6, 7, 8), 60, np.float32)
    array[:3], array[5] = np.nan, -1000
    volume = read_volume(nifti(tmp_path / f"x{suffix}", array))
    assert np.array_equal(volume.array.T, array, equal_nan=True)
    assert volume.source.remarks[0] == "168 values are not finite (NaN or infinite)"


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [(0.5, 0, [0, 0.5, 1]), (2, -10, [-10, -8, -6]), (0, -10, [0, 1, 2]), (np.nan, 7, [0, 1, 2]), (1, 0, [0, 1, 2])],
)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_values_are_scaled_once(tmp_path, slope, inter, expected, kind):
    array = np.arange(3, dtype=np.int16).reshape(3, 1, 1)
    volume = read_volume(nifti(tmp_path / "x.nii", array, kind=kind, scl_slope=slope, scl_inter=inter))
    assert volume.array.ravel().tolist() == expected
    assert volume.array.dtype == (np.int16 if expected == [0, 1, 2] else np.float32)


def test_vectors_are_scaled_once_and_colours_never(tmp_path):
    vector = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 1, 3)
    volume = read_volume(nifti(tmp_path / "v.nii", vector, scl_slope=0.5, scl_inter=1, intent_code=1007))
    assert np.array_equal(np.swapaxes(volume.array, 0, 2), vector[..., 0, :] * 0.5 + 1)
    rgb = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"], rgb["B"] = 200, np.arange(24).reshape(2, 3, 4)
    volume = read_volume(nifti(tmp_path / "c.nii", rgb, scl_slope=0.5, scl_inter=10))
    assert (volume.array[..., 0] == 200).all() and np.array_equal(volume.array[..., 2].T, rgb["B"])


@pytest.mark.parametrize(
    ("sform_code", "qform_code", "read"), [(2, 1, True), (4, 1, True), (1, 1, False), (2, 2, False)]
)
def test_a_template_beside_the_scanner_is_no_tilt(tmp_path, sform_code, qform_code, read):
    qform = np.diag([1.2, 1.1, 2.5, 1])
    sform = qform.copy()
    sform[0, 2] += 0.3
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), None)
    image.set_qform(qform, qform_code)
    image.set_sform(sform, sform_code)
    nibabel.save(image, tmp_path / "x.nii")
    if read:
        volume = read_volume(tmp_path / "x.nii")
        assert np.allclose(volume.affine, qform)
        assert any("the sform was not used" in text for text in volume.source.remarks)
    else:
        with pytest.raises(InputError, match="sheared"):
            read_volume(tmp_path / "x.nii")


def test_a_frame_of_a_4d_nifti_2(tmp_path):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.float64).reshape(2, 3, 4, 5)
    path = nifti(tmp_path / "x.nii", array, np.diag([2, 3, 4, 1]), nibabel.Nifti2Image)
    with pytest.raises(InputError, match="--frame 0 to --frame 4"):
        read_volume(path)
    volume = read_volume(path, frame=3)
    assert np.array_equal(volume.array.T, array[..., 3]) and volume.spacing.tolist() == [2, 3, 4]


# NRRD, pictures, DICOM


@pytest.mark.parametrize(
    ("units", "factor"), [('"mm" "mm" "mm"', 1), ('"m" "m" "m"', 1000), ('"um" "um" "um"', 0.001), ('"" "" ""', 1)]
)
def test_space_units_become_mm(tmp_path, units, factor):
    volume = read_volume(nrrd(tmp_path / "x.nrrd", "space: left-posterior-superior", f"space units: {units}", AXES))
    assert np.allclose(
        volume.affine, np.diag([-factor, -factor, factor, 1]) + factor * np.outer([-1, -2, 3, 0], [0, 0, 0, 1])
    )
    assert bool(volume.source.remarks) == (factor != 1)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["space: scanner-xyz", AXES], "scanner's axes"),
        (["space: left-posterior-superior", 'space units: "furlong" "mm" "mm"', AXES], "'furlong'"),
        (["space: left-posterior-superior", AXES.replace("(1,0,0)", "(1e5,0,0)")], "cannot be"),
        (["space: left-posterior-superior", AXES.replace("(1,2,3)", "(1e9,2,3)")], "cannot be"),
    ],
)
def test_what_cannot_be_is_not_believed(tmp_path, lines, said):
    with pytest.raises(InputError, match=said):
        read_volume(nrrd(tmp_path / "x.nrrd", *lines))


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_a_header_of_ten_gigabytes_is_held_against_the_file(tmp_path, encoding):
    path = nrrd(tmp_path / "x.nrrd", "space: left-posterior-superior", AXES, sizes="2200 2200 2200")
    path.write_bytes(path.read_bytes().replace(b"encoding: raw", f"encoding: {encoding}".encode()))
    with pytest.raises(InputError, match="cut short|more than this machine's memory"):
        read_volume(path)


def test_stacks_of_16_bit_pictures_are_slices_without_mm(tmp_path):
    image_of = pytest.importorskip("PIL.Image").fromarray
    array = np.random.default_rng(0).integers(0, 65535, (4, 5, 6)).astype(np.uint16)
    first, *rest = map(image_of, array)
    first.save(tmp_path / "x.tif", save_all=True, append_images=rest)
    volume = read_volume(tmp_path / "x.tif")
    assert np.array_equal(volume.array, array) and (volume.unit, volume.axes) == ("", "")
    first.save(tmp_path / "y.tif", save_all=True, append_images=[image_of(array[1, :3])])
    with pytest.raises(InputError, match="differ in size"):
        read_volume(tmp_path / "y.tif")
    assert np.array_equal(read_volume(tmp_path / "y.tif", frame=0).array[0], array[0])


@pytest.mark.parametrize(
    ("modality", "more", "kept"),
    [
        ("CT", {}, True),
        ("PT", {}, True),
        ("CR", {}, False),
        ("DX", {"RescaleType": "US"}, False),
        ("MR", {"RescaleType": "HU"}, True),
    ],
)
def test_measured_values_are_not_inverted(tmp_path, modality, more, kept):
    stored = np.array([[-1000, 40], [60, 1000]], np.int16)
    options = {
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "PhotometricInterpretation": "MONOCHROME1",
        "Modality": modality,
    }
    for n in range(2):
        place = np.array([10, 20, 30]) + 2 * n * np.array([-0.8, 0.6, 0])
        slice_file(tmp_path / str(n), stored, place, sop=f"1.{n}", **options | more)
    values = read_volume(tmp_path).array[0]
    assert np.array_equal(values, stored if kept else -1 - stored)


def test_a_mosaic_is_refused(tmp_path):
    series_files(tmp_path / "s", [0], Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    with pytest.raises(InputError, match="mosaic.*dcm2niix"):
        read_volume(tmp_path / "s")


def test_the_modality_lut_is_applied(tmp_path):
    import pydicom

    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.LUTData = struct.pack("<4H", 100, 200, 400, 800)
    stored = np.array([[0, 1, 2], [3, 3, 0]], np.uint16)
    options = {"RescaleSlope": None, "RescaleIntercept": None, "Modality": "MR"}
    slice_file(tmp_path / "x.dcm", stored, (0, 0, 0), ModalityLUTSequence=[table], **options)
    assert read_volume(tmp_path / "x.dcm").array[0].tolist() == [[100, 200, 400], [800, 800, 100]]
    options["PhotometricInterpretation"] = "MONOCHROME1"
    slice_file(tmp_path / "y.dcm", stored, (0, 0, 0), ModalityLUTSequence=[table], **options)
    assert read_volume(tmp_path / "y.dcm").array[0, 0].tolist() == [65535 - 100, 65535 - 200, 65535 - 400]


def test_values_that_do_not_begin_with_the_lowest_bit_are_refused(tmp_path):
    slice_file(tmp_path / "x.dcm", np.ones((2, 3), np.uint16), (0, 0, 0), BitsStored=12, HighBit=15)
    with pytest.raises(InputError, match="HighBit 15 does not fit its 12 BitsStored"):
        read_volume(tmp_path / "x.dcm")


def test_a_full_temporary_folder_is_no_damaged_dicom(tmp_path, monkeypatch):
    import tempfile

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    pydicom = pytest.importorskip("pydicom")
    slice_file(tmp_path / "x.dcm", np.ones((4, 4), np.uint16), (0, 0, 0))
    data = pydicom.dcmread(tmp_path / "x.dcm")
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    data.PixelData = pydicom.encaps.encapsulate([bytes(20)])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "x.dcm")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with pytest.raises(InputError, match="temporary folder.*No space left on device.*TMPDIR"):
        read_volume(tmp_path / "x.dcm")


# Folders and names


def test_overlapping_segments_keep_all_their_voxels(tmp_path):
    inner, outer = np.zeros((4, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint8)
    inner[0], outer[:2] = 1, 1
    keys = [
        f"Segment{n}_ID:=S{n}\nSegment{n}_Name:={name}\nSegment{n}_LabelValue:=1\nSegment{n}_Layer:={n}"
        for n, name in enumerate(("tumour", "liver"))
    ]
    path = tmp_path / "x.seg.nrrd"
    lines = ("space: left-posterior-superior", "kinds: list domain domain domain", "space origin: (0,0,0)")
    lines += ("space directions: none (2,0,0) (0,3,0) (0,0,4)", *keys, "Segmentation_ReferenceImageExtentOffset:=0 0 0")
    labels = read_labels(nrrd(path, *lines, sizes="2 6 5 4", data=np.stack([inner, outer], -1).tobytes()))
    assert labels.ml() == pytest.approx({"tumour": 0.72, "liver": 1.44})


def test_names_that_reduce_alike_stay_apart(tmp_path):
    names = [
        "张三.nrrd",
        "李四.nrrd",
        "a_b.nrrd",
        "a-b.nrrd",
        "A b.nrrd",
        "x/é.png",
        "x/e\u0301.png",
        "x_/1.png",
        "x-/1.png",
        "b.nrrd",
    ]
    found = stems(names)
    assert len({stem.casefold() for stem in found.values()}) == len(names)
    assert (found["张三.nrrd"], found["b.nrrd"]) == ("张三", "b")
    (long,) = stems(["张" * 80 + ".nrrd"]).values()
    folder = PartFolder(tmp_path, tmp_path / "case", "0" * 16, "1" * 16, "nrrd")
    paths = {folder.target(name, "gradcam") for name in ("grade I", "grade-I", "Grade I", "一", "二", "")}
    assert len({path.name.casefold() for path in paths}) == 6
    folder = PartFolder(tmp_path, tmp_path / long, "0" * 16, "1" * 16, "nrrd")
    assert len(folder.target("层" * 80, "gradcam", "l" * 200, "superpixels").name.encode()) < 255


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes are Linux's")
@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha", ".png"])
def test_a_name_that_is_no_utf8_is_read_and_shown(tmp_path, suffix):
    plain = tmp_path / f"x{suffix}"
    if suffix == ".png":
        pytest.importorskip("PIL.Image").fromarray(np.eye(4, dtype=np.uint8)).save(plain)
    else:
        write_volume(Volume(np.ones((2, 3, 4), np.uint8), np.eye(4)), plain)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + suffix.encode()))
    plain.rename(odd)
    volume = read_volume(odd)
    assert volume.source.name == f"caf\\xe9{suffix}"
    (case,) = find_cases(tmp_path)
    assert case.name == f"caf\\xe9{suffix}" and case.path == odd


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("read", [read_volume, read_labels, find_cases])
def test_a_pipe_is_no_file(tmp_path, read):
    os.mkfifo(tmp_path / "x.nii")
    with pytest.raises(InputError, match="a pipe or device"):
        read(tmp_path / "x.nii")


def test_the_shared_files_give_their_right_values(data):
    files = data.parent / "cases/files"
    vector = read_volume(files / "vec_u8_slope_20.nii")
    assert vector.array.shape == (20, 20, 20, 3) and vector.array.max() < 256
    stored = np.asarray(nibabel.load(files / "vec_u8_slope_20.nii").dataobj)
    assert np.allclose(np.swapaxes(vector.array, 0, 2), stored.reshape(20, 20, 20, 3))
    assert read_volume(files / "rgb_slope.nii").array[0, 0, 0].tolist() == [200, 100, 0]
    with pytest.raises(InputError, match="cannot be"):
        read_volume(files / "hugesp.nrrd")
    said = []
    assert [case.name for case in find_cases(files / "mixed", said.append)] == ["p1.nrrd", "p2.nrrd"]
    assert said == ["stray.dcm: left out, as DICOM beside volumes; give it by itself."]
    assert len(set(stems([case.name for case in find_cases(files / "names")]).values())) == 3


# What a network is given


def two_inputs():
    torch = pytest.importorskip("torch")

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Conv3d(1, 4, 3, 2, 1)

        def forward(self, mri, ct):
            return (self.a(mri) - self.a(ct)).mean((2, 3, 4))

    return Two().eval()


def test_volumes_of_different_grids_are_no_voxel_by_voxel_pair():
    from MedXAILib import explain

    array = np.random.default_rng(0).random((16, 16, 16), np.float32)
    network, mri = two_inputs(), Volume(array, np.eye(4))
    apart = np.diag([2, 2, 2, 1.0])
    with pytest.raises(InputError, match="'mri' and 'ct' lie on different grids.*resample"):
        explain(network, {"mri": mri, "ct": Volume(array, apart)}, [1], ["saliency"])
    assert len(explain(network, {"mri": mri, "ct": mri.with_array(array[::-1])}, [1], ["saliency"])) == 2


@pytest.mark.parametrize(("windows", "rank"), [((24, 24), 5), (0, 5), ((8, 8, -1), 5), ("888", 5), (2.5, 5), (8, 4)])
def test_windows_that_are_none_are_refused(windows, rank):
    torch = pytest.importorskip("torch")
    from MedXAILib import explain

    conv = (torch.nn.Conv3d if rank == 5 else torch.nn.Conv2d)(1, 2, 3, padding=1)
    with pytest.raises(InputError, match="windows="):
        explain(conv, torch.rand(1, 1, *[16] * (rank - 2)), [1], ["saliency"], windows=windows)


def test_a_voxel_of_an_array_is_its_index():
    torch = pytest.importorskip("torch")
    from MedXAILib import ComponentTarget, VoxelTarget, explain

    network = torch.nn.Conv3d(1, 2, 3, 1, 1).eval()
    x = np.random.default_rng(0).random((1, 1, 10, 12, 14), np.float32)
    (found,) = explain(network, x, [VoxelTarget((2, 3, 4), 1)], ["saliency"])
    assert np.argwhere(found.volume.array).mean(0).tolist() == [2, 3, 4]
    with pytest.raises(InputError, match="outside"):
        explain(network, x, [VoxelTarget((2, 3, 14), 1)], ["saliency"])
    said = int(network(torch.from_numpy(x))[0, :, 9, 11, 13].argmax())
    assert explain(network, x, [ComponentTarget((9, 11, 13), said)], ["saliency"])
    with pytest.raises(InputError, match="not predicted there"):
        explain(network, x, [ComponentTarget((9, 11, 13), 1 - said)], ["saliency"])


def test_a_layer_may_be_the_module_itself():
    torch = pytest.importorskip("torch")
    from MedXAILib import explain

    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
    network = torch.nn.Sequential(network, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    x = torch.rand(2, 1, 20, 20)
    by_name, by_module = (explain(network, x, [1], "Grad-CAM", layers)[0] for layers in ("0.0", network[0][0]))
    assert by_module.layer == "0.0" and np.array_equal(by_name.volume.array, by_module.volume.array)
    with pytest.raises(InputError, match="Conv2d is no module inside the network"):
        explain(network, x, [1], "gradcam", [torch.nn.Conv2d(1, 1, 1)])


@pytest.mark.parametrize(
    ("shift", "said"), [(0, None), (6, "of which it covers"), (9, "share only"), (50, "share only 0 %")]
)
def test_inputs_of_two_places_are_refused(shift, said):
    pytest.importorskip("monai")
    from MedXAILib import prepare
    from MedXAILib.models.card import ModelCard

    card = ModelCard.model_validate(
        {
            "name": "t",
            "task": "classification",
            "network": {"architecture": "x"},
            "weights": {"file": "x"},
            "spatial": {"mode": "whole"},
            "input": {"channels": [{"name": "t1"}, {"name": "t2"}]},
            "output": {"labels": [{"name": "a"}]},
        }
    )
    array = np.random.default_rng(0).random((10, 10, 10), np.float32)
    moved = np.eye(4)
    moved[0, 3] = shift
    inputs = {"t1": Volume(array, np.eye(4)), "t2": Volume(array, moved)}
    if said is None or "share" not in said:
        assert (said or "") in " ".join(prepare(card, inputs).remarks)
    else:
        with pytest.raises(InputError, match=said):
            prepare(card, inputs)


def test_one_file_for_a_model_of_several_inputs_is_told_what_works(tmp_path):
    """A 4D file leads no longer from --frame to the next error."""
    pytest.importorskip("torch")
    from types import SimpleNamespace

    from MedXAILib.app.checking import refuse_single

    channels = [SimpleNamespace(name=name) for name in ("t1", "flair")]
    model = SimpleNamespace(card=SimpleNamespace(name="net", input=SimpleNamespace(channels=channels)))
    with pytest.raises(
        InputError,
        match=r"--input t1=PATH --input flair=PATH, or .* --suffix t1=END --suffix flair=END; a 4D file .* must be split",
    ):
        refuse_single({"": Path("x.nii")}, model)
    refuse_single({"t1": Path("x.nii"), "flair": Path("y.nii")}, model)


# What was read in silence and is not what the file means


def meta(path, *lines, kind="MET_UCHAR", size="2 2 3", data=b"") -> None:
    head = ["ObjectType = Image", "NDims = 3", f"DimSize = {size}", f"ElementType = {kind}", *lines]
    path.write_bytes("\n".join(head).encode() + b"\n" + data)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["ElementDataFile = LIST", "s1.raw", "s2.raw"], "names 2 data files, and 3 are needed"),
        (["ElementDataFile = LIST", "s1.raw", "s2.raw", "s3.raw", "s1.raw"], "names 4 data files, and 3 are needed"),
        (["ElementDataFile = s%d.raw 1 2 1"], "names 2 data files, and 3 are needed"),
        (["ElementDataFile = s%n.raw 1 3 1"], "pattern of data files"),
        (["ElementDataFile = %s%s%s%s 1 3 1"], "pattern of data files"),
        (["ElementDataFile = s%99999d.raw 1 3 1"], "pattern of data files"),
        (["ElementDataFile = s%d.raw 1 3 0"], "pattern of data files"),
        (["ElementDataFile = s%d.raw 0 2 1"], "s0.raw is not there"),
        (["ElementDataFile = LIST", "s1.raw", "s2.raw", "pipe"], "pipe is not there, or is no file"),
        (["ElementDataFile = LIST", "s1.raw", "s2.raw", "short.raw"], "its data file short.raw is cut short"),
        (["HeaderSize = 4", "ElementDataFile = LOCAL", "0123456789ab"], "HeaderSize 4 does not lie"),
        (["BinaryData = False", "ElementDataFile = LOCAL", "0 1 2 3 4 5 6 7 8 9 10 11"], "written as text"),
    ],
)
def test_a_metaimage_of_several_files_has_them_all(tmp_path, lines, said):
    for n in (1, 2, 3):
        (tmp_path / f"s{n}.raw").write_bytes(bytes([10 * n] * 4))
    (tmp_path / "short.raw").write_bytes(b"xyz")
    os.mkfifo(tmp_path / "pipe")
    meta(tmp_path / "x.mhd", *lines)
    with pytest.raises(InputError, match=said):
        read_volume(tmp_path / "x.mhd")
    for listing in (["ElementDataFile = LIST", "s1.raw", "s2.raw", "s3.raw"], ["ElementDataFile = s%d.raw 1 3 1"]):
        meta(tmp_path / "x.mhd", *listing)
        assert read_volume(tmp_path / "x.mhd").array[:, 0, 0].tolist() == [10, 20, 30]


def test_what_a_metaimage_scales_by_is_told(tmp_path):
    meta(tmp_path / "x.mha", "ElementToIntensityFunctionSlope = 2", "ElementDataFile = LOCAL", data=bytes(12))
    assert "its slope 2 and offset 0 were not applied" in " ".join(read_volume(tmp_path / "x.mha").source.remarks)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["encoding: raw", "data file: s%n.raw 1 3 1"], "pattern of data files"),
        (["encoding: raw", "data file: s%999999d.raw 1 3 1"], "pattern of data files"),
        (["encoding: raw", "data file: LIST", "s1.raw", "s2.raw", "pipe"], "pipe is not there, or is no file"),
        (["encoding: ascii", "", "0 1 2 3 4 5 6 7 8 9 10 590"], "from 0 to 590, which uint8 does not hold"),
    ],
)
def test_an_nrrd_s_files_are_files_and_its_text_fits(tmp_path, lines, said):
    os.mkfifo(tmp_path / "pipe")
    for n in (1, 2, 3):
        (tmp_path / f"s{n}.raw").write_bytes(bytes(4))
    head = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 2 2 3", *lines]
    (tmp_path / "x.nhdr").write_text("\n".join(head) + "\n")
    with pytest.raises(InputError, match=said):
        read_volume(tmp_path / "x.nhdr")


@pytest.mark.parametrize("offset", [0, -1, 100, 348])
def test_voxels_do_not_begin_within_the_header(tmp_path, offset):
    nifti(tmp_path / "x.nii", np.arange(24, dtype=np.int16).reshape(2, 3, 4), vox_offset=offset)
    with pytest.raises(InputError, match="within its header"):
        read_volume(tmp_path / "x.nii")


GREY = np.array([[0, 10], [120, 127]])


@pytest.mark.parametrize(
    ("array", "options", "expected", "remark"),
    [
        (np.array([[-60, 5], [127, -128]], np.int8), {}, None, ""),
        (np.array([[3328800000, 5], [0, 7]], np.uint32), {}, None, ""),
        (np.array([[-5, 5], [0, 2**31 - 1]], np.int32), {}, None, ""),
        (GREY.astype(np.uint16), {"photometric": "miniswhite"}, 65535 - GREY, ""),
        (GREY.astype(np.uint8), {"photometric": "miniswhite"}, 255 - GREY, ""),
        (np.dstack([GREY] * 4).astype(np.uint16), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, np.dstack([GREY >> 8] * 3), "16-bit"),
        (np.dstack([GREY, GREY]).astype(np.uint8), {"photometric": "minisblack", "extrasamples": ["unspecified"], "planarconfig": "contig"}, GREY, "1 further channels"),
    ],
    ids=str,
)  # fmt: skip
def test_tiff_values_are_those_that_are_stored(tmp_path, array, options, expected, remark):
    tifffile.imwrite(tmp_path / "x.tif", array, **options)
    volume = read_volume(tmp_path / "x.tif")
    assert np.array_equal(volume.array[0], array if expected is None else expected)
    assert remark in " ".join(volume.source.remarks)


# Folders


def test_a_folder_s_cases_are_all_that_lie_in_it(tmp_path):
    """Links are followed, round ones left; what is no file, and links that lead nowhere, are cases that cannot be read."""
    folder, elsewhere = tmp_path / "c", tmp_path / "p1"
    for place in (folder, elsewhere):
        place.mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(place / "a.png")
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(folder)
    (folder / "gone.nii.gz").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.png")
    (folder / "note.txt").symlink_to(tmp_path / "nowhere")
    cases = {case.name: case.path for case in find_cases(folder)}
    assert sorted(cases) == ["a.png", "gone.nii.gz", "linked/a.png", "pipe.png"]
    for name, said in (("gone.nii.gz", "a link that leads nowhere"), ("pipe.png", "a pipe or device")):
        with pytest.raises(InputError, match=said):
            read_volume(cases[name])


def test_what_an_earlier_run_wrote_is_no_case(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    for out in (tmp_path, tmp_path / "out"):
        out.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(out / "map.png")
        (out / "run.json").write_text(json.dumps({"notice": NOTICE, "files": ["map.png", "run.json"]}))
    said = []
    assert [case.name for case in earlier.find_cases(tmp_path, said.append)] == ["a.png"]
    assert len(find_cases(tmp_path)) == 3
    assert said == ["4 files that an earlier run wrote into this folder: left out."]


def test_a_series_into_whose_folder_a_run_wrote_is_read(tmp_path):
    slice_file(tmp_path / "1.dcm", np.zeros((4, 4), np.uint16), (0, 0, 0))
    out = tmp_path / "out"
    out.mkdir()
    write_volume(Volume(np.zeros((2, 2, 2), np.float32), np.eye(4)), out / "map.nrrd")
    (out / "run.json").write_text(json.dumps({"notice": NOTICE, "files": ["map.nrrd", "run.json"]}))
    assert MedXAILib.read_volume(tmp_path).source.format == earlier.describe(tmp_path)["format"] == "dicom"
    with pytest.raises(InputError, match="holds one NRRD file beside DICOM"):
        read_volume(tmp_path)


def test_a_series_of_which_a_file_is_lost_is_refused(tmp_path):
    slice_file(tmp_path / "1.dcm", np.zeros((4, 4), np.uint16), (0, 0, 0))
    (tmp_path / "2.dcm").symlink_to(tmp_path / "annex")
    with pytest.raises(InputError, match=r"2\.dcm: this is a link that leads nowhere; .*git annex get"):
        read_volume(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not hold for root")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(InputError, match="locked: this folder cannot be read"):
        find_cases(tmp_path)
