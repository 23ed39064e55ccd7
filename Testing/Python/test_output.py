"""What a network's output means: the probability is the network's own, and what is explained are its logits."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import BasicUNetPlusPlus
from PIL import Image
from torch import nn

from MedXAILib import explain
from MedXAILib.app.cards import check_card
from MedXAILib.app.job import Job
from MedXAILib.app.run import run
from MedXAILib.caveats import texts
from MedXAILib.errors import InputError
from MedXAILib.geometry.volume import Volume
from MedXAILib.models import drafting
from MedXAILib.models.card import ModelCard
from MedXAILib.models.loading import Model, load_model
from MedXAILib.models.summary import quantity
from MedXAILib.prediction import predict
from MedXAILib.preprocessing.prepare import REPEATED
from MedXAILib.training.trainer import run as trained_outputs

X = torch.rand(1, 1, 12, 14, 16, generator=torch.Generator().manual_seed(0))
LOGIT = nn.Identity()
UNSEEN = "that can be seen: its scores are the"


class Net(nn.Module):
    """Two convolutions, pooling, a linear layer to ``classes`` logits, then ``end``."""

    def __init__(self, end=LOGIT, classes: int = 3, dimensions: int = 3):
        super().__init__()
        torch.manual_seed(0)
        conv = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
        self.body = nn.Sequential(conv(1, 8, 3, 2, 1), nn.ReLU(), conv(8, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(8, classes)
        self.end = end
        self.eval()

    def forward(self, x):
        return self.end(self.head(40 * self.body(x).flatten(2).mean(2)))


class Segmenter(nn.Module):
    def __init__(self, end=LOGIT, classes: int = 2):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv3d(1, 8, 3, 1, 1), nn.ReLU(), nn.Conv3d(8, classes, 1))
        self.end = end
        self.eval()

    def forward(self, x):
        return self.end(3 * self.body(x))


def said(network, x=X, **options) -> tuple[str, str, tuple[str, ...], np.ndarray]:
    """Class, fact, limits and map."""
    (found,) = explain(network, x, **options)
    return found.target, found.says, texts(found.caveats), found.volume.array


def sparsemax(z):
    """Martins and Astudillo 2016, arXiv 1602.02068, algorithm 1."""
    ordered = z.sort(1, descending=True).values
    sums = ordered.cumsum(1) - 1
    count = (torch.arange(1, z.shape[1] + 1) * ordered > sums).sum(1, keepdim=True)
    return torch.relu(z - sums.gather(1, count - 1) / count)


def softmax_by_hand(z):
    e = (z - z.amax(1, keepdim=True)).exp()
    return e / e.sum(1, keepdim=True)


# seen: the map is that of the logits themselves
SEEN = {
    "softmax": lambda z: F.softmax(z, dim=1),
    "softmax of the last axis": lambda z: z.softmax(-1),
    "softmax, moved": lambda z: z.T.softmax(0).T,
    "softmax in double precision": lambda z: z.double().softmax(1).float(),
    "module": nn.Softmax(1),
    "sigmoid": torch.sigmoid,
    "sigmoid in place": lambda z: z.sigmoid_(),
    "sigmoid, reshaped": lambda z: z[:, None].sigmoid().squeeze(1).contiguous(),
    "expit": torch.special.expit,
    "log_softmax": lambda z: z.log_softmax(1),
    "of another's type": lambda z: z.softmax(1).type_as(torch.zeros(1)),
    "as another": lambda z: z.sigmoid().reshape_as(torch.zeros(1, 3)),
}


@pytest.mark.parametrize("name", SEEN)
def test_a_network_that_ends_in_probabilities_gives_its_own_and_the_map_of_its_logits(name):
    network = Net(SEEN[name])
    with torch.no_grad():
        own = network(X)[0]
    own = own.exp() if name.startswith("log") else own
    target, fact, limits, heat = said(network)
    assert (target, fact) == (str(int(own.argmax())), f"p {own.max():.3f}")
    assert not any(UNSEEN in sentence for sentence in limits)
    expected = said(Net(), targets=[int(target)])[3]
    assert expected.any() and np.abs(heat - expected).max() <= 1e-6 * expected.max()


# the last step cannot be undone, or not be seen: the probability is right all the same, and a sentence says so
UNDONE = {
    "mean of two softmaxes": lambda z: (z.softmax(1) + (2 * z).softmax(1)) / 2,
    "mean of a stack of sigmoids": lambda z: torch.stack([z.sigmoid(), (z / 2).sigmoid()]).mean(0),
    "softmax by hand": softmax_by_hand,
    "sigmoid by hand": lambda z: 1 / (1 + torch.exp(-z)),
    "sigmoid of a tanh": lambda z: (torch.tanh(z / 2) + 1) / 2,
    "hard sigmoid": F.hardsigmoid,
    "clamped sigmoid": lambda z: z.sigmoid().clamp(0.001, 0.9),
    "one class and its complement": lambda z: torch.cat([1 - z[:, :1].sigmoid(), z[:, :1].sigmoid()], 1),
    "sigmoids under a mask": lambda z: z.sigmoid() * torch.tensor([1.0, 0.0, 1.0]),
    "sigmoids where they count": lambda z: torch.where(torch.tensor([True, False, True]), z.sigmoid(), torch.zeros(3)),
    "beside a class of its own": lambda z: torch.cat([z.sigmoid(), torch.full((1, 1), 0.1)], 1),
    "softmax without its first class": lambda z: z.softmax(1)[:, 1:],
    "summed from nothing": lambda z: sum(((k * z).softmax(1) for k in (1, 2)), torch.zeros_like(z)) / 2,
    "weighted": lambda z: torch.einsum(
        "e,ebc->bc", torch.tensor([0.3, 0.7]), torch.stack([z.softmax(1), (2 * z).softmax(1)])
    ),
    "between two": lambda z: torch.lerp(z.softmax(1), (2 * z).softmax(1), torch.tensor(0.3)),
    "at least nothing": lambda z: torch.max(torch.zeros(3), z.sigmoid()),
    "sparsemax": lambda z: sparsemax(z / 9),
    "normalised": lambda z: F.normalize(F.softplus(z), p=1, dim=1),
    "smoothed": lambda z: F.conv1d(z.sigmoid()[:, None], torch.tensor([[[0.2, 0.6, 0.2]]]), padding=1)[:, 0],
}


@pytest.mark.parametrize("name", UNDONE)
def test_probabilities_that_no_last_operator_made_are_the_networks_own_too(name):
    network = Net(UNDONE[name])
    with torch.no_grad():
        own = network(X)[0]
    target, fact, limits, heat = said(network)
    assert (target, fact) == (str(int(own.argmax())), f"p {own.max():.3f}")
    assert sum(UNSEEN in sentence for sentence in limits) == 1
    assert heat.any()


def test_gradients_of_probabilities_that_cannot_be_undone_are_those_of_their_logarithms():
    def mean(z):
        return (z.softmax(1) + (2 * z).softmax(1)) / 2

    x = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(Net(mean)(x)[0, 1].log(), x)
    heat = said(Net(mean), targets=[1], methods=["saliency"])[3]
    assert np.abs(heat - expected.abs()[0, 0].numpy()).max() <= 1e-6 * float(expected.abs().max())


LOGITS = {
    "small logits": lambda z: 0.3 + 0.001 * z,
    "rectified": lambda z: F.relu(z) / 100,
    "scaled by a temperature": lambda z: 0.4 + z / 1000,
    "gated": lambda z: z * z.sigmoid(),
    "gated by a number": lambda z: z * z.mean().sigmoid(),
    "pooled by attention": lambda z: (torch.stack([z, 2 * z], 1) * z.mean().sigmoid().expand(1, 2, 1).softmax(1)).sum(
        1
    ),
    "with a probability beside": lambda z: torch.cat([z[:, :2], z[:, 2:].sigmoid()], 1),
}


@pytest.mark.parametrize("name", LOGITS)
def test_logits_that_happen_to_lie_between_0_and_1_stay_logits(name):
    network = Net(LOGITS[name])
    with torch.no_grad():
        own = network(X).softmax(1)[0]
    model = Model(card(labels=3), network, "cpu", "", "")
    assert np.allclose(list(predict(model, volume()).probabilities.values()), own, atol=1e-6)
    assert said(network)[1] == f"p {own.max():.3f}"


def test_a_segmentation_that_ends_in_a_sigmoid_is_not_all_lesion():
    for end in (torch.sigmoid, lambda z: torch.zeros_like(z) + z.sigmoid()):
        _, fact, limits, heat = said(Segmenter(lambda z, end=end: end(z - 20), classes=1))
        assert fact.startswith("0.0 mL ") and not heat.any() and any("No voxel" in sentence for sentence in limits)


@pytest.mark.parametrize("end", [lambda z: torch.erf(z / 8) / 2 + 0.5, lambda z: torch.atan(z) / np.pi + 0.5])
def test_what_always_lies_between_0_and_1_is_doubted(end):
    assert any("if they are probabilities" in sentence for sentence in said(Net(end))[2])


@pytest.mark.parametrize(
    "end", [lambda z: z * z.mean(1, keepdim=True).sigmoid(), LOGITS["pooled by attention"]], ids=["gated", "attention"]
)
def test_logits_that_attention_weighs_are_logits(end):
    assert not any("means nothing" in sentence for sentence in said(Net(end))[2])


@pytest.mark.parametrize(
    "own",
    [
        lambda x: x.repeat(1, 3, 1, 1),
        lambda x: x.expand(-1, 3, -1, -1),
        lambda x: torch.cat([x.clamp(0, 0.3), x.clamp(0.2, 0.6), x.clamp(0.5, 1)], 1),
    ],
    ids=["repeat", "expand", "windows"],
)
def test_a_grey_network_that_makes_colours_itself_gets_its_grey_picture(own):
    class Colours(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(4 * 36, 2)

        def forward(self, x):
            return self.head(F.relu(self.conv(own(x))).flatten(1))

    network, x = Colours().eval(), torch.rand(1, 1, 12, 12)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(network(leaf)[0, 1], leaf)
    (found,) = explain(network, x, targets=[np.int64(1)], methods=["saliency"])
    np.testing.assert_allclose(found.volume.array, expected[0].abs().numpy(), rtol=1e-5)
    assert REPEATED not in texts(found.caveats)


SEGMENTATIONS = {
    "softmax": lambda z: z.softmax(1),
    "softmax, channels last": lambda z: z.movedim(1, -1).softmax(-1).movedim(-1, 1),
    "flipped and averaged": lambda z: (z.softmax(1) + z.flip(2).softmax(1).flip(2)) / 2,
    "enlarged": lambda z: F.interpolate(F.avg_pool3d(z, 2).softmax(1), scale_factor=2),
}


@pytest.mark.parametrize("name", SEGMENTATIONS)
def test_a_segmentation_that_ends_in_a_softmax_has_the_volume_of_its_best_class(name):
    network = Segmenter(SEGMENTATIONS[name])
    with torch.no_grad():
        ml = int((network(X).argmax(1) == 1).sum()) / 1000
    assert said(network, targets=[1])[1].startswith(f"{ml:.1f} mL ")


@pytest.mark.parametrize(
    "method", ["gradcam", "scorecam", "ablationcam", "saliency", "ig", "deeplift", "lime", "occlusion"]
)
def test_every_method_sees_the_logits(method):
    best = int(Net()(X).argmax())
    options = {"targets": [best], "methods": [method], "samples": 20 if method == "lime" else None}
    expected, found = (said(Net(end), **options)[3] for end in (nn.Identity(), nn.Softmax(1)))
    assert expected.any() and np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["script", "in a module", "trace", "export"])
@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Softmax(1), nn.Identity()], ids=["sigmoid", "softmax", "logits"])
def test_a_program_that_ends_in_probabilities(kind, end):
    network = Net(end)
    program = {
        "script": torch.jit.script,
        "in a module": lambda n: nn.Sequential(torch.jit.script(n)),
        "trace": lambda n: torch.jit.trace(n, X),
        "export": lambda n: torch.export.export(n, (X,)),
    }[kind](network)
    with torch.no_grad():
        own = network(X)[0] if not isinstance(end, nn.Identity) else network(X)[0].softmax(0)
    target, fact, limits, _ = said(program, methods=["saliency"])
    assert (target, fact) == (str(int(own.argmax())), f"p {own.max():.3f}")
    assert any(UNSEEN in s for s in limits) == (kind != "export" and not isinstance(end, nn.Identity))


class Pair(NamedTuple):
    features: torch.Tensor
    scores: torch.Tensor


@dataclass
class Both:
    features: torch.Tensor
    scores: torch.Tensor


class Several(Net):
    """Features and logits, put together by ``pack``."""

    def __init__(self, pack):
        super().__init__()
        self.pack = pack

    def forward(self, x):
        features = 40 * self.body(x).flatten(2).mean(2)
        return self.pack(features, self.head(features))


PACKS = {
    "tuple": lambda f, z: (f, z),
    "the logits first": lambda f, z: (z, f),
    "dict": lambda f, z: {"features": f, "logits": z},
    "dict of other names": lambda f, z: {"embedding": f, "y": z},
    "named tuple": Pair,
    "dataclass": Both,
    "nested": lambda f, z: {"aux": [f, f * 2], "main": (z,)},
    "with a place left empty": lambda f, z: (None, f, z),
    "with its classes": lambda f, z: (f, z, z.argmax(1)),
    "a loss beside": lambda f, z: {"loss": z.sum(), "logits": z},
    "a loss in front": lambda f, z: (z.sum(), z),
    "a reconstruction beside": lambda f, z: {"logits": z, "image": (z @ z.T).relu().reshape(1, 1, 1, 1, 1)},
}


@pytest.mark.parametrize("name", PACKS)
def test_of_several_tensors_the_logits_are_explained_and_it_is_said(name):
    target, fact, limits, heat = said(Several(PACKS[name]))
    expected = said(Net())
    assert (target, fact) == expected[:2] and np.allclose(heat, expected[3])
    assert sum("is explained, not" in sentence for sentence in limits) == 1


def test_the_last_head_of_a_nested_unet_is_the_deepest():
    torch.manual_seed(0)
    network = BasicUNetPlusPlus(3, 1, 2, (4, 4, 8, 8, 16, 4), deep_supervision=True).eval()
    x = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        sizes = [f"{int((head.argmax(1) == 1).sum()) / 1000:.1f} mL" for head in network(x)]
    assert len(set(sizes)) == 4
    assert said(network, x, targets=[1])[1].startswith(sizes[3])
    found = [said(network, x, targets=[1], output=n)[1] for n in (0, "1", -2)]
    assert all(fact.startswith(size) for fact, size in zip(found, sizes, strict=False))


def test_of_heads_of_several_sizes_the_finest_is_explained():
    network = Segmenter(lambda z: [F.avg_pool3d(z, 2), z, F.avg_pool3d(z, 4)])
    assert said(network, targets=[1])[1] == said(Segmenter(), targets=[1])[1]


@pytest.mark.parametrize(
    ("which", "place"), [(0, 0), ("features", 0), (-1, 1), ("-1", 1), ("logits", 1)], ids=lambda value: str(value)
)
def test_the_tensor_asked_for_is_explained(which, place):
    network = Several(lambda f, z: {"features": f, "logits": z})
    with torch.no_grad():
        own = list(network(X).values())[place][0].softmax(0)
    assert said(network, output=which)[:2] == (str(int(own.argmax())), f"p {own.max():.3f}")


@pytest.mark.parametrize(("which", "there"), [("foo", "features, logits"), (2, "features, logits")])
def test_an_output_that_there_is_not_is_a_sentence(which, there):
    with pytest.raises(InputError, match=rf"no output {which!r}: it gives {there}"):
        explain(Several(lambda f, z: {"features": f, "logits": z}), X, output=which)
    with pytest.raises(InputError, match="a single tensor"):
        explain(Net(), X, output=which)
    with pytest.raises(InputError, match=r"output\.which"):
        explain(Model(card(labels=3), Net(), "cpu", "", ""), volume(), output=which)


@pytest.mark.parametrize("shape", [lambda z: z, lambda z: z.squeeze(1)], ids=["(batch, 1)", "(batch,)"])
def test_one_number_is_no_probability(shape):
    network = Net(lambda z: shape(58.3 + 0 * z), classes=1)
    assert said(network)[1] == "58.3" and explain(network, X)[0].provenance["score"] == "value"
    assert said(Net(lambda z: shape(z).sigmoid(), classes=1))[1].startswith("p 0.")


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (lambda z: z[0], "for one sample"),
        (lambda z: z.t(), "for one sample"),
        (lambda z: z.repeat(2, 1), "for one sample"),
        (lambda z: z[:, :0], "for one sample"),
        (lambda z: z > 0, "no real numbers"),
        (lambda z: z.argmax(1), "no real numbers"),
        (lambda z: z * 1j, "no real numbers"),
        (lambda z: z[..., None, None, None].expand(1, 3, 8, 8, 8), "at 8 x 8 x 8 places"),
    ],
)
def test_what_is_no_score_of_one_sample_is_a_sentence(end, sentence):
    with pytest.raises(InputError, match=sentence):
        explain(Net(end), X)


@pytest.mark.parametrize("end", [lambda z: 100 * z.softmax(1), lambda z: 2 * z.sigmoid() + 1])
def test_what_is_made_of_probabilities_and_is_none_is_remarked(end):
    assert any("made of probabilities" in limit for limit in texts(explain(Net(end), X)[0].caveats))
    assert not any("made of" in limit for limit in texts(explain(Net(lambda z: z.softmax(1).log()), X)[0].caveats))


@pytest.mark.parametrize("back", [False, True], ids=["to probabilities", "to logits"])
def test_a_network_whose_end_is_changed_is_looked_at_anew(back):
    ends = [nn.Identity(), nn.Softmax(1)][:: -1 if back else 1]
    network = Net(ends[0])
    first = said(network)[1]
    network.end = ends[1]
    assert said(network)[1] == first
    other = Net(lambda z: z)
    assert said(other)[1] == first
    other.end = lambda z: z.softmax(1)
    assert said(other)[1] == first


def test_the_network_is_as_it_was_and_its_layers_keep_their_names():
    network = Net(nn.Softmax(1))
    before, parts = {k: v.clone() for k, v in network.state_dict().items()}, dict(vars(network))
    (found,) = explain(network, X)
    assert found.layer == explain(Net(), X)[0].layer
    assert vars(network) == parts and all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    model = Model(card(labels=3, kind="probabilities"), network, "cpu", "", "")
    assert list(model.network.state_dict()) == list(before)
    assert [name for name, _ in model.network.named_modules()] == [name for name, _ in network.named_modules()]


# -- cards -------------------------------------------------------------------------------------------------------------


def card(labels: int, task: str = "classification", **output) -> ModelCard:
    names = [{"name": f"class {n}"} for n in range(labels)]
    fields = {"network": {"architecture": "Net"}, "weights": {"file": "none"}, "spatial": {"mode": "whole"}}
    return ModelCard.model_validate({"name": "mine", "task": task, "output": {"labels": names, **output}, **fields})


def volume() -> Volume:
    return Volume(X[0, 0].numpy(), np.eye(4))


RIGHT = {
    "softmax": (nn.Softmax(1), {"kind": "probabilities"}),
    "sigmoid": (nn.Sigmoid(), {"kind": "probabilities", "activation": "sigmoid"}),
    "mean of softmaxes": (UNDONE["mean of two softmaxes"], {"kind": "probabilities"}),
    "log_softmax": (nn.LogSoftmax(1), {"kind": "log_probabilities"}),
    "second of two": (lambda z: (z * 2, z.softmax(1)), {"kind": "probabilities", "which": 1}),
    "by name": (
        lambda z: {"f": z * 2, "heads": [z, z.sigmoid()]},
        {"kind": "probabilities", "activation": "sigmoid", "which": "heads.-1"},
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_card_that_is_right_gives_the_networks_own_probabilities(name):
    end, output = RIGHT[name]
    network = Net(end)
    with torch.no_grad():
        own = network(X)
    own = {"second of two": lambda: own[1], "by name": lambda: own["heads"][1], "log_softmax": lambda: own.exp()}.get(
        name, lambda: own
    )()
    model = Model(card(labels=3, **output), network, "cpu", "", "")
    prediction = predict(model, volume())
    assert np.allclose(list(prediction.probabilities.values()), own[0], atol=1e-6)
    z = prediction.logits
    back = torch.tensor(z).sigmoid() if output.get("activation") else torch.tensor(z).softmax(1)
    assert np.allclose(back, own, atol=1e-6)


WRONG = {
    "a log-softmax called logits": (
        nn.LogSoftmax(1),
        {"activation": "sigmoid"},
        "ends in a log_softmax",
        '"log_probabilities"',
    ),
    "a log-sigmoid called logits": (F.logsigmoid, {}, "ends in a logsigmoid", '"activation": "sigmoid"'),
    "a softmax called a value": (nn.Softmax(1), {"kind": "value", "unit": "years"}, "says value", '"probabilities"'),
    "log-probabilities that do not sum to 1": (
        lambda z: -F.softplus(z),
        {"kind": "log_probabilities"},
        "sum to",
        '"activation": "sigmoid"',
    ),
    "a sum of softmaxes called logits": (UNDONE["summed from nothing"], {}, "values of a softmax", '"probabilities"'),
    "a softmax called logits": (
        nn.Softmax(1),
        {},
        "ends in a softmax",
        '"kind": "probabilities", "activation": "softmax"',
    ),
    "a sigmoid called logits": (
        nn.Sigmoid(),
        {},
        "ends in a sigmoid",
        '"kind": "probabilities", "activation": "sigmoid"',
    ),
    "a mean of softmaxes called logits": (
        UNDONE["mean of two softmaxes"],
        {},
        "values of a softmax",
        '"probabilities"',
    ),
    "a softmax by hand called logits": (softmax_by_hand, {}, "values of a softmax", '"kind": "probabilities"'),
    "the second, a softmax, called logits": (
        lambda z: (z, z.softmax(1)),
        {"which": 1},
        "ends in a softmax",
        '"probabilities"',
    ),
    "logits called probabilities": (nn.Identity(), {"kind": "probabilities"}, "values from", '"kind": "logits"'),
    "logits called log-probabilities": (nn.Identity(), {"kind": "log_probabilities"}, "up to", '"kind": "logits"'),
    "sigmoids called a softmax": (nn.Sigmoid(), {"kind": "probabilities"}, "sigmoid", '"activation": "sigmoid"'),
    "scores that do not sum to 1": (
        lambda z: z.sigmoid() ** 2,
        {"kind": "probabilities"},
        "sum to",
        '"activation": "sigmoid"',
    ),
    "a log-softmax called a softmax": (
        nn.LogSoftmax(1),
        {"kind": "probabilities"},
        "log_softmax",
        '"log_probabilities"',
    ),
    "which is not said": (lambda z: (z * 2, z), {}, "several tensors", '"which": "0"'),
    "which is none of them": (lambda z: (z * 2, z), {"which": 5}, "no output 5", "output.which"),
}


@pytest.mark.parametrize("name", WRONG)
def test_card_and_network_that_disagree_are_refused_by_field(name):
    end, output, what, write = WRONG[name]
    with pytest.raises(InputError) as error:
        predict(Model(card(labels=3, **output), Net(end), "cpu", "", ""), volume())
    message = str(error.value)
    assert what in message and write in message and "output" in message and "\n" not in message


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_softmax_over_one_label_is_refused(task):
    network = {"classification": Net, "segmentation": Segmenter}[task](classes=1)
    with pytest.raises(InputError, match='one label.*"activation": "sigmoid"'):
        predict(Model(card(1, task), network, "cpu", "", ""), volume())


def test_other_tensors_beside_the_only_one_that_fits_are_no_obstacle():
    network = Net(lambda z: (z, z.sum()))
    with torch.no_grad():
        own = network(X)[0].softmax(1)[0]
    assert np.allclose(
        list(predict(Model(card(labels=3), network, "cpu", "", ""), volume()).probabilities.values()), own
    )


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_a_file_that_ends_in_probabilities(kind, tmp_path, monkeypatch):
    """From ``card new`` over a refused card to the right number."""
    monkeypatch.setenv("MEDXAI_CONFIG", str(tmp_path / "config"))
    network = Net({"sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(1)}[kind], 1 if kind == "sigmoid" else 3, 2)
    torch.export.save(torch.export.export(network, (torch.rand(1, 1, 16, 16),)), tmp_path / "net.pt2")
    picture = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "x.png")
    drafted = drafting.draft_card(tmp_path / "net.pt2", trust=True)[0]["output"]
    assert (drafted["kind"], drafted["activation"], "which" in drafted) == ("probabilities", kind, False)
    fields = card(len(drafted["labels"])).written() | {
        "network": {"architecture": "file"},
        "weights": {"file": "net.pt2"},
        "spatial": {"mode": "slices"},
        "input": {"color": "luminance", "intensity": {"rule": "eight_bit"}},
    }
    job = Job(task="predict", inputs={"": str(tmp_path / "x.png")}, model=str(tmp_path / "net.json"), trust=True)
    names = [{"name": f"class {n}"} for n in range(len(drafted["labels"]))]
    (tmp_path / "net.json").write_text(json.dumps(fields | {"output": {"labels": names, "activation": kind}}))
    with pytest.raises(InputError, match=f"ends in a {kind}"):
        check_card(job, tmp_path / "seen.png")
    (tmp_path / "net.json").write_text(json.dumps(fields | {"output": drafted | {"labels": names}}))
    with torch.no_grad():
        own = network(torch.tensor(picture / 255.0)[None, None].float())[0]
    lines = check_card(job, tmp_path / "seen.png")
    assert [line for line in lines if line.startswith("class")] == [f"class {n}: {p:.4f}" for n, p in enumerate(own)]


def test_a_draft_proposes_which_of_several_tensors(tmp_path):
    network = Several(lambda f, z: (f, z.softmax(1)))
    torch.export.save(torch.export.export(network, (X,)), tmp_path / "net.pt2")
    torch.jit.trace(network, X).save(tmp_path / "net.pt")
    for name in ("net.pt2", "net.pt"):
        drafted = drafting.draft_card(tmp_path / name, trust=True)[0]
        assert (drafted["output"]["which"], drafted["output"]["kind"]) == ("1", "probabilities")
        assert drafted["schema_version"] == 1


@pytest.mark.parametrize("shape", [lambda z: z, lambda z: z.squeeze(1)], ids=["(batch, 1)", "(batch,)"])
def test_a_regression_shows_its_value_everywhere(shape, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDXAI_CONFIG", str(tmp_path / "config"))
    network = Net(lambda z: shape(58.3 + 0.001 * z), 1, 2)
    torch.export.save(torch.export.export(network, (torch.rand(1, 1, 16, 16),)), tmp_path / "age.pt2")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.uint8)).save(tmp_path / "x.png")
    fields = card(1).written() | {
        "network": {"architecture": "file"},
        "weights": {"file": "age.pt2"},
        "spatial": {"mode": "slices"},
        "input": {"color": "luminance", "intensity": {"rule": "eight_bit"}},
        "output": {"labels": [{"name": "age"}], "kind": "value", "unit": "years"},
    }
    (tmp_path / "age.json").write_text(json.dumps(fields))
    job = Job(
        task="explain",
        inputs={"": str(tmp_path / "x.png")},
        model=str(tmp_path / "age.json"),
        methods=("gradcam",),
        trust=True,
    )
    summary = run(job, tmp_path / "out")
    (case,) = summary["cases"]
    assert case["values"]["age"] == pytest.approx(58.3, abs=0.05) and case["unit"] == "years"
    assert "probabilities" not in case and not (tmp_path / "out" / "predictions.csv").exists()
    with (tmp_path / "out" / "values.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["name"], row["unit"], float(row["value"])) == ("age", "years", pytest.approx(58.3, abs=0.05))
    (facts,) = [
        json.loads(p.read_text()) for p in (tmp_path / "out").rglob("x_age_gradcam_*.json") if "regions" not in p.name
    ]
    assert (facts["model_output"], facts["score"]) == ("58.3 years", "value")
    assert "age: 58.3 years" in check_card(job, tmp_path / "seen.png")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(58.3021, "years", "58.3 years"), (-1234.5, "mL", "-1234 mL"), (0.00123, "", "0.00123")],
)
def test_a_quantity_in_words(value, unit, words):
    assert quantity(value, unit) == words


def test_training_learns_from_logits_though_the_network_ends_in_a_softmax():
    wanted = card(labels=3, kind="probabilities")
    (output,) = trained_outputs(wanted, Model(wanted, Net(nn.Softmax(1)), "cpu", "", "").network.train(), X)
    assert torch.allclose(output, Net()(X))


# -- colour ------------------------------------------------------------------------------------------------------------


def test_a_grey_picture_for_a_network_of_colours_is_given_three_times():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    grey = torch.rand(1, 1, 12, 12)
    remarks = []
    (one,) = explain(network, grey, targets=[1], say=remarks.append)
    (three,) = explain(network, grey.expand(-1, 3, -1, -1), targets=[1])
    assert (
        np.array_equal(one.volume.array, three.volume.array)
        and remarks == [REPEATED]
        and REPEATED in texts(one.caveats)
    )
    fields = card(2).written() | {"spatial": {"mode": "slices", "axis": "k"}, "input": {"color": "rgb"}}
    model = Model(ModelCard.model_validate(fields), network, "cpu", "", "")
    prediction = predict(model, Volume(grey[0].numpy(), np.eye(4)))
    with torch.no_grad():
        own = network(grey.expand(-1, 3, -1, -1)).softmax(1)[0]
    assert np.allclose(list(prediction.probabilities.values()), own) and REPEATED in prediction.prepared.remarks


@pytest.mark.parametrize("name", ["brain-tumor-slices", "planted-lesion"])
def test_a_model_of_the_zoo_is_read_as_it_is(name):
    model = load_model(name, device="cpu")
    assert not hasattr(model.network, "whole") and model.card.output.kind == "logits"


def test_a_linear_layer_is_not_doubted():
    """Whatever its values are."""
    network = Net(lambda z: torch.stack([0.5 + z / 1e6, 0.5 + z / 1e6]).mean(0))
    with torch.no_grad():
        assert ((network(100 * X) > 0) & (network(100 * X) < 1)).all()
    assert not any("if they are probabilities" in sentence for sentence in said(network)[2])


@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Softmax(1)], ids=["sigmoid", "softmax"])
def test_a_card_says_of_torchscript_that_it_gives_probabilities(end):
    network = Net(end)
    activation = "sigmoid" if isinstance(end, nn.Sigmoid) else "softmax"
    fields = card(labels=3, kind="probabilities", activation=activation)
    prediction = predict(Model(fields, torch.jit.trace(network, X), "cpu", "", ""), volume())
    with torch.no_grad():
        own = network(X)[0]
    assert np.allclose(list(prediction.probabilities.values()), own, atol=1e-6)
