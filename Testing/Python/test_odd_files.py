"""Files that are read wrongly without a word by the libraries underneath, or that mix what does not belong together: read
rightly, or refused in one sentence. Needs no torch."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_as_they_come import AXES, meta, nifti, nrrd
from test_dicom import series_files, slice_file

from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.cohort import find_cases
from MedXAILib.io.read import read_volume
from MedXAILib.io.segmentation import read_labels
from MedXAILib.io.write import write_volume

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 65535, (6, 5, 7)).astype(np.uint16)


def refused(path, said: str, **options) -> None:
    with pytest.raises(InputError, match=said) as failure:
        read_volume(path, **options)
    assert str(failure.value).startswith(str(path)) and "\n" not in str(failure.value)


# TIFF and pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (STACK, {"volumetric": True}, "ImageDepth"),
        (STACK, {"truncate": True}, "more pages than it has"),
        (STACK[0], {"extratags": [(274, "H", 1, 6, True)]}, "lying on its side"),
        (STACK.astype(np.uint8)[0], {"extratags": [(274, "H", 1, 8, True)]}, "lying on its side"),
        (STACK.reshape(3, 2, 5, 7), {"imagej": True, "metadata": {"axes": "ZCYX"}}, "2 channels and 1 time points"),
        (STACK.reshape(3, 2, 5, 7), {"imagej": True, "metadata": {"axes": "TZYX"}}, "1 channels and 3 time points"),
        (STACK.reshape(2, 3, 5, 7), {"ome": True, "metadata": {"axes": "CZYX"}}, "2 channels and 1 time points"),
        (np.stack([STACK[:3]] * 2)[:, :3], {"photometric": "rgb", "planarconfig": "separate"}, "planes of their own"),
    ],
    ids=["volumetric", "truncated", "on its side", "on its side, 8 bits", "channels", "times", "OME", "planar"],
)
def test_a_tiff_that_would_be_read_wrongly_is_refused(tmp_path, array, options, said):
    tifffile.imwrite(tmp_path / "x.tif", array, **options)
    refused(tmp_path / "x.tif", said)


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
    ids=str,
)
def test_a_stack_of_slices_is_read_as_it_lies(tmp_path, options):
    tifffile.imwrite(tmp_path / "x.tif", STACK, **options)
    assert np.array_equal(read_volume(tmp_path / "x.tif").array, STACK)


def test_a_packed_picture_on_its_side_is_turned(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", STACK[0], compression="zlib", extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(read_volume(tmp_path / "x.tif").array[0], np.rot90(STACK[0], -1))


def test_one_page_of_a_mixed_stack_can_be_had(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", STACK.reshape(3, 2, 5, 7), imagej=True, metadata={"axes": "ZCYX"})
    assert np.array_equal(read_volume(tmp_path / "x.tif", frame=3).array[0], STACK[3])


@pytest.mark.parametrize("big", [False, True])
def test_a_stack_that_is_cut_short_is_no_shorter_stack(tmp_path, big):
    with tifffile.TiffWriter(tmp_path / "x.tif", bigtiff=big) as file:
        for page in STACK:
            file.write(page, contiguous=False)
    content = (tmp_path / "x.tif").read_bytes()
    for length in range(16, len(content), 37):
        (tmp_path / "cut.tif").write_bytes(content[:length])
        refused(tmp_path / "cut.tif", r"\.$")


def test_further_pictures_in_a_photograph_are_no_slices(tmp_path):
    first, second = (Image.fromarray(page.astype(np.uint8)) for page in STACK[:2])
    first.save(tmp_path / "x.png", save_all=True, append_images=[second])
    volume = read_volume(tmp_path / "x.png")
    assert volume.shape[2] == 1 and "1 further pictures in the file were left out" in volume.source.remarks


# MetaImage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["s%d.raw 2 1 -1", "s%d.raw 1 2 1 2", "LIST 3\ns1.raw\ns2.raw", "LIST x\ns1.raw"])
def test_no_memory_is_read_in_the_place_of_voxels(tmp_path, where):
    for n in (1, 2):
        (tmp_path / f"s{n}.raw").write_bytes(bytes(12))
    meta(tmp_path / "x.mhd", f"ElementDataFile = {where}", size="2 6 2")
    refused(tmp_path / "x.mhd", "is none that is read|2 files|data files")


def test_packed_voxels_without_their_length(tmp_path):
    packed = zlib.compress(bytes(range(12)))
    (tmp_path / "x.zraw").write_bytes(packed)
    meta(tmp_path / "x.mhd", "CompressedData = True", "ElementDataFile = x.zraw")
    assert read_volume(tmp_path / "x.mhd").array.ravel().tolist() == list(range(12))
    meta(tmp_path / "x.mha", "CompressedData = True", "ElementDataFile = LOCAL", data=packed)
    refused(tmp_path / "x.mha", "cut short or damaged")


@pytest.mark.parametrize(
    ("lines", "assumed"),
    [
        (["AnatomicalOrientation = RAI", "Offset = 1 2 3", "ElementSpacing = 1 1 2"], ()),
        (["AnatomicalOrientation = RAI", "ElementSpacing = 1 1 2"], ("position",)),
        (["AnatomicalOrientation = RAI", "Offset = 1 2 3"], ("spacing", "thickness")),
        (["AnatomicalOrientation = AAA", "Offset = 1 2 3", "ElementSpacing = 1 1 2"], ("position", "orientation")),
        (["AnatomicalOrientation =", "Offset = 1 2 3", "ElementSpacing = 1 1 2"], ("position", "orientation")),
    ],
)
def test_a_metaimage_says_what_it_does_not_know(tmp_path, lines, assumed):
    meta(tmp_path / "x.mha", *lines, "ElementDataFile = LOCAL", data=bytes(12))
    assert set(read_volume(tmp_path / "x.mha").source.assumed) == set(assumed)


@pytest.mark.parametrize("name", ["HeaderSize", "CompressedDataSize"])
def test_a_metaimage_whose_numbers_are_words_is_refused(tmp_path, name):
    meta(tmp_path / "x.mha", f"{name} = many", "ElementDataFile = LOCAL", data=bytes(12))
    refused(tmp_path / "x.mha", "no MetaImage file, or a damaged one")


@pytest.mark.parametrize(("unit", "mm"), [("cm", 10), ("um", 0.001), ("mm", 1), ("?", 1)])
def test_distance_units_become_mm(tmp_path, unit, mm):
    lines = (f"DistanceUnits = {unit}", "Offset = 1 2 3", "ElementSpacing = 2 2 3", "AnatomicalOrientation = RAI")
    meta(tmp_path / "x.mha", *lines, "ElementDataFile = LOCAL", data=bytes(12))
    volume = read_volume(tmp_path / "x.mha")
    assert np.allclose(
        volume.affine, np.diag([-2 * mm, -2 * mm, 3 * mm, 1]) + np.outer([-mm, -2 * mm, 3 * mm, 0], [0, 0, 0, 1])
    )


# NRRD and NIfTI -------------------------------------------------------------------------------------------------------


def test_units_of_spacings_become_mm(tmp_path):
    volume = read_volume(nrrd(tmp_path / "x.nrrd", "spacings: 0.1 0.1 0.2", 'units: "cm" "cm" "mm"'))
    assert np.allclose(volume.spacing, [1, 1, 0.2])


@pytest.mark.parametrize(
    ("lines", "assumed"),
    [
        (["space: LPS", AXES], ()),
        (["space: LPS", AXES.partition("\n")[0]], ("position",)),
        (["space: LPS"], ("position", "orientation", "spacing", "thickness")),
    ],
)
def test_an_nrrd_says_what_it_does_not_know(tmp_path, lines, assumed):
    assert read_volume(nrrd(tmp_path / "x.nrrd", *lines)).source.assumed == assumed


def test_a_quaternion_longer_than_one_turns_and_does_not_stretch(tmp_path):
    fields = {"quatern_b": 0.9, "quatern_c": 0.9, "qform_code": 1, "sform_code": 0}
    volume = read_volume(nifti(tmp_path / "x.nii", np.zeros((2, 3, 4), np.int16), np.diag([2, 3, 4, 1]), **fields))
    assert np.allclose(volume.affine[:3, :3], np.array([[0, 3, 0], [2, 0, 0], [0, 0, -4]]), atol=1e-6)


def test_a_pair_in_capitals_is_one_case(tmp_path):
    import nibabel

    nibabel.Nifti1Pair(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_filename(str(tmp_path / "p.img"))
    for end in ("hdr", "img"):
        (tmp_path / f"p.{end}").rename(tmp_path / f"P.{end.upper()}")
    assert [case.name for case in find_cases(tmp_path)] == ["P.HDR"]


# DICOM ----------------------------------------------------------------------------------------------------------------


def test_slices_that_share_their_instance_are_slices_all_the_same(tmp_path):
    pixels = series_files(tmp_path, [0, 2, 4, 6], SOPInstanceUID="1.2.3.4")
    assert np.array_equal(np.sort(read_volume(tmp_path).array, None), np.sort(pixels.astype(np.int32) - 1024, None))


def test_two_images_of_one_place_and_instance_are_no_copies(tmp_path):
    series_files(tmp_path, [0, 2, 4])
    for n in range(2):
        slice_file(tmp_path / f"more{n}", STACK[n, :5, :4], np.array([10, 20, 30]), sop="1.2.3.4.0")
    refused(tmp_path, r"\.$")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PatientID", "2 patients"),
        ("StudyInstanceUID", "2 studies"),
        ("FrameOfReferenceUID", "2 frames of reference"),
    ],
)
def test_two_patients_are_no_series(tmp_path, name, words):
    series_files(tmp_path, [0, 2, 4])
    for n in range(3, 6):
        place = np.array([10, 20, 30]) + 2 * n * np.array([-0.8, 0.6, 0])
        slice_file(tmp_path / f"b{n}", STACK[n, :5, :4], place, **{name: "9.9"})
    refused(tmp_path, f"images of {words} bear the same SeriesInstanceUID")


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"version https://git-lfs.github.com/spec/v1\n", "half", "140"], ids=str
)
def test_a_series_is_not_one_slice_shorter(tmp_path, content):
    series_files(tmp_path, [0, 2, 4])
    for file in sorted(tmp_path.iterdir()):
        file.rename(file.with_suffix(".dcm"))
    whole = file.with_suffix(".dcm").read_bytes()
    lengths = {"half": whole.index(b"\x28\x00\x10\x00"), "140": 140}  # before Rows
    content = whole[: lengths[content]] if isinstance(content, str) else content
    file.with_suffix(".dcm").write_bytes(content)
    with pytest.raises(InputError, match=f"{file.stem}.dcm: (this is no DICOM file|the DICOM file is damaged)"):
        read_volume(tmp_path)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 3e9), (1e17, 0), (100000, 0)])
def test_rescaled_values_that_are_large_do_not_overflow(tmp_path, slope, intercept):
    pixels = series_files(tmp_path, [0, 2], RescaleSlope=f"{slope:.0f}", RescaleIntercept=f"{intercept:.0f}")
    truth = np.sort(pixels.astype(np.float64) * slope + intercept, None)
    assert np.allclose(np.sort(read_volume(tmp_path).array, None), truth, rtol=1e-6)


# Folders, names, labels -----------------------------------------------------------------------------------------------


def test_a_link_upwards_gives_no_case_twice(tmp_path):
    write_volume(Volume(np.zeros((2, 2, 2), np.float32), np.eye(4)), tmp_path / "x.nrrd")
    (tmp_path / "in").mkdir()
    (tmp_path / "x.nrrd").rename(tmp_path / "in" / "x.nrrd")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    assert [case.name for case in find_cases(tmp_path / "in")] == ["x.nrrd"]


def test_a_folder_that_is_no_utf8_is_written_to_and_read(tmp_path):
    folder = tmp_path / "out\udcff"
    folder.mkdir()
    volume = Volume(STACK.astype(np.float32), np.diag([1.0, 2.0, 3.0, 1.0]))
    for name in ("x.nrrd", "y\udcfe.nii.gz", "z.mha"):
        write_volume(volume, folder / name)
        back = read_volume(folder / name)
        assert np.array_equal(back.array, STACK) and np.allclose(back.affine, volume.affine)
    assert len(list(folder.iterdir())) == 3, "nothing else is left"
    (folder / "w\udcfd.mhd").write_bytes(
        b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 3\nElementType = MET_UCHAR\nElementDataFile = w.raw\n"
    )
    (folder / "w.raw").write_bytes(bytes(range(12)))
    assert read_volume(folder / "w\udcfd.mhd").array.ravel().tolist() == list(range(12))


def test_an_image_is_no_label_map(tmp_path):
    write_volume(Volume(STACK % 200, np.eye(4)), tmp_path / "image.nrrd")
    with pytest.raises(InputError, match="looks like an image and not like a label map"):
        read_labels(tmp_path / "image.nrrd")
    blocks = np.kron(np.arange(64).reshape(4, 4, 4), np.ones((5, 5, 5), int)).astype(np.uint8)
    write_volume(Volume(blocks, np.eye(4)), tmp_path / "labels.nrrd")
    assert len(read_labels(tmp_path / "labels.nrrd").rows) == 63
