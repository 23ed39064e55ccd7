"""The table of the zoo: sizes, figures from the cards, seconds for a case.

.venv/bin/python Testing/Benchmarks/zoo.py --data ../shared/data          # prints the README's table
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from MedXAILib import load_model, predict, read_volume
from MedXAILib.io.cohort import find_cases
from MedXAILib.models.networks import architecture
from MedXAILib.training.recipe import read_recipe

ROUNDS = 3
PAPERS = {
    "brain-tumor-slices": (None, "not stated", "not stated (Keles et al. 2023)"),
    "hippocampus-doubleunet": ({}, "29,288,886", "Dice .896 on ISIC-2018, .924 on CVC-ClinicDB (2D)"),
    "hippocampus-r2unet": ({}, "39,091,393", "F1 .817 on DRIVE (2D)"),
    "hippocampus-mcgunet": ({}, "34,085,949 (27,891,005 as released)", "F1 .895 on ISIC-2018 (2D)"),
}
"""Arguments of the paper's own size (2D, 3 channels in, 1 out), its parameters and figure as published."""
HEAD = "| model | network | parameters | the paper's size, here / published | figure on the test set (95 % interval) | seconds a case | the paper's own figure |"


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def figure(figures: dict) -> str:
    """The card's figures on its sets, in short."""
    texts = []
    for name, part in sorted(figures.items(), key=lambda pair: not pair[0].startswith("test")):
        if name.startswith(("test", "validation")):
            key = "mean Dice" if "mean Dice" in part else "accuracy"
            value, low, high = part[key]
            where = name.split(": ")[-1] if name.startswith("test") else "internal validation"
            texts.append(f"{key} {value:.3f} ({low:.3f} to {high:.3f}) on {part['cases']} of {where}")
    return "; ".join(texts)


def seconds(name: str, paths: list[Path]) -> float:
    """Median time from a file to its prediction, the model being loaded, of the fastest round."""
    model = load_model(name, device="cpu")
    predict(model, read_volume(paths[0]))
    rounds = []
    for _ in range(ROUNDS):
        taken = []
        for path in paths:
            start = time.perf_counter()
            predict(model, read_volume(path))
            taken.append(time.perf_counter() - start)
        rounds.append(sorted(taken)[len(taken) // 2])
    return min(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that the recipes' paths are relative to")
    data = parser.parse_args().data
    torch.set_num_threads(2)
    print(HEAD)
    print("|" + "---|" * (HEAD.count("|") - 1))
    for name, (arguments, published, own) in PAPERS.items():
        model, recipe = load_model(name, device="cpu"), read_recipe(name)
        folder = data / recipe.data.test
        paths = [c.path for c in find_cases(folder / "images" if (folder / "images").is_dir() else folder)]
        size = "not stated"
        if arguments is not None:
            with torch.device("meta"):
                size = f"{parameters(architecture(model.card.network.architecture)(2, 3, 1, **arguments)):,}"
        print(
            f"| `{name}` | {model.card.network.architecture} | {parameters(model.network):,} | {size} / {published} "
            f"| {figure(model.card.figures)} | {seconds(name, paths):.2f} | {own} |"
        )
    with torch.device("meta"):
        own = parameters(architecture("UNetClassifier")(2))
    print(
        f"| none | UNetClassifier (2D, width 64, 14 labels) | {own:,} | not stated | not trained here | | not stated |"
    )


if __name__ == "__main__":
    main()
