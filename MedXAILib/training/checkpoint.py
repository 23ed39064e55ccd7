"""The state of a training after an epoch, so that it can go on from there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FileError, first_line
from ..io.atomic import whole
from ..models.weights import reading as weights
from ..models.weights.contents import inspect
from .cases import TrainingCase
from .recipe import Recipe

FILE = "checkpoint.pt"


@dataclass(kw_only=True)
class State:
    """Where a training stands.

    :ivar epoch: how many are done.
    :ivar best: the weights of the best epoch so far (of the last one, where no score is defined).
    :ivar rows: the log.
    """

    epoch: int = 0
    network: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    best_score: float = float("-inf")
    best_epoch: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)


def write(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Write a file whole or not at all: what was there stays until the new one is complete. Makes the folder.

    :param content: or what writes to the path given to it.
    :raises FileError: naming the file, where the disk is full or not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as beside:
            if isinstance(content, bytes):
                beside.write_bytes(content)
            else:
                content(beside)
    except (OSError, RuntimeError) as error:  # torch.save tells of a full disk by a RuntimeError
        reason = getattr(error, "strerror", None) or first_line(error)
        left = "; the one of the epoch before is kept" if path.exists() else ""
        raise FileError(
            path,
            f"this file cannot be written ({reason}){left}",
            "make room or give another folder, and try again",
        ) from None


def save(state: State, made_by: str, folder: Path) -> None:
    """Write the checkpoint of an output folder. ``made_by``: the training's :func:`fingerprint`."""
    import torch

    content = {"made_by": made_by, **vars(state)}
    write(folder / FILE, lambda path: torch.save(content, path))


def resume(made_by: str, folder: Path) -> State:
    """The state to go on from: that of the folder's checkpoint, or a new one.

    :raises FileError: for a checkpoint that is damaged, or belongs to another recipe or other data.
    """
    path = folder / FILE
    if not path.exists():
        return State()
    try:
        content = weights.content(inspect(path))
        maker = content.pop("made_by")
        state = State(**content)
    except Exception:
        raise FileError(
            path,
            "this checkpoint is damaged and cannot be read",
            "remove it to begin anew, or put back a copy of it",
        ) from None
    if maker != made_by:
        raise FileError(
            path,
            "this checkpoint belongs to another recipe or other data",
            "give another folder with -o, or remove it to begin anew",
        )
    return state


def fingerprint(recipe: Recipe, cases: Sequence[TrainingCase]) -> str:
    """A hash of everything in a recipe, and of the cases' content."""
    parts = [recipe.model_dump_json(), *(f"{case.image.name} {case.digest}" for case in cases)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
