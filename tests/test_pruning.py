"""Random masks, gradual pruning and stochastic zeroing: stated shares and probabilities, freezing, resumed draws."""

from itertools import pairwise

import pytest
import torch

from lib import data, models, pruning, shrinking, training


def mlp(*widths):
    torch.manual_seed(0)
    return models.build("mlp", widths=list(widths), inputs=64, outputs=10)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("q", [1, 2])
def test_weights_are_zeroed_with_the_stated_probability(q, every):
    """Of weights that all have the same size a share p goes at a draw, 1 − (1 − p)^k where it stands for k steps."""
    for ratio in (0.3, 1.0, 1.7):
        net = mlp(400)
        hook = pruning.StochasticZeroing(net, steps=10, scale=2.0, q=q, every=every, ramp=0.1, freeze=1.0, seed=1)
        for w in models.weights(net).values():
            torch.nn.init.constant_(w, -2.0 * ratio)
        for step in range(5, 5 + every):
            hook(net, step)
        p = torch.tensor(-(ratio**q)).exp().item()
        expected = 1 - (1 - p) ** every
        n = sum(w.numel() for w in models.weights(net).values())
        share = sum((w == 0).sum().item() for w in models.weights(net).values()) / n
        assert share == pytest.approx(expected, abs=5 * (expected * (1 - expected) / n) ** 0.5)


def test_draws_differ_between_steps_and_weights():
    net = mlp(300)
    hook = pruning.StochasticZeroing(net, steps=100, scale=1.0, ramp=0.01, freeze=1.0)
    zeros = []
    for step in (1, 2):
        for w in models.weights(net).values():
            torch.nn.init.constant_(w, 1.0)
        hook(net, step)
        zeros.append([w.detach() == 0 for w in models.weights(net).values()])
    first, second = (torch.cat([z.flatten() for z in mask]).double() for mask in zeros)
    correlation = torch.corrcoef(torch.stack([first, second]))[0, 1]
    assert abs(correlation) < 0.03


def test_zeroed_weights_grow_again_until_they_are_frozen():
    digits, net = data.load("digits"), mlp(128)
    hook = pruning.StochasticZeroing(net, steps=400, target=0.8, ramp=0.4, freeze=0.7)
    seen = []

    def watch(model):
        seen.append(torch.cat([w.detach().flatten() != 0 for w in models.weights(model).values()]))
        return {}

    training.fit(net, digits, steps=400, after_step=[hook], watch=watch, log_points=40)
    changes = [int((a != b).sum()) for a, b in pairwise(seen)]
    assert min(changes[:26]) > 0, "regrowth"
    assert set(changes[28:]) == {0}, "frozen"
    shares = [1 - w.count_nonzero().item() / w.numel() for w in models.weights(net).values()]
    assert shares == pytest.approx([0.8] * 2, abs=0.06), "every layer follows the target"
    assert (training.predict(net, digits.test.x).argmax(1) == digits.test.y).float().mean() > 0.9


def test_a_filter_without_weights_takes_its_batch_norm_along():
    torch.manual_seed(0)
    net = models.build("vgg16", widths=models.widths("vgg16", scale=1 / 16))
    hook = pruning.StochasticZeroing(net, steps=10, scale=1e-9)
    (layer, norm), *_ = hook.norms
    with torch.no_grad():
        layer.weight[1] = 0
        norm.bias.fill_(0.5)
    hook(net, 1)
    assert norm.weight[1] == 0 and norm.bias[1] == 0
    assert norm.weight[0] != 0 and norm.bias[0] == 0.5


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_without_sampling_the_smallest_weights_go(scope):
    net = mlp(40)
    ws = list(pruning.masks.prunable(net).values())
    before = [w.detach().abs().clone() for w in ws]
    hook = pruning.StochasticZeroing(net, steps=10, target=0.75, scope=scope, ramp=0.1, freeze=1.0, by="rank")
    hook(net, 1)
    for group in [range(len(ws))] if scope == "global" else [[k] for k in range(len(ws))]:
        zero = torch.cat([(ws[k] == 0).flatten() for k in group])
        sizes = torch.cat([before[k].flatten() for k in group])
        assert zero.double().mean().item() == pytest.approx(0.75, abs=0.01)
        assert sizes[zero].max() <= sizes[~zero].min()


def test_the_control_takes_as_many_weights_whatever_their_size():
    """Half of the weights are small: by size those go, by chance both halves lose the same share."""
    lost = {}
    for by in ("size", "chance"):
        net = mlp(400)
        hook = pruning.StochasticZeroing(net, steps=10, scale=1.0, ramp=0.1, freeze=1.0, by=by)
        w = net.fc1.weight
        with torch.no_grad():
            w.fill_(2.0)
            w[:, ::2] = 0.5
        hook(net, 1)
        lost[by] = [(half == 0).double().mean().item() for half in (w[:, ::2], w[:, 1::2])]
    expected = [torch.tensor(-(size**2)).exp().item() for size in (0.5, 2.0)]
    assert lost["size"] == pytest.approx(expected, abs=0.02)
    assert lost["chance"] == pytest.approx([sum(expected) / 2] * 2, abs=0.02)
    with torch.no_grad():
        w[:200] = 0
        w[200:] = 2.0
    hook(net, 2)  # by chance still: what is zero already counts as taken
    share = (w == 0).double().mean().item()
    assert share == pytest.approx(0.5 + 0.5 * torch.tensor(-4.0).exp().item(), abs=0.02)


def test_unit_pruning_keeps_the_units_with_the_largest_sums():
    torch.manual_seed(0)
    net = models.build("lenet5", widths=[6, 8, 20])
    sums = net.conv2.weight.detach().abs().flatten(1).sum(1)
    pruning.apply(net, pruning.units(net, [4, 3, 20]))
    small = shrinking.shrink(net)
    assert small.config["widths"] == [4, 3, 20]
    kept = net.conv2.weight.detach().flatten(1).any(1)
    assert sums[kept].min() > sums[~kept].max()


def test_every_layer_may_have_a_target_of_its_own():
    digits, net = data.load("digits"), mlp(64)
    hook = pruning.StochasticZeroing(net, steps=400, target=[0.9, 0.4], ramp=0.4, freeze=0.7)
    training.fit(net, digits, steps=400, after_step=[hook])
    shares = [1 - w.count_nonzero().item() / w.numel() for w in models.weights(net).values()]
    assert shares == pytest.approx([0.9, 0.4], abs=0.06)


def test_one_scale_for_all_layers_follows_a_target_for_all_weights():
    digits, net = data.load("digits"), mlp(64)
    with torch.no_grad():
        models.weights(net)["fc1.weight"].mul_(0.2)  # small weights go first
    hook = pruning.StochasticZeroing(net, steps=400, target=0.8, scope="global", ramp=0.4, freeze=0.7)
    training.fit(net, digits, steps=400, after_step=[hook])
    assert len(set(hook.s.values())) == 1
    zeros, sizes = zip(*[(int((w == 0).sum()), w.numel()) for w in models.weights(net).values()], strict=True)
    assert sum(zeros) / sum(sizes) == pytest.approx(0.8, abs=0.06)
    assert zeros[0] / sizes[0] > 1.2 * zeros[1] / sizes[1]


def test_the_last_step_draws_whatever_every_is():
    digits, net = data.load("digits"), mlp(32)
    hook = pruning.StochasticZeroing(net, steps=43, target=0.8, ramp=0.5, freeze=1.0, every=4)
    training.fit(net, digits, steps=43, after_step=[hook])
    shares = [1 - w.count_nonzero().item() / w.numel() for w in models.weights(net).values()]
    assert shares == pytest.approx([0.8] * 2, abs=0.08)


def test_a_ramp_over_all_of_the_steps_ends_at_its_top():
    net = mlp(32)
    hook = pruning.StochasticZeroing(net, steps=2, scale=0.1, ramp=1.0, freeze=1.0)
    for step in range(2):
        hook(net, step)
    assert set(hook.s.values()) == {0.1}


def assert_resumes(folder, cuts, hook_of):
    """A training that is stopped at `cuts`, and carried on from its checkpoint, ends with the same weights."""
    digits, results = data.load("digits"), []
    for stops in ((), cuts):
        for until in (*stops, None):
            net = mlp(32)
            file = {"checkpoint": folder / f"{len(stops)}.pt", "checkpoint_seconds": 0}
            training.fit(net, digits, steps=100, after_step=[hook_of(net)], until=until, **file)
        results.append([w.detach() for w in models.weights(net).values()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("by", ["size", "chance", "rank"])
def test_resumed_draws_are_the_uninterrupted_ones(tmp_path, by):
    options = {"steps": 100, "target": 0.7, "every": 2, "by": by}
    assert_resumes(tmp_path, (30, 70), lambda net: pruning.StochasticZeroing(net, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either scale .s. or target"),
        ({"scale": 1.0, "target": 0.5}, "either scale .s. or target"),
        ({"scale": 1.0, "q": 3}, r"q must be a whole number in \[1, 2\], got 3"),
        ({"scale": 1.0, "q": True}, "q must be a whole number .* got True"),
        ({"scale": 1.0, "by": "luck"}, "by must be a string, one of size, chance, rank, got 'luck'"),
        ({"scale": 0.0}, r"scale must be in \(0, inf\), got 0.0"),
        ({"scale": [1.0, -1.0]}, r"scale must be in \(0, inf\), got -1.0"),
        ({"target": 1.0}, r"target must be in \(0, 1\), got 1.0"),
        ({"target": [0.5, 90]}, r"target must be in \(0, 1\), got 90"),
        ({"target": [0.5]}, "target has 1 entries for 2 weight tensors"),
        ({"target": 0.5, "scope": "model"}, "scope must be a string, one of global, layer, got 'model'"),
        ({"target": [0.5, 0.5], "scope": "global"}, "'global' takes one number as target"),
        ({"scale": 1.0, "scope": "global"}, "'global' takes one number as target, got None"),
        ({"scale": 1.0, "ramp": 0.9, "freeze": 0.5}, r"ramp .before freeze. must be in \(0, 0.5\], got 0.9"),
        ({"scale": 1.0, "freeze": 1.5}, r"freeze must be in \(0, 1\], got 1.5"),
        ({"scale": 1.0, "every": 2.5}, r"every must be a whole number in \[1, inf\), got 2.5"),
        ({"scale": 1.0, "steps": 0}, r"stochastic zeroing: steps must be a whole number in \[1, inf\), got 0"),
        ({"scale": 1.0, "rate": 1}, "stochastic zeroing has no 'rate'; known: by, every, .*, target"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        pruning.StochasticZeroing(mlp(8), **({"steps": 10} | options))


# --- random masks and gradual pruning ------------------------------------------------------------------------------


def zero_share(net):
    ws = models.weights(net).values()
    return sum((w == 0).sum().item() for w in ws) / sum(w.numel() for w in ws)


def test_random_masks_zero_as_many_of_each_layer_but_others():
    torch.manual_seed(3)
    net = mlp(50, 20)
    by_size, by_chance = pruning.magnitude(net, 0.9), pruning.random(net, 0.9)
    for name, mask in by_size.items():
        assert by_chance[name].sum() == mask.sum() and not torch.equal(by_chance[name], mask)
    again = pruning.random(net, 0.9)
    assert not torch.equal(again["fc1.weight"], by_chance["fc1.weight"]), "drawn from the global generator"


def test_held_in_any_memory_format():
    torch.manual_seed(0)
    net = models.build("vgg16", widths=models.widths("vgg16", scale=1 / 16)).to(memory_format=torch.channels_last)
    masks = pruning.magnitude(net, 0.7)
    hook = pruning.hold(masks)
    before = {name: w.detach().clone() for name, w in models.weights(net).items()}
    hook(net, 0)
    for name, w in models.weights(net).items():
        assert torch.equal(w, before[name] * masks[name])


def test_gradual_pruning_follows_the_cubic_schedule():
    """The schedule of Zhu & Gupta written with its own symbols: t₀, n pruning steps of Δt."""
    net, seen = mlp(40), {}
    hook = pruning.GradualMagnitude(net, steps=100, final=0.9, initial=0.2, begin=0.1, end=0.6, every=10)
    for step in range(100):
        with torch.no_grad():
            for w in models.weights(net).values():
                w.add_(0.01 * torch.randn_like(w))  # as an update would, zeros included
        hook(net, step)
        seen[step + 1] = zero_share(net)
    n, dt, t0 = 5, 10, 10
    for t in range(10, 100):
        last = min(t // 10 * 10, 60)
        wanted = 0.9 + (0.2 - 0.9) * (1 - (last - t0) / (n * dt)) ** 3
        assert seen[t] == pytest.approx(wanted, abs=1e-3)
    assert seen[9] == 0


def test_gradual_pruning_ends_at_its_share_whatever_the_steps():
    for steps, every, end in ((10, 100, 0.75), (7, 3, 1.0)):
        net = mlp(40)
        hook = pruning.GradualMagnitude(net, steps=steps, final=0.95, end=end, every=every)
        for step in range(steps):
            hook(net, step)
        assert zero_share(net) == pytest.approx(0.95, abs=1e-3)


@pytest.mark.parametrize("cut", [33, 85])
def test_resumed_gradual_pruning_is_the_uninterrupted_one(tmp_path, cut):
    options = {"steps": 100, "final": 0.9, "every": 7}
    assert_resumes(tmp_path, (cut,), lambda net: pruning.GradualMagnitude(net, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final": 1.0}, r"gradual pruning: final must be in \[0, 1\), got 1.0"),
        ({"final": 0.5, "initial": True}, r"initial must be in \[0, 1\), got True"),
        ({"final": 0.5, "initial": 0.6}, "initial <= final and begin < end, got 0.6, 0.5 and 0.0, 0.75"),
        ({"final": 0.5, "begin": 0.9}, "initial <= final and begin < end, got 0.0, 0.5 and 0.9, 0.75"),
        ({"final": 0.5, "every": 0}, r"every must be a whole number in \[1, inf\), got 0"),
        ({"final": 0.5, "steps": -5}, r"steps must be a whole number in \[1, inf\), got -5"),
        ({"final": 0.5, "scope": "all"}, "scope must be a string, one of global, layer, got 'all'"),
    ],
)
def test_wrong_gradual_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        pruning.GradualMagnitude(mlp(8), **({"steps": 10} | options))


# --- masks that do not fit, layers that are left alone ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mask", "message"),
    [
        (
            "fc1.weight",
            torch.zeros(1, 64, dtype=torch.bool),
            r"must be a tensor of torch.bool and shape \(8, 64\), got",
        ),
        ("fc1.weight", torch.ones(8, 64), r"got torch.float32 \(8, 64\)"),
        ("fc1.weight", 1, "of torch.bool and shape .* got 1"),
        ("fc1.bias", torch.zeros(8, dtype=torch.bool), "a mask for 'fc1.bias', which is no weight; known: fc1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(name, mask, message):
    net = mlp(8)
    for use in (pruning.apply, lambda net, masks: pruning.hold(masks)(net, 0)):
        with pytest.raises(ValueError, match=message):
            use(net, {name: mask})


def test_a_share_takes_as_many_as_it_says():
    """0.29 · 100 is 28.999999999999996 in floating point."""
    for sparsity, of, gone in ((0.29, 100, 29), (0.57, 100, 57), (0.999, 100, 99), (1 / 3, 9, 3)):
        (mask,) = pruning.masks.smallest({"w": torch.rand(of)}, sparsity, "global").values()
        assert int((~mask).sum()) == gone


@pytest.mark.parametrize("sparsity", [True, False, float("nan"), -0.1, 1.0, "0.5"])
def test_a_sparsity_is_a_share(sparsity):
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\), got"):
        pruning.magnitude(mlp(8), sparsity)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([32.9], r"each of widths must be a whole number in \[1, inf\), got 32.9"),
        ([0], "got 0"),
        ([41], r"the width of 'fc1' must be a whole number in \[1, 40\], got 41"),
        ([True], "got True"),
        ([3, 4], r"a width for each of the 1 groups of the network, got \[3, 4\]"),
    ],
)
def test_widths_of_units_are_in_their_range(widths, message):
    with pytest.raises(ValueError, match=message):
        pruning.units(mlp(40), widths)


def test_a_network_without_weights_or_groups_is_named():
    with pytest.raises(ValueError, match="ReLU has no prunable weights; see lib.models.weights"):
        pruning.magnitude(torch.nn.ReLU(), 0.5)
    with pytest.raises(ValueError, match="a width for each of the 0 groups"):
        pruning.units(torch.nn.Linear(3, 3), [2])


def test_embeddings_and_scales_have_masks_by_which_they_stay():
    net = torch.nn.ModuleDict({"words": torch.nn.Embedding(9, 4), "head": torch.nn.Linear(4, 9)})
    masks = pruning.magnitude(net, 0.75)
    assert masks["words.weight"].all() and (~masks["head.weight"]).sum() == 27
    net["words"].weight = net["head"].weight
    assert list(pruning.magnitude(net, 0.75)) == ["head.weight"], "shared: one mask"


class PartlyTrained(torch.nn.Module):
    """One layer frozen, one that no output comes from, one that is trained."""

    def __init__(self):
        super().__init__()
        self.frozen, self.unused, self.head = (torch.nn.Linear(64, n) for n in (64, 64, 10))
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.head(self.frozen(x.flatten(1)).relu())


HOOKS = {
    "hold": lambda net: pruning.hold(pruning.magnitude(net, 0.5)),
    "gradual": lambda net: pruning.GradualMagnitude(net, steps=20, final=0.5, every=1),
    "gradual, layers": lambda net: pruning.GradualMagnitude(net, steps=20, final=0.5, every=7, scope="layer"),
    "zeroing": lambda net: pruning.StochasticZeroing(net, steps=20, scale=0.1),
    "zeroing to a target": lambda net: pruning.StochasticZeroing(net, steps=20, target=0.5, scope="global"),
    "zeroing by chance": lambda net: pruning.StochasticZeroing(net, steps=20, target=[0.9, 0.9, 0.5], by="chance"),
}
PENALTIES = {
    "l1": {"name": "l1", "lam": 0.01},
    "gl": {"name": "gl", "lam": 0.01},
    "gl prox": {"name": "gl", "lam": 0.01, "prox": True},
    "ℓ0 + ℓ2": [{"name": "l0", "lam": 0.01}, {"name": "l2", "lam": 0.01}],
}


@pytest.mark.parametrize("autograd", [False, True])
@pytest.mark.parametrize("what", [*HOOKS, *PENALTIES])
def test_frozen_and_unused_layers_stay_as_they_are(what, autograd):
    torch.manual_seed(0)
    net = PartlyTrained()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    hooks = [HOOKS[what](net)] if what in HOOKS else []
    options = {"penalty": PENALTIES.get(what), "autograd_penalty": autograd, "optimizer": {"name": "sgd", "lr": 0.1}}
    training.fit(net, data.load("digits"), steps=20, after_step=hooks, **options)
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) == (not name.startswith("head")), name
    if hooks:
        share = (net.head.weight == 0).double().mean().item()
        assert share > 0.2 if what == "hold" else share == pytest.approx(0.5, abs=0.05) or what == "zeroing"


def test_a_frozen_norm_stays_as_it_is():
    torch.manual_seed(0)
    net = models.build("vgg16", widths=models.widths("vgg16", scale=1 / 16))
    hook = pruning.StochasticZeroing(net, steps=10, scale=1e-9)
    (layer, norm), *_ = hook.norms
    with torch.no_grad():
        layer.weight[1] = 0
    norm.requires_grad_(False)
    hook(net, 1)
    assert norm.weight[1] == 1


# --- the equation and its fast form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [1, 2])
def test_the_hook_zeroes_as_the_equation_does(q):
    """Shares of zeros by size of the weight, of the reference and of the hook, against the stated probability."""
    torch.manual_seed(0)
    net, s, draws = mlp(400), 0.7, 40
    hook = pruning.StochasticZeroing(net, steps=10**6, scale=s, q=q, ramp=1e-6, freeze=1.0)
    w, generator = net.fc1.weight, torch.Generator().manual_seed(1)
    sizes = torch.linspace(0.01, 2.0, 64)
    counts = torch.zeros(2, 64)
    for step in range(1, draws + 1):
        with torch.no_grad():
            w.copy_(sizes * torch.randn(w.shape).sign())
        counts[0] += (pruning.zeroed(w.detach(), s, q, generator=generator) == 0).sum(0)
        hook(net, step)
        counts[1] += (w == 0).sum(0)
    p, n = pruning.zeroing_probability(sizes, s, q), draws * len(w)
    assert p[0] > 0.97 and p[-1] < 0.06
    assert ((counts / n - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


def test_a_weight_of_zero_stays_zero_and_large_ones_stay():
    w = torch.tensor([0.0, -0.0, 1e3, -1e3])
    assert torch.equal(pruning.zeroed(w, 1.0), w)
    assert pruning.zeroing_probability(torch.tensor([0.0, 1.0, 3e38]), 1.0).tolist() == [
        1.0,
        pytest.approx(0.3678794),
        0,
    ]


def test_held_weights_are_those_that_a_network_has_now():
    net = torch.nn.Sequential(torch.nn.Linear(4, 3))
    hook = pruning.hold(pruning.magnitude(net, 0.5))
    hook(net, 0)
    net.load_state_dict({"0.weight": torch.ones(3, 4), "0.bias": torch.zeros(3)}, assign=True)
    hook(net, 7)
    assert int((net[0].weight == 0).sum()) == 6


def test_weights_that_are_loaded_into_their_places_are_zeroed():
    net = mlp(40)
    hook = pruning.StochasticZeroing(net, steps=10, target=0.5, ramp=0.1, by="rank")
    hook(net, 0)
    net.load_state_dict({name: torch.randn_like(t) for name, t in net.state_dict().items()}, assign=True)
    for step in range(1, 10):
        hook(net, step)
    assert zero_share(net) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ValueError, match="made for other weights"):
        hook(mlp(40), 10)


def test_a_state_is_of_its_moment_and_of_its_network():
    """Training on changes no state that was taken before, and one state may be gone back to again and again."""
    net = mlp(40)
    hook = pruning.StochasticZeroing(net, steps=1000, target=0.5, ramp=0.1)

    def trained(begin, end):
        for step in range(begin, end):
            for w in models.weights(net).values():
                w.data.add_(0.05)
            hook(net, step)
        return {name: t.clone() for name, t in net.state_dict().items()}

    before, state = trained(0, 290), hook.state_dict()  # new thresholds are drawn after it
    found = []
    for _ in range(3):
        found.append(trained(290, 320))
        net.load_state_dict(before)
        hook.load_state_dict(state)
    assert all(torch.equal(found[0][name], other[name]) for other in found for name in other)
    with pytest.raises(ValueError, match="state of a zeroing of other weights"):
        pruning.StochasticZeroing(mlp(40, 30), steps=10, target=0.5).load_state_dict(state)


def test_gradual_pruning_holds_what_it_had_of_a_layer_that_was_frozen_for_a_while():
    net = mlp(40)
    hook = pruning.GradualMagnitude(net, steps=10, final=0.5, every=1)
    hook(net, 5)
    gone = net.fc1.weight == 0
    net.fc1.requires_grad_(False)
    hook(net, 8)
    net.fc1.requires_grad_(True)
    hook.finished = True  # no new draw
    net.fc1.weight.data.add_(0.3)
    hook(net, 9)
    assert gone.any() and torch.equal(net.fc1.weight == 0, gone)


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, lambda net: torch.nn.Sequential(torch.nn.Identity(), net)])
def test_a_filter_takes_its_batch_norm_along_in_a_wrapped_network_too(wrap):
    net = models.build("ct_cnn", widths=[3, 4])
    wrapped = wrap(net)
    with torch.no_grad():
        net.conv1.weight[0] = 0
    pruning.StochasticZeroing(wrapped, steps=10, target=0.1)(wrapped, 0)
    assert net.norm1.weight.tolist() == [0, 1, 1]


def test_units_of_which_a_part_is_not_prunable_are_named():
    net = mlp(40)
    net.prunable = ["fc1.weight"]
    with pytest.raises(ValueError, match=r"part of whose weights, fc2\.weight, net\.prunable leaves out"):
        pruning.units(net, [3])
