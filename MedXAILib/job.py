"""What is asked for: a small value of plain parts, which run.json writes down."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import PurePath


@dataclass(frozen=True)
class Job:
    """One run over a file or a folder of cases.

    :ivar task: ``predict`` or ``explain``.
    :ivar inputs: channel name -> path; a single unnamed input has the name "".
    :ivar model: path of a model card, or the name of a model that comes with MedXAI.
    :ivar classes: class names; empty is the predicted class.
    :ivar threshold: segmentation: explain the region above this probability.
    :ivar voxel: segmentation: explain one voxel, RAS mm.
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

    def described(self) -> dict:
        """The job as it is written down: file names without the folders they lie in."""
        plain = asdict(self)
        plain["inputs"] = {name: PurePath(path).name for name, path in self.inputs.items()}
        for name in ("model", "weights", "anatomy"):
            plain[name] = plain[name] and PurePath(plain[name]).name
        return plain


@dataclass
class Notes:
    """Sentences for the user, collected while a job runs: what was chosen, what is odd."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        if text not in self.lines:
            self.lines.append(text)
