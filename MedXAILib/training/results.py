"""What a training leaves behind: weights, card, log and curve; each whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from .. import NOTICE
from ..errors import FileError
from ..models.card import ModelCard
from ..models.loading import Model, fill
from ..models.weights.reading import of_tensors
from ..outputs.staging import writable
from .checkpoint import FILE, State, write
from .measuring import CONFUSION, Figures
from .recipe import Recipe
from .trainer import score_name


def refuse_finished(folder: Path, name: str) -> None:
    """:raises FileError: where the output folder is none, or holds the finished network already."""
    card = folder / f"{name}.json"
    if card.exists():
        raise FileError(card, "this network is trained already", "give another folder with -o")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not writable(there):
        raise FileError(there, "nothing can be written here", "give another folder with -o")


def pack(recipe: Recipe, state: State) -> bytes:
    """The best epoch's weights as the content of a safetensors file: equal weights, equal bytes.

    With the storage float16, a tensor with a value that does not fit stays as it is.
    """
    import torch
    from safetensors.torch import save

    half = recipe.training.storage == "float16"
    tensors = {}
    for name, value in state.best.items():
        small = value.half() if half and value.is_floating_point() else value
        tensors[name] = (small if torch.isfinite(small).all() else value).cpu().contiguous()
    return save(tensors)


def stored(card: ModelCard, content: bytes, device: str) -> Model:
    """The network with its weights as they will be read again."""
    from safetensors.torch import load

    digest = hashlib.sha256(content).hexdigest()
    file = Path(card.weights.file)
    network, _ = fill(card, of_tensors(file, load(content)), file)
    return Model(card, network.to(device), device, digest, card.weights.file)


def told(recipe: Recipe, content: str, learned: int, chosen_by: int, figures: Figures) -> dict[str, Any]:
    """What the card says of the data: the recipe's own words, where they are of these very data; else what is known.

    :param content: hash of the training cases. :param learned: cases that were learned from.
    :param chosen_by: cases that chose the epoch. :param figures: of the validation.
    """
    own = recipe.data.content in (None, content)
    weaknesses = list(recipe.card.get("weaknesses", [])) if own else []
    if answer := one_answer(figures):
        weaknesses.append(answer)
    place = "the folder given" if recipe.data.train in (".", "./") else recipe.data.train
    where = f" and tested on {recipe.data.test}" if recipe.data.test else ""
    summary = f"Trained by medxai train {recipe.name} on {learned} cases of {place}, another {chosen_by} chose the epoch{where}."
    if recipe.data.content == content:
        return {"weaknesses": weaknesses}
    said = recipe.card.get("provenance", "") if own else ""
    rest = {} if own else {"licence": "", "description": ""}
    provenance = f"{summary} The recipe says: {said}" if said else summary
    return {"provenance": provenance, "weaknesses": weaknesses} | rest


def one_answer(figures: Figures) -> str:
    """A sentence where the network called every validation case the same, though they are not; else empty."""
    table = figures.get(CONFUSION)
    if not isinstance(table, dict):
        return ""
    said = [sum(row[n] for row in table.values()) for n in range(len(table))]
    if len(table) < 2 or sum(map(bool, said)) > 1 or sum(any(row) for row in table.values()) < 2:
        return ""
    name = list(table)[next(n for n, count in enumerate(said) if count)]
    return f"It called every one of {sum(said)} validation cases {name}: it has learned nothing that tells them apart."


def weights_of(recipe: Recipe, content: bytes) -> dict[str, str]:
    """The card's field ``weights``."""
    return {"file": f"{recipe.name}.safetensors", "sha256": hashlib.sha256(content).hexdigest()}


def finish(folder: Path, card: ModelCard, content: bytes, state: State) -> None:
    """Write everything; the card, which says that all is there, last. The checkpoint goes."""
    write(folder / f"{card.name}.log.csv", log(state.rows).encode())
    write(folder / f"{card.name}.png", curve(card, state))
    write_network(folder, card, content)
    (folder / FILE).unlink(missing_ok=True)


def write_network(folder: Path, card: ModelCard, content: bytes) -> None:
    """The weights, and then the card."""
    write(folder / card.weights.file, content)
    text = json.dumps(card.written(), indent=2, ensure_ascii=False) + "\n"
    write(folder / f"{card.name}.json", text.encode())


def log(rows: list[dict[str, float]]) -> str:
    """One line for each epoch."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    return text.getvalue()


def curve(card: ModelCard, state: State) -> bytes:
    """Loss and validation score over the epochs, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    epochs = [row["epoch"] for row in state.rows]
    layout = ConstrainedLayoutEngine(rect=(0, 0.03, 1, 0.97))
    figure = Figure((8, 4.5), dpi=120, layout=layout)
    FigureCanvasAgg(figure)
    left = figure.add_subplot()
    right = left.twinx()
    left.plot(epochs, [row["loss"] for row in state.rows], color="#0072b2", marker="o", markersize=3)
    right.plot(epochs, [row["score"] for row in state.rows], color="#d55e00", marker="s", markersize=3)
    right.axvline(state.best_epoch, color="0.7", linewidth=1, zorder=0)
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="#0072b2")
    right.set_ylabel(f"validation {score_name(card)}", color="#d55e00")
    left.set_title(f"{card.name}: best {score_name(card)} {state.best_score:.3f} after epoch {state.best_epoch}")
    figure.text(0.5, 0.005, f"{NOTICE}.", ha="center", va="bottom", fontsize=7, color="0.4")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def training_figures(recipe: Recipe, state: State, cases: int, device: str) -> dict[str, Any]:
    """What was spent."""
    import torch

    return {
        "training": {
            "cases": cases,
            "epochs": state.epoch,
            "best epoch": state.best_epoch,
            "minutes": round(sum(row["seconds"] for row in state.rows) / 60, 1),
            "on": f"{device}, {torch.get_num_threads()} thread(s), torch {torch.__version__.split('+')[0]}",
            "recipe": f"{recipe.name}, seed {recipe.seed}",
        }
    }
