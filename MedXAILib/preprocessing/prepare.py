"""prepare(): from the file's voxels to the tensor that a network expects, as its card says, geometry kept.

The order is: colour, intensity, orientation, spacing, size, mean and deviation, further transforms.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import CardError, InputError
from ..geometry.affine import OPPOSITE, Affine, axis_codes, nearest_axes
from ..geometry.grid import Grid
from ..geometry.resample import resample
from ..geometry.volume import Volume
from ..models.card import Intensity, ModelCard

if TYPE_CHECKING:
    import torch
    from monai.data import MetaTensor

ALLOWED_TRANSFORMS = (
    "GaussianSmooth",
    "GaussianSharpen",
    "MedianSmooth",
    "NormalizeIntensity",
    "ScaleIntensity",
    "ScaleIntensityRange",
    "ScaleIntensityRangePercentiles",
    "ThresholdIntensity",
    "ClipIntensityPercentiles",
    "AdjustContrast",
    "ShiftIntensity",
)
"""MONAI array transforms a card may name: they change intensities only, so the geometry stays known."""
LEAST_OVERLAP = 0.25
"""Inputs of one case must have this much of the smaller one's space in common."""
REPEATED = "The picture is grey and the network takes colour: its one channel was given three times."


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the network sees.

    :ivar tensor: float32 (channel, d0, d1, d2) on the CPU; for slices d0 counts the slices of the file's own axis.
    :ivar grid: where its voxels lie; (d0, d1, d2) is the order of the grid's array.
    :ivar reference: the first input volume, on whose grid results are returned.
    :ivar remarks: what was done to the data that its owner may not expect.
    """

    tensor: torch.Tensor
    grid: Grid
    reference: Volume
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along d0, d1, d2."""
        _, d0, d1, d2 = self.tensor.shape
        return d0, d1, d2

    @property
    def affine(self) -> Affine:
        """4x4, maps the index (d0, d1, d2) of a voxel to RAS mm."""
        return self.grid.array_affine

    def nearest(self, ras: tuple[float, float, float]) -> NDArray[np.int_]:
        """Index (d0, d1, d2) of the voxel nearest to a RAS point in mm; it may lie outside the grid."""
        return np.round(self.grid.index_of(ras)).astype(int)

    @cached_property
    def extent(self) -> list[tuple[float, float]]:
        """The first and the last voxel along d0, d1, d2 that the reference volume fills; beyond lies padding."""
        faces = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in self.reference.shape]), -1).reshape(-1, 3)
        at = self.grid.index_of(self.reference.ras(faces))
        return [(float(low) + 0.5, float(high) - 0.5) for low, high in zip(at.min(0), at.max(0), strict=True)]

    def volume(self, array: NDArray[Any], affine: Affine | None = None) -> Volume:
        """An array (d0, d1, d2[, channel]) on this grid (or on ``affine``, in d0, d1, d2 order) as a Volume."""
        grid = Grid.of_array(array.shape[:3], self.affine if affine is None else affine)
        own = self.reference
        return Volume(array, grid.affine, own.source if grid.same_as(own.grid) else own.source.elsewhere())

    @property
    def aligned(self) -> bool:
        """Whether this grid, in d0, d1, d2 order, is the reference volume's own array."""
        return self.grid.same_as(self.reference.grid)


def named_inputs(card: ModelCard, inputs: Volume | Mapping[str, Volume]) -> dict[str, Volume]:
    """The input volumes in the card's order; the first is the reference grid.

    :raises InputError: naming the inputs that are missing or unknown.
    """
    names = [channel.name for channel in card.input.channels]
    if isinstance(inputs, Volume):
        inputs = {names[0]: inputs}
    if not isinstance(inputs, Mapping) or not all(isinstance(volume, Volume) for volume in inputs.values()):
        raise InputError(
            f"{card.name} takes a Volume, or a dict of one for each of its inputs ({', '.join(names)})",
            "read a file with read_volume(PATH), or give an array its place with Volume(array, affine)",
            joint=": ",
        )
    missing, unknown = [n for n in names if n not in inputs], [n for n in inputs if n not in names]
    if missing or unknown:
        fault = f"the input '{missing[0]}' is missing" if missing else f"the input '{unknown[0]}' is unknown"
        raise InputError(
            fault,
            f"its inputs are {', '.join(names)} (on the command line, --input NAME=PATH for each)",
            about=card.name,
        )
    return {name: inputs[name] for name in names}


def prepare(card: ModelCard, inputs: Volume | Mapping[str, Volume]) -> Prepared:
    """Preprocess volumes as ``card`` says.

    :param inputs: one volume, or one for each named channel; the others are resampled onto the first one's grid.
    :raises InputError: for missing inputs or a wrong number of channels.
    """
    import torch
    from monai.data import MetaTensor

    volumes = named_inputs(card, inputs)
    reference = next(iter(volumes.values()))
    channels: list[NDArray[Any]] = []
    remarks: list[str] = []
    for name, volume in volumes.items():
        if not volume.grid.same_as(reference.grid):
            remarks.append(onto(volume, reference, name))
            volume = resample(volume, reference.grid, outside=float(np.nanmin(volume.array)))
        array = color(card, volume)
        remarks += [REPEATED] if array.shape[3] > volume.channels else []
        array, remark = intensity(card.input.intensity, array)
        remarks += remark
        channels += [array[..., c].transpose(2, 1, 0) for c in range(array.shape[3])]
    tensor = torch.from_numpy(np.ascontiguousarray(np.stack(channels), np.float32))
    image = MetaTensor(tensor, affine=torch.from_numpy(reference.affine))
    slice_axis = card.spatial.sliced_along(reference)
    image = orient(card, image, slice_axis)
    codes_axis = None if slice_axis is None else oriented_axis(image, reference, slice_axis)
    image = place(card, image, codes_axis)
    rule = card.input.intensity
    if rule.rule == "eight_bit":
        image = cast("MetaTensor", image / 255)
    image = further(card, cast("MetaTensor", (image - rule.mean) / rule.std))
    order = [0, 1, 2] if card.input.axis_order == "ijk" else [2, 1, 0]
    if codes_axis is not None:
        order = [codes_axis] + [axis for axis in order if axis != codes_axis]
    affine = image.affine.double().numpy()[:, [*order, 3]]
    tensor = image.as_tensor().permute(0, *(axis + 1 for axis in order)).contiguous()
    _, d0, d1, d2 = tensor.shape
    grid = Grid.of_array((d0, d1, d2), affine, reference.grid.frame_of_reference)
    return Prepared(tensor, grid, reference, tuple(remarks))


def onto(volume: Volume, reference: Volume, name: str) -> str:
    """What is to be said of an input that is resampled onto the first one's grid.

    :raises InputError: where the two lie so far apart that they can hardly be of one patient.
    """
    common = overlap(volume, reference)
    if common < LEAST_OVERLAP:
        raise InputError(
            f"The input '{name}' ({volume.source.name or 'a volume'}) and the first one share only {100 * common:.0f} % of the smaller "
            f"one's space, and less than {100 * LEAST_OVERLAP:.0f} % is refused",
            "are they of one patient and one examination? Register one onto the other, if so",
            joint=": ",
        )
    whole = (
        f", of which it covers {100 * covered:.0f} %" if (covered := fraction_inside(reference, volume)) < 0.99 else ""
    )
    return f"The input '{name}' lies on another grid and was resampled onto the first one's{whole}."


def overlap(one: Volume, other: Volume) -> float:
    """The space that two volumes have in common, as a fraction of the smaller one's."""
    return max(fraction_inside(one, other), fraction_inside(other, one))


def fraction_inside(one: Volume, other: Volume) -> float:
    """The fraction of a volume's space that lies in another one: of some 30,000 evenly spread points."""
    axes = [np.linspace(-0.5, n - 0.5, 65)[1::2] for n in one.shape]
    points = other.ijk(one.ras(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)))
    return float(np.mean(np.all((points >= -0.5) & (points <= np.array(other.shape) - 0.5), axis=1)))


def color(card: ModelCard, volume: Volume) -> NDArray[Any]:
    """The array as (k, j, i, channel) with the number of channels that the card wants of each input.

    Luminance is ITU-R 601 in PIL's fixed-point form for 8-bit data, so that a network trained on PIL's "L" sees the same.
    """
    array, wanted, name = volume.array, card.input.color, volume.source.name or "the input"
    if wanted == "rgb" and volume.channels == 1:
        return np.repeat(array.reshape(*array.shape[:3], 1), 3, axis=3)
    if wanted == "rgb":
        if volume.channels != 3:
            raise InputError(
                f"the model {card.name} wants RGB and this has {volume.channels} channel(s)",
                "give a colour image",
                about=name,
            )
        return array
    if volume.channels == 1:
        return array[..., None] if array.ndim == 3 else array
    if volume.channels == 3 and wanted == "luminance":
        if array.dtype == np.uint8:
            fixed = array.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
            return ((fixed + 0x8000) >> 16).astype(np.uint8)[..., None]
        return (array.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    raise InputError(
        f"this has {volume.channels} channels and the model {card.name} takes 1",
        "give a one-channel volume, or set input.color to luminance in the card",
        about=name,
    )


def intensity(rule: Intensity, array: NDArray[Any]) -> tuple[NDArray[np.float32], list[str]]:
    """Scale the stored values as the card says (mean and deviation come later). Not-a-number counts as the minimum."""
    import torch
    from monai.transforms import NormalizeIntensity, ScaleIntensityRange, ScaleIntensityRangePercentiles

    stored = array.dtype
    array = array.astype(np.float32)
    remarks = []
    if not np.isfinite(array).all():
        finite = array[np.isfinite(array)]
        array = np.where(np.isfinite(array), array, finite.min() if finite.size else 0)
        remarks.append("Voxels that are not a number were set to the minimum.")
    if rule.rule == "none":
        return array, remarks
    if rule.rule == "eight_bit":
        if stored != np.uint8:
            low, high = np.percentile(array, [0.5, 99.5])
            array = np.clip((array - low) / max(high - low, 1e-6), 0, 1) * 255
            remarks.append(
                f"The model was trained on 8-bit pictures: {low:g} to {high:g} (0.5 and 99.5 percentiles) became 0 to 255."
            )
        return np.round(array), remarks
    transform: Callable[[Any], Any]
    if rule.rule == "zscore":
        transform = NormalizeIntensity(nonzero=True)
    else:
        assert rule.lower is not None and rule.upper is not None  # the card saw to it
        scale = ScaleIntensityRange if rule.rule == "range" else ScaleIntensityRangePercentiles
        transform = scale(rule.lower, rule.upper, 0, 1, clip=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Divide by zero")  # of one value everywhere: the caveat says so
        return np.asarray(transform(torch.from_numpy(np.ascontiguousarray(array)))), remarks


def orient(card: ModelCard, image: MetaTensor, slice_axis: int | None) -> MetaTensor:
    """Permute and flip to the card's orientation; along the slice axis the file's own direction is kept, so that
    slice numbers stay those of the file."""
    from monai.transforms import Orientation

    codes = card.input.orientation
    if codes == "native":
        return image
    if slice_axis is not None:
        own = axis_codes(image.affine.numpy())[slice_axis]
        codes = codes.replace(OPPOSITE[own], own)
    turned = Orientation(axcodes=codes, labels=(("L", "R"), ("P", "A"), ("I", "S")))(image)
    return cast("MetaTensor", turned)


def oriented_axis(image: MetaTensor, reference: Volume, slice_axis: int) -> int:
    """Where the file's slice axis went."""
    return nearest_axes(image.affine.numpy()).index(nearest_axes(reference.affine)[slice_axis])


def place(card: ModelCard, image: MetaTensor, slice_axis: int | None) -> MetaTensor:
    """Spacing, then size, on the oriented image (channel, i, j, k)."""
    from monai.transforms import Resize, ResizeWithPadOrCrop, Spacing

    wanted = card.input
    if wanted.spacing is not None:
        spaced = Spacing(wanted.spacing, mode="bilinear", padding_mode="border", align_corners=False)(image)
        image = cast("MetaTensor", spaced)
    if wanted.size is None:
        return image
    size = list(wanted.size)
    if slice_axis is not None:
        size.insert(slice_axis, image.shape[1 + slice_axis])
    if wanted.resampler == "pil_bilinear":
        assert slice_axis is not None  # the card saw to it
        return pil_resize(image, size, slice_axis)
    if wanted.fit == "resize":
        return cast("MetaTensor", Resize(size, mode="trilinear", align_corners=False)(image))
    return cast("MetaTensor", ResizeWithPadOrCrop(size, mode="constant", value=float(image.min()))(image))


def pil_resize(image: MetaTensor, size: list[int], slice_axis: int) -> MetaTensor:
    """Resize slice by slice with PIL's bilinear filter (8-bit where the card says eight_bit: the values are whole then)."""
    import torch
    from monai.data import MetaTensor
    from PIL import Image

    stack = image.as_tensor().movedim(1 + slice_axis, 1).numpy()  # (channel, slice, a, b), a before b in i, j, k
    columns, rows = [n for axis, n in enumerate(size) if axis != slice_axis]
    whole = bool((stack == np.round(stack)).all() and stack.min() >= 0 and stack.max() <= 255)

    def one(picture: NDArray[Any]) -> NDArray[np.float32]:
        # columns first, as in a picture file: PIL rounds between its two passes
        picture = np.ascontiguousarray((picture.astype(np.uint8) if whole else picture).T)
        return np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR), np.float32).T

    resized = np.stack([np.stack([one(picture) for picture in channel]) for channel in stack])
    scale = np.ones(3)
    for axis in range(3):
        scale[axis] = image.shape[1 + axis] / size[axis]
    shrink = np.diag([*scale, 1.0])
    shrink[:3, 3] = (scale - 1) / 2  # the outer faces stay, the centres move
    tensor = torch.from_numpy(resized).movedim(1, 1 + slice_axis)
    return MetaTensor(tensor.contiguous(), affine=image.affine.double() @ torch.from_numpy(shrink))


def further(card: ModelCard, image: MetaTensor) -> MetaTensor:
    """The card's own list of MONAI transforms.

    :raises CardError: for one that is not on the list of allowed names.
    """
    import monai.transforms

    for step in card.input.transforms:
        name = step.get("name")
        if name not in ALLOWED_TRANSFORMS:
            raise CardError(
                card.name,
                f"the field 'input.transforms' names '{name}'",
                f"allowed are {', '.join(ALLOWED_TRANSFORMS)}",
            )
        image = getattr(monai.transforms, name)(**step.get("arguments", {}))(image)
    return image
