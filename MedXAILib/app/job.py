"""What is asked for: a small value of plain parts. The command line and the panel build the same; run.json writes it down."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePath

from ..errors import legible

OPTIONS = {"classes": "class", "methods": "method", "layers": "layer", "references": "reference"}
"""Options of the command line that are named unlike the job's parts."""


@dataclass(frozen=True)
class Job:
    """One run over a file or a folder of cases.

    :ivar task: ``predict`` or ``explain``.
    :ivar inputs: channel name -> path; a single unnamed input has the name "".
    :ivar model: path of a model card, or the name of a model that comes with MedXAI.
    :ivar weights_key: the path in the weights file below which the weights lie.
    :ivar classes: class names; empty is the predicted class.
    :ivar threshold: segmentation: explain the region above this probability.
    :ivar voxel, component: segmentation: explain one voxel, or the connected piece that holds it, RAS mm.
    :ivar mask: segmentation: explain the class over this mask, a path.
    :ivar score: ``logits``, or with a threshold ``probabilities``.
    :ivar cells: also write maps of layers on their own grid.
    :ivar references: expected gradients: paths of inputs from which baselines are drawn.
    :ivar budget: leave out methods that need more evaluations.
    :ivar share: of the positive mass that the hot regions hold.
    """

    task: str
    inputs: dict[str, str]
    model: str
    weights: str | None = None
    trust: bool = False
    device: str = "auto"
    frame: int | None = None
    series: str | None = None
    classes: tuple[str, ...] = ()
    threshold: float | None = None
    voxel: tuple[float, float, float] | None = None
    methods: tuple[str, ...] = ("gradcam",)
    layers: tuple[str, ...] = ()
    slices: str | None = None
    samples: int | None = None
    superpixels: int | None = None
    seed: int = 0
    share: float = 0.5
    anatomy: str | None = None
    format: str = "nrrd"
    keep_input: bool = False
    component: tuple[float, float, float] | None = None
    mask: str | None = None
    score: str = "logits"
    baseline: str = "air"
    references: tuple[str, ...] = ()
    budget: int | None = None
    cells: bool = False
    no_probe: bool = False
    weights_key: str | None = None

    @classmethod
    def from_json(cls, values: dict) -> Job:
        """The job of :func:`dataclasses.asdict` after a way through JSON, which turns tuples into lists."""
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})

    def command(self, output: str = "out") -> str:
        """The command line that does the same, for a POSIX shell."""
        words = ["medxai", self.task]
        for name, path in self.inputs.items():
            words += ["--input", f"{name}={path}"] if name else [path]
        words += ["--model", self.model, "-o", output]
        for option, value in self._given():
            words += [f"--{option}"] if value is True else [f"--{option}={value}"]
        return shlex.join(words)

    def _given(self) -> list[tuple[str, object]]:
        """(option, value) of whatever differs from the command line's defaults; lists give one pair for each part."""
        pairs: list[tuple[str, object]] = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("task", "inputs", "model") or value == f.default:
                continue
            option = OPTIONS.get(f.name, f.name.replace("_", "-"))
            if f.name in ("voxel", "component"):
                value = ",".join(f"{mm:g}" for mm in value)
            pairs += [(option, part) for part in value] if isinstance(value, tuple) else [(option, value)]
        return pairs

    def paths(self) -> list[str]:
        """Whatever it names that may be a file."""
        given = [self.model, self.weights, self.anatomy, self.mask]
        return [*self.inputs.values(), *self.references, *(path for path in given if path)]

    def described(self) -> dict:
        """The job as it is written down: file names without the folders they lie in."""
        plain = asdict(self)
        plain["inputs"] = {name: legible(PurePath(path).name) for name, path in self.inputs.items()}
        for name in ("model", "weights", "anatomy", "mask"):
            plain[name] = plain[name] and legible(PurePath(plain[name]).name)
        plain["references"] = [legible(PurePath(path).name) for path in self.references]
        return plain


@dataclass
class Notes:
    """Sentences for the user, collected while a job runs: what was chosen, what is odd.

    :ivar then: called with each new one.
    """

    lines: list[str] = field(default_factory=list)
    then: Callable[[str], None] = lambda text: None

    def __call__(self, text: str) -> None:
        if text not in self.lines:
            self.lines.append(text)
            self.then(text)
