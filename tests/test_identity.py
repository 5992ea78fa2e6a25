"""A checkpoint belongs to one training: any other starts anew, as without it; its own goes on where it was."""

import functools

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
