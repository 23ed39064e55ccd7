"""load_model(): a card and its weights become a network that is ready to run.

Weights are told by their content, not by their suffix. safetensors and plain state dicts open freely; everything
else that torch can open is a program and passes through :mod:`.trust` first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, first_line
from .card import FROM_FILE, ModelCard, read_card
from .listing import SEARCH_PATH, ZOO, search_places, zoo_cards
from .networks import architecture
from .output import read_as
from .trust import CHECKPOINT, EXPORTED, PICKLE, SAFETENSORS, SCRIPT, Findings, consent, guarded, inspect, repacked

if TYPE_CHECKING:
    import torch

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
"""Where checkpoints keep the state dict, by custom."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network in eval mode and the card that says what it expects and means.

    :ivar network: gives one tensor, of logits or values, whatever the network itself gives: see :mod:`.output`.
    :ivar device: where the network lies: ``cpu`` or ``cuda``.
    :ivar weights_sha256: of the weights file.
    :ivar path: name of the weights file, without its folder.
    """

    card: ModelCard
    network: torch.nn.Module
    device: str
    weights_sha256: str
    path: str

    def __post_init__(self):
        object.__setattr__(self, "network", read_as(self.network, self.card))

    @property
    def name(self) -> str:
        return self.card.name


def load_model(
    card: ModelCard | str | Path, *, weights: str | Path | None = None, trust: bool = False, device: str = "auto"
) -> Model:
    """Load the network of a card.

    :param card: a card, the path of one, or the name of a model in the zoo (:func:`zoo_cards`).
    :param weights: the weights file, or a folder that holds it; else it is looked for beside the card and in the
        folders of the environment variable ``MEDXAI_MODEL_PATH``.
    :param trust: whether a file that is a program may run; remembered by the file's hash.
    :param device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
    :raises InputError: naming the card's field or the file, and what to do.
    """
    card, folder = find_card(card)
    file = find_weights(card, folder, weights)
    device = choose_device(device)
    inspect(file).refuse()
    digest = sha256(file)
    if card.weights.sha256 not in (None, digest):
        raise InputError(
            f"{file}: this is not the file that the card of {card.name} means (its sha256 begins with {digest[:12]}, the "
            f"card's with {card.weights.sha256[:12]}): get the right file, or mend the field 'weights.sha256'."
        )
    network = fill(card, read_weights(file, trust), file)
    return Model(card, network.to(device), device, digest, file.name)


def choose_device(name: str) -> str:
    """``cpu`` or ``cuda``.

    :raises InputError: for another name, or ``cuda`` where there is none.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {name}: this is no device; choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no GPU here; choose cpu or auto.")
    return "cpu" if name == "cpu" or not torch.cuda.is_available() else "cuda"


def find_card(card: ModelCard | str | Path) -> tuple[ModelCard, Path | None]:
    """The card, and the folder in which its file lies.

    :raises InputError: for a missing card, or weights given instead of one.
    """
    if isinstance(card, ModelCard):
        return card, None
    path = Path(card)
    if str(card) in zoo_cards():
        path = ZOO / f"{card}.json"
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; give the path of a model card (a .json file).")
    if not path.is_file():
        known = f", or the name of a model that comes with MedXAI ({', '.join(zoo_cards())})" if zoo_cards() else ""
        raise InputError(f"{path}: there is no such model card; give the path of one (a .json file){known}.")
    if path.suffix.lower() in (".onnx", ".ort"):
        raise InputError(onnx_refusal(path))
    if path.suffix.lower() != ".json":
        inspect(path).refuse()
        raise InputError(
            f"{path}: these are weights without a model card, which says what goes in and what comes out; "
            f"draft one with 'medxai card new {path}'."
        )
    return read_card(path), path.parent


def onnx_refusal(what) -> str:
    """What to do about an ONNX model."""
    return (
        f"{what}: this is an ONNX model, which holds no PyTorch network: export the network with torch.export instead, or turn "
        "the file into a torch.nn.Module (onnx2torch.convert) and give that to explain()."
    )


def find_weights(card: ModelCard, folder: Path | None, weights: str | Path | None) -> Path:
    """The weights file of a card: ``weights`` if given, else beside the card, else on MEDXAI_MODEL_PATH.

    :raises InputError: saying where it was looked for.
    """
    if weights is not None:
        given = Path(weights)
        places = [given]
        if given.is_file():
            return given
    else:
        places = search_places(folder)
    for place in places:
        if (place / card.weights.file).is_file():
            return place / card.weights.file
    looked = " or ".join(str(place) for place in places) or "any folder (none was given)"
    raise InputError(
        f"{card.weights.file}: the weights of {card.name} are not in {looked}; give them with --weights PATH, "
        f"or put their folder into the environment variable {SEARCH_PATH}."
    )


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: str | Path, trust: bool = False) -> dict[str, torch.Tensor] | torch.nn.Module:
    """The state dict in a weights file, on the CPU; for TorchScript and torch.export the network itself.

    :param trust: consent to run a file that is a program.
    :raises InputError: for what is no such file, needs consent, or would run a dangerous function even with it.
    """
    path = Path(path)
    found = inspect(path)
    found.refuse()
    plain = read_plain(path, found)
    if plain is not None:
        return state_dict(plain, path)
    data = path.read_bytes()
    found = inspect(path, data)
    found.refuse()
    more = " with more in it than tensors" if found.kind == CHECKPOINT else ""
    consent(path, found.kind + more, hashlib.sha256(data).hexdigest(), trust)
    return state_dict(run_program(path, found.kind, repacked(data) if found.zipped else data), path)


def read_plain(path: Path, found: Findings):
    """What is in a file that holds nothing but tensors, numbers and text; None if it holds more."""
    import pickle

    import torch
    from safetensors.torch import load_file

    try:
        if found.kind == SAFETENSORS:
            return load_file(path)
        if found.kind == CHECKPOINT:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=found.zipped)
    except pickle.UnpicklingError:
        return None
    except Exception as error:
        raise unreadable(path, error) from None
    return None


def run_program(path: Path, kind: str, data: bytes):
    """Open a file that is a program, after consent. No global that is known to be dangerous is found on the way."""
    import pickle

    import torch

    openers = {
        CHECKPOINT: lambda: torch.load(BytesIO(data), map_location="cpu", weights_only=False),
        PICKLE: lambda: pickle.loads(data),
        SCRIPT: lambda: torch.jit.load(BytesIO(data), map_location="cpu"),
        EXPORTED: lambda: torch.export.unflatten(torch.export.load(BytesIO(data))),
    }
    try:
        with guarded(path):
            return openers[kind]()
    except InputError:
        raise
    except Exception as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return InputError(
        f"{path}: the weights cannot be opened ({reason[0][:200]}); get the file anew, if you can as safetensors."
    )


def state_dict(content, path: Path) -> dict[str, torch.Tensor] | torch.nn.Module:
    """The state dict inside a checkpoint, without the names of its wrappers.

    :raises InputError: where there is none, or several.
    """
    import torch

    if isinstance(content, torch.nn.Module):
        return content
    state = content if is_state(content) else unwrapped(content)
    if state is None:
        raise InputError(f"{path}: this holds no state dict (names and tensors); save model.state_dict() in it.")
    state = {name: torch.as_tensor(value) for name, value in state.items()}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def is_state(value) -> bool:
    """Whether this maps names to tensors (or arrays) and nothing else."""
    import numpy as np
    import torch

    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, torch.Tensor | np.ndarray) for k, v in value.items())
    )


def unwrapped(content) -> Mapping | None:
    """The state dict among the values of a checkpoint: by its customary name, else the only one there is."""
    if not isinstance(content, Mapping):
        return None
    inner = {name: value.state_dict() if hasattr(value, "state_dict") else value for name, value in content.items()}
    states = {name: value for name, value in inner.items() if is_state(value)}
    known = [states[name] for name in WRAPPERS if name in states]
    if known:
        return known[0]
    return next(iter(states.values())) if len(states) == 1 else None


def fill(card: ModelCard, content: dict[str, torch.Tensor] | torch.nn.Module, file: Path) -> torch.nn.Module:
    """The card's network with the weights in it, in eval mode.

    :raises InputError: where they do not belong together.
    """
    import torch

    whole = isinstance(content, torch.nn.Module)
    if card.network.architecture == FROM_FILE:
        if not whole:
            raise InputError(
                f"{file}: these are weights only, and the card of {card.name} says that the file is the network: "
                "name its architecture in the field 'network.architecture'."
            )
        return content.eval()
    network = build(card)
    state = content.state_dict() if whole else content
    fault = mismatch(network.state_dict(), state)
    if fault:
        raise InputError(
            f"{file}: the weights do not fit {card.network.architecture} as the card of {card.name} has it: {fault}; "
            "correct the field 'network', or give the right file."
        )
    network.load_state_dict(state)
    return network.eval()


def build(card: ModelCard) -> torch.nn.Module:
    """The card's network, without its weights.

    :raises InputError: naming the field with the wrong architecture or arguments.
    """
    make = architecture(card.network.architecture)
    try:
        return make(**card.network.arguments)
    except Exception as error:
        raise InputError(
            f"The card of {card.name}: the field 'network.arguments' does not suit {card.network.architecture} "
            f"({first_line(error)}); correct it."
        ) from None


def mismatch(expected: Mapping, given: Mapping) -> str:
    """The first differences between two state dicts in words; empty where there are none."""

    def first(names: list[str], what: str) -> list[str]:
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        return [f"{what} {', '.join(names[:2])}{more}"] if names else []

    shapes = [
        f"{name} ({tuple(given[name].shape)} instead of {tuple(tensor.shape)})"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    return "; ".join(
        first([name for name in expected if name not in given], "the file lacks")
        + first([name for name in given if name not in expected], "the network has no")
        + first(shapes, "wrong shape of")
    )
