"""A picture's file, written whole or not at all, with what must be read beside it inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ... import NOTICE
from ...io.atomic import whole
from ..whole import written_whole

if TYPE_CHECKING:
    from PIL.Image import Image

FOOTER = NOTICE + ". Shows influence on the model, not pathology."


def write_png(picture: Image, path: Path, heading: str) -> None:
    """A picture as PNG, with its title and the disclaimer inside.

    :raises InputError: where the file cannot be written, or another run writes it.
    """
    with written_whole(path) as beside:
        _save(picture, beside, heading)


def replace_png(picture: Image, path: Path, heading: str) -> None:
    """The same of a picture that others may make at the same time from the same results: the last one stays.

    :raises OSError: where the file cannot be written.
    """
    with whole(path) as beside:
        _save(picture, beside, heading)


def _save(picture: Image, path: Path, heading: str) -> None:
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("Title", heading)
    notes.add_text("Disclaimer", FOOTER)
    picture.save(path, "PNG", pnginfo=notes)
