"""A checkpoint belongs to one training: any other starts anew, as without it; its own goes on where it was."""

import functools
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib import pruning, training

X, Y = torch.randn(120, 10, generator=torch.Generator().manual_seed(0)), torch.arange(120) % 3


class Net(nn.Module):
    def __init__(self, *, act=F.relu, p=0.0, gain=1.0, trained=True, resting=False, momentum=0.1):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.n, self.b = nn.Linear(10, 8), nn.BatchNorm1d(8, momentum=momentum), nn.Linear(8, 3)
        self.act, self.drop, self.gain = act, nn.Dropout(p), gain
        self.register_buffer("mean", torch.zeros(10), persistent=False)
        self.a.requires_grad_(trained)
        self.n.train(not resting)

    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return self.gain * self.b(self.drop(self.act(self.n(self.a(x - self.mean)))))


def smoothed(share):
    return lambda outputs, y: F.cross_entropy(outputs, y, label_smoothing=share)


class Scaled:
    def __init__(self, gain):
        self.gain = gain

    def loss(self, outputs, y):
        return self.gain * F.cross_entropy(outputs, y)


class Averaged(nn.Module):
    """A loss over its mean so far, which is a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.ones(()))

    def forward(self, outputs, y):
        loss = F.cross_entropy(outputs, y)
        self.mean.mul_(0.9).add_(loss.detach(), alpha=0.1)
        return loss / self.mean


def hold(k):
    return [pruning.hold({"a.weight": torch.arange(80).view(8, 10) % k == 0})]


def swapped():
    """The labels of rows that a sample of every second one does not see."""
    y = Y.clone()
    y[1], y[3] = Y[3], Y[1]
    return X, y


PAIRS = {
    "dropout": ({}, {}, {"p": 0.5}, {}),
    "activation": ({}, {}, {"act": torch.tanh}, {}),
    "a function of one's own": ({"act": lambda h: h.clamp(0)}, {}, {"act": lambda h: h.clamp(1)}, {}),
    "attribute": ({}, {}, {"gain": 3.0}, {}),
    "frozen": ({}, {}, {"trained": False}, {}),
    "resting": ({}, {}, {"resting": True}, {}),
    "momentum": ({}, {}, {"momentum": 0.5}, {}),
    "code": (
        {},
        {"loss": lambda outputs, y: F.cross_entropy(outputs, y)},
        {},
        {"loss": lambda outputs, y: F.multi_margin_loss(outputs, y)},
    ),
    "closure": ({}, {"loss": smoothed(0.1)}, {}, {"loss": smoothed(0.9)}),
    "partial": (
        {},
        {"loss": functools.partial(F.cross_entropy, label_smoothing=0.1)},
        {},
        {"loss": functools.partial(F.cross_entropy, label_smoothing=0.9)},
    ),
    "module": (
        {},
        {"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 2, 3]))},
        {},
        {"loss": nn.CrossEntropyLoss(torch.tensor([9.0, 2, 3]))},
    ),
    "owner": ({}, {"loss": Scaled(1.0).loss}, {}, {"loss": Scaled(5.0).loss}),
    "namespace": (
        {},
        {"loss": functools.partial(Scaled.loss, types.SimpleNamespace(gain=1.0))},
        {},
        {"loss": functools.partial(Scaled.loss, types.SimpleNamespace(gain=5.0))},
    ),
    "masks": ({}, {"after_step": hold(2)}, {}, {"after_step": hold(3)}),
    "rows": ({}, {"data": (X, Y)}, {}, {"data": swapped()}),
}


def fit(net, options, **more):
    options = {"data": (X, Y), "steps": 12, "batch": 30, "checkpoint_seconds": 0} | options | more
    torch.manual_seed(7)
    return training.fit(net, options.pop("data"), **options)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("what", PAIRS)
def test_another_training_starts_anew(what, tmp_path, capsys):
    file, (first, options, other, others) = tmp_path / "checkpoint.pt", PAIRS[what]
    fit(Net(**first), options, checkpoint=file, until=7)
    net, alone = Net(**other), Net(**other)
    fit(net, others, checkpoint=file)
    fit(alone, others)
    assert same(net, alone) and "of another training" in capsys.readouterr().out


@pytest.mark.parametrize("what", PAIRS)
def test_the_same_training_goes_on(what, tmp_path, capsys):
    """Buffers that are no part of the state_dict and NumPy's random numbers go on, too."""
    file, (of, options, *_) = tmp_path / "checkpoint.pt", PAIRS[what]
    options = options | {"augment": lambda x, _: x + np.random.standard_normal()}  # noqa: NPY002
    nets = [Net(**of) for _ in range(3)]
    np.random.seed(3)  # noqa: NPY002
    fit(nets[0], options)
    np.random.seed(3)  # noqa: NPY002
    fit(nets[1], options, checkpoint=file, until=7)
    np.random.seed(4)  # noqa: NPY002
    fit(nets[2], options, checkpoint=file)
    assert same(nets[0], nets[2]) and torch.equal(nets[0].mean, nets[2].mean) and not capsys.readouterr().out


def test_the_seed_of_zeroing_makes_another_training(tmp_path):
    def trained(seed, checkpoint):
        net = Net()
        zeroing = pruning.StochasticZeroing(net, steps=12, seed=seed, target=0.5)
        fit(net, {}, after_step=[zeroing], checkpoint=checkpoint)
        return net

    first, other = trained(1, tmp_path / "0.pt"), trained(2, tmp_path / "0.pt")
    assert same(other, trained(2, None)) and not same(first, other)


def test_a_hook_may_use_what_is_bound_later(tmp_path, capsys):
    def hook(model, step):
        if step > 99:
            print(last)

    nets, file = [Net() for _ in range(3)], tmp_path / "0.pt"
    fit(nets[0], {}, after_step=[hook], checkpoint=file, until=7)
    fit(nets[1], {}, after_step=[hook], checkpoint=file)
    last = "a note"
    fit(nets[2], {}, after_step=[hook])
    assert same(*nets[1:]) and not capsys.readouterr().out


@pytest.mark.parametrize("frozen", ["a", "n"])
def test_what_a_loss_keeps_and_a_hook_freezes_goes_on(frozen, tmp_path):
    def freeze(model, step):
        if step == 3:
            getattr(model, frozen).requires_grad_(False)
            model.b.requires_grad_(True)

    nets, file = [Net() for _ in range(3)], {"checkpoint": tmp_path / "0.pt"}
    for net, options in zip(nets, ({}, file | {"until": 7}, file), strict=True):
        net.b.requires_grad_(False)
        fit(net, {}, loss=Averaged(), after_step=[freeze], optimizer={"name": "sgd", "lr": 0.1}, **options)
    assert same(nets[0], nets[2]) and not getattr(nets[2], frozen).weight.requires_grad


class Noting:
    def __init__(self, noted):
        self.noted = noted

    def __call__(self, model, step):
        pass

    def state_dict(self):
        return {"noted": [self.noted]}


@pytest.mark.parametrize("noted", [np.float64(0), np.zeros(2), {np.int64(1): 2}, PAIRS.keys()], ids=str)
def test_a_state_that_would_not_be_read_back_is_refused(noted, tmp_path):
    with pytest.raises(ValueError, match=r"the state_dict of hook 0 \(Noting\) holds .*; keep plain numbers"):
        fit(Net(), {}, after_step=[Noting(noted)], checkpoint=tmp_path / "0.pt")


def test_rates_of_numpy_are_read_back(tmp_path, capsys):
    options = {"optimizer": {"name": "adam", "lr": np.float64(0.01), "betas": (np.float64(0.9), 0.99)}}
    options |= {"schedule": lambda t: np.float64(1 - t), "checkpoint": tmp_path / "0.pt"}
    fit(Net(), options, until=7)
    fit(Net(), options)
    assert not capsys.readouterr().out
