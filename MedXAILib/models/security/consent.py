"""Whether the user allows a program to run: consent, remembered by the hash of the file."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from ...errors import ConsentError
from ...io.atomic import write_text
from ..weights.contents import PROGRAMS, inspect

CONFIG = "MEDXAI_CONFIG"
"""Environment variable: the folder of the user's settings, where consent is remembered."""


def consent(path: Path, kind: str, digest: str, trust: bool) -> None:
    """Let a program pass that the user trusts, now or earlier.

    :param digest: sha256 of the file.
    :raises ConsentError: saying what is being trusted.
    """
    if trust:
        remember(digest)
    elif not is_trusted(digest):
        raise ConsentError(
            path,
            f"this is {kind}, which is a program: opening it can run any code that it contains",
            "if you trust where it comes from, allow it with --trust (remembered for this very file)",
        )


def needs_consent(weights: Path) -> bool:
    """Whether opening a weights file may run code that nobody has consented to; told from its content, never by opening.

    :raises WeightsError: for a file that is refused even with consent, or that is no weights file.
    """
    found = inspect(weights)
    found.refuse()
    if found.kind not in PROGRAMS:
        return False
    with open(weights, "rb") as file:
        return not is_trusted(hashlib.file_digest(file, "sha256").hexdigest())


def config_folder() -> Path | None:
    """The user's settings: MEDXAI_CONFIG, else where the platform keeps such things. None while the package that knows the
    latter is not installed, as in a Slicer whose packages are still to come."""
    if os.environ.get(CONFIG):
        return Path(os.environ[CONFIG])
    try:
        from platformdirs import user_config_dir
    except ModuleNotFoundError:
        return None
    return Path(user_config_dir("medxai", appauthor=False, roaming=True))


def trusted() -> list[str]:
    """The sha256 of every file that was allowed."""
    folder = config_folder()
    if folder is None:
        return []
    try:
        hashes = json.loads((folder / "trusted.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return hashes if isinstance(hashes, list) else []


def is_trusted(digest: str) -> bool:
    """Whether a file of this sha256 was allowed."""
    return digest in trusted()


def remember(digest: str) -> None:
    """Allow a file from now on. Where the settings cannot be written, consent holds for this time only."""
    if not is_trusted(digest):
        _write([*trusted(), digest])


def forget() -> None:
    """Withdraw every consent."""
    _write([])


def _write(hashes: list[str]) -> None:
    folder = config_folder()
    if folder is None:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "trusted.json", json.dumps(hashes, indent=1))
