"""Where MedXAI says that the cells of a layer lie, against where they lie, on random networks. See README.md.

    make check-place
    .venv/bin/python Testing/Checks/place.py --seed 17 --show     # one network again: its program, and cell by cell

Results are lines of JSON, so that a run that was stopped goes on where it was; a change of the library or of these files
starts anew.
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from networks import FIRST_OF_REST, Drawn, Unsuitable, draw
from results import Results

import MedXAILib
from MedXAILib import InputError

TRACEABLE, REST = range(360), range(FIRST_OF_REST, FIRST_OF_REST + 117)
MEASURED = 24
"""Elements of a layer whose response is measured; drawn at random."""
LEAST_MEASURED = 5
FAR = 1e-3
"""The support of a response: where it exceeds this part of its largest value."""
MOST_REFUSED = 0.2
"""Of the networks with operators that cannot be traced."""


def places(network: torch.nn.Module, x: torch.Tensor, layer: str) -> np.ndarray:
    """Where MedXAI says that each element of a layer's output lies: (*its axes without the channels', axes), voxels of the
    input, NaN where it says that there is no cell.

    :raises InputError: where it says that this cannot be known.
    """
    from MedXAILib.models.layers import find, inspect

    found = find(inspect(network, x.shape, x), layer)
    seen = []
    handle = network.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network(x)
    handle.remove()
    found = believed(network, x, found, seen[0])
    arrangement = found.arrangement
    if arrangement.channel is None:
        seen[0], channel = seen[0].unsqueeze(-1), seen[0].ndim
    else:
        channel = arrangement.channel
    shape = [n for axis, n in enumerate(seen[0].shape) if axis != channel]
    elements = torch.arange(int(np.prod(shape))).reshape(shape).unsqueeze(channel).expand(seen[0].shape)
    elements = elements.squeeze(-1) if arrangement.channel is None else elements
    numbers = arrangement.features(elements)[0, 0].flatten().numpy()
    cell = np.arange(len(numbers)) if arrangement.cell is None else arrangement.cell.numpy()
    index = np.stack(np.unravel_index(cell, arrangement.sizes), -1)
    where = np.full((int(np.prod(shape)), x.ndim - 2), np.nan)
    where[numbers] = np.array(found.cells.offset) + np.array(found.cells.stride) * index
    return where.reshape(*shape, x.ndim - 2)


def believed(network: torch.nn.Module, x: torch.Tensor, layer, at_rest: torch.Tensor):
    """The layer as MedXAI would show it, once the network was asked.

    :raises InputError: where its place is contradicted, or hidden and not found.
    """
    from MedXAILib.attribution.probe import CONFIRMED, CONTRADICTED, ask, judge
    from MedXAILib.progress import silent
    from MedXAILib.session.placing import read

    try:
        verdict = judge(ask(network, x, [layer], silent), layer, at_rest)
    except RuntimeError:  # the network refuses an input that is changed
        return layer
    if verdict.what == CONTRADICTED:
        raise InputError("contradicted")
    if not layer.hidden:
        return layer
    if verdict.what != CONFIRMED:
        raise InputError(f"hidden by {layer.hidden}")
    return read(layer, verdict)


def response(drawn: Drawn, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each element sees: its response to each voxel of the input, all channels together, averaged over the inputs.

    :param elements: (n,), numbers of elements, counted without the channels.
    :returns: (n, *spatial), >= 0; and the borders.
    """
    total = 0
    kept = []
    handle = drawn.network.layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    for x in drawn.inputs:
        given = x.clone().requires_grad_()
        drawn.network(given)
        values = kept.pop().sum(drawn.channel).flatten()
        rows = [
            torch.autograd.grad(value, given, retain_graph=True, allow_unused=True)[0]
            for value in (*values[elements], values.sum())
        ]
        total = total + np.stack([(torch.zeros_like(x) if r is None else r).abs()[0].sum(0).numpy() for r in rows])
    handle.remove()
    return total[:-1] / len(drawn.inputs), borders(total[-1], drawn.stride)


def borders(seen: np.ndarray, stride: Sequence[float]) -> np.ndarray:
    """The first and the last voxel along each axis, (2, axes); where strides leave a rest of less than a cell that nothing
    sees, the outermost that is seen."""
    support, last = np.argwhere(seen > 0), np.array(seen.shape) - 1
    low, high = support.min(0), support.max(0)
    return np.stack([np.where(low < stride, low, 0), np.where(last - high < stride, high, last)])


def centres(seen: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Centre of mass (n, axes) of responses (n, *spatial); NaN for those that touch a border (:func:`borders`) or span more
    than half of an axis, and for those that see nothing."""
    found = np.full((len(seen), seen.ndim - 1), np.nan)
    for n, one in enumerate(seen):
        support = np.argwhere(one > FAR * one.max())
        size = np.array(one.shape)
        if len(support) == 0:
            continue
        low, high = support.min(0), support.max(0)
        if (low > border[0]).all() and (high < border[1]).all() and (2 * (high - low + 1) <= size).all():
            found[n] = [(one * grid).sum() / one.sum() for grid in np.indices(one.shape)]
    return found


@dataclass
class Oracle:
    """:ivar elements: numbers of the elements whose places are known.
    :ivar true: (n, axes), NaN for an element that is no cell.
    :ivar shape: of the layer's output without the channels.
    """

    drawn: Drawn
    elements: np.ndarray
    true: np.ndarray
    shape: tuple[int, ...]


def oracle(seed: int) -> Oracle:
    """The network of a seed: the first one drawn of which enough elements can be judged."""
    for attempt in range(60):
        try:
            drawn = draw(seed, attempt)
            found = judged(drawn, random.Random(seed))
        except (Unsuitable, RuntimeError, IndexError):
            continue
        if np.isfinite(found.true).all(1).sum() >= LEAST_MEASURED:
            return found
    raise RuntimeError(f"no network for seed {seed}")


def judged(drawn: Drawn, rng: random.Random) -> Oracle:
    if drawn.record is not None:
        shape = drawn.record.shape[:-1]
        return Oracle(drawn, np.arange(int(np.prod(shape))), drawn.record.reshape(-1, drawn.record.shape[-1]), shape)
    shape = layer_shape(drawn)
    number = int(np.prod(shape))
    elements = np.array(sorted(rng.sample(range(number), min(MEASURED, number))))
    true = centres(*response(drawn, elements))
    known = np.isfinite(true).all(1)
    return Oracle(drawn, elements[known], true[known], shape)


def layer_shape(drawn: Drawn) -> tuple[int, ...]:
    seen = []
    handle = drawn.network.layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with torch.no_grad():
        drawn.network(drawn.inputs[0])
    handle.remove()
    return tuple(n for axis, n in enumerate(seen[0]) if axis != drawn.channel)


def check(seed: int) -> dict:
    """One network: how far MedXAI's places are from the true ones, in cells of the layer, or its refusal."""
    true = oracle(seed)
    found = {"operators": true.drawn.operators}
    try:
        ours = places(true.drawn.network, true.drawn.inputs[0], "layer")
    except InputError as error:
        return found | {"refused": str(error)}
    except Exception:  # what is looked for
        return found | {"traceback": traceback.format_exc()}
    return found | compare(ours, true)


def compare(ours: np.ndarray, true: Oracle) -> dict:
    """:returns: worst (distance in cells), beyond (elements further than a cell), missing (cells without a place), extra
    (places in the input of elements that are no cells), judged (elements)."""
    if ours.shape[:-1] != true.shape:
        return {"worst": float("inf"), "arrangement": f"{ours.shape[:-1]} instead of {true.shape}"}
    away = distances(ours, true)
    cell, ours_cell = np.isfinite(true.true).all(1), np.isfinite(away)
    if not (cell & ours_cell).any():
        return {"refused": "no element has a place"}
    return {
        "worst": round(float(away[cell & ours_cell].max()), 3),
        "beyond": int((away[cell & ours_cell] > 1 + 1e-3).sum()),
        "missing": int((cell & ~ours_cell).sum()),
        "extra": int((~cell & inside(ours, true)).sum()),
        "judged": int(cell.sum()),
    }


def distances(ours: np.ndarray, true: Oracle) -> np.ndarray:
    """(n,), in cells along the worst axis; a cell is at least a voxel. NaN where one of both has no place."""
    cell = np.maximum(1, true.drawn.stride)
    return (np.abs(ours.reshape(-1, ours.shape[-1])[true.elements] - true.true) / cell).max(1)


def inside(ours: np.ndarray, true: Oracle) -> np.ndarray:
    """(n,), whether MedXAI puts an element into the input. (Cells of padding may have a place outside.)"""
    said = ours.reshape(-1, ours.shape[-1])[true.elements]
    return ((said >= -0.5) & (said <= np.array(true.drawn.inputs[0].shape[2:]) - 0.5)).all(1)


def wrong(found: dict) -> bool:
    return "traceback" in found or found.get("worst", 0) > 1 + 1e-3 or bool(found.get("extra"))


def report(rows: dict[int, dict]) -> bool:
    """Print the tables; whether all is as it must be."""
    good = True
    for title, seeds in (("Traceable", TRACEABLE), ("The rest", REST)):
        some = {seed: found for seed, found in rows.items() if seed in seeds}
        if not some:
            continue
        print(f"\n{title}: {len(some)} networks")
        print(f"{'with':40} {'networks':>9} {'refused':>8} {'wrong':>6} {'missing':>8} {'worst':>7}")
        for name in sorted({name for found in some.values() for name in found["operators"]}):
            print(row(name, [found for found in some.values() if name in found["operators"]]))
        print(row("all", list(some.values())))
        bad = [seed for seed, found in some.items() if wrong(found)]
        refused = [seed for seed, found in some.items() if "refused" in found]
        print(f"wrong: {bad}\nrefused: {refused}")
        allowed = MOST_REFUSED * len(some) if title == "The rest" else 0
        good &= not bad and len(refused) <= allowed
    return good


def row(name: str, some: list[dict]) -> str:
    refused = sum("refused" in found for found in some)
    missing = sum(bool(found.get("missing")) for found in some)
    worst = max((found.get("worst", 0) for found in some), default=0)
    return f"{name:40} {len(some):9} {refused:8} {sum(map(wrong, some)):6} {missing:8} {worst:7.2f}"


def show(seed: int) -> None:
    """The program of a seed, and each element's place beside the true one."""
    true = oracle(seed)
    drawn = true.drawn
    print(f"# seed {seed}: {', '.join(drawn.operators)}\n# input {tuple(drawn.inputs[0].shape)}\n{drawn.program}")
    print(f"layer: {true.shape} elements, channels on axis {drawn.channel}, cells of {drawn.stride} voxels")
    try:
        ours = places(drawn.network, drawn.inputs[0], "layer")
    except InputError as error:
        print(f"MedXAI refuses: {error}")
        ours = np.full((*true.shape, true.true.shape[-1]), np.nan)
    if ours.shape[:-1] != true.shape:
        print(f"MedXAI sees {ours.shape[:-1]} elements")
        return
    for n, place, away in zip(true.elements, true.true, distances(ours, true), strict=True):
        element = np.unravel_index(n, true.shape)
        said = ours[element]
        print(
            f"{str(tuple(map(int, element))):20} true {np.round(place, 2)}  MedXAI {np.round(said, 2)}  {away:.2f} cells"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, nargs="+", help="run these alone, known or not")
    parser.add_argument("--show", action="store_true", help="print the program and the places")
    options = parser.parse_args()
    if options.show and not options.seed:
        parser.error("--show needs --seed")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Using padding='same'")
    if options.show:
        for seed in options.seed:
            show(seed)
        return 0
    here = Path(__file__).parent
    sources = [Path(MedXAILib.__file__).parent, *(here / f"{n}.py" for n in ("place", "networks", "token_networks"))]
    results = Results("check-place", sources)
    seeds = options.seed or [*TRACEABLE, *REST]
    todo = seeds if options.seed else [seed for seed in seeds if str(seed) not in results.known]
    try:
        for number, seed in enumerate(todo, 1):
            results.add(str(seed), check(seed))
            print(f"\r{number} of {len(todo)}", end="", flush=True)
    except KeyboardInterrupt:
        print("\nStopped; the next run goes on from here.")
        return 130
    return 0 if report({seed: results.known[str(seed)] for seed in seeds}) else 1


if __name__ == "__main__":
    sys.exit(main())
