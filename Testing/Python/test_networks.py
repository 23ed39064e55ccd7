"""The networks of the papers: sizes against published counts, parts against their equations, stages that all count."""

from __future__ import annotations

import pytest
import torch

from MedXAILib.models.card import ModelCard
from MedXAILib.models.layers import inspect, last_decoder, stages
from MedXAILib.models.loading import build
from MedXAILib.models.networks import architecture
from MedXAILib.models.networks.doubleunet import ASPP, foreground
from MedXAILib.models.networks.mcgunet import ConvLSTM
from MedXAILib.models.networks.r2unet import Recurrent
from MedXAILib.models.networks.unetclassifier import CHEXPERT
from MedXAILib.training.recipe import known_recipes, read_recipe

SEGMENTERS = {
    "DoubleUNet": {"dilations": [1, 2, 3], "encoder_norm": True},
    "R2UNet": {"instance_norm": True},
    "MCGUNet": {"batch_norm": True},
}


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "published"),
    [
        ("DoubleUNet", {}, 29_288_886),
        ("R2UNet", {}, 39_091_393),
        ("R2UNet", {"steps": 5}, 39_091_393),
        ("MCGUNet", {"bidirectional": False}, 27_891_005),
        ("MCGUNet", {}, 34_085_949),
    ],
)
def test_parameters_are_those_of_the_released_networks(name, arguments, published):
    """Counted from the public reference implementations, 3 channels in, 1 out, 2D."""
    with torch.device("meta"):
        assert parameters(architecture(name)(2, 3, 1, **arguments)) == published


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_segmenter_gives_logits_of_the_inputs_size_that_every_stage_has_a_part_in(name, spatial_dims):
    torch.manual_seed(0)
    network = architecture(name)(spatial_dims, 2, 3, width=4, **SEGMENTERS[name]).eval()
    x = torch.randn(1, 2, *[32, 48, 32][:spatial_dims])
    kept = {}
    names = [stage.name for stage in stages(inspect(network, x.shape))]
    for stage in names:
        network.get_submodule(stage).register_forward_hook(
            lambda _m, _i, output, stage=stage: kept.update({stage: output})
        )
    logits = network(x)
    assert logits.shape == (1, 3, *x.shape[2:])
    assert logits.min() < 0 < logits.max(), "logits, not probabilities"
    gradients = torch.autograd.grad(logits[:, 1].sum(), list(kept.values()))
    assert len(kept) >= 7 and all(g.abs().max() > 0 for g in gradients)
    assert any("decoder" in stage or "output" in stage for stage in last_decoder(inspect(network, x.shape)))


def test_a_unet_classifier_has_the_14_labels_and_a_gradient_at_every_stage():
    torch.manual_seed(0)
    network = architecture("UNetClassifier")(2, width=4).eval()
    kept = {}
    for part in ("encoder", "decoder"):
        for number, stage in enumerate(getattr(network, part)):
            stage.register_forward_hook(lambda _m, _i, output, name=f"{part}.{number}": kept.update({name: output}))
    logits = network(torch.randn(2, 1, 50, 64))  # sides need not be multiples of anything
    assert logits.shape == (2, 14) and CHEXPERT[0] == "No Finding" and CHEXPERT[-1] == "Support Devices"
    gradients = torch.autograd.grad(logits[:, 3].sum(), list(kept.values()))
    assert len(kept) == 9 and all(g.abs().max() > 0 for g in gradients)
    weights = network.head[1].weight
    assert weights.shape[1] == 4 * (1 + 2 + 4 + 8 + 16 + 8 + 4 + 2 + 1), "every stage is pooled into the feature"


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_brain_tumour_cnn_takes_slices_and_volumes(spatial_dims):
    network = architecture("BrainTumorCNN")(spatial_dims, 4, width=4).eval()
    assert network(torch.randn(2, 1, *[40, 32, 36][:spatial_dims])).shape == (2, 4)


def test_a_conv_lstm_follows_its_equations():
    """Shi et al. 2015, eq. 3 without peepholes, each gate with a convolution of its own."""
    torch.manual_seed(0)
    cell = ConvLSTM(2, 5).double()
    sequence = [torch.randn(2, 5, 6, 7, dtype=torch.float64) for _ in range(3)]
    per_gate = zip(cell.inputs.weight.chunk(4), cell.inputs.bias.chunk(4), cell.hidden.weight.chunk(4), strict=True)
    gates = dict(zip("ifog", per_gate, strict=True))
    h = c = torch.zeros(2, 5, 6, 7, dtype=torch.float64)
    for x in sequence:
        value = {
            name: torch.conv2d(x, wx, b, padding=1) + torch.conv2d(h, wh, padding=1)
            for name, (wx, b, wh) in gates.items()
        }
        c = torch.sigmoid(value["f"]) * c + torch.sigmoid(value["i"]) * torch.tanh(value["g"])
        h = torch.sigmoid(value["o"]) * torch.tanh(c)
    assert torch.allclose(cell(sequence), h, atol=1e-12)


def test_a_recurrent_convolution_is_applied_once_more_than_its_steps():
    """Alom et al. 2018, eqs. 1-2: the state is the convolution of the input plus the state before."""
    torch.manual_seed(0)
    block = Recurrent(2, 3, 2, "BATCH").eval()
    x = torch.randn(1, 3, 8, 8)
    state = torch.zeros_like(x)
    for _ in range(3):
        state = block.conv(x + state)
    assert torch.equal(block(x), state)


def test_the_aspps_mean_branch_sees_the_whole():
    torch.manual_seed(0)
    aspp = ASPP(2, 3, 4, (1, 2)).eval()
    x = torch.randn(1, 3, 9, 9, requires_grad=True)
    (reach,) = torch.autograd.grad(aspp(x)[0, :, 0, 0].sum(), x)
    assert (reach[0].abs().sum(0) > 0).all()


def test_the_second_unet_sees_the_input_through_the_first_ones_mask():
    torch.manual_seed(0)
    network = architecture("DoubleUNet")(2, 1, 3, width=4).eval()
    seen = []
    network.encoder2[0].register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    x = torch.randn(1, 1, 32, 32)
    conv = network.output1.conv
    torch.nn.init.zeros_(conv.weight)
    for bias, share in (([50.0, 0, 0], 0.0), ([0.0, 50, 0], 1.0), ([0.0, 0, 0], 2 / 3)):
        conv.bias.data = torch.tensor(bias)
        network(x)
        assert torch.allclose(seen[-1], share * x, atol=1e-5)
    assert torch.allclose(foreground(torch.zeros(1, 1, 2, 2)), torch.tensor(0.5))
    both = network.train()(torch.randn(2, 1, 32, 32))
    assert len(both) == 2 and both[0].shape == both[1].shape == (2, 3, 32, 32)


@pytest.mark.parametrize("name", known_recipes())
def test_a_recipes_network_can_be_built_and_has_the_cards_layers(name):
    card: ModelCard = read_recipe(name).model_card()
    network = build(card)
    assert 2 * parameters(network) < 5e6, "half precision, below 5 MB"
    assert set(card.layers) <= {layer for layer, _ in network.named_modules()}
