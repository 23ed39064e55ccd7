"""The state of a training after an epoch, so that it can go on from there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, first_line
from ..models.weights import reading as weights
from ..models.weights.contents import inspect
from .cases import Case
from .recipe import Recipe

FILE = "checkpoint.pt"


@dataclass
class State:
    """``epoch``: how many are done. ``best``: the weights of the best epoch so far (of the last one, where no score is defined). ``rows``: the log."""

    epoch: int = 0
    network: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    best_score: float = float("-inf")
    best_epoch: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)


def write(content: bytes | None, path: Path, save=None) -> None:
    """Write beside, then rename: what was there stays until the new file is complete. Makes the folder.

    :param save: writes to a path, instead of ``content``.
    :raises InputError: naming the file, where the disk is full or not writable.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if save is None:
            beside.write_bytes(content)
        else:
            save(beside)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:  # torch.save tells of a full disk by a RuntimeError
        reason = getattr(error, "strerror", None) or first_line(error)
        left = "; the one of the epoch before is kept" if path.exists() else ""
        raise InputError(
            f"{path}: this file cannot be written ({reason}){left}; make room or give another folder, and try again."
        ) from None
    finally:
        beside.unlink(missing_ok=True)


def save(state: State, made_by: str, folder: Path) -> None:
    """Write the checkpoint of an output folder. ``made_by``: the training's :func:`fingerprint`."""
    import torch

    content = {"made_by": made_by, **vars(state)}
    write(None, folder / FILE, lambda path: torch.save(content, path))


def resume(made_by: str, folder: Path) -> State:
    """The state to go on from: that of the folder's checkpoint, or a new one.

    :raises InputError: for a checkpoint that is damaged, or belongs to another recipe or other data.
    """
    path = folder / FILE
    if not path.exists():
        return State()
    try:
        content = weights.content(inspect(path))
        maker = content.pop("made_by")
        state = State(**content)
    except Exception:
        raise InputError(
            f"{path}: this checkpoint is damaged and cannot be read; remove it to begin anew, or put back a copy of it."
        ) from None
    if maker != made_by:
        raise InputError(
            f"{path}: this checkpoint belongs to another recipe or other data; give another folder with -o, or remove it to "
            "begin anew."
        )
    return state


def fingerprint(recipe: Recipe, cases: Sequence[Case]) -> str:
    """A hash of everything in a recipe, and of the cases' content."""
    parts = [recipe.model_dump_json(), *(f"{case.image.name} {case.digest}" for case in cases)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
