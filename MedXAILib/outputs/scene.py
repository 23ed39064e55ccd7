"""The scene's file, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError
from ..mrml.scene import Scene, write_bundle
from .whole import written_whole


def save_scene(scene: Scene, path: str | Path) -> Path:
    """Write the scene as .mrb.

    :raises InputError: for another suffix, or where the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise FileError(path, "a scene is saved as .mrb", "give it that suffix")
    with written_whole(path) as beside:
        write_bundle(scene.host.scene, beside)
    return path
