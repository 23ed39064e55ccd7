"""One case of a run, before anything of it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a network sees at once, and what belongs to it.

    :ivar name: the input's path relative to the folder that was given, with '/', or its own name.
    :ivar inputs: channel -> file or folder; a single one may have the name "".
    :ivar anatomy, mask: of this case; None where there is none, or one for all.
    :ivar labels: what is known of it: a label map, or names of classes; "" where nothing is.
    :ivar series: which DICOM series of its folder; None where the job says it.
    :ivar fault: why it cannot be used; "" where nothing is known against it.
    :ivar folder: where its results go in that of the run, with '/'.
    """

    name: str
    inputs: Mapping[str, Path]
    anatomy: Path | None = None
    mask: Path | None = None
    labels: str | Path = ""
    series: str | None = None
    fault: str = ""
    folder: str = ""

    @property
    def path(self) -> Path | None:
        """Its first input."""
        return next(iter(self.inputs.values()), None)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The cases of a run.

    :ivar remarks: what was left out, and why, a sentence each. :ivar dataset: the folder of the BIDS dataset they are of.
    """

    cases: Sequence[Case]
    remarks: Sequence[str] = ()
    dataset: Path | None = None
