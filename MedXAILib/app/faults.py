"""What goes wrong with one case, in a sentence that names it; and what is no fault of a case."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import NO_MEMORY, InputError, NetworkError, first_line, of_path, out_of_memory
from ..progress import Cancelled

LOST = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ENOSPC, errno.EROFS)
"""Errors of a disk or a mount, not of a file."""


@contextmanager
def about(name: str, writing: bool = False) -> Iterator[None]:
    """Errors of one case name it.

    :param writing: results are being written: what the system refuses then is the machine's fault.
    :raises InputError: in place of whatever else was raised.
    :raises OSError: where the machine is at fault: this is no case's.
    """
    try:
        yield
    except OSError as error:
        if writing or error.errno in LOST:
            raise
        raise of_path(error) from None
    except InputError as error:
        raise error if name in str(error) else InputError(f"{name}: {error}") from error
    except (Cancelled, ModuleNotFoundError):
        raise
    except Exception as error:  # a network may raise anything
        what = NO_MEMORY if out_of_memory(error) else f"{type(error).__name__}: {first_line(error)}"
        raise NetworkError(f"{name}: {what}") from error
