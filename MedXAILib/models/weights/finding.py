"""Where the weights of a model card lie: beside it, or in a folder that the user names."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError, WeightsError

SEARCH_PATH = "MEDXAI_MODEL_PATH"
"""Environment variable: folders in which weights are looked for, separated as in PATH."""


def search_places(folder: Path | None) -> list[Path]:
    """Where weights are looked for: beside the card, then in the folders of MEDXAI_MODEL_PATH."""
    places = [Path(part) for part in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if part]
    return [folder, *places] if folder else places


def weights_beside(folder: Path, file: str) -> Path | None:
    """The weights file beside its card, else in a folder of MEDXAI_MODEL_PATH; None where it is in neither."""
    return next((place / file for place in search_places(folder) if (place / file).is_file()), None)


def find_weights(model: str, file: str, folder: Path | None, given: str | Path | None) -> Path:
    """The weights file of a card: ``given`` if that is one, else the card's ``file`` in it, else beside the card, else on
    MEDXAI_MODEL_PATH.

    :param model: the card's name, for the error.
    :param folder: that of the card.
    :raises WeightsError: saying where it was looked for.
    """
    if given is not None and not isinstance(given, str | os.PathLike):
        raise InputError(
            "this is no path", "give that of the weights file or of its folder", about=f"weights={given!r}"
        )
    if given is not None:
        places = [Path(given)]
        if places[0].is_file():
            return places[0]
    else:
        places = search_places(folder)
    for place in places:
        if (place / file).is_file():
            return place / file
    looked = " or ".join(str(place) for place in places) or "any folder (none was given)"
    raise WeightsError(
        file,
        f"the weights of {model} are not in {looked}",
        f"give them with --weights PATH, or put their folder into the environment variable {SEARCH_PATH}",
    )
