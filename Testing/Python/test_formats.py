"""Reading and writing: nibabel and SimpleITK as oracles, hand-made headers as traps."""

from __future__ import annotations

import gzip
import json
import struct
import time
import zlib

import numpy as np
import pytest

from MedXAILib import NOTICE
from MedXAILib.errors import InputError
from MedXAILib.geometry.labels import Label, Labels
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.cohort import find_cases
from MedXAILib.io.describe import describe
from MedXAILib.io.read import read_volume
from MedXAILib.io.segmentation import read_labels
from MedXAILib.io.write import write_labels, write_volume

nibabel = pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")
RNG = np.random.default_rng(0)


def random_affine(rng: np.random.Generator) -> np.ndarray:
    """Oblique, anisotropic, either handed."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.3, 6, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def sentence(path, *words: str, **options) -> None:
    """Reading must fail with one line that begins with the path, ends with a full stop and says the words."""
    with pytest.raises(InputError) as failure:
        read_volume(path, **options)
    text = str(failure.value)
    assert text.startswith(f"{path}: ") and text.endswith(".") and "\n" not in text and "ITK" not in text
    for word in words:
        assert word in text


# Reading real files


def test_nifti_agrees_with_nibabel(data):
    files = sorted((data / "volumes").glob("*.nii*")) + sorted((data / "volumes/hippocampus").rglob("*_00*.nii.gz"))
    files += sorted((data / "volumes/nifti_dtypes").glob("*int*.nii")) + sorted(data.glob("models/*t1crop.nii.gz"))
    compared = 0
    for path in files:
        try:
            volume = read_volume(path)
        except InputError:
            continue
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
        if values.dtype.fields:
            values = np.stack([values[name] for name in values.dtype.names], -1)
        assert volume.affine == pytest.approx(image.affine, abs=2e-4), path.name
        assert np.array_equal(np.swapaxes(volume.array, 0, 2), values), path.name
        compared += 1
    assert compared >= 35


def test_one_scan_in_two_formats(data):
    one, other = (read_volume(data / "volumes" / f"niivue_FLAIR{suffix}") for suffix in (".nrrd", ".nii.gz"))
    assert one.grid.same_as(other.grid)
    assert np.array_equal(one.array, other.array)
    assert one.array.dtype == np.uint8


def test_variants_of_one_nrrd(data):
    folder = data / "volumes/nrrd_odd"
    reference = nibabel.load(folder / "BallBinary30x30x30.nii.gz").get_fdata().T
    names = ("", "_gz", "_gz_byteskip_minus_one", "_gz_lineskip", "_byteskip_minus_one", "_byteskip_minus_one_nifti")
    for name in names:
        path = next(folder.glob(f"BallBinary30x30x30{name}.n?[rd][rd]"))
        volume = read_volume(path)
        assert np.array_equal(volume.array, reference), path.name
        assert volume.affine == pytest.approx(np.diag([-1, -1, 1, 1]))
    for name in ("_bz2.nrrd", "_byteskip_minus_five.nhdr"):
        sentence(folder / f"BallBinary30x30x30{name}")


def test_refused_files_of_the_collection(data, capfd):
    volumes = data / "volumes"
    sentence(volumes / "niivue_norm.mgz", "mri_convert")
    sentence(volumes / "nibabel_example_nifti2.nii.gz", "2 volumes", "--frame 0 to --frame 1")
    sentence(volumes / "niivue_shear.nii.gz", "sheared by 18.5 degrees", "resample")
    sentence(volumes / "niivue_complex.nii.gz", "magnitude")
    sentence(volumes / "nibabel_example4d.nii.gz", "2 volumes", "--frame 0 to --frame 1")
    sentence(volumes / "nibabel_example4d.nii.gz", "no frame 2", frame=2)
    sentence(volumes / "niivue_FLAIR.nrrd", "no frame 1", frame=1)
    sentence(volumes / "niivue_FLAIR.nrrd", "--series", series="1")
    sentence(volumes / "nrrd_odd/test_simple4d_raw.nrrd", "fourth axis")
    sentence(volumes / "nrrd_odd/BallBinary30x30x30.raw", "NIfTI, NRRD")
    sentence(volumes, "DICOM")
    assert capfd.readouterr().err == ""


def test_frame_of_a_4d_file(data):
    path = data / "volumes/nibabel_example4d.nii.gz"
    expected = np.asanyarray(nibabel.load(path).dataobj)
    for frame in (0, 1):
        assert np.array_equal(read_volume(path, frame=frame).array.T, expected[..., frame])


def test_special_shapes(data):
    flat = read_volume(data / "volumes/elastix_2DMRI-T1_brain.mha")
    assert flat.shape == (256, 256, 1) and "one slice" in flat.source.remarks[0]
    colour = read_volume(data / "volumes/niivue_ct_perfusion_rgb.nii.gz")
    assert colour.shape == (256, 286, 15) and colour.channels == 3


def test_hostile_files_are_read_or_refused(data, capfd):
    psutil = pytest.importorskip("psutil")
    before = psutil.Process().memory_info().rss
    for path in sorted(
        path for name in ("nifti", "dicom", "dicom_pydicom") for path in (data / "hostile" / name).iterdir()
    ):
        start = time.process_time()
        try:
            volume = read_volume(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert volume.array.size < 1e7
        assert time.process_time() - start < 5, path.name
    assert psutil.Process().memory_info().rss - before < 500e6
    assert capfd.readouterr().err == ""


# Traps made here


def test_missing_empty_and_foreign_files(tmp_path):
    sentence(tmp_path / "none.nii", "no such file")
    sentence(tmp_path, "no DICOM image")
    cases = {
        "empty.nii.gz": (b"", "empty"),
        "pointer.nii.gz": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        "text.nii": (b"hello" * 200, "NIfTI"),
        "text.nrrd": (b"hello" * 200, "copy or export"),
        "text.mha": (b"hello" * 200, "copy or export"),
        "dimensions.mha": (
            b"NDims = -3\nDimSize = 7 6 5\nElementType = MET_SHORT\nElementDataFile = LOCAL\n",
            "damaged",
        ),
        "text.png": (b"hello" * 200, "damaged"),
        "text.docx": (b"hello" * 200, "NIfTI, NRRD, MHA, DICOM, PNG"),
        "broken.nii.gz": (b"\x1f\x8bhello" * 20, "gzip"),
        "analyze.hdr": (struct.pack("<i", 348) + bytes(344), "ANALYZE"),
    }
    (tmp_path / "analyze.img").write_bytes(b"x")
    for name, (content, word) in cases.items():
        (tmp_path / name).write_bytes(content)
        sentence(tmp_path / name, word)
    (tmp_path / "lonely.hdr").write_bytes(struct.pack("<i", 348) + bytes(344))
    sentence(tmp_path / "lonely.hdr", "lonely.img")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("compress", [True, False])
def test_files_cut_short(tmp_path, capfd, suffix, compress):
    path = tmp_path / f"volume{suffix}"
    write_volume(Volume(RNG.integers(0, 3000, (20, 30, 40)).astype(np.int16), np.eye(4)), path, compress=compress)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    sentence(path)
    assert capfd.readouterr().err == ""


def test_gzip_in_several_members_is_whole(tmp_path):
    write_volume(Volume(RNG.integers(0, 99, (5, 6, 7)).astype(np.int16), np.eye(4)), tmp_path / "one.nii")
    raw = (tmp_path / "one.nii").read_bytes()
    (tmp_path / "two.nii.gz").write_bytes(gzip.compress(raw[:400]) + gzip.compress(raw[400:]))
    assert np.array_equal(read_volume(tmp_path / "one.nii").array, read_volume(tmp_path / "two.nii.gz").array)


def test_capital_suffixes(tmp_path):
    for suffix in (".nrrd", ".nii.gz", ".mha"):
        write_volume(Volume(np.ones((2, 3, 4), np.uint8), np.eye(4)), tmp_path / f"x{suffix}")
        (tmp_path / f"x{suffix}").rename(tmp_path / f"Ü{suffix.upper()}")
        assert read_volume(tmp_path / f"Ü{suffix.upper()}").shape == (4, 3, 2)


def test_forged_sizes_allocate_nothing(tmp_path):
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).header
    header["dim"][1:4] = 32767
    (tmp_path / "huge.nii").write_bytes(header.binaryblock + bytes(1000))
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
    text = "NRRD0004\ntype: float\ndimension: 3\nsizes: 99999 99999 9999\nencoding: raw\nendian: little\n\n"
    (tmp_path / "huge.nrrd").write_bytes(text.encode() + bytes(1000))
    for name in ("huge.nii", "huge.nii.gz", "huge.nrrd"):
        sentence(tmp_path / name, "GiB")
    size = b"IHDR" + struct.pack(">IIBBBBB", 12000, 12000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT5\xaf\x06\x1e")
    sentence(tmp_path / "huge.png", "too large")
    header["dim"][1:4] = 600
    (tmp_path / "large.nii").write_bytes(header.binaryblock + bytes(1000))
    sentence(tmp_path / "large.nii", "cut short")


def test_two_affines_in_a_nifti(tmp_path):
    path = tmp_path / "x.nii"
    sform, qform = random_affine(np.random.default_rng(1)), random_affine(np.random.default_rng(2))
    qform[:3, :3] *= np.linalg.norm(sform[:3, :3], axis=0) / np.linalg.norm(qform[:3, :3], axis=0)
    for sform_code in (0, 1, 2, 4):
        for qform_code in (0, 1, 2):
            image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), None)
            image.set_qform(qform, qform_code)
            image.set_sform(sform, sform_code)
            nibabel.save(image, path)
            volume = read_volume(path)
            is_sform, is_qform = (np.abs(volume.affine - form).max() < 1e-3 for form in (sform, qform))
            remarks = " ".join(volume.source.remarks)
            assert is_sform or is_qform or "guess" in remarks
            assert ("guess" in remarks) == (sform_code == qform_code == 0)
            assert ("disagree" in remarks) == (sform_code > 0 and qform_code > 0)
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), None)
    image.set_sform(np.diag([2, 2, 2, 1]), 2)  # pixdim stays 1
    nibabel.save(image, path)
    sentence(path, "contradicts its sform", "set_qform")


def test_sheared_affines_in_every_format(tmp_path):
    tilted = np.diag([1.0, 1, 3, 1])
    tilted[1, 2] = 3 * np.tan(np.radians(12))
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), tilted), tmp_path / "x.nii.gz")
    rows = " ".join(f"({x},{y},{z})" for x, y, z in tilted[:3, :3].T)
    (tmp_path / "x.nrrd").write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 2 2\nencoding: raw\n"
        + f"space directions: {rows}\nspace origin: (0,0,0)\n\n".encode()
        + bytes(8)
    )
    sine = np.sin(np.radians(12))
    (tmp_path / "x.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 2 2 2\n"
        + f"TransformMatrix = 1 0 0 0 1 0 0 {sine} {np.cos(np.radians(12))}\n".encode()
        + b"ElementSpacing = 1 1 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        + bytes(8)
    )
    for name in ("x.nii.gz", "x.nrrd", "x.mha"):
        sentence(tmp_path / name, "sheared by 12.0 degrees", "resample")


def test_units_of_a_nifti(tmp_path):
    for unit, scale in (("meter", 1000), ("mm", 1), ("micron", 0.001)):
        image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([2, 3, 4, 1]))
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / "x.nii")
        assert read_volume(tmp_path / "x.nii").spacing == pytest.approx(np.array([2, 3, 4]) * scale)


def test_values_that_are_not_finite_are_remarked(tmp_path):
    array = np.ones((2, 3, 4), np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    write_volume(Volume(array, np.eye(4)), tmp_path / "x.nrrd")
    volume = read_volume(tmp_path / "x.nrrd")
    assert np.array_equal(volume.array, array, equal_nan=True)
    assert volume.source.remarks == ("3 values are not finite (NaN or infinite)",)
    info = describe(tmp_path / "x.nrrd")
    assert info["intensities"]["max"] == 1 and json.dumps(info, allow_nan=False)


def test_a_sequence_in_a_nrrd_needs_a_frame(tmp_path):
    array = RNG.integers(0, 255, (4, 3, 2, 5)).astype(np.uint8)  # k, j, i, frame
    for kind, frames in (("list", True), ("vector", False)):
        (tmp_path / "x.nrrd").write_bytes(
            b"NRRD0004\ntype: uchar\ndimension: 4\nspace: left-posterior-superior\nsizes: 5 2 3 4\nencoding: raw\n"
            + f"kinds: {kind} domain domain domain\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\n".encode()
            + b"space origin: (0,0,0)\n\n"
            + array.tobytes()
        )
        if frames:
            sentence(tmp_path / "x.nrrd", "5 volumes", "--frame 0 to --frame 4")
            assert np.array_equal(read_volume(tmp_path / "x.nrrd", frame=3).array, array[..., 3])
        else:
            assert np.array_equal(read_volume(tmp_path / "x.nrrd").array, array)


# Writing


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii", ".nii.gz"])
def test_every_voxel_comes_back_to_its_place(tmp_path, suffix):
    rng = np.random.default_rng(3)
    dtypes = [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]
    for n in range(48):
        shape = tuple(rng.integers(1, 9, 3)) + ((3,) if n % 8 == 7 else ())
        dtype = np.uint8 if n % 8 == 7 else dtypes[n % 6]
        volume = Volume(rng.uniform(0, 200, shape).astype(dtype), random_affine(rng))
        path = tmp_path / f"{n}{suffix}"
        write_volume(volume, path, {"model": "m"})
        back = read_volume(path)
        assert back.array.dtype == volume.array.dtype
        i, j, k = np.meshgrid(*[np.arange(size) for size in volume.shape], indexing="ij")
        found = back.ijk(volume.ras(np.stack([i, j, k], -1)))
        assert found == pytest.approx(np.round(found), abs=1e-3)
        at = np.round(found).astype(int)
        assert np.array_equal(back.array[at[..., 2], at[..., 1], at[..., 0]], volume.array[k, j, i])
        exact = 1e-9 if suffix in (".nrrd", ".mha") else 2e-4
        assert back.affine == pytest.approx(volume.affine, abs=exact)
        if suffix.startswith(".nii"):
            assert nibabel.load(path).affine == pytest.approx(volume.affine, abs=exact)


def test_headers_carry_the_notice_and_the_provenance(tmp_path):
    volume = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))
    for suffix in (".nrrd", ".mha", ".nii"):
        write_volume(volume, tmp_path / f"x{suffix}", {"MedXAI_layer": "conv\nlast", "MedXAI_model": "net"})
        head = (tmp_path / f"x{suffix}").read_bytes()
        assert NOTICE.encode() in head
        assert b"tmp" not in head
        if suffix != ".nii":
            image = sitk.ReadImage(str(tmp_path / f"x{suffix}"))
            assert image.GetMetaData("MedXAI_layer") == "conv last"
            assert image.GetMetaData("MedXAI_model") == "net"


@pytest.mark.parametrize(
    ("given", "written"),
    [(bool, np.uint8), (np.int64, np.uint8), (np.uint64, np.uint8), (np.float16, np.float32), (">i2", np.int16)],
)
def test_types_that_slicer_lacks(tmp_path, given, written):
    array = np.arange(8).reshape(2, 2, 2).astype(given)
    write_volume(Volume(array, np.eye(4)), tmp_path / "x.nrrd")
    back = read_volume(tmp_path / "x.nrrd").array
    assert back.dtype == written
    assert np.array_equal(back, array)


@pytest.mark.parametrize("name", ["x.nrrd", "x.nii.gz", "x.mha"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, name):
    path = tmp_path / name
    write_volume(Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
    before = path.read_bytes()

    def half_way(image, file, **options):
        with open(file, "wb") as out:
            out.write(b"half")
        raise RuntimeError("disk full")

    def interrupted(image, file, **options):
        with open(file, "wb") as out:
            out.write(b"half")
        raise KeyboardInterrupt

    for writer, error in ((half_way, InputError), (interrupted, KeyboardInterrupt)):
        monkeypatch.setattr(sitk, "WriteImage", writer)
        with pytest.raises(error):
            write_volume(Volume(np.ones((2, 2, 2), np.uint8), np.eye(4)), path)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == [name]


def test_places_that_cannot_be_written(tmp_path):
    volume = Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "x.nrrd", tmp_path / "none" / "x.nrrd", tmp_path / "x.jpg"):
        with pytest.raises(InputError, match="x"):
            write_volume(volume, path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


# Labels


def test_labels_round_trip_with_names_and_colours(tmp_path):
    array = np.zeros((4, 5, 6), np.int64)
    array[1:3, 2:4, 1:5], array[3, 4, 5] = 7, 300
    rows = (Label(7, "white matter: left", (0.25, 0.5, 1.0)), Label(300, "Läsion", (1.0, 0.0, 0.125)))
    labels = Labels(Volume(array, random_affine(np.random.default_rng(4))), rows)
    write_labels(labels, tmp_path / "x.seg.nrrd", {"MedXAI_model": "net"})
    back = read_labels(tmp_path / "x.seg.nrrd")
    assert back.rows == rows
    assert np.array_equal(back.volume.array, array)
    assert back.volume.grid.same_as(labels.volume.grid)
    write_labels(labels, tmp_path / "x.nii.gz")
    plain = read_labels(tmp_path / "x.nii.gz")
    assert [(row.value, row.name) for row in plain.rows] == [(7, "label 7"), (300, "label 300")]
    assert len({row.color for row in plain.rows}) == 2


def test_old_slicer_segmentation(data):
    path = data / "volumes/slicerrt_Bladder_Intersect_PTV.seg.nrrd"
    labels = read_labels(path)
    assert [(row.value, row.name) for row in labels.rows] == [(1, "Bladder_Intersect_PTV")]
    assert labels.volume.shape == (60, 89, 38)
    # header: RAS, the corner of the reference image at (250, 250, -122.5), extent beginning at 223 199 9
    corner = [250 - 223 * 0.976562, 250 - 199 * 0.976562, -122.5 + 9 * 2.5]
    assert labels.volume.ras([0, 0, 0]) == pytest.approx(corner)
    assert labels.ml()["Bladder_Intersect_PTV"] == pytest.approx(8 * 0.976562**2 * 2.5 / 1000)


def slicer_agrees(path) -> None:
    """Slicer must find the same segments, voxel by voxel in RAS."""
    slicer, vtk = pytest.importorskip("slicer"), pytest.importorskip("vtk")
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLApplicationLogic(application)
    logic.SetMRMLScene(scene)
    labels = read_labels(path)
    segmentation = logic.LoadSegmentationFromFile(str(path)).GetSegmentation()
    assert segmentation.GetNumberOfSegments() == len(labels.rows)
    for n, row in enumerate(labels.rows):
        segment = segmentation.GetNthSegment(n)
        image = segment.GetRepresentation("Binary labelmap")
        to_ras = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(to_ras)
        i0, i1, j0, j1, k0, k1 = image.GetExtent()
        voxels = np.array(image.GetPointData().GetScalars()).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
        where = np.argwhere(voxels == segment.GetLabelValue())
        there = [to_ras.MultiplyPoint((i + i0, j + j0, k + k0, 1))[:3] for k, j, i in where]
        here = labels.volume.ras(np.argwhere(labels.volume.array == row.value)[:, ::-1])
        assert segment.GetName() == row.name
        assert np.array(there) == pytest.approx(here)


def test_slicer_sees_the_segments_that_are_written(tmp_path):
    array = np.zeros((8, 9, 10), np.uint8)
    array[2:5, 3:8, 4:9], array[7, 8, 9] = 7, 3
    affine = random_affine(np.random.default_rng(5))
    affine[:3, 0] *= np.sign(np.linalg.det(affine[:3, :3]))  # Slicer reorders a left-handed one
    rows = (Label(7, "organ", (0.25, 0.5, 1.0)), Label(3, "lesion", (1.0, 0.0, 0.125)))
    write_labels(Labels(Volume(array, affine), rows), tmp_path / "x.seg.nrrd")
    slicer_agrees(tmp_path / "x.seg.nrrd")


def test_slicer_sees_an_old_segmentation_at_the_same_place(data):
    slicer_agrees(data / "volumes/slicerrt_Bladder_Intersect_PTV.seg.nrrd")


def test_overlapping_layers(tmp_path):
    layers = np.zeros((2, 3, 4, 2), np.uint8)  # k, j, i, layer
    layers[0, :2, :, 0] = 1
    layers[0, 1:, :, 1] = 1
    keys = ""
    for n, name in enumerate(("organ", "lesion")):
        keys += f"Segment{n}_ID:=S{n}\nSegment{n}_Name:={name}\nSegment{n}_LabelValue:=1\nSegment{n}_Layer:={n}\n"
    text = (
        "NRRD0004\ntype: uchar\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 4 3 2\nencoding: raw\n"
        "kinds: list domain domain domain\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
        f"{keys}Segmentation_ReferenceImageExtentOffset:=0 0 0\n\n"
    )
    (tmp_path / "x.seg.nrrd").write_bytes(text.encode() + layers.tobytes())
    labels = read_labels(tmp_path / "x.seg.nrrd")
    assert [(row.value, row.name) for row in labels.rows] == [(1, "organ"), (2, "lesion")]
    assert labels.volume.array[0, :, 0].tolist() == [1, 3, 2]
    assert labels.counts() == {"organ": 8, "lesion": 8} and labels.count("lesion") == 8
    assert labels.volume.source.remarks == ("segments overlap in 4 voxels, which count for each of them",)
    (tmp_path / "y.seg.nrrd").write_bytes(text.replace("Layer:=1", "Layer:=5").encode() + layers.tobytes())
    with pytest.raises(InputError, match="Segment entries"):
        read_labels(tmp_path / "y.seg.nrrd")


def test_floats_may_be_labels_if_whole(tmp_path):
    write_volume(Volume(np.full((2, 2, 2), 3.0, np.float32), np.eye(4)), tmp_path / "whole.nrrd")
    assert read_labels(tmp_path / "whole.nrrd").rows[0].value == 3
    write_volume(Volume(np.full((2, 2, 2), 0.5, np.float32), np.eye(4)), tmp_path / "half.nrrd")
    with pytest.raises(InputError, match="whole numbers"):
        read_labels(tmp_path / "half.nrrd")


def test_what_is_no_label_map(data):
    with pytest.raises(InputError, match="-1100"):
        read_labels(data / "volumes/ts_example_ct_sm.nii.gz")
    with pytest.raises(InputError, match="RGB"):
        read_labels(data / "volumes/niivue_ct_perfusion_rgb.nii.gz")
    assert len(read_labels(data / "volumes/ts_example_seg.nii.gz").rows) == 41


# Pictures


def test_pictures(tmp_path):
    image_of = pytest.importorskip("PIL.Image").fromarray
    rgb = RNG.integers(0, 255, (6, 9, 3)).astype(np.uint8)
    grey16 = RNG.integers(0, 65535, (6, 9)).astype(np.uint16)
    image_of(grey16).save(tmp_path / "grey16.png")
    image_of(grey16).save(tmp_path / "grey16.tiff")
    image_of(rgb).save(tmp_path / "rgb.png")
    image_of(np.dstack([rgb, rgb[..., :1]])).save(tmp_path / "rgba.png")
    image_of(rgb[..., 0]).convert("P").save(tmp_path / "palette.png")
    image_of(rgb[..., 0] > 99).save(tmp_path / "bits.png")
    exif = image_of(rgb).getexif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    image_of(rgb).save(tmp_path / "turned.tif", exif=exif)
    expected = {
        "grey16.png": (grey16, ""),
        "grey16.tiff": (grey16, ""),
        "rgb.png": (rgb, ""),
        "rgba.png": (rgb, "alpha"),
        "palette.png": (rgb[..., 0], "grey"),
        "bits.png": ((rgb[..., 0] > 99) * 255, "0 and 255"),
        "turned.tif": (np.rot90(rgb, -1), "EXIF"),
    }
    for name, (array, word) in expected.items():
        volume = read_volume(tmp_path / name)
        assert np.array_equal(volume.array[0], array), name
        assert "1 mm" in volume.source.remarks[0] and word in " ".join(volume.source.remarks[1:]), name
        assert volume.axes == "" and not volume.placed and volume.spacing.tolist() == [1, 1, 1]
    image_of(rgb).save(tmp_path / "pages.tif", save_all=True, append_images=[image_of(rgb[::-1])])
    pages = read_volume(tmp_path / "pages.tif")
    assert np.array_equal(pages.array, [rgb, rgb[::-1]]) and pages.unit == ""
    assert np.array_equal(read_volume(tmp_path / "pages.tif", frame=1).array[0], rgb[::-1])
    damaged = (tmp_path / "rgb.png").read_bytes()[:120]
    (tmp_path / "damaged.png").write_bytes(damaged)
    sentence(tmp_path / "damaged.png", "damaged")


def test_pictures_of_the_collection(data):
    rgba = [path for path in (data / "images2d/nih_cxr").glob("*.png") if read_volume(path).channels == 3]
    assert len(rgba) == 1  # the others are grey
    assert len(find_cases(data / "images2d/brain_tumor_mri")) == 45


# Folders and descriptions


def test_cases_of_a_folder(tmp_path):
    volume = Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    for name in ("b/z.nrrd", "b/a.nii.gz", "a.mha", ".hidden/x.nrrd", "b/.x.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_volume(volume, tmp_path / name)
    for name in ("notes.txt", "b/table.csv", "b/z.nrrd.json"):
        (tmp_path / name).write_text("x")
    assert [case.name for case in find_cases(tmp_path)] == ["a.mha", "b/a.nii.gz", "b/z.nrrd"]
    assert find_cases(tmp_path / "b/a.nii.gz") == [(tmp_path / "b/a.nii.gz", "a.nii.gz")]
    (tmp_path / "b/header.hdr").write_bytes(b"x")
    (tmp_path / "b/header.img").write_bytes(b"x")
    assert [case.name for case in find_cases(tmp_path)][2] == "b/header.hdr"
    assert len(find_cases(tmp_path)) == 4
    (tmp_path / "b/deep").mkdir()
    (tmp_path / "b/deep/IM0001").write_bytes(bytes(128) + b"DICM")
    said = []
    assert len(find_cases(tmp_path, said.append)) == 4
    assert said == ["b/deep/IM0001: left out, as DICOM beside volumes; give it by itself."]
    (tmp_path / "series").mkdir()
    for name in ("1", "2", "preview.png"):
        (tmp_path / "series" / name).write_bytes(bytes(128) + b"DICM" if name < "p" else b"x")
    assert find_cases(tmp_path / "series", said.append) == [(tmp_path / "series", "series")]
    assert said[1] == "preview.png: left out, as a picture beside DICOM; give it by itself."
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        find_cases(tmp_path / "empty")


def test_description(data):
    info = json.loads(json.dumps(describe(data / "volumes/TCGA-FG-6692_t1c.nii.gz"), allow_nan=False))
    geometry = info["geometry"]
    assert geometry["shape"] == [256, 224, 26] and geometry["axes"] == "LAS" and geometry["handedness"] == "left"
    assert geometry["spacing_mm"] == pytest.approx([0.898, 0.898, 5.5], abs=1e-3)
    assert geometry["oblique_degrees"] == pytest.approx(5.5, abs=0.1)
    assert geometry["extent_mm"][2] == pytest.approx(143)
    assert info["intensities"]["max"] == 2095 and info["intensities"]["type"] == "int16"
    assert any("anisotropic" in remark for remark in info["remarks"])
