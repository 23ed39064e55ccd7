"""The rules by the names of operators, and the guess for what no rule knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..call import Call
from ..places import Place, hidden_in, nowhere, origin
from .kernels import adaptive, convolution, pooling
from .mixing import (
    as_complex,
    as_real,
    attention,
    copied,
    erased,
    halved,
    kept,
    normalised,
    picked,
    pointwise,
    product,
    recurrent,
    reduction,
)  # fmt: skip
from .moving import (
    added,
    chosen,
    concatenated,
    folded,
    indexed,
    looked_up,
    moved,
    moved_whole_axes,
    reshaped,
    sampled,
)  # fmt: skip
from .resizing import interpolation, mirrored, padded, shuffled, unpooled

Rule = Callable[[Call], list[Place]]
"""Where the results of an operator lie, each."""


def unknown(call: Call, remembered: dict[tuple[int, ...], Place]) -> list[Place]:
    """What no rule knows: a guess, marked as such. The argument of the same shape, else the last grid of as many cells,
    else one that spans the input."""
    sources = [(t, place) for t, place in call.placed if not place.nowhere]
    if not sources:
        hidden = hidden_in([place for _, place in call.placed])
        return [replace(nowhere(len(s), len(call.voxels)), hidden=hidden) for s in call.sizes]
    found = []
    for sizes in call.sizes:
        like = [place for t, place in sources if tuple(t.shape) == sizes]
        guess = like[0] if like else remembered.get(sizes[2:]) or _spanning(sizes, call.voxels)
        guess = guess if guess.at[0].ndim == len(sizes) else nowhere(len(sizes), len(call.voxels))
        found.append(replace(guess, field=tuple(map(float, call.voxels)), mixed=True, hidden=call.name, joined=False))
    return found


def _spanning(sizes: Sequence[int], voxels: Sequence[int]) -> Place:
    """Cells that share the input evenly, for a tensor (batch, channel, *cells)."""
    if len(sizes) != len(voxels) + 1:
        return nowhere(len(sizes), len(voxels))
    place = origin((1, *sizes[1:]))
    lines = []
    for axis, (t, n, m) in enumerate(zip(place.at, voxels, sizes[1:], strict=True)):
        lines.append((t + 0.5) * n / m - 0.5 if axis else t[:, :1] * 0)
    return replace(place, at=tuple(lines), grid=tuple(lines))


# fmt: off
RULES: dict[str, Rule] = {
    **dict.fromkeys((
        "clone", "_to_copy", "detach", "alias", "lift_fresh", "contiguous", "hardswish", "_prelu_kernel",
        "log_sigmoid_forward", "native_dropout", "rrelu_with_noise", "tril", "triu", "conj", "_conj",
        "_conj_physical", "resolve_conj", "resolve_neg", "quantize_per_tensor", "quantize_per_channel", "dequantize",
        "fake_quantize_per_tensor_affine", "hardsigmoid", "_neg_view", "pin_memory", "hardtanh", "celu",
        "_fake_quantize_learnable_per_tensor_affine", "fake_quantize_per_tensor_affine_cachemask",
        "fake_quantize_per_channel_affine_cachemask", "real", "imag", "masked_fill", "copy", "bucketize",
    ), kept),
    **dict.fromkeys(("fill", "zero", "fill_", "zero_", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like",
        "randn_like", "new_zeros", "new_ones", "new_empty", "new_full", "randint_like", "bernoulli"), erased),
    "copy_": copied,
    "where": picked,
    **dict.fromkeys(("index_add", "scatter_add"), added),
    "glu": halved,
    "view_as_real": as_real,
    "view_as_complex": as_complex,
    "complex": pointwise,
    **dict.fromkeys((
        "mean", "sum", "amax", "amin", "prod", "var", "std", "var_mean", "std_mean", "logsumexp", "linalg_vector_norm",
        "norm", "nansum", "nanmean", "any", "all", "argmax", "argmin", "count_nonzero", "aminmax", "nanmedian", "max", "min", "median",
        "mode", "kthvalue",
    ), reduction),
    **dict.fromkeys((
        "_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "native_layer_norm", "layer_norm",
        "native_group_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
        "cudnn_batch_norm", "_batch_norm_with_update", "_fused_rms_norm", "rms_norm", "cumsum", "cumprod",
        "logcumsumexp", "cummax", "cummin", "batch_norm_elemt",
    ), normalised),
    **dict.fromkeys((
        "mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "linear", "_addmm_activation", "mkldnn_linear",
        "matmul",
    ), product),
    **dict.fromkeys((
        "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_attention_math", "_scaled_dot_product_fused_attention_overrideable",
        "scaled_dot_product_attention", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
        "_flash_attention_forward", "_efficient_attention_forward",
    ), attention),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu", "mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"), recurrent),
    **dict.fromkeys((
        "permute", "transpose", "t", "slice", "select", "narrow", "unsqueeze", "squeeze", "expand", "unfold", "split",
        "split_with_sizes", "unbind", "diagonal", "as_strided", "numpy_T", "movedim", "swapaxes", "permute_copy",
        "gather", "index_select", "take", "take_along_dim", "repeat", "tile", "repeat_interleave", "stack",
        "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "rot90", "slice_scatter", "select_scatter",
        "scatter", "index_put", "index_copy", "masked_select", "diagonal_scatter", "as_strided_scatter",
    ), moved),
    **dict.fromkeys(("flip", "roll"), moved_whole_axes),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "flatten", "unflatten", "view_as", "_reshape_alias",
        "_reshape_copy", "view_copy"), reshaped),
    "index": indexed,
    "_unsafe_index": indexed,
    "cat": concatenated,
    **dict.fromkeys(("topk", "sort"), chosen),
    **dict.fromkeys(("im2col", "col2im"), folded),
    **dict.fromkeys(("grid_sampler_2d", "grid_sampler_3d", "cudnn_grid_sampler"), sampled),
    "embedding": looked_up,
    **dict.fromkeys(("max_unpool2d", "max_unpool3d"), unpooled),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), convolution),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d", "avg_pool1d", "avg_pool2d",
        "avg_pool3d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices"), pooling),
    **dict.fromkeys((f"{kind}adaptive_{name}_pool{n}d" for kind in ("", "_") for name in ("avg", "max") for n in (1, 2, 3)),
        adaptive),
    **dict.fromkeys((
        "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d",
        "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
        "_upsample_nearest_exact3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    ), interpolation),
    "constant_pad_nd": padded,
    **dict.fromkeys((f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)), mirrored),
    "pixel_shuffle": shuffled,
}
# fmt: on
"""By the operator's name in ATen; what torch tags as pointwise needs no entry."""
