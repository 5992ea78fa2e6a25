"""Same outputs on inputs that the example does not show: other batches, other sizes, other ways through the network."""

import dataclasses
import random
import time

import numpy as np
import pytest
import torch
from test_depgraph_kinds import Call, kill
from torch import nn
from torch.nn import functional as F

from lib import depgraph, inference
from lib.depgraph import proof
from lib.depgraph.passes import Example
from lib.depgraph.proof import others
from lib.shrinking import ShrinkError

HALF = slice(6)


def units(**layers):
    """Layers with six of twelve units constant, not zero: a bias is left."""
    first = nn.Linear(8, 12)
    first.weight.data[HALF] = 0
    first.bias.data[HALF] = 1.0
    return {"i": first, "o": nn.Linear(12, 3), **layers}


def agree(net, example, *others):
    """The shrunk network, compared on the example and on other inputs."""
    small = depgraph.shrink(net.eval(), example, keep_one=True)
    for x in (example, *others):
        args = x if isinstance(x, tuple) else (x,)
        with torch.no_grad():
            assert torch.allclose(net(*args), small(*args), atol=1e-5)
    return small


X, MORE = torch.randn(2, 8), torch.randn(7, 8)
MADE_OF_SIZES = {
    "of the batch": (lambda s, x: s.o(F.relu(s.i(x)) + (len(x) > 2)), X, MORE),
    "of a large batch": (lambda s, x: s.o(F.relu(s.i(x)) + (len(x) > 8)), X, MORE.repeat(3, 1)),
    "of the length": (lambda s, x: s.o(F.relu(s.i(x)) * x.shape[1]).mean(1), X[:, None], MORE[None]),
    "a sum": (lambda s, x: s.o(F.relu(s.i(x)).sum(1)), X[:, None], MORE[None]),
    "of a branch": (lambda s, x: s.o(F.relu(s.i(x)) + (1 if x.mean() > 0 else 0)), X.abs(), -X.abs()),
    "of a list": (lambda s, x: s.o(F.relu(s.i(x)) + (max(x.flatten().tolist()) > 2.7)), X.abs().clip(max=1), X + 5),
    "of an array": (lambda s, x: s.o(F.relu(s.i(x)) + bool(x.numpy().max() > 2.7)), X.abs().clip(max=1), X + 5),
    "of a number given": (lambda s, x, k: s.o(F.relu(s.i(x)) * k), (X, 3), (X, 7)),
}


@pytest.mark.parametrize("name", MADE_OF_SIZES)
def test_constants_that_other_inputs_change_stay(name):
    function, example, other = MADE_OF_SIZES[name]
    assert agree(Call(function, **units()), example, other).i.out_features == 12


def chunked(s, x):
    """Means over four places each, after places of zeros up to a multiple of four."""
    return s.o(F.pad(F.relu(s.i(x)), (0, 0, 0, -x.shape[1] % 4)).unflatten(1, (-1, 4)).mean(2))


def spoken(s, x, lengths, k):
    """Sequences of lengths that may not be longer than the longest, in one of several languages."""
    packed = nn.utils.rnn.pack_padded_sequence(s.i(x), lengths, batch_first=True, enforce_sorted=False)
    return s.o(F.relu(packed.data + s.tasks[int(k)]))


ALONE = {  # what other sizes, or another number, change where nothing else may change with them
    "up to a multiple": (chunked, (torch.randn(2, 16, 8),), (torch.randn(2, 17, 8),)),
    "beside ids of a small table": (
        lambda s, ids, k: s.o(F.relu(s.i(s.letters[ids].mean(1)) + s.tasks[int(k)])),
        (torch.tensor([[0, 3, 4, 1]]), torch.tensor(0)),
        (torch.tensor([[0, 3, 4, 1]]), torch.tensor(1)),
    ),
    "beside full lengths": (
        spoken,
        (torch.randn(2, 5, 8), torch.tensor([5, 3]), torch.tensor(0)),
        (torch.randn(2, 5, 8), torch.tensor([5, 3]), torch.tensor(1)),
    ),
    "beside Python's": (
        lambda s, x, k, n: s.o(F.relu(s.i(x[:, : {4: 4}[n]].mean(1)) + s.tasks[k])),
        (torch.randn(2, 4, 8), 0, 4),
        (torch.randn(2, 4, 8), 1, 4),
    ),
    "of a condition's places": (
        lambda s, x: s.o(F.relu(s.i(x)) * (0.5 if len((x > 3).nonzero()) else 1)),
        (torch.zeros(2, 8),),
        (5 * torch.randn(2, 8),),
    ),
    "of a condition as an index": (
        lambda s, x: s.o(F.relu(s.i(x)) * (0.5 if x[x > 3].numel() else 1)),
        (torch.zeros(2, 8),),
        (5 * torch.randn(2, 8),),
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_constants_that_one_thing_alone_changes_stay(name):
    function, example, other = ALONE[name]
    net = Call(function, **units())
    net.tasks, net.letters = nn.Parameter(torch.randn(4, 12)), nn.Parameter(torch.randn(5, 8))
    assert agree(net, example, other).i.out_features == 12


class Spectral(nn.Module):
    """Recurrent over the places of a spectrogram (N, 1, 8, any number of them)."""

    def __init__(self):
        super().__init__()
        self.conv, self.rnn, self.o = nn.Conv2d(1, 4, 3, padding=1), nn.LSTM(32, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.o(self.rnn(F.relu(self.conv(x)).permute(0, 3, 1, 2).flatten(2))[0][:, -1])


@torch.no_grad()
def test_a_constant_that_grows_with_the_length_stays_where_another_axis_is_fixed():
    net, rows = Spectral(), [16 * k + j for k in range(4) for j in range(6)]
    for weight in (net.rnn.weight_ih_l0, net.rnn.weight_hh_l0):
        weight[rows] = 0
    net.rnn.weight_hh_l0[:, :6], net.rnn.bias_ih_l0[rows] = 0, 0.5
    assert agree(net, torch.randn(2, 1, 8, 6), torch.randn(2, 1, 8, 3)).rnn.hidden_size == 16


def test_arrays_among_the_outputs_keep_their_width():
    def forward(s, x):
        h = F.relu(s.i(x))
        return {"logits": s.o(h), "embedding": h.detach().numpy()}

    net, x = Call(forward, **units()), torch.randn(2, 8)
    assert depgraph.shrink(net.eval(), x)(x)["embedding"].shape == (2, 12)


class Noted(nn.Module):
    """A network that notes a mean while it trains, which nothing reads."""

    def __init__(self):
        super().__init__()
        self.i, self.o = units()["i"], units()["o"]
        self.register_buffer("mean", torch.zeros(12))

    def forward(self, x):
        h = F.relu(self.i(x))
        if self.training:
            self.mean.lerp_(h.detach().mean(0), 0.1)
        return self.o(h)


def test_a_buffer_that_training_alone_moves_is_sliced():
    net = Noted()
    net.i.bias.data[HALF] = 0
    small = agree(net, X, MORE)
    assert small.i.out_features == len(small.mean) == 6
    small.train()(X)


def test_rows_that_an_edge_picks_keep_no_unit_that_is_zero_in_all():
    def forward(s, x, edges):
        h = F.relu(s.i(x))
        return s.o(torch.zeros_like(h).index_add(0, edges[1], h[edges[0]]))

    net, x = Call(forward, **units()), torch.randn(5, 8)
    assert agree(net, (x, torch.tensor([[0, 1], [1, 4]])), (x, torch.tensor([[3, 1], [1, 1]]))).i.out_features == 12
    net.i.bias.data[HALF] = 0
    assert agree(net, (x, torch.tensor([[0, 1], [1, 4]])), (x, torch.tensor([[3, 1], [1, 1]]))).i.out_features == 6


def test_numbers_that_a_network_draws_by_pythons_and_numpys_leave_the_callers():
    def forward(s, x):
        return s.o(F.relu(s.i(x) + random.random() + np.random.rand()))  # noqa: NPY002

    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    agree_net = Call(forward, **units()).eval()
    depgraph.shrink(agree_net, X)
    inference.form(agree_net, X)
    assert states == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_inference_mode_and_operations_that_hide_others_are_refused():
    net = Call(lambda s, x: s.o(F.relu(s.i(x))), **units()).eval()
    with torch.inference_mode(), pytest.raises(ShrinkError, match=r"call it outside, torch.no_grad\(\) will do"):
        depgraph.shrink(net, X)

    def forward(s, x):
        return s.o(torch.cond(x.sum() > 0, lambda h: h.relu(), lambda h: h.tanh(), (s.i(x),)))

    with pytest.raises(ShrinkError, match="runs what no pass sees into .*; put in its place"):
        depgraph.shrink(Call(forward, **units()).eval(), X)


def masked(s, x, lengths):
    """Places from a length on are no part of an example; a fixed table of places allows no other number of them."""
    there = torch.zeros(x.shape[:2])
    for row, n in zip(there, lengths, strict=True):
        row[:n] = 1
    return s.o(F.relu(s.i(x) + s.places) * there[..., None])


TASK, FLAG, NUMBERS = torch.tensor, torch.tensor([True]), [0, 1, 2, 3]
CHOSEN = {  # the function, the example's number, and all numbers that there are
    "read back": (lambda s, x, k: s.o(F.relu(s.i(x) + s.tasks[int(k)])), TASK(2), [*map(TASK, NUMBERS)]),
    "the first one": (lambda s, x, k: s.o(F.relu(s.i(x) + s.tasks[int(k)])), TASK(0), [*map(TASK, NUMBERS)]),
    "of a scale": (lambda s, x, k: s.o(F.relu(s.tasks[0] + s.i(x) * k.item())), TASK([2]), [TASK([1]), TASK([3])]),
    "of Python's, the last": (lambda s, x, k: s.o(F.relu(s.i(x) + s.tasks[k])), 3, NUMBERS),
    "of an embedding": (lambda s, x, k: s.o(F.relu(s.i(x) + F.embedding(TASK(int(k)), s.tasks))), TASK(3), [TASK(1)]),
    "a flag": (lambda s, x, k: s.o(F.relu(s.i(x) + s.tasks[0] if k else s.i(x))), FLAG, [~FLAG]),
    "a flag of Python's": (lambda s, x, k: s.o(F.relu(s.i(x) + s.tasks[0] if k else s.i(x))), True, [False]),
    "a length": (masked, [8], [[3], [1]]),
    "a length in a tensor": (masked, TASK([8]), [TASK([3])]),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_constants_that_a_whole_number_chooses_stay(name):
    function, example, others = CHOSEN[name]
    net, read = Call(function, **units()), "places" if function is masked else "tasks"
    setattr(net, read, nn.Parameter(torch.randn(8 if read == "places" else 4, 12)))
    x = torch.randn(1, 8, 8)
    assert agree(net, (x, example), *((x, other) for other in others)).i.out_features == 12


def test_the_whole_numbers_that_are_tried():
    """One more, one less but of 0, and 0, of numbers in tensors and of Python's, all and each alone; none twice."""
    example = Example(nn.Identity(), (torch.tensor([0, 5]), torch.tensor(True), torch.ones(2), 2, True, 0.5, "k"))
    tried = [[v.tolist() if isinstance(v, torch.Tensor) else v for v in given.args] for given in others(example)]
    plain, tensors = [2, True, 0.5, "k"], [[0, 5], True, [1.0, 1.0]]
    assert tried == [
        [[1, 6], False, [1.0, 1.0], *plain],
        [[0, 4], True, [1.0, 1.0], *plain],
        [[0, 0], True, [1.0, 1.0], *plain],
        [[1, 6], True, [1.0, 1.0], *plain],
        [[0, 5], False, [1.0, 1.0], *plain],
        [*tensors, 3, False, 1.5, "k"],
        [*tensors, 1, True, 0.5, "k"],
        [*tensors, 0, True, 0.5, "k"],
        [*tensors, 3, True, 0.5, "k"],
        [*tensors, 2, False, 0.5, "k"],
        [*tensors, 2, True, 1.5, "k"],
    ]
    for nothing in (torch.ones(2), torch.ones(2, dtype=torch.uint16), torch.zeros(0, dtype=torch.int64)):
        assert not list(others(Example(nn.Identity(), nothing)))
    assert len(list(others(Example(nn.Identity(), (torch.zeros(2, dtype=torch.uint8), False))))) == 2


def test_a_number_that_leads_into_a_loop_is_left(monkeypatch):
    monkeypatch.setattr(proof, "PATIENCE", 0.5)

    def forward(s, x, step):
        k = 0
        while k < 3:
            x, k = x + 0.1, k + step
        return s.o(F.relu(s.i(x)))

    begun = time.monotonic()
    assert agree(Call(forward, **units()), (X, 1), (X, 2)).i.out_features == 6
    assert time.monotonic() - begun < 30


def twice(s, x):
    """Three outputs that are others, twice as much, of more than two examples."""
    return s.o(F.relu(s.i(x)) * (2 if len(x) > 2 else 1))


HIDDEN = {
    "filled": lambda s, x: twice(s, x).masked_fill(x[:, :3] < -0.5, -1e9),
    "added to": lambda s, x: twice(s, x) + (x[:, :3] < -0.5) * -1e9,
    "added to, beyond float32 in float64": lambda s, x: twice(s, x) + (x[:, :3] < -0.5) * torch.finfo(x.dtype).min / 3,
    "complex": lambda s, x: twice(s, x) * (1 + 2j),
    "of float16": twice,
    "of bfloat16": twice,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_small_change_of_the_outputs_is_seen(name):
    """Beside a mask's large numbers, in complex ones, and in types that round coarsely."""
    dtype = {"of float16": torch.float16, "of bfloat16": torch.bfloat16}.get(name, torch.float32)
    first = nn.Linear(8, 32)
    first.weight.data[:2] = 0
    first.bias.data[:2] = 1.0
    net = Call(HIDDEN[name], i=first, o=nn.Linear(32, 3)).to(dtype).eval()
    assert depgraph.shrink(net, X).i.out_features == 32
    net.function = lambda s, x: s.o(F.relu(s.i(x))).masked_fill(x[:, :3] < -0.5, -1e4)
    assert depgraph.shrink(net, X).i.out_features == 30, "a constant is folded all the same"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_is_no_constant_is_none_in_types_that_round_coarsely(dtype):
    net = Call(lambda s, x: s.o(F.relu(s.i(x) + s.place)), **units())
    net.place = nn.Parameter(0.1 * torch.randn(16, 12))
    net.place.data[:, HALF] = 1 + (0.05 if dtype is torch.bfloat16 else 0.006) * torch.arange(16)[:, None] / 16
    net.o.weight.data[:, HALF] = 1
    net.i.bias.data[HALF] = 0
    assert depgraph.shrink(net.to(dtype).eval(), torch.randn(2, 16, 8)).i.out_features == 12


WIDTHS = {
    "a whole number": lambda s, x: s.o(s.i(x) / s.i(x).shape[1]),
    "a root": lambda s, x: s.o(s.i(x) / s.i(x).shape[1] ** 0.5),
    "places": lambda s, x: s.o(s.i(x) * torch.arange(s.i(x).shape[1])),
    "chance": lambda s, x: s.o(s.i(x) + torch.randn_like(s.i(x))),
    "fan-in": lambda s, x: F.linear(s.i(x), s.o.weight / s.o.weight.shape[1], s.o.bias),
}


@pytest.mark.parametrize("name", WIDTHS)
def test_units_stay_where_a_number_is_made_of_their_width(name):
    net = Call(WIDTHS[name], i=nn.Linear(8, 12), o=nn.Linear(12, 3))
    net.o.weight.data[:, HALF] = 0
    small = depgraph.shrink(net.eval(), X)
    assert small.i.out_features == 12


def test_fixed_places_that_are_written_to_stay():
    def forward(s, x):
        h = s.i(x)
        h[:, :3] = 0.0
        return s.o(F.relu(h))

    net = Call(forward, i=nn.Linear(8, 12), o=nn.Linear(12, 3))
    net.o.weight.data[:, [1, 4, 7]] = 0
    assert agree(net, X, MORE).i.out_features == 10


@pytest.mark.parametrize("norm", ["along another axis", "of a half", "of another view"])
def test_a_constant_before_a_norm_of_other_numbers_is_not_folded_into_it(norm):
    def forward(s, x):
        h = s.a(torch.sigmoid(s.i(x)))
        return s.o(s.n(h if norm == "along another axis" else h.chunk(2, 1)[0] if norm == "of a half" else _turned(h)))

    width, features = {"along another axis": (5, 5), "of a half": (16, 8), "of another view": (16, 16)}[norm]
    layers = {"a": nn.Linear(12, width, bias=False), "n": nn.BatchNorm1d(features), "o": nn.Linear(features, 3)}
    net = Call(forward, **units(**layers))
    net.n.running_mean.normal_()
    agree(net, torch.randn(2, 5, 8) if norm == "along another axis" else X)


def _turned(h):
    return h.view(-1, 2, 8).transpose(1, 2).flatten(1)


def test_a_weight_that_is_zero_for_some_inputs_is_dead_for_none():
    def forward(s, x):
        return F.linear(s.i(x), s.o.weight * ((x @ x.mT).mean() > 9), s.o.bias)

    net = Call(forward, i=nn.Linear(8, 12), o=nn.Linear(12, 3))
    assert agree(net, 0.01 * X, 100 * MORE).i.out_features == 12


def test_a_shortcut_filled_with_zeros_of_its_own_width():
    def forward(s, x):
        h = F.relu(s.c(x))
        return s.o(F.relu(s.d(h) + torch.cat([F.avg_pool2d(h, 2), torch.zeros_like(F.avg_pool2d(h, 2))], 1)))

    net = Call(forward, c=nn.Conv2d(3, 8, 1), d=nn.Conv2d(8, 16, 3, 2, 1), o=nn.Conv2d(16, 2, 1))
    kill(net.c, slice(4))
    kill(net.d, slice(4))
    kill(net.d, slice(8, 12))
    assert agree(net, torch.randn(2, 3, 8, 8), torch.randn(1, 3, 12, 12)).c.out_channels == 4


def test_heads_that_would_lose_a_whole_number_between_them_lose_equally_many():
    def forward(s, x):
        q, k, v = (layer(x).unflatten(-1, (4, -1)) for layer in (s.q, s.k, s.v))
        a = torch.einsum("bihd,bjhd->bhij", q, k).softmax(-1)
        return s.o(torch.einsum("bhij,bjhd->bihd", a, v).flatten(2))

    net = Call(forward, q=nn.Linear(8, 12), k=nn.Linear(8, 12), v=nn.Linear(8, 20), o=nn.Linear(20, 3))
    net.o.weight.data[:, [0, 1, 2, 5]] = 0  # 16 left are four each, but of other heads
    assert agree(net, torch.randn(2, 5, 8), torch.randn(3, 7, 8)).v.out_features == 20


def test_sparse_and_spread_buffers():
    net = Call(
        lambda s, x: s.o(torch.sparse.mm(s.edges, F.relu(s.i(x))) * s.spread), i=nn.Linear(8, 12), o=nn.Linear(12, 3)
    )
    net.register_buffer("edges", torch.eye(6).to_sparse())
    net.register_buffer("spread", torch.rand(1, 1).expand(1, 12))
    kill(net.i, HALF)
    assert agree(net, torch.randn(6, 8)).i.out_features == 12


@dataclasses.dataclass
class Batch:
    x: object


@pytest.mark.parametrize("given", [Batch(X), Batch([X]), np.ones(12, np.float32)])
def test_an_example_in_whose_parts_nothing_is_followed_is_refused(given):
    net = Call(lambda s, x, given: s.o(F.relu(s.i(x))), **units())
    with pytest.raises(ShrinkError, match=f"the example has a {type(given).__name__}, in which nothing is followed"):
        depgraph.shrink(net.eval(), (X, given))


def test_sequences_of_several_lengths_packed_are_one_input():
    net = Call(lambda s, p: s.o(F.relu(s.i(s.rnn(p)[1][0][-1]))), **units(rnn=nn.LSTM(5, 8, batch_first=True)))
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(4, 7, 5), torch.tensor([7, 5, 3, 2]), batch_first=True)
    small = depgraph.shrink(net.eval(), packed)
    assert small.i.out_features == 6 and torch.allclose(small(packed), net(packed), atol=1e-5)
    assert inference.form(net, packed).folded == []


def test_outputs_may_hold_a_class_or_themselves():
    class Found:
        def __init__(self, logits):
            self.logits, self.kind, self.itself = logits, nn.Linear, self

    net = Call(lambda s, x: Found(s.o(F.relu(s.i(x)))), **units()).eval()
    assert depgraph.shrink(net, X, keep_one=True).i.out_features == 6


class Silent(nn.Module):
    """A network whose `train` returns nothing."""

    def __init__(self):
        super().__init__()
        self.i, self.o = kill(nn.Linear(8, 12), HALF), nn.Linear(12, 3)

    def train(self, mode=True):
        super().train(mode)

    def forward(self, x):
        return self.o(F.relu(self.i(x)))


def test_a_network_whose_train_returns_nothing():
    assert depgraph.shrink(Silent(), X).i.out_features == 6


def test_what_is_no_network_of_ours_is_refused_with_a_remedy():
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))
    for other in (lambda x: x, torch.jit.trace(net, X)):
        with pytest.raises(ShrinkError, match="is no network of Python's; pass the nn.Module that it was made of"):
            depgraph.shrink(other, X)
    with pytest.raises(ShrinkError, match="on the device meta, without numbers; load them first"):
        depgraph.shrink(net.to("meta"), X)
    closed = Call(lambda s, x: s.scaled(x), i=nn.Linear(8, 3))
    patched = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 3))
    closed.scaled = lambda x: 2 * closed.i(x)
    patched[0].forward = lambda x, old=patched[0].forward, other=patched[1]: old(x) + other(old(x)).sum()
    for net, layer in ((closed, "i"), (patched, "1")):
        for use in (depgraph.shrink, inference.form):
            with pytest.raises(ShrinkError, match=f"holds its layer '{layer}' and runs that, not a copy's"):
                use(net, X)
    closed.function, closed.scaled = (lambda s, x: s.i(x)), (lambda: closed.i)
    assert depgraph.shrink(closed, X).i.out_features == 3, "what no pass runs does not matter"
    kept = {}
    hooked = Call(lambda s, x: s.i(x) * 0 + kept["h"], i=nn.Linear(8, 3))
    hooked.i.register_forward_hook(lambda layer, x, h: kept.update(h=h) if layer is hooked.i else None)
    with pytest.raises(ShrinkError, match="a hook or a function in it holds the network itself, not its copy"):
        depgraph.shrink(hooked, X)


def unit_interval(s, x):
    assert x.min() >= 0 and x.max() <= 1
    return s.o(F.relu(s.i(x)).mean(1) * x.shape[1] ** 0.5)


def by_mask(s, x, mask):
    h = F.relu(s.i(x))
    return s.o(h.mean(1) if mask.all() else (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) ** 0.5)


LONG, MASK = torch.rand(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
PARTLY = MASK & (torch.arange(5) < 3)
UNLIKE_NOISE = {
    "numbers that are positive": (
        lambda s, x: s.o(F.relu(s.i(x.log())).mean(1) * x.shape[1] ** 0.5),
        LONG,
        torch.rand(2, 6, 8),
    ),
    "numbers in an interval": (unit_interval, LONG, torch.rand(2, 6, 8)),
    "a mask of some places": (by_mask, (LONG, MASK), (LONG, PARTLY)),
    "a mask of whole numbers": (by_mask, (LONG, MASK.long()), (LONG, PARTLY.long())),
    "a class alone": (
        lambda s, x: s.o(F.relu(s.i(x)).mean(1) * x.shape[1] ** 0.5).argmax(1),
        LONG[:1],
        torch.randn(500, 50, 8),
    ),
}


@pytest.mark.parametrize("name", UNLIKE_NOISE)
def test_constants_that_no_noise_shows_stay(name):
    """As noise is refused or gives NaN, has no half of a mask, or changes no output of whole numbers."""
    function, example, other = UNLIKE_NOISE[name]
    assert agree(Call(function, **units()), example, other).i.out_features == 12


def test_a_class_alone_lets_units_go_that_are_zero():
    net = Call(lambda s, x: s.o(F.relu(s.i(x))).argmax(1), **units())
    net.i.bias.data[HALF] = 0
    assert agree(net, X, MORE).i.out_features == 6


class Fading(nn.Module):
    """A network that keeps a number from call to call."""

    def __init__(self):
        super().__init__()
        self.i, self.o = units()["i"], units()["o"]
        self.register_buffer("much", torch.ones(1))

    def forward(self, x):
        self.much = self.much * 0.9
        return self.o(F.relu(self.i(x)) * self.much)


def test_constants_that_change_from_call_to_call_stay():
    net = Fading().eval()
    small = depgraph.shrink(net, X)
    assert small.i.out_features == 12 and small.much == net.much == 1, "no pass is left over in either"
    with torch.no_grad():
        assert all(torch.allclose(net(X), small(X), atol=1e-5) for _ in range(4))


def test_lists_among_the_outputs_keep_their_length():
    net = Call(lambda s, x: (s.o(F.relu(s.i(x))), F.relu(s.i(x)).std(0).tolist()), **units()).eval()
    assert len(depgraph.shrink(net, X)(X)[1]) == 12
