"""What a pass holds in memory, as the trace tells it: against sums by hand, and against what real recordings hold."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DenseNet121, UNet
from torch import nn

from MedXAILib.models.inspection.examine import examine
from MedXAILib.models.inspection.memory import backward_bytes, forward_bytes
from MedXAILib.recording.record import record

KIB = 1 << 10


def layer_step(network: nn.Module, shape, name: str) -> int:
    return next(layer.step for layer in examine(network, shape).layers if layer.name == name)


class Skip(nn.Module):
    """a is held until it meets c."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, 4, 1, bias=False) for n in (1, 4, 4))

    def forward(self, x):
        a = self.a(x)
        return a + self.c(self.b(a))


def test_what_is_needed_later_is_held_and_what_is_not_is_let_go():
    chain = nn.Sequential(*(nn.Conv2d(n, 4, 1, bias=False) for n in (1, 4, 4, 4)))
    shape, one = (1, 1, 16, 16), 4 * KIB  # bytes of a result of four channels
    weights = 4 * 4 * 4
    assert forward_bytes(examine(chain, shape).results) == 2 * one + (2 * one + weights), "two results, each twice"
    assert forward_bytes(examine(Skip(), shape).results) == 3 * one + (2 * one + weights), "and the one that waits"


def test_the_way_back_keeps_all_that_depends_on_where_it_begins():
    chain = nn.Sequential(*(nn.Conv2d(n, 4, 1, bias=False) for n in (1, 4, 4, 4)))
    shape, one = (1, 1, 16, 16), 4 * KIB
    results = examine(chain, shape).results
    assert backward_bytes(results, layer_step(chain, shape, "2")) == (3 * one, 2 * (2 * one + 64))
    assert backward_bytes(results, 0)[0] == 4 * one + one / 4 + 16, "the input, and the first weights"


@pytest.mark.parametrize(
    ("network", "shape", "layer"),
    [
        (UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=1), (1, 1, 24, 24, 24), "model.0"),
        (UNet(3, 1, 3, (4, 8, 16), (2, 2)), (1, 1, 24, 24, 24), "@input"),
        (DenseNet121(2, 1, 2), (2, 1, 64, 64), "@input"),
        (DenseNet121(2, 1, 2), (2, 1, 64, 64), "features.denseblock3"),
    ],
)
def test_it_is_what_a_recording_holds(network, shape, layer):
    network.eval()
    with record(network, torch.rand(shape), [layer]) as recording:
        weights = frozenset(p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers()))
        held = recording.bytes(weights)
    told, _ = backward_bytes(
        examine(network, shape).results, 0 if layer == "@input" else layer_step(network, shape, layer)
    )
    assert held <= 1.1 * told and told <= 2 * held
