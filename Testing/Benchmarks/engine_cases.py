"""One process of the engine's benchmark: one way of computing the Grad-CAMs of one case, or ours in sliding windows.

    python engine_cases.py time CASE LIBRARY             # then a run for each line on stdin
    python engine_cases.py memory CASE LIBRARY FOLDER    # one run
    python engine_cases.py windows SIZE                  # one run
    python engine_cases.py first CASE asked|unasked      # the first explanation of a network, and the second

Started by ``engine.py``; answers are lines of JSON. FOLDER holds the maps of the case's reference, which the other
processes compare theirs with. Memory is measured where the allocator gives blocks back as soon as they are free
(``MALLOC_MMAP_THRESHOLD_``): the peak is then what is held at once, to the megabyte, but everything is slower.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import itertools
import json
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import DenseNet121, UNet, resnet18


@dataclass(frozen=True)
class Case:
    """Grad-CAM of every class at every layer, for the score that is the class's logit summed over the output.

    :ivar slices: of a 2D network's input; None for a volume.
    """

    network: Callable[[], torch.nn.Module]
    size: int
    layers: tuple[str, ...]
    classes: tuple[int, ...]
    slices: int | None = None

    def input(self) -> torch.Tensor:
        return torch.randn(self.slices or 1, 1, *[self.size] * (2 if self.slices else 3))


def densenet() -> torch.nn.Module:
    return DenseNet121(spatial_dims=3, in_channels=1, out_channels=3)


def unet() -> torch.nn.Module:
    return UNet(spatial_dims=3, in_channels=1, out_channels=14, channels=(8, 16, 32, 64), strides=(2, 2, 2))


def resnet() -> torch.nn.Module:
    return resnet18(spatial_dims=2, n_input_channels=1, num_classes=3)


BLOCKS = tuple(f"features.denseblock{n}" for n in (1, 2, 3, 4))
LEVEL = "model.1.submodule"
LEVELS = (
    "model.0",
    f"{LEVEL}.0",
    f"{LEVEL}.1.submodule.0",
    f"{LEVEL}.1.submodule.1.submodule",
    f"{LEVEL}.1.submodule.2",
)
CASES = {
    "map": Case(densenet, 96, BLOCKS[-1:], (1,)),
    "layers": Case(densenet, 96, BLOCKS, (0, 1, 2)),
    "unet": Case(unet, 64, LEVELS, tuple(range(14))),
    "inplace": Case(densenet, 96, ("features.norm5",), (0, 1, 2)),
    "slices": Case(resnet, 192, ("layer4",), (1,), 8),
}


# Each library: (network, input, layers, classes) -> what is timed: () -> {(layer, class): map}. Networks come as loaded,
# with parameters that require gradients, and each library is called as its documentation does, by its cheapest way.


def floor(network, x, layers, classes):
    """The least that has to be computed: no graph before the first layer, one partial backward pass for each class."""
    network.requires_grad_(False)
    modules = [network.get_submodule(layer) for layer in layers]

    def run():
        held = []

        def hook(_module, _inputs, output):
            held.append(output.requires_grad_())
            return output

        handles = [module.register_forward_hook(hook) for module in modules]
        output = network(x)
        for handle in handles:
            handle.remove()
        maps = {}
        for c in classes:
            gradients = torch.autograd.grad(output[:, c].sum(), held, retain_graph=c != classes[-1])
            for layer, a, g in zip(layers, held, gradients, strict=True):
                maps[layer, c] = torch.einsum("bc,bc...->b...", g.flatten(2).mean(2), a.detach()).relu()
        return maps

    return run


def reference(network, x, layers, classes):
    """The floor where an operator in place follows the layer: such operators are switched off."""
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return floor(network, x, layers, classes)


def tape(network, x, layers, classes):
    from MedXAILib.recording.record import record

    def run():
        maps = {}
        with record(network, x, layers) as tape:
            for c in classes:
                gradients = tape.gradients(lambda output, c=c: output[:, c])
                for layer in layers:
                    weights = gradients[layer].flatten(2).mean(2)
                    maps[layer, c] = torch.einsum("bc,bc...->b...", weights, tape.activations[layer].detach()).relu()
        return maps

    return run


def explain(network, x, layers, classes):
    from MedXAILib import ClassTarget, explain

    def run():
        found = explain(network, x, [ClassTarget(c) for c in classes], ["gradcam"], list(layers))
        keys = [(layer, c) for c in classes for layer in layers]
        return {key: attribution.volume.array for key, attribution in zip(keys, found, strict=True)}

    return run


def torchcam(network, x, layers, classes):
    from torchcam.methods import GradCAM

    def run():
        maps = {}
        with GradCAM(network, list(layers)) as extractor:
            scores = network(x)
            for c in classes:
                found = extractor(c, scores, normalized=False, retain_graph=c != classes[-1])
                maps.update({(layer, c): m for layer, m in zip(layers, found, strict=True)})
        return maps

    return run


def captum(network, x, layers, classes):
    from captum.attr import LayerGradCam

    def score(x):
        output = network(x)
        return output.flatten(2).sum(2) if output.ndim > 2 else output

    def run():
        maps = {}
        for layer in layers:
            explainer = LayerGradCam(score, network.get_submodule(layer))
            for c in classes:
                # detached, here and below, or every map would keep its graph
                maps[layer, c] = explainer.attribute(x, target=c, relu_attributions=True).detach()
        return maps

    return run


def captum_frozen(network, x, layers, classes):
    """captum with parameters that the user froze, which captum alone of the peers takes."""
    return captum(network.requires_grad_(False), x, layers, classes)


def monai(network, x, layers, classes):
    from monai.visualize import GradCAM

    explainer = GradCAM(network, list(layers))

    def run():
        maps = {}
        for (n, layer), c in itertools.product(enumerate(layers), classes):
            maps[layer, c] = explainer.compute_map(x, class_idx=c, layer_idx=n).detach()
        return maps

    return run


def monai_hooks(network, x, layers, classes):
    """MONAI's hooks, which give all layers at once, with the formula written by hand: its GradCAM gives one map a call."""
    from monai.visualize.class_activation_maps import ModelWithHooks

    hooks = ModelWithHooks(network, list(layers), register_forward=True, register_backward=True)

    def run():
        maps = {}
        for c in classes:
            _, activations, gradients = hooks(x, class_idx=c)
            for layer, a, g in zip(layers, activations, gradients, strict=True):
                maps[layer, c] = torch.einsum("bc,bc...->b...", g.flatten(2).mean(2), a.detach()).relu()
        return maps

    return run


def pytorch_grad_cam(network, x, layers, classes):
    # torchvision's wheels want the torch that they were built with. Three of its names are imported here and none is
    # called: they only stand there.
    for name, members in (
        ("torchvision", ()),
        ("torchvision.transforms", ("Compose", "Normalize", "ToTensor")),
        ("torchvision.transforms.functional", ("resize",)),
    ):
        sys.modules[name] = types.ModuleType(name)
        for member in members:
            setattr(sys.modules[name], member, None)
    from pytorch_grad_cam import GradCAM

    def target(c):
        return lambda output: output[c].sum()

    def run():
        maps = {}
        for layer in layers:  # several layers in one call are averaged into one map
            with GradCAM(network, [network.get_submodule(layer)]) as cam:
                for c in classes:
                    maps[layer, c] = cam(x, [target(c)])
        return maps

    return run


def medcam(network, x, layers, classes):
    from medcam import medcam

    # The injected model's own forward() drops the maps of several layers unless it writes them to files: what it calls
    # is called here.
    backend = medcam.inject(network, layer=list(layers)).medcam_dict["model_backend"]

    def run():
        maps = {}
        for c in classes:
            found = backend.generate_attention_map(x, c)[1]
            maps.update({(layer, c): found[layer] for layer in layers})
        return maps

    return run


LIBRARIES = {
    "floor": (floor, "torch"),
    "reference": (reference, "torch"),
    "tape": (tape, "MedXAILib"),
    "explain": (explain, "MedXAILib"),
    "torchcam": (torchcam, "torchcam"),
    "captum": (captum, "captum"),
    "captum_frozen": (captum_frozen, "captum"),
    "monai": (monai, "monai"),
    "monai_hooks": (monai_hooks, "monai"),
    "pytorch_grad_cam": (pytorch_grad_cam, "grad-cam"),
    "medcam": (medcam, "medcam"),
}
"""Name -> function, distribution."""


def prepared(case: Case, library: str, part: slice):
    """What is timed, for the first layers and classes of a case or for all."""
    torch.manual_seed(0)
    network, x = case.network().eval(), case.input()
    return network, LIBRARIES[library][0](network, x, case.layers[part], case.classes[part])


def memory(field: str) -> int:
    """Bytes, of this process: VmRSS (now) or VmHWM (its peak)."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


def from_here() -> int:
    """Bytes held now; the peak counts from here."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def counted(module: torch.nn.Module) -> list[int]:
    """Forward passes as they happen: the number of samples in each; none where nothing is computed."""
    passes: list[int] = []
    first = next(m for m in module.modules() if not list(m.children()))
    first.register_forward_pre_hook(lambda _module, inputs: passes.append(0 if inputs[0].is_meta else len(inputs[0])))
    return passes


def agreement(maps: dict, folder: Path) -> list[float]:
    """Correlation with each of the reference's maps, after ReLU; the first process to come is the reference."""
    maps = {f"{layer} {c}": np.maximum(array(m), 0) for (layer, c), m in maps.items()}
    file = folder / "maps.npz"
    if not file.exists():
        np.savez(file, **maps)
    with np.load(file) as known:
        return [correlation(m, known[key]) for key, m in maps.items()]


def array(m) -> np.ndarray:
    return (m.numpy() if torch.is_tensor(m) else np.asarray(m, np.float32)).squeeze()


def correlation(m: np.ndarray, known: np.ndarray) -> float:
    """Of min-max maps too, as it does not change by scale and offset."""
    if m.shape != known.shape:  # pytorch-grad-cam gives its maps upsampled only, so: the reference, as it does that
        from scipy.ndimage import zoom

        known = np.maximum(zoom(known, np.divide(m.shape, known.shape)), 0)
    if not np.ptp(m) or not np.ptp(known):
        return float(np.ptp(m) == np.ptp(known))
    return float(np.corrcoef(m.ravel(), known.ravel())[0, 1])


ANSWERS, sys.stdout = sys.stdout, sys.stderr
"""What the libraries print does not come between the answers."""


def answer(**values) -> None:
    print(json.dumps(values), file=ANSWERS, flush=True)


def timed(case: Case, library: str) -> None:
    """CPU seconds of a run for each line that comes in, after a warm-up by the first layer and class."""
    prepared(case, library, slice(1))[1]()
    _, run = prepared(case, library, slice(None))
    if library == "explain":
        run()  # the first explanation of a network has rows of its own
    answer()
    for _ in sys.stdin:
        gc.collect()
        began = time.process_time()
        maps = run()
        cpu = time.process_time() - began
        del maps
        answer(cpu=cpu)


def weighed(case: Case, library: str, folder: Path) -> None:
    """Growth of the peak with the maps held, how many forward passes there were, and whether the maps are right."""
    prepared(case, library, slice(1))[1]()
    network, run = prepared(case, library, slice(None))
    passes = counted(network)
    if library == "explain":
        run()  # the first explanation of a network, with this hook, has rows of its own
    passes.clear()
    before = from_here()
    maps = run()
    peak = memory("VmHWM") - before
    version = importlib.metadata.version(LIBRARIES[library][1])
    answer(version=version, peak=peak, passes=sum(passes), correlations=agreement(maps, folder))


def first(case: Case, probe: bool) -> None:
    """What the first explanation of a network takes (0), and what the second one does (1)."""
    from MedXAILib import ClassTarget, explain

    prepared(CASES["slices"], "explain", slice(None))[1]()
    network, x = case.network().eval(), case.input()
    with torch.no_grad():
        network(x)
    passes, found = counted(network), {}
    for number in range(2):
        before = from_here()
        passes.clear()
        began = time.process_time()
        maps = explain(network, x, [ClassTarget(c) for c in case.classes], ["gradcam"], list(case.layers), probe=probe)
        found |= {
            f"{what} {number}": value
            for what, value in (
                ("cpu", time.process_time() - began),
                ("peak", memory("VmHWM") - before),
                ("passes", sum(passes)),
            )
        }
        del maps
    answer(**found)


WINDOW = 64
OVERLAP = 0.5


def windows(size: int) -> None:
    """Grad-CAM of three classes of a segmentation, over size^3 voxels, at the deepest layer of a U-Net."""
    from MedXAILib import ClassTarget, explain

    torch.manual_seed(0)
    network = UNet(3, 1, 3, (16, 32, 64), (2, 2), num_res_units=2, norm="batch").eval()
    passes = counted(network)

    def run(*shape: int):
        x = torch.randn(1, 1, *shape)
        before = from_here()
        passes.clear()
        began = time.process_time()
        scores = [ClassTarget(1), ClassTarget(2), ClassTarget(0)]
        found = explain(network, x, scores, ["gradcam"], ["model.1.submodule.1.submodule"], windows=WINDOW)
        return found, time.process_time() - began, memory("VmHWM") - before

    run(WINDOW, WINDOW, 3 * WINDOW // 2)
    found, cpu, peak = run(size, size, size)
    logits, maps = 3 * 4 * size**3, sum(a.volume.array.nbytes for a in found)
    tiles = (round((size - WINDOW) / (WINDOW * (1 - OVERLAP))) + 1) ** 3
    answer(tiles=tiles, passes=sum(passes), cpu=cpu, peak=peak, logits=logits, maps=maps)


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    try:
        if what == "time":
            timed(CASES[words[0]], words[1])
        elif what == "memory":
            weighed(CASES[words[0]], words[1], Path(words[2]))
        elif what == "first":
            first(CASES[words[0]], words[1] == "asked")
        else:
            windows(int(words[0]))
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
