"""Gradients and maps of published architectures against autograd done literally. See README.md.

    make check-foreign
    .venv-foreign/bin/python Testing/Checks/foreign.py --only Swin        # those whose names hold this word, again
    .venv-foreign/bin/python Testing/Checks/foreign.py --table            # what is known already

Every architecture has random weights and computes in float64. Results are lines of JSON, so that a run that was stopped
goes on where it was; a change of the library or of this file starts anew.
"""

from __future__ import annotations

import argparse
import gc
import pickle
import random
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from results import Results

import MedXAILib
from MedXAILib import InputError, explain
from MedXAILib.caveats import texts
from MedXAILib.recording.record import record
from MedXAILib.recording.recording import INPUT
from MedXAILib.session import layers as maps

METHODS = ("gradcam", "saliency", "hirescam")
GRADIENTS, BEFORE_CAST, WRITTEN = 1e-9, 1e-9, 1e-6
"""Largest differences, as parts of the largest value."""
SLOPE = 0.1
"""A wrong gradient is off by about 1; where gradients vanish, rounding leaves a few hundredths."""
MOST_REFUSED = 5


def check(name: str) -> dict:
    """One architecture: differences, what changed in the network, the refusal or the traceback if there was one."""
    from architectures import ARCHITECTURES

    architecture = ARCHITECTURES[name]
    network, x = prepared(architecture.build, architecture.shape)
    untouched, _ = prepared(architecture.build, architecture.shape)
    with torch.no_grad():
        output = first(network(x.clone()))
    label = most_frequent(output)
    before = condition(network)
    found: dict = {"output": list(output.shape)}
    kept: list[torch.Tensor] = []
    real = maps._numpy
    try:
        with patch.object(maps, "_numpy", lambda values: kept.append(values.detach().clone()) or real(values)):
            gradcam, *_ = explain(network, x, [label], METHODS)
        found |= {"layer": gradcam.layer, "limits": list(texts(gradcam.caveats))}
        found |= compare(network, untouched, x, label, gradcam, kept[0], architecture.leading)
    except InputError as error:
        found["refused"] = str(error)
    except Exception:  # what is looked for
        found["traceback"] = traceback.format_exc()
    found["changed"] = [what for what, is_now in condition(network).items() if is_now != before[what]]
    network.eval()
    with torch.no_grad():
        try:
            same = torch.equal(first(network(x.clone())), output)
        except Exception as error:  # a network that was broken
            same = False
            found["broken"] = f"{type(error).__name__}: {error}"
    return found | ({} if same else {"changed": [*found["changed"], "output"]})


def prepared(build: Callable, shape: tuple[int, ...]) -> tuple[torch.nn.Module, torch.Tensor]:
    """A network whose parameters are all away from 0 and whose modes, ``requires_grad``, ``.grad`` and hooks are not all
    alike, so that a change shows; and an input."""
    torch.manual_seed(0)
    network = build().double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    parameters = list(network.parameters())
    for parameter in parameters[::3]:
        parameter.grad = torch.ones_like(parameter)
    parameters[1].requires_grad_(False)
    for module in list(network.modules())[1::4]:
        module.register_forward_hook(lambda module, inputs, output: None)
    return network, torch.rand(shape, dtype=torch.float64)


def condition(network: torch.nn.Module) -> dict:
    """All that must be as it was, as plain values."""
    modules = dict(network.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    tables = {n: [list(getattr(m, kind).values()) for kind in hooks] for n, m in modules.items()}
    parameters = dict(network.named_parameters())
    return {
        "state": {n: (t.device.type, hash(t.cpu().numpy().tobytes())) for n, t in network.state_dict().items()},
        "names": list(parameters),
        "attributes": {n: sorted(vars(m)) for n, m in modules.items()},
        "modes": {n: m.training for n, m in modules.items()},
        "requires_grad": {n: p.requires_grad for n, p in parameters.items()},
        "grad": {n: p.grad is not None and hash(p.grad.numpy().tobytes()) for n, p in parameters.items()},
        "hooks": {n: [[id(hook) for hook in kind] for kind in table] for n, table in tables.items()},
        "random state": hash(
            (torch.get_rng_state().numpy().tobytes(), random.getstate(), pickle.dumps(np.random.get_state()))  # noqa: NPY002
        ),
    }


def first(output) -> torch.Tensor:
    """The first tensor of a tuple, list or dict."""
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output


def most_frequent(output: torch.Tensor) -> int:
    """The class that is predicted, or predicted in most voxels."""
    return int(output.argmax(1).flatten().mode().values)


def score(output: torch.Tensor, label: int, region: bool) -> torch.Tensor:
    """The logit of a class, or the sum of its logits: over the region where it is predicted, or over all voxels."""
    if output.ndim == 2 or not region:
        return output[:, label].sum()
    return output[:, label][output.argmax(1) == label].sum()


def literal(network: torch.nn.Module, x: torch.Tensor, layer: str, label: int, region: bool) -> tuple:
    """(activation, its gradient, the input's gradient) by torch alone, on a network that MedXAI has not seen.

    With batch norm in a batch of two, of which the first counts: torch 2.13's own gradient may be wrong in a batch of one.
    """
    network.requires_grad_(True)
    name, _, number = layer.partition("#")
    outputs: list[torch.Tensor] = []

    def hook(module, inputs, output):
        outputs.append(first(output))
        # an in-place operator that follows works on a copy
        return output.clone() if isinstance(output, torch.Tensor) else None

    with torch.enable_grad():
        given = x.clone().requires_grad_()
        handle = network.get_submodule(name).register_forward_hook(hook)
        twice = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules())
        output = first(network(torch.cat([given] * (1 + twice))))
        total = score(output[:1], label, region)
        handle.remove()
        activation = outputs[int(number) if number else -1]
        of_layer, of_input = torch.autograd.grad(total, [activation, given])
    half = len(activation) // (1 + twice)
    return activation.detach()[:half], of_layer[:half], of_input


def compare(network, untouched, x, label: int, gradcam, before_cast: torch.Tensor, leading: int) -> dict:
    """Differences as parts of the largest value: of gradients, and of the Grad-CAM before and after it was cast."""
    layer = gradcam.layer
    activation, of_layer, of_input = literal(untouched, x, layer, label, region=False)
    with record(network, x, [INPUT, layer]) as tape:
        ours = tape.gradients(
            lambda output: output[:, label].flatten(1).sum(1) if output.ndim > 2 else output[:, label]
        )
    found = {
        "slope": slope(untouched, x, label, ours[INPUT]),
        "gradient of the input": difference(ours[INPUT], of_input),
        "gradient of the layer": difference(ours[layer], of_layer),
    }
    activation, of_layer, _ = literal(untouched, x, layer, label, region=True)
    expected = [grad_cam(activation, of_layer, axis, leading) for axis in (1, activation.ndim - 1)]
    if activation.ndim == x.ndim:  # a map of other axes than the layer's would have another shape or other values
        found["map"] = min(difference(before_cast.relu().flatten(), one.flatten()) for one in expected)
    else:
        found["map"] = min(unordered(before_cast.relu(), one) for one in expected[1:])
    written = torch.from_numpy(np.ascontiguousarray(gradcam.volume.array))
    found["written map"] = min(unordered(written, one) for one in expected)
    return found | {"largest": float(expected[0].max())}


def slope(network, x: torch.Tensor, label: int, gradient: torch.Tensor) -> float:
    """How far the score's slope along a random direction is from what the gradient says, as part of what is usual for
    such directions. It asks no backward pass of torch, which is itself wrong at times (README.md)."""
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    said, found = (gradient * direction).sum(), []
    for step in (1e-8, 1e-6, 1e-4):  # a short one is rounded, on a long one a ReLU changes sides
        with torch.no_grad():
            high, low = (score(first(network(x + sign * step * direction)), label, region=False) for sign in (1, -1))
        found.append(float(((high - low) / (2 * step) - said).abs() / gradient.norm().clamp(min=1e-300)))
    return min(found)


def grad_cam(activation: torch.Tensor, gradient: torch.Tensor, axis: int, leading: int) -> torch.Tensor:
    """ReLU(sum over channels of mean gradient * activation), in the module's own order of elements; of tokens those that
    are patches."""
    a, g = (t.movedim(axis, 1).flatten(2) for t in (activation, gradient))
    if activation.ndim == 3:
        a, g = a[:, :, leading:], g[:, :, leading:]
    return (g.mean(2, keepdim=True) * a).sum(1).relu()


def difference(ours: torch.Tensor, true: torch.Tensor) -> float:
    if ours.shape != true.shape:
        return float("inf")
    return float((ours - true).abs().max() / true.abs().max().clamp(min=1e-300))


def unordered(ours: torch.Tensor, true: torch.Tensor) -> float:
    """As sets of values: where each one lies is the business of ``place.py``."""
    return difference(ours.flatten().double().sort().values, true.flatten().sort().values)


LIMITS = {
    "slope": SLOPE,
    "gradient of the input": GRADIENTS,
    "gradient of the layer": GRADIENTS,
    "map": BEFORE_CAST,
    "written map": WRITTEN,
}


def verdict(found: dict) -> str:
    """One phrase."""
    if "traceback" in found:
        return "TRACEBACK " + found["traceback"].strip().splitlines()[-1]
    wrong = [f"{what} off by {found[what]:.1e}" for what, most in LIMITS.items() if not found.get(what, 0) <= most]
    wrong += [f"{what} changed" for what in found["changed"]]
    if wrong:
        return "WRONG " + ", ".join(wrong)
    return f"refused: {found['refused']}" if "refused" in found else "right"


def report(rows: dict[str, dict]) -> bool:
    """Print the table; whether all is as it must be."""
    print(
        f"\n{'architecture':36} {'layer':34} {'slope':>8} {'input':>8} {'layer':>8} {'map':>8} {'written':>8}  verdict"
    )
    for name, found in rows.items():
        figures = " ".join(f"{found[what]:8.0e}" if what in found else " " * 8 for what in LIMITS)
        print(f"{name:36} {found.get('layer', ''):34} {figures}  {verdict(found)[:160]}")
    words = [verdict(found).split()[0].rstrip(":") for found in rows.values()]
    counts = {word: words.count(word) for word in ("right", "refused", "WRONG", "TRACEBACK")}
    print(f"\n{len(rows)} architectures: " + ", ".join(f"{n} {word}" for word, n in counts.items()))
    return counts["refused"] <= MOST_REFUSED and counts["WRONG"] == counts["TRACEBACK"] == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=None, help="run those whose names hold this word, known or not")
    parser.add_argument("--table", action="store_true", help="print what is known")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    results = Results("check-foreign", [Path(MedXAILib.__file__).parent, Path(__file__)])
    if options.table:
        return 0 if report(results.known) else 1
    try:
        from architectures import ARCHITECTURES
    except ModuleNotFoundError as error:
        parser.error(f"{error.name} is missing here: run make check-foreign once, and then .venv-foreign/bin/python")
    names = [n for n in ARCHITECTURES if options.only is None or options.only.lower() in n.lower()]
    if not names:
        parser.error(f"no architecture's name holds '{options.only}'")
    todo = [n for n in names if options.only is not None or n not in results.known]
    try:
        for number, name in enumerate(todo, 1):
            print(f"{number} of {len(todo)}: {name} ...", end=" ", flush=True)
            began = time.perf_counter()
            try:
                found = check(name)
            except Exception:  # of a network that cannot be built or run
                found = {"traceback": traceback.format_exc(), "changed": []}
            results.add(name, found | {"seconds": round(time.perf_counter() - began, 1)})
            print(verdict(found)[:200], f"({time.perf_counter() - began:.0f} s)", flush=True)
            gc.collect()
    except KeyboardInterrupt:
        print("\nStopped; the next run goes on from here.")
        return 130
    return 0 if report({name: results.known[name] for name in names}) else 1


if __name__ == "__main__":
    sys.exit(main())
