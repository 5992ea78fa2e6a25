"""The contract mask → shrink → same outputs, for every builder, and what counts as dead."""

import copy
from collections import Counter
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import models, shrinking

SMALL = {
    "mlp": {"widths": [12, 9, 7], "inputs": 10, "outputs": 4},
    "lenet5": {"widths": [4, 6, 10], "size": 20},
    "vgg16": {"widths": [6, 8, 7, 8, 7, 8, 7, 8, 7, 8, 7, 8, 9]},
    "resnet56": {"widths": [6, 5, 7] * 10},
    "resnet50": {"widths": [6, 8, 5, 6, 7, 6, 5, *[7, 5, 6] * 10]},
    "mobilenetv2": {"widths": [6, 7, 8, 9, 10] * 5},
    "unet": {"widths": [4, 3, 5, 4, 4, 5, 3, 4, 5, 4], "outputs": 2},
    "ct_cnn": {"widths": [4, 5, 6]},
}
SHAPES = {"mlp": (10,), "lenet5": (1, 20, 20), "vgg16": (3, 32, 32), "unet": (1, 9, 11), "ct_cnn": (1, 9, 13)}
CASES, VARYING = Counter(), Counter()
CONTRACT = settings(derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", autouse=True)
def report(request):
    yield
    tried = f"{sum(CASES.values())}, {sum(VARYING.values())} of them with outputs that depend on the input"
    by_name = ", ".join(f"{name} {VARYING[name]}/{n}" for name, n in CASES.items())
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\ncontract cases: {tried} ({by_name})")


@cache
@torch.enable_grad()
def _trained(name):
    """A small network after a few steps, so that batch norm has statistics of its own, and inputs for it."""
    torch.manual_seed(len(name))
    net = models.build(name, **SMALL[name])
    x = torch.randn(8, *SHAPES.get(name, (3, 8, 8)))
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(m.bias, std=0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x) - 1).square().mean().backward()
        optimizer.step()
    net.double()
    renorm(net, x.double())
    assert varies(net, x.double())
    return net, x.double()


@torch.no_grad()
def renorm(net, x):
    """Bring batch norm's statistics near those of x, so that signals survive many masked layers."""
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.momentum = 0.9
    net.train()(x)
    net.eval()


@torch.no_grad()
def varies(net, x):
    """Whether the outputs depend on the input: between constants every contract would hold."""
    out = net(x)
    return (out.std(0).max() > 1e-3 * out.abs().max()).item()


def trained(name):
    net, x = _trained(name)
    return copy.deepcopy(net), x


@torch.no_grad()
def kill(net, group, units, side):
    """Zero all incoming or all outgoing weights of some units, without the code under test."""
    if side == "incoming":
        for s in group.producers:
            net.get_submodule(s.layer).weight[units] = 0
    else:
        for s in group.consumers:
            columns = [(s.offset + int(u)) * s.block + k for u in units.nonzero() for k in range(s.block)]
            net.get_submodule(s.layer).weight[:, columns] = 0


@torch.no_grad()
def mask(net, *, weight_rate, unit_rate, sides, seed, spare=False):
    """Zero random weights and whole units, those of a group on a random side; the killed units per group."""
    g = torch.Generator().manual_seed(seed)
    killed = {}
    for w in models.weights(net).values():
        w *= torch.rand(w.shape, generator=g) >= weight_rate
    for group in net.groups:
        units = torch.rand(group.width, generator=g) < unit_rate
        units[0] &= not spare
        kill(net, group, units, sides[int(torch.randint(len(sides), (), generator=g))])
        killed[group.name] = units
    return killed


def assert_same(small, net, x, tolerance):
    with torch.no_grad():
        expected = net(x)
        error = (small(x) - expected).abs().max()
    assert error <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", models.BUILDERS)
def test_masked_and_shrunk_agree(name):
    @CONTRACT
    @given(
        weight_rate=st.sampled_from([0.0, 0.3, 0.6, 0.9]),
        unit_rate=st.sampled_from([0.0, 0.2, 0.4, 0.7]),
        sides=st.sampled_from([("incoming",), ("outgoing",), ("incoming", "outgoing")]),
        spare=st.booleans(),
        silent=st.booleans(),
        fold=st.booleans(),
        seed=st.integers(0, 10**6),
    )
    def contract(silent, fold, **rates):
        net, x = trained(name)
        mask(net, **rates)
        renorm(net, x)
        if silent:
            shrinking.silence(net)
        check(net, x, fold)
        CASES[name] += 1
        VARYING[name] += varies(net, x)

    contract()
    assert CASES[name] >= 25
    assert VARYING[name] >= 8


def check(net, x, fold):
    small = shrinking.shrink(net, fold=fold, keep_one=True)
    assert_same(small, net, x, 1e-10)
    if fold:
        assert small.config["widths"] == [max(1, n) for n in shrinking.alive(net).values()]
    assert shrinking.shrink(small, fold=fold, keep_one=True).config == small.config
    single = copy.deepcopy(net).float()
    assert_same(shrinking.shrink(single, fold=fold, keep_one=True), single, x.float(), 1e-4)


@pytest.mark.parametrize("name", models.BUILDERS)
@pytest.mark.parametrize("sides", [("incoming",), ("outgoing",), ("incoming", "outgoing")])
def test_widths_and_parameters_as_predicted(name, sides):
    """Whole units killed in dense weights take no other with them, so the widths left are known."""
    net, x = trained(name)
    killed = mask(net, weight_rate=0, unit_rate=0.4, sides=sides, seed=1, spare=True)
    shrinking.silence(net)
    small = shrinking.shrink(net)
    widths = [int((~units).sum()) for units in killed.values()]
    assert small.config == {**net.config, "widths": widths}
    dense = models.build(**small.config)
    assert {k: v.shape for k, v in small.state_dict().items()} == {k: v.shape for k, v in dense.state_dict().items()}
    assert all(torch.equal(killed[k], dead) for k, dead in shrinking.dead_units(net).items())
    assert_same(small, net, x, 1e-10)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(rate=st.floats(0.3, 0.98), name=st.sampled_from(["mlp", "lenet5", "unet"]), seed=st.integers(0, 10**6))
def test_dead_is_what_no_path_of_weights_joins_to_input_and_output(rate, name, seed):
    net, _ = trained(name)
    mask(net, weight_rate=rate, unit_rate=0.1, sides=("incoming", "outgoing"), seed=seed)
    assert {k: d.tolist() for k, d in shrinking.dead_units(net).items()} == _unjoined(net)


def _unjoined(net):
    """Oracle: forward and backward reachability over single units, written without the code under test."""
    makes = {s.layer: g for g in net.groups for s in g.producers}
    edges, first, last = [], set(), set()
    read = {s.layer for g in net.groups for s in g.consumers}
    for layer in [k.removesuffix(".weight") for k in models.weights(net)]:
        w = net.get_submodule(layer).weight.detach()
        w = (w != 0).view(*w.shape[:2], -1).any(2)
        if layer not in read:
            first |= {(makes[layer].name, int(row)) for row in w.any(1).nonzero()}
        for g in net.groups:
            for s in g.consumers:
                if s.layer == layer:
                    for row, column in w.nonzero().tolist():
                        unit = column // s.block - s.offset
                        if 0 <= unit < g.width and layer in makes:
                            edges.append(((g.name, unit), (makes[layer].name, row)))
                        elif 0 <= unit < g.width:
                            last.add((g.name, unit))
    forward, backward = _closure(first, edges), _closure(last, [(b, a) for a, b in edges])
    joined = forward & backward
    return {g.name: [(g.name, u) not in joined for u in range(g.width)] for g in net.groups}


def _closure(reached, edges):
    while more := {b for a, b in edges if a in reached} - reached:
        reached = reached | more
    return reached


def _chain():
    """2-3-3-1, every unit alive: positive weights."""
    net = models.build("mlp", widths=[3, 3], inputs=2, outputs=1).double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(0.5)
    return net


@torch.no_grad()
def test_death_spreads_both_ways_and_its_cause_is_counted():
    net = _chain()
    net.fc1.weight[0] = 0  # a constant
    net.fc2.weight[1] = torch.tensor([0.5, 0, 0])  # reads the constant only, so it is one as well
    net.fc3.weight[:, 2] = 0  # an orphan with its incoming weights in place
    assert shrinking.removed_by(net) == {
        "fc1": {"incoming": 1, "outgoing": 0, "both": 0, "stuck": 0},
        "fc2": {"incoming": 1, "outgoing": 1, "both": 0, "stuck": 0},
    }
    small = shrinking.shrink(net)
    assert small.config["widths"] == [2, 1]
    assert small.fc2.bias.item() == 0.75  # 0.5 and the constant relu(0.5) times 0.5
    assert small.fc3.bias.item() == 0.875  # 0.5 and relu(0.75) times 0.5
    assert net.config["widths"] == [3, 3]
    assert shrinking.alive(net) == {"fc1": 2, "fc2": 1}
    assert shrinking.alive(_chain()) == {"fc1": 3, "fc2": 3}
    assert shrinking.shrink(net, fold=False).config["widths"] == [3, 2]  # the orphan only


@torch.no_grad()
def test_the_argument_is_left_as_it_is():
    net, _ = trained("vgg16")
    mask(net, weight_rate=0.5, unit_rate=0.5, sides=("incoming",), seed=0, spare=True)
    before = copy.deepcopy(net.state_dict())
    random = torch.get_rng_state()
    small = shrinking.shrink(net.train())
    assert small.training
    assert net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


@torch.no_grad()
def test_a_constant_behind_padding_stays_until_silenced():
    net, x = trained("vgg16")
    net.conv3.weight[:2] = 0
    net.norm3.running_mean[:2] = 0
    net.norm3.bias[0], net.norm3.bias[1] = 1.0, -1.0  # relu leaves 1 and 0
    small = shrinking.shrink(net)
    assert small.config["widths"][2] == net.config["widths"][2] - 1
    assert_same(small, net, x, 1e-10)
    assert shrinking.dead_units(net)["conv3"].nonzero().flatten().tolist() == [0, 1]
    assert shrinking.removed_by(net)["conv3"] == {"incoming": 2, "outgoing": 0, "both": 0, "stuck": 1}
    shrinking.silence(net)
    assert shrinking.shrink(net).config["widths"][2] == net.config["widths"][2] - 2


@torch.no_grad()
def test_a_constant_before_a_1x1_convolution_goes_into_its_batch_norm():
    net, x = trained("resnet50")
    name = "stage1_1.body.conv2"
    net.get_submodule(name).weight[0] = 0
    net.get_submodule("stage1_1.body.norm2").bias[0] = 3.0
    small = shrinking.shrink(net)
    assert sum(net.config["widths"]) - sum(small.config["widths"]) == 1
    assert shrinking.shrink(net, fold=False).config == net.config
    assert_same(small, net, x, 1e-10)


@torch.no_grad()
def test_a_zero_depthwise_filter_kills_its_channel():
    net, x = trained("mobilenetv2")
    name, width = net.groups[2].name, net.groups[2].width
    net.get_submodule("stage2_1.conv2").weight[0] = 0
    net.get_submodule("stage2_1.norm1").bias[0] = 100  # what the filter no longer reads
    assert shrinking.dead_units(net)[name].tolist() == [True] + [False] * (width - 1)
    assert shrinking.alive(net)[name] == width - 1
    assert_same(shrinking.shrink(net), net, x, 1e-10)


@torch.no_grad()
def test_a_constant_before_a_padded_depthwise_filter_stays():
    net, x = trained("mobilenetv2")
    group = net.groups[2]
    net.get_submodule(group.producers[0].layer).weight[:2] = 0
    net.get_submodule(group.producers[0].norm).running_mean[:2] = 0
    net.get_submodule(group.producers[0].norm).bias[:2] = torch.tensor([1.0, -1.0])
    small = shrinking.shrink(net)
    assert shrinking.removed_by(net)[group.name] == {"incoming": 2, "outgoing": 0, "both": 0, "stuck": 1}
    assert_same(small, net, x, 1e-10)


@torch.no_grad()
def test_a_layer_that_dies_wholly_is_named():
    net = _chain()
    net.fc2.weight.zero_()
    with pytest.raises(shrinking.ShrinkError, match=r"no unit left in 'fc1', 'fc2' \(all zero: fc2.weight\)"):
        shrinking.shrink(net)
    assert shrinking.alive(net) == {"fc1": 0, "fc2": 0}
    small = shrinking.shrink(net, keep_one=True)
    assert small.config["widths"] == [1, 1]
    assert_same(small, net, torch.randn(5, 2, dtype=torch.float64), 1e-10)


@torch.no_grad()
def test_channels_last_weights_shrink_alike():
    net, x = trained("unet")
    mask(net, weight_rate=0.3, unit_rate=0.4, sides=("incoming", "outgoing"), seed=3, spare=True)
    shrinking.silence(net)
    expected = shrinking.shrink(net)
    small = shrinking.shrink(net.to(memory_format=torch.channels_last))
    assert small.config == expected.config
    assert small.config != net.config
    assert_same(small, expected, x.to(memory_format=torch.channels_last), 1e-10)


@torch.no_grad()
def test_counts_of_the_first_paper():
    net = _chain()
    net.fc1.weight[:, 1] = torch.tensor([5e-4, -4e-4, 0])  # 0.9e-3 in all
    net.fc2.weight[:, 0] = torch.tensor([9e-4, -9e-4, 0])  # 1.8e-3 in all
    assert shrinking.alive_1e3(net) == [1, 3, 3]
    assert shrinking.alive_1e3(net, threshold=2e-3) == [1, 2, 3]
    assert shrinking.alive_1e3(net, beta=3) == [0, 1, 1], "the last third of every layer's units"
    assert shrinking.sparsity_1e3(net) == 6 / 18


@torch.no_grad()
def test_count_after_a_flatten_is_by_channel():
    net, _ = trained("lenet5")
    block = net.groups[1].consumers[0].block
    net.fc1.weight[:, : 2 * block - 1] = 0  # channel 0, and channel 1 but for its last position
    assert shrinking.alive_1e3(net) == [1, 4, 5, 10]
    net, _ = trained("mobilenetv2")
    counts = dict(zip(models.weights(net), shrinking.alive_1e3(net), strict=True))
    assert counts["stage1_1.conv2.weight"] == net.config["widths"][0]  # depthwise


@pytest.mark.parametrize("call", [shrinking.shrink, shrinking.silence, shrinking.alive, shrinking.dead_units])
def test_a_network_from_outside_is_sent_to_depgraph(call):
    with pytest.raises(shrinking.ShrinkError, match=r"Sequential was not made by models.build .* lib.depgraph.shrink"):
        call(torch.nn.Sequential(torch.nn.Linear(3, 2)))


def test_what_no_config_says_goes_along():
    net = models.build("ct_cnn", widths=[3, 4])
    net.prunable, net.norm1.momentum = ["conv2.weight"], None
    net.norm1.eval()
    with torch.no_grad():
        net.conv1.weight[0], net.norm1.bias[0] = 0, 0
    small = shrinking.shrink(net)
    assert small.config["widths"] == [2, 4] and list(models.weights(small)) == ["conv2.weight"]
    assert small.training and not small.norm1.training and small.norm1.momentum is None and small.norm2.momentum == 0.1


def test_a_network_with_a_hook_or_another_forward_is_refused():
    net = models.build("ct_cnn", widths=[3, 4])
    handle = net.act1.register_forward_hook(lambda layer, given, out: out * 2)
    with pytest.raises(shrinking.ShrinkError, match="'act1' has a hook or a forward of its own"):
        shrinking.shrink(net)
    handle.remove()
    net.conv1.forward = lambda x, was=net.conv1.forward: was(x) + 1
    with pytest.raises(shrinking.ShrinkError, match="'conv1' has a hook or a forward of its own"):
        shrinking.shrink(net)
