"""Every field of a job and every option of a method reaches what is computed: two runs that differ in it alone differ as they must.

The list is taken from the definitions themselves: a field or an option without a check here fails by its name. That a check would
notice is shown too: each must fail where its field is lost, at the door or further in.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nibabel, pydicom = pytest.importorskip("nibabel"), pytest.importorskip("pydicom")

from fixture_runs import cases, names, only, plain, told_of  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from MedXAILib import cli  # noqa: E402
from MedXAILib.app import run as runner  # noqa: E402
from MedXAILib.app import setup as setting  # noqa: E402
from MedXAILib.app.job import Job  # noqa: E402
from MedXAILib.attribution.registry import methods  # noqa: E402
from MedXAILib.cli import running  # noqa: E402
from MedXAILib.errors import InputError  # noqa: E402
from MedXAILib.geometry.labels import Label, Labels  # noqa: E402
from MedXAILib.geometry.volume import Volume  # noqa: E402
from MedXAILib.io.read import read_volume  # noqa: E402
from MedXAILib.io.write import write_labels, write_volume  # noqa: E402

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
SHAPE = (6, 24, 20)
BRIGHT, OTHER_BRIGHT, DARK = (2, 6, 6), (3, 18, 14), (2, 6, 15)
"""Voxels (k, j, i) in the middle of two bright blocks, of the class a, and of a dark one, of the class b."""
ARGUMENTS = {
    "spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 6], "strides": [2], "norm": None,
}  # fmt: skip
DEFAULT = "explain in.nrrd --model card.json"


def at(voxel: tuple[int, int, int]) -> str:
    """A voxel (k, j, i) as R,A,S."""
    return ",".join(f"{mm:g}" for mm in (AFFINE @ [*voxel[::-1], 1])[:3])


def picture(seed: int, shift: float = 0) -> np.ndarray:
    """Two bright blocks and a dark one in noise."""
    array = np.random.default_rng(seed).normal(shift, 0.2, SHAPE)
    for (k, j, i), value in ((BRIGHT, 3), (OTHER_BRIGHT, 2), (DARK, -3)):
        array[k - 1 : k + 2, j - 3 : j + 4, i - 3 : i + 4] += value
    return array.astype(np.float32)


def network(seed: int) -> torch.nn.Module:
    """Calls bright places a, dark ones b: by its first two feature maps, which every other weight disturbs a little."""
    from monai.networks.nets import UNet

    torch.manual_seed(seed)
    net = UNet(**ARGUMENTS).eval()
    with torch.no_grad():
        for weights in net.parameters():
            if weights.ndim > 1:
                weights *= 0.3
        down, up = net.model[0].conv, net.model[2].conv
        linear = torch.tensor([0.5, 1, 0.5])
        for channel, sign in enumerate((1.0, -1.0)):
            down.weight[channel, 0] += sign / 9
            up.weight[channel, channel + 1] += torch.outer(linear, linear)
        up.bias[:] = torch.tensor([1.0, 0, 0])
    return net


def weights_of(seed: int) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in network(seed).state_dict().items()}


def write_series(folder: Path, number: int, pixels: np.ndarray) -> None:
    """One DICOM series of axial slices."""
    for n, plane in enumerate(pixels):
        data = pydicom.Dataset()
        data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.{number}.{n}"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2", f"1.2.{number}", "1.2.9"
        data.Modality, data.SeriesNumber, data.SeriesDescription = "CT", number, f"series {number}"
        data.ImagePositionPatient, data.ImageOrientationPatient = [0.0, 0.0, 3.0 * n], [1.0, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [2, 2], 3
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleSlope, data.RescaleIntercept, data.PixelData = 0.01, 0, (100 * plane).astype(np.int16).tobytes()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.save_as(folder / f"{number}-{n}.dcm", enforce_file_format=True)


def make(folder: Path) -> None:
    """Everything that the commands below name."""
    card = {
        "name": "tiny", "task": "segmentation", "network": {"architecture": "UNet", "arguments": ARGUMENTS},
        "weights": {"file": "weights.safetensors"}, "spatial": {"mode": "slices", "axis": "k"},
        "output": {"labels": [{"name": name} for name in ("rest", "a", "b")]},
    }  # fmt: skip
    cards = {"card": {}, "other-card": {"name": "other", "weights": {"file": "other.safetensors"}}}
    cards["program"] = {"network": {"architecture": "file"}, "weights": {"file": "program.pt"}}
    for name, changed in cards.items():
        (folder / f"{name}.json").write_text(json.dumps(card | changed))
    save_file(weights_of(0), folder / "weights.safetensors")
    save_file(weights_of(1), folder / "other.safetensors")
    torch.save({"model": weights_of(0), "ema": weights_of(1)}, folder / "two.pt")
    torch.jit.trace(network(0), torch.zeros(1, 1, *SHAPE[1:])).save(folder / "program.pt")
    write_volume(Volume(picture(0), AFFINE), folder / "in.nrrd")
    write_volume(Volume(picture(1), AFFINE), folder / "other.nrrd")
    both = np.stack([picture(0), picture(1)])
    nibabel.save(nibabel.Nifti1Image(both.T, AFFINE), folder / "two.nii.gz")
    marked = np.zeros(SHAPE, np.uint8)
    marked[2:4, 16:21, 12:17] = 1
    write_volume(Volume(marked, AFFINE), folder / "mask.nrrd")
    rows = (Label(1, "organ", (1.0, 0.0, 0.0)),)
    write_labels(Labels(Volume(marked, AFFINE), rows), folder / "anatomy.nrrd")
    for name in ("in", "other"):
        (folder / "pair").mkdir(exist_ok=True)
        write_volume(Volume(picture(0), AFFINE), folder / "pair" / f"{name}.nrrd")
    (folder / "dicom").mkdir()
    write_series(folder / "dicom", 3, picture(0))
    write_series(folder / "dicom", 4, picture(1))


@dataclass(frozen=True)
class Outcome:
    """What a command came to: a folder, or a sentence."""

    folder: Path
    error: str = ""

    @property
    def summary(self) -> dict:
        assert not self.error, self.error
        run = json.loads((self.folder / "run.json").read_text())
        return run | {"cases": told_of(self.folder)}

    @property
    def files(self) -> set[str]:
        assert not self.error, self.error
        return set(names(self.folder))

    @property
    def maps(self) -> list[dict]:
        return self.summary["cases"][0]["maps"]

    @property
    def map(self) -> np.ndarray:
        """The first one, (k, j, i)."""
        return self.read(self.maps[0]["file"])

    def read(self, name: str | Path) -> np.ndarray:
        return read_volume(self.folder / name).array

    def beside(self, end: str = "") -> dict:
        """The metadata of the first map, or of what belongs to it."""
        return json.loads(self.named(f"{end}.json").read_text())

    def named(self, end: str) -> Path:
        """What belongs to the first map."""
        return only(self.folder, Path(plain(self.maps[0]["file"])).name.replace(".nrrd", end))


@dataclass(frozen=True)
class Check:
    """:ivar before, after: two commands that differ in the field alone.
    :ivar holds: asserts that what they came to differs as it must.
    :ivar stage: the function or class of a run that reads the field from its job.
    """

    before: str
    after: str
    holds: Callable[[Outcome, Outcome], None]
    stage: str


CHECKS: dict[str, Check] = {}
"""By the name of the field; of an option, ``method.option``."""


def check(
    name: str, more: str = "", *, given: str = "", first: str = "", whole: str = "", stage: str = "request_of"
):  # fmt: skip
    """Registers a check of a field.

    :param more: what the second command has in addition, or ``whole``: the second command.
    :param given: what both have. :param first: what only the first one has.
    """
    if "." in name:
        given += f" --method {name.partition('.')[0]} --class a"

    def register(holds: Callable[[Outcome, Outcome], None]) -> None:
        both = f"{DEFAULT} {given}"
        CHECKS[name] = Check(f"{both} {first}", whole or f"{both} {more}", holds, stage)

    return register


def differ(before: Outcome, after: Outcome) -> None:
    """Both have a map, and not the same."""
    assert before.map.any() and after.map.any() and not np.array_equal(before.map, after.map)


@check("task", whole="predict in.nrrd --model card.json", stage="Order")
def only_an_explanation_has_maps(before, after):
    assert before.maps and not after.maps


@check("inputs", whole="explain other.nrrd --model card.json", stage="find")
def another_file_is_explained(before, after):
    assert after.summary["cases"][0]["input"] == "other.nrrd"
    differ(before, after)


@check("model", whole="explain in.nrrd --model other-card.json", stage="model_of")
def another_network_answers(before, after):
    assert after.summary["model"]["name"] == "other"
    differ(before, after)


@check("classes", "--class b", given="--method saliency")
def another_class_has_another_map(before, after):
    assert [m["class"] for m in after.maps] == ["b"] != [m["class"] for m in before.maps]
    assert before.map[BRIGHT] > 0 == after.map[BRIGHT] and after.map[DARK] > 0


@check("methods", "--method saliency", stage="Order")
def another_method_has_another_map(before, after):
    assert [m["method"] for m in after.maps] == ["saliency"]
    differ(before, after)


@check("layers", "--layer model.2", given="--cells")
def another_layer_has_other_cells(before, after):
    shapes = [o.read(o.named("_cells.nrrd")).shape for o in (before, after)]
    assert after.maps[0]["layer"] == "model.2" and shapes == [(6, 12, 10), (6, 24, 20)]


@check("threshold", "--threshold 0.99", given="--class a --method saliency")
def a_higher_threshold_means_a_smaller_region(before, after):
    assert after.maps[0]["class"] == "a-T0.99"
    assert (after.map > 0).sum() < (before.map > 0).sum()


@check("voxel", f"--voxel {at(BRIGHT)}", given="--class a --method saliency")
def one_voxel_is_explained_by_what_lies_around_it(before, after):
    k, j, i = np.nonzero(after.map)
    assert set(k) == {BRIGHT[0]} and np.abs(j - BRIGHT[1]).max() < 9 and np.abs(i - BRIGHT[2]).max() < 9
    differ(before, after)


@check("component", f"--component {at(OTHER_BRIGHT)}", given="--class a --method saliency")
def one_component_is_explained_without_the_other(before, after):
    assert before.map[BRIGHT] > 0 == after.map[BRIGHT] and after.map[OTHER_BRIGHT] > 0


@check("mask", "--mask mask.nrrd", given="--class a --method saliency")
def a_mask_is_explained_by_what_lies_around_it(before, after):
    assert after.maps[0]["class"] == "a-mask"
    assert set(np.nonzero(after.map)[0]) == {2, 3} and before.map[BRIGHT] > 0 == after.map[BRIGHT]


@check("score", "--score probabilities", given="--class a --threshold 0.4 --method saliency")
def probabilities_have_another_gradient(before, after):
    assert after.maps[0]["class"] == "a-T0.4-probabilities"
    differ(before, after)


@check("slices", "--slices 2:4")
def only_these_slices_are_explained(before, after):
    assert set(np.nonzero(after.map)[0]) <= {2, 3} and after.map.any() and before.map[1].any()


@check("budget", "--budget 20", given="--method gradcam --method rise --samples 30")
def a_method_beyond_the_budget_is_left_out(before, after):
    assert [m["method"] for m in before.maps] == ["gradcam", "rise"] and [m["method"] for m in after.maps] == [
        "gradcam"
    ]


@check("seed", "--seed 1", given="--method rise --samples 30", stage="Order")
def another_seed_draws_another_map(before, after):
    differ(before, after)


@check("mass_fraction", "--mass-fraction 0.2", stage="Order")
def a_smaller_fraction_has_smaller_regions(before, after):
    assert np.array_equal(before.map, after.map) and after.beside("_regions")["mass_fraction"] == 0.2
    sizes = [(o.read(o.named("_regions.nrrd")) > 0).sum() for o in (before, after)]
    assert 0 < sizes[1] < sizes[0]


@check("anatomy", "--anatomy anatomy.nrrd", stage="Order")
def structures_are_told(before, after):
    assert after.files - before.files == {"anatomy.csv"}
    assert ",organ," in (after.folder / "anatomy.csv").read_text()


@check("weights", "--weights other.safetensors", stage="model_of")
def other_weights_are_loaded(before, after):
    assert after.summary["model"]["weights_sha256"] != before.summary["model"]["weights_sha256"]
    differ(before, after)


@check("weights_key", "--weights-key model", given="--weights two.pt", stage="model_of")
def weights_lie_where_it_says(before, after):
    assert "below 'ema'" in " ".join(before.summary["messages"])
    differ(before, after)


@check("trust", whole="explain in.nrrd --model program.json --method saliency --trust", stage="model_of")
def a_program_runs_where_it_is_trusted(before, after):
    assert after.map.any()


@check("device", "--device cuda", stage="model_of")
def another_device_computes(before, after):
    if torch.cuda.is_available():
        assert after.summary["model"]["device"] == "cuda"
    else:
        assert after.error.startswith("--device cuda: ") and not before.error


@check("frame", whole="explain two.nii.gz --model card.json --frame 1", stage="Order")
def one_time_point_is_explained(before, after):
    differ(before, after)


@check("series", whole="explain dicom --model card.json --series 4", stage="Order")
def one_series_is_explained(before, after):
    differ(before, after)


@check("format", "--format mha", stage="Order")
def images_are_of_this_format(before, after):
    assert {name.replace(".nrrd", ".mha") for name in before.files} == after.files != before.files


@check("writers", "--writer tables", stage="Order")
def only_these_writers_write(before, after):
    tables = {name for name in before.files if name.endswith(".csv")}
    assert tables | {"run.json", "in/case.json"} == after.files != before.files


@check("keep_input", "--keep-input", stage="Order")
def the_preprocessed_input_is_written(before, after):
    assert {Path(name).stem for name in after.files - before.files} == {"in_input"}


@check("cells", "--cells", stage="Order")
def cells_are_written(before, after):
    assert {Path(name).stem[-6:] for name in after.files - before.files} == {"_cells"}


@check("suffixes", given="", whole="explain pair --model card.json --suffix=n.nrrd", stage="find")
def only_files_with_this_end_are_cases(before, after):
    assert [case["input"] for case in before.summary["cases"]] == ["in.nrrd"]
    assert [case["input"] for case in after.summary["cases"]] == ["i"]


@check("threads", "--threads 2", first="--threads 1", stage="Cohort")
def it_computes_with_so_many(before, after):
    assert [cases(o.folder)[0]["parts"][0]["computed"]["threads"] for o in (before, after)] == [1, 2]


@check("no_probe", "--no-probe")
def the_network_is_not_asked(before, after):
    told = [" ".join(c["text"] for c in o.maps[0]["caveats"]) for o in (before, after)]
    assert ["(no probe)" in text for text in told] == [False, True]


def samples_are_as_many(before, after):
    """As many inputs are tried as the option says."""
    told = [o.beside()["parameters"] for o in (before, after)]
    assert [about.get("samples", about.get("steps")) for about in told] == [12, 24]
    assert after.maps[0]["evaluations"] > before.maps[0]["evaluations"]
    differ(before, after)


for each in ("rise", "lime", "shap", "smoothgrad", "ig", "expgrad"):
    check(f"{each}.samples", "--samples 24", first="--samples 12", given="--slices 2")(samples_are_as_many)


def superpixels_are_about_as_many(before, after):
    """Fewer superpixels have fewer rows."""
    few, many = ((o.folder / "superpixels.csv").read_text().count("\n") - 1 for o in (after, before))
    assert 2 <= few <= 12 < 30 < many
    differ(before, after)


for each in ("lime", "shap"):
    check(f"{each}.superpixels", "--superpixels 8", given="--slices 2 --samples 60")(superpixels_are_about_as_many)


def another_baseline(before, after):
    """It is told, and gives another map."""
    assert after.beside()["parameters"]["baseline"] == "blurred"
    differ(before, after)


for each in ("ig", "deeplift"):
    samples = "" if each == "deeplift" else "--samples 8"
    check(f"{each}.baseline", "--baseline blurred", given=f"--slices 2 {samples}")(another_baseline)


@check("expgrad.references", "--reference in.nrrd", given="--slices 2 --samples 8")
def a_reference_that_is_the_input_leaves_nothing_to_explain(before, after):
    assert before.map.any() and not after.map.any()


class Lab:
    """Runs commands, each job once."""

    def __init__(self, folder: Path):
        self.folder, self.numbers = folder, count()
        self.known: dict[str, Outcome] = {}

    def job(self, command: str) -> tuple[Job, dict]:
        """What the command line makes of a command."""
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "carry_out", lambda job, given: seen.append((job, dict(given))))
            assert cli.run([*shlex.split(command), "-o", "out"]) == 0
        return seen[0]

    def outcome(self, command: str, lose: Callable[[Job], Job] = lambda job: job, stage: str = "") -> Outcome:
        """What a command comes to.

        :param lose: what happens to its job, at the door, or where ``stage`` is named, only there.
        """
        job, given = self.job(command)
        job = job if stage else lose(job)
        if stage or repr(job) not in self.known:
            with pytest.MonkeyPatch.context() as patch:
                if stage:
                    where = setting if stage == "request_of" else runner
                    patch.setattr(where, stage, losing(getattr(where, stage), lose))
                found = self._carried_out(job, given, patch)
            if stage:
                return found
            self.known[repr(job)] = found
        return self.known[repr(job)]

    def _carried_out(self, job: Job, given: dict, patch: pytest.MonkeyPatch) -> Outcome:
        folder = self.folder / f"out-{next(self.numbers)}"
        patch.setenv("MEDXAI_CONFIG", str(folder.with_suffix(".config")))  # no consent is remembered
        try:
            running.carry_out(job, given | {"output": folder})
        except InputError as error:
            return Outcome(folder, str(error))
        return Outcome(folder)


def losing(whole: Callable, lose: Callable[[Job], Job]) -> Callable:
    """The same function, which gets a job that has lost something."""

    def lost(value: object) -> object:
        return lose(value) if isinstance(value, Job) else value

    return lambda *args, **more: whole(*map(lost, args), **{name: lost(value) for name, value in more.items()})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    make(folder)
    return folder


@pytest.fixture(scope="module")
def lab(place) -> Lab:
    return Lab(place)


@pytest.fixture(autouse=True)
def there(place, monkeypatch) -> Iterator[None]:
    monkeypatch.chdir(place)


def test_every_field_and_every_option_has_a_check():
    wanted = {f.name for f in fields(Job)} - {"options"}
    wanted |= {f"{m.name}.{option.name}" for m in methods().values() for option in m.options}
    assert not wanted - set(CHECKS), "fields and options that no check shows to reach the computation"
    assert not set(CHECKS) - wanted, "checks of what there is not"


@pytest.mark.parametrize("name", CHECKS)
def test_it_reaches_what_is_computed(name, lab):
    one = CHECKS[name]
    before, after = lab.job(one.before)[0], lab.job(one.after)[0]
    differing = {f.name for f in fields(Job) if getattr(before, f.name) != getattr(after, f.name)}
    assert "options" in differing if "." in name else name in differing
    one.holds(lab.outcome(one.before), lab.outcome(one.after))


@pytest.mark.parametrize("name", CHECKS)
def test_its_check_fails_where_it_is_lost(name, lab):
    """At the door, and where a run reads it."""
    one = CHECKS[name]
    before, after = lab.job(one.before)[0], lab.job(one.after)[0]

    def lose(job: Job) -> Job:
        if "." in name:
            return replace(job, options={n: v for n, v in job.options.items() if n != name.partition(".")[2]})
        return replace(job, **{name: getattr(before, name)}) if job == after else job

    for stage in ("", one.stage):
        with pytest.raises(AssertionError):
            one.holds(lab.outcome(one.before), lab.outcome(one.after, lose, stage))
            pytest.fail(f"'{name}' was lost {'in ' + stage if stage else 'at the door'}, and its check did not notice.")
