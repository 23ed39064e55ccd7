"""Which tensors of a weights file are those of a network: by their names and shapes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import WeightsError
from ..security.pickles import shown
from .contents import named
from .reading import Weights

CUSTOMARY = ("state_dict", "model_state_dict", "model", "network", "net", "weights", "network_weights")
"""Where checkpoints keep the weights, by custom."""
WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
"""Names that training tools put into those of the network: DistributedDataParallel, torch.compile, FSDP."""
AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged|shadow)([._]|$)", re.IGNORECASE)
BESIDE = re.compile(
    r"((optim(izer|iser)?|loss|criteri(on|a)|metric|ema|swa|averaged|teacher|(lr_)?scheduler|(grad_)?scaler|callback|loop|aux)"
    r"(s|es)?(_fn|_func|_function|_states?|_state_dict|_module|_classifier)?|(model|net|network|state_dict|weights)_(ema|swa))",
    re.IGNORECASE,
)
"""How trainings name what they keep beside a network: no part of it."""
NEVER = re.compile(
    r"(^|[._])((optim\w*|grads?|gradients?|exp_avg\w*|momentum\w*)([._]|$)|(sq|square[ds]?|var|variances?|masks?|fisher)(\.|$))",
    re.IGNORECASE,
)
"""In the path of tensors that have a network's names and shapes, and are not its weights."""
UNREAD = re.compile(r"^_rebuild_(?!(tensor|parameter|from_type))\w*tensor")
"""Functions by which torch pickles tensors without ordinary values: quantised, sparse, meta."""
COUNTS = "num_batches_tracked"
"""How many batches a normalisation saw in training: nothing that a prediction uses."""
Shapes = Mapping[str, tuple[int, ...]]
"""By name."""


@dataclass(frozen=True)
class Fit:
    """Which tensors of a file are those of a network.

    :ivar names: the network's name of a tensor -> the file's.
    :ivar message: what was taken where there was a choice, left over or missing; empty for a plain state dict.
    """

    names: dict[str, str]
    message: str


def fit(given: Weights, expected: Shapes, what: str, key: str | None = None) -> Fit:
    """Find a network's tensors in a file: the names are the network's behind one prefix, which may be that of a wrapper,
    the attribute of a training module, or the path in the checkpoint.

    :param expected: shapes by name, of the network.
    :param what: the network, for the error.
    :param key: the path below which to look (``--weights-key``).
    :raises WeightsError: where no part of the file fits, or several do and nothing tells which is meant.
    """
    file = given.contents.path
    shapes = {name: shape for name, shape in given.shapes.items() if key is None or f"{name}.".startswith(f"{key}.")}
    if not given.shapes:
        made = f" (it is made of {named(given.other)})" if given.other else ""
        raise WeightsError(
            file, f"no tensor lies in the dicts and lists of this file{made}", "save model.state_dict() in it"
        )
    if not shapes:
        raise WeightsError(
            file,
            f"--weights-key {key}: no weights lie below this",
            f"choose one of {listed(groups(given.shapes))}",
        )
    fault = ""
    for clean in (str, unwrapped):
        held = {clean(name): name for name in shapes}
        wanted = {clean(name): name for name in expected}
        if len(held) < len(shapes) or len(wanted) < len(expected):
            continue
        fits = prefixes(
            {name: shapes[of] for name, of in held.items()}, {name: expected[of] for name, of in wanted.items()}
        )
        whole = [p for p in fits if not strangers(held, wanted, p) and (key is not None or not NEVER.search(p))]
        if whole:
            prefix, why = preferred(file, given, whole, held, wanted)
            names = {of: held[prefix + name] for name, of in wanted.items() if prefix + name in held}
            return Fit(names, _message(file, names, expected, given, prefix, why))
        kept_beside = [shown(p.removesuffix(".")) for p in fits if NEVER.search(p)]
        fault = fault or (
            f"what has its names lies below '{kept_beside[0]}', which is no weights but what a training keeps (--weights-key takes it)"
            if kept_beside
            else mismatch(held, wanted, shapes, expected)
        )
    if odd := next((name.name for name in given.other if UNREAD.search(name.name)), ""):
        raise WeightsError(
            file,
            f"{what}: {fault}. The file has tensors of a kind that is not read ({odd}: quantised, sparse or without values)",
            "save them as ordinary ones",
        )
    raise WeightsError(file, f"{what}: {fault}", "correct the field 'network', or give the right file")


def unwrapped(name: str) -> str:
    """A name without the parts that training tools put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def prefixes(held: Shapes, wanted: Shapes) -> list[str]:
    """Those behind which every wanted name stands with its shape."""
    votes = Counter(
        prefix
        for name, shape in held.items()
        for prefix, rest in splits(name)
        if not rest.endswith(COUNTS) and wanted.get(rest) == shape
    )
    needed = sum(not name.endswith(COUNTS) for name in wanted)
    return [prefix for prefix, count in votes.items() if count == needed]


def splits(name: str) -> Iterator[tuple[str, str]]:
    """(prefix with its dot, rest) at every dot of a name."""
    parts = name.split(".")
    for n in range(len(parts)):
        yield "".join(f"{part}." for part in parts[:n]), ".".join(parts[n:])


def strangers(held: Mapping[str, str], wanted: Mapping[str, str], prefix: str) -> list[str]:
    """What stands behind the prefix, is not the network's and nothing that trainings keep beside one."""
    own = {name.partition(".")[0] for name in wanted}
    rest = [name.removeprefix(prefix) for name in held if name.startswith(prefix)]
    return [
        name
        for name in rest
        if name not in wanted and not name.endswith(COUNTS) and not (beside(name) and name.partition(".")[0] not in own)
    ]


def beside(name: str) -> bool:
    """Whether a name is that of something kept beside a network."""
    return bool(BESIDE.fullmatch(name.partition(".")[0]))


def preferred(
    file: Path, given: Weights, fits: Sequence[str], held: Mapping[str, str], wanted: Mapping[str, str]
) -> tuple[str, str]:
    """Of several prefixes that fit the one that is meant, and why: averaged weights first, then those that lie where
    checkpoints keep them by custom."""
    different: dict[tuple[int, ...], str] = {}
    for prefix in sorted(fits, key=len):
        different.setdefault(tuple(id(given.nodes[held[prefix + n]]) for n in wanted if prefix + n in held), prefix)
    if len(different) == 1:
        return next(iter(different.values())), ""

    def rank(prefix: str) -> tuple[bool, int, int]:
        first = prefix.partition(".")[0]
        order = CUSTOMARY.index(first) if first in CUSTOMARY else len(CUSTOMARY) if first else -1
        return not AVERAGED.search(prefix.removesuffix(".")), order, prefix.count(".")

    first, second, *_ = sorted(different.values(), key=rank)
    if rank(first) == rank(second):
        raise WeightsError(
            file,
            f"{len(different)} parts of this file fit the network, and nothing tells which is meant",
            f"choose one with --weights-key {listed(prefix.removesuffix('.') for prefix in different.values())}",
            joint=": ",
        )
    reason = (
        "the averaged weights, which evaluations use"
        if AVERAGED.search(first)
        else "where checkpoints keep them by custom"
    )
    return first, f"of {len(different)} parts that fit: {reason}; --weights-key chooses another"


def _message(file: Path, names: Mapping[str, str], expected: Shapes, given: Weights, prefix: str, why: str) -> str:
    """What was taken, left over and missing, in one sentence."""
    taken = (
        f"the weights are those below '{shown(prefix.removesuffix('.'))}'"
        if prefix
        else "the weights are those at the top"
        if why
        else ""
    )
    over = Counter(_group(name) for name in given.shapes if name not in set(names.values()))
    left = (
        f"left over: {', '.join(f'{shown(name)} ({n})' if n > 1 else shown(name) for name, n in over.items())}"
        if over
        else ""
    )
    gone = len([name for name in expected if name not in names])
    missing = f"{gone} {COUNTS} are missing, which no prediction uses" if gone else ""
    parts = [f"{taken} ({why})" if why else taken, left, missing]
    return f"{file.name}: {'; '.join(part for part in parts if part)}." if any(parts) else ""


def _group(name: str) -> str:
    """The part of a checkpoint that a tensor belongs to."""
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first in CUSTOMARY and "." in rest else first


def groups(shapes: Iterable[str]) -> list[str]:
    """The parts of a checkpoint."""
    return list(dict.fromkeys(_group(name) for name in shapes))


def listed(names: Iterable[str]) -> str:
    """The first few names."""
    known = list(names)
    more = f" and {len(known) - 6} more" if len(known) > 6 else ""
    return ", ".join(f"'{shown(name)}'" for name in known[:6]) + more


def mismatch(held: Mapping[str, str], wanted: Mapping[str, str], shapes: Shapes, expected: Shapes) -> str:
    """The first differences between a file's names, behind the prefix that fits best, and the network's, in words."""
    votes = Counter(prefix for name in held for prefix, rest in splits(name) if rest in wanted)
    prefix = votes.most_common(1)[0][0] if votes else ""
    rest = {name.removeprefix(prefix): of for name, of in held.items() if name.startswith(prefix)}

    def first(names: list[str], what: str) -> list[str]:
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        return (
            [f"{what} {', '.join(shown(name) or 'tensor without a name' for name in names[:2])}{more}"] if names else []
        )

    wrong = [
        f"{name} ({shapes[rest[name]]} instead of {expected[of]})"
        for name, of in wanted.items()
        if name in rest and shapes[rest[name]] != expected[of]
    ]
    return "; ".join(
        first([name for name in wanted if name not in rest and not name.endswith(COUNTS)], "the file lacks")
        + first(strangers(held, wanted, prefix), "the network has no")
        + first(wrong, "wrong shape of")
    )
