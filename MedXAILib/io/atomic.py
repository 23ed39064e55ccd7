"""A file that is written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

UNFINISHED = re.compile(r"^\.[0-9a-f]{12}\.partial-")
"""Names of files that whoever wrote them did not finish, where he is gone."""


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path beside ``path``, with its suffixes: what is written there takes the place of ``path`` when the block ends.

    After an error nothing is left behind, and what was there before stays.

    :raises OSError: where it cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{uuid4().hex[:12]}.partial-{path.name}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Text in UTF-8.

    :raises OSError: where it cannot be written.
    """
    with whole(path) as beside:
        beside.write_text(text, encoding="utf-8")
