"""One call to compress: the share is met, what is coupled goes together, the report says what each network is."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, TensorDataset, WeightedRandomSampler

from lib import compress as module
from lib import depgraph, measures
from lib.compress import compress
from lib.depgraph.units import Units
from lib.training import losses

CONV = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
CLASSES = (ROWS[:, 0] * ROWS[:, 1] > 0).long()
QUICK = {"steps": 5, "batch": 8}


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))


class Residual(nn.Module):
    """Two convolutions whose outputs a sum ties together, and one between them that is free."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.inner, self.outer, self.last = nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 16, 1), nn.Linear(16, 4)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.last((x + self.outer(self.inner(x).relu())).mean((2, 3)))


def conv(*layers, width=16):
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *layers, nn.Conv2d(width, 4, 1))


class Gate(nn.Module):
    """A squeeze-and-excitation block."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)

    def forward(self, x):
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


KINDS = {
    "plain": lambda: conv(nn.ReLU()),
    "padding and norm": lambda: conv(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU()),
    "residual": Residual,
    "depthwise": lambda: conv(nn.Conv2d(16, 16, 3, groups=16, padding=1), nn.BatchNorm2d(16), nn.Hardswish()),
    "groups": lambda: conv(nn.ReLU(), nn.Conv2d(16, 32, 3, groups=4), nn.ReLU(), width=32),
    "transposed": lambda: conv(nn.PReLU(16), nn.ConvTranspose2d(16, 12, 2, 2), nn.GELU(), width=12),
    "transposed groups": lambda: conv(nn.ReLU(), nn.ConvTranspose2d(16, 8, 2, 2, groups=4), nn.ReLU(), width=8),
    "gate": lambda: conv(Gate()),
    "glu": lambda: conv(nn.GLU(1), width=8),
    "flatten": lambda: nn.Sequential(conv(nn.ReLU()), nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 2)),
    "shuffle": lambda: conv(nn.PixelShuffle(2), nn.ReLU(), width=4),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_cut_units_go_and_the_outputs_are_the_masked_ones(name):
    torch.manual_seed(0)
    net = KINDS[name]().eval()
    units = Units(net, CONV[:1])
    masked = units.masked(0.5)
    small, _ = depgraph.shrunk(masked, CONV[:1])
    with torch.no_grad():
        assert torch.allclose(masked(CONV), small(CONV), atol=1e-5)
    assert len(Units(small, CONV[:1])) == sum(max(1, round(len(block) / 2)) for block in units.blocks.values())
    assert measures.parameters(small) < 0.72 * measures.parameters(net)


def test_what_a_sum_ties_is_one_block_and_loses_the_same_units():
    net = Residual().eval()
    units = Units(net, CONV[:1])
    assert sorted(map(len, units.blocks.values())) == [16, 24]
    small, _ = depgraph.shrunk(units.masked(0.25), CONV[:1])
    assert (small.first.out_channels, small.outer.out_channels, small.inner.out_channels) == (4, 4, 6)


def test_the_smallest_units_go_and_dead_ones_first():
    net = mlp()
    with torch.no_grad():
        net[0].weight[3:11] *= 100  # large, but dead: nothing reads five of them
        net[2].weight[:, 3:8] = 0
        net[2].weight[:, 8:11] *= 100
    gone = Units(net, ROWS[:1]).masked(0.5)[2].weight.eq(0).all(0)
    assert gone[3:8].all() and not gone[8:11].any() and gone.sum() == 16


@pytest.mark.parametrize("of", module.OF)
def test_a_share_is_met_and_the_table_says_by_what(of):
    net = mlp()
    before = copy.deepcopy(net.state_dict())
    found = compress(net, (ROWS, CLASSES), 0.3, of=of, **QUICK)
    table, left = found.table, found.table.loc["shrunk"]
    assert list(table.index) == ["dense", "masked", "shrunk", "tuned"]
    assert table.loc["masked", "score"] == left["score"] and table.loc["tuned", "operations"] == left["operations"]
    column = {"weights": "parameters", "operations": "operations"}.get(of)
    if column:
        assert 0.15 * table.loc["dense", column] < left[column] <= 0.3 * table.loc["dense", column]
    else:
        assert (found.network[0].out_features, found.network[2].out_features) == (10, 5)
    assert left["parameters"] == measures.parameters(found.network) < table.loc["dense", "parameters"]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert "tuned" in str(found) and "layer" in str(found.stayed)


def test_numbers_for_targets_and_data_of_every_form():
    x, y = ROWS.numpy(), (ROWS[:, :1] * 3).numpy()
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    loader = DataLoader(TensorDataset(ROWS, ROWS[:, :1] * 3), batch_size=8)
    scores = [compress(net, given, **QUICK).table["score"] for given in ((x, y), loader)]
    held = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:8]
    with torch.no_grad():
        assert math.isclose(scores[0]["dense"], measures.r2(net(ROWS[held]), torch.tensor(y)[held]), rel_tol=1e-6)
    assert np.allclose(*scores)


def test_a_penalty_comes_before_the_cut_and_keep_leaves_a_layer_alone():
    found = compress(mlp(), (ROWS, CLASSES), penalty={"name": "gl", "lam": 0.1, "prox": True}, keep=["2"], **QUICK)
    assert not torch.equal(found.networks["dense"][0].weight, found.networks["masked"][0].weight)
    assert list(found.table.index) == ["dense", "penalised", "masked", "shrunk", "tuned"]
    assert found.table.loc["penalised", "parameters"] == found.table.loc["dense", "parameters"]
    assert (found.network[0].out_features, found.network[2].out_features) == (32, 16)


def test_what_is_held_out_is_seen_by_no_training_and_whole_numbers_may_be_numbers():
    sampler = WeightedRandomSampler(torch.ones(len(ROWS)), len(ROWS))
    drawn = DataLoader(TensorDataset(torch.as_tensor(ROWS), torch.as_tensor(CLASSES)), 8, sampler=sampler)
    with pytest.raises(ValueError, match="more than once, also those held out; pass the Dataset itself"):
        compress(mlp(), drawn, **QUICK)
    with pytest.raises(ValueError, match="more than once, also those held out"):
        compress(mlp(), DataLoader(drawn.dataset, batch_sampler=BatchSampler(sampler, 8, drop_last=False)), **QUICK)
    whole = torch.arange(len(ROWS)).view(-1, 1) % 3
    net = nn.Linear(ROWS.shape[1], 1)
    found = compress(net, (ROWS, whole), 1.0, **QUICK | {"loss": "mse"})
    held = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:8]
    with torch.no_grad():
        expected = measures.r2(net(torch.as_tensor(ROWS)[held]), whole[held])
    assert math.isclose(found.table["score"]["dense"], expected, rel_tol=1e-5)


class Region(nn.Module):
    """The region of every pixel, that it is given, and units that add nothing."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return 9 * x + 0 * self.last(self.first(x).relu())


def test_maps_of_objects_are_scored_as_regions():
    ids = torch.zeros(40, 8, 8, dtype=torch.int16)
    ids[:, 1:4, 1:4], ids[:, 5:8, 5:8], ids[:, 0, 7] = 1, 2, 3
    x = nn.functional.one_hot(losses.regions(ids), 3).permute(0, 3, 1, 2).float()
    for loss in ("boundary", "boundary_dice"):
        assert compress(Region(), (x, ids), 0.9, loss=loss, steps=1).table["score"]["dense"] == 1


def test_chances_of_classes_are_scored_by_the_largest():
    chances = torch.full((len(ROWS), 2), 0.1)
    chances[torch.arange(len(ROWS)), torch.as_tensor(CLASSES)] = 0.9
    named, own = (
        compress(mlp(), (ROWS, chances), **QUICK | {"loss": loss}).table["score"]
        for loss in ("cross_entropy", nn.CrossEntropyLoss())
    )
    assert named.equals(own) and own.between(0, 1).all()
    for loss, y in ((nn.BCEWithLogitsLoss(), chances + 0.05), (lambda o, y: nn.functional.l1_loss(o, y), chances)):
        with pytest.raises(ValueError, match="targets of 0 to 1 and a loss of your own: pass score="):
            compress(mlp(), (ROWS, y), **QUICK | {"loss": loss})


def test_numbers_that_are_all_alike_and_outputs_of_another_shape_want_a_score():
    net, y = nn.Linear(ROWS.shape[1], 2), torch.as_tensor(ROWS)[:, :1]
    with pytest.raises(ValueError, match="the 1 targets held out are all alike, which R² is not for; pass more"):
        compress(nn.Linear(ROWS.shape[1], 1), (ROWS[:9], y[:9]), **QUICK | {"loss": "mse"})
    own = QUICK | {"loss": lambda o, y: nn.functional.gaussian_nll_loss(o[:, :1], y, o[:, 1:].exp())}
    with pytest.raises(ValueError, match="the score fails: .*; pass score=, a function that takes these outputs"):
        compress(net, (ROWS, y), **own)


def test_each_training_has_a_checkpoint_of_its_own(tmp_path, capsys):
    options = QUICK | {"penalty": "gl", "checkpoint": tmp_path / "0.pt", "checkpoint_seconds": 0}
    first, again = (compress(mlp(), (ROWS, CLASSES), **options).network for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.pt", "0.pt.before"] and not capsys.readouterr().out


def test_what_cannot_be_is_refused():
    net, data = mlp(), (ROWS, CLASSES)
    with pytest.raises(ValueError, match=r"pass a larger share"):
        compress(net, data, 1e-3, of="weights", **QUICK)
    with pytest.raises(ValueError, match=r"known: units, weights, operations"):
        compress(net, data, of="flops")
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]"):
        compress(net, data, 50)
    with pytest.raises(ValueError, match=r"training diverged .* pass a smaller learning rate"):
        compress(net, (1e6 * ROWS, 1e6 * ROWS[:, :2]), steps=50, optimizer={"name": "sgd", "lr": 1e6})


def test_the_bound_of_seconds_reaches_the_search_that_names_it():
    with pytest.raises(depgraph.ShrinkError, match=r"was not traced within 0 s; pass a smaller example, seconds="):
        compress(mlp(), (ROWS, CLASSES), seconds=0, **QUICK)
    with pytest.raises(ValueError, match="seconds must be"):
        compress(mlp(), (ROWS, CLASSES), seconds=-1, **QUICK)


def test_groups_that_a_sum_ties_go_down_to_one_channel_each():
    class Net(Residual):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(16, 24, 3, padding=1, groups=4)

    small = compress(Net(), (CONV.repeat(8, 1, 1, 1), torch.arange(16) % 4), 0.1, of="operations", **QUICK).network
    assert small.inner.groups == 4 and small.inner.weight.shape[1] == 1


def test_quantised_networks_and_networks_without_numbers_are_refused_by_name():
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    for hindered, message in ((quantised, "'0' .* has quantised weights"), (copy.deepcopy(net).to("meta"), "meta")):
        with pytest.raises(ValueError, match=f"compare: of 'b'.*{message}"):
            measures.compare({"a": net, "b": hindered}, (8,))
        with pytest.raises(ValueError, match=message):
            compress(hindered, (ROWS, CLASSES), **QUICK)
        with pytest.raises(depgraph.ShrinkError, match=message):
            depgraph.shrink(hindered, ROWS)


@pytest.mark.parametrize("of", ["weights", "operations"])
def test_the_whole_of_them_is_the_whole(of):
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    assert compress(net, (ROWS, CLASSES), 1.0, of=of, **QUICK).network[0].out_features == 64
