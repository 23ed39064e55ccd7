"""ModelSource: a kind of model, by what the user gives of it, and the registry of those that there are.

Another package adds one by an entry point of the group ``medxai.models`` that names an object with these methods; then
``--model`` takes what it recognises, everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..errors import CardError, InputError, WeightsError
from ..plugins import added
from .sources.card_file import CardFile
from .sources.onnx import is_onnx, refusal
from .sources.zoo import Zoo, zoo_cards
from .summary import ModelSummary
from .weights.contents import inspect

if TYPE_CHECKING:
    from .loading import Model


@runtime_checkable
class ModelSource(Protocol):
    """A kind of model.

    :ivar name: one word.
    """

    name: str

    def recognises(self, given: str | Path) -> bool:
        """Whether this path or name is a model of this kind; told at a glance, and never raising."""

    def describe(self, given: str | Path) -> ModelSummary:
        """The model in short, with the standard library alone.

        :raises InputError: for one that is damaged.
        """

    def files(self, given: str | Path, weights: str | Path | None) -> Sequence[Path]:
        """The files whose change makes it another model.

        :param weights: as for :meth:`load`.
        :raises InputError: where one is missing.
        """

    def load(
        self, given: str | Path, *, weights: str | Path | None, weights_key: str | None, trust: bool, device: str
    ) -> Model:
        """The model, ready to run: see :func:`.loading.load_model` for the arguments.

        :raises ConsentError: for a program that nobody has consented to run.
        :raises InputError: saying what is wrong, and what to do.
        """


OWN: tuple[CardFile, ...] = (Zoo(), CardFile())


def sources() -> tuple[ModelSource, ...]:
    """Our own kinds, then those that other packages add."""
    return (*OWN, *added("models", lambda one: "" if isinstance(one, ModelSource) else "it is no ModelSource"))


def source_of(given: str | Path) -> ModelSource:
    """The first kind that recognises what is given.

    :raises InputError: where none does, saying what it is taken for.
    """
    found = _recognising(given)
    if found is None:
        raise _refused(Path(given))
    return found


def summarise(given: str | Path) -> ModelSummary:
    """A model in short; what nobody recognises is read as a card.

    :raises InputError: for a file that is no card.
    """
    return (_recognising(given) or OWN[-1]).describe(given)


def stamp(given: str | Path, weights: str | Path | None) -> tuple[tuple[str, int, int], ...]:
    """Equal for as long as a model is the same: path, time of change and size of its files.

    :raises InputError: where one is missing.
    """
    found = [(str(path), path.stat()) for path in source_of(given).files(given, weights)]
    return tuple((path, status.st_mtime_ns, status.st_size) for path, status in found)


def _recognising(given: str | Path) -> ModelSource | None:
    return next((source for source in sources() if source.recognises(given)), None)


def _refused(path: Path) -> InputError:
    if path.is_dir():
        return CardError(path, "this is a folder", "give the path of a model card (a .json file)")
    if not path.is_file():
        known = f", or the name of a model that comes with MedXAI ({', '.join(zoo_cards())})" if zoo_cards() else ""
        return CardError(path, "there is no such model card", f"give the path of one (a .json file){known}")
    if is_onnx(path):
        return refusal(path)
    inspect(path).refuse()
    return WeightsError(
        path,
        "these are weights without a model card, which says what goes in and what comes out",
        f"draft one with 'medxai card new {os.fspath(path)}'",
    )
