"""Where MedXAI says that the cells of a layer lie: random networks of Testing/Checks, a few for each operator.

``make check-place`` runs many more. To repeat one: ``python Testing/Checks/place.py --seed N --show``.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Checks"))

from networks import FIRST_OF_REST, REST, TRACEABLE, Drawn, compiled, program  # noqa: E402
from place import Oracle, centres, compare, oracle, places, response, wrong  # noqa: E402

from MedXAILib import InputError  # noqa: E402

oracle = cache(oracle)
GRIDS = [n + n // 2 for n in range(len(TRACEABLE))]
"""Of each operator that can be traced, the first network that was drawn for it: every third seed has tokens."""
TOKENS = range(2, 92, 9)
OTHERS = range(FIRST_OF_REST, FIRST_OF_REST + len(REST))


def found(seed: int) -> dict:
    true = oracle(seed)
    return compare(places(true.drawn.network, true.drawn.inputs[0], "layer"), true)


@pytest.mark.parametrize("seed", [*GRIDS, *TOKENS])
def test_no_cell_lies_further_than_one_cell_from_what_it_sees(seed):
    assert not wrong(found(seed))


@pytest.mark.parametrize("seed", OTHERS)
def test_a_place_that_is_computed_is_right_or_refused(seed):
    with suppress(InputError):
        assert not wrong(found(seed))


def test_the_networks_have_every_operator():
    """Else the tests above would say less than they seem to."""
    drawn = {name for seed in [*GRIDS, *OTHERS] for name in oracle(seed).drawn.operators}
    assert set(TRACEABLE) | set(REST) <= drawn


@pytest.mark.parametrize(
    ("line", "true"),
    [
        ("x", (10, 12)),
        ("x.flip(2)", (31 - 10, 12)),
        ("x[:, :, 3:]", (13, 12)),
        ("x.transpose(2, 3)", (12, 10)),
        ("F.avg_pool2d(x, (2, 1))", (20.5, 12)),
        ("F.pad(x, (4, 0, 0, 0))", (10, 8)),
    ],
)
def test_the_oracle_knows_places_that_can_be_told_by_hand(line, true):
    """Of element (10, 12)."""
    import torch

    network = compiled(program({"layer": "nn.Identity()"}, [line, "self.layer(x)"]))
    x = torch.rand(1, 1, 32, 32)
    width = network(x).shape[-1]
    seen = response(Drawn("", network, 1, [1, 1], [x], []), np.array([10 * width + 12]))
    np.testing.assert_allclose(centres(*seen)[0], true)


@pytest.mark.parametrize("seed", [14, 20, 32, 62, 65, 77])
def test_the_record_of_tokens_is_what_they_see(seed):
    true = oracle(seed)
    seen, _ = response(true.drawn, true.elements)
    total = seen.reshape(len(seen), -1).sum(1)
    assert np.array_equal(total > 0, np.isfinite(true.true).all(1))
    middle = [[(one * grid).sum() / one.sum() for grid in np.indices(one.shape)] for one in seen[total > 0]]
    assert (np.abs(np.array(middle) - true.true[total > 0]) <= 0.6 * np.array(true.drawn.stride)).all()


@pytest.mark.parametrize("mutation", ["flip", "exchange", "shift"])
def test_a_wrong_place_is_found(mutation):
    """Of a grid of 4 x 4 patches of 8 voxels: with the right places nothing is wrong, with these there is."""
    rows = np.stack(np.meshgrid(*[8 * np.arange(6) + 3.5] * 2, indexing="ij"), -1)[None]
    drawn = Drawn("", None, 1, [8, 8], [np.zeros((1, 1, 48, 48))], [])
    true = Oracle(drawn, np.arange(36), rows.reshape(-1, 2), (1, 6, 6))
    other = {"flip": rows[:, ::-1], "exchange": rows[..., ::-1], "shift": rows + 16}[mutation]
    assert not wrong(compare(rows, true))
    assert wrong(compare(other, true))
