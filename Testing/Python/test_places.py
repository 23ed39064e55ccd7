"""Where a map lies: a planted blob is found again whatever the network does to space, or the map is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixture_nets import Blob, model
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional as F

from MedXAILib import explain
from MedXAILib.attribution.probe import (
    CONFIRMED,
    CONTRADICTED,
    UNCLEAR,
    ask,
    compare,
    difference,
    draw,
    judge,
    limit,
)
from MedXAILib.attribution.probe import places as believable
from MedXAILib.caveats import texts
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.models.layers import find, inspect
from MedXAILib.progress import silent
from MedXAILib.recording.record import glimpse

BLOB = np.array((26, 10, 20))


class Net(nn.Module):
    """Two convolutions of stride 2 with positive weights, after whatever ``before`` does to the input."""

    def __init__(self, before):
        super().__init__()
        torch.manual_seed(0)
        self.c1, self.c2 = nn.Conv3d(1, 2, 3, 2, 1, bias=False), nn.Conv3d(2, 2, 3, 2, 1, bias=False)
        self.head, self.before = nn.Linear(2, 2), before
        for parameter in self.parameters():
            parameter.data.abs_()

    def forward(self, x):
        pieces = self.before(x)
        pieces = pieces if isinstance(pieces, list) else [pieces]
        scores = sum(self.head(F.relu(self.c2(F.relu(self.c1(piece)))).mean((2, 3, 4))) for piece in pieces)
        return scores.mean(0, keepdim=True)


def blob() -> torch.Tensor:
    x = torch.zeros(1, 1, 32, 32, 32)
    x[0, 0, 24:28, 8:12, 18:22] = 1
    return x


def centre(a) -> np.ndarray:
    """Centre of a map's mass in voxels (d0, d1, d2)."""
    values = a.volume.array
    index = np.array([(values * grid).sum() for grid in np.indices(values.shape)]) / values.sum()
    return a.volume.ras(index[::-1])[::-1]


def canvas(x):
    out = torch.zeros(1, 1, 40, 32, 32)
    out[:, :, 4:36] = x.flip(3)
    return out


def stitched(x):
    out = torch.zeros_like(x)
    for n in range(0, 32, 8):
        out[..., n : n + 8] = x[..., n : n + 8]
    return out


def blanked(x):
    x = x.clone()
    x[..., :3] = 0
    x.narrow(2, 0, 2).mul_(0.5)
    return x


def turned_by_values(x):
    return x.flip(2) if x[:, :, 16:].sum() > x[:, :, :16].sum() else x


def hottest(x):
    place = int(F.avg_pool3d(x, 8, 4).flatten().argmax())
    a, b, c = (min(4 * int(v), 16) for v in np.unravel_index(place, (7, 7, 7)))
    return x[:, :, a : a + 16, b : b + 16, c : c + 16]


def sampled(x):
    theta = torch.tensor([[[1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 1.0, 0]]])
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)


MOVES = {
    "nothing": lambda x: x,
    "permute": lambda x: x.permute(0, 1, 4, 3, 2),
    "einsum": lambda x: torch.einsum("bcdhw->bcwdh", x),
    "flip": lambda x: x.flip(2),
    "rot90": lambda x: x.rot90(1, (2, 3)),
    "roll": lambda x: torch.roll(x, (8, 3), (2, 4)),
    "unpooled": lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2),
    "narrow": lambda x: x.narrow(2, 16, 16),
    "chunk": lambda x: x.chunk(2, 2)[1],
    "index": lambda x: x[:, :, list(range(31, -1, -1))],
    "index_select": lambda x: x.index_select(3, torch.arange(16)),
    "swapped halves": lambda x: torch.cat([x[:, :, 16:], x[:, :, :16]], 2),
    "written into a canvas": canvas,
    "stitched": stitched,
    "blanked": blanked,
    "chosen": lambda x: torch.where(x > 0.5, x.flip(2), x.flip(2)),
    "chosen by a mask": lambda x: torch.where(torch.arange(32) < 16, x, x.flip(2)),
    "added": lambda x: torch.zeros_like(x).index_add(2, torch.arange(31, -1, -1), x),
    "scattered": lambda x: torch.zeros_like(x).scatter_add(2, torch.arange(31, -1, -1)[:, None, None].expand_as(x), x),
    "matrix": lambda x: torch.einsum("ij,bcjhw->bcihw", torch.eye(32).flip(0), x),
    "complex": lambda x: torch.complex(x, x / 2).flip(2).real,
    "digitised": lambda x: torch.bucketize(x, torch.tensor([0.2, 0.8])).float().flip(2),
    "copies": lambda x: x.repeat(2, 1, 1, 1, 1),
    "circular padding": lambda x: F.pad(x, (0, 0, 0, 0, 12, 12), mode="circular")[:, :, :32],
    "two views": lambda x: [x, x.flip(2)],
    "grid_sample": sampled,
    "turned by its values": turned_by_values,
    "cropped by its values": hottest,
}


@pytest.mark.parametrize("name", MOVES)
def test_a_blob_is_found_where_it_is(name):
    for a in explain(Net(MOVES[name]).eval(), blob(), [0], layers=["c2"]):
        assert np.abs(centre(a) - BLOB).max() < 4, "within a cell"
        whole = a.on(Volume(np.zeros((32, 32, 32), np.float32), np.eye(4))).array
        assert whole[tuple(BLOB)] > 0.5 * whole.max() > 0


SEAMS = {
    "beside itself": lambda x: torch.cat([x.roll(1, 2), x], 1),
    "by index": lambda x: torch.cat([x[:, :, (torch.arange(12) - 1) % 12], x], 1),
    "both neighbours": lambda x: torch.cat([x.roll(1, 2), x, x.roll(-1, 2)], 1),
    "difference": lambda x: x - x.roll(1, 2),
    "second difference": lambda x: 2 * x - x.roll(1, 2) - x.roll(-1, 2),
    "maximum": lambda x: torch.maximum(x, x.roll(1, 2)),
    "mean": lambda x: torch.stack([x.roll(1, 2), x, x.roll(-1, 2)]).mean(0),
    "around the edge": lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), mode="circular").unfold(2, 3, 1).movedim(5, 1)[:, :, 0],
}


@pytest.mark.parametrize("name", SEAMS)
def test_a_seam_puts_no_slice_elsewhere(name):
    """What the first slice has of the last one does not lie in the middle between them."""

    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            channels = SEAMS[name](torch.zeros(1, 1, 12, 16, 16)).shape[1]
            self.conv, self.head = nn.Conv3d(channels, 4, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.Linear(4 * 12 * 8 * 8, 2)

        def forward(self, x):
            return self.head(F.relu(self.conv(SEAMS[name](x))).flatten(1))

    network = Joined().eval()
    x = 0.1 * torch.rand(1, 1, 12, 16, 16, generator=torch.Generator().manual_seed(0))
    x[:, :, 0] += 2
    activation = network.conv(SEAMS[name](x)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.head(F.relu(activation).flatten(1))[0, 0], activation)
    literal = (gradient * activation.detach()).sum(1)[0].relu().sum((1, 2)).numpy()
    (found,) = explain(network, x, [0], ["hirescam"], ["conv"])
    np.testing.assert_allclose(found.volume.array.sum((1, 2)), literal, rtol=1e-4)
    np.testing.assert_allclose(found.volume.ras((0, 0, 0))[2], 0, atol=0.5)


@pytest.mark.parametrize("width", [3, 5, 7, 12])
def test_neighbouring_slices_as_channels_are_an_ordinary_kernel(width):
    """Each slice with its neighbours, folded into the batch; or the whole depth at once."""

    class Stacked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(width, 4, 3, 2, 1), nn.Linear(4, 2)

        def forward(self, x):
            x = x[:, 0] if width == 12 else F.pad(x, (0, 0, 0, 0, width // 2, width // 2)).unfold(2, width, 1)
            x = x if width == 12 else x[:, 0].movedim(-1, 2).flatten(0, 1)
            return self.head(F.relu(self.conv(x)).mean((2, 3))).mean(0, keepdim=True)

    (found,) = explain(Stacked().eval(), torch.rand(1, 1, 12, 32, 32), [0], layers=["conv"])
    assert found.volume.array.shape == ((1 if width == 12 else 12), 16, 16)


def test_modalities_that_share_an_encoder_are_no_slices():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv3d(1, 4, 3, 2, 1), nn.Linear(4, 2)

        def forward(self, x):
            z = F.relu(self.conv(x.flatten(0, 1)[:, None])).mean((2, 3, 4))
            return self.head(z.unflatten(0, x.shape[:2]).amax(1))

    network, x = Shared().eval(), torch.rand(1, 2, 12, 16, 20)
    (heat,) = explain(network, x, [0], ["saliency"])
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network(leaf)[0, 0], leaf)
    np.testing.assert_allclose(heat.volume.array, expected[0].abs().amax(0), rtol=1e-5)
    assert explain(network, x, [0], layers=["conv"])[0].volume.array.shape == (6, 8, 10)


def test_each_sample_of_a_batch_is_turned_by_its_own_values():
    """The probe asks of one of them, and holds its answers against the way that this one took."""

    class Each(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.head = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Linear(320, 2)

        def forward(self, x):
            x = torch.stack([one.flip(2) if one[..., :20].mean() > one[..., 20:].mean() else one for one in x])
            return self.head(F.relu(self.b(F.relu(self.a(x)))).flatten(1))

    for seed in range(4):
        x = torch.rand(1, 1, 32, 40, generator=torch.Generator().manual_seed(seed)) * 0.5
        x[..., :20] += 0.5
        (found,) = explain(Each().eval(), torch.cat([x, x.flip(3)]), [0], layers=["b"])
        assert found.volume.array.shape[0] == 2


@pytest.mark.parametrize(
    "join",
    [
        lambda z: torch.cat([z[:, :, :16], z[:, :, 16:]], 1),
        lambda z: z.reshape(1, -1, 8, 32, 32),
        lambda z: z + z.roll(12, 3),
    ],
    ids=["halves", "rows", "sum"],
)
def test_what_joins_different_places_lies_at_none_of_them(join):
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            channels = join(torch.zeros(1, 1, 32, 32, 32)).shape[1]
            self.conv, self.head = nn.Conv3d(channels, 2, 3, padding=1), nn.Linear(2, 2)

        def forward(self, x):
            return self.head(F.relu(self.conv(join(x))).mean((2, 3, 4)))

    with pytest.raises(InputError, match="joins what lies at different places"):
        explain(Joined().eval(), torch.rand(1, 1, 32, 32, 32), [0], layers=["conv"])


def test_an_operator_that_hides_the_place_is_refused_unless_the_network_shows_it():
    def low_pass(x):
        spectrum = torch.fft.rfftn(x, dim=(2, 3, 4))
        keep = torch.fft.fftfreq(32).abs()[:, None, None] < 0.4
        return torch.fft.irfftn(spectrum * keep, x.shape[2:], dim=(2, 3, 4))

    def beside(x):
        phase = torch.exp(-2j * torch.pi * torch.fft.fftfreq(32) * 9)
        return torch.fft.ifft(torch.fft.fft(x, dim=2) * phase[:, None, None], dim=2).real

    x = blob() + 0.1 * torch.rand(blob().shape, generator=torch.Generator().manual_seed(0))
    (found,) = explain(Net(low_pass).eval(), x, [0], layers=["c2"])
    assert any(limit.code == "place-found" for limit in found.caveats)
    assert np.abs(centre(found) - centre(explain(Net(lambda x: x).eval(), x, [0], layers=["c2"])[0])).max() < 1
    with pytest.raises(InputError, match="is not known"):
        explain(Net(beside).eval(), x, [0], layers=["c2"])
    with pytest.raises(InputError, match="hides it"):
        explain(Net(low_pass).eval(), x, [0], layers=["c2"], probe=False)


def part_moved(x):
    """By an operator that nobody traces."""
    order = torch.arange(32)
    order[16:] = order[16:].flip(0)
    return torch.zeros_like(x).index_reduce(2, order, x, "amax", include_self=False)


def stretched(x):
    return torch.zeros_like(x).index_add(2, torch.arange(8, 24).repeat_interleave(2), x)


@pytest.mark.parametrize("hide", [part_moved, stretched])
def test_a_place_that_holds_in_a_part_alone_is_not_found(hide):
    x = blob() + 0.1 * torch.rand(blob().shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="is not known"):
        explain(Net(hide).eval(), x, [0], layers=["c2"])


class Turned(Net):
    """Flips its input by whatever says so."""

    table = torch.arange(32)

    def __init__(self, kind: str):
        super().__init__(lambda x: x)
        self.kind, self.flag, self.given = kind, False, {"axes": []}
        self.config, self.numbers = SimpleNamespace(turn=False), np.arange(32)
        self.register_buffer("order", torch.arange(32))

    def forward(self, x):
        ways = {
            "flag": lambda: x.flip(2) if self.flag else x,
            "dict": lambda: x.flip(self.given["axes"]) if self.given["axes"] else x,
            "object": lambda: x.flip(2) if self.config.turn else x,
            "array": lambda: x[:, :, torch.from_numpy(self.numbers.copy())],
            "buffer": lambda: x[:, :, self.order],
            "class": lambda: x[:, :, self.table],
            "global": lambda: x.flip(2) if SWITCH["turn"] else x,
        }
        return super().forward(ways[self.kind]())


SWITCH = {"turn": False}


@pytest.mark.parametrize("kind", ["flag", "dict", "object", "array", "buffer", "class", "global"])
def test_a_network_that_was_changed_is_traced_anew(kind, monkeypatch):
    network = Turned(kind).eval()
    monkeypatch.setattr(Turned, "table", torch.arange(32))
    monkeypatch.setitem(SWITCH, "turn", False)

    def found():
        return explain(network, blob(), [0], layers=["c2"])[0]

    before = found()
    assert np.abs(centre(before) - BLOB).max() < 2
    network.flag, network.config.turn, SWITCH["turn"] = True, True, True
    network.given["axes"].append(2)
    network.numbers[:] = network.numbers[::-1].copy()
    network.order.data[:] = network.order.flip(0)
    Turned.table = Turned.table.flip(0)
    assert np.abs(centre(found()) - BLOB).max() < 2


def test_a_hook_that_moves_everything_is_seen():
    network, x = Net(lambda x: x).eval(), blob() + 0.1 * torch.rand(blob().shape)
    explain(network, x, [0], layers=["c2"])
    for move in (lambda t: t.flip(2), lambda t: t.roll(8, 3), lambda t: t[:, :, 4:]):
        handle = network.c1.register_forward_hook(lambda module, inputs, output, move=move: move(output))
        (a,) = explain(network, x, [0], ["hirescam"], ["c2"])
        handle.remove()
        strongest = np.unravel_index(a.volume.array.argmax(), a.volume.array.shape)
        assert np.abs(a.volume.ras(strongest[::-1])[::-1] - BLOB).max() <= 4


@pytest.mark.parametrize("seed", range(4))
def test_what_a_network_turns_at_random_lies_where_that_pass_turned_it(seed):
    network = Net(lambda x: x.flip(2) if torch.rand(()) > 0.5 else x).eval()
    (found,) = explain(network, blob(), [0], layers=["c2"], seed=seed)
    assert np.abs(centre(found) - BLOB).max() < 2


class OneSlice(nn.Module):
    def __init__(self, pick):
        super().__init__()
        self.body, self.head, self.pick = nn.Conv2d(1, 2, 3, 2, 1), nn.Linear(2, 2), pick
        for parameter in self.parameters():
            parameter.data.abs_()

    def forward(self, x):
        return self.head(F.relu(self.body(self.pick(x))).mean((2, 3)))


@pytest.mark.parametrize(
    "pick, slices, cell",
    [
        (lambda x: x[:, :, 5], [5], "1 x 2 x 2"),
        (lambda x: x[:, :, 4:6].mean(2), [4, 5], "2 x 2 x 2"),
        (lambda x: x.mean(2), list(range(9)), "9 x 2 x 2"),
    ],
)
def test_a_map_lies_in_the_slices_that_the_network_picks(pick, slices, cell):
    (found,) = explain(OneSlice(pick).eval(), torch.rand(1, 1, 9, 16, 16), [0], layers=["body"])
    laid = found.on(Volume(np.zeros((9, 16, 16), np.float32), np.eye(4))).array
    assert [int(n) for n in np.flatnonzero(laid.any((1, 2)))] == slices
    assert any(f"covers {cell} voxels" in limit for limit in texts(found.caveats))


def test_the_place_is_confirmed_by_two_passes_once():
    network, x, passes = Net(lambda x: x).eval(), torch.rand(1, 1, 48, 48, 48), []
    network.c1.register_forward_hook(lambda *_: passes.append(1))
    first, second, third = (explain(network, x, [0], layers=["c2"], probe=probe)[0] for probe in (True, True, False))
    assert len(passes) == 1 + 2 + 1 + 1
    assert not any("not confirmed" in limit for a in (first, second, third) for limit in texts(a.caveats))
    unasked = explain(Net(lambda x: x).eval(), x, [0], layers=["c2"], probe=False)[0]
    assert any("not confirmed" in limit for limit in texts(unasked.caveats))


@pytest.mark.parametrize("wrong", ["flipped", "exchanged", "shifted"])
def test_a_wrong_trace_is_contradicted(wrong):
    network, x = Net(lambda x: x).eval(), torch.rand(1, 1, 48, 48, 48)
    layer = find(inspect(network, x.shape), "c2")
    at_rest = glimpse(network, x, ["c2"], silent).activations["c2"]
    believed = {
        "flipped": replace(layer, arrangement=layer.arrangement.turned_to((0, 1, 2), [1])),
        "exchanged": replace(layer, arrangement=layer.arrangement.turned_to((1, 0, 2), [])),
        "shifted": replace(layer, cells=replace(layer.cells, offset=(8.0, 0.0, 0.0))),
    }[wrong]
    for assumed, what in ((layer, CONFIRMED), (believed, CONTRADICTED)):
        assert judge(ask(network, x, [assumed], silent), assumed, at_rest).what == what


class Encoder(nn.Module):
    """Random kernels of any width, which may look aside; with a decoder by transposed convolutions."""

    def __init__(self, kernel: int):
        super().__init__()
        rows = ((1, 6), (6, 8), (8, 8))
        self.down = nn.ModuleList(nn.Conv2d(a, b, kernel, padding=kernel // 2) for a, b in rows)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b in rows)
        self.up, self.last = nn.ConvTranspose2d(8, 6, 2, 2), nn.Conv2d(12, 2, kernel, padding=kernel // 2)

    def forward(self, x):
        kept = []
        for number, (convolution, norm) in enumerate(zip(self.down, self.norms, strict=True)):
            x = F.relu(norm(convolution(F.max_pool2d(x, 2) if number == 1 else x)))
            kept.append(x)
        return self.last(torch.cat([kept[0], self.up(x)], 1))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("seed", range(3))
def test_no_layer_of_an_ordinary_network_is_contradicted(seed, kernel):
    torch.manual_seed(seed)
    network, x = Encoder(kernel).eval(), torch.rand(1, 1, 64, 96)
    layers = [layer for layer in inspect(network, x.shape) if layer.cells]
    at_rest = glimpse(network, x.clone(), [layer.name for layer in layers], silent).activations
    answers = ask(network, x, layers, silent)
    assert len(layers) >= 8
    assert CONTRADICTED not in {judge(answers, layer, at_rest[layer.name]).what for layer in layers}


@pytest.mark.parametrize("alike, fit", [(0.0, 0.0), (0.5, 0.3), (0.8, 0.6)])
def test_the_difference_of_two_correlations_has_the_deviation_that_chance_gives(alike, fit):
    """2000 samples of 100 from the true correlations, which are equal."""
    rng, true = np.random.default_rng(0), np.array([[1, fit, fit], [fit, 1, alike], [fit, alike, 1]])
    found = [np.corrcoef(np.linalg.cholesky(true) @ rng.standard_normal((3, 100))) for _ in range(2000)]
    z = np.array([difference(c[0, 1], c[0, 2], c[1, 2]) for c in found]) * 97**0.5
    assert abs(z.std() - 1) < 0.05 and abs(z.mean()) < 0.07


def test_answers_that_hold_nothing_of_the_code_say_nothing():
    """What cells answer that see everything, or are dead: noise, of a grain of 0, 1 or 2 cells."""
    said = Counter()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        network = nn.Conv3d(1, 1, 3, 8, 1) if seed % 2 else nn.Conv2d(1, 1, 3, 4, 1)
        size = (1, 1, *(64,) * 3) if seed % 2 else (1, 1, 48, 48)
        (layer,) = inspect(nn.Sequential(network), size)
        layer = replace(layer, mixed=True)
        code = draw(size[2:], [(layer.cells.stride, layer.cells.offset)], rng)
        shown, count = believable(code, layer), layer.shape[1:]
        answers = gaussian_filter(rng.standard_normal(count), seed % 3)
        limits = {place: limit(place, layer) for place in shown}
        said[compare(answers, np.ones(count), shown, limits).what] += 1
    assert said == {UNCLEAR: 60}


def test_few_cells_that_answer_by_chance_contradict_nothing():
    """A convolution of four channels, half of them off behind the ReLU; one in three hundred was refused once."""
    for seed in range(20, 60):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        ).eval()
        (a,) = explain(net, torch.rand(1, 1, 16, 16), [0])
        assert a.layer == "1"


def test_a_map_goes_on_to_the_edge_of_what_the_network_saw():
    x = torch.rand(1, 1, 64, 64, 64)
    net = nn.Sequential(nn.Conv3d(1, 2, 3, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2))
    for parameter in net.parameters():
        parameter.data.abs_()
    (a,) = explain(net.eval(), x, [0], layers=["1"])
    whole = Volume(np.zeros((64, 64, 64), np.float32), np.eye(4))
    laid = a.on(whole).array
    assert (laid > 0).all(), "the last cells' centres lie at 48"
    np.testing.assert_allclose(laid[63, 63, 63], a.volume.array[3, 3, 3], rtol=1e-6)
    half = explain(Net(lambda x: x.narrow(2, 16, 16)).eval(), torch.rand(1, 1, 32, 32, 32), [0], layers=["c2"])[0]
    laid = half.on(Volume(np.zeros((32, 32, 32), np.float32), np.eye(4))).array
    assert not laid[:14].any() and laid[17:].any(), "nothing where the network did not look"


def test_a_map_ends_with_the_volume_where_the_network_saw_padding_too():
    net = model(Blob(3, 8, 8), input={"size": (32, 32, 32), "fit": "pad_or_crop"})
    values = np.random.default_rng(0).random((20, 24, 28), np.float32)
    volume = Volume(values, np.diag([-1.0, 2.0, 1.0, 1.0]))
    (a,) = explain(net, volume, ["yes"], layers=["features"])
    assert a.volume.array.shape == (4, 4, 4) and a.volume.array.all()
    around = Volume(np.zeros((32, 36, 40), np.float32), volume.affine.copy())
    around.affine[:3, 3] = volume.ras((-6, -6, -6))
    here = np.argwhere(a.on(around).array)
    assert here.min(0).tolist() == [6, 6, 6] and here.max(0).tolist() == [25, 29, 33]


class Siamese(nn.Module):
    """The same module sees two images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU()), nn.Linear(4, 3)

    def forward(self, pre, post):
        return self.head((self.body(pre) - self.body(post)).mean((2, 3, 4)))


def test_a_module_that_sees_two_images_gives_two_maps():
    images = {name: torch.rand(1, 1, 16, 16, 16) for name in ("pre", "post")}
    assert [a.layer for a in explain(Siamese().eval(), images, [1])] == ["body#0", "body#1"]
    (one,) = explain(Siamese().eval(), images, [1], layers=["body#1"])
    assert any("leaves out body#0" in limit for limit in texts(one.caveats))


class SliceBySlice(nn.Module):
    """A 2D network on every slice, and a recurrent one over them."""

    def __init__(self, order: str):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU())
        self.rnn, self.head, self.order = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 2), order

    def forward(self, x):
        x = {"BCTHW": lambda: x.transpose(1, 2), "BTCHW": lambda: x, "BTHW": lambda: x[:, :, None]}[self.order]()
        batch, slices = x.shape[:2]
        features = self.cnn(x.flatten(0, 1)).mean((2, 3)).view(batch, slices, -1)
        return self.head(self.rnn(features)[0][:, -1])


@pytest.mark.parametrize(
    "order, shape", [("BCTHW", (1, 1, 5, 16, 16)), ("BTCHW", (1, 5, 1, 16, 16)), ("BTHW", (1, 5, 16, 16))]
)
def test_slices_that_a_network_takes_for_its_batch_have_a_map_each(order, shape):
    network, x = SliceBySlice(order).eval(), torch.rand(shape)
    (cam,) = explain(network, x, [1], ["gradcam"], ["cnn"])
    (slope,) = explain(network, x, [1], ["saliency"])
    assert cam.volume.array.shape == (5, 4, 4) and slope.volume.array.shape == (5, 16, 16)
    leaf = x.clone().requires_grad_()
    network(leaf)[0, 1].backward()
    np.testing.assert_allclose(slope.volume.array, leaf.grad.abs().reshape(5, 16, 16), rtol=1e-4, atol=1e-9)
