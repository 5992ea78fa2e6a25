"""What stands around a training: a caller's optimizer and network, hooks that change it, sittings, odd networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from lib import dynamics, measures, models, pruning
from lib.training import fit, predict, speed

X, Y = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
IMAGES = torch.randn(40, 4, 8, 8, generator=torch.Generator().manual_seed(0))
RATES = {"adam": {"lr": 0.01}, "adamw": {"lr": 0.01}, "sgd": {"lr": 0.01, "momentum": 0.9}}
MAKERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def convolutional():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(80, 3))


def steps(net, optimizer, count, after=lambda net, step: None):
    for step in range(count):
        optimizer.zero_grad()
        F.cross_entropy(net(IMAGES), Y).backward()
        optimizer.step()
        after(net, step)


def apart(a, b):
    return max((p - q).abs().max().item() for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", MAKERS)
def test_a_callers_optimizer_goes_on_after_a_training(name):
    nets = [convolutional(), convolutional()]
    for net, between in zip(nets, (False, True), strict=True):
        optimizer = MAKERS[name](net.parameters(), **RATES[name], fused=True)
        steps(net, optimizer, 5)
        if between:
            fit(net, (IMAGES, Y), steps=1, optimizer={"name": "sgd", "lr": 0.0}, precision="fp32")
            assert net[0].weight.is_contiguous()
        steps(net, optimizer, 5)
    assert apart(*nets) < 1e-5


def test_a_network_with_the_channels_last_keeps_them():
    net = convolutional().to(memory_format=torch.channels_last)
    fit(net, (IMAGES, Y), steps=2)
    assert not net[0].weight.is_contiguous() and net[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", MAKERS)
def test_a_hook_may_lay_weights_out_anew(name):
    """As one that takes them back to their first values does."""
    nets = [convolutional(), convolutional()]
    first = {key: p.detach().clone() for key, p in nets[0].named_parameters()}

    def rewind(net, step):
        if step == 3:
            for key, p in net.named_parameters():
                p.data = first[key].clone()

    steps(nets[0], MAKERS[name](nets[0].parameters(), **RATES[name]), 8, rewind)
    options = {"batch": 40, "order": "sequence", "precision": "fp32", "optimizer": {"name": name} | RATES[name]}
    fit(nets[1], (IMAGES, Y), steps=8, after_step=[rewind], **options)
    assert apart(*nets) < 1e-5


@pytest.mark.parametrize("cut", [14, 15])
def test_a_sitting_that_ends_between_log_points_changes_nothing(cut, tmp_path):
    def trained(*untils):
        for until in (*untils, None):
            torch.manual_seed(1)
            net, file = nn.Linear(8, 3), {"checkpoint": tmp_path / f"{len(untils)}.pt"}
            options = {"schedule": "plateau", "optimizer": {"lr": 0.05}, "log_points": 20, "batch": 8}
            found = fit(net, (X, Y), steps=60, watch=lambda n: {"validation": 0.0}, until=until, **options, **file)
        return net.weight, found.curves["step"]

    (whole, at), (cut_up, then) = trained(), trained(cut)
    assert torch.equal(whole, cut_up) and at == then == list(range(3, 61, 3))


def test_a_norm_that_a_hook_puts_at_rest_stays_so():
    net, seen = nn.Sequential(nn.Linear(8, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3)), []

    def hook(model, step):
        seen.append(model[1].training)
        if step == 6:
            model[1].eval()
        if step == 12:
            model.eval()

    fit(net, (X, Y), steps=20, batch=8, after_step=[hook], log_points=4, watch=lambda net: {"v": int(not net.train())})
    assert seen == [True] * 7 + [False] * 13


def test_a_frozen_mask_of_infinities_is_no_divergence():
    net = nn.Linear(8, 3)
    net.mask = nn.Parameter(torch.tensor([0.0, -torch.inf, 0.0]), requires_grad=False)
    net.register_forward_hook(lambda layer, args, out: out + layer.mask)
    assert fit(net, (X, Y // 2 * 2), steps=3).status == "done"


class Caching(nn.Module):
    def __init__(self, *, persistent):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(8, 3))
        self.inner.register_buffer("cache", None, persistent=persistent)

    def forward(self, x):
        if self.inner.cache is None:
            self.inner.cache = torch.linspace(0.5, 2, 8)
        return self.inner(x * self.inner.cache)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_buffer_that_the_first_pass_makes_is_taken_up(persistent, tmp_path):
    nets = [Caching(persistent=persistent) for _ in range(3)]
    fit(nets[0], (X, Y), steps=6)
    fit(nets[1], (X, Y), steps=6, until=3, checkpoint=tmp_path / "c.pt")
    fit(nets[2], (X, Y), steps=6, checkpoint=tmp_path / "c.pt")
    assert apart(nets[0], nets[2]) == 0 and torch.equal(nets[0].inner.cache, nets[2].inner.cache)


class Grouped(nn.Module):
    """A network of a reader's with `groups` that are not those of `models.build`, and a view of its images."""

    groups = (1, 2)

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(4, 6, 3), nn.Linear(216, 3)

    def forward(self, x):
        return self.head(self.conv(x).view(len(x), -1))


def test_what_a_network_of_ones_own_calls_groups_is_no_table():
    net = Grouped()
    assert models.groups(net) == () and fit(net, (IMAGES, Y), steps=2).status == "done"
    hook, log = pruning.StochasticZeroing(net, steps=2, target=0.5), None
    with pytest.raises(ValueError, match="units takes a width for each of the 0 groups"):
        pruning.units(net, [1, 1])
    with pytest.raises(ValueError):
        log = dynamics.Dynamics(net, steps=2)
    assert hook and log is None


def test_what_is_timed_and_counted_leaves_the_network_and_the_random_state():
    net = Caching(persistent=False)
    state = torch.get_rng_state()
    measures.compare({"net": net}, (8,), batches=(2,), repeats=1)
    assert torch.equal(state, torch.get_rng_state())
    net(X).sum().backward()
    with pytest.raises(ValueError, match=r"Caching does not take inputs \(N, 7\)"):
        measures.latency({"net": net}, X[:, :7], repeats=1)


def test_denormals_count_on_as_a_caller_has_set_it():
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_flush_denormal(True)
        predict(nn.Linear(8, 3), X)
        assert torch.tensor([1e-39], dtype=torch.float32).mul(1).item() == 0
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)


def test_a_norm_of_a_convolution_that_is_computed_is_not_moved_by_laying_it_out():
    net = nn.Sequential(spectral_norm(nn.Conv2d(4, 6, 3)))
    before = {key: t.clone() for key, t in net.state_dict().items()}
    speed.channels_last(net)
    assert all(torch.equal(before[key], t) for key, t in net.state_dict().items())


def test_an_augmentation_of_ones_own_gets_images_as_they_are():
    net, kinds = models.build("ct_cnn", widths=[4], inputs=4), []

    def flip(x, generator):
        kinds.append(x.dtype)
        return torch.from_numpy(np.flip(x.numpy(), 3).copy())

    fit(net, (IMAGES, Y % 2), steps=1, augment=flip, precision="bf16")
    assert kinds[-1] == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(nn.Linear(8, 3), (X, (X[:, :3] > 0).long())), r"several labels a row take y.float\(\) and loss="),
        (lambda: fit(nn.Linear(8, 3), (X, F.one_hot(Y))), r"; y.argmax\(1\)$"),
        (lambda: fit(nn.Linear(8, 3), (X, Y), weight_decay=1e-4), r"pass optimizer={'weight_decay': …}"),
    ],
)
def test_remedies_are_those_that_work(call, message):
    with pytest.raises(ValueError, match=message):
        call()
