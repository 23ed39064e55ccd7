"""What is said of a map and of its place is true: the lines N of a suspicious reviewer, and letter D, by name."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_runs import written as written_run
from torch import nn

from MedXAILib import Attribution, explain
from MedXAILib.attribution.registry import methods
from MedXAILib.caveats import texts
from MedXAILib.findings.finding import find
from MedXAILib.findings.said import CaseResult, Said
from MedXAILib.geometry.volume import Source, Volume
from MedXAILib.io.describe import describe
from MedXAILib.io.read import read_volume
from MedXAILib.io.write import write_volume
from MedXAILib.models.card import ModelCard
from MedXAILib.models.loading import Model
from MedXAILib.mrml.overlay import Overlay
from MedXAILib.prediction import predict
from MedXAILib.preprocessing.prepare import prepare

ROOT = Path(__file__).parents[2]


def body(channels: int = 8) -> nn.Sequential:
    layers = [
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, channels, 3, padding=1),
    ]
    return nn.Sequential(*layers, nn.ReLU())


def pooled(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)).eval()


SAID = Said(model="m", summary={"probabilities": {"c": 0.5}})


def slices(count: int = 1, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))


# "the map's JSON reads randomisation_check: passes"


def test_a_published_check_is_told_as_published_and_not_run_here(tmp_path):
    found = explain(pooled(), slices(), [0], ["gradcam", "guidedbackprop", "occlusion"], ["0.3"])
    for n, a in enumerate(found):
        written_run(tmp_path, CaseResult(name=f"x{n}", reference=a.volume, said=SAID, findings=(find(a, a.volume),)))
    told = {}
    for path in tmp_path.glob("x?/x?_0_*.json"):
        facts = json.loads(path.read_text())
        assert "randomisation_check" not in facts
        told[facts.get("method")] = facts.get("published_randomisation_check")
    assert told == {
        "gradcam": "passes; not run on this network",
        "guidedbackprop": "fails; not run on this network",
        "occlusion": "not tested; not run on this network",
    }


# "every map says what limits belief in it is false"


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = body(), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return nn.functional.interpolate(self.head(self.body(x)), scale_factor=2)


@pytest.mark.parametrize("name", methods())
def test_every_map_says_how_it_is_read(name):
    network = Segmenter().eval() if methods()[name].task == "segmentation" else pooled()
    layer = ["body.3"] if methods()[name].task == "segmentation" else ["0.4" if name == "cam" else "0.3"]
    for a in explain(network, slices(), [1], [name], [] if name == "layerwise" else layer, samples=20):
        assert methods()[name].reading in texts(a.caveats)
        assert all(isinstance(sentence, str) and sentence.endswith(".") for sentence in texts(a.caveats))


def test_no_two_methods_are_read_alike():
    readings = [m.reading for m in methods().values()]
    assert len(set(readings)) == len(readings) and all(
        m.title.split()[0] in m.reading for m in methods().values() if m.name in ("gradcam", "ig", "lime", "rise")
    )


def test_what_the_sentences_say_is_so():
    """Gradient x input and LRP are 0 where the input is; integrated gradients where it is the baseline; Eigen-CAM and
    guided backpropagation do (hardly) not know the class; saliency does not know the direction."""
    x = slices()
    x[..., :8] = 0
    network = pooled()

    def values(name: str, target: int = 0, **options) -> np.ndarray:
        return explain(network, x, [target], [name], ["0.3"], **options)[0].volume.array

    assert not values("gradxinput")[..., :8].any() and values("gradxinput").any()
    assert np.allclose(values("lrp"), values("gradxinput"), atol=1e-6)
    assert not values("ig", baseline="zero")[..., :8].any()
    assert np.array_equal(values("eigencam", 0), values("eigencam", 1))
    negated = pooled()
    negated[3].weight.data.neg_(), negated[3].bias.data.neg_()
    assert np.allclose(explain(negated, x, [0], ["saliency"])[0].volume.array, values("saliency"), atol=1e-6)


# "invented anatomy": what a file gives, kind by kind


def nifti(path, codes, unit):
    write_volume(Volume(np.zeros((3, 4, 5), np.int16), np.diag([2.0, 2, 2, 1])), path)
    raw = bytearray(path.read_bytes())
    raw[252:256] = struct.pack("<2h", codes, codes)
    raw[123] = unit
    path.write_bytes(raw)


def nrrd(path, *lines):
    head = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 5 4 3", "encoding: raw", *lines]
    path.write_bytes("\n".join(head).encode() + b"\n\n" + bytes(60))


def meta(path, *lines):
    head = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "DimSize = 5 4 3",
        *lines,
        "ElementType = MET_UCHAR",
    ]
    path.write_bytes("\n".join([*head, "ElementDataFile = LOCAL"]).encode() + b"\n" + bytes(60))


def picture(path):
    from PIL import Image

    Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5)).save(path)


def itk_2d(path):
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(path))


def dicom(path, **attributes):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = "1.2.840.10008.5.1.4.1.1.1", "1.2.3", "CR"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.PixelData = 7, 0, bytes(20)
    for name, value in attributes.items():
        setattr(data, name, value)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)


PLACED = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
AXES = ("space directions: (1,0,0) (0,1,0) (0,0,1)", "space origin: (0,0,0)")
ANATOMICAL = "AnatomicalOrientation = RAI"
NOTHING, SPACING_ONLY = ("", False, ""), ("", False, "mm")
FILES = {
    # file -> (how it is made, (letters, placed, unit of lengths), unit of sizes)
    "jpeg.jpg": (picture, NOTHING, "pixels"),
    "png.png": (picture, NOTHING, "pixels"),
    "tiff.tif": (picture, NOTHING, "pixels"),
    "coded.nii": (lambda p: nifti(p, 1, 2), ("RAS", True, "mm"), "mL"),
    "coded, no unit.nii": (lambda p: nifti(p, 1, 0), ("RAS", True, "mm"), "mL"),
    "no codes.nii": (lambda p: nifti(p, 0, 2), SPACING_ONLY, "mL"),
    "no codes, no unit.nii": (lambda p: nifti(p, 0, 0), NOTHING, "voxels"),
    "space.nrrd": (lambda p: nrrd(p, "space: left-posterior-superior", *AXES), ("LPS", True, "mm"), "mL"),
    "short name.nrrd": (lambda p: nrrd(p, "space: RAS", *AXES), ("RAS", True, "mm"), "mL"),
    "spacings.nrrd": (lambda p: nrrd(p, "spacings: 1 1 2"), SPACING_ONLY, "mL"),
    "bare.nrrd": (nrrd, NOTHING, "voxels"),
    "anatomical.mha": (lambda p: meta(p, ANATOMICAL, "Offset = 0 0 0", "ElementSpacing = 1 1 1"), ("LPS", True, "mm"), "mL"),
    "no offset.mha": (lambda p: meta(p, ANATOMICAL, "ElementSpacing = 1 1 1"), ("LPS", False, "mm"), "mL"),
    "unknown.mha": (lambda p: meta(p, "AnatomicalOrientation = ???", "ElementSpacing = 1 1 1"), SPACING_ONLY, "mL"),
    "none.mha": (lambda p: meta(p, "ElementSpacing = 1 1 1"), SPACING_ONLY, "mL"),
    "nothing.mha": (meta, NOTHING, "voxels"),
    "flat.mha": (itk_2d, SPACING_ONLY, "pixels"),
    "flat.nrrd": (itk_2d, SPACING_ONLY, "pixels"),
    "radiograph.dcm": (dicom, NOTHING, "pixels"),
    "R-F.dcm": (lambda p: dicom(p, PatientOrientation=["R", "F"]), ("RI", False, ""), "pixels"),
    "lateral.dcm": (lambda p: dicom(p, PatientOrientation=["A", "F"]), ("AI", False, ""), "pixels"),
    "mammogram.dcm": (lambda p: dicom(p, PatientOrientation=["P", "FL"]), ("PI", False, ""), "pixels"),
    "head up.dcm": (lambda p: dicom(p, PatientOrientation=["L", "H"]), ("LS", False, ""), "pixels"),
    "senseless.dcm": (lambda p: dicom(p, PatientOrientation=["L", "R"]), NOTHING, "pixels"),
    "half.dcm": (lambda p: dicom(p, PatientOrientation=["L", ""]), NOTHING, "pixels"),
    "horse.dcm": (
        lambda p: dicom(p, PatientOrientation=["L", "R"], AnatomicalOrientationType="QUADRUPED"),
        NOTHING,
        "pixels",
    ),
    "detector.dcm": (lambda p: dicom(p, ImagerPixelSpacing=[0.2, 0.2]), ("", False, "mm at the detector"), "pixels"),
    "uncalibrated.dcm": (
        lambda p: dicom(p, ImagerPixelSpacing=[0.2, 0.2], PixelSpacing=[0.2, 0.2]),
        ("", False, "mm at the detector"),
        "pixels",
    ),
    "calibrated.dcm": (lambda p: dicom(p, ImagerPixelSpacing=[0.2, 0.2], PixelSpacing=[0.15, 0.15]), SPACING_ONLY, "pixels"),
    "placed.dcm": (lambda p: dicom(p, PixelSpacing=[1, 1], SliceThickness=2, **PLACED), ("LPS", True, "mm"), "mL"),
    "placed, no thickness.dcm": (lambda p: dicom(p, PixelSpacing=[1, 1], **PLACED), ("LPS", True, "mm"), "pixels"),
    "placed, no spacing.dcm": (lambda p: dicom(p, SliceThickness=2, **PLACED), ("LPS", False, ""), "pixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_gives_of_its_geometry(tmp_path, name):
    make, given, unit = FILES[name]
    make(tmp_path / name)
    volume = read_volume(tmp_path / name)
    assert (volume.axes, volume.placed, volume.unit) == given and volume.size_unit == unit
    told = json.dumps(describe(tmp_path / name)["geometry"])
    letters, placed, length = given
    assert (
        ('"axes"' in told) == bool(letters)
        and ("origin_ras_mm" in told) == placed
        and ("mm" in told) == bool(length or placed)
    )


def test_the_radiograph_of_the_collection(data):
    """Its header says PatientOrientation R\\F and nothing else of its place."""
    volume = read_volume(data / "dicom/RG3_J2KR.dcm")
    assert volume.axes == "RI" and not volume.placed and volume.unit == ""


# Nothing that writes says more than the file


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """Every text that is drawn into a picture."""
    from PIL import ImageDraw

    said, write = [], ImageDraw.ImageDraw.text

    def listen(self, place, words, *more, **options):
        said.append(words)
        return write(self, place, words, *more, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", listen)
    return said


def hot(volume: Volume, at=(0, 30, 90)) -> Volume:
    heat = np.zeros(volume.array.shape[:3], np.float32)
    heat[at] = 1
    return volume.with_array(heat)


def radiograph(assumed, letters="", shape=(1, 100, 120), name="x.dcm") -> Volume:
    rng = np.random.default_rng(0)
    return Volume(
        rng.integers(0, 99, shape).astype(np.uint8),
        np.diag([-1.0, -1, 1, 1]),
        Source(name, "", {}, (), assumed, letters),
    )


EVERYTHING = ("position", "orientation", "spacing", "thickness")
DRAWN = {
    # (what is assumed, letters of the header, letters on the left, on the right, above; a scale bar's unit)
    "jpeg": (EVERYTHING, "", ("", "", ""), ""),
    "R-F": (EVERYTHING, "RI", ("L", "R", "S"), ""),
    "L-F": (EVERYTHING, "LI", ("R", "L", "S"), ""),
    "detector": (("position", "orientation", "thickness", "magnification"), "", ("", "", ""), "mm at the detector"),
    "placed": ((), "", ("R", "L", "A"), "mm"),
}


def as_overlay(number: int, values: Volume, caveats: tuple[str, ...] = ()) -> Overlay:
    about = {"target": "t", "said": "p 1", "method": f"M{number}"}
    return Overlay(name=f"m{number}", map=values, signed=False, caveats=caveats, **about)


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("kind", DRAWN)
def test_a_picture_draws_only_what_the_file_gives(tmp_path, written, kind, count):
    """One map, and a contact sheet."""
    pytest.importorskip("slicer")
    from MedXAILib.outputs.pictures.snapshot import snapshot

    assumed, header, (left, right, above), unit = DRAWN[kind]
    volume = radiograph(assumed, header)
    overlays = [as_overlay(n, hot(volume), ("Coarse.",)) for n in range(count)]
    snapshot(volume, overlays, tmp_path / "x.png", solid=False)
    marks = written[written.index(left) if left else 0 :]
    drawn = [words for words in written if words in set("RLAPSI")]
    assert set(drawn) == {letter for letter in (left, right, above) if letter}
    if left:
        assert marks[:3] == [left, right, above]
    bars = [words for words in written if words.split(" ", 1)[0].isdigit() and words.endswith(("mm", "detector"))]
    assert {bar.split(" ", 1)[1] for bar in bars} == ({unit} if unit else set())
    if count == 1:
        peak = (
            "Peak at L 90.0, P 30.0, S 0.0 mm."
            if kind == "placed"
            else "Peak at column 90, row 30; patient position unknown."
        )
        assert any(words.startswith(peak) for words in written)


def test_slices_of_a_volume_without_a_place_are_numbered(tmp_path, written):
    pytest.importorskip("slicer")
    from MedXAILib.outputs.pictures.snapshot import snapshot

    volume = radiograph(EVERYTHING[:3], shape=(9, 20, 24), name="x.nrrd")
    snapshot(volume, [as_overlay(0, hot(volume, (4, 5, 6)))], tmp_path / "x.png", solid=False)
    assert {"slice 4", "column 6", "row 5"} <= set(written)
    assert not any(words in set("RLAPSI") or words.endswith("mm") for words in written)


def test_a_contact_sheet_names_the_limits_of_each_map(tmp_path, written):
    pytest.importorskip("slicer")
    from MedXAILib.outputs.pictures.snapshot import snapshot

    volume = radiograph(EVERYTHING)
    limits = [("Shared.", f"Own {n}.") for n in range(8)]
    overlays = [as_overlay(n, hot(volume), limits[n]) for n in range(8)]
    snapshot(volume, overlays, tmp_path / "x.png")
    numbers = {
        words.split(" ", 1)[1]: words.split(" ", 1)[0] for words in written if words[:1].isdigit() and " " in words
    }
    assert written.count(f"{numbers['Shared.']} Shared.") == 1
    for n in range(8):
        own = sorted((int(numbers["Shared."]), int(numbers[f"Own {n}."])))
        assert f"limits {own[0]}-{own[1]}" in written or f"limits {own[0]}, {own[1]}" in written


def test_tables_leave_open_what_the_file_leaves_open(tmp_path):
    volume = radiograph(EVERYTHING, shape=(1, 10, 12))
    heat = np.zeros(volume.array.shape, np.float32)
    heat[0, 2:5, 6:8] = [[1, 2], [3, 4], [5, 6]]
    a = Attribution(volume=volume.with_array(heat), method="gradcam", target="c", label="c")
    found = find(a, volume, mass_fraction=1.0)
    written_run(tmp_path, CaseResult(name="x.jpg", reference=volume, said=SAID, findings=(found,)))
    with (tmp_path / "regions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert [row[c] for c in ("volume_ml", "r", "a", "s")] == [""] * 4 and row["voxels"] == "6"
    assert float(row["i"]) == pytest.approx((6 * 9 + 7 * 12) / 21, rel=1e-5)
    assert float(row["j"]) == pytest.approx((2 * 3 + 3 * 7 + 4 * 11) / 21, rel=1e-5)


def test_cells_and_sizes_are_told_in_pixels_where_nothing_better_is_known():
    found = explain(pooled(), radiograph(EVERYTHING, shape=(1, 32, 32)), [0], ["gradcam"], ["0.3"])[0]
    assert "One map cell covers 2 x 2 pixels. Do not interpret smaller detail." in texts(found.caveats)
    assert "cell_mm" not in found.metadata and found.metadata["cell_pixels"] == [2, 2]
    placed = explain(pooled(), radiograph((), shape=(1, 32, 32)), [0], ["gradcam"], ["0.3"])[0]
    assert "One map cell covers 1 x 2 x 2 mm. Do not interpret smaller detail." in texts(placed.caveats)
    segmented = explain(Segmenter().eval(), radiograph(EVERYTHING, shape=(1, 32, 32)), [0], ["gradcam"], ["body.3"])[0]
    assert segmented.says.endswith(" pixels") and "mL" not in segmented.says


# "Grad-CAM on a flattened head peaks at the crop's edge"


class Reordered(nn.Module):
    """Flattened with the channels last, by a matrix of its own."""

    def __init__(self):
        super().__init__()
        self.body, self.weight = body(), nn.Parameter(torch.randn(8 * 256, 3))

    def forward(self, x):
        return self.body(x).permute(0, 2, 3, 1).reshape(len(x), -1) @ self.weight


class ClassToken(nn.Module):
    """Features are reshaped, but they are those of one query."""

    def __init__(self):
        super().__init__()
        self.body, self.query = body(), nn.Parameter(torch.randn(1, 1, 8))
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.body(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(self.query.expand(len(x), -1, -1), tokens, tokens)[0][:, 0])


HEADS = {
    # name -> (what follows the body, whether positions are weighed by themselves)
    "linear over flattened": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 256, 3)), True),
    "two linear layers": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 256, 16), nn.ReLU(), nn.Linear(16, 3)), True),
    "pooled to 4 x 4": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(128, 3)), True),
    "batch norm between": (lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2048), nn.Linear(2048, 3)), True),
    "one large kernel": (lambda: nn.Sequential(nn.Conv2d(8, 3, 16), nn.Flatten()), True),
    "channels last": (Reordered, True),
    "mean": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)), False),
    "maximum, two layers": (
        lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)),
        False,
    ),
    "convolution before the mean": (
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
        False,
    ),
    "class token": (ClassToken, False),
}  # fmt: skip


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "guidedgradcam", "hirescam"])
@pytest.mark.parametrize("name", HEADS)
def test_grad_cam_says_where_positions_are_not_pooled(name, method):
    make, alone = HEADS[name]
    torch.manual_seed(0)
    head = make()
    network = (head if hasattr(head, "body") else nn.Sequential(body(), head)).eval()
    layer = "body.3" if hasattr(head, "body") else "0.3"
    said = [c for c in explain(network, slices(), [1], [method], [layer])[0].caveats if "pooled" in c.text]
    assert len(said) == (alone and method != "hirescam")
    if said:
        assert said[0].code == "pooling" and said[0].text.endswith("prefer hirescam.")
        kept = {}
        module = network.get_submodule(layer)
        handle = module.register_forward_hook(
            lambda m, i, o: kept.update(a=o.detach().requires_grad_()) or kept["a"].clone()
        )
        network(slices())[:, 1].sum().backward()
        handle.remove()
        g = kept["a"].grad[0].double()
        share = float((g.mean((1, 2)) ** 2).sum() * 256 / (g**2).sum())
        assert f"keeps {share:.0%} of the gradient" in said[0].text


def test_segmentations_are_not_told_of_pooling():
    network = nn.Sequential(Segmenter(), nn.Conv2d(2, 2, 3, padding=1)).eval()
    assert not any("pooled" in s for s in texts(explain(network, slices(), [1], ["gradcam"], ["0.body.3"])[0].caveats))


# Letter D: hiding that does not hide


class Size(nn.Module):
    """Grows with what is bright."""

    def forward(self, x):
        bright = x.relu().mean(tuple(range(2, x.ndim)))
        return torch.cat([-bright, 100 * bright], 1)


def phantom(noise: float = 0.0, texture: float = 0.0) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij"))
    ball = (((grid - 12) ** 2).sum(0) < 36).float()[None, None]
    random = torch.rand(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    return ball * (1 + texture * random) + noise * random


@pytest.mark.parametrize("method", ["occlusion", "lime", "shap", "rise"])
@pytest.mark.parametrize("x", [phantom(), phantom(texture=0.01)], ids=["a mask", "one tissue"])
def test_what_hides_nothing_is_not_called_hiding(x, method):
    """Taking the ball away changes the score, so that "hiding never changed it" is false."""
    assert Size()(x)[0, 1] > 50 * Size()(x * (x < 0.5))[0, 1].clamp(min=0.01)
    found = explain(Size(), x, [1], [method], samples=40)[0]
    assert [s.code for s in found.caveats if "Next to nothing was hidden" in s.text] == ["fill"]
    assert not any("never changed" in s or "nothing here raises" in s for s in texts(found.caveats))


@pytest.mark.parametrize("method", ["occlusion", "lime", "shap", "rise"])
def test_hiding_that_hides_is_told_as_before(method):
    class Deaf(nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0, 2.0]]).expand(len(x), -1) + 0 * x.sum()

    x = phantom(1.0)
    said = texts(explain(Deaf(), x, [1], [method], samples=20)[0].caveats)
    assert any("never changed the score" in s for s in said) and not any("Next to nothing" in s for s in said)


@pytest.mark.parametrize("method", ["ig", "deeplift"])
def test_a_baseline_that_is_the_input_is_named(method):
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    flat = torch.zeros(1, 1, 24, 24)
    flat[..., 6:18, 6:18] = 1
    said = [texts(explain(network, flat, [1], [method], baseline=name)[0].caveats) for name in ("mean", "zero")]
    assert [sum("Next to nothing was hidden" in s for s in one) for one in said] == [1, 0]


def test_an_option_that_no_method_has_is_said():
    network = nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    for wanted, options, unused in (
        (["saliency"], {"baseline": "zero", "samples": 4}, ["--baseline", "--samples"]),
        (["expgrad"], {"baseline": "zero", "samples": 4}, ["--baseline"]),
        (["saliency", "ig"], {"baseline": "zero", "samples": 4}, []),
        (["saliency"], {"baseline": "minimum", "samples": None}, []),
    ):
        said: list[str] = []
        explain(network, torch.rand(1, 1, 24, 24), [1], wanted, say=said.append, **options)
        assert [text.split()[0] for text in said if "changes nothing" in text] == unused


def test_an_empty_map_says_whether_it_was_looked_for():
    """Evidence against the class only; and a score that no gradient leads to."""
    torch.manual_seed(0)
    against = nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    against[3].weight.data.abs_().neg_()
    said = explain(against, slices().abs(), [1], ["gradcam"], ["0.4"])[0]
    assert not said.volume.array.any() and any("nothing here raises the score of 1" in s for s in texts(said.caveats))
    against[3].weight.data.zero_()
    said = explain(against, slices(), [1], ["gradcam"], ["0.4"])[0]
    assert not said.volume.array.any() and not any("nothing here raises" in s for s in texts(said.caveats))
    assert any(s.code == "empty" and "does not mean that nothing matters" in s.text for s in said.caveats)


# "a randomised segmenter calls the whole volume one class", "random weights with the hash removed: nothing said"


@pytest.mark.parametrize(("bias", "remarked"), [(9.0, True), (0.0, False)])
def test_a_segmenter_that_calls_everything_one_class_is_remarked(bias, remarked):
    network = nn.Conv2d(1, 2, 1).eval()
    network.weight.data[:] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    network.bias.data[:] = torch.tensor([0.0, bias])
    said = explain(network, slices(2), [1], ["saliency"])[0].caveats
    assert [s.code for s in said if "of the whole image" in s.text] == (["one-class"] if remarked else [])


@pytest.mark.parametrize("named", [True, False])
def test_weights_that_the_card_does_not_know_are_remarked(tmp_path, data, named):
    from MedXAILib.app.job import Job
    from MedXAILib.app.run import run

    card = json.loads((ROOT / "Testing/cards/sania_brain_tumor.json").read_text())
    if not named:
        del card["weights"]["sha256"]
    (tmp_path / "card.json").write_text(json.dumps(card))
    image = next((data / "images2d/brain_tumor_mri/glioma").glob("*.jpg"))
    weights = data / "models" / card["weights"]["file"]
    found = run(
        Job(task="predict", inputs={"": str(image)}, model=str(tmp_path / "card.json"), weights=str(weights)),
        tmp_path / "out",
    )
    assert any("names no sha256 of its weights" in remark for remark in found["messages"]) != named


def test_a_segmenter_that_calls_all_that_it_sees_one_class_is_remarked():
    card = {
        "schema_version": 1, "name": "all", "task": "segmentation", "network": {"architecture": "LesionNet"}, "weights": {"file": "x"},
        "spatial": {"mode": "whole"}, "input": {"size": [4, 4, 4], "fit": "pad_or_crop", "intensity": {"rule": "none"}},
        "output": {"labels": [{"name": "background"}, {"name": "all"}]},
    }  # fmt: skip
    volume = Volume(np.arange(1000, dtype=np.float32).reshape(10, 10, 10), np.eye(4))
    card = ModelCard.model_validate(card)
    for said, remarked in ((1, ["one-class"]), (0, [])):
        network = nn.Conv3d(1, 2, 1).eval()
        network.weight.data[:] = 0
        network.bias.data[:] = torch.eye(2)[said]
        prediction = predict(Model(card, network, "cpu", "", ""), prepare(card, volume))
        assert [s.code for s in prediction.remarks if "of all that it sees" in s.text] == remarked
