"""The state of a training after an epoch, so that it can go on from there."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from .recipe import Recipe

FILE = "checkpoint.pt"


@dataclass
class State:
    """``epoch``: how many are done. ``best``: the weights of the best epoch so far. ``rows``: the log."""

    epoch: int = 0
    network: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    best_score: float = float("-inf")
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
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:120]
        left = "; the one of the epoch before is kept" if path.exists() else ""
        raise InputError(
            f"{path}: this file cannot be written ({reason}){left}; make room, and give the same command again."
        ) from None
    finally:
        beside.unlink(missing_ok=True)


def save(state: State, recipe: Recipe, folder: Path) -> None:
    """Write the checkpoint of an output folder."""
    import torch

    content = {"recipe": fingerprint(recipe), **vars(state)}
    write(None, folder / FILE, lambda path: torch.save(content, path))


def resume(recipe: Recipe, folder: Path) -> State:
    """The state to go on from: that of the folder's checkpoint, or a new one.

    :raises InputError: for a checkpoint that is damaged or belongs to another recipe.
    """
    import torch

    path = folder / FILE
    if not path.exists():
        return State()
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        made_by = content.pop("recipe")
        state = State(**content)
    except Exception:
        raise InputError(
            f"{path}: this checkpoint is damaged and cannot be read; remove it to begin anew, or put back a copy of it."
        ) from None
    if made_by != fingerprint(recipe):
        raise InputError(
            f"{path}: this checkpoint belongs to another recipe; give another folder with -o, or remove it to begin anew."
        )
    return state


def fingerprint(recipe: Recipe) -> str:
    """A hash of everything in a recipe."""
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()
