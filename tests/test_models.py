"""Builders: published sizes, one width per group, errors that name the remedy."""

import json

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import inputs
from torch import nn

from lib import models

# Parameters of the default networks, biases and norms included. lenet5: Caffe's 431,080. vgg16, one linear layer:
# the 14,728,266 of kuangliu/pytorch-cifar less the 4,224 convolution biases that batch norm makes idle. resnet56:
# 0.85 M in arXiv 1512.03385, with option A. resnet50: weiaicunzai/pytorch-cifar100. mobilenetv2: torchvision's with
# 10 classes. unet: the 17,262,977 of milesial/Pytorch-UNet (bilinear, one class) less two input channels of 9 × 64.
PARAMETERS = {
    "mlp": 266_610,
    "lenet5": 431_080,
    "vgg16": 14_728_266 - 4_224,
    "resnet56": 855_770,
    "resnet50": 23_705_252,
    "mobilenetv2": 2_236_682,
    "unet": 17_262_977 - 1_152,
    "ct_cnn": 388_834,
}


def small(name, **options):
    return models.build(name, widths=models.widths(name, scale=0.1), **options)


@pytest.mark.parametrize("name", models.BUILDERS)
def test_parameter_counts_are_the_published_ones(name):
    with torch.device("meta"):
        net = models.build(name)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", models.BUILDERS)
def test_config_is_plain_data_that_rebuilds_the_network(name):
    torch.manual_seed(0)
    net = small(name)
    config = json.loads(json.dumps(net.config))
    torch.manual_seed(0)
    again = models.build(**config)
    assert again.config == net.config == config
    assert again.groups == net.groups
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), net.parameters(), strict=True))


@pytest.mark.parametrize("name", models.BUILDERS)
def test_forward_backward_and_every_weight_has_a_gradient(name):
    net = small(name)
    x = inputs(name, 4)
    out = net(x)
    assert out.shape == ((4, 1, 33, 40) if name == "unet" else (4, net.config["outputs"]))
    out.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", models.BUILDERS)
def test_channels_last_gives_the_same_outputs(name):
    net = small(name).double().eval()
    x = inputs(name, 2, dtype=torch.float64)
    expected = net(x)
    last = x.to(memory_format=torch.channels_last) if x.dim() == 4 else x
    torch.testing.assert_close(net.to(memory_format=torch.channels_last)(last), expected)


@pytest.mark.parametrize("name", models.BUILDERS)
@settings(derandomize=True, deadline=None, max_examples=5)
@given(data=st.data())
def test_every_width_is_one_groups_own(name, data):
    default = models.widths(name)
    widths = data.draw(st.lists(st.integers(1, 7), min_size=len(default), max_size=len(default)))
    net = models.build(name, widths=widths).eval()
    assert [group.width for group in net.groups] == widths
    for group in net.groups:
        for step in group.producers + group.depthwise:
            assert net.get_submodule(step.layer).weight.shape[0] == group.width
    assert net(inputs(name, 1)).isfinite().all()


@pytest.mark.parametrize("name", models.BUILDERS)
def test_consumers_tile_every_layers_columns(name):
    """Each weight but that of the input layer is read by its groups once, without gap or overlap."""
    net = small(name)
    columns = {}
    for group in net.groups:
        for s in group.consumers:
            start = s.offset * s.block
            columns.setdefault(s.layer, []).extend(range(start, start + group.width * s.block))
    depthwise = {s.layer for group in net.groups for s in group.depthwise}
    layers = [key.removesuffix(".weight") for key in models.weights(net)]
    assert columns.keys() == set(layers[1:]) - depthwise
    for layer, read in columns.items():
        assert sorted(read) == list(range(net.get_submodule(layer).weight.shape[1]))


def test_groups_tie_what_must_shrink_together():
    skip = next(g for g in small("unet").groups if len(g.consumers) == 2)
    assert [c.layer for c in skip.consumers] == ["skip1.inner.conv2a1", "conv1b1"]
    trunk = next(g for g in small("resnet56").groups if len(g.producers) == 10)
    assert len(trunk.consumers) == 9 + 2  # one per block, then the next stage's first convolution and its shortcut
    assert small("lenet5").groups[1].consumers[0].block == 4 * 4
    assert sum(len(g.depthwise) for g in small("mobilenetv2").groups) == 17


def test_weights_leave_out_biases_and_norms():
    assert list(models.weights(models.build("mlp"))) == ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert len(models.weights(small("vgg16"))) == 14


def test_truncated_normal_is_that_of_the_demo():
    torch.manual_seed(0)
    net = models.build("mlp", widths=[400], init="truncated_normal")
    assert net.fc1.weight.abs().max() <= 0.2
    assert net.fc1.weight.std().item() == pytest.approx(0.088, abs=1e-3)  # σ = 0.1 cut at 2σ
    assert (net.fc2.bias == 0.1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg"}, "unknown network 'vgg'; known: mlp, lenet5, vgg16"),
        ({"name": "lenet5", "widths": [1, 2]}, "lenet5 takes 3 widths, got 2"),
        ({"name": "mlp", "widths": [3, 0]}, r"widths of mlp must be a whole number in \[1, inf\), got 0"),
        ({"name": "mlp", "widths": [32.9]}, r"widths of mlp must be a whole number in \[1, inf\), got 32.9"),
        ({"name": "mlp", "widths": [True]}, "widths of mlp must be a whole number .* got True"),
        ({"name": "mlp", "outputs": True}, r"outputs of mlp must be a whole number in \[1, inf\), got True"),
        ({"name": "mlp", "inputs": 64.0}, "inputs of mlp must be a whole number .* got 64.0"),
        ({"name": "mlp", "widths": 32}, "mlp takes a list of widths, got 32"),
        ({"name": "unet", "widths": [4] * 7}, "4·levels \\+ 2 widths"),
        ({"name": "mlp", "size": 28}, "mlp has no option size; known: inputs"),
        ({"name": "mlp", "activation": "gelu"}, "unknown activation 'gelu'; known: relu"),
        ({"name": "resnet50", "stem": "small"}, "unknown stem 'small'; known: cifar"),
        ({"name": "vgg16", "size": 28}, "size >= 32, got 28"),
        ({"name": "ct_cnn", "widths": []}, "ct_cnn takes one width at least, got none"),
    ],
)
def test_errors_name_the_value_and_the_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(**arguments)


@pytest.mark.parametrize("layer", [torch.nn.GELU(), torch.nn.Conv2d(4, 4, 1, groups=2)])
def test_a_layer_without_a_rule_is_refused(layer):
    with pytest.raises(TypeError, match=f"no rule for layer '1' of type {type(layer).__name__}"):
        models.table(torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), layer))


def test_a_network_of_others_has_no_groups_and_is_regularised_all_the_same():
    net = torchvision.models.resnet18(num_classes=3)
    assert models.groups(net) == ()  # though net.groups is 1
    assert models.groups(small("mlp")) == small("mlp").groups != ()
    assert [view(w).shape for view, w in zip(models.unit_views(net), models.weights(net).values(), strict=True)] == [
        w.shape for w in models.weights(net).values()
    ]


@pytest.mark.parametrize("name", models.BUILDERS)
def test_all_matrices_of_the_builders_networks_are_prunable(name):
    net = small(name)
    assert list(models.weights(net)) == [key for key, p in net.named_parameters() if p.dim() >= 2]
    assert all(p is dict(net.named_parameters())[key] for key, p in models.weights(net).items())


class Parts(nn.Module):
    """What looks like a weight, and what is one."""

    def __init__(self):
        super().__init__()
        self.layer_scale, self.token = nn.Parameter(torch.ones(4, 1, 1)), nn.Parameter(torch.ones(1, 1, 4))
        self.words, self.norm = nn.Embedding(9, 4), nn.LayerNorm([3, 4])
        self.conv, self.up = nn.Conv1d(4, 4, 3), nn.ConvTranspose2d(4, 6, 2)
        self.attention, self.recurrent, self.cell = nn.MultiheadAttention(4, 2), nn.LSTM(4, 3), nn.GRUCell(4, 3)
        self.other = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
        self.head = nn.Linear(4, 9)


def test_weights_are_those_of_layers_that_multiply_their_inputs():
    net = Parts()
    halves = ["recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "cell.weight_ih", "cell.weight_hh"]
    expected = ["conv.weight", "up.weight", "attention.in_proj_weight", "attention.out_proj.weight", *halves]
    expected += [f"other.{key}_proj_weight" for key in "qkv"] + ["other.out_proj.weight", "head.weight"]
    assert list(models.weights(net)) == expected
    net.head.weight = net.words.weight
    assert models.weights(net)["head.weight"] is net.words.weight, "a shared one is a weight where a layer multiplies"
    net.prunable = ["layer_scale", "head.weight"]
    assert list(models.weights(net)) == ["layer_scale", "head.weight"], "the caller's choice"
    net.prunable = ["head.wait"]
    with pytest.raises(ValueError, match="prunable names 'head.wait', which is no parameter of two axes"):
        models.weights(net)


LAYERS = {
    "linear": (nn.Linear(6, 4), (5, 6)),
    "conv": (nn.Conv2d(6, 4, 3), (2, 6, 5, 5)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6), (2, 6, 5, 5)),
    "depthwise, doubled": (nn.Conv2d(6, 12, 3, groups=6), (2, 6, 5, 5)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2), (2, 6, 5, 5)),
    "grouped, one each": (nn.Conv1d(6, 3, 3, groups=3), (2, 6, 5)),
    "transposed": (nn.ConvTranspose2d(6, 4, 3), (2, 6, 5, 5)),
    "transposed, grouped": (nn.ConvTranspose2d(6, 4, 3, groups=2), (2, 6, 5, 5)),
    "recurrent": (nn.RNN(6, 4, batch_first=True), (2, 5, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_unit_of_a_view_is_what_an_input_channel_is_multiplied_by(kind):
    """By the gradient of the outputs' sum of squares: with one input channel only its own unit has one."""
    layer, shape = LAYERS[kind]
    channel = len(shape) - 1 if kind in ("linear", "recurrent") else 1
    for unit in range(6):
        layer.zero_grad()
        x = torch.zeros(shape)
        x.select(channel, unit).normal_()
        out = layer(x)
        (out[0] if isinstance(out, tuple) else out).square().sum().backward()
        weight = next(iter(models.weights(layer).values()))
        units = models.unit_views(layer)[0](weight.grad).transpose(0, 1).flatten(1)
        assert len(units) == 6
        assert units.any(1).nonzero().flatten().tolist() == [unit] and units[unit].all()


def test_a_scale_of_widths_is_positive():
    for scale in (0, -1, float("nan"), True):
        with pytest.raises(ValueError, match=r"scale must be in \(0, inf\), got"):
            models.widths("mlp", scale=scale)
