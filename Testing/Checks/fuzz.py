"""Damaged files: some hundred mutants of each format and of each kind of weights file, read in processes that may die.

    make check-fuzz            # about a minute on two cores; it goes on where it stopped
    .venv/bin/python Testing/Checks/fuzz.py --only nrrd --seed 12 --keep mutant.nrrd     # one mutant, kept

Each mutant must be read or refused in one sentence, within 20 s of CPU time, and the process must live. What is read must
equal what a reader says that MedXAI does not use: see ``oracles.py``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from results import ROOT, Results

MUTANTS, SECONDS = 200, 20.0
PROGRAMS = ("weights script", "weights export")
"""Refused without consent, whatever is in them."""
HONEST = 1_000_000
"""The number of the file that is not damaged, and must be read."""
SIZES = (7, 6, 5)
"""Voxels along i, j, k of what is mutated."""


# What is mutated: format -> {name of a file: its content}; the first file is mutated, and read --------------------------


def seeds(folder: Path) -> dict[str, dict[str, bytes]]:
    """Small honest files of every kind."""
    return images(folder) | dicoms(folder) | pictures(folder) | weights(folder)


def images(folder: Path) -> dict[str, dict[str, bytes]]:
    import nibabel
    import SimpleITK as sitk

    rng = np.random.default_rng(0)
    array = rng.integers(0, 900, SIZES).astype(np.int16)
    affine = np.array([[-1.2, 0, 0, 10], [0, 1.1, 0.4, -20], [0, -0.2, 2.2, 5], [0, 0, 0, 1]])
    affine[:3, :3] = np.linalg.qr(affine[:3, :3])[0] * [1.2, 1.1, 2.2]
    found = {}

    def nifti(
        name: str, kind=nibabel.Nifti1Image, data=array, slope: float | None = None, suffix: str = ".nii"
    ) -> None:
        image = kind(data, affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 2)
        if slope:
            image.header.set_slope_inter(slope, 3.0)
        nibabel.save(image, folder / f"x{suffix}")
        names = [f"x{suffix}"] if suffix != ".img" else ["x.hdr", "x.img"]
        found[name] = {file: (folder / file).read_bytes() for file in names}

    nifti("nifti")
    nifti("nifti gz", suffix=".nii.gz")
    nifti("nifti float", data=array.astype(np.float32))
    nifti("nifti scaled", slope=0.25)
    nifti("nifti 4d", data=np.stack([array] * 2, -1))
    nifti("nifti 2", kind=nibabel.Nifti2Image)
    nifti("nifti pair", kind=nibabel.Nifti1Pair, suffix=".img")

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing((1.2, 1.1, 2.2))
    image.SetOrigin((10, 20, 5))
    for name, file, options in (
        ("nrrd", "x.nrrd", {"useCompression": False}),
        ("nrrd gz", "x.nrrd", {"useCompression": True}),
        ("nhdr", "x.nhdr", {"useCompression": False}),
        ("mha", "x.mha", {"useCompression": False}),
        ("mha zlib", "x.mha", {"useCompression": True}),
        ("mhd", "x.mhd", {"useCompression": False}),
    ):
        for old in folder.glob("x*"):
            old.unlink()
        sitk.WriteImage(image, str(folder / file), **options)
        rest = [path.name for path in folder.glob("x*") if path.name != file]
        found[name] = {part: (folder / part).read_bytes() for part in [file, *rest]}
    layers = "".join(
        f"Segment{n}_ID:=S{n}\nSegment{n}_Name:=s{n}\nSegment{n}_LabelValue:={n + 1}\nSegment{n}_Layer:=0\n"
        for n in (0, 1)
    )
    header = (
        "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 7 6 5\nencoding: raw\n"
        f"space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\n{layers}Segmentation_ReferenceImageExtentOffset:=0 0 0\n\n"
    )
    found["seg.nrrd"] = {"x.seg.nrrd": header.encode() + rng.integers(0, 3, array.size).astype(np.uint8).tobytes()}
    return found


def dicoms(folder: Path) -> dict[str, dict[str, bytes]]:
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

    rng, found = np.random.default_rng(1), {}
    for name, syntax in (
        ("explicit", ExplicitVRLittleEndian),
        ("implicit", ImplicitVRLittleEndian),
        ("rle", RLELossless),
    ):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = "1.2", "1.2.3", "MR"
        data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 9, 8, 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.PixelSpacing, data.SliceThickness = [0.8, 0.7], 2
        data.ImagePositionPatient, data.ImageOrientationPatient = [10, 20, 30], [1, 0, 0, 0, 1, 0]
        data.PixelData = rng.integers(0, 4000, (9, 8)).astype("<u2").tobytes()
        if syntax == RLELossless:
            data.compress(RLELossless)
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        data.save_as(folder / "x.dcm", enforce_file_format=True)
        found[f"dicom {name}"] = {"x.dcm": (folder / "x.dcm").read_bytes()}
    return found


def pictures(folder: Path) -> dict[str, dict[str, bytes]]:
    from PIL import Image

    rng, found = np.random.default_rng(2), {}
    grey, deep = rng.integers(0, 255, (9, 8)).astype(np.uint8), rng.integers(0, 65535, (9, 8)).astype(np.uint16)
    colour = rng.integers(0, 255, (9, 8, 3)).astype(np.uint8)
    for name, file, array, more in (
        ("png", "x.png", grey, {}),
        ("png 16", "x.png", deep, {}),
        ("png rgb", "x.png", colour, {}),
        ("jpeg", "x.jpg", grey, {}),
        ("tiff", "x.tif", deep, {}),
        ("tiff stack", "x.tif", deep, {"save_all": True, "append_images": [Image.fromarray(deep[::-1])]}),
    ):
        Image.fromarray(array).save(folder / file, **more)
        found[name] = {file: (folder / file).read_bytes()}
    return found


def weights(folder: Path) -> dict[str, dict[str, bytes]]:
    import pickle

    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).eval()
    state = network.state_dict()
    writers: dict[str, Callable[[Path], object]] = {
        "weights zip": lambda path: torch.save({"epoch": 1, "state_dict": state}, path),
        "weights old": lambda path: torch.save(state, path, _use_new_zipfile_serialization=False),
        "weights whole": lambda path: torch.save(network, path),
        "weights pickle": lambda path: path.write_bytes(pickle.dumps({n: t.numpy() for n, t in state.items()})),
        "weights safetensors": lambda path: save_file(state, path),
        "weights script": lambda path: torch.jit.script(network).save(str(path)),
        "weights export": lambda path: torch.export.save(torch.export.export(network, (torch.rand(1, 1, 8, 8),)), path),
    }
    found = {}
    for name, write in writers.items():
        file = "x.pt2" if name == "weights export" else "x.pth"
        write(folder / file)
        found[name] = {file: (folder / file).read_bytes()}
    return found


# Mutants ---------------------------------------------------------------------------------------------------------------


def mutant(content: bytes, rng: np.random.Generator) -> bytes:
    """A damaged copy; of a gzip file, more often, the content is damaged and zipped again."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return gzip.compress(mutant(gzip.decompress(content), rng), mtime=0)
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        change = CHANGES[int(rng.integers(len(CHANGES)))]
        change(data, rng)
    return bytes(data)


def _at(data: bytearray, rng: np.random.Generator) -> int:
    """A place, mostly near one of the ends, where headers and tables are."""
    if not data:
        return 0
    near = int(min(rng.exponential(120), len(data) - 1))
    return int(rng.choice([near, near, len(data) - 1 - near, int(rng.integers(len(data)))]))


def _flip(data: bytearray, rng) -> None:
    if data:
        data[_at(data, rng)] ^= 1 << int(rng.integers(8))


def _byte(data: bytearray, rng) -> None:
    if data:
        data[_at(data, rng)] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))


def _field(data: bytearray, rng) -> None:
    """Two, four or eight bytes set to an extreme."""
    size, at = int(rng.choice([2, 4, 8])), _at(data, rng) & ~1
    value = (
        int(rng.choice([0, 1, 2**15, 2**16 - 1])) if size == 2 else int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1]))
    )
    data[at : at + size] = value.to_bytes(size, "little")


def _cut(data: bytearray, rng) -> None:
    del data[int(rng.integers(len(data) + 1)) :]


def _drop(data: bytearray, rng) -> None:
    at = _at(data, rng)
    del data[at : at + int(rng.integers(1, 20))]


def _double(data: bytearray, rng) -> None:
    at = _at(data, rng)
    data[at:at] = data[at : at + int(rng.integers(1, 40))]


def _stuff(data: bytearray, rng) -> None:
    at = _at(data, rng)
    data[at:at] = rng.bytes(int(rng.integers(1, 20)))


def _number(data: bytearray, rng) -> None:
    """A number in the text of a header becomes another one."""
    found = list(re.finditer(rb"-?\d+\.?\d*", bytes(data[:3000])))
    if found:
        one = found[int(rng.integers(len(found)))]
        values = (b"0", b"-1", b"1", b"2", b"3", b"99999999", b"1e30", b"nan", b"4294967297", b"0.001", b"65536")
        data[one.start() : one.end()] = values[int(rng.integers(len(values)))]


CHANGES = (_flip, _flip, _byte, _byte, _field, _field, _cut, _drop, _double, _stuff, _number, _number)


# Processes that may die ------------------------------------------------------------------------------------------------


class Reader:
    """A process that reads one file after another; started anew where it died or was too slow."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def ask(self, kind: str, path: Path) -> dict:
        """What became of a file: ``said`` (read, refused), or how the process ended."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", __file__, "--reader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
            )
            threading.Thread(target=self.process.stderr.read, daemon=True).start()
            self.process.stdout.readline()  # ready
        late, began = threading.Event(), self.seconds()
        watch = threading.Thread(target=self.watch, args=(began, late), daemon=True)
        self.process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        self.process.stdin.flush()
        watch.start()
        line = self.process.stdout.readline()
        slow = late.is_set()
        late.set()
        watch.join()
        if line:
            return json.loads(line)
        code = self.process.wait()
        return {"said": "slow" if slow else f"died ({code})"}

    def seconds(self) -> float:
        import psutil

        try:
            times = psutil.Process(self.process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return times.user + times.system

    def watch(self, began: float, done: threading.Event) -> None:
        wall = time.monotonic()
        while not done.wait(0.2):
            if self.seconds() - began > SECONDS or time.monotonic() - wall > 60 * SECONDS:
                done.set()
                self.process.kill()

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


def serve() -> None:
    """The reading process: one file for each line."""
    import oracles

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # C libraries print what they like
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, path = json.loads(line)
        print(json.dumps(oracles.judged(kind, Path(path))), file=answers, flush=True)


# The check -------------------------------------------------------------------------------------------------------------


def cases(only: str, count: int) -> Iterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in seeds(Path(folder)) if only in name]
    yield from ((name, seed) for seed in (HONEST, *range(count)) for name in names)


def place(name: str, seed: int, honest: dict[str, dict[str, bytes]], folder: Path) -> Path:
    """A mutant with what belongs to it, in a folder."""
    files = dict(honest[name])
    first = next(iter(files))
    rng = np.random.default_rng([seed, *name.encode()])
    if seed != HONEST:
        files[first] = mutant(files[first], rng)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder / first


def check(name: str, seed: int, honest: dict, reader: Reader) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return reader.ask(name, place(name, seed, honest, Path(folder)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="formats whose name holds this")
    parser.add_argument("--count", type=int, default=MUTANTS, help="mutants of each format")
    parser.add_argument("--seed", type=int, help="this mutant alone")
    parser.add_argument("--keep", type=Path, help="where to keep it")
    parser.add_argument("--reader", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        serve()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        honest = seeds(Path(folder))
    if options.seed is not None:
        for name in (name for name in honest if options.only in name):
            with tempfile.TemporaryDirectory() as folder:
                path = place(name, options.seed, honest, Path(folder))
                if options.keep:
                    options.keep.write_bytes(path.read_bytes())
                reader = Reader()
                print(name, reader.ask(name, path))
                reader.close()
        return 0
    results = Results("check-fuzz", [ROOT / "MedXAILib", Path(__file__), Path(__file__).with_name("oracles.py")])
    waiting = [case for case in cases(options.only, options.count) if " ".join(map(str, case)) not in results.known]
    lock = threading.Lock()

    def work() -> None:
        reader = Reader()
        while True:
            with lock:
                if not waiting:
                    break
                name, seed = waiting.pop(0)
                left = len(waiting)
            found = check(name, seed, honest, reader)
            with lock:
                results.add(f"{name} {seed}", found)
                if bad(found):
                    print(f"{name} {seed}: {found}", flush=True)
                if left % 500 == 0:
                    print(f"{left} left", flush=True)
        reader.close()

    threads = [threading.Thread(target=work) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report(results.known)


def bad(found: dict) -> bool:
    return found["said"] not in ("read", "refused") or bool(found.get("fault"))


def report(known: dict) -> int:
    counts: dict[str, Counter] = {}
    for key, found in known.items():
        name = key.rpartition(" ")[0]
        honest = key.endswith(f" {HONEST}") and name not in PROGRAMS
        found["fault"] = found.get("fault") or (
            f"the honest file was {found['said']}" if honest and found["said"] != "read" else ""
        )
        word = "WRONG" if bad(found) else found["said"] + (", as another reader" if found.get("compared") else "")
        counts.setdefault(name, Counter())[word] += 1
    for name, found in counts.items():
        print(f"{name:22} " + ", ".join(f"{count} {word}" for word, count in sorted(found.items())))
    wrong = [f"{key}: {found}" for key, found in known.items() if bad(found)]
    print("\n".join(wrong[:40]))
    total = Counter(word for found in counts.values() for word in found.elements())
    print(f"{sum(total.values())} mutants: {', '.join(f'{count} {word}' for word, count in sorted(total.items()))}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
