"""Data, networks and losses of other people: they train as they are, or one message says what to do."""

import copy
import os
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse as sparse_tables
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils import data as torch_data
from torchvision import datasets
from torchvision.transforms import v2

from lib import inference, measures, models, pruning, regularizers, saving, shrinking, sparse, training
from lib.compress import compress
from lib.training.given import part_of, sized

X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
PAIRS = torch_data.TensorDataset(X, Y)
GROUP_LASSO = {"name": "gl", "lam": 0.1, "prox": True}


def mlp(outputs=2, kind=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs)).to(kind)


def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def fit(net, given, **options):
    return training.fit(net, given, **({"steps": 10, "batch": 8} | options))


class Rows(torch_data.Dataset):
    """A Dataset that never raises IndexError, as many do not."""

    def __init__(self, row):
        self.row = row

    def __len__(self):
        return 40

    def __getitem__(self, k):
        return self.row(k % 60)


def loader(given=PAIRS, **options):
    return torch_data.DataLoader(given, **({"batch_size": 8} | options))


def padded(rows):
    return nn.utils.rnn.pad_sequence([x for x, _ in rows], batch_first=True), torch.tensor([y for _, y in rows])


LENGTHS = [(torch.ones(3 + k % 4), k % 2) for k in range(20)]
FIRST = torch_data.SubsetRandomSampler(range(10))
ODD = {  # data -> x and y as they are to be
    "no end but its length": (Rows(lambda k: (X[k], int(Y[k]))), X[:40], Y[:40]),
    "targets that are lists": (
        Rows(lambda k: (X[k], [float(k), 0.5])),
        X[:40],
        torch.tensor([[k, 0.5] for k in range(40)]),
    ),
    "double arrays": (Rows(lambda k: (X[k].double().numpy(), float(k))), X[:40], torch.arange(40.0)),
    "another byte order": ((X.numpy().astype(">f4"), Y.numpy().astype(">i8")), X, Y),
    "sparse": ((X.to_sparse(), Y), X, Y),
    "SciPy's sparse": ((sparse_tables.csr_matrix(X.numpy()), Y), X, Y),
    "a frame": ((pd.DataFrame(X.numpy().astype("float64")), pd.Series(Y.numpy().astype(bool))), X, Y),
    "a shuffled loader": (loader(shuffle=True, drop_last=True), X, Y),
    "a collate_fn": (loader(LENGTHS, collate_fn=padded, batch_size=20), *padded(LENGTHS)),
}


@pytest.mark.parametrize("name", ODD)
def test_data_become_the_tables_that_they_are(name):
    given, x, y = ODD[name]
    part = part_of(given, mlp())
    assert torch.equal(part.x, x) and torch.equal(part.y, y) and (part.x.dtype, part.y.dtype) == (x.dtype, y.dtype)


def test_a_loaders_sampler_and_batch_size_count():
    assert sorted(part_of(loader(sampler=FIRST), mlp()).x[:, 0].tolist()) == sorted(X[:10, 0].tolist())
    batches = loader(batch_sampler=torch_data.BatchSampler(FIRST, 5, False), batch_size=1)
    assert sized({}, batches) == {"batch": 5} and "batch" not in sized({}, loader(X, batch_size=None))
    seen = []

    class Net(nn.Linear):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    for options in ({}, {"batch": 5}):
        training.fit(Net(8, 2), loader(batch_size=4), steps=1, **options)
    assert seen == [4, 5]


class Scaled(torch_data.Dataset):
    """Rows that are what a worker sets when it starts."""

    scale = 1.0

    def __len__(self):
        return 8

    def __getitem__(self, k):
        return torch.full((8,), self.scale), 0


def rescale(_):
    torch_data.get_worker_info().dataset.scale = 7.0


def test_workers_begin_as_a_loader_has_them_begin():
    for shuffle in (False, True):
        given = torch_data.DataLoader(Scaled(), 4, shuffle=shuffle, num_workers=1, worker_init_fn=rescale)
        assert (part_of(given, mlp()).x == 7).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("given", [torch.float16, torch.float32, torch.float64])
def test_floats_are_widened_to_the_networks_and_never_narrowed_but_from_double(kind, given):
    x = part_of((X.to(given), Y), mlp(kind=kind)).x
    half = given == kind == torch.float16
    assert x.dtype == (torch.float64 if kind == torch.float64 else torch.float16 if half else torch.float32)
    if torch.float16 not in (given, kind):
        assert training.predict(mlp(kind=kind), X.to(given)).shape == (60, 2)


MISSING = pd.DataFrame(X.numpy()).convert_dtypes()
MISSING.iloc[0, 0] = pd.NA
FRAME = pd.DataFrame(X.numpy(), columns=list("abcdefgh"))
LOST = X.clone()
LOST[4, 2] = float("nan")
REFUSED = {
    "NaN": (lambda: fit(mlp(), (LOST, Y)), r"x has 1 values that are not finite .* in row 4, column 2; mend"),
    "NaN in y": (lambda: fit(mlp(1), (X, LOST[:, 2])), r"y has 1 values .*, the first in row 4; mend"),
    "NaN in a frame": (lambda: fit(mlp(), (pd.DataFrame(LOST.numpy(), columns=FRAME.columns), Y)), "row 4, column 'c'"),
    "numbers as strings": (lambda: fit(mlp(), (FRAME.assign(c="1.5"), Y)), r"x, column 'c': .* \.astype\(float\)"),
    "dates": (lambda: fit(mlp(), (FRAME.assign(g=pd.Timestamp("2020-01-01")), Y)), "x, column 'g': .* are no numbers"),
    "words in y": (lambda: fit(mlp(), (FRAME, Y.numpy().astype(str))), "y: <U.* are no numbers"),
    "objects": (lambda: fit(mlp(), (X.numpy().astype(object), Y)), "x: object entries are no numbers"),
    "a ragged list": (lambda: fit(mlp(), ([[1, 2], [3]], [0, 1])), "x: setting an array element"),
    "too large a target": (lambda: fit(mlp(1), (X, X[:, :1].double() * 1e300)), "y has 60 values that are not finite"),
    "complex targets": (lambda: fit(mlp(), (X, Y.to(torch.complex64))), "only a loss of your own takes"),
    "no batch": (lambda: fit(mlp(), loader(batch_size=90, drop_last=True)), "there is no batch in it"),
    "three tables": (lambda: fit(mlp(), (X, Y, Y)), "no pair of tables"),
    "words": (lambda: fit(mlp(), (X, np.where(Y.numpy(), "cat", "dog"))), "encode words as whole numbers"),
    "missing values": (lambda: fit(mlp(), (MISSING, Y)), "x, column 0: .*fill in what is missing"),
    "a mask": (lambda: fit(mlp(), (np.ma.masked_greater(X.numpy(), 1), Y)), "masked entries are no numbers"),
    "complex numbers": (lambda: fit(mlp(), (X.numpy() * 1j, Y)), "complex64 entries are no numbers"),
    "pictures as they are": (lambda: fit(mlp(), Rows(lambda k: (object(), 0))), "mend it by a transform"),
    "rows of several lengths": (lambda: fit(mlp(), loader(LENGTHS)), "collate_fn of a DataLoader"),
    "dicts": (lambda: fit(mlp(), Rows(lambda k: {"x": X[k], "y": 0})), r"dict of 2 in place of a pair \(x, y\)"),
    "x alone": (lambda: fit(mlp(), X[:2]), "no pair of tables"),
    "a loss in double precision": (
        lambda: fit(mlp(), (X, Y), loss=nn.CrossEntropyLoss(torch.ones(2).double()), precision="fp32"),
        "a tensor of the loss, as its weight, is float64: make it a float32 one",
    ),
    "maps that number objects": (
        lambda: fit(nn.Conv2d(1, 3, 1), (torch.rand(8, 1, 4, 4), torch.full((8, 4, 4), 7))),
        "y has the class 7; .*maps that number objects take loss='boundary'",
    ),
    "pictures that are not square": (
        lambda: fit(nn.Conv2d(1, 3, 1), (torch.rand(8, 1, 8, 6), torch.zeros(8, 8, 6).long()), augment="dihedral"),
        "turn square images, got 8 × 6; crop or resize them",
    ),
    "whole numbers for a product": (lambda: fit(mlp(), (X.long(), Y)), r"pass x.float\(\)"),
    "whole numbers for a loss": (lambda: fit(mlp(), (X, Y), loss=nn.MSELoss()), "size"),
    "numbers that are whole": (lambda: fit(mlp(1), (X, 5 * Y)), r"outputs \(8, 1\) are for one class; .* y.float"),
    "one class": (lambda: fit(mlp(1), (X, 0 * Y)), r"outputs \(8, 1\) are for one class"),
    "one-hot": (lambda: fit(mlp(), (X, nn.functional.one_hot(Y))), r"y.argmax\(1\)"),
    "classes as floats": (lambda: fit(mlp(), (X, Y.float())), r"differ in shape; of classes take y.long"),
    "a column for rows": (lambda: fit(mlp(1), (X, X[:, 0])), r"y.reshape\(-1, 1\)"),
    "torch's spread loss": (lambda: fit(mlp(1), (X, X[:, 0]), loss=nn.MSELoss()), "Using a target size"),
    "a spread loss": (lambda: fit(mlp(1), (X, X[:, 0]), loss=lambda o, y: ((o - y) ** 2).mean()), "to all pairs"),
    "a loss without gradient": (lambda: fit(mlp(), (X, Y), loss=lambda o, y: o.detach().mean()), "has a gradient"),
    "a loss that learns": (
        lambda: fit(mlp(), (X, Y), loss=Tempered()),
        r"'heat', which nothing trains; make it a part",
    ),
    "a rate below 0": (lambda: fit(mlp(), (X, Y), schedule=lambda t: -1.0), "factor of the schedule must be in"),
    "no factor": (lambda: fit(mlp(), (X, Y), schedule=lambda t: None), "factor of the schedule must be in"),
    "many extra losses": (lambda: fit(mlp(), (X, Y), extra_loss=lambda t: torch.ones(2)), "of one number"),
    "autocast": (lambda: torch.autocast("cpu", torch.bfloat16)(fit)(mlp(), (X, Y)), "call it outside, precision="),
    "no gradients": (lambda: torch.no_grad()(fit)(mlp(), (X, Y)), r"within torch.no_grad .* call it outside"),
    "a hook for more steps": (
        lambda: fitted(lambda net: gradual(net, 99)),
        "was made for 99 steps, the training has 10",
    ),
    "a hook for fewer": (lambda: fitted(lambda net: zeroing(net, 5)), "was made for 5 steps, the training has 10"),
    "a hook again": (lambda: fitted(gradual, again=True), "a pruning hook is of one training; make a new one"),
    "a draw again": (lambda: fitted(zeroing, again=True), "a pruning hook is of one training; make a new one"),
    "an augmentation of torchvision": (
        lambda: fit(mlp(), (X, Y), augment=v2.RandomHorizontalFlip()),
        r"a function \(batch, generator\) -> tensor, got a tuple",
    ),
    "points in pictures": (
        lambda: fit(nn.Conv2d(1, 1, 1), (torch.zeros(9, 1, 8, 8), torch.zeros(9, 5, 2)), augment="flip_crop"),
        r"targets that are maps of them; .* the targets \(9, 5, 2\)",
    ),
    "chances below 0": (lambda: fit(mlp(), (X, X[:, :2]), loss="cross_entropy"), "takes classes, but the targets are"),
    "large whole numbers": (
        lambda: fit(mlp(), (X, np.full(len(X), 2**63, np.uint64))),
        "y: 9,223,372,036,854,775,808 is no int64, .* pass an array of floats",
    ),
    "a nested tensor": (lambda: fit(mlp(), (torch.nested.nested_tensor([X[0], X[1]]), Y[:2])), "data must be x and y"),
    "two inputs a row": (lambda: fit(mlp(), Rows(lambda k: ((X[k], X[k]), 0))), "there are 2 tables in place of one"),
    "a plateau of another score": (
        lambda: fit(mlp(), (X, Y), schedule="plateau", watch=lambda net: {"val": 1.0}, log_points=2),
        r"follows 'validation', but watch returns \['val'\]",
    ),
    "a score a row": (
        lambda: compress(mlp(), (X, Y), steps=2, score=lambda o, y: (o.argmax(1) == y).float()),
        "score must return one number, got tensor",
    ),
    "a bfloat16 network": (
        lambda: fit(mlp().bfloat16(), (X, Y), precision="fp32"),
        r"are bfloat16: call net.float\(\)",
    ),
    "a loss's class": (lambda: fit(mlp(), (X, Y), loss=nn.L1Loss), r"make one of it, L1Loss\(\)"),
    "all frozen": (lambda: fit(mlp().requires_grad_(False), (X, Y)), "all parameters are frozen"),
    "lazy layers": (lambda: fit(nn.LazyLinear(2), (X, Y)), "call the network once"),
    "no numbers": (lambda: fit(mlp().to("meta"), (X, Y)), "on the device meta"),
    "a device": (lambda: fit(mlp(), (X, Y), device="cuda"), r"call net.to\('cuda'\) first"),
    "a device to compress on": (lambda: compress(mlp(), (X, Y), device=torch.device("mps")), r"net.to\('mps'\) first"),
    "half precision": (lambda: compress(mlp().half(), (X, Y), steps=2), r"are float16: call net.float\(\) first"),
    "sparse gradients": (lambda: fit(nn.Embedding(9, 2, sparse=True), (Y, Y)), "sparse=False"),
    "pruned by torch": (lambda: compress(pruned(), (X, Y), steps=2), "prune.remove"),
    "one example": (lambda: compress(mlp(), (X[:1], Y[:1]), steps=2), "two at least"),
    "labels of any number": (
        lambda: compress(mlp(3), (X, (X[:, :3] > 0).float()), loss=nn.BCEWithLogitsLoss(), steps=2),
        "pass score=",
    ),
    "two inputs for ONNX": (lambda: saving.to_onnx(mlp(), "x", (X, X)), "networks of one input"),
}


class Tempered(nn.Module):
    """A loss that learns."""

    def __init__(self):
        super().__init__()
        self.heat = nn.Parameter(torch.ones(()))

    def forward(self, outputs, y):
        return nn.functional.cross_entropy(outputs * self.heat, y)


def gradual(net, steps=10):
    return pruning.GradualMagnitude(net, steps=steps, final=0.8, every=1)


def zeroing(net, steps=10):
    return pruning.StochasticZeroing(net, steps=steps, target=0.8)


def fitted(hook_of, *, again=False):
    net = mlp()
    hook = hook_of(net)
    for _ in range(1 + again):
        fit(net, (X, Y), after_step=[hook])


def pruned():
    net = mlp()
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_says_what_to_do(what):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_loss_of_ones_own_may_bring_shapes_together_itself():
    assert fit(mlp(1), (X, X[:, 0]), loss=lambda o, y: ((o[:, 0] - y) ** 2).mean()).status == "done"


def test_layers_at_rest_and_frozen_batch_norms_stay_as_they_are():
    for rest in (lambda norm: norm.eval(), lambda norm: norm.requires_grad_(False)):
        net = normed()
        rest(net[1])
        before, modes = copy.deepcopy(net[1].state_dict()), [m.training for m in net.modules()]
        fit(net, (X, Y), watch=lambda net: {"score": measures.accuracy(training.predict(net, X), Y)})
        kept = {key: value for key, value in net[1].state_dict().items() if "running" in key}
        assert len(kept) == 2 and all(torch.equal(before[key], value) for key, value in kept.items())
        measures.latency({"net": net}, X[:2], repeats=1)
        assert modes == [m.training for m in net.modules()]


def test_a_network_in_eval_mode_learns_as_one_in_training_mode():
    nets = [normed(), normed().eval()]
    for net in nets:
        fit(net, (X, Y))
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))


@pytest.mark.parametrize("of", [lambda w: w[:, :8], lambda w: w[:, ::2], lambda w: w[:1, :8].expand(16, 8)])
def test_weights_that_are_parts_of_a_tensor_train_as_copies_of_them(of):
    nets = [mlp(), mlp()]
    whole = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    nets[0][0].weight, nets[1][0].weight = nn.Parameter(of(whole)), nn.Parameter(of(whole).clone().contiguous())
    for net in nets:
        fit(net, (X, Y), precision="fp32")
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)


@pytest.mark.parametrize("made", [pruned, lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)), mlp())])
def test_weights_that_are_made_before_each_call_are_named(made):
    with pytest.warns(UserWarning, match=r"'.*0.weight' is made before each call"):
        models.weights(made())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(made(), (X, Y))  # without a penalty nothing is left out


def test_complex_weights_train_and_take_no_penalty():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 4, dtype=torch.complex64), nn.Linear(4, 2)

        def forward(self, x):
            return self.outer(self.inner(x.to(torch.complex64)).abs())

    assert fit(Net(), (X, Y)).status == "done"
    with pytest.raises(ValueError, match="of floats, got torch.complex64"):
        fit(Net(), (X, Y), penalty=GROUP_LASSO)


class Attending(nn.Module):
    """Layers that have a fused form, which hides what they multiply."""

    def __init__(self, first, inner):
        super().__init__()
        self.first, self.inner = first, inner

    def forward(self, x):
        found = self.inner(self.first(x) + torch.zeros(8))
        return found[0] if isinstance(found, tuple) else found


FUSED = {
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2 * (5 * 8 * 24 + 5 * 8 * 40 + 400)),
    "recurrent": (lambda: nn.LSTM(8, 4, batch_first=True), 2 * 5 * 16 * (8 + 4)),
}


@pytest.mark.parametrize("name", FUSED)
def test_operations_are_counted_in_fused_layers_and_of_token_ids(name):
    layer, wanted = FUSED[name]
    assert measures.flops(Attending(nn.Identity(), layer()), (5, 8)) == wanted
    net = Attending(nn.Embedding(9, 8), layer())
    table = measures.compare({"net": net}, torch.ones(3, 5, dtype=torch.int64), batches=(2,), repeats=1)
    assert table["flops"].item() == wanted
    with pytest.raises(ValueError, match=r"does not take inputs \(N, 5\) of float32"):
        measures.flops(net, (5,))


def test_chances_are_scored_as_classes_and_ignored_targets_not_at_all():
    chances = nn.functional.one_hot(Y).float()
    options = {"steps": 2, "batch": 8}
    soft = compress(mlp(), (X, chances), loss="cross_entropy", **options).table["score"]
    assert soft["dense"] == compress(mlp(), (X, Y), **options).table["score"]["dense"]
    ignored = torch.cat([torch.full((30,), -100), Y[30:]])
    logits = training.predict(mlp(), X)
    assert measures.accuracy(logits, ignored) == measures.accuracy(logits[30:], Y[30:])


def test_odd_names_and_states_are_kept_or_refused(tmp_path):
    def named():
        return nn.ModuleDict({"a:mask": nn.Linear(3, 2), "b c": nn.Linear(40, 40)})

    net = named()
    with torch.no_grad():
        net["b c"].weight[:30] = 0
    kept = sparse.read(sparse.to_bytes(net))[0]
    assert kept.keys() == net.state_dict().keys()
    assert all(torch.equal(kept[name], value) for name, value in net.state_dict().items())

    def spectral():
        return nn.Sequential(parametrizations.spectral_norm(nn.Linear(8, 2)))

    net = spectral().eval()
    (tmp_path / "w").write_bytes(saving.to_bytes(net))
    assert torch.equal(saving.load_into(spectral(), tmp_path / "w")(X), net(X))

    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"version": 3}

    for to_bytes in (saving.to_bytes, sparse.to_bytes):
        with pytest.raises(ValueError, match="'_extra_state' of Extra is no tensor"):
            to_bytes(Extra(2, 2))


def test_sparse_layers_take_any_number_of_axes():
    net, x = nn.Sequential(nn.Linear(8, 4)), torch.randn(2, 3, 8)
    torch.testing.assert_close(sparse.to_csr(net)(x), net(x))


def test_hooks_act_on_the_weights_of_the_network_that_is_trained():
    """After weights have been replaced, too; zeroing, which is made for one network, says so."""
    net = mlp()
    hold = pruning.hold(pruning.magnitude(net, 0.5))
    zeroing = pruning.StochasticZeroing(net, steps=10, target=0.5)
    fit(net, (X, Y), after_step=[hold, zeroing])
    net.load_state_dict({name: torch.ones_like(t) for name, t in net.state_dict().items()}, assign=True)
    fit(net, (X, Y), after_step=[hold])
    assert measures.sparsity(net) == 0.5
    for other in (
        lambda: fit(mlp(), (X, Y), after_step=[zeroing]),
        lambda: compress(net, (X, Y), after_step=[zeroing], steps=10),
    ):
        with pytest.raises(ValueError, match="make it of the network that is trained"):
            other()


def test_infinite_weights_that_a_mask_leaves_out_are_zero():
    net = nn.Linear(2, 2)
    torch.nn.init.constant_(net.weight, float("inf"))
    pruning.apply(net, {"weight": torch.zeros(2, 2, dtype=torch.bool)})
    assert not net.weight.any()
    assert not regularizers.group_lasso([torch.zeros(0, 3)])


def test_whole_numbers_of_numpy_are_options():
    nets = [mlp(), mlp()]
    for net, kind in zip(nets, (int, np.int64), strict=True):
        fit(net, (X, Y), batch=kind(9), seed=kind(3), steps=kind(12))
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)
    assert torch.equal(training.predict(nets[0], X, batch=np.int64(7)), training.predict(nets[0], X, batch=7))
    fit(nets[0], (X, Y), after_step=[pruning.StochasticZeroing(nets[0], steps=10, seed=np.int64(1), target=0.5)])


def test_a_recorder_that_is_an_empty_list_is_asked():
    class Recorder(list):
        def __call__(self, given):
            self.append(given)
            return {} if isinstance(given, nn.Module) else torch.zeros(())

    watch, extra = Recorder(), Recorder()
    fit(mlp(), (X, Y), watch=watch, extra_loss=extra)
    assert len(watch) == 1 and len(extra) == 10


class Late(nn.Module):
    """A network of which a layer is used from the fourth pass on."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.late, self.passes = nn.Linear(8, 2), nn.Linear(8, 2), 0

    def forward(self, x):
        self.passes += 1
        return self.first(x) + (self.late(x) if self.passes > 3 else 0)


@pytest.mark.parametrize("frozen", [False, True])
def test_layers_that_come_in_later_train_as_in_a_plain_loop(frozen):
    nets = [Late(), Late()]
    optimizer = torch.optim.Adam(nets[1].parameters(), lr=0.01)
    for net in nets:
        net.late.requires_grad_(not frozen)
    free = lambda net, step: net.late.requires_grad_(step >= 4 or not frozen)  # noqa: E731
    for k in range(7):
        optimizer.zero_grad()
        nn.functional.cross_entropy(nets[1](X[8 * k : 8 * k + 8]), Y[8 * k : 8 * k + 8]).backward()
        optimizer.step()
        free(nets[1], k)
    options = {"optimizer": {"lr": 0.01}, "order": "sequence", "precision": "fp32", "steps": 7, "after_step": [free]}
    fit(nets[0], (X, Y), **options)
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict())
    assert not torch.equal(nets[0].late.weight, Late().late.weight)


def test_a_double_network_is_trained_in_double_precision():
    net, alone = mlp(1, torch.float64), mlp(1, torch.float64)
    x, y = X.double(), X[:, :1].double() / 3
    optimizer = torch.optim.Adam(alone.parameters(), lr=1e-3)
    for k in range(5):
        optimizer.zero_grad()
        nn.functional.mse_loss(alone(x[8 * k : 8 * k + 8]), y[8 * k : 8 * k + 8]).backward()
        optimizer.step()
    fit(net, (x, y), steps=5, order="sequence", precision="fp32")
    torch.testing.assert_close(net.state_dict(), alone.state_dict(), rtol=1e-12, atol=0)
    assert torch.equal(training.predict(net, x), alone(x))


def test_complex_outputs_reach_a_loss_of_ones_own():
    net, seen = nn.Linear(8, 2, dtype=torch.complex64), []
    fit(net, (X.to(torch.complex64), Y), steps=1, loss=lambda o, y: (seen.append(o.dtype), o.abs().mean())[1])
    assert seen == [torch.complex64]


def test_predictions_are_in_fp32_within_a_callers_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        outputs = training.predict(mlp(), X)
    assert torch.equal(outputs, mlp()(X))


@pytest.mark.parametrize("of", ["watch", "hook"])
def test_modes_that_a_watch_or_a_hook_has_changed_are_again_as_they_were(of):
    net, modes = normed(), []
    net[1].eval()

    def look(model, step=0):
        modes.append([layer.training for layer in model.modules()])
        model.eval()
        if of == "watch":
            model.train()
        return {}

    fit(net, (X, Y), steps=3, **({"watch": look, "log_points": 3} if of == "watch" else {"after_step": [look]}))
    assert modes == [[True, True, False, True, True]] * 3


class Viewing(nn.Module):
    """A network with `view`, which takes no images with the channels last, and with what a pass changes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.drop, self.head = (
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.Dropout(),
            nn.Linear(64, 2),
        )

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x))).view(len(x), -1))


def test_networks_that_view_pictures_train_as_in_a_plain_loop():
    x, y, nets = torch.randn(24, 3, 6, 6), Y[:24], [Viewing(), Viewing()]
    optimizer = torch.optim.SGD(nets[1].parameters(), lr=0.1)
    torch.manual_seed(5)
    for k in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(nets[1](x[8 * k : 8 * k + 8]), y[8 * k : 8 * k + 8]).backward()
        optimizer.step()
    torch.manual_seed(5)
    fit(nets[0], (x, y), steps=3, order="sequence", optimizer={"name": "sgd", "lr": 0.1}, precision="fp32")
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict())
    assert training.predict(nets[0], x).shape == (24, 2)
    assert fit(nets[0], (x, y), augment="flip_crop").status == "done"


def test_networks_that_have_no_copies_train_on_pictures():
    net = Viewing()
    net.lock = threading.Lock()
    assert fit(net, (torch.randn(24, 3, 6, 6), Y[:24])).status == "done"


def test_a_plateau_that_is_never_seen_is_said():
    with pytest.warns(UserWarning, match="'plateau' never lowers the rate: watch is asked after 1 of 40 steps"):
        fit(mlp(), (X, Y), steps=40, schedule="plateau", watch=lambda net: {"validation": 0.0})


MAPS = torch.rand(16, 2, 8, 8)


@pytest.mark.parametrize("augment", ["flip_crop", "dihedral", "affine"])
def test_maps_with_channels_go_the_way_of_their_pictures(augment):
    seen, net = [], nn.Conv2d(2, 2, 1, bias=False)
    net.weight = nn.Parameter(torch.eye(2).view(2, 2, 1, 1))
    loss = lambda o, y: (seen.append((o - y).abs().max()), (o - y).square().mean())[1]  # noqa: E731
    fit(net, (MAPS, MAPS), augment=augment, loss=loss, steps=1, precision="fp32")
    assert seen[0] < 1e-6


def test_only_maps_go_through_an_augmentation_of_ones_own():
    x, y, seen = torch.zeros(16, 5, 8), torch.zeros(16, 5, 2), []
    loss = lambda o, y: (seen.append(y), o.square().mean())[1]  # noqa: E731
    fit(nn.Linear(8, 2), (x, y), augment=lambda x, _: x + 1, loss=loss, steps=1)
    assert not seen[0].any()


def test_a_weight_that_is_named_twice_counts_once():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    net[1].weight, net.prunable = net[0].weight, ["0.weight", "1.weight"]
    assert list(models.weights(net)) == ["0.weight"]


class InPlace(nn.Sequential):
    """A network that changes its input."""

    def __init__(self):
        super().__init__(nn.ReLU(inplace=True), nn.Linear(8, 2))

    def forward(self, x):
        return super().forward(x.mul_(2))


PASSES = {
    "fit": lambda net, x: fit(net, (x, Y), order="sequence"),
    "a loss": lambda net, x: fit(
        mlp(8), (Y[:, None] + X, x), order="sequence", loss=lambda o, y: (o - y.mul_(2)).mean()
    ),
    "predict": training.predict,
    "latency": lambda net, x: measures.latency({"net": net}, x, repeats=1),
    "flops": measures.flops,
    "form": inference.form,
    "compress": lambda net, x: compress(net, SimpleNamespace(train=(x, Y), validation=(x, Y)), steps=2),
}


@pytest.mark.parametrize("name", PASSES)
def test_data_stay_as_they_are_where_a_network_changes_its_input(name):
    x = X.clone()
    PASSES[name](InPlace(), x)
    assert torch.equal(x, X)


class Keeping(nn.Module):
    """A network that keeps tensors of its last pass, which torch does not copy, and has attributes of lib's names."""

    def __init__(self):
        super().__init__()
        self.net, self.config, self.groups, self.prunable, self.last = mlp(), {"a": 1}, 4, True, {}

    def forward(self, x):
        self.last = {"out": [self.net(x)]}
        return self.last["out"][0]


def test_networks_that_keep_tensors_of_a_pass_and_names_of_ours_go_through(tmp_path):
    net = Keeping()
    fit(net, (X, Y), penalty=GROUP_LASSO)
    assert measures.flops(net, (8,)) == 2 * (8 * 16 + 16 * 2) and measures.alive(net) is None
    assert compress(net, (X, Y), 0.5, steps=2).network.net[0].out_features == 8
    inference.save(inference.form(net, X[:3]), tmp_path)
    assert torch.equal(inference.load(tmp_path, Keeping())(X), net.eval()(X))
    with pytest.raises(ValueError, match="no network of models.build"):
        saving.save(net, tmp_path)
    with pytest.raises(ValueError, match="not made by models.build"):
        shrinking.shrink(net)


def test_a_network_of_ours_with_another_head_is_none_any_more(tmp_path):
    net = models.build("mlp", widths=[6], inputs=8, outputs=2)
    net.fc2 = nn.Linear(6, 5)
    with pytest.raises(ValueError, match="'fc2' was changed since models.build made the network"):
        saving.save(net, tmp_path / "saved")
    with pytest.raises(shrinking.ShrinkError, match="changed since models.build.*use lib.depgraph.shrink"):
        shrinking.shrink(net)


def test_networks_of_ours_train_in_double_precision():
    net = models.build("mlp", widths=[6], inputs=8, outputs=2).double()
    assert fit(net, (X.double().numpy(), Y), penalty=GROUP_LASSO).status == "done"


def test_parts_of_data_may_be_data_sets():
    parts = SimpleNamespace(train=PAIRS, validation=loader(PAIRS))
    assert compress(mlp(), parts, steps=2).table["score"]["dense"] == measures.accuracy(training.predict(mlp(), X), Y)

    class Named(Rows):
        train, validation = True, False  # as torchvision's MNIST has it

    assert fit(mlp(), Named(lambda k: (X[k], int(Y[k])))).status == "done"


def pictures(folder):
    """A folder of pictures as the recipes want them, with two classes."""
    for k in range(8):
        path = folder / ("cat", "dog")[k % 2] / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 30 * k, np.uint8)).save(path)
    return folder / "cat" / "2.png"


BROKEN = {
    "words": lambda file: file.write_text("no picture"),
    "nothing": lambda file: file.write_bytes(b""),
    "half": lambda file: file.write_bytes(file.read_bytes()[:50]),
    "a dangling link": lambda file: (file.unlink(), file.symlink_to("nowhere.png")),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("made", [lambda d: d, lambda d: torch_data.Subset(d, [5, 1, 0]), loader], ids=range(3))
def test_a_picture_that_cannot_be_read_is_named(name, made, tmp_path):
    file = pictures(tmp_path)
    rows = datasets.ImageFolder(tmp_path, v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)]))
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert fit(net, made(rows)).status == "done"
    BROKEN[name](file)
    with pytest.raises(ValueError, match=rf"cannot be read: example 1, '{file}' .*mend or remove it"):
        fit(net, made(rows))


def test_links_and_odd_names_of_pictures_are_read(tmp_path):
    file = pictures(tmp_path)
    file.rename(os.fsdecode(os.fsencode(file.parent) + b"/\xff.png"))
    file.symlink_to("0.png")
    rows = datasets.ImageFolder(tmp_path, v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)]))
    assert len(rows) == 9 and fit(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), rows).status == "done"


@pytest.mark.parametrize(("outputs", "y"), [(2, 0 * Y), (1, 0 * X[:, :1] + 3)])
def test_targets_that_are_all_the_same_are_warned_of(outputs, y):
    with pytest.warns(UserWarning, match=r"all 60 targets are (0|3\.0): there is nothing to learn"):
        fit(mlp(outputs), (X, y))


def test_what_a_subclass_does_to_examples_and_batches_is_done():
    class Scaled(torch_data.TensorDataset):
        def __getitem__(self, k):
            x, y = super().__getitem__(k)
            return x / 255, y

    class Halved(torch_data.DataLoader):
        def __iter__(self):
            return ((x / 2, y) for x, y in super().__iter__())

    assert torch.equal(part_of(Scaled(X, Y), mlp()).x, X / 255)

    class Renamed(torch_data.DataLoader):
        """Nothing of its own: it is read in order, as a DataLoader is."""

    assert torch.equal(part_of(Renamed(PAIRS, 7, shuffle=True, drop_last=True), mlp()).x, X)
    halved = part_of(Halved(PAIRS, 8, shuffle=True), mlp()).x
    assert torch.equal(halved.sort(0).values, (X / 2).sort(0).values)
