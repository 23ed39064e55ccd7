"""ModelCard: what a network expects of its input and what its output means. JSON beside the weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import CardError, InputError, of_path
from ..geometry.volume import Volume
from ..names import matching
from .schema import SCHEMA_VERSION, refuse_newer, voxelwise
from .summary import quantity

TO_FILL = "FILL IN"
"""How a text begins in a drafted card where its owner has to put something."""


FROM_FILE = "file"
"""The architecture's name in a card whose weights file is itself the network (TorchScript, torch.export)."""


class Strict(BaseModel):
    """Refuses fields that it does not know, and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(Strict):
    """``architecture`` is one of MedXAILib.models.networks or monai.networks.nets, and ``arguments`` go to it by name;
    or it is ``file``: the weights file is itself the network (TorchScript, torch.export)."""

    architecture: str
    arguments: dict[str, Any] = {}


class Weights(Strict):
    """File name (no folder) and sha256; looked for beside the card, then through --weights and MEDXAI_MODEL_PATH."""

    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None


class Slices(Strict):
    """A 2D network, run over every slice. ``axis``: an anatomical plane (the nearest axis of the file is taken) or i, j, k.

    ``aggregate``: how slice probabilities become one for the volume.
    """

    dimensions: ClassVar[int] = 2
    by_slices: ClassVar[bool] = True
    mode: Literal["slices"]
    axis: Literal["axial", "coronal", "sagittal", "i", "j", "k"] = "axial"
    aggregate: Literal["max", "mean"] = "max"

    def input_size(self, shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Spatial shape of what the network gets of a prepared volume (d0, d1, d2)."""
        return shape[1:]

    def sliced_along(self, volume: Volume) -> int | None:
        """The file's index axis (0 i, 1 j, 2 k) along which slices are cut; None where the network sees no slices."""
        return volume.axis_index(self.axis)


class Whole(Strict):
    """A 3D network that sees the volume in one piece."""

    dimensions: ClassVar[int] = 3
    by_slices: ClassVar[bool] = False
    axis: ClassVar[None] = None
    mode: Literal["whole"]

    def input_size(self, shape: tuple[int, int, int]) -> tuple[int, ...]:
        """See :meth:`Slices.input_size`."""
        return shape

    def sliced_along(self, volume: Volume) -> int | None:
        """See :meth:`Slices.sliced_along`."""
        return None


class Windows(Strict):
    """A 3D network that sees overlapping windows (``size`` in voxels of the network's grid), blended by Gaussian weights."""

    dimensions: ClassVar[int] = 3
    by_slices: ClassVar[bool] = False
    axis: ClassVar[None] = None
    mode: Literal["windows"]
    size: tuple[int, int, int]
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    aggregate: Literal["max", "mean"] = "max"

    def input_size(self, shape: tuple[int, int, int]) -> tuple[int, ...]:
        """See :meth:`Slices.input_size`."""
        return self.size

    def sliced_along(self, volume: Volume) -> int | None:
        """See :meth:`Slices.sliced_along`."""
        return None


class Channel(Strict):
    """One named input volume; the first one's grid is the reference."""

    name: str
    modality: str = ""


class Intensity(Strict):
    """How stored values become the network's: scale by ``rule``, then (x - mean) / std.

    range: [lower, upper] to [0, 1], clipped. percentile: the same between two percentiles of the volume.
    zscore: mean 0, deviation 1 over the voxels that are not 0. eight_bit: rounded to 0..255, then / 255;
    data that is not 8-bit is scaled first, its 0.5 and 99.5 percentiles to 0 and 255. none: as stored.
    """

    rule: Literal["range", "percentile", "zscore", "eight_bit", "none"] = "none"
    lower: float | None = None
    upper: float | None = None
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def bounds(self) -> Self:
        """Two of the rules need them."""
        if self.rule in ("range", "percentile") and (
            self.lower is None or self.upper is None or self.lower >= self.upper
        ):
            raise ValueError(f"the rule {self.rule} needs lower < upper")
        return self


Range = tuple[float, float]
Coarse = Annotated[list[float], Field(min_length=64, max_length=64)]
"""Means over 8 x 8 cells of a slice, or 4 x 4 x 4 cells of a volume."""


class Expected(Strict):
    """Which inputs the model knows: figures of its training data, each as a range with its margin. Measured by
    MedXAILib.preprocessing.suitability, which says what each figure is; whoever lies outside gets a caveat.

    ``cases``: how many were measured. ``modality``: DICOM's code (MR, CT), compared where a file gives one. ``orientation``:
    the ways that a volume's axes run, where the card does not turn it (``RAS``), or along which axis slices are cut
    (``S-I``), compared where a file gives its place. ``spacing``,
    ``field_of_view``: mm along R-L, A-P, S-I; ``pixels``: of slices, how much longer than wide. ``colour``: how much the
    channels of a picture differ, where the card takes colours. ``stored``: quantiles of the
    file's values in the body, where the rule of intensity is range or none. ``seen``: input's name -> figures of the picture
    that the network sees. ``average``, ``deviation``: the mean coarse picture, and how much each of its cells varies.
    """

    cases: int = 0
    modality: tuple[str, ...] = ()
    orientation: tuple[str, ...] = ()
    spacing: dict[str, Range] = {}
    field_of_view: dict[str, Range] = {}
    pixels: dict[str, Range] = {}
    colour: dict[str, Range] = {}
    stored: dict[str, Range] = {}
    seen: dict[str, dict[str, Range]] = {}
    average: dict[str, Coarse] = {}
    deviation: dict[str, Coarse] = {}


class Input(Strict):
    """``orientation``: ``native``, or the directions toward which i, j, k increase (``RAS``, ``LIA``).

    ``axis_order``: order of the tensor's spatial axes. ``spacing``: mm along i, j, k, or null for the file's own.
    ``size``: voxels along i, j, k (two numbers, columns and rows, for slices) or null; ``fit``: how it is reached.
    ``resampler``: ``linear`` (MONAI) or ``pil_bilinear`` (slices only; PIL's, which smooths when it shrinks).
    ``color``: ``grey`` refuses RGB, ``luminance`` turns it to grey (ITU-R 601), ``rgb`` wants it
    and gets a grey channel three times.
    ``transforms``: further MONAI array transforms, run last: [{"name": "GaussianSmooth", "arguments": {...}}].
    ``expected``: which inputs the model knows; ``medxai train`` and ``medxai card check --expect`` measure it.
    """

    channels: Annotated[list[Channel], Field(min_length=1)] = [Channel(name="image")]
    color: Literal["grey", "luminance", "rgb"] = "grey"
    orientation: Annotated[str, Field(pattern="^(native|[RLAPSI]{3})$")] = "native"
    axis_order: Literal["kji", "ijk"] = "kji"
    spacing: tuple[float, float, float] | None = None
    size: tuple[int, int] | tuple[int, int, int] | None = None
    fit: Literal["resize", "pad_or_crop"] = "resize"
    resampler: Literal["linear", "pil_bilinear"] = "linear"
    intensity: Intensity = Intensity()
    transforms: list[dict[str, Any]] = []
    expected: Expected | None = None


class OutputLabel(Strict):
    """A class; its place in the list is its channel. ``color``: r, g, b in 0..1."""

    name: str
    color: tuple[float, float, float] | None = None


class Output(Strict):
    """What the network's numbers mean.

    ``kind``: ``logits``, of which ``activation`` makes probabilities; ``probabilities``, where the network ends in that
    activation itself; ``log_probabilities``, where it ends in a log-softmax; ``value``, a measurement for each label, as
    an age, in ``unit``. ``which``: where ``forward`` gives several tensors, the one that is meant, by its place or name
    (``1``, ``-1``, ``"logits"``, and ``"heads.0"`` for the first of the list ``heads``).
    ``exclusive``: one class at a time (softmax; in a segmentation channel 0 is the background), else sigmoids.
    """

    labels: Annotated[list[OutputLabel], Field(min_length=1)]
    activation: Literal["softmax", "sigmoid"] = "softmax"
    kind: Literal["logits", "probabilities", "log_probabilities", "value"] = "logits"
    unit: str = ""
    which: int | str | None = None

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """What one field says of another."""
        if self.unit and self.kind != "value":
            raise ValueError(f"unit belongs to the kind value, and the kind here is {self.kind}")
        return self

    @property
    def exclusive(self) -> bool:
        """Whether the classes exclude each other."""
        return self.activation == "softmax" and self.kind != "value"

    def text(self, number: float) -> str:
        """What the network says of a label, in words: ``p 0.734``, ``58.3 years``."""
        return quantity(number, self.unit) if self.kind == "value" else f"p {number:.3f}"


class ModelCard(Strict):
    """Everything that varies between networks. See the fields' own classes.

    ``schema_version``: of these fields; a card without it is older than the field, and means what it says here.
    ``task``: ``classification`` gives numbers for the whole (or each slice), ``segmentation`` classes for each voxel.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    description: str = ""
    task: Literal["classification", "segmentation"]
    network: Network
    weights: Weights
    spatial: Annotated[Slices | Whole | Windows, Field(discriminator="mode")]
    input: Input = Input()
    output: Output
    layers: list[str] = []
    """Default layers to explain, named as in ``network.named_modules()``."""
    methods: list[str] = []
    """Methods that suit this network, as ``medxai explain --method`` names them: a suggestion."""
    provenance: str = ""
    licence: str = ""
    figures: dict[str, Any] = {}
    weaknesses: list[str] = []

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """What one field says of another."""
        slices = self.spatial.by_slices
        if self.input.size is not None and len(self.input.size) != (2 if slices else 3):
            raise ValueError(f"input.size needs {2 if slices else 3} numbers for the spatial mode {self.spatial.mode}")
        if self.input.resampler == "pil_bilinear" and not slices:
            raise ValueError("input.resampler pil_bilinear is for the spatial mode slices")
        if slices and self.input.spacing is not None:
            raise ValueError("input.spacing is not used in the spatial mode slices; give input.size")
        if self.voxelwise and self.output.kind == "value":
            raise ValueError("output.kind value is for the task classification")
        names = [label.name for label in self.output.labels]
        if len(set(names)) < len(names):
            raise ValueError("output.labels has a name twice")
        return self

    @property
    def voxelwise(self) -> bool:
        """Whether it says something of each voxel."""
        return voxelwise(self.task)

    def written(self) -> dict[str, Any]:
        """As it stands in a file: the version, and the fields that differ from their defaults."""
        return {"schema_version": self.schema_version} | self.model_dump(mode="json", exclude_defaults=True)

    def index(self, name: str | int) -> int:
        """Channel of a class, by name, in any spelling of capitals and hyphens; a number is the channel itself.

        :raises InputError: listing the classes.
        """
        names = [label.name for label in self.output.labels]
        if isinstance(name, int) and 0 <= name < len(names):
            return name
        found = None if isinstance(name, int) else matching(str(name), names)
        if found is None:
            raise InputError(f"{self.name} has no class '{name}'", f"choose one of {', '.join(names)}", joint=": ")
        return names.index(found)


def read_card(path: str | Path) -> ModelCard:
    """Read and validate a card.

    :raises CardError: naming the file and, for a wrong field, the field and what it takes.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        refuse_newer(content, path)
        for field, text in unfilled(content):
            raise CardError(path, f"the field '{field}' is still to be filled in ({text}).")
        return ModelCard.model_validate(content)
    except FileNotFoundError:
        raise CardError(path, "there is no such model card", "give the path of a card (a .json file)") from None
    except OSError as error:
        raise of_path(error) from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CardError(
            path, f"this is no readable JSON model card ({error})", "make one with 'medxai card new WEIGHTS'"
        ) from None
    except ValidationError as error:
        fault, remedy = _first_fault(error)
        raise CardError(path, fault if remedy else f"{fault}.", remedy) from None


def unfilled(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(field, what it takes) of every place in a card that is still to be filled in."""
    if isinstance(value, str) and value.startswith(TO_FILL):
        yield field, value.removeprefix(TO_FILL).strip(": ")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from unfilled(part, f"{field}.{name}" if field else str(name))


def explain_field(error: ValidationError) -> str:
    """The first fault of a card in words: the field's path and what is wrong with it."""
    return "; ".join(filter(None, _first_fault(error)))


def _first_fault(error: ValidationError) -> tuple[str, str]:
    """The same as (fault, remedy), the latter "" where the fault says it."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "the card"
    if first["type"] == "extra_forbidden":
        return f"the field '{field}' is unknown", "remove it or mend its spelling"
    message = first["msg"].removeprefix("Value error, ")
    return f"the field '{field}' is wrong: {message[0].lower() + message[1:]}", ""
