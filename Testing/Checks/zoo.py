"""Whether the figures on the cards of the models that come with MedXAI are what their test sets give.

    make check-zoo          # one or two minutes on one core; it goes on where it stopped

Arithmetic differs from machine to machine in its last digits: a mean Dice may be .003 off, an accuracy one case.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from results import ROOT, Results

from MedXAILib import load_model
from MedXAILib.progress import silent
from MedXAILib.training.cases import find
from MedXAILib.training.measuring import measure
from MedXAILib.training.recipe import known_recipes, read_recipe


def check(name: str, data: Path) -> dict:
    """The stated and the measured figure of one model: value, and its 95 % interval."""
    model, recipe = load_model(name, device="cpu"), read_recipe(name)
    stated = model.card.figures[f"test: {recipe.data.test}"]
    found = measure(model, find(recipe, model.card, data / recipe.data.test), silent, "")
    key = "mean Dice" if "mean Dice" in stated else "accuracy"
    allowed = 0.003 if key == "mean Dice" else 1.01 / stated["cases"]
    near = all(abs(one - other) <= allowed for one, other in zip(found[key], stated[key], strict=True))
    return {key: found[key], "stated": stated[key], "right": near and found["cases"] == stated["cases"]}


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    data = Path(os.environ.get("MEDXAI_TEST_DATA", ROOT.parent / "shared" / "data"))
    results = Results("check-zoo", [ROOT / "MedXAILib", Path(__file__)])
    for name in known_recipes():
        if name not in results.known:
            results.add(name, check(name, data))
        print(f"{name}: {results.known[name]}", flush=True)
    return 0 if all(found["right"] for found in results.known.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
