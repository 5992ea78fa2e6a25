"""The competitors' layers: their losses against sampling and integration, and folding into the plain network."""

import math
from itertools import pairwise

import pytest
import torch
from scipy import integrate, stats

from lib import baselines, data, models, training

KINDS = {
    "hard_concrete": {"name": "hard_concrete", "lam": 0.1},
    "variational_dropout": {"name": "variational_dropout", "lam": 1.0},
}


def mlp(*widths):
    torch.manual_seed(0)
    return models.build("mlp", widths=list(widths), inputs=64, outputs=10)


def scattered(kind):
    """A noisy network in which some gates are shut and some open, some weights noise and some not."""
    net, extra = baselines.noisy(mlp(30, 20), examples=1000, **KINDS[kind])
    with torch.no_grad():
        for layer in net.children():
            if kind == "hard_concrete" and hasattr(layer, "plain"):
                layer.log_alpha.normal_(0, 3)
            elif hasattr(layer, "plain"):
                layer.log_variance.uniform_(-12, 4)
    return net, extra


def test_the_expected_count_is_what_sampling_gives():
    layer = baselines.HardConcrete(torch.nn.Linear(6, 50), keep=0.5)
    with torch.no_grad():
        layer.log_alpha.copy_(torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 3.0]))
    layer.train()
    draws = torch.stack([(layer.gates() != 0).double() for _ in range(20_000)])
    torch.testing.assert_close(draws.mean(0), layer.chance_open().double(), rtol=0, atol=0.02)
    assert layer.complexity().item() == pytest.approx(50 * draws.mean(0).sum().item(), rel=0.02)
    assert draws.mean(0)[0] < 0.2 and draws.mean(0)[-1] > 0.98


@pytest.mark.parametrize("log_alpha", [-6.0, -3.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0])
def test_the_divergence_is_what_integration_gives(log_alpha):
    """−KL = ½·log α − E log|1 + √α·z| up to a constant, which makes it 0 at α = ∞."""
    root = math.exp(log_alpha / 2)

    def mean_log(low, high):
        term = lambda z: math.log(abs(1 + root * z)) * stats.norm.pdf(z)  # noqa: E731
        return integrate.quad(term, low, high, limit=200)[0]

    pole = -1 / root
    cuts = sorted({-9.0, 9.0, max(-9.0, pole)})
    expected = sum(mean_log(a, b) for a, b in pairwise(cuts))
    at_infinity = -(math.log(2) + 0.5772156649) / 2  # E log|z|
    wanted = expected - log_alpha / 2 - at_infinity
    assert baselines.divergence(torch.tensor(log_alpha)).item() == pytest.approx(wanted, abs=0.02)


def test_the_compiled_divergence_and_its_gradient_are_the_divergence():
    gradients = []
    for compile in (False, True):
        torch.manual_seed(1)
        net, extra = baselines.noisy(mlp(8), examples=1000, compile=compile, **KINDS["variational_dropout"])
        with torch.no_grad():
            for layer in filter(lambda child: hasattr(child, "plain"), net.children()):
                layer.log_variance.uniform_(-12, 4)
        extra(1.0).backward()
        gradients.append([extra(1.0).detach(), *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(gradients[0]) == 5
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_outputs_are_drawn_with_the_variance_of_drawn_weights():
    torch.manual_seed(1)
    layer = baselines.VariationalDropout(torch.nn.Linear(5, 3), log_variance=0.0)
    with torch.no_grad():
        layer.log_variance.uniform_(-3, 1)
    x = torch.randn(1, 5)
    local = torch.stack([layer(x) for _ in range(20_000)])
    noise = torch.randn(20_000, 3, 5) * (layer.log_variance / 2).exp().view(3, 5)
    drawn = ((layer.weight + noise) * x).sum(2) + layer.bias
    torch.testing.assert_close(local.mean(0)[0], drawn.mean(0), rtol=0, atol=0.06)
    torch.testing.assert_close(local.std(0)[0], drawn.std(0), rtol=0.03, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_folding_gives_the_plain_network_of_eval_mode(kind):
    net, _ = scattered(kind)
    plain = mlp(30, 20)
    plain.load_state_dict(baselines.folded(net))
    x = torch.randn(40, 64)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), net.eval()(x), rtol=1e-5, atol=1e-5)
    zeros = [(w == 0).double().mean().item() for w in models.weights(plain).values()]
    assert all(0 < share < 1 for share in zeros)
    if kind == "hard_concrete":
        assert torch.equal(plain.fc2.weight.any(0), plain.fc1.weight.any(1)), "incoming weights go along"
    else:
        kept = net.fc1.log_alpha() < 3
        assert torch.equal(plain.fc1.weight != 0, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_in_the_loop_and_gets_sparse(kind):
    digits, net = data.load("digits"), mlp(100)
    options = KINDS[kind] | ({"lam": 0.3} if kind == "hard_concrete" else {"warmup": [0.0, 0.2]})
    noisy, extra = baselines.noisy(net, examples=len(digits.train.x), **options)
    training.fit(noisy, digits, steps=1500, batch=100, extra_loss=extra, optimizer={"name": "adam", "lr": 5e-3})
    net.load_state_dict(baselines.folded(noisy))
    shares = [(w != 0).double().mean().item() for w in models.weights(net).values()]
    assert shares[0] < 0.6 and shares[0] > 0.02
    assert (training.predict(net, digits.test.x).argmax(1) == digits.test.y).float().mean() > 0.93


def test_the_divergence_is_warmed_up():
    net, extra = baselines.noisy(mlp(10), examples=100, name="variational_dropout", lam=2.0, warmup=[0.2, 0.6])
    full = extra(1.0).item()
    assert [extra(t).item() / full for t in (0.0, 0.2, 0.3, 0.6)] == pytest.approx([0, 0, 0.25, 1])
    assert full == pytest.approx(2.0 / 100 * (net.fc1.complexity() + net.fc2.complexity()).item())


def test_wrong_networks_and_names_are_named():
    with pytest.raises(ValueError, match="hard_concrete: factors has 2 entries for 3 layers"):
        baselines.noisy(models.build("mlp"), name="hard_concrete", factors=[1, 2], examples=1)
    with pytest.raises(TypeError, match="hard_concrete knows linear layers only, 'conv1' is a Conv2d"):
        baselines.noisy(models.build("lenet5"), name="hard_concrete", examples=1)
    shared = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    shared[1].weight = shared[0].weight
    for net in (shared, torch.nn.Sequential(*[shared[0]] * 2), torch.nn.ModuleList([torch.nn.Linear(4, 4)])):
        with pytest.raises(TypeError, match=r"takes an nn.Sequential without shared weights"):
            baselines.noisy(net, name="hard_concrete", examples=1)
    with pytest.raises(ValueError, match="unknown baseline 'dropout'; known: hard_concrete, variational_dropout"):
        baselines.noisy(mlp(4), name="dropout", examples=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "hard_concrete", "lam": -1.0}, r"hard_concrete: lam must be in \[0, inf\), got -1.0"),
        ({"name": "hard_concrete", "keep": [0.8, 1.0]}, r"each of hard_concrete: keep must be in \(0, 1\), got 1.0"),
        ({"name": "hard_concrete", "keep": [0.8]}, "keep has two numbers"),
        ({"name": "hard_concrete", "factors": [1, -2]}, r"factors must be in \[0, inf\), got -2"),
        ({"name": "variational_dropout", "lam": True}, r"lam must be in \[0, inf\), got True"),
        ({"name": "variational_dropout", "warmup": [0.5, 0.2]}, "warmup has two shares, its begin before"),
        ({"name": "variational_dropout", "log_variance": math.nan}, "log_variance must be in .* got nan"),
        ({"name": "variational_dropout", "log_variance": 1e39}, "log_variance must be in .* got 1e"),
        ({"name": "variational_dropout", "examples": 0}, r"examples must be a whole number in \[1, inf\), got 0"),
    ],
)
def test_options_outside_their_ranges_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        baselines.noisy(mlp(4), **({"examples": 1} | options))


@pytest.mark.parametrize("kind", KINDS)
def test_layers_without_biases_and_in_double_precision_fold_and_keep_their_modes(kind):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 6, bias=False), torch.nn.ReLU(), torch.nn.Linear(6, 2)).double()
    noisy, extra = baselines.noisy(net, examples=20, **KINDS[kind])
    x = torch.randn(20, 8, dtype=torch.float64)
    assert training.fit(noisy, (x, torch.arange(20) % 2), steps=2, extra_loss=extra).status == "done"
    noisy[1].eval()
    modes = [layer.training for layer in noisy.modules()]
    net.load_state_dict(baselines.folded(noisy))
    assert modes == [layer.training for layer in noisy.modules()] and not all(modes)
    torch.testing.assert_close(training.predict(net, x), training.predict(noisy, x))


@pytest.mark.parametrize(
    ("between", "width", "gone"),
    [
        (torch.nn.Identity(), 16, True),
        (torch.nn.GELU(), 16, True),
        (torch.nn.LayerNorm(16, elementwise_affine=False), 16, False),
        (torch.nn.Softmax(1), 16, False),
        (torch.nn.GLU(), 8, False),
    ],
    ids=str,
)
def test_incoming_weights_go_along_where_nothing_mixes_units(between, width, gone):
    layers = [torch.nn.Linear(8, 16), between, torch.nn.Dropout(0.1), torch.nn.Linear(width, 2)]
    net, x = torch.nn.Sequential(*layers), torch.randn(9, 8)
    noisy, _ = baselines.noisy(net, examples=64, name="hard_concrete")
    with torch.no_grad():
        noisy[-1].log_alpha[: width // 2] = -4
        expected = noisy.eval()(x)
        net.load_state_dict(baselines.folded(noisy))
        torch.testing.assert_close(net.eval()(x), expected)
    assert (net[0].weight[: width // 2] == 0).all() == gone and (net[-1].weight[:, : width // 2] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_layers_stay_plain_and_as_they_are(kind):
    net = mlp(30, 20)
    net.fc2.requires_grad_(False)
    noisy, _ = baselines.noisy(net, examples=100, **KINDS[kind])
    assert type(noisy.fc2) is torch.nn.Linear and hasattr(noisy.fc1, "plain") and hasattr(noisy.fc3, "plain")
    with torch.no_grad():
        for layer in (noisy.fc1, noisy.fc3):
            (layer.log_alpha if kind == "hard_concrete" else layer.log_variance).normal_(0, 3)
    was = net.fc2.weight.clone()
    plain = mlp(30, 20)
    plain.load_state_dict(baselines.folded(noisy))
    assert torch.equal(plain.fc2.weight, was)
    x = torch.randn(40, 64)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), noisy.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_noisy_layers_have_the_mode_and_the_type_of_those_they_replace(kind, dtype):
    net, x = mlp(30).to(dtype).eval(), torch.randn(9, 64, dtype=dtype)
    noisy, extra = baselines.noisy(net, examples=100, **KINDS[kind])
    assert not any(layer.training for layer in noisy.modules()) and torch.equal(noisy(x), noisy(x))
    out = noisy.train()(x)
    (out.float().sum() + extra(1.0)).backward()
    assert out.dtype == dtype and all(p.grad is not None for p in noisy.parameters())
    net.load_state_dict(baselines.folded(noisy))
    assert {t.dtype for t in baselines.folded(noisy).values()} == {dtype}
