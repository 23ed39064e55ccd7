"""What the panel and its worker say to each other: requests and events as JSON lines, volumes as files beside them.

Panel and worker ship together: one of another version is refused. Requests ``{"id": 1, "do": ...}``, carried out in their
order:

==========  ============================================================================================
load        ``handle``, ``path``, ``source``: read a volume once; jobs then name it by its handle
forget      ``handle``
methods     nothing: which methods there are, with their options
predict     ``job``: the Job that the command line builds; its inputs are handles or paths
explain     the same
structures  ``map``, ``reference`` (a handle), ``anatomy``: fractions of a stored map by structure
export      ``results``, ``output`` ...: stored results as the output folder that the command line writes
cancel      ``of``: stop that request after the running operator
quit
==========  ============================================================================================

Events ``{"event": ..., "id": 1}``:

==========  ============================================================================================
ready       ``pid``, ``versions``, ``protocol``: once, at the start
progress    ``done``, ``total``, ``text``
log         ``text``
result      what was asked for; volumes as file names in the shared folder
error       ``kind`` (:data:`KINDS`), ``message``, ``details``
==========  ============================================================================================
"""

from __future__ import annotations

from typing import Any

from ..errors import ConsentError, InputError, missing_package, out_of_memory
from ..progress import Cancelled

VERSION = 2
INPUT, CONSENT, CANCELLED, MEMORY, FAILURE, DIED = "input", "consent", "cancelled", "memory", "failure", "died"
KINDS = (INPUT, CONSENT, CANCELLED, MEMORY, FAILURE, DIED)
"""Kinds of errors: what was given cannot be used; a program wants consent; cancelled; memory ran out; a fault of MedXAI's; the
worker ended."""


def refuse_version(version: Any) -> None:
    """:raises InputError: for a worker of another version."""
    if version != VERSION:
        raise InputError(
            f"The worker speaks version {version} of MedXAI's protocol and this panel version {VERSION}: give both the same "
            "MedXAI (the environment variable MEDXAI_PYTHON may name a Python with another one)."
        )


def kind_of(error: BaseException) -> str:
    """Which kind of error this is."""
    if isinstance(error, Cancelled):
        return CANCELLED
    if isinstance(error, ConsentError):
        return CONSENT
    if isinstance(error, InputError | ModuleNotFoundError):
        return INPUT
    return MEMORY if out_of_memory(error) else FAILURE


def words_of(error: BaseException) -> str:
    """An error as one line."""
    return missing_package(error) if isinstance(error, ModuleNotFoundError) else " ".join(str(error).split())
