"""P2's rules: made-up tables in which the answer is known."""

import pandas as pd
import pytest

from companion import claims
from companion.claims import p2
from lib import models


def penalised(shares, costs):
    """Runs of three penalties and five seeds with the given shares of small weights and losses of accuracy."""
    lines = []
    for seed in range(5):
        for name, share, cost in zip(("none", "ℓ0", "ℓ0 + ℓ2"), shares, costs, strict=True):
            wobble = 0.0001 * ((seed * 7 + len(name)) % 3)
            lines.append({"penalty": name, "seed": seed, "sparsity_1e-3": share, "test_accuracy": 0.98 - cost + wobble})
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("shares", "costs", "verdict"),
    [
        ((0.01, 0.9, 0.85), (0, 0.001, 0.002), "reproduced"),
        ((0.01, 0.9, 0.7), (0, 0.001, 0.002), "partly"),
        ((0.01, 0.9, 0.9), (0, 0.006, 0.002), "partly"),
        ((0.01, 0.5, 0.9), (0, 0.0, 0.01), "not reproduced"),
    ],
)
def test_sparse_in_training(shares, costs, verdict):
    found, evidence = p2.sparse_in_training(penalised(shares, costs))
    assert found == verdict and "ℓ0 + ℓ2" in evidence


def chains(increase, *, gain=0.02, nets=("LeNet-300-100 on MNIST",), dense=0.016):
    """Pruning chains of five seeds: `increase` maps compressions to what they cost; cuts lie `gain` below."""
    lines = []
    for seed in range(5):
        for k, name in enumerate(nets):
            net, data = name.split(" on ")
            head = {"net": net, "data": data, "chain": "main", "penalty": "ℓ0 + ℓ2", "seed": seed}
            wobble = 0.0002 * ((seed * 3 + k) % 5)
            lines.append(head | {"stage": "dense", "test_accuracy": 1 - dense + wobble})
            for ratio, cost in increase.items():
                tuned = 1 - dense - cost + wobble + 0.0001 * (seed % 2)
                for mode in ("gradual", "one-shot"):
                    lines.append(head | {"stage": f"{mode} {ratio} tuned", "test_accuracy": tuned})
                    lines.append(head | {"stage": f"{mode} {ratio} cut", "test_accuracy": tuned - gain})
    return pd.DataFrame(lines)


def test_effective_when_small():
    nets = ("LeNet-300-100 on MNIST", "LeNet-5 on MNIST", "LeNet-300-100 on Fashion-MNIST")
    assert p2.effective_when_small(chains({12: 0.0, 20: 0.004, 56: 0.02}, nets=nets))[0] == "reproduced"
    found, evidence = p2.effective_when_small(chains({12: 0.0, 20: 0.006}, nets=nets))
    assert found == "not reproduced" and "LeNet-5 on MNIST 12×" in evidence
    mixed = pd.concat([chains({20: 0.0}), chains({20: 0.1}, nets=nets[1:])])
    assert p2.effective_when_small(mixed)[0] == "partly"
    assert p2.effective_when_small(chains({20: 0.0}, nets=nets[:2]))[0] == "partly", "the third is not known"
    other = chains({20: 0.0}).assign(chain="controls")
    assert p2.effective_when_small(pd.concat([mixed, other]))[0] == "partly", "only the method itself counts"


def deep(costs, validation):
    """Chains of a deep network at two settings: what 10×, 20× and 50× cost with each, and its validation accuracy."""
    tables = []
    for setting, cost in costs.items():
        table = chains(dict(zip((10, 20, 50), cost, strict=True)), nets=("ResNet-50 on CIFAR-100",), dense=0.3)
        tables.append(table.assign(setting=setting, validation_accuracy=validation[setting]))
    plain = tables[0].assign(penalty="ℓ2", validation_accuracy=0.99, setting="α = 0")
    return pd.concat([*tables, plain])


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [
        ((-0.01, 0.008, 0.1), "reproduced"),
        ((0.008, 0.012, 0.1), "partly"),
        ((0.012, 0.012, 0.0), "reproduced"),  # the largest counts
        ((0.012, 0.02, 0.1), "not reproduced"),
    ],
)
def test_effective_when_deep(cost, verdict):
    """The other setting would be judged the other way round, but validation does not prefer it."""
    other = (0.1, 0.1, 0.1) if verdict == "reproduced" else (0.0, 0.0, 0.0)
    found, evidence = p2.effective_when_deep(deep({"a": other, "b": cost}, {"a": 0.6, "b": 0.7}))
    assert found == verdict and "ResNet-50 on CIFAR-100" in evidence and "(b)" in evidence


def equal_epochs(costs, *, seeds=3, dense=0.93, scale=1.0, spread=0.0005, modes=("gradual", "longer")):
    """Chains of VGG-16, pruned and never cut: `costs` maps compressions to what the cut costs in as many epochs."""
    units, lines = sum(models.widths("vgg16", scale=scale)), []
    for seed in range(seeds):
        head = {"penalty": "ℓ0 + ℓ2", "setting": "a", "chain": "main", "seed": seed, "units": units}
        lines.append(head | {"stage": "dense", "test_accuracy": dense})
        for mode in modes:
            for ratio, cost in costs.items():
                less = (cost + spread * (seed - 1)) * (mode == "gradual")
                lines.append(head | {"stage": f"{mode} {ratio} tuned", "test_accuracy": dense + 0.01 - less})
    plain = pd.DataFrame(lines).assign(penalty="ℓ2", units=1)  # is not judged
    return pd.concat([pd.DataFrame(lines), plain.assign(test_accuracy=plain["test_accuracy"] - 0.5)])


@pytest.mark.parametrize(
    ("costs", "options", "verdict"),
    [
        ({10: 0.001, 20: 0.004, 50: 0.04}, {}, claims.REPRODUCED),
        ({10: 0.02, 20: 0.02, 50: 0.0}, {}, claims.REPRODUCED),  # the largest counts
        ({10: 0.001, 20: 0.03, 50: 0.04}, {}, claims.PARTLY),
        ({10: 0.02, 20: 0.03, 50: 0.04}, {}, claims.NOT),
        ({10: 0.01, 20: 0.03, 50: 0.04}, {"spread": 0.01}, claims.INCONCLUSIVE),
        ({5: 0.001, 10: 0.01}, {}, claims.INCONCLUSIVE),
        ({10: 0.001, 20: 0.004}, {"seeds": 2}, claims.NOT_JUDGED),
        ({10: 0.05, 20: 0.05}, {"seeds": 1}, claims.NOT_JUDGED),
        ({10: 0.001, 20: 0.004}, {"dense": 0.91}, claims.NOT_AS_STATED),
        ({10: 0.001, 20: 0.004}, {"scale": 0.5}, claims.NOT_AS_STATED),
        ({10: 0.001, 20: 0.004}, {"scale": 0.5, "seeds": 1}, claims.NOT_AS_STATED),
        ({10: 0.001, 20: 0.004}, {"modes": ("gradual",)}, claims.NOT_RUN),
        ({10: 0.001, 20: 0.004}, {"modes": ("longer",)}, claims.NOT_RUN),
    ],
)
def test_effective_at_equal_epochs(costs, options, verdict):
    found, evidence = p2.effective_at_equal_epochs(equal_epochs(costs, **options), network="vgg16", floor=0.92)
    assert found == verdict and evidence


@pytest.mark.parametrize("mode", ["one-shot", "gradual"])
@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.01, "reproduced"), (0.0, "not reproduced"), (-0.01, "not reproduced")]
)
def test_better_tuned(gain, verdict, mode):
    table = chains({12: 0.0, 100: 0.01}, gain=gain)
    assert p2.better_tuned(table[table["stage"].str.startswith(("dense", mode))], mode)[0] == verdict


def overfitted(gaps, tests):
    """Dense runs at two sizes of the training set: how much ℓ2 changes gap and test accuracy."""
    lines = []
    for examples, gap, test in zip((1000, 55000), gaps, tests, strict=True):
        for seed in range(5):
            for penalty, more in (("ℓ0", 0), ("ℓ0 + ℓ2", 1)):
                accuracy = 0.9 + more * test + 0.0001 * (seed % (2 + more))
                line = {"net": "n", "data": "d", "examples": examples, "chain": "main", "stage": "dense", "seed": seed}
                train = accuracy + 0.05 + more * gap + 0.0001 * (seed % 2)
                lines.append(line | {"penalty": penalty, "test_accuracy": accuracy, "train_accuracy": train})
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("gaps", "tests", "verdict"),
    [
        ((-0.01, -0.01), (0.01, 0.0), "reproduced"),
        ((-0.01, -0.01), (-0.01, 0.0), "partly"),
        ((-0.01, 0.01), (0.01, 0.01), "partly"),
        ((0.01, 0.01), (0.01, 0.01), "not reproduced"),
    ],
)
def test_less_overfitting(gaps, tests, verdict):
    assert p2.less_overfitting(overfitted(gaps, tests))[0] == verdict


def competitor(error, compression):
    line = {
        "net": "LeNet-300-100",
        "data": "MNIST",
        "stage": "compared",
        "chain": "competitor",
        "method": "sparse VD",
        "setting": 1.0,
        "sparsity": 1 - 1 / compression,
    }
    seeds = [{"seed": k, "test_accuracy": 1 - error} for k in range(5)]
    tried = {"seed": 0, "test_accuracy": 0.5, "setting": 2.0, "sparsity": 0.1}
    return pd.DataFrame([line | seed for seed in [*seeds, tried]])


@pytest.mark.parametrize(
    ("increase", "other", "verdict"),
    [
        ({12: -0.004, 30: -0.002, 56: 0.0, 68: 0.001}, (0.02, 60), "reproduced"),
        ({12: -0.004, 30: -0.002, 56: 0.0, 68: 0.001}, (0.01, 60), "partly"),
        ({12: 0.01, 30: 0.01, 56: 0.01, 68: 0.01}, (0.01, 60), "not reproduced"),
    ],
)
def test_compares_well(increase, other, verdict):
    found, evidence = p2.compares_well(pd.concat([chains(increase), competitor(*other)]))
    assert found == verdict
    assert "DNS 56×" in evidence and "sparse VD trained here 60×" in evidence and "LeNet-5" not in evidence


def test_without_the_method_itself_nothing_is_compared():
    other = competitor(0.02, 60)
    for judge in (p2.compares_well, p2.effective_when_small, p2.effective_when_deep, p2.better_tuned):
        assert judge(other)[0] == "not run"
    assert p2.effective_at_equal_epochs(other, network="vgg16")[0] == "not run"


def test_published_points_alone_are_no_verdict():
    verdict, evidence = p2.compares_well(chains({12: -0.004, 30: -0.002, 56: 0.0, 68: 0.001}))
    assert verdict == "not run" and "competitors trained here" in evidence and "DNS 56×" in evidence


def test_published_points_are_compared_at_no_smaller_compression():
    """At 23× ours is read at 30×, not at 12×."""
    ours = p2.by_ratio(chains({12: 0.0, 30: 0.05}), "gradual", "tuned")
    assert p2._error_at(ours, 23).mean() == pytest.approx(0.066, abs=0.001)
    assert p2._error_at(ours, 12).mean() == pytest.approx(0.016, abs=0.001)
    assert p2._error_at(ours, 300).mean() == pytest.approx(0.066, abs=0.001)
