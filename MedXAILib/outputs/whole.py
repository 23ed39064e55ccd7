"""A file whose place is claimed while it is written: whole or not at all, also where two runs write to the same one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import FileError
from .staging import claimed, partial


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path of the same name in a private folder beside ``path``: at the end its file takes the place of ``path``.

    After an error nothing is left behind and what was there before stays.

    :raises InputError: where the file cannot be written, or another run writes it.
    """
    path = Path(os.path.abspath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with claimed(partial(path, path.parent), path, f"writing {path.name}") as folder:
            yield folder / path.name
            os.replace(folder / path.name, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileError(path, f"the file cannot be written ({reason})", "choose another place") from None
