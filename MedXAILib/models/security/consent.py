"""Whether the user allows a program to run: consent, remembered by the hash of the file."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from ...errors import InputError

CONFIG = "MEDXAI_CONFIG"
"""Environment variable: the folder of the user's settings, where consent is remembered."""


def consent(path: Path, kind: str, digest: str, trust: bool) -> None:
    """Let a program pass that the user trusts, now or earlier.

    :param digest: sha256 of the file.
    :raises InputError: saying what is being trusted.
    """
    if trust:
        remember(digest)
    elif not is_trusted(digest):
        raise InputError(
            f"{path}: this is {kind}, which is a program: opening it can run any code that it contains; if you trust where "
            "it comes from, allow it with --trust (remembered for this very file)."
        )


def config_folder() -> Path:
    """The user's settings: MEDXAI_CONFIG, else where the platform keeps such things."""
    if os.environ.get(CONFIG):
        return Path(os.environ[CONFIG])
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "medxai"


def trusted() -> list[str]:
    """The sha256 of every file that was allowed."""
    try:
        hashes = json.loads((config_folder() / "trusted.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return hashes if isinstance(hashes, list) else []


def is_trusted(digest: str) -> bool:
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
    beside = folder / f"trusted.{os.getpid()}.part"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(hashes, indent=1), encoding="utf-8")
        os.replace(beside, folder / "trusted.json")
    with suppress(OSError):
        beside.unlink(missing_ok=True)
