"""load_model(): a card and its weights, or a model of another kind, become a network that is ready to run.

Weights are told by their content, not by their suffix, and open freely: see :mod:`.weights.reading`. Programs (TorchScript,
torch.export) pass through :mod:`.security.consent` first.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CardError, InputError, OptionError, WeightsError, first_line
from .card import FROM_FILE, ModelCard, read_card
from .networks import architecture
from .running.reading import read_as
from .security.consent import consent
from .security.programs import copied, harmless
from .source import source_of
from .sources.card_file import CardFile
from .weights.contents import EXPORTED, PROGRAMS, Contents, inspect
from .weights.finding import find_weights
from .weights.fitting import fit
from .weights.reading import Weights, of_tensors, open_weights, unreadable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Model:
    """A network in eval mode and the card that says what it expects and means.

    :ivar network: gives one tensor, of logits or values, whatever the network itself gives: see :mod:`.running.reading`.
    :ivar device: where the network lies: ``cpu`` or ``cuda``.
    :ivar weights_sha256: of the weights file.
    :ivar path: name of the weights file, without its folder.
    :ivar messages: what was chosen in the weights file, and what else is in it.
    """

    card: ModelCard
    network: torch.nn.Module
    device: str
    weights_sha256: str
    path: str
    messages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", read_as(self.network, self.card))

    @property
    def name(self) -> str:
        """The card's."""
        return self.card.name


def load_model(
    card: ModelCard | str | Path,
    *,
    weights: str | Path | None = None,
    weights_key: str | None = None,
    trust: bool = False,
    device: str = "auto",
) -> Model:
    """Load a model: of a card, or whatever a source of models recognises.

    :param card: a card, the path of one, the name of a model in the zoo (:func:`.sources.zoo.zoo_cards`), or what another
        package's :class:`.source.ModelSource` takes.
    :param weights: the weights file, or a folder that holds it; else it is looked for beside the card and in the
        folders of the environment variable ``MEDXAI_MODEL_PATH``.
    :param weights_key: of a file that holds several networks' weights: the path below which they lie, as ``ema``.
    :param trust: whether a file that is a program (TorchScript, torch.export) may run; remembered by the file's hash.
    :param device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
    :raises ConsentError: for a program without consent.
    :raises InputError: naming the card's field or the file, and what to do.
    """
    if isinstance(card, ModelCard):
        return load_card(card, None, weights=weights, weights_key=weights_key, trust=trust, device=device)
    source = source_of(_as_given(card))
    return source.load(card, weights=weights, weights_key=weights_key, trust=trust, device=device)


def load_card(
    card: ModelCard,
    folder: Path | None,
    *,
    weights: str | Path | None,
    weights_key: str | None,
    trust: bool,
    device: str,
) -> Model:
    """The network of a card with its weights.

    :param folder: where the card lies; the rest as for :func:`load_model`.
    :raises InputError: naming the card's field or the file, and what to do.
    """
    file = find_weights(card.name, card.weights.file, folder, weights)
    device = choose_device(device)
    inspect(file).refuse()
    digest = sha256(file)
    if card.weights.sha256 not in (None, digest):
        raise WeightsError(
            file,
            f"this is not the file that the card of {card.name} means (its sha256 begins with {digest[:12]}, the card's "
            f"with {str(card.weights.sha256)[:12]})",
            "get the right file, or mend the field 'weights.sha256'",
            joint=": ",
        )
    network, messages = fill(card, read_weights(file, trust), file, weights_key)
    return Model(card, network.to(device), device, digest, file.name, messages)


def find_card(card: ModelCard | str | Path) -> tuple[ModelCard, Path | None]:
    """The card of a model that has one, and the folder in which its file lies.

    :raises InputError: for a missing card, weights given instead of one, or a model of another kind, which has none.
    """
    if isinstance(card, ModelCard):
        return card, None
    source = source_of(_as_given(card))
    if not isinstance(source, CardFile):
        raise CardError(
            card,
            f"this is a model of the kind {source.name}, which has no card",
            "give the path of a model card (a .json file)",
        )
    path = source.path(card)
    return read_card(path), path.parent


def _as_given(card: object) -> str | Path:
    if not isinstance(card, str | os.PathLike):
        raise InputError(
            f"{card!r} is no model card",
            "give one, its path, or the name of a model that comes with MedXAI",
            joint=": ",
        )
    return card if isinstance(card, str) else Path(card)


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``.

    :raises InputError: for another name, or ``cuda`` where there is none.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise OptionError("--device", name, "this is no device; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device", name, "PyTorch finds no GPU here; choose cpu or auto")
    return "cpu" if name == "cpu" or not torch.cuda.is_available() else "cuda"


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: str | Path, trust: bool = False) -> Weights | torch.nn.Module:
    """What is in a weights file: tensors by their names; of TorchScript and torch.export the network itself.

    :param trust: consent to run a file that is a program.
    :raises InputError: for what is no such file, or is a program without consent.
    """
    path = Path(path)
    contents = inspect(path)
    contents.refuse()
    if contents.kind not in PROGRAMS:
        return open_weights(contents)
    data = path.read_bytes()
    contents = inspect(path, data)
    contents.refuse()
    consent(path, contents.kind, hashlib.sha256(data).hexdigest(), trust)
    return run_program(contents)


def run_program(contents: Contents) -> torch.nn.Module:
    """Open a file that is a program, after consent.

    :raises InputError: for one that PyTorch cannot open, or that holds what no network needs.
    """
    import torch

    before = logging.root.manager.disable
    logging.disable()  # torch writes whole tracebacks there
    try:
        if contents.kind == EXPORTED:
            return torch.export.unflatten(torch.export.load(BytesIO(harmless(contents))))
        program: torch.nn.Module = torch.jit.load(BytesIO(copied(contents)), map_location="cpu")
        return program
    except InputError:
        raise
    except Exception as error:
        if contents.kind == EXPORTED:
            raise WeightsError(
                contents.path,
                f"PyTorch {torch.__version__} cannot open this network: it is damaged, of another version, or has operators "
                "that are not installed here",
                "export it again with this version",
            ) from None
        raise unreadable(contents.path, error) from None
    finally:
        logging.disable(before)


def fill(
    card: ModelCard, content: Weights | torch.nn.Module, file: Path, key: str | None = None
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """The card's network with the weights in it, in eval mode, and what is to be said of them.

    :param key: the path below which the weights lie.
    :raises InputError: where they do not belong together.
    """
    if card.network.architecture == FROM_FILE:
        if isinstance(content, Weights):
            raise WeightsError(
                file,
                f"{only_weights(content)}, and the card of {card.name} says that the file is the network",
                "name its architecture in the field 'network.architecture', or save the network with torch.export",
                joint=": ",
            )
        return content.eval(), ()
    network = build(card)
    if not isinstance(content, Weights):
        content = of_tensors(file, content.state_dict())
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    what = f"the weights do not fit {card.network.architecture} as the card of {card.name} has it"
    found = fit(content, expected, what, key)
    state = content.tensors(found.names)
    own = network.state_dict()
    for name, tensor in state.items():
        if kind_of(tensor) != kind_of(own[name]):
            raise WeightsError(
                file,
                f"'{name}' holds {str(tensor.dtype).removeprefix('torch.')} where the network has "
                f"{str(own[name].dtype).removeprefix('torch.')}",
                "give weights that were not converted or quantised",
            )
    network.load_state_dict(state, strict=False)
    return network.eval(), tuple(message for message in (found.message, content.message) if message)


def kind_of(tensor: torch.Tensor) -> str:
    """What its numbers are, whatever their size."""
    return "complex" if tensor.is_complex() else "floating" if tensor.is_floating_point() else "whole"


def only_weights(content: Weights) -> str:
    """In words, what a file holds that holds no network."""
    return (
        f"these are the weights of a {content.whole} and not what it does"
        if content.whole
        else "these are weights only"
    )


def build(card: ModelCard) -> torch.nn.Module:
    """The card's network, without its weights.

    :raises InputError: naming the field with the wrong architecture or arguments.
    """
    make = architecture(card.network.architecture)
    try:
        return make(**card.network.arguments)
    except Exception as error:
        raise CardError(
            f"The card of {card.name}",
            f"the field 'network.arguments' does not suit {card.network.architecture} ({first_line(error)})",
            "correct it",
        ) from None
