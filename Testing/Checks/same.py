"""Whether two states of the sources write the same files: named commands in both, every file compared but for times.

    make check-same BASE=<commit>      # about 6 minutes on two cores
    .venv/bin/python Testing/Checks/same.py <commit> --only windows --keep    # some of them; the files stay in build/same

The earlier state is a worktree in ``build/same``. Both run the same words, by the same Python, with one thread; what was given
another name in between stands in ``RENAMED``. Files must be equal to the bit, pictures and archives by their content; tables and
JSON but for times, versions and paths.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MEDXAI_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()
PLACE = ROOT / "build" / "same"

RENAMED: dict[str, str] = {
    "mass_share": "mass_fraction",
    "positive_share": "positive_fraction",
    "negative_share": "negative_fraction",
    "volume_share": "volume_fraction",
    "share": "mass_fraction",
    "fact": "model_output",
    "remarks": "messages",
    "limits": "caveats",
}
"""Names of columns and of keys: as they were -> as they are."""
OPTIONS = {"samples": None, "superpixels": None, "baseline": "minimum", "references": []}
"""Of methods: once fields of the job, with these defaults."""
NEW_FIELDS = ("options", "writers")
SENTENCES = {
    "-piece-": "-component-",
    "MedXAI.Limits:": "MedXAI.Caveats:",
    "choose one of air, zero, mean, blurred": "choose one of minimum, zero, mean, blurred",
}
"""Texts: as they were -> as they are."""
PASSING = {"seconds", "started", "peak_memory_mib", "versions"}
"""Keys that tell of the run and not of its result."""
KEY = re.compile(r"^MedXAI_(\w+)")
SEGMENT = re.compile(r"\bS_\w{16}\b")
"""Slicer's random name of a segment."""

TUMOUR = ["--model", "brain-tumor-slices", "--seed", "1"]
LESION = ["--model", "planted-lesion", "--seed", "1"]
PARTS = ["--model", "hippocampus-mcgunet", "--seed", "1"]
TISSUE = ["--model", "tissue.json", "--seed", "1"]
WINDOWS = ["--model", "windows.json", "--seed", "1"]
FEW = ["--samples", "30", "--superpixels", "12"]


def of(*methods: str) -> list[str]:
    return [word for name in methods for word in ("--method", name)]


COMMANDS = {
    "info nifti": ["info", "head.nii.gz"],
    "info nrrd, left-handed": ["info", "slices.nrrd"],
    "info dicom": ["info", "{data}/dicom/PGBM-003_T1post"],
    "info a frame of dicom": ["info", "{data}/dicom/emri_small.dcm", "--frame", "1"],
    "info segmentation": ["info", "{data}/dicom/dcmqi_liver_seg.nrrd"],
    "methods": ["methods"],
    "models": ["models"],
    "a model's card": ["models", "hippocampus-r2unet"],
    "layers of slices": ["layers", "--model", "brain-tumor-slices"],
    "layers of a volume": ["layers", "--model", "hippocampus-doubleunet"],
    "card new": ["card", "new", "{data}/models/sania_brain_tumor_model.pth", "-o", "OUT/card.json"],
    "card check": ["card", "check", "tissue.json", "head.nii.gz", "-o", "OUT/seen.png"],
    "predict a picture": ["predict", "picture.jpg", *TUMOUR[:2], "-o", "OUT"],
    "predict slices": ["predict", "slices.nrrd", *TUMOUR[:2], "-o", "OUT", "--keep-input"],
    "predict a cohort": ["predict", "cohort", *TUMOUR[:2], "-o", "OUT"],
    "predict dicom": ["predict", "{data}/dicom/PGBM-003_T1post", *TUMOUR[:2], "-o", "OUT"],
    "predict a value": ["predict", "head.nii.gz", "--model", "value.json", "-o", "OUT"],
    "predict a segmentation": ["predict", "head.nii.gz", *TISSUE[:2], "-o", "OUT"],
    "predict in windows": ["predict", "head.nrrd", *WINDOWS[:2], "-o", "OUT", "--format", "nii.gz", "--snapshot", "OUT.png"],
    "explain a picture by all": ["explain", "picture.jpg", *TUMOUR, *FEW, *of("all"), "-o", "OUT", "--snapshot", "OUT.png"],
    "explain two classes at two layers": [
        "explain", "picture.jpg", *TUMOUR, "--class", "glioma", "--class", "notumor", "--layer", "stages.2", "--layer", "stages.4",
        *of("gradcam", "hirescam", "ablationcam"), "--cells", "-o", "OUT", "--snapshot", "OUT.png"],
    "explain slices": ["explain", "slices.nrrd", *TUMOUR, *of("gradcam", "saliency"), "-o", "OUT", "--snapshot", "OUT.png", "--scene", "OUT.mrb"],
    "explain slices by queries": ["explain", "slices.nrrd", *TUMOUR, *FEW, *of("lime", "shap", "rise", "occlusion"), "--slices", "top:2", "-o", "OUT"],
    "explain a cohort": ["explain", "cohort", *TUMOUR, *of("gradcam"), "-o", "OUT"],
    "explain a volume by cams": [
        "explain", "head.nii.gz", *LESION, *of("gradcam", "gradcam++", "xgradcam", "layercam", "eigencam", "scorecam"),
        "-o", "OUT", "--format", "nii.gz", "--anatomy", "anatomy.nii.gz"],
    "explain a volume by gradients": [
        "explain", "head.nrrd", *LESION, *FEW, *of("ig", "expgrad", "smoothgrad", "gradxinput", "deeplift", "lrp", "guidedbackprop",
        "deconvnet", "guidedgradcam"), "--baseline", "mean", "-o", "OUT", "--format", "mha"],
    "explain a volume by queries": ["explain", "head.nrrd", *LESION, *FEW, *of("lime", "shap", "rise", "occlusion"), "-o", "OUT", "--anatomy", "anatomy.nii.gz"],
    "explain with a reference": ["explain", "head.nrrd", *LESION, *FEW, *of("expgrad"), "--reference", "other.nrrd", "-o", "OUT"],
    "explain within a budget": ["explain", "head.nrrd", *LESION, *of("gradcam", "lime"), "--budget", "100", "-o", "OUT"],
    "explain a value": ["explain", "head.nii.gz", "--model", "value.json", *of("gradcam", "ig"), "--samples", "8", "-o", "OUT"],
    "explain a region": ["explain", "hippocampus.nii.gz", *PARTS, *of("gradcam", "saliency", "segxrescam"), "-o", "OUT", "--snapshot", "OUT.png"],
    "explain a region by its probability": [
        "explain", "hippocampus.nii.gz", *PARTS, "--class", "anterior hippocampus", "--threshold", "0.4", "--score", "probabilities", "-o", "OUT"],
    "explain a voxel": ["explain", "hippocampus.nii.gz", *PARTS, "--class", "anterior hippocampus", "--voxel", "{voxel}", *of("gradcam", "hirescam"), "-o", "OUT"],
    "explain a component": ["explain", "hippocampus.nii.gz", *PARTS, "--class", "anterior hippocampus", "--component", "{voxel}", "-o", "OUT"],
    "explain a mask": ["explain", "hippocampus.nii.gz", *PARTS, "--class", "posterior hippocampus", "--mask", "mask.nii.gz", *of("gradcam", "lime"), *FEW, "-o", "OUT"],
    "explain every stage": ["explain", "hippocampus.nii.gz", *PARTS, *of("layerwise"), "-o", "OUT"],
    "explain a whole volume": ["explain", "head.nii.gz", *TISSUE, "--class", "white matter", *of("gradcam"), "-o", "OUT", "--scene", "OUT.mrb"],
    "explain in windows": ["explain", "head.nii.gz", *WINDOWS, "--class", "grey matter", *of("gradcam", "ablationcam", "saliency"), "-o", "OUT"],
    "explain without a probe": ["explain", "head.nii.gz", *LESION, "--no-probe", "-o", "OUT"],
    "refused: no such method": ["explain", "head.nii.gz", *LESION, *of("gradcamm"), "-o", "OUT"],
    "refused: a damaged file": ["predict", "damaged.nrrd", *LESION[:2], "-o", "OUT"],
    "refused: a layer that is not there": ["explain", "head.nii.gz", *LESION, "--layer", "nowhere", "-o", "OUT"],
}  # fmt: skip


# What the commands are given -------------------------------------------------------------------------------------------


def inputs(folder: Path) -> None:
    """Small pieces of real data and cards, made without the library under test."""
    import nibabel
    import SimpleITK as sitk

    def crop(name: str, box: list[int], size: list[int], *out: str):
        image = sitk.RegionOfInterest(sitk.ReadImage(str(DATA / "volumes" / name)), size, box)
        for path in out:
            sitk.WriteImage(image, str(folder / path))
        return image

    head = crop("brainchop_t1_crop.nii.gz", [90, 90, 90], [64, 64, 64], "head.nii.gz", "head.nrrd")
    crop("brainchop_t1_crop.nii.gz", [70, 100, 90], [64, 64, 64], "other.nrrd")
    crop("pyradiomics_brain1_image.nrrd", [0, 0, 10], [256, 256, 4], "slices.nrrd")
    values = sitk.GetArrayFromImage(head)
    anatomy = sitk.GetImageFromArray(np.digitize(values, np.quantile(values, [0.5, 0.8])).astype(np.uint8))
    anatomy.CopyInformation(head)
    sitk.WriteImage(anatomy, str(folder / "anatomy.nii.gz"))
    (folder / "damaged.nrrd").write_bytes((folder / "head.nrrd").read_bytes()[:3000])

    case = sorted((DATA / "volumes" / "hippocampus" / "images").iterdir())[0]
    shutil.copy(case, folder / "hippocampus.nii.gz")
    truth = nibabel.load(case.parents[1] / "labels" / case.name)
    part = np.asarray(truth.dataobj) == 1
    nibabel.save(nibabel.Nifti1Image(part.astype(np.uint8), truth.affine), folder / "mask.nii.gz")
    inner = np.argwhere(part)[part.sum() // 2]
    (folder / "voxel").write_text(",".join(f"{c:.2f}" for c in nibabel.affines.apply_affine(truth.affine, inner)))

    pictures = sorted((DATA / "images2d" / "brain_tumor_mri").glob("*/*.jpg"))[::15][:3]
    (folder / "cohort" / "deeper").mkdir(parents=True)
    shutil.copy(pictures[0], folder / "picture.jpg")
    for path, below in zip(pictures, (".", ".", "deeper"), strict=True):
        shutil.copy(path, folder / "cohort" / below / path.name)

    tissue = json.loads((ROOT / "Testing" / "cards" / "brainchop_model5.json").read_text())
    (folder / "tissue.json").write_text(json.dumps(tissue))
    tissue["spatial"] = {"mode": "windows", "size": [32, 32, 32]}
    (folder / "windows.json").write_text(json.dumps(tissue))
    zoo = ROOT / "MedXAILib" / "models" / "zoo"
    value = json.loads((zoo / "planted-lesion.json").read_text())
    value["output"] |= {"kind": "value", "unit": "points"}
    (folder / "value.json").write_text(json.dumps(value))
    shutil.copy(zoo / "planted-lesion.safetensors", folder)


def run_all(names: list[str], out: Path) -> None:
    """In a process of its own, with the sources that are meant on the path: the commands, one after the other."""
    from MedXAILib.cli import run

    voxel = Path("voxel").read_text()
    for name in names:
        folder = out / name
        folder.mkdir(parents=True)
        said, errors = io.StringIO(), io.StringIO()
        words = [str(w).replace("OUT", str(folder / "out")).format(data=DATA, voxel=voxel) for w in COMMANDS[name]]
        if "OUT/" in " ".join(COMMANDS[name]):
            (folder / "out").mkdir()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            code = run(words)
        if (code == 0) == name.startswith("refused"):
            sys.exit(f"{name}: exit code {code}: {errors.getvalue().strip()[-300:]}")
        (folder / "printed.txt").write_text(f"{code}\n{said.getvalue()}\n{errors.getvalue()}")
        print(f"{out.name}: {name}: {code}", file=sys.stderr, flush=True)


# How they are compared -------------------------------------------------------------------------------------------------


def renamed(text: str) -> str:
    """A name in today's words."""
    for old, new in SENTENCES.items():
        text = text.replace(old, new)
    return text


def heads(text: str, old: bool) -> str:
    """A table in today's words: columns by their names, without the severity of a caveat, which is new."""
    first, _, rest = text.partition("\n")
    columns = [RENAMED.get(name, name) if old else name for name in first.strip().split(",")]
    if "severity" in columns:
        at = columns.index("severity")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
        return "\n".join(",".join(row[:at] + row[at + 1 :]) for row in rows)
    if columns == ["input", "code", "text"]:
        return "\n".join(",".join(row) for row in csv.reader(io.StringIO(text)) if row)
    return ",".join(columns) + "\n" + rest


def modern(value, old: bool):
    """JSON in today's words; of caveats their sentences alone, which were all that there was of most of them."""
    if isinstance(value, list):
        return [modern(v, old) for v in value]
    if not isinstance(value, dict):
        return renamed(value) if old and isinstance(value, str) else value
    value = {k: v for k, v in value.items() if k != "schema_version"}
    if old:
        if value.get("baseline") == "air":
            value["baseline"] = "minimum"
        value = {RENAMED.get(k, k): v for k, v in value.items() if not (k == "caveats" and "limits" in value)}
        if "task" in value and "samples" in value:
            value = job(value)
    else:
        if "task" in value and "options" in value:
            value = {k: v for k, v in value.items() if k != "writers"}
        if {"maps", "input", "model"} <= set(value):
            value = {k: v for k, v in value.items() if k != "model"}  # once beside all cases alone
    if "caveats" in value:
        value = value | {"caveats": [c["text"] if isinstance(c, dict) else c for c in value["caveats"]]}
    return {k: modern(v, old) for k, v in value.items()}


def job(value: dict) -> dict:
    """A job with its methods' options apart."""
    given = {k: value[k] for k, default in OPTIONS.items() if value[k] != default}
    return {k: v for k, v in value.items() if k not in OPTIONS} | {"options": given}


def plain(text: str, place: Path) -> str:
    """Text without progress and times, and without the place where it was written."""
    text = re.sub(r"(?m)^ *\d+ % .*\n", "", text.replace(str(place), "PLACE"))
    return re.sub(
        r"\s+",
        " ",
        SEGMENT.sub("SEGMENT", re.sub(r"\b\d+(\.\d+)?( ms| s| minutes?)\b(; --samples sets how many)?", "TIME", text)),
    )


def lasting(value, place: Path):
    """JSON without what tells of the run alone."""
    if isinstance(value, dict):
        return {k: lasting(v, place) for k, v in value.items() if k not in PASSING}
    if isinstance(value, list):
        return [lasting(v, place) for v in value]
    return plain(value, place) if isinstance(value, str) else value


def header_line(line: str) -> str:
    """A line of a header in today's words; JSON in it too."""
    key, sign, value = line.partition(":=") if ":=" in line else line.partition(" = ")
    key = KEY.sub(lambda found: f"MedXAI_{RENAMED.get(found[1], found[1])}", key)
    if value[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            value = json.dumps(modern(json.loads(value), True), sort_keys=True)
    return f"{key}{sign}{value}"


def volume(data: bytes, change) -> tuple[list[str], bytes]:
    """Lines of an NRRD's or MetaImage's header, and its voxels as they are packed."""
    end = b"\n\n" if data.startswith(b"NRRD") else b"ElementDataFile = LOCAL\n"
    header, _, voxels = data.partition(end)
    lines = SEGMENT.sub("SEGMENT", change(header.decode())).splitlines()
    if any(line.startswith("MedXAI_limits") for line in lines):
        lines = [line for line in lines if not line.startswith("MedXAI_caveats")]
    lines = sorted(header_line(line) for line in lines)
    return [line for line in lines if not line.startswith(tuple(f"MedXAI_{key}" for key in PASSING))], voxels


def content(path: Path, place: Path, old: bool):
    """What must be equal of a file."""
    change = renamed if old else str
    if path.suffix == ".json":
        return lasting(modern(json.loads(path.read_text()), old), place)
    if path.suffix == ".csv":
        return plain(change(heads(path.read_text(), old)), place)
    if path.suffix == ".txt":
        return plain(change(path.read_text()), place)
    if path.suffix == ".png":
        from PIL import Image

        with Image.open(path) as picture:
            return np.asarray(picture).tobytes(), picture.size
    if path.suffix == ".mrb":
        with zipfile.ZipFile(path) as archive:
            members = {n.partition("/")[2]: archive.read(n) for n in archive.namelist() if not n.endswith("/")}
        return {
            change(n): volume(data, change) if n.endswith(".nrrd") else without_times(change(data.decode()), place)
            for n, data in members.items()
            if not n.endswith((".png", ".html"))
        }
    return volume(path.read_bytes(), change) if path.suffix in (".nrrd", ".mha") else path.read_bytes()


def files(folder: Path, old: bool) -> dict[str, Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {renamed(name) if old else name: folder / name for name in (p.relative_to(folder).as_posix() for p in found)}


def differences(name: str, places: dict[str, Path]) -> list[str]:
    base, head = (files(places[which] / name, which == "base") for which in ("base", "head"))
    found = [f"only in {'base' if path in base else 'head'}: {path}" for path in sorted(set(base) ^ set(head))]
    for path in sorted(set(base) & set(head)):
        one, other = content(base[path], places["base"], True), content(head[path], places["head"], False)
        if one != other:
            found.append(f"{path}: {where(one, other)}")
    return found


def without_times(text: str, place: Path) -> str:
    """A scene's or a table's text: JSON stands in it as an attribute, escaped."""
    keys = "|".join(PASSING)
    return plain(re.sub(rf"(&quot;|\")({keys})(&quot;|\"): [^,}}]*", "", text), place)


def where(one, other, way: str = "") -> str:
    """The first difference of two contents."""
    if isinstance(one, dict) and isinstance(other, dict):
        if set(one) != set(other):
            return f"{way}: only in one: {sorted(set(one) ^ set(other))}"
        key = next(k for k in one if one[k] != other[k])
        return where(one[key], other[key], f"{way}/{key}")
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        n = next(n for n in range(len(one)) if one[n] != other[n])
        return where(one[n], other[n], f"{way}/{n}")
    if isinstance(one, str) and isinstance(other, str):
        n = len(os.path.commonprefix([one, other]))
        return f"{way}: '{one[max(0, n - 40) : n + 60]}' | '{other[max(0, n - 40) : n + 60]}'"
    return f"{way}: {str(one)[:80]!r} | {str(other)[:80]!r}"


def tree(commit: str) -> Path:
    """A worktree of the earlier state.

    :raises SystemExit: where there is no such state.
    """
    known = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if known.returncode:
        sys.exit(f"{commit}: there is no such commit here; 'git log --oneline' lists them.")
    place = PLACE / "tree"
    subprocess.run(["git", "worktree", "remove", "--force", place], cwd=ROOT, capture_output=True, check=False)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
    subprocess.run(
        ["git", "worktree", "add", "--detach", "-f", place, commit], cwd=ROOT, capture_output=True, check=True
    )
    return place


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the earlier state")
    parser.add_argument("--only", default="", help="commands whose name holds this")
    parser.add_argument("--keep", action="store_true", help="leave the files in build/same")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [name for name in COMMANDS if options.only in name]
    if options.run:
        run_all(names, options.run)
        return 0
    if not (DATA / "MANIFEST.md").is_file():
        sys.exit(f"{DATA}: there is no test data here; set MEDXAI_TEST_DATA.")
    sources = {"base": tree(options.commit), "head": ROOT}
    for folder in ("base", "head", "inputs"):
        shutil.rmtree(PLACE / folder, ignore_errors=True)
        (PLACE / folder).mkdir(parents=True)
    inputs(PLACE / "inputs")
    places = {"base": PLACE / "base", "head": PLACE / "head"}
    for which, place in sources.items():
        words = [sys.executable, __file__, options.commit, "--only", options.only, "--run", places[which]]
        environment = {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "MEDXAI_MODEL_PATH": str(DATA / "models")}
        subprocess.run(words, cwd=PLACE / "inputs", env=os.environ | environment, check=True)
    found = {name: differences(name, places) for name in names}
    count = sum(len(files(places["head"] / name, False)) for name in names)
    for name, lines in found.items():
        print("\n".join([f"{name}: {'the same' if not lines else 'DIFFERENT'}", *(f"    {line}" for line in lines)]))
    wrong = sum(bool(lines) for lines in found.values())
    print(f"{len(names)} commands, {count} files, {wrong} commands with differences.")
    subprocess.run(["git", "worktree", "remove", "--force", PLACE / "tree"], cwd=ROOT, check=False)
    if not (options.keep or wrong):
        shutil.rmtree(PLACE)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
