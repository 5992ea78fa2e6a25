"""The rules: made-up tables in which the answer is known."""

import math

import pandas as pd
import pytest
from scipy import stats

from lib import claims


def runs_of(differences, *, penalty="GL"):
    """Paired runs whose partial accuracies exceed the full ones by the given differences."""
    lines = []
    for seed, difference in enumerate(differences):
        for extent, gain in (("full", 0.0), ("partial", difference)):
            score = 0.9 + 0.001 * seed + gain
            lines.append({"version": "ours", "penalty": penalty, "extent": extent, "seed": seed})
            lines[-1] |= {"train_accuracy": score, "test_accuracy": score}
    return pd.DataFrame(lines)


def test_paired_intervals_are_those_of_the_t_test():
    table = runs_of([0.01, 0.02, 0.03, 0.01])
    mean, low, high, n = claims.paired(table, "test_accuracy", by="extent", of="partial", against="full")
    interval = stats.ttest_1samp([0.01, 0.02, 0.03, 0.01], 0).confidence_interval()
    assert (mean, low, high, n) == pytest.approx((0.0175, *interval, 4))
    one = claims.paired(runs_of([0.01]), "test_accuracy", by="extent", of="partial", against="full")
    assert one[0] == pytest.approx(0.01) and math.isnan(one[1]) and one[3] == 1


@pytest.mark.parametrize(
    ("gl", "sgl", "verdict"),
    [
        ([0.010, 0.011, 0.012], [0.010, 0.011, 0.012], "reproduced"),
        ([0.010, 0.011, 0.012], [-0.01, 0.0, 0.01], "partly"),
        ([0.010, 0.011, 0.012], [-0.010, -0.011, -0.012], "not reproduced"),
        ([-0.01, 0.0, 0.01], [-0.01, 0.0, 0.01], "not reproduced"),
        ([0.01], [0.01], "not reproduced"),
    ],
)
def test_better_accuracy(gl, sgl, verdict):
    found, evidence = claims.better_partial(pd.concat([runs_of(gl), runs_of(sgl, penalty="SGL")]))
    assert found == verdict and "GL test" in evidence


@pytest.mark.parametrize(
    ("wins", "verdict"), [(4, "reproduced"), (3, "reproduced"), (1, "partly"), (0, "not reproduced")]
)
def test_faster_steps(wins, verdict):
    lines = [{"penalty": "none", "extent": "none", "form": "closed", "step_s": [1.0] * 3}]
    for k, (penalty, form) in enumerate((p, f) for p in ("GL", "SGL") for f in ("autograd", "closed")):
        lines.append({"penalty": penalty, "extent": "full", "form": form, "step_s": [1.0, 2.0, 1.0]})
        ratio = 0.9 if k < wins else 0.995
        lines.append({"penalty": penalty, "extent": "partial", "form": form, "step_s": [ratio, 2 * ratio, 5.0]})
    assert claims.faster_partial(pd.DataFrame(lines))[0] == verdict


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.0001, -0.0001, 0.0002, -0.0002], "reproduced"),
        ([0.002, 0.002, 0.0021, 0.0019], "not reproduced"),
        ([-0.01, 0.01], "not reproduced"),
        ([0.0], "not reproduced"),
    ],
)
def test_equivalence_of_precisions(differences, verdict):
    table = runs_of(differences).rename(columns={"extent": "precision"})
    table["precision"] = table["precision"].map({"full": "fp32", "partial": "bf16"})
    assert claims.same_precision(table)[0] == verdict


def test_without_records_a_claim_is_not_run():
    for claim in claims.CLAIMS.values():
        assert claim.verdict([]) == ("not run", "no records")
        assert claim.rule and claim.says and claim.experiment


# --- P2 ------------------------------------------------------------------------------------------------------------


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
    found, evidence = claims.sparse_in_training(penalised(shares, costs))
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
    nets = ("LeNet-300-100 on MNIST", "LeNet-5 on MNIST")
    assert claims.effective_when_small(chains({12: 0.0, 20: 0.004, 56: 0.02}, nets=nets))[0] == "reproduced"
    found, evidence = claims.effective_when_small(chains({12: 0.0, 20: 0.006}, nets=nets))
    assert found == "not reproduced" and "LeNet-5 on MNIST 12×" in evidence
    mixed = pd.concat([chains({20: 0.0}), chains({20: 0.1}, nets=nets[1:])])
    assert claims.effective_when_small(mixed)[0] == "partly"
    other = chains({20: 0.0}).assign(chain="controls")
    assert claims.effective_when_small(pd.concat([mixed, other]))[0] == "partly", "only the method itself counts"


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.01, "reproduced"), (0.0, "not reproduced"), (-0.01, "not reproduced")]
)
def test_better_tuned(gain, verdict):
    assert claims.better_tuned(chains({12: 0.0, 100: 0.01}, gain=gain))[0] == verdict


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
    assert claims.less_overfitting(overfitted(gaps, tests))[0] == verdict


def competitor(error, compression):
    line = {"stage": "compared", "method": "sparse VD", "sparsity": 1 - 1 / compression}
    seeds = [{"seed": k, "test_accuracy": 1 - error} for k in range(5)]
    return pd.DataFrame([line | seed for seed in seeds])


@pytest.mark.parametrize(
    ("increase", "other", "verdict"),
    [
        ({12: -0.004, 30: -0.002, 56: 0.0, 68: 0.001}, (0.02, 60), "reproduced"),
        ({12: -0.004, 30: -0.002, 56: 0.0, 68: 0.001}, (0.01, 60), "partly"),
        ({12: 0.01, 30: 0.01, 56: 0.01, 68: 0.01}, (0.01, 60), "not reproduced"),
    ],
)
def test_compares_well(increase, other, verdict):
    found, evidence = claims.compares_well(pd.concat([chains(increase), competitor(*other)]))
    assert found == verdict
    assert "DNS 56×" in evidence and "sparse VD trained here 60×" in evidence and "LeNet-5" not in evidence


def test_published_points_are_compared_at_no_smaller_compression():
    """At 23× ours is read at 30×, not at 12×."""
    ours = claims.by_ratio(chains({12: 0.0, 30: 0.05}), "gradual", "tuned")
    assert claims._error_at(ours, 23).mean() == pytest.approx(0.066, abs=0.001)
    assert claims._error_at(ours, 12).mean() == pytest.approx(0.016, abs=0.001)
    assert claims._error_at(ours, 300).mean() == pytest.approx(0.066, abs=0.001)
