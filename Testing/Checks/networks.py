"""Random small networks that move space about, as programs: what ``place.py`` runs. See README.md.

A network is drawn operator by operator. Each operator writes one line of the program and is carried out at once, so that
the next one knows the shape that it meets. Weights are positive and nearly equal, there is no bias: the response of a cell
to its input is then nowhere negative, and its centre is where the operators put it, not where a large weight lies.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

LEAST = {2: 7, 3: 5}
"""Cells along each axis that an operator leaves at least, for 2 and 3 axes."""
MOST = {2: 56, 3: 30}
CHANNELS = 12
"""An operator that makes more channels than this is not drawn."""
EINOPS = find_spec("einops") is not None


class Unsuitable(Exception):
    """An operator does not fit what has been drawn so far."""


@dataclass
class Draft:
    """A program in the making, and the tensor that it has made so far: (1, channel, *spatial).

    :ivar axes: which axis of the input each spatial axis is.
    :ivar stride: of the cells along each axis of the *input*, voxels.
    :ivar averaged: the place depends on many inputs (a maximum), so that the oracle averages over some.
    """

    rng: random.Random
    x: torch.Tensor
    axes: list[int]
    stride: list[float]
    modules: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    held: nn.Module = field(default_factory=nn.Module)
    averaged: bool = False
    again: bool = True

    @property
    def dims(self) -> int:
        return self.x.ndim - 2

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.x.shape[2:])

    @property
    def channels(self) -> int:
        return self.x.shape[1]

    def axis(self, least: int = 0) -> int:
        """A spatial axis (from 2), of at least so many cells."""
        fitting = [a for a, n in enumerate(self.size, 2) if n >= least]
        return self.rng.choice(fitting) if fitting else unsuitable()

    def pair(self) -> list[int]:
        return sorted(self.rng.sample(range(2, self.dims + 2), 2))

    def each(self, *choices) -> tuple:
        """One choice for each axis."""
        return tuple(self.rng.choice(choices) for _ in range(self.dims))

    def order(self) -> list[int]:
        """A permutation of the spatial axes that is not the identity."""
        orders = list(itertools.permutations(range(self.dims)))[1:]
        return list(self.rng.choice(orders))

    def module(self, text: str) -> str:
        """Register a module; the expression by which ``forward`` gets it."""
        name = f"m{len(self.modules)}"
        self.modules[name] = text
        setattr(self.held, name, positive(build(text)))
        return f"self.{name}"

    def do(self, line: str, *, turn=None, scale=None) -> None:
        """Add one line ``x = ...``.

        :param turn: which spatial axis each spatial axis of the result is.
        :param scale: by how much cells are further apart than before, for each axis of the result.
        """
        x = run(line, self.held, self.x)
        if x.ndim == self.x.ndim:
            low, high = LEAST[self.dims], MOST[self.dims]
            if not all(low <= n <= high for n in x.shape[2:]) or x.shape[1] > CHANNELS:
                unsuitable()
        self.lines.append(line)
        self.x = x
        if turn is not None:
            self.axes = [self.axes[t] for t in turn]
        for axis, factor in zip(self.axes, scale or (), strict=False):
            self.stride[axis] *= factor


def unsuitable():
    raise Unsuitable


def names() -> dict:
    """What a program may use."""
    found = {"torch": torch, "nn": nn, "F": F, "math": math}
    if EINOPS:
        import einops

        found["einops"] = einops
    return found


def build(text: str):
    return eval(text, names())


def positive(module):
    """Nearly equal positive weights that sum to about 1 for each output."""
    if isinstance(module, nn.Module):
        for parameter in module.parameters():
            noise = torch.arange(parameter.numel()).cos().reshape(parameter.shape)
            parameter.data = (1 + 0.1 * noise) / max(1, parameter[0].numel())
    return module


def run(line: str, held: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return eval(line, names() | {"self": held, "x": x})


# ---------------------------------------------------------------------------------------------------------------------
# Operators that can be traced. Each writes one line or several.


def permute(d: Draft) -> None:
    order = d.order()
    axes = ", ".join(str(a + 2) for a in order)
    d.do(d.rng.choice([f"x.permute(0, 1, {axes})", f"torch.permute(x, (0, 1, {axes}))"]), turn=order)


def transpose(d: Draft) -> None:
    a, b = d.pair()
    order = list(range(d.dims))
    order[a - 2], order[b - 2] = order[b - 2], order[a - 2]
    forms = [f"x.transpose({a}, {b})", f"x.swapaxes({a}, {b})", f"torch.transpose(x, {a - d.x.ndim}, {b - d.x.ndim})"]
    if (a, b) == (d.dims, d.dims + 1):
        forms += ["x.mT", "x.swapdims(-1, -2)"]
    d.do(d.rng.choice(forms), turn=order)


def movedim(d: Draft) -> None:
    a, b = d.rng.sample(range(d.dims), 2)
    order = [n for n in range(d.dims) if n != a]
    order.insert(b, a)
    d.do(f"{d.rng.choice(['x.movedim', 'x.moveaxis'])}({a + 2}, {b + 2})", turn=order)


def flip(d: Draft) -> None:
    axes = d.rng.sample(range(2, d.dims + 2), d.rng.randint(1, d.dims))
    forms = [f"x.flip({axes})", f"torch.flip(x, {axes})"]
    d.do(d.rng.choice(forms if d.dims == 3 else [*forms, "torch.flip(x, (-1,))"]))


def rot90(d: Draft) -> None:
    a, b = d.pair()
    times = d.rng.choice([1, 2, 3])
    order = list(range(d.dims))
    if times % 2:
        order[a - 2], order[b - 2] = order[b - 2], order[a - 2]
    d.do(f"torch.rot90(x, {times}, ({a}, {b}))", turn=order)


def roll(d: Draft) -> None:
    axes = d.pair() if d.rng.random() < 0.5 else [d.axis()]
    shifts = [d.rng.choice([-5, -3, -2, 2, 3, 4, 6]) for _ in axes]
    d.do(d.rng.choice([f"x.roll({tuple(shifts)}, {tuple(axes)})", f"torch.roll(x, {shifts}, dims={axes})"]))


def narrow(d: Draft) -> None:
    a = d.axis(LEAST[d.dims] + 2)
    n = d.x.shape[a]
    start = d.rng.randint(1, n - LEAST[d.dims])
    d.do(f"x.narrow({a}, {start}, {d.rng.randint(LEAST[d.dims], n - start)})")


def slices(d: Draft) -> None:
    parts, scale = [], []
    for n in d.size:
        start, stop = d.rng.choice([0, 0, 1, 2, 3]), d.rng.choice([0, 0, 1, 2])
        step = d.rng.choice([1, 1, 2, 3]) if n >= 3 * LEAST[d.dims] else 1
        parts.append(f"{start or ''}:{-stop if stop else ''}" + (f":{step}" if step > 1 else ""))
        scale.append(step)
    first = d.rng.choice([":, :", "..."])
    d.do(f"x[{first}, {', '.join(parts)}]", scale=scale)


def index(d: Draft) -> None:
    a = d.axis(LEAST[d.dims] + 2)
    n = d.x.shape[a]
    kind = d.rng.choice(["reversed", "second", "some", "swapped", "any"])
    at = {
        "reversed": list(range(n))[::-1],
        "second": list(range(1, n, 2)),
        "some": sorted(d.rng.sample(range(n), n - 2)),
        "swapped": [*range(n // 2, n), *range(n // 2)],
        "any": d.rng.sample(range(n), n),
    }[kind]
    colons = ", ".join([":"] * a)
    forms = [f"x[{colons}, {at}]", f"x.index_select({a}, torch.tensor({at}))", f"x[{colons}, torch.tensor({at})]"]
    view = ", ".join(["1"] * a + ["-1"] + ["1"] * (d.x.ndim - a - 1))
    forms.append(f"x.take_along_dim(torch.tensor({at}).view({view}), {a})")
    scale = [1] * d.dims
    scale[a - 2] = 2 if kind == "second" else 1
    d.do(d.rng.choice(forms), scale=scale)
    d.again = kind != "any"  # what neighbours there is far apart: no operator that mixes them


def chunk(d: Draft) -> None:
    a = d.axis(2 * LEAST[d.dims])
    d.do(f"{d.rng.choice(['x.chunk', 'x.tensor_split'])}(2, {a})[{d.rng.choice([0, 1, 1, -1])}]")


def split(d: Draft) -> None:
    a = d.axis(2 * LEAST[d.dims])
    first = d.rng.randint(LEAST[d.dims], d.x.shape[a] - LEAST[d.dims])
    forms = [f"x.split([{first}, {d.x.shape[a] - first}], {a})[1]", f"torch.split(x, {first}, dim={a})[0]"]
    d.do(d.rng.choice(forms))


def cat(d: Draft) -> None:
    """Pieces along space: exchanged, or one of them flipped."""
    a = d.axis(2 * LEAST[d.dims])
    n = d.x.shape[a]
    at = d.rng.randint(3, n - 3)
    one, other = f"x.narrow({a}, 0, {at})", f"x.narrow({a}, {at}, {n - at})"
    forms = [f"[{other}, {one}]", f"[{one}.flip({a}), {other}]", f"[{one}, {other}.flip({a})]"]
    d.do(f"torch.cat({d.rng.choice(forms)}, {a})")


def interleave(d: Draft) -> None:
    """Every second cell and the others between them, in exchanged order."""
    a = d.axis()
    n = d.x.shape[a] // 2
    colons = ", ".join([":"] * a)
    even, odd = f"x[{colons}, 0:{2 * n}:2]", f"x[{colons}, 1:{2 * n}:2]"
    d.do(f"torch.stack([{odd}, {even}], {a + 1}).flatten({a}, {a + 1})")


def pad(d: Draft) -> None:
    widths = [d.rng.choice([0, 0, 1, 2, 4]) for _ in range(2 * d.dims)]
    if not any(widths):
        widths[0] = 3
    mode = d.rng.choice(["constant", "reflect", "replicate", "circular"])
    if d.rng.random() < 0.3:
        kind = {"constant": "Zero", "reflect": "Reflection", "replicate": "Replication", "circular": "Circular"}[mode]
        return d.do(f"{d.module(f'nn.{kind}Pad{d.dims}d({tuple(widths)})')}(x)")
    return d.do(f"F.pad(x, {widths}, mode={mode!r})")


def blocks(d: Draft) -> tuple[list[int], str]:
    """Sizes of blocks along each axis, and the line that makes them fit."""
    fitting = [[p for p in (2, 3) if n // p >= LEAST[d.dims]] + [1] for n in d.size]
    p = [d.rng.choice(some) for some in fitting]
    if max(p) == 1:
        unsuitable()
    whole = [n - n % q for n, q in zip(d.size, p, strict=True)]
    if tuple(whole) != d.size:
        d.do(f"x[:, :, {', '.join(f':{n}' for n in whole)}]")
    return p


def reshape(d: Draft) -> None:
    """Space to depth by reshape and permute."""
    p = blocks(d)
    split = ", ".join(f"{n // q}, {q}" for n, q in zip(d.size, p, strict=True))
    outer, inner = [2 + 2 * n for n in range(d.dims)], [3 + 2 * n for n in range(d.dims)]
    order = ", ".join(map(str, [0, 1, *inner, *outer]))
    to = ", ".join(str(n // q) for n, q in zip(d.size, p, strict=True))
    how = d.rng.choice(["reshape", "view"])
    d.do(f"x.contiguous().{how}(1, {d.channels}, {split}).permute({order}).reshape(1, -1, {to})", scale=p)


def unflatten(d: Draft) -> None:
    """Rows in another order: the inner axis of two before the outer one."""
    a = d.axis()
    q = d.rng.choice([2, 3])
    n = d.x.shape[a] // q * q
    d.do(f"x.narrow({a}, 0, {n}).unflatten({a}, ({n // q}, {q})).transpose({a}, {a + 1}).flatten({a}, {a + 1})")
    d.again = False


def unflatten_back(d: Draft) -> None:
    """Axes split and joined in another way, which leaves everything where it is."""
    n = int(np.prod(d.size))
    d.do(f"x.flatten(2).reshape(1, {d.channels}, {n}).unflatten(2, {d.size})")


def unfold(d: Draft) -> None:
    """Overlapping windows along one axis, whose cells become channels."""
    a = d.axis(2 * LEAST[d.dims])
    size, step = d.rng.choice([(2, 2), (3, 1), (3, 2), (2, 1), (4, 2)])
    scale = [1] * d.dims
    scale[a - 2] = step
    d.do(f"x.unfold({a}, {size}, {step}).movedim(-1, 2).flatten(1, 2)", scale=scale)


def im2col(d: Draft) -> None:
    if d.dims != 2:
        unsuitable()
    k, step, left, dilation = d.each(2, 3), d.each(1, 2), d.each(0, 1), d.each(1, 1, 2)
    to = [(n + 2 * p - e * (m - 1) - 1) // s + 1 for n, m, s, p, e in zip(d.size, k, step, left, dilation, strict=True)]
    d.do(f"F.unfold(x, {k}, {dilation}, {left}, {step}).reshape(1, -1, {to[0]}, {to[1]})", scale=step)


def pixel_shuffle(d: Draft) -> None:
    if d.dims != 2:
        unsuitable()
    conv = d.module(f"nn.Conv2d({d.channels}, 4, 1, bias=False)")
    d.do(f"F.pixel_shuffle({conv}(x), 2)", scale=[0.5] * 2)


def pixel_unshuffle(d: Draft) -> None:
    if d.dims != 2 or 4 * d.channels > CHANNELS:
        unsuitable()
    h, w = (n // 2 * 2 for n in d.size)
    d.do(f"F.pixel_unshuffle(x[:, :, :{h}, :{w}], 2)", scale=[2] * 2)


def phases(d: Draft) -> None:
    """A Swin transformer's merging: every second cell from the first, and from the second, side by side as channels."""
    halves = ", ".join(f":{n // 2 * 2}" for n in d.size)
    d.do(f"x[:, :, {halves}]")
    starts = list(itertools.product((0, 1), repeat=d.dims))
    parts = ", ".join(f"x[:, :, {', '.join(f'{s}::2' for s in start)}]" for start in starts)
    d.do(f"torch.cat([{parts}], 1)", scale=[2] * d.dims)


def windows(d: Draft) -> None:
    """Windows in the batch, after a cyclic shift, and back."""
    dims, channels = d.dims, d.channels
    w, shift = d.rng.choice([3, 4, 5]), d.rng.choice([0, 1, 2])
    axes, count = tuple(range(2, dims + 2)), [n // w for n in d.size]
    size = ", ".join(str(n * w) for n in count)
    split = ", ".join(f"{n}, {w}" for n in count)
    apart = [0, *range(2, 2 * dims + 2, 2), *range(3, 2 * dims + 3, 2), 1]
    back = [0, 2 * dims + 1, *itertools.chain.from_iterable((1 + a, 1 + dims + a) for a in range(dims))]
    linear = d.module(f"nn.Linear({channels}, {channels}, bias=False)")
    d.do(f"x[:, :, {', '.join(f':{n * w}' for n in count)}].roll({(-shift,) * dims}, {axes})")
    d.do(f"{linear}(x.reshape(1, {channels}, {split}).permute({apart}).reshape(-1, {w**dims}, {channels}))")
    grid = [1, *count, *[w] * dims, channels]
    d.do(f"x.reshape({grid}).permute({back}).reshape(1, {channels}, {size}).roll({(shift,) * dims}, {axes})")


def einsum(d: Draft) -> None:
    order = d.order()
    letters = "dhw"[-d.dims :]
    to = "".join(letters[a] for a in order)
    d.do(f"torch.einsum('bc{letters}->bc{to}', x)", turn=order)


def rearrange(d: Draft) -> None:
    if not EINOPS:
        unsuitable()
    letters = "dhw"[-d.dims :]
    if d.rng.random() < 0.5:
        order = d.order()
        return d.do(
            f"einops.rearrange(x, 'b c {' '.join(letters)} -> b c {' '.join(letters[a] for a in order)}')", turn=order
        )
    p = blocks(d)
    parts = " ".join(f"({c} {c}2)" for c in letters)
    sizes = ", ".join(f"{c}2={q}" for c, q in zip(letters, p, strict=True))
    inner = " ".join(f"{c}2" for c in letters)
    return d.do(f"einops.rearrange(x, 'b c {parts} -> b (c {inner}) {' '.join(letters)}', {sizes})", scale=p)


def convolution(d: Draft) -> None:
    k, s = d.each(1, 2, 3, 3, 4), d.each(1, 1, 2)
    dilation = d.each(1, 1, 1, 2)
    groups = d.channels if d.rng.random() < 0.3 else 1
    out = d.channels * d.rng.choice([1, 2]) if groups > 1 else d.rng.choice([1, 2, 3])
    left = tuple(d.rng.choice([0, e * (m - 1) // 2]) for m, e in zip(k, dilation, strict=True))
    mode = d.rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    padding = left
    if d.rng.random() < 0.2:
        padding, s = "same", (1,) * d.dims
    text = f"nn.Conv{d.dims}d({d.channels}, {out}, {k}, {s}, {padding!r}, {dilation}, {groups}, padding_mode={mode!r}, bias=False)"
    relu = d.rng.random() < 0.5
    call = f"{d.module(text)}(x)"
    d.do(f"F.relu({call})" if relu else call, scale=s)


def transposed(d: Draft) -> None:
    k, s = d.each(2, 3, 4), d.each(1, 2)
    left = tuple(d.rng.choice([0, (m - 1) // 2]) for m in k)
    more = tuple(d.rng.choice([0, n - 1]) for n in s)
    text = f"nn.ConvTranspose{d.dims}d({d.channels}, 2, {k}, {s}, {left}, {more}, bias=False)"
    d.do(f"{d.module(text)}(x)", scale=[1 / n for n in s])


def pooling(d: Draft) -> None:
    kind = d.rng.choice(["Max", "Avg", "LP"])
    k, s = d.each(2, 3), d.each(1, 2, 2)
    left = d.each(0, 1)
    ceil = d.rng.random() < 0.3
    d.averaged |= kind != "Avg"
    arguments = {"Max": f"{k}, {s}, {left}", "Avg": f"{k}, {s}, {left}", "LP": f"2, {k}, {s}"}[kind]
    d.do(f"{d.module(f'nn.{kind}Pool{d.dims}d({arguments}, ceil_mode={ceil})')}(x)", scale=s)


def adaptive(d: Draft) -> None:
    kind = d.rng.choice(["Max", "Avg", "Avg"])
    to = tuple(d.rng.randint(max(LEAST[d.dims], n // 3), n) for n in d.size)
    scale = [n / m for n, m in zip(d.size, to, strict=True)]
    d.averaged |= kind == "Max"
    d.do(f"{d.module(f'nn.Adaptive{kind}Pool{d.dims}d({to})')}(x)", scale=scale)


def interpolation(d: Draft) -> None:
    linear = {2: "bilinear", 3: "trilinear"}[d.dims]
    mode = d.rng.choice(["nearest", "nearest-exact", "area", linear, linear, linear])
    corners = f", align_corners={d.rng.random() < 0.5}" if mode == linear else ""
    if d.rng.random() < 0.4:
        factor = d.rng.choice([0.5, 0.7, 1.5, 2])
        scale = [1 / factor] * d.dims
        return d.do(f"F.interpolate(x, scale_factor={factor}, mode={mode!r}{corners})", scale=scale)
    to = tuple(d.rng.randint(max(LEAST[d.dims], n // 2), 2 * n) for n in d.size)
    scale = [n / m for n, m in zip(d.size, to, strict=True)]
    return d.do(f"F.interpolate(x, {to}, mode={mode!r}{corners})", scale=scale)


def repeat(d: Draft) -> None:
    a = d.axis()
    scale = [1.0] * d.dims
    scale[a - 2] = 0.5
    d.do(f"x.repeat_interleave(2, {a})", scale=scale)


def residual(d: Draft) -> None:
    conv = d.module(f"nn.Conv{d.dims}d({d.channels}, {d.channels}, 3, padding=1, bias=False)")
    d.do(d.rng.choice([f"x + F.relu({conv}(x))", f"{conv}(x).add_(x)", f"torch.add({conv}(x), x)"]))


def shifted(d: Draft) -> None:
    """The sum of neighbours."""
    a = d.axis()
    n = d.x.shape[a] - 1
    d.do(f"x.narrow({a}, 0, {n}) + x.narrow({a}, 1, {n})")


def beside(d: Draft) -> None:
    """Channels side by side: a dense block, or a shallow U."""
    if d.rng.random() < 0.5:
        conv = d.module(f"nn.Conv{d.dims}d({d.channels}, 2, 3, padding=1, bias=False)")
        return d.do(f"torch.cat([x, {conv}(x)], 1)")
    return d.do(f"torch.cat([x, F.interpolate(F.avg_pool{d.dims}d(x, 2), {d.size}, mode='nearest')], 1)")


TRACEABLE = {
    "permute": permute,
    "transpose": transpose,
    "movedim": movedim,
    "flip": flip,
    "rot90": rot90,
    "roll": roll,
    "narrow": narrow,
    "slice": slices,
    "constant index": index,
    "chunk": chunk,
    "split": split,
    "cat along space": cat,
    "interleaved stack": interleave,
    "pad": pad,
    "reshape": reshape,
    "unflatten": unflatten,
    "flatten and back": unflatten_back,
    "unfold": unfold,
    "F.unfold": im2col,
    "pixel shuffle": pixel_shuffle,
    "pixel unshuffle": pixel_unshuffle,
    "patch merging": phases,
    "window partition": windows,
    "einsum": einsum,
    "einops": rearrange,
    "convolution": convolution,
    "transposed convolution": transposed,
    "pooling": pooling,
    "adaptive pooling": adaptive,
    "interpolation": interpolation,
    "repeat_interleave": repeat,
    "residual sum": residual,
    "shifted sum": shifted,
    "channel cat": beside,
}
KERNELS = ("convolution", "transposed convolution", "pooling", "adaptive pooling", "interpolation", "residual sum")

# ---------------------------------------------------------------------------------------------------------------------
# The rest: what samples space by numbers that are computed.


def matrix(d: Draft) -> list[list[float]]:
    """A small turn, scaling and shift."""
    rows = [[1.0 if a == b else 0.0 for b in range(d.dims)] + [0.0] for a in range(d.dims)]
    if d.rng.random() < 0.5:
        rows[0][1], rows[1][0] = 0.15, -0.15
    for a in range(d.dims):
        rows[a][a] *= d.rng.choice([1, -1, 0.8, 1])
        rows[a][-1] = d.rng.choice([-0.3, 0, 0.2])
    return [[round(v, 3) for v in row] for row in rows]


def grid_sample(d: Draft) -> None:
    theta, corners = f"torch.tensor([{matrix(d)}], dtype=x.dtype)", d.rng.random() < 0.5
    grid = f"F.affine_grid({theta}, x.shape, align_corners={corners})"
    d.do(f"F.grid_sample(x, {grid}, align_corners={corners})")


def transformer(d: Draft) -> None:
    """A spatial transformer: the shift comes from the data. (Its own gradient is cut: it would be everywhere.)"""
    linear = d.module(f"nn.Linear({d.channels}, {d.dims}, bias=False)")
    mean = f"x.mean({tuple(range(2, d.dims + 2))})"
    shift = f"(0.4 * torch.tanh({linear}({mean}))).detach().unsqueeze(2)"
    eye = f"torch.eye({d.dims}, dtype=x.dtype)[None]"
    grid = f"F.affine_grid(torch.cat([{eye}, {shift}], 2), x.shape, align_corners=False)"
    d.do(f"F.grid_sample(x, {grid}, align_corners=False)")


def low_pass(d: Draft) -> None:
    """A Gaussian low pass by the Fourier transform and back."""
    axes = tuple(range(2, d.dims + 2))
    squares = []
    for a, n in enumerate(d.size, 2):
        view = ", ".join(["1"] * a + [str(n)] + ["1"] * (d.dims + 1 - a))
        squares.append(f"torch.fft.fftfreq({n}, dtype=x.dtype).view({view}) ** 2")
    d.do(f"torch.fft.ifftn(torch.fft.fftn(x, dim={axes}) * torch.exp(-8 * ({' + '.join(squares)})), dim={axes}).real")


def fft_shift(d: Draft) -> None:
    """A shift by a phase."""
    a, shift = d.axis(), d.rng.choice([-4, 3, 5])
    n = d.x.shape[a]
    view = ", ".join(["1"] * a + [str(n)] + ["1"] * (d.x.ndim - a - 1))
    phase = f"torch.exp(-2j * math.pi * {shift} * torch.fft.fftfreq({n}, dtype=x.dtype)).view({view})"
    d.do(f"torch.fft.ifft(torch.fft.fft(x, dim={a}) * {phase}, dim={a}).real")


def fftshift(d: Draft) -> None:
    d.do(f"torch.fft.fftshift(x, dim={d.axis()})")


def means(d: Draft, a: int) -> str:
    """One number for each row along an axis, from the data."""
    return f"x.mean({tuple(n for n in range(1, d.x.ndim) if n != a)})[0]"


def topk(d: Draft) -> None:
    """The rows that have most, in their own order."""
    a = d.axis(LEAST[d.dims] + 2)
    keep = d.x.shape[a] - d.rng.randint(1, 2)
    order = d.rng.choice([".sort().values", ""])
    d.do(f"x.index_select({a}, {means(d, a)}.topk({keep}).indices{order})")
    d.again = bool(order)


def sort_rows(d: Draft) -> None:
    a = d.axis()
    d.do(f"x.index_select({a}, {means(d, a)}.argsort())")
    d.again = False


def sort_values(d: Draft) -> None:
    d.do(f"x.sort({d.axis()}).values")
    d.again = False


def gather(d: Draft) -> None:
    """Rows gathered by an order that comes from the data."""
    a = d.axis()
    view = ", ".join(["1"] * a + ["-1"] + ["1"] * (d.x.ndim - a - 1))
    d.do(f"x.gather({a}, {means(d, a)}.argsort().view({view}).expand_as(x))")
    d.again = False


def learned_index(d: Draft) -> None:
    a = d.axis()
    scores = [float(s) for s in d.rng.sample(range(d.x.shape[a]), d.x.shape[a])]
    name = d.module(f"nn.Parameter(torch.tensor({scores}))")
    d.do(f"x.index_select({a}, {name}.argsort())")
    d.again = False


def data_crop(d: Draft) -> None:
    """A crop around the row that has most."""
    a = d.axis(LEAST[d.dims] + 4)
    n = d.x.shape[a]
    keep = d.rng.randint(LEAST[d.dims], n - 3)
    start = f"min(max(int({means(d, a)}.argmax()) - {keep // 2}, 0), {n - keep})"
    d.do(f"x.narrow({a}, {start}, {keep})")


def mask_crop(d: Draft) -> None:
    """Rows above the mean of all."""
    a = d.axis(LEAST[d.dims] + 4)
    rows = means(d, a)
    colons = ", ".join([":"] * a)
    d.do(f"x[{colons}, {rows} > {rows}.median() - 0.2 * {rows}.std()]")
    d.again = False


def product(d: Draft) -> None:
    """Rows exchanged by a matrix of zeros and ones."""
    n = d.size[-1]
    d.do(f"x @ torch.eye({n}, dtype=x.dtype).flip(0)")


REST = {
    "grid_sample": grid_sample,
    "spatial transformer": transformer,
    "fft low pass": low_pass,
    "fft phase": fft_shift,
    "fftshift": fftshift,
    "top-k": topk,
    "sort rows": sort_rows,
    "sort values": sort_values,
    "gather": gather,
    "learned index": learned_index,
    "data-dependent crop": data_crop,
    "data-dependent mask": mask_crop,
    "permutation matrix": product,
}
MIXING = {
    *("convolution", "transposed convolution", "pooling", "adaptive pooling", "interpolation", "residual sum"),
    *("shifted sum", "channel cat", "unfold", "F.unfold", "reshape", "pixel unshuffle", "patch merging", "einops"),
    *("fft low pass", "fft phase", "grid_sample", "spatial transformer"),
}
"""Operators that would put cells together that are neighbours only because an index put them side by side."""


@dataclass
class Drawn:
    """A network, an input for it, and what is known of its layer ``layer``.

    :ivar channel: axis of the channels in the layer's output; all others number its elements.
    :ivar stride: of the layer's cells along each axis of the input.
    :ivar inputs: the input, and further ones over which the oracle averages.
    :ivar record: of tokens: (*elements, axes), the place of the patch that each one came from, NaN for those that are
        none; for grids None, then the response is measured.
    """

    program: str
    network: nn.Module
    channel: int
    stride: list[float]
    inputs: list[torch.Tensor]
    operators: list[str]
    record: np.ndarray | None = None


def program(modules: dict[str, str], lines: list[str]) -> str:
    """The class that was drawn."""
    init = "\n".join(f"        self.{name} = {text}" for name, text in modules.items())
    body = "\n".join(f"        x = {line}" for line in lines)
    head = "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    return f"{head}{init}\n\n    def forward(self, x):\n{body}\n        return x\n"


def compiled(text: str) -> nn.Module:
    """The network of a program. Modules get positive weights; parameters of its own (learned scores) are what they are."""
    space = names()
    exec(text, space)
    network = space["Net"]()
    for module in network.children():
        positive(module)
    return network.eval()


def draw(seed: int, attempt: int = 0) -> Drawn:
    """The network of a seed. Below ``FIRST_OF_REST`` every operator can be traced, and every third network has tokens."""
    from token_networks import draw_tokens

    rng = random.Random(f"{seed}/{attempt}")
    torch.manual_seed(seed)
    if seed < FIRST_OF_REST and seed % 3 == 2:
        return draw_tokens(rng)
    return draw_grid(rng, seed)


FIRST_OF_REST = 1000


def draw_grid(rng: random.Random, seed: int) -> Drawn:
    rest = seed >= FIRST_OF_REST
    dims = rng.choice([2, 3])
    size = [rng.randint(24, 44) for _ in range(2)] if dims == 2 else [rng.randint(14, 24) for _ in range(3)]
    x = 0.5 + torch.rand(1, rng.choice([1, 1, 2]), *size)
    d = Draft(rng, x, list(range(dims)), [1.0] * dims)
    special = REST if rest else TRACEABLE
    number = seed - FIRST_OF_REST if rest else seed - (seed + 1) // 3  # every third seed has tokens
    wanted = list(special)[number % len(special)]
    plan = [rng.choice(KERNELS if rng.random() < 0.4 else list(TRACEABLE)) for _ in range(rng.randint(1, 3))]
    plan.insert(rng.randint(0, len(plan)), wanted)
    if rng.random() < 0.5:
        plan.insert(0, "convolution")
    for name in plan:
        if not d.again and name in MIXING:
            if name == wanted:
                unsuitable()
            continue
        add(d, name, special.get(name) or TRACEABLE[name], name == wanted)
    channel = finish(d)
    shape = d.x.shape
    d.modules["head"] = f"nn.Linear({shape[channel]}, 2, bias=False)"
    axes = tuple(a for a in range(1, d.x.ndim) if a != channel)
    d.lines.append(f"self.head(x.mean({axes}))")
    text = program(d.modules, d.lines)
    several = 96 if d.averaged and not rest else 1
    inputs = [x, *(0.5 + torch.rand_like(x) for _ in range(several - 1))]
    return Drawn(text, compiled(text), channel, d.stride, inputs, list(dict.fromkeys(d.names)))


def add(d: Draft, name: str, operator: Callable[[Draft], None], needed: bool) -> None:
    """Draw an operator; one that does not fit is left out, unless it is the one that is wanted."""
    for _ in range(20):
        state = copy.copy(vars(d)) | {
            "modules": dict(d.modules),
            "lines": list(d.lines),
            "axes": list(d.axes),
            "stride": list(d.stride),
        }
        try:
            operator(d)
        except (Unsuitable, RuntimeError, ValueError):
            vars(d).update(state)
            continue
        d.names.append(name)
        return
    if needed:
        raise Unsuitable


def finish(d: Draft) -> int:
    """The layer to explain: the last convolution, or an identity behind a grid, a grid of channels last, or its tokens;
    the axis of its channels."""
    kind = d.rng.choice(["convolution", "grid", "grid", "last", "tokens"])
    if kind == "convolution" and d.again:
        d.modules["layer"] = f"nn.Conv{d.dims}d({d.channels}, 2, {d.each(1, 3)}, bias=False)"
        d.held.layer = positive(build(d.modules["layer"]))
        d.names.append("convolution")
        d.x = run("self.layer(x)", d.held, d.x)
        d.lines.append("self.layer(x)")
        return 1
    d.modules["layer"] = "nn.Identity()"
    if kind == "last":
        d.lines.append("self.layer(x.movedim(1, -1))")
        d.x = d.x.movedim(1, -1)
        d.names.append("channels last")
        return d.x.ndim - 1
    if kind == "tokens":
        d.lines.append("self.layer(x.flatten(2).transpose(1, 2))")
        d.x = d.x.flatten(2).transpose(1, 2)
        d.names.append("flattened")
        return 2
    d.lines.append("self.layer(x)")
    return 1
