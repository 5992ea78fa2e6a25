"""The contract mask → shrink → same outputs for networks that are not built here, and where it is refused.

What single kinds of layers and inputs do is in test_depgraph_kinds.py.
"""

import copy

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_shrinking import assert_same, mask, renorm, trained, varies
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from lib import depgraph, models, shrinking

CONTRACT = settings(
    derandomize=True,
    deadline=None,
    max_examples=10,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def linear():
    layers = [nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(8, 7), nn.Sigmoid(), nn.Linear(7, 4)), (3, 2, 2)


def convolutions():
    """Constants can be folded behind the first, not behind the padded one; a flatten of 2 × 2 positions."""
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU6(), nn.Conv2d(6, 7, 3, bias=False), nn.BatchNorm2d(7), nn.LeakyReLU()]
    layers += [nn.MaxPool2d(2), nn.Conv2d(7, 6, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(24, 5)]
    return nn.Sequential(*layers), (3, 8, 8)


def resnet18():
    """torchvision's, with fewer channels and the stem for small images."""
    net = torchvision.models.resnet18(num_classes=5)
    net.inplanes, net.maxpool = 5, nn.Identity()
    net.conv1, net.bn1 = nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
    for k, width in enumerate((5, 6, 7, 8)):
        setattr(net, f"layer{k + 1}", net._make_layer(BasicBlock, width, 2, stride=1 + (k > 0)))
    net.fc = nn.Linear(8, 5)
    return net, (3, 8, 8)


def mobilenet_v2():
    blocks = [[1, 8, 1, 1], [6, 8, 2, 2], [6, 16, 2, 2]]  # expansion, channels, number, stride
    return torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.5, inverted_residual_setting=blocks), (3, 16, 16)


class Gated(nn.Module):
    """What torchvision's two do not have: a concatenation, a gate on channels, functional layers, two outputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 5, 1)
        self.down, self.up = nn.Conv2d(11, 4, 1), nn.Conv2d(4, 11, 1)
        self.norm, self.last = nn.BatchNorm2d(11), nn.Conv2d(11, 6, 3)
        self.head, self.other = nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x):
        x = self.norm(torch.cat([self.a(x), F.relu(self.b(x))], 1))
        x = x * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        x = F.relu(self.last(x)).mean((2, 3))
        return torch.cat([self.head(x), self.other(x)], 1)


def gated():
    return Gated(), (3, 6, 6)


def silence(net):
    """Nothing is left of a channel whose filter is gone."""
    layers = dict(net.named_modules())
    for layer, norm in zip(layers.values(), list(layers.values())[1:], strict=False):
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and hasattr(layer, "weight"):
            dead = ~layer.weight.flatten(1).any(1)
            norm.bias[dead] = norm.running_mean[dead] = 0


def masked(build, *, weight_rate, unit_rate, silent, seed):
    """A float64 network with batch norm's statistics of its own, random weights and units zero on a random side."""
    torch.manual_seed(seed)
    net, shape = build()
    net, x = net.double(), torch.randn(8, *shape, dtype=torch.float64)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.bias.normal_(std=0.5)
            elif hasattr(layer, "weight"):
                layer.weight *= torch.rand(layer.weight.shape) >= weight_rate
                axis = int(torch.randint(2, ())) if layer.weight.shape[1] > 3 else 0
                units = torch.rand(layer.weight.shape[axis]) < unit_rate * (layer.weight.shape[0] > 4)
                layer.weight.transpose(0, axis)[units] = 0
        for _ in range(4):  # or the statistics that it began with would drown the signal
            renorm(net, x)
        if silent:
            silence(net)
    return net.eval(), x


@pytest.mark.parametrize("build", [linear, convolutions, resnet18, mobilenet_v2, gated])
def test_masked_and_shrunk_agree(build):
    counts = {"varying": 0, "smaller": 0}

    @CONTRACT
    @given(
        weight_rate=st.sampled_from([0.0, 0.3, 0.7]),
        unit_rate=st.sampled_from([0.0, 0.3, 0.6]),
        silent=st.booleans(),
        seed=st.integers(0, 10**6),
    )
    def contract(**rates):
        net, x = masked(build, **rates)
        small = depgraph.shrink(net, x[:1], keep_one=True)
        assert_same(small, net, x, 1e-10)
        assert size(depgraph.shrink(small, x[:1], keep_one=True)) == size(small)
        single = copy.deepcopy(net).float()
        assert_same(depgraph.shrink(single, x[:1].float(), keep_one=True), single, x.float(), 1e-4)
        counts["varying"] += varies(net, x)
        counts["smaller"] += size(small) < size(net)

    contract()
    assert min(counts.values()) >= 4, counts


def size(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", models.BUILDERS)
def test_what_goes_is_what_goes_by_the_builders_tables(name):
    """Oracle: lib.shrinking, which reads tables of groups, on networks that have them.

    In a trunk more may go: a channel that is nothing yet for its first readers and unread by its last ones.
    """
    trunks = name in ("resnet56", "resnet50", "mobilenetv2")

    @settings(CONTRACT, max_examples=3 if trunks else 8)
    @given(
        weight_rate=st.sampled_from([0.0, 0.4, 0.8]),
        unit_rate=st.sampled_from([0.2, 0.5]),
        sides=st.sampled_from([("incoming",), ("incoming", "outgoing")]),
        silent=st.booleans(),
        seed=st.integers(0, 10**6),
    )
    def same(silent, **rates):
        net, x = trained(name)
        mask(net, **rates)
        renorm(net, x)
        if silent:
            shrinking.silence(net)
        expected = shrinking.shrink(net, keep_one=True)
        small = depgraph.shrink(net, x[:1], keep_one=True)
        for (key, tensor), other in zip(small.state_dict().items(), expected.state_dict().values(), strict=True):
            assert all(a <= b if trunks else a == b for a, b in zip(tensor.shape, other.shape, strict=True)), key
        assert_same(small, expected, x, 1e-10)

    same()


def two(first=None, last=None):
    return nn.Sequential(first or nn.Linear(3, 4), nn.ReLU(), last or nn.Linear(4, 2)).double().eval()


@torch.no_grad()
def test_a_constant_is_folded_where_that_is_exact_and_stays_behind_padding():
    net = two(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3))
    net[0].weight[:2] = 0
    net[0].bias[:2] = torch.tensor([1.0, -1.0])  # relu leaves 1 and 0
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    assert depgraph.shrink(net, x)[0].out_channels == 2
    net[2].padding = (1, 1)
    small = depgraph.shrink(net, x)
    assert small[0].out_channels == 3
    assert_same(small, net, x, 1e-10)


@torch.no_grad()
def test_a_unit_that_is_silent_on_the_example_alone_stays():
    net = two()
    net[0].bias[0] = -1e4  # only inputs far from the example reach it
    assert depgraph.shrink(net, torch.zeros(1, 3))[0].out_features == 4


@torch.no_grad()
def test_the_argument_is_left_as_it_is():
    net, x = masked(resnet18, weight_rate=0.3, unit_rate=0.5, silent=True, seed=0)
    net.fc.weight.requires_grad_(False)
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    small = depgraph.shrink(net.train(), x)
    assert small.training and net.training
    assert size(small) < size(net)
    assert small.conv1.weight.requires_grad and not small.fc.weight.requires_grad
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


@torch.no_grad()
def test_a_layer_that_dies_wholly_is_named():
    net, x = two(), torch.randn(2, 3, dtype=torch.float64)
    net[2].weight.zero_()
    with pytest.raises(shrinking.ShrinkError, match="no unit left in '0'; prune less there or pass keep_one=True"):
        depgraph.shrink(net, x)
    assert_same(depgraph.shrink(net, x, keep_one=True), net, x, 1e-10)


class Elsewhere(nn.Module):
    """Takes the mean off outside of torch, where no operation is seen."""

    def forward(self, x):
        return x - torch.from_numpy(x.numpy().mean(1, keepdims=True))


@torch.no_grad()
def test_what_the_trace_does_not_see_is_refused_until_it_is_left_alone():
    net, x = nn.Sequential(nn.Linear(3, 4), Elsewhere(), nn.Linear(4, 2)), torch.randn(2, 3)
    net[2].weight[:, 0] = 0
    with pytest.raises(shrinking.ShrinkError, match=r"after units of '0' were removed an output differs .* keep="):
        depgraph.shrink(net, x)
    assert depgraph.shrink(net, x, keep=["0"])[0].out_features == 4
    with pytest.raises(ValueError, match="keep names 'fc', which is no layer of Sequential"):
        depgraph.shrink(net, x, keep=["fc"])
    with pytest.raises(ValueError, match=r"keep must be a list of layers' names, not 'fc'; pass keep=\['fc'\]"):
        depgraph.shrink(net, x, keep="fc")


@torch.no_grad()
@pytest.mark.parametrize("between", [nn.LayerNorm(4), nn.GroupNorm(2, 4)])
def test_channels_that_a_norm_mixes_stay(between):
    net, x = nn.Sequential(nn.Linear(3, 4), between, nn.Linear(4, 2)), torch.randn(2, 3)
    net[0].weight[0] = net[0].bias[0] = net[2].weight[:, 0] = 0
    assert depgraph.shrink(net, x)[0].out_features == 4


def test_outputs_are_never_removed():
    net = two()
    with torch.no_grad():
        net[2].weight[0] = net[2].bias[0] = 0
    assert depgraph.shrink(net, torch.randn(2, 3))[2].out_features == 2


def test_a_weight_that_is_computed_is_refused():
    net = two()
    nn.utils.parametrizations.weight_norm(net[0])
    with pytest.raises(shrinking.ShrinkError, match="the weight of '0' is computed from others"):
        depgraph.shrink(net, torch.randn(2, 3))
