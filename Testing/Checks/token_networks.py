"""Random small networks of tokens, as programs, with a record of which patch each token came from. See README.md.

The record is kept in numpy, beside the program: an array (*token axes, axes) of places in the input, NaN for tokens that
are no patch. It holds whatever the tokens exchange afterwards.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
from networks import Drawn, compiled, program

WIDTH = 8


def draw_tokens(rng: random.Random) -> Drawn:
    return draw_vit(rng) if rng.random() < 0.6 else draw_swin(rng)


def embedded(rng: random.Random, grid: list[int], modules: dict, lines: list, used: list) -> tuple:
    """Lines that make (1, *grid, channel) of the input, the stride, and the places of the patches."""
    dims = len(grid)
    patch = [rng.choice([2, 3, 4, 6] if dims == 2 else [2, 3, 4]) for _ in grid]
    channels = rng.choice([1, 2])
    kind = rng.choice(["convolution", "overlapping", "linear", "F.unfold"][: 4 if dims == 2 else 3])
    used.append("F.unfold" if kind == "F.unfold" else f"patches: {kind}")
    size = [n * p for n, p in zip(grid, patch, strict=True)]
    first = [(p - 1) / 2 for p in patch]
    inside = channels * int(np.prod(patch))
    if kind == "convolution":
        size = [n + rng.randrange(p) for n, p in zip(size, patch, strict=True)]  # a rest, which is left out
        modules["embed"] = f"nn.Conv{dims}d({channels}, {WIDTH}, {tuple(patch)}, {tuple(patch)}, bias=False)"
        lines.append("self.embed(x).movedim(1, -1)")
    elif kind == "overlapping":
        k = [p + 1 + p % 2 for p in patch]
        padding = tuple(n // 2 for n in k)
        first = [0] * dims
        modules["embed"] = f"nn.Conv{dims}d({channels}, {WIDTH}, {tuple(k)}, {tuple(patch)}, {padding}, bias=False)"
        lines.append("self.embed(x).movedim(1, -1)")
    elif kind == "linear":
        modules["embed"] = f"nn.Linear({inside}, {WIDTH}, bias=False)"
        split = ", ".join(f"{n}, {p}" for n, p in zip(grid, patch, strict=True))
        order = [0, *range(2, 2 * dims + 2, 2), *range(3, 2 * dims + 3, 2), 1]
        lines.append(f"x.reshape(len(x), {channels}, {split}).permute({order}).flatten({dims + 1})")
        lines.append("self.embed(x)")
    else:
        modules["embed"] = f"nn.Linear({inside}, {WIDTH}, bias=False)"
        lines.append(f"F.unfold(x, {tuple(patch)}, stride={tuple(patch)}).transpose(1, 2)")
        lines.append(f"self.embed(x).unflatten(1, {tuple(grid)})")
    along = [np.arange(n) * float(p) + start for n, p, start in zip(grid, patch, first, strict=True)]
    places = np.stack(np.meshgrid(*along, indexing="ij"), -1)
    return (1, channels, *size), [float(p) for p in patch], places


def in_order(rng: random.Random, lines: list, places: np.ndarray, used: list) -> tuple[np.ndarray, tuple | None]:
    """Lines that flatten (1, *grid, channel) to tokens in some order; the tokens' places, and the grid that they are."""
    grid = places.shape[:-1]
    dims = len(grid)
    kind = rng.choice(["rows", "turned", "flipped", "units", "shuffled"])
    used.append(f"tokens: {kind}")
    if kind == "turned":
        order = rng.choice(list(itertools.permutations(range(dims)))[1:])
        lines.append(f"x.permute(0, {', '.join(str(a + 1) for a in order)}, {dims + 1})")
        places = places.transpose(*order, dims)
    elif kind == "flipped":
        axis = rng.randrange(dims)
        lines.append(f"x.flip({axis + 1})")
        places = np.flip(places, axis)
    elif kind == "units":
        unit = [rng.choice([u for u in (1, 2, 3) if n % u == 0]) for n in grid]
        split = list(itertools.chain.from_iterable((n // u, u) for n, u in zip(grid, unit, strict=True)))
        order = [*range(0, 2 * dims, 2), *range(1, 2 * dims, 2), 2 * dims]
        lines.append(
            f"x.reshape(1, {', '.join(map(str, split))}, -1).permute(0, {', '.join(str(a + 1) for a in order)})"
        )
        lines.append(f"x.flatten(1, {2 * dims})")
        return places.reshape(*split, dims).transpose(order).reshape(-1, dims), None
    lines.append(f"x.flatten(1, {dims})")
    shape = places.shape[:-1]
    places = places.reshape(-1, dims)
    if kind == "shuffled":
        order = rng.sample(range(len(places)), len(places))
        lines.append(f"x[:, {order}]")
        return places[order], None
    return places, shape


def mixed(rng: random.Random, modules: dict, lines: list, used: list) -> None:
    """Attention among (n, tokens, channel), or what leaves each token alone."""
    n = len(modules)
    kind = rng.choice(["products", "scaled_dot_product_attention", "MultiheadAttention", "mlp"])
    used.append("mlp" if kind == "mlp" else "attention")
    linear = f"nn.Linear({WIDTH}, {WIDTH})"
    q, k, v = (f"self.{letter}{n}(x)" for letter in "qkv")
    if kind == "MultiheadAttention":
        modules[f"a{n}"] = f"nn.MultiheadAttention({WIDTH}, 2, batch_first=True)"
        lines.append(f"x + self.a{n}(x, x, x, need_weights=False)[0]")
        return
    modules |= {f"{letter}{n}": linear for letter in ("qk" if kind == "mlp" else "qkv")}
    lines.append(
        {
            "products": f"x + ({q} @ {k}.transpose(1, 2) / {WIDTH} ** 0.5).softmax(-1) @ {v}",
            "scaled_dot_product_attention": f"x + F.scaled_dot_product_attention({q}, {k}, {v})",
            "mlp": f"x + self.k{n}(F.gelu({q}))",
        }[kind]
    )


def draw_vit(rng: random.Random) -> Drawn:
    """A vision transformer."""
    modules, lines, used = {}, [], []
    grid = [rng.randint(4, 8) for _ in range(2)] if rng.random() < 0.5 else [rng.randint(3, 5) for _ in range(3)]
    shape, stride, places = embedded(rng, grid, modules, lines, used)
    dims = len(grid)
    places, arranged = in_order(rng, lines, places, used)
    first, last = rng.choice([(0, 0), (0, 0), (1, 0), (0, 1), (2, 0), (5, 0), (1, 1)])
    if first + last:
        used.append(f"class tokens: {first} first, {last} last")
    for name, count in (("first", first), ("last", last)):
        if count:
            modules[name] = f"nn.Parameter(torch.ones(1, {count}, {WIDTH}))"
    if first + last:
        parts = ["self.first"] * bool(first) + ["x"] + ["self.last"] * bool(last)
        lines.append(f"torch.cat([{', '.join(parts)}], 1)")
    if rng.random() < 0.7:
        modules["pos"] = f"nn.Parameter(torch.rand(1, {first + len(places) + last}, {WIDTH}))"
        lines.append("x + self.pos")
    for _ in range(rng.randint(0, 2)):
        mixed(rng, modules, lines, used)
    if first + last and rng.random() < 0.3:
        lines.append(f"x[:, {first}:{first + len(places)}]")
        used.append("class tokens dropped")
        first = last = 0
    record = np.concatenate([np.full((first, dims), np.nan), places, np.full((last, dims), np.nan)])[None]
    channel = 2
    if arranged and not first + last and rng.random() < 0.6:
        if rng.random() < 0.6:
            lines.append(f"x.transpose(1, 2).reshape(1, {WIDTH}, {', '.join(map(str, arranged))})")
            used.append("tokens back to a grid")
            channel = 1
            modules["layer"] = rng.choice(["nn.Identity()", f"nn.Conv{dims}d({WIDTH}, {WIDTH}, 1)"])
        else:
            lines.append(f"x.unflatten(1, {tuple(arranged)})")
            used.append("tokens back to a grid, channels last")
            channel = dims + 1
        record = record.reshape(1, *arranged, dims)
    modules.setdefault("layer", rng.choice(["nn.Identity()", f"nn.LayerNorm({WIDTH})", f"nn.Linear({WIDTH}, {WIDTH})"]))
    lines.append("self.layer(x)")
    modules["head"] = f"nn.Linear({WIDTH}, 2)"
    axes = tuple(a for a in range(1, record.ndim) if a != channel)
    lines.append("self.head(x[:, 0])" if first else f"self.head(x.mean({axes}))")
    return drawn(shape, modules, lines, used, channel, stride, record)


def draw_swin(rng: random.Random) -> Drawn:
    """Shifted windows, perhaps of a padded grid, perhaps merged; the layer behind them or inside of one."""
    modules, lines, used = {}, [], ["window partition"]
    dims = rng.choice([2, 2, 3])
    w = rng.choice([2, 3, 4] if dims == 2 else [2, 3])
    grid = [rng.randint(2, 4 if dims == 2 else 3) * w - rng.choice([0, 0, 1]) for _ in range(dims)]
    shape, stride, places = embedded(rng, grid, modules, lines, used)
    more = [-n % w for n in grid]
    shift = rng.choice([0, 1, w // 2])
    axes = tuple(range(1, dims + 1))
    if any(more):
        widths = [0, 0, *itertools.chain.from_iterable((0, n) for n in reversed(more))]
        lines.append(f"F.pad(x, {widths})")
        used.append("padded windows")
        places = np.pad(places, [(0, n) for n in more] + [(0, 0)], constant_values=np.nan)
    if shift:
        used.append("cyclic shift")
        lines.append(f"x.roll({(-shift,) * dims}, {axes})")
        places = np.roll(places, (-shift,) * dims, tuple(range(dims)))
    count = [n // w for n in places.shape[:-1]]
    split = list(itertools.chain.from_iterable((n, w) for n in count))
    apart = [*range(0, 2 * dims, 2), *range(1, 2 * dims, 2), 2 * dims]
    lines.append(f"x.reshape({split + [WIDTH]}).permute({apart}).reshape(-1, {w**dims}, {WIDTH})")
    inside = places.reshape(*split, dims).transpose(apart).reshape(-1, w**dims, dims)
    mixed(rng, modules, lines, used)
    if rng.random() < 0.2:
        used[0] = "window partition, layer inside"
        modules["layer"] = f"nn.LayerNorm({WIDTH})"
        modules["head"] = f"nn.Linear({WIDTH}, 2)"
        lines += ["self.layer(x)", "self.head(x.mean((0, 1)))[None]"]
        return drawn(shape, modules, lines, used, 2, stride, inside)
    together = list(itertools.chain.from_iterable((a, dims + a) for a in range(dims)))
    whole = [n * w for n in count]
    lines.append(
        f"x.reshape({[*count, *[w] * dims, WIDTH]}).permute({[*together, 2 * dims]}).reshape({[1, *whole, WIDTH]})"
    )
    if shift:
        lines.append(f"x.roll({(shift,) * dims}, {axes})")
        places = np.roll(places, (shift,) * dims, tuple(range(dims)))
    lines.append(f"x[:, {', '.join(f':{n}' for n in grid)}]")
    places = places[tuple(slice(0, n) for n in grid)]
    width = WIDTH
    if rng.random() < 0.4:
        used.append("patch merging")
        even = tuple(slice(0, n // 2 * 2) for n in grid)
        lines.append(f"x[:, {', '.join(f':{s.stop}' for s in even)}]")
        starts = list(itertools.product((0, 1), repeat=dims))
        parts = [f"x[:, {', '.join(f'{s}::2' for s in start)}]" for start in starts]
        lines.append(f"torch.cat([{', '.join(parts)}], -1)")
        places = np.mean([places[even][tuple(slice(s, None, 2) for s in start)] for start in starts], 0)
        stride, width = [2 * s for s in stride], WIDTH * 2**dims
    if rng.random() < 0.3:
        lines.append("x.movedim(-1, 1)")
        channel = 1
        modules["layer"] = "nn.Identity()"
    else:
        channel = dims + 1
        modules["layer"] = rng.choice(["nn.Identity()", f"nn.LayerNorm({width})"])
    lines.append("self.layer(x)")
    modules["head"] = f"nn.Linear({width}, 2)"
    lines.append(f"self.head(x.mean({tuple(a for a in range(1, dims + 2) if a != channel)}))")
    return drawn(shape, modules, lines, used, channel, stride, places[None])


def drawn(shape, modules, lines, used, channel, stride, record) -> Drawn:
    import torch

    text = program(modules, lines)
    return Drawn(text, compiled(text), channel, stride, [0.5 + torch.rand(shape)], list(dict.fromkeys(used)), record)
