"""What a file holds, by readers that MedXAI does not use: header arithmetic for NIfTI, MetaImage and safetensors, pynrrd,
tifffile, GDCM and libpng (in SimpleITK), PyTorch's safe loader. See ``fuzz.py``.

Each gives the array as (k, j, i[, channel]) and, where the file gives one, the IJK-to-RAS affine; None stands for what the
reader does not know. An exception means that it cannot read the file.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

from MedXAILib.errors import InputError

DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
META = {"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"}
META |= {"MET_FLOAT": "f4", "MET_DOUBLE": "f8"}


class Unknown(Exception):
    """The oracle does not know this form of the format."""


def judged(kind: str, path: Path) -> dict:
    """What MedXAI says of a file, and whether another reader says the same."""
    try:
        said = weights(path) if kind.startswith("weights") else image(path)
    except InputError as error:
        text = str(error)
        fault = "" if path.name in text and "\n" not in text and text.endswith(".") else f"no sentence: {text[:200]}"
        return {"said": "refused", "fault": fault}
    except BaseException as error:
        return {"said": f"{type(error).__name__}: {str(error)[:200]}"}
    try:
        fault = ORACLES[kind.partition(" ")[0]](path, said, kind)
    except Unknown:
        return {"said": "read"}
    except AssertionError as error:
        return {"said": "read", "fault": str(error)[:300]}
    except Exception:  # the other reader does not read it
        return {"said": "read", "alone": True}
    return {"said": "read", "compared": True, "fault": fault or ""}


def image(path: Path):
    from MedXAILib.io.read import read_volume
    from MedXAILib.io.segmentation import read_labels

    if path.name.endswith(".seg.nrrd"):
        return read_labels(path).volume
    try:
        return read_volume(path)
    except InputError as error:
        if "--frame 0" not in str(error):
            raise
        return read_volume(path, frame=0)


def weights(path: Path):
    from MedXAILib.models.loading import read_weights

    found = read_weights(path)
    return found.tensors({name: name for name in found.shapes})


def same(ours: np.ndarray, theirs: np.ndarray, what: str = "values") -> None:
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape} instead of {theirs.shape}"
    exact = np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f" and theirs.dtype.kind == "f")
    if not exact:
        close = np.isclose(ours.astype(float), theirs.astype(float), rtol=1e-6, atol=0, equal_nan=True)
        assert close.all(), f"{what}: {np.count_nonzero(~close)} of {close.size} differ"


def placed(volume, affine: np.ndarray | None) -> None:
    """The affine, where both know one; nobody else's is taken for what ours calls a guess."""
    if affine is not None and volume.placed:
        scale = np.abs(affine).max()
        assert np.allclose(volume.affine, affine, rtol=1e-5, atol=1e-5 * scale), (
            f"affine {volume.affine} instead of {affine}"
        )


# Images ----------------------------------------------------------------------------------------------------------------


def content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def nifti(path: Path, volume, kind: str) -> None:
    raw = content(path)
    order = next(o for o in "<>" if struct.unpack(o + "i", raw[:4])[0] in (348, 540))
    two = struct.unpack(order + "i", raw[:4])[0] == 540

    def read(form: str, one: int, other: int) -> tuple:
        return struct.unpack_from(order + form, raw, other if two else one)

    rank, *dims = read("8q" if two else "8h", 40, 16)
    (code,) = read("h", 70, 12)
    (offset,) = read("q" if two else "f", 108, 168)
    slope, inter = read("2d" if two else "2f", 112, 176)
    pixdim = np.array(read("8d" if two else "8f", 76, 104), float)
    qcode, scode = read("2i" if two else "2h", 252, 344)
    quatern = np.array(read("6d" if two else "6f", 256, 352), float)
    rows = np.array(read("12d" if two else "12f", 280, 400), float).reshape(3, 4)
    units = read("i" if two else "b", 123, 500)[0] & 7
    (intent,) = read("i" if two else "h", 68, 504)
    if code not in DTYPES:
        raise Unknown
    data = content(path.with_suffix(".img")) if path.suffix == ".hdr" else raw
    shape = tuple(dims[:rank])
    array = np.frombuffer(data, order + DTYPES[code], prod(shape), int(max(offset, 0))).reshape(shape, order="F")
    if len(shape) > 5 or (len(shape) == 5 and shape[4] > 1) or intent in (1005, 1006, 1007, 1008, 2003, 2004):
        raise Unknown
    array = array.reshape((*shape, 1, 1)[:3] + (-1,), order="F")[..., 0]
    if np.isfinite(slope) and slope != 0:
        array = array * slope + (inter if np.isfinite(inter) else 0)
    same(
        volume.array,
        np.swapaxes(array, 0, 2).astype(volume.array.dtype) if volume.array.dtype == "f4" else np.swapaxes(array, 0, 2),
    )
    unit = {1: 1000.0, 3: 0.001}.get(units, 1.0)
    b, c, d, *where = quatern
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * b * c - 2 * a * d, 2 * b * d + 2 * a * c],
            [2 * b * c + 2 * a * d, a * a + c * c - b * b - d * d, 2 * c * d - 2 * a * b],
            [2 * b * d - 2 * a * c, 2 * c * d + 2 * a * b, a * a + d * d - c * c - b * b],
        ]
    )
    qform = np.column_stack([rotation * pixdim[1:4] * [1, 1, -1 if pixdim[0] < 0 else 1], where])
    usable = [np.isfinite(m).all() and abs(np.linalg.det(unit * m[:, :3])) > 1e-12 for m in (qform, rows)]
    take = rows if scode > 0 and usable[1] and (scode == 1 or not (qcode > 0 and usable[0])) else qform
    placed(volume, np.vstack([unit * take, [0, 0, 0, 1]]))


def nrrd(path: Path, volume, kind: str) -> None:
    import nrrd as pynrrd

    data, header = pynrrd.read(str(path), index_order="C")
    if data.ndim != 3 or kind == "seg.nrrd" and data.max() > 2:
        raise Unknown
    if kind == "seg.nrrd":
        if any(f"Segment{n}_ID" not in header for n in (0, 1)):
            raise Unknown
        stored = [int(header[f"Segment{n}_LabelValue"]) for n in (0, 1)]
        data = np.where(np.isin(data, stored), data, 0)
        if stored[0] == stored[1]:
            raise Unknown
    same(volume.array, data)
    space = str(header.get("space", "")).lower()
    units = [str(unit) for unit in header.get("space units", [])]
    if (
        {"space directions", "space origin"} <= header.keys()
        and space in ("left-posterior-superior", "lps")
        and set(units) <= {"mm", ""}
    ):
        columns, origin = np.array(header["space directions"], float).T, np.array(header["space origin"], float)
        placed(volume, np.diag([-1, -1, 1, 1]) @ np.vstack([np.column_stack([columns, origin]), [0, 0, 0, 1]]))


def metaimage(path: Path, volume, kind: str) -> None:
    raw = path.read_bytes()
    head, _, rest = raw.partition(b"ElementDataFile")
    name, _, data = rest.partition(b"\n")
    fields = dict(
        (part.strip() for part in line.split("=", 1)) for line in head.decode("latin-1").splitlines() if "=" in line
    )
    if name.strip(b" =\r") != b"LOCAL":
        data = (path.parent / name.strip(b" =\r").decode()).read_bytes()
    sizes = [int(n) for n in fields["DimSize"].split()]
    if len(sizes) != 3 or int(fields.get("ElementNumberOfChannels", 1)) > 1 or "HeaderSize" in fields:
        raise Unknown
    if fields.get("CompressedData", "False")[:1] in "Tt1":
        data = zlib.decompress(data)
    msb = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))[:1] in "Tt1"
    kind_ = np.dtype(META[fields["ElementType"]]).newbyteorder(">" if msb else "<")
    same(volume.array, np.frombuffer(data, kind_, prod(sizes)).reshape(sizes[::-1]))
    spacing = np.array([float(n) for n in fields["ElementSpacing"].split()])
    origin = next(fields[key] for key in ("Offset", "Position", "Origin") if key in fields)
    matrix = next(fields[key] for key in ("TransformMatrix", "Rotation", "Orientation") if key in fields)
    columns = np.array([float(n) for n in matrix.split()]).reshape(3, 3).T * spacing
    lps = np.column_stack([columns, [float(n) for n in origin.split()]])
    placed(volume, np.diag([-1, -1, 1, 1]) @ np.vstack([lps, [0, 0, 0, 1]]))


def dicom(path: Path, volume, kind: str) -> None:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    keys = reader.GetMetaDataKeys()
    if reader.HasMetaDataKey("0028|0004") and "MONOCHROME2" not in reader.GetMetaData("0028|0004"):
        raise Unknown
    if any(key in keys for key in ("0028|1052", "0028|3000", "0028|0120", "0028|0121")):
        raise Unknown
    array = sitk.GetArrayFromImage(reader.Execute())
    same(volume.array.reshape(array.shape), array)


def unknown(path: Path, volume, kind: str) -> None:
    """Nothing in a JPEG tells damaged numbers from others: decoders make of them what they like."""
    raise Unknown


def sitk_picture(io: str):
    def compare(path: Path, volume, kind: str) -> None:
        import SimpleITK as sitk

        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO=io))
        if array.ndim == 3:
            array = array[..., :3]
        assert volume.array[0].shape == array.shape, f"shape {volume.array.shape} instead of {array.shape}"
        same(volume.array[0], array)

    return compare


def tiff(path: Path, volume, kind: str) -> None:
    import tifffile

    with tifffile.TiffFile(path) as file:
        found = [file.pages[n] for n in range(len(volume.array))]  # where tables go in circles there are ever more
        pages = [page.asarray() for page in found]
        if any(page.photometric not in (1, 2) or page.tags.get(274) and page.tags[274].value != 1 for page in found):
            raise Unknown
    if any(page.dtype == bool for page in pages):
        raise Unknown
    array = np.stack(pages)
    same(volume.array, array)


# Weights ---------------------------------------------------------------------------------------------------------------


def checkpoint(path: Path, tensors: dict, kind: str) -> None:
    import torch

    if kind == "weights safetensors":
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        names = json.loads(raw[8 : 8 + length])
        names.pop("__metadata__", None)
        kinds = {"F32": "f4", "I64": "i8", "F64": "f8", "F16": "f2", "I32": "i4", "U8": "u1", "I8": "i1", "I16": "i2"}
        theirs = {}
        for name, entry in names.items():
            start, end = entry["data_offsets"]
            data = raw[8 + length + start : 8 + length + end]
            theirs[name] = np.frombuffer(data, "<" + kinds[entry["dtype"]]).reshape(entry["shape"])
    elif kind in ("weights zip", "weights old"):
        theirs = flat(torch.load(path, weights_only=True, map_location="cpu"))
    else:
        raise Unknown
    assert sorted(tensors) == sorted(theirs), f"names {sorted(tensors)[:3]} instead of {sorted(theirs)[:3]}"
    for name, value in theirs.items():
        same(np.asarray(tensors[name].detach()), np.asarray(value), name)


def flat(value, path: str = "") -> dict:
    import torch

    if isinstance(value, torch.Tensor):
        return {path[1:]: value.detach().numpy()}
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {name: found for key, part in parts for name, found in flat(part, f"{path}.{key}").items()}


ORACLES = {
    "nifti": nifti,
    "nrrd": nrrd,
    "nhdr": nrrd,
    "seg.nrrd": nrrd,
    "mha": metaimage,
    "mhd": metaimage,
    "dicom": dicom,
    "png": sitk_picture("PNGImageIO"),
    "jpeg": unknown,
    "tiff": tiff,
    "weights": checkpoint,
}
