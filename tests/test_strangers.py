"""What a stranger may hand over, and must be told of at once: outputs, weights and files of unusual kinds."""

import pytest
import torch
from torch import nn

from lib import depgraph, inference, models, pruning, saving, training

X = torch.randn(30, 10, generator=torch.Generator().manual_seed(0))


class Call(nn.Module):
    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def fit_bilinear():
    net = Call(lambda s, x: s.b(s.a(x), s.a(x)), a=nn.Linear(10, 4), b=nn.Bilinear(4, 4, 3))
    return training.fit(net, (X, torch.arange(30) % 3), steps=2, precision="bf16")


def pruned_nan():
    net = nn.Sequential(nn.Linear(10, 4), nn.Linear(4, 2))
    nn.init.constant_(net[1].weight, torch.nan)
    return pruning.magnitude(net, 0.5)


def exported(function, tmp_path):
    return saving.to_onnx(Call(function, a=nn.Linear(10, 4)), tmp_path / "net.onnx", X[:2])


REFUSED = {
    "a mean of the batch": (lambda _: training.predict(Call(lambda s, x: x.mean(0)), X, batch=7), "not a row for each"),
    "one number": (lambda _: training.predict(Call(lambda s, x: x.mean()), X), "not a row for each"),
    "bf16": (lambda _: fit_bilinear(), "precision='fp32'"),
    "NaN": (lambda _: pruned_nan(), "'1.weight' has weights that are NaN"),
    "lazy": (lambda _: models.weights(nn.Sequential(nn.LazyLinear(4))), "'0' has no weight yet"),
    "one example": (
        lambda path: exported(lambda s, x: s.a(x) * (2 if x.shape[0] > 1 else 1), path),
        "a batch of 1 than",
    ),
    "many examples": (
        lambda path: exported(lambda s, x: s.a(x) * (2 if x.shape[0] > 3 else 1), path),
        "a batch of 9 than",
    ),
    "the batch's size": (lambda path: exported(lambda s, x: s.a(x) / len(x), path), "batches of that size alone"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_said_with_what_to_do(what, tmp_path):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def scaled():
    layers = {"i": nn.Conv2d(3, 16, 1), "k": nn.Module(), "o": nn.Conv2d(16, 2, 1)}
    layers["k"].register_buffer("of", torch.linspace(1, 2, 16).view(16, 1, 1), persistent=False)
    return Call(lambda s, x: s.o(s.i(x).relu() * s.k.of), **layers).eval()


@pytest.mark.parametrize("left", [10, 1])
def test_a_file_has_the_sliced_buffers_that_a_fresh_network_makes_too_wide(left, tmp_path):
    net, x, file = scaled(), torch.randn(2, 3, 5, 5), tmp_path / "net"
    with torch.no_grad():
        net.i.weight[left:] = 0
        net.i.bias[left:] = 0
    small = depgraph.shrink(net, x)
    for _ in range(2):
        file.write_bytes(saving.to_bytes(small))
        small = saving.load_into(scaled(), file)
        assert small.i.out_channels == left
        assert torch.allclose(small(x), net(x), atol=1e-6)


def test_a_norm_along_another_axis_is_not_folded():
    net = nn.Sequential(nn.Linear(9, 7), nn.BatchNorm1d(3))
    x = torch.randn(2, 3, 9)
    form = inference.form(net, x)
    assert form.folded == [] and torch.equal(form(x), net.eval()(x))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_that_views_its_images_is_trained(precision):
    """Views of channels that lie last would raise, and so would those of what the loop computes by another way."""

    def forward(s, x):
        h = s.b(s.a(x).relu())
        h = h.view(len(x), 16, -1).relu().view(h.shape)
        return s.o(s.d(h).view(len(x), -1))

    layers = {"a": nn.Conv2d(3, 256, 3, 2, 1), "b": nn.Conv2d(256, 256, 3, padding=1), "o": nn.Linear(1024, 2)}
    net = Call(forward, **layers, d=nn.Conv2d(256, 256, 3, 2, 1, groups=256))
    net.table = nn.Parameter(torch.rand(1, 2, 3, 2, 2))
    history = training.fit(net, (torch.randn(8, 3, 8, 8), torch.arange(8) % 2), steps=2, batch=4, precision=precision)
    assert history.status == "done"


class Ensemble(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.weight = nn.Parameter(torch.randn(3, outputs, inputs))

    def forward(self, x):
        return x @ self.weight.mT + self.bias


def test_a_linear_layer_of_three_axes_is_saved_and_shrunk(tmp_path):
    net, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), Ensemble(16, 4)).eval(), torch.randn(2, 8)
    nn.init.zeros_(net[0].weight[:4])
    nn.init.zeros_(net[0].bias[:4])
    (tmp_path / "net").write_bytes(saving.to_bytes(net))
    again = saving.load_into(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), Ensemble(16, 4)), tmp_path / "net")
    assert torch.equal(again(x), net(x))
    assert torch.allclose(depgraph.shrink(net, x)(x), net(x), atol=1e-5)


@pytest.mark.parametrize("use", [depgraph.shrink, inference.form])
def test_a_network_that_takes_a_gradient_without_saying_so_is_told_how(use):
    def force(s, x):
        x = x.requires_grad_()
        return torch.autograd.grad(s.a(x).square().sum(), x)[0]

    with pytest.raises(ValueError, match="does not require grad.* within torch.enable_grad()"):
        use(Call(force, a=nn.Linear(10, 4)).eval(), X)
