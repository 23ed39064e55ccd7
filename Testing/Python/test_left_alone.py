"""The user's network is as it was, whatever happens: every way of using it, over networks that change themselves."""

from __future__ import annotations

import copy
import random
import threading
from collections import Counter, deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixture_nets import model
from torch import nn
from torch.nn.utils import parametrizations

from MedXAILib import explain
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.prediction import predict
from MedXAILib.progress import Cancelled
from MedXAILib.recording.record import record

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


class Base(nn.Module):
    """``features`` is the layer explained; everything is in training mode but the activation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.act, self.head = nn.Conv3d(1, 3, 3, 2, 1), nn.ReLU(inplace=True), nn.Linear(3, 2)
        self.extra = nn.Identity()

    def before(self, x):
        return x

    def between(self, z):
        return self.extra(z)

    def forward(self, x):
        return self.head(self.between(self.act(self.features(self.before(x)))).mean((2, 3, 4)))


class Dropout(Base):
    def __init__(self):
        super().__init__()
        self.extra = nn.Dropout(0.3)


class StaysOn(Base):
    """Draws from all three generators in evaluation mode too."""

    def between(self, z):
        z = nn.functional.dropout(z, 0.3, training=True)
        return z * (1 + 0.1 * random.random() + 0.1 * float(np.random.rand()))  # noqa: NPY002


class OwnGenerators(Base):
    """Draws from generators of its own."""

    def __init__(self):
        super().__init__()
        self.one, self.two = torch.Generator().manual_seed(5), random.Random(5)
        self.three, self.four = np.random.default_rng(5), np.random.RandomState(5)  # noqa: NPY002

    def between(self, z):
        drawn = float(torch.rand(1, generator=self.one)) + self.two.random() + self.three.random() + self.four.rand()
        return z * (1 + 0.1 * drawn)


class Norm(Base):
    def __init__(self):
        super().__init__()
        self.extra = nn.BatchNorm3d(3)


class ForcedNorm(Norm):
    """Its batch norm learns in evaluation mode."""

    def before(self, x):
        self.extra.train()
        return x


class Spectral(Base):
    def __init__(self):
        super().__init__()
        self.features, self.head = nn.utils.spectral_norm(self.features), parametrizations.spectral_norm(self.head)


class WeightNorm(Base):
    def __init__(self):
        super().__init__()
        self.features, self.head = nn.utils.weight_norm(self.features), parametrizations.weight_norm(self.head)


class Counts(Base):
    """In a buffer, in place and bound anew; in attributes; in a buffer that it makes on the way."""

    def __init__(self):
        super().__init__()
        self.calls, self.last = 0, None
        self.register_buffer("one", torch.zeros(()))
        self.register_buffer("two", torch.zeros(()))

    def before(self, x):
        self.calls, self.two = self.calls + 1, self.two + 1
        self.one += 1
        if not hasattr(self, "made"):
            self.register_buffer("made", torch.ones(1))
        self.made += 1
        return x

    def between(self, z):
        self.last = z
        return z


class Weights(Base):
    """Keeps its weights small, bound anew and in place."""

    def before(self, x):
        self.features.weight.data = torch.renorm(self.features.weight.data, 2, 0, 0.1)
        with torch.no_grad():
            self.head.weight.clamp_(-0.3, 0.3)
            self.head.bias.data.mul_(0.9)
        return x


class Caches(Base):
    """Tables by size, also further in, and what it saw last."""

    def __init__(self):
        super().__init__()
        self.tables, self.deep, self.sizes = {}, {"x": {}}, set()

    def before(self, x):
        size = tuple(x.shape[2:])
        if size not in self.tables:
            self.tables[size] = torch.linspace(0.5, 1, size[-1], device=x.device, dtype=x.dtype)
            self.deep["x"][size] = torch.ones(size, device=x.device, dtype=x.dtype)
        self.sizes.add(size)
        return x * self.tables[size] * self.deep["x"][size]


class Remembers(Base):
    def __init__(self):
        super().__init__()
        self.seen, self.few, self.counted = [], deque(maxlen=9), Counter()
        self.array, self.table, self.tables = np.zeros(2), torch.zeros(2), [torch.zeros(2)]

    def between(self, z):
        self.array += 1
        self.table.add_(1)
        self.tables[0] += 1
        self.seen.append(z)
        self.few.append(len(z))
        self.counted[tuple(z.shape)] += 1
        return z


class Meter:
    count = 0


class Beside(Base):
    """Keeps a module in a plain list, an object that counts, and bytes."""

    def __init__(self):
        super().__init__()
        self.norms, self.meter, self.bytes = [nn.BatchNorm3d(3)], Meter(), bytearray(1)

    def between(self, z):
        self.meter.count += 1
        self.bytes.append(1)
        return self.norms[0](z)


class Recurrent(Base):
    """Its weights are kept in a list beside the registry too."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 3, batch_first=True)

    def between(self, z):
        return self.rnn(z.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(z.shape)


NETWORKS = (
    Base,
    Dropout,
    StaysOn,
    Norm,
    ForcedNorm,
    Spectral,
    WeightNorm,
    Counts,
    Weights,
    Caches,
    Remembers,
    Beside,
    Recurrent,
)
X = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))


def prepared(make) -> nn.Module:
    """With gradients, a frozen parameter, a hook, and parts in evaluation mode."""
    net = make().train()
    net.act.eval()
    for n, p in enumerate(net.parameters()):
        p.grad = torch.full_like(p, n)
    net.head.bias.requires_grad_(False)
    net.act.register_forward_hook(lambda *_: None)
    return net


def state(net: nn.Module) -> dict:
    """All that must stay, as plain values."""
    found = {"random": (random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist())}  # noqa: NPY002
    own = [getattr(net, name, None) for name in ("one", "two", "three", "four")]
    if isinstance(net, OwnGenerators):
        found["own"] = (
            own[0].get_state().tolist(),
            own[1].getstate(),
            repr(own[2].bit_generator.state),
            repr(own[3].get_state()),
        )
    for kind, tensors in (("parameter", net.named_parameters()), ("buffer", net.named_buffers())):
        for name, t in tensors:
            found[kind, name] = id(t), t.requires_grad, t.detach().numpy().tobytes()
            found[kind, name, "gradient"] = t.grad if t.grad is None else t.grad.numpy().tobytes()
    for number, norm in enumerate(getattr(net, "norms", ())):
        found["norm", number] = norm.training, [t.tolist() for t in norm.state_dict().values()]
    for name, m in net.named_modules():
        hooks = [list(vars(m)[h]) for h in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
        found[name] = m.training, hooks, sorted(vars(m)), [v for v in vars(m).values() if isinstance(v, int | None)]
    return found


def cancelling(*step) -> None:
    raise Cancelled


def cancelled(net):
    with pytest.raises(Cancelled):
        explain(net, X, [1], ["gradcam"], ["features"], progress=cancelling)


def failing(net):
    """Like a lack of memory in the middle."""
    net.head.forward = lambda x: torch.zeros(1) @ torch.zeros(2)
    with pytest.raises((RuntimeError, InputError)):
        record(net, X, ["features"])
    with pytest.raises(InputError):
        explain(net, X, [1])
    del net.head.forward


def by_hand(net):
    with record(net, X, ["features"]) as tape:
        tape.gradients(lambda output: output[:, 0])


USES = {
    "record": by_hand,
    "predict": lambda net: predict(model_of(net), Volume(X[0, 0].numpy(), np.eye(4))),
    "windows": lambda net: explain(net, X, [1], ["gradcam", "gradcam++"], ["features"], windows=4),
    "layers": lambda net: explain(net, X, [1], ["gradcam", "eigencam", "scorecam", "ablationcam"], ["features"]),
    "gradients": lambda net: explain(net, X, [1], ["saliency", "ig", "lrp", "deeplift"], samples=2),
    "queries": lambda net: explain(net, X, [1], ["lime", "occlusion", "rise"], samples=8, superpixels=4),
    "cancelled": cancelled,
    "failing": failing,
}


CARD = vars(model(Base()))


def model_of(net: nn.Module):
    return SimpleNamespace(**CARD | {"network": net})


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("make", NETWORKS)
def test_the_network_is_as_it_was(make, use):
    net = prepared(make)
    once = make().eval()
    with torch.no_grad():
        once(X)
    before = state(net)
    USES[use](net)
    after = state(net)
    assert after.keys() == before.keys()
    for key, value in before.items():
        assert after[key] == value, key
    if use not in ("windows", "cancelled", "failing"):
        for name in ("tables", "sizes", "seen", "few", "counted"):
            kept, ordinary = getattr(net, name, ()), getattr(once, name, ())
            assert len(kept) == len(ordinary), "caches as one ordinary pass leaves them"
            assert name not in ("few", "counted") or kept == ordinary
        if make is Beside:
            assert net.meter.count == 1 and len(net.bytes) == 2, "as one ordinary pass leaves them"
        for name in ("array", "table"):
            assert np.array_equal(getattr(net, name, 0), getattr(once, name, 0))
    net.train()(X).sum().backward()  # it can be trained: nothing left is a tensor of inference_mode, or has a graph
    net(X).sum().backward()


def test_a_pass_uses_what_the_network_changed_on_the_way():
    """A tape outlives the pass: its gradient is that of the weights that the pass itself made."""
    net = Weights().double().eval()
    x = X.double()
    a = nn.functional.conv3d(x, torch.renorm(net.features.weight.data, 2, 0, 0.1), net.features.bias, 2, 1).detach()
    a.requires_grad_()
    with torch.no_grad():
        weight, bias = net.head.weight.clamp(-0.3, 0.3), net.head.bias * 0.9
    score = nn.functional.linear(a.relu().mean((2, 3, 4)), weight, bias)[:, 1]
    (expected,) = torch.autograd.grad(score.sum(), a)
    tape = record(net, x, ["features"])
    found = tape.gradients(lambda output: output[:, 1])["features"]
    assert torch.allclose(tape.activations["features"], a) and torch.allclose(found, expected, atol=1e-15)


class Running(nn.Module):
    """Takes away a mean that every pass moves on."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 4, 3, 2, 1), nn.Linear(4, 2)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("large", torch.arange(100_000))  # more numbers than are looked at

    def forward(self, x):
        y = self.body(x).relu()
        with torch.no_grad():
            self.mean.mul_(0.9).add_(y.mean((0, 2, 3)), alpha=0.1)
        return self.head((y - self.mean[None, :, None, None]).relu().mean((2, 3)))


def test_each_pass_begins_with_the_buffers_that_the_network_has():
    torch.manual_seed(0)
    network, x = Running().eval(), torch.rand(1, 1, 24, 24)
    asked, unasked = (explain(network, x, [1], layers=["body"], probe=probe)[0].volume.array for probe in (True, False))
    np.testing.assert_array_equal(asked, unasked)


TABLES: dict = {}


class Tables(nn.Module):
    """Keeps a table by size in a place that no copy of it has for itself."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 4, 3, 2, 1), nn.Linear(4, 2)
        self.head.weight.data.abs_()

    def forward(self, x):
        y = self.body(x).relu()
        if y.shape not in TABLES:
            TABLES[y.shape] = torch.ones_like(y) * 2
        return self.head((y * TABLES[y.shape]).mean((2, 3)))


def test_tables_that_are_shared_by_all_networks_stay_usable():
    network, x = Tables().eval(), torch.rand(1, 1, 20, 20)
    (found,) = explain(network, x, [1], layers=["body"])
    assert found.volume.array.any()
    assert network(x).isfinite().all() and not any(table.is_meta for table in TABLES.values())


def test_lazy_modules_that_never_ran_are_named():
    net = nn.Sequential(nn.LazyConv3d(3, 3), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(InputError, match="run it once"):
        record(net, X, ["0"])


RANDOM = ("gradcam", "scorecam", "ablationcam", "saliency", "ig", "deeplift", "lime", "occlusion")


@pytest.mark.parametrize("method", RANDOM)
@pytest.mark.parametrize("make", [StaysOn, OwnGenerators])
def test_of_a_random_network_the_same_seed_gives_the_same_map_and_it_is_said(make, method):
    net, options = make().eval(), {"samples": 4, "superpixels": 4}
    options["layers"] = ["features"] if method.endswith("cam") else []
    maps = []
    for seed in (3, 3, 4):
        torch.rand(5)  # whatever is drawn between
        (found,) = explain(net, X, [1], [method], seed=seed, **options)
        maps.append(found.volume.array)
        assert [c.code for c in found.caveats].count("random-network") == 1
    assert np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[0], maps[2])
    (found,) = explain(Base().eval(), X, [1], [method], **options)
    assert not any(c.code == "random-network" for c in found.caveats)


def test_threads_get_the_right_maps_of_one_network():
    net, expected, found = prepared(Norm), {}, {}
    inputs = [torch.rand(1, 1, 8 + 2 * n, 8, 8) for n in range(4)]

    def work(n: int, results: dict) -> None:
        try:
            results[n] = [a.volume.array for a in explain(net, inputs[n], [1], ["gradcam", "saliency"])]
        except Exception as error:
            results[n] = error

    for n in range(4):
        work(n, expected)
    before = state(net)
    threads = [threading.Thread(target=work, args=(n, found)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(expected[n], found[n], strict=True))
    assert state(net) == before


def test_who_infers_in_another_thread_meanwhile_gets_his_own_numbers():
    """A channel is switched off for Ablation-CAM, not for him."""
    net = Base().eval().requires_grad_(False)
    expected, wrong, done = net(X), [], threading.Event()

    def infer() -> None:
        with torch.no_grad():
            while not done.is_set():
                if not torch.equal(net(X), expected):
                    wrong.append(1)

    thread = threading.Thread(target=infer)
    thread.start()
    try:
        for _ in range(5):
            explain(net, X, [1], ["ablationcam", "scorecam", "gradcam"], ["features"])
    finally:
        done.set()
        thread.join()
    assert not wrong


COMPILED = ("whole", "part", "in place", "function")


@pytest.mark.parametrize("how", COMPILED)
def test_a_compiled_network_is_explained_as_it_was_written_and_nothing_is_compiled(how):
    torch._dynamo.reset()
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    plain = Base().eval()
    net = copy.deepcopy(plain)
    if how == "part":
        net.features = torch.compile(net.features, backend=backend)
    elif how == "function":
        net.between = torch.compile(lambda z: z * 1.0, backend=backend)
    elif how == "in place":
        net.compile(backend=backend)
    given = torch.compile(net, backend=backend) if how == "whole" else net
    with torch.no_grad():
        given(X)
    own = len(compiled)
    assert own == 1
    options = {"layers": ["features"], "samples": 3, "superpixels": 3}
    for method in ("gradcam", "scorecam", "saliency", "deeplift", "lime"):
        pair = [explain(n, X, [1], [method], **options)[0] for n in (plain, given)]
        assert np.array_equal(*(a.volume.array for a in pair)) and pair[0].layer == pair[1].layer
    for layer in ("features", "_orig_mod.features", "features._orig_mod"):
        assert explain(given, X, [1], layers=[layer])[0].layer == "features"
    record(given, X, ["features"]).gradients(lambda output: output[:, 0])
    assert len(compiled) == own, "by us"
    with torch.no_grad():
        given(X)
    assert len(compiled) == own, "and afterwards"


class Fails(nn.Module):
    """Raises at its n-th pass."""

    def __init__(self, at: int, error: type[Exception]):
        super().__init__()
        self.conv, self.act, self.head, self.error = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(4, 3), error
        self.passes = iter(range(at))

    def forward(self, x):
        if next(self.passes, None) is None:
            raise self.error("no more\nthan this")
        return self.head(self.act(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
@pytest.mark.parametrize("method", ["gradcam", "saliency", "scorecam", "occlusion", "ig", "deeplift"])
def test_a_network_that_fails_later_gives_one_sentence(error, method):
    said = set()
    torch.manual_seed(0)
    for at in range(12):
        try:
            explain(Fails(at, error).eval(), torch.rand(1, 1, 16, 16), [0], [method])
        except InputError as refusal:
            said.add(str(refusal).partition("no more")[0].rstrip("'"))
    assert said <= {
        f"Fails raised an error in its forward pass ({error.__name__}: ",
        "Fails does not take an input of the shape (1, 1, 16, 16): ",
    }
    assert len(said) == 2
