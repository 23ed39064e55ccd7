"""Does the probe tell a right place from a wrong one? Networks of :mod:`place`, the zoo's and MONAI's, with the trace as it
is, and with a trace that was made wrong: an axis that runs backwards, two axes exchanged, everything two cells beside.

    python Testing/Checks/confirm.py [--networks N] [--table]
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from place import oracle
from results import ROOT, Results

from MedXAILib.attribution.probe import CONFIRMED, CONTRADICTED, SHIFT, UNCLEAR, ask, judge, turned
from MedXAILib.models.layers import Layer, default_layer, find, inspect
from MedXAILib.progress import silent
from MedXAILib.recording.record import glimpse

NETWORKS = 300
LONG = 5
"""Cells along an axis that is mutated."""
ZOO = {
    "planted-lesion": (1, 1, 96, 96, 96),
    "brain-tumor-slices": (1, 1, 224, 224),
    "hippocampus-doubleunet": (1, 1, 48, 64, 48),
    "hippocampus-r2unet": (1, 1, 48, 64, 48),
    "hippocampus-mcgunet": (1, 1, 48, 64, 48),
}


def monai_networks() -> dict[str, tuple[Callable, tuple[int, ...]]]:
    from monai.networks import nets

    down = {"channels": (8, 16, 32), "strides": (2, 2)}
    return {
        "UNet 3D": (lambda: nets.UNet(3, 1, 2, norm="batch", **down), (1, 1, 48, 48, 48)),
        "UNet 2D": (lambda: nets.UNet(2, 1, 2, norm="batch", **down), (1, 1, 96, 96)),
        "AttentionUnet": (lambda: nets.AttentionUnet(2, 1, 2, **down), (1, 1, 96, 96)),
        "VNet": (lambda: nets.VNet(2, 1, 2, dropout_dim=2), (1, 1, 160, 160)),
        "SegResNetDS": (lambda: nets.SegResNetDS(3, 8, 1, 2, norm="batch"), (1, 1, 64, 64, 64)),
        "DenseNet121 2D": (lambda: nets.DenseNet121(2, 1, 3), (1, 1, 256, 256)),
        "DenseNet121 3D": (lambda: nets.DenseNet121(3, 1, 3, init_features=16, growth_rate=8), (1, 1, 160, 160, 160)),
        "ResNet18": (lambda: nets.resnet18(spatial_dims=2, n_input_channels=1, num_classes=3), (1, 1, 192, 192)),
        "ResNet34 3D": (lambda: nets.resnet34(spatial_dims=3, n_input_channels=1, num_classes=3), (1, 1, 96, 96, 96)),
        "BasicUNet": (lambda: nets.BasicUNet(2, 1, 2, (8, 8, 16, 32, 64, 8), norm="batch"), (1, 1, 160, 160)),
        "FlexibleUNet": (lambda: nets.FlexibleUNet(1, 2, "resnet18", spatial_dims=2), (1, 1, 256, 256)),
        "DynUNet": (
            lambda: nets.DynUNet(2, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[8, 16, 32], norm_name="batch"),
            (1, 1, 96, 96),
        ),
    }


def cases(number: int) -> Iterator[tuple[str, Callable]]:
    """(name, function that gives network, input and layer)."""

    def drawn(seed: int):
        found = oracle(seed).drawn
        return found.network, found.inputs[0], "layer"

    def zoo(name: str):
        from MedXAILib import load_model

        model = load_model(name)
        x = smooth(ZOO[name])
        return model.network, x, (model.card.layers or [default_layer(inspect(model.network, x.shape))[0]])[0]

    def monai(name: str):
        torch.manual_seed(0)
        make, shape = monai_networks()[name]
        network = make().eval()
        return network, torch.randn(shape), default_layer(inspect(network, shape))[0]

    yield from ((f"zoo {name}", lambda name=name: zoo(name)) for name in ZOO)
    yield from ((f"MONAI {name}", lambda name=name: monai(name)) for name in monai_networks())
    yield from ((f"drawn {seed}", lambda seed=seed: drawn(seed)) for seed in range(number))


def smooth(shape: tuple[int, ...]) -> torch.Tensor:
    """Noise with a grain of some voxels, as pictures have."""
    from scipy.ndimage import gaussian_filter

    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))[0, 0].numpy()
    values = torch.from_numpy(gaussian_filter(noise, 2.0))[None, None]
    return values / values.std()


def mutations(layer: Layer, size: tuple[int, ...], rng: random.Random) -> Iterator[tuple[str, Layer]]:
    """The layer with a trace that is wrong in one way, along axes of enough cells."""
    cells, count = layer.cells, layer.shape[1:]
    long = [axis for axis, n in enumerate(count) if n >= LONG]
    same = tuple(range(len(count)))
    if long and layer.arrangement.cell is None:
        axis = rng.choice(long)
        yield "flipped", replace(layer, arrangement=layer.arrangement.turned_to(same, [axis]))
        offset = tuple(
            o + SHIFT * s * (a == axis) for a, (o, s) in enumerate(zip(cells.offset, cells.stride, strict=True))
        )
        yield "shifted", replace(layer, cells=replace(cells, offset=offset))
    if len(long) > 1 and layer.arrangement.cell is None:
        a, b = rng.sample(long, 2)
        axes = [b if axis == a else a if axis == b else axis for axis in same]
        arrangement = layer.arrangement.turned_to(axes, [])
        wrong, _ = turned(layer, axes)
        yield (
            "exchanged",
            replace(layer, arrangement=arrangement, cells=wrong, shape=(layer.shape[0], *arrangement.sizes)),
        )


def check(make: Callable) -> dict:
    network, x, name = make()
    layer = find(inspect(network, x.shape, x), name)
    at_rest = glimpse(network, x, [layer.name], silent).activations[layer.name]

    def verdict(believed: Layer):
        found = judge(ask(network, x, [believed], silent), believed, at_rest)
        return found.what, round(found.fit, 3), round(found.next, 3)

    sizes = zip(layer.cells.field, x.shape[2:], strict=True)
    found = {"cells": layer.shape[1:], "mixed": layer.mixed, "all": all(field >= n for field, n in sizes)}
    found |= {"hidden": layer.hidden, "right": verdict(layer)}
    rng = random.Random(repr((layer.shape, layer.cells)))
    return found | {"wrong": {kind: verdict(wrong) for kind, wrong in mutations(layer, tuple(x.shape[2:]), rng)}}


def judged(found: dict) -> bool:
    """Whether a network counts: no global mixing (nor cells that see the whole input), enough cells along an axis, a place
    that is known."""
    return not (found["mixed"] or found["all"] or found["hidden"]) and max(found["cells"]) >= LONG


def table(rows: dict[str, dict]) -> int:
    """Prints what was found; 1 where the probe is not what it should be."""
    counted = {name: found for name, found in rows.items() if judged(found)}
    right = Counter(found["right"][0] for found in counted.values())
    wrong: dict[str, Counter] = defaultdict(Counter)
    for found in counted.values():
        for kind, (what, *_) in found["wrong"].items():
            wrong[kind][what] += 1
    print(f"{len(rows)} networks, {len(counted)} of them without global mixing and with {LONG} cells along an axis\n")
    print(f"{'trace':12}{CONFIRMED:>14}{UNCLEAR:>14}{CONTRADICTED:>14}")
    for kind, counts in {"right": right, **wrong}.items():
        print(f"{kind:12}" + "".join(f"{counts[what]:14}" for what in (CONFIRMED, UNCLEAR, CONTRADICTED)))
    named = {name: found["right"] for name, found in rows.items() if not name.startswith("drawn")}
    print("\n" + "\n".join(f"{name:30} {what:14} {fit} against {other}" for name, (what, fit, other) in named.items()))
    mutated = sum(wrong.values(), Counter())
    bad = [name for name, found in rows.items() if found["right"][0] == CONTRADICTED]
    bad += [
        name
        for name, found in rows.items()
        if not found["mixed"] and any(v[0] == CONFIRMED for v in found["wrong"].values())
    ]
    print(f"\nright but contradicted, or wrong but confirmed: {bad or 'none'}")
    print(
        f"confirmed of the right ones: {right[CONFIRMED] / right.total():.1%} (90 % asked); "
        f"contradicted of the wrong ones: {mutated[CONTRADICTED] / mutated.total():.1%} (95 % asked)"
    )
    enough = right[CONFIRMED] >= 0.9 * right.total() and mutated[CONTRADICTED] >= 0.95 * mutated.total()
    return int(bool(bad) or not enough)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=NETWORKS, help=f"how many are drawn ({NETWORKS})")
    parser.add_argument("--table", action="store_true", help="what is known already")
    given = parser.parse_args()
    todo = dict(cases(given.networks))
    here = ROOT / "Testing" / "Checks"
    known = Results("check-confirm", [ROOT / "MedXAILib", here])
    try:
        for number, (name, make) in enumerate(todo.items(), 1):
            if name not in known.known and not given.table:
                print(f"\r{number} of {len(todo)}: {name:40}", end="", file=sys.stderr, flush=True)
                known.add(name, check(make))
    except KeyboardInterrupt:
        print("\nstopped: run it again, and it goes on from here", file=sys.stderr)
        return 130
    print(file=sys.stderr)
    return table({name: found for name, found in known.known.items() if name in todo})


if __name__ == "__main__":
    sys.exit(main())
