"""Which layer is chosen, from layers written down by hand: no network, no torch."""

from __future__ import annotations

import pytest

from MedXAILib.errors import LayerError
from MedXAILib.models.inspection.cells import Arrangement, Cells
from MedXAILib.models.inspection.choice import (
    coarsest_stride,
    default_layer,
    find,
    grids,
    last_decoder,
    side_by_side,
    stages,
)
from MedXAILib.models.inspection.layer import Layer


def layer(name: str, stride: int, step: int, needs: tuple[int, ...] = (), **more) -> Layer:
    """A convolution whose output has 32 / stride cells along each axis; a stride of 0 is a head without cells."""
    cells = 32 // stride if stride else 0
    grid = {
        "shape": (4, cells, cells, cells),
        "cells": Cells((float(stride),) * 3, (0.0,) * 3, (3.0 * stride,) * 3, ((0.0, 31.0),) * 3),
        "arrangement": Arrangement(batch=0, channel=1, sizes=(cells,) * 3, axes=(2, 3, 4), turned=(False,) * 3),
    }
    settings = {"kind": "Conv3d", "parameters": True, "shape": (2,), "cells": None} | (grid if stride else {})
    return Layer(name=name, step=step, needs=sum(1 << n for n in (step, *needs)), **settings | more)


def chain(*strides: int, head: bool = True) -> list[Layer]:
    """Layers a, b, c, ..., each computed from all before it, and a head."""
    found = [layer(chr(97 + n), stride, n, tuple(range(n))) for n, stride in enumerate(strides)]
    return [*found, layer("head", 0, len(found), tuple(range(len(found))))] if head else found


@pytest.mark.parametrize(
    ("strides", "name", "why", "steps", "last"),
    [
        ((1, 2, 4, 4), "d", "the lowest resolution before the head", "abd", {"d"}),
        ((1, 2, 4, 2, 1), "c", "the bottleneck", "abcde", {"e"}),
        ((1, 2, 4, 4, 2, 2), "d", "the bottleneck", "abdf", {"e", "f"}),
        ((1, 1, 1), "c", "the widest receptive field before the head", "abc", {"c"}),
    ],
    ids=["classifier", "U-Net", "coarse decoder", "one resolution"],
)
def test_the_default_layer_the_stages_and_the_last_decoder_block(strides, name, why, steps, last):
    layers = chain(*strides)
    assert default_layer(layers) == (name, why)
    assert "".join(layer.name for layer in stages(layers)) == steps
    assert last_decoder(layers) == last
    assert coarsest_stride(layers) == (max(strides),) * 3


def test_dropout_and_layers_that_do_not_count_are_not_chosen():
    layers = chain(1, 2, 4)
    layers.insert(3, layer("drop", 4, 5, (0, 1, 2), kind="Dropout3d", parameters=False))
    layers.insert(3, layer("unused", 8, 6, (0,), used=False))
    assert default_layer(layers)[0] == "c"
    assert [layer.name for layer in grids(layers)] == ["a", "b", "c", "unused", "drop"]


def test_a_name_finds_its_last_call_unless_it_says_which():
    layers = [layer("x", 1, 0), layer("conv#0", 2, 1, (0,)), layer("conv#1", 2, 2, (0, 1)), layer("head", 0, 3)]
    assert find(layers, "conv").name == "conv#1" and find(layers, "conv#0").name == "conv#0"
    assert find(layers, "x#0").name == "x", "the first call of a module that is called once"
    assert side_by_side(layers, layers[1]) == [layers[1]], "the one is computed from the other"
    beside = [layers[0], layers[1], layer("conv#1", 2, 2, (0,)), layers[3]]
    assert side_by_side(beside, beside[1]) == beside[1:3]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("d", r"^The network has no layer 'd': near names are a, b, c\.$"),
        ("head", r"gives no feature grid .*\(2,\).*: choose one before it, as a, b, c\.$"),
        ("pool", r"^The layer 'pool' has one cell, for the whole input: choose one before it, as a, b, c\.$"),
    ],
)
def test_a_layer_that_cannot_be_explained_is_a_layer_error(name, told):
    with pytest.raises(LayerError, match=told):
        find([*chain(1, 2, 4), layer("pool", 32, 4, (0, 1, 2, 3))], name)


def test_a_network_without_a_grid_is_a_layer_error():
    with pytest.raises(LayerError, match="no layer whose cells can be followed"):
        default_layer([layer("head", 0, 0)])
