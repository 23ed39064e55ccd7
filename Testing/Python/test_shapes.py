"""Shapes that are worked out without torch's own rules: as torch itself computes them."""

from __future__ import annotations

import pytest
import torch

from MedXAILib.models.inspection.schema import named
from MedXAILib.models.inspection.shapes import RULES, result_of
from MedXAILib.models.nested import tensors

aten = torch.ops.aten
X, ROW = torch.rand(2, 3, 4, 6, 5), torch.rand(3)
PICTURE, LINE = X[:, :, 0], X[:, :, 0, 0]
MADE = {
    "addmm": [
        (aten.addmm.default, (torch.rand(7), torch.rand(2, 3), torch.rand(3, 7))),
        (aten.addmm.default, (torch.rand(2, 1), torch.rand(2, 3), torch.rand(3, 7))),
    ],
    "mm": [(aten.mm.default, (torch.rand(2, 3), torch.rand(3, 7)))],
    "bmm": [(aten.bmm.default, (torch.rand(4, 2, 3), torch.rand(4, 3, 7)))],
    "cat": [(aten.cat.default, ([X, X], axis)) for axis in (0, 1, -1)],
    "mean": [(aten.mean.dim, (X, axes, keep)) for axes in ([2, 3], [-1]) for keep in (True, False)],
    "native_batch_norm": [(aten.native_batch_norm.default, (X, ROW, ROW, ROW, ROW, False, 0.1, 1e-5))],
    "native_layer_norm": [(aten.native_layer_norm.default, (X, [6, 5], None, None, 1e-5))],
    "native_group_norm": [(aten.native_group_norm.default, (X, ROW, ROW, 2, 3, 120, 3, 1e-5))],
    "rsub": [(aten.rsub.Scalar, (X, 1.0)), (aten.rsub.Tensor, (X, X[:1]))],
    "roll": [(aten.roll.default, (X, [1], [2]))],
    "flip": [(aten.flip.default, (X, [2]))],
    "_prelu_kernel": [(aten._prelu_kernel.default, (X, ROW.reshape(1, 3, 1, 1, 1)))],
    "_softmax": [(aten._softmax.default, (X, 1, False))],
    "_log_softmax": [(aten._log_softmax.default, (X, -1, False))],
    "upsample_nearest1d": [(aten.upsample_nearest1d.default, (LINE, [9]))],
    "upsample_nearest2d": [(aten.upsample_nearest2d.default, (PICTURE, [9, 3]))],
    "upsample_nearest3d": [(aten.upsample_nearest3d.default, (X, [8, 9, 3]))],
    "upsample_linear1d": [(aten.upsample_linear1d.default, (LINE, [9], True))],
    "upsample_bilinear2d": [(aten.upsample_bilinear2d.default, (PICTURE, [9, 3], False))],
    "upsample_bicubic2d": [(aten.upsample_bicubic2d.default, (PICTURE, [9, 3], False))],
    "upsample_trilinear3d": [(aten.upsample_trilinear3d.default, (X, [8, 9, 3], True))],
    **{
        name: [(getattr(aten, name).Tensor, (X, other)) for other in (X, X[:1, :1], X[0])]
        for name in ("add", "sub", "mul", "div")
    },
}
"""Calls of the operators that take more than one tensor alone."""


@pytest.mark.parametrize("name", RULES)
def test_a_shape_is_torchs(name):
    calls = MADE.get(name) or [(getattr(aten, name).default, (X,))]
    for function, args in calls:
        truth = list(tensors([function(*args)]))
        there = torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.to("meta"), args)
        found = list(tensors([result_of(name, named(function, there, {}))]))
        assert found[0].shape == truth[0].shape and found[0].dtype == truth[0].dtype, (function, args)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (aten.add.Tensor, (X, X.double())),
        (aten.mm.default, (torch.ones(2, 3, dtype=torch.int64), torch.ones(3, 2, dtype=torch.int64))),
        (aten.addmm.default, (torch.rand(7), torch.rand(2, 3), torch.rand(4, 7))),
        (aten._softmax.default, (X.half(), 1, True)),
        (aten.upsample_nearest2d.vec, (PICTURE, None, [2.0, 2.0])),
        (aten.cat.default, ([X, X.double()], 0)),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_torch(function, args):
    there = torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: t.to("meta"), args)
    assert result_of(function.overloadpacket.__name__, named(function, there, {})) is None
